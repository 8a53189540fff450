//! Promises: looking at, adapting and compiling a program ends with a program or an error, whatever the
//! bytes; and what was compiled can be described.
//!
//! Only in the stable runner: under libFuzzer the engine would have to be built once more, which takes longer
//! than all targets run.

use std::sync::OnceLock;

use vac_host::{Engine, inspect, load};

/// Longer inputs only take longer to compile.
const INPUT_MAX_BYTES: usize = 16 << 10;

/// Loads `data` as a program.
pub fn target(data: &[u8]) {
    let data = data.get(..INPUT_MAX_BYTES).unwrap_or(data);
    let Ok(loaded) = load::load(data, "data") else { return };
    let described = inspect::program(engine(), &loaded, None, engine().coder());
    let compiled = engine().compile(&loaded, None);
    let is_accepted = described.is_ok_and(|program| program.refused.is_none());
    assert_eq!(is_accepted, compiled.is_ok(), "what is said of a program is not what happens to it");
    if let Ok(compiled) = compiled {
        for export in inspect::exports(engine(), &compiled) {
            assert!(!export.signature().is_empty());
        }
    }
}

/// Joins the programs in `data`, each after its length: the first is run with the others.
pub fn link(data: &[u8]) {
    let mut rest = data.get(..INPUT_MAX_BYTES).unwrap_or(data);
    let mut parts = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (part, after) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
        parts.push(part);
        rest = after;
    }
    let loaded: Result<Vec<_>, _> = parts.iter().take(4).map(|part| load::load(part, "a part")).collect();
    let Ok(loaded) = loaded else { return };
    let Some((root, links)) = loaded.split_first() else { return };
    let Ok(joined) = vac_host::link::link(root, links) else { return };
    let again = load::load(&joined, "joined").expect("what was joined is a program");
    // Whether all of its imports are covered is another matter.
    let _ = engine().compile(&again, None);
}

/// Two that fit, and two that do not.
pub fn link_seeds() -> Vec<Vec<u8>> {
    let join = |parts: &[&str]| {
        let part = |text: &&str| {
            let bytes = wat::parse_str(text).expect("the seed is well formed");
            let len = u16::try_from(bytes.len()).expect("it is short").to_le_bytes();
            [&len[..], &bytes].concat()
        };
        parts.iter().map(part).collect::<Vec<_>>().concat()
    };
    vec![join(&[WANTS, HAS]), join(&[WANTS, COMPONENT]), join(&[COMMAND, HAS])]
}

const WANTS: &str = r#"(component
  (import "my:math/add@1.0.0" (instance $add (export "add" (func (param "a" u32) (param "b" u32) (result u32)))))
  (core func $lowered (canon lower (func $add "add")))
  (core module $m
    (import "" "add" (func $add (param i32 i32) (result i32)))
    (func (export "f") (param i32) (result i32) (call $add (local.get 0) (local.get 0))))
  (core instance $i (instantiate $m (with "" (instance (export "add" (func $lowered))))))
  (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#;

const HAS: &str = r#"(component
  (core module $m (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
  (core instance $i (instantiate $m))
  (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
  (instance $math (export "add" (func $add)))
  (export "my:math/add@1.0.0" (instance $math)))"#;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().expect("the engine starts"))
}

/// Programs of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    [COMMAND, REACTOR, COMPONENT].map(|text| wat::parse_str(text).expect("the seed is well formed")).to_vec()
}

const COMMAND: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "hi\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))"#;

const REACTOR: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "add") (param i64 f64) (result i64)
    (i64.add (local.get 0) (i64.trunc_sat_f64_s (local.get 1)))))"#;

const COMPONENT: &str = r#"(component
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (core func $draw (canon lower (func $random "get-random-u64")))
  (core module $m
    (import "" "draw" (func $draw (result i64)))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16)
    (func (export "f") (param i32 i32) (result i64) call $draw))
  (core instance $i (instantiate $m (with "" (instance (export "draw" (func $draw))))))
  (type $point (record (field "x" u8) (field "y" (option string))))
  (export $p "point" (type $point))
  (func (export "f") (param "text" string) (result u64)
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;

//! Promises about texts that an operator, a script or a downloaded file hands in: a text is read or refused
//! with words that a terminal does not obey; what was read is written as text that means the same; and a grant
//! never gives more than it says.

use std::sync::OnceLock;

use vac_engine::grants::Grant;
use vac_engine::manifest::Ask;
use vac_host::inspect::{self, Export};
use vac_host::{Engine, load, value};

/// Reads `data` as a grant, as the arguments of calls, as a CID and as a host.
pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        grant(line);
        words(line.parse::<vac_host::net::HostPattern>().map(|hosts| {
            let again: vac_host::net::HostPattern = hosts.to_string().parse().expect("what is shown is read");
            assert_eq!(again, hosts);
        }));
        words(line.parse::<vac_core::cid::Cid>().map(drop));
    }
    for export in exports() {
        words(value::parse_args(&text, &export.params).map(|values| {
            values.iter().for_each(|value| drop(value::show_results(std::slice::from_ref(value))));
        }));
    }
    words(value::split_call(&text).map(drop));
}

fn grant(line: &str) {
    let Some(grant) = words(Grant::parse(line, &|_| Some("value".into()))) else { return };
    let Some(ask) = words(Ask::parse(&grant.text(), "x", false)) else { return };
    if let Some(met) = grant.meet(&ask) {
        assert_eq!(met.text(), grant.text(), "a grant meets itself");
    }
}

/// Words that a terminal does not obey.
fn words<T, E: std::fmt::Display>(read: Result<T, E>) -> Option<T> {
    let shown = match read {
        Ok(value) => return Some(value),
        Err(error) => error.to_string(),
    };
    let is_obeyed = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!shown.contains(is_obeyed), "{shown:?}");
    None
}

/// Functions with parameters of every kind.
fn exports() -> &'static [Export] {
    static EXPORTS: OnceLock<Vec<Export>> = OnceLock::new();
    EXPORTS.get_or_init(|| {
        let engine = Engine::new().expect("the engine starts");
        let bytes = wat::parse_str(TYPES).expect("it is well formed");
        let loaded = load::load(&bytes, "types").expect("it is a component");
        inspect::exports(&engine, &engine.compile(&loaded, None).expect("it compiles")).to_vec()
    })
}

const TYPES: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "f") (param i32))
    (func (export "g") (param i32 i32 i32 i32)))
  (core instance $i (instantiate $m))
  (type $e0 (enum "red" "green"))
  (export $e "colour" (type $e0))
  (type $l0 (flags "a" "b"))
  (export $l "marks" (type $l0))
  (type $r0 (record (field "x" u8) (field "y" (option string)) (field "z" (list $e))))
  (export $r "point" (type $r0))
  (type $v0 (variant (case "one") (case "two" $r) (case "three" (result u64 (error string)))))
  (export $v "choice" (type $v0))
  (func (export "g") (param "text" string) (param "bytes" (list u8))
    (canon lift (core func $i "g") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "f") (param "a" $r) (param "b" $v) (param "c" $l) (param "d" (tuple f64 char s8 bool))
      (param "e" (list (tuple string s64))) (param "f" f32)
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;

/// What is typed, and nearly so.
pub fn seeds() -> Vec<Vec<u8>> {
    let grants = "dir:ro=data::in\nfile:rw=out.txt\nkv:ro=notes::mine\nhttp:GET,POST=*.example.com:80,443\n\
        tcp:10.0.0.0/8:*\nudp:[::1]:53\ntcp:listen=127.0.0.1:0\nnet:fe80::/10\nenv:LANG\nstdin\n\
        tree:ro=bafkr4iadlseq6dzmbyvaxlsr4s6vc5i6bzrw2rzynukzaxfnsjlmsb7spy::t";
    let calls = [
        "(\"text\\u{1b}\", [1, 2, 255])",
        "({x: 1, y: some(\"a\"), z: [red, green]}, two({x: 2, z: []}), {a, b}, (1.5, 'x', -3, true), [(\"k\", -9)], nan)",
        "({x: 1, y: none, z: []}, three(err(\"no\")), {}, (inf, '\\u{202e}', 0, false), [], -0.0)",
    ];
    calls.iter().map(|call| call.as_bytes().to_vec()).chain([grants.into()]).collect()
}

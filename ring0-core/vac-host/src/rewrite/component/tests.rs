//! Components of every shape that toolchains make, rewritten and looked at by the engine's own validator.

use super::*;
use crate::load;
use crate::rewrite::meter;

fn rewritten(text: &str) -> Vec<u8> {
    let bytes = wat::parse_str(text).unwrap();
    let rewritten = component(&bytes, &mut |module| meter::module(module)).unwrap();
    if let Err(e) =
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(&rewritten)
    {
        panic!("{e}");
    }
    rewritten
}

/// Instances of meters that a component makes, those inside of it once each.
fn meters(bytes: &[u8]) -> usize {
    let is_start = |payload: &Payload<'_>| match payload {
        Payload::ImportSection(imports) => {
            imports.clone().into_imports().flatten().any(|import| import.name == ATTACH)
        }
        _ => false,
    };
    Parser::new(0).parse_all(bytes).map(Result::unwrap).filter(is_start).count()
}

const CALLS: &str = r#"(core module $m
    (import "x" "f" (func $f (result i32)))
    (memory (export "mem") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8)
    (func (export "g") (result i32) (loop (br_if 0 (call $f))) i32.const 1))"#;

#[test]
fn a_component_gets_one_meter_however_many_modules_it_starts() {
    let text = format!(
        r#"(component
          (import "f" (func $f (result u32)))
          {CALLS}
          (core func $lowered (canon lower (func $f)))
          (core instance $x (export "f" (func $lowered)))
          (core instance $a (instantiate $m (with "x" (instance $x))))
          (core instance $b (instantiate $m (with "x" (instance $x))))
          (func (export "g") (result u32) (canon lift (core func $b "g"))))"#
    );
    assert_eq!(meters(&rewritten(&text)), 1);
}

#[test]
fn a_component_without_core_instances_gets_none() {
    let bytes = rewritten(r#"(component (import "a" (func $f)) (export "b" (func $f)))"#);
    assert_eq!(meters(&bytes), 0);
}

#[test]
fn components_inside_get_their_own_and_are_passed_the_host() {
    let text = format!(
        r#"(component
          (import "f" (func $f (result u32)))
          (type $outer (list string))
          (component $inner
            (import "f" (func $f (result u32)))
            (alias outer 1 $outer (type $aliased))
            (import "t" (type $t (eq $aliased)))
            {CALLS}
            (core func $lowered (canon lower (func $f)))
            (core instance $x (export "f" (func $lowered)))
            (core instance $a (instantiate $m (with "x" (instance $x))))
            (func (export "g") (result u32) (canon lift (core func $a "g"))))
          (instance $i (instantiate $inner (with "f" (func $f)) (with "t" (type $outer))))
          (alias export $i "g" (func $g))
          {CALLS}
          (core func $lowered (canon lower (func $g)))
          (core instance $x (export "f" (func $lowered)))
          (core instance $a (instantiate $m (with "x" (instance $x))))
          (func (export "g") (result u32) (canon lift (core func $a "g"))))"#
    );
    assert_eq!(meters(&rewritten(&text)), 2);
}

#[test]
fn modules_and_components_that_are_passed_around_have_types_with_a_meter() {
    let bytes = rewritten(
        r#"(component
          (core module $m (func (export "f")))
          (component $c (core module $n (func (export "f"))) (core instance (instantiate $n)))
          (component $taker
            (core type $modtype (module (type (func (param i32))) (type (func)) (export "f" (func (type 1)))))
            (import "m" (core module $m (type $modtype)))
            (import "c" (component $c))
            (instance (instantiate $c))
            (core instance $i (instantiate $m))
            (func (export "f") (canon lift (core func $i "f"))))
          (instance $t (instantiate $taker (with "m" (core module $m)) (with "c" (component $c))))
          (component $aliases
            (alias outer 1 $m (core module $m))
            (alias outer 1 $c (component $c))
            (core instance (instantiate $m))
            (instance (instantiate $c)))
          (instance (instantiate $aliases))
          (export "f" (func $t "f")))"#,
    );
    assert_eq!(meters(&bytes), 3);
}

#[test]
fn types_that_refer_outward_and_resources_keep_their_meaning() {
    rewritten(
        r#"(component
          (core type $ft (func (param i32)))
          (core module $d (func (export "drop") (param i32)))
          (core instance $d (instantiate $d))
          (type $r (resource (rep i32) (dtor (core func $d "drop"))))
          (core func $new (canon resource.new $r))
          (core func $rep (canon resource.rep $r))
          (core func $end (canon resource.drop $r))
          (core type $mt (module (alias outer 1 $ft (type $a)) (import "" "f" (func (type $a)))))
          (type $it (instance
            (type $l (list u8))
            (export "l" (type $l2 (eq $l)))
            (export "r" (type (sub resource)))
            (export "f" (func (param "x" $l2)))))
          (import "i" (instance $i (type $it)))
          (alias export $i "l" (type $l))
          (type $ct (component
            (import "i" (instance $i (type $it)))
            (alias export $i "l" (type $l))
            (import "f" (func $f (param "x" $l)))
            (export "l" (type (eq $l)))))
          (import "c" (component $c (type $ct)))
          (export "r2" (type $r)))"#,
    );
}

#[test]
fn functions_of_wasi_03_keep_their_types() {
    rewritten(
        r#"(component
          (core module $libc (memory (export "mem") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
          (core instance $libc (instantiate $libc))
          (alias core export $libc "mem" (core memory $mem))
          (alias core export $libc "realloc" (core func $realloc))
          (type $unused (list u8))
          (type $s (stream u8))
          (type $f (future string))
          (core func (canon stream.new $s))
          (core func (canon stream.read $s async (memory $mem) (realloc $realloc)))
          (core func (canon stream.write $s async (memory $mem)))
          (core func (canon stream.cancel-read $s))
          (core func (canon stream.cancel-write $s))
          (core func (canon stream.drop-readable $s))
          (core func (canon stream.drop-writable $s))
          (core func (canon future.new $f))
          (core func (canon future.read $f async (memory $mem) (realloc $realloc)))
          (core func (canon future.cancel-read $f))
          (core func (canon future.cancel-write $f))
          (core func (canon future.drop-readable $f))
          (core func (canon future.drop-writable $f))
          (core func (canon waitable-set.new))
          (core func (canon waitable-set.wait (memory $mem)))
          (core func (canon waitable-set.poll (memory $mem)))
          (core func (canon task.return (result u32)))
          (core func (canon subtask.drop))
          (core func (canon error-context.new (memory $mem)))
          (core module $m (func (export "f") (result i32) unreachable)
            (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
          (core instance $m (instantiate $m))
          (func (export "f") async (canon lift (core func $m "f") async (callback (core func $m "cb")))))"#,
    );
}

#[test]
fn a_program_that_names_a_meter_is_refused() {
    for text in [
        r#"(component (import "vac:meter/host" (instance (export "attach" (func)))))"#,
        r#"(component (import "vac:meter/other@1.0.0" (instance)))"#,
        r#"(component (component (import "vac:meter/host" (instance))))"#,
        r#"(component (type (component (import "vac:meter/host" (instance)))))"#,
        r#"(component (core module $m) (core instance $i (instantiate $m))
            (core instance (instantiate $m (with "vac:meter" (instance $i)))))"#,
    ] {
        let bytes = wat::parse_str(text).unwrap();
        let why = component(&bytes, &mut |module| Ok(module.to_vec())).unwrap_err().to_string();
        assert!(why.contains("leaves its meter to the host"), "{why}");
    }
}

#[test]
fn hostile_bytes_end_in_an_error() {
    let text = format!(
        r#"(component (component (core module) (component)) {CALLS} (type (component (import "a" (func)))))"#
    );
    let bytes = wat::parse_str(text).unwrap();
    for len in 0..bytes.len() {
        let _ = component(bytes.get(..len).unwrap(), &mut |module| Ok(module.to_vec()));
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            *changed.get_mut(at).unwrap() = value;
            let _ = component(&changed, &mut |module| Ok(module.to_vec()));
        }
    }
    let mut deep = Component::new();
    for _ in 0..200 {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&deep));
        deep = outer;
    }
    let why = component(&deep.finish(), &mut |module| Ok(module.to_vec())).unwrap_err().to_string();
    assert!(why.contains("inside of each other"), "{why}");
}

#[test]
fn every_kernel_of_this_repository_and_adapted_modules_are_still_valid() {
    let prebuilt = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ring1-kernels/prebuilt");
    let mut seen = 0;
    for entry in std::fs::read_dir(prebuilt).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let loaded = load::load(&bytes, "a kernel").unwrap();
        let rewritten = component(&loaded.component().unwrap(), &mut |module| meter::module(module)).unwrap();
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
            .validate_all(&rewritten)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        seen += 1;
    }
    assert!(seen > 5);
    let module = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
             (memory (export "memory") 1) (func (export "_start")))"#,
    )
    .unwrap();
    let loaded = load::load(&module, "a module").unwrap();
    let rewritten = component(&loaded.component().unwrap(), &mut |module| meter::module(module)).unwrap();
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
        .validate_all(&rewritten)
        .unwrap();
    assert_eq!(meters(&rewritten), 1);
}

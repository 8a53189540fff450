//! `--link`: imports outside of WASI are satisfied by another component's exports, checked by type.

use crate::calls::counters;
use crate::support::{Sandbox, text};

const USAGE: i32 = 2;
const DENIED: i32 = 3;

pub(crate) const OPS: &str = "my:math/ops@1.0.0";

/// A component that exports `name` with one function, `double: func(n: TYPE) -> TYPE`, times `factor`.
pub(crate) fn provider(name: &str, ty: &str, factor: u32) -> Vec<u8> {
    component(&format!(
        r#"(core module $m (func (export "f") (param i32) (result i32)
             (i32.mul (local.get 0) (i32.const {factor}))))
           (core instance $i (instantiate $m))
           (func $f (param "n" {ty}) (result {ty}) (canon lift (core func $i "f")))
           (instance $out (export "double" (func $f)))
           (export "{name}" (instance $out))"#
    ))
}

/// A component that imports `from` and gives one more than what comes from there: as `f`, and, if it is
/// not empty, in the interface `to`.
pub(crate) fn user(from: &str, to: &str) -> Vec<u8> {
    let out = match to {
        "" => String::new(),
        to => format!(r#"(instance $out (export "double" (func $f))) (export "{to}" (instance $out))"#),
    };
    component(&format!(
        r#"(import "{from}" (instance $in (export "double" (func (param "n" u32) (result u32)))))
           (core func $double (canon lower (func $in "double")))
           (core module $m
             (import "" "double" (func $double (param i32) (result i32)))
             (func (export "f") (param i32) (result i32) (i32.add (call $double (local.get 0)) (i32.const 1))))
           (core instance $i (instantiate $m (with "" (instance (export "double" (func $double))))))
           (func $f (param "n" u32) (result u32) (canon lift (core func $i "f")))
           (export "f" (func $f)) {out}"#
    ))
}

fn component(inner: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {inner})")).unwrap()
}

#[test]
fn another_components_exports_satisfy_imports() {
    let sandbox = Sandbox::new();
    sandbox.write("user.wasm", user(OPS, ""));
    sandbox.write("ops.wasm", provider(OPS, "u32", 2));
    sandbox.vac(&["call", "user.wasm", "f(20)"]).fails(DENIED, &[OPS]);
    assert!(text(&sandbox.json(&["inspect", "user.wasm"]), "refused").contains(OPS));
    let linked = sandbox.json(&["inspect", "user.wasm", "--link", "ops.wasm"]);
    assert_eq!(
        (&linked["refused"], linked["imports"].as_array().unwrap().len()),
        (&serde_json::Value::Null, 0)
    );
    let one = sandbox.json(&["call", "user.wasm", "f(20)", "--link", "ops.wasm"]);
    assert_eq!(text(&one, "result"), "41");
    // Another link is another run; the same code is not used for both.
    sandbox.write("triple.wasm", provider(OPS, "u32", 3));
    let other = sandbox.json(&["call", "user.wasm", "f(20)", "--link", "triple.wasm"]);
    assert_eq!(text(&other, "result"), "61");
    assert_ne!(text(&one, "head"), text(&other, "head"));
    let again = sandbox.json(&["call", "user.wasm", "f(20)", "--link", "ops.wasm"]);
    assert_eq!(text(&one, "head"), text(&again, "head"));
}

/// The linked programs are part of the record: a replay needs no files.
#[test]
fn a_linked_run_replays_without_its_files() {
    let sandbox = Sandbox::new();
    let program = sandbox.write("user.wasm", user(OPS, ""));
    let ops = sandbox.write("ops.wasm", provider(OPS, "u32", 2));
    let one = sandbox.json(&["call", "user.wasm", "f(4)", "--link", "ops.wasm"]);
    std::fs::remove_file(program).unwrap();
    std::fs::remove_file(&ops).unwrap();
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(text(&sandbox.json(&["replay", "last"]), "head"), text(&one, "head"));
    assert_eq!(sandbox.json(&["verify", "last"])["ok"], true);
}

#[test]
fn links_may_need_links_and_older_versions_fit() {
    let sandbox = Sandbox::new();
    sandbox.write("user.wasm", user("my:math/more@1.0.0", ""));
    sandbox.write("more.wasm", user(OPS, "my:math/more@1.2.0"));
    sandbox.write("ops.wasm", provider(OPS, "u32", 2));
    for order in [["more.wasm", "ops.wasm"], ["ops.wasm", "more.wasm"]] {
        let args = ["call", "user.wasm", "f(10)", "--link", order[0], "--link", order[1]];
        assert_eq!(text(&sandbox.json(&args), "result"), "22");
        sandbox.vac(&["replay", "last"]).ok();
    }
    sandbox.vac(&["call", "user.wasm", "f(10)", "--link", "more.wasm"]).fails(DENIED, &[OPS]);
}

#[test]
fn another_type_is_refused_with_both() {
    let sandbox = Sandbox::new();
    sandbox.write("user.wasm", user(OPS, ""));
    sandbox.write("ops.wasm", provider(OPS, "s32", 2));
    let words = ["`user.wasm` imports", OPS, "`ops.wasm`", "double", "u32", "s32"];
    sandbox.vac(&["call", "user.wasm", "f(20)", "--link", "ops.wasm"]).fails(USAGE, &words);
    sandbox.vac(&["inspect", "user.wasm", "--link", "ops.wasm"]).fails(USAGE, &words);
}

#[test]
fn what_cannot_be_linked_says_why() {
    let sandbox = Sandbox::new();
    sandbox.write("user.wasm", user(OPS, ""));
    sandbox.write("ops.wasm", provider(OPS, "u32", 2));
    sandbox.write("triple.wasm", provider(OPS, "u32", 3));
    sandbox.write("other.wasm", provider("my:other/ops@1.0.0", "u32", 2));
    sandbox.write("core.wasm", wat::parse_str(r#"(module (func (export "f")))"#).unwrap());
    sandbox.write("bad.wasm", &component("")[..6]);
    sandbox.write("a.wasm", user("my:x/b@1.0.0", "my:x/a@1.0.0"));
    sandbox.write("b.wasm", user("my:x/a@1.0.0", "my:x/b@1.0.0"));
    sandbox.write("s.star", "print(1)\n");
    let linked = |target: &str, links: &[&str]| {
        let mut args = vec!["call", target, "f(1)"];
        links.iter().for_each(|link| args.extend(["--link", link]));
        sandbox.vac(&args)
    };
    linked("user.wasm", &["ops.wasm", "triple.wasm"]).fails(USAGE, &["both", "ops.wasm", "triple.wasm", OPS]);
    linked("user.wasm", &["ops.wasm", "ops.wasm"]).fails(USAGE, &["both"]);
    let unused = linked("user.wasm", &["other.wasm"]).fails(USAGE, &["`other.wasm` exports nothing"]);
    assert!(unused.stderr.contains(OPS), "{}", unused.stderr);
    linked("user.wasm", &["core.wasm"]).fails(USAGE, &["core module"]);
    linked("core.wasm", &["ops.wasm"]).fails(USAGE, &["core module"]);
    linked("a.wasm", &["b.wasm", "a.wasm"]).fails(USAGE, &["circle", "`b.wasm`", "`a.wasm`"]);
    linked("user.wasm", &["missing.wasm"]).fails(USAGE, &["no file `missing.wasm`"]);
    assert_ne!(linked("user.wasm", &["bad.wasm"]).code(), 0);
    sandbox.vac(&["run", "s.star", "--link", "ops.wasm"]).fails(USAGE, &["linked to a script"]);
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().is_empty(), "nothing was started");
}

/// A linked component cannot stand in for the wall: what it exports as WASI is not looked at.
#[test]
fn interfaces_of_the_wall_are_never_linked() {
    let sandbox = Sandbox::new();
    sandbox.write("fake.wasm", provider("wasi:random/random@0.2.0", "u32", 2));
    sandbox.write("user.wasm", user("wasi:random/random@0.2.0", ""));
    let ran = sandbox.vac(&["call", "user.wasm", "f(1)", "--link", "fake.wasm"]);
    ran.fails(USAGE, &["`fake.wasm` exports nothing"]);
}

/// What a linked component asks of the host is recorded and refused like the program's own.
#[test]
fn a_linked_component_has_the_same_wall() {
    let sandbox = Sandbox::new();
    let clock = component(
        r#"(import "wasi:random/insecure-seed@0.2.0" (instance $in
             (export "insecure-seed" (func (result (tuple u64 u64))))))
           (core module $memory (memory (export "memory") 1))
           (core instance $mem (instantiate $memory))
           (core func $seed (canon lower (func $in "insecure-seed") (memory (core memory $mem "memory"))))
           (core module $m
             (import "" "seed" (func $seed (param i32)))
             (import "mem" "memory" (memory 1))
             (func (export "f") (param i32) (result i32)
               (call $seed (i32.const 16)) (i32.and (i32.load (i32.const 16)) (i32.const 0xffff))))
           (core instance $i (instantiate $m
             (with "" (instance (export "seed" (func $seed)))) (with "mem" (instance $mem))))
           (func $f (param "n" u32) (result u32) (canon lift (core func $i "f")))
           (instance $out (export "double" (func $f)))
           (export "my:math/ops@1.0.0" (instance $out))"#,
    );
    sandbox.write("user.wasm", user(OPS, ""));
    sandbox.write("seed.wasm", clock);
    let args = ["call", "user.wasm", "f(1)", "--link", "seed.wasm"];
    let one = sandbox.json(&args);
    assert_eq!(one["events"], 2, "the seed is in the record");
    assert_ne!(sandbox.json(&[&args[..], &["--seed", "9"]].concat())["result"], one["result"]);
    sandbox.vac(&["replay", "last"]).ok();
}

/// Resources of a linked component pass through the program that imports them.
#[test]
fn resources_of_a_link_are_counted_as_its_own() {
    let sandbox = Sandbox::new();
    sandbox.write("counters.wasm", counters());
    sandbox.write("user.wasm", user(OPS, ""));
    let ran = sandbox.vac(&["call", "counters.wasm", "c = counter(1)", "--link", "user.wasm"]);
    let ran = ran.fails(USAGE, &["`user.wasm` exports nothing"]);
    assert!(ran.stderr.contains(OPS), "{}", ran.stderr);
}

/// Compiling a large one took half a minute, before it was refused.
#[test]
fn what_needs_another_component_is_refused_before_it_is_compiled() {
    let sandbox = Sandbox::cold();
    sandbox.write("user.wasm", user(OPS, ""));
    for args in [["call", "user.wasm", "f(1)"].as_slice(), &["run", "user.wasm"]] {
        sandbox.vac(args).fails(DENIED, &["imports `my:math/ops@1.0.0`, which this host does not provide"]);
    }
    assert!(sandbox.home_files("code").is_empty());
    let shown = sandbox.json(&["inspect", "user.wasm"]);
    assert!(text(&shown, "refused").contains("my:math/ops"), "{shown}");
}

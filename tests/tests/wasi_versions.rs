//! Components of any WASI 0.2.x link: a version that this host does not name fits one that it has.

use crate::support::{Sandbox, text};

const DENIED: i32 = 3;

/// A component that reads the clock and a random number of `version`.
fn component(version: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:clocks/monotonic-clock@{version}" (instance $clock (export "now" (func (result u64)))))
            (import "wasi:random/random@{version}" (instance $random (export "get-random-u64" (func (result u64)))))
            (core func $now (canon lower (func $clock "now")))
            (core func $draw (canon lower (func $random "get-random-u64")))
            (core module $m
              (import "" "now" (func $now (result i64)))
              (import "" "draw" (func $draw (result i64)))
              (func (export "f") (result i64) (drop (call $now)) (call $draw)))
            (core instance $i (instantiate $m
              (with "" (instance (export "now" (func $now)) (export "draw" (func $draw))))))
            (func $f (result u64) (canon lift (core func $i "f")))
            (export "f" (func $f)))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn every_patch_version_of_wasi_0_2_links() {
    let sandbox = Sandbox::new();
    let mut results = Vec::new();
    for version in ["0.2.0", "0.2.1", "0.2.3", "0.2.6", "0.2.9", "0.2.12", "0.2.40"] {
        sandbox.write("program.wasm", component(version));
        let called = sandbox.json(&["call", "program.wasm", "f()"]);
        assert_eq!(called["events"], 3, "{version}: {called}");
        results.push(text(&called, "result").to_owned());
        sandbox.vac(&["replay", "last"]).ok();
    }
    results.dedup();
    assert_eq!(results.len(), 1, "every version gives the same: {results:?}");
}

#[test]
fn another_minor_version_is_refused_by_name() {
    let sandbox = Sandbox::new();
    for version in ["0.1.0", "0.4.0", "1.0.0"] {
        sandbox.write("program.wasm", component(version));
        sandbox.vac(&["call", "program.wasm", "f()"]).fails(DENIED, &["wasi:", version]);
    }
}

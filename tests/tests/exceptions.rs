//! Programs that throw: what a C++ compiler of today makes of `try` and `throw`.

use crate::support::{Sandbox, number, text};

/// A command that runs `body`, with a tag and the status to exit with.
fn thrower(body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (tag $number (param i32))
  (memory (export "memory") 1)
  (table $kept 0 exnref)
  (func (export "_start") (local $i i32) {body}))"#
    ))
    .unwrap()
}

const THROW_AND_CATCH: &str = "
    (block $caught (result i32)
      (try_table (catch $number $caught) (throw $number (i32.const 7)))
      (unreachable))
    (call $exit)";

#[test]
fn what_is_thrown_is_caught_and_replays() {
    let sandbox = Sandbox::new();
    sandbox.write("throw.wasm", thrower(THROW_AND_CATCH));
    let ran = sandbox.vac(&["--json", "run", "throw.wasm"]);
    assert_eq!(ran.code(), 7, "{ran:?}");
    let again = sandbox.vac(&["--json", "run", "throw.wasm"]);
    assert_eq!(text(&ran.json(), "head"), text(&again.json(), "head"));
    assert_eq!(number(&ran.json(), "ticks"), number(&again.json(), "ticks"));
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn what_nobody_catches_is_the_guests_fault() {
    let sandbox = Sandbox::new();
    sandbox.write("throw.wasm", thrower("(throw $number (i32.const 7))"));
    sandbox.vac(&["run", "throw.wasm"]).fails(4, &["an exception that nothing caught"]);
}

/// A million exceptions, each garbage at once: they must not add up.
#[test]
fn exceptions_are_collected() {
    let sandbox = Sandbox::new();
    let body = "
    (loop $again
      (block $caught (result i32)
        (try_table (catch $number $caught) (throw $number (local.get $i)))
        (unreachable))
      (drop)
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))";
    sandbox.write("throw.wasm", thrower(body));
    sandbox.vac(&["run", "--memory", "16MiB", "throw.wasm"]).ok();
}

/// Every exception is kept: memory or the table ends, and the host goes on.
#[test]
fn exceptions_that_are_kept_end_at_a_quota() {
    let sandbox = Sandbox::new();
    let body = "
    (loop $again
      (block $caught (result exnref)
        (try_table (catch_all_ref $caught) (throw $number (local.get $i)))
        (unreachable))
      (drop (table.grow $kept (i32.const 1)))
      (br $again))";
    sandbox.write("throw.wasm", thrower(body));
    sandbox.vac(&["run", "--memory", "16MiB", "throw.wasm"]).fails(4, &["more exceptions"]);
    sandbox.vac(&["replay", "last"]).ok();
}

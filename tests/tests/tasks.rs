//! Tasks that wait in the midst of their calls: each goes on as deep as it was.

use crate::support::{Ran, Sandbox};

const FAULT: i32 = 4;

/// `start(n, m)` begins a task that makes `n` calls one in another, waits in the last for what `finish` sends, makes
/// `m` calls more there and `m` again where it began. `result` is how many that were, when it is over.
fn waiting() -> String {
    let text = r#"(component
        (component $deep
          (core module $libc (memory (export "memory") 1))
          (core instance $libc (instantiate $libc))
          (type $byte (future u8))
          (core func $read (canon future.read $byte async (memory (core memory $libc "memory"))))
          (core func $set (canon waitable-set.new))
          (core func $join (canon waitable.join))
          (core func $wait (canon waitable-set.wait (memory (core memory $libc "memory"))))
          (core module $m
            (import "" "read" (func $read (param i32 i32) (result i32)))
            (import "" "set" (func $set (result i32)))
            (import "" "join" (func $join (param i32 i32)))
            (import "" "wait" (func $wait (param i32 i32) (result i32)))
            (func $fall (param $m i32) (result i32)
              (if (result i32) (local.get $m)
                (then (i32.add (i32.const 1) (call $fall (i32.sub (local.get $m) (i32.const 1)))))
                (else (i32.const 0))))
            (func $dive (param $from i32) (param $n i32) (param $m i32) (result i32)
              (if (result i32) (local.get $n)
                (then
                  (i32.add (i32.const 1)
                    (call $dive (local.get $from) (i32.sub (local.get $n) (i32.const 1)) (local.get $m))))
                (else
                  (if (i32.ne (call $read (local.get $from) (i32.const 0)) (i32.const -1)) (then unreachable))
                  (local.set $n (call $set))
                  (call $join (local.get $from) (local.get $n))
                  (drop (call $wait (local.get $n) (i32.const 8)))
                  (call $fall (local.get $m)))))
            (func (export "work") (param $from i32) (param $n i32) (param $m i32) (result i32)
              (i32.add
                (call $dive (local.get $from) (local.get $n) (local.get $m))
                (call $fall (local.get $m)))))
          (core instance $i (instantiate $m (with "" (instance
            (export "read" (func $read)) (export "set" (func $set)) (export "join" (func $join))
            (export "wait" (func $wait))))))
          (func (export "work") async (param "from" $byte) (param "n" u32) (param "m" u32) (result u32)
            (canon lift (core func $i "work"))))
        (component $driver
          (type $byte (future u8))
          (import "work" (func $work async (param "from" $byte) (param "n" u32) (param "m" u32) (result u32)))
          (core module $libc (memory (export "memory") 1))
          (core instance $libc (instantiate $libc))
          (core func $work (canon lower (func $work) async (memory (core memory $libc "memory"))))
          (core func $new (canon future.new $byte))
          (core func $write (canon future.write $byte async (memory (core memory $libc "memory"))))
          (core func $return (canon task.return))
          (core func $set (canon waitable-set.new))
          (core func $join (canon waitable.join))
          (core func $drop (canon subtask.drop))
          (core module $m
            (import "libc" "memory" (memory 1))
            (import "" "work" (func $work (param i32 i32 i32 i32) (result i32)))
            (import "" "new" (func $new (result i64)))
            (import "" "write" (func $write (param i32 i32) (result i32)))
            (import "" "return" (func $return))
            (import "" "set" (func $set (result i32)))
            (import "" "join" (func $join (param i32 i32)))
            (import "" "drop" (func $drop (param i32)))
            (global $end (mut i32) (i32.const 0))
            (global $all (mut i32) (i32.const 0))
            (func (export "start") (param i32 i32) (result i32) (local $ends i64) (local $task i32)
              (local.set $ends (call $new))
              (global.set $end (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
              (local.set $task
                (call $work (i32.wrap_i64 (local.get $ends)) (local.get 0) (local.get 1) (i32.const 16)))
              (call $return)
              (global.set $all (call $set))
              (call $join (i32.shr_u (local.get $task) (i32.const 4)) (global.get $all))
              (i32.or (i32.const 2) (i32.shl (global.get $all) (i32.const 4))))
            (func (export "go-on") (param $event i32) (param $task i32) (param $state i32) (result i32)
              (if (i32.ne (local.get $state) (i32.const 2))
                (then (return (i32.or (i32.const 2) (i32.shl (global.get $all) (i32.const 4))))))
              (call $join (local.get $task) (i32.const 0))
              (call $drop (local.get $task))
              (i32.const 0))
            (func (export "finish") (if (call $write (global.get $end) (i32.const 0)) (then unreachable)))
            (func (export "result") (result i32) (i32.load (i32.const 16))))
          (core instance $i (instantiate $m
            (with "libc" (instance $libc))
            (with "" (instance
              (export "work" (func $work)) (export "new" (func $new)) (export "write" (func $write))
              (export "return" (func $return)) (export "set" (func $set)) (export "join" (func $join))
              (export "drop" (func $drop))))))
          (func (export "start") async (param "n" u32) (param "m" u32)
            (canon lift (core func $i "start") async (callback (core func $i "go-on"))))
          (func (export "finish") (canon lift (core func $i "finish")))
          (func (export "result") (result u32) (canon lift (core func $i "result"))))
        (instance $deep (instantiate $deep))
        (instance $driver (instantiate $driver (with "work" (func $deep "work"))))
        (export "start" (func $driver "start"))
        (export "finish" (func $driver "finish"))
        (export "result" (func $driver "result")))"#;
    text.to_owned()
}

/// Calls that take about 8,000 units together are as deep as is allowed.
fn calls(sandbox: &Sandbox, start: &str) -> Ran {
    let typed = ["call", "waiting.wasm", start, "finish()", "result()", "--limit", "depth=64KiB"];
    sandbox.vac(&typed)
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("waiting.wasm", wat::parse_str(waiting()).unwrap());
    sandbox
}

#[test]
fn a_task_that_waited_for_the_next_call_is_not_too_deep() {
    // Each call of the host set the depth to nothing, and what a waiting task gave back later made it less than that: its
    // next call was deeper than any limit.
    let sandbox = sandbox();
    let ran = calls(&sandbox, "start(100, 100)").ok();
    assert!(ran.out().ends_with("300\n"), "{}", ran.out());
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn a_task_that_waited_has_the_depth_of_before() {
    has_the_depth_of_before(&sandbox());
}

#[test]
fn so_has_one_whose_wait_was_a_tail_call() {
    let wait = "(call $wait (local.get $n) (i32.const 8))";
    let pause = "(func $pause (param i32) (result i32) (return_call $wait (local.get 0) (i32.const 8)))";
    let text = waiting().replacen(wait, "(call $pause (local.get $n))", 1);
    let text = text.replacen("(func $fall ", &format!("{pause} (func $fall "), 1);
    let sandbox = Sandbox::new();
    sandbox.write("waiting.wasm", wat::parse_str(text).unwrap());
    has_the_depth_of_before(&sandbox);
}

fn has_the_depth_of_before(sandbox: &Sandbox) {
    calls(sandbox, "start(500, 100)").ok();
    // Neither is too deep by itself.
    calls(sandbox, "start(100, 500)").ok();
    calls(sandbox, "start(800, 1)").ok();
    let ran = calls(sandbox, "start(800, 800)");
    assert_eq!(ran.code(), FAULT, "{}", ran.stderr);
    assert!(ran.stderr.contains("too deep"), "{}", ran.stderr);
    sandbox.vac(&["replay", "last"]).ok();
}

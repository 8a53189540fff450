//! Programs that take all memory as their own, as those of AssemblyScript do.

use crate::support::{Ran, Sandbox, number, text};

const FAULT: i32 = 4;

/// A program that asks for its arguments, then fills all memory, grows it without a look at where, fills that too, and
/// at the end does what `last` says. `$start` is its first own byte, `$end` the end of its memory.
fn greedy(last: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 48) "\n")
          (func $end (result i32) (i32.shl (memory.size) (i32.const 16)))
          (func $take (param $from i32)
            (memory.fill (local.get $from) (i32.const 0xaa) (i32.sub (call $end) (local.get $from))))
          (func $check (param $is i32) (if (i32.eqz (local.get $is)) (then unreachable)))
          (func $print (param $at i32) (param $bytes i32)
            (i32.store (i32.const 16) (local.get $at))
            (i32.store (i32.const 20) (local.get $bytes))
            (call $check (i32.eqz (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
            (call $check (i32.eq (i32.load (i32.const 16)) (local.get $at))))
          (func (export "_start") (local $at i32)
            (call $check (i32.eqz (call $sizes (i32.const 0) (i32.const 4))))
            (call $check (i32.eq (memory.size) (i32.const 1)))
            (call $take (i32.const 1024))
            (call $check (i32.eqz (call $args (i32.const 64) (i32.const 256))))
            (local.set $at (call $end))
            (if (i32.lt_s (memory.grow (i32.const 2)) (i32.const 0)) (then unreachable))
            (call $check (i32.eq (memory.size) (i32.const 3)))
            (call $take (local.get $at))
            (memory.copy (i32.const 1024) (call $end) (i32.const 0))
            (call $print (i32.load (i32.const 68)) (i32.const 5))
            (call $print (i32.const 48) (i32.const 1))
            (local.set $at (i32.const 1024))
            (loop $next
              (call $check (i32.eq (i32.load8_u (local.get $at)) (i32.const 0xaa)))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $at) (call $end))))
            {last}))"#
    );
    wat::parse_str(text).unwrap()
}

fn run(sandbox: &Sandbox, last: &str) -> Ran {
    sandbox.write("greedy.wasm", greedy(last));
    sandbox.vac(&["run", "greedy.wasm", "--", "hello", "there"])
}

#[test]
fn a_program_that_takes_all_memory_keeps_it_and_its_world() {
    // The adapter had put what it knows into pages behind the program's, and the program took them for its own: the
    // adapter stopped it, or went on with whatever the program had written there.
    let heads = [(); 2].map(|()| {
        let sandbox = Sandbox::new();
        let ran = run(&sandbox, "").ok();
        assert_eq!(ran.out(), "hello\n");
        sandbox.vac(&["replay", "last"]).ok();
        text(&sandbox.json(&["verify", "last"])["runs"][0], "head").to_owned()
    });
    assert_eq!(heads[0], heads[1]);
}

#[test]
fn its_memory_ends_where_it_says() {
    let sandbox = Sandbox::new();
    run(&sandbox, "(drop (i32.load8_u (i32.sub (call $end) (i32.const 1))))").ok();
    for beyond in [
        "(drop (i32.load8_u (call $end)))",
        "(drop (i32.load8_u offset=65536 (i32.const -1)))",
        "(memory.fill (call $end) (i32.const 0) (i32.const 1))",
        "(memory.fill (i32.const -8) (i32.const 0) (i32.const 1))",
        "(memory.copy (i32.const 0) (i32.const -70000) (i32.const 1))",
    ] {
        assert_eq!(run(&sandbox, beyond).code(), FAULT, "{beyond}");
    }
    // What cannot grow says so.
    run(&sandbox, "(call $check (i32.eq (memory.grow (i32.const 65536)) (i32.const -1)))").ok();
}

#[test]
fn pointers_of_its_calls_end_where_its_memory_does() {
    // Those near the end of all memory had come round, into the adapter's pages.
    let sandbox = Sandbox::new();
    for beyond in [
        "(drop (call $sizes (i32.const -131072) (i32.const 4)))",
        "(drop (call $args (i32.const 64) (i32.const -131072)))",
        "(drop (call $write (i32.const 1) (i32.const -131072) (i32.const 1) (i32.const 24)))",
        "(drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const -131072)))",
        "(call $print (i32.const -131072) (i32.const 8))",
    ] {
        assert_eq!(run(&sandbox, beyond).code(), FAULT, "{beyond}");
    }
}

#[test]
fn a_list_of_buffers_is_written_as_the_program_has_it() {
    // The pointers in it had been changed during the call, in the program's own memory.
    let sandbox = Sandbox::new();
    let own = "(i32.store (i32.const 16) (i32.const 7)) (i32.store (i32.const 20) (i32.const 0))
      (i32.store (i32.const 24) (i32.const 16)) (i32.store (i32.const 28) (i32.const 16))
      (call $check (i32.eqz (call $write (i32.const 1) (i32.const 16) (i32.const 2) (i32.const 32))))
      (call $check (i32.eq (i32.load (i32.const 24)) (i32.const 16)))
      (call $check (i32.eq (i32.load (i32.const 32)) (i32.const 16)))";
    let ran = run(&sandbox, own).ok();
    assert_eq!(ran.out(), "hello\n\x07\0\0\0\0\0\0\0\x10\0\0\0\x10\0\0\0");
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn a_write_of_nothing_looks_at_the_descriptor() {
    // Without a single buffer it succeeded, whatever was written to.
    let sandbox = Sandbox::new();
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
      (memory (export "memory") 1)
      (func $is (param $fd i32) (param $errno i32)
        (i32.store (i32.const 24) (i32.const 7))
        (if (i32.ne (call $write (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 24)) (local.get $errno))
          (then unreachable)))
      (func (export "_start")
        (call $is (i32.const 1) (i32.const 0))
        (if (i32.load (i32.const 24)) (then unreachable))
        (call $is (i32.const -31337) (i32.const 8))
        (drop (call $close (i32.const 1)))
        (call $is (i32.const 1) (i32.const 8))))"#;
    sandbox.write("nothing.wasm", wat::parse_str(text).unwrap());
    sandbox.vac(&["run", "nothing.wasm"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
}

/// A program that writes `hello`, grows memory as `grow` says, fills all from its second page on and writes again.
fn grown(memory: &str, grow: &str, more: &str) -> Ran {
    let sandbox = Sandbox::new();
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") {memory})
          (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
          (func $hello (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)) (then unreachable)))
          {more}
          (func (export "_start") (call $hello) {grow} (call $hello)))"#
    );
    sandbox.write("grown.wasm", wat::parse_str(text).unwrap());
    let ran = sandbox.vac(&["run", "grown.wasm"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
    ran
}

const FILL: &str = "(memory.fill (i32.const 65536) (i32.const 0xaa) (i32.const 262144))";

#[test]
fn a_program_that_stores_where_memory_grew_keeps_it() {
    // Go: the caller of what stores it only looks whether it is negative.
    let grow = format!("(i32.store (i32.const 128) (memory.grow (i32.const 4))) {FILL}");
    assert_eq!(grown("1", &grow, "").out(), "hello\nhello\n");
}

#[test]
fn a_program_with_an_allocator_for_others_keeps_its_memory() {
    // TinyGo.
    let grow = format!(
        "(drop (memory.size)) (if (i32.eq (memory.grow (i32.const 4)) (i32.const -1)) (then unreachable)) {FILL}"
    );
    let more = r#"(func (export "malloc") (param i32) (result i32) (i32.const 1024))"#;
    assert_eq!(grown("1", &grow, more).out(), "hello\nhello\n");
}

#[test]
fn a_program_whose_memory_cannot_grow_runs() {
    for memory in ["1 1", "1 2", "1 3"] {
        assert_eq!(grown(memory, "", "").out(), "hello\nhello\n", "{memory}");
    }
    // As emscripten's, it shows more than `_start`.
    let more = r#"(func (export "stack_get") (result i32) (i32.const 8))"#;
    assert_eq!(grown("1 1", "", more).out(), "hello\nhello\n");
}

/// Story: what was read was 192 KiB below what the program has there, and what was written the adapter's own.
#[test]
fn its_memory_is_read_and_written_where_it_says() {
    let sandbox = Sandbox::new();
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2 2)
      (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
      (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#;
    sandbox.write("full.wasm", wat::parse_str(text).unwrap());
    assert_eq!(sandbox.vac(&["run", "full.wasm"]).ok().out(), "hello\n");
    let calls = [
        "call",
        "full.wasm",
        "memory.read(8, 5)",
        "memory.write(131067, \"world\")",
        "memory.read(131067, 5)",
    ];
    let shown = sandbox.json(&calls);
    let of = |n: usize| shown["calls"][n]["result"].clone();
    let bytes = |text: &[u8]| format!("[{}]", text.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
    assert_eq!((of(0), of(2)), (bytes(b"hello").into(), bytes(b"world").into()), "{shown}");
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["call", "full.wasm", "memory.read(131068, 5)"]).fails(4, &["131072 bytes"]);
}

/// What allocators of C had until 2023: `sbrk` gives new memory, and all that there is when it is first asked is the heap. It
/// fills all of it, after the adapter was called, and both go on.
const FINDER: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $stack (mut i32) (i32.const 65536))
  (data (i32.const 65536) "whole\n")
  (func $check (param $is i32) (if (i32.eqz (local.get $is)) (then unreachable)))
  (func $sbrk (param $more i32) (result i32)
    (if (i32.eqz (local.get $more)) (then (return (i32.shl (memory.size) (i32.const 16)))))
    (i32.shl (memory.grow (i32.shr_u (local.get $more) (i32.const 16))) (i32.const 16)))
  (func $fill (param $from i32) (param $bytes i32)
    (memory.fill (local.get $from) (i32.const 0xee) (local.get $bytes)))
  (func $work (export "work") (result i32) (local $at i32)
    (call $check (i32.eqz (call $random (i32.const 65600) (i32.const 8))))
    (call $fill (i32.const 70000) (i32.sub (call $sbrk (i32.const 0)) (i32.const 70000)))
    (call $check (i32.eqz (call $sizes (i32.const 65600) (i32.const 65604))))
    ;; What it lets grow is its own, and only that.
    (local.set $at (call $sbrk (i32.const 131072)))
    (call $check (i32.ge_u (local.get $at) (i32.const 131072)))
    (call $fill (local.get $at) (i32.const 131072))
    (call $check (i32.eq (call $sbrk (i32.const 0)) (i32.add (local.get $at) (i32.const 131072))))
    (call $check (i32.eq (memory.grow (i32.const 0)) (memory.size)))
    (call $check (i32.eq (memory.grow (i32.const 65536)) (i32.const -1)))
    (i32.store (i32.const 65600) (i32.const 65536))
    (i32.store (i32.const 65604) (i32.const 6))
    (call $check (i32.eqz (call $write (i32.const 1) (i32.const 65600) (i32.const 1) (i32.const 65608))))
    (i32.load8_u (i32.add (local.get $at) (i32.const 131071))))
  (func (export "START") START))"#;

/// The adapter's pages were part of its heap: it stopped when the program had written there, or went on with that.
#[test]
fn a_program_that_takes_what_memory_it_finds_finds_its_own() {
    let sandbox = Sandbox::new();
    for (start, call) in [("_start", "(drop (call $work))"), ("_initialize", "")] {
        let text = FINDER.replace("(export \"START\") START", &format!("(export \"{start}\") {call}"));
        sandbox.write("finder.wasm", wat::parse_str(text).unwrap());
        let command = if start == "_start" {
            ["run", "finder.wasm"].to_vec()
        } else {
            vec!["call", "finder.wasm", "work()"]
        };
        assert!(sandbox.vac(&command).ok().out().starts_with("whole\n"));
        sandbox.vac(&["replay", "last"]).ok();
    }
}

/// A program without imports that sees how much memory it has: what adapts commands had made it larger, or had no room.
#[test]
fn a_command_without_imports_has_its_memory_for_itself() {
    let sandbox = Sandbox::new();
    for (memory, grown) in [("1", 1), ("1 1", -1), ("1 2", 1), ("16 16", -1)] {
        for (start, export) in [("(export \"_start\")", ""), ("", "(start $start)")] {
            let pages = memory.split(' ').next().unwrap();
            let module = format!(
                r#"(module (memory (export "memory") {memory})
                  (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
                  (func $start {start}
                    (call $check (i32.eq (memory.size) (i32.const {pages})))
                    (call $check (i32.eq (memory.grow (i32.const 1)) (i32.const {grown}))))
                  (func (export "size") (result i32) (memory.size)) {export})"#
            );
            sandbox.write("alone.wasm", wat::parse_str(module).unwrap());
            if !start.is_empty() {
                let run = sandbox.json(&["run", "alone.wasm"]);
                assert_eq!((text(&run, "outcome"), number(&run, "events")), ("exit 0", 1), "{memory}");
                sandbox.vac(&["replay", "last"]).ok();
            }
            sandbox.vac(&["call", "alone.wasm", "size()"]).ok();
        }
    }
}

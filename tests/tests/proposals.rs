//! What compilers of today write beyond WebAssembly 2.0: what of it runs, and how the rest is refused.

use crate::support::{Sandbox, number, text};

const QUOTA: i32 = 4;
const DENIED: i32 = 3;
const CORRUPT: i32 = 6;

/// A command whose status is what `$answer` gives; the rest of the module is `around`.
fn command(around: &str, answer: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  {around}
  (func $answer (result i32) {answer})
  (func (export "_start") (call $exit (call $answer))))"#
    );
    wat::parse_str(text).unwrap()
}

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// Ends with 42, has one head, and replays.
fn answers(name: &str, program: Vec<u8>) {
    let sandbox = Sandbox::new();
    sandbox.write("p.wasm", program);
    let ran = sandbox.vac(&["--json", "run", "p.wasm"]);
    assert_eq!(ran.code(), 42, "{name}: {ran:?}");
    let again = sandbox.vac(&["--json", "run", "p.wasm"]);
    assert_eq!(text(&ran.json(), "head"), text(&again.json(), "head"), "{name}");
    assert_eq!(number(&ran.json(), "ticks"), number(&again.json(), "ticks"), "{name}");
    sandbox.vac(&["replay", "last"]).ok();
}

/// A circuit router from a registry did not compile: its compiler had written one atomic instruction, and
/// all of that proposal was off.
#[test]
fn atomic_instructions_of_one_thread_run() {
    let answer = "
    (i32.atomic.store (i32.const 8) (i32.const 40))
    (atomic.fence)
    (drop (i32.atomic.rmw.add (i32.const 8) (i32.const 2)))
    (i32.add (i32.atomic.load (i32.const 8)) (memory.atomic.notify (i32.const 8) (i32.const 1)))";
    answers("atomic", command(MEMORY, answer));
    // A wait would be for ever: nobody else is there to end it.
    let sandbox = Sandbox::new();
    let wait = "(memory.atomic.wait32 (i32.const 8) (i32.const 0) (i64.const -1))";
    sandbox.write("wait.wasm", command(MEMORY, wait));
    sandbox.vac(&["run", "wait.wasm"]).fails(QUOTA, &["trap"]);
}

#[test]
fn a_program_that_shares_its_memory_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("own.wasm", command(r#"(memory (export "memory") 1 2 shared)"#, "(i32.const 0)"));
    let refused = sandbox.vac(&["run", "own.wasm"]).fails(DENIED, &["shares its memory between threads"]);
    assert!(refused.stderr.contains("build with one thread"), "{}", refused.stderr);
    let shown = sandbox.json(&["inspect", "own.wasm"]);
    assert!(text(&shown, "refused").contains("shares its memory"), "{shown}");
    let inside = r#"(component (core module $m (memory 1 2 shared)) (core instance (instantiate $m)))"#;
    sandbox.write("inside.wasm", wat::parse_str(inside).unwrap());
    let ran = sandbox.vac(&["call", "inside.wasm", "f()"]);
    assert_ne!(ran.code(), 0, "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

const LIST: &str = r#"(memory (export "memory") 1)
  (type $node (struct (field $value i32) (field $next (ref null $node))))
  (global $kept (mut (ref null $node)) (ref.null $node))"#;

/// Languages whose objects the engine collects.
#[test]
fn objects_are_collected_and_end_at_a_quota() {
    // A list of 1 to 6 and its sum, twice; in between a million that nobody keeps.
    let sum = "(local $i i32) (local $list (ref null $node)) (local $sum i32)
    (loop $waste
      (drop (struct.new $node (local.get $i) (ref.null $node)))
      (br_if $waste (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))
    (local.set $i (i32.const 6))
    (loop $build
      (local.set $list (struct.new $node (local.get $i) (local.get $list)))
      (br_if $build (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (loop $walk
      (local.set $sum (i32.add (local.get $sum) (struct.get $node $value (local.get $list))))
      (br_if $walk (i32.eqz (ref.is_null (local.tee $list (struct.get $node $next (local.get $list)))))))
    (i32.mul (local.get $sum) (i32.const 2))";
    answers("collected", command(LIST, sum));
    let keep = "
    (loop $again
      (global.set $kept (struct.new $node (i32.const 1) (global.get $kept)))
      (br $again))
    (unreachable)";
    let sandbox = Sandbox::new();
    sandbox.write("keep.wasm", command(LIST, keep));
    let full = sandbox.vac(&["run", "--memory", "16MiB", "keep.wasm"]).fails(QUOTA, &["collected objects"]);
    assert!(full.stderr.contains("--memory"), "{}", full.stderr);
    sandbox.vac(&["replay", "last"]).ok();
    let large = "(array.len (array.new_default $bytes (i32.const 2000000000)))";
    let types = r#"(memory (export "memory") 1) (type $bytes (array (mut i8)))"#;
    sandbox.write("large.wasm", command(types, large));
    let ran = sandbox.vac(&["run", "--memory", "16MiB", "large.wasm"]);
    assert_eq!(ran.code(), QUOTA, "{ran:?}");
}

#[test]
fn what_else_compilers_write_runs() {
    let many = r#"(memory (export "memory") 1) (memory $other 1)"#;
    answers(
        "several memories",
        command(
            many,
            "
    (i32.store $other (i32.const 0) (i32.const 42))
    (memory.copy 0 $other (i32.const 4) (i32.const 0) (i32.const 4))
    (i32.load (i32.const 4))",
        ),
    );
    let wide = r#"(memory (export "memory") 1) (memory $wide i64 1)"#;
    answers(
        "64 bits",
        command(
            wide,
            "
    (i32.store $wide (i64.const 65000) (i32.const 42))
    (i32.load $wide (i64.const 65000))",
        ),
    );
    let tail = r#"(memory (export "memory") 1)
    (func $down (param i32 i32) (result i32)
      (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
      (return_call $down (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))"#;
    // Deeper than any stack.
    answers("tail calls", command(tail, "(call $down (i32.const 10000000) (i32.const 42))"));
    answers(
        "vectors",
        command(
            MEMORY,
            "
    (i32x4.extract_lane 2 (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 42.9))))",
        ),
    );
    let typed = r#"(memory (export "memory") 1) (type $f (func (result i32)))
    (func $one (type $f) (i32.const 42)) (elem declare func $one)"#;
    answers("typed functions", command(typed, "(call_ref $f (ref.func $one))"));
}

/// A document converter, a benchmark suite's Kotlin and whatever C++ of yesterday throws in were called corrupt: they have
/// the instructions for exceptions from before there was a standard, which no engine of today compiles.
#[test]
fn exceptions_of_the_first_proposal_run() {
    let throwing = r#"(memory (export "memory") 1) (tag $number (param i32)) (tag $other)
    (func $throw (param i32) (result i32)
      (if (i32.lt_s (local.get 0) (i32.const 0)) (then (throw $other)))
      (throw $number (local.get 0)))
    (func $twice (param i32) (result i32)
      try $all (result i32)
        try (result i32)
          try (result i32)
            (call $throw (local.get 0))
          delegate $all
        catch_all
          i32.const 1
        end
      catch $number
        drop
        rethrow $all
      catch $other
        i32.const 2
      end)"#;
    let answer = "
      try (result i32)
        (i32.add (call $twice (i32.const -1)) (call $twice (i32.const 21)))
      catch $number
        (i32.mul (call $twice (i32.const -7)))
      catch_all
        i32.const 3
      end";
    answers("old exceptions", command(throwing, answer));
    let sandbox = Sandbox::new();
    sandbox.write("p.wasm", command(throwing, "(call $twice (i32.const 5))"));
    sandbox.vac(&["run", "p.wasm"]).fails(QUOTA, &["an exception that nothing caught"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn what_the_engine_cannot_compile_is_named_whole() {
    let sandbox = Sandbox::new();
    let wide = "(drop (i64.add128 (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4))) (i32.wrap_i64)";
    sandbox.write("wide.wasm", command(MEMORY, wide));
    let failed = sandbox.vac(&["run", "wide.wasm"]);
    assert_eq!(failed.code(), CORRUPT, "{failed:?}");
    assert!(failed.stderr.contains("wide arithmetic"), "{failed:?}");
}

/// Exports got names of their own, `f32` and `f64` among them, which are words of WIT: no module with more than
/// 32 functions loaded.
#[test]
fn a_module_may_export_many_functions() {
    let sandbox = Sandbox::new();
    let functions: String = (0..100)
        .map(|i| {
            format!(
                r#"(func (export "fn_{i}") (param i32) (result i32) (i32.add (local.get 0) (i32.const {i})))"#
            )
        })
        .collect();
    sandbox.write("many.wasm", wat::parse_str(format!("(module {functions})")).unwrap());
    for i in [0, 8, 16, 31, 32, 33, 64, 99] {
        let called = sandbox.json(&["call", "many.wasm", &format!("fn_{i}(1)")]);
        assert_eq!(text(&called, "result"), (i + 1).to_string());
    }
    sandbox.vac(&["replay", "last"]).ok();
}

/// Half of what the registries call WebAssembly is half of a program in JavaScript. Its user was shown a
/// hundred names, and nothing that helped.
#[test]
fn a_program_for_another_host_is_told_by_its_imports() {
    let sandbox = Sandbox::new();
    for (module, name, word) in [
        ("gojs", "runtime.wasmExit", "GOOS=wasip1"),
        ("./x_bg.js", "__wbg_now_1", "wasm-bindgen"),
        ("env", "__syscall_openat", "Emscripten"),
        ("wasi_unstable", "fd_write", "2019"),
        ("wasi_snapshot_preview1", "sock_connect", "WASI 0.2"),
        ("wasi:nn", "load", "core of a component"),
        ("env", "host_call", "host of its own"),
    ] {
        let imports: String = (0..20).map(|i| format!(r#"(import "{module}" "{name}{i}" (func))"#)).collect();
        sandbox.write("p.wasm", wat::parse_str(format!("(module {imports})")).unwrap());
        let refused = sandbox.vac(&["run", "p.wasm"]).fails(DENIED, &[module, name, "12 more"]);
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
        let shown = sandbox.json(&["inspect", "p.wasm"]);
        assert!(text(&shown, "refused_hint").contains(word), "{shown}");
        assert_eq!(shown["imports"][0]["functions"].as_array().map(Vec::len), Some(20), "{shown}");
    }
}

/// Only the first missing interface was named; whoever found a component for it was told the next.
#[test]
fn a_component_names_all_that_it_misses() {
    let sandbox = Sandbox::new();
    let text = r#"(component
      (import "a:b/one" (instance (export "f" (func))))
      (import "a:b/two" (instance (export "g" (func (result string)))))
      (import "three" (func))
      (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64))))))"#;
    sandbox.write("c.wasm", wat::parse_str(text).unwrap());
    let refused =
        sandbox.vac(&["call", "c.wasm", "f()"]).fails(DENIED, &["`a:b/one`", "`a:b/two`", "`three`"]);
    assert!(refused.stderr.contains("--link"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("wasi:random"), "{}", refused.stderr);
}

/// A family of image readers has no `_start` but a function of no name, which other hosts run: here it was called no
/// command.
#[test]
fn a_function_of_no_name_is_run_as_start() {
    let sandbox = Sandbox::new();
    let module = r#"(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (global $ready (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $ready (i32.const 42)))
      (func (export "") (call $exit (global.get $ready)))
      (func (export "other") (result i32) (i32.const 7)))"#;
    sandbox.write("p.wasm", wat::parse_str(module).unwrap());
    assert_eq!(sandbox.vac(&["run", "p.wasm"]).code(), 42);
    sandbox.vac(&["replay", "last"]).ok();
    let called = sandbox.json(&["call", "p.wasm", "other()"]);
    assert_eq!(text(&called, "result"), "7");
    let shown = sandbox.json(&["inspect", "p.wasm"]);
    assert_eq!(text(&shown, "kind"), "command-0.1");
}

/// The first program of somebody who tries: it has no memory, or exports none, because it needs none.
#[test]
fn a_command_without_a_memory_runs() {
    let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    let start = r#"(func (export "_start") (call $exit (i32.const 42)))"#;
    answers("none", wat::parse_str(format!("(module {exit} {start})")).unwrap());
    answers("not exported", wat::parse_str(format!("(module {exit} (memory 1) {start})")).unwrap());
    let global = format!("(module {exit} (table 1 funcref) (tag) (global i32 (i32.const 1)) {start})");
    answers("in the middle", wat::parse_str(global).unwrap());
    let sandbox = Sandbox::new();
    sandbox.write("p.wasm", wat::parse_str(r#"(module (func (export "_start")))"#).unwrap());
    sandbox.vac(&["run", "p.wasm"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
}

/// The adapter works on a memory of 32 bits, and a program of that suite has one of 64: it was called corrupt for it.
#[test]
fn a_command_with_a_memory_of_64_bits_runs() {
    let wide = r#"(memory (export "memory") i64 1)"#;
    answers("64 bits", command(wide, "(i64.store (i64.const 8) (i64.const 42)) (i32.load (i64.const 8))"));
    let both = r#"(memory (export "memory") i64 1) (memory (export "other") 1)"#;
    answers("both", command(both, "(i32.store 1 (i32.const 8) (i32.const 42)) (i32.load 1 (i32.const 8))"));
}

/// The same suite has a `_start` that gives a number. What starts a command takes and gives nothing, so that is a
/// function like others.
#[test]
fn a_start_that_gives_something_is_called() {
    let sandbox = Sandbox::new();
    let module = r#"(module (memory (export "memory") 1)
      (func (export "_start") (result i32) (i32.const 53))
      (func (export "_initialize") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))"#;
    sandbox.write("p.wasm", wat::parse_str(module).unwrap());
    assert_eq!(text(&sandbox.json(&["call", "p.wasm", "_start()"]), "result"), "53");
    assert_eq!(text(&sandbox.json(&["call", "p.wasm", "_initialize(21)"]), "result"), "42");
    assert_eq!(text(&sandbox.json(&["inspect", "p.wasm"]), "kind"), "core");
    let refused = sandbox.vac(&["run", "p.wasm"]).fails(2, &["not a command"]);
    assert!(refused.stderr.contains("vac call"), "{}", refused.stderr);
}

//! Calls into core modules: reactors and commands of WASI 0.1, and modules that know no WASI.

use serde_json::Value;

use crate::support::{Sandbox, number, text};

const FAULT: i32 = 4;
const USAGE: i32 = 2;
const DENIED: i32 = 3;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A module as a C compiler makes one: names with underscores, an initializer, a memory, an allocator.
const LIBRARY: &str = r#"(module
    (memory (export "memory") 1)
    (global $at (mut i32) (i32.const 1024))
    (global $ready (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $ready (i32.const 40)))
    (func (export "gv_Add2") (param i32 i32) (result i32)
      (i32.add (global.get $ready) (i32.add (local.get 0) (local.get 1))))
    (func (export "scale") (param f64 f32 i64) (result f64)
      (f64.mul (f64.mul (local.get 0) (f64.promote_f32 (local.get 1))) (f64.convert_i64_s (local.get 2))))
    (func (export "same64") (param i64) (result i64) (local.get 0))
    (func (export "half") (param f32) (result f32) (f32.mul (local.get 0) (f32.const 0.5)))
    (func (export "nothing"))
    (func (export "sixteen") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.add (local.get 0) (local.get 15)))
    (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
    (func (export "wide") (param v128))
    (func (export "many") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32))
    (func (export "malloc") (param i32) (result i32)
      (global.get $at) (global.set $at (i32.add (global.get $at) (local.get 0))))
    ;; The text at an address, each letter one further, to another address: gives its length.
    (func (export "shift") (param $from i32) (param $to i32) (result i32) (local $n i32)
      (block $end (loop $next
        (br_if $end (i32.eqz (i32.load8_u (i32.add (local.get $from) (local.get $n)))))
        (i32.store8 (i32.add (local.get $to) (local.get $n))
          (i32.add (i32.const 1) (i32.load8_u (i32.add (local.get $from) (local.get $n)))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
      (local.get $n))
    (func (export "fail") (unreachable)))"#;

#[test]
fn exported_functions_are_called_by_their_own_names() {
    let sandbox = Sandbox::new();
    sandbox.write("lib.wasm", wat(LIBRARY));
    for (call, result) in [
        // 40: the initializer ran first.
        ("gv_Add2(1, 2)", "43"),
        ("gv_Add2(-50, 2)", "-8"),
        ("scale(1.5, 2, 3)", "9"),
        ("same64(-9223372036854775808)", "-9223372036854775808"),
        ("half(0.5)", "0.25"),
        ("half(nan)", "nan"),
        ("nothing()", ""),
        ("sixteen(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)", "3"),
    ] {
        let called = sandbox.json(&["call", "lib.wasm", call]);
        assert_eq!(text(&called, "result"), result, "{call}");
        assert_eq!(text(&called["kernels"][0], "export"), call.split('(').next().unwrap());
    }
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["call", "lib.wasm", "fail()"]).fails(FAULT, &["trap", "unreachable"]);
    sandbox.vac(&["call", "lib.wasm", "gv_Add2(1)"]).fails(USAGE, &["p1: s32"]);
    let typo = sandbox.vac(&["call", "lib.wasm", "gv_add2(1, 2)"]).fails(USAGE, &["no export"]);
    assert!(typo.stderr.contains("did you mean `gv_Add2`?"), "{}", typo.stderr);
    for hidden in ["f0(1, 2)", "memory-size()", "memory-load1(1)", "_initialize()"] {
        sandbox.vac(&["call", "lib.wasm", hidden]).fails(USAGE, &["no export"]);
    }
}

#[test]
fn what_cannot_be_called_is_listed_with_the_reason() {
    let sandbox = Sandbox::new();
    sandbox.write("lib.wasm", wat(LIBRARY));
    let shown = sandbox.json(&["inspect", "lib.wasm"]);
    assert_eq!((text(&shown, "kind"), &shown["is_command"]), ("core", &false.into()));
    let exports: Vec<&str> = shown["exports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(exports.contains(&"gv_Add2(p0: s32, p1: s32) -> s32"), "{exports:?}");
    assert!(exports.contains(&"scale(p0: f64, p1: f32, p2: s64) -> f64") && exports.contains(&"nothing()"));
    assert!(!exports.iter().any(|e| e.starts_with("memory") || e.starts_with("_initialize")), "{exports:?}");
    let not: Vec<(&str, &str)> = shown["not_callable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(one, "name"), text(one, "reason")))
        .collect();
    assert_eq!(not.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["two", "wide", "many"]);
    for ((_, reason), word) in not.iter().zip(["2 results", "v128", "17 parameters"]) {
        assert!(reason.contains(word), "{reason}");
    }
    sandbox.vac(&["call", "lib.wasm", "two()"]).fails(USAGE, &["`two` cannot be called", "2 results"]);
    let table = sandbox.vac(&["inspect", "lib.wasm"]).ok().out();
    assert!(table.contains("not callable") && table.contains("core module without WASI"), "{table}");
}

#[test]
fn memory_is_written_and_read_between_calls() {
    let sandbox = Sandbox::new();
    sandbox.write("lib.wasm", wat(LIBRARY));
    let calls = [
        "p = memory.put(\"HAL and more of it\")",
        "q = malloc(64)",
        "n = shift($p, $q)",
        "memory.text($q, $n)",
    ];
    let called = sandbox.json(&[&["call", "lib.wasm"], &calls[..]].concat());
    assert_eq!(text(&called, "result"), "\"IBM!boe!npsf!pg!ju\"");
    assert_eq!(text(&called["calls"][2], "result"), "18");
    assert_eq!(text(&called["calls"][2], "keep"), "n");
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(text(&replayed, "head"), text(&called, "head"));
    let again = sandbox.json(&[&["call", "lib.wasm"], &calls[..]].concat());
    assert_eq!(text(&again, "head"), text(&called, "head"));
    let raw = sandbox.vac(&[&["call", "--raw", "lib.wasm"], &calls[..]].concat()).ok();
    assert_eq!(raw.out(), "IBM!boe!npsf!pg!ju");
    let shown = sandbox.vac(&[&["call", "lib.wasm"], &calls[..]].concat()).ok();
    assert_eq!(shown.out(), "p = 1024\nq = 1043\nn = 18\n\"IBM!boe!npsf!pg!ju\"\n");
}

#[test]
fn memory_is_moved_byte_for_byte_at_every_length_and_place() {
    let sandbox = Sandbox::new();
    sandbox.write("lib.wasm", wat(LIBRARY));
    for len in [0usize, 1, 7, 8, 9, 16, 23] {
        let bytes: Vec<usize> = (0..len).map(|i| 255 - i).collect();
        let write = format!("memory.write(65500, {bytes:?})");
        let read = format!("memory.read(65500, {len})");
        let called = sandbox.json(&["call", "lib.wasm", &write, &read]);
        assert_eq!(text(&called, "result"), format!("{bytes:?}"));
    }
    // What a `main` wants: an array of addresses.
    let called = sandbox.json(&[
        "call",
        "lib.wasm",
        r#"a = memory.put("x")"#,
        "v = memory.put32($a, 4294967295, 7)",
        "memory.read($v, 12)",
    ]);
    assert_eq!(text(&called, "result"), "[0, 4, 0, 0, 255, 255, 255, 255, 7, 0, 0, 0]");
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["call", "lib.wasm", "memory.put32()"]).fails(USAGE, &["does not fit"]);
    // The last bytes of the only page, and not one more.
    let called =
        sandbox.json(&["call", "lib.wasm", "memory.write(65532, [1, 2, 3, 4])", "memory.u32(65532)"]);
    assert_eq!(text(&called, "result"), "67305985");
    for beyond in [
        "memory.read(65533, 4)",
        "memory.u32(65533)",
        "memory.write(65533, [1, 2, 3, 4])",
        "memory.read(4294967295, 4294967295)",
        "memory.text(65536)",
    ] {
        let ran = sandbox.vac(&["call", "lib.wasm", beyond]);
        assert!([USAGE, FAULT].contains(&ran.code()), "{beyond}: {ran:?}");
        assert!(!ran.stderr.contains("trap"), "{}", ran.stderr);
    }
    sandbox.vac(&["call", "lib.wasm", "memory.read(65533, 4)"]).fails(FAULT, &["65536 bytes"]);
    let endless = ["memory.write(65535, \"x\")", "memory.text(65535)"];
    sandbox.vac(&[&["call", "lib.wasm"], &endless[..]].concat()).fails(FAULT, &["no end"]);
    let not_text = ["memory.write(0, [255, 0])", "memory.text(0)"];
    sandbox.vac(&[&["call", "lib.wasm"], &not_text[..]].concat()).fails(FAULT, &["not UTF-8"]);
    for bad in ["memory.read(1)", "memory.read(-1, 2)", "memory.write(1, 2, 3)", "memory.text(\"x\")"] {
        sandbox.vac(&["call", "lib.wasm", bad]).fails(USAGE, &["memory"]);
    }
    sandbox.vac(&["call", "lib.wasm", "memory.peek(1)"]).fails(USAGE, &["memory.peek"]);
}

#[test]
fn a_module_without_memory_or_allocator_says_so() {
    let sandbox = Sandbox::new();
    sandbox.write("bare.wasm", wat(r#"(module (func (export "one") (result i32) (i32.const 1)))"#));
    assert_eq!(sandbox.vac(&["call", "bare.wasm", "one()"]).ok().out(), "1\n");
    sandbox.vac(&["call", "bare.wasm", "memory.read(0, 1)"]).fails(USAGE, &["memory.read"]);
    sandbox.write(
        "plain.wasm",
        wat(r#"(module (memory (export "m") 1) (func (export "one") (result i32) (i32.const 1)))"#),
    );
    assert_eq!(sandbox.vac(&["call", "plain.wasm", "memory.read(0, 2)"]).ok().out(), "[0, 0]\n");
    sandbox.vac(&["call", "plain.wasm", "memory.put(\"x\")"]).fails(USAGE, &["no allocator"]);
    // A library in Rust calls it after itself; two of them would be a guess.
    let alloc = |name: &str| format!(r#"(func (export "{name}") (param i32) (result i32) (i32.const 64))"#);
    let of = |names: &[&str]| {
        let functions: String = names.iter().map(|name| alloc(name)).collect();
        wat(&format!(r#"(module (memory (export "memory") 1) {functions})"#))
    };
    sandbox.write("own.wasm", of(&["png_alloc", "png_free"]));
    assert_eq!(sandbox.vac(&["call", "own.wasm", "memory.put(\"x\")"]).ok().out(), "64\n");
    sandbox.write("two.wasm", of(&["png_alloc", "gif_alloc"]));
    sandbox.vac(&["call", "two.wasm", "memory.put(\"x\")"]).fails(USAGE, &["no allocator"]);
}

/// A command's other exports can be called; `_start` is not run for that.
#[test]
fn a_command_is_run_and_its_exports_are_called() {
    let sandbox = Sandbox::new();
    let module = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 7)))
        (func (export "draw") (result i32)
          (drop (call $random (i32.const 16) (i32.const 4))) (i32.load (i32.const 16)))
        (func (export "leave") (param i32) (call $exit (local.get 0))))"#;
    sandbox.write("command.wasm", wat(module));
    let shown = sandbox.json(&["inspect", "command.wasm"]);
    assert_eq!((text(&shown, "kind"), &shown["is_command"]), ("command-0.1", &true.into()));
    assert_eq!(sandbox.vac(&["run", "command.wasm"]).code(), 7);
    let one = sandbox.json(&["call", "command.wasm", "draw()"]);
    assert!(number(&one, "events") >= 2, "the entropy is in the record: {one}");
    assert_ne!(text(&one, "result"), "0");
    assert_eq!(sandbox.json(&["call", "command.wasm", "draw()"])["result"], one["result"]);
    assert_ne!(sandbox.json(&["call", "command.wasm", "draw()", "--seed", "1"])["result"], one["result"]);
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["call", "command.wasm", "leave(3)"]).fails(FAULT, &["exited with status 3"]);
    sandbox.vac(&["call", "command.wasm", "_start()"]).fails(USAGE, &["no export"]);
}

/// Its start function is called when WASI is there: before `_start`, before the first call, or as all that it does.
#[test]
fn a_start_function_may_use_wasi() {
    let sandbox = Sandbox::new();
    let module = |more: &str| {
        wat(&format!(
            r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\20\00\00\00\01\00\00\00")
            (data (i32.const 32) "abcd")
            (global $said (mut i32) (i32.const 0))
            (func $say (param i32)
              (i32.store (i32.const 0) (i32.add (i32.const 32) (local.get 0)))
              (global.set $said (i32.add (global.get $said) (i32.const 1)))
              (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
            (func $first (call $say (i32.const 0)))
            (start $first)
            {more})"#
        ))
    };
    let begin = r#"(func (export "_start") (call $say (i32.const 1)))"#;
    let unnamed = r#"(func (export "") (call $say (i32.const 2)))"#;
    let initialize = r#"(func (export "_initialize") (call $say (i32.const 3)))"#;
    let said = r#"(func (export "said") (result i32) (global.get $said))"#;
    let exit = r#"(func (export "_start") (call $exit (i32.const 7)))"#;
    for (i, (more, out)) in [("", "a"), (begin, "ab"), (unnamed, "ac"), (exit, "a")].iter().enumerate() {
        let name = format!("c{i}.wasm");
        sandbox.write(&name, module(more));
        let ran = sandbox.vac(&["run", &name]);
        assert_eq!((ran.code(), ran.out().as_str()), (if *more == exit { 7 } else { 0 }, *out), "{more}");
        sandbox.vac(&["replay", "last"]).ok();
    }
    for (i, (more, out, count)) in [
        (said.to_owned(), "a", "1"),
        (format!("{initialize}{said}"), "ad", "2"),
        (format!("{begin}{said}"), "a", "1"),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("r{i}.wasm");
        sandbox.write(&name, module(more));
        let ran = sandbox.vac(&["call", &name, "said()"]).ok();
        assert_eq!(ran.out().trim(), format!("{out}{count}"), "{more}");
        sandbox.vac(&["replay", "last"]).ok();
    }
}

/// A name of the module may look like one that is made for the component.
#[test]
fn names_of_a_module_do_not_get_in_the_way() {
    let sandbox = Sandbox::new();
    let module = r#"(module
        (memory (export "memory-size") 1)
        (func (export "f1") (result i32) (i32.const 10))
        (func (export "f0") (result i32) (i32.const 20))
        (func (export "memory-load1") (result i32) (i32.const 30))
        (func (export "") (result i32) (i32.const 40))
        (func (export "Größe") (result i32) (i32.const 50))
        (func (export "cabi_post_f0") (result i32) (i32.const 60)))"#;
    sandbox.write("names.wasm", wat(module));
    for (call, result) in [
        ("f1()", "10"),
        ("f0()", "20"),
        ("memory-load1()", "30"),
        ("Größe()", "50"),
        ("cabi_post_f0()", "60"),
    ] {
        assert_eq!(text(&sandbox.json(&["call", "names.wasm", call]), "result"), result, "{call}");
    }
}

#[test]
fn every_foreign_import_is_named() {
    let sandbox = Sandbox::new();
    let module = r#"(module
        (import "env" "first" (func (param i32) (result i64)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (import "env" "second" (func))
        (import "js" "mem" (memory 1))
        (func (export "f") (param i32)))"#;
    sandbox.write("foreign.wasm", wat(module));
    let shown = sandbox.json(&["inspect", "foreign.wasm"]);
    for name in ["`env.first`", "`env.second`", "`js.mem`"] {
        assert!(text(&shown, "refused").contains(name), "{shown}");
    }
    assert!(!text(&shown, "refused").contains("proc_exit"));
    let imports = shown["imports"].as_array().unwrap();
    assert_eq!(imports.iter().map(|i| text(i, "name")).collect::<Vec<_>>(), ["env", "js"]);
    assert_eq!(imports[0]["functions"].as_array().unwrap().len(), 2);
    assert_eq!(shown["exports"][0], "f(p0: s32)");
    for args in [["call", "foreign.wasm", "f(1)"].as_slice(), &["run", "foreign.wasm"]] {
        sandbox.vac(args).fails(DENIED, &["env.first", "env.second", "js.mem"]);
    }
}

//! Files into calls and bytes out of them, numbers that hold an address and a length, and commands that are called.

use crate::call::mirror;
use crate::support::{Sandbox, number, text};

const USAGE: i32 = 2;
const FAULT: i32 = 4;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Each byte one further, as a library in Rust or Go has it: an address and a length go in, both come out in one number.
const BUMP: &str = r#"(module
    (memory (export "memory") 20)
    (global $at (mut i32) (i32.const 1024))
    (func $malloc (export "malloc") (param i32) (result i32)
      (global.get $at) (global.set $at (i32.add (global.get $at) (local.get 0))))
    (func $bump (export "bump") (param $from i32) (param $len i32) (result i64) (local $to i32) (local $n i32)
      (local.set $to (call $malloc (local.get $len)))
      (block $end (loop $next
        (br_if $end (i32.eq (local.get $n) (local.get $len)))
        (i32.store8 (i32.add (local.get $to) (local.get $n))
          (i32.add (i32.const 1) (i32.load8_u (i32.add (local.get $from) (local.get $n)))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
      (i64.or (i64.shl (i64.extend_i32_u (local.get $to)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
    (func (export "turned") (param i32 i32) (result i64) (i64.rotl (call $bump (local.get 0) (local.get 1)) (i64.const 32)))
    (func (export "same") (param i32) (result i32) (local.get 0)))"#;

#[test]
fn a_file_goes_into_memory_and_what_comes_of_it_out() {
    let sandbox = Sandbox::new();
    sandbox.write("bump.wasm", wat(BUMP));
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7) as u8).collect();
    sandbox.write("my in.bin", &bytes);
    let calls = [
        "p = memory.put(@\"my in.bin\")",
        "r = bump($p, len(@\"my in.bin\"))",
        "memory.read(hi($r), lo($r))",
    ];
    let called = sandbox.json(&[&["call", "bump.wasm", "-o", "out.bin"], &calls[..]].concat());
    let bumped: Vec<u8> = bytes.iter().map(|b| b.wrapping_add(1)).collect();
    assert!(std::fs::read(sandbox.path("out.bin")).unwrap() == bumped);
    // Nothing of the record is where the file was, and nothing of a replay is the file.
    std::fs::create_dir(sandbox.path("other")).unwrap();
    std::fs::rename(sandbox.path("my in.bin"), sandbox.path("other/x")).unwrap();
    let moved = calls.map(|call| call.replace("\"my in.bin\"", "other/x"));
    let moved: Vec<&str> = moved.iter().map(String::as_str).collect();
    let again = sandbox.json(&[&["call", "bump.wasm", "-o", "out.bin"], &moved[..]].concat());
    assert_eq!(text(&again, "head"), text(&called, "head"));
    std::fs::remove_file(sandbox.path("other/x")).unwrap();
    sandbox.vac(&["store", "gc"]).ok();
    for run in [&called, &again] {
        assert_eq!(text(&sandbox.json(&["replay", text(run, "run")]), "head"), text(run, "head"));
    }
    sandbox.vac(&["verify", "--all"]).ok();
    sandbox.vac(&["log", "last"]).ok();
    // The other way round, to an address that is known, and without a file of one's own: an object of the store.
    let cid = text(&called["calls"][0], "call").split('@').nth(1).unwrap().trim_end_matches(')').to_owned();
    let write = format!("memory.write(0x1000, @{cid})");
    let bump = format!("r = turned(0x1000, len(@{cid}))");
    let text =
        sandbox.vac(&["call", "bump.wasm", &write, &bump, "memory.read(lo($r), 3)", "memory.u32(lo($r))"]);
    assert!(text.ok().out().contains("[1, 8, 15]"));
    // What was kept has a length, too.
    let kept = ["x = memory.read(0, 5)", "q = memory.put($x)", "n = same(len($x))", "memory.read($q, $n)"];
    assert!(
        sandbox.vac(&[&["call", "bump.wasm"], &kept[..]].concat()).ok().out().ends_with("[0, 0, 0, 0, 0]\n")
    );
    sandbox.vac(&["replay", "last"]).ok();
    for (calls, words) in [
        (["r = same(1)", "memory.read(hi($r), lo($r))"], "not a number of 64 bits"),
        (["r = same(1)", "memory.read(0, len($r))"], "not text or a list"),
    ] {
        sandbox.vac(&[&["call", "bump.wasm"], &calls[..]].concat()).fails(USAGE, &[words]);
        sandbox.vac(&["replay", "last"]).ok();
    }
}

#[test]
fn a_file_is_text_or_bytes_of_a_typed_call() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    sandbox.write("t", "it's \"text\"\n");
    sandbox.write("b", [0, 255, 7]);
    sandbox.write("none.bin", []);
    for (call, result) in [
        ("bytes(@b)", "[0, 255, 7]"),
        ("bytes(@none.bin)", "[]"),
        ("text(@t)", "\"it\\'s \\\"text\\\"\\n\""),
        (
            "nested([[@t, \"x\"], [@t]])",
            "[[\"it\\'s \\\"text\\\"\\n\", \"x\"], [\"it\\'s \\\"text\\\"\\n\"]]",
        ),
        ("u32(len(@b))", "3"),
        ("pair((len(@t), -1))", "(12, -1)"),
        ("maybe(len(@none.bin))", "some(0)"),
        ("u16(0xFf)", "255"),
        ("text(\"@b\")", "\"@b\""),
    ] {
        assert_eq!(text(&sandbox.json(&["call", "mirror.wasm", call]), "result"), result, "{call}");
        sandbox.vac(&["replay", "last"]).ok();
    }
    for (call, code, words) in [
        ("bytes(@missing)", USAGE, "there is no file `missing`"),
        ("bytes(@.)", USAGE, "is not a file"),
        ("bytes(@)", USAGE, "the name of a file"),
        ("text(@b)", USAGE, "not UTF-8"),
        ("u32(@b)", USAGE, "is a file, expected u32"),
        ("u32(hi(@b))", USAGE, "half of no number"),
        ("s32(4294967295)", USAGE, "does not fit"),
        ("s32(0xffffffff)", USAGE, "does not fit"),
    ] {
        sandbox.vac(&["call", "mirror.wasm", call]).fails(code, &[words]);
    }
    let limited = ["call", "mirror.wasm", "--limit", "transfer=1024"];
    sandbox.write("long", "x".repeat(1024));
    sandbox.vac(&[&limited[..], &["text(@long)"]].concat()).ok();
    let refused =
        sandbox.vac(&[&limited[..], &["bytes(@long)"]].concat()).fails(FAULT, &["the limit is 1024"]);
    assert!(refused.stderr.contains("--limit transfer="), "{}", refused.stderr);
    // A call has one limit for all that it takes of files, and the next call has it again.
    sandbox.write("half", "x".repeat(600));
    sandbox.vac(&[&limited[..], &["text(@half)", "text(@half)"]].concat()).ok();
    let both = sandbox.vac(&[&limited[..], &["nested([[@half, @half]])"]].concat());
    both.fails(FAULT, &["takes 600 bytes as string; the limit is 1024, of which 424 are left"]);
    // An object of the store is no longer than a file may be.
    sandbox.write("long", "x".repeat(1025));
    let cid = text(&sandbox.json(&["store", "put", "long"])["objects"][0], "cid").to_owned();
    sandbox.vac(&[&limited[..], &[&format!("text(@{cid})")]].concat()).fails(FAULT, &["has 1025 bytes"]);
    sandbox.vac(&[&limited[..], &["text(@long)"]].concat()).fails(FAULT, &["`long` has 1025 bytes"]);
    assert_eq!(sandbox.json(&["runs"])["runs"].as_array().unwrap().len(), 11, "what is refused is no run");
}

#[test]
fn the_last_result_is_written_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    sandbox.write("b", [0, 255, 7]);
    let write = |call: &str| sandbox.vac(&["call", "mirror.wasm", "-o", "out", call]);
    assert_eq!(write("bytes(@b)").ok().out(), "");
    assert_eq!(std::fs::read(sandbox.path("out")).unwrap(), [0, 255, 7]);
    write("text(\"äb\")").ok();
    assert_eq!(sandbox.read("out"), "äb");
    assert_eq!(write("u8(1)").fails(USAGE, &["u8, neither text nor bytes"]).out(), "");
    // What went wrong is said, and is no file.
    std::fs::remove_file(sandbox.path("out")).unwrap();
    sandbox.vac(&["call", "mirror.wasm", "--raw", "answer(ok(1))"]).fails(USAGE, &["u32, neither text"]);
    assert!(!sandbox.path("out").exists());
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().len() == 2, "what is refused is no run");
    let ran = sandbox.vac(&["call", "mirror.wasm", "-o", "none/out", "text(\"x\")"]).fails(1, &["none/out"]);
    assert!(ran.out() == "\"x\"\n" && ran.stderr.starts_with("run 0"), "{ran:?}");
    let ran = sandbox.vac(&["--json", "call", "mirror.wasm", "-o", "none/out", "text(\"x\")"]);
    assert_eq!(
        (ran.code(), text(&ran.json()["error"], "kind"), text(&ran.json(), "result")),
        (1, "machine", "\"x\"")
    );
}

/// A frame, one that may fail, and nothing.
const FRAMES: &str = r#"(component
    (core module $m (memory (export "memory") 1) (global $at (mut i32) (i32.const 1024))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (global.get $at) (global.set $at (i32.add (global.get $at) (local.get 3))))
      (func (export "frame") (param i32 i32 i32) (result i32)
        (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
        (i32.store (i32.const 24) (local.get 2)) (i32.const 16))
      (func (export "maybe") (param i32) (result i32)
        (i32.store (i32.const 4) (i32.const 16)) (i32.store (i32.const 8) (i32.const 2))
        (i32.store8 (i32.const 0) (local.get 0)) (i32.const 0))
      (func (export "nested") (param i32 i32 i32 i32 i32 i32) (result i32)
        (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
        (i32.store (i32.const 24) (local.get 2)) (i32.store (i32.const 28) (local.get 3))
        (i32.store (i32.const 32) (local.get 4)) (i32.store (i32.const 36) (local.get 5)) (i32.const 16))
      (func (export "done") (result i32) (i32.const 0))
      (func (export "nothing")))
    (core instance $i (instantiate $m))
    (type $frame-type (record (field "width" u32) (field "image" (list u8))))
    (export $frame "frame-type" (type $frame-type))
    (func (export "frame") (param "v" $frame) (result $frame)
      (canon lift (core func $i "frame") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
    (func (export "maybe") (param "fails" bool) (result (result (list u8) (error string)))
      (canon lift (core func $i "maybe") (memory (core memory $i "memory"))))
    (type $meta-type (record (field "image" (list u8))))
    (export $meta "meta-type" (type $meta-type))
    (type $nested-type (record (field "meta" $meta) (field "pair" (tuple u32 (option string)))))
    (export $nested "nested-type" (type $nested-type))
    (func (export "nested") (param "v" $nested) (result $nested)
      (canon lift (core func $i "nested") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
    (func (export "done") (result (result (error u8))) (canon lift (core func $i "done") (memory (core memory $i "memory"))))
    (func (export "nothing") (canon lift (core func $i "nothing"))))"#;

const NESTED: &str = "nested({meta: {image: [1, 255]}, pair: (7, some(\"text\"))})";

#[test]
fn fields_are_taken_from_records_and_tuples_within() {
    let sandbox = Sandbox::new();
    sandbox.write("frames.wasm", wat(FRAMES));
    let call =
        |field: &str, call: &str| sandbox.vac(&["call", "frames.wasm", "--raw", "--field", field, call]);
    for (field, words, hint) in [
        (
            "meta",
            "field `meta` of the last result is record { image: list<u8> }, neither",
            "`--field meta.image`",
        ),
        (
            "pair",
            "field `pair` of the last result is tuple<u32, option<string>>, neither",
            "`--field pair.1`",
        ),
        ("pair.2", "tuple<u32, option<string>> has no field `2`", ""),
        ("pair.1.x", "string has no field `x`", ""),
    ] {
        let ran = call(field, NESTED).fails(USAGE, &[words]);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    }
    call("x", "done()").fails(USAGE, &["result<_, u8> has no field `x`"]);
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().is_empty(), "nothing was started");
    assert_eq!(call("meta.image", NESTED).ok().stdout, [1, 255]);
    assert_eq!(call("pair.1", NESTED).ok().stdout, b"text");
    // Whether there is one is known only then.
    let none = "nested({meta: {image: []}, pair: (7, none)})";
    let ran =
        call("pair.1", none).fails(FAULT, &["the last call gave {", "none", "neither text nor bytes there"]);
    assert!(ran.stderr.starts_with("run 0") && ran.stdout.is_empty(), "{ran:?}");
}

/// Bytes in a record could not be had, and that was said only after all calls had run.
#[test]
fn what_has_no_bytes_is_refused_before_it_runs_and_a_field_is_taken() {
    let sandbox = Sandbox::new();
    sandbox.write("frames.wasm", wat(FRAMES));
    let frame = "frame({width: 3, image: [1, 255]})";
    let call = |args: &[&str]| sandbox.vac(&[&["call", "frames.wasm"], args].concat());
    for (args, words, hint) in [
        (
            &["-o", "out", frame][..],
            "record { width: u32, image: list<u8> }, neither text nor",
            "`--field image`",
        ),
        (&["-o", "out", "--field", "imag", frame], "has no field `imag`", "did you mean `image`?"),
        (
            &["--raw", "--field", "width", frame],
            "field `width` of the last result is u32, neither text nor bytes",
            "",
        ),
        (&["--raw", "--field", "image.x", frame], "list<u8> has no field `x`", ""),
        (&["--raw", frame, "nothing()"], "gives nothing", ""),
        (&[frame, "x = nothing()"], "`x = nothing()` gives nothing that could be kept", "leave the name"),
        (&["--json", "-o", "-", "--field", "image", frame], "both want the standard output", ""),
    ] {
        let ran = call(args).fails(USAGE, &[words]);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    }
    call(&["--field", "image", frame]).fails(USAGE, &[]);
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().is_empty(), "nothing was started");
    assert_eq!(call(&["-o", "out", "--field", "image", frame]).ok().out(), "");
    assert_eq!(std::fs::read(sandbox.path("out")).unwrap(), [1, 255]);
    assert_eq!(call(&["--raw", "--field", "image", frame]).ok().stdout, [1, 255]);
    // What can fail only then says which run it was.
    assert_eq!(call(&["--raw", "maybe(false)"]).ok().stdout, [0, 0]);
    let ran = call(&["-o", "no", "maybe(true)"]).fails(FAULT, &["the last call gave err("]);
    assert!(ran.stderr.starts_with("run 0") && !sandbox.path("no").exists(), "{}", ran.stderr);
}

/// It was a file of that name.
#[test]
fn bytes_go_to_the_standard_output_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("command.wasm", wat(&COMMAND.replace("STATUS", "0")));
    let ran = sandbox.vac(&["call", "command.wasm", "run()", "memory.text(16, 3)", "-o", "-"]).ok();
    assert_eq!(ran.out(), "rea");
    assert!(ran.stderr.contains("ready\n") && !sandbox.path("-").exists(), "{}", ran.stderr);
}

/// A record has the CID of a file, and a person was shown it.
#[test]
fn a_file_is_called_what_was_typed_and_a_number_has_its_range() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    sandbox.write("my b", [0, 255, 7]);
    sandbox.write("n", "12");
    for (calls, words, hint) in [
        (&["u8(256)"][..], "does not fit `(v: u8)`", "u8 is 0 to 255"),
        (&["s32(0xffffffff)"], "does not fit", "s32 is -2147483648 to 2147483647"),
        (&["bytes([1, 300])"], "does not fit", "u8 is 0 to 255"),
        (&["u8(\"x\")"], "does not fit", "arguments are WAVE text"),
        (&["u32(@n)"], "`@n` is a file, expected u32", "`len(@n)` is its length"),
        (&["text(@\"my b\")"], "`@my b` is not UTF-8", ""),
        (&["bytes(@n, 3)"], "`(@n, 3)` has 2 arguments", ""),
        (&["pair((len(@n), 4294967296))"], "`((len(@n), 4294967296)", "s32 is "),
        (&["x = u32(300)", "u8($x)"], "`$x` is 300, expected u8", "u8 is 0 to 255"),
        (&["x = u32(300)", "pair(($x, @n))"], "`@n` is a file, expected s32", ""),
    ] {
        let ran = sandbox.vac(&[&["call", "mirror.wasm"], calls].concat()).fails(USAGE, &[words]);
        assert!(ran.stderr.contains(hint) && !ran.stderr.contains("bafk"), "{}", ran.stderr);
    }
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn a_fork_has_the_files_of_its_run_and_its_own() {
    let sandbox = Sandbox::new();
    sandbox.write("bump.wasm", wat(BUMP));
    sandbox.write("a", "abc");
    sandbox.write("b", "xy");
    let run = sandbox.json(&["call", "bump.wasm", "p = memory.put(@a)", "memory.read($p, 3)"]);
    std::fs::remove_file(sandbox.path("a")).unwrap();
    let forked = sandbox.json(&[
        "fork",
        text(&run, "run"),
        "--event",
        "1",
        "--",
        "memory.write($p, @b)",
        "memory.text($p)",
    ]);
    assert_eq!(text(&forked, "result"), "\"xyc\"");
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(text(&replayed, "head"), text(&forked, "head"));
}

/// What languages and libraries call it.
#[test]
fn room_comes_from_the_allocators_that_there_are() {
    let sandbox = Sandbox::new();
    let of = |functions: &str| {
        sandbox.write("m.wasm", wat(&format!(r#"(module (memory (export "memory") 2) {functions})"#)));
        sandbox.vac(&["call", "m.wasm", "p = memory.put(\"abc\")", "memory.text($p)"])
    };
    let plain = |name: &str| format!(r#"(func (export "{name}") (param i32) (result i32) (i32.const 64))"#);
    for name in ["malloc", "alloc", "allocate", "wasm_malloc", "my_malloc", "__malloc", "allocate_memory"] {
        assert_eq!(of(&plain(name)).ok().out(), "p = 64\n\"abc\"\n", "{name}");
    }
    // Of wasm-bindgen, with an alignment; of AssemblyScript, with a class, and pinned; of what becomes a component.
    let two = |name: &str| {
        format!(
            r#"(func (export "{name}") (param i32 i32) (result i32)
              (if (i32.ne (local.get 1) (i32.const 1)) (then unreachable)) (i32.add (i32.const 60) (local.get 0)))"#
        )
    };
    assert_eq!(of(&two("__wbindgen_malloc")).ok().out(), "p = 64\n\"abc\"\n");
    let pinned = two("__new")
        + r#"(func (export "__pin") (param i32) (result i32) (i32.store8 (i32.const 0) (i32.const 1)) (local.get 0))"#;
    assert_eq!(of(&pinned).ok().out(), "p = 64\n\"abc\"\n");
    let pins = ["call", "m.wasm", "memory.put(\"abc\")", "memory.read(0, 1)"];
    assert!(sandbox.vac(&pins).ok().out().ends_with("[1]\n"));
    sandbox.vac(&["replay", "last"]).ok();
    of(r#"(func (export "malloc") (param i64) (result i32) (i32.const 64))"#).fails(USAGE, &["no allocator"]);
    of(&two("malloc")).fails(USAGE, &["no allocator"]);
}

#[test]
fn numbers_of_core_modules_have_no_sign_unless_they_say_so() {
    let sandbox = Sandbox::new();
    sandbox.write("bump.wasm", wat(BUMP));
    for (call, result) in [
        ("same(4294967295)", "-1"),
        ("same(0xFFFFFFFF)", "-1"),
        ("same(0x10)", "16"),
        ("same(-1)", "-1"),
        ("same(2147483648)", "-2147483648"),
    ] {
        assert_eq!(text(&sandbox.json(&["call", "bump.wasm", call]), "result"), result, "{call}");
    }
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["call", "bump.wasm", "same(4294967296)"]).fails(USAGE, &["does not fit", "p0: s32"]);
}

/// A command as Go and TinyGo make them: what it exports is ready when it has run, and it ends by exiting.
const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "ready\n")
    (table 1 funcref) (elem (i32.const 0) $exit)
    (type $leave (func (param i32)))
    (global $ready (mut i32) (i32.const 0))
    (func $deep (param $n i32)
      (if (local.get $n) (then (call $deep (i32.sub (local.get $n) (i32.const 1))) (return)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (global.set $ready (i32.add (global.get $ready) (i32.const 42)))
      (call_indirect (type $leave) (i32.const STATUS) (i32.const 0))
      unreachable)
    (func (export "_start") (call $deep (i32.const 300)))
    (func (export "leave") (param i32) (call $exit (local.get 0)))
    (func (export "get") (result i32) (global.get $ready)))"#;

/// It ended the run, and nothing could be called after it.
#[test]
fn a_command_that_exits_well_can_be_gone_on_with() {
    let sandbox = Sandbox::new();
    sandbox.write("command.wasm", wat(&COMMAND.replace("STATUS", "0")));
    let ran = sandbox.vac(&["run", "command.wasm"]).ok();
    assert_eq!(ran.out(), "ready\n");
    let calls = ["call", "command.wasm", "get()", "run()", "get()", "run()", "get()"];
    let called = sandbox.json(&calls);
    let results: Vec<&str> = called["calls"].as_array().unwrap().iter().map(|c| text(c, "result")).collect();
    assert_eq!(results, ["0", "ok", "42", "ok", "84"]);
    assert_eq!(text(&called, "stdout"), "ready\nready\n");
    assert_eq!(text(&sandbox.json(&["replay", "last"]), "head"), text(&called, "head"));
    assert_eq!(text(&sandbox.json(&calls), "head"), text(&called, "head"));
    let forked = sandbox.json(&[
        "fork",
        "last",
        "--event",
        &number(&called, "events").to_string(),
        "--",
        "run()",
        "get()",
    ]);
    assert_eq!(text(&forked, "result"), "126");
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["verify", "--all"]).ok();
    sandbox.vac(&["export-replay", "last", "-o", "r.wasm"]).fails(USAGE, &["cannot be exported"]);
    // An exit from anything but `run` ends the run, and that can be exported.
    sandbox.vac(&["call", "command.wasm", "leave(0)"]);
    sandbox.vac(&["export-replay", "last", "-o", "r.wasm"]).ok();
    // It came back from all that it had entered: else this many would be too deep.
    let many = vec!["run()"; 100];
    sandbox.vac(&[&["call", "command.wasm", "--limit", "depth=64KiB"], &many[..]].concat()).ok();
    sandbox.vac(&["replay", "last"]).ok();
    // Until it exits, it costs what a run of the command costs.
    let exits_at = |args: &[&str]| {
        sandbox.vac(args).ok();
        let log = sandbox.json(&["log", "last", "--name", "vac:wasi01/exit"]);
        number(&log["events"][0], "tick")
    };
    assert_eq!(exits_at(&["run", "command.wasm"]), exits_at(&["call", "command.wasm", "run()"]));
}

#[test]
fn an_exit_that_is_not_well_or_not_the_commands_ends_the_calls() {
    let sandbox = Sandbox::new();
    sandbox.write("command.wasm", wat(&COMMAND.replace("STATUS", "3")));
    let ended =
        sandbox.vac(&["call", "command.wasm", "run()", "get()"]).fails(FAULT, &["exited with status 3"]);
    assert!(ended.stderr.contains("hint: a program that exited is over"), "{}", ended.stderr);
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["call", "command.wasm", "leave(0)", "get()"]).fails(FAULT, &["exited with status 0"]);
    sandbox.vac(&["replay", "last"]).ok();
    // One that throws could catch what brings it back.
    let throws = COMMAND.replace("STATUS", "0").replace("(global $ready", "(tag) (global $ready");
    sandbox.write("throws.wasm", wat(&throws));
    sandbox.vac(&["call", "throws.wasm", "run()", "get()"]).fails(FAULT, &["exited with status 0"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn scripts_read_bytes_and_give_them_to_kernels() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    sandbox.write("in/b", [0, 255, 7]);
    let script = "m = kernel(\"mirror.wasm\")\nb = read_bytes(dir(\"in\"), \"b\")\n\
                  print(len(b))\nwrite(dir(\"out\", write = True), \"c\", m.bytes(b))\n";
    sandbox.write("s.star", script);
    assert_eq!(sandbox.vac(&["run", "s.star"]).ok().out(), "3\n");
    assert_eq!(std::fs::read(sandbox.path("out/c")).unwrap(), [0, 255, 7]);
    std::fs::remove_file(sandbox.path("in/b")).unwrap();
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.write("in/b", [0, 255, 7]);
    sandbox.write("t.star", "read(dir(\"in\"), \"b\")\n");
    let ran = sandbox.vac(&["run", "t.star"]);
    assert!(ran.stderr.contains("is not text"), "{}", ran.stderr);
}

//! Typed calls, what `inspect` says, and the one JSON object of every command.

use serde_json::Value;

use crate::guest::Guest;
use crate::support::{Sandbox, number, repository, text};

const USAGE: i32 = 2;

fn prebuilt(name: &str) -> String {
    repository().join(format!("ring1-kernels/prebuilt/{name}.wasm")).display().to_string()
}

/// A component with one function for each type, which gives back what it was given. A flat value
/// comes in registers and goes out in memory, so each function only stores its parameters where the canonical ABI
/// expects them.
pub(crate) fn mirror() -> Vec<u8> {
    let (mut core, mut lifted) = (String::new(), String::new());
    for (name, ty) in FLAT {
        let core_type = match *ty {
            "s64" | "u64" => "i64",
            "f32" => "f32",
            "f64" => "f64",
            _ => "i32",
        };
        core +=
            &format!("(func (export \"{name}\") (param {core_type}) (result {core_type}) (local.get 0))\n");
        lifted += &format!(
            "(func (export \"{name}\") (param \"v\" {ty}) (result {ty}) (canon lift (core func $i \"{name}\")))\n"
        );
    }
    for (name, ty, params, stores) in STORED {
        core +=
            &format!("(func (export \"{name}\") (param {params}) (result i32) {stores} (i32.const 16))\n");
        lifted += &format!(
            "(func (export \"{name}\") (param \"v\" {ty}) (result {ty})
               (canon lift (core func $i \"{name}\") (memory (core memory $i \"memory\")) (realloc (core func $i \"realloc\"))))\n"
        );
    }
    wat::parse_str(format!(
        "(component (core module $m {ALLOCATOR} {core}) (core instance $i (instantiate $m)) {TYPES} {lifted})"
    ))
    .unwrap()
}

/// Never frees: a call is over before memory is.
const ALLOCATOR: &str = r#"(memory (export "memory") 4) (global $at (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $at (i32.and (i32.add (global.get $at) (i32.const 7)) (i32.const -8)))
      (global.get $at)
      (global.set $at (i32.add (global.get $at) (local.get 3))))"#;

const TYPES: &str = r#"
    (type $color-type (enum "red" "light-green" "blue")) (export $color "color" (type $color-type))
    (type $perms-type (flags "read" "write" "run")) (export $perms "perms" (type $perms-type))
    (type $point-type (record (field "x-pos" s32) (field "y" f64))) (export $point "point" (type $point-type))
    (type $shape-type (variant (case "empty") (case "circle" f64) (case "label" string))) (export $shape "shape" (type $shape-type))
    (type $answer (result u32 (error string)))"#;

/// Name and type of what fits in one register.
const FLAT: &[(&str, &str)] = &[
    ("bool", "bool"),
    ("s8", "s8"),
    ("u8", "u8"),
    ("s16", "s16"),
    ("u16", "u16"),
    ("s32", "s32"),
    ("u32", "u32"),
    ("s64", "s64"),
    ("u64", "u64"),
    ("f32", "f32"),
    ("f64", "f64"),
    ("char", "char"),
    ("paint", "$color"),
    ("allow", "$perms"),
];

const PAIR: &str = "(i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))";

/// Name, type, flat parameters, and how they are stored at 16.
const STORED: &[(&str, &str, &str, &str)] = &[
    ("text", "string", "i32 i32", PAIR),
    ("bytes", "(list u8)", "i32 i32", PAIR),
    ("nested", "(list (list string))", "i32 i32", PAIR),
    ("points", "(list $point)", "i32 i32", PAIR),
    ("pair", "(tuple u32 s32)", "i32 i32", PAIR),
    (
        "move",
        "$point",
        "i32 f64",
        "(i32.store (i32.const 16) (local.get 0)) (f64.store (i32.const 24) (local.get 1))",
    ),
    (
        "maybe",
        "(option u32)",
        "i32 i32",
        "(i32.store8 (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))",
    ),
    (
        "answer",
        "$answer",
        "i32 i32 i32",
        "(i32.store8 (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.store (i32.const 24) (local.get 2))",
    ),
    (
        "draw",
        "$shape",
        "i32 i64 i32",
        "(i32.store8 (i32.const 16) (local.get 0)) (i64.store (i32.const 24) (local.get 1))
         (if (i32.eq (local.get 0) (i32.const 2)) (then (i32.store (i32.const 28) (local.get 2))))",
    ),
];

/// What is called, and what comes back where it is written otherwise.
const CALLS: &[(&str, &str)] = &[
    ("bool(true)", ""),
    ("bool(false)", ""),
    ("s8(-128)", ""),
    ("u8(255)", ""),
    ("s16(-32768)", ""),
    ("u16(65535)", ""),
    ("s32(-2147483648)", ""),
    ("u32(4294967295)", ""),
    ("s64(-9223372036854775808)", ""),
    ("u64(18446744073709551615)", ""),
    ("f32(1.5)", ""),
    ("f64(-0.1)", ""),
    ("f64(inf)", ""),
    ("f64(nan)", ""),
    ("f64(1e300)", "1000000"),
    ("char('x')", ""),
    ("char('\\u{1F600}')", "'😀'"),
    ("char('\\'')", "'\\''"),
    ("paint(light-green)", ""),
    ("allow({})", ""),
    ("allow({read, run})", ""),
    ("text(\"\")", ""),
    ("text(\"it's a \\\"word\\\"\\n\\t\\\\\")", "\"it\\'s a \\\"word\\\"\\n\\t\\\\\""),
    ("text(\"äöü 😀\")", ""),
    ("bytes([])", ""),
    ("bytes([0, 255, 7])", ""),
    ("nested([[], [\"a\"], [\"b\", \"c\"]])", ""),
    ("points([{x-pos: 1, y: 2.5}, {x-pos: -1, y: 0.25}])", ""),
    ("pair((7, -7))", ""),
    ("move({x-pos: -3, y: 0.5})", ""),
    ("move({y: 0.5, x-pos: -3})", "{x-pos: -3, y: 0.5}"),
    ("maybe(none)", ""),
    ("maybe(some(5))", ""),
    ("maybe(5)", "some(5)"),
    ("answer(ok(9))", ""),
    ("answer(err(\"no\"))", ""),
    ("draw(empty)", ""),
    ("draw(circle(2.5))", ""),
    ("draw(label(\"round\"))", ""),
];

#[test]
fn every_type_comes_back_as_it_went() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    for (call, expected) in CALLS {
        let given = call.split_once('(').unwrap().1.strip_suffix(')').unwrap();
        let expected = if expected.is_empty() { given } else { expected };
        let called = sandbox.json(&["call", "mirror.wasm", call]);
        assert!(text(&called, "result").starts_with(expected), "{call} gave {}", called["result"]);
    }
    // The last of them replays, and so does one with a body in the store.
    sandbox.vac(&["replay", "last"]).ok();
    let long = format!("text(\"{}\")", "long ".repeat(200));
    assert_eq!(sandbox.vac(&["call", "mirror.wasm", &long]).ok().out().len(), 1003);
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["verify", "--all"]).ok();
}

#[test]
fn a_value_that_does_not_fit_says_where_and_what_would() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    for call in [
        "u8(256)",
        "u8(-1)",
        "u8(1.5)",
        "u8(\"1\")",
        "u8()",
        "u8(1, 2)",
        "bool(1)",
        "char('xy')",
        "char(\"x\")",
        "paint(purple)",
        "allow({read, fly})",
        "text(5)",
        "text(\"open)",
        "bytes([1, 2)",
        "bytes([1, 300])",
        "move({x-pos: 1})",
        "pair((1))",
        "maybe(some(\"x\"))",
        "answer(ok(\"x\"))",
        "draw(square)",
        "draw(circle)",
        "u64(18446744073709551616)",
    ] {
        let name = call.split('(').next().unwrap();
        let ran = sandbox.vac(&["call", "mirror.wasm", call]).fails(USAGE, &[]);
        assert!(
            ran.error_line().contains("does not fit") || ran.error_line().contains("arguments"),
            "{}",
            ran.stderr
        );
        assert!(
            ran.error_line().contains("v: "),
            "{name}: the error does not say what would fit: {}",
            ran.stderr
        );
    }
    for call in ["u8", "u8(", "(1)", "", "u8(1) + 1", "u8[1]"] {
        sandbox.vac(&["call", "mirror.wasm", call]).fails(USAGE, &["is not a call"]);
    }
    let deep = format!("nested({}{})", "[".repeat(5000), "]".repeat(5000));
    sandbox.vac(&["call", "mirror.wasm", &deep]).fails(USAGE, &[]);
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().is_empty(), "nothing was started");
}

/// Nothing said how a variant is written.
#[test]
fn values_are_written_as_the_page_about_them_says() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    let page = std::fs::read_to_string(repository().join("docs/calls.md")).unwrap();
    let rows: Vec<Vec<&str>> = page.lines().map(|line| line.split(" | ").collect()).collect();
    let examples =
        |column: &str| -> Vec<String> { column.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut script = "k = kernel(\"mirror.wasm\")\n".to_owned();
    let mut called = 0;
    for row in rows.iter().filter(|row| row.len() == 3 && row[2].contains("`k.")) {
        for call in examples(row[1]) {
            sandbox.vac(&["call", "mirror.wasm", &call]).ok();
            called += 1;
        }
        examples(row[2]).iter().for_each(|line| script += &format!("{line}\n"));
    }
    assert!(called > 15, "{called} examples");
    sandbox.write("s.star", script);
    sandbox.vac(&["run", "s.star"]).ok();
}

/// A field with a typo in its name would be one that is left out, if it is optional.
#[test]
fn a_field_that_is_not_in_the_record_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", mirror());
    sandbox.vac(&["call", "mirror.wasm", "move({x-pos: 1, y: 2, z: 3})"]).fails(USAGE, &["z"]);
}

#[test]
fn the_prebuilt_kernels_compute() {
    let sandbox = Sandbox::new();
    let bench = prebuilt("bench");
    for (call, result) in
        [("sieve(100)", "25"), ("sum-squares(10)", "385"), ("echo([1, 2, 3])", "[1, 2, 3]"), ("nop()", "")]
    {
        assert_eq!(text(&sandbox.json(&["call", &bench, call]), "result"), result, "{call}");
    }
    let one = text(&sandbox.json(&["call", &bench, "matmul-naive(24)"]), "result").to_owned();
    assert_eq!(text(&sandbox.json(&["call", &bench, "matmul-blocked(24)"]), "result"), one);
}

#[test]
fn an_export_can_be_named_in_full_or_by_its_last_part() {
    let sandbox = Sandbox::new();
    sandbox.write("data/weekly.csv", "date,co2_ppm\n2000-01-01,370.0\n2000-01-08,371.0\n");
    let full = "vac:study/monthly-means@0.1.0#monthly(\"data/weekly.csv\")";
    for call in [full, "monthly(\"data/weekly.csv\")"] {
        let called = sandbox.json(&["call", "builtin:series", call, "--grant", "dir:ro=data"]);
        assert_eq!(text(&called, "result"), "ok([{year: 2000, month: 1, mean-uppm: 370500000, weeks: 2}])");
    }
    let refused = sandbox.vac(&["call", "builtin:series", full]).ok();
    assert!(
        refused.out().starts_with("err(") && refused.stderr.contains("--grant file:ro=data"),
        "{refused:?}"
    );
    sandbox.vac(&["call", "builtin:series", "weekly(\"x\")"]).fails(USAGE, &["no export `weekly`"]);
}

#[test]
fn an_ambiguous_name_is_refused_with_the_choices() {
    let sandbox = Sandbox::new();
    let text = r#"(component
        (core module $m (func (export "f") (result i32) (i32.const 1)))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (instance $a (export "f" (func $f)))
        (export "my:pkg/a@1.0.0" (instance $a))
        (export "my:pkg/b@1.0.0" (instance $a)))"#;
    sandbox.write("two.wasm", wat::parse_str(text).unwrap());
    let ran = sandbox.vac(&["call", "two.wasm", "f()"]).fails(USAGE, &["2 exports end in `f`"]);
    assert!(
        ran.stderr.contains("`my:pkg/a@1.0.0#f`") && ran.stderr.contains("`my:pkg/b@1.0.0#f`"),
        "{}",
        ran.stderr
    );
    assert_eq!(sandbox.vac(&["call", "two.wasm", "my:pkg/b@1.0.0#f()"]).ok().out(), "1\n");
}

#[test]
fn inspect_shows_types_imports_and_grants() {
    let sandbox = Sandbox::new();
    let series = sandbox.json(&["inspect", "builtin:series"]);
    assert_eq!(text(&series, "kind"), "component");
    assert!(text(&series, "cid").starts_with("bafkr4i") && number(&series, "size_bytes") > 1000);
    let export = series["exports"][0].as_str().unwrap();
    assert!(export.contains("#monthly(path: string) -> result<list<record { year: s32"), "{export}");
    let import = &series["imports"][0];
    assert!(text(import, "name").starts_with("vac:kernel/files@"));
    assert_eq!(import["grants"][0], "dir:ro=DIR");
    assert_eq!(series["refused"], Value::Null);
    sandbox.write("guest.wasm", Guest::new().wasm());
    let guest = sandbox.json(&["inspect", "guest.wasm"]);
    assert_eq!((text(&guest, "kind"), &guest["is_command"]), ("command-0.1", &true.into()));
    let names: Vec<&str> =
        guest["imports"].as_array().unwrap().iter().map(|import| text(import, "name")).collect();
    assert!(names.iter().any(|name| name.starts_with("wasi:filesystem/types@0.2.")), "{names:?}");
    let refused = sandbox.json(&["inspect", &prebuilt("bench-host")]);
    assert!(text(&refused, "refused").contains("`vac:bench/host@0.1.0`"));
    let shown = sandbox.vac(&["inspect", "builtin:series"]).ok().out();
    assert!(shown.contains("works on --grant dir:ro=DIR or"), "{shown}");
}

/// What a command prints with `--json`, whether it went well or not.
#[test]
fn every_command_prints_one_json_object_and_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", Guest::new().say("to stdout {not json}\n").wasm());
    sandbox.write("trap.wasm", Guest::new().say("x").raw("unreachable").wasm());
    sandbox.write("s.star", "print('hello')\n");
    sandbox.write("bad.star", "print(1 +)\n");
    sandbox.write("stops.star", "print(1)\nfail('x')\n");
    let cid = sandbox.vac(&["store", "put", "s.star"]).ok().out().trim().to_owned();
    let commands: &[&[&str]] = &[
        &["run", "guest.wasm"],
        &["run", "s.star"],
        &["run", "trap.wasm"],
        &["run", "bad.star"],
        &["run", "stops.star"],
        &["run", "missing"],
        &["run", "guest.wasm", "--ticks", "3"],
        &["run", "guest.wasm", "--grant", "dir:ro=missing"],
        &["call", "builtin:series", "monthly(\"x\")"],
        &["call", "builtin:series", "monthly(1)"],
        &["inspect", "guest.wasm"],
        &["inspect", "s.star"],
        &["runs"],
        &["runs", "-n", "1"],
        &["log", "last"],
        &["log", "none"],
        &["replay", "last"],
        &["replay", "none"],
        &["verify", "last"],
        &["verify", "--all"],
        &["store", "put", "s.star"],
        &["store", "get", &cid],
        &["store", "get", "bad"],
        &["store", "ls"],
        &["store", "fsck"],
        &["store", "gc"],
        &["store", "rm", &cid],
        &["store", "rm", &cid],
    ];
    for args in commands {
        let ran = sandbox.vac(&[&["--json"], *args].concat());
        let object = ran.json();
        if ran.code() != 0 && object["exit_code"].is_null() {
            assert_eq!(object["error"]["exit_code"], ran.code(), "{args:?}: {object}");
        }
        if let Some(code) = object["exit_code"].as_i64() {
            assert_eq!(code, i64::from(ran.code()), "{args:?}: {object}");
        }
        if let Value::Object(error) = &object["error"] {
            let keys: Vec<&str> = error.keys().map(String::as_str).collect();
            assert_eq!(keys, ["kind", "message", "hint", "exit_code"], "{args:?}");
        }
    }
}

#[test]
fn the_object_of_a_run_has_all_that_the_run_printed() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", Guest::new().say("to stdout {\"a\": 1}\n").exit(9).wasm());
    let ran = sandbox.vac(&["--json", "run", "guest.wasm"]);
    let object = ran.json();
    assert_eq!((ran.code(), number(&object, "exit_code")), (9, 9));
    assert_eq!(text(&object, "stdout"), "to stdout {\"a\": 1}\n");
    assert_eq!(text(&object, "outcome"), "exit 9");
    assert_eq!(text(&object, "head").len(), 64);
    assert_eq!(text(&object, "run").len(), 16);
}

/// The end of a run is written after its last entry, and was not read from there.
#[test]
fn a_run_that_ended_says_when() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", Guest::new().wasm());
    sandbox.vac(&["run", "guest.wasm"]).ok();
    let runs = sandbox.json(&["runs"]);
    let (started, ended) = (text(&runs["runs"][0], "started"), text(&runs["runs"][0], "ended"));
    assert!(started <= ended && started.ends_with('Z') && started.starts_with("20"), "{started} {ended}");
}

/// Identities can be typed short, from either end.
#[test]
fn a_run_can_be_named_by_a_part_of_its_name() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", Guest::new().wasm());
    let run = text(&sandbox.json(&["run", "guest.wasm"]), "run").to_owned();
    for name in [run.as_str(), &run[..4], &run[10..], "last"] {
        assert_eq!(text(&sandbox.json(&["log", name]), "run"), run, "{name}");
    }
    sandbox.vac(&["run", "guest.wasm"]).ok();
    sandbox.vac(&["log", "0"]).fails(USAGE, &["means 2 runs"]);
    sandbox.vac(&["log", ""]).fails(USAGE, &[]);
}

/// It was there for commands only.
#[test]
fn a_call_has_the_environment_that_was_granted_or_set() {
    let sandbox = Sandbox::new();
    let module = r#"(module
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "count") (result i32) (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))
        (func (export "last") (result i32) (drop (call $get (i32.const 100) (i32.const 1000)))
          (i32.load (i32.load (i32.const 100)))))"#;
    sandbox.write("env.wasm", wat::parse_str(module).unwrap());
    assert_eq!(sandbox.vac(&["call", "env.wasm", "count()"]).ok().out().trim(), "0");
    let typed = ["call", "env.wasm", "count()", "last()", "--env", "A=b"];
    assert!(sandbox.vac(&typed).ok().out().contains("1"));
    // `A=b` and its end.
    assert_eq!(sandbox.json(&typed)["calls"][1]["result"], (0x0062_3d41).to_string());
    sandbox.vac(&["replay", "last"]).ok();
    let granted =
        sandbox.command(&["--json", "call", "env.wasm", "last()", "--grant", "env:VAC_TEST_VARIABLE"]);
    let mut granted = granted;
    let out = granted.env("VAC_TEST_VARIABLE", "x").output().unwrap();
    let first = u32::from_le_bytes(*b"VAC_").to_string();
    assert!(String::from_utf8(out.stdout).unwrap().contains(&first));
    // Another future has the same.
    let run = sandbox.json(&typed)["run"].as_str().unwrap().to_owned();
    let end = sandbox.json(&["log", &run])["events"].as_array().unwrap().len().to_string();
    let forked = sandbox.json(&["fork", &run, "--event", &end, "--", "last()"]);
    assert_eq!(forked["calls"][2]["result"], (0x0062_3d41).to_string(), "{forked}");
    sandbox.vac(&["replay", "last"]).ok();
}

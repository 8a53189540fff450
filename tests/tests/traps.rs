//! Where a program was when it ended: its calls, by name.

use serde_json::Value;

use crate::support::{Sandbox, text};

const FAULT: i32 = 4;

/// Traps in three ways; one of its functions has a name that a terminal would obey.
const PROGRAM: &str = r#"(module $falls
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $inner (param i32) (if (i32.eq (local.get 0) (i32.const 1)) (then unreachable))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (call $deeper (local.get 0))))
    (if (i32.gt_u (local.get 0) (i32.const 100)) (then (call $down (local.get 0))))
    (if (i32.eq (local.get 0) (i32.const 3)) (then (call $spin)))
    (if (i32.eq (local.get 0) (i32.const 4)) (then (call $exit (i32.const 9)))))
  (func $deeper (param i32) (call $deeper (local.get 0)) (drop (i32.load (local.get 0))))
  (func $down (param i32) (if (i32.eqz (local.get 0)) (then unreachable))
    (call $down (i32.sub (local.get 0) (i32.const 1))))
  (func $spin (loop $again (br $again)))
  (func $"outer\1b[31m" (param i32) (call $inner (local.get 0)))
  (func $fall (export "fall") (param i32) (call $"outer\1b[31m" (local.get 0)))
  (func $start (export "_start") (call $fall (i32.const 1))))"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("falls.wasm", wat::parse_str(PROGRAM).unwrap());
    sandbox
}

/// Names, the innermost first.
fn names(value: &Value) -> Vec<&str> {
    value["stack"].as_array().unwrap().iter().filter_map(|frame| frame["function"].as_str()).collect()
}

#[test]
fn a_trap_says_where_in_the_program_it_was() {
    let sandbox = sandbox();
    let ran = sandbox.vac(&["run", "falls.wasm"]).fails(FAULT, &["trap: wasm `unreachable`"]);
    let stack = ran.stderr.split_once("STACK  FUNCTION").unwrap_or_else(|| panic!("{}", ran.stderr)).1;
    let rows: Vec<Vec<&str>> = stack.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["0", "inner", "falls"], "{stack}");
    assert!(rows[1][1].starts_with("outer") && !stack.contains('\u{1b}'), "{stack:?}");
    assert_eq!((rows[2][1], rows[3][1]), ("fall", "start"), "{stack}");
    // No record has it; a replay finds it again.
    let replayed = sandbox.vac(&["replay", "last"]).ok();
    assert!(replayed.out().ends_with(stack), "{} {stack}", replayed.out());
    let json = sandbox.vac(&["--json", "run", "falls.wasm"]).json();
    let frames = json["stack"].as_array().unwrap();
    assert_eq!((text(&frames[0], "function"), text(&frames[0], "module")), ("inner", "falls"));
    assert_eq!(sandbox.json(&["replay", "last"])["stack"], json["stack"]);
}

#[test]
fn a_stack_is_cut_where_its_replay_cuts_it() {
    let sandbox = sandbox();
    let ran = sandbox.vac(&["--json", "call", "falls.wasm", "fall(101)"]).json();
    assert_eq!(names(&ran), ["down"; 20], "{ran}");
    assert_eq!(sandbox.json(&["replay", "last"])["stack"], ran["stack"]);
    let shown = sandbox.vac(&["call", "falls.wasm", "fall(101)"]).fails(FAULT, &["unreachable"]).stderr;
    assert!(shown.ends_with("\n    …\n"), "{shown}");
    assert!(sandbox.vac(&["replay", "last"]).ok().out().ends_with("\n    …\n"));
}

/// What the meter calls to stop a program is not the program's.
#[test]
fn a_limit_says_where_the_program_was() {
    let sandbox = sandbox();
    for (call, limit, innermost) in
        [("fall(2)", "--limit=depth=64KiB", "deeper"), ("fall(3)", "--ticks=100000", "spin")]
    {
        let ran = sandbox.vac(&["--json", "call", "falls.wasm", limit, call]);
        assert_eq!(ran.code(), FAULT);
        assert_eq!(ran.json()["stack"][0]["function"], innermost, "{}", ran.out());
    }
    // Where the clock ended it, only the run itself knows.
    let ran = sandbox.vac(&["--json", "call", "falls.wasm", "--time=500ms", "fall(3)"]).json();
    assert_eq!((names(&ran)[0], &ran["error"]["kind"]), ("spin", &"time".into()), "{ran}");
    assert_eq!(sandbox.json(&["replay", "last"])["stack"], serde_json::json!([]));
    let ended = sandbox.vac(&["--json", "call", "falls.wasm", "fall(4)"]).json();
    assert!(text(&ended, "outcome").starts_with("exit: ") && names(&ended).is_empty(), "{ended}");
}

#[test]
fn a_script_shows_the_stack_of_the_kernel_that_ended_it_only() {
    let sandbox = sandbox();
    let run = |script: &str| {
        sandbox.write("s.star", format!("K = kernel('falls.wasm')\n{script}\n"));
        sandbox.vac(&["--json", "run", "s.star"]).json()
    };
    assert_eq!(names(&run("K.fall(1)"))[0], "inner");
    let own = run("K.fall(0)\nfail('its own')");
    assert!(text(&own, "outcome").contains("its own") && names(&own).is_empty(), "{own}");
}

#[test]
fn an_export_says_where_it_ends_otherwise() {
    let sandbox = sandbox();
    for (command, alike, words) in [
        (&["call", "falls.wasm", "fall(0)"][..], true, ""),
        (&["run", "falls.wasm"], true, ""),
        (&["call", "falls.wasm", "fall(0)", "fall(1)"], false, "does not print what calls gave"),
        (&["run", "falls.wasm", "--ticks", "500"], false, "the component has no limits"),
    ] {
        sandbox.vac(command);
        let exported = sandbox.json(&["export-replay", "last", "-o", "x.wasm"]);
        assert_eq!(exported["ends_alike"], alike, "{exported}");
        let said = sandbox.vac(&["export-replay", "last", "-o", "x.wasm"]).ok().stderr;
        assert!(said.contains(words) && said.is_empty() == alike, "{said}");
    }
}

//! Another future of a run: its past is that of the run and is not done again, and what follows is a run like any.

use serde_json::Value;

use crate::guest::{Guest, ROOT};
use crate::support::{Sandbox, number, text};

const USAGE: i32 = 2;

/// Keeps a number in its memory.
const COUNTER: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "add") (param i32) (result i32) (local $n i32)
    (loop $again (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 1000))))
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (local.get 0)))
    (i32.load (i32.const 0)))
  (func (export "get") (result i32) (i32.load (i32.const 0)))
  (func (export "fail") unreachable))"#;

fn counter() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("counter.wasm", wat::parse_str(COUNTER).unwrap());
    sandbox
}

fn calls(sandbox: &Sandbox, calls: &[&str]) -> Value {
    sandbox.json(&[&["call", "counter.wasm"], calls].concat())
}

/// Forks, and checks that the new run replays and verifies alone.
fn fork(sandbox: &Sandbox, run: &Value, event: &str, new: &[&str]) -> Value {
    let args = [&["fork", text(run, "run"), "--event", event][..], new].concat();
    let forked = sandbox.json(&args);
    assert_ne!(text(&forked, "run"), text(run, "run"));
    let replayed = sandbox.json(&["replay", text(&forked, "run")]);
    assert_eq!(text(&replayed, "head"), text(&forked, "head"));
    sandbox.vac(&["verify", text(&forked, "run")]).ok();
    forked
}

#[test]
fn a_fork_goes_on_from_a_call_with_others() {
    let sandbox = counter();
    let run = calls(&sandbox, &["add(1)", "x = add(20)", "add(300)"]);
    let forked = fork(&sandbox, &run, "2", &["--", "add(4000)", "add($x)"]);
    assert_eq!(text(&forked, "result"), "4042");
    let given: Vec<&str> = forked["calls"].as_array().unwrap().iter().map(|c| text(c, "result")).collect();
    assert_eq!(given, ["1", "21", "4021", "4042"]);
    // The run that it came from is what it was.
    let replayed = sandbox.json(&["replay", text(&run, "run")]);
    assert_eq!(text(&replayed, "head"), text(&run, "head"));
    // At the end, nothing of it is left out; at the start, all is.
    assert_eq!(text(&fork(&sandbox, &run, "3", &["--", "get()"]), "result"), "321");
    assert_eq!(text(&fork(&sandbox, &run, "0", &["--", "get()"]), "result"), "0");
    // Without new calls it ends there.
    assert_eq!(text(&fork(&sandbox, &run, "2", &[]), "result"), "21");
}

#[test]
fn a_fork_is_forked_again_without_the_runs_before_it() {
    let sandbox = counter();
    let run = calls(&sandbox, &["add(1)", "add(20)"]);
    let one = fork(&sandbox, &run, "1", &["--", "add(300)"]);
    sandbox.vac(&["runs", "rm", text(&run, "run")]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    let two = fork(&sandbox, &one, "2", &["--", "add(4000)"]);
    assert_eq!(text(&two, "result"), "4301");
}

#[test]
fn equal_forks_have_equal_heads_from_the_start_or_a_snapshot() {
    let sandbox = counter();
    let run = calls(&sandbox, &["add(1)", "add(20)", "add(300)", "add(4000)"]);
    let args = ["fork", text(&run, "run"), "--event", "3", "--", "add(5)"];
    let (one, two) = (sandbox.json(&args), sandbox.json(&args));
    assert_eq!(text(&one, "head"), text(&two, "head"));
    assert_eq!(text(&one, "result"), "326");
    sandbox.vac(&["replay", text(&run, "run"), "--snapshots", "1"]).ok();
    // It is of use to those who trust it, and nobody else begins there.
    let again = sandbox.vac(&args).ok();
    assert!(!again.stderr.contains("a snapshot"), "{}", again.stderr);
    let args = ["fork", text(&run, "run"), "--event", "3", "--from-snapshot", "--", "add(5)"];
    let ran = sandbox.vac(&args).ok();
    assert!(ran.stderr.contains("a snapshot before event 3 saved"), "{}", ran.stderr);
    assert!(ran.stderr.contains(text(&one, "head")), "{}", ran.stderr);
    assert_eq!(ran.out(), "1\n21\n321\n326\n");
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn what_is_inside_of_a_call_is_left_where_that_begins() {
    let sandbox = Sandbox::new();
    let draws = r#"(module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "draw") (result i32)
        (drop (call $random (i32.const 0) (i32.const 4)))
        (drop (call $random (i32.const 0) (i32.const 4)))
        (i32.load (i32.const 0))))"#;
    sandbox.write("counter.wasm", wat::parse_str(draws).unwrap());
    let run = calls(&sandbox, &["draw()", "draw()", "draw()"]);
    let log = sandbox.json(&["log", text(&run, "run"), "--class", "kernel"]);
    let second = number(&log["events"][1], "event");
    let inside = (second + 1).to_string();
    let ran = sandbox.vac(&["fork", text(&run, "run"), "--event", &inside, "--", "draw()"]).ok();
    assert!(ran.stderr.contains(&format!("at event {second}")), "{}", ran.stderr);
    // Entropy goes on where it was: the second draw is the same.
    let second_draw = text(&run["calls"][1], "result");
    assert_eq!(ran.out().lines().nth(1), Some(second_draw));
    // Behind a snapshot, too.
    sandbox.vac(&["replay", text(&run, "run"), "--snapshots", "1"]).ok();
    let again =
        sandbox.vac(&["fork", text(&run, "run"), "--event", &inside, "--from-snapshot", "--", "draw()"]).ok();
    assert!(again.stderr.contains("saved"), "{}", again.stderr);
    assert_eq!(again.out(), ran.out());
}

#[test]
fn what_cannot_be_forked_says_why() {
    let sandbox = counter();
    let run = calls(&sandbox, &["add(1)", "add(20)"]);
    let id = text(&run, "run");
    sandbox.vac(&["fork", id, "--event", "9"]).fails(USAGE, &["has no event 9", "0 to 2"]);
    sandbox.vac(&["fork", id, "--event", "0"]).fails(USAGE, &["needs calls of its own"]);
    sandbox.vac(&["fork", id, "--event", "1", "--", "nothing()"]).fails(USAGE, &["nothing"]);
    sandbox.write("it.star", "print(1)");
    sandbox.vac(&["run", "it.star"]).ok();
    sandbox.vac(&["fork", "last", "--event", "1"]).fails(USAGE, &["is a script, which cannot be forked"]);
    // A call that failed is no past to go on from.
    let failed = sandbox.vac(&["--json", "call", "counter.wasm", "add(1)", "fail()"]).json();
    let args = ["--json", "fork", text(&failed, "run"), "--event", "2", "--", "get()"];
    assert_eq!(text(&sandbox.vac(&args).ok().json(), "result"), "1");
}

/// Writes a file, reads another, writes again, and a third at the end.
fn writer(sandbox: &Sandbox) -> Value {
    let guest = Guest::new()
        .random()
        .open(ROOT, "in", "r")
        .read()
        .open(ROOT, "one", "wct")
        .write("first ")
        .write("second ")
        .write("third ")
        .clocks()
        .random();
    sandbox.write("d/in", "what is read");
    sandbox.write("writer.wasm", guest.wasm());
    sandbox.json(&["run", "writer.wasm", "--grant", "dir:rw=d"])
}

/// The event of the nth call of a function.
fn event(sandbox: &Sandbox, run: &Value, part: &str, nth: usize) -> u64 {
    let log = sandbox.json(&["log", text(run, "run"), "--name", part]);
    number(&log["events"][nth], "event")
}

/// The event of the nth write to the file, of all writes: those to the standard output lie between.
fn file_write(sandbox: &Sandbox, run: &Value, text_written: &str) -> u64 {
    let log = sandbox.json(&["log", text(run, "run"), "--class", "effect"]);
    let hex: String = text_written.bytes().map(|b| format!("{b:02x}")).collect();
    let found = log["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e.to_string().contains(&hex) || e.to_string().contains(text_written));
    number(found.unwrap_or_else(|| panic!("{log}")), "event")
}

#[test]
fn the_past_of_a_command_is_not_done_again() {
    let sandbox = Sandbox::new();
    let run = writer(&sandbox);
    assert_eq!(sandbox.read("d/one"), "first second third ");
    // What the past wrote is changed since. It stays changed, and the future goes on behind it.
    sandbox.write("d/one", "FIRST SECOND ");
    let at = file_write(&sandbox, &run, "third ").to_string();
    let args = ["fork", text(&run, "run"), "--event", &at, "--grant", "dir:rw=d"];
    let forked = sandbox.json(&args);
    assert_eq!(sandbox.read("d/one"), "FIRST SECOND third ");
    // The standard output of the past was written then.
    let (before, after) = (text(&run, "stdout"), text(&forked, "stdout"));
    assert!(before.ends_with(after) && after.len() < before.len() && !after.contains("open in"), "{after}");
    assert_eq!(text(&sandbox.json(&["replay", text(&forked, "run")]), "head"), text(&forked, "head"));
    // Again, and it is the same run.
    sandbox.write("d/one", "FIRST SECOND ");
    assert_eq!(text(&sandbox.json(&args), "head"), text(&forked, "head"));
    // A fork of the fork, with less allowed than its past had.
    let at = file_write(&sandbox, &forked, "third ").to_string();
    sandbox.write("d/one", "x");
    let less = sandbox.vac(&["--json", "fork", text(&forked, "run"), "--event", &at, "--grant", "dir:ro=d"]);
    assert_eq!(less.code(), USAGE, "{}", less.stderr);
    // What could not be forked leaves no run.
    let runs = sandbox.json(&["runs"]);
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3, "{runs}");
    assert_eq!(sandbox.read("d/one"), "x");
}

#[test]
fn a_past_whose_files_are_gone_is_refused_with_the_event() {
    let sandbox = Sandbox::new();
    let run = writer(&sandbox);
    let at = file_write(&sandbox, &run, "third ").to_string();
    let fork = |more: &[&str]| sandbox.vac(&[&["fork", text(&run, "run"), "--event", &at], more].concat());
    // The answers were shown as they are encoded.
    let words =
        ["the world is not what it was", "get-directories", "gave ([4099, \"d\"]), and now it would give ()"];
    fork(&[]).fails(USAGE, &words);
    std::fs::remove_file(sandbox.path("d/one")).unwrap();
    fork(&["--grant", "dir:rw=d"]).fails(USAGE, &["the world is not what it was", "open-at"]);
    assert!(!sandbox.path("d/one").exists());
    sandbox.write("d/one", "");
    sandbox.write("d/in", "something else");
    fork(&["--grant", "dir:rw=d"]).fails(USAGE, &["the world is not what it was", "read"]);
}

#[test]
fn a_command_that_was_not_told_its_arguments_can_be_given_others() {
    let sandbox = Sandbox::new();
    let guest = Guest::new().random().args_and_env().random();
    sandbox.write("args.wasm", guest.wasm());
    let run = sandbox.json(&["run", "args.wasm", "--", "one", "two"]);
    let told = event(&sandbox, &run, "environment#get-arguments", 0);
    let at = told.to_string();
    let forked = sandbox.json(&["fork", text(&run, "run"), "--event", &at, "--", "three"]);
    let expected = text(&run, "stdout").replace("one\ntwo\n", "three\n");
    assert!(expected.ends_with(text(&forked, "stdout")), "{expected}\n{forked}");
    assert!(text(&forked, "stdout").contains("three\n"));
    assert_eq!(text(&sandbox.json(&["replay", text(&forked, "run")]), "head"), text(&forked, "head"));
    sandbox.vac(&["verify", text(&forked, "run")]).ok();
    let after = (told + 1).to_string();
    sandbox
        .vac(&["fork", text(&run, "run"), "--event", &after, "--", "three"])
        .fails(USAGE, &[&format!("event {told} told the program its arguments")]);
    // Without new ones, the old ones are as good as told.
    let same = sandbox.json(&["fork", text(&run, "run"), "--event", &after]);
    assert!(text(&run, "stdout").ends_with(text(&same, "stdout")));
}

#[test]
fn a_fork_has_the_manifest_that_its_run_had() {
    let sandbox = Sandbox::new();
    let guest = Guest::new().open(ROOT, "a", "r").read().open(ROOT, "b", "r");
    sandbox.write("a", "text of a");
    sandbox.write("b", "text of b");
    sandbox.write("tool.wasm", guest.wasm());
    sandbox.write("tool.vac.toml", crate::manifests::manifest(&["file:ro=a"]));
    let run = sandbox.json(&["run", "tool.wasm", "--grant", "dir:rw=."]);
    // It is not in the program, and not beside it any more.
    std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    let args = ["fork", text(&run, "run"), "--event", "0", "--grant", "dir:rw=."];
    let forked = sandbox.vac(&args).ok().out();
    assert!(forked.contains(&format!("open b={}", crate::guest::errno::PERM)), "{forked}");
    let all = sandbox.vac(&[&args[..], &["--no-manifest"]].concat()).ok().out();
    assert!(all.contains("open b=0"), "{all}");
    // What it asks for must be granted to the fork as well.
    assert_eq!(sandbox.vac(&args[..4]).code(), 3);
}

/// Story: after a fork, files had the times and the numbers that they had before the guest changed them.
#[test]
fn times_and_names_that_the_past_changed_stay_changed() {
    let sandbox = Sandbox::new();
    let module = r#"(module
      (import "wasi_snapshot_preview1" "path_filestat_set_times"
        (func $times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_get" (func $get (param i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "abc")
      (func (export "change") (result i32)
        (i32.add (call $times (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1)
                   (i64.const 0) (i64.const 5000000000) (i32.const 4))
                 (call $unlink (i32.const 3) (i32.const 1) (i32.const 1))))
      (func (export "modified") (result i64)
        (drop (call $get (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
        (i64.load (i32.const 112)))
      (func (export "number") (result i64)
        (drop (call $get (i32.const 3) (i32.const 0) (i32.const 2) (i32.const 1) (i32.const 64)))
        (i64.load (i32.const 72))))"#;
    sandbox.write("times.wasm", wat::parse_str(module).unwrap());
    for name in ["a", "b", "c"] {
        sandbox.write(&format!("d/{name}"), "x");
    }
    let grant = ["--grant", "dir:rw=d"];
    let typed = ["call", "times.wasm", "change()", "modified()", "number()"];
    let run = sandbox.json(&[&typed[..], &grant].concat());
    let of = |run: &Value, n: usize| run["calls"][n]["result"].clone();
    assert_eq!((of(&run, 0), of(&run, 1)), ("0".into(), "5000000000".into()), "{run}");
    let second = event(&sandbox, &run, "vac:run/kernel", 1);
    let args = ["fork", text(&run, "run"), "--event", &second.to_string(), "--grant", "dir:rw=d", "--"];
    let forked = sandbox.json(&[&args[..], &["modified()", "number()"]].concat());
    assert_eq!((of(&forked, 1), of(&forked, 2)), (of(&run, 1), of(&run, 2)), "{forked}");
    sandbox.vac(&["replay", text(&forked, "run")]).ok();
}

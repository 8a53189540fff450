//! How much of a run is kept changes nothing else of it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::guest::{Guest, ROOT};
use crate::support::{Numbers, Sandbox, number, text, wait};

const USAGE: i32 = 2;

/// A guest that reads a file too long for an event, and says it.
fn reader() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", "too long to stand in an event, and so a body of its own. ".repeat(10));
    let guest = Guest::new().random().open(ROOT, "input", "r").read().clocks();
    sandbox.write("read.wasm", guest.wasm());
    sandbox
}

fn run(sandbox: &Sandbox, mode: &str) -> Value {
    sandbox.json(&["run", "read.wasm", "--grant", "dir:rw=d", "--record", mode])
}

#[test]
fn a_digest_is_a_record_without_long_bodies() {
    let sandbox = reader();
    let digest = run(&sandbox, "digest");
    let id = text(&digest, "run");
    sandbox.vac(&["verify", id]).ok();
    assert_eq!(run(&sandbox, "digest")["head"], digest["head"], "equal runs have equal heads");
    let log = sandbox.json(&["log", id]);
    let kept = log["events"].as_array().unwrap().iter().filter(|event| event["answer"]["kept"] == false);
    assert!(kept.count() > 0, "{log}");
    let ran = sandbox.vac(&["replay", id]).fails(USAGE, &["event ", "only the digest was recorded"]);
    assert!(ran.stderr.contains("--record=full"), "{}", ran.stderr);
    sandbox.vac(&["replay", id, "--with", "read.wasm"]).fails(USAGE, &["only the digest was recorded"]);
    // That was called damage.
    sandbox.vac(&["export-replay", id, "-o", "r.wasm"]).fails(USAGE, &["only the digest was recorded"]);

    // Another run has the bytes in the store, and then they do.
    let full = run(&sandbox, "full");
    assert_ne!(full["head"], digest["head"], "the header says which it is");
    assert_eq!((&full["stdout"], &full["ticks"]), (&digest["stdout"], &digest["ticks"]));
    let replayed = sandbox.json(&["replay", id]);
    assert_eq!(replayed["head"], digest["head"]);
    sandbox.vac(&["replay", id, "--with", "read.wasm"]).ok();
    sandbox.vac(&["runs", "rm", text(&full, "run")]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["replay", id]).fails(USAGE, &["only the digest was recorded"]);
    sandbox.vac(&["verify", "--all"]).ok();
}

/// What a script loads is its program, and is kept.
#[test]
fn a_script_replays_from_a_digest_if_it_read_nothing_long() {
    let sandbox = Sandbox::new();
    let module =
        "(module (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))";
    sandbox.write("add.wasm", wat::parse_str(module).unwrap());
    sandbox.write("a.star", "print(kernel(\"add.wasm\").add(1, 2))\n");
    let run = sandbox.json(&["run", "a.star", "--record=digest"]);
    std::fs::remove_file(sandbox.path("add.wasm")).unwrap();
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.json(&["replay", "last"])["head"], run["head"]);
}

#[test]
fn what_is_not_recorded_leaves_nothing_and_is_the_same_run() {
    let sandbox = reader();
    let off = run(&sandbox, "off");
    assert_eq!((&off["run"], &off["head"]), (&Value::Null, &Value::Null));
    assert!(sandbox.home_files("runs").is_empty());
    assert_eq!(sandbox.json(&["runs"])["runs"], Value::Array(vec![]));
    assert!(sandbox.json(&["store", "ls"])["objects"].as_array().unwrap().is_empty());
    let full = run(&sandbox, "full");
    for field in ["stdout", "ticks", "events", "outcome", "denied", "exit_code"] {
        assert_eq!(off[field], full[field], "{field}");
    }
    let said = sandbox.vac(&["run", "read.wasm", "--grant", "dir:rw=d", "--record=off"]).ok();
    assert!(said.stderr.starts_with("not recorded  "), "{}", said.stderr);
}

#[test]
fn grants_and_limits_hold_without_a_record() {
    let sandbox = reader();
    for mode in ["full", "digest", "off"] {
        let limited = sandbox.vac(&["run", "read.wasm", "--record", mode, "--ticks", "10"]);
        assert_eq!(limited.code(), 4, "{mode}");
        let limited = sandbox.vac(&["run", "read.wasm", "--record", mode, "--limit", "calls=3"]);
        assert_eq!(limited.code(), 4, "{mode}");
        let denied = sandbox.json(&["run", "read.wasm", "--record", mode]);
        assert_eq!(denied["denied"][0], "dir:ro=DIR", "{mode}: {denied}");
    }
    sandbox.vac(&["run", "read.wasm", "--record=some"]).fails(USAGE, &["--record"]);
}

#[test]
fn a_call_and_a_tree_work_without_a_record() {
    let sandbox = reader();
    let put = sandbox.json(&["store", "put", "d"]);
    let tree = format!("tree:rw={}", text(&put["objects"][0], "cid"));
    sandbox.write("write.wasm", Guest::new().open(ROOT, "new", "wc").write("new").wasm());
    let trees = |mode: &str| {
        let ran = sandbox.json(&["run", "write.wasm", "--grant", &tree, "--record", mode]);
        ran["trees"][0]["cid"].clone()
    };
    let cid = trees("off");
    assert_eq!(cid, trees("full"));
    sandbox.vac(&["store", "get", cid.as_str().unwrap(), "--output", "made"]).ok();
    assert_eq!(sandbox.read("made/new"), "new");
    let module = "(module (func (export \"one\") (result i32) (i32.const 1)))";
    sandbox.write("one.wasm", wat::parse_str(module).unwrap());
    let called = sandbox.json(&["call", "one.wasm", "one()", "--record=off"]);
    assert_eq!((text(&called, "result"), &called["run"]), ("1", &Value::Null));
}

/// A process that keeps digests is killed at random moments: what is there verifies, and replays up to its end.
#[test]
fn a_killed_digest_is_whole_up_to_its_end() {
    let sandbox = Sandbox::new();
    let letter = "abcdefghij".repeat(12);
    let busy = Guest::new().times(8_000, Guest::new().say(&letter).random()).wasm();
    sandbox.write("busy.wasm", busy);
    sandbox.compile("busy.wasm");
    let (mut numbers, mut killed) = (Numbers(11), 0);
    for _ in 0..8 {
        let mut command = sandbox.command(&["run", "busy.wasm", "--record=digest"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(numbers.below(200) as u64));
        child.kill().unwrap();
        wait(&mut child, "vac run busy.wasm");
        let runs = sandbox.json(&["runs"]);
        let Some(last) = runs["runs"].as_array().unwrap().last().cloned() else { continue };
        sandbox.vac(&["verify", text(&last, "run")]).ok();
        if last["status"] != "killed" || number(&last, "events") == 0 {
            continue;
        }
        killed += 1;
        let events = number(&last, "events");
        let replayed = sandbox.vac(&["replay", text(&last, "run")]).ok().out();
        // The answer of the last may not have been durable.
        let is_told = |event: u64| replayed.contains(&format!("replays up to there, event {event}\n"));
        assert!(is_told(events - 1) || is_told(events.saturating_sub(2)), "{events} events: {replayed}");
        let with = sandbox.vac(&["replay", text(&last, "run"), "--with", "busy.wasm"]).ok().out();
        assert!(with.contains("up to where the record ends"), "{with}");
    }
    assert!(killed >= 1, "none was killed in its run: the test shows nothing");
    sandbox.vac(&["verify", "--all"]).ok();
}

/// What a script did before it met a damaged program is in its record, which has an end.
#[test]
fn a_script_that_loads_a_damaged_program_has_a_whole_record() {
    let sandbox = Sandbox::new();
    sandbox.write("cut.wasm", b"\0asm\x01\0\0\0\x01\xff");
    sandbox.write("study.star", "dir(\".\").write(\"kept\", b\"1\")\nkernel(\"cut.wasm\")\n");
    let ran = sandbox.vac(&["run", "study.star", "--grant", "dir:rw=."]);
    assert_ne!(ran.code(), 0, "{ran:?}");
    let verified = sandbox.json(&["verify", "last"]);
    assert_eq!(verified["runs"][0]["complete"], true, "{verified}\n{ran:?}");
}

#[test]
fn a_run_that_cannot_be_opened_does_not_hide_the_others() {
    let sandbox = Sandbox::new();
    sandbox.write("a.star", "print(1)\n");
    let runs = [(); 2].map(|()| crate::support::text(&sandbox.json(&["run", "a.star"]), "run").to_owned());
    let ledger = sandbox.home().join("runs").join(format!("{}.0000", runs[0]));
    std::fs::write(ledger, b"no record").unwrap();
    let verified = sandbox.vac(&["verify", "--all"]);
    assert_eq!(verified.code(), 6, "{verified:?}");
    let told = verified.out();
    assert!(
        told.contains(&format!("damaged {}", runs[0])) && told.contains(&format!("ok {}", runs[1])),
        "{told}"
    );
}

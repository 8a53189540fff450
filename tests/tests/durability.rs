//! What was acknowledged stays: through kills, cuts, flipped bits and several processes at once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::guest::{Guest, ROOT};
use crate::support::{Numbers, Sandbox, copy_folder, number, text, wait};

const INTEGRITY: i32 = 6;
const TRY_AGAIN: i32 = 75;

/// A guest with many events, some of which have bodies in the store.
fn busy(count: u32) -> Vec<u8> {
    let letter = "abcdefghij".repeat(12);
    Guest::new()
        .times(
            count,
            Guest::new().say(&letter).random().raw("(call $number (i64.extend_i32_u (global.get $n)))"),
        )
        .wasm()
}

/// A sandbox with a short run that ended, whose identity is given too.
fn with_one_run() -> (Sandbox, String) {
    let sandbox = Sandbox::cold();
    sandbox
        .write("d/input", "some input, long enough to be kept in the store and not in its event".repeat(3));
    let guest =
        Guest::new().open(ROOT, "input", "r").read().random().open(ROOT, "output", "wc").write("some output");
    sandbox.write("small.wasm", guest.wasm());
    let run = sandbox.json(&["run", "small.wasm", "--grant", "dir:rw=d"]);
    (sandbox, text(&run, "run").to_owned())
}

fn status_of(sandbox: &Sandbox, run: &str) -> String {
    let runs = sandbox.json(&["runs"]);
    let found = runs["runs"].as_array().unwrap().iter().find(|info| info["run"] == run);
    text(found.unwrap_or_else(|| panic!("no run {run} in {runs}")), "status").to_owned()
}

/// A process is killed at a random moment: in its start, in its run, in its end.
#[test]
fn a_killed_run_is_shown_as_killed_and_replays_up_to_there() {
    let (sandbox, first) = with_one_run();
    sandbox.write("busy.wasm", busy(8_000));
    sandbox.vac(&["run", "busy.wasm", "--ticks", "1"]);
    let (mut numbers, mut killed_in_run) = (Numbers(1), 0);
    for round in 0..16 {
        let mut command = sandbox.command(&["run", "busy.wasm"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(
            Duration::from_millis(numbers.below(if round % 2 == 0 { 40 } else { 200 }) as u64),
        );
        child.kill().unwrap();
        wait(&mut child, "vac run busy.wasm");
        killed_in_run += u32::from(check_last(&sandbox));
    }
    assert!(killed_in_run >= 3, "only {killed_in_run} were killed in their run: the test shows little");
    sandbox.vac(&["verify", "--all"]).ok();
    sandbox.vac(&["store", "fsck"]).ok();
    sandbox.vac(&["replay", &first]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["verify", "--all"]).ok();
}

/// Checks the newest run; says whether it was killed.
fn check_last(sandbox: &Sandbox) -> bool {
    let runs = sandbox.json(&["runs"]);
    let last = runs["runs"].as_array().unwrap().last().unwrap().clone();
    let verified = sandbox.json(&["verify", text(&last, "run")]);
    let is_killed = last["status"] == "killed";
    assert!(is_killed || ["ok", "quota"].contains(&text(&last, "status")), "{last}");
    assert_eq!(verified["runs"][0]["complete"], Value::Bool(!is_killed));
    if is_killed && number(&last, "events") > 0 {
        let replayed = sandbox.vac(&["replay", text(&last, "run")]).ok();
        assert!(replayed.out().contains("replays up to there"), "{}", replayed.out());
    }
    is_killed
}

#[test]
fn an_interrupted_run_ends_in_order() {
    let sandbox = Sandbox::new();
    let endless = "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop (br 0))))";
    sandbox.write("loop.wasm", wat::parse_str(endless).unwrap());
    // Compiled before, so that the interrupt finds it running on a slow machine, too.
    sandbox.vac(&["inspect", "loop.wasm"]).ok();
    let mut child = sandbox.command(&["run", "loop.wasm"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(wait(&mut child, "vac run loop.wasm").code(), Some(130));
    assert_eq!(text(&sandbox.json(&["runs"])["runs"][0], "status"), "interrupt");
    sandbox.vac(&["verify", "last"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
}

/// The files of one run: its ledger and its close record.
fn ledger_of(sandbox: &Sandbox, run: &str) -> (PathBuf, PathBuf) {
    let runs = sandbox.home().join("runs");
    (runs.join(format!("{run}.0000")), runs.join(format!("{run}.close")))
}

#[test]
fn a_ledger_that_was_cut_is_damaged_or_incomplete_and_never_more() {
    let (sandbox, other) = with_one_run();
    let run = sandbox.json(&["run", "small.wasm", "--grant", "dir:rw=d"]);
    let (run, head) = (text(&run, "run"), text(&run, "head"));
    let (ledger, close) = ledger_of(&sandbox, run);
    let (whole, closed) = (std::fs::read(&ledger).unwrap(), std::fs::read(&close).unwrap());
    let len = content_len(&whole);
    for cut in (0..len).step_by((len / 60).max(1)).chain([len - 1]) {
        std::fs::write(&ledger, &whole[..cut]).unwrap();
        std::fs::write(&close, &closed).unwrap();
        let what = format!("cut at {cut} of {len}");
        let ran = sandbox.vac(&["verify", run]);
        assert_eq!(ran.code(), INTEGRITY, "{what}: {ran:?}");
        assert_eq!(sandbox.vac(&["replay", run]).fails(INTEGRITY, &[]).code(), INTEGRITY, "{what}");
        assert_eq!(sandbox.vac(&["log", run]).code(), INTEGRITY, "{what}");
        sandbox.vac(&["runs"]).ok();
        std::fs::remove_file(&close).unwrap();
        let ran = sandbox.vac(&["verify", run]);
        // What follows the outcome is only a note, so without it the run is still whole.
        let is_whole = ran.out().starts_with("ok") && ran.out().contains(head);
        let is_told =
            ran.code() == INTEGRITY || ran.code() == 0 && (ran.out().starts_with("incomplete") || is_whole);
        assert!(is_told, "{what}, no close record: {ran:?}");
    }
    sandbox.vac(&["verify", &other]).ok();
    sandbox.vac(&["replay", &other]).ok();
    std::fs::write(&ledger, &whole).unwrap();
    std::fs::write(&close, &closed).unwrap();
    sandbox.vac(&["verify", "--all"]).ok();
}

/// A ledger may be allocated longer than it is; the rest is zeros.
fn content_len(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
}

/// One bit of the record of a run.
#[test]
fn a_flipped_bit_in_a_ledger_is_always_seen() {
    let (sandbox, run) = with_one_run();
    let (ledger, close) = ledger_of(&sandbox, &run);
    let expected = text(&sandbox.json(&["replay", &run]), "head").to_owned();
    for (file, rounds) in [(&ledger, 90), (&close, 30)] {
        let whole = std::fs::read(file).unwrap();
        let mut numbers = Numbers(7);
        for _ in 0..rounds {
            let (at, bit) = (numbers.below(content_len(&whole)), numbers.below(8));
            flip(file, &whole, at, bit);
            let ran = sandbox.vac(&["verify", &run]);
            assert_eq!(ran.code(), INTEGRITY, "bit {bit} of byte {at} of {}: {ran:?}", file.display());
            sandbox.vac(&["runs"]).ok();
        }
        std::fs::write(file, &whole).unwrap();
    }
    assert_eq!(text(&sandbox.json(&["replay", &run]), "head"), expected);
}

fn flip(file: &Path, whole: &[u8], at: usize, bit: usize) {
    let mut bytes = whole.to_vec();
    bytes[at] ^= 1 << bit;
    std::fs::write(file, bytes).unwrap();
}

/// One bit anywhere in the store: seen, repaired, or in bytes that carry nothing. Whatever is
/// printed is right.
#[test]
fn a_flipped_bit_in_the_store_is_never_a_wrong_answer() {
    let (sandbox, run) = with_one_run();
    let object = sandbox.json(&["store", "put", "d/input"]);
    let cid = text(&object["objects"][0], "cid");
    let right = sandbox.read("d/input");
    let (files, mut numbers, mut seen) = (sandbox.home_files("store"), Numbers(3), 0);
    assert!(!files.is_empty());
    for file in &files {
        let whole = std::fs::read(file).unwrap();
        let len = content_len(&whole);
        for _ in 0..if len == 0 { 0 } else { 40 } {
            let (at, bit) = (numbers.below(len), numbers.below(8));
            flip(file, &whole, at, bit);
            let what = format!("bit {bit} of byte {at} of {}", file.display());
            let got = sandbox.vac(&["store", "get", cid]);
            assert!(got.code() == INTEGRITY || got.code() == 0 && got.out() == right, "{what}: {got:?}");
            let checks = [&["verify", run.as_str()][..], &["store", "fsck"], &["replay", &run]]
                .map(|args| sandbox.vac(args).code());
            assert!(checks.iter().all(|code| [0, INTEGRITY].contains(code)), "{what}: {checks:?}");
            assert!(
                got.code() == 0 || checks[1] == INTEGRITY,
                "{what}: `get` sees what `fsck` does not: {checks:?}"
            );
            seen += u32::from(checks[1] == INTEGRITY);
        }
        std::fs::write(file, &whole).unwrap();
    }
    assert!(seen > 20, "only {seen} were seen");
    sandbox.vac(&["verify", "--all"]).ok();
}

#[test]
fn a_flipped_bit_in_compiled_code_changes_nothing() {
    let (sandbox, _) = with_one_run();
    let right = sandbox.json(&["run", "small.wasm", "--grant", "dir:rw=d"]);
    let file = sandbox.home_files("code").into_iter().next().expect("compiled code is kept");
    let mut numbers = Numbers(5);
    for _ in 0..24 {
        let whole = std::fs::read(&file).unwrap();
        flip(&file, &whole, numbers.below(whole.len()), numbers.below(8));
        let ran = sandbox.json(&["run", "small.wasm", "--grant", "dir:rw=d"]);
        assert_eq!((&ran["head"], &ran["stdout"]), (&right["head"], &right["stdout"]));
    }
    for len in [0, 1, 8, 40, 4096] {
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..len]).unwrap();
        let ran = sandbox.json(&["run", "small.wasm", "--grant", "dir:rw=d"]);
        assert_eq!(ran["head"], right["head"]);
    }
}

#[test]
fn several_processes_share_a_home() {
    let sandbox = Sandbox::new();
    sandbox.write("busy.wasm", busy(300));
    for processes in [2, 4] {
        let start = |i: usize| {
            let seed = i.to_string();
            let mut command = sandbox.command(&["--json", "run", "busy.wasm", "--seed", &seed]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut children: Vec<_> = (0..processes).map(start).collect();
        for child in &mut children {
            let status = wait(child, "vac run busy.wasm");
            let mut error = String::new();
            std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut error).unwrap();
            assert!(status.success(), "{status} {error}");
        }
    }
    let verified = sandbox.json(&["verify", "--all"]);
    assert_eq!(verified["runs"].as_array().unwrap().len(), 6);
    assert_eq!(verified["ok"], Value::Bool(true));
    sandbox.vac(&["store", "fsck"]).ok();
    // Equal seeds, equal heads, however the processes took turns.
    let heads: std::collections::BTreeSet<&str> =
        verified["runs"].as_array().unwrap().iter().map(|run| text(run, "head")).collect();
    assert_eq!(heads.len(), 4);
}

#[test]
fn collecting_garbage_during_a_run_takes_nothing_from_it() {
    let sandbox = Sandbox::new();
    sandbox.write("busy.wasm", busy(8_000));
    let mut command = sandbox.command(&["run", "-q", "busy.wasm"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut codes = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let ran = sandbox.vac(&["store", "gc"]);
        if ran.code() == TRY_AGAIN {
            assert!(!ran.error_line().is_empty());
        }
        codes.push(ran.code());
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    // Whoever comes second is told to try again, also if that is the run.
    if ended.status.code() == Some(TRY_AGAIN) {
        assert!(error.starts_with("error: "), "{error}");
        sandbox.vac(&["run", "-q", "busy.wasm"]).ok();
    } else {
        assert!(ended.status.success(), "{:?} {error}", ended.status);
    }
    assert!(codes.iter().all(|code| [0, TRY_AGAIN].contains(code)), "{codes:?}");
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
}

/// A home that another machine copied file by file is the same home.
#[test]
fn a_copied_home_is_the_same_home() {
    let (sandbox, run) = with_one_run();
    let other = Sandbox::new();
    copy_folder(&sandbox.home(), &other.home());
    other.vac(&["verify", &run]).ok();
    other.vac(&["replay", &run]).ok();
    assert_eq!(status_of(&other, &run), "ok");
}

//! Bugs that were found by reading and by using, each with its story.

use crate::support::{Sandbox, repository};

const DENIED: i32 = 3;

/// Errors of a script name it. A replay, which has it by CID, once named it otherwise, so every
/// failing script seemed to differ from its record.
#[test]
fn a_failing_script_replays() {
    let sandbox = Sandbox::new();
    for script in ["x = 1//0\n", "fail('no')\n", "kernel('builtin:series').montly('x')\n", "lenn(3)\n"] {
        sandbox.write("s.star", script);
        assert_ne!(sandbox.vac(&["run", "s.star"]).code(), 0, "{script}");
        assert!(sandbox.vac(&["replay", "last"]).ok().out().contains("equal"), "{script}");
    }
}

/// Text that a guest or a script chooses once went into a frame at its full length, and the
/// reader refused the frame: the run could not be read again, and nothing be collected.
#[test]
fn a_long_message_does_not_make_a_ledger_unreadable() {
    let sandbox = Sandbox::new();
    sandbox.write("s.star", "fail('x' * 3000000)\n");
    assert_ne!(sandbox.vac(&["run", "s.star"]).code(), 0);
    sandbox.vac(&["verify", "last"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["store", "gc"]).ok();
}

/// A script that was run by CID has no folder, and its paths were once opened as the operator's.
#[test]
fn a_script_by_cid_reads_no_file_of_the_host() {
    let sandbox = Sandbox::new();
    sandbox.write("s.star", "kernel('/etc/passwd')\n");
    let cid = sandbox.vac(&["store", "put", "s.star"]).ok().out().trim().to_owned();
    let ran = sandbox.vac(&["run", &cid]);
    assert_ne!(ran.code(), 0);
    assert!(!ran.stderr.contains("root:"), "{}", ran.stderr);
    assert!(ran.error_line().contains("no folder"), "{}", ran.stderr);
}

/// What a script wrote under a long name was named by a request that is not inline, where
/// nobody looked for links: it was collected, and verification said ok.
#[test]
fn what_a_script_wrote_is_kept_whatever_its_name() {
    let sandbox = Sandbox::new();
    let name = "n".repeat(100);
    let script = format!("print(write(dir('out', write = True), '{name}', 'kept' * 100))\n");
    sandbox.write("s.star", &script);
    let cid = sandbox.vac(&["run", "s.star"]).ok().out().trim().to_owned();
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.vac(&["store", "get", &cid]).ok().out(), "kept".repeat(100));
}

/// A link in `out`, planted by a guest that may write there, once led a script to its neighbours.
#[test]
fn a_link_in_out_does_not_lead_a_script_out() {
    let sandbox = Sandbox::new();
    sandbox.write("secret/x", "");
    sandbox.write("out/x", "");
    std::os::unix::fs::symlink("../secret", sandbox.path("out/planted")).unwrap();
    sandbox.write("s.star", "write(dir('out/planted', write = True), 'y', 'z')\n");
    assert_ne!(sandbox.vac(&["run", "s.star"]).code(), 0);
    assert!(!sandbox.path("secret/y").exists());
    sandbox.write("s.star", "write(dir('out', write = True), '../secret/y', 'z')\n");
    sandbox.vac(&["run", "s.star"]).fails(DENIED, &["only below"]);
}

/// The text of a call's result was once read as CBOR: 3 became -20.
#[test]
fn the_result_of_a_call_is_shown_as_it_was_given() {
    let sandbox = Sandbox::new();
    let program = repository().join("ring1-kernels/prebuilt/bench.wasm").display().to_string();
    assert_eq!(sandbox.vac(&["call", &program, "sieve(6)"]).ok().out(), "3\n");
    assert!(sandbox.vac(&["replay", "last"]).ok().out().contains("ended done 3"));
}

/// A record that ends while a new segment is begun was once damaged, and with it every
/// collection; it is what a power cut leaves.
#[test]
fn an_empty_last_segment_of_a_killed_run_is_no_damage() {
    let sandbox = Sandbox::new();
    sandbox.write("s.star", "print(1)\n");
    sandbox.vac(&["run", "s.star"]).ok();
    let files = sandbox.home_files("runs");
    let close = files.into_iter().find(|p| p.extension().is_some_and(|e| e == "close")).unwrap();
    std::fs::remove_file(&close).unwrap();
    std::fs::write(close.with_extension("0001"), "").unwrap();
    sandbox.vac(&["verify", "last"]).ok();
    sandbox.vac(&["store", "gc"]).ok();
}

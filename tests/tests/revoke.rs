//! `vac revoke`: a grant that is taken back while the run goes on.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::guest::{Guest, ROOT};
use crate::support::{Sandbox, number, text};

/// Opens and reads a file over and over, and says when that is no longer allowed.
fn patient() -> Vec<u8> {
    // The first text is the path that is opened afterwards.
    let read = "(global.set $n (i32.const 2000000))
        (block $over (loop $again
          (global.set $n (i32.sub (global.get $n) (i32.const 1)))
          (br_if $over (i32.eqz (global.get $n)))
          (br_if $again (i32.eqz (call $path_filestat_get (i32.const 3) (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 128))))))";
    Guest::new().raw(read).open(ROOT, "a", "r").read().wasm()
}

fn started(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = sandbox.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..4000 {
        let runs = sandbox.json(&["runs"]);
        let is_on = |run: &serde_json::Value| run["status"] == "running" && run["events"].as_u64() > Some(0);
        if runs["runs"].as_array().unwrap().iter().any(is_on) {
            return child;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    panic!("it never started: {:?}", child.wait_with_output());
}

#[test]
fn a_grant_that_is_taken_back_is_an_error_that_the_guest_sees_and_the_record_has() {
    let sandbox = Sandbox::new();
    sandbox.write("data/a", "text of a");
    sandbox.write("other/b", "text of b");
    sandbox.write("guest.wasm", patient());
    let run = started(&sandbox, &["run", "guest.wasm", "--grant", "dir:ro=data", "--grant", "dir:ro=other"]);
    let ran = sandbox.vac(&["revoke", "last", "7"]).fails(2, &["grant 7", "cannot be taken back"]);
    assert!(ran.stderr.contains("0 is `dir data`, 1 is `dir other`"), "{}", ran.stderr);
    assert!(sandbox.vac(&["revoke", "last"]).ok().out().contains("dir other"));
    let listed = sandbox.json(&["revoke", "last"]);
    assert_eq!((number(&listed["grants"][1], "grant"), text(&listed["grants"][1], "is")), (1, "dir other"));
    sandbox.vac(&["revoke", "last", "dir:ro=elsewhere"]).fails(2, &["dir:ro=elsewhere", "cannot be"]);
    let ended = sandbox.json(&["revoke", "last", "dir:ro=data"]);
    assert_eq!(number(&ended["grants"][0], "grant"), 0, "{ended}");
    assert_eq!(ended["grants"][0]["taken_back"], true);
    let again = sandbox.vac(&["revoke", "last", "dir:ro=data"]);
    // It may be over by now.
    assert!(again.stderr.contains("is over") || again.out().contains("was taken back already"), "{again:?}");
    let ended = run.wait_with_output().unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(
        out.starts_with("open a=") && !out.starts_with("open a=0") && !out.contains("text of a"),
        "{out}"
    );
    let log = sandbox.json(&["log", "last", "--name", "vac:run/revoke"]);
    assert_eq!(log["events"].as_array().unwrap().len(), 1);
    assert_eq!(number(&log["events"][0], "grant"), 0);
    sandbox.vac(&["verify", "last"]).ok();
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(text(&replayed, "outcome"), "exit 0");
    // It is over now.
    sandbox.vac(&["revoke", "last", "0"]).fails(2, &["is over"]);
    assert!(sandbox.home_files("revoke").is_empty());
}

/// Story: whoever took a grant back read the list of those that were wanted, and wrote it again with one
/// more. Of two at once, one was lost.
#[test]
fn grants_that_are_taken_back_at_once_are_all_taken_back() {
    const GRANTS: usize = 12;
    let sandbox = Sandbox::new();
    let mut args = vec!["run".to_owned(), "guest.wasm".to_owned()];
    for i in 0..GRANTS {
        sandbox.write(&format!("d{i}/a"), "x");
        args.extend(["--grant".to_owned(), format!("dir:ro=d{i}")]);
    }
    sandbox.write("guest.wasm", patient());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let run = started(&sandbox, &args);
    std::thread::scope(|scope| {
        // The first grant is what the guest looks at: it goes last.
        for i in 1..GRANTS {
            let sandbox = &sandbox;
            scope.spawn(move || sandbox.vac(&["revoke", "last", &i.to_string()]).ok());
        }
    });
    sandbox.vac(&["revoke", "last", "0"]).ok();
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let log = sandbox.json(&["log", "last", "--name", "vac:run/revoke"]);
    let mut taken: Vec<u64> = log["events"].as_array().unwrap().iter().map(|e| number(e, "grant")).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..GRANTS as u64).collect::<Vec<_>>());
    assert!(sandbox.home_files("revoke").is_empty());
    sandbox.vac(&["replay", "last"]).ok();
}

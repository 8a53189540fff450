//! What somebody meets who types their first commands: mistakes that are answered at once and in plain words.

use crate::calls::counters;
use crate::support::{Sandbox, text};

const USAGE: i32 = 2;
const INTEGRITY: i32 = 6;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// It became 1, and nothing said so.
#[test]
fn a_status_that_no_process_has_is_said() {
    let sandbox = Sandbox::new();
    let exits = |status: u32| {
        wat(&format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {status}))))"#
        ))
    };
    sandbox.write("p.wasm", exits(300));
    let ran = sandbox.vac(&["run", "p.wasm"]);
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr.contains("status is 300"), "{}", ran.stderr);
    sandbox.write("p.wasm", exits(255));
    let ran = sandbox.vac(&["run", "p.wasm"]);
    assert_eq!(ran.code(), 255);
    assert!(!ran.stderr.contains("status is"), "{}", ran.stderr);
}

/// A script noticed it when it used it, if it did; a service announced itself first.
#[test]
fn a_grant_of_what_is_not_there_is_refused_before_anything_starts() {
    let sandbox = Sandbox::new();
    sandbox.write("s.star", "print(\"never\")\n");
    for grant in ["dir:ro=none", "dir:rw=none", "mem:ro=none"] {
        let ran = sandbox.vac(&["run", "s.star", "--grant", grant]).fails(USAGE, &["none"]);
        assert_eq!(ran.out(), "", "{grant}");
    }
    let service = crate::net3::sandbox();
    let ran = service.vac(&["serve", "k.wasm", "--addr", "127.0.0.1:0", "--grant", "dir:ro=none"]);
    let ran = ran.fails(USAGE, &["none"]);
    assert!(!ran.stderr.contains("Serving"), "{}", ran.stderr);
}

#[test]
fn what_is_typed_wrong_is_answered_with_what_would_be_right() {
    let sandbox = Sandbox::new();
    let page = sandbox.vac(&["mem", "create", "m", "--page", "5000"]).fails(USAGE, &[]);
    assert!(page.stderr.contains("a power of two from 4 KiB to 512 KiB"), "{}", page.stderr);
    sandbox.vac(&["mem", "create", "m", "--page", "64KiB"]).ok();
    assert_eq!(sandbox.vac(&["mem", "read", "m", "0", "64KB"]).ok().stdout, vec![0; 64_000]);
    let len = sandbox.vac(&["mem", "read", "m", "0", "much"]).fails(USAGE, &["`much` is no length"]);
    assert!(len.stderr.contains("64KiB"), "{}", len.stderr);
    sandbox.write("s.star", "print(1)\n");
    let config = sandbox.vac(&["run", "s.star", "--config", "K"]).fails(USAGE, &["`K` is no value"]);
    assert!(!config.stderr.contains("variable"), "{}", config.stderr);
    sandbox.write("proof", "no proof");
    let check = sandbox.vac(&["mem", "check", "proof"]).fails(INTEGRITY, &["proof"]);
    assert!(!check.stderr.contains("verify --all"), "{}", check.stderr);
    sandbox.write("counters.wasm", counters());
    let handle =
        sandbox.vac(&["call", "counters.wasm", "both(1, 2)"]).fails(USAGE, &["a handle has no text"]);
    assert!(!handle.stderr.contains("UNSUPPORTED") && handle.stderr.contains("`$c`"), "{}", handle.stderr);
}

/// Sixteen were shown, as if that were all.
#[test]
fn bytes_that_are_cut_off_are_said_to_be() {
    let sandbox = Sandbox::new();
    sandbox.write("mirror.wasm", crate::call::mirror());
    sandbox.vac(&["call", "mirror.wasm", &format!("bytes({:?})", [255; 20])]).ok();
    let log = sandbox.vac(&["log", "last"]).ok().out();
    assert!(log.contains(&format!("0x{}… 20 bytes", "ff".repeat(16))), "{log}");
}

#[test]
fn a_list_of_nothing_has_no_head() {
    let sandbox = Sandbox::new();
    for (list, none) in
        [(["store", "ls"], "no objects"), (["mem", "ls"], "no memories"), (["tier", "ls"], "no tiers")]
    {
        let listed = sandbox.vac(&list).ok();
        assert_eq!(listed.out(), "", "{list:?}");
        assert!(listed.stderr.contains(none), "{}", listed.stderr);
    }
}

/// Colours were counted as width.
#[test]
fn columns_of_what_is_asked_stand_below_each_other() {
    let sandbox = Sandbox::new();
    sandbox.write("tool.wasm", wat("(module (memory (export \"memory\") 1) (func (export \"_start\")))"));
    let manifest = "version = 1\n[[ask]]\ngrant = \"stdin\"\nwhy = \"first reason\"\n\
                    [[ask]]\ngrant = \"env:HOME\"\nwhy = \"second reason\"\noptional = true\n";
    sandbox.write("tool.vac.toml", manifest);
    let mut command = sandbox.command(&["inspect", "tool.wasm"]);
    let shown = command.env("CLICOLOR_FORCE", "1").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let column = |word: &str| shown.lines().find_map(|line| line.find(word));
    assert!(column("first reason").is_some(), "{shown}");
    assert_eq!(column("first reason"), column("second reason"), "{shown}");
}

/// The program was named by its CID.
#[test]
fn a_fork_calls_the_program_what_its_run_called_it() {
    let sandbox = Sandbox::new();
    sandbox.write("one.wasm", wat(r#"(module (func (export "one") (result i32) (i32.const 1)))"#));
    let run = sandbox.json(&["call", "one.wasm", "one()"]);
    let forked = sandbox.json(&["fork", text(&run, "run"), "--event", "1", "--", "one()"]);
    assert_eq!(text(&forked["kernels"][0], "name"), "one.wasm");
    sandbox.vac(&["replay", "last"]).ok();
}

/// Looking at a program compiled it, which of a large one took half a minute.
#[test]
fn to_inspect_a_program_compiles_nothing_and_says_the_same() {
    let sandbox = Sandbox::cold();
    sandbox.write("counters.wasm", counters());
    sandbox.write(
        "core.wasm",
        wat(r#"(module (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
            (memory (export "memory") 1) (func (export "_start")) (func (export "f") (param f64) (result i64) (i64.const 1)))"#),
    );
    for name in ["counters.wasm", "core.wasm", "builtin:series"] {
        let before = sandbox.json(&["inspect", name]);
        assert!(sandbox.home_files("code").is_empty(), "{name}");
        let call = if name == "core.wasm" { "f(1)" } else { "no-such()" };
        // Whether or not there is such a function is known when it is compiled.
        sandbox.vac(&["call", name, call]);
        assert!(!sandbox.home_files("code").is_empty(), "{name}");
        assert_eq!(before, sandbox.json(&["inspect", name]), "{name}");
        std::fs::remove_dir_all(sandbox.home().join("code")).unwrap();
    }
    // What would be refused is refused.
    sandbox.write("bad.wasm", wat("(module (import \"env\" \"f\" (func)) (func (export \"_start\")))"));
    assert!(sandbox.json(&["inspect", "bad.wasm"])["refused"].is_string());
    let mut broken = wat("(component (core module (func (result i32) (i32.const 1))))");
    let at = broken.windows(2).rposition(|pair| pair == [0x41, 1]).unwrap();
    broken[at] = 0x42;
    sandbox.write("broken.wasm", broken);
    sandbox.vac(&["inspect", "broken.wasm"]).fails(INTEGRITY, &["valid"]);
}

/// What is typed for a program may be a run; and what the environment says looked as if it had to be typed.
#[test]
fn a_run_is_not_taken_for_a_file_and_a_home_need_not_be_typed() {
    let sandbox = Sandbox::new();
    sandbox.write("one.wasm", wat(r#"(module (func (export "one") (result i32) (i32.const 1)))"#));
    sandbox.vac(&["inspect", "last"]).fails(USAGE, &["there is no file `last`"]);
    sandbox.vac(&["call", "one.wasm", "one()"]).ok();
    let ran = sandbox.vac(&["inspect", "last"]).fails(USAGE, &["`last` is a run, and no program"]);
    assert!(ran.stderr.contains("`vac inspect one.wasm`"), "{}", ran.stderr);
    let mut bare = sandbox.bare(crate::support::program());
    let ran = crate::support::run({
        bare.env("VAC_HOME", sandbox.home()).args(["mem", "write"]);
        bare
    });
    assert!(ran.stderr.contains("Usage: vac mem write <NAME> <ADDRESS> <FILE>\n"), "{}", ran.stderr);
    for command in ["write", "diff", "read", "snapshot"] {
        let help = sandbox.vac(&["mem", command, "--help"]).ok().out();
        let empty = help.lines().find(|line| line.starts_with("  <") && line.trim_end().ends_with('>'));
        assert_eq!(empty, None, "{command}");
    }
}

//! What a person types wrong and what a machine does wrong: one clear error each, with the right
//! exit code, and never a panic.

use std::path::Path;

use crate::guest::Guest;
use crate::support::{Sandbox, repository, run, text};

const USAGE: i32 = 2;
const DENIED: i32 = 3;
const STOPPED: i32 = 4;
const INTEGRITY: i32 = 6;

/// A module whose `_start` does `code`.
fn module(code: &str) -> Vec<u8> {
    wat::parse_str(format!("(module (memory (export \"memory\") 1) (func (export \"_start\") {code}))"))
        .unwrap()
}

/// A sandbox with one file.
fn with(name: &str, bytes: impl AsRef<[u8]>) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(name, bytes);
    sandbox
}

#[test]
fn a_target_that_is_none_says_what_one_is() {
    let sandbox = with("empty.wasm", "");
    sandbox.write("text.wasm", "(module)");
    sandbox.write("noise", [0xff, 0xfe, 0x80]);
    sandbox.write("folder/x", "");
    let fails = |target: &str, words: &[&str]| sandbox.vac(&["run", target]).fails(USAGE, words).stderr;
    assert!(fails("missing.wasm", &["no file `missing.wasm`"]).contains("hint: a target is"));
    fails("folder", &["`folder` is a directory"]);
    fails("empty.wasm", &["`empty.wasm` is not WebAssembly", "got nothing"]);
    assert!(fails("text.wasm", &["`text.wasm` is not WebAssembly"]).contains("text form"));
    fails("noise", &["`noise` is"]);
    fails("builtin:none", &["no built-in kernel `none`"]);
    fails("bafkr4ibmtxotvgnsmsk6sn3csfg6fitm5an6nhrioz5wtwg3nuqvuvxll4", &["the store has no object"]);
    fails("x\u{1b}[2J", &["no file"]);
    fails("", &["no file"]);
}

#[test]
fn a_run_or_object_that_is_not_there_says_how_to_find_one() {
    let sandbox = Sandbox::new();
    let cid = "bafkr4ibmtxotvgnsmsk6sn3csfg6fitm5an6nhrioz5wtwg3nuqvuvxll4";
    for command in ["log", "replay", "verify"] {
        assert!(
            sandbox.vac(&[command, "last"]).fails(USAGE, &["no runs yet"]).stderr.contains("hint: `vac run")
        );
        sandbox.vac(&[command, "zzzz"]).fails(USAGE, &["no run `zzzz`"]);
        sandbox.vac(&[command, "../../etc"]).fails(USAGE, &["no run `../../etc`"]);
    }
    sandbox.vac(&["store", "get", cid]).fails(USAGE, &["no object", cid]);
    sandbox.vac(&["store", "rm", cid]).fails(USAGE, &["was not put by hand"]);
    for bad in [
        "bafy",
        "",
        "../x",
        "bafkr4ibmtxotvgnsmsk6sn3csfg6fitm5an6nhrioz5wtwg3nuqvuvxll5",
        &"b".repeat(10_000),
    ] {
        let ran = sandbox.vac(&["store", "get", bad]).fails(USAGE, &[]);
        assert!(ran.error_line().len() < 400, "{}", ran.error_line());
    }
}

#[test]
fn a_mistyped_command_is_corrected() {
    let sandbox = Sandbox::new();
    assert!(sandbox.vac(&["runn"]).fails(USAGE, &["'runn'"]).stderr.contains("'run'"));
    assert!(sandbox.vac(&["run", "x", "--tick", "5"]).fails(USAGE, &["--tick"]).stderr.contains("--ticks"));
    sandbox.vac(&["run", "x", "--memory", "lots"]).fails(USAGE, &["lots", "512MiB"]);
    sandbox.vac(&["run", "x", "--time", "soon"]).fails(USAGE, &["soon"]);
    sandbox.vac(&["run", "x", "--ticks", "-1"]).fails(USAGE, &[]);
    sandbox.vac(&["log", "last", "--class", "nice"]).fails(USAGE, &["nice", "effect"]);
    sandbox.vac(&["verify"]).fails(USAGE, &[]);
}

#[test]
fn a_loop_is_stopped_by_ticks_and_by_time() {
    let sandbox = with("loop.wasm", module("(loop (br 0))"));
    let start = "(module (memory (export \"memory\") 1) (func $s (loop (br 0))) (start $s) (func (export \"_start\")))";
    sandbox.write("start.wasm", wat::parse_str(start).unwrap());
    for guest in ["loop.wasm", "start.wasm"] {
        let ran = sandbox.vac(&["run", guest, "--ticks", "5000000"]).fails(STOPPED, &["5000000 ticks"]);
        assert!(ran.stderr.contains("--ticks N"), "{}", ran.stderr);
        assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "quota");
        sandbox.vac(&["replay", "last"]).ok();
        sandbox.vac(&["run", guest, "--time", "50ms"]).fails(STOPPED, &["50"]);
        assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "time");
        sandbox.vac(&["verify", "last"]).ok();
        sandbox.vac(&["replay", "last"]).ok();
    }
}

#[test]
fn a_script_that_loops_is_stopped_too() {
    let sandbox = with(
        "loop.star",
        "def f():\n  for i in range(1000000000):\n    for j in range(1000000000):\n      pass\nf()\n",
    );
    sandbox.vac(&["run", "loop.star", "--time", "200ms"]).fails(STOPPED, &[]);
    sandbox.write("deep.star", "def f(n):\n  return f(n + 1)\nf(0)\n");
    let ran = sandbox.vac(&["run", "deep.star"]);
    assert!([1, STOPPED].contains(&ran.code()), "{ran:?}");
}

#[test]
fn memory_ends_at_its_limit() {
    let sandbox = Sandbox::new();
    let grow = "(loop (drop (memory.grow (i32.const 16))) (br 0))";
    sandbox.write("grow.wasm", module(grow));
    sandbox.vac(&["run", "grow.wasm", "--memory", "64MiB"]).fails(STOPPED, &["memory"]);
    let big = "(module (memory (export \"memory\") 65536) (func (export \"_start\")))";
    sandbox.write("big.wasm", wat::parse_str(big).unwrap());
    sandbox.vac(&["run", "big.wasm", "--memory", "1GiB"]).fails(STOPPED, &["memory"]);
    let table = "(module (memory (export \"memory\") 1) (table 1 funcref) (func (export \"_start\")
        (loop (drop (table.grow (ref.null func) (i32.const 1000000))) (br 0))))";
    sandbox.write("table.wasm", wat::parse_str(table).unwrap());
    sandbox.vac(&["run", "table.wasm"]).fails(STOPPED, &["table"]);
}

/// 100 GiB need 64-bit addresses, in a component of their own.
#[test]
fn a_hundred_gibibytes_are_refused() {
    let sandbox = Sandbox::new();
    let component = |memory: &str, body: &str| {
        let module =
            format!("(core module $m (memory i64 {memory}) (func (export \"f\") (result i64) {body}))");
        wat::parse_str(format!("(component {module} (core instance $i (instantiate $m)) (func (export \"f\") (result s64) (canon lift (core func $i \"f\"))))")).unwrap()
    };
    let pages = 100 * (1 << 14);
    sandbox.write("first.wasm", component(&pages.to_string(), "(i64.const 0)"));
    sandbox.write("grow.wasm", component("1", &format!("(memory.grow (i64.const {pages}))")));
    for guest in ["first.wasm", "grow.wasm"] {
        let ran = sandbox.vac(&["call", guest, "f()"]);
        assert!([STOPPED, DENIED, INTEGRITY].contains(&ran.code()), "{ran:?}");
        assert!(!ran.error_line().is_empty());
    }
}

#[test]
fn a_guest_that_falls_is_told_apart_from_one_that_is_stopped() {
    let sandbox = with("deep.wasm", module("(call 0)").as_slice());
    let deep = "(module (memory (export \"memory\") 1) (func $f (param i64) (call $f (local.get 0))) (func (export \"_start\") (call $f (i64.const 1))))";
    sandbox.write("deep.wasm", wat::parse_str(deep).unwrap());
    sandbox.vac(&["run", "deep.wasm"]).fails(STOPPED, &["too deep"]);
    sandbox.vac(&["replay", "last"]).ok();
    for (code, words) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const -1)))", "out of bounds"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "integer"),
    ] {
        sandbox.write("trap.wasm", module(code));
        sandbox.vac(&["run", "trap.wasm"]).fails(STOPPED, &["trap", words]);
        assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "fault");
        sandbox.vac(&["replay", "last"]).ok();
    }
}

#[test]
fn a_status_is_passed_through() {
    let sandbox = Sandbox::new();
    for status in [0, 1, 3, 42, 125] {
        sandbox.write("exit.wasm", Guest::new().say("before\n").exit(status).raw("unreachable").wasm());
        let ran = sandbox.vac(&["run", "exit.wasm"]);
        assert_eq!((ran.code(), ran.out().as_str()), (status as i32, "before\n"), "{ran:?}");
        let replayed = sandbox.json(&["replay", "last"]);
        assert_eq!(text(&replayed, "outcome"), format!("exit {status}"));
    }
}

#[test]
fn an_unknown_import_is_named() {
    let sandbox = Sandbox::new();
    let component = "(component (import \"evil:pkg/api@1.0.0\" (instance (export \"steal\" (func)))))";
    sandbox.write("component.wasm", wat::parse_str(component).unwrap());
    let module = "(module (import \"env\" \"system\" (func (param i32))) (memory (export \"memory\") 1) (func (export \"_start\")))";
    sandbox.write("module.wasm", wat::parse_str(module).unwrap());
    let blobs = "(component (import \"wasi:blobstore/container@0.2.0-draft\" (instance (export \"container\" (type (sub resource))))))";
    sandbox.write("blobs.wasm", wat::parse_str(blobs).unwrap());
    sandbox
        .vac(&["call", "component.wasm", "f()"])
        .fails(DENIED, &["`evil:pkg/api@1.0.0`", "component.wasm"]);
    sandbox.vac(&["run", "component.wasm"]).fails(DENIED, &["evil:pkg/api"]);
    sandbox.vac(&["run", "module.wasm"]).fails(DENIED, &["`env.system`"]);
    sandbox.vac(&["call", "blobs.wasm", "f()"]).fails(DENIED, &["wasi:blobstore/container"]);
    let host = repository().join("ring1-kernels/prebuilt/bench-host.wasm");
    sandbox.vac(&["call", host.to_str().unwrap(), "host-loop(1)"]).fails(DENIED, &["vac:bench/host"]);
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().is_empty(), "nothing was started");
}

#[test]
fn a_script_with_a_mistake_says_where_and_what_was_meant() {
    let sandbox = Sandbox::new();
    let fails = |script: &str, code: i32, line: &str, place: &str| {
        sandbox.write("s.star", script);
        let ran = sandbox.vac(&["run", "s.star"]).fails(code, &[line]);
        assert!(ran.stderr.contains(place), "expected {place} in\n{}", ran.stderr);
        assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{}", ran.stderr);
    };
    fails("x = 1\nprnt(x)\n", 1, "did you mean `print`?", "s.star:2:1");
    fails("def f(:\n", 1, "unexpected symbol", "s.star:1:7");
    fails("x = [1, 2\n", 1, "", "s.star:");
    fails("k = kernel('builtin:series')\nprint(k.montly('x'))\n", 1, "did you mean `monthly`?", "s.star:2:7");
    fails("k = kernel('builtin:sries')\n", 1, "`builtin:series`", "s.star:1:5");
    fails("fail('no good')\n", 1, "no good", "s.star:1:1");
    fails(
        "load('other.star', 'f')\n",
        1,
        "a script is one file; copy what it needs of `other.star`",
        "s.star:1:6",
    );
    fails(
        "k = kernel('builtin:series')\nk.monthly(7)\n",
        1,
        "`path`: expected string, got int",
        "s.star:2:1",
    );
    fails("dir(3)\n", 1, "", "s.star:1:");
}

#[test]
fn a_script_stays_in_its_folder() {
    let sandbox = with("secret", "the secret");
    std::os::unix::fs::symlink(sandbox.path("secret"), sandbox.path("link")).unwrap();
    let absolute = sandbox.path("secret").display().to_string();
    sandbox.write("in/data/x", "mine");
    std::os::unix::fs::symlink("../secret", sandbox.path("in/link")).unwrap();
    for (script, words) in [
        ("dir('..')", "`..`"),
        ("dir('/etc')", "`/etc`"),
        ("read(dir('data'), '../../secret')", "`../../secret`"),
        (&format!("read(dir('data'), '{absolute}')"), "secret"),
        ("read(dir('.'), 'link')", "`link`"),
        ("kernel('../secret')", "`../secret`"),
        ("dir('.', write = True)", "only below `out`"),
        ("write(dir('out', write = True), '../escaped', 'x')", "escaped"),
        ("write(dir('out/../..', write = True), 'escaped', 'x')", "out"),
    ] {
        sandbox.write("in/s.star", format!("print({script})\n"));
        let ran = sandbox.vac(&["run", "in/s.star"]);
        assert!(!ran.out().contains("the secret"), "{script}\n{}", ran.out());
        ran.fails(DENIED, &[words]);
    }
    assert!(!sandbox.path("escaped").exists() && !sandbox.path("../escaped").exists());
    sandbox.write("in/s.star", "print(read(dir('data'), 'x'))\n");
    assert_eq!(sandbox.vac(&["run", "in/s.star"]).ok().out(), "mine\n");
}

/// As root no mode of a folder binds, so these homes cannot be written for other reasons.
#[test]
fn a_home_that_cannot_be_written_is_one_clear_error() {
    let sandbox = with("file", "not a folder");
    sandbox.write("guest.wasm", Guest::new().say("ran\n").wasm());
    let below = sandbox.path("file/home").display().to_string();
    for home in [sandbox.path("file").display().to_string().as_str(), &below, "/proc/vac-home", "/dev/null"] {
        for args in [&["run", "guest.wasm"][..], &["store", "put", "file"], &["store", "gc"]] {
            let mut command = sandbox.bare(crate::support::program());
            command.args(["--home", home]).args(args);
            let ran = run(command).fails(1, &[home]);
            assert!(ran.stdout.is_empty(), "{ran:?}");
        }
    }
}

/// A limit on the size of files stands in for a disk without space: both fail in the middle of
/// a write. What was acknowledged before must still be there.
#[test]
fn a_disk_that_is_full_loses_nothing_that_was_acknowledged() {
    let sandbox = with("big", vec![7; 8 << 20]);
    sandbox.write("guest.wasm", Guest::new().say("ran\n").wasm());
    sandbox.vac(&["run", "guest.wasm"]).ok();
    let home = sandbox.home().display().to_string();
    let program = crate::support::program().display().to_string();
    // In blocks of 512 bytes; without the trap, the signal would end the process.
    for blocks in [0, 1, 8, 64] {
        for args in ["run guest.wasm", "store put big", "run builtin:none"] {
            let mut shell = sandbox.bare("/bin/sh");
            shell.args([
                "-c",
                &format!("trap '' XFSZ; ulimit -f {blocks}; exec '{program}' --home '{home}' {args}"),
            ]);
            let ran = run(shell);
            assert_ne!(ran.code(), 101);
            if ran.code() != 0 {
                assert!(!ran.error_line().is_empty());
            }
        }
    }
    sandbox.vac(&["store", "fsck"]).ok();
    let first = text(&sandbox.json(&["runs"])["runs"][0], "run").to_owned();
    sandbox.vac(&["verify", &first]).ok();
    sandbox.vac(&["replay", &first]).ok();
    sandbox.vac(&["run", "guest.wasm"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
}

/// A real full disk, where this process may make one.
#[test]
fn a_small_file_system_fills_up_in_order() {
    let sandbox = with("big", vec![9; 8 << 20]);
    let home = sandbox.path("small");
    std::fs::create_dir(&home).unwrap();
    if !mount(&home, "size=512k") {
        println!("skipped: this process may not mount a tmpfs");
        return;
    }
    sandbox.write("guest.wasm", Guest::new().say("ran\n").wasm());
    let vac = |args: &[&str]| {
        let mut command = sandbox.bare(crate::support::program());
        command.arg("--home").arg(&home).args(args);
        run(command)
    };
    let runs: Vec<i32> = (0..4).map(|_| vac(&["run", "guest.wasm"]).code()).collect();
    let put = vac(&["store", "put", "big"]);
    let verified = vac(&["verify", "--all"]);
    let unmounted = std::process::Command::new("umount").arg(&home).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert!(runs.iter().all(|code| [0, 1].contains(code)), "{runs:?}");
    put.fails(1, &["No space left"]);
    assert!(verified.code() == 0, "{verified:?}");
}

fn mount(at: &Path, options: &str) -> bool {
    let mut command = std::process::Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "vac-test"]).arg(at);
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn an_output_that_is_closed_is_no_panic() {
    let sandbox = with(
        "guest.wasm",
        Guest::new().times(3000, Guest::new().raw("(call $number (i64.const -1)) (call $line)")).wasm(),
    );
    let home = sandbox.home().display().to_string();
    let program = crate::support::program().display().to_string();
    for args in ["run guest.wasm", "runs", "log last", "--help"] {
        let mut shell = sandbox.bare("/bin/sh");
        shell.args(["-c", &format!("'{program}' --home '{home}' {args} | head -n 1")]);
        run(shell);
    }
    sandbox.vac(&["verify", "--all"]).ok();
}

/// The first ended the program by a trap of its adapter; the second by a panic, where nothing was recorded.
#[test]
fn arguments_that_are_too_long_are_refused_before_the_program_starts() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", crate::guest::Guest::new().say("ran").wasm());
    let (most, more) = ("x".repeat(59_000), "x".repeat(59_001));
    sandbox.vac(&["run", "guest.wasm", "--", &most]).ok();
    sandbox.vac(&["run", "guest.wasm", "--", &more]).fails(2, &["59001 bytes", "59000"]);
    let variable = format!("A={more}");
    sandbox.vac(&["run", "guest.wasm", "--env", &variable]).fails(2, &["59001 bytes", "59000"]);
    let many: Vec<&str> = std::iter::repeat_n(most.as_str(), 20).collect();
    for record in ["--record=full", "--record=off"] {
        let args = [&["run", "guest.wasm", record, "--"], many.as_slice()].concat();
        sandbox.vac(&args).fails(2, &["the limit is 1048576"]);
    }
}

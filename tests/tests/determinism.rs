//! Equal runs have equal heads, byte for byte, whatever is different around them.

use std::path::Path;
use std::process::Command;

use crate::guest::{Fd, Guest, ROOT};
use crate::support::{Ran, Sandbox, copy_folder, repository, run, text};

/// Runs the study with something changed, and gives its head.
fn head(sandbox: &Sandbox, script: &str, change: impl FnOnce(&mut Command)) -> String {
    let mut command = sandbox.command(&["--json", "run", script]);
    change(&mut command);
    text(&run(command).ok().json(), "head").to_owned()
}

/// Also what compiles has one thread then: it makes as many as there are processors that it may use.
fn head_on_one_processor(sandbox: &Sandbox, script: &str) -> String {
    let (program, home) = (crate::support::program(), sandbox.home());
    let mut shell = sandbox.bare("/bin/sh");
    // The first that this process may use.
    let one = "$(taskset -pc $$ | sed 's/.*: *//; s/[,-].*//')";
    let (program, home) = (program.display(), home.display());
    shell.args(["-c", &format!("taskset -c {one} '{program}' --home '{home}' --json run '{script}'")]);
    text(&run(shell).ok().json(), "head").to_owned()
}

#[test]
fn the_study_has_one_head_everywhere() {
    let sandbox = Sandbox::new();
    let example = repository().join("examples/keeling");
    for folder in ["here", "a much longer name/with a space/deep"] {
        copy_folder(&example, &sandbox.path(folder));
    }
    let (relative, absolute) = ("here/study.star", sandbox.path("here/study.star").display().to_string());
    let elsewhere = sandbox.path("a much longer name/with a space/deep");
    let cold = head(&sandbox, relative, |_| {});
    let same = |what: &str, other: String| assert_eq!(other, cold, "{what}");
    same("warm cache", head(&sandbox, relative, |_| {}));
    same("absolute path", head(&sandbox, &absolute, |_| {}));
    same("folder", head(&sandbox, "study.star", |c| _ = c.current_dir(&elsewhere)));
    for zone in ["Pacific/Kiritimati", "America/St_Johns", ":/nonexistent"] {
        same(zone, head(&sandbox, relative, |c| _ = c.env("TZ", zone)));
    }
    for locale in ["C", "de_DE.UTF-8", "tr_TR.UTF-8", "ar_EG"] {
        same(locale, head(&sandbox, relative, |c| _ = c.env("LANG", locale).env("LC_ALL", locale)));
    }
    std::fs::remove_dir_all(sandbox.home().join("code")).unwrap();
    same("cold cache, one processor", head_on_one_processor(&sandbox, relative));
    let other_home = Sandbox::new();
    same("another home", head(&other_home, &absolute, |_| {}));
}

#[test]
fn the_study_has_one_head_under_every_umask() {
    let mut heads = Vec::new();
    for umask in ["000", "022", "077"] {
        let sandbox = Sandbox::new();
        copy_folder(&repository().join("examples/keeling"), &sandbox.path("keeling"));
        let home = sandbox.home().display().to_string();
        let program = crate::support::program().display();
        let mut shell = sandbox.bare("/bin/sh");
        shell.args([
            "-c",
            &format!("umask {umask}; '{program}' --home '{home}' --json run keeling/study.star"),
        ]);
        heads.push(text(&run(shell).ok().json(), "head").to_owned());
    }
    assert!(heads.iter().all(|head| *head == heads[0]), "{heads:?}");
}

/// A guest that shows all that it can see.
fn curious() -> Vec<u8> {
    let guest = Guest::new()
        .args_and_env()
        .clocks()
        .random()
        .preopen(ROOT)
        .list(ROOT)
        .stat(ROOT, ".")
        .stat(ROOT, "b");
    let guest = guest.open(ROOT, "b", "r").read().open(ROOT, "sub", "rd").list(Fd::Last).random().clocks();
    guest.open(ROOT, "new", "rwc").write("new").stat(ROOT, "new").list(ROOT).wasm()
}

/// A folder with the same content, made in another order and at another time.
fn fill(sandbox: &Sandbox, folder: &str, names: &[&str]) {
    for name in names {
        sandbox.write(&format!("{folder}/{name}"), name);
    }
    std::fs::create_dir_all(sandbox.path(folder).join("sub")).unwrap();
    sandbox.write(&format!("{folder}/sub/inner"), "inner");
}

/// Runs the curious guest in a folder, in which it sees `d`.
fn look(sandbox: &Sandbox, folder: &str, seed: &str) -> Ran {
    let args = [
        "--json",
        "run",
        "../curious.wasm",
        "--grant",
        "dir:rw=d",
        "--env",
        "A=1",
        "--seed",
        seed,
        "--",
        "x",
        "y z",
    ];
    let mut command = sandbox.command(&args);
    command.current_dir(sandbox.path(folder));
    run(command).ok()
}

#[test]
fn a_guest_sees_the_same_world_everywhere() {
    let sandbox = Sandbox::new();
    sandbox.write("curious.wasm", curious());
    fill(&sandbox, "one/d", &["a", "b", "c", "d", "Z"]);
    fill(&sandbox, "other place/d", &["Z", "c", "b", "d", "a"]);
    set_old(&sandbox.path("one/d/b"));
    let (here, there) = (look(&sandbox, "one", "7"), look(&sandbox, "other place", "7"));
    assert_eq!(text(&here.json(), "stdout"), text(&there.json(), "stdout"));
    assert_eq!(text(&here.json(), "head"), text(&there.json(), "head"));
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(text(&replayed, "head"), text(&here.json(), "head"));
}

/// Gives a file a time, a mode and an owner that no other file has.
fn set_old(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
    file.set_permissions(PermissionsExt::from_mode(0o640)).unwrap();
}

#[test]
fn what_a_guest_sees_is_sorted_and_says_nothing_of_the_host() {
    let sandbox = Sandbox::new();
    sandbox.write("curious.wasm", curious());
    fill(&sandbox, "one/d", &["c", "b", "a", "Z"]);
    let seen = look(&sandbox, "one", "7").json();
    let lines: Vec<&str> = text(&seen, "stdout").lines().collect();
    assert_eq!(lines[..4], ["curious.wasm", "x", "y z", "A=1"]);
    // The wall clock starts in 2000, and both count ticks.
    assert!(lines[4].starts_with("9466848000"), "{}", lines[4]);
    let names: Vec<&str> =
        lines.iter().filter(|l| l.split(' ').count() == 3).map(|l| l.split(' ').next().unwrap()).collect();
    let listed: Vec<&&str> = names.iter().filter(|name| !name.starts_with("write")).collect();
    assert_eq!(listed[..7], [&".", &"..", &"Z", &"a", &"b", &"c", &"sub"], "{lines:#?}");
    // Inode, type, links, size and three times of `b`.
    let stat = lines.iter().position(|l| l.starts_with("stat b=0")).unwrap();
    assert!(
        lines[stat + 1].ends_with(" 4 1 1 946684800000000000 946684800000000000 946684800000000000"),
        "{}",
        lines[stat + 1]
    );
}

#[test]
fn the_seed_is_all_that_randomness_depends_on() {
    let sandbox = Sandbox::new();
    let guest = sandbox.write("random.wasm", Guest::new().random().random().wasm());
    let guest = guest.to_str().unwrap();
    let drawn = |args: &[&str]| text(&sandbox.json(&[&["run", guest], args].concat()), "stdout").to_owned();
    let plain = drawn(&[]);
    assert_eq!(plain, drawn(&["--seed", "0"]));
    assert_ne!(plain, drawn(&["--seed", "1"]));
    assert_eq!(drawn(&["--seed", "18446744073709551615"]), drawn(&["--seed", "18446744073709551615"]));
    let numbers: std::collections::BTreeSet<&str> = plain.lines().collect();
    assert_eq!(numbers.len(), 4, "no number comes twice: {plain}");
}

#[test]
fn a_nan_has_one_form() {
    let payload = "(f64.reinterpret_i64 (i64.const 0xfff7123456789abc))";
    let made = [
        "(f64.div (f64.const 0) (f64.const 0))".to_owned(),
        "(f64.sub (f64.const inf) (f64.const inf))".to_owned(),
        "(f64.sqrt (f64.const -1))".to_owned(),
        format!("(f64.add {payload} (f64.const 1))"),
        format!("(f64.mul (f64.const 2) {payload})"),
        format!("(f64.min {payload} (f64.const 0))"),
        "(f64.promote_f32 (f32.div (f32.const 0) (f32.const -0)))".to_owned(),
    ];
    let show = |nan: &String| format!("(call $number (i64.reinterpret_f64 {nan})) (call $line)");
    let guest = Guest::new().raw(&made.iter().map(show).collect::<String>());
    let sandbox = Sandbox::new();
    let path = sandbox.write("nan.wasm", guest.wasm());
    let out = sandbox.vac(&["run", path.to_str().unwrap()]).ok().out();
    let canonical = 0x7ff8_0000_0000_0000_u64.to_string();
    assert_eq!(out.lines().collect::<Vec<_>>(), vec![canonical.as_str(); made.len()]);
}

#[test]
fn ticks_are_the_same_with_and_without_a_limit() {
    let sandbox = Sandbox::new();
    let guest = sandbox.write("a.wasm", Guest::new().times(1000, Guest::new().raw("(call $space)")).wasm());
    let guest = guest.to_str().unwrap();
    let free = sandbox.json(&["run", guest]);
    let limited = sandbox.json(&["run", guest, "--ticks", "100000000"]);
    assert_eq!(free["ticks"], limited["ticks"]);
    assert_eq!(free["stdout"], limited["stdout"]);
}

/// A -1 would tell the guest how much this machine has. `ulimit -v` is in KiB: enough for a guest of some pages, too
/// little for what it asks for.
#[test]
fn growth_that_the_host_cannot_give_ends_the_run_and_is_no_answer() {
    const ADDRESSES_MAX_KIB: &str = "12000000";
    let memory = "(memory i64 1) (func (export \"f\") (result i64) (memory.grow (i64.const 0x30000)))";
    let table = "(table 1 funcref) (func (export \"f\") (result i64)
        (i64.extend_i32_s (table.grow (ref.null func) (i32.const 2000000000))))";
    for (what, module) in [("memory", memory), ("table", table)] {
        let sandbox = Sandbox::new();
        sandbox.write("grow.wasm", wat::parse_str(format!("(module {module})")).unwrap());
        let (program, home) = (crate::support::program().display(), sandbox.home().display().to_string());
        let limits = "--memory 64GiB --limit tables=3000000000";
        let typed = format!("'{program}' --home '{home}' call grow.wasm 'f()' {limits}");
        let mut shell = sandbox.bare("/bin/sh");
        shell.args(["-c", &format!("ulimit -v {ADDRESSES_MAX_KIB}; {typed}")]);
        let ran = run(shell).fails(1, &["the host"]);
        assert!(ran.stdout.is_empty(), "{what}: {ran:?}");
        // Its record ends there, and so does a replay on a machine that has more.
        sandbox.vac(&["replay", "last"]).ok();
    }
}

/// Eight waits that are over at once, each with a number of its own.
#[test]
fn what_is_ready_is_told_in_the_order_in_which_it_was_asked_for() {
    let ask = |i: u32| format!("(i64.store (i32.const {}) (i64.const {}))", 1024 + 48 * i, 48 + (7 * i) % 8);
    let asks: String = (0..8).map(ask).collect();
    let text = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    {asks}
    (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 8) (i32.const 16)))
    (loop $event
      (i32.store8 offset=4096 (local.get $i) (i32.load8_u offset=2048 (i32.shl (local.get $i) (i32.const 5))))
      (br_if $event (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.load (i32.const 16)))))
    (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.load (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    let sandbox = Sandbox::new();
    sandbox.write("poll.wasm", wat::parse_str(text).unwrap());
    assert_eq!(sandbox.vac(&["run", "poll.wasm"]).ok().out(), "07654321");
}

//! No grant, no access; a grant gives what it says and nothing beside it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::guest::{Fd, Guest, ROOT, ROOT_2, errno};
use crate::support::{Sandbox, run, text};

/// What stands outside of every grant of these tests.
const SECRET: &str = "the secret";

/// A sandbox with `data/a`, `data/b`, `data/sub/c` and, outside, `secret/s`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for (name, content) in
        [("data/a", "text of a"), ("data/b", "text of b"), ("data/sub/c", "text of c"), ("secret/s", SECRET)]
    {
        sandbox.write(name, content);
    }
    sandbox
}

/// Runs a guest with grants; it must end well and must not have seen the secret.
fn out(sandbox: &Sandbox, guest: Guest, args: &[&str]) -> String {
    sandbox.write("guest.wasm", guest.wasm());
    let ran = sandbox.vac(&[&["run", "guest.wasm"], args].concat()).ok();
    assert!(!ran.out().contains(SECRET), "it got out\n{}", ran.out());
    ran.out()
}

/// The grants that would have allowed what the last run was denied. Every WASI 0.1 command asks
/// for its standard input at its start, so that refusal is left out.
fn denied(sandbox: &Sandbox) -> Vec<String> {
    let log = sandbox.json(&["log", "last", "--denied"]);
    let grants = log["events"].as_array().unwrap().iter().map(|event| text(event, "denied").to_owned());
    grants.filter(|grant| grant != "stdin").collect()
}

#[track_caller]
fn assert_lines(out: &str, expected: &[String]) {
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines, expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn without_a_grant_there_is_no_file_system() {
    let sandbox = sandbox();
    let guest =
        Guest::new().list(ROOT).open(ROOT, "/", "rd").open(ROOT, "/etc/passwd", "r").open(ROOT, ".", "rd");
    let seen = out(&sandbox, guest, &[]);
    let bad = errno::BADF;
    assert_lines(
        &seen,
        &[
            format!("read: {bad}"),
            format!("open /={bad}"),
            format!("open /etc/passwd={bad}"),
            format!("open .={bad}"),
        ],
    );
    assert_eq!(denied(&sandbox), ["dir:ro=DIR"]);
    let log = sandbox.vac(&["log", "last", "--denied"]).ok().out();
    assert!(log.contains("denied; --grant dir:ro=DIR would allow it"), "{log}");
}

#[test]
fn a_directory_to_read_can_be_read_and_not_written() {
    let sandbox = sandbox();
    let guest = Guest::new().open(ROOT, "a", "r").read().open(ROOT, "sub/c", "r").read().open(ROOT, "a", "w");
    let guest = guest.open(ROOT, "new", "wc").open(ROOT, "a", "rt").at("path_unlink_file", ROOT, "a");
    let guest =
        guest.at("path_create_directory", ROOT, "d").rename((ROOT, "a"), (ROOT, "z")).symlink("b", ROOT, "l");
    let seen = out(&sandbox, guest, &["--grant", "dir:ro=data"]);
    assert!(seen.contains("read: text of a\n") && seen.contains("read: text of c\n"), "{seen}");
    let refused = seen.lines().filter(|line| line.ends_with("=63")).count();
    assert_eq!(refused, 7, "{seen}");
    assert_eq!(sandbox.read("data/a"), "text of a");
    assert!(!sandbox.path("data/new").exists() && !sandbox.path("data/d").exists());
    let denied = denied(&sandbox);
    assert!(denied.len() == 7 && denied.iter().all(|grant| grant == "dir:rw=data"), "{denied:?}");
}

#[test]
fn a_directory_to_write_can_be_written() {
    let sandbox = sandbox();
    let guest = Guest::new()
        .open(ROOT, "new", "wcx")
        .write("fresh")
        .open(ROOT, "new", "wcx")
        .open(ROOT, "a", "wt")
        .write("now");
    let guest = guest.at("path_create_directory", ROOT, "d").rename((ROOT, "b"), (ROOT, "d/b")).at(
        "path_unlink_file",
        ROOT,
        "sub/c",
    );
    let guest =
        guest.at("path_remove_directory", ROOT, "sub").symlink("d/b", ROOT, "l").open(ROOT, "l", "r").read();
    let seen = out(&sandbox, guest, &["--grant", "dir:rw=data"]);
    assert!(seen.contains(&format!("open new=0\nwrite=0\nopen new={}\n", errno::EXIST)), "{seen}");
    assert!(seen.ends_with("read: text of b\n"), "{seen}");
    assert_eq!((sandbox.read("data/new"), sandbox.read("data/a")), ("fresh".into(), "now".into()));
    assert!(!sandbox.path("data/sub").exists() && sandbox.path("data/d/b").exists());
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn a_single_file_has_no_siblings() {
    let sandbox = sandbox();
    let guest =
        Guest::new().list(ROOT).open(ROOT, "a", "r").read().open(ROOT, "b", "r").open(ROOT, "sub/c", "r");
    let guest = guest
        .open(ROOT, "./b", "r")
        .open(ROOT, "a/../b", "r")
        .open(ROOT, ".", "rd")
        .list(Fd::Last)
        .open(Fd::Last, "b", "r")
        .open(ROOT, ".", "w")
        .open(ROOT, "a", "w")
        .stat(ROOT, "b");
    let seen = out(&sandbox, guest, &["--grant", "file:ro=data/a"]);
    assert!(seen.contains("open a=0\nread: text of a\n"), "{seen}");
    assert!(!seen.contains("text of b") && !seen.lines().any(|line| line.starts_with("b ")), "{seen}");
    let opened: Vec<&str> =
        seen.lines().filter(|line| line.starts_with("open ") && line.ends_with("=0")).collect();
    // The folder itself shows the one name, however it is opened.
    assert_eq!(opened, ["open a=0", "open .=0"], "{seen}");
}

/// A file that may be written may be written, and no more: whoever may replace it by a link can
/// read all of its folder.
#[test]
fn a_single_file_to_write_does_not_become_another() {
    let sandbox = sandbox();
    sandbox.write("data/s", SECRET);
    let guest = Guest::new().open(ROOT, "a", "wt").write("mine").open(ROOT, "a", "r").read();
    let guest = guest.at("path_unlink_file", ROOT, "a").symlink("s", ROOT, "a").open(ROOT, "a", "r").read();
    let guest =
        guest.at("path_unlink_file", ROOT, "a").link((ROOT, "s"), (ROOT, "a")).open(ROOT, "a", "r").read();
    let guest = guest.rename((ROOT, "s"), (ROOT, "a")).open(ROOT, "a", "r").read();
    let seen = out(&sandbox, guest, &["--grant", "file:rw=data/a"]);
    assert!(seen.contains("write=0\n") && seen.contains("read: mine\n"), "{seen}");
}

#[test]
fn variables_come_through_by_name_only() {
    let sandbox = sandbox();
    sandbox.write("guest.wasm", Guest::new().args_and_env().wasm());
    let seen = |args: &[&str]| {
        let mut command = sandbox.command(&[&["run", "guest.wasm"], args].concat());
        command.env("GIVEN", "from outside").env("OTHER", SECRET);
        run(command).ok().out()
    };
    assert_eq!(seen(&[]), "guest.wasm\n");
    assert_eq!(seen(&["--grant", "env:GIVEN"]), "guest.wasm\nGIVEN=from outside\n");
    assert_eq!(seen(&["--env", "B=2", "--env", "A=1=1"]), "guest.wasm\nB=2\nA=1=1\n");
    assert_eq!(seen(&["--grant", "env:GIVEN", "--env", "GIVEN=mine"]), "guest.wasm\nGIVEN=mine\n");
    sandbox.vac(&["run", "guest.wasm", "--grant", "env:ABSENT"]).fails(2, &["`ABSENT` is not set"]);
    sandbox.vac(&["run", "guest.wasm", "--env", "=x"]).fails(2, &["`=x` is not a variable"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn standard_input_needs_a_grant() {
    let sandbox = sandbox();
    sandbox.write("guest.wasm", Guest::new().read_from(Fd::Is(0)).wasm());
    let with = sandbox.vac_with_input(&["run", "guest.wasm", "--grant", "stdin"], b"typed").ok();
    assert_eq!(with.out(), "read: typed\n");
    let replayed = sandbox.vac(&["replay", "last"]).ok();
    assert!(replayed.out().starts_with("equal"), "{}", replayed.out());
    let without = sandbox.vac_with_input(&["run", "guest.wasm"], b"typed").ok();
    assert_eq!(without.out(), "read: \n");
    let log = sandbox.json(&["log", "last", "--denied"]);
    let denied = log["events"].as_array().unwrap().iter().map(|event| text(event, "denied"));
    assert_eq!(denied.filter(|grant| *grant == "stdin").count(), 1, "once, when it is read");
}

#[test]
fn a_grant_can_have_another_name() {
    let sandbox = sandbox();
    let guest =
        Guest::new().preopen(ROOT).preopen(ROOT_2).open(ROOT, "a", "r").read().open(ROOT_2, "c", "r").read();
    let seen = out(&sandbox, guest, &["--grant", "dir:ro=./data::/in", "--grant", "dir:ro=data/sub"]);
    assert_eq!(
        seen,
        "prestat=0\n/in\nprestat=0\ndata/sub\nopen a=0\nread: text of a\nopen c=0\nread: text of c\n"
    );
}

#[test]
fn no_path_leads_out() {
    let sandbox = sandbox();
    let secret = sandbox.path("secret/s").display().to_string();
    let deep = format!("{}etc/passwd", "../".repeat(40));
    let paths = [
        "../secret/s",
        "sub/../../secret/s",
        "..",
        "./..",
        "sub/../..",
        &secret,
        &deep,
        "/",
        "//etc",
        "a/../../secret/s",
    ];
    for how in ["r", "rd", "rw", "wc", "rn"] {
        let guest = paths.iter().fold(Guest::new(), |guest, path| guest.open(ROOT, path, how));
        let guest = guest.open(ROOT, "sub", "rd").open(Fd::Last, "../../secret/s", how);
        let seen = out(&sandbox, guest, &["--grant", "dir:rw=data"]);
        let opened: Vec<&str> =
            seen.lines().filter(|line| line.ends_with("=0") && *line != "open sub=0").collect();
        assert_eq!(opened, [""; 0], "{how}");
    }
    let guest = Guest::new()
        .open(ROOT, "../secret/s", "r")
        .stat(ROOT, "../secret/s")
        .rename((ROOT, "../secret/s"), (ROOT, "x"));
    let guest = guest
        .rename((ROOT, "a"), (ROOT, "../x"))
        .at("path_unlink_file", ROOT, "../secret/s")
        .link((ROOT, "../secret/s"), (ROOT, "x"));
    let guest = guest.at("path_create_directory", ROOT, "../x").symlink("a", ROOT, "../x");
    let seen = out(&sandbox, guest, &["--grant", "dir:rw=data"]);
    assert!(seen.lines().all(|line| !line.ends_with("=0")), "{seen}");
    assert!(!sandbox.path("x").exists() && sandbox.path("secret/s").exists());
    assert_eq!(denied(&sandbox)[0], "dir:ro=data/../secret/s");
}

#[test]
fn no_link_leads_out() {
    let sandbox = sandbox();
    let outside = sandbox.path("secret");
    let links = [
        ("abs", outside.clone()),
        ("rel", "../secret".into()),
        ("proc", "/proc/self/root".into()),
        ("fd", "/proc/self/fd".into()),
    ];
    for (name, target) in &links {
        std::os::unix::fs::symlink(target, sandbox.path("data").join(name)).unwrap();
    }
    std::os::unix::fs::symlink(outside.join("s"), sandbox.path("data/file")).unwrap();
    let guest = links.iter().fold(Guest::new(), |guest, (name, _)| {
        guest
            .open(ROOT, name, "rd")
            .open(ROOT, &format!("{name}/s"), "r")
            .open(ROOT, &format!("{name}/new"), "wc")
            .stat(ROOT, &format!("{name}/s"))
    });
    let guest = guest
        .open(ROOT, "file", "r")
        .read()
        .open(ROOT, "file", "wt")
        .open(ROOT, "file", "rn")
        .open(ROOT, "fd/0", "r");
    // And links that the guest makes itself.
    let guest = guest.symlink("../secret/s", ROOT, "own").open(ROOT, "own", "r").read();
    let guest = guest.symlink("sub/../../secret", ROOT, "own2").open(ROOT, "own2/s", "r").read();
    let guest = guest.symlink("own4", ROOT, "own3").symlink("own3", ROOT, "own4").open(ROOT, "own3", "r");
    let seen = out(&sandbox, guest, &["--grant", "dir:rw=data"]);
    let opened: Vec<&str> =
        seen.lines().filter(|line| !line.starts_with("symlink") && line.ends_with("=0")).collect();
    assert_eq!(opened, [""; 0], "{seen}");
    assert!(seen.ends_with(&format!("open own3={}\n", errno::LOOP)), "{seen}");
    assert_eq!(sandbox.read("secret/s"), SECRET);
    assert!(!sandbox.path("secret/new").exists());
    assert!(denied(&sandbox).len() >= 10);
}

/// Makes `path` now a folder that is granted, now a link to one that is not.
fn swap(path: &Path, outside: &Path, is_done: &AtomicBool) {
    let (folder, link) = (path.with_extension("folder"), path.with_extension("link"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("s"), "harmless").unwrap();
    std::os::unix::fs::symlink(outside, &link).unwrap();
    while !is_done.load(Ordering::Relaxed) {
        for from in [&folder, &link] {
            let _ = std::fs::rename(from, path);
            std::thread::yield_now();
            let _ = std::fs::rename(path, from);
        }
    }
}

#[test]
fn a_link_that_is_swapped_during_the_run_does_not_lead_out() {
    let sandbox = sandbox();
    let guest = Guest::new().times(4000, Guest::new().open(ROOT, "door/s", "r").read().close());
    sandbox.write("guest.wasm", guest.wasm());
    let is_done = AtomicBool::new(false);
    let (door, outside) = (sandbox.path("data/door"), sandbox.path("secret"));
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| swap(&door, &outside, &is_done));
        let ran = sandbox.vac(&["run", "guest.wasm", "--grant", "dir:rw=data"]);
        is_done.store(true, Ordering::Relaxed);
        ran.ok().out()
    });
    assert!(!seen.contains(SECRET));
    assert!(seen.contains("read: harmless"), "the door was never open: the test shows nothing");
    assert!(
        seen.lines().any(|line| line.starts_with("open ") && line != "open door/s=0"),
        "the door was never a link"
    );
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn strange_paths_are_errors_and_nothing_more() {
    let sandbox = sandbox();
    let (long_name, long_path) = ("x".repeat(300), "sub/".repeat(2000));
    let guest = Guest::new()
        .open(ROOT, &long_name, "r")
        .open(ROOT, &long_path, "r")
        .open(ROOT, "", "r")
        .open(ROOT, "a\0b", "r");
    let guest = guest.open(ROOT, "a/", "r").open(ROOT, "no/such", "r").open(ROOT, "a/x", "r").open(
        ROOT,
        "new\u{202e}\u{1b}[31m",
        "wc",
    );
    let seen = out(&sandbox, guest, &["--grant", "dir:rw=data"]);
    let codes: Vec<u32> =
        seen.lines().map(|line| line.rsplit('=').next().unwrap().parse().unwrap()).collect();
    assert_eq!(codes[0], errno::NAMETOOLONG, "{seen}");
    assert!(codes[..7].iter().all(|code| *code != 0), "{seen}");
    assert_eq!((codes[2], codes[3], codes[5]), (errno::NOENT, errno::INVAL, errno::NOENT), "{seen}");
    let log = sandbox.vac(&["log", "last"]).ok().out();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}'), "what a guest says reaches the terminal");
}

/// WASI 0.2 has no paths but text, so the adapter refuses other bytes; a name on the disk that is
/// no text is left out of a listing.
#[test]
fn names_that_are_not_text_end_nothing_of_ours() {
    use std::os::unix::ffi::OsStrExt;
    let sandbox = sandbox();
    std::fs::write(sandbox.path("data").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    let seen = out(&sandbox, Guest::new().list(ROOT), &["--grant", "dir:ro=data"]);
    let names: Vec<&str> = seen.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, [".", "..", "a", "b", "sub"]);
    sandbox.write("guest.wasm", Guest::new().open_bytes(ROOT, b"\xff\xfe", "r").wasm());
    let ran = sandbox.vac(&["run", "guest.wasm", "--grant", "dir:ro=data"]);
    match ran.code() {
        0 => assert!(!ran.out().ends_with("=0\n"), "{}", ran.out()),
        _ => drop(ran.fails(4, &["trap"])),
    }
}

#[test]
fn a_pipe_in_a_directory_does_not_hang() {
    let sandbox = sandbox();
    assert!(std::process::Command::new("mkfifo").arg(sandbox.path("data/pipe")).status().unwrap().success());
    std::os::unix::net::UnixListener::bind(sandbox.path("data/socket")).unwrap();
    let guest = Guest::new()
        .open(ROOT, "pipe", "r")
        .open(ROOT, "pipe", "w")
        .open(ROOT, "pipe", "rw")
        .open(ROOT, "socket", "r");
    let seen = out(&sandbox, guest.stat(ROOT, "pipe"), &["--grant", "dir:rw=data"]);
    let opened: Vec<&str> =
        seen.lines().filter(|line| line.starts_with("open") && line.ends_with("=0")).collect();
    assert_eq!(opened, [""; 0], "a pipe is a way to other programs: {seen}");
}

/// A hard link in a directory that may be written, to a file that may only be read, would let the
/// guest write the file.
#[test]
fn a_link_from_read_only_to_writable_is_refused() {
    let sandbox = sandbox();
    sandbox.write("out/own", "own");
    let guest = Guest::new()
        .link((ROOT, "a"), (ROOT_2, "a"))
        .link((ROOT_2, "own"), (ROOT, "own"))
        .rename((ROOT, "a"), (ROOT_2, "a"));
    let guest = guest.link((ROOT_2, "own"), (ROOT_2, "own2")).open(ROOT_2, "a", "w");
    let seen = out(&sandbox, guest, &["--grant", "dir:ro=data", "--grant", "dir:rw=out"]);
    let perm = errno::PERM;
    let expected = [
        format!("link a={perm}"),
        format!("link own={perm}"),
        format!("rename a={perm}"),
        "link own=0".into(),
        format!("open a={}", errno::NOENT),
    ];
    assert_lines(&seen, &expected);
}

#[test]
fn what_is_no_grant_says_what_to_type() {
    let sandbox = sandbox();
    sandbox.write("guest.wasm", Guest::new().wasm());
    let bad = |grant: &str| sandbox.vac(&["run", "guest.wasm", "--grant", grant]).fails(2, &[]).stderr;
    assert!(bad("dir=data").contains("hint: did you mean `dir:ro=DIR`?"));
    assert!(bad("nets:any").contains("expected one of dir:ro=DIR"));
    assert!(bad("dir:ro=nowhere").contains("`nowhere`"));
    assert!(bad("dir:ro=data/a").contains("both must exist"));
    assert!(bad("file:ro=data").contains("`data` is not a file"));
    assert!(bad("file:ro=data/a::/x/z").contains("keeps its name"));
    assert!(bad("env:").contains("names no variable"));
}

/// A script holds directories, not paths: a kernel gets those that the script passes on.
#[test]
fn a_kernel_of_a_script_gets_only_what_the_script_passes_on() {
    let sandbox = sandbox();
    sandbox.write("data/weekly.csv", "date,co2_ppm\n2000-01-01,370.0\n");
    let script = "k = kernel(\"builtin:series\")\nprint(k.monthly(\"data/weekly.csv\", grants = [dir(\"data\")])[0].weeks)\n";
    sandbox.write("ok.star", script);
    assert_eq!(sandbox.vac(&["run", "ok.star"]).ok().out(), "1\n");
    sandbox.write("bad.star", script.replace("grants = [dir(\"data\")]", "grants = []"));
    sandbox.vac(&["run", "bad.star"]).fails(1, &[]);
    assert_eq!(denied(&sandbox), ["file:ro=data/weekly.csv"]);
}

/// A program that is not granted a file says of it that it is not there, and its user knows better.
#[test]
fn an_argument_that_is_a_file_is_said_to_be_one() {
    let sandbox = Sandbox::new();
    let looks = r#"(module
      (import "wasi_snapshot_preview1" "fd_prestat_get" (func $next (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func (export "_start") (call $exit (i32.ne (i32.const 0) (call $next (i32.const 3) (i32.const 0))))))"#;
    sandbox.write("p.wasm", wat::parse_str(looks).unwrap());
    sandbox.write("in.txt", "x");
    sandbox.write("in/x", "x");
    let refused = sandbox.vac(&["run", "p.wasm", "--", "in.txt", "in", "--none", "absent"]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains("`--grant file:ro=in.txt`"), "{}", refused.stderr);
    assert!(refused.stderr.contains("`--grant dir:ro=in`"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("absent"), "{}", refused.stderr);
    let granted = sandbox.vac(&["run", "p.wasm", "--grant", "file:ro=in.txt", "--", "in.txt"]);
    assert!(!granted.stderr.contains("hint"), "{}", granted.stderr);
}

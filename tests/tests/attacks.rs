//! Guests that attack: every file of `tests/attacks/` is one, with what must come of it in its first
//! lines. A case is run twice, looked at with every command that shows a run, verified and replayed.
//!
//! ```text
//! ;; What it tries.
//! ;;! before: mem create m          a command that comes first
//! ;;! give: --grant dir:ro=data     options of the command
//! ;;! call: f()                     a typed call; otherwise it is run as a command
//! ;;! code: 4                       the exit code; 0 unless it says otherwise
//! ;;! error: words | other words    all of them in the error
//! ;;! log: words                    in the log of the run
//! ;;! out: text                     the whole standard output
//! ;;! unrecorded                    it is refused before there is a run
//! ;;! stopped                       it is ended from outside, somewhere else each time
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::guest::{Guest, ROOT};
use crate::support::{Ran, Sandbox, text};

const SECRET: &str = "nobody may read this";

/// A sandbox with a folder to grant, and one that nothing grants.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("data/a", "text of a");
    sandbox.write("secret/s", SECRET);
    sandbox
}

#[derive(Default)]
struct Case {
    before: Vec<String>,
    give: Vec<String>,
    call: Option<String>,
    code: i32,
    error: Vec<String>,
    log: Vec<String>,
    out: Option<String>,
    is_unrecorded: bool,
    is_stopped: bool,
}

fn read(path: &Path) -> Case {
    let mut case = Case::default();
    let source = std::fs::read_to_string(path).unwrap();
    for line in source.lines().filter_map(|line| line.strip_prefix(";;! ")) {
        let (word, rest) = line.split_once(": ").unwrap_or((line, ""));
        match word {
            "before" => case.before.push(rest.to_owned()),
            "give" => case.give.extend(rest.split(' ').map(str::to_owned)),
            "call" => case.call = Some(rest.to_owned()),
            "code" => case.code = rest.parse().unwrap(),
            "error" => case.error.extend(rest.split(" | ").map(str::to_owned)),
            "log" => case.log.push(rest.to_owned()),
            "out" => case.out = Some(rest.replace("\\n", "\n")),
            "unrecorded" => case.is_unrecorded = true,
            "stopped" => case.is_stopped = true,
            other => panic!("{}: what is `{other}`?", path.display()),
        }
    }
    case
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks");
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 20, "the attacks are gone");
    cases
}

#[test]
fn every_attack_of_the_folder_is_denied_and_recorded() {
    let failed: Vec<_> =
        cases().into_iter().filter(|path| std::panic::catch_unwind(|| attack(path)).is_err()).collect();
    assert!(failed.is_empty(), "these got through, see above: {failed:#?}");
}

fn attack(path: &Path) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let (case, sandbox) = (read(path), sandbox());
    let wasm = wat::parse_file(path).unwrap_or_else(|e| panic!("{e}"));
    sandbox.write("guest.wasm", wasm);
    for before in &case.before {
        sandbox.vac(&before.split(' ').collect::<Vec<_>>()).ok();
    }
    let ran = start(&sandbox, &case);
    assert_eq!(ran.code(), case.code, "{name}: {}\n{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
    if !case.error.is_empty() {
        let line = ran.error_line();
        case.error
            .iter()
            .for_each(|word| assert!(line.contains(word.as_str()), "{name}: `{word}` in {line}"));
    }
    if let Some(out) = &case.out {
        assert_eq!(&ran.out(), out, "{name}");
    }
    assert_eq!(sandbox.read("secret/s"), SECRET);
    is_clean(name, &ran);
    match case.is_unrecorded {
        true => assert_eq!(sandbox.json(&["runs"])["runs"].as_array().unwrap().len(), 0, "{name}"),
        false => recorded(name, &sandbox, &case),
    }
}

fn start(sandbox: &Sandbox, case: &Case) -> Ran {
    let mut args = match &case.call {
        Some(call) => vec!["call", "guest.wasm", call],
        None => vec!["run", "guest.wasm"],
    };
    args.extend(case.give.iter().map(String::as_str));
    sandbox.vac(&args)
}

/// What happened is in the ledger, is the same every time, and harms nobody who looks at it.
fn recorded(name: &str, sandbox: &Sandbox, case: &Case) {
    let head = |sandbox: &Sandbox| text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "head").to_owned();
    let log = sandbox.vac(&["log", "last"]).ok();
    case.log.iter().for_each(|word| assert!(log.out().contains(word.as_str()), "{name}: {}", log.out()));
    for command in [&["runs"][..], &["log", "last", "--json"], &["verify", "last"], &["replay", "last"]] {
        is_clean(name, &sandbox.vac(command).ok());
    }
    is_clean(name, &log);
    is_clean(name, &sandbox.vac(&["inspect", "guest.wasm"]));
    let first = head(sandbox);
    if !case.is_stopped {
        start(sandbox, case);
        assert_eq!(head(sandbox), first, "{name} differs from run to run");
    }
}

/// Nothing that a terminal obeys, and no secret.
#[track_caller]
fn is_clean(name: &str, ran: &Ran) {
    let all = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
    assert!(!all.contains(SECRET), "{name}: it got out\n{all}");
    let harmful = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!all.contains(harmful), "{name}: {all:?}");
}

/// `count` nested loops around uses of as many variables: what a compiler cannot do in linear time.
fn bomb(count: usize) -> Vec<u8> {
    let uses: String =
        (0..count).map(|i| format!("(local.set {i} (i32.add (local.get {i}) (i32.const 1)))")).collect();
    let text = format!(
        "(module (memory (export \"memory\") 1) (func (export \"_start\") (local {}) {} {uses} {}))",
        "i32 ".repeat(count),
        "loop ".repeat(count),
        "(br_if 0 (i32.const 0)) end ".repeat(count)
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_compiler_that_takes_too_long_is_stopped() {
    let sandbox = Sandbox::cold();
    sandbox.write("bomb.wasm", bomb(700));
    for command in [&["run", "bomb.wasm"][..], &["call", "bomb.wasm", "f()"]] {
        let ran = sandbox.vac(&[command, &["--limit", "compile-time=300ms"]].concat());
        let ran = ran.fails(4, &["compiling `bomb.wasm`", "longer than 300ms"]);
        assert!(ran.stderr.contains("--limit compile-time="), "{}", ran.stderr);
    }
    // The limit of the whole run holds while compiling, too.
    sandbox.vac(&["run", "bomb.wasm", "--time", "300ms"]).fails(4, &["the run took longer than 300ms"]);
    // Who only looks at it compiles nothing of what takes so long.
    sandbox.vac(&["inspect", "bomb.wasm"]).ok();
    assert!(sandbox.home_files("code").is_empty());
}

#[test]
fn a_compiler_that_takes_too_much_memory_is_stopped() {
    let sandbox = Sandbox::cold();
    sandbox.write("bomb.wasm", bomb(1500));
    let ran = sandbox.vac(&["run", "bomb.wasm", "--limit", "compile-memory=64MiB"]);
    let ran = ran.fails(4, &["compiling `bomb.wasm`", "67108864 bytes of memory"]);
    assert!(ran.stderr.contains("--limit compile-memory="), "{}", ran.stderr);
    assert!(sandbox.home_files("code").is_empty());
}

#[test]
fn a_script_whose_kernel_cannot_be_compiled_ends_and_replays() {
    let sandbox = sandbox();
    sandbox.write("bomb.wasm", bomb(700));
    sandbox.write("s.star", "print(\"before\")\nk = kernel(\"bomb.wasm\")\nprint(\"after\")\n");
    let ran =
        sandbox.vac(&["run", "s.star", "--limit", "compile-time=300ms"]).fails(4, &["longer than 300ms"]);
    assert_eq!(ran.out(), "before\n");
    assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "compile");
    // However long it may take now: the record says that it was over.
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
}

/// The child is killed from outside, as the system does when memory runs out.
#[test]
fn a_compiler_that_falls_is_an_error_of_the_program() {
    let sandbox = sandbox();
    sandbox.write("bomb.wasm", bomb(1000));
    for signal in ["SEGV", "ABRT", "KILL"] {
        let mut vac = sandbox.command(&["run", "bomb.wasm"]);
        let mut vac =
            vac.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let child = child_of(vac.id());
        // The first SEGV may find the engine's own handler, which gives the next one its usual end.
        while vac.try_wait().unwrap().is_none() {
            let _ = std::process::Command::new("kill").args(["-s", signal, &child]).output();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let ended = vac.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(4), "{signal}: {said}");
        assert!(said.starts_with("error: the compiler fell over `bomb.wasm`"), "{signal}: {said}");
    }
    sandbox.write("guest.wasm", Guest::new().say("alive\n").wasm());
    assert_eq!(sandbox.vac(&["run", "guest.wasm"]).ok().out(), "alive\n");
}

/// Story: the code of a run was the file in the home, mapped, and who cut that file off ended the process.
#[test]
fn compiled_code_that_is_cut_off_during_the_run_changes_nothing() {
    let sandbox = Sandbox::cold();
    let guest = Guest::new().say("on\n").raw("(loop $again (br $again))");
    sandbox.write("guest.wasm", guest.wasm());
    sandbox.compile("guest.wasm");
    let mut command = sandbox.command(&["run", "guest.wasm", "--time", "2s", "--quiet"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let files = sandbox.home_files("code");
    assert!(!files.is_empty());
    files
        .iter()
        .for_each(|file| std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap());
    let status = crate::support::wait(&mut child, "a run whose code was cut off");
    assert_eq!(status.code(), Some(4), "{status}");
    assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "time");
    sandbox.vac(&["run", "guest.wasm", "--time", "100ms"]).fails(4, &["longer than 100ms"]);
}

/// The unit test of `jail` tries what is refused; this sees that every compiler is locked up.
#[cfg(target_os = "linux")]
#[test]
fn a_compiler_is_locked_up_before_it_reads_its_program() {
    let sandbox = sandbox();
    sandbox.write("bomb.wasm", bomb(1000));
    let mut vac = sandbox.command(&["run", "bomb.wasm"]);
    let mut vac =
        vac.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let child = child_of(vac.id());
    let is_locked = || {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n")
    };
    // It locks itself up a moment after it was started.
    let locked = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        is_locked()
    });
    vac.kill().unwrap();
    vac.wait().unwrap();
    assert!(locked);
}

/// The process that `parent` started and that reads its program already.
fn child_of(parent: u32) -> String {
    for _ in 0..2000 {
        let path = format!("/proc/{parent}/task");
        let tasks = std::fs::read_dir(&path).into_iter().flatten().flatten();
        let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
        let children: String = tasks.filter_map(|task| of_task(task).ok()).collect();
        if let Some(child) = children.split_whitespace().next() {
            let status = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if status.contains("__compile") {
                return child.to_owned();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("`vac` compiles without a child");
}

#[test]
fn without_a_cache_every_start_compiles_again() {
    let sandbox = Sandbox::cold();
    sandbox.write("guest.wasm", Guest::new().say("ran\n").wasm());
    sandbox.vac(&["run", "guest.wasm"]).ok();
    // The folder of compiled code is a file now: nothing can be cached, and nothing else is wrong.
    std::fs::remove_dir_all(sandbox.home().join("code")).unwrap();
    std::fs::write(sandbox.home().join("code"), "in the way").unwrap();
    assert_eq!(sandbox.vac(&["run", "guest.wasm"]).ok().out(), "ran\n");
}

/// There is no falling back to this process. A process without free descriptors can start no other.
#[test]
fn without_a_process_to_compile_in_nothing_is_compiled() {
    let sandbox = Sandbox::cold();
    sandbox.write("guest.wasm", Guest::new().say("ran\n").wasm());
    sandbox.vac(&["runs"]).ok();
    let vac = crate::support::program().display().to_string();
    let run = |descriptors: usize| {
        let mut command = sandbox.bare("sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" --home \"$1\" inspect guest.wasm");
        command.args(["-c", &script, &vac]).arg(sandbox.home());
        crate::support::run(command)
    };
    let refused: Vec<Ran> = (5..40).map(run).take_while(|ran| ran.code() != 0).collect();
    let words = "error: cannot start a process that compiles: Too many open files";
    assert!(refused.iter().any(|ran| ran.code() == 1 && ran.stderr.starts_with(words)), "{refused:#?}");
    assert_eq!(run(200).code(), 0);
}

#[test]
fn programs_that_are_much_work_to_read_or_compile_end_in_order() {
    let sandbox = sandbox();
    let module = |code: &str| format!("(module (memory (export \"memory\") 1) (table 1 funcref) {code})");
    let start = |code: &str| module(&format!("(func (export \"_start\") {code})"));
    let programs = [
        (
            "types",
            module(&format!(
                "{} (func (export \"_start\"))",
                "(type (func (param i64 i64 f32)))".repeat(100_000)
            )),
        ),
        ("component-types", format!("(component {})", "(type (list u8))".repeat(100_000))),
        ("nested-types", format!("(component (type {} u8 {}))", "(list ".repeat(90), ")".repeat(90))),
        ("doubled-types", {
            let double = |i: usize| format!("(type $t{i} (tuple $t{} $t{}))", i - 1, i - 1);
            format!("(component (type $t0 (tuple u8 u8)) {})", (1..64).map(double).collect::<String>())
        }),
        ("instructions", start(&"(drop (i32.const 1))".repeat(500_000))),
        ("br-table", start(&format!("(block (br_table {} (i32.const 0)))", "0 ".repeat(100_000)))),
        ("blocks", start(&format!("{}{}", "block ".repeat(5_000), "end ".repeat(5_000)))),
        ("instances", {
            let instance = "(core instance (instantiate $m))".repeat(900);
            format!("(component (core module $m (memory 1)) {instance})")
        }),
    ];
    for (name, text) in programs {
        let wasm = wat::parse_str(&text).unwrap();
        sandbox.write(&format!("{name}.wasm"), wasm);
        let limits = ["--limit", "compile-time=40s", "--limit", "compile-memory=2GiB"];
        let ran = sandbox.vac(&[&["inspect", &format!("{name}.wasm")], &limits[..]].concat());
        assert!([0, 3, 4, 6].contains(&ran.code()), "{name}: {ran:?}");
        is_clean(name, &ran);
    }
}

/// A kernel that fills its memory, and one that counts what is not zero in its own.
#[test]
fn memory_of_another_instance_is_never_seen() {
    let sandbox = sandbox();
    let text = r#"(component
      (core module $m (memory 16)
        (func (export "fill") (memory.fill (i32.const 0) (i32.const 0x5a) (i32.const 1048576)))
        (func (export "count") (result i64) (local $at i32) (local $n i64)
          (drop (memory.grow (i32.const 16)))
          (loop $next
            (if (i32.load8_u (local.get $at)) (then (local.set $n (i64.add (local.get $n) (i64.const 1)))))
            (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 2097152))))
          (local.get $n)))
      (core instance $i (instantiate $m))
      (func (export "fill") (canon lift (core func $i "fill")))
      (func (export "count") (result u64) (canon lift (core func $i "count"))))"#;
    sandbox.write("k.wasm", wat::parse_str(text).unwrap());
    let script = "k = kernel(\"k.wasm\")\nfor i in range(20):\n  k.fill()\n  print(k.count())\n";
    sandbox.write("s.star", script);
    let out = sandbox.vac(&["run", "s.star"]).ok().out();
    assert_eq!(out.lines().collect::<Vec<_>>(), vec!["0"; 20]);
    sandbox.vac(&["replay", "last"]).ok();
}

/// Kernels that leave everything open, and a process that may have few descriptors.
#[test]
fn descriptors_end_with_the_kernel_that_opened_them() {
    let sandbox = sandbox();
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/opens-without-end.wat"));
    sandbox.write("k.wasm", wat::parse_str(text.unwrap()).unwrap());
    let script = "k = kernel(\"k.wasm\")\nd = dir(\"data\")\nfor i in range(60):\n  k.many(8, grants = [d])\nprint(\"done\")\n";
    sandbox.write("s.star", script);
    let mut command = sandbox.bare("sh");
    let (vac, home) = (crate::support::program().display().to_string(), sandbox.home().display().to_string());
    command.args(["-c", "ulimit -n 48; exec \"$0\" --home \"$1\" run s.star", &vac, &home]);
    assert_eq!(crate::support::run(command).ok().out(), "done\n");
}

/// The same clocks whatever the host is busy with: a guest has nothing to measure with.
#[test]
fn clocks_show_nothing_of_the_load_of_the_host() {
    let sandbox = sandbox();
    let work = Guest::new().raw("(global.set $fd (i32.const 300000)) (loop (br_if 0 (global.get $fd) (global.set $fd (i32.sub (global.get $fd) (i32.const 1)))))");
    let guest = Guest::new().times(20, work.clocks().open(ROOT, "a", "r").close());
    sandbox.write("guest.wasm", guest.wasm());
    let run = || {
        let ran = sandbox.vac(&["run", "guest.wasm", "--grant", "dir:ro=data"]).ok();
        (ran.out(), text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "head").to_owned())
    };
    let quiet = run();
    let is_done = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let busy = run();
        is_done.store(true, Ordering::Relaxed);
        busy
    });
    assert_eq!(quiet, busy);
}

/// Everything a guest can name, with what a terminal obeys in it.
#[test]
fn what_a_terminal_obeys_is_shown_quoted() {
    let sandbox = sandbox();
    for evil in ["\u{1b}[2Jx", "a\rb", "bell\u{7}", "\u{202e}txt.exe", "new\nline", "\u{9b}31m", "\u{2066}x"]
    {
        let guest =
            Guest::new().open(ROOT, evil, "r").open(ROOT, evil, "wc").at("path_create_directory", ROOT, evil);
        sandbox.write("guest.wasm", guest.wasm());
        sandbox.write("data/a", "x");
        let ran = sandbox.vac(&["run", "guest.wasm", "--grant", "dir:ro=data", "--quiet"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        for command in [&["log", "last"][..], &["log", "last", "--denied"], &["runs"], &["replay", "last"]] {
            is_clean("names", &sandbox.vac(command).ok());
        }
        let again = sandbox.vac(&["run", "guest.wasm", "--grant", "dir:ro=data", "--json"]).ok();
        assert!(!again.stdout.contains(&0x1b) && !again.stderr.contains('\u{1b}'), "{again:?}");
        if evil.contains('\n') {
            continue;
        }
        // A file's name is the downloader's choice, too.
        let name = format!("{evil}.wasm");
        sandbox.write(&name, "no program");
        is_clean("file name", &sandbox.vac(&["run", &name]).fails(2, &[]));
        sandbox.write(&name, Guest::new().raw("unreachable").wasm());
        is_clean("file name", &sandbox.vac(&["run", &name]).fails(4, &["trap"]));
        for command in [&["inspect", &name][..], &["runs"], &["log", "last"]] {
            is_clean("file name", &sandbox.vac(command).ok());
        }
    }
}

/// `--time` and interrupts hold while the host waits for input that never comes.
#[test]
fn a_wait_for_input_ends_with_the_time_of_the_run() {
    let sandbox = sandbox();
    sandbox.write("guest.wasm", Guest::new().read_from(crate::guest::Fd::Is(0)).wasm());
    // Compiled before, so that the time is over while it waits and not while it compiles.
    sandbox.vac(&["run", "guest.wasm"]).ok();
    let mut command = sandbox.command(&["run", "guest.wasm", "--grant", "stdin", "--time", "1s"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    let ran = crate::support::run(command).fails(4, &["longer than 1s"]);
    assert!(ran.stderr.contains("--time"), "{}", ran.stderr);
    drop(writer);
    sandbox.vac(&["verify", "last"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
    assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "time");
}

/// Story: a run wrote to a pipe that nobody read, and `--time` was not looked at until somebody did.
#[test]
fn output_that_nobody_reads_does_not_outlast_the_time_of_the_run() {
    let sandbox = sandbox();
    let many = Guest::new().raw("(loop $again").say(&"x".repeat(1000)).raw("(br $again))");
    sandbox.write("guest.wasm", many.wasm());
    sandbox.compile("guest.wasm");
    for together in [false, true] {
        let mut command = sandbox.command(&["run", "guest.wasm", "--time", "1s"]);
        let (unread, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap());
        command.stderr(if together { writer.into() } else { std::process::Stdio::null() });
        let mut child = command.spawn().unwrap();
        drop(command);
        let status = crate::support::wait(&mut child, "a run that nobody reads");
        assert_eq!(status.code(), Some(4), "together: {together}");
        drop(unread);
        sandbox.vac(&["verify", "last"]).ok();
        sandbox.vac(&["replay", "last"]).ok();
        assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "time");
    }
}

/// A terminal that is stopped: nobody reads its other side.
#[test]
fn a_terminal_that_is_stopped_does_not_outlast_the_time_of_the_run() {
    let sandbox = sandbox();
    let many = Guest::new().raw("(loop $again").say(&"x\n".repeat(500)).raw("(br $again))");
    sandbox.write("guest.wasm", many.wasm());
    sandbox.compile("guest.wasm");
    let vac = crate::support::program().display().to_string();
    // `script` gives its child a terminal, and is stopped before it reads anything of it.
    let mut command = sandbox.bare("python3");
    let program = "import os,sys,pty\npid,fd=pty.fork()\n\
        if pid==0: os.execv(sys.argv[1],sys.argv[1:])\n_,status=os.waitpid(pid,0)\nsys.exit(os.waitstatus_to_exitcode(status))";
    command.args(["-c", program, &vac, "--home"]).arg(sandbox.home()).args([
        "run",
        "guest.wasm",
        "--time",
        "1s",
    ]);
    let ran = crate::support::run(command);
    assert_eq!(ran.code(), 4, "{ran:?}");
    sandbox.vac(&["replay", "last"]).ok();
}

/// Deeper with a larger stack: the limit is a number of bytes, and it is ours.
#[test]
fn the_depth_of_calls_is_what_the_operator_says() {
    let sandbox = sandbox();
    let text = r#"(component
      (core module $m (func $f (export "f") (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
          (else (i32.const 0)))))
      (core instance $i (instantiate $m))
      (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#;
    sandbox.write("deep.wasm", wat::parse_str(text).unwrap());
    let deep = |n: &str, depth: &str| {
        sandbox.vac(&["call", "deep.wasm", &format!("f({n})"), "--limit", &format!("depth={depth}")])
    };
    deep("400", "64KiB").ok();
    let ran = deep("10000", "64KiB").fails(4, &["too deep", "65536 bytes"]);
    assert!(ran.stderr.contains("--limit depth="), "{}", ran.stderr);
    sandbox.vac(&["replay", "last"]).ok();
    deep("10000", "16MiB").ok();
    sandbox.vac(&["replay", "last"]).ok();
    deep("1000000", "64MiB").ok();
}

#[test]
fn a_limit_that_is_none_says_what_one_is() {
    let sandbox = sandbox();
    sandbox.write("guest.wasm", Guest::new().wasm());
    let bad = |limit: &str, words: &str| {
        let ran = sandbox.vac(&["run", "guest.wasm", "--limit", limit]);
        assert_eq!(ran.code(), 2, "{ran:?}");
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    };
    bad("calls", "NAME=VALUE");
    bad("cals=1", "calls");
    bad("calls=many", "number");
    bad("handles=5000", "at most 4096");
    bad("handles=none", "at most 4096");
    bad("time=5", "duration");
    bad("depth=1", "at least 65536");
    sandbox.vac(&["run", "guest.wasm", "--limit", "calls=none", "--limit", "time=1h"]).ok();
    let ran = sandbox.vac(&["inspect", "guest.wasm", "--limit", "calls=5"]);
    ran.fails(2, &["`calls` is a run's"]);
}

/// Calls and bytes are counted over all kernels of a run, not for each anew.
#[test]
fn a_script_cannot_start_its_quotas_again() {
    let sandbox = sandbox();
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/opens-without-end.wat"));
    sandbox.write("k.wasm", wat::parse_str(text.unwrap()).unwrap());
    let script = "k = kernel(\"k.wasm\")\nfor i in range(100):\n  k.many(1, grants = [dir(\"data\")])\n";
    sandbox.write("s.star", script);
    let ran = sandbox.vac(&["run", "s.star", "--limit", "calls=50"]);
    assert_eq!(ran.code(), 4, "{ran:?}");
    assert!(ran.stderr.contains("error: the guest wants 51 host calls; the limit is 50"), "{}", ran.stderr);
    sandbox.vac(&["replay", "last"]).ok();
}

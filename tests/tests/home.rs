//! Where state lives, who may read it, and what commands that only look may do to it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::guest::Guest;
use crate::support::{Ran, Sandbox, copy_folder, program, run, text};

fn guest(sandbox: &Sandbox) {
    sandbox.write("guest.wasm", Guest::new().say("ran\n").wasm());
}

/// Runs the guest with these variables and options.
fn run_with(sandbox: &Sandbox, variables: &[(&str, &Path)], options: &[&str]) -> Ran {
    let mut command = sandbox.bare(program());
    command.envs(variables.iter().copied()).args(options).args(["run", "guest.wasm"]);
    run(command).ok()
}

#[test]
fn the_home_is_the_option_then_the_variable_then_the_data_directory() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    let [option, variable, data] = ["option", "variable", "data"].map(|name| sandbox.path(name));
    let both: &[(&str, &Path)] = &[("XDG_DATA_HOME", &data), ("VAC_HOME", &variable)];
    let is_home = |path: &Path| path.join("runs").is_dir();
    run_with(&sandbox, both, &["--home", option.to_str().unwrap()]);
    assert!(is_home(&option) && !variable.exists() && !data.exists());
    run_with(&sandbox, both, &[]);
    assert!(is_home(&variable) && !data.exists());
    run_with(&sandbox, &both[..1], &[]);
    assert!(is_home(&data.join("vac")));
    run_with(&sandbox, &[], &[]);
    assert!(is_home(&sandbox.work().parent().unwrap().join(".local/share/vac")));
}

/// The store holds what guests were given, so nobody else may read it, whatever the umask.
#[test]
fn nobody_else_can_read_a_home() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    sandbox.write("big", vec![1; 2 << 20]);
    let (home, program) = (sandbox.home(), program().display());
    let mut shell = sandbox.bare("/bin/sh");
    let vac = format!("'{program}' --home '{}'", home.display());
    shell.args(["-c", &format!("umask 000; {vac} run guest.wasm && {vac} store put big")]);
    run(shell).ok();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for file in sandbox.home_files("") {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(&home));
        folders.for_each(|folder| assert_eq!(mode(folder), 0o700, "{}", folder.display()));
    }
}

const LOOKING: &[&[&str]] = &[
    &["runs"],
    &["log", "last"],
    &["verify", "last"],
    &["verify", "--all"],
    &["store", "ls"],
    &["store", "fsck"],
];

#[test]
fn looking_makes_no_home() {
    let sandbox = Sandbox::cold();
    for args in LOOKING {
        let ran = sandbox.vac(args);
        assert!([0, 2].contains(&ran.code()), "{ran:?}");
        assert!(!sandbox.home().exists(), "{args:?} made a home");
    }
    assert!(sandbox.vac(&["runs"]).ok().stderr.contains("no runs yet"));
}

/// Everything of a home, with its bytes.
fn content(sandbox: &Sandbox) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    sandbox.home_files("").into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn looking_changes_nothing() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    sandbox.vac(&["run", "guest.wasm"]).ok();
    let before = content(&sandbox);
    for args in LOOKING {
        sandbox.vac(args).ok();
        assert!(content(&sandbox) == before, "{args:?} changed the home");
    }
}

/// A home on a disc or in a snapshot can be looked at, and refuses to be written with one error.
#[test]
fn a_home_on_a_read_only_file_system_can_be_read() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    sandbox.vac(&["run", "guest.wasm"]).ok();
    let mounted = sandbox.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let mount = |options: &str| {
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "vac-test"]).arg(&mounted);
        command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !mount("size=16m") {
        println!("skipped: this process may not mount a tmpfs");
        return;
    }
    copy_folder(&sandbox.home(), &mounted);
    let is_read_only = mount("remount,ro");
    let vac = |args: &[&str]| {
        let mut command = sandbox.bare(program());
        command.arg("--home").arg(&mounted).args(args);
        run(command)
    };
    let looked: Vec<Ran> = LOOKING.iter().map(|args| vac(args)).collect();
    let (replayed, ran) = (vac(&["replay", "last"]), vac(&["run", "guest.wasm"]));
    let put = vac(&["store", "put", "guest.wasm"]);
    assert!(std::process::Command::new("umount").arg(&mounted).status().unwrap().success());
    assert!(is_read_only);
    looked.into_iter().for_each(|ran| drop(ran.ok()));
    replayed.ok();
    for refused in [ran.fails(1, &["Read-only"]), put.fails(1, &[])] {
        assert!(
            refused.stderr.contains("hint: choose another place with `--home DIR`"),
            "{}",
            refused.stderr
        );
        assert!(refused.stdout.is_empty(), "it ran without a record");
    }
}

#[test]
fn quiet_is_quiet() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    for flag in ["-q", "--quiet"] {
        let ran = sandbox.vac(&["run", flag, "guest.wasm"]).ok();
        assert_eq!((ran.out().as_str(), ran.stderr.as_str()), ("ran\n", ""));
    }
    sandbox.vac(&["run", "-q", "missing"]).fails(2, &["no file"]);
}

/// What a guest prints is all that is on the standard output; the summary is elsewhere.
#[test]
fn the_standard_output_is_the_guests() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    let ran = sandbox.vac(&["run", "guest.wasm"]).ok();
    assert_eq!(ran.out(), "ran\n");
    let listed = sandbox.json(&["runs"]);
    assert!(ran.stderr.contains(text(&listed["runs"][0], "head")), "the summary has the head");
}

/// One damaged ledger kept the whole store from being collected, and nothing could remove it.
#[test]
fn a_run_can_be_removed_whatever_its_files_hold() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    let runs: Vec<String> =
        (0..3).map(|_| text(&sandbox.json(&["run", "guest.wasm"]), "run").to_owned()).collect();
    let segment = sandbox.home().join(format!("runs/{}.0000", runs[1]));
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    sandbox.vac(&["store", "gc"]).fails(6, &["corrupt"]);
    sandbox.vac(&["runs", "rm", &runs[0], "nothing"]).fails(2, &["there is no run `nothing`"]);
    assert_eq!(sandbox.vac(&["runs", "rm", &runs[1]]).ok().out(), format!("removed {}\n", runs[1]));
    assert!(sandbox.home_files("runs").iter().all(|file| !file.display().to_string().contains(&runs[1])));
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["replay", &runs[0]]).ok();
    let removed = sandbox.json(&["runs", "rm", &runs[2], "last"]);
    assert_eq!(removed["removed"], serde_json::json!([runs[2]]), "named twice, removed once");
    sandbox.vac(&["runs", "rm", "last"]).ok();
    assert!(sandbox.home_files("runs").is_empty());
    sandbox.vac(&["store", "gc"]).ok();
    assert!(sandbox.vac(&["store", "ls"]).ok().out().lines().count() <= 1, "nothing names anything now");
}

#[test]
fn a_run_that_goes_on_is_not_removed() {
    let sandbox = Sandbox::cold();
    sandbox.write(
        "loop.wasm",
        wat::parse_str(
            "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $l (br $l))))",
        )
        .unwrap(),
    );
    let mut running = sandbox.command(&["run", "loop.wasm", "--time", "60s"]).spawn().unwrap();
    while sandbox.home_files("runs").is_empty() {
        assert!(running.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let refused = sandbox.vac(&["runs", "rm", "last"]);
    running.kill().unwrap();
    running.wait().unwrap();
    refused.fails(75, &["is being written"]);
    sandbox.vac(&["runs", "rm", "last"]).ok();
    assert!(sandbox.home_files("runs").is_empty());
}

#[test]
fn a_list_of_none_says_that_it_is_one() {
    let sandbox = Sandbox::cold();
    guest(&sandbox);
    assert!(sandbox.vac(&["runs", "-n", "0"]).ok().stderr.contains("there are no runs yet"));
    sandbox.vac(&["run", "guest.wasm"]).ok();
    assert_eq!(sandbox.vac(&["runs", "-n", "0"]).ok().stderr, "`-n 0` shows none of 1 runs\n");
}

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
    let sandbox = Sandbox::new();
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
    let sandbox = Sandbox::new();
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
    let sandbox = Sandbox::new();
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
    let sandbox = Sandbox::new();
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
    let sandbox = Sandbox::new();
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
    let sandbox = Sandbox::new();
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
    let sandbox = Sandbox::new();
    guest(&sandbox);
    let ran = sandbox.vac(&["run", "guest.wasm"]).ok();
    assert_eq!(ran.out(), "ran\n");
    let listed = sandbox.json(&["runs"]);
    assert!(ran.stderr.contains(text(&listed["runs"][0], "head")), "the summary has the head");
}

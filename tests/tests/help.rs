//! Help texts are what a newcomer sees first, so they are kept: `golden/help/*.txt`, made again
//! with `VAC_BLESS=1 cargo test -p vac-tests help`.

use std::path::PathBuf;

use crate::support::Sandbox;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["run"],
    &["call"],
    &["inspect"],
    &["learn"],
    &["probe"],
    &["runs"],
    &["runs", "rm"],
    &["runs", "snapshots"],
    &["log"],
    &["replay"],
    &["export-replay"],
    &["seek"],
    &["bisect"],
    &["fork"],
    &["revoke"],
    &["serve"],
    &["verify"],
    &["mem"],
    &["mem", "create"],
    &["mem", "write"],
    &["mem", "prove"],
    &["mem", "bench"],
    &["mem", "watch"],
    &["store"],
    &["store", "put"],
    &["store", "get"],
    &["store", "ls"],
    &["store", "rm"],
    &["store", "gc"],
    &["store", "compress"],
    &["store", "fsck"],
    &["store", "scrub"],
    &["tier"],
    &["tier", "add"],
    &["tier", "ls"],
    &["tier", "rm"],
    &["tier", "check"],
    &["tier", "push"],
];

fn file(command: &[&str]) -> PathBuf {
    let name = [&["vac"], command].concat().join("-");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/help").join(format!("{name}.txt"))
}

/// The help of a command, without the home of this test.
fn help(sandbox: &Sandbox, command: &[&str]) -> String {
    let mut bare = sandbox.bare(crate::support::program());
    bare.args(command).arg("--help");
    let ran = crate::support::run(bare).ok();
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    ran.out()
}

#[test]
fn help_texts_are_those_in_the_folder() {
    let sandbox = Sandbox::new();
    let mut differing = Vec::new();
    for command in COMMANDS {
        let (shown, path) = (help(&sandbox, command), file(command));
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "a line is too long: {command:?}");
        if std::env::var_os("VAC_BLESS").is_some() {
            std::fs::write(&path, &shown).unwrap();
        }
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&shown) {
            differing.push(path.file_name().unwrap().to_owned());
        }
    }
    assert!(differing.is_empty(), "VAC_BLESS=1 updates {differing:?}");
}

#[test]
fn every_command_has_its_help_in_the_folder() {
    let sandbox = Sandbox::new();
    let listed = |command: &[&str]| -> Vec<String> {
        let help = help(&sandbox, command);
        let commands = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
        let names = commands
            .filter(|line| !line.starts_with("   "))
            .map(|line| line.split_whitespace().next().unwrap().to_owned());
        names.filter(|name| name != "help").collect()
    };
    let names = listed(&[]).into_iter().map(|name| vec![name]);
    let below = |group: &'static str| {
        let names = listed(&[group]).into_iter();
        names.map(move |name| vec![group.to_owned(), name])
    };
    for command in names.chain(below("store")).chain(below("tier")).chain(below("runs")) {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        assert!(COMMANDS.contains(&command.as_slice()), "{command:?} has no golden help");
    }
}

#[test]
fn the_help_says_what_a_person_needs() {
    let sandbox = Sandbox::new();
    let main = help(&sandbox, &[]);
    for word in [
        "run",
        "call",
        "inspect",
        "runs",
        "log",
        "replay",
        "verify",
        "store",
        "--home",
        "--json",
        "VAC_HOME",
        "Exit codes",
    ] {
        assert!(main.contains(word), "{word}");
    }
    let run = help(&sandbox, &["run"]);
    for word in [
        "dir:ro=DIR",
        "dir:rw=DIR",
        "file:ro=FILE",
        "env:NAME",
        "stdin",
        "--seed",
        "--ticks",
        "--memory",
        "--time",
        "--env",
    ] {
        assert!(run.contains(word), "{word}");
    }
}

/// No terminal, no colour, whatever the environment promises; and none under `NO_COLOR`.
#[test]
fn nothing_is_coloured_where_nobody_sees_it() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", crate::guest::Guest::new().wasm());
    let commands: &[&[&str]] = &[
        &["run", "guest.wasm"],
        &["inspect", "guest.wasm"],
        &["runs"],
        &["log", "last"],
        &["verify", "last"],
        &["replay", "last"],
        &["store", "ls"],
        &["store", "fsck"],
        &["run", "missing"],
        &["runn"],
        &["--help"],
    ];
    for variables in [
        &[("TERM", "xterm-256color")][..],
        &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
        &[("TERM", "dumb")],
    ] {
        for args in commands {
            let mut command = sandbox.command(args);
            command.envs(variables.iter().copied());
            let ran = crate::support::run(command);
            assert!(!ran.stdout.contains(&0x1b) && !ran.stderr.contains('\u{1b}'), "{ran:?}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.vac(&["--version"]).ok().out(), format!("vac {}\n", env!("CARGO_PKG_VERSION")));
}

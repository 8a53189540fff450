//! `cargo xtask ci`: all that CI runs, in order, with the time of each step.
//!
//! Not a build system: a step is a command that a contributor can run alone, and is printed as such. The
//! first that fails ends it.
#![expect(clippy::disallowed_methods, reason = "steps are timed; nothing here is part of a run")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::repo::{self, Result};
use crate::{compat, forge, fuzz, kernels, seeds, sim, tidy};

const GUESTS: &str = "ring1-kernels";
/// A workspace of its own: what it depends on would change how the engine is built.
const PEERS: &str = "xtask/peers";
/// Installed if it is not there: about a minute.
const CARGO_DENY: &str = "0.20.2";

/// A step: what a contributor would type, and what it does.
struct Step {
    name: &'static str,
    run: fn(&Path) -> Result<()>,
}

/// In an order in which a mistake shows soon.
const STEPS: [Step; 14] = [
    Step { name: "cargo fmt --all --check", run: format },
    Step { name: "cargo xtask tidy", run: |_| tidy::run(&[]) },
    Step { name: "cargo clippy --workspace --all-targets -- -D warnings", run: clippy },
    Step { name: "cargo deny check", run: deny },
    Step { name: "cargo test --workspace", run: test },
    Step { name: "cargo clippy --all-targets -- -D warnings, in xtask/peers", run: clippy_peers },
    Step { name: "cargo xtask kernels --check", run: |_| kernels::run(&["--check".to_owned()]) },
    Step { name: "cargo test --workspace, in ring1-kernels", run: test_kernels },
    Step { name: "cargo run --release --bin vac -- run examples/keeling/study.star", run: study },
    Step { name: "cargo xtask compat --quick", run: |_| compat::run_in_ci() },
    Step { name: "cargo xtask fuzz", run: |_| fuzz::run(&[]) },
    Step { name: "cargo xtask forge", run: |_| forge::run(&[]) },
    Step { name: "cargo xtask seeds", run: |_| seeds::run(&[]) },
    Step { name: "cargo xtask sim", run: |_| sim::run(&[]) },
];

/// Runs every step.
///
/// # Errors
///
/// Which step failed, and why.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err("expected `cargo xtask ci`".to_owned());
    }
    let (root, start) = (repo::root()?, Instant::now());
    let mut times = Vec::new();
    for step in &STEPS {
        println!("ci: {}", step.name);
        let start = Instant::now();
        let done = (step.run)(&root);
        times.push((step.name, start.elapsed().as_secs_f64()));
        done.map_err(|why| format!("`{}` failed: {why}", step.name))?;
    }
    println!();
    times.iter().for_each(|(name, seconds)| println!("ci: {seconds:>7.1} s  {name}"));
    println!("ci: {:>7.1} s  in all", start.elapsed().as_secs_f64());
    Ok(())
}

fn format(root: &Path) -> Result<()> {
    repo::execute(repo::cargo(root).args(["fmt", "--all", "--check"]))?;
    repo::execute(repo::cargo(&root.join(PEERS)).args(["fmt", "--all", "--check"]))?;
    repo::execute(repo::cargo(&root.join(GUESTS)).args(["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> Result<()> {
    repo::execute(repo::cargo(root).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

fn clippy_peers(root: &Path) -> Result<()> {
    let mut cargo = repo::cargo(&root.join(PEERS));
    repo::execute(cargo.args(["clippy", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

/// With the engine that exported replays are for, if it can be had.
fn test(root: &Path) -> Result<()> {
    compat::peer::fetch_in_ci(root);
    repo::execute(repo::cargo(root).args(["test", "--workspace"]))
}

/// The kernels' own tests, which run on the host.
fn test_kernels(root: &Path) -> Result<()> {
    let version = repo::output(Command::new("rustc").arg("-vV").current_dir(root))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("`rustc -vV` names no host")?;
    let mut cargo = repo::cargo(&root.join(GUESTS));
    cargo.args(["test", "--workspace", "--locked", "--target", host]);
    repo::execute(&mut cargo)
}

/// The README's main job, in a home and a folder of its own.
fn study(root: &Path) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
    repo::execute(repo::cargo(root).args(["build", "--quiet", "--release", "--bin", "vac"]))?;
    let mut cargo = repo::cargo(root);
    cargo.env("VAC_HOME", folder.path());
    repo::execute(cargo.args([
        "run",
        "--quiet",
        "--release",
        "--bin",
        "vac",
        "--",
        "run",
        "examples/keeling/study.star",
    ]))
}

/// Licences, bans and sources need nothing; advisories need their database, and are left out where it
/// cannot be fetched.
fn deny(root: &Path) -> Result<()> {
    let mut version = repo::cargo(root);
    let installed = repo::output(version.args(["deny", "--version"]));
    if installed.is_err() {
        let mut install = repo::cargo(root);
        repo::execute(install.args([
            "install",
            "--quiet",
            "--locked",
            // It runs for a second; optimising it takes minutes.
            "--debug",
            "cargo-deny",
            "--version",
            CARGO_DENY,
        ]))?;
    }
    repo::execute(repo::cargo(root).args(["deny", "--workspace", "check", "bans", "licenses", "sources"]))?;
    let fetched = repo::output(repo::cargo(root).args(["deny", "fetch", "db"]));
    match fetched {
        Ok(_) => repo::execute(repo::cargo(root).args(["deny", "--workspace", "check", "advisories"])),
        Err(_) => {
            println!("ci: NOT checked: advisories, because their database cannot be fetched here");
            Ok(())
        }
    }
}

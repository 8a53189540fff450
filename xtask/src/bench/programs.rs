//! What the profile costs programs that others built, each a whole process from warm caches: small functions that call each
//! other without end, as no loop of `compute` does.

use std::path::Path;
use std::process::{Command, Stdio};

use super::figure::Figure;
use super::hello::wasmtime_of;
use super::timing::{Side, medians, time};
use super::{Result, scratch, vac};
use crate::{compat, repo};

const ROUNDS: usize = 7;
const BASELINE: &str = "wasmtime run, cached";
/// About a second of each.
const CALLS: &str = "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(26))";
const VALUES: &str =
    "d = {}\nfor n in range(400000): d[str(n % 1000)] = d.get(str(n % 1000), 0) + n\nprint(sum(d.values()))";
const SORTS: &str = "x = 1\nl = []\nfor n in range(150000):\n  x = x * 48271 % 2147483647\n  l.append((x % 1000, str(x)))\nl.sort()\nprint(l[0])";

/// Prints the same in both, or there is nothing to compare.
pub(super) fn run() -> Result<Vec<Figure>> {
    let (folder, vac, root) = (scratch()?, vac()?, repo::root()?);
    let python = compat::cpython(&root)?;
    let wasmtime = wasmtime_of(&root, folder.path())?;
    let programs = [("calls", CALLS), ("a dictionary", VALUES), ("sorts", SORTS)];
    let ours = |code: &str| {
        let mut command = Command::new(&vac);
        command.arg("--home").arg(folder.path().join("home")).arg("run").arg(&python);
        command.args(["--", "-c", code]);
        command
    };
    let theirs = |code: &str| {
        let mut command = wasmtime();
        command.args(["run", "-C", "cache=y"]).arg(Path::new(&python)).args(["-c", code]);
        command
    };
    let mut figures = Vec::new();
    for (name, code) in programs {
        let (said, expected) = (printed(ours(code))?, printed(theirs(code))?);
        if said != expected {
            return Err(format!("CPython, {name}: expected {expected:?}, got {said:?}"));
        }
        let mut sides: [Side<'_>; 2] =
            [Box::new(|| time(|| printed(ours(code)))), Box::new(|| time(|| printed(theirs(code))))];
        let medians = medians(ROUNDS, &mut sides)?;
        let baseline = (BASELINE, medians[1] / 1e6);
        figures.push(Figure::new(format!("CPython, {name}"), "ms", medians[0] / 1e6, baseline));
    }
    Ok(figures)
}

fn printed(mut command: Command) -> Result<String> {
    repo::output(command.stdin(Stdio::null()))
}

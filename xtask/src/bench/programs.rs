//! What the profile costs programs that others built, each a whole process from warm caches: small functions that call each
//! other without end, as no loop of `compute` does.

use std::path::Path;
use std::process::{Command, Stdio};

use super::figure::Figure;
use super::hello::wasmtime_of;
use super::timing::{Side, medians, time};
use super::{Result, scratch, text, vac};
use crate::{compat, repo};

const ROUNDS: usize = 7;
const BASELINE: &str = "wasmtime run, cached";
/// About a second of each.
const CALLS: &str = "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(26))";
const VALUES: &str =
    "d = {}\nfor n in range(400000): d[str(n % 1000)] = d.get(str(n % 1000), 0) + n\nprint(sum(d.values()))";
const SORTS: &str = "x = 1\nl = []\nfor n in range(150000):\n  x = x * 48271 % 2147483647\n  l.append((x % 1000, str(x)))\nl.sort()\nprint(l[0])";

/// A function that calls itself 126 million times, and does nothing else.
const FIB: &str = r#"(module (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (i32.const 1))
        (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2))))))))"#;

/// Each prints the same in both, or there is nothing to compare.
pub(super) fn run() -> Result<Vec<Figure>> {
    let (folder, vac, root) = (scratch()?, vac()?, repo::root()?);
    let wasmtime = wasmtime_of(&root, folder.path())?;
    let mut figures = vec![recursion(folder.path(), &vac, &wasmtime)?];
    let python = compat::cpython(&root)?;
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
    for (name, code) in programs {
        figures.push(compared(&format!("CPython, {name}"), &|| ours(code), &|| theirs(code))?);
    }
    Ok(figures)
}

/// Small calls and nothing else.
fn recursion(folder: &Path, vac: &Path, wasmtime: &impl Fn() -> Command) -> Result<Figure> {
    let program = folder.join("fib.wasm");
    std::fs::write(&program, wat::parse_str(FIB).map_err(text)?).map_err(text)?;
    let ours = || {
        let mut command = Command::new(vac);
        command.arg("--home").arg(folder.join("home")).args(["--quiet", "call"]).arg(&program).arg("fib(38)");
        command
    };
    let theirs = || {
        let mut command = wasmtime();
        command.args(["run", "-C", "cache=y", "--invoke", "fib"]).arg(&program).arg("38");
        command
    };
    compared("a recursive function, 126 million calls", &ours, &theirs)
}

fn compared(name: &str, ours: &dyn Fn() -> Command, theirs: &dyn Fn() -> Command) -> Result<Figure> {
    let (said, expected) = (printed(ours())?, printed(theirs())?);
    if said != expected {
        return Err(format!("{name}: expected {expected:?}, got {said:?}"));
    }
    let mut sides: [Side<'_>; 2] =
        [Box::new(|| time(|| printed(ours()))), Box::new(|| time(|| printed(theirs())))];
    let medians = medians(ROUNDS, &mut sides)?;
    Ok(Figure::new(name, "ms", medians[0] / 1e6, (BASELINE, medians[1] / 1e6)))
}

fn printed(mut command: Command) -> Result<String> {
    repo::output(command.stdin(Stdio::null()))
}

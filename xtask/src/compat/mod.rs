//! `cargo xtask compat`: programs that nobody here wrote, from their registries, under the release `vac`.
//!
//! Each program does a small job whose right answer is known, or is given by a native tool on the same
//! machine. Then it must give the same ledger head a second time, replay equal, verify, and be refused what
//! it was not granted, by name and on record. `--write` puts the table into `docs/compatibility.md`; times
//! in it are of the machine that wrote it, everything else is the same everywhere.
//!
//! Programs are fetched by the registries' own clients into `target/compat/packages`, at pinned versions,
//! and are what their CIDs here say, or nothing is run. None is part of this repository.
#![expect(
    clippy::disallowed_methods,
    reason = "starts are timed and the clients of registries are run; nothing here is part of a run"
)]

mod package;
pub(crate) mod peer;
mod programs;
mod report;
mod trial;

use std::path::PathBuf;

use crate::repo::{self, Result};
use package::Origin;
use report::Row;
use trial::Case;

/// Where packages are kept between calls.
const CACHE: &str = "target/compat";
/// What `--write` writes.
const PAGE: &str = "docs/compatibility.md";

/// A program, what it is asked to do, and how its answer is judged.
struct Program {
    /// What `cargo xtask compat NAME` calls it.
    name: &'static str,
    /// What it is, for the table.
    about: &'static str,
    /// Where it comes from.
    origin: Origin,
    /// What its answer is compared with, for the table.
    against: &'static str,
    /// Whether CI runs it on every change: small, and done in a few seconds.
    is_quick: bool,
    /// Its job.
    case: fn() -> Case,
}

/// What was typed.
struct Asked {
    names: Vec<String>,
    is_quick: bool,
    is_json: bool,
    is_write: bool,
}

impl Asked {
    fn parse(args: &[String]) -> Result<Self> {
        let mut asked = Self { names: Vec::new(), is_quick: false, is_json: false, is_write: false };
        for arg in args {
            match arg.as_str() {
                "--quick" => asked.is_quick = true,
                "--json" => asked.is_json = true,
                "--write" => asked.is_write = true,
                name if programs::ALL.iter().any(|program| program.name == name) => {
                    asked.names.push(name.to_owned());
                }
                other => return Err(unknown(other)),
            }
        }
        if asked.is_write && (asked.is_quick || !asked.names.is_empty()) {
            return Err("`--write` writes the whole page: leave out names and `--quick`".to_owned());
        }
        Ok(asked)
    }

    fn wants(&self, program: &Program) -> bool {
        let is_named = self.names.is_empty() || self.names.iter().any(|name| name == program.name);
        is_named && (program.is_quick || !self.is_quick)
    }
}

fn unknown(word: &str) -> String {
    let known: Vec<_> = programs::ALL.iter().map(|program| program.name).collect();
    format!(
        "expected `cargo xtask compat [--quick] [--json] [--write] [NAME…]`, got `{word}`; names are {}",
        known.join(", ")
    )
}

/// Judges what `args` name, or every program.
///
/// # Errors
///
/// Which programs failed, or are not available here.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let asked = Asked::parse(args)?;
    let (root, vac) = (repo::root()?, vac()?);
    let mut rows = Vec::new();
    for program in programs::ALL.iter().filter(|program| asked.wants(program)) {
        let row = Row::of(program, judge(program, &root.join(CACHE), &vac, asked.is_quick));
        if !asked.is_json {
            println!("{}", row.line());
        }
        rows.push(row);
    }
    if asked.is_json {
        println!("{}", report::json(&rows));
    }
    let failed: Vec<_> = rows.iter().filter(|row| row.result.is_err()).map(|row| row.program.name).collect();
    if !failed.is_empty() {
        return Err(format!("{} of {} failed: {}", failed.len(), rows.len(), failed.join(", ")));
    }
    if asked.is_write {
        let page = root.join(PAGE);
        std::fs::write(&page, report::page(&rows)).map_err(|e| format!("{}: {e}", page.display()))?;
    }
    Ok(())
}

/// The quick ones, where the registries can be reached; elsewhere it says that nothing was checked.
pub(crate) fn run_in_ci() -> Result<()> {
    if let Err(why) = package::reach_registry() {
        println!("compat: NOT checked: no package registry can be reached here: {why}");
        return Ok(());
    }
    run(&["--quick".to_owned()])
}

/// The CPython of the table, for benchmarks.
pub(crate) fn cpython(root: &std::path::Path) -> Result<PathBuf> {
    programs::CPYTHON.origin.fetch(&root.join(CACHE))
}

/// The solver of the table, for benchmarks.
pub(crate) fn boolector(root: &std::path::Path) -> Result<PathBuf> {
    programs::BOOLECTOR.origin.fetch(&root.join(CACHE))
}

fn judge(
    program: &Program,
    cache: &std::path::Path,
    vac: &std::path::Path,
    is_quick: bool,
) -> Result<trial::Measured> {
    let file = program.origin.fetch(cache)?;
    trial::judge(&file, vac, &(program.case)(), is_quick)
}

/// The release `vac`, built if it is not.
fn vac() -> Result<PathBuf> {
    let root = repo::root()?;
    repo::execute(repo::cargo(&root).args(["build", "--quiet", "--release", "--bin", "vac"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join("release/vac"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_unknown_ones_are_refused() {
        let mut names: Vec<_> = programs::ALL.iter().map(|program| program.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(Asked::parse(&["no-such-program".to_owned()]).is_err());
        assert!(Asked::parse(&["--write".to_owned(), "--quick".to_owned()]).is_err());
    }

    #[test]
    fn some_programs_are_quick_and_all_are_wanted_by_default() {
        let asked = Asked::parse(&["--quick".to_owned()]).unwrap();
        let quick = programs::ALL.iter().filter(|program| asked.wants(program)).count();
        assert!((3..programs::ALL.len()).contains(&quick), "{quick}");
        let asked = Asked::parse(&[]).unwrap();
        assert!(programs::ALL.iter().all(|program| asked.wants(program)));
    }
}

//! `cargo xtask bench`: each figure beside its baseline from the same run.
//!
//! Timings never fail a build: machines differ, and a goal that is missed is printed as such. Sides are
//! measured in turns, so that what else the machine does meets all of them, and medians are compared.
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock; nothing here is part of a run that is recorded"
)]

mod calls;
mod compile;
mod compute;
mod figure;
mod hello;
mod host;
mod host_call;
mod ledger;
mod memory;
mod memory_growth;
#[cfg(target_os = "linux")]
mod memory_peers;
#[cfg(target_os = "linux")]
mod memory_tiers;
mod peers;
mod plain;
mod programs;
mod replay;
mod replay_snap;
mod store;
mod store_fjall;
mod store_open;
mod study;
mod timing;

use std::path::Path;

use crate::repo::{self, Result};
use figure::Figure;

/// Measures some figures.
type Bench = fn() -> Result<Vec<Figure>>;

/// What is measured, by name.
const BENCHES: [(&str, Bench); 20] = [
    ("compute", compute::run),
    ("compute-programs", programs::run),
    ("compile", compile::run),
    ("call", calls::run),
    ("host-call", host_call::run),
    ("host-start", host::warm_start::run),
    ("host-read", host::files::read_whole),
    ("host-recording", host::files::recording),
    ("host-instances", host::instances::run),
    ("hello", hello::run),
    ("store", store::run),
    ("store-ingest", store_open::ingest),
    ("store-chunked", store_open::chunked),
    ("store-open", store_open::run),
    ("ledger", ledger::run),
    ("memory", memory::run),
    ("memory-policies", memory::policies),
    ("replay", replay::run),
    ("replay-snapshots", replay_snap::run),
    ("replay-study", study::run),
];

/// Measures what `args` name, or everything.
///
/// # Errors
///
/// An unknown name, or why something could not be measured at all.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if cfg!(debug_assertions) {
        // An unoptimised host measures nothing.
        return repo::in_release("bench", args);
    }
    let is_json = args.iter().any(|arg| arg == "--json");
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--json").collect();
    let is_known = |name: &&&str| BENCHES.iter().any(|(known, _)| is_named(known, name));
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<_> = BENCHES.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no benchmark `{unknown}`; expected some of {}", known.join(", ")));
    }
    if !is_json {
        println!("{}", figure::machine());
    }
    let mut all = Vec::new();
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|asked| is_named(name, asked));
    for (name, bench) in BENCHES.iter().filter(|(name, _)| is_wanted(name)) {
        let figures = bench().unwrap_or_else(|why| vec![Figure::unavailable(name, why)]);
        if !is_json {
            println!("\n{name}\n{}", figure::table(&figures));
        }
        all.extend(figures);
    }
    if is_json {
        println!("{}", figure::json(&all));
    }
    Ok(())
}

/// Whether `asked` is the name of a benchmark, or of the group that its name begins with: `host` is all
/// of `host-call`, `host-start` and so on.
fn is_named(name: &str, asked: &str) -> bool {
    name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A component of `ring1-kernels/prebuilt`.
fn prebuilt(name: &str) -> Result<Vec<u8>> {
    let path = repo::root()?.join("ring1-kernels/prebuilt").join(format!("{name}.wasm"));
    std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The `vac` of this build, which lies beside this program.
fn vac() -> Result<std::path::PathBuf> {
    let root = repo::root()?;
    repo::execute(repo::cargo(&root).args(["build", "--quiet", "--release", "--package", "vac"]))?;
    let own = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let vac = own.parent().unwrap_or(Path::new("")).join("vac");
    if vac.exists() { Ok(vac) } else { Err(format!("{}: expected `vac` beside this program", vac.display())) }
}

/// A folder for one benchmark, on the file system of the build.
fn scratch() -> Result<tempfile::TempDir> {
    let own = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))
}

/// Any error as the text that it is reported with.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

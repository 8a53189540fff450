//! The repository: where it is, its files, and commands that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) type Result<T> = std::result::Result<T, String>;

/// The folder of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.map(Path::to_owned).ok_or_else(|| "expected xtask in a folder of the repository".to_owned())
}

/// Cargo, as it was called, to be run in the repository.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Runs `cargo xtask COMMAND ARGS` with optimised code: for what measures, and for what runs long.
pub(crate) fn in_release(command: &str, args: &[String]) -> Result<()> {
    execute(&mut of_release(command, args)?)
}

/// What [`in_release`] runs.
pub(crate) fn of_release(command: &str, args: &[String]) -> Result<Command> {
    let mut cargo = cargo(&root()?);
    cargo.args(["run", "--quiet", "--release", "--package", "xtask", "--", command]).args(args);
    Ok(cargo)
}

/// Rustup's cargo of another toolchain. What the running cargo says of its own would get in the way.
pub(crate) fn cargo_of(toolchain: &str, root: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg(format!("+{toolchain}")).current_dir(root);
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a command to its end, with its output on the terminal.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

/// Runs a command to its end; its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{command:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)))
}

/// The paths of all files that are or may become part of the repository, sorted.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut git)?;
    let mut files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

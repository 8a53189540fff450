//! Asks `xtask/peers`, a program that measures one thing in a process of its own, and has peers that are no part of this
//! workspace. It says lines of a name and a number.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Result, scratch, text};
use crate::repo;

/// Numbers by name.
#[derive(Debug)]
pub(super) struct Said(BTreeMap<String, f64>);

impl Said {
    /// The number with this name.
    pub(super) fn get(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().ok_or_else(|| format!("the process that was measured did not say `{name}`"))
    }

    /// Everything, in the order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// What `command` says: lines of a name and a number.
fn heard(command: &mut Command) -> Result<Said> {
    let out = command.stderr(Stdio::inherit()).output().map_err(text)?;
    if !out.status.success() {
        return Err(format!("the process that was measured ended with {}", out.status));
    }
    let lines = String::from_utf8(out.stdout).map_err(text)?;
    let parse = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    let said: Option<BTreeMap<String, f64>> = lines.lines().map(parse).collect();
    said.map(Said).ok_or_else(|| format!("expected lines of a name and a number, got `{lines}`"))
}

/// What `xtask/peers` says to `args`. Builds it, if need be.
pub(super) fn ask(args: &[&str]) -> Result<Said> {
    let mut cargo = repo::cargo(&repo::root()?.join("xtask/peers"));
    heard(cargo.args(["run", "--release", "--quiet", "--locked", "--"]).args(args))
}

/// Page numbers, eight bytes each, little-endian.
pub(super) fn write_trace(path: &Path, trace: &[u64]) -> Result<()> {
    let bytes: Vec<u8> = trace.iter().flat_map(|page| page.to_le_bytes()).collect();
    std::fs::write(path, bytes).map_err(text)
}

/// Hits of each of foyer's policies, in memory.
pub(super) fn foyer_hits(capacity: usize, trace: &[u64]) -> Result<Said> {
    let folder = scratch()?;
    let path = folder.path().join("trace");
    write_trace(&path, trace)?;
    ask(&["hits", &capacity.to_string(), &path.display().to_string()])
}

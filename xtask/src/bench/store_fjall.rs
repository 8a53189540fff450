//! fjall as a side of the store's benchmark: a program of its own, for it cannot be built together with the engine without
//! changing how that is built. It measures itself, without its start.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repo;

use super::{Result, text};

const PACKAGE: &str = "xtask/fjall-peer";

/// The program and its objects.
pub(super) struct Fjall {
    program: PathBuf,
    objects: PathBuf,
    object_bytes: usize,
    group: usize,
}

impl Fjall {
    /// Builds the program, and writes down what it shall put.
    pub(super) fn new(folder: &Path, objects: &[Vec<u8>], group: usize) -> Result<Self> {
        let root = repo::root()?;
        let (manifest, target) = (root.join(PACKAGE).join("Cargo.toml"), root.join("target/fjall-peer"));
        let mut cargo = repo::cargo(&root);
        cargo.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]).arg(manifest);
        repo::execute(cargo.arg("--target-dir").arg(&target))?;
        let path = folder.join("objects");
        std::fs::write(&path, objects.concat()).map_err(text)?;
        let object_bytes = objects.first().map_or(0, Vec::len);
        Ok(Self { program: target.join("release/fjall-peer"), objects: path, object_bytes, group })
    }

    /// How many nanoseconds it takes to `put` or to `get` all of them in `folder`.
    pub(super) fn time(&self, what: &str, folder: &Path) -> Result<f64> {
        let mut command = Command::new(&self.program);
        command.arg(what).arg(folder).arg(&self.objects);
        command.args([self.object_bytes.to_string(), self.group.to_string()]);
        let ns = repo::output(&mut command)?;
        ns.trim().parse().map_err(|e| format!("fjall-peer: {e}: {ns}"))
    }
}

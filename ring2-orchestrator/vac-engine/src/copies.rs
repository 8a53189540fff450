//! Working copies of trees: what a guest is given of a `tree:` grant.
//!
//! ```text
//! HOME/trees/PID-N/GRANT/   one tree, written out for one run
//! HOME/trees/PID-N.lock     locked as long as that run lives
//! ```
//!
//! A copy belongs to one run and is removed with it. After a crash nothing holds its lock, and the
//! next run that needs copies removes it. The guest writes to its copy only, so a tree never
//! changes: what a run made of it is another tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use vac_core::cid::Cid;
use vac_core::fault::{HostAbort, Result};
use vac_host::Preopen;

use crate::grants::Grant;
use crate::home::Home;
use crate::tree;

/// The folder of all copies in a home.
const COPIES_DIR: &str = "trees";

/// The copies of one run. Dropping it removes them.
pub(crate) struct Copies {
    folder: Option<Folder>,
    /// By number of the grant.
    dirs: Vec<(u32, Dir)>,
}

impl Copies {
    /// Writes out what the grants name.
    pub(crate) fn make(home: &Home, grants: &[Grant]) -> Result<Self> {
        let trees = (0..).zip(grants).filter_map(|(number, grant)| match grant {
            Grant::Tree { cid, .. } => Some((number, *cid)),
            _ => None,
        });
        let mut copies = Self { folder: None, dirs: Vec::new() };
        for (number, cid) in trees {
            let dir = copies.copy(home, number, &cid)?;
            copies.dirs.push((number, dir));
        }
        Ok(copies)
    }

    fn copy(&mut self, home: &Home, number: u32, cid: &Cid) -> Result<Dir> {
        let folder = match &self.folder {
            Some(folder) => folder,
            None => self.folder.insert(Folder::new(&home.path().join(COPIES_DIR))?),
        };
        let path = folder.path.join(number.to_string());
        let failed = |e| HostAbort::io("make the copy of a tree in", path.display(), &e);
        fs::create_dir(&path).map_err(failed)?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(failed)?;
        tree::get(home.store(), cid, &dir)?;
        Ok(dir)
    }

    /// The copies as directories of a guest.
    pub(crate) fn preopens(&self, grants: &[Grant]) -> Result<Vec<Preopen>> {
        let mut preopens = Vec::new();
        for (number, grant) in (0..).zip(grants) {
            let (Grant::Tree { guest, rights, .. }, Some(dir)) = (grant, self.dir(number)) else { continue };
            let dir = dir.try_clone().map_err(|e| HostAbort::io("open the copy of", guest, &e))?;
            preopens.push(Preopen {
                guest: guest.clone(),
                dir,
                only: Vec::new(),
                rights: *rights,
                grant: number,
            });
        }
        Ok(preopens)
    }

    /// The copy of a grant; a replay has none.
    pub(crate) fn dir(&self, number: u32) -> Option<&Dir> {
        self.dirs.iter().find(|(of, _)| *of == number).map(|(_, dir)| dir)
    }
}

/// A folder that is removed, at the latest by the next run after a crash.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Folder {
    pub(crate) fn new(all: &Path) -> Result<Self> {
        let failed = |e| HostAbort::io("make a folder in", all.display(), &e);
        fs::create_dir_all(all).map_err(failed)?;
        sweep(all);
        for number in 0_u64.. {
            let path = all.join(format!("{}-{number}", std::process::id()));
            let lock_path = path.with_extension("lock");
            let lock = File::create(&lock_path).map_err(failed)?;
            if lock.try_lock().is_err() {
                continue;
            }
            fs::create_dir(&path).map_err(failed)?;
            return Ok(Self { path, lock_path, _lock: lock });
        }
        Err(failed(std::io::ErrorKind::AlreadyExists.into()).into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path, &self.lock_path);
    }
}

/// Removes what runs left that were killed: their locks are free.
fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let lock_path = entry.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        if File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_ok()) {
            remove(&lock_path.with_extension(""), &lock_path);
        }
    }
}

/// The lock goes last, so that what could not be removed is tried again.
fn remove(path: &Path, lock_path: &Path) {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {}
        _ => drop(fs::remove_file(lock_path)),
    }
}

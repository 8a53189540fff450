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
    match remove_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {}
        _ => drop(fs::remove_file(lock_path)),
    }
}

/// Levels that the library goes down with a directory open for each, before those below are brought up.
const LEVELS: usize = 200;
/// The system's number for that a process has as many files open as it may, on Linux and on macOS.
const TOO_MANY_OPEN: i32 = 24;
/// A longer path may be none that the system takes.
const PATH_MAX_BYTES: usize = 3000;

/// Removes a directory that a guest filled: however deep it is, this needs no more open files than a process has.
fn remove_all(path: &Path) -> std::io::Result<()> {
    let mut moved = 0_u32;
    loop {
        match fs::remove_dir_all(path) {
            Err(e) if e.raw_os_error() == Some(TOO_MANY_OPEN) => {
                let deep = deep_below(path).ok_or(e)?;
                // Some of these may be left of a process that was killed here.
                while path.join(format!(".moved-{moved}")).exists() {
                    moved += 1;
                }
                fs::rename(deep, path.join(format!(".moved-{moved}")))?;
            }
            done => return done,
        }
    }
}

/// A directory that is [`LEVELS`] down, or as far as a path reaches.
fn deep_below(path: &Path) -> Option<PathBuf> {
    let mut todo = vec![(path.to_owned(), 0)];
    while let Some((dir, level)) = todo.pop() {
        if level >= LEVELS || (level > 0 && dir.as_os_str().len() >= PATH_MAX_BYTES) {
            return Some(dir);
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        todo.extend(dirs.map(|entry| (entry.path(), level + 1)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many levels as the path of a guest's nesting reaches, each moved below the last.
    #[test]
    fn what_a_guest_nested_is_found_far_down() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        fs::create_dir(&top).unwrap();
        assert_eq!(deep_below(&top), None);
        let mut deep = top.clone();
        for _ in 0..LEVELS + 50 {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
        }
        fs::write(top.join("file"), "x").unwrap();
        let found = deep_below(&top).unwrap();
        assert_eq!(found.strip_prefix(&top).unwrap().components().count(), LEVELS);
        remove_all(&top).unwrap();
        assert!(!top.exists());
    }
}

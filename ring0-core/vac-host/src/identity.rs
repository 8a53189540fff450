//! Who an object of the file system is to a guest: its inode number and metadata hash, and the
//! times that the guest set on it.
//!
//! The host's own numbers differ between runs, so none of them is shown. An object gets its
//! identity from the place where the guest first meets it, and keeps it under every other name: a
//! hard link, a link that leads to it, a new name. Two runs that ask the same get the same.
//!
//! - No two objects that a guest can reach by a path have one identity.
//! - An identity is given up with the last name of its object, because the host may use the
//!   object's number again. What is open keeps the identity that it was opened with.

use std::collections::{BTreeMap, BTreeSet};

use cap_fs_ext::MetadataExt;
use cap_std::fs::Metadata;

use crate::clock::WALL_START_S;
use crate::fs::{ErrorCode, FsResult, Place};
use crate::limits::{OBJECTS_MET_MAX, TIMES_SET_MAX};

/// Stands for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) lower: u64,
    pub(crate) upper: u64,
}

/// Access and modification time, in seconds and nanoseconds since 1970.
pub(crate) type Times = ((u64, u32), (u64, u32));

/// What no guest has changed is as old as the run's clock.
const UNCHANGED: Times = ((WALL_START_S, 0), (WALL_START_S, 0));

/// The objects that a guest has met.
#[derive(Debug)]
pub(crate) struct Identities {
    objects_max: usize,
    times_max: usize,
    /// By device and number on the host.
    met: BTreeMap<(u64, u64), Identity>,
    used: BTreeSet<Identity>,
    times: BTreeMap<Identity, Times>,
    /// How many names were given up: a later object of the same name is another one.
    names_freed: u64,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            objects_max: OBJECTS_MET_MAX,
            times_max: TIMES_SET_MAX,
            met: BTreeMap::new(),
            used: BTreeSet::new(),
            times: BTreeMap::new(),
            names_freed: 0,
        }
    }
}

impl Identities {
    /// The identity of the object at `place`, whose metadata the host gave.
    pub(crate) fn of(&mut self, metadata: &Metadata, place: &Place) -> Identity {
        let key = key(metadata);
        if let Some(id) = self.met.get(&key) {
            return *id;
        }
        if self.met.len() >= self.objects_max {
            // Objects that were met under another name get a new identity; memory stays bounded.
            (self.met, self.used) = Default::default();
        }
        let mut turn = self.names_freed;
        let mut id = place.identity(turn);
        while !self.used.insert(id) {
            turn = turn.wrapping_add(1);
            id = place.identity(turn);
        }
        self.met.insert(key, id);
        id
    }

    /// A name was given up, and with it `object` if that was its last one.
    pub(crate) fn name_is_free(&mut self, object: Option<&Metadata>) {
        self.names_freed = self.names_freed.wrapping_add(1);
        let Some(object) = object.filter(|object| object.is_dir() || object.nlink() <= 1) else { return };
        if let Some(id) = self.met.remove(&key(object)) {
            self.used.remove(&id);
            self.times.remove(&id);
        }
    }

    pub(crate) fn times(&self, id: Identity) -> Times {
        self.times.get(&id).copied().unwrap_or(UNCHANGED)
    }

    pub(crate) fn set_times(&mut self, id: Identity, times: Times) -> FsResult<()> {
        if self.times.len() >= self.times_max && !self.times.contains_key(&id) {
            return Err(ErrorCode::InsufficientSpace);
        }
        self.times.insert(id, times);
        Ok(())
    }
}

fn key(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place { grant: 0, path: path.into() }
    }

    /// Files `a`, `b` and `c`, and their metadata.
    fn files() -> (tempfile::TempDir, [Metadata; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let dir = cap_std::fs::Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        let files = ["a", "b", "c"].map(|name| {
            dir.write(name, name).unwrap();
            dir.metadata(name).unwrap()
        });
        (folder, files)
    }

    #[test]
    fn an_object_keeps_its_identity_and_shares_it_with_none() {
        let (_folder, [a, b, c]) = files();
        let mut who = Identities::default();
        let first = who.of(&a, &place("a"));
        assert_eq!(who.of(&a, &place("elsewhere")), first);
        assert_ne!(who.of(&b, &place("a")), first, "met at a place where another is known");
        who.set_times(first, ((1, 2), (3, 4))).unwrap();
        who.name_is_free(Some(&a));
        assert_eq!(who.times(first), UNCHANGED);
        assert_ne!(who.of(&c, &place("a")), first, "a new object under an old name");
    }

    #[test]
    fn what_is_remembered_of_objects_is_bounded() {
        let (_folder, [a, b, c]) = files();
        let mut who = Identities { objects_max: 2, times_max: 1, ..Identities::default() };
        let first = who.of(&a, &place("a"));
        let second = who.of(&b, &place("b"));
        who.of(&c, &place("c"));
        assert_eq!(who.met.len(), 1, "forgotten, to begin again");
        assert_eq!(who.of(&a, &place("a")), first, "met at the same place it is the same");
        who.set_times(first, UNCHANGED).unwrap();
        assert_eq!(who.set_times(second, UNCHANGED), Err(ErrorCode::InsufficientSpace));
        who.set_times(first, ((1, 0), (1, 0))).unwrap();
    }
}

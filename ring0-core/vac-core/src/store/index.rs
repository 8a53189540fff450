//! Where each packed object is, in memory.
//!
//! Not the truth: it is read from the packs' index files and from the packs, and can be dropped
//! at any time. Invariant: an object has one location here even if several packs hold it.

#![expect(clippy::disallowed_types, reason = "its order is never observed: `sorted` sorts")]

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::cid::Cid;

use super::format::{IndexEntry, RECORD_HEAD_LEN};

/// How sure it is that an object outlives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Another process wrote it, and may not have synced it.
    Unsure,
    /// This store wrote it; its next commit makes it durable.
    Mine,
    /// Synced.
    Durable,
}

/// Where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) pack: u32,
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) standing: Standing,
}

impl Location {
    pub(super) fn body(&self) -> u64 {
        u64::from(self.start) + RECORD_HEAD_LEN as u64
    }

    /// The pack, and where in it.
    pub(super) fn place(&self) -> (u32, u32) {
        (self.pack, self.start)
    }
}

/// The map.
#[derive(Debug, Default)]
pub(super) struct Index {
    // Fixed keys instead of random ones: what a store does must not differ between runs.
    map: HashMap<Cid, Location, BuildHasherDefault<DefaultHasher>>,
    /// Places whose bytes were read and did not match. Outlives [`Index::forget_all_but`], so that
    /// reading everything again does not lose what was found out.
    bad: BTreeSet<(u32, u32)>,
}

impl Index {
    pub(super) fn get(&self, cid: &Cid) -> Option<Location> {
        self.map.get(cid).copied()
    }

    /// Whether `cid` need not be written again.
    pub(super) fn is_settled(&self, cid: &Cid) -> bool {
        let is_whole = |at: Location| at.standing != Standing::Unsure && !self.bad.contains(&at.place());
        self.get(cid).is_some_and(is_whole)
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.map.reserve(more);
    }

    /// Learns a location. A place that is not known to be bad wins, then the better standing,
    /// then the later one.
    pub(super) fn insert(&mut self, pack: u32, entry: &IndexEntry, standing: Standing) {
        let Some(cid) = entry.cid else { return };
        let new = Location { pack, start: entry.start, len: entry.len, standing };
        let old = self.map.entry(cid).or_insert(new);
        if old.place() == new.place() {
            old.standing = old.standing.max(standing);
            return;
        }
        let (was_bad, is_bad) = (self.bad.contains(&old.place()), self.bad.contains(&new.place()));
        let is_no_worse = was_bad == is_bad && old.standing <= standing;
        if (was_bad && !is_bad) || is_no_worse {
            *old = new;
        }
    }

    /// `cid` is now read from `location`.
    pub(super) fn repoint(&mut self, cid: Cid, location: Location) {
        self.map.insert(cid, location);
    }

    /// Remembers that the bytes at `place` do not match.
    pub(super) fn mark_bad(&mut self, place: (u32, u32)) {
        self.bad.insert(place);
    }

    /// Forgets which places are bad, because packs were removed and their numbers may come again.
    pub(super) fn forget_bad(&mut self) {
        self.bad.clear();
    }

    /// Forgets what a failed write may have lost.
    pub(super) fn forget_mine(&mut self) {
        self.map.retain(|_, location| location.standing != Standing::Mine);
    }

    /// Forgets all but the objects of `pack`.
    pub(super) fn forget_all_but(&mut self, pack: Option<u32>) {
        match pack {
            Some(pack) => self.map.retain(|_, location| location.pack == pack),
            None => self.map.clear(),
        }
    }

    /// Every object with its length, sorted.
    pub(super) fn sorted(&self) -> Vec<(Cid, u64)> {
        let mut all: Vec<_> = self.map.iter().map(|(cid, at)| (*cid, u64::from(at.len))).collect();
        all.sort_unstable();
        all
    }
}

//! Where each packed object is: a table in memory of what is new, and [runs](super::runs) on disk.
//!
//! Not the truth: it is read from the packs' index files and from the packs, and can be dropped
//! at any time. Invariants: an object has one location in the table even if several packs hold it; a durable place
//! that the table passes over for one that is not goes to a run all the same, which else would miss an object that it
//! covers; a run is believed only where its packs are there and long enough.

#![expect(clippy::disallowed_types, reason = "its order is never observed: `sorted` sorts")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::cid::Cid;

use super::body::Body;
use super::catalog::Pack;
use super::format::IndexEntry;
use super::run::{Damaged, Entry};
use super::runs::Runs;

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
    pub(super) body: Body,
    pub(super) standing: Standing,
}

impl Location {
    /// Where its bytes start.
    pub(super) fn body_start(&self) -> u64 {
        self.body.start(self.start)
    }

    /// Where its bytes end.
    pub(super) fn end(&self) -> u64 {
        self.body.end(self.start)
    }

    /// The pack, and where in it.
    pub(super) fn place(&self) -> (u32, u32) {
        (self.pack, self.start)
    }
}

impl From<Entry> for Location {
    /// Runs name nothing that was not synced.
    fn from(entry: Entry) -> Self {
        Self { pack: entry.pack, start: entry.start, body: entry.body, standing: Standing::Durable }
    }
}

/// The table and the runs.
#[derive(Default)]
pub(super) struct Index {
    // Fixed keys instead of random ones: what a store does must not differ between runs.
    table: HashMap<Cid, Location, BuildHasherDefault<DefaultHasher>>,
    /// Durable places of objects whose place in the table is not durable yet.
    passed_over: BTreeMap<Cid, Location>,
    pub(super) runs: Runs,
    /// Places whose bytes were read and did not match. Outlives [`Index::forget_all_but`], so that
    /// reading everything again does not lose what was found out.
    bad: BTreeSet<(u32, u32)>,
}

impl Index {
    /// Where `cid` is, given which packs there are.
    pub(super) fn get(&self, cid: &Cid, packs: &BTreeMap<u32, Pack>) -> Result<Option<Location>, Damaged> {
        // What this store wrote may be in its buffer still.
        let is_within = |at: &Location| {
            at.standing == Standing::Mine || packs.get(&at.pack).is_none_or(|pack| at.end() <= pack.len)
        };
        let new = self.table.get(cid).copied().filter(is_within);
        if new.is_some_and(|at| self.is_settled(&at)) {
            return Ok(new);
        }
        let is_there = |entry: &Entry| {
            packs.get(&entry.pack).is_some_and(|pack| Location::from(*entry).end() <= pack.len)
        };
        let is_good = |entry: &Entry| is_there(entry) && !self.bad.contains(&(entry.pack, entry.start));
        let old = self.runs.find(cid, is_good)?.filter(is_there).map(Location::from);
        Ok(match (new, old) {
            (Some(new), Some(old)) if self.is_settled(&old) || !self.is_better(&new, &old) => Some(old),
            (new, old) => new.or(old),
        })
    }

    /// Whether what is at `location` need not be written again.
    pub(super) fn is_settled(&self, location: &Location) -> bool {
        location.standing != Standing::Unsure && !self.is_bad(location)
    }

    /// Whether the bytes at `location` were read and did not match.
    pub(super) fn is_bad(&self, location: &Location) -> bool {
        self.bad.contains(&location.place())
    }

    /// A place that is not known to be bad wins, then the better standing, then the later one.
    fn is_better(&self, new: &Location, old: &Location) -> bool {
        let (was_bad, is_bad) = (self.is_bad(old), self.is_bad(new));
        let is_no_worse = was_bad == is_bad && old.standing <= new.standing;
        (was_bad && !is_bad) || is_no_worse
    }

    /// Objects in memory.
    pub(super) fn table_len(&self) -> usize {
        self.table.len()
    }

    /// Learns a location.
    pub(super) fn insert(&mut self, pack: u32, entry: &IndexEntry, standing: Standing) {
        let Some((cid, body)) = entry.object() else { return };
        let new = Location { pack, start: entry.start, body, standing };
        match self.table.get(&cid).copied() {
            Some(old) if old.place() == new.place() => {
                self.repoint(cid, Location { standing: old.standing.max(standing), ..old });
            }
            // What is written here again is about to be removed elsewhere, or bad there.
            Some(old) if old.standing == Standing::Mine && self.is_settled(&old) => self.pass_over(cid, new),
            Some(old) if !self.is_better(&new, &old) => self.pass_over(cid, new),
            _ => self.repoint(cid, new),
        }
    }

    /// `cid` is now read from `location`.
    pub(super) fn repoint(&mut self, cid: Cid, location: Location) {
        let old = self.table.insert(cid, location);
        if location.standing == Standing::Durable {
            self.passed_over.remove(&cid);
        } else if let Some(old) = old {
            self.pass_over(cid, old);
        }
    }

    /// `cid` is not read from `location`, which may be the only durable one.
    fn pass_over(&mut self, cid: Cid, location: Location) {
        let is_durable = self.table.get(&cid).is_some_and(|at| at.standing == Standing::Durable);
        if location.standing == Standing::Durable && !is_durable {
            self.passed_over.insert(cid, location);
        }
    }

    /// Remembers that the bytes at `place` do not match.
    pub(super) fn mark_bad(&mut self, place: (u32, u32)) {
        self.bad.insert(place);
    }

    /// Forgets which places of `pack` from `end` on are bad, because they are gone.
    pub(super) fn forget_bad_from(&mut self, pack: u32, end: u64) {
        self.bad.retain(|(bad, start)| *bad != pack || u64::from(*start) < end);
    }

    /// Forgets which places are bad, because packs were removed and their numbers may come again.
    pub(super) fn forget_bad(&mut self) {
        self.bad.clear();
    }

    /// Forgets all but what is new of `pack`.
    pub(super) fn forget_all_but(&mut self, pack: Option<u32>) {
        match pack {
            Some(pack) => self.table.retain(|_, location| location.pack == pack),
            None => self.table.clear(),
        }
        self.passed_over.clear();
        self.runs = Runs::default();
    }

    /// What of the table may go to a run, in its order: what is durable, and what `is_covered` says the index
    /// file of its pack names too.
    pub(super) fn settled(&self, is_covered: impl Fn(&Location) -> bool) -> Vec<Entry> {
        let all = self.table.iter().chain(&self.passed_over);
        let settled = all.filter(|(_, at)| at.standing == Standing::Durable && is_covered(at));
        let entry =
            |(cid, at): (&Cid, &Location)| Entry { cid: *cid, pack: at.pack, start: at.start, body: at.body };
        let mut entries: Vec<Entry> = settled.map(entry).collect();
        entries.sort_unstable_by_key(Entry::key);
        entries
    }

    /// The `written` entries are in `runs` now.
    pub(super) fn install(&mut self, runs: Runs, written: &[Entry]) {
        self.runs = runs;
        for entry in written {
            let written = Location::from(*entry);
            if self.table.get(&entry.cid) == Some(&written) {
                self.table.remove(&entry.cid);
            } else if self.passed_over.get(&entry.cid) == Some(&written) {
                self.passed_over.remove(&entry.cid);
            }
        }
    }

    /// Every object with how it lies, sorted.
    pub(super) fn sorted(&self, packs: &BTreeMap<u32, Pack>) -> Result<Vec<(Cid, Body)>, Damaged> {
        let mut all: Vec<_> = self.table.iter().map(|(cid, at)| (*cid, at.body)).collect();
        self.runs.each(|entry| {
            if packs.get(&entry.pack).is_some_and(|pack| Location::from(entry).end() <= pack.len) {
                all.push((entry.cid, entry.body));
            }
        })?;
        all.sort_unstable();
        all.dedup_by_key(|(cid, _)| *cid);
        Ok(all)
    }
}

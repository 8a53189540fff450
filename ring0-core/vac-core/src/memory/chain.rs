//! Tiers under each other: what one does not have, or has badly, comes from the next one.
//!
//! ```text
//! get:     first -> bad or not there -> second, hashed -> ... -> given out, and written back to those above
//! put:     first;            the others that keep, by the next commit
//! commit:  first, synced;    then what the others lack
//! ```
//!
//! The first tier is where pages live; those below are asked only for what it lacks. What went wrong is counted,
//! and the latest of it is kept as [`Event`]s: a chain heals in silence otherwise, until it cannot.
//!
//! Invariants:
//! - Bytes of a tier are hashed before they are given out or written anywhere, by the tier or here.
//! - A copy that is bad is replaced by a good one, and nothing else is ever written over.
//! - An error of one tier is the caller's only if no other tier had the object.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, Corrupt, Error, HostAbort, Result};
use crate::limits::{MEMORY_BEHIND_MAX, MEMORY_COPY_BYTES, MEMORY_EVENTS_MAX, STORE_LARGE_MIN_BYTES};
use crate::sync::{Mutex, MutexGuard, PoisonError};

use super::tier::{Spot, Tier, wrong_len};

/// Whether a tier below the first gets what is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// It is only read.
    Never,
    /// It gets all of it, as soon as it can; a commit does not fail if it cannot.
    WhenItCan,
    /// A commit is done when it has all of it.
    Always,
}

/// What went wrong in a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// It did not have an object that a tier below had.
    Missing,
    /// It had bytes that do not hash to the object.
    Corrupt,
    /// It could not be asked, or did not answer.
    Failed,
    /// An object was to be written to it, and was not.
    NotKept,
}

impl EventKind {
    /// Its name, as tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::Failed => "failed",
            Self::NotKept => "not kept",
        }
    }
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// In which tier.
    pub tier: String,
    /// What.
    pub kind: EventKind,
    /// With which object.
    pub cid: Cid,
    /// In the words of who noticed.
    pub why: String,
}

/// What happened in one tier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Its name.
    pub name: String,
    /// Objects that it was asked for. Pages that the pager read where they lie in its store are not among them.
    pub asked: u64,
    /// Those that it gave.
    pub found: u64,
    /// Those that it did not have and a tier below had.
    pub missing: u64,
    /// Those whose bytes were bad.
    pub corrupt: u64,
    /// Those for which it did not answer.
    pub failed: u64,
    /// Objects that it lacked and got from below, or had badly and were replaced.
    pub repaired: u64,
    /// Objects that it should have got and did not.
    pub not_kept: u64,
    /// Objects that were put and that it does not have yet.
    pub behind: u64,
}

struct Level {
    tier: Arc<dyn Tier>,
    keeps: Keeps,
}

/// Tiers, the nearest first.
pub struct Chain {
    first: Arc<dyn Tier>,
    below: Vec<Level>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    stats: Vec<TierStats>,
    /// What each level below has not got yet.
    behind: Vec<BTreeSet<Cid>>,
    events: VecDeque<Event>,
    events_total: u64,
}

/// One object on its way through the tiers.
struct Search {
    cid: Cid,
    max: usize,
    /// What each tier that was asked said, but for the one that had it.
    answers: Vec<Answer>,
    found: Option<Vec<u8>>,
    /// The first error that is not of a missing object.
    error: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Missing,
    Corrupt,
    Failed,
}

impl Chain {
    /// A chain of `first` alone.
    pub fn new(first: Arc<dyn Tier>) -> Self {
        let stats = vec![TierStats { name: first.name().to_owned(), ..TierStats::default() }];
        Self { first, below: Vec::new(), notes: Mutex::new(Notes { stats, ..Notes::default() }) }
    }

    /// The chain with another tier at its end.
    #[must_use]
    pub fn and(mut self, tier: Arc<dyn Tier>, keeps: Keeps) -> Self {
        {
            let mut notes = self.notes();
            notes.stats.push(TierStats { name: tier.name().to_owned(), ..TierStats::default() });
            notes.behind.push(BTreeSet::new());
        }
        self.below.push(Level { tier, keeps });
        self
    }

    /// What happened in each tier, the nearest first.
    pub fn stats(&self) -> Vec<TierStats> {
        let notes = self.notes();
        let behind = std::iter::once(0).chain(notes.behind.iter().map(|cids| cids.len() as u64));
        notes.stats.iter().cloned().zip(behind).map(|(stats, behind)| TierStats { behind, ..stats }).collect()
    }

    /// The latest things that went wrong, the oldest first, and how many there were in all.
    pub fn events(&self) -> (Vec<Event>, u64) {
        let notes = self.notes();
        (notes.events.iter().cloned().collect(), notes.events_total)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tier(&self, level: usize) -> Option<&Arc<dyn Tier>> {
        match level {
            0 => Some(&self.first),
            below => self.below.get(below - 1).map(|level| &level.tier),
        }
    }

    fn note(&self, level: usize, kind: EventKind, cid: Cid, why: String) {
        let mut notes = self.notes();
        let Some(stats) = notes.stats.get_mut(level) else { return };
        match kind {
            EventKind::Missing => stats.missing += 1,
            EventKind::Corrupt => stats.corrupt += 1,
            EventKind::Failed => stats.failed += 1,
            EventKind::NotKept => stats.not_kept += 1,
        }
        let tier = stats.name.clone();
        notes.events_total += 1;
        notes.events.push_back(Event { tier, kind, cid, why });
        while notes.events.len() > MEMORY_EVENTS_MAX {
            notes.events.pop_front();
        }
    }

    fn count(&self, level: usize, asked: u64, found: u64) {
        if let Some(stats) = self.notes().stats.get_mut(level) {
            stats.asked += asked;
            stats.found += found;
        }
    }

    /// Notes what a tier said about an object.
    fn learn(&self, level: usize, search: &mut Search, said: Result<Option<Vec<u8>>>) {
        let trusted = self.tier(level).is_some_and(|tier| tier.verifies());
        let checked = said.and_then(|found| match found {
            Some(bytes) if !trusted => check(&search.cid, search.max, bytes).map(Some),
            found => Ok(found),
        });
        self.count(level, 1, u64::from(matches!(checked, Ok(Some(_)))));
        match checked {
            Ok(Some(bytes)) => search.found = Some(bytes),
            Ok(None) => search.answers.push(Answer::Missing),
            Err(why) => self.learn_error(level, search, why),
        }
    }

    fn learn_error(&self, level: usize, search: &mut Search, why: Error) {
        let (answer, kind) = match &why {
            Error::Corrupt(_) => (Answer::Corrupt, EventKind::Corrupt),
            _ => (Answer::Failed, EventKind::Failed),
        };
        self.note(level, kind, search.cid, why.to_string());
        search.answers.push(answer);
        search.error.get_or_insert(why);
    }

    /// Asks the tiers below the first for what it did not have.
    fn search_below(&self, searches: &mut [Search]) {
        for (at, level) in self.below.iter().enumerate() {
            let mut open: Vec<&mut Search> = searches.iter_mut().filter(|it| it.found.is_none()).collect();
            if open.is_empty() {
                break;
            }
            let wanted: Vec<(Cid, usize)> = open.iter().map(|search| (search.cid, search.max)).collect();
            let mut said = level.tier.get_many(&wanted).into_iter();
            for search in &mut open {
                // One that answers for fewer than it was asked for does not have the others.
                self.learn(at + 1, search, said.next().unwrap_or(Ok(None)));
            }
        }
        searches.iter().for_each(|search| self.write_back(search));
    }

    /// Whether anything may be put into a tier.
    fn is_written(&self, level: usize) -> bool {
        level.checked_sub(1).and_then(|below| self.below.get(below)).is_none_or(|it| it.keeps != Keeps::Never)
    }

    /// Gives a good copy to the tiers that were asked in vain. Failing to is no failure to read.
    fn write_back(&self, search: &Search) {
        let Some(bytes) = &search.found else { return };
        for (level, answer) in search.answers.iter().enumerate() {
            let Some(tier) = self.tier(level).filter(|_| self.is_written(level)) else { continue };
            let kept = match answer {
                Answer::Failed => continue,
                Answer::Missing => {
                    self.note(level, EventKind::Missing, search.cid, "a tier below has it".to_owned());
                    tier.put(&search.cid, bytes)
                }
                Answer::Corrupt => tier.replace(&search.cid, bytes),
            };
            match kept {
                Ok(()) => {
                    if let Some(stats) = self.notes().stats.get_mut(level) {
                        stats.repaired += 1;
                    }
                }
                Err(why) => self.note(level, EventKind::NotKept, search.cid, why.to_string()),
            }
        }
    }

    /// Gives the tiers that keep what was put since they last got it.
    fn catch_up(&self) -> Result<()> {
        for (at, level) in self.below.iter().enumerate() {
            let caught_up = self.catch_up_one(at, level).and_then(|()| level.tier.commit());
            // Else what was not kept was noted, and is tried again by the next commit.
            if level.keeps == Keeps::Always {
                caught_up?;
            }
        }
        Ok(())
    }

    /// Tries each object that a level lacks once; the first error, if there was one. A level that takes nothing of a
    /// part is asked no more.
    fn catch_up_one(&self, at: usize, level: &Level) -> Result<()> {
        let behind: Vec<Cid> = self.notes().behind.get(at).into_iter().flatten().copied().collect();
        let (mut rest, mut failed) = (behind.iter(), None);
        loop {
            let objects = self.next_behind(at, &mut rest, &mut failed);
            if objects.is_empty() {
                return failed.map_or(Ok(()), Err);
            }
            let mut taken = 0;
            for ((cid, _), kept) in objects.iter().zip(level.tier.put_many(&objects)) {
                match kept {
                    Ok(()) => {
                        taken += 1;
                        self.is_level(at, cid);
                    }
                    Err(why) => self.not_kept(at, cid, why, &mut failed),
                }
            }
            if let (0, Some(why)) = (taken, failed.take_if(|_| taken == 0)) {
                return Err(why);
            }
        }
    }

    /// The level lacks `cid` no more.
    fn is_level(&self, at: usize, cid: &Cid) {
        if let Some(behind) = self.notes().behind.get_mut(at) {
            behind.remove(cid);
        }
    }

    fn not_kept(&self, at: usize, cid: &Cid, why: Error, failed: &mut Option<Error>) {
        self.note(at + 1, EventKind::NotKept, *cid, why.to_string());
        failed.get_or_insert(why);
    }

    /// Some of what a level lacks. What cannot be read stays behind, and keeps nothing else back.
    fn next_behind<'c>(
        &self,
        at: usize,
        rest: &mut impl Iterator<Item = &'c Cid>,
        failed: &mut Option<Error>,
    ) -> Vec<(Cid, Vec<u8>)> {
        let (mut objects, mut bytes) = (Vec::new(), 0);
        let is_strict = self.below.get(at).is_some_and(|level| level.keeps == Keeps::Always);
        while bytes < MEMORY_COPY_BYTES && objects.len() < MEMORY_COPY_BYTES / 4096 {
            let Some(cid) = rest.next() else { break };
            match self.get(cid, STORE_LARGE_MIN_BYTES) {
                Ok(Some(object)) => {
                    bytes += object.len();
                    objects.push((*cid, object));
                }
                // Nothing that was put goes before the store is closed: it was lost, and no commit may say that all is there.
                Ok(None) if is_strict => self.not_kept(at, cid, gone(cid), failed),
                Ok(None) => self.is_level(at, cid),
                Err(why) => self.not_kept(at, cid, why, failed),
            }
        }
        objects
    }

    /// Notes that the levels that keep lack `cid`. For one that must have all, catches up first if it lacks too much;
    /// one that gets what it can goes without, until that is put again.
    fn fall_behind(&self, cid: &Cid) -> Result<()> {
        let is_full = |notes: &Notes, at: usize| {
            notes
                .behind
                .get(at)
                .is_some_and(|behind| behind.len() >= MEMORY_BEHIND_MAX && !behind.contains(cid))
        };
        for (at, level) in self.below.iter().enumerate().filter(|(_, level)| level.keeps != Keeps::Never) {
            if level.keeps == Keeps::Always && is_full(&self.notes(), at) {
                self.catch_up_one(at, level)?;
            }
            let mut notes = self.notes();
            if !is_full(&notes, at) {
                if let Some(behind) = notes.behind.get_mut(at) {
                    behind.insert(*cid);
                }
                continue;
            }
            if level.keeps == Keeps::Always {
                let name = crate::fault::quote(level.tier.name());
                let message = format!("the tier `{name}` lacks {MEMORY_BEHIND_MAX} objects and takes none");
                return Err(HostAbort::new(AbortKind::Machine, message).into());
            }
            if let Some(stats) = notes.stats.get_mut(at + 1) {
                stats.not_kept += 1;
            }
        }
        Ok(())
    }
}

impl Search {
    fn new(cid: Cid, max: usize) -> Self {
        Self { cid, max, answers: Vec::new(), found: None, error: None }
    }

    fn end(self) -> Result<Option<Vec<u8>>> {
        match (self.found, self.error) {
            (Some(bytes), _) => Ok(Some(bytes)),
            (None, Some(why)) => Err(why),
            (None, None) => Ok(None),
        }
    }
}

/// The error of an object that was put and that no tier has.
fn gone(cid: &Cid) -> Error {
    Corrupt::new("page or node", "the tiers", format!("the object {cid}"), "nothing").into()
}

/// Bytes of a tier that hash to their name and are not too long.
fn check(cid: &Cid, max: usize, bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.len() > max {
        return Err(wrong_len(cid, format!("at most {max} bytes"), bytes.len() as u64));
    }
    let got = Cid::of(cid.codec(), &bytes);
    if got != *cid {
        return Err(Corrupt::new("object", format!("the object {cid}"), cid, got).into());
    }
    Ok(bytes)
}

impl Tier for Chain {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let mut search = Search::new(*cid, to.len());
        let trusted = self.first.verifies();
        let said = self.first.read_into(cid, to).and_then(|found| match found {
            true if !trusted => check(cid, to.len(), to.to_vec()).map(|_| true),
            found => Ok(found),
        });
        self.count(0, 1, u64::from(matches!(said, Ok(true))));
        match said {
            Ok(true) => return Ok(true),
            Ok(false) => search.answers.push(Answer::Missing),
            Err(why) => self.learn_error(0, &mut search, why),
        }
        let mut searches = [search];
        self.search_below(&mut searches);
        let [search] = searches;
        let Some(bytes) = search.end()? else { return Ok(false) };
        if bytes.len() != to.len() {
            return Err(wrong_len(cid, format!("{} bytes", to.len()), bytes.len() as u64));
        }
        to.copy_from_slice(&bytes);
        Ok(true)
    }

    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>> {
        self.get_many(&[(*cid, max)]).pop().unwrap_or(Ok(None))
    }

    fn get_many(&self, wanted: &[(Cid, usize)]) -> Vec<Result<Option<Vec<u8>>>> {
        let mut searches: Vec<Search> = wanted.iter().map(|(cid, max)| Search::new(*cid, *max)).collect();
        let mut said = self.first.get_many(wanted).into_iter();
        for search in &mut searches {
            self.learn(0, search, said.next().unwrap_or(Ok(None)));
        }
        self.search_below(&mut searches);
        searches.into_iter().map(Search::end).collect()
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.first.put(cid, bytes)?;
        self.fall_behind(cid)
    }

    fn replace(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.first.replace(cid, bytes)
    }

    fn commit(&self) -> Result<()> {
        self.first.commit()?;
        self.catch_up()
    }

    fn name(&self) -> &str {
        self.first.name()
    }

    fn verifies(&self) -> bool {
        true
    }

    fn cost(&self) -> u32 {
        self.first.cost()
    }

    fn locate(&self, cid: &Cid) -> Option<Spot> {
        self.first.locate(cid)
    }
}

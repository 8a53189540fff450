//! Checking a store a part at a time, and mending what rotted from somewhere else.
//!
//! A scrub hashes so many bytes as it may, remembers in `store/scrub` where it stopped, and goes on there
//! the next time: packs in the order of their numbers, then large objects. Invariants: each call gets further
//! by at least one object; nothing is mended with bytes that are not those of the object, nor said to be before
//! it was read; the place where it stopped can be lost, which costs time only.

use std::borrow::Cow;
use std::io;

use crate::cid::{CID_LEN, Cid};
use crate::fault::{Corrupt, Error, Result};
use crate::storage::{OpenMode, StorageFile, read_file};

use super::Store;
use super::catalog::View;
use super::chunks;
use super::format::{IndexEntry, checksum, take, unseal};
use super::forms::Form;
use super::index::{Location, Standing};
use super::read::{corrupt_packed, read_body};

const CURSOR_LEN: usize = 8 + CID_LEN + 4;

/// Another place that may have an object.
pub type Source<'a> = &'a dyn Fn(&Cid) -> Result<Option<Vec<u8>>>;

/// What one part of a scrub found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScrubReport {
    /// Copies of objects that were hashed.
    pub objects: u64,
    /// Their length in bytes, as they are stored.
    pub bytes: u64,
    /// All that fails its check.
    pub corrupt: Vec<Corrupt>,
    /// How many of these are not made good by a whole copy of every object that they are of, or are of none that is
    /// known.
    pub unmended: u64,
    /// Objects that were bad or gone and are whole again.
    pub mended: Vec<Cid>,
    /// Objects that are bad or gone, and that nobody has.
    pub lost: Vec<Cid>,
    /// Whether everything has been looked at since the beginning; the next call begins anew.
    pub is_done: bool,
}

/// Where a scrub goes on: at a place in a pack or, after the packs, behind a large object.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    pack: u32,
    start: u32,
    large: Option<Cid>,
}

impl Cursor {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.pack.to_le_bytes(), self.start.to_le_bytes()].concat();
        bytes.extend_from_slice(&self.large.map_or([0; CID_LEN], Cid::to_bytes));
        let sum = checksum(&bytes, 0, 0);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, 0, 0)?;
        let pack = u32::from_le_bytes(take(&mut rest)?);
        let start = u32::from_le_bytes(take(&mut rest)?);
        (rest.len() == CID_LEN).then_some(Self { pack, start, large: Cid::try_from_bytes(rest) })
    }
}

/// One call of [`Store::scrub`].
struct Scrub<'a> {
    store: &'a Store,
    source: Source<'a>,
    budget: u64,
    at: Cursor,
    report: ScrubReport,
    /// The objects that each of `report.corrupt` is of.
    concerned: Vec<Vec<Cid>>,
}

impl Store {
    /// Hashes objects again until `budget_bytes` are used up, from where the last call stopped. What is bad or
    /// gone is named, and written anew if `source` has it; the bad form of a large object whose other form is whole is
    /// removed, and counts as mended. An error is a failure to read, or to mend.
    pub fn scrub(&self, budget_bytes: u64, source: Source<'_>) -> Result<ScrubReport> {
        let at = self.read_cursor();
        let report = ScrubReport::default();
        let mut scrub =
            Scrub { store: self, source, budget: budget_bytes.max(1), at, report, concerned: Vec::new() };
        let done = scrub.packs().and_then(|is_done| Ok(is_done && scrub.large()?));
        // Last, because an object can come with another.
        let unmended = scrub.concerned.iter().filter(|cids| !scrub.are_whole(cids)).count() as u64;
        let Scrub { mut report, at, .. } = scrub;
        report.unmended = unmended;
        // Also after an error: what was mended stays so, and the next call goes on from there.
        self.commit()?;
        report.is_done = matches!(done, Ok(true));
        self.write_cursor(if report.is_done { Cursor::default() } else { at })?;
        done.map(|_| report)
    }

    /// Lets the next [`Self::scrub`] begin anew.
    pub fn restart_scrub(&self) -> Result<()> {
        self.write_cursor(Cursor::default())
    }

    fn read_cursor(&self) -> Cursor {
        let bytes = read_file(&*self.home.storage, &self.home.scrub(), CURSOR_LEN as u64);
        bytes.ok().and_then(|bytes| Cursor::decode(&bytes)).unwrap_or_default()
    }

    /// Not durable: a scrub that begins anew is none the worse.
    fn write_cursor(&self, cursor: Cursor) -> Result<()> {
        if self.state().is_read_only {
            return Ok(());
        }
        let temp = self.home.temp()?;
        self.home.named("write", &temp.path, temp.file.write_at(&cursor.encode(), 0))?;
        let path = self.home.scrub();
        self.home.named("rename to", &path, self.home.storage.rename(&temp.path, &path))
    }
}

impl Store {
    /// What is wrong with one stretch of a pack.
    fn check_entry(&self, pack: u32, file: &dyn StorageFile, entry: &IndexEntry) -> Option<Corrupt> {
        let path = self.home.show(&self.home.pack(pack));
        let Some((cid, body)) = entry.object() else {
            let place = format!("`{path}` at byte {}", entry.start);
            return Some(Corrupt::new("record", place, "a record with its checksum", "other bytes"));
        };
        let at = Location { pack, start: entry.start, body, standing: Standing::Durable };
        let stored = match read_body(&self.home, file, &at) {
            Ok(stored) => stored,
            Err(why) => return Some(named(&cid, format!("`{path}` at byte {}", at.body_start()), why)),
        };
        let got = body.object(&cid, Cow::Owned(stored)).err()?;
        Some(corrupt_packed(&self.home, &cid, pack, at.body_start(), &got))
    }

    /// [`Self::check_entry`] of a stretch that no index names: another process may have been writing it just then, or
    /// have cut it, for nothing of it was acknowledged. Then it is found no more, or found to be good.
    fn look_again(&self, pack: u32, file: &dyn StorageFile, entry: &IndexEntry) -> Result<Option<Corrupt>> {
        let (view, _) = View::read_most(&self.home, pack, file)?;
        let mut all = view.indexed.iter().chain(view.scanned.iter().map(|found| &found.entry));
        let is_there = all.any(|now| now.start == entry.start && now.cid() == entry.cid());
        Ok(if is_there { self.check_entry(pack, file, entry) } else { None })
    }
}

impl Scrub<'_> {
    /// Goes through the packs. `false` if the budget was used up.
    fn packs(&mut self) -> Result<bool> {
        if self.at == Cursor::default() {
            self.lost()?;
        }
        for number in self.store.home.pack_numbers(".pack")? {
            if self.at.large.is_some() || number < self.at.pack {
                continue;
            }
            let start = if number == self.at.pack { self.at.start } else { 0 };
            self.at = Cursor { pack: number, start, large: None };
            if !self.pack(number)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is not even in a pack any more: from the indexes, which may know of it.
    fn lost(&mut self) -> Result<()> {
        for (corrupt, cid) in self.store.find_lost()? {
            self.note_corrupt(corrupt, vec![cid]);
            self.mend(&cid)?;
        }
        Ok(())
    }

    fn pack(&mut self, number: u32) -> Result<bool> {
        let home = &self.store.home;
        let Some(file) = home.try_open(&home.pack(number), OpenMode::Read)? else { return Ok(true) };
        let (view, unreadable) = View::read_most(home, number, &*file)?;
        let indexed = view.indexed.iter().map(|entry| (entry, true));
        let scanned = view.scanned.iter().map(|found| (&found.entry, false));
        for (entry, is_indexed) in indexed.chain(scanned) {
            if entry.start < self.at.start {
                continue;
            }
            if self.budget == 0 {
                return Ok(false);
            }
            self.entry(number, &*file, entry, is_indexed)?;
            self.at.start = entry.start.saturating_add(1);
        }
        if let Some(why) = unreadable {
            let place = format!("`{}`", home.show(&home.pack(number)));
            self.note_corrupt(Corrupt::new("pack", place, "all of its bytes", why), Vec::new());
        }
        Ok(true)
    }

    fn entry(
        &mut self,
        pack: u32,
        file: &dyn StorageFile,
        entry: &IndexEntry,
        is_indexed: bool,
    ) -> Result<()> {
        let store = self.store;
        if let Some((_, body)) = entry.object() {
            self.count(body.len().into());
        }
        let Some(mut corrupt) = store.check_entry(pack, file, entry) else { return Ok(()) };
        if !is_indexed {
            let Some(again) = store.look_again(pack, file, entry)? else { return Ok(()) };
            corrupt = again;
        }
        let cids = match entry.cid() {
            Some(cid) => {
                store.state().catalog.index.mark_bad((pack, entry.start));
                vec![cid]
            }
            None => store.indexed_in(pack, entry),
        };
        self.note_corrupt(corrupt, cids.clone());
        cids.iter().try_for_each(|cid| self.mend(cid))
    }

    fn count(&mut self, len: u64) {
        self.report.objects += 1;
        self.report.bytes += len;
        self.budget = self.budget.saturating_sub(len.max(1));
    }

    /// Goes through the large objects. `false` if the budget was used up.
    fn large(&mut self) -> Result<bool> {
        let mut cids = self.store.large_cids()?;
        cids.extend(chunks::listed(&self.store.home)?);
        cids.sort_unstable();
        cids.dedup();
        for cid in cids {
            if self.at.large.is_some_and(|last| cid <= last) {
                continue;
            }
            if self.budget == 0 {
                return Ok(false);
            }
            self.large_file(&cid)?;
            self.list(&cid)?;
            self.at.large = Some(cid);
        }
        Ok(true)
    }

    fn large_file(&mut self, cid: &Cid) -> Result<()> {
        let store = self.store;
        let path = store.home.large(cid);
        let Some(file) = store.home.try_open(&path, OpenMode::Read)? else { return Ok(()) };
        self.count(store.home.named("read", &path, file.len())?);
        let Err(why) = store.hash_large(cid, &*file, &mut io::sink()) else { return Ok(()) };
        self.note_corrupt(named(cid, format!("`{}`", store.home.show(&path)), why), vec![*cid]);
        // Also if it could not be read.
        store.state().bad_large.insert(*cid);
        match store.drop_form(cid, Form::Piece)? {
            true => self.note_mended(cid),
            false => self.mend(cid)?,
        }
        Ok(())
    }

    /// An object in chunks: together they must be what it is.
    fn list(&mut self, cid: &Cid) -> Result<()> {
        let store = self.store;
        let why = match store.check_list(cid) {
            Ok(len) => {
                len.into_iter().for_each(|len| self.count(len));
                return Ok(());
            }
            Err(why) => why,
        };
        let place = format!("`{}`", store.home.show(&store.home.chunked(cid)));
        self.note_corrupt(named(cid, place, why), vec![*cid]);
        store.state().bad_lists.insert(*cid);
        if store.drop_form(cid, Form::Chunks)? {
            self.note_mended(cid);
            return Ok(());
        }
        // Read only, or while somebody collects: the object is not lost, and the next scrub tries again.
        let is_in_piece = store.is_form_whole(cid, Form::Piece);
        if is_in_piece || store.state().is_read_only && matches!(store.is_whole(cid), Ok(true)) {
            return Ok(());
        }
        if self.mend_list(cid)? && matches!(store.is_whole(cid), Ok(true)) {
            self.note_mended(cid);
            // Chunks that nobody else had by themselves may have come with their object.
            self.report.lost.retain(|cid| !matches!(store.is_whole(cid), Ok(true)));
        } else {
            self.note_lost(cid);
        }
        Ok(())
    }

    fn note_corrupt(&mut self, why: Corrupt, of: Vec<Cid>) {
        self.report.corrupt.push(why);
        self.concerned.push(of);
    }

    fn are_whole(&self, cids: &[Cid]) -> bool {
        !cids.is_empty() && cids.iter().all(|cid| matches!(self.store.is_whole(cid), Ok(true)))
    }

    /// Once, also if both forms were bad.
    fn note_mended(&mut self, cid: &Cid) {
        self.report.lost.retain(|lost| lost != cid);
        if !self.report.mended.contains(cid) {
            self.report.mended.push(*cid);
        }
    }

    fn note_lost(&mut self, cid: &Cid) {
        if !self.report.lost.contains(cid) {
            self.report.lost.push(*cid);
        }
    }

    /// Writes a list anew: from its own chunks, or with the object from elsewhere.
    fn mend_list(&mut self, cid: &Cid) -> Result<bool> {
        match self.store.relist(cid) {
            Ok(true) => return Ok(true),
            // What is damaged is why this is done.
            Ok(false) | Err(Error::Corrupt(_)) => {}
            Err(other) if matches!(self.store.is_whole(cid), Ok(true)) => return Err(other),
            Err(_) => {}
        }
        let Some(bytes) = self.asked_of_source(cid) else { return Ok(false) };
        self.store.put_chunked(cid.codec(), &mut bytes.as_slice(), bytes.len() as u64)?;
        Ok(true)
    }

    /// Writes an object anew, unless there is a whole copy of it here.
    fn mend(&mut self, cid: &Cid) -> Result<()> {
        if let Ok(true) = self.store.is_whole(cid) {
            return Ok(());
        }
        let Some(bytes) = self.asked_of_source(cid) else {
            self.note_lost(cid);
            return Ok(());
        };
        self.store.put_named(cid, &bytes)?;
        match self.store.is_whole(cid) {
            Ok(true) => self.note_mended(cid),
            _ => self.note_lost(cid),
        }
        Ok(())
    }

    /// The object from elsewhere. A source that fails is reported, and ends nothing: the next scrub asks it again.
    fn asked_of_source(&mut self, cid: &Cid) -> Option<Vec<u8>> {
        match (self.source)(cid) {
            Ok(bytes) => bytes.filter(|bytes| Cid::of(cid.codec(), bytes) == *cid),
            Err(why) => {
                self.note_corrupt(named(cid, "a tier below the store".to_owned(), why), vec![*cid]);
                None
            }
        }
    }
}

/// Why an object is not whole; what cannot be read counts as damaged, for that is what a scrub is for.
fn named(cid: &Cid, place: String, why: Error) -> Corrupt {
    match why {
        Error::Corrupt(corrupt) => corrupt,
        other => Corrupt::new("object", place, cid, other),
    }
}

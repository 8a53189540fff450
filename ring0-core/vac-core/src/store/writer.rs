//! Appending to a pack: taking one over, buffering, group commit.
//!
//! A writer holds its pack's lock, so no other process changes that pack. Objects wait in memory,
//! go to the file a buffer at a time, are durable after a sync, and only then enter the index
//! file, without a sync of its own.
//!
//! Invariants:
//! - Bytes before `durable_end` are synced and never written again, except to the same values; but for the header of a pack of
//!   an older version, which nobody needs to find what is in the pack.
//! - The index file never names a byte that was not synced, and never skips one: after a failed
//!   append to it, nothing more is appended.
//! - A torn tail is cut only by the holder of the lock, and what is kept of it is written once more
//!   and synced: a sync that failed for an earlier process leaves bytes that can be read but are
//!   not on the disk.

use std::io;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::Result;
use crate::limits::{
    STORE_CHUNK_BYTES, STORE_RESERVE_FROM_BYTES, STORE_RESERVE_MAX_BYTES, STORE_RESERVE_MIN_BYTES,
};
use crate::storage::{Lock, LockMode, OpenMode, StorageFile};

use super::body::Body;
use super::catalog::{Catalog, Pack};
use super::format::{self, FILE_HEAD_LEN, IndexEntry, Kind, Record, VERSION};
use super::home::Home;
use super::index::{Location, Standing};
use super::runs::forget_beyond;
use super::scan::scan;

/// The pack that this store appends to.
pub(super) struct Writer {
    pub(super) number: u32,
    file: Arc<dyn StorageFile>,
    _lock: Box<dyn Lock>,
    /// Bytes of the pack from `written` on that are not in the file yet.
    buf: Vec<u8>,
    written: u64,
    durable_end: u64,
    room: Room,
    /// Objects since the last batch was taken.
    pending: Vec<IndexEntry>,
    idx: Idx,
    is_name_durable: bool,
}

/// The index file beside the pack.
struct Idx {
    /// `None` after a failure: from then on the index is left behind, and a reader scans.
    file: Option<Box<dyn StorageFile>>,
    len: u64,
    end: u64,
}

/// What is reserved of the disk ahead of the end of a pack, so that it lies in few pieces there.
///
/// Only a help, for whoever puts much at once: small commits would take longer for it, and without room the write that needs it fails,
/// and says so.
struct Room {
    /// Up to here nothing more is asked for.
    end: u64,
    /// How much is asked for next. Zero after a failure: then no more is.
    step: u64,
}

impl Room {
    /// Of a pack that ends at `end`.
    fn after(end: u64) -> Self {
        Self { end, step: STORE_RESERVE_MIN_BYTES }
    }

    /// Makes sure that there is room for `len` bytes from `from` of the file, and some more, if they are many; but no more than a full
    /// pack takes.
    fn make(&mut self, file: &dyn StorageFile, from: u64, len: u64, pack_max: u64) {
        let is_much = len >= STORE_RESERVE_FROM_BYTES;
        if !is_much || self.step == 0 || from + len <= self.end || from + len >= pack_max {
            return;
        }
        self.end = (from + len + self.step).min(pack_max);
        let made = file.reserve(self.end);
        self.step = if made.is_ok() { (self.step * 2).min(STORE_RESERVE_MAX_BYTES) } else { 0 };
    }
}

/// What one commit makes durable.
pub(super) struct Batch {
    file: Arc<dyn StorageFile>,
    number: u32,
    end: u64,
    entries: Vec<IndexEntry>,
    is_name_durable: bool,
}

impl Batch {
    /// Waits for the disk. Called without any lock that a reader needs.
    pub(super) fn sync(&self, home: &Home) -> Result<()> {
        home.named("sync", &home.pack(self.number), self.file.sync_data())?;
        if !self.is_name_durable {
            home.sync_dir(&home.packs())?;
        }
        Ok(())
    }
}

impl Writer {
    /// Takes over the first pack that is free and not full, or makes a new one. On the way,
    /// settles the tails that writers who died left behind.
    pub(super) fn acquire(home: &Home, catalog: &mut Catalog) -> Result<Self> {
        home.make_dir(&home.packs())?;
        catalog.refresh(home, None)?;
        let mut chosen: Option<Self> = None;
        let packs: Vec<(u32, Pack)> = catalog.packs.iter().map(|(number, pack)| (*number, *pack)).collect();
        for (number, pack) in packs {
            let has_tail = pack.len > pack.idx_end;
            let is_wanted = chosen.is_none() && pack.len < home.tuning.pack_max;
            if !has_tail && !is_wanted {
                continue;
            }
            let Some(writer) = Self::try_take_over(home, catalog, number, false)? else { continue };
            if chosen.is_none() && !writer.is_full(home) {
                chosen = Some(writer);
            } else {
                writer.release(catalog);
            }
        }
        match chosen {
            Some(writer) => Ok(writer),
            None => Self::create(home, catalog),
        }
    }

    /// Makes a pack with a number that no pack and no index has.
    pub(super) fn create(home: &Home, catalog: &mut Catalog) -> Result<Self> {
        home.make_dir(&home.packs())?;
        let mut number = 1;
        for suffix in [".pack", ".idx"] {
            let last = home.pack_numbers(suffix)?.last().copied().unwrap_or(0);
            number = number.max(last.saturating_add(1));
        }
        loop {
            // Another process may be doing the same; then the next number is free.
            if let Some(writer) = Self::try_take_over(home, catalog, number, true)? {
                if !writer.is_full(home) {
                    return Ok(writer);
                }
                writer.release(catalog);
            }
            number = number.saturating_add(1);
        }
    }

    /// Locks pack `number` and brings it in order; a new one is made. `None` if another process has it, or
    /// removed it.
    fn try_take_over(home: &Home, catalog: &mut Catalog, number: u32, is_new: bool) -> Result<Option<Self>> {
        let path = home.pack(number);
        let taken = home.named("lock", &path, home.storage.try_lock(&path, LockMode::Exclusive))?;
        let Some(lock) = taken else { return Ok(None) };
        // What was seen before may have been lost since, with a sync that failed for its writer.
        catalog.forget_pack(number);
        if !is_new && !remove_empty(home, number)? {
            return Ok(None);
        }
        catalog.refresh_pack(home, number, None)?;
        let Some(pack) = catalog.packs.get(&number).copied() else { return Ok(None) };
        let Some(file) = home.try_open(&path, OpenMode::Write)? else { return Ok(None) };
        if catalog.may_be_indexed_beyond(number, pack.idx_end) && !forget_beyond(home, number, pack.idx_end)?
        {
            return Ok(None);
        }
        cut_idx(home, number, &pack)?;
        let (entries, end) = settle(home, number, &pack, &*file)?;
        for entry in &entries {
            catalog.index.insert(number, entry, Standing::Durable);
        }
        let mut idx = Idx::open(home, number, &pack);
        idx.append(number, &entries);
        let writer = Self {
            number,
            file: Arc::from(file),
            _lock: lock,
            buf: Vec::new(),
            written: end,
            durable_end: end,
            room: Room::after(end),
            pending: Vec::new(),
            idx,
            is_name_durable: false,
        };
        Ok(Some(writer))
    }

    /// Gives the pack back and leaves what is known of it.
    pub(super) fn release(self, catalog: &mut Catalog) {
        self.note(catalog);
    }

    /// Leaves what is known of the pack, unless all was forgotten: then it is read again.
    fn note(&self, catalog: &mut Catalog) {
        let Idx { len: idx_len, end: idx_end, .. } = self.idx;
        if let Some(pack) = catalog.packs.get_mut(&self.number) {
            *pack =
                Pack { len: self.written, version: Some(VERSION), idx_len, idx_end, seen_end: self.written };
        }
    }

    /// Where the next record starts.
    pub(super) fn end(&self) -> u64 {
        self.written + self.buf.len() as u64
    }

    pub(super) fn is_full(&self, home: &Home) -> bool {
        self.end() >= home.tuning.pack_max
    }

    pub(super) fn wants_flush(&self, home: &Home) -> bool {
        self.buf.len() >= home.tuning.buffer
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Adds an object that is shorter than a large one, and whose body is `stored`, to a pack that is not full.
    pub(super) fn push(&mut self, cid: Cid, body: Body, stored: &[u8]) -> IndexEntry {
        debug_assert_eq!(body.len() as usize, stored.len());
        // A pack that is not full ends below `STORE_PACK_MAX_BYTES`, which fits (see `limits`).
        let start = self.end() as u32;
        let record = Record { start, body, durable_end: self.durable_end as u32, cid };
        self.buf.extend_from_slice(&record.encode(self.number));
        self.buf.resize((body.start(start) - self.written) as usize, 0);
        self.buf.extend_from_slice(stored);
        let entry = IndexEntry::from(&record);
        self.pending.push(entry);
        self.debug_check_consistency();
        entry
    }

    /// Writes the buffer to the file. After a failure the buffer is as it was.
    pub(super) fn flush(&mut self, home: &Home) -> io::Result<()> {
        if self.buf.is_empty() {
            return Ok(());
        }
        self.room.make(&*self.file, self.written, self.buf.len() as u64, home.tuning.pack_max);
        self.file.write_at(&self.buf, self.written)?;
        self.written += self.buf.len() as u64;
        self.buf.clear();
        self.debug_check_consistency();
        Ok(())
    }

    /// Takes what a sync from now on makes durable. The buffer must have been flushed.
    pub(super) fn take_batch(&mut self) -> Batch {
        debug_assert!(self.buf.is_empty());
        Batch {
            file: Arc::clone(&self.file),
            number: self.number,
            end: self.written,
            entries: std::mem::take(&mut self.pending),
            is_name_durable: self.is_name_durable,
        }
    }

    /// Notes that `batch` was synced.
    pub(super) fn settle_batch(&mut self, batch: &Batch, catalog: &mut Catalog) {
        self.durable_end = batch.end;
        self.is_name_durable = true;
        self.idx.append(self.number, &batch.entries);
        for entry in &batch.entries {
            catalog.index.insert(self.number, entry, Standing::Durable);
        }
        self.note(catalog);
        self.debug_check_consistency();
    }

    /// Makes the index durable, so that nobody ever scans this pack. Only worth it at its end.
    pub(super) fn sync_idx(&mut self) {
        if self.idx.file.as_ref().is_some_and(|file| file.sync_data().is_err()) {
            self.idx.file = None;
        }
    }

    /// The body of an object that is not in the file yet.
    pub(super) fn buffered(&self, location: &Location) -> Option<&[u8]> {
        u64::from(location.start).checked_sub(self.written)?;
        let body = (location.body_start() - self.written) as usize;
        self.buf.get(body..body + location.body.len() as usize)
    }

    fn debug_check_consistency(&self) {
        debug_assert!(self.durable_end <= self.written);
        debug_assert!(self.idx.end <= self.durable_end.max(FILE_HEAD_LEN as u64));
        if let Some(last) = self.pending.last() {
            debug_assert_eq!(last.end(), self.end(), "the last object ends where the pack does");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Should this fail, the next writer of the pack does it. It still has the lock: that goes after this.
        let _ = self.file.give_back();
    }
}

impl Idx {
    /// Opens the index, which ends where it stops being good.
    fn open(home: &Home, number: u32, pack: &Pack) -> Self {
        let mut idx = Self { file: None, len: pack.idx_len, end: pack.idx_end };
        idx.file = idx.try_open(home, number).ok();
        idx
    }

    fn try_open(&mut self, home: &Home, number: u32) -> io::Result<Box<dyn StorageFile>> {
        let path = home.idx(number);
        let file = match home.storage.open(&path, OpenMode::Write) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                home.storage.open(&path, OpenMode::CreateNew)?
            }
            opened => opened?,
        };
        if self.len == 0 {
            file.write_at(&format::encode_head(Kind::Index, number), 0)?;
            self.len = FILE_HEAD_LEN as u64;
        }
        Ok(file)
    }

    fn append(&mut self, number: u32, entries: &[IndexEntry]) {
        let Some(file) = &self.file else { return };
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.encode(number)).collect();
        if file.write_at(&bytes, self.len).is_err() {
            self.file = None;
            return;
        }
        self.len += bytes.len() as u64;
        self.end = entries.last().map_or(self.end, IndexEntry::end);
    }
}

/// `false` if the pack is empty: a collector removed it, and the lock made it anew. Its number must not come
/// again, for others may remember what was there.
fn remove_empty(home: &Home, number: u32) -> Result<bool> {
    let path = home.pack(number);
    let Some(file) = home.try_open(&path, OpenMode::Read)? else { return Ok(false) };
    let is_empty = home.named("read", &path, file.is_empty())?;
    if is_empty {
        home.remove(&path)?;
    }
    Ok(!is_empty)
}

/// Cuts an index where it stops being good, durably before the pack grows: a pack that lost its end would
/// otherwise, after a power cut, grow into what an old index says of it.
fn cut_idx(home: &Home, number: u32, pack: &Pack) -> Result<()> {
    let path = home.idx(number);
    let Some(file) = home.try_open(&path, OpenMode::Write)? else { return Ok(()) };
    if home.named("read", &path, file.len())? > pack.idx_len {
        home.named("repair", &path, file.set_len(pack.idx_len))?;
        home.named("sync", &path, file.sync_data())?;
    }
    Ok(())
}

/// Cuts the torn tail of a pack, makes the rest durable, and returns what its index lacks and
/// where the pack ends now.
fn settle(home: &Home, number: u32, pack: &Pack, file: &dyn StorageFile) -> Result<(Vec<IndexEntry>, u64)> {
    let path = home.pack(number);
    let scan = scan(file, number, pack.idx_end, pack.idx_end, pack.len);
    let scan = home.named("read", &path, scan)?;
    let settled = settle_file(number, pack, file, scan.end);
    home.named("repair", &path, settled)?;
    if pack.len > pack.idx_end {
        home.sync_dir(&home.packs())?;
    }
    Ok((scan.found.into_iter().map(|found| found.entry).collect(), scan.end))
}

fn settle_file(number: u32, pack: &Pack, file: &dyn StorageFile, end: u64) -> io::Result<()> {
    // Nothing proves that a header without an indexed record was ever synced, though it can be read. One of an older
    // version promises less than what is about to be written.
    if pack.version != Some(VERSION) || pack.idx_end <= FILE_HEAD_LEN as u64 {
        file.write_at(&format::encode_head(Kind::Pack, number), 0)?;
    }
    if pack.len > end {
        file.set_len(end)?;
    }
    if pack.len > pack.idx_end {
        rewrite(file, pack.idx_end, end)?;
    }
    if pack.len > pack.idx_end || pack.version.is_some_and(|version| version != VERSION) {
        file.sync_data()?;
    }
    Ok(())
}

/// Writes the bytes from `from` to `end` over themselves.
fn rewrite(file: &dyn StorageFile, from: u64, end: u64) -> io::Result<()> {
    let mut chunk = vec![0; STORE_CHUNK_BYTES];
    let mut at = from;
    while at < end {
        let want = (end - at).min(STORE_CHUNK_BYTES as u64) as usize;
        let Some(part) = chunk.get_mut(..want) else { break };
        let read = file.read_at(part, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(part.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    Ok(())
}

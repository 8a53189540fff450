//! Reading a pack without its index: what is there, what rotted, and where the torn tail begins.
//!
//! A power cut leaves the last batch of a pack in any state, so bad bytes there are normal and are
//! dropped. Bad bytes before it are rot and must be kept and reported. The two are told apart by
//! `durable_end`, which every record carries: it names bytes that were durable before the record
//! was written, and a batch is synced before the next one begins.
//!
//! ```text
//! | head | batch 1, durable | batch 2, durable | batch 3, torn |
//!        16                 a                  b ^ first record here says durable_end = b
//! ```
//!
//! Invariant: whatever the bytes, a scan ends, and every object it returns as good was hashed.

use std::borrow::Cow;
use std::io;

use crate::storage::StorageFile;

use super::body::Instead;
use super::format::{FILE_HEAD_LEN, IndexEntry, RECORD_HEAD_LEN, RECORD_MARK_FIRST, Record, Stretch};

const WINDOW_BYTES: usize = 1 << 20;

/// What a scan found, in the order of the pack.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every stretch from the start of the scan to `end`, without a gap.
    pub(super) found: Vec<Found>,
    /// Where the good part ends; what follows was never acknowledged.
    pub(super) end: u64,
    /// All before this is known to have been synced.
    pub(super) durable: u64,
}

/// One stretch of a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) entry: IndexEntry,
    /// What is there, if that is not what the entry says. Always `None` for a hole.
    pub(super) got: Option<Instead>,
}

/// Scans pack `pack`, `len` bytes long, from `from` on; all before `durable` is known to have
/// been synced.
pub(super) fn scan(file: &dyn StorageFile, pack: u32, from: u64, durable: u64, len: u64) -> io::Result<Scan> {
    let from = from.max(FILE_HEAD_LEN as u64);
    let window = Window::new(file, len);
    let mut scanner = Scanner { window, pack, len, durable, searched: false };
    let mut scan = Scan { found: Vec::new(), end: from, durable };
    while scan.end < len {
        let Some(found) = scanner.next(scan.end)? else { break };
        scan.end = found.entry.end();
        scan.found.push(found);
    }
    scan.durable = scanner.durable;
    Ok(scan)
}

struct Scanner<'a> {
    window: Window<'a>,
    pack: u32,
    len: u64,
    durable: u64,
    searched: bool,
}

enum Step {
    Good(Record),
    BadBody(Record, Instead),
    Unreadable,
}

impl Scanner<'_> {
    /// The stretch at `at`, or `None` if the torn tail begins there.
    fn next(&mut self, at: u64) -> io::Result<Option<Found>> {
        let step = self.step(at)?;
        if let Step::Good(record) = step {
            self.durable = self.durable.max(record.durable_end.into());
            return Ok(Some(Found { entry: (&record).into(), got: None }));
        }
        if !self.was_durable(at)? {
            return Ok(None);
        }
        if let Step::BadBody(record, got) = step {
            return Ok(Some(Found { entry: (&record).into(), got: Some(got) }));
        }
        let end = self.next_good(at)?;
        let hole = u32::try_from(at).ok().zip(u32::try_from(end - at).ok());
        let entry = hole.map(|(start, len)| IndexEntry { start, what: Stretch::Hole(len) });
        Ok(entry.map(|entry| Found { entry, got: None }))
    }

    fn step(&mut self, at: u64) -> io::Result<Step> {
        let head = self.window.at(at, RECORD_HEAD_LEN)?;
        let Some(record) = Record::decode(self.pack, at, head) else { return Ok(Step::Unreadable) };
        if record.end() > self.len {
            return Ok(Step::Unreadable);
        }
        let body = self.window.at(record.body.start(record.start), record.body.len() as usize)?;
        Ok(match record.body.object(&record.cid, Cow::Borrowed(body)) {
            Ok(_) => Step::Good(record),
            Err(got) => Step::BadBody(record, got),
        })
    }

    /// Whether the bytes at `at` had been synced. Looks through the rest of the pack once for
    /// the record that claims most: a claim beyond `at` can only stand after `at`.
    fn was_durable(&mut self, at: u64) -> io::Result<bool> {
        if at >= self.durable && !self.searched {
            self.searched = true;
            let mut place = at;
            while let Some(record) = self.find_record(place)? {
                self.durable = self.durable.max(record.durable_end.into());
                place = u64::from(record.start) + 1;
            }
            self.durable = self.durable.min(self.len);
        }
        Ok(at < self.durable)
    }

    /// Where the next whole record after `at` starts, or else where the durable part ends.
    fn next_good(&mut self, at: u64) -> io::Result<u64> {
        let mut place = at + 1;
        while let Some(record) = self.find_record(place)? {
            if matches!(self.step(record.start.into())?, Step::Good(_)) {
                return Ok(record.start.into());
            }
            place = u64::from(record.start) + 1;
        }
        Ok(self.durable.min(self.len))
    }

    /// The first good record header at or after `place`, at any byte.
    fn find_record(&mut self, mut place: u64) -> io::Result<Option<Record>> {
        while place + RECORD_HEAD_LEN as u64 <= self.len {
            let bytes = self.window.from(place, RECORD_HEAD_LEN)?;
            if bytes.len() < RECORD_HEAD_LEN {
                break;
            }
            let starts = bytes.len() - RECORD_HEAD_LEN + 1;
            let marks = bytes.iter().take(starts).enumerate().filter(|(_, b)| **b == RECORD_MARK_FIRST);
            for (i, _) in marks {
                let head = bytes.get(i..).unwrap_or_default();
                let record = Record::decode(self.pack, place + i as u64, head);
                if let Some(record) = record.filter(|record| record.end() <= self.len) {
                    return Ok(Some(record));
                }
            }
            place += starts as u64;
        }
        Ok(None)
    }
}

/// A stretch of a file in memory that moves forward as it is asked for.
struct Window<'a> {
    file: &'a dyn StorageFile,
    file_len: u64,
    bytes: Vec<u8>,
    start: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn StorageFile, file_len: u64) -> Self {
        Self { file, file_len, bytes: Vec::new(), start: 0 }
    }

    /// `len` bytes at `offset`; fewer only at the end of the file.
    fn at(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let rest = self.from(offset, len)?;
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// At least `len` bytes at `offset`, and what else is in memory after them.
    fn from(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let held = offset.checked_sub(self.start).filter(|skip| skip + len as u64 <= self.bytes.len() as u64);
        let skip = match held {
            Some(skip) => skip as usize,
            None => {
                self.fill(offset, len)?;
                0
            }
        };
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let rest = self.file_len.saturating_sub(offset).min(WINDOW_BYTES as u64);
        self.bytes.resize(len.max(rest as usize), 0);
        self.start = offset;
        let read = self.file.read_at(&mut self.bytes, offset);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}

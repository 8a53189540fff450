//! Checking everything: every byte is hashed again, and nothing stops at the first fault.

use std::collections::BTreeSet;

use crate::fault::{Corrupt, Error, Result};
use crate::storage::{OpenMode, StorageFile};

use super::Store;
use super::catalog::View;
use super::chunks;
use super::format::{FILE_HEAD_LEN, IndexEntry};
use super::read::corrupt_packed;
use super::scan::{Found, scan};

/// What a check found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FsckReport {
    /// Copies of objects that are whole.
    pub objects: u64,
    /// Their length in bytes, as they are stored.
    pub bytes: u64,
    /// Packs that were read.
    pub packs: u64,
    /// Large objects that are whole.
    pub large: u64,
    /// Large objects in chunks that are whole. Their chunks count as objects too.
    pub chunked: u64,
    /// Pins that are whole.
    pub pins: u64,
    /// Bytes at the ends of packs that a power cut or a kill left behind, or that somebody is just
    /// writing. No object that was committed.
    pub torn_bytes: u64,
    /// All that fails its check.
    pub corrupt: Vec<Corrupt>,
}

impl FsckReport {
    fn note(&mut self, what: &'static str, place: String, expected: &str, got: &str) {
        self.corrupt.push(Corrupt::new(what, place, expected, got));
    }
}

impl Store {
    /// Hashes every object again. An object that fails is remembered, so the next
    /// [`Store::put`] of it writes it anew. An error is a failure to read, not a finding.
    pub fn fsck(&self) -> Result<FsckReport> {
        let mut report = FsckReport::default();
        report.corrupt.extend(self.find_lost()?.into_iter().map(|(corrupt, _)| corrupt));
        self.state().refresh(&self.home)?;
        for number in self.home.pack_numbers(".pack")? {
            let path = self.home.pack(number);
            let Some(file) = self.home.try_open(&path, OpenMode::Read)? else { continue };
            report.packs += 1;
            let checked = noted(&mut report, self.check_pack(number, &*file))?.unwrap_or_default();
            let checked =
                if checked.is_good() { checked } else { self.check_again(number, &*file, &checked)? };
            self.note_pack(number, checked, &mut report);
        }
        self.check_large(&mut report)?;
        self.check_chunked(&mut report)?;
        self.check_pins(&mut report)?;
        report.corrupt.extend(self.check_settings());
        Ok(report)
    }

    /// Reads a pack from its start, as if it had no index, and returns what is there, with what
    /// the index says that is not.
    fn check_pack(&self, number: u32, file: &dyn StorageFile) -> Result<Checked> {
        let home = &self.home;
        let view = View::read(home, number, file)?;
        let (durable, len) = (view.pack.idx_end, view.pack.len);
        let scan = home.named("read", &home.pack(number), scan(file, number, 0, durable, len))?;
        let stretches: BTreeSet<(u32, u64)> =
            scan.found.iter().map(|found| (found.entry.start, found.entry.end())).collect();
        let is_missing = |entry: &&IndexEntry| !stretches.contains(&(entry.start, entry.end()));
        Ok(Checked {
            missing: view.indexed.iter().filter(is_missing).copied().collect(),
            found: scan.found,
            torn_bytes: len.saturating_sub(scan.end),
            has_bad_head: view.pack.version.is_none() && scan.durable > FILE_HEAD_LEN as u64,
        })
    }

    /// Looks at a pack again and leaves out what is bad only now: another process may be writing the end of it, or have
    /// cut it.
    fn check_again(&self, number: u32, file: &dyn StorageFile, before: &Checked) -> Result<Checked> {
        let mut now = self.check_pack(number, file)?;
        let was_bad = |found: &Found| before.found.iter().any(|old| is_bad(old) && old.entry == found.entry);
        now.found.retain(|found| !is_bad(found) || was_bad(found));
        now.missing.retain(|entry| before.missing.contains(entry));
        now.has_bad_head &= before.has_bad_head;
        Ok(now)
    }

    fn note_pack(&self, number: u32, checked: Checked, report: &mut FsckReport) {
        let path = self.home.show(&self.home.pack(number));
        let at = |byte: u64| format!("`{path}` at byte {byte}");
        if checked.has_bad_head {
            report.note("pack header", at(0), "a header with its checksum", "other bytes");
        }
        for found in &checked.found {
            self.note_found(number, found, report);
        }
        for entry in &checked.missing {
            let expected = entry.cid().map_or("a hole".to_owned(), |cid| cid.to_string());
            report.note("record header", at(entry.start.into()), &expected, "other bytes");
            self.mark_bad(number, entry);
        }
        report.torn_bytes += checked.torn_bytes;
    }

    fn note_found(&self, number: u32, found: &Found, report: &mut FsckReport) {
        match (found.entry.object(), found.got) {
            (Some((_, body)), None) => {
                report.objects += 1;
                report.bytes += u64::from(body.len());
            }
            (Some((cid, body)), Some(got)) => {
                let start = body.start(found.entry.start);
                report.corrupt.push(corrupt_packed(&self.home, &cid, number, start, &got));
                self.mark_bad(number, &found.entry);
            }
            (None, _) => {
                let path = self.home.show(&self.home.pack(number));
                let place = format!("`{path}` at byte {}", found.entry.start);
                report.note("record", place, "a record with its checksum", "other bytes");
            }
        }
    }

    fn mark_bad(&self, pack: u32, entry: &IndexEntry) {
        self.state().catalog.index.mark_bad((pack, entry.start));
    }

    fn check_large(&self, report: &mut FsckReport) -> Result<()> {
        for cid in self.large_cids()? {
            let path = self.home.large(&cid);
            let Some(file) = self.home.try_open(&path, OpenMode::Read)? else { continue };
            let hashed = self.hash_large(&cid, &*file, &mut std::io::sink());
            if let Some(len) = noted(report, hashed)? {
                report.objects += 1;
                report.large += 1;
                report.bytes += len;
            }
        }
        Ok(())
    }

    fn check_chunked(&self, report: &mut FsckReport) -> Result<()> {
        for cid in chunks::listed(&self.home)? {
            let checked = noted(report, self.check_list(&cid))?;
            let whole = u64::from(checked.flatten().is_some());
            report.objects += whole;
            report.chunked += whole;
        }
        Ok(())
    }

    /// What is wrong with pins, leases and settings, which no scrub reads.
    pub fn check_names(&self) -> Result<Vec<Corrupt>> {
        let mut report = FsckReport::default();
        self.check_pins(&mut report)?;
        report.corrupt.extend(self.check_settings());
        Ok(report.corrupt)
    }

    fn check_pins(&self, report: &mut FsckReport) -> Result<()> {
        for file in self.home.list(&self.home.pins())? {
            let path = format!("{}/{file}", self.home.pins());
            let pin = noted(report, self.read_pin(&path, &file))?;
            report.pins += u64::from(pin.flatten().is_some());
        }
        for file in self.home.list(&self.home.leases())? {
            let path = format!("{}/{file}", self.home.leases());
            noted(report, self.read_lease(&path, &file))?;
        }
        Ok(())
    }
}

/// What is in one pack.
#[derive(Default)]
struct Checked {
    found: Vec<Found>,
    missing: Vec<IndexEntry>,
    torn_bytes: u64,
    has_bad_head: bool,
}

impl Checked {
    fn is_good(&self) -> bool {
        self.missing.is_empty() && !self.has_bad_head && !self.found.iter().any(is_bad)
    }
}

fn is_bad(found: &Found) -> bool {
    found.got.is_some() || found.entry.cid().is_none()
}

/// Puts a finding in the report; any other error goes on.
fn noted<T>(report: &mut FsckReport, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Corrupt(corrupt)) => {
            report.corrupt.push(corrupt);
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

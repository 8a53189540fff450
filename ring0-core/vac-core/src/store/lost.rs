//! What a store had and has no more: named by the indexes, which know more than a pack that is gone.
//!
//! Invariant: an object is named here only if no copy of it can be found.

use std::collections::BTreeMap;

use crate::cid::Cid;
use crate::fault::{Corrupt, Result};
use crate::storage::OpenMode;

use super::Store;
use super::format::{self, ENTRY_LEN, FILE_HEAD_LEN, Head, IndexEntry, Kind};
use super::runs::Runs;

const ENTRIES_AT_ONCE: usize = 1024;

/// Bytes that an index says are in a pack.
#[derive(Clone, Copy)]
struct Named {
    pack: u32,
    end: u64,
}

impl Store {
    /// Objects that were committed to a pack which is gone or too short, and that are nowhere else.
    pub(super) fn find_lost(&self) -> Result<Vec<(Corrupt, Cid)>> {
        let lens = self.pack_lens()?;
        let mut named = BTreeMap::new();
        // A store that is written to replaces an index that does not fit its packs, so this one comes first.
        let runs = Runs::load(&self.home);
        let _ = runs.each(|entry| {
            let end = entry.body.end(entry.start);
            if lens.get(&entry.pack).is_none_or(|len| end > *len) {
                named.insert(entry.cid, Named { pack: entry.pack, end });
            }
        });
        for number in self.home.pack_numbers(".idx")? {
            self.read_beyond(number, lens.get(&number).copied().unwrap_or(0), &mut named)?;
        }
        let mut lost = Vec::new();
        for (cid, Named { pack, end }) in named {
            if !self.contains(&cid)? {
                let place = format!("`{}`", self.home.show(&self.home.pack(pack)));
                let expected = format!("{cid} in at least {end} bytes");
                lost.push((Corrupt::new("pack", place, expected, "fewer"), cid));
            }
        }
        Ok(lost)
    }

    fn pack_lens(&self) -> Result<BTreeMap<u32, u64>> {
        let mut lens = BTreeMap::new();
        for number in self.home.pack_numbers(".pack")? {
            let path = self.home.pack(number);
            if let Some(file) = self.home.try_open(&path, OpenMode::Read)? {
                lens.insert(number, self.home.named("read", &path, file.len())?);
            }
        }
        Ok(lens)
    }

    /// Entries of a pack's own index that end after `len`.
    fn read_beyond(&self, number: u32, len: u64, named: &mut BTreeMap<Cid, Named>) -> Result<()> {
        let path = self.home.idx(number);
        let Some(file) = self.home.try_open(&path, OpenMode::Read)? else { return Ok(()) };
        let mut head = [0; FILE_HEAD_LEN];
        self.home.named("read", &path, file.read_at(&mut head, 0))?;
        if !matches!(format::decode_head(Kind::Index, number, &head), Head::Good(_)) {
            return Ok(());
        }
        let mut chunk = vec![0; ENTRIES_AT_ONCE * ENTRY_LEN];
        let (mut at, mut end) = (FILE_HEAD_LEN as u64, FILE_HEAD_LEN as u64);
        loop {
            let read = self.home.named("read", &path, file.read_at(&mut chunk, at))?;
            let part = chunk.get(..read).unwrap_or_default();
            let learn = |entry: IndexEntry| {
                if let Some(cid) = entry.cid().filter(|_| entry.end() > len) {
                    named.insert(cid, Named { pack: number, end: entry.end() });
                }
            };
            let (good, next) = format::parse_each(part, number, end, u64::MAX, learn);
            (at, end) = (at + good, next);
            if good < chunk.len() as u64 {
                return Ok(());
            }
        }
    }

    /// Objects that the index on disk says are in a stretch of a pack that cannot be read.
    pub(super) fn indexed_in(&self, pack: u32, hole: &IndexEntry) -> Vec<Cid> {
        let mut cids = Vec::new();
        let _ = Runs::load(&self.home).each(|entry| {
            let place = u64::from(entry.start);
            if entry.pack == pack && entry.start >= hole.start && place < hole.end() {
                cids.push(entry.cid);
            }
        });
        cids
    }
}

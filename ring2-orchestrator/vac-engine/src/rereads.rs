//! Counts pages that are read although they were in memory before: what eviction should not have taken.
//!
//! Between a pager and its tier. A page that is read or written here is in memory then; one that is read here and is
//! known left memory since, too early. Which pages are known is remembered by a part of their digest, in a table of a
//! fixed size where a later page takes the place of an earlier one: so what is counted is at most what happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vac_core::cid::{Cid, Codec};
use vac_core::fault::Result;
use vac_core::limits::MEMORY_ROOT_MAX_BYTES;
use vac_core::memory::{Spot, Tier};

use crate::clock::HostClock;
use crate::memory::micros;

/// Pages that are remembered, 8 bytes each.
const PAGES: usize = 1 << 15;

/// A tier that counts.
pub(crate) struct Rereads {
    tier: Arc<dyn Tier>,
    known: Vec<AtomicU64>,
    again: AtomicU64,
    written: AtomicU64,
    /// What it takes to have a page from here, in microseconds, if that was measured.
    cost_us: Option<u32>,
}

impl Rereads {
    pub(crate) fn new(tier: Arc<dyn Tier>) -> Self {
        let known = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
        Self { tier, known, again: AtomicU64::new(0), written: AtomicU64::new(0), cost_us: None }
    }

    /// Measures what a page costs that has to be read: as much as finding and reading `root`, which is short, and hashing the
    /// bytes of a page.
    pub(crate) fn measured(mut self, root: &Cid, page_len: usize, clock: &dyn HostClock) -> Self {
        let page = vec![0; page_len];
        let cost_us = micros(clock, || (self.tier.get(root, MEMORY_ROOT_MAX_BYTES), Cid::of_raw(&page)));
        self.cost_us = Some(cost_us.max(1));
        self
    }

    /// Pages that were read again.
    pub(crate) fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// Pages that were written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn write(&self, cid: &Cid) {
        self.know(cid);
        self.written.fetch_add(u64::from(cid.codec() == Codec::Raw), Ordering::Relaxed);
    }

    /// Remembers a page. Whether it was known.
    fn know(&self, cid: &Cid) -> bool {
        let Some(bytes) = cid.digest().first_chunk() else { return false };
        let part = u64::from_le_bytes(*bytes);
        let slot = self.known.get((part % PAGES as u64) as usize);
        // Maps of pages are no pages.
        slot.filter(|_| cid.codec() == Codec::Raw)
            .is_some_and(|slot| slot.swap(part, Ordering::Relaxed) == part)
    }

    fn read(&self, cid: &Cid) {
        if self.know(cid) {
            self.again.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tier for Rereads {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        self.read(cid);
        self.tier.read_into(cid, to)
    }

    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>> {
        self.read(cid);
        self.tier.get(cid, max)
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.write(cid);
        self.tier.put(cid, bytes)
    }

    fn commit(&self) -> Result<()> {
        self.tier.commit()
    }

    fn name(&self) -> &str {
        self.tier.name()
    }

    fn verifies(&self) -> bool {
        self.tier.verifies()
    }

    fn cost(&self) -> u32 {
        self.cost_us.unwrap_or_else(|| self.tier.cost())
    }

    fn get_many(&self, wanted: &[(Cid, usize)]) -> Vec<Result<Option<Vec<u8>>>> {
        wanted.iter().for_each(|(cid, _)| self.read(cid));
        self.tier.get_many(wanted)
    }

    fn put_many(&self, objects: &[(Cid, Vec<u8>)]) -> Vec<Result<()>> {
        objects.iter().for_each(|(cid, _)| self.write(cid));
        self.tier.put_many(objects)
    }

    fn replace(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.tier.replace(cid, bytes)
    }

    fn locate(&self, cid: &Cid) -> Option<Spot> {
        let spot = self.tier.locate(cid);
        if spot.is_some() {
            self.read(cid);
        }
        spot
    }
}

#[cfg(test)]
mod tests {
    use vac_core::memory::{La128, Pager, Settings};
    use vac_core::storage::SimStorage;
    use vac_core::store::Store;

    use super::*;

    /// Twice around a loop of more pages than fit: every page of the second round was there before.
    #[test]
    fn a_page_that_is_read_again_was_evicted_too_early() {
        let store = Arc::new(Store::open(Arc::new(SimStorage::new(1)), "store").unwrap());
        let counted = Arc::new(Rereads::new(store));
        let settings = || Settings { page_len: 4096, budget_bytes: 64 * 4096, ..Settings::default() };
        let mut pager = Pager::new(counted.clone(), settings()).unwrap();
        let mut space = pager.space();
        for page in 0..40_u64 {
            pager.write(&mut space, La128 { shard: 0, offset: page * 4096 }, &page.to_le_bytes()).unwrap();
        }
        let root = pager.commit(&mut space).unwrap();
        assert_eq!(counted.again(), 0, "what fits is read from memory");
        let mut to = [0; 8];
        let mut pager =
            Pager::new(counted.clone(), Settings { budget_bytes: 20 * 4096, ..settings() }).unwrap();
        let mut space = pager.open(&root).unwrap();
        let before = counted.again();
        for round in 1..=2 {
            for page in 0..40_u64 {
                pager.read(&mut space, La128 { shard: 0, offset: page * 4096 }, &mut to).unwrap();
            }
            // Of another pager, so the first round counts as well.
            assert!(counted.again() - before >= round * 20, "{}", counted.again());
        }
        let read = pager.stats().page_reads + pager.stats().ahead;
        assert!(counted.again() - before <= read, "{} of {read}", counted.again() - before);
    }
}

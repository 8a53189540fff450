//! Objects by CID: put bytes, get the same bytes, or be told exactly what rotted.
//!
//! Small objects are appended to packs, each with an index file that can be rebuilt; a large
//! object is a file of its own. [`Store::put`] only buffers: [`Store::commit`] makes all that was
//! put before it durable with one sync. Several processes may use one store at once.
//!
//! Not a cache (nothing expires), not a database (no order, no transactions over names other
//! than [pins](Store::pin)), and not a judge of what is garbage: [`Store::gc`] is told what lives.
//!
//! Invariants:
//! - Bytes are given out only after they were hashed to the CID that was asked for.
//! - What was committed survives a power cut at any moment, also during a collection.
//! - After a sync failed, this value writes nothing more; reading goes on.
//! - Bytes on disk never cause a panic: what fails a check is [`Corrupt`](crate::fault::Corrupt).
//! - Opening reads no pack; they are read when the first object is asked for.
//! - Memory does not grow with the objects of a store that is written to: where they are is on disk.
//!
//! Locks are taken in this order: `gate`, `commit`, `state`. No sync happens under `state`, so a
//! reader never waits for the disk of a writer; but where there is no index yet, the first to read writes one
//! under it. Should that fail, there is none: it is no part of what is durable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::cid::{Cid, Codec};
use crate::fault::Result;
use crate::storage::{LockMode, Storage};

mod catalog;
mod claims;
mod format;
mod fsck;
mod gc;
mod home;
mod index;
mod large;
mod lost;
mod pins;
mod read;
mod run;
mod runs;
mod scan;
mod scrub;
mod spot;
mod state;
#[cfg(test)]
mod tests;
mod writer;

pub use format::{IndexEntry, Lease, ParsedIndex, parse_index};
pub use fsck::FsckReport;
pub use gc::{Collection, GcReport};
pub use scrub::{ScrubReport, Source};

use home::{Home, Tuning};
use state::{Added, State};

/// A content-addressed store in one folder.
pub struct Store {
    home: Home,
    /// Held for reading by whatever adds objects, and alone by a collection.
    gate: RwLock<()>,
    /// Held while a batch is being synced, so that commits follow one another.
    commit: Mutex<()>,
    state: Mutex<State>,
}

impl Store {
    /// Opens the store in the folder `dir` and makes it if there is none. Fails with `Busy` while
    /// another process removes large objects from it.
    pub fn open(storage: Arc<dyn Storage>, dir: &str) -> Result<Self> {
        Self::open_tuned(storage, dir, Tuning::default())
    }

    fn open_tuned(storage: Arc<dyn Storage>, dir: &str, tuning: Tuning) -> Result<Self> {
        let store = Self::new(Home::new(storage, dir, tuning), State::default());
        let lock = store.home.lock(LockMode::Shared)?;
        store.state().set_lock(Some(lock));
        Ok(store)
    }

    /// Opens the store in the folder `dir` to read from it. Nothing is written, not even a lock,
    /// so the folder may be read-only or missing.
    pub fn open_read_only(storage: Arc<dyn Storage>, dir: &str) -> Result<Self> {
        let home = Home::new(storage, dir, Tuning::default());
        Ok(Self::new(home, State { is_read_only: true, ..State::default() }))
    }

    fn new(home: Home, state: State) -> Self {
        Self { home, gate: RwLock::default(), commit: Mutex::default(), state: Mutex::new(state) }
    }

    /// Adds an object. It can be read at once, and is durable after the next [`Store::commit`].
    /// If it is here already, nothing is written, unless its bytes are known to be corrupt.
    pub fn put(&self, codec: Codec, bytes: &[u8]) -> Result<Cid> {
        let cid = Cid::of(codec, bytes);
        self.put_named(&cid, bytes)?;
        Ok(cid)
    }

    /// [`Self::put`] of bytes whose CID the caller computed.
    pub(crate) fn put_named(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(*cid, Cid::of(cid.codec(), bytes));
        let _open = self.gate();
        match bytes.len() >= self.home.tuning.large_min {
            true => self.put_large(cid, bytes),
            false => self.put_small(*cid, bytes),
        }
    }

    fn put_small(&self, cid: Cid, bytes: &[u8]) -> Result<()> {
        while self.state().add(&self.home, cid, bytes)? == Added::PackIsFull {
            self.commit_batch()?;
            self.state().retire_writer(&self.home);
        }
        // What waits for a commit is in memory; a caller that makes none must not fill it.
        let wants_commit = self.state().wants_commit(&self.home);
        if wants_commit { self.commit_batch() } else { Ok(()) }
    }

    /// Makes all that was put before durable. Does nothing if nothing is new.
    pub fn commit(&self) -> Result<()> {
        let _open = self.gate();
        self.commit_batch()
    }

    fn commit_batch(&self) -> Result<()> {
        let _one = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(batch) = self.state().begin_commit(&self.home)? else { return Ok(()) };
        let synced = batch.sync(&self.home);
        let pending = {
            let mut state = self.state();
            state.end_commit(&self.home, &batch, synced)?;
            state.catalog.begin_publish(&self.home)
        };
        if let Some(pending) = pending {
            let published = pending.publish(&self.home);
            self.state().end_publish(&self.home, &pending, published);
        }
        Ok(())
    }

    /// Every object with its length in bytes, sorted by CID. Nothing is verified.
    pub fn list(&self) -> Result<Vec<(Cid, u64)>> {
        let mut all = {
            let mut state = self.state();
            state.refresh(&self.home)?;
            let own = state.own();
            state.catalog.sorted(&self.home, own)?
        };
        all.extend(self.list_large()?);
        all.sort_unstable();
        all.dedup_by_key(|(cid, _)| *cid);
        Ok(all)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }
}

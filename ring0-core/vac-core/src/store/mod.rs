//! Objects by CID: put bytes, get the same bytes, or be told exactly what rotted.
//!
//! Small objects are appended to packs, each with an index file that can be rebuilt; a large
//! object is a file of its own, or [a list of small ones](Store::put_chunked). [`Store::put`] only buffers: [`Store::commit`] makes all that was
//! put before it durable with one sync. Several processes may use one store at once. Objects can be [compressed](Store::set_compression),
//! which is below their CIDs.
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
//! reader never waits for the disk of a writer, nor does anybody for that of the first reader, who may find no index. What
//! is left is rare: an index that turns out to be damaged while it is used, and another process that put more than
//! fits in memory since the last look. Then the index is written there and then.

use std::sync::Arc;

use crate::cid::{Cid, Codec};
use crate::fault::Result;
use crate::limits::STORE_COMPRESS_MIN_BYTES;
use crate::storage::{LockMode, Storage};
use crate::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

mod body;
mod catalog;
mod chunks;
mod claims;
mod compress;
mod format;
mod forms;
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
mod settings;
mod spot;
mod state;
#[cfg(test)]
mod tests;
mod writer;

pub use body::Body;
pub use format::{IndexEntry, Lease, ParsedIndex, Stretch, parse_index};
pub use fsck::FsckReport;
pub use gc::{Collection, GcReport, Hold};
pub use scrub::{ScrubReport, Source};

use compress::compress;
use home::{Home, Tuning};
use state::{Added, State};

/// A content-addressed store in one folder.
pub struct Store {
    home: Arc<Home>,
    /// Held for reading by whatever adds objects, and alone by a collection.
    gate: Arc<RwLock<()>>,
    /// Held while a batch is being synced, so that commits follow one another.
    commit: Arc<Mutex<()>>,
    state: Arc<Mutex<State>>,
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
        let state = Arc::new(Mutex::new(state));
        Self { home: Arc::new(home), gate: Arc::default(), commit: Arc::default(), state }
    }

    /// The same open store, for whoever reads from it later.
    fn share(&self) -> Self {
        Self {
            home: Arc::clone(&self.home),
            gate: Arc::clone(&self.gate),
            commit: Arc::clone(&self.commit),
            state: Arc::clone(&self.state),
        }
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
        self.write_first_index()?;
        let compressed = self.compressed(&cid, bytes)?;
        let (body, stored) = match &compressed {
            Some(stored) => (Body::compressed(stored.len()), &stored[..]),
            None => (self.home.tuning.body(bytes.len()), bytes),
        };
        while self.state().add(&self.home, cid, body, stored)? == Added::PackIsFull {
            self.commit_batch()?;
            self.state().retire_writer(&self.home);
        }
        // What waits for a commit is in memory; a caller that makes none must not fill it.
        let wants_commit = self.state().wants_commit(&self.home);
        if wants_commit { self.commit_batch() } else { Ok(()) }
    }

    /// The compressed form of an object that is to be put and is not here, if the settings and its length want one. Nobody
    /// waits for zstd.
    fn compressed(&self, cid: &Cid, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        if bytes.len() < STORE_COMPRESS_MIN_BYTES {
            return Ok(None);
        }
        let level = {
            let mut state = self.state();
            match state.settings(&self.home).compression {
                Some(level) if !state.has(&self.home, cid)? => level,
                _ => return Ok(None),
            }
        };
        Ok(compress(bytes, level))
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

    /// Every object with its length in bytes, sorted by CID; also chunks of large ones. Nothing is verified. One that was
    /// compressed is asked for its length; should it be damaged, that of its bytes in the pack is given.
    pub fn list(&self) -> Result<Vec<(Cid, u64)>> {
        self.write_first_index()?;
        let packed = {
            let mut state = self.state();
            state.refresh(&self.home)?;
            let own = state.own();
            state.catalog.sorted(&self.home, own)?
        };
        let len = |(cid, body)| (cid, self.listed_len(&cid, body));
        let mut all: Vec<(Cid, u64)> = packed.into_iter().map(len).collect();
        all.extend(self.list_large()?);
        all.extend(self.list_chunked()?);
        all.sort_unstable();
        all.dedup_by_key(|(cid, _)| *cid);
        Ok(all)
    }

    /// Before anything is known of the packs: writes what the index on disk lacks of them, so that who reads them next
    /// finds all but a little there and syncs nothing under the lock of the state.
    fn write_first_index(&self) -> Result<()> {
        let aside = self.state().catalog.aside();
        match aside {
            Some(mut aside) => aside.refresh(&self.home, None),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }
}

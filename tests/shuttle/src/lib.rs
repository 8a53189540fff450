//! The store and the chain of tiers of `vac-core`, from the same files, with the locks of a model checker: each of
//! them is a place where another thread may go on.
//!
//! A package of its own, for such locks work nowhere but in the checker: whatever else uses `vac-core` must not get
//! them, and neither must the tests of the store that lie beside it, which are compiled with any test that includes it.
//!
//! The limits are small, so that a few objects fill a pack.

// As a test of its own there is nothing here: it would have the tests of the store in it.
#![cfg(not(test))]

pub use vac_core::{cid, fault, storage};

#[path = "../../../ring0-core/vac-core/src/store/mod.rs"]
pub mod store;

/// Of the memory no more than what is between a pager and its stores.
#[path = "../../../ring0-core/vac-core/src/memory"]
pub mod memory {
    pub mod chain;
    pub mod tier;

    pub use chain::{Chain, EventKind, Keeps};
    pub use tier::{Spot, Tier};
}

/// What the files above take for the system's locks.
mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
}

/// Those that are named here come before those of the glob.
mod limits {
    pub(crate) use vac_core::limits::*;

    pub(crate) const STORE_LARGE_MIN_BYTES: usize = 1000;
    pub(crate) const STORE_PACK_MAX_BYTES: u64 = 900;
    pub(crate) const STORE_BUFFER_BYTES: usize = 300;
    pub(crate) const STORE_INDEX_TABLE_ENTRIES: usize = 6;
    pub(crate) const STORE_PENDING_ENTRIES: usize = 3;
    pub(crate) const STORE_CHUNK_BYTES: usize = 1000;
}

//! How much memory the changed nodes of a pager's spaces take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the changed nodes of one space, about; they count in the sum of all spaces until it is gone. Nodes that
/// two spaces share count for each.
pub(super) struct Changed {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Changed {
    pub(super) fn new(bytes: usize, all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: Arc::clone(all) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all spaces but this one.
    pub(super) fn of_others(&self) -> usize {
        self.all.load(Ordering::Relaxed).saturating_sub(self.bytes)
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    pub(super) fn set(&mut self, bytes: usize) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.add(bytes);
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

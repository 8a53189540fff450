//! Functions that were compiled, kept for a process that compiles thousands of programs of the same parts.
//!
//! Not a cache of programs, and never on disk: `vac` compiles each program in a process that ends with it. The engine names a
//! function by a digest of all that its code follows from: its body, where it reaches outside of it, and the settings. What it
//! keeps is not read by anything but the engine of this process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use wasmtime::CacheStore;

/// When there are more, all are forgotten: the common ones are back soon.
const KEPT_MAX_BYTES: usize = 256 << 20;

/// Functions by their digests. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Functions(Arc<Kept>);

impl Functions {
    pub(super) fn store(&self) -> Arc<dyn CacheStore> {
        Arc::clone(&self.0) as Arc<dyn CacheStore>
    }
}

#[derive(Debug, Default)]
struct Kept(RwLock<Map>);

#[derive(Debug, Default)]
struct Map {
    by_digest: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl CacheStore for Kept {
    fn get(&self, digest: &[u8]) -> Option<Cow<'_, [u8]>> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.by_digest.get(digest).cloned().map(Cow::Owned)
    }

    fn insert(&self, digest: &[u8], function: Vec<u8>) -> bool {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if map.bytes > KEPT_MAX_BYTES {
            *map = Map::default();
        }
        map.bytes += function.len();
        map.by_digest.insert(digest.to_vec(), function);
        true
    }
}

//! What stands under the pager: objects by CID, verified whenever they come up.

use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{Corrupt, Error, Result};
use crate::limits::STORE_LARGE_MIN_BYTES;
use crate::storage::StorageFile;
use crate::store::Store;

/// A place for pages and nodes that are not in memory. Synchronous; another thread, another machine or
/// several of them may be behind it.
pub trait Tier: Send + Sync {
    /// Copies the object `cid` to `to`, which has its length. `false` if it is not here. Bytes that do not
    /// hash to `cid` are never given out: they are `Corrupt`.
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool>;

    /// The object `cid`, verified as above. One that is longer than `max` bytes is `Corrupt`, and not read.
    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>>;

    /// Keeps `bytes`, whose name the caller computed: `cid`. Nothing is written if they are here already.
    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()>;

    /// Makes durable all that was put before.
    fn commit(&self) -> Result<()>;

    /// How reports call it.
    fn name(&self) -> &str {
        "tier"
    }

    /// Whether it hashes what it gives out itself. What stands above hashes the bytes of all others.
    fn verifies(&self) -> bool {
        false
    }

    /// What it costs to have a page from here again, in microseconds, about.
    fn cost(&self) -> u32 {
        1
    }

    /// Several objects, each as [`Self::get`] has it, in order. One that takes long to answer reads them at once.
    fn get_many(&self, wanted: &[(Cid, usize)]) -> Vec<Result<Option<Vec<u8>>>> {
        wanted.iter().map(|(cid, max)| self.get(cid, *max)).collect()
    }

    /// Several objects, each as [`Self::put`] has it, in order.
    fn put_many(&self, objects: &[(Cid, Vec<u8>)]) -> Vec<Result<()>> {
        objects.iter().map(|(cid, bytes)| self.put(cid, bytes)).collect()
    }

    /// [`Self::put`] of an object whose bytes here were found to be bad: they are replaced.
    fn replace(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.put(cid, bytes)
    }

    /// The place in a file where the object `cid` lies as it is, if there is one. Whoever reads there must hash
    /// what was read, and come back to [`Self::get`] if it is not `cid`: the place may be out of date.
    fn locate(&self, _cid: &Cid) -> Option<Spot> {
        None
    }
}

/// A place in a file.
pub struct Spot {
    /// The file.
    pub file: Arc<dyn StorageFile>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Tier for Store {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let Some(bytes) = Tier::get(self, cid, to.len())? else { return Ok(false) };
        if bytes.len() != to.len() {
            return Err(wrong_len(cid, format!("{} bytes", to.len()), bytes.len() as u64));
        }
        to.copy_from_slice(&bytes);
        Ok(true)
    }

    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>> {
        let too_long = |len: u64| wrong_len(cid, format!("at most {max} bytes"), len);
        // A small object is read first: not every length of one is verified.
        match self.len_of(cid)? {
            Some(len) if len > max.max(STORE_LARGE_MIN_BYTES) as u64 => Err(too_long(len)),
            Some(_) => match Store::get(self, cid)? {
                Some(bytes) if bytes.len() > max => Err(too_long(bytes.len() as u64)),
                found => Ok(found),
            },
            None => Ok(None),
        }
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.put_named(cid, bytes)
    }

    fn commit(&self) -> Result<()> {
        Store::commit(self)
    }

    fn name(&self) -> &str {
        "store"
    }

    fn verifies(&self) -> bool {
        true
    }

    fn cost(&self) -> u32 {
        // A verified page from a disk that is not asked for much else: see the floors in `docs/pager.md`.
        100
    }

    fn locate(&self, cid: &Cid) -> Option<Spot> {
        self.spot(cid)
    }
}

/// The error of an object that is not as long as it should be.
pub(super) fn wrong_len(cid: &Cid, expected: String, got: u64) -> Error {
    Corrupt::new("page or node", format!("the object {cid}"), expected, format!("{got} bytes")).into()
}

//! What stands under the pager: objects by CID, verified whenever they come up.

use crate::cid::Cid;
use crate::fault::{Corrupt, Error, Result};
use crate::store::Store;

/// A place for pages and nodes that are not in memory. Synchronous; another thread, another machine or
/// several of them may be behind it.
pub trait Tier: Send + Sync {
    /// Copies the object `cid` to `to`, which has its length. `false` if it is not here. Bytes that do not
    /// hash to `cid` are never given out: they are `Corrupt`.
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool>;

    /// The object `cid`, verified as above. One that is longer than `max` bytes is `Corrupt`, and not read.
    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>>;

    /// Keeps `bytes`, whose name the caller computed: `cid`.
    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()>;

    /// Makes durable all that was put before.
    fn commit(&self) -> Result<()>;
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
        match self.len_of(cid)? {
            Some(len) if len > max as u64 => Err(wrong_len(cid, format!("at most {max} bytes"), len)),
            Some(_) => Store::get(self, cid),
            None => Ok(None),
        }
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.put_named(cid, bytes)
    }

    fn commit(&self) -> Result<()> {
        Store::commit(self)
    }
}

fn wrong_len(cid: &Cid, expected: String, got: u64) -> Error {
    Corrupt::new("page or node", format!("the object {cid}"), expected, format!("{got} bytes")).into()
}

//! What stands under the pager: objects by CID, verified whenever they come up.

use crate::cid::Cid;
use crate::fault::{Corrupt, Result};
use crate::store::Store;

/// A place for pages and nodes that are not in memory. Synchronous; another thread, another machine or
/// several of them may be behind it.
pub trait Tier: Send + Sync {
    /// Copies the object `cid` to `to`, which has its length. `false` if it is not here. Bytes that do not
    /// hash to `cid` are never given out: they are `Corrupt`.
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool>;

    /// The object `cid`, verified as above.
    fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>>;

    /// Keeps `bytes`, whose name the caller computed: `cid`.
    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()>;

    /// Makes durable all that was put before.
    fn commit(&self) -> Result<()>;
}

impl Tier for Store {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let Some(bytes) = Store::get(self, cid)? else { return Ok(false) };
        if bytes.len() != to.len() {
            let (expected, got) = (format!("{} bytes", to.len()), bytes.len());
            return Err(Corrupt::new("page", format!("the object {cid}"), expected, got).into());
        }
        to.copy_from_slice(&bytes);
        Ok(true)
    }

    fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        Store::get(self, cid)
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.put_named(cid, bytes)
    }

    fn commit(&self) -> Result<()> {
        Store::commit(self)
    }
}

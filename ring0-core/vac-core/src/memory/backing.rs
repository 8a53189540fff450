//! Pages that hold the bytes of an object: its page `k` is the `k`-th part of the object, and zeros fill the last.
//!
//! An object is named by the hash of all of it, so one page cannot be checked against its name. The first use of an
//! object reads all of it once, as the tier verifies it, and keeps the hash of each part; from then on a part is read
//! alone, and hashed. Of a part that rotted meanwhile the object is asked for again.

use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{Corrupt, Result, Usage};
use crate::limits::MEMORY_BACKING_MAX_BYTES;

use super::Pager;
use super::nodes::missing;
use super::root::Backing;

/// The names of an object's parts.
pub(super) struct Parts {
    cid: Cid,
    len: u64,
    names: Vec<Cid>,
}

/// Bytes of an object as a page: zeros to its end.
fn padded(bytes: &[u8], page_len: usize) -> Vec<u8> {
    let mut page = bytes.to_vec();
    page.resize(page_len, 0);
    page
}

impl Parts {
    /// The name of part `nth`; `None` past the end.
    pub(super) fn name(&self, nth: u64) -> Option<Cid> {
        self.names.get(usize::try_from(nth).ok()?).copied()
    }
}

/// Which part of the object behind a shard a page is; `None` if it is none, and holds zeros.
pub(super) fn part_of(backing: &Backing, page: u64, page_len: usize) -> Option<u64> {
    let Backing::Object { first, len, .. } = backing else { return None };
    page.checked_sub(*first).filter(|nth| *nth < len.div_ceil(page_len as u64))
}

impl Pager {
    /// The parts of the object `cid`, which has `len` bytes. Reads all of it at its first use.
    pub(super) fn parts_of(&mut self, cid: &Cid, len: u64) -> Result<Arc<Parts>> {
        if let Some(parts) = self.parts.get(cid).filter(|parts| parts.len == len) {
            return Ok(Arc::clone(parts));
        }
        let bytes = self.object(cid, len)?;
        let names =
            bytes.chunks(self.page_len).map(|part| Cid::of_raw(&padded(part, self.page_len))).collect();
        let parts = Arc::new(Parts { cid: *cid, len, names });
        self.parts.insert(*cid, Arc::clone(&parts));
        Ok(parts)
    }

    fn object(&self, cid: &Cid, len: u64) -> Result<Vec<u8>> {
        let max =
            usize::try_from(len).ok().filter(|len| *len <= MEMORY_BACKING_MAX_BYTES).ok_or_else(|| {
                let most = MEMORY_BACKING_MAX_BYTES;
                Usage::new(format!("an object of {len} bytes behind a shard: expected at most {most} bytes"))
            })?;
        let bytes = self.tier.get(cid, max)?.ok_or_else(|| missing("object", cid))?;
        if bytes.len() as u64 != len {
            let got = format!("{} bytes", bytes.len());
            return Err(
                Corrupt::new("object", format!("the object {cid}"), format!("{len} bytes"), got).into()
            );
        }
        Ok(bytes)
    }

    /// Reads part `nth` into `frame`.
    pub(super) fn read_part(&mut self, cid: &Cid, len: u64, nth: u64, frame: u32) -> Result<()> {
        let parts = self.parts_of(cid, len)?;
        let to = self.frames.bytes_mut(frame);
        let at = nth * to.len() as u64;
        to.fill(0);
        let wanted = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX).min(to.len());
        if let Some(spot) = self.tier.locate(&parts.cid).filter(|spot| spot.len == len)
            && let Some(to) = to.get_mut(..wanted)
        {
            // What could not be read, or is wrong, is noticed below.
            let _ = spot.file.read_at(to, spot.offset.saturating_add(at));
        }
        if parts.name(nth) == Some(Cid::of_raw(to)) {
            return Ok(());
        }
        let bytes = self.object(cid, len)?;
        let part = usize::try_from(at).ok().and_then(|at| bytes.get(at..at + wanted)).unwrap_or_default();
        self.frames.bytes_mut(frame).copy_from_slice(&padded(part, self.page_len));
        Ok(())
    }
}

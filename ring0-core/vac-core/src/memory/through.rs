//! Writing whole pages past the frames: for one who writes much that nobody reads soon.

use crate::cid::Cid;
use crate::fault::Result;

use super::node::PageRef;
use super::pager::check_room;
use super::{La128, Pager, Space};

impl Pager {
    /// Writes `from` to `at` as [`Pager::write`] does. Whole pages go to the tier at once, and no other page
    /// leaves its frame for them; those of zeros are unmapped. Returns how many bytes were not zeros of whole pages.
    pub fn write_through(&mut self, space: &mut Space, at: La128, from: &[u8]) -> Result<u64> {
        let (page_len, mut at, mut written) = (self.page_len(), at, 0);
        for page in from.chunks(page_len) {
            // What is pinned stays in its frame.
            let is_pinned = space.pins.contains_key(&(at.shard, at.offset / page_len as u64));
            let is_whole = page.len() == page_len && at.offset.is_multiple_of(page_len as u64);
            if is_whole && !is_pinned && self.has_zeros_behind(space, at.shard) {
                written += self.write_page_through(space, at, page)?;
            } else {
                self.write(space, at, page)?;
                written += page.len() as u64;
            }
            at.offset = at.offset.saturating_add(page.len() as u64);
        }
        Ok(written)
    }

    fn write_page_through(&mut self, space: &mut Space, at: La128, bytes: &[u8]) -> Result<u64> {
        let len = bytes.len() as u64;
        if is_zero(bytes) {
            self.fill(space, at, len, 0)?;
            return Ok(0);
        }
        let (shard, page) = (at.shard, at.offset / len);
        let was = match space.shards.get(&shard) {
            Some(it) => it.map.get(page, &mut self.nodes)?,
            None => None,
        };
        check_room(space, u64::from(was.is_none()), 0)?;
        self.count_io(space, bytes.len())?;
        let cid = Cid::of_raw(bytes);
        self.tier.put(&cid, bytes)?;
        space.hints.forget(shard, page);
        space.changed_bytes +=
            space.shard_mut(shard)?.map.set(page, PageRef::Stored(cid), &mut self.nodes)?;
        space.used.mapped += u64::from(was.is_none());
        space.used.dirty = space.used.dirty.saturating_sub(u64::from(matches!(was, Some(PageRef::Held(_)))));
        self.spill(space)?;
        Ok(len)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Compared with its own rest, which the library does many bytes at a time.
    bytes.first().is_none_or(|first| *first == 0)
        && bytes.get(1..) == bytes.get(..bytes.len().saturating_sub(1))
}

//! Writing and reading whole pages past the frames: for one who writes much that nobody reads soon, or reads much once.

use crate::cid::Cid;
use crate::fault::Result;

use super::io::check;
use super::node::PageRef;
use super::nodes::missing;
use super::pager::check_room;
use super::{La128, Pager, Space};

impl Pager {
    /// Reads `to.len()` bytes from `at` as [`Pager::read`] does. Whole pages that are in no frame are read one after another,
    /// straight to where they are wanted, and are in no frame after that either.
    pub fn read_through(&mut self, space: &mut Space, at: La128, to: &mut [u8]) -> Result<()> {
        check(at, to.len() as u64)?;
        let page_len = self.page_len();
        if !at.offset.is_multiple_of(page_len as u64) {
            return self.read(space, at, to);
        }
        for (nth, to) in to.chunks_mut(page_len).enumerate() {
            let at = La128 { offset: at.offset.saturating_add((nth * page_len) as u64), ..at };
            let found = self.only_stored(space, at.shard, at.offset / page_len as u64)?;
            match found.filter(|_| to.len() == page_len) {
                Some(cid) => self.read_page_through(space, &cid, to)?,
                None => self.read(space, at, to)?,
            }
        }
        Ok(())
    }

    fn read_page_through(&mut self, space: &mut Space, cid: &Cid, to: &mut [u8]) -> Result<()> {
        self.count_io(space, to.len())?;
        self.stats.misses += 1;
        self.stats.page_reads += 1;
        match self.fetcher.read(cid, to)? {
            true => Ok(()),
            false => Err(missing("page", cid)),
        }
    }

    /// Writes `from` to `at` as [`Pager::write`] does. Whole pages go to the tier at once, and no other page
    /// leaves its frame for them; those of zeros are unmapped. Returns how many bytes were not zeros of whole pages.
    pub fn write_through(&mut self, space: &mut Space, at: La128, from: &[u8]) -> Result<u64> {
        self.write_all_through(space, &[(at, from)])
    }

    /// Writes each of `parts` so; their pages are hashed by several threads if there are many.
    pub fn write_all_through(&mut self, space: &mut Space, parts: &[(La128, &[u8])]) -> Result<u64> {
        let page_len = self.page_len();
        let pages: Vec<(La128, &[u8])> = parts.iter().flat_map(|part| pages_of(*part, page_len)).collect();
        let is_whole = |at: La128, page: &[u8]| {
            page.len() == page_len && at.offset.is_multiple_of(page_len as u64) && !is_zero(page)
        };
        let name = |(at, page): &(La128, &[u8])| is_whole(*at, page).then(|| Cid::of_raw(page));
        let names = self.hash_all(&pages, name);
        let mut written = 0;
        for ((at, page), name) in pages.into_iter().zip(names) {
            written += self.write_part_through(space, at, page, name)?;
        }
        Ok(written)
    }

    /// Writes a page or a part of one, which is called `name` if that is known.
    fn write_part_through(
        &mut self,
        space: &mut Space,
        at: La128,
        page: &[u8],
        name: Option<Cid>,
    ) -> Result<u64> {
        let page_len = self.page_len() as u64;
        // What is pinned stays in its frame.
        let is_pinned = space.pins.contains_key(&(at.shard, at.offset / page_len));
        let is_whole = page.len() as u64 == page_len && at.offset.is_multiple_of(page_len);
        if is_whole && !is_pinned && self.has_zeros_behind(space, at.shard) {
            return self.write_page_through(space, at, page, name);
        }
        self.write(space, at, page)?;
        Ok(page.len() as u64)
    }

    fn write_page_through(
        &mut self,
        space: &mut Space,
        at: La128,
        bytes: &[u8],
        name: Option<Cid>,
    ) -> Result<u64> {
        let len = bytes.len() as u64;
        if name.is_none() && is_zero(bytes) {
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
        let cid = name.unwrap_or_else(|| Cid::of_raw(bytes));
        self.tier.put(&cid, bytes)?;
        self.hints.forget(space.of(shard, page));
        let grown = space.shard_mut(shard)?.map.set(page, PageRef::Stored(cid), &mut self.nodes)?;
        space.changed.add(grown);
        space.used.mapped += u64::from(was.is_none());
        space.used.dirty = space.used.dirty.saturating_sub(u64::from(matches!(was, Some(PageRef::Held(_)))));
        self.spill(space)?;
        Ok(len)
    }
}

/// A part of a space, by pages.
fn pages_of((at, bytes): (La128, &[u8]), page_len: usize) -> impl Iterator<Item = (La128, &[u8])> {
    let offset = move |nth: usize| at.offset.saturating_add((nth * page_len) as u64);
    bytes.chunks(page_len).enumerate().map(move |(nth, page)| (La128 { offset: offset(nth), ..at }, page))
}

fn is_zero(bytes: &[u8]) -> bool {
    // Compared with its own rest, which the library does many bytes at a time.
    bytes.first().is_none_or(|first| *first == 0)
        && bytes.get(1..) == bytes.get(..bytes.len().saturating_sub(1))
}

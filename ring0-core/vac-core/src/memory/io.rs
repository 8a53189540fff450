//! Reading and writing ranges.

use std::collections::BTreeSet;

use crate::cid::Cid;
use crate::fault::Result;
use crate::limits::MEMORY_PAGE_MAX_BYTES;

use super::frames::{Fresh, Place};
use super::node::{PageRef, VERSION_BYTES, Version};
use super::pager::{Found, Range, check_room};
use super::policy::Weight;
use super::root::Backing;
use super::{La128, Pager, Space, outside, over};

/// A part of a range that lies in one page.
struct Part {
    page: u64,
    /// First byte within the page.
    at: usize,
    len: usize,
}

/// The parts of `len` bytes from `offset`, in order.
fn parts(page_len: usize, offset: u64, len: u64) -> impl Iterator<Item = Part> {
    let page_len = page_len as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        let from = offset.checked_add(done).filter(|_| done < len)?;
        let at = from % page_len;
        let part = (page_len - at).min(len - done);
        done += part;
        Some(Part { page: from / page_len, at: at as usize, len: part as usize })
    })
}

/// Refuses a range that goes past the end of its shard.
pub(super) fn check(at: La128, len: u64) -> Result<()> {
    match at.offset.checked_add(len.saturating_sub(1)) {
        Some(_last) => Ok(()),
        None => Err(outside(at, len)),
    }
}

/// A range in parts of at most `len` bytes.
fn cut(at: La128, to: &mut [u8], len: usize) -> impl Iterator<Item = (La128, &mut [u8])> {
    to.chunks_mut(len).enumerate().map(move |(n, part)| (moved(at, (n * len) as u64), part))
}

/// What is coming, for [`Pager::advise`]. Nothing that is read depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The range will be read soon.
    WillNeed,
    /// It will not.
    DontNeed,
    /// It will be read in order: the pages after one that is read are fetched with it.
    Sequential,
    /// It will be read in no order: nothing is fetched that was not asked for.
    Random,
    /// Nothing is known any more of how it will be read.
    Normal,
}

impl Pager {
    /// Reads `to.len()` bytes from `at`.
    pub fn read(&mut self, space: &mut Space, at: La128, to: &mut [u8]) -> Result<()> {
        check(at, to.len() as u64)?;
        let batch = self.batch_max() * self.page_len;
        if to.len() > batch {
            return self.read_batches(space, &mut cut(at, to, batch).collect::<Vec<_>>());
        }
        let places = self.fetch_parts(space, &[(at, to.len())]);
        let done = self.read_parts(space, at, to);
        self.release(&places);
        done
    }

    /// Reads ranges of which none is longer than a batch. While one batch is given out the next is on its way, unless a page of
    /// this one was here already: that could have to leave for it.
    fn read_batches(&mut self, space: &mut Space, ranges: &mut [(La128, &mut [u8])]) -> Result<()> {
        let mut rest = ranges;
        let mut places = self.fetch_batch(space, rest);
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(self.ranges_of_a_batch(rest));
            let all_come = places.len() == now.iter().map(|(at, to)| self.pages_of(*at, to.len())).sum();
            let next = if all_come { self.fetch_batch(space, later) } else { Vec::new() };
            let done = now.iter_mut().try_for_each(|(at, to)| self.read_parts(space, *at, to));
            self.release(&places);
            if done.is_err() {
                self.release(&next);
                return done;
            }
            places = if all_come { next } else { self.fetch_batch(space, later) };
            rest = later;
        }
        Ok(())
    }

    /// How many pages `len` bytes from `at` are in.
    fn pages_of(&self, at: La128, len: usize) -> usize {
        ((at.offset % self.page_len as u64) as usize + len).div_ceil(self.page_len)
    }

    /// Begins to fetch the first batch of `ranges`.
    fn fetch_batch(&mut self, space: &mut Space, ranges: &[(La128, &mut [u8])]) -> Vec<Place> {
        let first = ranges.iter().take(self.ranges_of_a_batch(ranges));
        let places: Vec<(La128, usize)> = first.map(|(at, to)| (*at, to.len())).collect();
        self.fetch_parts(space, &places)
    }

    /// How many of `ranges`, from the first on, fit into one batch together; one at least, if there is one.
    fn ranges_of_a_batch(&self, ranges: &[(La128, &mut [u8])]) -> usize {
        let mut pages = 0;
        let fit = ranges.iter().take_while(|(at, to)| {
            pages += self.pages_of(*at, to.len());
            pages <= self.batch_max()
        });
        fit.count().max(1).min(ranges.len())
    }

    /// Begins to fetch what is missing of some ranges.
    fn fetch_parts(&mut self, space: &mut Space, ranges: &[(La128, usize)]) -> Vec<Place> {
        if let [(at, len)] = ranges
            && at.offset % self.page_len as u64 + *len as u64 <= self.page_len as u64
        {
            return Vec::new();
        }
        let parts = ranges.iter().flat_map(|(at, len)| {
            parts(self.page_len, at.offset, *len as u64).map(|part| (at.shard, part.page))
        });
        let pages: Vec<(u64, u64)> = parts.take(self.batch_max() + 1).collect();
        self.fetch(space, &pages, Fresh::Demand)
    }

    fn read_parts(&mut self, space: &mut Space, at: La128, to: &mut [u8]) -> Result<()> {
        let mut rest = to;
        for part in parts(self.page_len, at.offset, rest.len() as u64) {
            let Some((to, after)) = rest.split_at_mut_checked(part.len) else { break };
            match self.find(space, at.shard, part.page)? {
                Found::Zeros => to.fill(0),
                Found::Frame(frame) => {
                    if let Some(bytes) = self.frames.bytes(frame).get(part.at..part.at + part.len) {
                        to.copy_from_slice(bytes);
                    }
                }
            }
            rest = after;
        }
        Ok(())
    }

    /// Reads several ranges, in order.
    pub fn read_vectored(&mut self, space: &mut Space, ranges: &mut [(La128, &mut [u8])]) -> Result<()> {
        ranges.iter().try_for_each(|(at, to)| check(*at, to.len() as u64))?;
        let batch = self.batch_max() * self.page_len;
        let parts = ranges.iter_mut().flat_map(|(at, to)| cut(*at, to, batch));
        self.read_batches(space, &mut parts.collect::<Vec<_>>())
    }

    /// Writes `from` to `at`. After an error, a part of it may have been written: the pages before the one
    /// that failed.
    pub fn write(&mut self, space: &mut Space, at: La128, from: &[u8]) -> Result<()> {
        check(at, from.len() as u64)?;
        let mut rest = from;
        for part in parts(self.page_len, at.offset, rest.len() as u64) {
            let Some((from, after)) = rest.split_at_checked(part.len) else { break };
            self.write_part(space, at.shard, &part, |to| to.copy_from_slice(from))?;
            rest = after;
        }
        Ok(())
    }

    /// Writes several ranges, in order.
    pub fn write_vectored(&mut self, space: &mut Space, ranges: &[(La128, &[u8])]) -> Result<()> {
        ranges.iter().try_for_each(|(at, from)| self.write(space, *at, from))
    }

    /// Writes `len` times `byte`. Whole pages of zeros are unmapped where that means the same; others are one object,
    /// however many they are.
    pub fn fill(&mut self, space: &mut Space, at: La128, len: u64, byte: u8) -> Result<()> {
        check(at, len)?;
        let is_zeros = byte == 0 && self.has_zeros_behind(space, at.shard);
        let mut uniform = None;
        for part in parts(self.page_len, at.offset, len) {
            if part.len < self.page_len {
                self.write_part(space, at.shard, &part, |to| to.fill(byte))?;
            } else if is_zeros {
                self.unmap(space, at.shard, part.page)?;
            } else {
                let cid = match uniform {
                    Some(cid) => cid,
                    None => *uniform.insert(self.put_uniform(space, byte)?),
                };
                self.map_to(space, at.shard, part.page, PageRef::Held(Version::settled(cid)))?;
            }
        }
        Ok(())
    }

    /// Puts a page of one byte into the tier.
    fn put_uniform(&mut self, space: &mut Space, byte: u8) -> Result<Cid> {
        check_room(space, 0, 1)?;
        self.count_io(space, self.page_len)?;
        let page = vec![byte; self.page_len];
        let cid = Cid::of_raw(&page);
        self.tier.put(&cid, &page)?;
        Ok(cid)
    }

    fn write_part(
        &mut self,
        space: &mut Space,
        shard: u64,
        part: &Part,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let frame = self.find_to_write(space, shard, part.page, part.len == self.page_len)?;
        if let Some(to) = self.frames.bytes_mut(frame).get_mut(part.at..part.at + part.len) {
            write(to);
        }
        self.spill(space)
    }

    pub(super) fn has_zeros_behind(&self, space: &Space, shard: u64) -> bool {
        space.shards.get(&shard).is_none_or(|shard| shard.backing == Backing::Zeros)
    }

    fn unmap(&mut self, space: &mut Space, shard: u64, page: u64) -> Result<()> {
        if !space.shards.contains_key(&shard) {
            return Ok(());
        }
        self.hints.forget(space.of(shard, page));
        let was = space.shards.get(&shard).map_or(Ok(None), |it| it.map.get(page, &mut self.nodes))?;
        space.used.dirty = space.used.dirty.saturating_sub(u64::from(matches!(was, Some(PageRef::Held(_)))));
        if let Some(grown) = space.shard_mut(shard)?.map.remove(page, &mut self.nodes)? {
            space.used.mapped = space.used.mapped.saturating_sub(1);
            space.changed.add(grown);
        }
        self.spill(space)
    }

    /// Makes `len` bytes at `to` hold what those at `from` hold now, also where the two overlap. Whole
    /// pages are not copied: both addresses have the same page until one is written.
    pub fn copy(&mut self, space: &mut Space, from: La128, to: La128, len: u64) -> Result<()> {
        check(from, len)?;
        check(to, len)?;
        let page_len = self.page_len as u64;
        let are_pages = [from.offset, to.offset, len].iter().all(|n| n.is_multiple_of(page_len));
        let is_backward = from.shard == to.shard && from.offset < to.offset;
        let step = if are_pages { page_len } else { MEMORY_PAGE_MAX_BYTES as u64 };
        let steps = len.div_ceil(step);
        for i in 0..steps {
            // From the end where the target comes after the source: no byte is overwritten before it was read.
            let i = if is_backward { steps - 1 - i } else { i };
            let (done, part) = (i * step, step.min(len - i * step));
            let (from, to) = (moved(from, done), moved(to, done));
            match are_pages {
                true => self.share(space, from, to)?,
                false => self.copy_bytes(space, from, to, part as usize)?,
            }
        }
        Ok(())
    }

    fn copy_bytes(&mut self, space: &mut Space, from: La128, to: La128, len: usize) -> Result<()> {
        let mut bytes = vec![0; len];
        self.read(space, from, &mut bytes)?;
        self.write(space, to, &bytes)
    }

    /// Maps the page at `to` to what the page at `from` is mapped to.
    fn share(&mut self, space: &mut Space, from: La128, to: La128) -> Result<()> {
        let page_len = self.page_len as u64;
        let (page, target) = (from.offset / page_len, to.offset / page_len);
        let shared = match space.shards.get(&from.shard) {
            Some(it) => it.map.get(page, &mut self.nodes)?,
            None => None,
        };
        let Some(shared) = shared else {
            let is_zeros = |shard| self.has_zeros_behind(space, shard);
            if is_zeros(from.shard) && is_zeros(to.shard) {
                return self.unmap(space, to.shard, target);
            }
            return self.copy_bytes(space, from, to, self.page_len);
        };
        let shared = match shared {
            PageRef::Held(version) => {
                version.share();
                // Written in place neither here nor there from now on.
                self.hints.forget(space.of(from.shard, page));
                PageRef::Held(version)
            }
            // It is not zeros, so that is not what the page holds unmapped.
            stored if self.has_zeros_behind(space, to.shard) && self.has_zeros_behind(space, from.shard) => {
                stored
            }
            // A commit must look: each page of this shard holds something else unmapped.
            PageRef::Stored(cid) => PageRef::Held(Version::settled(cid)),
        };
        self.map_to(space, to.shard, target, shared)
    }

    /// Maps a page to contents that are there already.
    fn map_to(&mut self, space: &mut Space, shard: u64, page: u64, contents: PageRef) -> Result<()> {
        let was = match space.shards.get(&shard) {
            Some(it) => it.map.get(page, &mut self.nodes)?,
            None => None,
        };
        let is_held = |it: &Option<PageRef>| matches!(it, Some(PageRef::Held(_)));
        let (more_mapped, more_dirty) = (u64::from(was.is_none()), u64::from(!is_held(&was)));
        check_room(space, more_mapped, more_dirty)?;
        let grown = space.shard_mut(shard)?.map.set(page, contents, &mut self.nodes)?;
        space.changed.add(grown + if more_dirty > 0 { VERSION_BYTES } else { 0 });
        self.hints.forget(space.of(shard, page));
        space.used.mapped += more_mapped;
        space.used.dirty += more_dirty;
        self.spill(space)
    }

    /// Keeps the pages of a range in memory until they are unpinned as often; those that hold zeros from when
    /// they are written. All or none.
    pub fn pin(&mut self, space: &mut Space, at: La128, len: u64) -> Result<()> {
        check(at, len)?;
        let most = space.quota.pinned_max.unwrap_or(u64::MAX).min(self.frames.frames_max() as u64);
        let pages = (at.offset % self.page_len as u64).saturating_add(len).div_ceil(self.page_len as u64);
        if space.used.pinned.saturating_add(pages) > most {
            return Err(over("pinned pages", most));
        }
        let pages: Vec<u64> = parts(self.page_len, at.offset, len).map(|part| part.page).collect();
        for (done, page) in pages.iter().enumerate() {
            if let Err(why) = self.pin_page(space, at.shard, *page) {
                pages.iter().take(done).for_each(|page| self.unpin_page(space, at.shard, *page));
                return Err(why);
            }
        }
        Ok(())
    }

    /// Takes back one [`Self::pin`] of the same range.
    pub fn unpin(&mut self, space: &mut Space, at: La128, len: u64) -> Result<()> {
        check(at, len)?;
        let page_len = self.page_len as u64;
        let end = at.offset.saturating_add(len);
        let range = (at.shard, at.offset / page_len)..=(at.shard, end / page_len);
        // Those that have a pin: a range may have more pages than anybody could count.
        let pages: Vec<u64> = space.pins.range(range).map(|((_, page), _)| *page).collect();
        for page in pages.into_iter().filter(|page| len > 0 && page * page_len < end) {
            self.unpin_page(space, at.shard, page);
        }
        Ok(())
    }

    fn pin_page(&mut self, space: &mut Space, shard: u64, page: u64) -> Result<()> {
        let place = match self.find(space, shard, page)? {
            Found::Zeros => None,
            Found::Frame(frame) => {
                // Those before may have been for another frame, if the page was copied or committed since.
                self.move_pins(space, shard, page, frame);
                self.frames.pin(frame);
                Some(self.frames.place(frame))
            }
        };
        let pins = space.pins.entry((shard, page)).or_insert((place, 0));
        pins.1 += 1;
        space.used.pinned += 1;
        Ok(())
    }

    fn unpin_page(&mut self, space: &mut Space, shard: u64, page: u64) {
        let Some((place, count)) = space.pins.get_mut(&(shard, page)) else { return };
        let place = *place;
        *count -= 1;
        if *count == 0 {
            space.pins.remove(&(shard, page));
        }
        space.used.pinned = space.used.pinned.saturating_sub(1);
        if let Some(place) = place.filter(|place| self.frames.get(*place).is_some()) {
            self.frames.unpin(place.frame);
        }
    }

    /// Takes back all pins of a space that nobody needs any more.
    pub fn close(&mut self, mut space: Space) {
        let pins: Vec<((u64, u64), u32)> = space.pins.iter().map(|(at, (_, count))| (*at, *count)).collect();
        for ((shard, page), count) in pins {
            (0..count).for_each(|_| self.unpin_page(&mut space, shard, page));
        }
    }

    /// Says what is coming. An error of a page that is read ahead is not reported: whoever reads it will
    /// see it.
    pub fn advise(&mut self, space: &mut Space, at: La128, len: u64, advice: Advice) -> Result<()> {
        check(at, len)?;
        let is_in_order = match advice {
            Advice::WillNeed | Advice::DontNeed => return self.advise_now(space, at, len, advice),
            Advice::Sequential => Some(true),
            Advice::Random => Some(false),
            Advice::Normal => None,
        };
        let page = |offset: u64| offset / self.page_len as u64;
        let last = page(at.offset.saturating_add(len.saturating_sub(1)));
        space.patterns.advise(at.shard, page(at.offset), last, is_in_order);
        Ok(())
    }

    /// Says what it takes to have pages of a range again, as measured; `None` is what the tier takes for any page. A
    /// page that is dear is spared for some rounds by a policy that knows weights. At most 64 ranges.
    pub fn weigh(&mut self, space: &mut Space, at: La128, len: u64, weight: Option<Weight>) -> Result<()> {
        check(at, len)?;
        let (base, page_len) = (self.tier.cost(), self.page_len);
        let credits = weight.map_or(0, |weight| weight.credits(base, page_len));
        let page = |offset: u64| offset / page_len as u64;
        let last = page(at.offset.saturating_add(len.saturating_sub(1)));
        space.patterns.weigh(at.shard, page(at.offset), last, credits);
        Ok(())
    }

    fn advise_now(&mut self, space: &mut Space, at: La128, len: u64, advice: Advice) -> Result<()> {
        // More than half of the frames would push out what was asked for before.
        let most = self.frames.frames_max() / 2;
        let pages: Vec<(u64, u64)> =
            parts(self.page_len, at.offset, len).take(most).map(|part| (at.shard, part.page)).collect();
        if advice == Advice::WillNeed {
            self.fetch(space, &pages, Fresh::Asked);
            return Ok(());
        }
        pages.into_iter().try_for_each(|(shard, page)| self.give_up(space, shard, page))
    }

    /// The mapped pages of a space, by shard and in order. Reads all of its map.
    pub fn mapped(&mut self, space: &Space) -> Result<Vec<Range>> {
        let nothing = self.space();
        Ok(self
            .differences(space, &nothing)?
            .into_iter()
            .flat_map(|(shard, pages)| runs(shard, &pages))
            .collect())
    }

    /// Pages that differ between two memories, by shard and in order. Parts that are equal are not read. Of
    /// what was written since a commit only what is shared is known to be equal.
    pub fn diff(&mut self, one: &Space, other: &Space) -> Result<Vec<Range>> {
        self.diff_from(one, other, (0, 0), usize::MAX)
    }

    /// The first of what [`Self::diff`] finds: from page `from.1` of shard `from.0` on, and no more once it has
    /// `pages_max` pages. Who goes on after the last of them has all, and never more of it in memory.
    pub fn diff_from(
        &mut self,
        one: &Space,
        other: &Space,
        from: (u64, u64),
        pages_max: usize,
    ) -> Result<Vec<Range>> {
        let (mut ranges, mut left) = (Vec::new(), pages_max);
        let of = |space: &Space| space.shards.range(from.0..).map(|(shard, _)| *shard).collect::<Vec<_>>();
        let shards: BTreeSet<u64> = of(one).into_iter().chain(of(other)).collect();
        for shard in shards {
            if left == 0 {
                break;
            }
            let page = if shard == from.0 { from.1 } else { 0 };
            let of = |space: &Space| space.shards.get(&shard).cloned().unwrap_or_default();
            let (one, other) = (of(one), of(other));
            if one.backing == other.backing {
                let pages = one.map.diff(&other.map, page, left, &mut self.nodes)?;
                left -= pages.len();
                ranges.extend(runs(shard, &pages));
                continue;
            }
            // What is mapped in neither differs too.
            let all = u64::MAX / self.page_len as u64 + 1;
            if page < all {
                left -= 1;
                ranges.push(Range { shard, page, pages: all - page });
            }
        }
        Ok(ranges)
    }

    /// How many pages of some shards are mapped. Looks through what nobody looked through before; `look` is asked
    /// on the way whether to go on.
    pub fn count_mapped(
        &mut self,
        space: &mut Space,
        shards: std::ops::RangeInclusive<u64>,
        look: &dyn Fn() -> Result<()>,
    ) -> Result<u64> {
        let mut pages = 0_u64;
        if space.shards.range(shards.clone()).any(|(_, shard)| !shard.map.is_counted()) {
            for (_, shard) in std::sync::Arc::make_mut(&mut space.shards).range_mut(shards.clone()) {
                shard.map.count(&mut self.nodes, look)?;
            }
        }
        for (_, shard) in space.shards.range(shards) {
            pages = pages.saturating_add(shard.map.clone().count(&mut self.nodes, look)?);
        }
        Ok(pages)
    }

    /// The pages of each shard that are not mapped to the same object.
    fn differences(&mut self, one: &Space, other: &Space) -> Result<Vec<(u64, Vec<u64>)>> {
        let shards: BTreeSet<u64> = one.shards.keys().chain(other.shards.keys()).copied().collect();
        let map =
            |space: &Space, shard: u64| space.shards.get(&shard).map(|it| it.map.clone()).unwrap_or_default();
        let differ =
            |shard| Ok((shard, map(one, shard).diff(&map(other, shard), 0, usize::MAX, &mut self.nodes)?));
        shards.into_iter().map(differ).collect()
    }
}

fn moved(at: La128, by: u64) -> La128 {
    La128 { offset: at.offset.wrapping_add(by), ..at }
}

/// Consecutive numbers as ranges.
fn runs(shard: u64, pages: &[u64]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for &page in pages {
        match ranges.last_mut() {
            Some(last) if last.page + last.pages == page => last.pages += 1,
            _ => ranges.push(Range { shard, page, pages: 1 }),
        }
    }
    ranges
}

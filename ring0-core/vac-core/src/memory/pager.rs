//! Finding, reading, making and evicting pages.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, Corrupt, HostAbort, Result, Usage};
use crate::limits::MEMORY_ROOT_MAX_BYTES;

use super::ahead::{Accuracy, Arrived, Patterns};
use super::backing::part_of;
use super::changed::Changed;
use super::fetch::Fetcher;
use super::frames::{Frames, Fresh, Holds, Source};
use super::hints::Hints;
use super::node::{PageRef, VERSION_BYTES, Version};
use super::nodes::{Nodes, missing};
use super::root::{self, Backing};
use super::tier::Tier;
use super::{
    BLAKE3_STREAM, Blake3Stream, La128, Pager, Quota, Settings, Space, Stats, Used, no_generator, over,
};

/// Buffers for reading count as no more than one in so many pages of the budget.
const BUFFERS_PART_MAX: usize = 32;

/// Pages of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The shard.
    pub shard: u64,
    /// The first page.
    pub page: u64,
    /// How many.
    pub pages: u64,
}

/// Where the contents of a page are.
pub(super) enum Found {
    /// Nowhere: it holds zeros.
    Zeros,
    /// In this frame.
    Frame(u32),
}

/// What a map says of a page.
enum Mapped {
    /// It holds zeros, and is nowhere.
    Zeros,
    /// It was written, and is in this frame alone.
    Dirty(u32),
    Clean(Source),
}

impl Pager {
    /// A pager over `tier`. Fails if the budget is less than two pages.
    pub fn new(tier: Arc<dyn Tier>, settings: Settings) -> Result<Self> {
        let Settings { page_len, budget_bytes, nodes_bytes, policy, threads, io, direct, mut generators } =
            settings;
        let is_page = page_len.is_power_of_two()
            && (crate::limits::MEMORY_PAGE_MIN_BYTES..=crate::limits::MEMORY_PAGE_MAX_BYTES)
                .contains(&page_len);
        let frames_max = if is_page { frames_within(budget_bytes, page_len) } else { 0 };
        if !is_page || frames_max < 2 || u32::try_from(frames_max).is_err() {
            let message = format!("a budget of {budget_bytes} bytes for pages of {page_len}");
            return Err(
                Usage::new(format!("{message}: expected two pages or more, of 4 KiB to 512 KiB")).into()
            );
        }
        generators.entry(BLAKE3_STREAM.to_owned()).or_insert_with(|| Arc::new(Blake3Stream));
        Ok(Self {
            nodes: Nodes::new(Arc::clone(&tier), nodes_bytes),
            frames: Frames::new(page_len, frames_max, policy.build(frames_max)),
            fetcher: Fetcher::new(Arc::clone(&tier), page_len, io, direct)?,
            accuracy: Accuracy::default(),
            parts: std::collections::BTreeMap::new(),
            waiting: VecDeque::new(),
            tier,
            nodes_bytes,
            hints: Hints::default(),
            changed_bytes: Arc::default(),
            page_len,
            threads: threads.max(1),
            generators,
            next_epoch: 1,
            stats: Stats::default(),
        })
    }

    /// Bytes of a page.
    pub fn page_len(&self) -> usize {
        self.page_len
    }

    /// A space in which nothing is mapped.
    pub fn space(&mut self) -> Space {
        self.space_of(Arc::default())
    }

    fn space_of(&mut self, shards: Arc<std::collections::BTreeMap<u64, root::Shard>>) -> Space {
        Space {
            shards,
            id: self.new_epoch(),
            epoch: self.new_epoch(),
            changed: Changed::new(0, &self.changed_bytes),
            pins: std::collections::BTreeMap::new(),
            patterns: Patterns::default(),
            resident: VecDeque::new(),
            is_io_over: false,
            quota: Quota::default(),
            used: Used::default(),
        }
    }

    pub(super) fn new_epoch(&mut self) -> u64 {
        self.next_epoch += 1;
        self.next_epoch
    }

    /// The memory whose root is `cid`. Reads the root alone.
    pub fn open(&mut self, cid: &Cid) -> Result<Space> {
        let bytes = self.tier.get(cid, MEMORY_ROOT_MAX_BYTES)?.ok_or_else(|| missing("memory", cid))?;
        let root = root::decode(&bytes, cid)?;
        if root.page_len != self.page_len {
            let place = format!("the memory {cid}");
            return Err(Corrupt::new("page length", place, self.page_len, root.page_len).into());
        }
        for shard in root.shards.values() {
            if let Backing::Generator { name, .. } = &shard.backing
                && !self.generators.contains_key(name)
            {
                return Err(no_generator(name));
            }
        }
        Ok(self.space_of(Arc::new(root.shards)))
    }

    /// Another space with the same contents, which goes its own way from here. Costs nothing, however much
    /// is mapped. Before many that stay, call [`Self::make_room_for_snapshot`].
    pub fn snapshot(&mut self, space: &mut Space) -> Space {
        // What was written until now is both's, so neither may write it in place.
        space.epoch = self.new_epoch();
        let mut other = self.space_of(Arc::clone(&space.shards));
        other.used = Used { pinned: 0, io_bytes: 0, ..space.used };
        other.changed.add(space.changed.bytes());
        other
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        let (resident, pinned) = self.frames.counts();
        Stats {
            node_reads: self.nodes.reads,
            resident: resident as u64,
            pinned: pinned as u64,
            ahead_is_off: self.accuracy.is_off,
            batches: self.fetcher.batches,
            ..self.stats
        }
    }

    /// By what pages of a batch are read: `io-uring`, `threads`, or `caller` as long as there was none.
    pub fn reader(&self) -> &'static str {
        self.fetcher.reader()
    }

    /// The page's contents, in a frame that is the next to leave last.
    pub(super) fn find(&mut self, space: &mut Space, shard: u64, page: u64) -> Result<Found> {
        if let Some(place) = self.hints.to_read(space.of(shard, page))
            && self.frames.get(place).is_some()
        {
            self.hit(place.frame);
            return Ok(Found::Frame(place.frame));
        }
        let frame = match self.look_up(space, shard, page)? {
            Mapped::Zeros => return Ok(Found::Zeros),
            Mapped::Dirty(frame) => {
                self.hit(frame);
                frame
            }
            Mapped::Clean(source) => self.frame_of(space, shard, page, source)?,
        };
        self.hint(space, shard, page, frame, 0);
        Ok(Found::Frame(frame))
    }

    /// What the map says of a page.
    fn look_up(&mut self, space: &Space, shard: u64, page: u64) -> Result<Mapped> {
        let Some(it) = space.shards.get(&shard) else { return Ok(Mapped::Zeros) };
        Ok(match it.map.get(page, &mut self.nodes)? {
            Some(PageRef::Stored(cid)) => Mapped::Clean(Source::Object(cid)),
            Some(PageRef::Held(version)) => match version.cid() {
                Some(cid) => Mapped::Clean(Source::Object(cid)),
                None => Mapped::Dirty(version.frame()),
            },
            None => made(&it.backing, page, self.page_len).map_or(Mapped::Zeros, Mapped::Clean),
        })
    }

    /// The object that `page` is, if it has one and is in no frame.
    pub(super) fn only_stored(&mut self, space: &Space, shard: u64, page: u64) -> Result<Option<Cid>> {
        Ok(match self.look_up(space, shard, page)? {
            Mapped::Clean(source @ Source::Object(cid)) => self.frames.find(&source).is_none().then_some(cid),
            _ => None,
        })
    }

    /// Whether the page at `at` is in memory, or is zeros; then that was a use of it. Reads nothing of it.
    pub fn touch(&mut self, space: &Space, at: La128) -> Result<bool> {
        let (shard, page) = (at.shard, at.offset / self.page_len as u64);
        if let Some(place) = self.hints.to_read(space.of(shard, page))
            && self.frames.get(place).is_some()
        {
            self.hit(place.frame);
            return Ok(true);
        }
        let found = match self.look_up(space, shard, page)? {
            Mapped::Zeros => return Ok(true),
            Mapped::Dirty(frame) => Some(frame),
            Mapped::Clean(source) => {
                self.frames.find(&source).filter(|frame| self.frames.fresh(*frame) == Fresh::No)
            }
        };
        found.into_iter().for_each(|frame| self.hit(frame));
        Ok(found.is_some())
    }

    /// The frame with `source`, the contents of `page`: found, waited for, or loaded.
    fn frame_of(&mut self, space: &mut Space, shard: u64, page: u64, source: Source) -> Result<u32> {
        let is_known =
            |frames: &Frames| frames.find(&source).is_some_and(|frame| frames.fresh(frame) == Fresh::No);
        if matches!(source, Source::Object(_)) && !is_known(&self.frames) {
            // Before the page itself comes: what is guessed must not push it out, and is read meanwhile.
            self.guess(space, shard, page);
        }
        let credits = space.patterns.credits(shard, page);
        if let Some(frame) = self.frames.find(&source)
            && self.arrive(space, frame, credits)? == Arrived::Yes
        {
            return Ok(frame);
        }
        self.load(space, shard, source, credits)
    }

    pub(super) fn hit(&mut self, frame: u32) {
        self.stats.hits += 1;
        self.frames.touch(frame);
    }

    fn hint(&mut self, space: &Space, shard: u64, page: u64, frame: u32, epoch: u64) {
        self.hints.set(space.of(shard, page), self.frames.place(frame), epoch, self.frames.frames_max());
    }

    /// Brings a page into a frame.
    fn load(&mut self, space: &mut Space, shard: u64, source: Source, credits: u8) -> Result<u32> {
        let backing = space.shards.get(&shard).map(|shard| &shard.backing);
        let is_read = match source {
            Source::Object(_) => true,
            Source::Made(..) => matches!(backing, Some(Backing::Object { .. })),
        };
        self.count_io(space, if is_read { self.page_len } else { 0 })?;
        self.keep_within(space)?;
        let frame = self.make_room()?;
        let loaded = self.read_source(space, shard, &source, frame);
        if let Err(why) = loaded {
            self.frames.empty(frame);
            return Err(why);
        }
        self.stats.misses += 1;
        self.frames.set_credits(frame, credits);
        self.frames.fill(frame, Holds::Clean(source), 0);
        self.charge(space, frame);
        Ok(frame)
    }

    fn read_source(&mut self, space: &Space, shard: u64, source: &Source, frame: u32) -> Result<()> {
        match source {
            Source::Object(cid) => {
                self.stats.page_reads += 1;
                match self.fetcher.read(cid, self.frames.bytes_mut(frame))? {
                    true => Ok(()),
                    false => Err(missing("page", cid)),
                }
            }
            Source::Made(_, page) => {
                let backing = space.shards.get(&shard).map(|shard| &shard.backing);
                if let Some(&Backing::Object { cid, first, len }) = backing {
                    return self.read_part(&cid, len, page.saturating_sub(first), frame);
                }
                let Some(Backing::Generator { name, seed }) = backing else { return Ok(()) };
                let Some(generator) = self.generators.get(name) else { return Err(no_generator(name)) };
                generator.fill(seed, *page, self.frames.bytes_mut(frame));
                Ok(())
            }
        }
    }

    /// Counts bytes from or to the tier, or refuses.
    pub(super) fn count_io(&self, space: &mut Space, bytes: usize) -> Result<()> {
        let after = space.used.io_bytes.saturating_add(bytes as u64);
        if let Some(max) = space.quota.io_max_bytes.filter(|max| after > *max) {
            space.is_io_over = true;
            return Err(over("bytes from and to the store in this slice", max));
        }
        space.used.io_bytes = after;
        Ok(())
    }

    /// An empty frame, outside of the queues. What must leave for it is in the tier before it leaves.
    pub(super) fn make_room(&mut self) -> Result<u32> {
        loop {
            if let Some(frame) = self.frames.take_free() {
                return Ok(frame);
            }
            // What was fetched and not used yet goes last: somebody wants it, or so it seems.
            let Some(victim) = self.frames.victim().or_else(|| self.waiting.pop_front()) else {
                let max = self.frames.frames_max() as u64;
                let message = format!("no room: all {max} pages of the budget are pinned or in use");
                return Err(HostAbort::new(AbortKind::Quota, message).into());
            };
            self.recall(victim);
            if let Err(why) = self.write_back(victim) {
                self.frames.put_back(victim, u64::from(victim));
                return Err(why);
            }
            self.stats.evictions += 1;
            self.frames.empty(victim);
        }
    }

    /// A frame in which `page` may be written. If `is_whole`, all of it will be, and what it holds now is
    /// not read.
    pub(super) fn find_to_write(
        &mut self,
        space: &mut Space,
        shard: u64,
        page: u64,
        is_whole: bool,
    ) -> Result<u32> {
        if let Some(place) = self.hints.to_write(space.of(shard, page), space.epoch)
            && self.frames.get(place).is_some()
        {
            self.hit(place.frame);
            return Ok(place.frame);
        }
        let mapped = match space.shards.get(&shard) {
            Some(it) => it.map.get(page, &mut self.nodes)?,
            None => None,
        };
        if let Some(PageRef::Held(version)) = &mapped
            && version.is_open(space.epoch)
        {
            let frame = version.frame();
            self.hit(frame);
            self.hint(space, shard, page, frame, space.epoch);
            return Ok(frame);
        }
        self.write_first(space, shard, page, mapped.as_ref(), is_whole)
    }

    /// The first write of this epoch: another frame, another version.
    fn write_first(
        &mut self,
        space: &mut Space,
        shard: u64,
        page: u64,
        mapped: Option<&PageRef>,
        is_whole: bool,
    ) -> Result<u32> {
        let more_mapped = u64::from(mapped.is_none());
        let more_dirty = u64::from(!matches!(mapped, Some(PageRef::Held(_))));
        check_room(space, more_mapped, more_dirty)?;
        // It will be written to the tier once, whoever does it and when.
        self.count_io(space, self.page_len)?;
        self.keep_within(space)?;
        let frame = self.make_room()?;
        let filled = match is_whole {
            true => Ok(()),
            false => self.copy_page(space, shard, page, frame),
        };
        // After the page that it was copied from came, which counts as well.
        let filled = filled.and_then(|()| self.keep_within(space));
        let version = Version::new(frame, space.epoch);
        let set = filled.and_then(|()| {
            let to = PageRef::Held(Arc::clone(&version));
            let map = &mut space.shard_mut(shard)?.map;
            map.set(page, to, &mut self.nodes)
        });
        match set {
            // One that was evicted meanwhile has a version already: what is changed does not depend on what is in memory.
            Ok(grown) => space.changed.add(grown + if more_dirty > 0 { VERSION_BYTES } else { 0 }),
            Err(why) => {
                self.frames.empty(frame);
                return Err(why);
            }
        }
        space.used.mapped += more_mapped;
        space.used.dirty += more_dirty;
        self.frames.set_credits(frame, space.patterns.credits(shard, page));
        self.frames.fill(frame, Holds::Dirty(Arc::downgrade(&version)), fingerprint(shard, page));
        self.charge(space, frame);
        self.move_pins(space, shard, page, frame);
        self.hint(space, shard, page, frame, space.epoch);
        Ok(frame)
    }

    /// A page that is pinned stays so when it is written: its pins go over to the new frame.
    pub(super) fn move_pins(&mut self, space: &mut Space, shard: u64, page: u64, frame: u32) {
        let Some((place, count)) = space.pins.get_mut(&(shard, page)) else { return };
        let (old, new) = (*place, self.frames.place(frame));
        if old == Some(new) {
            return;
        }
        for _ in 0..*count {
            if let Some(old) = old.filter(|old| self.frames.get(*old).is_some()) {
                self.frames.unpin(old.frame);
            }
            self.frames.pin(frame);
        }
        *place = Some(new);
    }

    /// Writes a page back, if need be, and empties its frame.
    pub(super) fn give_up(&mut self, space: &mut Space, shard: u64, page: u64) -> Result<()> {
        let Some(place) = self.hints.to_read(space.of(shard, page)) else { return Ok(()) };
        if self.frames.get(place).is_none() || self.frames.is_pinned(place.frame) {
            return Ok(());
        }
        self.write_back(place.frame)?;
        self.frames.give_up(place.frame);
        Ok(())
    }

    /// Copies what `page` holds to `to`, a frame outside of the queues.
    fn copy_page(&mut self, space: &mut Space, shard: u64, page: u64, to: u32) -> Result<()> {
        match self.find(space, shard, page)? {
            Found::Zeros => self.frames.bytes_mut(to).fill(0),
            Found::Frame(from) => self.frames.copy(from, to),
        }
        Ok(())
    }
}

/// What a page that is not mapped is made from; `None` for zeros.
fn made(backing: &Backing, page: u64, page_len: usize) -> Option<Source> {
    match backing {
        Backing::Zeros => None,
        Backing::Object { .. } if part_of(backing, page, page_len).is_none() => None,
        backing => Some(Source::Made(*blake3::hash(&crate::canon::encode(backing)).as_bytes(), page)),
    }
}

/// Frames for which there is room beside the buffers that pages are read through. The number is the same whoever reads, and
/// a small budget gives little for them: that its buffers are more than that is not worth a frame in ten.
fn frames_within(budget_bytes: usize, page_len: usize) -> usize {
    let pages = budget_bytes.checked_div(page_len).unwrap_or(0);
    let buffers = super::fetch::buffers_bytes(page_len).div_ceil(page_len.max(1));
    pages - buffers.min(pages / BUFFERS_PART_MAX)
}

/// Refuses more pages than the space's quota has.
pub(super) fn check_room(space: &Space, more_mapped: u64, more_dirty: u64) -> Result<()> {
    let Quota { mapped_max, dirty_max, .. } = space.quota;
    if let Some(max) = mapped_max.filter(|max| space.used.mapped.saturating_add(more_mapped) > *max) {
        return Err(over("mapped pages", max));
    }
    if let Some(max) = dirty_max.filter(|max| space.used.dirty.saturating_add(more_dirty) > *max) {
        return Err(over("pages written since the last commit", max));
    }
    Ok(())
}

fn fingerprint(shard: u64, page: u64) -> u64 {
    (page ^ shard.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

//! The frames: pages in memory, up to a budget, each found by what it holds.
//!
//! A clean frame is found by the CID of its page, so all snapshots share it; a frame with what a generator
//! made by generator and page number; a dirty frame only by the version that is in it. Which frame leaves
//! is up to the [policy](super::policy); a pinned frame is not even in its queues.
//!
//! Every frame has a generation, which grows when it gets another page: what remembers a frame by its
//! number and generation notices that it is too late.

#![expect(clippy::disallowed_types, reason = "its order is never observed: it is only looked up in")]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::cid::Cid;

use super::buffer::Buffer;
use super::fetch::ALIGN;
use super::node::Holder;
use super::policy::Policy;

/// What is in a frame.
#[derive(Debug, Clone, Default)]
pub(super) enum Holds {
    #[default]
    Nothing,
    /// A page that can be had again.
    Clean(Source),
    /// The only copy of a page; nobody needs it once its version is gone.
    Dirty(Holder),
}

/// Where a clean page is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An object of the tier.
    Object(Cid),
    /// A generator, by the digest of its description, and the page's number.
    Made([u8; 32], u64),
}

impl Source {
    /// What a policy remembers a page by after it left.
    fn fingerprint(&self) -> u64 {
        let (digest, page) = match self {
            Self::Object(cid) => (cid.digest(), 0),
            Self::Made(digest, page) => (digest, *page),
        };
        let head = digest.first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
        head ^ page.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// How a page came into a frame, until it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Fresh {
    /// It was used, or written.
    #[default]
    No,
    /// With others of a range that somebody is reading; it is in no queue yet.
    Demand,
    /// Because somebody said that he will need it.
    Asked,
    /// By a guess.
    Ahead,
}

/// A frame of a moment: its number and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) frame: u32,
    pub(super) generation: u64,
}

/// What a hit looks at comes first, and is in one line of the processor's cache.
#[derive(Default)]
#[repr(C, align(64))]
struct Frame {
    generation: u64,
    bytes: Buffer,
    holds: Holds,
    pins: u32,
    fresh: Fresh,
    /// Times that it is spared, once it is in a queue.
    credits: u8,
    /// The number by which its bytes are waited for; until then they are elsewhere.
    arrival: Option<u64>,
}

/// Of the first piece of memory frames are made in so many parts.
const FIRST_PART: usize = 8;

/// All frames.
pub(super) struct Frames {
    page_len: usize,
    frames: Vec<Frame>,
    frames_max: usize,
    free: Vec<u32>,
    by_source: HashMap<Source, u32, BuildHasherDefault<DefaultHasher>>,
    policy: Box<dyn Policy>,
    pinned: usize,
}

impl Frames {
    pub(super) fn new(page_len: usize, frames_max: usize, policy: Box<dyn Policy>) -> Self {
        Self {
            page_len,
            frames: Vec::new(),
            frames_max,
            free: Vec::new(),
            by_source: HashMap::default(),
            policy,
            pinned: 0,
        }
    }

    /// The frames that hold something, and those that are pinned.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.frames.len() - self.free.len(), self.pinned)
    }

    pub(super) fn frames_max(&self) -> usize {
        self.frames_max
    }

    /// The frame that has the clean page `source`.
    pub(super) fn find(&self, source: &Source) -> Option<u32> {
        self.by_source.get(source).copied()
    }

    pub(super) fn place(&self, frame: u32) -> Place {
        Place { frame, generation: self.frame(frame).map_or(0, |frame| frame.generation) }
    }

    /// The page at `place`, if it is still there.
    pub(super) fn get(&self, place: Place) -> Option<&[u8]> {
        self.frame(place.frame)
            .filter(|frame| frame.generation == place.generation)
            .map(|frame| &*frame.bytes)
    }

    pub(super) fn bytes(&self, frame: u32) -> &[u8] {
        self.frame(frame).map_or(&[], |frame| &frame.bytes)
    }

    pub(super) fn bytes_mut(&mut self, frame: u32) -> &mut [u8] {
        self.frames.get_mut(frame as usize).map_or(&mut [], |frame| &mut frame.bytes)
    }

    pub(super) fn holds(&self, frame: u32) -> Holds {
        self.frame(frame).map_or(Holds::Nothing, |frame| frame.holds.clone())
    }

    /// Notes a use.
    pub(super) fn touch(&mut self, frame: u32) {
        self.policy.touch(frame);
    }

    /// A frame for a page: an empty one, or `None` while the budget is used up. Its bytes are whatever was
    /// there before; its holder must write all of them.
    pub(super) fn take_free(&mut self) -> Option<u32> {
        if self.free.is_empty() && self.frames.len() < self.frames_max {
            self.grow();
        }
        self.free.pop()
    }

    /// Makes as many empty frames as lie together in one piece of memory, within the budget. The first are fewer: whoever
    /// needs no more does not wait for the system to clear all of it.
    fn grow(&mut self) {
        let piece = Buffer::count_in_one_piece(self.page_len);
        let count = if self.frames.len() < piece / 2 { piece.div_ceil(FIRST_PART) } else { piece };
        let count = count.min(self.frames_max - self.frames.len());
        let first = self.frames.len() as u32;
        let buffers = match count == piece {
            true => Buffer::in_one_piece(count, self.page_len, ALIGN),
            // The rest of a piece would be more than the budget.
            false => Buffer::in_a_row(count, self.page_len, ALIGN),
        };
        self.frames.extend(buffers.into_iter().map(|bytes| Frame { bytes, ..Frame::default() }));
        // The lowest is taken first.
        self.free.extend((first..self.frames.len() as u32).rev());
    }

    /// The frame that should leave next; it is out of the queues from then on.
    pub(super) fn victim(&mut self) -> Option<u32> {
        self.policy.victim()
    }

    /// Gives an empty frame a page.
    pub(super) fn fill(&mut self, frame: u32, holds: Holds, fingerprint: u64) -> Place {
        let fingerprint = match &holds {
            Holds::Clean(source) => {
                self.by_source.insert(*source, frame);
                source.fingerprint()
            }
            _ => fingerprint,
        };
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.holds = holds;
            it.generation = it.generation.wrapping_add(1);
            it.pins = 0;
            it.fresh = Fresh::No;
        }
        self.policy.insert_with(frame, fingerprint, self.credits(frame));
        self.place(frame)
    }

    /// Gives an empty frame a page that will come, and returns the buffer for it. It is in no queue yet.
    pub(super) fn expect(&mut self, frame: u32, source: Source, fresh: Fresh) -> Buffer {
        self.by_source.insert(source, frame);
        let Some(it) = self.frames.get_mut(frame as usize) else { return Buffer::default() };
        it.holds = Holds::Clean(source);
        it.generation = it.generation.wrapping_add(1);
        it.pins = 0;
        it.fresh = fresh;
        std::mem::take(&mut it.bytes)
    }

    /// The page that `frame` expects is waited for by this number.
    pub(super) fn is_on_its_way(&mut self, frame: u32, id: u64) {
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.arrival = Some(id);
        }
    }

    /// Puts a frame with a clean page, which is in no queue, into one.
    pub(super) fn admit(&mut self, frame: u32) {
        if let Some(Holds::Clean(source)) = self.frame(frame).map(|it| &it.holds) {
            let fingerprint = source.fingerprint();
            self.policy.insert_with(frame, fingerprint, self.credits(frame));
        }
    }

    /// The page that `frame` is for is spared so often, from when it is in a queue.
    pub(super) fn set_credits(&mut self, frame: u32, credits: u8) {
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.credits = credits;
        }
    }

    fn credits(&self, frame: u32) -> u8 {
        self.frame(frame).map_or(0, |it| it.credits)
    }

    pub(super) fn fresh(&self, frame: u32) -> Fresh {
        self.frame(frame).map_or(Fresh::No, |it| it.fresh)
    }

    pub(super) fn set_fresh(&mut self, frame: u32, fresh: Fresh) {
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.fresh = fresh;
        }
    }

    /// The number by which the bytes of `frame` are waited for; whoever gets it waits, and puts them back.
    pub(super) fn take_arrival(&mut self, frame: u32) -> Option<u64> {
        self.frames.get_mut(frame as usize)?.arrival.take()
    }

    pub(super) fn put_bytes(&mut self, frame: u32, bytes: Buffer) {
        debug_assert_eq!(bytes.len(), self.page_len);
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.bytes = bytes;
        }
    }

    /// A dirty frame's page is in the tier now. If another frame has the same page, this one is given up.
    pub(super) fn clean(&mut self, frame: u32, cid: Cid) {
        let source = Source::Object(cid);
        let is_known = self.by_source.contains_key(&source);
        if is_known && !self.is_pinned(frame) {
            self.give_up(frame);
            return;
        }
        if !is_known {
            self.by_source.insert(source, frame);
        }
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.holds = Holds::Clean(source);
        }
    }

    /// Empties a frame that is in the queues or pinned.
    pub(super) fn give_up(&mut self, frame: u32) {
        self.policy.remove(frame);
        self.empty(frame);
    }

    /// Empties a frame that is not in the queues.
    pub(super) fn empty(&mut self, frame: u32) {
        let Some(it) = self.frames.get_mut(frame as usize) else { return };
        debug_assert!(it.arrival.is_none(), "its bytes are elsewhere");
        (it.fresh, it.credits) = (Fresh::No, 0);
        if let Holds::Clean(source) = std::mem::take(&mut it.holds)
            && self.by_source.get(&source) == Some(&frame)
        {
            self.by_source.remove(&source);
        }
        it.generation = it.generation.wrapping_add(1);
        self.pinned -= usize::from(it.pins > 0);
        it.pins = 0;
        self.free.push(frame);
    }

    /// Puts back a frame that the policy chose and that cannot leave.
    pub(super) fn put_back(&mut self, frame: u32, fingerprint: u64) {
        self.policy.insert(frame, fingerprint);
    }

    /// Takes a frame out of the queues until it is unpinned as often.
    pub(super) fn pin(&mut self, frame: u32) {
        let Some(it) = self.frames.get_mut(frame as usize) else { return };
        it.pins += 1;
        if it.pins == 1 {
            self.pinned += 1;
            self.policy.remove(frame);
        }
    }

    pub(super) fn is_pinned(&self, frame: u32) -> bool {
        self.frame(frame).is_some_and(|frame| frame.pins > 0)
    }

    /// Takes back one [`Self::pin`].
    pub(super) fn unpin(&mut self, frame: u32) {
        let Some(it) = self.frames.get_mut(frame as usize).filter(|it| it.pins > 0) else { return };
        it.pins -= 1;
        if it.pins == 0 {
            self.pinned -= 1;
            self.policy.insert(frame, u64::from(frame));
        }
    }

    /// Copies one frame's page to another.
    pub(super) fn copy(&mut self, from: u32, to: u32) {
        let Some(mut bytes) = self.frames.get_mut(to as usize).map(|to| std::mem::take(&mut to.bytes)) else {
            return;
        };
        bytes.copy_from_slice(self.bytes(from));
        if let Some(to) = self.frames.get_mut(to as usize) {
            to.bytes = bytes;
        }
    }

    fn frame(&self, frame: u32) -> Option<&Frame> {
        self.frames.get(frame as usize)
    }
}

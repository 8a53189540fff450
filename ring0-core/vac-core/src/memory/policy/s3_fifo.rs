//! S3-FIFO: a small queue for what came first, a main queue for what was used again, and a memory of
//! what left the small one too early.
//!
//! Some things differ from the paper, each for what it gave on the traces of `cargo xtask bench memory-policies`
//! (hits of zipf 0.9, of a loop of 1.2 times the frames) or on 29 others in five sizes:
//! - What comes back goes to the main queue only if that has a page near its end that is used up, and that was not used for
//!   at least as long as the one that comes back: the contest of LIRS (Jiang, Zhang 2002). In a loop all pages come back, and
//!   pushed each other out: 68.2 % to 79.2 % without the second condition; with it, two loops change places sooner.
//! - While there is room, what leaves the small queue moves in without having been used. 79.2 % to 80.9 %.
//! - The small queue begins with one frame in a thousand and may shrink to one, for what is in it never hits in a loop: 244,949 of
//!   300,000 so, with one in two hundred 244,939; whoever always has one page in hand of 5,000 can keep 244,951, and with one frame from
//!   the start a scan costs a hot set some of its pages. If a page comes back soon after it left, and takes a place of the main queue, the small
//!   one was too small, and grows, to a third at most; with any other that comes back it shrinks again. With 500 frames
//!   the tiles of a matrix multiplication hit 91.0 % instead of 83.7 %, and zipf as before.
//! - Few frames have no time to learn that, so there the small queue begins with half of them, and keeps that until the first page
//!   comes back: 91.01 % to 91.25 % (LRU has 91.09 %; without the half, a third from the start, 91.04 %).
//!   What it costs: 100 frames hit 24.8 % of a loop of 200 pages, where 49.5 % is the best there is.

#![expect(clippy::disallowed_types, reason = "its order is never observed: what leaves is in `order`")]

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::Policy;
use super::list::{Links, Queue};

/// One part in this many of the frames is the small queue's at most; one frame is at least.
const SMALL_PART_MAX: usize = 3;
/// The small queue begins with one part in this many,
const SMALL_PART: usize = 1000;
/// of which these are at least: with fewer a scan costs a hot set some of its pages;
const SMALL_MIN: usize = 4;
/// or, with fewer frames than this, with half of them.
const FEW: usize = 600;
/// A page came back soon if no more than one part in this many of the frames left the small queue after it.
const SOON_PART: usize = 20;
/// Frames by which the small queue grows for a page that came back soon and was let in. It shrinks by one for each other.
const GROWTH: usize = 8;
/// Pages of the main queue that are looked at for one that gives way.
const CONTEST_STEPS: usize = 4;

/// S3-FIFO with two bits of frequency, as in the paper: on the traces of `cargo xtask bench` one bit hits less often.
pub struct S3Fifo {
    links: Links,
    small: Queue,
    main: Queue,
    frames: Vec<Frame>,
    small_max: usize,
    ghosts: Ghosts,
    /// Pages that came so far, modulo 2^32: the time by which uses are told apart.
    now: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    at: At,
    uses: u8,
    /// Times that it is spared although it was not used.
    credits: u8,
    used_at: u32,
    fingerprint: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Out,
    Small,
    Main,
}

impl Frame {
    /// Takes a credit, if there is one.
    fn spend(&mut self) -> bool {
        let has_one = self.credits > 0;
        self.credits -= u8::from(has_one);
        has_one
    }

    /// Takes a use or a credit, if there is one.
    fn age(&mut self) -> bool {
        if self.uses == 0 {
            return self.spend();
        }
        self.uses -= 1;
        true
    }
}

impl S3Fifo {
    /// For `capacity` frames.
    pub fn new(capacity: usize) -> Self {
        Self {
            links: Links::new(capacity),
            small: Queue::default(),
            main: Queue::default(),
            frames: vec![Frame::default(); capacity],
            small_max: match capacity < FEW {
                true => (capacity / 2).max(1),
                false => (capacity / SMALL_PART).max(SMALL_MIN),
            },
            // As many as the main queue has frames, as in the paper.
            ghosts: Ghosts::new(capacity),
            now: 0,
        }
    }

    fn frame(&mut self, frame: u32) -> Option<&mut Frame> {
        self.frames.get_mut(frame as usize)
    }

    /// A page came back that left the small queue, and `after` others after it.
    fn adapt(&mut self, after: u64, is_let_in: bool) {
        let capacity = self.frames.len();
        let is_soon = after <= (capacity / SOON_PART) as u64;
        let wanted = if is_soon && is_let_in { self.small_max + GROWTH } else { self.small_max - 1 };
        self.small_max = wanted.min(capacity / SMALL_PART_MAX).max(1);
    }

    /// Whether the main queue has room for a page that was away for `away`, or a page near its end that is used up and
    /// was not used for as long. Those that were used are spared as if one had to leave.
    fn main_gives_way(&mut self, away: u32) -> bool {
        if self.has_room() {
            return true;
        }
        for _ in 0..CONTEST_STEPS {
            let Some(oldest) = self.main.oldest() else { return true };
            let Some(it) = self.frames.get_mut(oldest as usize) else { return true };
            if !it.age() {
                return self.now.wrapping_sub(it.used_at) >= away;
            }
            self.main.take(&mut self.links, oldest);
            self.main.push(&mut self.links, oldest);
        }
        false
    }

    /// Whether the main queue has less than its part.
    fn has_room(&self) -> bool {
        self.main.len() + self.small_max < self.frames.len()
    }

    fn victim_of_small(&mut self) -> Option<u32> {
        while let Some(oldest) = self.small.pop(&mut self.links) {
            let Some(frame) = self.frames.get_mut(oldest as usize) else { continue };
            if std::mem::take(&mut frame.uses) > 0 || frame.spend() {
                frame.at = At::Main;
                self.main.push(&mut self.links, oldest);
                continue;
            }
            frame.at = At::Out;
            self.ghosts.remember(frame.fingerprint, frame.used_at);
            return Some(oldest);
        }
        None
    }

    fn victim_of_main(&mut self) -> Option<u32> {
        // A few times round at most: what was spared has lost a use or a credit.
        while let Some(oldest) = self.main.pop(&mut self.links) {
            let Some(frame) = self.frames.get_mut(oldest as usize) else { continue };
            if frame.age() {
                self.main.push(&mut self.links, oldest);
                continue;
            }
            frame.at = At::Out;
            return Some(oldest);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, frame: u32, fingerprint: u64) {
        self.insert_with(frame, fingerprint, 0);
    }

    fn insert_with(&mut self, frame: u32, fingerprint: u64, credits: u8) {
        self.now = self.now.wrapping_add(1);
        let mut at = At::Small;
        if let Some((after, used_at)) = self.ghosts.forget(fingerprint) {
            let is_let_in = self.main_gives_way(self.now.wrapping_sub(used_at));
            self.adapt(after, is_let_in);
            at = if is_let_in { At::Main } else { At::Small };
        }
        if self.frame(frame).is_none_or(|it| it.at != At::Out) {
            return;
        }
        let used_at = self.now;
        if let Some(it) = self.frame(frame) {
            *it = Frame { at, uses: 0, credits, used_at, fingerprint };
        }
        match at {
            At::Main => self.main.push(&mut self.links, frame),
            _ => self.small.push(&mut self.links, frame),
        }
        while self.small.len() > self.small_max && self.has_room() {
            let Some(oldest) = self.small.pop(&mut self.links) else { break };
            if let Some(it) = self.frame(oldest) {
                it.at = At::Main;
            }
            self.main.push(&mut self.links, oldest);
        }
    }

    fn touch(&mut self, frame: u32) {
        let now = self.now;
        if let Some(frame) = self.frame(frame) {
            frame.uses = (frame.uses + 1).min(3);
            frame.used_at = now;
        }
    }

    fn remove(&mut self, frame: u32) {
        let Some(it) = self.frame(frame) else { return };
        match std::mem::take(&mut it.at) {
            At::Out => {}
            At::Small => self.small.take(&mut self.links, frame),
            At::Main => self.main.take(&mut self.links, frame),
        }
    }

    fn victim(&mut self) -> Option<u32> {
        let is_small_full = self.small.len() >= self.small_max || self.main.len() == 0;
        let first = if is_small_full { self.victim_of_small() } else { None };
        first.or_else(|| self.victim_of_main()).or_else(|| self.victim_of_small())
    }
}

/// Fingerprints of pages that left, the oldest forgotten first.
struct Ghosts {
    order: VecDeque<(u64, u64)>,
    /// The number of the entry of `order` that counts, and when the page was last used.
    latest: HashMap<u64, (u64, u32), BuildHasherDefault<DefaultHasher>>,
    next: u64,
    max: usize,
}

impl Ghosts {
    fn new(max: usize) -> Self {
        Self { order: VecDeque::new(), latest: HashMap::default(), next: 0, max: max.max(1) }
    }

    fn remember(&mut self, fingerprint: u64, used_at: u32) {
        self.next += 1;
        self.order.push_back((fingerprint, self.next));
        self.latest.insert(fingerprint, (self.next, used_at));
        while self.order.len() > self.max {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.latest.get(&oldest).is_some_and(|(latest, _)| *latest == number) {
                self.latest.remove(&oldest);
            }
        }
    }

    /// If it is remembered, how many came after it, and when it was last used.
    fn forget(&mut self, fingerprint: u64) -> Option<(u64, u32)> {
        self.latest.remove(&fingerprint).map(|(number, used_at)| (self.next - number, used_at))
    }
}

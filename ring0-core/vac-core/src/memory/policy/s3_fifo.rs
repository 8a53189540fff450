//! S3-FIFO: a small queue for what came first, a main queue for what was used again, and a memory of
//! what left the small one too early.
//!
//! Some things differ from the paper, each for what it gave on the traces of `cargo xtask bench memory-policies`
//! (hits of zipf 0.9, of a loop of 1.2 times the frames):
//! - The small queue has one frame in a hundred, not in ten, at first: 59.2 % to 59.8 %, 64.0 % to 68.2 %.
//! - What comes back goes to the main queue only if that has a page near its end that was not used: in a loop all
//!   pages come back, and pushed each other out. 59.8 % to 60.0 %, 68.2 % to 79.2 %.
//! - While there is room, what leaves the small queue moves in without having been used. 79.2 % to 80.9 %.
//! - Then one frame in two hundred is enough for the small queue, because what is in it never hits in a loop: 80.9 % to 81.3 %. If pages
//!   come back soon after they left it, it was too small, and grows, to a third at most; if they come back late, it shrinks again. With 500 frames
//!   the tiles of a matrix multiplication hit 91.0 % instead of 83.7 %, and zipf and the loop as before.
//! - Few frames have no time to learn that, so there the small queue begins with half of them, and keeps that until the first page
//!   comes back: 91.01 % to 91.25 % (LRU has 91.09 %; without the half, a third from the start, 91.04 %).
//!   What it costs: a loop of 600 pages hits 79.6 % instead of 80.4 %.

#![expect(clippy::disallowed_types, reason = "its order is never observed: what leaves is in `order`")]

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::Policy;
use super::list::{Links, Queue};

/// One part in this many of the frames is the small queue's at least,
const SMALL_PART: usize = 200;
/// and so many, unless they are more than a tenth;
const SMALL_MIN: usize = 8;
/// at most it has one part in this many.
const SMALL_PART_MAX: usize = 3;
/// With fewer frames than this, the small queue begins with half of them.
const FEW: usize = 600;
/// A page came back soon if no more than one part in this many of the frames left the small queue after it.
const SOON_PART: usize = 20;
/// Frames by which the small queue grows for a page that came back soon. It shrinks by one for each other.
const GROWTH: usize = 4;
/// Pages of the main queue that are looked at for one that gives way.
const CONTEST_STEPS: usize = 4;

/// S3-FIFO with two bits of frequency, as in the paper: on the traces of `cargo xtask bench` one bit hits less often.
pub struct S3Fifo {
    links: Links,
    small: Queue,
    main: Queue,
    frames: Vec<Frame>,
    small_max: usize,
    small_min: usize,
    ghosts: Ghosts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    at: At,
    uses: u8,
    /// Times that it is spared although it was not used.
    credits: u8,
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
        let small_min = (capacity / SMALL_PART).max(SMALL_MIN.min(capacity / 10)).max(1);
        let small_max = if capacity < FEW { small_min.max(capacity / 2) } else { small_min };
        Self {
            links: Links::new(capacity),
            small: Queue::default(),
            main: Queue::default(),
            frames: vec![Frame::default(); capacity],
            small_max,
            small_min,
            // As many as the main queue has frames, as in the paper.
            ghosts: Ghosts::new(capacity),
        }
    }

    fn frame(&mut self, frame: u32) -> Option<&mut Frame> {
        self.frames.get_mut(frame as usize)
    }

    /// A page came back that left the small queue, and `after` others after it.
    fn adapt(&mut self, after: u64) {
        let capacity = self.frames.len();
        self.small_max = match after <= (capacity / SOON_PART) as u64 {
            true => (self.small_max + GROWTH).min(capacity / SMALL_PART_MAX),
            false => self.small_max - 1,
        }
        .max(self.small_min);
    }

    /// Whether the main queue has room, or a page near its end that was not used. Those that were used are spared
    /// as if one had to leave.
    fn main_gives_way(&mut self) -> bool {
        if self.has_room() {
            return true;
        }
        for _ in 0..CONTEST_STEPS {
            let Some(oldest) = self.main.oldest() else { return true };
            let Some(it) = self.frames.get_mut(oldest as usize) else { return true };
            if !it.age() {
                return true;
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
            self.ghosts.remember(frame.fingerprint);
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
        let returned = self.ghosts.forget(fingerprint);
        if let Some(after) = returned {
            self.adapt(after);
        }
        let was_here = returned.is_some();
        if self.frame(frame).is_none_or(|it| it.at != At::Out) {
            return;
        }
        let at = if was_here && self.main_gives_way() { At::Main } else { At::Small };
        if let Some(it) = self.frame(frame) {
            *it = Frame { at, uses: 0, credits, fingerprint };
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
        if let Some(frame) = self.frame(frame) {
            frame.uses = (frame.uses + 1).min(3);
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
    /// The number of the entry of `order` that counts.
    latest: HashMap<u64, u64, BuildHasherDefault<DefaultHasher>>,
    next: u64,
    max: usize,
}

impl Ghosts {
    fn new(max: usize) -> Self {
        Self { order: VecDeque::new(), latest: HashMap::default(), next: 0, max: max.max(1) }
    }

    fn remember(&mut self, fingerprint: u64) {
        self.next += 1;
        self.order.push_back((fingerprint, self.next));
        self.latest.insert(fingerprint, self.next);
        while self.order.len() > self.max {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.latest.get(&oldest) == Some(&number) {
                self.latest.remove(&oldest);
            }
        }
    }

    /// If it is remembered, how many came after it.
    fn forget(&mut self, fingerprint: u64) -> Option<u64> {
        self.latest.remove(&fingerprint).map(|number| self.next - number)
    }
}

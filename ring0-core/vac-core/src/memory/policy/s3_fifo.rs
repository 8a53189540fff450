//! S3-FIFO: a small queue for what came first, a main queue for what was used again, and a memory of
//! what left the small one too early.

#![expect(clippy::disallowed_types, reason = "its order is never observed: what leaves is in `order`")]

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::Policy;
use super::list::{Links, Queue};

/// One part in this many of the frames is the small queue's.
const SMALL_PART: usize = 10;

/// S3-FIFO with two bits of frequency, as in the paper: on the traces of `cargo xtask bench` one bit hits less often.
pub struct S3Fifo {
    links: Links,
    small: Queue,
    main: Queue,
    frames: Vec<Frame>,
    small_max: usize,
    ghosts: Ghosts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    at: At,
    uses: u8,
    fingerprint: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Out,
    Small,
    Main,
}

impl S3Fifo {
    /// For `capacity` frames.
    pub fn new(capacity: usize) -> Self {
        Self {
            links: Links::new(capacity),
            small: Queue::default(),
            main: Queue::default(),
            frames: vec![Frame::default(); capacity],
            small_max: (capacity / SMALL_PART).max(1),
            // As many as the main queue has frames, as in the paper.
            ghosts: Ghosts::new(capacity),
        }
    }

    fn frame(&mut self, frame: u32) -> Option<&mut Frame> {
        self.frames.get_mut(frame as usize)
    }

    fn victim_of_small(&mut self) -> Option<u32> {
        while let Some(oldest) = self.small.pop(&mut self.links) {
            let Some(frame) = self.frames.get_mut(oldest as usize) else { continue };
            if std::mem::take(&mut frame.uses) > 0 {
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
        // Once round at most: what was spared has lost its bit.
        while let Some(oldest) = self.main.pop(&mut self.links) {
            let Some(frame) = self.frames.get_mut(oldest as usize) else { continue };
            if frame.uses > 0 {
                frame.uses -= 1;
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
        let was_here = self.ghosts.forget(fingerprint);
        let Some(it) = self.frame(frame).filter(|it| it.at == At::Out) else { return };
        let at = if was_here { At::Main } else { At::Small };
        *it = Frame { at, uses: 0, fingerprint };
        match at {
            At::Main => self.main.push(&mut self.links, frame),
            _ => self.small.push(&mut self.links, frame),
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

    fn forget(&mut self, fingerprint: u64) -> bool {
        self.latest.remove(&fingerprint).is_some()
    }
}

//! W-TinyLFU: a small window, then a main part into which only what is used more often gets.

use super::Policy;
use super::list::{Links, Queue};

/// One part in this many of the frames is the window's.
const WINDOW_PART: usize = 100;
/// Of the main part, this many of ten are protected.
const PROTECTED_OF_TEN: usize = 8;
/// All counts are halved after this many uses for each frame.
const SAMPLE_PER_FRAME: usize = 10;
/// A count goes no further.
const COUNT_MAX: u8 = 15;
/// Rows of the sketch.
const ROWS: usize = 4;

/// W-TinyLFU with a segmented main part.
pub struct TinyLfu {
    links: Links,
    window: Queue,
    probation: Queue,
    protected: Queue,
    frames: Vec<Frame>,
    window_max: usize,
    protected_max: usize,
    sketch: Sketch,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    at: At,
    fingerprint: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Out,
    Window,
    Probation,
    Protected,
}

impl TinyLfu {
    /// For `capacity` frames.
    pub fn new(capacity: usize) -> Self {
        let window_max = (capacity / WINDOW_PART).max(1);
        let protected_max = capacity.saturating_sub(window_max) * PROTECTED_OF_TEN / 10;
        Self {
            links: Links::new(capacity),
            window: Queue::default(),
            probation: Queue::default(),
            protected: Queue::default(),
            frames: vec![Frame::default(); capacity],
            window_max,
            protected_max,
            sketch: Sketch::new(capacity),
        }
    }

    fn frame(&self, frame: u32) -> Frame {
        self.frames.get(frame as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, frame: u32, at: At) {
        let links = &mut self.links;
        let Some(it) = self.frames.get_mut(frame as usize) else { return };
        match it.at {
            At::Out => {}
            At::Window => self.window.take(links, frame),
            At::Probation => self.probation.take(links, frame),
            At::Protected => self.protected.take(links, frame),
        }
        it.at = at;
        match at {
            At::Out => {}
            At::Window => self.window.push(links, frame),
            At::Probation => self.probation.push(links, frame),
            At::Protected => self.protected.push(links, frame),
        }
    }
}

impl Policy for TinyLfu {
    fn insert(&mut self, frame: u32, fingerprint: u64) {
        if self.frame(frame).at != At::Out {
            return;
        }
        self.sketch.count(fingerprint);
        if let Some(it) = self.frames.get_mut(frame as usize) {
            it.fingerprint = fingerprint;
        }
        self.set(frame, At::Window);
        // While there is room, what leaves the window moves in without a contest.
        while self.window.len() > self.window_max {
            let Some(oldest) = self.window.oldest() else { break };
            self.set(oldest, At::Probation);
        }
    }

    fn touch(&mut self, frame: u32) {
        let Frame { at, fingerprint } = self.frame(frame);
        self.sketch.count(fingerprint);
        match at {
            At::Out => {}
            At::Window => self.set(frame, At::Window),
            At::Probation | At::Protected => self.set(frame, At::Protected),
        }
        while self.protected.len() > self.protected_max {
            let Some(oldest) = self.protected.oldest() else { break };
            self.set(oldest, At::Probation);
        }
    }

    fn remove(&mut self, frame: u32) {
        self.set(frame, At::Out);
    }

    fn victim(&mut self) -> Option<u32> {
        let old = self.probation.oldest().or_else(|| self.protected.oldest());
        let chosen = match (self.window.oldest(), old) {
            (None, old) => old?,
            (Some(young), None) => young,
            (Some(young), Some(old)) if self.window.len() >= self.window_max => {
                // Who is used more often stays: the young one moves in, or leaves itself.
                let count = |frame: u32| self.sketch.estimate(self.frame(frame).fingerprint);
                if count(young) > count(old) {
                    self.set(young, At::Probation);
                    old
                } else {
                    young
                }
            }
            (Some(_), Some(old)) => old,
        };
        self.set(chosen, At::Out);
        Some(chosen)
    }
}

/// A count-min sketch of four bits, kept a byte each.
struct Sketch {
    counts: [Vec<u8>; ROWS],
    mask: u64,
    seen: usize,
    seen_max: usize,
}

impl Sketch {
    fn new(capacity: usize) -> Self {
        let width = capacity.max(16).next_power_of_two();
        Self {
            counts: std::array::from_fn(|_| vec![0; width]),
            mask: width as u64 - 1,
            seen: 0,
            seen_max: capacity.max(16) * SAMPLE_PER_FRAME,
        }
    }

    fn place(&self, fingerprint: u64, row: usize) -> usize {
        // A different odd multiplier a row; the upper bits are the good ones.
        let factor = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * row as u64 + 1) | 1;
        ((fingerprint.wrapping_mul(factor) >> 32) & self.mask) as usize
    }

    fn count(&mut self, fingerprint: u64) {
        for row in 0..ROWS {
            let at = self.place(fingerprint, row);
            if let Some(count) = self.counts.get_mut(row).and_then(|row| row.get_mut(at)) {
                *count = (*count + 1).min(COUNT_MAX);
            }
        }
        self.seen += 1;
        if self.seen >= self.seen_max {
            self.seen /= 2;
            self.counts.iter_mut().flatten().for_each(|count| *count /= 2);
        }
    }

    fn estimate(&self, fingerprint: u64) -> u8 {
        let at = |row: usize| self.counts.get(row)?.get(self.place(fingerprint, row)).copied();
        (0..ROWS).filter_map(at).min().unwrap_or(0)
    }
}

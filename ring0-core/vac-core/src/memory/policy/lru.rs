//! Least recently used.

use super::Policy;
use super::list::{Links, Queue};

/// Least recently used: what leaves was used longest ago.
pub struct Lru {
    links: Links,
    queue: Queue,
    is_in: Vec<bool>,
}

impl Lru {
    /// For `capacity` frames.
    pub fn new(capacity: usize) -> Self {
        Self { links: Links::new(capacity), queue: Queue::default(), is_in: vec![false; capacity] }
    }

    fn set(&mut self, frame: u32, is_in: bool) -> bool {
        self.is_in.get_mut(frame as usize).is_some_and(|was| std::mem::replace(was, is_in))
    }
}

impl Policy for Lru {
    fn insert(&mut self, frame: u32, _fingerprint: u64) {
        if !self.set(frame, true) {
            self.queue.push(&mut self.links, frame);
        }
    }

    fn touch(&mut self, frame: u32) {
        if self.is_in.get(frame as usize) == Some(&true) {
            self.queue.take(&mut self.links, frame);
            self.queue.push(&mut self.links, frame);
        }
    }

    fn remove(&mut self, frame: u32) {
        if self.set(frame, false) {
            self.queue.take(&mut self.links, frame);
        }
    }

    fn victim(&mut self) -> Option<u32> {
        let oldest = self.queue.pop(&mut self.links)?;
        self.set(oldest, false);
        Some(oldest)
    }
}

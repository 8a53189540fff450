//! SIEVE: one queue and a hand that goes from old to new and spares what was used.

use super::Policy;
use super::list::{Links, Queue};

/// SIEVE. A frame keeps its place in the queue when it is used and when it is spared.
pub struct Sieve {
    links: Links,
    queue: Queue,
    state: Vec<State>,
    /// Where the search goes on.
    hand: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Out,
    In,
    Used,
}

impl Sieve {
    /// For `capacity` frames.
    pub fn new(capacity: usize) -> Self {
        Self {
            links: Links::new(capacity),
            queue: Queue::default(),
            state: vec![State::Out; capacity],
            hand: None,
        }
    }

    fn state(&mut self, frame: u32) -> Option<&mut State> {
        self.state.get_mut(frame as usize)
    }
}

impl Policy for Sieve {
    fn insert(&mut self, frame: u32, _fingerprint: u64) {
        if let Some(state) = self.state(frame).filter(|state| **state == State::Out) {
            *state = State::In;
            self.queue.push(&mut self.links, frame);
        }
    }

    fn touch(&mut self, frame: u32) {
        if let Some(state) = self.state(frame).filter(|state| **state == State::In) {
            *state = State::Used;
        }
    }

    fn remove(&mut self, frame: u32) {
        let Some(state) = self.state(frame).filter(|state| **state != State::Out) else { return };
        *state = State::Out;
        if self.hand == Some(frame) {
            self.hand = self.queue.newer(&self.links, frame);
        }
        self.queue.take(&mut self.links, frame);
    }

    fn victim(&mut self) -> Option<u32> {
        // Twice round at most: the first round spares everything once.
        for _ in 0..=2 * self.queue.len() {
            let at = self.hand.or_else(|| self.queue.oldest())?;
            self.hand = self.queue.newer(&self.links, at);
            let Some(state) = self.state(at) else { continue };
            if *state == State::Used {
                *state = State::In;
                continue;
            }
            *state = State::Out;
            self.queue.take(&mut self.links, at);
            return Some(at);
        }
        None
    }
}

//! Where spaces last found their pages: a small table that saves the walk through the map.
//!
//! One for all spaces of a pager, so that a thousand snapshots need no more of it than one. An entry is believed only
//! if the frame still has the generation that it had, and allows a write only in the epoch in which the page was
//! written. Two pages that fall on one entry displace each other.

use super::frames::Place;

#[derive(Clone, Copy)]
struct Hint {
    /// 0 for an entry that was never set; no space has it.
    space: u64,
    shard: u64,
    page: u64,
    place: Place,
    /// The epoch in which the page may be written in place; 0 for none.
    epoch: u64,
}

/// A page of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) space: u64,
    pub(super) shard: u64,
    pub(super) page: u64,
}

/// The table.
#[derive(Default)]
pub(super) struct Hints {
    entries: Vec<Hint>,
}

impl Hints {
    fn at(&self, of: Of) -> usize {
        let mixed = (of.page ^ of.shard.rotate_left(32) ^ of.space.rotate_left(48))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The length is a power of two; the upper bits are the good ones.
        (mixed >> 32) as usize & self.entries.len().wrapping_sub(1)
    }

    fn get(&self, of: Of) -> Option<&Hint> {
        let hint = self.entries.get(self.at(of))?;
        (Of { space: hint.space, shard: hint.shard, page: hint.page } == of).then_some(hint)
    }

    /// Where the page was found.
    pub(super) fn to_read(&self, of: Of) -> Option<Place> {
        self.get(of).map(|hint| hint.place)
    }

    /// Where the page was found, if it may be written there.
    pub(super) fn to_write(&self, of: Of, epoch: u64) -> Option<Place> {
        self.get(of).filter(|hint| hint.epoch == epoch).map(|hint| hint.place)
    }

    /// Remembers a place. `frames` is how many there can be.
    pub(super) fn set(&mut self, of: Of, place: Place, epoch: u64, frames: usize) {
        let Of { space, shard, page } = of;
        if self.entries.is_empty() {
            // Twice as many entries as frames, so that few pages share one.
            let none = Hint { space: 0, shard: 0, page: 0, place, epoch: 0 };
            self.entries = vec![none; (frames * 2).next_power_of_two().clamp(16, 1 << 20)];
        }
        let at = self.at(of);
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = Hint { space, shard, page, place, epoch };
        }
    }

    /// Forgets the page.
    pub(super) fn forget(&mut self, of: Of) {
        if self.get(of).is_some() {
            let at = self.at(of);
            self.entries.get_mut(at).into_iter().for_each(|entry| entry.space = 0);
        }
    }
}

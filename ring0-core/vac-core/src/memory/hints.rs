//! Where a space last found its pages: a small table that saves the walk through the map.
//!
//! An entry is believed only if the frame still has the generation that it had, and allows a write only in
//! the epoch in which the page was written. Two pages that fall on one entry displace each other.

use super::frames::Place;

#[derive(Clone, Copy)]
struct Hint {
    shard: u64,
    page: u64,
    place: Place,
    /// The epoch in which the page may be written in place; 0 for none.
    epoch: u64,
}

/// The table.
#[derive(Default)]
pub(super) struct Hints {
    entries: Vec<Option<Hint>>,
}

impl Hints {
    fn at(&self, shard: u64, page: u64) -> usize {
        let mixed = (page ^ shard.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The length is a power of two; the upper bits are the good ones.
        (mixed >> 32) as usize & self.entries.len().wrapping_sub(1)
    }

    fn get(&self, shard: u64, page: u64) -> Option<Hint> {
        let hint = (*self.entries.get(self.at(shard, page))?)?;
        (hint.shard == shard && hint.page == page).then_some(hint)
    }

    /// Where `page` was found.
    pub(super) fn to_read(&self, shard: u64, page: u64) -> Option<Place> {
        self.get(shard, page).map(|hint| hint.place)
    }

    /// Where `page` was found, if it may be written there.
    pub(super) fn to_write(&self, shard: u64, page: u64, epoch: u64) -> Option<Place> {
        self.get(shard, page).filter(|hint| hint.epoch == epoch).map(|hint| hint.place)
    }

    /// Remembers a place. `frames` is how many there can be.
    pub(super) fn set(&mut self, shard: u64, page: u64, place: Place, epoch: u64, frames: usize) {
        if self.entries.is_empty() {
            // Twice as many entries as frames, so that few pages share one.
            self.entries = vec![None; (frames * 2).next_power_of_two().clamp(16, 1 << 20)];
        }
        let at = self.at(shard, page);
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = Some(Hint { shard, page, place, epoch });
        }
    }

    /// Forgets `page`.
    pub(super) fn forget(&mut self, shard: u64, page: u64) {
        let at = self.at(shard, page);
        if let Some(entry) = self.entries.get_mut(at)
            && entry.is_some_and(|hint| hint.shard == shard && hint.page == page)
        {
            *entry = None;
        }
    }
}

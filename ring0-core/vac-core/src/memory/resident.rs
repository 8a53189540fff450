//! The quota of pages in memory: what a space may keep there of what came for it.
//!
//! A page counts for the space that it was read, made or written for, until its frame has another page. One that is found
//! in memory counts for whoever it came for, and one that was fetched ahead, by advice or with others when it is used. At the
//! quota the oldest of the space's own leaves: a queue, for a policy that knows more than that has the frames of all.

use crate::fault::Result;

use super::{Pager, Space, over};

impl Pager {
    /// Pages in memory that count for `space`.
    pub fn resident_of(&self, space: &Space) -> u64 {
        space.resident.iter().filter(|place| self.frames.get(**place).is_some()).count() as u64
    }

    /// Lets pages of `space` leave until one more may come for it. Fails if all of them are pinned.
    pub(super) fn keep_within(&mut self, space: &mut Space) -> Result<()> {
        let Some(max) = space.quota.resident_max else { return Ok(()) };
        if (space.resident.len() as u64) < max {
            return Ok(());
        }
        space.resident.retain(|place| self.frames.get(*place).is_some());
        let mut pinned = 0;
        while space.resident.len() as u64 >= max {
            if pinned == space.resident.len() {
                return Err(over("pages in memory, and all of them are pinned", max));
            }
            let Some(oldest) = space.resident.pop_front() else { break };
            if self.frames.is_pinned(oldest.frame) {
                space.resident.push_back(oldest);
                pinned += 1;
                continue;
            }
            if let Err(why) = self.write_back(oldest.frame) {
                space.resident.push_front(oldest);
                return Err(why);
            }
            self.stats.evictions += 1;
            self.frames.give_up(oldest.frame);
        }
        Ok(())
    }

    /// Notes that the page in `frame` came for `space`.
    pub(super) fn charge(&mut self, space: &mut Space, frame: u32) {
        if space.quota.resident_max.is_some() {
            space.resident.push_back(self.frames.place(frame));
        }
    }
}

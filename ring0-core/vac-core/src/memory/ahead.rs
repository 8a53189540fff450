//! Pages that come before somebody waits for them: those of one range together, and those that will be next.
//!
//! A page that is on its way has its frame already, and is found by its CID; whoever needs it waits. So which pages
//! are in memory, and which leave, does not depend on how fast they come. What is read ahead counts for the one who
//! uses it, when he does: a guess costs nobody's quota.
//!
//! Guessing stops itself. Of the pages that were read ahead, those that left unused are counted; if they are more
//! than half, guesses are only noted from then on, and made again once most of them would have been right.

use std::collections::{BTreeMap, VecDeque};

use crate::cid::Cid;
use crate::fault::Result;

use super::fetch::Want;
use super::frames::{Fresh, Place, Source};
use super::node::PageRef;
use super::{Pager, Space};

/// Accesses with a pattern that are followed at a time.
const STREAMS: usize = 8;
/// Strides are not longer.
const STRIDE_MAX: u64 = 256;
/// So many equal steps make a pattern.
const STEPS_MIN: u32 = 2;
/// Patterns whose length is remembered.
const RUNS_MAX: usize = 8;
/// Guesses that are judged together.
const JUDGED: u32 = 64;
/// Ranges with advice that are remembered.
const ADVICE_MAX: usize = 64;
/// Pages that are read ahead at a time.
const WINDOW_MAX: usize = 32;
/// Pages of one batch.
const BATCH_MAX: usize = 64;

/// One pattern: each page so many after the last.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    shard: u64,
    last: u64,
    /// Modulo 2^64, so that it goes backward too; 0 for none yet.
    stride: u64,
    steps: u32,
    /// Strides from its first page to `last`: more than steps, where pages were in memory anyway.
    len: u32,
    /// Steps from `last` on that were guessed already.
    ahead: u32,
    used_at: u64,
    /// Its length was noted, as that of one that ended.
    is_noted: bool,
}

/// How long patterns with a stride last: the tiles of a matrix are rows of few pages, one after another, and what is behind the
/// end of one is not needed.
#[derive(Debug, Clone, Copy)]
struct Run {
    shard: u64,
    stride: u64,
    len: u32,
    /// The last two were equally long.
    is_sure: bool,
}

/// What a space knows of how it is used.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    streams: Vec<Stream>,
    /// The one that was noted last is the last.
    runs: VecDeque<Run>,
    now: u64,
    /// Guesses that were not made, while guessing is off.
    noted: VecDeque<(u64, u64)>,
    /// First page of a range to its last, and whether it is read in order (or in none).
    advice: BTreeMap<(u64, u64), (u64, bool)>,
    /// The same for how often its pages are spared.
    credits: BTreeMap<(u64, u64), (u64, u8)>,
}

/// How good guesses are.
#[derive(Debug, Default)]
pub(super) struct Accuracy {
    good: u32,
    bad: u32,
    pub(super) is_off: bool,
}

impl Accuracy {
    /// Notes whether a guess was right.
    pub(super) fn judge(&mut self, was_right: bool) {
        match was_right {
            true => self.good += 1,
            false => self.bad += 1,
        }
        if self.good + self.bad < JUDGED {
            return;
        }
        let (good, all) = (std::mem::take(&mut self.good), JUDGED);
        self.bad = 0;
        self.is_off = match self.is_off {
            false => good * 2 < all,
            true => good * 4 < all * 3,
        };
    }
}

impl Patterns {
    /// Remembers that a range is read in order, or in none; `None` forgets.
    pub(super) fn advise(&mut self, shard: u64, first: u64, last: u64, is_in_order: Option<bool>) {
        self.advice.remove(&(shard, first));
        if let Some(is_in_order) = is_in_order.filter(|_| self.advice.len() < ADVICE_MAX) {
            self.advice.insert((shard, first), (last, is_in_order));
        }
    }

    /// Remembers how often pages of a range are spared; 0 forgets.
    pub(super) fn weigh(&mut self, shard: u64, first: u64, last: u64, credits: u8) {
        self.credits.remove(&(shard, first));
        if credits > 0 && self.credits.len() < ADVICE_MAX {
            self.credits.insert((shard, first), (last, credits));
        }
    }

    /// How often a page is spared.
    pub(super) fn credits(&self, shard: u64, page: u64) -> u8 {
        let found = self.credits.range(..=(shard, page)).next_back();
        found
            .filter(|((at, _), (last, _))| *at == shard && page <= *last)
            .map_or(0, |(_, (_, credits))| *credits)
    }

    fn advice(&self, shard: u64, page: u64) -> Option<bool> {
        let (&(at, _), &(last, is_in_order)) = self.advice.range(..=(shard, page)).next_back()?;
        (at == shard && page <= last).then_some(is_in_order)
    }

    /// Takes note of a page that was not in memory or was guessed, and guesses up to `window` pages.
    fn next(&mut self, shard: u64, page: u64, window: usize) -> Vec<(u64, u64)> {
        let advice = self.advice(shard, page);
        if advice == Some(false) || window == 0 {
            return Vec::new();
        }
        self.now += 1;
        let now = self.now;
        let at = self.follow(shard, page);
        let Some(stream) = self.streams.get_mut(at) else { return Vec::new() };
        stream.used_at = now;
        if advice == Some(true) && stream.steps == 0 {
            (stream.stride, stream.steps) = (1, STEPS_MIN);
        }
        // What is left of it, if others like it had one length, and it is not longer already.
        let run = self.runs.iter().find(|run| (run.shard, run.stride) == (shard, stream.stride));
        let run = run.filter(|run| run.is_sure && advice != Some(true));
        let rest = run.and_then(|run| run.len.checked_sub(stream.len));
        if stream.steps < if rest.is_some() { 1 } else { STEPS_MIN } {
            return Vec::new();
        }
        // Else the longer a pattern holds the further ahead; again once half of it was used.
        let far = rest.map(|rest| rest as usize).or_else(|| 1_usize.checked_shl(stream.steps.min(16)));
        let far = far.unwrap_or(window).min(window) as u32;
        if stream.ahead > far / 2 {
            return Vec::new();
        }
        let (last, stride, from) = (stream.last, stream.stride, stream.ahead);
        stream.ahead = far;
        let nth = |n: u32| last.wrapping_add(stride.wrapping_mul(u64::from(n)));
        // Past either end of the shard there is nothing.
        let is_there = |page: &u64| (*page > last) == (stride < u64::MAX / 2);
        (from + 1..=far).map(nth).take_while(is_there).map(|page| (shard, page)).collect()
    }

    /// The stream that `page` goes on with, or a new one.
    fn follow(&mut self, shard: u64, page: u64) -> usize {
        let goes_on = |stream: &Stream| {
            // Also if some of its pages were in memory anyway.
            (1..=4).find(|n| {
                stream.stride != 0
                    && stream.last.wrapping_add(stream.stride.wrapping_mul(u64::from(*n))) == page
            })
        };
        let mut near = None;
        for (at, stream) in self.streams.iter_mut().enumerate().filter(|(_, stream)| stream.shard == shard) {
            if let Some(steps) = goes_on(stream) {
                stream.last = page;
                stream.steps = stream.steps.saturating_add(1);
                stream.len = stream.len.saturating_add(steps);
                stream.ahead = stream.ahead.saturating_sub(steps);
                if std::mem::take(&mut stream.is_noted) {
                    // It had not ended.
                    let of = (stream.shard, stream.stride);
                    self.runs.retain(|run| (run.shard, run.stride) != of);
                }
                return at;
            }
            let step = page.wrapping_sub(stream.last);
            let is_near = step.min(step.wrapping_neg()) <= STRIDE_MAX;
            if is_near && step != 0 && stream.steps < STEPS_MIN {
                near = Some((at, step));
            }
        }
        if let Some((at, stride)) = near
            && let Some(stream) = self.streams.get_mut(at)
        {
            *stream = Stream { last: page, stride, steps: 1, len: 1, ahead: 0, ..*stream };
            self.note_run(at);
            return at;
        }
        let new = Stream { shard, last: page, ..Stream::default() };
        if self.streams.len() < STREAMS {
            self.streams.push(new);
            return self.streams.len() - 1;
        }
        let oldest = self.streams.iter().enumerate().min_by_key(|(_, it)| it.used_at).map_or(0, |(at, _)| at);
        if let Some(stream) = self.streams.get_mut(oldest) {
            *stream = new;
        }
        oldest
    }

    /// A pattern may begin with the stream `at`: the latest other one with its stride has ended, or so it seems.
    fn note_run(&mut self, at: usize) {
        let Some(&Stream { shard, stride, .. }) = self.streams.get(at) else { return };
        let is_like = |it: &&mut Stream| (it.shard, it.stride) == (shard, stride) && it.steps >= STEPS_MIN;
        let others = self.streams.iter_mut().filter(is_like).filter(|it| !it.is_noted);
        let Some(ended) = others.max_by_key(|it| it.used_at) else { return };
        ended.is_noted = true;
        let len = ended.len;
        let known = self.runs.iter().position(|run| (run.shard, run.stride) == (shard, stride));
        let before = known.and_then(|known| self.runs.remove(known));
        let is_sure = before.is_some_and(|before| before.len == len);
        if self.runs.len() >= RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Run { shard, stride, len, is_sure });
    }

    /// Whether this was guessed while guessing is off.
    fn was_noted(&mut self, shard: u64, page: u64) -> bool {
        let at = self.noted.iter().position(|it| *it == (shard, page));
        at.is_some_and(|at| self.noted.remove(at).is_some())
    }
}

/// What came of a page that a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// It is there.
    Yes,
    /// It could not be had: its frame is empty again.
    No,
}

impl Pager {
    /// Pages of one batch: not so many that two of them would push each other out.
    pub(super) fn batch_max(&self) -> usize {
        (self.frames.frames_max() / 8).clamp(1, BATCH_MAX)
    }

    fn window(&self) -> usize {
        (self.frames.frames_max() / 8).min(WINDOW_MAX)
    }

    /// The object of `page`, if it has one and it is in no frame.
    fn absent(&mut self, space: &Space, shard: u64, page: u64) -> Option<Cid> {
        let is_here = |place| self.frames.get(place).is_some();
        if self.hints.to_read(space.of(shard, page)).is_some_and(is_here) {
            return None;
        }
        // An error is for whoever reads the page.
        let cid = match space.shards.get(&shard)?.map.get(page, &mut self.nodes).ok()?? {
            PageRef::Stored(cid) => cid,
            PageRef::Held(version) => version.cid()?,
        };
        self.frames.find(&Source::Object(cid)).is_none().then_some(cid)
    }

    /// Begins to fetch those of `pages` that are in no frame, as one batch, and returns where they will be. Whatever is
    /// in the way of that is reported to whoever reads the page.
    pub(super) fn fetch(&mut self, space: &mut Space, pages: &[(u64, u64)], fresh: Fresh) -> Vec<Place> {
        let absent: Vec<Cid> =
            pages.iter().filter_map(|(shard, page)| self.absent(space, *shard, *page)).collect();
        if fresh == Fresh::Demand && absent.len() < 2 {
            // One page is read by the caller: handing it over would take longer.
            return Vec::new();
        }
        let (mut places, mut wants) = (Vec::new(), Vec::new());
        // Pages that are no object need frames too, and another batch of a read may be on its way.
        let part = if fresh == Fresh::Demand { 4 } else { 2 };
        let most = self.frames.frames_max().saturating_sub(self.frames.counts().1) / part;
        let most = most.min(space.quota.resident_max.map_or(most, |max| max as usize / 2));
        for cid in absent {
            let source = Source::Object(cid);
            if places.len() >= most {
                break;
            }
            if self.frames.find(&source).is_some() {
                continue;
            }
            let Ok(frame) = self.make_room() else { break };
            let was_over = space.is_io_over;
            if fresh != Fresh::Ahead && self.count_io(space, self.page_len).is_err() {
                self.frames.empty(frame);
                // Refused is what is read, when it is.
                space.is_io_over = was_over;
                break;
            }
            let to = self.frames.expect(frame, source, fresh);
            places.push(self.frames.place(frame));
            wants.push(Want { cid, to });
        }
        if wants.is_empty() {
            return places;
        }
        let ids = self.fetcher.give(wants);
        for (&Place { frame, .. }, id) in places.iter().zip(ids) {
            self.frames.is_on_its_way(frame, id);
            // A page is in no queue of the policy until it is used: it would be the first to leave.
            if fresh != Fresh::Demand {
                self.waiting.push_back(frame);
            }
        }
        while self.waiting.len() > self.frames.frames_max() / 2 {
            if let Some(frame) = self.waiting.pop_front() {
                self.frames.admit(frame);
            }
        }
        places
    }

    /// A frame is used or leaves: it waits no more.
    fn stop_waiting(&mut self, frame: u32) {
        if let Some(at) = self.waiting.iter().position(|it| *it == frame) {
            self.waiting.remove(at);
            self.frames.admit(frame);
        }
    }

    /// Lets go of pages that were fetched for a range and then not read. A frame that has another page by now is somebody else's.
    pub(super) fn release(&mut self, places: &[Place]) {
        for &place in places {
            let Place { frame, .. } = place;
            if self.frames.place(frame) == place && self.frames.fresh(frame) == Fresh::Demand {
                self.frames.set_fresh(frame, Fresh::No);
                self.frames.admit(frame);
            }
        }
    }

    /// The page that `frame` is for, found by its CID, is to be used.
    pub(super) fn arrive(&mut self, space: &mut Space, frame: u32, credits: u8) -> Result<Arrived> {
        let fresh = self.frames.fresh(frame);
        if fresh != Fresh::No {
            self.keep_within(space)?;
        }
        if fresh == Fresh::Ahead {
            self.count_io(space, self.page_len)?;
        }
        self.frames.set_fresh(frame, Fresh::No);
        if fresh != Fresh::No {
            self.charge(space, frame);
            self.frames.set_credits(frame, credits);
        }
        if matches!(fresh, Fresh::Asked | Fresh::Ahead) {
            self.stop_waiting(frame);
        }
        if !self.land(frame) {
            // Whoever reads it now counts it again.
            space.used.io_bytes = space.used.io_bytes.saturating_sub(self.page_len as u64);
            self.frames.give_up(frame);
            return Ok(Arrived::No);
        }
        match fresh {
            Fresh::No => self.hit(frame),
            Fresh::Demand => {
                self.stats.misses += 1;
                self.stats.page_reads += 1;
                self.frames.admit(frame);
            }
            // Not a use that says that it will be used again.
            Fresh::Asked => self.stats.hits += 1,
            Fresh::Ahead => {
                self.stats.hits += 1;
                self.stats.ahead_used += 1;
                self.accuracy.judge(true);
            }
        }
        Ok(Arrived::Yes)
    }

    /// Waits for the bytes of `frame`, if they are on their way. Whether they came.
    fn land(&mut self, frame: u32) -> bool {
        let Some(id) = self.frames.take_arrival(frame) else { return true };
        let came = self.fetcher.wait(id);
        self.frames.put_bytes(frame, came.to);
        matches!(came.found, Ok(true))
    }

    /// A frame that leaves: its bytes must be back, and a guess that nobody used was wrong.
    pub(super) fn recall(&mut self, frame: u32) {
        self.land(frame);
        if self.frames.fresh(frame) == Fresh::Ahead {
            self.stats.ahead_wasted += 1;
            self.accuracy.judge(false);
        }
    }

    /// A page is used for the first time since it was not in memory: what is next?
    pub(super) fn guess(&mut self, space: &mut Space, shard: u64, page: u64) {
        if self.accuracy.is_off && space.patterns.was_noted(shard, page) {
            self.accuracy.judge(true);
        }
        let pages = space.patterns.next(shard, page, self.window());
        if pages.is_empty() {
            return;
        }
        if !self.accuracy.is_off {
            let places = self.fetch(space, &pages, Fresh::Ahead);
            self.stats.ahead += places.len() as u64;
            return;
        }
        for guess in pages {
            space.patterns.noted.push_back(guess);
            if space.patterns.noted.len() > JUDGED as usize && space.patterns.noted.pop_front().is_some() {
                self.accuracy.judge(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(pages: &[u64], window: usize) -> Vec<u64> {
        let mut patterns = Patterns::default();
        let guesses = pages.iter().flat_map(|page| patterns.next(3, *page, window));
        guesses.map(|(_, page)| page).collect()
    }

    #[test]
    fn steps_of_one_length_are_a_pattern_and_others_are_not() {
        assert_eq!(guessed(&[5, 6], 8), Vec::<u64>::new());
        assert_eq!(guessed(&[5, 6, 7], 8), [8, 9, 10, 11]);
        assert_eq!(guessed(&[100, 90, 80], 8), [70, 60, 50, 40]);
        assert_eq!(guessed(&[2, 1, 0], 8), Vec::<u64>::new(), "nothing is before the first page");
        assert_eq!(guessed(&[0, 1000, 2000, 3000], 8), Vec::<u64>::new(), "too far apart");
        let run: Vec<u64> = (0..40).collect();
        let all = guessed(&run, 8);
        assert_eq!(all, (3..3 + all.len() as u64).collect::<Vec<_>>(), "each is guessed once, in order");
        assert!((39..48).contains(all.last().unwrap()), "and not too far ahead: {all:?}");
    }

    #[test]
    fn two_patterns_at_once_are_followed() {
        let mixed: Vec<u64> = (0..6).flat_map(|n| [n, 10_000 + 3 * n]).collect();
        let guesses = guessed(&mixed, 4);
        assert!(guesses.contains(&3) && guesses.contains(&10_009), "{guesses:?}");
    }

    /// A matrix multiplication by tiles: what was read ahead of the end of each row was for nothing, so guessing stopped.
    #[test]
    fn rows_of_one_length_are_guessed_to_their_end() {
        let row = |n: u64| (n * 1000..n * 1000 + 8).collect::<Vec<u64>>();
        let learned: Vec<u64> = (1..4).flat_map(row).collect();
        let then = |pages: &[u64]| {
            let all = [&learned[..], pages].concat();
            let known = guessed(&learned, 32).len();
            guessed(&all, 32)[known..].to_vec()
        };
        assert_eq!(then(&row(4)), row(4)[2..], "from the second page on, and nothing behind the last");
        let longer: Vec<u64> = (4000..4010).collect();
        assert!(then(&longer).contains(&4040), "one that goes on is followed as if nothing was known");
        assert_eq!(then(&[4000, 4003, 4006]), [4009, 4012, 4015, 4018], "another stride has no length yet");
    }

    #[test]
    fn guessing_stops_itself_and_begins_again() {
        let mut accuracy = Accuracy::default();
        (0..JUDGED).for_each(|n| accuracy.judge(n % 3 == 0));
        assert!(accuracy.is_off);
        (0..JUDGED).for_each(|n| accuracy.judge(n % 2 == 0));
        assert!(accuracy.is_off, "half is not enough to begin again");
        (0..JUDGED).for_each(|n| accuracy.judge(n % 8 != 0));
        assert!(!accuracy.is_off);
    }

    #[test]
    fn advice_overrules() {
        let mut patterns = Patterns::default();
        patterns.advise(0, 10, 20, Some(true));
        assert_eq!(patterns.next(0, 12, 2), [(0, 13), (0, 14)]);
        patterns.advise(0, 10, 20, Some(false));
        assert!((13..18).all(|page| patterns.next(0, page, 2).is_empty()));
        patterns.advise(0, 10, 20, None);
        assert_eq!((16..20).flat_map(|page| patterns.next(0, page, 2)).count(), 5);
    }
}

//! Virtual time. It shows nothing of the host: one tick of the kernel is one nanosecond, and a
//! wait moves the clock to its end at once. Only what takes its time outside, a peer's answer, moves it by that, in whole
//! milliseconds.

use std::time::Duration;

/// Virtual nanoseconds since the kernel started.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    tick: u64,
    waited_ns: u64,
    /// What passed outside and does not count yet.
    outside_ns: u64,
}

/// What the wall clock shows when a kernel starts: 2000-01-01T00:00:00Z, in seconds since 1970.
pub(crate) const WALL_START_S: u64 = 946_684_800;
/// The step of both clocks.
pub(crate) const RESOLUTION_NS: u64 = 1;
pub(crate) const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

impl Clock {
    pub(crate) fn set_tick(&mut self, tick: u64) {
        self.tick = tick;
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.tick.saturating_add(self.waited_ns)
    }

    /// Lets time pass without the kernel working.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.waited_ns = self.waited_ns.saturating_add(ns);
    }

    /// Notes that something took so long outside. It counts with [`Self::catch_up`] or [`Self::take_outside`].
    pub(crate) fn note_outside(&mut self, waited: Duration) {
        let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.outside_ns = self.outside_ns.saturating_add(ns);
    }

    /// The whole milliseconds of what was noted; the rest is kept, so that many short waits count, too.
    pub(crate) fn take_outside(&mut self) -> u64 {
        let rest = self.outside_ns % NS_PER_MS;
        std::mem::replace(&mut self.outside_ns, rest) - rest
    }

    /// Forgets the whole milliseconds of what was noted.
    pub(crate) fn forget_outside(&mut self) {
        self.take_outside();
    }

    /// Lets pass what passed outside.
    pub(crate) fn catch_up(&mut self) {
        let outside = self.take_outside();
        self.pass(outside);
    }

    /// Waits until `instant_ns`; at once if it has passed.
    pub(crate) fn wait_until(&mut self, instant_ns: u64) {
        let missing = instant_ns.saturating_sub(self.now_ns());
        self.waited_ns = self.waited_ns.saturating_add(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_with_ticks_and_with_waits_and_never_back() {
        let mut clock = Clock::default();
        clock.set_tick(10);
        assert_eq!(clock.now_ns(), 10);
        clock.wait_until(1_000);
        assert_eq!(clock.now_ns(), 1_000);
        clock.wait_until(5);
        assert_eq!(clock.now_ns(), 1_000);
        clock.set_tick(11);
        assert_eq!(clock.now_ns(), 1_001);
        clock.wait_until(u64::MAX);
        clock.set_tick(12);
        assert_eq!(clock.now_ns(), u64::MAX);
    }

    /// A peer that sent a byte every 3 ms held a guest's own deadline for ever.
    #[test]
    fn short_waits_outside_add_up_to_whole_milliseconds() {
        let mut clock = Clock::default();
        for _ in 0..10 {
            clock.note_outside(Duration::from_micros(300));
            clock.catch_up();
            assert_eq!(clock.now_ns() % NS_PER_MS, 0);
        }
        assert_eq!(clock.now_ns(), 3 * NS_PER_MS);
        clock.note_outside(Duration::from_micros(2999));
        assert_eq!((clock.take_outside(), clock.take_outside()), (2 * NS_PER_MS, 0));
    }
}

//! Virtual time. It shows nothing of the host: one tick of the kernel is one nanosecond, and a
//! wait moves the clock to its end at once.

/// Virtual nanoseconds since the kernel started.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    tick: u64,
    waited_ns: u64,
}

/// What the wall clock shows when a kernel starts: 2000-01-01T00:00:00Z, in seconds since 1970.
pub(crate) const WALL_START_S: u64 = 946_684_800;
/// The step of both clocks.
pub(crate) const RESOLUTION_NS: u64 = 1;
pub(crate) const NS_PER_S: u64 = 1_000_000_000;

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
}

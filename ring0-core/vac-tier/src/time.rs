//! The clock of retries, injected.

use std::time::Duration;

/// Tells the time and waits. Nothing that is answered depends on it.
pub trait Time: Send + Sync {
    /// Time since some moment that stays the same.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, how_long: Duration);
}

/// The host's clock.
pub struct RealTime(std::time::Instant);

impl RealTime {
    /// It counts from here.
    #[expect(clippy::disallowed_methods, reason = "when to ask a server again; no part of a run sees it")]
    pub fn new() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Default for RealTime {
    fn default() -> Self {
        Self::new()
    }
}

impl Time for RealTime {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, how_long: Duration) {
        std::thread::sleep(how_long);
    }
}

/// The output function of splitmix64 (Steele, Lea, Flood 2014).
pub(crate) fn mixed(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! The host's time, injected. It decides when to stop a run and is shown to people; no guest
//! and no chained entry ever sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vac_core::fault::{AbortKind, HostAbort};
use vac_host::Watch;

/// Reads the host's clocks.
pub trait HostClock: Send + Sync {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;
    /// Nanoseconds since some fixed instant; never goes back.
    fn monotonic_ns(&self) -> u64;
    /// Random bits, for names that must differ.
    fn random_u32(&self) -> u32;
}

/// Stops a run when its time is over or its operator says so.
pub struct Deadline {
    clock: Arc<dyn HostClock>,
    end_ns: Option<u64>,
    limit: Duration,
    interrupted: Arc<AtomicBool>,
}

impl Deadline {
    /// A deadline `limit` from now, if there is one, and a flag that an interrupt sets.
    pub fn new(clock: Arc<dyn HostClock>, limit: Option<Duration>, interrupted: Arc<AtomicBool>) -> Self {
        let now = clock.monotonic_ns();
        let end_ns =
            limit.map(|limit| now.saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)));
        Self { clock, end_ns, limit: limit.unwrap_or_default(), interrupted }
    }
}

impl Watch for Deadline {
    fn stop(&self) -> Option<HostAbort> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Some(HostAbort::new(AbortKind::Interrupt, "interrupted"));
        }
        let is_over = self.end_ns.is_some_and(|end| self.clock.monotonic_ns() >= end);
        is_over.then(|| {
            HostAbort::new(AbortKind::Time, format!("the run took longer than {:?}", self.limit))
                .hint("raise the limit with `--time DURATION`, or leave it out")
        })
    }

    fn now_ns(&self) -> u64 {
        self.clock.monotonic_ns()
    }
}

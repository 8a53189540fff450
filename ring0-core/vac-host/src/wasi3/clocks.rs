//! `wasi:clocks`: all clocks are virtual; see [`crate::clock`], and [`crate::timers`] for waits.

use vac_core::ledger::Class::Local;
use wasmtime::component::{ComponentType, Lift, Lower};

use super::VERSION;
use crate::clock::{NS_PER_S, RESOLUTION_NS, WALL_START_S};
use crate::host::Host;
use crate::wall::Wall;
use crate::wire::record;

/// `wasi:clocks/system-clock.instant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct Instant {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}
record!(Instant { seconds, nanoseconds });

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:clocks/types", VERSION, |_| Ok(()))?;
    wall.interface("wasi:clocks/monotonic-clock", VERSION, |i| {
        i.func("now", Local, |h, (): ()| Ok(h.clock.now_ns()))?;
        i.func("get-resolution", Local, |_, (): ()| Ok(RESOLUTION_NS))?;
        i.wait("wait-until", |h, (when,): &(u64,)| when.saturating_sub(h.clock.now_ns()))?;
        i.wait("wait-for", |_, (how_long,): &(u64,)| *how_long)
    })?;
    wall.interface("wasi:clocks/system-clock", VERSION, |i| {
        i.func("now", Local, |h, (): ()| Ok(now(h)))?;
        i.func("get-resolution", Local, |_, (): ()| Ok(RESOLUTION_NS))
    })?;
    // The place of the host is none of a guest's business.
    wall.interface("wasi:clocks/timezone", VERSION, |i| {
        i.func("iana-id", Local, |_, (): ()| Ok(Some("UTC".to_owned())))?;
        i.func("utc-offset", Local, |_, (_when,): (Instant,)| Ok(Some(0i64)))?;
        i.func("to-debug-string", Local, |_, (): ()| Ok("UTC".to_owned()))
    })
}

fn now(host: &Host) -> Instant {
    let now = host.clock.now_ns();
    // A u64 of nanoseconds is 584 years, so the sum fits.
    Instant { seconds: (WALL_START_S + now / NS_PER_S) as i64, nanoseconds: (now % NS_PER_S) as u32 }
}

//! `wasi:clocks`: both clocks are virtual; see [`crate::clock`].

use vac_core::caps::Rights;
use vac_core::ledger::Class::Local;
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use super::io::{Pollable, Ready};
use crate::clock::{NS_PER_S, RESOLUTION_NS, WALL_START_S};
use crate::host::{Host, Object};
use crate::wall::Wall;
use crate::wire::record;

/// `wasi:clocks/wall-clock.datetime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Datetime {
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u32,
}
record!(Datetime { seconds, nanoseconds });

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:clocks/monotonic-clock", VERSION, |i| {
        i.func("now", Local, |h, (): ()| Ok(h.clock.now_ns()))?;
        i.func("resolution", Local, |_, (): ()| Ok(RESOLUTION_NS))?;
        i.func("subscribe-instant", Local, |h, (when,): (u64,)| subscribe(h, when))?;
        i.func("subscribe-duration", Local, |h, (duration,): (u64,)| {
            let when = h.clock.now_ns().saturating_add(duration);
            subscribe(h, when)
        })
    })?;
    wall.interface("wasi:clocks/wall-clock", VERSION, |i| {
        i.func("now", Local, |h, (): ()| Ok(wall_now(h)))?;
        i.func("resolution", Local, |_, (): ()| {
            Ok(Datetime { seconds: 0, nanoseconds: RESOLUTION_NS as u32 })
        })
    })
}

fn subscribe(host: &mut Host, when: u64) -> vac_core::fault::Result<Resource<Pollable>> {
    host.open(Object::Pollable(Ready::At(when)), Rights::READ, None)
}

fn wall_now(host: &Host) -> Datetime {
    let now = host.clock.now_ns();
    Datetime { seconds: WALL_START_S + now / NS_PER_S, nanoseconds: (now % NS_PER_S) as u32 }
}

//! `wasi:random`: three interfaces, three streams of the run's seed.

use vac_core::fault::Result;
use vac_core::ledger::Class::Computed;

use super::VERSION;
use crate::entropy::Stream;
use crate::host::Host;
use crate::limits::RANDOM_PART_MAX_BYTES;
use crate::wall::Wall;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:random/random", VERSION, |i| {
        i.func("get-random-bytes", Computed, |h, (max,): (u64,)| bytes(h, max, |h| &mut h.entropy.secure))?;
        i.func("get-random-u64", Computed, |h, (): ()| Ok(h.entropy.secure.u64()))
    })?;
    wall.interface("wasi:random/insecure", VERSION, |i| {
        i.func("get-insecure-random-bytes", Computed, |h, (max,): (u64,)| {
            bytes(h, max, |h| &mut h.entropy.insecure)
        })?;
        i.func("get-insecure-random-u64", Computed, |h, (): ()| Ok(h.entropy.insecure.u64()))
    })?;
    wall.interface("wasi:random/insecure-seed", VERSION, |i| {
        i.func("get-insecure-seed", Computed, |h, (): ()| Ok(h.entropy.one_seed()))
    })
}

/// At most `max` bytes: more than the limit is a request for fewer, as the interface allows.
fn bytes(host: &mut Host, max: u64, stream: impl Fn(&mut Host) -> &mut Stream) -> Result<Vec<u8>> {
    let len = usize::try_from(max).unwrap_or(usize::MAX).min(RANDOM_PART_MAX_BYTES);
    host.take_in(len)?;
    Ok(stream(host).bytes(len))
}

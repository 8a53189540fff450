//! `wasi:random`: three interfaces, three streams of the run's seed.

use vac_core::fault::{AbortKind, HostAbort, Result};
use vac_core::ledger::Class;

use super::VERSION;
use crate::entropy::Stream;
use crate::host::Host;
use crate::limits::RANDOM_MAX_BYTES;
use crate::wall::Wall;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:random/random", VERSION, |i| {
        i.func("get-random-bytes", Class::Computed, |h, (len,): (u64,)| {
            bytes(h, len, |h| &mut h.entropy.secure)
        })?;
        i.func("get-random-u64", Class::Computed, |h, (): ()| Ok(h.entropy.secure.u64()))
    })?;
    wall.interface("wasi:random/insecure", VERSION, |i| {
        i.func("get-insecure-random-bytes", Class::Computed, |h, (len,): (u64,)| {
            bytes(h, len, |h| &mut h.entropy.insecure)
        })?;
        i.func("get-insecure-random-u64", Class::Computed, |h, (): ()| Ok(h.entropy.insecure.u64()))
    })?;
    wall.interface("wasi:random/insecure-seed", VERSION, |i| {
        i.func("insecure-seed", Class::Computed, |h, (): ()| {
            Ok((h.entropy.insecure_seed.u64(), h.entropy.insecure_seed.u64()))
        })
    })
}

fn bytes(host: &mut Host, len: u64, stream: impl Fn(&mut Host) -> &mut Stream) -> Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|&len| len <= RANDOM_MAX_BYTES).ok_or_else(|| {
        HostAbort::new(
            AbortKind::Quota,
            format!("the guest wants {len} random bytes at once; the limit is {RANDOM_MAX_BYTES}"),
        )
    })?;
    host.take_in(len)?;
    Ok(stream(host).bytes(len))
}

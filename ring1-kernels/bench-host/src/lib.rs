//! Kernel `bench-host`: what a call from a kernel to its host costs.

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit/bench", world: "vac:bench/bench-host" });
}

use bindings::vac::bench::host;

/// Bytes of one request.
const PING_LEN: usize = 64;

struct BenchHost;

impl bindings::Guest for BenchHost {
    fn host_loop(n: u64) -> u64 {
        let bytes = [0x56; PING_LEN];
        (0..n).map(|_| host::ping(&bytes).len() as u64).sum()
    }
}

bindings::export!(BenchHost with_types_in bindings);

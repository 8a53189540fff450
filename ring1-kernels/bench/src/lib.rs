//! Kernel `bench`: loops whose cost is known on bare metal.
//!
//! Native baselines are the same functions compiled for the host, so they live in modules without
//! bindings. Nothing here is meant to be fast; it is meant to be the same work everywhere.

pub mod documents;
pub mod loops;
pub mod matrices;

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit/bench", world: "vac:bench/bench" });
}

struct Bench;

impl bindings::Guest for Bench {
    fn sieve(n: u64) -> u64 {
        loops::sieve(n)
    }

    fn sum_squares(n: u64) -> u64 {
        loops::sum_squares(n)
    }

    fn float_loop(n: u64) -> f64 {
        loops::float_loop(n)
    }

    fn matmul_naive(n: u32) -> f64 {
        matrices::trace_naive(n as usize)
    }

    fn matmul_blocked(n: u32) -> f64 {
        matrices::trace_blocked(n as usize)
    }

    fn sha256(len: u32, rounds: u32) -> Vec<u8> {
        documents::sha256(len as usize, rounds)
    }

    fn json(rounds: u32) -> u64 {
        documents::json(rounds)
    }

    fn nop() {}

    fn echo(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

bindings::export!(Bench with_types_in bindings);

//! Random numbers, and ways to end.

use crate::bindings::wasi::cli::{environment, exit};
use crate::bindings::wasi::clocks::monotonic_clock::wait_for;
use crate::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::bindings::wit_stream;
use crate::case::{same, say};

pub(crate) async fn random() {
    let bytes = random::get_random_bytes(16);
    same("length", bytes.len(), 16).await;
    same("one seed", insecure_seed::get_insecure_seed() == insecure_seed::get_insecure_seed(), true).await;
    same("at most what is asked for", random::get_random_bytes(u64::MAX).len() > 0, true).await;
    same("none", insecure::get_insecure_random_bytes(0).len(), 0).await;
    let numbers = (random::get_random_u64(), insecure::get_insecure_random_u64());
    say(&format!("{bytes:?} {numbers:?} {:?}", insecure_seed::get_insecure_seed())).await;
}

/// Ends with the status that the second argument names.
pub(crate) fn exit() {
    let status = environment::get_arguments().get(2).and_then(|text| text.parse().ok());
    exit::exit_with_code(status.unwrap_or(99));
}

/// Waits for itself.
pub(crate) async fn stuck() {
    let (to, mut from) = wit_stream::new::<u8>();
    let _ = from.read(Vec::with_capacity(1)).await;
    drop(to);
}

/// Waits again and again.
pub(crate) async fn forever() {
    loop {
        wait_for(1).await;
    }
}

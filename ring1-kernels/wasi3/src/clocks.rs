//! The clocks, and waits for them.

use std::cell::RefCell;

use crate::bindings::wasi::clocks::monotonic_clock::{get_resolution, now, wait_for, wait_until};
use crate::bindings::wasi::clocks::system_clock;
use crate::case::{both, first, same, say};

const MS: u64 = 1_000_000;

/// Waits that overlap.
pub(crate) async fn timers() {
    same("resolution", (get_resolution(), system_clock::get_resolution()), (1, 1)).await;
    let wall = system_clock::now();
    same("the year", (wall.seconds, wall.nanoseconds < 1_000_000_000), (946_684_800, true)).await;
    let start = now();
    let order = RefCell::new(Vec::new());
    let wait = async |name: &'static str, ms: u64| {
        wait_until(start + ms * MS).await;
        order.borrow_mut().push(name);
    };
    let (ab, cd) = (both(wait("a", 30), wait("b", 10)), both(wait("c", 20), wait("d", 10)));
    both(ab, cd).await;
    same("in order", order.take(), vec!["b", "d", "c", "a"]).await;
    same("time has passed", (30..31).contains(&((now() - start) / MS)), true).await;
    wait_until(start).await;
    wait_for(0).await;
    let before = now();
    wait_for(3600 * 1000 * MS).await;
    same("an hour", now() - before >= 3600 * 1000 * MS, true).await;
    same("the wall clock too", system_clock::now().seconds >= wall.seconds + 3600, true).await;
    say(&format!("{}", now() / MS)).await;
}

/// The wait that ends first ends the other.
pub(crate) async fn race() {
    let start = now();
    same("the short one", first(wait_for(1000 * MS), wait_for(MS)).await, false).await;
    same("nobody waited for the long one", now() - start < 10 * MS, true).await;
    wait_for(2000 * MS).await;
    say(&format!("{}", (now() - start) / MS)).await;
}

/// A guest that never stands still while it waits.
pub(crate) async fn spin() {
    let start = now();
    let turns = RefCell::new(0u64);
    let busy = async {
        loop {
            *turns.borrow_mut() += 1;
            wit_bindgen::yield_async().await;
        }
    };
    same("the wait", first(wait_for(MS / 10), busy).await, true).await;
    same("it took its time", now() - start >= MS / 10, true).await;
    say(&format!("turns {}", turns.take() > 1)).await;
}

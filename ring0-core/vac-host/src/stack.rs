//! Whether a kernel may run on the stack of the thread that calls it.
//!
//! Changing to a stack of its own makes an empty call twice as dear, and starting a kernel dearer by mapping
//! one. A kernel that has no `async` functions and counts its own ticks never gives way, so it needs none, if the thread's
//! is large enough. Nothing portable says how large that is; so only a thread that was started here is believed.

use std::cell::Cell;
use std::{io, panic, thread};

/// What the thread itself uses before `work` begins, and its guard page.
const OWN_BYTES: usize = 64 << 10;

thread_local! {
    /// The lowest address of the thread's stack, if it is known.
    static LOWEST: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Does `work` on a thread with at least `bytes` of stack, on which kernels may run.
///
/// # Errors
///
/// The system has no such thread to give.
pub fn with<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(bytes.saturating_add(2 * OWN_BYTES));
        let started = thread.spawn_scoped(scope, || {
            LOWEST.set(here().checked_sub(bytes));
            work()
        });
        started?.join().or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Whether this thread is known to have `bytes` of stack left.
pub(crate) fn has(bytes: usize) -> bool {
    LOWEST.get().is_some_and(|lowest| here().saturating_sub(lowest) >= bytes)
}

/// About where the stack ends at the moment.
#[inline(never)]
fn here() -> usize {
    let local = 0_u8;
    (&raw const local).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_of_known_size_has_room_and_only_as_much_as_it_has() {
        assert!(!has(0));
        let seen = with(8 << 20, || (has(7 << 20), has(8 << 20), has(9 << 20)));
        assert_eq!(seen.unwrap(), (true, false, false));
        let nested = with(8 << 20, || with(1 << 20, || (has(1 << 19), has(2 << 20))).unwrap());
        assert_eq!(nested.unwrap(), (true, false));
    }
}

//! Waits of functions that are `async`, and when they end.
//!
//! A kernel may wait for several instants at a time. Here they stand in the order of their
//! instants, those of one instant in the order they were asked for. A wait ends when its instant
//! has come by the kernel's own ticks, or, when nothing of the kernel can go on, the first of them
//! ends at once and the time in between passes without anybody working.
//!
//! Time here counts ticks and the waits of this module, and nothing that a recorder answers: a
//! replay, which acts on nothing, ends the same waits at the same places.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use vac_core::fault::{AbortKind, HostAbort, Result};

use crate::limits::TIMERS_MAX;

/// The waits of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Nanoseconds that passed in waits.
    waited_ns: u64,
    started: u64,
    /// By instant and number. What nobody waits for any more is passed over.
    waiting: BTreeMap<(u64, u64), Weak<Signal>>,
}

/// A wait that somebody waits for.
#[derive(Debug)]
pub(crate) struct Timer {
    number: u64,
    signal: Arc<Signal>,
}

impl Timer {
    /// The wait of a number that is over when the signal rings.
    pub(crate) fn new(number: u64) -> (Self, Weak<Signal>) {
        let signal = Arc::new(Signal::default());
        let weak = Arc::downgrade(&signal);
        (Self { number, signal }, weak)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<(bool, Option<Waker>)>);

impl Signal {
    fn lock(&self) -> MutexGuard<'_, (bool, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ring(&self) {
        let mut state = self.lock();
        state.0 = true;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Timers {
    /// Begins to wait for `ns` nanoseconds; `None` if there is nothing to wait for.
    pub(crate) fn start(&mut self, tick: u64, ns: u64) -> Result<Option<Timer>> {
        if ns == 0 {
            return Ok(None);
        }
        self.make_room()?;
        let instant = tick.saturating_add(self.waited_ns).saturating_add(ns);
        let number = self.started;
        self.started += 1;
        let (timer, signal) = Timer::new(number);
        self.waiting.insert((instant, number), signal);
        Ok(Some(timer))
    }

    fn make_room(&mut self) -> Result<()> {
        if self.waiting.len() >= TIMERS_MAX {
            self.waiting.retain(|_, signal| signal.strong_count() > 0);
        }
        if self.waiting.len() >= TIMERS_MAX {
            let message = format!("the guest waits for more than {TIMERS_MAX} instants at once");
            return Err(HostAbort::new(AbortKind::Quota, message).into());
        }
        Ok(())
    }

    /// Ends the waits whose instant has come, in their order.
    pub(crate) fn end_due(&mut self, tick: u64) {
        let now = tick.saturating_add(self.waited_ns);
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            if let Some(signal) = entry.remove().upgrade() {
                signal.ring();
            }
        }
    }

    /// Nanoseconds until the first wait that somebody waits for ends.
    pub(crate) fn until_first(&self, tick: u64) -> Option<u64> {
        let now = tick.saturating_add(self.waited_ns);
        let first = self.waiting.iter().find(|(_, signal)| signal.strong_count() > 0);
        first.map(|((instant, _), _)| instant.saturating_sub(now))
    }

    /// Lets time pass in which the kernel waited for something else.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.waited_ns = self.waited_ns.saturating_add(ns);
    }

    /// Ends the first wait. The nanoseconds that pass until then, or `None` if nothing is waited for.
    pub(crate) fn end_first(&mut self, tick: u64) -> Option<u64> {
        while let Some(((instant, _), signal)) = self.waiting.pop_first() {
            let Some(signal) = signal.upgrade() else { continue };
            let missing = instant.saturating_sub(tick.saturating_add(self.waited_ns));
            self.waited_ns = self.waited_ns.saturating_add(missing);
            signal.ring();
            return Some(missing);
        }
        None
    }
}

impl Future for Timer {
    /// The number of the wait.
    type Output = u64;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u64> {
        let mut state = self.signal.lock();
        if state.0 {
            return Poll::Ready(self.number);
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(timer: &mut Timer) -> bool {
        Pin::new(timer).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn waits_end_in_the_order_of_their_instants_and_then_of_their_start() {
        let mut timers = Timers::default();
        let mut late = timers.start(0, 30).unwrap().unwrap();
        let mut early = timers.start(5, 10).unwrap().unwrap();
        let mut same = timers.start(0, 15).unwrap().unwrap();
        assert!(timers.start(7, 0).unwrap().is_none(), "nothing to wait for");
        assert_eq!(timers.end_first(10), Some(5));
        assert!(is_over(&mut early) && !is_over(&mut same) && !is_over(&mut late));
        assert_eq!(timers.end_first(10), Some(0), "its instant had come");
        assert!(is_over(&mut same) && !is_over(&mut late));
        timers.end_due(24);
        assert!(!is_over(&mut late), "tick 24 and 5 waited are not 30");
        timers.end_due(25);
        assert!(is_over(&mut late));
        assert_eq!(timers.end_first(25), None);
    }

    #[test]
    fn a_wait_that_was_given_up_is_passed_over_and_takes_no_time() {
        let mut timers = Timers::default();
        drop(timers.start(0, 10).unwrap());
        let mut kept = timers.start(0, 20).unwrap().unwrap();
        assert_eq!(timers.end_first(0), Some(20));
        assert!(is_over(&mut kept));
        for _ in 0..2 * TIMERS_MAX {
            drop(timers.start(0, 10).unwrap());
        }
    }
}

//! Who goes on when: runs the engine's futures, without threads and without a clock of the host.
//!
//! The engine keeps all tasks of a kernel in queues of its own, whose order follows from what the
//! kernel does. Every host function is done when it returns, but for those that wait for an
//! instant or for a socket. So there is one choice only that is ours, when to end a wait: [`Timers`] makes it
//! for instants, and [`readiness`] for sockets, where the ledger has it.
//!
//! [`Timers`]: crate::timers::Timers

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use vac_core::fault::{Error, Result};
use wasmtime::component::{Accessor, Func, Val};
use wasmtime::{AsContextMut, Store, Trap};

use crate::floats;
use crate::instance::Watch;
use crate::readiness;
use crate::wall::{State, tick};

/// Notes that somebody wants to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Drives a future of the engine that never waits to its end. Under profile `det-1` it is pending when it wants to
/// be polled again: after every [`TICKS_BETWEEN_CHECKS`], and then the watch is asked. Under `det-2` it never is.
///
/// [`TICKS_BETWEEN_CHECKS`]: crate::limits::TICKS_BETWEEN_CHECKS
pub(crate) fn run<T>(
    future: impl Future<Output = wasmtime::Result<T>>,
    watch: &dyn Watch,
) -> wasmtime::Result<T> {
    run_or(future, watch, || Err(Trap::AsyncDeadlock.into()))
}

/// As [`run`], but when nothing goes on by itself `stalled` is asked, and then the future again.
fn run_or<T>(
    future: impl Future<Output = wasmtime::Result<T>>,
    watch: &dyn Watch,
    stalled: impl Fn() -> wasmtime::Result<()>,
) -> wasmtime::Result<T> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let _floats = floats::Standard::enter();
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        if let Some(abort) = watch.stop() {
            return Err(wasmtime::Error::new(Error::from(abort)));
        }
        if !woken.0.swap(false, Relaxed) {
            stalled()?;
        }
    }
}

/// Calls a function that may be `async`, and goes on until all tasks that it began are over.
pub(crate) fn call(
    store: &mut Store<State>,
    func: Func,
    args: &[Val],
    results: &mut [Val],
    watch: &dyn Watch,
) -> wasmtime::Result<()> {
    all(store, watch, async |accessor| func.call_concurrent(accessor, args, results).await)
}

/// Does `work`, and goes on until all tasks that it began are over.
pub(crate) fn all(
    store: &mut Store<State>,
    watch: &dyn Watch,
    work: impl AsyncFnOnce(&Accessor<State>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    let is_stalled = AtomicBool::new(false);
    let stall = &is_stalled;
    let all = async { store.run_concurrent(async |a| drive(a, work(a), stall).await).await? };
    run_or(all, watch, || {
        is_stalled.store(true, Relaxed);
        Ok(())
    })
}

/// The engine polls this first in every turn of its loop, so waits end between two steps of the
/// kernel, wherever the host looked in between.
async fn drive(
    accessor: &Accessor<State>,
    work: impl Future<Output = wasmtime::Result<()>>,
    is_stalled: &AtomicBool,
) -> wasmtime::Result<()> {
    let mut work = pin!(work);
    let mut has_returned = false;
    poll_fn(|context| {
        if !has_returned && let Poll::Ready(returned) = work.as_mut().poll(context) {
            returned?;
            has_returned = true;
        }
        if has_returned && accessor.poll_no_interesting_tasks(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let goes_on = match end_waits(accessor, is_stalled.swap(false, Relaxed)) {
            Ok(goes_on) => goes_on,
            Err(why) => return Poll::Ready(Err(wasmtime::Error::new(why))),
        };
        match (goes_on, has_returned) {
            (true, _) => Poll::Pending,
            // What is left waits for something that nobody will do.
            (false, true) => Poll::Ready(Ok(())),
            (false, false) => Poll::Ready(Err(Trap::AsyncDeadlock.into())),
        }
    })
    .await
}

/// Ends the waits that are over, and, if nothing else can go on, those whose socket is ready or the first one
/// for an instant. Whether anything can.
fn end_waits(accessor: &Accessor<State>, is_stalled: bool) -> Result<bool> {
    accessor.with(|mut access| {
        let mut store = access.as_context_mut();
        let now = tick(&store);
        if let Some(counters) = store.data_mut().counters() {
            // A task that waits in the midst of its calls left its depth behind.
            counters.surface();
            // One that only gives way crosses no wall.
            counters.cross(now)?;
        }
        if !is_stalled {
            store.data_mut().timers.end_due(now);
            return Ok(true);
        }
        let limit = store.data().timers.until_first(now);
        let woken = readiness::wake(&mut store, limit)?;
        let State { host, timers, .. } = store.data_mut();
        if let Some(waited) = woken {
            timers.pass(waited);
            host.clock.pass(waited);
            return Ok(true);
        }
        let passed = timers.end_first(now);
        host.clock.pass(passed.unwrap_or_default());
        Ok(passed.is_some())
    })
}

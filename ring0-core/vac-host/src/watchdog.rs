//! Stops kernels whose operator wants that: one thread of the process asks their watches, about once a
//! millisecond, and lowers the limits of the one that is to stop to nothing.
//!
//! A guest looks at its limit at every turn of a loop and at every call, so it stops at once, and it never
//! has to give way to be looked at. Where components call each other, the engine's own code moves what they say; that looks
//! at the engine's epoch, which ends for all, and only the one that is to stop does. Where it stops differs from run to run; how many ticks it had used is in the
//! record, and ends a replay there.
//!
//! While no kernel runs the thread sleeps: beginning a call looks at one flag.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use vac_core::fault::{AbortKind, HostAbort};

use crate::instance::Watch;
use crate::meter::Words;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Looks at nothing before the thread goes to sleep.
const IDLE_LOOKS_MAX: u32 = 50;

/// What ties a store's kernel to its operator.
pub(crate) struct Leash {
    watch: Arc<dyn Watch>,
    is_running: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    counters: Vec<Words>,
    /// Whose epoch ends when the kernel is to stop.
    engine: Option<wasmtime::Engine>,
    reason: Option<HostAbort>,
}

/// A kernel runs for as long as this is kept.
pub(crate) struct Running(Arc<Leash>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.store(false, SeqCst);
    }
}

impl Leash {
    /// A leash for a kernel that `watch` may stop.
    pub(crate) fn new(watch: Arc<dyn Watch>) -> Result<Arc<Self>, HostAbort> {
        let leash = Arc::new(Self { watch, is_running: AtomicBool::new(false), held: Mutex::default() });
        lock(&dog()?.leashes).push(Arc::clone(&leash));
        Ok(leash)
    }

    /// Adds counters. Their limit is nothing if the kernel is to stop.
    pub(crate) fn hold(&self, words: Words) {
        lock(&self.held).counters.push(words);
    }

    /// Has an epoch of `engine` end when the kernel is to stop.
    pub(crate) fn wakes(&self, engine: wasmtime::Engine) {
        lock(&self.held).engine = Some(engine);
    }

    /// Sets the limit of each counter, unless the kernel is to stop.
    pub(crate) fn limit(&self, of: impl Fn(Words) -> u64) {
        let held = lock(&self.held);
        for words in &held.counters {
            words.limit(if held.reason.is_some() { 0 } else { of(*words) });
        }
    }

    /// The kernel begins to run.
    pub(crate) fn run(leash: &Arc<Self>) -> Running {
        leash.is_running.store(true, SeqCst);
        // Either this sees that the thread sleeps, or the thread, before it does, that somebody runs.
        if let Some(dog) = DOG.get().filter(|dog| dog.sleeps.load(SeqCst)) {
            dog.thread.unpark();
        }
        Running(Arc::clone(leash))
    }

    /// What the operator says. A watch that panics cannot say that its kernel may go on.
    fn asked(&self) -> Option<HostAbort> {
        let asked = catch_unwind(AssertUnwindSafe(|| self.watch.stop()));
        asked
            .unwrap_or_else(|_| Some(HostAbort::new(AbortKind::Machine, "what watches this kernel panicked")))
    }

    /// Why the kernel was stopped, if it was.
    pub(crate) fn reason(&self) -> Option<HostAbort> {
        lock(&self.held).reason.clone()
    }

    /// The kernel is over, and its counters with it.
    pub(crate) fn end(&self) {
        lock(&self.held).counters.clear();
        if let Some(dog) = DOG.get() {
            lock(&dog.leashes).retain(|leash| !std::ptr::eq(&raw const **leash, self));
        }
    }

    fn look(&self) {
        let is_new = lock(&self.held).reason.is_none();
        // The operator's code: asked without a lock that the kernel's own thread waits for.
        let reason = if is_new { self.asked() } else { None };
        let mut held = lock(&self.held);
        held.reason = held.reason.take().or(reason);
        if held.reason.is_some() {
            held.counters.iter().for_each(|words| words.limit(0));
            held.engine.iter().for_each(wasmtime::Engine::increment_epoch);
        }
    }
}

/// The thread, and all that it looks at.
struct Dog {
    leashes: Mutex<Vec<Arc<Leash>>>,
    sleeps: AtomicBool,
    thread: Thread,
}

static DOG: OnceLock<Dog> = OnceLock::new();

/// The thread, started when it is first needed.
fn dog() -> Result<&'static Dog, HostAbort> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _one = lock(&STARTING);
    if DOG.get().is_none() {
        let started = thread::Builder::new().name("watchdog".to_owned()).spawn(|| {
            loop {
                match DOG.get() {
                    Some(dog) => dog.walk(),
                    // Until whoever started it has put it there.
                    None => thread::park_timeout(LOOK_EVERY),
                }
            }
        });
        let handle = started.map_err(|e| {
            HostAbort::new(AbortKind::Machine, format!("cannot start the thread that stops kernels: {e}"))
        })?;
        let thread = handle.thread().clone();
        let _ = DOG.set(Dog { leashes: Mutex::default(), sleeps: AtomicBool::new(false), thread });
    }
    DOG.get().ok_or_else(|| HostAbort::new(AbortKind::Machine, "the thread that stops kernels is gone"))
}

impl Dog {
    /// Looks until nobody has been running for a while, and then sleeps until somebody does.
    fn walk(&self) {
        let mut idle = 0;
        while idle < IDLE_LOOKS_MAX {
            thread::park_timeout(LOOK_EVERY);
            idle = if self.look() { 0 } else { idle + 1 };
        }
        self.sleeps.store(true, SeqCst);
        while !self.sees_any() {
            thread::park();
        }
        self.sleeps.store(false, SeqCst);
    }

    /// Looks at all who run; whether anybody does. One that is over by then has no counters any more.
    fn look(&self) -> bool {
        let is_running = |leash: &&Arc<Leash>| leash.is_running.load(SeqCst);
        let running: Vec<_> = lock(&self.leashes).iter().filter(is_running).cloned().collect();
        running.iter().for_each(|leash| leash.look());
        !running.is_empty()
    }

    fn sees_any(&self) -> bool {
        lock(&self.leashes).iter().any(|leash| leash.is_running.load(SeqCst))
    }
}

/// What is under these locks is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stop(AtomicBool);

    impl Watch for Stop {
        fn stop(&self) -> Option<HostAbort> {
            self.0.load(SeqCst).then(|| HostAbort::new(AbortKind::Interrupt, "interrupted"))
        }
    }

    struct Broken;

    impl Watch for Broken {
        fn stop(&self) -> Option<HostAbort> {
            panic!("a watch that is broken")
        }
    }

    #[test]
    fn a_watch_that_panics_stops_its_own_kernel_and_no_other() {
        let (broken, other) = (Arc::new(Broken), Arc::new(Stop(AtomicBool::new(false))));
        let (broken, leash) = (Leash::new(broken).unwrap(), Leash::new(Arc::<Stop>::clone(&other)).unwrap());
        let running = (Leash::run(&broken), Leash::run(&leash));
        while broken.reason().is_none() {
            thread::yield_now();
        }
        other.0.store(true, SeqCst);
        while leash.reason().is_none() {
            thread::yield_now();
        }
        drop(running);
        broken.end();
        leash.end();
    }

    #[test]
    fn whoever_runs_is_looked_at_also_after_the_thread_slept() {
        let watch = Arc::new(Stop(AtomicBool::new(false)));
        let leash = Leash::new(Arc::<Stop>::clone(&watch)).unwrap();
        watch.0.store(true, SeqCst);
        // Long enough for the thread to go to sleep; nobody runs, so nobody is stopped.
        thread::sleep(LOOK_EVERY * (IDLE_LOOKS_MAX * 3));
        assert_eq!(leash.reason(), None);
        let running = Leash::run(&leash);
        while leash.reason().is_none() {
            thread::yield_now();
        }
        drop(running);
        leash.end();
        assert!(lock(&dog().unwrap().leashes).iter().all(|other| !Arc::ptr_eq(other, &leash)));
    }
}

//! Numbers, each checked on whichever thread is free.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::repo::Result;

/// Checks `seeds` on all processors, each thread with something of its own that `prepare` makes, until all are done, one fails, or
/// `is_over` says so. What `check` gave is put together by `and`.
///
/// # Errors
///
/// The first of each thread's.
pub(crate) fn check_all<T, P>(
    seeds: Range<u64>,
    prepare: impl Fn() -> Result<P> + Sync,
    check: impl Fn(u64, &P) -> Result<T> + Sync,
    and: impl Fn(T, T) -> T + Sync,
    is_over: impl Fn() -> bool + Sync,
) -> Result<T>
where
    T: Default + Send,
{
    let (next, has_failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || -> Result<T> {
        let (own, mut tally) = (prepare()?, T::default());
        while !has_failed.load(Ordering::Relaxed) && !is_over() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let checked = check(seed, &own).inspect_err(|_| has_failed.store(true, Ordering::Relaxed));
            tally = and(tally, checked?);
        }
        Ok(tally)
    };
    // One more than there are processors: some wait for a file, or for a grant that is taken back.
    let threads = thread::available_parallelism().map_or(1, usize::from) + 1;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_fold(T::default(), |tally, worker| {
            let own = worker.join().map_err(|_| "a thread that checked seeds panicked".to_owned())??;
            Ok(and(tally, own))
        })
    })
}

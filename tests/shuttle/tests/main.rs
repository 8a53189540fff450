//! What threads do to each other in `vac-core`, in orders that a seed draws. A failure prints its order, and how to repeat it.

mod chain;
mod disk;
mod handover;
mod store;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// What the hand-over takes for the system's locks.
mod sync {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError};
}

/// Changes of thread that an order of [`PctScheduler`] has at places of its choice: most races need two or three.
const CHANGES: usize = 3;

/// Runs `f` in `count` orders that change threads anywhere, and in as many that seldom do.
fn in_orders(count: usize, f: impl Fn() + Send + Sync + Clone + 'static) {
    let mut config = Config::new();
    // The default is too little for a store that is not optimised.
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new_from_seed(1, count), config.clone()).run(f.clone());
    Runner::new(PctScheduler::new_from_seed(1, CHANGES, count), config).run(f);
}

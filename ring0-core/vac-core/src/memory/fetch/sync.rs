//! The locks of the hand-over: the system's here, a model checker's in its test.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

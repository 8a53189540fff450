//! The locks that several threads meet at: the system's.
//!
//! `tests/shuttle` compiles whatever takes its locks from here once more, with those of a model checker in place of this file,
//! and runs it in orders of the threads that a seed draws.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

//! Work that one thread gives and another one does: the hand-over, and nothing else.
//!
//! ```text
//! caller:  give(id, job) ... give ... wait(id) -> what came of it, whenever it did
//! worker:  take() -> all that waits; finish(id, ...) each, and take_more() meanwhile; take() -> None once nobody gives any more
//! ```
//!
//! Every id that was given is finished or lost with the worker: a `wait` always ends. What stands in this file is
//! tested in every order of the threads that a seed draws (`tests/shuttle/tests/handover.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What both threads share.
pub(super) struct Handover<J, D> {
    state: Mutex<State<J, D>>,
    has_changed: Condvar,
}

struct State<J, D> {
    waiting: VecDeque<(u64, J)>,
    done: BTreeMap<u64, D>,
    /// What somebody sleeps for. Nobody is woken for anything else: that would be once for each page of a batch.
    awaited: BTreeSet<u64>,
    is_closed: bool,
    /// Nobody will do what waits.
    is_left: bool,
}

impl<J, D> Default for Handover<J, D> {
    fn default() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            done: BTreeMap::new(),
            awaited: BTreeSet::new(),
            is_closed: false,
            is_left: false,
        };
        Self { state: Mutex::new(state), has_changed: Condvar::new() }
    }
}

impl<J, D> Handover<J, D> {
    fn state(&self) -> MutexGuard<'_, State<J, D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Caller: some work, as one batch.
    pub(super) fn give(&self, jobs: impl IntoIterator<Item = (u64, J)>) {
        let mut state = self.state();
        // Nobody would take it.
        if !state.is_left {
            state.waiting.extend(jobs);
        }
        drop(state);
        self.has_changed.notify_all();
    }

    /// Caller: what came of `id`; `None` if the worker left before it finished that.
    pub(super) fn wait(&self, id: u64) -> Option<D> {
        let mut state = self.state();
        loop {
            if let Some(done) = state.done.remove(&id) {
                return Some(done);
            }
            if state.is_left {
                return None;
            }
            state.awaited.insert(id);
            state = self.has_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Caller: there will be no more work.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.has_changed.notify_all();
    }

    /// Worker: all that waits, once something does; `None` after [`Self::close`].
    pub(super) fn take(&self) -> Option<Vec<(u64, J)>> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if !state.waiting.is_empty() {
                return Some(state.waiting.drain(..).collect());
            }
            state = self.has_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Worker: what was given since, without waiting for it.
    pub(super) fn take_more(&self) -> impl Iterator<Item = (u64, J)> + use<J, D> {
        let mut state = self.state();
        let more = if state.is_closed { VecDeque::new() } else { std::mem::take(&mut state.waiting) };
        more.into_iter()
    }

    /// Worker: what came of `id`.
    pub(super) fn finish(&self, id: u64, done: D) {
        let is_awaited = {
            let mut state = self.state();
            state.done.insert(id, done);
            state.awaited.remove(&id)
        };
        if is_awaited {
            self.has_changed.notify_all();
        }
    }

    /// Worker: it ends, whatever for.
    pub(super) fn leave(&self) {
        self.state().is_left = true;
        self.has_changed.notify_all();
    }
}

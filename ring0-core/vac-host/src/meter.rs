//! What counts the ticks of a store: the engine's fuel under profile `det-1`, and under `det-2` the counters that
//! [`crate::rewrite`] put into its program.
//!
//! Each component of the program that has core modules has a page of counters of its own, which it tells the
//! host of before any other code of it runs ([`crate::rewrite::component`]). The tick of the store is their sum.
//! What they call for that is no event and is not recorded: it happens on every start of a program, it gives
//! nothing to a guest, and no code of a guest can make it happen.
//!
//! A component stops by itself where its ticks are over its limit, which is what it had and what is left of the
//! whole. With one component that is exact. Of several, each may use what was left when the wall was crossed
//! last; what they used together is looked at whenever one crosses, and then the limits are set anew. All
//! that depends on the program alone.
//!
//! An operator who wants a kernel to stop lowers the limits to nothing ([`crate::watchdog`]).

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vac_core::fault::{Error, HostAbort};
use wasmtime::component::{Linker, WasmList};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::instance::out_of_ticks;
use crate::rewrite::component::{ATTACH, HOST, REASON_AT, STOPPED, TOO_DEEP, WORDS_BYTES};
use crate::wall::State;
use crate::watchdog::{Leash, Running};

/// Bytes of the memory that a component's counters are in.
pub(crate) const PAGE_BYTES: usize = 64 << 10;

/// More ticks than any run can use. What is charged at once is at most 2^58 (a memory of 64 bits that is to grow by
/// all that it can), and is looked at before more is: so no count is ever over 2^63, and none begins anew.
const TICKS_MAX: u64 = 1 << 62;

/// The words of the counters, by their number.
const TICKS: usize = 0;
const TICK_LIMIT: usize = 1;
const DEPTH: usize = 2;
const DEPTH_LIMIT: usize = 3;
const REASON: usize = REASON_AT as usize / size_of::<u64>();

const _: () = assert!(REASON < WORDS_BYTES as usize / size_of::<u64>());

/// The counters of one component.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words(NonNull<u64>);

// SAFETY: (1) It is a pointer to memory that outlives every use of it: see `Words::word`. (2) All use is of atomics.
unsafe impl Send for Words {}
// SAFETY: (1) and (2) as for `Send`. (3) Two threads meet at the limit only, which both write under a lock.
unsafe impl Sync for Words {}

impl Words {
    fn word(&self, number: usize) -> &AtomicU64 {
        debug_assert!(number < WORDS_BYTES as usize / size_of::<u64>());
        // SAFETY: (1) The pointer is to the first of `WORDS_BYTES` bytes inside a linear memory, aligned: `attach`
        // looked at both. (2) That memory has as many pages at most as it has at first, so it never moves; it lives as
        // long as its store. Both who keep `Words` belong to the data of that store and end before its
        // memories do: `Counters` itself, and the `Leash`, from which `Counters` takes them when it is dropped.
        // (3) Code of the guest, which writes the words without atomics, runs on the thread that drives the store; it is
        // in a host call or has not begun while that thread is here. Another thread writes the limit
        // only, which no code of the guest ever writes; that it may read it at that moment is the purpose, and
        // one aligned word is read whole by every machine that the engine makes code for. (4) An atomic of a word has
        // its layout.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().wrapping_add(number)) }
    }

    fn ticks(self) -> u64 {
        self.word(TICKS).load(Relaxed)
    }

    /// Has the component stop at the first look after so many ticks.
    pub(crate) fn limit(self, ticks: u64) {
        self.word(TICK_LIMIT).store(ticks, Relaxed);
    }
}

/// Why code of a guest ended itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There are no ticks left.
    NoTicks,
    /// Its calls are too deep.
    TooDeep,
    /// Somebody outside wanted it.
    Stopped(HostAbort),
}

/// What counts the ticks of a store.
pub(crate) enum Meter {
    /// The engine's fuel, of which it was given so much.
    Fuel { given: u64 },
    /// Its program's own counters.
    Counters(Counters),
}

impl Meter {
    /// Whether `ticks` are all that the store had, so that nothing but that stopped it.
    pub(crate) fn is_out_of_ticks(&self, ticks: u64) -> bool {
        match self {
            Self::Fuel { given } => ticks >= *given,
            Self::Counters(counters) => counters.ended() == Some(Ended::NoTicks),
        }
    }
}

/// The counters of all components of a store.
pub(crate) struct Counters {
    all: Vec<Words>,
    ticks_max: u64,
    depth_max: u64,
    /// Set if what may be used by all together is used up, and a component crossed the wall.
    is_over: bool,
    leash: Arc<Leash>,
    /// Whether a memory was made that a component may be about to say are its counters.
    pub(crate) may_be_counters: bool,
    /// Whether all components have attached theirs.
    pub(crate) has_started: bool,
}

impl Counters {
    pub(crate) fn new(ticks_max: u64, depth_max: u64, leash: Arc<Leash>) -> Self {
        Self {
            all: Vec::new(),
            ticks_max: ticks_max.min(TICKS_MAX),
            depth_max,
            is_over: false,
            leash,
            may_be_counters: false,
            has_started: false,
        }
    }

    /// Ticks of all together.
    pub(crate) fn ticks(&self) -> u64 {
        match self.all.as_slice() {
            [only] => only.ticks(),
            all => all.iter().fold(0, |sum, words| sum.saturating_add(words.ticks())),
        }
    }

    /// Whether some of them begin at `address`.
    pub(crate) fn are_at(&self, address: *const u8) -> bool {
        self.all.iter().any(|words| std::ptr::eq(words.0.as_ptr().cast(), address))
    }

    fn attach(&mut self, words: Words) {
        self.may_be_counters = false;
        words.word(DEPTH_LIMIT).store(self.depth_max, Relaxed);
        self.all.push(words);
        self.leash.hold(words);
        self.divide();
    }

    /// Lets all together have used so many ticks, with no code of the guest on the stack. Which component used them
    /// is lost, and does not matter: only their sum is shown, and each may use what is left of the whole.
    pub(crate) fn set(&mut self, ticks: u64) {
        for (number, words) in self.all.iter().enumerate() {
            words.word(TICKS).store(if number == 0 { ticks } else { 0 }, Relaxed);
        }
        self.divide();
    }

    /// Leaves at most `left` more ticks.
    pub(crate) fn leave(&mut self, left: u64) {
        self.ticks_max = self.ticks_max.min(self.ticks().saturating_add(left));
        self.divide();
    }

    /// Lets each component use what is left of the whole.
    fn divide(&self) {
        let left = self.ticks_max.saturating_sub(self.ticks());
        self.leash.limit(|words| words.ticks().saturating_add(left));
    }

    /// A component crosses the wall at this tick of the store, if it may.
    pub(crate) fn cross(&mut self, tick: u64) -> Result<(), HostAbort> {
        if tick > self.ticks_max {
            self.is_over = true;
            return Err(out_of_ticks(self.ticks_max));
        }
        if self.all.len() > 1 {
            self.divide();
        }
        Ok(())
    }

    /// What runs of the program is code of `engine`, some of it of the engine's own, which looks at an epoch and at no limit.
    pub(crate) fn wakes(&self, engine: wasmtime::Engine) {
        self.leash.wakes(engine);
    }

    /// The host calls into the program, with nothing of it on the stack.
    pub(crate) fn begin(&mut self) -> Running {
        self.surface();
        if self.all.len() > 1 {
            self.divide();
        }
        Leash::run(&self.leash)
    }

    /// No code of the guest runs: what does next is the first on its stack, or a task that waited, which writes its own
    /// depth before it calls what reads it.
    pub(crate) fn surface(&self) {
        for words in &self.all {
            words.word(DEPTH).store(0, Relaxed);
        }
    }

    /// Why code of the guest ended itself, if it did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let reason = self.all.iter().map(|words| words.word(REASON).load(Relaxed)).find(|reason| *reason > 0);
        let stopped = || self.leash.reason().map_or(Ended::NoTicks, Ended::Stopped);
        match reason {
            Some(STOPPED) => Some(stopped()),
            Some(TOO_DEEP) => Some(Ended::TooDeep),
            _ => self.is_over.then(stopped),
        }
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.leash.end();
    }
}

/// An epoch is over: somebody's kernel is to stop. If it is this one, it does.
pub(crate) fn at_epoch(state: &State) -> wasmtime::Result<wasmtime::UpdateDeadline> {
    let reason = match &state.meter {
        Meter::Counters(counters) => counters.leash.reason(),
        Meter::Fuel { .. } => None,
    };
    match reason {
        Some(why) => Err(wasmtime::Error::new(Error::from(why))),
        None => Ok(wasmtime::UpdateDeadline::Continue(1)),
    }
}

/// Defines what a metered program imports. No other program can: [`crate::rewrite::component`].
pub(crate) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance(HOST)?.func_wrap(
        ATTACH,
        |mut store: StoreContextMut<'_, State>, (list,): (WasmList<u8>,)| {
            let bytes = list.as_le_slice(&store);
            let is_whole = bytes.len() == WORDS_BYTES as usize;
            let first = NonNull::new(bytes.as_ptr().cast_mut().cast::<u64>());
            match (
                first.filter(|first| is_whole && first.is_aligned()),
                store.as_context_mut().data_mut().counters(),
            ) {
                (Some(first), Some(counters)) => {
                    counters.attach(Words(first));
                    Ok(())
                }
                _ => Err(wasmtime::Error::msg("a meter of another form")),
            }
        },
    )
}

#[cfg(test)]
mod tests;

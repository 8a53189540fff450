//! A remote tier: it keeps what it took, and answers as networks do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, HostAbort, Result};
use vac_core::memory::Tier;

use super::random::Random;

/// What it keeps is right; what it answers, not always.
pub(super) struct Remote {
    state: Mutex<State>,
}

struct State {
    objects: BTreeMap<Cid, Vec<u8>>,
    random: Random,
    /// One answer in so many is bad; none if 0.
    bad: u64,
    faults: u64,
}

impl Remote {
    pub(super) fn new(seed: u64, bad: u64) -> Self {
        let state = State { objects: BTreeMap::new(), random: Random::new(seed), bad, faults: 0 };
        Self { state: Mutex::new(state) }
    }

    /// From now on it answers well.
    pub(super) fn heal(&self) {
        self.state().bad = 0;
    }

    /// Bad answers so far.
    pub(super) fn faults(&self) -> u64 {
        self.state().faults
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_bad(&mut self) -> bool {
        let is_bad = self.random.is_one_in(self.bad);
        self.faults += u64::from(is_bad);
        is_bad
    }
}

fn no_answer() -> Error {
    HostAbort::new(AbortKind::Machine, "the remote tier answered with 500").into()
}

impl Tier for Remote {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let Some(bytes) = self.get(cid, to.len())? else { return Ok(false) };
        to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Ok(true)
    }

    fn get(&self, cid: &Cid, _max: usize) -> Result<Option<Vec<u8>>> {
        let mut state = self.state();
        let Some(mut bytes) = state.objects.get(cid).cloned() else { return Ok(None) };
        if state.is_bad() {
            let len = bytes.len() as u64;
            match state.random.below(5) {
                // Stale, not answered, partial, too much, another byte.
                0 => return Ok(None),
                1 => return Err(no_answer()),
                2 => bytes.truncate(state.random.below(len) as usize),
                3 => bytes.extend([0; 9]),
                _ => {
                    let at = state.random.below(len) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << state.random.below(8);
                    }
                }
            }
        }
        Ok(Some(bytes))
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        if state.is_bad() {
            // It may have it all the same.
            if state.random.is_one_in(2) {
                state.objects.entry(*cid).or_insert_with(|| bytes.to_vec());
            }
            return Err(no_answer());
        }
        state.objects.entry(*cid).or_insert_with(|| bytes.to_vec());
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        Ok(())
    }

    fn name(&self) -> &str {
        "remote"
    }
}

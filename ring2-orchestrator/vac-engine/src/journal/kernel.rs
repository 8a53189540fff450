//! What one kernel does, as events of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vac_core::fault::{Error, Result};
use vac_core::ledger::{Class, Entry};
use vac_host::look::Frame;
use vac_host::{Answered, Crossing, Function, Lens, Look, Recorder};

use super::Journal;

/// Records what one kernel does. Its ticks follow those of the kernels before it.
pub struct KernelRecorder {
    journal: Arc<Journal>,
    ticks_before: Arc<AtomicU64>,
    /// Revoked grants that the kernel knows of.
    known: usize,
    is_new: bool,
    /// Which console is the kernel's, for a replay that is to stop.
    console: Option<usize>,
    /// Whether the call that is crossing was asked in the past of a fork.
    is_past: bool,
}

impl KernelRecorder {
    /// A recorder for a kernel that starts at `ticks_before`.
    pub fn new(journal: Arc<Journal>, ticks_before: u64) -> Self {
        Self::with(journal, Arc::new(AtomicU64::new(ticks_before)))
    }

    /// A recorder for a kernel that goes on after others ran: `ticks_before` grows by their ticks.
    pub fn with(journal: Arc<Journal>, ticks_before: Arc<AtomicU64>) -> Self {
        Self { journal, ticks_before, known: 0, is_new: true, console: None, is_past: false }
    }

    fn tick(&self, crossing: &Crossing<'_>) -> u64 {
        self.ticks_before.load(Ordering::Relaxed).saturating_add(crossing.tick)
    }
}

impl Recorder for KernelRecorder {
    fn ask(&mut self, crossing: &Crossing<'_>) -> Result<Option<Vec<u8>>> {
        // Live, only an effect has something to write before it happens.
        let is_written = crossing.function.class == Class::Effect && self.journal.is_recorded();
        if self.journal.is_live && !is_written && !self.journal.has_past() {
            return Ok(None);
        }
        let class = crossing.function.class;
        let mut inner = self.journal.lock();
        inner.reach(&crossing.function.name, class, self.tick(crossing), crossing.request)?;
        // Of the last event of a past, the answer is still its own.
        self.is_past = self.journal.is_live && inner.record.is_some();
        let name = inner.function(crossing.function)?;
        let recorded = inner.ask(name, class, self.tick(crossing), crossing.request)?;
        if let (Some(stop), Some(answer)) = (&mut inner.stop, &recorded) {
            let console = *self.console.get_or_insert_with(|| stop.add_console());
            stop.note(console, &crossing.function.name, crossing.request, answer);
        }
        drop(inner);
        self.journal.before(class)?;
        Ok(recorded)
    }

    fn recorded_request(&mut self, function: &Function) -> Result<Option<Vec<u8>>> {
        if self.journal.is_live && !self.journal.has_past() {
            return Ok(None);
        }
        let mut inner = self.journal.lock();
        if inner.record.is_none() && inner.history.is_none() {
            return Ok(None);
        }
        // A name stands before its first event.
        let name = inner.function(function)?;
        if let Some(history) = &mut inner.history {
            return history.recorded_request(name).map(Some);
        }
        match inner.record.as_ref().and_then(|record| record.next()) {
            Some(Entry::Begin(call) | Entry::Event(call, _)) => {
                let (name, request, seq) = (call.name, call.request.clone(), call.seq);
                inner.bytes_of(&request, name, seq).map(Some)
            }
            // Another event: it differs whatever was asked.
            _ => Ok(Some(Vec::new())),
        }
    }

    fn is_past(&self) -> bool {
        self.is_past
    }

    fn answered(&mut self, crossing: &Crossing<'_>, answered: Answered<'_>) -> Result<()> {
        let mut inner = self.journal.lock();
        let name = inner.function(crossing.function)?;
        inner.answered(name, crossing.function.class, self.tick(crossing), crossing.request, answered)
    }

    fn revoked(&mut self, tick: u64) -> Result<Vec<u32>> {
        // Live, nothing is to be done before almost every call, and this says so without a lock. Another
        // kernel may have been the first to hear of what is wanted back.
        let knows_all = || self.journal.revoked.load(Ordering::Acquire) == self.known;
        let is_quiet = !self.is_new && !self.journal.has_wanted.load(Ordering::Acquire) && knows_all();
        if self.journal.is_live && is_quiet {
            return Ok(Vec::new());
        }
        self.is_new = false;
        let new = self
            .journal
            .revoked(self.ticks_before.load(Ordering::Relaxed).saturating_add(tick), self.known)?;
        self.known += new.len();
        Ok(new)
    }

    fn stopped(&mut self, crossing: &Crossing<'_>, why: &Error) -> Result<()> {
        let mut inner = self.journal.lock();
        let name = inner.function(crossing.function)?;
        inner.stopped(name, crossing.function.class, self.tick(crossing), crossing.request, why)
    }

    fn lens(&self) -> Option<Lens> {
        // Live, nobody looks.
        if self.journal.is_live { None } else { self.journal.lock().stop.as_ref()?.lens() }
    }

    fn ended_in(&mut self, calls: Vec<Frame>) {
        self.journal.lock().ended_in = calls;
    }

    fn looked(&mut self, mut look: Look) {
        look.ticks = look.ticks.saturating_add(self.ticks_before.load(Ordering::Relaxed));
        if let Some(stop) = &mut self.journal.lock().stop {
            stop.looked(look);
        }
    }
}

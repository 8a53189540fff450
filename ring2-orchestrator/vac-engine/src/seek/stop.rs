//! Where a replay is to stop, and what it saw when it did. The [`Journal`] asks at every event.
//!
//! Invariant: a stop is final. What happens while the guest's frames are left changes nothing of what was seen.
//!
//! [`Journal`]: crate::journal::Journal

use vac_core::fault::{AbortKind, Error, HostAbort, Result};
use vac_core::ledger::{Class, Seq};
use vac_host::{Lens, Look};

use super::output::{Console, Printed};

/// Where a replay is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At the call of this event, before it is answered.
    Event(Seq),
    /// At the first point with at least so many ticks.
    Tick(u64),
}

/// The event at whose call a replay stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its number.
    pub seq: Seq,
    /// The event it happens inside of.
    pub parent: Option<Seq>,
    /// The function.
    pub name: String,
    /// What kind it is.
    pub class: Class,
    /// The run's tick.
    pub tick: u64,
    /// The canonical form of the arguments, whole.
    pub request: Vec<u8>,
}

/// A kernel and the export that was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// What the kernel is called.
    pub kernel: String,
    /// The export.
    pub export: String,
}

/// A stop, and what was seen until then.
#[derive(Debug)]
pub(crate) struct Stop {
    at: At,
    lens: Lens,
    /// The event it stopped at.
    pub(crate) asked: Option<Asked>,
    /// The kernel it stopped in.
    pub(crate) look: Option<Look>,
    /// The kernel that was called last, until its call is over.
    pub(crate) running: Option<Running>,
    /// What was printed.
    pub(crate) printed: Printed,
    /// The standard streams of each kernel.
    consoles: Vec<Console>,
    /// Whether a kernel returned past the tick: it is only counted where loops and calls begin.
    is_passed: bool,
}

impl Stop {
    pub(crate) fn new(at: At, lens: Lens) -> Self {
        Self {
            at,
            lens,
            asked: None,
            look: None,
            running: None,
            printed: Printed::default(),
            consoles: Vec::new(),
            is_passed: false,
        }
    }

    /// The console of one more kernel.
    pub(crate) fn add_console(&mut self) -> usize {
        self.consoles.push(Console::default());
        self.consoles.len() - 1
    }

    /// Notes what an event of the kernel with this console says about its standard streams.
    pub(crate) fn note(&mut self, console: usize, name: &str, request: &[u8], answer: &[u8]) {
        if let Some(console) = self.consoles.get_mut(console) {
            console.note(name, request, answer, &mut self.printed);
        }
    }

    /// The same, of an event that is passed over. Only runs with one kernel have such, and its events are all noted.
    pub(crate) fn note_last(&mut self, name: &str, request: &[u8], answer: &[u8]) {
        if let Some(last) = self.consoles.len().checked_sub(1) {
            self.note(last, name, request, answer);
        }
    }

    /// What of a kernel is wanted; nothing once it was seen.
    pub(crate) fn lens(&self) -> Option<Lens> {
        self.look.is_none().then_some(self.lens)
    }

    /// Ends the replay if it is to stop at the event that `asked` makes.
    pub(crate) fn reach(&mut self, seq: Seq, tick: u64, asked: impl FnOnce() -> Asked) -> Result<()> {
        let is_here = match self.at {
            At::Event(event) => seq >= event,
            At::Tick(least) => tick >= least,
        };
        if !self.is_reached() && is_here {
            self.asked = Some(asked());
        }
        if self.is_reached() { Err(here()) } else { Ok(()) }
    }

    /// A kernel was stopped. It is the one that was looked for if it was asked for an event, or, of a tick, if it
    /// has no ticks left: a replay to a tick gets no more than those.
    pub(crate) fn looked(&mut self, look: Look) {
        let is_at_tick = matches!(self.at, At::Tick(_)) && look.is_out_of_ticks;
        if self.asked.is_some() || is_at_tick {
            self.look.get_or_insert(look);
        }
    }

    /// Ends the replay if a kernel has returned that used up what ticks there were. How many it used is not known then.
    pub(crate) fn pass(&mut self, tick: u64) -> Result<()> {
        if !self.is_reached() && matches!(self.at, At::Tick(least) if tick >= least) {
            (self.is_passed, self.running) = (true, None);
        }
        if self.is_reached() { Err(here()) } else { Ok(()) }
    }

    /// Whether it stopped.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_passed || self.asked.is_some() || self.look.is_some()
    }
}

/// What a replay ends with that was to stop. Nobody sees it.
fn here() -> Error {
    HostAbort::new(AbortKind::Interrupt, "the replay stops here").into()
}

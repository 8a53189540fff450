//! The one place where events are written, or compared with a record.
//!
//! A live journal appends every event to the ledger. A replaying journal checks that each is the next one of the
//! record, to the byte, and answers from it. So the chain of the record, which its reader checks, is the replay's
//! own: one that went well ends with the very head of the record. Bodies are hashed and kept, and
//! entries appended, by the [`Scribe`], later than they are handed over here, but for effects: nothing is changed
//! outside before all that happened until then could be written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vac_core::canon::{Node, encode};
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage};
use vac_core::ledger::{
    Body, Call, Class, Entry, Head, Header, Ledger, NameId, Outcome, Reader, Return, Seq,
};
use vac_core::limits::FRAME_PAYLOAD_MAX_BYTES;
use vac_core::store::Store;
use vac_host::look::Frame;
use vac_host::{Answered, Function, Response};

use crate::ahead::Ahead;
use crate::history::History;
use crate::recording::Recording;
use crate::scribe::{Item, Long, Scribe};
use crate::seek::output;
use crate::seek::stop::{Asked, Running, Stop};

mod body;
mod kernel;
mod past;
mod record;

use body::{bounded, named};
pub use body::{error_of, outcome_of};
pub(crate) use body::{is_outside, kept, no_body, results, same_bytes};
pub use kernel::KernelRecorder;
pub use record::RECORD_ENDS;
use record::{Question, Record};

/// Writes events, or compares them.
pub struct Journal {
    inner: Mutex<Inner>,
    scribe: Arc<Scribe>,
    is_live: bool,
    recording: Recording,
    /// Whether a live run still follows the record that it forks from.
    is_past: AtomicBool,
    /// Whether the operator wants grants back that no entry names yet, to save the look at which.
    has_wanted: AtomicBool,
    /// Grants that were taken back until now.
    revoked: AtomicUsize,
}

/// Name of the event in which a script loads a program.
pub(crate) const PROGRAM_EVENT: &str = "vac:script/kernel";
/// Name of the event in which a script's kernel says what it asks for.
pub(crate) const MANIFEST_EVENT: &str = "vac:script/manifest";
/// What a note has besides its fields, and a field of one that is too long.
const NOTE_MARGIN_BYTES: usize = 1 << 10;
const NOTE_FIELD_MAX_BYTES: usize = 4 << 10;
/// Events whose bytes are kept however little else is: without them nothing could run again.
const KEPT_EVENTS: [&str; 2] = [PROGRAM_EVENT, MANIFEST_EVENT];

/// Name of the event in which a grant is taken back.
pub const REVOKE_EVENT: &str = "vac:run/revoke";

struct Inner {
    scribe: Arc<Scribe>,
    store: Arc<Store>,
    names: BTreeMap<String, NameId>,
    /// Names of the wall's functions by their index, to save the look-up above.
    functions: Vec<Option<NameId>>,
    open: Vec<Seq>,
    events: u64,
    /// Grants that would have allowed what was refused.
    denied: BTreeSet<String>,
    record: Option<Record>,
    /// The record of another version of the program.
    history: Option<History>,
    recording: Recording,
    /// The numbers of [`KEPT_EVENTS`].
    kept: Vec<NameId>,
    /// Why the record cannot answer: it is one without bodies.
    lacks: Option<Usage>,
    /// Whether a fork stays in its past although it came to the event: calls are being passed over.
    holds_past: bool,
    /// Grants that the operator wants back, and those that were taken back, in order.
    wanted: BTreeSet<u32>,
    revoked: Vec<u32>,
    /// Where a replay is to stop, if it is.
    stop: Option<Stop>,
    /// The calls of the kernel that was stopped last, the innermost first.
    ended_in: Vec<Frame>,
}

/// What a journal follows.
#[expect(clippy::large_enum_variant, reason = "a journal has one, and is made once a run")]
enum Follows {
    /// Nothing: it is live.
    Nothing,
    /// Live, but first a record, up to where that is left.
    Past(Record),
    /// A record.
    Record(Record),
    /// The record of another version of the program.
    History(History),
}

/// An event that others may happen inside of.
#[derive(Debug, Clone, Copy)]
pub struct Open(Seq);

impl Journal {
    /// A journal that writes to `ledger`, and keeps bodies in `store`.
    pub fn live(ledger: Ledger, store: Arc<Store>) -> Self {
        Self::recording(ledger, store, Recording::Full)
    }

    /// A journal that keeps as much as `recording` says. If that is nothing, nothing is written to `ledger`.
    pub fn recording(ledger: Ledger, store: Arc<Store>, recording: Recording) -> Self {
        Self::new(ledger, store, Follows::Nothing, recording)
    }

    /// A journal that writes to `ledger` what `reader` reads, up to event `until`, and from there on goes on
    /// live. Its header was read already.
    pub fn forking(
        ledger: Ledger,
        store: Arc<Store>,
        reader: Reader,
        until: Seq,
        recording: Recording,
    ) -> Result<Self> {
        let ahead = Ahead::new(reader, Arc::clone(&store), None)?;
        let record = Record { ahead, until: Some(until), same_engine: true };
        Ok(Self::new(ledger, store, Follows::Past(record), recording))
    }

    /// A journal that compares with what `reader` reads. Its header was read already.
    pub fn replaying(header: Header, reader: Reader, store: Arc<Store>, same_engine: bool) -> Result<Self> {
        let ahead = Ahead::new(reader, Arc::clone(&store), Some(header.clone()))?;
        let record = Record { ahead, until: None, same_engine };
        // What was not kept then is named now as it was.
        let recording = Recording::of(&header).unwrap_or_default();
        Ok(Self::new(Ledger::in_memory(header), store, Follows::Record(record), recording))
    }

    /// A journal that compares another version of a program with the record of the one before.
    pub(crate) fn against(header: Header, history: History, store: Arc<Store>) -> Self {
        Self::new(Ledger::in_memory(header), store, Follows::History(history), Recording::Full)
    }

    fn new(ledger: Ledger, store: Arc<Store>, follows: Follows, recording: Recording) -> Self {
        let is_live = matches!(follows, Follows::Nothing | Follows::Past(_));
        let is_past = AtomicBool::new(matches!(follows, Follows::Past(_)));
        let (record, history) = match follows {
            Follows::Nothing => (None, None),
            Follows::Past(record) | Follows::Record(record) => (Some(record), None),
            Follows::History(history) => (None, Some(history)),
        };
        let scribe = Arc::new(Scribe::new(ledger, Arc::clone(&store), is_live));
        let inner = Inner {
            scribe: Arc::clone(&scribe),
            store,
            names: BTreeMap::new(),
            functions: Vec::new(),
            open: Vec::new(),
            events: 0,
            denied: BTreeSet::new(),
            ended_in: Vec::new(),
            record,
            history,
            recording,
            kept: Vec::new(),
            lacks: None,
            holds_past: false,
            wanted: BTreeSet::new(),
            revoked: Vec::new(),
            stop: None,
        };
        Self {
            inner: Mutex::new(inner),
            scribe,
            is_live,
            recording,
            is_past,
            has_wanted: AtomicBool::new(false),
            revoked: AtomicUsize::new(0),
        }
    }

    /// Whether the world is really touched.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Whether what happens is written down.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recording != Recording::Off
    }

    /// What came of comparing, which ends with this.
    pub(crate) fn take_history(&self) -> Option<History> {
        self.lock().history.take()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held would already have ended the run.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.holds_past && inner.record.as_ref().is_some_and(|record| record.until == Some(inner.events))
        {
            inner.record = None;
            self.is_past.store(false, Ordering::Release);
        }
        inner
    }

    /// Whether this is a fork that still takes its answers from the record.
    pub fn is_past(&self) -> bool {
        self.is_past.load(Ordering::Acquire) && self.lock().record.is_some()
    }

    /// Whether there may be such answers, without a lock.
    fn has_past(&self) -> bool {
        self.is_past.load(Ordering::Acquire)
    }

    /// Keeps to the record until this is called again with `false`, also behind the event where a fork leaves it: the
    /// last call of its past, which is passed over, ends there.
    pub(crate) fn hold_past(&self, holds: bool) {
        self.lock().holds_past = holds;
    }

    /// Takes over what the record has up to the end of the event `open`, without doing any of it again, and
    /// gives that event's answer, which is one of `name`.
    pub(crate) fn pass_to_end(&self, open: Open, name: &str) -> Result<Vec<u8>> {
        let mut inner = self.lock();
        let answer = inner.pass_to_end(open.0, name);
        self.revoked.store(inner.revoked.len(), Ordering::Release);
        answer
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// Grants that would have allowed what was refused so far.
    pub fn denied(&self) -> Vec<String> {
        self.lock().denied.iter().cloned().collect()
    }

    /// The calls of the kernel that was stopped last, the innermost first.
    pub(crate) fn ended_in(&self) -> Vec<Frame> {
        self.lock().ended_in.clone()
    }

    /// It was no kernel that ended the run.
    pub(crate) fn forget_calls(&self) {
        self.lock().ended_in.clear();
    }

    /// The head so far.
    pub fn head(&self) -> Head {
        self.place().0
    }

    /// Chained entries so far.
    pub fn entries(&self) -> u64 {
        self.place().1
    }

    /// The head and the chained entries so far; those of a replay are the record's.
    fn place(&self) -> (Head, u64) {
        match self.lock().record.as_mut().filter(|record| !record.is_past()) {
            Some(record) => record.head(),
            None => self.scribe.head(),
        }
    }

    /// Writes all that was handed over until now, or says why that cannot be.
    pub fn settle(&self) -> Result<()> {
        self.scribe.settle()
    }

    /// Remembers that the disk failed; the next event ends the run.
    pub fn fail(&self, why: HostAbort) {
        self.scribe.fail(why);
    }

    /// Takes grants back, at the next call of a kernel.
    pub fn want_back(&self, grants: &[u32]) {
        // Nearly always. The guest may hold the lock, and wait for who calls this.
        if grants.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let new: Vec<u32> = grants.iter().copied().filter(|grant| !inner.revoked.contains(grant)).collect();
        if !new.is_empty() {
            inner.wanted.extend(new);
            self.has_wanted.store(true, Ordering::Release);
        }
    }

    /// Grants that were taken back until now, but for the first `known`. What is wanted is written here;
    /// in a replay, what the record has here is.
    fn revoked(&self, tick: u64, known: usize) -> Result<Vec<u32>> {
        let mut inner = self.lock();
        match self.is_live {
            // Nothing is taken back in the past of a fork.
            true if inner.record.is_some() => {}
            true => {
                self.has_wanted.store(false, Ordering::Release);
                inner.revoke_wanted(tick)?;
            }
            false => inner.revoke_recorded(tick)?,
        }
        self.revoked.store(inner.revoked.len(), Ordering::Release);
        Ok(inner.revoked.get(known..).unwrap_or_default().to_vec())
    }

    /// Takes what waits to be made durable.
    pub fn take_group(&self, durable_bytes: u64, spare: Vec<u8>) -> Vec<u8> {
        self.scribe.take_group(durable_bytes, spare)
    }

    /// Whether something waits to be made durable.
    pub fn has_group(&self) -> bool {
        self.waiting_bytes() > 0
    }

    /// How much waits to be made durable, roughly.
    pub fn waiting_bytes(&self) -> usize {
        self.scribe.waiting_bytes()
    }

    /// In a replay, why it need not go on: the record has no more events, because its process was
    /// killed there or its operator ended it.
    pub fn record_is_over(&self) -> Option<HostAbort> {
        let inner = self.lock();
        if let Some(history) = &inner.history {
            return history.is_over();
        }
        let record = inner.record.as_ref()?;
        if record.next().is_none() {
            return Some(HostAbort::new(AbortKind::Interrupt, RECORD_ENDS));
        }
        match error_of(inner.recorded_abort(*inner.open.last()?)?) {
            Error::Abort(abort) => Some(abort),
            _ => None,
        }
    }

    /// Whether the record has an event of this name next, so that a replay need not know why it happened.
    /// Never so in a live run.
    pub fn is_next(&self, name: &str) -> bool {
        let inner = self.lock();
        if let Some(history) = &inner.history {
            return history.is_next(name);
        }
        match inner.record.as_ref().and_then(|record| record.next()) {
            Some(Entry::Name(_, next)) => next == name,
            Some(Entry::Event(call, _)) => inner.names.get(name) == Some(&call.name),
            _ => false,
        }
    }

    /// Lets a replay end where `stop` says.
    pub(crate) fn stop_at(&self, stop: Stop) {
        self.lock().stop = Some(stop);
    }

    /// What was seen of a replay that was to stop.
    pub(crate) fn take_stop(&self) -> Option<Stop> {
        self.lock().stop.take()
    }

    /// Notes which kernel is called, for a replay that is to stop.
    pub(crate) fn runs(&self, kernel: &str, export: &str) {
        if let Some(stop) = &mut self.lock().stop {
            stop.running = Some(Running { kernel: kernel.to_owned(), export: export.to_owned() });
        }
    }

    /// Ends a replay that is to stop at a tick if a kernel has returned past it.
    pub(crate) fn pass(&self, tick: u64) -> Result<()> {
        self.lock().stop.as_mut().map_or(Ok(()), |stop| stop.pass(tick))
    }

    /// Writes an unchained note.
    pub fn note(&self, fields: Vec<vac_core::ledger::Field>) {
        if self.is_live && self.is_recorded() {
            // If it fails, so does all that follows.
            let _ = self.scribe.push(Entry::Note(short(fields)).into());
        }
    }

    /// Opens an event that others happen inside of.
    pub fn begin(&self, name: &str, tick: u64, request: &[u8]) -> Result<Open> {
        let mut inner = self.lock();
        inner.reach(name, Class::Kernel, tick, request)?;
        let name = inner.name(name)?;
        if let Some(history) = &mut inner.history {
            let seq = history.begin(name, tick, request)?;
            inner.events += 1;
            inner.open.push(seq);
            return Ok(Open(seq));
        }
        let seq = inner.events;
        if inner.record.as_ref().is_some_and(|record| record.until.is_some()) && seq == 0 {
            inner.begin_fork(name, tick, request)?;
        } else {
            let (call, request) = inner.call(name, Class::Kernel, tick, request)?;
            inner.emit(Item { entry: Entry::Begin(call), request, answer: None })?;
        }
        inner.events += 1;
        inner.open.push(seq);
        Ok(Open(seq))
    }

    /// Closes the event that was opened last.
    pub fn end(&self, open: Open, answer: std::result::Result<&[u8], Outcome>) -> Result<()> {
        let mut inner = self.lock();
        if let Some(lacks) = inner.lacks.clone() {
            return Err(lacks.into());
        }
        if let Some(history) = &mut inner.history {
            history.end(open.0, answer)?;
            inner.open.pop();
            return Ok(());
        }
        inner.check_results(open.0, &answer)?;
        let (answer, long) = match answer {
            Ok(bytes) => {
                let (body, long) = inner.body(bytes, true);
                (Ok(body), long)
            }
            Err(outcome) => (Err(inner.recorded_abort(open.0).unwrap_or(outcome)), None),
        };
        let entry = Entry::End(open.0, Return { answer, grant: None, denied: None });
        inner.emit(Item { entry, request: None, answer: long })?;
        inner.open.pop();
        if let Some(stop) = inner.stop.as_mut().filter(|stop| !stop.is_reached()) {
            stop.running = None;
        }
        Ok(())
    }

    /// How the record says that the event ended, if its host ended it: a replay cannot run into
    /// the same interrupt.
    pub fn recorded_abort(&self, open: Open) -> Option<Outcome> {
        self.lock().recorded_abort(open.0)
    }

    /// A whole event of ring 2: asks, acts if this is live, and keeps the answer.
    pub fn event(
        &self,
        name: &str,
        class: Class,
        tick: u64,
        request: &[u8],
        act: impl FnOnce() -> Result<(Vec<u8>, Option<u32>)>,
    ) -> Result<Vec<u8>> {
        let mut inner = self.lock();
        inner.reach(name, class, tick, request)?;
        let id = inner.name(name)?;
        if let Some(recorded) = inner.ask(id, class, tick, request)? {
            inner.printed(name, request);
            return Ok(recorded);
        }
        drop(inner);
        self.before(class)?;
        match act() {
            Ok((response, grant)) => {
                let answered =
                    Answered { response: Response::Written(&mut response.clone()), grant, denied: None };
                self.lock().answered(id, class, tick, request, answered)?;
                Ok(response)
            }
            Err(why) => {
                self.lock().stopped(id, class, tick, request, &why)?;
                Err(why)
            }
        }
    }

    /// What must be before something of this class happens.
    fn before(&self, class: Class) -> Result<()> {
        match class {
            Class::Effect if self.is_live && self.is_recorded() => self.scribe.settle(),
            _ => Ok(()),
        }
    }

    /// Writes the last entry.
    pub fn close(&self, outcome: Outcome, ticks: u64) -> Result<()> {
        {
            let mut inner = self.lock();
            if let Some(lacks) = inner.lacks.clone() {
                return Err(lacks.into());
            }
            let events = inner.events;
            if let Some(history) = &mut inner.history {
                return history.close(&outcome, ticks);
            }
            inner.emit(Entry::Close { outcome, ticks, events }.into())?;
        }
        self.scribe.settle()
    }
}

impl Inner {
    /// Ends a replay that is to stop at this event. Asked before the event is compared, so that what would differ can
    /// be looked at, too.
    fn reach(&mut self, name: &str, class: Class, tick: u64, request: &[u8]) -> Result<()> {
        let (seq, parent) = (self.events, self.open.last().copied());
        let Some(stop) = &mut self.stop else { return Ok(()) };
        let asked = || Asked { seq, parent, name: name.to_owned(), class, tick, request: request.to_vec() };
        stop.reach(seq, tick, asked)
    }

    /// Notes what a script printed, for a replay that is to stop.
    fn printed(&mut self, name: &str, request: &[u8]) {
        if let Some(stop) = self.stop.as_mut().filter(|_| name == output::PRINT_EVENT) {
            stop.printed.stdout.extend(&output::printed_line(request).unwrap_or_default());
        }
    }

    /// The number of a name, announced before its first use.
    fn name(&mut self, name: &str) -> Result<NameId> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        let id = self.names.len() as NameId;
        match &mut self.history {
            Some(history) => history.name(name),
            None => self.emit(Entry::Name(id, name.to_owned()).into())?,
        }
        if KEPT_EVENTS.contains(&name) {
            self.kept.push(id);
        }
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    fn function(&mut self, function: &Function) -> Result<NameId> {
        if let Some(Some(id)) = self.functions.get(function.index) {
            return Ok(*id);
        }
        let id = self.name(&function.name)?;
        if self.functions.len() <= function.index {
            self.functions.resize(function.index + 1, None);
        }
        if let Some(slot) = self.functions.get_mut(function.index) {
            *slot = Some(id);
        }
        Ok(id)
    }

    /// The asking half of the next event. What an effect asks for is kept; any other request is
    /// only named, because a replay makes it again.
    fn call(
        &mut self,
        name: NameId,
        class: Class,
        tick: u64,
        request: &[u8],
    ) -> Result<(Call, Option<Long>)> {
        if let Some(outcome) = self.open.last().and_then(|seq| self.recorded_abort(*seq)) {
            // The operator ended the recorded run here, which the replay cannot know by itself.
            return Err(error_of(outcome));
        }
        let (request, long) = self.body(request, self.is_kept(class));
        let parent = self.open.last().copied();
        Ok((Call { seq: self.events, parent, name, class, tick, request }, long))
    }

    /// Whether a request of this class is kept.
    fn is_kept(&self, class: Class) -> bool {
        matches!(class, Class::Effect | Class::Kernel) && self.recording.keeps(class)
    }

    /// The body for `bytes`, which is in the store if it is to be kept and is not inline. A replay does not
    /// write it again, and only names it.
    fn body(&mut self, bytes: &[u8], is_kept: bool) -> (Body, Option<Long>) {
        match (&self.record, is_kept) {
            (None, _) => self.scribe.body(bytes, is_kept),
            (Some(_), false) => (Body::digest(bytes), None),
            (Some(_), true) => (named(bytes), None),
        }
    }

    fn revoke_wanted(&mut self, tick: u64) -> Result<()> {
        while let Some(grant) = self.wanted.pop_first() {
            let name = self.name(REVOKE_EVENT)?;
            let answered =
                Answered { response: Response::Written(&mut Vec::new()), grant: Some(grant), denied: None };
            self.answered(name, Class::Read, tick, &encode(&grant), answered)?;
            self.revoked.push(grant);
        }
        Ok(())
    }

    fn ask(&mut self, name: NameId, class: Class, tick: u64, request: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(history) = &mut self.history {
            let answer = history.ask(name, class, tick, request)?;
            self.events += u64::from(answer.is_some());
            return Ok(answer);
        }
        if self.record.is_none() {
            if class == Class::Effect && self.recording != Recording::Off {
                let (call, request) = self.call(name, class, tick, request)?;
                self.emit(Item { entry: Entry::Begin(call), request, answer: None })?;
            }
            return Ok(None);
        }
        if class == Class::Computed {
            return Ok(None);
        }
        self.recorded_answer(&Question { name, class, tick, request }).map(Some)
    }

    fn answered(
        &mut self,
        name: NameId,
        class: Class,
        tick: u64,
        request: &[u8],
        answered: Answered<'_>,
    ) -> Result<()> {
        if let Some(history) = &mut self.history {
            history.computed(name, tick, request, Ok(answered.response.bytes()))?;
            self.events += 1;
            return Ok(());
        }
        self.denied.extend(answered.denied.map(bounded));
        if self.recording == Recording::Off {
            self.events += 1;
            return Ok(());
        }
        let is_kept = class != Class::Computed && (self.recording.keeps(class) || self.kept.contains(&name));
        let (answer, long) = match &self.record {
            None => self.scribe.take_body(answered.response, is_kept),
            Some(_) => match answered.response {
                Response::Written(bytes) => self.body(bytes, is_kept),
                Response::Shared(form) => self.body(&form, is_kept),
            },
        };
        let ret = Return { answer: Ok(answer), grant: answered.grant, denied: answered.denied.map(bounded) };
        self.returned(name, class, tick, request, (ret, long))
    }

    fn stopped(&mut self, name: NameId, class: Class, tick: u64, request: &[u8], why: &Error) -> Result<()> {
        if let Some(history) = &mut self.history {
            history.computed(name, tick, request, Err(outcome_of(why)))?;
            self.events += 1;
            return Ok(());
        }
        let ret = Return { answer: Err(outcome_of(why)), grant: None, denied: None };
        self.returned(name, class, tick, request, (ret, None))
    }

    fn returned(
        &mut self,
        name: NameId,
        class: Class,
        tick: u64,
        request: &[u8],
        (ret, answer): (Return, Option<Long>),
    ) -> Result<()> {
        let item = if class == Class::Effect && self.record.is_none() {
            Item { entry: Entry::End(self.events, ret), request: None, answer }
        } else {
            let (call, request) = self.call(name, class, tick, request)?;
            Item { entry: Entry::Event(call, ret), request, answer }
        };
        self.emit(item)?;
        self.events += 1;
        Ok(())
    }

    /// Hands an entry over; in a replay, only if the record has the same one next.
    fn emit(&mut self, item: Item) -> Result<()> {
        if self.recording == Recording::Off {
            return Ok(());
        }
        let Some(record) = &mut self.record else { return self.scribe.push(item) };
        self.scribe.check()?;
        let entry = item.entry;
        if let Some(expected) = record.differs(self.events, &entry)? {
            return Err(self.diverged(&expected, &entry));
        }
        record.advance()?;
        // A replay's own entries are those of the record.
        if record.is_past() { self.scribe.push(entry.into()) } else { Ok(()) }
    }
}

/// A note that fits into an entry: without what is long, should it not. It says nothing that a run depends on.
fn short(mut fields: Vec<vac_core::ledger::Field>) -> Vec<vac_core::ledger::Field> {
    let len = |node: &Node| encode(node).len();
    let all: usize = fields.iter().map(|(name, node)| name.len() + len(node)).sum();
    if all + NOTE_MARGIN_BYTES > FRAME_PAYLOAD_MAX_BYTES {
        fields.retain(|(_, node)| len(node) <= NOTE_FIELD_MAX_BYTES);
    }
    fields
}

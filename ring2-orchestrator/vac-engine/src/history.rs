//! The record of a run against another version of its program: what is asked must be what was asked, in the
//! order in which it was; ticks may differ.
//!
//! A strict comparison ends at the first request that differs. A lenient one goes on and lists what differs:
//!
//! - A request is answered by the first event of the record, from where the comparison is, of the same
//!   function and request. If events that it went past are asked for later, it was *moved*; events that are
//!   never asked for are *missing*.
//! - A request that the record does not have is *extra*; with a missing one of the same function it is one that
//!   *changed*. An effect of that kind is answered as the next recorded one of its function was: it is taken for
//!   its counterpart. What is the sandbox's own (class local) is answered as it was before, if it was asked before.
//!   Anything else gets the error that the function has for a handle that was taken back, and if it has none,
//!   its kernel ends there, and so does the comparison.
//! - Events are looked for inside of the kernel's call that goes on. A call of a kernel with other arguments
//!   is compared with the recorded one; a call that the record does not have ends the comparison.
//!
//! Invariants: nothing is touched but the store, for reading. Memory is bounded, whatever the record and the
//! program do: [`AHEAD_MAX`], [`LISTED_MAX`], [`REMEMBERED_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use vac_core::fault::{AbortKind, Divergence, Error, Fault, HostAbort, Result, Usage, quote};
use vac_core::ledger::{Body, Call, Class, Entry, NameId, Outcome, Reader, Return, Seq};
use vac_core::store::Store;
use vac_host::wall::UNANSWERED;

use crate::journal::{RECORD_ENDS, REVOKE_EVENT, error_of, is_outside, kept, no_body, results, same_bytes};
use crate::report::{show_bytes, show_kept, show_outcome};

/// Events that are looked through for a request, and that may be gone past before the first is given up.
const AHEAD_MAX: usize = 1024;
/// Differences that are listed; beyond, they are counted.
const LISTED_MAX: usize = 1000;
/// Answers of the sandbox's own that are remembered.
const REMEMBERED_MAX: usize = 4096;
/// Events before a difference that are shown with it.
const BEFORE: usize = 3;
/// Events of the record after it.
const AFTER: usize = 2;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 400;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request, an answer that was computed, or an end that is another.
    Changed,
    /// A request that the record does not have.
    Extra,
    /// An event of the record that was not asked for.
    Missing,
    /// A request that came in another order.
    Moved,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Changed, Self::Extra, Self::Missing, Self::Moved];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Extra => "extra",
            Self::Missing => "missing",
            Self::Moved => "moved",
        }
    }
}

/// One event of the record or of the new version, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its number: in the record, or of the new version's own.
    pub event: Seq,
    /// The tick.
    pub tick: u64,
    /// The function, or what else it is.
    pub function: String,
    /// What was asked.
    pub request: String,
    /// What was answered, if anything was.
    pub answer: Option<String>,
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// What the record has.
    pub recorded: Option<Side>,
    /// What the new version does.
    pub replayed: Option<Side>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// Events that are the same on both sides.
    pub equal: u64,
    /// What differs, in the order of the record; at most [`LISTED_MAX`] of them.
    pub differences: Vec<Difference>,
    /// How often each of [`Kind::ALL`] was found.
    pub counts: [u64; Kind::ALL.len()],
    /// Equal events before the first difference, if the comparison ended there.
    pub before: Vec<Side>,
    /// Events of the record after it.
    pub after: Vec<Side>,
    /// Why a lenient comparison ended early.
    pub stopped: Option<String>,
}

/// A piece of the record.
#[derive(Debug)]
enum Item {
    /// An event in which no other happened.
    Whole(Call, Return),
    /// A kernel or script that began.
    Open(Call),
    /// And ended.
    End(Seq, Return),
    /// The end of the run.
    Close(Outcome),
}

/// The record, and how far it was followed.
pub(crate) struct History {
    reader: Reader,
    store: Arc<Store>,
    is_lenient: bool,
    /// Names by number: of the record, and of the comparison.
    recorded_names: Vec<String>,
    names: Vec<String>,
    window: VecDeque<Item>,
    /// Whether the window ends with the record, and whether the record ends without an outcome.
    is_read: bool,
    is_cut: bool,
    open: Vec<Seq>,
    /// Events of the comparison so far.
    events: u64,
    /// Events that were asked for before others that stand before them.
    ahead: BTreeMap<Seq, Difference>,
    recent: VecDeque<Item>,
    /// Of the sandbox's own by request, of effects by function alone.
    answers: BTreeMap<(NameId, Vec<u8>), Body>,
    /// Why the record cannot answer: it is one without bodies.
    lacks: Option<Usage>,
    /// What is extra and missing since the last kernel began or ended.
    extra: Vec<Side>,
    missing: Vec<Side>,
    done: Compared,
}

impl History {
    /// The record that `reader` reads, whose header was read already.
    pub(crate) fn new(reader: Reader, store: Arc<Store>, is_lenient: bool) -> Result<Self> {
        let mut history = Self {
            reader,
            store,
            is_lenient,
            recorded_names: Vec::new(),
            names: Vec::new(),
            window: VecDeque::new(),
            is_read: false,
            is_cut: false,
            open: Vec::new(),
            events: 0,
            ahead: BTreeMap::new(),
            recent: VecDeque::new(),
            answers: BTreeMap::new(),
            lacks: None,
            extra: Vec::new(),
            missing: Vec::new(),
            done: Compared::default(),
        };
        history.fill(1)?;
        Ok(history)
    }

    /// What came of it.
    pub(crate) fn finish(mut self) -> Compared {
        self.pair_up();
        let order = |d: &Difference| d.recorded.as_ref().or(d.replayed.as_ref()).map_or(0, |side| side.event);
        self.done.differences.sort_by_key(order);
        self.done
    }

    /// Whether anything differs so far.
    pub(crate) fn differs(&self) -> bool {
        self.done.counts.iter().any(|count| *count > 0) || !self.extra.is_empty() || !self.missing.is_empty()
    }

    /// Learns the next name of the comparison.
    pub(crate) fn name(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    fn named(&self, name: NameId) -> &str {
        usize::try_from(name).ok().and_then(|n| self.names.get(n)).map_or("?", String::as_str)
    }

    fn recorded_name(&self, name: NameId) -> &str {
        usize::try_from(name).ok().and_then(|n| self.recorded_names.get(n)).map_or("?", String::as_str)
    }

    /// Reads until the window has `len` items or the record ends.
    fn fill(&mut self, len: usize) -> Result<()> {
        while self.window.len() < len && !self.is_read {
            match self.reader.next()? {
                Some(Entry::Name(_, name)) => self.recorded_names.push(name),
                Some(Entry::Event(call, ret)) => self.window.push_back(Item::Whole(call, ret)),
                Some(Entry::Begin(call)) if call.class == Class::Effect => self.effect(call)?,
                Some(Entry::Begin(call)) => self.window.push_back(Item::Open(call)),
                Some(Entry::End(seq, ret)) => self.window.push_back(Item::End(seq, ret)),
                Some(Entry::Close { outcome, .. }) => {
                    self.window.push_back(Item::Close(outcome));
                    self.is_read = true;
                }
                Some(_) => {}
                None => (self.is_read, self.is_cut) = (true, true),
            }
        }
        Ok(())
    }

    /// An effect has two entries, and nothing happens between them.
    fn effect(&mut self, call: Call) -> Result<()> {
        loop {
            match self.reader.next()? {
                Some(Entry::End(_, ret)) => {
                    self.window.push_back(Item::Whole(call, ret));
                    return Ok(());
                }
                Some(entry) if !entry.is_chained() => {}
                // Its answer was never durable.
                _ => {
                    (self.is_read, self.is_cut) = (true, true);
                    return Ok(());
                }
            }
        }
    }

    fn pop(&mut self) -> Result<Option<Item>> {
        let item = self.window.pop_front();
        self.fill(1)?;
        Ok(item)
    }

    /// Why the comparison need not go on: the record has no more, or its operator ended the run here.
    pub(crate) fn is_over(&self) -> Option<HostAbort> {
        if self.window.is_empty() && self.is_cut {
            return Some(HostAbort::new(AbortKind::Interrupt, RECORD_ENDS));
        }
        match error_of(self.recorded_abort(*self.open.last()?)?) {
            Error::Abort(abort) => Some(abort),
            _ => None,
        }
    }

    pub(crate) fn recorded_abort(&self, seq: Seq) -> Option<Outcome> {
        match self.window.front()? {
            Item::End(of, Return { answer: Err(outcome @ Outcome::Abort { kind, .. }), .. })
                if *of == seq && is_outside(*kind) =>
            {
                Some(outcome.clone())
            }
            _ => None,
        }
    }

    /// Whether an event of this name is next.
    pub(crate) fn is_next(&self, name: &str) -> bool {
        matches!(self.window.front(), Some(Item::Whole(call, _)) if self.recorded_name(call.name) == name)
    }

    /// Grants that were taken back here.
    pub(crate) fn revoked(&mut self) -> Result<Vec<u32>> {
        let mut revoked = Vec::new();
        while let Some(Item::Whole(call, Return { grant: Some(grant), .. })) = self.window.front()
            && self.recorded_name(call.name) == REVOKE_EVENT
        {
            revoked.push(*grant);
            self.pop()?;
            self.done.equal += 1;
            self.events += 1;
        }
        Ok(revoked)
    }

    /// What the next event of a function was asked; nothing if there is none.
    pub(crate) fn recorded_request(&mut self, name: NameId) -> Result<Vec<u8>> {
        if self.is_lenient {
            self.fill(AHEAD_MAX)?;
        }
        let named = self.named(name);
        let found = self.segment().find_map(|(_, call, _)| {
            (self.recorded_name(call.name) == named).then(|| (call.seq, call.request.clone()))
        });
        match found {
            None => Ok(Vec::new()),
            Some((seq, body)) => self.bytes_of(&body, name, seq),
        }
    }

    fn bytes_of(&mut self, body: &Body, name: NameId, seq: Seq) -> Result<Vec<u8>> {
        match kept(&self.store, body)? {
            Some(bytes) => Ok(bytes),
            None => {
                let lacks = no_body(body, self.named(name), seq);
                Err(self.lacks.insert(lacks).clone().into())
            }
        }
    }

    /// A comparison that lacks an answer has no end to compare.
    fn check_answers(&self) -> Result<()> {
        self.lacks.clone().map_or(Ok(()), |lacks| Err(lacks.into()))
    }

    /// The events that are next, up to where a kernel begins or ends.
    fn segment(&self) -> impl Iterator<Item = (usize, &Call, &Return)> {
        self.window.iter().enumerate().map_while(|(at, item)| match item {
            Item::Whole(call, ret) => Some((at, call, ret)),
            _ => None,
        })
    }

    /// The answer to a request; none if the host computes it.
    pub(crate) fn ask(
        &mut self,
        name: NameId,
        class: Class,
        tick: u64,
        request: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if class == Class::Computed {
            return Ok(None);
        }
        if let Some(over) = self.is_over() {
            return Err(over.into());
        }
        let body = Body::digest(request);
        let (answer, of) = match self.find(name, class, &body)? {
            Some(at) => self.take(at)?,
            None => (self.unexpected(name, class, tick, request, &body)?, self.events),
        };
        self.remember(name, class, &body, &answer);
        self.events += 1;
        match answer {
            Err(outcome) => Err(error_of(outcome)),
            Ok(body) => self.bytes_of(&body, name, of).map(Some),
        }
    }

    /// What the host computed, or why it could not.
    pub(crate) fn computed(
        &mut self,
        name: NameId,
        tick: u64,
        request: &[u8],
        answer: std::result::Result<&[u8], Outcome>,
    ) -> Result<()> {
        let body = Body::digest(request);
        let shown = match &answer {
            Ok(bytes) => cut(&show_bytes(bytes)),
            Err(outcome) => show_outcome(outcome),
        };
        let mut side = self.side_of(name, tick, request);
        side.answer = Some(shown);
        self.events += 1;
        let Some(at) = self.find(name, Class::Computed, &body)? else {
            return self.not_recorded(side);
        };
        let (recorded, _) = self.take(at)?;
        let is_same = match (&recorded, &answer) {
            (Ok(body), Ok(bytes)) => body.names(bytes),
            (Err(a), Err(b)) => a == b,
            _ => false,
        };
        if is_same {
            return Ok(());
        }
        self.done.equal = self.done.equal.saturating_sub(1);
        let recorded = self.recent.pop_back().map(|item| self.side_of_item(&item));
        self.differs_by(Kind::Changed, recorded, Some(side))
    }

    /// Where in the window the event is that was asked for.
    fn find(&mut self, name: NameId, class: Class, request: &Body) -> Result<Option<usize>> {
        if self.is_lenient {
            self.fill(AHEAD_MAX)?;
        }
        let named = self.named(name);
        let is_it = |call: &Call| {
            call.class == class
                && self.recorded_name(call.name) == named
                && same_bytes(&call.request, request)
        };
        let most = if self.is_lenient { AHEAD_MAX } else { 1 };
        Ok(self.segment().take(most).find(|(_, call, _)| is_it(call)).map(|(at, _, _)| at))
    }

    /// Takes an event out of the window: its answer, and its number.
    fn take(&mut self, at: usize) -> Result<(std::result::Result<Body, Outcome>, Seq)> {
        let Some(Item::Whole(call, ret)) = self.window.remove(at) else {
            return Err(HostAbort::new(AbortKind::Machine, "the record moved while it was read").into());
        };
        self.note_order(at, &call, &ret)?;
        let (answer, seq) = (ret.answer.clone(), call.seq);
        self.is_equal(Item::Whole(call, ret));
        self.fill(1)?;
        Ok((answer, seq))
    }

    /// What was asked for before this event, and stands after it, was moved.
    fn note_order(&mut self, at: usize, call: &Call, ret: &Return) -> Result<()> {
        if !self.ahead.is_empty() {
            let moved = self.ahead.split_off(&call.seq);
            for (_, difference) in moved {
                self.done.equal = self.done.equal.saturating_sub(1);
                self.list(difference);
            }
        }
        if at > 0 {
            let side = self.recorded_side(call, Some(ret));
            let replayed = Some(Side { event: self.events, ..side.clone() });
            self.ahead.insert(call.seq, Difference { kind: Kind::Moved, recorded: Some(side), replayed });
        }
        if self.ahead.len() > AHEAD_MAX {
            self.give_up_first()?;
        }
        Ok(())
    }

    /// The first event of the window was gone past too often: it is missing.
    fn give_up_first(&mut self) -> Result<()> {
        if let Some(Item::Whole(call, ret)) = self.window.pop_front() {
            let side = self.recorded_side(&call, Some(&ret));
            self.is_missing(side);
        }
        self.fill(1)?;
        let first = self.segment().next().map(|(_, call, _)| call.seq);
        match first {
            Some(first) => self.ahead = self.ahead.split_off(&first),
            None => self.ahead.clear(),
        }
        Ok(())
    }

    fn is_equal(&mut self, item: Item) {
        self.done.equal += 1;
        if self.recent.len() >= BEFORE {
            self.recent.pop_front();
        }
        self.recent.push_back(item);
    }

    /// A request that the record does not have. In a lenient comparison, what it is answered with.
    fn unexpected(
        &mut self,
        name: NameId,
        class: Class,
        tick: u64,
        request: &[u8],
        body: &Body,
    ) -> Result<std::result::Result<Body, Outcome>> {
        let side = self.side_of(name, tick, request);
        self.not_recorded(side)?;
        let named = self.named(name);
        let of_it = |call: &Call| class == Class::Effect && self.recorded_name(call.name) == named;
        let answer = self.segment().find(|(_, call, _)| of_it(call)).map(|(_, _, ret)| ret.answer.clone());
        let before = || self.answers.get(&key(name, class, body)).cloned().map(Ok);
        answer.or_else(before).ok_or_else(|| {
            let name = quote(self.named(name));
            Fault { kind: UNANSWERED, message: format!("the record has no answer to this call of `{name}`") }
                .into()
        })
    }

    fn remember(
        &mut self,
        name: NameId,
        class: Class,
        request: &Body,
        answer: &std::result::Result<Body, Outcome>,
    ) {
        let is_own = self.is_lenient && matches!(class, Class::Local | Class::Effect);
        if let (true, Ok(answer)) = (is_own && self.answers.len() < REMEMBERED_MAX, answer) {
            self.answers.insert(key(name, class, request), answer.clone());
        }
    }

    /// Ends a strict comparison, and lists what is extra in a lenient one.
    fn not_recorded(&mut self, side: Side) -> Result<()> {
        // Of a run that was killed nobody knows what would have come.
        if let Some(over) = self.is_over() {
            return Err(over.into());
        }
        if !self.is_lenient {
            let recorded = self.front();
            let is_same = recorded.as_ref().is_some_and(|recorded| recorded.function == side.function);
            let kind = if is_same { Kind::Changed } else { Kind::Extra };
            return self.differs_by(kind, recorded, Some(side));
        }
        match self.extra.len() < LISTED_MAX {
            true => self.extra.push(side),
            false => self.count(Kind::Extra),
        }
        Ok(())
    }

    fn is_missing(&mut self, side: Side) {
        match self.missing.len() < LISTED_MAX {
            true => self.missing.push(side),
            false => self.count(Kind::Missing),
        }
    }

    /// What is extra and what is missing of the same function changed.
    fn pair_up(&mut self) {
        let (extra, missing) = (std::mem::take(&mut self.extra), std::mem::take(&mut self.missing));
        let mut left: Vec<Option<Side>> = extra.into_iter().map(Some).collect();
        for recorded in missing {
            let is_it = |side: &&mut Option<Side>| {
                side.as_ref().is_some_and(|side| side.function == recorded.function)
            };
            let replayed = left.iter_mut().find(is_it).and_then(Option::take);
            let kind = if replayed.is_some() { Kind::Changed } else { Kind::Missing };
            self.list(Difference { kind, recorded: Some(recorded), replayed });
        }
        for side in left.into_iter().flatten() {
            self.list(Difference { kind: Kind::Extra, recorded: None, replayed: Some(side) });
        }
    }

    fn count(&mut self, kind: Kind) {
        if let Some(count) =
            Kind::ALL.iter().position(|k| *k == kind).and_then(|at| self.done.counts.get_mut(at))
        {
            *count += 1;
        }
    }

    fn list(&mut self, difference: Difference) {
        self.count(difference.kind);
        if self.done.differences.len() < LISTED_MAX {
            self.done.differences.push(difference);
        }
    }

    /// Lists a difference, and ends the comparison unless it is a lenient one.
    fn differs_by(&mut self, kind: Kind, recorded: Option<Side>, replayed: Option<Side>) -> Result<()> {
        let words = |side: &Option<Side>| side.as_ref().map_or("nothing".to_owned(), Side::words);
        let (shown_recorded, shown_replayed) = (words(&recorded), words(&replayed));
        let seq = recorded.as_ref().or(replayed.as_ref()).map_or(0, |side| side.event);
        self.list(Difference { kind, recorded, replayed });
        if self.is_lenient {
            return Ok(());
        }
        self.done.before = self.recent.iter().map(|item| self.side_of_item(item)).collect();
        self.fill(1 + AFTER)?;
        self.done.after = (1..=AFTER).filter_map(|at| self.item_side(at)).collect();
        Err(Box::new(Divergence { seq, recorded: shown_recorded, replayed: shown_replayed }).into())
    }

    /// A kernel or script begins; the number of the recorded event.
    pub(crate) fn begin(&mut self, name: NameId, tick: u64, request: &[u8]) -> Result<Seq> {
        self.up_to_boundary()?;
        if let Some(over) = self.is_over() {
            return Err(over.into());
        }
        let side = self.side_of(name, tick, request);
        let is_one = matches!(self.window.front(), Some(Item::Open(call)) if self.recorded_name(call.name) == self.named(name));
        if !is_one {
            let recorded = self.front();
            let side = side.clone();
            if self.is_lenient {
                self.done.stopped = Some(format!("the record does not have this call: {}", side.words()));
            }
            self.is_lenient = false;
            self.differs_by(Kind::Extra, recorded, Some(side))?;
        }
        let Some(Item::Open(call)) = self.pop()? else {
            return Err(HostAbort::new(AbortKind::Machine, "the record moved while it was read").into());
        };
        let seq = call.seq;
        match same_bytes(&call.request, &Body::digest(request)) {
            true => self.is_equal(Item::Open(call)),
            false => {
                let recorded = self.recorded_side(&call, None);
                self.differs_by(Kind::Changed, Some(recorded), Some(side))?;
            }
        }
        self.events += 1;
        self.open.push(seq);
        self.answers.clear();
        Ok(seq)
    }

    /// The kernel that began last ends.
    pub(crate) fn end(&mut self, seq: Seq, answer: std::result::Result<&[u8], Outcome>) -> Result<()> {
        self.check_answers()?;
        if let Err(Outcome::Fault { kind, message }) = &answer
            && kind == UNANSWERED
        {
            self.done.stopped.get_or_insert_with(|| message.clone());
        }
        self.open.pop();
        if self.done.stopped.is_some() {
            return Ok(());
        }
        self.up_to_end(seq)?;
        if self.window.is_empty() && self.is_cut {
            return Err(HostAbort::new(AbortKind::Interrupt, RECORD_ENDS).into());
        }
        let recorded = self.front();
        let is_same = match self.window.front() {
            Some(Item::End(of, ret)) if *of == seq => self.is_same_end(&ret.answer, &answer)?,
            _ => false,
        };
        if !is_same {
            let side = self.end_side(seq, &answer);
            let is_end = matches!(self.window.front(), Some(Item::End(..)));
            let kind = if is_end { Kind::Changed } else { Kind::Missing };
            self.differs_by(kind, recorded, Some(side))?;
        }
        self.pop()?;
        self.answers.clear();
        Ok(())
    }

    fn is_same_end(
        &self,
        recorded: &std::result::Result<Body, Outcome>,
        answer: &std::result::Result<&[u8], Outcome>,
    ) -> Result<bool> {
        Ok(match (recorded, answer) {
            (Ok(body), Ok(bytes)) => {
                body.names(bytes)
                    || kept(&self.store, body)?.is_some_and(|recorded| results(&recorded) == results(bytes))
            }
            (Err(Outcome::Abort { kind, .. }), Err(_)) if is_outside(*kind) => true,
            (Err(recorded), Err(outcome)) => recorded == outcome,
            _ => false,
        })
    }

    /// The run ends.
    pub(crate) fn close(&mut self, outcome: &Outcome, tick: u64) -> Result<()> {
        self.check_answers()?;
        if self.done.stopped.is_some() {
            return Ok(());
        }
        self.up_to_boundary()?;
        let recorded = self.front();
        let is_same = match self.window.front() {
            None if self.is_cut => return Err(HostAbort::new(AbortKind::Interrupt, RECORD_ENDS).into()),
            Some(Item::Close(Outcome::Abort { kind, .. })) if is_outside(*kind) => true,
            Some(Item::Close(recorded)) => recorded == outcome || same_result(recorded, outcome),
            _ => false,
        };
        let kind = match self.window.front() {
            Some(Item::Close(_)) => Kind::Changed,
            _ => Kind::Missing,
        };
        if is_same {
            return Ok(());
        }
        let function = "the end of the run".to_owned();
        let answer = Some(show_outcome(outcome));
        let side = Side { event: self.events, tick, function, request: String::new(), answer };
        self.differs_by(kind, recorded, Some(side))
    }

    /// Goes to where a kernel begins or ends next; what stands before was not asked for.
    fn up_to_boundary(&mut self) -> Result<()> {
        while let (true, Some(Item::Whole(call, ret))) = (self.is_lenient, self.window.front()) {
            let side = self.recorded_side(call, Some(ret));
            self.is_missing(side);
            self.pop()?;
        }
        self.ahead.clear();
        self.pair_up();
        Ok(())
    }

    /// Goes to the end of `seq`, past kernels that were not called.
    fn up_to_end(&mut self, seq: Seq) -> Result<()> {
        self.up_to_boundary()?;
        let mut skipped = BTreeSet::new();
        while self.is_lenient {
            match self.window.front() {
                Some(Item::Open(call)) => {
                    let side = self.recorded_side(call, None);
                    skipped.insert(call.seq);
                    self.is_missing(side);
                }
                Some(Item::End(of, _)) if *of != seq && skipped.contains(of) => {}
                _ => break,
            }
            self.pop()?;
            self.up_to_boundary()?;
        }
        Ok(())
    }

    fn side_of(&self, name: NameId, tick: u64, request: &[u8]) -> Side {
        let function = self.named(name).to_owned();
        Side { event: self.events, tick, function, request: cut(&show_bytes(request)), answer: None }
    }

    fn recorded_side(&self, call: &Call, ret: Option<&Return>) -> Side {
        let answer = ret.map(|ret| match &ret.answer {
            Ok(body) => cut(&show_kept(body, &self.store)),
            Err(outcome) => show_outcome(outcome),
        });
        let function = self.recorded_name(call.name).to_owned();
        let request = cut(&show_kept(&call.request, &self.store));
        Side { event: call.seq, tick: call.tick, function, request, answer }
    }

    fn end_side(&self, seq: Seq, answer: &std::result::Result<&[u8], Outcome>) -> Side {
        let answer = Some(match answer {
            Ok(bytes) => cut(&show_bytes(results(bytes))),
            Err(outcome) => show_outcome(outcome),
        });
        let function = format!("the end of event {seq}");
        Side { event: self.events, tick: 0, function, request: String::new(), answer }
    }

    fn front(&self) -> Option<Side> {
        self.item_side(0)
    }

    fn item_side(&self, at: usize) -> Option<Side> {
        self.window.get(at).map(|item| self.side_of_item(item))
    }

    fn side_of_item(&self, item: &Item) -> Side {
        let end = |function: String, event, answer| Side {
            event,
            tick: 0,
            function,
            request: String::new(),
            answer: Some(answer),
        };
        match item {
            Item::Whole(call, ret) => self.recorded_side(call, Some(ret)),
            Item::Open(call) => self.recorded_side(call, None),
            Item::End(seq, ret) => {
                let answer = match &ret.answer {
                    Ok(body) => match kept(&self.store, body) {
                        Ok(Some(bytes)) => cut(&show_bytes(results(&bytes))),
                        _ => show_kept(body, &self.store),
                    },
                    Err(outcome) => show_outcome(outcome),
                };
                end(format!("the end of event {seq}"), *seq, answer)
            }
            Item::Close(outcome) => end("the end of the run".to_owned(), self.events, show_outcome(outcome)),
        }
    }
}

impl Side {
    /// The function, what it was asked, and what it answered, in one line.
    pub fn words(&self) -> String {
        let answer = self.answer.as_ref().map_or_else(String::new, |answer| format!(" giving {answer}"));
        format!("`{}`{}{answer}", quote(&self.function), self.request)
    }
}

/// Two results that are the same, wherever their bytes are kept.
fn same_result(a: &Outcome, b: &Outcome) -> bool {
    matches!((a, b), (Outcome::Done(a), Outcome::Done(b)) if same_bytes(a, b))
}

/// What an answer is remembered by.
fn key(name: NameId, class: Class, request: &Body) -> (NameId, Vec<u8>) {
    let bytes = match request {
        _ if class == Class::Effect => Vec::new(),
        Body::Inline(bytes) => bytes.to_vec(),
        Body::Stored { cid, .. } | Body::Digest { cid, .. } => cid.to_bytes().to_vec(),
    };
    (name, bytes)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

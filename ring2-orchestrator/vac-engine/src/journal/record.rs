//! What a replay is compared with: the entries of a record, in order.

use std::collections::BTreeMap;

use vac_core::canon::encode;
use vac_core::fault::{AbortKind, Divergence, Error, HostAbort, Result};
use vac_core::ledger::{Body, Call, Class, Entry, Head, NameId, Outcome, Return, Seq, Tail};

use super::body::{error_of, is_outside, kept, missing, no_body, results, same_bytes};
use super::{Inner, REVOKE_EVENT};
use crate::ahead::Ahead;
use crate::recording::Recording;

/// What a replay is compared with. In a replay that agrees with it, its chain is the replay's own.
pub(super) struct Record {
    pub(super) ahead: Ahead,
    /// The event at which the record is left, and the run goes on by itself: a fork.
    pub(super) until: Option<Seq>,
    /// Ticks of the record can be compared only if the same engine made them.
    pub(super) same_engine: bool,
}

/// What a kernel asks, as it is compared with the record in place.
pub(super) struct Question<'a> {
    pub(super) name: NameId,
    pub(super) class: Class,
    pub(super) tick: u64,
    pub(super) request: &'a [u8],
}

/// A recorded answer.
enum Found {
    Here(Vec<u8>),
    /// It was not fetched.
    At(Body),
}

impl Inner {
    pub(super) fn revoke_recorded(&mut self, tick: u64) -> Result<()> {
        if let Some(history) = &mut self.history {
            let revoked = history.revoked()?;
            self.events += revoked.len() as u64;
            self.revoked.extend(revoked);
        }
        while let Some(record) = &self.record {
            match record.next() {
                Some(Entry::Name(_, name)) if name == REVOKE_EVENT => {
                    let name = self.name(REVOKE_EVENT)?;
                    self.check_next(name)?;
                }
                Some(Entry::Event(call, Return { grant: Some(grant), .. }))
                    if self.names.get(REVOKE_EVENT) == Some(&call.name) =>
                {
                    let (name, grant) = (call.name, *grant);
                    self.reach(REVOKE_EVENT, Class::Read, tick, &encode(&grant))?;
                    self.ask(name, Class::Read, tick, &encode(&grant))?;
                    self.revoked.push(grant);
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Checks that the record has an event of this name next, or its end. A name stands right before its first event.
    pub(super) fn check_next(&self, name: NameId) -> Result<()> {
        match self.record.as_ref().and_then(|record| record.next()) {
            None => Ok(()),
            Some(Entry::Event(call, _)) if call.name == name => Ok(()),
            Some(other) => Err(self.diverged(other, &Entry::Name(name, REVOKE_EVENT.to_owned()))),
        }
    }

    /// The recorded answer to a question, which must be that of the next event of the record.
    pub(super) fn recorded_answer(&mut self, asked: &Question<'_>) -> Result<Vec<u8>> {
        if let Some(outcome) = self.open.last().and_then(|seq| self.recorded_abort(*seq)) {
            // The operator ended the recorded run here, which the replay cannot know by itself.
            return Err(error_of(outcome));
        }
        let seq = self.events;
        match self.next_recorded()? {
            Entry::Event(call, _) if self.is_asked(call, asked) => {}
            Entry::Begin(call) if asked.class == Class::Effect && self.is_asked(call, asked) => {
                self.pass_on(asked)?;
                match self.next_recorded()? {
                    Entry::End(of, _) if *of == seq => {}
                    other => return Err(self.differs(&other.clone(), asked)),
                }
            }
            other => return Err(self.differs(&other.clone(), asked)),
        }
        let answer = self.next_answer();
        self.pass_on(asked)?;
        self.events += 1;
        match answer {
            Ok(Found::Here(bytes)) => Ok(bytes),
            Ok(Found::At(body)) => self.bytes_of(&body, asked.name, seq),
            Err(outcome) => Err(error_of(outcome)),
        }
    }

    fn next_recorded(&self) -> Result<&Entry> {
        let no_record = || HostAbort::new(AbortKind::Machine, "there is no record to answer from");
        let record = self.record.as_ref().ok_or_else(no_record)?;
        record.next().ok_or_else(|| record_ends(self.events, record.ahead.tail()))
    }

    /// The answer of the next entry, which has one.
    fn next_answer(&mut self) -> std::result::Result<Found, Outcome> {
        let fetched = self.record.as_mut().and_then(|record| record.ahead.take_answer());
        if let Some(bytes) = fetched {
            return Ok(Found::Here(bytes));
        }
        match self.record.as_ref().and_then(Record::next) {
            Some(Entry::Event(_, ret) | Entry::End(_, ret)) => match &ret.answer {
                Ok(Body::Inline(bytes)) => Ok(Found::Here(bytes.to_vec())),
                Ok(body) => Ok(Found::At(body.clone())),
                Err(outcome) => Err(outcome.clone()),
            },
            _ => Ok(Found::At(Body::default())),
        }
    }

    /// Whether the recorded call is what is asked now.
    fn is_asked(&self, recorded: &Call, asked: &Question<'_>) -> bool {
        let Some(record) = &self.record else { return false };
        let place = (recorded.seq, recorded.parent) == (self.events, self.open.last().copied());
        let ticks = !record.same_engine || recorded.tick == asked.tick;
        let call = (recorded.name, recorded.class) == (asked.name, asked.class);
        let is_kept = record.is_exact().then(|| self.is_kept(asked.class));
        place && ticks && call && is_body(&recorded.request, asked.request, is_kept)
    }

    fn differs(&mut self, recorded: &Entry, asked: &Question<'_>) -> Error {
        match self.call(asked.name, asked.class, asked.tick, asked.request) {
            Ok((call, _)) => self.diverged(recorded, &Entry::Begin(call)),
            Err(error) => error,
        }
    }

    /// Goes past the next entry, which agrees. In the past of a fork, its own ledger gets one, too.
    fn pass_on(&mut self, asked: &Question<'_>) -> Result<()> {
        if self.record.as_ref().is_some_and(Record::is_past) {
            let (call, _) = self.call(asked.name, asked.class, asked.tick, asked.request)?;
            let own = match self.next_recorded()? {
                Entry::Begin(_) => Entry::Begin(call),
                Entry::Event(_, ret) => Entry::Event(call, ret.clone()),
                other => other.clone(),
            };
            self.scribe.push(own.into())?;
        }
        self.record.as_mut().map_or(Ok(()), Record::advance)
    }

    /// The bytes of a body of the event `seq`, a call of `name`. Those that were not kept may be in the store
    /// for another reason.
    pub(super) fn bytes_of(&mut self, body: &Body, name: NameId, seq: Seq) -> Result<Vec<u8>> {
        if let (Body::Digest { cid, .. }, Recording::Full) = (body, self.recording) {
            // Such a record has every answer that a replay asks for.
            return Err(missing(cid));
        }
        let found = kept(&self.store, body)?;
        found.ok_or_else(|| {
            let name = self.names.iter().find(|(_, id)| **id == name).map_or("?", |(name, _)| name);
            self.lacks.insert(no_body(body, name, seq)).clone().into()
        })
    }

    /// Ticks of another engine are not compared; what a kernel gave is, and stands beside them.
    pub(super) fn check_results(&self, seq: Seq, answer: &std::result::Result<&[u8], Outcome>) -> Result<()> {
        let (Some(record), Ok(bytes)) = (&self.record, answer) else { return Ok(()) };
        match record.next() {
            Some(Entry::End(of, Return { answer: Ok(body), .. })) if !record.same_engine && *of == seq => {
                match kept(&self.store, body)? {
                    Some(recorded) if results(&recorded) != results(bytes) => {
                        let shown = |bytes| crate::report::show_body(&Body::digest(results(bytes)));
                        let (recorded, replayed) = (shown(&recorded), shown(bytes));
                        Err(Box::new(Divergence { seq, recorded, replayed }).into())
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    pub(super) fn recorded_abort(&self, seq: Seq) -> Option<Outcome> {
        if let Some(history) = &self.history {
            return history.recorded_abort(seq);
        }
        match self.record.as_ref()?.next() {
            Some(Entry::End(recorded, Return { answer: Err(outcome @ Outcome::Abort { kind, .. }), .. }))
                if *recorded == seq && is_outside(*kind) =>
            {
                Some(outcome.clone())
            }
            _ => None,
        }
    }

    pub(super) fn diverged(&self, recorded: &Entry, replayed: &Entry) -> Error {
        let names: BTreeMap<NameId, &str> =
            self.names.iter().map(|(name, id)| (*id, name.as_str())).collect();
        let show = |entry: &Entry| {
            crate::report::one_line(entry, &|id| names.get(&id).map_or("?", |n| n).to_owned())
        };
        Box::new(Divergence { seq: self.events, recorded: show(recorded), replayed: show(replayed) }).into()
    }
}

impl Record {
    /// The next entry.
    pub(super) fn next(&self) -> Option<&Entry> {
        self.ahead.next()
    }

    /// Goes past it.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.ahead.advance()
    }

    /// Whether this is the past of a fork, which has a ledger of its own.
    pub(super) fn is_past(&self) -> bool {
        self.until.is_some()
    }

    /// Whether all entries must be the same, to the byte: then the heads are. A fork may keep less than the run
    /// that it came from, and ticks of another engine are not compared.
    fn is_exact(&self) -> bool {
        self.same_engine && !self.is_past()
    }

    /// The head of the entries that were gone past, and their number.
    pub(super) fn head(&mut self) -> (Head, u64) {
        self.ahead.head()
    }

    /// Goes past the next entry, and gives it.
    pub(super) fn take(&mut self, events: u64) -> Result<Entry> {
        let entry = self.next().cloned().ok_or_else(|| record_ends(events, self.ahead.tail()))?;
        self.advance()?;
        Ok(entry)
    }

    /// The next entry, if it is not `entry`.
    pub(super) fn differs(&self, events: u64, entry: &Entry) -> Result<Option<Entry>> {
        let next = self.next().ok_or_else(|| record_ends(events, self.ahead.tail()))?;
        Ok((!self.agrees(next, entry)).then(|| next.clone()))
    }

    fn agrees(&self, recorded: &Entry, replayed: &Entry) -> bool {
        match (recorded, replayed) {
            (Entry::Begin(a), Entry::Begin(b)) => self.agrees_call(a, b),
            (Entry::Event(a, ret_a), Entry::Event(b, ret_b)) => self.agrees_call(a, b) && ret_a == ret_b,
            (Entry::Close { outcome: a, events: n, .. }, Entry::Close { outcome: b, events: m, .. })
                if !self.same_engine =>
            {
                a == b && n == m
            }
            (Entry::End(a, ra), Entry::End(b, rb)) if !self.same_engine => {
                a == b && ra.answer.is_ok() == rb.answer.is_ok()
            }
            // An operator's interrupt comes at no fixed tick.
            (
                Entry::Close { outcome: a @ Outcome::Abort { kind, .. }, .. },
                Entry::Close { outcome: b, .. },
            ) if is_outside(*kind) => a == b,
            _ => recorded == replayed,
        }
    }

    fn agrees_call(&self, recorded: &Call, replayed: &Call) -> bool {
        let ticks = !self.same_engine || recorded.tick == replayed.tick;
        let same = |call: &Call| (call.seq, call.parent, call.name, call.class);
        let requests = match self.is_exact() {
            true => recorded.request == replayed.request,
            false => same_bytes(&recorded.request, &replayed.request),
        };
        ticks && same(recorded) == same(replayed) && requests
    }
}

/// Whether a recorded body is that of `bytes`; and if it is given whether they were kept, also that.
fn is_body(recorded: &Body, bytes: &[u8], is_kept: Option<bool>) -> bool {
    let is_long = Body::inline(bytes).is_none();
    match recorded {
        Body::Inline(own) => own.as_slice() == bytes,
        Body::Stored { .. } => is_long && is_kept != Some(false) && recorded.names(bytes),
        Body::Digest { .. } => is_long && is_kept != Some(true) && recorded.names(bytes),
    }
}

/// The word that a replay which reached the end of a record without an outcome ends with.
pub const RECORD_ENDS: &str = "the record ends here";

fn record_ends(events: u64, tail: Option<Tail>) -> Error {
    let message = match tail {
        Some(Tail::Open { .. }) => RECORD_ENDS.to_owned(),
        _ => {
            let replayed = "another event".to_owned();
            return Box::new(Divergence { seq: events, recorded: "the end of the run".into(), replayed })
                .into();
        }
    };
    HostAbort::new(AbortKind::Interrupt, message).into()
}

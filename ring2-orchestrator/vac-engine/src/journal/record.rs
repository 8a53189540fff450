//! What a replay is compared with: the entries of a record, in order.

use std::collections::BTreeMap;

use vac_core::canon::encode;
use vac_core::fault::{AbortKind, Divergence, Error, HostAbort, Result};
use vac_core::ledger::{Body, Call, Class, Entry, NameId, Outcome, Reader, Return, Seq, Tail};

use super::body::{is_outside, kept, missing, no_body, results, same_bytes};
use super::{Inner, REVOKE_EVENT};
use crate::recording::Recording;

/// What a replay is compared with.
pub(super) struct Record {
    pub(super) reader: Reader,
    pub(super) next: Option<Entry>,
    /// The event at which the record is left, and the run goes on by itself: a fork.
    pub(super) until: Option<Seq>,
    /// Ticks of the record can be compared only if the same engine made them.
    pub(super) same_engine: bool,
}

impl Inner {
    pub(super) fn revoke_recorded(&mut self, tick: u64) -> Result<()> {
        if let Some(history) = &mut self.history {
            let revoked = history.revoked()?;
            self.events += revoked.len() as u64;
            self.revoked.extend(revoked);
        }
        while let Some(record) = &self.record {
            match &record.next {
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
        match self.record.as_ref().and_then(|record| record.next.as_ref()) {
            None => Ok(()),
            Some(Entry::Event(call, _)) if call.name == name => Ok(()),
            Some(other) => Err(self.diverged(other, &Entry::Name(name, REVOKE_EVENT.to_owned()))),
        }
    }

    /// The recorded answer to `call`, which must be the next event of the record.
    pub(super) fn recorded_return(&mut self, call: Call) -> Result<Return> {
        let events = self.events;
        let Some(record) = &mut self.record else {
            return Err(HostAbort::new(AbortKind::Machine, "there is no record to answer from").into());
        };
        let expected = record.take(events)?;
        let ret = match &expected {
            Entry::Event(recorded, ret) if record.agrees_call(recorded, &call) => ret.clone(),
            Entry::Begin(recorded) if call.class == Class::Effect && record.agrees_call(recorded, &call) => {
                let end = record.take(events)?;
                let own = if record.same_engine { Entry::Begin(call.clone()) } else { expected };
                self.scribe.push(own.into())?;
                match end {
                    Entry::End(seq, ret) if seq == call.seq => {
                        self.scribe.push(Entry::End(seq, ret.clone()).into())?;
                        return Ok(ret);
                    }
                    other => return Err(self.diverged(&other, &Entry::Begin(call))),
                }
            }
            _ => return Err(self.diverged(&expected, &Entry::Begin(call))),
        };
        let is_own = self.record.as_ref().is_some_and(|r| r.same_engine);
        let entry = if is_own { Entry::Event(call, ret.clone()) } else { expected };
        self.scribe.push(entry.into())?;
        Ok(ret)
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
        match &record.next {
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
        match &self.record.as_ref()?.next {
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
    /// Reads the next chained entry.
    pub(super) fn advance(&mut self) -> Result<()> {
        loop {
            self.next = self.reader.next()?;
            if self.next.as_ref().is_none_or(Entry::is_chained) {
                return Ok(());
            }
        }
    }

    pub(super) fn take(&mut self, events: u64) -> Result<Entry> {
        match self.next.take() {
            Some(entry) => {
                self.advance()?;
                Ok(entry)
            }
            None => Err(record_ends(events, self.reader.tail())),
        }
    }

    pub(super) fn agrees(&self, recorded: &Entry, replayed: &Entry) -> bool {
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

    pub(super) fn agrees_call(&self, recorded: &Call, replayed: &Call) -> bool {
        let ticks = !self.same_engine || recorded.tick == replayed.tick;
        let same = |call: &Call| (call.seq, call.parent, call.name, call.class);
        ticks && same(recorded) == same(replayed) && same_bytes(&recorded.request, &replayed.request)
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

//! The past of a fork: a live journal that takes over what a record has.

use std::collections::BTreeMap;

use vac_core::fault::{AbortKind, HostAbort, Result};
use vac_core::ledger::{Body, Call, Class, Entry, NameId, Return, Seq};

use super::body::{error_of, kept};
use super::record::Record;
use super::{Inner, REVOKE_EVENT};
use crate::scribe::Item;
use crate::seek::output;

impl Inner {
    /// See [`Journal::pass_to_end`].
    pub(super) fn pass_to_end(&mut self, seq: Seq, name: &str) -> Result<Vec<u8>> {
        let mut passing = Passing::new(&self.names);
        loop {
            let events = self.events;
            let no_record = || HostAbort::new(AbortKind::Machine, "there is no record to pass over");
            let entry = self.record.as_mut().ok_or_else(no_record)?.take(events)?;
            if self.record.as_ref().is_some_and(Record::is_past) {
                self.scribe.push(entry.clone().into())?;
            }
            self.pass_printed(&mut passing, &entry)?;
            match entry {
                Entry::Name(id, name) => drop(self.names.insert(name, id)),
                Entry::Begin(call) => {
                    self.events += 1;
                    self.open.push(call.seq);
                }
                Entry::Event(call, ret) => {
                    self.events += 1;
                    if self.names.get(REVOKE_EVENT) == Some(&call.name) {
                        self.revoked.extend(ret.grant);
                    }
                    self.denied.extend(ret.denied);
                }
                Entry::End(ended, ret) => {
                    self.open.pop();
                    self.denied.extend(ret.denied);
                    if ended == seq {
                        let body = ret.answer.map_err(error_of)?;
                        let id = self.names.get(name).copied().unwrap_or_default();
                        return self.bytes_of(&body, id, seq);
                    }
                }
                other => {
                    let ret = Return { answer: Ok(Body::default()), grant: None, denied: None };
                    return Err(self.diverged(&other, &Entry::End(seq, ret)));
                }
            }
        }
    }

    /// Notes what an entry that is passed over printed, for a replay that is to stop.
    fn pass_printed(&mut self, passing: &mut Passing, entry: &Entry) -> Result<()> {
        let Some(stop) = &mut self.stop else { return Ok(()) };
        let Some((call, ret)) = passing.event(entry) else { return Ok(()) };
        let (Some(name), Ok(answer)) = (passing.names.get(&call.name), &ret.answer) else { return Ok(()) };
        if let (Some(request), Some(answer)) = (kept(&self.store, &call.request)?, kept(&self.store, answer)?)
        {
            stop.note_last(name, &request, &answer);
        }
        Ok(())
    }

    /// The first event of a fork, which may be asked something else than its record was: arguments that the guest
    /// is told only later.
    pub(super) fn begin_fork(&mut self, name: NameId, tick: u64, request: &[u8]) -> Result<()> {
        let (body, long) = self.scribe.body(request, self.recording.keeps(Class::Kernel));
        let call = Call { seq: 0, parent: None, name, class: Class::Kernel, tick, request: body };
        let no_record = || HostAbort::new(AbortKind::Machine, "there is no record to fork from");
        let expected = self.record.as_mut().ok_or_else(no_record)?.take(0)?;
        match &expected {
            Entry::Begin(recorded) if (recorded.name, recorded.class) == (name, Class::Kernel) => {
                self.scribe.push(Item { entry: Entry::Begin(call), request: long, answer: None })
            }
            _ => Err(self.diverged(&expected, &Entry::Begin(call))),
        }
    }
}

/// Finds whole events among the entries that are passed over, if they may be about the standard streams.
struct Passing {
    names: BTreeMap<NameId, String>,
    begun: Option<Call>,
}

impl Passing {
    fn new(names: &BTreeMap<String, NameId>) -> Self {
        let of_output = names.iter().filter(|(name, _)| output::is_of_output(name));
        Self { names: of_output.map(|(name, id)| (*id, name.clone())).collect(), begun: None }
    }

    /// The event that `entry` is, or is the end of.
    fn event<'e>(&mut self, entry: &'e Entry) -> Option<(Call, &'e Return)> {
        match entry {
            Entry::Name(id, name) if output::is_of_output(name) => {
                self.names.insert(*id, name.clone());
                None
            }
            Entry::Begin(call) => {
                self.begun = Some(call.clone());
                None
            }
            Entry::Event(call, ret) => Some((call.clone(), ret)),
            Entry::End(seq, ret) => Some((self.begun.take().filter(|call| call.seq == *seq)?, ret)),
            _ => None,
        }
    }
}

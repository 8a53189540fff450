//! A run as one component that needs neither this program nor its store: what `vac-host` makes of the record.

use std::sync::Arc;

use vac_core::cid::Cid;
use vac_core::fault::{Corrupt, Result, Usage};
use vac_core::ledger::{Body, Call, Class, Entry, Head, Header, Outcome, Reader, Return, RunId};
use vac_host::export::{Answer, Event, Export};
use vac_host::load;

use crate::home::Home;
use crate::replay::{check_format, int, link, recorded_links, text};
use crate::run::{What, seed_bytes};
use crate::target::{Target, link_all};

/// What begins the names of events that are not of a program.
const OF_THE_RUN: &str = "vac:run/";
/// What a component says where its record stops.
const ENDS: &str = "the record ends here, because the process of the run was killed";

/// A run as a component.
#[derive(Debug)]
pub struct Exported {
    /// The run.
    pub run: RunId,
    /// The head of its record.
    pub head: Head,
    /// The program that ran.
    pub program: Cid,
    /// Events that the component has the answers of.
    pub events: u64,
    /// How the run ended; `None` if its record has no end.
    pub outcome: Option<Outcome>,
    /// The component.
    pub bytes: Vec<u8>,
}

/// Makes a component of `run`.
pub fn export(home: &Home, run: RunId) -> Result<Exported> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let Some(Entry::Header(header)) = reader.next()? else {
        let got = "another entry, or none";
        return Err(Corrupt::new("record", format!("run `{run}`"), "a header first", got).into());
    };
    check_format(&header)?;
    check_what(&header, run)?;
    let program = link(&header, "target")?;
    let component = component(home, &header, &program)?;
    let mut record = Record { home, export: Export::new(component, &run.to_string(), &seed(&header)?)? };
    let (events, outcome) = record.read(&mut reader)?;
    let cut = match &outcome {
        None => Some(ENDS.to_owned()),
        Some(Outcome::Abort { message, .. }) => Some(format!("the run was ended here: {message}")),
        Some(_) => None,
    };
    let head = reader.head();
    let bytes = record.export.finish(&program, &head, cut.as_deref())?;
    Ok(Exported { run, head, program, events, outcome, bytes })
}

fn seed(header: &Header) -> Result<[u8; 32]> {
    Ok(seed_bytes(int(header, "seed")?))
}

fn check_what(header: &Header, run: RunId) -> Result<()> {
    let what = match What::from_word(&text(header, "what")?) {
        Some(What::Run) => return Ok(()),
        Some(What::Serve) => "answers requests by `wasi:http/handler`",
        Some(What::Call) => "is a typed call",
        Some(What::Script) | None => "is a script",
    };
    let message = format!("run `{run}` {what}, and only commands that export `wasi:cli/run` can be exported");
    Err(Usage::new(message).hint(format!("`vac replay {run}` replays it")).into())
}

/// The component that ran: the program, adapted if it is a module, with what was linked to it.
fn component(home: &Home, header: &Header, program: &Cid) -> Result<Vec<u8>> {
    let target = Target::from_store(home, program)?;
    let links = recorded_links(home, header)?;
    let loaded = load::load(&target.bytes, &target.place)?;
    match links.is_empty() {
        true => Ok(loaded.component()?.into_owned()),
        false => link_all(&loaded, &links),
    }
}

/// The record, as it is read into a component.
struct Record<'h> {
    home: &'h Home,
    export: Export,
}

impl Record<'_> {
    /// Adds every event; how many there were, and how the run ended.
    fn read(&mut self, reader: &mut Reader) -> Result<(u64, Option<Outcome>)> {
        let (mut names, mut open, mut events, mut outcome) = (Vec::new(), None, 0, None);
        while let Some(entry) = reader.next()? {
            let (call, ret) = match entry {
                Entry::Name(_, name) => {
                    names.push(name);
                    continue;
                }
                Entry::Begin(call) => {
                    open = Some(call);
                    continue;
                }
                Entry::End(seq, ret) => match open.take() {
                    Some(call) if call.seq == seq => (call, ret),
                    _ => continue,
                },
                Entry::Event(call, ret) => (call, ret),
                Entry::Close { outcome: ended, .. } => {
                    outcome = Some(ended);
                    continue;
                }
                Entry::Header(_) | Entry::Mark { .. } | Entry::Note(_) => continue,
            };
            let name = names.get(call.name as usize).ok_or_else(|| {
                Corrupt::new("record", format!("event {}", call.seq), "a name before", call.name)
            })?;
            if !name.starts_with(OF_THE_RUN) {
                self.event(name, &call, &ret)?;
                events += 1;
            }
        }
        Ok((events, outcome))
    }

    fn event(&mut self, name: &str, call: &Call, ret: &Return) -> Result<()> {
        let request = self.bytes(&call.request)?;
        let (given, why);
        let answer = match &ret.answer {
            Ok(body) if call.class == Class::Computed => Answer::Computed(body),
            Ok(body) => {
                given = self.bytes(body)?.ok_or_else(|| {
                    Corrupt::new(
                        "record",
                        format!("event {}", call.seq),
                        "an answer that is kept",
                        "its digest",
                    )
                })?;
                Answer::Given(&given)
            }
            Err(outcome) => {
                why = crate::report::show_outcome(outcome);
                Answer::Stopped(&why)
            }
        };
        self.export.event(&Event { seq: call.seq, name, request: request.as_deref(), answer })
    }

    /// The bytes of a body, if they are kept.
    fn bytes(&self, body: &Body) -> Result<Option<Vec<u8>>> {
        match body {
            Body::Inline(bytes) => Ok(Some(bytes.to_vec())),
            Body::Digest { .. } => Ok(None),
            Body::Stored { cid, .. } => {
                let found = self.home.store().get(cid)?;
                let missing =
                    || Corrupt::new("record", "the store", format!("the object `{cid}`"), "nothing").into();
                found.map(Some).ok_or_else(missing)
            }
        }
    }
}

//! A run as one component that needs neither this program nor its store: what `vac-host` makes of the record.

use std::sync::Arc;

use vac_core::canon;
use vac_core::cid::Cid;
use vac_core::fault::{Corrupt, Result, Usage};
use vac_core::ledger::{Body, Call, Class, Entry, Head, Header, Outcome, Reader, Return, RunId};
use vac_host::export::{Answer, Event, Export};
use vac_host::load::{self, Loaded};

use crate::calls;
use crate::home::Home;
use crate::journal::no_body;
use crate::replay::{check_format, int, link, recorded_links, text};
use crate::run::{What, seed_bytes};
use crate::session::KERNEL_EVENT;
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
    /// Whether it is a run of typed calls.
    pub has_calls: bool,
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
    let has_calls = has_calls(&header, run)?;
    let program = link(&header, "target")?;
    let target = Target::from_store(home, &program)?;
    let loaded = load::load(&target.bytes, &target.place)?;
    let (component, seed) = (component(home, &header, &loaded)?, seed_bytes(int(&header, "seed")?));
    let export = match has_calls {
        true => Export::of_calls(component, &run.to_string(), &seed)?,
        false => Export::new(component, &run.to_string(), &seed)?,
    };
    let goes_on = header.get(calls::EXIT).is_some();
    let mut record =
        Record { home, loaded: &loaded, has_calls, goes_on, has_exited: false, calls: 0, export };
    let (events, outcome) = record.read(&mut reader)?;
    let printed = record.printed(outcome.as_ref())?;
    let cut = match &outcome {
        None => Some(ENDS.to_owned()),
        Some(Outcome::Abort { message, .. }) => Some(format!("the run was ended here: {message}")),
        Some(_) => None,
    };
    let head = reader.head();
    let bytes = record.export.finish(&program, &head, cut.as_deref(), &printed)?;
    Ok(Exported { run, head, program, events, outcome, has_calls, bytes })
}

/// Begins the name of the event in which a program of WASI 0.1 exits.
const EXIT_EVENT: &str = "vac:wasi01/exit";

/// Whether it is a run of typed calls, or else of a command; nothing else can be exported.
fn has_calls(header: &Header, run: RunId) -> Result<bool> {
    let what = match What::from_word(&text(header, "what")?) {
        Some(What::Run) => return Ok(false),
        Some(What::Call) => return Ok(true),
        Some(What::Serve) => "answers requests by `wasi:http/handler`",
        Some(What::Script) | None => "is a script",
    };
    let message = format!("run `{run}` {what}, and only commands and typed calls can be exported");
    Err(Usage::new(message).hint(format!("`vac replay {run}` replays it")).into())
}

/// The component that ran: the program, adapted if it is a module, with what was linked to it.
fn component(home: &Home, header: &Header, program: &Loaded<'_>) -> Result<Vec<u8>> {
    let links = recorded_links(home, header)?;
    match links.is_empty() {
        true => Ok(program.component()?.into_owned()),
        false => link_all(program, &links),
    }
}

fn name_of<'n>(names: &'n [String], call: &Call) -> Result<&'n str> {
    let missing = || Corrupt::new("record", format!("event {}", call.seq), "a name before", call.name);
    Ok(names.get(call.name as usize).ok_or_else(missing)?)
}

/// An event with both its halves, if an entry is or completes one. `open` are those without an end: a kernel, and
/// an effect inside of it.
fn whole(open: &mut Vec<Call>, entry: Entry) -> Result<Option<(Call, Return)>> {
    match entry {
        Entry::Begin(call) => open.push(call),
        Entry::Event(call, ret) => return Ok(Some((call, ret))),
        Entry::End(seq, ret) => match open.pop() {
            Some(call) if call.seq == seq => return Ok(Some((call, ret))),
            _ => return Err(unbalanced(seq).into()),
        },
        _ => {}
    }
    Ok(None)
}

fn unbalanced(seq: u64) -> Corrupt {
    Corrupt::new("record", format!("event {seq}"), "an end of what was begun last", "another")
}

/// The record, as it is read into a component.
struct Record<'h> {
    home: &'h Home,
    loaded: &'h Loaded<'h>,
    has_calls: bool,
    /// Whether a command that exited with 0 went on.
    goes_on: bool,
    /// It did, in the call whose events come.
    has_exited: bool,
    /// Typed calls until now.
    calls: usize,
    export: Export,
}

impl Record<'_> {
    /// Adds every event; how many there were, and how the run ended.
    fn read(&mut self, reader: &mut Reader) -> Result<(u64, Option<Outcome>)> {
        let (mut names, mut open, mut events, mut outcome) = (Vec::new(), Vec::new(), 0, None);
        while let Some(entry) = reader.next()? {
            match entry {
                Entry::Name(_, name) => names.push(name),
                Entry::Close { outcome: ended, .. } => outcome = Some(ended),
                entry => {
                    if let Some((call, ret)) = whole(&mut open, entry)? {
                        events += u64::from(self.add(name_of(&names, &call)?, &call, &ret)?);
                    }
                }
            }
        }
        // The process was killed inside of it.
        if let Some(call) = open.first()
            && name_of(&names, call)? == KERNEL_EVENT
        {
            self.kernel(call, None)?;
        }
        Ok((events, outcome))
    }

    /// Adds an event, and says whether it is one of the program.
    fn add(&mut self, name: &str, call: &Call, ret: &Return) -> Result<bool> {
        match name {
            KERNEL_EVENT => self.kernel(call, Some(ret)).map(|()| false),
            name if name.starts_with(OF_THE_RUN) => Ok(false),
            name => self.event(name, call, ret).map(|()| true),
        }
    }

    /// A kernel that ran: nothing of a command, and a call otherwise.
    fn kernel(&mut self, call: &Call, ret: Option<&Return>) -> Result<()> {
        if !self.has_calls {
            return Ok(());
        }
        let Some(request) = self.bytes(&call.request)? else {
            return Err(no_body(&call.request, KERNEL_EVENT, call.seq).into());
        };
        let response = match ret.map(|ret| &ret.answer) {
            Some(Ok(body)) => self.bytes(body)?,
            Some(Err(_)) | None => None,
        };
        // What was exited from in its midst and returned all the same, no other engine returns from.
        if std::mem::take(&mut self.has_exited) && response.is_some() {
            let message = "the run cannot be exported: its program exited with 0, and the call returned";
            return Err(Usage::new(message).hint("`vac replay` replays it").into());
        }
        let mut reader = canon::Reader::new(&request, "the request of a call");
        reader.array_of(4)?;
        reader.link()?;
        let export = reader.text()?;
        self.calls += 1;
        self.export.call(export, self.loaded.name_in_component(export), &request, response.as_deref())
    }

    /// What `vac call` printed: the result of one call, or a line for each that has one.
    fn printed(&self, outcome: Option<&Outcome>) -> Result<Vec<u8>> {
        let Some(Outcome::Done(body)) = outcome.filter(|_| self.has_calls) else { return Ok(Vec::new()) };
        let mut text = self.bytes(body)?.unwrap_or_default();
        if self.calls == 1 || !text.is_empty() {
            text.push(b'\n');
        }
        Ok(text)
    }

    fn event(&mut self, name: &str, call: &Call, ret: &Return) -> Result<()> {
        let request = self.bytes(&call.request)?;
        self.has_exited |= self.goes_on
            && name.starts_with(EXIT_EVENT)
            && request.as_deref() == Some(canon::encode(&(0_u32,)).as_slice());
        let (given, why);
        let answer = match &ret.answer {
            Ok(body) if call.class == Class::Computed => Answer::Computed(body),
            Ok(body) => {
                given = self.bytes(body)?.ok_or_else(|| no_body(body, name, call.seq))?;
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

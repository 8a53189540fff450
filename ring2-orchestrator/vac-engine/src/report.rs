//! Runs and events as data, for those who show them. Nothing here prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use vac_core::canon::Node;
pub use vac_core::canon::{show_bytes, show_node};
use vac_core::fault::{AbortKind, Result, quote};
use vac_core::ledger::{
    self, Body, Call, Class, Entry, Head, NameId, Outcome, Reader, Return, RunId, Seq, Tail,
};
use vac_core::store::Store;

use crate::home::Home;

/// One run, as a list shows it.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// The run.
    pub run: RunId,
    /// `run`, `call` or `script`.
    pub what: String,
    /// What the operator typed as target.
    pub target: String,
    /// When it started, in milliseconds since 1970.
    pub started_unix_ms: Option<u64>,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
    /// Whether a process is writing it now.
    pub is_running: bool,
    /// The head of its chain.
    pub head: Head,
    /// Events.
    pub events: u64,
    /// Ticks of all kernels.
    pub ticks: u64,
    /// Events in which something was refused.
    pub denied: u64,
    /// Bytes of the ledger's end that were being written when the process died.
    pub dropped_bytes: u64,
}

impl RunInfo {
    /// One stable word for how the run stands.
    pub fn status(&self) -> &'static str {
        match &self.outcome {
            None if self.is_running => "running",
            None => "killed",
            Some(Outcome::Done(_) | Outcome::Exit(0)) => "ok",
            Some(Outcome::Exit(_)) => "failed",
            Some(Outcome::Fault { .. }) => "fault",
            Some(Outcome::Abort { kind, .. }) => kind.word(),
        }
    }
}

/// One event, both halves together.
#[derive(Debug, Clone)]
pub struct EventInfo {
    /// Its number.
    pub seq: Seq,
    /// The event it happened inside of.
    pub parent: Option<Seq>,
    /// How deep that is.
    pub depth: usize,
    /// The function.
    pub name: String,
    /// What kind it is.
    pub class: Class,
    /// The run's tick.
    pub tick: u64,
    /// What was asked.
    pub request: Body,
    /// What was answered; `None` if the process died before.
    pub answer: Option<std::result::Result<Body, Outcome>>,
    /// Number of the grant that allowed it.
    pub grant: Option<u32>,
    /// The grant that would have allowed what was refused.
    pub denied: Option<String>,
}

/// Which events to show; every condition must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the function's name.
    pub name: Option<String>,
    /// The class.
    pub class: Option<Class>,
    /// Only those in which something was refused.
    pub denied: bool,
    /// From this event on.
    pub from: Option<Seq>,
    /// Up to this event.
    pub to: Option<Seq>,
}

impl Filter {
    fn takes(&self, event: &EventInfo) -> bool {
        self.name.as_ref().is_none_or(|part| event.name.contains(part.as_str()))
            && self.class.is_none_or(|class| class == event.class)
            && (!self.denied || event.is_denied())
            && self.from.is_none_or(|from| event.seq >= from)
            && self.to.is_none_or(|to| event.seq <= to)
    }
}

/// What a list shows of `run`.
pub fn run_info(home: &Home, run: RunId) -> Result<RunInfo> {
    let mut info = RunInfo {
        run,
        what: String::new(),
        target: String::new(),
        started_unix_ms: None,
        ended_unix_ms: None,
        outcome: None,
        is_running: ledger::is_running(&**home.storage(), run)?,
        head: Head::START,
        events: 0,
        ticks: 0,
        denied: 0,
        dropped_bytes: 0,
    };
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    while let Some(entry) = reader.next()? {
        info.add(entry);
    }
    info.head = reader.head();
    if let Some(Tail::Open { dropped_bytes }) = reader.tail() {
        info.dropped_bytes = dropped_bytes;
    }
    Ok(info)
}

impl RunInfo {
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Header(header) => {
                if let Some(Node::Text(what)) = header.get("what") {
                    self.what.clone_from(what);
                }
            }
            Entry::Note(fields) => self.add_note(&fields),
            Entry::Event(call, ret) => {
                self.events += 1;
                self.ticks = self.ticks.max(call.tick);
                self.denied += u64::from(ret.denied.is_some() || is_denial(&ret.answer));
            }
            Entry::Begin(call) => {
                self.events += 1;
                self.ticks = self.ticks.max(call.tick);
            }
            Entry::End(_, ret) => self.denied += u64::from(ret.denied.is_some()),
            Entry::Close { outcome, ticks, .. } => {
                self.ticks = ticks;
                self.outcome = Some(outcome);
            }
            Entry::Name(..) | Entry::Mark { .. } => {}
        }
    }

    fn add_note(&mut self, fields: &[(String, Node)]) {
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("started_unix_ms", Node::Int(ms)) => self.started_unix_ms = u64::try_from(*ms).ok(),
                ("ended_unix_ms", Node::Int(ms)) => self.ended_unix_ms = u64::try_from(*ms).ok(),
                ("target", Node::Text(text)) => self.target.clone_from(text),
                _ => {}
            }
        }
    }
}

/// The events of `run` that `filter` takes, in order.
pub fn events(home: &Home, run: RunId, filter: &Filter) -> Result<Vec<EventInfo>> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let mut names: Vec<String> = Vec::new();
    // Events that began and have not ended, and whether the filter takes them so far.
    let mut open: Vec<EventInfo> = Vec::new();
    let mut events = Vec::new();
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Name(_, name) => names.push(name),
            Entry::Event(call, ret) => {
                events.extend(Some(info(call, Some(ret), &names, open.len())).filter(|e| filter.takes(e)));
            }
            Entry::Begin(call) => open.push(info(call, None, &names, open.len())),
            Entry::End(_, ret) => {
                events.extend(open.pop().map(|event| event.answered(ret)).filter(|e| filter.takes(e)));
            }
            _ => {}
        }
    }
    events.extend(open.into_iter().filter(|event| filter.takes(event)));
    events.sort_by_key(|event| event.seq);
    Ok(events)
}

/// The events of `run` from `n` before `seq` to `n` after it, and those that `seq` happens inside of.
pub fn around(home: &Home, run: RunId, seq: Seq, n: u64) -> Result<Vec<EventInfo>> {
    let (from, to) = (seq.saturating_sub(n), seq.saturating_add(n));
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let mut names: Vec<String> = Vec::new();
    let mut open: Vec<EventInfo> = Vec::new();
    let (mut events, mut outer): (Vec<EventInfo>, Vec<Seq>) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next()? {
        let call = match &entry {
            Entry::Event(call, _) | Entry::Begin(call) => Some(call.seq),
            _ => None,
        };
        if call == Some(seq) {
            outer = open.iter().map(|event| event.seq).collect();
        }
        let is_near = |event: &EventInfo| (from..=to).contains(&event.seq) || outer.contains(&event.seq);
        match entry {
            Entry::Name(_, name) => names.push(name),
            Entry::Event(call, ret) => {
                events.extend(Some(info(call, Some(ret), &names, open.len())).filter(is_near));
            }
            Entry::Begin(call) => open.push(info(call, None, &names, open.len())),
            Entry::End(_, ret) => {
                events.extend(open.pop().map(|event| event.answered(ret)).filter(is_near));
            }
            _ => {}
        }
    }
    let is_near = |event: &EventInfo| (from..=to).contains(&event.seq) || outer.contains(&event.seq);
    events.extend(open.into_iter().filter(is_near));
    events.sort_by_key(|event| event.seq);
    Ok(events)
}

/// How many events `run` has.
pub fn count(home: &Home, run: RunId) -> Result<u64> {
    Ok(run_info(home, run)?.events)
}

pub(crate) fn info(call: Call, ret: Option<Return>, names: &[String], depth: usize) -> EventInfo {
    let name = usize::try_from(call.name).ok().and_then(|i| names.get(i)).cloned().unwrap_or_default();
    let event = EventInfo {
        seq: call.seq,
        parent: call.parent,
        depth,
        name,
        class: call.class,
        tick: call.tick,
        request: call.request,
        answer: None,
        grant: None,
        denied: None,
    };
    match ret {
        Some(ret) => event.answered(ret),
        None => event,
    }
}

/// Whether a call ended because no grant allows it.
fn is_denial(answer: &std::result::Result<Body, Outcome>) -> bool {
    matches!(answer, Err(Outcome::Abort { kind: AbortKind::Denied, .. }))
}

impl EventInfo {
    /// Whether something was refused: a part of it, or all.
    fn is_denied(&self) -> bool {
        self.denied.is_some() || self.answer.as_ref().is_some_and(is_denial)
    }

    pub(crate) fn answered(mut self, ret: Return) -> Self {
        (self.answer, self.grant, self.denied) = (Some(ret.answer), ret.grant, ret.denied);
        self
    }
}

/// An entry in one line, for the two sides of a divergence.
pub fn one_line(entry: &Entry, name: &dyn Fn(NameId) -> String) -> String {
    let call = |call: &Call| {
        format!("`{}`{} at tick {}", quote(&name(call.name)), show_body(&call.request), call.tick)
    };
    match entry {
        Entry::Header(_) => "a header".into(),
        Entry::Name(_, name) => format!("the first call of `{}`", quote(name)),
        Entry::Event(c, ret) => format!("{} giving {}", call(c), show_answer(&ret.answer)),
        Entry::Begin(c) => call(c),
        Entry::End(seq, ret) => format!("the end of event {seq} giving {}", show_answer(&ret.answer)),
        Entry::Close { outcome, ticks, events } => {
            format!("the end of the run after {events} events and {ticks} ticks: {}", show_outcome(outcome))
        }
        Entry::Mark { .. } | Entry::Note(_) => "a note".into(),
    }
}

fn show_answer(answer: &std::result::Result<Body, Outcome>) -> String {
    match answer {
        Ok(body) => show_body(body),
        Err(outcome) => show_outcome(outcome),
    }
}

/// An outcome in words.
pub fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        // The result of a call is its WAVE text, not a canonical form.
        Outcome::Done(Body::Inline(text)) => format!("done {}", quote(&String::from_utf8_lossy(text))),
        Outcome::Done(body) => format!("done {}", show_body(body)),
        Outcome::Exit(status) => format!("exit {status}"),
        Outcome::Fault { kind, message } => format!("{}: {}", quote(kind), quote(message)),
        Outcome::Abort { kind, message } => format!("{}: {}", kind.word(), quote(message)),
    }
}

/// A body in a few words: its value if it is inline, else its size and name.
pub fn show_body(body: &Body) -> String {
    match body {
        Body::Inline(bytes) => show_bytes(bytes),
        Body::Stored { cid, len_bytes } | Body::Digest { cid, len_bytes } => {
            format!("[{len_bytes} bytes …{}]", cid.short())
        }
    }
}

/// The same, and its value also if the store keeps it and it is short.
pub fn show_kept(body: &Body, store: &Store) -> String {
    match body {
        Body::Stored { cid, len_bytes } if *len_bytes <= SHOWN_MAX_BYTES => match store.get(cid) {
            Ok(Some(bytes)) => show_bytes(&bytes),
            _ => show_body(body),
        },
        _ => show_body(body),
    }
}

/// A longer body is shown by its name.
const SHOWN_MAX_BYTES: u64 = 1024;

/// Events by function, for a summary.
pub fn by_name(events: &[EventInfo]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.name.clone()).or_default() += 1;
    }
    counts
}

//! Where two runs part, and what led to it. Both records are read side by side and neither is kept.
//!
//! Two runs of one program that were started alike and were answered alike do alike: that is what the sandbox is for.
//! So the first difference tells its cause. If it is in an answer of the world, it is the world; if it is in a
//! question, the runs were started differently, or the sandbox leaks something that it should not.

use std::collections::VecDeque;
use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::fault::Result;
use vac_core::ledger::{Body, Class, Entry, Head, Header, Outcome, Reader, Return, RunId, Seq};

use crate::home::Home;
use crate::journal::{REVOKE_EVENT, is_outside};
use crate::report::{self, EventInfo};
use crate::worlds::Worlds;

/// Answers of the world that are kept for what led to a difference.
const READS_SHOWN: usize = 3;

/// How two runs compare.
#[derive(Debug)]
pub struct Bisected {
    /// The runs.
    pub runs: [RunId; 2],
    /// Whether one engine made both; otherwise ticks are not compared.
    pub same_engine: bool,
    /// Fields of the headers that differ.
    pub header: Vec<HeaderField>,
    /// Events that are equal.
    pub equal_events: u64,
    /// The last of those, at most as many as were asked for.
    pub before: Vec<EventInfo>,
    /// The last equal answers of the world.
    pub reads: Vec<EventInfo>,
    /// The first difference, if there is one after the headers.
    pub difference: Option<Difference>,
    /// The head of both, if they have one.
    pub head: Option<Head>,
}

/// A field of the headers, and what each has there.
#[derive(Debug, Clone)]
pub struct HeaderField {
    /// The field.
    pub name: String,
    /// What each run has.
    pub sides: [Option<Node>; 2],
}

/// The first difference.
#[derive(Debug)]
pub struct Difference {
    /// What each run has there.
    pub sides: [Side; 2],
    /// What of it differs, if both have an event: `function`, `class`, `parent`, `tick`, `request`, `answer`, `grant`,
    /// `denied`.
    pub fields: Vec<&'static str>,
    /// What made it.
    pub cause: Cause,
}

/// What one run has where the two part.
#[derive(Debug)]
pub enum Side {
    /// An event; one without an answer was only about to happen.
    Event(Box<EventInfo>),
    /// The end of the run.
    Close {
        /// How it ended.
        outcome: Outcome,
        /// Ticks it used.
        ticks: u64,
        /// Events it had.
        events: u64,
    },
    /// Nothing: its process was killed there, or still runs.
    Open,
}

/// Why two runs part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The world gave another answer to the same question.
    World,
    /// The runs were started differently.
    Start,
    /// The operator or the machine ended one of them, or took a grant back.
    Operator,
    /// Equal answers until there, and another question, or another answer of the sandbox itself: it leaks something.
    Leak,
}

impl Cause {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Start => "start",
            Self::Operator => "operator",
            Self::Leak => "leak",
        }
    }
}

impl Bisected {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.difference.is_none() && self.header.is_empty()
    }
}

/// What a record has next.
enum Step {
    Begin(EventInfo),
    Event(EventInfo),
    End(EventInfo),
    Close { outcome: Outcome, ticks: u64, events: u64 },
    Open,
}

/// One of the two records.
struct Record {
    reader: Reader,
    header: Header,
    names: Vec<String>,
    open: Vec<EventInfo>,
}

/// Compares the runs `a` and `b`, with `n` equal events before the first difference.
pub fn bisect(home: &Home, [a, b]: [RunId; 2], n: usize) -> Result<Bisected> {
    let (mut one, mut two) = (Record::open(home, a)?, Record::open(home, b)?);
    let same_engine = one.header.get("engine") == two.header.get("engine");
    let mut bisected = Bisected {
        runs: [a, b],
        same_engine,
        header: differing_fields(&one.header, &two.header),
        equal_events: 0,
        before: Vec::new(),
        reads: Vec::new(),
        difference: None,
        head: None,
    };
    let (mut before, mut reads) = (Last::new(n), Last::new(READS_SHOWN));
    let (mut worlds, store) = (Worlds::default(), home.store());
    loop {
        let (left, right) = (one.next()?, two.next()?);
        let fields = differing(&left, &right, same_engine);
        if !fields.is_empty() {
            let holds = |event: &EventInfo| worlds.is_asked(&event.name, &event.request, store);
            let cause = match () {
                () if by_operator(&left) || by_operator(&right) => Cause::Operator,
                () if is_worlds(&left, &fields, holds) => Cause::World,
                () if !bisected.header.is_empty() => Cause::Start,
                () => Cause::Leak,
            };
            bisected.difference = Some(Difference { sides: [left.into(), right.into()], fields, cause });
            break;
        }
        if let Step::Event(event) | Step::End(event) = &left
            && let Some(Ok(answer)) = &event.answer
        {
            worlds.see(&event.name, event.class, &event.request, answer, store);
        }
        if !keep(left, &mut before, &mut reads) {
            break;
        }
    }
    let (head, other) = (one.reader.head(), two.reader.head());
    bisected.head = (bisected.difference.is_none() && head == other).then_some(head);
    bisected.equal_events = before.seen;
    (bisected.before, bisected.reads) = (before.into_events(), reads.into_events());
    if let Some(seq) = bisected.difference.as_ref().and_then(seq_of) {
        // One whose answers differ was begun by both.
        bisected.before.retain(|event| event.seq != seq);
    }
    Ok(bisected)
}

/// Remembers a step that both have. Whether more may follow.
fn keep(step: Step, before: &mut Last, reads: &mut Last) -> bool {
    match step {
        Step::Begin(event) => before.push(event),
        Step::Event(event) => {
            if event.class == Class::Read {
                reads.push(event.clone());
            }
            before.push(event);
        }
        Step::End(event) => before.answer(event),
        Step::Close { .. } | Step::Open => return false,
    }
    true
}

impl Record {
    fn open(home: &Home, run: RunId) -> Result<Self> {
        let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
        let header = match reader.next()? {
            Some(Entry::Header(header)) => header,
            // Killed before anything was durable: it has nothing to compare.
            _ => Header::default(),
        };
        Ok(Self { reader, header, names: Vec::new(), open: Vec::new() })
    }

    fn next(&mut self) -> Result<Step> {
        loop {
            let depth = self.open.len();
            return Ok(match self.reader.next()? {
                None => Step::Open,
                Some(Entry::Name(_, name)) => {
                    self.names.push(name);
                    continue;
                }
                Some(Entry::Event(call, ret)) => {
                    Step::Event(report::info(call, Some(ret), &self.names, depth))
                }
                Some(Entry::Begin(call)) => {
                    let event = report::info(call, None, &self.names, depth);
                    self.open.push(event.clone());
                    Step::Begin(event)
                }
                Some(Entry::End(_, ret)) => match self.end(ret) {
                    Some(event) => Step::End(event),
                    None => continue,
                },
                Some(Entry::Close { outcome, ticks, events }) => Step::Close { outcome, ticks, events },
                Some(Entry::Header(_) | Entry::Mark { .. } | Entry::Note(_)) => continue,
            });
        }
    }

    fn end(&mut self, ret: Return) -> Option<EventInfo> {
        Some(self.open.pop()?.answered(ret))
    }
}

impl From<Step> for Side {
    fn from(step: Step) -> Self {
        match step {
            Step::Begin(event) | Step::Event(event) | Step::End(event) => Self::Event(Box::new(event)),
            Step::Close { outcome, ticks, events } => Self::Close { outcome, ticks, events },
            Step::Open => Self::Open,
        }
    }
}

/// The last events of many.
struct Last {
    events: VecDeque<EventInfo>,
    max: usize,
    seen: u64,
}

impl Last {
    fn new(max: usize) -> Self {
        Self { events: VecDeque::new(), max, seen: 0 }
    }

    fn push(&mut self, event: EventInfo) {
        self.seen += 1;
        self.events.push_back(event);
        if self.events.len() > self.max {
            self.events.pop_front();
        }
    }

    /// An event that began before has its answer.
    fn answer(&mut self, event: EventInfo) {
        if let Some(begun) = self.events.iter_mut().find(|begun| begun.seq == event.seq) {
            *begun = event;
        }
    }

    fn into_events(self) -> Vec<EventInfo> {
        self.events.into()
    }
}

fn differing_fields(a: &Header, b: &Header) -> Vec<HeaderField> {
    let mut names: Vec<&str> = a.fields.iter().chain(&b.fields).map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let field = |name: &str| HeaderField {
        name: name.to_owned(),
        sides: [a.get(name).cloned(), b.get(name).cloned()],
    };
    names.into_iter().map(field).filter(|field| field.sides[0] != field.sides[1]).collect()
}

/// What of two steps differs; nothing if they are equal.
fn differing(left: &Step, right: &Step, same_engine: bool) -> Vec<&'static str> {
    match (left, right) {
        (Step::Begin(a), Step::Begin(b)) => differing_calls(a, b, same_engine),
        (Step::Event(a), Step::Event(b)) => {
            let mut fields = differing_calls(a, b, same_engine);
            fields.extend(differing_answers(a, b, true));
            fields
        }
        (Step::End(a), Step::End(b)) => {
            // The answer of a kernel has its ticks in it.
            let mut fields = differing_answers(a, b, same_engine || a.class != Class::Kernel);
            fields.extend((a.seq != b.seq).then_some("event"));
            fields
        }
        (
            Step::Close { outcome: a, ticks: t, events: n },
            Step::Close { outcome: b, ticks: u, events: m },
        ) => {
            let pairs = [("outcome", a != b), ("ticks", same_engine && t != u), ("events", n != m)];
            pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
        }
        (Step::Open, Step::Open) => Vec::new(),
        _ => vec!["kind"],
    }
}

fn differing_calls(a: &EventInfo, b: &EventInfo, same_engine: bool) -> Vec<&'static str> {
    let pairs = [
        ("function", a.name != b.name),
        ("class", a.class != b.class),
        ("parent", a.parent != b.parent),
        ("tick", same_engine && a.tick != b.tick),
        ("request", !same_bytes(&a.request, &b.request)),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn differing_answers(a: &EventInfo, b: &EventInfo, compares_bytes: bool) -> Vec<&'static str> {
    let differs = match (&a.answer, &b.answer) {
        (Some(Ok(a)), Some(Ok(b))) => compares_bytes && !same_bytes(a, b),
        (a, b) => a != b,
    };
    let pairs = [("answer", differs), ("grant", a.grant != b.grant), ("denied", a.denied != b.denied)];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Whether two bodies name the same bytes, wherever they are kept.
fn same_bytes(a: &Body, b: &Body) -> bool {
    let name = |body: &Body| match body {
        Body::Inline(bytes) => Err(bytes.clone()),
        Body::Stored { cid, len_bytes } | Body::Digest { cid, len_bytes } => Ok((*cid, *len_bytes)),
    };
    name(a) == name(b)
}

/// Whether both asked for the same, and the world gave an answer to each; `holds` says whether it gave the host what an
/// answer of the host's own is about.
fn is_worlds(left: &Step, fields: &[&str], holds: impl Fn(&EventInfo) -> bool) -> bool {
    let asked_alike =
        !fields.iter().any(|f| ["function", "class", "parent", "tick", "request", "kind"].contains(f));
    asked_alike
        && match left {
            Step::Event(event) | Step::End(event) => {
                matches!(event.class, Class::Read | Class::Effect)
                    || (event.class == Class::Local && holds(event))
            }
            _ => false,
        }
}

/// Whether somebody outside made this step.
fn by_operator(step: &Step) -> bool {
    let by_abort = |outcome: &Outcome| matches!(outcome, Outcome::Abort { kind, .. } if is_outside(*kind));
    match step {
        Step::Open => true,
        Step::Close { outcome, .. } => by_abort(outcome),
        Step::Event(event) | Step::End(event) => {
            event.name == REVOKE_EVENT || matches!(&event.answer, Some(Err(outcome)) if by_abort(outcome))
        }
        Step::Begin(_) => false,
    }
}

/// The number of the event where two runs part, if both or one of them has one there.
pub fn seq_of(difference: &Difference) -> Option<Seq> {
    difference.sides.iter().find_map(|side| match side {
        Side::Event(event) => Some(event.seq),
        Side::Close { .. } | Side::Open => None,
    })
}

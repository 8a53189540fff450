//! Running again from the ledger alone: no network, no policy, no original files.

use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Divergence, Error, HostAbort, Result};
use vac_core::ledger::{Entry, Head, Header, Outcome, Reader, RunId, Tail};
use vac_host::Watch;
use vac_host::engine::ENGINE;

use crate::calls::Stops;
use crate::grants;
use crate::home::Home;
use crate::journal::{Journal, RECORD_ENDS, is_outside};
use crate::limits::{Limit, Limits};
use crate::run::{HEADER_FORMAT, What, finish, recorded_args, seed_bytes};
use crate::script;
use crate::session::{Ask, Outside, Session, With};
use crate::snapshot::{self, At, Listed, Snapshot, Taken, Taker, nearest};
use crate::target::{Programs, Target};

/// How a replay went. One that differs is an error, [`Divergence`], instead.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The run.
    pub run: RunId,
    /// The head of the record.
    pub head: Head,
    /// Whether the replay's own head is the same; it is compared only within one engine.
    pub same_engine: bool,
    /// Events that were compared.
    pub events: u64,
    /// Ticks that were used.
    pub ticks: u64,
    /// How the run ended; `None` if its record has no end.
    pub outcome: Option<Outcome>,
    /// Host time the replay took.
    pub time_ns: u64,
    /// The snapshot that it began at, if it did not begin at the start.
    pub from: Option<Listed>,
    /// Snapshots that were of no use, and why.
    pub unusable: Vec<String>,
    /// The snapshots that it left.
    pub snapshots: Taken,
}

/// Where a replay begins, and what it leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// Begin at the last snapshot that is not behind this, instead of the start.
    pub from: Option<At>,
    /// Leave a snapshot after so many ticks, where there can be one.
    pub snapshot_ticks: Option<u64>,
    /// Of a run of calls: end behind the call that has this tick.
    pub until: Option<u64>,
}

/// What the record says of itself, read and checked once before anything runs.
struct Record {
    header: Header,
    head: Head,
    events: u64,
    ticks: Option<u64>,
    outcome: Option<Outcome>,
}

/// Replays `run` from its start.
pub fn replay(home: &Home, run: RunId, outside: Outside) -> Result<Replayed> {
    replay_once(home, run, None, How::default(), &outside)
}

/// Replays `run`. A snapshot that cannot be used is named, and the replay begins at an earlier one or at the
/// start: what it says about the run never rests on one that led to something else.
pub fn replay_as(home: &Home, run: RunId, how: How, outside: Outside) -> Result<Replayed> {
    let mut unusable = Vec::new();
    let mut from = match how.from.map(|at| nearest(home, run, at)) {
        Some(Ok(found)) => found,
        Some(Err(error)) => {
            unusable.push(error.to_string());
            None
        }
        None => None,
    };
    while let Some(listed) = from {
        let replayed = snapshot::load(home, run, &listed)
            .and_then(|snapshot| replay_once(home, run, Some((listed, snapshot)), how, &outside));
        match replayed {
            Err(error) if snapshot::is_of_snapshot(&error) => {
                unusable.push(error.to_string());
                // If it cannot be forgotten, it will be found unusable again.
                let _ = snapshot::forget(home, run, &listed.cid);
                from = nearest(home, run, At::Event(listed.events.saturating_sub(1))).unwrap_or_default();
            }
            done => return done.map(|replayed| Replayed { unusable, ..replayed }),
        }
    }
    let replayed = replay_once(home, run, None, how, &outside)?;
    Ok(Replayed { unusable, ..replayed })
}

fn replay_once(
    home: &Home,
    run: RunId,
    from: Option<(Listed, Snapshot)>,
    how: How,
    outside: &Outside,
) -> Result<Replayed> {
    let mut outside = outside.clone();
    let record = read(home, run)?;
    let same_engine = text(&record.header, "engine")? == ENGINE;
    check_format(&record.header)?;
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    reader.next()?;
    let journal = Journal::replaying(record.header.clone(), reader, Arc::clone(home.store()), same_engine)?;
    let journal = Arc::new(journal);
    let started_ns = outside.clock.monotonic_ns();
    let clock = Arc::clone(&outside.clock);
    outside.console = Arc::new(std::sync::Mutex::new(vac_host::NoConsole));
    outside.watch = Arc::new(RecordWatch { journal: Arc::clone(&journal), operator: outside.watch });
    let (listed, from) = from.unzip();
    let taker = match (how.snapshot_ticks, same_engine) {
        (Some(ticks), true) => {
            Some(Taker::new(home, run, programs_of(&record.header)?, ticks, from.as_ref())?)
        }
        _ => None,
    };
    if let Some(from) = &from {
        from.check(&programs_of(&record.header)?)?;
    }
    let mut stops = Stops { from, taker, until: how.until, ..Stops::default() };
    let replayed = run_again(home, run, &record, &journal, outside, &mut stops);
    let snapshots = match (stops.taker, &replayed) {
        (Some(taker), made) if made.is_ok() || stops.is_reached => taker.finish(),
        _ => Taken::default(),
    };
    let time_ns = clock.monotonic_ns().saturating_sub(started_ns);
    let done = |events, ticks| Replayed {
        run,
        head: record.head,
        same_engine,
        events,
        ticks,
        outcome: record.outcome.clone(),
        time_ns,
        from: listed,
        unusable: Vec::new(),
        snapshots: snapshots.clone(),
    };
    match replayed {
        Ok((head, ticks)) => {
            if head != record.head {
                let (recorded, replayed) = (format!("the head {}", record.head), format!("the head {head}"));
                return Err(Box::new(Divergence { seq: record.events, recorded, replayed }).into());
            }
            Ok(done(record.events, ticks))
        }
        Err(_) if stops.is_reached => Ok(done(journal.events(), how.until.unwrap_or_default())),
        Err(Error::Abort(abort)) if record.outcome.is_none() && abort.message == RECORD_ENDS => {
            Ok(done(journal.events(), 0))
        }
        Err(error) => Err(error),
    }
}

/// Stops a replay where its record stops: what ended the recorded run came from outside, and
/// nothing inside would end a loop that makes no calls.
struct RecordWatch {
    journal: Arc<Journal>,
    operator: Arc<dyn Watch>,
}

impl Watch for RecordWatch {
    fn stop(&self) -> Option<HostAbort> {
        self.operator.stop().or_else(|| self.journal.record_is_over())
    }
}

fn read(home: &Home, run: RunId) -> Result<Record> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let header = match reader.next()? {
        Some(Entry::Header(header)) => header,
        _ => {
            let message = format!("run `{run}` was killed before anything of it was durable");
            return Err(HostAbort::new(AbortKind::Interrupt, message).into());
        }
    };
    let (mut events, mut close) = (0, None);
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Event(..) | Entry::Begin(_) => events += 1,
            Entry::Close { outcome, ticks, .. } => close = Some((outcome, ticks)),
            _ => {}
        }
    }
    debug_assert!(close.is_some() == (reader.tail() == Some(Tail::Closed)));
    let (outcome, ticks) = close.unzip();
    Ok(Record { header, head: reader.head(), events, ticks, outcome })
}

pub(crate) fn check_format(header: &Header) -> Result<()> {
    match header.get("format") {
        Some(Node::Int(HEADER_FORMAT)) => Ok(()),
        other => Err(wrong("format", HEADER_FORMAT, other)),
    }
}

fn run_again(
    home: &Home,
    run: RunId,
    record: &Record,
    journal: &Arc<Journal>,
    outside: Outside,
    stops: &mut Stops<'_>,
) -> Result<(Head, u64)> {
    let header = &record.header;
    let target = Target::from_store(home, &link(header, "target")?).map_err(|_| {
        let cid = header.get("target").cloned();
        Corrupt::new(
            "record",
            format!("run `{run}`"),
            "its program in the store",
            format!("no object {cid:?}"),
        )
    })?;
    let seed = seed_bytes(int(header, "seed")?);
    let limits = limits(record)?;
    let programs = Programs::new(&limits, &outside);
    let mut session = Session::replay(home, programs, Arc::clone(journal), run, seed, limits, outside);
    let trees = grants::trees_to_keep(&grants::in_header(header));
    let what = text(header, "what")?;
    let finished = match What::from_word(&what) {
        Some(What::Script) => script::replay(session, &target, header)?,
        Some(what @ (What::Run | What::Serve)) => {
            let compiled = session.programs.compile_linked(home, &target, &recorded_links(home, header)?)?;
            let (args, env) = (texts(header, "args")?, pairs(header, "env")?);
            let name = args.first().cloned().unwrap_or_default();
            let ask = match what {
                What::Serve => Ask::Serve { args: &args, env: &env },
                _ => Ask::Command { args: &args, env: &env },
            };
            let gave = session.kernel(&name, &compiled, &ask, With::default());
            let gave = session.keep_trees(&trees, None, gave);
            finish(session, gave)?
        }
        Some(What::Call) if header.get("calls").is_some() => {
            let links = recorded_links(home, header)?;
            let compiled = session.programs.compile_linked(home, &target, &links)?;
            let texts = texts(header, "calls")?;
            crate::calls::replay(session, (&target, &links), &compiled, &texts, &trees, stops)?
        }
        // Before there could be several calls, a header had the parts of its only one.
        Some(What::Call) => {
            let compiled = session.programs.compile(home, &target)?;
            let export = text(header, "export")?;
            let args = recorded_args(&session.programs, &compiled, &export, &text(header, "arguments")?)?;
            let gave = session.kernel(
                &target.name,
                &compiled,
                &Ask::Call { export: &export, args: &args },
                With::default(),
            );
            let gave = session.keep_trees(&trees, None, gave);
            finish(session, gave)?
        }
        None => return Err(wrong("what", "run, serve, call or script", header.get("what"))),
    };
    Ok((finished.summary.head, finished.summary.ticks))
}

/// The program of a run and what is linked to it.
pub(crate) fn programs_of(header: &Header) -> Result<Vec<Cid>> {
    let links = match header.get("links") {
        Some(Node::List(items)) => items.as_slice(),
        _ => &[],
    };
    let links = links.iter().filter_map(|item| if let Node::Link(cid) = item { Some(*cid) } else { None });
    Ok(std::iter::once(link(header, "target")?).chain(links).collect())
}

/// The linked programs, which the header names and the store has.
pub(crate) fn recorded_links(home: &Home, header: &Header) -> Result<Vec<Target>> {
    let items = match header.get("links") {
        None => return Ok(Vec::new()),
        Some(Node::List(items)) => items,
        other => return Err(wrong("links", "a list of links", other)),
    };
    let link = |item: &Node| match item {
        Node::Link(cid) => Target::from_store(home, cid).map_err(|_| {
            Corrupt::new("record", "field `links`", format!("the object `{cid}` in the store"), "nothing")
                .into()
        }),
        other => Err(wrong("links", "a link", Some(other))),
    };
    items.iter().map(link).collect()
}

/// The limits of the record; where its operator ended it, the tick at which that happened, since
/// nothing else would end a replay there.
fn limits(record: &Record) -> Result<Limits> {
    let field = |name: &str| record.header.get(name).ok_or_else(|| wrong(name, "a limit", None));
    let (ticks, memory) = (field("ticks_max")?, field("memory_max_bytes")?);
    let listed = record.header.get("limits");
    let mut limits = Limits::from_nodes(ticks, memory, listed)
        .ok_or_else(|| wrong("limits", "limits that a run can have", listed))?;
    if let Some(Outcome::Abort { kind, .. }) = &record.outcome
        && is_outside(*kind)
    {
        limits.set(Limit::Ticks, record.ticks)?;
    }
    Ok(limits)
}

fn wrong(field: &str, expected: impl std::fmt::Display, got: Option<&Node>) -> Error {
    let got = got.map_or_else(|| "nothing".to_owned(), |node| format!("{node:?}"));
    Corrupt::new("header of a run", format!("field `{field}`"), expected, got).into()
}

pub(crate) fn text(header: &Header, field: &str) -> Result<String> {
    match header.get(field) {
        Some(Node::Text(text)) => Ok(text.clone()),
        other => Err(wrong(field, "text", other)),
    }
}

pub(crate) fn link(header: &Header, field: &str) -> Result<Cid> {
    match header.get(field) {
        Some(Node::Link(cid)) => Ok(*cid),
        other => Err(wrong(field, "a link", other)),
    }
}

pub(crate) fn int(header: &Header, field: &str) -> Result<u64> {
    match header.get(field) {
        Some(Node::Int(int)) => u64::try_from(*int).map_err(|_| wrong(field, "a number", header.get(field))),
        other => Err(wrong(field, "a number", other)),
    }
}

pub(crate) fn texts(header: &Header, field: &str) -> Result<Vec<String>> {
    let bad = || wrong(field, "a list of text", header.get(field));
    match header.get(field) {
        Some(Node::List(items)) => items
            .iter()
            .map(|item| if let Node::Text(text) = item { Ok(text.clone()) } else { Err(bad()) })
            .collect(),
        _ => Err(bad()),
    }
}

pub(crate) fn pairs(header: &Header, field: &str) -> Result<Vec<(String, String)>> {
    let bad = || wrong(field, "a list of pairs of text", header.get(field));
    let Some(Node::List(items)) = header.get(field) else { return Err(bad()) };
    let pair = |item: &Node| match item {
        Node::List(pair) => match pair.as_slice() {
            [Node::Text(a), Node::Text(b)] => Ok((a.clone(), b.clone())),
            _ => Err(bad()),
        },
        _ => Err(bad()),
    };
    items.iter().map(pair).collect()
}

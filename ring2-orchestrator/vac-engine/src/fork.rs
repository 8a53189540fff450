//! Another future of a run: its past from the record, and from an event on new calls or new grants, live.
//!
//! The past is run again, each answer from the record, or passed over if a snapshot is near and the operator trusts it; what
//! stands behind the guest's handles is made again without any effect. So nothing of the past is done twice. From the event on
//! the run is like any other. Its ledger holds the past, too, and its header says `fork: [run, event]`
//! beside all that a run needs: it replays, verifies and can be forked without the run that it came from.
//!
//! Invariant: equal forks have equal heads; what a fork does before its event is what the run did.

use std::path::Path;
use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::fault::{Corrupt, Result, Usage, quote};
use vac_core::ledger::{Class, Entry, Field, Header, Reader, RunId};
use vac_host::Compiled;
use vac_host::engine::{ENGINE, Profile};

use crate::calls::{Live, Stops, Typed, make};
use crate::copies::Copies;
use crate::grants::{self, Grant};
use crate::home::Home;
use crate::journal::REVOKE_EVENT;
use crate::manifest::Manifest;
use crate::recording::Recording;
use crate::replay::{
    check_format, environment, int, link, pairs, profile, programs_of, recorded_links, text, texts,
};
use crate::run::{Finished, Keys, Request, What, command_fields, finish, header, note, seed_bytes, with};
use crate::session::{Ask, Outside, Session, With};
use crate::snapshot::{self, At, Snapshot};
use crate::target::{Programs, Target};

/// The event in which a guest is told its arguments.
const ARGUMENTS: &str = "wasi:cli/environment#get-arguments";

/// What a fork is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The event at which it leaves the run.
    pub event: u64,
    /// What comes then: calls of a run of calls; arguments of a command that was not told them yet.
    pub new: Vec<String>,
    /// What is allowed from then on.
    pub request: Request,
    /// Begin at a snapshot if one is near, whose state nothing checks. Else the past is run again.
    pub from_snapshot: bool,
}

/// How a fork went.
#[derive(Debug)]
pub struct Forked {
    /// The new run.
    pub finished: Finished,
    /// The event at which it left the other: an earlier one than was asked for, if that was inside of a call.
    pub event: u64,
    /// Events that were passed over because a snapshot stood behind them.
    pub passed: u64,
}

/// Starts another future of `run`.
pub fn fork(home: &Home, run: RunId, wanted: Wanted, outside: Outside) -> Result<Forked> {
    let old = header_of(home, run)?;
    let what = text(&old, "what")?;
    match What::from_word(&what) {
        Some(What::Call) if old.get("calls").is_some() => fork_calls(home, run, &old, wanted, outside),
        Some(What::Run) => fork_command(home, run, &old, wanted, outside),
        _ => {
            let message = format!("run `{run}` is a {what}, which cannot be forked");
            Err(Usage::new(message)
                .hint("runs of `vac call`, and of `vac run` with a program, can be")
                .into())
        }
    }
}

fn header_of(home: &Home, run: RunId) -> Result<Header> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let Some(Entry::Header(header)) = reader.next()? else {
        return Err(Usage::new(format!("run `{run}` has no header")).into());
    };
    check_format(&header)?;
    let (engine, profile) = (text(&header, "engine")?, text(&header, "profile")?);
    if engine != ENGINE || !Profile::named(&profile).is_some_and(Profile::rewrites) {
        let own = Profile::default().name();
        let message = format!("run `{run}` was recorded by {engine}, {profile}; this is {ENGINE}, {own}");
        return Err(Usage::new(message).hint("run it again with this one, and fork that").into());
    }
    Ok(header)
}

/// What the record says of the past.
#[derive(Default)]
struct Past {
    events: u64,
    /// Events in which a kernel was called or its handles were given up: where calls begin and end.
    boundaries: Vec<u64>,
    /// How many of them ended well.
    ended: usize,
    /// The target as it was typed.
    typed: Option<String>,
    names: Vec<String>,
}

/// What of the past matters to a fork at some event.
struct Before {
    /// The first event that told the guest its arguments.
    told: Option<u64>,
    /// Whether nothing happened but kernels and entropy.
    is_quiet: bool,
}

/// Reads all of the record.
fn past(home: &Home, run: RunId) -> Result<Past> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let mut past = Past::default();
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Name(_, name) => past.names.push(name),
            Entry::Event(call, _) => past.events = call.seq + 1,
            Entry::Begin(call) => {
                past.events = call.seq + 1;
                if call.parent.is_none() && call.class == Class::Kernel {
                    past.boundaries.push(call.seq);
                }
            }
            Entry::End(seq, ret) if past.boundaries.last() == Some(&seq) && ret.answer.is_ok() => {
                past.ended += 1
            }
            Entry::Note(fields) => {
                let typed = fields.into_iter().find(|(name, _)| name == "target");
                if let Some((_, Node::Text(text))) = typed {
                    past.typed.get_or_insert(text);
                }
            }
            _ => {}
        }
    }
    Ok(past)
}

impl Past {
    /// Reads what happened before `event`. A grant that was taken back by then cannot be had again.
    fn before(&self, home: &Home, run: RunId, event: u64) -> Result<Before> {
        let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
        let mut before = Before { told: None, is_quiet: true };
        while let Some(entry) = reader.next()? {
            let (Entry::Event(call, _) | Entry::Begin(call)) = entry else { continue };
            if call.seq >= event {
                break;
            }
            let name = usize::try_from(call.name).ok().and_then(|at| self.names.get(at));
            match name.map_or("", String::as_str) {
                REVOKE_EVENT => {
                    let message = format!("run `{run}` cannot be forked at event {event}");
                    let hint = format!("a grant was taken back at event {}: fork it before that", call.seq);
                    return Err(Usage::new(message).hint(hint).into());
                }
                ARGUMENTS => before.told = before.told.or(Some(call.seq)),
                _ => {}
            }
            before.is_quiet &= matches!(call.class, Class::Computed | Class::Kernel);
        }
        Ok(before)
    }

    /// The calls that a fork at `event` takes over, and the event at which it leaves: where the call begins that
    /// has `event` in it.
    fn calls_before(&self, event: u64, calls: usize) -> (usize, u64) {
        let begun = self.boundaries.iter().take_while(|begin| **begin <= event).count();
        let whole = if event >= self.events { begun } else { begun.saturating_sub(1) };
        let whole = whole.min(calls).min(self.ended);
        (whole, self.boundaries.get(whole).copied().unwrap_or(self.events))
    }
}

/// Fields of a header that only a fork has.
fn origin(run: RunId, event: u64) -> Field {
    ("fork".to_owned(), Node::List(vec![Node::Text(run.to_string()), Node::Int(i128::from(event))]))
}

/// What a fork takes over from its run, because its past was run with it.
fn inherit(home: &Home, old: &Header, request: Request) -> Result<Request> {
    if !request.secrets.is_empty() || old.get("secrets").is_some() {
        return Err(Usage::new("a run with secrets cannot be forked: their values are in no record").into());
    }
    let env = environment(old)?;
    for grant in &request.grants {
        if let Grant::Env { name, value } = grant
            && !env.contains(&(name.clone(), value.clone()))
        {
            let message =
                format!("a fork has the environment of its run, which has no `{}` like that", quote(name));
            return Err(Usage::new(message).hint("leave that grant out, or make a new run").into());
        }
    }
    let seed = int(old, "seed")?;
    let config = if old.get("config").is_some() { pairs(old, "config")? } else { Vec::new() };
    let recording = Recording::of(old).unwrap_or_default();
    Ok(Request {
        seed,
        config,
        links: recorded_links(home, old)?,
        recording,
        profile: profile(old)?,
        ..request
    })
}

/// A fork that is about to start.
struct Start {
    target: Target,
    request: Request,
    programs: Programs,
    compiled: Arc<Compiled>,
    past: Past,
}

impl Start {
    fn new(home: &Home, run: RunId, old: &Header, wanted: &Wanted, outside: &Outside) -> Result<Self> {
        let past = past(home, run)?;
        if wanted.event > past.events {
            let message = format!("run `{run}` has no event {}: they are 0 to {}", wanted.event, past.events);
            return Err(Usage::new(message)
                .hint(format!("`vac log {run}` shows them; the last is its end"))
                .into());
        }
        let mut target = Target::from_store(home, &link(old, "target")?)?;
        // What a person knows it by; nothing that is recorded has it.
        if let Some(typed) = &past.typed {
            let name = Path::new(typed).file_name().map(|name| name.to_string_lossy().into_owned());
            target.name = name.unwrap_or(target.name);
            target.place.clone_from(typed);
        }
        let request = inherit(home, old, wanted.request.clone())?;
        // A snapshot may be what it starts from.
        let mut programs = Programs::new(&request.limits, outside).under(request.profile).looking();
        let compiled = programs.compile_linked(home, &target, &request.links)?;
        if compiled.is_concurrent() {
            let message = format!("run `{run}` cannot be forked: functions of its program may be `async`");
            return Err(Usage::new(message).into());
        }
        Ok(Self { target, request, programs, compiled, past })
    }
}

fn fork_calls(home: &Home, run: RunId, old: &Header, wanted: Wanted, outside: Outside) -> Result<Forked> {
    let Start { target, request, programs, compiled, past } = Start::new(home, run, old, &wanted, &outside)?;
    let (done, event) = past.calls_before(wanted.event, texts(old, "calls")?.len());
    let before = past.before(home, run, event)?;
    let mut typed = Typed::first(home, old, &request.limits, done)?;
    let new = Typed::read_into(typed.files, home, &wanted.new, &request.limits)?;
    typed = Typed { texts: [typed.texts, new.texts].concat(), files: new.files, ..typed };
    if typed.texts.is_empty() {
        return Err(Usage::new("a fork before the first call needs calls of its own").into());
    }
    let prepared = typed.prepare(programs.engine()?, &compiled, done)?;
    let keys = keys(home, run, old, &target, &request)?;
    let copies = Copies::make(home, &keys.request.grants)?;
    let with = With {
        env: environment(old)?,
        exit_returns: typed.exit_returns,
        ..with(home, &keys.request, &copies, &outside)?
    };
    typed.keep(home, keys.request.recording)?;
    let mut fields = typed.fields(&with.env);
    fields.push(origin(run, event));
    let header = header(What::Call, &target.cid, &keys.request, keys.add_to(fields));
    let trees = grants::trees_to_keep(&grants::in_header(&header));
    check_trees(&trees, &before)?;
    let from =
        if wanted.from_snapshot && before.is_quiet { bare_snapshot(home, run, old, event) } else { None };
    let passed = from.as_ref().map_or(0, |from| from.place.events);
    let session = start(home, programs, &target, header, &keys, outside, (run, event))?;
    let live = Live::new(&target.name, &compiled, with, typed.files.clone());
    let mut stops = Stops { from, ..Stops::default() };
    let finished = typed.as_typed(make(session, live, &prepared, &trees, Some(&copies), &mut stops))?;
    Ok(Forked { finished, event, passed })
}

/// By the manifest that the run had, which need not be in the program.
fn keys(home: &Home, run: RunId, old: &Header, target: &Target, request: &Request) -> Result<Keys> {
    if request.ignores_manifest || old.get("manifest").is_none() {
        return Keys::of(home, target, request);
    }
    let cid = link(old, "manifest")?;
    let place = format!("the manifest `{cid}` of run `{run}`");
    let missing =
        || Corrupt::new("run", format!("`{run}`"), format!("the object `{cid}` in the store"), "nothing");
    let bytes = home.store().get(&cid)?.ok_or_else(missing)?;
    Keys::with(home, target, request, Some(Manifest::parse(&bytes, &place)?))
}

/// A snapshot that the host can go on from: of an instance that never had a handle.
fn bare_snapshot(home: &Home, run: RunId, old: &Header, event: u64) -> Option<Snapshot> {
    let listed = snapshot::nearest(home, run, At::Event(event)).ok()??;
    let snapshot = snapshot::load(home, run, &listed).ok()?;
    snapshot.check(profile(old).ok()?, &programs_of(old).ok()?).ok()?;
    snapshot.check_pages(home).ok()?;
    Some(snapshot).filter(|snapshot| snapshot.state.is_bare && snapshot.made == 0)
}

/// What a past wrote to the copy of a tree is not in the copy that the fork gets.
fn check_trees(trees: &[(u32, String)], before: &Before) -> Result<()> {
    if trees.is_empty() || before.is_quiet {
        return Ok(());
    }
    Err(Usage::new("a fork behind the first event cannot change a tree: its past may have").into())
}

fn fork_command(home: &Home, run: RunId, old: &Header, wanted: Wanted, outside: Outside) -> Result<Forked> {
    let event = wanted.event;
    let Start { target, request, programs, compiled, past } = Start::new(home, run, old, &wanted, &outside)?;
    let before = past.before(home, run, event)?;
    let (mut args, env) = (texts(old, "args")?, environment(old)?);
    if !wanted.new.is_empty() {
        if let Some(told) = before.told {
            let message =
                format!("event {told} told the program its arguments, so they cannot be others now");
            return Err(Usage::new(message).hint(format!("`--event {told}` forks before that")).into());
        }
        args.truncate(1);
        args.extend(wanted.new);
    }
    let keys = keys(home, run, old, &target, &request)?;
    let copies = Copies::make(home, &keys.request.grants)?;
    let with = with(home, &keys.request, &copies, &outside)?;
    let mut fields = command_fields(&args, &env);
    fields.push(origin(run, event));
    let header = header(What::Run, &target.cid, &keys.request, keys.add_to(fields));
    let trees = grants::trees_to_keep(&grants::in_header(&header));
    check_trees(&trees, &before)?;
    let mut session = start(home, programs, &target, header, &keys, outside, (run, event))?;
    let name = args.first().cloned().unwrap_or_default();
    let gave = session.kernel(&name, &compiled, &Ask::Command { args: &args, env: &env }, with);
    let gave = session.keep_trees(&trees, Some(&copies), gave);
    Ok(Forked { finished: finish(session, gave)?, event, passed: 0 })
}

/// Starts the session, which follows the record up to the event.
fn start<'h>(
    home: &'h Home,
    programs: Programs,
    target: &Target,
    header: Header,
    keys: &Keys,
    outside: Outside,
    (run, event): (RunId, u64),
) -> Result<Session<'h>> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    reader.next()?;
    let (request, started) = (&keys.request, outside.clock.unix_ms());
    let (seed, limits) = (seed_bytes(request.seed), request.limits.clone());
    let session =
        Session::fork(home, programs, header, seed, limits, request.recording, outside, (reader, event))?;
    session.journal().note(note(started, target, request));
    keys.note(&session);
    Ok(session)
}

//! Running again from the ledger alone: no network, no policy, no original files.

use std::collections::BTreeMap;
use std::sync::Arc;

use vac_core::canon::{self, Node};
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Divergence, Error, HostAbort, Result, Usage, quote};
use vac_core::ledger::{self, Class, Entry, Head, Header, Outcome, Reader, Return, RunId, Seq, Tail};
use vac_host::engine::{ENGINE, Profile};
use vac_host::look::Frame;
use vac_host::{Compiled, Lens, Watch, inspect};

use crate::calls::{Stops, Typed};
use crate::grants;
use crate::header;
use crate::history::{Compared, History};
use crate::home::Home;
use crate::journal::{Journal, PROGRAM_EVENT, RECORD_ENDS, is_outside, kept};
use crate::limits::{Limit, Limits};
use crate::quirks;
use crate::recording::Recording;
use crate::run::{Finished, HEADER_FORMAT, What, finish, recorded_args, seed_bytes};
use crate::script;
use crate::seek::stop::{At, Stop};
use crate::session::{Ask, Outside, Session, With};
use crate::snapshot::{self, Listed, Snapshot, Taken, Taker, nearest};
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
    /// If a fault ended it, or a limit that depends on nothing of the host, in which calls of the kernel, the innermost first.
    pub stack: Vec<Frame>,
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
    pub from: Option<snapshot::At>,
    /// Leave a snapshot after so many ticks, where there can be one.
    pub snapshot_ticks: Option<u64>,
    /// Of a run of calls: end behind the call that has this tick.
    pub until: Option<u64>,
}

/// What the record says of itself, read and checked once before anything runs.
struct Record {
    run: RunId,
    header: Header,
    head: Head,
    events: u64,
    ticks: Option<u64>,
    outcome: Option<Outcome>,
    /// Whether its operator stopped it while code of a guest ran, and not a function of the host.
    was_guest_stopped: bool,
    /// What reads it, behind the header.
    reader: Option<Reader>,
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
                from = nearest(home, run, snapshot::At::Event(listed.events.saturating_sub(1)))
                    .unwrap_or_default();
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
    let clock = Arc::clone(&outside.clock);
    let started_ns = clock.monotonic_ns();
    // One that ends early would not come to what is behind.
    let mut record = if how.until.is_some() { read(home, run)? } else { glance(home, run)? };
    let same_engine = text(&record.header, "engine")? == ENGINE;
    let journal = journal(home, run, &mut record)?;
    outside.console = Arc::new(std::sync::Mutex::new(vac_host::NoConsole));
    outside.watch = Arc::new(RecordWatch { journal: Arc::clone(&journal), operator: outside.watch });
    let (listed, from) = from.unzip();
    let programs = programs_of(&record.header)?;
    if let Some(from) = &from {
        from.check(profile(&record.header)?, &programs)?;
    }
    let taker = match (how.snapshot_ticks, same_engine) {
        (Some(ticks), true) => {
            Some(Taker::new(home, run, profile(&record.header)?, programs, ticks, from.as_ref())?)
        }
        _ => None,
    };
    let mut stops = Stops { from, taker, until: how.until, ..Stops::default() };
    let replayed = run_again(home, &record, &journal, &Replaced::default(), None, outside, &mut stops);
    let snapshots = match (stops.taker, &replayed) {
        (Some(taker), made) if made.is_ok() || stops.is_reached => taker.finish(),
        _ => Taken::default(),
    };
    let time_ns = clock.monotonic_ns().saturating_sub(started_ns);
    let stack = match record.outcome {
        Some(Outcome::Fault { .. } | Outcome::Abort { kind: AbortKind::Quota, .. }) => journal.ended_in(),
        // Where the clock ended it no record says, and the replay is over earlier.
        _ => Vec::new(),
    };
    let done = |events, ticks| Replayed {
        run,
        head: record.head,
        same_engine,
        events,
        ticks,
        outcome: record.outcome.clone(),
        stack: stack.clone(),
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

/// What a replay to a point came to.
pub(crate) struct Reached {
    /// What was seen there.
    pub(crate) stop: Stop,
    /// The events before it.
    pub(crate) events: u64,
    /// What came of the replay, which means nothing if it was stopped.
    pub(crate) ended: Result<()>,
    /// The snapshot where it began, if that was not the start.
    pub(crate) from: Option<Listed>,
}

/// Replays `run` until `at`, from the nearest snapshot before it. One that is of no use is forgotten.
pub(crate) fn until(home: &Home, run: RunId, at: At, lens: Lens, outside: &Outside) -> Result<Reached> {
    let mut from = nearest_before(home, run, at);
    while let Some(listed) = from {
        let reached = snapshot::load(home, run, &listed)
            .and_then(|snapshot| until_from(home, run, at, lens, Some((listed, snapshot)), outside.clone()));
        let why = match &reached {
            Err(error) => Some(error),
            Ok(reached) => reached.ended.as_ref().err().filter(|_| !reached.stop.is_reached()),
        };
        if !why.is_some_and(snapshot::is_of_snapshot) {
            return reached;
        }
        // If it cannot be forgotten, it will be found unusable again.
        let _ = snapshot::forget(home, run, &listed.cid);
        from = nearest_before(home, run, At::Event(listed.events.saturating_sub(1)));
    }
    until_from(home, run, at, lens, None, outside.clone())
}

/// The last snapshot that nothing before `at` is behind. What was printed before it must be in the record.
fn nearest_before(home: &Home, run: RunId, at: At) -> Option<Listed> {
    let at = match at {
        At::Event(event) => snapshot::At::Event(event),
        // The first point with so many ticks may be before a snapshot that has as many.
        At::Tick(tick) => snapshot::At::Tick(tick.checked_sub(1)?),
    };
    let Ok(Some(Entry::Header(header))) =
        Reader::open(Arc::clone(home.storage()), run).and_then(|mut r| r.next())
    else {
        return None;
    };
    let is_whole = Recording::of(&header) == Some(Recording::Full);
    nearest(home, run, at).ok().flatten().filter(|_| is_whole)
}

/// Replays `run` from its start or a snapshot until `at`.
pub(crate) fn until_from(
    home: &Home,
    run: RunId,
    at: At,
    lens: Lens,
    from: Option<(Listed, Snapshot)>,
    mut outside: Outside,
) -> Result<Reached> {
    let mut record = read(home, run)?;
    let journal = journal(home, run, &mut record)?;
    journal.stop_at(Stop::new(at, lens));
    outside.console = Arc::new(std::sync::Mutex::new(vac_host::NoConsole));
    if matches!(at, At::Event(_)) {
        outside.watch = Arc::new(RecordWatch { journal: Arc::clone(&journal), operator: outside.watch });
    }
    let (from, snapshot) = from.unzip();
    if let Some(snapshot) = &snapshot {
        snapshot.check(profile(&record.header)?, &programs_of(&record.header)?)?;
    }
    let mut stops = Stops { from: snapshot, ..Stops::default() };
    let replaced = Replaced::default();
    let ended = match run_again(home, &record, &journal, &replaced, Some(at), outside, &mut stops) {
        Err(Error::Abort(abort)) if record.outcome.is_none() && abort.message == RECORD_ENDS => Ok(()),
        ended => ended.map(drop),
    };
    let stop = journal.take_stop().unwrap_or_else(|| Stop::new(at, lens));
    Ok(Reached { stop, events: journal.events(), ended, from })
}

/// Whether this engine recorded `run`.
pub(crate) fn is_same_engine(home: &Home, run: RunId) -> Result<bool> {
    match Reader::open(Arc::clone(home.storage()), run)?.next()? {
        Some(Entry::Header(header)) => Ok(text(&header, "engine")? == ENGINE),
        _ => Ok(false),
    }
}

/// A journal that compares with the record of `run`, from its first event on.
fn journal(home: &Home, run: RunId, record: &mut Record) -> Result<Arc<Journal>> {
    check_format(&record.header)?;
    let same_engine = text(&record.header, "engine")? == ENGINE;
    let reader = match record.reader.take() {
        Some(reader) => reader,
        None => begin(home, run)?.1,
    };
    let store = Arc::clone(home.store());
    Ok(Arc::new(Journal::replaying(record.header.clone(), reader, store, same_engine)?))
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

    fn is_operators(&self) -> bool {
        self.operator.stop().is_some()
    }
}

/// What is run instead of what the record names.
#[derive(Debug, Default)]
pub struct Replaced {
    /// The program or script of the run.
    pub target: Option<Target>,
    /// Programs that its script loads, by the text it loads them by.
    pub kernels: BTreeMap<String, Target>,
}

impl Replaced {
    fn is_nothing(&self) -> bool {
        self.target.is_none() && self.kernels.is_empty()
    }
}

/// How a run of another version went against the record.
#[derive(Debug, Clone)]
pub struct Upgraded {
    /// The run.
    pub run: RunId,
    /// Events of the record.
    pub events: u64,
    /// What is the same and what is not.
    pub compared: Compared,
    /// Whether nothing differs.
    pub is_safe: bool,
    /// How the recorded run ended; `None` if its record has no end.
    pub outcome: Option<Outcome>,
    /// Host time it took.
    pub time_ns: u64,
}

/// Runs `replaced` against the record of `run`: up to the first request that differs, or with all of them
/// listed if `is_lenient`. Every answer comes from the record.
pub fn upgrade(
    home: &Home,
    run: RunId,
    replaced: &Replaced,
    is_lenient: bool,
    mut outside: Outside,
) -> Result<Upgraded> {
    let record = read(home, run)?;
    check_format(&record.header)?;
    check_replaced(home, run, &record.header, replaced)?;
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    reader.next()?;
    let history = History::new(reader, Arc::clone(home.store()), is_lenient)?;
    let journal = Arc::new(Journal::against(record.header.clone(), history, Arc::clone(home.store())));
    let clock = Arc::clone(&outside.clock);
    let started_ns = clock.monotonic_ns();
    outside.console = Arc::new(std::sync::Mutex::new(vac_host::NoConsole));
    outside.watch = Arc::new(RecordWatch { journal: Arc::clone(&journal), operator: outside.watch });
    let ended = run_again(home, &record, &journal, replaced, None, outside, &mut Stops::default());
    let history = journal
        .take_history()
        .ok_or_else(|| HostAbort::new(AbortKind::Machine, "the comparison with the record was lost"))?;
    let differs = history.differs();
    match ended {
        Ok(_) | Err(Error::Divergence(_)) => {}
        Err(Error::Abort(abort)) if record.outcome.is_none() && abort.message == RECORD_ENDS => {}
        Err(error) => return Err(error),
    }
    let compared = history.finish();
    Ok(Upgraded {
        run,
        events: record.events,
        is_safe: !differs && compared.stopped.is_none(),
        compared,
        outcome: record.outcome,
        time_ns: clock.monotonic_ns().saturating_sub(started_ns),
    })
}

/// Whether the run has what is to be replaced.
fn check_replaced(home: &Home, run: RunId, header: &Header, replaced: &Replaced) -> Result<()> {
    let is_script = What::from_word(&text(header, "what")?) == Some(What::Script);
    if let Some(target) = replaced.target.as_ref().filter(|target| target.is_script() != is_script) {
        let (what, hint) = match is_script {
            true => ("a script", "`--with NAME=FILE` replaces a program that it loads as `kernel(\"NAME\")`"),
            false => ("no script", "`--with FILE` names another version of the same program"),
        };
        let message =
            format!("`{}` cannot take the place of the run's target, which is {what}", target.place);
        return Err(Usage::new(message).hint(hint).into());
    }
    let Some(name) = replaced.kernels.keys().next() else { return Ok(()) };
    let loads = crate::report::Filter { name: Some(PROGRAM_EVENT.to_owned()), ..Default::default() };
    let mut loaded: Vec<String> = Vec::new();
    for event in crate::report::events(home, run, &loads)? {
        let name = kept(home.store(), &event.request)?;
        match name.map(|bytes| canon::decode(&bytes, "the name of a program")) {
            Some(Ok(name)) => loaded.push(name),
            // A name that was not kept may be the one.
            _ => return Ok(()),
        }
    }
    match replaced.kernels.keys().find(|name| !loaded.contains(name)) {
        None => Ok(()),
        Some(_) if loaded.is_empty() => {
            let message = format!("the run loads no program `{}`, and no other", quote(name));
            Err(Usage::new(message).hint("`--with FILE` replaces the target itself").into())
        }
        Some(name) => {
            let loaded: Vec<_> = loaded.iter().map(|name| format!("`{}`", quote(name))).collect();
            let message = format!("the run loads no program `{}`", quote(name));
            Err(Usage::new(message).hint(format!("it loads {}", loaded.join(", "))).into())
        }
    }
}

/// The header of a run, and what reads on behind it.
fn begin(home: &Home, run: RunId) -> Result<(Header, Reader)> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    match reader.next()? {
        Some(Entry::Header(header)) => Ok((header, reader)),
        _ => {
            let message = format!("run `{run}` was killed before anything of it was durable");
            Err(HostAbort::new(AbortKind::Interrupt, message).into())
        }
    }
}

/// What the record of a run that ended by itself says, without reading all of it: a replay that comes to its end
/// does that. What a run was stopped by from outside is in events before its end.
fn glance(home: &Home, run: RunId) -> Result<Record> {
    let (header, reader) = begin(home, run)?;
    let closed = ledger::close_record(&**home.storage(), run)?;
    match (closed, ledger::last_entry(home.storage(), run)) {
        (Some((head, _)), Some(Entry::Close { outcome, ticks, events })) if !matches!(&outcome, Outcome::Abort { kind, .. } if is_outside(*kind)) =>
        {
            let (ticks, outcome) = (Some(ticks), Some(outcome));
            let reader = Some(reader);
            Ok(Record { run, header, head, events, ticks, outcome, was_guest_stopped: false, reader })
        }
        _ => read(home, run),
    }
}

/// Reads all of a record.
fn read(home: &Home, run: RunId) -> Result<Record> {
    let (header, mut reader) = begin(home, run)?;
    let (mut events, mut close, mut end) = (0, None, EndFromOutside::default());
    while let Some(entry) = reader.next()? {
        header::check_grant(&header, &entry)?;
        end.see(&entry);
        match entry {
            Entry::Event(..) | Entry::Begin(_) => events += 1,
            Entry::Close { outcome, ticks, .. } => close = Some((outcome, ticks)),
            _ => {}
        }
    }
    debug_assert!(close.is_some() == (reader.tail() == Some(Tail::Closed)));
    let (outcome, ticks) = close.unzip();
    // A look at a limit comes after at least one tick: without one, it was between two looks.
    let was_guest_stopped = end.of_kernel && !end.of_host && ticks.is_some_and(|ticks| end.last < ticks);
    let head = reader.head();
    Ok(Record { run, header, head, events, ticks, outcome, was_guest_stopped, reader: None })
}

/// Where a run was when something from outside ended it.
#[derive(Default)]
struct EndFromOutside {
    /// The last event of a kernel's that was begun and is not a kernel itself.
    begun: Option<Seq>,
    of_kernel: bool,
    of_host: bool,
    /// The tick of the last event.
    last: u64,
}

impl EndFromOutside {
    fn see(&mut self, entry: &Entry) {
        let from_outside =
            |ret: &Return| matches!(&ret.answer, Err(Outcome::Abort { kind, .. }) if is_outside(*kind));
        if let Entry::Begin(call) | Entry::Event(call, _) = entry {
            self.last = call.tick;
        }
        match entry {
            Entry::Begin(call) if call.class != Class::Kernel => self.begun = Some(call.seq),
            Entry::Event(_, ret) => self.of_host |= from_outside(ret),
            Entry::End(seq, ret) if self.begun == Some(*seq) => self.of_host |= from_outside(ret),
            Entry::End(_, ret) => self.of_kernel |= from_outside(ret),
            _ => {}
        }
    }
}

/// The profile of the run. A later version of VAC may have more of them.
pub(crate) fn profile(header: &Header) -> Result<Profile> {
    let name = text(header, "profile")?;
    Profile::named(&name).ok_or_else(|| wrong("profile", Profile::names(), header.get("profile")))
}

/// Whether this version can replay a run with this header, and knows all that it says.
pub(crate) fn check_format(header: &Header) -> Result<()> {
    if Recording::of(header).is_none() {
        return Err(wrong("record", "`digest`, or nothing", header.get("record")));
    }
    match header.get("format") {
        Some(Node::Int(HEADER_FORMAT)) => {
            quirks::check(header)?;
            header::check(header)
        }
        other => Err(wrong("format", HEADER_FORMAT, other)),
    }
}

fn run_again(
    home: &Home,
    record: &Record,
    journal: &Arc<Journal>,
    replaced: &Replaced,
    at: Option<At>,
    outside: Outside,
    stops: &mut Stops<'_>,
) -> Result<(Head, u64)> {
    let (run, header) = (record.run, &record.header);
    // What takes the place of a program goes by its name in the record.
    let identity = link(header, "target")?;
    let target = match &replaced.target {
        Some(target) => target.clone(),
        None => Target::from_store(home, &identity).map_err(|_| {
            let got = format!("no object {:?}", header.get("target"));
            Corrupt::new("record", format!("run `{run}`"), "its program in the store", got)
        })?,
    };
    let seed = seed_bytes(int(header, "seed")?);
    let limits = limits(record, replaced.is_nothing(), at)?;
    let programs = Programs::new(&limits, &outside).under(profile(header)?);
    // Under `det-1` what an engine for looking says of some faults is not what was recorded.
    let takes_state = stops.need_state() && profile(header)?.rewrites();
    let programs = if at.is_some() || takes_state { programs.looking() } else { programs };
    let mut session = Session::replay(home, programs, Arc::clone(journal), run, seed, limits, outside);
    session.replaced.clone_from(&replaced.kernels);
    let trees = grants::trees_to_keep(&grants::in_header(header));
    let what = text(header, "what")?;
    let again = Again { home, header, target, identity, is_replaced: !replaced.is_nothing(), trees };
    let finished = match What::from_word(&what) {
        Some(What::Script) => script::replay(session, &Target { cid: identity, ..again.target }, header)?,
        Some(what @ (What::Run | What::Serve)) => again.command(session, what)?,
        Some(What::Call) if header.get("calls").is_some() => again.calls(session, stops)?,
        Some(What::Call) => again.only_call(session)?,
        None => return Err(wrong("what", "run, serve, call or script", header.get("what"))),
    };
    Ok((finished.summary.head, finished.summary.ticks))
}

/// A program that does again what a header says.
struct Again<'r> {
    home: &'r Home,
    header: &'r Header,
    target: Target,
    /// Its name in the record.
    identity: Cid,
    is_replaced: bool,
    trees: Vec<(u32, String)>,
}

impl Again<'_> {
    fn compile(&self, session: &mut Session<'_>, links: &[Target]) -> Result<Arc<Compiled>> {
        let compiled = session.programs.compile_as(self.home, &self.target, links, self.identity);
        // What a recorded program could do, the same one can; another one may not.
        compiled.map_err(|error| if self.is_replaced { error } else { header::as_corrupt(error) })
    }

    fn command(&self, mut session: Session<'_>, what: What) -> Result<Finished> {
        let compiled = self.compile(&mut session, &recorded_links(self.home, self.header)?)?;
        check_world(&session.programs, &compiled, what, &self.target)?;
        let (args, env) = (texts(self.header, "args")?, pairs(self.header, "env")?);
        let name = args.first().cloned().unwrap_or_default();
        let ask = match what {
            What::Serve => Ask::Serve { args: &args, env: &env },
            _ => Ask::Command { args: &args, env: &env },
        };
        let gave = session.kernel(&name, &compiled, &ask, With::default());
        let gave = session.keep_trees(&self.trees, None, gave);
        finish(session, gave)
    }

    fn calls(&self, mut session: Session<'_>, stops: &mut Stops<'_>) -> Result<Finished> {
        let links = recorded_links(self.home, self.header)?;
        let compiled = self.compile(&mut session, &links)?;
        let typed = Typed::recorded(self.home, self.header, &session.limits)?;
        let env = environment(self.header)?;
        // Whether they can be made is to be asked of the recorded program once, and of another one each time.
        if !self.is_replaced {
            vac_host::calls::prepare(session.programs.engine()?, &compiled, &typed.texts, &typed.files)
                .map_err(header::as_corrupt)?;
        }
        crate::calls::replay(session, (&self.target, &links), &compiled, (typed, env), &self.trees, stops)
    }

    /// Before there could be several calls, a header had the parts of its only one.
    fn only_call(&self, mut session: Session<'_>) -> Result<Finished> {
        let compiled = self.compile(&mut session, &[])?;
        let export = text(self.header, "export")?;
        let arguments = text(self.header, "arguments")?;
        let args = recorded_args(&session.programs, &compiled, &export, &arguments);
        let args = args.map_err(|error| if self.is_replaced { error } else { header::as_corrupt(error) })?;
        let ask = Ask::Call { export: &export, args: &args };
        let gave = session.kernel(&self.target.name, &compiled, &ask, With::default());
        let gave = session.keep_trees(&self.trees, None, gave);
        finish(session, gave)
    }
}

/// Whether the program can be asked what the recorded one was.
fn check_world(programs: &Programs, compiled: &Compiled, what: What, target: &Target) -> Result<()> {
    let engine = programs.engine()?;
    let (can, export) = match what {
        What::Serve => (inspect::is_service(engine, compiled), "wasi:http/handler"),
        _ => (inspect::is_command(engine, compiled), "wasi:cli/run"),
    };
    if can {
        return Ok(());
    }
    Err(Usage::new(format!("`{}` does not export `{export}`, which the run called", target.place)).into())
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

/// The field of a header that has what is linked.
const LINKS: &str = "links";

/// The linked programs, which the header names and the store has.
pub(crate) fn recorded_links(home: &Home, header: &Header) -> Result<Vec<Target>> {
    recorded_objects(home, LINKS, &links(header, LINKS)?)
}

/// The objects that a field of the header has these links to.
pub(crate) fn recorded_objects(home: &Home, field: &'static str, cids: &[Cid]) -> Result<Vec<Target>> {
    let object = |cid: &Cid| {
        Target::from_store(home, cid).map_err(|_| {
            let (place, expected) = (format!("field `{field}`"), format!("the object `{cid}` in the store"));
            Corrupt::new("record", place, expected, "nothing").into()
        })
    };
    cids.iter().map(object).collect()
}

/// The links in a field of a header, if it has one.
pub(crate) fn links(header: &Header, field: &'static str) -> Result<Vec<Cid>> {
    let items = match header.get(field) {
        None => return Ok(Vec::new()),
        Some(Node::List(items)) => items,
        other => return Err(wrong(field, "a list of links", other)),
    };
    let link = |item: &Node| match item {
        Node::Link(cid) => Ok(*cid),
        other => Err(wrong(field, "a link", Some(other))),
    };
    items.iter().map(link).collect()
}

/// The limits of the record; where its operator ended it, the tick at which that happened, since
/// nothing else would end a replay there.
/// A replay that is to stop at a tick gets no more than that, so that it stops inside of loops, too.
fn limits(record: &Record, is_same_program: bool, at: Option<At>) -> Result<Limits> {
    let field = |name: &str| record.header.get(name).ok_or_else(|| wrong(name, "a limit", None));
    let (ticks, memory) = (field("ticks_max")?, field("memory_max_bytes")?);
    let listed = record.header.get("limits");
    let mut limits = Limits::from_nodes(ticks, memory, listed)
        .ok_or_else(|| wrong("limits", "limits that a run can have", listed))?;
    if let Some(Outcome::Abort { kind, .. }) = &record.outcome
        && is_outside(*kind)
        && is_same_program
    {
        // A kernel of `det-2` stops where its ticks are over its limit, at the first look at which they are. What
        // a function of the host ended is an event, which the kernel must still reach.
        let before = u64::from(record.was_guest_stopped && profile(&record.header)?.rewrites());
        let ticks = record.ticks.map(|ticks| ticks.saturating_sub(before));
        // Its own limit may have been less: then both stop it there.
        let most = limits.get(Limit::Ticks).unwrap_or(u64::MAX);
        limits.set(Limit::Ticks, ticks.map(|ticks| ticks.min(most)))?;
    }
    if let Some(At::Tick(tick)) = at {
        // Under `det-2` a kernel stops when it is over its limit, and before that when it has reached it.
        let over = u64::from(profile(&record.header)?.rewrites());
        let most = limits.get(Limit::Ticks).unwrap_or(u64::MAX).min(tick.saturating_sub(over));
        limits.set(Limit::Ticks, Some(most.max(1)))?;
    }
    Ok(limits)
}

pub(crate) fn wrong(field: &str, expected: impl std::fmt::Display, got: Option<&Node>) -> Error {
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

/// The environment of a run; none if the header says nothing of it.
pub(crate) fn environment(header: &Header) -> Result<Vec<(String, String)>> {
    if header.get("env").is_some() { pairs(header, "env") } else { Ok(Vec::new()) }
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

//! Calls that a command makes in one instance, one after the other: live, and again from the record.
//!
//! Each call is an event of its own. The first also holds what the program did while it started, and
//! a last one what it did while its handles were given up, if any were left. What a later call is
//! given may be of an earlier one; a handle is its number then.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vac_core::canon::{Encode, Node, Reader, Writer};
use vac_core::caps::raise;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, Usage, quote};
use vac_core::ledger::{Field, Header, Outcome};
use vac_host::calls::{Call, Files, Kept, Ready, check_results, prepare};
use vac_host::value::{Field as Part, name_files};
use vac_host::{Compiled, Engine, Instance, Val};

use crate::copies::Copies;
use crate::grants;
use crate::home::Home;
use crate::journal::outcome_of;
use crate::limits::{Limit, Limits};
use crate::recording::Recording;
use crate::replay::{links, recorded_objects, texts, wrong};
use crate::run::{Finished, Keys, Request, What, call_fields, check_texts, header, start, with};
use crate::session::{Ask, Held, KERNEL_EVENT, OF_INSTANCES, Outside, Session, With, keep_as};
use crate::snapshot::{Snapshot, Taker};
use crate::target::{Programs, Target};

/// Name of the event in which handles are given up.
pub const DROP_EVENT: &str = "vac:run/drop";

/// What one call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The call as it was typed.
    pub call: String,
    /// The name that its result was kept under.
    pub keep: Option<String>,
    /// The result as WAVE text; none if it has none.
    pub result: Option<String>,
    /// The bytes of a result that is text or bytes, or has them in its `ok` or `some`, or in the field that is wanted.
    pub bytes: Option<Vec<u8>>,
}

/// Calls as they are made and recorded, each `[name =] export(args)` in WAVE, with `@CID` for each file whose bytes they
/// take.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    pub(crate) texts: Vec<String>,
    pub(crate) files: Files,
    /// Whether a command that exits with 0 has returned. It had not in runs of before, which say nothing of it.
    pub(crate) exit_returns: bool,
    /// What of the last result is wanted as bytes, if anything is. A record says nothing of it.
    pub wanted: Option<Part>,
}

impl Typed {
    /// Those that name no files.
    pub fn plain(texts: &[String]) -> Self {
        Self { texts: texts.to_vec(), ..Self::default() }
    }

    /// Reads the files that `texts` name as `@FILE`, or as `@CID` in the store.
    pub fn read(home: &Home, texts: &[String], limits: &Limits) -> Result<Self> {
        Self::read_into(Files::within(limits.max(Limit::Transfer)), home, texts, limits)
    }

    /// The same, beside files of earlier calls.
    pub(crate) fn read_into(
        mut files: Files,
        home: &Home,
        texts: &[String],
        limits: &Limits,
    ) -> Result<Self> {
        let mut name = |path: &str| {
            Ok(files.add_typed(path, file(home, path, limits.max(Limit::Transfer))?)?.to_string())
        };
        let texts = texts.iter().map(|text| name_files(text, &mut name)).collect::<Result<_>>()?;
        Ok(Self { texts, files, ..Self::default() })
    }

    /// The calls, checked as far as that is done before anything runs; of those behind the first `done` also what they give.
    pub(crate) fn prepare(&self, engine: &Engine, compiled: &Compiled, done: usize) -> Result<Vec<Call>> {
        let calls = prepare(engine, compiled, &self.texts, &self.files);
        let calls = calls.map_err(|error| self.files.as_typed(error))?;
        let new = calls.get(done..).unwrap_or_default();
        check_results(engine, compiled, new, self.wanted.as_ref())
            .map_err(|error| self.files.as_typed(error))?;
        Ok(calls)
    }

    /// How a run went, with files called as they were typed.
    pub(crate) fn as_typed(&self, finished: Result<Finished>) -> Result<Finished> {
        let named = |error| self.files.as_typed(error);
        let finished = finished.map_err(named)?;
        Ok(Finished { error: finished.error.map(named), ..finished })
    }

    /// Those of a record, to be made again.
    pub(crate) fn recorded(home: &Home, header: &Header, limits: &Limits) -> Result<Self> {
        // No call takes more of a file than it may, so no record names a longer one.
        let max_bytes = limits.max(Limit::Transfer);
        if let Some((cid, len)) = longest(home, &links(header, FILES)?)?.filter(|(_, len)| *len > max_bytes) {
            let (place, expected) =
                (format!("field `{FILES}`"), format!("objects of at most {max_bytes} bytes"));
            return Err(Corrupt::new("record", place, expected, format!("`{cid}`, which has {len}")).into());
        }
        Self::first(home, header, limits, usize::MAX)
    }

    /// The first `count` calls of a record, and the files that they name.
    pub(crate) fn first(home: &Home, header: &Header, limits: &Limits, count: usize) -> Result<Self> {
        let max_bytes = limits.max(Limit::Transfer);
        let mut texts = texts(header, "calls")?;
        texts.truncate(count);
        let names = |cid: &Cid| texts.iter().any(|text| text.contains(&format!("@{cid}")));
        let named: Vec<Cid> = links(header, FILES)?.into_iter().filter(names).collect();
        if let Some((cid, len)) = longest(home, &named)?.filter(|(_, len)| *len > max_bytes) {
            return Err(too_large(&cid.to_string(), len, max_bytes));
        }
        let mut files = Files::within(max_bytes);
        for cid in &named {
            for file in recorded_objects(home, FILES, std::slice::from_ref(cid))? {
                files.add(file.bytes)?;
            }
        }
        let exit_returns = match header.get(EXIT) {
            None => false,
            Some(Node::Text(word)) if word == RETURNS => true,
            other => return Err(wrong(EXIT, RETURNS, other)),
        };
        Ok(Self { texts, files, exit_returns, wanted: None })
    }

    /// The fields of a header. Without an environment or files there are none, as there never were.
    pub(crate) fn fields(&self, env: &[(String, String)]) -> Vec<Field> {
        let links: Vec<Node> = self.files.all().map(|bytes| Node::Link(Cid::of_raw(bytes))).collect();
        let files = (!links.is_empty()).then(|| (FILES.to_owned(), Node::List(links)));
        let exit = self.exit_returns.then(|| (EXIT.to_owned(), Node::Text(RETURNS.to_owned())));
        call_fields(&self.texts, env).into_iter().chain(files).chain(exit).collect()
    }

    /// Puts the files where the record finds them, before anything names them.
    pub(crate) fn keep(&self, home: &Home, recording: Recording) -> Result<()> {
        if recording != Recording::Off {
            self.files.all().try_for_each(|bytes| keep_as(home, &Cid::of_raw(bytes), bytes))?;
        }
        Ok(())
    }
}

/// The field of a header that has the files,
const FILES: &str = "files";
/// and the one that says what becomes of a command that exits with 0.
pub(crate) const EXIT: &str = "exit";
const RETURNS: &str = "returns";

/// The longest of some objects, as far as the store has them. Asked before any is read.
fn longest(home: &Home, cids: &[Cid]) -> Result<Option<(Cid, u64)>> {
    let mut longest: Option<(Cid, u64)> = None;
    for cid in cids {
        let len = home.store().len_of(cid)?.unwrap_or_default();
        longest = longest.filter(|(_, most)| *most >= len).or(Some((*cid, len)));
    }
    Ok(longest)
}

fn too_large(path: &str, len: u64, max_bytes: u64) -> Error {
    let message = format!("`{}` has {len} bytes; one call takes at most {max_bytes}", quote(path));
    HostAbort::new(AbortKind::Quota, message).hint(raise("transfer")).into()
}

/// A file of the operator's, or an object of the store.
fn file(home: &Home, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
    if let Ok(cid) = path.parse::<Cid>() {
        let len = home.store().len_of(&cid)?.unwrap_or_default();
        if len > max_bytes {
            return Err(too_large(path, len, max_bytes));
        }
        return Target::from_store(home, &cid).map(|target| target.bytes);
    }
    let failed = |e: std::io::Error| -> Error {
        match e.kind() {
            ErrorKind::NotFound => Usage::new(format!("there is no file `{}`", quote(path)))
                .hint("`@` stands before a file whose bytes the call takes, or before a CID in the store")
                .into(),
            _ => HostAbort { hint: None, ..HostAbort::io("read", quote(path), &e) }.into(),
        }
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    // What is no plain file has no length, and may have no end.
    if !metadata.is_file() {
        return Err(Usage::new(format!("`{}` is not a file", quote(path))).into());
    }
    if metadata.len() > max_bytes {
        return Err(too_large(path, metadata.len(), max_bytes));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 {
        len if len > max_bytes => Err(too_large(path, len, max_bytes)),
        _ => Ok(bytes),
    }
}

/// Makes calls in `target`.
pub fn call(
    home: &Home,
    target: &Target,
    typed: &Typed,
    request: &Request,
    outside: Outside,
) -> Result<Finished> {
    let mut programs = Programs::new(&request.limits, &outside).under(request.profile);
    let compiled = programs.compile_linked(home, target, &request.links)?;
    let calls = typed.prepare(programs.engine()?, &compiled, 0)?;
    let keys = Keys::of(home, target, request)?;
    let request = &keys.request;
    let copies = Copies::make(home, &request.grants)?;
    let exit_returns = compiled.exit_can_return() && request.profile.rewrites();
    let typed = &Typed { exit_returns, ..typed.clone() };
    let with = With { exit_returns: typed.exit_returns, ..with(home, request, &copies, &outside)? };
    check_texts(&compiled, &[], &with.env)?;
    typed.keep(home, request.recording)?;
    let fields = typed.fields(&with.env);
    let header = header(What::Call, &target.cid, request, keys.add_to(fields));
    let trees = grants::trees_to_keep(&grants::in_header(&header));
    let session = start(home, programs, target, header, request, outside)?;
    keys.note(&session);
    let mut live = Live::new(&target.name, &compiled, with, typed.files.clone());
    live.wanted.clone_from(&typed.wanted);
    let finished = make(session, live, &calls, &trees, Some(&copies), &mut Stops::default());
    typed.as_typed(finished)
}

/// Makes recorded calls again.
pub(crate) fn replay(
    session: Session<'_>,
    (target, links): (&Target, &[Target]),
    compiled: &Arc<Compiled>,
    (typed, env): (Typed, Vec<(String, String)>),
    trees: &[(u32, String)],
    stops: &mut Stops<'_>,
) -> Result<Finished> {
    let calls = prepare(session.programs.engine()?, compiled, &typed.texts, &typed.files)?;
    stops.program = Some((target.clone(), links.to_vec()));
    let with = With { env, exit_returns: typed.exit_returns, ..With::default() };
    make(session, Live::new(&target.name, compiled, with, typed.files), &calls, trees, None, stops)
}

/// What happens between calls: where they begin, and who may take a snapshot there.
#[derive(Default)]
pub(crate) struct Stops<'h> {
    /// Calls up to here are passed over, but for the first ones that handles moved in.
    pub(crate) from: Option<Snapshot>,
    /// Leaves snapshots.
    pub(crate) taker: Option<Taker<'h>>,
    /// The tick behind whose call they end, and whether they did.
    pub(crate) until: Option<u64>,
    pub(crate) is_reached: bool,
    /// The program and its links, for who looks at its code.
    pub(crate) program: Option<(Target, Vec<Target>)>,
}

impl Stops<'_> {
    /// Whether memories and globals of an instance are read or written, for which not every engine will do.
    pub(crate) fn need_state(&self) -> bool {
        self.from.is_some() || self.taker.is_some()
    }

    /// Makes the call number `number`, counted from one, or passes over it.
    fn typed(
        &mut self,
        session: &mut Session<'_>,
        live: &mut Live,
        call: &Call,
        number: u64,
    ) -> Result<Called> {
        let is_passed = |from: &&Snapshot| (from.made + 1..=from.place.calls).contains(&number);
        let Some(from) = self.from.as_ref().filter(is_passed) else {
            return live.typed(session, call);
        };
        let called = live.passed(session, call)?;
        if number == from.place.calls {
            from.check_place(&session.place(number), session.is_live())?;
            live.thaw(session, from, self.taker.is_some())?;
            session.journal().hold_past(false);
        }
        Ok(called)
    }

    /// After a call, behind which there is another one.
    fn between(&mut self, session: &Session<'_>, live: &mut Live, calls: u64) -> Result<()> {
        if self.until.is_some_and(|tick| tick <= session.ticks()) {
            self.is_reached = true;
            return Err(HostAbort::new(AbortKind::Interrupt, "the tick is reached").into());
        }
        let is_passing = self.from.as_ref().is_some_and(|from| calls <= from.place.calls);
        if let (Some(taker), Some((target, links)), false) = (&mut self.taker, &self.program, is_passing) {
            taker.look(session, live, calls, || session.programs.fixed_parts(target, links));
        }
        Ok(())
    }
}

pub(crate) fn make(
    mut session: Session<'_>,
    mut live: Live,
    calls: &[Call],
    trees: &[(u32, String)],
    copies: Option<&Copies>,
    stops: &mut Stops<'_>,
) -> Result<Finished> {
    let mut called = Vec::new();
    session.journal().hold_past(stops.from.is_some());
    let made = (1..).zip(calls).try_for_each(|(number, call)| {
        if number > 1 {
            stops.between(&session, &mut live, number - 1)?;
        }
        called.push(stops.typed(&mut session, &mut live, call, number)?);
        Ok(())
    });
    let made = match made {
        Err(reached) if stops.is_reached => return Err(reached),
        made => made,
    };
    let made = made.and_then(|()| live.end(&mut session));
    let made = session.keep_trees(trees, copies, made);
    finish(session, called, made)
}

/// An instance that is called several times.
pub(crate) struct Live {
    name: String,
    compiled: Arc<Compiled>,
    env: Vec<(String, String)>,
    /// What the instance is started with, until it is.
    with: Option<With>,
    instance: Option<Instance>,
    /// What of the run's quotas it holds.
    held: Held,
    /// Ticks of the instance that were counted.
    used: u64,
    /// Ticks that others used before and between its calls.
    ticks_before: Arc<AtomicU64>,
    /// Calls until now.
    calls: u64,
    /// Of these, the last one after which its table of handles was another than before, and the tick at its end.
    pub(crate) moved: (u64, u64),
    pub(crate) kept: Kept,
    /// Of the operator's, by the names that calls have for them.
    files: Files,
    /// What of results is wanted as bytes.
    wanted: Option<Part>,
}

impl Live {
    /// An instance that its first call starts.
    pub(crate) fn new(name: &str, compiled: &Arc<Compiled>, with: With, files: Files) -> Self {
        Self {
            name: name.to_owned(),
            compiled: Arc::clone(compiled),
            env: with.env.clone(),
            with: Some(with),
            instance: None,
            held: Held::default(),
            used: 0,
            ticks_before: Arc::default(),
            calls: 0,
            moved: (0, 0),
            kept: Kept::default(),
            files,
            wanted: None,
        }
    }

    /// The program.
    pub(crate) fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Makes a call that was typed, and keeps its result if it says so.
    fn typed(&mut self, session: &mut Session<'_>, call: &Call) -> Result<Called> {
        let engine = session.programs.engine()?;
        let ready = self.kept.ready(engine, &self.compiled, self.instance.as_mut(), (call, &self.files))?;
        let results = self.call(session, &ready)?;
        self.called(call, &results)
    }

    /// Keeps what a call gave, and shows it.
    fn called(&mut self, call: &Call, results: &[Val]) -> Result<Called> {
        self.kept.keep(call, results)?;
        let result = match results.first() {
            Some(value) => Some(self.kept.show(value)?),
            None => None,
        };
        let bytes = self.wanted.as_ref().zip(results.first()).and_then(|(part, value)| part.bytes_of(value));
        Ok(Called { call: call.text.clone(), keep: call.keep.clone(), result, bytes })
    }

    /// Takes what a call gave from the record. Of the first one, the start of the instance is done again.
    fn passed(&mut self, session: &mut Session<'_>, call: &Call) -> Result<Called> {
        let engine = session.programs.engine()?;
        let ready = self.kept.ready(engine, &self.compiled, self.instance.as_mut(), (call, &self.files))?;
        let open = session.journal().begin(KERNEL_EVENT, session.ticks(), &self.request(&ready))?;
        let before = session.mark();
        self.start(session, &ready.export)?;
        let answer = session.journal().pass_to_end(open, KERNEL_EVENT)?;
        let mut reader = Reader::new(&answer, "the recorded answer of a call");
        reader.array_of(2)?;
        let ticks = reader.uint()?;
        let results = self.kept.recorded(session.programs.engine()?, &self.compiled, &ready, &mut reader)?;
        reader.finish()?;
        session.used(&self.name, &self.compiled, &ready.export, ticks, before);
        self.calls += 1;
        self.called(call, &results)
    }

    /// Makes the instance, which was started, the one of a snapshot; `follows` as of [`Snapshot::thaw`].
    fn thaw(&mut self, session: &mut Session<'_>, from: &Snapshot, follows: bool) -> Result<()> {
        if let Some(instance) = &mut self.instance {
            from.thaw(session.home, session.programs.engine()?, instance, follows)?;
            self.used = instance.ticks();
        }
        self.held = session.thaw(from);
        Ok(())
    }

    /// The instance, and what it holds, if it was started.
    pub(crate) fn instance_and_held(&mut self) -> Option<(&mut Instance, [u64; OF_INSTANCES.len()])> {
        let held = self.held.resources();
        self.instance.as_mut().map(|instance| (instance, held))
    }

    /// Calls an export with values, among which may be handles of this instance.
    pub(crate) fn call_with(
        &mut self,
        session: &mut Session<'_>,
        export: &str,
        args: Vec<Val>,
    ) -> Result<Vec<Val>> {
        let engine = session.programs.engine()?;
        let ready = self.kept.ready_with(engine, &self.compiled, self.instance.as_mut(), export, args)?;
        self.call(session, &ready)
    }

    fn call(&mut self, session: &mut Session<'_>, ready: &Ready) -> Result<Vec<Val>> {
        let request = self.request(ready);
        let begun = session.journal().begin(KERNEL_EVENT, session.ticks(), &request);
        let open = begun.inspect_err(|_| self.look())?;
        session.journal().runs(&self.name, &ready.export);
        let before = session.mark();
        let results = self.perform(session, ready);
        if let Some(instance) = &self.instance {
            session.settle(instance, &mut self.held);
        }
        let ticks = self.new_ticks();
        session.used(&self.name, &self.compiled, &ready.export, ticks, before);
        self.calls += 1;
        if self.instance.as_mut().is_some_and(|instance| !instance.keeps_handles()) {
            self.moved = (self.calls, session.ticks());
        }
        let kept = &self.kept;
        session.end_kernel(open, results, |results| response(kept, results, ticks))
    }

    /// A replay that stops between two calls may want to see what lies there.
    fn look(&mut self) {
        if let Some(instance) = &mut self.instance {
            instance.look();
        }
    }

    /// Starts the instance if it is not, and calls it.
    fn perform(&mut self, session: &Session<'_>, ready: &Ready) -> Result<Vec<Val>> {
        let is_new = self.with.is_some();
        self.start(session, &ready.export)?;
        match &mut self.instance {
            Some(instance) => {
                instance.leave_ticks(session.ticks_left());
                if !is_new {
                    session.lend(instance, &self.held);
                }
                self.kept.perform(session.programs.engine()?, instance, ready)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Starts the instance if it is not.
    fn start(&mut self, session: &Session<'_>, export: &str) -> Result<()> {
        self.ticks_before.store(session.ticks().saturating_sub(self.used), Ordering::Relaxed);
        let Some(with) = self.with.take() else { return Ok(()) };
        let ask = Ask::Call { export, args: &[] };
        let before = Arc::clone(&self.ticks_before);
        let (started, spent) = session.start_kernel(&self.compiled, &ask, with, before);
        // Ticks of a start that failed are counted as well.
        self.used = 0u64.wrapping_sub(if started.is_err() { spent.ticks } else { 0 });
        self.instance = Some(started?);
        Ok(())
    }

    /// Ticks since this was asked last.
    fn new_ticks(&mut self) -> u64 {
        let all = self.instance.as_ref().map_or(0, Instance::ticks);
        let new = all.wrapping_sub(self.used);
        self.used = all;
        new
    }

    fn request(&self, ready: &Ready) -> Vec<u8> {
        let mut to = Writer::default();
        to.array(4);
        to.link(&self.compiled.cid);
        to.text(&ready.export);
        self.kept.put_args(ready, &mut to);
        self.env.encode(&mut to);
        to.into_bytes()
    }

    /// Gives up what handles are left.
    pub(crate) fn end(mut self, session: &mut Session<'_>) -> Result<()> {
        let open = self.kept.open_handles();
        let Some(mut instance) = self.instance.take() else { return Ok(()) };
        if open.is_empty() {
            session.take_back(&self.held);
            return Ok(());
        }
        let mut request = Writer::default();
        request.array(open.len());
        open.iter().for_each(|number| request.uint(*number));
        self.ticks_before.store(session.ticks().saturating_sub(self.used), Ordering::Relaxed);
        instance.leave_ticks(session.ticks_left());
        session.lend(&mut instance, &self.held);
        let begun = session.journal().begin(DROP_EVENT, session.ticks(), &request.into_bytes());
        let event = begun.inspect_err(|_| instance.look())?;
        session.journal().runs(&self.name, "(handles are given up)");
        let dropped = self.kept.drop_all(&mut instance);
        let ticks = instance.ticks().saturating_sub(self.used);
        session.add_ticks(ticks);
        session.settle(&instance, &mut self.held);
        session.take_back(&self.held);
        session.end_kernel(event, dropped, |()| response(&Kept::default(), &[], ticks))
    }
}

/// `[ticks, results]`.
fn response(kept: &Kept, results: &[Val], ticks: u64) -> Vec<u8> {
    let mut to = Writer::default();
    to.array(2);
    to.uint(ticks);
    kept.put(results, &mut to);
    to.into_bytes()
}

/// Ends the run. Its result is what is shown of its calls: that of one call alone, or a line for each.
fn finish(session: Session<'_>, called: Vec<Called>, made: Result<()>) -> Result<Finished> {
    let (outcome, error) = match made {
        Ok(()) => (Outcome::Done(session.result_body(shown(&called).as_bytes())?), None),
        Err(error @ (Error::Divergence(_) | Error::Corrupt(_))) if !session.is_live() => return Err(error),
        Err(error) if session.is_stopped() => return Err(error),
        Err(error) if session.journal().is_past() => {
            session.abandon();
            return Err(error);
        }
        Err(error) => (outcome_of(&error), Some(error)),
    };
    let summary = session.finish(outcome)?;
    let result =
        called.last().filter(|_| error.is_none()).map(|last| last.result.clone().unwrap_or_default());
    Ok(Finished { summary, result, error, calls: called })
}

/// The results as text: that of a call alone as it is, of several a line for each that has one.
pub fn shown(called: &[Called]) -> String {
    if let [Called { keep: None, result, .. }] = called {
        return result.clone().unwrap_or_default();
    }
    let lines = called.iter().filter_map(|called| match (&called.keep, &called.result) {
        (Some(name), Some(result)) => Some(format!("{name} = {result}")),
        (None, Some(result)) => Some(result.clone()),
        (_, None) => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

//! `vac probe`: runs a program with something different around it each time, and compares every event.
//!
//! ```text
//! vac probe x.wasm ── for each variation ──> vac probe --inside PLACE HOW x.wasm
//!                  <── one JSON object ────   reads grants and program, then makes itself different, runs
//! ```
//!
//! Each run is a process of its own, with a place of its own ([`vac_engine::probe`]). What it may change is a copy,
//! so all begin with the same, and nothing of the operator's is changed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Value, json};
use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote, quote_line};
use vac_core::ledger::{Outcome, RunId};
use vac_engine::calls::Typed;
use vac_engine::grants::Grant;
use vac_engine::probe::{self as probes, Forgives, Met, Parting, Place, Scratch};
use vac_engine::report::show_outcome;
use vac_engine::run::{Finished, Request};
use vac_engine::session::Outside;
use vac_engine::target::{Target, Warm};
use vac_engine::{Home, Limit};
use vac_host::engine::without_room;
use vac_host::{Backend, Console, NoWatch, Out, Profile};

use super::run::{code, request};
use super::upgrade::side_json;
use crate::cli::{Global, Probe};
use crate::compile::own_program;
use crate::host::{self, Muted};
use crate::ui::{self, Progress};
use crate::{exit, show};

/// What is different in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    First,
    Again,
    ColdCode,
    Folder,
    Zone,
    Locale,
    Umask,
    Home,
    Threads,
    Load,
    AtOnce,
    Pooled,
    Native,
    Interpreter,
}

impl How {
    /// What may differ because of it.
    fn forgives(self) -> Forgives {
        match self {
            Self::Native => Forgives::Profile,
            Self::Interpreter => Forgives::Engine,
            _ => Forgives::Nothing,
        }
    }
}

/// Every variation with its name and what it is; the first is what the others are compared with. Three runs are
/// under way at once in those that say so.
const VARIATIONS: [(How, &str, &str); 16] = [
    (How::First, "first", "as it was typed"),
    (How::Again, "again", "nothing is different, and the code is in the cache"),
    (How::ColdCode, "cold", "no code is in the cache"),
    (How::Folder, "folder", "another working folder"),
    (How::Zone, "zone", "another time zone"),
    (How::Locale, "locale", "another language"),
    (How::Umask, "umask", "files are made for the owner alone"),
    (How::Home, "home", "a home with a long name"),
    (How::Threads, "threads", "one processor, so one thread at a time, and no code is in the cache"),
    (How::Load, "load", "every core is busy with something else"),
    (How::AtOnce, "at-once-1", "three at once"),
    (How::AtOnce, "at-once-2", "three at once"),
    (How::AtOnce, "at-once-3", "three at once"),
    (How::Pooled, "pooled", "in memory that a run before it used and wrote to"),
    (
        How::Native,
        "native",
        "compiled for all that this processor has, and not for less, or the other way round",
    ),
    (How::Interpreter, "interpreter", "interpreted instead of compiled"),
];

/// Bytes of the standard input that each run can be given.
const STDIN_MAX_BYTES: u64 = 64 << 20;

pub(crate) fn probe(global: &Global, args: Probe) -> Result<u8> {
    match args.inside.as_slice() {
        [place, how] => {
            let (place, how) = (Place::at(place.clone()), how.clone());
            // The one that compares wants more of an error than its words.
            inside(args, &place, &how).or_else(|error| {
                ui::print_json(&json!({ "error": ui::error_json(&error) }));
                Ok(exit::of_error(&error))
            })
        }
        _ => compare_all(global, args),
    }
}

/// One run, in the process that was started for it.
fn inside(args: Probe, place: &Place, how: &Path) -> Result<u8> {
    let failed = |e: rustix::io::Errno| HostAbort::io("tie a run to", "its probe", &e.into());
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    let how = VARIATIONS.iter().find(|(_, name, _)| Path::new(name) == how).map_or(How::First, |v| v.0);
    if how == How::Threads {
        // Before any thread or process is started, which get it from this one.
        keep_to_one_processor().map_err(|e| HostAbort::io("keep a run to", "one processor", &e.into()))?;
    }
    let home = Home::open(&place.home())?;
    let from = host::working_folder()?;
    let mut request = request(&home, args.given, args.args)?;
    request.ignores_manifest = args.no_manifest;
    let mut target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    target.folder = target.folder.map(|folder| from.join(folder));
    let typed = Typed::read(&home, &args.calls, &request.limits)?;
    let run = Inside { target, calls: args.calls, typed, request, from };
    let finished =
        if how == How::Pooled { run.twice(&home, place)? } else { run.otherwise(how, &home, place)? };
    ui::print_json(&report(&finished));
    Ok(exit::OK)
}

/// What is run in a process of its own.
struct Inside {
    target: Target,
    calls: Vec<String>,
    typed: Typed,
    request: Request,
    /// The folder that relative paths are seen from.
    from: PathBuf,
}

impl Inside {
    /// What this run is given at `place`.
    fn request_at(&self, place: &Place) -> Request {
        let grants = place.redirect(self.request.grants.clone(), &self.from);
        Request { grants, folder: place.work(), ..self.request.clone() }
    }

    fn run(&self, home: &Home, request: &Request, outside: Outside) -> Result<Finished> {
        match self.calls.as_slice() {
            [] => vac_engine::run::run(home, &self.target, request, outside),
            _ => vac_engine::calls::call(home, &self.target, &self.typed, request, outside),
        }
    }

    /// With something different around it.
    fn otherwise(&self, how: How, home: &Home, place: &Place) -> Result<Finished> {
        let mut request = self.request_at(place);
        // All paths were resolved; from here on the world is another one.
        if how == How::Folder {
            let failed = |e| HostAbort::io("go to", place.path().display(), &e);
            std::env::set_current_dir(place.path()).map_err(failed)?;
        }
        if how == How::Umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        }
        if how == How::Native {
            request.profile = match request.profile {
                Profile::Det2Native => Profile::Det2,
                _ => Profile::Det2Native,
            };
        }
        let backend = if how == How::Interpreter { Backend::Interpreter } else { Backend::Native };
        let outside = host::outside_of(backend, |_| Arc::new(Mutex::new(Muted)), &request.limits);
        self.run(home, &request, outside)
    }

    /// Twice with one pool, the first time at a place that is for nothing else: so the second run has the memory that the
    /// first one had and wrote to.
    fn twice(&self, home: &Home, place: &Place) -> Result<Finished> {
        let input: Arc<[u8]> = stdin(&self.request.grants)?.into();
        let warm = Arc::new(Warm::new(self.request.profile, Backend::Pooled, &self.request.limits)?);
        let run = |home: &Home, place: &Place| {
            let request = self.request_at(place);
            let console = Arc::new(Mutex::new(Fed { input: Arc::clone(&input), at: 0 }));
            let outside = host::outside_of(Backend::Pooled, |_| console, &request.limits);
            self.run(home, &request, Outside { warm: Some(Arc::clone(&warm)), ..outside })
        };
        let before = place.before();
        run(&Home::open(&before.home())?, &before)?;
        run(home, place)
    }
}

/// Gives the same input to each run, and lets nobody hear what a guest writes.
struct Fed {
    input: Arc<[u8]>,
    at: usize,
}

impl Console for Fed {
    fn read(&mut self, max: usize) -> std::io::Result<Vec<u8>> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let part = rest.get(..max).unwrap_or(rest);
        self.at += part.len();
        Ok(part.to_vec())
    }

    fn write(&mut self, _: Out, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// From here on this thread, and what it starts, runs on one of the processors that it may use.
#[cfg(target_os = "linux")]
fn keep_to_one_processor() -> rustix::io::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let may = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    (0..CpuSet::MAX_CPU).find(|cpu| may.is_set(*cpu)).into_iter().for_each(|cpu| one.set(cpu));
    sched_setaffinity(None, &one)
}

/// Where there is no such call the run is like the first.
#[cfg(not(target_os = "linux"))]
fn keep_to_one_processor() -> rustix::io::Result<()> {
    Ok(())
}

fn report(finished: &Finished) -> Value {
    let mut value = show::summary_json(&finished.summary);
    if let Some(map) = value.as_object_mut() {
        map.insert("exit_code".into(), json!(code(finished)));
    }
    value
}

/// What one run came to.
struct Ran {
    name: &'static str,
    what: &'static str,
    how: How,
    home: Home,
    /// The run and its status, or why there is none.
    run: std::result::Result<(RunId, Value), Complaint>,
}

/// Why there is no run.
struct Complaint {
    /// `time` if the operator's limit of it passed before the program was compiled and started.
    kind: String,
    words: String,
}

/// A run, and how it compares with the first.
struct Judged {
    ran: Ran,
    met: Option<Met>,
    verdict: Verdict,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Equal,
    EqualButTicks,
    /// They are equal until the operator's limit of time ended one of them, or an interrupt did.
    Cut(AbortKind),
    /// It cannot be run so, and why.
    Skipped(String),
    Failed(String),
    World,
    Differs,
}

impl Verdict {
    fn of(ran: &Ran, met: Option<&Met>) -> Self {
        match (&ran.run, met) {
            (Err(why), _) => Self::of_none(ran.how, why),
            (Ok(_), None) => Self::Failed("not compared".into()),
            (Ok(_), Some(met)) => Self::of_two(ran.how, met),
        }
    }

    /// The interpreter does not have every instruction, and a pool not room for everything; what they cannot run is compared
    /// in the other variations.
    fn of_none(how: How, Complaint { kind, words }: &Complaint) -> Self {
        match (how, without_room(words)) {
            _ if kind == AbortKind::Time.word() => Self::Cut(AbortKind::Time),
            (How::Interpreter, _) | (How::Pooled, Some(_)) => Self::Skipped(words.clone()),
            _ => Self::Failed(format!("did not run: {words}")),
        }
    }

    fn of_two(how: How, met: &Met) -> Self {
        let Some(parting) = &met.difference else {
            return if met.has_other_ticks { Self::EqualButTicks } else { Self::Equal };
        };
        if let (How::Pooled, Some(Outcome::Abort { message, .. })) = (how, &met.ended)
            && without_room(message).is_some()
        {
            return Self::Skipped(message.clone());
        }
        match &parting.outside {
            Some((kind @ (AbortKind::Time | AbortKind::Interrupt), _)) => Self::Cut(*kind),
            Some((kind, why)) => Self::Failed(format!("ended by the machine: {}: {why}", kind.word())),
            None if parting.is_worlds => Self::World,
            None => Self::Differs,
        }
    }
}

impl Judged {
    fn new(ran: Ran, met: Option<Met>) -> Self {
        Self { verdict: Verdict::of(&ran, met.as_ref()), ran, met }
    }

    fn is_skipped(&self) -> bool {
        matches!(self.verdict, Verdict::Skipped(_))
    }

    /// What ended it, or what it is compared with, before there was a difference.
    fn cut(&self) -> Option<AbortKind> {
        if let Verdict::Cut(kind) = self.verdict { Some(kind) } else { None }
    }

    /// Whether nothing differs that was compared.
    fn is_equal(&self) -> bool {
        self.ran.how == How::First || !self.is_different() && !matches!(self.verdict, Verdict::Failed(_))
    }

    fn is_different(&self) -> bool {
        matches!(self.verdict, Verdict::World | Verdict::Differs)
    }

    /// Where they part, if that is a difference.
    fn parting(&self) -> Option<&Parting> {
        self.met.as_ref()?.difference.as_ref().filter(|_| self.is_different())
    }
}

fn compare_all(global: &Global, args: Probe) -> Result<u8> {
    let home = super::home(global)?;
    let mut request = request(&home, args.given, args.args)?;
    // Said here once instead of by each run.
    Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    request.folder = host::working_folder()?;
    let stdin = stdin(&request.grants)?;
    let scratch = Scratch::new(&home)?;
    let progress = Progress::start(&format!("probing {}", args.target), global.quiet || global.json);
    // What the runs put is named by none of this home's, until those that differ are kept.
    let _hold = home.hold(&NoWatch)?;
    let ran = run_all(&home, &scratch, &request, &stdin)?;
    progress.stop();
    let judged = judge(ran)?;
    let Some(first) = judged.first() else { return Ok(exit::FAILURE) };
    if let Err(why) = &first.ran.run {
        return Err(Usage::new(format!("the program does not run: {}", why.words)).into());
    }
    let kept = keep(&home, &judged)?;
    match global.json {
        true => ui::print_json(&as_json(&judged, &kept, &request.grants)),
        false => show_all(global, &judged, &kept, &request.grants),
    }
    Ok(match judged.iter().all(Judged::is_equal) {
        true => exit::OK,
        false if judged.iter().any(Judged::is_different) => exit::DIVERGENCE,
        false => exit::FAILURE,
    })
}

/// All of the standard input, if it is granted: each run is given the same.
fn stdin(grants: &[Grant]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if grants.contains(&Grant::Stdin) {
        let mut from = std::io::stdin().lock().take(STDIN_MAX_BYTES + 1);
        from.read_to_end(&mut bytes).map_err(|e| HostAbort::io("read", "the standard input", &e))?;
    }
    if bytes.len() as u64 > STDIN_MAX_BYTES {
        let message =
            format!("the standard input is longer than the {STDIN_MAX_BYTES} bytes that a probe repeats");
        return Err(Usage::new(message).into());
    }
    Ok(bytes)
}

fn run_all(home: &Home, scratch: &Scratch, request: &Request, stdin: &[u8]) -> Result<Vec<Ran>> {
    let mut ran = Vec::new();
    for group in VARIATIONS.chunk_by(|a, b| a.0 == How::AtOnce && b.0 == How::AtOnce) {
        let mut started = Vec::new();
        for (how, name, what) in group {
            let long = format!("{name} {}", "long ".repeat(20));
            let folder = if *how == How::Home { long.trim_end() } else { name };
            let is_cold = matches!(how, How::ColdCode | How::Threads);
            let make = |folder: &str| scratch.place(home, folder, &request.grants, &request.folder, is_cold);
            let place = make(folder)?;
            if *how == How::Pooled {
                make(&place.before().name())?;
            }
            started.push((*how, *name, *what, start(*how, name, &place)?, place));
        }
        let load = (group.first().map(|v| v.0) == Some(How::Load)).then(Load::start);
        for (how, name, what, child, place) in started {
            let run = finish(child, stdin);
            ran.push(Ran { name, what, how, home: Home::open_read_only(&place.home())?, run });
        }
        drop(load);
    }
    Ok(ran)
}

/// This program again, with what was typed, and where and how it is to run.
fn start(how: How, name: &str, place: &Place) -> Result<Child> {
    let failed = |e| HostAbort::io("start", "a process for a run", &e);
    let mut command = Command::new(own_program().map_err(failed)?);
    let typed: Vec<_> = std::env::args_os().skip(1).collect();
    let is_command = |at: &usize| {
        typed.get(*at).is_some_and(|arg| arg == "probe")
            && at.checked_sub(1).and_then(|before| typed.get(before)).is_none_or(|before| before != "--home")
    };
    let at = (0..typed.len()).find(is_command).map_or(typed.len(), |at| at + 1);
    command.args(typed.iter().take(at)).arg("--inside").arg(place.path()).arg(name);
    command.args(typed.iter().skip(at));
    match how {
        How::Zone => drop(command.env("TZ", "Pacific/Kiritimati")),
        How::Locale => drop(command.env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8")),
        _ => {}
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn().map_err(failed)?)
}

/// Gives a process its input, and waits for what it says.
fn finish(mut child: Child, stdin: &[u8]) -> std::result::Result<(RunId, Value), Complaint> {
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Who does not read it is not asked to.
        scope.spawn(move || input.map(|mut to| to.write_all(stdin)));
        child.wait_with_output()
    });
    let output = output.map_err(|e| Complaint { kind: String::new(), words: e.to_string() })?;
    let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let run = said.as_ref().and_then(|said| said["run"].as_str()?.parse::<RunId>().ok());
    match (run, said) {
        (Some(run), Some(said)) => Ok((run, said)),
        (_, said) => Err(complaint(said.as_ref(), &output)),
    }
}

/// Why there is no run: what the process said of it, or how it ended.
fn complaint(said: Option<&Value>, output: &Output) -> Complaint {
    let of_error = |field: &str| said.and_then(|said| said["error"][field].as_str());
    // One that fell said it in its own way.
    let words = String::from_utf8_lossy(&output.stderr);
    let line = words.lines().find(|line| !line.trim().is_empty());
    let words = of_error("message").or(line);
    let words =
        words.map_or_else(|| format!("it said nothing, and ended with {}", output.status), str::to_owned);
    Complaint { kind: of_error("kind").unwrap_or_default().to_owned(), words }
}

/// Keeps every core busy until it is dropped.
struct Load {
    is_over: Arc<AtomicBool>,
}

impl Load {
    fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { is_over }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn judge(ran: Vec<Ran>) -> Result<Vec<Judged>> {
    let mut judged: Vec<Judged> = Vec::new();
    for ran in ran {
        let first = judged.first().map_or(&ran, |judged| &judged.ran);
        let met = match (&first.run, &ran.run) {
            (Ok((one, _)), Ok((other, _))) => {
                Some(probes::compare((&first.home, *one), (&ran.home, *other), ran.how.forgives())?)
            }
            _ => None,
        };
        judged.push(Judged::new(ran, met));
    }
    Ok(judged)
}

/// The first run and the first that differs, taken over into the home so that they can be looked at.
fn keep(home: &Home, judged: &[Judged]) -> Result<Vec<RunId>> {
    let Some(differing) = judged.iter().find(|judged| judged.parting().is_some()) else {
        return Ok(Vec::new());
    };
    let mut kept = Vec::new();
    for Judged { ran, .. } in judged.iter().take(1).chain([differing]) {
        if let Ok((run, _)) = &ran.run {
            probes::adopt(home, &ran.home, *run)?;
            kept.push(*run);
        }
    }
    Ok(kept)
}

fn copied(grants: &[Grant]) -> Vec<String> {
    grants.iter().filter(|grant| probes::is_changed(grant)).map(Grant::text).collect()
}

fn show_all(global: &Global, judged: &[Judged], kept: &[RunId], grants: &[Grant]) {
    if !global.quiet {
        let rows = judged.iter().map(|judged| {
            let events = judged.met.as_ref().map_or_else(String::new, |met| ui::count(met.events));
            vec![judged.ran.name.to_owned(), events, quote_line(&verdict(judged)), judged.ran.what.to_owned()]
        });
        ui::print(ui::table(&["RUN", ">EVENTS", "RESULT", "WHAT IS DIFFERENT"], rows.collect()));
        for grant in copied(grants) {
            ui::note(format_args!("{}: each run changed a copy of its own, and nothing here", quote(&grant)));
        }
    }
    match judged.iter().find(|judged| !judged.is_equal()) {
        None => show_equal(judged),
        Some(differing) => show_differing(differing, kept),
    }
}

fn show_equal(judged: &[Judged]) {
    let met = judged.first().and_then(|judged| judged.met.as_ref());
    let (events, head) = met.map(|met| (met.events, met.head.to_string())).unwrap_or_default();
    let runs = judged.iter().filter(|judged| !judged.is_skipped()).count();
    let cuts: Vec<_> = judged.iter().filter_map(Judged::cut).collect();
    if let Some(kind) = cuts.first() {
        let (word, count) = (ui::bold("no difference"), cuts.len());
        let by = if *kind == AbortKind::Time { "the limit of time" } else { "an interrupt" };
        ui::print(format_args!(
            "{word}: {runs} variations; {count} of them could be compared only until {by} ended a run, which is \
             no doing of the program\n"
        ));
        return;
    }
    let failed = judged
        .first()
        .and_then(|judged| judged.met.as_ref()?.ended.as_ref())
        .filter(|ended| is_failure(ended));
    let failed = failed
        .map(|ended| format!("{} in every one: {}\n", ui::red("failed"), quote_line(&show_outcome(ended))));
    let (word, events) = (ui::bold("deterministic"), ui::count(events));
    // Of the other engine and the other profile the header says so, which is under the head.
    ui::print(format_args!(
        "{word}: {runs} variations, {events} events each, one head where engine and profile are one\n"
    ));
    ui::print(format_args!("head  {head}\n"));
    failed.into_iter().for_each(ui::print);
}

/// Whether a program that ended so did not do what it was run for.
fn is_failure(ended: &Outcome) -> bool {
    !matches!(ended, Outcome::Done(_) | Outcome::Exit(0))
}

fn show_differing(differing: &Judged, kept: &[RunId]) {
    let name = differing.ran.name;
    let Some(parting) = differing.parting() else {
        ui::print(format_args!("{} `{name}`: {}\n", ui::red("failed"), quote_line(&verdict(differing))));
        return;
    };
    ui::print(format_args!("{} `{name}` at event {}\n", ui::red("differs"), parting.event));
    ui::print(format_args!("  first:  {}\n", quote_line(&parting.one.words())));
    ui::print(format_args!("  {name}:  {}\n", quote_line(&parting.other.words())));
    if parting.is_worlds {
        ui::print("the world differs, not the program: it asked for the same and was answered otherwise\n");
    }
    let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
    let from = parting.event.saturating_sub(3);
    ui::note(format_args!("`vac log RUN --from {from}` shows more of {}", kept.join(" and ")));
}

fn verdict(judged: &Judged) -> String {
    let at = || judged.parting().map_or(0, |parting| parting.event);
    match &judged.verdict {
        Verdict::Equal => "equal".to_owned(),
        Verdict::EqualButTicks => "equal but for ticks".to_owned(),
        Verdict::Cut(AbortKind::Time) => "equal until the limit of time".to_owned(),
        Verdict::Cut(_) => "equal until an interrupt".to_owned(),
        Verdict::Skipped(why) => format!("skipped: {why}"),
        Verdict::Failed(why) => why.clone(),
        Verdict::World => format!("the world differs at event {}", at()),
        Verdict::Differs => format!("differs at event {}", at()),
    }
}

/// Whether the program is deterministic, as far as was seen; nobody knows if a run was ended before its end.
fn is_deterministic(judged: &[Judged]) -> Option<bool> {
    let is_equal = judged.iter().all(Judged::is_equal);
    let is_known = !is_equal || judged.iter().all(|judged| judged.cut().is_none());
    is_known.then_some(is_equal)
}

fn as_json(judged: &[Judged], kept: &[RunId], grants: &[Grant]) -> Value {
    let first = judged.first().and_then(|judged| judged.met.as_ref());
    let variation = |judged: &Judged| {
        let met = judged.met.as_ref();
        json!({
            "name": judged.ran.name,
            "what": judged.ran.what,
            "events": met.map(|met| met.events),
            "head": met.map(|met| met.head.to_string()),
            "exit_code": judged.ran.run.as_ref().ok().map(|(_, said)| said["exit_code"].clone()),
            "equal": judged.is_equal(),
            "cut": judged.cut().map(AbortKind::word),
            "skipped": judged.is_skipped(),
            "ticks_equal": met.map(|met| !met.has_other_ticks),
            "difference": judged.parting().map(|parting| json!({
                "event": parting.event,
                "world": parting.is_worlds,
                "first": side_json(&parting.one),
                "other": side_json(&parting.other),
            })),
            "error": match &judged.verdict {
                Verdict::Skipped(why) | Verdict::Failed(why) => Some(why),
                _ => judged.ran.run.as_ref().err().map(|complaint| &complaint.words),
            },
        })
    };
    json!({
        "deterministic": is_deterministic(judged),
        "events": first.map(|met| met.events),
        "head": first.map(|met| met.head.to_string()),
        "outcome": first.and_then(|met| met.ended.as_ref()).map(show_outcome),
        "variations": judged.iter().map(variation).collect::<Vec<_>>(),
        "copied": copied(grants),
        "kept": kept.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

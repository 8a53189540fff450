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
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Value, json};
use vac_core::fault::{HostAbort, Result, Usage, quote, quote_line};
use vac_core::ledger::RunId;
use vac_engine::grants::Grant;
use vac_engine::probe::{self as probes, Forgives, Met, Parting, Place, Scratch};
use vac_engine::run::{Finished, Request};
use vac_engine::target::Target;
use vac_engine::{Home, Limit};
use vac_host::{Backend, NoWatch, Profile};

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
    (How::Pooled, "pooled", "instances in memory that was there before"),
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
            inside(args, &place, &how)
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
    request.grants = place.redirect(request.grants, &from);
    request.folder = place.work();
    let mut target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    target.folder = target.folder.map(|folder| from.join(folder));
    let typed = vac_engine::calls::Typed::read(&home, &args.calls, &request.limits)?;
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
    let backend = match how {
        How::Interpreter => Backend::Interpreter,
        How::Pooled => Backend::Pooled,
        _ => Backend::Native,
    };
    let outside = host::outside_of(backend, |_| Arc::new(Mutex::new(Muted)), &request.limits);
    let finished = match args.calls.as_slice() {
        [] => vac_engine::run::run(&home, &target, &request, outside)?,
        _ => vac_engine::calls::call(&home, &target, &typed, &request, outside)?,
    };
    ui::print_json(&report(&finished));
    Ok(exit::OK)
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
    run: std::result::Result<(RunId, Value), String>,
}

/// A run, and how it compares with the first.
struct Judged {
    ran: Ran,
    met: Option<Met>,
}

impl Judged {
    /// Neither the interpreter nor a pool can run everything; what they cannot is compared in the other variations.
    fn is_skipped(&self) -> bool {
        matches!(self.ran.how, How::Interpreter | How::Pooled) && self.ran.run.is_err()
    }

    fn is_equal(&self) -> bool {
        self.ran.how == How::First
            || self.is_skipped()
            || self.met.as_ref().is_some_and(|met| met.difference.is_none())
    }

    fn parting(&self) -> Option<&Parting> {
        self.met.as_ref()?.difference.as_ref()
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
        return Err(Usage::new(format!("the program does not run: {why}")).into());
    }
    let kept = keep(&home, &judged)?;
    match global.json {
        true => ui::print_json(&as_json(&judged, &kept, &request.grants)),
        false => show_all(global, &judged, &kept, &request.grants),
    }
    Ok(match judged.iter().all(Judged::is_equal) {
        true => exit::OK,
        false if judged.iter().any(|judged| judged.parting().is_some()) => exit::DIVERGENCE,
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
            let place = scratch.place(home, folder, &request.grants, &request.folder, is_cold)?;
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
fn finish(mut child: Child, stdin: &[u8]) -> std::result::Result<(RunId, Value), String> {
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Who does not read it is not asked to.
        scope.spawn(move || input.map(|mut to| to.write_all(stdin)));
        child.wait_with_output()
    });
    let output = output.map_err(|e| e.to_string())?;
    let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let run = said.as_ref().and_then(|said| said["run"].as_str()?.parse::<RunId>().ok());
    match (run, said) {
        (Some(run), Some(said)) => Ok((run, said)),
        _ => {
            let words = String::from_utf8_lossy(&output.stderr);
            let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Err(line.strip_prefix("error: ").unwrap_or(line).to_owned())
        }
    }
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
        judged.push(Judged { ran, met });
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
    let compared = judged.iter().filter(|judged| !judged.is_skipped()).count();
    let (word, runs) = (ui::bold("deterministic"), compared);
    let events = ui::count(events);
    // Of the other engine and the other profile the header says so, which is under the head.
    ui::print(format_args!(
        "{word}: {runs} variations, {events} events each, one head where engine and profile are one\n"
    ));
    ui::print(format_args!("head  {head}\n"));
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
    match (&judged.ran.run, &judged.met) {
        (Err(why), _) if judged.is_skipped() => format!("skipped: {why}"),
        (Err(why), _) => format!("did not run: {why}"),
        (Ok(_), Some(met)) => match &met.difference {
            None if met.has_other_ticks => "equal but for ticks".to_owned(),
            None => "equal".to_owned(),
            Some(parting) if parting.is_worlds => format!("the world differs at event {}", parting.event),
            Some(parting) => format!("differs at event {}", parting.event),
        },
        (Ok(_), None) => "not compared".to_owned(),
    }
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
            "ticks_equal": met.map(|met| !met.has_other_ticks),
            "difference": judged.parting().map(|parting| json!({
                "event": parting.event,
                "world": parting.is_worlds,
                "first": side_json(&parting.one),
                "other": side_json(&parting.other),
            })),
            "error": judged.ran.run.as_ref().err(),
        })
    };
    json!({
        "deterministic": judged.iter().all(Judged::is_equal),
        "events": first.map(|met| met.events),
        "head": first.map(|met| met.head.to_string()),
        "variations": judged.iter().map(variation).collect::<Vec<_>>(),
        "copied": copied(grants),
        "kept": kept.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

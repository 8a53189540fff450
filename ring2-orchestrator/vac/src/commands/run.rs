//! `vac run`: a script, a component or a WASI 0.1 module.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage, quote};
use vac_engine::Home;
use vac_engine::calls::Called;
use vac_engine::grants::Grant;
use vac_engine::grants_file::GrantsFile;
use vac_engine::run::{Finished, Request};
use vac_engine::secrets;
use vac_engine::session::Outside;
use vac_engine::target::Target;
use vac_engine::{Limit, Limits, Recording};
use vac_host::Console;

use crate::cli::{Allowed, Given, Global, Run};
use crate::host::{self, Captured, Terminal};
use crate::streams::is_heard;
use crate::ui::Progress;
use crate::{exit, limits, show, ui};

pub(crate) fn run(global: &Global, args: Run) -> Result<u8> {
    let home = super::home(global)?;
    let mut request = request(&home, args.given, args.args)?;
    request.ignores_manifest = args.no_manifest;
    request.recording = args.kept.record;
    let target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    let mut lacks_files = false;
    let code = with_console(
        global,
        &target.name,
        &request.limits,
        &request.grants,
        |finished| {
            lacks_files = finished.summary.denied.iter().any(|grant| grant == show::ANY_DIRECTORY);
            Ok(())
        },
        |outside, _| vac_engine::run::run(&home, &target, &request, outside),
    )?;
    // A program that went well needed nothing that it asked for in vain.
    if lacks_files && code != exit::OK && !global.quiet {
        request.args.iter().filter_map(|arg| file_hint(arg)).take(FILE_HINTS_MAX).for_each(ui::note);
    }
    Ok(code)
}

/// Arguments that are said to be files.
const FILE_HINTS_MAX: usize = 4;

/// How to show the program what one of its arguments names here.
fn file_hint(arg: &str) -> Option<String> {
    let kind = match std::fs::metadata(arg).ok()? {
        found if found.is_dir() => "dir",
        found if found.is_file() => "file",
        _ => return None,
    };
    let arg = quote(arg);
    Some(ui::dim(format!(
        "hint    `{arg}` is here, but not granted: `--grant {kind}:ro={arg}` shows it to the program"
    )))
}

/// What the operator gave. What was typed comes before what a file says.
pub(super) fn request(home: &Home, given: Given, args: Vec<String>) -> Result<Request> {
    let env = given.env.iter().map(|text| variable(text)).collect::<Result<Vec<_>>>()?;
    let typed =
        |name: &str| env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let file = allowed_in(&given.allowed, &|name| typed(name).or_else(|| host::env(name)))?;
    let config = given.config.iter().map(|text| setting(text)).collect::<Result<Vec<_>>>()?;
    let seed = given.seed;
    let secret = |text: &String| secrets::Given::parse(text, seed, &host::env);
    if !given.secrets.is_empty() {
        host::leave_no_core()?;
    }
    let secrets = given.secrets.iter().map(secret).collect::<Result<Vec<_>>>()?;
    let limits = limits::of(&given.within, &file)?;
    let find = |text: &String| Target::find_within(home, text, limits.max(Limit::Module));
    let links = given.links.iter().map(find).collect::<Result<_>>()?;
    let folder = host::working_folder()?;
    let grants = file.grants;
    let (ignores_manifest, recording, profile) = (false, Recording::Full, given.profile);
    Ok(Request {
        args,
        env,
        grants,
        config,
        secrets,
        seed,
        limits,
        folder,
        links,
        ignores_manifest,
        recording,
        profile,
    })
}

/// The grants of the file, if there is one, and then those that were typed.
pub(super) fn allowed(allowed: &Allowed) -> Result<GrantsFile> {
    allowed_in(allowed, &host::env)
}

/// The same, where variables have these values.
fn allowed_in(allowed: &Allowed, env: &dyn Fn(&str) -> Option<String>) -> Result<GrantsFile> {
    let mut file = match &allowed.grants_file {
        Some(path) => GrantsFile::read(path, env)?,
        None => GrantsFile::default(),
    };
    for text in &allowed.grants {
        file.grants.push(Grant::parse(text, env)?);
    }
    Ok(file)
}

fn setting(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Usage::new(format!("`{}` is no value of a configuration: expected K=V", quote(text)))
            .hint("for example `--config level=3`")
            .into()),
    }
}

fn variable(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Usage::new(format!("`{}` is not a variable: expected K=V", quote(text)))
            .hint("`--grant env:NAME` lets a variable of yours through")
            .into()),
    }
}

/// Runs `work` with the standard streams, then shows its result with `show`, and how it went.
pub(super) fn with_console(
    global: &Global,
    name: &str,
    limits: &Limits,
    granted: &[Grant],
    show: impl FnOnce(&Finished) -> Result<()>,
    work: impl FnOnce(Outside, &Progress) -> Result<Finished>,
) -> Result<u8> {
    let done = go(global, name, limits, false, work)?;
    match &done.captured {
        Some(captured) => ui::print_json(&finished_json(&done.finished, captured)),
        None => show_finished(global, &done.finished, granted, show)?,
    }
    Ok(code(&done.finished))
}

/// A run, and what it wrote if that was kept.
pub(super) struct Done {
    pub(super) finished: Finished,
    pub(super) captured: Option<Captured>,
}

/// Runs `work` with the standard streams, or keeps what it writes for the one JSON object. If the output `is_taken`, the
/// program has the standard error for both.
pub(super) fn go(
    global: &Global,
    name: &str,
    limits: &Limits,
    is_taken: bool,
    work: impl FnOnce(Outside, &Progress) -> Result<Finished>,
) -> Result<Done> {
    if global.json {
        let captured = Arc::new(Mutex::new(Captured::default()));
        let console = Arc::clone(&captured) as Arc<Mutex<dyn Console>>;
        let finished = work(host::outside(|_| console, limits), &Progress::none())?;
        let captured = std::mem::take(&mut *captured.lock().unwrap_or_else(PoisonError::into_inner));
        return Ok(Done { finished, captured: Some(captured) });
    }
    let progress = Progress::start(&format!("running {name}"), global.quiet);
    let terminal = |watch: &_| {
        Arc::new(Mutex::new(Terminal::new(progress.clone(), watch, is_taken))) as Arc<Mutex<dyn Console>>
    };
    let finished = work(host::outside(terminal, limits), &progress);
    progress.stop();
    Ok(Done { finished: finished?, captured: None })
}

pub(super) fn show_finished(
    global: &Global,
    finished: &Finished,
    granted: &[Grant],
    show: impl FnOnce(&Finished) -> Result<()>,
) -> Result<()> {
    // Its end was asked for, perhaps because nobody reads what it writes.
    let was_stopped = |abort: &HostAbort| matches!(abort.kind, AbortKind::Time | AbortKind::Interrupt);
    if matches!(&finished.error, Some(Error::Abort(abort)) if was_stopped(abort)) && !is_heard() {
        return Ok(());
    }
    let shown = show(finished);
    // The summary names the run, also if nothing could be shown of it.
    if !global.quiet {
        show::summary(&finished.summary, granted);
        exit::note_of(&finished.summary.outcome).into_iter().for_each(|note| ui::note(ui::dim(note)));
    }
    if let Some(error) = &finished.error {
        ui::error(error, false);
    }
    if !finished.summary.stack.is_empty() {
        ui::note(show::ended_stack(&finished.summary.stack).trim_end());
    }
    shown
}

pub(super) fn code(finished: &Finished) -> u8 {
    match &finished.error {
        Some(error) => exit::of_error(error),
        None => exit::of_outcome(&finished.summary.outcome),
    }
}

pub(super) fn finished_json(finished: &Finished, captured: &Captured) -> Value {
    let mut value = show::summary_json(&finished.summary);
    if let Some(map) = value.as_object_mut() {
        map.insert("result".into(), json!(finished.result));
        map.insert("calls".into(), finished.calls.iter().map(called_json).collect());
        map.insert("stdout".into(), stream(&captured.stdout));
        map.insert("stderr".into(), stream(&captured.stderr));
        map.insert("error".into(), finished.error.as_ref().map_or(Value::Null, ui::error_json));
        map.insert("exit_code".into(), json!(code(finished)));
    }
    value
}

fn called_json(called: &Called) -> Value {
    json!({ "call": called.call, "keep": called.keep, "result": called.result })
}

/// Text as text, anything else as `{"hex": …}`.
pub(super) fn stream(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": show::hex(bytes) }),
    }
}

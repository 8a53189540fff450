//! `vac run`: a script, a component or a WASI 0.1 module.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use vac_core::fault::{Result, Usage, quote};
use vac_engine::grants::Grant;
use vac_engine::grants_file::GrantsFile;
use vac_engine::run::{Finished, Request};
use vac_engine::session::{Limits, Outside};
use vac_engine::target::Target;
use vac_host::Console;

use crate::cli::{Allowed, Given, Global, Run};
use crate::host::{self, Captured, Terminal};
use crate::ui::Progress;
use crate::{exit, show, ui};

pub(crate) fn run(global: &Global, args: Run) -> Result<u8> {
    let (mut request, limit) = request(args.given, args.args)?;
    request.ignores_manifest = args.no_manifest;
    let home = super::home(global)?;
    let target = Target::find(&home, &args.target)?;
    with_console(global, &target.name, limit, &request.grants, |outside| {
        vac_engine::run::run(&home, &target, &request, outside)
    })
}

/// What the operator gave, and the limit of wall time. What was typed comes before what a file says.
pub(super) fn request(given: Given, args: Vec<String>) -> Result<(Request, Option<std::time::Duration>)> {
    let file = allowed(&given.allowed)?;
    let env = given.env.iter().map(|text| variable(text)).collect::<Result<Vec<_>>>()?;
    let mut limits = Limits { ticks_max: given.ticks.or(file.ticks), ..Limits::default() };
    limits.memory_max_bytes = given.memory.or(file.memory_bytes).unwrap_or(limits.memory_max_bytes);
    let request = Request {
        args,
        env,
        grants: file.grants,
        seed: given.seed,
        limits,
        folder: host::working_folder()?,
        ..Request::default()
    };
    Ok((request, given.time.or(file.time)))
}

/// The grants of the file, if there is one, and then those that were typed.
pub(super) fn allowed(allowed: &Allowed) -> Result<GrantsFile> {
    let mut file = match &allowed.grants_file {
        Some(path) => GrantsFile::read(path, &host::env)?,
        None => GrantsFile::default(),
    };
    for text in &allowed.grants {
        file.grants.push(Grant::parse(text, &host::env)?);
    }
    Ok(file)
}

fn variable(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Usage::new(format!("`{}` is not a variable: expected K=V", quote(text)))
            .hint("`--grant env:NAME` lets a variable of yours through")
            .into()),
    }
}

/// Runs `work` with the standard streams, then shows how it went.
pub(super) fn with_console(
    global: &Global,
    name: &str,
    limit: Option<std::time::Duration>,
    granted: &[Grant],
    work: impl FnOnce(Outside) -> Result<Finished>,
) -> Result<u8> {
    let done = go(global, name, limit, work)?;
    match &done.captured {
        Some(captured) => ui::print_json(&finished_json(&done.finished, captured)),
        None => show_finished(global, &done.finished, granted),
    }
    Ok(code(&done.finished))
}

/// A run, and what it wrote if that was kept.
pub(super) struct Done {
    pub(super) finished: Finished,
    pub(super) captured: Option<Captured>,
}

/// Runs `work` with the standard streams, or keeps what it writes for the one JSON object.
pub(super) fn go(
    global: &Global,
    name: &str,
    limit: Option<std::time::Duration>,
    work: impl FnOnce(Outside) -> Result<Finished>,
) -> Result<Done> {
    if global.json {
        let captured = Arc::new(Mutex::new(Captured::default()));
        let finished = work(host::outside(Arc::clone(&captured) as Arc<Mutex<dyn Console>>, limit))?;
        let captured = std::mem::take(&mut *captured.lock().unwrap_or_else(PoisonError::into_inner));
        return Ok(Done { finished, captured: Some(captured) });
    }
    let progress = Progress::start(&format!("running {name}"), global.quiet);
    let terminal = Arc::new(Mutex::new(Terminal { progress: progress.clone() }));
    let finished = work(host::outside(terminal, limit));
    progress.stop();
    Ok(Done { finished: finished?, captured: None })
}

pub(super) fn show_finished(global: &Global, finished: &Finished, granted: &[Grant]) {
    if let Some(result) = &finished.result {
        ui::print(format_args!("{result}\n"));
    }
    if !global.quiet {
        show::summary(&finished.summary, granted);
    }
    if let Some(error) = &finished.error {
        ui::error(error, false);
    }
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
        map.insert("stdout".into(), stream(&captured.stdout));
        map.insert("stderr".into(), stream(&captured.stderr));
        map.insert("error".into(), finished.error.as_ref().map_or(Value::Null, ui::error_json));
        map.insert("exit_code".into(), json!(code(finished)));
    }
    value
}

/// Text as text, anything else as `{"hex": …}`.
fn stream(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
    }
}

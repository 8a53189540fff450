//! `vac run`: a script, a component or a WASI 0.1 module.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use vac_core::fault::{Result, Usage, quote};
use vac_engine::grants::Grant;
use vac_engine::run::{Finished, Request};
use vac_engine::secrets;
use vac_engine::session::{Limits, Outside};
use vac_engine::target::Target;
use vac_host::Console;

use crate::cli::{Given, Global, Run};
use crate::host::{self, Captured, Terminal};
use crate::ui::Progress;
use crate::{exit, show, ui};

pub(crate) fn run(global: &Global, args: Run) -> Result<u8> {
    let request = request(args.given, args.args)?;
    let home = super::home(global)?;
    let target = Target::find(&home, &args.target)?;
    with_console(global, &target.name.clone(), request.1, |outside| {
        vac_engine::run::run(&home, &target, &request.0, outside)
    })
}

/// What the operator gave, and the limit of wall time.
pub(super) fn request(given: Given, args: Vec<String>) -> Result<(Request, Option<std::time::Duration>)> {
    let grants =
        given.grants.iter().map(|text| Grant::parse(text, &host::env)).collect::<Result<Vec<_>>>()?;
    let env = given.env.iter().map(|text| variable(text)).collect::<Result<Vec<_>>>()?;
    let config = given.config.iter().map(|text| variable(text)).collect::<Result<Vec<_>>>()?;
    let secret = |text: &String| secrets::Given::parse(text, given.seed, &host::env);
    let secrets = given.secrets.iter().map(secret).collect::<Result<Vec<_>>>()?;
    let mut limits = Limits { ticks_max: given.ticks, ..Limits::default() };
    limits.memory_max_bytes = given.memory.unwrap_or(limits.memory_max_bytes);
    let request = Request {
        args,
        env,
        grants,
        config,
        secrets,
        seed: given.seed,
        limits,
        folder: host::working_folder()?,
    };
    Ok((request, given.time))
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
    work: impl FnOnce(Outside) -> Result<Finished>,
) -> Result<u8> {
    if global.json {
        let captured = Arc::new(Mutex::new(Captured::default()));
        let finished = work(host::outside(Arc::clone(&captured) as Arc<Mutex<dyn Console>>, limit))?;
        let captured = captured.lock().unwrap_or_else(PoisonError::into_inner);
        ui::print_json(&finished_json(&finished, &captured));
        return Ok(code(&finished));
    }
    let progress = Progress::start(&format!("running {name}"), global.quiet);
    let terminal = Arc::new(Mutex::new(Terminal { progress: progress.clone() }));
    let finished = work(host::outside(terminal, limit));
    progress.stop();
    let finished = finished?;
    if let Some(result) = &finished.result {
        ui::print(format_args!("{result}\n"));
    }
    if !global.quiet {
        show::summary(&finished.summary);
    }
    if let Some(error) = &finished.error {
        ui::error(error, false);
    }
    Ok(code(&finished))
}

fn code(finished: &Finished) -> u8 {
    match &finished.error {
        Some(error) => exit::of_error(error),
        None => exit::of_outcome(&finished.summary.outcome),
    }
}

fn finished_json(finished: &Finished, captured: &Captured) -> Value {
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

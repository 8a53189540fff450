//! `vac call`: typed exports of any component or module, one after the other in one instance.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use vac_core::fault::{Error, Fault, HostAbort, Result, Usage, cut, quote_line};
use vac_engine::Limit;
use vac_engine::calls::{Typed, shown};
use vac_engine::run::Finished;
use vac_engine::target::Target;
use vac_host::value::Field;

use super::run::{code, finished_json, go, request, show_finished};
use crate::cli::{Call, Global};
use crate::{exit, ui};

pub(crate) fn call(global: &Global, args: Call) -> Result<u8> {
    let home = super::home(global)?;
    let mut request = request(&home, args.given, Vec::new())?;
    request.ignores_manifest = args.no_manifest;
    request.recording = args.kept.record;
    let (output, is_raw) = match args.output.as_deref() {
        Some(path) if path == Path::new("-") => (None, true),
        output => (output, args.raw),
    };
    let is_taken = is_raw && args.output.is_some();
    if is_taken && global.json {
        return Err(Usage::new("`--json` and `-o -` both want the standard output").into());
    }
    let target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    let mut typed = Typed::read(&home, &args.calls, &request.limits)?;
    // Of what is shown as JSON, `--raw` changes nothing.
    let wants_bytes = output.is_some() || is_raw && !global.json || args.field.is_some();
    typed.wanted = wants_bytes.then(|| args.field.as_deref().map_or_else(Field::default, Field::parse));
    let done = go(global, &target.name, &request.limits, is_taken, |outside, _| {
        vac_engine::calls::call(&home, &target, &typed, &request, outside)
    })?;
    let finished = &done.finished;
    match &done.captured {
        Some(captured) => {
            let written = output.map_or(Ok(()), |path| write(path, finished));
            let mut value = finished_json(finished, captured);
            if let (Err(error), Some(map)) = (&written, value.as_object_mut()) {
                map.insert("error".into(), ui::error_json(error));
                map.insert("exit_code".into(), json!(exit::of_error(error)));
            }
            ui::print_json(&value);
            if let Err(error) = written {
                ui::error(&error, false);
                return Ok(exit::of_error(&error));
            }
        }
        None => show_finished(global, finished, &request.grants, |finished| match (output, is_raw) {
            // The calls were made, and what they gave is not lost for want of a file that could have it.
            (Some(path), _) => write(path, finished).inspect_err(|_| drop(show_text(finished))),
            (None, true) => show_raw(finished),
            (None, false) => show_text(finished),
        })?,
    }
    let ended = finished.error.as_ref().filter(|_| !global.json && !global.quiet);
    ended
        .and_then(|error| exited(error, finished.calls.len(), args.calls.len()))
        .into_iter()
        .for_each(ui::note);
    Ok(code(finished))
}

/// What to do where a program exited before all calls were made. Its `proc_exit` cannot return, and an instance that was
/// left in the middle of a call cannot be entered again.
fn exited(error: &Error, made: usize, all: usize) -> Option<String> {
    let Error::Fault(fault) = error else { return None };
    let behind = all.checked_sub(made + 1).filter(|behind| fault.kind == "exit" && *behind > 0)?;
    let calls = if behind == 1 { "the call" } else { "the calls" };
    Some(format!(
        "{}: a program that exited is over, so {calls} behind it were not made. As a reactor it would go on: \
         `-buildmode=c-shared` of Go and TinyGo, `-mexec-model=reactor` of Clang; what those do first is done before \
         the first call",
        ui::bold("hint")
    ))
}

pub(super) fn show_text(finished: &Finished) -> Result<()> {
    let text = shown(&finished.calls);
    if finished.calls.len() == 1 || !text.is_empty() {
        ui::print(format_args!("{text}\n"));
    }
    Ok(())
}

/// The bytes of the last result; `None` if the run ended before it.
fn last_bytes(finished: &Finished) -> Result<Option<&[u8]>> {
    let Some(last) = finished.calls.last().filter(|_| finished.error.is_none()) else { return Ok(None) };
    last.bytes.as_deref().map(Some).ok_or_else(|| {
        // Its type has bytes there, or it would have been refused before it ran: this value has none.
        let value = quote_line(cut(last.result.as_deref().unwrap_or("nothing"), 1000));
        let is_error = value == "err" || value.starts_with("err(");
        let end = if is_error { "" } else { ", which has neither text nor bytes there" };
        Fault { kind: "value", message: format!("the last call gave {value}{end}") }.into()
    })
}

/// The last result as it is, in a file.
fn write(path: &Path, finished: &Finished) -> Result<()> {
    let Some(bytes) = last_bytes(finished)? else { return Ok(()) };
    std::fs::write(path, bytes).map_err(|e| HostAbort::io("write", path.display(), &e).into())
}

/// The last result as it is.
fn show_raw(finished: &Finished) -> Result<()> {
    let Some(bytes) = last_bytes(finished)? else { return Ok(()) };
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| HostAbort::io("write to", "the standard output", &e).into())
}

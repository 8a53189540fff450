//! `vac call`: typed exports of any component or module, one after the other in one instance.

use std::io::Write as _;

use vac_core::fault::{HostAbort, Result, Usage};
use vac_engine::Limit;
use vac_engine::calls::shown;
use vac_engine::run::Finished;
use vac_engine::target::Target;

use super::run::{request, with_console};
use crate::cli::{Call, Global};
use crate::ui;

pub(crate) fn call(global: &Global, args: Call) -> Result<u8> {
    let home = super::home(global)?;
    let mut request = request(&home, args.given, Vec::new())?;
    request.ignores_manifest = args.no_manifest;
    request.recording = args.kept.record;
    let target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    let show = if args.raw { show_raw } else { show_text };
    with_console(global, &target.name, &request.limits, &request.grants, show, |outside| {
        vac_engine::calls::call(&home, &target, &args.calls, &request, outside)
    })
}

pub(super) fn show_text(finished: &Finished) -> Result<()> {
    let text = shown(&finished.calls);
    if finished.calls.len() == 1 || !text.is_empty() {
        ui::print(format_args!("{text}\n"));
    }
    Ok(())
}

/// The last result as it is.
fn show_raw(finished: &Finished) -> Result<()> {
    let Some(last) = finished.calls.last().filter(|_| finished.error.is_none()) else { return Ok(()) };
    let bytes = last.bytes.as_ref().ok_or_else(|| {
        Usage::new("the last result is neither text nor bytes").hint("leave `--raw` out to see it")
    })?;
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| HostAbort::io("write to", "the standard output", &e).into())
}

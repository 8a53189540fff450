//! `vac fork`: another future of a run.

use vac_core::fault::Result;
use vac_engine::fork::Wanted;
use vac_engine::run::Request;

use super::call::show_text;
use super::run::{allowed, with_console};
use crate::cli::{Fork, Global};
use crate::{host, limits, ui};

pub(crate) fn fork(global: &Global, args: Fork) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let file = allowed(&args.allowed)?;
    let request = Request {
        limits: limits::of(&args.within, &file)?,
        grants: file.grants,
        folder: host::working_folder()?,
        ignores_manifest: args.no_manifest,
        ..Request::default()
    };
    let (limits, grants) = (request.limits.clone(), request.grants.clone());
    let wanted = Wanted { event: args.event, new: args.new, request, from_snapshot: args.from_snapshot };
    let name = format!("a fork of {run}");
    let mut left = None;
    let code = with_console(
        global,
        &name,
        &limits,
        &grants,
        |finished| if finished.calls.is_empty() { Ok(()) } else { show_text(finished) },
        |outside, _| {
            let forked = vac_engine::fork::fork(&home, run, wanted, outside)?;
            left = Some((forked.event, forked.passed));
            Ok(forked.finished)
        },
    )?;
    if let Some((event, passed)) = left.filter(|_| !global.quiet && !global.json) {
        if event != args.event {
            ui::note(format!(
                "event {} is inside of a call: the fork left where that begins, at event {event}",
                args.event
            ));
        }
        if passed > 0 {
            ui::note(format!("a snapshot before event {passed} saved running what is before it"));
        }
    }
    Ok(code)
}

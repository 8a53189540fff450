//! `vac export-replay`: a run as one component for any engine.

use serde_json::json;
use vac_core::cid::Cid;
use vac_core::fault::{HostAbort, Result};
use vac_core::ledger::Outcome;
use vac_engine::export_replay::{self, Exported};
use vac_engine::report::show_outcome;

use crate::cli::{ExportReplay, Global};
use crate::{exit, ui};

/// In what the component differs from the run, if it does.
fn differs(exported: &Exported) -> Option<&'static str> {
    match exported.outcome {
        Some(Outcome::Done(_) | Outcome::Exit(_)) => None,
        Some(Outcome::Fault { .. }) if exported.has_calls => {
            Some("the component ends so, too, but does not print what calls gave before that")
        }
        Some(Outcome::Fault { .. }) => None,
        Some(Outcome::Abort { .. }) | None => {
            Some("the component has no limits: it goes on there, until it asks for what is not in the record")
        }
    }
}

pub(crate) fn export_replay(global: &Global, args: &ExportReplay) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let run = home.find_run(&args.run)?;
    let exported = export_replay::export(&home, run)?;
    let path = &args.output;
    std::fs::write(path, &exported.bytes).map_err(|e| HostAbort::io("write", path.display(), &e))?;
    let outcome = exported.outcome.as_ref().map(show_outcome);
    if global.json {
        ui::print_json(&json!({
            "run": run.to_string(),
            "head": exported.head.to_string(),
            "program": exported.program.to_string(),
            "events": exported.events,
            "outcome": outcome,
            "complete": exported.outcome.is_some(),
            "ends_alike": differs(&exported).is_none(),
            "output": path,
            "bytes": exported.bytes.len(),
            "cid": Cid::of_raw(&exported.bytes).to_string(),
        }));
        return Ok(exit::OK);
    }
    ui::print(format_args!(
        "{} {run}: {} events in {} bytes\n",
        ui::bold("exported"),
        ui::count(exported.events),
        ui::count(exported.bytes.len() as u64)
    ));
    match outcome {
        Some(outcome) => ui::print(format_args!("ended {outcome}\n")),
        None => ui::print("the record has no end: its process was killed or is still running\n"),
    }
    if let Some(how) = differs(&exported) {
        ui::note(how);
    }
    ui::print(format_args!("run it with `wasmtime run {}`\n", path.display()));
    Ok(exit::OK)
}

//! `vac replay`: again from the ledger alone; equal, or the first difference.

use std::sync::{Arc, Mutex};

use serde_json::json;
use vac_core::fault::Result;
use vac_engine::report::show_outcome;
use vac_host::NoConsole;

use crate::cli::{Global, Replay};
use crate::ui::{self, Progress};
use crate::{exit, host, limits};

pub(crate) fn replay(global: &Global, args: &Replay) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let limits = limits::of_patience(&args.patience)?;
    if !args.with.is_empty() {
        return super::upgrade::upgrade(global, args, &home, run, &limits);
    }
    let progress = Progress::start(&format!("replaying {run}"), global.quiet || global.json);
    let replayed =
        vac_engine::replay::replay(&home, run, host::outside(|_| Arc::new(Mutex::new(NoConsole)), &limits));
    progress.stop();
    let replayed = replayed?;
    let outcome = replayed.outcome.as_ref().map(show_outcome);
    if global.json {
        ui::print_json(&json!({
            "run": run.to_string(),
            "equal": true,
            "complete": replayed.outcome.is_some(),
            "same_engine": replayed.same_engine,
            "head": replayed.head.to_string(),
            "events": replayed.events,
            "ticks": replayed.ticks,
            "outcome": outcome,
            "time_ns": replayed.time_ns,
        }));
        return Ok(exit::OK);
    }
    let word = if outcome.is_some() { "equal" } else { "equal so far" };
    ui::print(format_args!(
        "{} {run}: {} events in {}\n",
        ui::bold(word),
        ui::count(replayed.events),
        ui::time(replayed.time_ns)
    ));
    ui::print(format_args!("head  {}\n", replayed.head));
    match outcome {
        Some(outcome) => ui::print(format_args!("ended {outcome}\n")),
        None => ui::print(format_args!(
            "the record has no end: its process was killed; it replays up to there, {}\n",
            match replayed.events.checked_sub(1) {
                Some(last) => format!("event {last}"),
                None => "before its first event".to_owned(),
            }
        )),
    }
    if !replayed.same_engine {
        ui::note("recorded by another engine: outputs and order were compared, ticks were not");
    }
    Ok(exit::OK)
}

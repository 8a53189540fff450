//! `vac replay`: again from the ledger alone; equal, or the first difference.

use std::sync::{Arc, Mutex};

use serde_json::json;
use vac_core::fault::Result;
use vac_engine::replay::How;
use vac_engine::report::show_outcome;
use vac_engine::snapshot::At;
use vac_host::NoConsole;

use crate::cli::{Global, Replay};
use crate::ui::{self, Progress};
use crate::{exit, host, limits, show};

pub(crate) fn replay(global: &Global, args: &Replay) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let limits = limits::of_patience(&args.patience)?;
    let progress = Progress::start(&format!("replaying {run}"), global.quiet || global.json);
    let how = How {
        from: args.from_snapshot.then_some(At::End),
        snapshot_ticks: Some(args.snapshots).filter(|ticks| *ticks > 0),
        until: None,
    };
    let outside = host::outside(|_| Arc::new(Mutex::new(NoConsole)), &limits);
    let replayed = vac_engine::replay::replay_as(&home, run, how, outside);
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
            "from": replayed.from.as_ref().map(show::snapshot_json),
            "unusable": replayed.unusable,
            "snapshots": replayed.snapshots.new,
            "no_snapshots": replayed.snapshots.refused,
        }));
        return Ok(exit::OK);
    }
    for why in &replayed.unusable {
        ui::note(format!("a snapshot could not be used: {}", ui::quote_lines(why)));
    }
    if let Some(from) = &replayed.from {
        ui::print(format_args!(
            "from  the snapshot before event {} at tick {}; what is before it was read, and not run\n",
            ui::count(from.events),
            ui::count(from.tick)
        ));
    } else if args.from_snapshot {
        ui::note("no snapshot could be used: it was replayed from the start");
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
        None => ui::print("the record has no end: its process was killed; it replays up to there\n"),
    }
    if replayed.snapshots.new > 0 {
        ui::note(format!(
            "{} snapshots are new; `--from-snapshot` begins at the last",
            replayed.snapshots.new
        ));
    }
    if let Some(why) = &replayed.snapshots.refused {
        ui::note(format!("no snapshots: {}", ui::quote_lines(why)));
    }
    if !replayed.same_engine {
        ui::note("recorded by another engine: outputs and order were compared, ticks were not");
    }
    Ok(exit::OK)
}

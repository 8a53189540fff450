//! `vac replay`: again from the ledger alone; equal, or the first difference.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vac_core::fault::{Divergence, Error, Result, quote, quote_line};
use vac_core::ledger::RunId;
use vac_engine::replay::How;
use vac_engine::report::{self, EventInfo, show_outcome};
use vac_engine::seek::Asked;
use vac_engine::snapshot::At;
use vac_engine::{Home, Limits, seek};
use vac_host::NoConsole;

use super::log::{event_json, table};
use crate::cli::{Global, Replay};
use crate::ui::{self, Progress};
use crate::{exit, host, limits, show};

pub(crate) fn replay(global: &Global, args: &Replay) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let limits = limits::of_patience(&args.patience)?;
    if !args.with.is_empty() {
        return super::upgrade::upgrade(global, args, &home, run, &limits);
    }
    let progress = Progress::start(&format!("replaying {run}"), global.quiet || global.json);
    let how = How {
        from: args.from_snapshot.then_some(At::End),
        snapshot_ticks: Some(args.snapshots).filter(|ticks| *ticks > 0),
        until: None,
    };
    let outside = host::outside(|_| Arc::new(Mutex::new(NoConsole)), &limits);
    let replayed = vac_engine::replay::replay_as(&home, run, how, outside);
    progress.stop();
    let replayed = match replayed {
        Err(Error::Divergence(divergence)) => return differs(global, &home, run, divergence, &limits),
        replayed => replayed?,
    };
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
            "stack": show::stack_json(&replayed.stack),
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
            "from  the snapshot before event {} at tick {}; what is before it was read, and run only where the program got \
             handles\n",
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
        Some(outcome) => {
            ui::print(format_args!("ended {outcome}\n"));
            if !replayed.stack.is_empty() {
                ui::print(show::ended_stack(&replayed.stack));
            }
        }
        None => ui::print(format_args!(
            "the record has no end: its process was killed or is still running; it replays up to there, {}\n",
            match replayed.events.checked_sub(1) {
                Some(last) => format!("event {last}"),
                None => "before its first event".to_owned(),
            }
        )),
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

/// Events before a difference that are shown.
const BEFORE: u64 = 5;

/// Shows where a replay differs: both events, those before, which are equal, and the guest's stack there. For that the
/// run is replayed once more and stopped at the difference.
fn differs(
    global: &Global,
    home: &Home,
    run: RunId,
    divergence: Box<Divergence>,
    limits: &Limits,
) -> Result<u8> {
    let seq = divergence.seq;
    let near = report::around(home, run, seq, BEFORE).unwrap_or_default();
    let (before, from): (Vec<_>, Vec<_>) =
        near.into_iter().filter(|event| event.seq <= seq).partition(|event| event.seq < seq);
    let outside = host::outside(|_| Arc::new(Mutex::new(NoConsole)), limits);
    let (asked, look) = seek::look_at_divergence(home, run, &divergence, outside).unzip();
    let look = look.flatten();
    let error = Error::from(divergence);
    if global.json {
        let event = |event: &EventInfo| event_json(event, home.store());
        ui::print_json(&json!({
            "error": ui::error_json(&error),
            "event": seq,
            "before": before.iter().map(event).collect::<Vec<_>>(),
            "recorded": from.first().map(event),
            "replayed": asked.as_ref().map(asked_json),
            "stack": look.as_ref().map(|look| show::stack_json(&look.frames)),
        }));
    }
    ui::error(&error, false);
    if let Some(asked) = &asked {
        let request = quote_line(&report::show_bytes(&asked.request));
        ui::note(format_args!("  the program asks: {} {request}", quote(&asked.name)));
    }
    if !before.is_empty() {
        ui::note(format_args!("\nbefore it\n{}", table(&before, None, home.store()).trim_end()));
    }
    if let Some(look) = look.filter(|look| !look.frames.is_empty()) {
        ui::note(format_args!("\n{}", show::stack_table(&look.frames).trim_end()));
    }
    Ok(exit::of_error(&error))
}

fn asked_json(asked: &Asked) -> Value {
    let request = report::show_bytes(&asked.request);
    json!({ "function": asked.name, "tick": asked.tick, "request": request })
}

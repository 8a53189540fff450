//! `vac runs`: the runs of a home, and removing one.

use std::collections::BTreeSet;

use serde_json::json;
use vac_core::fault::Result;
use vac_core::ledger;
use vac_engine::report::{self, RunInfo};
use vac_engine::snapshot;

use crate::cli::{Global, Runs, RunsCommand};
use crate::{exit, show, ui};

pub(crate) fn runs(global: &Global, args: &Runs) -> Result<u8> {
    match &args.command {
        Some(RunsCommand::Rm { runs }) => rm(global, runs),
        Some(RunsCommand::Snapshots { run }) => snapshots(global, run),
        None => list(global, args),
    }
}

/// Every run is found before the first is removed, so that a wrong word removes nothing.
fn rm(global: &Global, runs: &[String]) -> Result<u8> {
    let home = super::home(global)?;
    let found = runs.iter().map(|run| home.find_run(run)).collect::<Result<BTreeSet<_>>>()?;
    for run in &found {
        ledger::remove(&**home.storage(), *run)?;
    }
    if global.json {
        let removed: Vec<_> = found.iter().map(ToString::to_string).collect();
        ui::print_json(&json!({ "removed": removed }));
    } else {
        found.iter().for_each(|run| ui::print(format_args!("removed {run}\n")));
    }
    Ok(exit::OK)
}

fn snapshots(global: &Global, run: &str) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let run = home.find_run(run)?;
    let listed = snapshot::list(&home, run)?;
    if global.json {
        let listed: Vec<_> = listed.iter().map(show::snapshot_json).collect();
        ui::print_json(&json!({ "run": run.to_string(), "snapshots": listed }));
        return Ok(exit::OK);
    }
    if listed.is_empty() {
        ui::note(format!("run `{run}` has no snapshots; a replay of it that is long enough leaves some"));
        return Ok(exit::OK);
    }
    let row = |listed: &snapshot::Listed| {
        let memory = snapshot::load(&home, run, listed).map(|snapshot| snapshot.memory.to_string());
        let memory = memory.unwrap_or_else(|_| ui::red("damaged"));
        vec![ui::count(listed.calls), ui::count(listed.events), ui::count(listed.tick), memory]
    };
    let head = [">CALLS", ">EVENT", ">TICK", "MEMORY"];
    ui::print(ui::table(&head, listed.iter().map(row).collect()));
    Ok(exit::OK)
}

fn list(global: &Global, args: &Runs) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let all = home.runs()?;
    let skip = args.limit.map_or(0, |limit| all.len().saturating_sub(limit));
    let infos: Vec<(String, Result<RunInfo>)> =
        all.iter().skip(skip).map(|run| (run.to_string(), report::run_info(&home, *run))).collect();
    if global.json {
        let runs = infos.iter().map(|(run, info)| match info {
            Ok(info) => show::run_json(info),
            Err(error) => json!({ "run": run, "error": ui::error_json(error) }),
        });
        ui::print_json(&json!({ "runs": runs.collect::<Vec<_>>() }));
        return Ok(exit::OK);
    }
    if infos.is_empty() {
        ui::note(match all.len() {
            0 => "there are no runs yet; `vac run TARGET` makes one".to_owned(),
            n => format!("`-n 0` shows none of {} runs", ui::count(n as u64)),
        });
        return Ok(exit::OK);
    }
    let rows = infos.into_iter().map(|(run, info)| match info {
        Ok(info) => row(&info),
        Err(error) => vec![run, String::new(), ui::red("damaged"), ui::quote_lines(&error.to_string())],
    });
    let head = ["RUN", "STARTED", "STATUS", "WHAT", ">EVENTS", ">TICKS", ">DENIED", "TARGET"];
    ui::print(ui::table(&head, rows.collect()));
    Ok(exit::OK)
}

fn row(info: &RunInfo) -> Vec<String> {
    vec![
        info.run.to_string(),
        info.started_unix_ms.map(show::instant).unwrap_or_default(),
        info.status().to_owned(),
        vac_core::fault::quote(&info.what),
        ui::count(info.events),
        ui::count(info.ticks),
        ui::count(info.denied),
        vac_core::fault::quote(&info.target),
    ]
}

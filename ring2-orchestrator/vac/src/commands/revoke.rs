//! `vac revoke`: takes a grant back from a run that goes on, or lists those that can be.

use serde_json::{Value, json};
use vac_core::fault::Result;
use vac_core::ledger::RunId;
use vac_engine::home::Home;
use vac_engine::revoke;

use crate::cli::{Global, Revoke};
use crate::{exit, ui};

pub(crate) fn revoke(global: &Global, args: &Revoke) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let Some(grant) = &args.grant else { return list(global, &home, run) };
    let mut ended = revoke::revoke(&home, run, grant)?;
    if global.json {
        ended.iter_mut().for_each(|grant| grant.is_wanted = true);
        ui::print_json(&json!({ "run": run.to_string(), "grants": as_json(&ended) }));
        return Ok(exit::OK);
    }
    for revoke::Revocable { number, words, is_wanted, .. } in ended {
        let what = if is_wanted { "was taken back already" } else { "ends with its next call" };
        ui::print(format_args!("grant {number} of {run} (`{words}`) {what}\n"));
    }
    Ok(exit::OK)
}

fn list(global: &Global, home: &Home, run: RunId) -> Result<u8> {
    let grants = revoke::revocable(home, run)?;
    if global.json {
        ui::print_json(&json!({ "run": run.to_string(), "grants": as_json(&grants) }));
    } else {
        let state = |is_wanted| if is_wanted { "taken back" } else { "held" };
        let row = |grant: &revoke::Revocable| {
            vec![grant.number.to_string(), state(grant.is_wanted).to_owned(), grant.words.clone()]
        };
        let head = [">GRANT", "STATE", "IS"];
        ui::print_table(&head, grants.iter().map(row).collect(), "it has no grant that can be taken back");
    }
    Ok(exit::OK)
}

fn as_json(grants: &[revoke::Revocable]) -> Vec<Value> {
    grants
        .iter()
        .map(|grant| json!({ "grant": grant.number, "is": grant.words, "taken_back": grant.is_wanted }))
        .collect()
}

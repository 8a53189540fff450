//! `vac revoke`: takes a grant back from a run that goes on.

use serde_json::json;
use vac_core::fault::Result;

use crate::cli::{Global, Revoke};
use crate::{exit, ui};

pub(crate) fn revoke(global: &Global, args: &Revoke) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let words = vac_engine::revoke::revoke(&home, run, args.grant)?;
    if global.json {
        ui::print_json(&json!({ "run": run.to_string(), "grant": args.grant, "was": words }));
    } else {
        ui::print(format_args!("grant {} of {run} (`{words}`) ends with its next call\n", args.grant));
    }
    Ok(exit::OK)
}

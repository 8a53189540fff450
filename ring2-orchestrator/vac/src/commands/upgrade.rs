//! `vac replay --with`: another version of a program against a record.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vac_core::fault::{Result, Usage, quote, quote_line};
use vac_core::ledger::RunId;
use vac_engine::history::{Difference, Kind, Side};
use vac_engine::replay::{Replaced, Upgraded};
use vac_engine::report::show_outcome;
use vac_engine::target::Target;
use vac_engine::{Home, Limit, Limits};
use vac_host::NoConsole;

use crate::cli::{Global, Replay};
use crate::ui::{self, Progress};
use crate::{exit, host};

/// Differences that are shown; `--json` has more.
const SHOWN_MAX: usize = 50;

pub(super) fn upgrade(
    global: &Global,
    args: &Replay,
    home: &Home,
    run: RunId,
    limits: &Limits,
) -> Result<u8> {
    let replaced = replaced(home, &args.with, limits.max(Limit::Module))?;
    let progress = Progress::start(&format!("replaying {run}"), global.quiet || global.json);
    let outside = host::outside(|_| Arc::new(Mutex::new(NoConsole)), limits);
    let upgraded = vac_engine::replay::upgrade(home, run, &replaced, args.lenient, outside);
    progress.stop();
    let upgraded = upgraded?;
    match global.json {
        true => ui::print_json(&as_json(&upgraded, &replaced)),
        false => show(&upgraded, args.lenient),
    }
    Ok(if upgraded.is_safe { exit::OK } else { exit::DIVERGENCE })
}

/// What `--with` names.
fn replaced(home: &Home, texts: &[String], max_bytes: u64) -> Result<Replaced> {
    let mut replaced = Replaced::default();
    for text in texts {
        let named = text.split_once('=').filter(|_| !std::path::Path::new(text).exists());
        let taken = match named {
            Some((name, target)) => {
                let target = Target::find_within(home, target, max_bytes)?;
                replaced.kernels.insert(name.to_owned(), target)
            }
            None => replaced.target.replace(Target::find_within(home, text, max_bytes)?),
        };
        if let Some(target) = taken {
            let message = format!("`{}` is replaced twice: by `{}`, too", quote(text), quote(&target.place));
            return Err(Usage::new(message).hint("`--with NAME=TARGET` replaces one of several").into());
        }
    }
    Ok(replaced)
}

fn show(upgraded: &Upgraded, is_lenient: bool) {
    let compared = &upgraded.compared;
    let (run, time) = (upgraded.run, ui::time(upgraded.time_ns));
    if upgraded.is_safe {
        let same = match upgraded.outcome {
            Some(_) => "same outputs, same outcome",
            None => "the same up to where the record ends: its process was killed there, or is still running",
        };
        let equal = ui::count(compared.equal);
        ui::print(format_args!("{} {run}: {equal} events equal, {same}, in {time}\n", ui::bold("safe")));
        return;
    }
    let word = ui::red("differs");
    let (equal, of) = (ui::count(compared.equal), ui::count(upgraded.events));
    if !is_lenient {
        ui::print(format_args!("{word} {run}: after {equal} of {of} events\n"));
        compared.before.iter().for_each(|side| line("   ", side));
        compared.differences.iter().for_each(difference);
        compared.after.iter().for_each(|side| line("   ", side));
        ui::note(ui::dim("`-` is the record, `+` the new version; `--lenient` goes on and lists all"));
        return;
    }
    ui::print(format_args!("{word} {run}: {equal} of {of} events equal, {}, in {time}\n", counts(upgraded)));
    compared.differences.iter().take(SHOWN_MAX).for_each(difference);
    let more = compared.differences.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        ui::print(format_args!("{more} more are listed with `--json`\n"));
    }
    if let Some(why) = &compared.stopped {
        ui::print(format_args!("stopped there: {}\n", quote_line(why)));
    }
}

fn counts(upgraded: &Upgraded) -> String {
    let found = Kind::ALL.iter().zip(upgraded.compared.counts).filter(|(_, count)| *count > 0);
    let found: Vec<_> = found.map(|(kind, count)| format!("{} {}", ui::count(count), kind.word())).collect();
    if found.is_empty() { "nothing else".to_owned() } else { found.join(", ") }
}

fn difference(difference: &Difference) {
    let word = difference.kind.word();
    if let Some(side) = &difference.recorded {
        line(" - ", side);
    }
    if let Some(side) = &difference.replayed {
        line(" + ", side);
    }
    ui::print(format_args!("   {}\n", ui::dim(word)));
}

fn line(mark: &str, side: &Side) {
    ui::print(format_args!("{mark}{:>6}  {}\n", side.event, quote_line(&side.words())));
}

fn as_json(upgraded: &Upgraded, replaced: &Replaced) -> Value {
    let compared = &upgraded.compared;
    let with = replaced.target.iter().map(|target| (None, target));
    let with = with.chain(replaced.kernels.iter().map(|(name, target)| (Some(name), target)));
    let with: Vec<_> =
        with.map(|(name, target)| json!({ "name": name, "cid": target.cid.to_string() })).collect();
    let counts: serde_json::Map<_, _> = Kind::ALL
        .iter()
        .zip(compared.counts)
        .map(|(kind, count)| (kind.word().to_owned(), json!(count)))
        .collect();
    json!({
        "run": upgraded.run.to_string(),
        "with": with,
        "safe": upgraded.is_safe,
        "complete": upgraded.outcome.is_some(),
        "events": upgraded.events,
        "equal": compared.equal,
        "counts": counts,
        "differences": compared.differences.iter().map(difference_json).collect::<Vec<_>>(),
        "before": compared.before.iter().map(side_json).collect::<Vec<_>>(),
        "after": compared.after.iter().map(side_json).collect::<Vec<_>>(),
        "stopped": compared.stopped,
        "outcome": upgraded.outcome.as_ref().map(show_outcome),
        "time_ns": upgraded.time_ns,
    })
}

fn difference_json(difference: &Difference) -> Value {
    json!({
        "kind": difference.kind.word(),
        "recorded": difference.recorded.as_ref().map(side_json),
        "replayed": difference.replayed.as_ref().map(side_json),
    })
}

pub(super) fn side_json(side: &Side) -> Value {
    json!({
        "event": side.event,
        "tick": side.tick,
        "function": side.function,
        "request": side.request,
        "answer": side.answer,
    })
}

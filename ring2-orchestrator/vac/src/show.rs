//! Runs as tables and as JSON.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use vac_core::fault::quote;
use vac_core::ledger::Outcome;
use vac_engine::grants::Grant;
use vac_engine::manifest::{self, Ask};
use vac_engine::report::{RunInfo, show_outcome};
use vac_engine::session::{KernelUse, Summary};
use vac_engine::snapshot::Listed;
use vac_host::limits::ENDED_FRAMES_MAX;
use vac_host::look::Frame;

use crate::ui;

/// What would allow a program to ask for its directories; DIR stands for any.
pub(crate) const ANY_DIRECTORY: &str = "dir:ro=DIR";

/// The end of a run: a table of its kernels if a script ran several, and one line.
pub(crate) fn summary(summary: &Summary, granted: &[Grant]) {
    if summary.kernels.len() > 1 {
        let rows = summary.kernels.iter().map(kernel_row).collect();
        ui::note(ui::table(&["KERNEL", "EXPORT", ">TICKS", ">EVENTS", ">TIME"], rows).trim_end());
    }
    for (guest, cid) in &summary.trees {
        ui::note(format!("tree  {}  {cid}", quote(guest)));
    }
    let line = format!(
        "{}  {} ticks  {} events  {}",
        summary
            .run
            .map_or_else(|| "not recorded".to_owned(), |run| format!("run {run}  head {}", summary.head)),
        ui::count(summary.ticks),
        ui::count(summary.events),
        ui::time(summary.time_ns)
    );
    ui::note(ui::dim(line));
    for grant in summary.denied.iter().filter(|grant| is_worth_a_line(grant, summary)) {
        let why = match is_granted(grant, granted) {
            true => "is granted, but the manifest does not ask for it",
            // What it wanted of them is not known: without one it asks for nothing in it.
            false if grant == ANY_DIRECTORY => {
                "would give it a directory: it asked which it has, and has none"
            }
            false => "would have allowed it",
        };
        ui::note(ui::dim(format!("denied  --grant {} {why}", quote(grant))));
    }
}

/// Whether the operator granted what was refused, so that only a manifest was in the way.
fn is_granted(denied: &str, granted: &[Grant]) -> bool {
    if denied == ANY_DIRECTORY {
        return granted.iter().any(|grant| matches!(grant, Grant::Dir { .. } | Grant::Tree { .. }));
    }
    let ask = Ask::parse(denied, "", true).ok();
    ask.is_some_and(|ask| manifest::agree(&[ask], granted).iter().any(|met| met.is_whole))
}

/// Many programs ask for all directories at their start and never need them, so that is news only if the program failed; and so
/// is a read of the input where there is none.
fn is_worth_a_line(grant: &str, summary: &Summary) -> bool {
    let is_news = match grant {
        ANY_DIRECTORY => false,
        "stdin" => crate::host::has_input(),
        _ => true,
    };
    is_news || !matches!(summary.outcome, Outcome::Exit(0) | Outcome::Done(_))
}

fn kernel_row(kernel: &KernelUse) -> Vec<String> {
    let export = kernel.export.rsplit('#').next().unwrap_or_default();
    vec![
        quote(&kernel.name),
        quote(export),
        ui::count(kernel.ticks),
        ui::count(kernel.events),
        ui::time(kernel.time_ns),
    ]
}

/// A summary as JSON.
pub(crate) fn summary_json(summary: &Summary) -> Value {
    json!({
        "run": summary.run.map(|run| run.to_string()),
        "head": summary.run.map(|_| summary.head.to_string()),
        "outcome": show_outcome(&summary.outcome),
        "stack": stack_json(&summary.stack),
        "ticks": summary.ticks,
        "events": summary.events,
        "time_ns": summary.time_ns,
        "denied": summary.denied,
        "trees": summary.trees.iter().map(|(guest, cid)| json!({ "guest": guest, "cid": cid.to_string() })).collect::<Vec<_>>(),
        "kernels": summary.kernels.iter().map(kernel_json).collect::<Vec<_>>(),
    })
}

fn kernel_json(kernel: &KernelUse) -> Value {
    json!({
        "name": kernel.name,
        "cid": kernel.cid.to_string(),
        "export": kernel.export,
        "ticks": kernel.ticks,
        "events": kernel.events,
        "time_ns": kernel.time_ns,
    })
}

/// The calls of a kernel, the innermost first.
pub(crate) fn stack_table(frames: &[Frame]) -> String {
    // Only what was not rewritten knows places.
    let has_places = frames.iter().any(|frame| frame.offset.is_some());
    let row = |(frame, depth): (&Frame, usize)| {
        let unnamed = || format!("function {}", frame.index);
        let function = frame.function.as_deref().map_or_else(unnamed, quote);
        let module = frame.module.as_deref().map(quote).unwrap_or_default();
        let mut row = vec![depth.to_string(), function, module];
        if has_places {
            row.push(frame.offset.map_or_else(String::new, |offset| format!("0x{offset:x}")));
        }
        row
    };
    let head = [">STACK", "FUNCTION", "MODULE", ">AT"];
    let head = if has_places { &head[..] } else { &head[..3] };
    ui::table(head, frames.iter().zip(0..).map(row).collect())
}

/// The same of a kernel that ended itself or came to a limit, of which the innermost are known.
pub(crate) fn ended_stack(frames: &[Frame]) -> String {
    let more = if frames.len() < ENDED_FRAMES_MAX { "" } else { "    …\n" };
    stack_table(frames) + more
}

pub(crate) fn stack_json(frames: &[Frame]) -> Value {
    let frame = |frame: &Frame| {
        json!({
            "module": frame.module,
            "function": frame.function,
            "index": frame.index,
            "offset": frame.offset,
        })
    };
    frames.iter().map(frame).collect()
}

/// One run of a list as JSON.
pub(crate) fn run_json(info: &RunInfo) -> Value {
    json!({
        "run": info.run.to_string(),
        "what": info.what,
        "target": info.target,
        "status": info.status(),
        "outcome": info.outcome.as_ref().map(show_outcome),
        "started": info.started_unix_ms.map(instant),
        "ended": info.ended_unix_ms.map(instant),
        "head": info.head.to_string(),
        "events": info.events,
        "ticks": info.ticks,
        "denied": info.denied,
    })
}

/// The first moment that RFC 3339 has no form for, in milliseconds since 1970: the year 10000.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// Milliseconds since 1970 as RFC 3339, in UTC; nothing for what is no moment.
pub(crate) fn instant(unix_ms: u64) -> String {
    if unix_ms >= YEAR_10000_MS {
        return String::new();
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// At most `max` characters.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// A snapshot of a run.
pub(crate) fn snapshot_json(listed: &Listed) -> Value {
    json!({
        "calls": listed.calls,
        "event": listed.events,
        "tick": listed.tick,
        "cid": listed.cid.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record may say anything: the library that writes it down panics from there on.
    #[test]
    fn a_moment_that_is_none_is_not_shown() {
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(instant(YEAR_10000_MS - 1), "9999-12-31T23:59:59Z");
        assert_eq!((instant(YEAR_10000_MS), instant(u64::MAX)), (String::new(), String::new()));
    }
}

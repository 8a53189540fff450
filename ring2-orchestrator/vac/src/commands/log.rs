//! `vac log`: the events of a run, with filters.

use serde_json::{Value, json};
use vac_core::fault::Result;
use vac_core::ledger::{Body, RunId};
use vac_core::store::Store;
use vac_engine::report::{self, EventInfo, Filter};
use vac_engine::{Home, seek};

use crate::cli::{Global, Log};
use crate::{exit, show, ui};

/// Events on each side of one unless the operator says otherwise.
const NEIGHBOURS: usize = 10;

pub(crate) fn log(global: &Global, args: Log) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let run = home.find_run(&args.run)?;
    if let Some(seq) = args.around {
        return around(global, &home, run, seq, args.limit.unwrap_or(NEIGHBOURS));
    }
    let filter =
        Filter { name: args.name, class: args.class, denied: args.denied, from: args.from, to: args.to };
    let mut events = report::events(&home, run, &filter)?;
    let found = events.len();
    events.truncate(args.limit.unwrap_or(usize::MAX));
    if global.json {
        let shown: Vec<_> = events.iter().map(|event| event_json(event, home.store())).collect();
        ui::print_json(&json!({ "run": run.to_string(), "found": found, "events": shown }));
        return Ok(exit::OK);
    }
    ui::print(table(&events, None, home.store()));
    if found > events.len() {
        ui::note(ui::dim(format!("{} of {} events; `-n` shows more", events.len(), found)));
    }
    Ok(exit::OK)
}

/// The events before and after `seq`, and those that it is inside of.
fn around(global: &Global, home: &Home, run: RunId, seq: u64, n: usize) -> Result<u8> {
    let events = report::around(home, run, seq, n as u64)?;
    if !events.iter().any(|event| event.seq == seq) {
        return Err(seek::no_event(run, seq, report::count(home, run)?));
    }
    if global.json {
        let shown: Vec<_> = events.iter().map(|event| event_json(event, home.store())).collect();
        ui::print_json(
            &json!({ "run": run.to_string(), "around": seq, "found": events.len(), "events": shown }),
        );
    } else {
        ui::print(table(&events, Some(seq), home.store()));
    }
    Ok(exit::OK)
}

/// What stands for the answer of an event that a run had none of.
const NO_ANSWER: &str = "(the record ends here)";

/// Events as lines of a table, one of them marked.
pub(super) fn table(events: &[EventInfo], marked: Option<u64>, store: &Store) -> String {
    table_with(events, marked, NO_ANSWER, store)
}

/// The same, with `unanswered` for the answers that are not among what is shown.
pub(super) fn table_with(
    events: &[EventInfo],
    marked: Option<u64>,
    unanswered: &str,
    store: &Store,
) -> String {
    let rows = events.iter().map(|event| {
        let mut row = row(event, unanswered, store);
        if let (Some(number), true) = (row.first_mut(), marked == Some(event.seq)) {
            number.insert(0, '>');
        }
        row
    });
    ui::table(&[">EVENT", ">TICK", "CLASS", "FUNCTION", "REQUEST", "ANSWER"], rows.collect())
}

fn row(event: &EventInfo, unanswered: &str, store: &Store) -> Vec<String> {
    let mut answer = match &event.answer {
        None => unanswered.to_owned(),
        Some(Ok(body)) => report::show_kept(body, store),
        Some(Err(outcome)) => report::show_outcome(outcome),
    };
    if let Some(grant) = &event.denied {
        answer = format!("denied; --grant {} would allow it", vac_core::fault::quote(grant));
    }
    vec![
        event.seq.to_string(),
        ui::count(event.tick),
        event.class.word().to_owned(),
        format!("{}{}", "  ".repeat(event.depth), vac_core::fault::quote(&event.name)),
        show::shorten(&report::show_kept(&event.request, store), 64),
        show::shorten(&answer, 80),
    ]
}

pub(super) fn event_json(event: &EventInfo, store: &Store) -> Value {
    json!({
        "event": event.seq,
        "parent": event.parent,
        "tick": event.tick,
        "class": event.class.word(),
        "function": event.name,
        "grant": event.grant,
        "request": body_json(&event.request, store),
        "answer": match &event.answer {
            None => Value::Null,
            Some(Ok(body)) => body_json(body, store),
            Some(Err(outcome)) => json!({ "ended": report::show_outcome(outcome) }),
        },
        "denied": event.denied,
    })
}

/// `{bytes, cid?, kept, shown}`: how long it is, its name if it is not inline, whether the store
/// has it, and its value in a few words.
pub(super) fn body_json(body: &Body, store: &Store) -> Value {
    let (cid, kept) = match body {
        Body::Inline(_) => (None, true),
        Body::Stored { cid, .. } => (Some(cid.to_string()), true),
        Body::Digest { cid, .. } => (Some(cid.to_string()), false),
    };
    json!({ "bytes": body.len_bytes(), "cid": cid, "kept": kept, "shown": report::show_kept(body, store) })
}

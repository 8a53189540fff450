//! `vac bisect`: the first event in which two runs differ, and what led to it.

use serde_json::{Value, json};
use vac_core::fault::{Result, quote, quote_line};
use vac_core::store::Store;
use vac_engine::bisect::{self, Bisected, Cause, Difference, HeaderField, Side};
use vac_engine::report::{self, EventInfo};

use super::log::{event_json, table, table_with};
use crate::cli::{Bisect, Global};
use crate::{exit, show, ui};

/// What is compared of two events, as it is shown.
const FIELDS: [&str; 8] = ["function", "class", "parent", "tick", "request", "answer", "grant", "denied"];
/// Characters of a request or answer that are shown.
const SHOWN_CHARS: usize = 400;

pub(crate) fn bisect(global: &Global, args: &Bisect) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let runs = [home.find_run(&args.run_a)?, home.find_run(&args.run_b)?];
    let bisected = bisect::bisect(&home, runs, args.limit)?;
    if global.json {
        ui::print_json(&as_json(&bisected, home.store()));
    } else {
        print(&bisected, home.store());
    }
    Ok(if bisected.is_equal() { exit::OK } else { exit::DIVERGENCE })
}

fn print(bisected: &Bisected, store: &Store) {
    let [a, b] = bisected.runs;
    let equal = ui::count(bisected.equal_events);
    if bisected.is_equal() {
        ui::print(format_args!("{} {a} and {b}: {equal} events\n", ui::bold("equal")));
        if let Some(head) = bisected.head {
            ui::print(format_args!("head  {head}\n"));
        }
        return;
    }
    let word = ui::bold("different");
    match &bisected.difference {
        Some(difference) => {
            ui::print(format_args!("{word} {a} (A) and {b} (B) after {equal} equal events\n"));
            print_before(bisected, store);
            print_difference(difference, store);
            print_cause(bisected, difference, store);
        }
        None => ui::print(format_args!("{word} {a} (A) and {b} (B): all {equal} events are equal\n")),
    }
    print_header(&bisected.header);
    if !bisected.same_engine {
        ui::note("recorded by different engines: ticks were not compared");
    }
}

fn print_before(bisected: &Bisected, store: &Store) {
    if !bisected.before.is_empty() {
        // Those had no answer yet where the two part, whatever came of them later.
        let table = table_with(&bisected.before, None, "(the first difference is inside of it)", store);
        ui::print(format_args!("\nbefore it, in both\n{table}"));
    }
}

fn print_difference(difference: &Difference, store: &Store) {
    let [a, b] = &difference.sides;
    let place = bisect::seq_of(difference).map_or_else(String::new, |seq| format!(" at event {seq}"));
    ui::print(format_args!("\nfirst difference{place}: {}\n", difference.fields.join(", ")));
    let (left, right) = (lines(a, store), lines(b, store));
    let of = |lines: &[(&str, String)], name: &str| {
        let found = lines.iter().find(|(line, _)| *line == name);
        found.map_or_else(String::new, |(_, text)| text.clone())
    };
    let rows = FIELDS.iter().map(|name| {
        let (a, b) = (of(&left, name), of(&right, name));
        let mark = if a == b && !difference.fields.contains(name) { "" } else { "≠" };
        vec![mark.to_owned(), (*name).to_owned(), a, b]
    });
    ui::print(ui::table(&["", "", "A", "B"], rows.collect()));
}

/// What one run has, field by field.
fn lines(side: &Side, store: &Store) -> Vec<(&'static str, String)> {
    let optional = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let short = |text: &str| quote_line(&show::shorten(text, SHOWN_CHARS));
    match side {
        Side::Event(event) => vec![
            ("function", quote(&event.name)),
            ("class", event.class.word().to_owned()),
            ("parent", optional(event.parent)),
            ("tick", ui::count(event.tick)),
            ("request", short(&report::show_kept(&event.request, store))),
            ("answer", short(&answer(event, store))),
            ("grant", optional(event.grant.map(u64::from))),
            ("denied", event.denied.as_deref().map_or_else(String::new, short)),
        ],
        Side::Close { outcome, ticks, events } => vec![
            ("function", format!("(the run ended after {} events)", ui::count(*events))),
            ("tick", ui::count(*ticks)),
            ("answer", short(&report::show_outcome(outcome))),
        ],
        Side::Open => vec![("function", "(the record stops here)".to_owned())],
    }
}

fn answer(event: &EventInfo, store: &Store) -> String {
    match &event.answer {
        None => "(it was about to happen)".to_owned(),
        Some(Ok(body)) => report::show_kept(body, store),
        Some(Err(outcome)) => report::show_outcome(outcome),
    }
}

fn print_cause(bisected: &Bisected, difference: &Difference, store: &Store) {
    ui::print(format_args!("\ncause   {}\n", in_words(bisected, difference)));
    if !bisected.reads.is_empty() && difference.cause != Cause::World {
        let table = table(&bisected.reads, None, store);
        ui::print(format_args!("\nthe last answers of the world, equal in both\n{table}"));
    }
}

fn in_words(bisected: &Bisected, difference: &Difference) -> String {
    match difference.cause {
        Cause::World => "the world: the same question had another answer".to_owned(),
        Cause::Operator => {
            "the operator or the machine: a run was ended or lost a grant, or its record stops".to_owned()
        }
        Cause::Start => {
            let names: Vec<&str> = bisected.header.iter().map(|field| field.name.as_str()).collect();
            format!("the start: the runs were started with different {}", quote(&names.join(", ")))
        }
        Cause::Leak => "neither start nor world differ: the same program did something else after the same \
                        answers, which is a bug of VAC or of what it ran on"
            .to_owned(),
    }
}

fn print_header(header: &[HeaderField]) {
    if header.is_empty() {
        return;
    }
    let side = |node: &Option<vac_core::canon::Node>| {
        node.as_ref().map_or_else(|| "none".to_owned(), report::show_node)
    };
    let rows = header.iter().map(|field| {
        let [a, b] = field.sides.each_ref().map(side);
        let short = |text: &str| quote_line(&show::shorten(text, SHOWN_CHARS));
        vec![quote(&field.name), short(&a), short(&b)]
    });
    ui::print(format_args!("\n{}", ui::table(&["STARTED WITH", "A", "B"], rows.collect())));
}

fn as_json(bisected: &Bisected, store: &Store) -> Value {
    let events =
        |events: &[EventInfo]| events.iter().map(|event| event_json(event, store)).collect::<Vec<_>>();
    let node = |node: &Option<vac_core::canon::Node>| node.as_ref().map(report::show_node);
    let header = bisected.header.iter().map(|field| {
        let [a, b] = field.sides.each_ref().map(node);
        json!({ "field": field.name, "a": a, "b": b })
    });
    json!({
        "runs": bisected.runs.map(|run| run.to_string()),
        "equal": bisected.is_equal(),
        "same_engine": bisected.same_engine,
        "equal_events": bisected.equal_events,
        "head": bisected.head.map(|head| head.to_string()),
        "header": header.collect::<Vec<_>>(),
        "before": events(&bisected.before),
        "reads": events(&bisected.reads),
        "difference": bisected.difference.as_ref().map(|difference| difference_json(difference, store)),
    })
}

fn difference_json(difference: &Difference, store: &Store) -> Value {
    let [a, b] = difference.sides.each_ref().map(|side| match side {
        Side::Event(event) => event_json(event, store),
        Side::Close { outcome, ticks, events } => {
            json!({ "ended": report::show_outcome(outcome), "ticks": ticks, "events": events })
        }
        Side::Open => Value::Null,
    });
    json!({
        "event": bisect::seq_of(difference),
        "fields": difference.fields,
        "cause": difference.cause.word(),
        "a": a,
        "b": b,
    })
}

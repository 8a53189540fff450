//! `vac mem watch`: what the pagers of running processes do, as it changes.
//!
//! What is shown was said by the processes themselves, five times a second at most. A counter that a process does
//! not know is shown as `-`.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use serde_json::{Map, Value, json};
use vac_core::fault::Result;
use vac_engine::watching::{self, Watched};

use crate::cli::Global;
use crate::{exit, ui};

/// How often and how long.
pub(crate) struct Looks {
    pub(crate) every: Duration,
    pub(crate) count: Option<u64>,
}

pub(crate) fn watch(global: &Global, what: Option<&str>, looks: &Looks) -> Result<u8> {
    let home = super::home(global)?;
    let run = what.and_then(|what| home.find_run(what).ok());
    let is_meant = |watched: &Watched| {
        what.is_none_or(|what| watched.name == what) || run.is_some_and(|run| watched.run == run.as_str())
    };
    let count = looks.count.unwrap_or(if global.json { 1 } else { u64::MAX });
    let is_terminal = stdout().is_terminal();
    let (mut before, mut lines) = (Vec::new(), 0);
    for look in 0..count {
        if look > 0 {
            std::thread::sleep(looks.every);
        }
        let mut now = watching::watched(&home)?;
        now.retain(is_meant);
        if global.json {
            ui::print_json(&json!({ "memories": now.iter().map(as_json).collect::<Vec<_>>() }));
        } else {
            let text = table(&now, &before, looks.every);
            if is_terminal && lines > 0 {
                ui::print(format_args!("\x1b[{lines}A\x1b[J"));
            }
            ui::print(&text);
            lines = text.lines().count();
        }
        if now.is_empty() && looks.count.is_none() {
            break;
        }
        before = now;
    }
    Ok(exit::OK)
}

fn as_json(watched: &Watched) -> Value {
    let counters: Map<String, Value> =
        watched.counters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({ "memory": watched.name, "run": watched.run, "counters": counters })
}

fn table(now: &[Watched], before: &[Watched], every: Duration) -> String {
    if now.is_empty() {
        return "no run has a memory open\n".to_owned();
    }
    let head = [
        "MEMORY",
        "RUN",
        ">RESIDENT",
        ">HITS",
        ">HIT RATIO",
        ">MISSES",
        ">READ",
        ">READ/S",
        ">EVICTED",
        ">OF IT READ AGAIN",
        ">WRITTEN BACK",
        ">READ AHEAD",
        ">OF IT USED",
        ">FROM BELOW",
    ];
    let row = |watched: &Watched| {
        let is_same = |other: &&Watched| (&other.name, &other.run) == (&watched.name, &watched.run);
        let last = before.iter().find(is_same);
        let count = |name| watched.counter(name).map_or("-".to_owned(), ui::count);
        let hits = watched.counter("hits").zip(watched.counter("misses"));
        vec![
            ui::quote_lines(&watched.name),
            ui::quote_lines(&watched.run),
            count("resident"),
            count("hits"),
            ratio(hits.map(|(hits, misses)| (hits, hits.saturating_add(misses)))),
            count("misses"),
            count("page_reads"),
            rate(watched.counter("page_reads"), last.and_then(|last| last.counter("page_reads")), every),
            count("evictions"),
            ratio(watched.counter("again").zip(watched.counter("evictions"))),
            count("write_backs"),
            count("ahead"),
            ratio(watched.counter("ahead_used").zip(watched.counter("ahead"))),
            count("below_found"),
        ]
    };
    ui::table(&head, now.iter().map(row).collect())
}

/// A part of something, if there is something.
fn ratio(parts: Option<(u64, u64)>) -> String {
    match parts {
        Some((part, of)) if of > 0 => format!("{:.2} %", 100.0 * part as f64 / of as f64),
        _ => "-".to_owned(),
    }
}

/// What came in a second since the last look.
fn rate(now: Option<u64>, before: Option<u64>, every: Duration) -> String {
    match now.zip(before) {
        Some((now, before)) => {
            format!("{:.0}", now.saturating_sub(before) as f64 / every.as_secs_f64().max(0.001))
        }
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_a_number() {
        assert_eq!([ratio(None), ratio(Some((0, 0))), ratio(Some((1, 3)))], ["-", "-", "33.33 %"]);
        let second = Duration::from_secs(1);
        assert_eq!([rate(None, None, second), rate(Some(9), Some(4), 2 * second)], ["-", "2"]);
        let watched = |hits| Watched {
            name: "m".into(),
            run: "\u{1b}r".into(),
            counters: vec![("hits".into(), hits), ("misses".into(), 1), ("page_reads".into(), hits)],
        };
        let text = table(&[watched(3)], &[watched(1)], second);
        assert!(text.contains("75.00 %") && text.contains("\\u{1b}r") && !text.contains('\u{1b}'), "{text}");
    }
}

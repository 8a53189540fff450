//! `vac mem watch`: what the pagers of running processes do, as it changes.
//!
//! What is shown was said by the processes themselves, five times a second at most. A counter that a process does
//! not know is shown as `-`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use serde_json::{Map, Value, json};
use vac_core::cid::Cid;
use vac_core::fault::Result;
use vac_engine::Home;
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
    let (mut before, mut lines, mut places) = (Vec::new(), 0, Places::default());
    for look in 0..count {
        if look > 0 {
            std::thread::sleep(looks.every);
        }
        let mut now = watching::watched(&home)?;
        now.retain(is_meant);
        places.look_up(&home, &now)?;
        if global.json {
            let memories: Vec<Value> =
                now.iter().map(|watched| as_json(watched, places.of(watched))).collect();
            ui::print_json(&json!({ "memories": memories }));
        } else {
            let text = shown(&now, &Before { watched: &before, every: looks.every }, &places);
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

/// How many pages each memory had when it was opened, and how many of them the store has. Looked up once.
#[derive(Default)]
struct Places(BTreeMap<Cid, Option<(u64, u64)>>);

impl Places {
    fn look_up(&mut self, home: &Home, now: &[Watched]) -> Result<()> {
        for watched in now {
            if let Some(root) = watched.root.filter(|root| !self.0.contains_key(root)) {
                self.0.insert(root, watched.places(home)?);
            }
        }
        Ok(())
    }

    fn of(&self, watched: &Watched) -> Option<(u64, u64)> {
        self.0.get(&watched.root?).copied().flatten()
    }
}

/// What was seen the last time.
struct Before<'a> {
    watched: &'a [Watched],
    every: Duration,
}

impl Before<'_> {
    fn of(&self, now: &Watched) -> Option<&Watched> {
        self.watched.iter().find(|other| (&other.name, &other.run) == (&now.name, &now.run))
    }

    /// Bytes a second of pages that `count` counts.
    fn bytes_a_second(&self, now: &Watched, count: impl Fn(&Watched) -> Option<u64>) -> String {
        let pages = count(now).zip(self.of(now).and_then(&count));
        match pages.zip(now.counter("page_bytes")) {
            Some(((now, before), page_len)) => {
                let seconds = self.every.as_secs_f64().max(0.001);
                let bytes = now.saturating_sub(before).saturating_mul(page_len) as f64 / seconds;
                bytesize::ByteSize(bytes as u64).display().iec().to_string()
            }
            None => "-".to_owned(),
        }
    }
}

fn as_json(watched: &Watched, places: Option<(u64, u64)>) -> Value {
    let counters: Map<String, Value> =
        watched.counters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let (pages, in_store) = places.unzip();
    json!({ "memory": watched.name, "run": watched.run, "pages": pages, "in_store": in_store, "counters": counters })
}

fn shown(now: &[Watched], before: &Before<'_>, places: &Places) -> String {
    if now.is_empty() {
        return "no run has a memory open\n".to_owned();
    }
    let tiers = now.iter().flat_map(|watched| tiers(watched, before, places.of(watched))).collect();
    let head = ["MEMORY", "RUN", "TIER", ">PAGES", ">FOUND", ">OF READS", ">READ/S", ">WRITTEN/S"];
    let mut text = ui::table(&head, tiers);
    text.push('\n');
    let head = [
        "MEMORY",
        "RUN",
        ">CHANGED",
        ">EVICTED",
        ">OF IT READ AGAIN",
        ">WRITTEN BACK",
        ">READ AHEAD",
        ">OF IT USED",
    ];
    text.push_str(&ui::table(&head, now.iter().map(decisions).collect()));
    text
}

fn name_of(watched: &Watched) -> [String; 2] {
    [ui::quote_lines(&watched.name), ui::quote_lines(&watched.run)]
}

/// Pages that came from the store, or from below it.
fn read(watched: &Watched) -> Option<u64> {
    Some(watched.counter("page_reads")?.saturating_add(watched.counter("ahead")?))
}

/// A row for each place that pages are found in: memory, the store, and each tier below it.
fn tiers(watched: &Watched, before: &Before<'_>, places: Option<(u64, u64)>) -> Vec<Vec<String>> {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), ui::count);
    let row = |tier: &str, rest: [String; 5]| {
        name_of(watched).into_iter().chain([ui::quote_lines(tier)]).chain(rest).collect::<Vec<_>>()
    };
    let none = || "-".to_owned();
    let (hits, misses) = (watched.counter("hits"), watched.counter("misses"));
    let uses = hits.zip(misses).map(|(hits, misses)| hits.saturating_add(misses));
    let memory = [number(watched.counter("resident")), number(hits), ratio(hits.zip(uses)), none(), none()];
    let below: u64 = watched.tiers().map(|(_, found)| found).sum();
    let all = read(watched);
    let here = all.map(|all| all.saturating_sub(below));
    let written = |watched: &Watched| watched.counter("page_writes");
    let store = [
        places.map_or_else(none, |(all, here)| format!("{} of {}", ui::count(here), ui::count(all))),
        number(here),
        ratio(here.zip(all)),
        before.bytes_a_second(watched, read),
        before.bytes_a_second(watched, written),
    ];
    let mut rows = vec![row("memory", memory), row("store", store)];
    for (name, found) in watched.tiers() {
        let of_this = |watched: &Watched| watched.tiers().find(|(tier, _)| *tier == name).map(|(_, n)| n);
        let cells = [
            none(),
            ui::count(found),
            ratio(Some(found).zip(all)),
            before.bytes_a_second(watched, of_this),
            none(),
        ];
        rows.push(row(name, cells));
    }
    rows
}

/// How good it was to let pages leave, and to read them ahead.
fn decisions(watched: &Watched) -> Vec<String> {
    let count = |name| watched.counter(name).map_or("-".to_owned(), ui::count);
    let part = |part, of| ratio(watched.counter(part).zip(watched.counter(of)));
    let cells = [
        count("dirty"),
        count("evictions"),
        part("again", "evictions"),
        count("write_backs"),
        count("ahead"),
        part("ahead_used", "ahead"),
    ];
    name_of(watched).into_iter().chain(cells).collect()
}

/// A part of something, if there is something.
fn ratio(parts: Option<(u64, u64)>) -> String {
    match parts {
        Some((part, of)) if of > 0 => format!("{:.2} %", 100.0 * part as f64 / of as f64),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_a_number() {
        assert_eq!([ratio(None), ratio(Some((0, 0))), ratio(Some((1, 3)))], ["-", "-", "33.33 %"]);
        let watched = |pages: u64| Watched {
            name: "m".into(),
            run: "\u{1b}r".into(),
            root: None,
            counters: [
                ("hits", 3),
                ("misses", 1),
                ("page_bytes", 1 << 20),
                ("page_reads", pages),
                ("ahead", 0),
                ("found in cold", 2),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        };
        let (then, now) = ([watched(8)], [watched(20)]);
        let before = Before { watched: &then, every: Duration::from_secs(2) };
        let text = shown(&now, &before, &Places::default());
        let has = |parts: &[&str]| text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(has(&["memory", "75.00 %"]) && has(&["store", "18", "90.00 %", "6.0 MiB"]), "{text}");
        assert!(has(&["cold", " 2 ", "10.00 %", "0 B"]), "{text}");
        assert!(text.contains("\\u{1b}r") && !text.contains('\u{1b}'), "{text}");
    }
}

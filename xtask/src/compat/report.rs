//! Rows of the table: for the terminal, as JSON, and as `docs/compatibility.md`.

use serde_json::{Value, json};

use super::Program;
use super::trial::Measured;
use crate::repo::Result;

/// A program and what came of it.
pub(super) struct Row {
    pub(super) program: &'static Program,
    pub(super) result: Result<Measured>,
}

impl Row {
    pub(super) fn of(program: &'static Program, result: Result<Measured>) -> Self {
        Self { program, result }
    }

    /// One line for the terminal.
    pub(super) fn line(&self) -> String {
        let name = self.program.name;
        match &self.result {
            Ok(m) => format!(
                "ok      {name:<16} {:>9}  cold {:>8.0} ms  warm {:>7.1} ms  {:>15} ticks {:>7} events {:>8} ledger bytes",
                size(m.size_bytes),
                m.cold_ms,
                m.warm_ms,
                thousands(m.ticks),
                thousands(m.events),
                thousands(m.ledger_bytes),
            ),
            Err(why) => format!("FAILED  {name:<16} {why}"),
        }
    }

    fn json(&self) -> Value {
        let program = json!({ "name": self.program.name, "origin": self.program.origin.words() });
        let result = match &self.result {
            Ok(m) => json!({
                "size_bytes": m.size_bytes,
                "cold_ms": m.cold_ms,
                "warm_ms": m.warm_ms,
                "ticks": m.ticks,
                "events": m.events,
                "ledger_bytes": m.ledger_bytes,
                "refused_without_grants": m.is_refusable,
            }),
            Err(why) => json!({ "error": why }),
        };
        json!({ "program": program, "ok": self.result.is_ok(), "result": result })
    }

    fn markdown(&self) -> String {
        let Ok(m) = &self.result else { return String::new() };
        let refused = if m.is_refusable { "refused" } else { "needs nothing" };
        format!(
            "| `{}` | {} | {} | {} | {:.0} ms | {:.0} ms | {} | {} | {} | {} | {} |\n",
            self.program.name,
            self.program.about,
            self.program.origin.words(),
            size(m.size_bytes),
            m.cold_ms,
            m.warm_ms,
            thousands(m.ticks),
            thousands(m.events),
            thousands(m.ledger_bytes),
            self.program.against,
            refused,
        )
    }
}

/// All rows as one object.
pub(super) fn json(rows: &[Row]) -> Value {
    json!({ "programs": rows.iter().map(Row::json).collect::<Vec<_>>() })
}

const HEAD: &str = "\
# Programs that run

Written by `cargo xtask compat --write`. Each program is fetched from its registry at a pinned version, or built by
the named toolchain from a program in `examples/compat/`, and run by the release `vac`:

1. its answer is right, compared with what the column says;
2. six equal runs have one ledger head;
3. `vac replay` and `vac verify` find them equal and whole;
4. without grants it is refused: the program and the operator are told, and the denial is on record; or it needs
   nothing, and answers the same.

Size is the program's; the cold start compiles it, the warm one (median of five) takes the code from the cache;
both are whole processes with the whole job. Ledger bytes are of the run's own file. Times are of one machine with 2
cores@LOAD@; ticks and events are the same on every machine, ledger bytes differ by a few (its times are kept
beside the chain), and programs that are built here differ in all, since toolchains give other bytes each time.

| name | what it is | from | size | cold | warm | ticks | events | ledger bytes | compared with | without grants |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// The whole page.
pub(super) fn page(rows: &[Row]) -> String {
    let rows: String = rows.iter().map(Row::markdown).collect();
    let head = HEAD.replace("@LOAD@", &load().unwrap_or_default());
    format!("{head}{rows}\n{}", super::programs::NOT_RUN)
}

/// How busy the machine was while the rows were made: the mean of a quarter of an hour. One program alone is 1.
fn load() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let mean: f64 = text.split(' ').nth(2)?.parse().ok()?;
    let told = match mean < 1.5 {
        true => ", with nothing else to do",
        false => ", which had other work at the time: idle, it is faster",
    };
    Some(format!("{told} (load {mean:.1})"))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} KB", bytes / 1_000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// `1234567` as `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(size(373_315), "373 KB");
        assert_eq!(size(26_267_204), "26.3 MB");
    }
}

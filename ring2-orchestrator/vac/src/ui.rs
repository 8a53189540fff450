//! What a person sees: colour only on a terminal and never under `NO_COLOR`, tables, a progress
//! line for what takes longer than a second, and errors with what to type instead.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use vac_core::fault::{Error, is_hidden, quote_line};

use crate::exit;

const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Prints text to the standard output. A reader that went away is no error of ours.
pub(crate) fn print(text: impl Display) {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe && !IS_LOST.swap(true, Ordering::Relaxed) => {
            note(format_args!("{} cannot write to the standard output: {e}", red("error:")));
        }
        _ => {}
    }
}

/// Whether something that was printed is nowhere, because the disk is full, say.
pub(crate) fn is_lost() -> bool {
    IS_LOST.load(Ordering::Relaxed)
}

static IS_LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line to the standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints the one JSON object of a command.
pub(crate) fn print_json(value: &Value) {
    print(format_args!("{}\n", escaped(&format!("{value:#}"))));
}

/// JSON in which nothing is left that a terminal would obey: every such character is inside of a string,
/// where it can be written as a number.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if c == '\n' || !is_hidden(c) => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

pub(crate) fn dim(text: impl Display) -> String {
    format!("{DIM}{text}{DIM:#}")
}

pub(crate) fn bold(text: impl Display) -> String {
    format!("{BOLD}{text}{BOLD:#}")
}

pub(crate) fn red(text: impl Display) -> String {
    format!("{RED}{text}{RED:#}")
}

/// Lines of cells under a head, in columns. The columns whose head begins with `>` are numbers
/// and stand to the right. Without lines there is no head. Only the last cell of a line can have a colour: what a
/// terminal does not show is counted, too.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(head.iter().map(|h| h.trim_start_matches('>')));
    table.add_rows(rows);
    for (i, name) in head.iter().enumerate() {
        if let Some(column) = table.column_mut(i) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Prints a table, or says on the standard error that there is `none`.
pub(crate) fn print_table(head: &[&str], rows: Vec<Vec<String>>, none: &str) {
    if rows.is_empty() {
        return note(dim(none));
    }
    print(table(head, rows));
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
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

/// Nanoseconds with three figures and a unit.
pub(crate) fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// Prints an error and what to do about it.
pub(crate) fn error(error: &Error, is_json: bool) {
    let hint = hint(error);
    if is_json {
        print_json(&json!({ "error": error_json(error) }));
    }
    note(format_args!("{RED}error{RED:#}: {}", quote_lines(&error.to_string())));
    if let Error::Divergence(d) = error {
        note(format_args!("  recorded: {}", quote_line(&d.recorded)));
        note(format_args!("  replayed: {}", quote_line(&d.replayed)));
    }
    if let Some(hint) = hint {
        note(format_args!("{CYAN}hint{CYAN:#}: {}", quote_lines(&hint)));
    }
}

/// Every line of `text` with its control characters escaped: whatever a message quotes, a terminal
/// obeys none of it.
pub(crate) fn quote_lines(text: &str) -> String {
    text.split('\n').map(quote_line).collect::<Vec<_>>().join("\n")
}

/// An error as JSON: `{kind, message, hint, exit_code}`.
pub(crate) fn error_json(error: &Error) -> Value {
    let kind = match error {
        Error::Fault(fault) => fault.kind,
        Error::Abort(abort) => abort.kind.word(),
        Error::Corrupt(_) => "corrupt",
        Error::Divergence(_) => "divergence",
        Error::Usage(_) => "usage",
    };
    json!({ "kind": kind, "message": error.to_string(), "hint": hint(error), "exit_code": exit::of_error(error) })
}

fn hint(error: &Error) -> Option<String> {
    match error {
        // A program is the operator's file; the home has nothing to do with it.
        Error::Corrupt(corrupt) if corrupt.what == "program" => None,
        Error::Corrupt(corrupt) if corrupt.what == "proof" => {
            Some("`vac mem prove` writes a proof; nothing of a home was looked at".into())
        }
        Error::Corrupt(_) => Some("`vac verify --all` and `vac store fsck` say what else is affected".into()),
        _ => error.hint().map(str::to_owned),
    }
}

/// A line that says what is going on, if it goes on for longer than a second and somebody looks.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Option<Running>>>);

struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Shows `what` until it is stopped or dropped.
    pub(crate) fn start(what: &str, is_quiet: bool) -> Self {
        if is_quiet || !std::io::stderr().is_terminal() {
            return Self::none();
        }
        let what = quote_line(what);
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut seconds = 0;
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                seconds += 1;
                let _ = write!(anstream::stderr(), "\r{DIM}{what} … {seconds} s{DIM:#}");
            }
            if seconds > 0 {
                let _ = write!(anstream::stderr(), "\r\x1b[2K");
            }
        });
        Self(Arc::new(Mutex::new(Some(Running { stop, thread }))))
    }

    /// Shows nothing.
    pub(crate) fn none() -> Self {
        Self(Arc::default())
    }

    /// Takes the line away.
    pub(crate) fn stop(&self) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread }) = running {
            drop(stop);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_nothing_that_a_terminal_obeys_and_means_the_same() {
        let value = json!({ "a\u{9b}": "\u{202e}\u{1b}\u{7f}\u{e0041}\n\u{61c}", "b": [1] });
        let shown = escaped(&format!("{value:#}"));
        assert!(!shown.contains(|c| c != '\n' && is_hidden(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [time(12), time(1_500), time(2_000_000), time(3_210_000_000)],
            ["12 ns", "1.5 us", "2.0 ms", "3.21 s"]
        );
    }
}

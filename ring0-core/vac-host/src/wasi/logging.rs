//! `wasi:logging`: a line on the standard error for each message, which is recorded like any output.

use vac_core::canon::Reader;
use vac_core::fault::{Corrupt, quote_line};
use vac_core::ledger::Class::Effect;
use wasmtime::component::{ComponentType, Lift, Lower};

use super::io::of_console;
use crate::host::{Host, Out};
use crate::wall::Wall;
use crate::wire::{Wire, cases};

/// The versions under which the interface is imported: none was released.
const VERSIONS: [&str; 2] = ["", "@0.1.0-draft"];

/// `wasi:logging/logging.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}
cases!(Level { Trace, Debug, Info, Warn, Error, Critical });

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    VERSIONS.into_iter().try_for_each(|version| {
        wall.interface("wasi:logging/logging", version, |i| {
            i.proc("log", Effect, |h, (level, context, message): (Level, String, String)| {
                log(h, level, &context, &message)
            })
        })
    })
}

/// The line that a recorded call printed.
pub(crate) fn line_of(request: &[u8]) -> Result<String, Corrupt> {
    let mut reader = Reader::new(request, "a message to log");
    let (level, context, message) = <(Level, String, String)>::read(&mut reader)?;
    reader.finish()?;
    Ok(line(level, &context, &message))
}

fn line(level: Level, context: &str, message: &str) -> String {
    let word = format!("{level:?}").to_ascii_lowercase();
    let context = if context.is_empty() { String::new() } else { format!(" {}:", quote_line(context)) };
    // A line has its end anyway.
    format!("{word}:{context} {}\n", quote_line(message.trim_end_matches(['\n', '\r'])))
}

fn log(host: &mut Host, level: Level, context: &str, message: &str) -> vac_core::fault::Result<()> {
    let line = line(level, context, message);
    host.give_out(line.len())?;
    match host.console.write(Out::Stderr, line.as_bytes()) {
        Err(error) => of_console(error).map(drop),
        // A log that nobody can read any more is no reason to end the guest.
        Ok(()) => Ok(()),
    }
}

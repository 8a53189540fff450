//! `wasi:cli`: environment, arguments, exit, standard streams, terminals.
//!
//! A guest never learns whether a terminal is there: that would differ between runs.

use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::Local;
use wasmtime::component::{ComponentType, Lift, Lower, Resource, StreamReader};

use super::VERSION;
use super::streams::{self, Opened};
use crate::fs;
use crate::host::{Host, Object, Out};
use crate::wall::Wall;
use crate::wasi::cli::{TerminalInput, TerminalOutput};
use crate::wasi::io::{Input, Output};
use crate::wire::cases;

/// `wasi:cli/types.error-code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum ErrorCode {
    #[component(name = "io")]
    Io,
    #[component(name = "illegal-byte-sequence")]
    IllegalByteSequence,
    #[component(name = "pipe")]
    Pipe,
}
cases!(ErrorCode { Io, IllegalByteSequence, Pipe } Pipe);

impl From<fs::ErrorCode> for ErrorCode {
    fn from(code: fs::ErrorCode) -> Self {
        match code {
            fs::ErrorCode::Pipe => Self::Pipe,
            fs::ErrorCode::IllegalByteSequence => Self::IllegalByteSequence,
            _ => Self::Io,
        }
    }
}

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:cli/environment", VERSION, |i| {
        i.func("get-environment", Local, |h, (): ()| Ok(h.env.clone()))?;
        i.func("get-arguments", Local, |h, (): ()| Ok(h.args.clone()))?;
        i.func("get-initial-cwd", Local, |_, (): ()| Ok(None::<String>))
    })?;
    wall.interface("wasi:cli/exit", VERSION, |i| {
        i.exit("exit", Local, false, |(status,): &(std::result::Result<(), ()>,)| {
            u32::from(status.is_err())
        })?;
        i.exit("exit-with-code", Local, false, |(status,): &(u8,)| u32::from(*status))
    })?;
    wall.interface("wasi:cli/types", VERSION, |_| Ok(()))?;
    define_streams(wall)?;
    define_terminals(wall)
}

fn define_streams(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:cli/stdin", VERSION, |i| {
        let part = streams::reading::<ErrorCode>(i, "read-via-stream");
        i.streams(
            "read-via-stream",
            Local,
            |(): ()| ((), ()),
            |h, ()| stdin(h),
            move |store, opened, ()| part.open(store, opened),
        )
    })?;
    for (name, to) in [("wasi:cli/stdout", Out::Stdout), ("wasi:cli/stderr", Out::Stderr)] {
        wall.interface(name, VERSION, |i| {
            let part = streams::writing::<ErrorCode>(i, "write-via-stream");
            i.streams(
                "write-via-stream",
                Local,
                |(data,): (StreamReader<u8>,)| ((), data),
                move |h, ()| output(h, to),
                move |store, opened, data| part.open(store, opened, data),
            )
        })?;
    }
    Ok(())
}

fn define_terminals(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:cli/terminal-input", VERSION, |i| i.resource::<TerminalInput>("terminal-input"))?;
    wall.interface("wasi:cli/terminal-output", VERSION, |i| i.resource::<TerminalOutput>("terminal-output"))?;
    wall.interface("wasi:cli/terminal-stdin", VERSION, |i| {
        i.func("get-terminal-stdin", Local, |_, (): ()| Ok(None::<Resource<TerminalInput>>))
    })?;
    wall.interface("wasi:cli/terminal-stdout", VERSION, |i| {
        i.func("get-terminal-stdout", Local, |_, (): ()| Ok(None::<Resource<TerminalOutput>>))
    })?;
    wall.interface("wasi:cli/terminal-stderr", VERSION, |i| {
        i.func("get-terminal-stderr", Local, |_, (): ()| Ok(None::<Resource<TerminalOutput>>))
    })
}

fn stdin(host: &mut Host) -> Result<Opened<ErrorCode>> {
    let grant = host.stdin;
    host.allowed_by(grant);
    let input = if grant.is_some() { Input::Stdin } else { Input::Closed };
    streams::opened(host.open::<()>(Object::Input(input), Rights::READ, grant))
}

fn output(host: &mut Host, to: Out) -> Result<Opened<ErrorCode>> {
    streams::opened(host.open::<()>(Object::Output(Output::Console(to)), Rights::WRITE, None))
}

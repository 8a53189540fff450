//! `wasi:cli`: environment, arguments, exit, standard streams, terminals.
//!
//! A guest never learns whether a terminal is there: that would differ between runs.

use vac_core::caps::Rights;
use vac_core::ledger::Class::Local;
use wasmtime::component::Resource;

use super::VERSION;
use super::io::{Input, InputStream, Output, OutputStream};
use crate::host::{Host, Object, Out};
use crate::wall::Wall;

/// `wasi:cli/terminal-input.terminal-input`; never made.
pub(crate) struct TerminalInput;
/// `wasi:cli/terminal-output.terminal-output`; never made.
pub(crate) struct TerminalOutput;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:cli/environment", VERSION, |i| {
        i.func("get-environment", Local, |h, (): ()| Ok(h.env.clone()))?;
        i.func("get-arguments", Local, |h, (): ()| Ok(h.args.clone()))?;
        i.func("initial-cwd", Local, |_, (): ()| Ok(None::<String>))
    })?;
    wall.interface("wasi:cli/exit", VERSION, |i| {
        i.exit("exit", Local, false, |(status,): &(Result<(), ()>,)| u32::from(status.is_err()))?;
        i.exit("exit-with-code", Local, false, |(status,): &(u8,)| u32::from(*status))
    })?;
    wall.interface("wasi:cli/stdin", VERSION, |i| i.func("get-stdin", Local, |h, (): ()| stdin(h)))?;
    wall.interface("wasi:cli/stdout", VERSION, |i| {
        i.func("get-stdout", Local, |h, (): ()| output(h, Out::Stdout))
    })?;
    wall.interface("wasi:cli/stderr", VERSION, |i| {
        i.func("get-stderr", Local, |h, (): ()| output(h, Out::Stderr))
    })?;
    define_terminals(wall)
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

fn stdin(host: &mut Host) -> vac_core::fault::Result<Resource<InputStream>> {
    let grant = host.stdin;
    host.allowed_by(grant);
    let input = if grant.is_some() { Input::Stdin } else { Input::Closed };
    host.open(Object::Input(input), Rights::READ, grant)
}

fn output(host: &mut Host, to: Out) -> vac_core::fault::Result<Resource<OutputStream>> {
    host.open(Object::Output(Output::Console(to)), Rights::WRITE, None)
}

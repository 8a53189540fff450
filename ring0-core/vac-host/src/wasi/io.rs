//! `wasi:io`: errors, polls, streams.
//!
//! Every stream is synchronous: a read or write has happened when it returns, so a stream is
//! always ready and only the virtual clock is ever waited for. Which of several pollables are
//! ready then depends on the guest alone.

use std::sync::Arc;

use vac_core::canon::{Reader, Writer};
use vac_core::caps::Rights;
use vac_core::fault::{AbortKind, Corrupt, Error, Fault, HostAbort, Result};
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use crate::fs::{ErrorCode, OpenFile};
use crate::host::{Host, Object, Out, handle_of, refused};
use crate::limits::{POLL_MAX, READ_MAX_BYTES, WRITE_MAX_BYTES};
use crate::wall::Wall;
use crate::wire::Wire;

/// `wasi:io/error.error`.
pub(crate) struct IoError;
/// `wasi:io/poll.pollable`.
pub(crate) struct Pollable;
/// `wasi:io/streams.input-stream`.
pub(crate) struct InputStream;
/// `wasi:io/streams.output-stream`.
pub(crate) struct OutputStream;

/// What an input stream reads.
#[derive(Clone)]
pub(crate) enum Input {
    /// Nothing: it is at its end.
    Closed,
    Stdin,
    File {
        file: Arc<OpenFile>,
        offset: u64,
    },
}

/// What an output stream writes.
#[derive(Clone)]
pub(crate) enum Output {
    Console(Out),
    /// `None` is the end of the file.
    File {
        file: Arc<OpenFile>,
        offset: Option<u64>,
    },
}

/// `wasi:io/streams.stream-error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

impl Wire for StreamError {
    fn put(&self, to: &mut Writer) {
        match self {
            Self::LastOperationFailed(error) => Some(error.rep()).put(to),
            Self::Closed => None::<u32>.put(to),
        }
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        Ok(match Option::<u32>::read(from)? {
            Some(rep) => Self::LastOperationFailed(Resource::new_own(rep)),
            None => Self::Closed,
        })
    }
    fn revoked() -> Option<Self> {
        Some(Self::Closed)
    }
}

/// What a stream function returns: outside, what ends the kernel; inside, what the guest sees.
type Streamed<T> = Result<std::result::Result<T, StreamError>>;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:io/error", VERSION, |i| {
        i.resource::<IoError>("error")?;
        i.func("[method]error.to-debug-string", Local, |h, (error,): (Resource<IoError>,)| {
            match h.table.get(handle_of(&error), Rights::READ).map_err(refused)? {
                Object::IoError(code) => Ok(code.word().to_owned()),
                _ => Err(wrong_kind()),
            }
        })
    })?;
    define_poll(wall)?;
    wall.interface("wasi:io/streams", VERSION, |i| {
        i.resource::<InputStream>("input-stream")?;
        i.resource::<OutputStream>("output-stream")?;
        for name in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
            i.func(name, Read, |h, (s, len): (Resource<InputStream>, u64)| read(h, &s, len))?;
        }
        for name in ["[method]input-stream.skip", "[method]input-stream.blocking-skip"] {
            i.func(name, Read, |h, (s, len): (Resource<InputStream>, u64)| {
                Ok(read(h, &s, len)?.map(|bytes| bytes.len() as u64))
            })?;
        }
        i.func("[method]input-stream.subscribe", Local, |h, (s,): (Resource<InputStream>,)| {
            h.derive::<Pollable>(handle_of(&s), Object::Pollable(0), Rights::READ)
        })?;
        i.func("[method]output-stream.subscribe", Local, |h, (_s,): (Resource<OutputStream>,)| {
            h.open::<Pollable>(Object::Pollable(0), Rights::READ, None)
        })?;
        i.func("[method]output-stream.check-write", Local, |h, (s,): (Resource<OutputStream>,)| {
            h.table.get(handle_of(&s), Rights::WRITE).map_err(refused)?;
            Ok(Ok::<u64, StreamError>(WRITE_MAX_BYTES as u64))
        })?;
        for name in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
            i.func(name, Effect, |h, (s, bytes): (Resource<OutputStream>, Vec<u8>)| write(h, &s, &bytes))?;
        }
        for name in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
            i.func(name, Local, |h, (s,): (Resource<OutputStream>,)| {
                h.table.get(handle_of(&s), Rights::WRITE).map_err(refused)?;
                Ok(Ok::<(), StreamError>(()))
            })?;
        }
        for name in
            ["[method]output-stream.write-zeroes", "[method]output-stream.blocking-write-zeroes-and-flush"]
        {
            i.func(name, Effect, |h, (s, len): (Resource<OutputStream>, u64)| {
                write(h, &s, &vec![0; write_len(len)?])
            })?;
        }
        for name in ["[method]output-stream.splice", "[method]output-stream.blocking-splice"] {
            i.func(
                name,
                Effect,
                |h, (to, from, len): (Resource<OutputStream>, Resource<InputStream>, u64)| {
                    splice(h, &to, &from, len)
                },
            )?;
        }
        Ok(())
    })
}

fn define_poll(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:io/poll", VERSION, |i| {
        i.resource::<Pollable>("pollable")?;
        i.func("[method]pollable.ready", Local, |h, (p,): (Resource<Pollable>,)| {
            Ok(instant(h, &p)? <= h.clock.now_ns())
        })?;
        i.proc("[method]pollable.block", Local, |h, (p,): (Resource<Pollable>,)| {
            let when = instant(h, &p)?;
            h.clock.wait_until(when);
            Ok(())
        })?;
        i.func("poll", Local, |h, (pollables,): (Vec<Resource<Pollable>>,)| poll(h, &pollables))
    })
}

/// The numbers of the pollables that are ready, in order, after waiting for the first of them.
fn poll(host: &mut Host, pollables: &[Resource<Pollable>]) -> Result<Vec<u32>> {
    if pollables.len() > POLL_MAX {
        let message =
            format!("the guest waits for {} pollables at once; the limit is {POLL_MAX}", pollables.len());
        let hint = "this limit is the number of handles that a run can ever have";
        return Err(HostAbort::new(AbortKind::Quota, message).hint(hint).into());
    }
    let instants = pollables.iter().map(|p| instant(host, p)).collect::<Result<Vec<_>>>()?;
    let Some(&first) = instants.iter().min() else {
        return Err(Fault { kind: "trap", message: "`poll` of an empty list waits for ever".into() }.into());
    };
    host.clock.wait_until(first);
    let now = host.clock.now_ns();
    Ok(instants.iter().zip(0..).filter(|(when, _)| **when <= now).map(|(_, i)| i).collect())
}

fn instant(host: &Host, pollable: &Resource<Pollable>) -> Result<u64> {
    match host.table.get(handle_of(pollable), Rights::READ).map_err(refused)? {
        Object::Pollable(when) => Ok(*when),
        _ => Err(wrong_kind()),
    }
}

fn read(host: &mut Host, stream: &Resource<InputStream>, len: u64) -> Streamed<Vec<u8>> {
    let handle = handle_of(stream);
    let input = match host.table.get(handle, Rights::READ).map_err(refused)? {
        Object::Input(input) => input.clone(),
        _ => return Err(wrong_kind()),
    };
    host.allowed_by(host.table.grant(handle));
    let max = usize::try_from(len).unwrap_or(usize::MAX).min(READ_MAX_BYTES);
    if max == 0 {
        return Ok(Ok(Vec::new()));
    }
    let got = match &input {
        Input::Closed => {
            host.deny("stdin");
            Ok(Vec::new())
        }
        Input::Stdin => match host.console.read(max) {
            Ok(bytes) => Ok(bytes),
            Err(e) => Err(of_console(e)?),
        },
        Input::File { file, offset } => file.read(max, *offset),
    };
    let bytes = match got {
        Ok(bytes) if bytes.is_empty() => return Ok(Err(StreamError::Closed)),
        Ok(bytes) => bytes,
        Err(code) => return failed(host, code),
    };
    host.take_in(bytes.len())?;
    if let Object::Input(Input::File { offset, .. }) =
        host.table.get_mut(handle, Rights::READ).map_err(refused)?
    {
        *offset = offset.saturating_add(bytes.len() as u64);
    }
    Ok(Ok(bytes))
}

/// What a guest sees of a console's failure. A console that waits may be told to stop: what it then
/// fails with is the abort itself.
fn of_console(error: std::io::Error) -> Result<ErrorCode> {
    match error.downcast::<HostAbort>() {
        Ok(abort) => Err(abort.into()),
        Err(error) => Ok(ErrorCode::from(&error)),
    }
}

fn write(host: &mut Host, stream: &Resource<OutputStream>, bytes: &[u8]) -> Streamed<()> {
    let handle = handle_of(stream);
    write_len(bytes.len() as u64)?;
    let output = match host.table.get(handle, Rights::WRITE).map_err(refused)? {
        Object::Output(output) => output.clone(),
        _ => return Err(wrong_kind()),
    };
    host.allowed_by(host.table.grant(handle));
    host.give_out(bytes.len())?;
    let written = match &output {
        Output::Console(to) => host.console.write(*to, bytes).map_err(|e| ErrorCode::from(&e)),
        Output::File { file, offset } => file.write(bytes, *offset),
    };
    if let Err(code) = written {
        return failed(host, code);
    }
    if let Object::Output(Output::File { offset: Some(offset), .. }) =
        host.table.get_mut(handle, Rights::WRITE).map_err(refused)?
    {
        *offset = offset.saturating_add(bytes.len() as u64);
    }
    Ok(Ok(()))
}

fn splice(
    host: &mut Host,
    to: &Resource<OutputStream>,
    from: &Resource<InputStream>,
    len: u64,
) -> Streamed<u64> {
    let bytes = match read(host, from, len)? {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    Ok(write(host, to, &bytes)?.map(|()| bytes.len() as u64))
}

/// A length that one write may have. More is a guest that ignores `check-write`: a trap, as WASI says.
fn write_len(len: u64) -> Result<usize> {
    usize::try_from(len).ok().filter(|&len| len <= WRITE_MAX_BYTES).ok_or_else(|| {
        let message = format!("a write of {len} bytes, where `check-write` permits {WRITE_MAX_BYTES}");
        Fault { kind: "trap", message }.into()
    })
}

fn failed<T>(host: &mut Host, code: ErrorCode) -> Streamed<T> {
    let error = host.open(Object::IoError(code), Rights::READ, None)?;
    Ok(Err(StreamError::LastOperationFailed(error)))
}

/// The component model checks the kind of every handle, so this is a bug on our side of the wall.
pub(super) fn wrong_kind() -> Error {
    HostAbort::new(AbortKind::Machine, "a handle stands for another kind of object").into()
}

/// A stream that reads `file` from `offset`.
pub(super) fn file_input(file: Arc<OpenFile>, offset: u64) -> Object {
    Object::Input(Input::File { file, offset })
}

/// A stream that writes `file` from `offset`, or at its end.
pub(super) fn file_output(file: Arc<OpenFile>, offset: Option<u64>) -> Object {
    Object::Output(Output::File { file, offset })
}

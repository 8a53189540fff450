//! `wasi:io`: errors, polls, streams.
//!
//! Every stream but those of sockets is synchronous: a read or write has happened when it returns, so it is
//! always ready and only the virtual clock is waited for. Which of several pollables are ready then depends on
//! the guest alone. With a socket among them it depends on the network too; the ledger has the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vac_core::canon::{Reader, Writer};
use vac_core::caps::{Handle, Rights};
use vac_core::fault::{AbortKind, Corrupt, Error, Fault, HostAbort, Result};
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use super::http::Sending;
use crate::fs::{ErrorCode, FsResult, OpenFile};
use crate::held::Held;
use crate::host::{Host, Object, Out, handle_of, refused};
use crate::limits::{POLL_MAX, READ_MAX_BYTES, WRITE_MAX_BYTES};
use crate::past;
use crate::piece::{Piece, ROOM_BYTES};
use crate::socket::{self, Interest, Socket};
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
    Tcp(Arc<Socket>),
    /// Bytes that came whole.
    Bytes {
        bytes: Arc<Held>,
        offset: usize,
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
    Tcp(Arc<Socket>),
    /// Bytes that are sent together.
    Bytes(Arc<Mutex<Held>>),
}

/// When a pollable is ready.
#[derive(Clone)]
pub(crate) enum Ready {
    /// At this instant of the virtual clock; at once if 0.
    At(u64),
    /// When a socket is.
    Socket(Arc<Socket>, Interest),
    /// When a request is answered, which only the guest itself brings about: by finishing the body.
    Answered(Arc<Mutex<Sending>>),
}

impl Ready {
    /// The instant, if it is known.
    fn instant(&self) -> Option<u64> {
        match self {
            Self::At(at) => Some(*at),
            Self::Answered(of) => {
                of.lock().unwrap_or_else(PoisonError::into_inner).is_answered().then_some(0)
            }
            Self::Socket(..) => None,
        }
    }
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
    fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
        if let Self::LastOperationFailed(error) = self {
            error.handles(each);
        }
    }
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
        for (name, waits) in
            [("[method]input-stream.read", false), ("[method]input-stream.blocking-read", true)]
        {
            i.func(name, Read, move |h, (s, len): (Resource<InputStream>, u64)| read(h, &s, len, waits))?;
        }
        for (name, waits) in
            [("[method]input-stream.skip", false), ("[method]input-stream.blocking-skip", true)]
        {
            i.func(name, Read, move |h, (s, len): (Resource<InputStream>, u64)| {
                Ok(read(h, &s, len, waits)?.map(|bytes| bytes.len() as u64))
            })?;
        }
        i.func("[method]input-stream.subscribe", Local, |h, (s,): (Resource<InputStream>,)| {
            let ready = match h.table.get(handle_of(&s), Rights::READ).map_err(refused)? {
                Object::Input(Input::Tcp(socket)) => Ready::Socket(Arc::clone(socket), Interest::Read),
                _ => Ready::At(0),
            };
            h.derive::<Pollable>(handle_of(&s), Object::Pollable(ready), Rights::READ)
        })?;
        i.func("[method]output-stream.subscribe", Local, |h, (s,): (Resource<OutputStream>,)| {
            let ready = match h.table.get(handle_of(&s), Rights::WRITE).map_err(refused)? {
                Object::Output(Output::Tcp(socket)) => Ready::Socket(Arc::clone(socket), Interest::Write),
                _ => Ready::At(0),
            };
            h.open::<Pollable>(Object::Pollable(ready), Rights::READ, None)
        })?;
        i.func("[method]output-stream.check-write", Local, |h, (s,): (Resource<OutputStream>,)| {
            let room = match h.table.get(handle_of(&s), Rights::WRITE).map_err(refused)? {
                Object::Output(Output::Tcp(socket)) if !socket.is_ready(Interest::Write) => 0,
                _ => WRITE_MAX_BYTES as u64,
            };
            Ok(Ok::<u64, StreamError>(room))
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
            Ok(match ready(h, &p)? {
                Ready::Socket(socket, interest) => socket.is_ready(interest),
                other => other.instant().is_some_and(|instant| instant <= h.clock.now_ns()),
            })
        })?;
        i.proc("[method]pollable.block", Local, |h, (p,): (Resource<Pollable>,)| {
            let ready = ready(h, &p)?;
            wait(h, &[ready]).map(drop)
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
    if pollables.is_empty() {
        return Err(Fault { kind: "trap", message: "`poll` of an empty list waits for ever".into() }.into());
    }
    let all = pollables.iter().map(|p| ready(host, p)).collect::<Result<Vec<_>>>()?;
    let is_ready = wait(host, &all)?;
    Ok(is_ready.iter().zip(0..).filter(|(is_ready, _)| **is_ready).map(|(_, i)| i).collect())
}

fn ready(host: &Host, pollable: &Resource<Pollable>) -> Result<Ready> {
    match host.table.get(handle_of(pollable), Rights::READ).map_err(refused)? {
        Object::Pollable(ready) => Ok(ready.clone()),
        _ => Err(wrong_kind()),
    }
}

/// Waits for the first of `all`; which ones are ready then. The virtual clock moves to the first instant among
/// them, or, if a socket was ready sooner, by as long as that took.
fn wait(host: &mut Host, all: &[Ready]) -> Result<Vec<bool>> {
    let sockets: Vec<(&Socket, Interest)> = all
        .iter()
        .filter_map(
            |ready| if let Ready::Socket(s, interest) = ready { Some((&**s, *interest)) } else { None },
        )
        .collect();
    let first = all.iter().filter_map(Ready::instant).min();
    let mut is_ready = Vec::new();
    if sockets.is_empty() {
        let Some(first) = first else {
            let message = "the guest waits for a response before it has finished the request's body";
            return Err(Fault { kind: "trap", message: message.into() }.into());
        };
        host.clock.wait_until(first);
    } else {
        let now = host.clock.now_ns();
        let limit = first.map(|first| Duration::from_nanos(first.saturating_sub(now)));
        let waited;
        (is_ready, waited) = socket::wait(&sockets, limit, &*host.watch)?;
        host.clock.note_outside(waited);
        let by_wait = now.saturating_add(host.clock.take_outside());
        let is_sooner = is_ready.contains(&true);
        host.clock
            .wait_until(first.map_or(by_wait, |first| if is_sooner { by_wait.min(first) } else { first }));
    }
    let now = host.clock.now_ns();
    let mut of_sockets = is_ready.into_iter();
    Ok(all
        .iter()
        .map(|ready| match ready {
            Ready::Socket(..) => of_sockets.next().unwrap_or_default(),
            other => other.instant().is_some_and(|at| at <= now),
        })
        .collect())
}

/// `waits` is whether the call may wait for a socket; every other stream has its bytes at once.
fn read(host: &mut Host, stream: &Resource<InputStream>, len: u64, waits: bool) -> Streamed<Piece> {
    let max = usize::try_from(len).unwrap_or(usize::MAX);
    let got = match of_file(host, stream.rep(), max)? {
        Some(got) => Some(got),
        None => take_if(host, stream.rep(), max, waits)?.map(|got| got.map(Piece::from)),
    };
    match got {
        None => Ok(Ok(Vec::new().into())),
        Some(Ok(bytes)) if bytes.is_empty() && max > 0 => Ok(Err(StreamError::Closed)),
        Some(Ok(bytes)) => Ok(Ok(bytes)),
        Some(Err(code)) => failed(host, code),
    }
}

/// At most `max` bytes of a file, if that is what the input behind a handle reads; none at its end.
fn of_file(host: &mut Host, rep: u32, max: usize) -> Result<Option<FsResult<Piece>>> {
    let handle = Handle::from_rep(rep);
    let (file, offset) = match host.table.get(handle, Rights::READ).map_err(refused)? {
        Object::Input(Input::File { file, offset }) if max > 0 => (Arc::clone(file), *offset),
        _ => return Ok(None),
    };
    host.allowed_by(host.table.grant(handle));
    let room = match max {
        0..=ROOM_BYTES => Ok(max),
        _ => file.left(offset).map(|left| left.min(max.min(READ_MAX_BYTES) as u64) as usize),
    };
    let read = room.and_then(|room| host.pieces.read(room, |room| file.read_into(room, offset)));
    let piece = match read {
        Ok(piece) => piece,
        Err(code) => return Ok(Some(Err(code))),
    };
    host.take_in(piece.len())?;
    if let Object::Input(Input::File { offset, .. }) =
        host.table.get_mut(handle, Rights::READ).map_err(refused)?
    {
        *offset = offset.saturating_add(piece.len() as u64);
    }
    Ok(Some(Ok(piece)))
}

/// At most `max` bytes from the input behind a handle; none at its end.
pub(crate) fn take(host: &mut Host, rep: u32, max: usize) -> Result<FsResult<Vec<u8>>> {
    Ok(take_if(host, rep, max, true)?.unwrap_or_else(|| Ok(Vec::new())))
}

/// [`take`], or `None` if nothing has come yet and the call does not wait.
fn take_if(host: &mut Host, rep: u32, max: usize, waits: bool) -> Result<Option<FsResult<Vec<u8>>>> {
    let handle = Handle::from_rep(rep);
    let input = match host.table.get(handle, Rights::READ).map_err(refused)? {
        Object::Input(input) => input.clone(),
        _ => return Err(wrong_kind()),
    };
    host.allowed_by(host.table.grant(handle));
    let max = max.min(READ_MAX_BYTES);
    if max == 0 {
        return Ok(Some(Ok(Vec::new())));
    }
    let got = match &input {
        Input::Closed => {
            host.deny("stdin");
            Ok(Vec::new())
        }
        // What was read of it then is not there any more.
        Input::Stdin if host.is_past => return Err(past::nothing()),
        Input::Stdin => match host.console.read(max) {
            Ok(bytes) => Ok(bytes),
            Err(e) => Err(of_console(e)?),
        },
        Input::File { file, offset } => file.read(max, *offset),
        Input::Tcp(socket) => match receive(host, socket, max, waits)? {
            Some(got) => got,
            None => return Ok(None),
        },
        Input::Bytes { bytes, offset } => {
            let bytes = bytes.bytes();
            let end = offset.saturating_add(max).min(bytes.len());
            Ok(bytes.get(*offset..end).unwrap_or_default().to_vec())
        }
    };
    let bytes = match got {
        Ok(bytes) => bytes,
        Err(code) => return Ok(Some(Err(code))),
    };
    host.take_in(bytes.len())?;
    match host.table.get_mut(handle, Rights::READ).map_err(refused)? {
        Object::Input(Input::File { offset, .. }) => *offset = offset.saturating_add(bytes.len() as u64),
        Object::Input(Input::Bytes { offset, .. }) => *offset = offset.saturating_add(bytes.len()),
        _ => {}
    }
    Ok(Some(Ok(bytes)))
}

/// What has come from a peer; nothing if none has and the call does not wait.
fn receive(
    host: &mut Host,
    from: &Socket,
    max: usize,
    waits: bool,
) -> Result<Option<std::result::Result<Vec<u8>, ErrorCode>>> {
    loop {
        match from.recv(max) {
            Err(rustix::io::Errno::WOULDBLOCK) if !waits => return Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                socket::wait_for(host, from, Interest::Read)?;
                host.clock.catch_up();
            }
            Err(rustix::io::Errno::INTR) => {}
            // A peer that resets is at its end, as far as a stream can say.
            Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::NOTCONN) => {
                return Ok(Some(Ok(Vec::new())));
            }
            other => return Ok(Some(other.map_err(|e| ErrorCode::from(&std::io::Error::from(e))))),
        }
    }
}

/// Sends all of `bytes`, waiting while the peer takes no more.
fn transmit(host: &mut Host, to: &Socket, mut bytes: &[u8]) -> Result<std::result::Result<(), ErrorCode>> {
    while !bytes.is_empty() {
        match to.send(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                socket::wait_for(host, to, Interest::Write)?;
                host.clock.catch_up();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Ok(Err(ErrorCode::from(&std::io::Error::from(errno)))),
        }
    }
    Ok(Ok(()))
}

/// What a guest sees of a console's failure. A console that waits may be told to stop: what it then
/// fails with is the abort itself.
pub(crate) fn of_console(error: std::io::Error) -> Result<ErrorCode> {
    match error.downcast::<HostAbort>() {
        Ok(abort) => Err(abort.into()),
        Err(error) => Ok(ErrorCode::from(&error)),
    }
}

fn write(host: &mut Host, stream: &Resource<OutputStream>, bytes: &[u8]) -> Streamed<()> {
    write_len(bytes.len() as u64)?;
    match give(host, stream.rep(), bytes)? {
        Ok(()) => Ok(Ok(())),
        Err(code) => failed(host, code),
    }
}

/// Writes all of `bytes` to the output behind a handle.
pub(crate) fn give(host: &mut Host, rep: u32, bytes: &[u8]) -> Result<FsResult<()>> {
    let handle = Handle::from_rep(rep);
    let output = match host.table.get(handle, Rights::WRITE).map_err(refused)? {
        Object::Output(output) => output.clone(),
        _ => return Err(wrong_kind()),
    };
    host.allowed_by(host.table.grant(handle));
    host.give_out(bytes.len())?;
    let written = match &output {
        // It is there already.
        Output::Console(_) | Output::File { .. } if host.is_past => Ok(()),
        Output::Console(to) => match host.console.write(*to, bytes) {
            Ok(()) => Ok(()),
            Err(e) => Err(of_console(e)?),
        },
        Output::File { file, offset } => file.write(bytes, *offset),
        Output::Tcp(socket) => transmit(host, socket, bytes)?,
        Output::Bytes(held) => {
            held.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes)?;
            Ok(())
        }
    };
    if let Err(code) = written {
        return Ok(Err(code));
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
    let bytes = match read(host, from, len, true)? {
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
pub(crate) fn wrong_kind() -> Error {
    HostAbort::new(AbortKind::Machine, "a handle stands for another kind of object").into()
}

/// A stream that reads `file` from `offset`.
pub(crate) fn file_input(file: Arc<OpenFile>, offset: u64) -> Object {
    Object::Input(Input::File { file, offset })
}

/// A stream that writes `file` from `offset`, or at its end.
pub(crate) fn file_output(file: Arc<OpenFile>, offset: Option<u64>) -> Object {
    Object::Output(Output::File { file, offset })
}

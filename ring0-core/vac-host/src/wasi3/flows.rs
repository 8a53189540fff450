//! What comes and goes through a TCP socket: its connections, and the bytes of one, as streams.
//!
//! As in [`super::streams`] each part is an event, `[read]NAME` or `[write]NAME`. Here a part may be nothing yet:
//! then the task waits until the socket is ready, and tries again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::Shutdown;
use vac_core::caps::{Handle, Rights};
use vac_core::fault::Result;
use vac_core::ledger::Class;
use wasmtime::component::{
    Destination, FutureReader, Resource, Source, StreamConsumer, StreamProducer, StreamReader, StreamResult,
    VecBuffer,
};
use wasmtime::{AsContextMut, StoreContextMut};

use super::sockets::ErrorCode;
use super::streams::{Done, End, Item, Open, Opened};
use crate::host::{Host, Object, refused};
use crate::limits::{READ_MAX_BYTES, WRITE_MAX_BYTES};
use crate::socket::{Interest, Socket};
use crate::timers::Timer;
use crate::wall::{Function, Interface, State, cross};
use crate::wasi::io::wrong_kind;
use crate::wasi::sockets::{Tcp, TcpOptions, TcpSocket};

/// One direction of a TCP socket. Giving it up shuts the direction down.
pub(crate) struct Flow {
    socket: Arc<Socket>,
    kind: Kind,
}

enum Kind {
    /// The connections that come to it, and what they have from it.
    Accept {
        is_v6: bool,
        options: Arc<Mutex<TcpOptions>>,
    },
    Receive,
    Send,
}

impl Flow {
    pub(super) fn accept(own: &mut Tcp, socket: Arc<Socket>) -> Self {
        Self { socket, kind: Kind::Accept { is_v6: own.is_v6, options: own.options_of_accepted() } }
    }

    pub(super) fn receive(socket: Arc<Socket>) -> Self {
        Self { socket, kind: Kind::Receive }
    }

    pub(super) fn send(socket: Arc<Socket>) -> Self {
        Self { socket, kind: Kind::Send }
    }

    pub(crate) fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // Where the other side was faster there is nothing left to shut down.
        let _ = match self.kind {
            Kind::Accept { .. } => return,
            Kind::Receive => self.socket.shutdown(Shutdown::Read),
            Kind::Send => self.socket.shutdown(Shutdown::Write),
        };
    }
}

fn flow(host: &Host, handle: u32, needed: Rights) -> Result<&Flow> {
    match host.table.get(Handle::from_rep(handle), needed).map_err(refused)? {
        Object::Flow(flow) => Ok(flow),
        _ => Err(wrong_kind()),
    }
}

/// Nothing if it is not known yet.
type Tried<T> = Option<std::result::Result<T, ErrorCode>>;

/// `None` where the socket would have waited.
fn tried<T>(result: std::result::Result<T, Errno>) -> Tried<T> {
    match result {
        Err(Errno::WOULDBLOCK | Errno::INTR) => None,
        other => Some(other.map_err(ErrorCode::from)),
    }
}

/// Takes items from a handle, at most so many; none at the end.
type Take<T> = fn(&mut Host, u32, usize) -> Result<Tried<Vec<T>>>;

/// A function that gives streams of a socket: how their parts are taken.
pub(super) struct Taking<T> {
    part: Arc<Function>,
    look: Arc<Function>,
    take: Take<T>,
}

impl<T: Item> Taking<T> {
    pub(super) fn new(i: &mut Interface<'_>, name: &str, look: &Arc<Function>, take: Take<T>) -> Self {
        Self { part: i.event(&format!("[read]{name}"), Class::Read), look: Arc::clone(look), take }
    }

    /// The stream of a handle; one that was not opened is at its end.
    pub(super) fn open(
        &self,
        store: &mut StoreContextMut<'_, State>,
        opened: Opened<ErrorCode>,
        end: &End<ErrorCode>,
    ) -> wasmtime::Result<StreamReader<T>> {
        let rep = match opened {
            Ok(rep) => rep,
            Err(code) => {
                end.come(Err(code));
                return StreamReader::new(store.as_context_mut(), std::iter::empty());
            }
        };
        let open = Open::new(rep, &store.data().host.ended, end);
        let (part, look) = (Arc::clone(&self.part), Arc::clone(&self.look));
        let taker = Taker { part, take: self.take, open, wait: Wait::new(look), has_yielded: false };
        StreamReader::new(store.as_context_mut(), taker)
    }
}

/// A wait for the socket behind a handle, if one has begun.
struct Wait {
    look: Arc<Function>,
    timer: Option<Timer>,
}

impl Wait {
    fn new(look: Arc<Function>) -> Self {
        Self { look, timer: None }
    }

    /// Of an item of no bytes, by which the guest asks whether the socket is ready for more: waits for that.
    fn until_ready(
        &mut self,
        store: &mut StoreContextMut<'_, State>,
        context: &mut Context<'_>,
        (rep, interest): (u32, Interest),
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let has_begun = self.timer.is_some();
        match self.is_pending(context) {
            true if finish => self.cancel(),
            true => Poll::Pending,
            false if has_begun => Poll::Ready(Ok(StreamResult::Completed)),
            false if finish => self.cancel(),
            false => self.begin(store, context, rep, interest),
        }
    }

    /// Whether it goes on waiting.
    fn is_pending(&mut self, context: &mut Context<'_>) -> bool {
        if self.timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_pending()) {
            return true;
        }
        self.timer = None;
        false
    }

    fn begin(
        &mut self,
        store: &mut StoreContextMut<'_, State>,
        context: &mut Context<'_>,
        rep: u32,
        interest: Interest,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match store.data_mut().readiness.start(&self.look, rep, interest) {
            Ok(timer) => self.timer = Some(timer),
            Err(why) => return Poll::Ready(Err(wasmtime::Error::new(why))),
        }
        // Nobody can have woken it yet: this leaves the waker.
        self.is_pending(context);
        Poll::Pending
    }

    /// What a stream answers that is told to come to an end.
    fn cancel(&mut self) -> Poll<wasmtime::Result<StreamResult>> {
        self.timer = None;
        Poll::Ready(Ok(StreamResult::Cancelled))
    }
}

struct Taker<T> {
    part: Arc<Function>,
    take: Take<T>,
    open: Open<ErrorCode>,
    wait: Wait,
    has_yielded: bool,
}

impl<T: Item> StreamProducer<State> for Taker<T> {
    type Item = T;
    type Buffer = VecBuffer<T>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut to: Destination<'a, T, VecBuffer<T>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let wanted = to.remaining(store.as_context_mut());
        if wanted == Some(0) {
            let of = (self.open.rep, Interest::Read);
            return self.wait.until_ready(&mut store, context, of, finish);
        }
        if self.wait.is_pending(context) {
            return if finish { self.wait.cancel() } else { Poll::Pending };
        }
        if wanted.is_none() && !finish && !std::mem::replace(&mut self.has_yielded, true) {
            // The engine carries it on by itself: it lets go in between, so that it can be stopped.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        let max = wanted.unwrap_or(READ_MAX_BYTES).min(READ_MAX_BYTES);
        let (rep, take) = (self.open.rep, self.take);
        let act = |host: &mut Host, (rep, max): (u32, u64)| take(host, rep, max as usize);
        match cross(&mut store, &self.part, (rep, max as u64), None, &act).map_err(wasmtime::Error::new)? {
            Some(Ok(items)) if items.is_empty() => Poll::Ready(Ok(StreamResult::Dropped)),
            Some(Ok(items)) => {
                to.set_buffer(items.into());
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Some(Err(code)) => {
                self.open.end.come(Err(code));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            None if finish => self.wait.cancel(),
            None => self.wait.begin(&mut store, context, rep, Interest::Read),
        }
    }
}

/// A function that takes streams for a socket: how their parts are given.
pub(super) struct Giving {
    part: Arc<Function>,
    look: Arc<Function>,
}

impl Giving {
    pub(super) fn new(i: &mut Interface<'_>, name: &str, look: &Arc<Function>) -> Self {
        Self { part: i.event(&format!("[write]{name}"), Class::Effect), look: Arc::clone(look) }
    }

    /// Gives what comes through `data`; the future of its end. If it was not opened, nobody reads it.
    pub(super) fn open(
        &self,
        store: &mut StoreContextMut<'_, State>,
        opened: Opened<ErrorCode>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Done<ErrorCode>>> {
        let end = End::default();
        match opened {
            Ok(rep) => {
                let open = Open::new(rep, &store.data().host.ended, &end);
                let (part, look) = (Arc::clone(&self.part), Arc::clone(&self.look));
                data.pipe(store.as_context_mut(), Giver { part, open, wait: Wait::new(look) })?;
            }
            Err(code) => {
                end.come(Err(code));
                data.close(store.as_context_mut())?;
            }
        }
        FutureReader::new(store.as_context_mut(), end)
    }
}

struct Giver {
    part: Arc<Function>,
    open: Open<ErrorCode>,
    wait: Wait,
}

impl StreamConsumer<State> for Giver {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        mut from: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut direct = from.reborrow().as_direct(store.as_context_mut());
        let bytes: Vec<u8> = direct.remaining().iter().take(WRITE_MAX_BYTES).copied().collect();
        if bytes.is_empty() {
            let of = (self.open.rep, Interest::Write);
            return self.wait.until_ready(&mut store, context, of, finish);
        }
        if self.wait.is_pending(context) {
            return if finish { self.wait.cancel() } else { Poll::Pending };
        }
        let rep = self.open.rep;
        let act = |host: &mut Host, (rep, bytes): (u32, Vec<u8>)| give(host, rep, &bytes);
        match cross(&mut store, &self.part, (rep, bytes), None, &act).map_err(wasmtime::Error::new)? {
            Some(Ok(n)) => {
                // Of another version of the program the record may say that more was taken than this one gave.
                let mut direct = from.as_direct(store);
                let left = direct.remaining().len();
                direct.mark_read((n as usize).min(left));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Some(Err(code)) => {
                self.open.end.come(Err(code));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            None if finish => self.wait.cancel(),
            None => self.wait.begin(&mut store, context, rep, Interest::Write),
        }
    }
}

/// Sends what the peer takes of `bytes`; how many that are.
fn give(host: &mut Host, rep: u32, bytes: &[u8]) -> Result<Tried<u32>> {
    let socket = flow(host, rep, Rights::WRITE)?.socket();
    host.allowed_by(host.table.grant(Handle::from_rep(rep)));
    let sent = tried(socket.send(bytes));
    if let Some(Ok(n)) = sent {
        host.give_out(n)?;
    }
    Ok(sent.map(|sent| sent.map(|n| n as u32)))
}

/// Bytes that have come.
pub(super) fn take_bytes(host: &mut Host, rep: u32, max: usize) -> Result<Tried<Vec<u8>>> {
    let socket = flow(host, rep, Rights::READ)?.socket();
    host.allowed_by(host.table.grant(Handle::from_rep(rep)));
    let got = tried(socket.recv(max));
    if let Some(Ok(bytes)) = &got {
        host.take_in(bytes.len())?;
    }
    Ok(got)
}

/// A connection that has come.
pub(super) fn take_connection(
    host: &mut Host,
    rep: u32,
    _max: usize,
) -> Result<Tried<Vec<Resource<TcpSocket>>>> {
    let handle = Handle::from_rep(rep);
    let flow = flow(host, rep, Rights::READ)?;
    let Kind::Accept { is_v6, options } = &flow.kind else { return Err(wrong_kind()) };
    let (is_v6, options) = (*is_v6, *options.lock().unwrap_or_else(PoisonError::into_inner));
    let socket = match tried(flow.socket.accept()) {
        // One that was gone before it was taken is none.
        None | Some(Err(ErrorCode::ConnectionAborted | ErrorCode::ConnectionReset)) => return Ok(None),
        Some(Err(code)) => return Ok(Some(Err(code))),
        Some(Ok(socket)) => Arc::new(socket),
    };
    // It may have come before they were set.
    let _ =
        socket.set_hop_limit(is_v6, options.hops).and_then(|()| socket.set_keep_alive(options.keep_alive));
    host.allowed_by(host.table.grant(handle));
    let accepted = Object::Tcp(Tcp::accepted(is_v6, options, socket));
    Ok(Some(Ok(vec![host.derive(handle, accepted, Rights::ALL)?])))
}

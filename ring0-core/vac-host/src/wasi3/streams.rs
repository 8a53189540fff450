//! Streams between a guest and its host, and the futures that say how they ended.
//!
//! A stream is a handle, like everything a guest works on, but one that the guest cannot name. Each
//! part that is carried crosses the wall as an event, `[read]NAME` or `[write]NAME`, with the
//! handle and what was carried; a part is done when it has crossed. So nothing is buffered here,
//! and which part comes when follows from what the guest does alone.
//!
//! A stream of the host's that a guest passes straight back to the host is carried by the engine, part by
//! part; between two parts it lets go, so that whoever watches the kernel can stop it.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use vac_core::fault::Result;
use vac_core::ledger::Class;
use wasmtime::component::{
    ComponentType, Destination, FutureReader, Lift, Lower, Resource, Source, StreamConsumer, StreamProducer,
    StreamReader, StreamResult, VecBuffer,
};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::fs;
use crate::host::{Ended, Host};
use crate::limits::{READ_MAX_BYTES, WRITE_MAX_BYTES};
use crate::wall::{Function, Interface, State, cross};
use crate::wasi::io;
use crate::wire::Wire;

/// A code that tells a guest why a stream failed.
pub(super) trait Code:
    From<fs::ErrorCode> + Wire + Clone + ComponentType + Lift + Lower + Send + Sync + 'static
{
}
impl<C> Code for C where
    C: From<fs::ErrorCode> + Wire + Clone + ComponentType + Lift + Lower + Send + Sync + 'static
{
}

/// What a stream carries.
pub(super) trait Item: Wire + ComponentType + Lift + Lower + Send + Sync + Unpin + 'static {}
impl<T> Item for T where T: Wire + ComponentType + Lift + Lower + Send + Sync + Unpin + 'static {}

/// The handle of a stream that was opened, or why it was not.
pub(super) type Opened<C> = std::result::Result<u32, C>;

/// How a stream ended: what its future gives.
pub(super) type Done<C> = std::result::Result<(), C>;

/// A handle that was made for a stream.
pub(super) fn opened<C, T: 'static>(handle: Result<Resource<T>>) -> Result<Opened<C>> {
    Ok(Ok(handle?.rep()))
}

/// Reads at most so many items from the handle; none at the end.
type Read<T> = fn(&mut Host, u32, usize) -> Result<fs::FsResult<Vec<T>>>;

/// A function that gives streams: how the parts of one are read.
pub(super) struct Reading<T, C> {
    part: Arc<Function>,
    read: Read<T>,
    code: PhantomData<fn() -> C>,
}

/// The parts of the byte streams that the function `name` gives.
pub(super) fn reading<C>(i: &mut Interface<'_>, name: &str) -> Reading<u8, C> {
    reading_with(i, name, io::take)
}

/// The parts of the streams that the function `name` gives, read by `read`.
pub(super) fn reading_with<T, C>(i: &mut Interface<'_>, name: &str, read: Read<T>) -> Reading<T, C> {
    Reading { part: i.event(&format!("[read]{name}"), Class::Read), read, code: PhantomData }
}

impl<C> Reading<u8, C> {
    /// The parts of byte streams, as events of `part`.
    pub(super) fn by(part: Arc<Function>) -> Self {
        Self { part, read: io::take, code: PhantomData }
    }
}

impl<T: Item, C: Code> Reading<T, C> {
    /// The stream that was opened and the future of its end. One that was not opened is at its end.
    pub(super) fn open(
        &self,
        store: &mut StoreContextMut<'_, State>,
        opened: Opened<C>,
    ) -> wasmtime::Result<(StreamReader<T>, FutureReader<Done<C>>)> {
        let end = End::default();
        let stream = match opened {
            Ok(rep) => self.stream(store, rep, &end)?,
            Err(code) => {
                end.come(Err(code));
                StreamReader::new(store.as_context_mut(), std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(store.as_context_mut(), end)?))
    }

    /// The stream of a handle that was opened.
    pub(super) fn stream(
        &self,
        store: &mut StoreContextMut<'_, State>,
        rep: u32,
        end: &End<C>,
    ) -> wasmtime::Result<StreamReader<T>> {
        let producer = Producer {
            part: Arc::clone(&self.part),
            read: self.read,
            open: Open::new(rep, &store.data().host.ended, end),
            has_yielded: false,
        };
        StreamReader::new(store.as_context_mut(), producer)
    }
}

/// A function that takes streams: how the parts of one are written.
pub(super) struct Writing<C> {
    part: Arc<Function>,
    code: PhantomData<fn() -> C>,
}

/// The parts of the byte streams that the function `name` takes.
pub(super) fn writing<C>(i: &mut Interface<'_>, name: &str) -> Writing<C> {
    Writing { part: i.event(&format!("[write]{name}"), Class::Effect), code: PhantomData }
}

impl<C: Code> Writing<C> {
    /// The parts of byte streams, as events of `part`.
    pub(super) fn by(part: Arc<Function>) -> Self {
        Self { part, code: PhantomData }
    }

    /// Writes what comes through `data` to a handle; how that ends.
    pub(super) fn begin(
        &self,
        store: &mut StoreContextMut<'_, State>,
        rep: u32,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<End<C>> {
        let end = End::default();
        let open = Open::new(rep, &store.data().host.ended, &end);
        data.pipe(store.as_context_mut(), Consumer { part: Arc::clone(&self.part), open })?;
        Ok(end)
    }

    /// Writes what comes through `data`; the future of its end. If it was not opened, nobody reads it.
    pub(super) fn open(
        &self,
        store: &mut StoreContextMut<'_, State>,
        opened: Opened<C>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Done<C>>> {
        let end = match opened {
            Ok(rep) => self.begin(store, rep, data)?,
            Err(code) => {
                data.close(store.as_context_mut())?;
                let end = End::default();
                end.come(Err(code));
                end
            }
        };
        FutureReader::new(store.as_context_mut(), end)
    }
}

/// The host's half of a stream. Whoever gives it up, its end comes, and its handle is given up too.
pub(super) struct Open<C> {
    pub(super) rep: u32,
    ended: Ended,
    pub(super) end: End<C>,
}

impl<C> Open<C> {
    pub(super) fn new(rep: u32, ended: &Ended, end: &End<C>) -> Self {
        Self { rep, ended: ended.clone(), end: end.clone() }
    }
}

impl<C> Drop for Open<C> {
    fn drop(&mut self) {
        self.ended.add(self.rep);
        self.end.come(Ok(()));
    }
}

/// A handle that no guest can name yet. It is given up with this, unless somebody got it.
pub(super) struct Unnamed {
    rep: Option<u32>,
    ended: Ended,
}

impl Unnamed {
    pub(super) fn new(rep: u32, ended: &Ended) -> Self {
        Self { rep: Some(rep), ended: ended.clone() }
    }

    /// The handle, for whom sees to it from now on.
    pub(super) fn name(&mut self) -> Option<u32> {
        self.rep.take()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        self.rep.into_iter().for_each(|rep| self.ended.add(rep));
    }
}

struct Producer<T, C> {
    part: Arc<Function>,
    read: Read<T>,
    open: Open<C>,
    has_yielded: bool,
}

impl<T: Item, C: Code> StreamProducer<State> for Producer<T, C> {
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
            // The guest asks whether it could read. Nobody but a read itself can tell.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        if wanted.is_none() && !finish && !std::mem::replace(&mut self.has_yielded, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        Poll::Ready(self.produce(&mut store, wanted, &mut to))
    }
}

impl<T: Item, C: Code> Producer<T, C> {
    fn produce(
        &self,
        store: &mut StoreContextMut<'_, State>,
        wanted: Option<usize>,
        to: &mut Destination<'_, T, VecBuffer<T>>,
    ) -> wasmtime::Result<StreamResult> {
        let max = wanted.unwrap_or(READ_MAX_BYTES).min(READ_MAX_BYTES);
        let read = |host: &mut Host, (rep, max): (u32, u64)| {
            Ok((self.read)(host, rep, max as usize)?.map_err(C::from))
        };
        match cross(store, &self.part, (self.open.rep, max as u64), None, &read)
            .map_err(wasmtime::Error::new)?
        {
            Ok(items) if items.is_empty() => Ok(StreamResult::Dropped),
            Ok(items) => {
                to.set_buffer(items.into());
                Ok(StreamResult::Completed)
            }
            Err(code) => {
                self.open.end.come(Err(code));
                Ok(StreamResult::Dropped)
            }
        }
    }
}

struct Consumer<C> {
    part: Arc<Function>,
    open: Open<C>,
}

impl<C: Code> StreamConsumer<State> for Consumer<C> {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        mut from: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut direct = from.reborrow().as_direct(store.as_context_mut());
        let bytes: Vec<u8> = direct.remaining().iter().take(WRITE_MAX_BYTES).copied().collect();
        if bytes.is_empty() {
            // The guest asks whether it could write, and it can.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let len = bytes.len();
        let write =
            |host: &mut Host, (rep, bytes): (u32, Vec<u8>)| Ok(io::give(host, rep, &bytes)?.map_err(C::from));
        let written = cross(&mut store, &self.part, (self.open.rep, bytes), None, &write);
        Poll::Ready(match written.map_err(wasmtime::Error::new) {
            Ok(Ok(())) => {
                from.as_direct(store).mark_read(len);
                Ok(StreamResult::Completed)
            }
            Ok(Err(code)) => {
                self.open.end.come(Err(code));
                Ok(StreamResult::Dropped)
            }
            Err(why) => Err(why),
        })
    }
}

/// A value that somebody waits for. The first one counts.
pub(super) struct Once<T>(Arc<Mutex<Word<T>>>);

/// How a stream ended, once it has.
pub(super) type End<C> = Once<Done<C>>;

struct Word<T> {
    said: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Word { said: None, waker: None })))
    }
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Once<T> {
    fn lock(&self) -> MutexGuard<'_, Word<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn come(&self, value: T) {
        let mut word = self.lock();
        word.said.get_or_insert(value);
        if let Some(waker) = word.waker.take() {
            waker.wake();
        }
    }
}

impl<T: Clone> Future for Once<T> {
    type Output = wasmtime::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut word = self.lock();
        if let Some(value) = &word.said {
            return Poll::Ready(Ok(value.clone()));
        }
        word.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

//! `wasi:http/client`: requests that are sent.
//!
//! First the grant is looked for; without one the request is refused, and nobody reads its body. Then what the
//! guest writes as the body is gathered, part by part as events, and its trailers. Then the request is sent
//! whole, which is one event whose record shows method, address and headers, and the response comes whole.
//! The guest reads its body from memory, part by part as events.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use vac_core::caps::{Handle, Rights};
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local};
use wasmtime::component::{Accessor, FutureConsumer, Resource, Source, StreamReader};
use wasmtime::{AsContextMut, StoreContextMut};

use super::VERSION;
use super::http::{
    Fields, Head, Part, Req, Res, Response, Trailers, close_with, fixed_fields, make, open_body, take,
    take_fields,
};
use super::streams::{End, Once, Reading, Unnamed, Writing, reading, writing};
use crate::held::Held;
use crate::host::{Host, Object, refused};
use crate::http::HttpRequest;
use crate::limits::HTTP_BODY_MAX_BYTES;
use crate::wall::{Function, State, Wall, cross};
use crate::wasi::http::{self, allow, check_length, detail, nothing, request_to};
use crate::wasi::http_error::HttpError;
use crate::wasi::io::{Input, Output, wrong_kind};

/// A request whose body is being gathered.
pub(crate) struct Sending {
    request: HttpRequest,
    body: Arc<Mutex<Held>>,
}

/// The events of sending.
struct Events {
    begin: Arc<Function>,
    write: Writing<HttpError>,
    end: Arc<Function>,
    read: Reading<u8, HttpError>,
}

/// Trailers as they cross: the handle of the fields.
pub(super) type TrailersRep = std::result::Result<Option<u32>, HttpError>;

/// The handles of a request that is being sent, and of the body that is gathered for it.
type Begun = std::result::Result<(u32, u32), HttpError>;

/// The handles of a response, its body, and its trailers.
type Answer = std::result::Result<(u32, u32, Option<u32>), HttpError>;

type Sent<'a> =
    Pin<Box<dyn Future<Output = wasmtime::Result<std::result::Result<Res, HttpError>>> + Send + 'a>>;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    // A program may import a handler to hand requests on to. Here that is the network.
    for (interface, name) in [("wasi:http/client", "send"), ("wasi:http/handler", "handle")] {
        wall.interface(interface, VERSION, |i| {
            let begin = i.event(name, Local);
            let write = writing(i, name);
            let end = i.event(&format!("[end]{name}"), Effect);
            let read = reading(i, name);
            i.composed(name, Events { begin, write, end, read }, send)
        })?;
    }
    Ok(())
}

fn send<'a>(accessor: &'a Accessor<State>, events: Arc<Events>, (request,): (Req,)) -> Sent<'a> {
    Box::pin(async move {
        let begun = accessor.with(|mut a| begin(&mut a.as_context_mut(), &events, &request))?;
        let gathering = match begun {
            Ok(gathering) => gathering,
            Err(code) => return Ok(Err(code)),
        };
        let Gathering { mut sending, body, trailers } = gathering;
        let has_body = body.is_some();
        let written = match body {
            Some(end) => end.await?,
            None => Ok(()),
        };
        let trailers = written.and(trailers.await?);
        accessor.with(|mut a| {
            let store = &mut a.as_context_mut();
            let Some(handle) = sending.handle.name() else { return Err(wasmtime::Error::new(wrong_kind())) };
            let params = (handle, has_body, trailers);
            let answer = cross(store, &events.end, params, Some(&detail_of), &deliver);
            let answer: Answer = answer.map_err(wasmtime::Error::new)?;
            sending.sent.come(answer.as_ref().map(|_| ()).map_err(Clone::clone));
            let (response, body, trailers) = match answer {
                Ok(answer) => answer,
                Err(code) => return Ok(Err(code)),
            };
            open_body(store, &events.read, response, body, trailers)?;
            Ok(Ok(Resource::new_own(response)))
        })
    })
}

/// What is waited for before a request is sent.
struct Gathering {
    sending: Undelivered,
    body: Option<End<HttpError>>,
    trailers: Once<TrailersRep>,
}

/// A request that is being sent, and what its maker learns of that: if the guest takes its call back, that it was not.
struct Undelivered {
    handle: Unnamed,
    sent: End<HttpError>,
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.sent.come(Err(HttpError::ConnectionTerminated));
    }
}

fn begin(
    store: &mut StoreContextMut<'_, State>,
    events: &Events,
    request: &Req,
) -> wasmtime::Result<std::result::Result<Gathering, HttpError>> {
    let rep = request.rep();
    let act = |host: &mut Host, (rep,): (u32,)| prepare(host, rep);
    let begun: Begun = cross(store, &events.begin, (rep,), None, &act).map_err(wasmtime::Error::new)?;
    let (sending, held) = match begun {
        Ok(begun) => begun,
        Err(code) => {
            close_with(store, rep, Err(code.clone()))?;
            return Ok(Err(code));
        }
    };
    let body = store.data_mut().bodies.0.remove(&rep).ok_or_else(|| wasmtime::Error::new(wrong_kind()))?;
    let handle = Unnamed::new(sending, &store.data().host.ended);
    let sending = Undelivered { handle, sent: body.sent };
    let trailers = Once::default();
    body.trailers.pipe(store.as_context_mut(), TakeTrailers(trailers.clone()))?;
    let body = gather(store, &events.write, held, body.contents)?;
    Ok(Ok(Gathering { sending, body, trailers }))
}

/// Gathers a body behind a handle, which a message without one does not need.
pub(super) fn gather(
    store: &mut StoreContextMut<'_, State>,
    writing: &Writing<HttpError>,
    held: u32,
    contents: Option<StreamReader<u8>>,
) -> wasmtime::Result<Option<End<HttpError>>> {
    match contents {
        Some(data) => writing.begin(store, held, data).map(Some),
        None => {
            store.data().host.ended.add(held);
            Ok(None)
        }
    }
}

/// Looks whether a request may be sent, and makes room for its body.
fn prepare(host: &mut Host, rep: u32) -> Result<Begun> {
    let Part::Request(head) = take(host, &Req::new_own(rep))? else { return Err(wrong_kind()) };
    let request = match request_of(&head).and_then(|request| allow(host, &request).map(|()| request)) {
        Ok(request) => request,
        Err(code) => return Ok(Err(code)),
    };
    let body = Arc::new(Mutex::new(Held::new(&host.holding)));
    let output = Object::Output(Output::Bytes(Arc::clone(&body)));
    let sending: Resource<()> = make(host, Part::Sending(Sending { request, body }))?;
    Ok(Ok((sending.rep(), host.open::<()>(output, Rights::WRITE, None)?.rep())))
}

fn request_of(head: &Head) -> std::result::Result<HttpRequest, HttpError> {
    let timeouts_ns = head.options.map(|options| options.ns).unwrap_or_default();
    let to = (head.scheme.as_ref(), head.authority.as_deref(), head.path.as_deref());
    request_to(&head.method, to, head.headers.clone(), timeouts_ns, HTTP_BODY_MAX_BYTES)
}

type Gathered = (u32, bool, TrailersRep);

fn detail_of(host: &mut Host, (sending, ..): &Gathered) -> Result<Vec<u8>> {
    match host.table.get(Handle::from_rep(*sending), Rights::READ).map_err(refused)? {
        Object::Http3(part) => Ok(match &**part {
            Part::Sending(sending) => detail(&sending.request),
            _ => nothing(),
        }),
        _ => Err(wrong_kind()),
    }
}

/// Sends a request that is whole.
fn deliver(host: &mut Host, (sending, has_body, trailers): Gathered) -> Result<Answer> {
    let Part::Sending(sending) = take(host, &Resource::<()>::new_own(sending))? else {
        return Err(wrong_kind());
    };
    let trailers = match trailers {
        Ok(None) => None,
        Ok(Some(rep)) => Some(take_fields(host, &Resource::<Fields>::new_own(rep))?),
        Err(code) => return Ok(Err(code)),
    };
    let body = sending.body.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut request = sending.request;
    if let Err(code) = check_length(&request.headers, body.len()) {
        return Ok(Err(code));
    }
    // The grant was there before the body; it may have been revoked since.
    if let Err(code) = allow(host, &request) {
        return Ok(Err(code));
    }
    request.body = has_body.then_some(body);
    request.trailers = trailers;
    let response = match http::send(host, request)? {
        Ok(response) => response,
        Err(code) => return Ok(Err(code)),
    };
    let trailers = response.trailers.map(|list| fixed_fields(host, list)).transpose()?;
    let body = Input::Bytes { bytes: Arc::new(response.body.unwrap_or_default()), offset: 0 };
    let body = host.open::<()>(Object::Input(body), Rights::READ, None)?;
    let part = Part::Response { status: response.status, headers: response.headers };
    let response = make::<Response>(host, part)?;
    Ok(Ok((response.rep(), body.rep(), trailers.map(|fields| fields.rep()))))
}

/// Takes the trailers of a message. If its maker gives them up, it has none.
pub(super) struct TakeTrailers(pub(super) Once<TrailersRep>);

impl Drop for TakeTrailers {
    fn drop(&mut self) {
        self.0.come(Ok(None));
    }
}

impl FutureConsumer<State> for TakeTrailers {
    type Item = Trailers;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        mut from: Source<'_, Trailers>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut said = None;
        Poll::Ready(from.read(store, &mut said).map(|()| {
            if let Some(said) = said {
                self.0.come(said.map(|fields| fields.map(|fields| fields.rep())));
            }
        }))
    }
}

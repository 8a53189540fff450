//! Requests that come from outside and that a guest answers by `wasi:http/handler`.
//!
//! A request comes whole and one at a time; its coming is an event whose answer shows it. The guest reads its
//! body part by part. What it writes as the body of its response is gathered, and then the reply is an event with
//! an effect. So a replay gets the same requests from the ledger, and needs no network.

use std::sync::{Arc, Mutex, PoisonError};

use vac_core::canon::Writer;
use vac_core::caps::{Handle, Rights};
use vac_core::fault::Result;
use wasmtime::component::{Accessor, Func, Resource, ResourceAny, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use super::http::{
    Entry, Fields, Head, Part, Request, Response, fixed_fields, make, open_body, take, take_fields,
};
use super::http_send::{TakeTrailers, TrailersRep, gather};
use super::streams::{End, Once, Reading, Writing};
use crate::held::Held;
use crate::host::{Host, Object, refused};
use crate::http::HttpResponse;
use crate::wall::{Function, State, cross, serving};
use crate::wasi::http_error::HttpError;
use crate::wasi::http_values::{Method, Scheme};
use crate::wasi::io::{Input, Output, wrong_kind};
use crate::wire::Wire;

/// The events of answering.
pub(crate) struct Events {
    request: Arc<Function>,
    read: Reading<u8, HttpError>,
    response: Arc<Function>,
    write: Writing<HttpError>,
    reply: Arc<Function>,
}

impl Events {
    pub(crate) fn new() -> Self {
        let [request, read, response, write, reply] = serving();
        Self { request, read: Reading::by(read), response, write: Writing::by(write), reply }
    }
}

/// A request as it came: its handle, that of its body, that of its trailers; method, path, headers.
type Asked = (u32, u32, Option<u32>, String, String, Vec<Entry>);

/// The handles of a response and of what is gathered as its body, and its trailers; or nothing, if the guest
/// failed.
type Reply = Option<(u32, u32, TrailersRep)>;

/// Waits for a request and has `handle` answer it. Whether there was one.
pub(crate) async fn one(accessor: &Accessor<State>, handle: Func, events: &Events) -> wasmtime::Result<bool> {
    let Some(request) = accessor.with(|mut a| next(&mut a.as_context_mut(), events))? else {
        return Ok(false);
    };
    let mut results = [Val::Bool(false)];
    handle.call_concurrent(accessor, &[Val::Resource(request)], &mut results).await?;
    let response = match results {
        [Val::Result(Ok(Some(response)))] => match *response {
            Val::Resource(any) => Some(any),
            _ => None,
        },
        _ => None,
    };
    let begun = accessor.with(|mut a| begin(&mut a.as_context_mut(), events, response))?;
    let reply = match begun {
        None => None,
        Some(Gathering { response, gathering, body, trailers, sent }) => {
            let written = match body {
                Some(end) => end.await?,
                None => Ok(()),
            };
            let trailers = written.and(trailers.await?);
            sent.come(trailers.as_ref().map(|_| ()).map_err(Clone::clone));
            Some((response, gathering, trailers))
        }
    };
    accessor.with(|mut a| {
        let replied: Result<bool> =
            cross(&mut a.as_context_mut(), &events.reply, (reply,), Some(&detail_of), &answer);
        replied.map(drop).map_err(wasmtime::Error::new)
    })?;
    Ok(true)
}

/// The next request, as the guest gets it.
fn next(store: &mut StoreContextMut<'_, State>, events: &Events) -> wasmtime::Result<Option<ResourceAny>> {
    let asked: Option<Asked> = cross(store, &events.request, (), None, &|host: &mut Host, (): ()| ask(host))
        .map_err(wasmtime::Error::new)?;
    let Some((request, body, trailers, ..)) = asked else { return Ok(None) };
    open_body(store, &events.read, request, body, trailers)?;
    let request = Resource::<Request>::new_own(request);
    ResourceAny::try_from_resource(request, store.as_context_mut()).map(Some)
}

fn ask(host: &mut Host) -> Result<Option<Asked>> {
    let Some(serve) = &mut host.serve else { return Ok(None) };
    let Some(asked) = serve.next()? else { return Ok(None) };
    host.take_in(asked.body.len())?;
    let mut body = Held::new(&host.holding);
    body.extend(&asked.body)?;
    let body = Input::Bytes { bytes: Arc::new(body), offset: 0 };
    let body = host.open::<()>(Object::Input(body), Rights::READ, None)?;
    let trailers = asked.trailers.map(|list| fixed_fields(host, list)).transpose()?;
    let head = Head {
        method: Method::of(&asked.method),
        scheme: Some(Scheme::Http),
        authority: Some(asked.authority),
        path: Some(asked.path.clone()),
        headers: asked.headers.clone(),
        options: None,
    };
    let request = make::<Request>(host, Part::Request(head))?;
    let trailers = trailers.map(|fields| fields.rep());
    Ok(Some((request.rep(), body.rep(), trailers, asked.method, asked.path, asked.headers)))
}

/// What is waited for before a response is sent.
struct Gathering {
    response: u32,
    gathering: u32,
    body: Option<End<HttpError>>,
    trailers: Once<TrailersRep>,
    sent: End<HttpError>,
}

fn begin(
    store: &mut StoreContextMut<'_, State>,
    events: &Events,
    response: Option<ResourceAny>,
) -> wasmtime::Result<Option<Gathering>> {
    let Some(response) = response else { return Ok(None) };
    let response = response.try_into_resource::<Response>(store.as_context_mut())?.rep();
    let act = |host: &mut Host, (_response,): (u32,)| {
        let body = Arc::new(Mutex::new(Held::new(&host.holding)));
        let output = Object::Output(Output::Bytes(Arc::clone(&body)));
        let gathering: Resource<()> = make(host, Part::Gathering(body))?;
        Ok((gathering.rep(), host.open::<()>(output, Rights::WRITE, None)?.rep()))
    };
    let (gathering, held): (u32, u32) =
        cross(store, &events.response, (response,), None, &act).map_err(wasmtime::Error::new)?;
    let body = store.data_mut().bodies.0.remove(&response);
    let body = body.ok_or_else(|| wasmtime::Error::new(wrong_kind()))?;
    let trailers = Once::default();
    body.trailers.pipe(store.as_context_mut(), TakeTrailers(trailers.clone()))?;
    let written = gather(store, &events.write, held, body.contents)?;
    Ok(Some(Gathering { response, gathering, body: written, trailers, sent: body.sent }))
}

/// `[status, headers]`, or nothing if there is no response.
fn detail_of(host: &mut Host, (reply,): &(Reply,)) -> Result<Vec<u8>> {
    let mut to = Writer::default();
    let Some((response, ..)) = reply else {
        to.array(0);
        return Ok(to.into_bytes());
    };
    match host.table.get(Handle::from_rep(*response), Rights::READ).map_err(refused)? {
        Object::Http3(part) => match &**part {
            Part::Response { status, headers } => (*status, headers.clone()).put(&mut to),
            _ => return Err(wrong_kind()),
        },
        _ => return Err(wrong_kind()),
    }
    Ok(to.into_bytes())
}

/// Sends a reply. Whether anybody was still there to get it.
fn answer(host: &mut Host, (reply,): (Reply,)) -> Result<bool> {
    let response = match reply {
        Some((response, gathering, trailers)) => response_of(host, response, gathering, trailers)?,
        None => failed(),
    };
    host.give_out(response.body.len())?;
    Ok(host.serve.as_mut().is_some_and(|serve| serve.reply(response)))
}

/// What whoever asked is told of a guest that failed.
fn failed() -> HttpResponse {
    HttpResponse { status: 500, headers: Vec::new(), body: Vec::new(), trailers: None }
}

fn response_of(
    host: &mut Host,
    response: u32,
    gathering: u32,
    trailers: TrailersRep,
) -> Result<HttpResponse> {
    let Part::Response { status, headers } = take(host, &Resource::<Response>::new_own(response))? else {
        return Err(wrong_kind());
    };
    let Part::Gathering(body) = take(host, &Resource::<()>::new_own(gathering))? else {
        return Err(wrong_kind());
    };
    let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
    let trailers = match trailers {
        Ok(None) => None,
        Ok(Some(rep)) => Some(take_fields(host, &Resource::<Fields>::new_own(rep))?),
        Err(_) => return Ok(failed()),
    };
    Ok(HttpResponse { status, headers, body, trailers })
}

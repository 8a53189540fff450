//! `wasi:http`: requests that a guest sends.
//!
//! A request is sent whole and its response comes whole: when the guest finishes the body, or hands in a
//! request that has none. So there is one event that sends, and its record shows method, address, headers and trailers.
//! The response is read from memory after that; before, its future is not ready.
//!
//! Servers (`wasi:http/incoming-handler`) are not run; the types that belong to them are here so that
//! components which import all of `wasi:http/types` can be linked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue};
use vac_core::canon::{Encode, Writer};
use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use super::http_error::HttpError;
use super::http_values::{Method, Scheme};
use super::io::{Input, InputStream, IoError, Output, OutputStream, Pollable, Ready, wrong_kind};
use crate::held::Held;
use crate::host::{Host, Object, handle_of, refused};
use crate::http::{Header, HttpFailure, HttpRequest, HttpResponse, conceal, may_know, reveal};
use crate::limits::{HTTP_BODY_MAX_BYTES, HTTP_FIELDS_MAX, HTTP_FIELDS_MAX_BYTES};
use crate::socket::beside;
use crate::wall::{Interface, Wall};
use crate::wire::Wire;

/// Names of the resources of `wasi:http/types`.
macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $wit:literal,)*) => {
        $($(#[$doc])* pub(crate) struct $name;)*
        fn define_resources(i: &mut Interface<'_>) -> wasmtime::Result<()> {
            $(i.resource::<$name>($wit)?;)*
            Ok(())
        }
    };
}
resources! {
    /// `fields`.
    Fields = "fields",
    /// `incoming-request`; never made.
    IncomingRequest = "incoming-request",
    /// `outgoing-request`.
    OutgoingRequest = "outgoing-request",
    /// `request-options`.
    RequestOptions = "request-options",
    /// `response-outparam`; never made.
    ResponseOutparam = "response-outparam",
    /// `incoming-response`.
    IncomingResponse = "incoming-response",
    /// `incoming-body`.
    IncomingBody = "incoming-body",
    /// `future-trailers`.
    FutureTrailers = "future-trailers",
    /// `outgoing-response`; made, and never sent.
    OutgoingResponse = "outgoing-response",
    /// `outgoing-body`.
    OutgoingBody = "outgoing-body",
    /// `future-incoming-response`.
    FutureResponse = "future-incoming-response",
}

/// What the handles of `wasi:http/types` stand for.
pub(crate) enum HttpObject {
    Fields {
        entries: Vec<Header>,
        is_fixed: bool,
    },
    Request(Draft),
    Options(Timeouts),
    /// The body of a request or response that is being written.
    Writing {
        body: Body,
        of: Option<Arc<Mutex<Sending>>>,
        is_taken: bool,
    },
    Response(Response),
    Reading {
        body: Arc<Held>,
        trailers: Option<Vec<Header>>,
        is_taken: bool,
    },
    Trailers {
        fields: Option<Vec<Header>>,
        is_taken: bool,
    },
    Answer {
        status: u16,
        headers: Vec<Header>,
        body: Option<Body>,
    },
    Future {
        of: Arc<Mutex<Sending>>,
        is_taken: bool,
    },
}

/// A response, of which the guest has taken the body or not.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Option<Held>,
    pub(crate) trailers: Option<Vec<Header>>,
}

/// Bytes that a guest writes.
type Body = Arc<Mutex<Held>>;

/// A request that is being made.
#[derive(Clone)]
pub(crate) struct Draft {
    method: Method,
    scheme: Option<Scheme>,
    authority: Option<String>,
    path: Option<String>,
    headers: Vec<Header>,
    body: Option<Body>,
    /// How far its sending is: shared by its body and its future.
    sending: Arc<Mutex<Sending>>,
}

/// How far a request is.
#[derive(Default)]
pub(crate) struct Sending {
    is_body_finished: bool,
    /// Fields after the body, once it is finished.
    trailers: Option<Vec<Header>>,
    /// What is to be sent when the body is finished.
    request: Option<HttpRequest>,
    /// Until the guest takes it.
    response: Option<std::result::Result<Response, HttpError>>,
    is_answered: bool,
}

impl Sending {
    fn answer(&mut self, response: std::result::Result<Response, HttpError>) {
        self.response = Some(response);
        self.is_answered = true;
    }

    /// Whether the response came, or why there is none.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Timeouts {
    connect_ns: Option<u64>,
    first_byte_ns: Option<u64>,
    between_bytes_ns: Option<u64>,
}

/// `wasi:http/types.header-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum HeaderError {
    #[component(name = "invalid-syntax")]
    InvalidSyntax,
    #[component(name = "forbidden")]
    Forbidden,
    #[component(name = "immutable")]
    Immutable,
}
crate::wire::cases!(HeaderError { InvalidSyntax, Forbidden, Immutable });

type F = Resource<Fields>;
type Req = Resource<OutgoingRequest>;
type Opt = Resource<RequestOptions>;
type Values = Vec<Vec<u8>>;
/// A result without words for its error.
type Done<T> = std::result::Result<T, ()>;

/// Headers that belong to the connection, and so to the client.
const FORBIDDEN: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:http/types", VERSION, |i| {
        define_resources(i)?;
        define_fields(i)?;
        define_request(i)?;
        define_options(i)?;
        define_bodies(i)?;
        define_response(i)?;
        define_server(i)?;
        i.func("http-error-code", Local, |_, (_e,): (Resource<IoError>,)| Ok(None::<HttpError>))
    })?;
    wall.interface("wasi:http/outgoing-handler", VERSION, |i| {
        i.detailed(
            "handle",
            Effect,
            |h, (request, _): &(Req, Option<Opt>)| detail_of_request(h, request),
            |h, (request, options): (Req, Option<Opt>)| handle(h, &request, options.as_ref()),
        )
    })
}

/// Of a table entry of this file.
macro_rules! object {
    ($name:ident, $resource:ty, $pattern:pat => $value:expr, $out:ty) => {
        fn $name<'h>(host: &'h mut Host, resource: &Resource<$resource>) -> Result<$out> {
            match host.table.get_mut(handle_of(resource), Rights::READ).map_err(refused)? {
                Object::Http(object) => match &mut **object {
                    $pattern => Ok($value),
                    _ => Err(wrong_kind()),
                },
                _ => Err(wrong_kind()),
            }
        }
    };
}
object!(fields, Fields, HttpObject::Fields { entries, is_fixed } => (entries, *is_fixed), (&'h mut Vec<Header>, bool));
object!(draft, OutgoingRequest, HttpObject::Request(draft) => draft, &'h mut Draft);
object!(timeouts, RequestOptions, HttpObject::Options(timeouts) => timeouts, &'h mut Timeouts);
object!(response, IncomingResponse, HttpObject::Response(response) => response, &'h mut Response);

fn make<R: 'static>(host: &mut Host, object: HttpObject) -> Result<Resource<R>> {
    host.open(Object::Http(Box::new(object)), Rights::ALL, None)
}

/// Gives a handle up that the guest handed over.
fn consume<R: 'static>(host: &mut Host, resource: &Resource<R>) -> Result<HttpObject> {
    match host.table.release(handle_of(resource)).map_err(refused)? {
        Object::Http(object) => Ok(*object),
        _ => Err(wrong_kind()),
    }
}

fn consume_fields(host: &mut Host, resource: &F) -> Result<Vec<Header>> {
    match consume(host, resource)? {
        HttpObject::Fields { entries, .. } => Ok(entries),
        _ => Err(wrong_kind()),
    }
}

fn fixed_fields(host: &mut Host, entries: Vec<Header>) -> Result<F> {
    make(host, HttpObject::Fields { entries, is_fixed: true })
}

/// The name in lower case, if it is one and the guest may set it.
fn checked_name(name: &str) -> std::result::Result<String, HeaderError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::InvalidSyntax)?;
    match FORBIDDEN.contains(&name.as_str()) {
        true => Err(HeaderError::Forbidden),
        false => Ok(name.as_str().to_owned()),
    }
}

fn checked_value(value: Vec<u8>) -> std::result::Result<Vec<u8>, HeaderError> {
    HeaderValue::from_bytes(&value).map(|_| value).map_err(|_| HeaderError::InvalidSyntax)
}

/// All headers together have a limit: past it the guest is told that they are no headers.
fn has_room(entries: &[Header], count: usize, more: usize) -> std::result::Result<(), HeaderError> {
    let len: usize = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
    let fits = entries.len().saturating_add(count) <= HTTP_FIELDS_MAX
        && len.saturating_add(more) <= HTTP_FIELDS_MAX_BYTES;
    fits.then_some(()).ok_or(HeaderError::InvalidSyntax)
}

fn add(entries: &mut Vec<Header>, name: &str, value: Vec<u8>) -> std::result::Result<(), HeaderError> {
    has_room(entries, 1, name.len() + value.len())?;
    entries.push((checked_name(name)?, checked_value(value)?));
    Ok(())
}

fn define_fields(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[constructor]fields", Local, |h, (): ()| -> Result<F> {
        make(h, HttpObject::Fields { entries: Vec::new(), is_fixed: false })
    })?;
    i.func("[static]fields.from-list", Local, |h, (list,): (Vec<Header>,)| {
        let mut entries = Vec::new();
        for (name, value) in list {
            if let Err(error) = add(&mut entries, &name, value) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(make::<Fields>(h, HttpObject::Fields { entries, is_fixed: false })?))
    })?;
    i.func("[method]fields.get", Local, |h, (f, name): (F, String)| -> Result<Values> {
        let name = name.to_ascii_lowercase();
        let of_name = fields(h, &f)?.0.iter().filter(|(own, _)| *own == name);
        Ok(of_name.map(|(_, value)| value.clone()).collect())
    })?;
    i.func("[method]fields.has", Local, |h, (f, name): (F, String)| {
        let name = name.to_ascii_lowercase();
        Ok(fields(h, &f)?.0.iter().any(|(own, _)| *own == name))
    })?;
    i.func("[method]fields.set", Local, |h, (f, name, values): (F, String, Values)| {
        change(h, &f, |entries| {
            let lower = checked_name(&name)?;
            let values = values.into_iter().map(checked_value).collect::<std::result::Result<Vec<_>, _>>()?;
            has_room(entries, values.len(), values.iter().map(|value| name.len() + value.len()).sum())?;
            entries.retain(|(own, _)| *own != lower);
            entries.extend(values.into_iter().map(|value| (lower.clone(), value)));
            Ok(())
        })
    })?;
    i.func("[method]fields.delete", Local, |h, (f, name): (F, String)| {
        change(h, &f, |entries| {
            let lower = checked_name(&name)?;
            entries.retain(|(own, _)| *own != lower);
            Ok(())
        })
    })?;
    i.func("[method]fields.append", Local, |h, (f, name, value): (F, String, Vec<u8>)| {
        change(h, &f, |entries| add(entries, &name, value))
    })?;
    i.func("[method]fields.entries", Local, |h, (f,): (F,)| Ok(fields(h, &f)?.0.clone()))?;
    i.func("[method]fields.clone", Local, |h, (f,): (F,)| -> Result<F> {
        let entries = fields(h, &f)?.0.clone();
        make(h, HttpObject::Fields { entries, is_fixed: false })
    })
}

fn change(
    host: &mut Host,
    resource: &F,
    act: impl FnOnce(&mut Vec<Header>) -> std::result::Result<(), HeaderError>,
) -> Result<std::result::Result<(), HeaderError>> {
    Ok(match fields(host, resource)? {
        (_, true) => Err(HeaderError::Immutable),
        (entries, false) => act(entries),
    })
}

fn define_request(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[constructor]outgoing-request", Local, |h, (headers,): (F,)| -> Result<Req> {
        let headers = consume_fields(h, &headers)?;
        let draft = Draft {
            method: Method::Get,
            scheme: None,
            authority: None,
            path: None,
            headers,
            body: None,
            sending: Arc::default(),
        };
        make(h, HttpObject::Request(draft))
    })?;
    i.func(
        "[method]outgoing-request.body",
        Local,
        |h, (r,): (Req,)| -> Result<Done<Resource<OutgoingBody>>> {
            let body = Arc::new(Mutex::new(Held::new(&h.holding)));
            let draft = draft(h, &r)?;
            if draft.body.is_some() {
                return Ok(Err(()));
            }
            let body = draft.body.insert(body).clone();
            let of = Some(Arc::clone(&draft.sending));
            Ok(Ok(make(h, HttpObject::Writing { body, of, is_taken: false })?))
        },
    )?;
    i.func("[method]outgoing-request.method", Local, |h, (r,): (Req,)| Ok(draft(h, &r)?.method.clone()))?;
    i.func("[method]outgoing-request.set-method", Local, |h, (r, method): (Req, Method)| {
        let is_one = http::Method::from_bytes(method.word().as_bytes()).is_ok();
        set(&mut draft(h, &r)?.method, Method::of(method.word()), is_one)
    })?;
    i.func("[method]outgoing-request.path-with-query", Local, |h, (r,): (Req,)| {
        Ok(draft(h, &r)?.path.clone())
    })?;
    i.func("[method]outgoing-request.set-path-with-query", Local, |h, (r, path): (Req, Option<String>)| {
        let is_one = path.as_ref().is_none_or(|p| p.is_empty() || p.parse::<PathAndQuery>().is_ok());
        set(&mut draft(h, &r)?.path, path, is_one)
    })?;
    i.func("[method]outgoing-request.scheme", Local, |h, (r,): (Req,)| Ok(draft(h, &r)?.scheme.clone()))?;
    i.func("[method]outgoing-request.set-scheme", Local, |h, (r, scheme): (Req, Option<Scheme>)| {
        let is_one = match &scheme {
            Some(Scheme::Other(word)) => word.parse::<http::uri::Scheme>().is_ok(),
            _ => true,
        };
        set(&mut draft(h, &r)?.scheme, scheme, is_one)
    })?;
    i.func("[method]outgoing-request.authority", Local, |h, (r,): (Req,)| {
        Ok(draft(h, &r)?.authority.clone())
    })?;
    i.func("[method]outgoing-request.set-authority", Local, |h, (r, authority): (Req, Option<String>)| {
        let is_one = authority.as_ref().is_none_or(|a| a.parse::<Authority>().is_ok() && !a.contains('@'));
        set(&mut draft(h, &r)?.authority, authority, is_one)
    })?;
    i.func("[method]outgoing-request.headers", Local, |h, (r,): (Req,)| -> Result<F> {
        let entries = draft(h, &r)?.headers.clone();
        fixed_fields(h, entries)
    })
}

/// Sets `field` if the value is one that it may have.
fn set<T>(field: &mut T, value: T, is_one: bool) -> Result<Done<()>> {
    if is_one {
        *field = value;
    }
    Ok(is_one.then_some(()).ok_or(()))
}

fn define_options(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[constructor]request-options", Local, |h, (): ()| -> Result<Opt> {
        make(h, HttpObject::Options(Timeouts::default()))
    })?;
    macro_rules! timeout {
        ($get:literal, $set:literal, $field:ident) => {
            i.func(concat!("[method]request-options.", $get), Local, |h, (o,): (Opt,)| {
                Ok(timeouts(h, &o)?.$field)
            })?;
            i.func(concat!("[method]request-options.", $set), Local, |h, (o, ns): (Opt, Option<u64>)| {
                set(&mut timeouts(h, &o)?.$field, ns, true)
            })?;
        };
    }
    timeout!("connect-timeout", "set-connect-timeout", connect_ns);
    timeout!("first-byte-timeout", "set-first-byte-timeout", first_byte_ns);
    timeout!("between-bytes-timeout", "set-between-bytes-timeout", between_bytes_ns);
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn define_bodies(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    type Out = Resource<OutgoingBody>;
    type In = Resource<IncomingBody>;
    type Tr = Resource<FutureTrailers>;
    i.func(
        "[method]outgoing-body.write",
        Local,
        |h, (b,): (Out,)| -> Result<Done<Resource<OutputStream>>> {
            let handle = handle_of(&b);
            let body = match h.table.get_mut(handle, Rights::READ).map_err(refused)? {
                Object::Http(object) => match &mut **object {
                    HttpObject::Writing { is_taken: true, .. } => return Ok(Err(())),
                    HttpObject::Writing { body, is_taken, .. } => {
                        *is_taken = true;
                        Arc::clone(body)
                    }
                    _ => return Err(wrong_kind()),
                },
                _ => return Err(wrong_kind()),
            };
            Ok(Ok(h.derive(handle, Object::Output(Output::Bytes(body)), Rights::WRITE)?))
        },
    )?;
    i.detailed(
        "[static]outgoing-body.finish",
        Effect,
        |h, (body, trailers): &(Out, Option<F>)| detail_of_body(h, body, trailers.as_ref()),
        |h, (body, trailers): (Out, Option<F>)| finish(h, &body, trailers.as_ref()),
    )?;
    i.func("[method]incoming-body.stream", Local, |h, (b,): (In,)| -> Result<Done<Resource<InputStream>>> {
        let handle = handle_of(&b);
        let bytes = match h.table.get_mut(handle, Rights::READ).map_err(refused)? {
            Object::Http(object) => match &mut **object {
                HttpObject::Reading { is_taken: true, .. } => return Ok(Err(())),
                HttpObject::Reading { body, is_taken, .. } => {
                    *is_taken = true;
                    Arc::clone(body)
                }
                _ => return Err(wrong_kind()),
            },
            _ => return Err(wrong_kind()),
        };
        Ok(Ok(h.derive(handle, Object::Input(Input::Bytes { bytes, offset: 0 }), Rights::READ)?))
    })?;
    i.func("[static]incoming-body.finish", Local, |h, (b,): (In,)| -> Result<Tr> {
        let HttpObject::Reading { trailers, .. } = consume(h, &b)? else { return Err(wrong_kind()) };
        make(h, HttpObject::Trailers { fields: trailers, is_taken: false })
    })?;
    i.func("[method]future-trailers.subscribe", Local, |h, (t,): (Tr,)| {
        h.derive::<Pollable>(handle_of(&t), Object::Pollable(Ready::At(0)), Rights::READ)
    })?;
    i.func("[method]future-trailers.get", Local, |h, (t,): (Tr,)| take_trailers(h, &t))
}

type Trailers = Option<Done<std::result::Result<Option<F>, HttpError>>>;

/// The response came whole, and its trailers with it.
fn take_trailers(host: &mut Host, trailers: &Resource<FutureTrailers>) -> Result<Trailers> {
    let fields = match host.table.get_mut(handle_of(trailers), Rights::READ).map_err(refused)? {
        Object::Http(object) => match &mut **object {
            HttpObject::Trailers { is_taken: true, .. } => return Ok(Some(Err(()))),
            HttpObject::Trailers { is_taken, fields } => {
                *is_taken = true;
                fields.take()
            }
            _ => return Err(wrong_kind()),
        },
        _ => return Err(wrong_kind()),
    };
    Ok(Some(Ok(Ok(fields.map(|fields| fixed_fields(host, fields)).transpose()?))))
}

fn define_response(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    type Fut = Resource<FutureResponse>;
    type Res = Resource<IncomingResponse>;
    i.func("[method]future-incoming-response.subscribe", Local, |h, (f,): (Fut,)| {
        let ready = match h.table.get(handle_of(&f), Rights::READ).map_err(refused)? {
            Object::Http(object) => match &**object {
                HttpObject::Future { of, .. } => Ready::Answered(Arc::clone(of)),
                _ => return Err(wrong_kind()),
            },
            _ => return Err(wrong_kind()),
        };
        h.derive::<Pollable>(handle_of(&f), Object::Pollable(ready), Rights::READ)
    })?;
    i.func("[method]future-incoming-response.get", Read, |h, (f,): (Fut,)| get(h, &f))?;
    i.func("[method]incoming-response.status", Local, |h, (r,): (Res,)| Ok(response(h, &r)?.status))?;
    i.func("[method]incoming-response.headers", Read, |h, (r,): (Res,)| -> Result<F> {
        let entries = response(h, &r)?.headers.clone();
        fixed_fields(h, entries)
    })?;
    i.func(
        "[method]incoming-response.consume",
        Local,
        |h, (r,): (Res,)| -> Result<Done<Resource<IncomingBody>>> {
            let response = response(h, &r)?;
            let Some(body) = response.body.take() else { return Ok(Err(())) };
            let (body, trailers) = (Arc::new(body), response.trailers.take());
            Ok(Ok(make(h, HttpObject::Reading { body, trailers, is_taken: false })?))
        },
    )
}

type Got = Option<Done<std::result::Result<Resource<IncomingResponse>, HttpError>>>;

fn get(host: &mut Host, future: &Resource<FutureResponse>) -> Result<Got> {
    let response = match host.table.get_mut(handle_of(future), Rights::READ).map_err(refused)? {
        Object::Http(object) => match &mut **object {
            HttpObject::Future { is_taken: true, .. } => return Ok(Some(Err(()))),
            HttpObject::Future { of, is_taken } => {
                let Some(response) = lock(of).response.take() else { return Ok(None) };
                *is_taken = true;
                response
            }
            _ => return Err(wrong_kind()),
        },
        _ => return Err(wrong_kind()),
    };
    Ok(Some(Ok(match response {
        Ok(response) => Ok(make(host, HttpObject::Response(response))?),
        Err(error) => Err(error),
    })))
}

/// What a request looks like to the ledger: `[method, url, headers]`, with trailers behind that if it has some. Secrets
/// are placeholders in it.
pub(crate) fn detail(request: &HttpRequest) -> Vec<u8> {
    let scheme = if request.is_https { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", request.host, request.port, request.path);
    let mut to = Writer::default();
    to.array(if request.trailers.is_some() { 4 } else { 3 });
    to.text(&request.method);
    to.text(&url);
    Wire::put(&request.headers, &mut to);
    request.trailers.iter().for_each(|trailers| Wire::put(trailers, &mut to));
    to.into_bytes()
}

pub(crate) fn nothing() -> Vec<u8> {
    let mut to = Writer::default();
    Encode::encode(&(), &mut to);
    to.into_bytes()
}

fn detail_of_request(host: &mut Host, request: &Req) -> Result<Vec<u8>> {
    let draft = draft(host, request)?.clone();
    let is_whole = draft.body.is_none() || lock(&draft.sending).is_body_finished;
    let trailers = lock(&draft.sending).trailers.clone();
    Ok(match whole(&draft, Timeouts::default(), 0) {
        Ok(request) if is_whole => detail(&HttpRequest { trailers, ..request }),
        _ => nothing(),
    })
}

fn detail_of_body(host: &mut Host, body: &Resource<OutgoingBody>, trailers: Option<&F>) -> Result<Vec<u8>> {
    let trailers = match trailers {
        Some(trailers) => Some(fields(host, trailers)?.0.clone()),
        None => None,
    };
    let whole = |request: &HttpRequest| detail(&HttpRequest { trailers, ..request.clone() });
    match host.table.get(handle_of(body), Rights::READ).map_err(refused)? {
        Object::Http(object) => match &**object {
            HttpObject::Writing { of: Some(of), .. } => {
                Ok(lock(of).request.as_ref().map_or_else(nothing, whole))
            }
            HttpObject::Writing { of: None, .. } => Ok(nothing()),
            _ => Err(wrong_kind()),
        },
        _ => Err(wrong_kind()),
    }
}

/// The request that `draft` describes, without its body.
fn whole(
    draft: &Draft,
    timeouts: Timeouts,
    body_max_bytes: u64,
) -> std::result::Result<HttpRequest, HttpError> {
    let ns = [timeouts.connect_ns, timeouts.first_byte_ns, timeouts.between_bytes_ns];
    let to = (draft.scheme.as_ref(), draft.authority.as_deref(), draft.path.as_deref());
    request_to(&draft.method, to, draft.headers.clone(), ns, body_max_bytes)
}

/// A request without a body, to a scheme, an authority and a path. The timeouts are those of connecting, of the
/// first byte and between two, in nanoseconds.
pub(crate) fn request_to(
    method: &Method,
    (scheme, authority, path): (Option<&Scheme>, Option<&str>, Option<&str>),
    headers: Vec<Header>,
    timeouts_ns: [Option<u64>; 3],
    body_max_bytes: u64,
) -> std::result::Result<HttpRequest, HttpError> {
    let is_https = match scheme {
        Some(Scheme::Http) => false,
        Some(Scheme::Https) | None => true,
        Some(Scheme::Other(_)) => return Err(HttpError::HttpProtocolError),
    };
    let authority = authority.filter(|text| !text.contains('@')).unwrap_or_default();
    let authority: Authority = authority.parse().map_err(|_| HttpError::HttpRequestUriInvalid)?;
    let port = match authority.port_u16() {
        Some(port) => port,
        None if authority.port().is_some() => return Err(HttpError::HttpRequestUriInvalid),
        None => {
            if is_https {
                443
            } else {
                80
            }
        }
    };
    let path = match path {
        None | Some("") => "/".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
    };
    if *method == Method::Connect {
        return Err(HttpError::HttpRequestMethodInvalid);
    }
    let [connect, first_byte, between_bytes] = timeouts_ns;
    Ok(HttpRequest {
        method: method.word().to_owned(),
        is_https,
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase(),
        port,
        path,
        headers,
        body: None,
        trailers: None,
        connect_timeout: connect.map(Duration::from_nanos),
        response_timeout: first_byte.map(Duration::from_nanos),
        between_bytes_timeout: between_bytes.map(Duration::from_nanos),
        body_max_bytes,
    })
}

type Handled = Result<std::result::Result<Resource<FutureResponse>, HttpError>>;

/// Takes a request. It is sent now, unless its body is still being written.
fn handle(host: &mut Host, request: &Req, options: Option<&Opt>) -> Handled {
    let timeouts = match options {
        Some(options) => *timeouts(host, options)?,
        None => Timeouts::default(),
    };
    let HttpObject::Request(draft) = consume(host, request)? else { return Err(wrong_kind()) };
    if let Some(options) = options {
        consume(host, options)?;
    }
    let request = match whole(&draft, timeouts, HTTP_BODY_MAX_BYTES) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = allow(host, &request) {
        return Ok(Err(error));
    }
    let is_whole = draft.body.is_none() || lock(&draft.sending).is_body_finished;
    if is_whole {
        let trailers = lock(&draft.sending).trailers.take();
        let request = HttpRequest { trailers, ..request };
        if let Err(error) = deliver(host, request, draft.body.as_ref(), &draft.sending)? {
            return Ok(Err(error));
        }
    } else {
        lock(&draft.sending).request = Some(request);
    }
    Ok(Ok(make(host, HttpObject::Future { of: draft.sending, is_taken: false })?))
}

/// Looks for the grant of a request, and notes it, or what would have allowed it.
pub(crate) fn allow(host: &mut Host, request: &HttpRequest) -> std::result::Result<(), HttpError> {
    match host.net.may_request(&request.method, &request.host, request.port) {
        Ok(grant) => {
            let number = grant.grant;
            host.allowed_by(Some(number));
            Ok(())
        }
        Err(denied) => {
            host.deny(denied.would_allow());
            Err(HttpError::HttpRequestDenied)
        }
    }
}

type Sent = Result<std::result::Result<Response, HttpError>>;

/// Sends a request that [`allow`] allowed.
pub(crate) fn send(host: &mut Host, mut request: HttpRequest) -> Sent {
    let Some(client) = host.http.clone() else { return Ok(Err(HttpError::ConfigurationError)) };
    let has_secret = reveal(&mut request, &host.secrets) || may_know(&request.host, &host.hidden);
    if has_secret {
        // In a compressed body, or in a part of one, a secret could not be found again. The server may know it
        // from another request.
        request.headers.retain(|(name, _)| !matches!(name.as_str(), "accept-encoding" | "range"));
        request.headers.push(("accept-encoding".into(), b"identity".to_vec()));
    }
    let may_connect = host.net.may_connect(&request.host);
    let sent = beside(host, move || Ok(client.send(request, may_connect)))?;
    let mut response = match sent.unwrap_or(Err(HttpFailure::Other)) {
        Ok(response) => response,
        Err(failure) => {
            if let HttpFailure::Prohibited(ip) = failure {
                host.deny(format!("net:{ip}"));
            }
            return Ok(Err(failure.into()));
        }
    };
    let is_plain =
        |(name, value): &Header| name != "content-encoding" || value.eq_ignore_ascii_case(b"identity");
    if has_secret && !response.headers.iter().all(is_plain) {
        return Ok(Err(HttpError::HttpResponseContentCoding(None)));
    }
    conceal(&mut response, &host.hidden);
    let mut body = Held::new(&host.holding);
    body.extend(&response.body)?;
    let HttpResponse { status, headers, trailers, .. } = response;
    Ok(Ok(Response { status, headers, body: Some(body), trailers }))
}

/// Ends the body of a request; if the request was handed in before, it is sent now.
fn finish(
    host: &mut Host,
    body: &Resource<OutgoingBody>,
    trailers: Option<&F>,
) -> Result<std::result::Result<(), HttpError>> {
    let trailers = trailers.map(|trailers| consume_fields(host, trailers)).transpose()?;
    let HttpObject::Writing { body, of, .. } = consume(host, body)? else { return Err(wrong_kind()) };
    let Some(of) = of else { return Ok(Ok(())) };
    lock(&of).is_body_finished = true;
    let Some(request) = lock(&of).request.take() else {
        lock(&of).trailers = trailers;
        return Ok(Ok(()));
    };
    // The grant was there when the request was handed in; it may have been revoked since.
    if let Err(error) = allow(host, &request) {
        lock(&of).answer(Err(error));
        return Ok(Ok(()));
    }
    deliver(host, HttpRequest { trailers, ..request }, Some(&body), &of)
}

/// Sends a request with its body, if that is as long as the headers say; else it has no answer but that.
fn deliver(
    host: &mut Host,
    request: HttpRequest,
    body: Option<&Body>,
    of: &Mutex<Sending>,
) -> Result<std::result::Result<(), HttpError>> {
    let body = body.map(|body| lock(body).take());
    if let Err(error) = check_length(&request.headers, body.as_ref().map_or(0, Vec::len)) {
        lock(of).answer(Err(error.clone()));
        return Ok(Err(error));
    }
    let sent = send(host, HttpRequest { body, ..request })?;
    host.clock.catch_up();
    lock(of).answer(sent);
    Ok(Ok(()))
}

/// Whether the length that the headers name, if they do, is that of the body.
pub(crate) fn check_length(headers: &[Header], len: usize) -> std::result::Result<(), HttpError> {
    let named = headers.iter().filter(|(name, _)| name == "content-length");
    let is_len = |(_, value): &Header| value.as_slice() == len.to_string().as_bytes();
    match named.clone().all(is_len) {
        true => Ok(()),
        false => Err(HttpError::HttpRequestBodySize(Some(len as u64))),
    }
}

/// What only servers use: linked, and answered with nothing.
fn define_server(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    type R = Resource<IncomingRequest>;
    type A = Resource<OutgoingResponse>;
    type P = Resource<ResponseOutparam>;
    i.func("[method]incoming-request.method", Local, |_, (_r,): (R,)| Err::<Method, _>(wrong_kind()))?;
    i.func("[method]incoming-request.path-with-query", Local, |_, (_r,): (R,)| {
        Err::<Option<String>, _>(wrong_kind())
    })?;
    i.func(
        "[method]incoming-request.scheme",
        Local,
        |_, (_r,): (R,)| Err::<Option<Scheme>, _>(wrong_kind()),
    )?;
    i.func("[method]incoming-request.authority", Local, |_, (_r,): (R,)| {
        Err::<Option<String>, _>(wrong_kind())
    })?;
    i.func("[method]incoming-request.headers", Local, |_, (_r,): (R,)| Err::<F, _>(wrong_kind()))?;
    i.func("[method]incoming-request.consume", Local, |_, (_r,): (R,)| {
        Err::<Done<Resource<IncomingBody>>, _>(wrong_kind())
    })?;
    i.proc("[static]response-outparam.set", Local, |_, (_p, _r): (P, std::result::Result<A, HttpError>)| {
        Err(wrong_kind())
    })?;
    i.func("[constructor]outgoing-response", Local, |h, (headers,): (F,)| -> Result<A> {
        let headers = consume_fields(h, &headers)?;
        make(h, HttpObject::Answer { status: 200, headers, body: None })
    })?;
    i.func("[method]outgoing-response.status-code", Local, |h, (a,): (A,)| Ok(*answer(h, &a)?.0))?;
    i.func("[method]outgoing-response.set-status-code", Local, |h, (a, status): (A, u16)| {
        set(answer(h, &a)?.0, status, (100..1000).contains(&status))
    })?;
    i.func("[method]outgoing-response.headers", Local, |h, (a,): (A,)| -> Result<F> {
        let entries = answer(h, &a)?.1.clone();
        fixed_fields(h, entries)
    })?;
    i.func("[method]outgoing-response.body", Local, |h, (a,): (A,)| -> Result<Done<Resource<OutgoingBody>>> {
        let new = Arc::new(Mutex::new(Held::new(&h.holding)));
        let (.., body) = answer(h, &a)?;
        if body.is_some() {
            return Ok(Err(()));
        }
        let body = body.insert(new).clone();
        Ok(Ok(make(h, HttpObject::Writing { body, of: None, is_taken: false })?))
    })
}

type AnswerParts<'h> = (&'h mut u16, &'h mut Vec<Header>, &'h mut Option<Body>);
object!(answer, OutgoingResponse, HttpObject::Answer { status, headers, body } => (status, headers, body), AnswerParts<'h>);

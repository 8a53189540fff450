//! `wasi:http/types`: requests and responses are made, taken apart and handed around. How they are sent is in
//! [`super::http_send`].
//!
//! A body is a stream of the guest's own, and stays one: who takes a message apart gets the very
//! stream and future that it was made of, and nothing of them crosses the wall.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::Local;
use wasmtime::component::{FutureConsumer, FutureReader, Resource, Source, StreamReader};
use wasmtime::{AsContextMut, StoreContextMut};

use super::VERSION;
use super::http_types::{HeaderError, OptionsError, is_authority, is_field_value, is_path, is_token};
use super::streams::{Done, End, Reading, Unnamed};
use crate::held::Held;
use crate::host::{Host, Object, handle_of, refused};
use crate::limits::{FIELDS_MAX_BYTES, HTTP_FIELDS_MAX};
use crate::wall::{Interface, State, Wall};
use crate::wasi::http_error::HttpError;
use crate::wasi::http_values::{Method, Scheme};
use crate::wasi::io::wrong_kind;

/// `wasi:http/types.fields`.
pub(super) struct Fields;
/// `wasi:http/types.request`.
pub(super) struct Request;
/// `wasi:http/types.request-options`.
struct RequestOptions;
/// `wasi:http/types.response`.
pub(super) struct Response;

/// What the handles of `wasi:http/types` stand for.
pub(crate) enum Part {
    Fields(Entries),
    Request(Head),
    Options(Timeouts),
    Response {
        status: u16,
        headers: Vec<Entry>,
    },
    /// A request whose body is being gathered.
    Sending(super::http_send::Sending),
    /// The body of a reply that is being gathered.
    Gathering(Arc<Mutex<Held>>),
}

/// A field: its name in lower case, and its value.
pub(super) type Entry = (String, Vec<u8>);

/// Fields, and whether they belong to a message and can no longer be changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    list: Vec<Entry>,
    /// Bytes of all names and values.
    len: usize,
    is_fixed: bool,
}

/// A request without its body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(super) method: Method,
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Option<String>,
    pub(super) path: Option<String>,
    pub(super) headers: Vec<Entry>,
    pub(super) options: Option<Timeouts>,
}

/// Nanoseconds to connect, to the first byte, and between two; and whether they belong to a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timeouts {
    pub(super) ns: [Option<u64>; 3],
    is_fixed: bool,
}

/// Bodies of messages by the handles of those, on the side of the engine.
#[derive(Default)]
pub(crate) struct Bodies(pub(super) BTreeMap<u32, Body>);

pub(super) struct Body {
    pub(super) contents: Option<StreamReader<u8>>,
    pub(super) trailers: FutureReader<Trailers>,
    pub(super) sent: End<HttpError>,
}

type F = Resource<Fields>;
pub(super) type Req = Resource<Request>;
type Opt = Resource<RequestOptions>;
pub(super) type Res = Resource<Response>;
pub(super) type Trailers = std::result::Result<Option<F>, HttpError>;
type Values = Vec<Vec<u8>>;
/// What a message is made of besides what is recorded.
type Streams = (Option<StreamReader<u8>>, FutureReader<Trailers>);
type Header<T> = Result<std::result::Result<T, HeaderError>>;
/// A result that says only whether it was done.
type Taken = Result<std::result::Result<(), ()>>;

/// Fields that belong to the connection, and so to the client.
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
        i.resource::<Fields>("fields")?;
        i.resource::<RequestOptions>("request-options")?;
        i.resource_and::<Request>("request", close)?;
        i.resource_and::<Response>("response", close)?;
        define_fields(i)?;
        define_request(i)?;
        define_options(i)?;
        define_response(i)
    })?;
    super::http_send::define(wall)
}

fn part<'h, R: 'static>(host: &'h mut Host, resource: &Resource<R>) -> Result<&'h mut Part> {
    match host.table.get_mut(handle_of(resource), Rights::READ).map_err(refused)? {
        Object::Http3(part) => Ok(part),
        _ => Err(wrong_kind()),
    }
}

/// The part behind a handle, if it is of the right kind, which the component model has checked.
macro_rules! part {
    ($name:ident, $resource:ty, $pattern:pat => $value:expr, $out:ty) => {
        fn $name<'h>(host: &'h mut Host, resource: &Resource<$resource>) -> Result<$out> {
            match part(host, resource)? {
                $pattern => Ok($value),
                _ => Err(wrong_kind()),
            }
        }
    };
}
part!(fields, Fields, Part::Fields(entries) => entries, &'h mut Entries);
part!(head, Request, Part::Request(head) => head, &'h mut Head);
part!(timeouts, RequestOptions, Part::Options(timeouts) => timeouts, &'h mut Timeouts);
part!(response, Response, Part::Response { status, headers } => (status, headers), (&'h mut u16, &'h mut Vec<Entry>));

pub(super) fn make<R: 'static>(host: &mut Host, part: Part) -> Result<Resource<R>> {
    host.open(Object::Http3(Box::new(part)), Rights::ALL, None)
}

/// Gives a handle up that the guest handed over.
pub(super) fn take<R: 'static>(host: &mut Host, resource: &Resource<R>) -> Result<Part> {
    match host.table.release(handle_of(resource)).map_err(refused)? {
        Object::Http3(part) => Ok(*part),
        _ => Err(wrong_kind()),
    }
}

// --- fields ---

fn name_of(name: &str) -> std::result::Result<String, HeaderError> {
    let lower = name.to_ascii_lowercase();
    match (is_token(&lower), FORBIDDEN.contains(&lower.as_str())) {
        (false, _) => Err(HeaderError::InvalidSyntax),
        (true, true) => Err(HeaderError::Forbidden),
        (true, false) => Ok(lower),
    }
}

/// The bytes that fields of one name take.
fn len_of(name: &str, values: &[Vec<u8>]) -> usize {
    values.iter().fold(0, |len: usize, value| len.saturating_add(name.len()).saturating_add(value.len()))
}

/// Whether so many fields of so many bytes are allowed.
fn fits(count: usize, len: usize) -> std::result::Result<(), HeaderError> {
    let fits = count <= HTTP_FIELDS_MAX && len <= FIELDS_MAX_BYTES;
    fits.then_some(()).ok_or(HeaderError::SizeExceeded)
}

// Each change is wholly done, or not at all: first all is checked.
impl Entries {
    fn of(list: Vec<Entry>, is_fixed: bool) -> Self {
        let len = list.iter().map(|(name, value)| name.len() + value.len()).sum();
        Self { list, len, is_fixed }
    }

    fn add(&mut self, name: &str, value: Vec<u8>) -> std::result::Result<(), HeaderError> {
        let name = name_of(name)?;
        if !is_field_value(&value) {
            return Err(HeaderError::InvalidSyntax);
        }
        let len = self.len.saturating_add(name.len()).saturating_add(value.len());
        fits(self.list.len().saturating_add(1), len)?;
        self.list.push((name, value));
        self.len = len;
        Ok(())
    }

    /// Puts `values` in the place of those that `name` has.
    fn set(&mut self, name: &str, values: Values) -> std::result::Result<(), HeaderError> {
        let name = name_of(name)?;
        if !values.iter().all(|value| is_field_value(value)) {
            return Err(HeaderError::InvalidSyntax);
        }
        let old = self.get(&name);
        let rest = self.len.saturating_sub(len_of(&name, &old));
        let len = rest.saturating_add(len_of(&name, &values));
        fits(self.list.len().saturating_sub(old.len()).saturating_add(values.len()), len)?;
        self.list.retain(|(own, _)| *own != name);
        self.list.extend(values.into_iter().map(|value| (name.clone(), value)));
        self.len = len;
        Ok(())
    }

    fn get(&self, name: &str) -> Values {
        let named = self.list.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone()).collect()
    }

    /// Does `change` if these fields can still be changed.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> std::result::Result<T, HeaderError>,
    ) -> std::result::Result<T, HeaderError> {
        if self.is_fixed {
            return Err(HeaderError::Immutable);
        }
        change(self)
    }

    fn remove(&mut self, name: &str) -> std::result::Result<Values, HeaderError> {
        let name = name_of(name)?;
        let values = self.get(&name);
        self.len = self.len.saturating_sub(len_of(&name, &values));
        self.list.retain(|(own, _)| *own != name);
        Ok(values)
    }
}

fn define_fields(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[constructor]fields", Local, |h, (): ()| make::<Fields>(h, Part::Fields(Entries::default())))?;
    i.func("[static]fields.from-list", Local, |h, (list,): (Vec<Entry>,)| -> Header<F> {
        let mut entries = Entries::default();
        let added = list.into_iter().try_for_each(|(name, value)| entries.add(&name, value));
        Ok(match added {
            Ok(()) => Ok(make(h, Part::Fields(entries))?),
            Err(error) => Err(error),
        })
    })?;
    i.func("[method]fields.get", Local, |h, (f, name): (F, String)| Ok(fields(h, &f)?.get(&name)))?;
    i.func("[method]fields.has", Local, |h, (f, name): (F, String)| {
        Ok(!fields(h, &f)?.get(&name).is_empty())
    })?;
    i.func("[method]fields.set", Local, |h, (f, name, values): (F, String, Values)| -> Header<()> {
        Ok(fields(h, &f)?.change(|entries| entries.set(&name, values)))
    })?;
    i.func("[method]fields.delete", Local, |h, (f, name): (F, String)| -> Header<()> {
        Ok(fields(h, &f)?.change(|entries| entries.remove(&name).map(drop)))
    })?;
    i.func("[method]fields.get-and-delete", Local, |h, (f, name): (F, String)| -> Header<Values> {
        Ok(fields(h, &f)?.change(|entries| entries.remove(&name)))
    })?;
    i.func("[method]fields.append", Local, |h, (f, name, value): (F, String, Vec<u8>)| -> Header<()> {
        Ok(fields(h, &f)?.change(|entries| entries.add(&name, value)))
    })?;
    i.func("[method]fields.copy-all", Local, |h, (f,): (F,)| Ok(fields(h, &f)?.list.clone()))?;
    i.func("[method]fields.clone", Local, |h, (f,): (F,)| -> Result<F> {
        let list = fields(h, &f)?.list.clone();
        make(h, Part::Fields(Entries::of(list, false)))
    })
}

pub(super) fn take_fields(host: &mut Host, headers: &F) -> Result<Vec<Entry>> {
    match take(host, headers)? {
        Part::Fields(entries) => Ok(entries.list),
        _ => Err(wrong_kind()),
    }
}

pub(super) fn fixed_fields(host: &mut Host, list: Vec<Entry>) -> Result<F> {
    make(host, Part::Fields(Entries::of(list, true)))
}

// --- requests ---

/// The arguments of `request.new`, and of `response.new` without the options.
type NewRequest = (F, Option<StreamReader<u8>>, FutureReader<Trailers>, Option<Opt>);
type NewResponse = (F, Option<StreamReader<u8>>, FutureReader<Trailers>);

fn define_request(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.streams(
        "[static]request.new",
        Local,
        |(headers, contents, trailers, options): NewRequest| ((headers, options), (contents, trailers)),
        |h, (headers, options): (F, Option<Opt>)| new_request(h, &headers, options.as_ref()),
        message,
    )?;
    i.streams(
        "[static]request.consume-body",
        Local,
        |(this, done): (Req, FutureReader<Done<HttpError>>)| ((this,), done),
        |h, (this,): (Req,)| take(h, &this).map(|_| this.rep()),
        take_apart,
    )?;
    i.func("[method]request.get-method", Local, |h, (r,): (Req,)| Ok(head(h, &r)?.method.clone()))?;
    i.func("[method]request.set-method", Local, |h, (r, method): (Req, Method)| -> Taken {
        Ok(method
            .checked()
            .map(|method| (head(h, &r)).map(|head| head.method = method))
            .transpose()?
            .ok_or(()))
    })?;
    i.func("[method]request.get-scheme", Local, |h, (r,): (Req,)| Ok(head(h, &r)?.scheme.clone()))?;
    i.func("[method]request.set-scheme", Local, |h, (r, scheme): (Req, Option<Scheme>)| {
        set(&mut head(h, &r)?.scheme, scheme, Scheme::checked)
    })?;
    i.func("[method]request.get-path-with-query", Local, |h, (r,): (Req,)| Ok(head(h, &r)?.path.clone()))?;
    i.func("[method]request.set-path-with-query", Local, |h, (r, path): (Req, Option<String>)| {
        // No path at all means the root.
        let whole = |path: String| if path.is_empty() { "/".to_owned() } else { path };
        set(&mut head(h, &r)?.path, path, |path| is_path(&path).then(|| whole(path)))
    })?;
    i.func("[method]request.get-authority", Local, |h, (r,): (Req,)| Ok(head(h, &r)?.authority.clone()))?;
    i.func("[method]request.set-authority", Local, |h, (r, authority): (Req, Option<String>)| {
        set(&mut head(h, &r)?.authority, authority, |text| is_authority(&text).then_some(text))
    })?;
    i.func("[method]request.get-options", Local, |h, (r,): (Req,)| -> Result<Option<Opt>> {
        let options = head(h, &r)?.options;
        options.map(|t| make(h, Part::Options(Timeouts { is_fixed: true, ..t }))).transpose()
    })?;
    i.func("[method]request.get-headers", Local, |h, (r,): (Req,)| -> Result<F> {
        let headers = head(h, &r)?.headers.clone();
        fixed_fields(h, headers)
    })
}

/// Sets a field that may be absent to what `check` makes of it, if that is well formed.
fn set<T>(field: &mut Option<T>, value: Option<T>, check: impl FnOnce(T) -> Option<T>) -> Taken {
    let checked = match value {
        None => None,
        Some(value) => match check(value) {
            None => return Ok(Err(())),
            checked => checked,
        },
    };
    *field = checked;
    Ok(Ok(()))
}

fn new_request(host: &mut Host, headers: &F, options: Option<&Opt>) -> Result<Req> {
    let headers = take_fields(host, headers)?;
    let options = match options.map(|options| take(host, options)).transpose()? {
        None => None,
        Some(Part::Options(timeouts)) => Some(timeouts),
        Some(_) => return Err(wrong_kind()),
    };
    let (scheme, authority, path) = (None, None, None);
    make(host, Part::Request(Head { method: Method::Get, scheme, authority, path, headers, options }))
}

// --- options ---

fn define_options(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[constructor]request-options", Local, |h, (): ()| {
        make::<RequestOptions>(h, Part::Options(Timeouts::default()))
    })?;
    i.func("[method]request-options.clone", Local, |h, (o,): (Opt,)| -> Result<Opt> {
        let timeouts = *timeouts(h, &o)?;
        make(h, Part::Options(Timeouts { is_fixed: false, ..timeouts }))
    })?;
    for (number, name) in ["connect", "first-byte", "between-bytes"].into_iter().enumerate() {
        i.func(&format!("[method]request-options.get-{name}-timeout"), Local, move |h, (o,): (Opt,)| {
            Ok(timeouts(h, &o)?.ns.get(number).copied().flatten())
        })?;
        i.func(
            &format!("[method]request-options.set-{name}-timeout"),
            Local,
            move |h, (o, ns): (Opt, Option<u64>)| {
                let timeouts = timeouts(h, &o)?;
                if timeouts.is_fixed {
                    return Ok(Err(OptionsError::Immutable));
                }
                timeouts.ns.get_mut(number).into_iter().for_each(|slot| *slot = ns);
                Ok(Ok(()))
            },
        )?;
    }
    Ok(())
}

// --- responses ---

fn define_response(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.streams(
        "[static]response.new",
        Local,
        |(headers, contents, trailers): NewResponse| ((headers,), (contents, trailers)),
        |h, (headers,): (F,)| {
            let headers = take_fields(h, &headers)?;
            make::<Response>(h, Part::Response { status: 200, headers })
        },
        message,
    )?;
    i.streams(
        "[static]response.consume-body",
        Local,
        |(this, done): (Res, FutureReader<Done<HttpError>>)| ((this,), done),
        |h, (this,): (Res,)| take(h, &this).map(|_| this.rep()),
        take_apart,
    )?;
    i.func("[method]response.get-status-code", Local, |h, (r,): (Res,)| Ok(*response(h, &r)?.0))?;
    i.func("[method]response.set-status-code", Local, |h, (r, code): (Res, u16)| -> Taken {
        if !(100..600).contains(&code) {
            return Ok(Err(()));
        }
        *response(h, &r)?.0 = code;
        Ok(Ok(()))
    })?;
    i.func("[method]response.get-headers", Local, |h, (r,): (Res,)| -> Result<F> {
        let headers = response(h, &r)?.1.clone();
        fixed_fields(h, headers)
    })
}

// --- bodies ---

/// Keeps the body of a new message, and gives the future of its being sent.
fn message<R: 'static>(
    store: &mut StoreContextMut<'_, State>,
    message: Resource<R>,
    (contents, trailers): Streams,
) -> wasmtime::Result<(Resource<R>, FutureReader<Done<HttpError>>)> {
    let sent = End::default();
    let body = Body { contents, trailers, sent: sent.clone() };
    store.data_mut().bodies.0.insert(message.rep(), body);
    Ok((message, FutureReader::new(store.as_context_mut(), sent)?))
}

/// Gives the body of a message back. What its taker says in `done` is what its maker learns of it.
fn take_apart(
    store: &mut StoreContextMut<'_, State>,
    message: u32,
    mut done: FutureReader<Done<HttpError>>,
) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers>)> {
    let Some(body) = store.data_mut().bodies.0.remove(&message) else {
        done.close(store.as_context_mut())?;
        return Err(wasmtime::Error::new(wrong_kind()));
    };
    done.pipe(store.as_context_mut(), Told(body.sent))?;
    let contents = match body.contents {
        Some(contents) => contents,
        None => StreamReader::new(store.as_context_mut(), std::iter::empty())?,
    };
    Ok((contents, body.trailers))
}

/// Gives a message of the host's own the body behind a handle, and its trailers.
pub(super) fn open_body(
    store: &mut StoreContextMut<'_, State>,
    reading: &Reading<u8, HttpError>,
    message: u32,
    body: u32,
    trailers: Option<u32>,
) -> wasmtime::Result<()> {
    let contents = Some(reading.stream(store, body, &End::default())?);
    // If nobody reads them, their handle goes with the future.
    let mut trailers = trailers.map(|rep| Unnamed::new(rep, &store.data().host.ended));
    let named = async move {
        let rep = trailers.as_mut().and_then(Unnamed::name);
        wasmtime::error::Ok(Trailers::Ok(rep.map(Resource::new_own)))
    };
    let trailers = FutureReader::new(store.as_context_mut(), named)?;
    store.data_mut().bodies.0.insert(message, Body { contents, trailers, sent: End::default() });
    Ok(())
}

/// Nobody will read the body of a message; what its maker learns of that.
pub(super) fn close_with(
    store: &mut StoreContextMut<'_, State>,
    message: u32,
    learned: Done<HttpError>,
) -> wasmtime::Result<()> {
    let Some(mut body) = store.data_mut().bodies.0.remove(&message) else { return Ok(()) };
    body.sent.come(learned);
    if let Some(contents) = &mut body.contents {
        contents.close(store.as_context_mut())?;
    }
    body.trailers.close(store.as_context_mut())
}

fn close(store: &mut StoreContextMut<'_, State>, message: u32) -> wasmtime::Result<()> {
    close_with(store, message, Ok(()))
}

/// Tells the maker of a message what its taker said, or that it said nothing.
struct Told(End<HttpError>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.come(Ok(()));
    }
}

impl FutureConsumer<State> for Told {
    type Item = Done<HttpError>;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        mut from: Source<'_, Done<HttpError>>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut said = None;
        Poll::Ready(from.read(store, &mut said).map(|()| {
            if let Some(said) = said {
                self.0.come(said);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_a_limit_of_number_and_of_bytes() {
        let mut entries = Entries::default();
        for _ in 0..HTTP_FIELDS_MAX {
            entries.add("a", Vec::new()).unwrap();
        }
        assert_eq!(entries.add("a", Vec::new()), Err(HeaderError::SizeExceeded));
        assert_eq!(entries.set("b", vec![Vec::new()]), Err(HeaderError::SizeExceeded));
        assert_eq!(entries.list.len(), HTTP_FIELDS_MAX);
        entries.set("A", vec![b"1".to_vec(); 3]).unwrap();
        assert_eq!((entries.list.len(), entries.len), (3, 6));
        assert_eq!(entries.add("b", vec![b'x'; FIELDS_MAX_BYTES]), Err(HeaderError::SizeExceeded));
        entries.add("b", vec![b'x'; FIELDS_MAX_BYTES - 7]).unwrap();
        assert_eq!(entries.add("c", Vec::new()), Err(HeaderError::SizeExceeded));
        assert_eq!(entries.remove("a").unwrap().len(), 3);
        entries.add("c", Vec::new()).unwrap();
        assert_eq!(entries.len, Entries::of(entries.list.clone(), false).len);
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let mut entries = Entries::default();
        entries.add("a", b"1".to_vec()).unwrap();
        let bad = entries.change(|entries| entries.set("a", vec![b"2".to_vec(), b"\n".to_vec()]));
        assert_eq!(bad, Err(HeaderError::InvalidSyntax));
        assert_eq!((entries.get("a"), entries.len), (vec![b"1".to_vec()], 2));
        entries.is_fixed = true;
        let fixed = entries.change(|entries| entries.add("b", Vec::new()));
        assert_eq!(fixed, Err(HeaderError::Immutable));
    }
}

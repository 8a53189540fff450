//! The HTTP client behind `http:` grants.
//!
//! It follows no redirect, uses no proxy of the environment, keeps no connection and no cookie, adds no header
//! of its own but those of the connection, and connects only to addresses that it was told may be reached: the
//! name is resolved once, and what was checked is what is connected to.

use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};

use ureq::http::Request;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error, Timeout};
use vac_host::http::{Http, HttpFailure, HttpRequest, HttpResponse, MayConnect};

/// Bytes of headers that a response may have.
const HEADERS_MAX_BYTES: usize = 64 << 10;

/// Sends requests for guests.
pub(crate) struct Client;

impl Http for Client {
    fn send(&self, request: HttpRequest, may_connect: MayConnect) -> Result<HttpResponse, HttpFailure> {
        let resolver = Checked { may_connect };
        let max = request.body_max_bytes;
        let sent = exchange(request, resolver);
        match sent {
            Ok(response) => receive(response, max),
            Err(error) => Err(failure(&error)),
        }
    }
}

fn exchange(request: HttpRequest, resolver: Checked) -> Result<ureq::http::Response<ureq::Body>, Error> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .max_response_header_size(HEADERS_MAX_BYTES)
        .max_idle_connections(0)
        .allow_non_standard_methods(true)
        .timeout_connect(request.connect_timeout)
        .timeout_recv_response(request.response_timeout)
        .build();
    let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
    let scheme = if request.is_https { "https" } else { "http" };
    let host = if request.host.contains(':') { format!("[{}]", request.host) } else { request.host };
    let uri = format!("{scheme}://{host}:{}{}", request.port, request.path);
    let mut head = Request::builder().method(request.method.as_str()).uri(uri);
    // The length is that of the body as it is sent, with secrets in it.
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "content-length") {
        head = head.header(name.as_str(), value.as_slice());
    }
    match request.body {
        Some(body) => agent.run(head.body(body)?),
        None => agent.run(head.body(())?),
    }
}

fn receive(response: ureq::http::Response<ureq::Body>, max: u64) -> Result<HttpResponse, HttpFailure> {
    let (head, mut body) = response.into_parts();
    let headers =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let mut bytes = Vec::new();
    let mut reader = body.as_reader().take(max.saturating_add(1));
    reader.read_to_end(&mut bytes).map_err(|e| failure(&Error::from(e)))?;
    if bytes.len() as u64 > max {
        return Err(HttpFailure::BodyTooLarge);
    }
    Ok(HttpResponse { status: head.status.as_u16(), headers: headers.collect(), body: bytes })
}

/// What of an error the guest hears: no text of it.
fn failure(error: &Error) -> HttpFailure {
    match error {
        Error::HostNotFound => HttpFailure::Dns,
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => HttpFailure::ConnectTimeout,
        Error::Timeout(_) => HttpFailure::ResponseTimeout,
        Error::BodyExceedsLimit(_) => HttpFailure::BodyTooLarge,
        Error::Tls(_) | Error::Pem(_) => HttpFailure::Tls,
        Error::Rustls(rustls::Error::InvalidCertificate(_)) => HttpFailure::Certificate,
        Error::Rustls(_) => HttpFailure::Tls,
        Error::Protocol(_) | Error::Http(_) => HttpFailure::Protocol,
        Error::ConnectionFailed => HttpFailure::Refused,
        Error::Io(e) => of_io(e),
        _ => HttpFailure::Other,
    }
}

fn of_io(error: &std::io::Error) -> HttpFailure {
    if let Some(Prohibited(ip)) = error.get_ref().and_then(|e| e.downcast_ref()) {
        return HttpFailure::Prohibited(*ip);
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => HttpFailure::Refused,
        std::io::ErrorKind::TimedOut => HttpFailure::ConnectTimeout,
        std::io::ErrorKind::InvalidData => HttpFailure::Tls,
        _ => HttpFailure::Terminated,
    }
}

/// Every address of the name is one that may not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the address may not be reached")]
struct Prohibited(std::net::IpAddr);

/// Resolves names, and gives the addresses that may be reached.
struct Checked {
    may_connect: MayConnect,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checked")
    }
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let found: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map_err(|_| Error::HostNotFound)?.collect();
        let mut open = self.empty();
        // As many as fit.
        for at in found.iter().filter(|at| (self.may_connect)(at.ip())).take(8) {
            open.push(*at);
        }
        match found.first() {
            _ if !open.is_empty() => Ok(open),
            Some(at) => Err(Error::Io(std::io::Error::other(Prohibited(at.ip())))),
            None => Err(Error::HostNotFound),
        }
    }
}

//! The HTTP client behind `http:` grants.
//!
//! It follows no redirect, uses no proxy of the environment, keeps no connection and no cookie, adds no header
//! of its own but those of the connection, and connects only to addresses that it was told may be reached: the
//! name is resolved once, and what was checked is what is connected to.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use vac_host::http::{Http, HttpFailure, HttpRequest, HttpResponse, MayConnect};

use crate::h1::{self, Framing, Message, ResponseHead, Wrong};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Responses before the one that counts (RFC 9110, 15.2).
const INTERIM_MAX: usize = 8;

/// Sends requests for guests.
pub(crate) struct Client;

impl Http for Client {
    fn send(&self, request: HttpRequest, may_connect: MayConnect) -> Result<HttpResponse, HttpFailure> {
        if !is_well_formed(&request) {
            return Err(HttpFailure::Protocol);
        }
        let stream = connect(&request, &may_connect)?;
        let read_timeout = |limit: Option<Duration>| {
            stream.set_read_timeout(limit.map(at_least)).map_err(|_| HttpFailure::Other)
        };
        read_timeout(request.response_timeout)?;
        // Who does not read holds nobody longer than who does not answer.
        stream.set_write_timeout(request.response_timeout.map(at_least)).map_err(|_| HttpFailure::Other)?;
        let tcp = stream.try_clone().map_err(|_| HttpFailure::Other)?;
        let mut wire = match request.is_https {
            true => Wire::Tls(Box::new(secure(tcp, &request.host)?)),
            false => Wire::Plain(tcp),
        };
        // A server may answer before it has read all, and close: its answer counts.
        let written = h1::write(&mut wire, &message(&request));
        let mut from = BufReader::new(wire);
        let head = match (written, head(&mut from)) {
            (_, Ok(head)) => head,
            (Err(error), Err(_)) => return Err(of_io(&error)),
            (Ok(()), Err(wrong)) => return Err(failure(&wrong)),
        };
        read_timeout(request.between_bytes_timeout)?;
        let framing = match (request.method.as_str(), head.status) {
            ("HEAD", _) | (_, 204 | 304) => Framing::Length(0),
            _ => h1::framing(&head.headers, Framing::Connection).map_err(|wrong| failure(&wrong))?,
        };
        let body = h1::read_body(&mut from, framing, request.body_max_bytes);
        let (body, trailers) = body.map_err(|wrong| match failure(&wrong) {
            HttpFailure::ResponseTimeout => HttpFailure::ReadTimeout,
            other => other,
        })?;
        Ok(HttpResponse { status: head.status, headers: head.headers, body, trailers })
    }
}

/// Whether a request can be written as it is. The host checked its parts when the guest set them, but a secret
/// may have been put in since.
fn is_well_formed(request: &HttpRequest) -> bool {
    request.path.bytes().all(|b| b > b' ' && b != 0x7f)
        && h1::are_lines(&request.headers)
        && h1::are_lines(request.trailers.as_deref().unwrap_or_default())
}

/// A wait that the operating system takes as one: none at all would mean no limit.
fn at_least(limit: Duration) -> Duration {
    limit.max(Duration::from_nanos(1))
}

/// The head of the response that counts.
fn head(from: &mut impl io::BufRead) -> Result<ResponseHead, Wrong> {
    for _ in 0..INTERIM_MAX {
        let head = h1::read_response(from)?;
        match head.status {
            // Nobody asked for another protocol.
            101 => return Err(Wrong::Protocol),
            100..200 => {}
            _ => return Ok(head),
        }
    }
    Err(Wrong::Protocol)
}

fn message(request: &HttpRequest) -> Message<'_> {
    let host = if request.host.contains(':') { format!("[{}]", request.host) } else { request.host.clone() };
    let is_default = request.port == if request.is_https { 443 } else { 80 };
    let port = if is_default { String::new() } else { format!(":{}", request.port) };
    let start = format!("{} {} HTTP/1.1\r\nhost: {host}{port}\r\n", request.method, request.path);
    let expects_body = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    let body = request.body.as_deref().or(expects_body.then_some(&[]));
    Message { start, headers: &request.headers, body, trailers: request.trailers.as_deref(), is_head: false }
}

/// A connection to the first address of the host that may be reached and that answers.
fn connect(request: &HttpRequest, may_connect: &MayConnect) -> Result<TcpStream, HttpFailure> {
    let found = (request.host.as_str(), request.port).to_socket_addrs().map_err(|_| HttpFailure::Dns)?;
    let found: Vec<SocketAddr> = found.collect();
    let open: Vec<_> = found.iter().filter(|at| may_connect(at.ip())).take(ADDRESSES_MAX).collect();
    // All of them together have the time of one.
    let limit = request.connect_timeout.map(|limit| limit / (open.len().max(1) as u32));
    let mut failed = match found.first() {
        Some(at) => HttpFailure::Prohibited(at.ip()),
        None => HttpFailure::Dns,
    };
    for at in open {
        let connected = match limit {
            Some(limit) => TcpStream::connect_timeout(at, at_least(limit)),
            None => TcpStream::connect(at),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => failed = HttpFailure::ConnectTimeout,
            Err(_) => failed = HttpFailure::Refused,
        }
    }
    Err(failed)
}

/// How TLS is set up: by the certificates that this machine trusts, or that `SSL_CERT_FILE` and `SSL_CERT_DIR` name; by
/// those that Mozilla does, if there are none.
fn tls() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let make = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        // Whoever names some trusts no others, also if these cannot be read.
        let is_named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
        if roots.is_empty() && !is_named {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Some(Arc::new(config.ok()?.with_root_certificates(roots).with_no_client_auth()))
    };
    CONFIG.get_or_init(make).clone()
}

fn secure(tcp: TcpStream, host: &str) -> Result<StreamOwned<ClientConnection, TcpStream>, HttpFailure> {
    let config = tls().ok_or(HttpFailure::Tls)?;
    let name = match host.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| HttpFailure::Tls)?,
    };
    let connection = ClientConnection::new(config, name).map_err(|_| HttpFailure::Tls)?;
    let mut stream = StreamOwned::new(connection, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| of_io(&error))?;
    }
    Ok(stream)
}

/// A connection, in the clear or not.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(to),
            Self::Tls(stream) => stream.read(to),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What of an error the guest hears: no text of it.
fn failure(wrong: &Wrong) -> HttpFailure {
    match wrong {
        Wrong::Io(error) => of_io(error),
        Wrong::Protocol | Wrong::HeadTooLarge => HttpFailure::Protocol,
        Wrong::BodyTooLarge => HttpFailure::BodyTooLarge,
    }
}

fn of_io(error: &io::Error) -> HttpFailure {
    if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return match tls {
            rustls::Error::InvalidCertificate(_) => HttpFailure::Certificate,
            _ => HttpFailure::Tls,
        };
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HttpFailure::ResponseTimeout,
        io::ErrorKind::InvalidData => HttpFailure::Tls,
        _ => HttpFailure::Terminated,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    fn request(port: u16) -> HttpRequest {
        HttpRequest {
            method: "GET".into(),
            is_https: false,
            host: "127.0.0.1".into(),
            port,
            path: "/".into(),
            headers: Vec::new(),
            body: None,
            trailers: None,
            connect_timeout: None,
            response_timeout: None,
            between_bytes_timeout: Some(Duration::from_millis(50)),
            body_max_bytes: 16,
        }
    }

    #[test]
    fn a_body_that_stops_coming_ends_by_the_timeout_between_bytes() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            h1::read_request(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbo").unwrap();
            // The connection stays open until the client has given up.
            let _ = wait.recv();
        });
        let answer = Client.send(request(port), Arc::new(|_| true));
        drop(done);
        served.join().unwrap();
        assert_eq!(answer, Err(HttpFailure::ReadTimeout));
    }

    #[test]
    fn a_header_that_is_no_line_fails_the_request_before_it_is_sent() {
        let headers = vec![("x-a".to_owned(), b"a\r\nx-forged: 1".to_vec())];
        let answer = Client.send(HttpRequest { headers, ..request(1) }, Arc::new(|_| false));
        assert_eq!(answer, Err(HttpFailure::Protocol));
    }
}

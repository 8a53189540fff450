//! Takes HTTP requests for a guest that answers them: `vac serve`.
//!
//! One connection carries one request, and one is served at a time; others wait in the queue of the system. A
//! request that is not HTTP, too long, or too slow is answered here, and the guest never learns of it.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use vac_core::fault::{AbortKind, HostAbort, Result};
use vac_host::Watch;
use vac_host::http::{Header, HttpResponse, Serve, Served};

use crate::h1::{self, Framing, Message, OF_CONNECTION, Wrong};

/// The longest body of a request.
const BODY_MAX_BYTES: u64 = 64 << 20;
/// How long one look for a request lasts before the watch is asked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Looks after which a request that is not whole is given up: 10 seconds.
const LOOKS_MAX: u32 = 500;
/// A part of a reply that one wait may take.
const PART_BYTES: usize = 16 << 10;
/// How long a peer may take for the next bytes.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Listens, and takes one request after the other.
pub(crate) struct Listener {
    listener: TcpListener,
    watch: Arc<dyn Watch>,
    /// Whoever waits for a reply, and whether it wants no body.
    waiting: Option<(TcpStream, bool)>,
}

/// What came of reading a request.
type Read = std::result::Result<(Served, bool), Wrong>;

impl Listener {
    /// Listens on `at`; the address that it got.
    pub(crate) fn bind(at: SocketAddr, watch: Arc<dyn Watch>) -> Result<(Self, SocketAddr)> {
        let failed = |e: io::Error| HostAbort::io("listen on", at, &e);
        let listener = TcpListener::bind(at).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok((Self { listener, watch, waiting: None }, bound))
    }

    /// Whether to stop: between two requests an interrupt is how a service ends in order.
    fn is_over(&self) -> Result<bool> {
        match self.watch.stop() {
            None => Ok(false),
            Some(abort) if abort.kind == AbortKind::Interrupt => Ok(true),
            Some(abort) => Err(abort.into()),
        }
    }

    fn accept(&self) -> Result<Option<TcpStream>> {
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
        while !self.is_over()? {
            // Whatever is wrong with it, the next call says so.
            let _ = rustix::event::poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&look));
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                // The connection's own trouble, or too many files: the next one may do better.
                Err(e) if !is_lasting(&e) => {}
                Err(e) => return Err(HostAbort::io("accept", "a connection", &e).into()),
            }
        }
        Ok(None)
    }

    /// Reads a request on another thread, so that nobody's silence keeps this one from stopping.
    fn read(&self, stream: &TcpStream) -> Result<Option<Read>> {
        let Ok(theirs) = stream.try_clone() else { return Ok(None) };
        let local = self.listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
        let (done, read) = mpsc::channel();
        let reads = move || drop(done.send(read_request(&theirs, local)));
        if std::thread::Builder::new().spawn(reads).is_err() {
            return Ok(None);
        }
        for _ in 0..LOOKS_MAX {
            match read.recv_timeout(LOOK_EVERY) {
                Ok(read) => return Ok(Some(read)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if self.is_over()? {
                break;
            }
        }
        // This ends the thread as well.
        let _ = stream.shutdown(Shutdown::Both);
        Ok(None)
    }
}

impl Listener {
    /// Writes a reply, and says that no more comes. Whether the peer was there and took it in time: who takes it
    /// a little at a time holds up nobody for longer than who says nothing.
    fn send(&self, stream: &TcpStream, mut bytes: &[u8]) -> bool {
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
        // However slowly it is taken, there is an end: a wait for each part, and those of a silence.
        let (mut looks, looks_max) = (0, LOOKS_MAX as usize + bytes.len() / PART_BYTES);
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        while !bytes.is_empty() {
            match (&mut &*stream).write(bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let _ = rustix::event::poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&look));
                    looks += 1;
                }
                Err(_) => return false,
            }
            if looks > looks_max || self.watch.stop().is_some() {
                let _ = stream.shutdown(Shutdown::Both);
                return false;
            }
        }
        stream.shutdown(Shutdown::Write).is_ok()
    }

    fn refuse(&self, stream: &TcpStream, wrong: &Wrong) {
        let status = match wrong {
            // Nobody is there to be told.
            Wrong::Io(_) => return,
            Wrong::Protocol => 400,
            Wrong::HeadTooLarge => 431,
            Wrong::BodyTooLarge => 413,
        };
        let start = format!("HTTP/1.1 {status} \r\n");
        let message = Message { start, headers: &[], body: Some(&[]), trailers: None, is_head: false };
        let mut bytes = Vec::new();
        if h1::write(&mut bytes, &message).is_ok() {
            self.send(stream, &bytes);
        }
    }
}

/// Whether the socket that listens is no good any more.
fn is_lasting(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)
    )
}

impl Serve for Listener {
    fn next(&mut self) -> Result<Option<Served>> {
        while let Some(stream) = self.accept()? {
            match self.read(&stream)? {
                Some(Ok((served, is_head))) => {
                    self.waiting = Some((stream, is_head));
                    return Ok(Some(served));
                }
                Some(Err(wrong)) => self.refuse(&stream, &wrong),
                None => {}
            }
        }
        Ok(None)
    }

    fn reply(&mut self, response: HttpResponse) -> bool {
        let Some((stream, is_head)) = self.waiting.take() else { return false };
        let HttpResponse { status, headers, body, trailers } = match is_as_long_as_it_says(&response, is_head)
        {
            true => response,
            false => HttpResponse { status: 500, headers: Vec::new(), body: Vec::new(), trailers: None },
        };
        let has_body = !matches!(status, 204 | 304);
        let mut start = format!("HTTP/1.1 {status} \r\n");
        // Of a body that is not sent the guest knows the length, if anybody does.
        let named = h1::values(&headers, "content-length").next().filter(|_| is_head && has_body);
        if let Some(len) = named {
            start += &format!("content-length: {}\r\n", String::from_utf8_lossy(len));
        }
        let message = Message {
            start,
            headers: &headers,
            body: (has_body && named.is_none()).then_some(&body),
            trailers: trailers.as_deref().filter(|_| has_body && !is_head),
            is_head,
        };
        let mut bytes = Vec::new();
        h1::write(&mut bytes, &message).is_ok() && self.send(&stream, &bytes)
    }
}

/// Whether the lengths that a response names are one, and that of its body if it is sent.
fn is_as_long_as_it_says(response: &HttpResponse, is_head: bool) -> bool {
    let mut named = h1::values(&response.headers, "content-length");
    let Some(len) = named.next() else { return true };
    let is_number = !len.is_empty() && len.len() < 20 && len.iter().all(u8::is_ascii_digit);
    // Of a body that is not there, it says how long it would be.
    let is_of_other = response.body.is_empty() && (is_head || response.status == 304);
    let is_own = len == response.body.len().to_string().as_bytes();
    is_number && (is_own || is_of_other) && named.all(|other| other == len)
}

fn read_request(stream: &TcpStream, local: String) -> Read {
    // On some systems a connection has this from the socket that listens.
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PAUSE_MAX))?;
    let mut from = BufReader::new(stream);
    let head = h1::read_request(&mut from)?;
    let framing = h1::framing(&head.headers, Framing::Length(0))?;
    let (absolute, path) = split_target(&head.target).ok_or(Wrong::Protocol)?;
    let authority = match (authority(&head.headers, local)?, absolute) {
        // It counts, whatever the field `host` says (RFC 9112, 3.2.2).
        (_, Some(absolute)) => absolute.to_owned(),
        (named, None) => named,
    };
    if h1::values(&head.headers, "expect").any(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        io::Write::write_all(&mut &*stream, b"HTTP/1.1 100 \r\n\r\n")?;
    }
    let (body, trailers) = h1::read_body(&mut from, framing, BODY_MAX_BYTES)?;
    let is_head = head.method == "HEAD";
    let own = |(name, _): &Header| !OF_CONNECTION.contains(&name.as_str()) || name == "content-length";
    let headers = head.headers.into_iter().filter(own).collect();
    let (method, path) = (head.method, path);
    Ok((Served { method, authority, path, headers, body, trailers }, is_head))
}

/// The authority, if it is there, and the path of a request's target: `/PATH`, or `http://AUTHORITY/PATH` (RFC 9112, 3.2).
fn split_target(target: &str) -> Option<(Option<&str>, String)> {
    const SCHEME: &str = "http://";
    if target.starts_with('/') {
        return Some((None, target.to_owned()));
    }
    let (scheme, rest) = target.split_at_checked(SCHEME.len())?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let is_one = scheme.eq_ignore_ascii_case(SCHEME) && is_host_and_port(authority) && !path.contains('#');
    is_one.then(|| (Some(authority), format!("{slash}{path}")))
}

/// `HOST` or `HOST:PORT`, without a user (RFC 9110, 4.2.4).
fn is_host_and_port(authority: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(&b);
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.is_empty() || port.contains(']') || port.parse::<u16>().is_ok();
    !authority.is_empty() && authority.bytes().all(is_plain) && is_port
}

/// The host that was asked; this one's address if the request does not say.
fn authority(headers: &[Header], local: String) -> std::result::Result<String, Wrong> {
    let mut hosts = h1::values(headers, "host");
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(local),
        (Some(host), None) => String::from_utf8(host.to_vec()).map_err(|_| Wrong::Protocol),
        (Some(_), Some(_)) => Err(Wrong::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_or_names_its_host() {
        for (target, authority, path) in [
            ("/a?b", None, "/a?b"),
            ("http://h/a", Some("h"), "/a"),
            ("HTTP://h:80", Some("h:80"), "/"),
            ("http://h?q", Some("h"), "/?q"),
            ("http://[::1]:80/", Some("[::1]:80"), "/"),
        ] {
            assert_eq!(split_target(target), Some((authority, path.to_owned())), "{target}");
        }
        for wrong in [
            "",
            "a",
            "*",
            "h:80",
            "http://",
            "http:///a",
            "https://h/",
            "ftp://h/a",
            "http://u@h/",
            "http://h:99999/",
            "http://h/#a",
        ] {
            assert_eq!(split_target(wrong), None, "{wrong}");
        }
    }
}

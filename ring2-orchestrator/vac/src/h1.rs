//! Messages of HTTP/1.1 (RFC 9112), for the client and the server: read whole and within bounds, written whole.
//!
//! What could be read in two ways is refused: a length that is given twice or beside another framing, an
//! encoding of the transfer that is not `chunked` alone.

use std::io::{self, BufRead, Read, Write};

use vac_host::http::Header;

/// Bytes of the head of a message, or of its trailers.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Fields of a head, or trailers.
const FIELDS_MAX: usize = 512;

/// Why a message could not be read.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// The connection failed or ended.
    Io(io::Error),
    /// It is not HTTP, or means two things.
    Protocol,
    /// The head is longer than allowed.
    HeadTooLarge,
    /// The body is longer than allowed.
    BodyTooLarge,
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<httparse::Error> for Wrong {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::HeadTooLarge,
            _ => Self::Protocol,
        }
    }
}

/// The head of a request.
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<Header>,
}

/// The head of a response.
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
}

/// A body, and the fields after it if there are any.
pub(crate) type Body = (Vec<u8>, Option<Vec<Header>>);

/// Where a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    Connection,
}

/// Reads lines until an empty one, which is the last of the bytes.
fn read_block(from: &mut impl BufRead) -> Result<Vec<u8>, Wrong> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let room = (HEAD_MAX_BYTES + 1).saturating_sub(before) as u64;
        let n = from.by_ref().take(room).read_until(b'\n', &mut bytes)?;
        if bytes.len() > HEAD_MAX_BYTES {
            return Err(Wrong::HeadTooLarge);
        }
        if n == 0 || !bytes.ends_with(b"\n") {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if matches!(bytes.get(before..), Some(b"\r\n" | b"\n")) {
            return Ok(bytes);
        }
    }
}

fn fields(parsed: &[httparse::Header<'_>]) -> Vec<Header> {
    parsed.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}

/// Reads the head of a request.
pub(crate) fn read_request(from: &mut impl BufRead) -> Result<RequestHead, Wrong> {
    let bytes = read_block(from)?;
    let mut room = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut room);
    if parsed.parse(&bytes)?.is_partial() {
        return Err(Wrong::Protocol);
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(Wrong::Protocol) };
    let headers = fields(parsed.headers);
    Ok(RequestHead { method: method.to_owned(), target: target.to_owned(), headers })
}

/// Reads the head of a response.
pub(crate) fn read_response(from: &mut impl BufRead) -> Result<ResponseHead, Wrong> {
    let bytes = read_block(from)?;
    let mut room = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut room);
    if parsed.parse(&bytes)?.is_partial() {
        return Err(Wrong::Protocol);
    }
    let status = parsed.code.ok_or(Wrong::Protocol)?;
    Ok(ResponseHead { status, headers: fields(parsed.headers) })
}

/// All values of a field.
pub(crate) fn values<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_slice())
}

/// Where the body of a message with these headers ends, `otherwise` if they do not say.
pub(crate) fn framing(headers: &[Header], otherwise: Framing) -> Result<Framing, Wrong> {
    let mut encodings = values(headers, "transfer-encoding");
    let mut lengths = values(headers, "content-length");
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(otherwise),
        (Some(encoding), None) if encoding.eq_ignore_ascii_case(b"chunked") && encodings.next().is_none() => {
            Ok(Framing::Chunked)
        }
        (None, Some(length)) if lengths.all(|other| other == length) => {
            number(length, 10).map(Framing::Length)
        }
        _ => Err(Wrong::Protocol),
    }
}

fn number(digits: &[u8], radix: u32) -> Result<u64, Wrong> {
    let is_number = !digits.is_empty() && digits.iter().all(|b| char::from(*b).is_digit(radix));
    let text = str::from_utf8(digits).ok().filter(|_| is_number);
    text.and_then(|text| u64::from_str_radix(text, radix).ok()).ok_or(Wrong::Protocol)
}

/// Reads a body of at most `max` bytes.
pub(crate) fn read_body(from: &mut impl BufRead, framing: Framing, max: u64) -> Result<Body, Wrong> {
    let mut bytes = Vec::new();
    match framing {
        Framing::Length(len) => {
            if len > max {
                return Err(Wrong::BodyTooLarge);
            }
            read_exactly(from, len, &mut bytes)?;
        }
        Framing::Connection => {
            from.by_ref().take(max.saturating_add(1)).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > max {
                return Err(Wrong::BodyTooLarge);
            }
        }
        Framing::Chunked => return read_chunks(from, max),
    }
    Ok((bytes, None))
}

fn read_exactly(from: &mut impl BufRead, len: u64, to: &mut Vec<u8>) -> Result<(), Wrong> {
    // Nothing of this size is allocated before it has come.
    let n = from.by_ref().take(len).read_to_end(to)?;
    match n as u64 == len {
        true => Ok(()),
        false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// The longest line that says how long a chunk is.
const CHUNK_LINE_MAX_BYTES: u64 = 256;

fn read_chunks(from: &mut impl BufRead, max: u64) -> Result<Body, Wrong> {
    let mut bytes = Vec::new();
    loop {
        let mut line = Vec::new();
        from.by_ref().take(CHUNK_LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or(Wrong::Protocol)?;
        let size = line.split(|b| *b == b';').next().unwrap_or_default();
        let len = number(size.trim_ascii_end(), 16)?;
        if len == 0 {
            return Ok((bytes, read_trailers(from)?));
        }
        if len > max.saturating_sub(bytes.len() as u64) {
            return Err(Wrong::BodyTooLarge);
        }
        read_exactly(from, len, &mut bytes)?;
        let mut end = [0; 2];
        from.read_exact(&mut end)?;
        if end != *b"\r\n" {
            return Err(Wrong::Protocol);
        }
    }
}

fn read_trailers(from: &mut impl BufRead) -> Result<Option<Vec<Header>>, Wrong> {
    let bytes = read_block(from)?;
    let mut room = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(&bytes, &mut room)? {
        httparse::Status::Complete((_, [])) => Ok(None),
        httparse::Status::Complete((_, parsed)) => Ok(Some(fields(parsed))),
        httparse::Status::Partial => Err(Wrong::Protocol),
    }
}

/// Fields that belong to the connection, and that are written here.
pub(crate) const OF_CONNECTION: [&str; 6] =
    ["connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"];

/// A message whose body is known.
pub(crate) struct Message<'a> {
    /// The first line, and lines of the connection, each with its end.
    pub(crate) start: String,
    pub(crate) headers: &'a [Header],
    /// `None` if none is written; the length is that of it.
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) trailers: Option<&'a [Header]>,
    /// Whether the body itself is left out: the answer to `HEAD`.
    pub(crate) is_head: bool,
}

/// Whether each of `headers` is one line. The host checked them when the guest set them, but a secret may have
/// been put in since; what is sent must be what is looked for in the response, so nothing is left out of it.
pub(crate) fn are_lines(headers: &[Header]) -> bool {
    let is_free = |bytes: &[u8]| !bytes.iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
    headers.iter().all(|(name, value)| is_free(name.as_bytes()) && is_free(value))
}

/// Writes a message. With trailers its body is one chunk. One with fields that are no lines is not begun.
pub(crate) fn write(to: &mut impl Write, message: &Message<'_>) -> io::Result<()> {
    if !are_lines(message.headers) || !are_lines(message.trailers.unwrap_or_default()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = message.start.clone().into_bytes();
    bytes.extend_from_slice(b"connection: close\r\n");
    let own = message.headers.iter().filter(|(name, _)| !OF_CONNECTION.contains(&name.as_str()));
    own.for_each(|field| put_field(&mut bytes, field));
    let body = message.body.unwrap_or_default();
    match (message.body, message.trailers) {
        (_, Some(_)) => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
        (Some(body), None) => {
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        }
        (None, None) => bytes.extend_from_slice(b"\r\n"),
    }
    to.write_all(&bytes)?;
    match message.trailers {
        _ if message.is_head => {}
        None => to.write_all(body)?,
        Some(trailers) => to.write_all(&chunked(body, trailers))?,
    }
    to.flush()
}

fn chunked(body: &[u8], trailers: &[Header]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 64);
    if !body.is_empty() {
        bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    trailers.iter().for_each(|field| put_field(&mut bytes, field));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn put_field(to: &mut Vec<u8>, (name, value): &Header) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Header {
        (name.into(), value.as_bytes().to_vec())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (headers, trailers) = ([field("x-a", "1"), field("host", "no")], [field("x-t", "2")]);
        let start = "POST /p HTTP/1.1\r\nhost: h\r\n".to_owned();
        let body: Option<&[u8]> = Some(b"body");
        for trailers in [None, Some(trailers.as_slice())] {
            let mut bytes = Vec::new();
            let message = Message { start: start.clone(), headers: &headers, body, trailers, is_head: false };
            write(&mut bytes, &message).unwrap();
            let mut from = bytes.as_slice();
            let head = read_request(&mut from).unwrap();
            assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/p"));
            assert_eq!(values(&head.headers, "host").collect::<Vec<_>>(), [b"h"]);
            let framing = framing(&head.headers, Framing::Length(0)).unwrap();
            let (read, after) = read_body(&mut from, framing, 4).unwrap();
            assert_eq!((read.as_slice(), after.as_deref()), (b"body".as_slice(), trailers));
            assert!(from.is_empty());
        }
    }

    #[test]
    fn a_field_that_is_no_line_is_not_written() {
        let start = || "GET / HTTP/1.1\r\nhost: h\r\n".to_owned();
        for bad in ["a\r\nx-forged: 1", "a\n", "\r", "a\0b"] {
            let fields = [field("x-a", bad)];
            let (bad, none): (&[Header], &[Header]) = (&fields, &[]);
            for (headers, trailers) in [(bad, None), (none, Some(bad))] {
                let mut bytes = Vec::new();
                let message = Message { start: start(), headers, body: None, trailers, is_head: false };
                let error = write(&mut bytes, &message).unwrap_err();
                assert_eq!((error.kind(), bytes.len()), (io::ErrorKind::InvalidInput, 0));
            }
        }
    }

    #[test]
    fn what_means_two_things_is_refused() {
        let of = |list: &[(&str, &str)]| {
            let headers: Vec<_> = list.iter().map(|(name, value)| field(name, value)).collect();
            framing(&headers, Framing::Connection)
        };
        assert_eq!(of(&[]).unwrap(), Framing::Connection);
        assert_eq!(of(&[("content-length", "4"), ("content-length", "4")]).unwrap(), Framing::Length(4));
        for bad in [
            [("content-length", "4"), ("content-length", "5")],
            [("content-length", "4"), ("transfer-encoding", "chunked")],
            [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            [("transfer-encoding", "gzip, chunked"), ("x", "y")],
            [("content-length", "+4"), ("x", "y")],
            [("content-length", ""), ("x", "y")],
        ] {
            assert!(matches!(of(&bad), Err(Wrong::Protocol)), "{bad:?}");
        }
    }

    #[test]
    fn a_body_is_bounded_and_must_be_whole() {
        let read = |bytes: &str, framing| read_body(&mut bytes.as_bytes(), framing, 8);
        assert_eq!(read("3;x=y\r\nabc\r\n0\r\n\r\n", Framing::Chunked).unwrap(), (b"abc".to_vec(), None));
        assert!(matches!(read("9\r\n", Framing::Chunked), Err(Wrong::BodyTooLarge)));
        assert!(matches!(read("fffffffffffffffff\r\n", Framing::Chunked), Err(Wrong::Protocol)));
        assert!(matches!(read("3\r\nabcd\r\n0\r\n\r\n", Framing::Chunked), Err(Wrong::Protocol)));
        assert!(matches!(read("3\r\nab", Framing::Chunked), Err(Wrong::Io(_))));
        assert!(matches!(read("abc", Framing::Length(4)), Err(Wrong::Io(_))));
        assert!(matches!(read("", Framing::Length(9)), Err(Wrong::BodyTooLarge)));
        assert!(matches!(read("123456789", Framing::Connection), Err(Wrong::BodyTooLarge)));
        let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEAD_MAX_BYTES));
        assert!(matches!(read_request(&mut long.as_bytes()), Err(Wrong::HeadTooLarge)));
        assert!(matches!(read_request(&mut b"GET / HTTP/1.1\r\n".as_slice()), Err(Wrong::Io(_))));
    }

    /// What comes from a peer is changed at every byte and cut at every length: read, or refused, within bounds.
    #[test]
    fn nothing_that_a_peer_sends_is_too_much() {
        let request = b"POST /p HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 2\r\n\r\n";
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-a: 1\r\n\r\nabc";
        let (mut read, mut refused) = (0, 0);
        let mut look = |bytes: &[u8]| {
            let mut from = bytes;
            let head = read_request(&mut from).map(|head| head.headers);
            let head = head.or_else(|_| {
                from = bytes;
                read_response(&mut from).map(|head| head.headers)
            });
            let body = head.and_then(|headers| framing(&headers, Framing::Connection)).and_then(|framing| {
                let (body, _) = read_body(&mut from, framing, 8)?;
                assert!(body.len() <= 8);
                Ok(())
            });
            *(if body.is_ok() { &mut read } else { &mut refused }) += 1;
        };
        for message in [&request[..], response] {
            for at in 0..message.len() {
                look(&message[..at]);
                for value in 0..=u8::MAX {
                    let mut changed = message.to_vec();
                    changed[at] = value;
                    look(&changed);
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
    }
}

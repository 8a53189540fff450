//! The one encoder and decoder of structures: RFC 8949 core deterministic CBOR, restricted so
//! that it is also DAG-CBOR.
//!
//! Allowed: integers from -2^64 to 2^64-1, byte strings, text, arrays, maps with text keys,
//! booleans, null, and tag 42 around a CID. Definite lengths and shortest heads only; keys are
//! strictly increasing, shorter first, then by bytes. No floats: a float is kept as its bits.
//!
//! Invariant: if [`decode`] accepts some bytes, then encoding what it returned gives the same
//! bytes. [`Reader`] refuses every head that is not the shortest, so nothing is encoded again to
//! check this; the tests do.

use ciborium_ll::{Decoder, Header};

use crate::cid::{CID_LEN, Cid};
use crate::fault::{Corrupt, quote};
use crate::limits::CANON_DEPTH_MAX;

/// CBOR tag of a link.
const TAG_LINK: u64 = 42;
/// A link's bytes begin with the multibase prefix of "raw binary".
const LINK_PREFIX: u8 = 0;

/// A value that has a canonical form.
pub trait Encode {
    /// Appends the canonical form.
    fn encode(&self, to: &mut Writer);

    /// Appends a list of such values. Bytes override it, to become a byte string.
    fn encode_list(items: &[Self], to: &mut Writer)
    where
        Self: Sized,
    {
        to.array(items.len());
        items.iter().for_each(|item| item.encode(to));
    }
}

/// A value that can be read from its canonical form.
pub trait Decode: Sized {
    /// Reads one value.
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt>;

    /// Reads a list of such values.
    fn decode_list(from: &mut Reader<'_>) -> Result<Vec<Self>, Corrupt> {
        from.nested(|r| {
            let len = r.array()?;
            // An item takes at least one byte, so a claimed length cannot reserve more.
            let mut items = Vec::with_capacity(len.min(r.left()));
            for _ in 0..len {
                items.push(Self::decode(r)?);
            }
            Ok(items)
        })
    }
}

/// The canonical form of `value`.
pub fn encode<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut writer = Writer::default();
    value.encode(&mut writer);
    writer.into_bytes()
}

/// Reads exactly one value from `bytes`. `place` says in errors where they are from.
pub fn decode<T: Decode>(bytes: &[u8], place: &str) -> Result<T, Corrupt> {
    let mut reader = Reader::new(bytes, place);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// The kinds of head, by their code.
#[derive(Clone, Copy)]
enum Kind {
    Positive = 0,
    Negative = 1,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
    Tag = 6,
    Simple = 7,
}

/// Appends canonical forms to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl From<Vec<u8>> for Writer {
    /// Appends to `out`.
    fn from(out: Vec<u8>) -> Self {
        Self { out }
    }
}

impl Writer {
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// The head of an item (RFC 8949, section 3): three bits of kind, and the argument in as few
    /// bytes as it fits.
    fn head(&mut self, kind: Kind, argument: u64) {
        let kind = (kind as u8) << 5;
        let [.., b4, b3, b2, b1] = argument.to_be_bytes();
        match argument {
            0..=23 => self.out.push(kind | b1),
            24..=0xff => self.out.extend_from_slice(&[kind | 24, b1]),
            0x100..=0xffff => self.out.extend_from_slice(&[kind | 25, b2, b1]),
            0x1_0000..=0xffff_ffff => self.out.extend_from_slice(&[kind | 26, b4, b3, b2, b1]),
            _ => {
                self.out.push(kind | 27);
                self.out.extend_from_slice(&argument.to_be_bytes());
            }
        }
    }

    /// What was written so far.
    pub fn bytes_so_far(&self) -> &[u8] {
        &self.out
    }

    /// What was written, to be taken: then another buffer must be put in its place.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Forgets what was written and keeps the buffer.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    /// A value that is in its canonical form already.
    pub fn form(&mut self, canonical: &[u8]) {
        self.out.extend_from_slice(canonical);
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.head(Kind::Positive, value);
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(positive) => self.head(Kind::Positive, positive),
            Err(_) => self.head(Kind::Negative, !value as u64),
        }
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.head(Kind::Simple, if value { 21 } else { 20 });
    }

    /// Null.
    pub fn null(&mut self) {
        self.head(Kind::Simple, 22);
    }

    /// A byte string.
    pub fn byte_string(&mut self, value: &[u8]) {
        self.byte_string_head(value.len());
        self.out.extend_from_slice(value);
    }

    /// The head of a byte string; its `len` bytes follow.
    pub fn byte_string_head(&mut self, len: usize) {
        self.head(Kind::Bytes, len as u64);
    }

    /// Text.
    pub fn text(&mut self, value: &str) {
        self.head(Kind::Text, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// The head of an array; its `len` items follow.
    pub fn array(&mut self, len: usize) {
        self.head(Kind::Array, len as u64);
    }

    /// A map. The entries may come in any order; a key that stands twice is a bug of the caller.
    pub fn map(&mut self, entries: &[(&str, &dyn Encode)]) {
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by_key(|(key, _)| (key.len(), *key));
        debug_assert!(sorted.windows(2).all(|w| w[0].0 != w[1].0), "a key stands twice");
        self.head(Kind::Map, sorted.len() as u64);
        for (key, value) in sorted {
            self.text(key);
            value.encode(self);
        }
    }

    /// A link.
    pub fn link(&mut self, cid: &Cid) {
        self.head(Kind::Tag, TAG_LINK);
        self.head(Kind::Bytes, 1 + CID_LEN as u64);
        self.out.push(LINK_PREFIX);
        self.out.extend_from_slice(&cid.to_bytes());
    }
}

/// Reads canonical forms, and refuses everything else.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    place: &'a str,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `place` says in errors where they are from.
    pub fn new(bytes: &'a [u8], place: &'a str) -> Self {
        Self { bytes, at: 0, depth: 0, place }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Checks that nothing is left.
    pub fn finish(&self) -> Result<(), Corrupt> {
        match self.left() {
            0 => Ok(()),
            n => Err(self.wrong("the end", format!("{n} more bytes"))),
        }
    }

    /// An error at the next byte.
    pub fn wrong(&self, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Corrupt {
        Corrupt::new("canonical CBOR", format!("{} at byte {}", self.place, self.at), expected, got)
    }

    fn peek_head(&self) -> Result<(Header, usize), Corrupt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (header, len) = match common_head(rest) {
            Some(found) => found,
            None => {
                let mut decoder = Decoder::from(rest);
                let header = decoder.pull().map_err(|_| self.wrong("a value", "bytes that are none"))?;
                (header, decoder.offset())
            }
        };
        if len != head_len(header) {
            return Err(self.wrong("the shortest head", format!("one of {len} bytes")));
        }
        Ok((header, len))
    }

    fn head(&mut self) -> Result<Header, Corrupt> {
        let (header, len) = self.peek_head()?;
        self.at += len;
        Ok(header)
    }

    /// The argument of the next head, which must be of `kind`.
    #[inline]
    fn argument(&mut self, kind: Kind, what: &str) -> Result<u64, Corrupt> {
        // Of a ledger's heads by far the most are one byte.
        match self.bytes.get(self.at) {
            Some(first) if *first >> 5 == kind as u8 && first & 31 <= 23 => {
                self.at += 1;
                Ok(u64::from(first & 31))
            }
            _ => self.long_argument(kind, what),
        }
    }

    fn long_argument(&mut self, kind: Kind, what: &str) -> Result<u64, Corrupt> {
        let is_it = self.bytes.get(self.at).is_some_and(|first| *first >> 5 == kind as u8);
        self.expect(what, |h| match h {
            Header::Positive(n) | Header::Negative(n) | Header::Tag(n) if is_it => Some(n),
            Header::Bytes(len) | Header::Text(len) | Header::Array(len) | Header::Map(len) if is_it => {
                len.map(|len| len as u64)
            }
            _ => None,
        })
    }

    /// The same of what has a length.
    #[inline]
    fn len_of(&mut self, kind: Kind, what: &str) -> Result<usize, Corrupt> {
        // One that does not fit is longer than any bytes there are.
        self.argument(kind, what).map(|len| usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        match taken {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.wrong(format!("{len} bytes"), format!("{}", self.left()))),
        }
    }

    fn expect<T>(&mut self, what: &str, pick: impl FnOnce(Header) -> Option<T>) -> Result<T, Corrupt> {
        let (header, len) = self.peek_head()?;
        let value = pick(header).ok_or_else(|| self.wrong(what, describe(header)))?;
        self.at += len;
        Ok(value)
    }

    /// Runs `read` one level deeper.
    pub fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Corrupt>) -> Result<T, Corrupt> {
        if self.depth == CANON_DEPTH_MAX {
            return Err(self.wrong(format!("at most {CANON_DEPTH_MAX} levels"), "more"));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, Corrupt> {
        self.argument(Kind::Positive, "an unsigned integer")
    }

    /// A signed integer that fits in 64 bits.
    pub fn int(&mut self) -> Result<i64, Corrupt> {
        self.expect("a signed 64-bit integer", |h| match h {
            Header::Positive(n) => i64::try_from(n).ok(),
            Header::Negative(n) => i64::try_from(n).ok().map(|n| !n),
            _ => None,
        })
    }

    /// A boolean.
    pub fn bool(&mut self) -> Result<bool, Corrupt> {
        self.expect("a boolean", |h| match h {
            Header::Simple(20) => Some(false),
            Header::Simple(21) => Some(true),
            _ => None,
        })
    }

    /// Whether a null is next; takes it if so.
    pub fn null(&mut self) -> Result<bool, Corrupt> {
        // Of nearly all that can be null, the other form is an array.
        if self.bytes.get(self.at).is_some_and(|first| first >> 5 == Kind::Array as u8) {
            return Ok(false);
        }
        let (header, len) = self.peek_head()?;
        let is_null = header == Header::Simple(22);
        if is_null {
            self.at += len;
        }
        Ok(is_null)
    }

    /// Whether a byte string is next.
    pub fn is_byte_string(&self) -> bool {
        self.bytes.get(self.at).is_some_and(|first| first >> 5 == Kind::Bytes as u8)
    }

    /// A byte string.
    pub fn byte_string(&mut self) -> Result<&'a [u8], Corrupt> {
        let len = self.len_of(Kind::Bytes, "a byte string")?;
        self.take(len)
    }

    /// Text.
    pub fn text(&mut self) -> Result<&'a str, Corrupt> {
        let len = self.len_of(Kind::Text, "text")?;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|e| self.wrong("UTF-8", e))
    }

    /// The head of an array: its length.
    pub fn array(&mut self) -> Result<usize, Corrupt> {
        self.len_of(Kind::Array, "an array")
    }

    /// The head of an array that must have `len` items.
    pub fn array_of(&mut self, len: usize) -> Result<(), Corrupt> {
        match self.array()? {
            n if n == len => Ok(()),
            n => Err(self.wrong(format!("an array of {len}"), format!("one of {n}"))),
        }
    }

    /// A map: `entry` is called for each key, in order, and reads its value.
    pub fn map(
        &mut self,
        mut entry: impl FnMut(&str, &mut Self) -> Result<(), Corrupt>,
    ) -> Result<(), Corrupt> {
        self.nested(|r| {
            let len = r.len_of(Kind::Map, "a map")?;
            let mut last: Option<&str> = None;
            for _ in 0..len {
                let key = r.text()?;
                if last.is_some_and(|last| (last.len(), last) >= (key.len(), key)) {
                    return Err(r.wrong("keys in order, each once", format!("`{}`", quote(key))));
                }
                entry(key, r)?;
                last = Some(key);
            }
            Ok(())
        })
    }

    /// A link.
    pub fn link(&mut self) -> Result<Cid, Corrupt> {
        self.expect("a link", |h| (h == Header::Tag(TAG_LINK)).then_some(()))?;
        let bytes = self.byte_string()?;
        let cid = match bytes {
            [LINK_PREFIX, cid @ ..] => Cid::try_from_bytes(cid),
            _ => None,
        };
        cid.ok_or_else(|| self.wrong("a CID of this project's kind", format!("{} bytes", bytes.len())))
    }

    /// Reads past one value of any kind, checking all of it.
    pub fn skip(&mut self) -> Result<(), Corrupt> {
        let (header, _) = self.peek_head()?;
        match header {
            Header::Positive(_) | Header::Negative(_) => self.head().map(drop),
            Header::Simple(20..=22) => self.head().map(drop),
            Header::Bytes(Some(_)) => self.byte_string().map(drop),
            Header::Text(Some(_)) => self.text().map(drop),
            Header::Tag(_) => self.link().map(drop),
            Header::Array(Some(_)) => self.nested(|r| {
                let len = r.array()?;
                (0..len).try_for_each(|_| r.skip())
            }),
            Header::Map(Some(_)) => self.map(|_, r| r.skip()),
            other => Err(self.wrong("a value of the canonical form", describe(other))),
        }
    }
}

/// The head at the beginning of `bytes`, and its length, if it is one of the commonest: the decoder takes several times
/// as long.
fn common_head(bytes: &[u8]) -> Option<(Header, usize)> {
    let (first, rest) = bytes.split_first()?;
    let (argument, len) = match first & 31 {
        short @ 0..=23 => (u64::from(short), 1),
        24 => (u64::from(*rest.first()?), 2),
        25 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 3),
        26 => (u64::from(u32::from_be_bytes(*rest.first_chunk()?)), 5),
        27 => (u64::from_be_bytes(*rest.first_chunk()?), 9),
        _ => return None,
    };
    let size = usize::try_from(argument).ok()?;
    let header = match first >> 5 {
        0 => Header::Positive(argument),
        1 => Header::Negative(argument),
        2 => Header::Bytes(Some(size)),
        3 => Header::Text(Some(size)),
        4 => Header::Array(Some(size)),
        5 => Header::Map(Some(size)),
        _ => return None,
    };
    Some((header, len))
}

/// Length in bytes of the shortest head that means `header`.
fn head_len(header: Header) -> usize {
    let argument = match header {
        Header::Positive(n) | Header::Negative(n) | Header::Tag(n) => n,
        Header::Bytes(len) | Header::Text(len) | Header::Array(len) | Header::Map(len) => {
            len.map_or(0, |len| len as u64)
        }
        Header::Simple(n) => u64::from(n),
        Header::Float(_) | Header::Break => 0,
    };
    match argument {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

fn describe(header: Header) -> String {
    match header {
        Header::Positive(n) => format!("the integer {n}"),
        Header::Negative(n) => format!("the integer -1-{n}"),
        Header::Float(_) => "a float".into(),
        Header::Simple(n) => format!("the simple value {n}"),
        Header::Tag(n) => format!("tag {n}"),
        Header::Break => "a break".into(),
        Header::Bytes(None) | Header::Text(None) | Header::Array(None) | Header::Map(None) => {
            "an indefinite length".into()
        }
        Header::Bytes(_) => "a byte string".into(),
        Header::Text(_) => "text".into(),
        Header::Array(_) => "an array".into(),
        Header::Map(_) => "a map".into(),
    }
}

/// Unsigned and signed integers, checked against their width when read.
macro_rules! integers {
    ($method:ident as $wide:ty: $($int:ty),*) => {$(
        impl Encode for $int {
            fn encode(&self, to: &mut Writer) {
                to.$method(<$wide>::from(*self));
            }
        }
        impl Decode for $int {
            fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
                let wide = from.$method()?;
                Self::try_from(wide).map_err(|_| from.wrong(stringify!($int), wide))
            }
        }
    )*};
}
integers!(uint as u64: u16, u32, u64);
integers!(int as i64: i32, i64);

impl Encode for u8 {
    fn encode(&self, to: &mut Writer) {
        to.uint(u64::from(*self));
    }
    fn encode_list(items: &[Self], to: &mut Writer) {
        to.byte_string(items);
    }
}

impl Decode for u8 {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let wide = from.uint()?;
        Self::try_from(wide).map_err(|_| from.wrong("u8", wide))
    }
    fn decode_list(from: &mut Reader<'_>) -> Result<Vec<Self>, Corrupt> {
        from.byte_string().map(<[u8]>::to_vec)
    }
}

impl Encode for bool {
    fn encode(&self, to: &mut Writer) {
        to.bool(*self);
    }
}

impl Decode for bool {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.bool()
    }
}

impl Encode for str {
    fn encode(&self, to: &mut Writer) {
        to.text(self);
    }
}

impl Encode for String {
    fn encode(&self, to: &mut Writer) {
        to.text(self);
    }
}

impl Decode for String {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.text().map(str::to_owned)
    }
}

impl Encode for Cid {
    fn encode(&self, to: &mut Writer) {
        to.link(self);
    }
}

impl Decode for Cid {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.link()
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, to: &mut Writer) {
        T::encode_list(self, to);
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, to: &mut Writer) {
        T::encode_list(self, to);
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        T::decode_list(from)
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let bytes = from.byte_string()?;
        Self::try_from(bytes).map_err(|_| from.wrong(format!("{N} bytes"), bytes.len()))
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, to: &mut Writer) {
        to.byte_string(self);
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, to: &mut Writer) {
        (**self).encode(to);
    }
}

/// `None` is null, `Some(x)` is `[x]`, so an option of an option keeps its meaning.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, to: &mut Writer) {
        match self {
            None => to.null(),
            Some(value) => {
                to.array(1);
                value.encode(to);
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        if from.null()? {
            return Ok(None);
        }
        from.nested(|r| {
            r.array_of(1)?;
            T::decode(r).map(Some)
        })
    }
}

/// `Ok(x)` is `[0, x]` and `Err(e)` is `[1, e]`.
impl<T: Encode, E: Encode> Encode for Result<T, E> {
    fn encode(&self, to: &mut Writer) {
        to.array(2);
        to.uint(u64::from(self.is_err()));
        match self {
            Ok(value) => value.encode(to),
            Err(error) => error.encode(to),
        }
    }
}

impl<T: Decode, E: Decode> Decode for Result<T, E> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.nested(|r| {
            r.array_of(2)?;
            match r.uint()? {
                0 => T::decode(r).map(Ok),
                1 => E::decode(r).map(Err),
                n => Err(r.wrong("0 or 1", n)),
            }
        })
    }
}

/// A tuple is an array; the empty one is the empty array.
macro_rules! tuples {
    ($($len:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            fn encode(&self, to: &mut Writer) {
                to.array($len);
                #[expect(non_snake_case, reason = "type parameters name the fields too")]
                let ($($name,)*) = self;
                $($name.encode(to);)*
            }
        }
        impl<$($name: Decode),*> Decode for ($($name,)*) {
            fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
                from.nested(|r| {
                    r.array_of($len)?;
                    Ok(($($name::decode(r)?,)*))
                })
            }
        }
    )*};
}
tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
}

impl Encode for () {
    fn encode(&self, to: &mut Writer) {
        to.array(0);
    }
}

impl Decode for () {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(0)
    }
}

/// Any canonical value: for showing structures whose type is not known, and for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer from -2^64 to 2^64-1.
    Int(i128),
    /// A byte string.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// A map; its keys are in canonical order.
    Map(Vec<(String, Node)>),
    /// A link.
    Link(Cid),
}

impl Encode for Node {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Null => to.null(),
            Self::Bool(value) => to.bool(*value),
            Self::Int(value) => match u64::try_from(*value) {
                Ok(positive) => to.head(Kind::Positive, positive),
                Err(_) => to.head(Kind::Negative, !*value as u64),
            },
            Self::Bytes(value) => to.byte_string(value),
            Self::Text(value) => to.text(value),
            Self::List(items) => Self::encode_list(items, to),
            Self::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(k, v)| (k.as_str(), v as &dyn Encode)).collect();
                to.map(&entries);
            }
            Self::Link(cid) => to.link(cid),
        }
    }
}

impl Decode for Node {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let (header, _) = from.peek_head()?;
        Ok(match header {
            Header::Positive(n) => {
                from.head()?;
                Self::Int(i128::from(n))
            }
            Header::Negative(n) => {
                from.head()?;
                Self::Int(!i128::from(n))
            }
            Header::Simple(20 | 21) => Self::Bool(from.bool()?),
            Header::Simple(22) => {
                from.head()?;
                Self::Null
            }
            Header::Bytes(Some(_)) => Self::Bytes(from.byte_string()?.to_vec()),
            Header::Text(Some(_)) => Self::Text(from.text()?.to_owned()),
            Header::Array(Some(_)) => Self::List(Self::decode_list(from)?),
            Header::Map(Some(_)) => {
                let mut entries = Vec::new();
                from.map(|key, r| {
                    entries.push((key.to_owned(), Self::decode(r)?));
                    Ok(())
                })?;
                Self::Map(entries)
            }
            Header::Tag(_) => Self::Link(from.link()?),
            other => return Err(from.wrong("a value of the canonical form", describe(other))),
        })
    }
}

/// Of bytes that are no text so many are shown.
const SHOWN_MAX_BYTES: usize = 16;

/// Bytes in canonical form as a value in a few words, others as text.
pub fn show_bytes(bytes: &[u8]) -> String {
    match decode::<Node>(bytes, "body") {
        Ok(Node::List(items)) => format!("({})", items.iter().map(show_node).collect::<Vec<_>>().join(", ")),
        Ok(node) => show_node(&node),
        Err(_) => quote(&String::from_utf8_lossy(bytes)),
    }
}

/// A value in a few words.
pub fn show_node(node: &Node) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match node {
        Node::Null => "none".into(),
        Node::Bool(value) => value.to_string(),
        Node::Int(value) => value.to_string(),
        Node::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("b\"{}\"", quote(text)),
            Err(_) => {
                let shown =
                    bytes.iter().take(SHOWN_MAX_BYTES).map(|b| format!("{b:02x}")).collect::<String>();
                match bytes.len() {
                    0..=SHOWN_MAX_BYTES => format!("0x{shown}"),
                    len => format!("0x{shown}… {len} bytes"),
                }
            }
        },
        Node::Text(text) => format!("\"{}\"", quote(text)),
        Node::List(items) => format!("[{}]", joined(items.iter().map(show_node).collect())),
        Node::Map(entries) => {
            format!(
                "{{{}}}",
                joined(entries.iter().map(|(k, v)| format!("{}: {}", quote(k), show_node(v))).collect())
            )
        }
        Node::Link(cid) => format!("…{}", cid.short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Node::Null),
            any::<bool>().prop_map(Node::Bool),
            (-(1i128 << 64)..(1i128 << 64)).prop_map(Node::Int),
            (-300i128..300).prop_map(Node::Int),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Node::Bytes),
            ".{0,20}".prop_map(Node::Text),
            any::<[u8; 4]>().prop_map(|b| Node::Link(Cid::of_raw(&b))),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Node::List),
                prop::collection::btree_map(".{0,8}", inner, 0..8).prop_map(|map| {
                    let mut entries: Vec<_> = map.into_iter().collect();
                    entries.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
                    Node::Map(entries)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back_and_is_dag_cbor(value in node()) {
            let bytes = encode(&value);
            prop_assert_eq!(decode::<Node>(&bytes, "test").unwrap(), value);
            // The oracle reads the same bytes and writes the same bytes.
            let oracle: ipld::Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
            prop_assert_eq!(serde_ipld_dagcbor::to_vec(&oracle).unwrap(), bytes);
        }

        #[test]
        fn what_is_accepted_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = decode::<Node>(&bytes, "test") {
                prop_assert_eq!(encode(&value), bytes.clone());
                prop_assert!(serde_ipld_dagcbor::from_slice::<ipld::Ipld>(&bytes).is_ok());
                let mut reader = Reader::new(&bytes, "test");
                prop_assert!(reader.skip().is_ok() && reader.finish().is_ok());
            }
        }

        #[test]
        fn one_changed_byte_never_reads_as_the_same_value(value in node(), at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = encode(&value);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_ne!(decode::<Node>(&bytes, "test").ok(), Some(value));
        }
    }

    mod ipld {
        pub(super) use ipld_core::ipld::Ipld;
    }

    #[test]
    fn other_spellings_of_a_value_are_refused() {
        let cases: [(&[u8], &str); 9] = [
            (&[0x18, 0x01], "1 in two bytes"),
            (&[0x9f, 0xff], "indefinite array"),
            (&[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], "a float"),
            (&[0xf7], "undefined"),
            (&[0xa2, 0x61, b'b', 1, 0x61, b'a', 2], "keys out of order"),
            (&[0xa2, 0x61, b'a', 1, 0x61, b'a', 2], "a key twice"),
            (&[0xa1, 0x01, 0x01], "an integer key"),
            (&[0xc1, 0x00], "another tag"),
            (&[0x01, 0x01], "two values"),
        ];
        for (bytes, what) in cases {
            assert!(decode::<Node>(bytes, "test").is_err(), "{what}");
        }
    }

    #[test]
    fn a_deep_or_long_claim_is_refused_without_memory() {
        let deep = vec![0x81; 100_000];
        assert!(decode::<Node>(&deep, "test").is_err());
        let long = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(decode::<Node>(&long, "test").is_err());
        assert!(Reader::new(&long, "test").skip().is_err());
    }

    #[test]
    fn typed_values_check_their_width() {
        assert!(decode::<u16>(&encode(&65_536u32), "test").is_err());
        assert_eq!(decode::<i64>(&encode(&i64::MIN), "test"), Ok(i64::MIN));
        let nested: Option<Option<u32>> = Some(None);
        assert_eq!(decode::<Option<Option<u32>>>(&encode(&nested), "test"), Ok(nested));
        let bytes: (Vec<u8>, Result<String, ()>) = (vec![1, 2], Ok("x".into()));
        assert_eq!(decode(&encode(&bytes), "test"), Ok(bytes));
    }
}

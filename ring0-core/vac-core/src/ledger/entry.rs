//! The entries of a ledger and their canonical form: an array that begins with the kind.

use arrayvec::ArrayVec;

use super::Head;
use crate::canon::{Decode, Encode, Node, Reader, Writer};
use crate::cid::Cid;
use crate::fault::{AbortKind, Corrupt};
use crate::limits::EVENT_INLINE_MAX_BYTES;

/// Number of an event in its run, from 0.
pub type Seq = u64;
/// Number of a function's name in its run, from 0 in order of first use.
pub type NameId = u32;
/// A named value of a header or a note.
pub type Field = (String, Node);

/// What kind of question or effect an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The answer can be computed again from the header: entropy. A replay does.
    Computed,
    /// The sandbox's own state: handles, virtual clocks, what the header already says.
    Local,
    /// The answer is the world's: a file, a listing, the standard input.
    Read,
    /// Something changes outside.
    Effect,
    /// A kernel or a script runs.
    Kernel,
}

impl Class {
    /// Every class, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Computed, Self::Local, Self::Read, Self::Effect, Self::Kernel];

    /// The stable word, as logs and JSON show it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Local => "local",
            Self::Read => "read",
            Self::Effect => "effect",
            Self::Kernel => "kernel",
        }
    }

    fn code(self) -> u64 {
        Self::ALL.iter().position(|&c| c == self).unwrap_or_default() as u64
    }
}

/// The bytes of a request or response, or their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In place: most events need no memory of their own.
    Inline(ArrayVec<u8, EVENT_INLINE_MAX_BYTES>),
    /// In the store.
    Stored {
        /// Name of the bytes.
        cid: Cid,
        /// Their number.
        len_bytes: u64,
    },
    /// Not kept: the bytes can be computed again, and this is how to know them.
    Digest {
        /// Name of the bytes.
        cid: Cid,
        /// Their number.
        len_bytes: u64,
    },
}

impl Default for Body {
    /// No bytes.
    fn default() -> Self {
        Self::Inline(ArrayVec::new_const())
    }
}

impl Body {
    /// `bytes` in place, if they are short enough.
    pub fn inline(bytes: &[u8]) -> Option<Self> {
        ArrayVec::try_from(bytes).ok().map(Self::Inline)
    }

    /// The body for `bytes` that need not be kept.
    pub fn digest(bytes: &[u8]) -> Self {
        let by_name = || Self::Digest { cid: Cid::of_raw(bytes), len_bytes: bytes.len() as u64 };
        Self::inline(bytes).unwrap_or_else(by_name)
    }

    /// Whether this body names exactly `bytes`.
    pub fn names(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Inline(own) => own.as_slice() == bytes,
            Self::Stored { cid, len_bytes } | Self::Digest { cid, len_bytes } => {
                *len_bytes == bytes.len() as u64 && *cid == Cid::of_raw(bytes)
            }
        }
    }

    /// Number of bytes it stands for.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Stored { len_bytes, .. } | Self::Digest { len_bytes, .. } => *len_bytes,
        }
    }
}

/// The asking half of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Number of the event.
    pub seq: Seq,
    /// The event inside which this one happened; `None` for the root.
    pub parent: Option<Seq>,
    /// The function that was called.
    pub name: NameId,
    /// What kind of event it is.
    pub class: Class,
    /// The run's tick at the call.
    pub tick: u64,
    /// The canonical form of the arguments.
    pub request: Body,
}

/// The answering half of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// The canonical form of the result, or how the call ended its kernel instead.
    pub answer: Result<Body, Outcome>,
    /// The grant it was allowed by: an index in the header's list.
    pub grant: Option<u32>,
    /// If something was refused: the grant that would have allowed it, as an operator types it.
    pub denied: Option<String>,
}

impl Return {
    const FIELDS: usize = 3;

    fn encode_fields(&self, to: &mut Writer) {
        self.answer.encode(to);
        self.grant.encode(to);
        self.denied.encode(to);
    }

    fn decode_fields(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            answer: Result::decode(from)?,
            grant: Option::decode(from)?,
            denied: Option::decode(from)?,
        })
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned; the body is the canonical form of the result.
    Done(Body),
    /// The guest exited with this status.
    Exit(u32),
    /// The guest ended itself otherwise.
    Fault {
        /// A stable word.
        kind: String,
        /// What happened.
        message: String,
    },
    /// The host ended it.
    Abort {
        /// Which limit or failure.
        kind: AbortKind,
        /// What happened.
        message: String,
    },
}

/// What a replay must match, by name; see `docs/formats.md` for the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The fields, in canonical order of their names.
    pub fields: Vec<Field>,
}

impl Header {
    /// A header of these fields, in any order.
    pub fn new(mut fields: Vec<Field>) -> Self {
        fields.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        Self { fields }
    }

    /// The field with this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// One entry of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The first entry of every run.
    Header(Header),
    /// The name behind a [`NameId`], before its first use.
    Name(NameId, String),
    /// A whole event: nothing else happened inside it.
    Event(Call, Return),
    /// An event that others may happen inside of, or that must be known before it happens.
    Begin(Call),
    /// The answer to a `Begin`.
    End(Seq, Return),
    /// The last chained entry: outcome, ticks used, events.
    Close {
        /// How the run ended.
        outcome: Outcome,
        /// Ticks that all kernels used.
        ticks: u64,
        /// Events of the run.
        events: u64,
    },
    /// Not chained: written with each group, for recovery.
    Mark {
        /// Chained entries before it.
        entries: u64,
        /// The head after them.
        head: Head,
        /// Bytes of this segment that were durable when the group was written.
        durable_bytes: u64,
    },
    /// Not chained: what may differ between equal runs.
    Note(Vec<Field>),
}

impl Entry {
    /// Whether the hash chain covers it.
    pub fn is_chained(&self) -> bool {
        !matches!(self, Self::Mark { .. } | Self::Note(_))
    }
}

impl Encode for Class {
    fn encode(&self, to: &mut Writer) {
        to.uint(self.code());
    }
}

impl Decode for Class {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let code = from.uint()?;
        let class = usize::try_from(code).ok().and_then(|i| Self::ALL.get(i).copied());
        class.ok_or_else(|| from.wrong("a class of event", code))
    }
}

/// Inline bytes are a byte string; a stored body is `[link, length]`; one that is not kept is
/// `[digest, length]`.
impl Encode for Body {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Inline(bytes) => to.byte_string(bytes),
            Self::Stored { cid, len_bytes } => (cid, *len_bytes).encode(to),
            Self::Digest { cid, len_bytes } => (cid.digest(), *len_bytes).encode(to),
        }
    }
}

impl Decode for Body {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        // By far the most are bytes, which then need no memory of their own.
        if from.is_byte_string() {
            let bytes = from.byte_string()?;
            return Self::inline(bytes).ok_or_else(|| {
                from.wrong(format!("at most {EVENT_INLINE_MAX_BYTES} bytes inline"), bytes.len())
            });
        }
        match Node::decode(from)? {
            Node::List(items) => Self::from_items(&items).ok_or_else(|| from.wrong("a body", "another list")),
            other => Err(from.wrong("a body", format!("{other:?}"))),
        }
    }
}

impl Body {
    fn from_items(items: &[Node]) -> Option<Self> {
        let [name, Node::Int(len)] = items else { return None };
        let len_bytes = u64::try_from(*len).ok()?;
        match name {
            Node::Link(cid) => Some(Self::Stored { cid: *cid, len_bytes }),
            Node::Bytes(digest) => {
                let digest = digest.as_slice().try_into().ok()?;
                Some(Self::Digest { cid: Cid::new(crate::cid::Codec::Raw, digest), len_bytes })
            }
            _ => None,
        }
    }
}

impl Call {
    const FIELDS: usize = 6;

    fn encode_fields(&self, to: &mut Writer) {
        to.uint(self.seq);
        self.parent.encode(to);
        self.name.encode(to);
        self.class.encode(to);
        to.uint(self.tick);
        self.request.encode(to);
    }

    fn decode_fields(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            seq: from.uint()?,
            parent: Option::decode(from)?,
            name: NameId::decode(from)?,
            class: Class::decode(from)?,
            tick: from.uint()?,
            request: Body::decode(from)?,
        })
    }
}

impl Encode for Outcome {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Done(body) => ("done", body).encode(to),
            Self::Exit(status) => ("exit", *status).encode(to),
            Self::Fault { kind, message } => ("fault", kind, message).encode(to),
            Self::Abort { kind, message } => ("abort", kind.word(), message).encode(to),
        }
    }
}

impl Decode for Outcome {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let len = from.array()?;
        match (from.text()?, len) {
            ("done", 2) => Ok(Self::Done(Body::decode(from)?)),
            ("exit", 2) => Ok(Self::Exit(u32::decode(from)?)),
            ("fault", 3) => Ok(Self::Fault { kind: String::decode(from)?, message: String::decode(from)? }),
            ("abort", 3) => {
                Ok(Self::Abort { kind: decode_abort_kind(from)?, message: String::decode(from)? })
            }
            (word, len) => Err(from.wrong("an outcome", format!("{len} items that begin with `{word}`"))),
        }
    }
}

fn decode_abort_kind(from: &mut Reader<'_>) -> Result<AbortKind, Corrupt> {
    use AbortKind::{Busy, Compile, Denied, Interrupt, Machine, Quota, Time};
    let word = from.text()?;
    let known = [Quota, Time, Interrupt, Denied, Compile, Machine, Busy];
    known.into_iter().find(|kind| kind.word() == word).ok_or_else(|| from.wrong("a kind of abort", word))
}

/// Codes of the kinds of entry.
mod kind {
    pub(super) const HEADER: u64 = 0;
    pub(super) const NAME: u64 = 1;
    pub(super) const EVENT: u64 = 2;
    pub(super) const BEGIN: u64 = 3;
    pub(super) const END: u64 = 4;
    pub(super) const CLOSE: u64 = 5;
    pub(super) const MARK: u64 = 6;
    pub(super) const NOTE: u64 = 7;
}

impl Encode for Entry {
    fn encode(&self, to: &mut Writer) {
        let mut start = |kind, fields: usize| {
            to.array(1 + fields);
            to.uint(kind);
        };
        match self {
            Self::Header(header) => {
                start(kind::HEADER, 1);
                Node::Map(header.fields.clone()).encode(to);
            }
            Self::Name(id, name) => {
                start(kind::NAME, 2);
                id.encode(to);
                name.encode(to);
            }
            Self::Event(call, ret) => {
                start(kind::EVENT, Call::FIELDS + Return::FIELDS);
                call.encode_fields(to);
                ret.encode_fields(to);
            }
            Self::Begin(call) => {
                start(kind::BEGIN, Call::FIELDS);
                call.encode_fields(to);
            }
            Self::End(seq, ret) => {
                start(kind::END, 1 + Return::FIELDS);
                to.uint(*seq);
                ret.encode_fields(to);
            }
            Self::Close { outcome, ticks, events } => {
                start(kind::CLOSE, 3);
                outcome.encode(to);
                to.uint(*ticks);
                to.uint(*events);
            }
            Self::Mark { entries, head, durable_bytes } => {
                start(kind::MARK, 3);
                to.uint(*entries);
                head.as_bytes().encode(to);
                to.uint(*durable_bytes);
            }
            Self::Note(fields) => {
                start(kind::NOTE, 1);
                Node::Map(fields.clone()).encode(to);
            }
        }
    }
}

impl Decode for Entry {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let len = from.array()?;
        let kind = from.uint()?;
        match (kind, len) {
            (kind::HEADER, 2) => Ok(Self::Header(Header { fields: fields(from)? })),
            (kind::NAME, 3) => Ok(Self::Name(NameId::decode(from)?, String::decode(from)?)),
            (kind::EVENT, 10) => Ok(Self::Event(Call::decode_fields(from)?, Return::decode_fields(from)?)),
            (kind::BEGIN, 7) => Ok(Self::Begin(Call::decode_fields(from)?)),
            (kind::END, 5) => Ok(Self::End(from.uint()?, Return::decode_fields(from)?)),
            (kind::CLOSE, 4) => {
                Ok(Self::Close { outcome: Outcome::decode(from)?, ticks: from.uint()?, events: from.uint()? })
            }
            (kind::MARK, 4) => Ok(Self::Mark {
                entries: from.uint()?,
                head: Head::from_bytes(Decode::decode(from)?),
                durable_bytes: from.uint()?,
            }),
            (kind::NOTE, 2) => Ok(Self::Note(fields(from)?)),
            (kind, len) => Err(from.wrong("an entry", format!("kind {kind} with {len} items"))),
        }
    }
}

fn fields(from: &mut Reader<'_>) -> Result<Vec<Field>, Corrupt> {
    let mut fields = Vec::new();
    from.map(|key, r| {
        fields.push((key.to_owned(), Node::decode(r)?));
        Ok(())
    })?;
    Ok(fields)
}

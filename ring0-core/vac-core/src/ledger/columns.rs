//! Columns: entries of a block taken apart, so that what is alike lies side by side. Drawn in `docs/formats.md`.
//!
//! An entry is a sequence of CBOR heads and strings. Its *shape* is that sequence without its numbers and strings; a
//! loop in a guest makes entries of few shapes, whose numbers grow by the same from each to the next of its shape.
//! So a number is kept as the difference from the one before, all of one place in a shape together, and strings stand
//! behind each other. What compression is left with is mostly zeros.
//!
//! Nothing here knows what an entry means, but that it is an event and of which function: events of two functions are of
//! two shapes. Requests and answers are byte strings that hold the same kind of sequence, and are taken apart as well.
//!
//! Invariant: [`join`] of what [`split`] gave are the same entries, to the byte. Of bytes from elsewhere it makes no
//! more than it was told to make room for.

use std::collections::BTreeMap;

/// Shapes of a block: a shape's number is one byte.
const SHAPES_MAX: usize = 256;
/// Fewer entries are not worth it: compression has a dictionary for them.
const ENTRIES_MIN: usize = 64;
/// Entries for each shape, at least: with fewer, the shapes are longer than what they save.
const ENTRIES_PER_SHAPE: usize = 8;
/// Bytes before each payload.
const LEN_LEN: usize = 4;

/// What a shape is made of. A number, or the length of a string, is in a column of its own.
mod op {
    /// A head as it is: its bytes follow.
    pub(super) const HEAD: u8 = 0;
    /// A number from 0.
    pub(super) const POSITIVE: u8 = 1;
    /// A number below 0.
    pub(super) const NEGATIVE: u8 = 2;
    /// A byte string.
    pub(super) const BYTES: u8 = 3;
    /// Text.
    pub(super) const TEXT: u8 = 4;
    /// A byte string that holds what follows, up to `CLOSE`.
    pub(super) const OPEN: u8 = 5;
    /// The end of that.
    pub(super) const CLOSE: u8 = 6;
}

/// Majors of CBOR heads (RFC 8949, section 3.1).
const MAJOR_POSITIVE: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;

/// The kinds of entry that name a function.
const EVENT: u64 = 2;
const BEGIN: u64 = 3;

/// A head, its argument and its bytes.
struct Token<'a> {
    major: u8,
    argument: u64,
    raw: &'a [u8],
}

/// Takes one head from the beginning of `bytes`, if it is the shortest of its kind.
fn token<'a>(bytes: &mut &'a [u8]) -> Option<Token<'a>> {
    let first = *bytes.first()?;
    let long = match first & 31 {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let (raw, rest) = bytes.split_at_checked(1 + long)?;
    let wide = raw.iter().skip(1).fold(0, |n, b| n << 8 | u64::from(*b));
    let argument = if long == 0 { u64::from(first & 31) } else { wide };
    // Of simple values there is no shorter form to confuse them with: they are kept as they are.
    let is_shortest = match long {
        0 => true,
        1 => argument > 23,
        2 => argument > 0xff,
        4 => argument > 0xffff,
        _ => argument > 0xffff_ffff,
    };
    *bytes = rest;
    is_shortest.then_some(Token { major: first >> 5, argument, raw })
}

/// Appends the shortest head.
fn put_head(to: &mut Vec<u8>, major: u8, argument: u64) {
    let [.., b4, b3, b2, b1] = argument.to_be_bytes();
    let major = major << 5;
    match argument {
        0..=23 => to.push(major | b1),
        24..=0xff => to.extend_from_slice(&[major | 24, b1]),
        0x100..=0xffff => to.extend_from_slice(&[major | 25, b2, b1]),
        0x1_0000..=0xffff_ffff => to.extend_from_slice(&[major | 26, b4, b3, b2, b1]),
        _ => {
            to.push(major | 27);
            to.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// Appends a number, seven bits a byte, the lowest first.
fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Takes such a number.
fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of both signs as small numbers.
fn zigzag(difference: u64) -> u64 {
    difference << 1 ^ ((difference as i64) >> 63) as u64
}

fn unzigzag(value: u64) -> u64 {
    value >> 1 ^ (value & 1).wrapping_neg()
}

fn take<'a>(from: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(usize::try_from(len).ok()?)?;
    *from = rest;
    Some(taken)
}

/// The numbers of one place in a shape.
#[derive(Default)]
struct Column {
    last: u64,
    bytes: Vec<u8>,
}

/// Takes the entries of blocks apart.
#[derive(Default)]
pub(super) struct Splitter {
    /// Of the entry at hand: its shape and numbers.
    shape: Vec<u8>,
    numbers: Vec<u64>,
    strings: Vec<u8>,
}

impl Splitter {
    /// `entries` in columns, unless that is of no use.
    pub(super) fn split(&mut self, entries: &[u8]) -> Option<Vec<u8>> {
        self.strings.clear();
        let mut shapes: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let (mut columns, mut order): (Vec<Vec<Column>>, Vec<u8>) = (Vec::new(), Vec::new());
        let mut rest = entries;
        while let Some((len, after)) = rest.split_first_chunk::<LEN_LEN>() {
            rest = after;
            self.entry(take(&mut rest, u32::from_le_bytes(*len).into())?)?;
            let number = match shapes.get(&self.shape) {
                Some(number) => *number,
                None => {
                    columns.push(self.numbers.iter().map(|_| Column::default()).collect());
                    shapes.insert(self.shape.clone(), columns.len() - 1);
                    columns.len() - 1
                }
            };
            order.push(u8::try_from(number).ok()?);
            for (column, number) in columns.get_mut(number)?.iter_mut().zip(&self.numbers) {
                put_varint(&mut column.bytes, zigzag(number.wrapping_sub(column.last)));
                column.last = *number;
            }
        }
        let is_regular = order.len() >= ENTRIES_MIN.max(shapes.len() * ENTRIES_PER_SHAPE);
        (rest.is_empty() && is_regular).then(|| self.lay(&shapes, &order, &columns))
    }

    /// Shapes, the shape of each entry, strings, and columns.
    fn lay(&self, shapes: &BTreeMap<Vec<u8>, usize>, order: &[u8], columns: &[Vec<Column>]) -> Vec<u8> {
        let mut by_number = vec![&[][..]; columns.len()];
        for (shape, number) in shapes {
            by_number[*number] = shape;
        }
        let mut out = Vec::new();
        let mut part = |bytes: &[u8]| {
            put_varint(&mut out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        };
        by_number.iter().for_each(|shape| part(shape));
        part(&[]);
        part(order);
        part(&self.strings);
        columns.iter().flatten().for_each(|column| part(&column.bytes));
        out
    }

    /// The shape and the numbers of an entry; its strings are appended.
    fn entry(&mut self, payload: &[u8]) -> Option<()> {
        self.shape.clear();
        self.numbers.clear();
        let mut rest = payload;
        let mut at = 0;
        // An event is `[kind, seq, parent, name, class, …]`; the parent is null or `[seq]`.
        let (mut kind, mut name_at) = (0, usize::MAX);
        while !rest.is_empty() {
            let token = token(&mut rest)?;
            match (at, token.major) {
                (1, MAJOR_POSITIVE) => {
                    kind = token.argument;
                    self.head(token.raw);
                }
                (3, major) if matches!(kind, EVENT | BEGIN) => {
                    name_at = if major == 4 { 5 } else { 4 };
                    self.value(&token, &mut rest, true)?;
                }
                (at, MAJOR_POSITIVE) if at == name_at || at == name_at.saturating_add(1) => {
                    self.head(token.raw);
                }
                _ => self.value(&token, &mut rest, true)?,
            }
            at += 1;
        }
        // The list of shapes ends with an empty one.
        (!self.shape.is_empty()).then_some(())
    }

    fn head(&mut self, raw: &[u8]) {
        self.shape.push(op::HEAD);
        self.shape.extend_from_slice(raw);
    }

    /// One token, and the string behind it if it is the head of one.
    fn value(&mut self, token: &Token<'_>, rest: &mut &[u8], may_open: bool) -> Option<()> {
        match token.major {
            MAJOR_POSITIVE => self.number(op::POSITIVE, token.argument),
            MAJOR_NEGATIVE => self.number(op::NEGATIVE, token.argument),
            MAJOR_BYTES => {
                let bytes = take(rest, token.argument)?;
                if !(may_open && self.inner(bytes)) {
                    self.number(op::BYTES, token.argument);
                    self.strings.extend_from_slice(bytes);
                }
            }
            MAJOR_TEXT => {
                self.number(op::TEXT, token.argument);
                let text = take(rest, token.argument)?;
                self.strings.extend_from_slice(text);
            }
            _ => self.head(token.raw),
        }
        Some(())
    }

    fn number(&mut self, op: u8, number: u64) {
        self.shape.push(op);
        self.numbers.push(number);
    }

    /// Whether a byte string could be taken apart.
    fn inner(&mut self, mut bytes: &[u8]) -> bool {
        let before = (self.shape.len(), self.numbers.len(), self.strings.len());
        self.shape.push(op::OPEN);
        while !bytes.is_empty() {
            let done = token(&mut bytes).and_then(|token| self.value(&token, &mut bytes, false));
            if done.is_none() {
                self.shape.truncate(before.0);
                self.numbers.truncate(before.1);
                self.strings.truncate(before.2);
                return false;
            }
        }
        self.shape.push(op::CLOSE);
        true
    }
}

/// A shape that is read: what an entry is made of, with the columns that its numbers come from.
type Shape<'a> = Vec<Part<'a>>;

enum Part<'a> {
    /// Heads as they are, one behind the other.
    Heads(Vec<u8>),
    /// A number of this major.
    Number(u8, Numbers<'a>),
    /// A string of this major, with its length.
    String(u8, Numbers<'a>),
    Open,
    Close,
}

/// A column that is read.
#[derive(Default)]
struct Numbers<'a> {
    last: u64,
    rest: &'a [u8],
}

impl Numbers<'_> {
    fn next(&mut self) -> Option<u64> {
        self.last = self.last.wrapping_add(unzigzag(varint(&mut self.rest)?));
        Some(self.last)
    }
}

/// Puts the entries together, behind what `out` has, of which at most `max` bytes come; otherwise says what is wrong.
pub(super) fn join(mut bytes: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut part = || {
        let len = varint(&mut bytes)?;
        take(&mut bytes, len)
    };
    let mut shapes = Vec::new();
    loop {
        let ops = part().ok_or("a shape")?;
        if ops.is_empty() {
            break;
        }
        if shapes.len() == SHAPES_MAX {
            return Err("at most 256 shapes");
        }
        shapes.push(shape(ops)?);
    }
    let order = part().ok_or("the shapes of entries")?;
    let mut strings = part().ok_or("strings")?;
    for numbers in shapes.iter_mut().flat_map(columns) {
        numbers.rest = part().ok_or("a column")?;
    }
    for number in order {
        let shape = shapes.get_mut(usize::from(*number)).ok_or("a shape that is there")?;
        join_entry(shape, &mut strings, out, max)?;
    }
    let is_used = strings.is_empty() && shapes.iter_mut().flat_map(columns).all(|c| c.rest.is_empty());
    if is_used && bytes.is_empty() { Ok(()) } else { Err("nothing more") }
}

/// A shape, without its columns yet.
fn shape<'a>(mut ops: &[u8]) -> Result<Shape<'a>, &'static str> {
    let (mut parts, mut is_open) = (Shape::new(), false);
    while let Some((op, rest)) = ops.split_first() {
        ops = rest;
        let part = match *op {
            op::HEAD => {
                let raw = token(&mut ops).ok_or("a head")?.raw;
                if let Some(Part::Heads(heads)) = parts.last_mut() {
                    heads.extend_from_slice(raw);
                    continue;
                }
                Part::Heads(raw.to_vec())
            }
            op::POSITIVE => Part::Number(MAJOR_POSITIVE, Numbers::default()),
            op::NEGATIVE => Part::Number(MAJOR_NEGATIVE, Numbers::default()),
            op::BYTES => Part::String(MAJOR_BYTES, Numbers::default()),
            op::TEXT => Part::String(MAJOR_TEXT, Numbers::default()),
            op::OPEN if !is_open => {
                is_open = true;
                Part::Open
            }
            op::CLOSE if is_open => {
                is_open = false;
                Part::Close
            }
            _ => return Err("a shape of known parts"),
        };
        parts.push(part);
    }
    if is_open { Err("the end of a string") } else { Ok(parts) }
}

fn columns<'s, 'a>(shape: &'s mut Shape<'a>) -> impl Iterator<Item = &'s mut Numbers<'a>> {
    shape.iter_mut().filter_map(|part| match part {
        Part::Number(_, numbers) | Part::String(_, numbers) => Some(numbers),
        Part::Heads(_) | Part::Open | Part::Close => None,
    })
}

/// Appends the next entry of a shape.
fn join_entry(
    shape: &mut Shape<'_>,
    strings: &mut &[u8],
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(), &'static str> {
    let start = out.len();
    out.extend_from_slice(&[0; LEN_LEN]);
    let mut open_at = out.len();
    for part in shape {
        match part {
            Part::Heads(raw) => out.extend_from_slice(raw),
            Part::Number(major, numbers) => put_head(out, *major, numbers.next().ok_or("a number")?),
            Part::String(major, numbers) => {
                let len = numbers.next().ok_or("a length")?;
                put_head(out, *major, len);
                out.extend_from_slice(take(strings, len).ok_or("a whole string")?);
            }
            Part::Open => {
                open_at = out.len();
                out.push(0);
            }
            Part::Close => close(out, open_at),
        }
        if out.len() > max {
            return Err("no more entries than the head says");
        }
    }
    let len = u32::try_from(out.len().saturating_sub(start + LEN_LEN)).map_err(|_| "a short entry")?;
    if let Some(place) = out.get_mut(start..start + LEN_LEN) {
        place.copy_from_slice(&len.to_le_bytes());
    }
    Ok(())
}

/// Makes what stands behind the byte at `at` a byte string, whose head begins at that byte.
fn close(out: &mut Vec<u8>, at: usize) {
    let len = out.len().saturating_sub(at + 1);
    match out.get_mut(at) {
        // Nearly always.
        Some(place) if len <= 23 => *place = MAJOR_BYTES << 5 | len as u8,
        _ => {
            let inner = out.split_off(at + 1);
            out.pop();
            put_head(out, MAJOR_BYTES, len as u64);
            out.extend_from_slice(&inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::encode;
    use crate::cid::Cid;
    use crate::ledger::{Body, Call, Class, Entry, Return};
    use proptest::prelude::*;

    fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
        payloads.iter().flat_map(|p| [&(p.len() as u32).to_le_bytes()[..], p].concat()).collect()
    }

    fn joined(columns: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        join(columns, len, &mut out).map(|()| out)
    }

    fn event(seq: u64, name: u32, body: Body) -> Vec<u8> {
        let request = Body::digest(&encode(&(seq, seq * 48)));
        let call = Call { seq, parent: Some(0), name, class: Class::Read, tick: seq * 1000, request };
        encode(&Entry::Event(call, Return { answer: Ok(body), grant: Some(0), denied: None }))
    }

    #[test]
    fn regular_entries_become_few_shapes_and_come_back() {
        let body = |n: u64| match n % 3 {
            0 => Body::digest(&encode(&(n, "text"))),
            1 => Body::Stored { cid: Cid::of_raw(&n.to_le_bytes()), len_bytes: 1 << (n % 40) },
            _ => Body::inline(&[0xff; 7]).unwrap(),
        };
        let payloads: Vec<_> = (0..600).map(|n| event(n, (n % 3) as u32, body(n))).collect();
        let entries = framed(&payloads);
        let columns = Splitter::default().split(&entries).unwrap();
        assert_eq!(joined(&columns, entries.len()).as_deref(), Ok(&entries[..]));
        assert!(joined(&columns, entries.len() - 1).is_err(), "more than there is room for");
        for cut in 0..columns.len() {
            assert!(joined(&columns[..cut], entries.len()).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn few_or_irregular_entries_are_left_as_they_are() {
        let few: Vec<_> = (0..10).map(|n| event(n, 0, Body::default())).collect();
        assert!(Splitter::default().split(&framed(&few)).is_none());
        let other: Vec<_> = (0..100).map(|n| event(n, n as u32, Body::default())).collect();
        assert!(Splitter::default().split(&framed(&other)).is_none());
        assert!(Splitter::default().split(&framed(&vec![vec![0x18, 0x01]; 100])).is_none(), "a longer head");
    }

    proptest! {
        #[test]
        fn what_is_split_comes_back(
            kinds in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 1..4),
            picks in prop::collection::vec(0..4usize, 64..200),
        ) {
            let entries = framed(&picks.iter().map(|n| kinds[n % kinds.len()].clone()).collect::<Vec<_>>());
            if let Some(columns) = Splitter::default().split(&entries) {
                prop_assert_eq!(joined(&columns, entries.len()), Ok(entries));
            }
        }

        #[test]
        fn any_bytes_give_no_more_than_there_is_room_for(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            let _ = join(&bytes, 1000, &mut out);
            prop_assert!(out.len() <= 1000 + bytes.len() + 9);
        }

        #[test]
        fn a_changed_byte_gives_entries_or_an_error(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let payloads: Vec<_> = (0..80).map(|n| event(n, 0, Body::default())).collect();
            let entries = framed(&payloads);
            let mut columns = Splitter::default().split(&entries).unwrap();
            let at = at.index(columns.len());
            columns[at] = to;
            let _ = joined(&columns, entries.len());
        }
    }
}

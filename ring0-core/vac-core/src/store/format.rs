//! The bytes of packs, indexes and pins. Drawn in `docs/formats.md`.
//!
//! Pure functions from bytes to values and back; nothing here touches a file.
//! Invariants: every decoder takes any bytes and answers `None` or a shorter prefix, never panics;
//! every integer is little-endian; every checksum also covers where the bytes belong (the pack's
//! number, and for a record its place), so bytes that ended up elsewhere do not pass.

use crate::cid::{CID_LEN, Cid};
use crate::limits::STORE_PIN_NAME_MAX_BYTES;

use super::body::Body;

/// Version of packs and indexes that this program writes. It reads all from 1 on, which are the same without some bits of
/// [`Body`].
pub(super) const VERSION: u8 = 2;
/// Version of pins and leases.
const PIN_VERSION: u8 = 1;
/// Length of the header of a pack or an index in bytes.
pub(super) const FILE_HEAD_LEN: usize = 16;
/// Length of a record's header in bytes. [`Body`] says where the object's bytes are.
pub(super) const RECORD_HEAD_LEN: usize = 56;
/// Length of an entry of an index in bytes.
pub(super) const ENTRY_LEN: usize = 48;
/// The first byte of [`RECORD_MARK`], for searching.
pub(super) const RECORD_MARK_FIRST: u8 = 0xd6;

const PACK_MAGIC: [u8; 7] = *b"VACPACK";
const INDEX_MAGIC: [u8; 7] = *b"VACINDX";
const PIN_MAGIC: [u8; 7] = *b"VACPINS";
const LEASE_MAGIC: [u8; 7] = *b"VACLEAS";
/// Not valid UTF-8, so text never looks like a record.
const RECORD_MARK: [u8; 4] = [RECORD_MARK_FIRST, 0xc3, 0xa9, 0x0e];

/// What a file header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Written for this pack, in a version that this program knows.
    Good(u8),
    /// Whole, but of another version: must not be touched.
    OtherVersion(u8),
    /// Torn, rotten, or of another pack.
    Bad,
}

/// Which file a header opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pack,
    Index,
}

impl Kind {
    fn magic(self) -> [u8; 7] {
        match self {
            Self::Pack => PACK_MAGIC,
            Self::Index => INDEX_MAGIC,
        }
    }
}

/// The header of a pack or an index.
pub(super) fn encode_head(kind: Kind, pack: u32) -> [u8; FILE_HEAD_LEN] {
    let mut head = Bytes::<FILE_HEAD_LEN>::new();
    head.put(&kind.magic()).put(&[VERSION]).put(&pack.to_le_bytes());
    head.seal(pack, 0)
}

/// Reads the header of a pack or an index.
pub(super) fn decode_head(kind: Kind, pack: u32, bytes: &[u8]) -> Head {
    decode_head_parts(kind, pack, bytes).unwrap_or(Head::Bad)
}

fn decode_head_parts(kind: Kind, pack: u32, bytes: &[u8]) -> Option<Head> {
    let mut rest = unseal(bytes.get(..FILE_HEAD_LEN)?, pack, 0)?;
    let good = take::<7>(&mut rest)? == kind.magic();
    let [version] = take::<1>(&mut rest)?;
    let good = good && u32::from_le_bytes(take(&mut rest)?) == pack;
    Some(match (good, version) {
        (true, 1..=VERSION) => Head::Good(version),
        (true, other) => Head::OtherVersion(other),
        (false, _) => Head::Bad,
    })
}

/// What a record of a pack says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Where its header starts in the pack.
    pub(super) start: u32,
    /// How the object lies in it.
    pub(super) body: Body,
    /// All bytes of the pack before this place were durable when the record was made.
    pub(super) durable_end: u32,
    /// The object's name.
    pub(super) cid: Cid,
}

impl Record {
    /// Where the next record starts.
    pub(super) fn end(&self) -> u64 {
        self.body.end(self.start)
    }

    /// The header.
    pub(super) fn encode(&self, pack: u32) -> [u8; RECORD_HEAD_LEN] {
        let mut head = Bytes::<RECORD_HEAD_LEN>::new();
        head.put(&RECORD_MARK).put(&self.body.field().to_le_bytes());
        head.put(&u64::from(self.durable_end).to_le_bytes()).put(&self.cid.to_bytes());
        head.seal(pack, self.start)
    }

    /// Reads the header at `start` of pack `pack`.
    pub(super) fn decode(pack: u32, start: u64, bytes: &[u8]) -> Option<Self> {
        // Tested first because a search calls this at every place.
        if !bytes.starts_with(&RECORD_MARK) {
            return None;
        }
        let start = u32::try_from(start).ok()?;
        let mut rest = unseal(bytes.get(..RECORD_HEAD_LEN)?, pack, start)?.get(RECORD_MARK.len()..)?;
        let body = Body::from_field(u32::from_le_bytes(take(&mut rest)?))?;
        let durable_end = u32::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
        let cid = Cid::try_from_bytes(rest)?;
        (durable_end <= start).then_some(Self { start, body, durable_end, cid })
    }
}

/// One entry of an index: what is at one stretch of the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Where the stretch starts in the pack.
    pub start: u32,
    /// What is there.
    pub what: Stretch,
}

/// What is at a stretch of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// The record of an object.
    Object(Cid, Body),
    /// So many bytes that are no readable record.
    Hole(u32),
}

impl IndexEntry {
    /// Where the stretch ends in the pack.
    pub fn end(&self) -> u64 {
        match self.what {
            Stretch::Object(_, body) => body.end(self.start),
            Stretch::Hole(len) => u64::from(self.start) + u64::from(len),
        }
    }

    /// The object that is there, and how it lies.
    pub(super) fn object(&self) -> Option<(Cid, Body)> {
        match self.what {
            Stretch::Object(cid, body) => Some((cid, body)),
            Stretch::Hole(_) => None,
        }
    }

    /// The object that is there.
    pub(super) fn cid(&self) -> Option<Cid> {
        self.object().map(|(cid, _)| cid)
    }

    pub(super) fn encode(&self, pack: u32) -> [u8; ENTRY_LEN] {
        let (field, cid) = match self.what {
            Stretch::Object(cid, body) => (body.field(), cid.to_bytes()),
            Stretch::Hole(len) => (len, [0; CID_LEN]),
        };
        let mut entry = Bytes::<ENTRY_LEN>::new();
        entry.put(&self.start.to_le_bytes()).put(&field.to_le_bytes()).put(&cid);
        entry.seal(pack, 0)
    }

    pub(super) fn decode(pack: u32, bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, pack, 0)?;
        let start = u32::from_le_bytes(take(&mut rest)?);
        let field = u32::from_le_bytes(take(&mut rest)?);
        let what = match rest == [0; CID_LEN] {
            true => Stretch::Hole(Some(field).filter(|len| *len > 0)?),
            false => Stretch::Object(Cid::try_from_bytes(rest)?, Body::from_field(field)?),
        };
        Some(Self { start, what })
    }
}

impl From<&Record> for IndexEntry {
    fn from(record: &Record) -> Self {
        Self { start: record.start, what: Stretch::Object(record.cid, record.body) }
    }
}

/// What can be trusted of an index: its longest good prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedIndex {
    /// The entries, one after the other without a gap, in the order of the pack.
    pub entries: Vec<IndexEntry>,
    /// How many bytes of the index are good; zero if even its header is not.
    pub good_bytes: u64,
    /// Where in the pack the entries end; a reader scans the pack from here.
    pub end: u64,
}

/// Reads the index of pack number `pack`, which is `pack_len` bytes long. Takes any bytes: what
/// does not pass is left out, for the pack itself is the truth.
pub fn parse_index(bytes: &[u8], pack: u32, pack_len: u64) -> ParsedIndex {
    let start = FILE_HEAD_LEN as u64;
    if !matches!(decode_head(Kind::Index, pack, bytes), Head::Good(_)) {
        return ParsedIndex { entries: Vec::new(), good_bytes: 0, end: start };
    }
    let mut parsed = parse_entries(bytes.get(FILE_HEAD_LEN..).unwrap_or_default(), pack, start, pack_len);
    parsed.good_bytes += FILE_HEAD_LEN as u64;
    parsed
}

/// Reads entries without a header, the first of which must be at `from` of the pack.
pub(super) fn parse_entries(bytes: &[u8], pack: u32, from: u64, pack_len: u64) -> ParsedIndex {
    let mut entries = Vec::with_capacity(bytes.len() / ENTRY_LEN);
    let (good_bytes, end) = parse_each(bytes, pack, from, pack_len, |entry| entries.push(entry));
    ParsedIndex { entries, good_bytes, end }
}

/// Reads entries one by one; returns how many bytes are good, and where in the pack they end.
pub(super) fn parse_each(
    bytes: &[u8],
    pack: u32,
    from: u64,
    pack_len: u64,
    mut each: impl FnMut(IndexEntry),
) -> (u64, u64) {
    let (mut good_bytes, mut end) = (0, from);
    for chunk in bytes.chunks_exact(ENTRY_LEN) {
        let Some(entry) = IndexEntry::decode(pack, chunk) else { break };
        if u64::from(entry.start) != end || entry.end() > pack_len {
            break;
        }
        end = entry.end();
        good_bytes += ENTRY_LEN as u64;
        each(entry);
    }
    (good_bytes, end)
}

/// What a lease keeps, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The object.
    pub cid: Cid,
    /// The first moment at which it is kept no more. What it counts is up to those who make leases and collect.
    pub ends: u64,
}

/// The bytes of a pin.
pub(super) fn encode_pin(name: &str, cid: &Cid) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEAD_LEN + CID_LEN + name.len());
    bytes.extend_from_slice(&PIN_MAGIC);
    bytes.push(PIN_VERSION);
    bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&cid.to_bytes());
    bytes.extend_from_slice(name.as_bytes());
    let sum = checksum(&bytes, 0, 0);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a pin.
pub(super) fn decode_pin(bytes: &[u8]) -> Option<(String, Cid)> {
    let mut rest = unseal(bytes, 0, 0)?;
    if take::<7>(&mut rest)? != PIN_MAGIC || take::<1>(&mut rest)? != [PIN_VERSION] {
        return None;
    }
    let len = u32::from_le_bytes(take(&mut rest)?) as usize;
    let cid = Cid::try_from_bytes(&take::<CID_LEN>(&mut rest)?)?;
    if rest.len() != len || len > STORE_PIN_NAME_MAX_BYTES {
        return None;
    }
    Some((str::from_utf8(rest).ok()?.to_owned(), cid))
}

/// The bytes of a lease.
pub(super) fn encode_lease(name: &str, lease: &Lease) -> Vec<u8> {
    let mut bytes = [&LEASE_MAGIC[..], &[PIN_VERSION], &(name.len() as u32).to_le_bytes()].concat();
    bytes.extend_from_slice(&lease.ends.to_le_bytes());
    bytes.extend_from_slice(&lease.cid.to_bytes());
    bytes.extend_from_slice(name.as_bytes());
    let sum = checksum(&bytes, 0, 0);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a lease.
pub(super) fn decode_lease(bytes: &[u8]) -> Option<(String, Lease)> {
    let mut rest = unseal(bytes, 0, 0)?;
    if take::<7>(&mut rest)? != LEASE_MAGIC || take::<1>(&mut rest)? != [PIN_VERSION] {
        return None;
    }
    let len = u32::from_le_bytes(take(&mut rest)?) as usize;
    let ends = u64::from_le_bytes(take(&mut rest)?);
    let cid = Cid::try_from_bytes(&take::<CID_LEN>(&mut rest)?)?;
    if rest.len() != len || len > STORE_PIN_NAME_MAX_BYTES {
        return None;
    }
    Some((str::from_utf8(rest).ok()?.to_owned(), Lease { cid, ends }))
}

/// CRC-32 (IEEE) of `bytes`, then the pack's number, then the place in it.
pub(super) fn checksum(bytes: &[u8], pack: u32, place: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(&((u64::from(place) << 32) | u64::from(pack)).to_le_bytes());
    hasher.finalize()
}

/// `bytes` without the checksum at their end, if it is right.
pub(super) fn unseal(bytes: &[u8], pack: u32, place: u32) -> Option<&[u8]> {
    let (covered, sum) = bytes.split_last_chunk::<4>()?;
    (checksum(covered, pack, place) == u32::from_le_bytes(*sum)).then_some(covered)
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

/// Bytes of a fixed length that are filled from the front and end in a checksum.
struct Bytes<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Bytes<N> {
    fn new() -> Self {
        Self { bytes: [0; N], used: 0 }
    }

    fn put(&mut self, part: &[u8]) -> &mut Self {
        self.bytes[self.used..self.used + part.len()].copy_from_slice(part);
        self.used += part.len();
        self
    }

    fn seal(mut self, pack: u32, place: u32) -> [u8; N] {
        assert_eq!(self.used + 4, N, "a format's parts add up to its length");
        let sum = checksum(&self.bytes[..self.used], pack, place);
        self.put(&sum.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(lens: &[u32]) -> Vec<IndexEntry> {
        let mut at = FILE_HEAD_LEN as u64;
        let entry = |(i, len): (usize, &u32)| {
            let body = Body::new(*len as usize % 1000 + 1, len % 2 == 0);
            let what = match i % 3 {
                2 => Stretch::Hole(len % 1000 + 1),
                _ => Stretch::Object(Cid::of_raw(&i.to_le_bytes()), body),
            };
            let entry = IndexEntry { start: at as u32, what };
            at = entry.end();
            entry
        };
        lens.iter().enumerate().map(entry).collect()
    }

    fn index(pack: u32, entries: &[IndexEntry]) -> Vec<u8> {
        let mut bytes = encode_head(Kind::Index, pack).to_vec();
        entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.encode(pack)));
        bytes
    }

    #[test]
    fn heads_name_their_pack_and_version() {
        let head = encode_head(Kind::Pack, 7);
        assert_eq!(decode_head(Kind::Pack, 7, &head), Head::Good(VERSION));
        assert_eq!(decode_head(Kind::Pack, 8, &head), Head::Bad);
        assert_eq!(decode_head(Kind::Index, 7, &head), Head::Bad);
        assert_eq!(decode_head(Kind::Pack, 7, &head[..15]), Head::Bad);
        for (version, expected) in
            [(1, Head::Good(1)), (0, Head::OtherVersion(0)), (9, Head::OtherVersion(9))]
        {
            let mut other = Bytes::<FILE_HEAD_LEN>::new();
            other.put(&PACK_MAGIC).put(&[version]).put(&7u32.to_le_bytes());
            assert_eq!(decode_head(Kind::Pack, 7, &other.seal(7, 0)), expected);
        }
    }

    #[test]
    fn a_record_passes_only_at_its_own_place() {
        let record =
            Record { start: 500, body: Body::new(3, false), durable_end: 16, cid: Cid::of_raw(b"abc") };
        let bytes = record.encode(1);
        assert_eq!(Record::decode(1, 500, &bytes), Some(record));
        assert_eq!(Record::decode(1, 501, &bytes), None);
        assert_eq!(Record::decode(2, 500, &bytes), None);
        let late = Record { durable_end: 501, ..record };
        assert_eq!(Record::decode(1, 500, &late.encode(1)), None);
        for bit in 0..RECORD_HEAD_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(1, 500, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn pins_round_trip_and_flips_are_seen() {
        let bytes = encode_pin("study/α", &Cid::of_raw(b"x"));
        assert_eq!(decode_pin(&bytes), Some(("study/α".to_owned(), Cid::of_raw(b"x"))));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_pin(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn leases_round_trip_and_flips_are_seen() {
        let lease = Lease { cid: Cid::of_raw(b"x"), ends: 1 << 40 };
        let bytes = encode_lease("upload", &lease);
        assert_eq!(decode_lease(&bytes), Some(("upload".to_owned(), lease)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_lease(&flipped), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index(bytes in proptest::collection::vec(any::<u8>(), 0..400), pack: u32, len: u64) {
            let parsed = parse_index(&bytes, pack, len);
            prop_assert!(parsed.good_bytes <= bytes.len() as u64);
            let mut headed = encode_head(Kind::Index, pack).to_vec();
            headed.extend_from_slice(&bytes);
            parse_index(&headed, pack, len);
            Record::decode(pack, len, &bytes);
            decode_pin(&bytes);
            decode_lease(&bytes);
        }

        #[test]
        fn a_damaged_index_is_a_prefix(
            lens in proptest::collection::vec(any::<u32>(), 0..20),
            cut: prop::sample::Index,
            flip: prop::sample::Index,
        ) {
            let entries = entries(&lens);
            let mut bytes = index(3, &entries);
            let whole = parse_index(&bytes, 3, u64::MAX);
            prop_assert_eq!(&whole.entries, &entries);
            prop_assert_eq!(whole.good_bytes, bytes.len() as u64);
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let kept = cut.index(bytes.len() + 1);
            let parsed = parse_index(&bytes[..kept], 3, u64::MAX);
            prop_assert!(entries.starts_with(&parsed.entries));
            let untouched = (kept.min(bit / 8).saturating_sub(FILE_HEAD_LEN)) / ENTRY_LEN;
            prop_assert_eq!(parsed.entries.len(), untouched);
        }
    }
}

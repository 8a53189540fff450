//! Blocks: how entries lie in a segment of version 2 or 3. Drawn in `docs/formats.md`.
//!
//! A block holds some entries, each as its length (u32, little-endian) and its payload, as they are or
//! compressed. Compression is below the hash chain: how a block was packed changes no head.
//!
//! Invariants: what a block unpacks to is bounded by [`LEDGER_BLOCK_MAX_BYTES`] before anything is unpacked;
//! its checksum is checked before its bytes are looked at.

use std::io;

use memchr::memmem;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::compress_bound;

use super::columns::{self, Splitter};
use crate::fault::Corrupt;
use crate::limits::{FRAME_PAYLOAD_MAX_BYTES, LEDGER_BLOCK_BYTES, LEDGER_BLOCK_MAX_BYTES};

/// What compression begins with: names of functions, and entries as runs begin with them, so that the ledger
/// of a short run is short too. A part of the format: another one is another version.
const DICTIONARY: &[u8] = include_bytes!("dictionary-2.bin");
/// Fast enough for the thread that writes to keep up with one that does nothing but append.
const LEVEL: i32 = 1;
/// The first bytes of a block; the last one says how it is packed.
const MAGIC: [u8; 3] = [0xb1, 0x0c, 0xd7];
/// The entries as they are.
const PLAIN: u8 = 0;
/// One zstd frame.
const ZSTD: u8 = 1;
/// One zstd frame of the entries in columns, which are no longer than the entries.
const COLUMNS: u8 = 2;
/// Bytes before the packed ones: magic and method, two lengths, what was durable, checksum of the packed bytes,
/// checksum of all this. The head has its own, so that a search for heads looks at no byte twice.
const HEAD_LEN: usize = 24;
/// Bytes before each payload.
const LEN_LEN: usize = 4;

/// Packs groups of entries into blocks.
pub(super) struct Packer {
    zstd: Compressor<'static>,
    splitter: Splitter,
    /// The blocks of a group, to be used again.
    blocks: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        let zstd = Compressor::with_dictionary(LEVEL, DICTIONARY)?;
        Ok(Self { zstd, splitter: Splitter::default(), blocks: Vec::new() })
    }

    /// The blocks of `group`, written to a segment of which `durable_bytes` are durable.
    pub(super) fn pack(&mut self, group: &[u8], durable_bytes: u64) -> io::Result<&[u8]> {
        self.blocks.clear();
        let mut rest = group;
        while !rest.is_empty() {
            let (entries, after) = rest.split_at(block_len(rest));
            self.pack_block(entries, durable_bytes)?;
            rest = after;
        }
        Ok(&self.blocks)
    }

    fn pack_block(&mut self, entries: &[u8], durable_bytes: u64) -> io::Result<()> {
        debug_assert!(entries.len() <= LEDGER_BLOCK_MAX_BYTES);
        let start = self.blocks.len();
        self.blocks.resize(start + HEAD_LEN + compress_bound(entries.len()), 0);
        let (head, packed) = self.blocks[start..].split_at_mut(HEAD_LEN);
        let columns = self.splitter.split(entries).filter(|columns| columns.len() <= entries.len());
        let mut method = if columns.is_some() { COLUMNS } else { ZSTD };
        let mut len = self.zstd.compress_to_buffer(columns.as_deref().unwrap_or(entries), packed)?;
        if len >= entries.len() {
            packed[..entries.len()].copy_from_slice(entries);
            (len, method) = (entries.len(), PLAIN);
        }
        head[..3].copy_from_slice(&MAGIC);
        head[3] = method;
        head[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        head[8..12].copy_from_slice(&(entries.len() as u32).to_le_bytes());
        // A segment is full long before this would not fit.
        head[12..16].copy_from_slice(&u32::try_from(durable_bytes).unwrap_or(u32::MAX).to_le_bytes());
        head[16..20].copy_from_slice(&crc32fast::hash(&packed[..len]).to_le_bytes());
        let crc = crc32fast::hash(&head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        self.blocks.truncate(start + HEAD_LEN + len);
        Ok(())
    }
}

/// Length of the first block's entries: whole entries, up to the first that is enough.
fn block_len(entries: &[u8]) -> usize {
    let mut at = 0;
    while at < LEDGER_BLOCK_BYTES {
        match entries.get(at..).and_then(|rest| rest.first_chunk::<LEN_LEN>()) {
            Some(len) => at += LEN_LEN + u32::from_le_bytes(*len) as usize,
            None => break,
        }
    }
    at.min(entries.len())
}

/// The head of a block, as it was written.
struct Head {
    method: u8,
    packed_len: usize,
    unpacked_len: usize,
    durable_bytes: u64,
    packed_crc: u32,
}

impl Head {
    /// The head at the beginning of `bytes`; otherwise what was expected, and what is there.
    fn parse(bytes: &[u8]) -> Result<Self, (String, String)> {
        let Some(head) = bytes.first_chunk::<HEAD_LEN>() else {
            return Err((format!("{HEAD_LEN} bytes"), format!("{} bytes", bytes.len())));
        };
        let &[m0, m1, m2, method, ref fields @ ..] = head;
        if [m0, m1, m2] != MAGIC {
            return Err(("the beginning of a block".to_owned(), format!("{m0:02x} {m1:02x} {m2:02x}")));
        }
        let mut words = fields.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        let mut next = || words.next().unwrap_or_default();
        let (packed_len, unpacked_len) = (next() as usize, next() as usize);
        let (durable_bytes, packed_crc, expected) = (u64::from(next()), next(), next());
        let got = crc32fast::hash(head.get(..HEAD_LEN - 4).unwrap_or_default());
        if expected != got {
            return Err((format!("the checksum {expected:#010x}"), format!("{got:#010x}")));
        }
        Ok(Self { method, packed_len, unpacked_len, durable_bytes, packed_crc })
    }

    /// The packed bytes, which are at the beginning of `rest`.
    fn packed<'a>(&self, rest: &'a [u8]) -> Result<&'a [u8], (String, String)> {
        let Some(packed) = rest.get(..self.packed_len) else {
            return Err((format!("{} bytes", self.packed_len), format!("{} bytes", rest.len())));
        };
        match crc32fast::hash(packed) {
            got if got == self.packed_crc => Ok(packed),
            got => Err((format!("bytes of the checksum {:#010x}", self.packed_crc), format!("{got:#010x}"))),
        }
    }
}

/// Why a block has no entries.
pub(super) enum Bad {
    /// It may not have been written wholly.
    Torn(Corrupt),
    /// It was written like this.
    Wrong(Corrupt),
}

/// Reads the entries of blocks, one after the other.
pub(super) struct Unpacker {
    zstd: Decompressor<'static>,
    /// Columns, before they are put together.
    columns: Vec<u8>,
    /// The entries of the current block, and how far they were read.
    entries: Vec<u8>,
    at: usize,
}

impl Unpacker {
    pub(super) fn new() -> io::Result<Self> {
        let zstd = Decompressor::with_dictionary(DICTIONARY)?;
        Ok(Self { zstd, columns: Vec::new(), entries: Vec::new(), at: 0 })
    }

    /// Whether all entries of the current block were read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.entries.len()
    }

    /// The next payload of the current block.
    pub(super) fn payload(&mut self, place: &str) -> Result<&[u8], Corrupt> {
        let rest = self.entries.get(self.at..).unwrap_or_default();
        let wrong = |expected: &str, got: String| {
            Corrupt::new("ledger block", format!("{place}, {} bytes in", self.at), expected, got)
        };
        let Some((len, rest)) = rest.split_first_chunk::<LEN_LEN>() else {
            return Err(wrong("the length of an entry", format!("{} bytes", rest.len())));
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > FRAME_PAYLOAD_MAX_BYTES {
            return Err(wrong(&format!("at most {FRAME_PAYLOAD_MAX_BYTES} bytes"), format!("{len} bytes")));
        }
        let payload =
            rest.get(..len).ok_or_else(|| wrong("a whole entry", format!("{} bytes", rest.len())))?;
        self.at += LEN_LEN + len;
        Ok(payload)
    }

    /// Goes on with the block at `at` of `bytes`; returns where the next one begins.
    pub(super) fn load(&mut self, bytes: &[u8], at: usize, place: &str) -> Result<usize, Bad> {
        let wrong = |expected: String, got: String| {
            Corrupt::new("ledger block", format!("{place} at byte {at}"), expected, got)
        };
        let torn = |(expected, got)| Bad::Torn(wrong(expected, got));
        let head = Head::parse(bytes.get(at..).unwrap_or_default()).map_err(torn)?;
        let packed = head.packed(bytes.get(at + HEAD_LEN..).unwrap_or_default()).map_err(torn)?;
        self.unpack(&head, packed).map_err(|(expected, got)| Bad::Wrong(wrong(expected, got)))?;
        Ok(at + HEAD_LEN + packed.len())
    }

    fn unpack(&mut self, head: &Head, packed: &[u8]) -> Result<(), (String, String)> {
        self.at = 0;
        self.entries.clear();
        let len = head.unpacked_len;
        if len > LEDGER_BLOCK_MAX_BYTES {
            return Err((
                format!("at most {LEDGER_BLOCK_MAX_BYTES} bytes of entries"),
                format!("{len} bytes"),
            ));
        }
        match head.method {
            PLAIN => self.entries.extend_from_slice(packed),
            ZSTD => unzip(&mut self.zstd, packed, len, &mut self.entries)?,
            COLUMNS => {
                unzip(&mut self.zstd, packed, len, &mut self.columns)?;
                let joined = columns::join(&self.columns, len, &mut self.entries);
                joined
                    .map_err(|expected| (format!("columns with {expected}"), "something else".to_owned()))?;
            }
            other => return Err(("packed as 0, 1 or 2".to_owned(), other.to_string())),
        }
        match self.entries.len() {
            got if got == len && got > 0 => Ok(()),
            got => Err((format!("{len} bytes of entries, and some"), format!("{got} bytes"))),
        }
    }
}

/// Unpacks at most `max` bytes, which is all that there is room for.
fn unzip(
    zstd: &mut Decompressor<'_>,
    packed: &[u8],
    max: usize,
    to: &mut Vec<u8>,
) -> Result<(), (String, String)> {
    to.clear();
    to.resize(max, 0);
    let unpacked = zstd.decompress_to_buffer(packed, &mut to[..]);
    let unpacked = unpacked.map_err(|e| ("entries packed with zstd".to_owned(), e.to_string()))?;
    to.truncate(unpacked);
    Ok(())
}

/// Where the blocks behind `at` begin, as long as one follows the other. Only their heads are looked at.
pub(super) fn starts(bytes: &[u8], mut at: usize) -> Vec<usize> {
    let mut starts = Vec::new();
    while let Ok(head) = Head::parse(bytes.get(at..).unwrap_or_default()) {
        starts.push(at);
        at = at.saturating_add(HEAD_LEN).saturating_add(head.packed_len);
    }
    starts
}

/// Whether the head of a block behind `at` says that bytes from there on were durable when it was written.
pub(super) fn is_durable_after(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    memmem::find_iter(rest, &MAGIC).any(|found| {
        let head = Head::parse(rest.get(found..).unwrap_or_default());
        // No head can say more than what lies before it: one that does is a guest's bytes.
        let place = (at + 1).saturating_add(found) as u64;
        head.is_ok_and(|head| (at as u64 + 1..=place).contains(&head.durable_bytes))
    })
}

//! How an object lies in its record of a pack.
//!
//! ```text
//! | header | body |        | header | filler | body |
//!                                            ^ a multiple of a block of the file
//! ```
//!
//! A page of some length lies on whole blocks, so that a read around the system's cache takes no block more than the page has. What it
//! costs is at most a block, which is why short bodies follow their headers directly.
//!
//! Invariant: where a body starts and ends follows from where its record starts and from this value alone. It is in the
//! record and in each index, in the bits of a length that no small object needs.

use std::borrow::Cow;
use std::fmt;

use crate::cid::Cid;
use crate::limits::{STORE_BLOCK_BYTES, STORE_LARGE_MIN_BYTES};

use super::compress::decompress;
use super::format::RECORD_HEAD_LEN;

/// The body begins at a multiple of [`STORE_BLOCK_BYTES`].
const ALIGNED: u32 = 1 << 22;
/// The body is the object compressed. Never with [`ALIGNED`].
const COMPRESSED: u32 = 1 << 23;
/// The bits of the length. A run of the index has 24 bits for all of this.
const LEN: u32 = ALIGNED - 1;

const _: () = assert!(STORE_LARGE_MIN_BYTES <= LEN as usize);

/// The length of a body and how it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Body(u32);

impl Body {
    /// A body of `len` bytes, which is less than [`STORE_LARGE_MIN_BYTES`].
    pub(super) fn new(len: usize, is_aligned: bool) -> Self {
        debug_assert!(len < STORE_LARGE_MIN_BYTES);
        Self(len as u32 | if is_aligned { ALIGNED } else { 0 })
    }

    /// A body of `len` bytes that is an object [compressed](super::compress).
    pub(super) fn compressed(len: usize) -> Self {
        debug_assert!(len < STORE_LARGE_MIN_BYTES);
        Self(len as u32 | COMPRESSED)
    }

    /// What `field` of a record or an index says.
    pub(super) fn from_field(field: u32) -> Option<Self> {
        let body = Self(field);
        let is_known = matches!(field & !LEN, 0 | ALIGNED | COMPRESSED);
        (is_known && (body.len() as usize) < STORE_LARGE_MIN_BYTES).then_some(body)
    }

    /// What stands for it in a record or an index: at most 24 bits.
    pub(super) fn field(self) -> u32 {
        self.0
    }

    /// Whether it is the object compressed.
    pub(super) fn is_compressed(self) -> bool {
        self.0 & COMPRESSED != 0
    }

    /// Its length in bytes.
    pub(super) fn len(self) -> u32 {
        self.0 & LEN
    }

    /// Where it starts, if its record starts at `record`.
    pub(super) fn start(self, record: u32) -> u64 {
        let after_head = u64::from(record) + RECORD_HEAD_LEN as u64;
        match self.0 & ALIGNED {
            0 => after_head,
            _ => after_head.next_multiple_of(STORE_BLOCK_BYTES as u64),
        }
    }

    /// Where it ends, if its record starts at `record`.
    pub(super) fn end(self, record: u32) -> u64 {
        self.start(record) + u64::from(self.len())
    }

    /// The object `cid`, whose body is `stored`; or what that is instead.
    pub(super) fn object<'a>(self, cid: &Cid, stored: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Instead> {
        let object = match self.is_compressed() {
            true => Cow::Owned(decompress(&stored).ok_or(Instead::NotCompressed)?),
            false => stored,
        };
        let got = Cid::of(cid.codec(), &object);
        if got == *cid { Ok(object) } else { Err(Instead::Other(got)) }
    }
}

/// What is in the place of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    /// Bytes of this name.
    Other(Cid),
    /// Bytes that were to be decompressed, and cannot be.
    NotCompressed,
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(cid) => cid.fmt(f),
            Self::NotCompressed => f.write_str("bytes that cannot be decompressed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aligned_body_lies_on_whole_blocks() {
        let page = Body::new(65_536, true);
        for (record, start) in [(16, 4096), (4039, 4096), (4040, 4096), (4041, 8192), (8192, 12_288)] {
            assert_eq!((page.start(record), page.end(record)), (start, start + 65_536), "record at {record}");
        }
        // Nor does a sum of places overflow, whatever a file says.
        assert_eq!(page.start(u32::MAX), (1 << 32) + 4096);
        let plain = Body::new(100, false);
        assert_eq!((plain.start(16), plain.end(16)), (72, 172));
    }

    #[test]
    fn a_field_is_what_was_written_or_nothing() {
        for body in [
            Body::new(0, false),
            Body::new(65_536, true),
            Body::new((1 << 20) - 1, false),
            Body::compressed(9),
        ] {
            assert_eq!(Body::from_field(body.field()), Some(body));
            assert!(body.field() < 1 << 24);
        }
        for field in [1 << 20, 1 << 21, ALIGNED | 1 << 20, ALIGNED | COMPRESSED | 9, 1 << 24, u32::MAX] {
            assert_eq!(Body::from_field(field), None, "{field:#x}");
        }
    }
}

//! The append-only record of one run.
//!
//! A run is a list of [`Entry`]s under a BLAKE3 hash chain. The entries stand, in checksummed
//! blocks that are compressed, in segment files `runs/ID.0000`, `runs/ID.0001`, … and bodies longer than
//! 80 bytes stand in the store. After the outcome is durable, a small file `runs/ID.close`
//! repeats the final head, so that a ledger which lost its end is not taken for a crashed run.
//!
//! What differs between two equal runs (wall time, host paths, when groups were committed) is
//! kept in [`Entry::Note`] and [`Entry::Mark`], which the chain does not cover. So equal runs
//! have equal heads.
//!
//! This module knows nothing of time: its caller decides when a group is committed.

use std::fmt;
use std::str::FromStr;

use crate::fault::{Usage, quote};
use crate::limits::CHAIN_LINK_MIN_BYTES;

mod block;
mod columns;
mod entry;
mod frame;
mod last;
mod reader;
mod remove;
mod writer;

pub use entry::{Body, Call, Class, Entry, Field, Header, NameId, Outcome, Return, Seq};
pub use frame::{Frames, Layout, Segment};
pub use last::last_entry;
pub use reader::{Reader, Tail, close_record, is_running, runs, segments};
pub use remove::remove;
pub use writer::{Committer, Ledger};

/// The folder of all runs.
pub const RUNS_DIR: &str = "runs";

/// The identity of a run: 16 characters `0-9a-v`, of which the first ten are the start time in
/// milliseconds since 1970 (base32hex, so that names sort by time) and the rest are random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId([u8; RunId::LEN]);

impl RunId {
    /// Length in characters.
    pub const LEN: usize = 16;
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

    /// The identity of a run that starts at `unix_ms`; `random` tells runs of one instant apart.
    pub fn new(unix_ms: u64, random: u32) -> Self {
        // 50 bits of time reach the year 37648; 30 bits of randomness follow.
        let bits = (u128::from(unix_ms) & ((1 << 50) - 1)) << 30 | u128::from(random >> 2);
        let mut text = [0; Self::LEN];
        for (i, c) in text.iter_mut().enumerate() {
            let index = (bits >> (5 * (Self::LEN - 1 - i))) & 31;
            *c = Self::ALPHABET.get(index as usize).copied().unwrap_or(b'0');
        }
        Self(text)
    }

    /// The sixteen characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RunId {
    type Err = Usage;

    fn from_str(text: &str) -> Result<Self, Usage> {
        let id: Option<[u8; Self::LEN]> = text.as_bytes().try_into().ok();
        match id {
            Some(id) if id.iter().all(|c| Self::ALPHABET.contains(c)) => Ok(Self(id)),
            _ => Err(Usage::new(format!("`{}` is not a run: expected 16 characters 0-9a-v", quote(text)))
                .hint("`vac runs` lists them")),
        }
    }
}

/// The head of a run's hash chain: it names every chained entry, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head([u8; Head::LEN]);

impl Head {
    /// Length in bytes.
    pub const LEN: usize = 32;
    /// Before the first entry.
    pub const START: Self = Self([0; 32]);

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A head from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash chain over the payloads of a run's chained entries, in links.
///
/// A link is a run of entries, each as its length (u32, little-endian) and its payload; it ends
/// with the entry that brings it to [`CHAIN_LINK_MIN_BYTES`], which depends on nothing but the
/// entries. Its head is `BLAKE3-keyed(key, head before || link)`, the key being
/// `BLAKE3-derive-key("vac ledger chain 1", "")`. The head of a link that has not ended yet is
/// computed the same way; that of an empty one is the head before.
#[derive(Debug, Clone)]
struct Chain {
    key: [u8; 32],
    /// The head before, and the link: together, so that BLAKE3 sees them in one piece, which it
    /// hashes twice as fast as two.
    link: Vec<u8>,
    entries: u64,
}

impl Chain {
    fn new() -> Self {
        let key = blake3::derive_key("vac ledger chain 1", b"");
        let mut link = Vec::with_capacity(2 * CHAIN_LINK_MIN_BYTES);
        link.extend_from_slice(Head::START.as_bytes());
        Self { key, link, entries: 0 }
    }

    fn add(&mut self, payload: &[u8]) {
        self.link.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.link.extend_from_slice(payload);
        self.entries += 1;
        if self.link.len() >= Head::LEN + CHAIN_LINK_MIN_BYTES {
            let head = self.head();
            self.link.clear();
            self.link.extend_from_slice(head.as_bytes());
        }
    }

    /// The head after the entries so far.
    fn head(&self) -> Head {
        match <[u8; Head::LEN]>::try_from(self.link.as_slice()) {
            Ok(before) => Head(before),
            Err(_) => Head(*blake3::keyed_hash(&self.key, &self.link).as_bytes()),
        }
    }
}

fn segment_path(run: RunId, number: u32) -> String {
    format!("{RUNS_DIR}/{run}.{number:04}")
}

fn close_path(run: RunId) -> String {
    format!("{RUNS_DIR}/{run}.close")
}

#[cfg(test)]
mod tests;

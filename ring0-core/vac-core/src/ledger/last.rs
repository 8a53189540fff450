//! The end of a ledger, found without reading what is before it.
//!
//! What is found here was checked by nothing but the checksums of its block: it says what a reader will come to if
//! the ledger is whole, and only that reader proves it.

use std::sync::Arc;

use super::block::{self, Unpacker};
use super::{Entry, Layout, RunId, Segment, segments};
use crate::canon;
use crate::limits::SEGMENT_READ_MAX_BYTES;
use crate::storage::{Storage, read_file};

/// An outcome is followed by no more than a mark and a note: it is in the last block, or the one before.
const BLOCKS: usize = 2;

/// The [`Entry::Close`] of `run`; `None` if the run did not end, or if only a reader can tell: because the ledger is
/// of an older version, or damaged.
pub fn last_entry(storage: &Arc<dyn Storage>, run: RunId) -> Option<Entry> {
    let paths = segments(&**storage, run);
    let number = u32::try_from(paths.len().checked_sub(1)?).ok()?;
    let bytes = read_file(&**storage, paths.last()?, SEGMENT_READ_MAX_BYTES).ok()?;
    if (Segment { run, number }).check(&bytes, "").ok()? == Layout::Frames {
        return None;
    }
    let mut unpacker = Unpacker::new().ok()?;
    let starts = block::starts(&bytes, Segment::LEN);
    starts.iter().rev().take(BLOCKS).find_map(|at| close_in(&mut unpacker, &bytes, *at))
}

/// The last outcome in the block at `at`.
fn close_in(unpacker: &mut Unpacker, bytes: &[u8], at: usize) -> Option<Entry> {
    unpacker.load(bytes, at, "").ok()?;
    let mut close = None;
    while !unpacker.is_at_end() {
        let entry = canon::decode::<Entry>(unpacker.payload("").ok()?, "").ok()?;
        close = Some(entry).filter(|entry| matches!(entry, Entry::Close { .. })).or(close);
    }
    close
}

//! LA128: memory of 128-bit addresses, larger than the machine, in pages that prove themselves.
//!
//! An address is a shard and an offset. A [`Space`] says what is at each address; the [`Pager`] keeps what
//! is in use in frames, up to a budget, and moves the rest to a [`Tier`]. What is not mapped holds what its
//! shard's [`Backing`] says, and costs nothing. A snapshot is another space with the same maps: it costs
//! nothing either, and the first write to a page copies it. [`Pager::commit`] makes a space durable and
//! returns its root: a CID that names every byte.
//!
//! ```text
//! read:    hint -> frame -> bytes                      a hit: no map, no lock
//!          map -> CID -> frame -> bytes                another space had it
//!          map -> CID -> tier, verified -> frame       a miss
//! write:   hint of this epoch -> frame                 written before
//!          map -> old page -> new frame, new version   the first write since a snapshot or commit
//! commit:  versions -> hashes -> tier, nodes bottom up -> tier, root -> tier, one sync
//! ```
//!
//! Not shared memory: a pager is driven by one caller at a time. Not a cache of the host's: nothing that is
//! answered depends on what is resident.
//!
//! Invariants:
//! - Bytes that come from the tier are given out only after they were hashed to their CID.
//! - A dirty page leaves its frame only after the tier took it; after a failure it is still there.
//! - Equal contents have equal roots, whatever was written in between.
//! - Running out of a quota changes nothing: neither pages nor who is resident.

mod ahead;
mod backing;
mod buffer;
mod chain;
mod changed;
mod fetch;
mod frames;
mod hints;
mod io;
mod map;
mod node;
mod nodes;
mod pager;
pub mod policy;
mod proof;
mod resident;
mod root;
mod seal;
#[cfg(test)]
mod tests;
mod through;
mod tier;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::cid::Cid;
use crate::fault::{AbortKind, Fault, HostAbort, Result, Usage};
use crate::limits::{MEMORY_NODES_BYTES, MEMORY_PAGE_BYTES, MEMORY_SHARDS_MAX};

use changed::Changed;
use fetch::Fetcher;
use frames::Frames;
use hints::{Hints, Of};
use nodes::Nodes;
use policy::PolicyKind;
use root::Shard;

pub use chain::{Chain, Event, EventKind, Keeps, TierStats};
pub use fetch::{Direct, Io};
pub use io::Advice;
pub use pager::Range;
pub use proof::{Mapping, Proof, Proven, verify_page};
pub use root::{Backing, made_page, page_len_of};
pub use tier::{Spot, Tier};

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct La128 {
    /// Which shard.
    pub shard: u64,
    /// Which byte of it.
    pub offset: u64,
}

/// Makes the pages of shards that no one wrote. A pure function: equal arguments give equal bytes, on every
/// machine and in every version that has the same name.
pub trait Generator: Send + Sync {
    /// Writes all of `to`, page number `page` of the shard with this seed.
    fn fill(&self, seed: &[u8; 32], page: u64, to: &mut [u8]);
}

/// The generator that is always there: the output stream of BLAKE3, keyed with the seed, over the page's
/// number in eight bytes, little-endian.
pub const BLAKE3_STREAM: &str = "blake3-stream-1";

struct Blake3Stream;

impl Generator for Blake3Stream {
    fn fill(&self, seed: &[u8; 32], page: u64, to: &mut [u8]) {
        blake3::Hasher::new_keyed(seed).update(&page.to_le_bytes()).finalize_xof().fill(to);
    }
}

/// How a pager is made.
pub struct Settings {
    /// Bytes of a page: a power of two.
    pub page_len: usize,
    /// Bytes of all frames together, and of the buffers that pages are read through; of these one page in 32 at most counts.
    pub budget_bytes: usize,
    /// Bytes of the nodes of maps, changed and unchanged ones together.
    pub nodes_bytes: usize,
    /// Which page leaves.
    pub policy: PolicyKind,
    /// Threads that hash the pages of a commit.
    pub threads: usize,
    /// How pages of a batch are read.
    pub io: Io,
    /// Which pages are read around the system's cache.
    pub direct: Direct,
    /// Generators by name, beside [`BLAKE3_STREAM`].
    pub generators: BTreeMap<String, Arc<dyn Generator>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page_len: MEMORY_PAGE_BYTES,
            budget_bytes: 64 << 20,
            nodes_bytes: MEMORY_NODES_BYTES,
            policy: PolicyKind::default(),
            threads: 1,
            io: Io::default(),
            direct: Direct::default(),
            generators: BTreeMap::new(),
        }
    }
}

/// What a space may use. `None` is no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Pages that are mapped.
    pub mapped_max: Option<u64>,
    /// Pages that were written since the last commit, or since changed nodes were written to the tier.
    pub dirty_max: Option<u64>,
    /// Pages that are pinned.
    pub pinned_max: Option<u64>,
    /// Pages in memory of those that came for this space. One more makes its own oldest leave, and nobody else's.
    pub resident_max: Option<u64>,
    /// Bytes from and to the tier; see [`Space::renew_io`].
    pub io_max_bytes: Option<u64>,
}

/// What a space uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Pages that were mapped by it, less those it unmapped.
    pub mapped: u64,
    /// Pages that were written since the last commit, or since changed nodes were written to the tier.
    pub dirty: u64,
    /// Pages that are pinned.
    pub pinned: u64,
    /// Bytes from and to the tier.
    pub io_bytes: u64,
}

/// What the pager did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Pages that were found in a frame.
    pub hits: u64,
    /// Pages that were not, and had to be read or made.
    pub misses: u64,
    /// Frames that were emptied for another page.
    pub evictions: u64,
    /// Dirty pages among them, which were written to the tier first.
    pub write_backs: u64,
    /// Pages that were read from the tier.
    pub page_reads: u64,
    /// Nodes of maps that were read from the tier.
    pub node_reads: u64,
    /// Frames that hold a page now.
    pub resident: u64,
    /// Frames that are pinned now.
    pub pinned: u64,
    /// Pages that were read ahead by a guess.
    pub ahead: u64,
    /// Those of them that were used.
    pub ahead_used: u64,
    /// Those of them that left unused.
    pub ahead_wasted: u64,
    /// Whether guesses were so bad that none is made.
    pub ahead_is_off: bool,
    /// Batches that pages were read in.
    pub batches: u64,
}

/// What is at each address.
pub struct Space {
    shards: Arc<BTreeMap<u64, Shard>>,
    /// Tells it from the other spaces of its pager.
    id: u64,
    /// Versions of this epoch are this space's alone.
    epoch: u64,
    changed: Changed,
    /// Where a pinned page is, unless it holds zeros, and how often it is pinned.
    pins: BTreeMap<(u64, u64), (Option<frames::Place>, u32)>,
    patterns: ahead::Patterns,
    /// Where the pages are that came for it, while it has a quota of them: the oldest first.
    resident: VecDeque<frames::Place>,
    /// The quota of input and output refused something.
    is_io_over: bool,
    quota: Quota,
    used: Used,
}

/// Moves pages between frames and a tier.
pub struct Pager {
    tier: Arc<dyn Tier>,
    frames: Frames,
    fetcher: Fetcher,
    accuracy: ahead::Accuracy,
    /// Of the objects behind shards, by name.
    parts: BTreeMap<Cid, Arc<backing::Parts>>,
    /// Frames with pages that were read ahead or asked for, and not used yet: the oldest first.
    waiting: VecDeque<u32>,
    nodes: Nodes,
    nodes_bytes: usize,
    hints: Hints,
    /// Bytes of the changed nodes of all spaces.
    changed_bytes: Arc<AtomicUsize>,
    page_len: usize,
    threads: usize,
    generators: BTreeMap<String, Arc<dyn Generator>>,
    next_epoch: u64,
    stats: Stats,
}

impl Space {
    /// Limits what this space may use from now on.
    pub fn set_quota(&mut self, quota: Quota) {
        self.quota = quota;
    }

    fn of(&self, shard: u64, page: u64) -> Of {
        Of { space: self.id, shard, page }
    }

    /// What it uses.
    pub fn used(&self) -> Used {
        self.used
    }

    /// Begins another slice of input and output: its bytes count from zero again.
    pub fn renew_io(&mut self) {
        (self.used.io_bytes, self.is_io_over) = (0, false);
    }

    /// Whether something was refused in this slice because of its bytes. Unlike the other quotas this one depends on
    /// what is in memory.
    pub fn is_io_over(&self) -> bool {
        self.is_io_over
    }

    /// The shards that have a backing or a page, with their backing.
    pub fn shards(&self) -> impl Iterator<Item = (u64, &Backing)> {
        self.shards.iter().map(|(number, shard)| (*number, &shard.backing))
    }

    /// Says what the pages of `shard` hold that are not mapped. Only for a shard without pages.
    pub fn set_backing(&mut self, shard: u64, backing: Backing) -> Result<()> {
        let it = self.shard_mut(shard)?;
        if it.map.link().is_some() {
            return Err(Usage::new(format!("shard {shard} has pages: its backing cannot be changed")).into());
        }
        it.backing = backing;
        Ok(())
    }

    fn shard_mut(&mut self, shard: u64) -> Result<&mut Shard> {
        if self.shards.len() >= MEMORY_SHARDS_MAX && !self.shards.contains_key(&shard) {
            return Err(over("shards", MEMORY_SHARDS_MAX as u64));
        }
        Ok(Arc::make_mut(&mut self.shards).entry(shard).or_default())
    }
}

/// The error of a quota that is used up.
fn over(what: &str, max: u64) -> crate::fault::Error {
    HostAbort::new(AbortKind::Quota, format!("memory quota reached: at most {max} {what}")).into()
}

/// The error of a range that goes past the end of its shard.
fn outside(at: La128, len: u64) -> crate::fault::Error {
    let La128 { shard, offset } = at;
    let message = format!("{len} bytes from byte {offset} of shard {shard} go past 2^64");
    Fault { kind: "address", message }.into()
}

/// The error of a generator that this pager does not have.
fn no_generator(name: &str) -> crate::fault::Error {
    Usage::new(format!("there is no generator `{}`", crate::fault::quote(name))).into()
}

/// A CID of a page of this length that holds zeros.
fn zero_page(page_len: usize) -> Cid {
    Cid::of_raw(&vec![0; page_len])
}

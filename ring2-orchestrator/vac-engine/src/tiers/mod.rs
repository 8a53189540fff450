//! Tiers below the store of a home: where objects come from that it lost or has badly.
//!
//! ```text
//! HOME/tiers.toml      which there are, the first to be asked first; see `docs/formats.md`
//! ```
//!
//! This decides what a tier may be called and where it may be, keeps the list, and chains tiers below the store of
//! whoever opens a memory. What stands there is opened by who knows networks and the environment: [`Open`].
//!
//! Invariants:
//! - Nothing is opened, started or asked before the store lacks an object, or a command names a tier.
//! - Keys are in no list: it says where they are. No error repeats what stands in the place of one.
//! - What a tier gives is hashed, and then kept in the store, before anybody has it.

mod below;
mod copy;
mod list;
mod spec;

use std::sync::Arc;

use vac_core::cid::Cid;
use vac_core::fault::Result;
use vac_core::memory::{Event, Tier, TierStats};

pub(crate) use below::Below;
pub use copy::{Checked, Existing, Pushed, check, push};
pub use list::{add, find, list, remove};
pub use spec::{Bucket, KeySource, Named, Place, Spec};

/// The longest object that is given to a tier or taken from one: what may stand behind a shard.
pub const OBJECT_MAX_BYTES: usize = vac_core::limits::MEMORY_BACKING_MAX_BYTES;

/// Opens tiers, and hears what came of them.
pub trait Open: Send + Sync {
    /// Makes what stands behind a name. It is not asked for anything yet.
    fn open(&self, named: &Named) -> Result<Opened>;

    /// What tiers did, or could not do, for a home that is closed now.
    fn hear(&self, given: &Given);
}

/// A tier that is open.
pub struct Opened {
    /// Its objects.
    pub tier: Arc<dyn Tier>,
    /// What can be asked beside them.
    pub look: Arc<dyn Look>,
}

/// What a tier is asked without reading an object.
pub trait Look: Send + Sync {
    /// Whether it answers, and lets us in.
    fn reach(&self) -> Result<()>;

    /// How long each object is there, in order; `None` for one that is not.
    fn lens(&self, cids: &[Cid]) -> Vec<Result<Option<u64>>>;
}

/// What tiers below a store did for it, or could not.
pub struct Given {
    /// What happened in each, the store first.
    pub tiers: Vec<TierStats>,
    /// The latest things that went wrong.
    pub events: Vec<Event>,
    /// Whether what came from below is durable in the store.
    pub kept: Result<()>,
}

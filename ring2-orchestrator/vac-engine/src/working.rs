//! Memories that a run has open for its kernels: each once, however often it is granted.
//!
//! One that some grant may change is locked from before it is opened until the run ends, so that no commit of
//! somebody else gets lost. One that is only read is what it was when it was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::Result;
use vac_core::memory::{Chain, Stats};
use vac_core::storage::Lock;
use vac_core::store::Store;
use vac_host::shards::{Keeper, Memory, Shared};

use crate::clock::HostClock;
use crate::grants::{Grant, Mem};
use crate::home::Home;
use crate::limits::{Limit, Limits};
use crate::memory;
use crate::rereads::Rereads;
use crate::tiers::Below;
use crate::watching::{Published, Seen};

/// Nanoseconds after which it is said again what a pager did.
const SAID_EVERY_NS: u64 = 200_000_000;

/// The memories of one run.
pub(crate) struct Memories {
    /// Names that some grant may change.
    changed: BTreeSet<String>,
    pages_max: u64,
    clock: Arc<dyn HostClock>,
    open: BTreeMap<String, Arc<Mutex<Shared>>>,
}

impl Memories {
    /// None yet, for a run with these grants.
    pub(crate) fn new(grants: &[Grant], limits: &Limits, clock: &Arc<dyn HostClock>) -> Self {
        let changed = grants.iter().filter_map(|grant| match grant {
            Grant::Mem(mem) if mem.rights.has(Rights::WRITE) => Some(mem.name.clone()),
            _ => None,
        });
        Self {
            changed: changed.collect(),
            pages_max: limits.max(Limit::Pages),
            clock: Arc::clone(clock),
            open: BTreeMap::new(),
        }
    }

    /// What grant number `grant` gives.
    pub(crate) fn open(&mut self, home: &Home, mem: &Mem, grant: u32) -> Result<Memory> {
        let shared = match self.open.get(&mem.name) {
            Some(open) => Arc::clone(open),
            None => {
                let new = Arc::new(Mutex::new(self.open_new(home, &mem.name)?));
                self.open.insert(mem.name.clone(), Arc::clone(&new));
                new
            }
        };
        let Mem { guest, first, last, rights, .. } = mem.clone();
        Ok(Memory { guest, first, last, rights, grant, shared })
    }

    fn open_new(&self, home: &Home, name: &str) -> Result<Shared> {
        let alone = match self.changed.contains(name) {
            true => Some(memory::lock(home, name)?),
            false => None,
        };
        let rereads = Arc::new(Rereads::new(home.objects()?));
        let memory::Memory { pager, space, root } = memory::open_over(home, name, rereads.clone())?;
        let named = Named {
            store: Arc::clone(home.store()),
            chain: home.below()?.map(Below::chain),
            rereads,
            name: name.to_owned(),
            published: Published::new(home, name),
            clock: Arc::clone(&self.clock),
            said_ns: None,
            _alone: alone,
        };
        Ok(Shared::new(pager, space, root, Box::new(named), self.pages_max))
    }
}

/// Moves a name, and says what its pager does.
struct Named {
    store: Arc<Store>,
    /// The store with the tiers below it, if there are some.
    chain: Option<Arc<Chain>>,
    rereads: Arc<Rereads>,
    name: String,
    published: Option<Published>,
    clock: Arc<dyn HostClock>,
    said_ns: Option<u64>,
    _alone: Option<Box<dyn Lock>>,
}

impl Keeper for Named {
    fn keep(&mut self, root: &Cid) -> Result<()> {
        self.store.pin(&memory::pin_of(&self.name), root)
    }

    fn is_listening(&mut self) -> bool {
        if self.published.is_none() {
            return false;
        }
        let now = self.clock.monotonic_ns();
        let is_due = self.said_ns.is_none_or(|said| now.saturating_sub(said) >= SAID_EVERY_NS);
        if is_due {
            self.said_ns = Some(now);
        }
        is_due
    }

    fn hear(&mut self, stats: &Stats) {
        if let Some(published) = &mut self.published {
            let tiers = self.chain.as_ref().map(|chain| chain.stats()).unwrap_or_default();
            published.say(&Seen { stats, again: self.rereads.again(), tiers: &tiers });
        }
    }

    fn is_of(&mut self, run: &str) {
        if let Some(published) = &mut self.published {
            published.is_of(run);
        }
    }
}

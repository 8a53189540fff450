//! Memories that a run has open for its kernels: each once, however often it is granted.
//!
//! One that some grant may change is locked from before it is opened until the run ends, so that no commit of
//! somebody else gets lost. One that is only read is what it was when it was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::Result;
use vac_core::memory::{Chain, Stats, Used, page_len_of};
use vac_core::storage::Lock;
use vac_core::store::Store;
use vac_host::Watch;
use vac_host::shards::{Keeper, Memory, Most, Shared};

use crate::clock::HostClock;
use crate::grants::{Grant, Mem};
use crate::home::Home;
use crate::limits::{Limit, Limits};
use crate::memory::{self, Frames};
use crate::rereads::Rereads;
use crate::tiers::Below;
use crate::watching::{Published, Seen};

/// Nanoseconds after which it is said again what a pager did.
const SAID_EVERY_NS: u64 = 200_000_000;

/// The memories of one run.
pub(crate) struct Memories {
    /// Names that some grant may change.
    changed: BTreeSet<String>,
    most: Most,
    frames: Frames,
    clock: Arc<dyn HostClock>,
    watch: Arc<dyn Watch>,
    open: BTreeMap<String, Arc<Mutex<Shared>>>,
}

impl Memories {
    /// None yet, for a run with these grants.
    pub(crate) fn new(
        grants: &[Grant],
        limits: &Limits,
        outside: (&Arc<dyn HostClock>, &Arc<dyn Watch>),
    ) -> Self {
        let changed = grants.iter().filter_map(|grant| match grant {
            Grant::Mem(mem) if mem.rights.has(Rights::WRITE) => Some(mem.name.clone()),
            _ => None,
        });
        Self {
            changed: changed.collect(),
            most: Most {
                mapped: limits.max(Limit::Pages),
                dirty: limits.max(Limit::DirtyPages),
                io_bytes: limits.max(Limit::MemoryIo),
            },
            frames: Frames { bytes: limits.max(Limit::Frames), policy: limits.policy },
            clock: Arc::clone(outside.0),
            watch: Arc::clone(outside.1),
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
        // A collection comes before this, or finds the root among those that are open: its name may move on.
        let hold = home.hold(&*self.watch)?;
        let published = Published::new(home, name, &memory::resolve(home, name)?)?;
        drop(hold);
        let (tier, clock) = (home.objects()?, &*self.clock);
        let page_len = page_len_of(&*tier, &published.root)?;
        let rereads = Arc::new(Rereads::new(tier).measured(&published.root, page_len, clock));
        let root = published.root.to_string();
        let mut memory = memory::open_over(home, &root, rereads.clone(), &self.frames)?;
        memory::weigh_made_pages(&mut memory, clock)?;
        let memory::Memory { pager, space, root } = memory;
        let named = Named {
            store: Arc::clone(home.store()),
            chain: home.below()?.map(Below::chain),
            rereads,
            page_len,
            name: name.to_owned(),
            published,
            clock: Arc::clone(&self.clock),
            said_ns: None,
            _alone: alone,
        };
        Ok(Shared::new(pager, space, root, Box::new(named), self.most))
    }
}

/// Moves a name, and says what its pager does.
struct Named {
    store: Arc<Store>,
    /// The store with the tiers below it, if there are some.
    chain: Option<Arc<Chain>>,
    rereads: Arc<Rereads>,
    page_len: usize,
    name: String,
    published: Published,
    clock: Arc<dyn HostClock>,
    said_ns: Option<u64>,
    _alone: Option<Box<dyn Lock>>,
}

impl Keeper for Named {
    fn keep(&mut self, root: &Cid) -> Result<()> {
        self.store.pin(&memory::pin_of(&self.name), root)
    }

    fn is_listening(&mut self) -> bool {
        let now = self.clock.monotonic_ns();
        let is_due = self.said_ns.is_none_or(|said| now.saturating_sub(said) >= SAID_EVERY_NS);
        if is_due {
            self.said_ns = Some(now);
        }
        is_due
    }

    fn hear(&mut self, stats: &Stats, used: &Used) {
        let tiers = self.chain.as_ref().map(|chain| chain.stats()).unwrap_or_default();
        let (again, written) = (self.rereads.again(), self.rereads.written());
        self.published.say(&Seen { stats, used, page_len: self.page_len, again, written, tiers: &tiers });
    }

    fn is_of(&mut self, run: &str) {
        self.published.is_of(run);
    }
}

#[cfg(test)]
mod tests {
    use vac_core::cid::Codec;
    use vac_core::memory::{Backing, La128};
    use vac_host::NoWatch;

    use super::*;
    use crate::verify::live_objects;

    struct NoClock;

    impl HostClock for NoClock {
        fn unix_ms(&self) -> u64 {
            0
        }
        fn monotonic_ns(&self) -> u64 {
            0
        }
        fn random_u32(&self) -> u32 {
            0
        }
    }

    /// Its name moved on, and a collection took the pages that the run was still to read.
    #[test]
    fn what_a_run_has_open_is_live_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        memory::create(&home, "m", 4096, Backing::Zeros).unwrap();
        let mut before = memory::open(&home, "m").unwrap();
        before.pager.write(&mut before.space, La128 { shard: 0, offset: 0 }, b"read me").unwrap();
        let root = before.pager.commit(&mut before.space).unwrap();
        memory::set(&home, "m", &root).unwrap();
        let other = memory::create(&home, "other", 4096, Backing::Zeros).unwrap();

        let mem = Mem { name: "m".into(), first: 0, last: 0, guest: "m".into(), rights: Rights::READ };
        let (clock, watch): (Arc<dyn HostClock>, Arc<dyn Watch>) = (Arc::new(NoClock), Arc::new(NoWatch));
        let mut open = Memories::new(&[], &Limits::default(), (&clock, &watch));
        let opened = open.open(&home, &mem, 0).unwrap();
        assert_eq!(memory::copy(&home, "other", "m").unwrap(), other);
        let mut page = vec![0; 4096];
        page[..7].copy_from_slice(b"read me");
        let needed = [root, Cid::of(Codec::Raw, &page)];
        let live = live_objects(&home, 0).unwrap();
        assert!(needed.iter().all(|cid| live.contains(cid)), "{live:?}");
        drop((open, opened));
        let live = live_objects(&home, 0).unwrap();
        assert!(!needed.iter().any(|cid| live.contains(cid)), "{live:?}");
    }

    /// Else a name could be given to what is just being removed.
    #[test]
    fn a_memory_gets_a_name_before_a_collection_or_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let root = memory::create(&home, "m", 4096, Backing::Zeros).unwrap();
        let other = Home::open(folder.path()).unwrap();
        let collection = other.store().begin_gc().unwrap();
        assert!(home.store().try_hold().unwrap().is_none());
        let copied = std::thread::scope(|scope| {
            let copied = scope.spawn(|| memory::copy(&home, "m", "copy"));
            collection.collect(&live_objects(&other, 0).unwrap()).unwrap();
            copied.join().unwrap()
        });
        assert_eq!(copied.unwrap(), root);
    }
}

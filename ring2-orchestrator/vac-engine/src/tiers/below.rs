//! The chain below the store of one home.

use std::sync::{Arc, Mutex, PoisonError};

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, HostAbort, Result};
use vac_core::memory::{Chain, Keeps, Tier};
use vac_core::store::Store;

use super::{Given, Named, Open};

/// The store of a home with its tiers below it.
pub(crate) struct Below {
    chain: Arc<Chain>,
    open: Arc<dyn Open>,
}

impl Below {
    /// `store` above `tiers`. They are only read: what a home commits is pushed when somebody says so.
    pub(crate) fn new(store: &Arc<Store>, tiers: Vec<Named>, open: &Arc<dyn Open>) -> Self {
        let chain = tiers.into_iter().fold(Chain::new(Arc::clone(store) as Arc<dyn Tier>), |chain, named| {
            let lazy = Lazy { named, open: Arc::clone(open), tier: Mutex::default() };
            chain.and(Arc::new(lazy), Keeps::Never)
        });
        Self { chain: Arc::new(chain), open: Arc::clone(open) }
    }

    pub(crate) fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.chain)
    }

    /// Makes what came from below durable, and says what did and what could not. Nothing, if there is neither.
    pub(crate) fn settle(&self, store: &Store) {
        let tiers = self.chain.stats();
        if tiers.iter().skip(1).all(|tier| tier.found == 0 && tier.failed == 0 && tier.corrupt == 0) {
            return;
        }
        let (events, _) = self.chain.events();
        let kept = match tiers.first() {
            Some(first) if first.repaired > 0 => store.commit(),
            _ => Ok(()),
        };
        self.open.hear(&Given { tiers, events, kept });
    }
}

/// A tier that is opened when it is first asked.
struct Lazy {
    named: Named,
    open: Arc<dyn Open>,
    tier: Mutex<Option<Arc<dyn Tier>>>,
}

impl Lazy {
    /// One that cannot be opened is tried again: what is missing may come.
    fn tier(&self) -> Result<Arc<dyn Tier>> {
        let mut tier = self.tier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*tier {
            return Ok(Arc::clone(open));
        }
        let open = self.open.open(&self.named)?.tier;
        Ok(Arc::clone(tier.insert(open)))
    }
}

impl Tier for Lazy {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        self.tier()?.read_into(cid, to)
    }

    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>> {
        self.tier()?.get(cid, max)
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.tier()?.put(cid, bytes)
    }

    /// A chain commits all its tiers: one that is not open has nothing to commit, and is not opened for that.
    fn commit(&self) -> Result<()> {
        let open = self.tier.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.map_or(Ok(()), |tier| tier.commit())
    }

    fn name(&self) -> &str {
        &self.named.name
    }

    /// Whoever stands above hashes all of it: one hash more, of what is rare and came from far.
    fn verifies(&self) -> bool {
        false
    }

    fn get_many(&self, wanted: &[(Cid, usize)]) -> Vec<Result<Option<Vec<u8>>>> {
        let why = match self.tier() {
            Ok(tier) => return tier.get_many(wanted),
            Err(why) => why,
        };
        let (text, mut first) = (why.to_string(), Some(why));
        let same = || HostAbort::new(AbortKind::Machine, text.clone()).into();
        wanted.iter().map(|_| Err(first.take().unwrap_or_else(same))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use vac_core::memory::{Backing, La128};
    use vac_core::storage::SimStorage;

    use super::*;
    use crate::home::Home;
    use crate::tiers::{self, Look, Opened, Spec};
    use crate::{memory, verify};

    /// Opens another store in the place of a tier, and counts.
    struct Counting {
        other: Arc<Store>,
        opened: AtomicU64,
        found: AtomicU64,
    }

    impl Open for Counting {
        fn open(&self, _: &Named) -> Result<Opened> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let other = Arc::clone(&self.other);
            Ok(Opened { tier: other.clone(), look: Arc::new(Other(other)) })
        }

        fn hear(&self, given: &Given) {
            assert!(given.kept.is_ok());
            self.found.fetch_add(given.tiers[1].found, Ordering::Relaxed);
        }
    }

    struct Other(Arc<Store>);

    impl Look for Other {
        fn reach(&self) -> Result<()> {
            Ok(())
        }

        fn lens(&self, cids: &[Cid]) -> Vec<Result<Option<u64>>> {
            cids.iter().map(|cid| self.0.len_of(cid)).collect()
        }
    }

    #[test]
    fn a_tier_is_opened_when_the_store_lacks_something_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let other = Arc::new(Store::open(Arc::new(SimStorage::new(1)), "other").unwrap());
        let open = Arc::new(Counting { other, opened: AtomicU64::new(0), found: AtomicU64::new(0) });
        let home = || Home::open(folder.path()).unwrap().with_tiers(open.clone());
        let spec = Spec { name: "t".into(), url: "memory:".into(), ..Spec::default() };
        tiers::add(&home(), &spec).unwrap();
        let at = La128 { shard: 1, offset: 5 };
        let objects = {
            let home = home();
            memory::create(&home, "m", 4096, Backing::Zeros).unwrap();
            let mut memory = memory::open(&home, "m").unwrap();
            memory.pager.write(&mut memory.space, at, b"bytes").unwrap();
            let root = memory.pager.commit(&mut memory.space).unwrap();
            memory::set(&home, "m", &root).unwrap();
            assert_eq!(open.opened.load(Ordering::Relaxed), 0);
            let opened = open.open(&tiers::find(&home, "t").unwrap()).unwrap();
            let pushed = tiers::push(&home, &opened, &[], tiers::Existing::Believe).unwrap();
            assert_eq!(pushed.sent, verify::live_objects(&home, 0).unwrap().len() as u64);
            assert!(tiers::check(&home, &opened, &[], tiers::Existing::Read).unwrap().missing.is_empty());
            pushed.sent
        };
        std::fs::remove_dir_all(folder.path().join("store/packs")).unwrap();
        for _ in 0..2 {
            let home = home();
            let mut memory = memory::open(&home, "m").unwrap();
            let mut to = [0; 5];
            memory.pager.read(&mut memory.space, at, &mut to).unwrap();
            assert_eq!(&to, b"bytes");
            drop((memory, home));
            assert_eq!(open.opened.load(Ordering::Relaxed), 2, "by hand, and once");
            assert_eq!(open.found.load(Ordering::Relaxed), objects, "all of the memory, once");
        }
    }
}

//! Tiers that lie, lose and fail, from one seed, against a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cid::Cid;
use crate::fault::{AbortKind, Error, HostAbort, Result};
use crate::limits::{MEMORY_EVENTS_MAX, MEMORY_PAGE_MIN_BYTES as PAGE};
use crate::memory::{Chain, EventKind, Keeps, La128, Pager, Settings, Tier};
use crate::storage::SimStorage;
use crate::storage::sim::Random;
use crate::store::Store;

/// A tier that does what nobody should: one call in so many goes wrong.
pub(super) struct Bad {
    name: &'static str,
    state: Mutex<State>,
}

struct State {
    objects: BTreeMap<Cid, Vec<u8>>,
    random: Random,
    one_in: u64,
    writes: u64,
}

impl Bad {
    pub(super) fn new(name: &'static str, seed: u64, one_in: u64) -> Self {
        let state = State { objects: BTreeMap::new(), random: Random::new(seed), one_in, writes: 0 };
        Self { name, state: Mutex::new(state) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn heal(&self) {
        self.with(|state| state.one_in = 0);
    }

    fn rot(&self, cid: &Cid) {
        self.with(|state| state.objects.get_mut(cid).unwrap()[0] ^= 1);
    }

    fn lose(&self, cid: &Cid) {
        self.with(|state| _ = state.objects.remove(cid));
    }

    fn has_good(&self, cid: &Cid) -> bool {
        self.with(|state| state.objects.get(cid).is_some_and(|bytes| Cid::of(cid.codec(), bytes) == *cid))
    }

    fn writes(&self) -> u64 {
        self.with(|state| state.writes)
    }
}

impl State {
    fn is_bad(&mut self) -> bool {
        self.one_in > 0 && self.random.below(self.one_in) == 0
    }
}

fn down() -> Error {
    HostAbort::new(AbortKind::Machine, "the tier does not answer").into()
}

impl Tier for Bad {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let Some(bytes) = self.get(cid, to.len())? else { return Ok(false) };
        // Short answers leave the rest as it was: that must be noticed too.
        to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Ok(true)
    }

    fn get(&self, cid: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        self.with(|state| {
            let Some(mut bytes) = state.objects.get(cid).cloned() else { return Ok(None) };
            if state.is_bad() {
                match state.random.below(5) {
                    0 => return Ok(None),
                    1 => return Err(down()),
                    2 => bytes.truncate(state.random.below(bytes.len() as u64) as usize),
                    3 => bytes.push(0),
                    _ => {
                        let at = state.random.below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << state.random.below(8);
                    }
                }
            }
            Ok(Some(bytes))
        })
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        if self.with(|state| state.objects.contains_key(cid)) {
            return Ok(());
        }
        self.replace(cid, bytes)
    }

    fn replace(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.with(|state| {
            if state.is_bad() {
                return Err(down());
            }
            state.writes += 1;
            state.objects.insert(*cid, bytes.to_vec());
            Ok(())
        })
    }

    fn commit(&self) -> Result<()> {
        match self.with(State::is_bad) {
            true => Err(down()),
            false => Ok(()),
        }
    }

    fn name(&self) -> &str {
        self.name
    }
}

fn chain(tiers: &[Arc<Bad>; 3]) -> Chain {
    let [a, b, c] = tiers.each_ref().map(|tier| Arc::clone(tier) as Arc<dyn Tier>);
    Chain::new(a).and(b, Keeps::WhenItCan).and(c, Keeps::WhenItCan)
}

#[test]
fn whatever_a_tier_does_no_wrong_byte_comes_out() {
    let (mut lost, mut read) = (0, 0);
    for seed in 0..200 {
        let names = ["first", "second", "third"];
        let mut nth = 0;
        let tiers = names.map(|name| {
            nth += 1;
            Arc::new(Bad::new(name, seed * 3 + nth, if nth == 1 && seed % 2 == 0 { 0 } else { 4 }))
        });
        let chain = chain(&tiers);
        let mut random = Random::new(seed);
        let mut model: Vec<(Cid, Vec<u8>)> = Vec::new();
        for n in 0..60 {
            match random.below(5) {
                0 | 1 => {
                    let bytes: Vec<u8> = (0..40 + random.below(100)).map(|i| (i + n + seed) as u8).collect();
                    let cid = Cid::of_raw(&bytes);
                    if chain.put(&cid, &bytes).is_ok() {
                        model.push((cid, bytes));
                    }
                }
                2 => drop(chain.commit()),
                _ if model.is_empty() => {}
                _ => {
                    let (cid, bytes) = &model[random.below(model.len() as u64) as usize];
                    let mut to = vec![0; bytes.len()];
                    match chain.read_into(cid, &mut to) {
                        Ok(true) => assert!(to == *bytes, "seed {seed}"),
                        Ok(false) | Err(_) => lost += 1,
                    }
                    if let Ok(Some(got)) = chain.get(cid, bytes.len()) {
                        assert!(got == *bytes, "seed {seed}");
                        read += 1;
                    }
                }
            }
        }
        tiers.iter().for_each(|tier| tier.heal());
        chain.commit().unwrap();
        for (cid, bytes) in &model {
            assert_eq!(chain.get(cid, bytes.len()).unwrap().as_ref(), Some(bytes), "seed {seed}");
        }
        assert!(chain.stats().iter().all(|stats| stats.behind == 0), "seed {seed}");
        assert!(chain.events().0.len() <= MEMORY_EVENTS_MAX);
    }
    assert!(read > 1000 && lost > 10, "{read} read, {lost} lost for a moment");
}

#[test]
fn a_bad_copy_is_named_and_replaced_and_a_good_one_is_left_alone() {
    let tiers = ["first", "second", "third"].map(|name| Arc::new(Bad::new(name, 1, 0)));
    let chain = chain(&tiers);
    let bytes = vec![7; 100];
    let cid = Cid::of_raw(&bytes);
    chain.put(&cid, &bytes).unwrap();
    chain.commit().unwrap();
    chain.put(&cid, &bytes).unwrap();
    chain.commit().unwrap();
    assert_eq!(tiers.each_ref().map(|tier| tier.writes()), [1, 1, 1], "a page is put once");
    tiers[0].rot(&cid);
    tiers[1].with(|state| state.objects.clear());
    assert_eq!(chain.get(&cid, 100).unwrap(), Some(bytes.clone()));
    let events: Vec<_> =
        chain.events().0.into_iter().map(|event| (event.tier, event.kind, event.cid)).collect();
    let expected =
        [("first".to_owned(), EventKind::Corrupt, cid), ("second".to_owned(), EventKind::Missing, cid)];
    assert_eq!(events, expected);
    assert!(tiers.iter().all(|tier| tier.has_good(&cid)));
    assert_eq!(tiers.each_ref().map(|tier| tier.writes()), [2, 2, 1]);
    let stats = chain.stats();
    assert_eq!((stats[0].repaired, stats[1].repaired, stats[2].found), (1, 1, 1));
    tiers.iter().for_each(|tier| tier.rot(&cid));
    assert!(matches!(chain.get(&cid, 100), Err(Error::Corrupt(_))), "bad everywhere is said to be bad");
}

/// Every pack of the local store rots: the pager reads everything, and the store is whole afterwards.
#[test]
fn a_store_that_rots_is_healed_from_below() {
    let sim = SimStorage::new(3);
    let below = Arc::new(Bad::new("below", 1, 0));
    let open = || {
        let store = Arc::new(Store::open(Arc::new(sim.clone()), "store").unwrap());
        let chain =
            Arc::new(Chain::new(Arc::clone(&store) as Arc<dyn Tier>).and(below.clone(), Keeps::Always));
        let settings = Settings { page_len: PAGE, budget_bytes: 4 * PAGE, ..Settings::default() };
        (store, Arc::clone(&chain), Pager::new(chain, settings).unwrap())
    };
    let bytes: Vec<u8> = (0..8 * PAGE).map(|i| (i / 3 + i / PAGE) as u8).collect();
    let (_, _, mut pager) = open();
    let mut space = pager.space();
    pager.write(&mut space, La128 { shard: 1, offset: 0 }, &bytes).unwrap();
    let root = pager.commit(&mut space).unwrap();
    drop(pager);
    for path in sim.paths().into_iter().filter(|path| path.ends_with(".pack")) {
        let len = sim.peek(&path).unwrap().len() as u64;
        (64..len).step_by(50).for_each(|at| assert!(sim.flip_bit(&path, at, 3)));
    }
    let (store, chain, mut pager) = open();
    let mut space = pager.open(&root).unwrap();
    let mut got = vec![0; bytes.len()];
    pager.read(&mut space, La128 { shard: 1, offset: 0 }, &mut got).unwrap();
    assert!(got == bytes);
    assert!(chain.stats()[0].repaired > 0 && chain.events().1 > 0);
    store.commit().unwrap();
    assert!(bytes.chunks(PAGE).all(|page| store.is_whole(&Cid::of_raw(page)).unwrap()));
}

/// An object that no tier has whole any more kept all others from a tier below, at every commit.
#[test]
fn what_cannot_be_read_keeps_nothing_else_back() {
    for keeps in [Keeps::WhenItCan, Keeps::Always] {
        let (first, below) = (Arc::new(Bad::new("first", 0, 0)), Arc::new(Bad::new("below", 0, 0)));
        let chain = Chain::new(Arc::<Bad>::clone(&first)).and(Arc::<Bad>::clone(&below), keeps);
        let objects: Vec<(Cid, Vec<u8>)> =
            (0..50u8).map(|n| vec![n; 100]).map(|bytes| (Cid::of_raw(&bytes), bytes)).collect();
        for (cid, bytes) in &objects {
            chain.put(cid, bytes).unwrap();
        }
        let (rotten, _) = objects.iter().min().unwrap();
        first.rot(rotten);
        assert_eq!(chain.commit().is_err(), keeps == Keeps::Always);
        let has_good = objects.iter().filter(|(cid, _)| below.has_good(cid)).count();
        assert_eq!((has_good, chain.stats()[1].behind), (49, 1));
    }
}

/// The first tier lost a page that was not committed yet: a commit that all tiers must have said that they do.
#[test]
fn what_no_tier_has_is_not_acknowledged() {
    for keeps in [Keeps::WhenItCan, Keeps::Always] {
        let (first, below) = (Arc::new(Bad::new("first", 0, 0)), Arc::new(Bad::new("below", 0, 0)));
        let chain = Chain::new(Arc::<Bad>::clone(&first)).and(Arc::<Bad>::clone(&below), keeps);
        let (bytes, other) = (vec![1; 100], vec![2; 100]);
        for bytes in [&bytes, &other] {
            chain.put(&Cid::of_raw(bytes), bytes).unwrap();
        }
        first.lose(&Cid::of_raw(&bytes));
        let done = chain.commit();
        assert!(below.has_good(&Cid::of_raw(&other)));
        if keeps == Keeps::Always {
            assert!(done.unwrap_err().to_string().contains(&Cid::of_raw(&bytes).to_string()));
            chain.put(&Cid::of_raw(&bytes), &bytes).unwrap();
        }
        chain.commit().unwrap();
        assert_eq!(chain.stats()[1].behind, 0);
    }
}

#[test]
fn a_tier_that_is_only_read_is_never_written() {
    let tiers = [(); 3].map(|()| Arc::new(Bad::new("tier", 0, 0)));
    let chain = Chain::new(Arc::<Bad>::clone(&tiers[0]))
        .and(Arc::<Bad>::clone(&tiers[1]), Keeps::Never)
        .and(Arc::<Bad>::clone(&tiers[2]), Keeps::Always);
    let (bytes, other) = (vec![1; 100], vec![2; 100]);
    for bytes in [&bytes, &other] {
        tiers[2].put(&Cid::of_raw(bytes), bytes).unwrap();
    }
    tiers[1].put(&Cid::of_raw(&other), &other).unwrap();
    tiers[1].rot(&Cid::of_raw(&other));
    for bytes in [&bytes, &other] {
        assert_eq!(chain.get(&Cid::of_raw(bytes), 100).unwrap().as_ref(), Some(bytes));
        assert!(tiers[0].has_good(&Cid::of_raw(bytes)) && !tiers[1].has_good(&Cid::of_raw(bytes)));
    }
}

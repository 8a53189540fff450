//! A chain of tiers by several threads at once: whatever rots or fails above, nobody gets other bytes than were put, and what a
//! commit said is kept is in every tier that keeps all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;
use shuttle::thread;
use vac_shuttle::cid::Cid;
use vac_shuttle::fault::{AbortKind, HostAbort, Result};
use vac_shuttle::memory::{Chain, Keeps, Tier};
use vac_shuttle::storage::SimStorage;
use vac_shuttle::store::Store;

use crate::disk::Disk;
use crate::in_orders;

const THREADS: usize = 3;
const STEPS: usize = 4;
/// Objects that are in all tiers from the start, and rot in those above the last.
const OLD: usize = 4;
/// Objects that are put.
const NEW: usize = 6;

/// A tier in memory.
#[derive(Default)]
struct Shelf {
    state: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<Cid, Vec<u8>>,
    /// What was there at the last commit.
    durable: BTreeMap<Cid, Vec<u8>>,
    /// One write in so many fails.
    fails_one_in: Option<u32>,
    failed: u64,
}

impl Shelf {
    fn with<T>(&self, f: impl FnOnce(&mut Contents) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }
}

impl Contents {
    fn write(&mut self, write: impl FnOnce(&mut Self)) -> Result<()> {
        if self.fails_one_in.is_some_and(|n| thread_rng().gen_ratio(1, n)) {
            self.failed += 1;
            return Err(HostAbort::new(AbortKind::Machine, "the shelf is full for a moment").into());
        }
        write(self);
        Ok(())
    }
}

impl Tier for Shelf {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let Some(bytes) = self.get(cid, to.len())? else { return Ok(false) };
        to.copy_from_slice(&bytes);
        Ok(true)
    }

    fn get(&self, cid: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.with(|state| state.objects.get(cid).cloned()))
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        let put = |state: &mut Contents| _ = state.objects.entry(*cid).or_insert_with(|| bytes.to_vec());
        self.with(|state| state.write(put))
    }

    fn replace(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.with(|state| state.write(|state| _ = state.objects.insert(*cid, bytes.to_vec())))
    }

    fn commit(&self) -> Result<()> {
        self.with(|state| state.write(|state| state.durable.clone_from(&state.objects)))
    }
}

fn object(n: usize) -> (Cid, Vec<u8>) {
    let bytes: Vec<u8> = (0..100 + 40 * n).map(|i| (i * (n + 3) / 7 + n) as u8).collect();
    (Cid::of_raw(&bytes), bytes)
}

/// How often something happened in all orders together.
#[derive(Default)]
struct Seen {
    mended: AtomicU64,
    committed: AtomicU64,
    failed: AtomicU64,
}

struct World {
    chain: Chain,
    /// Under the first tier: one that keeps all, and one that is only read and never rots.
    middle: Arc<Shelf>,
    last: Arc<Shelf>,
    /// Spoils a copy of an old object in the first tier.
    rot: Box<dyn Fn() + Send + Sync>,
    // The system's lock: nobody changes threads while it is held.
    put: std::sync::Mutex<BTreeMap<Cid, Vec<u8>>>,
    seen: &'static Seen,
}

impl World {
    /// `first` has the old objects.
    fn new(first: Arc<dyn Tier>, rot: Box<dyn Fn() + Send + Sync>, seen: &'static Seen) -> Self {
        let (middle, last): (Arc<Shelf>, Arc<Shelf>) = Default::default();
        for (cid, bytes) in (0..OLD).map(object) {
            [&middle, &last].iter().for_each(|shelf| shelf.put(&cid, &bytes).unwrap());
        }
        middle.with(|state| state.fails_one_in = Some(5));
        let below: [Arc<dyn Tier>; 2] = [Arc::<Shelf>::clone(&middle), Arc::<Shelf>::clone(&last)];
        let [keeps, read] = below;
        let chain = Chain::new(first).and(keeps, Keeps::Always).and(read, Keeps::Never);
        Self { chain, middle, last, rot, put: std::sync::Mutex::default(), seen }
    }

    fn step(&self) {
        match thread_rng().gen_range(0..10) {
            0..=1 => (self.rot)(),
            2 => self.rot_middle(),
            3..=5 => self.read(),
            6..=7 => self.put(),
            _ => self.commit(),
        }
    }

    fn rot_middle(&self) {
        let (cid, _) = object(thread_rng().gen_range(0..OLD));
        self.middle.with(|state| _ = state.objects.get_mut(&cid).map(|bytes| bytes[0] ^= 1));
    }

    /// Reads an old object and all that were put.
    fn read(&self) {
        let mut there = self.put.lock().unwrap().clone();
        there.extend([object(thread_rng().gen_range(0..OLD))]);
        let wanted: Vec<(Cid, usize)> = there.iter().map(|(cid, bytes)| (*cid, bytes.len())).collect();
        for (got, bytes) in self.chain.get_many(&wanted).into_iter().zip(there.values()) {
            assert!(got.unwrap().as_ref() == Some(bytes));
        }
        let (cid, bytes) = object(thread_rng().gen_range(0..OLD));
        let mut to = vec![0; bytes.len()];
        assert!(self.chain.read_into(&cid, &mut to).unwrap() && to == bytes);
    }

    fn put(&self) {
        let (cid, bytes) = object(OLD + thread_rng().gen_range(0..NEW));
        self.chain.put(&cid, &bytes).unwrap();
        self.put.lock().unwrap().insert(cid, bytes);
    }

    fn commit(&self) {
        let before = self.put.lock().unwrap().clone();
        match self.chain.commit() {
            Ok(()) => {
                self.middle.with(|state| {
                    assert!(before.iter().all(|(cid, bytes)| state.durable.get(cid) == Some(bytes)));
                });
                self.seen.committed.fetch_add(before.len() as u64, Ordering::Relaxed);
            }
            Err(_) => _ = self.seen.failed.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// After all threads ended: once it is read everything is whole everywhere, and nothing was written where it may not be.
    fn check(&self) {
        self.middle.with(|state| state.fails_one_in = None);
        self.chain.commit().unwrap();
        for (cid, bytes) in (0..OLD).map(object).chain(self.put.lock().unwrap().clone()) {
            for _ in 0..2 {
                assert!(self.chain.get(&cid, bytes.len()).unwrap().as_ref() == Some(&bytes));
            }
        }
        // What was mended is durable like what is put.
        self.chain.commit().unwrap();
        let stats = self.chain.stats();
        assert!(stats.iter().all(|stats| stats.behind == 0), "{stats:?}");
        let last = self.last.with(|state| state.objects.len());
        assert_eq!(last, OLD);
        self.seen.mended.fetch_add(stats.iter().map(|stats| stats.repaired).sum(), Ordering::Relaxed);
    }
}

fn run(world: World) -> World {
    let world = Arc::new(world);
    let start = |_| {
        let world = Arc::clone(&world);
        thread::spawn(move || (0..STEPS).for_each(|_| world.step()))
    };
    let threads: Vec<_> = (0..THREADS).map(start).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.check();
    Arc::into_inner(world).unwrap()
}

fn runs(count: usize, f: impl Fn(&'static Seen) + Send + Sync + Clone + 'static) {
    let seen: &'static Seen = Box::leak(Box::default());
    in_orders(count, move || f(seen));
    let often = [&seen.mended, &seen.committed, &seen.failed].map(|n| n.load(Ordering::Relaxed));
    assert!(often.iter().all(|n| *n > count as u64 / 2), "{often:?}");
}

#[test]
fn tiers_that_rot_while_they_are_read_give_no_wrong_byte() {
    runs(300, |seen| {
        let first = Arc::new(Shelf::default());
        (0..OLD).map(object).for_each(|(cid, bytes)| first.put(&cid, &bytes).unwrap());
        let rots = Arc::clone(&first);
        let rot = move || {
            let (cid, _) = object(thread_rng().gen_range(0..OLD));
            rots.with(|state| match thread_rng().r#gen() {
                true => _ = state.objects.remove(&cid),
                false => _ = state.objects.get_mut(&cid).map(|bytes| bytes[0] ^= 1),
            });
        };
        run(World::new(first, Box::new(rot), seen));
    });
}

/// The store is mended by one thread while others read, put and commit; what was committed is there after a power cut.
#[test]
fn a_store_is_mended_beside_its_readers() {
    runs(60, |seen| {
        let sim = SimStorage::new(thread_rng().r#gen());
        let store = Arc::new(Store::open(Arc::new(Disk::new(&sim)), "store").unwrap());
        (0..OLD).map(object).for_each(|(cid, bytes)| Tier::put(&*store, &cid, &bytes).unwrap());
        Store::commit(&store).unwrap();
        let rots = sim.clone();
        let pack = "store/packs/00000001.pack";
        let bytes = sim.peek(pack).unwrap();
        let body = |n| {
            let (_, body) = object(n);
            bytes.windows(body.len()).position(|part| part == body).unwrap() as u64
        };
        // Not what says where an object is: that it rotted would show only after the power cut, when there is no index.
        let bodies: Vec<u64> = (0..OLD).map(body).collect();
        let rot = move || assert!(rots.flip_bit(pack, bodies[thread_rng().gen_range(0..OLD)] + 50, 3));
        let world = run(World::new(Arc::<Store>::clone(&store), Box::new(rot), seen));
        drop((world, store));
        sim.crash();
        let store = Store::open(Arc::new(sim), "store").unwrap();
        for (cid, bytes) in (0..OLD).map(object) {
            assert!(Tier::get(&store, &cid, bytes.len()).unwrap() == Some(bytes));
        }
    });
}

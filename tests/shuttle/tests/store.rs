//! A store, or two processes with one, by several threads at once, against maps: what was put can be read, what a commit said
//! is there is there after a power cut, and no thread waits for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use vac_shuttle::cid::{Cid, Codec};
use vac_shuttle::fault::{AbortKind, Error};
use vac_shuttle::storage::SimStorage;
use vac_shuttle::store::Store;

use crate::disk::Disk;
use crate::in_orders;

const THREADS: usize = 3;
const STEPS: usize = 4;
/// Objects that there are to put: a few, so that threads put the same ones. Those below `BEFORE` are there from the start.
const OBJECTS: usize = 12;
const BEFORE: usize = 6;
/// Of these, those that somebody needs; the others are garbage until somebody puts them again.
const NEEDED: usize = 2;

/// What the disk does to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The power fails in the middle.
    Halt,
    /// One sync fails, and what it was for is lost.
    Sync,
}

type Objects = BTreeMap<Cid, Vec<u8>>;

/// What must be true.
#[derive(Default)]
struct Model {
    /// What somebody puts or has put: this lives.
    wanted: BTreeSet<Cid>,
    /// What was put, by process.
    put: Vec<Objects>,
    /// What a commit said is durable.
    kept: Objects,
    pins: BTreeMap<String, Cid>,
}

struct World {
    sim: SimStorage,
    /// One for each process.
    stores: Vec<Store>,
    fault: Fault,
    // The system's lock: nobody changes threads while it is held.
    model: Mutex<Model>,
    seen: &'static Seen,
}

/// How often something happened in all orders together: a test in which it never did would prove nothing.
#[derive(Default)]
struct Seen {
    got: AtomicU64,
    kept: AtomicU64,
    removed: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
}

fn add(to: &AtomicU64, n: usize) {
    to.fetch_add(n as u64, Ordering::Relaxed);
}

/// The `n`-th object. Every fifth is large.
fn object(n: usize) -> Vec<u8> {
    let len = if n % 5 == 4 { 1300 } else { 100 + 30 * n };
    (0..len).map(|i| (i * (n + 3) / 7 + n) as u8).collect()
}

impl World {
    fn new(processes: usize, fault: Fault, seen: &'static Seen) -> Self {
        let sim = SimStorage::new(thread_rng().r#gen());
        let mut model = Model { put: vec![Objects::new(); processes], ..Model::default() };
        let first = Store::open(Arc::new(sim.clone()), "store").unwrap();
        for n in 0..BEFORE {
            let cid = first.put(Codec::Raw, &object(n)).unwrap();
            if n < NEEDED {
                model.wanted.insert(cid);
                model.kept.insert(cid, object(n));
            }
        }
        first.commit().unwrap();
        drop(first);
        let disk = Disk::new(&sim);
        let open = |_| Store::open(Arc::new(disk.clone()), "store").unwrap();
        let stores = (0..processes).map(open).collect();
        match fault {
            Fault::None => {}
            Fault::Halt => sim.halt_at(thread_rng().gen_range(0..250)),
            Fault::Sync => sim.fail_sync(thread_rng().gen_range(0..10)),
        }
        Self { sim, stores, fault, model: Mutex::new(model), seen }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// `None` if it failed, which it may only do if the disk does.
    fn done<T>(&self, result: Result<T, Error>) -> Option<T> {
        if self.fault != Fault::None && result.is_err() {
            add(&self.seen.failed, 1);
            return None;
        }
        Some(result.unwrap_or_else(|why| panic!("{why}")))
    }

    fn step(&self, thread: usize) {
        let process = thread_rng().gen_range(0..self.stores.len());
        match thread_rng().gen_range(0..14) {
            0..=4 => drop(self.put(process)),
            5..=7 => self.commit(process),
            8..=9 => self.get(process),
            10 => self.pin(process, thread),
            11 => drop(self.done(self.stores[process].list())),
            _ => self.collect(process),
        }
    }

    fn put(&self, process: usize) -> Option<Cid> {
        let bytes = object(thread_rng().gen_range(0..OBJECTS));
        self.model().wanted.insert(Cid::of_raw(&bytes));
        let cid = self.done(self.stores[process].put(Codec::Raw, &bytes))?;
        self.model().put[process].insert(cid, bytes);
        Some(cid)
    }

    fn commit(&self, process: usize) {
        let before = self.model().put[process].clone();
        if self.done(self.stores[process].commit()).is_some() {
            add(&self.seen.kept, before.len());
            self.model().kept.extend(before);
        }
    }

    /// Gets what this process has put and what anybody has committed.
    fn get(&self, process: usize) {
        let there = {
            let model = self.model();
            let mut there = model.kept.clone();
            if self.fault == Fault::None {
                there.extend(model.put[process].clone());
            }
            there
        };
        for (cid, bytes) in there {
            if let Some(got) = self.done(self.stores[process].get(&cid)) {
                assert!(got.as_ref() == Some(&bytes), "{cid} is {:?}", got.map(|got| got.len()));
                add(&self.seen.got, 1);
            }
        }
    }

    /// Pins something new under the thread's name.
    fn pin(&self, process: usize, thread: usize) {
        let Some(cid) = self.put(process) else { return };
        let name = format!("thread {thread}");
        // Until it is there either may be.
        self.model().pins.remove(&name);
        let before = self.model().put[process].clone();
        if self.done(self.stores[process].pin(&name, &cid)).is_some() {
            self.model().pins.insert(name, cid);
            self.model().kept.extend(before);
        }
    }

    fn collect(&self, process: usize) {
        let collected = self.stores[process].begin_gc().and_then(|collection| {
            let live = self.model().wanted.clone();
            collection.collect(&live)
        });
        if let Err(Error::Abort(abort)) = &collected
            && abort.kind == AbortKind::Busy
        {
            return add(&self.seen.busy, 1);
        }
        if let Some(report) = self.done(collected) {
            // What a disk without power does not give counts as damage.
            assert!(report.corrupt.is_empty() || self.fault == Fault::Halt, "{report:?}");
            add(&self.seen.removed, report.removed as usize);
        }
    }

    /// After all threads ended, and again after a power cut.
    fn check(self) {
        (0..self.stores.len()).for_each(|process| self.get(process));
        let Self { sim, stores, model, .. } = self;
        drop(stores);
        sim.crash();
        let store = Store::open(Arc::new(sim), "store").unwrap();
        let model = model.into_inner().unwrap();
        for (cid, bytes) in model.kept {
            assert!(store.get(&cid).unwrap() == Some(bytes), "{cid} was committed");
        }
        let pins = store.pins().unwrap();
        assert!(model.pins.iter().all(|(name, cid)| pins.get(name) == Some(cid)), "{pins:?}");
        assert_eq!(store.fsck().unwrap().corrupt, []);
    }
}

fn run(processes: usize, fault: Fault, seen: &'static Seen) {
    let world = Arc::new(World::new(processes, fault, seen));
    let start = |thread| {
        let world = Arc::clone(&world);
        thread::spawn(move || (0..STEPS).for_each(|_| world.step(thread)))
    };
    let threads: Vec<_> = (0..THREADS).map(start).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    Arc::into_inner(world).unwrap().check();
}

fn runs(count: usize, fault: Fault) {
    for processes in [1, 2] {
        let seen: &'static Seen = Box::leak(Box::default());
        in_orders(count, move || run(processes, fault, seen));
        let often = [&seen.got, &seen.kept, &seen.removed].map(|n| n.load(Ordering::Relaxed));
        assert!(often.iter().all(|n| *n > count as u64 / 2), "{often:?}");
        assert!(seen.busy.load(Ordering::Relaxed) > 0, "two collections met");
        assert_eq!(seen.failed.load(Ordering::Relaxed) > 0, fault != Fault::None);
    }
}

#[test]
fn what_one_thread_puts_another_reads_and_no_collection_removes() {
    runs(60, Fault::None);
}

#[test]
fn what_a_commit_said_is_there_after_a_power_cut_beside_it() {
    runs(60, Fault::Halt);
}

#[test]
fn a_sync_that_fails_loses_nothing_that_was_committed() {
    runs(60, Fault::Sync);
}

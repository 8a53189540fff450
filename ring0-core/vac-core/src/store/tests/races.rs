//! A collection, and at each of its calls of the storage somebody else who puts, reads, opens or closes.

use super::stepped::Stepped;
use super::*;

/// What there was before: packs that are full, one that is not, and a large object.
fn before(sim: &SimStorage) -> BTreeMap<Cid, Vec<u8>> {
    let store = open(sim);
    let mut objects = BTreeMap::new();
    for i in 0..30 {
        let bytes = bytes_of(i, 400 + i as usize * 5);
        objects.insert(put(&store, &bytes), bytes);
    }
    let large = bytes_of(99, 5000);
    objects.insert(put(&store, &large), large);
    let chunked = bytes_of(98, 4100);
    objects.insert(put_chunked(&store, &chunked), chunked);
    store.commit().unwrap();
    objects
}

fn every_third(objects: &BTreeMap<Cid, Vec<u8>>) -> BTreeMap<Cid, Vec<u8>> {
    objects.iter().step_by(3).map(|(cid, bytes)| (*cid, bytes.clone())).collect()
}

/// Collects with `other` before the `n`-th call, and returns whether there were so many.
fn collect(
    sim: &SimStorage,
    live: &BTreeMap<Cid, Vec<u8>>,
    n: u64,
    other: impl FnOnce() + Send + 'static,
) -> bool {
    let disk = Stepped::new(sim);
    let store = Store::open_tuned(Arc::new(disk.clone()), "store", SMALL).unwrap();
    let collection = store.begin_gc().unwrap();
    disk.before(n, other);
    match collection.collect(&live.keys().copied().collect()) {
        Ok(report) => assert_eq!(report.corrupt, []),
        Err(Error::Abort(abort)) => assert_eq!(abort.kind, AbortKind::Busy),
        Err(other) => panic!("{other}"),
    }
    let ran = disk.is_done();
    disk.before(u64::MAX, || ());
    assert_holds(&store, live);
    ran
}

/// What must be there is there: for who put it, for others, and after a power cut.
fn assert_kept(sim: &SimStorage, store: Option<Arc<Store>>, kept: &BTreeMap<Cid, Vec<u8>>, n: u64) {
    if let Some(store) = store {
        store.commit().unwrap();
        kept.iter()
            .for_each(|(cid, bytes)| assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes), "call {n}"));
    }
    kept.iter()
        .for_each(|(cid, bytes)| assert_eq!(open(sim).get(cid).unwrap().as_ref(), Some(bytes), "call {n}"));
    sim.crash();
    let store = open(sim);
    assert_holds(&store, kept);
    assert_eq!(store.fsck().unwrap().corrupt, [], "call {n}");
}

/// Runs `race` for every call until there are no more. It says whether there were so many.
fn at_every_call(race: impl Fn(u64) -> bool) {
    let calls = (0..).find(|n| !race(*n)).unwrap();
    assert!(calls > 30, "{calls} calls: there was something to race with");
}

#[test]
fn what_another_puts_again_is_kept() {
    at_every_call(|n| {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let live = every_third(&objects);
        let other = Arc::new(open(&sim));
        // It has read the index and has a pack.
        put(&other, b"first");
        let (putter, again) = (Arc::clone(&other), objects.clone());
        let ran = collect(&sim, &live, n, move || {
            again.values().for_each(|bytes| _ = put(&putter, bytes));
            putter.commit().unwrap();
            again
                .keys()
                .for_each(|cid| assert!(putter.get(cid).unwrap().is_some(), "put, so it can be read"));
        });
        assert_kept(&sim, Some(other), if ran { &objects } else { &live }, n);
        ran
    });
}

#[test]
fn what_another_put_and_did_not_commit_is_kept() {
    at_every_call(|n| {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let other = Arc::new(open(&sim));
        let new: BTreeMap<_, _> =
            (500..540).map(|i| bytes_of(i, 300)).map(|bytes| (Cid::of_raw(&bytes), bytes)).collect();
        new.values().take(20).for_each(|bytes| _ = put(&other, bytes));
        let (putter, more) = (Arc::clone(&other), new.clone());
        let ran = collect(&sim, &every_third(&objects), n, move || {
            more.values().for_each(|bytes| _ = put(&putter, bytes));
        });
        let kept = new.into_iter().take(if ran { 40 } else { 20 }).collect();
        assert_kept(&sim, Some(other), &kept, n);
        ran
    });
}

/// It found them here before the collection began, and named them nowhere yet.
#[test]
fn what_another_found_here_before_is_kept() {
    at_every_call(|n| {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let other = open(&sim);
        objects.values().for_each(|bytes| _ = put(&other, bytes));
        // It names them, and is closed: too late for who computed what lives.
        let ran = collect(&sim, &BTreeMap::new(), n, move || drop(other));
        assert_kept(&sim, None, &objects, n);
        ran
    });
}

#[test]
fn what_one_puts_who_comes_and_goes_is_kept() {
    at_every_call(|n| {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let live = every_third(&objects);
        let (disk, again) = (sim.clone(), objects.clone());
        let put_all = Arc::new(Mutex::new(false));
        let done = Arc::clone(&put_all);
        let ran = collect(&sim, &live, n, move || {
            // While large objects are removed the store cannot be opened.
            let Ok(store) = Store::open_tuned(Arc::new(disk), "store", SMALL) else { return };
            again.values().for_each(|bytes| _ = put(&store, bytes));
            store.commit().unwrap();
            *done.lock().unwrap() = true;
        });
        let kept = if *put_all.lock().unwrap() { &objects } else { &live };
        assert_kept(&sim, None, kept, n);
        ran
    });
}

#[test]
fn a_reader_sees_all_that_lives() {
    at_every_call(|n| {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let live = every_third(&objects);
        let old = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
        assert_holds(&old, &objects);
        let (disk, expected) = (sim.clone(), live.clone());
        collect(&sim, &live, n, move || {
            let new = Store::open_read_only(Arc::new(disk), "store").unwrap();
            for (cid, bytes) in &expected {
                assert_eq!(old.get(cid).unwrap().as_ref(), Some(bytes));
                assert_eq!(new.get(cid).unwrap().as_ref(), Some(bytes));
            }
        })
    });
}

#[test]
fn two_collections_do_not_meet() {
    at_every_call(|n| {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let live = every_third(&objects);
        let (other, expected) = (open(&sim), live.clone());
        let ran = collect(&sim, &live, n, move || {
            let Err(Error::Abort(busy)) = other.begin_gc().map(drop) else { panic!("one runs") };
            assert_eq!(busy.kind, AbortKind::Busy);
            drop(expected);
        });
        assert_kept(&sim, None, &live, n);
        ran
    });
}

/// A collector is killed at any call, and leaves `sweep` odd.
#[test]
fn a_collector_that_died_stops_nobody() {
    for n in 0..200 {
        let sim = SimStorage::new(n);
        let objects = before(&sim);
        let live = every_third(&objects);
        let other = open(&sim);
        put(&other, b"first");
        let dying = open(&sim);
        let collection = dying.begin_gc().unwrap();
        sim.halt_at(n);
        let _ = collection.collect(&live.keys().copied().collect());
        sim.clear_faults();
        drop(dying);
        assert_holds(&other, &live);
        objects.values().for_each(|bytes| _ = put(&other, bytes));
        other.commit().unwrap();
        let report = other.gc(&objects.keys().copied().collect()).unwrap();
        assert_eq!(report.corrupt, []);
        assert_kept(&sim, Some(Arc::new(other)), &objects, n);
    }
}

#[test]
fn leases_keep_objects_until_they_end() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let (one, two) = (put(&store, b"one"), put(&store, b"two"));
    store.lease("upload", &Lease { cid: one, ends: 100 }).unwrap();
    store.lease("two", &Lease { cid: two, ends: 100 }).unwrap();
    store.lease("two", &Lease { cid: two, ends: 200 }).unwrap();
    drop(store);
    sim.crash();
    let store = open(&sim);
    let collect_at = |now| store.begin_gc().unwrap().collect_at(&BTreeSet::new(), now).unwrap().removed;
    assert_eq!(collect_at(99), 0);
    assert_eq!(store.gc(&BTreeSet::new()).unwrap().removed, 0, "without a time no lease ends");
    assert_eq!(collect_at(100), 1);
    assert_eq!(store.list().unwrap(), [(two, 3)]);
    assert_eq!(store.leases().unwrap(), BTreeMap::from([("two".to_owned(), Lease { cid: two, ends: 200 })]));
    assert!(store.end_lease("two").unwrap() && !store.end_lease("two").unwrap());
    assert_eq!(collect_at(0), 1);
    store.lease("x", &Lease { cid: put(&store, b"x"), ends: 1 }).unwrap();
    let file = sim.paths().into_iter().find(|path| path.contains("leases/")).unwrap();
    sim.flip_bit(&file, 20, 3);
    assert!(is_corrupt(&store.gc(&BTreeSet::new())), "a lease that cannot be read may keep anything");
    assert_eq!(store.fsck().unwrap().corrupt.len(), 1);
}

#[test]
fn only_packs_that_are_mostly_garbage_are_copied() {
    let sim = SimStorage::new(0);
    let tuning = Tuning { rewrite_max: 0, ..SMALL };
    let store = Store::open_tuned(Arc::new(sim.clone()), "store", tuning).unwrap();
    let cids: Vec<Cid> = (0..10).map(|i| put(&store, &bytes_of(i, 500))).collect();
    store.commit().unwrap();
    let gc = |kept: usize| store.gc(&cids.iter().take(kept).copied().collect()).unwrap();
    assert_eq!((gc(6).packs_rewritten, store.list().unwrap().len()), (0, 10));
    assert_eq!((gc(4).packs_rewritten, store.list().unwrap().len()), (1, 4));
}

/// The rule to the byte: a pack is copied forward once what lives in it is under half of it, and the copy has no garbage.
/// So garbage that stays is never more than what lives beside it.
#[test]
fn a_pack_is_copied_when_less_than_half_of_it_lives() {
    // A header of 16 bytes, and ten records of 56 and 500: half of all is 2,788.
    for (kept, is_copied) in [(6, false), (5, true), (1, true)] {
        let sim = SimStorage::new(0);
        let tuning = Tuning { rewrite_max: 0, ..SMALL };
        let store = Store::open_tuned(Arc::new(sim.clone()), "store", tuning).unwrap();
        let cids: Vec<Cid> = (0..10).map(|i| put(&store, &bytes_of(i, 500))).collect();
        store.commit().unwrap();
        let live = cids.iter().take(kept).copied().collect();
        let report = store.gc(&live).unwrap();
        let there = if is_copied { kept } else { 10 };
        assert_eq!(
            (report.packs_rewritten, store.list().unwrap().len()),
            (is_copied.into(), there),
            "{kept} live"
        );
        let packs = sim.paths().into_iter().filter(|path| path.ends_with(".pack"));
        let bytes: usize = packs.map(|path| sim.peek(&path).unwrap().len()).sum();
        let live_bytes = kept * 556;
        assert!(bytes <= 2 * live_bytes + 2 * 16, "{bytes} bytes for {live_bytes} that live");
        assert_eq!(store.gc(&live).unwrap().packs_rewritten, 0, "once is enough");
    }
}

/// Where people collect: nothing is left, so packs without anything live go before a byte is copied.
#[test]
fn a_collection_frees_a_full_disk() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let objects: BTreeMap<Cid, Vec<u8>> =
        (0..60).map(|i| bytes_of(i, 500)).map(|bytes| (put(&store, &bytes), bytes)).collect();
    store.commit().unwrap();
    let nothing = store.gc(&objects.keys().copied().collect()).unwrap();
    assert_eq!(nothing.packs_removed, 0);
    // One of each pack but those at the ends: what was put first is in the first.
    let in_order: Vec<Cid> = (0..60).map(|i| Cid::of_raw(&bytes_of(i, 500))).collect();
    let live: BTreeSet<Cid> = in_order.iter().skip(15).step_by(5).take(6).copied().collect();
    sim.set_capacity(Some(sim.used()));
    let report = store.gc(&live).unwrap();
    assert_eq!((report.kept, report.removed), (6, 54));
    assert!(report.packs_rewritten > 0 && report.packs_removed > report.packs_rewritten, "{report:?}");
    drop(store);
    sim.crash();
    let kept = objects.into_iter().filter(|(cid, _)| live.contains(cid)).collect();
    assert_holds(&open(&sim), &kept);
}

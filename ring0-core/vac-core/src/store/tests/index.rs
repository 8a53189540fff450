//! The index on disk: it bounds memory, and losing any of it loses nothing.

use super::*;

const LIST: &str = "store/index/list";

fn runs(sim: &SimStorage) -> Vec<String> {
    sim.paths().into_iter().filter(|path| path.ends_with(".run")).collect()
}

/// A store of many objects that were committed now and then.
fn filled(sim: &SimStorage, count: u64) -> BTreeMap<Cid, Vec<u8>> {
    let store = open(sim);
    let mut objects = BTreeMap::new();
    for i in 0..count {
        let bytes = bytes_of(i, 8 + i as usize % 40);
        objects.insert(put(&store, &bytes), bytes);
        if i % 4 == 3 {
            store.commit().unwrap();
        }
    }
    store.commit().unwrap();
    objects
}

fn table_len(store: &Store) -> usize {
    store.state().catalog.index.table_len()
}

#[test]
fn memory_does_not_grow_with_the_objects() {
    let sim = SimStorage::new(0);
    let objects = filled(&sim, 2000);
    let store = open(&sim);
    assert_holds(&store, &objects);
    assert!(table_len(&store) < 2 * SMALL.table_max, "{} in memory", table_len(&store));
    assert!(runs(&sim).len() <= 10, "{} runs: each is at least twice as long as the next", runs(&sim).len());
    for bytes in objects.values() {
        put(&store, bytes);
    }
    assert!(!store.state().writer.as_ref().is_some_and(|writer| writer.has_pending()), "all was there");
}

#[test]
fn opening_reads_no_more_than_what_is_new() {
    let sim = SimStorage::new(0);
    filled(&sim, 2000);
    let ops_to_open = || {
        let before = sim.op_count();
        open(&sim).contains(&Cid::of_raw(b"absent")).unwrap();
        sim.op_count() - before
    };
    let with = ops_to_open();
    runs(&sim).iter().chain([&LIST.to_owned()]).for_each(|path| sim.remove(path).unwrap());
    let without = ops_to_open();
    assert!(with * 2 < without, "{with} operations with the index, {without} without");
    assert!(ops_to_open() * 2 < without, "it was written anew");
}

/// A caller that never commits must not fill the memory.
#[test]
fn a_store_commits_by_itself() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let mut objects = BTreeMap::new();
    for i in 0..500 {
        let bytes = bytes_of(i, 30);
        objects.insert(put(&store, &bytes), bytes);
        assert!(table_len(&store) <= SMALL.table_max + SMALL.pending_max);
    }
    assert_holds(&store, &objects);
}

/// All is there, whatever became of the index, also for the next process; and it is written anew.
fn assert_nothing_is_lost(sim: &SimStorage, objects: &BTreeMap<Cid, Vec<u8>>, what: &str) {
    let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
    for (cid, bytes) in objects {
        assert_eq!(reader.get(cid).unwrap().as_ref(), Some(bytes), "{what}");
    }
    assert!(!reader.contains(&Cid::of_raw(b"absent")).unwrap());
    let store = open(sim);
    assert_holds(&store, objects);
    for i in 0..8 {
        put(&store, &bytes_of(i + 1000, 20));
    }
    store.commit().unwrap();
    assert_holds(&store, objects);
    drop(store);
    let store = open(sim);
    assert_holds(&store, objects);
    assert_eq!(store.fsck().unwrap().corrupt, [], "{what}");
}

#[test]
fn an_index_that_is_damaged_loses_nothing() {
    let sim = SimStorage::new(3);
    let objects = filled(&sim, 16);
    for path in runs(&sim).into_iter().chain([LIST.to_owned()]) {
        let bytes = sim.peek(&path).unwrap();
        for at in 0..bytes.len() as u64 {
            let flipped = damage::copy(&sim);
            assert!(flipped.flip_bit(&path, at, (at % 8) as u8));
            assert_nothing_is_lost(&flipped, &objects, &format!("`{path}` byte {at} flipped"));
            let cut = damage::copy(&sim);
            assert!(cut.truncate(&path, at));
            assert_nothing_is_lost(&cut, &objects, &format!("`{path}` cut to {at}"));
        }
        let gone = damage::copy(&sim);
        gone.remove(&path).unwrap();
        assert_nothing_is_lost(&gone, &objects, &format!("`{path}` removed"));
        let other = damage::copy(&sim);
        other.plant(&path, &bytes_of(1, 999));
        assert_nothing_is_lost(&other, &objects, &format!("`{path}` replaced"));
    }
}

/// A list of before a collection comes back, from a copy of the folder: it names packs that are gone, and one
/// whose number has come again.
#[test]
fn an_index_of_another_time_is_not_believed() {
    let sim = SimStorage::new(0);
    filled(&sim, 300);
    let old: Vec<_> = sim.paths().into_iter().filter(|path| path.contains("index/")).collect();
    let old: Vec<_> = old.iter().map(|path| (path.clone(), sim.peek(path).unwrap())).collect();
    let store = open(&sim);
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(store.list().unwrap(), []);
    drop(store);
    old.iter().for_each(|(path, bytes)| sim.plant(path, bytes));
    let store = open(&sim);
    let objects: BTreeMap<_, _> = (0..300)
        .map(|i| bytes_of(i, 8 + i as usize % 40))
        .map(|bytes| (put(&store, &bytes), bytes))
        .collect();
    store.commit().unwrap();
    assert_holds(&store, &objects);
}

/// A pack loses its end, and grows again past what the index says of it.
#[test]
fn a_pack_that_was_cut_and_grew_again_is_read_anew() {
    let sim = SimStorage::new(0);
    let objects = filled(&sim, 40);
    let pack = "store/packs/00000001.pack";
    let len = sim.peek(pack).unwrap().len() as u64;
    assert!(sim.truncate(pack, len / 2));
    let store = open(&sim);
    for i in 0..40 {
        put(&store, &bytes_of(i + 500, 50));
    }
    for bytes in objects.values() {
        put(&store, bytes);
    }
    store.commit().unwrap();
    assert_holds(&store, &objects);
    drop(store);
    assert_holds(&open(&sim), &objects);
}

#[test]
fn several_processes_write_one_index() {
    let sim = SimStorage::new(0);
    let stores = [open(&sim), open(&sim), open(&sim)];
    let mut objects = BTreeMap::new();
    for i in 0..600 {
        let bytes = bytes_of(i, 25);
        let store = &stores[i as usize % 3];
        objects.insert(put(store, &bytes), bytes);
        if i % 5 == 0 {
            store.commit().unwrap();
        }
    }
    stores.iter().for_each(|store| store.commit().unwrap());
    for store in &stores {
        assert_holds(store, &objects);
        assert!(table_len(store) < 20 * SMALL.table_max, "{} in memory", table_len(store));
    }
    drop(stores);
    assert_holds(&open(&sim), &objects);
}

/// The disk fails at every single operation while the index is written and merged.
#[test]
fn writing_the_index_can_fail_anywhere() {
    for at in 0..400 {
        let sim = SimStorage::new(at);
        let mut objects = filled(&sim, 20);
        let store = open(&sim);
        sim.fail_op(at);
        for i in 0..30 {
            let bytes = bytes_of(i + 100, 20);
            if let Ok(cid) = store.put(Codec::Raw, &bytes)
                && store.commit().is_ok()
            {
                objects.insert(cid, bytes);
            }
        }
        sim.clear_faults();
        assert_holds(&store, &objects);
        drop(store);
        sim.crash();
        let store = open(&sim);
        assert_holds(&store, &objects);
        assert_eq!(store.fsck().unwrap().corrupt, []);
    }
}

/// A store that slept through a collection wrote the places it knew over those of the copies, and then left them out:
/// nobody found the objects any more.
#[test]
fn who_slept_through_a_collection_hides_nothing() {
    for known in 1..12 {
        let sim = SimStorage::new(known);
        let mut objects = BTreeMap::new();
        let mut add = |store: &Store, numbers: std::ops::Range<u64>| {
            for i in numbers {
                let bytes = bytes_of(i, 30);
                objects.insert(put(store, &bytes), bytes);
            }
            store.commit().unwrap();
            objects.clone()
        };
        let first = open(&sim);
        put(&first, b"nobody needs this");
        add(&first, 0..known);
        // It has a pack of its own, so it need not look at the others again.
        let sleeper = open(&sim);
        let live = add(&sleeper, 300..301);
        assert_holds(&sleeper, &live);
        drop(first);
        let (collector, other) = (open(&sim), open(&sim));
        let report = collector.gc(&live.keys().copied().collect()).unwrap();
        assert_eq!((report.removed, report.packs_removed), (1, 1), "after {known}");
        add(&other, 200..240);
        let all = add(&sleeper, 301..340);
        for store in [&sleeper, &collector, &other, &open(&sim)] {
            assert_holds(store, &all);
        }
    }
}

/// Two write the same object. One commits it; the other reads that, writes the index, and dies before it commits its
/// own: the index said that it had all of the first one's pack, and lacked this object.
#[test]
fn an_object_that_two_write_at_once_is_in_the_index() {
    let sim = SimStorage::new(0);
    let (first, second) = (open(&sim), open(&sim));
    let same = bytes_of(1, 30);
    // The second has looked before there was anything.
    put(&second, &same);
    let mut objects = BTreeMap::from([(put(&first, &same), same)]);
    for i in 0..4 * SMALL.table_max as u64 {
        let bytes = bytes_of(i + 100, 30);
        let cid = put(&first, &bytes);
        first.commit().unwrap();
        assert!(second.contains(&cid).unwrap());
        objects.insert(cid, bytes);
    }
    assert!(!runs(&sim).is_empty(), "the second wrote no index");
    drop((first, second));
    sim.crash();
    assert_holds(&open(&sim), &objects);
}

/// A pack lost its end, and grew again to the very length that it had: the index on disk was believed, which named what
/// was cut off and none of what came instead.
#[test]
fn a_pack_that_grew_again_to_its_old_length_is_read_anew() {
    let sim = SimStorage::new(0);
    let pack = "store/packs/00000001.pack";
    let put_all = |store: &Store, numbers: std::ops::Range<u64>| -> BTreeMap<Cid, Vec<u8>> {
        let objects = numbers.map(|i| bytes_of(i, 30)).map(|bytes| (put(store, &bytes), bytes)).collect();
        store.commit().unwrap();
        objects
    };
    put_all(&open(&sim), 0..20);
    let half = sim.peek(pack).unwrap().len() as u64;
    put_all(&open(&sim), 20..40);
    let full = sim.peek(pack).unwrap().len();
    assert!(!runs(&sim).is_empty());
    assert!(sim.truncate(pack, half));
    // One that writes no index.
    let tuning = Tuning { table_max: 1000, ..SMALL };
    let store = Store::open_tuned(Arc::new(sim.clone()), "store", tuning).unwrap();
    let objects = put_all(&store, 100..120);
    drop(store);
    assert_eq!(sim.peek(pack).unwrap().len(), full, "of the same number of objects of the same length");
    assert_holds(&open(&sim), &objects);
    let store = open(&sim);
    let old = put_all(&store, 0..40);
    drop(store);
    sim.crash();
    assert_holds(&open(&sim), &old);
}

/// A pack loses its end, and may grow again by somebody else, while a store is open that knows what was there, from the index
/// on disk or by itself: it believed its memory, so that a put of what was lost said that it is there.
#[test]
fn a_pack_that_is_cut_while_a_store_is_open_is_read_anew() {
    for (table_max, grows) in [(SMALL.table_max, false), (1000, false), (SMALL.table_max, true), (1000, true)]
    {
        let sim = SimStorage::new(0);
        let objects = filled(&sim, 40);
        let pack = "store/packs/00000001.pack";
        if table_max > SMALL.table_max {
            runs(&sim).iter().chain([&LIST.to_owned()]).for_each(|path| sim.remove(path).unwrap());
        }
        let tuning = Tuning { table_max, ..SMALL };
        let store = Store::open_tuned(Arc::new(sim.clone()), "store", tuning).unwrap();
        // It has claims from here on: with the first, all is read anew.
        objects.values().for_each(|bytes| _ = put(&store, bytes));
        store.commit().unwrap();
        assert!(sim.truncate(pack, sim.peek(pack).unwrap().len() as u64 / 2));
        if grows {
            let other = open(&sim);
            (0..60).for_each(|i| _ = put(&other, &bytes_of(i + 900, 50)));
            other.commit().unwrap();
        }
        for i in 0..40 {
            put(&store, &bytes_of(i + 500, 50));
        }
        objects.values().for_each(|bytes| _ = put(&store, bytes));
        store.commit().unwrap();
        assert_holds(&store, &objects);
        drop(store);
        sim.crash();
        assert_holds(&open(&sim), &objects);
    }
}

/// Headers of records rot. The index still has the objects, so that a put would say that they are there; but a check
/// remembers what it found.
#[test]
fn what_is_in_a_hole_is_written_again_after_a_check() {
    let sim = SimStorage::new(0);
    let objects = filled(&sim, 40);
    let pack = "store/packs/00000001.pack";
    let bytes = sim.peek(pack).unwrap();
    for body in objects.values().step_by(7) {
        let at = bytes.windows(body.len()).position(|part| part == body).unwrap() as u64;
        assert!(sim.flip_bit(pack, at - 30, 3));
    }
    for has_index in [true, false] {
        let sim = damage::copy(&sim);
        if !has_index {
            runs(&sim).iter().chain([&LIST.to_owned()]).for_each(|path| sim.remove(path).unwrap());
        }
        let store = open(&sim);
        assert!(store.fsck().unwrap().corrupt.len() >= 6);
        objects.values().for_each(|bytes| _ = put(&store, bytes));
        store.commit().unwrap();
        drop(store);
        sim.crash();
        assert_holds(&open(&sim), &objects);
    }
}

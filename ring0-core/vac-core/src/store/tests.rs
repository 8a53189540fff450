//! What a user of the store would notice, on a real folder and on a disk that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::home::Tuning;
use super::*;
use crate::fault::{AbortKind, Corrupt, Error};
use crate::storage::sim::Random;
use crate::storage::{RealStorage, SimStorage};

/// Small sizes, so that a few objects fill a buffer, a pack, and a large file.
pub(super) const SMALL: Tuning = Tuning {
    large_min: 4000,
    pack_max: 6000,
    buffer: 700,
    table_max: 5,
    pending_max: 30,
    rewrite_max: u64::MAX,
    chunk: [64, 256, 1024],
    group_len: 1024,
    aligned: (usize::MAX, 1),
};

pub(super) fn open(sim: &SimStorage) -> Store {
    Store::open_tuned(Arc::new(sim.clone()), "store", SMALL).unwrap()
}

pub(super) fn put(store: &Store, bytes: &[u8]) -> Cid {
    store.put(Codec::Raw, bytes).unwrap()
}

pub(super) fn put_chunked(store: &Store, bytes: &[u8]) -> Cid {
    let (cid, len) = store.put_chunked(Codec::Raw, &mut &bytes[..], u64::MAX).unwrap();
    assert_eq!((cid, len), (Cid::of_raw(bytes), bytes.len() as u64));
    cid
}

pub(super) fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.next() as u8).collect()
}

pub(super) fn is_corrupt<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Corrupt(_)))
}

/// Checks that `store` gives exactly the bytes of `objects`, and nothing that does not verify.
pub(super) fn assert_holds(store: &Store, objects: &BTreeMap<Cid, Vec<u8>>) {
    for (cid, bytes) in objects {
        assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes), "{cid} must be there");
        assert_eq!(store.len_of(cid).unwrap(), Some(bytes.len() as u64));
    }
    let listed: BTreeMap<Cid, u64> = store.list().unwrap().into_iter().collect();
    for (cid, len) in &listed {
        assert_eq!(store.get(cid).unwrap().unwrap().len() as u64, *len);
    }
    assert!(objects.keys().all(|cid| listed.contains_key(cid)));
}

#[test]
fn what_was_put_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(dir.path().to_owned()));
    let store = Store::open(Arc::clone(&storage), "store").unwrap();
    let mut objects = BTreeMap::new();
    for len in [0, 1, 64, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 7] {
        let bytes = bytes_of(len as u64, len);
        let cid = store.put(Codec::DagCbor, &bytes).unwrap();
        assert_eq!(cid, Cid::of(Codec::DagCbor, &bytes));
        objects.insert(cid, bytes);
    }
    assert_holds(&store, &objects);
    store.commit().unwrap();
    store.commit().unwrap();
    assert_holds(&store, &objects);
    drop(store);
    assert_holds(&Store::open(Arc::clone(&storage), "store").unwrap(), &objects);
    let reader = Store::open_read_only(storage, "store").unwrap();
    assert_holds(&reader, &objects);
    assert!(matches!(reader.put(Codec::Raw, b"new"), Err(Error::Usage(_))));
    assert_eq!(reader.get(&Cid::of_raw(b"absent")).unwrap(), None);
    assert_eq!(reader.fsck().unwrap().corrupt, []);
}

#[test]
fn the_codec_is_part_of_the_name() {
    let store = open(&SimStorage::new(0));
    let raw = put(&store, b"x");
    assert!(store.contains(&raw).unwrap());
    assert!(!store.contains(&Cid::of(Codec::DagCbor, b"x")).unwrap());
}

#[test]
fn streams_are_the_same_objects() {
    let store = open(&SimStorage::new(0));
    for len in [0, 1, 3999, 4000, 4001, 300_000] {
        let bytes = bytes_of(9, len);
        let put = store.put_stream(Codec::Raw, &mut &bytes[..], 300_000).unwrap();
        assert_eq!(put, (Cid::of_raw(&bytes), len as u64));
        let mut out = Vec::new();
        assert_eq!(store.get_stream(&put.0, &mut out).unwrap(), Some(len as u64));
        assert_eq!(out, bytes);
    }
    let bytes = bytes_of(9, 5000);
    for max in [100, 4999] {
        let Err(Error::Abort(abort)) = store.put_stream(Codec::Raw, &mut &bytes[..], max) else {
            panic!("longer than {max}")
        };
        assert_eq!(abort.kind, AbortKind::Quota);
    }
    assert_eq!(store.get_stream(&Cid::of_raw(b"absent"), &mut Vec::new()).unwrap(), None);
}

#[test]
fn what_is_known_is_not_written_again() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    for len in [10, 5000] {
        put(&store, &bytes_of(1, len));
        store.commit().unwrap();
        let used = sim.used();
        put(&store, &bytes_of(1, len));
        store.commit().unwrap();
        assert_eq!(sim.used(), used);
    }
}

#[test]
fn two_stores_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(dir.path().to_owned()));
    let one = Store::open(Arc::clone(&storage), "store").unwrap();
    let two = Store::open(Arc::clone(&storage), "store").unwrap();
    let mut objects = BTreeMap::new();
    for round in 0..20 {
        for (store, name) in [(&one, 1), (&two, 2)] {
            let bytes = bytes_of(round * 10 + name, 500);
            objects.insert(put(store, &bytes), bytes);
            store.commit().unwrap();
        }
        assert_holds(&one, &objects);
        assert_holds(&two, &objects);
    }
    let report = one.gc(&BTreeSet::new()).unwrap();
    assert_eq!((report.removed, report.packs_in_use), (20, 1), "two has it open, and may name what it put");
    for bytes in objects.values() {
        put(&one, bytes);
    }
    one.commit().unwrap();
    assert_holds(&two, &objects);
    drop(two);
    let kept: BTreeMap<_, _> = objects.into_iter().step_by(2).collect();
    let report = one.gc(&kept.keys().copied().collect()).unwrap();
    assert_eq!((report.kept, report.removed), (20, 20));
    assert_holds(&one, &kept);
    assert_eq!(one.list().unwrap().len(), 20);
    put(&one, b"after");
    one.commit().unwrap();
}

#[test]
fn threads_share_a_store() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..50 {
                    let bytes = bytes_of(thread * 1000 + i, 300);
                    let cid = put(store, &bytes);
                    if i % 7 == 0 {
                        store.commit().unwrap();
                    }
                    assert_eq!(store.get(&cid).unwrap(), Some(bytes));
                }
                store.commit().unwrap();
            });
        }
    });
    drop(store);
    sim.crash();
    assert_eq!(open(&sim).list().unwrap().len(), 200);
}

#[test]
fn a_collection_keeps_what_is_put_while_it_runs() {
    let store = open(&SimStorage::new(0));
    let old = put(&store, b"old");
    let again = put(&store, b"again");
    let large = put(&store, &bytes_of(1, 5000));
    store.commit().unwrap();
    let collection = store.begin_gc().unwrap();
    let new = put(&store, b"new");
    put(&store, b"again");
    put(&store, &bytes_of(1, 5000));
    let report = collection.collect(&BTreeSet::new()).unwrap();
    assert_eq!((report.kept, report.removed), (3, 1));
    assert!(!store.contains(&old).unwrap());
    for cid in [again, new, large] {
        assert!(store.get(&cid).unwrap().is_some());
    }
    assert_eq!(store.gc(&BTreeSet::new()).unwrap().removed, 3);
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn pins_keep_objects() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let one = put(&store, b"one");
    let two = put(&store, b"two");
    store.pin("study/α 1", &one).unwrap();
    store.pin("gone", &two).unwrap();
    assert!(store.unpin("gone").unwrap());
    assert!(!store.unpin("gone").unwrap());
    assert!(matches!(store.pin("", &one), Err(Error::Usage(_))));
    drop(store);
    sim.crash();
    let store = open(&sim);
    assert_eq!(store.pins().unwrap(), BTreeMap::from([("study/α 1".to_owned(), one)]));
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(store.list().unwrap(), [(one, 3)]);
    let pin = sim.paths().into_iter().find(|path| path.contains("pins/")).unwrap();
    sim.flip_bit(&pin, 20, 3);
    assert!(is_corrupt(&store.pins()));
    assert!(is_corrupt(&store.gc(&BTreeSet::new())), "a pin that cannot be read may keep anything");
    assert_eq!(store.fsck().unwrap().corrupt.len(), 1);
    assert_eq!(store.list().unwrap(), [(one, 3)]);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    for (small, large) in [(true, false), (false, true)] {
        let sim = SimStorage::new(0);
        let store = open(&sim);
        let safe = put(&store, b"safe");
        store.commit().unwrap();
        sim.set_capacity(Some(sim.used() + 500));
        let len = if large { 5000 } else { 300 };
        let results: Vec<_> = (0..10).map(|i| store.put(Codec::Raw, &bytes_of(i, len))).collect();
        let failed = results.into_iter().chain([store.commit().map(|()| safe)]).find_map(Result::err);
        let Some(Error::Abort(abort)) = failed else { panic!("the disk is full") };
        assert!(abort.message.contains("sim:/store/"), "{}", abort.message);
        assert!(abort.hint.unwrap().contains("free some space"));
        assert_eq!(store.get(&safe).unwrap().unwrap(), b"safe");
        sim.set_capacity(None);
        // A full disk is not a failed sync: with space again, nothing that was put is lost.
        let later = put(&store, b"later");
        store.commit().unwrap();
        drop(store);
        sim.crash();
        let store = open(&sim);
        assert!(store.contains(&safe).unwrap() && store.contains(&later).unwrap());
        assert_eq!(small, store.list().unwrap().len() > 2);
        assert_eq!(store.fsck().unwrap().corrupt, []);
    }
}

#[test]
fn a_failed_sync_ends_all_writing() {
    for seed in 0..20 {
        let sim = SimStorage::new(seed);
        let store = open(&sim);
        let safe = put(&store, b"safe");
        store.commit().unwrap();
        let lost = put(&store, b"lost");
        sim.fail_sync(0);
        assert!(store.commit().is_err());
        let Err(Error::Abort(abort)) = store.commit() else { panic!("never tried again") };
        assert!(abort.message.contains("because a write to it failed"), "{}", abort.message);
        assert!(store.put(Codec::Raw, b"more").is_err());
        assert_eq!(store.get(&safe).unwrap().unwrap(), b"safe");
        drop(store);
        // The next process may see the bytes in the page cache, but must not believe in them.
        let store = open(&sim);
        store.get(&lost).unwrap();
        put(&store, b"lost");
        store.commit().unwrap();
        drop(store);
        sim.crash();
        let store = open(&sim);
        assert_eq!(store.get(&lost).unwrap().unwrap(), b"lost");
        assert_eq!(store.fsck().unwrap().corrupt, []);
    }
}

/// A process dedups against a record that another one wrote but never synced; then the power goes.
#[test]
fn an_object_that_another_process_did_not_sync_is_written_again() {
    for seed in 0..20 {
        let sim = SimStorage::new(seed);
        let one = open(&sim);
        let bytes = bytes_of(1, 600);
        put(&one, &bytes);
        put(&one, &bytes_of(2, 600)); // Flushes the first, syncs nothing.
        put(&one, &bytes_of(3, 600));
        let two = open(&sim);
        assert!(two.contains(&Cid::of_raw(&bytes)).unwrap());
        put(&two, &bytes);
        two.commit().unwrap();
        drop((one, two));
        sim.crash();
        assert_eq!(open(&sim).get(&Cid::of_raw(&bytes)).unwrap(), Some(bytes));
    }
}

/// A process gives a large file its name and cannot sync the folder; another one finds the file.
#[test]
fn a_large_object_that_another_process_found_stays() {
    for seed in 0..20 {
        let sim = SimStorage::new(seed);
        let (one, two) = (open(&sim), open(&sim));
        let bytes = bytes_of(1, 5000);
        sim.fail_sync(1);
        assert!(one.put(Codec::Raw, &bytes).is_err());
        let cid = put(&two, &bytes);
        two.commit().unwrap();
        sim.crash();
        assert_eq!(open(&sim).get(&cid).unwrap(), Some(bytes));
    }
}

#[test]
fn a_read_only_home_still_reads() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let cid = put(&store, b"x");
    store.commit().unwrap();
    drop(store);
    sim.set_read_only(true);
    let store = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
    assert_eq!(store.get(&cid).unwrap().unwrap(), b"x");
    let empty = Store::open_read_only(Arc::new(SimStorage::new(0)), "store").unwrap();
    assert_eq!(empty.list().unwrap(), []);
}

#[test]
fn a_reader_follows_a_collection() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let objects: BTreeMap<Cid, Vec<u8>> =
        (0..40).map(|i| bytes_of(i, 300)).map(|bytes| (put(&store, &bytes), bytes)).collect();
    store.commit().unwrap();
    let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
    assert_holds(&reader, &objects);
    let kept: BTreeMap<_, _> = objects.into_iter().skip(1).step_by(2).collect();
    store.gc(&kept.keys().copied().collect()).unwrap();
    let late = put(&store, b"late");
    store.commit().unwrap();
    assert_holds(&reader, &kept);
    assert_eq!(reader.get(&late).unwrap().unwrap(), b"late");
}

#[test]
fn a_newer_format_is_left_alone() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    put(&store, b"x");
    store.commit().unwrap();
    drop(store);
    let pack = "store/packs/00000001.pack";
    let mut bytes = sim.peek(pack).unwrap();
    bytes[7] = 3;
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..12]);
    sum.update(&1u64.to_le_bytes());
    bytes[12..16].copy_from_slice(&sum.finalize().to_le_bytes());
    sim.plant(pack, &bytes);
    let store = open(&sim);
    let err = store.put(Codec::Raw, b"y").unwrap_err().to_string();
    assert!(err.contains("00000001.pack") && err.contains("newer program"), "{err}");
    assert_eq!(sim.peek(pack).unwrap(), bytes);
}

mod aligned;
mod beside;
mod compression;
mod cuts;
mod damage;
mod exhaustive;
pub(super) use damage::copy;
mod index;
mod liar;
mod model;
mod races;
mod room;
mod scrub;
mod stepped;

//! Objects in chunks are objects, whatever happens to their lists and chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::tests::{assert_holds, bytes_of, copy, is_corrupt, open, put, put_chunked};
use super::*;
use crate::fault::AbortKind;
use crate::storage::{SimStorage, Storage};

/// Two versions of a file: the second has something in its middle.
fn versions() -> [Vec<u8>; 2] {
    let old = bytes_of(1, 60_000);
    let new = [&old[..30_000], b"what is new", &old[30_000..]].concat();
    [old, new]
}

fn list_path(sim: &SimStorage) -> String {
    sim.paths().into_iter().find(|path| path.contains("chunked/")).unwrap()
}

#[test]
fn an_object_in_chunks_is_the_same_object() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let mut objects = BTreeMap::new();
    for len in [0, 1, 3999, 4000, 4001, 5120, 70_000] {
        let bytes = bytes_of(len as u64, len);
        let (cid, put_len) = store.put_chunked(Codec::DagCbor, &mut &bytes[..], 70_000).unwrap();
        assert_eq!((cid, put_len), (Cid::of(Codec::DagCbor, &bytes), len as u64));
        let mut out = Vec::new();
        assert_eq!(store.get_stream(&cid, &mut out).unwrap(), Some(len as u64));
        assert!(out == bytes && store.is_whole(&cid).unwrap() && store.contains(&cid).unwrap());
        objects.insert(cid, bytes);
    }
    assert_eq!(sim.paths().iter().filter(|path| path.contains("large/")).count(), 0);
    assert_eq!(sim.paths().iter().filter(|path| path.contains("chunked/")).count(), 4);
    store.commit().unwrap();
    let report = store.fsck().unwrap();
    assert_eq!((report.chunked, report.corrupt), (4, Vec::new()));
    drop(store);
    sim.crash();
    assert_holds(&open(&sim), &objects);
    assert_holds(&Store::open_read_only(Arc::new(sim), "store").unwrap(), &objects);
}

#[test]
fn a_stream_that_is_too_long_leaves_no_list() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    for max in [100, 4999] {
        let put = store.put_chunked(Codec::Raw, &mut &bytes_of(9, 5000)[..], max);
        assert!(
            matches!(put, Err(Error::Abort(abort)) if abort.kind == AbortKind::Quota),
            "longer than {max}"
        );
    }
    assert_eq!(
        sim.paths().iter().filter(|path| path.contains("chunked/") || path.contains("tmp/")).count(),
        0
    );
}

#[test]
fn versions_share_what_is_equal() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let [old, new] = versions();
    let first = put_chunked(&store, &old);
    let used = sim.used();
    let second = put_chunked(&store, &new);
    let more = sim.used() - used;
    // A few chunks, and a list of 44 bytes for each of some 240 chunks and 64 for each of 59 groups.
    assert!(more < 20_000, "{more} bytes more for a version with 11 bytes more");
    let used = sim.used();
    for _ in 0..2 {
        put_chunked(&store, &new);
        put(&store, &new);
        store.put_stream(Codec::Raw, &mut &old[..], u64::MAX).unwrap();
    }
    let claims = sim.paths().into_iter().filter(|path| path.ends_with(".claims"));
    let claims: usize = claims.map(|path| sim.peek(&path).unwrap().len()).sum();
    assert!(sim.used() - used <= claims as u64, "what is here in chunks is here");
    assert_holds(&store, &BTreeMap::from([(first, old), (second, new)]));
}

/// In one piece first: then it stays so.
#[test]
fn an_object_in_one_piece_stays_so() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let bytes = bytes_of(1, 9000);
    put(&store, &bytes);
    put_chunked(&store, &bytes);
    assert!(!sim.paths().iter().any(|path| path.contains("chunked/")));
}

#[test]
fn any_part_can_be_read() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let bytes = bytes_of(3, 40_000);
    let cid = put_chunked(&store, &bytes);
    let small = put(&store, b"small");
    let whole = put(&store, &bytes_of(4, 6000));
    let read = |cid: &Cid, offset: u64, len: usize| {
        let mut to = vec![0; len];
        let read = store.read_range(cid, offset, &mut to).unwrap()?;
        to.truncate(read);
        Some(to)
    };
    for offset in (0..41_000).step_by(331) {
        for len in [0, 1, 700, 1024, 5000, 50_000] {
            let expected = bytes.get(offset..(offset + len).min(40_000)).unwrap_or_default();
            assert!(read(&cid, offset as u64, len).unwrap() == expected, "{len} bytes at {offset}");
        }
    }
    assert_eq!(read(&small, 2, 9).unwrap(), b"all");
    assert_eq!(read(&whole, 5990, 99).unwrap(), bytes_of(4, 6000)[5990..]);
    assert_eq!(read(&cid, u64::MAX, 9).unwrap(), []);
    assert_eq!(read(&Cid::of_raw(b"absent"), 0, 1), None);
    let spot = store.spot(&cid).unwrap();
    let mut to = [0; 100];
    assert_eq!((spot.offset, spot.len, spot.file.read_at(&mut to, 20_000).unwrap()), (0, 40_000, 100));
    assert_eq!(to, bytes[20_000..20_100]);
}

/// By counting calls of the storage, which no load changes.
#[test]
fn a_part_costs_what_it_is_and_not_what_all_is() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let cid = put_chunked(&store, &bytes_of(3, 400_000));
    let calls = |read: &dyn Fn()| {
        let before = sim.op_count();
        read();
        sim.op_count() - before
    };
    let all = calls(&|| assert!(store.get(&cid).unwrap().is_some()));
    let part = calls(&|| assert_eq!(store.read_range(&cid, 200_000, &mut [0; 100]).unwrap(), Some(100)));
    assert!(all > 1000 && part < 120, "{part} calls for a part, {all} for all");
}

/// Every byte of a list: no wrong byte is ever given out, the object is named, and putting it again or a scrub repairs.
#[test]
fn a_flipped_byte_or_a_cut_of_a_list_is_noticed_and_repaired() {
    let sim = SimStorage::new(0);
    let bytes = bytes_of(5, 5000);
    let cid = put_chunked(&open(&sim), &bytes);
    let path = list_path(&sim);
    let len = sim.peek(&path).unwrap().len() as u64;
    let nodes_from = len - 10 * 32;
    for at in (0..len * 2).step_by(3) {
        let (damaged, is_cut) = (copy(&sim), at >= len);
        let at = at % len;
        assert!(if is_cut {
            damaged.truncate(&path, at)
        } else {
            damaged.flip_bit(&path, at, (at % 8) as u8)
        });
        // Nodes are used for parts only, and then what is wrong is found out by reading all.
        let is_node = !is_cut && at >= nodes_from;
        let store = open(&damaged);
        assert_eq!(store.fsck().unwrap().corrupt.len(), 1, "byte {at}");
        for got in [store.get(&cid), store.get_stream(&cid, &mut Vec::new()).map(|_| None)] {
            assert!(is_node && got.is_ok() || is_corrupt(&got), "byte {at} of {len}: {got:?}");
        }
        for offset in [0, 2000, 4999] {
            let mut to = [0];
            match store.read_range(&cid, offset, &mut to) {
                Ok(read) => assert_eq!((read, to[0]), (Some(1), bytes[offset as usize]), "byte {at}"),
                Err(why) => assert!(matches!(why, Error::Corrupt(_)) && !is_node, "{why}"),
            }
        }
        let by_put = copy(&damaged);
        let nobody = |_: &Cid| Ok(None);
        let report = open(&damaged).scrub(u64::MAX, &nobody).unwrap();
        assert_eq!((report.corrupt.len(), report.mended.len()), (1, usize::from(is_node)), "byte {at}");
        let other = |asked: &Cid| Ok((*asked == cid).then(|| bytes.clone()));
        if !is_node {
            assert_eq!(open(&damaged).scrub(u64::MAX, &other).unwrap().mended, [cid]);
        }
        let store = open(&by_put);
        put_chunked(&store, &bytes);
        for sim in [damaged, by_put] {
            sim.crash();
            let store = open(&sim);
            assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes));
            assert!(is_node || store.fsck().unwrap().corrupt.is_empty(), "byte {at}");
        }
    }
}

/// A chunk rots: the check names it and its object, and the object alone from elsewhere is enough to mend both.
#[test]
fn a_chunk_that_rots_is_an_object_that_is_named_and_mended() {
    let sim = SimStorage::new(0);
    let [old, new] = versions();
    let store = open(&sim);
    let cids = [put_chunked(&store, &old), put_chunked(&store, &new)];
    drop(store);
    let objects = BTreeMap::from([(cids[0], old.clone()), (cids[1], new.clone())]);
    let packs: Vec<_> = sim.paths().into_iter().filter(|path| path.ends_with(".pack")).collect();
    for path in &packs {
        let len = sim.peek(path).unwrap().len() as u64;
        for at in (16..len).step_by(997) {
            let sim = copy(&sim);
            assert!(sim.flip_bit(path, at, 0));
            let store = open(&sim);
            let bad: Vec<_> = cids.iter().filter(|cid| !matches!(store.get(cid), Ok(Some(_)))).collect();
            let report = open(&sim).fsck().unwrap();
            let names =
                |cid: &Cid| report.corrupt.iter().any(|bad| bad.to_string().contains(&format!("for {cid}")));
            assert!(bad.iter().all(|cid| names(cid)) && report.corrupt.len() > bad.len(), "{path} at {at}");
            assert_eq!(report.chunked as usize, 2 - bad.len());
            let other = |asked: &Cid| Ok(objects.get(asked).cloned());
            let report = open(&sim).scrub(u64::MAX, &other).unwrap();
            // A chunk of both comes back with the first.
            assert!(bad.is_empty() || bad.iter().any(|cid| report.mended.contains(cid)), "{report:?}");
            assert_eq!(report.lost, []);
            sim.crash();
            assert_holds(&open(&sim), &objects);
        }
    }
}

#[test]
fn a_collection_keeps_the_chunks_of_what_lives() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let [old, new] = versions();
    let (first, second) = (put_chunked(&store, &old), put_chunked(&store, &new));
    let other = open(&sim);
    store.gc(&BTreeSet::from([second])).unwrap();
    assert_eq!(store.get(&first).unwrap(), Some(old.clone()), "another store may have found it here");
    drop(other);
    let report = store.gc(&BTreeSet::from([second])).unwrap();
    assert!(
        (2..30).contains(&report.removed),
        "the list, and chunks that only the old version has: {report:?}"
    );
    assert_eq!(store.get(&first).unwrap(), None);
    assert_holds(&store, &BTreeMap::from([(second, new.clone())]));
    store.pin("new", &second).unwrap();
    store.gc(&BTreeSet::new()).unwrap();
    assert_holds(&store, &BTreeMap::from([(second, new)]));
    store.unpin("new").unwrap();
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert!(!sim.paths().iter().any(|path| path.contains("chunked/")));
}

#[test]
fn nothing_is_collected_while_a_list_is_damaged() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let bytes = bytes_of(1, 9000);
    let cid = put_chunked(&store, &bytes);
    assert!(sim.flip_bit(&list_path(&sim), 70, 0));
    assert!(is_corrupt(&store.gc(&BTreeSet::from([cid]))));
    assert!(is_corrupt(&store.get(&cid)));
    put(&store, &bytes);
    assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes), "in one piece now");
    store.gc(&BTreeSet::from([cid])).unwrap();
    assert_eq!(store.get(&cid).unwrap(), Some(bytes));
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(store.list().unwrap(), []);
}

/// The power goes at every call of a put: what was acknowledged is there, and nothing is corrupt.
#[test]
fn a_put_can_be_cut_anywhere() {
    let [old, new] = versions();
    let mut acknowledged = 0;
    for at in 0..400 {
        let sim = SimStorage::new(at);
        let store = open(&sim);
        let first = put_chunked(&store, &old[20_000..40_000]);
        sim.halt_at(at);
        let put = store.put_chunked(Codec::Raw, &mut &new[20_000..40_000], u64::MAX);
        sim.crash();
        let store = open(&sim);
        assert_eq!(store.fsck().unwrap().corrupt, [], "call {at}");
        assert_eq!(store.get(&first).unwrap().as_deref(), Some(&old[20_000..40_000]));
        if let Ok((second, _)) = put {
            acknowledged += 1;
            assert_eq!(store.get(&second).unwrap().as_deref(), Some(&new[20_000..40_000]), "call {at}");
        }
    }
    assert!((1..380).contains(&acknowledged), "{acknowledged}");
}

/// A collection that is killed between any two steps leaves no list without its chunks.
#[test]
fn a_collection_of_chunks_can_be_cut_anywhere() {
    let [old, new] = versions();
    let mut cut = 0;
    for at in 0..400 {
        let sim = SimStorage::new(at);
        let store = open(&sim);
        let (first, second) =
            (put_chunked(&store, &old[20_000..40_000]), put_chunked(&store, &new[20_000..40_000]));
        sim.halt_at(at);
        cut += u32::from(store.gc(&BTreeSet::from([second])).is_err());
        sim.crash();
        let store = open(&sim);
        assert_eq!(store.fsck().unwrap().corrupt, [], "call {at}");
        assert_eq!(store.get(&second).unwrap().as_deref(), Some(&new[20_000..40_000]));
        let got = store.get(&first).unwrap();
        assert!(got.is_none_or(|got| got == old[20_000..40_000]), "call {at}");
        assert_eq!(store.gc(&BTreeSet::from([second])).unwrap().corrupt, []);
        assert_eq!(store.get(&first).unwrap(), None);
        assert_eq!(store.get(&second).unwrap().as_deref(), Some(&new[20_000..40_000]));
    }
    assert!(cut > 20, "{cut}");
}

/// What somebody wrote by hand, with all checksums right.
#[test]
fn a_list_that_lies_is_no_object() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let (part, bytes) = (bytes_of(1, 300), bytes_of(2, 9000));
    let (chunk, real) = (put(&store, &part), put_chunked(&store, &bytes));
    store.commit().unwrap();
    let lie = Cid::of_raw(b"never put");
    let entry = |cid: Cid, end: u64| Entry { cid, end };
    for (len, entries) in [
        // Another object's bytes, too.
        (300, vec![entry(chunk, 300)]),
        // Itself, and another list: only packs are looked through.
        (4000, vec![entry(lie, 4000)]),
        (9000, vec![entry(real, 9000)]),
        // Chunks that do not add up, overlap, or are of another length.
        (600, vec![entry(chunk, 300)]),
        (600, vec![entry(chunk, 400), entry(chunk, 300)]),
        (600, vec![entry(chunk, 300), entry(chunk, 600), entry(chunk, 900)]),
        (299, vec![entry(chunk, 299)]),
        (1 << 62, vec![entry(chunk, 1 << 62)]),
        (5000, vec![entry(chunk, 300)]),
    ] {
        let head = Head { cid: lie, len, chunks: entries.len() as u32, group_len: 1024 };
        let mut file = head.encode();
        (0..).zip(&entries).for_each(|(nth, entry)| file.extend_from_slice(&entry.encode(&lie, nth)));
        file.resize(usize::try_from(head.file_len()).unwrap().min(10_000), 7);
        sim.plant(&format!("store/chunked/{lie}"), &file);
        let store = open(&sim);
        assert!(is_corrupt(&store.get(&lie)), "{entries:?}");
        assert!(is_corrupt(&store.get_stream(&lie, &mut Vec::new())));
        assert!(is_corrupt(&store.read_range(&lie, len / 2, &mut [0; 9])), "{entries:?}");
        let mut to = [0; 9];
        assert!(store.spot(&lie).is_none_or(|spot| spot.file.read_at(&mut to, len / 2).is_err()));
        assert_eq!(store.fsck().unwrap().corrupt.len(), 1);
        assert_eq!(store.get(&real).unwrap().as_ref(), Some(&bytes));
    }
}

/// Two processes: one puts in chunks, the other reads, before and after it is closed.
#[test]
fn others_find_what_one_put_in_chunks() {
    let sim = SimStorage::new(0);
    let (one, two) = (open(&sim), open(&sim));
    assert_eq!(two.list().unwrap(), []);
    let bytes = bytes_of(1, 50_000);
    let cid = put_chunked(&one, &bytes);
    assert_eq!(two.get(&cid).unwrap().as_ref(), Some(&bytes));
    drop(one);
    assert_eq!(two.get(&cid).unwrap(), Some(bytes));
}

/// Any sync of a put fails, the last being that of the folder in which its list has its name by then. Another process
/// finds what is there and must not rely on it as it is.
#[test]
fn what_another_process_did_not_sync_is_made_durable() {
    let mut failed = 0;
    for seed in 0..200 {
        let sim = SimStorage::new(seed);
        let (one, two) = (open(&sim), open(&sim));
        let bytes = bytes_of(1, 5000);
        sim.fail_sync(seed % 20);
        failed += u32::from(one.put_chunked(Codec::Raw, &mut &bytes[..], u64::MAX).is_err());
        sim.clear_faults();
        let cid = put_chunked(&two, &bytes);
        sim.crash();
        assert_eq!(open(&sim).get(&cid).unwrap(), Some(bytes), "seed {seed}");
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn versions_share_with_the_sizes_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(crate::storage::RealStorage::new(dir.path().to_owned()));
    let store = Store::open(storage, "store").unwrap();
    let bytes = bytes_of(8, 9 << 20);
    let cid = put_chunked(&store, &bytes);
    let new = [&bytes[..5 << 20], b"x", &bytes[5 << 20..]].concat();
    put_chunked(&store, &new);
    let total: u64 =
        store.list().unwrap().into_iter().filter(|(_, len)| *len < 1 << 20).map(|(_, len)| len).sum();
    assert!(total < 10 << 20, "{total} bytes in chunks for two versions of 9 MiB");
    let mut to = vec![0; 100_000];
    assert_eq!(store.read_range(&cid, 4_000_000, &mut to).unwrap(), Some(100_000));
    assert!(to == bytes[4_000_000..4_100_000]);
}

mod damage;

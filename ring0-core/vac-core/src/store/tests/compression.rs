//! Compression is below the CIDs: nobody sees it but the disk.

use super::format::Record;
use super::*;
use crate::storage::OpenMode;

const PACK: &str = "store/packs/00000001.pack";
const IDX: &str = "store/packs/00000001.idx";
const SETTINGS: &str = "store/settings";

/// Words, which get shorter.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let words = bytes_of(seed, 16);
    (0..len).map(|i| words[i * i % 15 % 7] | 0x20).collect()
}

/// A store that compresses, with six objects that are.
fn filled(objects: &mut BTreeMap<Cid, Vec<u8>>) -> SimStorage {
    let sim = SimStorage::new(7);
    let store = open(&sim);
    store.set_compression(Some(3)).unwrap();
    for i in 0..6 {
        let bytes = text(i, 200 + i as usize * 60);
        objects.insert(put(&store, &bytes), bytes);
        store.commit().unwrap();
    }
    sim
}

fn without_index(sim: &SimStorage) {
    let all = sim.paths().into_iter().filter(|path| path.ends_with(".idx") || path.contains("index/"));
    all.for_each(|path| sim.remove(&path).unwrap());
}

#[test]
fn one_store_holds_both_kinds() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let mut objects = BTreeMap::new();
    let mut add = |store: &Store, bytes: Vec<u8>| {
        let cid = put(store, &bytes);
        objects.insert(cid, bytes);
        (cid, objects.clone())
    };
    let (plain, _) = add(&store, text(1, 900));
    store.set_compression(Some(19)).unwrap();
    assert_eq!(store.compression(), Some(19));
    let (compressed, all) = add(&store, text(2, 900));
    assert_holds(&store, &all);
    add(&store, bytes_of(3, 900));
    add(&store, text(4, 127));
    store.set_compression(Some(1)).unwrap();
    add(&store, text(5, 3999));
    store.commit().unwrap();
    store.set_compression(None).unwrap();
    let (last, all) = add(&store, text(6, 900));
    store.commit().unwrap();
    let is_as_it_is = |bytes: &[u8]| sim.peek(PACK).unwrap().windows(bytes.len()).any(|part| part == bytes);
    for (bytes, expected) in
        [(text(1, 900), true), (text(2, 900), false), (bytes_of(3, 900), true), (text(4, 127), true)]
    {
        assert_eq!(is_as_it_is(&bytes), expected);
    }
    let is_found = |store: &Store| [plain, compressed, last].map(|cid| store.spot(&cid).is_some());
    assert_eq!(is_found(&store), [true, false, true]);
    let used = sim.used();
    assert!(used < 900 * 3 + 127 + 8 * 200, "{used} bytes for 6 objects");
    for settings in [None, Some(3)] {
        store.set_compression(settings).unwrap();
        all.values().for_each(|bytes| _ = put(&store, bytes));
        store.commit().unwrap();
        assert_eq!(sim.used(), used, "what is here is not written again, whatever kind it is");
    }
    drop(store);
    let store = open(&sim);
    assert_eq!(store.compression(), Some(3));
    assert_holds(&store, &all);
    assert_eq!(is_found(&store), [true, false, true]);
    without_index(&sim);
    let store = open(&sim);
    assert_holds(&store, &all);
    assert_eq!(store.fsck().unwrap().corrupt, []);
}

#[test]
fn a_large_object_is_in_chunks_that_are_compressed() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let mut objects = BTreeMap::new();
    let in_files = |sim: &SimStorage| sim.paths().iter().filter(|path| path.contains("large/")).count();
    store.set_compression(Some(3)).unwrap();
    for (seed, is_stream) in [(1, false), (2, true)] {
        let bytes = text(seed, 9000);
        let cid = match is_stream {
            true => store.put_stream(Codec::Raw, &mut &bytes[..], 9000).unwrap().0,
            false => put(&store, &bytes),
        };
        objects.insert(cid, bytes);
    }
    assert_eq!(in_files(&sim), 0);
    assert!(sim.used() < 9000, "{} bytes for 18,000", sim.used());
    let (cid, bytes) = objects.first_key_value().unwrap();
    let mut part = [0; 700];
    assert_eq!(store.read_range(cid, 3000, &mut part).unwrap(), Some(700));
    assert_eq!(part, bytes[3000..3700]);
    store.set_compression(None).unwrap();
    let bytes = text(3, 9000);
    objects.insert(put(&store, &bytes), bytes);
    assert_eq!(in_files(&sim), 1);
    let used = sim.used();
    objects.values().for_each(|bytes| _ = put(&store, bytes));
    assert_eq!((in_files(&sim), sim.used()), (1, used), "what is here stays as it is");
    drop(store);
    sim.crash();
    let store = open(&sim);
    for (cid, bytes) in &objects {
        assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes));
        assert_eq!(store.len_of(cid).unwrap(), Some(9000));
    }
    assert_eq!(store.gc(&objects.keys().copied().collect()).unwrap().removed, 0);
    assert_eq!(store.fsck().unwrap().corrupt, []);
}

#[test]
fn a_bad_file_of_a_large_object_is_replaced_by_a_good_one() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let bytes = text(1, 9000);
    let cid = put(&store, &bytes);
    let path = sim.paths().into_iter().find(|path| path.contains("large/")).unwrap();
    sim.flip_bit(&path, 8000, 1);
    store.set_compression(Some(3)).unwrap();
    let source = bytes.clone();
    let report = store.scrub(u64::MAX, &move |_| Ok(Some(source.clone()))).unwrap();
    assert_eq!((report.mended, report.lost), (vec![cid], vec![]));
    assert_eq!(sim.peek(&path).unwrap(), bytes);
    assert_eq!(store.fsck().unwrap().corrupt, []);
}

#[test]
fn a_flipped_bit_in_a_compressed_object_is_named_and_repaired() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    let len = sim.peek(PACK).unwrap().len() as u64;
    for (offset, has_idx) in (16..len).flat_map(|offset| [(offset, true), (offset, false)]) {
        let sim = damage::copy(&sim);
        sim.flip_bit(PACK, offset, (offset % 8) as u8);
        if !has_idx {
            without_index(&sim);
        }
        let store = open(&sim);
        let report = store.fsck().unwrap();
        assert!(!has_idx || report.corrupt.len() == 1, "byte {offset}: {:?}", report.corrupt);
        let is_whole = |(cid, bytes): &(&Cid, &Vec<u8>)| match store.get(cid) {
            Ok(got) => got.inspect(|got| assert_eq!(got, *bytes)).is_some(),
            Err(Error::Corrupt(corrupt)) => {
                let text = corrupt.to_string();
                assert!(text.contains(PACK) && text.contains(&cid.to_string()), "{text}");
                false
            }
            Err(other) => panic!("{other}"),
        };
        let whole = objects.iter().filter(is_whole).count();
        assert!(whole >= 5, "byte {offset}: one flip, at most one object");
        // The length is in the object, and not verified; but a list goes on.
        assert!(store.list().unwrap().len() >= 5);
        for (cid, bytes) in &objects {
            _ = store.len_of(cid);
            put(&store, bytes);
        }
        store.commit().unwrap();
        drop(store);
        for (cid, bytes) in &objects {
            assert_eq!(open(&sim).get(cid).unwrap().as_ref(), Some(bytes), "byte {offset}");
        }
    }
}

/// A record whose frame is 100 MB of zeros, and which says that they are few, or too many for any object.
#[test]
fn a_bomb_is_corrupt_and_takes_no_memory() {
    let frame = zstd::bulk::compress(&vec![0; 100 << 20], 19).unwrap();
    let cid = Cid::of_raw(b"whatever");
    for own_len in [8, (1 << 20) - 1, 1 << 20, u32::MAX] {
        let stored = [&own_len.to_le_bytes()[..], &frame].concat();
        let body = Body::compressed(stored.len());
        let record = Record { start: 16, body, durable_end: 16, cid };
        let pack = [&format::encode_head(format::Kind::Pack, 1)[..], &record.encode(1), &stored].concat();
        let entry = IndexEntry::from(&record).encode(1);
        let idx = [&format::encode_head(format::Kind::Index, 1)[..], &entry].concat();
        let sim = SimStorage::new(0);
        sim.create_dir("store/packs").unwrap();
        sim.plant(PACK, &pack);
        sim.plant(IDX, &idx);
        let store = Store::open_read_only(Arc::new(sim), "store").unwrap();
        let err = store.get(&cid).unwrap_err().to_string();
        assert!(err.contains(PACK) && err.contains("cannot be decompressed"), "{err}");
        assert_eq!(store.fsck().unwrap().corrupt.len(), 1);
        let len = store.len_of(&cid);
        assert!(if own_len < 1 << 20 { len.is_ok() } else { is_corrupt(&len) }, "{own_len}");
        assert_eq!(store.list().unwrap().len(), 1);
    }
}

#[test]
fn a_collection_copies_what_is_stored() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    let before = sim.peek(PACK).unwrap();
    let store = open(&sim);
    store.set_compression(None).unwrap();
    let kept: BTreeMap<_, _> = objects.into_iter().step_by(2).collect();
    let report = store.gc(&kept.keys().copied().collect()).unwrap();
    assert_eq!((report.kept, report.removed, report.packs_rewritten), (3, 3, 1));
    let after = sim.peek("store/packs/00000002.pack").unwrap();
    assert!(after.len() < before.len());
    // No recompression: each body is, byte for byte, in the old pack.
    let scan = scan::scan(
        &*sim.open("store/packs/00000002.pack", OpenMode::Read).unwrap(),
        2,
        0,
        0,
        after.len() as u64,
    );
    let mut bodies = 0;
    for found in scan.unwrap().found {
        let (_, body) = found.entry.object().unwrap();
        let start = body.start(found.entry.start) as usize;
        let stored = &after[start..start + body.len() as usize];
        assert!(body.is_compressed() && before.windows(stored.len()).any(|part| part == stored));
        bodies += 1;
    }
    assert_eq!(bodies, 3);
    drop(store);
    assert_holds(&open(&sim), &kept);
}

#[test]
fn settings_that_are_damaged_are_none_and_named() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    assert_eq!((store.compression(), store.fsck().unwrap().corrupt.len()), (None, 0));
    for level in [0, -1, 20, i32::MAX] {
        assert!(matches!(store.set_compression(Some(level)), Err(Error::Usage(_))), "{level}");
    }
    store.set_compression(Some(5)).unwrap();
    drop(store);
    let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
    assert_eq!(reader.compression(), Some(5));
    assert!(matches!(reader.set_compression(None), Err(Error::Usage(_))));
    let bytes = sim.peek(SETTINGS).unwrap();
    for len in 0..bytes.len() {
        let sim = damage::copy(&sim);
        sim.truncate(SETTINGS, len as u64);
        let store = open(&sim);
        assert_eq!(store.compression(), None);
        let corrupt = store.fsck().unwrap().corrupt;
        assert!(corrupt.len() == 1 && corrupt[0].to_string().contains(SETTINGS), "{corrupt:?}");
        let cid = put(&store, &text(1, 500));
        store.commit().unwrap();
        assert!(store.spot(&cid).is_some(), "as by default");
        store.set_compression(Some(5)).unwrap();
        assert_eq!(store.fsck().unwrap().corrupt, []);
    }
    sim.plant(SETTINGS, &[7; 100]);
    assert_eq!((open(&sim).compression(), open(&sim).fsck().unwrap().corrupt.len()), (None, 1));
}

#[test]
fn a_power_cut_leaves_the_old_setting_or_the_new_one() {
    for at in 0.. {
        let sim = SimStorage::new(at);
        let store = open(&sim);
        store.set_compression(Some(2)).unwrap();
        sim.halt_at(at);
        let done = store.set_compression(Some(9));
        drop(store);
        sim.crash();
        let store = open(&sim);
        assert!([Some(2), Some(9)].contains(&store.compression()), "{:?}", store.compression());
        assert!(done.is_err() || store.compression() == Some(9));
        assert_eq!(store.fsck().unwrap().corrupt, []);
        if done.is_ok() {
            assert!(at > 3, "there was something to cut");
            break;
        }
    }
}

//! Every cut and every flipped bit of a pack or an index is harmless or reported.

use super::*;

/// A store with a few committed objects, on a disk that is then damaged.
fn filled(objects: &mut BTreeMap<Cid, Vec<u8>>) -> SimStorage {
    let sim = SimStorage::new(7);
    let store = open(&sim);
    for i in 0..6 {
        let bytes = bytes_of(i, 20 + i as usize * 30);
        objects.insert(put(&store, &bytes), bytes);
        store.commit().unwrap();
    }
    sim
}

pub(in super::super) fn copy(sim: &SimStorage) -> SimStorage {
    let to = SimStorage::new(1);
    for dir in ["store/packs", "store/tmp", "store/large", "store/pins", "store/index"] {
        to.create_dir(dir).unwrap();
    }
    for path in sim.paths() {
        to.create_dir(path.rsplit_once('/').unwrap().0).unwrap();
        to.plant(&path, &sim.peek(&path).unwrap());
    }
    to
}

const PACK: &str = "store/packs/00000001.pack";
const IDX: &str = "store/packs/00000001.idx";

/// Reads and writes a damaged store. Returns how many objects are whole; none may be wrong.
fn survey(sim: &SimStorage, objects: &BTreeMap<Cid, Vec<u8>>) -> (usize, Vec<Corrupt>) {
    let store = open(sim);
    let report = store.fsck().unwrap();
    let mut whole = 0;
    for (cid, bytes) in objects {
        match store.get(cid) {
            Ok(Some(got)) => {
                assert_eq!(&got, bytes);
                whole += 1;
            }
            Ok(None) => {}
            Err(Error::Corrupt(corrupt)) => {
                let text = corrupt.to_string();
                assert!(text.contains(".pack") && text.contains(&cid.to_string()), "{text}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    store.list().unwrap();
    // Putting an object again repairs it, for this process and for the next.
    for bytes in objects.values() {
        put(&store, bytes);
    }
    let new = put(&store, b"new");
    store.commit().unwrap();
    assert_holds_all(&store, objects, &new);
    drop(store);
    assert_holds_all(&open(sim), objects, &new);
    (whole, report.corrupt)
}

fn assert_holds_all(store: &Store, objects: &BTreeMap<Cid, Vec<u8>>, new: &Cid) {
    for (cid, bytes) in objects {
        assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(store.get(new).unwrap().unwrap(), b"new");
}

#[test]
fn a_flipped_bit_in_a_pack_is_reported() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    for has_idx in [true, false] {
        let len = sim.peek(PACK).unwrap().len() as u64;
        let last = objects.values().map(Vec::len).max().unwrap() as u64 + 56;
        for offset in 0..len {
            let sim = copy(&sim);
            assert!(sim.flip_bit(PACK, offset, (offset % 8) as u8));
            if !has_idx {
                sim.remove(IDX).unwrap();
            }
            let (whole, corrupt) = survey(&sim, &objects);
            assert!(whole >= objects.len() - 1, "byte {offset}: one flip, at most one object");
            // Without the index, nothing proves that the last record was ever committed.
            let is_provable = has_idx || (16..len - last).contains(&offset);
            assert!(corrupt.len() == 1 || !is_provable, "byte {offset} of {len}: {corrupt:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_an_index_is_harmless() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    for offset in 0..sim.peek(IDX).unwrap().len() as u64 {
        let sim = copy(&sim);
        assert!(sim.flip_bit(IDX, offset, (offset % 8) as u8));
        assert_eq!(survey(&sim, &objects), (objects.len(), Vec::new()), "byte {offset}");
    }
}

#[test]
fn every_cut_of_an_index_is_harmless() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    for len in 0..sim.peek(IDX).unwrap().len() as u64 {
        let sim = copy(&sim);
        assert!(sim.truncate(IDX, len));
        assert_eq!(survey(&sim, &objects), (objects.len(), Vec::new()), "cut to {len}");
    }
}

#[test]
fn every_cut_of_a_pack_keeps_what_is_before_it() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    let full = sim.peek(PACK).unwrap().len() as u64;
    for len in 0..full {
        for has_idx in [true, false] {
            let sim = copy(&sim);
            assert!(sim.truncate(PACK, len));
            if !has_idx {
                sim.remove(IDX).unwrap();
            }
            let mut end = 16;
            let sizes = (0..6).map(|i| 20 + i * 30 + 56);
            let before = sizes
                .filter(|size| {
                    end += size;
                    end <= len
                })
                .count();
            let (whole, corrupt) = survey(&sim, &objects);
            assert_eq!(whole, before, "cut to {len}");
            let named =
                objects.keys().filter(|cid| corrupt.iter().any(|c| c.to_string().contains(&cid.to_string())));
            // The index of all packs has five objects of six.
            let known = if has_idx { 6 } else { 5 };
            assert_eq!(named.count(), known - before.min(known), "cut to {len}: {corrupt:?}");
        }
    }
}

#[test]
fn garbage_of_any_length_in_place_of_a_file_is_survived() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    for seed in 0..100 {
        let sim = copy(&sim);
        let path = if seed % 2 == 0 { PACK } else { IDX };
        sim.plant(path, &bytes_of(seed, (seed as usize * 13) % 1500));
        survey(&sim, &objects);
    }
}

#[test]
fn a_rotten_large_object_is_reported_and_repaired() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let bytes = bytes_of(1, 9000);
    let cid = put(&store, &bytes);
    let path = sim.paths().into_iter().find(|path| path.contains("large/")).unwrap();
    assert!(sim.flip_bit(&path, 8000, 1));
    let err = store.get(&cid).unwrap_err().to_string();
    assert!(err.contains(&path) && err.contains(&cid.to_string()), "{err}");
    let mut out = Vec::new();
    assert!(is_corrupt(&store.get_stream(&cid, &mut out)));
    assert_eq!(out, [], "nothing of a corrupt object is given out");
    assert_eq!(store.fsck().unwrap().corrupt.len(), 1);
    put(&store, &bytes);
    assert_eq!(store.get(&cid).unwrap(), Some(bytes));
    assert_eq!(store.fsck().unwrap().corrupt, []);
}

/// Like damage, and not the end of every collection.
#[test]
fn a_collection_leaves_a_pack_with_an_unreadable_sector() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    let cids: Vec<Cid> = objects.keys().copied().collect();
    let body = &objects[&cids[0]];
    let at = sim.peek(PACK).unwrap().windows(body.len()).position(|part| part == body).unwrap() as u64;
    let store = open(&sim);
    let live: BTreeSet<Cid> = cids[..3].iter().copied().collect();
    assert!(sim.make_unreadable(PACK, at..at + 1));
    let report = store.gc(&live).unwrap();
    assert_eq!((report.packs_removed, report.corrupt.len()), (0, 1));
}

#[test]
fn a_collection_leaves_a_pack_that_it_cannot_read() {
    let mut objects = BTreeMap::new();
    let sim = filled(&mut objects);
    let cids: Vec<Cid> = objects.keys().copied().collect();
    let bytes = sim.peek(PACK).unwrap();
    let body = &objects[&cids[0]];
    let at = bytes.windows(body.len()).position(|part| part == body).unwrap();
    sim.flip_bit(PACK, at as u64, 0);
    let store = open(&sim);
    let live: BTreeSet<Cid> = cids[..3].iter().copied().collect();
    let report = store.gc(&live).unwrap();
    assert_eq!((report.packs_removed, report.corrupt.len()), (0, 1));
    assert_eq!(sim.peek(PACK).unwrap().len(), bytes.len());
    assert!(is_corrupt(&store.get(&cids[0])));
    // A good copy elsewhere frees the pack to go.
    put(&store, body);
    store.commit().unwrap();
    let report = store.gc(&live).unwrap();
    assert_eq!((report.removed, report.corrupt.len()), (3, 0));
    let kept = objects.into_iter().take(3).collect();
    assert_holds(&store, &kept);
}

//! Pages lie on whole blocks, and what fills the space before them is nobody's.

use super::*;

/// Small sizes, and bodies of 600, 650, 700 … bytes are aligned.
pub(super) const ALIGNING: Tuning = Tuning { aligned: (600, 50), pack_max: 16_000, ..SMALL };

const PACK: &str = "store/packs/00000001.pack";
const IDX: &str = "store/packs/00000001.idx";
const BLOCK: u64 = 4096;

fn open_aligning(sim: &SimStorage) -> Store {
    Store::open_tuned(Arc::new(sim.clone()), "store", ALIGNING).unwrap()
}

/// A store of three small objects, each of which has a page behind it, and where the pages begin.
fn filled(sim: &SimStorage) -> (BTreeMap<Cid, Vec<u8>>, Vec<u64>) {
    let store = open_aligning(sim);
    let (mut objects, mut starts) = (BTreeMap::new(), Vec::new());
    for i in 0..3 {
        let (small, page) = (bytes_of(i, 20 + i as usize), bytes_of(i + 10, 700));
        objects.insert(put(&store, &small), small);
        let cid = put(&store, &page);
        store.commit().unwrap();
        starts.push(store.spot(&cid).unwrap().offset);
        objects.insert(cid, page);
    }
    (objects, starts)
}

#[test]
fn only_pages_begin_at_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(dir.path().to_owned()));
    let store = Store::open(Arc::clone(&storage), "store").unwrap();
    let mut objects = BTreeMap::new();
    let mut end = 16;
    for len in [7, 16 << 10, 65_536, 65_536, 4096, 65_537, 12 << 10, 20 << 10] {
        let bytes = bytes_of(objects.len() as u64, len);
        let cid = put(&store, &bytes);
        store.commit().unwrap();
        let is_page = len >= 16 << 10 && len % 4096 == 0;
        let start = if is_page { (end + 56_u64).next_multiple_of(BLOCK) } else { end + 56 };
        assert_eq!(store.spot(&cid).unwrap().offset, start, "{len} bytes");
        end = start + len as u64;
        objects.insert(cid, bytes);
    }
    drop(store);
    assert_eq!(std::fs::metadata(dir.path().join(PACK)).unwrap().len(), end);
    assert_holds(&Store::open(Arc::clone(&storage), "store").unwrap(), &objects);
    std::fs::remove_file(dir.path().join(IDX)).unwrap();
    let store = Store::open(storage, "store").unwrap();
    assert_holds(&store, &objects);
    assert_eq!(store.fsck().unwrap().corrupt, []);
}

#[test]
fn a_page_that_waits_is_read_from_memory() {
    let sim = SimStorage::new(0);
    let store = open_aligning(&sim);
    let page = bytes_of(1, 650);
    let cid = put(&store, &page);
    assert!(store.spot(&cid).is_none());
    assert_eq!(store.get(&cid).unwrap(), Some(page));
}

#[test]
fn damage_of_filler_loses_nothing_and_is_none() {
    let sim = SimStorage::new(3);
    let (objects, starts) = filled(&sim);
    let pack = sim.peek(PACK).unwrap();
    for start in starts {
        let mut filler = (start - BLOCK..start).filter(|at| pack[*at as usize] == 0);
        let Some(at) = filler.nth(2000) else { panic!("filler before {start}") };
        let sim = damage::copy(&sim);
        sim.flip_bit(PACK, at, 3);
        assert_eq!(open_aligning(&sim).fsck().unwrap().corrupt, []);
        assert_holds(&open_aligning(&sim), &objects);
        sim.remove(IDX).unwrap();
        assert_eq!(open_aligning(&sim).fsck().unwrap().corrupt, []);
        assert_holds(&open_aligning(&sim), &objects);
    }
}

#[test]
fn a_pack_that_ends_in_filler_is_cut_there() {
    let sim = SimStorage::new(3);
    let (objects, starts) = filled(&sim);
    let (last, full) = (starts[2], sim.peek(PACK).unwrap().len() as u64);
    let page = Cid::of_raw(&bytes_of(12, 700));
    let before: BTreeMap<_, _> = objects.clone().into_iter().filter(|(cid, _)| *cid != page).collect();
    for len in [last - 3000, last - 1, last, last + 1, full - 1] {
        let sim = damage::copy(&sim);
        // As after a power cut: neither index says more than the pack has.
        sim.truncate(PACK, len);
        sim.truncate(IDX, 16);
        sim.paths().iter().filter(|path| path.contains("index/")).for_each(|path| sim.remove(path).unwrap());
        let store = open_aligning(&sim);
        assert_eq!(store.fsck().unwrap().corrupt, [], "cut to {len}");
        assert_holds(&store, &before);
        assert!(!store.contains(&page).unwrap());
        assert_eq!(put(&store, &bytes_of(12, 700)), page);
        store.commit().unwrap();
        drop(store);
        assert_holds(&open_aligning(&sim), &objects);
        assert_eq!(sim.peek(PACK).unwrap().len() as u64, full, "it was cut, and grew again");
    }
}

#[test]
fn a_hole_in_filler_and_header_is_named_and_the_rest_found() {
    let sim = SimStorage::new(3);
    let (objects, starts) = filled(&sim);
    let page = Cid::of_raw(&bytes_of(11, 700));
    // The header of the second page: its record follows the second small object.
    let header = starts[0] + 700 + 56 + 21;
    sim.flip_bit(PACK, header + 9, 0);
    sim.remove(IDX).unwrap();
    let store = open_aligning(&sim);
    let report = store.fsck().unwrap();
    assert!(report.corrupt.iter().any(|corrupt| corrupt.to_string().contains(&format!("byte {header}"))));
    let rest: BTreeMap<_, _> = objects.clone().into_iter().filter(|(cid, _)| *cid != page).collect();
    for (cid, bytes) in &rest {
        assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes));
    }
    put(&store, &bytes_of(11, 700));
    store.commit().unwrap();
    assert_holds(&store, &objects);
}

#[test]
fn a_collection_copies_pages_to_whole_blocks() {
    let sim = SimStorage::new(3);
    let (objects, _) = filled(&sim);
    let kept: BTreeMap<_, _> = objects.into_iter().filter(|(_, bytes)| bytes.len() == 700).collect();
    let store = open_aligning(&sim);
    let report = store.gc(&kept.keys().copied().collect()).unwrap();
    assert_eq!((report.kept, report.removed, report.packs_rewritten), (3, 3, 1));
    for cid in kept.keys() {
        assert!(store.spot(cid).unwrap().offset.is_multiple_of(BLOCK));
    }
    drop(store);
    assert_holds(&open_aligning(&sim), &kept);
}

/// Gives the header of a pack or an index version 1.
fn make_old(sim: &SimStorage, path: &str) {
    let mut bytes = sim.peek(path).unwrap();
    bytes[7] = 1;
    let sum = format::checksum(&bytes[..12], 1, 0);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    sim.plant(path, &bytes);
}

/// A pack of version 1 is the same without aligned bodies.
#[test]
fn an_old_pack_is_read_and_grows_in_the_new_version() {
    let sim = SimStorage::new(0);
    let mut objects = BTreeMap::new();
    let store = open(&sim);
    for i in 0..4 {
        let bytes = bytes_of(i, 650);
        objects.insert(put(&store, &bytes), bytes);
    }
    store.commit().unwrap();
    drop(store);
    make_old(&sim, PACK);
    make_old(&sim, IDX);
    let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
    assert_holds(&reader, &objects);
    assert_eq!(reader.fsck().unwrap().corrupt, []);
    let store = open_aligning(&sim);
    assert_holds(&store, &objects);
    assert_eq!(sim.peek(PACK).unwrap()[7], 1, "who only reads changes nothing");
    let page = bytes_of(9, 700);
    let cid = put(&store, &page);
    store.commit().unwrap();
    objects.insert(cid, page);
    assert_eq!(sim.peek(PACK).unwrap()[7], 2);
    assert!(store.spot(&cid).unwrap().offset.is_multiple_of(BLOCK));
    drop(store);
    for has_idx in [true, false] {
        if !has_idx {
            sim.remove(IDX).unwrap();
        }
        assert_holds(&open_aligning(&sim), &objects);
        assert_eq!(open_aligning(&sim).fsck().unwrap().corrupt, []);
    }
}

//! Room that is reserved ahead of a pack is given back, also after a kill.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::storage::OpenMode;

const PACK: &str = "store/packs/00000001.pack";
const MIB: u64 = 1 << 20;

/// The length of a file, and what it takes on the disk beyond that.
fn len_and_spare(path: &Path) -> (u64, u64) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.len(), (metadata.blocks() * 512).saturating_sub(metadata.len()))
}

#[test]
fn room_is_given_back_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(dir.path().to_owned()));
    let path = dir.path().join(PACK);
    let store = Store::open(Arc::clone(&storage), "store").unwrap();
    let first = put(&store, b"first");
    store.commit().unwrap();
    let (len, spare) = len_and_spare(&path);
    assert!(spare < MIB / 2, "{spare} bytes are reserved for {len}");
    let objects: BTreeMap<Cid, Vec<u8>> =
        (0..10).map(|i| bytes_of(i, 500_000)).map(|bytes| (put(&store, &bytes), bytes)).collect();
    store.commit().unwrap();
    let (len, spare) = len_and_spare(&path);
    assert!(spare < 17 * MIB, "{spare} bytes are reserved for {len}");
    drop(store);
    let (len_after, spare) = len_and_spare(&path);
    assert!(len_after == len && spare < MIB / 2, "{spare} bytes are left of what was reserved for {len}");
    // A process that is killed gives nothing back; the next one that writes to the pack does.
    let file = storage.open(PACK, OpenMode::Write).unwrap();
    if let Err(why) = file.reserve(len + 32 * MIB) {
        eprintln!("not tested: this file system reserves nothing: {why}");
        return;
    }
    assert!(len_and_spare(&path).1 >= 32 * MIB);
    let store = Store::open(Arc::clone(&storage), "store").unwrap();
    put(&store, b"second");
    store.commit().unwrap();
    drop(store);
    let (_, spare) = len_and_spare(&path);
    assert!(spare < MIB / 2, "{spare} bytes are left of what a killed process had");
    let store = Store::open(storage, "store").unwrap();
    assert_holds(&store, &objects);
    assert_eq!(store.get(&first).unwrap().unwrap(), b"first");
    assert_eq!(store.fsck().unwrap().corrupt, []);
}

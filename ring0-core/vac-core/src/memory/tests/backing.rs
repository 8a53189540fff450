//! An object behind a shard.

use super::*;
use crate::cid::Codec;
use crate::storage::RealStorage;

/// Two objects, one with a file of its own, behind shards 1 and 2; whatever is read is what they hold.
#[test]
fn an_object_is_memory_that_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let store =
            Arc::new(Store::open(Arc::new(RealStorage::new(dir.path().to_owned())), "store").unwrap());
        let settings = Settings { page_len: PAGE, budget_bytes: 8 * PAGE, ..Settings::default() };
        (Arc::clone(&store), Pager::new(store, settings).unwrap())
    };
    let (store, mut pager) = open();
    let mut space = pager.space();
    let empty = pager.commit(&mut space).unwrap();
    for (shard, len) in [(1, 3 * PAGE + 100), (2, (1 << 20) + 5)] {
        let bytes: Vec<u8> = (0..len).map(|i| (i / 5 + i / PAGE) as u8).collect();
        let cid = store.put(Codec::Raw, &bytes).unwrap();
        let backing = Backing::Object { cid, first: 2, len: len as u64 };
        space.set_backing(shard, backing).unwrap();
        let mut all = vec![0xee; len + 4 * PAGE];
        pager.read(&mut space, at(shard, 0), &mut all).unwrap();
        let (before, rest) = all.split_at(2 * PAGE);
        assert!(before.iter().all(|byte| *byte == 0) && rest[..len] == bytes);
        assert!(rest[len..].iter().all(|byte| *byte == 0));
    }
    let root = pager.commit(&mut space).unwrap();
    assert_ne!(root, empty);
    assert_eq!(space.used().mapped, 0, "an object behind a shard maps nothing");
    let mut first = [0; 8];
    pager.read(&mut space, at(1, 2 * PAGE as u64), &mut first).unwrap();
    pager.write(&mut space, at(1, 2 * PAGE as u64), b"written!").unwrap();
    assert_ne!(pager.commit(&mut space).unwrap(), root);
    pager.write(&mut space, at(1, 2 * PAGE as u64), &first).unwrap();
    assert_eq!(pager.commit(&mut space).unwrap(), root, "what is as it would be unmapped is not mapped");

    let (_, mut pager) = open();
    let mut space = pager.open(&root).unwrap();
    let mut last = [0; 120];
    pager.read(&mut space, at(1, 5 * PAGE as u64 + 90), &mut last).unwrap();
    assert_eq!(last[0], ((3 * PAGE + 90) / 5 + 3) as u8);
    assert!(last[10..].iter().all(|byte| *byte == 0));
    assert_eq!(root.to_string(), GOLDEN);
}

/// A page that was copied away, committed and copied back was mapped to what it holds unmapped, and the root was
/// another one for it: only shards were compared, not pages.
#[test]
fn a_page_that_comes_home_is_not_mapped() {
    let mut pager = pager(&SimStorage::new(0), 8);
    let page = |n: u64| at(1, n * PAGE as u64);
    let roots = [false, true].map(|comes_home| {
        let mut space = pager.space();
        let made = Backing::Generator { name: BLAKE3_STREAM.to_owned(), seed: [1; 32] };
        space.set_backing(1, made).unwrap();
        pager.copy(&mut space, page(3), page(2), PAGE as u64).unwrap();
        pager.commit(&mut space).unwrap();
        if comes_home {
            pager.copy(&mut space, page(2), page(3), PAGE as u64).unwrap();
        }
        pager.commit(&mut space).unwrap()
    });
    assert_eq!(roots[0], roots[1]);
}

/// Format 2 of a root: changing it changes every root that anybody wrote down.
const GOLDEN: &str = "bafyr4ibc6wobzhm4iiskw2x6flle2ew2rholk6tnp4woenlxzqke5deiim";

#[test]
fn an_object_that_rots_or_is_not_there_is_never_given_out() {
    let sim = SimStorage::new(0);
    let bytes: Vec<u8> = (0..3 * PAGE).map(|i| (i / 7) as u8).collect();
    let store = Arc::new(Store::open(Arc::new(sim.clone()), "store").unwrap());
    let cid = store.put(Codec::Raw, &bytes).unwrap();
    store.commit().unwrap();
    let settings = Settings { page_len: PAGE, budget_bytes: 4 * PAGE, ..Settings::default() };
    let mut pager = Pager::new(Arc::clone(&store) as Arc<dyn Tier>, settings).unwrap();
    let mut space = pager.space();
    let object = |cid: Cid, len: usize| Backing::Object { cid, first: 0, len: len as u64 };
    space.set_backing(0, object(cid, 3 * PAGE)).unwrap();
    let mut byte = [0];
    pager.read(&mut space, at(0, 0), &mut byte).unwrap();
    let pack = sim.paths().into_iter().find(|path| path.ends_with(".pack")).unwrap();
    let spot = store.spot(&cid).unwrap();
    assert!(sim.flip_bit(&pack, spot.offset + PAGE as u64 + 9, 1));
    assert!(matches!(pager.read(&mut space, at(0, PAGE as u64), &mut byte), Err(Error::Corrupt(_))));
    pager.read(&mut space, at(0, 2 * PAGE as u64), &mut byte).unwrap();
    assert_eq!(byte[0], bytes[2 * PAGE], "a part that did not rot is read alone");
    for (shard, backing) in [(1, object(cid, 3 * PAGE - 1)), (2, object(Cid::of_raw(b"no"), PAGE))] {
        space.set_backing(shard, backing).unwrap();
        assert!(pager.read(&mut space, at(shard, 0), &mut byte).is_err());
    }
    space.set_backing(3, object(cid, usize::MAX)).unwrap();
    assert!(matches!(pager.read(&mut space, at(3, 0), &mut byte), Err(Error::Usage(_))));
}

//! Lists and chunks that rot, beside others and while somebody collects.

use super::super::super::forms::Form;
use super::*;

fn large_path(sim: &SimStorage) -> String {
    sim.paths().into_iter().find(|path| path.contains("large/")).unwrap()
}

/// A collection removed a list and was killed before that was durable. The next one saw no list, so it removed the
/// chunks; then the power went, the list came back without them, and a put of the object believed it.
#[test]
fn a_list_that_comes_back_after_a_collection_has_its_chunks() {
    let [old, new] = versions();
    let (first, second) = (&old[20_000..40_000], &new[20_000..40_000]);
    let mut removed = 0;
    for at in 0..600 {
        let sim = SimStorage::new(at);
        let store = open(&sim);
        let cids = [put_chunked(&store, first), put_chunked(&store, second)];
        let live = BTreeSet::from([cids[1]]);
        if at % 2 == 0 {
            sim.halt_at(at / 4)
        } else {
            sim.fail_op(at / 4)
        }
        let is_killed = store.gc(&live).is_err();
        sim.clear_faults();
        drop(store);
        let is_gone = sim.peek(&format!("store/chunked/{}", cids[0])).is_none();
        removed += u32::from(is_killed && is_gone);
        open(&sim).gc(&live).unwrap();
        sim.crash();
        let store = open(&sim);
        assert_eq!(store.fsck().unwrap().corrupt, [], "call {at}");
        drop(store);
        let store = open(&sim);
        put_chunked(&store, first);
        assert_eq!(store.get(&cids[0]).unwrap().as_deref(), Some(first), "call {at}");
        assert_eq!(store.get(&cids[1]).unwrap().as_deref(), Some(second), "call {at}");
    }
    assert!(removed > 10, "{removed} collections died after they removed the list");
}

/// The sync that makes an earlier removal durable fails: then the chunks stay, and nothing is written any more.
#[test]
fn chunks_stay_if_the_removal_of_their_list_cannot_be_synced() {
    let mut poisoned = 0;
    for nth in 0..10 {
        let sim = SimStorage::new(0);
        let store = open(&sim);
        put_chunked(&store, &bytes_of(1, 9000));
        let packs = |sim: &SimStorage| sim.paths().iter().filter(|path| path.ends_with(".pack")).count();
        let before = packs(&sim);
        sim.remove(&list_path(&sim)).unwrap();
        sim.fail_sync(nth);
        let Err(Error::Abort(abort)) = store.gc(&BTreeSet::new()) else { continue };
        if abort.message.contains("chunked") {
            assert_eq!(packs(&sim), before);
            let Err(Error::Abort(abort)) = store.put(Codec::Raw, b"more") else { panic!("written again") };
            assert!(abort.message.contains("because a write to it failed"), "{}", abort.message);
            poisoned += 1;
        }
    }
    assert_eq!(poisoned, 1);
}

/// In chunks, and in one piece beside: as after the list was damaged, the object put again, and the list mended.
fn in_both_forms(bytes: &[u8]) -> (SimStorage, Cid) {
    let sim = SimStorage::new(0);
    let cid = put_chunked(&open(&sim), bytes);
    let list = (list_path(&sim), sim.peek(&list_path(&sim)).unwrap());
    sim.remove(&list.0).unwrap();
    put(&open(&sim), bytes);
    sim.plant(&list.0, &list.1);
    (sim, cid)
}

/// A scrub called a bad list beside a whole file lost, or mended each time anew, though it wrote none. A bad file beside
/// a whole list stayed for ever.
#[test]
fn of_two_forms_a_scrub_removes_the_bad_one() {
    let bytes = bytes_of(1, 9000);
    let (sim, cid) = in_both_forms(&bytes);
    let list_len = sim.peek(&list_path(&sim)).unwrap().len() as u64;
    let places = |path: String, len: u64| (0..len).step_by(401).map(move |at| (path.clone(), at));
    let all = places(list_path(&sim), list_len).chain(places(large_path(&sim), 9000));
    for ((path, at), has_source) in all.flat_map(|place| [(place.clone(), false), (place, true)]) {
        let sim = copy(&sim);
        assert!(sim.flip_bit(&path, at, 0));
        let source = |_: &Cid| Ok(has_source.then(|| bytes.clone()));
        let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
        let report = reader.scrub(u64::MAX, &|_| Ok(None)).unwrap();
        assert_eq!((report.corrupt.len(), report.mended, report.lost), (1, vec![], vec![]), "{path} at {at}");
        let report = open(&sim).scrub(u64::MAX, &source).unwrap();
        assert_eq!(
            (report.corrupt.len(), report.mended, report.lost),
            (1, vec![cid], vec![]),
            "{path} at {at}"
        );
        assert!(sim.peek(&path).is_none());
        sim.crash();
        let report = open(&sim).scrub(u64::MAX, &source).unwrap();
        assert_eq!((report.corrupt, report.mended, report.lost), (vec![], vec![], vec![]), "{path} at {at}");
        let store = open(&sim);
        assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes));
        assert_eq!(store.gc(&BTreeSet::from([cid])).unwrap().corrupt, []);
        assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes));
    }
}

/// Both bad: from elsewhere one whole form comes, and from nowhere none is removed.
#[test]
fn of_two_bad_forms_none_is_removed_before_there_is_a_good_one() {
    let bytes = bytes_of(1, 9000);
    let (sim, cid) = in_both_forms(&bytes);
    assert!(sim.flip_bit(&list_path(&sim), 70, 0) && sim.flip_bit(&large_path(&sim), 70, 0));
    let report = open(&sim).scrub(u64::MAX, &|_| Ok(None)).unwrap();
    assert_eq!((report.mended, report.lost), (vec![], vec![cid]));
    let _ = (list_path(&sim), large_path(&sim));
    let other = |_: &Cid| Ok(Some(bytes.clone()));
    let report = open(&sim).scrub(u64::MAX, &other).unwrap();
    assert_eq!((report.mended, report.lost), (vec![cid], vec![]));
    sim.crash();
    let report = open(&sim).scrub(u64::MAX, &other).unwrap();
    assert_eq!((report.corrupt, report.mended, report.lost), (vec![], vec![], vec![]));
    assert_eq!(open(&sim).get(&cid).unwrap(), Some(bytes));
}

/// While somebody collects, the bad form stays, and its object is neither mended nor lost.
#[test]
fn no_form_is_removed_while_somebody_collects() {
    let bytes = bytes_of(1, 9000);
    let (sim, cid) = in_both_forms(&bytes);
    assert!(sim.flip_bit(&list_path(&sim), 70, 0));
    let (one, two) = (open(&sim), open(&sim));
    let collection = one.begin_gc().unwrap();
    let report = two.scrub(u64::MAX, &|_| Ok(None)).unwrap();
    assert_eq!((report.corrupt.len(), report.mended, report.lost), (1, vec![], vec![]));
    drop(collection);
    assert!(two.drop_form(&cid, Form::Chunks).unwrap() && !two.drop_form(&cid, Form::Piece).unwrap());
    assert_eq!(one.get(&cid).unwrap(), Some(bytes));
}

/// A head of one chunk that claims 64 GiB, in a file of just the right length: memory for all of it was reserved.
#[test]
fn a_short_list_of_a_huge_object_takes_no_memory() {
    let sim = SimStorage::new(0);
    open(&sim).put_chunked(Codec::Raw, &mut &bytes_of(1, 5000)[..], u64::MAX).unwrap();
    let lie = Cid::of_raw(b"never put");
    let head = Head { cid: lie, len: 1 << 36, chunks: 1, group_len: 1 << 20 };
    let mut file = head.encode();
    file.extend_from_slice(&Entry { cid: lie, end: 1 << 36 }.encode(&lie, 0));
    file.resize(head.file_len() as usize, 0);
    sim.plant(&format!("store/chunked/{lie}"), &file);
    let why = open(&sim).get(&lie).unwrap_err().to_string();
    assert!(why.contains("a head with its checksum"), "{why}");
}

/// Three packs have an object, and two copies cannot be read: the search for the third ended at the second.
#[test]
fn a_copy_that_cannot_be_read_hides_no_other() {
    let sim = SimStorage::new(0);
    let bytes = bytes_of(1, 300);
    let stores = [open(&sim), open(&sim), open(&sim)];
    let cid = stores.each_ref().map(|store| put(store, &bytes))[0];
    stores.iter().for_each(|store| store.commit().unwrap());
    drop(stores);
    let packs: Vec<String> = sim.paths().into_iter().filter(|path| path.ends_with(".pack")).collect();
    assert_eq!(packs.len(), 3);
    let damage = |path: &String, is_cut_off: bool| {
        let at = sim.peek(path).unwrap().windows(300).position(|part| part == bytes).unwrap() as u64;
        let is_done =
            if is_cut_off { sim.make_unreadable(path, at..at + 300) } else { sim.flip_bit(path, at, 0) };
        assert!(is_done, "{path}");
    };
    let whole: Vec<Vec<u8>> = packs.iter().map(|path| sim.peek(path).unwrap()).collect();
    for good in &packs {
        for is_first_cut_off in [true, false] {
            packs.iter().zip(&whole).for_each(|(path, bytes)| sim.plant(path, bytes));
            let bad = packs.iter().filter(|path| *path != good);
            bad.zip([is_first_cut_off, true]).for_each(|(path, is_cut_off)| damage(path, is_cut_off));
            let store = open(&sim);
            assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes), "only `{good}` is good");
            assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes), "only `{good}` is good");
        }
    }
    packs.iter().zip(&whole).for_each(|(path, bytes)| sim.plant(path, bytes));
    packs.iter().for_each(|path| damage(path, true));
    assert!(open(&sim).get(&cid).is_err());
}

/// A part of an object whose list or chunk is bad was an error, though it is here in one piece; and nobody noted it.
#[test]
fn a_bad_part_is_read_elsewhere_or_noted() {
    let bytes = bytes_of(1, 9000);
    let (both, cid) = in_both_forms(&bytes);
    assert!(both.flip_bit(&list_path(&both), 70, 0));
    let sim = copy(&both);
    sim.remove(&large_path(&sim)).unwrap();
    let store = open(&sim);
    assert!(is_corrupt(&store.read_range(&cid, 0, &mut [0; 10])));
    assert!(store.state().bad_lists.contains(&cid));
    let mut to = [0; 10];
    let store = open(&both);
    // What was opened before the file came, and what is read in one piece and turns out to be bad.
    let list = List::open(&store.home, &cid).unwrap().unwrap();
    assert_eq!((store.read_listed(&list, 0, &mut to).unwrap(), &to[..]), (Some(10), &bytes[..10]));
    let (both, _) = in_both_forms(&bytes);
    assert!(both.flip_bit(&large_path(&both), 8000, 0));
    assert_eq!(open(&both).read_range(&cid, 5, &mut to).unwrap(), Some(10));
    assert_eq!(to, bytes[5..15]);
}

#[test]
fn a_part_of_what_was_collected_meanwhile_is_gone() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let cid = put_chunked(&store, &bytes_of(1, 9000));
    let list = List::open(&store.home, &cid).unwrap().unwrap();
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(store.read_listed(&list, 10, &mut [0; 10]).unwrap(), None);
}

/// A chunk is gone with its pack: a put that saw a good head said that the object is stored.
#[test]
fn a_list_without_its_chunks_is_no_reason_not_to_write() {
    let sim = SimStorage::new(0);
    let bytes = bytes_of(1, 9000);
    let cid = put_chunked(&open(&sim), &bytes);
    for pack in sim.paths().into_iter().filter(|path| path.ends_with(".pack")) {
        for is_removed_late in [false, true] {
            let sim = copy(&sim);
            let store = open(&sim);
            if is_removed_late {
                store.list().unwrap();
            }
            sim.remove(&pack).unwrap();
            put(&store, &bytes);
            assert_eq!(store.get(&cid).unwrap().as_ref(), Some(&bytes), "without `{pack}`");
        }
    }
}

//! A scrub goes on where it stopped, names what is bad, and mends it.

use super::*;

fn filled(sim: &SimStorage) -> BTreeMap<Cid, Vec<u8>> {
    let store = open(sim);
    let mut objects = BTreeMap::new();
    for i in 0..30 {
        let bytes = bytes_of(i, if i % 10 == 9 { 5000 } else { 300 + i as usize });
        objects.insert(put(&store, &bytes), bytes);
        store.commit().unwrap();
    }
    objects
}

fn nobody(_: &Cid) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// Scrubs to the end in parts, and returns all of it with how many parts there were.
fn scrub(sim: &SimStorage, budget: u64, source: Source<'_>) -> (ScrubReport, u64) {
    let (mut all, mut parts) = (ScrubReport::default(), 0);
    while !all.is_done {
        // Each part is done by another process.
        let part = open(sim).scrub(budget, source).unwrap();
        assert!(part.bytes < budget + 5001, "{} bytes for a budget of {budget}", part.bytes);
        all.objects += part.objects;
        all.bytes += part.bytes;
        all.corrupt.extend(part.corrupt);
        all.unmended += part.unmended;
        all.mended.extend(part.mended);
        all.lost.extend(part.lost);
        all.is_done = part.is_done;
        parts += 1;
    }
    (all, parts)
}

#[test]
fn every_object_is_hashed_once_whatever_the_budget() {
    let sim = SimStorage::new(0);
    let objects = filled(&sim);
    let bytes = objects.values().map(|bytes| bytes.len() as u64).sum();
    for budget in [1, 1000, 7000, u64::MAX - 9999] {
        let (all, parts) = scrub(&sim, budget, &nobody);
        assert_eq!((all.objects, all.bytes, all.corrupt.len()), (30, bytes, 0), "budget {budget}");
        assert!(budget > bytes || parts > bytes / (budget + 5000), "{parts} parts");
    }
    let reader = Store::open_read_only(Arc::new(sim), "store").unwrap();
    assert!(reader.scrub(u64::MAX, &nobody).unwrap().is_done, "reading is enough to check");
}

/// Bad bodies, a bad header without an index, packs that are cut, and gone, and a large object.
fn damages(sim: &SimStorage) -> Vec<(String, SimStorage)> {
    let mut all = Vec::new();
    let paths = sim.paths();
    for path in paths.iter().filter(|path| path.ends_with(".pack") || path.contains("large/")) {
        let len = sim.peek(path).unwrap().len() as u64;
        for at in (20..len).step_by(97) {
            let (flipped, cut) = (damage::copy(sim), damage::copy(sim));
            assert!(flipped.flip_bit(path, at, 3) && cut.truncate(path, at));
            all.extend([
                (format!("`{path}` byte {at} flipped"), flipped),
                (format!("`{path}` cut to {at}"), cut),
            ]);
        }
        let gone = damage::copy(sim);
        gone.remove(path).unwrap();
        if path.ends_with(".pack") {
            all.push((format!("`{path}` removed"), gone));
        }
    }
    all
}

#[test]
fn what_is_bad_is_named_and_mended() {
    let sim = SimStorage::new(0);
    let objects = filled(&sim);
    let other = |cid: &Cid| Ok(objects.get(cid).cloned());
    for (what, sim) in damages(&sim) {
        let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
        let bad: BTreeSet<Cid> =
            objects.keys().filter(|cid| !matches!(reader.is_whole(cid), Ok(true))).copied().collect();
        let (first, _) = scrub(&damage::copy(&sim), 2000, &nobody);
        assert_eq!(first.lost.iter().copied().collect::<BTreeSet<_>>(), bad, "{what}");
        assert_eq!(first.mended, []);
        assert!(!first.corrupt.is_empty() || bad.is_empty());
        assert!(first.unmended > 0 || bad.is_empty(), "{what}");
        let (second, _) = scrub(&sim, 2000, &other);
        assert_eq!((second.lost.len(), second.mended.iter().copied().collect()), (0, bad));
        // What is bad is still there, beside a whole copy.
        let (third, _) = scrub(&sim, 2000, &nobody);
        assert_eq!((second.unmended, third.unmended), (0, 0), "{what}");
        sim.crash();
        assert_holds(&open(&sim), &objects);
    }
}

#[test]
fn nothing_is_mended_with_other_bytes() {
    let sim = SimStorage::new(0);
    let objects = filled(&sim);
    sim.remove("store/packs/00000001.pack").unwrap();
    let liar = |_: &Cid| Ok(Some(b"something else".to_vec()));
    let (report, _) = scrub(&sim, u64::MAX - 9999, &liar);
    assert_eq!(report.mended, []);
    assert!(!report.lost.is_empty() && report.lost.iter().all(|cid| objects.contains_key(cid)));
}

#[test]
fn a_place_to_go_on_that_is_damaged_is_the_beginning() {
    let sim = SimStorage::new(0);
    filled(&sim);
    open(&sim).scrub(3000, &nobody).unwrap();
    for bytes in
        [sim.peek("store/scrub").unwrap(), bytes_of(1, 48), vec![0; 48], Vec::new(), bytes_of(2, 999)]
    {
        for at in 0..bytes.len().max(1) {
            let mut bytes = bytes.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            sim.plant("store/scrub", &bytes);
            assert_eq!(scrub(&sim, u64::MAX - 9999, &nobody).0.objects, 30);
        }
    }
}

//! Every way to read gives the same pages, or says the same of them.

use super::*;
use crate::storage::RealStorage;
use crate::store::Store;

const PAGE: usize = 4096;

fn page(n: u32) -> Vec<u8> {
    (0..PAGE as u32).map(|i| (i / 7 + n * 31) as u8).collect()
}

/// What each of 60 pages is said to be; every seventh is not there, and one is rotten.
fn fetched(io: Io) -> Vec<Option<Vec<u8>>> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealStorage::new(dir.path().to_owned())), "store").unwrap();
    let cids: Vec<Cid> = (0..60).map(|n| Cid::of_raw(&page(n))).collect();
    for n in (0..60).filter(|n| n % 7 != 0) {
        Tier::put(&store, &cids[n as usize], &page(n)).unwrap();
    }
    Tier::commit(&store).unwrap();
    let spot = store.spot(&cids[10]).unwrap();
    let pack = dir.path().join("store/packs/00000001.pack");
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[spot.offset as usize + 9] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let mut fetcher = Fetcher::new(Arc::new(store), PAGE, io).unwrap();
    let want = |cid: &Cid| Want { cid: *cid, to: vec![0; PAGE].into() };
    let ids = fetcher.give(cids.iter().map(want).collect());
    // Not in the order in which they were given.
    let mut came: Vec<(usize, Came)> =
        ids.iter().enumerate().rev().map(|(n, id)| (n, fetcher.wait(*id))).collect();
    came.sort_by_key(|(n, _)| *n);
    came.into_iter()
        .map(|(_, came)| came.found.is_ok_and(|found| found).then(|| came.to.into_vec()))
        .collect()
}

#[test]
fn every_way_to_read_gives_the_same() {
    let expected = fetched(Io::Caller);
    for (n, got) in expected.iter().enumerate() {
        let is_there = n % 7 != 0 && n != 10;
        assert_eq!(got.as_ref(), is_there.then(|| page(n as u32)).as_ref(), "{n}");
    }
    assert!(fetched(Io::Threads) == expected);
    assert!(fetched(Io::Auto) == expected);
    // Where the system has no io-uring there is nothing to compare, and it is said.
    match Io::Uring.reader(PAGE) {
        Ok(reader) => {
            assert_eq!(reader.name(), "io-uring");
            assert!(fetched(Io::Uring) == expected);
        }
        Err(why) => eprintln!("not tested: {why}"),
    }
}

/// A tier that falls while it is asked takes its thread with it, and nobody waits for ever.
struct Falls;

impl Tier for Falls {
    fn read_into(&self, _: &Cid, _: &mut [u8]) -> Result<bool> {
        Ok(false)
    }

    fn get(&self, _: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        panic!("it falls, as it is meant to")
    }

    fn put(&self, _: &Cid, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_thread_that_fell_keeps_nobody_waiting() {
    let mut fetcher = Fetcher::new(Arc::new(Falls), PAGE, Io::Threads).unwrap();
    let want = || Want { cid: Cid::of_raw(b"x"), to: vec![0; PAGE].into() };
    for _ in 0..3 {
        let ids = fetcher.give(vec![want(), want()]);
        for id in ids {
            let came = fetcher.wait(id);
            assert!(matches!(came.found, Ok(false)) && came.to.len() == PAGE);
        }
    }
}

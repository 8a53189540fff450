//! What a user of the pager would notice.

mod ahead;
mod backing;
mod chain;
mod cuts;
mod model;
mod parts;
mod resident;

use std::sync::Arc;

use super::*;
use crate::fault::Error;
use crate::limits::MEMORY_PAGE_MIN_BYTES as PAGE;
use crate::storage::SimStorage;
use crate::store::Store;

fn pager(sim: &SimStorage, frames: usize) -> Pager {
    let store = Arc::new(Store::open(Arc::new(sim.clone()), "store").unwrap());
    let settings = Settings { page_len: PAGE, budget_bytes: frames * PAGE, ..Settings::default() };
    Pager::new(store, settings).unwrap()
}

fn at(shard: u64, offset: u64) -> La128 {
    La128 { shard, offset }
}

fn is_quota<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Abort(abort)) if abort.kind == AbortKind::Quota)
}

#[test]
fn what_was_never_written_is_zeros_and_costs_nothing() {
    let mut pager = pager(&SimStorage::new(0), 4);
    let mut space = pager.space();
    let mut bytes = [7; 100];
    pager.read(&mut space, at(u64::MAX, u64::MAX - 100), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 100]);
    assert_eq!(pager.stats().resident, 0);
    pager.write(&mut space, at(2, u64::MAX), b"x").unwrap();
    pager.read(&mut space, at(2, u64::MAX - 99), &mut bytes).unwrap();
    assert_eq!((bytes[98], bytes[99]), (0, b'x'), "the last byte of a shard is one like the others");
    let past = pager.read(&mut space, at(0, u64::MAX - 98), &mut bytes);
    assert!(matches!(past, Err(Error::Fault(fault)) if fault.kind == "address"));
    assert!(matches!(pager.write(&mut space, at(0, u64::MAX), &[1, 2]), Err(Error::Fault(_))));
}

/// Past the frames: clean pages, written ones, those that are in a frame, zeros, and ends that are no whole pages.
#[test]
fn reading_through_gives_what_reading_does_and_takes_no_frames() {
    let sim = SimStorage::new(0);
    let mut first = pager(&sim, 64);
    let mut space = first.space();
    let bytes: Vec<u8> = (0..PAGE * 6).map(|n| (n * 7 % 251) as u8).collect();
    first.write(&mut space, at(1, PAGE as u64), &bytes).unwrap();
    let root = first.commit(&mut space).unwrap();
    drop(first);
    let mut pager = pager(&sim, 64);
    let mut space = pager.open(&root).unwrap();
    let both = |pager: &mut Pager, space: &mut Space, start: u64, len: usize| {
        let (mut through, mut read) = (vec![7; len], vec![9; len]);
        pager.read_through(space, at(1, start), &mut through).unwrap();
        let resident = pager.stats().resident;
        pager.read(space, at(1, start), &mut read).unwrap();
        assert!(through == read, "{len} bytes from {start}");
        resident
    };
    let page = PAGE as u64;
    assert_eq!(both(&mut pager, &mut space, page, PAGE * 2), 0, "no frame was used");
    pager.write(&mut space, at(1, page * 4 + 5), b"written").unwrap();
    both(&mut pager, &mut space, 0, PAGE * 9 + 3);
    both(&mut pager, &mut space, 11, PAGE * 3);
    let mut past = [0; 2];
    assert!(pager.read_through(&mut space, at(0, u64::MAX), &mut past).is_err());
}

#[test]
fn a_snapshot_keeps_what_was_there() {
    let mut pager = pager(&SimStorage::new(0), 8);
    let mut now = pager.space();
    pager.write(&mut now, at(0, 10), b"before").unwrap();
    let mut then = pager.snapshot(&mut now);
    pager.write(&mut now, at(0, 10), b"after!").unwrap();
    pager.write(&mut then, at(0, 16), b" and more").unwrap();
    let read = |pager: &mut Pager, space: &mut Space| {
        let mut bytes = [0; 15];
        pager.read(space, at(0, 10), &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    assert_eq!(read(&mut pager, &mut now), "after!\0\0\0\0\0\0\0\0\0");
    assert_eq!(read(&mut pager, &mut then), "before and more");
}

#[test]
fn a_root_is_where_it_began_once_all_is_written_back() {
    let mut pager = pager(&SimStorage::new(0), 8);
    let mut space = pager.space();
    let empty = pager.commit(&mut space).unwrap();
    pager.write(&mut space, at(3, 1 << 40), &[1; 9000]).unwrap();
    let written = pager.commit(&mut space).unwrap();
    assert_ne!(written, empty);
    assert_eq!(space.used().mapped, 3);
    pager.fill(&mut space, at(3, 0), 1 << 13, 0).unwrap();
    pager.write(&mut space, at(3, 1 << 40), &[0; 9000]).unwrap();
    assert_eq!(pager.commit(&mut space).unwrap(), empty);
    assert_eq!(space.used().mapped, 0);
}

#[test]
fn quotas_refuse_and_change_nothing() {
    let sim = SimStorage::new(0);
    let mut pager = pager(&sim, 8);
    let mut space = pager.space();
    space.set_quota(Quota {
        mapped_max: Some(2),
        dirty_max: Some(2),
        resident_max: None,
        pinned_max: Some(1),
        io_max_bytes: None,
    });
    let page = |n: u64| at(0, n * PAGE as u64);
    pager.write(&mut space, page(0), b"a").unwrap();
    pager.write(&mut space, page(1), b"b").unwrap();
    let root = pager.commit(&mut space).unwrap();
    assert!(is_quota(&pager.write(&mut space, page(2), b"c")));
    assert_eq!(pager.commit(&mut space).unwrap(), root, "a refused write wrote nothing");
    pager.write(&mut space, page(1), b"d").unwrap();
    pager.fill(&mut space, page(0), PAGE as u64, 0).unwrap();
    pager.write(&mut space, page(2), b"c").unwrap();
    assert!(is_quota(&pager.pin(&mut space, page(1), 2 * PAGE as u64)));
    pager.pin(&mut space, page(1), 1).unwrap();
    assert!(is_quota(&pager.pin(&mut space, page(2), 1)));
    pager.unpin(&mut space, page(1), 1).unwrap();
    assert_eq!((pager.stats().pinned, space.used().pinned), (0, 0));

    let root = pager.commit(&mut space).unwrap();
    let io = space.used().io_bytes;
    space.set_quota(Quota { io_max_bytes: Some(io), ..Quota::default() });
    assert!(is_quota(&pager.write(&mut space, page(5), b"more")));
    let mut pager = self::pager(&sim, 8);
    let mut space = pager.open(&root).unwrap();
    space.set_quota(Quota { io_max_bytes: Some(PAGE as u64), ..Quota::default() });
    let mut byte = [0];
    pager.read(&mut space, page(1), &mut byte).unwrap();
    assert!(is_quota(&pager.read(&mut space, page(2), &mut byte)));
    space.renew_io();
    pager.read(&mut space, page(2), &mut byte).unwrap();
    assert_eq!(byte, *b"c");
}

#[test]
fn a_page_keeps_its_pins_wherever_it_goes() {
    let mut pager = pager(&SimStorage::new(0), 4);
    let mut space = pager.space();
    let page = |n: u64| at(0, n * PAGE as u64);
    pager.write(&mut space, page(0), b"a").unwrap();
    pager.write(&mut space, page(1), b"b").unwrap();
    pager.pin(&mut space, page(0), 1).unwrap();
    pager.copy(&mut space, page(1), page(0), PAGE as u64).unwrap();
    pager.pin(&mut space, page(0), 1).unwrap();
    pager.unpin(&mut space, page(0), 1).unwrap();
    assert_eq!(pager.stats().pinned, 1);
    pager.unpin(&mut space, page(0), 1).unwrap();
    assert_eq!((pager.stats().pinned, space.used().pinned), (0, 0));
    // Zeros take no frame; once they are written they have one, and it stays.
    pager.pin(&mut space, page(7), 1).unwrap();
    pager.write(&mut space, page(7), b"kept").unwrap();
    assert_eq!((pager.stats().pinned, space.used().pinned), (1, 1));
    assert!(is_quota(&pager.pin(&mut space, at(0, 0), u64::MAX)));
    pager.unpin(&mut space, at(0, 0), u64::MAX).unwrap();
    assert_eq!(pager.stats().pinned, 0);
    pager.pin(&mut space, page(7), 1).unwrap();
    pager.close(space);
    assert_eq!(pager.stats().pinned, 0);
}

#[test]
fn pinned_pages_stay_and_the_rest_says_why_it_cannot_come() {
    let mut pager = pager(&SimStorage::new(0), 3);
    let mut space = pager.space();
    let page = |n: u64| at(0, n * PAGE as u64);
    for n in 0..3 {
        pager.write(&mut space, page(n), &[n as u8 + 1]).unwrap();
    }
    pager.pin(&mut space, page(0), 3 * PAGE as u64).unwrap();
    assert!(is_quota(&pager.write(&mut space, page(9), b"x")));
    // A pinned page is written in another frame after a commit, and is pinned there; so one must be free.
    pager.unpin(&mut space, page(2), 1).unwrap();
    pager.commit(&mut space).unwrap();
    pager.write(&mut space, page(0), b"again").unwrap();
    assert_eq!(pager.stats().pinned, 2);
    let misses = pager.stats().misses;
    let mut bytes = [0; 5];
    pager.read(&mut space, page(0), &mut bytes).unwrap();
    assert_eq!((&bytes, pager.stats().misses), (b"again", misses));
    pager.unpin(&mut space, page(0), 2 * PAGE as u64).unwrap();
    assert_eq!(pager.stats().pinned, 0);
    (10..30).for_each(|n| pager.write(&mut space, page(n), b"x").unwrap());
}

#[test]
fn a_fill_of_many_pages_is_one_object_and_no_frame() {
    let mut pager = pager(&SimStorage::new(0), 4);
    let mut space = pager.space();
    pager.fill(&mut space, at(0, 100), 1000 * PAGE as u64, 7).unwrap();
    assert!(pager.stats().resident <= 3 && space.used().mapped == 1001, "{:?}", pager.stats());
    pager.write(&mut space, at(0, 500 * PAGE as u64), b"x").unwrap();
    let mut bytes = [0; 4];
    pager.read(&mut space, at(0, 500 * PAGE as u64 - 1), &mut bytes).unwrap();
    assert_eq!(bytes, [7, b'x', 7, 7]);
    pager.read(&mut space, at(0, 900 * PAGE as u64), &mut bytes).unwrap();
    assert_eq!(bytes, [7; 4], "one page written is one page");
    let root = pager.commit(&mut space).unwrap();
    let mut same = pager.space();
    for page in 0..1001 {
        pager.write(&mut same, at(0, page * PAGE as u64), &[7; PAGE]).unwrap();
    }
    pager.fill(&mut same, at(0, 0), 100, 0).unwrap();
    pager.fill(&mut same, at(0, 1000 * PAGE as u64 + 100), PAGE as u64 - 100, 0).unwrap();
    pager.write(&mut same, at(0, 500 * PAGE as u64), b"x").unwrap();
    assert_eq!(pager.commit(&mut same).unwrap(), root);
}

/// A bit of every third byte of a small memory's pack: what is given out was committed, or an error names what is lost.
#[test]
fn rot_is_never_given_out() {
    let sim = SimStorage::new(0);
    let mut first = pager(&sim, 8);
    let mut space = first.space();
    let bytes: Vec<u8> = (0..3 * PAGE).map(|i| (i / 7) as u8).collect();
    first.write(&mut space, at(5, 0), &bytes).unwrap();
    let root = first.commit(&mut space).unwrap();
    drop(first);
    let (mut lost, mut whole) = (0, 0);
    for path in sim.paths().iter().filter(|path| path.ends_with(".pack")) {
        let len = sim.peek(path).unwrap().len() as u64;
        for offset in (0..len).step_by(3) {
            sim.flip_bit(path, offset, offset as u8);
            let mut pager = pager(&sim, 8);
            let mut got = vec![0; bytes.len()];
            let read = pager.open(&root).and_then(|mut space| pager.read(&mut space, at(5, 0), &mut got));
            match read {
                Ok(()) => {
                    assert!(got == bytes);
                    whole += 1;
                }
                Err(Error::Corrupt(_)) => lost += 1,
                Err(other) => panic!("{other}"),
            }
            sim.flip_bit(path, offset, offset as u8);
        }
    }
    assert!(lost > 1000 && whole > 0, "{lost} lost, {whole} whole");
}

#[test]
fn what_is_equal_is_not_read_to_be_compared() {
    let sim = SimStorage::new(0);
    let mut first = pager(&sim, 64);
    let mut space = first.space();
    // Some twenty nodes of one level, and one above.
    for page in 0..5_000 {
        first.write(&mut space, at(0, page * PAGE as u64), &(page + 1).to_le_bytes()).unwrap();
    }
    let one = first.commit(&mut space).unwrap();
    first.write(&mut space, at(0, 3_000 * PAGE as u64), b"another").unwrap();
    let other = first.commit(&mut space).unwrap();
    drop(first);
    let mut pager = pager(&sim, 64);
    let (one, other) = (pager.open(&one).unwrap(), pager.open(&other).unwrap());
    let differ = pager.diff(&one, &other).unwrap();
    assert_eq!(differ, [Range { shard: 0, page: 3_000, pages: 1 }]);
    let stats = pager.stats();
    assert_eq!((stats.node_reads, stats.page_reads), (4, 0), "two nodes of each");
}

/// A tree that nobody's pages would give is refused, wherever it is followed.
#[test]
fn a_made_up_tree_is_refused() {
    let sim = SimStorage::new(0);
    let store = Arc::new(Store::open(Arc::new(sim), "store").unwrap());
    let settings = Settings { page_len: PAGE, budget_bytes: 8 * PAGE, ..Settings::default() };
    let mut pager = Pager::new(Arc::clone(&store) as Arc<dyn Tier>, settings).unwrap();
    let mut space = pager.space();
    for page in [0x1000, 0x1001, 0x2000] {
        pager.write(&mut space, at(0, page * PAGE as u64), b"x").unwrap();
    }
    let root = pager.commit(&mut space).unwrap();
    let bytes = store.get(&root).unwrap().unwrap();
    // The number of the root's node, 0, made to be another one.
    for key in 1..24 {
        let mut bad = bytes.clone();
        let key_at = bytes.windows(3).position(|it| it == [0x82, 0x00, 0xd8]).unwrap() + 1;
        bad[key_at] = key;
        let cid = store.put(crate::cid::Codec::DagCbor, &bad).unwrap();
        let mut space = pager.open(&cid).unwrap();
        let mut byte = [0];
        let read = pager.read(&mut space, at(0, 0x1000 * PAGE as u64), &mut byte);
        assert!(matches!(read, Err(Error::Corrupt(_))));
        let proof = pager.prove(&cid, 0, 0x1000);
        assert!(matches!(proof, Err(Error::Corrupt(_))));
    }
}

#[test]
fn a_proof_with_anything_changed_fails() {
    let mut pager = pager(&SimStorage::new(0), 8);
    let mut space = pager.space();
    for page in [1, 2, 300, 70_000] {
        pager.write(&mut space, at(0, page * PAGE as u64), &page.to_le_bytes()).unwrap();
    }
    let root = pager.commit(&mut space).unwrap();
    let proof = pager.prove(&root, 0, 300).unwrap();
    let mut page = vec![0; PAGE];
    pager.read(&mut space, at(0, 300 * PAGE as u64), &mut page).unwrap();
    assert!(verify_page(&root, 0, 300, &proof).unwrap().holds(&page));
    assert!(
        verify_page(&root, 0, 2, &proof).is_err() || !verify_page(&root, 0, 2, &proof).unwrap().holds(&page)
    );
    for object in 0..proof.objects.len() {
        for byte in 0..proof.objects[object].len() {
            let mut bad = proof.clone();
            bad.objects[object][byte] ^= 1;
            assert!(verify_page(&root, 0, 300, &bad).is_err());
        }
        let mut short = proof.clone();
        short.objects.remove(object);
        assert!(verify_page(&root, 0, 300, &short).is_err());
    }
    let mut long = proof.clone();
    long.objects.push(Vec::new());
    assert!(verify_page(&root, 0, 300, &long).is_err());
}

/// The form of a root and of a node: changing either is changing every root that anybody wrote down.
#[test]
fn the_format_is_fixed() {
    let mut pager = pager(&SimStorage::new(0), 8);
    let mut space = pager.space();
    space.set_backing(1, Backing::Generator { name: BLAKE3_STREAM.to_owned(), seed: [3; 32] }).unwrap();
    for (shard, page) in [(0, 0), (0, 1), (0, 1 << 40), (1, 5)] {
        pager.write(&mut space, at(shard, page * PAGE as u64), b"golden").unwrap();
    }
    let root = pager.commit(&mut space).unwrap();
    assert_eq!(root.to_string(), GOLDEN);
}

const GOLDEN: &str = "bafyr4iao247d2kkqeqtf4erxdezgdxemsf5jupbtrbbzp4mx7k3754lg64";

#[test]
fn a_page_that_is_in_memory_is_touched_and_no_other_is_read() {
    let mut pager = pager(&SimStorage::new(0), 4);
    let mut space = pager.space();
    pager.write(&mut space, at(0, 0), b"x").unwrap();
    let root = pager.commit(&mut space).unwrap();
    let mut space = pager.open(&root).unwrap();
    assert!(pager.touch(&space, at(0, 7)).unwrap(), "it was just written");
    assert!(pager.touch(&space, at(0, 9 * PAGE as u64)).unwrap(), "zeros are nowhere else");
    for page in 1..9 {
        pager.write(&mut space, at(0, page * PAGE as u64), &page.to_le_bytes()).unwrap();
        assert!(pager.touch(&space, at(0, page * PAGE as u64)).unwrap());
    }
    let reads = pager.stats().page_reads;
    assert!(!pager.touch(&space, at(0, 0)).unwrap(), "others took its place");
    assert_eq!(pager.stats().page_reads, reads);
}

/// Each kept its own changed nodes: a loop of write and snapshot took 8 MiB a round.
#[test]
fn many_snapshots_take_no_more_memory_than_a_few() {
    let nodes_bytes = 64 << 10;
    let store = Arc::new(Store::open(Arc::new(SimStorage::new(0)), "store").unwrap());
    let settings = Settings { page_len: PAGE, budget_bytes: 8 * PAGE, nodes_bytes, ..Settings::default() };
    let mut pager = Pager::new(store, settings).unwrap();
    let mut space = pager.space();
    let mut snapshots = Vec::new();
    for i in 0..300_u64 {
        // Far from each other: a way of nodes each.
        pager.write(&mut space, La128 { shard: 0, offset: i << 40 }, &i.to_le_bytes()).unwrap();
        pager.make_room_for_snapshot(&mut space).unwrap();
        snapshots.push(pager.snapshot(&mut space));
        let changed = pager.changed_bytes.load(std::sync::atomic::Ordering::Relaxed);
        assert!(changed <= nodes_bytes, "{changed} bytes of changed nodes after {i}");
    }
    for (i, snapshot) in snapshots.iter_mut().enumerate() {
        let read = |pager: &mut Pager, space: &mut Space, page: u64| {
            let mut bytes = [0; 8];
            pager.read(space, La128 { shard: 0, offset: page << 40 }, &mut bytes).unwrap();
            u64::from_le_bytes(bytes)
        };
        let i = i as u64;
        assert_eq!((read(&mut pager, snapshot, i), read(&mut pager, snapshot, i + 1)), (i, 0));
    }
    drop(snapshots);
    drop(space);
    assert_eq!(pager.changed_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}

//! What is read before it is needed, and what nobody may notice of it.

use std::sync::Arc;

use super::*;
use crate::memory::frames::Fresh;
use crate::memory::policy::PolicyKind;
use crate::storage::RealStorage;

fn pager(dir: &std::path::Path, frames: usize, io: Io) -> Pager {
    let store = Arc::new(Store::open(Arc::new(RealStorage::new(dir.to_owned())), "store").unwrap());
    let settings = Settings { page_len: PAGE, budget_bytes: frames * PAGE, io, ..Settings::default() };
    Pager::new(store, settings).unwrap()
}

/// A memory of `pages` pages that differ from each other.
fn written(dir: &std::path::Path, pages: u64) -> Cid {
    let mut pager = pager(dir, 16, Io::Caller);
    let mut space = pager.space();
    (0..pages).for_each(|n| pager.write(&mut space, at(0, n * PAGE as u64), &(n + 1).to_le_bytes()).unwrap());
    pager.commit(&mut space).unwrap()
}

fn read(pager: &mut Pager, space: &mut Space, page: u64) {
    let mut bytes = [0; 8];
    pager.read(space, at(0, page * PAGE as u64), &mut bytes).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), page + 1);
}

const WAYS: [Io; 3] = [Io::Auto, Io::Threads, Io::Caller];

/// The same requests: the same pages leave, the same counts, whoever reads and however fast.
#[test]
fn who_reads_a_page_is_noticed_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 300);
    let seen = WAYS.map(|io| {
        let mut pager = pager(dir.path(), 40, io);
        let mut space = pager.open(&root).unwrap();
        let mut random = crate::storage::sim::Random::new(5);
        for _ in 0..60 {
            let from = random.below(280);
            match random.below(3) {
                0 => (from..from + 12).for_each(|page| read(&mut pager, &mut space, page)),
                1 => (0..6).for_each(|n| read(&mut pager, &mut space, (from + n * 3) % 300)),
                _ => {
                    let mut bytes = vec![0; 15 * PAGE];
                    pager.read(&mut space, at(0, from * PAGE as u64), &mut bytes).unwrap();
                    let pages = bytes.chunks(PAGE).map(|page| page[0] as u64 | (page[1] as u64) << 8);
                    assert!(pages.eq((from..from + 15).map(|page| if page < 300 { page + 1 } else { 0 })));
                }
            }
        }
        (pager.stats(), space.used())
    });
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[1], seen[2]);
    assert!(seen[0].0.ahead_used > 20 && seen[0].0.batches > 20, "{:?}", seen[0].0);
}

#[test]
fn reading_in_order_comes_ahead_and_in_no_order_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 400);
    let mut pager = pager(dir.path(), 64, Io::Auto);
    let mut space = pager.open(&root).unwrap();
    (0..200).for_each(|page| read(&mut pager, &mut space, page));
    let stats = pager.stats();
    assert!(stats.ahead_used > 180 && stats.misses < 20, "{stats:?}");
    assert_eq!(space.used().io_bytes, 200 * PAGE as u64, "each page counts once, when it is used");
    let whole = at(0, 0);
    pager.advise(&mut space, whole, 400 * PAGE as u64, Advice::Random).unwrap();
    (200..300).for_each(|page| read(&mut pager, &mut space, page));
    assert!(pager.stats().misses >= stats.misses + 90, "{:?}", pager.stats());
    pager.advise(&mut space, whole, 400 * PAGE as u64, Advice::Sequential).unwrap();
    let misses = pager.stats().misses;
    (320..323).for_each(|page| read(&mut pager, &mut space, page));
    assert_eq!(pager.stats().misses, misses + 1, "the second page is there already");
}

/// Three steps of a pattern or four, in turns, so that it has no length; then elsewhere. Most of what is read ahead is not used, until
/// nothing is read ahead any more.
#[test]
fn bad_guesses_end_and_good_ones_begin_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 4000);
    let mut pager = pager(dir.path(), 40, Io::Caller);
    let mut space = pager.open(&root).unwrap();
    for n in 0..120 {
        (0..3 + n % 2).for_each(|step| read(&mut pager, &mut space, n * 20 + step));
    }
    let stats = pager.stats();
    assert!(stats.ahead_is_off && stats.ahead_wasted > 30, "{stats:?}");
    (3000..3300).for_each(|page| read(&mut pager, &mut space, page));
    assert!(!pager.stats().ahead_is_off && pager.stats().ahead_used > stats.ahead_used + 50);
}

#[test]
fn what_is_guessed_takes_nothing_from_a_quota() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 100);
    let mut pager = pager(dir.path(), 64, Io::Auto);
    let mut space = pager.open(&root).unwrap();
    space.set_quota(Quota { io_max_bytes: Some(10 * PAGE as u64), ..Quota::default() });
    (0..10).for_each(|page| read(&mut pager, &mut space, page));
    let mut byte = [0];
    assert!(
        is_quota(&pager.read(&mut space, at(0, 10 * PAGE as u64), &mut byte)),
        "also if it is there already"
    );
    space.renew_io();
    read(&mut pager, &mut space, 10);
    let many = &mut vec![0; 20 * PAGE];
    assert!(is_quota(&pager.read(&mut space, at(0, 40 * PAGE as u64), many)));
}

/// The frames are full when the ten pages come: they leave at once, or are spared and are there when they are
/// needed again.
#[test]
fn pages_that_are_dear_stay_longer() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 400);
    let misses = [None, Some(policy::Weight { cost_us: 100_000, bytes: PAGE as u32 })].map(|weight| {
        let mut pager = pager(dir.path(), 40, Io::Caller);
        let mut space = pager.open(&root).unwrap();
        pager.weigh(&mut space, at(0, 0), 10 * PAGE as u64, weight).unwrap();
        pager.advise(&mut space, at(0, 0), u64::MAX, Advice::Random).unwrap();
        (100..160).chain(0..10).chain(200..220).for_each(|page| read(&mut pager, &mut space, page));
        let before = pager.stats().misses;
        (0..10).for_each(|page| read(&mut pager, &mut space, page));
        pager.stats().misses - before
    });
    assert_eq!(misses, [10, 0]);
}

#[test]
fn a_batch_leaves_room_between_pins() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 100);
    let mut pager = pager(dir.path(), 32, Io::Auto);
    let mut space = pager.open(&root).unwrap();
    pager.pin(&mut space, at(0, 0), 20 * PAGE as u64).unwrap();
    let batches = pager.stats().batches;
    let mut bytes = vec![0; 60 * PAGE];
    pager.read(&mut space, at(0, 10 * PAGE as u64), &mut bytes).unwrap();
    assert!(bytes.chunks(PAGE).zip(11_u8..).all(|(page, n)| page[0] == n));
    let stats = pager.stats();
    assert!(stats.pinned == 20 && stats.batches >= batches + 10, "{stats:?}");
}

/// The batch after it could push out what a read finds in memory, and then be what its quota is used up by.
#[test]
fn what_is_here_is_read_before_more_is_fetched() {
    for io in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let root = written(dir.path(), 100);
        let store = Store::open(Arc::new(RealStorage::new(dir.path().to_owned())), "store").unwrap();
        let (page_len, budget_bytes, policy) = (PAGE, 16 * PAGE, PolicyKind::Lru);
        let settings = Settings { page_len, budget_bytes, policy, io, ..Settings::default() };
        let mut pager = Pager::new(Arc::new(store), settings).unwrap();
        let mut space = pager.open(&root).unwrap();
        pager.advise(&mut space, at(0, 0), u64::MAX, Advice::Random).unwrap();
        [0, 1].into_iter().chain(50..64).for_each(|page| read(&mut pager, &mut space, page));
        space.renew_io();
        space.set_quota(Quota { io_max_bytes: Some(4 * PAGE as u64), ..Quota::default() });
        let misses = pager.stats().misses;
        let mut bytes = vec![0; 6 * PAGE];
        pager.read(&mut space, at(0, 0), &mut bytes).unwrap();
        assert!(bytes.chunks(PAGE).zip(1_u8..).all(|(page, n)| page[0] == n));
        assert_eq!((pager.stats().misses - misses, space.used().io_bytes), (4, 4 * PAGE as u64));
    }
}

/// A read that ends at its quota, in the midst of several batches, leaves nothing behind that could not leave.
#[test]
fn a_read_that_fails_between_batches_lets_go_of_what_was_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 200);
    let mut pager = pager(dir.path(), 32, Io::Auto);
    let mut space = pager.open(&root).unwrap();
    for quota in 0..40_u64 {
        space.set_quota(Quota { io_max_bytes: Some(quota * PAGE as u64), ..Quota::default() });
        space.renew_io();
        let mut bytes = vec![0; 40 * PAGE];
        let from = quota * 2 % 100;
        let done = pager.read(&mut space, at(0, from * PAGE as u64), &mut bytes);
        assert!(done.is_ok() || is_quota(&done));
        space.set_quota(Quota::default());
        // All of the frames, at once: none was lost.
        let more = 100 + quota % 60;
        (more..more + 32).for_each(|page| read(&mut pager, &mut space, page));
    }
}

/// A frame was let go of by its number alone, also if another batch had it by then: its page counted as one that was in memory.
#[test]
fn a_batch_lets_go_of_its_own_pages_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 100);
    let mut pager = pager(dir.path(), 16, Io::Caller);
    let mut space = pager.open(&root).unwrap();
    pager.advise(&mut space, at(0, 0), u64::MAX, Advice::Random).unwrap();
    let pages = |from: u64| (from..from + 4).map(|page| (0, page)).collect::<Vec<_>>();
    let first = pager.fetch(&mut space, &pages(0), Fresh::Demand);
    pager.release(&first);
    // All frames.
    let from = [20, 30, 40, 50];
    let later = from.map(|from| pager.fetch(&mut space, &pages(from), Fresh::Demand)).concat();
    assert!(first.iter().all(|first| later.iter().any(|place| place.frame == first.frame)));
    pager.release(&first);
    let misses = pager.stats().misses;
    from.iter().flat_map(|from| pages(*from)).for_each(|(_, page)| read(&mut pager, &mut space, page));
    assert_eq!(pager.stats().misses - misses, 16);
    pager.release(&later);
}

#[test]
fn what_will_be_needed_is_fetched_up_to_half_of_the_frames() {
    let dir = tempfile::tempdir().unwrap();
    let root = written(dir.path(), 100);
    let mut pager = pager(dir.path(), 40, Io::Auto);
    let mut space = pager.open(&root).unwrap();
    let half = (40 - 40 / 32) / 2;
    pager.advise(&mut space, at(0, 0), half * PAGE as u64, Advice::WillNeed).unwrap();
    (0..half).for_each(|page| read(&mut pager, &mut space, page));
    assert_eq!(pager.stats().misses, 0);
}

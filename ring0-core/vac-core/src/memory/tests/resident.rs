//! The quota of pages in memory.

use super::*;
use crate::storage::sim::Random;

const MAX: u64 = 6;

fn limited(space: &mut Space, max: u64) {
    space.set_quota(Quota { resident_max: Some(max), ..Quota::default() });
}

/// Nobody reads anything else because of it, and there is never more in memory.
#[test]
fn what_is_read_and_written_does_not_depend_on_it() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut one, mut other) = (pager(&SimStorage::new(0), 64), pager(&SimStorage::new(0), 64));
        let (mut free, mut bound) = (one.space(), other.space());
        limited(&mut bound, MAX);
        for _ in 0..200 {
            let len = [1, PAGE, 5 * PAGE, 20 * PAGE][random.below(4) as usize];
            let to = at(0, random.below(40 * PAGE as u64));
            if random.below(3) == 0 {
                let bytes = vec![random.below(4) as u8; len];
                one.write(&mut free, to, &bytes).unwrap();
                other.write(&mut bound, to, &bytes).unwrap();
            } else {
                let (mut expected, mut got) = (vec![0; len], vec![1; len]);
                one.read(&mut free, to, &mut expected).unwrap();
                other.read(&mut bound, to, &mut got).unwrap();
                assert!(expected == got, "seed {seed}");
            }
            assert!(other.resident_of(&bound) <= MAX, "seed {seed}");
        }
        assert_eq!(one.commit(&mut free).unwrap(), other.commit(&mut bound).unwrap(), "seed {seed}");
    }
}

#[test]
fn nobody_elses_page_leaves_because_of_it() {
    let sim = SimStorage::new(0);
    let mut pager = pager(&sim, 256);
    let mut space = pager.space();
    (0..200_u64)
        .for_each(|page| pager.write(&mut space, at(0, page * PAGE as u64), &page.to_le_bytes()).unwrap());
    let root = pager.commit(&mut space).unwrap();
    drop((pager, space));

    let mut pager = super::pager(&sim, 128);
    let (mut quiet, mut greedy) = (pager.open(&root).unwrap(), pager.open(&root).unwrap());
    limited(&mut greedy, MAX);
    let mut byte = [0; 8];
    (0..20).for_each(|page| pager.read(&mut quiet, at(0, page * PAGE as u64), &mut byte).unwrap());
    for page in (0..200_u64).map(|n| 20 + (n * 67) % 180) {
        pager.read(&mut greedy, at(0, page * PAGE as u64), &mut byte).unwrap();
        assert_eq!(u64::from_le_bytes(byte), page);
    }
    let before = pager.stats();
    (0..20).for_each(|page| pager.read(&mut quiet, at(0, page * PAGE as u64), &mut byte).unwrap());
    assert_eq!(pager.stats().page_reads, before.page_reads, "they are all there still");
    assert_eq!(pager.resident_of(&greedy), MAX);
}

#[test]
fn pinned_pages_stay_and_are_an_error_in_the_end() {
    let sim = SimStorage::new(0);
    let mut pager = pager(&sim, 64);
    let mut space = pager.space();
    limited(&mut space, 4);
    let page = |page: u64| at(0, page * PAGE as u64);
    (0..3).for_each(|n| pager.write(&mut space, page(n), b"x").unwrap());
    pager.pin(&mut space, page(0), 3 * PAGE as u64).unwrap();
    (3..9).for_each(|n| pager.write(&mut space, page(n), b"y").unwrap());
    pager.pin(&mut space, page(8), 1).unwrap();
    assert!(is_quota(&pager.write(&mut space, page(9), b"z")));
    pager.unpin(&mut space, page(1), 1).unwrap();
    pager.write(&mut space, page(9), b"z").unwrap();
    let mut bytes = [0; 1];
    for (n, expected) in [(1, b"x"), (4, b"y"), (9, b"z")] {
        pager.read(&mut space, page(n), &mut bytes).unwrap();
        assert_eq!(&bytes, expected, "page {n}");
    }
}

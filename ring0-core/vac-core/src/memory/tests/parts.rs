//! What is found a part at a time is what is found at once.

use super::*;
use crate::storage::sim::Random;

/// Few numbers, near each other and far apart, so that nodes of all depths stand across from pages and from nothing.
fn page(random: &mut Random) -> u64 {
    let far = [0, 1 << 8, 1 << 16, 5 << 16, 1 << 40, 3 << 40][random.below(6) as usize];
    far + random.below(3) * 200 + random.below(4)
}

fn change(pager: &mut Pager, space: &mut Space, random: &mut Random, times: u64) {
    for _ in 0..times {
        let to = at(random.below(2), page(random) * PAGE as u64);
        match random.below(4) {
            0 => pager.fill(space, to, PAGE as u64, 0).unwrap(),
            _ => pager.write(space, to, &random.below(3).to_le_bytes()).unwrap(),
        }
    }
}

fn pages(ranges: &[Range]) -> Vec<(u64, u64)> {
    ranges.iter().flat_map(|it| (it.page..it.page + it.pages).map(|page| (it.shard, page))).collect()
}

#[test]
fn differences_come_in_parts_and_pages_are_counted() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut pager = pager(&SimStorage::new(0), 8);
        let mut one = pager.space();
        let times = 1 + random.below(60);
        change(&mut pager, &mut one, &mut random, times);
        if random.below(2) == 0 {
            let root = pager.commit(&mut one).unwrap();
            one = pager.open(&root).unwrap();
        }
        let mut other = pager.snapshot(&mut one);
        let times = random.below(40);
        change(&mut pager, &mut other, &mut random, times);
        if random.below(2) == 0 {
            pager.commit(&mut other).unwrap();
        }
        let all = pages(&pager.diff(&one, &other).unwrap());
        assert!(all.is_sorted(), "{seed}");
        let most = 1 + random.below(5) as usize;
        let (mut parts, mut from) = (Vec::new(), (0, 0));
        loop {
            let part = pages(&pager.diff_from(&one, &other, from, most).unwrap());
            assert!(part.len() <= most, "{seed}");
            let Some(last) = part.last() else { break };
            from = (last.0, last.1 + 1);
            parts.extend(part);
        }
        assert_eq!(parts, all, "{seed}");
        for space in [&mut one, &mut other] {
            let mapped = pages(&pager.mapped(space).unwrap());
            for shards in [0..=0, 1..=1, 0..=u64::MAX] {
                let of_them = mapped.iter().filter(|(shard, _)| shards.contains(shard)).count() as u64;
                assert_eq!(pager.count_mapped(space, shards, &|| Ok(())).unwrap(), of_them, "{seed}");
            }
        }
    }
}

#[test]
fn pages_are_counted_once_and_kept_count_of() {
    let sim = SimStorage::new(0);
    let mut pager = pager(&sim, 8);
    let mut space = pager.space();
    (0..600).for_each(|page| pager.write(&mut space, at(0, page * PAGE as u64), b"x").unwrap());
    let root = pager.commit(&mut space).unwrap();
    let mut opened = pager.open(&root).unwrap();
    let stop = || Err(HostAbort::new(AbortKind::Quota, "enough").into());
    assert!(pager.count_mapped(&mut opened, 0..=0, &stop).is_err());
    assert_eq!(pager.count_mapped(&mut opened, 0..=0, &|| Ok(())).unwrap(), 600);
    pager.write(&mut opened, at(0, 5000 * PAGE as u64), b"x").unwrap();
    pager.fill(&mut opened, at(0, 0), 10 * PAGE as u64, 0).unwrap();
    // A page of zeros goes with the commit.
    pager.write(&mut opened, at(0, 20 * PAGE as u64), &[0; PAGE]).unwrap();
    assert_eq!(pager.count_mapped(&mut opened, 0..=0, &stop).unwrap(), 591);
    pager.commit(&mut opened).unwrap();
    assert_eq!(pager.count_mapped(&mut opened, 0..=0, &stop).unwrap(), 590);
}

#[test]
fn a_shard_with_another_backing_hides_none_after_it() {
    let mut pager = pager(&SimStorage::new(0), 8);
    let mut one = pager.space();
    pager.write(&mut one, at(0, 0), b"x").unwrap();
    pager.write(&mut one, at(2, 0), b"x").unwrap();
    let mut other = pager.space();
    other.set_backing(1, Backing::Generator { name: BLAKE3_STREAM.to_owned(), seed: [3; 32] }).unwrap();
    let all = pager.diff(&one, &other).unwrap();
    assert_eq!(all.iter().map(|range| range.shard).collect::<Vec<_>>(), [0, 1, 2]);
    let (mut parts, mut from) = (Vec::new(), (0, 0));
    while let Some(last) = pager.diff_from(&one, &other, from, 1).unwrap().pop() {
        from = (last.shard, last.page + last.pages);
        parts.push(last);
    }
    assert_eq!(parts, all);
}

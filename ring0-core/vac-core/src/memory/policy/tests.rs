//! What each policy must do, and how far each is from the best.

use std::collections::BTreeSet;

use super::*;
use crate::storage::sim::Random;

/// Page numbers drawn by rank with weight 1 / rank^0.9, by inversion of the summed weights.
fn zipf(pages: usize, len: usize, seed: u64) -> Vec<u64> {
    let mut sums = Vec::with_capacity(pages);
    let mut sum = 0.0;
    for rank in 1..=pages {
        sum += (rank as f64).powf(-0.9);
        sums.push(sum);
    }
    let mut random = Random::new(seed);
    let mut draw = || {
        let at = random.next() as f64 / u64::MAX as f64 * sum;
        sums.partition_point(|sum| *sum < at) as u64
    };
    (0..len).map(|_| draw()).collect()
}

#[test]
fn a_policy_names_each_frame_once_and_never_one_that_it_does_not_have() {
    for kind in PolicyKind::ALL {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let mut policy = kind.build(16);
            let mut has: BTreeSet<u32> = BTreeSet::new();
            for _ in 0..2000 {
                let frame = random.below(16) as u32;
                match random.below(4) {
                    0 if !has.contains(&frame) => {
                        policy.insert(frame, random.below(40));
                        has.insert(frame);
                    }
                    1 => {
                        policy.remove(frame);
                        has.remove(&frame);
                    }
                    2 if has.contains(&frame) => policy.touch(frame),
                    _ => {
                        let victim = policy.victim();
                        assert_eq!(victim.is_some(), !has.is_empty(), "{}", kind.name());
                        assert!(victim.is_none_or(|victim| has.remove(&victim)), "{}", kind.name());
                    }
                }
            }
            while let Some(victim) = policy.victim() {
                assert!(has.remove(&victim));
            }
            assert!(has.is_empty());
        }
    }
}

#[test]
fn lru_is_what_a_list_of_uses_says() {
    let trace = zipf(60, 3000, 7);
    let mut recent: Vec<u64> = Vec::new();
    let mut hits = 0;
    for page in &trace {
        if let Some(at) = recent.iter().position(|it| it == page) {
            recent.remove(at);
            hits += 1;
        }
        recent.push(*page);
        if recent.len() > 12 {
            recent.remove(0);
        }
    }
    assert_eq!(simulate(PolicyKind::Lru, 12, &trace), hits);
}

#[test]
fn nobody_hits_more_often_than_who_knows_the_future() {
    for seed in 0..4 {
        let trace = zipf(300, 5000, seed);
        for capacity in [1, 5, 40, 300] {
            let best = belady(capacity, &trace);
            for kind in PolicyKind::ALL {
                assert!(simulate(kind, capacity, &trace) <= best, "{} {capacity}", kind.name());
            }
        }
        assert_eq!(belady(300, &trace) as usize, trace.len() - trace.iter().collect::<BTreeSet<_>>().len());
    }
}

#[test]
fn a_skewed_trace_is_where_lru_loses() {
    let trace = zipf(20_000, 100_000, 1);
    let lru = simulate(PolicyKind::Lru, 100, &trace);
    for kind in [PolicyKind::S3Fifo, PolicyKind::Sieve, PolicyKind::TinyLfu] {
        let hits = simulate(kind, 100, &trace);
        assert!(hits * 10 > lru * 13, "{}: {hits}, lru: {lru}", kind.name());
    }
}

#[test]
fn a_scan_does_not_empty_the_cache() {
    let mut trace = Vec::new();
    for round in 0..40 {
        // A hot set of 50 used twice, then 200 pages that nobody needs again.
        (0..2).for_each(|_| trace.extend(0..50));
        trace.extend((0..200).map(|page| 1000 + round * 200 + page));
    }
    let lru = simulate(PolicyKind::Lru, 100, &trace);
    let s3 = simulate(PolicyKind::S3Fifo, 100, &trace);
    assert!(s3 * 10 > lru * 15, "s3-fifo: {s3}, lru: {lru}");
}

#[test]
fn in_a_loop_most_of_the_frames_hit() {
    // Every page comes back after the same time, so whoever keeps the latest hits never.
    let trace: Vec<u64> = (0..60_000).map(|n| n % 1200).collect();
    let (s3, best) = (simulate(PolicyKind::S3Fifo, 1000, &trace), belady(1000, &trace));
    assert!(s3 * 200 > best * 199, "s3-fifo: {s3}, the best: {best}");
    assert_eq!(simulate(PolicyKind::Lru, 1000, &trace), 0);
}

/// What was used in the first half is not used in the second.
#[test]
fn a_hot_set_that_moves_is_followed() {
    for frames in [100, 1000] {
        let mut random = Random::new(3);
        let pages = frames as u64 * 9 / 10;
        let trace: Vec<u64> = (0..80 * frames as u64)
            .map(|n| random.below(pages) + if n < 40 * frames as u64 { 0 } else { 1 << 20 })
            .collect();
        let (s3, best) = (simulate(PolicyKind::S3Fifo, frames, &trace), belady(frames, &trace));
        assert!(s3 * 10 > best * 9, "s3-fifo: {s3}, the best: {best}, of {}", trace.len());
    }
}

#[test]
fn what_is_dear_is_spared() {
    let weight = |cost_us, bytes| Weight { cost_us, bytes }.credits(100, 4096);
    assert_eq!([weight(100, 4096), weight(199, 4096), weight(200, 4096)], [0, 0, 1]);
    assert_eq!([weight(0, 4096), weight(100, 1024), weight(u32::MAX, 1)], [0, 2, 7]);
    for frames in [100, 2000] {
        let mut policy = S3Fifo::new(frames as usize);
        let is_dear = |frame: &u32| *frame < frames / 5;
        (0..frames).for_each(|frame| {
            policy.insert_with(frame, u64::from(frame), if is_dear(&frame) { 3 } else { 0 });
        });
        // Each page that leaves makes room for another, which costs little.
        let mut next = || {
            let frame = policy.victim()?;
            policy.insert(frame, u64::from(frame) | 1 << 40);
            Some(frame)
        };
        let left: Vec<u32> = (0..frames / 2).filter_map(|_| next()).collect();
        assert!(!left.iter().any(is_dear), "{left:?}");
        let rest = std::iter::from_fn(|| policy.victim()).count();
        assert_eq!(rest, frames as usize, "but not for ever");
    }
}

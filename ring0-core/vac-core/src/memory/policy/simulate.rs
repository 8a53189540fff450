//! A policy on a trace, without pages: how often it would have hit.

use std::collections::BTreeMap;

use super::PolicyKind;

/// Hits of `kind` with `capacity` frames on a trace of page numbers.
pub fn simulate(kind: PolicyKind, capacity: usize, trace: &[u64]) -> u64 {
    let mut policy = kind.build(capacity);
    let mut at: BTreeMap<u64, u32> = BTreeMap::new();
    let mut pages = vec![0; capacity];
    let (mut hits, mut used) = (0, 0);
    for &page in trace {
        if let Some(&frame) = at.get(&page) {
            policy.touch(frame);
            hits += 1;
            continue;
        }
        let frame = if used < capacity {
            used += 1;
            used as u32 - 1
        } else {
            let Some(frame) = policy.victim() else { continue };
            frame
        };
        if let Some(slot) = pages.get_mut(frame as usize) {
            if at.get(slot) == Some(&frame) {
                at.remove(slot);
            }
            *slot = page;
        }
        at.insert(page, frame);
        policy.insert(frame, page.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    hits
}

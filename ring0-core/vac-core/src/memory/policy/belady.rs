//! Belady's policy, which knows the future: the most hits that any policy can have.

use std::collections::{BTreeMap, BTreeSet};

/// The most hits that `capacity` frames can give on a trace of page numbers, if a page that is used must
/// be let in.
pub fn belady(capacity: usize, trace: &[u64]) -> u64 {
    let next = next_uses(trace);
    // When each page in memory is used again, and the page.
    let mut queue: BTreeSet<(usize, u64)> = BTreeSet::new();
    let mut due: BTreeMap<u64, usize> = BTreeMap::new();
    let mut hits = 0;
    for (&page, &again) in trace.iter().zip(&next) {
        if let Some(now) = due.insert(page, again) {
            queue.remove(&(now, page));
            hits += 1;
        } else if due.len() > capacity
            && let Some((_, last)) = queue.pop_last()
        {
            due.remove(&last);
        }
        queue.insert((again, page));
    }
    hits
}

/// For each step of the trace, when its page is used next; past the end if never.
fn next_uses(trace: &[u64]) -> Vec<usize> {
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    let mut next = vec![usize::MAX; trace.len()];
    for (at, (&page, next)) in trace.iter().zip(&mut next).enumerate().rev() {
        *next = seen.insert(page, at).unwrap_or(usize::MAX);
    }
    next
}

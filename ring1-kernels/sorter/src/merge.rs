//! Sorting what does not fit: runs that fit are sorted, then merged, several at a time, from one slice to another
//! and back.

use sdk::slice::{Far, Slice};

/// Numbers of a run that is sorted at once: 256 KiB.
pub(crate) const RUN: u64 = 32 << 10;
/// Runs that are merged at a time, and numbers of each that are at hand: 64 KiB.
const WAYS: u64 = 8;
const AT_HAND: u64 = 8 << 10;

/// Sorts `data` with the help of `spare`, which is as long. Whether the result is in `spare`.
pub(crate) fn sort<M: Far>(
    data: &mut Slice<'_, M, u64>,
    spare: &mut Slice<'_, M, u64>,
) -> Result<bool, M::Error> {
    let len = data.len();
    let mut run = Vec::new();
    let mut at = 0;
    while at < len {
        data.read(at..at.saturating_add(RUN), &mut run)?;
        run.sort_unstable();
        data.write(at, &run)?;
        at = at.saturating_add(RUN);
    }
    let (mut width, mut is_in_spare) = (RUN, false);
    while width < len {
        match is_in_spare {
            false => merge_all(data, spare, width)?,
            true => merge_all(spare, data, width)?,
        }
        is_in_spare = !is_in_spare;
        width = width.saturating_mul(WAYS);
    }
    Ok(is_in_spare)
}

/// Merges runs of `width` numbers to runs of [`WAYS`] times as many.
fn merge_all<M: Far>(
    from: &mut Slice<'_, M, u64>,
    to: &mut Slice<'_, M, u64>,
    width: u64,
) -> Result<(), M::Error> {
    let mut at = 0;
    while at < from.len() {
        let begins = (0..WAYS).map(|way| at.saturating_add(way.saturating_mul(width)));
        let runs: Vec<Run> = begins.map(|begin| Run::new(begin, width, from.len())).collect();
        merge(from, runs, to, at)?;
        at = at.saturating_add(width.saturating_mul(WAYS));
    }
    Ok(())
}

/// A run that is being merged: what of it is at hand, and what comes after that.
struct Run {
    at_hand: Vec<u64>,
    next: usize,
    rest: std::ops::Range<u64>,
}

impl Run {
    fn new(begin: u64, width: u64, len: u64) -> Self {
        Self { at_hand: Vec::new(), next: 0, rest: begin.min(len)..begin.saturating_add(width).min(len) }
    }

    /// The smallest number that is left.
    fn first<M: Far>(&mut self, from: &mut Slice<'_, M, u64>) -> Result<Option<u64>, M::Error> {
        if self.next == self.at_hand.len() {
            let end = self.rest.start.saturating_add(AT_HAND).min(self.rest.end);
            from.read(self.rest.start..end, &mut self.at_hand)?;
            (self.rest.start, self.next) = (end, 0);
        }
        Ok(self.at_hand.get(self.next).copied())
    }
}

fn merge<M: Far>(
    from: &mut Slice<'_, M, u64>,
    mut runs: Vec<Run>,
    to: &mut Slice<'_, M, u64>,
    mut at: u64,
) -> Result<(), M::Error> {
    let mut merged = Vec::new();
    loop {
        let mut least: Option<(u64, usize)> = None;
        for (way, run) in runs.iter_mut().enumerate() {
            let Some(first) = run.first(from)? else { continue };
            if least.is_none_or(|(number, _)| first < number) {
                least = Some((first, way));
            }
        }
        let is_full = merged.len() as u64 == AT_HAND;
        if is_full || least.is_none() {
            to.write(at, &merged)?;
            at = at.saturating_add(merged.len() as u64);
            merged.clear();
        }
        let Some((number, way)) = least else { return Ok(()) };
        merged.push(number);
        runs[way].next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use std::cell::RefCell;

    struct Mock(RefCell<Vec<u8>>);

    impl Far for Mock {
        type Error = ();
        fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, ()> {
            Ok(self.0.borrow()[offset as usize..][..len as usize].to_vec())
        }
        fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), ()> {
            self.0.borrow_mut()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn runs_are_merged_whatever_their_number() {
        for len in [0, 1, RUN - 1, RUN, RUN + 1, RUN * WAYS, RUN * WAYS + 5, RUN * (WAYS + 3)] {
            let [data, spare] = [(); 2].map(|()| Mock(RefCell::new(vec![0; len as usize * 8])));
            let mut random = Numbers::new(len);
            let mut expected: Vec<u64> = (0..len).map(|_| random.next() % 1_000_003).collect();
            let mut slices = [&data, &spare].map(|memory| Slice::new(memory, 0, len, 4096).unwrap());
            slices[0].write(0, &expected).unwrap();
            let [data, spare] = &mut slices;
            let is_in_spare = sort(data, spare).unwrap();
            let mut sorted = Vec::new();
            slices[usize::from(is_in_spare)].read(0..len, &mut sorted).unwrap();
            expected.sort_unstable();
            assert!(sorted == expected, "{len} numbers");
        }
    }
}

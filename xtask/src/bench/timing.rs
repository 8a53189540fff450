//! Clock, medians, and sides that take turns.

use std::time::Instant;

use super::Result;

/// How long `work` took, in nanoseconds.
pub(super) fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    let done = work()?;
    let ns = start.elapsed().as_nanos() as f64;
    drop(std::hint::black_box(done));
    Ok(ns)
}

/// The middle of `samples`; not a number if there are none.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    match sorted.len().checked_sub(1).and_then(|last| sorted.get(last / 2)) {
        Some(lower) => f64::midpoint(*lower, upper),
        None => upper,
    }
}

/// The least of `samples`; not a number if there are none.
pub(super) fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().min_by(f64::total_cmp).unwrap_or(f64::NAN)
}

/// The geometric mean of `ratios`.
pub(super) fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// One side of a comparison: measures once.
pub(super) type Side<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// The median of each side. Sides take turns, beginning with another one each time; the first round
/// warms up and does not count.
pub(super) fn medians(rounds: usize, sides: &mut [Side<'_>]) -> Result<Vec<f64>> {
    let mut samples = vec![Vec::with_capacity(rounds); sides.len()];
    for round in 0..=rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let sample = sides[at]()?;
            if round > 0 {
                samples[at].push(sample);
            }
        }
    }
    Ok(samples.iter().map(|samples| median(samples)).collect())
}

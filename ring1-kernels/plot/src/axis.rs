//! An axis: a range of values, its ticks, and where a value lies on the paper.

use sdk::scaled::{div_half_even, format_rounded};

/// A range of integer values with round ticks. The range is never empty.
pub(crate) struct Axis {
    lo: i128,
    hi: i128,
    step: i128,
}

impl Axis {
    /// An axis of nano-ppm that begins and ends with a tick and holds all `values`.
    pub(crate) fn around(values: impl Iterator<Item = i128>, ticks: i128) -> Self {
        let (lo, hi) = values.fold(None, widen).unwrap_or((0, 0));
        let step = round_step(div_up(hi - lo, ticks), 1);
        let (lo, hi) = (lo.div_euclid(step) * step, div_up(hi, step) * step);
        Self { lo, hi: hi.max(lo + step), step }
    }

    /// An axis of half months from `lo` to `hi` with ticks at whole years.
    pub(crate) fn years((lo, hi): (i128, i128), ticks: i128) -> Self {
        Self { lo, hi: hi.max(lo + 1), step: round_step(div_up(hi - lo, ticks), 24) }
    }

    /// The values of the ticks.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = i128> {
        let first = div_up(self.lo, self.step) * self.step;
        (0..).map(move |i| first + i * self.step).take_while(|tick| *tick <= self.hi)
    }

    /// Where `value` lies on a line from `start` that is `len` long, both in hundredths of a pixel.
    pub(crate) fn position(&self, value: i128, start: i128, len: i128) -> i128 {
        start + div_half_even((value - self.lo) * len, self.hi - self.lo)
    }

    /// A tick in ppm, with the decimals that its step needs.
    pub(crate) fn ppm_label(&self, tick: i128) -> String {
        let decimals = (0..9).find(|decimals| self.step % 10i128.pow(9 - decimals) == 0).unwrap_or(9);
        format_rounded(tick, 9, decimals).replace('-', "\u{2212}")
    }
}

fn widen(range: Option<(i128, i128)>, value: i128) -> Option<(i128, i128)> {
    range.map_or(Some((value, value)), |(lo, hi)| Some((lo.min(value), hi.max(value))))
}

fn div_up(num: i128, den: i128) -> i128 {
    -(-num).div_euclid(den)
}

/// The least of 1, 2, 5, 10, 20, ... times `unit` that is at least `step`.
fn round_step(step: i128, unit: i128) -> i128 {
    let steps = (0..30).flat_map(|exponent| [1, 2, 5].map(|digit| digit * 10i128.pow(exponent) * unit));
    steps.into_iter().find(|round| *round >= step).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPM: i128 = 1_000_000_000;

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        let axis = Axis::around([313 * PPM, 377 * PPM].into_iter(), 7);
        assert_eq!(
            axis.ticks().collect::<Vec<_>>(),
            [310, 320, 330, 340, 350, 360, 370, 380].map(|t| t * PPM)
        );
        assert_eq!(axis.ppm_label(320 * PPM), "320");
        let axis = Axis::around([-PPM / 4, PPM / 3].into_iter(), 5);
        assert_eq!(
            axis.ticks().map(|t| axis.ppm_label(t)).collect::<Vec<_>>(),
            ["−0.4", "−0.2", "0.0", "0.2", "0.4"]
        );
    }

    #[test]
    fn years_have_ticks_at_their_beginnings() {
        let axis = Axis::years((24 * 1958 + 4, 24 * 2004), 8);
        let years: Vec<i128> = axis.ticks().map(|tick| tick / 24).collect();
        assert_eq!(years, [1960, 1970, 1980, 1990, 2000]);
    }

    #[test]
    fn no_range_is_empty_or_too_wide() {
        for values in [vec![], vec![5], vec![0, 0], vec![i64::MIN.into(), i64::MAX.into()]] {
            let axis = Axis::around(values.iter().copied(), 6);
            assert!((2..=8).contains(&axis.ticks().count()));
            for value in values {
                assert!((0..=70_000).contains(&axis.position(value, 0, 70_000)));
            }
        }
    }
}

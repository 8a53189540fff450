//! Decimals as integers: division, printing and reading that are exact or rounded once.

use std::cmp::Ordering;

/// `num / den` rounded to the nearest integer, a tie to the even one. `den` must not be zero.
///
/// ```text
///   5/2 -> 2    7/2 -> 4    -5/2 -> -2    8/3 -> 3
/// ```
pub fn div_half_even(num: i128, den: i128) -> i128 {
    let (whole, rest) = (num.div_euclid(den), num.rem_euclid(den).unsigned_abs());
    // The remainder is in 0..|den|; the quotient steps up for den > 0 and down for den < 0.
    let up = if den > 0 { 1 } else { -1 };
    // rest ? |den| - rest says the same as 2 rest ? |den| and cannot overflow.
    match rest.cmp(&(den.unsigned_abs() - rest)) {
        Ordering::Less => whole,
        Ordering::Greater => whole + up,
        Ordering::Equal => whole + up * (whole & 1),
    }
}

/// `value / 10^decimals` as a decimal with all its digits: `format(-1250, 3)` is `-1.250`.
pub fn format(value: i128, decimals: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = decimals as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals as usize);
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// `value / 10^from` with only `to` decimals, rounded half to even; never `-0`.
pub fn format_rounded(value: i128, from: u32, to: u32) -> String {
    format(div_half_even(value, 10i128.pow(from.saturating_sub(to))), to.min(from))
}

/// Reads `12`, `12.5` or `0.125` as an integer of 10^-`decimals`. `None` for anything else: a sign, an
/// exponent, a missing digit beside the point, more decimals than asked, or more than 12 digits before it.
pub fn parse(text: &str, decimals: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let shape = (1..=12).contains(&whole.len()) && (1..=decimals.max(1)).contains(&fraction.len());
    if !shape || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction:0<decimals$}");
    digits[..whole.len() + decimals].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_even_neighbour() {
        let halves = [-7, -5, -3, -1, 1, 3, 5, 7].map(|n| div_half_even(n, 2));
        assert_eq!(halves, [-4, -2, -2, 0, 0, 2, 2, 4]);
        assert_eq!([7, 8, -7, -8].map(|n| div_half_even(n, 3)), [2, 3, -2, -3]);
        assert_eq!([7, 8, -7, -8].map(|n| div_half_even(n, -3)), [-2, -3, 2, 3]);
        assert_eq!(div_half_even(5, -2), -2);
        assert_eq!(div_half_even(i128::MAX, 1), i128::MAX);
    }

    #[test]
    fn decimals_print_all_their_digits() {
        assert_eq!(format(-1250, 3), "-1.250");
        assert_eq!(format(5, 3), "0.005");
        assert_eq!(format(42, 0), "42");
        assert_eq!(format_rounded(1_234_567, 6, 2), "1.23");
        assert_eq!(format_rounded(-1, 6, 2), "0.00");
        assert_eq!(format_rounded(5, 1, 3), "0.5");
    }

    #[test]
    fn only_plain_decimals_are_read() {
        assert_eq!(parse("316.1", 6), Some(316_100_000));
        assert_eq!(parse("0", 6), Some(0));
        assert_eq!(parse("999999999999.999999", 6), Some(999_999_999_999_999_999));
        for bad in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "1.0000000", "1_0", " 1", "٣", "1.2.3", "1234567890123"]
        {
            assert_eq!(parse(bad, 6), None, "`{bad}`");
        }
    }
}

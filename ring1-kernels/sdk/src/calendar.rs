//! Months as one number, so that they can be subtracted.

/// First and last year that a kernel accepts.
pub const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

/// Months since January of the year 0, or `None` when the year is not in [`YEARS`] or the month not
/// in 1 to 12.
pub fn month_number(year: i32, month: u8) -> Option<i64> {
    let valid = YEARS.contains(&year) && (1..=12).contains(&month);
    valid.then(|| i64::from(year) * 12 + i64::from(month) - 1)
}

/// The year and month (1 to 12) of a [`month_number`], or `None` when it is outside [`YEARS`].
pub fn year_and_month(number: i64) -> Option<(i32, u8)> {
    let year = i32::try_from(number.div_euclid(12)).ok()?;
    let month = u8::try_from(number.rem_euclid(12) + 1).ok()?;
    YEARS.contains(&year).then_some((year, month))
}

/// Days in a month of the Gregorian calendar, or 0 for a month that does not exist.
pub fn days_in_month(year: i32, month: u8) -> u8 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_numbers_are_one_to_one() {
        for number in [12, 23, 24, 1958 * 12 + 2, 9999 * 12 + 11] {
            let (year, month) = year_and_month(number).unwrap();
            assert_eq!(month_number(year, month), Some(number));
        }
        assert_eq!(year_and_month(1958 * 12 + 2), Some((1958, 3)));
    }

    #[test]
    fn months_that_do_not_exist_have_no_number() {
        for (year, month) in [(0, 1), (10_000, 1), (1958, 0), (1958, 13), (i32::MIN, 1)] {
            assert_eq!(month_number(year, month), None);
        }
        for number in [i64::MIN, -1, 11, 10_000 * 12, i64::MAX] {
            assert_eq!(year_and_month(number), None);
        }
    }

    #[test]
    fn february_follows_the_gregorian_rule() {
        let days = [1900, 1999, 2000, 2004].map(|year| days_in_month(year, 2));
        assert_eq!(days, [28, 28, 29, 29]);
        assert_eq!(days_in_month(2000, 13), 0);
    }
}

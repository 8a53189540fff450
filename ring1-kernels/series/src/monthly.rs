//! Means of calendar months.
//!
//! A week belongs to the month of its date. The mean of n weeks is sum / n, rounded half to even to
//! a micro-ppm: with values in tenths of a ppm and at most five weeks a month, only means of three
//! are ever rounded, by at most a third of a micro-ppm.

use sdk::scaled::div_half_even;

use crate::bindings::exports::vac::study::types::Month;
use crate::weekly::Week;

/// One mean for each month that has a week. `weeks` are in order of their dates.
///
/// # Errors
///
/// A mean that does not fit its type, which no readable file can cause.
pub(crate) fn means(weeks: &[Week]) -> Result<Vec<Month>, String> {
    let months = weeks.chunk_by(|a, b| (a.date.year, a.date.month) == (b.date.year, b.date.month));
    months.filter_map(|weeks| Some(mean(weeks.first()?, weeks))).collect()
}

fn mean(first: &Week, weeks: &[Week]) -> Result<Month, String> {
    let sum: i128 = weeks.iter().map(|week| i128::from(week.co2_uppm)).sum();
    let too_large = |_| "expected a mean that fits 64 bits".to_owned();
    Ok(Month {
        year: first.date.year,
        month: first.date.month,
        mean_uppm: i64::try_from(div_half_even(sum, weeks.len() as i128)).map_err(too_large)?,
        weeks: u32::try_from(weeks.len()).map_err(too_large)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weekly;

    fn of(rows: &str) -> Vec<(i32, u8, i64, u32)> {
        let weeks = weekly::parse(format!("date,co2_ppm\n{rows}").as_bytes()).unwrap();
        means(&weeks).unwrap().iter().map(|m| (m.year, m.month, m.mean_uppm, m.weeks)).collect()
    }

    #[test]
    fn weeks_go_to_the_month_of_their_date() {
        let rows = "1999-01-30,368.0\n1999-02-06,368.1\n1999-02-13,\n1999-02-20,368.2\n1999-04-03,\n2000-02-05,369.1\n";
        let want = [(1999, 1, 368_000_000, 1), (1999, 2, 368_150_000, 2), (2000, 2, 369_100_000, 1)];
        assert_eq!(of(rows), want);
    }

    #[test]
    fn means_are_rounded_half_to_even() {
        assert_eq!(of("1999-01-01,1.000001\n1999-01-02,1.000002\n")[0].2, 1_000_002);
        assert_eq!(of("1999-01-01,1.000002\n1999-01-02,1.000003\n")[0].2, 1_000_002);
        assert_eq!(of("1999-01-01,1.0\n1999-01-02,1.0\n1999-01-03,2.0\n")[0].2, 1_333_333);
    }

    #[test]
    fn the_record_has_its_known_months() {
        let weeks = weekly::parse(include_bytes!("../../../examples/keeling/data/weekly.csv")).unwrap();
        let months = means(&weeks).unwrap();
        // March 1958 to December 2001 are 526 months; June 1958, October 1958 and February to April
        // 1964 have no measurement. Counted and averaged by an independent script with fractions.
        assert_eq!(months.len(), 521);
        assert_eq!(months.iter().map(|m| m.weeks).sum::<u32>(), 2225);
        let may_1959 = months.iter().find(|m| (m.year, m.month) == (1959, 5)).unwrap();
        assert_eq!((may_1959.mean_uppm, may_1959.weeks), (318_325_000, 4));
    }
}

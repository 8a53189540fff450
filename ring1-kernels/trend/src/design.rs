//! Months as rows of an integer design matrix.
//!
//! ```text
//!   column   0   1   2     3 .. 13
//!            1   t   t^2   month effect, January .. November
//! ```
//!
//! `t` is in months since the first one. The twelve effects sum to zero, so December's is minus the
//! sum of the others: its row has -1 in all eleven columns.

use sdk::calendar::{month_number, year_and_month};

use crate::bindings::exports::vac::study::types::Month;

/// Free coefficients: three of the trend, eleven of the season.
pub(crate) const COLUMNS: usize = 14;
/// Columns of the trend; the season follows.
pub(crate) const TREND: usize = 3;
/// Most months of a record: a thousand years.
const MONTHS_MAX: usize = 12_000;
/// Most months of a forecast: a century.
const FORECAST_MAX: u32 = 1_200;
/// Largest mean: a million ppm, which is pure CO2.
const MEAN_MAX_UPPM: i64 = 1_000_000_000_000;

/// One row.
pub(crate) type Row = [i64; COLUMNS];

/// A month that was checked, on the time axis of its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Months since the first one.
    pub(crate) t: i64,
    /// 1 to 12.
    pub(crate) month: u8,
}

impl Point {
    pub(crate) fn row(self) -> Row {
        let mut row = [0; COLUMNS];
        row[..TREND].copy_from_slice(&[1, self.t, self.t * self.t]);
        match self.month {
            12 => row[TREND..].fill(-1),
            month => row[TREND + usize::from(month) - 1] = 1,
        }
        row
    }
}

/// A record that was checked.
pub(crate) struct Record {
    /// The [`month_number`] of the first month.
    origin: i64,
    pub(crate) points: Vec<Point>,
    /// Means in micro-ppm, one a point.
    pub(crate) observed: Vec<i64>,
}

impl Record {
    /// Checks what the arithmetic relies on: real months in increasing order, means of physical size,
    /// more months than coefficients, every calendar month at least once.
    pub(crate) fn try_new(months: &[Month]) -> Result<Self, String> {
        if !(COLUMNS + 1..=MONTHS_MAX).contains(&months.len()) {
            return Err(format!("expected {} to {MONTHS_MAX} months, got {}", COLUMNS + 1, months.len()));
        }
        let numbers = months.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        check_order(&numbers, months)?;
        let origin = numbers[0];
        let points =
            numbers.iter().zip(months).map(|(number, m)| Point { t: number - origin, month: m.month });
        let observed = months.iter().map(mean).collect::<Result<_, _>>()?;
        let record = Self { origin, points: points.collect(), observed };
        record.check_season().map(|()| record)
    }

    fn check_season(&self) -> Result<(), String> {
        let missing = (1..=12).find(|month| self.points.iter().all(|point| point.month != *month));
        missing.map_or(Ok(()), |month| {
            Err(format!("expected every calendar month at least once, got none of month {month}"))
        })
    }

    /// The `count` months after the last one, each with its year.
    pub(crate) fn after(&self, count: u32) -> Result<Vec<(i32, Point)>, String> {
        if count > FORECAST_MAX {
            return Err(format!("expected a forecast of at most {FORECAST_MAX} months, got {count}"));
        }
        let last = self.points.last().map_or(0, |point| point.t);
        let point = |t: i64| {
            let (year, month) =
                year_and_month(self.origin + t).ok_or("expected a forecast within the year 9999")?;
            Ok((year, Point { t, month }))
        };
        (last + 1..=last + i64::from(count)).map(point).collect()
    }
}

fn number(m: &Month) -> Result<i64, String> {
    month_number(m.year, m.month).ok_or_else(|| {
        format!("expected a month from 0001-01 to 9999-12, got year {} month {}", m.year, m.month)
    })
}

fn mean(m: &Month) -> Result<i64, String> {
    if (0..=MEAN_MAX_UPPM).contains(&m.mean_uppm) {
        return Ok(m.mean_uppm);
    }
    Err(format!(
        "{:04}-{:02}: expected a mean of 0 to {MEAN_MAX_UPPM} uppm, got {}",
        m.year, m.month, m.mean_uppm
    ))
}

fn check_order(numbers: &[i64], months: &[Month]) -> Result<(), String> {
    match numbers.windows(2).position(|pair| pair[0] >= pair[1]) {
        None => Ok(()),
        Some(at) => {
            let (last, next) = (&months[at], &months[at + 1]);
            let got = format!("{:04}-{:02} after {:04}-{:02}", next.year, next.month, last.year, last.month);
            Err(format!("expected months in increasing order, got {got}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn months(count: i64) -> Vec<Month> {
        let month = |number| {
            let (year, month) = year_and_month(number).unwrap();
            Month { year, month, mean_uppm: 300_000_000, weeks: 4 }
        };
        (1960 * 12..1960 * 12 + count).map(month).collect()
    }

    fn error(months: &[Month]) -> String {
        Record::try_new(months).err().unwrap()
    }

    #[test]
    fn rows_of_a_year_have_effects_that_cancel() {
        let year: Vec<Row> = (1..=12).map(|month| Point { t: 3, month }.row()).collect();
        assert_eq!(year[1][..5], [1, 3, 9, 0, 1]);
        assert!((TREND..COLUMNS).all(|column| year.iter().map(|row| row[column]).sum::<i64>() == 0));
    }

    #[test]
    fn records_that_cannot_be_fitted_are_refused() {
        assert_eq!(error(&months(14)), "expected 15 to 12000 months, got 14");
        let mut one = months(24);
        one[3].month = 13;
        assert_eq!(error(&one), "expected a month from 0001-01 to 9999-12, got year 1960 month 13");
        let mut one = months(24);
        one.swap(4, 5);
        assert_eq!(error(&one), "expected months in increasing order, got 1960-05 after 1960-06");
        let mut one = months(24);
        one[0].mean_uppm = -1;
        assert_eq!(error(&one), "1960-01: expected a mean of 0 to 1000000000000 uppm, got -1");
        let mut one = months(48);
        one.retain(|m| m.month != 7);
        assert_eq!(error(&one), "expected every calendar month at least once, got none of month 7");
    }

    #[test]
    fn a_forecast_follows_the_last_month() {
        let record = Record::try_new(&months(24)).unwrap();
        let next: Vec<_> = record.after(2).unwrap().iter().map(|(year, p)| (*year, p.month, p.t)).collect();
        assert_eq!(next, [(1962, 1, 24), (1962, 2, 25)]);
        assert!(record.after(0).unwrap().is_empty());
        assert_eq!(record.after(1201).err().unwrap(), "expected a forecast of at most 1200 months, got 1201");
    }
}

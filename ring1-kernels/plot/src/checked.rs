//! A record and its model that were checked against each other, in the units of a figure.

use sdk::calendar::month_number;

use crate::bindings::exports::vac::study::types::{ForecastPoint, Model, Month};

/// Most months and forecast points that are drawn.
const POINTS_MAX: usize = 15_000;

/// What is drawn. Times are half months since the year 0, so that the middle of a month is an integer;
/// concentrations are nano-ppm.
pub(crate) struct Study<'a> {
    pub(crate) months: &'a [Month],
    pub(crate) model: &'a Model,
    /// Middle of each month and its mean.
    pub(crate) means: Vec<(i128, i128)>,
    /// The same months and the model's values.
    pub(crate) fitted: Vec<(i128, i128)>,
    /// The same months and mean minus model.
    pub(crate) residuals: Vec<(i128, i128)>,
    pub(crate) forecast: Vec<Ahead>,
}

/// One month ahead.
pub(crate) struct Ahead {
    pub(crate) time: i128,
    pub(crate) value: i128,
    pub(crate) low: i128,
    pub(crate) high: i128,
}

impl<'a> Study<'a> {
    /// Checks lengths, months and their order.
    pub(crate) fn try_new(months: &'a [Month], model: &'a Model) -> Result<Self, String> {
        check_lengths(months, model)?;
        let times = times(months.iter().map(|m| (m.year, m.month)))?;
        let ahead = times_after(&times, &model.forecast)?;
        let means: Vec<_> =
            times.iter().zip(months).map(|(&t, m)| (t, i128::from(m.mean_uppm) * 1000)).collect();
        let fitted: Vec<_> =
            times.iter().zip(&model.fitted_nppm).map(|(&t, &f)| (t, i128::from(f))).collect();
        let residuals = means.iter().zip(&fitted).map(|((t, mean), (_, fit))| (*t, mean - fit)).collect();
        let forecast =
            ahead.iter().zip(&model.forecast).map(|(&time, point)| Ahead::new(time, point)).collect();
        Ok(Self { months, model, means, fitted, residuals, forecast })
    }

    /// Beginning of the first month and end of the last one, forecast included.
    pub(crate) fn span(&self) -> (i128, i128) {
        let first = self.means.first().map_or(0, |(time, _)| time - 1);
        let last = self.means.last().map_or(0, |(time, _)| time + 1);
        (first, self.forecast.last().map_or(last, |ahead| ahead.time + 1))
    }

    /// All concentrations of the main panel.
    pub(crate) fn levels(&self) -> impl Iterator<Item = i128> {
        let record = self.means.iter().chain(&self.fitted).map(|(_, level)| *level);
        record.chain(self.forecast.iter().flat_map(|ahead| [ahead.value, ahead.low, ahead.high]))
    }
}

impl Ahead {
    fn new(time: i128, point: &ForecastPoint) -> Self {
        let [value, low, high] = [point.value_nppm, point.low_nppm, point.high_nppm].map(i128::from);
        Self { time, value, low, high }
    }
}

fn check_lengths(months: &[Month], model: &Model) -> Result<(), String> {
    if months.is_empty() || months.len() + model.forecast.len() > POINTS_MAX {
        let got = format!("{} and {}", months.len(), model.forecast.len());
        return Err(format!("expected 1 to {POINTS_MAX} months with their forecast, got {got}"));
    }
    if model.fitted_nppm.len() != months.len() {
        return Err(format!("expected {} fitted values, got {}", months.len(), model.fitted_nppm.len()));
    }
    if model.seasonal_nppm.len() != 12 {
        return Err(format!("expected 12 seasonal effects, got {}", model.seasonal_nppm.len()));
    }
    Ok(())
}

/// The middles of increasing months.
fn times(months: impl Iterator<Item = (i32, u8)>) -> Result<Vec<i128>, String> {
    let mut times: Vec<i128> = Vec::new();
    for (year, month) in months {
        let number = month_number(year, month).ok_or_else(|| {
            format!("expected a month from 0001-01 to 9999-12, got year {year} month {month}")
        })?;
        let time = 2 * i128::from(number) + 1;
        if times.last().is_some_and(|last| *last >= time) {
            return Err(format!(
                "expected months in increasing order, got {year:04}-{month:02} out of order"
            ));
        }
        times.push(time);
    }
    Ok(times)
}

fn times_after(record: &[i128], forecast: &[ForecastPoint]) -> Result<Vec<i128>, String> {
    let ahead = times(forecast.iter().map(|point| (point.year, point.month)))?;
    match (record.last(), ahead.first()) {
        (Some(last), Some(first)) if first <= last => {
            Err("expected a forecast after the record, got one within it".into())
        }
        _ => Ok(ahead),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(month: u8) -> Month {
        Month { year: 1999, month, mean_uppm: 368_000_001, weeks: 4 }
    }

    fn model(fitted: usize, forecast: &[(i32, u8)]) -> Model {
        let ahead = |&(year, month): &(i32, u8)| ForecastPoint {
            year,
            month,
            value_nppm: 3,
            low_nppm: 2,
            high_nppm: 4,
        };
        Model {
            level_nppm: 0,
            slope_nppm_per_year: 0,
            curve_nppm_per_year2: 0,
            seasonal_nppm: vec![0; 12],
            growth_nppm_per_year: 0,
            rss_millionths: 0,
            r_squared_millionths: 0,
            sigma_nppm: 0,
            fitted_nppm: vec![1; fitted],
            forecast: forecast.iter().map(ahead).collect(),
        }
    }

    fn error(months: &[Month], model: &Model) -> String {
        Study::try_new(months, model).err().unwrap()
    }

    #[test]
    fn a_study_is_in_the_units_of_a_figure() {
        let (months, model) = ([month(1), month(3)], model(2, &[(1999, 4)]));
        let study = Study::try_new(&months, &model).unwrap();
        let january = 2 * 12 * 1999 + 1;
        assert_eq!(study.means, [(january, 368_000_001_000), (january + 4, 368_000_001_000)]);
        assert_eq!(study.residuals[1], (january + 4, 368_000_000_999));
        assert_eq!(study.span(), (january - 1, january + 7));
    }

    #[test]
    fn a_model_of_another_record_is_refused() {
        let months = [month(1), month(2)];
        assert_eq!(error(&[], &model(0, &[])), "expected 1 to 15000 months with their forecast, got 0 and 0");
        assert_eq!(error(&months, &model(3, &[])), "expected 2 fitted values, got 3");
        let within = "expected a forecast after the record, got one within it";
        assert_eq!(error(&months, &model(2, &[(1999, 2)])), within);
        let disorder = "expected months in increasing order, got 1999-02 out of order";
        assert_eq!(error(&[month(2), month(2)], &model(2, &[])), disorder);
        let wrong = "expected a month from 0001-01 to 9999-12, got year 1999 month 13";
        assert_eq!(error(&[month(1), month(13)], &model(2, &[])), wrong);
        let short = Model { seasonal_nppm: vec![0; 11], ..model(2, &[]) };
        assert_eq!(error(&months, &short), "expected 12 seasonal effects, got 11");
    }

    #[test]
    fn the_table_has_exact_decimals() {
        let table = crate::table::csv(&[month(1), month(2)], &model(1, &[(1999, 3)]));
        let lines: Vec<&str> = table.lines().skip(1).collect();
        let want = [
            "1999-01,4,368.000001,0.000000001,368.000000999,,,",
            "1999-02,4,368.000001,,,,,",
            "1999-03,,,,,0.000000003,0.000000002,0.000000004",
        ];
        assert_eq!(lines, want);
    }
}

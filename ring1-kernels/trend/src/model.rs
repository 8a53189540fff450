//! The model: from a record to its coefficients, residuals and forecast.
//!
//! With X the design matrix and y the observations in micro-ppm, b = (X'X)^-1 X'y. Kept as integers
//! B = adj(X'X) X'y over D = det(X'X), so that every number below is one fraction, rounded once.

use num_bigint::BigInt;
use num_traits::Zero;

use crate::bindings::exports::vac::study::types::{ForecastPoint, Model, Month};
use crate::design::{COLUMNS, Point, Record, Row, TREND};
use crate::exact::{Inverse, Ratio, dot, to_i64, to_u64};

/// Nano-ppm in a micro-ppm.
const NPPM: i64 = 1_000;
/// Half the width of the band in standard errors, in hundredths: the normal distribution's 97.5 % quantile.
const BAND_HUNDREDTHS: i64 = 196;

/// Fits the model and continues it for `forecast_months` months.
///
/// # Errors
///
/// What is wrong with `months`, or which number of the answer does not fit its type.
pub(crate) fn fit(months: &[Month], forecast_months: u32) -> Result<Model, String> {
    let record = Record::try_new(months)?;
    let after = record.after(forecast_months)?;
    let fit = Fit::of(&record)?;
    let last = record.points.last().map_or(0, |point| point.t);
    Ok(Model {
        level_nppm: fit.nppm(&[1], NPPM, "level")?,
        slope_nppm_per_year: fit.nppm(&[0, 1], 12 * NPPM, "slope")?,
        curve_nppm_per_year2: fit.nppm(&[0, 0, 1], 144 * NPPM, "curve")?,
        seasonal_nppm: (1..=12).map(|month| fit.seasonal(month)).collect::<Result<_, _>>()?,
        growth_nppm_per_year: fit.nppm(&[0, 1, 2 * last], 12 * NPPM, "growth")?,
        rss_millionths: fit.rss_millionths()?,
        r_squared_millionths: fit.r_squared_millionths()?,
        sigma_nppm: to_u64(&fit.variance().sqrt_rounded(NPPM), "standard deviation")?,
        fitted_nppm: record.points.iter().map(|point| fit.value(*point)).collect::<Result<_, _>>()?,
        forecast: after.iter().map(|(year, point)| fit.forecast(*year, *point)).collect::<Result<_, _>>()?,
    })
}

/// A solved system.
struct Fit {
    inverse: Inverse,
    /// The coefficients times the determinant, in micro-ppm.
    scaled: Vec<BigInt>,
    /// Sum of squared residuals in micro-ppm^2.
    rss: Ratio,
    /// Sum of squares about the mean in micro-ppm^2.
    tss: Ratio,
    months: usize,
}

impl Fit {
    fn of(record: &Record) -> Result<Self, String> {
        let rows: Vec<Row> = record.points.iter().map(|point| point.row()).collect();
        let inverse = Inverse::of(&gram(&rows))
            .ok_or("expected months that determine the model, got too few of them")?;
        let moments = moments(&rows, &record.observed);
        let scaled = inverse.times(&moments);
        // y'y - b'X'y, which is (D y'y - B X'y) / D.
        let squares: BigInt = record.observed.iter().map(|&y| BigInt::from(y) * y).sum();
        let rss = Ratio {
            num: &inverse.determinant * &squares - dot(&scaled, &moments),
            den: inverse.determinant.clone(),
        };
        let tss = about_the_mean(&squares, &record.observed);
        Ok(Self { inverse, scaled, rss, tss, months: rows.len() })
    }

    /// `row` times the coefficients, `scale` to a micro-ppm. A short row is continued with zeros.
    fn nppm(&self, row: &[i64], scale: i64, what: &str) -> Result<i64, String> {
        let num = self.scaled.iter().zip(row).map(|(coefficient, x)| coefficient * x).sum();
        to_i64(&Ratio { num, den: self.inverse.determinant.clone() }.rounded(scale), what)
    }

    fn value(&self, point: Point) -> Result<i64, String> {
        self.nppm(&point.row(), NPPM, "fitted value")
    }

    fn seasonal(&self, month: u8) -> Result<i64, String> {
        let mut row = Point { t: 0, month }.row();
        row[..TREND].fill(0);
        self.nppm(&row, NPPM, "seasonal effect")
    }

    /// Millionths of ppm^2: there are 10^12 micro-ppm^2 in a ppm^2.
    fn rss_millionths(&self) -> Result<u64, String> {
        let Ratio { num, den } = &self.rss;
        let ratio = Ratio { num: num.clone(), den: den * 1_000_000 };
        to_u64(&ratio.rounded(1), "sum of squared residuals")
    }

    /// 1 - rss / tss. A constant record is fitted without residuals and counts as 1.
    fn r_squared_millionths(&self) -> Result<i64, String> {
        if self.tss.num.is_zero() {
            return Ok(1_000_000);
        }
        let (num, den) = (&self.rss.num * &self.tss.den, &self.rss.den * &self.tss.num);
        to_i64(&Ratio { num: &den - num, den }.rounded(1_000_000), "r squared")
    }

    /// rss / (months - coefficients), in micro-ppm^2.
    fn variance(&self) -> Ratio {
        Ratio { num: self.rss.num.clone(), den: &self.rss.den * (self.months - COLUMNS) }
    }

    /// The value and its band: -+ 1.96 sigma sqrt(1 + h), h = x' adj x / D, under one square root.
    fn forecast(&self, year: i32, point: Point) -> Result<ForecastPoint, String> {
        let row = point.row().map(BigInt::from);
        let leverage = dot(&self.inverse.times(&row), &row);
        let variance = self.variance();
        let square = Ratio {
            num: variance.num * (&self.inverse.determinant + leverage) * BAND_HUNDREDTHS * BAND_HUNDREDTHS,
            den: variance.den * &self.inverse.determinant * 10_000,
        };
        let value = BigInt::from(self.value(point)?);
        let half = square.sqrt_rounded(NPPM);
        Ok(ForecastPoint {
            year,
            month: point.month,
            value_nppm: to_i64(&value, "forecast")?,
            low_nppm: to_i64(&(&value - &half), "lower end of the band")?,
            high_nppm: to_i64(&(&value + &half), "upper end of the band")?,
        })
    }
}

/// X'X. Entries fit `i128`: at most 12 000 rows with t < 120 000, and 12 000 t^4 < 2.5 * 10^24.
fn gram(rows: &[Row]) -> Vec<Vec<BigInt>> {
    let entry =
        |i: usize, j: usize| -> i128 { rows.iter().map(|row| i128::from(row[i]) * i128::from(row[j])).sum() };
    (0..COLUMNS).map(|i| (0..COLUMNS).map(|j| BigInt::from(entry(i, j))).collect()).collect()
}

/// X'y. Entries fit `i128`: 12 000 t^2 10^12 < 2 * 10^26.
fn moments(rows: &[Row], observed: &[i64]) -> Vec<BigInt> {
    let entry = |i: usize| -> i128 {
        rows.iter().zip(observed).map(|(row, &y)| i128::from(row[i]) * i128::from(y)).sum()
    };
    (0..COLUMNS).map(|i| BigInt::from(entry(i))).collect()
}

/// y'y - (sum y)^2 / n.
fn about_the_mean(squares: &BigInt, observed: &[i64]) -> Ratio {
    let sum: BigInt = observed.iter().map(|&y| BigInt::from(y)).sum();
    Ratio { num: squares * observed.len() - &sum * &sum, den: BigInt::from(observed.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    /// Monthly means of the example's data, by the shortest way: what kernel `series` gives.
    fn record() -> Vec<Month> {
        let text = include_str!("../../../examples/keeling/data/weekly.csv");
        let mut tenths: BTreeMap<(i32, u8), Vec<i128>> = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with(['1', '2']) && !line.ends_with(',')) {
            let month = (line[..4].parse().unwrap(), line[5..7].parse().unwrap());
            tenths.entry(month).or_default().push(line[11..].replace('.', "").parse().unwrap());
        }
        let mean = |((year, month), weeks): ((i32, u8), Vec<i128>)| {
            let sum: i128 = weeks.iter().sum();
            let uppm = sdk::scaled::div_half_even(sum * 100_000, weeks.len() as i128);
            Month { year, month, mean_uppm: uppm.try_into().unwrap(), weeks: weeks.len().try_into().unwrap() }
        };
        tenths.into_iter().map(mean).collect()
    }

    /// `count` months of a curve that the model can follow exactly, in micro-ppm.
    fn exact_record(count: i64, curve: impl Fn(i64) -> i64) -> Vec<Month> {
        let month = |t: i64| Month {
            year: (1960 + t / 12).try_into().unwrap(),
            month: (t % 12 + 1).try_into().unwrap(),
            mean_uppm: curve(t),
            weeks: 4,
        };
        (0..count).map(month).collect()
    }

    // Expected values: a script with Python's fractions solved the same problem exactly in another
    // parameterisation (twelve month dummies, t, t^2) by Gauss-Jordan and rounded half to even;
    // numpy 2's `lstsq` on this one agreed to all ten decimals that it printed (level 314.1431183286,
    // slope 0.8199545057, curve 0.0118048719, rss 292.68299381, sigma 0.7597920844).
    #[test]
    fn the_record_has_its_known_model() {
        let model = fit(&record(), 24).unwrap();
        assert_eq!(model.level_nppm, 314_143_118_329);
        assert_eq!(model.slope_nppm_per_year, 819_954_506);
        assert_eq!(model.curve_nppm_per_year2, 11_804_872);
        assert_eq!(model.growth_nppm_per_year, 1_852_880_795);
        assert_eq!(model.rss_millionths, 292_682_994);
        assert_eq!(model.r_squared_millionths, 998_068);
        assert_eq!(model.sigma_nppm, 759_792_084);
        assert_eq!((model.fitted_nppm[0], model.fitted_nppm[520]), (315_582_819_019, 371_694_554_027));
        let season = [
            -6_539_437,
            639_033_562,
            1_439_700_690,
            2_527_387_706,
            2_919_872_987,
            2_267_654_729,
            729_598_287,
            -1_304_307_737,
            -3_048_036_786,
            -3_194_987_669,
            -2_052_539_821,
            -916_836_512,
        ];
        assert_eq!(model.seasonal_nppm, season);
    }

    // From the same script; numpy gave half widths of 1.517969635 and 1.522208604 ppm.
    #[test]
    fn the_record_has_its_known_forecast() {
        let ahead = fit(&record(), 24).unwrap().forecast;
        let point = |i: usize| {
            (ahead[i].year, ahead[i].month, ahead[i].value_nppm, ahead[i].low_nppm, ahead[i].high_nppm)
        };
        assert_eq!(ahead.len(), 24);
        assert_eq!(point(0), (2002, 1, 372_759_339_814, 371_241_370_179, 374_277_309_449));
        assert_eq!(point(23), (2003, 12, 375_447_535_106, 373_925_326_502, 376_969_743_710));
    }

    #[test]
    fn a_curve_of_the_model_is_found_without_residuals() {
        // 300 ppm + 0.1 ppm t + 0.0005 ppm t^2, and +-1 ppm in alternate months.
        let months =
            exact_record(48, |t| 300_000_000 + 100_000 * t + 500 * t * t + 1_000_000 * (1 - 2 * (t % 2)));
        let model = fit(&months, 2).unwrap();
        assert_eq!((model.level_nppm, model.slope_nppm_per_year), (300_000_000_000, 1_200_000_000));
        assert_eq!(
            (model.curve_nppm_per_year2, model.growth_nppm_per_year),
            (72_000_000, 1_200_000_000 + 564_000_000)
        );
        assert_eq!(model.seasonal_nppm, [1_000_000_000, -1_000_000_000].repeat(6));
        assert_eq!((model.rss_millionths, model.r_squared_millionths, model.sigma_nppm), (0, 1_000_000, 0));
        assert_eq!(
            model.forecast[0].value_nppm,
            300_000_000_000 + 4_800_000_000 + 1_152_000_000 + 1_000_000_000
        );
        assert_eq!(model.forecast[0].low_nppm, model.forecast[0].high_nppm);
    }

    #[test]
    fn a_constant_record_has_no_variance_to_explain() {
        let model = fit(&exact_record(24, |_| 0), 0).unwrap();
        assert_eq!((model.level_nppm, model.r_squared_millionths, model.sigma_nppm), (0, 1_000_000, 0));
    }

    #[test]
    fn a_record_may_have_gaps_of_millennia() {
        let mut months = exact_record(12, |t| 1_000_000 * t);
        months.extend((9997..=9999).map(|year| Month {
            year,
            month: 1,
            mean_uppm: 1_000_000_000_000,
            weeks: 1,
        }));
        assert_eq!(fit(&months, 11).unwrap().forecast.len(), 11);
        assert_eq!(fit(&months, 12).unwrap_err(), "expected a forecast within the year 9999");
    }

    #[test]
    fn a_number_too_large_for_its_type_is_an_error() {
        // 480 residuals of about 0.5 * 10^12 uppm each: about 10^26 uppm^2, 10^20 millionths of ppm^2.
        let months = exact_record(480, |t| 1_000_000_000_000 * (t % 7 % 2));
        let error = fit(&months, 0).unwrap_err();
        assert_eq!(error, "expected a sum of squared residuals that fits 64 bits, got 67 bits");
    }
}

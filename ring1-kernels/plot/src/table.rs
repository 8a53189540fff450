//! The numbers of a study as CSV.
//!
//! All decimals are exact: six for a mean, nine for what the model gives. A month of the record has a
//! mean, a fit and a residual; a month ahead has a forecast with its band.

use sdk::scaled::format;

use crate::bindings::exports::vac::study::types::{ForecastPoint, Model, Month};

const HEADER: &str = "month,weeks,mean_ppm,fit_ppm,residual_ppm,forecast_ppm,low_ppm,high_ppm\n";

/// The whole table. A month without a fitted value has empty fields.
pub(crate) fn csv(months: &[Month], model: &Model) -> String {
    let fits = model.fitted_nppm.iter().map(Some).chain(std::iter::repeat(None));
    let record = months.iter().zip(fits).map(|(month, fit)| row(month, fit.copied()));
    std::iter::once(HEADER.to_owned()).chain(record).chain(model.forecast.iter().map(ahead)).collect()
}

fn row(m: &Month, fit: Option<i64>) -> String {
    let residual = fit.map(|fit| i128::from(m.mean_uppm) * 1000 - i128::from(fit));
    let ppm = |value: Option<i128>| value.map_or(String::new(), |value| format(value, 9));
    let (mean, fit, residual) = (format(m.mean_uppm.into(), 6), ppm(fit.map(i128::from)), ppm(residual));
    format!("{:04}-{:02},{},{mean},{fit},{residual},,,\n", m.year, m.month, m.weeks)
}

fn ahead(point: &ForecastPoint) -> String {
    let [value, low, high] =
        [point.value_nppm, point.low_nppm, point.high_nppm].map(|nppm| format(nppm.into(), 9));
    format!("{:04}-{:02},,,,,{value},{low},{high}\n", point.year, point.month)
}

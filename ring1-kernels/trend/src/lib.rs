//! Kernel `trend`: exact least squares of a quadratic trend with a season.
//!
//! Imports nothing. The design matrix and the observations are integers, so the normal equations are
//! solved in rationals without any rounding (`exact`), and each number of the answer is rounded
//! once, half to even (`model`). No floats: the result is the same on every machine because it is *the* result.

mod design;
mod exact;
mod model;

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({ path: ["../../wit/kernel", "../../wit/study"], world: "vac:study/trend" });
}

use bindings::exports::vac::study::trend_fit::{Guest, Model, Month};

struct Trend;

impl Guest for Trend {
    fn fit(months: Vec<Month>, forecast_months: u32) -> Result<Model, String> {
        model::fit(&months, forecast_months)
    }
}

bindings::export!(Trend with_types_in bindings);

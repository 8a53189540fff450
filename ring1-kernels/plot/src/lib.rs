//! Kernel `plot`: a figure and a table of a fitted trend.
//!
//! Imports nothing. Positions are hundredths of a pixel, numbers are exact decimals, and text is
//! escaped: the same study gives the same bytes, and no title can become markup.

mod axis;
mod checked;
mod figure;
mod layout;
mod svg;
mod table;

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({ path: ["../../wit/kernel", "../../wit/study"], world: "vac:study/plot" });
}

use bindings::exports::vac::study::figures::{Guest, Model, Month, Spec};

struct Plot;

impl Guest for Plot {
    fn svg(spec: Spec, months: Vec<Month>, model: Model) -> Result<String, String> {
        let study = checked::Study::try_new(&months, &model)?;
        let layout = layout::Layout::try_new(spec.width, spec.height)?;
        Ok(figure::draw(&spec, &layout, &study))
    }

    fn table(months: Vec<Month>, model: Model) -> String {
        table::csv(&months, &model)
    }
}

bindings::export!(Plot with_types_in bindings);

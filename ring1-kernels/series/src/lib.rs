//! Kernel `series`: weekly measurements to monthly means.
//!
//! Reads one file through `vac:kernel/files` and imports nothing else. The file is not trusted: the
//! first line that is not as `weekly` describes ends the run with its number.

mod monthly;
mod weekly;

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/kernel", "../../wit/study"],
        world: "vac:study/series",
        generate_all,
    });
}

use bindings::exports::vac::study::monthly_means::{Guest, Month};
use bindings::vac::kernel::files;

struct Series;

impl Guest for Series {
    fn monthly(path: String) -> Result<Vec<Month>, String> {
        let bytes =
            files::read(&path).map_err(|e| format!("`{}`: {}", sdk::quote::quote(&path), reason(e)))?;
        let weeks = weekly::parse(&bytes).map_err(|e| format!("`{}`: {e}", sdk::quote::quote(&path)))?;
        monthly::means(&weeks)
    }
}

fn reason(error: files::Error) -> String {
    match error {
        files::Error::Denied => "reading is not granted".to_owned(),
        files::Error::NotFound => "no such file".to_owned(),
        files::Error::WrongKind => "expected a file, got a directory".to_owned(),
        files::Error::TooLarge => "longer than this run allows".to_owned(),
        files::Error::Other(text) => text,
    }
}

bindings::export!(Series with_types_in bindings);

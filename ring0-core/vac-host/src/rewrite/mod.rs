//! What a program becomes before it is compiled: passes from module to module, and one that carries them into
//! components.
//!
//! A pass is a function of bytes alone. The program as its maker built it stays what is named, stored and
//! replayed; what is here is made of it anew wherever it is compiled, and only the code cache ever holds
//! anything that came of it.
//!
//! - [`legacy`]: exceptions of the first proposal become those of the standard
//! - [`component`]: a pass for every core module of a component, and a meter for each of its parts
//! - [`meter`]: ticks and depth
//! - [`nan`]: one form of every NaN, where it can be seen
//! - [`exits`]: a way back from the exit of a command
//! - [`tables`]: tables that are changed, shown to the host
//! - [`hollow`]: nothing in any function, for those who only look

pub mod component;
mod exits;
pub(crate) mod hollow;
pub mod legacy;
pub mod meter;
pub mod nan;
pub(crate) mod tables;

use vac_core::fault::{Corrupt, Error, Result, cut, quote, quote_line};
use wasm_encoder::reencode;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use crate::engine::{COMPLAINT_MAX_BYTES, Pass};
use crate::load::malformed;

/// What errors in a module say of the place.
const PLACE: &str = "a core module";

/// What is compiled in place of a core module under profile `det-2`.
pub fn module(bytes: &[u8]) -> Result<Vec<u8>> {
    exits::module(nan::module(&meter::module(&legacy::module(bytes)?)?)?)
}

/// What is compiled in place of a component under profile `det-2`.
pub fn program(bytes: &[u8]) -> Result<Vec<u8>> {
    program_by(module, bytes)
}

/// The same with another pass over its core modules.
///
/// # Errors
///
/// What is not valid is found here, whatever a pass would make of it: passes move indices, and take for granted that
/// those lead somewhere. Features that the engine has not, it refuses itself.
pub(crate) fn program_by(pass: Pass, bytes: &[u8]) -> Result<Vec<u8>> {
    validate(bytes).map_err(|e| {
        let got = quote_line(cut(&e.to_string(), COMPLAINT_MAX_BYTES));
        Corrupt::new("program", "the component", "a valid component", got)
    })?;
    if !tables::are_changed(bytes).map_err(|e| malformed(&e, "the program"))? {
        return component::component(bytes, &mut |bytes| pass(bytes));
    }
    let shown =
        |functions_max| component::component(bytes, &mut |bytes| tables::show(&pass(bytes)?, functions_max));
    let program = shown(tables::FUNCTIONS_MAX)?;
    // The types of exports may only be so large, all together.
    if validate(&program).is_ok() { Ok(program) } else { shown(0) }
}

fn validate(bytes: &[u8]) -> wasmparser::Result<()> {
    Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).map(drop)
}

/// A module that a pass cannot take: its error says why.
fn refused(error: reencode::Error<Error>) -> Error {
    match error {
        reencode::Error::UserError(error) => error,
        reencode::Error::ParseError(error) => malformed(&error, PLACE),
        other => invalid(&other.to_string()),
    }
}

/// A core module that is none.
fn invalid(what: &str) -> Error {
    Corrupt::new("program", PLACE, "a valid core module", quote(what)).into()
}

/// Gives `section` what stands before the code of a module: what comes after cannot matter to it.
fn before_code(
    bytes: &[u8],
    mut section: impl FnMut(Payload<'_>) -> wasmparser::Result<()>,
) -> wasmparser::Result<()> {
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::CodeSectionStart { .. } => break,
            payload => section(payload)?,
        }
    }
    Ok(())
}

//! Exceptions of the first proposal, which engines of today no longer compile, as those of the standard.
//!
//! C++ compilers wrote `try`, `catch`, `rethrow` and `delegate` until lately, those of Kotlin and Haskell still
//! do. A `try` with two clauses becomes
//!
//! ```text
//! block $end            what a branch to the `try` reaches
//!   block $catch_all    (result exnref), if the clause throws again what it caught
//!     block $catch      (result of the tag)
//!       try_table (catch $tag $catch) (catch_all_ref $catch_all)
//!         the body
//!       end
//!       br $end
//!     end
//!     the first clause
//!     br $end
//!   end
//!   local.set $caught   which `rethrow` throws again
//!   the second clause
//! end
//! ```
//!
//! and where a `delegate` hands over to a `try`, the body of that stands in a block of its own, after which is thrown
//! what was handed over. All other modules stay as they are, byte for byte.
//!
//! Invariant: what a module computes, and what it catches of what is thrown, is as before.

mod body;
mod plan;
#[cfg(test)]
mod tests;
mod types;

use std::borrow::Cow;

use vac_core::fault::{Error, Result};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Module, TypeSection};
use wasmparser::{
    BinaryReaderError, CustomSectionReader, FunctionBody, Operator, Parser, Payload, TypeSectionReader,
    Validator, WasmFeatures,
};

use super::{PLACE, invalid, refused};
use crate::load::malformed;
use plan::Plan;
use types::Types;

/// The same module without exceptions of the first proposal.
pub fn module(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    if !has_legacy(bytes).map_err(|e| malformed(&e, PLACE))? {
        return Ok(Cow::Borrowed(bytes));
    }
    let features = WasmFeatures::WASM3 | WasmFeatures::THREADS | WasmFeatures::LEGACY_EXCEPTIONS;
    Validator::new_with_features(features).validate_all(bytes).map_err(|e| malformed(&e, PLACE))?;
    let mut sections = Sections::read(bytes)?;
    let mut module = Module::new();
    sections.parse_core_module(&mut module, Parser::new(0), bytes).map_err(refused)?;
    Ok(Cow::Owned(module.finish()))
}

/// Whether any function has a `try`; all else of the proposal stands in one.
fn has_legacy(bytes: &[u8]) -> std::result::Result<bool, BinaryReaderError> {
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload?
            && has_try(&body)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_try(body: &FunctionBody<'_>) -> std::result::Result<bool, BinaryReaderError> {
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        if matches!(reader.read()?, Operator::Try { .. }) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A module that is being rewritten.
struct Sections {
    types: Types,
    /// By number of body: what is to be done with it, if anything.
    plans: std::vec::IntoIter<Option<Plan>>,
}

impl Sections {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut types = Types::read(bytes)?;
        let mut plans = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            if let Payload::CodeSectionEntry(body) = payload.map_err(|e| malformed(&e, PLACE))? {
                let plan = match has_try(&body).map_err(|e| malformed(&e, PLACE))? {
                    true => Some(Plan::read(&body, plans.len(), &mut types)?),
                    false => None,
                };
                plans.push(plan);
            }
        }
        Ok(Self { types, plans: plans.into_iter() })
    }
}

impl Reencode for Sections {
    type Error = Error;

    /// The types that blocks need which have several results follow those that were there.
    fn parse_type_section(
        &mut self,
        section: &mut TypeSection,
        reader: TypeSectionReader<'_>,
    ) -> std::result::Result<(), reencode::Error<Error>> {
        reencode::utils::parse_type_section(self, section, reader)?;
        for (params, results) in self.types.added() {
            let params =
                params.iter().map(|ty| self.val_type(*ty)).collect::<std::result::Result<Vec<_>, _>>()?;
            let results =
                results.iter().map(|ty| self.val_type(*ty)).collect::<std::result::Result<Vec<_>, _>>()?;
            section.ty().function(params, results);
        }
        Ok(())
    }

    /// As it is: names that cannot be read make no program invalid, and what comes next leaves out what speaks of code.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> std::result::Result<(), reencode::Error<Error>> {
        module.section(&self.custom_section(section)?);
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        function: FunctionBody<'_>,
    ) -> std::result::Result<(), reencode::Error<Error>> {
        match self.plans.next().flatten() {
            Some(plan) => {
                let body = body::write(&function, &plan).map_err(reencode::Error::UserError)?;
                code.function(&body);
            }
            None => {
                code.raw(function.as_bytes());
            }
        }
        Ok(())
    }
}

//! Canonical NaNs, where their bits can be seen.
//!
//! WebAssembly lets a machine choose the bits of a NaN that arithmetic gives. The engine can make them canonical
//! after each operation, which makes loops of floats two to three times slower, and is lost work wherever
//! the result goes into more arithmetic: that only asks whether it is a NaN. This pass makes them canonical
//! where a value is stored, reinterpreted, passed, returned, or mixed with bits that must stay as they are.
//!
//! What a program sees is exactly what the engine's own setting shows it. In particular, the bits of a NaN that was
//! loaded, passed in, or is a constant are never changed: programs keep pointers in them.
//!
//! - [`ops`]: which operators give such NaNs, and which look at bits
//! - [`flow`]: where the values of a function go
//! - [`graph`]: which of them have to be made canonical
//! - [`emit`]: how that is done; [`hints`]: where branches go
//!
//! A function without such operators is copied byte for byte. In the others, code is only inserted, and locals are added
//! at the end: no index changes. A function that is too large or too strange to follow gets canonical
//! NaNs after each operation, which is always right.

mod emit;
mod flow;
mod graph;
mod hints;
mod ops;

use std::borrow::Cow;

use vac_core::fault::{Corrupt, Error, Result};
use wasm_encoder::{CodeSection, Module, RawSection};
use wasmparser::{
    FuncToValidate, FunctionBody, KnownCustom, Operator, Parser, Payload, ValidPayload, Validator,
    ValidatorResources, WasmFeatures,
};

use self::flow::{Assigned, Stop};
use self::graph::{Canonicalise, Place};
use self::hints::Hints;
use self::ops::{Effect, effect};
use super::PLACE;
use crate::load::malformed;

/// Nodes and edges of a graph: some 200 MB. Functions that are not made to be large stay far below.
const GRAPH_MAX: usize = 4 << 20;
/// Custom sections with names like this say something of offsets in code, which change. Only one that moves with
/// the code is kept.
const OFFSETS: &str = "metadata.code.";

/// `bytes`, with canonical NaNs wherever a guest or the host could tell.
pub fn module(bytes: &[u8]) -> Result<Vec<u8>> {
    with_room(bytes, GRAPH_MAX)
}

/// The same, with graphs of at most `room` nodes and edges.
fn with_room(bytes: &[u8], room: usize) -> Result<Vec<u8>> {
    if any_computes(bytes)? { rewritten(bytes, room) } else { Ok(bytes.to_vec()) }
}

/// Whether a function of the module does arithmetic with floats.
fn any_computes(bytes: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => return Err(component()),
            Payload::CodeSectionEntry(body) if Computes::of(&body)?.is_any => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

fn invalid(error: wasmparser::BinaryReaderError) -> Error {
    malformed(&error, PLACE)
}

fn component() -> Error {
    Corrupt::new("program", PLACE, "a core module", "a component").into()
}

fn rewritten(bytes: &[u8], room: usize) -> Result<Vec<u8>> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let (mut module, mut code, mut left) = (Module::new(), CodeSection::new(), 0_u32);
    let mut hints = Hints::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload).map_err(invalid)? {
            code.raw(&self::function(function, &body, room, &mut hints)?);
            left = left.saturating_sub(1);
            if left == 0 {
                if let Some(section) = hints.section() {
                    module.section(&section);
                }
                module.section(&code);
            }
            continue;
        }
        match &payload {
            Payload::CodeSectionStart { count, .. } if *count > 0 => left = *count,
            Payload::CustomSection(custom) if custom.name().starts_with(OFFSETS) => {
                if let KnownCustom::BranchHints(reader) = custom.as_known() {
                    hints = Hints::read(reader);
                }
            }
            _ => copy(&mut module, &payload, bytes),
        }
    }
    Ok(module.finish())
}

/// Copies a section as it is.
fn copy(module: &mut Module, payload: &Payload<'_>, bytes: &[u8]) {
    let Some((id, range)) = payload.as_section() else { return };
    if let Some(data) = bytes.get(range) {
        module.section(&RawSection { id, data });
    }
}

/// The body of a function, without its length.
fn function<'a>(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'a>,
    room: usize,
    hints: &mut Hints,
) -> Result<Cow<'a, [u8]>> {
    let computes = Computes::of(body)?;
    if !computes.is_any {
        return Ok(Cow::Borrowed(body.as_bytes()));
    }
    let index = function.index;
    let params = params(&function);
    let places = places(function, body, computes, room)?;
    let emitted = emit::body(body, params, &places, hints.of(index)).map_err(invalid)?;
    let Some(emitted) = emitted else {
        let found = format!("{} bytes", body.as_bytes().len());
        let expected = "a function that has room for canonical NaNs";
        return Err(Corrupt::new("program", format!("{PLACE}, function {index}"), expected, found).into());
    };
    hints.replace(index, emitted.hints);
    Ok(Cow::Owned(emitted.bytes))
}

/// How many parameters a function has.
fn params(function: &FuncToValidate<ValidatorResources>) -> u32 {
    flow::signature(&function.resources, function.ty).map_or(0, |ty| ty.params().len() as u32)
}

/// Where NaNs are made canonical: in the best of three ways that can be followed.
fn places(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    computes: Computes,
    room: usize,
) -> Result<Vec<Canonicalise>> {
    let again = || FuncToValidate {
        resources: function.resources.clone(),
        index: function.index,
        ty: function.ty,
        features: function.features,
    };
    let assigned = match computes.catches {
        true => None,
        false => assigned(body, room)?,
    };
    for assigned in assigned.into_iter().chain([Assigned::new()]) {
        match flow::graph(again(), body, assigned, room) {
            Ok(graph) => return Ok(graph.solve()),
            Err(Stop::Invalid(error)) => return Err(invalid(error)),
            Err(Stop::TooLarge | Stop::Unknown) => {}
        }
    }
    everywhere(body)
}

/// What a look at the operators of a function tells.
struct Computes {
    /// Some give NaNs of any bits.
    is_any: bool,
    /// Control may come back from anywhere in a block.
    catches: bool,
}

impl Computes {
    fn of(body: &FunctionBody<'_>) -> Result<Self> {
        let mut found = Self { is_any: false, catches: false };
        let mut reader = body.get_operators_reader().map_err(invalid)?;
        while !reader.eof() {
            let operator = reader.read().map_err(invalid)?;
            found.catches |= matches!(operator, Operator::TryTable { .. });
            found.is_any |= matches!(effect(&operator), Effect::Arithmetic { .. });
        }
        Ok(found)
    }
}

/// The locals that are set in each block; nothing if these are too many to follow.
fn assigned(body: &FunctionBody<'_>, mut room: usize) -> Result<Option<Assigned>> {
    // The first is the function as a whole, whose end joins no locals.
    let (mut all, mut open) = (Assigned::new(), vec![Vec::new()]);
    let mut starts = Vec::new();
    let mut reader = body.get_operators_reader().map_err(invalid)?;
    while !reader.eof() {
        match reader.read().map_err(invalid)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                starts.push(all.len());
                all.push(Vec::new());
                open.push(Vec::new());
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                open.last_mut().into_iter().for_each(|set| set.push(local_index));
            }
            Operator::End => {
                let (Some(mut set), Some(start)) = (open.pop(), starts.pop()) else { break };
                set.sort_unstable();
                set.dedup();
                let Some(rest) = room.checked_sub(set.len()) else { return Ok(None) };
                room = rest;
                open.last_mut().into_iter().for_each(|outer| outer.extend(&set));
                all[start] = set;
            }
            _ => {}
        }
    }
    all.push(Vec::new());
    Ok(Some(all))
}

/// After each operation, like the engine.
fn everywhere(body: &FunctionBody<'_>) -> Result<Vec<Canonicalise>> {
    let mut places = Vec::new();
    let mut reader = body.get_operators_reader().map_err(invalid)?;
    while !reader.eof() {
        let operator = reader.read().map_err(invalid)?;
        if let Effect::Arithmetic { result: width, .. } = effect(&operator) {
            let place = Place::Stack(reader.original_position());
            let ty = ops::result_type(&operator, width);
            places.push(Canonicalise { place, ty, width, is_negative: false });
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests;

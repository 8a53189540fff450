//! How a NaN is made canonical, and where that goes in the bytes of a function.

use std::collections::BTreeMap;

use wasm_encoder::{BlockType, Encode, Ieee32, Ieee64, Instruction, ValType};
use wasmparser::{BinaryReaderError, FunctionBody};

use super::graph::{Canonicalise, Place, Type};
use super::hints::Hint;
use super::ops::{CANON_F32, CANON_F64, Width};

/// What validators accept: locals with the parameters, and bytes of a body.
const LOCALS_MAX: u32 = 50_000;
const BODY_MAX_BYTES: usize = 7_654_321;

/// The body of a function, without its length, and where its branches go.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) hints: Vec<Hint>,
}

/// The body of a function with `params` parameters, with NaNs made canonical at `places`. Nothing, if there
/// is no room for that.
pub(super) fn body(
    body: &FunctionBody<'_>,
    params: u32,
    places: &[Canonicalise],
    hints: &[Hint],
) -> Result<Option<Body>, BinaryReaderError> {
    let locals = Locals::of(body, params, places)?;
    if locals.end > LOCALS_MAX && !places.is_empty() {
        return Ok(None);
    }
    let (start, original) = (body.range().start, body.as_bytes());
    let mut places: Vec<_> = places.iter().map(|place| (offset(place.place), place)).collect();
    // Those of one offset keep their order. They change different things.
    places.sort_by_key(|(offset, _)| *offset);
    let mut out = Out::new(&locals, original);
    for (offset, place) in places {
        out.copy_to(offset.saturating_sub(start));
        out.replace(place, &locals);
    }
    out.copy_to(original.len());
    out.move_hints(hints);
    let is_small = out.bytes.len() <= BODY_MAX_BYTES;
    Ok(is_small.then_some(Body { bytes: out.bytes, hints: out.hints }))
}

/// A body that is being written.
struct Out<'a> {
    original: &'a [u8],
    /// What of it was copied.
    copied: usize,
    bytes: Vec<u8>,
    hints: Vec<Hint>,
    /// From an offset in the original on, how much longer this is.
    longer: Vec<(usize, usize)>,
}

impl<'a> Out<'a> {
    fn new(locals: &Locals, original: &'a [u8]) -> Self {
        let (bytes, copied) = (locals.header(original), locals.header_len);
        let longer = vec![(0, bytes.len().saturating_sub(copied))];
        Self { original, copied, bytes, hints: Vec::new(), longer }
    }

    fn copy_to(&mut self, end: usize) {
        self.bytes.extend(self.original.get(self.copied..end).unwrap_or_default());
        self.copied = self.copied.max(end);
    }

    /// Inserts what makes a value canonical.
    fn replace(&mut self, place: &Canonicalise, locals: &Locals) {
        let (local, is_on_stack) = match place.place {
            Place::Local(_, local) => (local, false),
            Place::Nowhere | Place::Stack(_) => {
                (locals.scratch.get(&place.ty).copied().unwrap_or_default(), true)
            }
        };
        if is_on_stack {
            Instruction::LocalSet(local).encode(&mut self.bytes);
        }
        for instruction in canonical(place, local) {
            if let (Instruction::BrIf(_), Ok(offset)) = (&instruction, u32::try_from(self.bytes.len())) {
                self.hints.push(Hint { offset, is_taken: true });
            }
            instruction.encode(&mut self.bytes);
        }
        if is_on_stack {
            Instruction::LocalGet(local).encode(&mut self.bytes);
        }
        self.longer.push((self.copied, self.bytes.len().saturating_sub(self.copied)));
    }

    /// Takes over what was known of the original's branches.
    fn move_hints(&mut self, hints: &[Hint]) {
        for hint in hints {
            let at = self.longer.partition_point(|(from, _)| *from <= hint.offset as usize);
            let longer = at.checked_sub(1).and_then(|at| self.longer.get(at)).map_or(0, |(_, by)| *by);
            if let Some(offset) = u32::try_from(longer).ok().and_then(|by| hint.offset.checked_add(by)) {
                self.hints.push(Hint { offset, ..*hint });
            }
        }
    }
}

fn offset(place: Place) -> usize {
    match place {
        Place::Nowhere => 0,
        Place::Stack(offset) | Place::Local(offset, _) => offset,
    }
}

/// A function's locals, with one more for each type of which values are replaced.
struct Locals {
    /// Declarations in the original.
    declarations: u32,
    /// Where those start and end in the original.
    header_start: usize,
    header_len: usize,
    scratch: BTreeMap<Type, u32>,
    /// How many there are.
    end: u32,
}

impl Locals {
    fn of(body: &FunctionBody<'_>, params: u32, places: &[Canonicalise]) -> Result<Self, BinaryReaderError> {
        let start = body.range().start;
        let mut reader = body.get_locals_reader()?;
        let header_start = reader.original_position().saturating_sub(start);
        let (declarations, mut end) = (reader.get_count(), params);
        for _ in 0..declarations {
            end = end.saturating_add(reader.read()?.0);
        }
        let header_len = reader.original_position().saturating_sub(start);
        let mut scratch = BTreeMap::new();
        for ty in [Type::F32, Type::F64, Type::V128] {
            let is_needed = |place: &Canonicalise| place.ty == ty && matches!(place.place, Place::Stack(_));
            if places.iter().any(is_needed) {
                scratch.insert(ty, end);
                end = end.saturating_add(1);
            }
        }
        Ok(Self { declarations, header_start, header_len, scratch, end })
    }

    fn header(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let added = u32::try_from(self.scratch.len()).unwrap_or_default();
        self.declarations.saturating_add(added).encode(&mut out);
        out.extend(bytes.get(self.header_start..self.header_len).unwrap_or_default());
        for ty in self.scratch.keys() {
            1_u32.encode(&mut out);
            match ty {
                Type::F32 => ValType::F32,
                Type::F64 => ValType::F64,
                Type::V128 => ValType::V128,
            }
            .encode(&mut out);
        }
        out
    }
}

/// Replaces what is in a local, if it is a NaN.
///
/// A scalar is replaced behind a branch, and a hint puts that out of the way of what runs: what the machine
/// predicts makes nothing wait for the comparison. `>=` with itself is one branch, where `==` would be two. A
/// vector has lanes of both kinds, so each is chosen.
fn canonical(place: &Canonicalise, local: u32) -> Vec<Instruction<'static>> {
    let (get, set) = (Instruction::LocalGet(local), Instruction::LocalSet(local));
    let lanes_equal = match (place.ty, place.width) {
        (Type::F32, _) => return unless(Instruction::F32Ge, place, local),
        (Type::F64, _) => return unless(Instruction::F64Ge, place, local),
        (Type::V128, Width::F32) => Instruction::F32x4Eq,
        (Type::V128, Width::F64) => Instruction::F64x2Eq,
    };
    vec![get.clone(), nan(place), get.clone(), get, lanes_equal, Instruction::V128Bitselect, set]
}

/// Puts a NaN in a local, unless what is there compares so with itself.
fn unless(compares: Instruction<'static>, place: &Canonicalise, local: u32) -> Vec<Instruction<'static>> {
    let (get, set) = (Instruction::LocalGet(local), Instruction::LocalSet(local));
    let block = Instruction::Block(BlockType::Empty);
    vec![block, get.clone(), get, compares, Instruction::BrIf(0), nan(place), set, Instruction::End]
}

fn nan(place: &Canonicalise) -> Instruction<'static> {
    let narrow = CANON_F32 | u32::from(place.is_negative) << 31;
    let wide = CANON_F64 | u64::from(place.is_negative) << 63;
    match (place.ty, place.width) {
        (Type::F32, _) => Instruction::F32Const(Ieee32::new(narrow)),
        (Type::F64, _) => Instruction::F64Const(Ieee64::new(wide)),
        (Type::V128, Width::F32) => {
            Instruction::V128Const((u128::from(narrow) * (1 << 96 | 1 << 64 | 1 << 32 | 1)) as i128)
        }
        (Type::V128, Width::F64) => Instruction::V128Const((u128::from(wide) * (1 << 64 | 1)) as i128),
    }
}

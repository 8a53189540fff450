//! What there is to know of a module's types, functions and tags, and the types of blocks that are added.

use vac_core::fault::Result;
use wasm_encoder::BlockType as Block;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser::{BlockType, CompositeInnerType, FuncType, Payload, RefType, TypeRef, ValType};

use super::{PLACE, invalid};
use crate::load::malformed;
use crate::rewrite::before_code;

/// What a caught exception is kept as.
pub(super) const EXNREF: ValType = ValType::Ref(RefType::EXN.nullable());

/// Parameters and results of a function type.
type Signature = (Vec<ValType>, Vec<ValType>);

#[derive(Default)]
pub(super) struct Types {
    /// By index; `None` is a type of something else.
    types: Vec<Option<FuncType>>,
    /// Types of the functions that have bodies.
    functions: Vec<u32>,
    /// Types of all tags, imported ones first.
    tags: Vec<u32>,
    added: Vec<Signature>,
}

impl Types {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut types = Self::default();
        before_code(bytes, |payload| types.section(payload)).map_err(|e| malformed(&e, PLACE))?;
        Ok(types)
    }

    fn section(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types.extend(group?.types().map(|ty| match &ty.composite_type.inner {
                        CompositeInnerType::Func(func) => Some(func.clone()),
                        _ => None,
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Tag(tag) = import?.ty {
                        self.tags.push(tag.func_type_idx);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn func(&self, index: u32) -> Result<&FuncType> {
        let ty = self.types.get(index as usize).and_then(Option::as_ref);
        ty.ok_or_else(|| invalid("a number of a type that is no function's"))
    }

    /// How many parameters the function of body number `body` has.
    pub(super) fn params_of(&self, body: usize) -> Result<u32> {
        let ty = self.functions.get(body).ok_or_else(|| invalid("more bodies than functions"))?;
        Ok(self.func(*ty)?.params().len() as u32)
    }

    /// What an exception with this tag carries.
    pub(super) fn carried_by(&self, tag: u32) -> Result<Vec<ValType>> {
        let ty = self.tags.get(tag as usize).ok_or_else(|| invalid("a number of a tag that is not there"))?;
        Ok(self.func(*ty)?.params().to_vec())
    }

    /// What a block takes.
    pub(super) fn params(&self, block: BlockType) -> Result<Vec<ValType>> {
        match block {
            BlockType::Empty | BlockType::Type(_) => Ok(Vec::new()),
            BlockType::FuncType(ty) => Ok(self.func(ty)?.params().to_vec()),
        }
    }

    /// The type of a block, a new one if it must be.
    pub(super) fn block(&mut self, params: Vec<ValType>, results: Vec<ValType>) -> Result<Block> {
        match (&params[..], &results[..]) {
            ([], []) => return Ok(Block::Empty),
            ([], [only]) => return same_block(BlockType::Type(*only)),
            _ => {}
        }
        let signature = (params, results);
        let at = self.added.iter().position(|added| *added == signature).unwrap_or_else(|| {
            self.added.push(signature);
            self.added.len() - 1
        });
        Ok(Block::FunctionType((self.types.len() + at) as u32))
    }

    /// What follows the types of the module.
    pub(super) fn added(&self) -> Vec<Signature> {
        self.added.clone()
    }
}

/// The type of a block as the encoder has it.
pub(super) fn same_block(block: BlockType) -> Result<Block> {
    RoundtripReencoder.block_type(block).map_err(|e| invalid(&e.to_string()))
}

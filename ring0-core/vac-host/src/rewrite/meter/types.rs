//! What the meter must know of a module's types, functions, memories and tables.

use vac_core::fault::Result;
use wasmparser::{BlockType, CompositeInnerType, Payload, RecGroup, SubType, TypeRef, ValType};

use super::forms::{VALUES_MAX, may_be_function};
use super::{PLACE, invalid};
use crate::load::malformed;
use crate::rewrite::before_code;

/// The shape of a function, in 64-bit words and values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) param_words: u64,
    pub(super) result_words: u64,
    pub(super) params: u32,
    pub(super) results: u32,
    /// The result, if there is exactly one.
    pub(super) only_result: Option<ValType>,
}

/// What is known of a module before its code is read.
#[derive(Debug, Default)]
pub(super) struct Types {
    /// By index of type; `None` is a type of something else.
    shapes: Vec<Option<Shape>>,
    /// Some type is more than parameters and results of a function, has too many, or one of them may be a function.
    has_others: bool,
    /// The types of all functions, imported ones first.
    functions: Vec<u32>,
    pub(super) imported_functions: u32,
    pub(super) imported_memories: u32,
    /// Whether the memory's addresses have 64 bits, imported ones first.
    memories: Vec<bool>,
    tables: Vec<bool>,
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
                    self.group(&group?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.import(import?.ty);
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(memory?.memory64);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.tables.push(table?.ty.table64);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn group(&mut self, group: &RecGroup) {
        self.has_others |= group.is_explicit_rec_group();
        for ty in group.types() {
            self.has_others |= !is_plain(ty);
            self.shapes.push(match &ty.composite_type.inner {
                CompositeInnerType::Func(func) => Some(shape(func.params(), func.results())),
                _ => None,
            });
        }
    }

    fn import(&mut self, ty: TypeRef) {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                self.imported_functions += 1;
            }
            TypeRef::Memory(memory) => {
                self.memories.push(memory.memory64);
                self.imported_memories += 1;
            }
            TypeRef::Table(table) => self.tables.push(table.table64),
            TypeRef::Global(_) | TypeRef::Tag(_) => {}
        }
    }

    /// The number of types: the index of the first one that is added.
    pub(super) fn len(&self) -> u32 {
        self.shapes.len() as u32
    }

    /// Whether functions of equal parameters and results are of one type, and none of those is a function.
    pub(super) fn are_plain(&self) -> bool {
        !self.has_others
    }

    pub(super) fn shape(&self, ty: u32) -> Result<Shape> {
        let shape = self.shapes.get(ty as usize).copied().flatten();
        shape.ok_or_else(|| invalid("a type of a function that is none"))
    }

    /// The type of a function.
    pub(super) fn of_function(&self, function: u32) -> Result<u32> {
        let ty = self.functions.get(function as usize).copied();
        ty.ok_or_else(|| invalid("a function that is not there"))
    }

    /// The types of functions that have a body.
    pub(super) fn defined(&self) -> &[u32] {
        self.functions.get(self.imported_functions as usize..).unwrap_or_default()
    }

    /// The values that a block takes and leaves.
    pub(super) fn values(&self, ty: BlockType) -> Result<u64> {
        Ok(match ty {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(ty) => self.shape(ty)?.values(),
        })
    }

    pub(super) fn memory_is_wide(&self, memory: u32) -> Result<bool> {
        self.memories.get(memory as usize).copied().ok_or_else(|| invalid("a memory that is not there"))
    }

    pub(super) fn table_is_wide(&self, table: u32) -> Result<bool> {
        self.tables.get(table as usize).copied().ok_or_else(|| invalid("a table that is not there"))
    }
}

impl Shape {
    /// Words of all parameters and results.
    pub(super) fn words(&self) -> u64 {
        self.param_words + self.result_words
    }

    fn values(&self) -> u64 {
        u64::from(self.params) + u64::from(self.results)
    }
}

fn is_plain(ty: &SubType) -> bool {
    let CompositeInnerType::Func(func) = &ty.composite_type.inner else { return false };
    let count = func.params().len().max(func.results().len());
    let mut values = func.params().iter().chain(func.results());
    ty.is_final
        && ty.supertype_idx.is_none()
        && count <= VALUES_MAX as usize
        && !values.any(|ty| may_be_function(*ty))
}

fn shape(params: &[ValType], results: &[ValType]) -> Shape {
    let words = |types: &[ValType]| types.iter().map(|ty| words(*ty)).sum();
    Shape {
        param_words: words(params),
        result_words: words(results),
        params: params.len() as u32,
        results: results.len() as u32,
        only_result: if let [only] = results { Some(*only) } else { None },
    }
}

/// 64-bit words of a value.
pub(super) fn words(ty: ValType) -> u64 {
    if ty == ValType::V128 { 2 } else { 1 }
}

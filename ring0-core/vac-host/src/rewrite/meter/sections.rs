//! A module's sections: what is added, and the numbers that shift because of it.
//!
//! Functions and memories that a module defines are numbered after its imports, so all of them move.

use std::collections::BTreeMap;

use vac_core::fault::{Error, Result};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, EntityType, ImportSection, MemoryType, Module, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CustomSectionReader, FunctionBody, ImportSectionReader, KnownCustom, Parser, Payload, TypeSectionReader,
};

use super::body::{Body, Encoded};
use super::facts::Facts;
use super::types::Types;
use super::{COUNTERS, DEEP, IMPORTS, Options, PLACE, STOP, invalid, trees};
use crate::load::malformed;

/// The numbers of what was added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) counters: u32,
    pub(super) stop: u32,
    pub(super) deep: u32,
}

/// A module that is being rewritten.
pub(super) struct Sections {
    types: Types,
    added: Added,
    options: Options,
    /// By type of function, a type of blocks that leave its results.
    blocks: BTreeMap<u32, u32>,
    has_types: bool,
    has_imports: bool,
    /// The functions whose bodies come next.
    facts: std::vec::IntoIter<Facts>,
}

impl Sections {
    pub(super) fn read(bytes: &[u8], options: Options) -> Result<Self> {
        let types = Types::read(bytes)?;
        let stop = types.imported_functions;
        let added = Added { counters: types.imported_memories, stop, deep: stop + 1 };
        let blocks = blocks(&types)?;
        let mut facts = facts(bytes, &types)?;
        trees::mark(&mut facts, types.imported_functions);
        let facts = facts.into_iter();
        Ok(Self { types, added, options, blocks, has_types: false, has_imports: false, facts })
    }

    /// `stop` and `deep` are functions of this type, the first that is added.
    fn signal(&self) -> u32 {
        self.types.len()
    }

    fn add_types(&mut self, section: &mut TypeSection, known: &[(u32, Vec<ValType>)]) {
        section.ty().function([], []);
        for (_, results) in known {
            section.ty().function([], results.iter().copied());
        }
        self.has_types = true;
    }

    fn add_imports(&mut self, section: &mut ImportSection) {
        let memory =
            MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None };
        section.import(IMPORTS, COUNTERS, EntityType::Memory(memory));
        section.import(IMPORTS, STOP, EntityType::Function(self.signal()));
        section.import(IMPORTS, DEEP, EntityType::Function(self.signal()));
        self.has_imports = true;
    }

    /// The block type that leaves what the function returns.
    fn block(&mut self, ty: u32) -> Encoded<wasm_encoder::BlockType> {
        let shape = self.types.shape(ty).map_err(reencode::Error::UserError)?;
        Ok(match (shape.results, shape.only_result) {
            (0, _) => wasm_encoder::BlockType::Empty,
            (_, Some(only)) => wasm_encoder::BlockType::Result(self.val_type(only)?),
            _ => wasm_encoder::BlockType::FunctionType(self.blocks.get(&ty).copied().unwrap_or(ty)),
        })
    }
}

/// The types of functions with several results that are needed without their parameters, and the numbers that
/// those types get. They follow the type of `stop`.
fn blocks(types: &Types) -> Result<BTreeMap<u32, u32>> {
    let mut blocks = BTreeMap::new();
    for ty in types.defined() {
        let shape = types.shape(*ty)?;
        if shape.results > 1 && shape.params > 0 {
            blocks.insert(*ty, 0);
        }
    }
    // Numbered in the order of the types that they come from.
    blocks.values_mut().zip(types.len() + 1..).for_each(|(number, next)| *number = next);
    Ok(blocks)
}

/// What there is to know of every function that has a body.
fn facts(bytes: &[u8], types: &Types) -> Result<Vec<Facts>> {
    let mut all = Vec::with_capacity(types.defined().len());
    let mut types_left = types.defined().iter();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(|e| malformed(&e, PLACE))? {
            let ty = types_left.next().ok_or_else(|| invalid("more bodies than functions"))?;
            all.push(Facts::read(&body, *ty, types)?);
        }
    }
    Ok(all)
}

impl Reencode for Sections {
    type Error = Error;

    fn function_index(&mut self, function: u32) -> Encoded<u32> {
        Ok(if function < self.types.imported_functions { function } else { function.saturating_add(2) })
    }

    fn memory_index(&mut self, memory: u32) -> Encoded<u32> {
        Ok(if memory < self.types.imported_memories { memory } else { memory.saturating_add(1) })
    }

    fn parse_type_section(
        &mut self,
        section: &mut TypeSection,
        reader: TypeSectionReader<'_>,
    ) -> Encoded<()> {
        let mut known = Vec::new();
        let groups = reader.clone().into_iter().collect::<wasmparser::Result<Vec<_>>>()?;
        let types = groups.iter().flat_map(|group| group.types());
        for (ty, at) in types.zip(0..) {
            if !self.blocks.contains_key(&at) {
                continue;
            }
            if let wasmparser::CompositeInnerType::Func(func) = &ty.composite_type.inner {
                let results = func.results().iter().map(|ty| self.val_type(*ty));
                known.push((at, results.collect::<Encoded<Vec<_>>>()?));
            }
        }
        reencode::utils::parse_type_section(self, section, reader)?;
        self.add_types(section, &known);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        section: &mut ImportSection,
        reader: ImportSectionReader<'_>,
    ) -> Encoded<()> {
        reencode::utils::parse_import_section(self, section, reader)?;
        self.add_imports(section);
        Ok(())
    }

    /// A module without types or imports gets a section of them where they belong.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Encoded<()> {
        if !self.has_types && before != Some(SectionId::Type) {
            let mut section = TypeSection::new();
            self.add_types(&mut section, &[]);
            module.section(&section);
        }
        if !self.has_imports && !matches!(before, Some(SectionId::Type | SectionId::Import)) {
            let mut section = ImportSection::new();
            self.add_imports(&mut section);
            module.section(&section);
        }
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, function: FunctionBody<'_>) -> Encoded<()> {
        let facts = self.facts.next();
        let facts = facts.ok_or_else(|| reencode::Error::UserError(invalid("more bodies than functions")))?;
        let results = self.block(facts.ty)?;
        let body = Body::write(self, &function, facts, results)?;
        code.raw(&body);
        Ok(())
    }

    /// Positions in the code are others now, so what speaks of them would be wrong. Names are kept, with their new
    /// numbers; names that cannot be read are of no use to anybody.
    fn parse_custom_section(&mut self, module: &mut Module, section: CustomSectionReader<'_>) -> Encoded<()> {
        if let KnownCustom::Name(names) = section.as_known() {
            if let Ok(names) = self.custom_name_section(names) {
                module.section(&names);
            }
            return Ok(());
        }
        if speaks_of_code(section.name()) {
            return Ok(());
        }
        module.section(&self.custom_section(section)?);
        Ok(())
    }
}

fn speaks_of_code(name: &str) -> bool {
    name.starts_with(".debug_")
        || name.starts_with("reloc.")
        || name.starts_with("metadata.code.")
        || ["linking", "sourceMappingURL", "external_debug_info"].contains(&name)
}

impl Sections {
    pub(super) fn types(&self) -> &Types {
        &self.types
    }

    pub(super) fn added(&self) -> Added {
        self.added
    }

    pub(super) fn options(&self) -> Options {
        self.options
    }
}

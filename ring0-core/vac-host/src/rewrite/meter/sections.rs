//! A module's sections: what is added, and the numbers that shift because of it.
//!
//! Functions and memories that a module defines are numbered after its imports, so all of them move.

use std::collections::BTreeMap;

use vac_core::fault::{Error, Result};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, EntityType, ExportSection, FunctionSection, ImportSection, MemoryType, Module, NameMap,
    NameSection, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, Export, ExternalKind, FunctionBody, FunctionSectionReader,
    ImportSectionReader, KnownCustom, Name, Parser, Payload, TypeSectionReader,
};

use super::body::{Body, Encoded};
use super::facts::Facts;
use super::forms::{Carried, Form, Forms, Gate};
use super::types::Types;
use super::{COUNTERS, DEEP, IMPORTS, Options, PLACE, STOP, gates, invalid, trees};
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
    forms: Forms,
    /// The types of carried functions.
    carried: BTreeMap<Carried, u32>,
    has_types: bool,
    has_imports: bool,
    has_names: bool,
    /// The section of names that is being written has those of gates.
    names_gates: bool,
    /// The functions whose bodies come next.
    facts: std::iter::Enumerate<std::vec::IntoIter<Facts>>,
}

/// The type of a function.
type Func = (Vec<ValType>, Vec<ValType>);

impl Sections {
    pub(super) fn read(bytes: &[u8], options: Options) -> Result<Self> {
        let types = Types::read(bytes)?;
        let stop = types.imported_functions;
        let added = Added { counters: types.imported_memories, stop, deep: stop + 1 };
        let blocks = blocks(&types)?;
        let mut facts = facts(bytes, &types)?;
        trees::mark(&mut facts, types.imported_functions);
        let forms = if options.carries { Forms::read(bytes, &types, &facts)? } else { Forms::default() };
        let first = types.len() + 1 + blocks.len() as u32;
        let carried = forms.types(&types, &facts)?.into_iter().zip(first..).collect();
        let facts = facts.into_iter().enumerate();
        Ok(Self {
            types,
            added,
            options,
            blocks,
            forms,
            carried,
            has_types: false,
            has_imports: false,
            has_names: false,
            names_gates: false,
            facts,
        })
    }

    /// `stop` and `deep` are functions of this type, the first that is added.
    fn signal(&self) -> u32 {
        self.types.len()
    }

    fn add_types(&mut self, section: &mut TypeSection, known: &BTreeMap<u32, Func>) {
        section.ty().function([], []);
        let of = |ty: &u32| known.get(ty).cloned().unwrap_or_default();
        for ty in self.blocks.keys() {
            section.ty().function([], of(ty).1);
        }
        for (ty, depth) in self.carried.keys() {
            let (params, results) = of(ty);
            let added = Form::Carried { depth: *depth }.added() as usize;
            let params = params.into_iter().chain(std::iter::repeat_n(ValType::I64, added));
            let results = results.into_iter().chain([ValType::I64]);
            section.ty().function(params.collect::<Vec<_>>(), results.collect::<Vec<_>>());
        }
        self.has_types = true;
    }

    /// The types of functions that others are made of.
    fn known_types(&mut self, reader: &TypeSectionReader<'_>) -> Encoded<BTreeMap<u32, Func>> {
        let mut known = BTreeMap::new();
        let groups = reader.clone().into_iter().collect::<wasmparser::Result<Vec<_>>>()?;
        for (ty, at) in groups.iter().flat_map(|group| group.types()).zip(0..) {
            let is_carried = [false, true].iter().any(|depth| self.carried.contains_key(&(at, *depth)));
            if !is_carried && !self.blocks.contains_key(&at) {
                continue;
            }
            if let wasmparser::CompositeInnerType::Func(func) = &ty.composite_type.inner {
                let params = func.params().iter().map(|ty| self.val_type(*ty)).collect::<Encoded<_>>()?;
                let results = func.results().iter().map(|ty| self.val_type(*ty)).collect::<Encoded<_>>()?;
                known.insert(at, (params, results));
            }
        }
        Ok(known)
    }

    /// The number that a function has now.
    pub(super) fn moved(&self, function: u32) -> u32 {
        if function < self.types.imported_functions { function } else { function.saturating_add(2) }
    }

    /// The type of carried functions that were of type `ty`.
    pub(super) fn carried(&self, ty: u32, depth: bool) -> u32 {
        self.carried.get(&(ty, depth)).copied().unwrap_or(ty)
    }

    /// What a gate calls, its type, and the type of that.
    fn gate(&self, gate: Gate) -> Encoded<(u32, u32, u32)> {
        let (Gate::Inward { function, .. } | Gate::Outward { function }) = gate;
        let ty = self.types.of_function(function).map_err(reencode::Error::UserError)?;
        let own = if matches!(gate, Gate::Outward { .. }) { self.carried(ty, true) } else { ty };
        Ok((function, ty, own))
    }

    /// The names of what was added, if the module has no other names.
    pub(super) fn end(&self, module: &mut Module) {
        if !self.has_names && !self.forms.gates.is_empty() {
            module.section(&gates::names(self.numbered_gates()));
        }
    }

    fn numbered_gates(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.forms.numbered_gates().map(|gate| self.moved(gate))
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

    /// What a reference to `function` leads to. Calls and exports are not asked for here.
    fn function_index(&mut self, function: u32) -> Encoded<u32> {
        Ok(self.moved(self.forms.taken(function)))
    }

    fn start_section(&mut self, start: u32) -> Encoded<u32> {
        Ok(self.moved(self.forms.shown(start)))
    }

    fn parse_export(&mut self, exports: &mut ExportSection, export: Export<'_>) -> Encoded<()> {
        let kind = self.export_kind(export.kind)?;
        let index = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => self.moved(self.forms.shown(export.index)),
            other => self.external_index(other, export.index)?,
        };
        exports.export(export.name, kind, index);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Encoded<()> {
        for (ty, function) in section.into_iter().zip(self.types.imported_functions..) {
            let ty = self.type_index(ty?)?;
            functions.function(match self.forms.of(function) {
                Form::Memory => ty,
                Form::Carried { depth } => self.carried(ty, depth),
            });
        }
        for gate in &self.forms.gates {
            functions.function(self.gate(*gate)?.2);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Encoded<()> {
        reencode::utils::parse_code_section(self, code, section)?;
        for gate in &self.forms.gates {
            let (callee, ty, _) = self.gate(*gate)?;
            let shape = self.types.shape(ty).map_err(reencode::Error::UserError)?;
            code.function(&gates::body(*gate, shape, self.moved(callee), self.added.counters));
        }
        Ok(())
    }

    fn parse_custom_name_subsection(&mut self, names: &mut NameSection, section: Name<'_>) -> Encoded<()> {
        match section {
            Name::Function(map) => {
                let mut functions = NameMap::new();
                for naming in map {
                    let naming = naming?;
                    if naming.name != gates::NAME {
                        functions.append(self.moved(naming.index), naming.name);
                    }
                }
                gates::name(&mut functions, self.numbered_gates());
                names.functions(&functions);
                self.names_gates = true;
            }
            // They move, and nobody asks for them.
            Name::Local(_) | Name::Label(_) => {}
            other => reencode::utils::parse_custom_name_subsection(self, names, other)?,
        }
        Ok(())
    }

    fn memory_index(&mut self, memory: u32) -> Encoded<u32> {
        Ok(if memory < self.types.imported_memories { memory } else { memory.saturating_add(1) })
    }

    fn parse_type_section(
        &mut self,
        section: &mut TypeSection,
        reader: TypeSectionReader<'_>,
    ) -> Encoded<()> {
        let known = self.known_types(&reader)?;
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
            self.add_types(&mut section, &BTreeMap::new());
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
        let (number, facts) = facts;
        let form = self.forms.of(self.types.imported_functions + number as u32);
        let results = self.block(facts.ty)?;
        let body = Body::write(self, &function, facts, form, results)?;
        code.raw(&body);
        Ok(())
    }

    /// Positions in the code are others now, so what speaks of them would be wrong. Names are kept, with their new
    /// numbers; names that cannot be read are of no use to anybody.
    fn parse_custom_section(&mut self, module: &mut Module, section: CustomSectionReader<'_>) -> Encoded<()> {
        if let KnownCustom::Name(names) = section.as_known() {
            self.names_gates = false;
            if let Ok(names) = self.custom_name_section(names) {
                module.section(&names);
                self.has_names |= self.names_gates;
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

    pub(super) fn forms(&self) -> &Forms {
        &self.forms
    }

    pub(super) fn options(&self) -> Options {
        self.options
    }
}

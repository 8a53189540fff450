//! Where a command exits, so that it can be gone on with.
//!
//! A `proc_exit` that the host answers by ending the call leaves the instance in the middle of it, and no engine
//! enters such a one again. But a command whose exports are of use, as those of Go and TinyGo are, has to run first, and
//! ends by exiting. So a command of WASI 0.1 gets two functions behind its own,
//!
//! ```text
//! (func $exit (param i32)      stands wherever the import was
//!   the import                 where the host lets a run go on, it returns
//!   throw $exited)
//! (func $start                 is exported as `_start`
//!   try_table (catch $exited)  the `_start` of before
//!   the depth of before, of the meter)
//! ```
//!
//! They are added behind the meter and cost no ticks: where the host ends the call, as in `vac run`, all is as
//! it was. Only modules without tags of their own get them, so that nothing else catches what is thrown, but for
//! clauses that catch all, which such a module does not need: one that has them goes on where they lead.
//!
//! Invariant: without the host's leave, a program does and costs what it did. The name of the import is ours: a component that
//! gives it to a module of its own, from another, and lets it return, has its command end there.

use std::collections::BTreeSet;

use vac_core::fault::{Error, Result};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, BranchHint, BranchHints, Catch, CodeSection, ExportKind, ExportSection, Function,
    FunctionSection, MemArg, Module, NameMap, NameSection, SectionId, TagKind, TagSection, TagType,
    TypeSection, ValType,
};
use wasmparser::{
    BranchHintSectionReader, CodeSectionReader, CompositeInnerType, CustomSectionReader, Export,
    ExternalKind, FunctionBody, FunctionSectionReader, KnownCustom, Name, Operator, Parser, Payload, SubType,
    TypeRef, TypeSectionReader, ValType as ParamType,
};

use super::meter::{COUNTERS, DEPTH_AT, GATE, IMPORTS};
use super::{PLACE, refused};
use crate::adapt::EXIT_IMPORT;
use crate::load::malformed;

/// The export that a command begins with.
const START: &str = "_start";

/// `bytes`, which was metered, with a way back from its exit if it is such a command.
pub(super) fn module(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let Some(mut parts) = read(&bytes).map_err(|e| malformed(&e, PLACE))? else { return Ok(bytes) };
    let mut module = Module::new();
    parts.parse_core_module(&mut module, Parser::new(0), &bytes).map_err(refused)?;
    if !parts.is_named {
        let (mut section, mut names) = (NameSection::new(), NameMap::new());
        parts.name_own(&mut names);
        section.functions(&names);
        module.section(&section);
    }
    Ok(module.finish())
}

/// Where everything is.
#[derive(Debug, Default)]
struct Parts {
    types: u32,
    functions: u32,
    /// The import, and its type.
    exit: u32,
    exit_type: u32,
    /// What is exported as `_start`.
    start: u32,
    /// The memory with the meter's counters.
    counters: u32,
    /// Functions that name the import.
    callers: BTreeSet<u32>,
    /// The function whose body comes next.
    next: u32,
    has_tag_section: bool,
    /// Whether its own functions have names.
    is_named: bool,
}

/// What was found of [`Parts`].
#[derive(Default)]
struct Found {
    exit: Option<(u32, u32)>,
    start: Option<u32>,
    counters: Option<u32>,
    has_tags: bool,
    memories: u32,
    imported: u32,
    /// Types of functions without results: of one number, and of nothing.
    of_number: BTreeSet<u32>,
    of_nothing: BTreeSet<u32>,
    /// The types of functions that have a body.
    functions: Vec<u32>,
}

fn read(bytes: &[u8]) -> wasmparser::Result<Option<Parts>> {
    let (mut found, mut parts) = (Found::default(), Parts::default());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::TypeSection(types) => {
                for group in types {
                    for ty in group?.into_types() {
                        found.note_type(&ty, parts.types);
                        parts.types += 1;
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    found.import(import.module, import.name, import.ty);
                }
            }
            Payload::FunctionSection(functions) => {
                parts.functions = functions.count();
                for ty in functions {
                    found.functions.push(ty?);
                }
            }
            Payload::TagSection(_) => found.has_tags = true,
            Payload::ExportSection(exports) => {
                for export in exports {
                    let Export { name, kind, index } = export?;
                    found.start =
                        found.start.or((name == START && kind == ExternalKind::Func).then_some(index));
                }
            }
            // Most modules end here.
            Payload::CodeSectionStart { .. } if found.whole().is_none() => return Ok(None),
            Payload::CodeSectionEntry(body) => {
                let function = found.imported + parts.next;
                parts.next += 1;
                if names(&body, found.exit.map(|(index, _)| index))? {
                    parts.callers.insert(function);
                }
            }
            _ => {}
        }
    }
    Ok(found.whole().map(|(exit, exit_type, start, counters)| Parts {
        functions: found.imported + parts.functions,
        exit,
        exit_type,
        start,
        counters,
        next: found.imported,
        ..parts
    }))
}

impl Found {
    fn import(&mut self, module: &str, name: &str, ty: TypeRef) {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                if (module, name) == EXIT_IMPORT {
                    self.exit = Some((self.imported, ty));
                }
                self.imported += 1;
            }
            TypeRef::Memory(_) => {
                if (module, name) == (IMPORTS, COUNTERS) {
                    self.counters = Some(self.memories);
                }
                self.memories += 1;
            }
            TypeRef::Tag(_) => self.has_tags = true,
            TypeRef::Table(_) | TypeRef::Global(_) => {}
        }
    }

    fn note_type(&mut self, ty: &SubType, number: u32) {
        let CompositeInnerType::Func(func) = &ty.composite_type.inner else { return };
        match (func.params(), func.results()) {
            ([ParamType::I32], []) => drop(self.of_number.insert(number)),
            ([], []) => drop(self.of_nothing.insert(number)),
            _ => {}
        }
    }

    /// All that is needed, if it is there and of the types that it has in a command.
    fn whole(&self) -> Option<(u32, u32, u32, u32)> {
        let (exit, exit_type) = self.exit.filter(|(_, ty)| self.of_number.contains(ty))?;
        let start = self.start.filter(|start| {
            let body = start.checked_sub(self.imported).and_then(|at| self.functions.get(at as usize));
            body.is_some_and(|ty| self.of_nothing.contains(ty))
        })?;
        (!self.has_tags).then_some((exit, exit_type, start, self.counters?))
    }
}

/// Whether code names the function.
fn names(body: &FunctionBody<'_>, function: Option<u32>) -> wasmparser::Result<bool> {
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let named = match reader.read()? {
            Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            | Operator::RefFunc { function_index } => Some(function_index),
            _ => None,
        };
        if named.is_some() && named == function {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Parts {
    /// The type of what is thrown, and of `_start`.
    fn plain_type(&self) -> u32 {
        self.types
    }

    /// Names them like the gates of the meter, so that they are left out where a guest's calls are shown.
    fn name_own(&self, names: &mut NameMap) {
        names.append(self.functions, GATE);
        names.append(self.functions + 1, GATE);
    }

    fn exit_function(&self) -> Function {
        let mut function = Function::new([]);
        function.instructions().local_get(0).call(self.exit).throw(0).end();
        function
    }

    fn start_function(&self) -> Function {
        let depth = MemArg { offset: DEPTH_AT, align: 3, memory_index: self.counters };
        let mut function = Function::new([(1, ValType::I64)]);
        let mut code = function.instructions();
        code.i32_const(0).i64_load(depth).local_set(0);
        code.block(BlockType::Empty);
        code.try_table(BlockType::Empty, [Catch::One { tag: 0, label: 0 }]);
        code.call(self.start).return_().end().end();
        // It was left without returning from what it had entered.
        code.i32_const(0).local_get(0).i64_store(depth).end();
        function
    }
}

/// An error of the rewriting.
type Wrong = reencode::Error<Error>;

impl Reencode for Parts {
    type Error = Error;

    fn function_index(&mut self, function: u32) -> std::result::Result<u32, Wrong> {
        Ok(if function == self.exit { self.functions } else { function })
    }

    fn parse_type_section(
        &mut self,
        section: &mut TypeSection,
        reader: TypeSectionReader<'_>,
    ) -> std::result::Result<(), Wrong> {
        reencode::utils::parse_type_section(self, section, reader)?;
        section.ty().function([], []);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        section: &mut FunctionSection,
        reader: FunctionSectionReader<'_>,
    ) -> std::result::Result<(), Wrong> {
        reencode::utils::parse_function_section(self, section, reader)?;
        section.function(self.exit_type).function(self.plain_type());
        Ok(())
    }

    /// The tag comes where tags are: behind memories, before globals.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> std::result::Result<(), Wrong> {
        let is_behind = !matches!(
            before,
            Some(
                SectionId::Type
                    | SectionId::Import
                    | SectionId::Function
                    | SectionId::Table
                    | SectionId::Memory
                    | SectionId::Tag
            )
        );
        if is_behind && !self.has_tag_section {
            self.has_tag_section = true;
            let mut tags = TagSection::new();
            tags.tag(TagType { kind: TagKind::Exception, func_type_idx: self.plain_type() });
            module.section(&tags);
        }
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: Export<'_>,
    ) -> std::result::Result<(), Wrong> {
        if export.name == START && export.kind == ExternalKind::Func {
            exports.export(START, ExportKind::Func, self.functions + 1);
            return Ok(());
        }
        reencode::utils::parse_export(self, exports, export)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> std::result::Result<(), Wrong> {
        reencode::utils::parse_code_section(self, code, section)?;
        code.function(&self.exit_function()).function(&self.start_function());
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        function: FunctionBody<'_>,
    ) -> std::result::Result<(), Wrong> {
        let number = self.next;
        self.next += 1;
        if self.callers.contains(&number) {
            return reencode::utils::parse_function_body(self, code, function);
        }
        code.raw(function.as_bytes());
        Ok(())
    }

    /// As it is; but where code moves, nothing is said of places in it.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> std::result::Result<(), Wrong> {
        match section.as_known() {
            KnownCustom::BranchHints(hints) => {
                self.hints(hints).into_iter().for_each(|hints| {
                    module.section(&hints);
                });
            }
            // Names that cannot be read make no program invalid.
            KnownCustom::Name(names) => {
                if let Ok(names) = self.custom_name_section(names) {
                    module.section(&names);
                }
            }
            _ => {
                module.section(&self.custom_section(section)?);
            }
        }
        Ok(())
    }

    fn parse_custom_name_subsection(
        &mut self,
        names: &mut NameSection,
        section: Name<'_>,
    ) -> std::result::Result<(), Wrong> {
        let Name::Function(map) = section else {
            return reencode::utils::parse_custom_name_subsection(self, names, section);
        };
        let mut functions = NameMap::new();
        for naming in map {
            let naming = naming?;
            functions.append(naming.index, naming.name);
        }
        self.name_own(&mut functions);
        self.is_named = true;
        names.functions(&functions);
        Ok(())
    }
}

impl Parts {
    /// The hints of functions that stay as they are. A section that cannot be read says nothing.
    fn hints(&self, reader: BranchHintSectionReader<'_>) -> Option<BranchHints> {
        let mut kept = BranchHints::new();
        for function in reader {
            let function = function.ok()?;
            let hints: Vec<BranchHint> = function
                .hints
                .into_iter()
                .map(|hint| {
                    let hint = hint.ok()?;
                    let branch_hint_value = hint.taken.into();
                    Some(BranchHint { branch_func_offset: hint.func_offset, branch_hint_value })
                })
                .collect::<Option<_>>()?;
            if !self.callers.contains(&function.func) {
                kept.function_hints(function.func, hints);
            }
        }
        (!kept.is_empty()).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite;

    const COMMAND: &str = r#"(module
        (import "vac:wasi01/exit@0.1.0" "exit" (func $exit (param i32)))
        (table 1 funcref) (elem (i32.const 0) $exit) (memory (export "memory") 1) (global (mut i32) (i32.const 0))
        (func $leave (param i32) (if (local.get 0) (then (call $exit (i32.const 0)) unreachable)))
        (func (export "_start") (call $leave (i32.const 1)))
        (func (export "other") (result i32) (i32.const 7)))"#;

    fn functions(bytes: &[u8]) -> u32 {
        let mut count = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            if let Payload::FunctionSection(functions) = payload.unwrap() {
                count = functions.count();
            }
        }
        count
    }

    #[test]
    fn a_command_gets_two_functions_and_others_stay_as_they_are() {
        let made = |text: &str| {
            let metered = rewrite::meter::module(&wat::parse_str(text).unwrap()).unwrap();
            let made = module(metered.clone()).unwrap();
            let features = wasmparser::WasmFeatures::all();
            wasmparser::Validator::new_with_features(features).validate_all(&made).unwrap();
            (metered, made)
        };
        let (metered, rewritten) = made(COMMAND);
        assert_eq!(functions(&rewritten), functions(&metered) + 2);
        for other in [
            COMMAND.replace("_start", "_begin"),
            COMMAND.replace("\"exit\"", "\"leave\""),
            COMMAND.replace("(table 1", "(tag) (table 1"),
            COMMAND.replace("(func (export \"_start\")", "(func (export \"_start\") (param i32)"),
        ] {
            let (metered, same) = made(&other);
            assert_eq!(metered, same);
        }
    }
}

//! Tables that a program changes are shown to the host, so that a snapshot can hold them.
//!
//! A component exports no table, and what stands in one is a function that has no number outside of its module. So if any code of a
//! program changes tables, each of its core modules exports
//!
//! ```text
//! (export "vac:state table 0" (table ...))        every table that it defines
//! (export "vac:state function 0" (func ...))      every function that it makes references to: by a segment, an
//!                                                 initial value or `ref.func`
//! ```
//!
//! in the order of their numbers. That is done behind all other passes: no instruction and no number changes, and
//! neither do ticks.
//!
//! Invariant: in such a program every table is shown, but for a module that uses our names. What stands in one may be a
//! function that is not shown, if there are too many.

use std::collections::BTreeSet;

use vac_core::fault::{Error, Result};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection, SectionId};
use wasmparser::{ConstExpr, ElementItems, ElementKind, Operator, Parser, Payload, TableInit, TypeRef};

use super::{PLACE, refused};
use crate::load::malformed;

/// What the names of these exports begin with.
pub(crate) const SHOWN: &str = "vac:state ";
/// Functions that a module shows at most; one with more shows none.
pub(super) const FUNCTIONS_MAX: usize = 10_000;

/// Whether some code of `program` changes a table.
pub(super) fn are_changed(program: &[u8]) -> wasmparser::Result<bool> {
    for payload in Parser::new(0).parse_all(program) {
        let Payload::CodeSectionEntry(body) = payload? else { continue };
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            if changes(&operators.read()?) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether an operator changes a table.
pub(crate) fn changes(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
    )
}

/// `module` with its tables shown, and its functions if they are no more than `functions_max`.
pub(super) fn show(module: &[u8], functions_max: usize) -> Result<Vec<u8>> {
    let mut own = Own::read(module).map_err(|e| malformed(&e, PLACE))?;
    if own.taken.len() > functions_max {
        own.taken.clear();
    }
    if own.uses_names || (own.tables.is_empty() && own.taken.is_empty()) {
        return Ok(module.to_vec());
    }
    own.shown(module)
}

/// What of a module can be shown.
#[derive(Default)]
struct Own {
    /// Tables that it defines; as long as sections of imports are read, where those will begin.
    tables: std::ops::Range<u32>,
    /// Functions that there are references to.
    taken: BTreeSet<u32>,
    uses_names: bool,
}

impl Own {
    fn read(module: &[u8]) -> wasmparser::Result<Self> {
        let mut own = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            own.part(payload?)?;
        }
        Ok(own)
    }

    fn part(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if matches!(import?.ty, TypeRef::Table(_)) {
                        self.tables = self.tables.start + 1..self.tables.start + 1;
                    }
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.tables.end += 1;
                    if let TableInit::Expr(expression) = table?.init {
                        self.expression(&expression)?;
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    self.expression(&global?.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    self.uses_names |= export?.name.starts_with(SHOWN);
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element?;
                    if let ElementKind::Active { offset_expr, .. } = &element.kind {
                        self.expression(offset_expr)?;
                    }
                    self.items(element.items)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    self.operator(&operators.read()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn items(&mut self, items: ElementItems<'_>) -> wasmparser::Result<()> {
        match items {
            ElementItems::Functions(functions) => {
                for function in functions {
                    self.taken.insert(function?);
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    self.expression(&expression?)?;
                }
            }
        }
        Ok(())
    }

    fn expression(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        for operator in expression.get_operators_reader() {
            self.operator(&operator?);
        }
        Ok(())
    }

    fn operator(&mut self, operator: &Operator<'_>) {
        if let Operator::RefFunc { function_index } = operator {
            self.taken.insert(*function_index);
        }
    }

    /// Copies all sections but that of exports, which gets more, and is put where it belongs if there was none.
    fn shown(self, module: &[u8]) -> Result<Vec<u8>> {
        let (mut to, mut exports) = (Module::new(), Some(ExportSection::new()));
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.map_err(|e| malformed(&e, PLACE))?;
            if let Payload::ExportSection(section) = payload {
                if let Some(exports) = &mut exports {
                    RoundtripReencoder.parse_export_section(exports, section).map_err(|e| refused(own(e)))?;
                }
                continue;
            }
            let Some((id, range)) = payload.as_section() else { continue };
            if is_behind_exports(id) {
                exports.take().into_iter().for_each(|section| self.append(section, &mut to));
            }
            let data = module.get(range).unwrap_or_default();
            to.section(&RawSection { id, data });
        }
        exports.take().into_iter().for_each(|section| self.append(section, &mut to));
        Ok(to.finish())
    }

    fn append(&self, mut section: ExportSection, to: &mut Module) {
        for (number, table) in self.tables.clone().enumerate() {
            section.export(&format!("{SHOWN}table {number}"), ExportKind::Table, table);
        }
        for (number, function) in self.taken.iter().enumerate() {
            section.export(&format!("{SHOWN}function {number}"), ExportKind::Func, *function);
        }
        to.section(&section);
    }
}

/// Whether a section comes after that of exports.
fn is_behind_exports(id: u8) -> bool {
    [SectionId::Start, SectionId::Element, SectionId::DataCount, SectionId::Code, SectionId::Data]
        .iter()
        .any(|section| u8::from(*section) == id)
}

/// An error of re-encoding without any of ours.
fn own(error: wasm_encoder::reencode::Error) -> wasm_encoder::reencode::Error<Error> {
    use wasm_encoder::reencode::Error as E;
    match error {
        E::ParseError(error) => E::ParseError(error),
        // It adds none.
        _ => E::UnexpectedNonCoreModuleSection,
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::{Validator, WasmFeatures};

    use super::*;

    fn names(module: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::ExportSection(section) = payload.unwrap() {
                names.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
            }
        }
        names
    }

    fn shown(text: &str) -> Vec<String> {
        let module = show(&wat::parse_str(text).unwrap(), FUNCTIONS_MAX).unwrap();
        Validator::new_with_features(WasmFeatures::all()).validate_all(&module).unwrap();
        names(&module)
    }

    #[test]
    fn tables_and_what_may_stand_in_them_are_exported() {
        let text = r#"(module
          (import "m" "t" (table 1 funcref)) (import "m" "f" (func $f))
          (table 1 funcref (ref.func $h)) (table 2 externref) (global funcref (ref.func $f))
          (func $g) (func $h) (func $i (drop (ref.func $g))) (func (export "e") (call $i))
          (elem declare func $g) (start $i))"#;
        let own = |what: &str, count: usize| (0..count).map(move |n| format!("{SHOWN}{what} {n}")).collect();
        let expected: [Vec<String>; 3] = [vec!["e".into()], own("table", 2), own("function", 3)];
        assert_eq!(shown(text), expected.concat());
        // A section of exports where there was none.
        assert_eq!(shown("(module (table 1 funcref) (func $s) (start $s))"), own("table", 1));
        assert_eq!(shown("(module (table 1 funcref))"), own("table", 1));
    }

    #[test]
    fn a_module_that_uses_these_names_is_left_alone() {
        let text = format!(r#"(module (table 1 funcref) (func (export "{SHOWN}x")))"#);
        assert_eq!(shown(&text), [format!("{SHOWN}x")]);
        assert!(shown(r#"(module (func (export "x")))"#) == ["x"]);
    }

    /// The types of all exports of a module may only be so large, and a program must not become invalid by this.
    #[test]
    fn a_module_of_too_many_functions_shows_only_its_tables() {
        let program = |count: usize, params: usize| {
            let (functions, names) = ("(func (type $t))".repeat(count), (0..count).map(|n| n.to_string()));
            let (names, params) = (names.collect::<Vec<_>>().join(" "), "i64 ".repeat(params));
            let text = format!(
                "(component (core module (type $t (func (param {params}))) (table {count} funcref)
                  {functions} (elem (i32.const 0) func {names})
                  (func (table.set (i32.const 0) (ref.null func)))))"
            );
            let program = crate::rewrite::program(&wat::parse_str(text).unwrap()).unwrap();
            Validator::new_with_features(WasmFeatures::all()).validate_all(&program).unwrap();
            names_of_all(&program)
        };
        assert_eq!(program(FUNCTIONS_MAX, 1).len(), 1 + FUNCTIONS_MAX);
        assert_eq!(program(FUNCTIONS_MAX + 1, 1), [format!("{SHOWN}table 0")]);
        assert_eq!(program(1_100, 980), [format!("{SHOWN}table 0")]);
    }

    /// Of all modules of a component that has no others with exports.
    fn names_of_all(program: &[u8]) -> Vec<String> {
        names(program).into_iter().filter(|name| name.starts_with(SHOWN)).collect()
    }

    #[test]
    fn only_code_that_changes_tables_counts() {
        let changed = |text: &str| are_changed(&wat::parse_str(text).unwrap()).unwrap();
        assert!(!changed(
            "(component (core module (table 1 funcref) (elem (i32.const 0) func $f) (func $f)))"
        ));
        assert!(changed(
            "(component (core module) (core module (table 1 funcref)
              (func (table.set (i32.const 0) (ref.null func)))))"
        ));
    }
}

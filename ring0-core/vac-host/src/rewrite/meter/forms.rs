//! How each function of a module gets the count: in memory, or with its arguments.
//!
//! In memory, the count is a chain of writes and reads from every call to the next, and a small function takes less time
//! than that. So a function that others of its module call is *carried* the ticks, and the depth of who calls it, as
//! its last parameters, and gives the ticks back as its last result. What is written to memory is the same in either form, but nobody
//! in between waits to read it.
//!
//! ```text
//! in memory   (func (param P) (result R))
//! carried     (func (param P ticks depth) (result R ticks))     without depth, if it takes none
//! ```
//!
//! Whoever is outside knows nothing of that. Where the forms meet stands a *gate*, a function of the meter's own:
//!
//! ```text
//! inward    what a carried function is to who does not carry the count: as an export, and within the module
//! outward   what stands in a table for a function that gets its count in memory: an import, or one that catches
//! ```
//!
//! - Invariant: the word of ticks is exact whenever control leaves a function, in either form.
//! - Invariant: the word of depth is the caller's when a function is called that reads it.

use std::collections::{BTreeMap, BTreeSet};

use vac_core::fault::Result;
use wasmparser::{
    ConstExpr, ElementItems, ElementKind, ExternalKind, Operator, Payload, RefType, TableInit, TypeRef,
    ValType,
};

use super::PLACE;
use super::facts::Facts;
use super::types::Types;
use crate::load::malformed;
use crate::rewrite::before_code;

/// Parameters and results of a function that can be carried the count: what the engine accepts, less what is added.
pub(super) const VALUES_MAX: u32 = 1_000 - 10;

/// How a function gets the count and gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// In memory. Anybody can call it.
    Memory,
    /// With its arguments.
    Carried {
        /// Whether it is told the depth of who calls it.
        depth: bool,
    },
}

impl Form {
    /// Parameters that are added.
    pub(super) fn added(self) -> u32 {
        match self {
            Self::Memory => 0,
            Self::Carried { depth } => 1 + u32::from(depth),
        }
    }
}

/// What the type of a carried function comes from: its type as it was, and whether it takes a depth.
pub(super) type Carried = (u32, bool);

/// A function of the meter's own, between the forms.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gate {
    /// Calls a carried function for somebody outside.
    Inward { function: u32, depth: bool },
    /// Calls a function that gets its count in memory, for who carries it.
    Outward { function: u32 },
}

/// The forms of all functions of a module.
#[derive(Debug, Default)]
pub(super) struct Forms {
    imported: u32,
    /// Of functions that have a body.
    forms: Vec<Form>,
    /// Whether every function that can be called through a table is carried.
    pub(super) is_closed: bool,
    pub(super) gates: Vec<Gate>,
    /// By function, its gate: what it is exported as.
    inward: BTreeMap<u32, u32>,
    /// The same: what it is in tables.
    outward: BTreeMap<u32, u32>,
}

impl Forms {
    pub(super) fn read(bytes: &[u8], types: &Types, facts: &[Facts]) -> Result<Self> {
        let mut seen = Seen::read(bytes, types)?;
        let has_tail_calls = facts.iter().any(|facts| facts.tail_calls);
        seen.is_open |= has_tail_calls || facts.iter().any(|facts| facts.asks_types);
        // Gates stand behind functions.
        seen.is_open |= facts.is_empty();
        // One that is taken in code would have to be declared anew if it were exported as another.
        seen.is_open |= facts.iter().any(|facts| !facts.takes.is_empty());
        seen.taken.extend(facts.iter().flat_map(|facts| &facts.takes));
        let called: BTreeSet<u32> = facts.iter().flat_map(|facts| &facts.callees).copied().collect();
        let imported = types.imported_functions;
        let mut forms = Self { imported, is_closed: !seen.is_open, ..Self::default() };
        for (facts, function) in facts.iter().zip(imported..) {
            let is_taken = seen.taken.contains(&function);
            let shape = types.shape(facts.ty)?;
            let can_be = !has_tail_calls && !facts.catches && shape.params.max(shape.results) <= VALUES_MAX;
            let is_carried = can_be && if is_taken { forms.is_closed } else { called.contains(&function) };
            let depth = is_taken || !facts.is_shallow;
            forms.forms.push(if is_carried { Form::Carried { depth } } else { Form::Memory });
        }
        forms.spare_leaves(&seen, facts);
        // Who gets the count in memory calls all others as somebody outside does.
        let in_memory = facts.iter().zip(&forms.forms).filter(|(_, form)| **form == Form::Memory);
        seen.shown.extend(in_memory.flat_map(|(facts, _)| &facts.callees));
        forms.add_gates(&seen, imported + facts.len() as u32);
        Ok(forms)
    }

    /// A function that calls nothing, and is called by none that carries the count, would only have a gate before it.
    fn spare_leaves(&mut self, seen: &Seen, facts: &[Facts]) {
        let carriers = facts.iter().zip(&self.forms).filter(|(_, form)| **form != Form::Memory);
        let reached: BTreeSet<u32> = carriers.flat_map(|(facts, _)| &facts.callees).copied().collect();
        for ((facts, form), function) in facts.iter().zip(&mut self.forms).zip(self.imported..) {
            if !facts.calls() && !reached.contains(&function) && !seen.taken.contains(&function) {
                *form = Form::Memory;
            }
        }
    }

    /// Gates are numbered after all functions, of which there are `count`.
    fn add_gates(&mut self, seen: &Seen, count: u32) {
        for function in &seen.shown {
            if let Form::Carried { depth } = self.of(*function) {
                self.inward.insert(*function, count + self.gates.len() as u32);
                self.gates.push(Gate::Inward { function: *function, depth });
            }
        }
        for function in seen.taken.iter().filter(|_| self.is_closed) {
            if self.of(*function) == Form::Memory {
                self.outward.insert(*function, count + self.gates.len() as u32);
                self.gates.push(Gate::Outward { function: *function });
            }
        }
    }

    pub(super) fn of(&self, function: u32) -> Form {
        let defined = function.checked_sub(self.imported);
        defined.and_then(|at| self.forms.get(at as usize)).copied().unwrap_or(Form::Memory)
    }

    /// The function that somebody outside calls for `function`, as numbers were.
    pub(super) fn shown(&self, function: u32) -> u32 {
        self.inward.get(&function).copied().unwrap_or(function)
    }

    /// The function that a reference to `function` leads to.
    pub(super) fn taken(&self, function: u32) -> u32 {
        self.outward.get(&function).copied().unwrap_or(function)
    }

    /// The types that are needed.
    pub(super) fn types(&self, types: &Types, facts: &[Facts]) -> Result<BTreeSet<Carried>> {
        let mut carried = BTreeSet::new();
        for (form, ty) in self.forms.iter().zip(types.defined()) {
            if let Form::Carried { depth } = form {
                carried.insert((*ty, *depth));
            }
        }
        if self.is_closed {
            carried.extend(facts.iter().flat_map(|facts| &facts.called_types).map(|ty| (*ty, true)));
        }
        for gate in &self.gates {
            if let Gate::Outward { function } = gate {
                carried.insert((types.of_function(*function)?, true));
            }
        }
        Ok(carried)
    }

    /// The numbers of gates, as numbers were.
    pub(super) fn numbered_gates(&self) -> impl Iterator<Item = u32> + use<> {
        let first = self.imported + self.forms.len() as u32;
        first..first + self.gates.len() as u32
    }
}

/// What can be seen of functions from outside of code.
#[derive(Debug, Default)]
struct Seen {
    /// Exported, called at the start, or called by who does not carry the count.
    shown: BTreeSet<u32>,
    /// There is a reference to it.
    taken: BTreeSet<u32>,
    /// A reference may lead out of the module or into it, or is told from others by more than the function's parameters and
    /// results.
    is_open: bool,
}

impl Seen {
    fn read(bytes: &[u8], types: &Types) -> Result<Self> {
        let mut seen = Self { is_open: !types.are_plain(), ..Self::default() };
        let mut globals = Vec::new();
        before_code(bytes, |payload| seen.section(payload, &mut globals))
            .map_err(|e| malformed(&e, PLACE))?;
        Ok(seen)
    }

    fn section(&mut self, payload: Payload<'_>, globals: &mut Vec<ValType>) -> wasmparser::Result<()> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import?.ty {
                        TypeRef::Table(_) => self.is_open = true,
                        TypeRef::Global(global) => {
                            self.is_open |= may_be_function(global.content_type);
                            globals.push(global.content_type);
                        }
                        TypeRef::Func(_) | TypeRef::FuncExact(_) | TypeRef::Memory(_) | TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    self.reference(table.ty.element_type);
                    if let TableInit::Expr(expr) = table.init {
                        self.expression(&expr)?;
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    globals.push(global.ty.content_type);
                    if let ValType::Ref(ty) = global.ty.content_type {
                        self.reference(ty);
                    }
                    self.expression(&global.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => drop(self.shown.insert(export.index)),
                        ExternalKind::Table => self.is_open = true,
                        ExternalKind::Global => {
                            let ty = globals.get(export.index as usize);
                            self.is_open |= ty.is_none_or(|ty| may_be_function(*ty));
                        }
                        ExternalKind::Memory | ExternalKind::Tag => {}
                    }
                }
            }
            Payload::StartSection { func, .. } => drop(self.shown.insert(func)),
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element?;
                    if let ElementKind::Active { offset_expr, .. } = &element.kind {
                        self.expression(offset_expr)?;
                    }
                    self.items(element.items)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A place of the module's own for references of this type.
    fn reference(&mut self, ty: RefType) {
        let plain = [RefType::FUNCREF, RefType::FUNC, RefType::EXTERNREF, RefType::EXTERN];
        self.is_open |= !plain.contains(&ty);
    }

    fn items(&mut self, items: ElementItems<'_>) -> wasmparser::Result<()> {
        match items {
            ElementItems::Functions(functions) => {
                for function in functions {
                    self.taken.insert(function?);
                }
            }
            ElementItems::Expressions(ty, expressions) => {
                self.reference(ty);
                for expression in expressions {
                    self.expression(&expression?)?;
                }
            }
        }
        Ok(())
    }

    fn expression(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        for op in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = op? {
                self.taken.insert(function_index);
            }
        }
        Ok(())
    }
}

/// Whether a value of this type may lead to a function.
pub(super) fn may_be_function(ty: ValType) -> bool {
    matches!(ty, ValType::Ref(reference) if reference != RefType::EXTERNREF && reference != RefType::EXTERN)
}

//! Functions of the meter's own, which stand where the forms of functions meet.

use wasm_encoder::{Function, Instruction as I, MemArg, NameMap, NameSection, ValType};

use super::forms::Gate;
use super::types::Shape;
use super::{DEPTH_AT, TICKS_AT};

/// What a gate is called, so that it can be left out where a guest's calls are shown.
pub(crate) const NAME: &str = "vac:meter gate";

/// The body of a gate to `callee`, a function of this shape.
pub(super) fn body(gate: Gate, shape: Shape, callee: u32, counters: u32) -> Function {
    let word = |offset| MemArg { offset, align: 3, memory_index: counters };
    let first_free = shape.params;
    match gate {
        Gate::Inward { depth, .. } => {
            let mut body = Function::new(depth.then_some((1, ValType::I64)));
            pass_on(&mut body, shape);
            body.instruction(&I::I32Const(0)).instruction(&I::I64Load(word(TICKS_AT)));
            if depth {
                body.instruction(&I::I32Const(0)).instruction(&I::I64Load(word(DEPTH_AT)));
                body.instruction(&I::LocalTee(first_free));
            }
            // The ticks that it gives back are in memory already.
            body.instruction(&I::Call(callee)).instruction(&I::Drop);
            if depth {
                // What it called may have left another.
                body.instruction(&I::I32Const(0)).instruction(&I::LocalGet(first_free));
                body.instruction(&I::I64Store(word(DEPTH_AT)));
            }
            body.instruction(&I::End);
            body
        }
        Gate::Outward { .. } => {
            let mut body = Function::new([]);
            body.instruction(&I::I32Const(0)).instruction(&I::LocalGet(first_free + 1));
            body.instruction(&I::I64Store(word(DEPTH_AT)));
            pass_on(&mut body, shape);
            body.instruction(&I::Call(callee));
            body.instruction(&I::I32Const(0)).instruction(&I::I64Load(word(TICKS_AT)));
            body.instruction(&I::End);
            body
        }
    }
}

fn pass_on(body: &mut Function, shape: Shape) {
    for arg in 0..shape.params {
        body.instruction(&I::LocalGet(arg));
    }
}

/// Adds the names of gates, which come after all others.
pub(super) fn name(names: &mut NameMap, gates: impl Iterator<Item = u32>) {
    gates.for_each(|gate| names.append(gate, NAME));
}

/// The names of gates, in a module without any.
pub(super) fn names(gates: impl Iterator<Item = u32>) -> NameSection {
    let (mut section, mut names) = (NameSection::new(), NameMap::new());
    name(&mut names, gates);
    section.functions(&names);
    section
}

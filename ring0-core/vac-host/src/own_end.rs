//! Where memory ends for a program that takes what it finds there for its own when it first allocates.
//!
//! The adapter from WASI 0.1 to 0.2 makes room for itself by growing the program's memory when it is first called. The
//! allocator of wasi-libc before `__heap_end` (2023) looks how large memory is when it is first asked for some, and
//! takes all from the end of the program's data up to there. A program that calls WASI before it allocates, as most do,
//! would have the adapter's pages in its heap. It is known by that it takes a constant, where its data ends, from the end
//! of memory.
//!
//! For such a program memory ends where it did at the start, or where its own `memory.grow` ended last: what others
//! added lies behind that, and the allocator does leave alone what it did not get itself. The program's own functions
//! keep their numbers, and its memory its addresses.

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, CustomSection, Function, FunctionSection, GlobalSection, GlobalType,
    Instruction, Module, TypeSection, ValType,
};
use wasmparser::{
    FunctionBody, Operator, OperatorsReader, Parser, Payload, TypeRef, Validator, WasmFeatures,
};

use crate::apart::ADAPTER_PAGES;
use crate::core_module::CoreModule;

const PAGE_BITS: i32 = 16;

/// `module` with an end of memory of its own, and what it shows then, if it needs that and can have it.
pub(crate) fn with_own_end(module: &[u8], core: &CoreModule) -> Option<(Vec<u8>, CoreModule)> {
    if !core.uses_wasi || core.has_world || core.memories != 1 {
        return None;
    }
    let mut own = OwnEnd::of(module).ok().flatten()?;
    // What is added could make valid what is not.
    Validator::new_with_features(WasmFeatures::all()).validate_all(module).ok()?;
    let mut changed = Module::new();
    own.parse_core_module(&mut changed, Parser::new(0), module).ok()?;
    let (types, all_functions) = (own.types + 1, own.functions + 1);
    Some((changed.finish(), CoreModule { types, all_functions, ..core.clone() }))
}

/// Whether a program can see that its memory is larger than it made it, or has no room for more.
pub(crate) fn sees_its_size(module: &[u8]) -> wasmparser::Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        let sees = match payload? {
            Payload::MemorySection(memories) => {
                let all = memories.into_iter().collect::<wasmparser::Result<Vec<_>>>()?;
                all.iter().any(|memory| {
                    memory.maximum.is_some_and(|most| most < memory.initial.saturating_add(ADAPTER_PAGES))
                })
            }
            Payload::CodeSectionEntry(body) => any(body.get_operators_reader()?, |op| {
                matches!(op, Operator::MemorySize { .. } | Operator::MemoryGrow { .. })
            })?,
            _ => false,
        };
        if sees {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A program that gets an end of its own.
#[derive(Default)]
struct OwnEnd {
    /// How many there were of each; what is added comes behind.
    types: u32,
    functions: u32,
    globals: u32,
    /// Of the memory, at the start.
    pages: u32,
}

impl OwnEnd {
    /// Nothing, if the module does not need it, or cannot have it.
    fn of(module: &[u8]) -> wasmparser::Result<Option<Self>> {
        let (mut own, mut bodies, mut is_other) = (Self::default(), Vec::new(), false);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(groups) => {
                    for group in groups {
                        own.types += group?.types().len() as u32;
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        is_other |= !matches!(import?.ty, TypeRef::Func(_));
                        own.functions += 1;
                    }
                }
                Payload::FunctionSection(functions) => own.functions += functions.count(),
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        let memory = memory?;
                        is_other |= memory.memory64 || memory.shared || memory.page_size_log2.is_some();
                        own.pages = u32::try_from(memory.initial).unwrap_or(u32::MAX);
                    }
                }
                Payload::GlobalSection(globals) => own.globals = globals.count(),
                Payload::CodeSectionEntry(body) => bodies.push(body),
                _ => {}
            }
        }
        let can = !is_other && own.globals > 0;
        Ok((can && own.takes_what_it_finds(&bodies)?).then_some(own))
    }

    /// Whether a constant is taken from the end of memory, which a function may give that is asked to add nothing.
    fn takes_what_it_finds(&self, bodies: &[FunctionBody<'_>]) -> wasmparser::Result<bool> {
        let imported = self.functions.saturating_sub(bodies.len() as u32);
        let mut ask = Vec::new();
        for (body, number) in bodies.iter().zip(imported..) {
            if any(body.get_operators_reader()?, |op| matches!(op, Operator::MemorySize { .. }))? {
                ask.push(number);
            }
        }
        for body in bodies {
            let mut seen = Seen::Other;
            if !ask.is_empty()
                && any(body.get_operators_reader()?, |op| {
                    seen = seen.then(op, &ask);
                    seen == Seen::Difference
                })?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn grow(&self) -> u32 {
        self.functions
    }

    /// `memory.grow` as the program means it.
    fn helper(&self) -> Function {
        let (more, before) = (0, 1);
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        // To grow by nothing is to ask for the size.
        code.local_get(more).i32_eqz().if_(BlockType::Empty);
        code.global_get(self.globals).return_().end();
        code.local_get(more).memory_grow(0).local_tee(before).i32_const(-1).i32_ne().if_(BlockType::Empty);
        code.local_get(before).local_get(more).i32_add().global_set(self.globals).end();
        code.local_get(before).end();
        function
    }
}

fn any(
    mut operators: OperatorsReader<'_>,
    mut is_it: impl FnMut(&Operator<'_>) -> bool,
) -> wasmparser::Result<bool> {
    while !operators.eof() {
        if is_it(&operators.read()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the last instructions have left on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Other,
    /// Zero.
    Nothing,
    /// The size of memory in pages.
    Pages,
    /// That, and by what it becomes bytes: a shift, a factor.
    PagesAndBits,
    PagesAndBytes,
    /// The end of memory.
    End,
    /// That, and a constant.
    EndAndBase,
    /// What lies between them.
    Difference,
}

impl Seen {
    fn then(self, op: &Operator<'_>, ask: &[u32]) -> Self {
        match (self, op) {
            (_, Operator::MemorySize { .. }) => Self::Pages,
            (Self::Pages, Operator::I32Const { value: PAGE_BITS }) => Self::PagesAndBits,
            (Self::Pages, Operator::I32Const { value: 0x10000 }) => Self::PagesAndBytes,
            (Self::PagesAndBits, Operator::I32Shl) | (Self::PagesAndBytes, Operator::I32Mul) => Self::End,
            (Self::Nothing, Operator::Call { function_index })
                if ask.binary_search(function_index).is_ok() =>
            {
                Self::End
            }
            (Self::End, Operator::LocalTee { .. }) => Self::End,
            (Self::End, Operator::I32Const { value }) if ![0, -1].contains(value) => Self::EndAndBase,
            (Self::EndAndBase, Operator::I32Sub | Operator::I32Add) => Self::Difference,
            (_, Operator::I32Const { value: 0 }) => Self::Nothing,
            _ => Self::Other,
        }
    }
}

impl Reencode for OwnEnd {
    type Error = std::convert::Infallible;

    fn instruction<'a>(&mut self, op: Operator<'a>) -> Result<Instruction<'a>, Error<Self::Error>> {
        Ok(match op {
            Operator::MemorySize { .. } => Instruction::GlobalGet(self.globals),
            Operator::MemoryGrow { .. } => Instruction::Call(self.grow()),
            other => utils::instruction(self, other)?,
        })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.types);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_global_section(self, globals, section)?;
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(self.pages.cast_signed()));
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.helper());
        Ok(())
    }

    /// They speak of the program's own functions, whose numbers stay.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        module.section(&CustomSection { name: section.name().into(), data: section.data().into() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What wasi-libc had: `sbrk`, and who asks it for nothing.
    fn module(sbrk: &str, init: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
              (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
              (memory (export "memory") 2)
              (global (mut i32) (i32.const 65536))
              (func $sbrk (param i32) (result i32) {sbrk})
              (func $init (result i32) {init})
              (func (export "_start") (drop (call $init))))"#
        );
        wat::parse_str(text).unwrap()
    }

    const SIZE: &str = "(if (i32.eqz (local.get 0)) (then (return (i32.shl (memory.size) (i32.const 16)))))
        (i32.shl (memory.grow (i32.shr_u (local.get 0) (i32.const 16))) (i32.const 16))";

    #[test]
    fn who_takes_what_it_finds_is_known() {
        let inlined = "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 70000))";
        for (init, takes) in [
            ("(i32.sub (call $sbrk (i32.const 0)) (i32.const 70000))", true),
            ("(i32.add (call $sbrk (i32.const 0)) (i32.const -70000))", true),
            ("(local i32) (i32.sub (local.tee 0 (call $sbrk (i32.const 0))) (i32.const 70000))", true),
            (inlined, true),
            // What grew is known by who let it grow.
            ("(i32.sub (call $sbrk (i32.const 65536)) (i32.const 70000))", false),
            ("(local i32) (i32.sub (call $sbrk (i32.const 0)) (local.get 0))", false),
            ("(i32.const 131072)", false),
        ] {
            let found = OwnEnd::of(&module(SIZE, init)).unwrap();
            assert_eq!(found.is_some(), takes, "{init}");
        }
        assert!(OwnEnd::of(&module("(memory.grow (local.get 0))", inlined)).unwrap().is_some());
        assert!(OwnEnd::of(&module("(local.get 0)", "(i32.const 1)")).unwrap().is_none());
    }
}

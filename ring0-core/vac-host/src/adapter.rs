//! The adapter from WASI 0.1 to 0.2, with what it has not.
//!
//! The adapter ends the program in functions that it does not implement: sockets and signals. A
//! program may call them all the same, for example to learn that its output is no socket, and WASI
//! 0.1 has error numbers for that. So their bodies are replaced before the adapter is used. A write of no buffers at
//! all succeeded whatever it wrote to; now it looks at the descriptor. All other bytes stay.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{CodeSection, Function, Module, RawSection, ValType};
use wasmparser::{CodeSectionReader, FunctionBody, KnownCustom, Name, Operator, Parser, Payload, TypeRef};

/// Functions that take a descriptor first, and how many parameters they have. No descriptor is a
/// socket, so the answer is `notsock` if it is open and what the adapter says if it is not.
const OF_SOCKETS: [(&str, u32); 4] =
    [("sock_accept", 3), ("sock_recv", 6), ("sock_send", 5), ("sock_shutdown", 2)];

/// Writes buffers.
const WRITE: &str = "fd_write";
/// Says whether a descriptor is open; writes 24 bytes.
const STATUS_OF_FD: &str = "fd_fdstat_get";
/// Room for those bytes on the adapter's own stack, which is aligned to 16.
const STATUS_BYTES: i32 = 32;

/// Error numbers of WASI 0.1.
const NOTSOCK: i32 = 57;
const NOTSUP: i32 = 58;

/// What must be known of the adapter to replace functions of it.
#[derive(Default)]
struct Parts<'a> {
    adapter: &'a [u8],
    bodies: Vec<FunctionBody<'a>>,
    functions_imported: u32,
    exports: BTreeMap<&'a str, u32>,
    stack_pointer: Option<u32>,
}

impl<'a> Parts<'a> {
    fn of(adapter: &'a [u8]) -> wasmparser::Result<Self> {
        let mut parts = Self { adapter, ..Self::default() };
        for payload in Parser::new(0).parse_all(adapter) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        parts.functions_imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        parts.exports.insert(export.name, export.index);
                    }
                }
                Payload::CodeSectionEntry(body) => parts.bodies.push(body),
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        parts.find_stack_pointer(names)?;
                    }
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    fn find_stack_pointer(&mut self, names: wasmparser::NameSectionReader<'_>) -> wasmparser::Result<()> {
        for name in names {
            let Name::Global(globals) = name? else { continue };
            for global in globals {
                let global = global?;
                if global.name == "__stack_pointer" {
                    self.stack_pointer = Some(global.index);
                }
            }
        }
        Ok(())
    }

    fn export(&self, name: &str) -> Result<u32, String> {
        self.exports.get(name).copied().ok_or_else(|| format!("the adapter has no `{name}`"))
    }

    /// The bodies to replace, by their place in the code section.
    fn replaced(&self) -> Result<BTreeMap<u32, Function>, String> {
        let mut bodies = BTreeMap::new();
        for (name, parameters) in OF_SOCKETS {
            bodies.insert(self.body(name)?, self.not_a_socket(parameters)?);
        }
        bodies.insert(self.body("proc_raise")?, not_supported());
        bodies.insert(self.body(WRITE)?, self.looks_first().map_err(|e| e.to_string())??);
        Ok(bodies)
    }

    /// `fd_write` that, without buffers, gives what [`STATUS_OF_FD`] gives if that is an error.
    fn looks_first(&self) -> wasmparser::Result<Result<Function, String>> {
        let not_found = || Err(format!("the adapter's `{WRITE}` is another"));
        let body = self.body(WRITE).ok().and_then(|index| self.bodies.get(index as usize));
        let (Some(body), Ok(status_of_fd)) = (body, self.export(STATUS_OF_FD)) else {
            return Ok(not_found());
        };
        let operators = body.get_operators_reader()?.into_iter_with_offsets();
        let operators = operators.collect::<wasmparser::Result<Vec<_>>>()?;
        let mut found = operators.windows(NOTHING_WRITTEN).filter(|operators| is_nothing_written(operators));
        let (Some([(_, from), _, (_, to), ..]), None) = (found.next(), found.next()) else {
            return Ok(not_found());
        };
        let start = operators.first().map_or(*from, |(_, start)| *start);
        let parts = (self.adapter.get(start..*from), self.adapter.get(*to..body.range().end));
        let (Some(before), Some(after)) = parts else { return Ok(not_found()) };
        let mut locals = Vec::new();
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            let Ok(ty) = RoundtripReencoder.val_type(ty) else { return Ok(not_found()) };
            locals.push((count, ty));
        }
        let mut function = Function::new(locals);
        function.raw(before.iter().copied());
        // The function's frame on the adapter's stack, in its local 4, has room for the status.
        let mut code = function.instructions();
        code.local_get(0).local_get(4).call(status_of_fd).local_tee(1).br_if(4);
        function.raw(after.iter().copied());
        Ok(Ok(function))
    }

    fn body(&self, name: &str) -> Result<u32, String> {
        let index = self.export(name)?.checked_sub(self.functions_imported);
        index.ok_or_else(|| format!("the adapter imports `{name}`"))
    }

    fn not_a_socket(&self, parameters: u32) -> Result<Function, String> {
        let stack = self.stack_pointer.ok_or("the adapter has no stack pointer")?;
        let status_of_fd = self.export(STATUS_OF_FD)?;
        let errno = parameters;
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        code.global_get(stack).i32_const(STATUS_BYTES).i32_sub().global_set(stack);
        code.local_get(0).global_get(stack).call(status_of_fd).local_set(errno);
        code.global_get(stack).i32_const(STATUS_BYTES).i32_add().global_set(stack);
        code.local_get(errno).i32_const(NOTSOCK).local_get(errno).select().end();
        Ok(function)
    }
}

/// How many operators [`is_nothing_written`] looks at.
const NOTHING_WRITTEN: usize = 6;

/// Whether this is where [`WRITE`] has no buffers: no error, nothing written, and out.
fn is_nothing_written(operators: &[(Operator<'_>, usize)]) -> bool {
    use Operator as O;
    let operators: Vec<&Operator<'_>> = operators.iter().map(|(operator, _)| operator).collect();
    matches!(
        operators[..],
        [
            O::I32Const { value: 0 },
            O::LocalSet { local_index: 1 },
            O::LocalGet { local_index: 3 },
            O::I32Const { value: 0 },
            O::I32Store { .. },
            O::Br { relative_depth: 4 },
        ]
    )
}

fn not_supported() -> Function {
    let mut function = Function::new([]);
    function.instructions().i32_const(NOTSUP).end();
    function
}

/// `adapter` with the functions that it has not.
pub(crate) fn complete(adapter: &[u8]) -> Result<Vec<u8>, String> {
    let replaced = Parts::of(adapter).map_err(|e| e.to_string())?.replaced()?;
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(adapter) {
        let payload = payload.map_err(|e| e.to_string())?;
        if let Payload::CodeSectionStart { range, .. } = &payload {
            let section = adapter.get(range.clone()).ok_or("a section outside of the file")?;
            module.section(&code(section, &replaced).map_err(|e| e.to_string())?);
        } else if let Some((id, range)) = payload.as_section() {
            let data = adapter.get(range).ok_or("a section outside of the file")?;
            module.section(&RawSection { id, data });
        }
    }
    Ok(module.finish())
}

fn code(section: &[u8], replaced: &BTreeMap<u32, Function>) -> wasmparser::Result<CodeSection> {
    let mut code = CodeSection::new();
    let bodies = CodeSectionReader::new(wasmparser::BinaryReader::new(section, 0))?;
    for (body, index) in bodies.into_iter().zip(0..) {
        match replaced.get(&index) {
            Some(function) => code.function(function),
            None => code.raw(body?.as_bytes()),
        };
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };

    #[test]
    fn only_the_named_functions_are_replaced() {
        for adapter in [WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER] {
            let completed = complete(adapter).unwrap();
            wasmparser::validate(&completed).unwrap();
            let (before, after) = (bodies(adapter), bodies(&completed));
            let replaced = Parts::of(adapter).unwrap().replaced().unwrap();
            assert_eq!((before.len(), replaced.len()), (after.len(), 6));
            for (i, (before, after)) in before.iter().zip(&after).enumerate() {
                assert_eq!(before == after, !replaced.contains_key(&(i as u32)), "function {i}");
            }
        }
    }

    fn bodies(module: &[u8]) -> Vec<Vec<u8>> {
        let payloads = Parser::new(0).parse_all(module).map(Result::unwrap);
        let bodies = payloads.filter_map(|payload| match payload {
            Payload::CodeSectionEntry(body) => Some(body.as_bytes().to_vec()),
            _ => None,
        });
        bodies.collect()
    }
}

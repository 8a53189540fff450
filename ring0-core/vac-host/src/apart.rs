//! Room for the adapter, apart from the memory of a program that believes that all memory is its own.
//!
//! The adapter from WASI 0.1 to 0.2 works in the program's memory, and makes room for itself by growing it. Most
//! allocators look where memory grew, and leave alone what others added. Those of AssemblyScript, Go and TinyGo do not:
//! they ask how large memory is and take all of it. A program is taken for one like that if it asks for the size of its
//! memory and never uses what `memory.grow` gives but to see whether it failed; or to store it at once, for a caller who
//! sees that (Go). A program whose memory cannot grow by two pages has no room for the adapter, and is one, too.
//!
//! Such a program gets three pages more, below its own, and does not see them:
//!
//! ```text
//! 0        1        2        3
//! +--------+-----------------+-----------------------
//! | marks  |  the adapter's  |  the program's memory
//! +--------+-----------------+-----------------------
//!                            0
//! ```
//!
//! The offset of every load and store, and of every segment of data, is larger by that; so they trap where they did.
//! What else has an address goes through functions that are added: `memory.size` and its like, and those imports
//! that take pointers; one that would be beyond all memory traps. The adapter asks the program for memory by
//! `cabi_realloc`, which gives the two pages.
//!
//! - Invariant: what the program computes is as before, but that its memory can grow to three pages less, 65,533;
//!   numbers of its own functions stay.
//! - Invariant: a list of buffers is only read; what the adapter gets instead is among the marks.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, CustomSection, DataSection, ExportKind, ExportSection, Function,
    FunctionSection, Instruction, InstructionSink, MemArg, Module, TypeSection, ValType,
};
use wasmparser::{CompositeInnerType, DataKind, FuncType, Operator, Parser, Payload, TypeRef};

use crate::adapt::WASI_01;
use crate::core_module::CoreModule;

/// Pages below the program's: one for marks, two for the adapter, which asks for one at a time.
const PAGES: u32 = 3;
pub(crate) const ADAPTER_PAGES: u64 = 2;
const PAGE_BYTES: u32 = 64 << 10;
const BELOW: u32 = PAGES * PAGE_BYTES;
/// As many as a memory can have.
const MOST_PAGES: u64 = 1 << 16;

/// Where the next page for the adapter is written, or zero for the first.
const NEXT_AT: i32 = 8;
/// Where the numbers of arguments or variables, and of their bytes, are put.
const SIZES_AT: i32 = 16;
/// Where the pointer to the only buffer that the adapter gets, and its length, are put.
const BUFFER_AT: i32 = 24;

/// What TinyGo exports beside `_start`, for hosts that nobody wrote.
const ALLOCATOR: [&str; 4] = ["malloc", "free", "calloc", "realloc"];
/// Why nothing but `_start` can be called then.
const UNCALLABLE: &str = "the program's memory does not begin where its caller would look";

/// What the encoder and the adapter look for.
const REALLOC: &str = "cabi_realloc";
/// Its other name.
const OLD_REALLOC: &str = "canonical_abi_realloc";

/// What is behind the pointers of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// Bytes and numbers.
    Plain,
    /// Of the first one, pointers to buffers and their lengths, as many as the parameter after it says.
    Buffers,
    /// Of the first one, pointers that it writes, as many as the named function says.
    Written(&'static str),
}

/// The functions of WASI 0.1 that have pointers, and which parameters those are.
const POINTERS: [(&str, &[u32], Behind); 32] = [
    ("args_get", &[0, 1], Behind::Written("args_sizes_get")),
    ("args_sizes_get", &[0, 1], Behind::Plain),
    ("environ_get", &[0, 1], Behind::Written("environ_sizes_get")),
    ("environ_sizes_get", &[0, 1], Behind::Plain),
    ("clock_res_get", &[1], Behind::Plain),
    ("clock_time_get", &[2], Behind::Plain),
    ("fd_fdstat_get", &[1], Behind::Plain),
    ("fd_filestat_get", &[1], Behind::Plain),
    ("fd_pread", &[1, 4], Behind::Buffers),
    ("fd_prestat_dir_name", &[1], Behind::Plain),
    ("fd_prestat_get", &[1], Behind::Plain),
    ("fd_pwrite", &[1, 4], Behind::Buffers),
    ("fd_read", &[1, 3], Behind::Buffers),
    ("fd_readdir", &[1, 4], Behind::Plain),
    ("fd_seek", &[3], Behind::Plain),
    ("fd_tell", &[1], Behind::Plain),
    ("fd_write", &[1, 3], Behind::Buffers),
    ("path_create_directory", &[1], Behind::Plain),
    ("path_filestat_get", &[2, 4], Behind::Plain),
    ("path_filestat_set_times", &[2], Behind::Plain),
    ("path_link", &[2, 5], Behind::Plain),
    ("path_open", &[2, 8], Behind::Plain),
    ("path_readlink", &[1, 3, 5], Behind::Plain),
    ("path_remove_directory", &[1], Behind::Plain),
    ("path_rename", &[1, 4], Behind::Plain),
    ("path_symlink", &[0, 3], Behind::Plain),
    ("path_unlink_file", &[1], Behind::Plain),
    ("poll_oneoff", &[0, 1, 3], Behind::Plain),
    ("random_get", &[0], Behind::Plain),
    ("sock_accept", &[2], Behind::Plain),
    ("sock_recv", &[1, 4, 5], Behind::Buffers),
    ("sock_send", &[1, 4], Behind::Buffers),
];

/// Those that have none.
const WITHOUT: [&str; 14] = [
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_renumber",
    "fd_sync",
    "proc_exit",
    "proc_raise",
    "sched_yield",
    "sock_shutdown",
];

/// `module` with room for the adapter and what it shows then, if it needs that and can have it.
pub(crate) fn with_room(module: &[u8], core: &CoreModule) -> Option<(Vec<u8>, CoreModule)> {
    let is_command = core.has_start && core.uses_wasi && !core.has_world;
    if !is_command || core.memories != 1 || !core.foreign.is_empty() {
        return None;
    }
    let is_alone = core.functions.iter().all(|function| ALLOCATOR.contains(&function.name.as_str()));
    let mut apart = Apart::of(module, is_alone).ok().flatten()?;
    let mut moved = Module::new();
    apart.parse_core_module(&mut moved, Parser::new(0), module).ok()?;
    let all_functions = apart.functions + HELPERS + apart.stand_ins.len() as u32;
    let mut core = CoreModule { types: apart.types + TYPES, all_functions, below: BELOW, ..core.clone() };
    let hidden = std::mem::take(&mut core.functions).into_iter();
    core.uncallable.extend(hidden.map(|function| (function.name, UNCALLABLE.to_owned())));
    Some((moved.finish(), core))
}

/// A function of WASI 0.1 that the program imports.
#[derive(Debug, Clone)]
struct Import {
    index: u32,
    ty: u32,
    params: u32,
    name: String,
}

/// The functions that are added, after the program's own and in this order; then one for each import with pointers.
const SIZE: u32 = 0;
const GROW: u32 = 1;
const FILL: u32 = 2;
const COPY: u32 = 3;
const GIVE: u32 = 4;
const HELPERS: u32 = 5;
/// The types that are added for them, after the program's own.
const TYPES: u32 = 4;

/// A program whose memory is being moved up.
struct Apart {
    imports: Vec<Import>,
    /// By the number of an import, that of what is called instead.
    stand_ins: BTreeMap<u32, u32>,
    types: u32,
    functions: u32,
}

/// What there is to know of a module.
#[derive(Default)]
struct Reading {
    types: Vec<Option<FuncType>>,
    imports: Vec<Import>,
    functions: u32,
    /// Or knows without.
    asks_size: bool,
    grows: bool,
    looks_where: bool,
    has_own_realloc: bool,
    is_other: bool,
    /// Whether memory cannot grow by the pages that the adapter needs.
    is_full: bool,
}

impl Reading {
    fn section(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(groups) => {
                for group in groups {
                    for ty in group?.types() {
                        self.types.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty.clone()),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory?;
                    let needed = memory.initial.saturating_add(ADAPTER_PAGES);
                    self.is_full |= memory.maximum.is_some_and(|most| most < needed);
                }
            }
            Payload::FunctionSection(functions) => self.functions += functions.count(),
            Payload::ExportSection(exports) => {
                for export in exports {
                    self.has_own_realloc |= [REALLOC, OLD_REALLOC].contains(&export?.name);
                }
            }
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) {
        let func = match ty {
            TypeRef::Func(ty) => self.types.get(ty as usize).cloned().flatten().map(|func| (ty, func)),
            _ => None,
        };
        let is_known = POINTERS.iter().any(|(known, ..)| *known == name) || WITHOUT.contains(&name);
        let Some((ty, func)) = func.filter(|_| module == WASI_01 && is_known) else {
            self.is_other = true;
            return;
        };
        let params = func.params().len() as u32;
        // The adapter would refuse another type.
        let last = POINTERS.iter().find(|(known, ..)| *known == name).and_then(|(_, at, _)| at.last());
        self.is_other |= last.is_some_and(|last| *last >= params) || func.results().len() > 1;
        self.imports.push(Import { index: self.functions, ty, params, name: name.to_owned() });
        self.functions += 1;
    }

    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> wasmparser::Result<()> {
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            match operators.read()? {
                Operator::MemorySize { .. } => self.asks_size = true,
                Operator::MemoryGrow { .. } => {
                    let is_stored = matches!(operators.clone().read()?, Operator::I32Store { .. });
                    // Go knows where its memory ends without asking.
                    self.asks_size |= is_stored;
                    self.grows = true;
                    self.looks_where |= !is_stored && !only_sees_failure(operators.clone())?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether what follows on `memory.grow` only sees whether it failed.
fn only_sees_failure(mut operators: wasmparser::OperatorsReader<'_>) -> wasmparser::Result<bool> {
    Ok(match operators.read()? {
        Operator::Drop => true,
        Operator::I32Const { value: 0 } => {
            matches!(operators.read()?, Operator::I32LtS | Operator::I32GeS)
        }
        Operator::I32Const { value: -1 } => matches!(operators.read()?, Operator::I32Eq | Operator::I32Ne),
        _ => false,
    })
}

impl Apart {
    /// Nothing, if the module needs no room, or cannot have it. `is_alone`: nobody calls into it, but for `_start`.
    fn of(module: &[u8], is_alone: bool) -> wasmparser::Result<Option<Self>> {
        let mut reading = Reading::default();
        for payload in Parser::new(0).parse_all(module) {
            reading.section(payload?)?;
        }
        let Reading { types, imports, functions, .. } = reading;
        let takes_all = is_alone && reading.asks_size && reading.grows && !reading.looks_where;
        let can = !reading.has_own_realloc && !reading.is_other;
        let mut apart = Self { imports, stand_ins: BTreeMap::new(), types: types.len() as u32, functions };
        let with_pointers: Vec<u32> = apart.with_pointers().map(|import| import.index).collect();
        apart.stand_ins = with_pointers.into_iter().zip(functions + HELPERS..).collect();
        let counts = |import: &Import| match behind(import) {
            Behind::Written(sizes) => apart.number(sizes).is_some(),
            _ => true,
        };
        Ok(((takes_all || reading.is_full) && can && apart.with_pointers().all(counts)).then_some(apart))
    }

    fn with_pointers(&self) -> impl Iterator<Item = &Import> {
        self.imports.iter().filter(|import| !pointers(import).is_empty())
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.imports.iter().find(|import| import.name == name).map(|import| import.index)
    }

    /// What is called instead of `import`.
    fn stand_in(&self, import: &Import) -> Function {
        let result = import.params;
        let mut function = Function::new([(2, ValType::I32)]);
        let mut code = function.instructions();
        let first = pointers(import).first().copied().unwrap_or_default();
        let has_buffers = behind(import) == Behind::Buffers;
        for at in pointers(import).iter().skip(usize::from(has_buffers)) {
            up(&mut code, *at);
            code.local_set(*at);
        }
        if has_buffers {
            pass_one_buffer(&mut code, (first, first + 1), result + 1);
        }
        for param in 0..import.params {
            code.local_get(param);
        }
        code.call(import.index).local_set(result);
        if let Behind::Written(sizes) = behind(import) {
            let sizes = self.number(sizes).unwrap_or_default();
            code.local_get(result).i32_eqz().if_(BlockType::Empty);
            code.i32_const(SIZES_AT).i32_const(SIZES_AT + 4).call(sizes).drop();
            // The second pointer is not needed any more.
            code.i32_const(SIZES_AT).i32_load(word(0)).local_tee(1).if_(BlockType::Empty);
            move_down(&mut code, (first, 1), result + 1);
            code.end().end();
        }
        code.local_get(result).end();
        function
    }
}

fn pointers(import: &Import) -> &'static [u32] {
    POINTERS.iter().find(|(name, ..)| *name == import.name).map_or(&[], |(_, at, _)| at)
}

fn behind(import: &Import) -> Behind {
    POINTERS.iter().find(|(name, ..)| *name == import.name).map_or(Behind::Plain, |(.., behind)| *behind)
}

fn word(offset: u64) -> MemArg {
    MemArg { offset, align: 2, memory_index: 0 }
}

/// Replaces `(list, count)`, parameters that say where buffers are, by a list of one: the first that is not empty, or
/// the last. The adapter would look at no other. A list of none stays that.
fn pass_one_buffer(code: &mut InstructionSink<'_>, (list, count): (u32, u32), buffer: u32) {
    code.local_get(count).if_(BlockType::Empty);
    up(code, list);
    code.local_set(list);
    code.block(BlockType::Empty).loop_(BlockType::Empty);
    code.local_get(count).i32_const(1).i32_le_u().br_if(1);
    code.local_get(list).i32_load(word(4)).br_if(1);
    code.local_get(count).i32_const(1).i32_sub().local_set(count);
    code.local_get(list).i32_const(8).i32_add().local_tee(list);
    // Past the end of all memory it would be below the program's.
    code.i32_const(BELOW as i32).i32_lt_u().if_(BlockType::Empty).unreachable().end();
    code.br(0).end().end();
    code.local_get(list).i32_load(word(0)).local_set(buffer);
    code.i32_const(BUFFER_AT);
    up(code, buffer);
    code.i32_store(word(0));
    code.i32_const(BUFFER_AT).local_get(list).i32_load(word(4)).i32_store(word(4));
    code.i32_const(1).local_set(count).end();
    code.i32_const(BUFFER_AT).local_set(list);
}

/// Makes as many pointers as the second of `(list, count)` says, at least one, those that the program knows.
fn move_down(code: &mut InstructionSink<'_>, (list, count): (u32, u32), next: u32) {
    let place = |code: &mut InstructionSink<'_>| {
        code.local_get(next).i32_const(4).i32_mul().local_get(list).i32_add();
    };
    code.i32_const(0).local_set(next).loop_(BlockType::Empty);
    place(code);
    place(code);
    code.i32_load(word(0)).i32_const(BELOW as i32).i32_sub().i32_store(word(0));
    code.local_get(next).i32_const(1).i32_add().local_tee(next).local_get(count).i32_lt_u().br_if(0).end();
}

/// `memory.size`, `memory.grow`, `memory.fill`, `memory.copy` as the program means them, and what gives the adapter its
/// pages.
fn helpers() -> [Function; HELPERS as usize] {
    let made = |locals: u32, write: &dyn Fn(&mut InstructionSink<'_>)| {
        let mut function = Function::new([(locals, ValType::I32)]);
        write(&mut function.instructions());
        function
    };
    let size = made(0, &|code| {
        code.memory_size(0).i32_const(PAGES as i32).i32_sub().end();
    });
    let grow = made(0, &|code| {
        code.local_get(0).memory_grow(0).local_tee(0).i32_const(PAGES as i32).i32_sub().i32_const(-1);
        code.local_get(0).i32_const(-1).i32_ne().select().end();
    });
    let fill = made(0, &|code| {
        up(code, 0);
        code.local_get(1).local_get(2).memory_fill(0).end();
    });
    let copy = made(0, &|code| {
        up(code, 0);
        up(code, 1);
        code.local_get(2).memory_copy(0, 0).end();
    });
    // The parameters are an old place, its size, the alignment, and the new size.
    let give = made(2, &|code| {
        let (size, at, next) = (3, 4, 5);
        code.i32_const(NEXT_AT).i32_load(word(0)).local_tee(at).i32_eqz().if_(BlockType::Empty);
        code.i32_const(PAGE_BYTES as i32).local_set(at).end();
        code.local_get(size).i32_const(PAGE_BYTES as i32).i32_gt_u();
        code.local_get(at).i32_const((BELOW - PAGE_BYTES) as i32).i32_gt_u().i32_or();
        code.if_(BlockType::Empty).unreachable().end();
        code.local_get(at).i32_const(PAGE_BYTES as i32).i32_add().local_set(next);
        code.i32_const(NEXT_AT).local_get(next).i32_store(word(0)).local_get(at).end();
    });
    [size, grow, fill, copy, give]
}

/// The place that a parameter or a local means. One that is beyond all memory traps, as a load there does.
fn up(code: &mut InstructionSink<'_>, param: u32) {
    code.local_get(param).i32_const(-1 - BELOW as i32).i32_gt_u();
    code.if_(BlockType::Empty).unreachable().end();
    code.local_get(param).i32_const(BELOW as i32).i32_add();
}

fn cannot<T>(what: &'static str) -> Result<T, Error<&'static str>> {
    Err(Error::UserError(what))
}

impl Reencode for Apart {
    type Error = &'static str;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Self::Error>> {
        Ok(self.stand_ins.get(&function).copied().unwrap_or(function))
    }

    fn mem_arg(&mut self, arg: wasmparser::MemArg) -> Result<MemArg, Error<Self::Error>> {
        let mut arg = utils::mem_arg(self, arg)?;
        arg.offset = arg.offset.saturating_add(BELOW.into());
        if arg.offset > u32::MAX.into() { cannot("an offset at the end of all memory") } else { Ok(arg) }
    }

    fn memory_type(
        &mut self,
        ty: wasmparser::MemoryType,
    ) -> Result<wasm_encoder::MemoryType, Error<Self::Error>> {
        let mut ty = utils::memory_type(self, ty);
        if ty.memory64 || ty.shared || ty.page_size_log2.is_some() {
            return cannot("a memory of another kind");
        }
        ty.minimum = ty.minimum.saturating_add(PAGES.into());
        if ty.minimum > MOST_PAGES {
            return cannot("a memory that leaves no room");
        }
        ty.maximum = ty.maximum.map(|most| most.saturating_add(PAGES.into()).min(MOST_PAGES));
        Ok(ty)
    }

    fn instruction<'a>(&mut self, op: Operator<'a>) -> Result<Instruction<'a>, Error<Self::Error>> {
        Ok(match op {
            Operator::MemorySize { .. } => Instruction::Call(self.functions + SIZE),
            Operator::MemoryGrow { .. } => Instruction::Call(self.functions + GROW),
            Operator::MemoryFill { .. } => Instruction::Call(self.functions + FILL),
            Operator::MemoryCopy { .. } => Instruction::Call(self.functions + COPY),
            Operator::MemoryInit { .. } => return cannot("a segment that is put somewhere later"),
            other => utils::instruction(self, other)?,
        })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], [ValType::I32]);
        types.ty().function([ValType::I32], [ValType::I32]);
        types.ty().function([ValType::I32; 3], []);
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_function_section(self, functions, section)?;
        let of_helpers: [u32; HELPERS as usize] = [0, 1, 2, 2, 3];
        let of_stand_ins = self.with_pointers().map(|import| import.ty);
        for ty in of_helpers.map(|ty| self.types + ty).into_iter().chain(of_stand_ins) {
            functions.function(ty);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_code_section(self, code, section)?;
        let stand_ins = self.with_pointers().map(|import| self.stand_in(import));
        for function in helpers().into_iter().chain(stand_ins) {
            code.function(&function);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(REALLOC, ExportKind::Func, self.functions + GIVE);
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

    fn parse_data_section(
        &mut self,
        data: &mut DataSection,
        section: wasmparser::DataSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        for segment in section {
            let segment = segment?;
            let DataKind::Active { memory_index, offset_expr } = segment.kind else {
                data.passive(segment.data.iter().copied());
                continue;
            };
            let mut offset = offset_expr.get_operators_reader();
            let (Operator::I32Const { value }, Operator::End) = (offset.read()?, offset.read()?) else {
                return cannot("a segment at a place that is computed");
            };
            let Some(value) = (value as u32).checked_add(BELOW) else {
                return cannot("a segment at the end of all memory");
            };
            data.active(memory_index, &ConstExpr::i32_const(value as i32), segment.data.iter().copied());
        }
        Ok(())
    }
}

//! The core module of a player: it answers each call with the next event of the record.
//!
//! Memory holds the image of all answers, then a row for each event, then an arena for the arguments of one
//! call. A call takes the row at the cursor, which must be of its function and, where the record has them, of its
//! arguments; makes the handles of the answer; and gives back what is at a fixed address. So the module has no
//! logic of any interface, and what it does depends on the rows alone.

use vac_core::fault::Result;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink, MemArg, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Handle, Type, TypeDefKind};

use super::image::Image;
use super::world::{Asked, Kind, Needs};

/// What happens at an event besides its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Then {
    /// Nothing.
    #[default]
    Answer,
    /// Bytes of the image are printed on the standard output.
    Stdout,
    /// Bytes of the image are printed on the standard error.
    Stderr,
    /// Bytes of the image are printed on the standard error, and the program ends there.
    Stop,
    /// The program exits with the answer.
    Exit,
}

impl Then {
    pub(super) const fn code(self) -> i32 {
        match self {
            Self::Answer => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Stop => 3,
            Self::Exit => 4,
        }
    }
}

/// An event, as the player finds it in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    /// Number of the function.
    pub(super) function: u32,
    /// Where the arguments are that it must have; 0 if they are not compared.
    pub(super) request: u32,
    /// The answer, or its address.
    pub(super) answer: u64,
    /// Where the handles are listed that it makes, and how many there are.
    pub(super) patches: (u32, u32),
    /// What else happens.
    pub(super) then: Then,
    /// Bytes that are printed: where they are, and how many.
    pub(super) printed: (u32, u32),
    /// Number of the event in its run.
    pub(super) seq: u64,
}

impl Row {
    /// Its length in memory.
    const BYTES: u32 = 48;
    const FUNCTION: u64 = 0;
    const REQUEST: u64 = 4;
    const ANSWER: u64 = 8;
    const PATCHES: u64 = 16;
    const PATCH_COUNT: u64 = 20;
    const THEN: u64 = 24;
    const PRINTED: u64 = 28;
    const PRINTED_LEN: u64 = 32;
    const SEQ: u64 = 40;

    fn put(&self, at: u32, image: &mut Image) {
        image.put_u32(at, self.function);
        image.put_u32(at + 4, self.request);
        image.put(at + 8, &self.answer.to_le_bytes());
        image.put_u32(at + 16, self.patches.0);
        image.put_u32(at + 20, self.patches.1);
        image.put_u32(at + 24, self.then.code().cast_unsigned());
        image.put_u32(at + 28, self.printed.0);
        image.put_u32(at + 32, self.printed.1);
        image.put(at + 40, &self.seq.to_le_bytes());
    }
}

/// Bytes of one entry in a list of handles to make: address, type, what it stands for.
pub(super) const PATCH_BYTES: u32 = 12;
/// Where a call of the real output puts its result, and a number its digits: below the image.
const SCRATCH: i32 = 16;
const SCRATCH_END: i32 = 60;
/// What one call of the real output may write.
const WRITE_BYTES: i32 = 4096;
const PAGE_BYTES: u32 = 65536;

/// Globals.
const CURSOR: u32 = 0;
const FREE: u32 = 1;
const STDOUT: u32 = 2;
const STDERR: u32 = 3;

/// What the module says when a run differs.
struct Words {
    start: (u32, u32),
    colon: (u32, u32),
    got: (u32, u32),
    other: (u32, u32),
    end: (u32, u32),
    /// A list of where each function's name is, and how long; the last is that of the end.
    names: u32,
}

impl Words {
    fn put(needs: &Needs, image: &mut Image) -> Result<Self> {
        let mut text = |words: &str| {
            Ok::<_, vac_core::fault::Error>((image.keep(words.as_bytes())?, words.len() as u32))
        };
        let start = text("error: the run differs from its record at event ")?;
        let colon = text(": expected ")?;
        let got = text(", got ")?;
        let other = text(", got other arguments")?;
        let end = text("\n")?;
        let mut all = Vec::new();
        for asked in &needs.asked {
            all.push(text(&format!("`{}`", asked.name))?);
        }
        all.push(text("the end of the run")?);
        let names = image.room(all.len() * 8, 4)?;
        for ((at, len), to) in all.into_iter().zip((names..).step_by(8)) {
            image.put_u32(to, at);
            image.put_u32(to + 4, len);
        }
        Ok(Self { start, colon, got, other, end, names })
    }
}

/// Numbers of the functions that are imported: first one for each type of handle, then these.
#[derive(Clone, Copy)]
struct Calls {
    imported: u32,
    get_stdout: u32,
    get_stderr: u32,
    write: u32,
    exit: Option<u32>,
    exit_with_code: Option<u32>,
}

/// The module's own functions, in order after those that are imported.
#[derive(Clone, Copy)]
pub(super) enum Own {
    Realloc,
    Print,
    Number,
    Name,
    Differs,
    Take,
    Finish,
    Same,
    Fresh,
}

impl Own {
    const COUNT: u32 = 9;
}

/// Types of functions, in the type section.
struct Types {
    section: TypeSection,
    known: Vec<(Vec<ValType>, Vec<ValType>)>,
}

impl Types {
    fn number(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let wanted = (params.to_vec(), results.to_vec());
        if let Some(at) = self.known.iter().position(|known| *known == wanted) {
            return at as u32;
        }
        self.section.ty().function(params.iter().copied(), results.iter().copied());
        self.known.push(wanted);
        self.known.len() as u32 - 1
    }
}

/// A function of the program that is called: where it is, and its core type.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) interface: String,
    pub(super) name: String,
    pub(super) params: Vec<ValType>,
    pub(super) results: Vec<ValType>,
}

/// A module that is being made.
pub(super) struct Parts<'a> {
    pub(super) writer: Writer<'a>,
    types: Types,
    imports: ImportSection,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    image: Image,
    table: u32,
    arena: u32,
    /// Number of the first function of [`Called`], and of the next one that is added.
    pub(super) first_called: u32,
    pub(super) next: u32,
}

impl<'a> Parts<'a> {
    /// A module with `image` and a table of `rows`, with the functions of [`Own`] and no others.
    pub(super) fn start(needs: &'a Needs, mut image: Image, rows: &[Row], called: &[Called]) -> Result<Self> {
        let words = Words::put(needs, &mut image)?;
        let table = image.room(rows.len().saturating_mul(Row::BYTES as usize), 8)?;
        for (row, at) in rows.iter().zip((table..).step_by(Row::BYTES as usize)) {
            row.put(at, &mut image);
        }
        let mut types = Types { section: TypeSection::new(), known: Vec::new() };
        let (mut imports, mut calls) = imports(needs, &mut types, rows);
        let first_called = calls.imported;
        for function in called {
            let ty = types.number(&function.params, &function.results);
            imports.import(&function.interface, &function.name, EntityType::Function(ty));
            calls.imported += 1;
        }
        let arena = image.end().next_multiple_of(16);
        let writer = Writer { needs, calls, words, arena: arena.cast_signed() };
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        writer.own(&mut types, &mut functions, &mut code);
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        exports.export("cabi_realloc", ExportKind::Func, writer.own_index(Own::Realloc));
        let next = calls.imported + Own::COUNT;
        Ok(Self { writer, types, imports, functions, exports, code, image, table, arena, first_called, next })
    }

    /// Adds a function.
    pub(super) fn add(
        &mut self,
        export: Option<&str>,
        params: &[ValType],
        results: &[ValType],
        body: &Function,
    ) {
        self.functions.function(self.types.number(params, results));
        if let Some(name) = export {
            self.exports.export(name, ExportKind::Func, self.next);
        }
        self.code.function(body);
        self.next += 1;
    }

    /// The module.
    pub(super) fn finish(self) -> Module {
        let mut memories = MemorySection::new();
        let minimum = u64::from(self.arena / PAGE_BYTES + 1);
        let ty = MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None };
        memories.memory(ty);
        let mut data = DataSection::new();
        let start = ConstExpr::i32_const(super::image::BASE.cast_signed());
        data.active(0, &start, self.image.bytes().iter().copied());
        let mut module = Module::new();
        module.section(&self.types.section).section(&self.imports).section(&self.functions);
        module.section(&memories).section(&globals(self.table, self.arena));
        module.section(&self.exports).section(&self.code).section(&data);
        module
    }
}

/// The module that plays `rows`, the last of which is that of the end.
pub(super) fn module(needs: &Needs, image: Image, rows: &[Row]) -> Result<Module> {
    let mut parts = Parts::start(needs, image, rows, &[])?;
    for (asked, number) in needs.asked.iter().zip(0..) {
        let (name, params, results, body) = parts.writer.asked(asked, number);
        parts.add(Some(&name), &params, &results, &body);
    }
    Ok(parts.finish())
}

fn globals(table: u32, arena: u32) -> GlobalSection {
    let mut globals = GlobalSection::new();
    let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    for value in [table.cast_signed(), arena.cast_signed(), -1, -1] {
        globals.global(ty, &ConstExpr::i32_const(value));
    }
    globals
}

fn imports(needs: &Needs, types: &mut Types, rows: &[Row]) -> (ImportSection, Calls) {
    use ValType::I32;
    let statuses = || rows.iter().filter(|row| row.then == Then::Exit).map(|row| row.answer);
    let (exits, exits_with_code) = (statuses().any(|s| s <= 1), statuses().any(|s| s > 1));
    let (mut section, mut count) = (ImportSection::new(), 0);
    let mut import = |module: &str, name: &str, params: &[ValType], results: &[ValType]| {
        section.import(module, name, EntityType::Function(types.number(params, results)));
        count += 1;
        count - 1
    };
    for made in &needs.made {
        let module = format!("[export]{}", made.interface);
        import(&module, &format!("[resource-new]{}", made.name), &[I32], &[I32]);
    }
    let of = |interface: &str| format!("wasi:{interface}@{}", needs.version);
    let get_stdout = import(&of("cli/stdout"), "get-stdout", &[], &[I32]);
    let get_stderr = import(&of("cli/stderr"), "get-stderr", &[], &[I32]);
    let write = import(&of("io/streams"), "[method]output-stream.blocking-write-and-flush", &[I32; 4], &[]);
    let exit = exits.then(|| import(&of("cli/exit"), "exit", &[I32], &[]));
    let exit_with_code = exits_with_code.then(|| import(&of("cli/exit"), "exit-with-code", &[I32], &[]));
    let calls = Calls { imported: count, get_stdout, get_stderr, write, exit, exit_with_code };
    (section, calls)
}

/// Writes the bodies of functions.
pub(super) struct Writer<'a> {
    needs: &'a Needs,
    calls: Calls,
    words: Words,
    /// Where the arguments of one call begin.
    arena: i32,
}

impl Writer<'_> {
    pub(super) fn own_index(&self, own: Own) -> u32 {
        self.calls.imported + own as u32
    }

    /// All functions of [`Own`], in its order.
    fn own(&self, types: &mut Types, functions: &mut FunctionSection, code: &mut CodeSection) {
        use ValType::{I32, I64};
        let all: [(&[ValType], &[ValType], Function); Own::COUNT as usize] = [
            (&[I32; 4], &[I32], realloc()),
            (&[I32; 3], &[], self.print()),
            (&[I64], &[], self.number()),
            (&[I32], &[], self.name()),
            (&[I32; 2], &[], self.differs()),
            (&[I32], &[I32], self.take()),
            (&[I32], &[], self.finish()),
            (&[I32; 3], &[I32], same()),
            (&[I32; 2], &[I32], self.fresh()),
        ];
        for (params, results, body) in &all {
            functions.function(types.number(params, results));
            code.function(body);
        }
    }

    /// `(stream, at, len)`: writes to the real stream, which is got when it is first needed. Where it cannot be
    /// written to any more, the rest is dropped: the record says that it was.
    fn print(&self) -> Function {
        let (which, at, len, handle, part) = (0, 1, 2, 3, 4);
        let mut function = Function::new([(2, ValType::I32)]);
        let mut code = function.instructions();
        for (stream, global, get) in
            [(Then::Stdout, STDOUT, self.calls.get_stdout), (Then::Stderr, STDERR, self.calls.get_stderr)]
        {
            code.local_get(which).i32_const(stream.code()).i32_eq().if_(BlockType::Empty);
            code.global_get(global).i32_const(0).i32_lt_s().if_(BlockType::Empty);
            code.call(get).global_set(global).end();
            code.global_get(global).local_set(handle).end();
        }
        code.block(BlockType::Empty).loop_(BlockType::Empty);
        code.local_get(len).i32_eqz().br_if(1);
        code.local_get(len).i32_const(WRITE_BYTES);
        code.local_get(len).i32_const(WRITE_BYTES).i32_lt_u().select().local_set(part);
        code.local_get(handle).local_get(at).local_get(part).i32_const(SCRATCH).call(self.calls.write);
        code.i32_const(SCRATCH).i32_load8_u(mem(0, 0)).br_if(1);
        code.local_get(at).local_get(part).i32_add().local_set(at);
        code.local_get(len).local_get(part).i32_sub().local_set(len);
        code.br(0).end().end().end();
        function
    }

    pub(super) fn print_words(&self, code: &mut InstructionSink<'_>, (at, len): (u32, u32)) {
        code.i32_const(Then::Stderr.code()).i32_const(at.cast_signed()).i32_const(len.cast_signed());
        code.call(self.own_index(Own::Print));
    }

    /// Prints a number on the standard error, from its last digit backwards.
    fn number(&self) -> Function {
        let (number, at) = (0, 1);
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        code.i32_const(SCRATCH_END).local_set(at).loop_(BlockType::Empty);
        code.local_get(at).i32_const(1).i32_sub().local_tee(at);
        code.local_get(number).i64_const(10).i64_rem_u().i32_wrap_i64().i32_const(i32::from(b'0')).i32_add();
        code.i32_store8(mem(0, 0));
        code.local_get(number).i64_const(10).i64_div_u().local_tee(number).i64_eqz().i32_eqz().br_if(0).end();
        code.i32_const(Then::Stderr.code()).local_get(at);
        code.i32_const(SCRATCH_END).local_get(at).i32_sub().call(self.own_index(Own::Print)).end();
        function
    }

    /// Prints the name of a function on the standard error.
    fn name(&self) -> Function {
        let (number, at) = (0, 1);
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        code.local_get(number).i32_const(8).i32_mul();
        code.i32_const(self.words.names.cast_signed()).i32_add().local_set(at);
        code.i32_const(Then::Stderr.code()).local_get(at).i32_load(mem(0, 2));
        code.local_get(at).i32_load(mem(4, 2)).call(self.own_index(Own::Print)).end();
        function
    }

    /// `(function, row)`: says what differs, and ends the program. A function of -1 is that of the row, with
    /// other arguments.
    fn differs(&self) -> Function {
        let (got, row) = (0, 1);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        self.print_words(&mut code, self.words.start);
        code.local_get(row).i64_load(mem(Row::SEQ, 3)).call(self.own_index(Own::Number));
        self.print_words(&mut code, self.words.colon);
        code.local_get(row).i32_load(mem(Row::FUNCTION, 2)).call(self.own_index(Own::Name));
        code.local_get(got).i32_const(0).i32_lt_s().if_(BlockType::Empty);
        self.print_words(&mut code, self.words.other);
        code.else_();
        self.print_words(&mut code, self.words.got);
        code.local_get(got).call(self.own_index(Own::Name)).end();
        self.print_words(&mut code, self.words.end);
        code.unreachable().end();
        function
    }

    /// `(function) -> row`: the next row, which must be of that function.
    fn take(&self) -> Function {
        let (asked, row) = (0, 1);
        let end = self.needs.asked.len() as i32;
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        code.global_get(CURSOR).local_tee(row).i32_load(mem(Row::FUNCTION, 2));
        code.local_get(asked).i32_ne().if_(BlockType::Empty);
        // The end of a record that has none stops whatever comes.
        code.local_get(row).i32_load(mem(Row::FUNCTION, 2)).i32_const(end).i32_eq();
        code.local_get(row).i32_load(mem(Row::THEN, 2)).i32_const(Then::Stop.code()).i32_eq().i32_and();
        code.if_(BlockType::Empty).local_get(row).call(self.own_index(Own::Finish)).end();
        code.local_get(asked).local_get(row).call(self.own_index(Own::Differs)).end();
        code.local_get(row).i32_const(Row::BYTES.cast_signed()).i32_add().global_set(CURSOR);
        code.local_get(row).end();
        function
    }

    /// `(row)`: does what belongs to an event, and frees the arguments.
    fn finish(&self) -> Function {
        let (row, then, patch, left, at) = (0, 1, 2, 3, 4);
        let mut function = Function::new([(4, ValType::I32)]);
        let mut code = function.instructions();
        code.local_get(row).i32_load(mem(Row::THEN, 2)).local_tee(then).if_(BlockType::Empty);
        code.local_get(then).i32_const(Then::Exit.code()).i32_eq().if_(BlockType::Empty);
        self.exit(&mut code, row);
        code.end();
        code.i32_const(Then::Stdout.code()).i32_const(Then::Stderr.code());
        code.local_get(then).i32_const(Then::Stdout.code()).i32_eq().select();
        code.local_get(row).i32_load(mem(Row::PRINTED, 2)).local_get(row).i32_load(mem(Row::PRINTED_LEN, 2));
        code.call(self.own_index(Own::Print));
        code.local_get(then).i32_const(Then::Stop.code()).i32_eq().if_(BlockType::Empty).unreachable().end();
        code.end();
        code.local_get(row).i32_load(mem(Row::PATCHES, 2)).local_set(patch);
        code.local_get(row).i32_load(mem(Row::PATCH_COUNT, 2)).local_set(left);
        code.block(BlockType::Empty).loop_(BlockType::Empty).local_get(left).i32_eqz().br_if(1);
        // Address 0 stands for the answer itself.
        code.local_get(patch).i32_load(mem(0, 2)).local_tee(at);
        code.local_get(row).i32_const(Row::ANSWER as i32).i32_add().local_get(at).select();
        code.local_get(patch).i32_load(mem(4, 2)).local_get(patch).i32_load(mem(8, 2));
        code.call(self.own_index(Own::Fresh)).i32_store(mem(0, 2));
        code.local_get(patch).i32_const(PATCH_BYTES.cast_signed()).i32_add().local_set(patch);
        code.local_get(left).i32_const(1).i32_sub().local_set(left).br(0).end().end();
        code.i32_const(self.arena).global_set(FREE).end();
        function
    }

    fn exit(&self, code: &mut InstructionSink<'_>, row: u32) {
        code.local_get(row).i64_load(mem(Row::ANSWER, 3)).i64_const(1).i64_gt_u().if_(BlockType::Empty);
        for (exit, is_last) in [(self.calls.exit_with_code, false), (self.calls.exit, true)] {
            if let Some(exit) = exit {
                code.local_get(row).i32_load(mem(Row::ANSWER, 2)).call(exit);
            }
            code.unreachable();
            if is_last {
                code.end()
            } else {
                code.else_()
            };
        }
    }

    /// `(type, what it stands for) -> handle`.
    fn fresh(&self) -> Function {
        let (resource, rep) = (0, 1);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        for number in 0..self.needs.made.len() as u32 {
            code.local_get(resource).i32_const(number.cast_signed()).i32_eq().if_(BlockType::Empty);
            code.local_get(rep).call(number).return_().end();
        }
        code.unreachable().end();
        function
    }

    /// A function that the program calls: its name, type and body.
    fn asked(&self, asked: &Asked, number: u32) -> (String, Vec<ValType>, Vec<ValType>, Function) {
        let (name, params, results) = match &asked.kind {
            Kind::Drop(resource) => (format!("[dtor]{resource}"), vec![ValType::I32], Vec::new()),
            Kind::Call(function) => {
                let signature = self.needs.resolve.wasm_signature(AbiVariant::GuestExport, function);
                let types = |types: Vec<WasmType>| types.into_iter().map(val_type).collect();
                (function.name.clone(), types(signature.params), types(signature.results))
            }
        };
        let row = params.len() as u32;
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        code.i32_const(number.cast_signed()).call(self.own_index(Own::Take)).local_set(row);
        code.local_get(row).i32_load(mem(Row::REQUEST, 2)).if_(BlockType::Empty);
        self.compare_all(&mut code, &asked.kind, row);
        code.end();
        code.local_get(row).call(self.own_index(Own::Finish));
        if let Some(result) = results.first() {
            code.local_get(row);
            match result {
                ValType::I64 => code.i64_load(mem(Row::ANSWER, 3)),
                ValType::F32 => code.f32_load(mem(Row::ANSWER, 2)),
                ValType::F64 => code.f64_load(mem(Row::ANSWER, 3)),
                _ => code.i32_load(mem(Row::ANSWER, 2)),
            };
        }
        code.end();
        (format!("{}#{name}", asked.interface), params, results, function)
    }

    /// Compares what a function is called with and what the record has, as far as that is simple.
    fn compare_all(&self, code: &mut InstructionSink<'_>, kind: &Kind, row: u32) {
        let function = match kind {
            Kind::Call(function) => function,
            Kind::Drop(_) => return self.compare(code, &Scalar::I32(4), 0, (row, 0)),
        };
        let types = function.params.iter().map(|param| &param.ty);
        let mut local = 0;
        for (offset, ty) in self.needs.sizes.field_offsets(types) {
            let offset = offset.size_wasm32() as u64;
            if is_compared(self.needs, ty) {
                self.compare_value(code, ty, local, (row, offset));
            }
            local += flat_len(self.needs, ty);
        }
    }

    fn compare_value(&self, code: &mut InstructionSink<'_>, ty: &Type, local: u32, at: (u32, u64)) {
        match shape(self.needs, ty) {
            Shape::Scalar(scalar) => self.compare(code, &scalar, local, at),
            Shape::Bytes(item_bytes) => self.compare_bytes(code, item_bytes, local, at),
            Shape::Fields(types) => {
                let mut local = local;
                for (offset, ty) in self.needs.sizes.field_offsets(&types) {
                    self.compare_value(code, ty, local, (at.0, at.1 + offset.size_wasm32() as u64));
                    local += flat_len(self.needs, ty);
                }
            }
            Shape::Other => {}
        }
    }

    fn differ_if(&self, code: &mut InstructionSink<'_>, row: u32) {
        code.if_(BlockType::Empty).i32_const(-1).local_get(row).call(self.own_index(Own::Differs)).end();
    }

    fn compare(
        &self,
        code: &mut InstructionSink<'_>,
        scalar: &Scalar,
        local: u32,
        (row, offset): (u32, u64),
    ) {
        code.local_get(local).local_get(row).i32_load(mem(Row::REQUEST, 2));
        match scalar {
            Scalar::I64 => code.i64_load(mem(offset, 0)).i64_ne(),
            Scalar::I32(1) => code.i32_load8_u(mem(offset, 0)).i32_ne(),
            Scalar::I32(2) => code.i32_load16_u(mem(offset, 0)).i32_ne(),
            Scalar::I32(_) => code.i32_load(mem(offset, 0)).i32_ne(),
        };
        self.differ_if(code, row);
    }

    /// A list: the same length, and the same bytes.
    fn compare_bytes(
        &self,
        code: &mut InstructionSink<'_>,
        item_bytes: u32,
        local: u32,
        (row, offset): (u32, u64),
    ) {
        self.compare(code, &Scalar::I32(4), local + 1, (row, offset + 4));
        code.local_get(local).local_get(row).i32_load(mem(Row::REQUEST, 2)).i32_load(mem(offset, 0));
        code.local_get(local + 1).i32_const(item_bytes.cast_signed()).i32_mul();
        code.call(self.own_index(Own::Same)).i32_eqz();
        self.differ_if(code, row);
    }
}

/// `(old, old length, alignment, new length) -> address`: from the arena, which grows when it must.
fn realloc() -> Function {
    let (old, old_len, align, len, at, end) = (0, 1, 2, 3, 4, 5);
    let mut function = Function::new([(2, ValType::I32)]);
    let mut code = function.instructions();
    code.global_get(FREE).local_get(align).i32_add().i32_const(1).i32_sub();
    code.i32_const(0).local_get(align).i32_sub().i32_and().local_tee(at);
    code.local_get(len).i32_add().local_tee(end).global_set(FREE);
    code.local_get(end).local_get(at).i32_lt_u().if_(BlockType::Empty).unreachable().end();
    // As many pages as are missing.
    code.local_get(end).i32_const(16).i32_shr_u().memory_size(0).i32_ge_u().if_(BlockType::Empty);
    code.local_get(end).i32_const(16).i32_shr_u().memory_size(0).i32_sub().i32_const(1).i32_add();
    code.memory_grow(0).i32_const(-1).i32_eq().if_(BlockType::Empty).unreachable().end().end();
    code.local_get(old_len).if_(BlockType::Empty);
    code.local_get(at).local_get(old).local_get(old_len).local_get(len);
    code.local_get(old_len).local_get(len).i32_lt_u().select().memory_copy(0, 0).end();
    code.local_get(at).end();
    function
}

/// `(a, b, len) -> 1` if the bytes are equal.
fn same() -> Function {
    let (a, b, len) = (0, 1, 2);
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.loop_(BlockType::Empty);
    code.local_get(len).i32_eqz().if_(BlockType::Empty).i32_const(1).return_().end();
    code.local_get(a).i32_load8_u(mem(0, 0)).local_get(b).i32_load8_u(mem(0, 0)).i32_ne();
    code.if_(BlockType::Empty).i32_const(0).return_().end();
    code.local_get(a).i32_const(1).i32_add().local_set(a);
    code.local_get(b).i32_const(1).i32_add().local_set(b);
    code.local_get(len).i32_const(1).i32_sub().local_set(len).br(0).end();
    code.unreachable().end();
    function
}

pub(super) fn mem(offset: u64, align: u32) -> MemArg {
    MemArg { offset, align, memory_index: 0 }
}

pub(super) fn val_type(ty: WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

/// A number in one local; of 32 bits, with its bytes in memory.
enum Scalar {
    I32(u32),
    I64,
}

/// How a value is compared.
enum Shape {
    Scalar(Scalar),
    /// A list of items of so many bytes, with no address in them.
    Bytes(u32),
    Fields(Vec<Type>),
    /// Not at all.
    Other,
}

/// Whether all of a value is compared. Only then is it taken from the record.
pub(super) fn is_compared(needs: &Needs, ty: &Type) -> bool {
    match shape(needs, ty) {
        Shape::Scalar(_) | Shape::Bytes(_) => true,
        Shape::Fields(types) => types.iter().all(|ty| is_compared(needs, ty)),
        Shape::Other => false,
    }
}

fn shape(needs: &Needs, ty: &Type) -> Shape {
    let size = needs.sizes.size(ty).size_wasm32() as u32;
    let id = match ty {
        Type::Bool | Type::U8 | Type::U16 | Type::U32 | Type::S32 => return Shape::Scalar(Scalar::I32(size)),
        Type::U64 | Type::S64 => return Shape::Scalar(Scalar::I64),
        Type::String => return Shape::Bytes(1),
        Type::Id(id) => needs.origin(*id),
        _ => return Shape::Other,
    };
    match needs.resolve.types.get(id).map(|ty| &ty.kind) {
        Some(TypeDefKind::Type(ty)) => shape(needs, ty),
        Some(TypeDefKind::Enum(_)) => Shape::Scalar(Scalar::I32(size)),
        Some(TypeDefKind::Flags(flags)) if flags.flags.len() <= 32 => Shape::Scalar(Scalar::I32(size)),
        // What a borrowed handle stands for is what the program was given it for.
        Some(TypeDefKind::Handle(Handle::Borrow(_))) => Shape::Scalar(Scalar::I32(4)),
        Some(TypeDefKind::Record(record)) => Shape::Fields(record.fields.iter().map(|f| f.ty).collect()),
        Some(TypeDefKind::Tuple(tuple)) => Shape::Fields(tuple.types.clone()),
        Some(TypeDefKind::List(item)) => match shape(needs, item) {
            Shape::Scalar(_) => Shape::Bytes(needs.sizes.size(item).size_wasm32() as u32),
            _ => Shape::Other,
        },
        _ => Shape::Other,
    }
}

/// Locals that a value takes.
pub(super) fn flat_len(needs: &Needs, ty: &Type) -> u32 {
    let most =
        |types: &mut dyn Iterator<Item = &Type>| types.map(|ty| flat_len(needs, ty)).max().unwrap_or(0);
    let Type::Id(id) = ty else { return if matches!(ty, Type::String) { 2 } else { 1 } };
    match needs.resolve.types.get(*id).map(|ty| &ty.kind) {
        Some(TypeDefKind::Type(ty)) => flat_len(needs, ty),
        Some(TypeDefKind::List(_)) => 2,
        Some(TypeDefKind::Record(record)) => record.fields.iter().map(|f| flat_len(needs, &f.ty)).sum(),
        Some(TypeDefKind::Tuple(tuple)) => tuple.types.iter().map(|ty| flat_len(needs, ty)).sum(),
        Some(TypeDefKind::Option(ty)) => 1 + flat_len(needs, ty),
        Some(TypeDefKind::Result(result)) => 1 + most(&mut result.ok.iter().chain(&result.err)),
        Some(TypeDefKind::Variant(v)) => 1 + most(&mut v.cases.iter().filter_map(|case| case.ty.as_ref())),
        _ => 1,
    }
}

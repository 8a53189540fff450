//! Random functions that are full of floats: expressions over loads, parameters, locals and constants with NaNs of
//! all kinds, which go through locals in loops, blocks, choices, calls, globals, exceptions and lanes.

use wasm_encoder::{
    BlockType, Catch, CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, Ieee32, Ieee64, Instruction as I, MemArg, MemorySection,
    MemoryType, Module, TagKind, TagSection, TagType, TypeSection, ValType as T,
};

use super::random::{F32, F64, Random, args};
use super::{GRAPH_MAX, same_in};

const SEEDS: u64 = 60;
const FUNCTIONS: usize = 30;
/// The first functions call none, and the others call only these: calls of calls would take for ever.
const CALLED: usize = 10;
const CALLS: usize = 6;
/// Instructions of a function, roughly.
const SIZE: usize = 160;

const PARAMS: [T; 4] = [T::F32, T::F64, T::V128, T::I32];
const LOCALS: [T; 9] = [T::F32, T::F32, T::F32, T::F64, T::F64, T::F64, T::V128, T::V128, T::I32];
const FLOATS: [T; 3] = [T::F32, T::F64, T::V128];
/// Counters of loops follow the other locals.
const COUNTERS: u32 = 12;
const FIRST_COUNTER: u32 = (PARAMS.len() + LOCALS.len()) as u32;
/// What functions give, by the index of their type; the last types are those of loops that take one value.
const RESULTS: [&[T]; 5] = [&[T::F32], &[T::F64], &[T::V128], &[T::F64, T::F32], &[T::V128, T::F32, T::F64]];

#[test]
fn random_functions_are_the_same() {
    for seed in 0..SEEDS {
        // Now and then with room for some of the functions, or for none.
        let room = match seed % 6 {
            0 => 1_000,
            1 => 0,
            _ => GRAPH_MAX,
        };
        same_in(room, &random_module(seed), &args(seed, CALLS), &format!("seed {seed}"));
    }
}

/// A module with one type for each of [`RESULTS`], loops of one value, and tags with one value.
fn random_module(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let (mut functions, mut code, mut exports) =
        (FunctionSection::new(), CodeSection::new(), ExportSection::new());
    let mut types = Vec::new();
    for index in 0..FUNCTIONS {
        let ty = random.below(RESULTS.len());
        functions.function(ty as u32);
        exports.export(&format!("f{index}"), ExportKind::Func, index as u32);
        let callees = types.get(..CALLED).unwrap_or_default();
        code.function(&Maker::new(&mut random, callees, RESULTS[ty]).function());
        types.push(ty);
    }
    exports.export("memory", ExportKind::Memory, 0);
    for global in 0..FLOATS.len() {
        exports.export(&format!("g{global}"), ExportKind::Global, global as u32);
    }
    let mut module = Module::new();
    module.section(&all_types()).section(&functions).section(&memory()).section(&tags()).section(&globals());
    module.section(&exports).section(&code).section(&data());
    module.finish()
}

fn all_types() -> TypeSection {
    let mut types = TypeSection::new();
    for results in RESULTS {
        types.ty().function(PARAMS, results.iter().copied());
    }
    for float in FLOATS {
        types.ty().function([float], [float]);
    }
    for float in FLOATS {
        types.ty().function([float], []);
    }
    types
}

fn one_to_one(ty: T) -> u32 {
    (RESULTS.len() + position(ty)) as u32
}

fn position(ty: T) -> usize {
    FLOATS.iter().position(|&float| float == ty).expect("it is a float")
}

fn memory() -> MemorySection {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: Some(1),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    memories
}

fn tags() -> TagSection {
    let mut tags = TagSection::new();
    for at in 0..FLOATS.len() {
        let func_type_idx = (RESULTS.len() + FLOATS.len() + at) as u32;
        tags.tag(TagType { kind: TagKind::Exception, func_type_idx });
    }
    tags
}

fn globals() -> GlobalSection {
    let mut globals = GlobalSection::new();
    let firsts =
        [ConstExpr::f32_const(0.0.into()), ConstExpr::f64_const(0.0.into()), ConstExpr::v128_const(0)];
    for (val_type, first) in FLOATS.into_iter().zip(&firsts) {
        globals.global(GlobalType { val_type, mutable: true, shared: false }, first);
    }
    globals
}

fn data() -> DataSection {
    let narrow = F32.iter().flat_map(|bits| bits.to_le_bytes());
    let wide = F64.iter().flat_map(|bits| bits.to_le_bytes());
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(0), narrow.chain(wide).collect::<Vec<_>>());
    data
}

/// What a branch to a label takes.
type Label = Option<T>;

/// Makes one function.
struct Maker<'a> {
    random: &'a mut Random,
    /// The types of functions that can be called.
    callees: &'a [usize],
    results: &'static [T],
    code: Vec<I<'static>>,
    labels: Vec<Label>,
    counters: u32,
    /// Whether it throws and catches: if so, locals are not followed in it.
    throws: bool,
}

impl<'a> Maker<'a> {
    fn new(random: &'a mut Random, callees: &'a [usize], results: &'static [T]) -> Self {
        let throws = random.one_in(3);
        Self { random, callees, results, code: Vec::new(), labels: Vec::new(), counters: 0, throws }
    }

    fn function(mut self) -> Function {
        while self.code.len() < SIZE {
            self.statement(3);
        }
        self.give_results();
        let locals = LOCALS.iter().map(|ty| (1, *ty)).chain([(COUNTERS, T::I32)]);
        let mut function = Function::new(locals.collect::<Vec<_>>());
        for instruction in self.code.iter().chain([&I::End]) {
            function.instruction(instruction);
        }
        function
    }

    fn put(&mut self, instruction: I<'static>) {
        self.code.push(instruction);
    }

    fn give_results(&mut self) {
        for ty in self.results {
            self.value(*ty, 2);
        }
    }

    fn local(&mut self, ty: T) -> u32 {
        let all = PARAMS.iter().chain(&LOCALS).enumerate();
        let fitting: Vec<_> = all.filter(|(_, of)| **of == ty).map(|(at, _)| at as u32).collect();
        *self.random.of(&fitting)
    }

    fn float(&mut self) -> T {
        *self.random.of(&FLOATS)
    }

    fn statement(&mut self, depth: usize) {
        let ty = self.float();
        match self.random.below(if depth == 0 { 5 } else { 12 }) {
            0..=2 => {
                self.value(ty, depth);
                let local = self.local(ty);
                self.put(I::LocalSet(local));
            }
            3 => self.store(ty, depth),
            4 => {
                self.value(ty, depth);
                let end = if self.random.one_in(3) { I::Drop } else { I::GlobalSet(position(ty) as u32) };
                self.put(end);
            }
            5 | 6 => self.choice(depth),
            7 | 8 => self.counted_loop(depth),
            9 => self.block(depth),
            10 => self.leave(depth),
            _ => self.branch_out(depth),
        }
    }

    fn statements(&mut self, depth: usize) {
        for _ in 0..=self.random.below(3) {
            self.statement(depth);
        }
    }

    fn choice(&mut self, depth: usize) {
        self.condition(depth - 1);
        self.open(I::If(BlockType::Empty), None);
        self.statements(depth - 1);
        if self.random.one_in(2) {
            self.put(I::Else);
            self.statements(depth - 1);
        }
        self.close();
    }

    fn block(&mut self, depth: usize) {
        self.open(I::Block(BlockType::Empty), None);
        self.statements(depth - 1);
        self.condition(0);
        self.put(I::BrIf(0));
        self.statements(depth - 1);
        self.close();
    }

    fn counted_loop(&mut self, depth: usize) {
        let Some(counter) = self.counter() else { return };
        self.open(I::Loop(BlockType::Empty), Some(T::I32));
        self.statements(depth - 1);
        self.count_down(counter);
        self.put(I::BrIf(0));
        self.close();
    }

    /// A fresh counter, set to a small number.
    fn counter(&mut self) -> Option<u32> {
        let counter = FIRST_COUNTER + self.counters;
        if self.counters == COUNTERS {
            return None;
        }
        self.counters += 1;
        let times = 1 + self.random.below(4) as i32;
        self.put(I::I32Const(times));
        self.put(I::LocalSet(counter));
        Some(counter)
    }

    fn count_down(&mut self, counter: u32) {
        let down = [I::LocalGet(counter), I::I32Const(1), I::I32Sub, I::LocalTee(counter)];
        self.code.extend(down);
        // A counter of an inner loop may be below zero when it is used again.
        self.code.extend([I::I32Const(0), I::I32GtS]);
    }

    /// Returns or traps now and then, with instructions behind it that nothing gets to.
    fn leave(&mut self, depth: usize) {
        self.condition(0);
        self.put(I::I32Const(1));
        self.put(I::I32And);
        self.condition(0);
        self.put(I::I32And);
        self.open(I::If(BlockType::Empty), None);
        match self.random.below(4) {
            0 => self.put(I::Unreachable),
            _ => {
                self.give_results();
                self.put(I::Return);
            }
        }
        if self.random.one_in(2) {
            let ty = self.float();
            self.operator(ty);
            self.put(I::Drop);
            self.statement(depth - 1);
        }
        self.close();
    }

    /// A branch to a block around this one, which takes a value or none.
    fn branch_out(&mut self, depth: usize) {
        let at = self.random.below(self.labels.len().max(1));
        let Some(label) = self.labels.iter().rev().nth(at).copied() else { return };
        match label {
            // Loops are left to their counters.
            Some(T::I32) => {}
            None => {
                self.condition(depth - 1);
                self.put(I::BrIf(at as u32));
            }
            Some(ty) => {
                self.value(ty, depth - 1);
                self.condition(0);
                self.put(I::BrIf(at as u32));
                let local = self.local(ty);
                self.put(I::LocalSet(local));
            }
        }
    }

    fn open(&mut self, instruction: I<'static>, label: Label) {
        self.labels.push(label);
        self.put(instruction);
    }

    fn close(&mut self) {
        self.labels.pop();
        self.put(I::End);
    }

    fn condition(&mut self, depth: usize) {
        match self.random.below(4) {
            0 => {
                let local = self.local(T::I32);
                self.put(I::LocalGet(local));
                let bit = 1 << self.random.below(4);
                self.put(I::I32Const(bit));
                self.put(I::I32And);
            }
            1 => {
                self.value(T::F32, depth.min(1));
                self.value(T::F32, 0);
                let compare = self.random.of(&[I::F32Lt, I::F32Ne, I::F32Ge, I::F32Eq]).clone();
                self.put(compare);
            }
            2 => {
                self.value(T::F64, depth.min(1));
                self.put(I::I64ReinterpretF64);
                self.put(I::I64Const(0x1_0000_0001));
                self.put(I::I64And);
                self.put(I::I64Popcnt);
                self.put(I::I32WrapI64);
            }
            _ => {
                self.value(T::V128, depth.min(1));
                let test = self.random.of(&[I::I8x16Bitmask, I::V128AnyTrue, I::I32x4AllTrue]).clone();
                self.put(test);
            }
        }
    }

    fn address(&mut self) {
        let local = self.local(T::I32);
        self.code.extend([I::LocalGet(local), I::I32Const(0xff), I::I32And]);
    }

    fn mem(&mut self) -> MemArg {
        MemArg { offset: self.random.below(64) as u64 * 4, align: 0, memory_index: 0 }
    }

    fn store(&mut self, ty: T, depth: usize) {
        self.address();
        self.value(ty, depth);
        let memarg = self.mem();
        let lane = self.random.below(8) as u8;
        self.put(match ty {
            T::F32 => I::F32Store(memarg),
            T::F64 => I::F64Store(memarg),
            _ if lane < 4 => I::V128Store32Lane { memarg, lane },
            _ => I::V128Store(memarg),
        });
    }

    /// A value of type `ty` on the stack.
    fn value(&mut self, ty: T, depth: usize) {
        if depth == 0 || self.code.len() > SIZE * 2 {
            return self.leaf(ty);
        }
        match self.random.below(15) {
            0 | 1 => self.leaf(ty),
            2 => {
                self.value(ty, depth - 1);
                self.value(ty, depth - 1);
                self.condition(0);
                let select = if self.random.one_in(2) { I::Select } else { I::TypedSelect(ty) };
                self.put(select);
            }
            3 => self.either(ty, depth),
            4 => self.block_of(ty, depth),
            5 => {
                self.value(ty, depth - 1);
                let local = self.local(ty);
                self.put(I::LocalTee(local));
            }
            6 => self.call(ty, depth),
            7 => self.loop_of(ty, depth),
            8 if self.throws => self.caught(ty, depth),
            9 => self.converted(ty, depth),
            _ => self.computed(ty, depth),
        }
    }

    fn leaf(&mut self, ty: T) {
        match self.random.below(6) {
            0 => {
                let constant = match ty {
                    T::F32 => I::F32Const(Ieee32::new(self.random.f32())),
                    T::F64 => I::F64Const(Ieee64::new(self.random.f64())),
                    _ => I::V128Const(self.random.v128() as i128),
                };
                self.put(constant);
            }
            1 => {
                self.address();
                let mem = self.mem();
                self.put(match ty {
                    T::F32 => I::F32Load(mem),
                    T::F64 => I::F64Load(mem),
                    _ => I::V128Load(mem),
                });
            }
            2 => self.put(I::GlobalGet(position(ty) as u32)),
            _ => {
                let local = self.local(ty);
                self.put(I::LocalGet(local));
            }
        }
    }

    fn either(&mut self, ty: T, depth: usize) {
        self.condition(depth - 1);
        self.open(I::If(BlockType::Result(ty)), Some(ty));
        self.inside(ty, depth - 1);
        self.put(I::Else);
        self.inside(ty, depth - 1);
        self.close();
    }

    fn inside(&mut self, ty: T, depth: usize) {
        if self.random.one_in(2) {
            self.statement(depth);
        }
        self.value(ty, depth);
    }

    /// A block that gives a value, in one of several ways.
    fn block_of(&mut self, ty: T, depth: usize) {
        self.open(I::Block(BlockType::Result(ty)), Some(ty));
        match self.random.below(3) {
            0 => {
                self.value(ty, depth - 1);
                self.condition(0);
                self.put(I::BrIf(0));
                if self.random.one_in(2) {
                    self.put(I::Drop);
                    self.inside(ty, depth - 1);
                }
            }
            1 => {
                self.open(I::Block(BlockType::Result(ty)), Some(ty));
                self.value(ty, depth - 1);
                self.condition(0);
                self.put(I::BrTable(vec![0, 1, 1, 0].into(), 1));
                self.close();
                self.unary(ty);
            }
            _ => {
                self.inside(ty, depth - 1);
                self.put(I::Br(0));
                if self.random.one_in(2) {
                    self.operator(ty);
                }
            }
        }
        self.close();
    }

    fn call(&mut self, ty: T, depth: usize) {
        let fitting = |&(_, of): &(usize, &usize)| RESULTS[*of].last() == Some(&ty);
        let fitting: Vec<_> =
            self.callees.iter().enumerate().filter(fitting).map(|(at, of)| (at, *of)).collect();
        if fitting.is_empty() {
            return self.computed(ty, depth);
        }
        let (callee, of) = *self.random.of(&fitting);
        for ty in FLOATS {
            self.value(ty, depth - 1);
        }
        self.put(I::I32Const(5));
        self.put(I::Call(callee as u32));
        // Below what was asked for may be more.
        let top = self.local(ty);
        self.put(I::LocalSet(top));
        for _ in 1..RESULTS[of].len() {
            self.put(I::Drop);
        }
        self.put(I::LocalGet(top));
    }

    /// A loop that takes a value and gives one.
    fn loop_of(&mut self, ty: T, depth: usize) {
        self.value(ty, depth - 1);
        let Some(counter) = self.counter() else { return };
        self.open(I::Loop(BlockType::FunctionType(one_to_one(ty))), Some(T::I32));
        if self.random.one_in(3) {
            self.statement(depth - 1);
        }
        self.value(ty, 0);
        self.operator(ty);
        self.count_down(counter);
        self.put(I::BrIf(0));
        self.close();
    }

    /// A value that may come by an exception.
    fn caught(&mut self, ty: T, depth: usize) {
        self.open(I::Block(BlockType::Result(ty)), Some(ty));
        let catch = Catch::One { tag: position(ty) as u32, label: 0 };
        self.open(I::TryTable(BlockType::Result(ty), vec![catch].into()), Some(ty));
        self.value(ty, depth - 1);
        self.condition(0);
        self.open(I::If(BlockType::Empty), None);
        self.value(ty, depth - 1);
        self.put(I::Throw(position(ty) as u32));
        self.close();
        self.unary(ty);
        self.close();
        self.close();
    }

    fn computed(&mut self, ty: T, depth: usize) {
        self.value(ty, depth - 1);
        if self.random.one_in(3) {
            return self.unary(ty);
        }
        self.value(ty, depth - 1);
        if ty == T::V128 && self.random.one_in(4) {
            self.value(ty, depth - 1);
            let three = [
                I::F32x4RelaxedMadd,
                I::F64x2RelaxedNmadd,
                I::V128Bitselect,
                I::I32x4RelaxedLaneselect,
                I::F64x2RelaxedMadd,
                I::F32x4RelaxedNmadd,
            ];
            let operator = self.random.of(&three).clone();
            return self.put(operator);
        }
        self.operator(ty);
    }

    /// One that takes two values of a type and gives one.
    fn operator(&mut self, ty: T) {
        let operator = match ty {
            T::F32 => self.random.of(&[
                I::F32Add,
                I::F32Sub,
                I::F32Mul,
                I::F32Div,
                I::F32Min,
                I::F32Max,
                I::F32Copysign,
            ]),
            T::F64 => self.random.of(&[
                I::F64Add,
                I::F64Sub,
                I::F64Mul,
                I::F64Div,
                I::F64Min,
                I::F64Max,
                I::F64Copysign,
            ]),
            _ => self.random.of(&VECTOR_OPERATORS),
        };
        let operator = operator.clone();
        self.put(operator);
    }

    fn unary(&mut self, ty: T) {
        let operator = match ty {
            T::F32 => self.random.of(&[
                I::F32Neg,
                I::F32Abs,
                I::F32Sqrt,
                I::F32Ceil,
                I::F32Floor,
                I::F32Trunc,
                I::F32Nearest,
            ]),
            T::F64 => self.random.of(&[
                I::F64Neg,
                I::F64Abs,
                I::F64Sqrt,
                I::F64Ceil,
                I::F64Floor,
                I::F64Trunc,
                I::F64Nearest,
            ]),
            _ => self.random.of(&VECTOR_UNARY),
        };
        let operator = operator.clone();
        self.put(operator);
    }

    /// A value that comes from one of another type.
    fn converted(&mut self, ty: T, depth: usize) {
        let lane = self.random.below(2) as u8;
        let (from, how): (T, &[I<'static>]) = match (ty, self.random.below(4)) {
            (T::F32, 0) => (T::F64, &[I::F32DemoteF64]),
            (T::F32, 1) => (T::F32, &[I::I32ReinterpretF32, I::F32ReinterpretI32]),
            (T::F32, 2) => (T::F64, &[I::I32TruncSatF64S, I::F32ConvertI32U]),
            (T::F32, _) => (T::V128, &[I::F32x4ExtractLane(3)]),
            (T::F64, 0) => (T::F32, &[I::F64PromoteF32]),
            (T::F64, 1) => (T::F64, &[I::I64ReinterpretF64, I::F64ReinterpretI64]),
            (T::F64, 2) => (T::F32, &[I::I64TruncSatF32S, I::F64ConvertI64S]),
            (T::F64, _) => (T::V128, &[I::F64x2ExtractLane(1)]),
            (_, 0) => (T::F32, &[I::F32x4Splat]),
            (_, 1) => (T::F64, &[I::F64x2Splat]),
            (_, 2) => return self.replaced(lane, depth),
            _ => return self.shuffled(depth),
        };
        self.value(from, depth - 1);
        self.code.extend_from_slice(how);
    }

    fn replaced(&mut self, lane: u8, depth: usize) {
        self.value(T::V128, depth - 1);
        let (ty, replace) = match self.random.below(2) {
            0 => (T::F32, I::F32x4ReplaceLane(lane * 2 + 1)),
            _ => (T::F64, I::F64x2ReplaceLane(lane)),
        };
        self.value(ty, depth - 1);
        self.put(replace);
    }

    fn shuffled(&mut self, depth: usize) {
        self.value(T::V128, depth - 1);
        self.value(T::V128, depth - 1);
        let mut lanes = [0; 16];
        let width = *self.random.of(&[1, 4, 8]);
        for group in lanes.chunks_mut(width) {
            let from = self.random.below(32 / width) * width;
            group.iter_mut().enumerate().for_each(|(at, lane)| *lane = (from + at) as u8);
        }
        self.put(I::I8x16Shuffle(lanes));
    }
}

const VECTOR_OPERATORS: [I<'static>; 24] = [
    I::F32x4Add,
    I::F32x4Sub,
    I::F32x4Mul,
    I::F32x4Div,
    I::F32x4Min,
    I::F32x4Max,
    I::F32x4PMin,
    I::F32x4PMax,
    I::F64x2Add,
    I::F64x2Sub,
    I::F64x2Mul,
    I::F64x2Div,
    I::F64x2Min,
    I::F64x2Max,
    I::F64x2PMin,
    I::F64x2PMax,
    I::F32x4RelaxedMin,
    I::F64x2RelaxedMax,
    I::F32x4Lt,
    I::F64x2Ne,
    I::V128And,
    I::V128Xor,
    I::I32x4Add,
    I::I16x8RelaxedQ15mulrS,
];

const VECTOR_UNARY: [I<'static>; 20] = [
    I::F32x4Neg,
    I::F32x4Abs,
    I::F32x4Sqrt,
    I::F32x4Ceil,
    I::F32x4Nearest,
    I::F32x4Trunc,
    I::F64x2Neg,
    I::F64x2Abs,
    I::F64x2Sqrt,
    I::F64x2Floor,
    I::F64x2Nearest,
    I::F64x2Trunc,
    I::F32x4DemoteF64x2Zero,
    I::F64x2PromoteLowF32x4,
    I::F32x4ConvertI32x4S,
    I::F64x2ConvertLowI32x4U,
    I::I32x4TruncSatF32x4S,
    I::I32x4TruncSatF64x2UZero,
    I::I32x4RelaxedTruncF32x4U,
    I::V128Not,
];

//! The linear memory of a core module, from outside.
//!
//! A program in C takes and gives addresses, so its functions alone are of little use. A module that
//! exports its memory gets five small functions beside its own, each of which moves one or eight
//! bytes between the memory and a register. What is built on them checks every address first, so a
//! wrong one is an error with words and not a trap that ends the instance.

use vac_core::fault::{Fault, Result, Usage};
use wasm_encoder::{CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemArg, TypeSection};
use wasmparser::ValType::{self, I32, I64};

use crate::Val;
use crate::core_module::{CoreMemory, CoreModule};
use crate::instance::{Callee, Instance};
use crate::limits::MEMORY_MOVE_MAX_BYTES;

/// A name, its parameters and its result.
type Helper = (&'static str, &'static [ValType], Option<ValType>);

/// The functions that are added. Their names differ from all that are made for the module's own.
pub(crate) const HELPERS: &[Helper] = &[
    ("memory-size", &[], Some(I64)),
    ("memory-load1", &[I32], Some(I32)),
    ("memory-load8", &[I32], Some(I64)),
    ("memory-store1", &[I32, I32], None),
    ("memory-store8", &[I32, I64], None),
];

/// Bytes that one helper moves at a time.
const WORD_BYTES: usize = 8;

/// Functions that are added to a module, behind its own.
pub(crate) struct Added {
    types_before: u32,
    functions_before: u32,
    pub(crate) count: u32,
    types: TypeSection,
    functions: FunctionSection,
    code: CodeSection,
}

impl Added {
    pub(crate) fn new(module: &CoreModule) -> Self {
        Self {
            types_before: module.types,
            functions_before: module.all_functions,
            count: 0,
            types: TypeSection::new(),
            functions: FunctionSection::new(),
            code: CodeSection::new(),
        }
    }

    /// Adds one and returns its index.
    pub(crate) fn function(&mut self, params: &[ValType], result: Option<ValType>, body: &Function) -> u32 {
        let (params, results) = (params.iter().copied().map(encoded), result.into_iter().map(encoded));
        self.types.ty().function(params, results.collect::<Vec<_>>());
        self.functions.function(self.types_before + self.count);
        self.code.function(body);
        self.count += 1;
        self.functions_before + self.count - 1
    }

    /// The bytes of the items to add to the sections of types, of functions and of bodies.
    pub(crate) fn items(&self) -> [Vec<u8>; 3] {
        [items(&self.types), items(&self.functions), items(&self.code)]
    }
}

/// Adds the helpers for `memory`, of which the program's own begins behind so many bytes, and their exports to `exports`.
pub(crate) fn add(memory: CoreMemory, below: u32, added: &mut Added, exports: &mut ExportSection) {
    for (name, params, result) in HELPERS {
        let index = added.function(params, *result, &body(name, memory, below));
        exports.export(name, ExportKind::Func, index);
    }
}

fn encoded(ty: ValType) -> wasm_encoder::ValType {
    if ty == I64 { wasm_encoder::ValType::I64 } else { wasm_encoder::ValType::I32 }
}

fn body(name: &str, memory: CoreMemory, below: u32) -> Function {
    let at = MemArg { offset: below.into(), align: 0, memory_index: memory.index };
    let pages_below = i64::from(below) >> memory.page_size_log2;
    let mut function = Function::new([]);
    let mut code = function.instructions();
    match name {
        "memory-size" if below > 0 => {
            code.memory_size(memory.index).i64_extend_i32_u().i64_const(pages_below).i64_sub()
        }
        "memory-size" => code.memory_size(memory.index).i64_extend_i32_u(),
        "memory-load1" => code.local_get(0).i32_load8_u(at),
        "memory-load8" => code.local_get(0).i64_load(at),
        "memory-store1" => code.local_get(0).local_get(1).i32_store8(at),
        _ => code.local_get(0).local_get(1).i64_store(at),
    };
    code.end();
    function
}

/// The items of a section, without its length and count. Both are small, but may have any width.
fn items(section: &impl wasm_encoder::Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    let mut reader = wasmparser::BinaryReader::new(&bytes, 0);
    let heads = reader.read_var_u32().and_then(|_| reader.read_var_u32());
    debug_assert!(heads.is_ok());
    bytes.get(reader.current_position()..).unwrap_or_default().to_vec()
}

/// The memory of an instance.
pub struct Memory<'a> {
    instance: &'a mut Instance,
    helpers: Vec<Callee>,
    len_bytes: u64,
}

impl<'a> Memory<'a> {
    /// The memory that the module behind `instance` exports.
    pub fn of(instance: &'a mut Instance) -> Result<Self> {
        let page_size_log2 = instance.core_memory().map(|memory| memory.page_size_log2).ok_or_else(none)?;
        let mut helpers = Vec::new();
        for (name, ..) in HELPERS {
            helpers.push(instance.helper(name)?);
        }
        let mut memory = Self { instance, helpers, len_bytes: 0 };
        let pages = memory.call(0, &[])?;
        memory.len_bytes = pages << page_size_log2;
        Ok(memory)
    }

    /// The bytes from `at` on.
    pub fn read(&mut self, at: u32, len: u32) -> Result<Vec<u8>> {
        self.check(at, len as usize)?;
        let mut bytes = Vec::with_capacity(len as usize);
        while bytes.len() < len as usize {
            self.read_next(at, len as usize, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The bytes from `at` up to, and without, the first that is zero.
    pub fn read_to_zero(&mut self, at: u32) -> Result<Vec<u8>> {
        self.check(at, 1)?;
        let room = usize::try_from(self.len_bytes.saturating_sub(u64::from(at))).unwrap_or(usize::MAX);
        let room = room.min(MEMORY_MOVE_MAX_BYTES);
        let mut bytes = Vec::new();
        while bytes.len() < room {
            let before = bytes.len();
            self.read_next(at, room, &mut bytes)?;
            if let Some(end) = bytes.iter().skip(before).position(|b| *b == 0) {
                bytes.truncate(before + end);
                return Ok(bytes);
            }
        }
        let message = format!("the text at address {at} has no end in its first {room} bytes");
        Err(Fault { kind: "memory", message }.into())
    }

    /// Writes `bytes` to `at` and on.
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        self.check(at, bytes.len())?;
        let mut place = at;
        for word in bytes.chunks(WORD_BYTES) {
            match <[u8; WORD_BYTES]>::try_from(word) {
                Ok(word) => {
                    self.call(4, &[address(place), Val::S64(i64::from_le_bytes(word))])?;
                }
                Err(_) => self.write_bytes(place, word)?,
            }
            place = place.wrapping_add(word.len() as u32);
        }
        Ok(())
    }

    fn write_bytes(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        for (place, byte) in (at..).zip(bytes) {
            self.call(3, &[address(place), Val::S32(i32::from(*byte))])?;
        }
        Ok(())
    }

    /// One more word of `len` bytes from `at`, or one more byte near the end.
    fn read_next(&mut self, at: u32, len: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let place = at.wrapping_add(bytes.len() as u32);
        if len.saturating_sub(bytes.len()) >= WORD_BYTES {
            let word = self.call(2, &[address(place)])?;
            bytes.extend_from_slice(&word.to_le_bytes());
        } else {
            let byte = self.call(1, &[address(place)])?;
            bytes.push(byte as u8);
        }
        Ok(())
    }

    fn check(&self, at: u32, len: usize) -> Result<()> {
        if len > MEMORY_MOVE_MAX_BYTES {
            let message =
                format!("{len} bytes are more than the {MEMORY_MOVE_MAX_BYTES} that one call moves");
            return Err(Usage::new(message).into());
        }
        if u64::from(at) + len as u64 > self.len_bytes {
            let message = format!(
                "{len} bytes at address {at} are not in the memory, which has {} bytes",
                self.len_bytes
            );
            return Err(Fault { kind: "memory", message }.into());
        }
        Ok(())
    }

    fn call(&mut self, helper: usize, args: &[Val]) -> Result<u64> {
        let callee = *self.helpers.get(helper).ok_or_else(none)?;
        match self.instance.call_callee(&callee, args)?.first() {
            Some(Val::S32(v)) => Ok(u64::from(*v as u32)),
            Some(Val::S64(v)) => Ok(*v as u64),
            _ => Ok(0),
        }
    }
}

fn address(at: u32) -> Val {
    Val::S32(at as i32)
}

fn none() -> vac_core::fault::Error {
    Usage::new("this program has no memory that can be reached from outside")
        .hint("a core module that exports its memory has; a component passes values instead")
        .into()
}

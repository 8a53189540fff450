//! A look into a kernel that was stopped: its stack, its memories, its globals.
//!
//! The engine shows all memories and globals of a store only in a core dump, and makes one only of a trap. So a tiny
//! module of our own is started in the store of the kernel that was stopped, and traps. It has neither memory nor
//! globals, and what the kernel left is not touched. Engines that do so are made by [`Engine::looking`]; no other
//! one pays for it. [`crate::state`] finds the memories and globals of a program in the same way.
//!
//! Invariant: what is seen depends on the kernel and on where it was stopped, and on nothing of the host: no address,
//! no time, no order but that in which the engine made the instances.
//!
//! [`Engine::looking`]: crate::Engine::looking

use wasmtime::{
    Extern, Global, Instance, Memory, Module, Mutability, Ref, Store, Val, WasmBacktrace, WasmCoreDump,
};

use crate::engine::chain;
use crate::instance::NoWatch;
use crate::limits::{ENDED_FRAMES_MAX, FRAMES_MAX, LOOK_BYTES_MAX};
use crate::meter::Meter;
use crate::rewrite::meter;
use crate::schedule;
use crate::wall::{Exit, State, tick};

/// `(module (func unreachable) (start 0))`.
const TRAPS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0\x0a\x05\x01\x03\0\0\x0b";

/// Which bytes of a memory are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Number of the memory, as [`Look::memories`] counts.
    pub memory: usize,
    /// The first byte.
    pub address: u64,
    /// How many.
    pub len_bytes: u64,
}

/// What of a kernel is wanted besides its stack and the digests of its memories.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lens {
    /// Bytes of a memory.
    pub window: Option<Window>,
    /// Whether the globals are wanted.
    pub globals: bool,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Ticks that the kernel had used.
    pub ticks: u64,
    /// Whether these are all that it had: then nothing but that stopped it.
    pub is_out_of_ticks: bool,
    /// The guest's calls, the innermost first.
    pub frames: Vec<Frame>,
    /// Every memory, in the order in which they were made.
    pub memories: Vec<MemoryLook>,
    /// Every global, in that order; none if they were not wanted.
    pub globals: Vec<GlobalLook>,
    /// The bytes that were wanted; `None` if there are no such.
    pub window: Option<Vec<u8>>,
    /// Why there are no memories, if that is why.
    pub failed: Option<String>,
}

/// A call of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The module's own name, if it has one.
    pub module: Option<String>,
    /// The function's name, if the module has a section of names.
    pub function: Option<String>,
    /// The function's number in its module.
    pub index: u32,
    /// Where in the module's bytes it is.
    pub offset: Option<u64>,
}

/// A linear memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLook {
    /// The name of the first module that exports it, if it has one.
    pub module: Option<String>,
    /// The name it is exported by, if it is.
    pub export: Option<String>,
    /// Its size.
    pub len_bytes: u64,
    /// BLAKE3 of all its bytes.
    pub digest: [u8; 32],
}

/// A global.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalLook {
    /// `i32`, `i64`, `f32`, `f64`, `v128` or `ref`.
    pub kind: &'static str,
    /// Whether the guest may change it.
    pub is_mutable: bool,
    /// Its value: integers as they are, other numbers as their bits.
    pub value: String,
}

/// Tells the recorder in which calls `error` stopped the kernel behind `store`, and shows it the kernel if it wants to
/// see it.
pub(crate) fn after(store: &mut Store<State>, error: &wasmtime::Error) {
    let is_metered = matches!(store.data().meter, Meter::Counters(_));
    let frames = error.downcast_ref::<WasmBacktrace>().map(|trace| frames_of(trace, is_metered));
    let frames = frames.unwrap_or_default();
    if !error.is::<Exit>() {
        let innermost = frames.iter().take(ENDED_FRAMES_MAX).cloned().collect();
        store.data_mut().recorder.ended_in(innermost);
    }
    show(store, frames);
}

/// Shows the recorder a kernel that is in no call.
pub(crate) fn between(store: &mut Store<State>) {
    show(store, Vec::new());
}

fn show(store: &mut Store<State>, frames: Vec<Frame>) {
    let Some(lens) = store.data().recorder.lens() else { return };
    let look = look(store, frames, lens);
    store.data_mut().recorder.looked(look);
}

fn look(store: &mut Store<State>, frames: Vec<Frame>, lens: Lens) -> Look {
    let ticks = tick(store);
    let is_out_of_ticks = store.data().meter.is_out_of_ticks(ticks);
    let seen = Look { ticks, is_out_of_ticks, frames, ..Look::default() };
    let dump = match dump(store) {
        Ok(dump) => dump,
        Err(error) => return Look { failed: Some(chain(&error)), ..seen },
    };
    let names = names(store, dump.instances());
    let own: Vec<Memory> = dump.memories().iter().filter(|m| !is_of_meter(store, m)).copied().collect();
    let memories = own.iter().map(|memory| seen_memory(store, memory, &names)).collect();
    let window = lens.window.and_then(|window| bytes_of(store, own.get(window.memory)?, window));
    let globals = match lens.globals {
        true => dump.globals().iter().map(|global| seen_global(store, *global)).collect(),
        false => Vec::new(),
    };
    Look { memories, globals, window, ..seen }
}

/// Whether a memory holds the counters of the meter, and nothing of the guest.
pub(crate) fn is_of_meter(store: &Store<State>, memory: &Memory) -> bool {
    match &store.data().meter {
        Meter::Counters(counters) => counters.are_at(memory.data_ptr(store)),
        Meter::Fuel { .. } => false,
    }
}

/// The core dump of a trap in the store, which runs no component any more after this.
pub(crate) fn dump(store: &mut Store<State>) -> wasmtime::Result<WasmCoreDump> {
    let module = Module::new(store.engine(), TRAPS)?;
    match schedule::run(Instance::new_async(&mut *store, &module, &[]), &NoWatch) {
        Ok(_) => Err(wasmtime::Error::msg("the module that should trap did not")),
        Err(error) => error.downcast::<WasmCoreDump>(),
    }
}

/// The guest's calls as its own module has them: what the meter imports is not counted, and places are not known
/// where it added instructions.
fn frames_of(backtrace: &WasmBacktrace, is_metered: bool) -> Vec<Frame> {
    let added = if is_metered { meter::FUNCTIONS } else { 0 };
    let frame = |frame: &wasmtime::FrameInfo| Frame {
        module: frame.module().name().map(str::to_owned),
        function: frame.func_name().map(str::to_owned),
        index: frame.func_index().saturating_sub(added),
        offset: frame.module_offset().filter(|_| !is_metered).map(|offset| offset as u64),
    };
    let is_of_meter = |frame: &&wasmtime::FrameInfo| is_metered && frame.func_name() == Some(meter::GATE);
    backtrace.frames().iter().filter(|frame| !is_of_meter(frame)).take(FRAMES_MAX).map(frame).collect()
}

/// An exported memory, its module's name and its own.
type Named = (Memory, Option<String>, String);

fn names(store: &mut Store<State>, instances: &[Instance]) -> Vec<Named> {
    let mut names = Vec::new();
    for instance in instances {
        let module = instance.module(&*store).name().map(str::to_owned);
        let exports = instance.exports(&mut *store).filter_map(|export| {
            let name = export.name().to_owned();
            match export.into_extern() {
                Extern::Memory(memory) => Some((memory, module.clone(), name)),
                _ => None,
            }
        });
        names.extend(exports);
    }
    names
}

fn seen_memory(store: &Store<State>, memory: &Memory, names: &[Named]) -> MemoryLook {
    // Where it is tells it from the others, and is shown to nobody.
    let is_same = |named: &&Named| named.0.data_ptr(store) == memory.data_ptr(store);
    let (module, export) = names
        .iter()
        .find(is_same)
        .map_or((None, None), |(_, module, name)| (module.clone(), Some(name.clone())));
    let bytes = memory.data(store);
    MemoryLook { module, export, len_bytes: bytes.len() as u64, digest: *blake3::hash(bytes).as_bytes() }
}

/// The bytes of a window, as far as the memory goes; `None` if it begins behind its end.
fn bytes_of(store: &Store<State>, memory: &Memory, window: Window) -> Option<Vec<u8>> {
    let bytes = memory.data(store);
    let start = usize::try_from(window.address).ok()?;
    let len = usize::try_from(window.len_bytes).unwrap_or(usize::MAX).min(LOOK_BYTES_MAX);
    let end = start.saturating_add(len).min(bytes.len());
    bytes.get(start..end).filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec)
}

fn seen_global(store: &mut Store<State>, global: Global) -> GlobalLook {
    let is_mutable = matches!(global.ty(&*store).mutability(), Mutability::Var);
    let (kind, value) = match global.get(&mut *store) {
        Val::I32(value) => ("i32", value.to_string()),
        Val::I64(value) => ("i64", value.to_string()),
        Val::F32(bits) => ("f32", format!("0x{bits:08x}")),
        Val::F64(bits) => ("f64", format!("0x{bits:016x}")),
        Val::V128(bits) => ("v128", format!("0x{:032x}", bits.as_u128())),
        other => {
            let is_null = other.ref_().is_none_or(|reference: Ref| reference.is_null());
            ("ref", if is_null { "null" } else { "not null" }.to_owned())
        }
    };
    GlobalLook { kind, is_mutable, value }
}

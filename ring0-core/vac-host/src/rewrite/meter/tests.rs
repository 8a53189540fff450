//! Modules as text, metered and run on the engine without any meter of its own.

use wasmtime::{
    Config, Engine, Func, FuncType, Instance, Linker, Memory, MemoryType, Module, Store, Val, ValType,
};

use super::*;

mod counted;
mod exact;
mod forms;
mod native;
mod smith;
mod speed;
mod stops;

/// A run's end.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Returned(Vec<String>),
    Stopped,
    TooDeep,
    Trapped(String),
}

/// What the counters were afterwards.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    end: End,
    ticks: u64,
    depth: u64,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    ticks: u64,
    depth: u64,
}

const NO_LIMITS: Limits = Limits { ticks: u64::MAX / 2, depth: 20_000 };

/// All engines: the compiler, and the interpreter.
const TARGETS: [Option<&str>; 2] = [None, Some("pulley64")];

fn config(target: Option<&str>) -> Config {
    let mut config = Config::new();
    config
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .wasm_exceptions(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_tail_call(true)
        .wasm_memory64(true)
        .wasm_multi_memory(true)
        .wasm_threads(target.is_none())
        .max_wasm_stack(64 << 20)
        .async_stack_size(80 << 20);
    if let Some(target) = target {
        config.target(target).unwrap();
    }
    config
}

/// A metered module that was started.
struct Metered {
    store: Store<Vec<u64>>,
    instance: Instance,
    counters: Memory,
}

/// The text of the errors with which `stop` and `deep` end a run.
const STOPPED: &str = "vac: stopped";
const TOO_DEEP: &str = "vac: too deep";

impl Metered {
    fn start(engine: &Engine, bytes: &[u8], limits: Limits) -> wasmtime::Result<Self> {
        Self::with_fuel(engine, bytes, limits, None)
    }

    /// A module that needs not be metered, with the engine's fuel.
    fn with_fuel(engine: &Engine, bytes: &[u8], limits: Limits, fuel: Option<u64>) -> wasmtime::Result<Self> {
        let module = Module::new(engine, bytes)?;
        let mut store = Store::new(engine, Vec::new());
        if let Some(fuel) = fuel {
            store.set_fuel(fuel)?;
        }
        let counters = Memory::new(&mut store, MemoryType::new(1, Some(1)))?;
        let mut linker = Linker::new(engine);
        linker.define(&store, IMPORTS, COUNTERS, counters)?;
        linker.func_wrap(IMPORTS, STOP, || -> wasmtime::Result<()> { wasmtime::bail!(STOPPED) })?;
        linker.func_wrap(IMPORTS, DEEP, || -> wasmtime::Result<()> { wasmtime::bail!(TOO_DEEP) })?;
        // Notes the time that a host function sees.
        let ty = FuncType::new(engine, [], []);
        let now = Func::new(&mut store, ty, move |mut caller, _, _| {
            let ticks = word(counters.data(&caller), TICKS_AT);
            caller.data_mut().push(ticks);
            Ok(())
        });
        linker.define(&store, "test", "now", now)?;
        let data = counters.data_mut(&mut store);
        data[TICK_LIMIT_AT as usize..][..8].copy_from_slice(&limits.ticks.to_le_bytes());
        data[DEPTH_LIMIT_AT as usize..][..8].copy_from_slice(&limits.depth.to_le_bytes());
        let instance = linker.instantiate(&mut store, &module)?;
        Ok(Self { store, instance, counters })
    }

    fn call(&mut self, name: &str, args: &[Val]) -> Seen {
        let func = self.instance.get_func(&mut self.store, name).unwrap();
        let end = end(func, &mut self.store, args);
        let data = self.counters.data(&self.store);
        Seen { end, ticks: word(data, TICKS_AT), depth: word(data, DEPTH_AT) }
    }
}

/// Calls `func`; results are text, in which floats are bits.
fn end<T: 'static>(func: Func, store: &mut Store<T>, args: &[Val]) -> End {
    let types: Vec<ValType> = func.ty(&mut *store).results().collect();
    let mut results = vec![Val::I32(0); types.len()];
    match func.call(&mut *store, args, &mut results) {
        Ok(()) => End::Returned(results.iter().map(text).collect()),
        Err(error) => match error.root_cause().to_string().as_str() {
            STOPPED => End::Stopped,
            TOO_DEEP => End::TooDeep,
            other => End::Trapped(other.to_owned()),
        },
    }
}

/// References are shown as their kind: two runs have different ones.
fn text(value: &Val) -> String {
    match value {
        Val::I32(_) | Val::I64(_) | Val::F32(_) | Val::F64(_) | Val::V128(_) => format!("{value:?}"),
        Val::FuncRef(reference) => format!("function {}", reference.is_some()),
        Val::ExternRef(reference) => format!("extern {}", reference.is_some()),
        Val::AnyRef(reference) => format!("any {}", reference.is_some()),
        Val::ExnRef(reference) => format!("exception {}", reference.is_some()),
        other => format!("{other:?}"),
    }
}

fn word(bytes: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap())
}

fn binary(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

/// Runs `run` of a module on every engine, which must agree.
fn on_all(wat: &str, limits: Limits, args: &[Val]) -> Seen {
    let bytes = module(&binary(wat)).unwrap();
    let [compiled, interpreted] = TARGETS.map(|target| {
        let engine = Engine::new(&config(target)).unwrap();
        Metered::start(&engine, &bytes, limits).unwrap().call("run", args)
    });
    assert_eq!(compiled, interpreted, "the compiler and the interpreter differ");
    compiled
}

fn ticks(wat: &str, args: &[Val]) -> u64 {
    let seen = on_all(wat, NO_LIMITS, args);
    assert!(matches!(seen.end, End::Returned(_)), "{seen:?}");
    assert_eq!(seen.depth, 0, "depth was not taken back");
    seen.ticks
}

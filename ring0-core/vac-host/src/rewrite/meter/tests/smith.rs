//! Random modules do the same metered as they do without, and cost the same on every engine.

use arbitrary::{Arbitrary, Unstructured};
use wasm_smith::Config as Shape;
use wasmtime::{Extern, ExternType};

use super::*;

/// Modules that are tried, unless `VAC_METER_SEEDS` says how many.
const SEEDS: u64 = 200;
const INPUT_BYTES: usize = 6_000;
const LIMITS: Limits = Limits { ticks: 300_000, depth: 2_000 };
/// The stack of a module that nothing meters, and of the thread that it runs on.
const STACK_BYTES: usize = 16 << 20;

fn random_module(seed: u64) -> arbitrary::Result<Vec<u8>> {
    let mut bytes = vec![0; INPUT_BYTES];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let mut input = Unstructured::new(&bytes);
    let mut shape = Shape::arbitrary(&mut input)?;
    shape.max_imports = 0;
    shape.min_funcs = 1;
    shape.max_funcs = 10;
    shape.max_instructions = 400;
    shape.export_everything = true;
    shape.max_memories = 3;
    shape.max_memory32_bytes = 1 << 20;
    shape.max_memory64_bytes = 1 << 20;
    shape.memory_max_size_required = true;
    shape.max_table_elements = 1_000;
    shape.table_max_size_required = true;
    shape.gc_enabled = true;
    shape.exceptions_enabled = true;
    shape.tail_call_enabled = true;
    shape.simd_enabled = true;
    shape.multi_value_enabled = true;
    shape.reference_types_enabled = true;
    shape.bulk_memory_enabled = true;
    // The interpreter has no atomic instructions; the others are not of the profile.
    shape.threads_enabled = false;
    shape.shared_everything_threads_enabled = false;
    shape.custom_descriptors_enabled = false;
    shape.custom_page_sizes_enabled = false;
    shape.wide_arithmetic_enabled = false;
    shape.allow_invalid_funcs = false;
    // Of a module that shows nothing but functions, and is as old as most, all calls can be carried the count.
    if seed.is_multiple_of(2) {
        shape.export_everything = false;
        (shape.min_exports, shape.max_exports) = (1, 4);
        shape.gc_enabled = false;
        shape.tail_call_enabled = false;
        shape.exceptions_enabled = seed.is_multiple_of(8);
        shape.reference_types_enabled = seed % 8 == 2;
        (shape.min_tables, shape.max_tables) = (1, 2);
        (shape.min_element_segments, shape.max_element_segments) = (1, 4);
        shape.min_funcs = 4;
    }
    Ok(wasm_smith::Module::new(shape, &mut input)?.to_bytes())
}

/// The settings of all sides: NaNs have one form, so that a value can be compared.
fn settings(target: Option<&str>) -> Config {
    let mut config = config(target);
    config.cranelift_nan_canonicalization(true).max_wasm_stack(STACK_BYTES).async_stack_size(2 * STACK_BYTES);
    config
}

/// What a module did: how its calls ended, and what is in its memories and globals.
#[derive(Debug, PartialEq)]
struct Deeds {
    ends: Vec<End>,
    state: Vec<String>,
    ticks: u64,
    depth: u64,
}

impl Deeds {
    fn was_ended(&self) -> bool {
        self.ends.iter().any(|end| matches!(end, End::Stopped | End::TooDeep))
            || self.ends.iter().any(|end| matches!(end, End::Trapped(why) if is_limit(why)))
    }

    fn trapped(&self) -> bool {
        self.ends.iter().any(|end| matches!(end, End::Trapped(_)))
    }
}

/// The engine's own limits.
fn is_limit(why: &str) -> bool {
    ["all fuel consumed", "call stack exhausted", "GC heap out of memory"]
        .iter()
        .any(|limit| why.contains(limit))
}

fn arguments(func: &Func, store: &Store<Vec<u64>>, seed: u64) -> Option<Vec<Val>> {
    let pick = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = |(at, ty): (usize, ValType)| {
        let bits = pick.rotate_left(at as u32 * 7) % 41;
        Some(match ty {
            ValType::I32 => Val::I32(bits as i32 - 5),
            ValType::I64 => Val::I64(bits as i64 - 5),
            ValType::F32 => Val::F32((bits as f32 / 3.0).to_bits()),
            ValType::F64 => Val::F64((bits as f64 / 3.0).to_bits()),
            ValType::V128 => Val::V128((u128::from(pick) << 32 | u128::from(bits)).into()),
            ValType::Ref(ty) if ty.is_nullable() => Val::null_ref(ty.heap_type()),
            ValType::Ref(_) => return None,
        })
    };
    func.ty(store).params().enumerate().map(value).collect()
}

/// Starts a module and calls all that it exports; `None` if it does not start.
fn deeds(config: &Config, bytes: &[u8], seed: u64, has_fuel: bool) -> wasmtime::Result<Deeds> {
    let engine = Engine::new(config)?;
    let mut metered = Metered::with_fuel(&engine, bytes, LIMITS, has_fuel.then_some(10 * LIMITS.ticks))?;
    let names: Vec<String> = Module::new(&engine, bytes)?
        .exports()
        .filter(|export| matches!(export.ty(), ExternType::Func(_)))
        .map(|export| export.name().to_owned())
        .collect();
    let mut ends = Vec::new();
    for name in names {
        let func = metered.instance.get_func(&mut metered.store, &name).unwrap();
        let Some(args) = arguments(&func, &metered.store, seed) else { continue };
        ends.push(end(func, &mut metered.store, &args));
        // What comes after a trap is compared too, but a count that was cut off is not.
        if ends.last().is_some_and(|end| !matches!(end, End::Returned(_))) {
            break;
        }
    }
    let data = metered.counters.data(&metered.store);
    let (ticks, depth) = (word(data, TICKS_AT), word(data, DEPTH_AT));
    Ok(Deeds { ends, state: state(&mut metered), ticks, depth })
}

fn state(metered: &mut Metered) -> Vec<String> {
    let exports: Vec<(String, Extern)> = metered
        .instance
        .exports(&mut metered.store)
        .map(|export| (export.name().to_owned(), export.into_extern()))
        .collect();
    let mut state = Vec::new();
    for (name, item) in exports {
        match item {
            Extern::Memory(memory) => {
                let data = memory.data(&metered.store);
                state.push(format!("{name}: {} bytes, {}", data.len(), blake3::hash(data)));
            }
            Extern::Global(global) => {
                let value = global.get(&mut metered.store);
                state.push(format!("{name}: {}", text(&value)));
            }
            Extern::Table(table) => state.push(format!("{name}: {}", table.size(&metered.store))),
            _ => {}
        }
    }
    state
}

/// What there was to compare.
#[derive(Debug, Default, PartialEq)]
enum Compared {
    #[default]
    Nothing,
    InMemory,
    /// Some function was carried its count.
    Carried,
}

fn compare(seed: u64) -> Compared {
    let Ok(bytes) = random_module(seed) else { return Compared::Nothing };
    let mut with_fuel = settings(None);
    with_fuel.consume_fuel(true);
    let regions = with(&bytes, Options { counts_loops: false, ..Options::USUAL }).unwrap();
    let in_parts = with(&bytes, Options { part: 1 + seed % 40, ..Options::USUAL }).unwrap();
    let in_memory = with(&bytes, Options { carries: false, ..Options::USUAL }).unwrap();
    let counted = module(&bytes).unwrap();
    let compared = if counted == in_memory { Compared::InMemory } else { Compared::Carried };
    let plain = deeds(&with_fuel, &bytes, seed, true);
    let compiled = deeds(&settings(None), &counted, seed, false);
    let interpreted = deeds(&settings(Some("pulley64")), &counted, seed, false);
    let others = [regions, in_parts, in_memory].map(|bytes| deeds(&settings(None), &bytes, seed, false));
    let (Ok(plain), Ok(compiled), Ok(interpreted), [Ok(each_trip), Ok(in_parts), Ok(in_memory)]) =
        (plain, compiled, interpreted, others)
    else {
        return Compared::Nothing;
    };
    let mut ends = compiled.ends.iter().chain(&interpreted.ends);
    if !ends.any(|end| matches!(end, End::Trapped(why) if is_limit(why))) {
        assert_eq!(compiled, interpreted, "seed {seed}: the compiler and the interpreter");
        // In whatever form functions get the count: also where it was stopped or trapped.
        let all = |deeds: &Deeds| (deeds.ends.clone(), deeds.state.clone(), deeds.ticks);
        assert_eq!(all(&compiled), all(&in_memory), "seed {seed}: carried and in memory");
    }
    if [&plain, &compiled, &each_trip, &in_parts].iter().any(|deeds| deeds.was_ended()) {
        return Compared::Nothing;
    }
    assert_eq!((&plain.ends, &plain.state), (&compiled.ends, &compiled.state), "seed {seed}: metered");
    // At a trap, a loop that is charged in parts has been charged for more.
    let trapped = compiled.trapped();
    let known = |deeds: &Deeds| (deeds.ends.clone(), deeds.state.clone(), deeds.ticks * u64::from(!trapped));
    assert_eq!(known(&compiled), known(&each_trip), "seed {seed}: counted loops");
    assert_eq!(known(&compiled), known(&in_parts), "seed {seed}: counted loops in small parts");
    assert!(trapped || compiled.depth == 0, "seed {seed}: depth {}", compiled.depth);
    if compiled.ends.is_empty() { Compared::Nothing } else { compared }
}

#[test]
fn random_modules_do_the_same_metered() {
    let seeds = std::env::var_os("VAC_METER_SEEDS").map(|text| text.to_str().unwrap().parse().unwrap());
    let seeds = seeds.unwrap_or(SEEDS);
    let run = move || (0..seeds).map(compare).collect::<Vec<_>>();
    let thread = std::thread::Builder::new().stack_size(4 * STACK_BYTES).spawn(run).unwrap();
    let all = thread.join().unwrap();
    let carried = all.iter().filter(|compared| **compared == Compared::Carried).count() as u64;
    let compared = all.iter().filter(|compared| **compared != Compared::Nothing).count() as u64;
    assert!(compared > seeds / 4, "only {compared} of {seeds} could be compared");
    assert!(carried > seeds / 24, "only {carried} of {compared} were carried their count");
}

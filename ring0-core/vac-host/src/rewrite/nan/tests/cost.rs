//! What canonical NaNs cost loops. Prints the table of `docs/decisions/0015`, the best of some rounds.

use std::time::Instant;

use wasmtime::{Engine, Instance, Module, Store, Val};

use super::{engines, module};

const ROUNDS: usize = 75;

/// Loops that the prebuilt kernel has none of. Each repeats its work often enough to be timed.
const LOOPS: &str = r#"(module (memory (export "memory") 2)
    (func (export "saxpy") (param $times i32) (local $i i32) (local $a f32)
        (local.set $a (f32.const 0.9999))
        (loop $again
            (local.set $i (i32.const 0))
            (loop $next
                (f32.store offset=65536 (local.get $i)
                    (f32.add (f32.mul (local.get $a) (f32.load (local.get $i)))
                        (f32.load offset=65536 (local.get $i))))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 16384))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
    (func (export "daxpy") (param $times i32) (local $i i32) (local $a f64)
        (local.set $a (f64.const 0.9999))
        (loop $again
            (local.set $i (i32.const 0))
            (loop $next
                (f64.store offset=65536 (local.get $i)
                    (f64.add (f64.mul (local.get $a) (f64.load (local.get $i)))
                        (f64.load offset=65536 (local.get $i))))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 16384))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
    (func (export "saxpy of vectors") (param $times i32) (local $i i32) (local $a v128)
        (local.set $a (f32x4.splat (f32.const 0.9999)))
        (loop $again
            (local.set $i (i32.const 0))
            (loop $next
                (v128.store offset=65536 (local.get $i)
                    (f32x4.add (f32x4.mul (local.get $a) (v128.load (local.get $i)))
                        (v128.load offset=65536 (local.get $i))))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (i32.const 16384))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
    (func (export "relaxation") (param $times i32) (local $i i32)
        (loop $again
            (local.set $i (i32.const 8))
            (loop $next
                (f64.store (local.get $i)
                    (f64.mul (f64.const 0.25) (f64.add (f64.add (f64.load (i32.sub (local.get $i) (i32.const 8)))
                        (f64.load offset=8 (local.get $i))) (f64.mul (f64.const 2) (f64.load (local.get $i))))))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 16384))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))"#;

/// Exports and arguments that take a few milliseconds: short enough that some rounds are not interrupted.
fn kernels() -> Vec<(&'static str, Vec<Val>)> {
    vec![
        ("float-loop", vec![Val::I64(500_000)]),
        ("matmul-naive", vec![Val::I32(120)]),
        ("matmul-blocked", vec![Val::I32(160)]),
    ]
}

fn loops() -> Vec<(&'static str, Vec<Val>)> {
    ["saxpy", "daxpy", "saxpy of vectors", "relaxation"].map(|name| (name, vec![Val::I32(500)])).to_vec()
}

/// A module in one of the engines.
struct Side {
    store: Store<()>,
    instance: Instance,
}

impl Side {
    fn start(engine: &Engine, bytes: &[u8]) -> Self {
        let module = Module::new(engine, bytes).expect("it compiles");
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("it starts");
        Self { store, instance }
    }

    fn time(&mut self, name: &str, args: &[Val]) -> f64 {
        let func = self.instance.get_func(&mut self.store, name).expect("it has the loop");
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        #[expect(clippy::disallowed_methods, reason = "measures, and nothing depends on it")]
        let start = Instant::now();
        func.call(&mut self.store, args, &mut results).expect("the loop ends");
        start.elapsed().as_secs_f64() * 1e3
    }
}

#[test]
#[ignore = "takes a while, and prints a table"]
fn table() {
    println!("| loop | plain | the engine's | this pass | without hints |");
    let bench = include_bytes!("../../../../../../ring1-kernels/prebuilt/bench.wasm");
    rows(&core_of(bench), kernels());
    rows(&wat::parse_str(LOOPS).expect("the loops are well formed"), loops());
}

fn rows(bytes: &[u8], calls: Vec<(&str, Vec<Val>)>) {
    let rewritten = module(bytes).expect("it can be rewritten");
    let engines = engines();
    let mut unhinted = engines.compiled.config().clone();
    let unhinted = Engine::new(unhinted.wasm_branch_hinting(false)).expect("the engine starts");
    let mut sides = [
        Side::start(&engines.compiled, bytes),
        Side::start(&engines.reference, bytes),
        Side::start(&engines.compiled, &rewritten),
        Side::start(&unhinted, &rewritten),
    ];
    for (name, args) in calls {
        let mut times = [f64::MAX; 4];
        for _ in 0..ROUNDS {
            for (side, best) in sides.iter_mut().zip(&mut times) {
                *best = best.min(side.time(name, &args));
            }
        }
        let [plain, engine, pass, unhinted] = times;
        let of = |time: f64| time / plain;
        println!("| {name} | {plain:.1} ms | {:.2}x | {:.2}x | {:.2}x |", of(engine), of(pass), of(unhinted));
    }
}

/// The largest module of a component that imports nothing.
fn core_of(bytes: &[u8]) -> Vec<u8> {
    let modules = wasmparser::Parser::new(0).parse_all(bytes).filter_map(|payload| match payload {
        Ok(wasmparser::Payload::ModuleSection { unchecked_range, .. }) => Some(unchecked_range),
        _ => None,
    });
    let largest = modules.max_by_key(|range| range.len()).expect("it has a module");
    bytes[largest].to_vec()
}

//! What metering costs. Not a test: `cargo test -p vac-host -- --ignored --nocapture speed`.

use wasmparser::{Parser, Payload};

use super::*;

fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn core_module() -> Vec<u8> {
    let bytes = include_bytes!("../../../../../../ring1-kernels/prebuilt/bench.wasm");
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload.unwrap() {
            return bytes[unchecked_range].to_vec();
        }
    }
    unreachable!()
}

struct Side {
    name: &'static str,
    store: Store<()>,
    instance: Instance,
    counters: Option<Memory>,
    times: Vec<u64>,
    size: usize,
}

impl Side {
    fn new(name: &'static str, config: &Config, bytes: &[u8]) -> Self {
        let engine = Engine::new(config).unwrap();
        let module = Module::new(&engine, bytes).unwrap();
        let size = module.serialize().unwrap().len();
        let mut store = Store::new(&engine, ());
        if name.starts_with("fuel") {
            store.set_fuel(u64::MAX).unwrap();
        }
        let counters = Memory::new(&mut store, MemoryType::new(1, Some(1))).unwrap();
        let mut linker = Linker::new(&engine);
        linker.define(&store, IMPORTS, COUNTERS, counters).unwrap();
        let data = counters.data_mut(&mut store);
        data[8..16].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        data[24..32].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        linker.define_unknown_imports_as_default_values(&mut store, &module).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        Self { name, store, instance, counters: Some(counters), times: vec![], size }
    }

    fn run(&mut self, export: &str, args: &[Val]) -> String {
        let func = self.instance.get_func(&mut self.store, export).unwrap();
        let start = cpu();
        let end = end(func, &mut self.store, args);
        self.times.push(cpu() - start);
        format!("{end:?}")
    }
}

#[test]
#[ignore = "measures; fails on nothing"]
fn speed() {
    let plain = core_module();
    let kernels: Vec<(&str, Vec<Val>)> = vec![
        ("sieve", vec![Val::I64(5_000_000)]),
        ("sum-squares", vec![Val::I64(50_000_000)]),
        ("float-loop", vec![Val::I64(3_000_000)]),
        ("matmul-naive", vec![Val::I32(256)]),
        ("matmul-blocked", vec![Val::I32(384)]),
        ("sha256", vec![Val::I32(1 << 20), Val::I32(4)]),
        ("json", vec![Val::I32(50)]),
    ];
    let mut fuel = config(None);
    fuel.consume_fuel(true);
    let regions = with(&plain, Options { counts_loops: false, ..Options::USUAL }).unwrap();
    let in_memory = with(&plain, Options { carries: false, ..Options::USUAL }).unwrap();
    let counted = module(&plain).unwrap();
    let mut sides = [
        Side::new("plain", &config(None), &plain),
        Side::new("fuel", &fuel, &plain),
        Side::new("regions", &config(None), &regions),
        Side::new("in memory", &config(None), &in_memory),
        Side::new("usual", &config(None), &counted),
    ];
    println!("module {} -> {} -> {} bytes", plain.len(), regions.len(), counted.len());
    sides.iter().for_each(|side| println!("code {}: {}", side.name, side.size));
    let mut products = [1.0; 5];
    for (export, args) in &kernels {
        for side in &mut sides {
            side.times.clear();
        }
        for _ in 0..9 {
            let mut ends: Vec<String> = sides.iter_mut().map(|side| side.run(export, args)).collect();
            ends.dedup();
            assert_eq!(ends.len(), 1, "{ends:?}");
        }
        let best: Vec<f64> = sides.iter().map(|s| *s.times.iter().min().unwrap() as f64 / 1e9).collect();
        let ticks: Vec<u64> =
            sides[2..].iter().map(|s| word(s.counters.unwrap().data(&s.store), TICKS_AT)).collect();
        assert!(ticks.iter().all(|of| *of == ticks[0]), "{export}");
        let ratios: Vec<f64> = best.iter().map(|b| b / best[0]).collect();
        products.iter_mut().zip(&ratios).for_each(|(p, r)| *p *= r);
        println!(
            "{export:16} {:8.2} ms  fuel {:.2}  regions {:.2}  in memory {:.2}  usual {:.2}",
            best[0] * 1e3,
            ratios[1],
            ratios[2],
            ratios[3],
            ratios[4]
        );
    }
    println!("mean {:?}", products.map(|p: f64| p.powf(1.0 / kernels.len() as f64)));
}

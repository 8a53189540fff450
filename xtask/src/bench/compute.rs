//! What the settings of profile `det-1` cost loops, against the engine's own settings, and one by one.

use std::sync::Arc;

use vac_host::{Budget, Compiled, Engine, Instance, NoRecorder, Setup, Val, inspect, load};

use super::figure::{Figure, Goal};
use super::plain::{self, Plain};
use super::timing::{Side, geometric_mean, medians, time};
use super::{Result, prebuilt, text};

const ROUNDS: usize = 9;
const GEOMETRIC_MEAN_GOAL: f64 = 2.0;
const PLAIN: &str = "plain wasmtime";
const NOTE: &str = "nothing crosses the wall while a loop runs, so no recorder is part of this; no loop has SIMD, so \
`relaxed_simd_deterministic` changes none of them";

/// Exports of `bench` and arguments that take about a tenth of a second.
fn kernels() -> [(&'static str, Vec<Val>); 7] {
    [
        ("sieve", vec![Val::U64(20_000_000)]),
        ("sum-squares", vec![Val::U64(200_000_000)]),
        ("float-loop", vec![Val::U64(10_000_000)]),
        ("matmul-naive", vec![Val::U32(400)]),
        ("matmul-blocked", vec![Val::U32(512)]),
        ("sha256", vec![Val::U32(1 << 20), Val::U32(20)]),
        ("json", vec![Val::U32(200)]),
    ]
}

/// `det-1` and each of its settings alone.
pub(super) fn run() -> Result<Vec<Figure>> {
    let bytes = prebuilt("bench")?;
    let mut vac = Vac::start(&bytes)?;
    let mut plain = Plain::start(&plain::config(), &bytes)?;
    let mut fuel = Plain::start(plain::config().consume_fuel(true), &bytes)?;
    let mut nan = Plain::start(plain::config().cranelift_nan_canonicalization(true), &bytes)?;
    let names = ["det-1", "fuel alone", "canonical NaN alone"];
    let mut figures = Vec::new();
    let mut ratios: [Vec<f64>; 3] = Default::default();
    for (kernel, args) in kernels() {
        let index = vac.find(kernel)?;
        let mut sides = [
            plain_side(&mut plain, kernel, &args)?,
            Box::new(|| {
                time(|| vac.instance.call_index(&index, &args).map_err(|stopped| text(into(stopped))))
            }),
            plain_side(&mut fuel, kernel, &args)?,
            plain_side(&mut nan, kernel, &args)?,
        ];
        let medians = medians(ROUNDS, &mut sides)?;
        for ((name, ratios), value) in names.iter().zip(&mut ratios).zip(&medians[1..]) {
            let (value, baseline) = (value / 1e6, medians[0] / 1e6);
            ratios.push(value / baseline);
            figures.push(Figure::new(format!("{kernel}, {name}"), "ms", value, (PLAIN, baseline)));
        }
    }
    for (name, ratios) in names.iter().zip(&ratios) {
        let mean = geometric_mean(ratios);
        figures.push(Figure::new(format!("geometric mean, {name}"), "x", mean, (PLAIN, 1.0)));
    }
    let at = figures.len() - names.len();
    figures[at] = figures[at].clone().goal(Goal::RatioAtMost(GEOMETRIC_MEAN_GOAL)).note(NOTE);
    Ok(figures)
}

fn plain_side<'a>(plain: &'a mut Plain, kernel: &str, args: &'a [Val]) -> Result<Side<'a>> {
    let func = plain.func(kernel)?;
    Ok(Box::new(move || time(|| plain.call(&func, args))))
}

/// A component that was started by VAC.
pub(super) struct Vac {
    pub(super) engine: Engine,
    pub(super) compiled: Arc<Compiled>,
    pub(super) instance: Instance,
}

impl Vac {
    pub(super) fn start(bytes: &[u8]) -> Result<Self> {
        let engine = Engine::new().map_err(text)?;
        let loaded = load::load(bytes, "the benchmark").map_err(text)?;
        let compiled = Arc::new(engine.compile(&loaded, None).map_err(text)?);
        let recorder = Box::new(NoRecorder);
        let (started, _) =
            Instance::start(&engine, Arc::clone(&compiled), Setup::default(), Budget::default(), recorder);
        Ok(Self { engine, compiled, instance: started.map_err(text)? })
    }

    pub(super) fn find(&self, export: &str) -> Result<wasmtime::component::ComponentExportIndex> {
        let export = inspect::find_function(&self.engine, &self.compiled, export).map_err(text)?;
        Ok(*export.index())
    }
}

/// Why a call did not return, as one error.
pub(super) fn into(stopped: vac_host::instance::Stopped) -> vac_core::fault::Error {
    stopped.into()
}

//! What the profiles of determinism cost loops, against the engine's own settings, and one part at a time.

use std::sync::Arc;

use vac_host::{Budget, Compiled, Engine, Instance, NoRecorder, Profile, Setup, Val, inspect, load, rewrite};

use super::figure::{Figure, Goal};
use super::plain::{self, Plain};
use super::timing::{Side, geometric_mean, medians, time};
use super::{Result, prebuilt, text};

const ROUNDS: usize = 9;
const GEOMETRIC_MEAN_GOAL: f64 = 1.25;
const WORST_GOAL: f64 = 1.6;
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

/// What is compared with the engine's own settings.
const SIDES: [&str; 5] =
    ["det-2", "det-1", "meter alone", "canonical NaN alone", "baseline instructions alone"];

fn engines() -> Result<[Engine; SIDES.len()]> {
    let det_1 = Engine::with(Profile::Det1, &Profile::Det1.config(), |_| Ok(()));
    let engines = [
        Engine::new(),
        det_1,
        Engine::measuring(rewrite::meter::module),
        Engine::measuring(rewrite::nan::module),
        Engine::measuring(|module| Ok(module.to_vec())),
    ];
    let engines = engines.into_iter().collect::<std::result::Result<Vec<_>, _>>().map_err(text)?;
    engines.try_into().map_err(|_| "as many engines as sides".to_owned())
}

/// Each profile, and each part of `det-2` alone.
pub(super) fn run() -> Result<Vec<Figure>> {
    let bytes = prebuilt("bench")?;
    let mut plain = Plain::start(&plain::config(), &bytes)?;
    let mut others =
        engines()?.map(|engine| Vac::start_in(engine, &bytes)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut figures = Vec::new();
    let mut ratios: [Vec<f64>; SIDES.len()] = Default::default();
    for (kernel, args) in kernels() {
        let mut sides = vec![plain_side(&mut plain, kernel, &args)?];
        for vac in &mut others {
            sides.push(vac.side(kernel, &args)?);
        }
        let medians = medians(ROUNDS, &mut sides)?;
        for ((name, ratios), value) in SIDES.iter().zip(&mut ratios).zip(&medians[1..]) {
            let (value, baseline) = (value / 1e6, medians[0] / 1e6);
            ratios.push(value / baseline);
            figures.push(Figure::new(format!("{kernel}, {name}"), "ms", value, (PLAIN, baseline)));
        }
    }
    for (name, ratios) in SIDES.iter().zip(&ratios) {
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let goals = *name == SIDES[0];
        let add = |name: String, value, goal| {
            let figure = Figure::new(name, "x", value, (PLAIN, 1.0));
            if goals { figure.goal(Goal::RatioAtMost(goal)).note(NOTE) } else { figure }
        };
        figures.push(add(format!("geometric mean, {name}"), geometric_mean(ratios), GEOMETRIC_MEAN_GOAL));
        figures.push(add(format!("worst, {name}"), worst, WORST_GOAL));
    }
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
        Self::start_in(Engine::new().map_err(text)?, bytes)
    }

    pub(super) fn start_in(engine: Engine, bytes: &[u8]) -> Result<Self> {
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

    fn side<'a>(&'a mut self, kernel: &str, args: &'a [Val]) -> Result<Side<'a>> {
        let index = self.find(kernel)?;
        Ok(Box::new(move || {
            time(|| self.instance.call_index(&index, args).map_err(|stopped| text(into(stopped))))
        }))
    }
}

/// Why a call did not return, as one error.
pub(super) fn into(stopped: vac_host::instance::Stopped) -> vac_core::fault::Error {
    stopped.into()
}

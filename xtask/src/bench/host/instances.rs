//! Instances of a program of 1 MB with its grants: how long one takes to start, and what many weigh.

use std::sync::Arc;

use vac_engine::grants::{self, Grant};
use vac_host::{Budget, Compiled, Engine, Instance, NoRecorder, Profile, Setup, load};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::bench::figure::{Figure, Goal};
use crate::bench::plain;
use crate::bench::timing::{Side, medians, time};
use crate::bench::{Result, scratch, text};
use crate::{compat, repo};

/// Starts in one sample; one is too short for the clock.
const BATCH: usize = 100;
const ROUNDS: usize = 30;
const ALIVE: u32 = 1_000;
/// Of what was used, so much is cleared in place, as in VAC's own pool.
const CLEARED_BYTES: usize = 1 << 20;
const RATIO_GOAL: f64 = 2.0;
const US_GOAL: f64 = 15.0;
const KIB_GOAL: f64 = 64.0;

pub(in crate::bench) fn run() -> Result<Vec<Figure>> {
    let program = std::fs::read(compat::boolector(&repo::root()?)?).map_err(text)?;
    let folder = scratch()?;
    let spec = format!("dir:ro={}::/", folder.path().display());
    let grants = [Grant::parse(&spec, &|_| None).map_err(text)?, Grant::Stdin];
    let ours = Ours::new(&program, &grants)?;
    let (theirs, engine) = plain(&program)?;
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| batch(|| ours.start().map(drop))),
        Box::new(|| {
            batch(|| {
                let mut store = Store::new(&engine, ());
                theirs.instantiate(&mut store).map(drop).map_err(text)
            })
        }),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    drop(sides);
    let figure = Figure::new(
        "instantiate 1.3 MB with grants, p50",
        "us",
        medians[0] / 1e3,
        ("wasmtime, pooled", medians[1] / 1e3),
    );
    let note = "the solver of `cargo xtask compat`, a directory and the standard input granted; pooled on both sides, \
                with open directories, a store and its end; wasmtime's has no WASI behind it";
    Ok(vec![
        figure.clone().goal(Goal::RatioAtMost(RATIO_GOAL)).note(note),
        figure.goal(Goal::AtMost(US_GOAL)),
        weight(&ours)?,
    ])
}

/// Resident memory of each of a thousand, all alive at once.
fn weight(ours: &Ours<'_>) -> Result<Figure> {
    let first = ours.start()?;
    let before = resident_kib()?;
    let alive = (0..ALIVE).map(|_| ours.start()).collect::<Result<Vec<_>>>()?;
    let each = (resident_kib()? - before) / f64::from(ALIVE);
    drop((first, alive));
    Ok(Figure::new("1,000 instances alive, each", "KiB", each, ("", f64::NAN))
        .goal(Goal::AtMost(KIB_GOAL))
        .note("resident memory beyond the code, which they share"))
}

struct Ours<'a> {
    engine: Engine,
    compiled: Arc<Compiled>,
    grants: &'a [Grant],
}

impl<'a> Ours<'a> {
    fn new(program: &[u8], grants: &'a [Grant]) -> Result<Self> {
        let engine =
            Engine::with(Profile::Det2, &pooled(Profile::Det2.config()), |_| Ok(())).map_err(text)?;
        let loaded = load::load(program, "the benchmark").map_err(text)?;
        let compiled = Arc::new(engine.compile(&loaded, None).map_err(text)?);
        Ok(Self { engine, compiled, grants })
    }

    fn start(&self) -> Result<Instance> {
        let preopens = grants::open(self.grants).map_err(text)?;
        let setup = Setup { preopens, stdin: grants::stdin(self.grants), ..Setup::default() };
        let (compiled, recorder) = (Arc::clone(&self.compiled), Box::new(NoRecorder));
        Instance::start(&self.engine, compiled, setup, Budget::default(), recorder).0.map_err(text)
    }
}

fn plain(program: &[u8]) -> Result<(InstancePre<()>, wasmtime::Engine)> {
    let loaded = load::load(program, "the benchmark").map_err(text)?;
    let engine = wasmtime::Engine::new(&pooled(plain::config())).map_err(text)?;
    let component = Component::from_binary(&engine, &loaded.component().map_err(text)?).map_err(text)?;
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&component).map_err(text)?;
    Ok((linker.instantiate_pre(&component).map_err(text)?, engine))
}

/// Room for a thousand components of four core instances each, for their meters, and for some more.
fn pooled(mut config: Config) -> Config {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(ALIVE + 100)
        .total_core_instances(7 * ALIVE)
        .total_memories(3 * (ALIVE + 100))
        .total_tables(4 * ALIVE)
        .total_gc_heaps(ALIVE + 100)
        .total_stacks(ALIVE + 100)
        .max_memory_size(1 << 30)
        .linear_memory_keep_resident(CLEARED_BYTES)
        .table_keep_resident(CLEARED_BYTES)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Nanoseconds a start, its end included.
fn batch(start: impl Fn() -> Result<()>) -> Result<f64> {
    Ok(time(|| (0..BATCH).try_for_each(|_| start()))? / BATCH as f64)
}

fn resident_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| "/proc/self/status: expected VmRSS".to_owned())
}

//! What recording a host call costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vac_core::ledger::{Class, Committer, Header, Ledger, RunId};
use vac_core::storage::{RealStorage, Storage};
use vac_core::store::Store;
use vac_engine::journal::{Journal, KernelRecorder};
use vac_engine::session::KERNEL_EVENT;
use vac_host::{
    Budget, Compiled, Engine, Instance, NoRecorder, Profile, Recorder, Setup, Val, inspect, load,
};
use wasmtime::component::ComponentExportIndex;

use super::figure::{Figure, Goal};
use super::plain::{self, Plain};
use super::timing::{Side, medians, time};
use super::{Result, prebuilt, scratch, text};

const ROUNDS: usize = 40;
/// Host calls of one sample.
const CALLS: u64 = 10_000;
const MORE_NS_GOAL: f64 = 1_000.0;
const GROUP_INTERVAL: Duration = Duration::from_millis(2);
const INTERFACE: &str = "vac:bench/host";
const VERSION: &str = "@0.1.0";
const NOTE: &str = "64 bytes in and out; in canonical form they are 66 and 67, and stand in the event itself";

/// The same loop without VAC, without recording, and recorded.
pub(super) fn run() -> Result<Vec<Figure>> {
    let bytes = prebuilt("bench-host")?;
    let folder = scratch()?;
    let engine = engine()?;
    let loaded = load::load(&bytes, "the benchmark").map_err(text)?;
    let compiled = Arc::new(engine.compile(&loaded, None).map_err(text)?);
    let recording = Recording::start(folder.path())?;
    let (mut unrecorded, index) = start(&engine, &compiled, Box::new(NoRecorder))?;
    let recorder = Box::new(KernelRecorder::new(Arc::clone(&recording.journal), 0));
    let (mut recorded, _) = start(&engine, &compiled, recorder)?;
    let mut plain = plain(&bytes)?;
    let func = plain.func("host-loop")?;
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| sample(|| plain.call(&func, &[Val::U64(CALLS)]))),
        Box::new(|| sample(|| host_loop(&mut unrecorded, &index))),
        Box::new(|| sample(|| host_loop(&mut recorded, &index))),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    drop(sides);
    recording.finish()?;
    let figure =
        |name: &str, value, baseline| Figure::new(format!("host call, {name}, p50"), "ns", value, baseline);
    Ok(vec![
        figure("recorded", medians[2], ("not recorded", medians[1]))
            .goal(Goal::MoreByAtMost(MORE_NS_GOAL))
            .note(NOTE),
        figure("not recorded", medians[1], ("plain wasmtime", medians[0])),
    ])
}

fn engine() -> Result<Engine> {
    let engine = Engine::with(Profile::Det2, &Profile::Det2.config(), |wall| {
        wall.interface(INTERFACE, VERSION, |i| {
            i.func("ping", Class::Read, |_, (bytes,): (Vec<u8>,)| Ok(bytes))
        })
    });
    engine.map_err(text)
}

fn plain(bytes: &[u8]) -> Result<Plain> {
    Plain::start_with(&plain::config(), bytes, |linker| {
        let mut host = linker.instance(&format!("{INTERFACE}{VERSION}"))?;
        host.func_wrap("ping", |_, (bytes,): (Vec<u8>,)| Ok((bytes,)))
    })
}

fn start(
    engine: &Engine,
    compiled: &Arc<Compiled>,
    recorder: Box<dyn Recorder>,
) -> Result<(Instance, ComponentExportIndex)> {
    let export = inspect::find_function(engine, compiled, "host-loop").map_err(text)?;
    let (started, _) =
        Instance::start(engine, Arc::clone(compiled), Setup::default(), Budget::default(), recorder);
    Ok((started.map_err(text)?, *export.index()))
}

fn host_loop(instance: &mut Instance, index: &ComponentExportIndex) -> Result<Val> {
    let results = instance.call_index(index, &[Val::U64(CALLS)]);
    let results = results.map_err(|stopped| text(super::compute::into(stopped)))?;
    results.into_iter().next().ok_or_else(|| "`host-loop` gave no result".to_owned())
}

fn sample(run: impl FnOnce() -> Result<Val>) -> Result<f64> {
    Ok(time(run)? / CALLS as f64)
}

/// A journal over a real ledger and store, and the thread that makes its groups durable, as a session has.
pub(super) struct Recording {
    pub(super) journal: Arc<Journal>,
    ending: Arc<AtomicBool>,
    flusher: JoinHandle<Result<()>>,
}

impl Recording {
    pub(super) fn start(folder: &std::path::Path) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(folder.to_owned()));
        let store = Arc::new(Store::open(Arc::clone(&storage), "store").map_err(text)?);
        let (ledger, committer) =
            Ledger::create(storage, RunId::new(0, 0), Header::new(vec![])).map_err(text)?;
        let journal = Arc::new(Journal::live(ledger, Arc::clone(&store)));
        journal.begin(KERNEL_EVENT, 0, b"").map_err(text)?;
        let ending = Arc::new(AtomicBool::new(false));
        let (j, e) = (Arc::clone(&journal), Arc::clone(&ending));
        let flusher = std::thread::spawn(move || flush(&j, &store, &e, committer));
        Ok(Self { journal, ending, flusher })
    }

    pub(super) fn finish(self) -> Result<()> {
        self.ending.store(true, Ordering::Release);
        self.flusher.thread().unpark();
        self.flusher.join().map_err(|_| "the thread that writes the ledger ended early".to_owned())?
    }
}

fn flush(journal: &Journal, store: &Store, ending: &AtomicBool, mut committer: Committer) -> Result<()> {
    while !ending.load(Ordering::Acquire) {
        if journal.has_group() {
            let group = journal.take_group(committer.durable_bytes(), Vec::new());
            store.commit().and_then(|()| committer.commit(&group)).map_err(text)?;
        }
        std::thread::park_timeout(GROUP_INTERVAL);
    }
    Ok(())
}

//! Files through the wall, and what recording them and polls costs.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use vac_engine::grants::{self, Grant};
use vac_engine::journal::KernelRecorder;
use vac_host::{Budget, Compiled, Engine, Instance, NoRecorder, Recorder, Setup, load};

use super::guests;
use crate::bench::figure::{Figure, Goal};
use crate::bench::hello::{run_quietly, wasmtime_of};
use crate::bench::host_call::Recording;
use crate::bench::timing::{Side, median, medians, time};
use crate::bench::{Result, scratch, text, vac};
use crate::{compat, repo};

const ROUNDS: usize = 7;
const BIG_BYTES: u64 = 256 << 20;
const HEAVY_BYTES: u64 = 64 << 20;
const WAITS: u32 = 20_000;
const PIECE_BYTES: usize = 64 << 10;
const READ_RATIO_GOAL: f64 = 1.1;
const FILES_RATIO_GOAL: f64 = 1.05;
const POLLS_RATIO_GOAL: f64 = 1.10;
const LEDGER_BYTES_GOAL: f64 = 24.0;

/// 256 MiB in pieces of 64 KiB, whole processes from warm caches, and a native loop.
pub(in crate::bench) fn read_whole() -> Result<Vec<Figure>> {
    let (folder, vac, root) = (scratch()?, vac()?, repo::root()?);
    let (program, big) = write(folder.path(), BIG_BYTES)?;
    let home = folder.path().join("home");
    let wasmtime = wasmtime_of(&root, folder.path())?;
    let ours = || {
        let mut command = Command::new(&vac);
        // A fresh store each time would measure the disk; what was read once is kept once.
        command.arg("--home").arg(&home).arg("run").arg(&program);
        command.arg("--grant").arg(format!("dir:ro={}::/", folder.path().join("data").display()));
        command
    };
    let theirs = || {
        let mut command = wasmtime();
        command.args(["run", "-C", "cache=y", "--dir"]);
        command.arg(format!("{}::/", folder.path().join("data").display())).arg(&program);
        command
    };
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| time(|| run_quietly(ours()))),
        Box::new(|| time(|| run_quietly(theirs()))),
        Box::new(|| time(|| read_native(&big))),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    let figure = |baseline: (&str, f64)| {
        let name = "file read, 256 MiB by 64 KiB, whole process";
        Figure::new(name, "ms", medians[0] / 1e6, (baseline.0, baseline.1 / 1e6))
    };
    Ok(vec![
        figure(("wasmtime run", medians[1]))
            .goal(Goal::RatioAtMost(READ_RATIO_GOAL))
            .note("`vac` hashes every piece and keeps it, so that a replay has it without the file"),
        figure(("native", medians[2])),
    ])
}

/// A program and `data/big.bin` for it.
fn write(folder: &Path, bytes: u64) -> Result<(std::path::PathBuf, std::path::PathBuf)> {
    let (program, data) = (folder.join("reader.wasm"), folder.join("data"));
    std::fs::create_dir(&data).map_err(text)?;
    std::fs::write(&program, guests::reader(bytes)?).map_err(text)?;
    let big = data.join("big.bin");
    let piece: Vec<u8> = (0..PIECE_BYTES).map(|i| (i * 31 % 251) as u8).collect();
    let mut all = Vec::with_capacity(bytes as usize);
    for n in 0..bytes / PIECE_BYTES as u64 {
        all.extend_from_slice(&n.to_le_bytes());
        all.extend_from_slice(piece.get(8..).unwrap_or_default());
    }
    std::fs::write(&big, all).map_err(text)?;
    Ok((program, big))
}

fn read_native(path: &Path) -> Result<u64> {
    let (mut file, mut piece, mut all) = (std::fs::File::open(path).map_err(text)?, vec![0; PIECE_BYTES], 0);
    loop {
        match file.read(&mut piece).map_err(text)? {
            0 => return Ok(all),
            read => all += std::hint::black_box(read) as u64,
        }
    }
}

/// A program that does little but read a file, and one that does little but wait, in one process.
pub(in crate::bench) fn recording() -> Result<Vec<Figure>> {
    let folder = scratch()?;
    write(folder.path(), HEAVY_BYTES)?;
    let grant = format!("dir:ro={}::/", folder.path().join("data").display());
    let grants = [Grant::parse(&grant, &|_| None).map_err(text)?];
    let (mut figures, mut ledgers) = (Vec::new(), programs_of_others(folder.path())?);
    let programs = [
        ("reads 64 MiB", guests::reader(HEAVY_BYTES)?, FILES_RATIO_GOAL),
        ("waits 20,000 times", guests::poller(WAITS)?, POLLS_RATIO_GOAL),
    ];
    for (at, (name, program, goal)) in programs.into_iter().enumerate() {
        let home = folder.path().join(format!("home-{at}"));
        let (unrecorded, recorded, bytes) = recorded_and_not(&program, &grants, &home)?;
        let baseline = ("not recorded", unrecorded / 1e6);
        figures.push(
            Figure::new(format!("recorded, {name}"), "ms", recorded / 1e6, baseline)
                .goal(Goal::RatioAtMost(goal)),
        );
        ledgers.push((name.to_owned(), bytes));
    }
    let per_call =
        |name: String, bytes| Figure::new(format!("ledger, {name}"), "bytes/call", bytes, ("", f64::NAN));
    let all: Vec<f64> = ledgers.iter().map(|(_, bytes)| *bytes).collect();
    let note = "of each program, the mean over all calls that cross the wall: its run's own file, header, names and \
                marks with it";
    figures.push(
        per_call(format!("median of {} programs", all.len()), median(&all))
            .goal(Goal::AtMost(LEDGER_BYTES_GOAL))
            .note(note),
    );
    figures.extend(ledgers.into_iter().map(|(name, bytes)| per_call(name, bytes)));
    Ok(figures)
}

/// Bytes of the ledger for each call of programs that nobody here wrote, by a whole `vac`.
fn programs_of_others(folder: &Path) -> Result<Vec<(String, f64)>> {
    let (vac, root) = (vac()?, repo::root()?);
    let (python, solver) = (compat::cpython(&root)?, compat::boolector(&root)?);
    let programs: [(&str, &Path, &[&str]); 3] = [
        ("CPython, `print(1)`", &python, &["-c", "print(1)"]),
        ("CPython, 1,000 lines", &python, &["-c", "for n in range(1000): print(n, flush=True)"]),
        ("an SMT solver, its help", &solver, &["--help"]),
    ];
    let bytes_of = |(number, (name, program, args)): (usize, (&str, &Path, &[&str]))| {
        let home = folder.join(format!("home-of-others-{number}"));
        let mut command = Command::new(&vac);
        command.arg("--home").arg(&home).arg("--json").arg("run").arg(program).arg("--").args(args);
        let said = repo::output(&mut command)?;
        let summary: serde_json::Value = serde_json::from_str(&said).map_err(text)?;
        let events = summary["events"].as_f64().ok_or_else(|| format!("{name}: no number of events"))?;
        Ok((name.to_owned(), ledger_bytes(&home)? / events))
    };
    programs.into_iter().enumerate().map(bytes_of).collect()
}

/// Medians in ns without and with a record, and bytes of the ledger for each event.
fn recorded_and_not(program: &[u8], grants: &[Grant], home: &Path) -> Result<(f64, f64, f64)> {
    let engine = Engine::new().map_err(text)?;
    let loaded = load::load(program, "the benchmark").map_err(text)?;
    let compiled = Arc::new(engine.compile(&loaded, None).map_err(text)?);
    let run = |recorder: Box<dyn Recorder>| start_and_run(&engine, &compiled, grants, recorder);
    let recording = Recording::start(home)?;
    let recorder = || Box::new(KernelRecorder::new(Arc::clone(&recording.journal), 0));
    let mut sides: [Side<'_>; 2] =
        [Box::new(|| time(|| run(Box::new(NoRecorder)))), Box::new(|| time(|| run(recorder())))];
    let medians = medians(ROUNDS, &mut sides)?;
    drop(sides);
    let events = recording.journal.events();
    recording.finish()?;
    Ok((medians[0], medians[1], ledger_bytes(home)? / events as f64))
}

fn start_and_run(
    engine: &Engine,
    compiled: &Arc<Compiled>,
    grants: &[Grant],
    recorder: Box<dyn Recorder>,
) -> Result<()> {
    let setup = Setup { preopens: grants::open(grants).map_err(text)?, ..Setup::default() };
    let (started, _) = Instance::start(engine, Arc::clone(compiled), setup, Budget::default(), recorder);
    started.map_err(text)?.run_command(engine).map(drop).map_err(text)
}

fn ledger_bytes(home: &Path) -> Result<f64> {
    let entries = std::fs::read_dir(home.join("runs")).map_err(text)?;
    let bytes = entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len());
    Ok(bytes.sum::<u64>() as f64)
}

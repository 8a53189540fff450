//! What a replay takes beside its recording, what recording takes beside none, and how long a record is.
//!
//! A guest is a loop of calls through the wall. What is compared is the time that `vac` says a run or a replay took:
//! from its start, with the program compiled, to its durable end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use vac_core::ledger::{Entry, Reader, Return};
use vac_core::storage::{RealStorage, Storage};

use super::figure::{Figure, Goal};
use super::timing::{least, median, time};
use super::{Result, prebuilt, scratch, text, vac};
use crate::repo;

const ROUNDS: usize = 7;
const IO_GOAL: f64 = 0.5;
const COMPUTE_GOAL: f64 = 1.02;
const SIZE_GOAL: f64 = 0.1;
/// Virtual seconds of the chatty run: a wait of a millisecond ends each round of it.
const CHATTY_SECONDS: u32 = 60;
const CHATTY_ROUNDS: u32 = CHATTY_SECONDS * 1000;
const SMALL_ROUNDS: u32 = 40_000;
const PAGES: u32 = 4096;
const PAGE_BYTES: u32 = 4096;
/// What guests read: lines of text of 48 bytes, or bytes that nothing makes shorter.
const TEXT: &str = "dir:rw=text::d";
const NOISE: &str = "dir:rw=noise::d";

/// Measures some figures.
type Part = fn(&Bench) -> Result<Vec<Figure>>;

/// What is measured here; add to it what else is about going back into a run.
const PARTS: [Part; 4] = [small_io, long_io, compute, size];

pub(super) fn run() -> Result<Vec<Figure>> {
    let bench = Bench { folder: scratch()?, vac: vac()? };
    let noise = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    bench.input("noise", (0..PAGES * PAGE_BYTES / 8).flat_map(noise).collect())?;
    let line = |n: u32| format!("{:<47}\n", format!("line {n}, value {} of a log", n * 7919 % 10_007));
    bench.input("text", (0..CHATTY_ROUNDS).map(line).collect::<String>().into_bytes())?;
    let parts: Vec<_> = PARTS.iter().map(|part| part(&bench)).collect::<Result<_>>()?;
    Ok(parts.concat())
}

struct Bench {
    folder: tempfile::TempDir,
    vac: PathBuf,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.vac);
        command.current_dir(self.folder.path()).args(["--home", "home", "--json"]).args(words);
        serde_json::from_str(&repo::output(&mut command)?).map_err(text)
    }

    /// The time that a command says it took.
    fn timed(&self, words: &[&str]) -> Result<f64> {
        let said = self.json(words)?;
        said["time_ns"].as_f64().ok_or_else(|| format!("{words:?} says no time"))
    }

    /// A home in which the code is compiled, and nothing was recorded.
    fn forget(&self) -> Result<()> {
        for folder in ["runs", "store"] {
            match std::fs::remove_dir_all(self.path("home").join(folder)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(text(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A folder with a file to read.
    fn input(&self, folder: &str, bytes: Vec<u8>) -> Result<()> {
        std::fs::create_dir(self.path(folder)).map_err(text)?;
        std::fs::write(self.path(folder).join("in"), bytes).map_err(text)
    }

    fn guest(&self, name: &str, rounds: u32, body: &str) -> Result<()> {
        std::fs::write(self.path(name), guest(rounds, body)?).map_err(text)
    }

    /// What `of` makes of the times of a recorded run, its replay, the same run with digests alone, and not recorded.
    fn four(&self, words: &[&str], of: fn(&[f64]) -> f64) -> Result<[f64; 4]> {
        let mut samples: [Vec<f64>; 4] = Default::default();
        // The first round compiles.
        for round in 0..=ROUNDS {
            self.forget()?;
            let recorded = self.timed(words)?;
            let replayed = self.timed(&["replay", "last"])?;
            self.forget()?;
            let digest = self.timed(&[words, &["--record=digest"]].concat())?;
            let off = self.timed(&[words, &["--record=off"]].concat())?;
            if round > 0 {
                let taken = [recorded, replayed, digest, off];
                samples.iter_mut().zip(taken).for_each(|(samples, sample)| samples.push(sample));
            }
        }
        Ok(samples.map(|samples| of(&samples)))
    }
}

fn ms(name: &str, value: f64, baseline: (&str, f64)) -> Figure {
    Figure::new(name, "ms", value / 1e6, (baseline.0, baseline.1 / 1e6))
}

fn io(bench: &Bench, name: &str, file: &str, grant: &str, note: String) -> Result<Vec<Figure>> {
    let words = ["run", file, "--grant", grant];
    let [recorded, replayed, digest, off] = bench.four(&words, median)?;
    Ok(vec![
        ms(&format!("replay, {name}"), replayed, ("its recording", recorded))
            .goal(Goal::RatioAtMost(IO_GOAL))
            .note(note),
        ms(&format!("--record=digest, {name}"), digest, ("--record=full", recorded)),
        ms(&format!("--record=off, {name}"), off, ("--record=full", recorded)),
    ])
}

/// Many short reads and writes and looks at the clock.
fn small_io(bench: &Bench) -> Result<Vec<Figure>> {
    bench.guest("small.wasm", SMALL_ROUNDS, SMALL)?;
    let note = format!("{SMALL_ROUNDS} times: 48 bytes read, 48 written, both clocks");
    io(bench, "short pieces", "small.wasm", TEXT, note)
}

/// Reads and writes whose bytes are bodies in the store.
fn long_io(bench: &Bench) -> Result<Vec<Figure>> {
    bench.guest("long.wasm", PAGES, LONG)?;
    let note = format!("{PAGES} times: 4 KiB read, none like another, and written");
    io(bench, "4 KiB pieces", "long.wasm", NOISE, note)
}

/// A loop that crosses the wall once.
fn compute(bench: &Bench) -> Result<Vec<Figure>> {
    std::fs::write(bench.path("bench.wasm"), prebuilt("bench")?).map_err(text)?;
    let words = ["call", "bench.wasm", "sieve(20000000)"];
    // The least of each: whatever else the machine does adds more than the two differ by.
    let [recorded, replayed, _, off] = bench.four(&words, least)?;
    Ok(vec![
        ms("replay, compute", replayed, ("its recording", recorded))
            .goal(Goal::RatioAtMost(COMPUTE_GOAL))
            .note("a sieve of 20,000,000"),
        ms("--record=off, compute", off, ("--record=full", recorded)),
    ])
}

/// The ledger and the bodies of a chatty run, against its events as they are.
fn size(bench: &Bench) -> Result<Vec<Figure>> {
    bench.guest("chatty.wasm", CHATTY_ROUNDS, &format!("{SMALL}{WAIT}"))?;
    bench.forget()?;
    let mut events = 0.0;
    let ns = time(|| {
        let said = bench.json(&["run", "chatty.wasm", "--grant", TEXT])?;
        events = said["events"].as_f64().unwrap_or(f64::NAN);
        Ok(())
    })?;
    let recorded = bytes_below(&bench.path("home/runs"))? + bytes_below(&bench.path("home/store"))?;
    let program = std::fs::metadata(bench.path("chatty.wasm")).map_err(text)?.len();
    let (raw, named) = raw_bytes(&bench.path("home"))?;
    let note = format!(
        "{CHATTY_SECONDS} virtual seconds in {:.1} s, {events} events: each ms a line of 48 bytes read and written, \
         both clocks, a wait; raw is each event's numbers as they are, 29 bytes, and its canonical arguments and \
         result; named has the text of its function's name besides",
        ns / 1e9
    );
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let figure = |baseline| Figure::new("record of a chatty run", "KiB", kib(recorded - program), baseline);
    Ok(vec![
        figure(("raw events", kib(raw))).goal(Goal::RatioAtMost(SIZE_GOAL)).note(note),
        figure(("raw events, named", kib(named))),
    ])
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let (mut bytes, mut todo) = (0, vec![folder.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).map_err(text)? {
            let entry = entry.map_err(text)?;
            let metadata = entry.metadata().map_err(text)?;
            match metadata.is_dir() {
                true => todo.push(entry.path()),
                false => bytes += metadata.len(),
            }
        }
    }
    Ok(bytes)
}

/// The bytes of the last run's events as they are, without and with their names: sequence, parent and tick of 8
/// bytes each, name of 4, class of 1.
fn raw_bytes(home: &Path) -> Result<(u64, u64)> {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(home.to_owned()));
    let runs = vac_core::ledger::runs(&*storage).map_err(text)?;
    let run = runs.last().ok_or("there is no run")?;
    let mut reader = Reader::open(storage, *run).map_err(text)?;
    let answer = |ret: &Return| ret.answer.as_ref().map_or(0, vac_core::ledger::Body::len_bytes);
    let (mut bytes, mut in_names, mut names) = (0, 0, Vec::new());
    while let Some(entry) = reader.next().map_err(text)? {
        match &entry {
            Entry::Name(_, name) => names.push(name.len() as u64),
            Entry::Event(call, _) | Entry::Begin(call) => {
                bytes += 29 + call.request.len_bytes();
                in_names += names.get(call.name as usize).copied().unwrap_or_default();
            }
            _ => {}
        }
        if let Entry::Event(_, ret) | Entry::End(_, ret) = &entry {
            bytes += answer(ret);
        }
    }
    Ok((bytes, bytes + in_names))
}

/// One round of short pieces: the next 48 bytes of the input, written to the output; both clocks.
const SMALL: &str = "
  (drop (call $read (global.get $in) (i32.const 0) (i32.const 1) (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 48))) (i32.const 8)))
  (drop (call $write (global.get $out) (i32.const 0) (i32.const 1) (i32.const 8)))
  (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 16)))
  (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 24)))";

/// One round of long pieces.
const LONG: &str = "
  (i32.store (i32.const 4) (i32.const 4096))
  (drop (call $read (global.get $in) (i32.const 0) (i32.const 1) (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 4096))) (i32.const 8)))
  (drop (call $write (global.get $out) (i32.const 0) (i32.const 1) (i32.const 8)))";

/// A wait of one millisecond.
const WAIT: &str = "
  (i64.store (i32.const 64) (i64.const 0)) (i32.store8 (i32.const 72) (i32.const 0))
  (i32.store (i32.const 80) (i32.const 1)) (i64.store (i32.const 88) (i64.const 1000000))
  (i64.store (i32.const 96) (i64.const 1)) (i32.store16 (i32.const 104) (i32.const 0))
  (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 8)))";

/// A command that opens `in` and `out` in its first directory, and does `body` so often; `$n` counts up.
fn guest(rounds: u32, body: &str) -> Result<Vec<u8>> {
    let module = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $read (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $in (mut i32) (i32.const 0)) (global $out (mut i32) (i32.const 0))
  (data (i32.const 512) "inout")
  (func (export "_start") (local $n i32)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 2) (i32.const 0) (i64.const 0x2)
      (i64.const 0x2) (i32.const 0) (i32.const 32)) (then unreachable))
    (global.set $in (i32.load (i32.const 32)))
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 514) (i32.const 3) (i32.const 9) (i64.const 0x40)
      (i64.const 0x40) (i32.const 0) (i32.const 32)) (then unreachable))
    (global.set $out (i32.load (i32.const 32)))
    (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 48))
    (loop $round {body}
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $round (i32.lt_u (local.get $n) (i32.const {rounds}))))))"#
    );
    wat::parse_str(module).map_err(text)
}

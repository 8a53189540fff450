//! Events that are acknowledged, meaning durable, in a second.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vac_core::ledger::{Body, Call, Class, Committer, Entry, Header, Ledger, Return, RunId};
use vac_core::storage::{RealStorage, Storage};

use super::figure::{Figure, Goal};
use super::timing::{median, time};
use super::{Result, scratch, text};

const ROUNDS: usize = 7;
const EVENTS: u64 = 500_000;
const GROUP_INTERVAL: Duration = Duration::from_millis(2);
const PER_SECOND_GOAL: f64 = 100_000.0;
const RATIO_GOAL: f64 = 0.5;

/// One writer and one flusher, against groups as long, written with nothing else to do.
pub(super) fn run() -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let (mut ledger, mut raw, mut paced, mut groups_written) = (Vec::new(), Vec::new(), Vec::new(), 0);
    // The first round warms up.
    for round in 0..=ROUNDS {
        let mut groups = Vec::new();
        let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(folder.path().to_owned()));
        let run = RunId::new(round as u64, 0);
        let ledger_ns = time(|| {
            groups = write_ledger(storage, run)?;
            Ok(())
        })?;
        let bytes = vec![0x56; groups.iter().copied().max().unwrap_or_default()];
        let raw_ns = time(|| write_raw(folder.path(), "raw", &groups, &bytes, Duration::ZERO))?;
        let paced_ns = time(|| write_raw(folder.path(), "paced", &groups, &bytes, GROUP_INTERVAL))?;
        groups_written = groups.len();
        if round > 0 {
            let sides = [(&mut ledger, ledger_ns), (&mut raw, raw_ns), (&mut paced, paced_ns)];
            sides.into_iter().for_each(|(side, ns)| side.push(EVENTS as f64 / ns * 1e9));
        }
        std::fs::remove_dir_all(folder.path().join("runs")).map_err(text)?;
    }
    let figure = |baseline| Figure::new("ledger, events", "/s", median(&ledger), baseline);
    let raw = figure(("groups as long, raw", median(&raw)));
    let note = format!(
        "{EVENTS} events of 64 + 64 bytes in {groups_written} groups {} ms apart; raw is write and fdatasync of \
         groups as long, ready made, and nothing between them",
        GROUP_INTERVAL.as_millis()
    );
    Ok(vec![
        raw.clone().goal(Goal::AtLeast(PER_SECOND_GOAL)).note(note),
        raw.goal(Goal::RatioAtLeast(RATIO_GOAL)),
        figure(("groups as long, 2 ms apart", median(&paced))),
    ])
}

/// Appends all events while another thread makes them durable; the lengths of its groups in bytes.
fn write_ledger(storage: Arc<dyn Storage>, run: RunId) -> Result<Vec<usize>> {
    let (ledger, committer) = Ledger::create(storage, run, Header::new(vec![])).map_err(text)?;
    let (ledger, is_over) = (Mutex::new(ledger), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| flush(&ledger, committer, &is_over));
        lock(&ledger).append(&Entry::Name(0, "vac:bench/host#ping".to_owned()));
        (0..EVENTS).for_each(|seq| lock(&ledger).append(&event(seq)));
        is_over.store(true, Ordering::Release);
        flusher.thread().unpark();
        flusher.join().map_err(|_| "the thread that writes the ledger ended early".to_owned())?
    })
}

fn event(seq: u64) -> Entry {
    let mut bytes = [0x56; 64];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    let request = Body::digest(&bytes);
    let call = Call { seq, parent: None, name: 0, class: Class::Read, tick: 1000 * seq, request };
    Entry::Event(call, Return { answer: Ok(Body::digest(&bytes)), grant: None, denied: None })
}

fn flush(ledger: &Mutex<Ledger>, mut committer: Committer, is_over: &AtomicBool) -> Result<Vec<usize>> {
    let (mut groups, mut spare) = (Vec::new(), Vec::new());
    loop {
        // Read first: what is appended before it is set is in the group below.
        let is_last = is_over.load(Ordering::Acquire);
        let mut group = lock(ledger).take_group(committer.durable_bytes(), spare);
        committer.commit(&group).map_err(text)?;
        groups.push(group.len());
        group.clear();
        spare = group;
        if is_last {
            return Ok(groups);
        }
        std::thread::park_timeout(GROUP_INTERVAL);
    }
}

fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes groups of these lengths out of `bytes`.
fn write_raw(folder: &Path, name: &str, groups: &[usize], bytes: &[u8], pause: Duration) -> Result<()> {
    let folder = folder.join("runs");
    let mut file = OpenOptions::new().create_new(true).append(true).open(folder.join(name)).map_err(text)?;
    for (i, &len) in groups.iter().enumerate() {
        let group = bytes.get(..len).ok_or("a group is longer than the bytes to write")?;
        file.write_all(group).and_then(|()| file.sync_data()).map_err(text)?;
        if i == 0 {
            File::open(&folder).and_then(|folder| folder.sync_all()).map_err(text)?;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

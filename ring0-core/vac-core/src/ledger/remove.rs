//! Removing the record of one run.

use std::io::ErrorKind;

use super::{RUNS_DIR, RunId, reader};
use crate::fault::{AbortKind, HostAbort, Result};
use crate::storage::{LockMode, Storage};

/// Removes every file of `run`, whatever they hold. The last goes first: what a crash leaves on the way is
/// the shorter ledger of a killed run, or nothing.
pub fn remove(storage: &dyn Storage, run: RunId) -> Result<()> {
    let failed = |path: &str, e| HostAbort::io("remove", storage.show(path), &e);
    let last = reader::segments(storage, run).pop().unwrap_or_else(|| super::segment_path(run, 0));
    let lock = storage.try_lock(&last, LockMode::Exclusive).map_err(|e| failed(&last, e))?;
    if lock.is_none() {
        let message = format!("run `{run}` is being written by another process");
        return Err(HostAbort::new(AbortKind::Busy, message)
            .hint("it can be removed once it has ended")
            .into());
    }
    let mut names = storage.list(RUNS_DIR).map_err(|e| failed(RUNS_DIR, e))?;
    names.retain(|name| name.strip_prefix(run.as_str()).is_some_and(|rest| rest.starts_with('.')));
    // `ID.close` sorts behind every `ID.NNNN`.
    for name in names.iter().rev() {
        let path = format!("{RUNS_DIR}/{name}");
        match storage.remove(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(|e| failed(&path, e))?,
        }
    }
    storage.sync_dir(RUNS_DIR).map_err(|e| failed(RUNS_DIR, e).into())
}

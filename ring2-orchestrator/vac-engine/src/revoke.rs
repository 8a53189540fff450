//! Taking a grant back from a run that goes on, from another process.
//!
//! A grant that is wanted back is an empty file, `HOME/revoke/RUN.GRANT`. Two that ask at once make two
//! files, so neither is lost and nothing is locked. The process of the run looks there now and then, and
//! at the next call of a kernel ends every handle that comes from the grant. That is an event of the run
//! at a definite place, so that a replay does the same.

use std::io::ErrorKind;
use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage};
use vac_core::ledger::{self, Entry, Reader, RunId};
use vac_core::storage::{OpenMode, Storage};

use crate::home::Home;

/// The folder of what is wanted back.
const REVOKE_DIR: &str = "revoke";
/// What can be taken back: anything else was handed over when the run began.
const KINDS: [&str; 12] =
    ["dir", "file", "http", "kv", "mem", "net", "stdin", "tcp", "tcp:listen", "tree", "udp", "udp:listen"];

fn path(run: RunId, grant: u32) -> String {
    format!("{REVOKE_DIR}/{run}.{grant}")
}

/// Grants that are wanted back from `run`.
pub(crate) fn wanted(storage: &dyn Storage, run: RunId) -> Vec<u32> {
    let of_run = format!("{run}.");
    let names = storage.list(REVOKE_DIR).unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix(&of_run)?.parse().ok()).collect()
}

/// Forgets what was wanted back from a run that is over.
pub(crate) fn forget(storage: &dyn Storage, run: RunId) {
    for grant in wanted(storage, run) {
        let _ = storage.remove(&path(run, grant));
    }
}

/// Asks the process of `run` for grant number `grant` back. What the grant is, in a few words.
pub fn revoke(home: &Home, run: RunId, grant: u32) -> Result<String> {
    let storage = &**home.storage();
    check_runs(storage, run)?;
    let words = describe(home, run, grant)?;
    let path = path(run, grant);
    let failed = |e| HostAbort::io("write", storage.show(&path), &e);
    storage.create_dir(REVOKE_DIR).map_err(failed)?;
    match storage.open(&path, OpenMode::CreateNew) {
        // Somebody asked for it already.
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e).into()),
        _ => {}
    }
    // Its process forgets what it finds when it ends, so what comes after that is removed here.
    check_runs(storage, run).inspect_err(|_| drop(storage.remove(&path)))?;
    Ok(words)
}

fn check_runs(storage: &dyn Storage, run: RunId) -> Result<()> {
    match ledger::is_running(storage, run)? {
        true => Ok(()),
        false => Err(Usage::new(format!("run `{run}` is over: there is nothing to take back"))
            .hint("`vac runs` shows which runs go on")
            .into()),
    }
}

fn describe(home: &Home, run: RunId, number: u32) -> Result<String> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let header = match reader.next()? {
        Some(Entry::Header(header)) => header,
        _ => return Err(not_yet(run)),
    };
    let Some(Node::List(grants)) = header.get("grants") else {
        return Err(Usage::new("the run has no grants").into());
    };
    let words: Vec<Vec<String>> = grants.iter().map(words_of).collect();
    let found = usize::try_from(number).ok().and_then(|i| words.get(i));
    let is_possible = |grant: &&Vec<String>| grant.first().is_some_and(|kind| KINDS.contains(&kind.as_str()));
    found.filter(is_possible).map(|grant| grant.join(" ").trim().to_owned()).ok_or_else(|| {
        let listed = (0_u32..).zip(&words).filter(|(_, grant)| is_possible(grant));
        let listed: Vec<String> =
            listed.map(|(i, grant)| format!("{i} is `{}`", grant.join(" ").trim())).collect();
        Usage::new(format!("grant {number} of run `{run}` cannot be taken back"))
            .hint(if listed.is_empty() { "it has none that can".to_owned() } else { listed.join(", ") })
            .into()
    })
}

fn not_yet(run: RunId) -> Error {
    let message = format!("nothing of run `{run}` is durable yet");
    HostAbort::new(AbortKind::Busy, message).hint("try again in a moment").into()
}

fn words_of(grant: &Node) -> Vec<String> {
    let Node::List(parts) = grant else { return Vec::new() };
    let text =
        |part: &Node| if let Node::Text(text) = part { Some(vac_core::fault::quote(text)) } else { None };
    parts.iter().filter_map(text).take(2).collect()
}

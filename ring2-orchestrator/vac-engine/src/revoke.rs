//! Taking a grant back from a run that goes on, from another process.
//!
//! What is wanted back is written to `HOME/revoke/RUN`, a number a line. The process of the run looks
//! there now and then, and at the next call of a kernel ends every handle that comes from the
//! grant. That is an event of the run at a definite place, so that a replay does the same.

use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage};
use vac_core::ledger::{self, Entry, Reader, RunId};
use vac_core::storage::{Storage, read_file, replace_file};

use crate::home::Home;

/// The folder of what is wanted back.
const REVOKE_DIR: &str = "revoke";
/// More than this has not been written by `vac`.
const FILE_MAX_BYTES: u64 = 64 << 10;
/// What can be taken back: anything else was handed over when the run began.
const KINDS: [&str; 11] =
    ["dir", "file", "http", "kv", "net", "stdin", "tcp", "tcp:listen", "tree", "udp", "udp:listen"];

fn path(run: RunId) -> String {
    format!("{REVOKE_DIR}/{run}")
}

/// Grants that are wanted back from `run`.
pub(crate) fn wanted(storage: &dyn Storage, run: RunId) -> Vec<u32> {
    let bytes = read_file(storage, &path(run), FILE_MAX_BYTES).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()).collect()
}

/// Forgets what was wanted back from a run that is over.
pub(crate) fn forget(storage: &dyn Storage, run: RunId) {
    let _ = storage.remove(&path(run));
}

/// Asks the process of `run` for grant number `grant` back. What the grant is, in a few words.
pub fn revoke(home: &Home, run: RunId, grant: u32) -> Result<String> {
    let storage = &**home.storage();
    if !ledger::is_running(storage, run)? {
        let usage = Usage::new(format!("run `{run}` is over: there is nothing to take back"));
        return Err(usage.hint("`vac runs` shows which runs go on").into());
    }
    let words = describe(home, run, grant)?;
    let mut all = wanted(storage, run);
    all.push(grant);
    let text: String = all.iter().map(|number| format!("{number}\n")).collect();
    let failed = |e| HostAbort::io("write", storage.show(&path(run)), &e);
    storage.create_dir(REVOKE_DIR).map_err(failed)?;
    replace_file(storage, &path(run), &std::process::id().to_string(), text.as_bytes()).map_err(failed)?;
    Ok(words)
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

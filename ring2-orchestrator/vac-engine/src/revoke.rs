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

use crate::grants::Grant;
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

/// A grant of a run that can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocable {
    /// Its number in the header.
    pub number: u32,
    /// What it is, in a few words.
    pub words: String,
    /// Whether somebody asked for it back already.
    pub is_wanted: bool,
    node: Node,
}

/// What can be taken back of `run`, which must go on.
pub fn revocable(home: &Home, run: RunId) -> Result<Vec<Revocable>> {
    check_runs(&**home.storage(), run)?;
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let header = match reader.next()? {
        Some(Entry::Header(header)) => header,
        _ => return Err(not_yet(run)),
    };
    let grants = match header.get("grants") {
        Some(Node::List(grants)) => grants.clone(),
        _ => Vec::new(),
    };
    let all = (0..).zip(grants).map(|(number, node)| (number, words_of(&node), node));
    let is_possible = |words: &[String]| words.first().is_some_and(|kind| KINDS.contains(&kind.as_str()));
    let wanted = wanted(&**home.storage(), run);
    let possible = all.filter(|(_, words, _)| is_possible(words));
    Ok(possible
        .map(|(number, words, node)| Revocable {
            number,
            words: words.join(" ").trim().to_owned(),
            is_wanted: wanted.contains(&number),
            node,
        })
        .collect())
}

/// Asks the process of `run` for grants back: the one of [`revocable`] that has this number, or all that were granted by
/// this text. Those that are given say whether somebody asked for them before.
pub fn revoke(home: &Home, run: RunId, text: &str) -> Result<Vec<Revocable>> {
    let storage = &**home.storage();
    let found = find(revocable(home, run)?, run, text)?;
    let failed = |path: &str, e| HostAbort::io("write", storage.show(path), &e);
    storage.create_dir(REVOKE_DIR).map_err(|e| failed(REVOKE_DIR, e))?;
    let paths: Vec<String> = found.iter().map(|grant| path(run, grant.number)).collect();
    for path in &paths {
        match storage.open(path, OpenMode::CreateNew) {
            // Somebody asked for it already.
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(path, e).into()),
            _ => {}
        }
    }
    // Its process forgets what it finds when it ends, so what comes after that is removed here.
    let remove = |_: &Error| paths.iter().for_each(|path| drop(storage.remove(path)));
    check_runs(storage, run).inspect_err(remove)?;
    Ok(found)
}

fn check_runs(storage: &dyn Storage, run: RunId) -> Result<()> {
    match ledger::is_running(storage, run)? {
        true => Ok(()),
        false => Err(Usage::new(format!("run `{run}` is over: there is nothing to take back"))
            .hint("`vac runs` shows which runs go on")
            .into()),
    }
}

fn find(grants: Vec<Revocable>, run: RunId, text: &str) -> Result<Vec<Revocable>> {
    let number: Option<u32> = text.parse().ok();
    // The operator's environment is no part of a grant that can be taken back. The record has what the guest sees, and
    // not what is behind another name: two grants may look alike there.
    let typed = Grant::parse(text, &|_| None).ok().filter(|_| !text.contains("::"));
    let typed = typed.map(|grant| grant.to_node());
    let is_meant = |grant: &&Revocable| Some(grant.number) == number || Some(&grant.node) == typed.as_ref();
    let found: Vec<Revocable> = grants.iter().filter(is_meant).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let listed: Vec<String> =
        grants.iter().map(|grant| format!("{} is `{}`", grant.number, grant.words)).collect();
    let hint = if listed.is_empty() { "it has none that can".to_owned() } else { listed.join(", ") };
    let message = format!("grant {} of run `{run}` cannot be taken back", vac_core::fault::quote(text));
    Err(Usage::new(message).hint(hint).into())
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

//! What the header of a recorded run may say. A replay that stepped over a field it does not know, or took a limit
//! for another one, would call a run equal that it did not understand.

use vac_core::canon::Node;
use vac_core::fault::{AbortKind, Corrupt, Error, Result, quote};
use vac_core::ledger::{Entry, Header, Return, Seq};

use crate::limits::Limit;

/// Every field, whether all headers have it or only some: see `docs/formats.md`.
const FIELDS: [&str; 25] = [
    "args",
    "arguments",
    "calls",
    "config",
    "engine",
    "env",
    "exit",
    "export",
    "files",
    "fork",
    "format",
    "grants",
    "limits",
    "links",
    "manifest",
    "memory_max_bytes",
    "name",
    "profile",
    "quirks",
    "record",
    "secrets",
    "seed",
    "target",
    "ticks_max",
    "what",
];

/// Checks all of a header that a replay does not use, and that it has nothing else.
pub(crate) fn check(header: &Header) -> Result<()> {
    let unknown = header.fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_str()));
    if let Some((name, _)) = unknown {
        return Err(wrong("header of a run", name, "a field of this version", "another"));
    }
    check_grants(header)?;
    check_fork(header)?;
    check_limits(header)
}

fn check_fork(header: &Header) -> Result<()> {
    match header.get("fork") {
        None => Ok(()),
        Some(_) if fork_event(header).is_some() => Ok(()),
        other => Err(wrong("header of a run", "fork", "a run and the number of an event", &shown(other))),
    }
}

/// The event at which a fork left the run that it came from.
fn fork_event(header: &Header) -> Option<Seq> {
    match header.get("fork") {
        Some(Node::List(items)) => match items.as_slice() {
            [Node::Text(_), Node::Int(event)] => Seq::try_from(*event).ok(),
            _ => None,
        },
        _ => None,
    }
}

fn check_grants(header: &Header) -> Result<()> {
    let is_grant = |node: &Node| match node {
        Node::List(items) => (3..=4).contains(&items.len()),
        _ => false,
    };
    match header.get("grants") {
        Some(Node::List(grants)) if grants.iter().all(is_grant) => Ok(()),
        other => Err(wrong("header of a run", "grants", "a list of grants", &shown(other))),
    }
}

fn check_limits(header: &Header) -> Result<()> {
    let Some(Node::Map(limits)) = header.get("limits") else { return Ok(()) };
    match limits.iter().find(|(name, _)| Limit::named(name).is_none()) {
        Some((name, _)) => Err(wrong("header of a run", "limits", "limits of this version", name)),
        None => Ok(()),
    }
}

/// Checks that an event was allowed by a grant that the header has. The past of a fork was by those of another.
pub(crate) fn check_grant(header: &Header, entry: &Entry) -> Result<()> {
    let (seq, ret) = match entry {
        Entry::Event(call, ret) => (call.seq, ret),
        Entry::End(seq, ret) => (*seq, ret),
        _ => return Ok(()),
    };
    let Return { grant: Some(grant), .. } = ret else { return Ok(()) };
    if fork_event(header).is_some_and(|left| seq < left) {
        return Ok(());
    }
    let count = match header.get("grants") {
        Some(Node::List(grants)) => grants.len(),
        _ => 0,
    };
    match usize::try_from(*grant) {
        Ok(grant) if grant < count => Ok(()),
        _ => Err(wrong("event of a run", "grant", &format!("one of {count} grants"), &grant.to_string())),
    }
}

/// An error about something that the header has and the program cannot do: a recorded run did it, so the record is
/// wrong, and nobody typed anything.
pub(crate) fn as_corrupt(error: Error) -> Error {
    match error {
        Error::Usage(usage) => wrong("record", "calls", "what the program can do", &usage.message),
        Error::Fault(fault) => wrong("record", "calls", "what the program can do", &fault.message),
        Error::Abort(abort) if abort.kind == AbortKind::Denied => {
            wrong("record", "target` and `links", "a program that can be linked", &abort.message)
        }
        other => other,
    }
}

fn shown(node: Option<&Node>) -> String {
    node.map_or_else(|| "nothing".to_owned(), |node| format!("{node:?}"))
}

fn wrong(what: &'static str, field: &str, expected: &str, got: &str) -> Error {
    Corrupt::new(what, format!("field `{}`", quote(field)), expected, quote(got)).into()
}

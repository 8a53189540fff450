//! Bodies, outcomes and errors, as entries have them and as runs do.

use vac_core::canon::Reader as Decoder;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, Usage, cut, quote};
use vac_core::ledger::{Body, Outcome, Seq};
use vac_core::limits::EVENT_TEXT_MAX_BYTES;
use vac_core::store::Store;

/// Whether an abort came from outside the run, so that a replay cannot meet it again.
pub(crate) fn is_outside(kind: AbortKind) -> bool {
    use AbortKind::{Busy, Compile, Interrupt, Machine, Time};
    matches!(kind, Time | Interrupt | Compile | Machine | Busy)
}

/// The body for `bytes` that are in the store, unless they are inline.
pub(super) fn named(bytes: &[u8]) -> Body {
    let stored = || Body::Stored { cid: Cid::of_raw(bytes), len_bytes: bytes.len() as u64 };
    Body::inline(bytes).unwrap_or_else(stored)
}

/// Whether two bodies name the same bytes, wherever they are kept.
pub(crate) fn same_bytes(a: &Body, b: &Body) -> bool {
    use Body::{Digest, Inline, Stored};
    match (a, b) {
        (Inline(a), Inline(b)) => a == b,
        (
            Stored { cid, len_bytes } | Digest { cid, len_bytes },
            Stored { cid: other, len_bytes: len } | Digest { cid: other, len_bytes: len },
        ) => cid == other && len_bytes == len,
        _ => false,
    }
}

/// The bytes of a body; `None` if they were not kept.
pub(crate) fn kept(store: &Store, body: &Body) -> Result<Option<Vec<u8>>> {
    match body {
        Body::Inline(bytes) => Ok(Some(bytes.to_vec())),
        Body::Stored { cid, len_bytes } => {
            let bytes = store.get(cid)?.ok_or_else(|| missing(cid))?;
            as_long(bytes, cid, *len_bytes).map(Some)
        }
        Body::Digest { cid, len_bytes } => {
            store.get(cid)?.map(|bytes| as_long(bytes, cid, *len_bytes)).transpose()
        }
    }
}

/// The bytes behind `cid`, if there are as many as the record says.
fn as_long(bytes: Vec<u8>, cid: &Cid, len_bytes: u64) -> Result<Vec<u8>> {
    match bytes.len() as u64 == len_bytes {
        true => Ok(bytes),
        false => Err(Corrupt::new("record", format!("body `{cid}`"), bytes.len(), len_bytes).into()),
    }
}

/// Why a replay cannot go on at an event whose body was not kept.
pub(crate) fn no_body(body: &Body, name: &str, seq: Seq) -> Usage {
    let message = format!(
        "event {seq} `{}` has {} bytes of which only the digest was recorded, and the store does not have them",
        quote(name),
        body.len_bytes()
    );
    Usage::new(message)
        .hint("`--record=full`, the default, keeps what a replay needs; `vac verify` still checks the chain")
}

/// The results in what a kernel gave, `[ticks, results]`; of anything else all of it.
pub(crate) fn results(bytes: &[u8]) -> &[u8] {
    let mut reader = Decoder::new(bytes, "the answer of a kernel");
    match reader.array_of(2).and_then(|()| reader.uint()) {
        Ok(_) => bytes.get(reader.at()..).unwrap_or_default(),
        Err(_) => bytes,
    }
}

pub(super) fn missing(cid: &Cid) -> Error {
    Corrupt::new("record", "the store", format!("the object `{cid}`"), "nothing").into()
}

/// What a guest or a script may have made as long as it likes, at the length that an entry holds.
pub(super) fn bounded(text: &str) -> String {
    cut(text, EVENT_TEXT_MAX_BYTES).to_owned()
}

/// How an error ends a run, as the ledger has it.
pub fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::Fault(fault) => Outcome::Fault { kind: fault.kind.into(), message: bounded(&fault.message) },
        Error::Abort(abort) => Outcome::Abort { kind: abort.kind, message: bounded(&abort.message) },
        Error::Usage(usage) => Outcome::Fault { kind: "usage".into(), message: bounded(&usage.message) },
        other => Outcome::Abort { kind: AbortKind::Machine, message: bounded(&other.to_string()) },
    }
}

/// The error that ended a recorded run.
pub fn error_of(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Fault { kind, message } => {
            let known = ["trap", "exit", "value", "script", "usage", "revoked"];
            let kind = known.into_iter().find(|k| *k == kind).unwrap_or("fault");
            vac_core::fault::Fault { kind, message }.into()
        }
        Outcome::Abort { kind, message } => HostAbort::new(kind, message).into(),
        Outcome::Done(_) | Outcome::Exit(_) => {
            HostAbort::new(AbortKind::Machine, "the record has a result where it ended").into()
        }
    }
}

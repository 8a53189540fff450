//! Exit codes. A command that VAC ran passes its own status through; the codes here are VAC's.

use vac_core::fault::{AbortKind, Error};
use vac_core::ledger::Outcome;

/// All went well.
pub(crate) const OK: u8 = 0;
/// Something failed.
pub(crate) const FAILURE: u8 = 1;
/// The operator's mistake.
pub(crate) const USAGE: u8 = 2;
/// What was asked for is not granted or not provided.
pub(crate) const DENIED: u8 = 3;
/// A quota was used up, or the guest trapped.
pub(crate) const QUOTA_OR_TRAP: u8 = 4;
/// A replay differs from its record.
pub(crate) const DIVERGENCE: u8 = 5;
/// Bytes that fail a check.
pub(crate) const INTEGRITY: u8 = 6;
/// Try again later.
pub(crate) const TRY_AGAIN: u8 = 75;
/// Interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code for an error.
pub(crate) fn of_error(error: &Error) -> u8 {
    match error {
        Error::Fault(fault) if fault.kind == "script" => FAILURE,
        Error::Fault(_) => QUOTA_OR_TRAP,
        Error::Abort(abort) => match abort.kind {
            AbortKind::Quota | AbortKind::Time | AbortKind::Compile => QUOTA_OR_TRAP,
            AbortKind::Denied => DENIED,
            AbortKind::Interrupt => INTERRUPTED,
            AbortKind::Machine => FAILURE,
            AbortKind::Busy => TRY_AGAIN,
        },
        Error::Corrupt(_) => INTEGRITY,
        Error::Divergence(_) => DIVERGENCE,
        Error::Usage(_) => USAGE,
    }
}

/// The exit code for a run that ended without an error.
pub(crate) fn of_outcome(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Exit(status) => u8::try_from(*status).unwrap_or(FAILURE),
        _ => OK,
    }
}

/// What to say of a status that no process can end with.
pub(crate) fn note_of(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Exit(status) if *status > u32::from(u8::MAX) => Some(format!(
            "exit    the program's status is {status}; a process has none over {}, so this one's is {FAILURE}",
            u8::MAX
        )),
        _ => None,
    }
}

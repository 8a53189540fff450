//! Doing again what a record says was done, so that the host can go on behind it.
//!
//! A fork takes the answers of its past from a record, and then goes on itself. For that the host needs what
//! stands behind the handles that the guest got: files, streams with their places, clocks. So beside each answer of the
//! past the host acts again, without any effect: nothing is written, created or cut off, and nothing is taken from
//! the standard input. What it would answer now must be what the record has, where that means anything to the host;
//! else the fork is refused, and says at which event.
//!
//! | class | is done again |
//! |---|---|
//! | computed, local | all, and must give the same |
//! | read | of streams and of what gave a handle, and must give the same; what tells files apart |
//! | effect | opening a file that is there, the place of a stream that writes, times of files, which are the sandbox's own, and that a name was given up; nothing else may have given a handle |
//! | any of a memory | all, and must give the same; a commit moves no name |
//! | anything of the network | refused: nobody has the other end any more |

use vac_core::canon::show_bytes;
use vac_core::fault::{Error, Fault, Result, Usage, cut};
use vac_core::ledger::Class;

use crate::host::Host;
use crate::wall::Crossing;

/// The kind of the fault by which an act of the past says that it leaves nothing behind.
const NOTHING: &str = "past";
/// What is shown of an answer that differs.
const SHOWN_MAX_BYTES: usize = 64;

/// What an act of the past ends with that would take something from the outside.
pub(crate) fn nothing() -> Error {
    Fault { kind: NOTHING, message: "this was done before".to_owned() }.into()
}

/// What gives numbers to files that were not seen before.
const LOOKS: [&str; 5] = [
    "descriptor.stat",
    "descriptor.stat-at",
    "descriptor.metadata-hash",
    "descriptor.metadata-hash-at",
    "descriptor.is-same-object",
];

/// What sets times, which no host has.
const TIMES: [&str; 2] = ["descriptor.set-times", "descriptor.set-times-at"];

/// What gives a name up: an object that is met later under the same one is another.
const FREE_A_NAME: [&str; 3] =
    ["descriptor.unlink-file-at", "descriptor.remove-directory-at", "descriptor.rename-at"];
/// How the canonical form of a result begins that is no error: a list of two, and zero.
const OK: [u8; 2] = [0x82, 0];

/// How much of a call is done again.
enum Again {
    /// Nothing.
    No,
    /// All, and the answer must be the same.
    Same,
    /// If a handle came of it, and that must be the same.
    Handle,
    /// All, whatever the answer is now: it gives files their numbers.
    Look,
    /// It cannot be.
    Refused,
}

fn again_of(crossing: &Crossing<'_>) -> Again {
    let name = crossing.function.name.as_str();
    if name.starts_with("wasi:sockets/") || name.starts_with("wasi:http/") {
        return Again::Refused;
    }
    if name.starts_with("vac:memory/") {
        return Again::Same;
    }
    match crossing.function.class {
        Class::Computed | Class::Local => Again::Same,
        Class::Read if name.starts_with("wasi:io/") => Again::Same,
        Class::Read if LOOKS.iter().any(|look| name.ends_with(look)) => Again::Look,
        Class::Read if name.starts_with("wasi:filesystem/") => Again::Handle,
        Class::Effect if name.ends_with("#[method]descriptor.open-at") => Again::Handle,
        Class::Effect if TIMES.iter().any(|times| name.ends_with(times)) => Again::Look,
        Class::Effect if name.starts_with("wasi:io/streams#[method]output-stream.") => Again::Same,
        Class::Read | Class::Effect | Class::Kernel => Again::No,
    }
}

fn is_effect(crossing: &Crossing<'_>) -> bool {
    crossing.function.class == Class::Effect
}

/// What an event of the past ended with.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// Its canonical form, in the record.
    pub(crate) recorded: &'a [u8],
    /// Whether a handle is in it.
    pub(crate) gave_handle: bool,
}

/// Acts, and gives the canonical form of what came of it.
pub(crate) type Act<'a> = Box<dyn FnOnce(&mut Host) -> Result<Vec<u8>> + 'a>;

/// Does `act` again as far as that is without effect.
pub(crate) fn again(
    host: &mut Host,
    crossing: &Crossing<'_>,
    answer: Answer<'_>,
    act: Act<'_>,
) -> Result<()> {
    let Answer { recorded, gave_handle } = answer;
    let how = again_of(crossing);
    match how {
        Again::Refused => return Err(network(crossing)),
        // What failed then changed nothing.
        Again::Look if is_effect(crossing) && !recorded.starts_with(&OK) => return Ok(()),
        Again::No if gave_handle => {
            return Err(differs(crossing, "something that only an effect gives", recorded));
        }
        Again::No => {
            if FREE_A_NAME.iter().any(|frees| crossing.function.name.ends_with(frees))
                && recorded.starts_with(&OK)
            {
                host.identities.name_is_free(None);
            }
            return Ok(());
        }
        // What could not be opened then may be there now, and would get a number.
        Again::Handle if !gave_handle => return Ok(()),
        Again::Same | Again::Handle | Again::Look => {}
    }
    host.is_past = true;
    let done = act(host);
    host.is_past = false;
    host.end_call();
    match done {
        _ if matches!(how, Again::Look) => Ok(()),
        Ok(form) if form == recorded => Ok(()),
        Ok(form) => Err(differs(crossing, &shown(&form), recorded)),
        Err(Error::Fault(fault)) if fault.kind == NOTHING => Ok(()),
        Err(Error::Fault(fault)) => Err(differs(crossing, &fault.message, recorded)),
        Err(other) => Err(other),
    }
}

/// Whether what stands behind the arguments is what it was: `now`, and in the record `then`.
pub(crate) fn check_detail(crossing: &Crossing<'_>, then: &[u8], now: Result<Vec<u8>>) -> Result<()> {
    if matches!(again_of(crossing), Again::Refused) {
        return Ok(());
    }
    let now = now?;
    if now == then { Ok(()) } else { Err(differs(crossing, &shown(&now), then)) }
}

fn network(crossing: &Crossing<'_>) -> Error {
    let message = format!(
        "the run used the network before this point: `{}` at tick {}",
        crossing.function.name, crossing.tick
    );
    Usage::new(message).hint("fork it at an event before that; `vac log RUN` shows them").into()
}

fn differs(crossing: &Crossing<'_>, now: &str, recorded: &[u8]) -> Error {
    let message = format!(
        "the world is not what it was: `{}` at tick {} gave {}, and now it would give {now}",
        crossing.function.name,
        crossing.tick,
        shown(recorded)
    );
    let hint = "a fork needs the files and folders that its past had open: grant the same ones, as they were";
    Usage::new(message).hint(hint).into()
}

/// An answer in a few words.
fn shown(answer: &[u8]) -> String {
    let words = show_bytes(answer);
    match cut(&words, SHOWN_MAX_BYTES) {
        whole if whole.len() == words.len() => words,
        start => format!("{start}… ({} bytes)", answer.len()),
    }
}

//! What can go wrong, by who is to blame.
//!
//! Every error of VAC is one of these five. Text is lower case, without a full stop, with names
//! in backticks; the outermost layer adds colour and layout, never meaning.

use std::fmt;

/// The result of everything in ring 0 that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error, by who is to blame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest's doing. Part of the run's result: a replay ends the same way.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The operator's limit or the machine's failure. Never recalled.
    #[error(transparent)]
    Abort(#[from] HostAbort),
    /// Bytes that fail a check.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A replay that differs from its record.
    #[error(transparent)]
    Divergence(#[from] Box<Divergence>),
    /// The operator's mistake.
    #[error(transparent)]
    Usage(#[from] Usage),
}

impl Error {
    /// What the operator can do about it, if its maker said so.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Abort(abort) => abort.hint.as_deref(),
            Self::Usage(usage) => usage.hint.as_deref(),
            Self::Fault(_) | Self::Corrupt(_) | Self::Divergence(_) => None,
        }
    }
}

/// The guest did something that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A short stable word: `trap`, `exit`, `stack`.
    pub kind: &'static str,
    /// What happened, with the guest's own names where it has them.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            // A script's message says itself what it is about, and where.
            "script" => f.write_str(&self.message),
            kind => write!(f, "{kind}: {}", self.message),
        }
    }
}

impl std::error::Error for Fault {}

/// Why the host stopped a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbortKind {
    /// A quota of the run was used up.
    Quota,
    /// The operator's wall-time limit passed.
    Time,
    /// The operator interrupted the run.
    Interrupt,
    /// The program wants something no grant allows, so it was not started.
    Denied,
    /// Compiling took more time or memory than the operator allows, or the compiler fell.
    Compile,
    /// The machine failed: a full disk, a failing device, no memory.
    Machine,
    /// Somebody else holds what is needed; the same command may work later.
    Busy,
}

impl AbortKind {
    /// The stable word for this kind, as the ledger and JSON carry it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Time => "time",
            Self::Interrupt => "interrupt",
            Self::Denied => "denied",
            Self::Compile => "compile",
            Self::Machine => "machine",
            Self::Busy => "busy",
        }
    }
}

/// The host stopped a run or could not do its part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAbort {
    /// Which limit or failure.
    pub kind: AbortKind,
    /// What was limited or failed, with the limit and its unit.
    pub message: String,
    /// What the operator can do about it, if anything.
    pub hint: Option<String>,
}

impl HostAbort {
    /// An abort without a hint.
    pub fn new(kind: AbortKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A failure of the machine while doing `what` to `path`.
    pub fn io(what: &str, path: impl fmt::Display, err: &std::io::Error) -> Self {
        let hint = match err.kind() {
            std::io::ErrorKind::StorageFull => Some("free some space, then run the command again"),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Some("choose another place with `--home DIR` or `VAC_HOME`")
            }
            _ => None,
        };
        Self {
            kind: AbortKind::Machine,
            message: format!("cannot {what} `{path}`: {err}"),
            hint: hint.map(str::to_owned),
        }
    }

    /// The same abort with advice for the operator.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for HostAbort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HostAbort {}

/// Bytes that fail a check: what they should be, where they are, what was expected and found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} in {place} is corrupt: expected {expected}, got {got}")]
pub struct Corrupt {
    /// The thing that failed, for example `frame checksum`.
    pub what: &'static str,
    /// Where it is: a path, a CID, an offset.
    pub place: String,
    /// What would have passed.
    pub expected: String,
    /// What is there.
    pub got: String,
}

impl Corrupt {
    /// Describes bytes that fail a check.
    pub fn new(
        what: &'static str,
        place: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self { what, place: place.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}

/// The first point where a replay differs from its record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("replay differs at event {seq}: recorded {recorded}, replayed {replayed}")]
pub struct Divergence {
    /// Sequence number of the first differing event.
    pub seq: u64,
    /// The event the ledger has, in one line.
    pub recorded: String,
    /// What the replay did instead, in one line.
    pub replayed: String,
}

/// The operator's mistake, and what to type instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    /// What is wrong.
    pub message: String,
    /// What to type instead, if that is known.
    pub hint: Option<String>,
}

impl Usage {
    /// A mistake without a known remedy.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same mistake with what to type instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `value` for an error message: at most 80 characters, with every control character escaped,
/// so that hostile bytes cannot reach a terminal.
pub fn quote(value: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut out: String = value.chars().take(MAX_CHARS).flat_map(escape).collect();
    if value.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

/// The start of `value` that fits in `max_bytes`, whole characters only.
pub fn cut(value: &str, max_bytes: usize) -> &str {
    value.get(..value.floor_char_boundary(max_bytes)).unwrap_or_default()
}

/// `value` with every control character escaped, at its whole length.
pub fn quote_line(value: &str) -> String {
    value.chars().flat_map(escape).collect()
}

/// Whether a terminal obeys `c` or shows nothing for it: controls, marks of direction, separators of lines,
/// tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let hidden = is_hidden(c);
    let escaped = if hidden { Some(c.escape_unicode()) } else { None };
    let plain = if hidden { None } else { Some(c) };
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quote_escapes_what_a_terminal_would_obey() {
        assert_eq!(quote("a\x1b[31mb\n"), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(quote("\u{202e}x"), "\\u{202e}x");
        assert_eq!(quote("\u{61c}\u{9b}\u{2028}\u{feff}"), "\\u{61c}\\u{9b}\\u{2028}\\u{feff}");
        assert_eq!(quote(&"y".repeat(81)), format!("{}…", "y".repeat(80)));
    }
}

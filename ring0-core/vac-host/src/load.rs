//! What a file is, and how it becomes a component.
//!
//! Three kinds are known by their first bytes: a component, a core module, and anything else,
//! which is refused. A core module that was made for WASI 0.1 is adapted: it is wrapped, with the
//! adapter, into a component that imports WASI 0.2. The CID of the file stays its identity.

use std::borrow::Cow;

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, Usage};
use wasmparser::{Encoding, Parser, Payload};

use crate::adapt::{WASI_01, adapt};
use crate::limits::MODULE_MAX_BYTES;

/// What kind of program a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A component.
    Component,
    /// A core module for WASI 0.1 that exports `_start`.
    Command,
    /// A core module for WASI 0.1 that does not.
    Reactor,
}

impl Kind {
    /// The kind in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Command => "WASI 0.1 command (core module)",
            Self::Reactor => "WASI 0.1 reactor (core module)",
        }
    }

    /// The kind as one stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Command => "command-0.1",
            Self::Reactor => "reactor-0.1",
        }
    }
}

/// A program that was looked at and not yet compiled.
#[derive(Debug)]
pub struct Loaded<'a> {
    /// Name of the file's bytes.
    pub cid: Cid,
    /// What they are.
    pub kind: Kind,
    /// The file.
    pub bytes: &'a [u8],
    /// Where it is from, for messages.
    pub place: &'a str,
}

impl Loaded<'_> {
    /// The component: the file itself, or the adapted module.
    pub fn component(&self) -> Result<Cow<'_, [u8]>> {
        match self.kind {
            Kind::Component => Ok(Cow::Borrowed(self.bytes)),
            Kind::Command | Kind::Reactor => adapt(self.bytes, self.kind, self.place).map(Cow::Owned),
        }
    }
}

/// Looks at the bytes of a program; `place` says in errors where they are from.
pub fn load<'a>(bytes: &'a [u8], place: &'a str) -> Result<Loaded<'a>> {
    load_as(Cid::of_raw(bytes), bytes, place)
}

/// [`load`] of bytes whose CID the caller computed.
pub fn load_as<'a>(cid: Cid, bytes: &'a [u8], place: &'a str) -> Result<Loaded<'a>> {
    if bytes.len() as u64 > MODULE_MAX_BYTES {
        let message =
            format!("`{place}` has {} bytes; the limit for a program is {MODULE_MAX_BYTES}", bytes.len());
        return Err(HostAbort::new(AbortKind::Quota, message).into());
    }
    let kind = match encoding(bytes, place)? {
        Encoding::Component => Kind::Component,
        Encoding::Module => module_kind(bytes, place)?,
    };
    Ok(Loaded { cid, kind, bytes, place })
}

fn encoding(bytes: &[u8], place: &str) -> Result<Encoding> {
    if bytes.get(..4) != Some(b"\0asm") {
        let usage = Usage::new(format!(
            "`{place}` is not WebAssembly: expected it to begin with `\\0asm`, got {}",
            start_of(bytes)
        ));
        let hint = if bytes.starts_with(b"(module") || bytes.starts_with(b"(component") {
            "this is the text form; `wasm-tools parse` makes the binary one"
        } else {
            "expected a component, a WASI 0.1 module, or a script that ends in `.star`"
        };
        return Err(usage.hint(hint).into());
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding, .. })) => Ok(encoding),
        Some(Err(e)) => Err(malformed(&e, place)),
        _ => Err(Corrupt::new("program", place, "a WebAssembly version", "something else").into()),
    }
}

fn start_of(bytes: &[u8]) -> String {
    let start: Vec<u8> = bytes.iter().take(4).flat_map(|b| std::ascii::escape_default(*b)).collect();
    if start.is_empty() { "nothing".into() } else { format!("`{}`", String::from_utf8_lossy(&start)) }
}

fn malformed(error: &wasmparser::BinaryReaderError, place: &str) -> Error {
    Corrupt::new(
        "program",
        format!("`{place}` at byte {:#x}", error.offset()),
        "valid WebAssembly",
        error.message(),
    )
    .into()
}

/// Which adapter a core module needs. Its imports must be those of WASI 0.1.
fn module_kind(bytes: &[u8], place: &str) -> Result<Kind> {
    let mut kind = Kind::Reactor;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| malformed(&e, place))? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(|e| malformed(&e, place))?;
                    if import.module != WASI_01 {
                        return Err(uncovered(&format!("{}.{}", import.module, import.name), place));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    if export.map_err(|e| malformed(&e, place))?.name == "_start" {
                        kind = Kind::Command;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(kind)
}

/// An import that this host does not have: refused at load, by name.
pub(crate) fn uncovered(import: &str, place: &str) -> Error {
    let import = vac_core::fault::quote(import);
    HostAbort::new(
        AbortKind::Denied,
        format!("`{place}` imports `{import}`, which this host does not provide"),
    )
    .hint("nothing is passed through that cannot be recorded")
    .into()
}

//! `vac:kernel/files`: whole files by path, for kernels that need no more. A path begins with the
//! name of a grant.

use vac_core::canon::{Reader, Writer};
use vac_core::caps::Rights;
use vac_core::fault::{Corrupt, Result};
use vac_core::ledger::Class::{Effect, Read};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::fs::{ErrorCode, How, OpenDir, OpenFile, Opened};
use crate::host::Host;
use crate::limits::WHOLE_FILE_MAX_BYTES;
use crate::wall::Wall;
use crate::wire::Wire;

/// `vac:kernel/files.error`.
#[derive(Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum FileError {
    #[component(name = "denied")]
    Denied,
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "wrong-kind")]
    WrongKind,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "other")]
    Other(String),
}

/// A case is its name, and `other` its words.
impl Wire for FileError {
    fn put(&self, to: &mut Writer) {
        let (name, words) = match self {
            Self::Denied => ("denied", None),
            Self::NotFound => ("not-found", None),
            Self::WrongKind => ("wrong-kind", None),
            Self::TooLarge => ("too-large", None),
            Self::Other(words) => ("other", Some(words.clone())),
        };
        (name.to_owned(), words).put(to);
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        let (name, words) = <(String, Option<String>)>::read(from)?;
        Ok(match (name.as_str(), words) {
            ("denied", None) => Self::Denied,
            ("not-found", None) => Self::NotFound,
            ("wrong-kind", None) => Self::WrongKind,
            ("too-large", None) => Self::TooLarge,
            ("other", Some(words)) => Self::Other(words),
            _ => return Err(from.wrong("an error of `vac:kernel/files`", name)),
        })
    }
}

impl From<ErrorCode> for FileError {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NoEntry => Self::NotFound,
            ErrorCode::NotPermitted | ErrorCode::Access | ErrorCode::ReadOnly => Self::Denied,
            ErrorCode::IsDirectory | ErrorCode::NotDirectory => Self::WrongKind,
            ErrorCode::FileTooLarge => Self::TooLarge,
            other => Self::Other(other.word().to_owned()),
        }
    }
}

type Answer<T> = Result<std::result::Result<T, FileError>>;

pub(crate) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("vac:kernel/files", "@0.1.0", |i| {
        i.func("list", Read, |h, (path,): (String,)| Ok(list(h, &path).map_err(FileError::from)))?;
        i.func("read", Read, |h, (path,): (String,)| -> Answer<Vec<u8>> {
            match read(h, &path) {
                Ok(bytes) => {
                    h.take_in(bytes.len())?;
                    Ok(Ok(bytes))
                }
                Err(code) => Ok(Err(code.into())),
            }
        })?;
        i.func("write", Effect, |h, (path, bytes): (String, Vec<u8>)| -> Answer<()> {
            h.give_out(bytes.len())?;
            Ok(write(h, &path, &bytes).map_err(FileError::from))
        })
    })
}

fn list(host: &mut Host, path: &str) -> std::result::Result<Vec<String>, ErrorCode> {
    let how = How { read: true, directory: true, follow: true, ..How::default() };
    let dir = match open(host, path, how)? {
        Opened::Dir(dir) => dir,
        Opened::File(_) => return Err(ErrorCode::NotDirectory),
    };
    Ok(dir.list()?.into_iter().map(|name| name.name).collect())
}

fn read(host: &mut Host, path: &str) -> std::result::Result<Vec<u8>, ErrorCode> {
    let file = file(open(host, path, How { read: true, follow: true, ..How::default() })?)?;
    let len = file.metadata()?.len();
    if len > WHOLE_FILE_MAX_BYTES {
        return Err(ErrorCode::FileTooLarge);
    }
    file.read(len as usize, 0)
}

fn write(host: &mut Host, path: &str, bytes: &[u8]) -> std::result::Result<(), ErrorCode> {
    let how = How { write: true, create: true, truncate: true, follow: true, ..How::default() };
    file(open(host, path, how)?)?.write(bytes, Some(0))
}

fn file(opened: Opened) -> std::result::Result<OpenFile, ErrorCode> {
    match opened {
        Opened::File(file) => Ok(file),
        Opened::Dir(_) => Err(ErrorCode::IsDirectory),
    }
}

/// Opens what `path` names in the grant that it begins with.
fn open(host: &mut Host, path: &str, how: How) -> std::result::Result<Opened, ErrorCode> {
    // Of the grants that fit, one that shows the path; of those, the one with the longest name.
    let fitting = host.mounts.iter().filter_map(|m| Some((m, rest_of(path, &m.guest)?)));
    let found = fitting
        .max_by_key(|(m, rest)| (m.root.rights_on(rest).is_some(), m.guest.len()))
        .map(|(m, rest)| (std::sync::Arc::clone(&m.root), rest));
    let kind = if how.directory { "dir" } else { "file" };
    let rights = if Rights::READ.has(how.needs()) { "ro" } else { "rw" };
    let Some((root, rest)) = found else {
        host.deny(format!("{kind}:{rights}={path}"));
        return Err(ErrorCode::NotPermitted);
    };
    let opened = open_in(host, &root, rest, how);
    if opened.as_ref().err() == Some(&ErrorCode::NotPermitted) {
        host.deny(format!("{kind}:{rights}={path}"));
    }
    opened
}

fn open_in(host: &mut Host, root: &OpenDir, path: &str, how: How) -> std::result::Result<Opened, ErrorCode> {
    let path = if path.is_empty() { "." } else { path };
    let held = if path == "." { Some((root.rights, root.place.grant)) } else { root.rights_on(path) };
    let Some((_, grant)) = held.filter(|(held, _)| held.has(root.needs(path, how))) else {
        return Err(ErrorCode::NotPermitted);
    };
    host.allowed_by(Some(grant));
    root.open(path, how, &mut host.identities)
}

/// What follows the grant's name in `path`.
fn rest_of<'a>(path: &'a str, guest: &str) -> Option<&'a str> {
    let clean = |text: &'a str| text.strip_prefix("./").unwrap_or(text);
    let guest = guest.strip_prefix("./").unwrap_or(guest).trim_end_matches('/');
    if guest == "." || guest.is_empty() {
        return (!path.starts_with('/')).then(|| clean(path));
    }
    let rest = clean(path).strip_prefix(guest)?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}

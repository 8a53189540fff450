//! The directories and files of a script: its own folder, `out`, and what was granted.

use std::io::Read as _;
use std::path::{Component, Path};

use cap_fs_ext::{DirExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use vac_core::canon::{Encode, Writer, encode};
use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage, quote};
use vac_core::ledger::Class;

use super::{Context, Held, OUT_DIR};
use crate::grants::Grant;

/// The largest file that a script reads whole.
const SCRIPT_FILE_MAX_BYTES: u64 = 64 << 20;

/// The grant of a directory at or around a path.
struct Granted {
    number: u32,
    rights: Rights,
    /// What of the path is below it.
    rest: String,
}

/// The directory in which a file is looked up.
pub(super) struct Around {
    pub(super) dir: Dir,
    /// Its path from there.
    pub(super) rest: String,
    /// The grant that it is read by.
    pub(super) grant: u32,
}

impl Context<'_> {
    /// The grant of the directory `path`, or of the nearest one around a path that leads out of the script's folder, with what
    /// of the path is below it.
    fn granted(&self, path: &str) -> Option<Granted> {
        let dirs = self.operators().filter_map(|(number, grant)| match grant {
            Grant::Dir { guest, rights, .. } | Grant::Tree { guest, rights, .. } => {
                if guest == path {
                    return Some(Granted { number, rights: *rights, rest: String::new() });
                }
                let rest = Path::new(path).strip_prefix(guest).ok()?.to_str()?.to_owned();
                let is_below = !rest.is_empty() && leads_out(path) && !leads_out(&rest);
                is_below.then_some(Granted { number, rights: *rights, rest })
            }
            _ => None,
        });
        dirs.min_by_key(|granted| granted.rest.len())
    }

    /// The directory in which a file is looked up.
    pub(super) fn around(&self, path: &str) -> Result<Around> {
        if let Some(Granted { number, rest, .. }) =
            self.granted(path).filter(|granted| !granted.rest.is_empty())
        {
            return Ok(Around { dir: self.open_granted(number)?, rest, grant: number });
        }
        let folder = self.folder.as_ref().ok_or_else(no_folder)?;
        let dir = folder.try_clone().map_err(|e| failed_io("open", path, &e))?;
        Ok(Around { dir, rest: path.to_owned(), grant: self.own_grant(1) })
    }

    /// `dir(path, write)`.
    pub(super) fn dir(&mut self, path: &str, write: bool) -> Result<usize> {
        let granted = self.granted(path);
        let own = path == OUT_DIR || path.starts_with("out/");
        let (grant, rights) = match &granted {
            Some(granted) => (granted.number, granted.rights),
            None if own => (self.own_grant(0), Rights::ALL),
            None => (self.own_grant(1), Rights::READ),
        };
        if write && !rights.has(Rights::ALL) {
            let message = format!("a script may write only below `{OUT_DIR}`, not to `{}`", quote(path));
            let seen = if leads_out(path) { "DIR::" } else { "" };
            let hint = format!("grant it: `--grant dir:rw={seen}{}`", quote(path));
            return Err(HostAbort::new(AbortKind::Denied, message).hint(hint).into());
        }
        let rights = if write { Rights::ALL } else { Rights::READ };
        let mut opened = None;
        self.event("vac:script/dir", Class::Read, &encode(&(path, write)), || {
            opened = Some(match &granted {
                Some(granted) => self.open_below(granted, path)?,
                None if own => self.open_out(path)?,
                None => self.open_own(path)?,
            });
            Ok((Vec::new(), Some(grant)))
        })?;
        self.dirs.push(Held { guest: path.to_owned(), rights, grant, dir: opened });
        Ok(self.dirs.len() - 1)
    }

    fn open_below(&self, granted: &Granted, path: &str) -> Result<Dir> {
        let dir = self.open_granted(granted.number)?;
        match granted.rest.as_str() {
            "" => Ok(dir),
            rest => dir.open_dir(rest).map_err(|e| below_grant(path, &e)),
        }
    }

    /// A directory or the copy of a tree that the operator granted.
    fn open_granted(&self, number: u32) -> Result<Dir> {
        let grant = self.operators().find(|(n, _)| *n == number).map(|(_, grant)| grant);
        match (grant, self.copies.as_ref().and_then(|copies| copies.dir(number))) {
            (Some(Grant::Dir { host, guest, .. }), _) => {
                let dir = Dir::open_ambient_dir(host, ambient_authority());
                dir.map_err(|e| failed_io("open", guest, &e).into())
            }
            (Some(Grant::Tree { guest, .. }), Some(copy)) => {
                copy.try_clone().map_err(|e| failed_io("open the copy of", guest, &e).into())
            }
            _ => Err(no_folder()),
        }
    }

    fn open_out(&self, path: &str) -> Result<Dir> {
        let parent = self.out_parent.as_ref().ok_or_else(no_folder)?;
        if leads_out(path) {
            let message = format!("a script writes only below `{OUT_DIR}`, not to `{}`", quote(path));
            return Err(HostAbort::new(AbortKind::Denied, message).into());
        }
        let failed = |e| Error::from(failed_io("create the folder", path, &e));
        match parent.create_dir(OUT_DIR) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        // From here on nothing is resolved outside of `out`: a link in it, planted by a guest that may
        // write there, would otherwise lead to its neighbours.
        let out = parent.open_dir_nofollow(OUT_DIR).map_err(failed)?;
        match path.strip_prefix(OUT_DIR).unwrap_or_default().trim_matches('/') {
            "" => Ok(out),
            rest => {
                out.create_dir_all(rest).map_err(failed)?;
                out.open_dir(rest).map_err(failed)
            }
        }
    }

    fn open_own(&self, path: &str) -> Result<Dir> {
        let folder = self.folder.as_ref().ok_or_else(no_folder)?;
        folder.open_dir(path).map_err(|e| outside_folder(path, path, &e))
    }

    /// `read(dir, name)`.
    pub(super) fn read(&self, dir: usize, name: &str) -> Result<String> {
        String::from_utf8(self.read_bytes(dir, name)?).map_err(|_| {
            let usage = Usage::new(format!("`{}` is not text", quote(name)));
            usage.hint("`read_bytes(dir, name)` gives its bytes").into()
        })
    }

    /// `read_bytes(dir, name)`.
    pub(super) fn read_bytes(&self, dir: usize, name: &str) -> Result<Vec<u8>> {
        let held = self.held(dir)?;
        self.event("vac:script/read", Class::Read, &encode(&(&held.guest, name)), || {
            let dir = held.dir.as_ref().ok_or_else(no_folder)?;
            Ok((read_below(dir, name, name)?, Some(held.grant)))
        })
    }

    /// `write(dir, name, data)`: the CID of what was written.
    pub(super) fn write(&self, dir: usize, name: &str, data: &[u8]) -> Result<Cid> {
        let held = self.held(dir)?;
        if !held.rights.has(Rights::ALL) {
            let message = format!("the directory `{}` was opened for reading", quote(&held.guest));
            return Err(Usage::new(message).hint("open it with `dir(path, write = True)`").into());
        }
        let cid = self.session.keep(data)?;
        let mut request = Writer::default();
        request.array(3);
        held.guest.encode(&mut request);
        name.encode(&mut request);
        cid.encode(&mut request);
        self.event("vac:script/write", Class::Effect, &request.into_bytes(), || {
            let dir = held.dir.as_ref().ok_or_else(no_folder)?;
            dir.write(name, data).map_err(|e| not_written(&held.guest, name, &e))?;
            // The answer names the object, so that the record keeps it.
            Ok((encode(&cid), Some(held.grant)))
        })?;
        Ok(cid)
    }
}

pub(super) fn open_folder(path: &Path) -> Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| failed_io("open", path.display(), &e).into())
}

/// A failure on a file that is not of the home.
pub(super) fn failed_io(what: &str, path: impl std::fmt::Display, error: &std::io::Error) -> HostAbort {
    HostAbort { hint: None, ..HostAbort::io(what, path, error) }
}

/// A script has a folder unless it was run by CID. A replay has none either, and asks for none.
pub(super) fn no_folder() -> Error {
    Usage::new("a script that is run by CID has no folder of its own")
        .hint("grant a directory, `--grant dir:ro=data`, and open it by its name, `dir(\"data\")`")
        .into()
}

fn not_written(folder: &str, name: &str, error: &std::io::Error) -> Error {
    if leads_out(name) || error.kind() == std::io::ErrorKind::PermissionDenied {
        let message = format!("a script writes only below `{}`, not to `{}`", quote(folder), quote(name));
        return HostAbort::new(AbortKind::Denied, message).into();
    }
    failed_io("write", format!("{folder}/{name}"), error).into()
}

fn leads_out(path: &str) -> bool {
    Path::new(path).is_absolute() || Path::new(path).components().any(|part| part == Component::ParentDir)
}

/// Why `path` cannot be opened; a grant of the directory `grant` would allow it.
pub(super) fn outside_folder(path: &str, grant: &str, error: &std::io::Error) -> Error {
    if leads_out(path) || error.kind() == std::io::ErrorKind::PermissionDenied {
        let message = format!("a script reads only below its own folder, not `{}`", quote(path));
        return HostAbort::new(AbortKind::Denied, message)
            .hint(format!("grant the directory under that name: `--grant dir:ro=DIR::{}`", quote(grant)))
            .into();
    }
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Usage::new(format!("there is no `{}` below the script's folder", quote(path))).into()
        }
        _ => failed_io("open", path, error).into(),
    }
}

/// Why `path`, which is below a grant, cannot be opened.
fn below_grant(path: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Usage::new(format!("there is no `{}`", quote(path))).into(),
        std::io::ErrorKind::PermissionDenied => outside_folder(path, path, error),
        _ => failed_io("open", path, error).into(),
    }
}

/// The directory that a file is in, as it would be granted.
pub(super) fn parent_of(path: &str) -> String {
    match Path::new(path).parent().map(|parent| parent.display().to_string()) {
        Some(parent) if !parent.is_empty() => parent,
        _ => ".".to_owned(),
    }
}

/// The file `inside` below `dir`, whole; the script calls it `path`.
pub(super) fn read_below(dir: &Dir, inside: &str, path: &str) -> Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    let file = dir.open_with(inside, OpenOptions::new().read(true).nonblock(true));
    let file = file.map_err(|e| match inside == path {
        true => outside_folder(path, &parent_of(path), &e),
        false => below_grant(path, &e),
    })?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Usage::new(format!("`{}` is not a file", quote(path))).into());
    }
    let mut bytes = Vec::new();
    let mut limited = file.take(SCRIPT_FILE_MAX_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(|e| failed_io("read", path, &e))?;
    if bytes.len() as u64 > SCRIPT_FILE_MAX_BYTES {
        let message =
            format!("`{}` is longer than the {SCRIPT_FILE_MAX_BYTES} bytes that a script reads", quote(path));
        return Err(HostAbort::new(AbortKind::Quota, message).into());
    }
    Ok(bytes)
}

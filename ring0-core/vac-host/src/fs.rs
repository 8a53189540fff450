//! Files and directories behind the wall: real ones, through cap-std, and only inside a grant.
//!
//! cap-std resolves every path one component at a time from an open directory, so neither `..`,
//! nor an absolute path, nor a symbolic link that is swapped during the call leads out. What the
//! host would show of itself is closed here: listings are sorted, times are those that the guest
//! set itself, and who an object is to the guest is kept by [`crate::identity`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::{DirExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsMaybeDirExt};
use cap_std::fs::{Dir, File, FileExt, FileType, Metadata, OpenOptions, OpenOptionsExt};
use vac_core::caps::Rights;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::host::Preopen;
use crate::identity::{Identities, Identity};
use crate::limits::LISTING_MAX;
use crate::wire::cases;

/// `wasi:filesystem/types.error-code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the interface")]
pub enum ErrorCode {
    #[component(name = "access")]
    Access,
    #[component(name = "would-block")]
    WouldBlock,
    #[component(name = "already")]
    Already,
    #[component(name = "bad-descriptor")]
    BadDescriptor,
    #[component(name = "busy")]
    Busy,
    #[component(name = "deadlock")]
    Deadlock,
    #[component(name = "quota")]
    Quota,
    #[component(name = "exist")]
    Exist,
    #[component(name = "file-too-large")]
    FileTooLarge,
    #[component(name = "illegal-byte-sequence")]
    IllegalByteSequence,
    #[component(name = "in-progress")]
    InProgress,
    #[component(name = "interrupted")]
    Interrupted,
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "io")]
    Io,
    #[component(name = "is-directory")]
    IsDirectory,
    #[component(name = "loop")]
    Loop,
    #[component(name = "too-many-links")]
    TooManyLinks,
    #[component(name = "message-size")]
    MessageSize,
    #[component(name = "name-too-long")]
    NameTooLong,
    #[component(name = "no-device")]
    NoDevice,
    #[component(name = "no-entry")]
    NoEntry,
    #[component(name = "no-lock")]
    NoLock,
    #[component(name = "insufficient-memory")]
    InsufficientMemory,
    #[component(name = "insufficient-space")]
    InsufficientSpace,
    #[component(name = "not-directory")]
    NotDirectory,
    #[component(name = "not-empty")]
    NotEmpty,
    #[component(name = "not-recoverable")]
    NotRecoverable,
    #[component(name = "unsupported")]
    Unsupported,
    #[component(name = "no-tty")]
    NoTty,
    #[component(name = "no-such-device")]
    NoSuchDevice,
    #[component(name = "overflow")]
    Overflow,
    #[component(name = "not-permitted")]
    NotPermitted,
    #[component(name = "pipe")]
    Pipe,
    #[component(name = "read-only")]
    ReadOnly,
    #[component(name = "invalid-seek")]
    InvalidSeek,
    #[component(name = "text-file-busy")]
    TextFileBusy,
    #[component(name = "cross-device")]
    CrossDevice,
}
cases!(ErrorCode {
    Access,
    WouldBlock,
    Already,
    BadDescriptor,
    Busy,
    Deadlock,
    Quota,
    Exist,
    FileTooLarge,
    IllegalByteSequence,
    InProgress,
    Interrupted,
    Invalid,
    Io,
    IsDirectory,
    Loop,
    TooManyLinks,
    MessageSize,
    NameTooLong,
    NoDevice,
    NoEntry,
    NoLock,
    InsufficientMemory,
    InsufficientSpace,
    NotDirectory,
    NotEmpty,
    NotRecoverable,
    Unsupported,
    NoTty,
    NoSuchDevice,
    Overflow,
    NotPermitted,
    Pipe,
    ReadOnly,
    InvalidSeek,
    TextFileBusy,
    CrossDevice,
} NotPermitted);

impl ErrorCode {
    /// The code as a guest that asks for words sees it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoEntry => "no such entry",
            Self::InsufficientSpace => "no space left",
            Self::NotPermitted => "not permitted",
            Self::Pipe => "broken pipe",
            _ => "input or output failed",
        }
    }
}

impl From<&io::Error> for ErrorCode {
    fn from(error: &io::Error) -> Self {
        use rustix::io::Errno as E;
        let Some(raw) = error.raw_os_error() else { return Self::from(error.kind()) };
        let table = [
            (E::ACCESS, Self::Access),
            (E::AGAIN, Self::WouldBlock),
            (E::ALREADY, Self::Already),
            (E::BADF, Self::BadDescriptor),
            (E::BUSY, Self::Busy),
            (E::DEADLK, Self::Deadlock),
            (E::DQUOT, Self::Quota),
            (E::EXIST, Self::Exist),
            (E::FBIG, Self::FileTooLarge),
            (E::ILSEQ, Self::IllegalByteSequence),
            (E::INTR, Self::Interrupted),
            (E::INVAL, Self::Invalid),
            (E::ISDIR, Self::IsDirectory),
            (E::LOOP, Self::Loop),
            (E::MLINK, Self::TooManyLinks),
            (E::NAMETOOLONG, Self::NameTooLong),
            (E::NODEV, Self::NoDevice),
            (E::NOENT, Self::NoEntry),
            (E::NOMEM, Self::InsufficientMemory),
            (E::NOSPC, Self::InsufficientSpace),
            (E::NOTDIR, Self::NotDirectory),
            (E::NOTEMPTY, Self::NotEmpty),
            (E::NOTSUP, Self::Unsupported),
            (E::NXIO, Self::NoSuchDevice),
            (E::OVERFLOW, Self::Overflow),
            (E::PERM, Self::NotPermitted),
            (E::PIPE, Self::Pipe),
            (E::ROFS, Self::ReadOnly),
            (E::SPIPE, Self::InvalidSeek),
            (E::TXTBSY, Self::TextFileBusy),
            (E::XDEV, Self::CrossDevice),
        ];
        table.iter().find(|(errno, _)| errno.raw_os_error() == raw).map_or(Self::Io, |(_, code)| *code)
    }
}

impl From<io::ErrorKind> for ErrorCode {
    /// Errors without a number come from cap-std and from us.
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            // cap-std's word for a path that leads out of the directory.
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::NotFound => Self::NoEntry,
            io::ErrorKind::AlreadyExists => Self::Exist,
            io::ErrorKind::BrokenPipe => Self::Pipe,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Self::Invalid,
            io::ErrorKind::StorageFull => Self::InsufficientSpace,
            _ => Self::Io,
        }
    }
}

/// What a guest sees of an operation on files.
pub(crate) type FsResult<T> = Result<T, ErrorCode>;

/// A grant of files, as the guest's root of some paths.
pub(crate) struct Mount {
    pub(crate) guest: String,
    pub(crate) root: Arc<OpenDir>,
}

impl Mount {
    pub(crate) fn new(preopen: Preopen, who: &mut Identities) -> Self {
        let place = Place { grant: preopen.grant, path: String::new() };
        let id = match preopen.dir.dir_metadata() {
            Ok(metadata) => who.of(&metadata, &place),
            Err(_) => place.identity(0),
        };
        let Preopen { guest, dir, only, rights, .. } = preopen;
        let root = OpenDir { dir, place, id, only, rights, to_change: true };
        Self { guest, root: Arc::new(root) }
    }
}

/// Where an object is: a grant, and a path in it without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) grant: u32,
    pub(crate) path: String,
}

impl Place {
    /// The place of `path` seen from here.
    pub(crate) fn join(&self, path: &str) -> Self {
        let mut parts: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        Self { grant: self.grant, path: parts.join("/") }
    }

    /// A name for the object here: the same on every host, and hard to turn back. With another
    /// `turn` it is another one.
    pub(crate) fn identity(&self, turn: u64) -> Identity {
        let mut hasher = blake3::Hasher::new_derive_key("vac place 1");
        hasher.update(&self.grant.to_le_bytes()).update(&turn.to_le_bytes()).update(self.path.as_bytes());
        let digest = *hasher.finalize().as_bytes();
        let half = |range: std::ops::Range<usize>| {
            digest.get(range).and_then(|half| half.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        Identity { lower: half(0..8), upper: half(8..16) }
    }
}

/// An open file.
pub(crate) struct OpenFile {
    file: File,
    pub(crate) id: Identity,
    /// What its grant allows, whatever it was opened for.
    pub(crate) granted: Rights,
    pub(crate) modes: Modes,
}

/// When what is written to a file must be on the disk: before the write returns, if any is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) file_sync: bool,
    pub(crate) data_sync: bool,
    pub(crate) read_sync: bool,
}

impl OpenFile {
    pub(crate) fn read(&self, max: usize, offset: u64) -> FsResult<Vec<u8>> {
        let mut buf = vec![0; self.left(offset)?.min(max as u64) as usize];
        let got = self.read_into(&mut buf, offset)?;
        buf.truncate(got);
        Ok(buf)
    }

    /// Bytes from `offset` to the end.
    pub(crate) fn left(&self, offset: u64) -> FsResult<u64> {
        Ok(self.metadata()?.len().saturating_sub(offset))
    }

    /// Fills `buf` from `offset`, as far as there are bytes; how many there were.
    pub(crate) fn read_into(&self, buf: &mut [u8], offset: u64) -> FsResult<usize> {
        let mut got = 0;
        while let Some(rest) = buf.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(got as u64)) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ErrorCode::from(&e)),
            }
        }
        Ok(got)
    }

    /// Writes all of `bytes` at `offset`, or at the end.
    pub(crate) fn write(&self, bytes: &[u8], offset: Option<u64>) -> FsResult<()> {
        let offset = match offset {
            Some(offset) => offset,
            None => self.metadata()?.len(),
        };
        self.file.write_all_at(bytes, offset).map_err(|e| ErrorCode::from(&e))?;
        if self.modes == Modes::default() { Ok(()) } else { self.sync() }
    }

    pub(crate) fn metadata(&self) -> FsResult<Metadata> {
        self.file.metadata().map_err(|e| ErrorCode::from(&e))
    }

    pub(crate) fn set_len(&self, len: u64) -> FsResult<()> {
        self.file.set_len(len).map_err(|e| ErrorCode::from(&e))
    }

    pub(crate) fn sync(&self) -> FsResult<()> {
        self.file.sync_all().map_err(|e| ErrorCode::from(&e))
    }
}

/// A name in a directory.
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) kind: FileType,
}

/// An open directory.
pub(crate) struct OpenDir {
    dir: Dir,
    pub(crate) place: Place,
    pub(crate) id: Identity,
    /// If not empty, the only names that are granted; the directory itself is not.
    only: Vec<(String, Rights, u32)>,
    pub(crate) rights: Rights,
    /// Whether it was opened to change what is in it. It tells the guest so, and no more.
    pub(crate) to_change: bool,
}

/// How to open something in a directory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    pub(crate) follow: bool,
    pub(crate) create: bool,
    /// Whether it is opened again that was opened with `create`.
    pub(crate) was_create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// If it is a directory: to change what is in it.
    pub(crate) change: bool,
    pub(crate) modes: Modes,
}

impl How {
    /// To open again what was opened like this before: it is there, and stays as it is.
    pub(crate) fn without_effect(self) -> Self {
        let write = self.write || self.truncate;
        Self { create: false, was_create: self.create, exclusive: false, truncate: false, write, ..self }
    }

    /// Whether what is there already is only read: what is not there is made, or was made before.
    fn may_only_read(self) -> bool {
        (self.create || self.was_create) && !self.exclusive && !self.truncate && !self.write
    }

    /// The rights that opening like this uses.
    pub(crate) fn needs(self) -> Rights {
        let mut rights = Rights::NONE;
        if self.read || !self.write {
            rights = rights.or(Rights::READ);
        }
        if self.write || self.truncate {
            rights = rights.or(Rights::WRITE);
        }
        if self.create {
            rights = rights.or(Rights::NAMES);
        }
        rights
    }
}

/// Something that was opened.
pub(crate) enum Opened {
    File(OpenFile),
    Dir(OpenDir),
}

impl OpenDir {
    /// The rights on `path` and the grant behind them; `None` if no grant reaches it.
    pub(crate) fn rights_on(&self, path: &str) -> Option<(Rights, u32)> {
        if self.only.is_empty() {
            return Some((self.rights, self.place.grant));
        }
        // That it is a directory, and which of its names are granted, its holder knows already.
        if matches!(path, "." | "./") {
            return Some((Rights::READ, self.place.grant));
        }
        let name = path.strip_prefix("./").unwrap_or(path);
        self.only.iter().find(|(only, ..)| only == name).map(|(_, rights, grant)| (*rights, *grant))
    }

    /// Whether it, or a file that it shows, is of the operator's grant number `grant`.
    pub(crate) fn is_of(&self, grant: u32) -> bool {
        self.place.grant == grant || self.only.iter().any(|(_, _, number)| *number == grant)
    }

    /// The rights that opening `path` like this uses. To make a granted file needs no right to names:
    /// whoever may write it may make it, under its one name.
    pub(crate) fn needs(&self, path: &str, how: How) -> Rights {
        let how = self.only_itself(path, how);
        How { create: how.create && !self.may_make(path), ..how }.needs()
    }

    /// In a directory that shows granted files only, a link would lead to its other files, and a file
    /// that may only be read is not made.
    fn only_itself(&self, path: &str, how: How) -> How {
        match self.only.is_empty() {
            true => how,
            false => {
                How { follow: false, create: how.create && (how.exclusive || self.may_make(path)), ..how }
            }
        }
    }

    /// Whether `path` is a single granted file to write.
    fn may_make(&self, path: &str) -> bool {
        !self.only.is_empty() && self.rights_on(path).is_some_and(|(rights, _)| rights.has(Rights::WRITE))
    }

    pub(crate) fn open(&self, path: &str, how: How, who: &mut Identities) -> FsResult<Opened> {
        let how = self.only_itself(path, how);
        // A directory opened for writing alone is an error only once it is known to be one.
        let mut options = OpenOptions::new();
        options.maybe_dir(true).read(how.read || !how.write).write(how.write || how.truncate);
        options.create(how.create && !how.exclusive).create_new(how.create && how.exclusive);
        options.truncate(how.truncate).follow(follow(how.follow));
        if how.create || how.was_create {
            options.write(true);
        }
        // Opening a pipe would wait for its other end.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        let file = self.dir.open_with(path, &options);
        let file = match file {
            // What is there already, and may only be read, is not made.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && how.may_only_read() => {
                options.create(false).write(false);
                self.dir.open_with(path, &options).or(Err(e))
            }
            opened => opened,
        };
        let file = file.map_err(|e| ErrorCode::from(&e))?;
        let metadata = file.metadata().map_err(|e| ErrorCode::from(&e))?;
        let kind = metadata.file_type();
        let place = self.place.join(path);
        if kind.is_dir() {
            if how.write || how.truncate || how.create && how.exclusive {
                return Err(ErrorCode::IsDirectory);
            }
            // What was granted is a file: a directory that has its name by now is none.
            if !self.only.is_empty() && place != self.place {
                return Err(ErrorCode::NotPermitted);
            }
            let dir = Dir::from_std_file(file.into_std());
            // Opened again by another spelling, it still shows what was granted of it and no more.
            let only = if place == self.place { self.only.clone() } else { Vec::new() };
            let id = who.of(&metadata, &place);
            let (rights, to_change) = (self.rights, how.change);
            return Ok(Opened::Dir(Self { dir, place, id, only, rights, to_change }));
        }
        match (how.directory, kind.is_file()) {
            (true, _) => Err(ErrorCode::NotDirectory),
            // A device or a pipe is a way to other programs.
            (false, false) => Err(ErrorCode::NotPermitted),
            (false, true) => {
                let id = who.of(&metadata, &place);
                let granted = self.rights_on(path).map_or(Rights::NONE, |(rights, _)| rights);
                Ok(Opened::File(OpenFile { file, id, granted, modes: how.modes }))
            }
        }
    }

    pub(crate) fn metadata(&self, path: &str, follow_links: bool) -> FsResult<Metadata> {
        let metadata = if follow_links && self.only.is_empty() {
            self.dir.metadata(path)
        } else {
            self.dir.symlink_metadata(path)
        };
        metadata.map_err(|e| ErrorCode::from(&e))
    }

    pub(crate) fn own_metadata(&self) -> FsResult<Metadata> {
        self.dir.dir_metadata().map_err(|e| ErrorCode::from(&e))
    }

    /// The granted names in this directory, sorted by their bytes. A name that is not UTF-8 has
    /// no form in WASI; it is left out, like every host does.
    pub(crate) fn list(&self) -> FsResult<Vec<Name>> {
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(|e| ErrorCode::from(&e))? {
            let entry = entry.map_err(|e| ErrorCode::from(&e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_granted = self.only.is_empty() || self.only.iter().any(|(only, ..)| *only == name);
            if is_granted {
                names.push(Name { name, kind: entry.file_type().map_err(|e| ErrorCode::from(&e))? });
            }
            if names.len() > LISTING_MAX {
                return Err(ErrorCode::Overflow);
            }
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    pub(crate) fn create_dir(&self, path: &str) -> FsResult<()> {
        self.dir.create_dir(path).map_err(|e| ErrorCode::from(&e))
    }

    pub(crate) fn remove_dir(&self, path: &str, who: &mut Identities) -> FsResult<()> {
        // cap-std takes no slash after the name, where POSIX does.
        let path = without_slash(path);
        let removed = self.metadata(path, false)?;
        self.dir.remove_dir(path).map_err(|e| ErrorCode::from(&e))?;
        who.name_is_free(Some(&removed));
        Ok(())
    }

    pub(crate) fn remove_file(&self, path: &str, who: &mut Identities) -> FsResult<()> {
        // A directory is reported as such, where hosts disagree.
        let removed = self.metadata(path, false)?;
        if removed.is_dir() {
            return Err(ErrorCode::IsDirectory);
        }
        self.dir.remove_file_or_symlink(path).map_err(|e| ErrorCode::from(&e))?;
        who.name_is_free(Some(&removed));
        Ok(())
    }

    pub(crate) fn rename(&self, from: &str, to_dir: &Self, to: &str, who: &mut Identities) -> FsResult<()> {
        let moved = self.metadata(without_slash(from), false)?;
        // cap-std takes the slash for nothing, and POSIX for the mark of a directory.
        if (from.ends_with('/') || to.ends_with('/')) && !moved.is_dir() {
            return Err(ErrorCode::NotDirectory);
        }
        let replaced = to_dir.metadata(without_slash(to), false).ok();
        self.dir.rename(from, &to_dir.dir, to).map_err(|e| ErrorCode::from(&e))?;
        who.name_is_free(replaced.filter(|replaced| !is_same(&moved, replaced)).as_ref());
        Ok(())
    }

    pub(crate) fn hard_link(&self, from: &str, to_dir: &Self, to: &str) -> FsResult<()> {
        self.dir.hard_link(from, &to_dir.dir, to).map_err(|e| ErrorCode::from(&e))
    }

    pub(crate) fn symlink(&self, target: &str, link: &str) -> FsResult<()> {
        if Path::new(target).is_absolute() {
            return Err(ErrorCode::NotPermitted);
        }
        DirExt::symlink(&self.dir, target, link).map_err(|e| ErrorCode::from(&e))
    }

    pub(crate) fn read_link(&self, path: &str) -> FsResult<String> {
        let target = self.dir.read_link(path).map_err(|e| ErrorCode::from(&e))?;
        target.into_os_string().into_string().map_err(|_| ErrorCode::IllegalByteSequence)
    }
}

/// `path` without the slashes at its end, unless it is nothing else.
fn without_slash(path: &str) -> &str {
    let name = path.trim_end_matches('/');
    if name.is_empty() { path } else { name }
}

fn follow(follow: bool) -> FollowSymlinks {
    if follow { FollowSymlinks::Yes } else { FollowSymlinks::No }
}

/// Whether two objects of the host are one.
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

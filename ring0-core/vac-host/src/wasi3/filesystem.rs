//! `wasi:filesystem`: descriptors over [`crate::fs`], shared with WASI 0.2.
//!
//! What a grant does not cover is answered with `not-permitted`, and the record says which grant
//! would have allowed it. Every function that is `async` here is done when it returns.

use cap_std::fs::{FileType, Metadata};
use vac_core::canon::{Reader, Writer};
use vac_core::caps::{Handle, Rights};
use vac_core::fault::{Corrupt, Result};
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource, StreamReader};

use super::VERSION;
use super::clocks::Instant;
use super::streams::{self, Opened};
use crate::clock::NS_PER_S;
use crate::fs::{self, FsResult, How, Modes};
use crate::host::{Host, Object, handle_of, refused};
use crate::identity::Identity;
use crate::wall::{Interface, Wall};
use crate::wasi::filesystem::{
    self as shared, Advice, Descriptor, DescriptorFlags, MetadataHash, Node, OpenFlags, PathFlags,
};
use crate::wasi::io::{file_input, file_output, wrong_kind};
use crate::wire::{Wire, cases, record};

/// `wasi:filesystem/types.error-code`: every code of 0.2 but `would-block`, and one for the rest.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum ErrorCode {
    #[component(name = "access")]
    Access,
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
    #[component(name = "other")]
    Other(Option<String>),
}

/// Each code of 0.2 and what it is here.
macro_rules! same_codes {
    ($($name:ident),*) => {
        impl From<fs::ErrorCode> for ErrorCode {
            fn from(code: fs::ErrorCode) -> Self {
                match code {
                    $(fs::ErrorCode::$name => Self::$name,)*
                    fs::ErrorCode::WouldBlock => Self::Other(None),
                }
            }
        }
        impl From<&ErrorCode> for fs::ErrorCode {
            fn from(code: &ErrorCode) -> Self {
                match code {
                    $(ErrorCode::$name => Self::$name,)*
                    ErrorCode::Other(_) => Self::WouldBlock,
                }
            }
        }
    };
}
same_codes!(
    Access,
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
    CrossDevice
);

/// A code is recorded as in 0.2. Nothing here gives `other` words.
impl Wire for ErrorCode {
    fn put(&self, to: &mut Writer) {
        fs::ErrorCode::from(self).put(to);
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        fs::ErrorCode::read(from).map(Self::from)
    }
    fn revoked() -> Option<Self> {
        Some(Self::NotPermitted)
    }
}

/// `wasi:filesystem/types.descriptor-type`. The last case has words, which nothing here gives.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum DescriptorType {
    #[component(name = "block-device")]
    BlockDevice,
    #[component(name = "character-device")]
    CharacterDevice,
    #[component(name = "directory")]
    Directory,
    #[component(name = "fifo")]
    Fifo,
    #[component(name = "symbolic-link")]
    SymbolicLink,
    #[component(name = "regular-file")]
    RegularFile,
    #[component(name = "socket")]
    Socket,
    #[component(name = "other")]
    Other(Option<String>),
}

/// A type is recorded by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypeNumber {
    BlockDevice,
    CharacterDevice,
    Directory,
    Fifo,
    SymbolicLink,
    RegularFile,
    Socket,
    Other,
}
cases!(TypeNumber {
    BlockDevice,
    CharacterDevice,
    Directory,
    Fifo,
    SymbolicLink,
    RegularFile,
    Socket,
    Other
});

impl From<TypeNumber> for DescriptorType {
    fn from(number: TypeNumber) -> Self {
        match number {
            TypeNumber::BlockDevice => Self::BlockDevice,
            TypeNumber::CharacterDevice => Self::CharacterDevice,
            TypeNumber::Directory => Self::Directory,
            TypeNumber::Fifo => Self::Fifo,
            TypeNumber::SymbolicLink => Self::SymbolicLink,
            TypeNumber::RegularFile => Self::RegularFile,
            TypeNumber::Socket => Self::Socket,
            TypeNumber::Other => Self::Other(None),
        }
    }
}

impl Wire for DescriptorType {
    fn put(&self, to: &mut Writer) {
        let number = match self {
            Self::BlockDevice => TypeNumber::BlockDevice,
            Self::CharacterDevice => TypeNumber::CharacterDevice,
            Self::Directory => TypeNumber::Directory,
            Self::Fifo => TypeNumber::Fifo,
            Self::SymbolicLink => TypeNumber::SymbolicLink,
            Self::RegularFile => TypeNumber::RegularFile,
            Self::Socket => TypeNumber::Socket,
            Self::Other(_) => TypeNumber::Other,
        };
        number.put(to);
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        TypeNumber::read(from).map(Self::from)
    }
}

impl From<FileType> for DescriptorType {
    fn from(kind: FileType) -> Self {
        use shared::DescriptorType as T;
        match T::from(kind) {
            T::BlockDevice => Self::BlockDevice,
            T::CharacterDevice => Self::CharacterDevice,
            T::Directory => Self::Directory,
            T::Fifo => Self::Fifo,
            T::SymbolicLink => Self::SymbolicLink,
            T::RegularFile => Self::RegularFile,
            T::Socket => Self::Socket,
            T::Unknown => Self::Other(None),
        }
    }
}

/// `wasi:filesystem/types.descriptor-stat`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct Stat {
    #[component(name = "type")]
    kind: DescriptorType,
    #[component(name = "link-count")]
    link_count: u64,
    size: u64,
    #[component(name = "data-access-timestamp")]
    accessed: Option<Instant>,
    #[component(name = "data-modification-timestamp")]
    modified: Option<Instant>,
    #[component(name = "status-change-timestamp")]
    changed: Option<Instant>,
}
record!(Stat { kind, link_count, size, accessed, modified, changed });

/// `wasi:filesystem/types.new-timestamp`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(variant)]
enum NewTimestamp {
    #[component(name = "no-change")]
    NoChange,
    #[component(name = "now")]
    Now,
    #[component(name = "timestamp")]
    Timestamp(Instant),
}

/// `no-change` is null, `now` is `[null]`, a time is `[[time]]`.
impl Wire for NewTimestamp {
    fn put(&self, to: &mut Writer) {
        match self {
            Self::NoChange => None::<Option<Instant>>.put(to),
            Self::Now => Some(None::<Instant>).put(to),
            Self::Timestamp(time) => Some(Some(*time)).put(to),
        }
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        Ok(match Option::<Option<Instant>>::read(from)? {
            None => Self::NoChange,
            Some(None) => Self::Now,
            Some(Some(time)) => Self::Timestamp(time),
        })
    }
}

/// `wasi:filesystem/types.directory-entry`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct DirectoryEntry {
    #[component(name = "type")]
    kind: DescriptorType,
    name: String,
}
record!(DirectoryEntry { kind, name });

type D = Resource<Descriptor>;

/// What a function returns: outside, what ends the kernel; inside, what the guest sees.
type Answer<T> = Result<std::result::Result<T, ErrorCode>>;

/// What [`crate::fs`] and WASI 0.2 answered, as this version says it.
fn said<T>(answer: Result<FsResult<T>>) -> Answer<T> {
    Ok(answer?.map_err(ErrorCode::from))
}

/// Ends a function early with what the guest sees.
macro_rules! guest {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(code) => return Ok(Err(ErrorCode::from(code))),
        }
    };
}

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:filesystem/types", VERSION, |i| {
        i.resource::<Descriptor>("descriptor")?;
        define_streams(i)?;
        define_files(i)?;
        define_directories(i)?;
        define_metadata(i)
    })?;
    wall.interface("wasi:filesystem/preopens", VERSION, |i| {
        i.func("get-directories", Local, |h, (): ()| shared::preopens(h))
    })
}

fn define_streams(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    let name = "[method]descriptor.read-via-stream";
    let part = streams::reading::<ErrorCode>(i, name);
    i.streams(name, Local, |params: (D, u64)| (params, ()), |h, (d, offset)| read_via(h, &d, offset), {
        move |store, opened, ()| part.open(store, opened)
    })?;
    let name = "[method]descriptor.write-via-stream";
    let part = streams::writing::<ErrorCode>(i, name);
    i.streams(
        name,
        Local,
        |(d, data, offset): (D, StreamReader<u8>, u64)| ((d, offset), data),
        |h, (d, offset)| write_via(h, &d, Some(offset)),
        move |store, opened, data| part.open(store, opened, data),
    )?;
    let name = "[method]descriptor.append-via-stream";
    let part = streams::writing::<ErrorCode>(i, name);
    i.streams(
        name,
        Local,
        |(d, data): (D, StreamReader<u8>)| ((d,), data),
        |h, (d,)| write_via(h, &d, None),
        move |store, opened, data| part.open(store, opened, data),
    )?;
    let name = "[method]descriptor.read-directory";
    let part = streams::reading_with::<DirectoryEntry, ErrorCode>(i, name, next_entries);
    i.streams(name, Read, |params: (D,)| (params, ()), |h, (d,)| read_directory(h, &d), {
        move |store, opened, ()| part.open(store, opened)
    })
}

fn define_files(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func_async(
        "[method]descriptor.advise",
        Local,
        |h, (d, _, _, _): (D, u64, u64, Advice)| -> Answer<()> {
            match shared::node(h, &d, Rights::NONE)? {
                Node::File(_) => Ok(Ok(())),
                Node::Dir(_) => Ok(Err(ErrorCode::BadDescriptor)),
            }
        },
    )?;
    for name in ["[method]descriptor.sync-data", "[method]descriptor.sync"] {
        i.func_async(name, Effect, |h, (d,): (D,)| said(shared::sync(h, &d)))?;
    }
    i.func_async("[method]descriptor.set-size", Effect, |h, (d, size): (D, u64)| -> Answer<()> {
        let file = guest!(shared::file(h, &d, Rights::WRITE)?);
        Ok(file.set_len(size).map_err(ErrorCode::from))
    })
}

fn define_directories(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    let names = Rights::NAMES;
    i.func_async("[method]descriptor.create-directory-at", Effect, move |h, (d, path): (D, String)| {
        said(shared::at(h, &d, &path, names, |dir, _| dir.create_dir(&path)))
    })?;
    i.func_async("[method]descriptor.remove-directory-at", Effect, move |h, (d, path): (D, String)| {
        said(shared::at(h, &d, &path, names, |dir, who| dir.remove_dir(&path, who)))
    })?;
    i.func_async("[method]descriptor.unlink-file-at", Effect, move |h, (d, path): (D, String)| {
        said(shared::at(h, &d, &path, names, |dir, who| dir.remove_file(&path, who)))
    })?;
    i.func_async("[method]descriptor.readlink-at", Read, |h, (d, path): (D, String)| {
        said(shared::at(h, &d, &path, Rights::READ, |dir, _| dir.read_link(&path)))
    })?;
    i.func_async(
        "[method]descriptor.symlink-at",
        Effect,
        move |h, (d, target, link): (D, String, String)| {
            said(shared::at(h, &d, &link, names, |dir, _| dir.symlink(&target, &link)))
        },
    )?;
    i.func_async(
        "[method]descriptor.rename-at",
        Effect,
        |h, (d, from, to_d, to): (D, String, D, String)| said(shared::rename(h, &d, &from, &to_d, &to)),
    )?;
    i.func_async(
        "[method]descriptor.link-at",
        Effect,
        |h, (d, flags, from, to_d, to): (D, PathFlags, String, D, String)| {
            said(shared::link(h, &d, flags, &from, &to_d, &to))
        },
    )?;
    i.func_async(
        "[method]descriptor.open-at",
        Effect,
        |h, (d, path_flags, path, open, flags): (D, PathFlags, String, OpenFlags, DescriptorFlags)| {
            said(shared::open_at(h, &d, &path, how(path_flags, open, flags)))
        },
    )
}

fn define_metadata(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func_async("[method]descriptor.get-flags", Local, |h, (d,): (D,)| flags(h, &d))?;
    i.func_async("[method]descriptor.get-type", Local, |h, (d,): (D,)| -> Answer<DescriptorType> {
        let metadata = guest!(shared::node(h, &d, Rights::NONE)?.metadata());
        Ok(Ok(metadata.file_type().into()))
    })?;
    i.func_async("[method]descriptor.stat", Read, |h, (d,): (D,)| -> Answer<Stat> {
        let node = shared::node(h, &d, Rights::NONE)?;
        let metadata = guest!(node.metadata());
        Ok(Ok(stat(h, &metadata, node.identity())))
    })?;
    i.func_async(
        "[method]descriptor.stat-at",
        Read,
        |h, (d, flags, path): (D, PathFlags, String)| -> Answer<Stat> {
            let dir = guest!(shared::allowed(h, &d, &path, Rights::READ)?);
            let (metadata, id) = guest!(shared::look(h, &dir, &path, flags));
            Ok(Ok(stat(h, &metadata, id)))
        },
    )?;
    i.func_async(
        "[method]descriptor.set-times",
        Effect,
        |h, (d, accessed, modified): (D, NewTimestamp, NewTimestamp)| set_times(h, &d, accessed, modified),
    )?;
    i.func_async(
        "[method]descriptor.set-times-at",
        Effect,
        |h,
         (d, flags, path, accessed, modified): (D, PathFlags, String, NewTimestamp, NewTimestamp)|
         -> Answer<()> {
            let dir = guest!(shared::allowed(h, &d, &path, Rights::WRITE)?);
            let (_, id) = guest!(shared::look(h, &dir, &path, flags));
            said(Ok(shared::set_times(h, id, accessed.into(), modified.into())))
        },
    )?;
    i.func_async("[method]descriptor.is-same-object", Read, |h, (a, b): (D, D)| shared::are_same(h, &a, &b))?;
    i.func_async("[method]descriptor.metadata-hash", Read, |h, (d,): (D,)| -> Answer<MetadataHash> {
        Ok(Ok(shared::node(h, &d, Rights::NONE)?.identity().into()))
    })?;
    i.func_async(
        "[method]descriptor.metadata-hash-at",
        Read,
        |h, (d, flags, path): (D, PathFlags, String)| -> Answer<MetadataHash> {
            let dir = guest!(shared::allowed(h, &d, &path, Rights::READ)?);
            let (_, id) = guest!(shared::look(h, &dir, &path, flags));
            Ok(Ok(id.into()))
        },
    )
}

fn read_via(host: &mut Host, d: &D, offset: u64) -> Result<Opened<ErrorCode>> {
    let file = guest!(shared::file(host, d, Rights::READ)?);
    if i64::try_from(offset).is_err() {
        return Ok(Err(ErrorCode::Invalid));
    }
    streams::opened(host.derive::<()>(handle_of(d), file_input(file, offset), Rights::READ))
}

fn write_via(host: &mut Host, d: &D, offset: Option<u64>) -> Result<Opened<ErrorCode>> {
    let file = guest!(shared::file(host, d, Rights::WRITE)?);
    if offset.is_some_and(|offset| i64::try_from(offset).is_err()) {
        return Ok(Err(ErrorCode::Invalid));
    }
    streams::opened(host.derive::<()>(handle_of(d), file_output(file, offset), Rights::WRITE))
}

fn read_directory(host: &mut Host, d: &D) -> Result<Opened<ErrorCode>> {
    let dir = guest!(shared::dir(host, d, Rights::READ)?);
    let names = guest!(dir.list());
    streams::opened(host.derive::<()>(handle_of(d), Object::Listing(names.into_iter()), Rights::READ))
}

fn next_entries(host: &mut Host, rep: u32, max: usize) -> Result<FsResult<Vec<DirectoryEntry>>> {
    match host.table.get_mut(Handle::from_rep(rep), Rights::READ).map_err(refused)? {
        Object::Listing(names) => {
            let entry = |name: fs::Name| DirectoryEntry { kind: name.kind.into(), name: name.name };
            Ok(Ok(names.by_ref().take(max).map(entry).collect()))
        }
        _ => Err(wrong_kind()),
    }
}

/// What is created or cut is written to; what is not written to is read.
fn how(path: PathFlags, open: OpenFlags, flags: DescriptorFlags) -> How {
    let write = flags.contains(DescriptorFlags::WRITE);
    let changes = open.contains(OpenFlags::CREATE) || open.contains(OpenFlags::TRUNCATE);
    let asked = shared::how(path, open, flags);
    How { read: asked.read || !write, write: write || changes, ..asked }
}

/// What the descriptor was opened for. A directory may be changed through any descriptor of it that
/// its grant allows to; whether this one was opened to do so is all that is told.
fn flags(host: &mut Host, d: &D) -> Answer<DescriptorFlags> {
    let rights = host.table.rights(handle_of(d)).map_err(refused)?;
    let (second, right, modes) = match shared::node(host, d, Rights::NONE)? {
        Node::File(file) => (DescriptorFlags::WRITE, Rights::WRITE, file.modes),
        Node::Dir(dir) if dir.to_change => {
            (DescriptorFlags::MUTATE_DIRECTORY, Rights::NAMES, Modes::default())
        }
        Node::Dir(_) => (DescriptorFlags::default(), Rights::NONE, Modes::default()),
    };
    let pairs = [(Rights::READ, DescriptorFlags::READ), (right, second)];
    let held = pairs.into_iter().filter(|(right, _)| rights.has(*right));
    Ok(Ok(held.fold(modes.into(), |flags: DescriptorFlags, (_, flag)| flags | flag)))
}

fn stat(host: &Host, metadata: &Metadata, id: Identity) -> Stat {
    let (accessed, modified) = host.identities.times(id);
    let instant =
        |(seconds, nanoseconds): (u64, u32)| Some(Instant { seconds: seconds.cast_signed(), nanoseconds });
    Stat {
        kind: metadata.file_type().into(),
        // The number of links and the size of a folder are the host's own business.
        link_count: 1,
        size: if metadata.is_dir() { 0 } else { metadata.len() },
        accessed: instant(accessed),
        modified: instant(modified),
        changed: instant(modified),
    }
}

/// Times belong to the object and not to what a descriptor of it was opened for, so its grant decides.
fn set_times(host: &mut Host, d: &D, accessed: NewTimestamp, modified: NewTimestamp) -> Answer<()> {
    let node = shared::node(host, d, Rights::NONE)?;
    if !node.granted().has(Rights::WRITE) {
        host.deny("dir:rw=DIR");
        return Ok(Err(ErrorCode::NotPermitted));
    }
    said(Ok(shared::set_times(host, node.identity(), accessed.into(), modified.into())))
}

/// A time before 1970 is kept as the two's complement of its seconds, which 0.2 has no form for.
impl From<NewTimestamp> for shared::NewTimestamp {
    fn from(time: NewTimestamp) -> Self {
        match time {
            NewTimestamp::NoChange => Self::NoChange,
            NewTimestamp::Now => Self::Now,
            NewTimestamp::Timestamp(Instant { seconds, nanoseconds }) => {
                let (more, nanoseconds) =
                    (u64::from(nanoseconds) / NS_PER_S, u64::from(nanoseconds) % NS_PER_S);
                let seconds = seconds.saturating_add(more as i64).cast_unsigned();
                Self::Timestamp(shared::Datetime { seconds, nanoseconds: nanoseconds as u32 })
            }
        }
    }
}

//! `wasi:filesystem`: descriptors over [`crate::fs`].
//!
//! Every function that takes a path asks [`allowed`] first. What a grant does not cover is
//! answered with `not-permitted`, and the record says which grant would have allowed it.

use std::sync::Arc;

use cap_std::fs::{FileType, Metadata};
use vac_core::caps::{Handle, Rights};
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource, flags};

use super::VERSION;
pub(crate) use super::clocks::Datetime;
use super::io::{InputStream, IoError, OutputStream, file_input, file_output, wrong_kind};
use crate::clock::{NS_PER_S, WALL_START_S};
use crate::fs::{ErrorCode, FsResult, How, Modes, OpenDir, OpenFile, Opened, Place, is_same};
use crate::host::{Host, Object, handle_of, refused};
use crate::identity::{Identities, Identity};
use crate::limits::READ_MAX_BYTES;
use crate::wall::{Interface, Wall};
use crate::wire::{Wire, cases, record};

/// `wasi:filesystem/types.descriptor`.
pub(crate) struct Descriptor;
/// `wasi:filesystem/types.directory-entry-stream`.
pub(crate) struct EntryStream;

flags! {
    DescriptorFlags {
        #[component(name = "read")]
        const READ;
        #[component(name = "write")]
        const WRITE;
        #[component(name = "file-integrity-sync")]
        const FILE_INTEGRITY_SYNC;
        #[component(name = "data-integrity-sync")]
        const DATA_INTEGRITY_SYNC;
        #[component(name = "requested-write-sync")]
        const REQUESTED_WRITE_SYNC;
        #[component(name = "mutate-directory")]
        const MUTATE_DIRECTORY;
    }
}

flags! {
    PathFlags {
        #[component(name = "symlink-follow")]
        const SYMLINK_FOLLOW;
    }
}

flags! {
    OpenFlags {
        #[component(name = "create")]
        const CREATE;
        #[component(name = "directory")]
        const DIRECTORY;
        #[component(name = "exclusive")]
        const EXCLUSIVE;
        #[component(name = "truncate")]
        const TRUNCATE;
    }
}

/// Flags are recorded as their bits, the first flag lowest.
macro_rules! bits {
    ($($ty:ident: $($flag:ident),*;)*) => {$(
        impl Wire for $ty {
            fn put(&self, to: &mut vac_core::canon::Writer) {
                let set = [$(self.contains(Self::$flag)),*];
                to.uint(set.iter().rev().fold(0, |bits, set| bits << 1 | u64::from(*set)));
            }
            fn read(from: &mut vac_core::canon::Reader<'_>) -> std::result::Result<Self, vac_core::fault::Corrupt> {
                let bits = from.uint()?;
                let all = [$(Self::$flag),*];
                let mut flags = Self::default();
                for (i, flag) in all.into_iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
                    let _ = i;
                    flags |= flag;
                }
                if bits >> [$(stringify!($flag)),*].len() != 0 {
                    return Err(from.wrong(stringify!($ty), bits));
                }
                Ok(flags)
            }
        }
    )*};
}
bits! {
    DescriptorFlags: READ, WRITE, FILE_INTEGRITY_SYNC, DATA_INTEGRITY_SYNC, REQUESTED_WRITE_SYNC, MUTATE_DIRECTORY;
    PathFlags: SYMLINK_FOLLOW;
    OpenFlags: CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE;
}

/// `wasi:filesystem/types.descriptor-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum DescriptorType {
    #[component(name = "unknown")]
    Unknown,
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
}
cases!(DescriptorType {
    Unknown,
    BlockDevice,
    CharacterDevice,
    Directory,
    Fifo,
    SymbolicLink,
    RegularFile,
    Socket
});

impl From<FileType> for DescriptorType {
    fn from(kind: FileType) -> Self {
        use cap_fs_ext::FileTypeExt;
        let cases = [
            (kind.is_dir(), Self::Directory),
            (kind.is_symlink(), Self::SymbolicLink),
            (kind.is_file(), Self::RegularFile),
            (kind.is_fifo(), Self::Fifo),
            (kind.is_socket(), Self::Socket),
            (kind.is_block_device(), Self::BlockDevice),
            (kind.is_char_device(), Self::CharacterDevice),
        ];
        cases.into_iter().find(|(is, _)| *is).map_or(Self::Unknown, |(_, kind)| kind)
    }
}

/// `wasi:filesystem/types.advice`. It changes nothing that a guest could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Advice {
    #[component(name = "normal")]
    Normal,
    #[component(name = "sequential")]
    Sequential,
    #[component(name = "random")]
    Random,
    #[component(name = "will-need")]
    WillNeed,
    #[component(name = "dont-need")]
    DontNeed,
    #[component(name = "no-reuse")]
    NoReuse,
}
cases!(Advice { Normal, Sequential, Random, WillNeed, DontNeed, NoReuse });

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
    accessed: Option<Datetime>,
    #[component(name = "data-modification-timestamp")]
    modified: Option<Datetime>,
    #[component(name = "status-change-timestamp")]
    changed: Option<Datetime>,
}
record!(Stat { kind, link_count, size, accessed, modified, changed });

/// `wasi:filesystem/types.new-timestamp`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum NewTimestamp {
    #[component(name = "no-change")]
    NoChange,
    #[component(name = "now")]
    Now,
    #[component(name = "timestamp")]
    Timestamp(Datetime),
}

/// `no-change` is null, `now` is `[null]`, a time is `[[time]]`.
impl Wire for NewTimestamp {
    fn put(&self, to: &mut vac_core::canon::Writer) {
        match self {
            Self::NoChange => None::<Option<Datetime>>.put(to),
            Self::Now => Some(None::<Datetime>).put(to),
            Self::Timestamp(time) => Some(Some(*time)).put(to),
        }
    }
    fn read(from: &mut vac_core::canon::Reader<'_>) -> std::result::Result<Self, vac_core::fault::Corrupt> {
        Ok(match Option::<Option<Datetime>>::read(from)? {
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

/// `wasi:filesystem/types.metadata-hash-value`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct MetadataHash {
    lower: u64,
    upper: u64,
}
record!(MetadataHash { lower, upper });

impl From<Identity> for MetadataHash {
    fn from(id: Identity) -> Self {
        Self { lower: id.lower, upper: id.upper }
    }
}

type D = Resource<Descriptor>;

/// What a function returns: outside, what ends the kernel; inside, what the guest sees.
type Answer<T> = Result<FsResult<T>>;

/// The object behind a descriptor.
pub(crate) enum Node {
    File(Arc<OpenFile>),
    Dir(Arc<OpenDir>),
}

impl Node {
    pub(crate) fn metadata(&self) -> FsResult<Metadata> {
        match self {
            Self::File(file) => file.metadata(),
            Self::Dir(dir) => dir.own_metadata(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        match self {
            Self::File(file) => file.id,
            Self::Dir(dir) => dir.id,
        }
    }

    /// What its grant allows, whatever it was opened for.
    pub(crate) fn granted(&self) -> Rights {
        match self {
            Self::File(file) => file.granted,
            Self::Dir(dir) => dir.rights_on(".").map_or(Rights::NONE, |(rights, _)| rights),
        }
    }
}

/// Ends a function early with what the guest sees.
macro_rules! guest {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(code) => return Ok(Err(code)),
        }
    };
}

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:filesystem/types", VERSION, |i| {
        i.resource::<Descriptor>("descriptor")?;
        i.resource::<EntryStream>("directory-entry-stream")?;
        define_streams(i)?;
        define_files(i)?;
        define_directories(i)?;
        define_metadata(i)?;
        i.func("filesystem-error-code", Local, |h, (error,): (Resource<IoError>,)| {
            match h.table.get(handle_of(&error), Rights::READ).map_err(refused)? {
                Object::IoError(code) => Ok(Some(*code)),
                _ => Err(wrong_kind()),
            }
        })
    })?;
    wall.interface("wasi:filesystem/preopens", VERSION, |i| {
        i.func("get-directories", Local, |h, (): ()| preopens(h))
    })
}

fn define_streams(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func(
        "[method]descriptor.read-via-stream",
        Local,
        |h, (d, offset): (D, u64)| -> Answer<Resource<InputStream>> {
            let file = guest!(file(h, &d, Rights::READ)?);
            h.derive(handle_of(&d), file_input(file, offset), Rights::READ).map(Ok)
        },
    )?;
    i.func(
        "[method]descriptor.write-via-stream",
        Local,
        |h, (d, offset): (D, u64)| -> Answer<Resource<OutputStream>> {
            let file = guest!(file(h, &d, Rights::WRITE)?);
            h.derive(handle_of(&d), file_output(file, Some(offset)), Rights::WRITE).map(Ok)
        },
    )?;
    i.func("[method]descriptor.append-via-stream", Local, |h, (d,): (D,)| -> Answer<Resource<OutputStream>> {
        let file = guest!(file(h, &d, Rights::WRITE)?);
        h.derive(handle_of(&d), file_output(file, None), Rights::WRITE).map(Ok)
    })
}

fn define_files(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]descriptor.advise", Local, |h, (d, _, _, _): (D, u64, u64, Advice)| -> Answer<()> {
        Ok(file(h, &d, Rights::NONE)?.map(drop))
    })?;
    for name in ["[method]descriptor.sync-data", "[method]descriptor.sync"] {
        i.func(name, Effect, |h, (d,): (D,)| sync(h, &d))?;
    }
    i.func("[method]descriptor.set-size", Effect, |h, (d, size): (D, u64)| -> Answer<()> {
        let file = guest!(file(h, &d, Rights::WRITE)?);
        Ok(file.set_len(size))
    })?;
    i.func(
        "[method]descriptor.read",
        Read,
        |h, (d, len, offset): (D, u64, u64)| -> Answer<(Vec<u8>, bool)> {
            let file = guest!(file(h, &d, Rights::READ)?);
            let max = usize::try_from(len).unwrap_or(usize::MAX).min(READ_MAX_BYTES);
            let bytes = guest!(file.read(max, offset));
            h.take_in(bytes.len())?;
            // Nothing was asked for and nothing is left: WASI 0.1 would take anything else for an interruption.
            let is_end = bytes.is_empty() || bytes.len() < max;
            Ok(Ok((bytes, is_end)))
        },
    )?;
    i.func("[method]descriptor.write", Effect, |h, (d, bytes, offset): (D, Vec<u8>, u64)| -> Answer<u64> {
        let file = guest!(file(h, &d, Rights::WRITE)?);
        h.give_out(bytes.len())?;
        Ok(file.write(&bytes, Some(offset)).map(|()| bytes.len() as u64))
    })
}

fn define_directories(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]descriptor.read-directory", Read, |h, (d,): (D,)| -> Answer<Resource<EntryStream>> {
        let dir = guest!(dir(h, &d, Rights::READ)?);
        let names = guest!(dir.list());
        h.derive(handle_of(&d), Object::Listing(names.into_iter()), Rights::READ).map(Ok)
    })?;
    i.func(
        "[method]directory-entry-stream.read-directory-entry",
        Read,
        |h, (s,): (Resource<EntryStream>,)| -> Answer<Option<DirectoryEntry>> {
            match h.table.get_mut(handle_of(&s), Rights::READ).map_err(refused)? {
                Object::Listing(names) => {
                    Ok(Ok(names.next().map(|n| DirectoryEntry { kind: n.kind.into(), name: n.name })))
                }
                _ => Err(wrong_kind()),
            }
        },
    )?;
    let names = Rights::NAMES;
    i.func("[method]descriptor.create-directory-at", Effect, move |h, (d, path): (D, String)| {
        at(h, &d, &path, names, |dir, _| dir.create_dir(&path))
    })?;
    i.func("[method]descriptor.remove-directory-at", Effect, move |h, (d, path): (D, String)| {
        at(h, &d, &path, names, |dir, who| dir.remove_dir(&path, who))
    })?;
    i.func("[method]descriptor.unlink-file-at", Effect, move |h, (d, path): (D, String)| {
        at(h, &d, &path, names, |dir, who| dir.remove_file(&path, who))
    })?;
    i.func("[method]descriptor.readlink-at", Read, |h, (d, path): (D, String)| {
        at(h, &d, &path, Rights::READ, |dir, _| dir.read_link(&path))
    })?;
    i.func("[method]descriptor.symlink-at", Effect, move |h, (d, target, link): (D, String, String)| {
        at(h, &d, &link, names, |dir, _| dir.symlink(&target, &link))
    })?;
    i.func("[method]descriptor.rename-at", Effect, |h, (d, from, to_d, to): (D, String, D, String)| {
        rename(h, &d, &from, &to_d, &to)
    })?;
    i.func(
        "[method]descriptor.link-at",
        Effect,
        |h, (d, flags, from, to_d, to): (D, PathFlags, String, D, String)| {
            link(h, &d, flags, &from, &to_d, &to)
        },
    )?;
    i.func(
        "[method]descriptor.open-at",
        Effect,
        |h, (d, path_flags, path, open, flags): (D, PathFlags, String, OpenFlags, DescriptorFlags)| {
            open_at(h, &d, &path, how(path_flags, open, flags))
        },
    )
}

fn define_metadata(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]descriptor.get-flags", Local, |h, (d,): (D,)| -> Answer<DescriptorFlags> {
        let rights = h.table.rights(handle_of(&d)).map_err(refused)?;
        let (is_dir, modes) = match node(h, &d, Rights::NONE)? {
            Node::Dir(_) => (true, Modes::default()),
            Node::File(file) => (false, file.modes),
        };
        let pairs = [
            (Rights::READ, DescriptorFlags::READ),
            (Rights::WRITE, if is_dir { DescriptorFlags::default() } else { DescriptorFlags::WRITE }),
            (
                Rights::NAMES,
                if is_dir { DescriptorFlags::MUTATE_DIRECTORY } else { DescriptorFlags::default() },
            ),
        ];
        let held = pairs.into_iter().filter(|(right, _)| rights.has(*right));
        Ok(Ok(held.fold(modes.into(), |flags: DescriptorFlags, (_, flag)| flags | flag)))
    })?;
    i.func("[method]descriptor.get-type", Local, |h, (d,): (D,)| -> Answer<DescriptorType> {
        Ok(node(h, &d, Rights::NONE)?.metadata().map(|m| m.file_type().into()))
    })?;
    i.func("[method]descriptor.stat", Read, |h, (d,): (D,)| -> Answer<Stat> {
        let node = node(h, &d, Rights::NONE)?;
        let metadata = guest!(node.metadata());
        Ok(Ok(stat(h, &metadata, node.identity())))
    })?;
    i.func(
        "[method]descriptor.stat-at",
        Read,
        |h, (d, flags, path): (D, PathFlags, String)| -> Answer<Stat> {
            let dir = guest!(allowed(h, &d, &path, Rights::READ)?);
            let (metadata, id) = guest!(look(h, &dir, &path, flags));
            Ok(Ok(stat(h, &metadata, id)))
        },
    )?;
    i.func(
        "[method]descriptor.set-times",
        Effect,
        |h, (d, accessed, modified): (D, NewTimestamp, NewTimestamp)| -> Answer<()> {
            let rights = h.table.rights(handle_of(&d)).map_err(refused)?;
            if !rights.has(Rights::WRITE) {
                return Ok(Err(ErrorCode::NotPermitted));
            }
            let id = node(h, &d, Rights::NONE)?.identity();
            Ok(set_times(h, id, accessed, modified))
        },
    )?;
    i.func(
        "[method]descriptor.set-times-at",
        Effect,
        |h,
         (d, flags, path, accessed, modified): (D, PathFlags, String, NewTimestamp, NewTimestamp)|
         -> Answer<()> {
            let dir = guest!(allowed(h, &d, &path, Rights::WRITE)?);
            let (_, id) = guest!(look(h, &dir, &path, flags));
            Ok(set_times(h, id, accessed, modified))
        },
    )?;
    i.func("[method]descriptor.is-same-object", Read, |h, (a, b): (D, D)| are_same(h, &a, &b))?;
    i.func("[method]descriptor.metadata-hash", Read, |h, (d,): (D,)| -> Answer<MetadataHash> {
        Ok(Ok(node(h, &d, Rights::NONE)?.identity().into()))
    })?;
    i.func(
        "[method]descriptor.metadata-hash-at",
        Read,
        |h, (d, flags, path): (D, PathFlags, String)| -> Answer<MetadataHash> {
            let dir = guest!(allowed(h, &d, &path, Rights::READ)?);
            let (_, id) = guest!(look(h, &dir, &path, flags));
            Ok(Ok(id.into()))
        },
    )
}

pub(crate) fn preopens(host: &mut Host) -> Result<Vec<(D, String)>> {
    if host.mounts.is_empty() {
        host.deny("dir:ro=DIR");
    }
    let roots: Vec<_> = host.mounts.iter().map(|m| (Arc::clone(&m.root), m.guest.clone())).collect();
    let open = |(root, guest): (Arc<OpenDir>, String)| {
        let (rights, grant) = (root.rights, root.place.grant);
        Ok((host.open(Object::Dir(root), rights, Some(grant))?, guest))
    };
    roots.into_iter().map(open).collect()
}

pub(crate) fn sync(host: &mut Host, d: &D) -> Answer<()> {
    Ok(match node(host, d, Rights::NONE)? {
        Node::File(file) => file.sync(),
        Node::Dir(_) => Ok(()),
    })
}

/// Does something in the directory `d`, if its grant allows `needed` on `path`.
pub(crate) fn at<T>(
    host: &mut Host,
    d: &D,
    path: &str,
    needed: Rights,
    act: impl FnOnce(&OpenDir, &mut Identities) -> FsResult<T>,
) -> Answer<T> {
    let dir = guest!(allowed(host, d, path, needed)?);
    Ok(act(&dir, &mut host.identities))
}

pub(crate) fn rename(host: &mut Host, d: &D, from: &str, to_d: &D, to: &str) -> Answer<()> {
    let from_dir = guest!(allowed(host, d, from, Rights::NAMES)?);
    let to_dir = guest!(allowed(host, to_d, to, Rights::NAMES)?);
    Ok(from_dir.rename(from, &to_dir, to, &mut host.identities))
}

pub(crate) fn link(host: &mut Host, d: &D, flags: PathFlags, from: &str, to_d: &D, to: &str) -> Answer<()> {
    // A link gives its holder what the source allows, so the source must allow all.
    let from_dir = guest!(allowed(host, d, from, Rights::ALL)?);
    let to_dir = guest!(allowed(host, to_d, to, Rights::NAMES)?);
    if flags.contains(PathFlags::SYMLINK_FOLLOW) {
        return Ok(Err(ErrorCode::Invalid));
    }
    Ok(from_dir.hard_link(from, &to_dir, to))
}

pub(crate) fn are_same(host: &mut Host, a: &D, b: &D) -> Result<bool> {
    let (a, b) = (node(host, a, Rights::NONE)?.metadata(), node(host, b, Rights::NONE)?.metadata());
    Ok(matches!((a, b), (Ok(a), Ok(b)) if is_same(&a, &b)))
}

/// The object behind `d`, which must allow `needed`.
pub(crate) fn node(host: &mut Host, d: &D, needed: Rights) -> Result<Node> {
    let handle = handle_of(d);
    host.allowed_by(host.table.grant(handle));
    match host.table.get(handle, needed).map_err(refused)? {
        Object::File(file) => Ok(Node::File(Arc::clone(file))),
        Object::Dir(dir) => Ok(Node::Dir(Arc::clone(dir))),
        _ => Err(wrong_kind()),
    }
}

/// The file behind `d`. Without the right it was opened for, `bad-descriptor`, as POSIX has it.
pub(crate) fn file(host: &mut Host, d: &D, needed: Rights) -> Answer<Arc<OpenFile>> {
    Ok(match node(host, d, Rights::NONE)? {
        Node::File(_) if !host.table.rights(handle_of(d)).map_err(refused)?.has(needed) => {
            Err(ErrorCode::BadDescriptor)
        }
        Node::File(file) => Ok(file),
        Node::Dir(_) => Err(ErrorCode::IsDirectory),
    })
}

pub(crate) fn dir(host: &mut Host, d: &D, needed: Rights) -> Answer<Arc<OpenDir>> {
    Ok(match node(host, d, Rights::NONE)? {
        Node::Dir(_) if !host.table.rights(handle_of(d)).map_err(refused)?.has(needed) => {
            Err(ErrorCode::NotPermitted)
        }
        Node::Dir(dir) => Ok(dir),
        Node::File(_) => Err(ErrorCode::NotDirectory),
    })
}

/// The directory behind `d`, if its grant allows `needed` on `path`.
pub(crate) fn allowed(host: &mut Host, d: &D, path: &str, needed: Rights) -> Answer<Arc<OpenDir>> {
    let dir = guest!(dir(host, d, Rights::NONE)?);
    if path.is_empty() {
        return Ok(Err(ErrorCode::NoEntry));
    }
    if path.contains('\0') {
        return Ok(Err(ErrorCode::Invalid));
    }
    let own = host.table.rights(handle_of(d)).map_err(refused)?;
    let held = dir.rights_on(path).map(|(rights, grant)| (rights.and(own), grant));
    if let Some((_, grant)) = held {
        host.allowed_by(Some(grant));
    }
    if !held.is_some_and(|(held, _)| held.has(needed)) || leaves(&dir.place, path) {
        deny(host, &dir.place, path, needed);
        return Ok(Err(ErrorCode::NotPermitted));
    }
    Ok(Ok(dir))
}

/// Whether `path` leads out of its grant by its own words. Links that do so are found by cap-std.
fn leaves(from: &Place, path: &str) -> bool {
    let mut depth = from.path.split('/').filter(|part| !part.is_empty()).count() as i64;
    path.starts_with('/')
        || path.split('/').any(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth < 0
        })
}

fn deny(host: &mut Host, from: &Place, path: &str, needed: Rights) {
    let kind = if Rights::READ.has(needed) { "ro" } else { "rw" };
    let mount =
        host.mounts.iter().find(|m| m.root.place.grant == from.grant).map_or("", |m| m.guest.as_str());
    let grant = match (path.starts_with('/'), leaves(from, path)) {
        (true, _) => format!("dir:{kind}={path}"),
        (false, true) => format!("dir:{kind}={mount}/{path}"),
        (false, false) if from.path.is_empty() && !mount.is_empty() => format!("dir:{kind}={mount}"),
        (false, false) => format!("dir:{kind}={mount}/{}", from.path),
    };
    host.deny(grant);
}

/// The metadata and identity of what `path` names.
pub(crate) fn look(
    host: &mut Host,
    dir: &OpenDir,
    path: &str,
    flags: PathFlags,
) -> FsResult<(Metadata, Identity)> {
    let metadata = dir.metadata(path, flags.contains(PathFlags::SYMLINK_FOLLOW))?;
    let id = host.identities.of(&metadata, &dir.place.join(path));
    Ok((metadata, id))
}

pub(crate) fn how(path: PathFlags, open: OpenFlags, flags: DescriptorFlags) -> How {
    How {
        follow: path.contains(PathFlags::SYMLINK_FOLLOW),
        was_create: false,
        create: open.contains(OpenFlags::CREATE),
        exclusive: open.contains(OpenFlags::EXCLUSIVE),
        truncate: open.contains(OpenFlags::TRUNCATE),
        directory: open.contains(OpenFlags::DIRECTORY),
        read: flags.contains(DescriptorFlags::READ),
        write: flags.contains(DescriptorFlags::WRITE),
        change: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
        modes: flags.into(),
    }
}

impl From<DescriptorFlags> for Modes {
    fn from(flags: DescriptorFlags) -> Self {
        Self {
            file_sync: flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC),
            data_sync: flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC),
            read_sync: flags.contains(DescriptorFlags::REQUESTED_WRITE_SYNC),
        }
    }
}

impl From<Modes> for DescriptorFlags {
    fn from(modes: Modes) -> Self {
        let pairs = [
            (modes.file_sync, Self::FILE_INTEGRITY_SYNC),
            (modes.data_sync, Self::DATA_INTEGRITY_SYNC),
            (modes.read_sync, Self::REQUESTED_WRITE_SYNC),
        ];
        let set = pairs.into_iter().filter(|(is_set, _)| *is_set);
        set.fold(Self::default(), |flags, (_, flag)| flags | flag)
    }
}

pub(crate) fn open_at(host: &mut Host, d: &D, path: &str, how: How) -> Answer<D> {
    if how.create && how.directory {
        return Ok(Err(ErrorCode::Invalid));
    }
    let needs = match node(host, d, Rights::NONE)? {
        Node::Dir(dir) => dir.needs(path, how),
        Node::File(_) => Rights::NONE,
    };
    let dir = guest!(allowed(host, d, path, needs)?);
    let how = if host.is_past { how.without_effect() } else { how };
    let opened = match dir.open(path, how, &mut host.identities) {
        Ok(opened) => opened,
        Err(code) => {
            // The path was allowed by its words, so it was a link that led out.
            if code == ErrorCode::NotPermitted {
                host.deny("dir:ro=DIR, where DIR is where the link leads");
            }
            return Ok(Err(code));
        }
    };
    let held = dir.rights_on(path).map_or(Rights::NONE, |(held, _)| held);
    let parent = handle_of(d);
    match opened {
        Opened::File(file) => derive(host, parent, Object::File(Arc::new(file)), held.and(needs)),
        Opened::Dir(dir) => derive(host, parent, Object::Dir(Arc::new(dir)), held),
    }
}

fn derive(host: &mut Host, parent: Handle, object: Object, rights: Rights) -> Answer<D> {
    // A single file's grant may allow more than the folder it is shown in.
    let rights = rights.and(host.table.rights(parent).map_err(refused)?);
    host.derive(parent, object, rights).map(Ok)
}

fn stat(host: &Host, metadata: &Metadata, id: Identity) -> Stat {
    let ((a_s, a_ns), (m_s, m_ns)) = host.identities.times(id);
    let modified = Some(Datetime { seconds: m_s, nanoseconds: m_ns });
    Stat {
        kind: metadata.file_type().into(),
        // The number of links and the size of a folder are the host's own business.
        link_count: 1,
        size: if metadata.is_dir() { 0 } else { metadata.len() },
        accessed: Some(Datetime { seconds: a_s, nanoseconds: a_ns }),
        modified,
        changed: modified,
    }
}

pub(crate) fn set_times(
    host: &mut Host,
    id: Identity,
    accessed: NewTimestamp,
    modified: NewTimestamp,
) -> FsResult<()> {
    let now_ns = host.clock.now_ns();
    let now = (WALL_START_S + now_ns / NS_PER_S, (now_ns % NS_PER_S) as u32);
    let set = |old: (u64, u32), new: NewTimestamp| match new {
        NewTimestamp::NoChange => old,
        NewTimestamp::Now => now,
        NewTimestamp::Timestamp(time) => (time.seconds, time.nanoseconds),
    };
    let (old_accessed, old_modified) = host.identities.times(id);
    host.identities.set_times(id, (set(old_accessed, accessed), set(old_modified, modified)))
}

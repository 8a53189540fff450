//! Files of the host, below one folder.
//!
//! Not a sandbox: every path is VAC's own (see [`super`]), so none is checked for `..`.
//! Invariants: folders are made with mode 0700 and files with 0600, because the store holds what
//! guests were given; nothing is cached here but which folders are durable, so two values on one folder see
//! the same bytes.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::FlockOperation;

use super::{Lock, LockMode, OpenMode, Storage, StorageFile};

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Room is reserved only of a disk that has so many times as much: the last of it is for whoever writes first.
#[cfg(target_os = "linux")]
const SPARE_PARTS: u64 = 32;
/// What a file may take on the disk beyond its length without that being room that was reserved.
#[cfg(target_os = "linux")]
const SLACK_BYTES: u64 = 256 << 10;

/// A folder of the host.
#[derive(Debug, Clone)]
pub struct RealStorage {
    root: PathBuf,
    /// Folders whose names were there before a sync of the folder above them.
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl RealStorage {
    /// Files below `root`, which need not exist yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root, durable: Arc::default() }
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `child` of `parent` durably. One sync does for all that are there, so that a folder of many
    /// parts is not synced for each.
    fn make_durable(&self, parent: &Path, child: &Path) -> io::Result<()> {
        if self.durable().contains(child) && child.is_dir() {
            return Ok(());
        }
        make_dir(child)?;
        let mut there = BTreeSet::from([child.to_owned()]);
        for entry in std::fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                there.insert(entry.path());
            }
        }
        // Also when it was there: whoever made it may have been killed before this sync.
        sync_folder(parent)?;
        self.durable().extend(there);
        Ok(())
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Storage for RealStorage {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => _ = options.write(true),
            OpenMode::CreateNew => _ = options.write(true).create_new(true),
        }
        let file = options.open(self.at(path))?;
        Ok(Box::new(RealFile { file, direct: OnceLock::new() }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.at(path))? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        create_root(&self.root)?;
        let mut parent = self.root.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let child = parent.join(part);
            self.make_durable(&parent, &child)?;
            parent = child;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        sync_folder(&self.at(path))
    }

    fn try_lock(&self, path: &str, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        let file = open_lock_file(&self.at(path))?;
        let operation = match mode {
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn show(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }
}

/// Makes the root and the folders above it; those that were there are left as they are.
fn create_root(root: &Path) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_root(parent)?;
        make_dir(root)?;
        return sync_folder(parent);
    }
    make_dir(root)?;
    sync_folder(Path::new("."))
}

fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        done => done,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A lock needs no right to write, so a read-only home can still be locked when the file exists.
fn open_lock_file(path: &Path) -> io::Result<File> {
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    match opened {
        Err(err)
            if matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
        {
            File::open(path).map_err(|_| err)
        }
        other => other,
    }
}

/// The lock lives as long as the open file: the kernel drops it on close, even after a kill.
struct RealLock {
    _file: File,
}

impl Lock for RealLock {}

struct RealFile {
    file: File,
    /// Opened once it is asked for.
    direct: OnceLock<Option<File>>,
}

impl StorageFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, end: u64) -> io::Result<()> {
        let len = self.len()?;
        let Some(more) = end.checked_sub(len).filter(|more| *more > 0) else { return Ok(()) };
        let disk = rustix::fs::fstatvfs(&self.file)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) / more < SPARE_PARTS {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let reserved = rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, len, more);
        if reserved.is_err() {
            // Some systems keep what they had got until then.
            let _ = self.file.set_len(len);
        }
        Ok(reserved?)
    }

    #[cfg(target_os = "linux")]
    fn give_back(&self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        // Cutting waits for the file system's journal, and most files have no such room.
        if metadata.blocks() * 512 <= metadata.len() + SLACK_BYTES {
            return Ok(());
        }
        // ext4 frees what is behind the end, though the length is as before; a hole punched there frees nothing.
        self.file.set_len(metadata.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&self.file))
    }

    #[cfg(target_os = "linux")]
    fn direct(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        let open = || {
            // By this path, for the file may have another name by now, or none.
            OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(self.host_path()?).ok()
        };
        self.direct.get_or_init(open).as_ref().map(std::os::fd::AsFd::as_fd)
    }

    #[cfg(target_os = "linux")]
    fn host_path(&self) -> Option<PathBuf> {
        use std::os::fd::AsRawFd;
        Some(format!("/proc/self/fd/{}", self.file.as_raw_fd()).into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{read_file, replace_file};
    use super::*;

    fn storage() -> (tempfile::TempDir, RealStorage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(dir.path().join("a/home"));
        (dir, storage)
    }

    #[test]
    fn bytes_and_names_come_back() {
        let (_dir, storage) = storage();
        storage.create_dir("x/y").unwrap();
        storage.create_dir("x/y").unwrap();
        let file = storage.open("x/y/f", OpenMode::CreateNew).unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        file.sync_data().unwrap();
        storage.sync_dir("x/y").unwrap();
        let mut buf = [0; 32];
        assert_eq!(file.read_at(&mut buf, 3).unwrap(), 8);
        assert_eq!(&buf[..8], b"lo world");
        assert_eq!(file.read_at(&mut buf, 99).unwrap(), 0);
        file.set_len(5).unwrap();
        assert_eq!(read_file(&storage, "x/y/f", 5).unwrap(), b"hello");
        assert!(read_file(&storage, "x/y/f", 4).is_err());
        replace_file(&storage, "x/y/f", "t", b"new").unwrap();
        assert_eq!(storage.list("x/y").unwrap(), ["f"]);
        assert_eq!(storage.list("z").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(storage.open("x/y/f", OpenMode::CreateNew).is_err());
        assert!(storage.open("x/y/f", OpenMode::Read).unwrap().write_at(b"x", 0).is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn room_is_reserved_and_given_back() {
        let (_dir, storage) = storage();
        storage.create_dir("").unwrap();
        let file = storage.open("f", OpenMode::CreateNew).unwrap();
        file.write_at(&[7; 10_000], 0).unwrap();
        let on_disk = || {
            let metadata = std::fs::metadata(storage.at("f")).unwrap();
            (metadata.len(), metadata.blocks() * 512)
        };
        match file.reserve(1 << 20) {
            Ok(()) => assert!(on_disk().1 >= 1 << 20, "{:?}", on_disk()),
            Err(why) => eprintln!("this file system reserves nothing: {why}"),
        }
        assert_eq!(on_disk().0, 10_000);
        file.reserve(5_000).unwrap();
        file.give_back().unwrap();
        let (len, room) = on_disk();
        assert!(len == 10_000 && room < 512 << 10, "{room} bytes for {len}");
        assert_eq!(read_file(&storage, "f", 10_000).unwrap(), [7; 10_000]);
    }

    #[test]
    fn folders_and_files_are_private() {
        let (_dir, storage) = storage();
        storage.create_dir("x").unwrap();
        storage.open("x/f", OpenMode::CreateNew).unwrap();
        let mode = |path: &str| std::fs::metadata(storage.at(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("x"), mode("x/f")), (0o700, 0o700, 0o600));
    }

    #[test]
    fn an_exclusive_lock_is_alone() {
        let (_dir, storage) = storage();
        storage.create_dir("").unwrap();
        let lock = |mode| storage.try_lock("l", mode).unwrap();
        let one = lock(LockMode::Shared);
        let two = lock(LockMode::Shared);
        assert!(one.is_some() && two.is_some());
        assert!(lock(LockMode::Exclusive).is_none());
        drop((one, two));
        let alone = lock(LockMode::Exclusive);
        assert!(alone.is_some());
        assert!(lock(LockMode::Shared).is_none());
    }
}

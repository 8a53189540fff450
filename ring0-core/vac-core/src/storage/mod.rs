//! The disk, as ring 0 sees it: every byte that VAC keeps goes through [`Storage`].
//!
//! Two implementations: [`real`] is a folder of the host, [`sim`] is memory that tears, loses and
//! reorders unsynced writes, fills up, and fails to sync, all from one seed. A path is relative
//! to the home, its parts joined by `/`; every path here is VAC's own, never a guest's.
//!
//! What a caller may rely on after a crash: bytes written before a `sync_data` that returned,
//! and names created, renamed or removed before a `sync_dir` of their folder that returned.
//! Nothing else.

use std::io;
use std::path::PathBuf;

pub mod real;
pub mod sim;

pub use real::RealStorage;
pub use sim::SimStorage;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; writing to it is an error.
    Read,
    /// Must exist.
    Write,
    /// Must not exist.
    CreateNew,
}

/// Whether others may hold the same lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Held by any number of processes at once.
    Shared,
    /// Held by one process, while nobody holds it shared.
    Exclusive,
}

/// An advisory lock between processes, released when dropped.
pub trait Lock: Send + Sync {}

/// A folder that keeps files.
pub trait Storage: Send + Sync {
    /// Opens the file at `path`.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn StorageFile>>;

    /// The names in the folder at `path`, sorted. A missing folder is `NotFound`.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Creates the folder at `path` and those above it, durably. No error if it exists.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Gives the file at `from` the name `to`, replacing what was there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file at `path`.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in the folder at `path` durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Takes the lock named by the file at `path`, creating that file. `None` if others hold it.
    fn try_lock(&self, path: &str, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>>;

    /// `path` as a person would find it, for messages.
    fn show(&self, path: &str) -> String;
}

/// An open file. Offsets and lengths are bytes.
pub trait StorageFile: Send + Sync {
    /// Reads into `buf` from `offset`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, growing the file as needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable, with the length.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Asks for room on the disk up to `end`. The file's length stays as it is. Does nothing where there is no such thing.
    fn reserve(&self, _end: u64) -> io::Result<()> {
        Ok(())
    }

    /// Gives back the room beyond the file's length, also what a process that was killed had asked for.
    fn give_back(&self) -> io::Result<()> {
        Ok(())
    }

    /// The file's length.
    fn len(&self) -> io::Result<u64>;

    /// A path of the host that leads to this very file for as long as it is open, whatever its name is
    /// by then; `None` where there is no such path.
    fn host_path(&self) -> Option<PathBuf> {
        None
    }

    /// The open file itself, if the system has it: for whoever reads it in another way. Its bytes are the same.
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// The same file, open to be read around the system's cache: at offsets, lengths and addresses that are multiples of
    /// what its disk wants. `None` where there are no such reads.
    fn direct(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// All of the file at `path`, or an error if it is longer than `max` bytes.
pub fn read_file(storage: &dyn Storage, path: &str, max: u64) -> io::Result<Vec<u8>> {
    let file = storage.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes, expected at most {max}"),
        ));
    }
    let mut buf = vec![0; len as usize];
    let n = file.read_at(&mut buf, 0)?;
    buf.truncate(n);
    Ok(buf)
}

/// Puts `bytes` at `path` so that a crash leaves the old file or the new one, whole.
/// `path` must name a folder; `tag` makes the temporary name differ between writers.
pub fn replace_file(storage: &dyn Storage, path: &str, tag: &str, bytes: &[u8]) -> io::Result<()> {
    let temp = format!("{path}.{tag}.tmp");
    match storage.remove(&temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = storage.open(&temp, OpenMode::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    storage.rename(&temp, path)?;
    storage.sync_dir(path.rsplit_once('/').map_or("", |(dir, _)| dir))
}

//! The store's folder: where things are in it, and how to do things to them with errors that
//! name the path.
//!
//! ```text
//! store/lock                    held shared by every writer; alone by a collector while it removes large objects
//! store/collector               held alone by a collector
//! store/sweep                   a number, odd while a collector removes packed objects
//! store/claims/00000001.claims  what an open store holds on to; nothing once it is closed
//! store/packs/00000001.pack     small objects, one after the other; the truth
//! store/packs/00000001.idx      where they are; can be rebuilt
//! store/large/ab/<cid>          a large object; `ab` is the first byte of its digest
//! store/chunked/<cid>           which chunks a large object is made of, if it is kept in chunks
//! store/pins/<cid of the name>  a named root
//! store/index/list              which runs there are; can be lost
//! store/index/00000001.run      where packed objects are, of all packs, sorted; can be rebuilt
//! store/settings                how objects are written; can be lost
//! store/scrub                   where the last scrub stopped; can be lost
//! store/leases/<cid of the name> a root that ends at a moment
//! store/tmp/<number>            being written
//! ```

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, HostAbort, Result};
use crate::limits::{
    STORE_ALIGNED_MIN_BYTES, STORE_BLOCK_BYTES, STORE_BUFFER_BYTES, STORE_CDC_AVERAGE_BYTES,
    STORE_CDC_MAX_BYTES, STORE_CDC_MIN_BYTES, STORE_GROUP_BYTES, STORE_INDEX_TABLE_ENTRIES,
    STORE_LARGE_MIN_BYTES, STORE_PACK_MAX_BYTES, STORE_PENDING_ENTRIES, STORE_REWRITE_MAX_BYTES,
};
use crate::storage::{Lock, LockMode, OpenMode, Storage, StorageFile};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

use super::body::Body;

/// Sizes that tests make small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    pub(super) large_min: usize,
    pub(super) pack_max: u64,
    pub(super) buffer: usize,
    pub(super) table_max: usize,
    pub(super) pending_max: usize,
    /// A pack with garbage that is shorter than this is always rewritten, a longer one if half of it is garbage.
    pub(super) rewrite_max: u64,
    /// The shortest, the average and the longest chunk.
    pub(super) chunk: [usize; 3],
    pub(super) group_len: usize,
    /// Bodies of at least so many bytes are aligned, if they are a multiple of the second.
    pub(super) aligned: (usize, usize),
}

impl Tuning {
    /// How a new record of an object of `len` bytes lies.
    pub(super) fn body(&self, len: usize) -> Body {
        let (min, multiple) = self.aligned;
        Body::new(len, len >= min && len.is_multiple_of(multiple))
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            large_min: STORE_LARGE_MIN_BYTES,
            pack_max: STORE_PACK_MAX_BYTES,
            buffer: STORE_BUFFER_BYTES,
            table_max: STORE_INDEX_TABLE_ENTRIES,
            pending_max: STORE_PENDING_ENTRIES,
            rewrite_max: STORE_REWRITE_MAX_BYTES,
            chunk: [STORE_CDC_MIN_BYTES, STORE_CDC_AVERAGE_BYTES, STORE_CDC_MAX_BYTES],
            group_len: STORE_GROUP_BYTES,
            aligned: (STORE_ALIGNED_MIN_BYTES, STORE_BLOCK_BYTES),
        }
    }
}

/// The store's folder.
pub(super) struct Home {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: String,
    pub(super) tuning: Tuning,
    /// Folders whose own names this process made durable.
    made_dirs: Mutex<BTreeSet<String>>,
    next_temp: AtomicU64,
}

/// A file that is being written under a name that nobody looks for.
pub(super) struct Temp {
    pub(super) path: String,
    pub(super) file: Box<dyn StorageFile>,
}

impl Home {
    pub(super) fn new(storage: Arc<dyn Storage>, dir: &str, tuning: Tuning) -> Self {
        let made_dirs = Mutex::default();
        Self { storage, dir: dir.to_owned(), tuning, made_dirs, next_temp: AtomicU64::new(0) }
    }

    pub(super) fn packs(&self) -> String {
        format!("{}/packs", self.dir)
    }

    pub(super) fn pack(&self, number: u32) -> String {
        format!("{}/packs/{number:08}.pack", self.dir)
    }

    pub(super) fn idx(&self, number: u32) -> String {
        format!("{}/packs/{number:08}.idx", self.dir)
    }

    pub(super) fn sweep(&self) -> String {
        format!("{}/sweep", self.dir)
    }

    pub(super) fn settings(&self) -> String {
        format!("{}/settings", self.dir)
    }

    pub(super) fn scrub(&self) -> String {
        format!("{}/scrub", self.dir)
    }

    pub(super) fn claims_dir(&self) -> String {
        format!("{}/claims", self.dir)
    }

    pub(super) fn claims(&self, number: u32) -> String {
        format!("{}/claims/{number:08}.claims", self.dir)
    }

    pub(super) fn claims_numbers(&self) -> Result<Vec<u32>> {
        self.numbers(&self.claims_dir(), ".claims")
    }

    /// Takes `store/collector`, unless somebody excludes it.
    pub(super) fn try_collector(&self, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        let path = format!("{}/collector", self.dir);
        self.named("lock", &path, self.storage.try_lock(&path, mode))
    }

    pub(super) fn leases(&self) -> String {
        format!("{}/leases", self.dir)
    }

    pub(super) fn index(&self) -> String {
        format!("{}/index", self.dir)
    }

    pub(super) fn index_lock(&self) -> String {
        format!("{}/index/lock", self.dir)
    }

    pub(super) fn index_list(&self) -> String {
        format!("{}/index/list", self.dir)
    }

    pub(super) fn run(&self, number: u32) -> String {
        format!("{}/index/{number:08}.run", self.dir)
    }

    pub(super) fn large_dir(&self) -> String {
        format!("{}/large", self.dir)
    }

    /// The folder that the large object `cid` is in.
    pub(super) fn large_part(&self, cid: &Cid) -> String {
        let [first, ..] = cid.digest();
        format!("{}/large/{first:02x}", self.dir)
    }

    pub(super) fn large(&self, cid: &Cid) -> String {
        format!("{}/{cid}", self.large_part(cid))
    }

    /// The folder of the lists of chunks.
    pub(super) fn chunked_dir(&self) -> String {
        format!("{}/chunked", self.dir)
    }

    /// The list of the chunks of `cid`.
    pub(super) fn chunked(&self, cid: &Cid) -> String {
        format!("{}/chunked/{cid}", self.dir)
    }

    pub(super) fn pins(&self) -> String {
        format!("{}/pins", self.dir)
    }

    pub(super) fn temps(&self) -> String {
        format!("{}/tmp", self.dir)
    }

    pub(super) fn show(&self, path: &str) -> String {
        self.storage.show(path)
    }

    /// Turns a failure to `what` the file at `path` into an error that says so.
    pub(super) fn named<T>(&self, what: &str, path: &str, result: io::Result<T>) -> Result<T> {
        result.map_err(|err| HostAbort::io(what, self.show(path), &err).into())
    }

    /// Opens a file, or `None` if there is none.
    pub(super) fn try_open(&self, path: &str, mode: OpenMode) -> Result<Option<Box<dyn StorageFile>>> {
        match self.storage.open(path, mode) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => self.named("open", path, opened).map(Some),
        }
    }

    /// The names in a folder; none if there is no folder.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>> {
        match self.storage.list(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => self.named("list", path, names),
        }
    }

    /// The numbers of the files in `packs/` that end in `suffix`, sorted.
    pub(super) fn pack_numbers(&self, suffix: &str) -> Result<Vec<u32>> {
        self.numbers(&self.packs(), suffix)
    }

    /// The numbers of the files of runs, sorted.
    pub(super) fn run_numbers(&self) -> Result<Vec<u32>> {
        self.numbers(&self.index(), ".run")
    }

    fn numbers(&self, dir: &str, suffix: &str) -> Result<Vec<u32>> {
        let number = |name: &String| {
            let digits = name.strip_suffix(suffix)?;
            let plain = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        Ok(self.list(dir)?.iter().filter_map(number).collect())
    }

    /// Makes sure the folder at `path` exists and outlives a power cut.
    pub(super) fn make_dir(&self, path: &str) -> Result<()> {
        if self.made_dirs().contains(path) {
            return Ok(());
        }
        self.named("create the folder", path, self.storage.create_dir(path))?;
        self.made_dirs().insert(path.to_owned());
        Ok(())
    }

    pub(super) fn sync_dir(&self, path: &str) -> Result<()> {
        self.named("sync the folder", path, self.storage.sync_dir(path))
    }

    /// Removes a file; no error if there is none.
    pub(super) fn remove(&self, path: &str) -> Result<()> {
        match self.storage.remove(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => self.named("remove", path, removed),
        }
    }

    /// Takes `store/lock`, or fails with `Busy`.
    pub(super) fn lock(&self, mode: LockMode) -> Result<Box<dyn Lock>> {
        let path = format!("{}/lock", self.dir);
        let taken = match self.storage.try_lock(&path, mode) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                self.make_dir(&self.dir)?;
                self.storage.try_lock(&path, mode)
            }
            taken => taken,
        };
        let busy = || {
            let message = format!("another process is using the store in `{}`", self.show(&self.dir));
            HostAbort::new(AbortKind::Busy, message).hint("try again when it ends").into()
        };
        self.named("lock", &path, taken)?.ok_or_else(busy)
    }

    /// A new temporary file. Its name was never used before, by this process or another.
    pub(super) fn temp(&self) -> Result<Temp> {
        self.make_dir(&self.temps())?;
        loop {
            let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
            let path = format!("{}/{number}", self.temps());
            match self.storage.open(&path, OpenMode::CreateNew) {
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return Ok(Temp { file: self.named("create", &path, opened)?, path }),
            }
        }
    }

    /// Gives a temporary file that was synced its name in the folder `dir`, durably.
    pub(super) fn publish(&self, temp: &Temp, dir: &str, path: &str) -> Result<()> {
        self.named("rename to", path, self.storage.rename(&temp.path, path))?;
        self.sync_dir(dir)
    }

    fn made_dirs(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.made_dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A disk that lets somebody else go first at one chosen call: what another process may do at that moment.

use std::io;
use std::sync::{Arc, Mutex};

use crate::storage::{Lock, LockMode, OpenMode, SimStorage, Storage, StorageFile};

type Other = Box<dyn FnOnce() + Send>;

/// The disk, and how many calls until `other` runs.
#[derive(Clone)]
pub(super) struct Stepped {
    sim: SimStorage,
    other: Arc<Mutex<(u64, Option<Other>)>>,
}

impl Stepped {
    pub(super) fn new(sim: &SimStorage) -> Self {
        Self { sim: sim.clone(), other: Arc::new(Mutex::new((0, None))) }
    }

    /// Runs `other` before the `n`-th call from now; 0 is the next one.
    pub(super) fn before(&self, n: u64, other: impl FnOnce() + Send + 'static) {
        *self.other.lock().unwrap() = (n, Some(Box::new(other)));
    }

    /// Whether it ran.
    pub(super) fn is_done(&self) -> bool {
        self.other.lock().unwrap().1.is_none()
    }

    fn step(&self) {
        let mut other = self.other.lock().unwrap();
        let now = other.0 == 0;
        other.0 = other.0.saturating_sub(1);
        let run = if now { other.1.take() } else { None };
        drop(other);
        if let Some(run) = run {
            run();
        }
    }
}

impl Storage for Stepped {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        self.step();
        Ok(Box::new(SteppedFile { disk: self.clone(), file: self.sim.open(path, mode)? }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.step();
        self.sim.list(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.step();
        self.sim.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step();
        self.sim.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.step();
        self.sim.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.step();
        self.sim.sync_dir(path)
    }

    fn try_lock(&self, path: &str, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        self.step();
        self.sim.try_lock(path, mode)
    }

    fn show(&self, path: &str) -> String {
        self.sim.show(path)
    }
}

struct SteppedFile {
    disk: Stepped,
    file: Box<dyn StorageFile>,
}

impl StorageFile for SteppedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.step();
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.step();
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.step();
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.step();
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.step();
        self.file.len()
    }
}

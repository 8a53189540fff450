//! A simulated disk of which each call is a place where another thread may go on.

use std::io;
use std::sync::Arc;

use shuttle::sync::{Mutex, MutexGuard, PoisonError};
use vac_shuttle::storage::{Lock, LockMode, OpenMode, SimStorage, Storage, StorageFile};

/// The disk. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Disk {
    sim: SimStorage,
    turn: Arc<Mutex<()>>,
}

struct File {
    file: Box<dyn StorageFile>,
    turn: Arc<Mutex<()>>,
}

impl Disk {
    pub(crate) fn new(sim: &SimStorage) -> Self {
        Self { sim: sim.clone(), turn: Arc::default() }
    }
}

fn turn(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Storage for Disk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let _turn = turn(&self.turn);
        Ok(Box::new(File { file: self.sim.open(path, mode)?, turn: Arc::clone(&self.turn) }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let _turn = turn(&self.turn);
        self.sim.list(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.sim.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.sim.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.sim.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.sim.sync_dir(path)
    }

    fn try_lock(&self, path: &str, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        let _turn = turn(&self.turn);
        self.sim.try_lock(path, mode)
    }

    fn show(&self, path: &str) -> String {
        self.sim.show(path)
    }
}

impl StorageFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let _turn = turn(&self.turn);
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _turn = turn(&self.turn);
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        let _turn = turn(&self.turn);
        self.file.len()
    }
}

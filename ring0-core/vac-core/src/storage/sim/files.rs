//! The simulated disk as a [`Storage`]: each call counts as one operation and may be made to fail.

use std::io;

use super::super::{Lock, LockMode, OpenMode, Storage, StorageFile};
use super::{Change, NameChange, SimStorage, Sync, eio, parent};

impl Storage for SimStorage {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let mut disk = self.disk();
        let node = match mode {
            OpenMode::Read => {
                disk.op()?;
                disk.find(path)?
            }
            OpenMode::Write => {
                disk.op_changing()?;
                disk.find(path)?
            }
            OpenMode::CreateNew => {
                disk.op_changing()?;
                if disk.names.contains_key(path) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                disk.create(path)?
            }
        };
        let life = disk.life;
        Ok(Box::new(SimFile { disk: self.clone(), node, life, writable: mode != OpenMode::Read }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.op()?;
        if !disk.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = disk.names.keys().chain(&disk.dirs);
        let here = all.filter(|name| !name.is_empty() && parent(name) == path);
        let mut names: Vec<String> =
            here.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        // Those above come first, for one of them may fail.
        for dir in ends.filter_map(|end| path.get(..end)) {
            if !disk.dirs.contains(dir) {
                disk.op_changing()?;
                disk.dirs.insert(dir.to_owned());
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.op_changing()?;
        let node = disk.find(from)?;
        if !disk.dirs.contains(parent(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange { node, from: Some(from.to_owned()), to: Some(to.to_owned()) };
        change.apply(&mut disk.names);
        disk.unsynced_names.push(change);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.op_changing()?;
        let node = disk.find(path)?;
        let change = NameChange { node, from: Some(path.to_owned()), to: None };
        change.apply(&mut disk.names);
        disk.unsynced_names.push(change);
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.op_sync()? {
            Sync::Failed => return Err(eio()),
            // The disk may have them later.
            Sync::Lied if disk.random.coin() => {}
            Sync::Lied => drop(disk.take_names(path)),
            Sync::Done => {
                let names = disk.take_names(path);
                names.iter().for_each(|change| change.apply(&mut disk.durable_names));
            }
        }
        Ok(())
    }

    fn try_lock(&self, path: &str, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        let mut disk = self.disk();
        disk.op()?;
        if !disk.names.contains_key(path) {
            if disk.faults.read_only {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            disk.create(path)?;
        }
        let held = disk.locks.entry(path.to_owned()).or_default();
        let free = match mode {
            LockMode::Shared => !held.exclusive,
            LockMode::Exclusive => !held.exclusive && held.shared == 0,
        };
        if !free {
            return Ok(None);
        }
        match mode {
            LockMode::Shared => held.shared += 1,
            LockMode::Exclusive => held.exclusive = true,
        }
        let life = disk.life;
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), mode, life })))
    }

    fn show(&self, path: &str) -> String {
        format!("sim:/{path}")
    }
}

struct SimLock {
    disk: SimStorage,
    path: String,
    mode: LockMode,
    life: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.disk.disk();
        if disk.life != self.life {
            return;
        }
        let Some(held) = disk.locks.get_mut(&self.path) else { return };
        match self.mode {
            LockMode::Shared => held.shared = held.shared.saturating_sub(1),
            LockMode::Exclusive => held.exclusive = false,
        }
    }
}

struct SimFile {
    disk: SimStorage,
    node: u64,
    life: u64,
    writable: bool,
}

impl SimFile {
    fn change(&self, change: Change, grows_to: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.op_changing()?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let free = disk.faults.capacity.map(|capacity| capacity.saturating_sub(disk.used()));
        let node = disk.node(self.node, self.life)?;
        let growth = grows_to.saturating_sub(node.seen.len() as u64);
        let fits = free.is_none_or(|free| growth <= free);
        let change = if fits { change } else { change.cut(growth - free.unwrap_or(0)) };
        change.apply(&mut node.seen);
        match &change {
            Change::Write { offset, bytes } if disk.is_misdirected() => {
                disk.misdirect(self.node, *offset..offset + bytes.len() as u64);
            }
            _ => disk.node(self.node, self.life)?.unsynced.push(change),
        }
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.disk();
        disk.op()?;
        let node = disk.node(self.node, self.life)?;
        let rest = node.seen.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        let end = offset.saturating_add(len as u64);
        if node.unreadable.as_ref().is_some_and(|bad| bad.start < end && offset < bad.end) {
            return Err(eio());
        }
        if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { offset, bytes: buf.to_vec() }, offset + buf.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let sync = disk.op_sync()?;
        let forgets = disk.random.coin();
        let node = disk.node(self.node, self.life)?;
        if sync == Sync::Lied && !forgets {
            // The disk may have them later.
            return Ok(());
        }
        let unsynced = std::mem::take(&mut node.unsynced);
        match sync {
            Sync::Done => unsynced.iter().for_each(|change| change.apply(&mut node.durable)),
            Sync::Lied => {}
            Sync::Failed => {
                if forgets {
                    node.seen.clone_from(&node.durable);
                }
                return Err(eio());
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len), len)
    }

    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk.disk();
        disk.op()?;
        Ok(disk.node(self.node, self.life)?.seen.len() as u64)
    }
}

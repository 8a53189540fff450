//! Pins: named roots that a collection keeps; and leases, which it keeps until a moment that they name.
//!
//! One small file each, so processes can pin at once. A pin keeps the object it names and nothing
//! that the object links to: the store does not look inside objects. Whoever collects adds those.

use std::collections::BTreeMap;

use crate::cid::{CID_LEN, Cid};
use crate::fault::{Corrupt, Result, Usage, quote};
use crate::limits::STORE_PIN_NAME_MAX_BYTES;
use crate::storage::read_file;

use super::Store;
use super::format::{FILE_HEAD_LEN, Lease, decode_lease, decode_pin, encode_lease, encode_pin};

/// The longest pin or lease.
const ROOT_MAX_BYTES: usize = FILE_HEAD_LEN + 8 + CID_LEN + STORE_PIN_NAME_MAX_BYTES;

impl Store {
    /// Keeps `cid` under `name`, durably, instead of what had that name. All that was put before is
    /// committed first, so a pin never outlives its object in a power cut.
    pub fn pin(&self, name: &str, cid: &Cid) -> Result<()> {
        self.publish_root(&self.home.pins(), name, &encode_pin(name, cid))
    }

    /// Ends the pin `name`, durably. `false` if there was none.
    pub fn unpin(&self, name: &str) -> Result<bool> {
        self.remove_root(&self.home.pins(), name)
    }

    /// [`Self::pin`] until a collection that is told that it is `lease.ends` or later. One of the same name is replaced:
    /// so whoever puts an object again and leases it again renews it, also while a collection runs that ends it.
    pub fn lease(&self, name: &str, lease: &Lease) -> Result<()> {
        self.publish_root(&self.home.leases(), name, &encode_lease(name, lease))
    }

    /// Ends the lease `name`, durably. `false` if there was none.
    pub fn end_lease(&self, name: &str) -> Result<bool> {
        self.remove_root(&self.home.leases(), name)
    }

    /// Removes all leases that end at `now` or before. Only for a collection that is alone: nobody renews one meanwhile.
    pub(super) fn remove_ended(&self, now: u64) -> Result<()> {
        let dir = self.home.leases();
        let mut has_removed = false;
        for (name, _) in self.leases()?.into_iter().filter(|(_, lease)| lease.ends <= now) {
            self.home.remove(&root_path(&dir, &name)?)?;
            has_removed = true;
        }
        if has_removed { self.home.sync_dir(&dir) } else { Ok(()) }
    }

    fn publish_root(&self, dir: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let path = root_path(dir, name)?;
        let _open = self.gate();
        self.commit_batch()?;
        self.state().check_writable(&self.home)?;
        self.home.make_dir(dir)?;
        let temp = self.home.temp()?;
        self.home.named("write", &temp.path, temp.file.write_at(bytes, 0))?;
        let synced = self.home.named("sync", &temp.path, temp.file.sync_data());
        let kept = synced.and_then(|()| self.home.publish(&temp, dir, &path));
        if let Err(why) = &kept {
            self.state().poison(why);
        }
        kept
    }

    fn remove_root(&self, dir: &str, name: &str) -> Result<bool> {
        let path = root_path(dir, name)?;
        let _open = self.gate();
        self.state().check_writable(&self.home)?;
        let was = self.home.try_open(&path, crate::storage::OpenMode::Read)?.is_some();
        if was {
            self.home.remove(&path)?;
            self.home.sync_dir(dir)?;
        }
        Ok(was)
    }

    /// Every pin. One that cannot be read is an error, because a collection would remove what it
    /// keeps.
    pub fn pins(&self) -> Result<BTreeMap<String, Cid>> {
        let mut pins = BTreeMap::new();
        for file in self.home.list(&self.home.pins())? {
            let path = format!("{}/{file}", self.home.pins());
            if let Some((name, cid)) = self.read_pin(&path, &file)? {
                pins.insert(name, cid);
            }
        }
        Ok(pins)
    }

    /// Every lease, also those that ended and were not collected yet. One that cannot be read is an error.
    pub fn leases(&self) -> Result<BTreeMap<String, Lease>> {
        let mut leases = BTreeMap::new();
        for file in self.home.list(&self.home.leases())? {
            let path = format!("{}/{file}", self.home.leases());
            if let Some((name, lease)) = self.read_lease(&path, &file)? {
                leases.insert(name, lease);
            }
        }
        Ok(leases)
    }

    /// The pin in one file, or `None` if it was removed meanwhile.
    pub(super) fn read_pin(&self, path: &str, file: &str) -> Result<Option<(String, Cid)>> {
        self.read_root("pin", path, file, decode_pin)
    }

    pub(super) fn read_lease(&self, path: &str, file: &str) -> Result<Option<(String, Lease)>> {
        self.read_root("lease", path, file, decode_lease)
    }

    fn read_root<T>(
        &self,
        what: &'static str,
        path: &str,
        file: &str,
        decode: impl Fn(&[u8]) -> Option<(String, T)>,
    ) -> Result<Option<(String, T)>> {
        let bytes = match read_file(&*self.home.storage, path, ROOT_MAX_BYTES as u64) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => self.home.named("read", path, read)?,
        };
        let place = || format!("`{}`", self.home.show(path));
        let Some((name, root)) = decode(&bytes) else {
            return Err(Corrupt::new(what, place(), "one with its checksum", "other bytes").into());
        };
        let expected = pin_file(&name);
        if expected != file {
            return Err(Corrupt::new(what, place(), expected, file).into());
        }
        Ok(Some((name, root)))
    }
}

fn root_path(dir: &str, name: &str) -> Result<String> {
    if name.is_empty() || name.len() > STORE_PIN_NAME_MAX_BYTES {
        let message = format!("the pin name `{}` is empty or too long", quote(name));
        let hint = format!("use 1 to {STORE_PIN_NAME_MAX_BYTES} bytes");
        return Err(Usage::new(message).hint(hint).into());
    }
    Ok(format!("{dir}/{}", pin_file(name)))
}

/// A name may hold any character, a file name may not: so the file is named by a hash.
fn pin_file(name: &str) -> String {
    Cid::of_raw(name.as_bytes()).to_string()
}

//! Pins: named roots that a collection keeps.
//!
//! One small file each, so processes can pin at once. A pin keeps the object it names and nothing
//! that the object links to: the store does not look inside objects. Whoever collects adds those.

use std::collections::BTreeMap;

use crate::cid::{CID_LEN, Cid};
use crate::fault::{Corrupt, Result, Usage, quote};
use crate::limits::STORE_PIN_NAME_MAX_BYTES;
use crate::storage::read_file;

use super::Store;
use super::format::{FILE_HEAD_LEN, decode_pin, encode_pin};

const PIN_MAX_BYTES: usize = FILE_HEAD_LEN + CID_LEN + STORE_PIN_NAME_MAX_BYTES;

impl Store {
    /// Keeps `cid` under `name`, durably, instead of what had that name. All that was put before is
    /// committed first, so a pin never outlives its object in a power cut.
    pub fn pin(&self, name: &str, cid: &Cid) -> Result<()> {
        let path = self.pin_path(name)?;
        let _open = self.gate();
        self.commit_batch()?;
        self.state().check_writable(&self.home)?;
        self.home.make_dir(&self.home.pins())?;
        let temp = self.home.temp()?;
        let bytes = encode_pin(name, cid);
        self.home.named("write", &temp.path, temp.file.write_at(&bytes, 0))?;
        let synced = self.home.named("sync", &temp.path, temp.file.sync_data());
        let kept = synced.and_then(|()| self.home.publish(&temp, &self.home.pins(), &path));
        if let Err(why) = &kept {
            self.state().poison(why);
        }
        kept
    }

    /// Ends the pin `name`, durably. `false` if there was none.
    pub fn unpin(&self, name: &str) -> Result<bool> {
        let path = self.pin_path(name)?;
        let _open = self.gate();
        self.state().check_writable(&self.home)?;
        let was = self.home.try_open(&path, crate::storage::OpenMode::Read)?.is_some();
        if was {
            self.home.remove(&path)?;
            self.home.sync_dir(&self.home.pins())?;
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

    /// The pin in one file, or `None` if it was removed meanwhile.
    pub(super) fn read_pin(&self, path: &str, file: &str) -> Result<Option<(String, Cid)>> {
        let bytes = match read_file(&*self.home.storage, path, PIN_MAX_BYTES as u64) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => self.home.named("read", path, read)?,
        };
        let place = || format!("`{}`", self.home.show(path));
        let Some((name, cid)) = decode_pin(&bytes) else {
            return Err(Corrupt::new("pin", place(), "a pin with its checksum", "other bytes").into());
        };
        let expected = pin_file(&name);
        if expected != file {
            return Err(Corrupt::new("pin", place(), expected, file).into());
        }
        Ok(Some((name, cid)))
    }

    fn pin_path(&self, name: &str) -> Result<String> {
        if name.is_empty() || name.len() > STORE_PIN_NAME_MAX_BYTES {
            let message = format!("the pin name `{}` is empty or too long", quote(name));
            let hint = format!("use 1 to {STORE_PIN_NAME_MAX_BYTES} bytes");
            return Err(Usage::new(message).hint(hint).into());
        }
        Ok(format!("{}/{}", self.home.pins(), pin_file(name)))
    }
}

/// A name may hold any character, a file name may not: so the file is named by a hash.
fn pin_file(name: &str) -> String {
    Cid::of_raw(name.as_bytes()).to_string()
}

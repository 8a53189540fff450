//! What a store is told once and remembers.
//!
//! ```text
//! 'VACSETT' | ver 1 | compression u32: 0 none, 1 zstd | level i32 | crc32
//! ```
//!
//! Nothing that is in a store depends on it: it says how objects are written from now on. So a file that is lost or
//! damaged stands for [`Settings::default`], and costs nothing but what it said; a check names it.

use crate::fault::{Corrupt, Result, Usage};
use crate::limits::STORE_COMPRESS_LEVEL_MAX;
use crate::storage::read_file;

use super::Store;
use super::format::{checksum, take, unseal};
use super::home::Home;

const MAGIC: [u8; 7] = *b"VACSETT";
const VERSION: u8 = 1;
const LEN: usize = 20;

/// How objects are written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// The level of zstd, if objects are compressed.
    pub(super) compression: Option<i32>,
}

impl Settings {
    fn encode(self) -> Vec<u8> {
        let is_on = u32::from(self.compression.is_some());
        let level = self.compression.unwrap_or(0);
        let mut bytes = [&MAGIC[..], &[VERSION], &is_on.to_le_bytes(), &level.to_le_bytes()].concat();
        let sum = checksum(&bytes, 0, 0);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, 0, 0)?;
        if take::<7>(&mut rest)? != MAGIC || take::<1>(&mut rest)? != [VERSION] {
            return None;
        }
        let is_on = u32::from_le_bytes(take(&mut rest)?);
        let level = i32::from_le_bytes(take(&mut rest)?);
        let compression = match is_on {
            0 if level == 0 => None,
            1 if is_level(level) => Some(level),
            _ => return None,
        };
        rest.is_empty().then_some(Self { compression })
    }

    /// What is on disk, as far as that can be believed.
    pub(super) fn read(home: &Home) -> Self {
        let bytes = read_file(&*home.storage, &home.settings(), LEN as u64);
        bytes.ok().and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }
}

/// Higher ones take memory by the hundred megabytes, and small objects get no shorter.
fn is_level(level: i32) -> bool {
    (1..=STORE_COMPRESS_LEVEL_MAX).contains(&level)
}

impl Store {
    /// How objects are compressed that are put from now on: with zstd of this level, 1 to 19, or not at all. Durable when
    /// this returns. Objects that are here stay as they are, and other stores that are open notice when they are opened again.
    ///
    /// With compression a large object is kept in chunks, as by [`Store::put_chunked`].
    pub fn set_compression(&self, level: Option<i32>) -> Result<()> {
        if let Some(level) = level.filter(|level| !is_level(*level)) {
            let message =
                format!("no level of compression: expected 1 to {STORE_COMPRESS_LEVEL_MAX}, got {level}");
            return Err(Usage::new(message).into());
        }
        let settings = Settings { compression: level };
        let _open = self.gate();
        self.state().check_writable(&self.home)?;
        let temp = self.home.temp()?;
        let written = self.home.named("write", &temp.path, temp.file.write_at(&settings.encode(), 0));
        let kept = written.and_then(|()| self.publish_large(&temp, &self.home.dir, &self.home.settings()));
        match &kept {
            Ok(()) => self.state().settings = Some(settings),
            Err(_) => self.discard(&temp),
        }
        kept
    }

    /// The level of zstd with which objects are compressed that are put, or `None` if they are not. A setting that is
    /// damaged counts as none.
    pub fn compression(&self) -> Option<i32> {
        self.state().settings(&self.home).compression
    }

    /// What is wrong with the settings, if there are any.
    pub(super) fn check_settings(&self) -> Option<Corrupt> {
        let path = self.home.settings();
        let got = match read_file(&*self.home.storage, &path, LEN as u64) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return None,
            Err(err) => err.to_string(),
            Ok(bytes) if Settings::decode(&bytes).is_some() => return None,
            Ok(_) => "other bytes".to_owned(),
        };
        let place = format!("`{}`", self.home.show(&path));
        Some(Corrupt::new("settings of the store", place, "settings of version 1 with their checksum", got))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip_and_flips_are_seen() {
        for settings in
            [Settings::default(), Settings { compression: Some(1) }, Settings { compression: Some(19) }]
        {
            let bytes = settings.encode();
            assert_eq!((bytes.len(), Settings::decode(&bytes)), (LEN, Some(settings)));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Settings::decode(&flipped), None, "bit {bit}");
            }
        }
        for level in [0, -1, 20] {
            assert_eq!(Settings::decode(&Settings { compression: Some(level) }.encode()), None);
        }
    }
}

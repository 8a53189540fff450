//! What open stores hold on to, so that a collection can run beside them.
//!
//! Whoever puts an object gets to name it somewhere only later. Until its store is closed, two things
//! are kept for it: the packs it wrote to, and objects that it did not write because they were here. Both are
//! noted in a file of *claims*, one for each open store, whose lock tells that it is open.
//!
//! `sweep` is a number that a collection makes odd before it reads the claims, and even again when it is
//! done. A store notes its claim first and reads `sweep` after that, so one of the two sees the other:
//!
//! ```text
//! store:      note the claim    read `sweep`: odd? then write the object again
//! collection:                make `sweep` odd    read all claims
//! ```
//!
//! Invariants: a claim is in the file before the put that relies on it returns; claims of a store that was
//! closed count for a collection that had begun by then. Nothing here outlives a power cut, and nothing needs
//! to: no store is open after one.

use std::collections::BTreeSet;
use std::io;

use crate::cid::{CID_LEN, Cid};
use crate::fault::{Corrupt, Result};
use crate::storage::{Lock, LockMode, OpenMode, StorageFile};

use super::format::{checksum, unseal};
use super::home::Home;

const RECORD_LEN: usize = CID_LEN + 4;
/// The first byte of a claim to a pack. That of a CID is 1.
const PACK: u8 = 2;
const RECORDS_AT_ONCE: usize = 1024;
/// Objects that are remembered as noted already.
const RECENT_MAX: usize = 1024;

/// The claims of one open store.
pub(super) struct Claims {
    number: u32,
    file: Box<dyn StorageFile>,
    len: u64,
    sweep: Box<dyn StorageFile>,
    recent: BTreeSet<Cid>,
    _lock: Box<dyn Lock>,
}

impl Claims {
    /// Takes the first file of claims that nobody has. What it says is of a store that was closed, and is
    /// forgotten unless a collection is running, for which it still counts.
    pub(super) fn acquire(home: &Home) -> Result<Self> {
        home.make_dir(&home.claims_dir())?;
        let mut number = 0;
        let lock = loop {
            let path = home.claims(number);
            let lock = home.storage.try_lock(&path, LockMode::Exclusive);
            match home.named("lock", &path, lock)? {
                Some(lock) => break lock,
                None => number += 1,
            }
        };
        let path = home.claims(number);
        let file = home.named("open", &path, home.storage.open(&path, OpenMode::Write))?;
        let len = home.named("read", &path, file.len())?;
        let len = len - len % RECORD_LEN as u64;
        let sweep = open_sweep(home)?;
        let mut claims = Self { number, file, len, sweep, recent: BTreeSet::new(), _lock: lock };
        if let Some(_idle) = home.try_collector(LockMode::Shared)? {
            claims.reset(home)?;
        }
        Ok(claims)
    }

    /// Forgets all claims.
    pub(super) fn reset(&mut self, home: &Home) -> Result<()> {
        home.named("write", &home.claims(self.number), self.file.set_len(0))?;
        self.len = 0;
        self.recent.clear();
        Ok(())
    }

    /// Claims an object.
    pub(super) fn object(&mut self, home: &Home, cid: &Cid) -> Result<()> {
        if self.recent.contains(cid) {
            return Ok(());
        }
        self.note(home, cid.to_bytes())?;
        if self.recent.len() >= RECENT_MAX {
            self.recent.clear();
        }
        self.recent.insert(*cid);
        Ok(())
    }

    /// Claims all that is in a pack.
    pub(super) fn pack(&mut self, home: &Home, pack: u32) -> Result<()> {
        let mut bytes = [0; CID_LEN];
        if let Some((kind, rest)) = bytes.split_first_mut() {
            *kind = PACK;
            rest.iter_mut().zip(pack.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        self.note(home, bytes)
    }

    fn note(&mut self, home: &Home, body: [u8; CID_LEN]) -> Result<()> {
        let place = (self.len / RECORD_LEN as u64) as u32;
        let record = [&body[..], &checksum(&body, self.number, place).to_le_bytes()].concat();
        home.named("write", &home.claims(self.number), self.file.write_at(&record, self.len))?;
        self.len += RECORD_LEN as u64;
        Ok(())
    }

    /// The number of the last sweep; odd while it runs.
    pub(super) fn sweep(&self, home: &Home) -> Result<u64> {
        home.named("read", &home.sweep(), read_sweep(&*self.sweep))
    }
}

/// All that is claimed.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    pub(super) objects: BTreeSet<Cid>,
    pub(super) packs: BTreeSet<u32>,
}

/// Reads the claims of all stores, also of those that were closed.
pub(super) fn read_all(home: &Home) -> Result<Claimed> {
    let mut claimed = Claimed::default();
    for number in home.claims_numbers()? {
        read_one(home, number, &mut claimed)?;
    }
    Ok(claimed)
}

fn read_one(home: &Home, number: u32, claimed: &mut Claimed) -> Result<()> {
    let path = home.claims(number);
    let Some(file) = home.try_open(&path, OpenMode::Read)? else { return Ok(()) };
    let mut chunk = vec![0; RECORDS_AT_ONCE * RECORD_LEN];
    let mut at = 0;
    let mut bad = None;
    loop {
        let read = home.named("read", &path, file.read_at(&mut chunk, at * RECORD_LEN as u64))?;
        let part = chunk.get(..read).unwrap_or_default();
        for record in part.chunks_exact(RECORD_LEN) {
            if let Some(place) = bad {
                let place = format!("`{}` at byte {}", home.show(&path), place * RECORD_LEN as u64);
                return Err(Corrupt::new("claim", place, "a claim with its checksum", "other bytes").into());
            }
            // The last one may be just being written; then its store finds `sweep` odd.
            if !learn(number, at as u32, record, claimed) {
                bad = Some(at);
            }
            at += 1;
        }
        if read < chunk.len() {
            return Ok(());
        }
    }
}

/// `false` if the record is none.
fn learn(number: u32, place: u32, record: &[u8], claimed: &mut Claimed) -> bool {
    let Some(body) = unseal(record, number, place) else { return false };
    if let [PACK, a, b, c, d, ..] = body {
        claimed.packs.insert(u32::from_le_bytes([*a, *b, *c, *d]));
        return true;
    }
    let cid = Cid::try_from_bytes(body);
    claimed.objects.extend(cid);
    cid.is_some()
}

/// Forgets the claims of all stores that are closed.
pub(super) fn forget_closed(home: &Home) -> Result<()> {
    for number in home.claims_numbers()? {
        let path = home.claims(number);
        let lock = home.storage.try_lock(&path, LockMode::Exclusive);
        let Some(_closed) = home.named("lock", &path, lock)? else { continue };
        if let Some(file) = home.try_open(&path, OpenMode::Write)? {
            home.named("write", &path, file.set_len(0))?;
        }
    }
    Ok(())
}

/// A sweep that runs. It ends when this is dropped.
pub(super) struct Sweep {
    file: Box<dyn StorageFile>,
    number: u64,
}

impl Sweep {
    /// Called by the holder of `store/collector`.
    pub(super) fn begin(home: &Home) -> Result<Self> {
        let file = open_sweep(home)?;
        let last = home.named("read", &home.sweep(), read_sweep(&*file))?;
        let number = last.wrapping_add(1) | 1;
        home.named("write", &home.sweep(), file.write_at(&number.to_le_bytes(), 0))?;
        Ok(Self { file, number })
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // Should this fail, stores find that nobody holds `store/collector`.
        let _ = self.file.write_at(&self.number.wrapping_add(1).to_le_bytes(), 0);
    }
}

fn open_sweep(home: &Home) -> Result<Box<dyn StorageFile>> {
    let path = home.sweep();
    loop {
        if let Some(file) = home.try_open(&path, OpenMode::Write)? {
            return Ok(file);
        }
        match home.storage.open(&path, OpenMode::CreateNew) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            created => return home.named("create", &path, created),
        }
    }
}

fn read_sweep(file: &dyn StorageFile) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_at(&mut bytes, 0)?;
    Ok(u64::from_le_bytes(bytes))
}

//! Writing a ledger. One thread appends to memory ([`Ledger`]); the same or another takes what
//! was appended as a group and makes it durable ([`Committer`]). What a group names in the store
//! must be durable before the group is written; the caller sees to that.

use std::sync::Arc;

use super::block::Packer;
use super::frame::{push_entry, push_frame};
use super::{Chain, Entry, Head, Header, Layout, RUNS_DIR, RunId, Segment, close_path, segment_path};
use crate::canon;
use crate::fault::{HostAbort, Result, Usage};
use crate::limits::{FRAME_PAYLOAD_MAX_BYTES, LEDGER_SEGMENT_MAX_BYTES};
use crate::storage::{Lock, LockMode, OpenMode, Storage, StorageFile};

/// The appending half: entries become bytes in memory, and the chain advances.
pub struct Ledger {
    chain: Chain,
    group: Vec<u8>,
}

impl Ledger {
    /// Starts the ledger of `run` in `storage`. Nothing is durable before the first commit.
    pub fn create(storage: Arc<dyn Storage>, run: RunId, header: Header) -> Result<(Self, Committer)> {
        let mut ledger = Self { chain: Chain::new(), group: Vec::new() };
        check_len(&header)?;
        let committer = Committer::create(storage, run)?;
        ledger.append(&Entry::Header(header));
        Ok((ledger, committer))
    }

    /// A ledger that is kept nowhere, of a run that is not recorded: what could not be recorded is refused all the same.
    pub fn unkept(header: Header) -> Result<Self> {
        check_len(&header)?;
        Ok(Self::in_memory(header))
    }

    /// A ledger that is kept nowhere: for a replay, which needs only the head.
    pub fn in_memory(header: Header) -> Self {
        let mut ledger = Self { chain: Chain::new(), group: Vec::new() };
        ledger.append(&Entry::Header(header));
        ledger
    }

    /// One that is kept nowhere and goes on behind what `chain` names.
    pub(super) fn after(chain: Chain) -> Self {
        Self { chain, group: Vec::new() }
    }

    /// Appends an entry to the group that the next commit makes durable.
    pub fn append(&mut self, entry: &Entry) {
        let payload = push_entry(&mut self.group, entry);
        if entry.is_chained() {
            self.chain.add(payload);
        }
    }

    /// The head after everything appended.
    pub fn head(&self) -> Head {
        self.chain.head()
    }

    /// Chained entries appended.
    pub fn entries(&self) -> u64 {
        self.chain.entries
    }

    /// Bytes that wait for a commit.
    pub fn waiting_bytes(&self) -> usize {
        self.group.len()
    }

    /// What was appended since the last group, ending in a mark. `durable_bytes` is
    /// [`Committer::durable_bytes`]; `spare` is an empty buffer to go on with.
    pub fn take_group(&mut self, durable_bytes: u64, spare: Vec<u8>) -> Vec<u8> {
        debug_assert!(spare.is_empty());
        if !self.group.is_empty() {
            let mark = Entry::Mark { entries: self.entries(), head: self.head(), durable_bytes };
            self.append(&mark);
        }
        std::mem::replace(&mut self.group, spare)
    }

    /// Forgets what waits: for a ledger in memory.
    pub fn discard_group(&mut self) {
        self.group.clear();
    }
}

fn check_len(header: &Header) -> Result<()> {
    let len = canon::encode(&Entry::Header(header.clone())).len();
    if len <= FRAME_PAYLOAD_MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "the arguments and grants of the run take {len} bytes; the limit is {FRAME_PAYLOAD_MAX_BYTES}"
    );
    Err(Usage::new(message).hint("pass what is long in a file").into())
}

/// How often a segment that was just made is tried to be locked.
const LOCK_TRIES: u32 = 10_000;

/// The half that makes groups durable.
pub struct Committer {
    storage: Arc<dyn Storage>,
    run: RunId,
    number: u32,
    packer: Packer,
    file: Box<dyn StorageFile>,
    /// Held while the run is being written, so that others can tell it from a crashed one.
    lock: Box<dyn Lock>,
    written_bytes: u64,
    durable_bytes: u64,
    is_named: bool,
    is_poisoned: bool,
}

impl Committer {
    fn create(storage: Arc<dyn Storage>, run: RunId) -> Result<Self> {
        let folder = |e| HostAbort::io("create the folder", storage.show(RUNS_DIR), &e);
        match storage.list(RUNS_DIR) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                storage.create_dir(RUNS_DIR).map_err(folder)?
            }
            Err(e) => return Err(folder(e).into()),
        }
        let (file, lock) = start_segment(&*storage, run, 0)?;
        let packer = Packer::new().map_err(|e| HostAbort::io("compress", storage.show(RUNS_DIR), &e))?;
        Ok(Self {
            storage,
            run,
            number: 0,
            packer,
            file,
            lock,
            written_bytes: Segment::LEN as u64,
            durable_bytes: 0,
            is_named: false,
            is_poisoned: false,
        })
    }

    /// Bytes of the current segment that are durable.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    /// Packs `group`, writes it and makes it durable. After a failure nothing more is accepted: what the
    /// disk kept of a failed sync cannot be known.
    pub fn commit(&mut self, group: &[u8]) -> Result<()> {
        if self.is_poisoned {
            let message = format!("the ledger of run `{}` failed before; nothing more is written", self.run);
            return Err(HostAbort::new(crate::fault::AbortKind::Machine, message).into());
        }
        if group.is_empty() {
            return Ok(());
        }
        self.is_poisoned = true;
        self.write(group).map_err(|e| self.failed("write", &e))?;
        // Now, so that the mark of the next group speaks of the segment that it is in.
        if self.written_bytes >= LEDGER_SEGMENT_MAX_BYTES {
            self.roll()?;
        }
        self.is_poisoned = false;
        Ok(())
    }

    fn write(&mut self, group: &[u8]) -> std::io::Result<()> {
        let blocks = self.packer.pack(group, self.durable_bytes)?;
        self.file.write_at(blocks, self.written_bytes)?;
        self.written_bytes += blocks.len() as u64;
        self.file.sync_data()?;
        self.sync_name()?;
        self.durable_bytes = self.written_bytes;
        Ok(())
    }

    /// Makes the name of the current segment durable. A commit does it too; done before, it can
    /// go on beside the run.
    pub fn sync_name(&mut self) -> std::io::Result<()> {
        if !self.is_named {
            self.storage.sync_dir(RUNS_DIR).inspect_err(|_| self.is_poisoned = true)?;
            self.is_named = true;
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<()> {
        self.number += 1;
        (self.file, self.lock) = start_segment(&*self.storage, self.run, self.number)?;
        self.written_bytes = Segment::LEN as u64;
        self.durable_bytes = 0;
        self.is_named = false;
        Ok(())
    }

    fn failed(&self, what: &str, err: &std::io::Error) -> HostAbort {
        HostAbort::io(what, self.storage.show(&segment_path(self.run, self.number)), err)
    }

    /// Repeats the final head in a file of its own, after the outcome is durable. It is a help
    /// for verification and not a part of the ledger, so it is not waited for.
    pub fn close(self, head: Head, entries: u64) -> Result<()> {
        let mut frame = Vec::new();
        push_frame(&mut frame, &(*head.as_bytes(), entries));
        let path = close_path(self.run);
        let write = || -> std::io::Result<()> {
            let file = self.storage.open(&path, OpenMode::CreateNew)?;
            file.write_at(&frame, 0)
        };
        write().map_err(|e| HostAbort::io("write", self.storage.show(&path), &e))?;
        Ok(())
    }
}

fn start_segment(
    storage: &dyn Storage,
    run: RunId,
    number: u32,
) -> Result<(Box<dyn StorageFile>, Box<dyn Lock>)> {
    let path = segment_path(run, number);
    let failed = |e| HostAbort::io("create", storage.show(&path), &e);
    let file = storage.open(&path, OpenMode::CreateNew).map_err(failed)?;
    let (mut lock, mut tries) = (storage.try_lock(&path, LockMode::Exclusive).map_err(failed)?, 1);
    // Whoever looks whether a run goes on has its lock for a moment.
    while lock.is_none() && tries < LOCK_TRIES {
        std::thread::yield_now();
        lock = storage.try_lock(&path, LockMode::Exclusive).map_err(failed)?;
        tries += 1;
    }
    let lock = lock.ok_or_else(|| {
        HostAbort::new(
            crate::fault::AbortKind::Busy,
            format!("run `{run}` is being written by another process"),
        )
    })?;
    file.write_at(&Segment { run, number }.to_bytes(Layout::Columns), 0).map_err(failed)?;
    Ok((file, lock))
}

//! Large objects: one file each, named by CID, written beside and renamed.
//!
//! Invariant: a file under its final name was synced before it got that name. Its name may not be
//! durable yet if another process gave it, so finding one is not enough: its folder is synced too.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::cid::{Cid, Codec};
use crate::fault::{AbortKind, HostAbort, Result};
use crate::limits::{STORE_CHUNK_BYTES, STORE_OBJECT_MAX_BYTES};
use crate::storage::OpenMode;

use super::Store;
use super::home::Temp;

/// Parts of a stream in memory: one that is written, one that is hashed, one that waits for it, and one that is read.
const BUFFERS: usize = 4;

/// Some bytes of a stream, for whoever hashes them and whoever writes them.
#[derive(Clone)]
struct Part {
    buffer: Arc<Vec<u8>>,
    len: usize,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Store {
    /// Puts all of a stream that is small: its CID and length. Of another one gives what was read: its first bytes.
    pub(super) fn put_if_small(
        &self,
        codec: Codec,
        from: &mut dyn Read,
        max_bytes: u64,
    ) -> Result<ControlFlow<(Cid, u64), Vec<u8>>> {
        let (mut start, large_min) = (Vec::new(), self.home.tuning.large_min);
        let read = from.take(large_min as u64).read_to_end(&mut start);
        read.map_err(|err| HostAbort::io("read", "the input", &err))?;
        check_len(start.len() as u64, max_bytes)?;
        if start.len() < large_min {
            return Ok(ControlFlow::Break((self.put(codec, &start)?, start.len() as u64)));
        }
        Ok(ControlFlow::Continue(start))
    }

    /// Adds an object from a stream and returns its CID and length, in constant memory, but
    /// for the list of its chunks if the store compresses. Fails
    /// with `Quota` if the stream is longer than `max_bytes`. A large object is durable when this
    /// returns, a small one after the next [`Store::commit`].
    pub fn put_stream(&self, codec: Codec, from: &mut dyn Read, max_bytes: u64) -> Result<(Cid, u64)> {
        let max_bytes = max_bytes.min(STORE_OBJECT_MAX_BYTES);
        let start = match self.put_if_small(codec, from, max_bytes)? {
            ControlFlow::Break(put) => return Ok(put),
            ControlFlow::Continue(start) => start,
        };
        let _open = self.gate();
        let mut all = start.as_slice().chain(from);
        if self.state().settings(&self.home).compression.is_some() {
            return self.put_listed(codec, &mut all, max_bytes);
        }
        self.state().check_writable(&self.home)?;
        let temp = self.home.temp()?;
        let filled = self.fill(&temp, codec, &mut all, max_bytes);
        let kept = filled.and_then(|(cid, len)| self.keep(&temp, &cid, len).map(|()| (cid, len)));
        if kept.is_err() {
            self.discard(&temp);
        }
        kept
    }

    /// Adds a large object from memory.
    pub(super) fn put_large(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.state().check_writable(&self.home)?;
        if self.is_large_settled(cid, bytes.len() as u64)? {
            return Ok(());
        }
        if self.wants_chunks(cid) {
            return self.put_listed(cid.codec(), &mut &bytes[..], bytes.len() as u64).map(|_| ());
        }
        let temp = self.home.temp()?;
        let written = self.home.named("write", &temp.path, temp.file.write_at(bytes, 0));
        let kept = written.and_then(|()| self.keep(&temp, cid, bytes.len() as u64));
        if kept.is_err() {
            self.discard(&temp);
        }
        kept
    }

    /// Whether a large object is to be written in chunks: only those are compressed. Bytes at hand whose file is bad
    /// replace that file.
    fn wants_chunks(&self, cid: &Cid) -> bool {
        let mut state = self.state();
        state.settings(&self.home).compression.is_some() && !state.bad_large.contains(cid)
    }

    /// Copies the stream to the file, and hashes it beside that.
    fn fill(&self, temp: &Temp, codec: Codec, from: &mut dyn Read, max_bytes: u64) -> Result<(Cid, u64)> {
        let failed = |err| HostAbort::io("start", "a thread that hashes", &err);
        std::thread::scope(|scope| {
            let (give, parts) = sync_channel::<Part>(1);
            let hash = move || {
                let mut hasher = blake3::Hasher::new();
                parts.into_iter().for_each(|part| _ = hasher.update(part.bytes()));
                hasher.finalize()
            };
            let hashing = std::thread::Builder::new().spawn_scoped(scope, hash).map_err(failed)?;
            let len = self.copy_parts(temp, from, max_bytes, &give);
            drop(give);
            let fell = |_| HostAbort::new(AbortKind::Machine, "the thread that hashes fell");
            let digest = hashing.join().map_err(fell)?;
            Ok((Cid::new(codec, *digest.as_bytes()), len?))
        })
    }

    /// Copies the stream to the file, and gives each part away when it is there. Returns its length.
    fn copy_parts(
        &self,
        temp: &Temp,
        from: &mut dyn Read,
        max_bytes: u64,
        give: &SyncSender<Part>,
    ) -> Result<u64> {
        let mut buffers: VecDeque<Arc<Vec<u8>>> = (0..BUFFERS).map(|_| Arc::default()).collect();
        let mut len = 0;
        loop {
            // Of those that were given away the oldest is free: all but two after it were taken.
            let mut buffer = buffers.pop_front().unwrap_or_default();
            let bytes = Arc::make_mut(&mut buffer);
            bytes.resize(STORE_CHUNK_BYTES, 0);
            let read = match from.read(bytes) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => 0,
                Ok(0) => return Ok(len),
                read => read.map_err(|err| HostAbort::io("read", "the input", &err))?,
            };
            check_len(len + read as u64, max_bytes)?;
            let part = Part { buffer: Arc::clone(&buffer), len: read };
            // Its thread says itself that it fell.
            let _ = give.send(part.clone());
            self.home.named("write", &temp.path, temp.file.write_at(part.bytes(), len))?;
            len += read as u64;
            buffers.push_back(buffer);
        }
    }

    /// Gives a written file the name of its object, unless that is there and whole.
    fn keep(&self, temp: &Temp, cid: &Cid, len: u64) -> Result<()> {
        if self.is_large_settled(cid, len)? {
            self.discard(temp);
            return Ok(());
        }
        let dir = self.home.large_part(cid);
        self.home.make_dir(&dir)?;
        self.publish_large(temp, &dir, &self.home.large(cid))?;
        self.state().bad_large.remove(cid);
        Ok(())
    }

    /// Gives a written file its name in the folder `dir`, durably. Nothing is written any more if that fails.
    pub(super) fn publish_large(&self, temp: &Temp, dir: &str, path: &str) -> Result<()> {
        let synced = self.home.named("sync", &temp.path, temp.file.sync_data());
        let kept = synced.and_then(|()| self.home.publish(temp, dir, path));
        if let Err(why) = &kept {
            self.state().poison(why);
        }
        kept
    }

    /// Whether the object is here, not known to be corrupt, and will still be here after a power cut.
    pub(super) fn is_large_settled(&self, cid: &Cid, len: u64) -> Result<bool> {
        self.state().claim(&self.home, cid)?;
        Ok(self.is_file_settled(cid, len)? || self.is_list_settled(cid, len)?)
    }

    fn is_file_settled(&self, cid: &Cid, len: u64) -> Result<bool> {
        if self.state().bad_large.contains(cid) {
            return Ok(false);
        }
        let path = self.home.large(cid);
        let Some(file) = self.home.try_open(&path, OpenMode::Read)? else { return Ok(false) };
        if self.home.named("read", &path, file.len())? != len {
            return Ok(false);
        }
        let dir = self.home.large_part(cid);
        self.home.make_dir(&dir)?;
        self.sync_large(&dir)?;
        Ok(true)
    }

    /// Makes the names in a folder of large objects durable. Nothing is written any more if that fails.
    pub(super) fn sync_large(&self, dir: &str) -> Result<()> {
        let synced = self.home.sync_dir(dir);
        if let Err(why) = &synced {
            self.state().poison(why);
        }
        synced
    }

    /// Removes a file that nobody will ask for. A collection does it if this fails.
    pub(super) fn discard(&self, temp: &Temp) {
        let _ = self.home.remove(&temp.path);
    }

    /// Every large object with its length.
    pub(super) fn list_large(&self) -> Result<Vec<(Cid, u64)>> {
        let mut all = Vec::new();
        for cid in self.large_cids()? {
            let path = self.home.large(&cid);
            // A collector in another process may remove it meanwhile.
            if let Some(file) = self.home.try_open(&path, OpenMode::Read)? {
                all.push((cid, self.home.named("read", &path, file.len())?));
            }
        }
        Ok(all)
    }

    /// The large objects by their files' names, sorted within each folder.
    pub(super) fn large_cids(&self) -> Result<Vec<Cid>> {
        let mut all = Vec::new();
        for part in self.home.list(&self.home.large_dir())? {
            let names = self.home.list(&format!("{}/{part}", self.home.large_dir()))?;
            let cids = names.iter().filter_map(|name| name.parse::<Cid>().ok());
            all.extend(
                cids.filter(|cid| cid.digest().first().map(|b| format!("{b:02x}")).as_ref() == Some(&part)),
            );
        }
        Ok(all)
    }
}

pub(super) fn check_len(len: u64, max_bytes: u64) -> Result<()> {
    if len <= max_bytes {
        return Ok(());
    }
    Err(HostAbort::new(AbortKind::Quota, format!("the input is longer than {max_bytes} bytes")).into())
}

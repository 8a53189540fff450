//! Large objects in chunks, so that versions of a big file share bytes.
//!
//! The chunks are ordinary packed objects; `store/chunked/<cid>` lists them. The object's CID is that of its bytes, as
//! ever. Invariants:
//! - A list gets its name after its chunks were committed, and a collection keeps the chunks of every list that is
//!   there. So where a list is, its object is. A list is removed as large objects are: alone; or by a scrub, if it is bad
//!   and its object is in one piece too.
//! - A list is not believed: each chunk is hashed to its own CID, all of them together to the object's; of a part, the
//!   groups that it touches climb to the object's CID.
//! - A chunk is looked for in packs only, so no list leads to a list.
//! - In memory are a window of the stream and, while it is written, some 220 bytes for each 64 KiB of it: 15 MB for
//!   4 GiB.

use std::io::{self, Read};
use std::ops::ControlFlow;

use crate::cid::{Cid, Codec};
use crate::fault::{Corrupt, Error, HostAbort, Result};
use crate::limits::STORE_OBJECT_MAX_BYTES;
use crate::storage::{OpenMode, StorageFile};

use super::Store;
use super::home::Home;
use super::large::check_len;
use cut::Cutter;
use list::{Bad, ENTRY_LEN, Entry, HEAD_LEN, Head};
use tree::{Hashing, NODE_LEN, Node, Tree};

mod cut;
mod list;
mod range;
#[cfg(test)]
mod tests;
mod tree;

const ENTRIES_AT_ONCE: usize = 1024;
const NODES_AT_ONCE: usize = 2048;

/// A list that is there and whose head is whole.
pub(super) struct List {
    head: Head,
    file: Box<dyn StorageFile>,
    path: String,
}

/// One chunk and where it begins in its object.
struct Chunk {
    entry: Entry,
    start: u64,
}

impl List {
    /// The list of `cid`, or `None` if there is none.
    pub(super) fn open(home: &Home, cid: &Cid) -> Result<Option<Self>> {
        let path = home.chunked(cid);
        let Some(file) = home.try_open(&path, OpenMode::Read)? else { return Ok(None) };
        let mut bytes = [0; HEAD_LEN];
        let read = home.named("read", &path, file.read_at(&mut bytes, 0))?;
        let head = Head::decode(cid, bytes.get(..read).unwrap_or_default());
        let head = head.map_err(|bad| match bad {
            Bad::Version(got) => wrong(home, &path, "version 1", format!("{got}; a newer program wrote it")),
            Bad::Bytes => wrong(home, &path, "a head with its checksum", "other bytes"),
        })?;
        let len = home.named("read", &path, file.len())?;
        if len != head.file_len() {
            return Err(wrong(home, &path, format!("{} bytes", head.file_len()), len).into());
        }
        Ok(Some(Self { head, file, path }))
    }

    /// Length of the object in bytes.
    pub(super) fn len(&self) -> u64 {
        self.head.len
    }

    /// Gives every chunk to `each`, in order.
    fn each(&self, home: &Home, mut each: impl FnMut(Chunk) -> Result<()>) -> Result<()> {
        let mut bytes = vec![0; ENTRIES_AT_ONCE * ENTRY_LEN];
        let (mut nth, mut start) = (0, 0);
        while nth < self.head.chunks {
            let read = self.file.read_at(&mut bytes, Head::entry_place(nth));
            let read = home.named("read", &self.path, read)?;
            let now = bytes.get(..read).unwrap_or_default().chunks_exact(ENTRY_LEN);
            if now.len() == 0 {
                return Err(wrong(home, &self.path, "an entry", "the end of the file").into());
            }
            for bytes in now.take((self.head.chunks - nth) as usize) {
                let entry = self.decode(home, nth, start, bytes)?;
                each(Chunk { entry, start })?;
                (nth, start) = (nth + 1, entry.end);
            }
        }
        if start == self.head.len {
            return Ok(());
        }
        Err(wrong(home, &self.path, format!("chunks of {} bytes", self.head.len), start).into())
    }

    fn decode(&self, home: &Home, nth: u32, start: u64, bytes: &[u8]) -> Result<Entry> {
        let entry = Entry::decode(&self.head.cid, nth, bytes);
        let entry = entry.filter(|entry| entry.len_from(start).is_some() && entry.end <= self.head.len);
        entry.ok_or_else(|| {
            let expected = format!("entry {nth} with its checksum");
            wrong(home, &self.path, expected, "other bytes").into()
        })
    }

    /// The nodes as they are in the file.
    fn nodes_are(&self, home: &Home, nodes: &[Node]) -> Result<bool> {
        let mut bytes = vec![0; NODES_AT_ONCE * NODE_LEN];
        for (part, nodes) in (0..).zip(nodes.chunks(NODES_AT_ONCE)) {
            let place = self.head.node_place(part * NODES_AT_ONCE as u64);
            let read = home.named("read", &self.path, self.file.read_at(&mut bytes, place))?;
            if !bytes.get(..read).unwrap_or_default().starts_with(nodes.as_flattened()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn wrong(home: &Home, path: &str, expected: impl ToString, got: impl ToString) -> Corrupt {
    let place = format!("`{}`", home.show(path));
    Corrupt::new("list of chunks", place, expected.to_string(), got.to_string())
}

/// The objects that are kept in chunks, by their lists' names.
pub(super) fn listed(home: &Home) -> Result<Vec<Cid>> {
    let names = home.list(&home.chunked_dir())?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The chunks of every list: what a collection keeps. A list that cannot be read is an error, because its object would
/// be lost; unless the object is there in one piece too.
pub(super) fn all_chunks(home: &Home) -> Result<Vec<Cid>> {
    let mut all = Vec::new();
    for cid in listed(home)? {
        let read = List::open(home, &cid).and_then(|list| match list {
            Some(list) => list.each(home, |chunk| {
                all.push(chunk.entry.cid);
                Ok(())
            }),
            None => Ok(()),
        });
        match read {
            Err(Error::Corrupt(_)) if home.try_open(&home.large(&cid), OpenMode::Read)?.is_some() => {}
            read => read?,
        }
    }
    Ok(all)
}

impl Store {
    /// [`Self::put_stream`] in chunks: bytes that another object in chunks has too are kept once. Costs more than to
    /// keep the object in one piece, and an object that is here in one piece stays so. Durable when this returns,
    /// unless it is small. Chunks that no list names in the end (of an object that was here, of a stream that was too long) stay
    /// until a collection.
    pub fn put_chunked(&self, codec: Codec, from: &mut dyn Read, max_bytes: u64) -> Result<(Cid, u64)> {
        let max_bytes = max_bytes.min(STORE_OBJECT_MAX_BYTES);
        let start = match self.put_if_small(codec, from, max_bytes)? {
            ControlFlow::Break(put) => return Ok(put),
            ControlFlow::Continue(start) => start,
        };
        let _open = self.gate();
        self.put_listed(codec, &mut start.as_slice().chain(from), max_bytes)
    }

    /// [`Self::put_chunked`] of a large object. The gate is open.
    pub(super) fn put_listed(&self, codec: Codec, from: &mut dyn Read, max_bytes: u64) -> Result<(Cid, u64)> {
        self.state().check_writable(&self.home)?;
        let (entries, tree) = self.put_chunks(from, max_bytes)?;
        let cid = Cid::new(codec, tree.root);
        // A list names nothing that is not durable.
        self.commit_batch()?;
        let len = entries.last().map_or(0, |last| last.end);
        if !self.is_large_settled(&cid, len)? {
            self.publish_list(&cid, &entries, &tree.nodes, self.home.tuning.group_len as u32)?;
        }
        Ok((cid, len))
    }

    /// Puts the chunks of a stream.
    fn put_chunks(&self, from: &mut dyn Read, max_bytes: u64) -> Result<(Vec<Entry>, Tree)> {
        let mut cutter = Cutter::new(from, self.home.tuning.chunk);
        let mut hashing = Hashing::new(self.home.tuning.group_len);
        let (mut entries, mut end) = (Vec::new(), 0);
        while let Some(chunk) = cutter.next()? {
            end += chunk.len() as u64;
            check_len(end, max_bytes)?;
            hashing.update(chunk);
            let cid = Cid::of_raw(chunk);
            self.put_small(cid, chunk)?;
            entries.push(Entry { cid, end });
        }
        Ok((entries, hashing.finish()))
    }

    /// Writes the list of `cid`, whose chunks are durable, instead of one that may be there.
    fn publish_list(&self, cid: &Cid, entries: &[Entry], nodes: &[Node], group_len: u32) -> Result<()> {
        let len = entries.last().map_or(0, |last| last.end);
        let mut bytes = Head { cid: *cid, len, chunks: entries.len() as u32, group_len }.encode();
        (0..).zip(entries).for_each(|(nth, entry)| bytes.extend_from_slice(&entry.encode(cid, nth)));
        bytes.extend_from_slice(nodes.as_flattened());
        self.home.make_dir(&self.home.chunked_dir())?;
        let temp = self.home.temp()?;
        let written = self.home.named("write", &temp.path, temp.file.write_at(&bytes, 0));
        let path = self.home.chunked(cid);
        let kept = written.and_then(|()| self.publish_large(&temp, &self.home.chunked_dir(), &path));
        match &kept {
            Ok(()) => _ = self.state().bad_lists.remove(cid),
            Err(_) => self.discard(&temp),
        }
        kept
    }

    /// Whether the object is here in chunks, `len` bytes long, not known to be corrupt, and durably so: its entries are
    /// read and its chunks located, but not read. It is claimed.
    pub(super) fn is_list_settled(&self, cid: &Cid, len: u64) -> Result<bool> {
        if self.state().bad_lists.contains(cid) {
            return Ok(false);
        }
        let opened = List::open(&self.home, cid).map(|list| list.filter(|list| list.len() == len));
        match opened.and_then(|list| list.map_or(Ok(false), |list| self.are_chunks_here(&list))) {
            Ok(true) => {}
            Ok(false) | Err(Error::Corrupt(_)) => return Ok(false),
            Err(other) => return Err(other),
        }
        // Who gave it its name may have failed to make that durable.
        self.sync_large(&self.home.chunked_dir())?;
        Ok(true)
    }

    /// Whether every chunk has a place that is not known to be bad.
    fn are_chunks_here(&self, list: &List) -> Result<bool> {
        self.write_first_index()?;
        let mut all = true;
        list.each(&self.home, |chunk| {
            all = all && self.is_chunk_here(&chunk)?;
            Ok(())
        })?;
        Ok(all)
    }

    fn is_chunk_here(&self, chunk: &Chunk) -> Result<bool> {
        let len = chunk.entry.len_from(chunk.start);
        let mut state = self.state();
        state.load(&self.home)?;
        let mut at = state.locate_good(&self.home, &chunk.entry.cid)?;
        if at.is_none() {
            state.refresh(&self.home)?;
            at = state.locate_good(&self.home, &chunk.entry.cid)?;
        }
        drop(state);
        let Some(at) = at else { return Ok(false) };
        if !at.body.is_compressed() {
            return Ok(Some(at.body.len() as usize) == len);
        }
        // Its length is verified with its bytes alone.
        let bytes = self.get_packed(&chunk.entry.cid);
        Ok(matches!(bytes, Ok(Some(bytes)) if Some(bytes.len()) == len))
    }

    /// Copies an object in chunks to `to`, and fails in the end if it was none of that name. Returns its length, or
    /// `None` if it was collected meanwhile.
    pub(super) fn copy_list(&self, list: &List, to: &mut dyn io::Write) -> Result<Option<u64>> {
        let mut hasher = blake3::Hasher::new();
        let copied = self.each_chunk(list, |bytes| {
            hasher.update(bytes);
            to.write_all(bytes).map_err(|err| HostAbort::io("write", "the output", &err).into())
        });
        let is_it = self.note_hashed(list, copied, *hasher.finalize().as_bytes())?;
        Ok(is_it.then(|| list.len()))
    }

    /// [`Self::copy_list`] to nowhere, which also yields the nodes that the list should have.
    fn hash_list(&self, list: &List) -> Result<Option<Tree>> {
        let mut hashing = Hashing::new(list.head.group_len as usize);
        let hashed = self.each_chunk(list, |bytes| {
            hashing.update(bytes);
            Ok(())
        });
        let tree = hashing.finish();
        Ok(self.note_hashed(list, hashed, tree.root)?.then_some(tree))
    }

    /// Gives the bytes of every chunk to `each`, in order.
    fn each_chunk(&self, list: &List, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        list.each(&self.home, |chunk| each(&self.chunk(list, &chunk)?))
    }

    /// Whether what was read of a list is its object. `false` if it was collected meanwhile; else an error, and the list
    /// is known to be bad.
    fn note_hashed(&self, list: &List, hashed: Result<()>, digest: [u8; 32]) -> Result<bool> {
        let cid = list.head.cid;
        let got = Cid::new(cid.codec(), digest);
        let checked = hashed.and_then(|()| {
            if got == cid {
                return Ok(());
            }
            Err(Corrupt::new("object", format!("the chunks of `{}`", self.home.show(&list.path)), cid, got)
                .into())
        });
        match checked {
            Ok(()) => Ok(true),
            Err(Error::Corrupt(_)) if self.is_list_gone(&cid)? => Ok(false),
            Err(why) => {
                if let Error::Corrupt(_) = why {
                    self.state().bad_lists.insert(cid);
                }
                Err(why)
            }
        }
    }

    /// Hashes the object `cid`, and compares the nodes too.
    pub(super) fn check_list(&self, cid: &Cid) -> Result<Option<u64>> {
        let Some(list) = List::open(&self.home, cid)? else { return Ok(None) };
        let Some(tree) = self.hash_list(&list)? else { return Ok(None) };
        if list.nodes_are(&self.home, &tree.nodes)? {
            return Ok(Some(list.len()));
        }
        self.state().bad_lists.insert(*cid);
        Err(wrong(&self.home, &list.path, "the inner hashes of its object", "other bytes").into())
    }

    /// Writes a list whose chunks are whole anew. `false` if there is none.
    pub(super) fn relist(&self, cid: &Cid) -> Result<bool> {
        let _open = self.gate();
        self.state().check_writable(&self.home)?;
        let Some(list) = List::open(&self.home, cid)? else { return Ok(false) };
        let Some(tree) = self.hash_list(&list)? else { return Ok(false) };
        let mut entries = Vec::new();
        list.each(&self.home, |chunk| {
            entries.push(chunk.entry);
            Ok(())
        })?;
        self.publish_list(cid, &entries, &tree.nodes, list.head.group_len)?;
        Ok(true)
    }

    /// The bytes of one chunk, which are those that its name says.
    fn chunk(&self, list: &List, chunk: &Chunk) -> Result<Vec<u8>> {
        let len = chunk.entry.len_from(chunk.start);
        let got = match self.get_packed(&chunk.entry.cid) {
            Ok(Some(bytes)) if Some(bytes.len()) == len => return Ok(bytes),
            Ok(Some(bytes)) => format!("{} bytes", bytes.len()),
            Ok(None) => "nothing".to_owned(),
            Err(Error::Corrupt(corrupt)) => corrupt.to_string(),
            Err(other) => return Err(other),
        };
        let place = format!("`{}`, which has at byte {} a chunk", self.home.show(&list.path), chunk.start);
        let expected = format!("{} bytes of {} for {}", len.unwrap_or(0), chunk.entry.cid, list.head.cid);
        Err(Corrupt::new("object", place, expected, got).into())
    }

    /// Whether a collector removed the list of `cid` since it was opened: then its chunks may be gone too.
    fn is_list_gone(&self, cid: &Cid) -> Result<bool> {
        Ok(self.home.try_open(&self.home.chunked(cid), OpenMode::Read)?.is_none())
    }

    /// Every object in chunks with its length. One whose list is damaged is left out: a check names it.
    pub(super) fn list_chunked(&self) -> Result<Vec<(Cid, u64)>> {
        let mut all = Vec::new();
        for cid in listed(&self.home)? {
            match List::open(&self.home, &cid) {
                Ok(list) => all.extend(list.map(|list| (cid, list.len()))),
                Err(Error::Corrupt(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(all)
    }
}

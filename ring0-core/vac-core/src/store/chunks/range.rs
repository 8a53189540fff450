//! Reading a part of an object. Of one in chunks only the groups that the part touches are read.

use std::io;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{Error, Result};
use crate::storage::StorageFile;

use super::super::Store;
use super::super::home::Home;
use super::super::read::Place;
use super::list::{ENTRY_LEN, Head};
use super::tree::{NODE_LEN, Node, climb};
use super::{Chunk, List, wrong};

impl Store {
    /// Reads a part of the object `cid` from `offset` on: fewer bytes than asked only at the object's end. `None` if it is
    /// not here. What was read was verified; after an error nothing in `to` is.
    ///
    /// Of an object in chunks, [`STORE_GROUP_BYTES`](crate::limits::STORE_GROUP_BYTES) around each end are read more. Any
    /// other large object is hashed from end to end.
    pub fn read_range(&self, cid: &Cid, offset: u64, to: &mut [u8]) -> Result<Option<usize>> {
        match self.find(cid)? {
            Some(Place::Chunked(list)) => self.read_listed(&list, offset, to),
            Some(_) => self.read_all(cid, offset, to),
            None => Ok(None),
        }
    }

    /// What is wrong with a list or chunk is found out by reading all, which also notes it, and says if the object is
    /// just gone.
    pub(super) fn read_listed(&self, list: &List, offset: u64, to: &mut [u8]) -> Result<Option<usize>> {
        match self.read_groups(list, offset, to) {
            Ok(None) | Err(Error::Corrupt(_)) => self.read_all(&list.head.cid, offset, to),
            read => read,
        }
    }

    /// Hashes all of an object to get a part, and its other form if one turns out to be corrupt.
    fn read_all(&self, cid: &Cid, offset: u64, to: &mut [u8]) -> Result<Option<usize>> {
        match self.read_all_once(cid, offset, to) {
            Err(Error::Corrupt(_)) => self.read_all_once(cid, offset, to),
            read => read,
        }
    }

    fn read_all_once(&self, cid: &Cid, offset: u64, to: &mut [u8]) -> Result<Option<usize>> {
        let mut window = Window { offset, to, at: 0, filled: 0 };
        Ok(self.get_stream_once(cid, &mut window)?.map(|_| window.filled))
    }

    /// `None` if some group does not lead to the object's CID. Then it is read whole, which finds out why.
    fn read_groups(&self, list: &List, offset: u64, to: &mut [u8]) -> Result<Option<usize>> {
        let group_len = u64::from(list.head.group_len);
        let (mut at, mut filled) = (offset, 0);
        while at < list.len() && filled < to.len() {
            let nth = at / group_len;
            let Some(group) = self.group(list, nth)? else { return Ok(None) };
            let skip = (at - nth * group_len) as usize;
            let (from, to) =
                (group.get(skip..).unwrap_or_default(), to.get_mut(filled..).unwrap_or_default());
            let len = from.len().min(to.len());
            if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
                to.copy_from_slice(from);
            }
            (at, filled) = (at + len as u64, filled + len);
            if len == 0 {
                return Ok(None);
            }
        }
        Ok(Some(filled))
    }

    /// The bytes of group `nth`, if they are those of the object.
    fn group(&self, list: &List, nth: u64) -> Result<Option<Vec<u8>>> {
        let home = &self.home;
        let group_len = u64::from(list.head.group_len);
        let (from, to) = (nth * group_len, list.len().min((nth + 1) * group_len));
        let mut bytes = Vec::new();
        let mut at = list.find(home, from)?;
        while let Some(chunk) = at.take().filter(|_| from + (bytes.len() as u64) < to) {
            let (nth, chunk) = chunk;
            let all = self.chunk(list, &chunk)?;
            let skip = from.saturating_sub(chunk.start) as usize;
            let part = all.get(skip..).unwrap_or_default();
            let want = (to - from) as usize - bytes.len();
            bytes.extend_from_slice(part.get(..want.min(part.len())).unwrap_or_default());
            at = list.nth(home, nth + 1)?;
        }
        if bytes.len() as u64 != to - from {
            return Ok(None);
        }
        let node_at = |nth| list.node(home, nth);
        let root = climb(&bytes, nth, list.head.groups(), list.head.group_len as usize, node_at)?;
        Ok((root == *list.head.cid.digest()).then_some(bytes))
    }

    /// An object in chunks as a file: for whoever looks for a place of it.
    pub(in super::super) fn chunked_file(&self, cid: &Cid) -> Result<Option<(Arc<dyn StorageFile>, u64)>> {
        let Some(list) = List::open(&self.home, cid)? else { return Ok(None) };
        let len = list.len();
        Ok(Some((Arc::new(ChunkedFile { store: self.share(), cid: *cid, len }), len)))
    }
}

impl List {
    /// The chunk that has the byte at `place`, and its number.
    fn find(&self, home: &Home, place: u64) -> Result<Option<(u32, Chunk)>> {
        let (mut low, mut high) = (0, self.head.chunks);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.nth(home, middle)? {
                Some((_, chunk)) if chunk.entry.end <= place => low = middle + 1,
                _ => high = middle,
            }
        }
        self.nth(home, low)
    }

    /// Chunk `nth` with its number; `None` past the end.
    fn nth(&self, home: &Home, nth: u32) -> Result<Option<(u32, Chunk)>> {
        if nth >= self.head.chunks {
            return Ok(None);
        }
        let start = match nth.checked_sub(1) {
            None => 0,
            Some(before) => self.end_of(home, before)?,
        };
        let mut bytes = [0; ENTRY_LEN];
        home.named("read", &self.path, self.file.read_at(&mut bytes, Head::entry_place(nth)))?;
        Ok(Some((nth, Chunk { entry: self.decode(home, nth, start, &bytes)?, start })))
    }

    /// Where chunk `nth` ends.
    fn end_of(&self, home: &Home, nth: u32) -> Result<u64> {
        let mut bytes = [0; ENTRY_LEN];
        home.named("read", &self.path, self.file.read_at(&mut bytes, Head::entry_place(nth)))?;
        let entry = super::Entry::decode(&self.head.cid, nth, &bytes);
        let wrong = || wrong(home, &self.path, format!("entry {nth} with its checksum"), "other bytes");
        Ok(entry.ok_or_else(wrong)?.end)
    }

    fn node(&self, home: &Home, nth: u64) -> Result<Node> {
        let mut node = [0; NODE_LEN];
        home.named("read", &self.path, self.file.read_at(&mut node, self.head.node_place(nth)))?;
        Ok(node)
    }
}

/// Takes a part of what is written to it.
struct Window<'a> {
    offset: u64,
    to: &'a mut [u8],
    at: u64,
    filled: usize,
}

impl io::Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skip = usize::try_from(self.offset.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let from = bytes.get(skip..).unwrap_or_default();
        let to = self.to.get_mut(self.filled..).unwrap_or_default();
        let len = from.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        (self.at, self.filled) = (self.at + bytes.len() as u64, self.filled + len);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks like a file that holds the object in one piece. Each read is verified.
struct ChunkedFile {
    store: Store,
    cid: Cid,
    len: u64,
}

impl StorageFile for ChunkedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.store.read_range(&self.cid, offset, buf).map_err(io::Error::other)?;
        read.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}

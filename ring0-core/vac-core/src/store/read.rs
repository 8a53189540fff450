//! Reading objects back. Every byte that is given out was hashed.
//!
//! A mismatch is not reported at once: another process may have collected the pack since this one
//! looked, or another pack may hold a good copy. Only when all of that fails is it `Corrupt`.

use std::io;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, Corrupt, HostAbort, Result};
use crate::limits::STORE_CHUNK_BYTES;
use crate::storage::{OpenMode, StorageFile};

use super::Store;
use super::catalog::View;
use super::home::Home;
use super::index::{Location, Standing};
use super::state::Source;

/// Where an object is.
enum Place {
    Packed(Source),
    Large(Box<dyn StorageFile>),
}

impl Store {
    /// The object `cid`, or `None` if it is not here. Its bytes were hashed: a mismatch is
    /// `Corrupt` and names the file, the place in it, and both CIDs.
    pub fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        match self.find(cid)? {
            None => Ok(None),
            Some(Place::Large(file)) => self.read_large(cid, &*file).map(Some),
            Some(Place::Packed(source)) => self.read_packed(cid, source),
        }
    }

    /// Whether the object `cid` is here and its bytes are what they should be: [`Self::get`] without
    /// the bytes.
    pub fn is_whole(&self, cid: &Cid) -> Result<bool> {
        match self.find(cid)? {
            None => Ok(false),
            Some(Place::Large(file)) => self.hash_large(cid, &*file, &mut io::sink()).map(|_| true),
            Some(Place::Packed(source)) => Ok(self.read_packed(cid, source)?.is_some()),
        }
    }

    /// Writes the object `cid` to `to` and returns its length, in constant memory. A large
    /// object is read twice: it is hashed whole before the first byte is written, and again while
    /// it is written, so `to` gets nothing of an object that is corrupt.
    pub fn get_stream(&self, cid: &Cid, to: &mut dyn io::Write) -> Result<Option<u64>> {
        match self.find(cid)? {
            None => Ok(None),
            Some(Place::Large(file)) => {
                self.hash_large(cid, &*file, &mut io::sink())?;
                self.hash_large(cid, &*file, to).map(Some)
            }
            Some(Place::Packed(source)) => {
                let Some(bytes) = self.read_packed(cid, source)? else { return Ok(None) };
                to.write_all(&bytes).map_err(|err| HostAbort::io("write", "the output", &err))?;
                Ok(Some(bytes.len() as u64))
            }
        }
    }

    /// The length of the object `cid` in bytes, without reading it.
    pub fn len_of(&self, cid: &Cid) -> Result<Option<u64>> {
        Ok(match self.find(cid)? {
            None => None,
            Some(Place::Packed(Source::File(_, at) | Source::Buffer(_, at))) => Some(at.len.into()),
            Some(Place::Large(file)) => {
                let path = self.home.large(cid);
                Some(self.home.named("read", &path, file.len())?)
            }
        })
    }

    /// Whether the object `cid` is here. It is not read.
    pub fn contains(&self, cid: &Cid) -> Result<bool> {
        Ok(self.find(cid)?.is_some())
    }

    fn find(&self, cid: &Cid) -> Result<Option<Place>> {
        {
            let mut state = self.state();
            state.load(&self.home)?;
            if let Some(source) = state.locate(&self.home, cid)? {
                return Ok(Some(Place::Packed(source)));
            }
        }
        if let Some(file) = self.home.try_open(&self.home.large(cid), OpenMode::Read)? {
            return Ok(Some(Place::Large(file)));
        }
        let mut state = self.state();
        state.refresh(&self.home)?;
        Ok(state.locate(&self.home, cid)?.map(Place::Packed))
    }

    fn read_packed(&self, cid: &Cid, source: Source) -> Result<Option<Vec<u8>>> {
        if let Ok(bytes) = read_source(&self.home, cid, source)? {
            return Ok(Some(bytes));
        }
        let mut state = self.state();
        state.reload(&self.home)?;
        // It was never committed, or it was collected.
        let Some(source) = state.locate(&self.home, cid)? else { return Ok(None) };
        let (Source::File(_, tried) | Source::Buffer(_, tried)) = source;
        let got = match read_source(&self.home, cid, source)? {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(got) => got,
        };
        if let Some((location, bytes)) = good_copy(&self.home, cid, &tried)? {
            state.catalog.index.mark_bad(tried.place());
            state.catalog.index.repoint(*cid, location);
            return Ok(Some(bytes));
        }
        state.catalog.index.mark_bad(tried.place());
        Err(corrupt_packed(&self.home, cid, tried.pack, tried.body(), &got).into())
    }

    fn read_large(&self, cid: &Cid, file: &dyn StorageFile) -> Result<Vec<u8>> {
        let path = self.home.large(cid);
        let len = self.home.named("read", &path, file.len())?;
        let mut bytes = Vec::new();
        let fits = usize::try_from(len).is_ok_and(|len| bytes.try_reserve_exact(len).is_ok());
        if !fits {
            let message = format!("no memory for the {len} bytes of `{}`", self.home.show(&path));
            return Err(HostAbort::new(AbortKind::Machine, message).into());
        }
        self.hash_large(cid, file, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies a large object to `to`, and fails in the end if it was not `cid`.
    pub(super) fn hash_large(
        &self,
        cid: &Cid,
        file: &dyn StorageFile,
        to: &mut dyn io::Write,
    ) -> Result<u64> {
        let path = self.home.large(cid);
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; STORE_CHUNK_BYTES];
        let mut at = 0;
        loop {
            let read = self.home.named("read", &path, file.read_at(&mut chunk, at))?;
            let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else { break };
            hasher.update(part);
            to.write_all(part).map_err(|err| HostAbort::io("write", "the output", &err))?;
            at += read as u64;
        }
        let got = Cid::new(cid.codec(), *hasher.finalize().as_bytes());
        if got == *cid {
            return Ok(at);
        }
        self.state().bad_large.insert(*cid);
        Err(Corrupt::new("object", format!("`{}`", self.home.show(&path)), cid, got).into())
    }
}

/// The error for a packed object that does not match.
pub(super) fn corrupt_packed(home: &Home, cid: &Cid, pack: u32, body: u64, got: &Cid) -> Corrupt {
    let place = format!("`{}` at byte {body}", home.show(&home.pack(pack)));
    Corrupt::new("object", place, cid, got)
}

/// The object's bytes, or what they hash to instead.
fn read_source(home: &Home, cid: &Cid, source: Source) -> Result<Result<Vec<u8>, Cid>> {
    let bytes = match source {
        Source::Buffer(bytes, _) => bytes,
        Source::File(file, at) => read_body(home, &*file, &at)?,
    };
    let got = Cid::of(cid.codec(), &bytes);
    Ok(if got == *cid { Ok(bytes) } else { Err(got) })
}

/// The bytes at `location`; fewer if the pack ends before.
pub(super) fn read_body(home: &Home, file: &dyn StorageFile, location: &Location) -> Result<Vec<u8>> {
    let mut bytes = vec![0; location.len as usize];
    let path = home.pack(location.pack);
    let read = home.named("read", &path, file.read_at(&mut bytes, location.body()))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Looks through every pack for a whole copy of `cid` elsewhere than at `tried`.
pub(super) fn good_copy(home: &Home, cid: &Cid, tried: &Location) -> Result<Option<(Location, Vec<u8>)>> {
    for pack in home.pack_numbers(".pack")? {
        let Some(file) = home.try_open(&home.pack(pack), OpenMode::Read)? else { continue };
        let file: Arc<dyn StorageFile> = Arc::from(file);
        let view = View::read(home, pack, &*file)?;
        let indexed = view.indexed.iter().map(|entry| (entry, Standing::Durable));
        let scanned = view.scanned.iter().map(|found| (&found.entry, Standing::Unsure));
        for (entry, standing) in indexed.chain(scanned).filter(|(entry, _)| entry.cid == Some(*cid)) {
            let location = Location { pack, start: entry.start, len: entry.len, standing };
            if location.place() == tried.place() {
                continue;
            }
            if let Ok(bytes) = read_source(home, cid, Source::File(Arc::clone(&file), location))? {
                return Ok(Some((location, bytes)));
            }
        }
    }
    Ok(None)
}

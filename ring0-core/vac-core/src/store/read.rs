//! Reading objects back. Every byte that is given out was hashed.
//!
//! A mismatch is not reported at once: another process may have collected the pack since this one
//! looked, or another pack may hold a good copy. Only when all of that fails is it `Corrupt`.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, Corrupt, Error, HostAbort, Result};
use crate::limits::STORE_CHUNK_BYTES;
use crate::storage::{OpenMode, StorageFile};

use super::Store;
use super::body::{Body, Instead};
use super::catalog::View;
use super::chunks::List;
use super::compress::{self, OWN_LEN_BYTES};
use super::home::Home;
use super::index::{Location, Standing};
use super::state::Source;

/// Where an object is.
pub(super) enum Place {
    Packed(Source),
    Large(Box<dyn StorageFile>),
    Chunked(List),
}

impl Store {
    /// The object `cid`, or `None` if it is not here. Its bytes were hashed: a mismatch is
    /// `Corrupt` and names the file, the place in it, and both CIDs.
    pub fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        match self.find(cid)? {
            None => Ok(None),
            Some(Place::Packed(source)) => self.read_packed(cid, source),
            Some(large) => self.either(cid, large, |place| self.read_large(cid, place)),
        }
    }

    /// Whether the object `cid` is here and its bytes are what they should be: [`Self::get`] without
    /// the bytes.
    pub fn is_whole(&self, cid: &Cid) -> Result<bool> {
        match self.find(cid)? {
            None => Ok(false),
            Some(Place::Packed(source)) => Ok(self.read_packed(cid, source)?.is_some()),
            Some(large) => Ok(self.verify_large(cid, large)?.is_some()),
        }
    }

    /// Writes the object `cid` to `to` and returns its length, in constant memory. A large
    /// object is read twice: it is hashed whole before the first byte is written, and again while
    /// it is written, so `to` gets nothing of an object that is corrupt.
    pub fn get_stream(&self, cid: &Cid, to: &mut dyn io::Write) -> Result<Option<u64>> {
        match self.find(cid)? {
            Some(large @ (Place::Large(_) | Place::Chunked(_))) => {
                if self.verify_large(cid, large)?.is_none() {
                    return Ok(None);
                }
            }
            None | Some(Place::Packed(_)) => {}
        }
        self.get_stream_once(cid, to)
    }

    /// [`Self::get_stream`], but what `to` got is only good if this is.
    pub(super) fn get_stream_once(&self, cid: &Cid, to: &mut dyn io::Write) -> Result<Option<u64>> {
        match self.find(cid)? {
            None => Ok(None),
            Some(Place::Packed(source)) => {
                let Some(bytes) = self.read_packed(cid, source)? else { return Ok(None) };
                to.write_all(&bytes).map_err(|err| HostAbort::io("write", "the output", &err))?;
                Ok(Some(bytes.len() as u64))
            }
            Some(large) => self.copy_large(cid, &large, to),
        }
    }

    /// The length of the object `cid` in bytes, without reading it. Of a compressed one it is in its first bytes, and is not
    /// verified.
    pub fn len_of(&self, cid: &Cid) -> Result<Option<u64>> {
        self.find(cid)?.map(|place| self.len_at(cid, &place)).transpose()
    }

    fn len_at(&self, cid: &Cid, place: &Place) -> Result<u64> {
        match place {
            Place::Packed(source) => self.own_len(cid, source),
            Place::Large(file) => self.home.named("read", &self.home.large(cid), file.len()),
            Place::Chunked(list) => Ok(list.len()),
        }
    }

    /// The length of a packed object. One that was compressed says it in its first bytes.
    fn own_len(&self, cid: &Cid, source: &Source) -> Result<u64> {
        let (Source::File(_, at) | Source::Buffer(_, at)) = source;
        if !at.body.is_compressed() {
            return Ok(at.body.len().into());
        }
        let mut start = [0; OWN_LEN_BYTES];
        let own = match source {
            Source::Buffer(stored, _) => compress::own_len(stored),
            Source::File(file, _) => {
                let path = self.home.pack(at.pack);
                let read = self.home.named("read", &path, file.read_at(&mut start, at.body_start()))?;
                compress::own_len(start.get(..read).unwrap_or_default())
            }
        };
        let place = || format!("`{}` at byte {}", self.home.show(&self.home.pack(at.pack)), at.body_start());
        let bad = || Corrupt::new("object", place(), format!("{cid}, and its length"), "other bytes");
        match own {
            Some(own) => Ok(own as u64),
            // It rotted: then the object is read, which knows what to do about that.
            None => Ok(self.get_packed(cid)?.ok_or_else(bad)?.len() as u64),
        }
    }

    /// The length of an object in a list.
    pub(super) fn listed_len(&self, cid: &Cid, body: Body) -> u64 {
        let own = if body.is_compressed() { self.len_of(cid).ok().flatten() } else { None };
        own.unwrap_or(body.len().into())
    }

    /// Whether the object `cid` is here. It is not read.
    pub fn contains(&self, cid: &Cid) -> Result<bool> {
        Ok(self.find(cid)?.is_some())
    }

    pub(super) fn find(&self, cid: &Cid) -> Result<Option<Place>> {
        if let Some(source) = self.find_known(cid)? {
            return Ok(Some(Place::Packed(source)));
        }
        if let Some(large) = self.find_large(cid)? {
            return Ok(Some(large));
        }
        Ok(self.find_new(cid)?.map(Place::Packed))
    }

    /// The object `cid` if it is in a pack.
    pub(super) fn get_packed(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        let source = match self.find_known(cid)? {
            None => self.find_new(cid)?,
            known => known,
        };
        source.map_or(Ok(None), |source| self.read_packed(cid, source))
    }

    fn find_known(&self, cid: &Cid) -> Result<Option<Source>> {
        self.write_first_index()?;
        let mut state = self.state();
        state.load(&self.home)?;
        state.locate(&self.home, cid)
    }

    fn find_new(&self, cid: &Cid) -> Result<Option<Source>> {
        let mut state = self.state();
        state.refresh(&self.home)?;
        state.locate(&self.home, cid)
    }

    /// The form of a large object that is not known to be corrupt: in one piece, or else in chunks.
    pub(super) fn find_large(&self, cid: &Cid) -> Result<Option<Place>> {
        let is_bad = self.state().bad_large.contains(cid);
        let file = self.home.try_open(&self.home.large(cid), OpenMode::Read)?;
        if let (Some(_), false) = (&file, is_bad) {
            return Ok(file.map(Place::Large));
        }
        match (List::open(&self.home, cid), file) {
            (Ok(Some(list)), _) => Ok(Some(Place::Chunked(list))),
            (Ok(None) | Err(Error::Corrupt(_)), Some(file)) => Ok(Some(Place::Large(file))),
            (Ok(None), None) => Ok(None),
            (Err(why), _) => Err(why),
        }
    }

    /// Does `read` to a large object, and to its other form if this one turns out to be corrupt.
    fn either<T>(
        &self,
        cid: &Cid,
        place: Place,
        read: impl Fn(&Place) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let done = read(&place);
        if !matches!(done, Ok(None) | Err(Error::Corrupt(_))) {
            return done;
        }
        match (place, self.find_large(cid)) {
            (Place::Large(_), Ok(Some(other @ Place::Chunked(_)))) => read(&other),
            // A scrub may have removed the list since it was opened, for it was bad.
            (Place::Chunked(_), Ok(Some(other @ Place::Large(_)))) => read(&other),
            _ => done,
        }
    }

    /// Hashes a large object, and returns its length.
    fn verify_large(&self, cid: &Cid, place: Place) -> Result<Option<u64>> {
        self.either(cid, place, |place| self.copy_large(cid, place, &mut io::sink()))
    }

    fn copy_large(&self, cid: &Cid, place: &Place, to: &mut dyn io::Write) -> Result<Option<u64>> {
        match place {
            Place::Packed(_) => Ok(None),
            Place::Large(file) => self.hash_large(cid, &**file, to).map(Some),
            Place::Chunked(list) => self.copy_list(list, to),
        }
    }

    fn read_packed(&self, cid: &Cid, source: Source) -> Result<Option<Vec<u8>>> {
        // What cannot be read is as good as wrong: it may have moved, and there may be another copy.
        if let Ok(Ok(bytes)) = read_source(&self.home, cid, source) {
            return Ok(Some(bytes));
        }
        let mut state = self.state();
        state.reload(&self.home)?;
        // It was never committed, or it was collected.
        let Some(source) = state.locate(&self.home, cid)? else { return Ok(None) };
        let (Source::File(_, tried) | Source::Buffer(_, tried)) = source;
        let why = match read_source(&self.home, cid, source) {
            Ok(Ok(bytes)) => return Ok(Some(bytes)),
            Ok(Err(got)) => corrupt_packed(&self.home, cid, tried.pack, tried.body_start(), &got).into(),
            Err(why) => why,
        };
        // Before the search, which may fail.
        state.catalog.index.mark_bad(tried.place());
        if let Some((location, bytes)) = good_copy(&self.home, cid, &tried)? {
            state.catalog.index.repoint(*cid, location);
            return Ok(Some(bytes));
        }
        Err(why)
    }

    fn read_large(&self, cid: &Cid, place: &Place) -> Result<Option<Vec<u8>>> {
        let len = self.len_at(cid, place)?;
        let mut bytes = Vec::new();
        let fits = usize::try_from(len).is_ok_and(|len| bytes.try_reserve_exact(len).is_ok());
        if !fits {
            return Err(HostAbort::new(
                AbortKind::Machine,
                format!("no memory for the {len} bytes of `{cid}`"),
            )
            .into());
        }
        Ok(self.copy_large(cid, place, &mut bytes)?.map(|_| bytes))
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
pub(super) fn corrupt_packed(home: &Home, cid: &Cid, pack: u32, body: u64, got: &Instead) -> Corrupt {
    let place = format!("`{}` at byte {body}", home.show(&home.pack(pack)));
    Corrupt::new("object", place, cid, got)
}

/// The object's bytes, or what is there instead.
fn read_source(home: &Home, cid: &Cid, source: Source) -> Result<Result<Vec<u8>, Instead>> {
    let (body, stored) = match source {
        Source::Buffer(stored, at) => (at.body, stored),
        Source::File(file, at) => (at.body, read_body(home, &*file, &at)?),
    };
    Ok(body.object(cid, Cow::Owned(stored)).map(Cow::into_owned))
}

/// The body at `location`, as it is stored; fewer bytes if the pack ends before.
pub(super) fn read_body(home: &Home, file: &dyn StorageFile, location: &Location) -> Result<Vec<u8>> {
    let mut bytes = vec![0; location.body.len() as usize];
    let path = home.pack(location.pack);
    let read = home.named("read", &path, file.read_at(&mut bytes, location.body_start()))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Looks through every pack for a whole copy of `cid` elsewhere than at `tried`. What cannot be read has none: why the
/// object is asked for here is what the caller reports.
pub(super) fn good_copy(home: &Home, cid: &Cid, tried: &Location) -> Result<Option<(Location, Vec<u8>)>> {
    for pack in home.pack_numbers(".pack")? {
        let Ok(Some(file)) = home.try_open(&home.pack(pack), OpenMode::Read) else { continue };
        let file: Arc<dyn StorageFile> = Arc::from(file);
        let Ok((view, _)) = View::read_most(home, pack, &*file) else { continue };
        let indexed = view.indexed.iter().map(|entry| (entry, Standing::Durable));
        let scanned = view.scanned.iter().map(|found| (&found.entry, Standing::Unsure));
        for (entry, standing) in indexed.chain(scanned) {
            let Some((_, body)) = entry.object().filter(|(found, _)| found == cid) else { continue };
            let location = Location { pack, start: entry.start, body, standing };
            if location.place() == tried.place() {
                continue;
            }
            if let Ok(Ok(bytes)) = read_source(home, cid, Source::File(Arc::clone(&file), location)) {
                return Ok(Some((location, bytes)));
            }
        }
    }
    Ok(None)
}

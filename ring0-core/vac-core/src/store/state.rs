//! What a [`Store`](super::Store) guards with its lock.
//!
//! Invariants: after a failed write or sync nothing is written any more, and what had not been
//! committed is forgotten, for nobody knows whether it is on the disk; an object whose standing is
//! [`Standing::Mine`] is in the writer's pack and in one batch, taken or still pending.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, Error, HostAbort, Result, Usage};
use crate::storage::{Lock, LockMode, StorageFile};

use super::body::Body;
use super::catalog::{Catalog, Pending};
use super::claims::Claims;
use super::home::Home;
use super::index::{Location, Standing};
use super::runs::Published;
use super::settings::Settings;
use super::writer::{Batch, Writer};

/// Whether an object found a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    Done,
    /// The pack is full: commit, then [`State::retire_writer`], then try again.
    PackIsFull,
}

/// Where the bytes of a packed object are.
pub(super) enum Source {
    File(Arc<dyn StorageFile>, Location),
    /// Not written yet.
    Buffer(Vec<u8>, Location),
}

#[derive(Default)]
pub(super) struct State {
    pub(super) catalog: Catalog,
    pub(super) writer: Option<Writer>,
    /// `store/lock`. A reader never has it, and a writer lacks it if a collector was quicker.
    pub(super) lock: Option<Box<dyn Lock>>,
    pub(super) is_read_only: bool,
    /// Why nothing may be written any more.
    pub(super) poison: Option<String>,
    /// Large objects whose bytes were read and did not match.
    pub(super) bad_large: BTreeSet<Cid>,
    /// The same of objects in chunks.
    pub(super) bad_lists: BTreeSet<Cid>,
    /// What a collection must leave to this store. None before the first write.
    pub(super) claims: Option<Claims>,
    /// Read before the first write.
    pub(super) settings: Option<Settings>,
    /// Whether this store collects: then what it puts goes to new packs, for old ones are what it collects.
    pub(super) is_collecting: bool,
    /// The sweep after which the catalog was read.
    pub(super) sweep: u64,
}

impl State {
    /// The pack this store writes to.
    pub(super) fn own(&self) -> Option<u32> {
        self.writer.as_ref().map(|writer| writer.number)
    }

    pub(super) fn load(&mut self, home: &Home) -> Result<()> {
        let own = self.own();
        self.catalog.load(home, own)
    }

    pub(super) fn refresh(&mut self, home: &Home) -> Result<()> {
        let own = self.own();
        self.catalog.refresh(home, own)
    }

    /// Reads everything again, as if the store had just been opened.
    pub(super) fn reload(&mut self, home: &Home) -> Result<()> {
        let own = self.own();
        self.catalog.forget(own);
        self.catalog.refresh(home, own)
    }

    /// Fails unless objects can be added.
    pub(super) fn check_writable(&mut self, home: &Home) -> Result<()> {
        self.check_poison(home)?;
        if self.is_read_only {
            let message = format!("cannot write to `{}`: it was opened to be read", home.show(&home.dir));
            return Err(Usage::new(message).into());
        }
        if self.lock.is_none() {
            self.set_lock(Some(home.lock(LockMode::Shared)?));
        }
        if self.claims.is_none() {
            let claims = Claims::acquire(home)?;
            self.sweep = claims.sweep(home)?;
            self.claims = Some(claims);
            // Before that, a collector may have removed what is remembered.
            let own = self.own();
            self.catalog.forget(own);
        }
        Ok(())
    }

    /// Has `store/lock` or loses it.
    pub(super) fn set_lock(&mut self, lock: Option<Box<dyn Lock>>) {
        // The old one must go first, for the new one may exclude it.
        self.lock = None;
        self.lock = lock;
        self.catalog.may_publish = self.lock.is_some() && self.poison.is_none();
    }

    pub(super) fn check_poison(&self, home: &Home) -> Result<()> {
        let Some(why) = &self.poison else { return Ok(()) };
        let dir = home.show(&home.dir);
        let message = format!("cannot write to `{dir}` any more, because a write to it failed: {why}");
        let hint = "what was committed is safe; check the disk, then run the command again";
        Err(HostAbort::new(AbortKind::Machine, message).hint(hint).into())
    }

    /// Ends all writing. The first reason is kept.
    pub(super) fn poison(&mut self, why: &Error) {
        self.poison.get_or_insert_with(|| why.to_string());
        self.catalog.may_publish = false;
        self.writer = None;
        self.catalog.forget(None);
    }

    /// Keeps an object that is here from a collection, for as long as this store is open.
    pub(super) fn claim(&mut self, home: &Home, cid: &Cid) -> Result<()> {
        self.claims.as_mut().map_or(Ok(()), |claims| claims.object(home, cid))
    }

    /// How objects are written.
    pub(super) fn settings(&mut self, home: &Home) -> Settings {
        *self.settings.get_or_insert_with(|| Settings::read(home))
    }

    /// Whether a small object that is to be put is there and whole. Then it is kept for this store.
    pub(super) fn has(&mut self, home: &Home, cid: &Cid) -> Result<bool> {
        self.check_writable(home)?;
        self.load(home)?;
        self.keep(home, cid)
    }

    /// Adds a small object, whose body is `stored`, unless it is there and whole.
    pub(super) fn add(&mut self, home: &Home, cid: Cid, body: Body, stored: &[u8]) -> Result<Added> {
        if self.has(home, &cid)? {
            return Ok(Added::Done);
        }
        if self.writer.is_none() {
            let writer = match self.is_collecting {
                true => Writer::create(home, &mut self.catalog)?,
                false => Writer::acquire(home, &mut self.catalog)?,
            };
            if let Some(claims) = &mut self.claims {
                claims.pack(home, writer.number)?;
            }
            self.writer = Some(writer);
            // Taking over a pack may have settled the very object.
            if self.keep(home, &cid)? {
                return Ok(Added::Done);
            }
        }
        self.push(home, cid, body, stored)
    }

    /// Whether `cid` need not be written again; then it is kept for this store.
    fn keep(&mut self, home: &Home, cid: &Cid) -> Result<bool> {
        loop {
            let Some(at) = self.get(home, cid)?.filter(|at| self.catalog.index.is_settled(at)) else {
                return Ok(false);
            };
            let Some(claims) =
                self.claims.as_mut().filter(|_| self.writer.as_ref().map(|w| w.number) != Some(at.pack))
            else {
                return Ok(true);
            };
            // In this order: see `claims`.
            claims.object(home, cid)?;
            let sweep = claims.sweep(home)?;
            let is_running = sweep % 2 == 1 && home.try_collector(LockMode::Shared)?.is_none();
            if is_running {
                return Ok(false);
            }
            if sweep == self.sweep {
                return Ok(true);
            }
            // What is remembered may be gone.
            self.sweep = sweep;
            self.reload(home)?;
        }
    }

    fn get(&mut self, home: &Home, cid: &Cid) -> Result<Option<Location>> {
        let own = self.own();
        self.catalog.get(home, own, cid)
    }

    /// Whether so much waits for a commit that the store makes one itself.
    pub(super) fn wants_commit(&self, home: &Home) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.pending_len() >= home.tuning.pending_max)
    }

    /// Adds a small object to the writer's pack.
    pub(super) fn push(&mut self, home: &Home, cid: Cid, body: Body, stored: &[u8]) -> Result<Added> {
        let Some(writer) = &self.writer else { return Ok(Added::PackIsFull) };
        if writer.is_full(home) {
            return Ok(Added::PackIsFull);
        }
        if writer.wants_flush(home) {
            self.flush(home)?;
        }
        if let Some(writer) = &mut self.writer {
            let entry = writer.push(cid, body, stored);
            let at = Location { pack: writer.number, start: entry.start, body, standing: Standing::Mine };
            // Also when there is another place, which a collection is about to remove.
            self.catalog.index.repoint(cid, at);
        }
        Ok(Added::Done)
    }

    /// Writes the buffer. A full disk leaves it for another try; any other failure is final.
    fn flush(&mut self, home: &Home) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let path = home.pack(writer.number);
        let Err(err) = writer.flush(home) else { return Ok(()) };
        let is_full = matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let failed = home.named("write", &path, Err(err));
        if let (false, Err(why)) = (is_full, &failed) {
            self.poison(why);
        }
        failed
    }

    /// What a commit must sync now, or `None` if nothing is new.
    pub(super) fn begin_commit(&mut self, home: &Home) -> Result<Option<Batch>> {
        self.check_poison(home)?;
        if !self.writer.as_ref().is_some_and(Writer::has_pending) {
            return Ok(None);
        }
        self.flush(home)?;
        Ok(self.writer.as_mut().map(Writer::take_batch))
    }

    /// Notes how the sync of `batch` ended.
    pub(super) fn end_commit(&mut self, home: &Home, batch: &Batch, synced: Result<()>) -> Result<()> {
        if let Err(why) = synced {
            self.poison(&why);
            return Err(why);
        }
        // A flush may have failed meanwhile, which ended this writer.
        self.check_poison(home)?;
        if let Some(writer) = &mut self.writer {
            writer.settle_batch(batch, &mut self.catalog);
        }
        Ok(())
    }

    /// Notes how an addition to the index on disk ended, after the commit that it follows succeeded.
    pub(super) fn end_publish(&mut self, home: &Home, pending: &Pending, published: Result<Published>) {
        let own = self.own();
        if let Err(why) = self.catalog.end_publish(home, own, pending, published) {
            self.poison(&why);
        }
    }

    /// Gives a full pack back after its last commit.
    pub(super) fn retire_writer(&mut self, home: &Home) {
        if self.writer.as_ref().is_some_and(|writer| writer.is_full(home) && !writer.has_pending()) {
            self.release_writer();
        }
    }

    /// Gives the pack back. Everything in it must have been committed.
    pub(super) fn release_writer(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            debug_assert!(!writer.has_pending());
            writer.sync_idx();
            writer.release(&mut self.catalog);
        }
    }

    /// [`Self::locate`], if that place is not known to be bad.
    pub(super) fn locate_good(&mut self, home: &Home, cid: &Cid) -> Result<Option<Location>> {
        let at = self.locate(home, cid)?.map(|source| match source {
            Source::File(_, at) | Source::Buffer(_, at) => at,
        });
        Ok(at.filter(|at| !self.catalog.index.is_bad(at)))
    }

    /// Where `cid` is among the packs, as far as is known.
    pub(super) fn locate(&mut self, home: &Home, cid: &Cid) -> Result<Option<Source>> {
        let Some(location) = self.get(home, cid)? else { return Ok(None) };
        let own = self.writer.as_ref().filter(|writer| writer.number == location.pack);
        if let Some(bytes) = own.and_then(|writer| writer.buffered(&location)) {
            return Ok(Some(Source::Buffer(bytes.to_vec(), location)));
        }
        if let Some(file) = self.catalog.file(home, location.pack)? {
            return Ok(Some(Source::File(file, location)));
        }
        // A collector in another process moved it.
        self.reload(home)?;
        let Some(location) = self.get(home, cid)? else { return Ok(None) };
        let file = self.catalog.file(home, location.pack)?;
        Ok(file.map(|file| Source::File(file, location)))
    }
}

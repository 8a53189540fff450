//! Pages from a tier, many at once: by a thread that does nothing else, or by the caller.
//!
//! ```text
//! pager -> give: CIDs and empty buffers -> thread: locate -> io-uring | threads -> hashed -> finish -> wait -> pager
//!                                                  \-> not in a file, or bad -> the tier ------/
//! ```
//!
//! Which of the ways a page comes is up to the machine, and seen in nothing but time. A buffer that is given out has
//! no bytes of its page until it was hashed.

mod direct;
mod handover;
mod read;
mod sync;
#[cfg(test)]
mod tests;
#[cfg(target_os = "linux")]
mod uring;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, HostAbort, Result};

use super::buffer::Buffer;
use super::tier::{Spot, Tier, wrong_len};
use direct::Aligned;
pub use direct::Direct;
use handover::Handover;
use read::{BatchRead, Caller, Job, Threads, read_at};

/// How pages of a batch are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// By a thread through io-uring, or where the system does not let us, through more threads.
    #[default]
    Auto,
    /// By a thread through io-uring. Making the pager fails where the system does not let us.
    Uring,
    /// By a thread through more threads.
    Threads,
    /// By the caller, one after another: no thread is started.
    Caller,
}

impl Io {
    /// A reader for buffers of `page_len` bytes.
    fn reader(self, page_len: usize) -> Result<Box<dyn BatchRead>> {
        match self {
            Self::Caller => Ok(Box::new(Caller::default())),
            Self::Threads => Ok(Box::new(Threads::start())),
            Self::Auto => Ok(uring(page_len).unwrap_or_else(|_| Box::new(Threads::start()))),
            Self::Uring => uring(page_len).map_err(|why| {
                let message = format!("the system gives no io-uring: {why}");
                HostAbort::new(AbortKind::Machine, message).into()
            }),
        }
    }
}

#[cfg(target_os = "linux")]
fn uring(page_len: usize) -> std::io::Result<Box<dyn BatchRead>> {
    Ok(Box::new(uring::Uring::new(page_len)?))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: usize) -> std::io::Result<Box<dyn BatchRead>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Bytes that pages of `page_len` are read through, at most: a buffer for each read that is under way, and the caller's.
pub(super) fn buffers_bytes(page_len: usize) -> usize {
    (read::DEPTH + 1) * Aligned::bytes_for_pages(page_len)
}

/// A page that is wanted, with the buffer for it.
pub(super) struct Want {
    pub(super) cid: Cid,
    pub(super) to: Buffer,
}

/// What came: the buffer, and whether it holds the page.
pub(super) struct Came {
    pub(super) to: Buffer,
    pub(super) found: Result<bool>,
}

/// Fetches pages of one tier.
pub(super) struct Fetcher {
    tier: Arc<dyn Tier>,
    page_len: usize,
    io: Io,
    direct: Direct,
    /// What the caller reads into around the system's cache.
    buffer: Option<Aligned>,
    thread: Option<Thread>,
    /// What the caller read himself.
    done: BTreeMap<u64, Came>,
    next: u64,
    /// Batches so far.
    pub(super) batches: u64,
}

struct Thread {
    shared: Arc<Handover<Want, Came>>,
    handle: Option<std::thread::JoinHandle<()>>,
    reader: &'static str,
}

impl Fetcher {
    /// Nothing is started until there is something to fetch.
    pub(super) fn new(tier: Arc<dyn Tier>, page_len: usize, io: Io, direct: Direct) -> Result<Self> {
        if io == Io::Uring {
            // Said now rather than at the first miss.
            io.reader(page_len)?;
        }
        let (thread, buffer, done) = (None, None, BTreeMap::new());
        Ok(Self { tier, page_len, io, direct, buffer, thread, done, next: 0, batches: 0 })
    }

    /// How pages are read: by what, if that was decided yet.
    pub(super) fn reader(&self) -> &'static str {
        self.thread.as_ref().map_or("caller", |thread| thread.reader)
    }

    /// Asks for pages. Each has a number, by which it is waited for.
    pub(super) fn give(&mut self, wants: Vec<Want>) -> Vec<u64> {
        self.batches += 1;
        let ids: Vec<u64> = wants.iter().map(|_| self.new_id()).collect();
        let jobs: Vec<(u64, Want)> = ids.iter().copied().zip(wants).collect();
        if self.io != Io::Caller && self.thread.is_none() {
            self.start();
        }
        match &self.thread {
            Some(thread) => thread.shared.give(jobs),
            None => {
                let done = &mut self.done;
                let finish = &mut |id, came| drop(done.insert(id, came));
                fetch(&*self.tier, self.direct, &mut Caller::default(), jobs, finish);
            }
        }
        ids
    }

    fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Reads one page, where it is called: handing it over would take longer. `false` if the tier does not have it.
    pub(super) fn read(&mut self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        if let Some(spot) = self.tier.locate(cid).filter(|spot| spot.len == to.len() as u64) {
            let is_direct = self.direct.is_better(&*spot.file, spot.offset, to.len());
            let read = read_at(&*spot.file, to, spot.offset, is_direct.then_some(&mut self.buffer));
            if read.is_ok_and(|read| read == to.len()) && Cid::of(cid.codec(), to) == *cid {
                return Ok(true);
            }
        }
        // It has no place, or there are other bytes: the tier knows what to do.
        self.tier.read_into(cid, to)
    }

    /// The page with this number, which was not waited for yet.
    pub(super) fn wait(&mut self, id: u64) -> Came {
        let came = match &self.thread {
            Some(thread) => self.done.remove(&id).or_else(|| thread.shared.wait(id)),
            None => self.done.remove(&id),
        };
        // The thread fell: the caller reads the page himself.
        came.unwrap_or_else(|| Came { to: Buffer::new(self.page_len), found: Ok(false) })
    }

    /// Starts the thread; where the system gives none, the caller reads.
    fn start(&mut self) {
        let Ok(mut reader) = self.io.reader(self.page_len) else {
            self.io = Io::Caller;
            return;
        };
        let (shared, tier, name) = (Arc::new(Handover::default()), Arc::clone(&self.tier), reader.name());
        let direct = self.direct;
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                let left = Leave(&shared);
                while let Some(jobs) = shared.take() {
                    fetch(&*tier, direct, &mut *reader, jobs, &mut |id, came| shared.finish(id, came));
                }
                drop(left);
            }
        };
        match std::thread::Builder::new().name("vac-pages".to_owned()).spawn(work) {
            Ok(handle) => self.thread = Some(Thread { shared, handle: Some(handle), reader: name }),
            Err(_) => self.io = Io::Caller,
        }
    }
}

/// Says so when the thread ends, also by a panic.
struct Leave<'a>(&'a Handover<Want, Came>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(handle) = self.handle.take() {
            // A panic of it was dealt with when somebody waited.
            let _ = handle.join();
        }
    }
}

/// Fetches what `jobs` want: from its place in a file if it has one, else from the tier.
fn fetch(
    tier: &dyn Tier,
    direct: Direct,
    reader: &mut dyn BatchRead,
    jobs: Vec<(u64, Want)>,
    finish: &mut dyn FnMut(u64, Came),
) {
    let rest = RefCell::new(Vec::new());
    // Looked up one by one, while the first of them are read already.
    let mut placed = jobs.into_iter().filter_map(|(id, Want { cid, to })| {
        match tier.locate(&cid).filter(|spot| spot.len == to.len() as u64) {
            Some(Spot { file, offset, .. }) => {
                let is_direct = direct.is_better(&*file, offset, to.len());
                Some(Job { id, cid, to, file, offset, is_direct })
            }
            None => {
                rest.borrow_mut().push((id, Want { cid, to }));
                None
            }
        }
    });
    reader.read(&mut placed, &mut |job, read| {
        let is_whole = read.is_ok_and(|read| read == job.to.len());
        if is_whole && Cid::of(job.cid.codec(), &job.to) == job.cid {
            finish(job.id, Came { to: job.to, found: Ok(true) });
        } else {
            // The place was out of date, or its bytes are bad: the tier knows what to do.
            rest.borrow_mut().push((job.id, Want { cid: job.cid, to: job.to }));
        }
    });
    drop(placed);
    fetch_from_tier(tier, rest.into_inner(), finish);
}

fn fetch_from_tier(tier: &dyn Tier, jobs: Vec<(u64, Want)>, finish: &mut dyn FnMut(u64, Came)) {
    if jobs.is_empty() {
        return;
    }
    let wanted: Vec<(Cid, usize)> = jobs.iter().map(|(_, want)| (want.cid, want.to.len())).collect();
    let mut got = tier.get_many(&wanted).into_iter();
    for (id, Want { cid, mut to }) in jobs {
        let found = got.next().unwrap_or(Ok(None)).and_then(|bytes| match bytes {
            None => Ok(false),
            Some(bytes) if bytes.len() == to.len() => {
                to.copy_from_slice(&bytes);
                Ok(true)
            }
            Some(bytes) => Err(wrong_len(&cid, format!("{} bytes", to.len()), bytes.len() as u64)),
        });
        finish(id, Came { to, found });
    }
}

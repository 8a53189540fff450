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
#[cfg(test)]
mod tests;
#[cfg(target_os = "linux")]
mod uring;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{AbortKind, HostAbort, Result};

use super::buffer::Buffer;
use super::tier::{Spot, Tier, wrong_len};
pub(super) use direct::ALIGN;
pub use direct::Direct;
use direct::{Aligned, Window, is_straight};
use handover::Handover;
use read::{BatchRead, Caller, Job, Threads, read_at};

/// Bytes of all buffers of reads that are under way, about: what an unprivileged process may lock is little, and of memory in one
/// piece all counts. Who may lock no more reads by threads.
const BUFFERS_MAX_BYTES: usize = 4 << 20;

/// Pages of files that the caller reads before a thread is started: making it, a ring and its buffers takes as long as reading these.
const ALONE_MAX: u64 = 64;

/// How pages of a batch are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// By a thread through io-uring, or where the system does not let us, through more threads; the first few by the caller.
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
    /// A reader of pages of `page_len` bytes, through these buffers if it is the one that wants them.
    fn reader(self, page_len: usize, buffers: Vec<Buffer>) -> Result<Box<dyn BatchRead>> {
        match self {
            Self::Caller => Ok(Box::new(Caller::default())),
            Self::Threads => Ok(Box::new(Threads::start())),
            Self::Auto => Ok(uring(page_len, buffers).unwrap_or_else(|_| Box::new(Threads::start()))),
            Self::Uring => uring(page_len, buffers).map_err(|why| {
                let message = format!("the system gives no io-uring: {why}");
                HostAbort::new(AbortKind::Machine, message).into()
            }),
        }
    }
}

#[cfg(target_os = "linux")]
fn uring(page_len: usize, buffers: Vec<Buffer>) -> std::io::Result<Box<dyn BatchRead>> {
    Ok(Box::new(uring::Uring::new(page_len, buffers)?))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: usize, _: Vec<Buffer>) -> std::io::Result<Box<dyn BatchRead>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Buffers that pages of `page_len` are read through: one for each read that is under way, and the caller's.
fn buffers(page_len: usize) -> Vec<Buffer> {
    Buffer::in_one_piece(buffers_count(page_len), Window::bytes_max(page_len), direct::ALIGN)
}

fn buffers_count(page_len: usize) -> usize {
    (BUFFERS_MAX_BYTES / page_len.max(1)).clamp(1, read::DEPTH) + 1
}

/// Bytes of these.
pub(super) fn buffers_bytes(page_len: usize) -> usize {
    Buffer::bytes_in_one_piece(buffers_count(page_len), Window::bytes_max(page_len))
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
    /// What the thread does, once the caller's was made with them.
    buffers: Vec<Buffer>,
    thread: Option<Thread>,
    /// What the caller read himself.
    done: BTreeMap<u64, Came>,
    next: u64,
    /// Pages so far.
    pages: u64,
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
            io.reader(page_len, buffers(page_len))?;
        }
        let (thread, buffer, buffers, done) = (None, None, Vec::new(), BTreeMap::new());
        Ok(Self { tier, page_len, io, direct, buffer, buffers, thread, done, next: 0, pages: 0, batches: 0 })
    }

    /// Makes all buffers, when the first is needed. Only a ring has some of its own.
    fn make_buffers(&mut self) {
        if self.buffer.is_some() {
            return;
        }
        self.buffer = match self.io {
            Io::Caller | Io::Threads => Some(Aligned::for_pages(self.page_len)),
            Io::Auto | Io::Uring => {
                self.buffers = buffers(self.page_len);
                self.buffers.pop().map(Aligned::of)
            }
        };
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
        self.pages += jobs.len() as u64;
        let are_few = self.io == Io::Auto && self.thread.is_none() && self.pages <= ALONE_MAX;
        let jobs = if are_few { self.read_placed(jobs) } else { jobs };
        // The tier may take its time.
        if !jobs.is_empty() && self.io != Io::Caller && self.thread.is_none() {
            self.start();
        }
        match &self.thread {
            Some(thread) => thread.shared.give(jobs),
            None => {
                let rest = if are_few { jobs } else { self.read_placed(jobs) };
                let done = &mut self.done;
                fetch_from_tier(&*self.tier, rest, &mut |id, came| drop(done.insert(id, came)));
            }
        }
        ids
    }

    /// Reads here what lies in files; the rest.
    fn read_placed(&mut self, jobs: Vec<(u64, Want)>) -> Vec<(u64, Want)> {
        let done = &mut self.done;
        let finish = &mut |id, came| drop(done.insert(id, came));
        fetch_placed(&*self.tier, self.direct, &mut Caller::default(), jobs, &mut Vec::new, finish)
    }

    fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Reads one page, where it is called: handing it over would take longer. `false` if the tier does not have it.
    pub(super) fn read(&mut self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        self.pages += 1;
        if let Some(spot) = self.tier.locate(cid).filter(|spot| spot.len == to.len() as u64) {
            let is_direct = self.direct.is_better(&*spot.file, spot.offset, to.len());
            if is_direct && !is_straight(to, spot.offset) {
                self.make_buffers();
            }
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
        self.make_buffers();
        let Ok(mut reader) = self.io.reader(self.page_len, std::mem::take(&mut self.buffers)) else {
            self.io = Io::Caller;
            return;
        };
        if self.io == Io::Auto && reader.name() != "io-uring" {
            // There was none for the buffers: the caller's must not keep all of them.
            (self.io, self.buffer) = (Io::Threads, None);
        }
        let (shared, tier, name) = (Arc::new(Handover::default()), Arc::clone(&self.tier), reader.name());
        let direct = self.direct;
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                let left = Leave(&shared);
                while let Some(jobs) = shared.take() {
                    let mut more = || shared.take_more().collect();
                    let finish = &mut |id, came| shared.finish(id, came);
                    let rest = fetch_placed(&*tier, direct, &mut *reader, jobs, &mut more, finish);
                    fetch_from_tier(&*tier, rest, finish);
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

/// Fetches what `jobs` want from its places in files; the rest, which the tier must be asked for. If all have places, so does it with
/// `more` of them, so that the disk is not left idle between one batch and the next; what the tier is asked for does not wait for that.
fn fetch_placed(
    tier: &dyn Tier,
    direct: Direct,
    reader: &mut dyn BatchRead,
    jobs: Vec<(u64, Want)>,
    more: &mut dyn FnMut() -> Vec<(u64, Want)>,
    finish: &mut dyn FnMut(u64, Came),
) -> Vec<(u64, Want)> {
    let rest = RefCell::new(Vec::new());
    let mut queue = VecDeque::from(jobs);
    let jobs = std::iter::from_fn(|| {
        if queue.is_empty() && rest.borrow().is_empty() {
            queue.extend(more());
        }
        queue.pop_front()
    });
    // Looked up one by one, while the first of them are read already.
    let mut placed = jobs.filter_map(|(id, Want { cid, to })| {
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
    rest.into_inner()
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

//! Writes what the journal hands over, in order: hashes long bodies, keeps them in the store, and appends the
//! entries to the ledger. None of that needs the guest to wait, so a thread does it beside the guest.
//!
//! What is handed over waits in a queue. Whoever holds the lock of the writing half writes all of it, in order:
//! the thread when there is enough to be worth waking it, whoever needs something that depends on all of it (an
//! effect, a group, the head), and the guest itself when the queue is full and the thread does not come. So
//! memory is bounded, and what must be written before something happens waits for no thread to be scheduled.
//!
//! Hashing is most of it. While the thread is behind, whoever hands something over hashes it first, so that both
//! work instead of one waiting for the other.
//!
//! Invariants:
//! - Entries are written in the order in which they were handed over, whoever writes them: the head does not
//!   depend on it.
//! - An object is in the store before the entry that names it is in the ledger.
//! - After a failure nothing is written any more, and everybody who hands something over or asks learns why.
//! - Locks are taken in this order: writing half, queue.

use std::mem;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, HostAbort, Result};
use vac_core::ledger::{Body, Entry, Head, Ledger, Return};
use vac_core::memory::Tier;
use vac_core::store::Store;
use vac_host::{Form, Response};

/// The queue is handed to the thread once it has this many bytes: a few parts of a file, or some hundred events.
const WAKE_BYTES: usize = 192 << 10;
/// Whoever hands over more than this waits. As much again may be being written; together it still fits into a
/// processor's own cache, so that what was read of a file is hashed from there.
const QUEUE_MAX_BYTES: usize = 512 << 10;
/// Whoever hands something over hashes it while as much as this waits: less than what would make it wait.
const HELP_BYTES: usize = 256 << 10;
/// After this long the thread is not waited for any more.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// What waits for a commit may take so much memory before the guest waits, too,
const GROUP_MAX_BYTES: usize = 64 << 20;
/// at most so many times in a row, each as long as that.
const BEHIND_WAITS: u32 = 100;
/// What is shorter is copied: a body must not hold on to a buffer that is much longer than itself.
const TAKE_MIN_BYTES: usize = 4 << 10;
/// Buffers that are kept to be filled again, and how long each may be.
const SPARES_MAX: usize = 16;
const SPARE_MAX_BYTES: usize = 256 << 10;

/// A body that is too long to stand in its entry.
pub(crate) struct Long {
    bytes: Bytes,
    is_kept: bool,
    /// Its name, once somebody hashed it.
    cid: Option<Cid>,
}

impl Long {
    fn cid(&mut self) -> Cid {
        let Self { bytes, cid, .. } = self;
        *cid.get_or_insert_with(|| Cid::of_raw(bytes))
    }
}

/// The bytes of a body.
enum Bytes {
    Own(Vec<u8>),
    Shared(Form),
}

impl Bytes {
    /// Bytes of memory that they keep, which for a short read into a long buffer are more than they are.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.capacity(),
            Self::Shared(form) => form.held_bytes(),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(form) => form,
        }
    }
}

/// An entry, and the bodies that it still lacks.
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(crate) request: Option<Long>,
    pub(crate) answer: Option<Long>,
}

impl From<Entry> for Item {
    fn from(entry: Entry) -> Self {
        Self { entry, request: None, answer: None }
    }
}

impl Item {
    fn weight(&self) -> usize {
        let long = |long: &Option<Long>| long.as_ref().map_or(0, |long| long.bytes.held_bytes());
        size_of::<Self>() + long(&self.request) + long(&self.answer)
    }

    /// Hashes what is long.
    fn name(&mut self) {
        for long in self.request.iter_mut().chain(&mut self.answer) {
            long.cid();
        }
    }
}

/// The queue, the writing half, and the thread.
pub(crate) struct Scribe {
    shared: Arc<Shared>,
    /// Started when it is needed first: most runs are over before.
    thread: OnceLock<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    pen: Mutex<Pen>,
    /// Told when the queue was emptied.
    room: Condvar,
    is_ending: AtomicBool,
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    bytes: usize,
    spares: Vec<Vec<u8>>,
    failed: Option<HostAbort>,
}

/// The writing half.
struct Pen {
    ledger: Ledger,
    store: Arc<Store>,
    /// Whether what is appended waits for a commit. A replay needs only the head.
    has_groups: bool,
    /// The items being written.
    items: Vec<Item>,
    /// Set while they are; found set by the next writer, it says that the one before fell on the way.
    is_writing: bool,
    /// Buffers of bodies that were written.
    used: Vec<Vec<u8>>,
}

impl Scribe {
    pub(crate) fn new(ledger: Ledger, store: Arc<Store>, has_groups: bool) -> Self {
        let pen = Pen { ledger, store, has_groups, items: Vec::new(), is_writing: false, used: Vec::new() };
        let (queue, pen) = (Mutex::default(), Mutex::new(pen));
        let shared = Arc::new(Shared { queue, pen, room: Condvar::new(), is_ending: AtomicBool::new(false) });
        Self { shared, thread: OnceLock::new() }
    }

    /// The body for `bytes`, or what becomes one when it is written. Unless `is_kept`, it is only named.
    pub(crate) fn body(&self, bytes: &[u8], is_kept: bool) -> (Body, Option<Long>) {
        match Body::inline(bytes) {
            Some(body) => (body, None),
            None => {
                let mut own = lock(&self.shared.queue).spares.pop().unwrap_or_default();
                own.extend_from_slice(bytes);
                (Body::default(), Some(Long { bytes: Bytes::Own(own), is_kept, cid: None }))
            }
        }
    }

    /// As [`Scribe::body`], but takes or shares what is long; what it takes it replaces by another buffer.
    pub(crate) fn take_body(&self, response: Response<'_>, is_kept: bool) -> (Body, Option<Long>) {
        let bytes = response.bytes();
        if bytes.len() < TAKE_MIN_BYTES {
            return self.body(bytes, is_kept);
        }
        let bytes = match response {
            Response::Written(bytes) => {
                let spare = lock(&self.shared.queue).spares.pop().unwrap_or_default();
                Bytes::Own(mem::replace(bytes, spare))
            }
            Response::Shared(form) => Bytes::Shared(form),
        };
        (Body::default(), Some(Long { bytes, is_kept, cid: None }))
    }

    /// Hands an item over. Fails if something that was handed over before could not be written.
    pub(crate) fn push(&self, mut item: Item) -> Result<()> {
        if item.weight() >= TAKE_MIN_BYTES && lock(&self.shared.queue).bytes >= HELP_BYTES {
            item.name();
        }
        let waiting = {
            let mut queue = lock(&self.shared.queue);
            if let Some(why) = &queue.failed {
                return Err(why.clone().into());
            }
            queue.bytes += item.weight();
            queue.items.push(item);
            queue.bytes
        };
        if waiting < WAKE_BYTES {
            return Ok(());
        }
        match self.wake() || waiting < QUEUE_MAX_BYTES {
            true => self.wait_for_room(),
            false => self.settle(),
        }
    }

    fn wait_for_room(&self) -> Result<()> {
        let is_full = |queue: &mut Queue| queue.bytes >= QUEUE_MAX_BYTES && queue.failed.is_none();
        for _ in 0..BEHIND_WAITS {
            let queue = lock(&self.shared.queue);
            let waited = self.shared.room.wait_timeout_while(queue, WAIT_MAX, is_full);
            let (queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            drop(queue);
            if !waited.timed_out() {
                return Ok(());
            }
            if !lock(&self.shared.pen).is_behind() {
                break;
            }
        }
        self.settle()
    }

    /// Whether there is a thread, which now looks at the queue.
    fn wake(&self) -> bool {
        let start = || {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new().name("scribe".to_owned()).spawn(move || shared.work()).ok()
        };
        let thread = self.thread.get_or_init(start).as_ref();
        thread.inspect(|thread| thread.thread().unpark()).is_some()
    }

    /// Writes all that was handed over. When this returns, everything before is in the ledger's memory.
    pub(crate) fn settle(&self) -> Result<()> {
        self.shared.settle(&mut lock(&self.shared.pen)).map_err(Error::from)
    }

    /// Ends all writing. The first reason is kept.
    pub(crate) fn fail(&self, why: HostAbort) {
        lock(&self.shared.queue).failed.get_or_insert(why);
    }

    /// Why nothing is written any more.
    pub(crate) fn check(&self) -> Result<()> {
        match &lock(&self.shared.queue).failed {
            Some(why) => Err(why.clone().into()),
            None => Ok(()),
        }
    }

    /// The ledger's head and entries after all that was handed over and could be written.
    pub(crate) fn head(&self) -> (Head, u64) {
        let mut pen = lock(&self.shared.pen);
        // Why not is told to everybody who hands something over.
        let _ = self.shared.settle(&mut pen);
        (pen.ledger.head(), pen.ledger.entries())
    }

    /// Takes what waits for a commit, with all that was handed over.
    pub(crate) fn take_group(&self, durable_bytes: u64, spare: Vec<u8>) -> Vec<u8> {
        let mut pen = lock(&self.shared.pen);
        let _ = self.shared.settle(&mut pen);
        pen.ledger.take_group(durable_bytes, spare)
    }

    /// Bytes that wait for a commit, roughly.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let ledger = lock(&self.shared.pen).ledger.waiting_bytes();
        ledger + lock(&self.shared.queue).bytes
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        if let Some(Some(thread)) = self.thread.take() {
            thread.thread().unpark();
            // What it could not write is known to those who asked.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The thread: writes whenever there is enough.
    fn work(&self) {
        while !self.is_ending.load(Ordering::Acquire) {
            if lock(&self.queue).bytes < WAKE_BYTES {
                std::thread::park();
                continue;
            }
            let mut pen = lock(&self.pen);
            // While the disk is behind the queue stays full, and whoever fills it waits.
            if pen.is_behind() {
                drop(pen);
                std::thread::park_timeout(WAIT_MAX);
                continue;
            }
            let _ = self.settle(&mut pen);
        }
    }

    fn settle(&self, pen: &mut Pen) -> Result<(), HostAbort> {
        {
            let mut queue = lock(&self.queue);
            queue.bytes = 0;
            mem::swap(&mut queue.items, &mut pen.items);
            self.room.notify_all();
            if let Some(why) = &queue.failed {
                pen.items.clear();
                return Err(why.clone());
            }
        }
        let written = pen.write();
        let mut queue = lock(&self.queue);
        queue.spares.append(&mut pen.used);
        queue.spares.truncate(SPARES_MAX);
        written.map_err(|error| queue.failed.get_or_insert(abort_of(error)).clone())
    }
}

impl Pen {
    /// Whether so much waits for a commit that the disk must be slow.
    fn is_behind(&self) -> bool {
        self.has_groups && self.ledger.waiting_bytes() > GROUP_MAX_BYTES
    }

    fn write(&mut self) -> Result<()> {
        if mem::replace(&mut self.is_writing, true) {
            let message = "a thread that wrote the ledger ended early";
            return Err(HostAbort::new(AbortKind::Machine, message).into());
        }
        let mut items = mem::take(&mut self.items);
        let written = items.drain(..).try_for_each(|item| self.write_item(item));
        (self.items, self.is_writing) = (items, false);
        written
    }

    fn write_item(&mut self, item: Item) -> Result<()> {
        let Item { mut entry, request, answer } = item;
        if let Some(long) = request {
            let body = self.keep(long)?;
            if let Entry::Event(call, _) | Entry::Begin(call) = &mut entry {
                call.request = body;
            }
        }
        if let Some(long) = answer {
            let body = self.keep(long)?;
            if let Entry::Event(_, Return { answer, .. }) | Entry::End(_, Return { answer, .. }) = &mut entry
            {
                *answer = Ok(body);
            }
        }
        self.ledger.append(&entry);
        if !self.has_groups {
            self.ledger.discard_group();
        }
        Ok(())
    }

    fn keep(&mut self, mut long: Long) -> Result<Body> {
        let cid = long.cid();
        let Long { bytes, is_kept, .. } = long;
        let len_bytes = bytes.len() as u64;
        let body = match is_kept {
            true => {
                Tier::put(&*self.store, &cid, &bytes)?;
                Body::Stored { cid, len_bytes }
            }
            false => Body::Digest { cid, len_bytes },
        };
        if let Bytes::Own(mut bytes) = bytes
            && bytes.capacity() <= SPARE_MAX_BYTES
        {
            bytes.clear();
            self.used.push(bytes);
        }
        Ok(body)
    }
}

/// How the machine failed the run.
pub(crate) fn abort_of(error: Error) -> HostAbort {
    match error {
        Error::Abort(abort) => abort,
        other => HostAbort::new(AbortKind::Machine, other.to_string()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! Reads through io-uring, into buffers that the kernel knows beforehand.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::read::{BatchRead, Caller, DEPTH, Job};

/// Bytes of all buffers: what an unprivileged process may lock is little.
const BUFFERS_MAX_BYTES: usize = 4 << 20;

/// A ring with buffers, one a read that is under way.
///
/// Invariant: while a slot has a job, the kernel may write to its buffer, so that is neither freed nor lent out.
pub(super) struct Uring {
    ring: IoUring,
    buffers: ManuallyDrop<Vec<Box<[u8]>>>,
    page_len: usize,
    /// The read in each buffer.
    slots: Vec<Option<Job>>,
    in_flight: usize,
    /// The kernel refused something that it must not: it is asked for nothing more.
    is_broken: bool,
}

impl Uring {
    /// Fails where the kernel, its settings or a filter say no.
    pub(super) fn new(page_len: usize) -> io::Result<Self> {
        let count = (BUFFERS_MAX_BYTES / page_len.max(1)).clamp(1, DEPTH);
        let ring = IoUring::new(DEPTH as u32)?;
        let mut buffers: Vec<Box<[u8]>> = (0..count).map(|_| vec![0; page_len].into_boxed_slice()).collect();
        let parts: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
            .collect();
        // SAFETY: 1. each part is one of `buffers`, which `Drop` frees only after the ring has no read under way.
        // 2. The bytes of a box stay where they are when the box moves.
        unsafe { ring.submitter().register_buffers(&parts) }?;
        let slots = parts.iter().map(|_| None).collect();
        let buffers = ManuallyDrop::new(buffers);
        Ok(Self { ring, buffers, page_len, slots, in_flight: 0, is_broken: false })
    }

    /// Begins `job` in the buffer `slot`, or gives it back.
    fn begin(&mut self, slot: usize, job: Job) -> Result<(), Job> {
        let fits = job.to.len() == self.page_len;
        let Some(fd) = job.file.fd().filter(|_| fits).map(|fd| fd.as_raw_fd()) else { return Err(job) };
        let (Some(part), Ok(index), Ok(len)) =
            (self.buffers.get_mut(slot), u16::try_from(slot), u32::try_from(self.page_len))
        else {
            return Err(job);
        };
        let entry = opcode::ReadFixed::new(types::Fd(fd), part.as_mut_ptr(), len, index)
            .offset(job.offset)
            .build()
            .user_data(slot as u64);
        // SAFETY: 1. the buffer is the registered one with this index and length, and nobody else has it: its slot
        // was empty. 2. It lives until the read ended, see `Drop`. 3. The file is open: `slots` keeps the job, and
        // with it the file, until then.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return Err(job);
        }
        self.in_flight += 1;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some(job);
        }
        Ok(())
    }

    /// Waits for at least one read, and hands back those that ended.
    fn reap(&mut self, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(err) if is_passing(&err) => {}
            Err(_) => {
                self.is_broken = true;
                return;
            }
        }
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            self.in_flight = self.in_flight.saturating_sub(1);
            let slot = entry.user_data() as usize;
            let Some(job) = self.slots.get_mut(slot).and_then(Option::take) else { continue };
            self.end(slot, job, entry.result(), done);
        }
    }

    fn end(&self, slot: usize, mut job: Job, result: i32, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        let read = usize::try_from(result).ok().filter(|read| *read == job.to.len());
        let part = self.buffers.get(slot);
        match (read, part) {
            (Some(read), Some(part)) if part.len() == job.to.len() => {
                job.to.copy_from_slice(part);
                done(job, Ok(read));
            }
            // Fewer bytes, or an error: once more, the plain way, which knows how to go on.
            _ => Caller.read(vec![job], done),
        }
    }
}

/// Whether the kernel may say otherwise the next time.
fn is_passing(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl BatchRead for Uring {
    fn read(&mut self, jobs: Vec<Job>, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        let mut jobs = jobs.into_iter();
        loop {
            while !self.is_broken
                && let Some(slot) = self.slots.iter().position(Option::is_none)
                && let Some(job) = jobs.next()
            {
                if let Err(job) = self.begin(slot, job) {
                    Caller.read(vec![job], done);
                }
            }
            if self.is_broken {
                break;
            }
            if self.in_flight == 0 {
                break;
            }
            self.reap(done);
        }
        // Of a ring that is broken: what it may still write goes to buffers, and nobody looks there.
        let left: Vec<Job> = self.slots.iter_mut().filter_map(Option::take).chain(jobs).collect();
        Caller.read(left, done);
    }

    fn name(&self) -> &'static str {
        "io-uring"
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: 1. they are not used after this. 2. No read into them is under way, so the kernel does not write there.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

//! Reads through io-uring, into buffers that the kernel knows beforehand.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::super::buffer::Buffer;
use super::direct::Window;
use super::read::{BatchRead, Caller, DEPTH, Job};

/// Reads that are given to the kernel at a time.
const TOGETHER: usize = 4;

/// A ring with buffers, one a read that is under way.
///
/// Invariant: while a slot has a job, the kernel may write to its buffer, so that is neither freed nor lent out.
pub(super) struct Uring {
    ring: IoUring,
    /// Each as long as the longest window.
    buffers: ManuallyDrop<Vec<Buffer>>,
    page_len: usize,
    /// The read in each buffer.
    slots: Vec<Option<(Job, Window)>>,
    in_flight: usize,
    /// The kernel refused something that it must not: it is asked for nothing more.
    is_broken: bool,
}

impl Uring {
    /// Fails where the kernel, its settings or a filter say no. The buffers have room for the windows of pages.
    pub(super) fn new(page_len: usize, mut buffers: Vec<Buffer>) -> io::Result<Self> {
        let ring = IoUring::new(DEPTH as u32)?;
        let parts: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
            .collect();
        // SAFETY: 1. each part is of `buffers`, which `Drop` frees only after the ring has no read under way.
        // 2. The bytes of a buffer stay where they are when it moves.
        unsafe { ring.submitter().register_buffers(&parts) }?;
        let slots = parts.iter().map(|_| None).collect();
        let buffers = ManuallyDrop::new(buffers);
        Ok(Self { ring, buffers, page_len, slots, in_flight: 0, is_broken: false })
    }

    /// Begins `job` in the buffer `slot`, or gives it back.
    fn begin(&mut self, slot: usize, job: Job) -> Result<(), Job> {
        let fits = job.to.len() == self.page_len;
        let plain = Window { start: job.offset, len: self.page_len, skip: 0 };
        let (fd, window) = match job.file.direct().filter(|_| job.is_direct) {
            Some(fd) => (Some(fd), Window::around(job.offset, self.page_len)),
            None => (job.file.fd(), plain),
        };
        let Some(fd) = fd.filter(|_| fits).map(|fd| fd.as_raw_fd()) else { return Err(job) };
        let part = self.buffers.get_mut(slot).and_then(|it| it.get_mut(..window.len));
        let (Some(part), Ok(index), Ok(len)) = (part, u16::try_from(slot), u32::try_from(window.len)) else {
            return Err(job);
        };
        let entry = opcode::ReadFixed::new(types::Fd(fd), part.as_mut_ptr(), len, index)
            .offset(window.start)
            .build()
            .user_data(slot as u64);
        // SAFETY: 1. the buffer lies within the registered one with this index, and nobody else has that: its slot
        // was empty. 2. It lives until the read ended, see `Drop`. 3. The file is open: `slots` keeps the job, and
        // with it the file, until then.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return Err(job);
        }
        self.in_flight += 1;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some((job, window));
        }
        Ok(())
    }

    /// Begins reads in all free buffers, as long as there are `jobs`.
    fn fill(&mut self, jobs: &mut dyn Iterator<Item = Job>, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        while !self.is_broken
            && let Some(slot) = self.slots.iter().position(Option::is_none)
            && let Some(job) = jobs.next()
        {
            if let Err(job) = self.begin(slot, job) {
                Caller::default().read(&mut std::iter::once(job), done);
            }
            // The disk begins with the first few while the others are looked up.
            let pending = self.ring.submission().len();
            if pending >= TOGETHER || pending == self.in_flight {
                let _ = self.ring.submit();
            }
        }
    }

    /// Waits until at least one read has ended.
    fn wait(&mut self) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(err) if is_passing(&err) => {}
            Err(_) => self.is_broken = true,
        }
    }

    /// A read that ended; its buffer is free again.
    fn next_ended(&mut self) -> Option<Ended> {
        loop {
            let entry = self.ring.completion().next()?;
            self.in_flight = self.in_flight.saturating_sub(1);
            let slot = entry.user_data() as usize;
            let Some((mut job, window)) = self.slots.get_mut(slot).and_then(Option::take) else { continue };
            let read = usize::try_from(entry.result()).unwrap_or(0);
            let came = self.buffers.get(slot).and_then(|it| it.get(..read));
            let copied = came.map(|came| window.copy_out(came, &mut job.to));
            return Some(Ended { job, is_whole: matches!(copied, Some(Ok(()))) });
        }
    }
}

/// A read that ended.
struct Ended {
    job: Job,
    is_whole: bool,
}

impl Ended {
    fn hand_back(mut self, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        if self.is_whole {
            let len = self.job.to.len();
            return done(self.job, Ok(len));
        }
        // Fewer bytes, or an error: once more, the plain way, which knows how to go on.
        self.job.is_direct = false;
        Caller::default().read(&mut std::iter::once(self.job), done);
    }
}

/// Whether the kernel may say otherwise the next time.
fn is_passing(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl BatchRead for Uring {
    fn read(&mut self, jobs: &mut dyn Iterator<Item = Job>, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        let mut ended = Vec::new();
        self.fill(jobs, done);
        while !self.is_broken && self.in_flight > 0 {
            self.wait();
            // Many end at the same time, and the disk has nothing to do until the first of their buffers is used again. What the
            // system's cache has ends as it begins, so there is no end of them: they are handed back a round at a time.
            while ended.len() < self.slots.len()
                && let Some(it) = self.next_ended()
            {
                ended.push(it);
                self.fill(jobs, done);
            }
            if !self.is_broken {
                let _ = self.ring.submit();
            }
            // They are hashed while the disk reads others.
            ended.drain(..).for_each(|it: Ended| it.hand_back(done));
            // More may have been given meanwhile.
            self.fill(jobs, done);
        }
        if self.is_broken {
            // What it may still write goes to buffers, and nobody looks there.
            let mut left = self.slots.iter_mut().filter_map(Option::take).map(|(job, _)| job).chain(jobs);
            Caller::default().read(&mut left, done);
        }
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

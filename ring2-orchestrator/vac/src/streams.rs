//! The standard streams without waiting for ever: whoever reads our output may stop reading, and a run has
//! to end by its time all the same.
//!
//! Whether a stream waits is a flag of what is open, which others share: the shell would find its terminal
//! changed. So a terminal or pipe is opened once more, and only that does not wait. What cannot be opened
//! again is asked first whether it has room, and given no more than a pipe with any room takes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use vac_host::Watch;

/// How long a wait goes on before it is looked whether to stop.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long the end of a run that was stopped waits for somebody to read what it says.
const LAST_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// What a pipe that has any room takes at once.
const PART_BYTES: usize = 4096;

/// A stream that is written to.
pub(crate) struct Writer {
    stream: Box<dyn AsFd + Send>,
    part_bytes: usize,
    /// A file has room, or says that it has not.
    is_file: bool,
}

impl Writer {
    /// A writer to one of the standard streams.
    pub(crate) fn of(stream: impl AsFd + Send + 'static) -> Self {
        let kind = rustix::fs::fstat(&stream).map(|stat| FileType::from_raw_mode(stat.st_mode)).ok();
        let is_file = kind == Some(FileType::RegularFile);
        match open_again(stream.as_fd(), kind) {
            Some(own) => Self { stream: Box::new(own), part_bytes: usize::MAX, is_file },
            None if is_file => Self { stream: Box::new(stream), part_bytes: usize::MAX, is_file },
            None => Self { stream: Box::new(stream), part_bytes: PART_BYTES, is_file },
        }
    }

    /// Writes all of `bytes`, for as long as the run may go on.
    pub(crate) fn write_all(&self, mut bytes: &[u8], watch: &dyn Watch) -> io::Result<()> {
        while !bytes.is_empty() {
            if !self.is_file {
                wait(&*self.stream, PollFlags::OUT, watch)?;
            }
            let part = bytes.get(..self.part_bytes.min(bytes.len())).unwrap_or_default();
            match rustix::io::write(&self.stream, part) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// The pipe or terminal behind `fd`, opened once more and without waiting.
fn open_again(fd: BorrowedFd<'_>, kind: Option<FileType>) -> Option<OwnedFd> {
    if !matches!(kind, Some(FileType::Fifo | FileType::CharacterDevice)) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Waits until `stream` is ready, for as long as the run may go on.
pub(crate) fn wait(stream: &dyn AsFd, how: PollFlags, watch: &dyn Watch) -> io::Result<()> {
    loop {
        // Also when it is ready at once: who reads a little at a time may not hold up the end either.
        if let Some(abort) = watch.stop() {
            return Err(io::Error::other(abort));
        }
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(stream.as_fd(), how)], Some(&LOOK_EVERY)) {
            Ok(0) | Err(Errno::INTR) => {}
            // Whatever else is wrong with it, the read or write says so.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

/// Whether somebody reads the standard error, or will soon.
pub(crate) fn is_heard() -> bool {
    let stderr = io::stderr();
    let ready = &mut [PollFd::new(&stderr, PollFlags::OUT)];
    !matches!(rustix::event::poll(ready, Some(&LAST_WAIT)), Ok(0))
}

//! Reads around the system's cache: when they are worth it, and what they need.
//!
//! The cache answers twenty times faster than a disk, and what it holds costs nobody's budget: so a page that is in it is
//! read from there. One that it does not hold costs an allocation and a copy more on its way through it than
//! around it, and pushes out another.
//!
//! A file system that wants more than [`ALIGN`], or has no such reads, refuses; then the plain way is left, and nothing
//! but time tells the two apart.

use std::io;

use super::super::buffer::Buffer;
use crate::storage::StorageFile;

/// What offsets, lengths and addresses are multiples of.
pub(in super::super) const ALIGN: usize = 4096;

/// When pages are read around the system's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direct {
    /// Those that the cache had and could not keep: more of them are in use than this machine can hold.
    #[default]
    Auto,
    /// Those that the cache does not have.
    Always,
    /// None.
    Never,
}

/// What the system's cache holds of a range, in its own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cached {
    held: u64,
    dirty: u64,
    /// It held them before.
    evicted: u64,
}

impl Direct {
    /// Whether `len` bytes from `offset` of `file` are better read around the cache.
    pub(super) fn is_better(self, file: &dyn StorageFile, offset: u64, len: usize) -> bool {
        // Asked in this order: files of no disk are opened once only, and found to have none.
        self != Self::Never
            && file.direct().is_some()
            && cached(file, offset, len).is_some_and(|cached| self.is_for(cached, len))
    }

    fn is_for(self, cached: Cached, len: usize) -> bool {
        let pages = len.div_ceil(ALIGN) as u64;
        // What is not on the disk yet would have to go there first. Half a page at either end may be a neighbour's.
        let is_absent = cached.dirty == 0 && cached.held * 4 <= pages;
        match self {
            Self::Auto => is_absent && cached.evicted * 2 > pages,
            Self::Always => is_absent,
            Self::Never => false,
        }
    }
}

/// What the system holds of a range; `None` if it does not say.
#[cfg(target_os = "linux")]
fn cached(file: &dyn StorageFile, offset: u64, len: usize) -> Option<Cached> {
    use std::os::fd::AsRawFd;

    /// `cachestat(2)`, which no library has a name for. The number is the same on all processors.
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, len as u64];
    // Held, dirty, being written, evicted, evicted lately.
    let mut answer = [0_u64; 5];
    let fd = file.fd()?;
    // SAFETY: 1. the file is open: `fd` is borrowed from it. 2. The call reads two numbers and writes five, as `linux/mman.h`
    // has them, and both arrays live until it returned.
    let failed =
        unsafe { libc::syscall(CACHESTAT, fd.as_raw_fd(), range.as_ptr(), answer.as_mut_ptr(), 0_u32) };
    let [held, dirty, writing, evicted, _] = answer;
    (failed == 0).then_some(Cached { held, dirty: dirty + writing, evicted })
}

#[cfg(not(target_os = "linux"))]
fn cached(_: &dyn StorageFile, _: u64, _: usize) -> Option<Cached> {
    None
}

/// The aligned range around one that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: u64,
    pub(super) len: usize,
    /// Where in it the wanted bytes begin.
    pub(super) skip: usize,
}

impl Window {
    /// Around `len` bytes from `offset`.
    pub(super) fn around(offset: u64, len: usize) -> Self {
        let skip = (offset % ALIGN as u64) as usize;
        Self { start: offset - skip as u64, len: (skip + len).next_multiple_of(ALIGN), skip }
    }

    /// The longest around `len` bytes, wherever they are.
    pub(super) fn bytes_max(len: usize) -> usize {
        len.next_multiple_of(ALIGN) + ALIGN
    }

    /// Copies what is wanted of the bytes that came of this window.
    pub(super) fn copy_out(self, came: &[u8], to: &mut [u8]) -> io::Result<()> {
        // The last window of a file may be shorter than asked for.
        let from = came.get(self.skip..self.skip + to.len());
        to.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Whether `to` can be read from `offset` around the cache without another buffer: as frames and pages lie, but for those of old packs.
pub(super) fn is_straight(to: &[u8], offset: u64) -> bool {
    let is_aligned = |n: usize| n.is_multiple_of(ALIGN);
    is_aligned(to.as_ptr().addr()) && is_aligned(to.len()) && offset.is_multiple_of(ALIGN as u64)
}

/// Reads `to.len()` bytes so. An error if that is refused, or if there are fewer.
pub(super) fn read_straight(file: &dyn StorageFile, to: &mut [u8], offset: u64) -> io::Result<()> {
    let fd = file.direct().ok_or(io::ErrorKind::Unsupported)?;
    let read = rustix::io::pread(fd, &mut *to, offset)?;
    if read == to.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A buffer that begins at a multiple of [`ALIGN`].
pub(super) struct Aligned(Buffer);

impl Aligned {
    /// For a window around `len` bytes, wherever they are.
    pub(super) fn for_pages(len: usize) -> Self {
        Self(Buffer::aligned(Window::bytes_max(len), ALIGN))
    }

    /// `buffer`, which begins at such a multiple.
    pub(super) fn of(buffer: Buffer) -> Self {
        debug_assert!(buffer.as_ptr().addr().is_multiple_of(ALIGN));
        Self(buffer)
    }

    /// Reads `to.len()` bytes from `offset` around the cache. An error if that is refused, or if there are fewer.
    pub(super) fn read(&mut self, file: &dyn StorageFile, to: &mut [u8], offset: u64) -> io::Result<()> {
        let window = Window::around(offset, to.len());
        let fd = file.direct().ok_or(io::ErrorKind::Unsupported)?;
        let part = self.0.get_mut(..window.len).ok_or(io::ErrorKind::InvalidInput)?;
        let read = rustix::io::pread(fd, &mut *part, window.start)?;
        window.copy_out(part.get(..read).unwrap_or_default(), to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_aligned_and_holds_what_is_wanted() {
        for (offset, len) in [(0, 4096), (56, 4096), (4095, 65_536), (8192, 65_536), (1 << 40 | 1, 1)] {
            let window = Window::around(offset, len);
            assert!(window.start.is_multiple_of(ALIGN as u64) && window.len.is_multiple_of(ALIGN));
            assert_eq!(window.start + window.skip as u64, offset);
            assert!(window.skip + len <= window.len && window.len < len + 2 * ALIGN);
            let buffer = Aligned::for_pages(len);
            assert!(buffer.0.len() >= window.len);
            assert!(buffer.0.as_ptr().addr().is_multiple_of(ALIGN));
        }
    }

    #[test]
    fn only_what_the_cache_lacks_goes_around_it() {
        let len = 16 * ALIGN;
        let is_for =
            |direct: Direct, held, dirty, evicted| direct.is_for(Cached { held, dirty, evicted }, len);
        assert!(is_for(Direct::Always, 0, 0, 0) && is_for(Direct::Always, 2, 0, 0));
        assert!(!is_for(Direct::Always, 16, 0, 0), "it is there");
        assert!(!is_for(Direct::Always, 1, 1, 0), "it is not on the disk yet");
        assert!(!is_for(Direct::Auto, 0, 0, 0), "it was never read, and may well be kept");
        assert!(is_for(Direct::Auto, 0, 0, 16), "it was, and could not be");
        assert!(!is_for(Direct::Never, 0, 0, 16));
    }
}

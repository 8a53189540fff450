//! Bytes at an address that is a multiple of something: what a processor copies fastest, and what a disk wants.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// A line of a processor's cache. A copy between addresses that differ in it takes a fifth longer.
const LINE: usize = 64;
/// What the system gives in one piece, if asked to.
const HUGE: usize = 2 << 20;

/// Some bytes, whose address never changes.
///
/// Invariants: the range is inside of `_whole`, and no other buffer has any of it; there is no way to copy one.
pub(super) struct Buffer {
    start: NonNull<u8>,
    len: usize,
    _whole: Option<Arc<Whole>>,
}

/// Memory that buffers are parts of.
struct Whole {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: 1. it is memory and nothing else. 2. only its buffers look at it, each at a part that is its own.
unsafe impl Send for Whole {}
// SAFETY: see above.
unsafe impl Sync for Whole {}
// SAFETY: a buffer has its bytes alone, as a box would, and what keeps them alive may be shared: see `Whole`.
unsafe impl Send for Buffer {}
// SAFETY: who shares a buffer can only read it.
unsafe impl Sync for Buffer {}

impl Drop for Whole {
    fn drop(&mut self) {
        // SAFETY: 1. it was allocated with this layout, see `Whole::new`. 2. no buffer of it is left.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { start: NonNull::dangling(), len: 0, _whole: None }
    }
}

impl Buffer {
    /// `len` zeros, for a page.
    pub(super) fn new(len: usize) -> Self {
        Self::aligned(len, LINE)
    }

    /// `len` zeros at a multiple of `align`, which is a power of two.
    pub(super) fn aligned(len: usize, align: usize) -> Self {
        Self::in_a_row(1, len, align).pop().unwrap_or_default()
    }

    /// `count` buffers of `len` zeros behind each other; `len` is a multiple of `align` if there are several.
    pub(super) fn in_a_row(count: usize, len: usize, align: usize) -> Vec<Self> {
        Self::parts(Whole::new(count * len, align), count, len)
    }

    /// The same in what the machine has in one piece, if that takes no more than twice as much: a disk that is told of one place, and
    /// not of one for each 4 KiB, answers in two thirds of the time.
    pub(super) fn in_one_piece(count: usize, len: usize, align: usize) -> Vec<Self> {
        let whole = piece_of(count * len).map_or_else(|| Whole::new(count * len, align), Whole::in_one_piece);
        Self::parts(whole, count, len)
    }

    /// How many of `len` bytes fill a piece; one at least.
    pub(super) fn count_in_one_piece(len: usize) -> usize {
        (HUGE / len.max(1)).max(1)
    }

    /// What [`Self::in_one_piece`] takes of memory.
    pub(super) fn bytes_in_one_piece(count: usize, len: usize) -> usize {
        piece_of(count * len).unwrap_or(count * len)
    }

    /// The first `count * len` bytes of `whole`, which has room for them.
    fn parts(whole: Whole, count: usize, len: usize) -> Vec<Self> {
        assert!(count * len <= whole.layout.size(), "there is room for what is made of it");
        let (start, whole) = (whole.start, Arc::new(whole));
        let part = |n: usize| {
            // SAFETY: 1. `count * len` is no more than there is, as was just checked, and `n` is below `count`. 2. These ranges do not
            // meet.
            let start = unsafe { start.add(n * len) };
            Self { start, len, _whole: Some(Arc::clone(&whole)) }
        };
        (0..count).map(part).collect()
    }
}

impl Whole {
    /// `len` zeros, and one at least, at a multiple of `align`.
    fn new(len: usize, align: usize) -> Self {
        let layout = layout(len, align);
        // SAFETY: its size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    /// `len` zeros in what the machine has in one piece; `len` is a multiple of that.
    fn in_one_piece(len: usize) -> Self {
        let layout = layout(len, HUGE);
        // SAFETY: its size is not zero.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        ask_for_huge(start, len);
        // SAFETY: 1. there are so many bytes. 2. Nobody else has them.
        unsafe { start.as_ptr().write_bytes(0, layout.size()) };
        Self { start, layout }
    }
}

/// Of `len` bytes, and one at least.
fn layout(len: usize, align: usize) -> Layout {
    Layout::from_size_align(len.max(1), align).expect("buffers are no longer than memory can be")
}

fn piece_of(len: usize) -> Option<usize> {
    Some(len.next_multiple_of(HUGE)).filter(|piece| *piece <= 2 * len)
}

/// Asks for memory in one piece. Where there is none it is had in the usual way.
#[cfg(target_os = "linux")]
fn ask_for_huge(start: NonNull<u8>, len: usize) {
    // The second also where memory was touched before, as an allocator does that had it for something else.
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
        // SAFETY: 1. the range is of memory that nobody else has. 2. This advice changes no byte of it.
        let _ = unsafe { libc::madvise(start.as_ptr().cast(), len, advice) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge(_: NonNull<u8>, _: usize) {}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: 1. the range is inside of `_whole`, which lives as long as this, or is empty. 2. Nobody else has any of it, and
        // it was filled with zeros when it was made.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: see above; and who has this has it alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_where_it_was_asked_to_and_has_its_length() {
        for (len, align) in [(0, 64), (1, 64), (4096, 64), (65_536, 4096), (100, 1)] {
            let mut buffer = Buffer::aligned(len, align);
            assert!(buffer.as_ptr().addr().is_multiple_of(align) && buffer.len() == len);
            buffer.fill(7);
            let moved = buffer;
            assert!(moved.as_ptr().addr().is_multiple_of(align) && moved.iter().all(|byte| *byte == 7));
        }
        assert!(Buffer::default().is_empty());
    }

    #[test]
    fn buffers_in_one_piece_are_as_many_and_as_long_as_was_asked_and_do_not_meet() {
        for (count, len, takes) in
            [(1, 4096, 4096), (16, 8192, 131_072), (17, 69_632, 2 << 20), (3, 1 << 20, 4 << 20)]
        {
            let mut buffers = Buffer::in_one_piece(count, len, 4096);
            assert_eq!((buffers.len(), Buffer::bytes_in_one_piece(count, len)), (count, takes));
            for (n, buffer) in buffers.iter_mut().enumerate() {
                assert!(buffer.len() == len && buffer.as_ptr().addr().is_multiple_of(4096));
                assert!(buffer.iter().all(|byte| *byte == 0), "{n}");
                buffer.fill(n as u8 + 1);
            }
            let last = buffers.pop().unwrap();
            assert!(buffers.iter().enumerate().all(|(n, it)| it.iter().all(|byte| *byte == n as u8 + 1)));
            drop(buffers);
            // It keeps all of it alive.
            std::thread::spawn(move || assert!(last.iter().all(|byte| *byte == count as u8))).join().unwrap();
        }
    }
}

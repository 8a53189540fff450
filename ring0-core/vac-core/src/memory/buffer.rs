//! Bytes at an address that is a multiple of something: what a processor copies fastest, and what a disk wants.

use std::ops::{Deref, DerefMut, Range};

/// A line of a processor's cache. A copy between addresses that differ in it takes a fifth longer.
const LINE: usize = 64;

/// Some bytes, whose address never changes.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    /// The part that begins at the multiple.
    part: Range<usize>,
}

impl Buffer {
    /// `len` zeros, for a page.
    pub(super) fn new(len: usize) -> Self {
        Self::aligned(len, LINE)
    }

    /// `len` zeros at a multiple of `align`, which is a power of two.
    pub(super) fn aligned(len: usize, align: usize) -> Self {
        let bytes = vec![0; len + align].into_boxed_slice();
        // A box stays where it is, so this is measured once.
        let skip = bytes.as_ptr().align_offset(align).min(align);
        Self { bytes, part: skip..skip + len }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.part.clone()).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.part.clone()).unwrap_or_default()
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
}

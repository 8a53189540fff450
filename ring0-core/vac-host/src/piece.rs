//! Bytes of a file on their way to a guest and into the record, without a copy for each.
//!
//! What is recorded of a read is the canonical form of `ok(bytes)`: a head, and the bytes. So they are
//! read right behind where that head goes, and the recorder shares the buffer. Buffers are used again once
//! nobody shares them any more.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::Arc;

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::{ComponentType, Lower};

use crate::wire::Wire;

/// Room for the head of `ok(bytes)`: an array of two, 0, and the head of a byte string.
const HEAD_MAX_BYTES: usize = 2 + 5;
/// Buffers that are kept: more than are ever on their way while the recorder keeps up.
const KEPT_MAX: usize = 24;
/// The longest that is kept.
const KEPT_MAX_BYTES: usize = 256 << 10;
/// A read of at most this many bytes gets room for all of them, however many are there.
pub(crate) const ROOM_BYTES: usize = 64 << 10;

/// A canonical form that others may share.
#[derive(Debug, Clone)]
pub struct Form {
    buffer: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Form {
    /// Bytes of memory that it keeps.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }
}

impl Deref for Form {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

/// Bytes, and around them the canonical form of `ok(bytes)`.
#[derive(Debug)]
pub(crate) struct Piece {
    form: Form,
    /// Length of the form before the bytes.
    head: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.form.get(self.head..).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<&[u8]> for Piece {
    fn from(bytes: &[u8]) -> Self {
        let mut to = Writer::from(Vec::with_capacity(HEAD_MAX_BYTES + bytes.len()));
        head_of(&mut to, bytes.len());
        let head = to.bytes_so_far().len();
        to.form(bytes);
        let buffer = Arc::new(to.into_bytes());
        Self { form: Form { start: 0, end: buffer.len(), buffer }, head }
    }
}

/// The form of `ok(bytes)` before the bytes.
fn head_of(to: &mut Writer, len: usize) {
    to.array(2);
    to.uint(0);
    to.byte_string_head(len);
}

/// Buffers to read into.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    kept: Vec<Arc<Vec<u8>>>,
}

impl Pieces {
    /// At most `max` bytes, as `read` gives them; it gets the room for them, and says how much it filled.
    pub(crate) fn read<E>(
        &mut self,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Piece, E> {
        let (mut buffer, room) = (self.free(), HEAD_MAX_BYTES + max);
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let got = read(buffer.get_mut(HEAD_MAX_BYTES..room).unwrap_or_default())?.min(max);
        let mut to = Writer::default();
        head_of(&mut to, got);
        let head = to.bytes_so_far();
        let start = HEAD_MAX_BYTES.saturating_sub(head.len());
        if let Some(place) = buffer.get_mut(start..HEAD_MAX_BYTES) {
            place.copy_from_slice(head);
        }
        let (buffer, head) = (Arc::new(buffer), head.len());
        if self.kept.len() < KEPT_MAX && buffer.len() <= KEPT_MAX_BYTES {
            self.kept.push(Arc::clone(&buffer));
        }
        Ok(Piece { form: Form { buffer, start, end: HEAD_MAX_BYTES + got }, head })
    }

    /// A buffer that nobody shares, or a new one.
    fn free(&mut self) -> Vec<u8> {
        let free = self.kept.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        free.and_then(|at| Arc::try_unwrap(self.kept.swap_remove(at)).ok()).unwrap_or_default()
    }
}

impl Wire for Piece {
    fn put(&self, to: &mut Writer) {
        to.byte_string(self);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.byte_string().map(Self::from)
    }
    fn form_as_ok(&self) -> Option<Form> {
        Some(self.form.clone())
    }
}

// SAFETY: the implementations of `ComponentType` and `Lower` must agree with each other and with the layout that
// the engine computes. (1) Every item is that of `[u8]`, which is the engine's own, and (2) what is lowered is
// the very slice that this derefs to, so there is nothing here that could disagree. (3) The version of the
// engine is pinned to the patch.
unsafe impl ComponentType for Piece {
    type Lower = <[u8] as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <[u8] as ComponentType>::ABI;
    const MAY_REQUIRE_REALLOC: bool = <[u8] as ComponentType>::MAY_REQUIRE_REALLOC;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: see above.
unsafe impl Lower for Piece {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        <[u8] as Lower>::linear_lower_to_flat(self, cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        <[u8] as Lower>::linear_lower_to_memory(self, cx, ty, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(pieces: &mut Pieces, bytes: &[u8]) -> Piece {
        let read = |room: &mut [u8]| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, ()>(bytes.len())
        };
        pieces.read(bytes.len() + 3, read).unwrap()
    }

    /// A record must not depend on which way bytes took.
    #[test]
    fn the_form_is_that_of_a_result_of_bytes() {
        let mut pieces = Pieces::default();
        for len in [0, 1, 23, 24, 255, 256, 65535, 65536, 1 << 20] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let mut to = Writer::default();
            Ok::<_, bool>(bytes.clone()).put(&mut to);
            let (read, copied) = (piece(&mut pieces, &bytes), Piece::from(bytes.clone()));
            for piece in [read, copied] {
                assert_eq!((&*piece, &*piece.form), (&bytes[..], to.bytes_so_far()), "{len} bytes");
                let result = Ok::<_, bool>(piece);
                assert_eq!(result.form().as_deref(), Some(to.bytes_so_far()));
            }
            let mut reader = Reader::new(to.bytes_so_far(), "test");
            let back = Result::<Piece, bool>::read(&mut reader).unwrap().unwrap();
            assert_eq!(&*back, &bytes[..]);
        }
        assert!(Err::<Piece, _>(true).form().is_none());
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_shares_it() {
        let mut pieces = Pieces::default();
        let first = piece(&mut pieces, b"first");
        let form = first.form.clone();
        drop(first);
        let second = piece(&mut pieces, b"second");
        assert!(form.ends_with(b"first") && second.ends_with(b"second"));
        let place = form.as_ptr();
        drop(form);
        assert_eq!(piece(&mut pieces, b"third").form.as_ptr(), place);
        let many: Vec<_> = (0..40_u8).map(|n| piece(&mut pieces, &[n])).collect();
        assert!(pieces.kept.len() <= KEPT_MAX);
        assert!(many.iter().zip(0..).all(|(piece, n)| **piece == [n]));
    }
}

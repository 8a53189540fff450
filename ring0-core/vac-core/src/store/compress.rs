//! Compression of small objects, below their CIDs.
//!
//! A compressed body is the object's own length (u32, little-endian) and one zstd frame. Who asks for the object gets
//! its own bytes, and they are hashed as ever: so nothing depends on what zstd makes of them.
//!
//! Invariants: memory is taken for as many bytes as the object says to have, if that is a small object's length, and for
//! no more, whatever the frame says; any bytes may be tried.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::limits::STORE_LARGE_MIN_BYTES;

/// Bytes of an object's own length.
pub(super) const OWN_LEN_BYTES: usize = 4;

/// A compressor and its level.
type Leveled = (i32, Compressor<'static>);

thread_local! {
    // Making one costs more than to compress a page with it.
    static COMPRESSOR: RefCell<Option<Leveled>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The compressed body of an object, if that is worth it: at least an eighth shorter.
pub(super) fn compress(object: &[u8], level: i32) -> Option<Vec<u8>> {
    let mut body = vec![0; object.len() - object.len() / 8];
    let (own_len, frame) = body.split_first_chunk_mut::<OWN_LEN_BYTES>()?;
    *own_len = (object.len() as u32).to_le_bytes();
    let frame_len = COMPRESSOR.with_borrow_mut(|kept| {
        let (_, zstd) = match kept.take().filter(|(with, _)| *with == level) {
            Some(fitting) => kept.insert(fitting),
            None => kept.insert((level, Compressor::new(level).ok()?)),
        };
        // An error is a frame for which there is no room.
        zstd.compress_to_buffer(object, frame).ok()
    })?;
    body.truncate(OWN_LEN_BYTES + frame_len);
    Some(body)
}

/// The object's own length in bytes, as the beginning of a compressed body says; `None` if that is no small object's.
pub(super) fn own_len(body: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(*body.first_chunk::<OWN_LEN_BYTES>()?) as usize;
    (len < STORE_LARGE_MIN_BYTES).then_some(len)
}

/// The object in a compressed body, or `None` if these bytes are none.
pub(super) fn decompress(body: &[u8]) -> Option<Vec<u8>> {
    let mut object = vec![0; own_len(body)?];
    let frame = body.get(OWN_LEN_BYTES..)?;
    let len = DECOMPRESSOR.with_borrow_mut(|kept| {
        let zstd = match kept {
            Some(zstd) => zstd,
            None => kept.insert(Decompressor::new().ok()?),
        };
        zstd.decompress_to_buffer(frame, &mut object[..]).ok()
    })?;
    (len == object.len()).then_some(object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_worth_it_comes_back() {
        let text = b"the same words, the same words and the same words, ".repeat(20);
        for level in [1, 19, 3] {
            let body = compress(&text, level).unwrap();
            assert!(body.len() < text.len() / 4);
            assert_eq!((own_len(&body), decompress(&body)), (Some(text.len()), Some(text.clone())));
        }
        assert_eq!(compress(b"", 3), None, "no room for a frame");
        let mut noise = [0; 4096];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(compress(&noise, 3), None, "it gets no shorter");
    }

    /// 100 MB of zeros in a few kB, under a length that is small, wrong, or beyond all objects.
    #[test]
    fn a_bomb_takes_no_memory() {
        let frame = zstd::bulk::compress(&vec![0; 100 << 20], 19).unwrap();
        for len in [0, 100, (1 << 20) - 1, 1 << 20, 100 << 20, u32::MAX] {
            let body = [&len.to_le_bytes()[..], &frame].concat();
            assert_eq!(decompress(&body), None, "{len}");
        }
        let honest = zstd::bulk::compress(&[7; 1000], 3).unwrap();
        for (len, is_right) in [(999, false), (1000, true), (1001, false)] {
            let body = [&u32::to_le_bytes(len)[..], &honest].concat();
            assert_eq!(decompress(&body).is_some(), is_right, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decompressed_or_not(len in 0_u32..5000, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            decompress(&bytes);
            decompress(&[&len.to_le_bytes()[..], &[0x28, 0xb5, 0x2f, 0xfd], &bytes].concat());
        }

        #[test]
        fn damage_is_no_longer_than_what_it_damaged(at: prop::sample::Index, bit in 0..8) {
            let object = b"0123456789abcdef".repeat(60);
            let mut body = compress(&object, 3).unwrap();
            let at = OWN_LEN_BYTES + at.index(body.len() - OWN_LEN_BYTES);
            body[at] ^= 1_u8 << bit;
            prop_assert!(decompress(&body).is_none_or(|got| got.len() == object.len()));
        }
    }
}

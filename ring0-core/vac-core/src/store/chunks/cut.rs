//! Cuts a stream into chunks where its content says so, by FastCDC: equal stretches of two streams become equal chunks,
//! wherever they are.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;

use crate::fault::{HostAbort, Result};
use crate::limits::STORE_CHUNK_BYTES;

/// A stream, and what was read of it and not given out.
pub(super) struct Cutter<'a> {
    from: &'a mut dyn Read,
    /// The shortest, the average and the longest chunk.
    lens: [usize; 3],
    buf: Vec<u8>,
    /// What of `buf` was given out.
    used: usize,
    is_over: bool,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(from: &'a mut dyn Read, lens: [usize; 3]) -> Self {
        Self { from, lens, buf: Vec::new(), used: 0, is_over: false }
    }

    /// The next chunk, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        let [min, average, max] = self.lens;
        if self.buf.len() - self.used < max && !self.is_over {
            self.fill(max + STORE_CHUNK_BYTES)?;
        }
        let rest = self.buf.get(self.used..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (_, cut) = FastCDC::new(rest, min, average, max).cut(0, rest.len());
        let len = cut.clamp(1, rest.len());
        self.used += len;
        Ok(rest.get(..len))
    }

    /// Reads until `want` bytes wait, or the stream ends.
    fn fill(&mut self, want: usize) -> Result<()> {
        self.buf.drain(..self.used);
        self.used = 0;
        let missing = want.saturating_sub(self.buf.len()) as u64;
        let read = (&mut *self.from).take(missing).read_to_end(&mut self.buf);
        let read = read.map_err(|err: io::Error| HostAbort::io("read", "the input", &err))?;
        self.is_over = (read as u64) < missing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::Random;

    const LENS: [usize; 3] = [64, 256, 1024];

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut random = Random::new(seed);
        (0..len).map(|_| random.next() as u8).collect()
    }

    fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut from = bytes;
        let mut cutter = Cutter::new(&mut from, LENS);
        std::iter::from_fn(|| cutter.next().unwrap().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn chunks_are_the_stream_and_keep_to_their_lengths() {
        for len in [0, 1, 63, 64, 1024, 1025, 700_000] {
            let bytes = noise(1, len);
            let chunks = cut(&bytes);
            assert_eq!(chunks.concat(), bytes);
            assert!(chunks.iter().all(|chunk| (1..=1024).contains(&chunk.len())));
            assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() >= 64));
        }
        assert_eq!(cut(&[0; 5000]).concat(), [0; 5000]);
    }

    /// The longest chunk never ends where the buffer does.
    #[test]
    fn where_a_read_ends_does_not_matter() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let len = to.len().min(7);
                self.0.read(&mut to[..len])
            }
        }
        let bytes = noise(2, 600_000);
        let mut slow = Slow(&bytes);
        let mut cutter = Cutter::new(&mut slow, LENS);
        let chunks: Vec<_> = std::iter::from_fn(|| cutter.next().unwrap().map(<[u8]>::to_vec)).collect();
        let whole = FastCDC::new(&bytes, 64, 256, 1024).map(|chunk| chunk.length);
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), whole.collect::<Vec<_>>());
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let old = noise(3, 300_000);
        let new = [&old[..150_000], b"inserted", &old[150_000..]].concat();
        let (old, new) = (cut(&old), cut(&new));
        let changed = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!((1..6).contains(&changed), "{changed} of {}", new.len());
    }
}

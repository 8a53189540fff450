//! Entropy of a run: BLAKE3's extendable output, one stream for each of the WASI interfaces,
//! all from the run's seed. The same seed gives the same bytes whatever a guest did before.

use blake3::OutputReader;

/// The streams of one kernel.
pub(crate) struct Entropy {
    pub(crate) secure: Stream,
    pub(crate) insecure: Stream,
    pub(crate) insecure_seed: Stream,
    /// What WASI 0.3, which gives one seed however often it is asked, gave.
    seed_given: Option<(u64, u64)>,
}

impl Entropy {
    /// How many bytes each stream gave: secure, insecure, seeds.
    pub(crate) fn positions(&self) -> [u64; 3] {
        [&self.secure, &self.insecure, &self.insecure_seed].map(|stream| stream.0.position())
    }

    /// The seed that was given, if it was.
    pub(crate) fn seed_given(&self) -> Option<(u64, u64)> {
        self.seed_given
    }

    /// Goes on from where [`Self::positions`] was taken.
    pub(crate) fn go_to(&mut self, positions: [u64; 3], seed_given: Option<(u64, u64)>) {
        let streams = [&mut self.secure, &mut self.insecure, &mut self.insecure_seed];
        for (stream, position) in streams.into_iter().zip(positions) {
            stream.0.set_position(position);
        }
        self.seed_given = seed_given;
    }

    /// The same two numbers each time.
    pub(crate) fn one_seed(&mut self) -> (u64, u64) {
        *self.seed_given.get_or_insert_with(|| (self.insecure_seed.u64(), self.insecure_seed.u64()))
    }

    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let stream = |context| {
            let key = blake3::derive_key(context, seed);
            Stream(blake3::Hasher::new_keyed(&key).finalize_xof())
        };
        Self {
            secure: stream("vac entropy 1 wasi:random/random"),
            insecure: stream("vac entropy 1 wasi:random/insecure"),
            insecure_seed: stream("vac entropy 1 wasi:random/insecure-seed"),
            seed_given: None,
        }
    }
}

/// One stream of bytes.
pub(crate) struct Stream(OutputReader);

impl Stream {
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.0.fill(&mut out);
        out
    }

    pub(crate) fn u64(&mut self) -> u64 {
        let mut out = [0; 8];
        self.0.fill(&mut out);
        u64::from_le_bytes(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_stream_and_each_interface_its_own() {
        let (mut a, mut b) = (Entropy::new(&[7; 32]), Entropy::new(&[7; 32]));
        let whole = a.secure.bytes(100);
        let parts = [b.secure.bytes(30), b.secure.bytes(70)].concat();
        assert_eq!(whole, parts);
        assert_ne!(a.insecure.u64(), a.insecure_seed.u64());
        assert_ne!(Entropy::new(&[8; 32]).secure.bytes(100), whole);
    }
}

//! Mutations of valid seeds, for compilers without libFuzzer: blind, but the same on every machine.

use std::collections::VecDeque;

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
    /// What numbers are made of while there is any.
    choices: VecDeque<u8>,
}

impl Random {
    /// A stream of numbers that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, choices: VecDeque::new() }
    }

    /// A stream of numbers of which each depends on two bytes of `choices`, so that a change in one place changes what is
    /// chosen there.
    pub fn of(choices: &[u8]) -> Self {
        Self { state: 0, choices: choices.iter().copied().collect() }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let chosen = self.choices.pop_front().map(|one| [one, self.choices.pop_front().unwrap_or_default()]);
        let mut z = chosen.map_or(self.state, |bytes| u64::from(u16::from_le_bytes(bytes)) << 32);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next_u64() % (bound.max(1) as u64)).unwrap_or_default()
    }
}

/// Bytes that decoders treat apart from their neighbours: bounds of lengths, CBOR heads, signs.
const INTERESTING: [u8; 12] = [0, 1, 0x17, 0x18, 0x1b, 0x3b, 0x5b, 0x7f, 0x80, 0x9b, 0xd8, 0xff];

/// One of `seeds`, changed in one to eight places.
pub fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = pick(seeds, random).to_vec();
    for _ in 0..=random.below(8) {
        change(&mut bytes, seeds, random);
    }
    bytes
}

fn pick<'a>(seeds: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    seeds.get(random.below(seeds.len())).map_or(&[], Vec::as_slice)
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => flip(bytes, at, random),
        1 => set(bytes, at, random.next_u64() as u8),
        2 => set(bytes, at, INTERESTING[random.below(INTERESTING.len())]),
        3 => bytes.truncate(at),
        4 => insert(bytes, at, random),
        5 => drop(bytes.drain(at..(at + random.below(16)).min(bytes.len()))),
        _ => splice(bytes, at, pick(seeds, random), random),
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let new: Vec<u8> = (0..random.below(16)).map(|_| random.next_u64() as u8).collect();
    bytes.splice(at..at, new);
}

/// Puts a stretch of another seed here.
fn splice(bytes: &mut Vec<u8>, at: usize, other: &[u8], random: &mut Random) {
    let start = random.below(other.len());
    let end = (start + random.below(64)).min(other.len());
    let until = (at + random.below(64)).min(bytes.len());
    bytes.splice(at..until, other[start..end].iter().copied());
}

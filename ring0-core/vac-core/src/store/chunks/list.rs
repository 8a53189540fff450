//! The bytes of a list of chunks. Drawn in `docs/formats.md`.
//!
//! ```text
//! | head | entry, entry, entry ... one for each chunk | node, node, node ... inner hashes of the object |
//! ```
//!
//! Invariants: as in [`format`](super::super::format); and no number in a list sizes an allocation. Head and entries have
//! checksums that cover which object they are of and which entry they are. Nodes have none: see [`tree`](super::tree).

use crate::cid::{CID_LEN, Cid, Codec};
use crate::limits::{
    STORE_GROUP_MAX_BYTES, STORE_GROUP_MIN_BYTES, STORE_LARGE_MIN_BYTES, STORE_OBJECT_MAX_BYTES,
};

use super::super::format::{checksum, take, unseal};
use super::tree::{NODE_LEN, nodes_of};

const MAGIC: [u8; 7] = *b"VACCHNK";
const VERSION: u8 = 1;
/// Length of the head in bytes.
pub(super) const HEAD_LEN: usize = 64;
/// Length of an entry in bytes.
pub(super) const ENTRY_LEN: usize = 44;
/// What is longer is not packed, so it is no chunk.
const CHUNK_MAX_BYTES: usize = STORE_LARGE_MIN_BYTES - 1;

/// What a list says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) cid: Cid,
    /// Length of the object in bytes.
    pub(super) len: u64,
    pub(super) chunks: u32,
    pub(super) group_len: u32,
}

/// Why a list is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// A newer program wrote it.
    Version(u8),
    Bytes,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[VERSION], &self.cid.to_bytes(), &self.chunks.to_le_bytes()].concat();
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.group_len.to_le_bytes());
        sealed(&bytes, &self.cid, 0)
    }

    /// The head of the list of `cid`.
    pub(super) fn decode(cid: &Cid, bytes: &[u8]) -> Result<Self, Bad> {
        let rest = bytes.get(..HEAD_LEN).and_then(|head| unseal(head, owner(cid), 0)).ok_or(Bad::Bytes)?;
        let rest = rest.strip_prefix(&MAGIC).ok_or(Bad::Bytes)?;
        match rest.split_first() {
            Some((&VERSION, rest)) => {
                Self::decode_parts(rest).filter(|head| head.is_sane(cid)).ok_or(Bad::Bytes)
            }
            Some((&other, _)) => Err(Bad::Version(other)),
            None => Err(Bad::Bytes),
        }
    }

    fn decode_parts(mut rest: &[u8]) -> Option<Self> {
        let cid = Cid::try_from_bytes(&take::<CID_LEN>(&mut rest)?)?;
        let chunks = u32::from_le_bytes(take(&mut rest)?);
        let len = u64::from_le_bytes(take(&mut rest)?);
        Some(Self { cid, len, chunks, group_len: u32::from_le_bytes(take(&mut rest)?) })
    }

    fn is_sane(&self, cid: &Cid) -> bool {
        let groups = STORE_GROUP_MIN_BYTES..=STORE_GROUP_MAX_BYTES;
        let chunks = u64::from(self.chunks);
        // No chunk is empty or longer than any chunk is, so a short list cannot claim a length that takes all memory.
        let fits = (chunks..=chunks * CHUNK_MAX_BYTES as u64).contains(&self.len);
        let is_object = self.len > 0 && self.len <= STORE_OBJECT_MAX_BYTES;
        self.cid == *cid
            && fits
            && is_object
            && self.group_len.is_power_of_two()
            && groups.contains(&self.group_len)
    }

    pub(super) fn groups(&self) -> u64 {
        self.len.div_ceil(self.group_len.into())
    }

    /// Where entry `nth` is in the file.
    pub(super) fn entry_place(nth: u32) -> u64 {
        HEAD_LEN as u64 + u64::from(nth) * ENTRY_LEN as u64
    }

    /// Where node `nth` is in the file.
    pub(super) fn node_place(&self, nth: u64) -> u64 {
        Self::entry_place(self.chunks) + nth.saturating_mul(NODE_LEN as u64)
    }

    /// How long the file is.
    pub(super) fn file_len(&self) -> u64 {
        self.node_place(nodes_of(self.groups()))
    }
}

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name; chunks are of codec raw.
    pub(super) cid: Cid,
    /// Where it ends in the object.
    pub(super) end: u64,
}

impl Entry {
    pub(super) fn encode(&self, owner: &Cid, nth: u32) -> Vec<u8> {
        sealed(&[&self.cid.digest()[..], &self.end.to_le_bytes()].concat(), owner, nth)
    }

    pub(super) fn decode(owner_cid: &Cid, nth: u32, bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, owner(owner_cid), nth)?;
        let cid = Cid::new(Codec::Raw, take(&mut rest)?);
        Some(Self { cid, end: u64::from_le_bytes(take(&mut rest)?) })
    }

    /// The length of the chunk, if it begins at `start` and is one that a store packs.
    pub(super) fn len_from(&self, start: u64) -> Option<usize> {
        let len = usize::try_from(self.end.checked_sub(start)?).ok()?;
        (1..=CHUNK_MAX_BYTES).contains(&len).then_some(len)
    }
}

/// What a checksum has for the number of a pack: so a list that ended up under another name does not pass.
fn owner(cid: &Cid) -> u32 {
    let [a, b, c, d, ..] = *cid.digest();
    u32::from_le_bytes([a, b, c, d])
}

fn sealed(bytes: &[u8], cid: &Cid, place: u32) -> Vec<u8> {
    [bytes, &checksum(bytes, owner(cid), place).to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heads_and_entries_round_trip_and_flips_are_seen() {
        let cid = Cid::of(Codec::DagCbor, b"object");
        let head = Head { cid, len: 5_000_000_000, chunks: 70_000, group_len: 65_536 };
        let entry = Entry { cid: Cid::of_raw(b"chunk"), end: 4_999_999_999 };
        let (head_bytes, entry_bytes) = (head.encode(), entry.encode(&cid, 7));
        assert_eq!((head_bytes.len(), entry_bytes.len()), (HEAD_LEN, ENTRY_LEN));
        assert_eq!(Head::decode(&cid, &head_bytes), Ok(head));
        assert_eq!(Entry::decode(&cid, 7, &entry_bytes), Some(entry));
        assert_eq!(Head::decode(&Cid::of_raw(b"object"), &head_bytes), Err(Bad::Bytes), "another codec");
        assert_eq!(
            (Entry::decode(&cid, 8, &entry_bytes), Entry::decode(&entry.cid, 7, &entry_bytes)),
            (None, None)
        );
        for bit in 0..HEAD_LEN * 8 {
            let mut flipped = head_bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&cid, &flipped), Err(Bad::Bytes), "bit {bit}");
        }
        let mut newer = head_bytes[..HEAD_LEN - 4].to_vec();
        newer[7] = 9;
        assert_eq!(Head::decode(&cid, &sealed(&newer, &cid, 0)), Err(Bad::Version(9)));
    }

    #[test]
    fn what_no_store_writes_is_refused() {
        let cid = Cid::of_raw(b"x");
        let good = Head { cid, len: 4096, chunks: 4, group_len: 1024 };
        assert_eq!(Head::decode(&cid, &good.encode()), Ok(good));
        for bad in [
            Head { len: 3, ..good },
            Head { len: u64::MAX, ..good },
            Head { len: 4 * CHUNK_MAX_BYTES as u64 + 1, ..good },
            Head { len: 1 << 36, chunks: 1, ..good },
            Head { len: STORE_OBJECT_MAX_BYTES + 1, chunks: u32::MAX, ..good },
            Head { chunks: 0, ..good },
            Head { len: 0, chunks: 0, ..good },
            Head { group_len: 1000, ..good },
            Head { group_len: 512, ..good },
            Head { group_len: 1 << 21, ..good },
        ] {
            assert_eq!(Head::decode(&cid, &bad.encode()), Err(Bad::Bytes), "{bad:?}");
        }
        let entry = |end| Entry { cid, end };
        assert_eq!([entry(5).len_from(5), entry(4).len_from(5), entry(u64::MAX).len_from(0)], [None; 3]);
        assert_eq!(entry(9).len_from(5), Some(4));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), nth: u32) {
            let cid = Cid::of_raw(b"x");
            let _ = Head::decode(&cid, &bytes);
            let _ = Entry::decode(&cid, nth, &bytes);
        }

        #[test]
        fn any_sane_head_has_a_length(len in 1..=i64::MAX as u64, chunks: u32, shift in 10..=20u32) {
            let head = Head { cid: Cid::of_raw(b"x"), len, chunks, group_len: 1 << shift };
            prop_assert!(head.file_len() >= HEAD_LEN as u64);
        }
    }
}

//! The inner hashes of BLAKE3 over groups of an object, so that a part of it can be checked against its CID.
//!
//! BLAKE3 hashes a tree whose left parts are as long as powers of two allow. Over groups of such a length the same tree
//! comes from pairing neighbours, level by level, a last one without a neighbour going up as it is:
//!
//! ```text
//!            root
//!          /      \
//!        ab        c        level 1: ab c
//!       /  \       |
//!      a    b      c        level 0: a b c
//! ```
//!
//! The nodes below the root are kept in this order, level 0 first. They are believed by nobody: a part is hashed, climbs
//! to the root beside them, and either arrives at the CID or not.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Length of a node in bytes.
pub(super) const NODE_LEN: usize = 32;

/// One inner hash.
pub(super) type Node = ChainingValue;

/// The digest of an object and the nodes below it.
pub(super) struct Tree {
    pub(super) root: [u8; 32],
    pub(super) nodes: Vec<Node>,
}

/// Hashes bytes as they come.
pub(super) struct Hashing {
    group_len: usize,
    hasher: Hasher,
    /// Bytes in `hasher`. A full group is closed only when there is more, for the only one is hashed otherwise.
    in_group: usize,
    leaves: Vec<Node>,
}

impl Hashing {
    /// Groups of `group_len` bytes, a power of two from 1,024 on.
    pub(super) fn new(group_len: usize) -> Self {
        debug_assert!(group_len.is_power_of_two() && group_len >= blake3::CHUNK_LEN);
        Self { group_len, hasher: Hasher::new(), in_group: 0, leaves: Vec::new() }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.in_group == self.group_len {
                self.close();
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.group_len - self.in_group));
            self.hasher.update(now);
            self.in_group += now.len();
            bytes = rest;
        }
    }

    fn close(&mut self) {
        self.leaves.push(self.hasher.finalize_non_root());
        let offset = self.leaves.len() as u64 * self.group_len as u64;
        self.hasher = Hasher::new();
        self.hasher.set_input_offset(offset);
        self.in_group = 0;
    }

    pub(super) fn finish(mut self) -> Tree {
        if self.leaves.is_empty() {
            return Tree { root: *self.hasher.finalize().as_bytes(), nodes: Vec::new() };
        }
        self.close();
        let (mut level, mut nodes) = (self.leaves.clone(), self.leaves);
        loop {
            if let [left, right] = level.as_slice() {
                let root = *merge_subtrees_root(left, right, Mode::Hash).as_bytes();
                return Tree { root, nodes };
            }
            level = level.chunks(2).map(parent).collect();
            nodes.extend_from_slice(&level);
        }
    }
}

fn parent(pair: &[Node]) -> Node {
    match pair {
        [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
        [alone] => *alone,
        _ => Node::default(),
    }
}

/// The nodes below the root of an object of so many groups.
pub(super) fn nodes_of(groups: u64) -> u64 {
    let (mut count, mut all) = (groups, 0);
    while count > 1 {
        all += count;
        count = if count == 2 { 1 } else { count.div_ceil(2) };
    }
    all
}

/// The digest that an object of `groups` groups has if the bytes of number `nth` are `bytes`, given its nodes by their
/// number.
pub(super) fn climb<E>(
    bytes: &[u8],
    nth: u64,
    groups: u64,
    group_len: usize,
    node_at: impl Fn(u64) -> Result<Node, E>,
) -> Result<[u8; 32], E> {
    if groups < 2 {
        return Ok(*blake3::hash(bytes).as_bytes());
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(nth * group_len as u64).update(bytes);
    let mut node = hasher.finalize_non_root();
    let (mut at, mut count, mut level) = (nth, groups, 0);
    loop {
        let beside = at ^ 1;
        if beside < count {
            let other = node_at(level + beside)?;
            let (left, right) = if at < beside { (node, other) } else { (other, node) };
            if count == 2 {
                return Ok(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes());
            }
            node = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        (at, level, count) = (at / 2, level + count, count.div_ceil(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: usize = 1024;

    fn tree_of(bytes: &[u8], parts: usize) -> Tree {
        let mut hashing = Hashing::new(GROUP);
        bytes.chunks(parts).for_each(|part| hashing.update(part));
        hashing.finish()
    }

    /// Up to five levels, with last groups of one byte, of all but one, and full ones.
    #[test]
    fn the_root_is_the_hash_of_all_and_every_group_leads_to_it() {
        let bytes: Vec<u8> = (0..33 * GROUP as u32).map(|i| (i * 7 / 5) as u8).collect();
        for groups in 1..=33 {
            for len in [(groups - 1) * GROUP + 1, groups * GROUP - 1, groups * GROUP] {
                let bytes = &bytes[..len];
                let tree = tree_of(bytes, 700);
                assert_eq!(tree.root, *blake3::hash(bytes).as_bytes(), "{len} bytes");
                assert_eq!(tree.nodes.len() as u64, nodes_of(groups as u64), "{len} bytes");
                for (nth, group) in bytes.chunks(GROUP).enumerate() {
                    let climb = |group: &[u8]| {
                        let node_at = |at: u64| tree.nodes.get(at as usize).copied().ok_or(());
                        climb(group, nth as u64, groups as u64, GROUP, node_at).unwrap()
                    };
                    assert_eq!(climb(group), tree.root, "group {nth} of {len} bytes");
                    let mut other = group.to_vec();
                    other[0] ^= 1;
                    assert_ne!(climb(&other), tree.root);
                }
            }
        }
    }

    #[test]
    fn how_bytes_come_does_not_matter() {
        let bytes: Vec<u8> = (0..9000u32).map(|i| i as u8).collect();
        let whole = tree_of(&bytes, 9000);
        for parts in [1, 1023, 1024, 1025, 4096] {
            let tree = tree_of(&bytes, parts);
            assert_eq!((tree.root, tree.nodes), (whole.root, whole.nodes.clone()));
        }
    }
}

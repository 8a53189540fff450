//! One node of a shard's map: a radix tree over page numbers, fan-out 256, with path compression.
//!
//! A page number is eight bytes, most significant first. A node branches on the byte at its `depth`; all
//! numbers below it agree in the bytes before. Chains of single children are left out, so the shape of the
//! tree depends on nothing but the set of mapped pages: equal contents have equal roots.
//!
//! ```text
//! node  = [depth, [[key, link], ...]]         canonical form, an object of codec dag-cbor
//! link  = raw: the page `key`                 dag-cbor: a node whose numbers agree with `key`
//! ```
//!
//! A page cannot pass for a node or the other way round: the codec is a part of the link.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::canon::{Reader, Writer};
use crate::cid::{Cid, Codec};
use crate::fault::{Corrupt, Result};
use crate::limits::MEMORY_FAN_OUT;

/// Bytes of a page number.
const KEY_LEN: u8 = 8;
/// Entries that a node has room for beyond those it has, at most.
const ROOM: usize = 4;

/// What a page number leads to.
#[derive(Debug, Clone)]
pub(super) enum PageRef {
    /// An object of the tier.
    Stored(Cid),
    /// Written since the last commit.
    Held(Arc<Version>),
}

/// Contents of a page that were written and not committed. It is written again in place only by the
/// space that made it, until that space takes a snapshot or commits: then its epoch is over.
#[derive(Debug)]
pub(super) struct Version {
    /// Once it is in the tier.
    cid: OnceLock<Cid>,
    /// Where it is until then.
    frame: u32,
    epoch: u64,
    /// Whether another page has it too.
    is_shared: AtomicBool,
}

impl Version {
    /// What is in the frame `frame`.
    pub(super) fn new(frame: u32, epoch: u64) -> Arc<Self> {
        Arc::new(Self { cid: OnceLock::new(), frame, epoch, is_shared: AtomicBool::new(false) })
    }

    /// A page that the tier has.
    pub(super) fn settled(cid: Cid) -> Arc<Self> {
        Arc::new(Self { cid: OnceLock::from(cid), frame: 0, epoch: 0, is_shared: AtomicBool::new(true) })
    }

    /// Its name, if it is in the tier.
    pub(super) fn cid(&self) -> Option<Cid> {
        self.cid.get().copied()
    }

    /// Its frame. Another page may be there once it has a name.
    pub(super) fn frame(&self) -> u32 {
        self.frame
    }

    /// Whether a space in `epoch` may write it in place.
    pub(super) fn is_open(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.cid.get().is_none() && !self.is_shared.load(Ordering::Relaxed)
    }

    /// Notes that another page has it too.
    pub(super) fn share(&self) {
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// Notes that the tier has it. Its contents never change after that.
    pub(super) fn settle(&self, cid: Cid) {
        let first = self.cid.set(cid);
        debug_assert!(first.is_ok(), "a version is written to the tier once");
    }
}

/// What a version takes in memory, with what counts who has it.
pub(super) const VERSION_BYTES: usize = size_of::<Version>() + 2 * size_of::<usize>();

/// A frame's way back to what it holds, without keeping it alive.
pub(super) type Holder = Weak<Version>;

/// One child of a node, or the root of a map.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The page number; of a node, what its numbers agree in, then zeros.
    pub(super) key: u64,
    pub(super) child: Child,
}

/// Where an entry leads.
#[derive(Debug, Clone)]
pub(super) enum Child {
    Page(PageRef),
    /// A node that differs from what the tier has.
    Changed(Arc<Node>),
    /// A node of the tier.
    Stored(Cid),
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Which byte of a page number it branches on, 0 to 7.
    pub(super) depth: u8,
    /// At least two, by that byte.
    pub(super) entries: Vec<Entry>,
}

/// The byte of `key` that a node of `depth` branches on.
pub(super) fn byte(key: u64, depth: u8) -> u8 {
    key.to_be_bytes().get(usize::from(depth)).copied().unwrap_or_default()
}

/// What all numbers below a node of `depth` that leads to `key` agree in, then zeros.
pub(super) fn prefix(key: u64, depth: u8) -> u64 {
    match depth {
        0 => 0,
        _ => key & (u64::MAX << (8 * u32::from(KEY_LEN - depth.min(KEY_LEN)))),
    }
}

/// The first byte in which two numbers differ.
pub(super) fn difference(a: u64, b: u64) -> Option<u8> {
    (a != b).then(|| ((a ^ b).leading_zeros() / 8) as u8)
}

impl Node {
    /// The node that tells two entries apart.
    pub(super) fn of_two(depth: u8, a: Entry, b: Entry) -> Self {
        let mut entries = vec![a, b];
        entries.sort_unstable_by_key(|entry| byte(entry.key, depth));
        Self { depth, entries }
    }

    /// The place of `key`, or where it would be.
    pub(super) fn find(&self, key: u64) -> Result<usize, usize> {
        let wanted = byte(key, self.depth);
        // Most nodes are nearly full or nearly empty; both are found in a few steps.
        self.entries.binary_search_by_key(&wanted, |entry| byte(entry.key, self.depth))
    }

    /// Puts an entry at the place where it is not yet. Returns the bytes by which the node grew: room is made for a few
    /// at a time, for twice as many would be most of what maps take in memory.
    pub(super) fn insert(&mut self, at: usize, entry: Entry) -> usize {
        let before = self.entries.capacity();
        if self.entries.len() == before {
            self.entries.reserve_exact((MEMORY_FAN_OUT - before.min(MEMORY_FAN_OUT)).clamp(1, ROOM));
        }
        self.entries.insert(at, entry);
        (self.entries.capacity() - before) * size_of::<Entry>()
    }

    /// Whether `key` can be below this node.
    pub(super) fn covers(&self, key: u64) -> bool {
        self.entries.first().is_some_and(|first| prefix(first.key, self.depth) == prefix(key, self.depth))
    }

    /// The canonical form; `None` if a child has no name yet.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        // Two heads and a link of 41 bytes an entry.
        let mut to = Writer::from(Vec::with_capacity(8 + self.entries.len() * 51));
        to.array(2);
        to.uint(self.depth.into());
        to.array(self.entries.len());
        for entry in &self.entries {
            to.array(2);
            to.uint(entry.key);
            to.link(&entry.child.link()?);
        }
        Some(to.into_bytes())
    }

    /// Whether this node may stand where an entry of a node of depth `above` says `key`. One that may not
    /// was linked by somebody who made up a tree.
    pub(super) fn is_below(&self, key: u64, above: Option<u8>) -> bool {
        let is_deeper = above.is_none_or(|above| above < self.depth);
        is_deeper && self.entries.first().is_some_and(|first| prefix(first.key, self.depth) == key)
    }

    /// Reads a node. What no set of pages would give is refused.
    pub(super) fn decode(bytes: &[u8], cid: &Cid) -> Result<Self, Corrupt> {
        let place = format!("the map's node {cid}");
        let mut from = Reader::new(bytes, &place);
        from.array_of(2)?;
        let depth = from.uint()?;
        let Some(depth) = u8::try_from(depth).ok().filter(|depth| *depth < KEY_LEN) else {
            return Err(from.wrong(format!("a depth below {KEY_LEN}"), depth));
        };
        let len = from.array()?;
        if !(2..=MEMORY_FAN_OUT).contains(&len) {
            return Err(from.wrong(format!("2 to {MEMORY_FAN_OUT} entries"), len));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(len);
        for _ in 0..len {
            let entry = decode_entry(&mut from)?;
            let is_next = entries.last().is_none_or(|last| {
                byte(last.key, depth) < byte(entry.key, depth)
                    && prefix(last.key, depth) == prefix(entry.key, depth)
            });
            if !is_next {
                return Err(from.wrong("the next number of this node", format!("{:#x}", entry.key)));
            }
            entries.push(entry);
        }
        from.finish()?;
        Ok(Self { depth, entries })
    }
}

impl Child {
    /// Whether both lead to one thing, as far as can be seen without looking into it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Changed(one), Self::Changed(other)) => Arc::ptr_eq(one, other),
            (Self::Page(PageRef::Held(one)), Self::Page(PageRef::Held(other))) if Arc::ptr_eq(one, other) => {
                true
            }
            _ => self.link().is_some() && self.link() == other.link(),
        }
    }

    /// Whether all of it was written to the tier as it is.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_) | Self::Page(PageRef::Stored(_)))
    }

    /// The link to it; `None` if it has no name yet.
    pub(super) fn link(&self) -> Option<Cid> {
        match self {
            Self::Page(PageRef::Stored(cid)) | Self::Stored(cid) => Some(*cid),
            Self::Page(PageRef::Held(version)) => version.cid(),
            Self::Changed(_) => None,
        }
    }
}

/// An entry: `[key, link]`.
pub(super) fn decode_entry(from: &mut Reader<'_>) -> Result<Entry, Corrupt> {
    from.array_of(2)?;
    let key = from.uint()?;
    let link = from.link()?;
    let child = match link.codec() {
        Codec::Raw => Child::Page(PageRef::Stored(link)),
        Codec::DagCbor => Child::Stored(link),
    };
    Ok(Entry { key, child })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(key: u64) -> Entry {
        Entry { key, child: Child::Page(PageRef::Stored(Cid::of_raw(&key.to_le_bytes()))) }
    }

    #[test]
    fn numbers_are_compared_byte_by_byte() {
        assert_eq!(difference(0x1234, 0x1235), Some(7));
        assert_eq!(difference(0x1234, 0x1334), Some(6));
        assert_eq!(difference(1 << 63, 0), Some(0));
        assert_eq!(difference(7, 7), None);
        assert_eq!(prefix(0x1234, 7), 0x1200);
        assert_eq!(prefix(0x1234, 6), 0);
        assert_eq!(prefix(u64::MAX, 0), 0);
        assert_eq!(prefix(u64::MAX, 1), 0xff << 56);
    }

    #[test]
    fn a_node_is_read_back_only_in_its_own_form() {
        let node = Node { depth: 7, entries: vec![page(0x1201), page(0x1203), page(0x12ff)] };
        let bytes = node.encode().unwrap();
        let cid = Cid::of(Codec::DagCbor, &bytes);
        let again = Node::decode(&bytes, &cid).unwrap();
        assert_eq!(again.encode().unwrap(), bytes);
        assert!(again.is_below(0x1200, Some(3)) && again.is_below(0x1200, None));
        assert!(!again.is_below(0x1300, Some(3)), "below another key");
        assert!(!again.is_below(0x1200, Some(7)), "not deeper than its parent");
        for wrong in
            [vec![page(3)], vec![page(3), page(1)], vec![page(3), page(3)], vec![page(3), page(0x103)]]
        {
            let bytes = Node { depth: 7, entries: wrong }.encode().unwrap();
            assert!(Node::decode(&bytes, &cid).is_err());
        }
    }

    #[test]
    fn no_byte_of_a_node_can_be_changed_unseen() {
        let node = Node { depth: 7, entries: vec![page(1), page(200)] };
        let bytes = node.encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                // Either refused, or another node with another form: never a panic.
                if let Ok(read) = Node::decode(&bad, &Cid::of_raw(b"")) {
                    assert_eq!(read.encode().unwrap(), bad);
                }
            }
        }
        for end in 0..bytes.len() {
            assert!(Node::decode(&bytes[..end], &Cid::of_raw(b"")).is_err());
        }
    }
}

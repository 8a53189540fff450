//! Nodes of maps that the tier has, in memory up to a bound.

#![expect(clippy::disallowed_types, reason = "its order is never observed: what leaves is in `order`")]

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::cid::{Cid, Codec};
use crate::fault::{AbortKind, Corrupt, HostAbort, Result};
use crate::limits::MEMORY_NODE_MAX_BYTES;

use super::node::{Child, Entry, Node};
use super::tier::Tier;

/// Where nodes come from and go to.
pub(super) struct Nodes {
    tier: Arc<dyn Tier>,
    kept: HashMap<Cid, Kept, BuildHasherDefault<DefaultHasher>>,
    /// In the order in which they came; one that was used meanwhile goes round again.
    order: VecDeque<Cid>,
    bytes: usize,
    bytes_max: usize,
    /// Nodes that had to be read.
    pub(super) reads: u64,
}

struct Kept {
    node: Arc<Node>,
    was_used: bool,
}

impl Nodes {
    pub(super) fn new(tier: Arc<dyn Tier>, bytes_max: usize) -> Self {
        Self { tier, kept: HashMap::default(), order: VecDeque::new(), bytes: 0, bytes_max, reads: 0 }
    }

    /// The node that `entry`, of a node of depth `above`, leads to. `None` if it leads to a page.
    pub(super) fn follow(&mut self, entry: &Entry, above: Option<u8>) -> Result<Option<Arc<Node>>> {
        match &entry.child {
            Child::Page(_) => Ok(None),
            Child::Changed(node) => Ok(Some(Arc::clone(node))),
            Child::Stored(cid) => {
                let node = self.node(cid)?;
                if node.is_below(entry.key, above) {
                    return Ok(Some(node));
                }
                let expected = format!("numbers below {:#x}", entry.key);
                let got = node.entries.first().map_or(0, |first| first.key);
                Err(Corrupt::new("node", format!("the map's node {cid}"), expected, format!("{got:#x}"))
                    .into())
            }
        }
    }

    fn node(&mut self, cid: &Cid) -> Result<Arc<Node>> {
        if let Some(kept) = self.kept.get_mut(cid) {
            kept.was_used = true;
            return Ok(Arc::clone(&kept.node));
        }
        let bytes = self.tier.get(cid, MEMORY_NODE_MAX_BYTES)?.ok_or_else(|| missing("node", cid))?;
        self.reads += 1;
        let node = Arc::new(Node::decode(&bytes, cid)?);
        self.keep(*cid, Arc::clone(&node));
        Ok(node)
    }

    /// Writes `node` to the tier. All its children must have been written.
    pub(super) fn write(&mut self, node: Arc<Node>) -> Result<Cid> {
        let Some(bytes) = node.encode() else {
            let message = "a node of a map was written before its children";
            return Err(HostAbort::new(AbortKind::Machine, message).into());
        };
        let cid = Cid::of(Codec::DagCbor, &bytes);
        self.tier.put(&cid, &bytes)?;
        self.keep(cid, node);
        Ok(cid)
    }

    fn keep(&mut self, cid: Cid, node: Arc<Node>) {
        self.bytes += size_of_node(&node);
        match self.kept.insert(cid, Kept { node, was_used: false }) {
            // Equal nodes may have room for different numbers of entries.
            Some(same) => self.bytes -= size_of_node(&same.node),
            None => self.order.push_back(cid),
        }
        while self.bytes > self.bytes_max && self.drop_one() {}
    }

    /// Keeps at most so many bytes of nodes from now on.
    pub(super) fn keep_at_most(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        while self.bytes > self.bytes_max && self.drop_one() {}
    }

    /// Forgets the oldest that was not used since it was last looked at.
    fn drop_one(&mut self) -> bool {
        let Some(oldest) = self.order.pop_front() else { return false };
        let Some(kept) = self.kept.get_mut(&oldest) else { return true };
        if std::mem::take(&mut kept.was_used) {
            self.order.push_back(oldest);
            return true;
        }
        self.bytes -= size_of_node(&kept.node);
        self.kept.remove(&oldest);
        true
    }
}

/// What a node takes in memory.
pub(super) fn size_of_node(node: &Node) -> usize {
    size_of::<Node>() + node.entries.capacity() * size_of::<Entry>()
}

/// An object that a map leads to is not in any tier.
pub(super) fn missing(what: &'static str, cid: &Cid) -> crate::fault::Error {
    Corrupt::new(what, "the store", format!("the object {cid}"), "nothing").into()
}

//! Proof of one page against the root of a memory, checked without the memory.

use crate::cid::Cid;
use crate::fault::{Corrupt, Result};
use crate::limits::MEMORY_ROOT_MAX_BYTES;

use super::Pager;
use super::node::{Child, Entry, Node, PageRef};
use super::nodes::missing;
use super::root::{self, Backing, Shard, made_page};

/// The objects on the way from a root to a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The root's bytes, then those of each node, from the top.
    pub objects: Vec<Vec<u8>>,
}

/// What a root says of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Bytes of a page.
    pub page_len: usize,
    /// Its number.
    pub page: u64,
    /// What is there.
    pub mapping: Mapping,
}

/// What is at a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// This object: the page's bytes hash to it.
    Object(Cid),
    /// Nothing: it holds what its shard's backing says.
    Unmapped(Backing),
}

impl Pager {
    /// The proof of what the memory `root` has at `page` of `shard`.
    pub fn prove(&mut self, root: &Cid, shard: u64, page: u64) -> Result<Proof> {
        let mut objects = Vec::new();
        let mut next = *root;
        let mut walk = Walk::new(shard, page);
        loop {
            let found = self.tier.get(&next, MEMORY_ROOT_MAX_BYTES)?;
            let bytes = found.ok_or_else(|| missing("node", &next))?;
            let step = walk.step(&bytes, &next)?;
            objects.push(bytes);
            match step {
                Step::Down(cid) => next = cid,
                Step::End(_) => return Ok(Proof { objects }),
            }
        }
    }
}

/// Checks that `proof` leads from `root` to `page` of `shard`, and returns what is there. Then compare:
/// [`Proven::holds`].
pub fn verify_page(root: &Cid, shard: u64, page: u64, proof: &Proof) -> Result<Proven, Corrupt> {
    let mut expected = *root;
    let mut walk = Walk::new(shard, page);
    let mut objects = proof.objects.iter();
    while let Some(bytes) = objects.next() {
        let got = Cid::of(expected.codec(), bytes);
        if got != expected {
            return Err(Corrupt::new("proof", format!("the way to page {page}"), expected, got));
        }
        match walk.step(bytes, &expected)? {
            Step::Down(cid) => expected = cid,
            Step::End(proven) if objects.len() == 0 => return Ok(proven),
            Step::End(_) => {
                let more = format!("{} more objects", objects.len());
                return Err(Corrupt::new("proof", format!("the way to page {page}"), "its end", more));
            }
        }
    }
    Err(Corrupt::new("proof", format!("the way to page {page}"), format!("the object {expected}"), "its end"))
}

impl Proven {
    /// Whether a page with these bytes is what was proven. What a generator makes that is not always there is
    /// not known here.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let is_this = match &self.mapping {
            Mapping::Object(cid) => Cid::of_raw(bytes) == *cid,
            Mapping::Unmapped(backing) => {
                made_page(backing, self.page, self.page_len).is_some_and(|made| made == bytes)
            }
        };
        bytes.len() == self.page_len && is_this
    }
}

/// A walk from the root down.
struct Walk {
    shard: u64,
    page: u64,
    page_len: usize,
    backing: Backing,
    /// The entry that led here, and the depth of its node; `None` at the root.
    last: Option<(u64, Option<u8>)>,
}

enum Step {
    Down(Cid),
    End(Proven),
}

impl Walk {
    fn new(shard: u64, page: u64) -> Self {
        Self { shard, page, page_len: 0, backing: Backing::Zeros, last: None }
    }

    /// Goes on from the object `cid` with these bytes.
    fn step(&mut self, bytes: &[u8], cid: &Cid) -> Result<Step, Corrupt> {
        let Some((key, above)) = self.last else { return self.start(bytes, cid) };
        let node = Node::decode(bytes, cid)?;
        if !node.is_below(key, above) {
            let expected = format!("numbers below {key:#x}");
            return Err(Corrupt::new("node", format!("the map's node {cid}"), expected, "others"));
        }
        let found = node.find(self.page).ok().and_then(|at| node.entries.get(at));
        match found.filter(|_| node.covers(self.page)) {
            None => Ok(Step::End(self.unmapped())),
            Some(entry) => Ok(self.follow(entry, Some(node.depth))),
        }
    }

    fn start(&mut self, bytes: &[u8], cid: &Cid) -> Result<Step, Corrupt> {
        let root = root::decode(bytes, cid)?;
        self.page_len = root.page_len;
        let Some(Shard { map, backing }) = root.shards.get(&self.shard) else {
            return Ok(Step::End(self.unmapped()));
        };
        self.backing = backing.clone();
        Ok(match map.root() {
            None => Step::End(self.unmapped()),
            Some(entry) => self.follow(entry, None),
        })
    }

    fn follow(&mut self, entry: &Entry, depth: Option<u8>) -> Step {
        match &entry.child {
            Child::Stored(cid) => {
                self.last = Some((entry.key, depth));
                Step::Down(*cid)
            }
            Child::Page(PageRef::Stored(cid)) if entry.key == self.page => {
                Step::End(self.proven(Mapping::Object(*cid)))
            }
            _ => Step::End(self.unmapped()),
        }
    }

    fn unmapped(&self) -> Proven {
        self.proven(Mapping::Unmapped(self.backing.clone()))
    }

    fn proven(&self, mapping: Mapping) -> Proven {
        Proven { page_len: self.page_len, page: self.page, mapping }
    }
}

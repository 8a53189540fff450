//! The map of one shard: from page numbers to pages, persistent.
//!
//! A clone shares everything and costs nothing; a change copies the nodes on its way. Nodes that were
//! changed are in memory, the others in the tier, read when they are needed.

use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::Result;

use super::node::{self, Child, Entry, Node, PageRef};
use super::nodes::{Nodes, size_of_node};

/// A map.
#[derive(Debug, Clone, Default)]
pub(super) struct Map {
    root: Option<Entry>,
}

/// What sealing a page gave.
pub(super) enum Sealed {
    /// The page is this object of the tier.
    Stored(Cid),
    /// The page holds what it would hold unmapped.
    Unmapped,
}

/// Writes pages to the tier, for [`Map::seal`].
pub(super) trait Seal {
    /// The name of a page after it was written.
    fn seal(&mut self, page: u64, held: &PageRef) -> Result<Sealed>;

    /// Where nodes go.
    fn nodes(&mut self) -> &mut Nodes;
}

impl Map {
    /// A map that was read.
    pub(super) fn of(root: Option<Entry>) -> Self {
        Self { root }
    }

    /// The root's number and link; `None` inside if something is not in the tier.
    pub(super) fn link(&self) -> Option<(u64, Option<Cid>)> {
        self.root.as_ref().map(|root| (root.key, root.child.link()))
    }

    /// Where it begins.
    pub(super) fn root(&self) -> Option<&Entry> {
        self.root.as_ref()
    }

    /// What is mapped at `page`.
    pub(super) fn get(&self, page: u64, nodes: &mut Nodes) -> Result<Option<PageRef>> {
        let Some(root) = &self.root else { return Ok(None) };
        if let Child::Page(mapped) = &root.child {
            return Ok((root.key == page).then(|| mapped.clone()));
        }
        let mut next = nodes.follow(root, None)?;
        while let Some(node) = next {
            if !node.covers(page) {
                return Ok(None);
            }
            let Some(entry) = node.find(page).ok().and_then(|at| node.entries.get(at)) else {
                return Ok(None);
            };
            if let Child::Page(mapped) = &entry.child {
                return Ok((entry.key == page).then(|| mapped.clone()));
            }
            next = nodes.follow(entry, Some(node.depth))?;
        }
        Ok(None)
    }

    /// Maps `page` to `to`. Returns the bytes by which nodes in memory grew.
    pub(super) fn set(&mut self, page: u64, to: PageRef, nodes: &mut Nodes) -> Result<usize> {
        let new = Entry { key: page, child: Child::Page(to) };
        match &mut self.root {
            None => {
                self.root = Some(new);
                Ok(0)
            }
            Some(root) => set_below(root, None, new, nodes),
        }
    }

    /// Unmaps `page`. Returns the bytes by which nodes in memory grew; `None` if it was not mapped.
    pub(super) fn remove(&mut self, page: u64, nodes: &mut Nodes) -> Result<Option<usize>> {
        // Looked at first, so that nothing is copied for a page that is not there.
        if self.get(page, nodes)?.is_none() {
            return Ok(None);
        }
        let mut grown = 0;
        if let Some(root) = &mut self.root
            && remove_below(root, None, page, nodes, &mut grown)?
        {
            self.root = None;
        }
        Ok(Some(grown))
    }

    /// Writes all that is not in the tier yet, pages first.
    pub(super) fn seal(&mut self, sealer: &mut dyn Seal) -> Result<()> {
        if let Some(root) = &mut self.root
            && seal_entry(root, sealer)?
        {
            self.root = None;
        }
        Ok(())
    }

    /// Calls `found` for each page that is not in the tier.
    pub(super) fn each_held(&self, found: &mut dyn FnMut(u64, &PageRef)) {
        if let Some(root) = &self.root {
            each_held(root, found);
        }
    }

    /// Pages that are mapped to different objects in the two maps, or in one of them only. Parts that
    /// are the same object are not read.
    pub(super) fn diff(&self, other: &Self, nodes: &mut Nodes) -> Result<Vec<u64>> {
        let mut pages = Vec::new();
        diff((self.root.as_ref(), None), (other.root.as_ref(), None), nodes, &mut pages)?;
        pages.sort_unstable();
        Ok(pages)
    }
}

/// The node behind `entry`, to be changed: read, or copied if others have it too.
fn own<'a>(
    entry: &'a mut Entry,
    above: Option<u8>,
    nodes: &mut Nodes,
    grown: &mut usize,
) -> Result<Option<&'a mut Node>> {
    if let Child::Stored(_) = entry.child
        && let Some(node) = nodes.follow(entry, above)?
    {
        *grown += size_of_node(&node);
        entry.child = Child::Changed(node);
    }
    Ok(match &mut entry.child {
        Child::Changed(node) => Some(Arc::make_mut(node)),
        _ => None,
    })
}

fn set_below(entry: &mut Entry, above: Option<u8>, new: Entry, nodes: &mut Nodes) -> Result<usize> {
    let (key, mut grown) = (entry.key, 0);
    let Some(node) = own(entry, above, nodes, &mut grown)? else {
        match node::difference(key, new.key) {
            None => entry.child = new.child,
            Some(depth) => grown += split(entry, depth, new),
        }
        return Ok(grown);
    };
    if !node.covers(new.key) {
        if let Some(depth) = node::difference(key, node::prefix(new.key, node.depth)) {
            grown += split(entry, depth, new);
        }
        return Ok(grown);
    }
    match node.find(new.key) {
        Ok(at) => {
            let depth = node.depth;
            if let Some(below) = node.entries.get_mut(at) {
                grown += set_below(below, Some(depth), new, nodes)?;
            }
        }
        Err(at) => {
            node.entries.insert(at, new);
            grown += size_of::<Entry>();
        }
    }
    Ok(grown)
}

/// Puts a node of `depth` in the place of `entry`, with it and `new` below.
fn split(entry: &mut Entry, depth: u8, new: Entry) -> usize {
    let key = node::prefix(new.key, depth);
    let below = std::mem::replace(entry, new.clone());
    let node = Node::of_two(depth, below, new);
    let grown = size_of_node(&node);
    *entry = Entry { key, child: Child::Changed(Arc::new(node)) };
    grown
}

/// Unmaps `page`, which is mapped. Returns whether nothing is left of `entry`.
fn remove_below(
    entry: &mut Entry,
    above: Option<u8>,
    page: u64,
    nodes: &mut Nodes,
    grown: &mut usize,
) -> Result<bool> {
    let Some(node) = own(entry, above, nodes, grown)? else { return Ok(entry.key == page) };
    let depth = node.depth;
    if let Ok(at) = node.find(page)
        && let Some(below) = node.entries.get_mut(at)
        && remove_below(below, Some(depth), page, nodes, grown)?
    {
        node.entries.remove(at);
    }
    Ok(close_up(entry))
}

/// Takes a node with one entry out of the way. Returns whether nothing is left.
fn close_up(entry: &mut Entry) -> bool {
    let Child::Changed(node) = &mut entry.child else { return false };
    if node.entries.len() > 1 {
        return false;
    }
    match Arc::make_mut(node).entries.pop() {
        None => true,
        Some(only) => {
            *entry = only;
            false
        }
    }
}

/// Writes what is below `entry`. Returns whether nothing is left of it.
fn seal_entry(entry: &mut Entry, sealer: &mut dyn Seal) -> Result<bool> {
    match &mut entry.child {
        Child::Stored(_) | Child::Page(PageRef::Stored(_)) => return Ok(false),
        Child::Page(held) => match sealer.seal(entry.key, held)? {
            Sealed::Stored(cid) => *held = PageRef::Stored(cid),
            Sealed::Unmapped => return Ok(true),
        },
        Child::Changed(node) => {
            let node = Arc::make_mut(node);
            let mut failed = None;
            node.entries.retain_mut(|below| {
                if failed.is_some() {
                    return true;
                }
                let sealed = seal_entry(below, sealer);
                sealed.map(|is_gone| !is_gone).unwrap_or_else(|why| {
                    failed = Some(why);
                    true
                })
            });
            if let Some(why) = failed {
                return Err(why);
            }
        }
    }
    if close_up(entry) {
        return Ok(true);
    }
    if let Child::Changed(node) = &entry.child {
        entry.child = Child::Stored(sealer.nodes().write(Arc::clone(node))?);
    }
    Ok(false)
}

fn each_held(entry: &Entry, found: &mut dyn FnMut(u64, &PageRef)) {
    match &entry.child {
        Child::Page(held @ PageRef::Held(_)) => found(entry.key, held),
        Child::Changed(node) => node.entries.iter().for_each(|below| each_held(below, found)),
        Child::Page(PageRef::Stored(_)) | Child::Stored(_) => {}
    }
}

/// An entry and the depth of the node that it is of.
type Side<'a> = (Option<&'a Entry>, Option<u8>);

fn diff(a: Side<'_>, b: Side<'_>, nodes: &mut Nodes, pages: &mut Vec<u64>) -> Result<()> {
    let (one, other) = match (a.0, b.0) {
        (None, None) => return Ok(()),
        (Some(only), None) => return all_below(only, a.1, nodes, pages),
        (None, Some(only)) => return all_below(only, b.1, nodes, pages),
        (Some(one), Some(other)) => (one, other),
    };
    if one.key == other.key && one.child.is_same(&other.child) {
        return Ok(());
    }
    match (nodes.follow(one, a.1)?, nodes.follow(other, b.1)?) {
        (None, None) => {
            pages.push(one.key);
            if one.key != other.key {
                pages.push(other.key);
            }
            Ok(())
        }
        (Some(x), Some(y)) if x.depth == y.depth && one.key == other.key => diff_nodes(&x, &y, nodes, pages),
        (Some(x), y) if x.covers(other.key) && y.as_ref().is_none_or(|y| x.depth < y.depth) => {
            diff_within(&x, (Some(other), b.1), nodes, pages)
        }
        (x, Some(y)) if y.covers(one.key) && x.as_ref().is_none_or(|x| y.depth < x.depth) => {
            diff_within(&y, (Some(one), a.1), nodes, pages)
        }
        _ => {
            all_below(one, a.1, nodes, pages)?;
            all_below(other, b.1, nodes, pages)
        }
    }
}

fn diff_nodes(x: &Node, y: &Node, nodes: &mut Nodes, pages: &mut Vec<u64>) -> Result<()> {
    let depth = Some(x.depth);
    for value in 0..=u8::MAX {
        let at =
            |node: &Node| node.entries.iter().position(|entry| node::byte(entry.key, node.depth) == value);
        let (one, other) = (at(x).and_then(|i| x.entries.get(i)), at(y).and_then(|i| y.entries.get(i)));
        diff((one, depth), (other, depth), nodes, pages)?;
    }
    Ok(())
}

/// Compares what is below a node with something that would stand below it.
fn diff_within(node: &Node, inner: Side<'_>, nodes: &mut Nodes, pages: &mut Vec<u64>) -> Result<()> {
    let key = inner.0.map_or(0, |entry| entry.key);
    let mut is_met = false;
    for entry in &node.entries {
        if node::byte(entry.key, node.depth) == node::byte(key, node.depth) {
            is_met = true;
            diff((Some(entry), Some(node.depth)), inner, nodes, pages)?;
        } else {
            all_below(entry, Some(node.depth), nodes, pages)?;
        }
    }
    if !is_met {
        diff((None, None), inner, nodes, pages)?;
    }
    Ok(())
}

fn all_below(entry: &Entry, above: Option<u8>, nodes: &mut Nodes, pages: &mut Vec<u64>) -> Result<()> {
    let Some(node) = nodes.follow(entry, above)? else {
        pages.push(entry.key);
        return Ok(());
    };
    node.entries.iter().try_for_each(|below| all_below(below, Some(node.depth), nodes, pages))
}

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
    /// Pages that are mapped, unless nobody counted those that were there when it was read.
    pages: u64,
    is_uncounted: bool,
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
        let is_uncounted = root.as_ref().is_some_and(|root| !matches!(root.child, Child::Page(_)));
        Self { pages: u64::from(root.is_some()), root, is_uncounted }
    }

    /// How many pages are mapped. Looked through once, if nobody did so yet; `look` is asked at each node whether to go on.
    pub(super) fn count(&mut self, nodes: &mut Nodes, look: &dyn Fn() -> Result<()>) -> Result<u64> {
        if self.is_uncounted {
            let root = self.root.as_ref();
            self.pages = root.map_or(Ok(0), |root| count_below(root, None, nodes, look))?;
            self.is_uncounted = false;
        }
        Ok(self.pages)
    }

    /// Whether [`Self::count`] need not look at any node.
    pub(super) fn is_counted(&self) -> bool {
        !self.is_uncounted
    }

    /// Notes that a commit found so many pages to hold what they hold unmapped.
    pub(super) fn count_less(&mut self, pages: u64) {
        self.pages = self.pages.saturating_sub(pages);
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
                *self = Self { root: Some(new), pages: 1, is_uncounted: false };
                Ok(0)
            }
            Some(root) => {
                let mut is_new = false;
                let grown = set_below(root, None, new, nodes, &mut is_new)?;
                self.pages = self.pages.saturating_add(u64::from(is_new));
                Ok(grown)
            }
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
        self.count_less(1);
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

    /// Writes all pages, and the changed nodes that have no changed node below them. Returns the bytes of those that are
    /// left: they are few, and would be changed again by nearly every write.
    pub(super) fn seal_lowest(&mut self, sealer: &mut dyn Seal) -> Result<usize> {
        let mut left = 0;
        if let Some(root) = &mut self.root
            && seal_lowest(root, sealer, &mut left)?
        {
            self.root = None;
        }
        Ok(left)
    }

    /// Calls `found` for each page that is not in the tier.
    pub(super) fn each_held(&self, found: &mut dyn FnMut(u64, &PageRef)) {
        if let Some(root) = &self.root {
            each_held(root, found);
        }
    }

    /// Pages that are mapped to different objects in the two maps, or in one of them only, in order: the first
    /// `pages_max` of them from `from` on. Parts that are the same object are not read.
    pub(super) fn diff(
        &self,
        other: &Self,
        from: u64,
        pages_max: usize,
        nodes: &mut Nodes,
    ) -> Result<Vec<u64>> {
        let mut pages = Found { pages: Vec::new(), from, pages_max };
        diff((self.root.as_ref(), None), (other.root.as_ref(), None), nodes, &mut pages)?;
        debug_assert!(pages.pages.is_sorted(), "who goes on after the last one must have missed none");
        Ok(pages.pages)
    }
}

fn count_below(
    entry: &Entry,
    above: Option<u8>,
    nodes: &mut Nodes,
    look: &dyn Fn() -> Result<()>,
) -> Result<u64> {
    let Some(node) = nodes.follow(entry, above)? else { return Ok(1) };
    look()?;
    let mut pages = 0_u64;
    for below in &node.entries {
        pages = pages.saturating_add(count_below(below, Some(node.depth), nodes, look)?);
    }
    Ok(pages)
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

fn set_below(
    entry: &mut Entry,
    above: Option<u8>,
    new: Entry,
    nodes: &mut Nodes,
    is_new: &mut bool,
) -> Result<usize> {
    let (key, mut grown) = (entry.key, 0);
    let Some(node) = own(entry, above, nodes, &mut grown)? else {
        match node::difference(key, new.key) {
            None => entry.child = new.child,
            Some(depth) => {
                *is_new = true;
                grown += split(entry, depth, new);
            }
        }
        return Ok(grown);
    };
    if !node.covers(new.key) {
        if let Some(depth) = node::difference(key, node::prefix(new.key, node.depth)) {
            *is_new = true;
            grown += split(entry, depth, new);
        }
        return Ok(grown);
    }
    match node.find(new.key) {
        Ok(at) => {
            let depth = node.depth;
            if let Some(below) = node.entries.get_mut(at) {
                grown += set_below(below, Some(depth), new, nodes, is_new)?;
            }
        }
        Err(at) => {
            *is_new = true;
            grown += node.insert(at, new);
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

/// Writes the lowest changed nodes below `entry`. Returns whether nothing is left of it, and adds to `left`.
fn seal_lowest(entry: &mut Entry, sealer: &mut dyn Seal, left: &mut usize) -> Result<bool> {
    let is_changed = |entry: &Entry| matches!(entry.child, Child::Changed(_));
    // A page too: its version takes more memory than the name of one that is in the tier.
    let Child::Changed(node) = &mut entry.child else { return seal_entry(entry, sealer) };
    if !node.entries.iter().any(is_changed) {
        return seal_entry(entry, sealer);
    }
    let node = Arc::make_mut(node);
    let mut failed = None;
    node.entries.retain_mut(|below| {
        if failed.is_some() {
            return true;
        }
        let sealed = seal_lowest(below, sealer, left);
        sealed.map(|is_gone| !is_gone).unwrap_or_else(|why| {
            failed = Some(why);
            true
        })
    });
    if let Some(why) = failed {
        return Err(why);
    }
    *left += size_of_node(node);
    Ok(close_up(entry))
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

/// Pages that differ, in order.
struct Found {
    pages: Vec<u64>,
    /// Those before are not wanted.
    from: u64,
    pages_max: usize,
}

impl Found {
    fn is_full(&self) -> bool {
        self.pages.len() >= self.pages_max
    }

    fn push(&mut self, page: u64) {
        if page >= self.from && !self.is_full() {
            self.pages.push(page);
        }
    }

    /// Whether nothing below `entry`, of a node of depth `above`, is wanted.
    fn is_past(&self, entry: &Entry, above: Option<u8>) -> bool {
        let rest = above.map_or(0, |above| 8 * (u32::from(above) + 1));
        self.is_full() || entry.key | u64::MAX.checked_shr(rest).unwrap_or(0) < self.from
    }
}

fn diff(a: Side<'_>, b: Side<'_>, nodes: &mut Nodes, found: &mut Found) -> Result<()> {
    let (one, other) = match (a.0, b.0) {
        (None, None) => return Ok(()),
        (Some(only), None) => return all_below(only, a.1, nodes, found),
        (None, Some(only)) => return all_below(only, b.1, nodes, found),
        (Some(one), Some(other)) => (one, other),
    };
    if one.key == other.key && one.child.is_same(&other.child) {
        return Ok(());
    }
    if found.is_past(one, a.1) && found.is_past(other, b.1) {
        return Ok(());
    }
    match (nodes.follow(one, a.1)?, nodes.follow(other, b.1)?) {
        (None, None) => {
            found.push(one.key.min(other.key));
            if one.key != other.key {
                found.push(one.key.max(other.key));
            }
            Ok(())
        }
        (Some(x), Some(y)) if x.depth == y.depth && one.key == other.key => diff_nodes(&x, &y, nodes, found),
        (Some(x), y) if x.covers(other.key) && y.as_ref().is_none_or(|y| x.depth < y.depth) => {
            diff_within(&x, (Some(other), b.1), nodes, found)
        }
        (x, Some(y)) if y.covers(one.key) && x.as_ref().is_none_or(|x| y.depth < x.depth) => {
            diff_within(&y, (Some(one), a.1), nodes, found)
        }
        _ => {
            // Neither is below the other, so all of one comes before all of the other.
            let (first, second) = if one.key < other.key { (a, b) } else { (b, a) };
            diff(first, (None, None), nodes, found)?;
            diff(second, (None, None), nodes, found)
        }
    }
}

fn diff_nodes(x: &Node, y: &Node, nodes: &mut Nodes, found: &mut Found) -> Result<()> {
    let depth = Some(x.depth);
    for value in 0..=u8::MAX {
        let at =
            |node: &Node| node.entries.iter().position(|entry| node::byte(entry.key, node.depth) == value);
        let (one, other) = (at(x).and_then(|i| x.entries.get(i)), at(y).and_then(|i| y.entries.get(i)));
        diff((one, depth), (other, depth), nodes, found)?;
    }
    Ok(())
}

/// Compares what is below a node with something that would stand below it.
fn diff_within(node: &Node, inner: Side<'_>, nodes: &mut Nodes, found: &mut Found) -> Result<()> {
    let key = inner.0.map_or(0, |entry| entry.key);
    let (place, depth) = (node::byte(key, node.depth), Some(node.depth));
    // In its place among them.
    let mut inner = Some(inner);
    for entry in &node.entries {
        let here = node::byte(entry.key, node.depth);
        let other = if here >= place { inner.take() } else { None };
        match other {
            Some(other) if here == place => diff((Some(entry), depth), other, nodes, found)?,
            other => {
                other.map_or(Ok(()), |other| diff((None, None), other, nodes, found))?;
                all_below(entry, depth, nodes, found)?;
            }
        }
    }
    inner.map_or(Ok(()), |inner| diff((None, None), inner, nodes, found))
}

fn all_below(entry: &Entry, above: Option<u8>, nodes: &mut Nodes, found: &mut Found) -> Result<()> {
    if found.is_past(entry, above) {
        return Ok(());
    }
    let Some(node) = nodes.follow(entry, above)? else {
        found.push(entry.key);
        return Ok(());
    };
    node.entries.iter().try_for_each(|below| all_below(below, Some(node.depth), nodes, found))
}

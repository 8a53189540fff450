//! The values of a function, where each comes from, and which of them need canonical NaNs.
//!
//! Nodes are values; an edge goes from a value to one that may have its bits. Two passes over it, each
//! linear in its size:
//!
//! - forward, the [`Class`] of a value: what would have to be done to it to give it the right bits;
//! - backward, what is wanted of it: the right bits, or only the right bits but for those of NaNs of a
//!   width, which is all that arithmetic wants.
//!
//! A value of which more is wanted than it has is canonicalised where it is made, or, if one and the same
//! thing would be done to all that it may come from, as late as where it is read. Arithmetic that feeds
//! only arithmetic is left alone.

use super::ops::{Class, Lanes, Width};

/// The index of a node.
pub(super) type Id = u32;

/// Bits that must stay as they are: what was loaded, passed in, or is no float.
pub(super) const OPAQUE: Id = 0;
/// A value without any NaN.
pub(super) const NUMBER: Id = 1;
/// Canonical already, in narrow and in wide lanes.
pub(super) const CANON_F32: Id = 2;
pub(super) const CANON_F64: Id = 3;
/// How many of them there are.
const LEAVES: Id = 4;

/// A type that holds floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    F32,
    F64,
    V128,
}

/// How a value comes from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// It is there from the start.
    Leaf(Class),
    Arithmetic(Width),
    /// It is one of them.
    Copy,
    Lanes(Lanes, Width),
}

/// Where a value can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    /// On top of the stack, at an offset.
    Stack(usize),
    /// In a local, at an offset.
    Local(usize, u32),
}

/// A value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) make: Make,
    pub(super) place: Place,
    pub(super) ty: Type,
}

/// A value is to be replaced by one with canonical NaNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Canonicalise {
    pub(super) place: Place,
    pub(super) ty: Type,
    pub(super) width: Width,
    pub(super) is_negative: bool,
}

/// A graph would have more nodes and edges than it may.
#[derive(Debug)]
pub(super) struct TooLarge;

/// What is wanted of a value: nothing, or a sum of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Want(u8);

impl Want {
    /// Exactly the right bits.
    pub(super) const EXACT: Self = Self(1);

    /// The right bits, but any NaN for a NaN in lanes of this width.
    pub(super) fn but_nans(width: Width) -> Self {
        match width {
            Width::F32 => Self(2),
            Width::F64 => Self(4),
        }
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether NaNs of this width must be canonical. In lanes of the other width their bits are not
    /// those of NaNs, or not of whole ones.
    fn is_strict(self, width: Width) -> bool {
        self.has(Self::EXACT) || self.has(Self::but_nans(width.other()))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The values of a function.
pub(super) struct Graph {
    nodes: Vec<Node>,
    edges: Vec<(Id, Id)>,
    wants: Vec<(Id, Want)>,
    room: usize,
}

/// What is known of a node from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    class: Class,
    /// Whether anything in it comes from arithmetic.
    is_computed: bool,
}

impl Graph {
    /// One that takes `room` nodes, edges and wants.
    pub(super) fn new(room: usize) -> Self {
        let leaf = |class| Node { make: Make::Leaf(class), place: Place::Nowhere, ty: Type::V128 };
        let leaves = [Class::Any, Class::Number, Class::canon(Width::F32), Class::canon(Width::F64)];
        Self { nodes: leaves.map(leaf).to_vec(), edges: Vec::new(), wants: Vec::new(), room }
    }

    /// The leaf of a class.
    pub(super) fn leaf(class: Class) -> Id {
        match class {
            Class::Number => NUMBER,
            Class::Canon { width: Width::F32, is_negative: false } => CANON_F32,
            Class::Canon { width: Width::F64, is_negative: false } => CANON_F64,
            Class::Any | Class::Canon { .. } => OPAQUE,
        }
    }

    /// Whether a value comes from no other one.
    pub(super) fn is_leaf(id: Id) -> bool {
        id < LEAVES
    }

    /// Takes from the room that is left.
    pub(super) fn spend(&mut self, count: usize) -> Result<(), TooLarge> {
        self.room = self.room.checked_sub(count).ok_or(TooLarge)?;
        Ok(())
    }

    pub(super) fn add(&mut self, node: Node) -> Result<Id, TooLarge> {
        self.spend(1)?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| TooLarge)?;
        self.nodes.push(node);
        Ok(id)
    }

    /// `to` may have the bits of `from`. What has a leaf in the place of `to` is no float.
    pub(super) fn link(&mut self, from: Id, to: Id) -> Result<(), TooLarge> {
        if !Self::is_leaf(to) {
            self.spend(1)?;
            self.edges.push((from, to));
        }
        Ok(())
    }

    pub(super) fn want(&mut self, id: Id, want: Want) -> Result<(), TooLarge> {
        if !Self::is_leaf(id) {
            self.spend(1)?;
            self.wants.push((id, want));
        }
        Ok(())
    }

    pub(super) fn is_v128(&self, id: Id) -> bool {
        self.nodes.get(id as usize).is_some_and(|node| node.ty == Type::V128)
    }

    /// Where NaNs must be made canonical, in order of nodes.
    pub(super) fn solve(&self) -> Vec<Canonicalise> {
        let known = self.know();
        let wanted = self.pull(&known);
        let nodes = self.nodes.iter().zip(&known).zip(&wanted);
        nodes.filter_map(|((node, known), want)| node.canonicalise(*known, *want)).collect()
    }

    /// Forward, to a fixed point: what is known of a node only grows, and in three steps at most.
    fn know(&self) -> Vec<Known> {
        let users = Lists::new(self.nodes.len(), self.edges.iter().map(|&(from, to)| (from, to)));
        let inputs = Lists::new(self.nodes.len(), self.edges.iter().map(|&(from, to)| (to, from)));
        let mut known = vec![Known { class: Class::Number, is_computed: false }; self.nodes.len()];
        let mut queue: Vec<usize> = (0..self.nodes.len()).rev().collect();
        while let Some(id) = queue.pop() {
            let (Some(node), Some(before)) = (self.nodes.get(id), known.get(id).copied()) else { continue };
            let now = node.know(inputs.of(id).filter_map(|input| known.get(input)).copied());
            let now = Known { class: before.class.join(now.class), ..now };
            if now != before {
                known[id] = now;
                queue.extend(users.of(id));
            }
        }
        known
    }

    /// Backward.
    fn pull(&self, known: &[Known]) -> Vec<Want> {
        let inputs = Lists::new(self.nodes.len(), self.edges.iter().map(|&(from, to)| (to, from)));
        let mut wanted = vec![Want::default(); self.nodes.len()];
        let mut queue: Vec<(usize, Want)> =
            self.wants.iter().map(|&(id, want)| (id as usize, want)).collect();
        while let Some((id, want)) = queue.pop() {
            let (Some(node), Some(known), Some(had)) =
                (self.nodes.get(id), known.get(id), wanted.get_mut(id))
            else {
                continue;
            };
            if want.without(*had) == Want::default() {
                continue;
            }
            *had = had.and(want);
            let passed = node.pass_on(known.class, *had);
            if passed != Want::default() {
                queue.extend(inputs.of(id).map(|input| (input, passed)));
            }
        }
        wanted
    }
}

impl Node {
    /// What is known of it, if that is known of what it comes from.
    fn know(&self, inputs: impl Iterator<Item = Known>) -> Known {
        let nothing = Known { class: Class::Number, is_computed: false };
        let all = inputs.fold(nothing, |all, one| Known {
            class: all.class.join(one.class),
            is_computed: all.is_computed || one.is_computed,
        });
        match self.make {
            Make::Leaf(class) => Known { class, is_computed: false },
            Make::Arithmetic(width) => Known { class: Class::canon(width), is_computed: true },
            Make::Copy => all,
            Make::Lanes(lanes, width) => Known { class: all.class.through(lanes, width), ..all },
        }
    }

    /// What it wants of what it comes from, if it is of this class and all of `want` is wanted of it.
    fn pass_on(&self, class: Class, want: Want) -> Want {
        match (self.make, class) {
            (Make::Leaf(_) | Make::Arithmetic(_), _) | (_, Class::Number) => Want::default(),
            (_, Class::Canon { width, .. }) => {
                let is_here = self.place != Place::Nowhere;
                if is_here || !want.is_strict(width) { Want::default() } else { Want::EXACT }
            }
            (Make::Copy, Class::Any) => want,
            (Make::Lanes(_, width), Class::Any) if want.is_strict(width) => want.and(Want::EXACT),
            (Make::Lanes(..), Class::Any) => want,
        }
    }

    fn canonicalise(&self, known: Known, want: Want) -> Option<Canonicalise> {
        let Class::Canon { width, is_negative } = known.class else { return None };
        let is_needed = known.is_computed && want.is_strict(width) && self.place != Place::Nowhere;
        is_needed.then_some(Canonicalise { place: self.place, ty: self.ty, width, is_negative })
    }
}

impl Class {
    /// The class of what may be one or the other.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Number, one) | (one, Self::Number) => one,
            (one, other) if one == other => one,
            _ => Self::Any,
        }
    }

    /// The class of what an operator on lanes of `over` makes of it.
    fn through(self, lanes: Lanes, over: Width) -> Self {
        match (self, lanes) {
            // Half of a number of 64 bits may look like a NaN of 32. Where less known gives this, more
            // known must not give its opposite, or `know` goes round for ever.
            (Self::Number, Lanes::Splat | Lanes::Replace) if over == Width::F64 => Self::canon(over),
            (Self::Canon { is_negative: true, .. }, Lanes::Splat | Lanes::Replace) => Self::Any,
            (Self::Canon { width, .. }, _) if width != over => Self::Any,
            (Self::Canon { width, is_negative }, Lanes::Neg) => {
                Self::Canon { width, is_negative: !is_negative }
            }
            (Self::Canon { width, .. }, Lanes::Abs) => Self::canon(width),
            (same, _) => same,
        }
    }
}

/// A list of nodes for each node, in one piece of memory.
struct Lists {
    /// Where the list of each node starts; one more for where the last one ends.
    starts: Vec<usize>,
    items: Vec<Id>,
}

impl Lists {
    fn new(nodes: usize, pairs: impl Iterator<Item = (Id, Id)> + Clone) -> Self {
        let mut starts = vec![0; nodes + 1];
        pairs.clone().for_each(|(of, _)| starts[of as usize + 1] += 1);
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut items = vec![0; starts[nodes]];
        let mut next = starts.clone();
        for (of, item) in pairs {
            items[next[of as usize]] = item;
            next[of as usize] += 1;
        }
        Self { starts, items }
    }

    fn of(&self, id: usize) -> impl Iterator<Item = usize> {
        let range = self.starts[id]..self.starts[id + 1];
        self.items[range].iter().map(|&item| item as usize)
    }
}

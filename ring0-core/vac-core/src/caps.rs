//! Handles, rights and quotas: the only place that is asked whether something may happen.
//!
//! A [`Handle`] is an index and a generation. It is made by a [`CapTable`] alone, and the
//! generation changes when a slot is used again, so a handle that was kept too long is refused
//! by name instead of reaching somebody else's capability. [`CapTable::derive`] only removes
//! rights. [`CapTable::revoke`] ends a handle and everything derived from it.
//!
//! Slots are reused in a fixed order: the same calls give the same handles on every run.

use std::collections::BTreeSet;
use std::fmt;

use crate::fault::{AbortKind, HostAbort};
use crate::limits::HANDLES_MAX;

/// Bits of a packed handle that hold the index; the rest hold the generation.
const INDEX_BITS: u32 = 12;
const GENERATION_MAX: u32 = u32::MAX >> (INDEX_BITS + 1);
const _: () = assert!(HANDLES_MAX == 1 << INDEX_BITS);

/// What may be done through a capability: a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read bytes and metadata.
    pub const READ: Self = Self(1);
    /// Change bytes that exist.
    pub const WRITE: Self = Self(2);
    /// Create, rename, link and remove names.
    pub const NAMES: Self = Self(4);
    /// Read, write and change names.
    pub const ALL: Self = Self(7);

    /// Whether every right of `other` is here.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The rights in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(Self::READ, "read"), (Self::WRITE, "write"), (Self::NAMES, "names")];
        let held: Vec<_> =
            words.iter().filter(|(right, _)| self.has(*right)).map(|(_, word)| *word).collect();
        f.write_str(if held.is_empty() { "nothing" } else { "" })?;
        f.write_str(&held.join("+"))
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A capability in a [`CapTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle {
    index: u16,
    generation: u32,
}

impl Handle {
    /// The handle as the 31-bit number that crosses the wall: `generation << 12 | index`.
    pub fn to_rep(self) -> u32 {
        self.generation << INDEX_BITS | u32::from(self.index)
    }

    /// The handle behind a number that crossed the wall. It may be stale; the table knows.
    pub fn from_rep(rep: u32) -> Self {
        Self { index: (rep & ((1 << INDEX_BITS) - 1)) as u16, generation: rep >> INDEX_BITS }
    }
}

/// Why a table refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The handle was released or revoked, or was never given out.
    #[error("stale handle {0:#x}")]
    Stale(u32),
    /// The operator took the grant behind it back.
    #[error("handle {0:#x} was revoked")]
    Revoked(u32),
    /// The capability does not include the right.
    #[error("the capability allows {held}, not {needed}")]
    Rights {
        /// What it allows.
        held: Rights,
        /// What was needed.
        needed: Rights,
    },
    /// The table is full.
    #[error("more than {0} handles")]
    Full(usize),
}

#[derive(Debug)]
struct Cap<T> {
    value: T,
    rights: Rights,
    parent: Option<Handle>,
    grant: Option<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    cap: Option<Cap<T>>,
}

/// Every capability that one run holds.
#[derive(Debug)]
pub struct CapTable<T> {
    slots: Vec<Slot<T>>,
    /// Empty slots; the last one is used next.
    free: Vec<u16>,
    max: usize,
    /// Handles of other tables that count against `max`, too.
    elsewhere: usize,
    /// Numbers of handles that were revoked and that their holder has not given up yet.
    revoked: BTreeSet<u32>,
}

impl<T> CapTable<T> {
    /// A table of at most `max` handles at a time, and never more than [`HANDLES_MAX`].
    pub fn new(max: usize) -> Self {
        let max = max.min(HANDLES_MAX);
        Self { slots: Vec::new(), free: Vec::new(), max, elsewhere: 0, revoked: BTreeSet::new() }
    }

    /// Counts `handles` of other tables against the most that this one may have.
    pub fn set_elsewhere(&mut self, handles: usize) {
        self.elsewhere = handles;
    }

    /// Handles in use.
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.cap.is_some()).count()
    }

    /// Whether no handle is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a capability from the operator's grant number `grant`, if one stands behind it.
    pub fn mint(&mut self, value: T, rights: Rights, grant: Option<u32>) -> Result<Handle, Refusal> {
        self.insert(Cap { value, rights, parent: None, grant })
    }

    /// Makes a capability that ends with `parent`, and that has no right which `parent` lacks.
    pub fn derive(&mut self, parent: Handle, value: T, rights: Rights) -> Result<Handle, Refusal> {
        let from = self.cap(parent)?;
        if !from.rights.has(rights) {
            return Err(Refusal::Rights { held: from.rights, needed: rights });
        }
        let grant = from.grant;
        self.insert(Cap { value, rights, parent: Some(parent), grant })
    }

    /// The value behind `handle`, which must allow `needed`.
    pub fn get(&self, handle: Handle, needed: Rights) -> Result<&T, Refusal> {
        let cap = self.cap(handle)?;
        if !cap.rights.has(needed) {
            return Err(Refusal::Rights { held: cap.rights, needed });
        }
        Ok(&cap.value)
    }

    /// The value behind `handle`, to be changed, which must allow `needed`.
    pub fn get_mut(&mut self, handle: Handle, needed: Rights) -> Result<&mut T, Refusal> {
        self.get(handle, needed)?;
        match self.slots.get_mut(usize::from(handle.index)).and_then(|slot| slot.cap.as_mut()) {
            Some(cap) => Ok(&mut cap.value),
            None => Err(Refusal::Stale(handle.to_rep())),
        }
    }

    /// What `handle` allows.
    pub fn rights(&self, handle: Handle) -> Result<Rights, Refusal> {
        self.cap(handle).map(|cap| cap.rights)
    }

    /// The operator's grant that `handle` comes from.
    pub fn grant(&self, handle: Handle) -> Option<u32> {
        self.cap(handle).ok()?.grant
    }

    /// Puts a capability that came from nowhere under a grant: what is derived from it from now on ends with that.
    pub fn come_under(&mut self, handle: Handle, grant: u32) -> Result<(), Refusal> {
        self.cap(handle)?;
        if let Some(cap) = self.slots.get_mut(usize::from(handle.index)).and_then(|slot| slot.cap.as_mut()) {
            cap.grant = Some(grant);
        }
        Ok(())
    }

    /// Gives `handle` up. What was derived from it stays, and ends with its parent instead.
    pub fn release(&mut self, handle: Handle) -> Result<T, Refusal> {
        let cap = self.take(handle)?;
        for child in self.slots.iter_mut().filter_map(|slot| slot.cap.as_mut()) {
            if child.parent == Some(handle) {
                child.parent = cap.parent;
            }
        }
        Ok(cap.value)
    }

    /// Ends `handle` and everything derived from it. The number of handles that ended.
    pub fn revoke(&mut self, handle: Handle) -> Result<usize, Refusal> {
        self.take(handle)?;
        let mut ended = 1;
        for child in self.children(handle) {
            ended += self.revoke(child)?;
        }
        Ok(ended)
    }

    /// Ends every handle that comes from `grant`, and gives what they stood for.
    pub fn revoke_grant(&mut self, grant: u32) -> Vec<T> {
        let live = self.slots.iter().enumerate();
        let ending: Vec<_> = live
            .filter(|(_, slot)| slot.cap.as_ref().is_some_and(|cap| cap.grant == Some(grant)))
            .map(|(index, slot)| Handle { index: index as u16, generation: slot.generation })
            .collect();
        let ended = ending.into_iter().filter_map(|handle| {
            let cap = self.take(handle).ok()?;
            self.revoked.insert(handle.to_rep());
            Some(cap.value)
        });
        ended.collect()
    }

    /// Forgets a revoked handle whose holder gives it up. Whether it was one.
    pub fn forget(&mut self, handle: Handle) -> bool {
        self.revoked.remove(&handle.to_rep())
    }

    fn children(&self, parent: Handle) -> Vec<Handle> {
        let live = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(i, slot)| Some((i, slot.generation, slot.cap.as_ref()?)));
        live.filter(|(.., cap)| cap.parent == Some(parent))
            .map(|(index, generation, _)| Handle { index: index as u16, generation })
            .collect()
    }

    fn cap(&self, handle: Handle) -> Result<&Cap<T>, Refusal> {
        let slot =
            self.slots.get(usize::from(handle.index)).filter(|slot| slot.generation == handle.generation);
        slot.and_then(|slot| slot.cap.as_ref()).ok_or_else(|| self.gone(handle))
    }

    fn gone(&self, handle: Handle) -> Refusal {
        let rep = handle.to_rep();
        if self.revoked.contains(&rep) { Refusal::Revoked(rep) } else { Refusal::Stale(rep) }
    }

    fn insert(&mut self, cap: Cap<T>) -> Result<Handle, Refusal> {
        let in_use = self.slots.len() - self.free.len();
        if in_use.saturating_add(self.elsewhere) >= self.max {
            return Err(Refusal::Full(self.max));
        }
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(usize::from(index))
        {
            slot.cap = Some(cap);
            return Ok(Handle { index, generation: slot.generation });
        }
        let index = self.slots.len() as u16;
        // Generations start at 1, so that the number 0 is never a handle.
        self.slots.push(Slot { generation: 1, cap: Some(cap) });
        Ok(Handle { index, generation: 1 })
    }

    fn take(&mut self, handle: Handle) -> Result<Cap<T>, Refusal> {
        self.cap(handle)?;
        let slot = self.slots.get_mut(usize::from(handle.index)).ok_or(Refusal::Stale(handle.to_rep()))?;
        let cap = slot.cap.take().ok_or(Refusal::Stale(handle.to_rep()))?;
        // A slot whose generations are used up is never used again.
        if slot.generation < GENERATION_MAX {
            slot.generation += 1;
            self.free.push(handle.index);
        }
        Ok(cap)
    }
}

/// What a run may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of linear memory, summed over every memory of a run's live instances.
    MemoryBytes,
    /// Elements of tables, summed likewise.
    TableElements,
    /// Calls that cross the wall.
    HostCalls,
    /// Bytes that the guest takes in.
    InputBytes,
    /// Bytes that the guest gives out.
    OutputBytes,
    /// Handles that hold a file or directory of the host open.
    OpenFiles,
    /// Bytes of what a call gives back, in canonical form.
    ResultBytes,
}

impl Resource {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// The resource in words, with its unit.
    pub fn words(self) -> &'static str {
        match self {
            Self::MemoryBytes => "bytes of memory",
            Self::TableElements => "table elements",
            Self::HostCalls => "host calls",
            Self::InputBytes => "bytes of input",
            Self::OutputBytes => "bytes of output",
            Self::OpenFiles => "open files and directories",
            Self::ResultBytes => "bytes of results",
        }
    }

    /// The limit's name, as an operator types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryBytes => "memory",
            Self::TableElements => "tables",
            Self::HostCalls => "calls",
            Self::InputBytes => "input",
            Self::OutputBytes => "output",
            Self::OpenFiles => "files",
            Self::ResultBytes => "result",
        }
    }
}

/// What raises the limit `name`, as a person would type it.
pub fn raise(name: &str) -> String {
    format!("raise it with `--limit {name}=VALUE`")
}

/// How much of each [`Resource`] a run may use, and how much it has.
#[derive(Debug, Clone)]
pub struct Quotas {
    max: [u64; Resource::COUNT],
    used: [u64; Resource::COUNT],
}

impl Quotas {
    /// No limits.
    pub fn unlimited() -> Self {
        Self { max: [u64::MAX; Resource::COUNT], used: [0; Resource::COUNT] }
    }

    /// The same with a limit on `resource`.
    #[must_use]
    pub fn with(mut self, resource: Resource, max: u64) -> Self {
        self.max[resource as usize] = max;
        self
    }

    /// Uses `amount` of `resource`, or nothing if that passes the limit.
    pub fn charge(&mut self, resource: Resource, amount: u64) -> Result<(), HostAbort> {
        let (max, used) = (self.max[resource as usize], &mut self.used[resource as usize]);
        match used.checked_add(amount).filter(|&sum| sum <= max) {
            Some(sum) => {
                *used = sum;
                Ok(())
            }
            None => Err(exceeded(resource, max, u128::from(*used) + u128::from(amount))),
        }
    }

    /// Gives `amount` back.
    pub fn refund(&mut self, resource: Resource, amount: u64) {
        let used = &mut self.used[resource as usize];
        *used = used.saturating_sub(amount);
    }

    /// Takes over from `before` how much of `resource` is used.
    pub fn carry(&mut self, resource: Resource, before: &Self) {
        self.used[resource as usize] = before.used[resource as usize];
    }

    /// How much of each resource is used, in their order.
    pub fn all_used(&self) -> [u64; Resource::COUNT] {
        self.used
    }

    /// The same limits, of which this much is used: what [`Self::all_used`] gave.
    #[must_use]
    pub fn with_used(mut self, used: [u64; Resource::COUNT]) -> Self {
        self.used = used;
        self
    }

    /// How much of `resource` is used.
    pub fn used(&self, resource: Resource) -> u64 {
        self.used[resource as usize]
    }
}

fn exceeded(resource: Resource, max: u64, wanted: u128) -> HostAbort {
    let message = format!("the guest wants {wanted} {what}; the limit is {max}", what = resource.words());
    HostAbort::new(AbortKind::Quota, message).hint(raise(resource.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_handle_is_stale_even_when_its_slot_is_used_again() {
        let mut table = CapTable::new(8);
        let old = table.mint("a", Rights::ALL, None).unwrap();
        table.release(old).unwrap();
        let new = table.mint("b", Rights::ALL, None).unwrap();
        assert_eq!(table.get(old, Rights::NONE), Err(Refusal::Stale(old.to_rep())));
        assert_eq!(table.get(new, Rights::READ), Ok(&"b"));
        assert_ne!(old.to_rep(), new.to_rep());
    }

    #[test]
    fn derive_cannot_add_a_right() {
        let mut table = CapTable::new(8);
        let dir = table.mint((), Rights::READ, Some(3)).unwrap();
        assert!(matches!(table.derive(dir, (), Rights::ALL), Err(Refusal::Rights { .. })));
        let file = table.derive(dir, (), Rights::READ).unwrap();
        assert_eq!(table.grant(file), Some(3));
        assert!(table.get(file, Rights::WRITE).is_err());
    }

    #[test]
    fn revoke_ends_all_that_was_derived_also_through_a_released_handle() {
        let mut table = CapTable::new(8);
        let root = table.mint(0, Rights::ALL, None).unwrap();
        let middle = table.derive(root, 1, Rights::ALL).unwrap();
        let leaf = table.derive(middle, 2, Rights::READ).unwrap();
        let other = table.mint(3, Rights::ALL, None).unwrap();
        table.release(middle).unwrap();
        assert_eq!(table.get(leaf, Rights::READ), Ok(&2));
        assert_eq!(table.revoke(root), Ok(2));
        assert_eq!(table.get(leaf, Rights::READ), Err(Refusal::Stale(leaf.to_rep())));
        assert_eq!(table.get(other, Rights::READ), Ok(&3));
    }

    #[test]
    fn a_grant_that_is_taken_back_ends_all_its_handles_by_name() {
        let mut table = CapTable::new(8);
        let dir = table.mint(0, Rights::ALL, Some(1)).unwrap();
        let file = table.derive(dir, 1, Rights::READ).unwrap();
        let other = table.mint(2, Rights::ALL, Some(2)).unwrap();
        assert_eq!(table.revoke_grant(1), [0, 1]);
        assert_eq!(table.get(file, Rights::READ), Err(Refusal::Revoked(file.to_rep())));
        assert_eq!(table.get(other, Rights::READ), Ok(&2));
        assert!(table.forget(file) && !table.forget(file));
        assert_eq!(table.get(file, Rights::READ), Err(Refusal::Stale(file.to_rep())));
    }

    #[test]
    fn every_forged_number_is_refused() {
        let mut table = CapTable::new(4);
        let handle = table.mint((), Rights::ALL, None).unwrap();
        for rep in (0..1 << 16).chain([u32::MAX, u32::MAX >> 1]) {
            let found = table.get(Handle::from_rep(rep), Rights::NONE).is_ok();
            assert_eq!(found, rep == handle.to_rep(), "{rep:#x}");
        }
    }

    #[test]
    fn a_full_table_refuses_and_a_slot_that_is_used_up_retires() {
        let mut table = CapTable::new(1);
        let handle = table.mint((), Rights::NONE, None).unwrap();
        assert_eq!(table.mint((), Rights::NONE, None), Err(Refusal::Full(1)));
        table.slots[0].generation = GENERATION_MAX;
        assert_eq!(table.release(handle), Err(Refusal::Stale(handle.to_rep())));
        table.release(Handle { index: 0, generation: GENERATION_MAX }).unwrap();
        assert_eq!(table.mint((), Rights::NONE, None), Err(Refusal::Full(1)));
    }

    #[test]
    fn a_quota_is_exact_and_a_refused_charge_costs_nothing() {
        let mut quotas = Quotas::unlimited().with(Resource::MemoryBytes, 10);
        quotas.charge(Resource::MemoryBytes, 9).unwrap();
        assert_eq!(quotas.charge(Resource::MemoryBytes, 2).unwrap_err().kind, AbortKind::Quota);
        quotas.charge(Resource::MemoryBytes, 1).unwrap();
        assert!(quotas.charge(Resource::MemoryBytes, u64::MAX).is_err());
        quotas.refund(Resource::MemoryBytes, 10);
        assert_eq!(quotas.used(Resource::MemoryBytes), 0);
    }
}

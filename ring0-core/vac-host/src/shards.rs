//! A memory of 128-bit addresses as the kernels of one run have it: what `vac:memory` works on.
//!
//! All grants of one memory share one space, which begins as what its name had when the run opened it. Forks and
//! snapshots are spaces beside it. The name moves only by a commit of the first. A handle gives a range of shards,
//! counted from its first one, and nothing leads out of that: not a fork, not a commit, not a restore.
//!
//! Invariants:
//! - Nothing that a guest sees depends on what is resident. So quotas count pages, not what is moved.
//! - A range is checked before the pager sees it, and what one call may take on the host has a bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, HostAbort, Result};
use vac_core::memory::{Advice, La128, Pager, Quota, Range, Space, Stats, Used};

use crate::limits::{READ_MAX_BYTES, SHARD_PAGES_MAX, WRITE_MAX_BYTES};

#[cfg(test)]
mod tests;

/// Pages that are filled, copied or restored before it is looked whether the run should stop.
const PAGES_PER_LOOK: u64 = 1024;

/// Gives names to what is committed, and hears what the pager did.
pub trait Keeper: Send {
    /// Lets the memory's name be this root. Durable when this returns.
    fn keep(&mut self, root: &Cid) -> Result<()>;

    /// Whether it wants to hear what the pager did. Asked after every call.
    fn is_listening(&mut self) -> bool {
        false
    }

    /// What the pager did so far, and what the run uses of the memory. Nothing that a guest sees may depend on it.
    fn hear(&mut self, _stats: &Stats, _used: &Used) {}

    /// Which run it is that the memory is open in.
    fn is_of(&mut self, _run: &str) {}
}

/// What a run may use of a memory: the space of its name, and all forks and snapshots of it, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Pages mapped beyond those that were there.
    pub mapped: u64,
    /// Pages written since the last commit, or since changed nodes were written to the store.
    pub dirty: u64,
    /// Bytes from and to the store. They depend on what is in memory, so this ends the run, and no guest is told.
    pub io_bytes: u64,
}

/// What is used of it.
#[derive(Debug, Clone, Copy, Default)]
struct Charged {
    mapped: u64,
    dirty: u64,
    io_bytes: u64,
}

impl Charged {
    /// What `space` uses. Less than there was gives nothing back: another space may have it still.
    fn of(space: &Space, began_with: u64) -> Self {
        let Used { mapped, dirty, io_bytes, .. } = space.used();
        Self { mapped: mapped.saturating_sub(began_with), dirty, io_bytes }
    }

    /// Together with `after`, where `before` counted until now.
    fn moved(self, before: Self, after: Self) -> Self {
        let moved = |all: u64, before, after| all.saturating_add(after).saturating_sub(before);
        Self {
            mapped: moved(self.mapped, before.mapped, after.mapped),
            dirty: moved(self.dirty, before.dirty, after.dirty),
            io_bytes: moved(self.io_bytes, before.io_bytes, after.io_bytes),
        }
    }

    /// Without a space that used `own`. What it moved was moved.
    fn without(self, own: Self) -> Self {
        self.moved(Self { io_bytes: 0, ..own }, Self::default())
    }

    /// What `space` may use of what is left, beside what it does.
    fn quota(self, most: &Most, space: &Space, began_with: u64) -> Quota {
        let Used { mapped, dirty, io_bytes, .. } = space.used();
        let left = |most: u64, all: u64, own: u64| Some(own.saturating_add(most.saturating_sub(all)));
        Quota {
            mapped_max: left(most.mapped, self.mapped, began_with.max(mapped)),
            dirty_max: left(most.dirty, self.dirty, dirty),
            io_max_bytes: left(most.io_bytes, self.io_bytes, io_bytes),
            ..Quota::default()
        }
    }
}

/// A memory that is open in a run.
pub struct Shared {
    pager: Pager,
    space: Space,
    root: Cid,
    keeper: Box<dyn Keeper>,
    most: Most,
    charged: Charged,
    /// Pages that were mapped there.
    began_with: u64,
}

impl Shared {
    /// The memory `root`, of which a run may use so much.
    pub fn new(pager: Pager, space: Space, root: Cid, keeper: Box<dyn Keeper>, most: Most) -> Self {
        let began_with = space.used().mapped;
        Self { pager, space, root, keeper, most, charged: Charged::default(), began_with }
    }

    /// Tells the keeper which run it is.
    pub fn is_of(&mut self, run: &str) {
        self.keeper.is_of(run);
    }
}

/// A memory, as the operator granted it.
#[derive(Clone)]
pub struct Memory {
    /// The name the guest opens it by.
    pub guest: String,
    /// The first shard that is granted.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What may be done.
    pub rights: Rights,
    /// Number of the grant.
    pub grant: u32,
    /// What is there.
    pub shared: Arc<Mutex<Shared>>,
}

/// Why something could not be done: what the guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    OutOfRange,
    TooLarge,
    Quota,
    Unrelated,
}

/// Outside, what ends the kernel; inside, what the guest sees.
pub(crate) type Answer<T> = Result<Result<T, Refused>>;

/// What is known of a memory.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) last: u64,
    pub(crate) page_len: usize,
    pub(crate) mapped: u64,
    /// For who has all shards.
    pub(crate) root: Option<Cid>,
}

/// What a handle stands for: the shards of a grant, in the space of the name or in one of its own.
pub(crate) struct View {
    shared: Arc<Mutex<Shared>>,
    first: u64,
    last: u64,
    own: Option<Own>,
}

/// A space beside that of the name. What the memory had when the run opened it is not charged.
struct Own {
    space: Space,
    began_with: u64,
}

impl Own {
    fn charged(&self) -> Charged {
        Charged::of(&self.space, self.began_with)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        let mut shared = lock(&self.shared);
        shared.charged = shared.charged.without(own.charged());
        shared.pager.close(own.space);
    }
}

fn lock(shared: &Arc<Mutex<Shared>>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    pub(crate) fn new(memory: &Memory) -> Self {
        let Memory { first, last, ref shared, .. } = *memory;
        Self { shared: Arc::clone(shared), first, last, own: None }
    }

    /// The address of a guest, if `len` bytes from there are in the range of this.
    fn at(&self, (shard, offset): (u64, u64), len: u64) -> Result<La128, Refused> {
        let shard = self.first.checked_add(shard).filter(|shard| *shard <= self.last);
        let is_inside = offset.checked_add(len.saturating_sub(1)).is_some();
        shard.filter(|_| is_inside).map(|shard| La128 { shard, offset }).ok_or(Refused::OutOfRange)
    }

    /// Does something with the pager and the space, within what is left of the quota.
    fn with<T>(&mut self, act: impl FnOnce(&mut Pager, &mut Space) -> Result<T>) -> Answer<T> {
        let mut shared = lock(&self.shared);
        let Shared { pager, space: named, keeper, most, charged, began_with, .. } = &mut *shared;
        let began_with = *began_with;
        let space = self.own.as_mut().map_or(named, |own| &mut own.space);
        let before = Charged::of(space, began_with);
        space.set_quota(charged.quota(most, space, began_with));
        let done = act(pager, space);
        *charged = charged.moved(before, Charged::of(space, began_with));
        if space.is_io_over() {
            return Err(io_is_over(most.io_bytes));
        }
        if keeper.is_listening() {
            let Charged { mapped, dirty, io_bytes } = *charged;
            keeper.hear(&pager.stats(), &Used { mapped, dirty, io_bytes, ..Used::default() });
        }
        told(done)
    }

    /// At most so many bytes of a read or a write.
    fn check_len(len: usize, max: usize) -> Result<(), Refused> {
        if len > max { Err(Refused::TooLarge) } else { Ok(()) }
    }

    /// Whether `to.len()` bytes can be read from `at`: asked before there is room for them.
    pub(crate) fn can_read(&self, at: (u64, u64), len: usize) -> Result<(), Refused> {
        Self::check_len(len, READ_MAX_BYTES)?;
        self.at(at, len as u64).map(drop)
    }

    pub(crate) fn read(&mut self, at: (u64, u64), to: &mut [u8]) -> Answer<()> {
        match self.at(at, to.len() as u64) {
            Ok(at) => self.with(|pager, space| pager.read(space, at, to)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    pub(crate) fn write(&mut self, at: (u64, u64), bytes: &[u8]) -> Answer<()> {
        let checked = Self::check_len(bytes.len(), WRITE_MAX_BYTES);
        match checked.and_then(|()| self.at(at, bytes.len() as u64)) {
            Ok(at) => self.with(|pager, space| pager.write(space, at, bytes)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// A part of a fill; `look` is asked between two of them whether to go on.
    pub(crate) fn fill(
        &mut self,
        at: (u64, u64),
        len: u64,
        byte: u8,
        look: &dyn Fn() -> Result<()>,
    ) -> Answer<()> {
        let page_len = lock(&self.shared).pager.page_len() as u64;
        let from = match self.at(at, len).and_then(|at| check_pages(page_len, at.offset, len).map(|()| at)) {
            Ok(at) => at,
            Err(refused) => return Ok(Err(refused)),
        };
        for (done, part) in steps(page_len, from.offset, len) {
            let at = La128 { offset: from.offset.wrapping_add(done), ..from };
            if let Err(refused) = self.with(|pager, space| pager.fill(space, at, part, byte))? {
                return Ok(Err(refused));
            }
            look()?;
        }
        Ok(Ok(()))
    }

    pub(crate) fn copy(
        &mut self,
        source: (u64, u64),
        target: (u64, u64),
        len: u64,
        look: &dyn Fn() -> Result<()>,
    ) -> Answer<()> {
        let page_len = lock(&self.shared).pager.page_len() as u64;
        let checked = self.at(source, len).and_then(|from| Ok((from, self.at(target, len)?)));
        let (from, to) = match checked.and_then(|it| check_pages(page_len, it.0.offset, len).map(|()| it)) {
            Ok(both) => both,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut steps: Vec<_> = steps(page_len, from.offset, len).collect();
        if from.shard == to.shard && from.offset < to.offset {
            // No byte is overwritten before it was read.
            steps.reverse();
        }
        for (done, part) in steps {
            let moved = |at: La128| La128 { offset: at.offset.wrapping_add(done), ..at };
            let (from, to) = (moved(from), moved(to));
            if let Err(refused) = self.with(|pager, space| pager.copy(space, from, to, part))? {
                return Ok(Err(refused));
            }
            look()?;
        }
        Ok(Ok(()))
    }

    pub(crate) fn advise(&mut self, at: (u64, u64), len: u64, advice: Advice) -> Answer<()> {
        match self.at(at, len) {
            Ok(at) => self.with(|pager, space| pager.advise(space, at, len, advice)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Another space with what is held now.
    pub(crate) fn fork(&mut self) -> Answer<Self> {
        let forked = self.with(|pager, space| {
            pager.make_room_for_snapshot(space)?;
            Ok(pager.snapshot(space))
        })?;
        let space = match forked {
            Ok(space) => space,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut shared = lock(&self.shared);
        let own = Own { began_with: shared.began_with, space };
        // It keeps its pages when those of this go.
        let charged = shared.charged.moved(Charged::default(), own.charged());
        if charged.mapped > shared.most.mapped || charged.dirty > shared.most.dirty {
            shared.pager.close(own.space);
            return Ok(Err(Refused::Quota));
        }
        shared.charged = charged;
        drop(shared);
        let (first, last) = (self.first, self.last);
        Ok(Ok(Self { shared: Arc::clone(&self.shared), first, last, own: Some(own) }))
    }

    /// Lets the granted shards hold what those of `from` hold, a fork or snapshot of the same grant's.
    pub(crate) fn restore(&mut self, from: &mut Self, look: &dyn Fn() -> Result<()>) -> Answer<()> {
        let is_related = Arc::ptr_eq(&self.shared, &from.shared) && from.own.is_some();
        if !is_related || (self.first, self.last) != (from.first, from.last) {
            return Ok(Err(Refused::Unrelated));
        }
        let Some(own) = &mut from.own else { return Ok(Err(Refused::Unrelated)) };
        // Some of what differs at a time, so that neither memory nor the time until the next look grows with it.
        let (mut next, last) = (Some((self.first, 0)), self.last);
        while let Some(begin) = next {
            let some = PAGES_PER_LOOK as usize;
            let differ = self.with(|pager, space| pager.diff_from(space, &own.space, begin, some))?;
            let Ok(mut ranges) = differ else { return Ok(differ.map(drop)) };
            ranges.retain(|range| range.shard <= last);
            let copied = self.copy_ranges(own, &ranges, look)?;
            if copied.is_err() {
                return Ok(copied);
            }
            look()?;
            next = ranges.last().and_then(after);
        }
        Ok(Ok(()))
    }

    /// Lets pages hold what they hold in `own`.
    fn copy_ranges(&mut self, own: &mut Own, ranges: &[Range], look: &dyn Fn() -> Result<()>) -> Answer<()> {
        let page_len = lock(&self.shared).pager.page_len();
        // It is only read, and its quota is that of another time.
        own.space.set_quota(Quota::default());
        let mut bytes = vec![0; page_len];
        let pages = ranges.iter().flat_map(|range| pages_of(range, page_len as u64));
        for (done, at) in (1..).zip(pages) {
            let before = own.charged();
            let copied = self.with(|pager, space| {
                pager.read(&mut own.space, at, &mut bytes)?;
                // Pages of zeros are unmapped, and cost nothing again.
                pager.write_through(space, at, &bytes).map(drop)
            })?;
            let mut shared = lock(&self.shared);
            shared.charged = shared.charged.moved(before, own.charged());
            drop(shared);
            if copied.is_err() {
                return Ok(copied);
            }
            if done % PAGES_PER_LOOK == 0 {
                look()?;
            }
        }
        Ok(Ok(()))
    }

    /// Commits what is held now. Unless this `is_past`, the name moves.
    pub(crate) fn commit(&mut self, is_past: bool) -> Answer<Option<Cid>> {
        if self.own.is_some() {
            return Ok(Err(Refused::Unrelated));
        }
        let root = match self.with(|pager, space| pager.commit(space))? {
            Ok(root) => root,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut shared = lock(&self.shared);
        if !is_past {
            shared.keeper.keep(&root)?;
        }
        shared.root = root;
        drop(shared);
        Ok(Ok(self.is_whole().then_some(root)))
    }

    /// What is known of it. The first time that it is asked of a memory that was there, its map is looked through;
    /// `look` is asked on the way whether to go on.
    pub(crate) fn stat(&mut self, look: &dyn Fn() -> Result<()>) -> Answer<Known> {
        let granted = self.first..=self.last;
        let mapped = self.with(|pager, space| pager.count_mapped(space, granted, look))?;
        let shared = lock(&self.shared);
        Ok(mapped.map(|mapped| Known {
            last: self.last.saturating_sub(self.first),
            page_len: shared.pager.page_len(),
            mapped,
            root: self.is_whole().then_some(shared.root),
        }))
    }

    /// Whether all shards are granted: the root says something of each.
    fn is_whole(&self) -> bool {
        (self.first, self.last) == (0, u64::MAX)
    }
}

/// The root of what stands behind a grant.
pub(crate) fn root_of(memory: &Memory) -> Cid {
    lock(&memory.shared).root
}

/// What a quota refuses is for the guest to know; everything else ends it.
fn told<T>(done: Result<T>) -> Answer<T> {
    match done {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Abort(abort)) if abort.kind == AbortKind::Quota => Ok(Err(Refused::Quota)),
        Err(other) => Err(other),
    }
}

/// The end of a run that moved more than its operator allows.
fn io_is_over(most: u64) -> Error {
    let message =
        format!("a memory moved {most} bytes between its pages and the store, the most of this run");
    HostAbort::new(AbortKind::Quota, message)
        .hint("`--limit memory-io=SIZE` allows more, `--limit frames=SIZE` needs less")
        .into()
}

/// Refuses more pages than one call may touch.
fn check_pages(page_len: u64, offset: u64, len: u64) -> Result<(), Refused> {
    let pages = (offset % page_len).saturating_add(len).div_ceil(page_len);
    if pages > SHARD_PAGES_MAX { Err(Refused::TooLarge) } else { Ok(()) }
}

/// The parts in which `len` bytes from `offset` are worked on: where each begins, and its length. All between the
/// first and the last are whole pages.
fn steps(page_len: u64, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = len.checked_sub(done).filter(|left| *left > 0)?;
        let from = offset.wrapping_add(done);
        let part = match from % page_len {
            0 if left < page_len => left,
            0 => (left / page_len).min(PAGES_PER_LOOK) * page_len,
            inside => (page_len - inside).min(left),
        };
        done += part;
        Some((done - part, part))
    })
}

/// The page after a range, if there is one: its shard and number.
fn after(range: &Range) -> Option<(u64, u64)> {
    let Range { shard, page, pages } = *range;
    page.checked_add(pages).map(|page| (shard, page)).or_else(|| Some((shard.checked_add(1)?, 0)))
}

/// Where the pages of a range begin. Pages have no byte beyond 2^64.
fn pages_of(range: &Range, page_len: u64) -> impl Iterator<Item = La128> {
    let Range { shard, page, pages } = *range;
    let pages = (page..page.saturating_add(pages)).map_while(move |page| page.checked_mul(page_len));
    pages.map(move |offset| La128 { shard, offset })
}

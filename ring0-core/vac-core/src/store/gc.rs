//! Removing what nobody needs, while other processes read and write.
//!
//! One collector at a time: it holds `store/collector`. What is live is computed after [`Store::begin_gc`];
//! what others put in the meantime, or before and have named nowhere yet, is theirs by their
//! [claims](super::claims). Steps, each durable before the next begins:
//!
//! ```text
//! remove large objects and left-over temporary files, if no other store is open -> sync the folders
//! lock every pack that nobody writes to; make `sweep` odd; read the claims; read all lists of chunks
//! sync the folder of lists, from which an earlier collection may have removed some and died
//! remove the index of all packs                                                 -> sync the folder
//! of packs that are mostly garbage, first those without anything live, then a pack's worth at a time:
//!     copy the live objects to a new pack, verified                             -> sync
//!     remove those packs' indexes                                               -> sync the folder
//!     remove those packs                                                        -> sync the folder
//! ```
//!
//! So a full disk has room again before anything is copied, if there is a pack to remove.
//!
//! An object in chunks is removed like any large one, by its list; chunks of the lists that are there live. So a list
//! never outlives a chunk of it, and who finds one here while others are open has found all of its object.
//!
//! Packs are locked before the claims are read: whoever wrote to one before has claimed it, and nobody can
//! from then on. A pack that somebody claims is left as it is. An index goes before its pack, so a new pack
//! never finds an old one's index; a number never comes again, so nobody takes a new pack for an old one. A
//! crash between any two steps leaves an object twice, never not at all. A pack with a live object that
//! cannot be read is left alone, with its garbage, and reported: removing it would destroy evidence.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, PoisonError};

use crate::cid::Cid;
use crate::fault::{AbortKind, Corrupt, Error, HostAbort, Result};
use crate::storage::{Lock, LockMode, OpenMode, StorageFile};

use super::Store;
use super::catalog::View;
use super::chunks;
use super::claims::{self, Sweep};
use super::home::Home;
use super::index::{Location, Standing};
use super::read::{corrupt_packed, read_body};
use super::runs;
use super::state::{Added, State};
use super::writer::Writer;

/// What a collection did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct GcReport {
    /// Objects that are still there.
    pub kept: u64,
    /// Objects that are gone.
    pub removed: u64,
    /// Bytes on disk before minus after.
    pub freed_bytes: u64,
    /// Packs whose live objects were copied before they were removed.
    pub packs_rewritten: u64,
    /// Packs that were removed, also those that were rewritten.
    pub packs_removed: u64,
    /// Packs that were left as they are, because a store that is open wrote to them.
    pub packs_in_use: u64,
    /// Whether large objects were left as they are, because the store is open elsewhere too.
    pub large_left: bool,
    /// Live objects that cannot be read. Their packs were left as they are.
    pub corrupt: Vec<Corrupt>,
}

/// A collection that has begun: no other one can, and whatever anybody puts meanwhile is kept. Dropping it
/// ends it without removing anything.
pub struct Collection<'a> {
    store: &'a Store,
    _alone: Box<dyn Lock>,
}

/// While this is held no collection begins, and none is running.
#[must_use = "dropping it lets collections begin"]
pub struct Hold {
    _lock: Box<dyn Lock>,
}

impl Store {
    /// Keeps collections from beginning, for who is about to make a root of what may be garbage by now. `None` while one
    /// is running.
    pub fn try_hold(&self) -> Result<Option<Hold>> {
        Ok(self.home.try_collector(LockMode::Shared)?.map(|lock| Hold { _lock: lock }))
    }

    /// Removes every object that is neither in `live` nor pinned, leased, or claimed by another store that
    /// is open. Fails with `Busy` while another collection runs.
    ///
    /// Only right if nothing was put since `live` was computed; otherwise use
    /// [`Store::begin_gc`], which keeps that.
    pub fn gc(&self, live: &BTreeSet<Cid>) -> Result<GcReport> {
        self.begin_gc()?.collect(live)
    }

    /// Keeps other collections out. Then compute what lives and call [`Collection::collect`]. What was put
    /// here before this is kept only if it turns out to live.
    pub fn begin_gc(&self) -> Result<Collection<'_>> {
        let _still = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.commit_batch()?;
        let mut state = self.state();
        state.check_writable(&self.home)?;
        let alone = self.home.try_collector(LockMode::Exclusive)?;
        let busy = || {
            let dir = self.home.show(&self.home.dir);
            let message =
                format!("another collection of `{dir}` is running, or somebody is keeping them off");
            HostAbort::new(AbortKind::Busy, message).hint("try again in a moment")
        };
        let alone = alone.ok_or_else(busy)?;
        state.release_writer();
        if let Some(claims) = &mut state.claims {
            claims.reset(&self.home)?;
        }
        claims::forget_closed(&self.home)?;
        state.is_collecting = true;
        Ok(Collection { store: self, _alone: alone })
    }
}

impl Collection<'_> {
    /// Removes every object that is not in `live`, not pinned, not leased, and not put since
    /// [`Store::begin_gc`] or by another store that is open.
    pub fn collect(self, live: &BTreeSet<Cid>) -> Result<GcReport> {
        self.collect_at(live, 0)
    }

    /// [`Self::collect`] at a time `now`, in the unit of the leases: those that end by then keep nothing. They are
    /// removed if no other store is open, for another may be renewing them.
    pub fn collect_at(self, live: &BTreeSet<Cid>, now: u64) -> Result<GcReport> {
        let store = self.store;
        let _still = store.gate.write().unwrap_or_else(PoisonError::into_inner);
        store.commit_batch()?;
        let mut live = live.clone();
        live.extend(store.pins()?.into_values());
        live.extend(store.leases()?.into_values().filter(|lease| lease.ends > now).map(|lease| lease.cid));
        let mut report = GcReport::default();
        store.state().check_writable(&store.home)?;
        collect_alone(store, &mut live, now, &mut report)?;
        let mut state = store.state();
        state.check_writable(&store.home)?;
        state.release_writer();
        state.catalog.forget(None);
        let done = sweep_packs(&store.home, &mut state, &mut live, &mut report);
        // After a failure, copies in the buffer are nobody's loss: their originals are there.
        state.writer = None;
        state.catalog.forget(None);
        state.catalog.index.forget_bad();
        done.map(|()| report)
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        self.store.state().is_collecting = false;
    }
}

/// What only a store that is open nowhere else can do without harm: who finds a large object here relies on
/// its name, and who writes one on that of a temporary file.
fn collect_alone(store: &Store, live: &mut BTreeSet<Cid>, now: u64, report: &mut GcReport) -> Result<()> {
    store.state().set_lock(None);
    let lock = store.home.lock(LockMode::Exclusive);
    let done = match lock {
        Ok(lock) => {
            store.state().set_lock(Some(lock));
            store.remove_ended(now).and_then(|()| remove_large(store, live, report))
        }
        Err(Error::Abort(abort)) if abort.kind == AbortKind::Busy => {
            report.large_left = true;
            Ok(())
        }
        Err(other) => Err(other),
    };
    // If this fails, the next write tries again.
    let mut state = store.state();
    state.set_lock(None);
    state.set_lock(store.home.lock(LockMode::Shared).ok());
    done
}

/// One pack and what becomes of it.
struct Plan {
    number: u32,
    /// Held until the pack is gone or the sweep ends.
    _lock: Box<dyn Lock>,
    len: u64,
    file: Arc<dyn StorageFile>,
    kept: Vec<(Cid, Location)>,
    /// Objects that are gone when this pack is.
    removed: u64,
    /// Whether there are bytes that the kept objects do not need.
    has_garbage: bool,
    /// Why the pack must stay as it is.
    unreadable: Option<Corrupt>,
}

impl Plan {
    /// Whether the pack is to be rewritten: copying much to remove little is not worth it.
    fn is_worth_it(&self, home: &Home) -> bool {
        self.has_garbage && (self.len < home.tuning.rewrite_max || self.kept_bytes() < self.len / 2)
    }

    fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|(_, at)| at.end() - u64::from(at.start)).sum()
    }
}

/// An object in a pack.
struct Copy {
    cid: Cid,
    at: Location,
    /// What was only found behind the index may not be on the disk yet, whoever reads it.
    is_indexed: bool,
}

/// Locks, then looks at claims, then removes: see the beginning of this file.
fn sweep_packs(
    home: &Home,
    state: &mut State,
    live: &mut BTreeSet<Cid>,
    report: &mut GcReport,
) -> Result<()> {
    let mut locks = lock_packs(home)?;
    let _sweep = Sweep::begin(home)?;
    let claimed = claims::read_all(home)?;
    live.extend(claimed.objects);
    live.extend(chunks::all_chunks(home)?);
    locks.retain(|number, lock| lock.is_some() && !claimed.packs.contains(number));
    let packs = home.pack_numbers(".pack")?;
    report.packs_in_use = packs.iter().filter(|number| !locks.contains_key(number)).count() as u64;
    for number in packs.iter().filter(|number| !locks.contains_key(number)) {
        report.kept += count_objects(home, *number)?;
    }
    collect_packs(home, state, locks, live, report)
}

/// The locks of all packs, or `None` of those that somebody writes to.
fn lock_packs(home: &Home) -> Result<BTreeMap<u32, Option<Box<dyn Lock>>>> {
    let lock = |number: u32| {
        let path = home.pack(number);
        let lock = home.storage.try_lock(&path, LockMode::Exclusive);
        Ok((number, home.named("lock", &path, lock)?))
    };
    home.pack_numbers(".pack")?.into_iter().map(lock).collect()
}

fn count_objects(home: &Home, number: u32) -> Result<u64> {
    let Some(file) = home.try_open(&home.pack(number), OpenMode::Read)? else { return Ok(0) };
    let (view, _) = View::read_most(home, number, &*file)?;
    let indexed = view.indexed.iter().filter(|entry| entry.cid().is_some()).count();
    Ok((indexed + view.scanned.iter().filter(|found| found.entry.cid().is_some()).count()) as u64)
}

fn collect_packs(
    home: &Home,
    state: &mut State,
    locks: BTreeMap<u32, Option<Box<dyn Lock>>>,
    live: &BTreeSet<Cid>,
    report: &mut GcReport,
) -> Result<()> {
    let (mut plans, mut copies) = read_packs(home, locks)?;
    // The first whole copy stays, so those that survive a power cut come first.
    copies.sort_unstable_by_key(|copy| (copy.cid, !copy.is_indexed, copy.at.place()));
    for same in copies.chunk_by(|a, b| a.cid == b.cid) {
        plan_object(home, &mut plans, live, same, report)?;
    }
    for plan in plans.values_mut().filter(|plan| plan.is_worth_it(home) && plan.unreadable.is_none()) {
        plan.unreadable = find_unreadable(home, plan);
    }
    let (doomed, stuck): (Vec<Plan>, Vec<Plan>) =
        plans.into_values().filter(|plan| plan.is_worth_it(home)).partition(|plan| plan.unreadable.is_none());
    report.corrupt.extend(stuck.into_iter().filter_map(|plan| plan.unreadable));
    if doomed.is_empty() {
        return Ok(());
    }
    sync_lists(home, state)?;
    let index = runs::remove_all(home)?;
    let _index = index.ok_or_else(|| {
        let message = format!("another process is writing the index of `{}`", home.show(&home.dir));
        HostAbort::new(AbortKind::Busy, message).hint("try again")
    })?;
    let highest = home.pack_numbers(".pack")?.last().copied();
    let (mut gone_bytes, mut copied_bytes) = (0, 0);
    for group in in_groups(home, doomed, highest) {
        copied_bytes += copy_kept(home, state, &group)?;
        outlast(home, state, &group)?;
        remove_packs(home, &group)?;
        report.removed += group.iter().map(|plan| plan.removed).sum::<u64>();
        report.packs_removed += group.len() as u64;
        report.packs_rewritten += group.iter().filter(|plan| !plan.kept.is_empty()).count() as u64;
        gone_bytes += group.iter().map(|plan| plan.len).sum::<u64>();
    }
    report.freed_bytes += gone_bytes.saturating_sub(copied_bytes);
    Ok(())
}

/// The packs that go, in groups that go together: those that need no new one, then the rest, the emptiest first, a new
/// pack's worth at a time.
fn in_groups(home: &Home, mut doomed: Vec<Plan>, highest: Option<u32>) -> Vec<Vec<Plan>> {
    // In place of the one with the highest number there must be another: see `outlast`.
    let needs_new = |plan: &Plan| !plan.kept.is_empty() || Some(plan.number) == highest;
    doomed.sort_by_key(|plan| (needs_new(plan), plan.kept_bytes(), plan.number));
    let mut groups: Vec<Vec<Plan>> = Vec::new();
    let mut room = 0;
    for plan in doomed {
        let cost = if needs_new(&plan) { plan.kept_bytes().max(1) } else { 0 };
        match groups.last_mut() {
            Some(group) if cost <= room => group.push(plan),
            _ => {
                room = if cost == 0 { 0 } else { home.tuning.pack_max };
                groups.push(vec![plan]);
            }
        }
        room = room.saturating_sub(cost);
    }
    groups
}

/// Makes durable that the lists that are not there are gone: one that came back after its chunks went would be believed.
fn sync_lists(home: &Home, state: &mut State) -> Result<()> {
    let dir = home.chunked_dir();
    let synced = match home.storage.sync_dir(&dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => home.named("sync the folder", &dir, synced),
    };
    if let Err(why) = &synced {
        state.poison(why);
    }
    synced
}

/// Every locked pack, with nothing kept yet, and every object in them.
fn read_packs(
    home: &Home,
    locks: BTreeMap<u32, Option<Box<dyn Lock>>>,
) -> Result<(BTreeMap<u32, Plan>, Vec<Copy>)> {
    let mut plans = BTreeMap::new();
    let mut copies = Vec::new();
    for (number, lock) in locks {
        let Some(lock) = lock else { continue };
        let path = home.pack(number);
        let Some(file) = home.try_open(&path, OpenMode::Read)? else { continue };
        let (view, unreadable) = View::read_most(home, number, &*file)?;
        let indexed = view.indexed.iter().map(|entry| (entry, true));
        let scanned = view.scanned.iter().map(|found| (&found.entry, false));
        let mut hole = None;
        for (entry, is_indexed) in indexed.chain(scanned) {
            let Some((cid, body)) = entry.object() else {
                hole = Some(entry.start);
                continue;
            };
            let at = Location { pack: number, start: entry.start, body, standing: Standing::Unsure };
            copies.push(Copy { cid, at, is_indexed });
        }
        let unreadable = unreadable.map(|why| {
            let place = format!("`{}`", home.show(&path));
            Corrupt::new("pack", place, "all of its bytes", why)
        });
        // A hole may have been a live object.
        let unreadable = unreadable.or_else(|| {
            let place = format!("`{}` at byte {}", home.show(&path), hole?);
            Some(Corrupt::new("record", place, "a record with its checksum", "other bytes"))
        });
        let has_garbage = hole.is_some() || view.pack.len > view.pack.idx_end.max(view.pack.seen_end);
        let (len, file) = (view.pack.len, Arc::from(file));
        let kept = Vec::new();
        let plan = Plan { number, _lock: lock, len, file, kept, removed: 0, has_garbage, unreadable };
        plans.insert(number, plan);
    }
    Ok((plans, copies))
}

/// Decides about one object, all of whose copies are in `same`.
fn plan_object(
    home: &Home,
    plans: &mut BTreeMap<u32, Plan>,
    live: &BTreeSet<Cid>,
    same: &[Copy],
    report: &mut GcReport,
) -> Result<()> {
    let Some(first) = same.first() else { return Ok(()) };
    if !live.contains(&first.cid) {
        plans.entry(first.at.pack).and_modify(|plan| plan.removed += 1);
        same.iter().for_each(|copy| mark_garbage(plans, copy.at.pack));
        return Ok(());
    }
    report.kept += 1;
    let whole = match same {
        [_] => Some(0),
        _ => first_whole(home, plans, same),
    };
    for (i, copy) in same.iter().enumerate() {
        // Without a whole copy all are kept, for one may still help whoever repairs it.
        if whole.is_none_or(|whole| whole == i) {
            plans.entry(copy.at.pack).and_modify(|plan| plan.kept.push((copy.cid, copy.at)));
        } else {
            mark_garbage(plans, copy.at.pack);
        }
    }
    Ok(())
}

fn mark_garbage(plans: &mut BTreeMap<u32, Plan>, pack: u32) {
    plans.entry(pack).and_modify(|plan| plan.has_garbage = true);
}

/// Which of several copies can be read.
fn first_whole(home: &Home, plans: &BTreeMap<u32, Plan>, same: &[Copy]) -> Option<usize> {
    for (i, copy) in same.iter().enumerate() {
        let Some(plan) = plans.get(&copy.at.pack) else { continue };
        if read_kept(home, plan, &copy.cid, &copy.at).is_ok() {
            return Some(i);
        }
    }
    None
}

/// The first kept object of a pack that cannot be read.
fn find_unreadable(home: &Home, plan: &Plan) -> Option<Corrupt> {
    for (cid, at) in &plan.kept {
        if let Err(corrupt) = read_kept(home, plan, cid, at) {
            return Some(corrupt);
        }
    }
    None
}

/// The body of an object, which was verified. A disk that does not give the bytes is damage like other bytes: it ends the
/// collection of its pack, not of all.
fn read_kept(home: &Home, plan: &Plan, cid: &Cid, at: &Location) -> Result<Vec<u8>, Corrupt> {
    let stored = read_body(home, &*plan.file, at).map_err(|why| {
        let place = format!("`{}` at byte {}", home.show(&home.pack(at.pack)), at.body_start());
        Corrupt::new("object", place, cid, why)
    })?;
    match at.body.object(cid, Cow::Borrowed(&stored)) {
        Ok(_) => Ok(stored),
        Err(got) => Err(corrupt_packed(home, cid, at.pack, at.body_start(), &got)),
    }
}

/// Copies what is kept of the doomed packs to new ones, durably. Returns the new packs' length.
fn copy_kept(home: &Home, state: &mut State, doomed: &[Plan]) -> Result<u64> {
    let mut copied_bytes = 0;
    for plan in doomed {
        for (cid, at) in &plan.kept {
            let stored = read_kept(home, plan, cid, at)?;
            let body = if at.body.is_compressed() { at.body } else { home.tuning.body(stored.len()) };
            while state.push(home, *cid, body, &stored)? == Added::PackIsFull {
                copied_bytes += finish_pack(home, state)?;
                state.writer = Some(Writer::create(home, &mut state.catalog)?);
            }
        }
    }
    Ok(copied_bytes + finish_pack(home, state)?)
}

/// Commits the pack that is being written, if any, and returns its length.
fn finish_pack(home: &Home, state: &mut State) -> Result<u64> {
    if let Some(batch) = state.begin_commit(home)? {
        let synced = batch.sync(home);
        state.end_commit(home, &batch, synced)?;
    }
    let len = state.writer.as_ref().map_or(0, Writer::end);
    state.release_writer();
    Ok(len)
}

/// Makes sure that a pack has a higher number than all that go, so that no number comes again.
fn outlast(home: &Home, state: &mut State, doomed: &[Plan]) -> Result<()> {
    let highest = home.pack_numbers(".pack")?.last().copied();
    if doomed.iter().any(|plan| Some(plan.number) == highest) {
        Writer::create(home, &mut state.catalog)?.release(&mut state.catalog);
        home.sync_dir(&home.packs())?;
    }
    Ok(())
}

/// Removes packs, each index durably before its pack, and indexes without a pack.
fn remove_packs(home: &Home, doomed: &[Plan]) -> Result<()> {
    let packs = home.pack_numbers(".pack")?;
    let idxs = home.pack_numbers(".idx")?;
    let orphans = idxs.iter().filter(|number| packs.binary_search(number).is_err());
    let idxs: Vec<u32> = orphans.copied().chain(doomed.iter().map(|plan| plan.number)).collect();
    if idxs.is_empty() {
        return Ok(());
    }
    for number in idxs {
        home.remove(&home.idx(number))?;
    }
    home.sync_dir(&home.packs())?;
    for plan in doomed {
        home.remove(&home.pack(plan.number))?;
    }
    home.sync_dir(&home.packs())
}

/// Also what was claimed lives, by whoever came and went since the collection began.
fn remove_large(store: &Store, live: &mut BTreeSet<Cid>, report: &mut GcReport) -> Result<()> {
    live.extend(claims::read_all(&store.home)?.objects);
    collect_large(store, live, report)?;
    collect_temps(&store.home)
}

fn collect_large(store: &Store, live: &BTreeSet<Cid>, report: &mut GcReport) -> Result<()> {
    let mut touched_dirs = BTreeSet::new();
    for cid in store.large_cids()? {
        if live.contains(&cid) {
            report.kept += 1;
            continue;
        }
        let path = store.home.large(&cid);
        if let Some(file) = store.home.try_open(&path, OpenMode::Read)? {
            report.freed_bytes += store.home.named("read", &path, file.len())?;
        }
        store.home.remove(&path)?;
        report.removed += 1;
        touched_dirs.insert(store.home.large_part(&cid));
    }
    collect_lists(&store.home, live, &mut touched_dirs, report)?;
    touched_dirs.iter().try_for_each(|dir| store.sync_large(dir))
}

fn collect_lists(
    home: &Home,
    live: &BTreeSet<Cid>,
    touched_dirs: &mut BTreeSet<String>,
    report: &mut GcReport,
) -> Result<()> {
    for cid in chunks::listed(home)? {
        if live.contains(&cid) {
            report.kept += 1;
            continue;
        }
        home.remove(&home.chunked(&cid))?;
        report.removed += 1;
        touched_dirs.insert(home.chunked_dir());
    }
    Ok(())
}

/// Removes what processes that were killed left in `tmp`.
fn collect_temps(home: &Home) -> Result<()> {
    for name in home.list(&home.temps())? {
        home.remove(&format!("{}/{name}", home.temps()))?;
    }
    Ok(())
}

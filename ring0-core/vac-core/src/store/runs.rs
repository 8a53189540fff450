//! The index on disk: a list of [runs](super::run), and how far into each pack they reach.
//!
//! Runs never change. What is new is written as one more run, merged with those that are not at least twice
//! as long as it, so there are few of them and each entry is rewritten once for every doubling. The list
//! is a file of its own, replaced as a whole; who reads an older list still has its runs open.
//!
//! ```text
//! | run 7, long | run 9, half of it | run 12 |     in memory: what is newer
//!  oldest                             newest
//! ```
//!
//! Invariants: an entry of a run names bytes that were synced; what a list says of a pack is in its runs;
//! only the holder of `index/lock` changes anything; a list is durable before the runs it no longer
//! names go, and a run before the list that names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{Error, Result};
use crate::limits::STORE_INDEX_LIST_MAX_BYTES;
use crate::storage::{Lock, LockMode, OpenMode, StorageFile, read_file};

use super::format::{checksum, take, unseal};
use super::home::Home;
use super::run::{Damaged, Entry, Run, RunIter, RunWriter};

const MAGIC: [u8; 7] = *b"VACLIST";
const VERSION: u8 = 1;
/// How often a list is read again because a run that it names has gone meanwhile.
const TRIES: usize = 4;

/// How much of a pack the runs know.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Covered {
    /// Where in the pack that part ends.
    pub(super) idx_end: u64,
    /// Where in its index file that part ends.
    pub(super) idx_len: u64,
}

/// What the list says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct List {
    /// Grows with every change.
    pub(super) generation: u64,
    /// The numbers of the runs, the oldest first.
    pub(super) runs: Vec<u32>,
    pub(super) packs: BTreeMap<u32, Covered>,
}

impl List {
    pub(super) fn covered(&self, pack: u32) -> Covered {
        self.packs.get(&pack).copied().unwrap_or_default()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[VERSION], &self.generation.to_le_bytes()].concat();
        bytes.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        self.runs.iter().for_each(|run| bytes.extend_from_slice(&run.to_le_bytes()));
        for (pack, covered) in &self.packs {
            bytes.extend_from_slice(&pack.to_le_bytes());
            bytes.extend_from_slice(&(covered.idx_end as u32).to_le_bytes());
            bytes.extend_from_slice(&(covered.idx_len as u32).to_le_bytes());
        }
        let sum = checksum(&bytes, 0, 0);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, 0, 0)?;
        if take::<7>(&mut rest)? != MAGIC || take::<1>(&mut rest)? != [VERSION] {
            return None;
        }
        let mut list = Self { generation: u64::from_le_bytes(take(&mut rest)?), ..Self::default() };
        let runs = u32::from_le_bytes(take(&mut rest)?);
        let packs = u32::from_le_bytes(take(&mut rest)?);
        for _ in 0..runs {
            list.runs.push(u32::from_le_bytes(take(&mut rest)?));
        }
        for _ in 0..packs {
            let pack = u32::from_le_bytes(take(&mut rest)?);
            let idx_end = u32::from_le_bytes(take(&mut rest)?).into();
            let idx_len = u32::from_le_bytes(take(&mut rest)?).into();
            list.packs.insert(pack, Covered { idx_end, idx_len });
        }
        rest.is_empty().then_some(list)
    }
}

/// A list with its runs open.
#[derive(Default)]
pub(super) struct Runs {
    pub(super) list: List,
    pub(super) open: Vec<Arc<Run>>,
}

impl Runs {
    /// What is on disk; nothing if there is nothing, or if any of it is damaged.
    pub(super) fn load(home: &Home) -> Self {
        (0..TRIES).find_map(|_| Self::try_load(home).ok()).unwrap_or_default()
    }

    fn try_load(home: &Home) -> Result<Self, Damaged> {
        let bytes = read_file(&*home.storage, &home.index_list(), STORE_INDEX_LIST_MAX_BYTES)?;
        let list = List::decode(&bytes).ok_or(Damaged)?;
        let open = |number: &u32| {
            let file = home.storage.open(&home.run(*number), OpenMode::Read)?;
            Run::open(file, *number).map(Arc::new)
        };
        let open = list.runs.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { list, open })
    }

    /// The newest entry for `cid` that `is_good`, or else the newest of all.
    pub(super) fn find(&self, cid: &Cid, is_good: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, Damaged> {
        let mut second = None;
        for run in self.open.iter().rev() {
            match run.find(cid)? {
                Some(entry) if is_good(&entry) => return Ok(Some(entry)),
                other => second = second.or(other),
            }
        }
        Ok(second)
    }

    /// Calls `each` with every entry, some of which may be of the same object.
    pub(super) fn each(&self, mut each: impl FnMut(Entry)) -> Result<(), Damaged> {
        for run in &self.open {
            let mut entries = run.iter();
            while let Some(entry) = entries.next()? {
                each(entry);
            }
        }
        Ok(())
    }
}

/// What one process wants to add.
pub(super) struct Addition {
    /// Sorted, each object once.
    pub(super) entries: Vec<Entry>,
    /// How far into the packs these entries and those of `base` reach.
    pub(super) covered: BTreeMap<u32, Covered>,
    /// The list that this process read last.
    pub(super) base: List,
    /// Whether what is on disk was found to be damaged, and must be replaced.
    pub(super) starts_anew: bool,
}

/// How an addition ended.
pub(super) enum Published {
    /// Another process is at it, or the disk is full; later.
    NotNow,
    /// A run that was to be merged is damaged.
    Damaged,
    /// These are the runs now. `is_ours` if nobody else changed the list since it was read.
    Done { runs: Runs, is_ours: bool },
}

/// Why an addition ended early.
enum Stop {
    /// A sync failed, after which nothing is to be believed.
    Sync(Error),
    Damaged,
    Other,
}

impl From<Error> for Stop {
    fn from(_: Error) -> Self {
        Self::Other
    }
}

impl From<Damaged> for Stop {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// Writes a run, and the list with it. Only a sync that fails is an error: without an index a store is
/// slower, and nothing else.
pub(super) fn publish(home: &Home, addition: &Addition) -> Result<Published> {
    match try_publish(home, addition) {
        Ok(published) => Ok(published),
        Err(Stop::Damaged) => Ok(Published::Damaged),
        Err(Stop::Other) => Ok(Published::NotNow),
        Err(Stop::Sync(why)) => Err(why),
    }
}

fn try_publish(home: &Home, addition: &Addition) -> Result<Published, Stop> {
    home.make_dir(&home.index())?;
    let lock = home.storage.try_lock(&home.index_lock(), LockMode::Exclusive);
    let Some(_lock) = home.named("lock", &home.index_lock(), lock)? else { return Ok(Published::NotNow) };
    let on_disk = if addition.starts_anew { Runs::default() } else { Runs::load(home) };
    let packs = home.pack_numbers(".pack")?;
    let files = home.run_numbers()?;
    let number = files.last().map_or(1, |last| last.saturating_add(1));
    let (mut open, merged) = divide(&on_disk.open, addition.entries.len() as u64);
    open.push(Arc::new(write_run(home, number, addition, &merged, &packs)?));
    let list = List {
        generation: on_disk.list.generation.max(addition.base.generation) + 1,
        runs: open.iter().map(|run| run.number).collect(),
        packs: covered(&on_disk.list, addition, &packs),
    };
    sync_idxs(home, &on_disk.list, &list)?;
    write_list(home, &list)?;
    let is_ours = on_disk.list == addition.base;
    let runs = Runs { list, open };
    // What stays of them is removed by the next addition.
    let _ = remove_unlisted(home, &files, &runs.list);
    Ok(Published::Done { runs, is_ours })
}

fn write_run(
    home: &Home,
    number: u32,
    addition: &Addition,
    merged: &[Arc<Run>],
    packs: &[u32],
) -> Result<Run, Stop> {
    let path = home.run(number);
    let file = home.named("create", &path, home.storage.open(&path, OpenMode::CreateNew))?;
    let written = home.named("write", &path, merge(&*file, number, addition, merged, packs));
    if !matches!(written, Ok(Ok(()))) {
        let _ = home.remove(&path);
    }
    written??;
    home.named("sync", &path, file.sync_data()).map_err(Stop::Sync)?;
    Ok(Run::open(file, number)?)
}

/// The runs that stay, and those that are merged with `new` more entries, the newest of these first.
fn divide(runs: &[Arc<Run>], new: u64) -> (Vec<Arc<Run>>, Vec<Arc<Run>>) {
    let (mut kept, mut merged) = (runs.to_vec(), Vec::new());
    let mut entries = new;
    while let Some(run) = kept.pop_if(|run| run.entries / 2 < entries) {
        entries += run.entries;
        merged.push(run);
    }
    (kept, merged)
}

/// One of the sorted inputs of a merge, and what comes next in it.
struct Input<'a> {
    from: RunIter<'a>,
    next: Option<Entry>,
}

/// Merges what is new with older runs. Of two entries for an object the newer stays, and those that name a
/// pack that is gone do not.
fn merge(
    file: &dyn StorageFile,
    number: u32,
    addition: &Addition,
    merged: &[Arc<Run>],
    packs: &[u32],
) -> std::io::Result<Result<(), Damaged>> {
    let entries_max = addition.entries.len() as u64 + merged.iter().map(|run| run.entries).sum::<u64>();
    let mut writer = RunWriter::new(file, number, entries_max);
    let mut new = addition.entries.iter().copied().peekable();
    let mut inputs = Vec::new();
    for run in merged {
        let mut from = run.iter();
        let Ok(next) = from.next() else { return Ok(Err(Damaged)) };
        inputs.push(Input { from, next });
    }
    loop {
        let old = inputs.iter().filter_map(|input| input.next.as_ref()).map(Entry::key).min();
        let Some(key) = old.into_iter().chain(new.peek().map(Entry::key)).min() else { break };
        // A place in a pack that was collected hides none in one that is there.
        let is_there = |entry: &Entry| packs.binary_search(&entry.pack).is_ok();
        let mut newest = new.next_if(|entry| entry.key() == key).filter(is_there);
        for input in &mut inputs {
            if input.next.is_none_or(|entry| entry.key() != key) {
                continue;
            }
            newest = newest.or(input.next.filter(is_there));
            let Ok(next) = input.from.next() else { return Ok(Err(Damaged)) };
            if next.is_some_and(|next| next.key() <= key) {
                return Ok(Err(Damaged));
            }
            input.next = next;
        }
        if let Some(entry) = newest {
            writer.push(&entry)?;
        }
    }
    writer.finish().map(Ok)
}

/// How far the runs reach, with the addition. It says nothing of what is between the end of the list on disk
/// and its own base, should that reach further.
fn covered(on_disk: &List, addition: &Addition, packs: &[u32]) -> BTreeMap<u32, Covered> {
    let of = |pack: &u32| {
        let (old, new) = (on_disk.covered(*pack), addition.covered.get(pack).copied().unwrap_or_default());
        let is_joined = addition.starts_anew || addition.base.covered(*pack).idx_end <= old.idx_end;
        let covered = if is_joined && new.idx_end > old.idx_end { new } else { old };
        (*pack, covered)
    };
    packs.iter().map(of).filter(|(_, covered)| covered.idx_len > 0).collect()
}

/// Makes durable what the list says of the packs' own index files. Else a power cut could leave one that is
/// as long as the list says, and begins with nothing.
fn sync_idxs(home: &Home, old: &List, new: &List) -> Result<(), Stop> {
    for (pack, _) in new.packs.iter().filter(|(pack, covered)| old.covered(**pack) != **covered) {
        let path = home.idx(*pack);
        if let Some(file) = home.try_open(&path, OpenMode::Read)? {
            home.named("sync", &path, file.sync_data()).map_err(Stop::Sync)?;
        }
    }
    Ok(())
}

fn write_list(home: &Home, list: &List) -> Result<(), Stop> {
    let temp = home.temp()?;
    home.named("write", &temp.path, temp.file.write_at(&list.encode(), 0))?;
    home.named("sync", &temp.path, temp.file.sync_data()).map_err(Stop::Sync)?;
    home.named("rename to", &home.index_list(), home.storage.rename(&temp.path, &home.index_list()))?;
    home.sync_dir(&home.index()).map_err(Stop::Sync)
}

/// Removes runs that the durable list does not name.
fn remove_unlisted(home: &Home, files: &[u32], list: &List) -> Result<()> {
    let mut unlisted = files.iter().copied().filter(|number| !list.runs.contains(number));
    unlisted.try_for_each(|number| home.remove(&home.run(number)))
}

/// Before a pack is written to from `end` on: an index that says it is longer goes, durably. Else, when the pack has grown
/// again, who reads that index believes what it says. `false` if somebody is just writing another.
pub(super) fn forget_beyond(home: &Home, pack: u32, end: u64) -> Result<bool> {
    let covered = Runs::load(home).list.covered(pack);
    Ok(covered.idx_end <= end || remove_all(home)?.is_some())
}

/// Removes the list, durably, so that nobody believes its runs any more; then the runs. Until what is
/// returned is dropped, nobody writes another. `None` if somebody is just doing that.
pub(super) fn remove_all(home: &Home) -> Result<Option<Box<dyn Lock>>> {
    home.make_dir(&home.index())?;
    let lock = home.storage.try_lock(&home.index_lock(), LockMode::Exclusive);
    let Some(lock) = home.named("lock", &home.index_lock(), lock)? else { return Ok(None) };
    home.remove(&home.index_list())?;
    home.sync_dir(&home.index())?;
    remove_unlisted(home, &home.run_numbers()?, &List::default())?;
    Ok(Some(lock))
}

//! What this process knows of the packs on disk, and how it learns more.
//!
//! Packs are read when first asked for, and looked at again when something is missed, so an
//! object that another process committed later is found. Of each pack only that is read which the index on
//! disk does not cover; a part of it that cannot be believed is as good as not there.
//!
//! Invariants: what comes from an index file is [`Standing::Durable`], because entries are appended after
//! the pack was synced; what comes from scanning a tail is [`Standing::Unsure`], unless this store's own
//! writer, which knows more than the disk does, said so before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{Corrupt, Error, HostAbort, Result};
use crate::limits::STORE_OPEN_PACKS_MAX;
use crate::storage::{OpenMode, StorageFile};

use super::body::Body;
use super::format::{self, ENTRY_LEN, FILE_HEAD_LEN, Head, IndexEntry, Kind, RECORD_HEAD_LEN};
use super::home::Home;
use super::index::{Index, Location, Standing};
use super::runs::{Addition, Covered, Published, Runs, publish};
use super::scan::{Found, scan};

const ENTRIES_AT_ONCE: usize = 2048;

/// One pack on disk, as last seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pack {
    /// Its length in bytes.
    pub(super) len: u64,
    /// The version that its first bytes say, if they are whole.
    pub(super) version: Option<u8>,
    /// How many bytes of its index are good.
    pub(super) idx_len: u64,
    /// Where the part that its index covers ends.
    pub(super) idx_end: u64,
    /// Where the part that was read without the index ends.
    pub(super) seen_end: u64,
}

impl Pack {
    /// Whether it can grow no more.
    fn is_sealed(&self, home: &Home) -> bool {
        self.idx_end == self.len && self.len >= home.tuning.pack_max
    }
}

/// The packs and where their objects are.
#[derive(Default)]
pub(super) struct Catalog {
    pub(super) index: Index,
    pub(super) packs: BTreeMap<u32, Pack>,
    files: BTreeMap<u32, Arc<dyn StorageFile>>,
    is_loaded: bool,
    /// Whether what grows in memory may be written to the index on disk.
    pub(super) may_publish: bool,
    /// Whether the index on disk was found to be damaged.
    is_distrusted: bool,
    /// Counts what ends an addition that another thread is writing: everything was forgotten.
    resets: u64,
    /// Objects in memory from which on it is worth to try again, after the index could not be written.
    next_try: usize,
}

/// An addition to the index on disk, and when it began.
pub(super) struct Pending {
    addition: Addition,
    resets: u64,
}

impl Pending {
    /// Writes it. Needs no lock of the store.
    pub(super) fn publish(&self, home: &Home) -> Result<Published> {
        publish(home, &self.addition)
    }
}

impl Catalog {
    /// Reads the packs unless that was done. `own` is the pack this store writes to.
    pub(super) fn load(&mut self, home: &Home, own: Option<u32>) -> Result<()> {
        if self.is_loaded { Ok(()) } else { self.refresh(home, own) }
    }

    /// Unless the packs were read: a catalog that may write the index, to read them without the lock that guards this
    /// one, and to be dropped.
    pub(super) fn aside(&self) -> Option<Self> {
        let is_wanted = !self.is_loaded && self.may_publish;
        is_wanted.then(|| Self { may_publish: true, is_distrusted: self.is_distrusted, ..Self::default() })
    }

    /// Learns what others wrote since the last look.
    pub(super) fn refresh(&mut self, home: &Home, own: Option<u32>) -> Result<()> {
        let mut numbers = home.pack_numbers(".pack")?;
        let is_gone = |number: &u32| Some(*number) != own && numbers.binary_search(number).is_err();
        if self.packs.keys().any(is_gone) {
            self.forget(own);
        }
        if !self.is_loaded {
            self.packs.clear();
            self.load_runs(home)?;
            numbers = home.pack_numbers(".pack")?;
        }
        for number in numbers {
            let known = self.packs.get(&number).copied();
            if known.is_some_and(|pack| pack.is_sealed(home)) {
                continue;
            }
            if Some(number) != own && self.was_cut(home, number, known)? {
                // What is remembered of its end names places that are gone, or in which something else is by now.
                self.forget(own);
                return self.refresh(home, own);
            }
            self.refresh_pack(home, number, own)?;
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Whether a pack lost its end since it was seen, though it may have grown again.
    fn was_cut(&mut self, home: &Home, number: u32, known: Option<Pack>) -> Result<bool> {
        let (Some(known), Some(file)) = (known, self.file(home, number)?) else { return Ok(false) };
        let len = home.named("read", &home.pack(number), file.len())?.min(u32::MAX.into());
        let covered = Covered { idx_end: known.idx_end, idx_len: known.idx_len };
        let was_cut = len < known.len || (len > known.len && !is_as_covered(home, number, covered)?);
        if was_cut {
            self.index.forget_bad_from(number, len.min(known.len));
        }
        Ok(was_cut)
    }

    /// Reads the index on disk, unless the packs that it tells of are not those that are there: then it is of
    /// another time, and what it names may be anything.
    fn load_runs(&mut self, home: &Home) -> Result<()> {
        // Twice, for a collector may have removed packs, and that index before, in between.
        for _ in 0..2 {
            let runs = if self.is_distrusted { Runs::default() } else { Runs::load(home) };
            if self.has_all(home, &runs)? {
                self.index.runs = runs;
                return Ok(());
            }
        }
        self.is_distrusted = true;
        Ok(())
    }

    fn has_all(&mut self, home: &Home, runs: &Runs) -> Result<bool> {
        for (number, covered) in &runs.list.packs {
            let Some(file) = self.file(home, *number)? else { return Ok(false) };
            let len = home.named("read", &home.pack(*number), file.len())?;
            // A pack that lost its end, or its index, may be cut, and then grow into what is not there any more.
            if len < covered.idx_end || !is_as_covered(home, *number, *covered)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the index on disk may say that a pack is longer than `end`.
    pub(super) fn may_be_indexed_beyond(&self, number: u32, end: u64) -> bool {
        self.is_distrusted || self.index.runs.list.covered(number).idx_end > end
    }

    /// Forgets everything but the pack this store writes to, for a collector may have moved it.
    pub(super) fn forget(&mut self, own: Option<u32>) {
        self.index.forget_all_but(own);
        self.packs.clear();
        self.files.retain(|number, _| Some(*number) == own);
        self.is_loaded = false;
        self.resets += 1;
    }

    /// Forgets what was seen of one pack, but not its objects.
    pub(super) fn forget_pack(&mut self, number: u32) {
        self.packs.remove(&number);
        self.files.remove(&number);
    }

    /// Where `cid` is. Should the index on disk turn out to be damaged, all is read again without it.
    pub(super) fn get(&mut self, home: &Home, own: Option<u32>, cid: &Cid) -> Result<Option<Location>> {
        if let Ok(found) = self.index.get(cid, &self.packs) {
            return Ok(found);
        }
        self.distrust(home, own)?;
        Ok(self.index.get(cid, &self.packs).unwrap_or_default())
    }

    /// Every object with how it lies, sorted.
    pub(super) fn sorted(&mut self, home: &Home, own: Option<u32>) -> Result<Vec<(Cid, Body)>> {
        if let Ok(all) = self.index.sorted(&self.packs) {
            return Ok(all);
        }
        self.distrust(home, own)?;
        Ok(self.index.sorted(&self.packs).unwrap_or_default())
    }

    /// Reads everything again, without the index on disk.
    pub(super) fn distrust(&mut self, home: &Home, own: Option<u32>) -> Result<()> {
        self.is_distrusted = true;
        self.forget(own);
        self.refresh(home, own)
    }

    /// Looks at one pack.
    pub(super) fn refresh_pack(&mut self, home: &Home, number: u32, own: Option<u32>) -> Result<()> {
        let Some(file) = self.file(home, number)? else { return Ok(()) };
        let mut pack = match self.packs.get(&number) {
            Some(pack) => *pack,
            None => first_look(home, number, self.index.runs.list.covered(number))?,
        };
        loop {
            let mut sink = IntoIndex { index: &mut self.index, pack: number };
            let room = home.tuning.table_max.saturating_sub(sink.index.table_len()).max(ENTRIES_AT_ONCE);
            let part = if self.may_publish { Part::Entries(room) } else { Part::All };
            let (found, is_done) = look(home, number, &*file, &mut pack, &mut sink, part)?;
            for found in &found {
                self.learn_scanned(number, found);
            }
            self.packs.insert(number, pack);
            self.publish_if_full(home, own)?;
            // Should all have been forgotten on the way, the pack is begun anew.
            let Some(now) = self.packs.get(&number) else { break };
            pack = *now;
            if is_done {
                break;
            }
        }
        Ok(())
    }

    /// What is to be written to the index on disk, if there is enough of it.
    pub(super) fn begin_publish(&mut self, home: &Home) -> Option<Pending> {
        let len = self.index.table_len();
        if !self.may_publish || len < home.tuning.table_max.max(self.next_try) {
            return None;
        }
        let packs = &self.packs;
        let is_covered =
            |at: &Location| packs.get(&at.pack).is_some_and(|pack| u64::from(at.start) < pack.idx_end);
        let entries = self.index.settled(is_covered);
        if entries.len() < home.tuning.table_max / 2 {
            self.next_try = len * 2;
            return None;
        }
        let covered = packs
            .iter()
            .map(|(number, pack)| (*number, Covered { idx_end: pack.idx_end, idx_len: pack.idx_len }));
        let covered = covered.filter(|(_, covered)| covered.idx_len > 0).collect();
        let base = self.index.runs.list.clone();
        let addition = Addition { entries, covered, base, starts_anew: self.is_distrusted };
        Some(Pending { addition, resets: self.resets })
    }

    /// Notes how that ended. An index that cannot be written costs memory and time, and no object; but after a
    /// sync that failed nothing is written any more, as the error says to the caller.
    pub(super) fn end_publish(
        &mut self,
        home: &Home,
        own: Option<u32>,
        pending: &Pending,
        published: Result<Published>,
    ) -> Result<()> {
        self.next_try = 0;
        if !matches!(published, Ok(Published::Done { .. })) {
            self.next_try = self.index.table_len() * 2;
        }
        match published? {
            Published::NotNow => Ok(()),
            Published::Damaged => self.distrust(home, own),
            // What this thread began with is not what another one reads by now.
            Published::Done { .. } if pending.resets != self.resets => Ok(()),
            Published::Done { runs, is_ours } => {
                let is_anew = std::mem::take(&mut self.is_distrusted);
                if is_ours || is_anew {
                    self.index.install(runs, &pending.addition.entries);
                    return Ok(());
                }
                // Another process wrote the list before; its view of the packs is not ours.
                self.forget(own);
                self.refresh(home, own)
            }
        }
    }

    /// Moves the table to the disk while a store is read for the first time.
    fn publish_if_full(&mut self, home: &Home, own: Option<u32>) -> Result<()> {
        let Some(pending) = self.begin_publish(home) else { return Ok(()) };
        let published = pending.publish(home);
        // Reading needs no writing.
        let published = published.or(Ok(Published::NotNow));
        self.end_publish(home, own, &pending, published)
    }

    fn learn_scanned(&mut self, number: u32, found: &Found) {
        if found.got.is_some() {
            self.index.mark_bad((number, found.entry.start));
        }
        self.index.insert(number, &found.entry, Standing::Unsure);
    }

    /// The open file of a pack, or `None` if a collector removed it.
    pub(super) fn file(&mut self, home: &Home, number: u32) -> Result<Option<Arc<dyn StorageFile>>> {
        if let Some(file) = self.files.get(&number) {
            return Ok(Some(Arc::clone(file)));
        }
        let Some(file) = home.try_open(&home.pack(number), OpenMode::Read)? else { return Ok(None) };
        let file: Arc<dyn StorageFile> = Arc::from(file);
        if self.files.len() >= STORE_OPEN_PACKS_MAX {
            self.files.pop_first();
        }
        self.files.insert(number, Arc::clone(&file));
        Ok(Some(file))
    }
}

/// How much of a pack is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// Some so many entries of the index file, and if these are all, the rest too.
    Entries(usize),
}

/// Takes the entries of an index as they are read. A big index is never in memory as such: on a
/// virtual machine each fresh page costs microseconds, which was half the time of loading it.
trait Sink {
    fn learn(&mut self, entry: IndexEntry);
}

impl Sink for Vec<IndexEntry> {
    fn learn(&mut self, entry: IndexEntry) {
        self.push(entry);
    }
}

struct IntoIndex<'a> {
    index: &'a mut Index,
    pack: u32,
}

impl Sink for IntoIndex<'_> {
    fn learn(&mut self, entry: IndexEntry) {
        self.index.insert(self.pack, &entry, Standing::Durable);
    }
}

/// A pack of which `covered` is in the index on disk. That is believed if the pack's own index file still ends
/// there with an entry that ends where it should; else the pack is read from its start.
fn first_look(home: &Home, number: u32, covered: Covered) -> Result<Pack> {
    let fresh = Pack::default();
    let (Some(at), path) = (covered.idx_len.checked_sub(ENTRY_LEN as u64), home.idx(number)) else {
        return Ok(fresh);
    };
    let Some(file) = home.try_open(&path, OpenMode::Read)? else { return Ok(fresh) };
    let mut last = [0; ENTRY_LEN];
    home.named("read", &path, file.read_at(&mut last, at))?;
    let is_same = IndexEntry::decode(number, &last).is_some_and(|entry| entry.end() == covered.idx_end);
    Ok(if is_same { Pack { idx_len: covered.idx_len, idx_end: covered.idx_end, ..fresh } } else { fresh })
}

/// Whether a pack's own index file still has all that the index on disk has of it.
fn is_as_covered(home: &Home, number: u32, covered: Covered) -> Result<bool> {
    let has_entries = covered.idx_end > FILE_HEAD_LEN as u64;
    Ok(!has_entries || first_look(home, number, covered)?.idx_len == covered.idx_len)
}

/// All that one pack holds.
pub(super) struct View {
    pub(super) pack: Pack,
    /// From its index.
    pub(super) indexed: Vec<IndexEntry>,
    /// From the pack itself, where the index ends.
    pub(super) scanned: Vec<Found>,
}

impl View {
    /// Reads a pack's index and then its tail.
    pub(super) fn read(home: &Home, number: u32, file: &dyn StorageFile) -> Result<Self> {
        let (mut pack, mut indexed) = (Pack::default(), Vec::new());
        let (scanned, _) = look(home, number, file, &mut pack, &mut indexed, Part::All)?;
        Ok(Self { pack, indexed, scanned })
    }

    /// [`Self::read`]; of a pack that cannot be read from where its index ends only what the index says, and why.
    pub(super) fn read_most(
        home: &Home,
        number: u32,
        file: &dyn StorageFile,
    ) -> Result<(Self, Option<HostAbort>)> {
        match Self::read(home, number, file) {
            Err(Error::Abort(why)) => {
                let len = home.named("read", &home.pack(number), file.len())?;
                let (mut pack, mut indexed) = (Pack { len, ..Pack::default() }, Vec::new());
                read_idx(home, number, &mut pack, &mut indexed, usize::MAX)?;
                Ok((Self { pack, indexed, scanned: Vec::new() }, Some(why)))
            }
            read => Ok((read?, None)),
        }
    }
}

/// Reads what was added to a pack's index and then to its tail since `pack` was last seen. `false` if
/// there is more of it than was to be looked at.
fn look(
    home: &Home,
    number: u32,
    file: &dyn StorageFile,
    pack: &mut Pack,
    sink: &mut dyn Sink,
    part: Part,
) -> Result<(Vec<Found>, bool)> {
    let path = home.pack(number);
    pack.len = home.named("read", &path, file.len())?.min(u32::MAX.into());
    if pack.version.is_none() {
        pack.version = read_version(home, number, file)?;
    }
    let entries_max = if let Part::Entries(max) = part { max } else { usize::MAX };
    if !read_idx(home, number, pack, sink, entries_max)? {
        return Ok((Vec::new(), false));
    }
    let from = pack.idx_end.max(pack.seen_end);
    if pack.len <= from {
        return Ok((Vec::new(), true));
    }
    let scan = home.named("read", &path, scan(file, number, from, pack.idx_end, pack.len))?;
    pack.seen_end = scan.end;
    Ok((scan.found, true))
}

/// What version the pack's header says, or `None` if it is not whole. A header of another version than those
/// known is an error: that pack was written by rules this program does not know.
fn read_version(home: &Home, number: u32, file: &dyn StorageFile) -> Result<Option<u8>> {
    let path = home.pack(number);
    let mut head = [0; FILE_HEAD_LEN];
    home.named("read", &path, file.read_at(&mut head, 0))?;
    match format::decode_head(Kind::Pack, number, &head) {
        Head::Good(version) => Ok(Some(version)),
        Head::Bad => Ok(None),
        Head::OtherVersion(version) => Err(Corrupt::new(
            "pack version",
            format!("`{}`", home.show(&path)),
            format::VERSION,
            format!("{version}; a newer program wrote it"),
        )
        .into()),
    }
}

/// Reads the entries that were added to the index since it was last read, or some `max` of them: then it
/// is `false`.
fn read_idx(home: &Home, number: u32, pack: &mut Pack, sink: &mut dyn Sink, max: usize) -> Result<bool> {
    pack.idx_end = pack.idx_end.max(FILE_HEAD_LEN as u64);
    let path = home.idx(number);
    let Some(file) = home.try_open(&path, OpenMode::Read)? else { return Ok(true) };
    let len = home.named("read", &path, file.len())?.min(idx_len_max(pack.len));
    if len <= pack.idx_len {
        return Ok(true);
    }
    let stop = pack.idx_len.saturating_add((max as u64).saturating_mul(ENTRY_LEN as u64));
    let mut chunk = vec![0; ENTRIES_AT_ONCE * ENTRY_LEN];
    if pack.idx_len == 0 {
        let read = home.named("read", &path, file.read_at(&mut chunk, 0))?;
        let head = format::decode_head(Kind::Index, number, chunk.get(..read).unwrap_or_default());
        if !matches!(head, Head::Good(_)) {
            return Ok(true);
        }
        pack.idx_len = FILE_HEAD_LEN as u64;
    }
    while pack.idx_len < len {
        let read = home.named("read", &path, file.read_at(&mut chunk, pack.idx_len))?;
        let part = chunk.get(..read).unwrap_or_default();
        let learn = |entry| sink.learn(entry);
        let (good, end) = format::parse_each(part, number, pack.idx_end, pack.len, learn);
        pack.idx_len += good;
        pack.idx_end = end;
        if good < chunk.len() as u64 {
            break;
        }
        if pack.idx_len >= stop {
            return Ok(false);
        }
    }
    Ok(true)
}

/// No honest index of a pack is longer, so a dishonest one cannot take all memory.
fn idx_len_max(pack_len: u64) -> u64 {
    FILE_HEAD_LEN as u64 + (pack_len / RECORD_HEAD_LEN as u64 + 1) * ENTRY_LEN as u64
}

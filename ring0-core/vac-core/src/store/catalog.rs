//! What this process knows of the packs on disk, and how it learns more.
//!
//! Packs are read when first asked for, and looked at again when something is missed, so an
//! object that another process committed later is found. Invariants: what comes from an index
//! file is [`Standing::Durable`], because entries are appended after the pack was synced; what
//! comes from scanning a tail is [`Standing::Unsure`]; the pack this store writes to is left out
//! here, because its writer knows more than the disk does.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fault::{Corrupt, Result};
use crate::limits::STORE_OPEN_PACKS_MAX;
use crate::storage::{OpenMode, StorageFile};

use super::format::{self, ENTRY_LEN, FILE_HEAD_LEN, Head, IndexEntry, Kind, RECORD_HEAD_LEN};
use super::home::Home;
use super::index::{Index, Standing};
use super::scan::{Found, scan};

const ENTRIES_AT_ONCE: usize = 2048;

/// One pack on disk, as last seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pack {
    /// Its length in bytes.
    pub(super) len: u64,
    /// Whether its first bytes are whole.
    pub(super) has_head: bool,
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
}

impl Catalog {
    /// Reads the packs unless that was done. `own` is the pack this store writes to.
    pub(super) fn load(&mut self, home: &Home, own: Option<u32>) -> Result<()> {
        if self.is_loaded { Ok(()) } else { self.refresh(home, own) }
    }

    /// Learns what others wrote since the last look.
    pub(super) fn refresh(&mut self, home: &Home, own: Option<u32>) -> Result<()> {
        let numbers = home.pack_numbers(".pack")?;
        let is_gone = |number: &u32| Some(*number) != own && numbers.binary_search(number).is_err();
        if self.packs.keys().any(is_gone) {
            self.forget(own);
        }
        for number in numbers {
            let is_sealed = self.packs.get(&number).is_some_and(|pack| pack.is_sealed(home));
            if Some(number) != own && !is_sealed {
                self.refresh_pack(home, number)?;
            }
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Forgets everything but the pack this store writes to, for a collector may have moved it.
    pub(super) fn forget(&mut self, own: Option<u32>) {
        self.index.forget_all_but(own);
        self.packs.retain(|number, _| Some(*number) == own);
        self.files.retain(|number, _| Some(*number) == own);
        self.is_loaded = false;
    }

    /// Looks at one pack.
    pub(super) fn refresh_pack(&mut self, home: &Home, number: u32) -> Result<()> {
        let Some(file) = self.file(home, number)? else { return Ok(()) };
        let mut pack = self.packs.get(&number).copied().unwrap_or_default();
        let mut sink = IntoIndex { index: &mut self.index, pack: number };
        for found in &look(home, number, &*file, &mut pack, &mut sink)? {
            self.learn_scanned(number, found);
        }
        self.packs.insert(number, pack);
        Ok(())
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

/// Takes the entries of an index as they are read. A big index is never in memory as such: on a
/// virtual machine each fresh page costs microseconds, which was half the time of loading it.
trait Sink {
    fn expect(&mut self, more: usize);
    fn learn(&mut self, entry: IndexEntry);
}

impl Sink for Vec<IndexEntry> {
    fn expect(&mut self, more: usize) {
        self.reserve(more);
    }

    fn learn(&mut self, entry: IndexEntry) {
        self.push(entry);
    }
}

struct IntoIndex<'a> {
    index: &'a mut Index,
    pack: u32,
}

impl Sink for IntoIndex<'_> {
    fn expect(&mut self, more: usize) {
        self.index.reserve(more);
    }

    fn learn(&mut self, entry: IndexEntry) {
        self.index.insert(self.pack, &entry, Standing::Durable);
    }
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
        let scanned = look(home, number, file, &mut pack, &mut indexed)?;
        Ok(Self { pack, indexed, scanned })
    }
}

/// Reads what was added to a pack's index and then to its tail since `pack` was last seen.
fn look(
    home: &Home,
    number: u32,
    file: &dyn StorageFile,
    pack: &mut Pack,
    sink: &mut dyn Sink,
) -> Result<Vec<Found>> {
    let path = home.pack(number);
    pack.len = home.named("read", &path, file.len())?.min(u32::MAX.into());
    if !pack.has_head {
        pack.has_head = check_head(home, number, file)?;
    }
    read_idx(home, number, pack, sink)?;
    let from = pack.idx_end.max(pack.seen_end);
    if pack.len <= from {
        return Ok(Vec::new());
    }
    let scan = home.named("read", &path, scan(file, number, from, pack.idx_end, pack.len))?;
    pack.seen_end = scan.end;
    Ok(scan.found)
}

/// Whether the pack's header is whole. A header of another version is an error: that pack was
/// written by rules this program does not know.
fn check_head(home: &Home, number: u32, file: &dyn StorageFile) -> Result<bool> {
    let path = home.pack(number);
    let mut head = [0; FILE_HEAD_LEN];
    home.named("read", &path, file.read_at(&mut head, 0))?;
    match format::decode_head(Kind::Pack, number, &head) {
        Head::Good => Ok(true),
        Head::Bad => Ok(false),
        Head::OtherVersion(version) => Err(Corrupt::new(
            "pack version",
            format!("`{}`", home.show(&path)),
            format::VERSION,
            format!("{version}; a newer program wrote it"),
        )
        .into()),
    }
}

/// Reads the entries that were added to the index since it was last read.
fn read_idx(home: &Home, number: u32, pack: &mut Pack, sink: &mut dyn Sink) -> Result<()> {
    pack.idx_end = pack.idx_end.max(FILE_HEAD_LEN as u64);
    let path = home.idx(number);
    let Some(file) = home.try_open(&path, OpenMode::Read)? else { return Ok(()) };
    let len = home.named("read", &path, file.len())?.min(idx_len_max(pack.len));
    if len <= pack.idx_len {
        return Ok(());
    }
    sink.expect((len - pack.idx_len) as usize / ENTRY_LEN);
    let mut chunk = vec![0; ENTRIES_AT_ONCE * ENTRY_LEN];
    if pack.idx_len == 0 {
        let read = home.named("read", &path, file.read_at(&mut chunk, 0))?;
        if format::decode_head(Kind::Index, number, chunk.get(..read).unwrap_or_default()) != Head::Good {
            return Ok(());
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
    }
    Ok(())
}

/// No honest index of a pack is longer, so a dishonest one cannot take all memory.
fn idx_len_max(pack_len: u64) -> u64 {
    FILE_HEAD_LEN as u64 + (pack_len / RECORD_HEAD_LEN as u64 + 1) * ENTRY_LEN as u64
}

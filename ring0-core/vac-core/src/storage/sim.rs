//! A disk in memory that fails the way disks fail, all from one seed. For tests.
//!
//! What it models:
//! - Unsynced writes stay in a list per file. [`SimStorage::crash`] keeps, loses or tears each on
//!   its own: at any byte, or by 512-byte sectors, so later bytes may survive without earlier ones.
//! - Unsynced names (create, rename, remove) are kept or lost each on its own.
//! - A failed sync drops the unsynced writes for good, and the next sync succeeds, as on Linux;
//!   what reads then return is either the lost bytes or the old ones.
//! - A sync may lie: it says that it worked, and what it was for stays unsynced, or is lost for good.
//! - A write may go to sectors of another file, which then has them instead of its own.
//! - Bytes that a test chose cannot be read.
//! - A full disk writes a part and fails. Locks end at a crash, and so does every open file.
//!
//! Not modelled: rot, which a test makes with [`SimStorage::flip_bit`].

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod files;

const SECTOR_BYTES: u64 = 512;

/// A simulated disk. A clone is the same disk.
#[derive(Clone)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    random: Random,
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    dirs: BTreeSet<String>,
    locks: BTreeMap<String, Held>,
    faults: Faults,
    next_node: u64,
    /// Counts crashes, so that files and locks from before one are dead.
    life: u64,
    ops: u64,
    syncs: u64,
    writes: u64,
}

#[derive(Default)]
struct Node {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Bytes that cannot be read.
    unreadable: Option<Range<u64>>,
}

enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// One change of names: `from` loses its node, `to` gets it.
struct NameChange {
    node: u64,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Default)]
struct Held {
    shared: u32,
    exclusive: bool,
}

#[derive(Default)]
struct Faults {
    fail_op: Option<u64>,
    halt_at: Option<u64>,
    fail_sync: Option<u64>,
    /// One sync in so many lies; none if 0.
    lies: u64,
    misdirect: Option<u64>,
    capacity: Option<u64>,
    read_only: bool,
}

/// What comes of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Done,
    Failed,
    /// It says that it is done.
    Lied,
}

/// splitmix64 (Steele, Lea, Flood 2014): small, seeded, and good enough to choose faults.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

impl SimStorage {
    /// An empty disk whose crashes are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            random: Random::new(seed),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            dirs: BTreeSet::from([String::new()]),
            locks: BTreeMap::new(),
            faults: Faults::default(),
            next_node: 0,
            life: 0,
            ops: 0,
            syncs: 0,
            writes: 0,
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Cuts the power: what was not synced is kept, lost or torn; all faults end, but not
    /// [`SimStorage::set_read_only`] and [`SimStorage::set_capacity`].
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// How many operations were asked for so far.
    pub fn op_count(&self) -> u64 {
        self.disk().ops
    }

    /// The `n`-th operation from now fails with an I/O error; 0 is the next one.
    pub fn fail_op(&self, n: u64) {
        let mut disk = self.disk();
        disk.faults.fail_op = Some(disk.ops + n);
    }

    /// From the `n`-th operation on, every operation fails until [`SimStorage::crash`].
    pub fn halt_at(&self, n: u64) {
        let mut disk = self.disk();
        disk.faults.halt_at = Some(disk.ops + n);
    }

    /// The `n`-th sync of a file or folder from now fails; 0 is the next one.
    pub fn fail_sync(&self, n: u64) {
        let mut disk = self.disk();
        disk.faults.fail_sync = Some(disk.syncs + n);
    }

    /// One sync in `one_in` says from now on that it worked and makes nothing durable; none if 0.
    pub fn lie_about_syncs(&self, one_in: u64) {
        self.disk().faults.lies = one_in;
    }

    /// The `n`-th write from now goes to another file; 0 is the next one. Until a crash, who reads where it should be
    /// finds it there.
    pub fn misdirect_write(&self, n: u64) {
        let mut disk = self.disk();
        disk.faults.misdirect = Some(disk.writes + n);
    }

    /// Ends what `fail_op`, `halt_at`, `fail_sync`, `lie_about_syncs` and `misdirect_write` set up.
    pub fn clear_faults(&self) {
        let faults = &mut self.disk().faults;
        *faults = Faults { read_only: faults.read_only, capacity: faults.capacity, ..Faults::default() };
    }

    /// The disk holds at most this many bytes in all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().faults.capacity = bytes;
    }

    /// Bytes in all files together.
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Refuses every change from now on, or allows it again.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk().faults.read_only = read_only;
    }

    /// Flips one bit on the platter. `false` if there is no such byte.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> bool {
        self.change(path, |bytes| {
            let found = bytes.get_mut(offset as usize);
            found.map(|byte| *byte ^= 1 << (bit & 7)).is_some()
        })
    }

    /// From now on reading any of these bytes fails, until the file is replaced. `false` if there is no such file.
    pub fn make_unreadable(&self, path: &str, bytes: Range<u64>) -> bool {
        let mut disk = self.disk();
        let Some(&node) = disk.names.get(path) else { return false };
        let found = disk.nodes.get_mut(&node);
        found.map(|node| node.unreadable = Some(bytes)).is_some()
    }

    /// Cuts a file on the platter. `false` if there is no such file.
    pub fn truncate(&self, path: &str, len: u64) -> bool {
        self.change(path, |bytes| {
            bytes.truncate(len as usize);
            true
        })
    }

    /// The bytes a reader of `path` would see.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        let node = disk.names.get(path)?;
        disk.nodes.get(node).map(|node| node.seen.clone())
    }

    /// Puts `bytes` on the platter under `path`, past all faults.
    pub fn plant(&self, path: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let node = disk.new_node();
        disk.nodes.insert(node, Node { seen: bytes.to_vec(), durable: bytes.to_vec(), ..Node::default() });
        disk.names.insert(path.to_owned(), node);
        disk.durable_names.insert(path.to_owned(), node);
    }

    /// Every file, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    fn change(&self, path: &str, mut change: impl FnMut(&mut Vec<u8>) -> bool) -> bool {
        let mut disk = self.disk();
        let Some(&node) = disk.names.get(path) else { return false };
        let Some(node) = disk.nodes.get_mut(&node) else { return false };
        change(&mut node.durable);
        change(&mut node.seen)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Counts an operation, and fails it if its time has come.
    fn op(&mut self) -> io::Result<()> {
        let now = self.ops;
        self.ops += 1;
        let halted = self.faults.halt_at.is_some_and(|at| now >= at);
        if halted || self.faults.fail_op == Some(now) {
            return Err(eio());
        }
        Ok(())
    }

    fn op_changing(&mut self) -> io::Result<()> {
        self.op()?;
        if self.faults.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    fn op_sync(&mut self) -> io::Result<Sync> {
        self.op()?;
        let now = self.syncs;
        self.syncs += 1;
        if self.faults.fail_sync == Some(now) {
            return Ok(Sync::Failed);
        }
        let lies = self.faults.lies;
        Ok(if lies > 0 && self.random.below(lies) == 0 { Sync::Lied } else { Sync::Done })
    }

    /// Counts a write. `true` if it is to go to another file.
    fn is_misdirected(&mut self) -> bool {
        let now = self.writes;
        self.writes += 1;
        self.faults.misdirect == Some(now)
    }

    /// Puts the sectors that a write to `node` touched on another file's, and not on its own, which grows all the same.
    fn misdirect(&mut self, node: u64, touched: Range<u64>) {
        let Some(own) = self.nodes.get_mut(&node) else { return };
        let len = own.seen.len() as u64;
        let start = touched.start - touched.start % SECTOR_BYTES;
        let end = touched.end.next_multiple_of(SECTOR_BYTES).min(len);
        let sectors = own.seen.get(start as usize..end as usize).unwrap_or_default().to_vec();
        own.unsynced.push(Change::SetLen(len));
        let others = self.names.values().copied().filter(|other| *other != node);
        let others: Vec<u64> =
            others.filter(|id| self.nodes.get(id).is_some_and(|node| !node.durable.is_empty())).collect();
        let nth = self.random.below(others.len() as u64) as usize;
        let Some(other) = others.get(nth).and_then(|id| self.nodes.get_mut(id)) else { return };
        let place = self.random.below((other.durable.len() as u64).div_ceil(SECTOR_BYTES)) * SECTOR_BYTES;
        overwrite_within(&mut other.durable, place, &sectors);
        // Else it is in the system's cache as it was.
        if self.random.coin() {
            overwrite_within(&mut other.seen, place, &sectors);
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|id| self.nodes.get(id));
        named.map(|node| node.seen.len() as u64).sum()
    }

    fn new_node(&mut self) -> u64 {
        self.next_node += 1;
        self.nodes.insert(self.next_node, Node::default());
        self.next_node
    }

    fn node(&mut self, id: u64, life: u64) -> io::Result<&mut Node> {
        if life != self.life {
            return Err(eio());
        }
        self.nodes.get_mut(&id).ok_or_else(eio)
    }

    fn create(&mut self, path: &str) -> io::Result<u64> {
        if !self.dirs.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let node = self.new_node();
        self.names.insert(path.to_owned(), node);
        self.unsynced_names.push(NameChange { node, from: None, to: Some(path.to_owned()) });
        Ok(node)
    }

    fn find(&self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Takes the changes of names in a folder that are not synced. A rename is durable with its new name's folder.
    fn take_names(&mut self, dir: &str) -> Vec<NameChange> {
        let is_here = |change: &NameChange| {
            let name = change.to.as_ref().or(change.from.as_ref());
            name.is_some_and(|name| parent(name) == dir)
        };
        let (here, others) = std::mem::take(&mut self.unsynced_names).into_iter().partition(is_here);
        self.unsynced_names = others;
        here
    }

    fn crash(&mut self) {
        for change in std::mem::take(&mut self.unsynced_names) {
            if self.random.coin() {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        for node in self.nodes.values_mut() {
            for change in std::mem::take(&mut node.unsynced) {
                change.apply_after_crash(&mut node.durable, &mut self.random);
            }
            node.seen.clone_from(&node.durable);
        }
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.nodes.retain(|id, _| named.contains(id));
        self.locks.clear();
        self.life += 1;
        self.faults =
            Faults { read_only: self.faults.read_only, capacity: self.faults.capacity, ..Faults::default() };
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(from) = self.from.as_ref().filter(|from| names.get(*from) == Some(&self.node)) {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.node);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => overwrite(bytes, *offset, written),
            Self::SetLen(len) => bytes.resize(*len as usize, 0),
        }
    }

    fn apply_after_crash(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        match (random.below(4), self) {
            (0, _) => {}
            (1, _) => self.apply(bytes),
            (2, Self::Write { offset, bytes: written }) => {
                let kept = random.below(written.len() as u64 + 1) as usize;
                overwrite(bytes, *offset, written.get(..kept).unwrap_or(written));
            }
            (_, Self::Write { offset, bytes: written }) => some_sectors(bytes, *offset, written, random),
            (_, Self::SetLen(_)) => {}
        }
    }
}

impl Change {
    /// What a full disk leaves of this change: all but the last `over` bytes.
    fn cut(self, over: u64) -> Self {
        match self {
            Self::Write { offset, mut bytes } => {
                bytes.truncate(bytes.len().saturating_sub(over as usize));
                Self::Write { offset, bytes }
            }
            Self::SetLen(len) => Self::SetLen(len.saturating_sub(over)),
        }
    }
}

/// Writes each sector of `written` or leaves it out.
fn some_sectors(bytes: &mut Vec<u8>, offset: u64, written: &[u8], random: &mut Random) {
    let mut at = offset;
    let mut rest = written;
    while !rest.is_empty() {
        let in_sector = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len() as u64);
        let (now, later) = rest.split_at(in_sector as usize);
        if random.coin() {
            overwrite(bytes, at, now);
        }
        at += in_sector;
        rest = later;
    }
}

fn overwrite(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + written.len());
    if written.is_empty() {
        return;
    }
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(start..end) {
        place.copy_from_slice(written);
    }
}

/// [`overwrite`], as far as there are bytes.
fn overwrite_within(bytes: &mut [u8], offset: u64, written: &[u8]) {
    let place = bytes.get_mut(offset as usize..).unwrap_or_default();
    place.iter_mut().zip(written).for_each(|(to, from)| *to = *from);
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

#[cfg(test)]
mod tests;

//! Memories that are open in runs: what a collection must keep, and what their pagers do, for who watches.
//!
//! ```text
//! HOME/memory/live/ROOT.PID.N     one memory that is open in a run, as it was then; locked as long as it is
//!
//! payload length: u32 LE | first 8 bytes of its BLAKE3 | payload
//! payload = ["vac memory live", 1, name, run, [[counter, value], ...]]      canonical form
//! ```
//!
//! It is there before the memory is read. What is in it is written now and then, in place and without waiting for the
//! disk, by who drives the pager; a reader that finds half of a new one looks again. Nothing reads that but who watches,
//! and a run goes on if it cannot be written.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use vac_core::canon::{self, Decode, Encode, Reader, Writer};
use vac_core::cid::{CID_LEN, Cid, Codec};
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, quote};
use vac_core::memory::{Stats, TierStats, Used};
use vac_core::storage::{Lock, LockMode, OpenMode, Storage, StorageFile, read_file};

use crate::home::Home;
use crate::memory::LOCKS;
use crate::verify::with_all_below;

const WHAT: &str = "vac memory live";
const FORMAT: u64 = 1;
const HEAD_BYTES: usize = 12;
/// The longest file.
const MAX_BYTES: u64 = 4096;
/// Memories of one process that are open under one name.
const NUMBERS_MAX: u32 = 1000;
/// How often one is read again that changes meanwhile.
const TRIES: usize = 5;

/// Before the name of a tier below the store, in the name of the counter of what was found there.
const FOUND_IN: &str = "found in ";
/// Tiers that are told apart.
const TIERS_MAX: usize = 8;
/// Pages whose places are looked up, so that nobody waits for it.
const PLACES_MAX: usize = 1 << 20;

fn folder() -> String {
    format!("{LOCKS}/live")
}

/// What the pager of one memory did so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The name of the memory, or its root.
    pub name: String,
    /// The run that it is open in.
    pub run: String,
    /// What it was when it was opened.
    pub root: Option<Cid>,
    /// Counters by name.
    pub counters: Vec<(String, u64)>,
}

impl Watched {
    /// The counter of this name, if its process knows it.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The tiers below the store, with what was found in each.
    pub fn tiers(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counters.iter().filter_map(|(name, found)| Some((name.strip_prefix(FOUND_IN)?, *found)))
    }

    /// The pages that the memory had when it was opened, each once: how many there are, and how many of them the store
    /// has. What has no node in the store is not counted. `None` if there are too many to look up.
    pub fn places(&self, home: &Home) -> Result<Option<(u64, u64)>> {
        let Some(root) = self.root else { return Ok(None) };
        let left = Cell::new(PLACES_MAX);
        let get = |cid: &Cid| {
            let bytes = home.store().get(cid)?;
            left.set(left.get().saturating_sub(bytes.as_ref().map_or(0, |bytes| bytes.len() / CID_LEN)));
            Ok(bytes.filter(|_| left.get() > 0))
        };
        let all = with_all_below(&get, BTreeSet::from([root]), &mut |_, why| match why {
            // A tier below may mend it.
            None | Some(Error::Corrupt(_)) => Ok(()),
            Some(why) => Err(why),
        })?;
        if left.get() == 0 {
            return Ok(None);
        }
        let pages = || all.iter().filter(|cid| cid.codec() == Codec::Raw);
        let here = pages().filter(|cid| matches!(home.store().contains(cid), Ok(true))).count();
        Ok(Some((pages().count() as u64, here as u64)))
    }
}

/// What is said of a pager.
pub(crate) struct Seen<'a> {
    /// What it counted itself.
    pub(crate) stats: &'a Stats,
    /// What the run uses.
    pub(crate) used: &'a Used,
    /// Bytes of a page.
    pub(crate) page_len: usize,
    /// Pages that it read again.
    pub(crate) again: u64,
    /// Pages that it wrote.
    pub(crate) written: u64,
    /// What happened in the tiers under it, the store first; none if there are none below the store.
    pub(crate) tiers: &'a [TierStats],
}

/// The counters of a pager, by name. Whoever shows them asks by name: another counter is one more line here.
fn counters(seen: &Seen<'_>) -> Vec<(String, u64)> {
    let Seen { stats, used, page_len, again, written, tiers } = seen;
    let of_tiers = |count: fn(&TierStats) -> u64| tiers.iter().skip(1).map(count).sum();
    let all = [
        ("again", *again),
        ("ahead", stats.ahead),
        ("ahead_used", stats.ahead_used),
        ("ahead_wasted", stats.ahead_wasted),
        ("below_failed", of_tiers(|tier| tier.failed + tier.corrupt)),
        ("below_found", of_tiers(|tier| tier.found)),
        ("dirty", used.dirty),
        ("evictions", stats.evictions),
        ("hits", stats.hits),
        ("mapped", used.mapped),
        ("mended", tiers.first().map_or(0, |store| store.repaired)),
        ("misses", stats.misses),
        ("node_reads", stats.node_reads),
        ("page_bytes", *page_len as u64),
        ("page_reads", stats.page_reads),
        ("page_writes", *written),
        ("pinned", stats.pinned),
        ("resident", stats.resident),
        ("write_backs", stats.write_backs),
    ];
    let of_each =
        tiers.iter().skip(1).take(TIERS_MAX).map(|tier| (format!("{FOUND_IN}{}", tier.name), tier.found));
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(of_each).collect()
}

impl Encode for Watched {
    fn encode(&self, to: &mut Writer) {
        to.array(5);
        to.text(WHAT);
        to.uint(FORMAT);
        to.text(&self.name);
        to.text(&self.run);
        to.array(self.counters.len());
        for (name, value) in &self.counters {
            to.array(2);
            to.text(name);
            to.uint(*value);
        }
    }
}

impl Decode for Watched {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(5)?;
        let what = from.text()?;
        if what != WHAT {
            return Err(from.wrong(format!("`{WHAT}`"), format!("`{}`", quote(what))));
        }
        let format = from.uint()?;
        if format != FORMAT {
            return Err(from.wrong(format!("format {FORMAT}"), format));
        }
        let (name, run) = (from.text()?.to_owned(), from.text()?.to_owned());
        let len = from.array()?;
        let mut counters = Vec::new();
        for _ in 0..len {
            from.array_of(2)?;
            counters.push((from.text()?.to_owned(), from.uint()?));
        }
        Ok(Self { name, run, root: None, counters })
    }
}

fn to_bytes(watched: &Watched) -> Vec<u8> {
    let payload = canon::encode(watched);
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&blake3::hash(&payload).as_bytes()[..8]);
    bytes.extend_from_slice(&payload);
    bytes
}

/// Reads the bytes of a file. What stands behind the payload is of an older, longer one.
fn from_bytes(bytes: &[u8], place: &str) -> Result<Watched, Corrupt> {
    let whole = || {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let (len, digest) = head.split_first_chunk()?;
        let payload = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        (blake3::hash(payload).as_bytes().get(..8) == Some(digest)).then_some(payload)
    };
    let payload = whole().ok_or_else(|| {
        Corrupt::new("what a process says of a memory", place, "a payload with its digest", "other bytes")
    })?;
    canon::decode(payload, place)
}

/// A file in which a process says what one of its pagers does. It goes with it.
pub(crate) struct Published {
    /// What is open.
    pub(crate) root: Cid,
    storage: Arc<dyn Storage>,
    path: String,
    file: Box<dyn StorageFile>,
    watched: Watched,
    _lock: Box<dyn Lock>,
}

impl Published {
    /// A file for the memory `name`, which is opened at `root`.
    pub(crate) fn new(home: &Home, name: &str, root: &Cid) -> Result<Self> {
        let storage = Arc::clone(home.storage());
        let failed = |path: &str, e| HostAbort::io("create", storage.show(path), &e);
        storage.create_dir(&folder()).map_err(|e| failed(&folder(), e))?;
        for number in 0..NUMBERS_MAX {
            let path = format!("{}/{root}.{}.{number}", folder(), std::process::id());
            let lock = storage.try_lock(&path, LockMode::Exclusive).map_err(|e| failed(&path, e))?;
            let Some(lock) = lock else { continue };
            let file = match storage.open(&path, OpenMode::Write) {
                // Somebody took it for one that was left, before it was locked.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|e| failed(&path, e))?,
            };
            let watched =
                Watched { name: name.to_owned(), run: String::new(), root: None, counters: Vec::new() };
            return Ok(Self { root: *root, path, file, watched, _lock: lock, storage: Arc::clone(&storage) });
        }
        let message = format!("{NUMBERS_MAX} memories of this process are open at {root}");
        Err(HostAbort::new(AbortKind::Machine, message).into())
    }

    pub(crate) fn is_of(&mut self, run: &str) {
        run.clone_into(&mut self.watched.run);
        self.write();
    }

    pub(crate) fn say(&mut self, seen: &Seen<'_>) {
        self.watched.counters = counters(seen);
        self.write();
    }

    fn write(&self) {
        // Who watches sees the last one that could be written.
        let _ = self.file.write_at(&to_bytes(&self.watched), 0);
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = self.storage.remove(&self.path);
    }
}

/// What all processes say that have a memory of this home open, by name and run. Removes what others left that
/// were killed.
pub fn watched(home: &Home) -> Result<Vec<Watched>> {
    let mut all = Vec::new();
    for name in open(home, true)? {
        let said = read(&**home.storage(), &format!("{}/{name}", folder()))?;
        all.extend(said.map(|said| Watched { root: root_in(&name), ..said }));
    }
    all.sort_by(|a, b| (&a.name, &a.run).cmp(&(&b.name, &b.run)));
    Ok(all)
}

/// The roots of all memories that are open in runs of this home.
pub(crate) fn roots(home: &Home) -> Result<BTreeSet<Cid>> {
    let names = open(home, false)?;
    Ok(names.iter().filter_map(|name| root_in(name)).collect())
}

/// The root that is in the name of a file.
fn root_in(name: &str) -> Option<Cid> {
    name.split('.').next()?.parse().ok()
}

/// The names of the files of processes that are alive; `clean` removes the others.
fn open(home: &Home, clean: bool) -> Result<Vec<String>> {
    let storage = &**home.storage();
    let mut names = match storage.list(&folder()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|e| HostAbort::io("list", storage.show(&folder()), &e))?,
    };
    names.retain(|name| {
        let path = format!("{}/{name}", folder());
        let Ok(Some(_left)) = storage.try_lock(&path, LockMode::Exclusive) else { return true };
        if clean {
            // Under the lock: whoever makes one of this name looks again whether it is there.
            let _ = storage.remove(&path);
        }
        false
    });
    Ok(names)
}

/// What is in one file; `None` if it is gone, or nothing was said yet.
fn read(storage: &dyn Storage, path: &str) -> Result<Option<Watched>> {
    let mut last = None;
    for _ in 0..TRIES {
        match read_file(storage, path, MAX_BYTES) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(HostAbort::io("read", storage.show(path), &e).into()),
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => match from_bytes(&bytes, &storage.show(path)) {
                Ok(watched) => return Ok(Some(watched)),
                Err(corrupt) => last = Some(corrupt),
            },
        }
    }
    Err(last.map_or_else(|| Corrupt::new("file", path, "something", "nothing").into(), Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let stats = Stats { hits: 7, misses: 1 << 40, ..Stats::default() };
        Watched { name: "m".into(), run: "r".into(), root: None, counters: counters(&seen(&stats)) }
    }

    fn seen(stats: &Stats) -> Seen<'_> {
        const USED: Used = Used { mapped: 9, dirty: 4, pinned: 0, io_bytes: 0 };
        Seen { stats, used: &USED, page_len: 4096, again: 3, written: 5, tiers: &[] }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let bytes = to_bytes(&watched());
        assert_eq!(from_bytes(&bytes, "x").unwrap(), watched());
        assert_eq!(watched().counter("misses"), Some(1 << 40));
        // A shorter one over a longer one.
        assert_eq!(from_bytes(&[&bytes[..], b"rest"].concat(), "x").unwrap(), watched());
        for len in 0..bytes.len() {
            assert!(from_bytes(&bytes[..len], "x").is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(from_bytes(&bad, "x").is_err(), "{at}");
        }
    }

    #[test]
    fn a_file_is_seen_while_it_is_open_and_one_that_was_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(super::watched(&home).unwrap(), []);
        let root = Cid::of_raw(b"root");
        let mut published = Published::new(&home, "m", &root).unwrap();
        assert_eq!(super::watched(&home).unwrap(), [], "nothing was said yet");
        published.is_of("r");
        let stats = Stats { hits: 7, misses: 1 << 40, ..Stats::default() };
        published.say(&seen(&stats));
        assert_eq!(super::watched(&home).unwrap(), [Watched { root: Some(root), ..watched() }]);
        let second = Published::new(&home, "m", &root).unwrap();
        assert_ne!(second.path, published.path);
        assert_eq!(roots(&home).unwrap(), BTreeSet::from([root]));
        drop((published, second));
        assert_eq!(home.storage().list(&super::folder()).unwrap(), Vec::<String>::new());
        std::fs::write(folder.path().join(super::folder()).join(format!("{root}.1.0")), to_bytes(&watched()))
            .unwrap();
        assert_eq!(roots(&home).unwrap(), BTreeSet::new());
        assert_eq!(super::watched(&home).unwrap(), []);
        assert_eq!(home.storage().list(&super::folder()).unwrap(), Vec::<String>::new());
    }
}

//! Opening stores of many objects, with the index and without; and putting large objects, in one piece and in chunks.
//!
//! A store is open when it answered that it does not have an object, for opening alone reads nothing. Files
//! are in the page cache on all sides.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vac_core::cid::{Cid, Codec};
use vac_core::storage::RealStorage;
use vac_core::store::Store;
use vac_fuzz::mutate::Random;

use super::figure::{Figure, Goal};
use super::timing::{Side, medians, time};
use super::{Result, peers, scratch, text};

const ROUNDS: usize = 5;
/// Objects that are read of a large store.
const GETS: u64 = 10_000;
/// Twice as much must be free on the disk.
const INGEST_BYTES: u64 = 4 << 30;
/// A file of which another version differs in its middle.
const VERSION_BYTES: usize = 256 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// 10^4, 10^6 and 10^7 objects; the last take a minute or two to put.
pub(super) fn run() -> Result<Vec<Figure>> {
    Ok([open_of(10_000)?, open_of(1_000_000)?, open_of(10_000_000)?].concat())
}

fn open(folder: &Path) -> Result<Store> {
    Store::open(Arc::new(RealStorage::new(folder.to_owned())), "store").map_err(text)
}

fn open_of(objects: u64) -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let before_kib = peak_kib()?;
    let put_ns = time(|| put_tiny(folder.path(), objects))?;
    let grown_kib = peak_kib()? - before_kib;
    let with_ns = medians(ROUNDS, &mut [Box::new(|| time(|| ask(folder.path())))])?;
    let get_ns = medians(ROUNDS, &mut [Box::new(|| time(|| get_some(folder.path(), objects)))])?;
    let index = folder.path().join("store/index");
    // Few objects are in none.
    if index.exists() {
        std::fs::remove_dir_all(&index).map_err(text)?;
    }
    // Once only: it writes the index anew.
    let without_ns = time(|| ask(folder.path()))?;
    let name = |what: &str| format!("store, {what} of {objects} tiny objects");
    let with_s = with_ns.first().copied().unwrap_or(f64::NAN) / 1e9;
    let rate = objects as f64 / put_ns * 1e9;
    Ok(vec![
        Figure::new(name("open"), "s", with_s, ("without the index", without_ns / 1e9))
            .goal(Goal::AtMost(2.0)),
        Figure::new(name("put"), "/s", rate, ("", f64::NAN)),
        Figure::new(
            name("get of 10,000, verified,"),
            "/s",
            GETS as f64 / get_ns.first().unwrap_or(&f64::NAN) * 1e9,
            ("", f64::NAN),
        ),
        Figure::new(name("put, peak memory more"), "KiB", grown_kib, ("", f64::NAN))
            .note("nothing if an earlier benchmark of this process needed more"),
    ])
}

fn put_tiny(folder: &Path, objects: u64) -> Result<()> {
    let store = open(folder)?;
    (0..objects).try_for_each(|at| store.put(Codec::Raw, &at.to_le_bytes()).map(drop)).map_err(text)?;
    store.commit().map_err(text)
}

fn ask(folder: &Path) -> Result<()> {
    match open(folder)?.contains(&Cid::of_raw(b"not here")).map_err(text)? {
        true => Err("it has what was never put".to_owned()),
        false => Ok(()),
    }
}

/// Some of the objects, from all over the store.
fn get_some(folder: &Path, objects: u64) -> Result<()> {
    let (store, mut random) = (open(folder)?, Random::new(objects));
    (0..GETS).try_for_each(|_| {
        let bytes = (random.next_u64() % objects).to_le_bytes();
        match store.get(&Cid::of_raw(&bytes)).map_err(text)? {
            Some(got) if got == bytes => Ok(()),
            _ => Err("an object that was put is not here".to_owned()),
        }
    })
}

/// The most memory that this process ever had.
fn peak_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse().ok());
    number.ok_or_else(|| "no VmHWM in /proc/self/status".to_owned())
}

/// One large object from memory, against hashing it and writing a file durably.
pub(super) fn ingest() -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let mut random = Random::new(4);
    let chunk: Vec<u8> = (0..CHUNK_BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect();
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| {
            let _ = std::fs::remove_dir_all(folder.path().join("store"));
            let mut from = Repeat { chunk: &chunk, left: INGEST_BYTES };
            time(|| open(folder.path())?.put_stream(Codec::Raw, &mut from, u64::MAX).map_err(text))
        }),
        Box::new(|| {
            let path = folder.path().join("raw");
            let _ = std::fs::remove_file(&path);
            time(|| write_raw(&path, &chunk))
        }),
        // In a process of its own: its BLAKE3 is built with threads.
        Box::new(|| {
            let path = folder.path().join("b3sum");
            let said = peers::ask(&["ingest", &path.display().to_string(), &INGEST_BYTES.to_string()])?;
            std::fs::remove_file(&path).map_err(text)?;
            said.get("all")
        }),
    ];
    let ns = medians(3, &mut sides)?;
    let rate = |at: usize| ns.get(at).map_or(f64::NAN, |ns| INGEST_BYTES as f64 / ns);
    let name = format!("store, put of {} MiB", INGEST_BYTES >> 20);
    let figure = |baseline: &str, at| {
        Figure::new(name.clone(), "GB/s", rate(0), (baseline, rate(at))).goal(Goal::RatioAtLeast(0.9))
    };
    Ok(vec![figure("BLAKE3, write, fsync", 1), figure("BLAKE3 of all processors, then write, fsync", 2)])
}

/// Two versions of a file in chunks, against the same in one piece.
pub(super) fn chunked() -> Result<Vec<Figure>> {
    let versions = Versions::new()?;
    let put_ns = medians(3, &mut [versions.put_first(CHUNKED), versions.put_first(WHOLE)])?;
    let before = disk_bytes(&versions.home(CHUNKED))?;
    let second_ns = [versions.put(CHUNKED, &versions.new)?, versions.put(WHOLE, &versions.new)?];
    let more = disk_bytes(&versions.home(CHUNKED))?.saturating_sub(before);
    let get_ns = medians(3, &mut [versions.get(CHUNKED), versions.get(WHOLE)])?;
    let name = |what: &str| format!("store, {what} of {} MiB in chunks", VERSION_BYTES >> 20);
    let rate = |ns: &[f64], at: usize| ns.get(at).map_or(f64::NAN, |ns| VERSION_BYTES as f64 / ns);
    let figure =
        |what: &str, ns: &[f64]| Figure::new(name(what), "GB/s", rate(ns, 0), ("in one piece", rate(ns, 1)));
    let taken = more as f64 / versions.new.len() as f64;
    Ok(vec![
        figure("put", &put_ns),
        figure("put of the next version", &second_ns),
        figure("get", &get_ns),
        Figure::new(name("bytes that the next version takes"), "", taken, ("in one piece", 1.0)),
    ])
}

/// How an object is kept, and the folder of those that are kept so.
type Kept = (&'static str, Keep);

const CHUNKED: Kept = ("chunked", Store::put_chunked);
const WHOLE: Kept = ("whole", Store::put_stream);

/// A file, and the same with something in its middle.
struct Versions {
    folder: tempfile::TempDir,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Versions {
    fn new() -> Result<Self> {
        let mut random = Random::new(5);
        let old: Vec<u8> = (0..VERSION_BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect();
        let (head, tail) = old.split_at(VERSION_BYTES / 2);
        let new = [head, b"what is new", tail].concat();
        Ok(Self { folder: scratch()?, old, new })
    }

    fn home(&self, (name, _): Kept) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, kept: Kept, bytes: &[u8]) -> Result<f64> {
        time(|| kept.1(&open(&self.home(kept))?, Codec::Raw, &mut &bytes[..], u64::MAX).map_err(text))
    }

    fn put_first(&self, kept: Kept) -> Side<'_> {
        Box::new(move || {
            let _ = std::fs::remove_dir_all(self.home(kept));
            self.put(kept, &self.old)
        })
    }

    fn get(&self, kept: Kept) -> Side<'_> {
        let cid = Cid::of_raw(&self.old);
        Box::new(move || {
            time(|| open(&self.home(kept))?.get_stream(&cid, &mut std::io::sink()).map(drop).map_err(text))
        })
    }
}

type Keep = fn(&Store, Codec, &mut dyn std::io::Read, u64) -> vac_core::fault::Result<(Cid, u64)>;

/// Bytes of all files below a folder.
fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut all = 0;
    for entry in std::fs::read_dir(folder).map_err(text)? {
        let entry = entry.map_err(text)?;
        let meta = entry.metadata().map_err(text)?;
        all += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(all)
}

fn write_raw(path: &Path, chunk: &[u8]) -> Result<blake3::Hash> {
    let mut file = File::create_new(path).map_err(text)?;
    let mut hasher = blake3::Hasher::new();
    for _ in 0..INGEST_BYTES / chunk.len() as u64 {
        hasher.update(chunk);
        file.write_all(chunk).map_err(text)?;
    }
    file.sync_all().map_err(text)?;
    Ok(hasher.finalize())
}

/// The same bytes again and again.
struct Repeat<'a> {
    chunk: &'a [u8],
    left: u64,
}

impl std::io::Read for Repeat<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let len = to.len().min(self.chunk.len()).min(self.left as usize);
        to[..len].copy_from_slice(&self.chunk[..len]);
        self.left -= len as u64;
        Ok(len)
    }
}

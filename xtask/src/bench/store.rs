//! 10,000 small objects put durably, and got back verified.
//!
//! Every side is equally durable after every 1,000 objects; redb and fjall keep no hash of what they hold, so their side
//! hashes what it puts and what it gets. Raw files and cacache leave that to their caller:
//! here with one `syncfs`, the cheapest way there is, or for raw files with a sync of each file and folder.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::ReadableDatabase as _;
use vac_core::cid::{Cid, Codec};
use vac_core::storage::RealStorage;
use vac_core::store::Store;
use vac_fuzz::mutate::Random;

use super::figure::{Figure, Goal};
use super::store_fjall::Fjall;
use super::timing::{Side, medians, time};
use super::{Result, scratch, text};

const ROUNDS: usize = 5;
const OBJECTS: usize = 10_000;
const OBJECT_BYTES: usize = 4096;
const GROUP: usize = 1_000;
/// Objects on the side that syncs each file; the time is scaled.
const SYNCED_OBJECTS: usize = 1_000;
const NOTE: &str = "`syncfs` also waits for what other processes wrote; the store syncs its own files only";

/// Put and get, against a file that only grows, raw files, cacache, redb and fjall.
pub(super) fn run() -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let objects = objects();
    let fjall = Fjall::new(folder.path(), &objects, GROUP)?;
    let puts = puts(folder.path(), &objects, &fjall)?;
    let gets = gets(folder.path(), &objects, &fjall)?;
    let figure = |name: &str, values: &[f64], at: usize, baseline| {
        let per_second = |ns: f64| OBJECTS as f64 / ns * 1e9;
        let name = format!("store, {name} {OBJECTS} x 4 KiB");
        Figure::new(name, "/s", per_second(values[0]), (baseline, per_second(values[at])))
    };
    let faster = Goal::RatioAtLeast(1.0);
    Ok(vec![
        figure("put", &puts, 1, "raw files, syncfs").goal(faster).note(NOTE),
        figure("put", &puts, 2, "raw files, fsync each").goal(faster),
        figure("put", &puts, 3, "cacache, syncfs").goal(faster),
        figure("put", &puts, 4, "raw append, fdatasync").goal(Goal::RatioAtLeast(0.8)),
        figure("put", &puts, 5, "redb").goal(faster),
        figure("put", &puts, 6, "fjall").goal(faster),
        figure("get", &gets, 1, "raw files, BLAKE3").goal(faster),
        figure("get", &gets, 2, "cacache, SHA-256").goal(faster),
        figure("get", &gets, 3, "redb, BLAKE3").goal(faster),
        figure("get", &gets, 4, "fjall, BLAKE3").goal(faster),
    ])
}

fn objects() -> Vec<Vec<u8>> {
    let mut random = Random::new(10_000);
    let word = |random: &mut Random| random.next_u64().to_le_bytes();
    (0..OBJECTS).map(|_| (0..OBJECT_BYTES / 8).flat_map(|_| word(&mut random)).collect()).collect()
}

/// Medians in ns for all objects. What the last round put stays in the folders.
fn puts(folder: &Path, objects: &[Vec<u8>], fjall: &Fjall) -> Result<Vec<f64>> {
    let scale = (OBJECTS / SYNCED_OBJECTS) as f64;
    let mut sides: [Side<'_>; 7] = [
        Box::new(|| {
            let folder = empty(folder.join("vac"))?;
            time(|| put_store(&folder, objects))
        }),
        Box::new(|| {
            let folder = empty_with_parts(folder.join("raw"))?;
            time(|| groups(&folder, objects, |at, object| write(&raw_path(&folder, at), object).map(drop)))
        }),
        Box::new(|| {
            let folder = empty_with_parts(folder.join("raw-synced"))?;
            Ok(scale * time(|| put_synced(&folder, &objects[..SYNCED_OBJECTS]))?)
        }),
        Box::new(|| {
            let folder = empty(folder.join("cacache"))?;
            let put = |_, object: &[u8]| cacache::write_hash_sync(&folder, object).map(drop).map_err(text);
            time(|| groups(&folder, objects, put))
        }),
        Box::new(|| {
            let folder = empty(folder.join("append"))?;
            time(|| put_append(&folder, objects))
        }),
        Box::new(|| {
            let folder = empty(folder.join("redb"))?;
            time(|| put_redb(&folder, objects))
        }),
        Box::new(|| {
            let folder = empty(folder.join("fjall"))?;
            fjall.put(&folder)
        }),
    ];
    medians(ROUNDS, &mut sides)
}

/// What no store can beat: objects after each other in one file, hashed, and nothing said of where they are.
fn put_append(folder: &Path, objects: &[Vec<u8>]) -> Result<()> {
    let mut file = File::create_new(folder.join("pack")).map_err(text)?;
    for group in objects.chunks(GROUP) {
        for object in group {
            file.write_all(blake3::hash(object).as_bytes()).map_err(text)?;
            file.write_all(object).map_err(text)?;
        }
        file.sync_data().map_err(text)?;
    }
    Ok(())
}

const TABLE: redb::TableDefinition<'_, &[u8; 32], &[u8]> = redb::TableDefinition::new("objects");

fn put_redb(folder: &Path, objects: &[Vec<u8>]) -> Result<()> {
    let database = redb::Database::create(folder.join("redb")).map_err(text)?;
    for group in objects.chunks(GROUP) {
        let write = database.begin_write().map_err(text)?;
        let mut open = write.open_table(TABLE).map_err(text)?;
        for object in group {
            open.insert(blake3::hash(object).as_bytes(), object.as_slice()).map_err(text)?;
        }
        drop(open);
        write.commit().map_err(text)?;
    }
    Ok(())
}

fn put_store(folder: &Path, objects: &[Vec<u8>]) -> Result<()> {
    let store = open(folder)?;
    for group in objects.chunks(GROUP) {
        group.iter().try_for_each(|object| store.put(Codec::Raw, object).map(drop)).map_err(text)?;
        store.commit().map_err(text)?;
    }
    Ok(())
}

fn open(folder: &Path) -> Result<Store> {
    Store::open(Arc::new(RealStorage::new(folder.to_owned())), "store").map_err(text)
}

/// Puts each object, and makes every group durable with one sync of the file system.
fn groups(folder: &Path, objects: &[Vec<u8>], put: impl Fn(usize, &[u8]) -> Result<()>) -> Result<()> {
    let at = File::open(folder).map_err(text)?;
    for (n, group) in objects.chunks(GROUP).enumerate() {
        group.iter().enumerate().try_for_each(|(i, object)| put(n * GROUP + i, object))?;
        rustix::fs::syncfs(&at).map_err(text)?;
    }
    Ok(())
}

fn put_synced(folder: &Path, objects: &[Vec<u8>]) -> Result<()> {
    for (at, object) in objects.iter().enumerate() {
        write(&raw_path(folder, at), object)?.sync_all().map_err(text)?;
    }
    (0..256).try_for_each(|part| {
        let part = File::open(raw_part(folder, part)).map_err(text)?;
        part.sync_all().map_err(text)
    })
}

fn write(path: &Path, object: &[u8]) -> Result<File> {
    let mut file = File::create_new(path).map_err(text)?;
    file.write_all(object).map_err(text)?;
    Ok(file)
}

fn raw_part(folder: &Path, at: usize) -> PathBuf {
    folder.join(format!("{:02x}", at % 256))
}

fn raw_path(folder: &Path, at: usize) -> PathBuf {
    raw_part(folder, at).join(at.to_string())
}

fn empty(folder: PathBuf) -> Result<PathBuf> {
    match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(text(e)),
        _ => {}
    }
    std::fs::create_dir(&folder).map_err(text)?;
    Ok(folder)
}

/// The folders that files are spread over are there before the clock starts.
fn empty_with_parts(folder: PathBuf) -> Result<PathBuf> {
    let folder = empty(folder)?;
    (0..256).try_for_each(|part| std::fs::create_dir(raw_part(&folder, part))).map_err(text)?;
    Ok(folder)
}

/// Medians in ns for all objects in another order than they were put, from the page cache.
fn gets(folder: &Path, objects: &[Vec<u8>], fjall: &Fjall) -> Result<Vec<f64>> {
    let order = shuffled();
    let cids: Vec<Cid> = objects.iter().map(|object| Cid::of_raw(object)).collect();
    let keys: Vec<_> = objects.iter().map(|object| cacache_key(object)).collect();
    let (raw, cache) = (folder.join("raw"), folder.join("cacache"));
    let seen = RefCell::new(0);
    let count = |bytes: Vec<u8>| *seen.borrow_mut() += bytes.len();
    let each = |get: &dyn Fn(usize) -> Result<Vec<u8>>| order.iter().try_for_each(|&at| get(at).map(count));
    let mut sides: [Side<'_>; 5] = [
        Box::new(|| {
            time(|| {
                let store = open(&folder.join("vac"))?;
                each(&|at| {
                    store.get(&cids[at]).map_err(text)?.ok_or_else(|| format!("{}: not found", cids[at]))
                })
            })
        }),
        Box::new(|| time(|| each(&|at| read_verified(&raw_path(&raw, at), &cids[at])))),
        Box::new(|| time(|| each(&|at| cacache::read_hash_sync(&cache, &keys[at]).map_err(text)))),
        Box::new(|| {
            time(|| {
                let database = redb::Database::open(folder.join("redb/redb")).map_err(text)?;
                let read = database.begin_read().map_err(text)?;
                let table = read.open_table(TABLE).map_err(text)?;
                each(&|at| {
                    let found = table.get(cids[at].digest()).map_err(text)?;
                    verified(found.map(|found| found.value().to_vec()), &cids[at])
                })
            })
        }),
        Box::new(|| {
            // It checks itself that it got all of them.
            *seen.borrow_mut() += OBJECTS * OBJECT_BYTES;
            fjall.get(&folder.join("fjall"))
        }),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    drop(sides);
    assert_eq!(*seen.borrow(), 5 * (ROUNDS + 1) * OBJECTS * OBJECT_BYTES, "every side gave every object");
    Ok(medians)
}

fn read_verified(path: &Path, cid: &Cid) -> Result<Vec<u8>> {
    verified(Some(std::fs::read(path).map_err(text)?), cid)
}

fn verified(bytes: Option<Vec<u8>>, cid: &Cid) -> Result<Vec<u8>> {
    let bytes = bytes.ok_or_else(|| format!("{cid}: not found"))?;
    if blake3::hash(&bytes).as_bytes() == cid.digest() {
        Ok(bytes)
    } else {
        Err(format!("{cid}: other bytes"))
    }
}

fn cacache_key(object: &[u8]) -> cacache::Integrity {
    cacache::Integrity::from(object)
}

fn shuffled() -> Vec<usize> {
    let mut random = Random::new(1);
    let mut order: Vec<usize> = (0..OBJECTS).collect();
    (1..OBJECTS).rev().for_each(|at| order.swap(at, random.below(at + 1)));
    order
}

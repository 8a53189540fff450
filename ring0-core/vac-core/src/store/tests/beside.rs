//! What others do beside a reader or a check: no lock is held for them, and nothing good is called bad.

use std::io;

use super::stepped::Stepped;
use super::*;
use crate::storage::{Lock, LockMode, OpenMode, StorageFile};

/// A disk that asks at every sync whether something is held.
struct Syncing<F> {
    sim: SimStorage,
    at_sync: Arc<F>,
}

struct SyncingFile<F> {
    file: Box<dyn StorageFile>,
    at_sync: Arc<F>,
}

impl<F: Fn() + Send + Sync + 'static> Storage for Syncing<F> {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(SyncingFile { file: self.sim.open(path, mode)?, at_sync: Arc::clone(&self.at_sync) }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.sim.list(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.sim.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.sim.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.sim.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        (self.at_sync)();
        self.sim.sync_dir(path)
    }

    fn try_lock(&self, path: &str, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        self.sim.try_lock(path, mode)
    }

    fn show(&self, path: &str) -> String {
        self.sim.show(path)
    }
}

impl<F: Fn() + Send + Sync> StorageFile for SyncingFile<F> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.at_sync)();
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// A store without an index wrote one under the lock of its state when it was first read: all others waited for the disk.
#[test]
fn the_first_index_is_not_written_under_the_lock() {
    type First = fn(&Store);
    let firsts: [First; 4] = [
        |store| assert!(store.contains(&Cid::of_raw(&bytes_of(7, 300))).unwrap()),
        |store| assert_eq!(store.list().unwrap().len(), 40),
        |store| assert!(store.spot(&Cid::of_raw(&bytes_of(7, 300))).is_some()),
        |store| _ = put(store, &bytes_of(7, 300)),
    ];
    for first in firsts {
        let sim = SimStorage::new(0);
        let filled = open(&sim);
        (0..40).for_each(|i| _ = put(&filled, &bytes_of(i, 300)));
        filled.commit().unwrap();
        drop(filled);
        for path in sim.paths().into_iter().filter(|path| path.contains("index/")) {
            sim.remove(&path).unwrap();
        }
        let held: Arc<Mutex<Option<Arc<Mutex<State>>>>> = Arc::default();
        let syncs = Arc::new(Mutex::new((0, 0)));
        let (held_now, counts) = (Arc::clone(&held), Arc::clone(&syncs));
        let at_sync = move || {
            if let Some(state) = &*held_now.lock().unwrap() {
                counts.lock().unwrap().0 += 1;
                counts.lock().unwrap().1 += u32::from(state.try_lock().is_err());
            }
        };
        let disk = Syncing { sim: sim.clone(), at_sync: Arc::new(at_sync) };
        let store = Store::open_tuned(Arc::new(disk), "store", SMALL).unwrap();
        *held.lock().unwrap() = Some(Arc::clone(&store.state));
        first(&store);
        *held.lock().unwrap() = None;
        let (all, under_lock) = *syncs.lock().unwrap();
        assert!(all > 0 && sim.paths().iter().any(|path| path.ends_with(".run")), "an index was written");
        assert_eq!(under_lock, 0, "of {all} syncs");
    }
}

/// A process wrote objects and failed to sync them: they can be read. While a check reads them, another process takes the pack
/// over, cuts what is lost by now, and writes something else there.
#[test]
fn a_tail_that_is_cut_beside_a_check_is_not_corrupt() {
    for is_scrub in [true, false] {
        let mut ran = 0;
        for n in 0..200 {
            let sim = SimStorage::new(n);
            let dying = open(&sim);
            (0..3).for_each(|i| _ = put(&dying, &bytes_of(i, 400)));
            dying.commit().unwrap();
            // Some are in the file, but nothing says that they were synced.
            (10..16).for_each(|i| _ = put(&dying, &bytes_of(i, 400)));
            let disk = Stepped::new(&sim);
            let checking = Store::open_read_only(Arc::new(disk.clone()), "store").unwrap();
            let other = sim.clone();
            disk.before(n, move || {
                other.fail_sync(0);
                assert!(dying.commit().is_err());
                drop(dying);
                let store = open(&other);
                (20..25).for_each(|i| _ = put(&store, &bytes_of(i, 333)));
                store.commit().unwrap();
            });
            let corrupt = match is_scrub {
                true => {
                    let report = checking.scrub(u64::MAX, &|_| Ok(None)).unwrap();
                    assert_eq!(report.lost, [], "call {n}");
                    report.corrupt
                }
                false => checking.fsck().unwrap().corrupt,
            };
            assert_eq!(corrupt, [], "call {n}");
            ran += u32::from(disk.is_done());
        }
        assert!(ran > 15, "{ran} calls");
    }
}

/// Each object lies on a sector that cannot be read: it is named and mended, and the scrub goes on.
#[test]
fn what_cannot_be_read_is_named_and_mended() {
    let sim = SimStorage::new(0);
    let store = open(&sim);
    let mut objects = BTreeMap::new();
    for i in 0..12 {
        let bytes = bytes_of(i, 300 + i as usize);
        objects.insert(put(&store, &bytes), bytes);
        store.commit().unwrap();
    }
    let (large, chunked) = (bytes_of(50, 5000), bytes_of(51, 7000));
    objects.insert(put(&store, &large), large);
    let in_chunks = put_chunked(&store, &chunked);
    objects.insert(in_chunks, chunked);
    drop(store);
    let paths = sim.paths();
    let is_kept =
        |path: &&String| path.ends_with(".pack") || path.contains("large/") || path.contains("chunked/");
    for path in paths.iter().filter(is_kept) {
        let len = sim.peek(path).unwrap().len() as u64;
        for at in (0..len).step_by(512) {
            let sim = damage::copy(&sim);
            assert!(sim.make_unreadable(path, at..at + 512));
            let is_good = |cid: &Cid| matches!(open(&sim).get(cid), Ok(Some(_)));
            let bad: BTreeSet<Cid> = objects.keys().filter(|cid| !is_good(cid)).copied().collect();
            let report = open(&sim).scrub(u64::MAX, &|_| Ok(None)).unwrap();
            assert!(report.is_done && (!report.corrupt.is_empty() || bad.is_empty()), "{path} at {at}");
            if path.ends_with(".pack") && at == 0 {
                // Without its header a pack is not opened, and a scrub can only say so.
                assert!(
                    report.corrupt.iter().any(|bad| bad.to_string().contains(&format!("{path}` is corrupt")))
                );
                continue;
            }
            assert!(bad.iter().all(|cid| report.lost.contains(cid)), "{path} at {at}: {bad:?} {report:?}");
            let other = |cid: &Cid| Ok(objects.get(cid).cloned());
            let report = open(&sim).scrub(u64::MAX, &other).unwrap();
            assert!(bad.iter().all(|cid| report.mended.contains(cid)), "{path} at {at}: {bad:?} {report:?}");
            let store = open(&sim);
            bad.iter().for_each(|cid| {
                assert_eq!(store.get(cid).unwrap().as_ref(), objects.get(cid), "{path} {at}")
            });
        }
    }
}

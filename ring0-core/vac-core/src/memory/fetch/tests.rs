//! Every way to read gives the same pages, or says the same of them.

use std::fs::File;
use std::path::Path;

use super::*;
use crate::storage::{OpenMode, RealStorage, Storage, StorageFile};
use crate::store::Store;

const PAGE: usize = 4096;

fn page(n: u32) -> Vec<u8> {
    (0..PAGE as u32).map(|i| (i / 7 + n * 31) as u8).collect()
}

/// Lets the system forget what it holds of a file.
fn cool(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// What each of 60 pages is said to be; every seventh is not there, and one is rotten.
fn fetched(io: Io, direct: Direct) -> Vec<Option<Vec<u8>>> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealStorage::new(dir.path().to_owned())), "store").unwrap();
    let cids: Vec<Cid> = (0..60).map(|n| Cid::of_raw(&page(n))).collect();
    for n in (0..60).filter(|n| n % 7 != 0) {
        Tier::put(&store, &cids[n as usize], &page(n)).unwrap();
    }
    Tier::commit(&store).unwrap();
    let spot = store.spot(&cids[10]).unwrap();
    let pack = dir.path().join("store/packs/00000001.pack");
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[spot.offset as usize + 9] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    cool(&pack);
    let mut fetcher = Fetcher::new(Arc::new(store), PAGE, io, direct).unwrap();
    let want = |cid: &Cid| Want { cid: *cid, to: Buffer::new(PAGE) };
    let ids = fetcher.give(cids.iter().map(want).collect());
    // Not in the order in which they were given.
    let mut came: Vec<(usize, Came)> =
        ids.iter().enumerate().rev().map(|(n, id)| (n, fetcher.wait(*id))).collect();
    came.sort_by_key(|(n, _)| *n);
    came.into_iter().map(|(_, came)| came.found.is_ok_and(|found| found).then(|| came.to.to_vec())).collect()
}

#[test]
fn every_way_to_read_gives_the_same() {
    let expected = fetched(Io::Caller, Direct::Never);
    for (n, got) in expected.iter().enumerate() {
        let is_there = n % 7 != 0 && n != 10;
        assert_eq!(got.as_ref(), is_there.then(|| page(n as u32)).as_ref(), "{n}");
    }
    for direct in [Direct::Auto, Direct::Always] {
        assert!(fetched(Io::Caller, direct) == expected);
        assert!(fetched(Io::Threads, direct) == expected);
        assert!(fetched(Io::Auto, direct) == expected);
    }
    // Where the system has no io-uring there is nothing to compare, and it is said.
    match Io::Uring.reader(PAGE, buffers(PAGE)) {
        Ok(reader) => {
            assert_eq!(reader.name(), "io-uring");
            assert!(fetched(Io::Uring, Direct::Never) == expected);
            assert!(fetched(Io::Uring, Direct::Always) == expected);
        }
        Err(why) => eprintln!("not tested: {why}"),
    }
}

/// Around the system's cache a page of the usual size is read from as many blocks as it has.
#[test]
fn a_page_is_on_whole_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealStorage::new(dir.path().to_owned())), "store").unwrap();
    for n in 0..3 {
        let page: Vec<u8> = page(n).repeat(16);
        let cid = Cid::of_raw(&page);
        Tier::put(&store, &cid, &page).unwrap();
        Tier::commit(&store).unwrap();
        let window = Window::around(store.spot(&cid).unwrap().offset, page.len());
        assert_eq!((window.len, window.skip), (page.len(), 0));
    }
}

/// A tier that falls while it is asked takes its thread with it, and nobody waits for ever.
struct Falls;

impl Tier for Falls {
    fn read_into(&self, _: &Cid, _: &mut [u8]) -> Result<bool> {
        Ok(false)
    }

    fn get(&self, _: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        panic!("it falls, as it is meant to")
    }

    fn put(&self, _: &Cid, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_thread_that_fell_keeps_nobody_waiting() {
    let mut fetcher = Fetcher::new(Arc::new(Falls), PAGE, Io::Threads, Direct::Auto).unwrap();
    let want = || Want { cid: Cid::of_raw(b"x"), to: Buffer::new(PAGE) };
    for _ in 0..3 {
        let ids = fetcher.give(vec![want(), want()]);
        for id in ids {
            let came = fetcher.wait(id);
            assert!(matches!(came.found, Ok(false)) && came.to.len() == PAGE);
        }
    }
}

/// Pages that lie in one file, 100 bytes from where a disk would like them.
struct InFile {
    file: Arc<dyn StorageFile>,
    /// The one that the tier has elsewhere too.
    elsewhere: Option<u64>,
}

const PLACED: u64 = 20;

fn place(n: u64) -> u64 {
    100 + n * PAGE as u64
}

impl Tier for InFile {
    fn read_into(&self, cid: &Cid, _: &mut [u8]) -> Result<bool> {
        panic!("{cid} is in the file")
    }

    fn get(&self, cid: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        let elsewhere = self.elsewhere.map(|n| page(n as u32)).filter(|page| Cid::of_raw(page) == *cid);
        Ok(Some(elsewhere.unwrap_or_else(|| panic!("{cid} is in the file"))))
    }

    fn put(&self, _: &Cid, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        Ok(())
    }

    fn locate(&self, cid: &Cid) -> Option<Spot> {
        let n = (0..PLACED).find(|n| Cid::of_raw(&page(*n as u32)) == *cid)?;
        Some(Spot { file: Arc::clone(&self.file), offset: place(n), len: PAGE as u64 })
    }
}

/// A file of which one page is not read: whoever tries panics.
struct Panics(Box<dyn StorageFile>);

const BAD: u64 = 7;

impl StorageFile for Panics {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        assert_ne!(offset, place(BAD), "it panics, as it is meant to");
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
}

/// The thread that read it took its job with it, and the batch never ended: the other threads that could have handed back
/// more were there still.
#[test]
fn a_read_that_panics_loses_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealStorage::new(dir.path().to_owned()).open("f", OpenMode::CreateNew).unwrap();
    (0..PLACED).for_each(|n| file.write_at(&page(n as u32), place(n)).unwrap());
    let tier = InFile { file: Arc::new(Panics(file)), elsewhere: Some(BAD) };
    let mut fetcher = Fetcher::new(Arc::new(tier), PAGE, Io::Threads, Direct::Never).unwrap();
    // More often than there are threads: none of them is lost either.
    for _ in 0..2 * read::DEPTH {
        let wants = (0..PLACED).map(|n| Want { cid: Cid::of_raw(&page(n as u32)), to: Buffer::new(PAGE) });
        for (n, id) in fetcher.give(wants.collect()).into_iter().enumerate() {
            let came = fetcher.wait(id);
            assert!(came.found.unwrap() && *came.to == *page(n as u32), "{n}");
        }
    }
    assert_eq!(fetcher.reader(), "threads");
}

/// A file whose reads around the cache are refused when they are made.
struct Refuses {
    file: Box<dyn StorageFile>,
    no_file: File,
}

impl StorageFile for Refuses {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> std::io::Result<()> {
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.file.fd()
    }

    fn direct(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&self.no_file))
    }
}

/// All pages, a few one by one and the others together; how much of them the system holds then.
fn read_all(
    io: Io,
    direct: Direct,
    file: impl FnOnce(Box<dyn StorageFile>) -> Arc<dyn StorageFile>,
) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let opened = RealStorage::new(dir.path().to_owned()).open("f", OpenMode::CreateNew).unwrap();
    (0..PLACED).for_each(|n| opened.write_at(&page(n as u32), place(n)).unwrap());
    cool(&dir.path().join("f"));
    let file = file(opened);
    let tier = InFile { file: Arc::clone(&file), elsewhere: None };
    let mut fetcher = Fetcher::new(Arc::new(tier), PAGE, io, direct).unwrap();
    let cid = |n: u64| Cid::of_raw(&page(n as u32));
    for n in (0..PLACED).step_by(5) {
        let mut to = vec![0; PAGE];
        assert!(fetcher.read(&cid(n), &mut to).unwrap() && to == page(n as u32), "{n}");
    }
    let wants = (0..PLACED).map(|n| Want { cid: cid(n), to: Buffer::new(PAGE) });
    for (n, id) in fetcher.give(wants.collect()).into_iter().enumerate() {
        let came = fetcher.wait(id);
        assert!(came.found.unwrap() && *came.to == *page(n as u32), "{n}");
    }
    let is_held = |n: &u64| !Direct::Always.is_better(&*file, place(*n), PAGE);
    (0..PLACED).filter(is_held).count()
}

#[test]
fn pages_that_are_not_cached_come_around_the_cache_or_through_it() {
    let ways = [Io::Caller, Io::Threads, Io::Auto];
    for io in ways {
        let no_file = || File::open("/").unwrap();
        let refused = read_all(io, Direct::Always, |file| Arc::new(Refuses { file, no_file: no_file() }));
        assert_eq!(refused, PLACED as usize, "{io:?}: what is refused comes through the cache");
        let through = read_all(io, Direct::Never, Arc::from);
        assert_eq!(through, PLACED as usize, "{io:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = RealStorage::new(dir.path().to_owned()).open("f", OpenMode::CreateNew).unwrap();
    file.set_len(PAGE as u64).unwrap();
    // Where the file system or the kernel has no such reads there is nothing to look at, and it is said.
    if !Direct::Always.is_better(&*file, 0, PAGE) {
        return eprintln!("not tested: reads around the cache");
    }
    for io in ways {
        assert_eq!(read_all(io, Direct::Always, Arc::from), 0, "{io:?}: the cache holds none of them");
    }
}

//! The pager where its memory ends: misses from the local tier, and working sets of ten times the budget.
//!
//! All sides read from a disk whose cached pages were given up before, and around the system's cache: else what was measured
//! would be memory that the budget does not have.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Barrier};

use vac_core::cid::Cid;
use vac_core::memory::{Advice, La128, Pager, Space, Tier};
use vac_core::storage::RealStorage;
use vac_core::store::Store;

use super::figure::{Figure, Goal};
use super::memory::{Aligned, PAGE, at, mixed, pager, tiles, write_pages, zipf};
use super::timing::{Side, medians, time};
use super::{Result, scratch, text};

/// Pages on the disk: ten times the budget.
pub(super) const PAGES: usize = 10_240;
pub(super) const BUDGET_PAGES: usize = PAGES / 10;
/// Many and short: a disk behind a hypervisor is a fifth faster in one second than in the next.
const ROUNDS: usize = 15;
const DEPTH: usize = 16;

/// A memory on the disk, and the same pages in a plain file.
pub(super) struct Disk {
    pub(super) folder: tempfile::TempDir,
    pub(super) root: Cid,
    raw: File,
}

impl Disk {
    fn new() -> Result<Self> {
        let folder = scratch()?;
        let mut pager = open(folder.path(), BUDGET_PAGES)?;
        let mut space = pager.space();
        write_pages(&mut pager, &mut space, PAGES)?;
        let root = pager.commit(&mut space).map_err(text)?;
        let path = folder.path().join("raw");
        let file = File::create(&path).map_err(text)?;
        let mut bytes = vec![7; PAGE];
        for page in 0..PAGES as u64 {
            bytes[..8].copy_from_slice(&page.to_le_bytes());
            file.write_all_at(&bytes, page * PAGE as u64).map_err(text)?;
        }
        file.sync_all().map_err(text)?;
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(text)?;
        let raw = File::options().read(true).custom_flags(direct).open(&path).map_err(text)?;
        Ok(Self { folder, root, raw })
    }

    /// Lets the system forget the pages of all files.
    pub(super) fn cool(&self) -> Result<()> {
        let packs = std::fs::read_dir(self.folder.path().join("store/packs")).map_err(text)?;
        let packs = packs.flatten().map(|entry| entry.path());
        for path in packs.chain([self.folder.path().join("raw")]) {
            let file = File::open(path).map_err(text)?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(text)?;
        }
        Ok(())
    }

    /// A pager that reads nothing ahead, and whose frames are all in use: the first time that memory is touched the system clears
    /// it, which is no part of a miss.
    fn pager(&self, pages: usize) -> Result<(Pager, Space)> {
        let mut pager = open(self.folder.path(), pages)?;
        let mut space = pager.open(&self.root).map_err(text)?;
        let all = PAGES as u64 * PAGE as u64;
        pager.advise(&mut space, at(0), all, Advice::Random).map_err(text)?;
        let mut to = vec![0; PAGE];
        for page in 0..pages as u64 {
            pager.read(&mut space, at(mixed(page ^ 1 << 41) % PAGES as u64), &mut to).map_err(text)?;
        }
        Ok((pager, space))
    }
}

fn open(folder: &Path, pages: usize) -> Result<Pager> {
    let store = Store::open(Arc::new(RealStorage::new(folder.to_owned())), "store").map_err(text)?;
    pager(Arc::new(store) as Arc<dyn Tier>, pages)
}

/// A page of the plain file, read around the system's cache and hashed.
fn read_raw(to: &mut Aligned, raw: &File, page: u64) -> Result<()> {
    raw.read_exact_at(to.bytes(), page * PAGE as u64).map_err(text)?;
    std::hint::black_box(blake3::hash(to.bytes()));
    Ok(())
}

pub(super) fn run() -> Result<Vec<Figure>> {
    let disk = Disk::new()?;
    let mut figures = vec![miss(&disk)?];
    for requests in [8, 4, 1] {
        figures.extend(miss_many(&disk, requests * DEPTH)?);
    }
    for (name, trace) in traces() {
        figures.extend(super::memory_peers::working_set(&disk, name, &trace)?);
    }
    Ok(figures)
}

fn miss(disk: &Disk) -> Result<Figure> {
    let order: Vec<u64> = (0..512_u64).map(|n| mixed(n) % PAGES as u64).collect();
    let mut to = vec![0; PAGE];
    let mut aligned = Aligned::new(PAGE);
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| {
            disk.cool()?;
            let (mut pager, mut space) = disk.pager(64)?;
            time(|| {
                order.iter().try_for_each(|page| pager.read(&mut space, at(*page), &mut to).map_err(text))
            })
        }),
        Box::new(|| time(|| order.iter().try_for_each(|page| read_raw(&mut aligned, &disk.raw, *page)))),
    ];
    let ns = medians(ROUNDS, &mut sides)?;
    let us = |ns: f64| ns / 1e3 / order.len() as f64;
    Ok(Figure::new("memory, miss of 64 KiB, depth 1", "us", us(ns[0]), ("O_DIRECT pread, BLAKE3", us(ns[1])))
        .goal(Goal::RatioAtMost(1.1)))
}

/// Pages far from each other, `together` in one request, which ends with the last of them. The peer's threads never wait for each
/// other, so one request of no more than are read at a time is also compared with threads that do.
fn miss_many(disk: &Disk, together: usize) -> Result<Vec<Figure>> {
    let order: Vec<u64> = (0..1024_u64).map(|n| mixed(n ^ 1 << 40) % PAGES as u64).collect();
    let reader = RefCell::new("");
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| {
            disk.cool()?;
            let (mut pager, mut space) = disk.pager(256)?;
            let mut buffers = vec![vec![1; PAGE]; together];
            let done = time(|| {
                order.chunks(together).try_for_each(|pages| {
                    let places = pages.iter().map(|page| at(*page));
                    let mut ranges: Vec<(La128, &mut [u8])> =
                        places.zip(buffers.iter_mut().map(Vec::as_mut_slice)).collect();
                    pager.read_vectored(&mut space, &mut ranges).map_err(text)
                })
            });
            *reader.borrow_mut() = pager.reader();
            done
        }),
        Box::new(|| read_by_threads(disk, &order, false)),
        Box::new(|| read_by_threads(disk, &order, true)),
    ];
    let is_one = together == DEPTH;
    let ns = medians(ROUNDS, if is_one { &mut sides } else { &mut sides[..2] })?;
    let us = |ns: f64| ns / 1e3 / order.len() as f64;
    let name = format!("memory, miss of 64 KiB, depth 16, {together} a request");
    let note = format!("the pager reads by {}", reader.borrow());
    let peers = ["16 threads, O_DIRECT", "16 threads, each request together"];
    let figure = |(peer, theirs): (&str, &f64)| {
        let figure = Figure::new(name.clone(), "us", us(ns[0]), (peer, us(*theirs)));
        figure.goal(Goal::RatioAtMost(1.1)).note(note.clone())
    };
    Ok(peers.into_iter().zip(ns.iter().skip(1)).map(figure).collect())
}

/// As many threads as are reads at a time, which begin each round of reads together if `they_wait`.
fn read_by_threads(disk: &Disk, order: &[u64], they_wait: bool) -> Result<f64> {
    let round = Barrier::new(DEPTH);
    let part = |pages: &[u64]| {
        let mut aligned = Aligned::new(PAGE);
        let mut done = Ok(());
        for page in pages {
            if they_wait {
                round.wait();
            }
            // Also after an error: others wait.
            done = done.and(read_raw(&mut aligned, &disk.raw, *page));
        }
        done
    };
    time(|| {
        std::thread::scope(|scope| {
            let parts = order.chunks(order.len() / DEPTH);
            let threads: Vec<_> = parts.map(|pages| scope.spawn(|| part(pages))).collect();
            threads.into_iter().try_for_each(|it| it.join().map_err(|_| "a thread fell".to_owned())?)
        })
    })
}

/// Page numbers of what is done with a working set of ten times the budget.
fn traces() -> [(&'static str, Vec<u64>); 4] {
    let hot_and_scan = (0..6).flat_map(|turn: u64| {
        let hot = (0..2_000_u64).map(move |n| mixed(turn << 32 | n) % 600);
        hot.chain((0..1_500).map(move |n| 600 + (turn * 1_500 + n) % (PAGES as u64 - 600)))
    });
    [
        ("zipf 0.9", zipf(PAGES, 20_000)),
        ("scan and hot set", hot_and_scan.collect()),
        ("loop", (0..2 * PAGES as u64).collect::<Vec<u64>>().iter().map(|n| n % PAGES as u64).collect()),
        ("matrix multiply by tiles", tiles()),
    ]
}

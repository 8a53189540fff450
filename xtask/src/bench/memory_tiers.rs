//! The pager where its memory ends: misses from the local tier, and working sets of ten times the budget.
//!
//! Both sides read from a disk whose cached pages were given up before; the peer reads around the system's cache, the
//! pager through it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use vac_core::cid::Cid;
use vac_core::memory::policy::PolicyKind;
use vac_core::memory::{Advice, La128, Pager, Space, Tier};
use vac_core::storage::RealStorage;
use vac_core::store::Store;

use super::figure::{Figure, Goal};
use super::memory::{PAGE, at, mixed, pager, write_pages, zipf};
use super::timing::{Side, medians, time};
use super::{Result, scratch, text};

/// Pages on the disk: ten times the budget.
const PAGES: usize = 10_240;
const BUDGET_PAGES: usize = PAGES / 10;
const ROUNDS: usize = 5;
/// What O_DIRECT wants.
const ALIGN: usize = 4096;
const DEPTH: usize = 16;

/// A memory on the disk, and the same pages in a plain file.
struct Disk {
    folder: tempfile::TempDir,
    root: Cid,
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
    fn cool(&self) -> Result<()> {
        let packs = std::fs::read_dir(self.folder.path().join("store/packs")).map_err(text)?;
        for entry in packs.flatten() {
            let file = File::open(entry.path()).map_err(text)?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(text)?;
        }
        Ok(())
    }

    fn pager(&self, pages: usize) -> Result<(Pager, Space)> {
        let mut pager = open(self.folder.path(), pages)?;
        let space = pager.open(&self.root).map_err(text)?;
        Ok((pager, space))
    }
}

fn open(folder: &Path, pages: usize) -> Result<Pager> {
    let store = Store::open(Arc::new(RealStorage::new(folder.to_owned())), "store").map_err(text)?;
    pager(Arc::new(store) as Arc<dyn Tier>, pages)
}

/// A buffer for O_DIRECT.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new() -> Self {
        Self(vec![0; PAGE + ALIGN])
    }

    fn bytes(&mut self) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(ALIGN).min(ALIGN);
        &mut self.0[skip..skip + PAGE]
    }

    fn read(&mut self, raw: &File, page: u64) -> Result<()> {
        raw.read_exact_at(self.bytes(), page * PAGE as u64).map_err(text)?;
        std::hint::black_box(blake3::hash(self.bytes()));
        Ok(())
    }
}

pub(super) fn run() -> Result<Vec<Figure>> {
    let disk = Disk::new()?;
    let mut figures = vec![miss(&disk)?, miss_many(&disk)?];
    for (name, trace) in traces() {
        figures.push(working_set(&disk, name, &trace)?);
    }
    Ok(figures)
}

fn miss(disk: &Disk) -> Result<Figure> {
    let order: Vec<u64> = (0..512_u64).map(|n| mixed(n) % PAGES as u64).collect();
    let mut to = vec![0; PAGE];
    let mut aligned = Aligned::new();
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| {
            disk.cool()?;
            let (mut pager, mut space) = disk.pager(64)?;
            let all = PAGES as u64 * PAGE as u64;
            pager.advise(&mut space, at(0), all, Advice::Random).map_err(text)?;
            time(|| {
                order.iter().try_for_each(|page| pager.read(&mut space, at(*page), &mut to).map_err(text))
            })
        }),
        Box::new(|| time(|| order.iter().try_for_each(|page| aligned.read(&disk.raw, *page)))),
    ];
    let ns = medians(ROUNDS, &mut sides)?;
    let us = |ns: f64| ns / 1e3 / order.len() as f64;
    Ok(Figure::new("memory, miss of 64 KiB, depth 1", "us", us(ns[0]), ("O_DIRECT pread, BLAKE3", us(ns[1])))
        .goal(Goal::RatioAtMost(1.1)))
}

/// Sixteen pages in one request, far from each other.
fn miss_many(disk: &Disk) -> Result<Figure> {
    let order: Vec<u64> = (0..1024_u64).map(|n| mixed(n ^ 1 << 40) % PAGES as u64).collect();
    let reader = RefCell::new("");
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| {
            disk.cool()?;
            let (mut pager, mut space) = disk.pager(256)?;
            let all = PAGES as u64 * PAGE as u64;
            pager.advise(&mut space, at(0), all, Advice::Random).map_err(text)?;
            let mut buffers = vec![vec![0; PAGE]; DEPTH];
            let done = time(|| {
                order.chunks(DEPTH).try_for_each(|pages| {
                    let places = pages.iter().map(|page| at(*page));
                    let mut ranges: Vec<(La128, &mut [u8])> =
                        places.zip(buffers.iter_mut().map(Vec::as_mut_slice)).collect();
                    pager.read_vectored(&mut space, &mut ranges).map_err(text)
                })
            });
            *reader.borrow_mut() = pager.reader();
            done
        }),
        Box::new(|| {
            time(|| {
                std::thread::scope(|scope| {
                    let part = |pages: &[u64]| {
                        let mut aligned = Aligned::new();
                        pages.iter().try_for_each(|page| aligned.read(&disk.raw, *page))
                    };
                    let threads: Vec<_> = order
                        .chunks(order.len() / DEPTH)
                        .map(|pages| scope.spawn(move || part(pages)))
                        .collect();
                    threads
                        .into_iter()
                        .try_for_each(|it| it.join().map_err(|_| "a thread fell".to_owned())?)
                })
            })
        }),
    ];
    let ns = medians(ROUNDS, &mut sides)?;
    let us = |ns: f64| ns / 1e3 / order.len() as f64;
    let figure =
        Figure::new("memory, miss of 64 KiB, depth 16", "us", us(ns[0]), ("16 threads, O_DIRECT", us(ns[1])));
    let note = format!("the pager reads by {}", reader.borrow());
    Ok(figure.goal(Goal::RatioAtMost(1.1)).note(note))
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

/// C += A * B of 58 x 58 tiles, one page each: a row of A and a column of B for each tile of C, in blocks of 8.
fn tiles() -> Vec<u64> {
    let (side, block) = (58_u64, 8);
    let mut trace = Vec::new();
    let tile = |matrix: u64, row: u64, column: u64| matrix * side * side + row * side + column;
    for (rows, columns) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
        for k in 0..side {
            for (row, column) in (0..block * block).map(|n| (rows + n / block, columns + n % block)) {
                trace.extend([tile(0, row, k), tile(1, k, column), tile(2, row, column)]);
            }
        }
    }
    trace
}

fn working_set(disk: &Disk, name: &str, trace: &[u64]) -> Result<Figure> {
    let stats = RefCell::new(String::new());
    let mut to = vec![0; PAGE];
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| {
            disk.cool()?;
            let (mut pager, mut space) = disk.pager(BUDGET_PAGES)?;
            let done = time(|| {
                trace.iter().try_for_each(|page| pager.read(&mut space, at(*page), &mut to).map_err(text))
            });
            let it = pager.stats();
            *stats.borrow_mut() = format!(
                "{} misses, {} read ahead of which {} used and {} wasted",
                it.misses, it.ahead, it.ahead_used, it.ahead_wasted
            );
            done
        }),
        Box::new(|| peer(disk, trace)),
    ];
    let ns = medians(3, &mut sides)?;
    let pages = |ns: f64| trace.len() as f64 * 1e9 / ns;
    let peer = ("LRU of equal budget, O_DIRECT, BLAKE3", pages(ns[1]));
    let figure = Figure::new(format!("memory, ten times the budget, {name}"), "pages/s", pages(ns[0]), peer);
    Ok(figure.goal(Goal::RatioAtLeast(1.0)).note(stats.borrow().clone()))
}

/// What one would write by hand: least recently used pages, read around the system's cache and hashed.
fn peer(disk: &Disk, trace: &[u64]) -> Result<f64> {
    let mut policy = PolicyKind::Lru.build(BUDGET_PAGES);
    let mut frames: Vec<Aligned> = (0..BUDGET_PAGES).map(|_| Aligned::new()).collect();
    let (mut of_page, mut pages) = (BTreeMap::new(), vec![u64::MAX; BUDGET_PAGES]);
    let mut to = vec![0; PAGE];
    let mut used = 0;
    time(|| {
        for page in trace {
            let frame = match of_page.get(page) {
                Some(frame) => {
                    policy.touch(*frame);
                    *frame
                }
                None => {
                    let frame = if used < BUDGET_PAGES { used as u32 } else { policy.victim().unwrap_or(0) };
                    used += 1;
                    of_page.remove(&std::mem::replace(&mut pages[frame as usize], *page));
                    of_page.insert(*page, frame);
                    frames[frame as usize].read(&disk.raw, *page)?;
                    policy.insert(frame, *page);
                    frame
                }
            };
            to.copy_from_slice(frames[frame as usize].bytes());
            std::hint::black_box(&mut to);
        }
        Ok(())
    })
}

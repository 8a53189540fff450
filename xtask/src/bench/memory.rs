//! The pager: hits, snapshots, commits, roots, and how often each policy hits.

use std::sync::Arc;

use vac_core::cid::Cid;
use vac_core::memory::policy::{PolicyKind, belady, simulate};
use vac_core::memory::{Direct, La128, Pager, Settings, Space, Tier};
use vac_core::storage::RealStorage;
use vac_core::store::Store;

use super::figure::{Figure, Goal};
use super::timing::{Side, medians, time};
use super::{Result, scratch, text};

pub(super) const PAGE: usize = 64 << 10;
const ROUNDS: usize = 15;
/// What a linear memory begins at a multiple of, and what O_DIRECT wants.
const ALIGN: usize = 4096;
/// More than the caches of the machines that this is run on.
const RESIDENT_PAGES: usize = 4096;
const LOOKUPS: usize = 1 << 20;
const DIRTY_BYTES: usize = 1 << 30;

/// A tier that keeps nothing: what is measured is the pager.
struct Nowhere;

impl Tier for Nowhere {
    fn read_into(&self, _: &Cid, _: &mut [u8]) -> vac_core::fault::Result<bool> {
        Ok(false)
    }

    fn get(&self, _: &Cid, _: usize) -> vac_core::fault::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn put(&self, _: &Cid, _: &[u8]) -> vac_core::fault::Result<()> {
        Ok(())
    }

    fn commit(&self) -> vac_core::fault::Result<()> {
        Ok(())
    }
}

/// Everything about the pager but its policies.
pub(super) fn run() -> Result<Vec<Figure>> {
    let mut figures = hits()?;
    figures.push(snapshot()?);
    figures.push(commit()?);
    figures.push(root()?);
    figures.extend(super::memory_growth::run()?);
    // They read around the system's cache.
    #[cfg(target_os = "linux")]
    figures.extend(super::memory_tiers::run()?);
    #[cfg(target_os = "linux")]
    figures.extend(super::memory_peers::huge()?);
    Ok(figures)
}

pub(super) fn pager(tier: Arc<dyn Tier>, pages: usize) -> Result<Pager> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let settings = Settings {
        budget_bytes: pages * PAGE,
        threads,
        nodes_bytes: 64 << 20,
        // What the system's cache has is memory that the budget does not: peers read around it too.
        direct: Direct::Always,
        ..Settings::default()
    };
    Pager::new(tier, settings).map_err(text)
}

pub(super) fn at(page: u64) -> La128 {
    La128 { shard: 0, offset: page * PAGE as u64 }
}

/// Writes pages that differ from each other.
pub(super) fn write_pages(pager: &mut Pager, space: &mut Space, pages: usize) -> Result<()> {
    let mut bytes = vec![7; PAGE];
    for page in 0..pages as u64 {
        bytes[..8].copy_from_slice(&page.to_le_bytes());
        pager.write(space, at(page), &bytes).map_err(text)?;
    }
    Ok(())
}

/// Bytes that begin where a page of the machine does.
pub(super) struct Aligned {
    bytes: Vec<u8>,
    len: usize,
}

impl Aligned {
    pub(super) fn new(len: usize) -> Self {
        Self { bytes: vec![0; len + ALIGN], len }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let skip = self.bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        &mut self.bytes[skip..skip + self.len]
    }
}

/// splitmix64's output function: an order without a pattern.
pub(super) fn mixed(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hits() -> Result<Vec<Figure>> {
    // All of them in frames: a part of the budget is buffers.
    let mut pager = pager(Arc::new(Nowhere), RESIDENT_PAGES * 17 / 16)?;
    let mut space = pager.space();
    write_pages(&mut pager, &mut space, RESIDENT_PAGES)?;
    let mut source = Aligned::new(RESIDENT_PAGES * PAGE);
    source.bytes().fill(7);
    let cache = quick_cache::sync::Cache::new(RESIDENT_PAGES * 2);
    (0..RESIDENT_PAGES as u64).for_each(|page| cache.insert(page, page));
    let order: Vec<u64> = (0..LOOKUPS as u64).map(|n| mixed(n) % RESIDENT_PAGES as u64).collect();
    // Where a linear memory would be.
    let (mut to, mut other, mut word) = (Aligned::new(PAGE), Aligned::new(PAGE), [0; 8]);
    let (to, other, source) = (to.bytes(), other.bytes(), source.bytes());
    let copies = &order[..RESIDENT_PAGES];
    let pager = std::cell::RefCell::new((pager, space));
    // A word of each page, and none in the same line of the processor's cache as that of another.
    let word_of = |n: usize, page: u64| (page as usize * PAGE + mixed(n as u64) as usize % PAGE) & !7;
    let mut sides: [Side<'_>; 6] = [
        Box::new(|| {
            let (pager, space) = &mut *pager.borrow_mut();
            time(|| copies.iter().try_for_each(|page| pager.read(space, at(*page), to).map_err(text)))
        }),
        Box::new(|| {
            time(|| {
                for page in copies {
                    let from = *page as usize * PAGE;
                    other.copy_from_slice(&source[from..from + PAGE]);
                    std::hint::black_box(&mut *other);
                }
                Ok(())
            })
        }),
        Box::new(|| {
            let (pager, space) = &mut *pager.borrow_mut();
            time(|| {
                order.iter().try_for_each(|page| match pager.touch(space, at(*page)) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("a page that was written is not in memory".to_owned()),
                    Err(why) => Err(text(why)),
                })
            })
        }),
        Box::new(|| time(|| Ok(order.iter().filter_map(|page| cache.get(page)).fold(0, u64::wrapping_add)))),
        Box::new(|| {
            let (pager, space) = &mut *pager.borrow_mut();
            time(|| {
                order.iter().enumerate().try_for_each(|(n, page)| {
                    let offset = word_of(n, *page) as u64;
                    pager.read(space, La128 { shard: 0, offset }, &mut word).map_err(text)
                })
            })
        }),
        Box::new(|| {
            time(|| {
                let found =
                    order.iter().enumerate().filter_map(|(n, page)| Some(word_of(n, cache.get(page)?)));
                Ok(found.fold(0, |sum: u64, from| sum.wrapping_add(u64::from(source[from]))))
            })
        }),
    ];
    let ns = medians(ROUNDS, &mut sides)?;
    let (copied, looked_up) = (copies.len() as f64, LOOKUPS as f64);
    let speed = |ns: f64| PAGE as f64 * copied / ns;
    Ok(vec![
        Figure::new("memory, hit 64 KiB", "GB/s", speed(ns[0]), ("memcpy, cold source", speed(ns[1])))
            .goal(Goal::RatioAtLeast(0.9)),
        Figure::new("memory, hit look-up", "ns", ns[2] / looked_up, ("quick_cache get", ns[3] / looked_up))
            .goal(Goal::RatioAtMost(3.0)),
        Figure::new(
            "memory, hit of 8 bytes",
            "ns",
            ns[4] / looked_up,
            ("quick_cache get, and a byte of the page", ns[5] / looked_up),
        ),
    ])
}

/// A shard of 1 TiB with a page mapped in each GiB.
fn snapshot() -> Result<Figure> {
    let mut pager = pager(Arc::new(Nowhere), 64)?;
    let mut space = pager.space();
    (0..1024).try_for_each(|gib| pager.write(&mut space, at(gib << 14), b"x").map_err(text))?;
    let mut taken = Vec::with_capacity(1000);
    let mut sides: [Side<'_>; 1] = [Box::new(|| {
        taken.clear();
        time(|| {
            taken.extend((0..1000).map(|_| pager.snapshot(&mut space)));
            Ok(())
        })
    })];
    let ns = medians(ROUNDS, &mut sides)?[0] / 1000.0;
    Ok(Figure::new("memory, snapshot of 1 TiB", "ns", ns, ("none", f64::NAN)).goal(Goal::AtMost(1000.0)))
}

/// One page of that shard is written and made durable; the other side hashes as much and syncs once.
fn commit() -> Result<Figure> {
    let folder = scratch()?;
    let store = Store::open(Arc::new(RealStorage::new(folder.path().to_owned())), "store").map_err(text)?;
    let mut pager = pager(Arc::new(store), 4096)?;
    let mut space = pager.space();
    (0..1024).try_for_each(|gib| pager.write(&mut space, at(gib << 14), b"x").map_err(text))?;
    let root = pager.commit(&mut space).map_err(text)?;
    let proof = pager.prove(&root, 0, 1 << 14).map_err(text)?;
    let file = std::fs::File::create(folder.path().join("raw")).map_err(text)?;
    let mut raw = vec![0; PAGE];
    let mut n = 0_u64;
    let pager = std::cell::RefCell::new(pager);
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| {
            let pager = &mut *pager.borrow_mut();
            n += 1;
            pager.write(&mut space, at(1 << 14), &n.to_le_bytes()).map_err(text)?;
            time(|| pager.commit(&mut space).map_err(text))
        }),
        Box::new(|| {
            raw[0] ^= 1;
            time(|| {
                use std::os::unix::fs::FileExt;
                std::hint::black_box(blake3::hash(&raw));
                for object in &proof.objects {
                    std::hint::black_box(blake3::hash(object));
                }
                let end = file.metadata().map_err(text)?.len();
                file.write_all_at(&raw, end).map_err(text)?;
                file.sync_data().map_err(text)
            })
        }),
    ];
    let ns = medians(40, &mut sides)?;
    let us = |ns: f64| ns / 1e3;
    Ok(Figure::new("memory, commit of one page", "us", us(ns[0]), ("BLAKE3, append, fdatasync", us(ns[1])))
        .goal(Goal::RatioAtMost(1.5)))
}

fn root() -> Result<Figure> {
    let pages = DIRTY_BYTES / PAGE;
    // Room for two rounds: dirty pages that left before the commit would be hashed outside of the time.
    let mut pager = pager(Arc::new(Nowhere), 3 * pages)?;
    let mut space = pager.space();
    let raw = vec![7_u8; DIRTY_BYTES];
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pager = std::cell::RefCell::new(&mut pager);
    let mut sides: [Side<'_>; 2] = [
        Box::new(|| {
            let pager = &mut **pager.borrow_mut();
            write_pages(pager, &mut space, pages)?;
            time(|| pager.commit(&mut space).map_err(text))
        }),
        Box::new(|| {
            time(|| {
                std::thread::scope(|scope| {
                    for part in raw.chunks(DIRTY_BYTES / cores) {
                        scope.spawn(|| {
                            for page in part.chunks(PAGE) {
                                std::hint::black_box(blake3::hash(page));
                            }
                        });
                    }
                });
                Ok(())
            })
        }),
    ];
    let ns = medians(3, &mut sides)?;
    let ms = |ns: f64| ns / 1e6;
    Ok(Figure::new("memory, root of 1 GiB dirty", "ms", ms(ns[0]), ("BLAKE3 of 1 GiB in pages", ms(ns[1])))
        .goal(Goal::RatioAtMost(1.15)))
}

/// How often each policy hits, against peers and against the best there is.
pub(super) fn policies() -> Result<Vec<Figure>> {
    let traces = [
        ("zipf 0.9", 5_000, zipf(100_000, 500_000)),
        ("scan and hot set", 5_000, scan()),
        ("loop", 5_000, round(6_000, 300_000)),
        ("matrix multiply by tiles", 500, tiles()),
    ];
    let mut figures = Vec::new();
    for (name, capacity, trace) in &traces {
        figures.extend(policies_on(name, *capacity, trace));
    }
    Ok(figures)
}

fn policies_on(name: &str, capacity: usize, trace: &[u64]) -> Vec<Figure> {
    let part = |hits: u64| 100.0 * hits as f64 / trace.len() as f64;
    let mut peers = vec![
        ("quick_cache".to_owned(), part(quick_cache(capacity, trace))),
        ("moka".to_owned(), part(moka(capacity, trace))),
        ("LRU".to_owned(), part(simulate(PolicyKind::Lru, capacity, trace))),
    ];
    // Where it cannot be built the others are still compared, and it is said.
    let without = match super::peers::foyer_hits(capacity, trace) {
        Ok(said) => {
            peers.extend(said.iter().map(|(name, hits)| (name.to_owned(), part(hits as u64))));
            String::new()
        }
        Err(why) => format!("; without foyer: {why}"),
    };
    let all: Vec<String> = peers.iter().map(|(name, part)| format!("{name} {part:.1} %")).collect();
    let (peer, theirs) =
        peers.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((String::new(), f64::NAN));
    let figure = |kind: PolicyKind| {
        let own = part(simulate(kind, capacity, trace));
        let figure = Figure::new(format!("hits, {name}, {}", kind.name()), "%", own, (&peer, theirs));
        match kind == PolicyKind::default() {
            true => figure.goal(Goal::RatioAtLeast(1.0)).note(format!("{}{without}", all.join(", "))),
            false => figure,
        }
    };
    let best = part(belady(capacity, trace));
    let best = Figure::new(format!("hits, {name}, the best there is"), "%", best, ("none", f64::NAN));
    PolicyKind::ALL.into_iter().map(figure).chain([best]).collect()
}

fn quick_cache(capacity: usize, trace: &[u64]) -> u64 {
    let cache = quick_cache::unsync::Cache::new(capacity);
    let mut cache = cache;
    let mut hits = 0;
    for page in trace {
        match cache.get(page) {
            Some(()) => hits += 1,
            None => cache.insert(*page, ()),
        }
    }
    hits
}

fn moka(capacity: usize, trace: &[u64]) -> u64 {
    let cache = moka::sync::Cache::new(capacity as u64);
    let mut hits = 0;
    for page in trace {
        match cache.get(page) {
            Some(()) => hits += 1,
            None => cache.insert(*page, ()),
        }
        cache.run_pending_tasks();
    }
    hits
}

/// C += A * B of 58 x 58 tiles, one page each: a row of A and a column of B for each tile of C, in blocks of 8.
pub(super) fn tiles() -> Vec<u64> {
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

/// Page numbers drawn by rank with weight 1 / rank^0.9.
pub(super) fn zipf(pages: usize, len: usize) -> Vec<u64> {
    let mut sums = Vec::with_capacity(pages);
    let mut sum = 0.0;
    for rank in 1..=pages {
        sum += (rank as f64).powf(-0.9);
        sums.push(sum);
    }
    let draw = |n: usize| {
        let at = mixed(n as u64) as f64 / u64::MAX as f64 * sum;
        sums.partition_point(|sum| *sum < at) as u64
    };
    (0..len).map(draw).collect()
}

/// A hot set of 3,000 pages, drawn evenly, and after each 20,000 draws a scan of 10,000 pages.
fn scan() -> Vec<u64> {
    let mut trace = Vec::new();
    for turn in 0..12 {
        trace.extend((0..20_000).map(|n| mixed(turn << 32 | n) % 3_000));
        trace.extend((0..10_000).map(|n| 1_000_000 + turn * 10_000 + n));
    }
    trace
}

/// Round and round: `pages` pages, more than there is room for.
fn round(pages: u64, len: u64) -> Vec<u64> {
    (0..len).map(|n| n % pages).collect()
}

//! A trace through `foyer`, a cache in memory and on disk, as its documents advise to set it up; and its policies alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foyer::{
    BlockEngineConfig, Cache, CacheBuilder, DeviceBuilder, EvictionConfig, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, HybridCachePolicy, LfuConfig, LruConfig, S3FifoConfig, SieveConfig,
};

use super::{PAGE, Result, check, number, say_peak, text, timed, trace};

/// Inserts between two waits: what is put faster than the disk takes it is dropped.
const INSERTS: usize = 64;

type Pages = HybridCache<u64, Vec<u8>>;

/// The cache in `folder`, which reads around the system's cache. On disk there is room for twice what it is for.
async fn open(folder: &str, budget: usize, pages: usize) -> Result<Pages> {
    let disk = FsDeviceBuilder::new(folder).with_capacity(pages * 2 * PAGE).with_direct(true);
    HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .memory(budget)
        .with_weighter(|_: &u64, page: &Vec<u8>| page.len())
        .storage()
        .with_engine_config(BlockEngineConfig::new(disk.build().map_err(text)?))
        .build()
        .await
        .map_err(text)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(text)
}

pub(super) fn fill(folder: &str, pages: &str) -> Result<()> {
    let pages = number(pages)?;
    runtime()?.block_on(async {
        let cache = open(folder, 1024 * PAGE, pages).await?;
        let mut bytes = vec![7; PAGE];
        for page in 0..pages {
            bytes[..8].copy_from_slice(&(page as u64).to_le_bytes());
            cache.insert(page as u64, bytes.clone());
            if page % INSERTS == INSERTS - 1 {
                cache.storage().wait().await;
            }
        }
        cache.storage().wait().await;
        cache.close().await.map_err(text)
    })?;
    std::fs::write(Path::new(folder).join("pages"), pages.to_string()).map_err(text)
}

pub(super) fn run(folder: &str, budget: &str, path: &str, file: &str) -> Result<()> {
    let (budget, trace) = (number(budget)? * PAGE, trace(path)?);
    let pages = number(&std::fs::read_to_string(Path::new(folder).join("pages")).map_err(text)?)?;
    let file = Arc::new(File::open(file).map_err(|e| format!("{file}: {e}"))?);
    let (runtime, lost) = (runtime()?, Arc::new(AtomicU64::new(0)));
    let cache = runtime.block_on(open(folder, budget, pages))?;
    let mut to = vec![0; PAGE];
    let read = async {
        for page in trace.iter().copied() {
            let (file, lost) = (Arc::clone(&file), Arc::clone(&lost));
            let fetch = move || async move {
                lost.fetch_add(1, Ordering::Relaxed);
                let mut bytes = vec![0; PAGE];
                file.read_exact_at(&mut bytes, page * PAGE as u64).map(|()| bytes)
            };
            let entry = cache.get_or_fetch(&page, fetch).await.map_err(text)?;
            to.copy_from_slice(entry.value());
            check(page, &to)?;
        }
        Ok(())
    };
    timed("ns", || runtime.block_on(read))?;
    println!("lost {}", lost.load(Ordering::Relaxed));
    say_peak("peak")
}

pub(super) fn hits(capacity: &str, path: &str) -> Result<()> {
    let (capacity, trace) = (number(capacity)?, trace(path)?);
    let policies: [(&str, EvictionConfig); 4] = [
        ("foyer-s3-fifo", S3FifoConfig::default().into()),
        ("foyer-lru", LruConfig::default().into()),
        ("foyer-lfu", LfuConfig::default().into()),
        ("foyer-sieve", SieveConfig.into()),
    ];
    for (name, policy) in policies {
        // One shard: many would each have a part of the capacity.
        let cache: Cache<u64, ()> =
            CacheBuilder::new(capacity).with_shards(1).with_eviction_config(policy).build();
        let mut hits = 0;
        for page in &trace {
            match cache.get(page) {
                Some(_) => hits += 1,
                None => drop(cache.insert(*page, ())),
            }
        }
        println!("{name} {hits}");
    }
    Ok(())
}

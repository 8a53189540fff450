//! What `cargo xtask bench` measures in a process of its own, so that a peak of memory is that of one thing alone.
//!
//! Says lines of a name and a number; `peak` and `start` are KiB, times nanoseconds.
//!
//! ```text
//! peers huge FOLDER PLACES                writes and reads all over 10^18 bytes
//! peers pager FOLDER BUDGET TRACE ROOT    the pages of a trace, through a pager with so many frames
//! peers mapped FILE BUDGET TRACE          the same through a mapping of a plain file
//! peers fill FOLDER PAGES                 the same pages into a cache of foyer's, on disk
//! peers foyer FOLDER BUDGET TRACE FILE    and through that; what it lost comes from the plain file
//! peers hits CAPACITY TRACE               how often foyer's policies hit, in memory
//! peers ingest FILE BYTES                 a large file, hashed by all processors, written and synced
//! peers put FOLDER OBJECTS LEN GROUP      objects into fjall, and every group durable
//! peers get FOLDER OBJECTS LEN            and out of it, hashed
//! ```
//! A trace is a file of page numbers, eight bytes each, little-endian. Page N begins with its number.
#![expect(clippy::disallowed_methods, reason = "what is measured is time; nothing here is part of a run")]

mod fjall_store;
mod foyer_cache;
mod huge;
mod ingest;
mod mapped;
mod pager;

use std::time::Instant;

const PAGE: usize = 64 << 10;

type Result<T> = std::result::Result<T, String>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["huge", folder, places] => huge::run(folder, places),
        ["pager", folder, budget, trace, root] => pager::run(folder, budget, trace, root),
        ["mapped", file, budget, trace] => mapped::run(file, budget, trace),
        ["fill", folder, pages] => foyer_cache::fill(folder, pages),
        ["foyer", folder, budget, trace, file] => foyer_cache::run(folder, budget, trace, file),
        ["put", folder, objects, len, group] => fjall_store::put(folder, objects, len, group),
        ["get", folder, objects, len] => fjall_store::get(folder, objects, len),
        ["ingest", file, bytes] => ingest::run(file, bytes),
        ["hits", capacity, trace] => foyer_cache::hits(capacity, trace),
        _ => Err("expected a command; see the head of its main.rs".to_owned()),
    };
    if let Err(why) = done {
        eprintln!("peers: {why}");
        std::process::exit(1);
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn number(arg: &str) -> Result<usize> {
    arg.parse().map_err(|_| format!("expected a number, got `{arg}`"))
}

fn trace(path: &str) -> Result<Vec<u64>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
    Ok(bytes.as_chunks().0.iter().map(|page| u64::from_le_bytes(*page)).collect())
}

/// Refuses a page that is another one.
fn check(page: u64, bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(&page.to_le_bytes()) { Ok(()) } else { Err(format!("page {page} is another one")) }
}

/// Says how long `work` takes.
fn timed(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    work()?;
    println!("{name} {}", start.elapsed().as_nanos());
    Ok(())
}

/// Says the most memory that this process ever had.
fn say_peak(name: &str) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.ok_or_else(|| "no VmHWM in /proc/self/status".to_owned())?;
    println!("{name} {}", kib.trim());
    Ok(())
}

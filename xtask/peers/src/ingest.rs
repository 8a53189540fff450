//! A large file as somebody would keep it without a store: hashed by all processors, as `b3sum` does, written and synced.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use crate::{Result, number, text};

/// Parts of the file: long enough for all processors.
const PART_BYTES: usize = 16 << 20;

pub(crate) fn run(path: &str, bytes: &str) -> Result<()> {
    let parts = number(bytes)?.div_ceil(PART_BYTES);
    let part = noise();
    let begun = Instant::now();
    let mut hasher = blake3::Hasher::new();
    (0..parts).for_each(|_| _ = hasher.update_rayon(&part));
    let hash_ns = begun.elapsed().as_nanos();
    let mut file = File::create_new(path).map_err(text)?;
    (0..parts).try_for_each(|_| file.write_all(&part)).map_err(text)?;
    file.sync_all().map_err(text)?;
    println!("hash {hash_ns}");
    println!("all {}", begun.elapsed().as_nanos());
    eprintln!("{}", hasher.finalize().to_hex());
    Ok(())
}

fn noise() -> Vec<u8> {
    let mut state = 4_u64;
    let word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(PART_BYTES / 8).flatten().collect()
}

//! Kernel `sorter`: sorts numbers that do not fit into its own memory.
//!
//! Reads and writes one granted memory through `vac:memory/shards` and imports nothing else.

mod merge;
mod numbers;

use sdk::slice::{Far, Slice};

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../../wit/sorter"],
        world: "vac:sorter/sorter",
        generate_all,
    });
}

use bindings::Guest;
use bindings::vac::memory::shards::{self, Address, Shard};
use numbers::Numbers;

/// One shard of a memory.
struct Part<'s> {
    memory: &'s Shard,
    shard: u64,
}

impl Far for Part<'_> {
    type Error = String;

    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
        self.memory.read(Address { shard: self.shard, offset }, len).map_err(reason)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.memory.write(Address { shard: self.shard, offset }, bytes).map_err(reason)
    }
}

fn reason(error: shards::Error) -> String {
    match error {
        shards::Error::Denied => "it is not granted",
        shards::Error::OutOfRange => "the numbers are not inside of what is granted",
        shards::Error::TooLarge => "that is too much at a time",
        shards::Error::Quota => "there are no more pages",
        shards::Error::Unrelated => "it is of another memory",
        shards::Error::Revoked => "the grant was taken back",
    }
    .to_owned()
}

fn open(name: &str) -> Result<(Shard, u32), String> {
    let memory = shards::open(name).map_err(|e| format!("`{}`: {}", sdk::quote::quote(name), reason(e)))?;
    let stat = memory.stat().map_err(reason)?;
    Ok((memory, stat.page_bytes))
}

fn slice<'m, 's>(part: &'m Part<'s>, count: u64, page: u32) -> Result<Slice<'m, Part<'s>, u64>, String> {
    Slice::new(part, 0, count, page).ok_or_else(|| format!("{count} numbers are more than a shard has"))
}

struct Sorter;

impl Guest for Sorter {
    fn fill(memory: String, count: u64, seed: u64) -> Result<(), String> {
        let (memory, page) = open(&memory)?;
        let part = Part { memory: &memory, shard: 0 };
        let mut numbers = slice(&part, count, page)?;
        let (mut random, mut chunk) = (Numbers::new(seed), Vec::new());
        let mut at = 0;
        while at < count {
            chunk.clear();
            chunk.extend((0..merge::RUN.min(count - at)).map(|_| random.next()));
            numbers.write(at, &chunk)?;
            at += chunk.len() as u64;
        }
        memory.commit().map(drop).map_err(reason)
    }

    fn sort(memory: String, count: u64) -> Result<Option<String>, String> {
        let (memory, page) = open(&memory)?;
        let (data, spare) = (Part { memory: &memory, shard: 0 }, Part { memory: &memory, shard: 1 });
        let is_in_spare = merge::sort(&mut slice(&data, count, page)?, &mut slice(&spare, count, page)?)?;
        let at = |shard| Address { shard, offset: 0 };
        each_part(count * 8, page, |offset, len| {
            let of = |shard| Address { offset, ..at(shard) };
            if is_in_spare {
                memory.copy(of(1), of(0), len)?;
            }
            memory.fill(of(1), len, 0)
        })?;
        memory.commit().map_err(reason)
    }

    fn histogram(memory: String, count: u64) -> Result<(Vec<u64>, bool), String> {
        let (memory, page) = open(&memory)?;
        let part = Part { memory: &memory, shard: 0 };
        let (mut counts, mut last, mut is_sorted) = (vec![0_u64; 256], 0, true);
        slice(&part, count, page)?.for_each(|number| {
            counts[(number >> 56) as usize] += 1;
            is_sorted &= last <= number;
            last = number;
        })?;
        Ok((counts, is_sorted))
    }

    fn shuffled(memory: String, count: u64, rounds: u32, seed: u64) -> Result<u64, String> {
        let (memory, page) = open(&memory)?;
        let fork = memory.fork().map_err(reason)?;
        let (part, before) = (Part { memory: &fork, shard: 0 }, Part { memory: &memory, shard: 0 });
        let mut numbers = slice(&part, count, page)?;
        let mut random = Numbers::new(seed);
        for _ in 0..rounds.min(if count == 0 { 0 } else { u32::MAX }) {
            let (one, other) = (random.next() % count, random.next() % count);
            if let (Some(a), Some(b)) = (numbers.get(one)?, numbers.get(other)?) {
                numbers.set(one, b)?;
                numbers.set(other, a)?;
            }
        }
        let (mut moved, mut at) = (0, 0);
        let mut is = Vec::new();
        numbers.flush()?;
        let mut was = slice(&before, count, page)?;
        let mut now = Vec::new();
        while at < count {
            let end = (at + merge::RUN).min(count);
            was.read(at..end, &mut is)?;
            numbers.read(at..end, &mut now)?;
            moved += is.iter().zip(&now).filter(|(a, b)| a != b).count() as u64;
            at = end;
        }
        Ok(moved)
    }
}

/// Does something with `len` bytes, as many pages at a time as one call takes.
fn each_part(
    len: u64,
    page: u32,
    mut act: impl FnMut(u64, u64) -> Result<(), shards::Error>,
) -> Result<(), String> {
    let (step, mut at) = (u64::from(page) << 16, 0);
    while at < len {
        act(at, step.min(len - at)).map_err(reason)?;
        at += step;
    }
    Ok(())
}

bindings::export!(Sorter with_types_in bindings);

//! One sorted run of the index: where many packed objects are, in a file that never changes.
//!
//! ```text
//! | head | line, line, line ... one for each bucket | entry, entry, entry ... sorted by CID |
//! ```
//!
//! A digest is uniform, so its first eight bytes say which bucket it is in, and buckets are in the order
//! of digests. The line of a bucket says where its entries begin and how many there are, and holds a
//! Bloom filter of them. So an object that is not here costs one read of 64 bytes, one that is costs two,
//! and nothing of a run needs to be in memory. Lines and entries come in the same order, so writing a run
//! of any length takes constant memory too.
//!
//! Drawn in `docs/formats.md`. Not the truth: whatever fails a check is [`Damaged`], and then the packs
//! are asked. Invariants: every byte that is believed passed a checksum that also covers its place; no
//! number in a file sizes an allocation.

use std::io;

use crate::cid::{CID_LEN, Cid};
use crate::storage::StorageFile;

use super::body::Body;
use super::format::{checksum, take, unseal};

const MAGIC: [u8; 7] = *b"VACRUNS";
/// The version that is written. Version 1 has only bodies that are as they are, and is read like it.
const VERSION: u8 = 2;
const HEAD_LEN: usize = 64;
const LINE_LEN: usize = 64;
/// Length of an entry in bytes.
pub(super) const RUN_ENTRY_LEN: usize = 48;
/// Entries of a bucket on average. With 416 bits and six probes, one absent object in 500 passes the filter.
const BUCKET_ENTRIES: u64 = 32;
const FILTER_LEN: usize = 52;
const PROBES: usize = 6;
/// Entries that are read at once while one is looked for, and while a run is read from end to end.
const LOOK_ENTRIES: usize = 48;
const READ_ENTRIES: usize = 512;
const WRITE_BYTES: usize = 64 << 10;

/// A run, or the list of runs, is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl From<io::Error> for Damaged {
    /// A part that cannot be read is as lost as one that fails its check.
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Where one object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cid: Cid,
    pub(super) pack: u32,
    pub(super) start: u32,
    pub(super) body: Body,
}

impl Entry {
    /// The order of a run.
    pub(super) fn key(&self) -> ([u8; 32], u8) {
        (*self.cid.digest(), self.cid.codec() as u8)
    }

    fn encode(&self, run: u32, at: u64) -> [u8; RUN_ENTRY_LEN] {
        let mut bytes = Vec::with_capacity(RUN_ENTRY_LEN);
        bytes.extend_from_slice(self.cid.digest());
        bytes.extend_from_slice(&self.pack.to_le_bytes());
        bytes.extend_from_slice(&self.start.to_le_bytes());
        let kind = u32::from(self.cid.codec() as u8) << 24;
        bytes.extend_from_slice(&(self.body.field() | kind).to_le_bytes());
        sealed(&bytes, run, at as u32)
    }

    fn decode(run: u32, at: u64, bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, run, at as u32)?;
        let digest = take::<32>(&mut rest)?;
        let pack = u32::from_le_bytes(take(&mut rest)?);
        let start = u32::from_le_bytes(take(&mut rest)?);
        let [low, mid, high, codec] = take::<4>(&mut rest)?;
        let body = Body::from_field(u32::from_le_bytes([low, mid, high, 0]))?;
        let mut cid = [0; CID_LEN];
        let (head, tail) = cid.split_at_mut(4);
        head.copy_from_slice(&[1, codec, 0x1e, 32]);
        tail.copy_from_slice(&digest);
        Some(Self { cid: Cid::try_from_bytes(&cid)?, pack, start, body })
    }
}

/// `bytes` with their checksum.
fn sealed<const N: usize>(bytes: &[u8], run: u32, place: u32) -> [u8; N] {
    let mut out = [0; N];
    let (body, sum) = out.split_at_mut(N - 4);
    body.copy_from_slice(bytes);
    sum.copy_from_slice(&checksum(bytes, run, place).to_le_bytes());
    out
}

/// Which of `buckets` a digest is in.
fn bucket_of(cid: &Cid, buckets: u64) -> u64 {
    let mut first = &cid.digest()[..];
    let prefix = u64::from_be_bytes(take(&mut first).unwrap_or_default());
    ((u128::from(prefix) * u128::from(buckets)) >> 64) as u64
}

/// What a bucket says of its entries.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: u32,
    count: u32,
    filter: [u8; FILTER_LEN],
}

impl Line {
    fn new(start: u64) -> Self {
        Self { start: start as u32, count: 0, filter: [0; FILTER_LEN] }
    }

    /// The bits of an object in the filter: from bytes of the digest that chose no bucket.
    fn bits(cid: &Cid) -> impl Iterator<Item = usize> {
        let pairs = cid.digest().get(16..16 + 2 * PROBES).unwrap_or_default().chunks_exact(2);
        let word = |pair: &[u8]| pair.iter().fold(0, |word, byte| word << 8 | usize::from(*byte));
        pairs.map(move |pair| word(pair) % (FILTER_LEN * 8))
    }

    fn add(&mut self, cid: &Cid) {
        self.count += 1;
        for bit in Self::bits(cid) {
            if let Some(byte) = self.filter.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    fn may_hold(&self, cid: &Cid) -> bool {
        Self::bits(cid).all(|bit| self.filter.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0))
    }

    fn encode(&self, run: u32, bucket: u64) -> [u8; LINE_LEN] {
        let head = [self.start.to_le_bytes(), self.count.to_le_bytes()].concat();
        sealed(&[&head[..], &self.filter].concat(), run, bucket as u32)
    }

    fn decode(run: u32, bucket: u64, bytes: &[u8]) -> Option<Self> {
        let mut rest = unseal(bytes, run, bucket as u32)?;
        let start = u32::from_le_bytes(take(&mut rest)?);
        let count = u32::from_le_bytes(take(&mut rest)?);
        Some(Self { start, count, filter: take(&mut rest)? })
    }
}

/// A run that can be asked.
pub(super) struct Run {
    pub(super) number: u32,
    pub(super) entries: u64,
    buckets: u64,
    file: Box<dyn StorageFile>,
}

impl Run {
    /// Reads the header of run `number`. Nothing else is read.
    pub(super) fn open(file: Box<dyn StorageFile>, number: u32) -> Result<Self, Damaged> {
        let mut head = [0; HEAD_LEN];
        file.read_at(&mut head, 0)?;
        let (entries, buckets) = decode_head(number, &head).ok_or(Damaged)?;
        let run = Self { number, entries, buckets, file };
        let is_whole = run.file.len()? == run.entry_place(entries);
        if is_whole { Ok(run) } else { Err(Damaged) }
    }

    fn entry_place(&self, at: u64) -> u64 {
        (HEAD_LEN as u64) + self.buckets * LINE_LEN as u64 + at * RUN_ENTRY_LEN as u64
    }

    /// Where `cid` is, if it is here.
    pub(super) fn find(&self, cid: &Cid) -> Result<Option<Entry>, Damaged> {
        let bucket = bucket_of(cid, self.buckets);
        let mut bytes = [0; LINE_LEN];
        self.file.read_at(&mut bytes, HEAD_LEN as u64 + bucket * LINE_LEN as u64)?;
        let line = Line::decode(self.number, bucket, &bytes).ok_or(Damaged)?;
        if !line.may_hold(cid) {
            return Ok(None);
        }
        let (mut at, end) = (u64::from(line.start), u64::from(line.start) + u64::from(line.count));
        if end > self.entries {
            return Err(Damaged);
        }
        let mut chunk = [0; LOOK_ENTRIES * RUN_ENTRY_LEN];
        while at < end {
            let entries = self.read(&mut chunk, at, end)?;
            for bytes in entries.chunks_exact(RUN_ENTRY_LEN) {
                // The checksum only of what is believed: a bucket is a few dozen entries.
                if bytes.starts_with(cid.digest()) {
                    let entry = Entry::decode(self.number, at, bytes).ok_or(Damaged)?;
                    if entry.cid == *cid {
                        return Ok(Some(entry));
                    }
                }
                at += 1;
            }
        }
        self.check_absent(&line)?;
        Ok(None)
    }

    /// Makes sure that the entries of a bucket are what was written. What they do not have is not here.
    fn check_absent(&self, line: &Line) -> Result<(), Damaged> {
        let (mut at, end) = (u64::from(line.start), u64::from(line.start) + u64::from(line.count));
        let mut chunk = [0; LOOK_ENTRIES * RUN_ENTRY_LEN];
        while at < end {
            for bytes in self.read(&mut chunk, at, end)?.chunks_exact(RUN_ENTRY_LEN) {
                Entry::decode(self.number, at, bytes).ok_or(Damaged)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// As many entries from `at` on, and before `end`, as `chunk` takes.
    fn read<'a>(&self, chunk: &'a mut [u8], at: u64, end: u64) -> Result<&'a [u8], Damaged> {
        let fits = (chunk.len() / RUN_ENTRY_LEN) as u64;
        let want = (end - at).min(fits) as usize * RUN_ENTRY_LEN;
        let part = chunk.get_mut(..want).ok_or(Damaged)?;
        let read = self.file.read_at(part, self.entry_place(at))?;
        if read == want { Ok(part) } else { Err(Damaged) }
    }

    /// Every entry, in order.
    pub(super) fn iter(&self) -> RunIter<'_> {
        RunIter { run: self, at: 0, chunk: vec![0; READ_ENTRIES * RUN_ENTRY_LEN], used: 0, filled: 0 }
    }
}

/// Reads a run from its first entry to its last.
pub(super) struct RunIter<'a> {
    run: &'a Run,
    at: u64,
    chunk: Vec<u8>,
    used: usize,
    filled: usize,
}

impl RunIter<'_> {
    /// The next entry, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Damaged> {
        if self.at == self.run.entries {
            return Ok(None);
        }
        if self.used == self.filled {
            self.filled = self.run.read(&mut self.chunk, self.at, self.run.entries)?.len();
            self.used = 0;
        }
        let bytes = self.chunk.get(self.used..self.used + RUN_ENTRY_LEN).ok_or(Damaged)?;
        let entry = Entry::decode(self.run.number, self.at, bytes).ok_or(Damaged)?;
        self.used += RUN_ENTRY_LEN;
        self.at += 1;
        Ok(Some(entry))
    }
}

fn encode_head(number: u32, entries: u64, buckets: u64) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN - 4];
    let parts = [
        &MAGIC[..],
        &[VERSION],
        &number.to_le_bytes(),
        &[0; 4],
        &entries.to_le_bytes(),
        &buckets.to_le_bytes(),
    ];
    head.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
    sealed(&head, number, 0)
}

fn decode_head(number: u32, bytes: &[u8]) -> Option<(u64, u64)> {
    let mut rest = unseal(bytes, number, 0)?;
    let is_ours = take::<7>(&mut rest)? == MAGIC && matches!(take::<1>(&mut rest)?, [1..=VERSION]);
    let is_ours = is_ours && u32::from_le_bytes(take(&mut rest)?) == number;
    take::<4>(&mut rest)?;
    let entries = u64::from_le_bytes(take(&mut rest)?);
    let buckets = u64::from_le_bytes(take(&mut rest)?);
    // Both fit where lines and checksums name them, so that no sum of places overflows.
    let is_sane = entries <= u32::MAX.into() && (1..=u32::MAX.into()).contains(&buckets);
    (is_ours && is_sane).then_some((entries, buckets))
}

/// Writes a run, entry by entry in its order.
pub(super) struct RunWriter<'a> {
    file: &'a dyn StorageFile,
    number: u32,
    buckets: u64,
    bucket: u64,
    line: Line,
    count: u64,
    lines: Section,
    entries: Section,
}

/// A stretch of the file that is written from its start.
struct Section {
    place: u64,
    buf: Vec<u8>,
}

impl Section {
    fn new(place: u64) -> Self {
        Self { place, buf: Vec::with_capacity(WRITE_BYTES + LINE_LEN) }
    }

    fn push(&mut self, file: &dyn StorageFile, bytes: &[u8]) -> io::Result<()> {
        self.buf.extend_from_slice(bytes);
        if self.buf.len() >= WRITE_BYTES { self.flush(file) } else { Ok(()) }
    }

    fn flush(&mut self, file: &dyn StorageFile) -> io::Result<()> {
        file.write_at(&self.buf, self.place)?;
        self.place += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}

impl<'a> RunWriter<'a> {
    /// A run of at most `entries_max` entries in an empty file.
    pub(super) fn new(file: &'a dyn StorageFile, number: u32, entries_max: u64) -> Self {
        let buckets = entries_max.div_ceil(BUCKET_ENTRIES).max(1);
        let entries = (HEAD_LEN as u64) + buckets * LINE_LEN as u64;
        Self {
            file,
            number,
            buckets,
            bucket: 0,
            line: Line::new(0),
            count: 0,
            lines: Section::new(HEAD_LEN as u64),
            entries: Section::new(entries),
        }
    }

    /// Adds an entry that comes after the last one.
    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let bucket = bucket_of(&entry.cid, self.buckets);
        debug_assert!(bucket >= self.bucket, "entries come in their order");
        self.close_lines(bucket)?;
        self.line.add(&entry.cid);
        self.entries.push(self.file, &entry.encode(self.number, self.count))?;
        self.count += 1;
        Ok(())
    }

    fn close_lines(&mut self, end: u64) -> io::Result<()> {
        while self.bucket < end {
            self.lines.push(self.file, &self.line.encode(self.number, self.bucket))?;
            self.bucket += 1;
            self.line = Line::new(self.count);
        }
        Ok(())
    }

    /// Writes what is left, and the header. The caller syncs the file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.close_lines(self.buckets)?;
        self.lines.flush(self.file)?;
        self.entries.flush(self.file)?;
        self.file.write_at(&encode_head(self.number, self.count, self.buckets), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{OpenMode, SimStorage, Storage};

    fn entry(i: u64) -> Entry {
        let cid = Cid::of_raw(&i.to_le_bytes());
        Entry {
            cid,
            pack: i as u32 % 7,
            start: i as u32 * 3,
            body: Body::new(i as usize % 1000, i.is_multiple_of(2)),
        }
    }

    fn sorted(count: u64) -> Vec<Entry> {
        let mut entries: Vec<Entry> = (0..count).map(entry).collect();
        entries.sort_unstable_by_key(Entry::key);
        entries
    }

    fn write(sim: &SimStorage, entries: &[Entry], entries_max: u64) {
        let file = sim.open("r", OpenMode::CreateNew).unwrap();
        let mut writer = RunWriter::new(&*file, 9, entries_max);
        entries.iter().for_each(|entry| writer.push(entry).unwrap());
        writer.finish().unwrap();
    }

    fn open(sim: &SimStorage) -> Result<Run, Damaged> {
        Run::open(sim.open("r", OpenMode::Read)?, 9)
    }

    #[test]
    fn what_is_in_a_run_is_found_and_nothing_else() {
        for (count, entries_max) in [(0, 0), (1, 1), (40, 40), (5000, 5000), (300, 3000)] {
            let sim = SimStorage::new(0);
            write(&sim, &sorted(count), entries_max);
            let run = open(&sim).unwrap();
            for i in 0..count {
                assert_eq!(run.find(&entry(i).cid), Ok(Some(entry(i))));
            }
            for i in count..count + 2000 {
                assert_eq!(run.find(&entry(i).cid), Ok(None));
            }
            let mut all = run.iter();
            for expected in sorted(count) {
                assert_eq!(all.next(), Ok(Some(expected)));
            }
            assert_eq!(all.next(), Ok(None));
        }
    }

    #[test]
    fn an_absent_object_costs_one_read() {
        let sim = SimStorage::new(0);
        write(&sim, &sorted(5000), 5000);
        let run = open(&sim).unwrap();
        let before = sim.op_count();
        for i in 5000..15_000 {
            assert_eq!(run.find(&entry(i).cid), Ok(None));
        }
        let reads = sim.op_count() - before;
        assert!(reads < 10_200, "{reads} reads for 10,000 objects that are not here");
    }

    /// A run that was changed says so, or is not asked for what was changed.
    fn survey(sim: &SimStorage, count: u64) {
        let Ok(run) = open(sim) else { return };
        for i in 0..count {
            let found = run.find(&entry(i).cid);
            assert!(found == Ok(Some(entry(i))) || found == Err(Damaged), "{i}: {found:?}");
        }
        let mut all = run.iter();
        while let Ok(Some(found)) = all.next() {
            assert!(sorted(count).contains(&found));
        }
    }

    #[test]
    fn a_changed_run_is_noticed() {
        const COUNT: u64 = 70;
        let sim = SimStorage::new(0);
        write(&sim, &sorted(COUNT), COUNT);
        let bytes = sim.peek("r").unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            sim.plant("r", &flipped);
            survey(&sim, COUNT);
            sim.plant("r", &bytes[..at]);
            assert_eq!(open(&sim).err(), Some(Damaged));
        }
    }

    #[test]
    fn any_bytes_with_a_checksum_are_survived() {
        for seed in 0..300 {
            let mut random = crate::storage::sim::Random::new(seed);
            let mut bytes: Vec<u8> = (0..64 + 64 + 48 * 3).map(|_| random.next() as u8).collect();
            let (entries, buckets) = if seed % 3 == 0 { (3, 1) } else { (random.next(), random.next()) };
            bytes[..64].copy_from_slice(&encode_head(9, entries, buckets));
            let line = Line {
                start: random.below(9) as u32,
                count: random.next() as u32,
                filter: [0xff; FILTER_LEN],
            };
            let line = if seed % 2 == 0 { Line { start: u32::MAX, ..line } } else { line };
            bytes[64..128].copy_from_slice(&line.encode(9, 0));
            let sim = SimStorage::new(0);
            sim.plant("r", &bytes);
            let Ok(run) = open(&sim) else { continue };
            assert_eq!(run.find(&entry(1).cid), Err(Damaged));
            assert_eq!(run.iter().next(), Err(Damaged));
        }
    }
}

//! One seed: a pager over a store on a simulated disk, over a remote tier, against maps of pages; and objects in the same
//! store beside it, small, large and in chunks, while it is collected and scrubbed.
//!
//! What is checked:
//! - a read gives the bytes of the map, or an error; never others;
//! - without a fault there is no error;
//! - a memory or an object that was committed is all there after the power went, if nothing on the disk rotted and the
//!   disk did not lie;
//! - if the remote tier keeps everything, it is all there whatever happened to the disk;
//! - equal contents have equal roots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use vac_core::cid::{Cid, Codec};
use vac_core::fault::{Error, Result as CoreResult};
use vac_core::limits::{MEMORY_PAGE_MIN_BYTES as PAGE, STORE_LARGE_MIN_BYTES};
use vac_core::memory::policy::PolicyKind;
use vac_core::memory::{
    Advice, BLAKE3_STREAM, Backing, Chain, Io, Keeps, La128, Pager, Settings, Space, Tier, made_page,
    verify_page,
};
use vac_core::storage::SimStorage;
use vac_core::store::Store;

use super::random::Random;
use super::remote::Remote;
use crate::repo::Result;

const STEPS: u64 = 40;
const SPACES_MAX: usize = 3;
/// The shard that has a generator behind it.
const MADE: u64 = 1;
/// The shard that has an object behind it, from page 1 on.
const OBJECT: u64 = 9;
const SHARDS: [u64; 4] = [0, MADE, 7, OBJECT];

/// Pages that are not what they would be unmapped.
type Contents = BTreeMap<(u64, u64), Vec<u8>>;

/// What happened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) seeds: u64,
    pub(super) steps: u64,
    pub(super) reads: u64,
    pub(super) commits: u64,
    pub(super) crashes: u64,
    pub(super) faults: u64,
    pub(super) rotten: u64,
    pub(super) repaired: u64,
    pub(super) lost: u64,
    pub(super) collections: u64,
    pub(super) scrubs: u64,
}

impl Tally {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            seeds: self.seeds + other.seeds,
            steps: self.steps + other.steps,
            reads: self.reads + other.reads,
            commits: self.commits + other.commits,
            crashes: self.crashes + other.crashes,
            faults: self.faults + other.faults,
            rotten: self.rotten + other.rotten,
            repaired: self.repaired + other.repaired,
            lost: self.lost + other.lost,
            collections: self.collections + other.collections,
            scrubs: self.scrubs + other.scrubs,
        }
    }
}

pub(super) struct World {
    random: Random,
    disk: SimStorage,
    remote: Arc<Remote>,
    keeps: Keeps,
    store: Arc<Store>,
    chain: Arc<Chain>,
    pager: Pager,
    spaces: Vec<(Space, Contents)>,
    /// Roots that were acknowledged.
    committed: BTreeMap<Cid, Contents>,
    /// Objects in the store alone that were acknowledged, and not collected since.
    objects: BTreeMap<Cid, Vec<u8>>,
    policy: PolicyKind,
    /// Whether an error would be no surprise.
    may_fail: bool,
    /// Whether bytes on the disk changed by themselves, or it lied about them.
    is_rotten: bool,
    tally: Tally,
}

fn backing() -> Backing {
    Backing::Generator { name: BLAKE3_STREAM.to_owned(), seed: [5; 32] }
}

/// Not whole pages.
static OBJECT_BYTES: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..3 * PAGE + 99).map(|i| (i / 3) as u8).collect());

/// So many that the store keeps them in a file of their own, or in chunks.
static LARGE_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..STORE_LARGE_MIN_BYTES + 5000).map(|_| random.below(256) as u8).collect()
});

fn unmapped(shard: u64, page: u64) -> Vec<u8> {
    if shard == OBJECT {
        let nth = usize::try_from(page.wrapping_sub(1)).unwrap_or(usize::MAX);
        let mut bytes = OBJECT_BYTES.chunks(PAGE).nth(nth).unwrap_or_default().to_vec();
        bytes.resize(PAGE, 0);
        return bytes;
    }
    let backing = if shard == MADE { backing() } else { Backing::Zeros };
    made_page(&backing, page, PAGE).unwrap_or_default()
}

fn page_of(contents: &Contents, shard: u64, page: u64) -> Vec<u8> {
    contents.get(&(shard, page)).cloned().unwrap_or_else(|| unmapped(shard, page))
}

fn read_model(contents: &Contents, at: La128, len: usize) -> Vec<u8> {
    let (first, skip) = (at.offset / PAGE as u64, (at.offset % PAGE as u64) as usize);
    let pages = (skip + len).div_ceil(PAGE) as u64;
    let bytes: Vec<u8> = (first..first + pages).flat_map(|page| page_of(contents, at.shard, page)).collect();
    bytes.get(skip..skip + len).unwrap_or_default().to_vec()
}

fn write_model(contents: &mut Contents, at: La128, bytes: &[u8]) {
    let (mut offset, mut rest) = (at.offset, bytes);
    while !rest.is_empty() {
        let (page, skip) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        let (now, later) = rest.split_at((PAGE - skip).min(rest.len()));
        let it = contents.entry((at.shard, page)).or_insert_with(|| unmapped(at.shard, page));
        if let Some(to) = it.get_mut(skip..skip + now.len()) {
            to.copy_from_slice(now);
        }
        if *it == unmapped(at.shard, page) {
            contents.remove(&(at.shard, page));
        }
        (offset, rest) = (offset + now.len() as u64, later);
    }
}

fn text(why: impl std::fmt::Display) -> String {
    why.to_string()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = SimStorage::new(seed);
        let remote = Arc::new(Remote::new(!seed, [0, 0, 3, 10][random.below(4) as usize]));
        let keeps = [Keeps::Always, Keeps::WhenItCan, Keeps::Never][random.below(3) as usize];
        let policy = PolicyKind::ALL[random.below(4) as usize];
        let (store, chain, pager) = open(&disk, &remote, keeps, policy, 2 + random.below(30) as usize)
            .unwrap_or_else(|why| panic!("an empty disk can be used: {why}"));
        let (spaces, committed) = (Vec::new(), BTreeMap::new());
        let tally = Tally { seeds: 1, ..Tally::default() };
        // Committing fails when the remote tier does.
        let may_fail = keeps == Keeps::Always;
        let mut world = Self {
            random,
            disk,
            remote,
            keeps,
            store,
            chain,
            pager,
            spaces,
            committed,
            objects: BTreeMap::new(),
            policy,
            may_fail,
            is_rotten: false,
            tally,
        };
        world.begin_space();
        world
    }

    pub(super) fn run(mut self) -> Result<Tally> {
        for _ in 0..STEPS {
            self.tally.steps += 1;
            let which = self.random.below(self.spaces.len() as u64) as usize;
            match self.step(which)? {
                Ok(()) => {}
                Err(why) => {
                    self.expect_error(&why)?;
                    self.cut_power()?;
                }
            }
        }
        self.cut_power()?;
        self.remote.heal();
        self.check_committed()?;
        self.check_objects()?;
        self.note_repairs();
        self.tally.faults += self.remote.faults();
        Ok(self.tally)
    }

    /// An error that nothing can have caused is one of the program.
    fn expect_error(&mut self, why: &Error) -> Result<()> {
        let is_lost = matches!(why, Error::Corrupt(_));
        self.tally.lost += u64::from(is_lost);
        match is_lost {
            true if !self.is_rotten => Err(format!("a failing disk is not corruption: {why}")),
            false if !self.may_fail && !self.is_rotten => Err(format!("nothing was made to fail: {why}")),
            _ => Ok(()),
        }
    }

    /// The outer error is a wrong answer, the inner one a refused request.
    fn step(&mut self, which: usize) -> Result<CoreResult<()>> {
        match self.random.below(32) {
            0..=6 => Ok(self.write(which)),
            7..=10 => self.read(which),
            11 => self.read_in_order(which),
            12 => Ok(self.fill(which)),
            13 => Ok(self.copy(which)),
            14 => self.snapshot(which).map(Ok),
            15..=17 => self.commit(which),
            18 => Ok(self.pin(which)),
            19 => Ok(self.advise(which)),
            20 => self.prove(),
            21 => self.fail_something().map(Ok),
            22 => self.rot().map(Ok),
            23 if self.random.is_one_in(4) => self.cut_power().map(Ok),
            25 | 26 => Ok(self.put_object()),
            27 => self.get_object(),
            28 => Ok(self.collect()),
            29 => self.scrub(),
            30 => self.lie().map(Ok),
            _ => self.read(which),
        }
    }

    fn address(&mut self) -> La128 {
        let shard = SHARDS[self.random.below(4) as usize];
        let page = match self.random.below(4) {
            0 => self.random.below(4),
            1 => self.random.below(40),
            2 => self.random.below(6) << (8 * self.random.below(6)),
            _ => 0xff_ffff + self.random.below(3),
        };
        La128 { shard, offset: page * PAGE as u64 + self.random.below(PAGE as u64) }
    }

    fn len(&mut self) -> usize {
        match self.random.below(4) {
            0 => self.random.below(9) as usize,
            1 => self.random.below(4 * PAGE as u64) as usize,
            _ => self.random.below(PAGE as u64) as usize,
        }
    }

    fn write(&mut self, which: usize) -> CoreResult<()> {
        let (at, len, kind) = (self.address(), self.len(), self.random.below(3));
        // Few values, so that pages become equal and go back to what they were.
        let bytes: Vec<u8> = (0..len).map(|i| if kind == 2 { i as u8 } else { kind as u8 }).collect();
        let Some((space, contents)) = self.spaces.get_mut(which) else { return Ok(()) };
        self.pager.write(space, at, &bytes)?;
        write_model(contents, at, &bytes);
        Ok(())
    }

    fn fill(&mut self, which: usize) -> CoreResult<()> {
        let (at, len, byte) = (self.address(), self.len(), self.random.below(2) as u8);
        let Some((space, contents)) = self.spaces.get_mut(which) else { return Ok(()) };
        self.pager.fill(space, at, len as u64, byte)?;
        write_model(contents, at, &vec![byte; len]);
        Ok(())
    }

    fn copy(&mut self, which: usize) -> CoreResult<()> {
        let (mut from, mut to, mut len) = (self.address(), self.address(), self.len());
        if self.random.is_one_in(2) {
            let whole = |n: u64| n - n % PAGE as u64;
            (from.offset, to.offset, len) =
                (whole(from.offset), whole(to.offset), len.next_multiple_of(PAGE));
        }
        let Some((space, contents)) = self.spaces.get_mut(which) else { return Ok(()) };
        self.pager.copy(space, from, to, len as u64)?;
        let bytes = read_model(contents, from, len);
        write_model(contents, to, &bytes);
        Ok(())
    }

    fn read(&mut self, which: usize) -> Result<CoreResult<()>> {
        let (at, len) = (self.address(), self.len());
        self.read_at(which, at, len)
    }

    fn read_at(&mut self, which: usize, at: La128, len: usize) -> Result<CoreResult<()>> {
        let Some((space, contents)) = self.spaces.get_mut(which) else { return Ok(Ok(())) };
        let mut bytes = vec![0xee; len];
        if let Err(why) = self.pager.read(space, at, &mut bytes) {
            return Ok(Err(why));
        }
        self.tally.reads += 1;
        match bytes == read_model(contents, at, len) {
            true => Ok(Ok(())),
            false => Err(format!("wrong bytes at {at:?}, {len} long")),
        }
    }

    /// As what is read ahead is for.
    fn read_in_order(&mut self, which: usize) -> Result<CoreResult<()>> {
        let step = PAGE as u64 * (1 + self.random.below(3));
        let shard = SHARDS[self.random.below(4) as usize];
        for n in 0..8 {
            if let Err(why) = self.read_at(which, La128 { shard, offset: n * step }, 100)? {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }

    fn snapshot(&mut self, which: usize) -> Result<()> {
        if self.spaces.len() >= SPACES_MAX {
            let (space, _) = self.spaces.swap_remove(which);
            self.pager.close(space);
        } else if let Some((space, contents)) = self.spaces.get_mut(which) {
            let other = (self.pager.snapshot(space), contents.clone());
            self.spaces.push(other);
        }
        Ok(())
    }

    fn commit(&mut self, which: usize) -> Result<CoreResult<()>> {
        let Some((space, contents)) = self.spaces.get_mut(which) else { return Ok(Ok(())) };
        let root = match self.pager.commit(space) {
            Ok(root) => root,
            Err(why) => return Ok(Err(why)),
        };
        self.tally.commits += 1;
        for (other, known) in &self.committed {
            if (*other == root) != (known == contents) {
                return Err(format!("equal roots and equal contents are one: {other}, {root}"));
            }
        }
        self.committed.insert(root, contents.clone());
        Ok(Ok(()))
    }

    fn pin(&mut self, which: usize) -> CoreResult<()> {
        let at = self.address();
        let Some((space, _)) = self.spaces.get_mut(which) else { return Ok(()) };
        self.pager.pin(space, at, 1)?;
        let mut byte = [0];
        self.pager.read(space, at, &mut byte)?;
        self.pager.write(space, at, &byte)?;
        self.pager.unpin(space, at, 1)
    }

    fn advise(&mut self, which: usize) -> CoreResult<()> {
        let all = [Advice::WillNeed, Advice::DontNeed, Advice::Sequential, Advice::Random, Advice::Normal];
        let (at, len, advice) = (self.address(), self.len(), all[self.random.below(5) as usize]);
        let Some((space, _)) = self.spaces.get_mut(which) else { return Ok(()) };
        self.pager.advise(space, at, len as u64, advice)
    }

    /// A proof of a page of a memory that was committed says what its map has.
    fn prove(&mut self) -> Result<CoreResult<()>> {
        let nth = self.random.below(self.committed.len() as u64) as usize;
        let at = self.address();
        let Some((root, contents)) = self.committed.iter().nth(nth) else { return Ok(Ok(())) };
        let page = at.offset / PAGE as u64;
        if at.shard == OBJECT && !contents.contains_key(&(OBJECT, page)) {
            // A proof says which object, and not what is in it.
            return Ok(Ok(()));
        }
        let proof = match self.pager.prove(root, at.shard, page) {
            Ok(proof) => proof,
            Err(why) => return Ok(Err(why)),
        };
        let proven = verify_page(root, at.shard, page, &proof).map_err(text)?;
        match proven.holds(&page_of(contents, at.shard, page)) {
            true => Ok(Ok(())),
            false => Err(format!("page {page} of shard {} is proven to be another", at.shard)),
        }
    }

    fn fail_something(&mut self) -> Result<()> {
        let n = self.random.below(60);
        match self.random.below(5) {
            0 => self.disk.fail_op(n),
            1 => self.disk.halt_at(n),
            2 => self.disk.fail_sync(n / 10),
            3 => self.disk.set_capacity(Some(self.disk.used() + n * 300)),
            _ => return Ok(()),
        }
        self.tally.faults += 1;
        self.may_fail = true;
        Ok(())
    }

    /// An object beside the memories, in the form that the draw says.
    fn put_object(&mut self) -> CoreResult<()> {
        let mut bytes: Vec<u8> = if self.random.is_one_in(6) {
            LARGE_BYTES.clone()
        } else {
            (0..1 + self.random.below(3000)).map(|_| self.random.below(256) as u8).collect()
        };
        // Another version of it, so that chunks are shared.
        let at = self.random.below(bytes.len() as u64) as usize;
        bytes.insert(at, self.random.below(4) as u8);
        let (mut from, len) = (bytes.as_slice(), bytes.len() as u64);
        let cid = match self.random.below(3) {
            0 => self.store.put(Codec::Raw, &bytes)?,
            1 => self.store.put_stream(Codec::Raw, &mut from, len)?.0,
            _ => self.store.put_chunked(Codec::Raw, &mut from, len)?.0,
        };
        self.store.commit()?;
        self.objects.insert(cid, bytes);
        Ok(())
    }

    fn get_object(&mut self) -> Result<CoreResult<()>> {
        let nth = self.random.below(self.objects.len() as u64) as usize;
        let Some((cid, bytes)) = self.objects.iter().nth(nth) else { return Ok(Ok(())) };
        match self.store.get(cid) {
            Ok(Some(got)) if got == *bytes => self.tally.reads += 1,
            Ok(Some(_)) => return Err(format!("wrong bytes of the object {cid}")),
            Ok(None) if self.is_rotten => self.tally.lost += 1,
            Ok(None) => return Err(format!("the object {cid} is gone")),
            Err(why) => return Ok(Err(why)),
        }
        Ok(Ok(()))
    }

    /// Some of the objects are garbage; all else that is in the store lives. What rotted may not be listed, and would be
    /// taken for garbage before the remote tier has it.
    fn collect(&mut self) -> CoreResult<()> {
        if self.is_rotten {
            return Ok(());
        }
        let collection = self.store.begin_gc()?;
        let mut live: BTreeSet<Cid> = self.store.list()?.into_iter().map(|(cid, _)| cid).collect();
        self.objects.retain(|cid, _| {
            let lives = !self.random.is_one_in(2);
            lives || !live.remove(cid)
        });
        collection.collect(&live)?;
        self.tally.collections += 1;
        Ok(())
    }

    /// What is bad is named, and mended from the remote tier if that has it.
    fn scrub(&mut self) -> Result<CoreResult<()>> {
        let (store, remote) = (Arc::clone(&self.store), Arc::clone(&self.remote));
        let report = match store.scrub(1 + self.random.below(200_000), &|cid| remote.get(cid, usize::MAX)) {
            Ok(report) => report,
            Err(why) => return Ok(Err(why)),
        };
        self.tally.scrubs += 1;
        self.tally.repaired += report.mended.len() as u64;
        // What cannot be read just then is named as well.
        match report.corrupt.first() {
            Some(why) if !self.is_rotten && !self.may_fail => Err(format!("nothing rotted: {why}")),
            _ => Ok(Ok(())),
        }
    }

    /// The disk says that things are durable which are not, or writes to another file.
    fn lie(&mut self) -> Result<()> {
        // As in [`Self::rot`].
        if !self.is_rotten && self.random.is_one_in(2) {
            return Ok(());
        }
        (self.is_rotten, self.tally.rotten) = (true, self.tally.rotten + 1);
        match self.random.is_one_in(2) {
            true => self.disk.lie_about_syncs(1 + self.random.below(3)),
            false => self.disk.misdirect_write(self.random.below(30)),
        }
        Ok(())
    }

    /// Bytes on the disk change: a bit, or a sector that was written to another place.
    fn rot(&mut self) -> Result<()> {
        let paths = self.disk.paths();
        let nth = self.random.below(paths.len() as u64) as usize;
        let Some((path, bytes)) = paths.get(nth).and_then(|path| Some((path, self.disk.peek(path)?))) else {
            return Ok(());
        };
        // Only in half of the seeds, so that the others show what a disk that keeps its bytes must keep.
        if bytes.is_empty() || (!self.is_rotten && self.random.is_one_in(2)) {
            return Ok(());
        }
        (self.is_rotten, self.tally.rotten) = (true, self.tally.rotten + 1);
        let len = bytes.len() as u64;
        let (from, to) = (self.random.below(len), self.random.below(len));
        if self.random.is_one_in(2) {
            self.disk.flip_bit(path, to, self.random.below(8) as u8);
            return Ok(());
        }
        let byte = |at: u64| bytes.get(at as usize).copied().unwrap_or_default();
        for i in 0..512.min(len - from.max(to)) {
            let differ = byte(from + i) ^ byte(to + i);
            for bit in (0..8).filter(|bit| differ & (1 << bit) != 0) {
                self.disk.flip_bit(path, to + i, bit);
            }
        }
        Ok(())
    }

    /// The power goes and comes back.
    fn cut_power(&mut self) -> Result<()> {
        self.tally.crashes += 1;
        self.note_repairs();
        self.disk.crash();
        self.disk.set_capacity(None);
        self.may_fail = self.keeps == Keeps::Always;
        self.spaces.clear();
        let frames = 2 + self.random.below(30) as usize;
        (self.store, self.chain, self.pager) =
            open(&self.disk, &self.remote, self.keeps, self.policy, frames).map_err(text)?;
        let committed: Vec<(Cid, Contents)> = self.committed.iter().map(|(a, b)| (*a, b.clone())).collect();
        let first = self.random.below(committed.len() as u64) as usize;
        for (root, contents) in committed.into_iter().skip(first).take(SPACES_MAX - 1) {
            match self.pager.open(&root) {
                Ok(space) => self.spaces.push((space, contents)),
                Err(why) => self.expect_error(&why)?,
            }
        }
        self.begin_space();
        Ok(())
    }

    fn begin_space(&mut self) {
        let mut space = self.pager.space();
        let bytes = &*OBJECT_BYTES;
        let cid = Cid::of_raw(bytes);
        let object = Backing::Object { cid, first: 1, len: bytes.len() as u64 };
        // Only a shard with pages refuses a backing; a disk that rotted may refuse the object.
        let is_put = self.chain.put(&cid, bytes).is_ok();
        let is_set = space.set_backing(MADE, backing()).is_ok() && space.set_backing(OBJECT, object).is_ok();
        if is_put && is_set {
            self.spaces.push((space, Contents::new()));
        }
    }

    /// All that was acknowledged is there, or what is not is named.
    fn check_committed(&mut self) -> Result<()> {
        let must_be_whole = self.keeps == Keeps::Always || !self.is_rotten;
        for (root, contents) in std::mem::take(&mut self.committed) {
            let mut space = match self.pager.open(&root) {
                Ok(space) => space,
                Err(why) if must_be_whole => return Err(format!("a committed memory is lost: {why}")),
                Err(why) => {
                    self.expect_error(&why)?;
                    continue;
                }
            };
            for (&(shard, page), bytes) in &contents {
                let mut got = vec![0; PAGE];
                match self.pager.read(&mut space, La128 { shard, offset: page * PAGE as u64 }, &mut got) {
                    Ok(()) if got == *bytes => self.tally.reads += 1,
                    Ok(()) => return Err(format!("wrong bytes in page {page} of shard {shard} after all")),
                    Err(why) if must_be_whole => return Err(format!("a committed page is lost: {why}")),
                    Err(why) => self.expect_error(&why)?,
                }
            }
        }
        Ok(())
    }

    /// The same of the objects beside them, which the remote tier does not have.
    fn check_objects(&mut self) -> Result<()> {
        for (cid, bytes) in &self.objects {
            match self.store.get(cid) {
                Ok(Some(got)) if got == *bytes => self.tally.reads += 1,
                Ok(Some(_)) => return Err(format!("wrong bytes of the object {cid} after all")),
                Ok(None) | Err(Error::Corrupt(_)) if self.is_rotten => self.tally.lost += 1,
                Ok(None) => return Err(format!("a committed object is gone: {cid}")),
                Err(why) => return Err(format!("a committed object is lost: {why}")),
            }
        }
        Ok(())
    }

    fn note_repairs(&mut self) {
        self.tally.repaired += self.chain.stats().first().map_or(0, |stats| stats.repaired);
    }
}

fn open(
    disk: &SimStorage,
    remote: &Arc<Remote>,
    keeps: Keeps,
    policy: PolicyKind,
    frames: usize,
) -> CoreResult<(Arc<Store>, Arc<Chain>, Pager)> {
    let store = Arc::new(Store::open(Arc::new(disk.clone()), "store")?);
    let chain = Arc::new(Chain::new(Arc::clone(&store) as Arc<_>).and(Arc::clone(remote) as Arc<_>, keeps));
    let settings = Settings {
        page_len: PAGE,
        budget_bytes: PAGE * frames,
        // A few nodes, so that they are dropped and read again, and spilled.
        nodes_bytes: 4000,
        policy,
        // One order of requests to the disk, so that a seed is one run.
        io: Io::Caller,
        ..Settings::default()
    };
    let pager = Pager::new(Arc::clone(&chain) as Arc<_>, settings)?;
    Ok((store, chain, pager))
}

//! One seed drives operations, faults and power cuts against a map of bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cid::Cid;
use crate::fault::{Error, Result};
use crate::limits::MEMORY_PAGE_MIN_BYTES as PAGE;
use crate::memory::policy::PolicyKind;
use crate::memory::{
    Advice, BLAKE3_STREAM, Backing, Blake3Stream, Generator, Io, La128, Pager, Settings, Space, verify_page,
};
use crate::storage::SimStorage;
use crate::storage::sim::Random;
use crate::store::Store;

/// Shard 1 has a generator behind it, the others zeros.
const MADE: u64 = 1;
const SEED: [u8; 32] = [9; 32];
const SPACES_MAX: usize = 4;

/// What a space should hold: pages that are not what they would be unmapped.
type Contents = BTreeMap<(u64, u64), Vec<u8>>;

fn default_page(shard: u64, page: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    if shard == MADE {
        Blake3Stream.fill(&SEED, page, &mut bytes);
    }
    bytes
}

fn page_of(contents: &Contents, shard: u64, page: u64) -> Vec<u8> {
    contents.get(&(shard, page)).cloned().unwrap_or_else(|| default_page(shard, page))
}

fn read_model(contents: &Contents, at: La128, len: usize) -> Vec<u8> {
    let first = at.offset / PAGE as u64;
    let last = (at.offset + len as u64) / PAGE as u64;
    let bytes: Vec<u8> = (first..=last).flat_map(|page| page_of(contents, at.shard, page)).collect();
    let skip = (at.offset % PAGE as u64) as usize;
    bytes[skip..skip + len].to_vec()
}

fn write_model(contents: &mut Contents, at: La128, bytes: &[u8]) {
    for (i, byte) in bytes.iter().enumerate() {
        let offset = at.offset + i as u64;
        let key = (at.shard, offset / PAGE as u64);
        let page = contents.entry(key).or_insert_with(|| default_page(key.0, key.1));
        page[(offset % PAGE as u64) as usize] = *byte;
    }
    let last = (at.offset + bytes.len() as u64) / PAGE as u64;
    for page in at.offset / PAGE as u64..=last {
        if contents.get(&(at.shard, page)).is_some_and(|it| *it == default_page(at.shard, page)) {
            contents.remove(&(at.shard, page));
        }
    }
}

struct Model {
    random: Random,
    sim: SimStorage,
    pager: Pager,
    spaces: Vec<(Space, Contents)>,
    /// Roots that were acknowledged.
    committed: BTreeMap<Cid, Contents>,
    /// Whether a fault was set up.
    may_fail: bool,
    policy: PolicyKind,
    io: Io,
}

/// Every fourth seed with another thread, which then fails at other places each time it runs.
fn open(sim: &SimStorage, policy: PolicyKind, frames: usize, io: Io) -> Result<Pager> {
    let store = Arc::new(Store::open(Arc::new(sim.clone()), "store")?);
    Pager::new(
        store,
        Settings {
            page_len: PAGE,
            budget_bytes: PAGE * frames,
            // A few nodes, so that they are dropped and read again, and spilled.
            nodes_bytes: 4000,
            policy,
            io,
            threads: 2,
            ..Settings::default()
        },
    )
}

fn new_space(pager: &mut Pager) -> Space {
    let mut space = pager.space();
    let backing = Backing::Generator { name: BLAKE3_STREAM.to_owned(), seed: SEED };
    space.set_backing(MADE, backing).unwrap();
    space
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let policy = PolicyKind::ALL[random.below(4) as usize];
        let sim = SimStorage::new(seed);
        let io = if seed % 4 == 3 { Io::Threads } else { Io::Caller };
        let mut pager = open(&sim, policy, 2 + random.below(24) as usize, io).unwrap();
        let space = new_space(&mut pager);
        let spaces = vec![(space, Contents::new())];
        Self { random, sim, pager, spaces, committed: BTreeMap::new(), may_fail: false, policy, io }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            let which = self.random.below(self.spaces.len() as u64) as usize;
            let done = self.step(which);
            if let Err(why) = done {
                assert!(self.may_fail, "nothing was made to fail: {why}");
                assert!(matches!(why, Error::Abort(_)), "a failing disk is not corruption: {why}");
                self.cut_power();
            }
        }
        self.check_all();
        self.cut_power();
        self.check_all();
    }

    fn step(&mut self, which: usize) -> Result<()> {
        match self.random.below(24) {
            0..=6 => self.write(which),
            7..=11 => self.read(which),
            12 => self.fill(which),
            13 | 14 => self.copy(which),
            15 | 16 => self.snapshot(which),
            17 | 18 => self.commit(which),
            19 => self.pin(which),
            20 => self.advise(which),
            21 => self.compare(),
            22 if self.random.below(3) == 0 => {
                let n = self.random.below(60);
                match self.random.below(3) {
                    0 => self.sim.fail_op(n),
                    1 => self.sim.halt_at(n),
                    _ => self.sim.fail_sync(n / 10),
                }
                self.may_fail = true;
                Ok(())
            }
            23 if self.random.below(6) == 0 => {
                self.cut_power();
                Ok(())
            }
            22 | 23 => self.read_in_order(which),
            _ => self.read(which),
        }
    }

    /// Pages close together and far apart, so that the map is shallow and deep.
    fn address(&mut self) -> La128 {
        let shard = [0, MADE, 7][self.random.below(3) as usize];
        let page = match self.random.below(4) {
            0 => self.random.below(4),
            1 => self.random.below(600),
            2 => self.random.below(6) << (8 * self.random.below(6)),
            _ => 0xff_ffff + self.random.below(3),
        };
        La128 { shard, offset: page * PAGE as u64 + self.random.below(PAGE as u64) }
    }

    fn len(&mut self) -> usize {
        match self.random.below(3) {
            0 => self.random.below(9) as usize,
            1 => self.random.below(PAGE as u64) as usize,
            _ => self.random.below(3 * PAGE as u64) as usize,
        }
    }

    fn write(&mut self, which: usize) -> Result<()> {
        let (mut at, mut len) = (self.address(), self.len());
        let is_through = self.random.below(3) == 0;
        if is_through && self.random.below(2) == 0 {
            at.offset -= at.offset % PAGE as u64;
            len += PAGE;
        }
        // Few values, so that pages become equal and go back to what they were.
        let byte = self.random.below(3) as u8;
        let bytes: Vec<u8> = (0..len).map(|i| if byte == 2 { i as u8 } else { 0 }).collect();
        let (space, contents) = &mut self.spaces[which];
        match is_through {
            true => self.pager.write_through(space, at, &bytes).map(drop)?,
            false => self.pager.write(space, at, &bytes)?,
        }
        write_model(contents, at, &bytes);
        Ok(())
    }

    fn fill(&mut self, which: usize) -> Result<()> {
        let (at, len, byte) = (self.address(), self.len(), self.random.below(2) as u8);
        let (space, contents) = &mut self.spaces[which];
        self.pager.fill(space, at, len as u64, byte)?;
        write_model(contents, at, &vec![byte; len]);
        Ok(())
    }

    fn copy(&mut self, which: usize) -> Result<()> {
        let (mut from, mut to, mut len) = (self.address(), self.address(), self.len());
        if self.random.below(2) == 0 {
            to = La128 { offset: from.offset + self.random.below(2 * PAGE as u64), ..from };
        }
        if self.random.below(3) == 0 {
            (to, to.shard) = (from, [0, MADE][self.random.below(2) as usize]);
        }
        if self.random.below(2) == 0 {
            let whole = |n: u64| n - n % PAGE as u64;
            (from.offset, to.offset) = (whole(from.offset), whole(to.offset));
            len = (1 + len / PAGE) * PAGE;
        }
        let (space, contents) = &mut self.spaces[which];
        self.pager.copy(space, from, to, len as u64)?;
        let bytes = read_model(contents, from, len);
        write_model(contents, to, &bytes);
        Ok(())
    }

    fn read(&mut self, which: usize) -> Result<()> {
        let (mut at, mut len) = (self.address(), self.len());
        let is_through = self.random.below(4) == 0;
        if is_through {
            at.offset -= at.offset % PAGE as u64;
            len += PAGE;
        }
        let (space, contents) = &mut self.spaces[which];
        let mut bytes = vec![0xee; len];
        match is_through {
            true => self.pager.read_through(space, at, &mut bytes)?,
            false => self.pager.read(space, at, &mut bytes)?,
        }
        assert!(bytes == read_model(contents, at, len), "{at:?}, {len} bytes");
        Ok(())
    }

    /// Page after page, or every few pages, as what is read ahead is for; then several at once.
    fn read_in_order(&mut self, which: usize) -> Result<()> {
        let (mut at, step) = (self.address(), PAGE as u64 * (1 + self.random.below(3)));
        at.offset %= 600 * PAGE as u64;
        let (space, contents) = &mut self.spaces[which];
        let mut places = Vec::new();
        for _ in 0..10 {
            let mut bytes = [0xee; 40];
            self.pager.read(space, at, &mut bytes)?;
            assert!(bytes[..] == read_model(contents, at, 40), "{at:?}");
            places.push(at);
            at.offset += step;
        }
        let mut bytes = [[0xee; 40]; 10];
        let mut ranges: Vec<(La128, &mut [u8])> =
            places.iter().copied().zip(bytes.iter_mut().map(|it| &mut it[..])).collect();
        self.pager.read_vectored(space, &mut ranges)?;
        places.iter().zip(bytes).for_each(|(at, it)| assert!(it[..] == read_model(contents, *at, 40)));
        Ok(())
    }

    fn snapshot(&mut self, which: usize) -> Result<()> {
        if self.spaces.len() >= SPACES_MAX {
            self.spaces.swap_remove(which);
            return Ok(());
        }
        let (space, contents) = &mut self.spaces[which];
        let other = self.pager.snapshot(space);
        let contents = contents.clone();
        self.spaces.push((other, contents));
        Ok(())
    }

    fn commit(&mut self, which: usize) -> Result<()> {
        let (space, contents) = &mut self.spaces[which];
        let root = self.pager.commit(space)?;
        for (other, same) in &self.committed {
            assert_eq!(*other == root, same == contents, "equal contents and equal roots are one");
        }
        self.committed.insert(root, contents.clone());
        Ok(())
    }

    fn pin(&mut self, which: usize) -> Result<()> {
        let at = self.address();
        let (space, _) = &mut self.spaces[which];
        self.pager.pin(space, at, 1)?;
        let mut byte = [0];
        self.pager.read(space, at, &mut byte)?;
        self.pager.write(space, at, &byte)?;
        self.pager.unpin(space, at, 1)
    }

    fn advise(&mut self, which: usize) -> Result<()> {
        let (at, len) = (self.address(), self.len());
        let all = [Advice::WillNeed, Advice::DontNeed, Advice::Sequential, Advice::Random, Advice::Normal];
        let advice = all[self.random.below(5) as usize];
        self.pager.advise(&mut self.spaces[which].0, at, len as u64, advice)
    }

    /// Differences of two committed memories, and proofs of their pages.
    fn compare(&mut self) -> Result<()> {
        let nth = |model: &mut Self| {
            let n = model.random.below(model.committed.len() as u64) as usize;
            model.committed.iter().nth(n).map(|(root, contents)| (*root, contents.clone()))
        };
        let (Some((one, a)), Some((other, b))) = (nth(self), nth(self)) else { return Ok(()) };
        let (x, y) = (self.pager.open(&one)?, self.pager.open(&other)?);
        let ranges = self.pager.diff(&x, &y)?;
        let got: BTreeSet<(u64, u64)> =
            ranges.iter().flat_map(|it| (it.page..it.page + it.pages).map(|page| (it.shard, page))).collect();
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).copied().collect();
        let differs = |key: &(u64, u64)| page_of(&a, key.0, key.1) != page_of(&b, key.0, key.1);
        assert_eq!(got, keys.into_iter().filter(differs).collect());
        let La128 { shard, offset } = self.address();
        let page = offset / PAGE as u64;
        let proof = self.pager.prove(&one, shard, page)?;
        let proven = verify_page(&one, shard, page, &proof).unwrap();
        match a.get(&(shard, page)) {
            Some(bytes) => assert!(proven.holds(bytes) && !proven.holds(&default_page(shard, page))),
            None => assert!(proven.holds(&default_page(shard, page))),
        }
        assert_eq!(verify_page(&other, shard, page, &proof).is_ok(), one == other);
        Ok(())
    }

    /// The power goes and comes back: what was committed is there.
    fn cut_power(&mut self) {
        self.sim.crash();
        self.sim.clear_faults();
        self.may_fail = false;
        self.spaces.clear();
        let frames = 2 + self.random.below(24) as usize;
        self.pager = open(&self.sim, self.policy, frames, self.io).unwrap();
        for (root, contents) in self.committed.iter().take(SPACES_MAX - 1) {
            self.spaces.push((self.pager.open(root).unwrap(), contents.clone()));
        }
        self.spaces.push((new_space(&mut self.pager), Contents::new()));
    }

    fn check_all(&mut self) {
        self.sim.clear_faults();
        for (space, contents) in &mut self.spaces {
            for (&(shard, page), bytes) in contents.iter() {
                let mut got = vec![0; PAGE];
                let read = self.pager.read(space, La128 { shard, offset: page * PAGE as u64 }, &mut got);
                if self.may_fail && read.is_err() {
                    return;
                }
                assert!(got == *bytes, "shard {shard}, page {page}");
            }
        }
    }
}

#[test]
fn seeds() {
    for seed in 0..300 {
        let run = || Model::new(seed).run(150);
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

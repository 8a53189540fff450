//! Random calls with numbers from all edges, against a map of bytes.

use std::collections::BTreeMap;

use vac_core::memory::{Settings, Tier};

use super::*;

const PAGE: u64 = 4096;

/// Objects in memory.
#[derive(Default)]
struct Objects(Mutex<BTreeMap<Cid, Vec<u8>>>);

impl Tier for Objects {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let objects = self.0.lock().unwrap();
        Ok(objects.get(cid).map(|bytes| to.copy_from_slice(bytes)).is_some())
    }
    fn get(&self, cid: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(cid).cloned())
    }
    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.0.lock().unwrap().insert(*cid, bytes.to_vec());
        Ok(())
    }
    fn commit(&self) -> Result<()> {
        Ok(())
    }
}

/// Remembers the name's root.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Cid>>>);

impl Keeper for Kept {
    fn keep(&mut self, root: &Cid) -> Result<()> {
        *self.0.lock().unwrap() = Some(*root);
        Ok(())
    }
}

fn most(mapped: u64) -> Most {
    Most { mapped, dirty: u64::MAX, io_bytes: u64::MAX }
}

fn memory(first: u64, last: u64, pages_max: u64, kept: &Kept, budget_pages: usize) -> Memory {
    memory_of(first, last, most(pages_max), kept, budget_pages)
}

fn memory_of(first: u64, last: u64, most: Most, kept: &Kept, budget_pages: usize) -> Memory {
    let budget_bytes = budget_pages * PAGE as usize;
    let settings = Settings { page_len: PAGE as usize, budget_bytes, ..Settings::default() };
    let mut pager = Pager::new(Arc::new(Objects::default()), settings).unwrap();
    let mut space = pager.space();
    let root = pager.commit(&mut space).unwrap();
    let shared = Shared::new(pager, space, root, Box::new(kept.clone()), most);
    let rights = Rights::READ.or(Rights::WRITE);
    Memory { guest: "m".into(), first, last, rights, grant: 0, shared: Arc::new(Mutex::new(shared)) }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }
    fn below(&mut self, max: u64) -> u64 {
        self.next() % max
    }
    /// Mostly near an end of a page, of a shard, or of all numbers.
    fn edge(&mut self) -> u64 {
        let base = [0, PAGE, 3 * PAGE, u64::MAX, u64::MAX - PAGE, 1 << 63];
        base[self.below(6) as usize].wrapping_add(self.below(9)).wrapping_sub(4)
    }
    fn at(&mut self) -> (u64, u64) {
        let shard = [0, 0, 1, 2, u64::MAX];
        (shard[self.below(5) as usize], self.edge())
    }
    fn len(&mut self) -> u64 {
        match self.below(8) {
            0 => self.edge(),
            1 => 2 * PAGE,
            2 => PAGE,
            _ => self.below(40),
        }
    }
}

type Bytes = BTreeMap<(u64, u64), u8>;

fn model_at(model: &Bytes, (shard, offset): (u64, u64), i: u64) -> u8 {
    model.get(&(shard, offset.wrapping_add(i))).copied().unwrap_or_default()
}

/// What a range of two shards allows, said in another way: in 128 bits.
fn is_inside((shard, offset): (u64, u64), len: u64) -> bool {
    shard < 2 && u128::from(offset) + u128::from(len) <= 1 << 64
}

fn go_on() -> Result<()> {
    Ok(())
}

fn one_call(random: &mut Random, view: &mut View, model: &mut Bytes) {
    let (at, to, len, byte) = (random.at(), random.at(), random.len(), random.next() as u8);
    let small = len.min(3 * PAGE);
    match random.below(6) {
        0 | 1 => {
            let expected = if is_inside(at, small) { Ok(()) } else { Err(Refused::OutOfRange) };
            let mut bytes = vec![0xee; small as usize];
            assert_eq!(view.can_read(at, bytes.len()), expected, "{at:?} {small}");
            assert_eq!(view.read(at, &mut bytes).unwrap(), expected);
            if expected.is_ok() {
                assert!((0..).zip(&bytes).all(|(i, byte)| *byte == model_at(model, at, i)), "{at:?} {small}");
            }
        }
        2 => {
            let bytes: Vec<u8> = (0..small).map(|i| byte.wrapping_add(i as u8)).collect();
            if view.write(at, &bytes).unwrap().is_ok() {
                assert!(is_inside(at, small));
                model.extend((0..).zip(&bytes).map(|(i, byte)| ((at.0, at.1.wrapping_add(i)), *byte)));
            } else {
                assert!(!is_inside(at, small));
            }
        }
        3 => match view.fill(at, len, byte, &go_on).unwrap() {
            Ok(()) => {
                assert!(is_inside(at, len));
                model.extend((0..len).map(|i| ((at.0, at.1.wrapping_add(i)), byte)));
            }
            Err(Refused::TooLarge) => assert!(is_inside(at, len) && len > 1 << 27),
            Err(refused) => assert!(refused == Refused::OutOfRange && !is_inside(at, len)),
        },
        4 => match view.copy(at, to, len, &go_on).unwrap() {
            Ok(()) => {
                assert!(is_inside(at, len) && is_inside(to, len));
                let bytes: Vec<u8> = (0..len).map(|i| model_at(model, at, i)).collect();
                model.extend((0..).zip(bytes).map(|(i, byte)| ((to.0, to.1.wrapping_add(i)), byte)));
            }
            Err(Refused::TooLarge) => assert!(len > 1 << 27),
            Err(refused) => assert!(
                refused == Refused::OutOfRange && !(is_inside(at, len) && is_inside(to, len)),
                "{at:?} {to:?} {len}"
            ),
        },
        _ => {
            let hint = [Advice::WillNeed, Advice::DontNeed, Advice::Sequential, Advice::Random]
                [random.below(4) as usize];
            assert_eq!(view.advise(at, len, hint).unwrap().is_ok(), is_inside(at, len));
        }
    }
}

#[test]
fn any_calls_with_any_numbers_do_what_a_map_does() {
    for seed in 0..40 {
        let mut random = Random(seed);
        // Few frames, so that pages go and come.
        let memory = memory(5, 6, u64::MAX, &Kept::default(), 4);
        let (mut view, mut model) = (View::new(&memory), Bytes::new());
        let mut forks: Vec<(View, Bytes)> = Vec::new();
        for _ in 0..300 {
            match random.below(20) {
                0 => forks.push((view.fork().unwrap().unwrap(), model.clone())),
                1 if !forks.is_empty() => {
                    let at = random.below(forks.len() as u64) as usize;
                    let (fork, of_fork) = &mut forks[at];
                    one_call(&mut random, fork, of_fork);
                }
                2 if !forks.is_empty() => {
                    let (mut fork, of_fork) = forks.swap_remove(0);
                    assert_eq!(view.restore(&mut fork, &go_on).unwrap(), Ok(()));
                    model = of_fork;
                }
                3 => assert_eq!(view.commit(false).unwrap(), Ok(None), "not all shards are granted"),
                _ => one_call(&mut random, &mut view, &mut model),
            }
        }
    }
}

#[test]
fn a_commit_moves_the_name_unless_it_is_past_and_equal_contents_have_one_root() {
    let kept = Kept::default();
    let memory = memory(0, u64::MAX, u64::MAX, &kept, 8);
    let mut view = View::new(&memory);
    view.write((u64::MAX, u64::MAX), &[1]).unwrap().unwrap();
    let root = view.commit(true).unwrap().unwrap();
    assert_eq!((*kept.0.lock().unwrap(), root.is_some()), (None, true));
    assert_eq!(view.commit(false).unwrap(), Ok(root));
    assert_eq!((*kept.0.lock().unwrap(), root_of(&memory)), (root, root.unwrap()));
    assert_eq!(view.fork().unwrap().unwrap().commit(false).unwrap(), Err(Refused::Unrelated));
}

/// Story: what forks had counted for ever, and a loop of fork and drop used the quota up.
#[test]
fn pages_of_a_fork_count_until_it_is_gone() {
    let memory = memory(0, 0, 4, &Kept::default(), 8);
    let mut view = View::new(&memory);
    view.write((0, 0), &[1]).unwrap().unwrap();
    for _ in 0..10 {
        let mut fork = view.fork().unwrap().unwrap();
        assert_eq!(fork.write((0, PAGE), &[0; 2 * PAGE as usize]).unwrap(), Ok(()));
        assert_eq!(fork.write((0, 5 * PAGE), &[1]).unwrap(), Err(Refused::Quota));
        assert_eq!(view.write((0, 5 * PAGE), &[1]).unwrap(), Err(Refused::Quota));
    }
    assert_eq!(view.write((0, 5 * PAGE), &[1]).unwrap(), Ok(()));
    assert_eq!(view.stat(&|| Ok(())).unwrap().unwrap().mapped, 2);
}

/// A fork that gave up pages which its parent still has freed them once, and so did a parent that its own fork outlived.
#[test]
fn no_way_through_forks_gives_more_pages() {
    let memory = memory(0, 0, 4, &Kept::default(), 8);
    let mut view = View::new(&memory);
    view.write((0, 0), &[1; 2 * PAGE as usize]).unwrap().unwrap();
    let mut fork = view.fork().unwrap().unwrap();
    fork.fill((0, 0), 2 * PAGE, 0, &|| Ok(())).unwrap().unwrap();
    drop(fork);
    assert_eq!(view.write((0, 9 * PAGE), &[1; 3 * PAGE as usize]).unwrap(), Err(Refused::Quota));
    view.fill((0, 0), 20 * PAGE, 0, &|| Ok(())).unwrap().unwrap();
    let mut forks = vec![view.fork().unwrap().unwrap()];
    forks[0].write((0, 0), &[1; 2 * PAGE as usize]).unwrap().unwrap();
    let child = forks[0].fork().unwrap().unwrap();
    forks = vec![child];
    assert_eq!(view.write((0, 0), &[1; 3 * PAGE as usize]).unwrap(), Err(Refused::Quota));
    assert_eq!(forks[0].fork().unwrap().err(), Some(Refused::Quota), "what there was room for was written");
}

#[test]
fn pages_written_count_until_a_commit_or_the_end_of_their_fork() {
    let most = Most { dirty: 3, ..most(u64::MAX) };
    let memory = memory_of(0, u64::MAX, most, &Kept::default(), 8);
    let mut view = View::new(&memory);
    let write = |view: &mut View, page: u64| view.write((0, page * PAGE), &[1]).unwrap();
    assert_eq!((0..4).map(|page| write(&mut view, page)).filter(Result::is_ok).count(), 3);
    assert_eq!(write(&mut view, 0), Ok(()), "one that was written already");
    assert_eq!(view.fork().unwrap().err(), Some(Refused::Quota), "it would have them as well");
    view.commit(false).unwrap().unwrap();
    let mut fork = view.fork().unwrap().unwrap();
    assert_eq!((write(&mut fork, 0), write(&mut view, 1), write(&mut fork, 2)), (Ok(()), Ok(()), Ok(())));
    assert_eq!((write(&mut fork, 5), write(&mut view, 5)), (Err(Refused::Quota), Err(Refused::Quota)));
    drop(fork);
    assert_eq!((write(&mut view, 5), write(&mut view, 6)), (Ok(()), Ok(())));
    assert_eq!(write(&mut view, 7), Err(Refused::Quota));
}

/// What is moved depends on what is in memory: no guest may learn that.
#[test]
fn bytes_to_and_from_the_store_end_the_run() {
    let most = Most { io_bytes: 12 * PAGE, ..most(u64::MAX) };
    let memory = memory_of(0, u64::MAX, most, &Kept::default(), 4);
    let mut view = View::new(&memory);
    let write = |view: &mut View, page: u64| view.write((0, page * PAGE), &[1]);
    (0..8).for_each(|page| write(&mut view, page).unwrap().unwrap());
    let mut fork = view.fork().unwrap().unwrap();
    (0..4).for_each(|page| write(&mut fork, 20 + page).unwrap().unwrap());
    let over = write(&mut fork, 30);
    assert!(matches!(&over, Err(Error::Abort(abort)) if abort.message.contains("49152 bytes")), "{over:?}");
    drop(fork);
    assert!(write(&mut view, 40).is_err(), "what was moved was moved");
}

/// Pages that a snapshot did not have were zeros that counted.
#[test]
fn what_is_restored_counts_no_more_than_it_did() {
    let memory = memory(0, 0, 4, &Kept::default(), 8);
    let mut view = View::new(&memory);
    let mut before = view.fork().unwrap().unwrap();
    view.write((0, 0), &[1; 3 * PAGE as usize]).unwrap().unwrap();
    view.restore(&mut before, &|| Ok(())).unwrap().unwrap();
    assert_eq!(view.stat(&|| Ok(())).unwrap().unwrap().mapped, 0);
    assert_eq!(view.write((0, 0), &[1; 4 * PAGE as usize]).unwrap(), Ok(()));
}

#[test]
fn a_long_fill_looks_whether_to_go_on() {
    let memory = memory(0, 0, u64::MAX, &Kept::default(), 8);
    let stop = || Err(vac_core::fault::HostAbort::new(AbortKind::Interrupt, "interrupted").into());
    let stopped = View::new(&memory).fill((0, 0), 1 << 28, 0, &stop);
    assert!(matches!(stopped, Err(Error::Abort(abort)) if abort.kind == AbortKind::Interrupt));
}

/// A memory that was there when the run opened it, of so many pages with different bytes.
fn opened(pages: u64) -> Memory {
    let settings =
        Settings { page_len: PAGE as usize, budget_bytes: 16 * PAGE as usize, ..Settings::default() };
    let mut pager = Pager::new(Arc::new(Objects::default()), settings).unwrap();
    let mut space = pager.space();
    for page in 0..pages {
        let at = La128 { shard: page % 2, offset: page * 7 * PAGE };
        pager.write(&mut space, at, &(page + 1).to_le_bytes()).unwrap();
    }
    let root = pager.commit(&mut space).unwrap();
    let space = pager.open(&root).unwrap();
    let shared = Shared::new(pager, space, root, Box::new(Kept::default()), most(1 << 20));
    let rights = Rights::READ.or(Rights::WRITE);
    let shared = Arc::new(Mutex::new(shared));
    Memory { guest: "m".into(), first: 0, last: u64::MAX, rights, grant: 0, shared }
}

/// Goes on `times` times.
fn only(times: u64) -> impl Fn() -> Result<()> {
    let asked = std::cell::Cell::new(0);
    move || {
        asked.set(asked.get() + 1);
        if asked.get() <= times {
            Ok(())
        } else {
            Err(vac_core::fault::HostAbort::new(AbortKind::Time, "").into())
        }
    }
}

/// Both took host time and memory in proportion to what the memory had, whatever the run's limit was.
#[test]
fn a_count_and_a_restore_stop_when_the_run_should() {
    let pages = 5_000;
    let mut view = View::new(&opened(pages));
    assert!(view.stat(&only(3)).is_err(), "it looks more often than that");
    assert_eq!(view.stat(&|| Ok(())).unwrap().unwrap().mapped, pages);
    assert_eq!(view.stat(&only(0)).unwrap().unwrap().mapped, pages, "counted once");
    let mut before = view.fork().unwrap().unwrap();
    for page in 0..pages {
        view.write((page % 2, page * 7 * PAGE), &[0; PAGE as usize]).unwrap().unwrap();
    }
    let stopped = view.restore(&mut before, &only(2));
    assert!(stopped.is_err());
    let mut read = |page: u64| {
        let mut bytes = [0; 8];
        view.read((page % 2, page * 7 * PAGE), &mut bytes).unwrap().unwrap();
        u64::from_le_bytes(bytes)
    };
    let restored = (0..pages).filter(|page| read(*page) == page + 1).count() as u64;
    assert!((PAGES_PER_LOOK..3 * PAGES_PER_LOOK).contains(&restored), "{restored}");
    view.restore(&mut before, &|| Ok(())).unwrap().unwrap();
    let mut read = |page: u64| {
        let mut bytes = [0; 8];
        view.read((page % 2, page * 7 * PAGE), &mut bytes).unwrap().unwrap();
        u64::from_le_bytes(bytes)
    };
    assert!((0..pages).all(|page| read(page) == page + 1));
    assert_eq!(view.stat(&only(0)).unwrap().unwrap().mapped, pages);
}

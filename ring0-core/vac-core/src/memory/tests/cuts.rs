//! The power goes at every single call of the disk while a memory is written and committed; and every byte of the files
//! of a small memory is flipped, or they are cut there.

use std::collections::BTreeMap;

use super::*;
use crate::cid::Cid;

/// What shard 5 holds from its first byte on.
type Contents = Vec<u8>;

fn open_pager(sim: &SimStorage) -> Result<Pager> {
    let store = Arc::new(Store::open(Arc::new(sim.clone()), "store")?);
    // So few frames and so little for nodes that some are written before the commit.
    let settings = Settings {
        page_len: PAGE,
        budget_bytes: 4 * PAGE,
        nodes_bytes: 4000,
        io: Io::Caller,
        ..Settings::default()
    };
    Pager::new(store, settings)
}

/// Writes a memory and commits it some times. Notes what was acknowledged.
fn write_and_commit(sim: &SimStorage, committed: &mut BTreeMap<Cid, Contents>) -> Result<()> {
    let mut pager = open_pager(sim)?;
    let mut space = pager.space();
    let mut contents = vec![0; 8 * PAGE];
    for round in 0..3_u8 {
        for page in 0..8 {
            let offset = page * PAGE + usize::from(round) * 100;
            let bytes = [round + 1, page as u8, 7].repeat(40);
            pager.write(&mut space, at(5, offset as u64), &bytes)?;
            contents[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        let root = pager.commit(&mut space)?;
        committed.insert(root, contents.clone());
    }
    // As another process that goes on with it.
    let Some((root, mut contents)) = committed.iter().next().map(|(root, it)| (*root, it.clone())) else {
        return Ok(());
    };
    let mut pager = open_pager(sim)?;
    let mut space = pager.open(&root)?;
    pager.fill(&mut space, at(5, PAGE as u64), 2 * PAGE as u64, 9)?;
    contents[PAGE..3 * PAGE].fill(9);
    let root = pager.commit(&mut space)?;
    committed.insert(root, contents);
    Ok(())
}

fn check(sim: &SimStorage, committed: &BTreeMap<Cid, Contents>, what: &str) {
    let store = Store::open(Arc::new(sim.clone()), "store").unwrap();
    assert_eq!(store.fsck().unwrap().corrupt, [], "{what}: a power cut is not corruption");
    drop(store);
    let mut pager = open_pager(sim).unwrap();
    for (root, contents) in committed {
        let mut space = pager.open(root).unwrap();
        let mut got = vec![0; contents.len()];
        pager.read(&mut space, at(5, 0), &mut got).unwrap();
        assert!(got == *contents, "{what}: wrong bytes of {root}");
    }
}

#[test]
fn a_commit_can_be_cut_at_every_call() {
    for call in 0.. {
        let mut is_over = false;
        for way in 0..3 {
            let sim = SimStorage::new(call * 3 + way);
            let mut committed = BTreeMap::new();
            sim.halt_at(call);
            is_over = write_and_commit(&sim, &mut committed).is_ok();
            sim.crash();
            check(&sim, &committed, &format!("call {call}, way {way}"));
            // What the next life does on what is left can be cut as well.
            sim.halt_at(call / 2 + way);
            let _ = write_and_commit(&sim, &mut committed);
            sim.crash();
            check(&sim, &committed, &format!("call {call}, way {way}, the second time"));
        }
        if is_over {
            assert!(call > 50, "{call} calls to cut");
            return;
        }
    }
}

/// Two pages, of which each must be readable when the other is not.
struct Small {
    sim: SimStorage,
    root: Cid,
    pages: [Vec<u8>; 2],
}

impl Small {
    fn new() -> Self {
        let sim = SimStorage::new(0);
        let mut pager = open_pager(&sim).unwrap();
        let mut space = pager.space();
        let pages = [1, 2].map(|n| (0..PAGE).map(|i| (i / 7 * n) as u8).collect::<Vec<u8>>());
        for (n, page) in (0..).zip(&pages) {
            pager.write(&mut space, at(5, n * PAGE as u64), page).unwrap();
        }
        let root = pager.commit(&mut space).unwrap();
        Self { sim, root, pages }
    }

    /// Reads both pages of what may be damaged, and returns how many are lost. None may be wrong, and errors say what.
    fn lost(&self, what: &str) -> usize {
        let store = Store::open_read_only(Arc::new(self.sim.clone()), "store").unwrap();
        let settings =
            Settings { page_len: PAGE, budget_bytes: 4 * PAGE, io: Io::Caller, ..Settings::default() };
        let mut pager = Pager::new(Arc::new(store), settings).unwrap();
        let mut lost = 0;
        let mut note = |why: Error, pages: usize| {
            assert!(matches!(why, Error::Corrupt(_)), "{what}: {why}");
            assert!(why.to_string().contains("bafy") || why.to_string().contains("bafk"), "{what}: {why}");
            lost += pages;
        };
        match pager.open(&self.root) {
            Err(why) => note(why, 2),
            Ok(mut space) => {
                for (n, page) in (0..).zip(&self.pages) {
                    let mut got = vec![0xee; PAGE];
                    match pager.read(&mut space, at(5, n * PAGE as u64), &mut got) {
                        Ok(()) => assert!(got == *page, "{what}: wrong bytes in page {n}"),
                        Err(why) => note(why, 1),
                    }
                }
            }
        }
        lost
    }
}

#[test]
fn all_damage_to_a_small_memory() {
    let small = Small::new();
    let mut lost = [0; 3];
    for path in small.sim.paths() {
        let whole = small.sim.peek(&path).unwrap();
        for place in 0..whole.len() as u64 {
            small.sim.flip_bit(&path, place, (place % 8) as u8);
            let flipped = small.lost(&format!("`{path}` byte {place} flipped"));
            small.sim.flip_bit(&path, place, (place % 8) as u8);
            assert!(
                flipped == 0 || path.ends_with(".pack"),
                "`{path}` byte {place}: nothing rests on it alone"
            );
            lost[flipped] += 1;
            small.sim.truncate(&path, place);
            let cut = small.lost(&format!("`{path}` cut to {place}"));
            small.sim.plant(&path, &whole);
            assert_eq!(
                cut > 0,
                path.ends_with(".pack"),
                "`{path}` cut to {place}: the root is at the pack's end"
            );
        }
    }
    assert!(
        lost[0] > 100 && lost[1] > 2 * PAGE - 10 && lost[2] > 100,
        "{lost:?} times none, one and both were lost"
    );
}

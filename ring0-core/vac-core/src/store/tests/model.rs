//! One seed drives operations, faults and power cuts against a map.

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// One process that has the store open.
struct Process {
    store: Store,
    /// Put since its last commit.
    pending: BTreeMap<Cid, Vec<u8>>,
}

impl Process {
    fn try_open(sim: &SimStorage, tuning: Tuning) -> Result<Self> {
        let store = Store::open_tuned(Arc::new(sim.clone()), "store", tuning)?;
        Ok(Self { store, pending: BTreeMap::new() })
    }
}

/// What must be true of the store.
struct Model {
    sim: SimStorage,
    tuning: Tuning,
    random: Random,
    processes: Vec<Process>,
    /// Must be there.
    committed: BTreeMap<Cid, Vec<u8>>,
    /// What each pin may be; more than one after a pin that failed.
    pins: BTreeMap<&'static str, BTreeSet<Option<Cid>>>,
    /// Whether writing may fail, and reading too.
    may_fail: bool,
    may_fail_to_read: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        let sim = SimStorage::new(seed);
        let tuning = if seed.is_multiple_of(2) { SMALL } else { aligned::ALIGNING };
        let processes = vec![Process::try_open(&sim, tuning).unwrap()];
        Self {
            sim,
            tuning,
            random: Random::new(seed ^ 0xfeed),
            processes,
            committed: BTreeMap::new(),
            pins: NAMES.into_iter().map(|name| (name, BTreeSet::from([None]))).collect(),
            may_fail: false,
            may_fail_to_read: false,
        }
    }

    fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            let which = self.random.below(self.processes.len() as u64) as usize;
            match self.random.below(88) {
                0..=37 => self.put(which),
                38..=49 => self.commit(which),
                50..=57 => self.get(which),
                58..=61 => self.pin(which),
                62..=64 => self.gc(which),
                65..=66 => self.start(),
                67..=68 => self.kill(which),
                69..=72 => self.inject(),
                73..=75 => self.mend(),
                76..=78 => self.spoil_index(),
                79..=81 => self.set_compression(which),
                82..=84 => self.scrub(which),
                _ => self.crash(),
            }
        }
        self.crash();
    }

    fn put(&mut self, which: usize) {
        let len = match self.random.below(12) {
            0 => 4000 + self.random.below(3000),
            1..=3 => 600 + self.random.below(2000),
            _ => self.random.below(300),
        };
        // Few contents, so that the same object is put again and again.
        let mut bytes = bytes_of(self.random.below(9), len as usize / 50 * 50);
        // Half of them get shorter when they are compressed.
        if bytes.len().is_multiple_of(100) {
            bytes.iter_mut().skip(60).for_each(|byte| *byte &= 3);
        }
        let process = &mut self.processes[which];
        let put = match self.random.below(2) {
            0 => process.store.put(Codec::Raw, &bytes),
            _ => process.store.put_chunked(Codec::Raw, &mut &bytes[..], u64::MAX).map(|(cid, _)| cid),
        };
        match put {
            Ok(cid) => {
                process.pending.insert(cid, bytes.clone());
                match process.store.get(&cid) {
                    Ok(got) => assert_eq!(got, Some(bytes), "put, so it can be read"),
                    Err(err) => self.assert_failed_read(&err),
                }
            }
            Err(err) => self.assert_failed(&err),
        }
    }

    fn commit(&mut self, which: usize) {
        let process = &mut self.processes[which];
        match process.store.commit() {
            Ok(()) => self.committed.append(&mut process.pending),
            Err(err) => self.assert_failed(&err),
        }
    }

    fn get(&mut self, which: usize) {
        let (cid, bytes) = self.pick();
        match self.processes[which].store.get(&cid) {
            Ok(got) => assert_eq!(got, bytes, "{cid}"),
            Err(err) => self.assert_failed_read(&err),
        }
    }

    fn set_compression(&mut self, which: usize) {
        let level = [None, Some(1), Some(3)][self.random.below(3) as usize];
        if let Err(err) = self.processes[which].store.set_compression(level) {
            self.assert_failed(&err);
        }
    }

    fn pin(&mut self, which: usize) {
        let name = NAMES[self.random.below(3) as usize];
        let store = &self.processes[which].store;
        let (new, done) = if self.random.below(3) == 0 {
            (None, store.unpin(name).map(|_| ()))
        } else {
            let (cid, _) = Self::pick_from(&mut self.random, &self.committed);
            (Some(cid), store.pin(name, &cid))
        };
        let may_be = self.pins.get_mut(name).unwrap();
        match done {
            Ok(()) => *may_be = BTreeSet::from([new]),
            Err(err) => {
                may_be.insert(new);
                self.assert_failed(&err);
            }
        }
    }

    fn gc(&mut self, which: usize) {
        let mut live: BTreeSet<Cid> = self.committed.keys().copied().collect();
        live.retain(|_| self.random.below(3) != 0);
        let done = self.processes[which].store.gc(&live);
        if matches!(&done, Err(Error::Abort(abort)) if abort.kind == AbortKind::Busy) {
            assert!(self.processes.len() > 1);
            return;
        }
        for may_be in self.pins.values().filter(|may_be| may_be.len() == 1) {
            live.extend(may_be.iter().flatten());
        }
        // A collection that failed may still have removed some of what is not live.
        self.committed.retain(|cid, _| live.contains(cid));
        self.processes[which].pending.retain(|cid, _| live.contains(cid));
        match done {
            // A pack that the disk does not give now is left as it is.
            Ok(report) => assert!(report.corrupt.is_empty() || self.may_fail_to_read, "{report:?}"),
            Err(err) => self.assert_failed(&err),
        }
    }

    /// Nothing rots here but the index, so nothing is found.
    fn scrub(&mut self, which: usize) {
        let budget = 1 + self.random.below(20_000);
        match self.processes[which].store.scrub(budget, &|_| Ok(None)) {
            // What the disk does not give now counts as bad.
            Ok(report) => {
                let is_good = report.corrupt.is_empty() && report.lost.is_empty();
                assert!(is_good || self.may_fail_to_read, "{report:?}");
            }
            Err(err) => self.assert_failed(&err),
        }
    }

    /// Another process opens the store.
    fn start(&mut self) {
        if self.processes.len() == 3 {
            return;
        }
        match Process::try_open(&self.sim, self.tuning) {
            Ok(process) => self.processes.push(process),
            Err(err) => self.assert_failed(&err),
        }
    }

    /// A process dies; the machine goes on.
    fn kill(&mut self, which: usize) {
        if self.processes.len() > 1 {
            self.processes.swap_remove(which);
        }
    }

    fn inject(&mut self) {
        let n = self.random.below(40);
        match self.random.below(4) {
            0 => self.sim.fail_op(n),
            1 => self.sim.halt_at(n),
            2 => self.sim.fail_sync(n / 10),
            _ => self.sim.set_capacity(Some(self.sim.used() + n * 100)),
        }
        self.may_fail = true;
        self.may_fail_to_read = true;
    }

    /// A part of the index rots, or goes: nobody may notice.
    fn spoil_index(&mut self) {
        let paths: Vec<_> = self.sim.paths().into_iter().filter(|path| path.contains("index/")).collect();
        let Some(path) = paths.get(self.random.below(paths.len() as u64) as usize) else { return };
        let len = self.sim.peek(path).unwrap_or_default().len() as u64;
        let at = self.random.below(len);
        match self.random.below(3) {
            0 => _ = self.sim.flip_bit(path, at, at as u8),
            1 => _ = self.sim.truncate(path, at),
            _ if path.ends_with("lock") => {}
            _ => _ = self.sim.remove(path),
        }
    }

    /// The disk works again; processes that saw it fail need not.
    fn mend(&mut self) {
        self.sim.clear_faults();
        self.sim.set_capacity(None);
        self.may_fail_to_read = false;
    }

    /// The power goes, and comes back.
    fn crash(&mut self) {
        self.sim.crash();
        self.mend();
        self.may_fail = false;
        self.processes = vec![Process::try_open(&self.sim, self.tuning).unwrap()];
        let store = &self.processes[0].store;
        let report = store.fsck().unwrap();
        assert_eq!(report.corrupt, [], "a power cut is not corruption");
        assert_holds(store, &self.committed);
        let pins = store.pins().unwrap();
        for (name, may_be) in &self.pins {
            assert!(may_be.contains(&pins.get(*name).copied()), "{name}: {pins:?}");
        }
        // After a failed pin either answer is right, but from now on it must stay.
        self.pins = NAMES.into_iter().map(|name| (name, BTreeSet::from([pins.get(name).copied()]))).collect();
    }

    /// Something that is committed, or something that never was.
    fn pick(&mut self) -> (Cid, Option<Vec<u8>>) {
        if self.random.below(8) == 0 {
            return (Cid::of_raw(&self.random.next().to_le_bytes()), None);
        }
        let (cid, bytes) = Self::pick_from(&mut self.random, &self.committed);
        (cid, bytes)
    }

    fn pick_from(random: &mut Random, objects: &BTreeMap<Cid, Vec<u8>>) -> (Cid, Option<Vec<u8>>) {
        let nth = random.below(objects.len() as u64) as usize;
        let picked = objects.iter().nth(nth).map(|(cid, bytes)| (*cid, Some(bytes.clone())));
        picked.unwrap_or((Cid::of_raw(b"never put"), None))
    }

    fn assert_failed(&self, err: &Error) {
        assert!(matches!(err, Error::Abort(_)), "a failing disk is not corruption: {err}");
        assert!(self.may_fail, "nothing was made to fail: {err}");
    }

    fn assert_failed_read(&self, err: &Error) {
        self.assert_failed(err);
        assert!(self.may_fail_to_read, "reading needs no writing: {err}");
    }
}

#[test]
fn seeds() {
    for seed in 0..400 {
        let run = || Model::new(seed).run(120);
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A power cut at every single operation of a collection.
#[test]
fn a_collection_can_be_cut_anywhere() {
    for at in 0.. {
        let mut model = Model::new(at);
        for i in 0..30 {
            let bytes = bytes_of(i, 40 + i as usize * 37);
            put(&model.processes[0].store, &bytes);
            model.processes[0].pending.insert(Cid::of_raw(&bytes), bytes);
        }
        model.commit(0);
        model.sim.halt_at(at);
        model.may_fail = true;
        let live: BTreeSet<Cid> = model.committed.keys().copied().step_by(2).collect();
        let done = model.processes[0].store.gc(&live);
        model.committed.retain(|cid, _| live.contains(cid));
        model.crash();
        model.gc(0);
        model.crash();
        if done.is_ok() {
            assert!(at > 20, "there was something to cut");
            break;
        }
    }
}

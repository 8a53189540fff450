//! A disk that lies: it says that it synced and did not, or writes to another file. Then things are lost that were
//! acknowledged; but no wrong byte is given out, nothing panics, every loss is named, and what is put again stays.

use super::*;

/// What was put and acknowledged by the disk that lied, and what was before it did.
struct Model {
    sim: SimStorage,
    random: Random,
    store: Option<Store>,
    objects: BTreeMap<Cid, Vec<u8>>,
    pins: BTreeMap<String, BTreeSet<Cid>>,
    lies: u64,
    losses: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (sim, random) = (SimStorage::new(seed), Random::new(!seed));
        let (objects, pins) = Default::default();
        Self { sim, random, store: None, objects, pins, lies: 0, losses: 0 }
    }

    fn run(&mut self) {
        for _ in 0..4 {
            self.begin_to_lie();
            for _ in 0..40 {
                self.step();
            }
            self.store = None;
            self.sim.crash();
            self.check();
            self.mend();
        }
    }

    fn begin_to_lie(&mut self) {
        self.lies += 1;
        match self.random.below(3) {
            0 => self.sim.lie_about_syncs(1 + self.random.below(4)),
            1 => self.sim.misdirect_write(self.random.below(40)),
            _ => {
                self.sim.lie_about_syncs(3);
                self.sim.misdirect_write(self.random.below(60));
            }
        }
    }

    /// Whatever comes of it: an error says what is wrong, and then another process opens the store.
    fn step(&mut self) {
        let store = match self.store.take() {
            Some(store) => Ok(store),
            None => Store::open_tuned(Arc::new(self.sim.clone()), "store", SMALL),
        };
        let done = store.and_then(|store| {
            self.act(&store)?;
            self.store = (self.random.below(12) != 0).then_some(store);
            Ok(())
        });
        match done {
            Ok(()) | Err(Error::Corrupt(_)) => {}
            Err(other) => panic!("nothing failed by what the disk says: {other}"),
        }
    }

    fn act(&mut self, store: &Store) -> Result<()> {
        match self.random.below(20) {
            0..=8 => self.put(store),
            9..=11 => store.commit(),
            12 => self.pin(store),
            13 => store.gc(&self.objects.keys().copied().collect()).map(|_| ()),
            14 => store.scrub(2000, &|_| Ok(None)).map(|_| ()),
            15 => store.fsck().map(|_| ()),
            _ => self.get(store),
        }
    }

    fn put(&mut self, store: &Store) -> Result<()> {
        let len = match self.random.below(6) {
            0 => 4000 + self.random.below(2000),
            _ => self.random.below(400),
        };
        let bytes = bytes_of(self.random.below(20), len as usize / 50 * 50);
        let cid = match self.random.below(2) {
            0 => store.put(Codec::Raw, &bytes)?,
            _ => store.put_chunked(Codec::Raw, &mut &bytes[..], u64::MAX)?.0,
        };
        self.objects.insert(cid, bytes);
        Ok(())
    }

    fn pin(&mut self, store: &Store) -> Result<()> {
        let nth = self.random.below(self.objects.len() as u64) as usize;
        let Some(cid) = self.objects.keys().nth(nth).copied() else { return Ok(()) };
        self.pins.entry("pin".to_owned()).or_default().insert(cid);
        store.pin("pin", &cid)
    }

    fn get(&mut self, store: &Store) -> Result<()> {
        let nth = self.random.below(self.objects.len() as u64) as usize;
        let Some((cid, bytes)) = self.objects.iter().nth(nth) else { return Ok(()) };
        let got = store.get(cid)?;
        assert!(got.is_none_or(|got| got == *bytes), "wrong bytes of {cid}");
        Ok(())
    }

    /// After the power went: each object is what it was, or is not here, or an error names it.
    fn check(&mut self) {
        let reader = Store::open_read_only(Arc::new(self.sim.clone()), "store").unwrap();
        let checked = reader.fsck();
        for (cid, bytes) in &self.objects {
            match reader.get(cid) {
                Ok(Some(got)) => assert!(got == *bytes, "wrong bytes of {cid}"),
                Ok(None) => self.losses += 1,
                Err(Error::Corrupt(why)) => {
                    self.losses += 1;
                    assert!(why.to_string().contains("sim:/store/"), "{why}");
                }
                Err(other) => panic!("{cid}: {other}"),
            }
        }
        // Of what the index still lists and no pack has, a read tells at the latest.
        assert!(matches!(checked, Ok(_) | Err(Error::Corrupt(_))), "{checked:?}");
        match reader.pins() {
            Ok(pins) => {
                let may_be =
                    |(name, cid): (&String, &Cid)| self.pins.get(name).is_some_and(|may| may.contains(cid));
                assert!(pins.iter().all(may_be), "{pins:?}");
            }
            Err(why) => assert!(is_corrupt::<()>(&Err(why))),
        }
    }

    /// The disk is honest again, and who has the objects puts those again that are not whole: then they are there, and
    /// stay.
    fn mend(&mut self) {
        let store = open(&self.sim);
        for (cid, bytes) in &self.objects {
            if !matches!(store.is_whole(cid), Ok(true)) {
                put(&store, bytes);
            }
        }
        store.commit().unwrap();
        drop(store);
        self.sim.crash();
        let store = open(&self.sim);
        for (cid, bytes) in &self.objects {
            assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes), "{cid} was put again");
        }
    }
}

#[test]
fn seeds_of_a_disk_that_lies() {
    let mut losses = 0;
    for seed in 0..100 {
        let mut model = Model::new(seed);
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.run())) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
        losses += model.losses;
    }
    assert!(losses > 500, "{losses} losses: the lies were told");
}

/// What was synced before the disk began to lie is there after it did, unless it was moved meanwhile.
#[test]
fn lies_lose_nothing_of_before() {
    let mut lost = 0;
    for seed in 0..100 {
        let sim = SimStorage::new(seed);
        let store = open(&sim);
        let mut before = BTreeMap::new();
        for i in 0..10 {
            let bytes = bytes_of(i, 30 + i as usize * 60);
            before.insert(put(&store, &bytes), bytes);
        }
        for (i, len) in [(20, 5000), (21, 4000)] {
            let bytes = bytes_of(i, len);
            before.insert(put(&store, &bytes), bytes);
        }
        let bytes = bytes_of(22, 6000);
        before.insert(put_chunked(&store, &bytes), bytes);
        store.commit().unwrap();
        let store = if seed % 2 == 0 { store } else { open(&sim) };
        sim.lie_about_syncs(1 + seed % 3);
        let mut after = Vec::new();
        for i in 0..30 {
            after.push(put(&store, &bytes_of(100 + i, 200)));
            store.commit().unwrap();
        }
        after.push(put(&store, &bytes_of(200, 5000)));
        after.push(put_chunked(&store, &bytes_of(201, 5000)));
        drop(store);
        sim.crash();
        let store = open(&sim);
        for (cid, bytes) in &before {
            assert_eq!(store.get(cid).unwrap().as_ref(), Some(bytes), "seed {seed}");
        }
        lost += after.iter().filter(|cid| !matches!(store.is_whole(cid), Ok(true))).count();
    }
    assert!(lost > 100, "{lost} lost of what the disk said it had");
}

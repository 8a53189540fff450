//! Every byte of every file of a small store is flipped, and every file is cut at every byte: nothing panics, no wrong
//! byte is given out, every loss is named, and what was not touched is readable.

use super::*;

/// So small that every kind of file is there and all of them together are a few thousand bytes.
const TINY: Tuning = Tuning {
    large_min: 400,
    aligned: (usize::MAX, 1),
    pack_max: 600,
    buffer: 100,
    table_max: 4,
    pending_max: 10,
    rewrite_max: u64::MAX,
    chunk: [64, 256, 1024],
    group_len: 1024,
};

fn open_tiny(sim: &SimStorage) -> Result<Store> {
    Store::open_tuned(Arc::new(sim.clone()), "store", TINY)
}

/// An object and what its bytes rest on.
struct Object {
    bytes: Vec<u8>,
    /// Its own file, or the pack in which its bytes begin at some byte.
    path: String,
    place: Option<u64>,
    /// Those of its list of chunks.
    chunks: BTreeSet<Cid>,
}

struct Sample {
    sim: SimStorage,
    objects: BTreeMap<Cid, Object>,
}

const PIN: &str = "pin";
const LEASE: &str = "lease";

impl Sample {
    fn new() -> Self {
        let sim = SimStorage::new(0);
        let store = open_tiny(&sim).unwrap();
        let mut pinned = Vec::new();
        for i in 0..9 {
            pinned.push(put(&store, &bytes_of(i, 20 + i as usize * 9)));
            if i % 2 == 0 {
                store.commit().unwrap();
            }
        }
        put(&store, &bytes_of(50, 410));
        put_chunked(&store, &bytes_of(60, 480));
        store.pin(PIN, &pinned[0]).unwrap();
        store.lease(LEASE, &Lease { cid: pinned[1], ends: 7 }).unwrap();
        store.scrub(100, &|_| Ok(None)).unwrap();
        // A collection leaves a number of sweeps, and a store that finds an object a claim.
        let live = store.list().unwrap().into_iter().map(|(cid, _)| cid).collect();
        store.gc(&live).unwrap();
        drop(store);
        let store = open_tiny(&sim).unwrap();
        put(&store, &bytes_of(70, 50));
        put(&store, &bytes_of(0, 20));
        store.commit().unwrap();
        let objects = store.list().unwrap().into_iter();
        let objects = objects.map(|(cid, _)| (cid, Object::find(&sim, &store, &cid))).collect();
        drop(store);
        let mut sample = Self { sim, objects };
        sample.find_chunks();
        sample
    }

    fn find_chunks(&mut self) {
        let lists: Vec<Cid> =
            self.objects.iter().filter(|(_, it)| it.path.contains("chunked/")).map(|(cid, _)| *cid).collect();
        for list in lists {
            let whole = &self.objects[&list].bytes;
            let is_part = |bytes: &[u8]| whole.windows(bytes.len()).any(|part| part == bytes);
            let chunks: BTreeSet<Cid> = self
                .objects
                .iter()
                .filter(|(cid, it)| **cid != list && is_part(&it.bytes))
                .map(|(cid, _)| *cid)
                .collect();
            assert!(chunks.len() > 1, "chunks that are cut off one by one");
            self.objects.get_mut(&list).unwrap().chunks = chunks;
        }
    }
}

impl Object {
    fn find(sim: &SimStorage, store: &Store, cid: &Cid) -> Self {
        let bytes = store.get(cid).unwrap().unwrap();
        let paths = sim.paths();
        if let Some(path) = paths.iter().find(|path| path.ends_with(&cid.to_string())) {
            return Self { bytes, path: path.clone(), place: None, chunks: BTreeSet::new() };
        }
        let place_in = |path: &String| {
            let pack = sim.peek(path).unwrap();
            pack.windows(bytes.len()).position(|part| part == bytes).map(|at| (path.clone(), at as u64))
        };
        let packs = paths.iter().filter(|path| path.ends_with(".pack"));
        let (path, at) = packs.filter_map(place_in).next().expect("its bytes are in a pack as they are");
        Self { bytes, path, place: Some(at), chunks: BTreeSet::new() }
    }
}

/// One thing that happens to one file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64),
    Cut(u64),
    Removed,
}

impl Damage {
    fn apply(self, sim: &SimStorage, path: &str) {
        match self {
            Self::Flip(at) => assert!(sim.flip_bit(path, at, (at % 8) as u8)),
            Self::Cut(len) => assert!(sim.truncate(path, len)),
            Self::Removed => sim.remove(path).unwrap(),
        }
    }

    fn place(self) -> u64 {
        match self {
            Self::Flip(at) | Self::Cut(at) => at,
            Self::Removed => 0,
        }
    }

    /// Whether it cannot have touched the bytes of `object`, which are in the file at `path`.
    fn is_clear_of(self, object: &Object) -> bool {
        let Some(start) = object.place else { return false };
        match self {
            Self::Flip(_) | Self::Removed => false,
            Self::Cut(len) => start + object.bytes.len() as u64 <= len,
        }
    }
}

/// What a store says of one object: whether it is whole. Panics over a wrong byte, and over an error that does not say
/// what is lost.
fn is_whole(store: &Store, cid: &Cid, bytes: &[u8], what: &str) -> bool {
    let mut streamed = Vec::new();
    let stream = store.get_stream(cid, &mut streamed);
    let got = store.get(cid);
    match (&got, &stream) {
        (Ok(Some(got)), Ok(Some(len))) => {
            assert!(got == bytes && streamed == bytes, "{what}: wrong bytes of {cid}");
            assert_eq!(*len, bytes.len() as u64);
        }
        (Ok(None), Ok(None)) => {}
        (Err(Error::Corrupt(one)), Err(Error::Corrupt(other))) => {
            assert!(one.to_string().contains("sim:/store/"), "{what}: {one}");
            assert_eq!(one.to_string(), other.to_string(), "{what}");
        }
        other => panic!("{what}: {cid} is {other:?}"),
    }
    if !matches!(stream, Ok(Some(_))) {
        assert_eq!(streamed, b"", "{what}: nothing is given out of what is not whole");
    }
    let mut to = vec![0; bytes.len()];
    if let Ok(Some(read)) = store.read_range(cid, 0, &mut to) {
        assert_eq!(to.get(..read), bytes.get(..read), "{what}: wrong bytes in a range of {cid}");
    }
    matches!(got, Ok(Some(_)))
}

impl Sample {
    /// Reads all of a damaged store, and returns what is not whole.
    fn lost(&self, store: &Store, what: &str) -> BTreeSet<Cid> {
        let is_lost = |(cid, it): &(&Cid, &Object)| !is_whole(store, cid, &it.bytes, what);
        self.objects.iter().filter(is_lost).map(|(cid, _)| *cid).collect()
    }

    /// What may be lost is what the damage touched: of a flipped byte one object of a pack and what has it as a chunk.
    fn check_lost(&self, lost: &BTreeSet<Cid>, path: &str, damage: Damage, what: &str) {
        let has_lost_chunk = |it: &Object| !it.chunks.is_disjoint(lost);
        let touched: Vec<&Cid> = lost.iter().filter(|cid| self.objects[cid].path == path).collect();
        for cid in lost {
            let object = &self.objects[cid];
            assert!(object.path == path || has_lost_chunk(object), "{what}: {cid} was not touched");
            assert!(object.path != path || !damage.is_clear_of(object), "{what}: {cid} is before the cut");
        }
        if let Damage::Flip(_) = damage {
            assert!(touched.len() <= 1, "{what}: {touched:?} of one byte");
        }
    }

    /// Every loss is in the report of a check: the object's name, or that of an object which needs it, or the place.
    fn check_named(&self, lost: &BTreeSet<Cid>, corrupt: &[Corrupt], path: &str, what: &str) {
        let report: Vec<String> = corrupt.iter().map(ToString::to_string).collect();
        for cid in lost {
            let named = report.iter().any(|line| line.contains(&cid.to_string()) || line.contains(path));
            assert!(named, "{what}: {cid} is lost and not named in {report:#?}");
        }
    }

    /// A pin and a lease are what they were, or an error names the file.
    fn check_roots(&self, store: &Store, path: &str, damage: Damage, what: &str) {
        let pins = store.pins().map(|pins| pins.into_keys().collect::<Vec<_>>());
        let leases = store.leases().map(|leases| leases.into_keys().collect::<Vec<_>>());
        for (dir, name, roots) in [("pins/", PIN, pins), ("leases/", LEASE, leases)] {
            match (roots, path.contains(dir), damage) {
                (Ok(names), true, Damage::Removed) => assert_eq!(names, [""; 0]),
                (Ok(names), is_here, _) => assert!(names == [name] && !is_here, "{what}: {names:?}"),
                (Err(Error::Corrupt(why)), true, _) => assert!(why.to_string().contains(path), "{why}"),
                (Err(other), ..) => panic!("{what}: {other}"),
            }
        }
    }

    /// Reads, writes and mends a store of which one file is damaged.
    fn survive(&self, path: &str, damage: Damage) -> bool {
        let what = format!("`{path}` {damage:?}");
        let sim = damage::copy(&self.sim);
        damage.apply(&sim, path);
        let reader = Store::open_read_only(Arc::new(sim.clone()), "store").unwrap();
        let lost = self.lost(&reader, &what);
        self.check_lost(&lost, path, damage, &what);
        self.check_roots(&reader, path, damage, &what);
        let report = reader.fsck().unwrap();
        // Of a large object that is gone nothing is left that could tell of it: whoever asks is told that it is not here.
        if path.ends_with(".pack") || !matches!(damage, Damage::Removed) {
            self.check_named(&lost, &report.corrupt, path, &what);
        }
        drop(reader);
        // Reading is not all that is done to a damaged store; but the rest takes longer than to try it at every byte.
        match damage.place() % 4 {
            0 => self.collect(&sim, &lost, &what),
            2 => self.put_again(&sim, &lost, &what),
            _ => {}
        }
        !lost.is_empty()
    }

    /// A collection of a damaged store removes nothing that lives and is whole; it may refuse.
    fn collect(&self, sim: &SimStorage, lost: &BTreeSet<Cid>, what: &str) {
        let store = open_tiny(sim).unwrap();
        let live = self.objects.keys().copied().collect();
        match store.gc(&live) {
            Ok(_) | Err(Error::Corrupt(_)) => {}
            Err(other) => panic!("{what}: {other}"),
        }
        drop(store);
        sim.crash();
        let now = self.lost(&open_tiny(sim).unwrap(), what);
        assert!(now.is_subset(lost), "{what}: a collection lost {:?}", now.difference(lost));
    }

    /// Who has the objects puts them again: then all is whole, also after a power cut.
    fn put_again(&self, sim: &SimStorage, lost: &BTreeSet<Cid>, what: &str) {
        let store = open_tiny(sim).unwrap();
        assert_eq!(self.lost(&store, what), *lost, "{what}");
        store.fsck().unwrap();
        for object in self.objects.values() {
            match object.chunks.is_empty() {
                true => _ = put(&store, &object.bytes),
                false => _ = put_chunked(&store, &object.bytes),
            }
        }
        store.commit().unwrap();
        drop(store);
        sim.crash();
        assert_eq!(self.lost(&open_tiny(sim).unwrap(), what), BTreeSet::new(), "{what}: all was put again");
    }
}

/// Does all damage to the files whose paths `is_wanted`, and returns how many there were and how often something was lost.
fn damage_all(is_wanted: impl Fn(&str) -> bool) -> (usize, u64) {
    let sample = Sample::new();
    let paths: Vec<String> = sample.sim.paths().into_iter().filter(|path| is_wanted(path)).collect();
    let mut losses = 0;
    for path in &paths {
        let len = sample.sim.peek(path).unwrap().len() as u64;
        let flips = (0..len).map(Damage::Flip);
        let all = flips.chain((0..len).map(Damage::Cut)).chain([Damage::Removed]);
        losses += all.map(|damage| u64::from(sample.survive(path, damage))).sum::<u64>();
    }
    (paths.len(), losses)
}

fn holds_objects(path: &str) -> bool {
    path.ends_with(".pack") || path.contains("large/") || path.contains("chunked/")
}

#[test]
fn there_is_every_kind_of_file() {
    let paths = Sample::new().sim.paths();
    let kinds = [
        ".pack",
        ".idx",
        ".run",
        "index/list",
        "index/lock",
        "large/",
        "chunked/",
        "pins/",
        "leases/",
        ".claims",
        "store/sweep",
        "store/scrub",
        "store/lock",
        "store/collector",
    ];
    for kind in kinds {
        assert!(paths.iter().any(|path| path.contains(kind)), "{kind} in {paths:#?}");
    }
    assert!(paths.iter().all(|path| kinds.iter().any(|kind| path.contains(kind))), "{paths:#?}");
}

#[test]
fn all_damage_to_packs() {
    let (files, losses) = damage_all(|path| path.ends_with(".pack"));
    assert!(files > 1 && losses > 1000, "{losses} losses in {files} packs");
}

#[test]
fn all_damage_to_large_objects() {
    let (files, losses) = damage_all(|path| path.contains("large/") || path.contains("chunked/"));
    assert!(files == 2 && losses > 500, "{losses} losses in {files} files");
}

#[test]
fn all_damage_to_what_can_be_made_anew() {
    let (files, losses) = damage_all(|path| !holds_objects(path));
    assert!(files > 8);
    assert_eq!(losses, 0, "no object is in them");
}

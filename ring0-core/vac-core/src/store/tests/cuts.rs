//! The power goes at every single call of the disk, one after another: what was acknowledged is there, and all that
//! is there verifies.

use super::*;

/// What must be there.
#[derive(Default)]
struct Known {
    objects: BTreeMap<Cid, Vec<u8>>,
    pins: Roots<Cid>,
    leases: Roots<Lease>,
}

/// What each root may be; more than one after a change that was not acknowledged.
type Roots<T> = BTreeMap<&'static str, Vec<Option<T>>>;

/// Changes one root, and notes before what it may become and after what it is.
fn change<T: Copy>(
    roots: &mut Roots<T>,
    name: &'static str,
    to: Option<T>,
    done: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let may_be = roots.entry(name).or_insert_with(|| vec![None]);
    may_be.push(to);
    done()?;
    *may_be = vec![to];
    Ok(())
}

impl Known {
    fn put(&mut self, bytes: Vec<u8>) -> Cid {
        let cid = Cid::of_raw(&bytes);
        self.objects.insert(cid, bytes);
        cid
    }

    fn pin(&mut self, store: &Store, name: &'static str, cid: Cid) -> Result<()> {
        change(&mut self.pins, name, Some(cid), || store.pin(name, &cid))
    }

    fn unpin(&mut self, store: &Store, name: &'static str) -> Result<()> {
        change(&mut self.pins, name, None, || store.unpin(name).map(|_| ()))
    }

    fn lease(&mut self, store: &Store, name: &'static str, lease: Lease) -> Result<()> {
        change(&mut self.leases, name, Some(lease), || store.lease(name, &lease))
    }

    fn end_lease(&mut self, store: &Store, name: &'static str) -> Result<()> {
        change(&mut self.leases, name, None, || store.end_lease(name).map(|_| ()))
    }

    fn check(&self, store: &Store, what: &str) {
        assert_eq!(store.fsck().unwrap().corrupt, [], "{what}: a power cut is not corruption");
        assert_holds(store, &self.objects);
        let (pins, leases) = (store.pins().unwrap(), store.leases().unwrap());
        for (name, may_be) in &self.pins {
            assert!(may_be.contains(&pins.get(*name).copied()), "{what}: pin {name} of {pins:?}");
        }
        for (name, may_be) in &self.leases {
            assert!(may_be.contains(&leases.get(*name).copied()), "{what}: lease {name} of {leases:?}");
        }
    }
}

/// One life of a process: it opens the store and works.
type Work<'a> = &'a dyn Fn(&Store, &mut Known) -> Result<()>;

fn live(sim: &SimStorage, known: &mut Known, work: Work<'_>) -> Result<()> {
    let store = Store::open_tuned(Arc::new(sim.clone()), "store", SMALL)?;
    work(&store, known)
}

/// Does `work` on what `prepare` made, and cuts the power at its first call, at its second, and so on until it ends
/// before that; each time in some ways of what unsynced writes become. Then opens the store, cuts the power once more
/// on the way, and does all of `work`. Returns how many calls there were to cut.
fn cut_everywhere(prepare: Work<'_>, work: Work<'_>) -> u64 {
    for at in 0.. {
        let mut is_over = false;
        for way in 0..2 {
            let sim = SimStorage::new(at * 2 + way);
            let mut known = Known::default();
            live(&sim, &mut known, prepare).unwrap();
            sim.halt_at(at);
            is_over = live(&sim, &mut known, work).is_ok();
            sim.crash();
            known.check(&open(&sim), &format!("call {at}, way {way}"));
            // What another life does after a power cut can be cut as well.
            sim.halt_at((at * 7 + way * 13) % 60);
            let _ = live(&sim, &mut known, work);
            sim.crash();
            known.check(&open(&sim), &format!("call {at}, way {way}, the second time"));
            live(&sim, &mut known, work).unwrap();
            sim.crash();
            known.check(&open(&sim), &format!("call {at}, way {way}, in the end"));
        }
        if is_over {
            return at;
        }
    }
    unreachable!("the numbers do not end")
}

fn nothing(_: &Store, _: &mut Known) -> Result<()> {
    Ok(())
}

/// Objects of some packs, with an index on disk, and large ones of both forms.
fn filled(store: &Store, known: &mut Known) -> Result<()> {
    for i in 0..14 {
        known.put(bytes_of(i, 40 + i as usize * 37));
        store.put(Codec::Raw, &bytes_of(i, 40 + i as usize * 37))?;
    }
    store.commit()?;
    for i in 0..2 {
        let cid = known.put(bytes_of(100 + i, 4100));
        store.put(Codec::Raw, &known.objects[&cid])?;
        let cid = known.put(bytes_of(200 + i, 4300));
        store.put_chunked(Codec::Raw, &mut &known.objects[&cid][..], u64::MAX)?;
    }
    known.pin(store, "kept", Cid::of_raw(&bytes_of(3, 40 + 3 * 37)))?;
    known.lease(store, "for long", Lease { cid: Cid::of_raw(&bytes_of(4, 40 + 4 * 37)), ends: 100 })?;
    known.lease(store, "ends", Lease { cid: Cid::of_raw(&bytes_of(5, 40 + 5 * 37)), ends: 5 })
}

#[test]
fn puts_and_commits() {
    let work = |store: &Store, known: &mut Known| {
        for batch in 0..4_u64 {
            let of_batch = |i: u64| bytes_of(batch * 10 + i, 30 + (batch * 150 + i) as usize);
            for i in 0..3 {
                store.put(Codec::Raw, &of_batch(i))?;
            }
            store.commit()?;
            (0..3).for_each(|i| _ = known.put(of_batch(i)));
        }
        Ok(())
    };
    let calls = [cut_everywhere(&nothing, &work), cut_everywhere(&filled, &work)];
    assert!(calls.iter().all(|calls| *calls > 60), "{calls:?} calls to cut");
}

#[test]
fn large_puts() {
    let work = |store: &Store, known: &mut Known| {
        let put = bytes_of(1, 5000);
        store.put(Codec::Raw, &put)?;
        known.put(put);
        let streamed = bytes_of(2, 6000);
        store.put_stream(Codec::Raw, &mut &streamed[..], u64::MAX)?;
        known.put(streamed);
        // Found here, and so acknowledged without being written.
        store.put(Codec::Raw, &bytes_of(1, 5000)).map(|_| ())
    };
    let calls = [cut_everywhere(&nothing, &work), cut_everywhere(&filled, &work)];
    assert!(calls.iter().all(|calls| *calls > 25), "{calls:?} calls to cut");
}

#[test]
fn puts_in_chunks() {
    let work = |store: &Store, known: &mut Known| {
        let old = bytes_of(1, 4100);
        let new = [&old[..2500], b"what is new", &old[2500..]].concat();
        for bytes in [old, new] {
            store.put_chunked(Codec::Raw, &mut &bytes[..], u64::MAX)?;
            known.put(bytes);
        }
        Ok(())
    };
    let calls = [cut_everywhere(&nothing, &work), cut_everywhere(&filled, &work)];
    assert!(calls.iter().all(|calls| *calls > 60), "{calls:?} calls to cut");
}

#[test]
fn pins_and_leases() {
    let work = |store: &Store, known: &mut Known| {
        let [one, two] = [bytes_of(1, 100), bytes_of(2, 200)];
        let cids = [store.put(Codec::Raw, &one)?, store.put(Codec::Raw, &two)?];
        // A pin commits what it names.
        known.pin(store, "a", cids[0])?;
        known.put(one);
        known.put(two);
        known.pin(store, "b", cids[1])?;
        known.pin(store, "a", cids[1])?;
        known.lease(store, "l", Lease { cid: cids[0], ends: 9 })?;
        known.lease(store, "l", Lease { cid: cids[0], ends: 19 })?;
        known.unpin(store, "b")?;
        known.unpin(store, "kept")?;
        known.end_lease(store, "l")?;
        known.end_lease(store, "for long")
    };
    let calls = [cut_everywhere(&nothing, &work), cut_everywhere(&filled, &work)];
    assert!(calls.iter().all(|calls| *calls > 60), "{calls:?} calls to cut");
}

/// What lives stays: what is named, pinned, leased, and put since the collection began.
#[test]
fn collections() {
    let work = |store: &Store, known: &mut Known| {
        let collection = store.begin_gc()?;
        let pinned = [3, 4].map(|i| Cid::of_raw(&bytes_of(i, 40 + i as usize * 37)));
        let mut nth = 0;
        let (mut named, mut again) = (BTreeSet::new(), Vec::new());
        // It may remove the others, also if it does not end.
        known.objects.retain(|cid, bytes| {
            nth += 1;
            match nth % 3 {
                0 => _ = named.insert(*cid),
                1 if bytes.len() < SMALL.large_min => again.push(bytes.clone()),
                _ => return pinned.contains(cid),
            }
            true
        });
        again.iter().try_for_each(|bytes| store.put(Codec::Raw, bytes).map(|_| ()))?;
        known.leases.entry("ends").or_default().push(None);
        collection.collect_at(&named, 50)?;
        known.leases.insert("ends", vec![None]);
        Ok(())
    };
    let calls = cut_everywhere(&filled, &work);
    assert!(calls > 100, "{calls} calls to cut");
}

/// One call fails, and the rest works. A read that failed while objects were copied was called corruption.
#[test]
fn a_collection_whose_disk_fails_once_says_so() {
    let mut failed = 0;
    for at in 0.. {
        let sim = SimStorage::new(at);
        let mut known = Known::default();
        live(&sim, &mut known, &filled).unwrap();
        known.objects.retain(|cid, _| cid.digest()[0] % 3 != 0);
        known.leases.clear();
        let live_objects = known.objects.keys().copied().collect();
        let store = open(&sim);
        let calls = sim.op_count();
        sim.fail_op(at);
        match store.gc(&live_objects) {
            Ok(_) => {}
            Err(Error::Abort(_)) => failed += 1,
            Err(other) => panic!("call {at}: a failing disk is not corruption: {other}"),
        }
        if sim.op_count() - calls <= at {
            break;
        }
        sim.clear_faults();
        drop(store);
        sim.crash();
        known.check(&open(&sim), &format!("call {at} failed"));
    }
    assert!(failed > 50, "{failed} calls that a collection cannot do without");
}

/// A store with rotten bytes is scrubbed, with somebody who has them all: wherever that is cut, nothing that was whole is
/// lost, and the next scrub mends the rest. At every third call only, for there are many.
#[test]
fn scrubs_that_mend() {
    let mut cut = 0;
    for at in (0..).step_by(3) {
        let sim = SimStorage::new(at);
        let mut known = Known::default();
        live(&sim, &mut known, &filled).unwrap();
        for path in sim.paths().iter().filter(|path| !path.contains("pins/") && !path.contains("leases/")) {
            let len = sim.peek(path).unwrap().len() as u64;
            sim.flip_bit(path, len / 2, 3);
        }
        let is_whole = |store: &Store, cid: &Cid| matches!(store.is_whole(cid), Ok(true));
        let whole: Vec<Cid> =
            known.objects.keys().copied().filter(|cid| is_whole(&open(&sim), cid)).collect();
        assert!(whole.len() < known.objects.len());
        sim.crash();
        let source = |cid: &Cid| Ok(known.objects.get(cid).cloned());
        sim.halt_at(at);
        let store = Store::open_tuned(Arc::new(sim.clone()), "store", SMALL);
        let is_over = store.and_then(|store| store.scrub(u64::MAX, &source)).is_ok();
        sim.crash();
        let store = open(&sim);
        assert!(whole.iter().all(|cid| is_whole(&store, cid)), "call {at}");
        store.scrub(u64::MAX, &source).unwrap();
        drop(store);
        sim.crash();
        assert_holds(&open(&sim), &known.objects);
        if is_over {
            break;
        }
        cut += 3;
    }
    assert!(cut > 100, "{cut} calls to cut");
}

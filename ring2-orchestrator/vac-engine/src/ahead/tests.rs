//! Records of many batches: their entries, heads, answers, ends and damage.

use vac_core::fault::Error;
use vac_core::ledger::{Call, Committer, Outcome, RunId};
use vac_core::storage::{SimStorage, Storage};

use super::*;

const EVENTS: u64 = 3000;

struct Bench {
    sim: SimStorage,
    store: Arc<Store>,
    run: RunId,
    ledger: Ledger,
    committer: Committer,
}

fn event(seq: u64, answer: Body) -> Entry {
    let request = Body::digest(&seq.to_le_bytes());
    let call = Call { seq, parent: None, name: 0, class: Class::Read, tick: seq * 7, request };
    Entry::Event(call, Return { answer: Ok(answer), grant: None, denied: None })
}

impl Bench {
    /// A record of `EVENTS` events after its name; every third has its answer in the store.
    fn new(seed: u32) -> Self {
        let sim = SimStorage::new(u64::from(seed));
        let storage: Arc<dyn Storage> = Arc::new(sim.clone());
        let store = Arc::new(Store::open(Arc::clone(&storage), "store").unwrap());
        let run = RunId::new(1, seed << 2);
        let (mut ledger, committer) = Ledger::create(storage, run, Header::default()).unwrap();
        ledger.append(&Entry::Name(0, "a:b/c#f".to_owned()));
        for seq in 0..EVENTS {
            let body = match seq % 3 {
                0 => stored(&store, seq),
                _ => Body::digest(b"short"),
            };
            ledger.append(&event(seq, body));
        }
        Self { sim, store, run, ledger, committer }
    }

    fn commit(&mut self) {
        let group = self.ledger.take_group(self.committer.durable_bytes(), Vec::new());
        self.committer.commit(&group).unwrap();
    }

    fn close(&mut self) {
        self.ledger.append(&Entry::Close { outcome: Outcome::Exit(0), ticks: 9, events: EVENTS });
        self.commit();
    }

    fn follow(&self) -> Ahead {
        let mut reader = Reader::open(Arc::new(self.sim.clone()), self.run).unwrap();
        reader.next().unwrap();
        Ahead::new(reader, Arc::clone(&self.store), None).unwrap()
    }
}

fn stored(store: &Store, seq: u64) -> Body {
    let bytes = seq.to_le_bytes().repeat(40);
    let cid = store.put(vac_core::cid::Codec::Raw, &bytes).unwrap();
    Body::Stored { cid, len_bytes: bytes.len() as u64 }
}

#[test]
fn entries_come_in_order_with_their_answers_and_the_chain_is_that_of_the_ledger() {
    let mut bench = Bench::new(1);
    bench.close();
    let mut ahead = bench.follow();
    let mut chain = Ledger::in_memory(Header::default());
    let mut seen = 0;
    while let Some(entry) = ahead.next().cloned() {
        if let Entry::Event(call, _) = &entry {
            assert_eq!(call.seq, seen);
            let answer = (seen % 3 == 0).then(|| seen.to_le_bytes().repeat(40));
            assert_eq!(ahead.take_answer(), answer);
            seen += 1;
        }
        chain.append(&entry);
        ahead.advance().unwrap();
        // Asked for now and then, in the middle of batches and at their ends.
        if seen % 97 == 0 {
            assert_eq!(ahead.head(), (chain.head(), chain.entries()));
        }
    }
    assert_eq!((seen, ahead.tail()), (EVENTS, Some(Tail::Closed)));
    assert_eq!(ahead.head(), (bench.ledger.head(), bench.ledger.entries()));
}

#[test]
fn a_record_without_an_outcome_ends_open() {
    let mut bench = Bench::new(2);
    bench.commit();
    let mut ahead = bench.follow();
    let mut count = 0;
    while ahead.next().is_some() {
        count += 1;
        ahead.advance().unwrap();
    }
    assert_eq!((count, ahead.tail()), (EVENTS + 1, Some(Tail::Open { dropped_bytes: 0 })));
}

#[test]
fn damage_is_said_where_it_is_and_not_before() {
    let mut bench = Bench::new(3);
    bench.commit();
    let first = bench.committer.durable_bytes();
    // An event that has the number of another.
    bench.ledger.append(&event(5, Body::default()));
    bench.close();
    assert!(bench.committer.durable_bytes() > first);
    let mut ahead = bench.follow();
    let mut count = 0;
    let error = loop {
        assert!(ahead.next().is_some(), "the damage was not said");
        count += 1;
        if let Err(error) = ahead.advance() {
            break error;
        }
    };
    assert_eq!(count, EVENTS + 1);
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert!(ahead.next().is_none());
}

#[test]
fn who_follows_no_more_waits_for_no_thread() {
    let mut bench = Bench::new(4);
    bench.close();
    let mut ahead = bench.follow();
    (0..100).for_each(|_| ahead.advance().unwrap());
    drop(ahead);
    assert_eq!(Arc::strong_count(&bench.store), 1, "the thread is gone");
}

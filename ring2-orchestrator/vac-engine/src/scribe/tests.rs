//! Order, bounds and failures of what is written beside the guest.

use vac_core::ledger::{Call, Class, Header, Ledger, Return, RunId};
use vac_core::storage::{SimStorage, Storage};

use super::*;

fn start(seed: u64) -> (SimStorage, Arc<Scribe>) {
    let sim = SimStorage::new(seed);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let store = Arc::new(Store::open(Arc::clone(&storage), "store").unwrap());
    let (mut ledger, _) = Ledger::create(storage, RunId::new(1, seed as u32), Header::default()).unwrap();
    ledger.append(&Entry::Name(0, "a:b/c#f".to_owned()));
    (sim, Arc::new(Scribe::new(ledger, store, true)))
}

/// Event `seq`, whose answer is `len` bytes.
fn event(scribe: &Scribe, seq: u64, len: usize) -> Item {
    let (request, asked) = scribe.body(&[seq as u8; 100], false);
    let (body, answer) = scribe.take_body(Response::Written(&mut vec![seq as u8; len]), true);
    let call = Call { seq, parent: None, name: 0, class: Class::Read, tick: seq, request };
    let ret = Return { answer: Ok(body), grant: None, denied: None };
    Item { entry: Entry::Event(call, ret), request: asked, answer }
}

fn queued(scribe: &Scribe) -> usize {
    lock(&scribe.shared.queue).bytes
}

#[test]
fn the_head_does_not_depend_on_who_writes() {
    let lens = |seq: u64| [10, 100, 64 << 10][(seq % 3) as usize];
    let heads: Vec<_> = (0..3)
        .map(|way| {
            let (_, scribe) = start(way);
            for seq in 0..400 {
                scribe.push(event(&scribe, seq, lens(seq))).unwrap();
                // Never, each time, now and then.
                if way == 1 || way == 2 && seq % 50 == 0 {
                    scribe.settle().unwrap();
                }
            }
            scribe.head()
        })
        .collect();
    assert_eq!(heads[0].1, 402);
    assert!(heads.iter().all(|head| *head == heads[0]), "{heads:?}");
}

#[test]
fn a_body_is_in_the_store_before_its_entry_is_in_the_ledger() {
    let (_, scribe) = start(1);
    scribe.push(event(&scribe, 0, 5000)).unwrap();
    scribe.settle().unwrap();
    let pen = lock(&scribe.shared.pen);
    assert_eq!(pen.store.get(&Cid::of_raw(&[0; 5000])).unwrap().as_deref(), Some(&[0; 5000][..]));
    // The request is only named.
    assert_eq!(pen.store.get(&Cid::of_raw(&[0; 100])).unwrap(), None);
}

/// While nobody writes, what is handed over is hashed by whoever does so; it is kept under the same names.
#[test]
fn the_head_does_not_depend_on_who_hashes() {
    const PIECE: usize = 64 << 10;
    let run = |is_held: bool| {
        let (_, scribe) = start(6);
        let pen = is_held.then(|| lock(&scribe.shared.pen));
        for seq in 0..7 {
            scribe.push(event(&scribe, seq, PIECE)).unwrap();
            if !is_held {
                scribe.settle().unwrap();
            }
        }
        let hashed =
            lock(&scribe.shared.queue).items.iter().filter_map(|item| item.answer.as_ref()?.cid).count();
        drop(pen);
        let head = scribe.head();
        let store = Arc::clone(&lock(&scribe.shared.pen).store);
        for seq in 0..7 {
            let bytes = vec![seq; PIECE];
            assert_eq!(store.get(&Cid::of_raw(&bytes)).unwrap(), Some(bytes));
        }
        (hashed, head)
    };
    let (none, settled) = run(false);
    let (some, held) = run(true);
    assert_eq!((none, some), (0, 3));
    assert_eq!(settled, held);
}

/// A guest that is faster than the disk waits; it does not fill the memory of the host.
#[test]
fn what_waits_is_bounded() {
    const PIECE: usize = 64 << 10;
    let (_, scribe) = start(2);
    let pen = lock(&scribe.shared.pen);
    let pushing = {
        let scribe = Arc::clone(&scribe);
        std::thread::spawn(move || {
            (0..200).try_for_each(|seq| scribe.push(event(&scribe, seq, PIECE))).map(|()| scribe.head())
        })
    };
    while queued(&scribe) < QUEUE_MAX_BYTES {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(!pushing.is_finished());
    assert!(queued(&scribe) <= QUEUE_MAX_BYTES + 2 * PIECE, "{} bytes wait", queued(&scribe));
    drop(pen);
    let (_, entries) = pushing.join().unwrap().unwrap();
    assert_eq!(entries, 202);
}

/// Objects that cannot be kept end the run: no entry names them, and nothing is written after them.
#[test]
fn after_a_failure_everybody_learns_why_and_nothing_is_written() {
    let (sim, scribe) = start(3);
    scribe.push(event(&scribe, 0, 10)).unwrap();
    let (before, entries) = scribe.head();
    sim.halt_at(0);
    scribe.push(event(&scribe, 1, 64 << 10)).unwrap();
    scribe.push(event(&scribe, 2, 10)).unwrap();
    let why = scribe.settle().unwrap_err().to_string();
    sim.clear_faults();
    assert_eq!(scribe.push(event(&scribe, 3, 10)).unwrap_err().to_string(), why);
    assert_eq!(scribe.settle().unwrap_err().to_string(), why);
    assert_eq!(scribe.check().unwrap_err().to_string(), why);
    assert_eq!(scribe.head(), (before, entries));
}

/// The thread finds the failure too, and the guest is told at its next event.
#[test]
fn a_failure_of_the_thread_reaches_the_guest() {
    let (sim, scribe) = start(4);
    sim.halt_at(0);
    let failed = (0..100_000).find_map(|seq| scribe.push(event(&scribe, seq, 64 << 10)).err());
    assert!(failed.is_some());
}

#[test]
fn a_writer_that_fell_ends_the_run() {
    let (_, scribe) = start(5);
    lock(&scribe.shared.pen).is_writing = true;
    scribe.push(event(&scribe, 0, 10)).unwrap();
    assert!(scribe.settle().unwrap_err().to_string().contains("ended early"));
}

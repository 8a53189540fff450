//! Ledgers that are read back, cut, flipped, and written to a disk that fails.

use std::sync::Arc;

use super::*;
use crate::canon::{self, Node};
use crate::cid::Cid;
use crate::fault::Error;
use crate::storage::{SimStorage, Storage};

fn run_id() -> RunId {
    RunId::new(1_700_000_000_000, 7)
}

fn header() -> Header {
    Header::new(vec![("what".into(), Node::Text("run".into())), ("format".into(), Node::Int(1))])
}

fn call(seq: Seq, parent: Option<Seq>) -> Call {
    Call { seq, parent, name: 0, class: Class::Read, tick: seq * 10, request: Body::digest(&[0x80]) }
}

fn ret(bytes: &[u8]) -> Return {
    Return { answer: Ok(Body::digest(bytes)), grant: Some(0), denied: None }
}

/// The entries of a small run after its header.
fn entries() -> Vec<Entry> {
    let stored = Body::Stored { cid: Cid::of_raw(b"x"), len_bytes: 1000 };
    vec![
        Entry::Name(0, "a:b/c#f".into()),
        Entry::Note(vec![("started".into(), Node::Int(5))]),
        Entry::Begin(Call { class: Class::Kernel, request: stored.clone(), ..call(0, None) }),
        Entry::Event(call(1, Some(0)), ret(b"one")),
        Entry::Event(call(2, Some(0)), Return { denied: Some("dir:ro=x".into()), grant: None, ..ret(b"") }),
        Entry::Event(
            call(3, Some(0)),
            Return {
                answer: Err(Outcome::Fault { kind: "trap".into(), message: "m".into() }),
                grant: None,
                denied: None,
            },
        ),
        Entry::End(0, Return { answer: Ok(stored), grant: None, denied: None }),
        Entry::Close { outcome: Outcome::Exit(0), ticks: 40, events: 4 },
    ]
}

/// Writes a run with a commit after each `group` entries, and gives its head.
fn write(storage: &Arc<dyn Storage>, entries: &[Entry], group: usize) -> crate::fault::Result<Head> {
    let (mut ledger, mut committer) = Ledger::create(Arc::clone(storage), run_id(), header())?;
    for some in entries.chunks(group) {
        some.iter().for_each(|entry| ledger.append(entry));
        let bytes = ledger.take_group(committer.durable_bytes(), Vec::new());
        committer.commit(&bytes)?;
    }
    committer.close(ledger.head(), ledger.entries())?;
    Ok(ledger.head())
}

fn read(storage: &Arc<dyn Storage>) -> crate::fault::Result<(Vec<Entry>, Head, Tail)> {
    let mut reader = Reader::open(Arc::clone(storage), run_id())?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        if !matches!(entry, Entry::Mark { .. }) {
            entries.push(entry);
        }
    }
    Ok((entries, reader.head(), reader.tail().unwrap()))
}

fn sim(seed: u64) -> (SimStorage, Arc<dyn Storage>) {
    let sim = SimStorage::new(seed);
    (sim.clone(), Arc::new(sim))
}

#[test]
fn what_is_written_is_read_back_and_the_head_does_not_depend_on_groups_or_notes() {
    let (_, storage) = sim(1);
    let head = write(&storage, &entries(), 3).unwrap();
    let (back, read_head, tail) = read(&storage).unwrap();
    assert_eq!(back.first(), Some(&Entry::Header(header())));
    assert_eq!(back.get(1..), Some(&entries()[..]));
    assert_eq!((read_head, tail), (head, Tail::Closed));
    let (_, other) = sim(2);
    let without_note: Vec<_> = entries().into_iter().filter(Entry::is_chained).collect();
    assert_eq!(write(&other, &without_note, 1).unwrap(), head);
}

/// Every entry survives its canonical form.
#[test]
fn every_kind_of_entry_has_one_form() {
    for entry in entries() {
        let bytes = canon::encode(&entry);
        assert_eq!(canon::decode::<Entry>(&bytes, "test"), Ok(entry));
    }
}

const SEGMENT: &str = "runs/05tv1thg0000001.0000";

fn segment(sim: &SimStorage) -> String {
    let paths = sim.paths();
    paths.into_iter().find(|p| p.ends_with(".0000")).unwrap_or_else(|| SEGMENT.into())
}

#[test]
fn a_ledger_cut_at_any_byte_keeps_what_is_before_or_says_what_is_gone() {
    let (first, storage) = sim(3);
    write(&storage, &entries(), 2).unwrap();
    let len = first.peek(&segment(&first)).unwrap().len();
    for cut in 0..len {
        let (sim, storage) = sim(3);
        write(&storage, &entries(), 2).unwrap();
        sim.truncate(&segment(&sim), cut as u64);
        // With the close record, a missing end is damage, unless only the last mark is gone.
        match read(&storage) {
            Err(Error::Corrupt(_)) => {}
            Ok((back, ..)) => assert_eq!(back.len(), entries().len() + 1, "cut at {cut}"),
            Err(other) => panic!("cut at {cut}: {other}"),
        }
        storage.remove(&close_path(run_id())).unwrap();
        // Without it, it is what a crash leaves; a prefix of the entries is there.
        match read(&storage) {
            Ok((back, _, tail)) => {
                let whole: Vec<_> = std::iter::once(Entry::Header(header())).chain(entries()).collect();
                assert_eq!(whole.get(..back.len()), Some(&back[..]), "cut at {cut}");
                assert!(tail != Tail::Closed || back.len() == whole.len(), "cut at {cut}");
            }
            Err(Error::Corrupt(_)) => {}
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (first, storage) = sim(4);
    let head = write(&storage, &entries(), 2).unwrap();
    let len = first.peek(&segment(&first)).unwrap().len();
    for at in 0..len {
        let (sim, storage) = sim(4);
        write(&storage, &entries(), 2).unwrap();
        sim.flip_bit(&segment(&sim), at as u64, (at % 8) as u8);
        match read(&storage) {
            Err(Error::Corrupt(_)) => {}
            // A mark or a note is not covered by the chain; its frame's checksum is the guard.
            Ok((_, read_head, _)) => {
                panic!("flip at {at} gave the head {read_head}, expected an error instead of {head}")
            }
            Err(other) => panic!("flip at {at}: {other}"),
        }
    }
}

#[test]
fn a_flip_in_what_was_durable_is_damage_even_without_a_close_record() {
    let (sim, storage) = sim(5);
    write(&storage, &entries(), 1).unwrap();
    storage.remove(&close_path(run_id())).unwrap();
    sim.flip_bit(&segment(&sim), Segment::LEN as u64 + 12, 0);
    assert!(matches!(read(&storage), Err(Error::Corrupt(_))));
}

/// One seed drives how many entries are written, where the disk fails, and what it keeps.
#[test]
fn after_a_power_cut_every_acknowledged_entry_is_there() {
    for seed in 0..400u64 {
        let (sim, storage) = sim(seed);
        sim.halt_at(5 + seed % 40);
        let acknowledged = write_until_it_fails(&storage, 1 + (seed % 3) as usize);
        sim.crash();
        sim.clear_faults();
        let Ok((back, ..)) = read(&storage) else {
            assert_eq!(acknowledged, 0, "seed {seed}: acknowledged entries cannot be read");
            continue;
        };
        assert!(back.len() >= acknowledged, "seed {seed}: {} of {acknowledged} entries", back.len());
    }
}

/// Writes like [`write`], and counts the entries whose commit returned.
fn write_until_it_fails(storage: &Arc<dyn Storage>, group: usize) -> usize {
    let mut acknowledged = 0;
    let Ok((mut ledger, mut committer)) = Ledger::create(Arc::clone(storage), run_id(), header()) else {
        return 0;
    };
    let all = entries();
    for some in all.chunks(group) {
        some.iter().for_each(|entry| ledger.append(entry));
        let bytes = ledger.take_group(committer.durable_bytes(), Vec::new());
        if committer.commit(&bytes).is_err() {
            return acknowledged;
        }
        acknowledged += some.len() + usize::from(acknowledged == 0);
    }
    acknowledged
}

#[test]
fn after_a_failed_sync_nothing_more_is_accepted() {
    let (sim, storage) = sim(6);
    let (mut ledger, mut committer) = Ledger::create(Arc::clone(&storage), run_id(), header()).unwrap();
    sim.fail_sync(0);
    let group = ledger.take_group(0, Vec::new());
    assert!(committer.commit(&group).is_err());
    sim.clear_faults();
    assert!(committer.commit(&group).is_err(), "what a failed sync kept cannot be known");
}

#[test]
fn entries_that_break_the_rules_are_damage() {
    let bad: Vec<(&str, Vec<Entry>)> = vec![
        ("a name out of order", vec![Entry::Name(1, "x".into())]),
        ("an event before its name", vec![Entry::Event(call(0, None), ret(b""))]),
        ("a second header", vec![Entry::Header(header())]),
        ("an end of nothing", vec![Entry::End(0, ret(b""))]),
        ("a skipped event", vec![Entry::Name(0, "x".into()), Entry::Event(call(1, None), ret(b""))]),
        ("a wrong parent", vec![Entry::Name(0, "x".into()), Entry::Event(call(0, Some(3)), ret(b""))]),
        ("a wrong count", vec![Entry::Close { outcome: Outcome::Exit(0), ticks: 0, events: 9 }]),
    ];
    for (what, entries) in bad {
        let (_, storage) = sim(7);
        write(&storage, &entries, 1).unwrap();
        assert!(matches!(read(&storage), Err(Error::Corrupt(_))), "{what}");
    }
}

#[test]
fn a_long_run_rolls_over_segments_and_reads_as_one() {
    let (sim, storage) = sim(8);
    let (mut ledger, mut committer) = Ledger::create(Arc::clone(&storage), run_id(), header()).unwrap();
    for n in 0..140 {
        ledger.append(&Entry::Note(vec![("pad".into(), Node::Bytes(noise(n, 1 << 19)))]));
        let group = ledger.take_group(committer.durable_bytes(), Vec::new());
        committer.commit(&group).unwrap();
    }
    ledger.append(&Entry::Close { outcome: Outcome::Exit(0), ticks: 0, events: 0 });
    let group = ledger.take_group(committer.durable_bytes(), Vec::new());
    committer.commit(&group).unwrap();
    committer.close(ledger.head(), ledger.entries()).unwrap();
    assert!(sim.paths().iter().any(|p| p.ends_with(".0001")));
    assert_eq!(read(&storage).unwrap().1, ledger.head());
    // The first segment ends early: the second one says that this is not a torn end.
    let first = segment(&sim);
    let len = sim.peek(&first).unwrap().len() as u64;
    sim.truncate(&first, len - 1);
    assert!(matches!(read(&storage), Err(Error::Corrupt(_))));
}

/// The block of these packed bytes, with the right checksums.
fn block(method: u8, unpacked_len: u32, durable_bytes: u32, packed: &[u8]) -> Vec<u8> {
    let mut head = vec![0xb1, 0x0c, 0xd7, method];
    for word in [packed.len() as u32, unpacked_len, durable_bytes, crc32fast::hash(packed)] {
        head.extend(word.to_le_bytes());
    }
    head.extend(crc32fast::hash(&head).to_le_bytes());
    [head, packed.to_vec()].concat()
}

/// The error of a ledger that consists of its header and `blocks`.
fn read_planted(layout: Layout, blocks: &[u8]) -> crate::fault::Result<(Vec<Entry>, Head, Tail)> {
    let (sim, storage) = sim(10);
    let head = Segment { run: run_id(), number: 0 }.to_bytes(layout);
    storage.create_dir(RUNS_DIR).unwrap();
    sim.plant(&segment_path(run_id(), 0), &[&head, blocks].concat());
    read(&storage)
}

/// A small file that says it is large must not become large in memory, nor do much.
#[test]
fn a_block_that_unpacks_to_too_much_is_damage() {
    use crate::limits::LEDGER_BLOCK_MAX_BYTES;
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    assert!(bomb.len() < 10_000);
    let max = LEDGER_BLOCK_MAX_BYTES as u32;
    for unpacked_len in [64 << 20, u32::MAX, max + 1, max, 1000, 0] {
        let read = read_planted(Layout::Blocks, &block(1, unpacked_len, 0, &bomb));
        assert!(matches!(read, Err(Error::Corrupt(_))), "{unpacked_len} bytes");
    }
}

#[test]
fn a_block_that_was_written_wrongly_is_damage_and_not_a_torn_end() {
    let entry = |entry: &Entry| {
        let payload = canon::encode(entry);
        [&(payload.len() as u32).to_le_bytes()[..], &payload].concat()
    };
    let good = entry(&Entry::Header(header()));
    let plain = |bytes: &[u8]| block(0, bytes.len() as u32, 0, bytes);
    assert_eq!(read_planted(Layout::Blocks, &plain(&good)).unwrap().2, Tail::Open { dropped_bytes: 0 });
    let bad: [(&str, Vec<u8>); 7] = [
        ("an unknown method", block(2, good.len() as u32, 0, &good)),
        ("a wrong length", block(0, good.len() as u32 - 1, 0, &good)),
        ("nothing", plain(&[])),
        ("not zstd", block(1, 100, 0, &good)),
        ("an entry that ends early", plain(&good[..good.len() - 1])),
        ("an entry that is too long", plain(&[0xff; 8])),
        ("half a length", plain(&[&good[..], &[1, 0]].concat())),
    ];
    for (what, blocks) in bad {
        assert!(matches!(read_planted(Layout::Blocks, &blocks), Err(Error::Corrupt(_))), "{what}");
    }
}

/// Ledgers of the version before have frames; they are read as they were.
#[test]
fn the_older_layout_is_still_read() {
    let mut frames = Vec::new();
    let all: Vec<_> = std::iter::once(Entry::Header(header())).chain(entries()).collect();
    for entry in &all {
        frame::push_frame(&mut frames, entry);
    }
    let (back, head, tail) = read_planted(Layout::Frames, &frames).unwrap();
    assert_eq!((back, tail), (all, Tail::Closed));
    let (_, storage) = sim(11);
    assert_eq!(head, write(&storage, &entries(), 2).unwrap());
    let torn = read_planted(Layout::Frames, &frames[..frames.len() - 3]).unwrap();
    assert!(matches!(torn.2, Tail::Open { dropped_bytes: 1.. }));
}

/// A killed process leaves the last group in part, and of that any block.
#[test]
fn a_torn_group_of_many_blocks_is_dropped_and_what_was_durable_is_not() {
    let big = |n: u64| Entry::Note(vec![("pad".into(), Node::Bytes(noise(n, 200 << 10)))]);
    let write_groups = |groups: &[u64]| {
        let (sim, storage) = sim(12);
        let (mut ledger, mut committer) = Ledger::create(Arc::clone(&storage), run_id(), header()).unwrap();
        let mut ends = Vec::new();
        for group in groups {
            (0..*group).for_each(|n| ledger.append(&big(n)));
            committer.commit(&ledger.take_group(committer.durable_bytes(), Vec::new())).unwrap();
            ends.push(committer.durable_bytes());
        }
        (sim, storage, ends)
    };
    let (sim, storage, ends) = write_groups(&[1, 8]);
    assert!(ends[1] - ends[0] > 1 << 20, "several blocks");
    let middle = ends[0] + 600_000;
    sim.flip_bit(&segment(&sim), middle, 0);
    let (back, _, tail) = read(&storage).unwrap();
    assert!(matches!(tail, Tail::Open { dropped_bytes: 1.. }) && back.len() >= 2, "{} entries", back.len());
    // With a group after it, the same flip is in what was durable.
    let (sim, storage, _) = write_groups(&[1, 8, 1]);
    sim.flip_bit(&segment(&sim), middle, 0);
    assert!(matches!(read(&storage), Err(Error::Corrupt(_))));
}

/// Bytes that do not get shorter.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What regular events take: the sequence and the tick are all that differs.
#[test]
fn events_that_are_alike_take_few_bytes() {
    let (sim, storage) = sim(13);
    let (mut ledger, mut committer) = Ledger::create(storage, run_id(), header()).unwrap();
    ledger.append(&Entry::Name(0, "wasi:io/poll#poll".into()));
    (0..10_000).for_each(|seq| ledger.append(&Entry::Event(call(seq, None), ret(b"x"))));
    committer.commit(&ledger.take_group(0, Vec::new())).unwrap();
    let len = sim.peek(&segment(&sim)).unwrap().len();
    assert!(len < 10_000 * 12, "{len} bytes for 10,000 events");
}

#[test]
fn a_run_that_is_being_written_is_known_as_such() {
    let (_, storage) = sim(9);
    let (ledger, committer) = Ledger::create(Arc::clone(&storage), run_id(), header()).unwrap();
    assert!(is_running(&*storage, run_id()).unwrap());
    drop((ledger, committer));
    assert!(!is_running(&*storage, run_id()).unwrap());
    assert_eq!(runs(&*storage).unwrap(), [run_id()]);
}

#[test]
fn run_identities_sort_by_time_and_are_checked() {
    let (a, b) = (RunId::new(1_000, u32::MAX), RunId::new(1_001, 0));
    assert!(a < b);
    assert_eq!(a.to_string().parse(), Ok(a));
    for bad in ["", "0", "zzzzzzzzzzzzzzzz", "0123456789abcdefg", "../../etc/passwd"] {
        assert!(bad.parse::<RunId>().is_err(), "{bad}");
    }
}

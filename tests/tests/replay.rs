//! A record that is whole but not true: its chain holds, and a replay still finds the first
//! event that could not have happened.

use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::cid::Cid;
use vac_core::ledger::{Body, Class, Entry, Ledger, Outcome, Reader, RunId};
use vac_core::storage::{RealStorage, Storage};

use crate::guest::{Guest, ROOT};
use crate::support::{Sandbox, number, text};

const DIVERGENCE: i32 = 5;
const INTEGRITY: i32 = 6;

/// A run of a guest that draws, reads and writes, and its identity and head.
pub(crate) fn recorded() -> (Sandbox, String, String) {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", "input");
    let guest = Guest::new()
        .random()
        .open(ROOT, "input", "r")
        .read()
        .open(ROOT, "output", "wc")
        .write("output")
        .clocks();
    sandbox.write("guest.wasm", guest.wasm());
    let run = sandbox.json(&["run", "guest.wasm", "--grant", "dir:rw=d"]);
    let (id, head) = (text(&run, "run").to_owned(), text(&run, "head").to_owned());
    (sandbox, id, head)
}

/// Writes the record of `run` again as another run, with each entry changed by `change`, which is also told the
/// name of the entry's function. The chain of the new record is right.
pub(crate) fn forge(sandbox: &Sandbox, run: &str, mut change: impl FnMut(&mut Entry, &str)) -> String {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(sandbox.home()));
    let mut reader = Reader::open(Arc::clone(&storage), run.parse().unwrap()).unwrap();
    let mut names: Vec<String> = Vec::new();
    let mut entries = Vec::new();
    while let Some(mut entry) = reader.next().unwrap() {
        let name = match &entry {
            Entry::Event(call, _) | Entry::Begin(call) => names[call.name as usize].clone(),
            _ => String::new(),
        };
        if let Entry::Name(_, name) = &entry {
            names.push(name.clone());
        }
        change(&mut entry, &name);
        if entry.is_chained() {
            entries.push(entry);
        }
    }
    let forged = RunId::new(1 << 42, run.bytes().map(u32::from).sum());
    let Entry::Header(header) = entries.remove(0) else { panic!("the first entry is the header") };
    let (mut ledger, mut committer) = Ledger::create(storage, forged, header).unwrap();
    entries.iter().for_each(|entry| ledger.append(entry));
    let (head, count) = (ledger.head(), ledger.entries());
    committer.commit(&ledger.take_group(0, Vec::new())).unwrap();
    committer.close(head, count).unwrap();
    forged.to_string()
}

/// Forges the record; it must verify, and not replay: the first difference is at a line with all
/// of `words`.
fn assert_diverges(change: impl FnMut(&mut Entry, &str), words: &[&str]) {
    let (sandbox, run, head) = recorded();
    let forged = forge(&sandbox, &run, change);
    sandbox.vac(&["verify", &forged]).ok();
    assert_eq!(
        sandbox.vac(&["verify", &forged, "--head", &head]).code(),
        INTEGRITY,
        "the head is of another record"
    );
    let ran = sandbox.vac(&["replay", &forged]).fails(DIVERGENCE, &["replay differs at event"]);
    assert!(ran.stderr.contains("\n  recorded: ") && ran.stderr.contains("\n  replayed: "), "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "expected `{word}`: {}", ran.stderr);
    }
    let object = sandbox.vac(&["--json", "replay", &forged]).json();
    assert_eq!((text(&object["error"], "kind"), number(&object["error"], "exit_code")), ("divergence", 5));
    sandbox.vac(&["replay", &run]).ok();
}

#[test]
fn a_copy_that_changes_nothing_replays() {
    let (sandbox, run, head) = recorded();
    let copy = forge(&sandbox, &run, |_, _| {});
    assert_eq!(text(&sandbox.json(&["replay", &copy]), "head"), head);
}

#[test]
fn an_answer_that_was_not_given_is_found() {
    let change = |entry: &mut Entry, name: &str| match entry {
        Entry::Event(call, ret) if call.class == Class::Computed && name.contains("random") => {
            ret.answer = Ok(Body::digest(b"\x50aaaaaaaaaaaaaaaa"));
        }
        _ => {}
    };
    assert_diverges(change, &["random"]);
}

/// What was read from outside is believed, so the difference is in what the guest made of it.
#[test]
fn a_file_that_was_not_read_is_found_by_what_was_written() {
    let change = |entry: &mut Entry, _: &str| match entry {
        Entry::Event(call, ret) if call.class == Class::Read => {
            if let Ok(Body::Inline(bytes)) = &mut ret.answer
                && let Some(at) = bytes.windows(5).position(|part| part == b"input")
            {
                bytes[at] = b'X';
            }
        }
        _ => {}
    };
    assert_diverges(change, &["write"]);
}

#[test]
fn an_effect_that_did_not_happen_is_found() {
    let change = |entry: &mut Entry, _: &str| match entry {
        Entry::Begin(call) if call.class == Class::Effect => {
            if let Body::Inline(bytes) = &mut call.request
                && let Some(at) = bytes.windows(6).position(|part| part == b"output")
            {
                bytes[at] = b'X';
            }
        }
        _ => {}
    };
    assert_diverges(change, &["Xutput", "output"]);
}

#[test]
fn an_event_at_another_tick_is_found() {
    let mut is_done = false;
    let change = |entry: &mut Entry, name: &str| match entry {
        Entry::Event(call, _) if name.contains("clock") && !is_done => {
            call.tick += 1;
            is_done = true;
        }
        _ => {}
    };
    assert_diverges(change, &["at tick"]);
}

#[test]
fn another_seed_is_found() {
    let change = |entry: &mut Entry, _: &str| {
        if let Entry::Header(header) = entry {
            header
                .fields
                .iter_mut()
                .filter(|(name, _)| name == "seed")
                .for_each(|(_, value)| *value = Node::Int(6));
        }
    };
    assert_diverges(change, &["random"]);
}

#[test]
fn another_end_is_found() {
    let exit = |entry: &mut Entry, _: &str| {
        if let Entry::Close { outcome, .. } = entry {
            *outcome = Outcome::Exit(9);
        }
    };
    assert_diverges(exit, &["exit 9", "exit 0"]);
    let ticks = |entry: &mut Entry, _: &str| {
        if let Entry::Close { ticks, .. } = entry {
            *ticks += 1;
        }
    };
    assert_diverges(ticks, &["the end of the run"]);
}

#[test]
fn another_program_is_found() {
    let other = Guest::new().say("something else\n").wasm();
    let (sandbox, run, _) = recorded();
    sandbox.write("other.wasm", &other);
    sandbox.vac(&["store", "put", "other.wasm"]).ok();
    let link = Node::Link(Cid::of_raw(&other));
    let forged = forge(&sandbox, &run, |entry, _| {
        if let Entry::Header(header) = entry {
            header
                .fields
                .iter_mut()
                .filter(|(name, _)| name == "target")
                .for_each(|(_, value)| *value = link.clone());
        }
    });
    sandbox.vac(&["replay", &forged]).fails(DIVERGENCE, &["replay differs at event"]);
}

/// A header from another world: a field that is missing, or of the wrong kind, is an error that names it.
#[test]
fn a_header_that_makes_no_sense_is_an_integrity_error() {
    for field in ["seed", "target", "engine", "format", "what", "args", "memory_max_bytes"] {
        let (sandbox, run, _) = recorded();
        let missing = forge(&sandbox, &run, |entry, _| {
            if let Entry::Header(header) = entry {
                header.fields.retain(|(name, _)| name != field);
            }
        });
        let ran = sandbox.vac(&["replay", &missing]).fails(INTEGRITY, &[field]);
        assert!(ran.error_line().contains("nothing"), "{}", ran.stderr);
        sandbox.vac(&["runs"]).ok();
    }
    let (sandbox, run, _) = recorded();
    let wrong = forge(&sandbox, &run, |entry, _| {
        if let Entry::Header(header) = entry {
            header
                .fields
                .iter_mut()
                .filter(|(name, _)| name == "seed")
                .for_each(|(_, value)| *value = Node::Int(-1));
        }
    });
    sandbox.vac(&["replay", &wrong]).fails(INTEGRITY, &["seed"]);
}

/// A limit ends a run at the same tick every time, and in its replay. The engine looks at the count where
/// loops and calls begin, so the last piece of straight code may pass the limit.
#[test]
fn the_last_tick_counts() {
    let (sandbox, _, _) = recorded();
    let run = |ticks: u64| {
        sandbox.vac(&["--json", "run", "guest.wasm", "--grant", "dir:rw=d", "--ticks", &ticks.to_string()])
    };
    let free = number(&run(1 << 40).ok().json(), "ticks");
    let mut low = 1;
    let mut high = free;
    while low < high {
        let middle = (low + high) / 2;
        if run(middle).code() == 0 { high = middle } else { low = middle + 1 }
    }
    assert!(free - low < 1000, "a limit of {low} is enough for {free} ticks");
    assert_eq!(run(low).ok().json()["head"], run(low).ok().json()["head"]);
    let stopped = run(low - 1);
    assert_eq!(stopped.code(), 4);
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(text(&replayed, "head"), text(&stopped.json(), "head"));
    assert_eq!(run(low - 1).json()["head"], stopped.json()["head"]);
}

/// Output and input of some megabytes pass through the ledger unharmed.
#[test]
fn much_data_replays() {
    let sandbox = Sandbox::new();
    let copy = "(loop $next
        (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 65536))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (global.set $n (i32.load (i32.const 8)))
        (call $say (i32.const 65536) (global.get $n))
        (br_if $next (global.get $n)))";
    sandbox.write("cat.wasm", Guest::new().raw(copy).wasm());
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(|i| i.to_le_bytes()).take(3 << 20).collect();
    let ran = sandbox.vac_with_input(&["run", "cat.wasm", "--grant", "stdin"], &input).ok();
    assert!(ran.stdout == input, "{} bytes of {} came out", ran.stdout.len(), input.len());
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
}

/// Ticks of another engine are not compared. What a kernel gave stands beside them, and once was not compared
/// either.
#[test]
fn results_compare_whatever_engine_recorded_them() {
    let (sandbox, run, _) = recorded();
    let of_another_engine = |entry: &mut Entry| match entry {
        Entry::Header(header) => {
            let engine = header.fields.iter_mut().filter(|(name, _)| name == "engine");
            engine.for_each(|(_, value)| *value = Node::Text("another".into()));
        }
        Entry::Event(call, _) => call.tick += 1,
        _ => {}
    };
    let slower = forge(&sandbox, &run, |entry, _| of_another_engine(entry));
    assert_eq!(sandbox.json(&["replay", &slower])["same_engine"], false);
    sandbox.vac(&["runs", "rm", &slower]).ok();
    let other_result = forge(&sandbox, &run, |entry, _| {
        of_another_engine(entry);
        if let Entry::End(0, ret) = entry
            && let Ok(Body::Inline(bytes)) = &mut ret.answer
            && let Some(status) = bytes.last_mut()
        {
            *status += 5;
        }
    });
    sandbox.vac(&["replay", &other_result]).fails(DIVERGENCE, &["replay differs at event 0"]);
}

/// A guest that asks often enough that its record is read beside it, in many parts, and lies in columns.
fn recorded_long() -> (Sandbox, String, String) {
    let sandbox = Sandbox::new();
    let guest = (0..300).fold(Guest::new(), |guest, n| guest.clocks().say(&format!("line {n}\n")));
    sandbox.write("guest.wasm", guest.wasm());
    let run = sandbox.json(&["run", "guest.wasm"]);
    assert!(number(&run, "events") > 1200, "{run}");
    let (id, head) = (text(&run, "run").to_owned(), text(&run, "head").to_owned());
    (sandbox, id, head)
}

#[test]
fn the_first_difference_of_a_long_record_is_named() {
    let (sandbox, run, head) = recorded_long();
    assert_eq!(text(&sandbox.json(&["replay", &run]), "head"), head);
    for seq in [40, 700, 1200] {
        let forged = forge(&sandbox, &run, |entry, _| match entry {
            Entry::Event(call, _) | Entry::Begin(call) if call.seq >= seq => call.tick += 1,
            _ => {}
        });
        sandbox.vac(&["replay", &forged]).fails(DIVERGENCE, &[&format!("replay differs at event {seq}:")]);
        std::fs::remove_file(sandbox.home().join(format!("runs/{forged}.0000"))).unwrap();
        std::fs::remove_file(sandbox.home().join(format!("runs/{forged}.close"))).unwrap();
    }
}

/// A process that was killed leaves no outcome.
#[test]
fn a_long_record_that_was_cut_off_replays_up_to_its_last_event() {
    let (sandbox, run, _) = recorded_long();
    for events in [50, 1001] {
        let cut = cut(&sandbox, &run, events);
        let replayed = sandbox.json(&["replay", &cut]);
        assert!(replayed["outcome"].is_null(), "{replayed}");
        // An effect whose end is not there was not answered.
        assert!((events - 1..=events).contains(&number(&replayed, "events")), "{events}: {replayed}");
    }
}

/// A record of the first `events` events of `run`.
fn cut(sandbox: &Sandbox, run: &str, events: u64) -> String {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(sandbox.home()));
    let mut reader = Reader::open(Arc::clone(&storage), run.parse().unwrap()).unwrap();
    let Some(Entry::Header(header)) = reader.next().unwrap() else { panic!("a run begins with a header") };
    let cut = RunId::new(1 << 43, events as u32);
    let (mut ledger, mut committer) = Ledger::create(storage, cut, header).unwrap();
    let is_behind =
        |entry: &Entry| matches!(entry, Entry::Event(call, _) | Entry::Begin(call) if call.seq >= events);
    while let Some(entry) = reader.next().unwrap().filter(|entry| !is_behind(entry)) {
        if entry.is_chained() {
            ledger.append(&entry);
        }
    }
    committer.commit(&ledger.take_group(0, Vec::new())).unwrap();
    cut.to_string()
}

/// Story: it said that the run differs, and with `--from-snapshot` the snapshots were thrown away one by one.
#[test]
fn a_replay_that_is_stopped_says_nothing_of_the_run() {
    let sandbox = Sandbox::new();
    let module = r#"(module
      (memory (export "memory") 1)
      (func (export "_start") (local $n i64)
        (loop $again
          (local.set $n (i64.add (local.get $n) (i64.const 1)))
          (i64.store (i32.const 0) (local.get $n))
          (br_if $again (i64.lt_u (local.get $n) (i64.const 1000000000))))))"#;
    sandbox.write("long.wasm", wat::parse_str(module).unwrap());
    sandbox.vac(&["run", "long.wasm"]).ok();
    sandbox.vac(&["replay", "last", "--limit", "time=100ms"]).fails(4, &["longer than 100ms"]);
}

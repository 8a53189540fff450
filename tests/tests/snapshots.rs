//! Snapshots between calls: a replay that begins at one ends as the run did, and none is trusted.

use std::path::PathBuf;

use serde_json::Value;
use vac_core::canon::{Node, decode, encode};
use vac_core::cid::Cid;

use crate::support::{Sandbox, number, text};

/// Keeps all that a snapshot has to keep: globals of every type of number, two memories, growth, entropy.
const KEEPER: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 2 64)
  (global $a (mut i32) (i32.const 1))
  (global $b (mut i64) (i64.const 2))
  (global $c (mut f32) (f32.const 0.5))
  (global $d (mut f64) (f64.const 0.25))
  (global $e (mut v128) (v128.const i64x2 3 4))
  (global $never (mut funcref) (ref.null func))
  (table 4 funcref)
  (elem (i32.const 1) $next)
  (func $next (result i32)
    (global.set $a (i32.add (i32.mul (global.get $a) (i32.const 1103515245)) (i32.const 12345)))
    (global.get $a))
  ;; Writes $n words below 64 KiB times $pages.
  (func (export "work") (param $n i32) (param $pages i32) (result i32) (local $at i32)
    (loop $again
      (local.set $at (i32.shl (i32.rem_u (call_indirect (result i32) (i32.const 1))
        (i32.mul (local.get $pages) (i32.const 16384))) (i32.const 2)))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (global.get $a)))
      (global.set $b (i64.add (global.get $b) (i64.const 7)))
      (global.set $c (f32.add (global.get $c) (f32.const 1)))
      (global.set $d (f64.add (global.get $d) (f64.const 1.5)))
      (global.set $e (i64x2.add (global.get $e) (v128.const i64x2 5 6)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (global.get $a))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "draw") (result i64)
    (drop (call $random (i32.const 8) (i32.const 8)))
    (i64.load (i32.const 8)))
  ;; Of all memory and all globals.
  (func (export "sum") (result i64) (local $at i32) (local $sum i64)
    (loop $again
      (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 5)) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $again (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
    (i64.add (local.get $sum) (i64.add
      (i64.add (global.get $b) (i64.extend_i32_s (i32.reinterpret_f32 (global.get $c))))
      (i64.add (i64.reinterpret_f64 (global.get $d))
        (i64.add (i64x2.extract_lane 0 (global.get $e)) (i64x2.extract_lane 1 (global.get $e)))))))
)"#;

const CALLS: [&str; 11] = [
    "work(2000, 2)",
    "s = sum()",
    "draw()",
    "grow(3)",
    "work(3000, 5)",
    "draw()",
    "work(10, 1)",
    "sum()",
    "grow(1)",
    "work(500, 6)",
    "sum()",
];

/// A run of [`CALLS`], and its identity.
fn recorded() -> (Sandbox, Value) {
    let sandbox = Sandbox::new();
    sandbox.write("keeper.wasm", wat::parse_str(KEEPER).unwrap());
    let run = sandbox.json(&[&["call", "keeper.wasm", "--seed", "7"], &CALLS[..]].concat());
    (sandbox, run)
}

fn replay(sandbox: &Sandbox, run: &str, more: &[&str]) -> Value {
    sandbox.json(&[&["replay", run], more].concat())
}

/// Leaves a snapshot wherever there can be one, and says how many.
fn leave(sandbox: &Sandbox, run: &str) -> u64 {
    number(&replay(sandbox, run, &["--snapshots", "1"]), "snapshots")
}

#[test]
fn a_replay_from_any_snapshot_ends_as_the_run_that_never_stopped() {
    let (sandbox, run) = recorded();
    let (id, head) = (text(&run, "run"), text(&run, "head"));
    let made = leave(&sandbox, id);
    assert!(made >= 5, "{made}");
    let listed = sandbox.json(&["runs", "snapshots", id])["snapshots"].as_array().unwrap().clone();
    assert_eq!(listed.len() as u64, made);
    // Each in turn is the last one, and what follows is run from it.
    for last in (0..listed.len()).rev() {
        let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
        assert_eq!(text(&replayed, "head"), head, "{replayed}");
        assert_eq!(number(&replayed, "ticks"), number(&run, "ticks"));
        assert_eq!(number(&replayed["from"], "event"), number(&listed[last], "event"));
        assert_eq!(replayed["unusable"], serde_json::json!([]));
        keep_lines(&sandbox, id, last);
    }
    let from_start = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
    assert!(from_start["from"].is_null() && text(&from_start, "head") == head);
}

/// Changes tables in every way: its own, one of a single type, one that another module has, and one that holds no null.
const SWITCHER: &str = r#"(component
  (core module $owner
    (table (export "shared") 2 1000 funcref)
    (func $none (result i32) (i32.const -1))
    (elem (i32.const 0) $none)
    (func (export "none") (result i32) (i32.const 40)))
  (core instance $owner (instantiate $owner))
  (core module $user
    (type $number (func (result i32)))
    (import "owner" "shared" (table $shared 2 1000 funcref))
    (import "owner" "none" (func $theirs (result i32)))
    (table $own 1 1000 funcref)
    (table $typed 1 1000 (ref null $number))
    (table $full 1 1000 (ref $number) (ref.func $one))
    (table $foreign 3 externref)
    (func $one (result i32) (i32.const 1))
    (func $two (result i32) (i32.const 2))
    (func $three (result i32) (i32.const 3))
    (elem $all func $one $two $three $theirs)
    (elem declare func $one $two $three $theirs)
    (func (export "work") (param $n i32) (result i32)
      (loop $again
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $again (local.get $n)))
      (i32.const 0))
    (func (export "grow") (result i32)
      (drop (table.grow $typed (ref.func $three) (i32.const 2)))
      (drop (table.grow $full (ref.func $two) (i32.const 1)))
      (drop (table.grow $foreign (ref.null extern) (i32.const 1)))
      (table.grow $own (ref.func $two) (i32.const 4)))
    (func (export "fill") (result i32)
      (table.init $own $all (i32.const 1) (i32.const 0) (i32.const 4))
      (table.set $typed (i32.const 1) (ref.func $theirs))
      (table.set $shared (i32.const 1) (ref.func $theirs))
      (table.set $full (i32.const 0) (ref.func $three))
      (i32.const 0))
    (func (export "clear") (result i32)
      (table.copy $own $own (i32.const 0) (i32.const 2) (i32.const 2))
      (table.fill $own (i32.const 3) (ref.null func) (i32.const 2))
      (table.set $shared (i32.const 0) (ref.null func))
      (i32.const 0))
    (func $at (param $table i32) (param $place i32) (result i32)
      (if (i32.eqz (local.get $table)) (then (return (call_indirect $own (result i32) (local.get $place)))))
      (if (i32.eq (local.get $table) (i32.const 1))
        (then (return (call_indirect $typed (type $number) (local.get $place)))))
      (if (i32.eq (local.get $table) (i32.const 2))
        (then (return (call_indirect $full (type $number) (local.get $place)))))
      (call_indirect $shared (result i32) (local.get $place)))
    (func (export "sum") (result i32) (local $sum i32) (local $table i32) (local $place i32)
      (loop $tables
        (local.set $place (i32.const 0))
        (loop $places
          (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 41))
            (if (result i32) (call $is (local.get $table) (local.get $place))
              (then (call $at (local.get $table) (local.get $place)))
              (else (i32.const 7)))))
          (local.set $place (i32.add (local.get $place) (i32.const 1)))
          (br_if $places (i32.lt_u (local.get $place) (i32.const 8))))
        (local.set $table (i32.add (local.get $table) (i32.const 1)))
        (br_if $tables (i32.lt_u (local.get $table) (i32.const 4))))
      (i32.add (local.get $sum) (table.size $foreign)))
    (func $is (param $table i32) (param $place i32) (result i32)
      (if (i32.eqz (local.get $table)) (then (return
        (if (result i32) (i32.lt_u (local.get $place) (table.size $own))
          (then (i32.eqz (ref.is_null (table.get $own (local.get $place))))) (else (i32.const 0))))))
      (if (i32.eq (local.get $table) (i32.const 1)) (then (return
        (if (result i32) (i32.lt_u (local.get $place) (table.size $typed))
          (then (i32.eqz (ref.is_null (table.get $typed (local.get $place))))) (else (i32.const 0))))))
      (if (i32.eq (local.get $table) (i32.const 2))
        (then (return (i32.lt_u (local.get $place) (table.size $full)))))
      (if (result i32) (i32.lt_u (local.get $place) (table.size $shared))
        (then (i32.eqz (ref.is_null (table.get $shared (local.get $place))))) (else (i32.const 0)))))
  (core instance $user (instantiate $user (with "owner" (instance $owner))))
  (type $plain (func (result s32)))
  (func (export "work") (param "n" s32) (result s32) (canon lift (core func $user "work")))
  (func (export "grow") (type $plain) (canon lift (core func $user "grow")))
  (func (export "fill") (type $plain) (canon lift (core func $user "fill")))
  (func (export "clear") (type $plain) (canon lift (core func $user "clear")))
  (func (export "sum") (type $plain) (canon lift (core func $user "sum"))))"#;

#[test]
fn tables_are_kept_in_snapshots() {
    let sandbox = Sandbox::new();
    sandbox.write("switcher.wasm", wat::parse_str(SWITCHER).unwrap());
    let calls = ["sum()", "grow()", "sum()", "fill()", "sum()", "clear()", "sum()", "grow()", "sum()"];
    let run = sandbox.json(&[&["call", "switcher.wasm"], &calls[..]].concat());
    let (id, head) = (text(&run, "run"), text(&run, "head"));
    let made = leave(&sandbox, id);
    assert_eq!(made, calls.len() as u64 - 1);
    let listed = sandbox.json(&["runs", "snapshots", id])["snapshots"].as_array().unwrap().clone();
    for last in (0..listed.len()).rev() {
        let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
        assert_eq!(number(&replayed["from"], "event"), number(&listed[last], "event"));
        assert_eq!(text(&replayed, "head"), head, "{replayed}");
        assert_eq!(replayed["unusable"], serde_json::json!([]));
        // What is written after it stands on what was read.
        let again = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "1"]);
        assert_eq!(number(&again, "snapshots"), (listed.len() - 1 - last) as u64, "{again}");
        assert_eq!(sandbox.json(&["runs", "snapshots", id])["snapshots"], serde_json::json!(listed));
        keep_lines(&sandbox, id, last);
    }
}

/// Lengths that no instance can have, or that this one had not.
#[test]
fn a_forged_table_costs_only_time() {
    let sandbox = Sandbox::new();
    sandbox.write("switcher.wasm", wat::parse_str(SWITCHER).unwrap());
    let run = sandbox.json(&["call", "switcher.wasm", "grow()", "fill()", "sum()", "sum()"]);
    let (id, head) = (text(&run, "run"), text(&run, "head"));
    // Lengths: none, some more, more than a table may have, more than there is.
    for (table, len) in [(0, 0), (4, 9), (1, 1_001), (1, u64::MAX), (2, 1 << 40)] {
        leave(&sandbox, id);
        forge(&sandbox, id, |state| {
            let Some(Node::List(tables)) = state.get_mut(3) else { panic!("no tables") };
            tables[table] = Node::Int(len.into());
        });
        let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
        assert_eq!(text(&replayed, "head"), head);
        assert_eq!(replayed["unusable"].as_array().unwrap().len(), 1, "{table} {len}: {replayed}");
    }
}

/// The file that lists the snapshots of a run.
fn list_of(sandbox: &Sandbox, run: &str) -> PathBuf {
    sandbox.home().join(format!("runs/{run}.snapshots"))
}

/// The lines of the list, `[calls, event, tick, snapshot]`.
fn lines(sandbox: &Sandbox, run: &str) -> Vec<Node> {
    match decode(&std::fs::read(list_of(sandbox, run)).unwrap(), "list").unwrap() {
        Node::List(lines) => lines,
        other => panic!("{other:?}"),
    }
}

/// Leaves only the first lines of the list.
fn keep_lines(sandbox: &Sandbox, run: &str, count: usize) {
    let mut kept = lines(sandbox, run);
    kept.truncate(count);
    std::fs::write(list_of(sandbox, run), encode(&Node::List(kept))).unwrap();
}

#[test]
fn a_replay_says_where_it_began_and_goes_on_leaving_snapshots() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    let half = number(&run, "ticks") / 2;
    let made = number(&replay(&sandbox, id, &["--snapshots", &half.to_string()]), "snapshots");
    assert_eq!(made, 1);
    let ran = sandbox.vac(&["replay", id, "--from-snapshot", "--snapshots", "1"]).ok();
    assert!(ran.out().starts_with("from  the snapshot before event "), "{}", ran.out());
    assert!(ran.stderr.contains("snapshots are new"), "{}", ran.stderr);
    // Those that stood on the first are whole as well.
    let replayed = replay(&sandbox, id, &["--from-snapshot"]);
    assert_eq!(text(&replayed, "head"), text(&run, "head"));
    let shown = sandbox.vac(&["runs", "snapshots", id]).ok().out();
    assert!(shown.contains("MEMORY") && shown.lines().count() > 2, "{shown}");
}

#[test]
fn equal_replays_leave_equal_snapshots() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    leave(&sandbox, id);
    let list = list_of(&sandbox, id);
    let once = std::fs::read(&list).unwrap();
    std::fs::remove_file(&list).unwrap();
    leave(&sandbox, id);
    assert_eq!(std::fs::read(&list).unwrap(), once);
}

/// What cannot be in a snapshot: the program, the calls, and words of the reason.
fn assert_refused(program: &[u8], calls: &[&str], words: &str) {
    let sandbox = Sandbox::new();
    sandbox.write("it.wasm", program);
    let run = sandbox.json(&[&["call", "it.wasm"], calls].concat());
    let replayed = replay(&sandbox, text(&run, "run"), &["--snapshots", "1"]);
    assert_eq!(number(&replayed, "snapshots"), 0, "{words}");
    assert!(text(&replayed, "no_snapshots").contains(words), "{replayed}");
    let shown = sandbox.vac(&["replay", "last", "--snapshots", "1", "--from-snapshot"]).ok();
    assert!(shown.stderr.contains(words) && shown.stderr.contains("from the start"), "{}", shown.stderr);
}

fn assert_module_refused(parts: &str, words: &str) {
    let work = "(func (export \"f\") (result i32) (local $n i32)
        (loop $again (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 100)))) (local.get $n))";
    let module = wat::parse_str(format!("(module {parts} {work})")).unwrap();
    assert_refused(&module, &["f()", "f()", "f()"], words);
}

#[test]
fn what_a_snapshot_cannot_hold_is_refused_with_the_reason() {
    let uses_names = r#"(component
      (core module $m
        (func (export "vac:state table 0"))
        (func (export "f") (param $n i32)
          (loop $again (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $again (local.get $n)))))
      (core instance $i (instantiate $m))
      (func (export "f") (param "n" u32) (canon lift (core func $i "f"))))"#;
    let uses_names = wat::parse_str(uses_names).unwrap();
    assert_refused(&uses_names, &["f(9)", "f(9)"], "exports names that are kept for snapshots");
    let keeps_object =
        "(table 1 anyref) (func $s (table.set (i32.const 0) (ref.i31 (i32.const 1)))) (start $s)";
    assert_module_refused(keeps_object, "a table of it holds what is no function");
    assert_module_refused("(memory 1) (data $d \"abc\") (func (data.drop $d))", "its code drops segments");
    assert_module_refused("(type (struct (field i32)))", "objects that the engine collects");
    assert_module_refused(
        "(func $g) (elem declare func $g) (global (mut funcref) (ref.func $g))",
        "a global of it is a reference",
    );
    let counters = crate::calls::counters();
    assert_refused(&counters, &["c = counter(5)", "$c.add(2)", "$c.get()"], "has resources of its own");
}

#[test]
fn a_damaged_snapshot_is_named_and_the_replay_begins_earlier() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    leave(&sandbox, id);
    let listed = sandbox.json(&["runs", "snapshots", id])["snapshots"].as_array().unwrap().clone();
    let last = listed.last().unwrap();
    damage(&sandbox, text(last, "cid"));
    let shown = sandbox.vac(&["runs", "snapshots", id]).ok().out();
    assert!(shown.contains("damaged"), "{shown}");
    let ran = sandbox.vac(&["replay", id, "--from-snapshot", "--snapshots", "0"]).ok();
    assert!(ran.stderr.contains("a snapshot could not be used: ") && ran.stderr.contains(text(last, "cid")));
    // It was forgotten, and the one before is taken.
    let again = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
    assert_eq!(again["unusable"], serde_json::json!([]));
    assert!(number(&again["from"], "event") < number(last, "event"), "{again}");
    assert_eq!(text(&again, "head"), text(&run, "head"));
}

#[test]
fn damaged_pages_leave_the_start() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    let made = leave(&sandbox, id);
    let objects = sandbox.json(&["store", "ls"])["objects"].as_array().unwrap().clone();
    let pages = objects.iter().filter(|object| number(object, "bytes") == 65_536);
    pages.for_each(|page| damage(&sandbox, text(page, "cid")));
    let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
    assert!(replayed["from"].is_null() && text(&replayed, "head") == text(&run, "head"), "{replayed}");
    assert_eq!(replayed["unusable"].as_array().unwrap().len() as u64, made, "{replayed}");
}

/// Changes a byte of the object `cid`, wherever the store has it.
fn damage(sandbox: &Sandbox, cid: &str) {
    let bytes = sandbox.vac(&["store", "get", cid]).ok().stdout;
    let files: Vec<PathBuf> = sandbox.home_files("store");
    for file in files {
        let mut whole = std::fs::read(&file).unwrap();
        if let Some(at) = whole.windows(bytes.len()).position(|part| part == bytes) {
            whole[at + bytes.len() / 2] ^= 1;
            std::fs::write(&file, whole).unwrap();
            return;
        }
    }
    panic!("the store has no {cid}");
}

#[test]
fn a_list_of_nonsense_or_of_another_run_is_never_believed() {
    let (sandbox, run) = recorded();
    let (id, head) = (text(&run, "run"), text(&run, "head"));
    leave(&sandbox, id);
    let list = list_of(&sandbox, id);
    let good = std::fs::read(&list).unwrap();
    for bad in [&b""[..], b"\x81", b"nonsense", &good[..good.len() - 1], &[0xff; 100]] {
        std::fs::write(&list, bad).unwrap();
        let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
        assert!(replayed["from"].is_null() && text(&replayed, "head") == head, "{replayed}");
        assert_eq!(replayed["unusable"].as_array().unwrap().len(), 1, "{replayed}");
    }
    std::fs::write(&list, &good).unwrap();
    // The same calls with another seed: all counts are the same, and what is in the memory is not.
    let other = sandbox.json(&[&["call", "keeper.wasm", "--seed", "8"], &CALLS[..]].concat());
    std::fs::copy(&list, list_of(&sandbox, text(&other, "run"))).unwrap();
    let replayed = replay(&sandbox, text(&other, "run"), &["--from-snapshot", "--snapshots", "0"]);
    assert!(replayed["from"].is_null() && text(&replayed, "head") == text(&other, "head"), "{replayed}");
    assert!(!replayed["unusable"].as_array().unwrap().is_empty());
}

/// A state that hashes to its name and is false: the replay from it differs, and the one from the start decides.
#[test]
fn a_forged_state_is_found_by_the_replay_and_costs_only_time() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    leave(&sandbox, id);
    forge(&sandbox, id, |state| {
        let Some(Node::List(globals)) = state.get_mut(1) else { panic!("no globals") };
        let Some(Node::Bytes(global)) = globals.first_mut() else { panic!("no global") };
        global[0] ^= 1;
    });
    let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
    assert_eq!(text(&replayed, "head"), text(&run, "head"));
    assert_eq!(replayed["unusable"].as_array().unwrap().len(), 1, "{replayed}");
}

/// Changes the state of the second snapshot, which is the last then.
fn forge(sandbox: &Sandbox, id: &str, change: impl FnOnce(&mut Vec<Node>)) {
    let mut forged = lines(sandbox, id);
    forged.truncate(2);
    let Some(Node::List(line)) = forged.last_mut() else { panic!("{forged:?}") };
    let Some(Node::Link(cid)) = line.last_mut() else { panic!("no link") };
    let bytes = sandbox.vac(&["store", "get", &cid.to_string()]).ok().stdout;
    let mut snapshot: Node = decode(&bytes, "snapshot").unwrap();
    let Node::List(parts) = &mut snapshot else { panic!("{snapshot:?}") };
    let Some(Node::List(state)) = parts.last_mut() else { panic!("no state") };
    change(state);
    let bytes = encode(&snapshot);
    *cid = Cid::of(cid.codec(), &bytes);
    put(sandbox, *cid, &bytes);
    std::fs::write(list_of(sandbox, id), encode(&Node::List(forged))).unwrap();
}

/// Puts a structure into the store, which `vac store put` does only with directories.
fn put(sandbox: &Sandbox, cid: Cid, bytes: &[u8]) {
    use std::sync::Arc;
    use vac_core::storage::RealStorage;
    use vac_core::store::Store;
    let store = Store::open(Arc::new(RealStorage::new(sandbox.home())), "store").unwrap();
    assert_eq!(store.put(cid.codec(), bytes).unwrap(), cid);
    store.commit().unwrap();
}

#[test]
fn a_collection_keeps_snapshots_as_long_as_their_run() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    leave(&sandbox, id);
    sandbox.vac(&["store", "gc"]).ok();
    let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
    assert!(!replayed["from"].is_null() && replayed["unusable"] == serde_json::json!([]), "{replayed}");
    // One that is lost does not keep the others from being collected.
    let mut listed = lines(&sandbox, id);
    let Some(Node::List(line)) = listed.first_mut() else { panic!("{listed:?}") };
    line[3] = Node::Link(Cid::of_raw(b"not here"));
    std::fs::write(list_of(&sandbox, id), encode(&Node::List(listed))).unwrap();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["runs", "rm", id]).ok();
    assert!(!list_of(&sandbox, id).exists());
    let left = sandbox.json(&["store", "gc"]);
    assert!(number(&left, "removed") > 10, "{left}");
}

/// What is at a point, but for the snapshot where the replay began, and whether there was one.
fn seek(sandbox: &Sandbox, run: &str, point: [&str; 2]) -> (Value, bool) {
    let mut sought = sandbox.json(&["seek", run, point[0], point[1], "--globals"]);
    let from = sought.as_object_mut().unwrap().remove("from").unwrap();
    (sought, !from.is_null())
}

/// Goes to every event and to ticks all over the run, with snapshots and without.
fn assert_sought_alike(sandbox: &Sandbox, run: &Value) {
    let id = text(run, "run");
    assert!(leave(sandbox, id) > 1);
    let events = (0..number(run, "events")).map(|event| ["--event".to_owned(), event.to_string()]);
    let ticks = (0..=12).map(|n| ["--tick".to_owned(), (number(run, "ticks") * n / 12).to_string()]);
    // Where snapshots are themselves: the first point with so many ticks may be before them.
    let listed = sandbox.json(&["runs", "snapshots", id])["snapshots"].as_array().unwrap().clone();
    let at = listed.iter().map(|listed| ["--tick".to_owned(), number(listed, "tick").to_string()]);
    let points: Vec<_> = events.chain(ticks).chain(at).collect();
    let all = || points.iter().map(|[by, point]| seek(sandbox, id, [by, point])).collect::<Vec<_>>();
    let with = all();
    std::fs::remove_file(list_of(sandbox, id)).unwrap();
    let without = all();
    for ((point, with), without) in points.iter().zip(&with).zip(&without) {
        assert_eq!(with.0, without.0, "{point:?}");
    }
    assert!(with.iter().filter(|(_, began)| *began).count() > with.len() / 2);
    assert!(without.iter().all(|(_, began)| !began));
}

#[test]
fn seek_shows_the_same_from_a_snapshot_as_from_the_start() {
    let (sandbox, run) = recorded();
    assert_sought_alike(&sandbox, &run);
}

/// What a component imports to print: `$get-stdout` and `$write`, beside a memory `$m`.
const PRINTS: &str = r#"(component
  (import "wasi:io/error@0.2.3" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.3" (instance $streams
    (alias outer 1 $error (type $e'))
    (export "error" (type $e (eq $e')))
    (export "output-stream" (type $s (sub resource)))
    (type $failed' (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $failed (eq $failed')))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $s)) (param "contents" (list u8)) (result (result (error $failed)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.3" (instance $stdout
    (alias outer 1 $stream (type $s')) (export "output-stream" (type $s (eq $s')))
    (export "get-stdout" (func (result (own $s))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $m (instantiate $memory))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $m "memory"))))"#;

/// A component that prints, and what else is in it.
fn printing(rest: &str) -> Vec<u8> {
    wat::parse_str([PRINTS, rest].concat()).unwrap()
}

/// Gets the standard output when it first prints, as most programs do, and keeps it. `wait` gets a handle and gives it up,
/// `wait-mixed` two in the order in which it got them.
const LAZY: &str = r#"
  (import "wasi:io/poll@0.2.3" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (alias outer 1 $pollable (type $p')) (export "pollable" (type $p (eq $p')))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $drop (canon resource.drop $pollable))
  (core module $lazy
    (import "" "memory" (memory 1))
    (import "" "get-stdout" (func $get-stdout (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (import "" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (global $out (mut i32) (i32.const 0))
    (func (export "say") (param $letter i32)
      (if (i32.eqz (global.get $out)) (then (global.set $out (call $get-stdout))))
      (i32.store8 (i32.const 0) (local.get $letter))
      (i32.store8 (i32.const 1) (i32.const 10))
      (call $write (global.get $out) (i32.const 0) (i32.const 2) (i32.const 16)))
    (func $work (export "work") (param $n i32)
      (loop $again (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $again (local.get $n))))
    ;; The number of a handle, so that another one would be seen.
    (func (export "wait") (result i32) (local $one i32) (local $two i32)
      (local.set $one (call $subscribe (i64.const 1)))
      (local.set $two (call $subscribe (i64.const 2)))
      (call $drop (local.get $two))
      (call $drop (local.get $one))
      (i32.add (local.get $one) (i32.mul (local.get $two) (i32.const 100))))
    (func (export "wait-mixed") (result i32) (local $one i32) (local $two i32)
      (local.set $one (call $subscribe (i64.const 1)))
      (local.set $two (call $subscribe (i64.const 2)))
      (call $drop (local.get $one))
      (call $drop (local.get $two))
      (i32.add (local.get $one) (i32.mul (local.get $two) (i32.const 100)))))
  (core instance $i (instantiate $lazy (with "" (instance
    (export "memory" (memory $m "memory"))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))
    (export "subscribe" (func $subscribe))
    (export "drop" (func $drop))))))
  (func (export "say") (param "letter" u32) (canon lift (core func $i "say")))
  (func (export "work") (param "n" u32) (canon lift (core func $i "work")))
  (func (export "wait") (result u32) (canon lift (core func $i "wait")))
  (func (export "wait-mixed") (result u32) (canon lift (core func $i "wait-mixed"))))"#;

/// What a call got once and keeps is got again, by making the calls until then.
#[test]
fn handles_that_a_call_got_are_got_again_behind_a_snapshot() {
    let sandbox = Sandbox::new();
    sandbox.write("lazy.wasm", printing(LAZY));
    let calls =
        ["work(9)", "say(97)", "work(9000)", "say(98)", "wait()", "say(99)", "wait()", "say(100)", "work(1)"];
    let run = sandbox.json(&[&["call", "lazy.wasm"], &calls[..]].concat());
    let (id, head) = (text(&run, "run"), text(&run, "head"));
    // Not behind the second call: to begin there, all until then would be made again.
    let behind = [1, 3, 4, 5, 6, 7, 8];
    assert_eq!(leave(&sandbox, id), behind.len() as u64);
    for (last, calls) in behind.iter().enumerate().rev() {
        let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
        assert_eq!(number(&replayed["from"], "calls"), *calls, "{replayed}");
        assert_eq!((text(&replayed, "head"), &replayed["unusable"]), (head, &serde_json::json!([])));
        keep_lines(&sandbox, id, last);
    }
    std::fs::remove_file(list_of(&sandbox, id)).unwrap();
    let ticks = number(&run, "ticks").to_string();
    leave(&sandbox, id);
    let (end, began) = seek(&sandbox, id, ["--tick", &ticks]);
    assert!(began && text(&end, "stdout") == "a\nb\nc\nd\n", "{end}");
    std::fs::remove_file(list_of(&sandbox, id)).unwrap();
    assert_sought_alike(&sandbox, &run);
}

#[test]
fn handles_in_another_order_in_every_call_leave_no_snapshot() {
    assert_refused(
        &printing(LAZY),
        &["wait-mixed()", "wait-mixed()", "wait-mixed()"],
        "its call 2 of 2 got handles or gave some up; to make it again",
    );
    // The places that were given up are taken again in the other order: a fresh instance would not do so.
    let sandbox = Sandbox::new();
    sandbox.write("lazy.wasm", printing(LAZY));
    let run =
        sandbox.json(&["call", "lazy.wasm", "wait-mixed()", "wait()", "work(9000)", "wait()", "work(1)"]);
    let results: Vec<&str> =
        run["calls"].as_array().unwrap().iter().filter_map(|c| c["result"].as_str()).collect();
    assert!(results[0] == "201" && results[1] == "102", "{results:?}");
    let id = text(&run, "run");
    assert!(leave(&sandbox, id) > 0);
    let replayed = replay(&sandbox, id, &["--from-snapshot", "--snapshots", "0"]);
    assert_eq!(
        (text(&replayed, "head"), &replayed["unusable"]),
        (text(&run, "head"), &serde_json::json!([]))
    );
    assert!(replayed["from"].is_object(), "{replayed}");
}

/// Gets its output when it starts, so that its calls get no handles, and prints a line in each.
const SAYER: &str = r#"
  (core module $sayer
    (import "" "memory" (memory 1))
    (import "" "get-stdout" (func $get-stdout (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (global $out (mut i32) (i32.const 0))
    (func $begin (global.set $out (call $get-stdout)))
    (start $begin)
    (func (export "say") (param $letter i32) (result i32) (local $n i32)
      (i32.store8 (i32.const 0) (local.get $letter))
      (i32.store8 (i32.const 1) (i32.const 10))
      (loop $again
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $n) (i32.const 1000))))
      (call $write (global.get $out) (i32.const 0) (i32.const 2) (i32.const 16))
      (local.get $n)))
  (core instance $i (instantiate $sayer (with "" (instance
    (export "memory" (memory $m "memory"))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))))))
  (func (export "say") (param "letter" u32) (result u32) (canon lift (core func $i "say"))))"#;

#[test]
fn seek_shows_what_was_printed_before_the_snapshot_too() {
    let sandbox = Sandbox::new();
    sandbox.write("sayer.wasm", printing(SAYER));
    let run = sandbox.json(&["call", "sayer.wasm", "say(97)", "say(98)", "say(99)", "say(100)"]);
    let (id, ticks) = (text(&run, "run"), number(&run, "ticks").to_string());
    leave(&sandbox, id);
    let (end, began) = seek(&sandbox, id, ["--tick", &ticks]);
    assert!(began && text(&end, "stdout") == "a\nb\nc\nd\n", "{end}");
    std::fs::remove_file(list_of(&sandbox, id)).unwrap();
    assert_sought_alike(&sandbox, &run);
}

#[test]
fn seek_passes_by_a_snapshot_that_is_damaged() {
    let (sandbox, run) = recorded();
    let id = text(&run, "run");
    leave(&sandbox, id);
    let event = (number(&run, "events") - 1).to_string();
    let good = seek(&sandbox, id, ["--event", &event]);
    let objects = sandbox.json(&["store", "ls"])["objects"].as_array().unwrap().clone();
    let pages = objects.iter().filter(|object| number(object, "bytes") == 65_536);
    pages.for_each(|page| damage(&sandbox, text(page, "cid")));
    assert_eq!(seek(&sandbox, id, ["--event", &event]), (good.0, false));
}

//! Going back into a run: the same point shows the same state, wherever the home is and whatever became of the files.

use serde_json::Value;
use vac_core::cid::Cid;

use crate::calls::counters;
use crate::support::{Sandbox, copy_folder, number, repository, text};

const USAGE: i32 = 2;

/// Says something before and after it counts to 100,000 at address 1024, sleeps for two seconds, asks the clock and
/// counts again.
pub(crate) fn counting() -> Vec<u8> {
    let text = r#"(module $counting
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2)
      (global $state (mut i32) (i32.const 1234567))
      (data (i32.const 64) "one\ntwo\nthree\n")
      (func $say (param $at i32) (param $len i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $len))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func $count (param $n i32)
        (loop $again
          (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
          (br_if $again (i32.lt_u (i32.load (i32.const 1024)) (local.get $n)))))
      (func $work
        (i32.store (i32.const 1024) (i32.const 0))
        (call $count (i32.const 100000)))
      (func $sleep
        (i64.store (i32.const 232) (i64.const 0))
        (i32.store (i32.const 216) (i32.const 1))
        (i64.store (i32.const 224) (i64.const 2000000000))
        (drop (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 8))))
      (func (export "_start")
        (call $say (i32.const 64) (i32.const 4))
        (call $work)
        (call $say (i32.const 68) (i32.const 4))
        (call $sleep)
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 1100)))
        (global.set $state (i32.const 7654321))
        (call $work)
        (call $say (i32.const 72) (i32.const 6))))"#;
    wat::parse_str(text).unwrap()
}

fn counted() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("counting.wasm", counting());
    assert_eq!(text(&sandbox.json(&["run", "counting.wasm"]), "stdout"), "one\ntwo\nthree\n");
    sandbox
}

/// The events of the last run whose function has `part` in its name.
fn events(sandbox: &Sandbox, part: &str) -> Vec<Value> {
    sandbox.json(&["log", "last", "--name", part])["events"].as_array().unwrap().clone()
}

fn writes(sandbox: &Sandbox) -> Vec<Value> {
    let events = events(sandbox, "output-stream.");
    let writes = events.into_iter().filter(|event| text(event, "class") == "effect").collect::<Vec<_>>();
    assert_eq!(writes.len(), 3, "{writes:?}");
    writes
}

fn seek(sandbox: &Sandbox, point: &[&str]) -> Value {
    sandbox.json(&[&["seek", "last"], point].concat())
}

fn seek_event(sandbox: &Sandbox, event: &Value, more: &[&str]) -> Value {
    seek(sandbox, &[&["--event", &number(event, "event").to_string()], more].concat())
}

/// Names on the stack, the innermost first.
fn stack(sought: &Value) -> Vec<&str> {
    sought["stack"].as_array().unwrap().iter().filter_map(|frame| frame["function"].as_str()).collect()
}

fn has_in_order(names: &[&str], wanted: &[&str]) -> bool {
    let mut names = names.iter();
    wanted.iter().all(|wanted| names.any(|name| name == wanted))
}

/// The number of the memory that the guest itself exports.
fn own_memory(sought: &Value) -> usize {
    let memories = sought["memories"].as_array().unwrap();
    let is_own = |memory: &Value| memory["export"] == "memory" && memory["module"] == "counting";
    memories.iter().position(is_own).unwrap_or_else(|| panic!("{memories:?}"))
}

/// The counter of the guest, read through a window of four bytes.
fn counter(sandbox: &Sandbox, point: &[&str]) -> u32 {
    let memory = own_memory(&seek(sandbox, point));
    let window = format!("{memory}:0x400+4");
    let sought = seek(sandbox, &[point, &["--memory", &window]].concat());
    u32::from_str_radix(text(&sought, "bytes"), 16).unwrap().swap_bytes()
}

#[test]
fn an_event_is_shown_with_its_call_stack_memory_and_output() {
    let sandbox = counted();
    let second = writes(&sandbox).remove(1);
    let sought = seek_event(&sandbox, &second, &["--globals"]);
    let call = &sought["call"];
    assert_eq!(
        (call["event"].clone(), call["tick"].clone()),
        (second["event"].clone(), second["tick"].clone())
    );
    assert_eq!(text(call, "function"), text(&second, "function"));
    assert!(text(&call["request"], "shown").contains("two"), "{call}");
    assert_eq!(call["answer"], second["answer"]);
    assert_eq!((text(&sought, "kernel"), text(&sought, "stdout")), ("counting.wasm", "one\n"));
    assert!(has_in_order(&stack(&sought), &["say"]), "{sought}");
    let values: Vec<&str> = sought["globals"].as_array().unwrap().iter().map(|g| text(g, "value")).collect();
    assert!(values.contains(&"1234567") && !values.contains(&"7654321"), "{values:?}");
    let event = number(&second, "event").to_string();
    assert_eq!(counter(&sandbox, &["--event", &event]), 100_000);
    let shown = sandbox.vac(&["seek", "last", "--event", &event, "--memory", "0+16"]).ok().out();
    for words in [&format!("event {event}"), "say", "two", "BLAKE3", "memory", "00000000  ", "  one\n"] {
        assert!(shown.contains(words), "expected `{words}`: {shown}");
    }
}

/// Every digest is that of the bytes, so the whole memory is asked for and hashed here.
#[test]
fn digests_are_those_of_the_memories() {
    let sandbox = counted();
    let third = writes(&sandbox).remove(2);
    let sought = seek_event(&sandbox, &third, &[]);
    let memories = sought["memories"].as_array().unwrap().clone();
    assert!(!memories.is_empty());
    for (index, memory) in memories.iter().enumerate() {
        let window = format!("{index}:0+{}", number(memory, "bytes"));
        let whole = seek_event(&sandbox, &third, &["--memory", &window]);
        let digits = text(&whole, "bytes");
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        let digest: String = Cid::of_raw(&bytes).digest().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, text(memory, "blake3"), "memory {index}");
    }
}

#[test]
fn a_tick_is_reached_inside_of_a_loop() {
    let sandbox = counted();
    let writes = writes(&sandbox);
    let (one, two) = (number(&writes[0], "tick"), number(&writes[1], "tick"));
    let at = |part: u64| (one + (two - one) * part / 4).to_string();
    let mut counts = Vec::new();
    for part in 1..4 {
        let tick = at(part);
        let sought = seek(&sandbox, &["--tick", &tick]);
        assert!(has_in_order(&stack(&sought), &["count", "work"]), "{sought}");
        assert!(number(&sought, "tick") >= tick.parse().unwrap());
        assert_eq!((&sought["call"], text(&sought, "stdout")), (&Value::Null, "one\n"));
        let (before, after) = (number(&sought["before"], "event"), number(&sought["after"], "event"));
        assert_eq!((before + 1, number(&sought, "events")), (after, after));
        counts.push(counter(&sandbox, &["--tick", &tick]));
    }
    assert!(counts.is_sorted() && counts[0] > 0 && counts[2] < 100_000, "{counts:?}");
    assert!(counts[0] < counts[1] && counts[1] < counts[2], "{counts:?}");
    // A tick that an event has is that event, and the first one is where the run begins.
    let sought = seek(&sandbox, &["--tick", &two.to_string()]);
    assert_eq!(number(&sought, "tick"), two);
    assert_eq!(seek(&sandbox, &["--tick", "0"])["call"]["event"], 0);
}

#[test]
fn the_same_point_is_the_same_everywhere_and_with_the_files_gone() {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", "input");
    let guest = crate::guest::Guest::new().random().open(crate::guest::ROOT, "input", "r").read().clocks();
    sandbox.write("guest.wasm", guest.wasm());
    sandbox.json(&["run", "guest.wasm", "--grant", "dir:ro=d"]);
    let event = number(events(&sandbox, "monotonic-clock#now").last().unwrap(), "event").to_string();
    let tick = (number(&events(&sandbox, "input-stream").remove(0), "tick") + 30).to_string();
    let points = [["--event", event.as_str()], ["--tick", tick.as_str()]];
    let first: Vec<Value> =
        points.iter().map(|point| seek(&sandbox, &[&point[..], &["--globals"]].concat())).collect();
    assert!(text(&first[0], "stdout").contains("read: input\n"), "{}", first[0]);
    std::fs::remove_dir_all(sandbox.path("d")).unwrap();
    std::fs::remove_file(sandbox.path("guest.wasm")).unwrap();
    let moved = Sandbox::new();
    copy_folder(&sandbox.home(), &moved.home());
    for (point, first) in points.iter().zip(&first) {
        let point = [&point[..], &["--globals"]].concat();
        assert_eq!(&seek(&sandbox, &point), first);
        assert_eq!(&seek(&moved, &point), first);
    }
    sandbox.vac(&["replay", "last"]).ok();
}

/// The clock of the guest says two seconds more after it slept for two.
#[test]
fn a_time_is_found_in_waits_and_in_work() {
    let sandbox = counted();
    let poll = events(&sandbox, "wasi:io/poll#").into_iter().find(|e| !text(e, "function").contains("drop"));
    let poll = poll.unwrap();
    let asleep = seek(&sandbox, &["--time", "1s"]);
    assert_eq!(asleep["call"]["event"], poll["event"], "{asleep}");
    assert!(has_in_order(&stack(&asleep), &["sleep"]), "{asleep}");
    assert!(number(&asleep, "time_ns") < 1_000_000_000);
    let now = events(&sandbox, "monotonic-clock#now").pop().unwrap();
    let shown: u64 = text(&now["answer"], "shown").parse().unwrap();
    assert!(shown > 2_000_000_000, "{now}");
    let at_now = seek_event(&sandbox, &now, &[]);
    assert_eq!(number(&at_now, "time_ns"), shown);
    let later = seek(&sandbox, &["--time", &format!("{}ns", shown + 100_000)]);
    assert!(has_in_order(&stack(&later), &["count", "work"]), "{later}");
    assert!(number(&later, "time_ns") >= shown + 100_000);
    assert_eq!(text(&later, "stdout"), "one\ntwo\n");
}

#[test]
fn a_point_that_a_run_has_not_is_a_mistake_that_names_the_range() {
    let sandbox = counted();
    let run = sandbox.json(&["runs"])["runs"][0].clone();
    let (events, ticks) = (number(&run, "events"), number(&run, "ticks"));
    let past = |point: &[&str], range: &str| {
        sandbox.vac(&[&["seek", "last"], point].concat()).fails(USAGE, &[range]);
    };
    past(&["--event", &events.to_string()], &format!("0 to {}", events - 1));
    past(&["--tick", &(ticks + 1).to_string()], &format!("0 to {ticks}"));
    past(&["--time", "1h"], "0 to 2");
    for wrong in
        [&[][..], &["--event", "1", "--tick", "1"], &["--event", "x"], &["--event", "1", "--memory", "x"]]
    {
        assert_eq!(sandbox.vac(&[&["seek", "last"], wrong].concat()).code(), USAGE, "{wrong:?}");
    }
    let event = number(&writes(&sandbox)[0], "event").to_string();
    past(&["--event", &event, "--memory", "0:0xffffffffff+4"], "is not in memory 0");
    past(&["--event", &event, "--memory", "99:0"], "no memory 99");
    past(&["--event", "0", "--memory", "0"], "no kernel is running");
    // The last tick is the end.
    let end = seek(&sandbox, &["--tick", &ticks.to_string()]);
    assert_eq!(text(&end, "stdout"), "one\ntwo\nthree\n");
}

#[test]
fn in_a_script_the_kernel_that_runs_then_is_shown() {
    let sandbox = Sandbox::new();
    sandbox.write("counters.wasm", counters());
    let spin = r#"(module (memory (export "memory") 1)
      (func $spin (export "spin") (param $n i32) (result i32)
        (loop $again
          (i32.store (i32.const 8) (local.tee $n (i32.sub (local.get $n) (i32.const 1))))
          (br_if $again (local.get $n)))
        (i32.load (i32.const 8))))"#;
    sandbox.write("spin.wasm", wat::parse_str(spin).unwrap());
    let script = "print('first')
K = kernel('counters.wasm')
L = kernel('spin.wasm')
c = K.counter(5)
print(c.add(2))
print(L.spin(100000))
print(c.add(1))
";
    sandbox.write("s.star", script);
    sandbox.vac(&["run", "s.star"]).ok();
    let prints = events(&sandbox, "vac:script/print");
    let sought = seek_event(&sandbox, &prints[2], &[]);
    assert_eq!((text(&sought, "stdout"), &sought["kernel"]), ("first\n7\n", &Value::Null));
    assert!(text(&sought["call"]["request"], "shown").contains('0'), "{sought}");
    // A kernel that lives shows what lies there between two of its calls.
    let kernels = events(&sandbox, "vac:run/kernel");
    let between = seek_event(&sandbox, &kernels[1], &[]);
    assert!(between["memories"].is_array() && stack(&between).is_empty(), "{between}");
    // Inside of a loop of the other one; it is the third call.
    let inside = number(&kernels[2], "tick") + 100_000;
    let sought = seek(&sandbox, &["--tick", &inside.to_string()]);
    assert_eq!((text(&sought, "kernel"), stack(&sought).first()), ("spin.wasm", Some(&"spin")), "{sought}");
    assert_eq!(text(&sought, "stdout"), "first\n7\n");
}

/// Ticks are counted where loops and calls begin. A kernel of a few instructions has returned before anybody looks,
/// and its replay was given fewer ticks than it used: that is no difference.
#[test]
fn a_tick_in_straight_code_is_reached_after_it() {
    let sandbox = Sandbox::new();
    sandbox.write("counters.wasm", counters());
    sandbox
        .write("s.star", "K = kernel('counters.wasm')\nc = K.counter(5)\nprint(c.add(2))\nprint(c.add(3))\n");
    let ticks = number(&sandbox.json(&["run", "s.star"]), "ticks");
    for tick in 0..=ticks {
        let sought = seek(&sandbox, &["--tick", &tick.to_string()]);
        assert!(number(&sought, "tick") >= tick, "{sought}");
    }
}

#[test]
fn several_calls_of_one_instance_are_points_of_one_run() {
    let sandbox = Sandbox::new();
    let module = r#"(module (memory (export "memory") 1)
      (func (export "put") (param i32 i32) (i32.store (local.get 0) (local.get 1))))"#;
    sandbox.write("m.wasm", wat::parse_str(module).unwrap());
    sandbox.vac(&["call", "m.wasm", "put(16, 7)", "put(16, 9)", "put(16, 11)"]).ok();
    let calls = events(&sandbox, "vac:run/kernel");
    let bytes = |event: &Value| seek_event(&sandbox, event, &["--memory", "16+1"])["bytes"].clone();
    assert_eq!([bytes(&calls[1]), bytes(&calls[2])], ["07", "09"]);
}

/// A run that its limit ended goes on to that limit, and one that trapped to its trap.
#[test]
fn runs_that_ended_badly_have_their_points_too() {
    let sandbox = Sandbox::new();
    sandbox.write("counting.wasm", counting());
    let stopped = sandbox.vac(&["--json", "run", "counting.wasm", "--ticks", "200000"]);
    assert_eq!(stopped.code(), 4);
    let sought = seek(&sandbox, &["--tick", "150000"]);
    assert!(has_in_order(&stack(&sought), &["count"]), "{sought}");
    let last = number(&stopped.json(), "ticks").to_string();
    assert!(has_in_order(&stack(&seek(&sandbox, &["--tick", &last])), &["count"]));
    sandbox.write("trap.wasm", crate::guest::Guest::new().say("before\n").raw("(unreachable)").wasm());
    assert_eq!(sandbox.vac(&["run", "trap.wasm"]).code(), 4);
    let events = number(&sandbox.json(&["runs"])["runs"][0], "events");
    let sought = seek(&sandbox, &["--event", &(events - 1).to_string()]);
    assert!(sought["call"].is_object());
}

#[test]
fn a_kernel_of_wasi_0_3_shows_its_state() {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap());
    let ran = sandbox.json(&["run", "k.wasm", "--", "hello", "a b"]);
    let write = events(&sandbox, "[write]").pop().unwrap();
    let sought = seek_event(&sandbox, &write, &[]);
    assert!(text(&sought["call"], "function").contains("[write]"), "{sought}");
    assert!(!sought["memories"].as_array().unwrap().is_empty(), "{sought}");
    let end = seek(&sandbox, &["--tick", &number(&ran, "ticks").to_string()]);
    assert_eq!(end["stdout"], ran["stdout"]);
}

/// Several waits of 0.3 at a time, of which each moves the clock. Wherever the guest asks its clock, the time of the
/// point is what it is told.
#[test]
fn the_time_of_a_point_is_what_the_guest_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap());
    for case in ["timers", "race"] {
        sandbox.vac(&["run", "k.wasm", "--", case]).ok();
        let asked = events(&sandbox, "monotonic-clock#now");
        assert!(case != "timers" || !asked.is_empty());
        for now in asked {
            let sought = seek_event(&sandbox, &now, &[]);
            assert_eq!(sought["time_ns"].to_string(), text(&now["answer"], "shown"), "{case}: {now}");
        }
        for end in events(&sandbox, "[end]wait") {
            let sought = seek_event(&sandbox, &end, &[]);
            assert!(number(&sought, "time_ns") >= number(&sought, "tick"), "{sought}");
        }
    }
}

#[test]
fn the_log_shows_the_neighbours_of_an_event() {
    let sandbox = counted();
    let second = number(&writes(&sandbox)[1], "event");
    let around = sandbox.json(&["log", "last", "--around", &second.to_string(), "-n", "2"]);
    let found: Vec<u64> = around["events"].as_array().unwrap().iter().map(|e| number(e, "event")).collect();
    // The kernel that it is inside of, and two on each side.
    assert_eq!(found, [0, second - 2, second - 1, second, second + 1, second + 2]);
    let shown = sandbox.vac(&["log", "last", "--around", &second.to_string(), "-n", "2"]).ok().out();
    assert_eq!(shown.lines().filter(|line| line.contains(&format!(">{second} "))).count(), 1, "{shown}");
    assert_eq!(shown.matches('>').count(), 1, "{shown}");
    sandbox.vac(&["log", "last", "--around", "999999"]).fails(USAGE, &["no event 999999", "0 to"]);
    assert_eq!(sandbox.vac(&["log", "last", "--around", "1", "--from", "1"]).code(), USAGE);
}

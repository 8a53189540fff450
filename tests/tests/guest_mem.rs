//! LA128 memories in the hands of guests.

use std::process::Stdio;

use crate::support::{Ran, Sandbox, number, repository, text};

const USAGE: i32 = 2;
const BUSY: i32 = 75;
const DENIED: u64 = 1;
const OUT_OF_RANGE: u64 = 2;
const TOO_LARGE: u64 = 3;
const UNRELATED: u64 = 5;
const MIB: u64 = 1 << 20;

fn sorter() -> String {
    repository().join("ring1-kernels/prebuilt/sorter.wasm").display().to_string()
}

/// A sandbox with the memory `m`, and a guest that has every function of the interface.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let source = repository().join("tests/guests/shards.wat");
    sandbox.write("g.wasm", wat::parse_file(source).unwrap());
    sandbox.vac(&["mem", "create", "m", "--page", "4096"]).ok();
    sandbox
}

fn root(sandbox: &Sandbox, name: &str) -> String {
    text(&sandbox.json(&["mem", "stat", name]), "root").to_owned()
}

fn call(sandbox: &Sandbox, grant: &str, calls: &[&str]) -> Ran {
    sandbox.vac(&[&["call", "g.wasm"], calls, &["--grant", grant]].concat())
}

/// What each call of the guest gave.
fn numbers(sandbox: &Sandbox, grant: &str, calls: &[&str]) -> Vec<u64> {
    let out = call(sandbox, grant, calls).ok().out();
    out.lines().map(|line| line.parse().unwrap()).collect()
}

fn replays(sandbox: &Sandbox) {
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
}

#[test]
fn a_kernel_sorts_more_than_its_own_memory_holds() {
    let sandbox = Sandbox::new();
    let empty = sandbox.vac(&["mem", "create", "big"]).ok().out().trim().to_owned();
    let rw = ["--grant", "mem:rw=big::m", "--memory", "3MiB"];
    let typed = |call: &str| sandbox.json(&[&["call", &sorter(), call], &rw[..]].concat());
    // Four million bytes.
    assert_eq!(text(&typed("fill(\"m\", 500000, 7)"), "result"), "ok");
    let filled = root(&sandbox, "big");
    let sorted = typed("sort(\"m\", 500000)");
    assert_eq!(text(&sorted, "result"), format!("ok(some(\"{}\"))", root(&sandbox, "big")));
    assert!(root(&sandbox, "big") != filled && filled != empty);
    let histogram = text(&typed("histogram(\"m\", 500000)"), "result").to_owned();
    let counts: Vec<u64> =
        histogram.split(|c: char| !c.is_ascii_digit()).filter_map(|count| count.parse().ok()).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (256, 500_000));
    assert!(histogram.ends_with("true))"), "{histogram}");
    // What was not committed changes nothing.
    let before = root(&sandbox, "big");
    assert_eq!(text(&typed("shuffled(\"m\", 1000, 1, 3)"), "result"), "ok(2)");
    assert_eq!(root(&sandbox, "big"), before);
    // The same again is the same run, and none needs the memory.
    sandbox.vac(&["mem", "restore", "big", &filled]).ok();
    assert_eq!(text(&typed("sort(\"m\", 500000)"), "head"), text(&sorted, "head"));
    sandbox.vac(&["mem", "rm", "big"]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["mem", "stat", "big"]).fails(2, &["big"]);
    for run in sandbox.json(&["runs"])["runs"].as_array().unwrap() {
        sandbox.vac(&["replay", text(run, "run")]).ok();
    }
}

#[test]
fn ranges_hold_at_both_ends() {
    let sandbox = sandbox();
    let (last, max) = (u64::MAX - 4095, u64::MAX);
    let read = |shard: u64, offset: u64, len: u64| format!("read({shard}, {offset}, {len})");
    let cases = [
        (read(0, 0, 0), 0),
        (read(max, max, 1), 0),
        (read(max, max, 2), OUT_OF_RANGE),
        (read(max, max, 0), 0),
        (read(0, last, 4096), 0),
        (read(0, last, 4097), OUT_OF_RANGE),
        (read(0, 0, MIB), 0),
        (read(0, 0, MIB + 1), TOO_LARGE),
        (read(0, 0, u64::from(u32::MAX)), TOO_LARGE),
        (format!("write({max}, {max}, 1)"), 0),
        (format!("write({max}, {max}, 2)"), OUT_OF_RANGE),
        (format!("write(0, {}, {MIB})", max - MIB + 1), 0),
        (format!("write(0, 0, {})", MIB + 1), TOO_LARGE),
        (format!("fill(0, 1, {max}, 0)"), TOO_LARGE),
        (format!("fill(0, 2, {max}, 0)"), OUT_OF_RANGE),
        (format!("fill(0, {max}, 1, 1)"), 0),
        (format!("fill(0, 5, {}, 0)", (1_u64 << 28) - 5), 0),
        (format!("fill(0, 5, {}, 0)", (1_u64 << 28) - 4), TOO_LARGE),
        (format!("copy(0, 0, 0, {max}, 2)"), OUT_OF_RANGE),
        (format!("copy(0, {max}, 0, 0, 2)"), OUT_OF_RANGE),
        (format!("copy(0, 0, 1, 0, {max})"), TOO_LARGE),
        (format!("copy({max}, {max}, 3, 9, 1)"), 0),
        (format!("advise(0, 0, {max}, 2)"), 0),
        (format!("advise(0, 2, {max}, 0)"), OUT_OF_RANGE),
    ];
    let calls: Vec<&str> = cases.iter().map(|(call, _)| call.as_str()).collect();
    let expected: Vec<u64> = cases.iter().map(|(_, expected)| *expected).collect();
    assert_eq!(numbers(&sandbox, "mem:rw=m", &calls), expected, "{calls:#?}");
    replays(&sandbox);
    assert_eq!(
        numbers(&sandbox, "mem:rw=m", &[&format!("byte({max}, {max})")]),
        [0],
        "nothing was committed"
    );
}

#[test]
fn bytes_go_where_they_should_also_when_ranges_overlap() {
    let sandbox = sandbox();
    let calls = [
        "fill(0, 0, 8192, 1)",
        "fill(0, 8192, 4096, 2)",
        // Whole pages, shared, and then one of them written.
        "copy(0, 0, 1, 4096, 12288)",
        "fill(0, 0, 1, 9)",
        "byte(1, 4096)",
        "byte(1, 12288)",
        // Upwards over itself, not at the beginning of a page.
        "copy(0, 0, 0, 100, 9000)",
        "byte(0, 100)",
        "byte(0, 8291)",
        "byte(0, 8292)",
        "byte(0, 9100)",
        // Downwards.
        "copy(0, 100, 0, 0, 9000)",
        "byte(0, 0)",
        "byte(0, 1)",
        "byte(0, 8191)",
        "byte(0, 8192)",
    ];
    let got = numbers(&sandbox, "mem:rw=m", &calls);
    assert_eq!(got, [0, 0, 0, 0, 1, 2, 0, 9, 1, 2, 2, 0, 9, 1, 1, 2]);
    replays(&sandbox);
}

#[test]
fn forks_go_their_own_way_and_only_the_first_is_committed() {
    let sandbox = sandbox();
    let empty = root(&sandbox, "m");
    let calls = [
        "fill(0, 0, 10, 1)",
        "snapshot",
        "write(0, 0, 1)",
        "back",
        "fork",
        "fill(0, 0, 5, 2)",
        "commit",
        "byte(0, 0)",
        "restore",
        "byte(0, 4)",
        "byte(0, 5)",
        "restore-itself",
        "commit",
    ];
    let calls: Vec<String> =
        calls.iter().map(|c| if c.contains('(') { (*c).to_owned() } else { format!("{c}()") }).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let got = numbers(&sandbox, "mem:rw=m", &calls);
    assert_eq!(got, [0, 0, DENIED, 0, 0, 0, UNRELATED, 2, 0, 2, 1, UNRELATED, 0]);
    replays(&sandbox);
    assert_ne!(root(&sandbox, "m"), empty);
    assert_eq!(sandbox.vac(&["mem", "read", "m", "0", "11"]).ok().stdout, [2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_grant_gives_some_shards_and_nothing_of_the_others() {
    let sandbox = sandbox();
    sandbox.vac_with_input(&["mem", "write", "m", "4:0", "-"], b"four").ok();
    sandbox.vac_with_input(&["mem", "write", "m", "5:0", "-"], b"five").ok();
    let got =
        numbers(&sandbox, "mem:rw=m@5+2", &["byte(0, 0)", "read(2, 0, 1)", "fill(1, 0, 1, 6)", "commit()"]);
    assert_eq!(got, [u64::from(b'f'), OUT_OF_RANGE, 0, 0]);
    // The root would say what the others hold.
    let log = sandbox.vac(&["log", "last", "--json"]).ok().out();
    assert!(log.contains("shard.commit"), "{log}");
    assert_eq!(sandbox.vac(&["mem", "read", "m", "6:0", "1"]).ok().stdout, [6]);
    assert_eq!(sandbox.vac(&["mem", "read", "m", "4:0", "4"]).ok().stdout, b"four");
    // Two grants of one memory are one memory.
    let sorter = sorter();
    let two = ["--grant", "mem:rw=m@7+2::a", "--grant", "mem:ro=m@7::b"];
    let both = [&["call", &sorter, "fill(\"a\", 9, 1)", "histogram(\"b\", 9)"], &two[..]].concat();
    let shown = sandbox.vac(&both).ok().out();
    let counts = shown.split(|c: char| !c.is_ascii_digit()).filter_map(|count| count.parse::<u64>().ok());
    assert_eq!(counts.sum::<u64>(), 9, "{shown}");
    replays(&sandbox);
    for (bad, words) in [
        ("mem:rw=m@x", "`x` is no number"),
        ("mem:rw=m@0+0", "names no shards"),
        ("mem:ro=no", "there is no memory `no`"),
        ("mem=m", "did you mean"),
    ] {
        let ran = sandbox.vac(&["call", "g.wasm", "commit()", "--grant", bad]);
        assert_eq!(ran.code(), USAGE, "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{bad}: {}", ran.stderr);
    }
}

#[test]
fn only_one_at_a_time_may_change_a_memory() {
    let sandbox = sandbox();
    let lock = std::fs::File::create(sandbox.home().join("memory/m.lock")).unwrap();
    lock.lock().unwrap();
    call(&sandbox, "mem:rw=m", &["byte(0, 0)"]).fails(BUSY, &["changing the memory `m`"]);
    assert_eq!(numbers(&sandbox, "mem:ro=m", &["byte(0, 0)"]), [0]);
}

#[test]
fn a_manifest_asks_for_a_memory_by_the_guests_name() {
    let sandbox = sandbox();
    sandbox.write("g.vac.toml", "version = 1\n[[ask]]\ngrant = \"mem:ro=m\"\nwhy = \"to read\"\n");
    assert_eq!(numbers(&sandbox, "mem:rw=m", &["byte(0, 0)", "fill(0, 0, 1, 1)"]), [0, DENIED]);
    assert_eq!(sandbox.json(&["log", "last", "--denied"])["found"], 1);
    call(&sandbox, "mem:ro=m::other", &["byte(0, 0)"]).fails(3, &["mem:ro=m"]);
    let inspected = sandbox.vac(&["inspect", "g.wasm"]).ok().out();
    assert!(inspected.contains("mem:ro=m") && inspected.contains("vac:memory/shards"), "{inspected}");
}

#[test]
fn what_a_program_needs_of_a_memory_is_learned() {
    let sandbox = sandbox();
    let learn = |call: &str| {
        let grant = ["--grant", "mem:rw=m", "--yes", "-o", "-"];
        sandbox.vac(&[&["learn", "g.wasm", "--call", call], &grant[..]].concat()).ok().out()
    };
    assert!(learn("byte(0, 0)").contains("grant = \"mem:ro=m\""));
    assert!(learn("fill(0, 0, 1, 1)").contains("grant = \"mem:rw=m\""));
    // Runs that are compared would change one memory.
    let probe = ["probe", "g.wasm", "--call", "commit()", "--grant", "mem:rw=m"];
    sandbox.vac(&probe).fails(USAGE, &["the memory `m` cannot be copied"]);
}

#[test]
fn a_script_passes_a_memory_on() {
    let sandbox = sandbox();
    sandbox.write("sorter.wasm", std::fs::read(sorter()).unwrap());
    let script = "k = kernel(\"sorter.wasm\")\nm = grant(\"mem:rw=m\")\n\
                  k.fill(\"m\", 50, 1, grants = [m])\nk.sort(\"m\", 50, grants = [m])\n\
                  print(k.histogram(\"m\", 50, grants = [m])[1])\n";
    sandbox.write("s.star", script);
    assert_eq!(sandbox.vac(&["run", "s.star", "--grant", "mem:rw=m"]).ok().out(), "True\n");
    replays(&sandbox);
    sandbox.vac(&["run", "s.star", "--grant", "mem:ro=m"]).fails(3, &["mem:rw=m", "is not granted"]);
}

/// What the past of a fork wrote is written again, and what it committed is not.
#[test]
fn a_run_that_changed_a_memory_is_forked() {
    let sandbox = sandbox();
    let empty = root(&sandbox, "m");
    let grant = ["--grant", "mem:rw=m"];
    let got = numbers(&sandbox, "mem:rw=m", &["fill(0, 0, 4, 3)", "commit()", "fill(0, 2, 4, 5)"]);
    assert_eq!(got, [0, 0, 0]);
    let fork = |new: &str| {
        let end = number(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "events").to_string();
        sandbox.vac(&[&["fork", "last", "--event", &end], &grant[..], &["--", new]].concat())
    };
    // The memory is not what it was when the run began, though nothing that was read shows it.
    fork("byte(0, 0)").fails(USAGE, &["the world is not what it was"]);
    sandbox.vac(&["mem", "restore", "m", &empty]).ok();
    let forked = fork("byte(0, 2)").ok().out();
    assert!(forked.trim_end().ends_with('5'), "{forked}");
    assert_eq!(root(&sandbox, "m"), empty);
    replays(&sandbox);
}

#[test]
fn who_watches_sees_what_a_pager_does_until_its_run_ends() {
    let sandbox = sandbox();
    assert_eq!(sandbox.json(&["mem", "watch"])["memories"], serde_json::json!([]));
    assert_eq!(sandbox.vac(&["mem", "watch"]).ok().out(), "no run has a memory open\n");
    let typed = ["call", "g.wasm", "fill(0, 0, 100, 1)", "spin()", "--grant", "mem:rw=m", "--record=off"];
    let mut running = sandbox.command(&typed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let seen = (0..3000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let json = sandbox.json(&["mem", "watch", "m"]);
        let watched = json["memories"].as_array().unwrap().first().cloned()?;
        (watched["counters"]["hits"].as_u64()? > 100).then_some(watched)
    });
    let shown = sandbox.vac(&["mem", "watch", "-n", "1"]).ok().out();
    let other = sandbox.json(&["mem", "watch", "other"]);
    running.kill().unwrap();
    running.wait().unwrap();
    let seen = seen.unwrap();
    assert_eq!((text(&seen, "memory"), seen["counters"]["resident"].as_u64()), ("m", Some(1)));
    assert!(shown.contains(text(&seen, "run")) && shown.contains("OF IT READ AGAIN"), "{shown}");
    for counter in ["again", "ahead", "ahead_used", "ahead_wasted", "below_found", "mended"] {
        assert_eq!(seen["counters"][counter], 0, "{counter}: one page is hit all the time");
    }
    assert_eq!(other["memories"], serde_json::json!([]));
    // It was killed, and left its file.
    assert_eq!(sandbox.json(&["mem", "watch"])["memories"], serde_json::json!([]));
    assert!(sandbox.home_files("memory/live").is_empty());
}

/// Written pages are the guest's to hear of, and what is moved ends the run: that depends on what is in memory.
#[test]
fn limits_of_a_memory_hold_and_are_recorded() {
    let sandbox = sandbox();
    let typed = |limits: &[&str], calls: &[&str]| {
        sandbox.vac(&[&["call", "g.wasm"], calls, &["--grant", "mem:rw=m"], limits].concat())
    };
    let write = |page: u64| format!("fill(0, {}, 100, 7)", page * 4096);
    let (a, b, c) = (write(0), write(1), write(2));
    let out = typed(&["--limit", "dirty-pages=2"], &[&a, &b, &c, &a, "commit()", &c]).ok().out();
    let answers: Vec<&str> = out.lines().collect();
    assert_eq!(
        [answers[0], answers[1], answers[2], answers[3], answers[5]],
        ["0", "0", "4", "0", "0"],
        "{out}"
    );
    replays(&sandbox);
    let over = typed(&["--limit", "memory-io=8KiB"], &[&a, &b, &c]);
    let over = over.fails(4, &["8192 bytes between its pages and the store"]);
    assert!(over.stderr.contains("`--limit memory-io=SIZE`"), "{}", over.stderr);
    sandbox.vac(&["replay", "last"]).ok();
    // Whichever page leaves, and however early: the guest and the record are the same.
    let frames = |options: &[&str]| {
        let calls = ["fill(0, 0, 2000000, 3)", "byte(0, 5)", "byte(0, 1999999)", "byte(0, 2000000)"];
        let ran =
            sandbox.json(&[&["call", "g.wasm"], &calls[..], &["--grant", "mem:rw=m"], options].concat());
        text(&ran, "head").to_owned()
    };
    let head = frames(&[]);
    for policy in ["lru", "sieve", "w-tinylfu", "s3-fifo"] {
        assert_eq!(frames(&["--limit", "frames=1MiB", "--memory-policy", policy]), head, "{policy}");
    }
    typed(&["--memory-policy", "mru"], &[&a]).fails(USAGE, &["s3-fifo, lru, sieve, w-tinylfu"]);
}

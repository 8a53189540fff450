//! Another version of a program against the record of the one before: the same, or what differs.

use serde_json::Value;
use vac_core::canon::Node;
use vac_core::ledger::{Body, Entry};

use crate::guest::{Guest, ROOT};
use crate::replay::{forge, recorded};
use crate::support::{Sandbox, number, text};

const USAGE: i32 = 2;
const DIVERGENCE: i32 = 5;

/// What the recorded version does, with `said` in its middle.
fn version(said: &str) -> Guest {
    Guest::new().random().open(ROOT, "input", "r").read().say(said).clocks()
}

/// A home with a run of `guest`, whose directory is gone.
fn run_of(guest: Guest) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", "the input");
    sandbox.write("one.wasm", guest.wasm());
    sandbox.vac(&["run", "one.wasm", "--grant", "dir:rw=d"]).ok();
    std::fs::remove_dir_all(sandbox.path("d")).unwrap();
    sandbox
}

fn kinds(object: &Value) -> Vec<(String, String)> {
    let side = |difference: &Value| {
        let side = if difference["replayed"].is_null() { "recorded" } else { "replayed" };
        text(&difference[side], "request").to_owned()
    };
    let differences = object["differences"].as_array().unwrap();
    differences.iter().map(|difference| (text(difference, "kind").to_owned(), side(difference))).collect()
}

#[test]
fn a_version_that_asks_for_the_same_is_safe() {
    let sandbox = run_of(version("hello\n"));
    let slower = version("hello\n").times(1000, Guest::new().raw("(drop (i32.const 1))"));
    sandbox.write("two.wasm", slower.wasm());
    let ran = sandbox.vac(&["replay", "last", "--with", "two.wasm"]).ok();
    assert!(ran.out().starts_with("safe ") && ran.out().contains("same outputs, same outcome"), "{ran:?}");
    for mode in [&[][..], &["--lenient"]] {
        let object = sandbox.json(&[&["replay", "last", "--with", "two.wasm"], mode].concat());
        assert_eq!((&object["safe"], &object["complete"]), (&true.into(), &true.into()));
        assert_eq!(number(&object, "equal"), number(&object, "events"));
    }
    assert_eq!(sandbox.json(&["runs"])["runs"].as_array().unwrap().len(), 1, "no run is made of it");
    sandbox.vac(&["replay", "last", "--with", "one.wasm"]).ok();
}

#[test]
fn the_first_request_that_changes_is_shown_on_both_sides() {
    let sandbox = run_of(version("hello\n"));
    sandbox.write("two.wasm", version("goodbye\n").wasm());
    let ran = sandbox.vac(&["replay", "last", "--with", "two.wasm"]);
    assert_eq!(ran.code(), DIVERGENCE, "{ran:?}");
    let out = ran.out();
    let line = |mark: &str| out.lines().find(|line| line.starts_with(mark)).unwrap_or_default().to_owned();
    assert!(out.starts_with("differs ") && line(" - ").contains("hello"), "{out}");
    assert!(line(" + ").contains("goodbye"), "{out}");
    assert!(out.lines().filter(|line| line.starts_with("    ")).count() >= 4, "no context: {out}");
    let object = sandbox.vac(&["--json", "replay", "last", "--with", "two.wasm"]).json();
    assert_eq!(object["safe"], false);
    let difference = &object["differences"][0];
    assert_eq!(text(difference, "kind"), "changed");
    assert_eq!(difference["recorded"]["event"], difference["replayed"]["event"]);
    assert_eq!(object["before"].as_array().unwrap().len(), 3);
}

#[test]
fn a_lenient_comparison_lists_all_that_differs() {
    let lines = |said: [&str; 4]| said.iter().fold(Guest::new(), |guest, line| guest.say(line));
    let sandbox = run_of(lines(["one\n", "two\n", "three\n", "four\n"]).random());
    sandbox.write("two.wasm", lines(["one\n", "zwei\n", "three\n", "four\n"]).random().wasm());
    let with =
        |mode: &[&str]| sandbox.vac(&[&["--json", "replay", "last", "--with", "two.wasm"], mode].concat());
    assert_eq!(with(&[]).json()["differences"].as_array().unwrap().len(), 1);
    let object = with(&["--lenient"]);
    assert_eq!(object.code(), DIVERGENCE);
    let object = object.json();
    assert_eq!(object["stopped"], Value::Null);
    assert_eq!(object["counts"]["changed"], 1, "{object}");
    assert_eq!(kinds(&object).len(), 1, "{object}");
    assert!(text(&object["differences"][0]["recorded"], "request").contains("two"));
    assert!(text(&object["differences"][0]["replayed"], "request").contains("zwei"));

    // One line less, one line more, and two that changed places.
    sandbox.write("two.wasm", lines(["one\n", "two\n", "three\n", ""]).wasm());
    let fewer = with(&["--lenient"]).json();
    assert!(kinds(&fewer).iter().all(|(kind, _)| kind == "missing" || kind == "changed"), "{fewer}");
    assert!(number(&fewer["counts"], "missing") >= 2, "{fewer}");
    sandbox.write("two.wasm", lines(["one\n", "two\n", "three\n", "four\n"]).random().say("five\n").wasm());
    let more = with(&["--lenient"]).json();
    assert!(kinds(&more).contains(&("extra".into(), kinds(&more).last().unwrap().1.clone())), "{more}");
    assert!(kinds(&more).iter().any(|(_, request)| request.contains("five")), "{more}");
    sandbox.write("two.wasm", lines(["one\n", "three\n", "two\n", "four\n"]).random().wasm());
    let moved = with(&["--lenient"]).json();
    assert!(number(&moved["counts"], "moved") >= 1, "{moved}");
    assert_eq!((&moved["counts"]["extra"], &moved["counts"]["missing"]), (&0.into(), &0.into()), "{moved}");
}

/// What the record cannot answer is an error that the guest sees, where its function has one.
#[test]
fn a_file_that_the_record_does_not_have_cannot_be_opened() {
    let sandbox = run_of(version("x\n"));
    let curious = version("x\n").open(ROOT, "other", "r").say("went on\n");
    sandbox.write("two.wasm", curious.wasm());
    let object = sandbox.vac(&["--json", "replay", "last", "--with", "two.wasm", "--lenient"]).json();
    let listed = kinds(&object);
    assert!(listed.iter().any(|(kind, request)| kind == "extra" && request.contains("other")), "{object}");
    assert!(listed.iter().any(|(_, request)| request.contains("went on")), "{object}");
    assert_eq!(object["stopped"], Value::Null);
}

fn adder(body: &str) -> Vec<u8> {
    let module = format!("(module (func (export \"add\") (param i32 i32) (result i32) {body}))");
    wat::parse_str(module).unwrap()
}

const ADD: &str = "(i32.add (local.get 0) (local.get 1))";
const ADD_OTHERWISE: &str = "(i32.sub (local.get 0) (i32.sub (i32.const 0) (local.get 1)))";
const WRONG: &str = "(i32.add (i32.const 1) (i32.add (local.get 0) (local.get 1)))";

#[test]
fn calls_must_give_the_same_results() {
    let sandbox = Sandbox::new();
    for (name, body) in [("one.wasm", ADD), ("two.wasm", ADD_OTHERWISE), ("three.wasm", WRONG)] {
        sandbox.write(name, adder(body));
    }
    sandbox.vac(&["call", "one.wasm", "add(1, 2)", "add(3, 4)"]).ok();
    let safe = sandbox.json(&["replay", "last", "--with", "two.wasm"]);
    assert_eq!((&safe["safe"], &safe["equal"]), (&true.into(), &2.into()));
    let ran = sandbox.vac(&["replay", "last", "--with", "three.wasm"]);
    assert_eq!(ran.code(), DIVERGENCE);
    assert!(ran.out().contains("the end of event 0"), "{}", ran.out());
    let lenient = sandbox.vac(&["--json", "replay", "last", "--with", "three.wasm", "--lenient"]).json();
    assert_eq!(lenient["counts"]["changed"], 3, "two calls and the end of the run: {lenient}");
}

#[test]
fn a_script_and_what_it_loads_can_be_replaced() {
    let sandbox = Sandbox::new();
    for (name, body) in [("one.wasm", ADD), ("two.wasm", ADD_OTHERWISE), ("three.wasm", WRONG)] {
        sandbox.write(name, adder(body));
    }
    sandbox.write("a.star", "k = kernel(\"one.wasm\")\nprint(k.add(1, 2))\n");
    sandbox.write("b.star", "# the same\nadd = kernel(\"one.wasm\").add\nprint(add(1, 2))\n");
    sandbox.write("c.star", "k = kernel(\"one.wasm\")\nprint(k.add(2, 2))\n");
    sandbox.write("e.star", "k = kernel(\"one.wasm\")\nprint(k.add(1, 2))\nprint(k.add(1, 2))\n");
    sandbox.vac(&["run", "a.star"]).ok();
    let with = |args: &[&str]| sandbox.vac(&[&["replay", "last", "--with"], args].concat());
    for safe in ["one.wasm=two.wasm", "b.star"] {
        assert!(with(&[safe]).ok().out().starts_with("safe "), "{safe}");
    }
    for other in ["one.wasm=three.wasm", "c.star", "e.star"] {
        assert_eq!(with(&[other]).code(), DIVERGENCE, "{other}");
        assert_eq!(with(&[other, "--lenient"]).code(), DIVERGENCE, "{other}");
    }
    // A call that nobody recorded has no answer.
    let more = sandbox.vac(&["--json", "replay", "last", "--with", "e.star", "--lenient"]).json();
    assert!(text(&more, "stopped").contains("does not have this call"), "{more}");
    with(&["two.wasm"]).fails(USAGE, &["which is a script"]);
    let ran = with(&["other.wasm=two.wasm"]).fails(USAGE, &["loads no program `other.wasm`"]);
    assert!(ran.stderr.contains("it loads `one.wasm`"), "{}", ran.stderr);
}

#[test]
fn what_cannot_take_the_place_of_the_target_is_refused() {
    let sandbox = run_of(version("x\n"));
    sandbox.write("a.star", "print(1)\n");
    sandbox.write("add.wasm", adder(ADD));
    let with = |target: &str| sandbox.vac(&["replay", "last", "--with", target]);
    with("a.star").fails(USAGE, &["which is no script"]);
    with("add.wasm").fails(USAGE, &["does not export `wasi:cli/run`"]);
    with("missing.wasm").fails(USAGE, &["there is no file"]);
    with("k=one.wasm").fails(USAGE, &["loads no program `k`"]);
    sandbox.vac(&["replay", "last", "--lenient"]).fails(USAGE, &["required arguments"]);
}

/// Whatever a record holds, comparing with it ends with a word about it.
#[test]
fn records_that_are_not_true_are_compared_like_others() {
    let (sandbox, run, _) = recorded();
    for round in 0..8_usize {
        let (mut at, mut is_changed) = (0, false);
        let forged = forge(&sandbox, &run, |entry, _| {
            at += 1;
            if let Entry::Event(call, ret) = entry
                && at % 8 == round
            {
                call.request = Body::digest(b"\x81\x05");
                ret.answer = Ok(Body::digest(b"\xff"));
                is_changed = true;
            }
        });
        for mode in [&[][..], &["--lenient"]] {
            let ran = sandbox.vac(&[&["replay", &forged, "--with", "guest.wasm"], mode].concat());
            assert!(!is_changed || [DIVERGENCE, 6].contains(&ran.code()), "{ran:?}");
        }
        std::fs::remove_file(sandbox.home().join("runs").join(format!("{forged}.0000"))).unwrap();
        std::fs::remove_file(sandbox.home().join("runs").join(format!("{forged}.close"))).unwrap();
    }
}

#[test]
fn a_quirk_that_this_version_does_not_know_is_refused_by_name() {
    let (sandbox, run, _) = recorded();
    let forged = forge(&sandbox, &run, |entry, _| {
        if let Entry::Header(header) = entry {
            let quirks = Node::List(vec![Node::Text("clock-of-1999".into())]);
            header.fields.push(("quirks".into(), quirks));
        }
    });
    for args in [&["replay", &forged][..], &["replay", &forged, "--with", "guest.wasm"]] {
        let ran = sandbox.vac(args).fails(USAGE, &["`clock-of-1999`"]);
        assert!(ran.stderr.contains("newer version"), "{}", ran.stderr);
    }
    sandbox.vac(&["verify", &forged]).ok();
}

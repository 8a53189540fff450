//! Where two runs part, and what led to it.

use std::sync::Arc;

use serde_json::Value;
use vac_core::ledger::{Class, Entry, Ledger, Outcome, Reader, RunId};
use vac_core::storage::{RealStorage, Storage};

use crate::guest::{Guest, ROOT};
use crate::network::{ok, probe, request, server};
use crate::replay::forge;
use crate::support::{Sandbox, number, repository, text};

const DIFFERENT: i32 = 5;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", "input");
    let guest = Guest::new().args_and_env().random().open(ROOT, "input", "r").read().clocks();
    sandbox.write("guest.wasm", guest.wasm());
    sandbox
}

fn run(sandbox: &Sandbox, more: &[&str]) -> String {
    let args = [&["run", "guest.wasm", "--grant", "dir:ro=d"], more].concat();
    text(&sandbox.json(&args), "run").to_owned()
}

/// The comparison of two runs that differ.
fn bisect(sandbox: &Sandbox, a: &str, b: &str) -> Value {
    let ran = sandbox.vac(&["--json", "bisect", a, b]);
    assert_eq!(ran.code(), DIFFERENT, "{}", ran.stderr);
    let object = ran.json();
    assert_eq!(object["equal"], false);
    let shown = sandbox.vac(&["bisect", a, b]);
    assert!(shown.code() == DIFFERENT && shown.out().starts_with("different "), "{}", shown.out());
    object
}

/// Writes the first `n` chained entries of a run again, as of a process that was killed there.
fn cut(sandbox: &Sandbox, run: &str, n: usize) -> String {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(sandbox.home()));
    let mut reader = Reader::open(Arc::clone(&storage), run.parse().unwrap()).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        if entry.is_chained() && entries.len() < n {
            entries.push(entry);
        }
    }
    let cut = RunId::new(1 << 42, n as u32);
    let Entry::Header(header) = entries.remove(0) else { panic!("the first entry is the header") };
    let (mut ledger, mut committer) = Ledger::create(storage, cut, header).unwrap();
    entries.iter().for_each(|entry| ledger.append(entry));
    committer.commit(&ledger.take_group(0, Vec::new())).unwrap();
    cut.to_string()
}

#[test]
fn equal_runs_are_equal() {
    let sandbox = sandbox();
    let (a, b) = (run(&sandbox, &[]), run(&sandbox, &[]));
    let object = sandbox.json(&["bisect", &a, &b]);
    assert_eq!((&object["equal"], &object["difference"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(object["equal_events"], sandbox.json(&["runs"])["runs"][0]["events"]);
    let shown = sandbox.vac(&["bisect", &a, &b]).ok().out();
    let head = text(&object, "head");
    assert!(shown.starts_with("equal ") && shown.contains(&format!("\nhead  {head}\n")), "{shown}");
    assert_eq!(object["head"], sandbox.json(&["runs"])["runs"][0]["head"]);
    sandbox.json(&["bisect", &a, &a]);
}

#[test]
fn a_file_that_changed_is_the_worlds_answer() {
    let sandbox = sandbox();
    let a = run(&sandbox, &[]);
    sandbox.write("d/input", "other");
    let b = run(&sandbox, &[]);
    let object = bisect(&sandbox, &a, &b);
    let difference = &object["difference"];
    assert_eq!((text(difference, "cause"), &difference["fields"]), ("world", &serde_json::json!(["answer"])));
    assert!(text(&difference["a"], "function").contains("input-stream"), "{difference}");
    assert_eq!(difference["a"]["request"], difference["b"]["request"]);
    assert!(text(&difference["a"]["answer"], "shown").contains("input"), "{difference}");
    assert!(text(&difference["b"]["answer"], "shown").contains("other"), "{difference}");
    assert_eq!(object["header"], serde_json::json!([]));
    let before: Vec<u64> = object["before"].as_array().unwrap().iter().map(|e| number(e, "event")).collect();
    let at = number(difference, "event");
    assert_eq!(before, (at - 5..at).collect::<Vec<_>>());
    let few = sandbox.vac(&["--json", "bisect", &a, &b, "-n", "2"]).json();
    assert_eq!(few["before"].as_array().unwrap().len(), 2);
    let shown = sandbox.vac(&["bisect", &a, &b]).out();
    for words in ["before it, in both", "first difference", "≠", "the world", "input", "other"] {
        assert!(shown.contains(words), "expected `{words}`: {shown}");
    }
    // The kernel that it is inside of has no answer there; it ended like any other.
    let all = sandbox.vac(&["bisect", &a, &b, "-n", "1000"]).out();
    assert!(all.contains("vac:run/kernel") && all.contains("is inside of it"), "{all}");
    assert!(!all.contains("the record ends here"), "{all}");
}

/// The status of a response was said to be a bug of VAC where it differed: the host answers it from what it holds of the
/// response, in an event of class `local`, and that comes before the body.
#[test]
fn a_status_or_a_header_that_differs_is_the_worlds_answer() {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap());
    let changes = [("status", "200 OK", "404 No"), ("fields", "x-kept: test", "x-kept: best")];
    for (function, from, to) in changes {
        let count = std::sync::atomic::AtomicU32::new(0);
        // Twice as it is, then twice changed.
        let (port, served) = server(4, move |_| {
            let same = ok("same").replace("x-kind", "x-kept");
            match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 {
                true => same,
                false => same.replace(from, to),
            }
        });
        let authority = format!("127.0.0.1:{port}");
        let grant = format!("http:127.0.0.1:{port}");
        let sent = request("GET", &authority, "", "none");
        let probe = probe();
        let call = ["call", &probe, &sent, "--grant", &grant];
        let fetch = ["run", "k.wasm", "--grant", &grant, "--", "fetch", "GET", &authority, "/"];
        let run = |args: &[&str]| text(&sandbox.json(args), "run").to_owned();
        let [a, b] = [run(&call), run(&fetch)];
        for (a, args) in [(a, &call[..]), (b, &fetch[..])] {
            let object = bisect(&sandbox, &a, &run(args));
            let difference = &object["difference"];
            assert_eq!(text(difference, "cause"), "world", "{difference}");
            assert_eq!(text(&difference["a"], "class"), "local", "{difference}");
            let named = text(&difference["a"], "function");
            assert!(named.contains(function), "expected `{function}`: {difference}");
        }
        served.join().unwrap();
    }
}

/// What the guest made itself is no answer of the world, also beside one.
#[test]
fn an_answer_about_the_guests_own_fields_that_differs_is_a_leak() {
    let sandbox = Sandbox::new();
    let (port, served) = server(1, |_| ok("same"));
    let grant = format!("http:127.0.0.1:{port}");
    let sent = request("GET", &format!("127.0.0.1:{port}"), "", "none");
    let a = text(&sandbox.json(&["call", &probe(), &sent, "--grant", &grant]), "run").to_owned();
    served.join().unwrap();
    let forged = forge(&sandbox, &a, |entry, name| {
        if let Entry::Event(_, ret) = entry
            && name.contains("set-authority")
        {
            ret.answer = Err(Outcome::Exit(3));
        }
    });
    assert_eq!(text(&bisect(&sandbox, &a, &forged)["difference"], "cause"), "leak");
}

#[test]
fn another_start_is_named_by_its_fields() {
    let sandbox = sandbox();
    let a = run(&sandbox, &[]);
    for (more, field, function) in
        [(&["--seed", "9"][..], "seed", "random"), (&["--", "x"], "args", "vac:run/kernel")]
    {
        let object = bisect(&sandbox, &a, &run(&sandbox, more));
        let difference = &object["difference"];
        assert_eq!(text(difference, "cause"), "start", "{object}");
        assert_eq!(
            (text(&object["header"][0], "field"), object["header"].as_array().unwrap().len()),
            (field, 1)
        );
        assert!(text(&difference["a"], "function").contains(function), "{difference}");
    }
    // Started differently, and nothing came of it: that is no equal run, and no event says so.
    let object = bisect(&sandbox, &a, &run(&sandbox, &["--ticks", "1000000000"]));
    assert_eq!((&object["difference"], text(&object["header"][0], "field")), (&Value::Null, "ticks_max"));
}

#[test]
fn another_program_does_something_else() {
    let sandbox = sandbox();
    let a = run(&sandbox, &[]);
    sandbox.write("guest.wasm", Guest::new().say("other\n").wasm());
    let object = bisect(&sandbox, &a, &run(&sandbox, &[]));
    assert_eq!((text(&object["difference"], "cause"), number(&object["difference"], "event")), ("start", 0));
    assert_eq!(text(&object["header"][0], "field"), "target");
}

#[test]
fn a_killed_run_is_equal_up_to_where_it_stops() {
    let sandbox = sandbox();
    let a = run(&sandbox, &[]);
    let short = cut(&sandbox, &a, 30);
    for (one, two) in [(&a, &short), (&short, &a)] {
        let object = bisect(&sandbox, one, two);
        assert_eq!(text(&object["difference"], "cause"), "operator", "{object}");
        assert!(number(&object, "equal_events") > 10);
    }
    sandbox.json(&["bisect", &short, &short]);
    let events = number(&sandbox.json(&["bisect", &short, &short]), "equal_events");
    // What there is of it is replayed, and looked at.
    let sought = sandbox.json(&["seek", &short, "--event", &(events - 1).to_string()]);
    assert_eq!(number(&sought["call"], "event"), events - 1);
    let end = number(&sought, "tick").to_string();
    sandbox.json(&["seek", &short, "--tick", &end]);
    sandbox.vac(&["seek", &short, "--event", &events.to_string()]).fails(2, &["0 to"]);
}

/// What the sandbox itself answers cannot differ between two runs that were started alike; if a record says so, that
/// is said, too.
#[test]
fn an_answer_of_the_sandbox_that_differs_is_a_leak() {
    let sandbox = sandbox();
    let a = run(&sandbox, &[]);
    let forged = forge(&sandbox, &a, |entry, name| {
        if let Entry::Event(call, ret) = entry
            && call.class == Class::Local
            && name.contains("monotonic-clock#now")
        {
            ret.answer = Err(Outcome::Exit(3));
        }
    });
    let object = bisect(&sandbox, &a, &forged);
    assert_eq!(text(&object["difference"], "cause"), "leak");
    assert!(!object["reads"].as_array().unwrap().is_empty(), "{object}");
}

#[test]
fn runs_of_scripts_part_where_their_data_do() {
    let sandbox = Sandbox::new();
    sandbox.write("data/a.txt", "1");
    sandbox.write("s.star", "d = dir('data')\nprint('start')\nprint(read(d, 'a.txt'))\n");
    let a = text(&sandbox.json(&["run", "s.star"]), "run").to_owned();
    sandbox.write("data/a.txt", "2");
    let b = text(&sandbox.json(&["run", "s.star"]), "run").to_owned();
    let difference = bisect(&sandbox, &a, &b)["difference"].clone();
    assert_eq!(
        (text(&difference, "cause"), text(&difference["a"], "function")),
        ("world", "vac:script/read")
    );
}

/// A replay that differs shows what both did, what was before, and where in the guest it was.
#[test]
fn a_replay_that_differs_is_shown_with_what_was_before_and_the_stack() {
    let sandbox = sandbox();
    let a = run(&sandbox, &[]);
    let forged = forge(&sandbox, &a, |entry, _| {
        if let Entry::Event(call, ret) = entry
            && call.class == Class::Read
            && let Ok(vac_core::ledger::Body::Inline(bytes)) = &mut ret.answer
            && let Some(at) = bytes.windows(5).position(|part| part == b"input")
        {
            bytes[at] = b'X';
        }
    });
    let ran = sandbox.vac(&["replay", &forged]).fails(DIFFERENT, &["replay differs at event"]);
    for words in ["recorded: ", "replayed: ", "the program asks: ", "Xnput", "before it", "STACK", "say"] {
        assert!(ran.stderr.contains(words), "expected `{words}`: {}", ran.stderr);
    }
    let object = sandbox.vac(&["--json", "replay", &forged]).json();
    // Five events before it, and the kernel that it is inside of.
    assert_eq!(
        (text(&object["error"], "kind"), object["before"].as_array().unwrap().len()),
        ("divergence", 6)
    );
    assert_eq!(object["recorded"]["event"], object["event"]);
    assert!(text(&object["replayed"], "request").contains("Xnput"), "{object}");
    let names = object["stack"].as_array().unwrap();
    assert!(names.iter().any(|frame| frame["function"] == "say"), "{object}");
}

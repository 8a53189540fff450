//! A program that is run with something different around it, and what is said of it.

use serde_json::Value;

use crate::guest::{Guest, ROOT};
use crate::network::{ok, probe as kernel, request, server};
use crate::support::{Sandbox, number, run, run_with_input, text};

const USAGE: i32 = 2;
const DIVERGENCE: i32 = 5;

fn variation<'v>(object: &'v Value, name: &str) -> &'v Value {
    let all = object["variations"].as_array().unwrap();
    all.iter().find(|variation| variation["name"] == name).unwrap_or_else(|| panic!("no `{name}`: {object}"))
}

#[test]
fn a_program_that_depends_on_nothing_around_it_is_deterministic() {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", "input");
    let guest = Guest::new().args_and_env().random().clocks().open(ROOT, "input", "r").read();
    let guest = guest.open(ROOT, "made", "wcx").write("made").list(ROOT).stat(ROOT, "made");
    sandbox.write("guest.wasm", guest.wasm());
    let args = ["probe", "guest.wasm", "--grant", "dir:rw=d", "--env", "A=1", "--", "x"];
    let object = sandbox.json(&args);
    assert_eq!(object["deterministic"], true, "{object}");
    assert_eq!(object["copied"][0], "dir:rw=d");
    assert!(number(&object, "events") > 20);
    for other in object["variations"].as_array().unwrap() {
        assert_eq!((&other["equal"], &other["events"]), (&true.into(), &object["events"]), "{other}");
        if !["native", "interpreter"].contains(&text(other, "name")) {
            assert_eq!(other["head"], object["head"]);
        }
    }
    // Ticks are the engine's fuel, which counts the same whatever runs the code.
    for name in ["native", "interpreter"] {
        assert_eq!(variation(&object, name)["ticks_equal"], true, "{object}");
    }
    assert!(!sandbox.path("d/made").exists(), "a copy is changed, and not what was granted");
    assert_eq!(sandbox.json(&["runs"])["runs"], Value::Array(vec![]), "runs that are equal are not kept");
    assert!(std::fs::read_dir(sandbox.home().join("probe")).unwrap().next().is_none());
    let ran = sandbox.vac(&args).ok();
    let said = format!("deterministic: {} variations", object["variations"].as_array().unwrap().len());
    assert!(ran.out().contains(&said) && ran.out().contains("one head"), "{}", ran.out());
    assert!(ran.stderr.contains("dir:rw=d: each run changed a copy"), "{}", ran.stderr);
}

#[test]
fn what_differs_is_named_with_the_variation_that_made_it() {
    let sandbox = Sandbox::new();
    sandbox.write("env.wasm", Guest::new().args_and_env().wasm());
    let probe = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("TZ", "UTC");
        run(command)
    };
    let ran = probe(&["probe", "env.wasm", "--grant", "env:TZ"]);
    assert_eq!(ran.code(), DIVERGENCE, "{ran:?}");
    assert!(ran.out().contains("differs `zone` at event"), "{}", ran.out());
    assert!(ran.out().contains("UTC") && ran.out().contains("Kiritimati"), "{}", ran.out());
    let object = probe(&["--json", "probe", "env.wasm", "--grant", "env:TZ"]).json();
    assert_eq!(variation(&object, "zone")["difference"]["world"], false);
    assert_eq!(variation(&object, "locale")["equal"], true);
    let kept = object["kept"].as_array().unwrap();
    assert_eq!(kept.len(), 2);
    for run in kept {
        sandbox.vac(&["verify", run.as_str().unwrap()]).ok();
        sandbox.vac(&["replay", run.as_str().unwrap()]).ok();
    }
}

#[test]
fn an_answer_of_the_world_is_named_as_the_worlds() {
    let sandbox = Sandbox::new();
    // What lies outside changes between the runs: somebody writes to the file that is read.
    sandbox.write("d/input", "0");
    sandbox.write("read.wasm", Guest::new().open(ROOT, "input", "r").read().wasm());
    let path = sandbox.path("d/input");
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (over, to) = (std::sync::Arc::clone(&is_over), path.clone());
    let writer = std::thread::spawn(move || {
        for n in 1_u64.. {
            if over.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let other = to.with_extension("new");
            std::fs::write(&other, n.to_string()).unwrap();
            std::fs::rename(&other, &to).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    let ran = sandbox.vac(&["probe", "read.wasm", "--grant", "file:ro=d/input::input"]);
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(ran.code(), DIVERGENCE, "{ran:?}");
    assert!(ran.out().contains("the world differs, not the program"), "{}", ran.out());
}

/// The first of the runs hears another status than the others, as of a server that fails.
#[test]
fn a_response_of_another_status_is_the_worlds() {
    let sandbox = Sandbox::new();
    let count = std::sync::atomic::AtomicU32::new(0);
    let (port, _) = server(64, move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => ok("same").replace("200 OK", "503 No"),
        _ => ok("same"),
    });
    let (grant, sent) =
        (format!("http:127.0.0.1:{port}"), request("GET", &format!("127.0.0.1:{port}"), "", "none"));
    let args = ["probe", &kernel(), "--grant", &grant, "--call", &sent];
    let ran = sandbox.vac(&args);
    assert_eq!(ran.code(), DIVERGENCE, "{ran:?}");
    assert!(ran.out().contains("the world differs, not the program"), "{}", ran.out());
    assert!(ran.out().contains("incoming-response.status"), "{}", ran.out());
}

/// A program that a limit of time ends does so at another place each time, which is the host's doing.
#[test]
fn a_run_that_the_limit_of_time_ends_is_no_difference() {
    let sandbox = Sandbox::new();
    sandbox.write("loop.wasm", Guest::new().say("on\n").raw("(loop $on (br $on))").wasm());
    let ran = sandbox.vac(&["--json", "probe", "loop.wasm", "--time", "1500ms"]).ok();
    let object = ran.json();
    assert!(object["deterministic"].is_null(), "{object}");
    let again = variation(&object, "again");
    assert_eq!(
        (text(again, "cut"), &again["equal"], &again["difference"]),
        ("time", &true.into(), &Value::Null)
    );
    assert!(!object.to_string().contains("differs"), "{object}");
    assert_eq!(sandbox.json(&["runs"])["runs"], Value::Array(vec![]));
}

/// A pool that does not hold a program cannot compare it, and says why; whatever else fails in it is no such thing.
#[test]
fn what_a_pool_cannot_hold_is_skipped_with_the_reason() {
    let sandbox = Sandbox::new();
    // More memories than a core module in a pool may have.
    let module = "(module (memory 1) (memory 1) (func (export \"f\") (result i32) (i32.const 1)))";
    sandbox.write("two.wasm", wat::parse_str(module).unwrap());
    let args = ["probe", "two.wasm", "--call", "f()"];
    let object = sandbox.json(&args);
    assert_eq!(object["deterministic"], true, "{object}");
    let pooled = variation(&object, "pooled");
    assert_eq!(pooled["skipped"], true, "{object}");
    assert!(text(pooled, "error").contains("no pool has room for the program: "), "{pooled}");
    assert!(text(pooled, "error").contains("memor"), "{pooled}");
    let shown = sandbox.vac(&args).ok().out();
    assert!(shown.contains("skipped: no pool has room") && shown.contains("15 variations"), "{shown}");
    sandbox.write("one.wasm", wat::parse_str(module.replacen(" (memory 1)", "", 1)).unwrap());
    let object = sandbox.json(&["probe", "one.wasm", "--call", "f()"]);
    assert_eq!(variation(&object, "pooled")["skipped"], false, "{object}");
}

#[test]
fn scripts_calls_and_input_are_probed_too() {
    let sandbox = Sandbox::new();
    let module =
        "(module (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))";
    sandbox.write("add.wasm", wat::parse_str(module).unwrap());
    sandbox
        .write("a.star", "write(dir(\"out\", write = True), \"sum\", str(kernel(\"add.wasm\").add(1, 2)))\n");
    sandbox.write("cat.wasm", Guest::new().read_from(crate::guest::Fd::Is(0)).wasm());
    let equal = |object: &Value| assert_eq!(object["deterministic"], true, "{object}");
    equal(&sandbox.json(&["probe", "a.star"]));
    assert!(!sandbox.path("out").exists());
    equal(&sandbox.json(&["probe", "add.wasm", "--call", "add(1, 2)", "--call", "add(3, 4)"]));
    let args = ["--json", "probe", "cat.wasm", "--grant", "stdin"];
    equal(&run_with_input(sandbox.command(&args), b"some input").ok().json());
}

#[test]
fn what_does_not_run_is_told_like_a_run() {
    let sandbox = Sandbox::new();
    sandbox.write("add.wasm", wat::parse_str("(module (func (export \"add\")))").unwrap());
    sandbox.vac(&["probe", "missing.wasm"]).fails(USAGE, &["there is no file"]);
    sandbox.vac(&["probe", "add.wasm"]).fails(USAGE, &["is not a command"]);
    // A program that falls does so every time.
    sandbox.write("trap.wasm", Guest::new().raw("unreachable").wasm());
    let object = sandbox.json(&["probe", "trap.wasm"]);
    assert_eq!(object["deterministic"], true);
    assert!(text(&object, "outcome").starts_with("trap: "), "{object}");
    let shown = sandbox.vac(&["probe", "trap.wasm"]).ok().out();
    assert!(shown.contains("failed in every one: trap: "), "{shown}");
    // The interpreter has no atomic instructions; all else is compared.
    let atomic = "(call $number (i64.extend_i32_u (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))";
    sandbox.write("atomic.wasm", Guest::new().raw(atomic).wasm());
    let object = sandbox.json(&["probe", "atomic.wasm"]);
    assert_eq!(object["deterministic"], true);
    assert!(!variation(&object, "interpreter")["error"].is_null(), "{object}");
}

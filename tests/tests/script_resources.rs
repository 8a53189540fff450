//! Scripts that hold resources of kernels.

use crate::calls::counters;
use crate::support::{Sandbox, number, text};

const FAILURE: i32 = 1;

fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("counters.wasm", counters());
    sandbox.write("s.star", format!("K = kernel('counters.wasm')\n{script}"));
    sandbox
}

#[test]
fn a_script_makes_resources_and_calls_their_methods() {
    let sandbox = sandbox(
        "c = K.counter(5)
d = K.counter.checked(30)
print(c, d, type(c))
print(c.add(2), d.get(), K.both(c, d), c.get())
print(K.eat(d))
L = kernel('counters.wasm')
print(L.counter(1), K.given_up())
",
    );
    let ran = sandbox.json(&["run", "s.star"]);
    let expected =
        "<resource counter #1> <resource counter #2> resource\n7 30 37 7\n30\n<resource counter #1> 0\n";
    assert_eq!(text(&ran, "stdout"), expected);
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(text(&replayed, "head"), text(&ran, "head"));
    assert_eq!(text(&sandbox.json(&["run", "s.star"]), "head"), text(&ran, "head"));
    let log = sandbox.json(&["log", "last"]);
    let events = log["events"].as_array().unwrap();
    let functions: Vec<&str> = events.iter().map(|event| text(event, "function")).collect();
    // One for each instance in which a handle is left.
    assert_eq!(functions.iter().filter(|f| **f == "vac:run/drop").count(), 2);
    let ticks: Vec<u64> = events.iter().skip(1).map(|event| number(event, "tick")).collect();
    assert!(ticks.is_sorted(), "{ticks:?}");
    assert_eq!(sandbox.json(&["verify", "--all"])["ok"], true);
}

#[test]
fn a_resource_cannot_be_made_up_or_used_twice() {
    for (script, words) in [
        ("K.both(1, 2)", "expected borrow"),
        ("K.both(K, K)", "expected borrow"),
        ("c = K.counter(1)\nK.eat(c)\nc.get()", "given away"),
        ("c = K.counter(1)\nc.gt()", "no method `gt`"),
        ("K.both(K.counter(1), K.other())", "expected borrow<counter>"),
        ("K.both(K.counter(1), kernel('counters.wasm').counter(2))", "another instance"),
        ("kernel('counters.wasm').eat(K.counter(1))", "instance"),
        ("c = K.counter(1)\nc.get(grants = [dir('.')])", "granted more later"),
        ("K.counter.checked(5000)", "failed"),
        ("K.conter(1)", "did you mean `counter`"),
    ] {
        let sandbox = sandbox(script);
        let ran = sandbox.vac(&["run", "s.star"]);
        assert!(ran.stderr.contains(words), "{script}\n{}", ran.stderr);
        assert_eq!(ran.code(), FAILURE, "{script}\n{}", ran.stderr);
        sandbox.vac(&["replay", "last"]).ok();
    }
}

#[test]
fn ticks_are_limited_over_all_kernels_of_a_script() {
    let sandbox = sandbox("c = K.counter(1)\nfor i in range(100):\n  c.add(1)\n  K.given_up()\n");
    let all = number(&sandbox.json(&["run", "s.star"]), "ticks");
    assert!(all > 1000, "{all}");
    let ran = sandbox.vac(&["--json", "run", "s.star", "--ticks", "500"]).json();
    assert_eq!(number(&ran, "exit_code"), 4, "{ran}");
    let used = number(&ran, "ticks");
    assert!((400..=600).contains(&used), "{used}");
    sandbox.vac(&["replay", "last"]).ok();
}

/// No bytes were an empty list, which is neither equal to `b""` nor can be written.
#[test]
fn no_bytes_are_bytes() {
    let sandbox = Sandbox::new();
    let component = r#"(component
      (core module $m
        (memory (export "memory") 1)
        (func (export "none") (result i32) (i32.const 0)))
      (core instance $i (instantiate $m))
      (func (export "none") (result (list u8)) (canon lift (core func $i "none") (memory (core memory $i "memory"))))
      (func (export "words") (result (list u16)) (canon lift (core func $i "none") (memory (core memory $i "memory")))))"#;
    sandbox.write("none.wasm", wat::parse_str(component).unwrap());
    let script = "k = kernel(\"none.wasm\")\nprint(type(k.none()), type(k.words()))\nput(k.none())\n";
    sandbox.write("none.star", script);
    assert_eq!(sandbox.vac(&["run", "none.star"]).ok().out(), "bytes list\n");
    sandbox.vac(&["replay", "last"]).ok();
}

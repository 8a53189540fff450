//! Several calls in one instance: kept values, resources, and what goes wrong with them.

use crate::support::{Sandbox, number, text};

const FAULT: i32 = 4;
const USAGE: i32 = 2;

/// Two types of resource. A counter keeps a number; what gives it up can be seen in `given-up`.
pub(crate) fn counters() -> Vec<u8> {
    let text = r#"(component
        (core module $state
          (memory (export "memory") 1)
          (global $next (mut i32) (i32.const 64))
          (global $gone (export "gone-count") (mut i32) (i32.const 0))
          (func (export "make") (param i32) (result i32)
            (i32.store (global.get $next) (local.get 0))
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (i32.const 4))))
          (func (export "gone") (param i32)
            (if (i32.eq (i32.load (local.get 0)) (i32.const 666)) (then unreachable))
            (global.set $gone (i32.add (global.get $gone) (i32.const 1))))
          (func (export "given-up") (result i32) (global.get $gone))
          (func (export "get") (param i32) (result i32) (i32.load (local.get 0)))
          (func (export "add") (param i32 i32) (result i32)
            (i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (local.get 1)))
            (i32.load (local.get 0)))
          (func (export "both") (param i32 i32) (result i32)
            (i32.add (i32.load (local.get 0)) (i32.load (local.get 1)))))
        (core instance $s (instantiate $state))
        (type $counter (resource (rep i32) (dtor (core func $s "gone"))))
        (type $other (resource (rep i32)))
        (core func $new (canon resource.new $counter))
        (core func $rep (canon resource.rep $counter))
        (core func $drop (canon resource.drop $counter))
        (core func $new-other (canon resource.new $other))
        (core module $m
          (import "" "new" (func $new (param i32) (result i32)))
          (import "" "rep" (func $rep (param i32) (result i32)))
          (import "" "drop" (func $drop (param i32)))
          (import "" "new-other" (func $new-other (param i32) (result i32)))
          (import "s" "memory" (memory 1))
          (import "s" "make" (func $make (param i32) (result i32)))
          (func (export "ctor") (param i32) (result i32) (call $new (call $make (local.get 0))))
          (func (export "ctor-other") (result i32) (call $new-other (i32.const 1)))
          (func (export "checked") (param i32) (result i32)
            (if (i32.gt_u (local.get 0) (i32.const 1000))
              (then (i32.store8 (i32.const 8) (i32.const 1)))
              (else
                (i32.store8 (i32.const 8) (i32.const 0))
                (i32.store (i32.const 12) (call $new (call $make (local.get 0))))))
            (i32.const 8))
          (func (export "eat") (param i32) (result i32) (local $n i32)
            (local.set $n (i32.load (call $rep (local.get 0))))
            (call $drop (local.get 0))
            (local.get $n)))
        (core instance $i (instantiate $m
          (with "" (instance
            (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))
            (export "new-other" (func $new-other))))
          (with "s" (instance $s))))
        (export $c "counter" (type $counter))
        (export $o "other" (type $other))
        (func $ctor (param "start" u32) (result (own $c)) (canon lift (core func $i "ctor")))
        (export "[constructor]counter" (func $ctor))
        (func $ctor-other (result (own $o)) (canon lift (core func $i "ctor-other")))
        (export "[constructor]other" (func $ctor-other))
        (func $checked (param "start" u32) (result (result (own $c)))
          (canon lift (core func $i "checked") (memory (core memory $s "memory"))))
        (export "[static]counter.checked" (func $checked))
        (func $add (param "self" (borrow $c)) (param "n" u32) (result u32) (canon lift (core func $s "add")))
        (export "[method]counter.add" (func $add))
        (func $get (param "self" (borrow $c)) (result u32) (canon lift (core func $s "get")))
        (export "[method]counter.get" (func $get))
        (func $both (param "a" (borrow $c)) (param "b" (borrow $c)) (result u32) (canon lift (core func $s "both")))
        (export "both" (func $both))
        (func $eat (param "c" (own $c)) (result u32) (canon lift (core func $i "eat")))
        (export "eat" (func $eat))
        (func $given-up (result u32) (canon lift (core func $s "given-up")))
        (export "given-up" (func $given-up))
    )"#;
    wat::parse_str(text).unwrap()
}

fn call(sandbox: &Sandbox, calls: &[&str]) -> crate::support::Ran {
    sandbox.vac(&[&["call", "counters.wasm"], calls].concat())
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("counters.wasm", counters());
    sandbox
}

#[test]
fn resources_live_from_call_to_call() {
    let sandbox = sandbox();
    let calls = ["c = counter(5)", "$c.add(2)", "d = counter.checked(30)", "both($c, $d)", "$d.get()"];
    let ran = call(&sandbox, &calls).ok();
    assert_eq!(ran.out(), "c = <resource counter #1>\n7\nd = ok(<resource counter #2>)\n37\n30\n");
    // The full names mean the same.
    let full = [
        "c = [constructor]counter(5)",
        "[method]counter.add($c, 2)",
        "d = [static]counter.checked(30)",
        "both($c, $d)",
        "counter.get($d)",
    ];
    assert_eq!(call(&sandbox, &full).ok().out(), ran.out());
}

#[test]
fn each_call_is_an_event_and_the_run_replays() {
    let sandbox = sandbox();
    let calls = ["c = counter(5)", "n = $c.add(2)", "$c.add($n)", "eat($c)", "e = counter(1)", "given-up()"];
    let args = [&["call", "counters.wasm"], &calls[..]].concat();
    let one = sandbox.json(&args);
    assert_eq!(text(&one, "result"), "1");
    // One for each call, and one for the counter that is left.
    assert_eq!(number(&one, "events"), 7);
    let log = sandbox.json(&["log", "last"]);
    let functions: Vec<&str> =
        log["events"].as_array().unwrap().iter().map(|event| text(event, "function")).collect();
    assert_eq!(functions.iter().filter(|f| **f == "vac:run/kernel").count(), 6);
    assert_eq!(functions.last(), Some(&"vac:run/drop"));
    assert_eq!(text(&sandbox.json(&["replay", "last"]), "head"), text(&one, "head"));
    assert_eq!(text(&sandbox.json(&args), "head"), text(&one, "head"));
    assert_eq!(sandbox.json(&["verify", "--all"])["ok"], true);
    let other = sandbox.json(&["call", "counters.wasm", "c = counter(6)"]);
    assert_ne!(text(&other, "head"), text(&one, "head"));
    let kernels = one["kernels"].as_array().unwrap();
    assert_eq!(kernels.len(), 6);
    assert_eq!(text(&kernels[1], "export"), "[method]counter.add");
    let sum: u64 = kernels.iter().map(|kernel| number(kernel, "ticks")).sum();
    assert!(sum < number(&one, "ticks"), "the end of a handle takes ticks of its own");
}

#[test]
fn a_result_that_is_an_error_is_not_kept() {
    let sandbox = sandbox();
    assert_eq!(call(&sandbox, &["counter.checked(2000)"]).ok().out(), "err\n");
    call(&sandbox, &["c = counter.checked(2000)", "$c.get()"])
        .fails(FAULT, &["counter.checked(2000)", "err"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn wrong_names_are_found_before_anything_runs() {
    let sandbox = sandbox();
    for (calls, words, hint) in [
        (&["$c.get()"][..], "nothing was kept as `c`", ""),
        (
            &["counter = counter(1)", "$conter.get()"],
            "nothing was kept as `conter`",
            "did you mean `$counter`?",
        ),
        (&["c = counter(1)", "both($c, $x)"], "nothing was kept as `x`", ""),
        (&["c = counter(1)", "$c.gt()"], "no method `gt`", "did you mean `get`?"),
        (&["c = conter(1)"], "no export `conter`", "did you mean `counter`?"),
        (&["checked(1)"], "no export `checked`", "did you mean `counter.checked`?"),
        (
            &["add(1)"],
            "no export `add`",
            "did you mean `$counter.add`, where `counter = …` keeps a `counter`?",
        ),
        (&["c = counter(1)", "$c.checked(1)"], "`checked` is no method", "`counter.checked(…)` calls it"),
        (&["1c = counter(1)"], "not a name", ""),
        (&["c = counter(1)", "$c"], "not a call", ""),
        (&["c = counter(1)", "$c(1)"], "not a method", ""),
        (&["c = counter(-1)"], "does not fit", ""),
        (&["both(1, 2)"], "does not fit", ""),
        (&["memory.read(1, 2)"], "no export `memory.read`", ""),
    ] {
        let ran = call(&sandbox, calls).fails(USAGE, &[words]);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    }
    assert!(sandbox.json(&["runs"])["runs"].as_array().unwrap().is_empty(), "nothing was started");
    let many = vec!["given-up()"; 1001];
    call(&sandbox, &many).fails(USAGE, &["1001 calls"]);
}

/// Only the constructor was looked for.
#[test]
fn a_resource_without_a_constructor_says_what_makes_one() {
    let sandbox = Sandbox::new();
    let codec = r#"(component
        (type $t (resource (rep i32)))
        (core func $new (canon resource.new $t))
        (core module $m (import "" "new" (func $new (param i32) (result i32)))
          (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
          (func (export "get") (param i32) (result i32) (local.get 0)))
        (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
        (export $c "codec" (type $t))
        (func $make (param "config" u32) (result (own $c)) (canon lift (core func $i "make")))
        (export "[static]codec.from-config" (func $make))
        (func $get (param "self" (borrow $c)) (result u32) (canon lift (core func $i "get")))
        (export "[method]codec.encode" (func $get)))"#;
    sandbox.write("codec.wasm", wat::parse_str(codec).unwrap());
    let ran = sandbox.vac(&["call", "codec.wasm", "codec(\"{}\")"]).fails(USAGE, &["no export `codec`"]);
    let hint = "`codec` is a resource without a constructor; it has `codec.from-config`, `$codec.encode`";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
}

#[test]
fn a_handle_of_another_type_or_given_away_is_refused() {
    let sandbox = sandbox();
    for (calls, words) in [
        (
            &["c = counter(1)", "o = other()", "both($c, $o)"][..],
            &["`$o` is <resource other #2>", "borrow<counter>"][..],
        ),
        (&["c = counter(1)", "eat($c)", "$c.get()"], &["`$c` is handle #1", "given away"]),
        (&["c = counter(1)", "eat($c)", "eat($c)"], &["`$c` is handle #1", "given away"]),
        (&["c = counter(1)", "n = $c.get()", "$n.get()"], &["`$n` is 1, not a resource"]),
        (&["c = counter(1)", "n = $c.get()", "both($c, $n)"], &["`$n` is 1, expected borrow<counter>"]),
        (&["c = counter(1)", "$c.add($c)"], &["expected u32"]),
        (&["o = other()", "$o.get()"], &["no method `get`"]),
        (&["n = given-up()", "counter([$n])"], &["does not fit"]),
        (&["n = given-up()", "counter($n, $n)"], &["2 arguments"]),
    ] {
        call(&sandbox, calls).fails(USAGE, words);
        // What was called before is recorded, and ends the same way again.
        sandbox.vac(&["replay", "last"]).ok();
    }
}

#[test]
fn giving_up_a_handle_can_fail_the_run() {
    let sandbox = sandbox();
    call(&sandbox, &["c = counter(666)", "$c.get()"]).fails(FAULT, &["unreachable"]);
    sandbox.vac(&["replay", "last"]).ok();
    let runs = sandbox.json(&["runs"]);
    assert_eq!(text(&runs["runs"][0], "status"), "fault");
}

#[test]
fn a_call_alone_looks_as_it_always_did() {
    let sandbox = sandbox();
    let alone = sandbox.json(&["call", "counters.wasm", "given-up()"]);
    assert_eq!((text(&alone, "result"), number(&alone, "events")), ("0", 1));
    assert_eq!(alone["calls"].as_array().unwrap().len(), 1);
    assert_eq!(call(&sandbox, &["given-up()"]).ok().out(), "0\n");
    assert_eq!(call(&sandbox, &["counter(3)"]).ok().out(), "<resource counter #1>\n");
    sandbox.vac(&["replay", "last"]).ok();
    call(&sandbox, &["--raw", "given-up()"]).fails(USAGE, &["neither text nor bytes"]);
}

#[test]
fn ticks_are_limited_over_all_calls_together() {
    let sandbox = sandbox();
    let calls = ["c = counter(5)", "$c.add(2)", "$c.add(2)", "$c.add(2)"];
    let args = [&["call", "counters.wasm"], &calls[..]].concat();
    // The first two calls use 22.
    assert!(number(&sandbox.json(&args), "ticks") > 40);
    sandbox.vac(&[&args[..], &["--ticks", "25"]].concat()).fails(FAULT, &["ticks"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn inspect_names_the_resources() {
    let sandbox = sandbox();
    let shown = sandbox.json(&["inspect", "counters.wasm"]);
    let exports: Vec<&str> = shown["exports"].as_array().unwrap().iter().filter_map(|e| e.as_str()).collect();
    assert!(exports.contains(&"[constructor]counter(start: u32) -> own<counter>"), "{exports:?}");
    assert!(exports.contains(&"[method]counter.add(self: borrow<counter>, n: u32) -> u32"), "{exports:?}");
    assert!(
        exports.contains(&"[static]counter.checked(start: u32) -> result<own<counter>, _>"),
        "{exports:?}"
    );
}

//! Profile `det-2`: programs that count their own ticks, as a user meets them.

use crate::support::{Sandbox, number, text};

const DENIED: i32 = 3;
const STOPPED: i32 = 4;
const INTEGRITY: i32 = 6;

const OPS: &str = "my:math/ops@1.0.0";

fn component(inner: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {inner})")).unwrap()
}

/// Exports `double`, and `endless`, which never returns.
fn provider() -> Vec<u8> {
    component(&format!(
        r#"(core module $m
             (func (export "double") (param i32) (result i32) (i32.shl (local.get 0) (i32.const 1)))
             (func (export "endless") (param i32) (result i32) (loop (br 0)) unreachable))
           (core instance $i (instantiate $m))
           (func $double (param "n" u32) (result u32) (canon lift (core func $i "double")))
           (func $endless (param "n" u32) (result u32) (canon lift (core func $i "endless")))
           (instance $out (export "double" (func $double)) (export "endless" (func $endless)))
           (export "{OPS}" (instance $out))"#
    ))
}

/// Imports both: `often(n)` calls `double` so many times, and `wait(n)` calls `endless`.
fn user() -> Vec<u8> {
    let ty = r#"(func (param "n" u32) (result u32))"#;
    component(&format!(
        r#"(import "{OPS}" (instance $in (export "double" {ty}) (export "endless" {ty})))
           (core func $double (canon lower (func $in "double")))
           (core func $endless (canon lower (func $in "endless")))
           (core module $m
             (import "" "double" (func $double (param i32) (result i32)))
             (import "" "endless" (func $endless (param i32) (result i32)))
             (func (export "often") (param $n i32) (result i32) (local $x i32)
               (loop
                 (local.set $x (call $double (i32.const 21)))
                 (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
               (local.get $x))
             (func (export "wait") (param i32) (result i32) (call $endless (local.get 0))))
           (core instance $i (instantiate $m (with "" (instance
             (export "double" (func $double)) (export "endless" (func $endless))))))
           (func (export "often") (param "n" u32) (result u32) (canon lift (core func $i "often")))
           (func (export "wait") (param "n" u32) (result u32) (canon lift (core func $i "wait")))"#
    ))
}

fn pair() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("user.wasm", user());
    sandbox.write("ops.wasm", provider());
    sandbox
}

/// Each of two joined components counts for itself; the run's ticks are what both used.
#[test]
fn components_inside_of_each_other_are_metered_together() {
    let sandbox = pair();
    let ticks = |n: &str| {
        let ran = sandbox.json(&["call", "user.wasm", &format!("often({n})"), "--link", "ops.wasm"]);
        assert_eq!(text(&ran, "result"), "42");
        sandbox.vac(&["replay", "last"]).ok();
        number(&ran, "ticks")
    };
    let (one, two, many) = (ticks("1"), ticks("2"), ticks("1001"));
    assert_eq!(many - one, (two - one) * 1000, "every turn costs the same");
    // Both sides of the boundary do something in a turn: entering a function, and what is in it.
    assert!(two - one > 8, "{} ticks a turn", two - one);
}

#[test]
fn components_inside_of_each_other_are_limited_and_stopped() {
    let sandbox = pair();
    let call = |what: &str, more: [&str; 2]| {
        sandbox.vac(&["call", "user.wasm", what, "--link", "ops.wasm", more[0], more[1]])
    };
    for what in ["wait(1)", "often(0)"] {
        call(what, ["--ticks", "100000"]).fails(STOPPED, &["100000 ticks"]);
        sandbox.vac(&["replay", "last"]).ok();
        call(what, ["--time", "50ms"]).fails(STOPPED, &["50ms"]);
        assert_eq!(text(&sandbox.json(&["runs", "-n", "1"])["runs"][0], "status"), "time");
        sandbox.vac(&["replay", "last"]).ok();
    }
}

/// A meter is the host's alone: whatever names one is refused, wherever in the program it is.
#[test]
fn a_program_that_imports_a_meter_is_refused() {
    let sandbox = Sandbox::new();
    let attach = r#"(func (param "words" (list u8)))"#;
    let programs = [
        (
            component(&format!(r#"(import "vac:meter/host" (instance (export "attach" {attach})))"#)),
            INTEGRITY,
        ),
        (
            component(&format!(
                r#"(component (import "vac:meter/host" (instance (export "attach" {attach}))))"#
            )),
            INTEGRITY,
        ),
        (
            component(
                r#"(core module $c (memory (export "counters") 1 1))
                   (core instance $c (instantiate $c))
                   (core module $m (import "vac:meter" "counters" (memory 1 1)))
                   (core instance (instantiate $m (with "vac:meter" (instance $c))))"#,
            ),
            INTEGRITY,
        ),
        (
            wat::parse_str(
                r#"(module (import "vac:meter" "counters" (memory 1 1)) (memory (export "memory") 1)
                    (func (export "_start")))"#,
            )
            .unwrap(),
            DENIED,
        ),
    ];
    for (program, code) in programs {
        sandbox.write("meter.wasm", program);
        sandbox.vac(&["run", "meter.wasm"]).fails(code, &["meter.wasm", "vac:meter"]);
    }
}

/// What the host adds to a program is not shown as the program's.
#[test]
fn the_meter_is_not_among_the_imports() {
    let sandbox = pair();
    let inspected = sandbox.json(&["inspect", "ops.wasm"]);
    assert_eq!(inspected["imports"].as_array().unwrap().len(), 0, "{inspected}");
    assert!(inspected["refused"].is_null(), "{inspected}");
}

/// The page of counters that a program gets is not counted as its memory.
#[test]
fn counters_are_not_charged_to_the_guest() {
    let sandbox = Sandbox::new();
    let text = |pages: u32| {
        format!(
            r#"(module (memory (export "memory") {pages} {pages}) (func (export "f") (result i32) (i32.const 7)))"#
        )
    };
    for (pages, limit, fits) in
        [(1, "64KiB", true), (2, "64KiB", false), (2, "128KiB", true), (3, "128KiB", false)]
    {
        sandbox.write("pages.wasm", wat::parse_str(text(pages)).unwrap());
        let ran = sandbox.vac(&["call", "pages.wasm", "f()", "--memory", limit]);
        match fits {
            true => drop(ran.ok()),
            false => drop(ran.fails(STOPPED, &["memory"])),
        }
    }
    // One page that cannot grow looks like counters until it is known not to be.
    sandbox.write("pages.wasm", wat::parse_str(text(1)).unwrap());
    sandbox.vac(&["call", "pages.wasm", "f()", "--memory", "60KiB"]).fails(STOPPED, &["memory"]);
}

/// A run that its operator ended is replayed to the same tick and not one event further, also where the
/// kernel goes on calling the host.
#[test]
fn a_run_that_was_ended_in_the_midst_of_calls_is_replayed_to_its_head() {
    let sandbox = Sandbox::new();
    let endless = r#"(component
        (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
        (core func $draw (canon lower (func $random "get-random-u64")))
        (core module $m
          (import "" "draw" (func $draw (result i64)))
          (func (export "f") (result i64) (loop (drop (call $draw)) (br 0)) unreachable))
        (core instance $i (instantiate $m (with "" (instance (export "draw" (func $draw))))))
        (func (export "f") (result u64) (canon lift (core func $i "f"))))"#;
    sandbox.write("endless.wasm", wat::parse_str(endless).unwrap());
    // Compiled before, so that the time is that of the program.
    sandbox.vac(&["call", "endless.wasm", "f()", "--ticks", "1000"]).fails(STOPPED, &["ticks"]);
    for time in ["20ms", "31ms", "47ms"] {
        let ran = sandbox.vac(&["--json", "call", "endless.wasm", "f()", "--time", time]);
        assert_eq!(ran.code(), STOPPED, "{ran:?}");
        let shown = sandbox.json(&["runs", "-n", "1"]);
        let run = &shown["runs"][0];
        let replayed = sandbox.json(&["replay", "last"]);
        assert_eq!(text(&replayed, "head"), text(run, "head"), "{time}");
    }
}

/// Compiled for all instructions of this processor: the same events and ticks under another header, and replayed, sought in,
/// compared with another version and forked like any other run. A fork stays under the profile of its run.
#[test]
fn a_run_for_this_processor_is_the_same_but_for_its_header() {
    let sandbox = Sandbox::new();
    let module = r#"(module (global $sum (mut i64) (i64.const 0))
        (func (export "add") (param $n i64) (result i64) (local $i i64)
          (loop $again
            (global.set $sum (i64.add (global.get $sum) (i64.popcnt (local.get $n))))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $again (i64.lt_u (local.get $i) (i64.const 1000))))
          (global.get $sum)))"#;
    sandbox.write("sum.wasm", wat::parse_str(module).unwrap());
    let call = |options: &[&str]| {
        sandbox.json(&[&["call", "sum.wasm", "add(7)", "add(255)", "add(1)"], options].concat())
    };
    let (plain, native) = (call(&[]), call(&["--profile", "det-2-native"]));
    assert_eq!(plain["results"], native["results"], "{native}");
    for same in ["ticks", "events"] {
        assert_eq!(plain[same], native[same], "{same}");
    }
    assert_ne!(text(&plain, "head"), text(&native, "head"), "the header says which it was");
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!((&replayed["equal"], text(&replayed, "head")), (&true.into(), text(&native, "head")));
    sandbox.vac(&["seek", "last", "--event", "1"]).ok();
    assert_eq!(sandbox.json(&["replay", "last", "--with", "sum.wasm"])["equal"], 3);
    let forked = sandbox.json(&["fork", "last", "--event", "1", "--", "add(3)"]);
    assert_eq!(sandbox.json(&["replay", "last"])["equal"], true, "{forked}");
    let of_native = text(&forked, "head").to_owned();
    call(&[]);
    let of_plain = sandbox.json(&["fork", "last", "--event", "1", "--", "add(3)"]);
    assert_eq!((&of_plain["ticks"], &of_plain["events"]), (&forked["ticks"], &forked["events"]));
    assert_ne!(text(&of_plain, "head"), of_native, "its header says so too");
    sandbox.vac(&["call", "sum.wasm", "add(7)", "--profile", "det-1"]).fails(2, &["det-2-native"]);
}

//! Counted loops cost what the same loops cost when each trip is counted, whatever they compare and wherever their
//! values wrap around.

use std::fmt::Write;

use super::*;

const COMPARISONS: [&str; 9] = ["ne", "lt_s", "lt_u", "le_s", "le_u", "gt_s", "gt_u", "ge_s", "ge_u"];

/// Ways to write the end of a loop: `T` is the type, `C` the comparison, `S` the step.
const SHAPES: [(&str, &str); 7] = [
    (
        "after",
        "(local.set $i (T.add (local.get $i) (T.const S)))
         (br_if 0 (T.C (local.get $i) (local.get $n)))",
    ),
    ("tee", "(br_if 0 (T.C (local.tee $i (T.add (local.get $i) (T.const S))) (local.get $n)))"),
    ("swapped", "(br_if 0 (T.C (local.get $n) (local.tee $i (T.add (T.const S) (local.get $i)))))"),
    (
        "before",
        "(local.set $i (T.add (local.tee $old (local.get $i)) (T.const S)))
         (br_if 0 (T.C (local.get $old) (local.get $n)))",
    ),
    ("negated", "(br_if 0 (i32.eqz (T.C (local.tee $i (T.sub (local.get $i) (T.const S))) (local.get $n))))"),
    ("constant", "(br_if 0 (T.C (local.tee $i (T.add (local.get $i) (T.const S))) (T.const 7)))"),
    ("local step", "(br_if 0 (T.C (T.const 5) (local.tee $i (T.add (local.get $i) (local.get $n)))))"),
];

/// Ends that compare with zero by themselves.
const ZEROS: [&str; 3] = [
    "(br_if 0 (i32.eqz (T.eqz (local.tee $i (T.add (local.get $i) (T.const S))))))",
    "(local.set $i (T.add (local.get $i) (T.const S))) (br_if 0 (T.ne (local.get $i) (T.const 0)))",
    "(br_if 0 (local.tee $i (i32.add (local.get $i) (i32.const S))))",
];

const STEPS: [i64; 9] = [1, -1, 2, -2, 3, -7, 64, 1 << 31, i64::MIN];

fn function(name: &str, ty: &str, end: &str) -> String {
    format!(
        r#"(func (export "{name}") (param $i {ty}) (param $n {ty}) (result {ty} i64) (local $old {ty}) (local $k i64)
            (loop (local.set $k (i64.add (local.get $k) (i64.const 1))) {end})
            (local.get $i) (local.get $k))"#
    )
}

/// All loops, by name.
fn functions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for ty in ["i32", "i64"] {
        let steps = STEPS.iter().filter(|step| ty == "i64" || i32::try_from(**step).is_ok());
        for step in steps {
            let mut add = |name: String, end: &str, comparison: &str| {
                let end = end.replace('T', ty).replace('C', comparison).replace('S', &step.to_string());
                all.push((name.clone(), function(&name, ty, &end)));
            };
            for (shape, end) in SHAPES {
                for comparison in COMPARISONS {
                    add(format!("{ty} {step} {shape} {comparison}"), end, comparison);
                }
            }
            for (at, end) in ZEROS.iter().enumerate().filter(|(at, _)| *at < 2 || ty == "i32") {
                add(format!("{ty} {step} zero {at}"), end, "");
            }
        }
    }
    all
}

fn values(ty: &str) -> Vec<i64> {
    let bits = if ty == "i32" { 32 } else { 64 };
    let (top, end) = (1_i128 << (bits - 1), 1_i128 << bits);
    let near =
        [0, 1, 2, 3, 7, 64, top - 130, top - 2, top - 1, top, top + 1, top + 65, end - 100, end - 3, end - 1];
    near.iter().map(|value| *value as i64).collect()
}

fn arg(ty: &str, value: i64) -> Val {
    if ty == "i32" { Val::I32(value as i32) } else { Val::I64(value) }
}

fn call(metered: &mut Metered, name: &str, args: &[Val]) -> Seen {
    metered.counters.data_mut(&mut metered.store)[..8].fill(0);
    metered.call(name, args)
}

/// Compares a loop on one engine, counted and not; the answer is how many trips were compared.
fn compare(sides: &mut [Metered; 2], name: &str) -> u64 {
    let ty = &name[..3];
    let mut compared = 0;
    for i in values(ty) {
        for n in values(ty) {
            let args = [arg(ty, i), arg(ty, n)];
            let [counted, plain] = sides.each_mut().map(|side| call(side, name, &args));
            match (&counted.end, &plain.end) {
                // The limit is checked at other places, but passed by both or by none.
                (End::Stopped, End::Stopped) => {}
                _ => assert_eq!(counted, plain, "{name} from {i} to {n}"),
            }
            compared += u64::from(plain.end != End::Stopped);
        }
    }
    compared
}

#[test]
fn all_forms_cost_the_same_counted_and_not() {
    let functions = functions();
    let text = functions.iter().fold(String::from("(module "), |mut text, (_, function)| {
        writeln!(text, "{function}").unwrap();
        text
    });
    let bytes = binary(&format!("{text})"));
    let limits = Limits { ticks: 4000, ..NO_LIMITS };
    // All trips in one part, and a few in each.
    for (target, part) in TARGETS.into_iter().zip([40, cost::PART]) {
        let engine = Engine::new(&config(target)).unwrap();
        let mut sides = [true, false].map(|counts_loops| {
            let bytes = with(&bytes, Options { counts_loops, part, ..Options::USUAL }).unwrap();
            Metered::start(&engine, &bytes, limits).unwrap()
        });
        let all = functions.iter().map(|(name, _)| compare(&mut sides, name));
        // All but those that do not end.
        assert!(all.sum::<u64>() > 100_000);
    }
}

#[test]
fn the_usual_forms_are_counted() {
    let is_counted = |ty: &str, end: &str| {
        let bytes = binary(&format!("(module {})", function("run", ty, end)));
        with(&bytes, Options { counts_loops: false, ..Options::USUAL }).unwrap() != module(&bytes).unwrap()
    };
    for ty in ["i32", "i64"] {
        for (shape, end) in SHAPES.iter().filter(|(shape, _)| *shape != "negated") {
            for (comparison, step) in [("ne", "2"), ("ne", "-1"), ("lt_u", "3"), ("le_s", "1")] {
                // Which way a local goes is not known, and what a swapped comparison goes towards is below.
                if ["swapped", "local step"].contains(shape) && (comparison != "lt_u" || *shape == "swapped")
                {
                    continue;
                }
                let end = end.replace('T', ty).replace('C', comparison).replace('S', step);
                assert!(is_counted(ty, &end), "{ty} {shape} {comparison} {step}");
            }
        }
    }
    for end in ZEROS {
        assert!(is_counted("i32", &end.replace('T', "i32").replace('S', "-2")));
    }
    for end in [
        "(call 0 (local.get $i) (local.get $n)) (drop) (drop) (br_if 0 (local.tee $i (i32.add (local.get $i) (i32.const 1))))",
        "(br_if 1 (local.get $n)) (br_if 0 (local.tee $i (i32.add (local.get $i) (i32.const 1))))",
        "(local.set $n (i32.mul (local.get $n) (i32.const 3))) (br_if 0 (i32.ne (local.get $n) (local.tee $i (i32.add (local.get $i) (i32.const 1)))))",
        "(br_if 0 (i32.ne (local.get $n) (local.get $i)))",
        "(br_if 0 (i32.eq (local.get $n) (local.tee $i (i32.add (local.get $i) (i32.const 1)))))",
    ] {
        let end = end.replace(
            "(br_if 1 (local.get $n))",
            "(br_if 1 (i32.const 0) (i64.const 0) (local.get $n)) drop drop",
        );
        assert!(!is_counted("i32", &end), "{end}");
    }
}

#[test]
fn a_long_loop_is_charged_in_parts_and_stops_in_time() {
    let wat = function(
        "run",
        "i64",
        "(br_if 0 (i64.ne (local.get $n) (local.tee $i (i64.add (local.get $i) (i64.const 1)))))",
    );
    let wat = format!("(module {wat})");
    let args = |trips| [Val::I64(0), Val::I64(trips)];
    // `loop`; eleven operators a trip; two `get`.
    assert_eq!(ticks(&wat, &args(10_000_000)), 1 + 1 + 11 * 10_000_000 + 2);
    let limits = Limits { ticks: 50_000_000, ..NO_LIMITS };
    let seen = on_all(&wat, limits, &args(i64::MAX));
    assert_eq!(seen.end, End::Stopped);
    assert!(seen.ticks <= 50_000_000 + cost::PART, "{seen:?}");
}

/// What the body does is done: in its order, once a trip, and up to the trip that traps.
#[test]
fn a_trip_that_traps_leaves_what_was_done() {
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "run") (param $i i32) (param $n i32)
            (loop
                (i32.store (local.get $i) (local.get $i))
                (local.set $i (i32.add (local.get $i) (i32.const 4)))
                (br_if 0 (i32.lt_u (local.get $i) (local.get $n))))))"#;
    let bytes = binary(wat);
    let engine = Engine::new(&config(None)).unwrap();
    let memories = [true, false].map(|counts_loops| {
        let bytes = with(&bytes, Options { counts_loops, ..Options::USUAL }).unwrap();
        let mut metered = Metered::start(&engine, &bytes, NO_LIMITS).unwrap();
        let seen = metered.call("run", &[Val::I32(60_000), Val::I32(70_000)]);
        assert!(matches!(seen.end, End::Trapped(_)), "{seen:?}");
        let memory = metered.instance.get_memory(&mut metered.store, "memory").unwrap();
        memory.data(&metered.store).to_vec()
    });
    assert!(memories[0] == memories[1]);
    assert_eq!(word(&memories[0], 65_528), 65_528 | 65_532 << 32);
}

/// A loop that was charged in parts compared with the end of each part, and a guest that kept what its comparison gave
/// saw a 0 there. Such a loop is not counted.
#[test]
fn what_a_guest_compares_and_keeps_is_not_the_end_of_a_part() {
    let ends = [
        "(br_if 0 (local.tee $x (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))",
        "(local.set $x (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n)))
         (br_if 0 (local.get $x))",
    ];
    for end in ends {
        let text = format!(
            r#"(module (func (export "run") (param $n i32) (result i32) (local $i i32) (local $x i32) (local $sum i32)
                 (loop (local.set $sum (i32.add (local.get $sum) (local.get $x))) {end})
                 (local.get $sum)))"#
        );
        let bytes = binary(&text);
        let engine = Engine::new(&config(None)).unwrap();
        let seen = [true, false].map(|counts_loops| {
            let bytes = with(&bytes, Options { counts_loops, ..Options::USUAL }).unwrap();
            let mut metered = Metered::start(&engine, &bytes, NO_LIMITS).unwrap();
            metered.call("run", &[Val::I32(3_000_000)])
        });
        assert_eq!(seen[0], seen[1]);
    }
}

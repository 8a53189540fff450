//! Limits end what would not end by itself, at the same place on every engine.

use super::*;

fn stopped_at(wat: &str, ticks: u64) -> u64 {
    let limits = Limits { ticks, ..NO_LIMITS };
    let seen = on_all(wat, limits, &[]);
    assert_eq!(seen.end, End::Stopped);
    assert!(seen.ticks > ticks, "{seen:?}");
    // A limit of one less than the count stops at the same check.
    let again = on_all(wat, Limits { ticks: seen.ticks - 1, ..NO_LIMITS }, &[]);
    assert_eq!((again.end, again.ticks), (End::Stopped, seen.ticks));
    seen.ticks
}

#[test]
fn an_endless_loop_stops() {
    assert!(stopped_at(r#"(module (func (export "run") (loop (br 0))))"#, 1000) <= 1001);
    let nested = r#"(module (func (export "run") (loop (loop (br_if 1 (i32.const 1)) (br 0)))))"#;
    assert!(stopped_at(nested, 1000) <= 1010);
}

#[test]
fn endless_calls_stop() {
    let wat = r#"(module (func $a (return_call $b)) (func $b (return_call $a))
        (func (export "run") (call $a)))"#;
    stopped_at(wat, 1000);
    // A tree of calls that is not deep and does not end.
    let tree = |i: u32| format!("(func $f{i} {})", format!("(call $f{})", i + 1).repeat(4));
    let funcs: String = (0..40).map(tree).collect();
    stopped_at(&format!(r#"(module {funcs} (func $f40) (func (export "run") (call $f0)))"#), 100_000);
}

/// Small functions are neither checked nor counted, so their callers must be.
#[test]
fn what_calls_small_functions_for_ever_stops() {
    let small = "(func $a (call $b) (call $b)) (func $b (call $c)) (func $c)";
    stopped_at(&format!(r#"(module {small} (func (export "run") (loop (call $a) (br 0))))"#), 1000);
    let seen = on_all(
        &format!(r#"(module {small} (func $f (call $a) (call $f)) (func (export "run") (call $f)))"#),
        NO_LIMITS,
        &[],
    );
    assert_eq!(seen.end, End::TooDeep);
    // What is only small until it is called often is checked itself.
    let many = "(call $a)".repeat(5000);
    let wat =
        format!(r#"(module {small} (func $many {many}) (func (export "run") (call $many) (call $many)))"#);
    assert!(stopped_at(&wat, 30_000) < 80_000);
}

#[test]
fn what_takes_long_stops_before_it() {
    let wat = r#"(module (memory 100)
        (func (export "run") (memory.fill (i32.const 0) (i32.const 1) (i32.const 6400000))))"#;
    assert_eq!(stopped_at(wat, 1000), 1 + 4 + 100_000);
}

#[test]
fn a_loop_that_throws_and_catches_stops() {
    let wat = r#"(module (tag $t) (func $thrower (throw $t))
        (func (export "run") (loop $again (try_table (catch_all $again) (call $thrower)))))"#;
    stopped_at(wat, 1000);
}

/// An inner loop must not take the limit that an outer one read: it may have been lowered since.
#[test]
fn a_limit_that_is_lowered_from_outside_stops_every_loop() {
    let loops = [
        "(loop (br 0))",
        "(loop (loop (br 0)))",
        "(loop (loop (loop (br 0))) (br 0))",
        "(loop (br_if 0 (i32.const 1)))",
        "(local $i i64) (loop (local.set $i (i64.add (local.get $i) (i64.const 1))) (loop (br 0)))",
        "(loop (try_table (call $f)) (br 0))",
    ];
    for body in loops {
        let wat = format!(r#"(module (func $f) (func (export "run") {body}))"#);
        let bytes = module(&binary(&wat)).unwrap();
        for target in TARGETS {
            let engine = Engine::new(&config(target)).unwrap();
            let mut metered = Metered::start(&engine, &bytes, NO_LIMITS).unwrap();
            let base = metered.counters.data_ptr(&metered.store) as usize;
            let lower = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(20));
                // SAFETY: (1) the memory lives until the call below returned, which waits for this.
                // (2) It never moves or grows. (3) The word is aligned, and nobody else writes it.
                let limit = unsafe {
                    std::sync::atomic::AtomicU64::from_ptr((base + TICK_LIMIT_AT as usize) as *mut u64)
                };
                limit.store(0, std::sync::atomic::Ordering::SeqCst);
            });
            let seen = metered.call("run", &[]);
            lower.join().unwrap();
            assert_eq!(seen.end, End::Stopped, "{body}");
        }
    }
}

#[test]
fn recursion_ends_at_the_same_depth() {
    let wat = r#"(module (func $f (param i64 f64 v128) (result i64)
            (i64.add (i64.const 1) (call $f (local.get 0) (local.get 1) (local.get 2))))
        (func (export "run") (result i64) (call $f (i64.const 1) (f64.const 2) (v128.const i64x2 1 2))))"#;
    let seen = on_all(wat, Limits { depth: 5000, ..NO_LIMITS }, &[]);
    assert_eq!(seen.end, End::TooDeep);
    // 500 calls of 10 units, each after 6 ticks.
    assert_eq!(seen.ticks, 3000, "{seen:?}");
}

#[test]
fn a_handler_has_its_own_depth_again() {
    let wat = r#"(module (tag $t)
        (func $deep (param i32)
            (if (i32.eqz (local.get 0)) (then (throw $t)))
            (call $deep (i32.sub (local.get 0) (i32.const 1))))
        (func (export "run") (param i32) (result i32)
            (loop $again
                (block $caught (try_table (catch_all $caught) (call $deep (i32.const 100))))
                (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (local.get 0)))"#;
    let seen = on_all(wat, Limits { depth: 2000, ..NO_LIMITS }, &[Val::I32(1000)]);
    assert_eq!((seen.end, seen.depth), (End::Returned(vec!["I32(0)".into()]), 0));
}

#[test]
fn hostile_bytes_are_refused_and_never_panic() {
    let wat = r#"(module (memory 1) (func (param i32) (result i32) (loop (br_if 0 (local.get 0)))
        (memory.fill (i32.const 0) (i32.const 0) (local.get 0)) (call 0 (i32.const 1))))"#;
    let bytes = binary(wat);
    assert!(module(&bytes).is_ok());
    let check = |bytes: &[u8]| {
        if let Ok(metered) = module(bytes) {
            Validator::new_with_features(features()).validate_all(&metered).unwrap();
        }
    };
    for len in 0..bytes.len() {
        check(&bytes[..len]);
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            check(&bytes);
        }
    }
}

#[test]
fn the_meter_is_out_of_reach() {
    // The local, the memory and the function would be those of the meter, had they their numbers.
    for wat in [
        "(module (func (loop (local.set 0 (i64.const 0)) (br 0))))",
        "(module (func (i64.store (i32.const 0) (i64.const 0))))",
        "(module (func (call 1)))",
    ] {
        let error = wat::parse_str(wat).map(|bytes| module(&bytes));
        assert!(matches!(error, Err(_) | Ok(Err(_))), "{wat}");
    }
}

//! Programs whose ticks were counted by hand.

use super::*;

#[test]
fn straight_code_costs_its_operators() {
    let wat = r#"(module (func (export "run") (param i32) (result i32)
        local.get 0 i32.const 1 i32.add nop (block (nop)) i32.const 5 drop))"#;
    // Entering, and four operators: `nop`, `drop` and blocks are free.
    assert_eq!(ticks(wat, &[Val::I32(1)]), 1 + 4);
}

#[test]
fn only_the_way_that_was_taken_is_charged() {
    let wat = r#"(module (func (export "run") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (i32.const 1) (i32.const 2)))
            (else (i32.const 7)))))"#;
    assert_eq!(ticks(wat, &[Val::I32(1)]), 1 + 2 + 3);
    assert_eq!(ticks(wat, &[Val::I32(0)]), 1 + 2 + 1);
}

#[test]
fn code_after_a_branch_is_free_and_left_out() {
    let wat = r#"(module (func (export "run") (result i32)
        (block (result i32) i32.const 1 br 0 i32.const 2 drop (block (loop (br 1))) i32.const 9)
        return
        i32.const 3))"#;
    assert_eq!(ticks(wat, &[]), 1 + 2);
}

#[test]
fn a_return_from_within_is_charged_to_its_place() {
    let wat = r#"(module (func (export "run") (param i32) (result i32 i32)
        (block (br_if 0 (local.get 0)) (return (i32.const 1) (i32.const 2)))
        (br_if 0 (i32.const 3) (i32.const 4) (local.get 0))
        (i32.add)
        (i32.const 5)))"#;
    assert_eq!(ticks(wat, &[Val::I32(0)]), 1 + 2 + 2);
    assert_eq!(ticks(wat, &[Val::I32(1)]), 1 + 2 + 4);
}

#[test]
fn a_branch_table_is_charged_on_every_way() {
    let wat = r#"(module (func (export "run") (param i32)
        (block (block (block (br_table 0 1 2 3 (local.get 0)))
            i32.const 0 drop)
            i32.const 0 drop i32.const 0 drop)
        i32.const 0 drop))"#;
    let of = |n| ticks(wat, &[Val::I32(n)]);
    assert_eq!([of(0), of(1), of(2), of(3), of(99)], [7, 6, 4, 3, 3]);
}

#[test]
fn calls_cost_what_they_do_and_one() {
    let wat = r#"(module
        (func $double (param i32) (result i32) (i32.add (local.get 0) (local.get 0)))
        (func (export "run") (param i32) (result i32)
            (call $double (call $double (local.get 0)))))"#;
    assert_eq!(ticks(wat, &[Val::I32(1)]), 1 + 1 + 2 * (1 + 1 + 3));
}

#[test]
fn a_loop_costs_its_trips() {
    let wat = r#"(module (func (export "run") (param i32) (result i32) (local i32)
        (loop
            (local.set 1 (i32.add (local.get 1) (i32.const 3)))
            (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 1)))"#;
    assert_eq!(ticks(wat, &[Val::I32(1)]), 1 + 1 + 9 + 1);
    assert_eq!(ticks(wat, &[Val::I32(1000)]), 1 + 1 + 9_000 + 1);
}

#[test]
fn what_is_declared_beyond_a_few_locals_costs_entering() {
    let wat = |locals: &str| format!(r#"(module (func (export "run") (local {locals})))"#);
    assert_eq!(ticks(&wat(&"i32 ".repeat(32)), &[]), 1);
    assert_eq!(ticks(&wat(&"i32 ".repeat(33)), &[]), 2);
    assert_eq!(ticks(&wat(&"v128 ".repeat(32)), &[]), 1 + 32);
    assert_eq!(ticks(&wat(&"i64 ".repeat(1000)), &[]), 1 + 1000 - 32);
}

#[test]
fn the_host_sees_the_exact_time_at_each_call() {
    let wat = r#"(module (import "test" "now" (func $now))
        (func $inner (call $now) i32.const 1 drop)
        (func (export "run") (param i32)
            call $now
            (if (local.get 0) (then i32.const 1 drop call $inner) (else i32.const 1 drop i32.const 2 drop))
            call $now
            (loop (call $now) (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            call $now))"#;
    let bytes = module(&binary(wat)).unwrap();
    for target in TARGETS {
        let engine = Engine::new(&config(target)).unwrap();
        let mut metered = Metered::start(&engine, &bytes, NO_LIMITS).unwrap();
        metered.call("run", &[Val::I32(2)]);
        // Entering and the call; `get`, `if`, `const` and two calls with an entry; `const` and a call; `loop` and a
        // call; the rest of one trip and a call; that rest and a call.
        assert_eq!(metered.store.data().as_slice(), [2, 2 + 6, 8 + 2, 10 + 2, 12 + 6, 18 + 6]);
    }
}

#[test]
fn what_moves_much_costs_by_its_length() {
    let wat = r#"(module (memory 1) (table 100 funcref) (data $d "0123456789")
        (func (export "run") (param i32)
            (memory.fill (i32.const 0) (i32.const 1) (local.get 0))
            (memory.copy (i32.const 0) (i32.const 1) (local.get 0))
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 10))
            (table.fill (i32.const 0) (ref.null func) (i32.const 17))
            (drop (memory.grow (i32.const 2)))))"#;
    let flat = 1 + 5 * 4 - 2;
    assert_eq!(ticks(wat, &[Val::I32(0)]), flat + 1 + 3 + 2048);
    assert_eq!(ticks(wat, &[Val::I32(1)]), flat + 2 + 1 + 3 + 2048);
    assert_eq!(ticks(wat, &[Val::I32(64)]), flat + 2 + 1 + 3 + 2048);
    assert_eq!(ticks(wat, &[Val::I32(65)]), flat + 4 + 1 + 3 + 2048);
}

#[test]
fn lengths_of_64_bits_are_clamped() {
    let wat = r#"(module (memory i64 1 2) (func (export "run") (param i64) (result i64)
        (memory.fill (i64.const 0) (i32.const 1) (i64.const 128))
        (memory.grow (local.get 0))))"#;
    let flat = 1 + 4 + 2 + 2;
    assert_eq!(ticks(wat, &[Val::I64(1)]), flat + 1024);
    assert_eq!(ticks(wat, &[Val::I64(-1)]), flat + (cost::LENGTH_MAX << cost::PAGE_SHIFT));
}

#[test]
fn arrays_cost_by_their_elements() {
    let wat = r#"(module (type $bytes (array (mut i8)))
        (func (export "run") (param i32) (result i32) (local (ref null $bytes))
            (local.set 1 (array.new $bytes (i32.const 3) (local.get 0)))
            (array.fill $bytes (local.get 1) (i32.const 0) (i32.const 4) (local.get 0))
            (array.get_u $bytes (local.get 1) (i32.const 0))))"#;
    assert_eq!(ticks(wat, &[Val::I32(16)]), 1 + 4 + 5 + 3 + 4);
}

#[test]
fn an_exception_is_charged_on_the_way_to_its_handler() {
    let wat = r#"(module (tag $t (param i32))
        (func $thrower (param i32) (throw $t (local.get 0)))
        (func $between (param i32) (call $thrower (local.get 0)) unreachable)
        (func (export "run") (param i32) (result i32) (local $n i32)
            (loop $again
                (block $caught (result i32)
                    (try_table (catch $t $caught) (call $between (local.get 0)))
                    (i32.const 99))
                (local.set $n (i32.add (local.get $n)))
                (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (local.get $n)))"#;
    // One trip: `get` and the call; entry, `get`, call; entry, `get`, throw; `get`, `add`, `set`; five of the end.
    let trip = 2 + 3 + 3 + 3 + 5;
    assert_eq!(ticks(wat, &[Val::I32(1)]), 1 + 1 + trip + 1);
    assert_eq!(ticks(wat, &[Val::I32(10)]), 1 + 1 + 10 * trip + 1);
}

#[test]
fn tail_calls_take_their_depth_back() {
    let wat = r#"(module
        (func $even (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
            (return_call $odd (i32.sub (local.get 0) (i32.const 1))))
        (func $odd (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
            (drop (call $one))
            (return_call $even (i32.sub (local.get 0) (i32.const 1))))
        (func $one (result i32) (i32.const 1))
        (func (export "run") (param i32) (result i32) (call $even (local.get 0))))"#;
    let seen = on_all(wat, NO_LIMITS, &[Val::I32(100_000)]);
    assert_eq!(seen.end, End::Returned(vec!["I32(1)".into()]));
    assert_eq!(seen.depth, 0);
}

#[test]
fn memories_and_functions_keep_their_meaning() {
    let wat = r#"(module (import "test" "now" (func $now)) (memory $a 1) (memory $b 1)
        (table funcref (elem $now $seven)) (data (memory $b) (i32.const 4) "\05\00\00\00")
        (global $ref funcref (ref.func $seven))
        (func $seven (result i32) (i32.const 7))
        (start $begin)
        (func $begin (i32.store $a (i32.const 0) (i32.const 100)))
        (func (export "run") (result i32 i32 i32)
            (call_indirect (result i32) (i32.const 1))
            (i32.load $a (i32.const 0))
            (i32.load $b offset=4 (i32.const 0))))"#;
    let seen = on_all(wat, NO_LIMITS, &[]);
    assert_eq!(seen.end, End::Returned(["I32(7)", "I32(100)", "I32(5)"].map(String::from).to_vec()));
}

#[test]
fn names_follow_their_functions() {
    let wat = r#"(module (func $first) (func $second (export "run") unreachable))"#;
    let bytes = module(&binary(wat)).unwrap();
    let module = Module::new(&Engine::default(), &bytes).unwrap();
    let names: Vec<_> = module.functions().map(|f| f.name.unwrap_or_default().to_owned()).collect();
    assert!(names.contains(&"second".to_owned()), "{names:?}");
    let seen = on_all(wat, NO_LIMITS, &[]);
    assert!(matches!(&seen.end, End::Trapped(_)), "{seen:?}");
}

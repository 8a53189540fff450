//! Functions that get the count with their arguments, and gates between them and the others.

use super::*;

/// Runs `run` in either form: all that can be seen is the same.
fn in_both(wat: &str, limits: Limits, args: &[Val]) -> Seen {
    let carried = on_all(wat, limits, args);
    let bytes = with(&binary(wat), Options { carries: false, ..Options::USUAL }).unwrap();
    let engine = Engine::new(&config(None)).unwrap();
    let in_memory = Metered::start(&engine, &bytes, limits).unwrap().call("run", args);
    assert_eq!((&carried.end, carried.ticks), (&in_memory.end, in_memory.ticks));
    carried
}

/// How many functions there are beside the module's own: its gates.
fn gates(wat: &str) -> usize {
    let count = |bytes: &[u8]| {
        let payloads = wasmparser::Parser::new(0).parse_all(bytes);
        payloads.filter(|p| matches!(p, Ok(wasmparser::Payload::CodeSectionEntry(_)))).count()
    };
    let bytes = binary(wat);
    count(&module(&bytes).unwrap()) - count(&bytes)
}

const FIB: &str = r#"(func $fib (export "run") (param i32) (result i32) (local i32 f64)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (i32.const 1))
        (else
            (local.set 1 (call $fib (i32.sub (local.get 0) (i32.const 1))))
            (i32.add (local.get 1) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))"#;

#[test]
fn a_function_that_calls_itself_and_is_exported_has_a_gate() {
    let wat = format!("(module {FIB})");
    assert_eq!(gates(&wat), 1);
    let seen = in_both(&wat, NO_LIMITS, &[Val::I32(12)]);
    assert_eq!(seen.end, End::Returned(vec!["I32(233)".to_owned()]));
    assert_eq!(seen.depth, 0);
    let stopped = in_both(&wat, Limits { ticks: 100, ..NO_LIMITS }, &[Val::I32(12)]);
    assert_eq!(stopped.end, End::Stopped);
    let deep = in_both(&wat, Limits { depth: 30, ..NO_LIMITS }, &[Val::I32(12)]);
    assert_eq!(deep.end, End::TooDeep);
}

#[test]
fn one_that_nobody_else_calls_has_none() {
    assert_eq!(gates(r#"(module (func $a) (func (export "run") (call $a)))"#), 0);
}

/// A table that is the module's own: a call through it is carried, and an import in it has a gate.
#[test]
fn calls_through_a_table_of_ones_own_are_carried() {
    let wat = r#"(module
        (import "test" "now" (func $now))
        (type $unary (func (param i32) (result i32)))
        (type $nothing (func))
        (table 4 funcref)
        (elem (i32.const 0) $double $now $half $catches)
        (tag $t)
        (func $double (param i32) (result i32) (i32.add (local.get 0) (local.get 0)))
        (func $half (param i32) (result i32)
            (if (result i32) (i32.gt_u (local.get 0) (i32.const 1))
                (then (i32.add (i32.const 1) (call_indirect (type $unary) (i32.shr_u (local.get 0) (i32.const 1)) (i32.const 2))))
                (else (i32.const 0))))
        (func $catches (block $out (try_table (catch $t $out) (throw $t))))
        (func (export "run") (param i32) (result i32)
            (call_indirect (type $nothing) (i32.const 1))
            (call_indirect (type $nothing) (i32.const 3))
            (call_indirect (type $unary) (call_indirect (type $unary) (local.get 0) (i32.const 0)) (i32.const 2))))"#;
    assert_eq!(gates(wat), 2);
    let seen = in_both(wat, NO_LIMITS, &[Val::I32(1000)]);
    assert_eq!(seen.end, End::Returned(vec!["I32(10)".to_owned()]));
    assert_eq!(seen.depth, 0);
    // Where a type is another, or nothing is there, it traps as before.
    let wrong = wat.replace("(type $nothing) (i32.const 3)", "(type $nothing) (i32.const 2)");
    let seen = in_both(&wrong, NO_LIMITS, &[Val::I32(1000)]);
    assert!(
        matches!(&seen.end, End::Trapped(why) if why.contains("indirect call type mismatch")),
        "{seen:?}"
    );
    let deep = in_both(wat, Limits { depth: 40, ..NO_LIMITS }, &[Val::I32(1000)]);
    assert_eq!(deep.end, End::TooDeep);
}

/// What somebody else may put into a table or take from it is called as anybody calls it.
#[test]
fn a_table_that_is_shown_keeps_its_functions_as_they_were() {
    let wat = r#"(module
        (type $unary (func (param i32) (result i32)))
        (table (export "table") 1 funcref)
        (elem (i32.const 0) $double)
        (func $double (param i32) (result i32) (call $same (i32.add (local.get 0) (local.get 0))))
        (func $same (param i32) (result i32) (local.get 0))
        (func (export "run") (param i32) (result i32)
            (call $double (call_indirect (type $unary) (local.get 0) (i32.const 0)))))"#;
    assert_eq!(gates(wat), 0);
    let seen = in_both(wat, NO_LIMITS, &[Val::I32(3)]);
    assert_eq!(seen.end, End::Returned(vec!["I32(12)".to_owned()]));
    let bytes = module(&binary(wat)).unwrap();
    let engine = Engine::new(&config(None)).unwrap();
    let mut metered = Metered::start(&engine, &bytes, NO_LIMITS).unwrap();
    let table = metered.instance.get_table(&mut metered.store, "table").unwrap();
    let double = *table.get(&mut metered.store, 0).unwrap().unwrap_func().unwrap();
    assert_eq!(end(double, &mut metered.store, &[Val::I32(4)]), End::Returned(vec!["I32(8)".to_owned()]));
}

/// A function that is carried its count has another type, so nobody may ask for that, and no place may be for one type alone. Each of
/// these once was refused, or answered otherwise than without a meter.
#[test]
fn who_asks_for_types_finds_those_of_before() {
    let test = |asks: &str| {
        format!(
            r#"(module (type $t (func)) (type $u (func (param i64 i64) (result i64))) (table 1 funcref) (elem (i32.const 0) $f)
            (func $f) (func (export "run") (result i32) {asks}))"#
        )
    };
    let asks = [
        ("(ref.test (ref $t) (table.get 0 (i32.const 0)))", 1),
        ("(ref.test (ref $u) (table.get 0 (i32.const 0)))", 0),
        ("(ref.is_null (ref.cast (ref null $t) (table.get 0 (i32.const 0))))", 0),
        (
            "(drop (block (result funcref) (br_on_cast 0 funcref (ref $u) (table.get 0 (i32.const 0))) (drop) (return (i32.const 5)))) (i32.const 6)",
            5,
        ),
    ];
    for (asks, answer) in asks {
        let seen = in_both(&test(asks), NO_LIMITS, &[]);
        assert_eq!(seen.end, End::Returned(vec![format!("I32({answer})")]), "{asks}");
    }
    let places = [
        "(table 1 (ref null $t)) (elem (table 0) (i32.const 0) (ref null $t) (ref.func $f))",
        "(table 1 (ref $t) (ref.func $f))",
        "(table 1 funcref) (elem (i32.const 0) $f) (global (ref $t) (ref.func $f))",
        "(table 1 funcref) (elem (i32.const 0) $f) (elem (ref null $t) (ref.func $f))",
    ];
    for place in places {
        let wat = format!(
            r#"(module (type $t (func)) {place} (func $f (call $g)) (func $g)
            (func (export "run") (result i32) (call_indirect (type $t) (i32.const 0)) (i32.const 7)))"#
        );
        assert_eq!(in_both(&wat, NO_LIMITS, &[]).end, End::Returned(vec!["I32(7)".to_owned()]), "{place}");
    }
}

#[test]
fn a_module_without_functions_of_its_own_has_no_gates() {
    let wat = r#"(module (import "test" "now" (func $now)) (table 1 funcref) (elem (i32.const 0) $now)
        (global funcref (ref.func $now)) (export "run" (func $now)))"#;
    assert_eq!(gates(wat), 0);
    assert_eq!(on_all(wat, NO_LIMITS, &[]).end, End::Returned(vec![]));
}

/// The host sees the ticks until its call and with it, whoever calls, and a trap leaves those of the last call.
#[test]
fn the_count_in_memory_is_exact_at_every_call_in_either_form() {
    let wat = r#"(module
        (import "test" "now" (func $now))
        (func $f (param i32)
            (call $now)
            (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))) (call $now)))
            (drop (i32.div_u (i32.const 1) (local.get 0))))
        (func (export "run") (param i32) (call $f (local.get 0)) (call $now)))"#;
    let told = |carries| {
        let bytes = with(&binary(wat), Options { carries, ..Options::USUAL }).unwrap();
        let engine = Engine::new(&config(None)).unwrap();
        let mut metered = Metered::start(&engine, &bytes, NO_LIMITS).unwrap();
        let seen = metered.call("run", &[Val::I32(5)]);
        (metered.store.data().clone(), seen.end, seen.ticks)
    };
    let (told_carried, end, ticks) = told(true);
    assert_eq!(told_carried.len(), 6);
    assert!(matches!(&end, End::Trapped(why) if why.contains("divide by zero")), "{end:?}");
    assert_eq!((told_carried, end, ticks), told(false));
}

#[test]
fn gates_have_a_name_and_no_other_function_has_it() {
    let wat = format!("(module {})", FIB.replace("$fib (export", "$fib (export \"x\") (export"));
    for wat in [wat.clone(), wat.replace("(local i32 f64)", "(local $a i32) (local $b f64)")] {
        let bytes = module(&binary(&wat)).unwrap();
        let engine = Engine::new(&config(None)).unwrap();
        let mut metered = Metered::start(&engine, &bytes, Limits { ticks: 100, ..NO_LIMITS }).unwrap();
        let run = metered.instance.get_func(&mut metered.store, "run").unwrap();
        let error = run.call(&mut metered.store, &[Val::I32(9)], &mut [Val::I32(0)]).unwrap_err();
        let frames = error.downcast_ref::<wasmtime::WasmBacktrace>().unwrap().frames();
        let names: Vec<_> = frames.iter().map(|frame| frame.func_name()).collect();
        assert_eq!(names.first(), Some(&Some("fib")));
        assert_eq!(names.last(), Some(&Some(GATE)));
        assert_eq!(names.iter().filter(|name| **name == Some(GATE)).count(), 1);
    }
    // One that calls itself so is not hidden.
    let other = format!("(module {})", FIB.replace("$fib", "$\"vac:meter gate\""));
    let bytes = module(&binary(&other)).unwrap();
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        let wasmparser::Payload::CustomSection(section) = payload.unwrap() else { continue };
        let wasmparser::KnownCustom::Name(section) = section.as_known() else { continue };
        for subsection in section {
            let wasmparser::Name::Function(map) = subsection.unwrap() else { continue };
            names.extend(map.into_iter().map(|naming| naming.unwrap().index));
        }
    }
    assert_eq!(names, [3]);
    // Names that are good and then bad are no names.
    let unnamed = FIB.replace("func $fib", "func").replace("call $fib", "call 0");
    let mut broken = binary(&format!("(module {unnamed})"));
    broken.splice(broken.len()..broken.len(), *b"\x00\x0f\x04name\x01\x04\x01\x00\x01f\x02\x03\x05\x00");
    let bytes = module(&broken).unwrap();
    assert!(bytes.windows(GATE.len()).any(|window| window == GATE.as_bytes()));
}

//! The pass against the engine's own setting: the same results, memories, globals and traps.

use std::sync::OnceLock;

use wasmtime::{Config, Engine, Instance, Module, Ref, Store, Val, ValType};

use super::{GRAPH_MAX, module, with_room};

mod cost;
mod functions;
mod random;
mod smith;

/// Bits that a test may want to find again.
const SIGNALLING_F32: u32 = 0x7fa0_0001;
const SIGNALLING_F64: u64 = 0x7ff4_0000_0000_0001;
/// A pointer in the bits of a NaN, as interpreters of dynamic languages keep it.
const BOXED: u64 = 0xfffc_dead_beef_0010;

/// The three ways to run a module: as it is, with the engine's own canonical NaNs; rewritten, compiled without;
/// rewritten, interpreted.
struct Engines {
    reference: Engine,
    compiled: Engine,
    interpreted: Engine,
}

fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| {
        let engine = |is_canonical: bool, target: Option<&str>| {
            let mut config: Config = crate::engine::det_1();
            // The interpreter has no atomic instructions.
            config.consume_fuel(false).wasm_threads(false).wasm_branch_hinting(true);
            config.cranelift_nan_canonicalization(is_canonical);
            if let Some(target) = target {
                config.target(target).expect("the engine has the target");
            }
            Engine::new(&config).expect("the engine starts")
        };
        Engines {
            reference: engine(true, None),
            compiled: engine(false, None),
            interpreted: engine(false, Some("pulley64")),
        }
    })
}

/// What can be seen of some calls: results or a trap, then what is in globals and memories.
#[derive(Debug, PartialEq, Eq)]
struct Seen(Vec<String>);

/// Calls exported functions of `bytes`, in order, each with each list of arguments that `args` gives for its type.
fn run(engine: &Engine, bytes: &[u8], args: Args<'_>) -> Seen {
    let module = Module::new(engine, bytes).unwrap_or_else(|e| panic!("{e:#}"));
    let mut store = Store::new(engine, ());
    let mut seen = Vec::new();
    let instance = match Instance::new(&mut store, &module, &[]) {
        Ok(instance) => instance,
        Err(error) => return Seen(vec![trap(&error)]),
    };
    let exports: Vec<_> = module.exports().map(|export| export.name().to_owned()).collect();
    for name in &exports {
        let Some(func) = instance.get_func(&mut store, name) else { continue };
        let ty = func.ty(&store);
        for args in args(&ty.params().collect::<Vec<_>>()) {
            let mut results = vec![Val::I32(0); ty.results().len()];
            let ended = match func.call(&mut store, &args, &mut results) {
                Ok(()) => results.iter().map(bits).collect::<Vec<_>>().join(" "),
                Err(error) => trap(&error),
            };
            seen.push(format!("{name}: {ended}"));
        }
    }
    for name in &exports {
        if let Some(global) = instance.get_global(&mut store, name) {
            seen.push(format!("{name}: {}", bits(&global.get(&mut store))));
        }
        if let Some(memory) = instance.get_memory(&mut store, name) {
            seen.push(format!("{name}: {}", blake3::hash(memory.data(&store))));
        }
    }
    Seen(seen)
}

fn bits(value: &Val) -> String {
    match value {
        Val::I32(value) => format!("{value:#x}"),
        Val::I64(value) => format!("{value:#x}"),
        Val::F32(bits) => format!("f32 {bits:#010x}"),
        Val::F64(bits) => format!("f64 {bits:#018x}"),
        Val::V128(bits) => format!("v128 {:#034x}", bits.as_u128()),
        other => format!("null: {}", other.ref_().is_none_or(|value: Ref| value.is_null())),
    }
}

fn trap(error: &wasmtime::Error) -> String {
    error.downcast_ref::<wasmtime::Trap>().map_or_else(|| "no trap".to_owned(), |trap| format!("{trap:?}"))
}

/// Arguments for functions of a type.
type Args<'a> = &'a dyn Fn(&[ValType]) -> Vec<Vec<Val>>;

/// Panics unless `bytes` behave in all three ways alike. Gives what was seen.
fn same(bytes: &[u8], args: Args<'_>, what: &str) -> Seen {
    same_in(GRAPH_MAX, bytes, args, what)
}

/// The same, with graphs that have so much room.
fn same_in(room: usize, bytes: &[u8], args: Args<'_>, what: &str) -> Seen {
    let rewritten = with_room(bytes, room).unwrap_or_else(|e| panic!("{what}: {e}"));
    let again = with_room(bytes, room).expect("it was rewritten once");
    assert_eq!(rewritten, again, "{what}: not the same twice");
    if let Err(error) = wasmparser::validate(&rewritten) {
        panic!("{what}: {error}");
    }
    let engines = engines();
    let expected = run(&engines.reference, bytes, args);
    for (engine, name) in [(&engines.compiled, "compiled"), (&engines.interpreted, "interpreted")] {
        let got = run(engine, &rewritten, args);
        // Where the stack ends depends on the code.
        let overflows = |seen: &Seen| seen.0.iter().any(|line| line.contains("StackOverflow"));
        if got != expected && !overflows(&got) && !overflows(&expected) {
            let pairs = expected.0.iter().zip(&got.0).filter(|(a, b)| a != b);
            let lines: Vec<_> = pairs.take(5).map(|(a, b)| format!("expected {a}\n     got {b}")).collect();
            panic!("{what}, {name}:\n{}", lines.join("\n"));
        }
    }
    expected
}

/// Runs the function `f` of a module in all three ways, and gives what it returned.
fn result(text: &str, args: &[Val]) -> String {
    let bytes = wat::parse_str(text).expect("the case is well formed");
    let args = |_: &[ValType]| vec![args.to_vec()];
    let Seen(seen) = same(&bytes, &args, text);
    seen.first().and_then(|line| line.strip_prefix("f: ")).expect("`f` is the first export").to_owned()
}

/// How many times NaNs are made canonical in a module.
fn places(text: &str) -> usize {
    let bytes = wat::parse_str(text).expect("the case is well formed");
    let rewritten = module(&bytes).expect("it can be rewritten");
    constants(&rewritten).len() - constants(&bytes).len()
}

/// The NaNs that a module's code has: how many blocks end before each.
fn constants(bytes: &[u8]) -> Vec<usize> {
    use wasmparser::Operator as O;
    let (mut found, mut ends) = (Vec::new(), 0);
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let Ok(wasmparser::Payload::CodeSectionEntry(body)) = payload else { continue };
        for operator in body.get_operators_reader().expect("it has operators") {
            match operator.expect("it can be read") {
                O::End => ends += 1,
                O::F32Const { value } if f32::from(value).is_nan() => found.push(ends),
                O::F64Const { value } if f64::from(value).is_nan() => found.push(ends),
                O::V128Const { .. } => found.push(ends),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn what_has_no_arithmetic_is_unchanged() {
    let bytes = wat::parse_str(
        "(module (memory 1) (func (param f64 i32) (result f64)
            (f64.store (local.get 1) (local.get 0)) (f64.neg (f64.load (local.get 1)))))",
    )
    .unwrap();
    assert_eq!(module(&bytes).unwrap(), bytes);
}

#[test]
fn a_nan_of_arithmetic_is_canonical_where_it_is_returned() {
    let text = "(module (func (export \"f\") (param f64 f64) (result f64)
        (f64.mul (f64.div (local.get 0) (local.get 1)) (f64.const 2))))";
    assert_eq!(result(text, &[Val::F64(0), Val::F64(0)]), "f64 0x7ff8000000000000");
    assert_eq!(places(text), 1);
}

#[test]
fn a_loop_that_adds_up_is_left_alone_until_its_sum_is_seen() {
    let text = "(module (memory 1) (func (export \"f\") (param i32) (result f32) (local f32)
        (loop $next
            (local.set 1 (f32.add (local.get 1) (f32.mul (f32.load (local.get 0)) (f32.const 0.5))))
            (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 4)))))
        (f32.sqrt (local.get 1))
        (f32.store (i32.const 0) (local.get 1))))";
    assert_eq!(places(text), 2, "the root, and the sum where it is stored");
    result(text, &[Val::I32(400)]);
}

#[test]
fn what_a_loop_makes_is_canonicalised_behind_it_and_not_in_it() {
    // Where the loop is skipped the local has bits that must stay.
    let text = "(module (memory 1) (func (export \"f\") (param f64 i32) (result f64)
        (block $done
            (br_if $done (i32.eqz (local.get 1)))
            (loop $next
                (local.set 0 (f64.mul (local.get 0) (f64.const 0.5)))
                (br_if $next (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))))
        (local.get 0)))";
    assert_eq!(places(text), 1);
    let bytes = wat::parse_str(text).unwrap();
    assert_eq!(constants(&module(&bytes).unwrap()), [1], "behind the end of the loop alone");
    assert_eq!(result(text, &[Val::F64(SIGNALLING_F64), Val::I32(0)]), "f64 0x7ff4000000000001");
    assert_eq!(result(text, &[Val::F64(SIGNALLING_F64), Val::I32(3)]), "f64 0x7ff8000000000000");
}

#[test]
fn bits_that_are_only_moved_stay() {
    let through = [
        ("a copy in memory", "(f64.store (i32.const 8) (f64.load (i32.const 0))) (f64.load (i32.const 8))"),
        ("a local", "(local.set $x (f64.load (i32.const 0))) (local.get $x)"),
        ("a call", "(call $same (f64.load (i32.const 0)))"),
        ("a global", "(global.set $g (f64.load (i32.const 0))) (global.get $g)"),
        ("a choice", "(select (f64.load (i32.const 0)) (f64.add (local.get $p) (local.get $p)) (i32.const 1))"),
        (
            "a block",
            "(block (result f64) (drop (br_if 0 (f64.load (i32.const 0)) (i32.const 1)))
                (f64.add (local.get $p) (local.get $p)))",
        ),
        (
            "a local that also has sums",
            "(local.set $x (f64.add (local.get $p) (local.get $p)))
             (if (i32.const 1) (then (local.set $x (f64.load (i32.const 0))))) (local.get $x)",
        ),
        (
            "a lane",
            "(f64x2.extract_lane 1 (f64x2.replace_lane 1
                (f64x2.add (f64x2.splat (local.get $p)) (f64x2.splat (local.get $p))) (f64.load (i32.const 0))))",
        ),
        ("two signs", "(f64.neg (f64.neg (f64.load (i32.const 0))))"),
    ];
    for bits in [SIGNALLING_F64, BOXED] {
        for (what, body) in through {
            let text = format!(
                "(module (memory 1) (global $g (mut f64) (f64.const 0))
                    (func $same (param f64) (result f64) (local.get 0))
                    (func (export \"f\") (param $p f64) (result f64) (local $x f64)
                        (i64.store (i32.const 0) (i64.const {}))
                        (drop (f64.add (local.get $p) (local.get $p)))
                        {body}))",
                bits as i64
            );
            let got = result(&text, &[Val::F64(f64::NAN.to_bits() | 1)]);
            assert_eq!(got, format!("f64 {bits:#018x}"), "{what}");
        }
    }
}

#[test]
fn signs_of_nans_are_those_of_canonical_ones() {
    // An operand that is a NaN with a sign, which a machine may or may not keep.
    for (expression, expected) in [
        ("(f32.neg (f32.add (local.get 0) (f32.const 1)))", "0xffc00000"),
        ("(f32.neg (f32.neg (f32.add (local.get 0) (f32.const 1))))", "0x7fc00000"),
        ("(f32.abs (f32.neg (f32.add (local.get 0) (f32.const 1))))", "0x7fc00000"),
        ("(f32.copysign (f32.const 1) (f32.mul (local.get 0) (f32.const 1)))", "0x3f800000"),
        ("(f32.copysign (f32.const 1) (f32.neg (f32.mul (local.get 0) (f32.const 1))))", "0xbf800000"),
        ("(f32.copysign (f32.mul (local.get 0) (f32.const 1)) (f32.const -1))", "0xffc00000"),
        ("(f32.neg (local.get 0))", "0x7fa00001"),
        (
            "(select (f32.neg (f32.add (local.get 0) (f32.const 1))) (f32.add (local.get 0) (f32.const 1)) (i32.const 1))",
            "0xffc00000",
        ),
    ] {
        // The last case is a choice between two signs: each operand is replaced, not the choice.
        let text = format!(
            "(module (func (export \"f\") (param f32) (result f32) {expression})
            (func (param f32) (result f32) (f32.add (local.get 0) (local.get 0))))"
        );
        let got = result(&text, &[Val::F32(SIGNALLING_F32 | 1 << 31)]);
        assert_eq!(got, format!("f32 {expected}"), "{expression}");
    }
}

#[test]
fn a_payload_that_arithmetic_would_keep_does_not_reach_memory() {
    for store in [
        "(f64.store (i32.const 0) (f64.add (local.get 0) (f64.const 1)))",
        "(i64.store (i32.const 0) (i64.reinterpret_f64 (f64.sqrt (local.get 0))))",
        "(v128.store (i32.const 0) (f64x2.mul (f64x2.splat (local.get 0)) (f64x2.splat (f64.const 1))))",
        "(f64.store (i32.const 0) (f64.promote_f32 (f32.demote_f64 (local.get 0))))",
        "(f64.store (i32.const 0) (f64x2.extract_lane 1 (f64x2.sqrt (f64x2.splat (local.get 0)))))",
        "(v128.store64_lane 1 (i32.const 0) (f64x2.nearest (f64x2.splat (local.get 0))))",
    ] {
        let text = format!(
            "(module (memory 1) (func (export \"f\") (param f64) (result i64) {store} (i64.load (i32.const 0))))"
        );
        assert_eq!(result(&text, &[Val::F64(BOXED)]), "0x7ff8000000000000", "{store}");
    }
}

#[test]
fn lanes_seen_at_another_width_are_canonical_first() {
    // As narrow lanes a wide NaN is a NaN beside a number, and that number must be right.
    let text = "(module (func (export \"f\") (param f64) (result f32)
        (f32x4.extract_lane 0 (f32x4.add
            (f64x2.add (f64x2.splat (local.get 0)) (f64x2.splat (f64.const 1)))
            (f32x4.splat (f32.const 0))))))";
    assert_eq!(result(text, &[Val::F64(BOXED | 0x3f80_0000)]), "f32 0x00000000");
}

#[test]
fn vectors_that_feed_only_arithmetic_are_left_alone() {
    let text = "(module (memory 1) (func (export \"f\") (param i32) (result f32) (local v128)
        (loop $next
            (local.set 1 (f32x4.add (local.get 1) (f32x4.mul (v128.load (local.get 0)) (v128.load (local.get 0)))))
            (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 16)))))
        (f32.add (f32x4.extract_lane 0 (local.get 1)) (f32x4.extract_lane 1 (local.get 1)))))";
    assert_eq!(places(text), 1, "what is returned");
    result(text, &[Val::I32(160)]);
}

#[test]
fn an_operator_that_is_not_known_gets_bits_that_are_right() {
    let text = "(module (func (export \"f\") (param f32) (result v128) (local v128)
        (local.set 1 (f32x4.add (f32x4.splat (local.get 0)) (f32x4.splat (local.get 0))))
        (i8x16.shuffle 0 5 10 15 20 25 30 31 1 2 3 4 6 7 8 9 (local.get 1) (local.get 1))))";
    assert_eq!(result(text, &[Val::F32(SIGNALLING_F32)]), "v128 0x00007fc0007fc0007fc000007fc00000");
}

#[test]
fn a_shuffle_of_whole_lanes_of_their_width_looks_at_none() {
    for (lanes, expected) in [
        ("8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23", 1),
        // The result, and both operands of the shuffle, each read from the local.
        ("4 5 6 7 0 1 2 3 16 17 18 19 28 29 30 31", 3),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", 3),
    ] {
        let text = format!(
            "(module (func (export \"f\") (param f64) (result f64) (local v128)
                (local.set 1 (f64x2.add (f64x2.splat (local.get 0)) (f64x2.splat (local.get 0))))
                (f64x2.extract_lane 0 (f64x2.add (local.get 1)
                    (i8x16.shuffle {lanes} (local.get 1) (local.get 1))))))"
        );
        assert_eq!(places(&text), expected, "{lanes}");
        result(&text, &[Val::F64(BOXED)]);
    }
}

#[test]
fn what_an_exception_carries_is_right() {
    let text = "(module (tag $e (param f64))
        (func (export \"f\") (param f64) (result f64) (local f64)
            (block $h (result f64)
                (try_table (result f64) (catch $e $h)
                    (local.set 1 (f64.add (local.get 0) (f64.const 1)))
                    (if (f64.ne (local.get 1) (local.get 1)) (then (throw $e (local.get 1))))
                    (local.get 1)))))";
    assert_eq!(result(text, &[Val::F64(BOXED)]), "f64 0x7ff8000000000000");
}

#[test]
fn a_function_without_room_for_a_local_is_refused_by_name() {
    let bytes = |locals: u32| {
        let text = format!(
            "(module (func) (func (param f64) (result f64) (local {}) (f64.add (local.get 0) (local.get 0))))",
            "i32 ".repeat(locals as usize)
        );
        wat::parse_str(text).unwrap()
    };
    assert!(module(&bytes(49_998)).is_ok());
    let refused = module(&bytes(49_999)).unwrap_err().to_string();
    assert!(refused.contains("function 1") && refused.contains("room"), "{refused}");
}

#[test]
fn a_function_that_is_too_large_to_follow_is_canonical_everywhere() {
    let text = "(module (func (export \"f\") (param f64 v128) (result f64)
        (drop (f64x2.sqrt (local.get 1))) (drop (f32.demote_f64 (local.get 0)))
        (f64.mul (f64.add (local.get 0) (local.get 0)) (f64.const 2))))";
    let bytes = wat::parse_str(text).unwrap();
    assert_eq!(constants(&with_room(&bytes, 0).unwrap()).len(), 4);
    assert_eq!(constants(&module(&bytes).unwrap()).len(), 1);
    same_in(0, &bytes, &random::args(1, 20), text);
}

#[test]
fn hints_move_with_their_branches() {
    let text = "(module
        (func (param f64 i32) (result f64)
            (local.set 0 (f64.add (local.get 0) (f64.const 1)))
            (drop (i64.reinterpret_f64 (local.get 0)))
            (f64.sqrt (local.get 0))
            (local.get 1)
            (@metadata.code.branch_hint \"\\00\") (if (then (local.set 1 (i32.const 3)))))
        (func (param i32)
            (local.get 0)
            (@metadata.code.branch_hint \"\\01\") (if (then (local.set 0 (i32.const 3))))))";
    let bytes = wat::parse_str(text).unwrap();
    assert_eq!(hinted(&bytes), [(0, "if", false), (1, "if", true)]);
    // What is inserted, at the reinterpreted value and at the root, is hinted too.
    let expected = [(0, "br_if", true), (0, "br_if", true), (0, "if", false), (1, "if", true)];
    assert_eq!(hinted(&module(&bytes).unwrap()), expected);
}

/// The branches that a module has hints for: function, operator, whether it is taken.
fn hinted(bytes: &[u8]) -> Vec<(u32, &'static str, bool)> {
    use wasmparser::{KnownCustom, Operator, Payload};
    let (mut hints, mut found) = (Vec::new(), Vec::new());
    let mut function = 0;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload.unwrap() {
            Payload::CustomSection(custom) => {
                let KnownCustom::BranchHints(reader) = custom.as_known() else { continue };
                for of in reader {
                    let of = of.unwrap();
                    hints.extend(of.hints.into_iter().map(|hint| (of.func, hint.unwrap())));
                }
            }
            Payload::CodeSectionEntry(body) => {
                let start = body.range().start;
                for pair in body.get_operators_reader().unwrap().into_iter_with_offsets() {
                    let (operator, at) = pair.unwrap();
                    let is_here = |(of, hint): &&(u32, wasmparser::BranchHint)| {
                        *of == function && hint.func_offset as usize == at - start
                    };
                    let name = match operator {
                        Operator::If { .. } => "if",
                        Operator::BrIf { .. } => "br_if",
                        _ => "something else",
                    };
                    found.extend(hints.iter().filter(is_here).map(|(_, hint)| (function, name, hint.taken)));
                }
                function += 1;
            }
            _ => {}
        }
    }
    assert_eq!(found.len(), hints.len(), "a hint for no operator");
    found
}

#[test]
fn a_component_or_garbage_is_refused() {
    for bytes in [&b""[..], b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0\x0a\xff", b"text"] {
        assert!(module(bytes).is_err(), "{bytes:?}");
    }
}

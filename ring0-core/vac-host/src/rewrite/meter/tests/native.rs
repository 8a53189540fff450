//! The native stack does not end before the limit of depth does, whatever a compiler keeps there.

use super::*;

/// A function that calls itself with `before` and `after` around the call.
fn recursion(locals: &str, before: &str, after: &str) -> String {
    format!(
        r#"(module (memory 1)
            (func $f (param i64) (result i64) {locals}
                {before} (call $f (i64.add (local.get 0) (i64.const 1))) {after})
            (func (export "run") (result i64) (call $f (i64.const 1))))"#
    )
}

/// Values that are on the stack of operands during the call.
fn operands(n: usize) -> String {
    let push: String = (0..n).map(|i| format!("(v128.load (i32.const {}))", 16 * i)).collect();
    let after = format!("(i64x2.splat) {} (i64x2.extract_lane 0)", "(v128.xor)".repeat(n));
    recursion("", &push, &after)
}

/// Values in locals.
fn locals(n: usize) -> String {
    let set: String =
        (0..n).map(|i| format!("(local.set {} (v128.load (i32.const {})))", i + 1, 16 * i)).collect();
    let get: String = (0..n).map(|i| format!("(v128.xor (local.get {}))", i + 1)).collect();
    let after = format!("(i64x2.splat) {get} (i64x2.extract_lane 0)");
    recursion(&format!("(local {})", "v128 ".repeat(n)), &set, &after)
}

/// Expressions that are the same before and after the call.
fn common(n: usize) -> String {
    let all: String = (0..n)
        .map(|i| format!("(i64.add (i64.mul (local.get 0) (i64.const {})))", 12_345_678_901 + 2 * i))
        .collect();
    recursion("(local i64)", &format!("(local.set 1 (i64.const 0) {all})"), &all)
}

/// Expressions that a compiler computes before the loop that they are in.
fn hoisted(n: usize) -> String {
    let all: String = (0..n)
        .map(|i| format!("(i64.add (i64.mul (local.get 0) (i64.const {})))", 12_345_678_901 + 2 * i))
        .collect();
    let body = format!(
        "(loop (local.set 1 (call $f (i64.add (local.get 1) (i64.const 1))) {all})
            (br_if 0 (i64.ne (local.get 1) (i64.const 5))))"
    );
    recursion("(local i64)", &body, "")
}

fn parameters(n: usize) -> String {
    let (params, pass) = ("i64 ".repeat(n), (0..n).map(|i| format!("(local.get {i})")).collect::<String>());
    let start = "(i64.const 3)".repeat(n);
    format!(
        r#"(module (func $f (param {params}) (result i64) (i64.add (call $f {pass}) (local.get 0)))
            (func (export "run") (result i64) (call $f {start})))"#
    )
}

#[test]
fn the_limit_of_depth_comes_before_the_end_of_the_native_stack() {
    const DEPTH: u64 = 40_000;
    let shapes = [
        ("small", recursion("", "", "(i64.const 1) (i64.add)")),
        ("operands", operands(300)),
        ("locals", locals(300)),
        ("common", common(300)),
        ("hoisted", hoisted(300)),
        ("parameters", parameters(100)),
    ];
    for (name, wat) in shapes {
        let bytes = module(&binary(&wat)).unwrap();
        let seen = TARGETS.map(|target| {
            let mut config = config(target);
            let stack = (DEPTH * cost::NATIVE_BYTES_PER_UNIT) as usize;
            config.max_wasm_stack(stack).async_stack_size(stack + (1 << 20));
            let engine = Engine::new(&config).unwrap();
            let bytes = bytes.clone();
            let run = move || {
                let limits = Limits { depth: DEPTH, ..NO_LIMITS };
                Metered::start(&engine, &bytes, limits).unwrap().call("run", &[])
            };
            std::thread::Builder::new().stack_size(stack + (4 << 20)).spawn(run).unwrap().join().unwrap()
        });
        assert_eq!(seen[0].end, End::TooDeep, "{name}");
        assert_eq!(seen[0], seen[1], "{name}");
    }
}

//! Modules as text, rewritten and run on the engine; what they must give is what the first proposal says.

use wasmtime::{Config, Engine, Instance, Module, Store, Val};

use super::*;

/// What `run` of the module gives for each number.
fn run(text: &str, numbers: &[i32]) -> Vec<Option<i32>> {
    let bytes = wat::parse_str(text).unwrap();
    let rewritten = module(&bytes).unwrap();
    assert!(!has_legacy(&rewritten).unwrap(), "{text}");
    let rewritten = crate::rewrite::nan::module(&rewritten).unwrap();
    let mut config = Config::new();
    config.wasm_exceptions(true).wasm_function_references(true).wasm_gc(true);
    let engine = Engine::new(&config).unwrap();
    let module = Module::new(&engine, &rewritten).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let function = instance.get_func(&mut store, "run").unwrap();
    let call = |number: &i32| {
        let mut results = [Val::I32(0)];
        function.call(&mut store, &[Val::I32(*number)], &mut results).ok()?;
        results[0].i32()
    };
    numbers.iter().map(call).collect()
}

/// A module whose function `$throw` throws `$a` for 1, `$b` with 40 and 2 for 2, `$c` for 3, and gives other numbers back.
fn with(functions: &str) -> String {
    format!(
        r#"(module
        (tag $a) (tag $b (param i32 i32)) (tag $c)
        (func $throw (param i32) (result i32)
          (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $a)))
          (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $b (i32.const 40) (i32.const 2))))
          (if (i32.eq (local.get 0) (i32.const 3)) (then (throw $c)))
          (local.get 0))
        {functions})"#
    )
}

#[test]
fn the_clause_of_the_tag_is_taken_with_what_it_carries() {
    let text = with(
        r#"(func (export "run") (param i32) (result i32)
          try (result i32)
            (call $throw (local.get 0))
          catch $a
            i32.const 100
          catch $b
            i32.add
          catch_all
            i32.const 300
          end)"#,
    );
    assert_eq!(run(&text, &[0, 1, 2, 3, 7]), [Some(0), Some(100), Some(42), Some(300), Some(7)]);
}

#[test]
fn what_no_clause_catches_goes_on_to_the_caller() {
    let text = with(
        r#"(func $inner (param i32) (result i32)
          try (result i32)
            (call $throw (local.get 0))
          catch $a
            i32.const 100
          end)
        (func (export "run") (param i32) (result i32)
          try (result i32)
            (call $inner (local.get 0))
          catch $c
            i32.const 300
          end)"#,
    );
    assert_eq!(run(&text, &[1, 2, 3]), [Some(100), None, Some(300)]);
}

/// The clauses of a `rethrow` are those around its `try`, and what was caught inside of a clause is not it.
#[test]
fn what_was_caught_is_thrown_again_whatever_was_caught_meanwhile() {
    let text = with(
        r#"(func (export "run") (param i32) (result i32)
          try (result i32)
            try $outer (result i32)
              (call $throw (local.get 0))
            catch_all
              try
                (drop (call $throw (i32.const 3)))
              catch $c
              end
              try (result i32)
                (call $throw (i32.const 1))
              catch $a
                rethrow $outer
              end
            end
          catch $a
            i32.const 100
          catch $b
            i32.add
          end)"#,
    );
    assert_eq!(run(&text, &[0, 1, 2, 3]), [Some(0), Some(100), Some(42), None]);
}

/// Between the two stands a `try` that would have caught it.
#[test]
fn a_delegate_hands_over_past_what_is_in_between() {
    let text = with(
        r#"(func (export "run") (param i32) (result i32)
          try $outer (result i32)
            try (result i32)
              try (result i32)
                (call $throw (local.get 0))
              delegate $outer
            catch_all
              i32.const -1
            end
          catch $a
            i32.const 100
          catch_all
            i32.const 200
          end)"#,
    );
    assert_eq!(run(&text, &[0, 1, 2, 3]), [Some(0), Some(100), Some(200), Some(200)]);
}

/// The label of a block means the `try` around it; that of the function its caller; and in a clause, a `try` no longer
/// catches what is handed over to it.
#[test]
fn a_delegate_to_something_else_hands_over_to_what_is_around_it() {
    let text = with(
        r#"(func $to_the_caller (param i32) (result i32)
          try (result i32)
            try (result i32)
              (call $throw (local.get 0))
            delegate 1
          catch_all
            i32.const -1
          end)
        (func $from_a_clause (param i32) (result i32)
          try $outer (result i32)
            (call $throw (local.get 0))
          catch $b
            drop
            drop
            try (result i32)
              (call $to_the_caller (i32.const 1))
            delegate $outer
          end)
        (func (export "run") (param i32) (result i32)
          try (result i32)
            try (result i32)
              block $here (result i32)
                try (result i32)
                  try (result i32)
                    (call $from_a_clause (local.get 0))
                  delegate $here
                catch_all
                  i32.const -2
                end
              end
            catch $a
              i32.const 100
            end
          catch_all
            i32.const 200
          end)"#,
    );
    assert_eq!(run(&text, &[0, 1, 2, 3]), [Some(0), Some(100), Some(100), Some(200)]);
}

#[test]
fn branches_lead_where_they_led() {
    let text = with(
        r#"(func (export "run") (param i32) (result i32) (local i32)
          loop $again
            block $out
              try $try
                (br_table $try $again $out (local.tee 1 (call $throw (local.get 0))))
              catch $a
                (local.set 0 (i32.const 7))
                br $again
              catch $b
                i32.add
                local.set 1
                br $out
              catch_all
                try
                  (br_if $out (i32.eq (local.get 0) (i32.const 3)))
                catch_all
                end
                (return (i32.const -3))
              end
              (return (i32.const -1))
            end
          end
          local.get 1)"#,
    );
    assert_eq!(run(&text, &[0, 1, 2, 3, 9]), [Some(-1), Some(7), Some(42), Some(0), Some(9)]);
}

/// Blocks that take something: their types are new ones, which come after those that were there.
#[test]
fn a_try_may_take_values_and_have_no_clause() {
    let text = with(
        r#"(func (export "run") (param i32) (result i32)
          try
            (drop (call $throw (i32.const 0)))
          end
          i32.const 1000
          local.get 0
          try (param i32 i32) (result i32)
            try (param i32) (result i32)
              call $throw
            delegate 0
            i32.add
          catch $b
            i32.sub
          catch_all
            i32.const 300
          end)"#,
    );
    assert_eq!(run(&text, &[0, 2, 3]), [Some(1000), Some(38), Some(300)]);
}

#[test]
fn other_modules_stay_as_they_are() {
    let text = r#"(module (tag $a) (func (block $h (try_table (catch $a $h) (throw $a)))))"#;
    let bytes = wat::parse_str(text).unwrap();
    assert!(matches!(module(&bytes).unwrap(), Cow::Borrowed(same) if same == bytes));
}

/// Mutated modules were refused that the validator takes: what is in a section of names is not its business.
#[test]
fn names_that_cannot_be_read_refuse_no_program() {
    let text = with(r#"(func (export "run") (param i32) (result i32) try catch_all end (i32.const 7))"#);
    let mut bytes = wat::parse_str(text).unwrap();
    bytes.extend(b"\0\x07\x04name\x01\x7f");
    assert!(module(&bytes).unwrap().ends_with(b"\x04name\x01\x7f"));
}

/// A byte may be anything, in a place where it matters.
#[test]
fn what_is_damaged_is_refused() {
    let text = with(
        "(func (param i32) try try (drop (call 0 (local.get 0))) delegate 0 catch $a rethrow 0 catch_all end)",
    );
    let bytes = wat::parse_str(text).unwrap();
    for at in 0..bytes.len() {
        for value in [0, 1, 6, 7, 9, 11, 24, 25, 127, 128, 255] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if let Ok(rewritten) = module(&damaged) {
                let _ = crate::rewrite::meter::module(&rewritten);
            }
        }
        let _ = module(&bytes[..at]);
    }
}

//! Promises: a pass from module to module ends with a module or an error, whatever the bytes; and of a valid
//! module it makes a valid one, or says for what it had no room.

use vac_host::rewrite::{self, legacy, nan};
use wasmparser::{Validator, WasmFeatures};

/// Longer inputs only take longer.
const INPUT_MAX_BYTES: usize = 16 << 10;

/// Makes NaNs canonical in `data`.
pub fn nan(data: &[u8]) {
    let data = data.get(..INPUT_MAX_BYTES).unwrap_or(data);
    let rewritten = nan::module(data);
    if wasmparser::Validator::new().validate_all(data).is_err() {
        return;
    }
    let is_module = wasmparser::Parser::is_core_wasm(data);
    match rewritten {
        Ok(bytes) => {
            let checked = wasmparser::Validator::new().validate_all(&bytes).map(drop);
            assert!(checked.is_ok(), "a valid module became an invalid one: {checked:?}");
        }
        Err(error) => assert!(!is_module || error.to_string().contains("room"), "{error}"),
    }
}

/// Makes exceptions of the first proposal those of the standard in `data`.
pub fn legacy(data: &[u8]) {
    let data = data.get(..INPUT_MAX_BYTES).unwrap_or(data);
    let rewritten = legacy::module(data);
    let standard = WasmFeatures::WASM3 | WasmFeatures::THREADS;
    let before = Validator::new_with_features(standard | WasmFeatures::LEGACY_EXCEPTIONS).validate_all(data);
    if before.is_err() || !wasmparser::Parser::is_core_wasm(data) {
        return;
    }
    let bytes = rewritten.unwrap_or_else(|error| panic!("a valid module was refused: {error}"));
    let checked = Validator::new_with_features(standard).validate_all(&bytes).map(drop);
    // What is kept takes locals, of which a function may have no more.
    let is_full = checked.as_ref().is_err_and(|error| error.message().contains("locals"));
    assert!(checked.is_ok() || is_full, "a valid module became an invalid one: {checked:?}");
}

/// All passes over the module in `data`: what is compiled in its place.
pub fn module(data: &[u8]) {
    let data = data.get(..INPUT_MAX_BYTES).unwrap_or(data);
    if wasmparser::Parser::is_core_wasm(data) || data.len() < 8 {
        becomes_valid(data, rewrite::module);
    }
}

/// The same of a component, with all that is in it.
pub fn component(data: &[u8]) {
    let data = data.get(..INPUT_MAX_BYTES).unwrap_or(data);
    becomes_valid(data, rewrite::program);
}

/// `pass` ends with bytes or an error; bytes that it makes of valid ones are valid.
fn becomes_valid(data: &[u8], pass: fn(&[u8]) -> vac_core::fault::Result<Vec<u8>>) {
    let rewritten = pass(data);
    if let (Ok(bytes), Ok(_)) = (rewritten, Validator::new().validate_all(data)) {
        let checked = Validator::new().validate_all(&bytes).map(drop);
        assert!(checked.is_ok(), "what was valid became invalid: {checked:?}");
    }
}

/// The same, and loops.
pub fn module_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds();
    all.push(wat::parse_str(LOOPS).expect("the seed is well formed"));
    all
}

/// Components that have modules, and each other.
pub fn component_seeds() -> Vec<Vec<u8>> {
    let nested = |text: &str| {
        let module = text.replacen("(module", "(core module $m", 1);
        let inner = format!("{module} (core instance (instantiate $m))");
        let outer = format!("(component (component $c {inner}) {inner} (instance (instantiate $c)))");
        wat::parse_str(&outer).expect("the seed is well formed")
    };
    [LOCALS, CONTROL, LOOPS].map(nested).to_vec()
}

/// Modules that throw and catch in every way.
pub fn legacy_seeds() -> Vec<Vec<u8>> {
    vec![wat::parse_str(THROWING).expect("the seed is well formed")]
}

/// Modules with floats that go everywhere.
pub fn seeds() -> Vec<Vec<u8>> {
    [LOCALS, CONTROL, VECTORS].map(|text| wat::parse_str(text).expect("the seed is well formed")).to_vec()
}

const THROWING: &str = r#"(module
  (tag $a) (tag $b (param i32 i32))
  (func $throw (param i32) (result i32)
    (if (local.get 0) (then (throw $a)))
    (throw $b (i32.const 40) (i32.const 2)))
  (func (export "f") (param i32) (result i32) (local i32)
    try $out (result i32)
      try (result i32)
        try (result i32)
          (call $throw (local.get 0))
        delegate $out
      catch $a
        i32.const 1
      catch $b
        i32.add
      catch_all
        rethrow 0
      end
    catch $b
      i32.sub
      (br_if $out (local.get 0))
    catch_all
      block $in
        try
          (br_table $in 0 (local.get 1))
        delegate 2
      end
      rethrow $out
    end))"#;

/// Loops whose turns are known before, and calls of all kinds.
const LOOPS: &str = r#"(module
  (memory 1 4) (table 4 funcref) (global $g (mut i32) (i32.const 0))
  (type $t (func (param i32) (result i32)))
  (elem (i32.const 0) $count $call)
  (func $count (type $t) (local i32)
    (loop $next
      (global.set $g (i32.add (global.get $g) (local.get 1)))
      (br_if $next (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 100))))
    (memory.fill (i32.const 0) (i32.const 7) (local.get 0))
    (memory.grow (local.get 1)))
  (func $call (type $t)
    (if (result i32) (local.get 0)
      (then (return_call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))
      (else (call $count (i32.const 3)))))
  (func $start (drop (call $call (i32.const 5))))
  (export "call" (func $call))
  (start $start))"#;

const LOCALS: &str = r#"(module
  (memory 1)
  (func (export "f") (param i32 f64) (result f64) (local f64 f64)
    (loop $next
      (local.set 2 (f64.add (local.get 2) (f64.mul (local.get 1) (f64.load (local.get 0)))))
      (if (f64.lt (local.get 2) (f64.const 0)) (then (local.set 3 (local.get 2))) (else (local.set 1 (local.get 2))))
      (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 8)))))
    (f64.store (local.get 0) (f64.neg (local.get 2)))
    (f64.copysign (local.get 3) (f64.sqrt (local.get 1)))))"#;

const CONTROL: &str = r#"(module
  (tag $e (param f32))
  (type $two (func (param f32 f32) (result f32 f32)))
  (func $g (param f32) (result f32)
    (block $h (result f32)
      (try_table (result f32) (catch $e $h)
        (throw $e (f32.add (local.get 0) (local.get 0))))))
  (func (export "f") (param f32 i32) (result f32) (local f32)
    (block $out (result f32)
      (f32.div (local.get 0) (local.get 2))
      (f32.mul (local.get 0) (local.get 2))
      (block (type $two) (br_if 0 (local.get 1)) (drop) (f32.const nan:0x200001))
      (br_table $out $out (f32.max (local.get 0)) (local.get 1)))
    (call $g)
    (select (f32.neg (local.get 0)) (local.get 1))))"#;

const VECTORS: &str = r#"(module
  (memory 1)
  (func (export "f") (param i32 v128) (result f64) (local v128 f32)
    (local.set 2 (f32x4.add (local.get 1) (v128.load (local.get 0))))
    (local.set 3 (f32x4.extract_lane 1 (f32x4.pmin (local.get 2) (local.get 1))))
    (v128.store (local.get 0) (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get 1) (local.get 2)))
    (local.set 1 (f32x4.replace_lane 2 (f64x2.neg (local.get 2)) (local.get 3)))
    (f64x2.extract_lane 0 (f64x2.relaxed_madd (local.get 2) (f64x2.promote_low_f32x4 (local.get 1)) (local.get 2)))))"#;

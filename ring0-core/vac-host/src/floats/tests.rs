//! A thread whose environment was changed runs guests as any other, and has its own environment afterwards.

use std::sync::Arc;

use super::{STANDARD, Word, read, write};
use crate::{Backend, Budget, Engine, Instance, NoRecorder, NoWatch, Profile, Setup, Val, load};

/// Environments that a library may leave behind: subnormals flushed, and the three other ways to round.
#[cfg(target_arch = "x86_64")]
const CHANGED: [Word; 4] = [STANDARD | 0x8040, STANDARD | 0x2000, STANDARD | 0x4000, STANDARD | 0x6000];
#[cfg(target_arch = "aarch64")]
const CHANGED: [Word; 4] = [1 << 24, 1 << 22, 2 << 22, 3 << 22];

/// Sums and products whose last bit depends on rounding, or that are subnormal; once with constants, which a
/// compiler may fold, and once with what it cannot know.
const GUEST: &str = r#"(module
    (func (export "folded") (result i64)
      (i64.add
        (i64.reinterpret_f64 (f64.div (f64.const 1) (f64.const 3)))
        (i64.reinterpret_f64 (f64.mul (f64.const 0x1p-1000) (f64.const -0x1p-50)))))
    (func (export "asked") (param f64) (result i64)
      (i64.add
        (i64.reinterpret_f64 (f64.div (local.get 0) (f64.const 3)))
        (i64.reinterpret_f64 (f64.mul (f64.mul (local.get 0) (f64.const 0x1p-1000)) (f64.const -0x1p-50)))))
    (func (export "single") (param f32) (result i32)
      (i32.add
        (i32.reinterpret_f32 (f32.sub (local.get 0) (f32.const 0x1p-30)))
        (i32.reinterpret_f32 (f32.mul (f32.mul (local.get 0) (f32.const 0x1p-100)) (f32.const 0x1p-40)))))
    (func (export "rounded") (param f64) (result i32) (i32.reinterpret_f32 (f32.demote_f64 (local.get 0)))))"#;

fn results(engine: &Engine) -> Vec<Vec<Val>> {
    let module = wat::parse_str(GUEST).unwrap();
    let compiled = Arc::new(engine.compile(&load::load(&module, "floats").unwrap(), None).unwrap());
    let budget = Budget { ticks_max: 1_000_000, watch: Arc::new(NoWatch) };
    let (started, _) =
        Instance::start(engine, Arc::clone(&compiled), Setup::default(), budget, Box::new(NoRecorder));
    let mut instance = started.unwrap();
    let calls = [
        ("folded", vec![]),
        ("asked", vec![Val::Float64(1.0)]),
        ("single", vec![Val::Float32(1.0)]),
        ("rounded", vec![Val::Float64(0.1)]),
    ];
    calls.iter().map(|(name, args)| instance.call(engine, name, args).unwrap()).collect()
}

#[test]
fn a_guest_does_not_see_the_floating_point_environment_of_its_host() {
    let expected = results(&Engine::new().unwrap());
    for changed in CHANGED {
        let before = read();
        write(changed);
        let found = results(&Engine::new().unwrap());
        let after = read();
        write(before);
        assert_eq!(found, expected, "{changed:x}");
        // Flags of exceptions that Rust code raised meanwhile do not count.
        assert_eq!(after & !0x3f, changed & !0x3f, "the host has its own environment again");
    }
}

#[test]
fn the_interpreter_does_not_see_it_either() {
    let expected = results(&Engine::new().unwrap());
    for changed in CHANGED {
        let before = read();
        write(changed);
        let found = results(&interpreter());
        write(before);
        assert_eq!(found, expected, "{changed:x}");
    }
}

fn interpreter() -> Engine {
    Engine::of(Profile::default(), Backend::Interpreter, crate::limits::WASM_STACK_BYTES).unwrap()
}

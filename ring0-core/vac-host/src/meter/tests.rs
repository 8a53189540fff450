//! The same ticks, results and ends on the compiler and on the interpreter, and what several counters do together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use vac_core::fault::{AbortKind, Error, HostAbort};
use wasmtime::component::Val;

use crate::engine::{Backend, Profile};
use crate::{Budget, Engine, Instance, NoRecorder, Setup, Watch, load};

fn start(engine: &Engine, bytes: &[u8], budget: Budget) -> (Result<Instance, Error>, u64) {
    let loaded = load::load(bytes, "a test").unwrap();
    let compiled = Arc::new(engine.compile(&loaded, None).unwrap());
    let (started, spent) = Instance::start(engine, compiled, Setup::default(), budget, Box::new(NoRecorder));
    (started, spent.ticks)
}

/// What one call gave or how it ended, and the ticks of all.
fn call(engine: &Engine, bytes: &[u8], export: &str, args: &[Val], budget: Budget) -> (String, u64) {
    let mut instance = start(engine, bytes, budget).0.unwrap();
    let gave = match instance.call(engine, export, args) {
        Ok(results) => format!("{results:?}"),
        Err(error) => error.to_string(),
    };
    (gave, instance.ticks())
}

/// The compiler and the interpreter.
fn engines() -> [Engine; 2] {
    let interpreter =
        Engine::with(Profile::Det2, &Backend::Interpreter.settings(Profile::Det2).unwrap(), |_| Ok(()))
            .unwrap();
    [Engine::new().unwrap(), interpreter]
}

#[test]
fn both_engines_give_the_same_results_after_the_same_ticks() {
    let bytes = include_bytes!("../../../../ring1-kernels/prebuilt/bench.wasm");
    let calls = [
        ("sieve", vec![Val::U64(20_000)]),
        ("sum-squares", vec![Val::U64(10_000)]),
        ("float-loop", vec![Val::U64(1_000)]),
        ("matmul-naive", vec![Val::U32(20)]),
        ("matmul-blocked", vec![Val::U32(64)]),
        ("sha256", vec![Val::U32(1 << 10), Val::U32(2)]),
        ("json", vec![Val::U32(2)]),
    ];
    let [compiler, interpreter] = engines();
    for (export, args) in calls {
        let [one, other] =
            [&compiler, &interpreter].map(|engine| call(engine, bytes, export, &args, Budget::default()));
        assert_eq!(one, other, "{export}");
        assert!(one.1 > 1_000, "{export}: {} ticks", one.1);
        // A limit that is just enough changes nothing, and one less ends both in one place.
        let limited = |engine: &Engine, ticks_max| {
            call(engine, bytes, export, &args, Budget { ticks_max, ..Budget::default() })
        };
        assert_eq!(limited(&compiler, one.1), one, "{export}");
        let half = [&compiler, &interpreter].map(|engine| limited(engine, one.1 / 2));
        assert_eq!(half[0], half[1], "{export}");
        assert!(half[0].0.contains("used up its"), "{export}: {}", half[0].0);
    }
}

#[test]
fn calls_are_too_deep_at_the_same_place_on_both_engines() {
    let text = r#"(component
        (core module $m
          (global $n (mut i32) (i32.const 0))
          (func $f (export "f") (param i32) (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (if (result i32) (i32.eqz (local.get 0))
              (then (global.get $n))
              (else (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))))))
        (core instance $i (instantiate $m))
        (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#;
    let bytes = wat::parse_str(text).unwrap();
    let [compiler, interpreter] = engines();
    let both = |n| {
        [&compiler, &interpreter].map(|engine| call(engine, &bytes, "f", &[Val::U32(n)], Budget::default()))
    };
    let shallow = both(5_000);
    assert_eq!(shallow[0], shallow[1]);
    assert!(shallow[0].0.contains("5001"), "{}", shallow[0].0);
    let deep = both(100_000_000);
    assert_eq!(deep[0], deep[1]);
    assert!(deep[0].0.contains("too deep"), "{}", deep[0].0);
}

/// What a function of the component's own `realloc` does is metered, too, though nothing may be called from there.
#[test]
fn a_loop_where_the_host_must_not_be_called_is_stopped() {
    let text = r#"(component
        (core module $m
          (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable)
          (func (export "f") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "f") (param "text" string) (canon lift (core func $i "f")
          (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;
    let bytes = wat::parse_str(text).unwrap();
    let budget = Budget { ticks_max: 10_000, ..Budget::default() };
    let (why, ticks) = call(&Engine::new().unwrap(), &bytes, "f", &[Val::String("x".into())], budget);
    assert!(why.contains("used up its 10000 ticks"), "{why}");
    assert!((10_001..20_000).contains(&ticks), "{ticks}");
}

struct Flag(AtomicBool);

impl Watch for Flag {
    fn stop(&self) -> Option<HostAbort> {
        self.0.load(SeqCst).then(|| HostAbort::new(AbortKind::Interrupt, "interrupted"))
    }
}

const ENDLESS: &str = r#"(component
    (core module $m (func (export "f") (loop (br 0))))
    (core instance $i (instantiate $m))
    (func (export "f") (canon lift (core func $i "f"))))"#;

#[test]
fn whoever_watches_stops_a_loop_and_nobody_else() {
    let engine = Engine::new().unwrap();
    let bytes = wat::parse_str(ENDLESS).unwrap();
    let watch = Arc::new(Flag(AtomicBool::new(false)));
    let budget = Budget { watch: Arc::<Flag>::clone(&watch), ..Budget::default() };
    let mut stopped = start(&engine, &bytes, budget).0.unwrap();
    // Another one, whose watch wants nothing, is stopped by its ticks alone.
    let other = Budget { ticks_max: 1_000_000, ..Budget::default() };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| stopped.call(&engine, "f", &[]).unwrap_err().to_string());
        let (why, _) = call(&engine, &bytes, "f", &[], other);
        assert!(why.contains("used up its 1000000 ticks"), "{why}");
        watch.0.store(true, SeqCst);
        assert_eq!(running.join().unwrap(), "interrupted");
    });
    assert!(stopped.ticks() > 0);
    // It is over: what is left of the limit helps nobody.
    assert!(stopped.call(&engine, "f", &[]).is_err());
}

/// `ticks > limit` stops: with the tick at which a run ended as a limit, it ends at the next look.
#[test]
fn a_limit_of_one_less_than_where_a_run_was_stopped_ends_it_there() {
    let engine = Engine::new().unwrap();
    let bytes = wat::parse_str(ENDLESS).unwrap();
    let stopped_at = |ticks_max| call(&engine, &bytes, "f", &[], Budget { ticks_max, ..Budget::default() }).1;
    for limit in [1_000, 1_001, 1_002, 1_003, 54_321] {
        let at = stopped_at(limit);
        assert!(at > limit);
        assert_eq!(stopped_at(at - 1), at);
        assert!(stopped_at(at) > at);
    }
}

/// A function that calls nothing and has no loop does not look at its limit; whoever called it does.
#[test]
fn calls_that_are_too_short_to_look_at_a_limit_are_limited_together() {
    let text = r#"(component
        (core module $m (func (export "f") (result i32) (i32.add (i32.const 1) (i32.const 2))))
        (core instance $i (instantiate $m))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    let bytes = wat::parse_str(text).unwrap();
    let engine = Engine::new().unwrap();
    let mut instance = start(&engine, &bytes, Budget { ticks_max: 100, ..Budget::default() }).0.unwrap();
    let calls = (0..100).take_while(|_| instance.call(&engine, "f", &[]).is_ok()).count();
    let one = instance.ticks() / (calls as u64 + 1);
    assert!(
        calls > 5 && one * calls as u64 <= 100 && instance.ticks() > 100,
        "{calls} calls, {one} ticks each"
    );
    let why = instance.call(&engine, "f", &[]).unwrap_err().to_string();
    assert!(why.contains("used up its 100 ticks"), "{why}");
}

//! Random guests: from one number, a small program that calls what the host offers in any order with any
//! arguments, good and bad, and tells what it was answered.
//!
//! A guest is a list of steps, each some instructions as text, so that it can be shown, and shrunk by leaving
//! steps out. Everything that the host answers is mixed into a number, written into a log, printed, branched on
//! and handed to later calls: whatever differs anywhere soon differs everywhere.
//!
//! - [`wasi01`]: core modules that import `wasi_snapshot_preview1`
//! - [`wasi02`]: components that import WASI 0.2 directly, with resources kept and dropped
//! - [`wasi03`]: components that import WASI 0.3, with streams, futures and tasks
//!
//! The first are run as commands, the others are called with typed arguments, several times in one instance.
//! What [`components`] have in common is in a module of its own.

use std::fmt::Write as _;

use crate::mutate::Random;

mod components;
mod wasi01;
mod wasi02;
mod wasi03;

/// Steps of one function, at most.
const STEPS_MAX: usize = 10;
/// Where a result of the host stands, and how long it may be.
const RESULT_AT: usize = 512;
const RESULT_MAX: usize = 512;
/// Slots for handles: for each type of resource four of four bytes.
const HELD_AT: usize = 2048;
/// Nothing but zeros: empty texts and lists, the first case of everything.
const ZEROS_AT: usize = 3200;
/// Texts, one after the other.
const TEXTS_AT: usize = 4096;
/// What a guest was answered, to be printed or returned.
const LOG_AT: usize = 32768;
const LOG_MAX: usize = 16384;

/// Texts that mean something to some function.
const TEXTS: [&str; 25] = [
    "",
    ".",
    "..",
    "a",
    "b",
    "sub",
    "sub/c",
    "link",
    "../outside",
    "/etc/passwd",
    "a/",
    "new",
    "new/x",
    "made",
    "a\\00b",
    "\\ff\\fe",
    "k",
    "value",
    "api.example.com",
    "GET",
    "content-type",
    "x\\0d\\0ay",
    "127.0.0.1:80",
    "127.0.0.1",
    "a very long name",
];

/// A random guest, before it is made into a program.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it imports.
    world: World,
    /// What it does while it starts, then in each of its functions.
    functions: Vec<Vec<Step>>,
    /// What its allocator does before it allocates.
    realloc: Vec<Step>,
}

/// What a guest imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// WASI 0.1.
    Modules,
    /// Files, streams, clocks, random.
    Files,
    /// HTTP, sockets, namespaces, configuration, logging.
    Net,
    /// WASI 0.3.
    Tasks,
}

/// A WASI of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// WASI 0.2.
    Two,
    /// WASI 0.3.
    Three,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Two => "WASI 0.2",
            Self::Three => "WASI 0.3",
        })
    }
}

/// Some instructions, which leave nothing on the stack, and the imported functions in them.
#[derive(Debug, Clone)]
struct Step {
    code: String,
    imports: Vec<usize>,
}

/// Functions of a guest that are not for its start.
pub const FUNCTIONS: usize = 2;

impl Plan {
    /// The guest of `random`.
    pub fn new(random: &mut Random) -> Self {
        let world = match random.below(10) {
            0 => World::Modules,
            1..=5 => World::Files,
            6 | 7 => World::Net,
            _ => World::Tasks,
        };
        Self::of(world, random)
    }

    /// A guest of WASI 0.3.
    pub fn tasks(random: &mut Random) -> Self {
        Self::of(World::Tasks, random)
    }

    /// A guest that makes so many requests by WASI 0.3; of each either the response is dropped or the call taken back.
    #[cfg(test)]
    pub(crate) fn requests(count: usize, are_taken_back: bool) -> Self {
        let step = wasi03::requests(count, are_taken_back);
        Self { world: World::Tasks, functions: vec![Vec::new(), vec![step], Vec::new()], realloc: Vec::new() }
    }

    fn of(world: World, random: &mut Random) -> Self {
        let mut steps = |most: usize| -> Vec<Step> {
            let count = random.below(most + 1);
            (0..count).map(|_| step(world, random, 2)).collect()
        };
        let mut functions = vec![steps(3)];
        functions.extend((0..FUNCTIONS).map(|_| steps(STEPS_MAX)));
        // What a component calls while it starts is rarely possible yet.
        let start_every = if world == World::Modules { 4 } else { 16 };
        let (start_at, realloc_at) = (random.below(start_every), random.below(40));
        if start_at != 0 {
            functions[0].clear();
        }
        let realloc = if realloc_at == 0 { vec![step(world, random, 0)] } else { Vec::new() };
        Self { world, functions, realloc }
    }

    /// Every function of these that components import, by its name in a record.
    pub fn functions(version: Version) -> Vec<String> {
        let worlds: &[World] = match version {
            Version::Two => &[World::Files, World::Net],
            Version::Three => &[World::Tasks],
        };
        worlds.iter().copied().flat_map(components::names).collect()
    }

    /// Which WASI it is a component of; none if it is a module.
    pub fn version(&self) -> Option<Version> {
        match self.world {
            World::Modules => None,
            World::Files | World::Net => Some(Version::Two),
            World::Tasks => Some(Version::Three),
        }
    }

    /// Whether it is run as a command; else its functions are called.
    pub fn is_command(&self) -> bool {
        self.world == World::Modules
    }

    /// The program as text: a core module.
    pub fn text(&self) -> String {
        match self.world {
            World::Modules => wasi01::text_of(self),
            world => components::text_of(world, self),
        }
    }

    /// The program.
    pub fn program(&self) -> Vec<u8> {
        let text = self.text();
        let module = wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        match self.world {
            World::Modules => module,
            world => components::component(world, module),
        }
    }

    /// All plans that are this one without one of its steps.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for (f, function) in self.functions.iter().enumerate() {
            for s in 0..function.len() {
                let mut less = self.clone();
                less.functions[f].remove(s);
                all.push(less);
            }
        }
        if !self.realloc.is_empty() {
            all.push(Self { realloc: Vec::new(), ..self.clone() });
        }
        all
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.functions.iter().flatten().chain(&self.realloc)
    }

    /// The imported functions that are called, each once.
    fn imports(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.steps().flat_map(|step| step.imports.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// One step; `depth` says how far steps may be inside of steps.
fn step(world: World, random: &mut Random, depth: usize) -> Step {
    let inner = |random: &mut Random| {
        let steps: Vec<Step> = (0..=random.below(2)).map(|_| step(world, random, depth - 1)).collect();
        let code: String = steps.iter().map(|step| step.code.as_str()).collect();
        (code, steps.into_iter().flat_map(|step| step.imports).collect::<Vec<_>>())
    };
    match random.below(24) {
        0 if depth > 0 => {
            let (code, imports) = inner(random);
            let (divisor, code2) = (2 + random.below(3), compute(random));
            let code = format!(
                "(if (i64.eqz (i64.rem_u (global.get $acc) (i64.const {divisor}))) (then {code}) (else {code2}))\n"
            );
            Step { code, imports }
        }
        1 if depth > 0 => {
            let ((code, imports), times, label) = (inner(random), 1 + random.below(4), random.below(1 << 30));
            let code = format!(
                "(global.set $n{depth} (i32.const {times})) (loop $l{label} {code} \
                 (global.set $n{depth} (i32.sub (global.get $n{depth}) (i32.const 1))) \
                 (br_if $l{label} (i32.gt_s (global.get $n{depth}) (i32.const 0))))\n"
            );
            Step { code, imports }
        }
        2..=5 => Step { code: compute(random), imports: Vec::new() },
        _ => match world {
            World::Modules => wasi01::call(random),
            World::Tasks => wasi03::call(random),
            world => wasi02::call(world, random),
        },
    }
}

/// Something that no function of the host is called for.
fn compute(random: &mut Random) -> String {
    let (bits, n) = (random.next_u64(), random.below(100));
    let payload = format!("(f64.reinterpret_i64 (i64.const {}))", bits | 0x7ff0_0000_0000_0001);
    let float =
        ["f64.add", "f64.sub", "f64.mul", "f64.div", "f64.min", "f64.max", "f64.copysign"][random.below(7)];
    let unary = ["sqrt", "ceil", "floor", "trunc", "nearest", "neg", "abs"][random.below(7)];
    let lanes =
        ["f32x4.add", "f64x2.div", "f32x4.mul", "f64x2.min", "f32x4.max", "i32x4.mul", "i16x8.q15mulr_sat_s"]
            [random.below(7)];
    let relaxed =
        ["f32x4.relaxed_min", "f64x2.relaxed_max", "i16x8.relaxed_q15mulr_s", "i8x16.relaxed_swizzle"]
            [random.below(4)];
    let acc = "(global.get $acc)";
    let code = match random.below(13) {
        0 => format!("(call $note (i64.reinterpret_f64 ({float} {payload} (f64.const {n}.5))))"),
        1 => format!("(call $note (i64.reinterpret_f64 ({float} (f64.reinterpret_i64 {acc}) {payload})))"),
        2 => format!("(call $note (i64.reinterpret_f64 (f64.{unary} {payload})))"),
        3 => format!(
            "(f32.store (i32.const 8) (f32.{unary} (f32.div (f32.reinterpret_i32 (i32.const {})) (f32.const 0)))) \
             (call $note (i64.load (i32.const 8)))",
            bits as i32
        ),
        4 => format!(
            "(call $note (i64x2.extract_lane {} ({lanes} (i64x2.splat {acc}) (v128.const i64x2 {} {n}))))",
            n % 2,
            bits as i64
        ),
        5 => format!(
            "(call $note (i64x2.extract_lane 1 ({relaxed} (i64x2.splat {acc}) (i64x2.splat (i64.const {})))))",
            bits as i64
        ),
        6 => format!("(call $note (i64.extend_i32_s (memory.grow (i32.const {}))))", random.below(40)),
        7 => format!(
            "(call $note (i64.extend_i32_s (table.grow (ref.null func) (i32.const {}))))",
            random.below(600)
        ),
        8 => format!("(call $note (call $deep (i32.const {})))", random.below(300)),
        9 => format!("(call $note (i64.extend_i32_s (call $caught (i32.const {}))))", random.below(12)),
        10 if random.below(20) == 0 => {
            format!("(call $note (call $deep (i32.const {})))", 1 << (random.below(24)))
        }
        11 if random.below(12) == 0 => trap(random).to_owned(),
        12 if random.below(24) == 0 => "(loop $for_ever (br $for_ever))".to_owned(),
        _ => format!("(call $note (call $sum (i32.const {})))", 1 + random.below(400)),
    };
    code + "\n"
}

fn trap(random: &mut Random) -> &'static str {
    [
        "unreachable",
        "(call $note (i64.div_u (i64.const 1) (i64.rem_u (global.get $acc) (i64.const 2))))",
        "(call $note (i64.load (i32.wrap_i64 (global.get $acc))))",
        "(call_indirect (i32.wrap_i64 (global.get $acc)))",
        "(call $note (i64.trunc_f64_s (f64.reinterpret_i64 (global.get $acc))))",
        "(throw $thrown (i32.const 5))",
    ][random.below(6)]
}

/// A number as an operand of type i32: small mostly.
fn number(random: &mut Random) -> String {
    let n = match random.below(16) {
        0 => return "(i32.wrap_i64 (global.get $acc))".to_owned(),
        1 => i32::MAX,
        2 => -1,
        3 => random.next_u64() as i32,
        4..=6 => 1 << random.below(20),
        n => n as i32 - 7,
    };
    format!("(i32.const {n})")
}

fn long(random: &mut Random) -> String {
    let n = match random.below(16) {
        0 => return "(global.get $acc)".to_owned(),
        1 => i64::MAX,
        2 => -1,
        3 => random.next_u64() as i64,
        4..=6 => 1 << random.below(32),
        n => n as i64 - 7,
    };
    format!("(i64.const {n})")
}

/// An address that may be written to; sometimes one that may not.
fn place(random: &mut Random) -> String {
    match random.below(200) {
        0 => format!("(i32.const {})", random.next_u64() as i32),
        1 => "(i32.const 65535)".to_owned(),
        2 => "(i32.const -1)".to_owned(),
        _ => format!("(i32.const {})", RESULT_AT + 8 * random.below(16)),
    }
}

/// Address and length of a text; sometimes of what is none.
fn text(random: &mut Random) -> [String; 2] {
    let (at, len) = text_at(random.below(TEXTS.len()));
    let pair = |at: usize, len: usize| [format!("(i32.const {at})"), format!("(i32.const {len})")];
    match random.below(160) {
        0 => [place(random), number(random)],
        1 => pair(at, 1 << random.below(32)),
        2 => pair(LOG_AT, random.below(300)),
        _ => pair(at, len),
    }
}

/// Where text `n` stands, and how long it is.
fn text_at(n: usize) -> (usize, usize) {
    let len = |text: &str| text.len() - 2 * text.matches('\\').count();
    (TEXTS_AT + TEXTS[..n].iter().map(|text| len(text)).sum::<usize>(), len(TEXTS[n]))
}

/// A handle that was given for resource type `ty`; sometimes one that nobody gave. `verb` says whether it is lent
/// (`held`) or given away (`take`).
fn handle(random: &mut Random, verb: &str, ty: usize) -> String {
    match random.below(150) {
        0 => number(random),
        1 => format!("(call $held (i32.const {}) (i32.const {}))", random.below(6), random.below(4)),
        _ => format!("(call ${verb} (i32.const {ty}) (i32.const {}))", random.below(4)),
    }
}

/// What every guest is made of besides its own functions. `alloc` is what the allocator does first.
fn prelude(alloc: &str) -> String {
    let mut data = String::new();
    TEXTS.iter().for_each(|text| data.push_str(text));
    let mut code = format!(
        r#"(memory (export "memory") 2)
(table 4 10000 funcref)
(tag $thrown (param i32))
(global $acc (mut i64) (i64.const 88172645463325252))
(global $log (mut i32) (i32.const 0))
(global $top (mut i32) (i32.const 65536))
(global $n1 (mut i32) (i32.const 0)) (global $n2 (mut i32) (i32.const 0))
(data (i32.const {TEXTS_AT}) "{data}")
"#
    );
    let _ = write!(
        code,
        r#"(func $note (param $n i64)
  (global.set $acc (i64.mul (i64.xor (i64.rotl (global.get $acc) (i64.const 23)) (local.get $n)) (i64.const 0x9e3779b97f4a7c15)))
  (if (i32.lt_u (global.get $log) (i32.const {LOG_MAX}))
    (then (i64.store offset={LOG_AT} (global.get $log) (local.get $n))
      (global.set $log (i32.add (global.get $log) (i32.const 8))))))
(func $peek (param $at i32) (param $len i32)
  (if (i32.and (i32.lt_u (local.get $at) (i32.const 131000)) (i32.gt_u (local.get $len) (i32.const 7)))
    (then (call $note (i64.load (local.get $at)))
      (if (i32.lt_u (i32.add (local.get $at) (local.get $len)) (i32.const 131072))
        (then (call $note (i64.load (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 8)))))))))
(func $heard (param $words i32) (local $at i32)
  (loop $word
    (call $note (i64.load offset={RESULT_AT} (local.get $at)))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (br_if $word (i32.lt_u (local.get $at) (i32.shl (local.get $words) (i32.const 3)))))
  (call $peek (i32.load offset={RESULT_AT} (i32.const 0)) (i32.load offset={RESULT_AT} (i32.const 4)))
  (call $peek (i32.load offset={RESULT_AT} (i32.const 4)) (i32.load offset={RESULT_AT} (i32.const 8)))
  (call $peek (i32.load offset={RESULT_AT} (i32.const 8)) (i32.load offset={RESULT_AT} (i32.const 12)))
  (memory.fill (i32.const {RESULT_AT}) (i32.const 0) (i32.const 64)))
(func $keep (param $ty i32) (param $handle i32)
  (memory.copy
    (i32.add (i32.const {HELD_AT}) (i32.add (i32.shl (local.get $ty) (i32.const 4)) (i32.const 4)))
    (i32.add (i32.const {HELD_AT}) (i32.shl (local.get $ty) (i32.const 4))) (i32.const 12))
  (i32.store offset={HELD_AT} (i32.shl (local.get $ty) (i32.const 4)) (local.get $handle)))
(func $slot (param $ty i32) (param $which i32) (result i32)
  (i32.load offset={HELD_AT}
    (i32.add (i32.shl (local.get $ty) (i32.const 4)) (i32.shl (local.get $which) (i32.const 2)))))
(func $held (param $ty i32) (param $which i32) (result i32) (local $i i32) (local $handle i32)
  (local.set $handle (call $slot (local.get $ty) (local.get $which)))
  (loop $other
    (if (local.get $handle) (then (return (local.get $handle))))
    (local.set $handle (call $slot (local.get $ty) (local.get $i)))
    (br_if $other (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
  (local.get $handle))
(func $count (param $ty i32) (result i32) (local $i i32)
  (loop $slot
    (if (i32.eqz (call $slot (local.get $ty) (local.get $i))) (then (return (local.get $i))))
    (br_if $slot (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
  (local.get $i))
(func $take (param $ty i32) (param $which i32) (result i32) (local $handle i32) (local $i i32)
  (local.set $handle (call $held (local.get $ty) (local.get $which)))
  (loop $slot
    (if (i32.eq (local.get $handle) (call $slot (local.get $ty) (local.get $i)))
      (then (i32.store offset={HELD_AT}
        (i32.add (i32.shl (local.get $ty) (i32.const 4)) (i32.shl (local.get $i) (i32.const 2))) (i32.const 0))))
    (br_if $slot (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
  (local.get $handle))
(func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
  {alloc}
  (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
  (global.set $top (i32.add (local.get $at) (local.get 3)))
  (block $fits
    (br_if $fits (i32.le_u (global.get $top) (i32.shl (memory.size) (i32.const 16))))
    (br_if $fits (i32.ne (i32.const -1) (memory.grow
      (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16))))))
    unreachable)
  (local.get $at))
"#
    );
    code
}

/// Functions that a guest has if it calls them: compiling takes most of the time.
const HELPERS: [(&str, &str); 4] = [
    (
        "$deep",
        "(func $deep (param $n i32) (result i64)
  (if (result i64) (i32.le_s (local.get $n) (i32.const 0))
    (then (global.get $acc))
    (else (i64.add (i64.extend_i32_s (local.get $n)) (call $deep (i32.sub (local.get $n) (i32.const 1)))))))",
    ),
    (
        "$caught",
        "(func $caught (param $n i32) (result i32)
  (block $here (result i32) (return (try_table (result i32) (catch $thrown $here) (call $throws (local.get $n))))))",
    ),
    (
        "$caught",
        "(func $throws (param $n i32) (result i32)
  (if (i32.gt_u (local.get $n) (i32.const 6)) (then (throw $thrown (local.get $n))))
  (i32.const -1))",
    ),
    (
        "$sum",
        "(func $sum (param $n i32) (result i64) (local $sum f64)
  (loop $again
    (local.set $sum
      (f64.add (local.get $sum) (f64.div (f64.convert_i64_s (global.get $acc)) (f64.convert_i32_s (local.get $n)))))
    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
  (i64.reinterpret_f64 (local.get $sum)))",
    ),
];

/// A module of these parts, with the helpers that they call.
fn module(parts: &str) -> String {
    let called = |name: &str| parts.contains(&format!("(call {name} "));
    let helpers: String = HELPERS.iter().filter(|(name, _)| called(name)).map(|(_, code)| *code).collect();
    format!("(module\n{parts}\n{helpers})")
}

/// The body of function `n` of a plan.
fn body(steps: &[Step]) -> String {
    steps.iter().map(|step| step.code.as_str()).collect()
}

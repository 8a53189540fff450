//! Guests of WASI 0.3. Besides calling functions, which may block or go on beside the guest, they make streams and
//! futures, read and write them, wait for that, give it up, hand ends to the host, and leave some of it behind.
//!
//! Handles of streams and futures are held like those of resources. Each type of them has six types of handles: the
//! readable and the writable end, each idle, busy with what has begun, or over. What is busy can only be waited for or
//! cancelled, and what is over only be dropped: all else would end the guest. It is tried, but seldom.

use std::fmt::Write as _;
use std::path::Path;

use wit_parser::abi::AbiVariant;
use wit_parser::{Resolve, Type, TypeDefKind, TypeId, WorldId};

use super::components::{self, CHAIN_MAX, Cooked, Fixed, Imports, core_type, exported, has, imports};
use super::{HELD_AT, LOG_AT, RESULT_AT, Step, TEXTS_AT, World, ZEROS_AT, body, handle, number, text};
use crate::mutate::Random;

/// Where an event stands.
const EVENT_AT: usize = 48;
/// Where what is read stands, and how long it may be.
const BUFFER_AT: usize = 49152;
const BUFFER_MAX: usize = 8192;
/// Values that are written, and arguments of functions with many: each has a place until another one gets it.
const VALUES_AT: usize = BUFFER_AT + BUFFER_MAX;
const VALUE_MAX: usize = 128;
const VALUES: usize = 64;
const _: () = assert!(VALUES_AT + VALUES * VALUE_MAX <= 65536);

/// The function by which a wait has an end.
const TIMER: &str = "wasi:clocks/monotonic-clock#wait-for";

/// A type of streams or futures.
pub(super) struct Carrier {
    is_stream: bool,
    payload: Option<Type>,
    /// The same for equal types only.
    key: String,
    /// The interface with a function that has it among its types, which one it is there, and the function.
    module: String,
    place: String,
}

/// A function of the canonical ABI.
pub(super) struct Builtin {
    module: String,
    name: String,
    id: String,
    ty: String,
}

impl Builtin {
    pub(super) fn import(&self) -> String {
        let Self { module, name, id, ty } = self;
        format!("(import \"{module}\" \"{name}\" (func ${id} {ty}))\n")
    }
}

/// What there is for a type of streams: what it is called here and there, and its core type. Those for futures have
/// no length.
const OF_CARRIERS: [(&str, &str, &str); 7] = [
    ("new", "[WORD-new-", "(result i64)"),
    ("read", "[async-lower][WORD-read-", "(param i32 i32 LEN) (result i32)"),
    ("write", "[async-lower][WORD-write-", "(param i32 i32 LEN) (result i32)"),
    ("cancel-read", "[WORD-cancel-read-", "(param i32) (result i32)"),
    ("cancel-write", "[WORD-cancel-write-", "(param i32) (result i32)"),
    ("drop-readable", "[WORD-drop-readable-", "(param i32)"),
    ("drop-writable", "[WORD-drop-writable-", "(param i32)"),
];

/// What there is for tasks. Those that start with a `:` belong to exported functions.
const OF_TASKS: [(&str, &str, &str); 14] = [
    ("set-new", "[waitable-set-new]", "(result i32)"),
    ("set-wait", "[waitable-set-wait]", "(param i32 i32) (result i32)"),
    ("set-poll", "[waitable-set-poll]", "(param i32 i32) (result i32)"),
    ("set-drop", "[waitable-set-drop]", "(param i32)"),
    ("join", "[waitable-join]", "(param i32 i32)"),
    ("subtask-drop", "[subtask-drop]", "(param i32)"),
    ("subtask-cancel", "[subtask-cancel]", "(param i32) (result i32)"),
    ("yield", "[thread-yield]", "(result i32)"),
    ("context-get", "[context-get-0]", "(result i32)"),
    ("context-set", "[context-set-0]", "(param i32)"),
    ("more-pressure", "[backpressure-inc]", ""),
    ("less-pressure", "[backpressure-dec]", ""),
    ("task-cancel", ":[task-cancel]", ""),
    ("task-return", ":[task-return]f1", "(param i32 i32)"),
];

/// Those that every guest has, for [`TASKS`].
const ALWAYS: [&str; 6] = ["set-new", "set-wait", "set-drop", "join", "subtask-drop", "subtask-cancel"];
/// Those that a function with a callback has.
const WITH_CALLBACK: [&str; 3] = ["context-get", "context-set", "task-return"];

/// The kernel that uses every function of WASI 0.3 has them in its world.
pub(super) fn world() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ring1-kernels/wasi3/wit");
    let (package, _) = resolve.push_dir(folder).expect("the WIT of the kernel");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    (resolve, world)
}

/// Adds what is imported for streams, futures and tasks.
pub(super) fn with_builtins(mut imports: Imports) -> Imports {
    imports.carriers = carriers(&imports);
    assert!(HELD_AT + 16 * (imports.sets() + 1) <= ZEROS_AT);
    let mut all = Vec::new();
    for (k, carrier) in imports.carriers.iter().enumerate() {
        let (word, len) = if carrier.is_stream { ("stream", "i32") } else { ("future", "") };
        all.extend(OF_CARRIERS.iter().map(|(id, name, ty)| Builtin {
            module: carrier.module.clone(),
            name: name.replace("WORD", word) + &carrier.place,
            id: format!("{id}{k}"),
            ty: ty.replace("LEN", len),
        }));
    }
    all.extend(OF_TASKS.iter().map(|(id, name, ty)| Builtin {
        module: if name.starts_with(':') { "[export]$root" } else { "$root" }.to_owned(),
        name: name.trim_start_matches(':').to_owned(),
        id: (*id).to_owned(),
        ty: (*ty).to_owned(),
    }));
    for (n, import) in imports.functions.iter().enumerate().filter(|(_, f)| f.function.kind.is_async()) {
        let signature = imports.resolve.wasm_signature(AbiVariant::GuestImportAsync, &import.function);
        all.push(Builtin {
            module: import.interface.clone(),
            name: format!("[async-lower]{}", import.function.name),
            id: format!("a{n}"),
            ty: core_type(&signature),
        });
    }
    imports.builtins = all;
    imports
}

/// Each type of streams and futures once.
fn carriers(imports: &Imports) -> Vec<Carrier> {
    let mut all: Vec<Carrier> = Vec::new();
    for import in &imports.functions {
        let types = import.function.find_futures_and_streams(&imports.resolve);
        for (n, id) in types.into_iter().enumerate() {
            let (is_stream, payload) = match &imports.resolve.types[id].kind {
                TypeDefKind::Stream(payload) => (true, *payload),
                TypeDefKind::Future(payload) => (false, *payload),
                other => panic!("{other:?} carries something"),
            };
            let key = key(&imports.resolve, &Type::Id(id));
            if all.iter().all(|known| known.key != key) {
                let (module, place) = (import.interface.clone(), format!("{n}]{}", import.function.name));
                all.push(Carrier { is_stream, payload, key, module, place });
            }
        }
    }
    all
}

/// A text for a type: the same for equal types only.
fn key(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
    let def = &resolve.types[*id];
    let of = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| key(resolve, ty));
    match &def.kind {
        TypeDefKind::Type(ty) => key(resolve, ty),
        TypeDefKind::Stream(payload) => format!("stream<{}>", of(payload)),
        TypeDefKind::Future(payload) => format!("future<{}>", of(payload)),
        TypeDefKind::Option(ty) => format!("option<{}>", key(resolve, ty)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", of(&result.ok), of(&result.err)),
        TypeDefKind::Handle(handle) => format!("{handle:?}"),
        _ => named(resolve, *id),
    }
}

/// Package and name of a type, like `sockets/error-code`.
fn named(resolve: &Resolve, id: TypeId) -> String {
    let def = &resolve.types[id];
    let interface = match def.owner {
        wit_parser::TypeOwner::Interface(owner) => resolve.id_of(owner).unwrap_or_default(),
        _ => String::new(),
    };
    let package = interface.split(['/', ':']).nth(1).unwrap_or_default();
    format!("{package}/{}", def.name.as_deref().unwrap_or_default())
}

/// An end of a stream or future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Readable,
    Writable,
}

impl End {
    fn any(random: &mut Random) -> Self {
        if random.below(2) == 0 { Self::Readable } else { Self::Writable }
    }

    fn verb(self) -> &'static str {
        if self == Self::Readable { "read" } else { "write" }
    }
}

// Types of handles.
impl Imports {
    fn carrier(&self, ty: &Type) -> usize {
        let key = key(&self.resolve, ty);
        self.carriers.iter().position(|carrier| carrier.key == key).expect("every type is listed")
    }

    /// The type of the readable ends of a stream or future.
    pub(super) fn readable(&self, ty: &Type) -> usize {
        self.idle(self.carrier(ty), End::Readable)
    }

    fn idle(&self, k: usize, end: End) -> usize {
        self.resources.len() + 2 * k + usize::from(end == End::Writable)
    }

    fn busy(&self, k: usize, end: End) -> usize {
        self.idle(k, end) + 2 * self.carriers.len()
    }

    fn over(&self, k: usize, end: End) -> usize {
        self.idle(k, end) + 4 * self.carriers.len()
    }

    fn subtasks(&self) -> usize {
        self.resources.len() + 6 * self.carriers.len()
    }

    fn sets(&self) -> usize {
        self.subtasks() + 1
    }

    /// The import that is called `id` here.
    fn builtin(&self, id: &str) -> usize {
        let n = self.builtins.iter().position(|builtin| builtin.id == id);
        self.functions.len() + self.resources.len() + n.unwrap_or_else(|| panic!("no `{id}`"))
    }

    /// What a guest imports whatever it does.
    pub(super) fn always(&self, plan: &super::Plan) -> Vec<usize> {
        if plan.world != World::Tasks {
            return Vec::new();
        }
        let timer = format!("a{}", self.timer());
        ALWAYS
            .iter()
            .chain(&WITH_CALLBACK)
            .copied()
            .chain([timer.as_str()])
            .map(|id| self.builtin(id))
            .collect()
    }

    fn timer(&self) -> usize {
        let name = components::names(World::Tasks).iter().position(|name| name == TIMER);
        name.expect("there is a function to wait")
    }
}

// What is done with streams and futures.
impl Imports {
    /// A readable end as an operand: of one that the guest makes, whose writable end it keeps, or one that it has.
    pub(super) fn carried(&self, ty: &Type, random: &mut Random, used: &mut Vec<usize>) -> String {
        let k = self.carrier(ty);
        let is_stream = self.carriers[k].is_stream;
        let made = self.made(k, used);
        // A future that nothing is written to keeps its reader waiting for ever.
        let written = match random.below(12) {
            0 => String::new(),
            1..=7 if is_stream => String::new(),
            _ => self.copy(k, End::Writable, 0, random, used),
        };
        let own = format!("(block (result i32) {made} {written} (i32.wrap_i64 (global.get $ends)))");
        match random.below(8) {
            0 => {
                let ty = self.idle(k, End::Readable);
                let has = has(ty);
                let given = handle(random, "take", ty);
                format!("(if (result i32) {has} (then {given}) (else {own}))")
            }
            _ => own,
        }
    }

    /// Makes a stream or future, and keeps its writable end.
    fn made(&self, k: usize, used: &mut Vec<usize>) -> String {
        used.push(self.builtin(&format!("new{k}")));
        format!(
            "(global.set $ends (call $new{k})) \
             (call $keep (i32.const {}) (i32.wrap_i64 (i64.shr_u (global.get $ends) (i64.const 32))))",
            self.idle(k, End::Writable)
        )
    }

    /// Begins to read or write, if there is an end to do so.
    fn copy(&self, k: usize, end: End, which: usize, random: &mut Random, used: &mut Vec<usize>) -> String {
        let (ty, verb) = (self.idle(k, end), end.verb());
        used.push(self.builtin(&format!("{verb}{k}")));
        let (before, [at, len]) = match end {
            End::Readable => {
                (format!("(memory.fill (i32.const {BUFFER_AT}) (i32.const 0) (i32.const 64))"), room(random))
            }
            End::Writable => self.value(k, random, used),
        };
        let len = if self.carriers[k].is_stream { len } else { String::new() };
        format!(
            "(if {has} (then {before} (global.set $end (call $take (i32.const {ty}) (i32.const {which}))) \
             (global.set $got (call ${verb}{k} (global.get $end) {at} {len})) \
             (call $copied (i32.const {ty}) (i32.const {is_future}) (global.get $end) (global.get $got))) \
             (else (global.set $end (i32.const 0)) (global.set $got (i32.const 0))))",
            has = has(ty),
            is_future = u8::from(!self.carriers[k].is_stream),
        )
    }

    /// Something to write, after it was stored: where it is, and how many items that are.
    fn value(&self, k: usize, random: &mut Random, used: &mut Vec<usize>) -> (String, [String; 2]) {
        let constant = |n: usize| format!("(i32.const {n})");
        let Some(payload) = self.carriers[k].payload else {
            return (String::new(), [constant(0), constant(random.below(4))]);
        };
        if payload == Type::U8 {
            let most = 1 << random.below(17);
            return match random.below(4) {
                0 => (String::new(), text(random)),
                1 => (String::new(), [constant(TEXTS_AT), constant(random.below(most))]),
                _ => (String::new(), [constant(TEXTS_AT), constant(random.below(100))]),
            };
        }
        let (at, mut code) = (slot(random), String::new());
        self.store(&payload, at, random, &mut code, used);
        (code, [constant(at), constant(usize::from(random.below(8) != 0))])
    }

    /// After [`Imports::copy`]: goes on without what has begun, waits for it or takes it back. Then tells what was read.
    fn after(&self, k: usize, end: End, random: &mut Random, used: &mut Vec<usize>) -> String {
        let verb = end.verb();
        let then = match random.below(8) {
            0 | 1 => String::new(),
            2 => {
                used.push(self.builtin(&format!("cancel-{verb}{k}")));
                format!(
                    "(global.set $got (call $cancel-{verb}{k} (global.get $end))) \
                     (call $settle (i32.const {}) (global.get $end) (global.get $got))",
                    u8::from(!self.carriers[k].is_stream)
                )
            }
            _ => format!("(global.set $got {})", awaited("(global.get $end)", random)),
        };
        let mut code = format!("(if {} (then {then}))", is_begun());
        if end == End::Readable {
            let _ = write!(code, "(if (i32.eqz {}) (then {}))", is_begun(), self.contents(k));
        }
        code
    }

    /// Tells what was read, and keeps the handles in it.
    fn contents(&self, k: usize) -> String {
        let at = format!("(i32.const {BUFFER_AT})");
        let mut code = String::new();
        if let Some(payload) = &self.carriers[k].payload {
            self.given(payload, &at, 0, &mut code);
        }
        let enough = "(i32.ge_u (global.get $got) (i32.const 16))";
        let kept = if self.carriers[k].is_stream && !code.is_empty() {
            format!("(if {enough} (then {code}))")
        } else {
            code
        };
        format!("{kept} (call $note (i64.load {at})) (call $peek {at} (i32.const 64))")
    }

    /// Both ends in the guest's hands: written and read in either order.
    fn pair(&self, random: &mut Random) -> Step {
        // What is no number cannot go from a guest to itself.
        let of_numbers = |k: &usize| self.carriers[*k].payload.is_none_or(|payload| payload == Type::U8);
        let all: Vec<usize> = (0..self.carriers.len()).filter(of_numbers).collect();
        let k = if random.below(8) == 0 {
            random.below(self.carriers.len())
        } else {
            all[random.below(all.len())]
        };
        let mut used = Vec::new();
        let readable = self.idle(k, End::Readable);
        let mut code = self.made(k, &mut used);
        let _ = write!(code, "(call $keep (i32.const {readable}) (i32.wrap_i64 (global.get $ends)))");
        let first = End::any(random);
        let second = if first == End::Readable { End::Writable } else { End::Readable };
        for end in [first, second] {
            code.push_str(&self.copy(k, end, 0, random, &mut used));
        }
        let from = self.busy(k, End::Readable);
        code.push_str(&waited(from, from + 2, random));
        for end in [End::any(random), End::any(random)] {
            code.push_str(&self.dropped(k, end, random, &mut used));
        }
        Step { code: code + "\n", imports: used }
    }

    /// Drops an end.
    fn dropped(&self, k: usize, end: End, random: &mut Random, used: &mut Vec<usize>) -> String {
        let verb = if end == End::Readable { "drop-readable" } else { "drop-writable" };
        used.push(self.builtin(&format!("{verb}{k}")));
        // The engine ends a guest that drops a future's end before anything was written.
        let is_idle = self.carriers[k].is_stream || end == End::Readable;
        let ty = match random.below(40) {
            0 => self.busy(k, end),
            1 => self.idle(k, end),
            2..=19 if is_idle => self.idle(k, end),
            _ => self.over(k, end),
        };
        format!("(if {} (then (call ${verb}{k} {})))", has(ty), handle(random, "take", ty))
    }

    /// Takes back what has begun.
    fn cancelled(&self, k: usize, end: End, random: &mut Random, used: &mut Vec<usize>) -> String {
        let (ty, verb) = (self.busy(k, end), end.verb());
        used.push(self.builtin(&format!("cancel-{verb}{k}")));
        format!(
            "(if {} (then (global.set $end {}) (call $copied (i32.const {}) (i32.const {}) (global.get $end) \
             (call $cancel-{verb}{k} (global.get $end)))))",
            has(ty),
            handle(random, "take", ty),
            self.idle(k, end),
            u8::from(!self.carriers[k].is_stream),
        )
    }
}

/// Where something may be read to, and how much.
fn room(random: &mut Random) -> [String; 2] {
    let at = format!("(i32.const {BUFFER_AT})");
    match random.below(60) {
        0 => [number(random), number(random)],
        1..=6 => [at, "(i32.const 0)".to_owned()],
        7..=19 => [at, "(i32.const 1)".to_owned()],
        _ => [at, format!("(i32.const {})", random.below(300))],
    }
}

fn slot(random: &mut Random) -> usize {
    VALUES_AT + VALUE_MAX * random.below(VALUES)
}

/// Whether what was tried last goes on.
fn is_begun() -> &'static str {
    "(i32.and (i32.eq (global.get $got) (i32.const -1)) (i32.ne (global.get $end) (i32.const 0)))"
}

/// Waits for a handle, mostly not for ever.
fn awaited(handle: &str, random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("(call $await {handle})"),
        _ => format!("(call $await-for {handle} (i64.const {}))", 1_u64 << random.below(40)),
    }
}

/// Waits for one of the handles of these types, if there is any.
fn waited(from: usize, to: usize, random: &mut Random) -> String {
    let awaited = awaited("(global.get $end)", random);
    format!(
        "(global.set $end (call $any (i32.const {}) (i32.const {}))) \
         (if (global.get $end) (then (call $note (i64.extend_i32_s {awaited}))))",
        HELD_AT + 16 * from,
        HELD_AT + 16 * to,
    )
}

// Tasks.
impl Imports {
    /// Adds a call of function `n` that does not wait for it.
    fn begin(&self, n: usize, random: &mut Random, step: &mut Step) {
        let function = &self.functions[n].function;
        let signature = self.resolve.wasm_signature(AbiVariant::GuestImportAsync, function);
        self.prepare(n, random, CHAIN_MAX, step);
        let mut code = String::new();
        let mut args = match signature.indirect_params {
            false => self.arguments(n, &[], random, &mut step.imports),
            true => {
                let at = slot(random);
                let types: Vec<Type> = function.params.iter().map(|param| param.ty).collect();
                for (offset, ty) in self.sizes.field_offsets(&types) {
                    self.store(ty, at + offset.size_wasm32(), random, &mut code, &mut step.imports);
                }
                vec![format!("(i32.const {at})")]
            }
        };
        if signature.retptr {
            args.push(format!("(i32.const {RESULT_AT})"));
        }
        let _ = write!(
            code,
            "(global.set $got (call $a{n} {})) (call $note (i64.extend_i32_u (global.get $got))) \
             (global.set $end (i32.shr_u (global.get $got) (i32.const 4)))",
            args.join(" ")
        );
        let kept = format!("(call $keep (i32.const {}) (global.get $end))", self.subtasks());
        let then = match random.below(6) {
            0 | 1 => kept,
            2 => "(call $note (i64.extend_i32_u (call $subtask-cancel (global.get $end)))) \
                  (call $subtask-drop (global.get $end))"
                .to_owned(),
            _ => format!(
                "(global.set $got {}) (if (i32.eq (global.get $got) (i32.const -1)) (then {kept}))",
                awaited("(global.get $end)", random)
            ),
        };
        let _ = write!(code, "(if (global.get $end) (then {then}))");
        if let Some(ty) = &function.result {
            let heard = self.heard_there(ty);
            let _ = write!(
                code,
                "(if (i32.eq (i32.and (global.get $got) (i32.const 15)) (i32.const 2)) (then {heard}))"
            );
        }
        step.code.push_str(&self.guarded(n, code));
        step.imports.push(self.builtin(&format!("a{n}")));
    }

    /// Something that is done with tasks and with sets of what is waited for.
    fn task(&self, random: &mut Random) -> Step {
        let mut used = Vec::new();
        let mut call = |id: &str, args: &str| {
            used.push(self.builtin(id));
            format!("(call ${id} {args})")
        };
        let code = match random.below(64) {
            0 => call("task-cancel", ""),
            1..=6 => noted(&call("context-get", "")),
            7..=10 => call("context-set", &number(random)),
            11..=20 => noted(&call("yield", "")),
            21..=24 => {
                let [more, less] = [call("more-pressure", ""), call("less-pressure", "")];
                more + &noted(&call("yield", "")) + &less
            }
            25..=28 => format!("(call $keep (i32.const {}) {})", self.sets(), call("set-new", "")),
            29..=38 => self.with_set(random, &mut call),
            39..=46 => {
                let polled = call("set-poll", &format!("(global.get $set) (i32.const {EVENT_AT})"));
                let any = self.any_begun();
                let event = noted("(call $event (global.get $got))");
                format!(
                    "{any} (if (global.get $end) (then (global.set $set (call $set-new)) \
                     (call $join (global.get $end) (global.get $set)) (global.set $got {polled}) \
                     (call $join (global.get $end) (i32.const 0)) (call $set-drop (global.get $set)) {event}))"
                )
            }
            47..=52 => {
                let (has, taken) = (has(self.subtasks()), handle(random, "take", self.subtasks()));
                let cancelled = noted(&call("subtask-cancel", "(global.get $end)"));
                format!(
                    "(if {has} (then (global.set $end {taken}) {cancelled} (call $subtask-drop (global.get $end))))"
                )
            }
            _ => self.waited_for_any(random),
        };
        Step { code: code + "\n", imports: used }
    }

    /// Drops a set that is held, looks into it, or puts something into it that stays there.
    fn with_set(&self, random: &mut Random, call: &mut impl FnMut(&str, &str) -> String) -> String {
        let has = has(self.sets());
        let code = match random.below(5) {
            0 | 1 => call("set-drop", &handle(random, "take", self.sets())),
            2 | 3 => {
                let set = handle(random, "held", self.sets());
                let polled = call("set-poll", &format!("{set} (i32.const {EVENT_AT})"));
                noted(&format!("(call $event {polled})"))
            }
            _ => {
                let set = handle(random, "held", self.sets());
                let joined = call("join", &format!("(global.get $end) {set}"));
                format!("{} (if (global.get $end) (then {joined}))", self.any_begun())
            }
        };
        format!("(if {has} (then {code}))")
    }

    /// Sets `$end` to something that has begun, if there is any.
    fn any_begun(&self) -> String {
        let (from, to) = (self.busy(0, End::Readable), self.subtasks() + 1);
        format!(
            "(global.set $end (call $any (i32.const {}) (i32.const {})))",
            HELD_AT + 16 * from,
            HELD_AT + 16 * to
        )
    }
}

fn noted(code: &str) -> String {
    format!("(call $note (i64.extend_i32_u {code}))")
}

/// The functions of a guest, and what they have in common.
impl Imports {
    pub(super) fn tasks(&self, functions: &[Vec<Step>]) -> String {
        let [one, two] = functions else { panic!("there are two functions") };
        let (first, rest) = two.split_at(two.len() / 2);
        let (second, third) = rest.split_at(rest.len() - rest.len() / 3);
        let carriers = self.carriers.len();
        let (busy, subtasks) = (self.resources.len() + 2 * carriers, self.subtasks());
        let common = TASKS
            .replace("EVENT_AT", &EVENT_AT.to_string())
            .replace("HELD_AT", &HELD_AT.to_string())
            .replace("SUBTASKS", &subtasks.to_string())
            .replace("TO_BUSY", &(2 * carriers).to_string())
            .replace("TO_OVER", &(4 * carriers).to_string())
            .replace("BUSY_END", &(busy + 2 * carriers).to_string())
            .replace("BUSY", &busy.to_string())
            .replace("TIMER", &format!("$a{}", self.timer()));
        let ready = format!("{} (if (global.get $end) (then (return (call $waiting))))", self.any_begun());
        let callback = format!(
            r#"(func (export "[async-lift]f1") (param $n i32) (param $at i32) (param $len i32) (result i32)
  (call $note (i64.extend_i32_u (local.get $n)))
  (call $peek (local.get $at) (local.get $len))
  {}
  (call $context-set (i32.const 1))
  {ready}
  (i32.const 1))
(func (export "[callback][async-lift]f1") (param $code i32) (param $handle i32) (param $payload i32) (result i32)
  (i32.store (i32.const {EVENT_AT}) (local.get $handle)) (i32.store offset=4 (i32.const {EVENT_AT}) (local.get $payload))
  (if (local.get $code) (then (call $join (local.get $handle) (i32.const 0))))
  (drop (call $event (local.get $code)))
  (if (i32.eq (call $context-get) (i32.const 2)) (then {} (return (i32.const 0))))
  {}
  (call $context-set (i32.const 2))
  (call $task-return (i32.const {LOG_AT}) (global.get $log))
  (i32.const 1))
"#,
            body(first),
            body(third),
            body(second),
        );
        common + &exported(0, &body(one)) + &callback
    }
}

/// What keeps account of ends and tasks. An event stands at EVENT_AT: the handle, and what came of it.
const TASKS: &str = r#"
(global $ends (mut i64) (i64.const 0)) (global $end (mut i32) (i32.const 0))
(global $got (mut i32) (i32.const 0)) (global $set (mut i32) (i32.const 0))
(func $any (param $from i32) (param $to i32) (result i32)
  (loop $next
    (if (i32.load (local.get $from)) (then (return (i32.load (local.get $from)))))
    (br_if $next (i32.lt_u (local.tee $from (i32.add (local.get $from) (i32.const 4))) (local.get $to))))
  (i32.const 0))
(func $forget (param $ty i32) (param $handle i32) (result i32) (local $i i32)
  (loop $slot
    (if (i32.eq (call $slot (local.get $ty) (local.get $i)) (local.get $handle))
      (then
        (i32.store offset=HELD_AT
          (i32.add (i32.shl (local.get $ty) (i32.const 4)) (i32.shl (local.get $i) (i32.const 2))) (i32.const 0))
        (return (i32.const 1))))
    (br_if $slot (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
  (i32.const 0))
(func $copied (param $ty i32) (param $is_future i32) (param $handle i32) (param $result i32)
  (local $how i32)
  (call $note (i64.extend_i32_s (local.get $result)))
  (local.set $how (i32.and (local.get $result) (i32.const 15)))
  (if (i32.eq (local.get $result) (i32.const -1))
    (then (local.set $ty (i32.add (local.get $ty) (i32.const TO_BUSY))))
    (else (if (select (i32.ne (local.get $how) (i32.const 2)) (i32.eq (local.get $how) (i32.const 1)) (local.get $is_future))
      (then (local.set $ty (i32.add (local.get $ty) (i32.const TO_OVER)))))))
  (call $keep (local.get $ty) (local.get $handle)))
(func $settle (param $is_future i32) (param $handle i32) (param $result i32) (local $ty i32)
  (local.set $ty (i32.const BUSY))
  (loop $next
    (if (call $forget (local.get $ty) (local.get $handle))
      (then
        (call $copied (i32.sub (local.get $ty) (i32.const TO_BUSY)) (local.get $is_future) (local.get $handle) (local.get $result))
        (return)))
    (br_if $next (i32.lt_u (local.tee $ty (i32.add (local.get $ty) (i32.const 1))) (i32.const BUSY_END)))))
(func $event (param $code i32) (result i32) (local $handle i32) (local $payload i32)
  (local.set $handle (i32.load (i32.const EVENT_AT)))
  (local.set $payload (i32.load offset=4 (i32.const EVENT_AT)))
  (call $note (i64.extend_i32_u (local.get $code)))
  (call $note (i64.load (i32.const EVENT_AT)))
  (if (i32.and (i32.eq (local.get $code) (i32.const 1)) (i32.gt_u (local.get $payload) (i32.const 1)))
    (then
      (drop (call $forget (i32.const SUBTASKS) (local.get $handle)))
      (call $subtask-drop (local.get $handle))))
  (if (i32.lt_u (i32.sub (local.get $code) (i32.const 2)) (i32.const 4))
    (then (call $settle (i32.gt_u (local.get $code) (i32.const 3)) (local.get $handle) (local.get $payload))))
  (local.get $payload))
(func $await (param $handle i32) (result i32) (local $set i32) (local $code i32)
  (local.set $set (call $set-new))
  (call $join (local.get $handle) (local.get $set))
  (local.set $code (call $set-wait (local.get $set) (i32.const EVENT_AT)))
  (call $join (local.get $handle) (i32.const 0))
  (call $set-drop (local.get $set))
  (call $event (local.get $code)))
(func $await-for (param $handle i32) (param $ns i64) (result i32) (local $set i32) (local $code i32) (local $timer i32)
  (local.set $timer (i32.shr_u (call TIMER (local.get $ns)) (i32.const 4)))
  (local.set $set (call $set-new))
  (call $join (local.get $handle) (local.get $set))
  (call $join (local.get $timer) (local.get $set))
  (local.set $code (call $set-wait (local.get $set) (i32.const EVENT_AT)))
  (call $join (local.get $handle) (i32.const 0))
  (call $join (local.get $timer) (i32.const 0))
  (call $set-drop (local.get $set))
  (if (i32.eq (i32.load (i32.const EVENT_AT)) (local.get $timer))
    (then (call $subtask-drop (local.get $timer)) (return (i32.const -1))))
  (drop (call $subtask-cancel (local.get $timer)))
  (call $subtask-drop (local.get $timer))
  (call $event (local.get $code)))
(func $waiting (result i32) (local $timer i32)
  (local.set $timer (i32.shr_u (call TIMER (i64.const 5000)) (i32.const 4)))
  (call $keep (i32.const SUBTASKS) (local.get $timer))
  (global.set $set (call $set-new))
  (call $join (global.get $end) (global.get $set))
  (call $join (local.get $timer) (global.get $set))
  (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
"#;

impl Imports {
    /// What a recipe does besides calling functions: `read`, `write` or `close` a stream or future, `begin` a function,
    /// `wait` for what has begun.
    pub(super) fn act(&self, what: &str, random: &mut Random, step: &mut Step) {
        let (verb, of) = what.split_once(' ').unwrap_or((what, ""));
        if verb == "begin" {
            let n = components::names(World::Tasks).iter().position(|name| name == of);
            return self.begin(n.unwrap_or_else(|| panic!("no `{of}`")), random, step);
        }
        if verb == "wait" {
            return step.code.push_str(&self.waited_for_any(random));
        }
        let k = self.carriers.iter().position(|carrier| carrier.key == of);
        let k = k.unwrap_or_else(|| panic!("nothing carries `{of}`"));
        let used = &mut step.imports;
        let code = match verb {
            "read" => {
                self.copy(k, End::Readable, 0, random, used) + &self.after(k, End::Readable, random, used)
            }
            "write" => {
                self.copy(k, End::Writable, 0, random, used) + &self.after(k, End::Writable, random, used)
            }
            "close" => self.closed(k, used),
            _ => panic!("a recipe that says `{what}`"),
        };
        step.code.push_str(&code);
    }

    fn waited_for_any(&self, random: &mut Random) -> String {
        waited(self.busy(0, End::Readable), self.subtasks() + 1, random)
    }

    /// Drops the writable end that was made last.
    fn closed(&self, k: usize, used: &mut Vec<usize>) -> String {
        used.push(self.builtin(&format!("drop-writable{k}")));
        let ty = self.idle(k, End::Writable);
        format!(
            "(if {} (then (call $drop-writable{k} (call $take (i32.const {ty}) (i32.const 0)))))",
            has(ty)
        )
    }
}

const FILE_DONE: &str = "read future<result<_, filesystem/error-code>>";
const HTTP_DONE: &str = "read future<result<_, http/error-code>>";

/// Calls that chance hardly ever makes in this order and with these arguments.
const RECIPES: [&[Cooked]; 6] = [
    // A file is read.
    &[
        ("wasi:filesystem/preopens#get-directories", &[]),
        (
            "wasi:filesystem/types#[method]descriptor.open-at",
            &[(1, Fixed::Bits(0)), (2, Fixed::Text("a")), (3, Fixed::Bits(0)), (4, Fixed::Bits(1))],
        ),
        (
            "wasi:filesystem/types#[method]descriptor.read-via-stream",
            &[(0, Fixed::Newest), (1, Fixed::Long(0))],
        ),
        ("read stream<u8>", &[]),
        ("read stream<u8>", &[]),
        (FILE_DONE, &[]),
    ],
    // A file is written.
    &[
        ("wasi:filesystem/preopens#get-directories", &[]),
        (
            "wasi:filesystem/types#[method]descriptor.open-at",
            &[(1, Fixed::Bits(0)), (2, Fixed::Text("new")), (3, Fixed::Bits(1)), (4, Fixed::Bits(2))],
        ),
        ("wasi:filesystem/types#[method]descriptor.write-via-stream", &[(0, Fixed::Newest)]),
        ("write stream<u8>", &[]),
        ("write stream<u8>", &[]),
        ("close stream<u8>", &[]),
        (FILE_DONE, &[]),
    ],
    &[
        ("wasi:filesystem/preopens#get-directories", &[]),
        ("wasi:filesystem/types#[method]descriptor.read-directory", &[]),
        ("read stream<filesystem/directory-entry>", &[]),
        ("read stream<filesystem/directory-entry>", &[]),
        (FILE_DONE, &[]),
    ],
    // What the host gives goes back to it.
    &[
        ("wasi:cli/stdin#read-via-stream", &[]),
        ("wasi:cli/stdout#write-via-stream", &[(0, Fixed::Newest)]),
        ("read future<result<_, cli/error-code>>", &[]),
        ("read future<result<_, cli/error-code>>", &[]),
    ],
    // A request without a body.
    &[
        ("wasi:http/types#[constructor]fields", &[]),
        ("wasi:http/types#[static]request.new", &[(1, Fixed::None)]),
        (
            "wasi:http/types#[method]request.set-authority",
            &[(0, Fixed::Newest), (1, Fixed::Some("api.example.com"))],
        ),
        ("wasi:http/client#send", &[(0, Fixed::Newest)]),
        ("wasi:http/types#[method]response.get-status-code", &[]),
        ("wasi:http/types#[method]response.get-headers", &[]),
        ("wasi:http/types#[static]response.consume-body", &[]),
        ("read stream<u8>", &[]),
        (HTTP_DONE, &[]),
    ],
    // One that may have a body, which is written while it is sent.
    &[
        ("wasi:http/types#[constructor]fields", &[]),
        ("wasi:http/types#[static]request.new", &[]),
        (
            "wasi:http/types#[method]request.set-authority",
            &[(0, Fixed::Newest), (1, Fixed::Some("api.example.com"))],
        ),
        ("begin wasi:http/client#send", &[]),
        ("write stream<u8>", &[]),
        ("close stream<u8>", &[]),
        ("wait", &[]),
        ("wasi:http/types#[static]response.consume-body", &[]),
        ("read stream<u8>", &[]),
        (HTTP_DONE, &[]),
    ],
];

/// Any step.
pub(super) fn call(random: &mut Random) -> Step {
    let imports = imports(World::Tasks);
    let mut step = Step { code: String::new(), imports: Vec::new() };
    let k = random.below(imports.carriers.len());
    // Most streams are of bytes.
    let k = if random.below(3) == 0 { imports.carrier_of_bytes() } else { k };
    let end = End::any(random);
    match random.below(32) {
        0..=2 => return components::recipe(World::Tasks, &RECIPES, random),
        3 => return components::drop_resource(World::Tasks, random),
        4 => return imports.pair(random),
        5..=7 => return imports.task(random),
        8 | 9 => step.code = imports.dropped(k, end, random, &mut step.imports),
        10 => step.code = imports.cancelled(k, end, random, &mut step.imports),
        11..=16 => {
            match end {
                End::Readable => imports.provide(imports.idle(k, end), random, CHAIN_MAX, &mut step),
                End::Writable => imports.hand_over(k, random, &mut step),
            }
            let which = random.below(4);
            let copied = imports.copy(k, end, which, random, &mut step.imports);
            let after = imports.after(k, end, random, &mut step.imports);
            step.code.push_str(&(copied + &after));
        }
        n => {
            let f = components::any_function(World::Tasks, random);
            match imports.functions[f].function.kind.is_async() && n % 2 == 0 {
                true => imports.begin(f, random, &mut step),
                false => imports.call(f, &[], random, CHAIN_MAX, &mut step),
            }
        }
    }
    step.code.push('\n');
    step
}

impl Imports {
    fn carrier_of_bytes(&self) -> usize {
        self.carriers
            .iter()
            .position(|carrier| carrier.key == "stream<u8>")
            .expect("there are streams of bytes")
    }

    /// Adds a call by which the host gets the readable end of a stream or future, if there is no writable one.
    fn hand_over(&self, k: usize, random: &mut Random, step: &mut Step) {
        let takes = |n: &usize| {
            let params = &self.functions[*n].function.params;
            params.iter().any(|param| key(&self.resolve, &param.ty).contains(&self.carriers[k].key))
        };
        let all: Vec<usize> = (0..self.functions.len()).filter(takes).collect();
        if !all.is_empty() {
            let _ = write!(step.code, "(if (i32.eqz {}) (then ", has(self.idle(k, End::Writable)));
            self.call(all[random.below(all.len())], &[], random, CHAIN_MAX, step);
            step.code.push_str("))");
        }
    }
}

/// A guest that makes so many requests without a body and drops their responses, or takes them back while they are sent.
#[cfg(test)]
pub(super) fn requests(count: usize, are_taken_back: bool) -> Step {
    let (imports, names) = (imports(World::Tasks), components::names(World::Tasks));
    let number = |name: &str| names.iter().position(|known| known == name).expect("there is this function");
    let resource =
        |name: &str| imports.resources.iter().position(|(_, known)| known == name).expect("a type");
    let (fields, request, response) = (resource("fields"), resource("request"), resource("response"));
    let (new, send) = (number("wasi:http/types#[static]request.new"), number("wasi:http/client#send"));
    let trailers = imports.carrier(&imports.functions[new].function.params[2].ty);
    let mut step = Step { code: String::new(), imports: vec![new, send, imports.functions.len() + response] };
    let all = [format!("a{send}"), format!("write{trailers}")];
    step.imports.extend(all.iter().map(|id| imports.builtin(id)));
    let made = imports.made(trailers, &mut step.imports);
    let mut random = Random::new(0);
    imports.call(number("wasi:http/types#[constructor]fields"), &[], &mut random, 0, &mut step);
    let fields = std::mem::take(&mut step.code)
        + &format!("(global.set $end (call $take (i32.const {fields}) (i32.const 0)))");
    let authority: &[(usize, Fixed)] = &[(0, Fixed::Newest), (1, Fixed::Some("api.example.com"))];
    imports.call(
        number("wasi:http/types#[method]request.set-authority"),
        authority,
        &mut random,
        0,
        &mut step,
    );
    let (authority, taken) = (step.code, format!("(call $take (i32.const {request}) (i32.const 0))"));
    let at = format!("(i32.const {RESULT_AT})");
    let sent = match are_taken_back {
        false => format!(
            "(drop (call $write{trailers} (call $held (i32.const {}) (i32.const 0)) (i32.const {ZEROS_AT}))) \
             (call $i{send} {taken} {at}) (if (i32.load8_u {at}) (then unreachable)) \
             (call $d{response} (i32.load offset=8 {at}))",
            imports.idle(trailers, End::Writable)
        ),
        true => format!(
            "(global.set $end (i32.shr_u (call $a{send} {taken} {at}) (i32.const 4))) \
             (drop (call $subtask-cancel (global.get $end))) (call $subtask-drop (global.get $end))"
        ),
    };
    let none = "(i32.const 0) (i32.const 0)";
    step.code = format!(
        "(global.set $n1 (i32.const {count})) (loop $next {fields} {made} \
         (call $i{new} (global.get $end) {none} (i32.wrap_i64 (global.get $ends)) {none} {at}) \
         (call $keep (i32.const {request}) (i32.load {at})) {authority} {sent} \
         (global.set $n1 (i32.sub (global.get $n1) (i32.const 1))) (br_if $next (global.get $n1)))"
    );
    step
}

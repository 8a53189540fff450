//! The state of an instance between two calls: taken out, and put into a fresh instance of the same program.
//!
//! Between two calls no frame of the guest is on the stack. What it will do next depends on its linear memories,
//! its mutable globals, its tables, the segments that it dropped, the handles that it holds, and what the host
//! computes for it: ticks, waits and entropy. Memories, globals, tables, ticks and entropy are taken here. The others
//! must be what the other instance has: [`fixed_parts`] looks at the program's code for what could change them, and
//! [`Instance::freeze`] at this instance. Handles have numbers that no host can give out: who wants to thaw makes the calls
//! again that they come from, up to the last one after which [`Instance::keeps_handles`] was false.
//!
//! Globals and memories of a component are nobody's exports. The engine gives handles of all that a store has
//! to whoever handles a trap, for core dumps; but a store in which anything trapped runs no component any more. So the
//! program is started once more in a store of its own, where nothing is granted, and a module that only traps beside
//! it. What is found there is at the same places of every store in which this program was started: a handle is the
//! store's number and that place.
//!
//! Invariant: a fresh instance that [`Instance::thaw`] changed goes on as the frozen one would have; what cannot
//! be known to is refused by [`Instance::freeze`], with the reason.

use std::ops::Range;
use std::sync::Arc;

use vac_core::caps::Resource;
use vac_core::fault::{AbortKind, Corrupt, Error, Result, cut, quote_line};
use wasmparser::{ComponentType, CompositeInnerType, Operator, Parser, Payload};
use wasmtime::{Func, Global, Instance as CoreInstance, Memory, Mutability, Ref, Store, Table, V128, Val};

pub use crate::dirty::Touched;
use crate::dirty::{CHUNK_BYTES, Tracker};
use crate::engine::{COMPLAINT_MAX_BYTES, Engine, Profile, chain, machine};
use crate::host::Setup;
use crate::instance::{Budget, Instance};
use crate::load::{Loaded, Shape, malformed, shape};
use crate::rewrite::tables::{SHOWN, changes};
use crate::wall::{NoRecorder, State};
use crate::{look, schedule};
use tables::Tables;

mod tables;

/// Ticks that the program may take to start where nothing is granted.
const SCOUT_TICKS_MAX: u64 = 1_000_000_000;

/// What an instance is, but for the bytes of its memories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Ticks that it used.
    pub ticks: u64,
    /// The bits of its mutable globals that are numbers, in the order of the store.
    pub globals: Vec<u128>,
    /// The length of each of its memories, in bytes.
    pub memories: Vec<u64>,
    /// The length of each table that the program shows, in elements.
    pub tables: Vec<u64>,
    /// How many bytes each stream of entropy gave.
    pub entropy: [u64; 3],
    /// The seed that was given to it, if it was.
    pub seed_given: Option<(u64, u64)>,
    /// Whether it never held a handle, not even while it started.
    pub is_bare: bool,
}

/// What freezing gave.
#[derive(Debug)]
pub enum Freeze {
    /// The state.
    Taken(Frozen),
    /// Why there is none that a fresh instance could be given.
    Refused(String),
}

/// Handles of what the store has.
pub(crate) struct Parts {
    memories: Vec<(Memory, Tracker)>,
    globals: Vec<Global>,
    tables: Tables,
}

/// Why instances of `program` cannot be frozen under `profile`, as far as its code says: it may change what is not taken.
pub fn fixed_parts(program: &Loaded<'_>, profile: Profile) -> Result<Option<String>> {
    let bytes = program.component()?;
    if shape(&bytes) == Shape::Concurrent {
        return Ok(Some("its functions may be `async`".into()));
    }
    for payload in Parser::new(0).parse_all(&bytes) {
        let changes = payload.and_then(|payload| changes_of(&payload, profile.rewrites()));
        if let Some(what) = changes.map_err(|e| malformed(&e, program.place))? {
            return Ok(Some(format!("its code {what}")));
        }
    }
    Ok(None)
}

/// What a part of a program does that no snapshot holds. Only a rewritten program shows its tables.
fn changes_of(
    payload: &Payload<'_>,
    is_rewritten: bool,
) -> std::result::Result<Option<&'static str>, wasmparser::BinaryReaderError> {
    match payload {
        Payload::ComponentTypeSection(types) => {
            for ty in types.clone() {
                if matches!(ty?, ComponentType::Resource { .. }) {
                    return Ok(Some("has resources of its own"));
                }
            }
        }
        Payload::TypeSection(types) => {
            for group in types.clone() {
                let is_object = |inner: &CompositeInnerType| {
                    matches!(inner, CompositeInnerType::Struct(_) | CompositeInnerType::Array(_))
                };
                if group?.types().any(|ty| is_object(&ty.composite_type.inner)) {
                    return Ok(Some("has objects that the engine collects"));
                }
            }
        }
        Payload::ExportSection(exports) => {
            for export in exports.clone() {
                if export?.name.starts_with(SHOWN) {
                    return Ok(Some("exports names that are kept for snapshots"));
                }
            }
        }
        Payload::CodeSectionEntry(body) => {
            let mut operators = body.get_operators_reader()?;
            while !operators.eof() {
                match operators.read()? {
                    Operator::ElemDrop { .. } | Operator::DataDrop { .. } => {
                        return Ok(Some("drops segments"));
                    }
                    operator if changes(&operator) && !is_rewritten => return Ok(Some("changes tables")),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(None)
}

/// Hears of the parts of a memory that were written: number of the memory, and of each part its address and bytes.
/// Tables count on from the memories, four bytes an element.
pub type Found<'a> = dyn FnMut(usize, &[(u64, &[u8])]) -> Result<()> + 'a;

/// Writes all of a memory, or of a table, of a fresh instance: its number, its bytes, which of them may be other than zeros.
pub type Fill<'a> = dyn FnMut(usize, &mut [u8], &Touched) -> Result<()> + 'a;

impl Instance {
    /// The state between two calls.
    pub fn freeze(&mut self, engine: &Engine) -> Result<Freeze> {
        let mut parts = self.take_parts(engine)?;
        let globals = globals_of(&mut self.store, &parts.globals);
        let memories = parts.memories.iter().map(|(memory, _)| memory.data_size(&self.store) as u64);
        let memories = memories.collect();
        let tables = parts.tables.read(&mut self.store);
        self.parts = Some(parts);
        let Some(globals) = globals else {
            return Ok(Freeze::Refused("a global of it is a reference".into()));
        };
        let Some(tables) = tables else {
            return Ok(Freeze::Refused("a table of it holds what is no function that is shown".into()));
        };
        let entropy = &self.store.data().host.entropy;
        Ok(Freeze::Taken(Frozen {
            ticks: self.ticks(),
            globals,
            memories,
            tables,
            entropy: entropy.positions(),
            seed_given: entropy.seed_given(),
            is_bare: self.store.data().moves.is_bare(),
        }))
    }

    /// Calls `found` for each memory, with the parts that were written since this was asked last, or since an
    /// [`Instance::thaw`] after which writes are followed; and for each table, as the last [`Instance::freeze`] found it.
    pub fn each_written(&mut self, engine: &Engine, found: &mut Found<'_>) -> Result<()> {
        let mut parts = self.take_parts(engine)?;
        let told = parts.memories.iter_mut().enumerate().try_for_each(|(number, (memory, tracker))| {
            let bytes = memory.data(&self.store);
            let part = |chunk: Range<usize>| {
                let start = chunk.start * CHUNK_BYTES;
                let end = bytes.len().min(chunk.end * CHUNK_BYTES);
                (start as u64, bytes.get(start..end).unwrap_or_default())
            };
            found(number, &tracker.written(bytes).into_iter().map(part).collect::<Vec<_>>())
        });
        let first = parts.memories.len();
        let told = told.and_then(|()| parts.tables.each_written(first, found));
        if told.is_err() {
            // What was told is forgotten by the trackers, and the caller may not have it.
            parts.memories.iter_mut().for_each(|(_, tracker)| *tracker = Tracker::New);
            parts.tables.forget();
        }
        self.parts = Some(parts);
        told
    }

    /// Finds what is written by comparing with a copy, also where the system would note it: to measure both.
    pub fn compare_memories(&mut self, engine: &Engine) -> Result<()> {
        let mut parts = self.take_parts(engine)?;
        parts.memories.iter_mut().for_each(|(_, tracker)| *tracker = Tracker::comparing());
        self.parts = Some(parts);
        Ok(())
    }

    /// Makes this instance, which was started and made the calls that its handles come from, the frozen one. `fill` writes all of a
    /// memory, whose number it gets. If nobody will ask what is written after that, it `follows` nothing: each first write
    /// to a page would cost a fault.
    pub fn thaw(
        &mut self,
        engine: &Engine,
        frozen: &Frozen,
        follows: bool,
        fill: &mut Fill<'_>,
    ) -> Result<()> {
        let mut parts = self.take_parts(engine)?;
        set_globals(&mut self.store, &parts.globals, &frozen.globals)?;
        if parts.memories.len() != frozen.memories.len() {
            return Err(differs("memories", parts.memories.len(), frozen.memories.len()));
        }
        for (number, ((memory, tracker), len)) in parts.memories.iter_mut().zip(&frozen.memories).enumerate()
        {
            self.grow(memory, *len)?;
            let touched = Touched::of(memory.data(&self.store));
            fill(number, memory.data_mut(&mut self.store), &touched)?;
            if follows {
                tracker.written(memory.data(&self.store));
            }
        }
        if parts.tables.all().len() != frozen.tables.len() {
            return Err(differs("tables", parts.tables.all().len(), frozen.tables.len()));
        }
        for (table, len) in parts.tables.all().zip(&frozen.tables) {
            self.lengthen(table, *len)?;
        }
        parts.tables.write(&mut self.store, frozen.memories.len(), fill)?;
        self.parts = Some(parts);
        self.store.data_mut().host.entropy.go_to(frozen.entropy, frozen.seed_given);
        self.set_ticks(frozen.ticks);
        Ok(())
    }

    fn grow(&mut self, memory: &Memory, len_bytes: u64) -> Result<()> {
        let (now, page) = (memory.data_size(&self.store) as u64, memory.page_size(&self.store));
        let more = len_bytes.checked_sub(now).filter(|more| more.is_multiple_of(page));
        let more = more.ok_or_else(|| differs("bytes of a memory", now, len_bytes))?;
        if more > 0 {
            let grown = memory.grow_async(&mut self.store, more / page);
            schedule::run(grown, &*self.budget.watch).map_err(|e| unfit("a memory", e))?;
        }
        Ok(())
    }

    fn lengthen(&mut self, table: Table, len: u64) -> Result<()> {
        let now = table.size(&self.store);
        let more = len.checked_sub(now).ok_or_else(|| differs("elements of a table", now, len))?;
        if more > 0 {
            let ty = table.ty(&self.store).element().clone();
            // Where null cannot stand, there is something else at first.
            let first = if ty.is_nullable() { None } else { table.get(&mut self.store, 0) };
            let first = first.unwrap_or_else(|| Ref::null(ty.heap_type()));
            let grown = table.grow_async(&mut self.store, more, first);
            schedule::run(grown, &*self.budget.watch).map_err(|e| unfit("a table", e))?;
        }
        Ok(())
    }

    fn take_parts(&mut self, engine: &Engine) -> Result<Parts> {
        match self.parts.take() {
            Some(parts) => Ok(parts),
            None => self.find_parts(engine),
        }
    }

    fn find_parts(&mut self, engine: &Engine) -> Result<Parts> {
        let budget = Budget { ticks_max: SCOUT_TICKS_MAX, watch: Arc::clone(&self.budget.watch) };
        let program = Arc::clone(self.program());
        // It may use what this one may, counted from zero.
        let quotas = self.store.data().host.quotas.clone().with_used([0; Resource::COUNT]);
        let setup = Setup { quotas, ..Setup::default() };
        let (scout, _) = Instance::start(engine, program, setup, budget, Box::new(NoRecorder));
        let (memories, globals, instances) = scout?.dump()?;
        let id = store_id(&mut self.store);
        let instances: Vec<CoreInstance> =
            instances.into_iter().map(|instance| adopted(instance, id)).collect();
        let tables = Tables::find(&mut self.store, &instances);
        let memories = memories.into_iter().map(|memory| (adopted(memory, id), Tracker::New)).collect();
        let globals: Vec<Global> = globals.into_iter().map(|global| adopted(global, id)).collect();
        let is_mutable = |global: &Global| global.ty(&self.store).mutability() == Mutability::Var;
        Ok(Parts { memories, globals: globals.into_iter().filter(is_mutable).collect(), tables })
    }

    /// Handles of all memories, globals and instances of the program in this store, which runs nothing any more after this.
    fn dump(mut self) -> Result<(Vec<Memory>, Vec<Global>, Vec<CoreInstance>)> {
        let dump = look::dump(&mut self.store).map_err(|e| machine("find the memories of a program", &e))?;
        // The meter's counters are the host's: their ticks are set, not written.
        let own = dump.memories().iter().filter(|memory| !look::is_of_meter(&self.store, memory));
        let instances = dump.instances().iter().filter(|instance| shows(&self.store, instance));
        Ok((own.copied().collect(), dump.globals().to_vec(), instances.copied().collect()))
    }
}

/// Whether an instance shows tables, or what may stand in them.
fn shows(store: &Store<State>, instance: &CoreInstance) -> bool {
    instance.module(store).exports().any(|export| export.name().starts_with(SHOWN))
}

/// The number of a store, as it stands in front of every handle of something in it.
type StoreId = [u8; size_of::<u64>()];

/// A handle that begins with the number of its store, and goes on with a place in it.
trait Handle: Copy {}
impl Handle for Memory {}
impl Handle for Global {}
impl Handle for CoreInstance {}

// The engine asserts the same of all four, and that the number of the store comes first, for its interface to C.
const _: () = assert!(size_of::<Memory>() == 24 && size_of::<Global>() == 24);
const _: () = assert!(size_of::<CoreInstance>() == 16 && size_of::<Func>() == 16);

fn store_id(store: &mut Store<State>) -> StoreId {
    // Of all that can be made in a store, nobody who looks at its globals and memories finds this.
    let own = Func::wrap(store, || {});
    // SAFETY: (1) `Func` is `repr(C)` and begins with the store's number, a `NonZeroU64`: the engine's version is pinned, and
    // it asserts this layout itself, for C. (2) So its first eight bytes are there and initialised.
    unsafe { std::ptr::read((&raw const own).cast::<StoreId>()) }
}

/// The handle of what stands in the store `id` where `handle` stands in its own, which was filled in the same way.
fn adopted<T: Handle>(mut handle: T, id: StoreId) -> T {
    // SAFETY: (1) `T` is a `Handle`, all of which are `repr(C)` with the store's number first, as for `store_id`. (2) `id` was read from a
    // handle of a living store, so it is such a number. (3) Both stores were new when the same program was started
    // in them, and that makes the same things in the same order, so the place in the handle is that of
    // something of the same type here; the engine checks store and instance at each use.
    unsafe { std::ptr::write((&raw mut handle).cast::<StoreId>(), id) };
    handle
}

/// The bits of all globals that are numbers; none if one is a reference to something.
fn globals_of(store: &mut Store<State>, globals: &[Global]) -> Option<Vec<u128>> {
    let mut bits = Vec::new();
    for global in globals {
        match global.get(&mut *store) {
            Val::I32(v) => bits.push(u128::from(v as u32)),
            Val::I64(v) => bits.push(u128::from(v as u64)),
            Val::F32(v) => bits.push(u128::from(v)),
            Val::F64(v) => bits.push(u128::from(v)),
            Val::V128(v) => bits.push(v.as_u128()),
            reference if is_null(&reference) => {}
            _ => return None,
        }
    }
    Some(bits)
}

fn is_null(value: &Val) -> bool {
    value.ref_().is_some_and(|reference: Ref| reference.is_null())
}

fn set_globals(store: &mut Store<State>, globals: &[Global], bits: &[u128]) -> Result<()> {
    let mut rest = bits.iter();
    let failed = |e: wasmtime::Error| unfit("a global", e);
    for global in globals {
        let now = global.get(&mut *store);
        if now.ref_().is_some() {
            // Those that were null when the state was taken; a fresh instance may have begun with another.
            set_null(store, global, &now).map_err(failed)?;
            continue;
        }
        let bits = *rest.next().ok_or_else(|| differs("globals", globals.len(), bits.len()))?;
        let value = match now {
            Val::I32(_) => Val::I32(bits as u32 as i32),
            Val::I64(_) => Val::I64(bits as u64 as i64),
            Val::F32(_) => Val::F32(bits as u32),
            Val::F64(_) => Val::F64(bits as u64),
            _ => Val::V128(V128::from(bits)),
        };
        global.set(&mut *store, value).map_err(failed)?;
    }
    match rest.next() {
        None => Ok(()),
        Some(_) => Err(differs("globals", globals.len(), bits.len())),
    }
}

fn set_null(store: &mut Store<State>, global: &Global, now: &Val) -> wasmtime::Result<()> {
    if is_null(now) {
        return Ok(());
    }
    let ty = global.ty(&mut *store).content().clone();
    match ty.as_ref().map(|ty| Ref::null(ty.heap_type())) {
        Some(null) => global.set(store, null.into()),
        None => Ok(()),
    }
}

fn differs(what: &str, here: impl std::fmt::Display, frozen: impl std::fmt::Display) -> Error {
    let expected = format!("{here} {what}, as the program has");
    Corrupt::new("snapshot", "the state of an instance", expected, format!("{frozen}")).into()
}

/// What cannot be given to a fresh instance is no state of this program, whatever the engine says of it; unless it was the
/// host that could not go on, of which the state is innocent.
fn unfit(what: &str, error: wasmtime::Error) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(Error::Abort(abort)) if abort.kind != AbortKind::Quota => return abort.into(),
        Ok(own) => wasmtime::Error::new(own),
        Err(error) => error,
    };
    let got = quote_line(cut(&chain(&error), COMPLAINT_MAX_BYTES));
    Corrupt::new("snapshot", "the state of an instance", format!("{what} that the program can have"), got)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Backend;
    use crate::limits::WASM_STACK_BYTES;
    use crate::load::load;

    /// Old runs are of programs that were not rewritten, and those show nothing.
    #[test]
    fn tables_are_shown_by_rewritten_programs() {
        let text =
            "(component (core module (table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))))";
        let bytes = wat::parse_str(text).unwrap();
        let loaded = load(&bytes, "a test").unwrap();
        let why = fixed_parts(&loaded, Profile::Det1).unwrap();
        assert_eq!(why.as_deref(), Some("its code changes tables"));
        assert_eq!(fixed_parts(&loaded, Profile::Det2).unwrap(), None);
    }

    /// Elements that are no function, one of another type, and null where it cannot stand. Whatever the state says, the
    /// engine's own checks hold.
    #[test]
    fn forged_elements_are_refused() {
        let engine = Engine::looking(Profile::Det2, Backend::Native, WASM_STACK_BYTES).unwrap();
        let text = r#"(component (core module $m
            (type $number (func (result i32)))
            (type $other (func (param i64)))
            (func $one (type $number) (i32.const 1))
            (func $two (type $other))
            (elem declare func $one $two)
            (table $any 2 funcref)
            (table $full 2 (ref $number) (ref.func $one))
            (func (export "work") (table.set $any (i32.const 0) (ref.func $two))))
          (core instance $i (instantiate $m))
          (func (export "work") (canon lift (core func $i "work"))))"#;
        let bytes = wat::parse_str(text).unwrap();
        let compiled = Arc::new(engine.compile(&load(&bytes, "a test").unwrap(), None).unwrap());
        let fresh = || {
            let (program, recorder) = (Arc::clone(&compiled), Box::new(NoRecorder));
            Instance::start(&engine, program, Setup::default(), Budget::default(), recorder).0.unwrap()
        };
        let mut instance = fresh();
        instance.call(&engine, "work", &[]).unwrap();
        let Freeze::Taken(frozen) = instance.freeze(&engine).unwrap() else { panic!("refused") };
        assert_eq!((frozen.memories.len(), frozen.tables.as_slice()), (0, [2, 2].as_slice()));
        let mut images = [Vec::new(), Vec::new()];
        let mut note = |number: usize, parts: &[(u64, &[u8])]| {
            parts.iter().for_each(|(_, bytes)| images[number].extend_from_slice(bytes));
            Ok(())
        };
        instance.each_written(&engine, &mut note).unwrap();
        let [one, two] = [images[1][0], images[0][0]];
        assert!(one != two && one > 0 && two > 0, "{images:?}");
        let thaw = |table: usize, element: u32| {
            let mut fill = |number: usize, to: &mut [u8], _: &Touched| {
                let bytes = images.get(number).map(Vec::as_slice).unwrap_or_default();
                to.get_mut(..bytes.len()).unwrap().copy_from_slice(bytes);
                if number == table {
                    to[..4].copy_from_slice(&element.to_le_bytes());
                }
                Ok(())
            };
            fresh().thaw(&engine, &frozen, false, &mut fill)
        };
        thaw(0, two.into()).unwrap();
        thaw(1, one.into()).unwrap();
        for (table, element) in [(0, u32::MAX), (0, 1_000), (1, u32::MAX), (1, two.into()), (1, 0)] {
            let thawed = thaw(table, element);
            assert!(matches!(thawed, Err(Error::Corrupt(_))), "{table} {element}: {thawed:?}");
        }
    }

    /// What a pool does not clear would be seen by the next program: pages that are protected since somebody looked do not
    /// count as written.
    #[test]
    fn a_pool_clears_what_was_looked_at() {
        let mut config = Backend::Pooled.settings(Profile::Det2).unwrap();
        config.coredump_on_trap(true);
        let engine = Engine::with(Profile::Det2, &config, |_| Ok(())).unwrap();
        let text = r#"(component (core module $m (memory (export "memory") 4)
            (func (export "fill") (memory.fill (i32.const 0) (i32.const 7) (i32.const 262144))))
          (core instance $i (instantiate $m))
          (func (export "fill") (canon lift (core func $i "fill"))))"#;
        let bytes = wat::parse_str(text).unwrap();
        let compiled = Arc::new(engine.compile(&load(&bytes, "a test").unwrap(), None).unwrap());
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (budget, recorder) = (Budget::default(), Box::new(NoRecorder));
            let (program, setup) = (Arc::clone(&compiled), Setup::default());
            let mut instance = Instance::start(&engine, program, setup, budget, recorder).0.unwrap();
            let written = |instance: &mut Instance| {
                let mut sum = 0_u64;
                let mut add = |bytes: &[u8]| sum += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                let parts = &mut |_: usize, parts: &[(u64, &[u8])]| {
                    parts.iter().for_each(|(_, bytes)| add(bytes));
                    Ok(())
                };
                instance.each_written(&engine, parts).unwrap();
                sum
            };
            seen.push(written(&mut instance));
            instance.call(&engine, "fill", &[]).unwrap();
            seen.push(written(&mut instance));
        }
        assert_eq!(seen, [0, 7 << 18, 0, 7 << 18, 0, 7 << 18]);
    }
}

//! The profiles of determinism, compiling, and the cache of compiled code.
//!
//! Runs are made under profile `det-2`: a program is rewritten ([`crate::rewrite`]) to count its own ticks and
//! to give every NaN one form, and compiled for a fixed set of instructions; or, if somebody chose `det-2-native`, for all that
//! this processor has. Under `det-1`, where the engine did both, runs of before are replayed.
//!
//! Compiled code is trusted by the machine, so it is never taken from a guest or a bundle: only
//! from a [`Compiler`] that this process started, or from this home's cache, under the CID of the
//! program and a fingerprint of the engine, and only if its digest is the one that was written
//! with it.
//!
//! Compiling takes more than linear time and memory: five kilobytes of nested loops keep the
//! compiler busy for a minute. So whoever runs what it does not trust passes in a [`Compiler`] that
//! does the work where it can be stopped; [`Coder`] is what does it there.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, HostAbort, Result, cut, quote_line};
use vac_core::storage::{OpenMode, Storage, StorageFile, replace_file};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, RegallocAlgorithm,
};

use crate::core_module::CoreModule;
use crate::inspect::Export;
use crate::limits::{
    ADAPTED_TEXT_MAX_BYTES, ENDED_FRAMES_MAX, FRAMES_MAX, HOST_STACK_BYTES, NATIVE_BYTES_PER_DEPTH_BYTE,
    WASM_STACK_BYTES,
};
use crate::link::is_of_the_wall;
use crate::load::{Kind, Loaded, Shape, instances_max, shape, uncovered};
use crate::wall::{State, Wall};
use crate::{adapt, floats, foreign, kernel_files, kernel_memory, meter, rewrite, wasi, wasi3};

mod baseline;
mod functions;

pub use functions::Functions;

/// Name and version of the engine and of the way WASI 0.1 modules are adapted, as a run's header
/// records it.
pub const ENGINE: &str = "wasmtime 48.0.8, adapter 48.0.8.1";
/// Changes with what is put around a core module, if that changes nothing that a sound run records: compiled
/// code of before is not taken then.
const WRAPPING: &str = "exports 8";
/// Changes with what [`crate::rewrite`] makes of a program. What changes ticks is another profile.
const REWRITING: &str = "11";
/// Instances, memories and tables that a pool has room for.
const POOLED: u32 = 1000;
const POOLED_STACKS: u32 = 16;
const POOLED_INSTANCE_BYTES: usize = 8 << 20;
const POOLED_ELEMENTS: usize = crate::limits::TABLE_ELEMENTS_MAX as usize;
/// Of a memory or table that is given back, so many bytes are cleared in place; the system takes the rest.
const POOLED_CLEARED_BYTES: usize = 1 << 20;
/// Begins the words of an abort for want of room in a pool.
const NO_ROOM: &str = "no pool has room for the program";
/// What the engine calls its interpreter.
const INTERPRETER: &str = "pulley64";

/// A profile of determinism: how a program is made to do the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Ticks are the engine's fuel, and the engine makes NaNs canonical. Only for runs of before.
    Det1,
    /// The program is rewritten: its ticks, the depth of its calls and its NaNs are what we say on every engine.
    #[default]
    Det2,
    /// The same, with every instruction that the processor has. A run of it replays on any other, too.
    Det2Native,
}

impl Profile {
    /// All of them.
    const ALL: [Self; 3] = [Self::Det1, Self::Det2, Self::Det2Native];

    /// The name, as a run's header records it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Det1 => "det-1",
            Self::Det2 => "det-2",
            Self::Det2Native => "det-2-native",
        }
    }

    /// The names, for whoever typed another one.
    pub fn names() -> String {
        Self::ALL.map(|profile| format!("`{}`", profile.name())).join(" or ")
    }

    /// The profile that a header names.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Whether programs are rewritten.
    pub fn rewrites(self) -> bool {
        self != Self::Det1
    }

    /// The settings of the engine. Each is a row of `docs/determinism.md`.
    pub fn config(self) -> Config {
        match self {
            Self::Det1 => det_1(),
            Self::Det2 | Self::Det2Native => det_2(self),
        }
    }
}

/// Follows the code in a file of compiled code, with the version of that format. The code comes first,
/// so that the file can be mapped as it is.
const MAGIC: [u8; 8] = *b"VACCODE\x02";
/// Magic and digest.
const SEAL_BYTES: usize = MAGIC.len() + 32;
/// Read and hashed at a time; stays in the processor's cache between the two.
const CHUNK_BYTES: usize = 256 << 10;
/// Compiled code is larger than what it was made from, but not without bound.
const CODE_MAX_BYTES: u64 = 2 << 30;
/// What is shown of a compiler's reason.
pub(crate) const COMPLAINT_MAX_BYTES: usize = 600;
/// Code up to this length is copied into memory, where nobody can change it or cut it off any more. What is
/// longer is mapped: copying it would take more of a warm start than all else.
const CODE_COPIED_BYTES: u64 = 2 << 20;
/// The folder of compiled code.
const CODE_DIR: &str = "code";

/// Where a compiled program came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was compiled now.
    Compiled,
    /// The cache had it.
    Cache,
}

/// Makes code from programs, here or somewhere else.
pub trait Compiler: Send + Sync {
    /// The sealed code of a program under `profile`, as [`Coder::seal`] makes it.
    fn compile(&self, loaded: &Loaded<'_>, profile: Profile) -> Result<Vec<u8>>;

    /// The same of a program with nothing in its functions, as [`Coder::seal_outline`] makes it: for those who only
    /// look at what it is.
    fn outline(&self, loaded: &Loaded<'_>, profile: Profile) -> Result<Vec<u8>>;

    /// What the code is for.
    fn backend(&self) -> Backend {
        Backend::Native
    }
}

/// What is made of each core module of a program under profile `det-2`.
pub type Pass = fn(&[u8]) -> Result<Vec<u8>>;

/// What is made of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// Its code.
    Code,
    /// What it is, without what it does. It has another seal, so that nobody runs it, and is in no cache.
    Outline,
}

/// The part of an engine that makes code and starts nothing.
pub struct Coder {
    profile: Profile,
    pass: Pass,
    plain: Codes,
    /// For programs of other shapes. Each turn of a loop or each call costs them more, so the others are not asked to pay
    /// for it; and few programs need it, so it is made when the first one comes.
    composed: OnceLock<std::result::Result<Codes, HostAbort>>,
    concurrent: OnceLock<std::result::Result<Codes, HostAbort>>,
    /// The settings of `plain`.
    config: Config,
}

/// The engine in one configuration, which has its own code.
struct Codes {
    profile: Profile,
    pass: Pass,
    engine: wasmtime::Engine,
    fingerprint: String,
}

/// Compiles and links programs.
pub struct Engine {
    coder: Coder,
    linker: Linker<State>,
    /// For programs of other shapes, made when the first one comes.
    composed: OnceLock<std::result::Result<Linker<State>, HostAbort>>,
    concurrent: OnceLock<std::result::Result<Linker<State>, HostAbort>>,
    stack_bytes: usize,
}

/// A program that is compiled and linked, and can be started any number of times.
pub struct Compiled {
    /// Name of the program's bytes.
    pub cid: Cid,
    /// What they are.
    pub kind: Kind,
    /// Where the code came from.
    pub origin: Origin,
    pub(crate) shape: Shape,
    /// Instances of core modules that a kernel of it may have.
    pub(crate) instances_max: usize,
    pub(crate) component: Component,
    pub(crate) linked: InstancePre<State>,
    /// What it shows, if it is a core module.
    pub(crate) core: Option<CoreModule>,
    /// The functions that it exports, once somebody asked for them.
    pub(crate) exports: OnceLock<Vec<Export>>,
}

impl Compiled {
    /// Whether its functions may be `async`.
    pub fn is_concurrent(&self) -> bool {
        self.shape == Shape::Concurrent
    }

    /// Whether it is a command of WASI 0.1 that can be gone on with after it exited: [`rewrite`] gave it a way back.
    pub fn exit_can_return(&self) -> bool {
        let can = |core: &CoreModule| core.exits && core.has_start && !core.has_tags && !core.has_world;
        self.core.as_ref().is_some_and(can)
    }

    /// How long an argument, or the name or value of a variable, can be: a program of WASI 0.1 is ended by its adapter
    /// when it asks for a longer one.
    pub fn text_max_bytes(&self) -> Option<usize> {
        self.core.as_ref().filter(|core| core.uses_wasi).map(|_| ADAPTED_TEXT_MAX_BYTES)
    }
}

/// What code is made for, and what runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// This machine.
    #[default]
    Native,
    /// The same code, with instances in memory that is there before them and used again after them.
    Pooled,
    /// The engine's interpreter, which is the same on every machine: whatever it does differently is a bug.
    Interpreter,
}

impl Backend {
    /// The engine as a run's header records it.
    pub fn engine(self) -> String {
        match self {
            Self::Native | Self::Pooled => ENGINE.to_owned(),
            Self::Interpreter => format!("{ENGINE}, {INTERPRETER}"),
        }
    }

    /// The settings of the engine for code of `profile`.
    pub fn settings(self, profile: Profile) -> std::result::Result<Config, HostAbort> {
        match self {
            Self::Native => Ok(profile.config()),
            Self::Pooled => Ok(pooled(profile.config())),
            Self::Interpreter => interpreted(profile),
        }
    }
}

fn interpreted(profile: Profile) -> std::result::Result<Config, HostAbort> {
    let mut config = match profile {
        Profile::Det1 => det_1(),
        Profile::Det2 | Profile::Det2Native => common(),
    };
    config.target(INTERPRETER).map_err(|e| machine("choose the interpreter", &e))?;
    // It has no atomic instructions: programs with them are refused by it. Nothing is optimised, so that mistakes
    // of the optimiser show, too.
    config
        .wasm_threads(false)
        .cranelift_opt_level(OptLevel::None)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    with_stack(&mut config, profile, WASM_STACK_BYTES);
    Ok(config)
}

/// With a pool that has room for what most programs have; others are told that it has not. What was used before is given
/// out first, and not all of it by way of the system: that it is used again is what a pool is there for.
fn pooled(mut config: Config) -> Config {
    let mut pool = PoolingAllocationConfig::default();
    pool.max_unused_warm_slots(0)
        .linear_memory_keep_resident(POOLED_CLEARED_BYTES)
        .table_keep_resident(POOLED_CLEARED_BYTES)
        // Where the system can say which pages were written, only those are cleared.
        .pagemap_scan(Enabled::Auto)
        .total_component_instances(POOLED)
        .total_core_instances(POOLED)
        .total_memories(POOLED)
        .total_tables(POOLED)
        .total_gc_heaps(POOLED)
        .total_stacks(POOLED_STACKS)
        .max_core_instance_size(POOLED_INSTANCE_BYTES)
        .max_component_instance_size(POOLED_INSTANCE_BYTES)
        .table_elements(POOLED_ELEMENTS);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// The abort of a program that is more than a pool holds.
pub(crate) fn no_room(why: &str) -> HostAbort {
    HostAbort::new(AbortKind::Quota, format!("{NO_ROOM}: {}", quote_line(cut(why, COMPLAINT_MAX_BYTES))))
}

/// Why a pool has no room for a program, if `words`, of an abort, are about that.
pub fn without_room(words: &str) -> Option<&str> {
    words.split_once(NO_ROOM)?.1.strip_prefix(": ")
}

pub(crate) fn det_1() -> Config {
    let mut config = common();
    config.consume_fuel(true).cranelift_nan_canonicalization(true);
    with_stack(&mut config, Profile::Det1, WASM_STACK_BYTES);
    config
}

fn det_2(profile: Profile) -> Config {
    let mut config = common();
    if profile == Profile::Det2 {
        baseline::set(&mut config);
    }
    // Of the rewriting: which branches are never or hardly taken. They change where code stands, and nothing else.
    config.wasm_branch_hinting(true);
    // Where an instruction was in rewritten code tells nobody anything, and the engine finds a guest's frames without
    // the tables that other unwinders need. Without both, code is a seventh smaller: docs/decisions/0014.
    config.generate_address_map(false).native_unwind_info(false);
    with_stack(&mut config, profile, WASM_STACK_BYTES);
    config
}

/// What all profiles have.
fn common() -> Config {
    let mut config = Config::new();
    config
        // Among them are some of the meter's.
        .wasm_backtrace_max_frames(NonZeroUsize::new(2 * ENDED_FRAMES_MAX))
        .wasm_component_model(true)
        // What it costs, and how programs that need it get it: docs/decisions/0010.
        .concurrency_support(false)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        // Programs in C++ of today throw with them. Their objects are charged as memory, like those of
        // languages whose objects the engine collects; nothing tells a guest when it does.
        .wasm_exceptions(true)
        .wasm_gc(true)
        // Compilers write atomic instructions for programs of one thread, too. There is never a second
        // one, and no memory that it could share.
        .wasm_threads(true)
        .shared_memory(false)
        .cranelift_opt_level(OptLevel::Speed);
    config
}

/// Lets calls be as deep as `bytes` allow. Code does not depend on it.
fn with_stack(config: &mut Config, profile: Profile, bytes: usize) {
    let native = native_bytes(profile, bytes);
    config.max_wasm_stack(native).async_stack_size(native.saturating_add(HOST_STACK_BYTES));
}

/// What calls as deep as `bytes` allow take of the native stack.
fn native_bytes(profile: Profile, bytes: usize) -> usize {
    match profile {
        Profile::Det1 => bytes,
        // The program's own limit comes before the end of the stack.
        Profile::Det2 | Profile::Det2Native => bytes.saturating_mul(NATIVE_BYTES_PER_DEPTH_BYTE),
    }
}

/// The settings of a profile for programs of a shape.
fn shaped(config: &Config, profile: Profile, shape: Shape) -> Config {
    let mut config = config.clone();
    if shape != Shape::Plain && profile.rewrites() {
        // Else what moves arguments from component to component could be stopped by nobody: see `watchdog`.
        config.epoch_interruption(true);
    }
    if shape == Shape::Concurrent {
        config.concurrency_support(true).wasm_component_model_async(true);
    }
    config
}

impl Coder {
    /// Makes code for the engine of `profile`.
    pub fn new(profile: Profile) -> Result<Self> {
        Self::with(profile, &profile.config(), rewrite::module)
    }

    /// Makes code of `profile` for `backend`.
    pub fn of(profile: Profile, backend: Backend) -> Result<Self> {
        Self::with(profile, &backend.settings(profile)?, rewrite::module)
    }

    /// The same, which does not compile a function that is in `functions`. What it makes is the same.
    pub fn keeping(profile: Profile, backend: Backend, functions: &Functions) -> Result<Self> {
        let mut config = backend.settings(profile)?;
        config
            .enable_incremental_compilation(functions.store())
            .map_err(|e| machine("keep compiled functions", &e))?;
        Self::with(profile, &config, rewrite::module)
    }

    fn with(profile: Profile, config: &Config, pass: Pass) -> Result<Self> {
        let plain = Codes::new(profile, config, pass)?;
        let (composed, concurrent) = (OnceLock::new(), OnceLock::new());
        Ok(Self { profile, pass, plain, composed, concurrent, config: config.clone() })
    }

    /// The code of a program as the cache keeps it: code, magic, digest.
    pub fn seal(&self, loaded: &Loaded<'_>) -> Result<Vec<u8>> {
        self.codes(loaded)?.seal(loaded, Made::Code)
    }

    /// What a program is, without what it does, sealed in another way.
    pub fn seal_outline(&self, loaded: &Loaded<'_>) -> Result<Vec<u8>> {
        self.codes(loaded)?.seal(loaded, Made::Outline)
    }

    /// The configuration for `loaded`.
    fn codes(&self, loaded: &Loaded<'_>) -> Result<&Codes> {
        let shape = if loaded.kind == Kind::Component { shape(loaded.bytes) } else { Shape::Plain };
        let codes = match shape {
            Shape::Plain => return Ok(&self.plain),
            Shape::Composed => &self.composed,
            Shape::Concurrent => &self.concurrent,
        };
        let config = || shaped(&self.config, self.profile, shape);
        let made = codes.get_or_init(|| Codes::new(self.profile, &config(), self.pass));
        made.as_ref().map_err(|abort| abort.clone().into())
    }

    /// The shape whose configuration `component` is code of.
    fn shape_of(&self, component: &Component) -> Shape {
        let is_of = |codes: &Codes| wasmtime::Engine::same(component.engine(), &codes.engine);
        let composed = self.composed.get().and_then(|codes| codes.as_ref().ok());
        match (is_of(&self.plain), composed.is_some_and(is_of)) {
            (true, _) => Shape::Plain,
            (_, true) => Shape::Composed,
            _ => Shape::Concurrent,
        }
    }
}

impl Codes {
    fn new(profile: Profile, config: &Config, pass: Pass) -> std::result::Result<Self, HostAbort> {
        if profile == Profile::Det2 {
            baseline::check()?;
        }
        let engine = wasmtime::Engine::new(config).map_err(|e| machine("start the engine", &e))?;
        let fingerprint = fingerprint(&engine, profile);
        Ok(Self { profile, pass, engine, fingerprint })
    }

    fn seal(&self, loaded: &Loaded<'_>, made: Made) -> Result<Vec<u8>> {
        let _floats = floats::Standard::enter();
        let component = loaded.component()?;
        let pass = if made == Made::Outline { rewrite::hollow::module } else { self.pass };
        let component = match self.profile {
            Profile::Det1 => component,
            Profile::Det2 | Profile::Det2Native => rewrite::program_by(pass, &component)?.into(),
        };
        let code = self.engine.precompile_component(&component).map_err(|e| {
            Corrupt::new(
                "program",
                format!("`{}`", loaded.place),
                "a valid component",
                quote_line(cut(&chain(&e), COMPLAINT_MAX_BYTES)),
            )
        })?;
        Ok(self.sealed(&loaded.cid, &code, made))
    }

    /// The file of some compiled code: code, magic, digest.
    fn sealed(&self, cid: &Cid, code: &[u8], made: Made) -> Vec<u8> {
        let digest = self.hasher(cid, made).update(code).finalize();
        [code, &MAGIC, digest.as_bytes()].concat()
    }

    /// Covers what the code was made from and for, so that files cannot be exchanged; the code follows.
    fn hasher(&self, cid: &Cid, made: Made) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key(match made {
            Made::Code => "vac compiled code 1",
            Made::Outline => "vac outline of a program 1",
        });
        hasher.update(&cid.to_bytes()).update(self.fingerprint.as_bytes());
        hasher
    }

    /// The code in `sealed`, if that is exactly what [`Codes::seal`] made for the program `cid`; or why the engine does not
    /// take it.
    fn unseal(&self, cid: &Cid, sealed: &[u8], made: Made) -> Option<wasmtime::Result<Component>> {
        let (code, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL_BYTES)?)?;
        let (magic, digest) = seal.split_at_checked(MAGIC.len())?;
        if magic != MAGIC || digest != self.hasher(cid, made).update(code).finalize().as_bytes() {
            return None;
        }
        // SAFETY: `deserialize` runs what it is given as machine code, so the bytes must come
        // from `precompile_component` of this engine. (1) They come from a `Compiler` of the operator's
        // side. (2) The digest, checked above over the very bytes in memory that are passed on,
        // says that they are what `seal` made for this program and this engine. (3) wasmtime itself
        // checks that version and settings match.
        let component = unsafe { Component::deserialize(&self.engine, code) };
        Some(component)
    }

    /// Code from the cache, if it is there and exactly what was written.
    fn cached(&self, storage: &dyn Storage, cid: &Cid) -> Option<Component> {
        let file = storage.open(&self.path(cid), OpenMode::Read).ok()?;
        if file.len().is_ok_and(|len| len <= CODE_COPIED_BYTES) {
            return self.unseal(cid, &whole(&*file)?, Made::Code)?.ok();
        }
        if !self.is_sealed(&*file, cid)? {
            return None;
        }
        // SAFETY: `deserialize` runs what it is given as machine code, so the bytes must come
        // from `precompile_component` of this engine. (1) The home is the operator's own and no guest can
        // write to it; VAC itself never writes to a file of code that has its name: it replaces it.
        // (2) The digest, checked above over the very file that is mapped or read here, through the
        // same open file, says that it holds what `seal` made for this program and this
        // engine. (3) wasmtime itself checks that version and settings match.
        unsafe {
            match file.host_path() {
                // Pages are shared with the page cache: nothing is copied that is not used.
                Some(path) => Component::deserialize_file(&self.engine, path),
                None => Component::deserialize(&self.engine, whole(&*file)?),
            }
        }
        .ok()
    }

    /// Whether the file ends with the digest of the code before it; `None` if it cannot be read.
    fn is_sealed(&self, file: &dyn StorageFile, cid: &Cid) -> Option<bool> {
        let len = file.len().ok().filter(|len| *len <= CODE_MAX_BYTES)?;
        let mut rest = usize::try_from(len).ok()?.checked_sub(SEAL_BYTES)?;
        let (mut hasher, mut chunk, mut at) = (self.hasher(cid, Made::Code), vec![0; CHUNK_BYTES], 0);
        while rest > 0 {
            let part = chunk.get_mut(..rest.min(CHUNK_BYTES))?;
            if file.read_at(part, at).ok()? != part.len() {
                return None;
            }
            hasher.update(part);
            at += part.len() as u64;
            rest -= part.len();
        }
        let mut seal = [0; SEAL_BYTES];
        let read = file.read_at(&mut seal, at).ok()?;
        let (magic, digest) = seal.split_at_checked(MAGIC.len())?;
        Some(read == SEAL_BYTES && magic == MAGIC && digest == hasher.finalize().as_bytes())
    }

    fn path(&self, cid: &Cid) -> String {
        format!("{CODE_DIR}/{cid}.{}", self.fingerprint)
    }

    /// Failing to write the cache is no error: the next start is slower, and that is all.
    fn cache(&self, storage: &dyn Storage, cid: &Cid, sealed: &[u8]) {
        let _ = storage.create_dir(CODE_DIR);
        let tag = std::process::id().to_string();
        let _ = replace_file(storage, &self.path(cid), &tag, sealed);
    }
}

/// Compiles in this process: for programs that are trusted, and for tests.
impl Compiler for Coder {
    fn compile(&self, loaded: &Loaded<'_>, profile: Profile) -> Result<Vec<u8>> {
        match profile == self.profile {
            true => self.seal(loaded),
            false => Self::new(profile)?.seal(loaded),
        }
    }

    fn outline(&self, loaded: &Loaded<'_>, profile: Profile) -> Result<Vec<u8>> {
        match profile == self.profile {
            true => self.seal_outline(loaded),
            false => Self::new(profile)?.seal_outline(loaded),
        }
    }
}

impl Engine {
    /// The engine of the profile that runs are made under.
    pub fn new() -> Result<Self> {
        Self::with_stack(Profile::default(), WASM_STACK_BYTES)
    }

    /// The engine of `profile`, with `bytes` of stack for the calls of a guest.
    pub fn with_stack(profile: Profile, bytes: usize) -> Result<Self> {
        Self::of(profile, Backend::Native, bytes)
    }

    /// The same, for code of `backend`.
    pub fn of(profile: Profile, backend: Backend, bytes: usize) -> Result<Self> {
        Self::of_settings(profile, backend.settings(profile)?, bytes)
    }

    /// The same for looking into kernels that are stopped; it runs the same code.
    pub fn looking(profile: Profile, backend: Backend, bytes: usize) -> Result<Self> {
        let mut config = backend.settings(profile)?;
        config.coredump_on_trap(true).wasm_backtrace_max_frames(NonZeroUsize::new(2 * FRAMES_MAX));
        Self::of_settings(profile, config, bytes)
    }

    fn of_settings(profile: Profile, mut config: Config, bytes: usize) -> Result<Self> {
        with_stack(&mut config, profile, bytes);
        Ok(Self { stack_bytes: bytes, ..Self::with(profile, &config, |_| Ok(()))? })
    }

    /// An engine with other settings than the profile's, to measure what each one costs, and with further
    /// interfaces on the wall, which are recorded like all others. Both are for programs without
    /// `async` functions.
    pub fn with(
        profile: Profile,
        config: &Config,
        extra: impl FnOnce(&mut Wall<'_>) -> wasmtime::Result<()>,
    ) -> Result<Self> {
        Self::with_pass(profile, config, rewrite::module, extra)
    }

    /// The engine of `det-2` with another pass over core modules, to measure what each one costs.
    pub fn measuring(pass: Pass) -> Result<Self> {
        Self::with_pass(Profile::Det2, &det_2(Profile::Det2), pass, |_| Ok(()))
    }

    fn with_pass(
        profile: Profile,
        config: &Config,
        pass: Pass,
        extra: impl FnOnce(&mut Wall<'_>) -> wasmtime::Result<()>,
    ) -> Result<Self> {
        let coder = Coder::with(profile, config, pass)?;
        let linker = Self::wall(&coder.plain.engine, profile, extra)?;
        let (composed, concurrent) = (OnceLock::new(), OnceLock::new());
        Ok(Self { coder, linker, composed, concurrent, stack_bytes: WASM_STACK_BYTES })
    }

    /// All that programs of one configuration can reach.
    fn wall(
        engine: &wasmtime::Engine,
        profile: Profile,
        extra: impl FnOnce(&mut Wall<'_>) -> wasmtime::Result<()>,
    ) -> std::result::Result<Linker<State>, HostAbort> {
        let mut linker = Linker::new(engine);
        if profile.rewrites() {
            meter::define(&mut linker).map_err(|e| machine("define the meter", &e))?;
        }
        let mut wall = Wall::new(&mut linker);
        let defined = wasi::define(&mut wall)
            .and_then(|()| kernel_files::define(&mut wall))
            .and_then(|()| kernel_memory::define(&mut wall))
            .and_then(|()| adapt::define(&mut wall))
            .and_then(|()| extra(&mut wall));
        defined.map_err(|e| machine("define the wall", &e))?;
        Ok(linker)
    }

    /// The engine that `component` was compiled by.
    #[expect(clippy::unused_self, reason = "an engine has several configurations; callers need not know")]
    pub(crate) fn inner<'a>(&'a self, component: &'a Component) -> &'a wasmtime::Engine {
        component.engine()
    }

    /// What may be linked to `component`.
    fn linker(&self, component: &Component) -> Result<&Linker<State>> {
        let (engine, profile) = (component.engine(), self.profile());
        let made = match self.coder.shape_of(component) {
            Shape::Plain => return Ok(&self.linker),
            Shape::Composed => self.composed.get_or_init(|| Self::wall(engine, profile, |_| Ok(()))),
            Shape::Concurrent => self.concurrent.get_or_init(|| Self::wall(engine, profile, wasi3::define)),
        };
        made.as_ref().map_err(|abort| abort.clone().into())
    }

    /// What compiles in this process.
    pub fn coder(&self) -> &Coder {
        &self.coder
    }

    /// The profile that it runs programs under.
    pub fn profile(&self) -> Profile {
        self.coder.profile
    }

    /// What a program that never gives way needs of a thread's stack.
    pub(crate) fn native_bytes(&self) -> Option<usize> {
        let native = native_bytes(self.profile(), self.stack_bytes).saturating_add(HOST_STACK_BYTES);
        self.profile().rewrites().then_some(native)
    }

    /// The stack that a guest has.
    pub fn stack_bytes(&self) -> usize {
        self.stack_bytes
    }

    /// Compiles and links `loaded` in this process, using the cache in `storage` if there is one.
    pub fn compile(&self, loaded: &Loaded<'_>, storage: Option<&dyn Storage>) -> Result<Compiled> {
        self.compile_by(loaded, storage, &self.coder)
    }

    /// Links `loaded`, with code from the cache in `storage` or from `compiler`.
    pub fn compile_by(
        &self,
        loaded: &Loaded<'_>,
        storage: Option<&dyn Storage>,
        compiler: &dyn Compiler,
    ) -> Result<Compiled> {
        let (component, origin) = self.code(loaded, storage, compiler)?;
        let linked = self.link(&component, loaded.place)?;
        let (cid, kind, core) = (loaded.cid, loaded.kind, loaded.core.clone());
        let shape = self.coder.shape_of(&component);
        let instances_max = instances_max(loaded.bytes);
        let exports = OnceLock::new();
        Ok(Compiled { cid, kind, origin, shape, instances_max, component, linked, core, exports })
    }

    pub(crate) fn code(
        &self,
        loaded: &Loaded<'_>,
        storage: Option<&dyn Storage>,
        compiler: &dyn Compiler,
    ) -> Result<(Component, Origin)> {
        let codes = self.coder.codes(loaded)?;
        if let Some(component) = storage.and_then(|storage| codes.cached(storage, &loaded.cid)) {
            return Ok((component, Origin::Cache));
        }
        // Refused here, by name: a compiler would only say that it failed.
        loaded.check_imports()?;
        loaded.check_interfaces()?;
        let sealed = compiler.compile(loaded, self.profile())?;
        let unsealed = codes.unseal(&loaded.cid, &sealed, Made::Code).ok_or_else(|| wrong_seal(loaded))?;
        let component = unsealed.map_err(|e| match compiler.backend() {
            // The code is what was made for this engine: nothing else is left that it may not take.
            Backend::Pooled => no_room(&chain(&e)),
            _ => machine("take its own code", &e),
        })?;
        if let Some(storage) = storage {
            codes.cache(storage, &loaded.cid, &sealed);
        }
        Ok((component, Origin::Compiled))
    }

    /// A component with the types, imports and exports of `loaded`, which cannot be run: compiled code if the cache has
    /// it, and otherwise what `compiler` makes in a fraction of the time. The cache stays as it is.
    pub(crate) fn outline(
        &self,
        loaded: &Loaded<'_>,
        storage: Option<&dyn Storage>,
        compiler: &dyn Compiler,
    ) -> Result<Component> {
        let codes = self.coder.codes(loaded)?;
        if let Some(component) = storage.and_then(|storage| codes.cached(storage, &loaded.cid)) {
            return Ok(component);
        }
        loaded.check_imports()?;
        let sealed = compiler.outline(loaded, self.profile())?;
        let unsealed = codes.unseal(&loaded.cid, &sealed, Made::Outline).ok_or_else(|| wrong_seal(loaded))?;
        Ok(unsealed.map_err(|e| machine("take its own code", &e))?)
    }

    pub(crate) fn link(&self, component: &Component, place: &str) -> Result<InstancePre<State>> {
        self.linker(component)?.instantiate_pre(component).map_err(|e| {
            let message = chain(&e);
            let named = named_import(&message).unwrap_or(&message).to_owned();
            let missing = self.missing(component, named);
            let hint = foreign::hint_of_component(&missing);
            uncovered(&missing, hint, place)
        })
    }

    /// The import that the engine named, and all others that the host has not. It never has interfaces of other
    /// names than the wall's.
    fn missing(&self, component: &Component, named: String) -> Vec<String> {
        let (ty, engine) = (component.component_type(), self.inner(component));
        let has_functions = |item: &ComponentItem| match item {
            ComponentItem::ComponentInstance(inner) => {
                inner.exports(engine).any(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
            }
            item => matches!(item, ComponentItem::ComponentFunc(_)),
        };
        let others = ty
            .imports(engine)
            .filter(|(name, item)| *name != named && !is_of_the_wall(name) && has_functions(&item.ty));
        let others: Vec<String> = others.map(|(name, _)| name.to_owned()).collect();
        std::iter::once(named).chain(others).collect()
    }
}

/// What a compiler gave is not what it should be of.
fn wrong_seal(loaded: &Loaded<'_>) -> Corrupt {
    let place = format!("the answer of the compiler for `{}`", loaded.place);
    Corrupt::new("compiled code", place, "the digest of its bytes", "another")
}

/// All of a file whose length was checked.
fn whole(file: &dyn StorageFile) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
    let read = file.read_at(&mut bytes, 0).ok()?;
    (read == bytes.len()).then_some(bytes)
}

/// The import that the engine's message is about.
fn named_import(message: &str) -> Option<&str> {
    let start = message.find("imports ")?;
    message.get(start..)?.split('`').nth(1)
}

/// The settings and version that compiled code depends on, as a short name for files.
fn fingerprint(engine: &wasmtime::Engine, profile: Profile) -> String {
    struct Blake(blake3::Hasher);
    impl Hasher for Blake {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Blake(blake3::Hasher::new());
    (ENGINE, WRAPPING).hash(&mut hasher);
    if profile.rewrites() {
        (profile.name(), REWRITING).hash(&mut hasher);
    }
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().to_hex().get(..16).unwrap_or_default().to_owned()
}

pub(crate) fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn machine(what: &str, error: &wasmtime::Error) -> HostAbort {
    HostAbort::new(AbortKind::Machine, format!("cannot {what}: {}", chain(error)))
}

//! The engine's settings (profile `det-1`), compiling, and the cache of compiled code.
//!
//! Compiled code is trusted by the machine, so it is never taken from a guest or a bundle: only
//! from this home's cache, under the CID of the program and a fingerprint of the engine, and only
//! if its digest is the one that was written with it.

use std::hash::{Hash, Hasher};

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, HostAbort, Result};
use vac_core::storage::{OpenMode, Storage, StorageFile, replace_file};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, OptLevel};

use crate::limits::{NATIVE_STACK_BYTES, WASM_STACK_BYTES};
use crate::load::{Kind, Loaded, uncovered};
use crate::wall::{State, Wall};
use crate::{adapt, kernel_files, wasi};

/// Name and version of the engine and of the way WASI 0.1 modules are adapted, as a run's header
/// records it.
pub const ENGINE: &str = "wasmtime 48.0.8, adapter 48.0.8.1";
/// The profile of determinism, as a run's header records it.
pub const PROFILE: &str = "det-1";

/// Follows the code in a file of compiled code, with the version of that format. The code comes first,
/// so that the file can be mapped as it is.
const MAGIC: [u8; 8] = *b"VACCODE\x02";
/// Magic and digest.
const SEAL_BYTES: usize = MAGIC.len() + 32;
/// Read and hashed at a time; stays in the processor's cache between the two.
const CHUNK_BYTES: usize = 256 << 10;
/// Compiled code is larger than what it was made from, but not without bound.
const CODE_MAX_BYTES: u64 = 2 << 30;
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

/// Compiles and links programs.
pub struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    fingerprint: String,
}

/// A program that is compiled and linked, and can be started any number of times.
pub struct Compiled {
    /// Name of the program's bytes.
    pub cid: Cid,
    /// What they are.
    pub kind: Kind,
    /// Where the code came from.
    pub origin: Origin,
    pub(crate) component: Component,
    pub(crate) linked: InstancePre<State>,
}

/// The settings of profile `det-1`. Each is a row of `docs/determinism.md`.
pub fn det_1() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        // Programs in C++ of today throw with them. Their objects are charged as memory.
        .wasm_exceptions(true)
        .wasm_gc(false)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(NATIVE_STACK_BYTES);
    config
}

impl Engine {
    /// The engine of profile `det-1`.
    pub fn new() -> Result<Self> {
        Self::with(&det_1(), |_| Ok(()))
    }

    /// An engine with other settings, to measure what each one costs, and with further
    /// interfaces on the wall, which are recorded like all others.
    pub fn with(config: &Config, extra: impl FnOnce(&mut Wall<'_>) -> wasmtime::Result<()>) -> Result<Self> {
        let engine = wasmtime::Engine::new(config).map_err(|e| machine("start the engine", &e))?;
        let mut linker = Linker::new(&engine);
        let mut wall = Wall::new(&mut linker);
        let defined = wasi::define(&mut wall)
            .and_then(|()| kernel_files::define(&mut wall))
            .and_then(|()| adapt::define(&mut wall))
            .and_then(|()| extra(&mut wall));
        defined.map_err(|e| machine("define the wall", &e))?;
        let fingerprint = fingerprint(&engine);
        Ok(Self { engine, linker, fingerprint })
    }

    pub(crate) fn inner(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Compiles and links `loaded`, using the cache in `storage` if there is one. Failing to
    /// write the cache is no error: the next start is slower, and that is all.
    pub fn compile(&self, loaded: &Loaded<'_>, storage: Option<&dyn Storage>) -> Result<Compiled> {
        let cached = storage.and_then(|storage| self.cached(storage, &loaded.cid));
        let (component, origin) = match cached {
            Some(component) => (component, Origin::Cache),
            None => (self.compile_now(loaded, storage)?, Origin::Compiled),
        };
        let linked = self.link(&component, loaded.place)?;
        Ok(Compiled { cid: loaded.cid, kind: loaded.kind, origin, component, linked })
    }

    fn compile_now(&self, loaded: &Loaded<'_>, storage: Option<&dyn Storage>) -> Result<Component> {
        let component = Component::from_binary(&self.engine, &loaded.component()?).map_err(|e| {
            Corrupt::new(
                "program",
                format!("`{}`", loaded.place),
                "a valid component",
                vac_core::fault::quote(&chain(&e)),
            )
        })?;
        if let (Some(storage), Ok(code)) = (storage, component.serialize()) {
            let path = self.code_path(&loaded.cid);
            let _ = storage.create_dir(CODE_DIR);
            let tag = std::process::id().to_string();
            let _ = replace_file(storage, &path, &tag, &self.sealed(&loaded.cid, &code));
        }
        Ok(component)
    }

    fn code_path(&self, cid: &Cid) -> String {
        format!("{CODE_DIR}/{cid}.{}", self.fingerprint)
    }

    /// The file of some compiled code: code, magic, digest.
    fn sealed(&self, cid: &Cid, code: &[u8]) -> Vec<u8> {
        let digest = self.hasher(cid).update(code).finalize();
        [code, &MAGIC, digest.as_bytes()].concat()
    }

    /// Covers what the code was made from and for, so that files cannot be exchanged; the code follows.
    fn hasher(&self, cid: &Cid) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key("vac compiled code 1");
        hasher.update(&cid.to_bytes()).update(self.fingerprint.as_bytes());
        hasher
    }

    /// Code from the cache, if it is there and exactly what was written.
    fn cached(&self, storage: &dyn Storage, cid: &Cid) -> Option<Component> {
        let file = storage.open(&self.code_path(cid), OpenMode::Read).ok()?;
        if !self.is_sealed(&*file, cid)? {
            return None;
        }
        // SAFETY: `deserialize` runs what it is given as machine code, so the bytes must come
        // from `serialize` of this engine. (1) The home is the operator's own and no guest can
        // write to it; VAC itself never writes to a file of code that has its name: it replaces it.
        // (2) The digest, checked above over the very file that is mapped or read here, through the
        // same open file, says that it holds what `compile_now` wrote for this program and this
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
        let (mut hasher, mut chunk, mut at) = (self.hasher(cid), vec![0; CHUNK_BYTES], 0);
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

    pub(crate) fn link(&self, component: &Component, place: &str) -> Result<InstancePre<State>> {
        self.linker.instantiate_pre(component).map_err(|e| {
            let message = chain(&e);
            match named_import(&message) {
                Some(import) => uncovered(import, place),
                None => uncovered(&message, place),
            }
        })
    }
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
fn fingerprint(engine: &wasmtime::Engine) -> String {
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
    ENGINE.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().to_hex().get(..16).unwrap_or_default().to_owned()
}

pub(crate) fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn machine(what: &str, error: &wasmtime::Error) -> HostAbort {
    HostAbort::new(AbortKind::Machine, format!("cannot {what}: {}", chain(error)))
}

//! A program or script, by path, CID or built-in name, and the cache of compiled programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use vac_core::cid::Cid;
use vac_core::fault::{HostAbort, Result, Usage, quote};
use vac_host::limits::MODULE_DEFAULT_BYTES;
use vac_host::state::fixed_parts;
use vac_host::{Backend, Compiled, Compiler, Engine, Loaded, Profile, inspect, load};

use crate::home::Home;
use crate::limits::{Limit, Limits};
use crate::session::Outside;

/// Kernels that come with VAC, by name: `builtin:NAME`.
pub const BUILTINS: &[(&str, &[u8])] = &[
    ("plot", include_bytes!("../../../ring1-kernels/prebuilt/plot.wasm")),
    ("series", include_bytes!("../../../ring1-kernels/prebuilt/series.wasm")),
    ("trend", include_bytes!("../../../ring1-kernels/prebuilt/trend.wasm")),
];

/// What begins the name of a built-in kernel.
const BUILTIN_PREFIX: &str = "builtin:";

/// The bytes behind a target.
#[derive(Debug, Clone)]
pub struct Target {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their name.
    pub cid: Cid,
    /// What a person calls it: the file's name, or the CID.
    pub name: String,
    /// Where it was found, for messages.
    pub place: String,
    /// The folder of the file, if it is one.
    pub folder: Option<PathBuf>,
}

impl Target {
    /// Whether it is a script rather than a program.
    pub fn is_script(&self) -> bool {
        !self.bytes.starts_with(b"\0asm") && (self.name.ends_with(".star") || self.folder.is_none())
    }

    /// Finds what `text` names: a file, a CID in the store, or `builtin:NAME`.
    pub fn find(home: &Home, text: &str) -> Result<Self> {
        Self::find_within(home, text, MODULE_DEFAULT_BYTES)
    }

    /// The same, for files of at most `max_bytes`.
    pub fn find_within(home: &Home, text: &str, max_bytes: u64) -> Result<Self> {
        if let Some(name) = text.strip_prefix(BUILTIN_PREFIX) {
            return builtin(name);
        }
        if let Ok(cid) = text.parse::<Cid>() {
            return Self::from_store(home, &cid);
        }
        Self::from_file(Path::new(text), max_bytes)
    }

    /// The file at `path`, of at most `max_bytes`.
    pub fn from_file(path: &Path, max_bytes: u64) -> Result<Self> {
        let bytes = read_program(path, max_bytes)?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let folder =
            path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p }.to_owned());
        Ok(Self { cid: Cid::of_raw(&bytes), bytes, name, place: path.display().to_string(), folder })
    }

    /// The object `cid`.
    pub fn from_store(home: &Home, cid: &Cid) -> Result<Self> {
        let bytes = home.store().get(cid)?.ok_or_else(|| {
            Usage::new(format!("the store has no object `{cid}`"))
                .hint("`vac store ls` lists them, `vac store put FILE` adds one")
        })?;
        Ok(Self { bytes, cid: *cid, name: cid.to_string(), place: cid.to_string(), folder: None })
    }
}

fn builtin(name: &str) -> Result<Target> {
    let found = BUILTINS.iter().find(|(known, _)| *known == name);
    let (name, bytes) = found.ok_or_else(|| {
        let known: Vec<_> = BUILTINS.iter().map(|(name, _)| format!("`{BUILTIN_PREFIX}{name}`")).collect();
        Usage::new(format!("there is no built-in kernel `{}`", quote(name)))
            .hint(format!("there are {}", known.join(", ")))
    })?;
    let text = format!("{BUILTIN_PREFIX}{name}");
    Ok(Target {
        bytes: bytes.to_vec(),
        cid: Cid::of_raw(bytes),
        name: text.clone(),
        place: text,
        folder: None,
    })
}

fn read_program(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| -> vac_core::fault::Error {
        match e.kind() {
            std::io::ErrorKind::NotFound => Usage::new(format!("there is no file `{}`", path.display()))
                .hint("a target is a `.star` script, a `.wasm` file, a CID or `builtin:NAME`")
                .into(),
            std::io::ErrorKind::IsADirectory => {
                Usage::new(format!("`{}` is a directory", path.display())).into()
            }
            _ => HostAbort::io("read", path.display(), &e).into(),
        }
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Usage::new(format!("`{}` is a directory, expected a program", path.display())).into());
    }
    if metadata.len() > max_bytes {
        return Err(load::too_large(&path.display().to_string(), metadata.len(), max_bytes));
    }
    std::fs::read(path).map_err(failed)
}

/// An engine and what it compiled, for several runs in one process: so the memory of one is used again by the next, if the
/// engine keeps it.
pub struct Warm {
    engine: Engine,
    compiled: Mutex<BTreeMap<Cid, Arc<Compiled>>>,
}

impl Warm {
    /// An engine for runs under `profile` within `limits`, whose programs are compiled for `backend`.
    pub fn new(profile: Profile, backend: Backend, limits: &Limits) -> Result<Self> {
        let engine = Engine::of(profile, backend, limits.max_usize(Limit::Depth))?;
        Ok(Self { engine, compiled: Mutex::default() })
    }

    fn compiled(&self) -> std::sync::MutexGuard<'_, BTreeMap<Cid, Arc<Compiled>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compiles programs, each once.
pub struct Programs {
    engine: OnceLock<Engine>,
    /// Used instead of an engine of its own, if it is of the same profile and stack.
    warm: Option<Arc<Warm>>,
    compiled: BTreeMap<Cid, Arc<Compiled>>,
    compiler: Arc<dyn Compiler>,
    profile: Profile,
    stack_bytes: usize,
    module_max_bytes: u64,
    looks: bool,
}

impl Programs {
    /// Programs that are run within `limits`, and compiled by the compiler of `outside`.
    pub fn new(limits: &Limits, outside: &Outside) -> Self {
        Self { warm: outside.warm.clone(), ..Self::compiled_by(limits, Arc::clone(&outside.compiler)) }
    }

    /// Programs that are run within `limits`, and compiled by `compiler`.
    pub fn compiled_by(limits: &Limits, compiler: Arc<dyn Compiler>) -> Self {
        Self {
            engine: OnceLock::new(),
            warm: None,
            compiled: BTreeMap::new(),
            compiler,
            profile: Profile::default(),
            stack_bytes: limits.max_usize(Limit::Depth),
            module_max_bytes: limits.max(Limit::Module),
            looks: false,
        }
    }

    /// The same programs under `profile`, as an old run needs them.
    #[must_use]
    pub fn under(self, profile: Profile) -> Self {
        Self { engine: OnceLock::new(), compiled: BTreeMap::new(), profile, ..self }
    }

    /// The same, for looking into kernels that are stopped.
    #[must_use]
    pub(crate) fn looking(self) -> Self {
        Self { looks: true, ..self }
    }

    /// What `target` with `links` is, for those who only look at it.
    pub fn inspect(&self, home: &Home, target: &Target, links: &[Target]) -> Result<inspect::Program> {
        let root = self.load(target)?;
        let linked = if links.is_empty() { None } else { Some(link_all(&root, links)?) };
        let loaded = match &linked {
            Some(bytes) => load::load(bytes, &target.place)?,
            None => root,
        };
        inspect::program(self.engine()?, &loaded, Some(&**home.storage()), &*self.compiler)
    }

    /// Why a run of `target` with `links` can have no snapshots, as far as its code says.
    pub(crate) fn fixed_parts(&self, target: &Target, links: &[Target]) -> Result<Option<String>> {
        let root = self.load(target)?;
        if links.is_empty() {
            return fixed_parts(&root, self.profile);
        }
        let linked = link_all(&root, links)?;
        fixed_parts(&load::load(&linked, &target.place)?, self.profile)
    }

    fn load<'t>(&self, target: &'t Target) -> Result<Loaded<'t>> {
        let len = target.bytes.len() as u64;
        if len > self.module_max_bytes {
            return Err(load::too_large(&target.place, len, self.module_max_bytes));
        }
        load::load_as(target.cid, &target.bytes, &target.place)
    }

    /// What programs are compiled for.
    pub fn backend(&self) -> Backend {
        self.compiler.backend()
    }

    /// What other runs left, if it will do for these programs.
    fn warm(&self) -> Option<&Warm> {
        let is_like = |warm: &&Warm| {
            (warm.engine.profile(), warm.engine.stack_bytes()) == (self.profile, self.stack_bytes)
        };
        self.warm.as_deref().filter(|_| !self.looks).filter(is_like)
    }

    /// The engine, started when it is first needed.
    pub fn engine(&self) -> Result<&Engine> {
        if let Some(warm) = self.warm() {
            return Ok(&warm.engine);
        }
        if self.engine.get().is_none() {
            let start = if self.looks { Engine::looking } else { Engine::of };
            let _ = self.engine.set(start(self.profile, self.compiler.backend(), self.stack_bytes)?);
        }
        self.engine.get().ok_or_else(|| {
            HostAbort::new(vac_core::fault::AbortKind::Machine, "the engine did not start").into()
        })
    }

    /// The compiled form of `target`.
    pub fn compile(&mut self, home: &Home, target: &Target) -> Result<Arc<Compiled>> {
        let before = self.warm().and_then(|warm| warm.compiled().get(&target.cid).cloned());
        if let Some(compiled) = before.or_else(|| self.compiled.get(&target.cid).cloned()) {
            return Ok(compiled);
        }
        let loaded = self.load(target)?;
        let engine = self.engine()?;
        let compiled = Arc::new(engine.compile_by(&loaded, Some(&**home.storage()), &*self.compiler)?);
        if let Some(warm) = self.warm() {
            warm.compiled().insert(target.cid, Arc::clone(&compiled));
        }
        self.compiled.insert(target.cid, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// The compiled form of `target` with `links`, under the name `identity`: that of the program whose place it
    /// takes.
    pub fn compile_as(
        &mut self,
        home: &Home,
        target: &Target,
        links: &[Target],
        identity: Cid,
    ) -> Result<Arc<Compiled>> {
        if identity == target.cid {
            return self.compile_linked(home, target, links);
        }
        let root = self.load(target)?;
        let linked = if links.is_empty() { None } else { Some(link_all(&root, links)?) };
        let loaded = match &linked {
            Some(bytes) => load::load(bytes, &target.place)?,
            None => root,
        };
        let mut compiled = self.engine()?.compile_by(&loaded, Some(&**home.storage()), &*self.compiler)?;
        compiled.cid = identity;
        Ok(Arc::new(compiled))
    }

    /// The compiled form of `target` with `links` standing in for imports that the host does not have.
    pub fn compile_linked(
        &mut self,
        home: &Home,
        target: &Target,
        links: &[Target],
    ) -> Result<Arc<Compiled>> {
        if links.is_empty() {
            return self.compile(home, target);
        }
        let root = self.load(target)?;
        let linked = link_all(&root, links)?;
        let loaded = load::load(&linked, &target.place)?;
        let mut compiled = self.engine()?.compile_by(&loaded, Some(&**home.storage()), &*self.compiler)?;
        // Its code is kept under the name of what was compiled; a record names the program itself.
        compiled.cid = root.cid;
        Ok(Arc::new(compiled))
    }
}

/// The one component that `root` and `links` make.
pub fn link_all(root: &load::Loaded<'_>, links: &[Target]) -> Result<Vec<u8>> {
    let links: Vec<load::Loaded<'_>> =
        links.iter().map(|link| load::load(&link.bytes, &link.place)).collect::<Result<_>>()?;
    vac_host::link::link(root, &links)
}

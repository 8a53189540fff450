//! A program or script, by path, CID or built-in name, and the cache of compiled programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use vac_core::cid::Cid;
use vac_core::fault::{HostAbort, Result, Usage, quote};
use vac_host::limits::MODULE_MAX_BYTES;
use vac_host::{Compiled, Engine, load};

use crate::home::Home;

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
        if let Some(name) = text.strip_prefix(BUILTIN_PREFIX) {
            return builtin(name);
        }
        if let Ok(cid) = text.parse::<Cid>() {
            return Self::from_store(home, &cid);
        }
        Self::from_file(Path::new(text))
    }

    /// The file at `path`.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = read_program(path)?;
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

fn read_program(path: &Path) -> Result<Vec<u8>> {
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
    if metadata.len() > MODULE_MAX_BYTES {
        let message = format!(
            "`{}` has {} bytes; the limit for a program is {MODULE_MAX_BYTES}",
            path.display(),
            metadata.len()
        );
        return Err(HostAbort::new(vac_core::fault::AbortKind::Quota, message).into());
    }
    std::fs::read(path).map_err(failed)
}

/// Compiles programs, each once.
#[derive(Default)]
pub struct Programs {
    engine: OnceLock<Engine>,
    compiled: BTreeMap<Cid, Arc<Compiled>>,
}

impl Programs {
    /// The engine, started when it is first needed.
    pub fn engine(&self) -> Result<&Engine> {
        if self.engine.get().is_none() {
            let _ = self.engine.set(Engine::new()?);
        }
        self.engine.get().ok_or_else(|| {
            HostAbort::new(vac_core::fault::AbortKind::Machine, "the engine did not start").into()
        })
    }

    /// The compiled form of `target`.
    pub fn compile(&mut self, home: &Home, target: &Target) -> Result<Arc<Compiled>> {
        if let Some(compiled) = self.compiled.get(&target.cid) {
            return Ok(Arc::clone(compiled));
        }
        let loaded = load::load_as(target.cid, &target.bytes, &target.place)?;
        let compiled = Arc::new(self.engine()?.compile(&loaded, Some(&**home.storage()))?);
        self.compiled.insert(target.cid, Arc::clone(&compiled));
        Ok(compiled)
    }
}

//! What a core module shows: its imports, the functions that it exports, its memory.
//!
//! In the adapted component each exported function has a name that is made here, `e0`, `e1` and so
//! on in the order of the exports, because names of a component may not be what C compilers write, nor a word
//! that WIT keeps for itself, as `f32` is.
//! A user never sees them: the table here translates. The same goes for functions that are added to
//! reach the module's memory from outside, if it exports one; see [`crate::memory`].
//!
//! Invariant: a name depends on nothing but the module's bytes.

use vac_core::fault::{Corrupt, Result, cut, quote};
use wasm_encoder::Encode;
use wasmparser::{
    BinaryReaderError, CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType,
};

use crate::adapt::WASI_01;
use crate::limits::{CORE_EXPORTS_MAX, CORE_ITEMS_MAX, CORE_PARAMS_MAX};
use crate::load::malformed;

/// Exports that have a meaning of their own, if they take and give nothing: the adapter or the engine's loader calls
/// them.
const OWN_MEANING: [&str; 2] = ["_start", "_initialize"];
/// All functions of WASI 0.1. Others put functions of their own into its module, as those for sockets are.
const WASI_01_FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];
/// Imports that are not of WASI 0.1, of which all are told.
const FOREIGN_MAX: usize = 10_000;
/// What is told of the type of one.
const FOREIGN_TYPE_MAX_BYTES: usize = 500;
/// Begins the name of a custom section that says which world a module was made for.
const WORLD_SECTION: &str = "component-type";

/// An exported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoreFunction {
    /// What the module calls it.
    pub(crate) name: String,
    /// What the adapted component calls it.
    pub(crate) generated: String,
    /// Its index in the module.
    pub(crate) index: u32,
    pub(crate) params: Vec<ValType>,
    pub(crate) result: Option<ValType>,
}

/// An exported linear memory of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CoreMemory {
    pub(crate) index: u32,
    /// Its pages have two to the power of this many bytes.
    pub(crate) page_size_log2: u32,
}

/// An import that is not of WASI 0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) module: String,
    pub(crate) name: String,
    /// Its type as WebAssembly's text has it.
    pub(crate) ty: String,
}

/// What a core module shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CoreModule {
    /// Functions that can be called.
    pub(crate) functions: Vec<CoreFunction>,
    /// Names of those that cannot, each with the reason.
    pub(crate) uncallable: Vec<(String, String)>,
    /// Imports that are not of WASI 0.1.
    pub(crate) foreign: Vec<Foreign>,
    /// The first exported memory, if it can be reached from outside.
    pub(crate) memory: Option<CoreMemory>,
    /// Whether it imports anything of WASI 0.1.
    pub(crate) uses_wasi: bool,
    /// Whether it imports `proc_exit`.
    pub(crate) exits: bool,
    /// Whether it has tags, its own or imported ones.
    pub(crate) has_tags: bool,
    /// Whether it exports `_start`, or what stands in for it.
    pub(crate) has_start: bool,
    /// The function that the engine calls as soon as the module is there.
    pub(crate) start: Option<u32>,
    /// Whether it exports `_initialize`.
    pub(crate) has_initialize: bool,
    /// Whether there are sections of functions and of their bodies that can be added to.
    pub(crate) has_bodies: bool,
    /// The function of no name that stands in for `_start`: what a module for others to embed has instead.
    pub(crate) unnamed_start: Option<u32>,
    /// Bytes of its memory that are not the program's: what adapts it has them.
    pub(crate) below: u32,
    /// How many memories it has, imported ones with them.
    pub(crate) memories: u32,
    /// Whether it exports a memory of 32 bits, which the adapter can work on, as `memory`.
    pub(crate) has_memory_export: bool,
    /// The first memory that the adapter can work on.
    pub(crate) first_memory: Option<u32>,
    /// Whether it has a memory that several threads share, its own or an imported one.
    pub(crate) shares_memory: bool,
    /// Whether it says itself which world it is for. Then it is left as it is.
    pub(crate) has_world: bool,
    /// Numbers of types and of functions, for adding some.
    pub(crate) types: u32,
    pub(crate) all_functions: u32,
}

/// What is known while the sections are read.
#[derive(Default)]
struct Reading {
    module: CoreModule,
    types: Vec<Option<FuncType>>,
    functions: Vec<u32>,
    memories: Vec<Option<CoreMemory>>,
}

impl CoreModule {
    /// Reads what `bytes`, a core module, shows. Bodies are not looked at.
    pub(crate) fn read(bytes: &[u8], place: &str) -> Result<Self> {
        let mut reading = Reading::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let read = payload.and_then(|payload| reading.section(payload));
            read.map_err(|e| malformed(&e, place))?.map_err(|what| too_many(&what, place))?;
        }
        let mut module = reading.module;
        if !module.has_bodies {
            module.memory = None;
        }
        module.unnamed_start = module.unnamed_start.filter(|_| !module.has_start && !module.has_world);
        module.has_start |= module.unnamed_start.is_some();
        // What it does then is all that it does.
        module.has_start |= module.begins_later() && !module.has_initialize && module.functions.is_empty();
        module.memories = reading.memories.len() as u32;
        Ok(module)
    }

    /// Whether its start function is called by [`Self::entry`] instead of the engine: WASI is there when the module is,
    /// and no sooner.
    pub(crate) fn begins_later(&self) -> bool {
        self.start.is_some() && self.uses_wasi && self.has_bodies && !self.has_world
    }

    /// What is called before anything else: of a program that is only run, its beginning.
    pub(crate) fn entry(&self) -> &'static str {
        let is_only_run = self.has_start && self.functions.is_empty() && !self.has_initialize;
        if is_only_run { "_start" } else { "_initialize" }
    }

    /// The function that the component calls `generated`.
    pub(crate) fn by_generated(&self, generated: &str) -> Option<&CoreFunction> {
        let number: usize = generated.strip_prefix('e')?.parse().ok()?;
        self.functions.get(number).filter(|f| f.generated == generated)
    }

    /// Whether the adapter, which works on an exported memory, would look for one in vain. A program that needs
    /// no memory of its own is one all the same.
    pub(crate) fn lacks_memory(&self) -> bool {
        (self.uses_wasi || self.has_start) && !self.has_memory_export && !self.has_world
    }

    /// Whether an export that is looked for by its name is of the kind that is looked for.
    pub(crate) fn means_what_it_says(&self, name: &str) -> bool {
        let is_plain = || {
            let others =
                self.functions.iter().map(|f| &f.name).chain(self.uncallable.iter().map(|(name, _)| name));
            others.into_iter().all(|other| other != name)
        };
        match name {
            "memory" => self.has_memory_export,
            name if OWN_MEANING.contains(&name) => is_plain(),
            _ => true,
        }
    }

    /// The world of the adapted module, as WIT: a function for each one that is exported.
    pub(crate) fn world(&self) -> String {
        let mut wit = String::from("package vac:core@0.1.0;\nworld exports {\n");
        for f in &self.functions {
            wit += &function_wit(&f.generated, &f.params, f.result);
        }
        if self.memory.is_some() {
            for (name, params, result) in crate::memory::HELPERS {
                wit += &function_wit(name, params, *result);
            }
        }
        wit + "}\n"
    }
}

impl CoreFunction {
    /// The function as WIT would write it, but under its own name.
    pub(crate) fn signature(&self) -> String {
        let wit = function_wit(&self.name, &self.params, self.result);
        let plain = wit.trim().trim_start_matches("export ").trim_end_matches(';');
        plain.replacen(": func(", "(", 1)
    }
}

fn function_wit(name: &str, params: &[ValType], result: Option<ValType>) -> String {
    let params: Vec<_> = params
        .iter()
        .enumerate()
        .map(|(i, ty)| format!("p{i}: {}", wit_type(*ty).unwrap_or("s32")))
        .collect();
    let result = result.and_then(wit_type).map_or_else(String::new, |ty| format!(" -> {ty}"));
    format!("  export {name}: func({}){result};\n", params.join(", "))
}

/// The component type that has the same values; none if there is none.
fn wit_type(ty: ValType) -> Option<&'static str> {
    match ty {
        ValType::I32 => Some("s32"),
        ValType::I64 => Some("s64"),
        ValType::F32 => Some("f32"),
        ValType::F64 => Some("f64"),
        ValType::V128 | ValType::Ref(_) => None,
    }
}

/// Says of what how much there may be, if there is more.
type Counted = std::result::Result<(), String>;

fn too_many(what: &str, place: &str) -> vac_core::fault::Error {
    Corrupt::new("program", format!("`{place}`"), what, "more").into()
}

fn at_most(what: &str) -> Counted {
    Err(format!("at most {CORE_ITEMS_MAX} {what}"))
}

impl Reading {
    fn section(&mut self, payload: Payload<'_>) -> std::result::Result<Counted, BinaryReaderError> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(func) => Some(func),
                            _ => None,
                        });
                        if self.types.len() > CORE_ITEMS_MAX {
                            return Ok(at_most("types"));
                        }
                    }
                }
                self.module.types = self.types.len() as u32;
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty);
                    if self.functions.len() > CORE_ITEMS_MAX {
                        return Ok(at_most("imports"));
                    }
                    if self.module.foreign.len() > FOREIGN_MAX {
                        return Ok(Err(format!("at most {FOREIGN_MAX} imports that are not of WASI 0.1")));
                    }
                }
                self.module.all_functions = self.functions.len() as u32;
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty?);
                    if self.functions.len() > CORE_ITEMS_MAX {
                        return Ok(at_most("functions"));
                    }
                }
                self.module.all_functions = self.functions.len() as u32;
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memory(&memory?);
                    if self.memories.len() > CORE_ITEMS_MAX {
                        return Ok(at_most("memories"));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                if exports.count() as usize > CORE_ITEMS_MAX {
                    return Ok(at_most("exports"));
                }
                for export in exports {
                    let export = export?;
                    self.export(export.name, export.kind, export.index);
                }
            }
            Payload::TagSection(_) => self.module.has_tags = true,
            Payload::StartSection { func, .. } => self.module.start = Some(func),
            Payload::CodeSectionStart { count, .. } => self.module.has_bodies = count > 0,
            Payload::CustomSection(section) => {
                self.module.has_world |= section.name().starts_with(WORLD_SECTION);
            }
            _ => {}
        }
        Ok(Ok(()))
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) {
        let shown = match ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                self.functions.push(index);
                let func = self.types.get(index as usize).and_then(Option::as_ref);
                let shown = func.map_or_else(|| "func".to_owned(), |func| format!("func {func}"));
                cut(&shown, FOREIGN_TYPE_MAX_BYTES).to_owned()
            }
            TypeRef::Memory(memory) => {
                self.memory(&memory);
                "memory".to_owned()
            }
            TypeRef::Table(_) => "table".to_owned(),
            TypeRef::Global(_) => "global".to_owned(),
            TypeRef::Tag(_) => {
                self.module.has_tags = true;
                "tag".to_owned()
            }
        };
        if module == WASI_01 && WASI_01_FUNCTIONS.contains(&name) {
            self.module.uses_wasi = true;
            self.module.exits |= name == "proc_exit";
        } else {
            self.module.foreign.push(Foreign { module: module.into(), name: name.into(), ty: shown });
        }
    }

    fn memory(&mut self, memory: &wasmparser::MemoryType) {
        let index = self.memories.len() as u32;
        let page_size_log2 = memory.page_size_log2.unwrap_or(16);
        let reachable = !memory.memory64 && !memory.shared;
        self.module.shares_memory |= memory.shared;
        self.memories.push(reachable.then_some(CoreMemory { index, page_size_log2 }));
        if reachable && self.module.first_memory.is_none() {
            self.module.first_memory = Some(index);
        }
    }

    fn export(&mut self, name: &str, kind: ExternalKind, index: u32) {
        let memory =
            (kind == ExternalKind::Memory).then(|| self.memories.get(index as usize).copied().flatten());
        self.module.has_memory_export |= name == "memory" && memory.flatten().is_some();
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => self.exported_function(name, index),
            ExternalKind::Memory if self.module.memory.is_none() => self.module.memory = memory.flatten(),
            _ => {}
        }
    }

    fn exported_function(&mut self, name: &str, index: u32) {
        let ty = self.functions.get(index as usize).and_then(|ty| self.types.get(*ty as usize));
        let Some(Some(ty)) = ty else { return };
        let is_plain = ty.params().is_empty() && ty.results().is_empty();
        if OWN_MEANING.contains(&name) && is_plain {
            self.module.has_start |= name == "_start";
            self.module.has_initialize |= name == "_initialize";
            return;
        }
        if name.is_empty() && is_plain {
            self.module.unnamed_start = Some(index);
            return;
        }
        match callable(ty, self.module.functions.len()) {
            Ok(()) => self.module.functions.push(CoreFunction {
                name: name.to_owned(),
                generated: format!("e{}", self.module.functions.len()),
                index,
                params: ty.params().to_vec(),
                result: ty.results().first().copied(),
            }),
            Err(reason) => self.module.uncallable.push((name.to_owned(), reason)),
        }
    }
}

/// Whether a function of this type can be called from outside, and if not, why.
fn callable(ty: &FuncType, before: usize) -> std::result::Result<(), String> {
    if before >= CORE_EXPORTS_MAX {
        return Err(format!("it comes after {CORE_EXPORTS_MAX} others"));
    }
    if ty.params().len() > CORE_PARAMS_MAX {
        return Err(format!(
            "it has {} parameters, at most {CORE_PARAMS_MAX} can be passed",
            ty.params().len()
        ));
    }
    if ty.results().len() > 1 {
        return Err(format!("it has {} results, at most one can be returned", ty.results().len()));
    }
    match ty.params().iter().chain(ty.results()).find(|ty| wit_type(**ty).is_none()) {
        Some(other) => Err(format!("a `{}` cannot leave the module", quote(&other.to_string()))),
        None => Ok(()),
    }
}

/// `section` with `count` more items.
pub(crate) fn append(section: &[u8], count: u32, items: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut reader = wasmparser::BinaryReader::new(section, 0);
    let before = reader.read_var_u32().map_err(|e| e.to_string())?;
    let rest = section.get(reader.current_position()..).ok_or("a section that ends in its count")?;
    let mut longer = Vec::with_capacity(section.len() + items.len() + 5);
    before.checked_add(count).ok_or("too many items")?.encode(&mut longer);
    longer.extend_from_slice(rest);
    longer.extend_from_slice(items);
    Ok(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_grows_by_its_count_and_its_items() {
        assert_eq!(append(&[2, 7, 8], 1, &[9]).unwrap(), [3, 7, 8, 9]);
        assert_eq!(append(&[127, 7], 1, &[]).unwrap(), [0x80, 0x01, 7]);
        assert!(append(&[], 1, &[]).is_err());
        assert!(append(&[0xff, 0xff, 0xff, 0xff, 0x0f], 1, &[]).is_err());
    }
}

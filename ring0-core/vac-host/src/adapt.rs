//! Turning a core module into a component that imports WASI 0.2, if anything, and exports the
//! module's functions.
//!
//! For the imports, the adapter, completed by [`crate::adapter`], does all but one thing: it ends every failing
//! program with status 1, because stable WASI 0.2 knows success and failure only. So the module's import of
//! `proc_exit` is renamed, before it is adapted, to an interface of our own with the same core signature, which
//! keeps the status. For the exports, [`crate::core_module`] says which functions there are and what the
//! component calls them.

use vac_core::fault::{Corrupt, Result, quote};
use vac_core::ledger::Class;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    ExportKind, ExportSection, Function, ImportSection, MemorySection, MemoryType, Module, RawSection,
};
use wasmparser::{Parser, Payload, ValType};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::apart;
use crate::core_module::{CoreModule, append};
use crate::memory::{self, Added};
use crate::own_end::{sees_its_size, with_own_end};
use crate::wall::Wall;

/// The import module of WASI 0.1.
pub(crate) const WASI_01: &str = WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;

const EXIT_WIT: &str = include_str!("exit.wit");
const EXIT_INTERFACE: &str = "vac:wasi01/exit";
const EXIT_VERSION: &str = "@0.1.0";
/// Module and name of what stands for `proc_exit`.
pub(crate) const EXIT_IMPORT: (&str, &str) = ("vac:wasi01/exit@0.1.0", "exit");

/// The world of a command without an adapter, and what the encoder wants its function to be called.
const RUN: (&str, &str) = (
    "package vac:alone@0.1.0; package wasi:cli@0.2.12 { interface run { run: func() -> result; } } \
     world command { export wasi:cli/run@0.2.12; }",
    "wasi:cli/run@0.2.12#run",
);

const START_NAME: &str = "_start";

/// Exports that the adapter or the encoder looks for by name.
const KEPT: [&str; 5] = ["memory", "_start", "_initialize", "cabi_realloc", "canonical_abi_realloc"];

/// Numbers of sections.
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const MEMORIES: u8 = 5;
const EXPORTS: u8 = 7;
const START: u8 = 8;
const BODIES: u8 = 10;

/// Defines what adapted modules import besides WASI.
pub(crate) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface(EXIT_INTERFACE, EXIT_VERSION, |i| {
        i.exit("exit", Class::Local, true, |(status,): &(u32,)| *status)
    })
}

/// The component that does what `module` does and exports what it exports.
pub(crate) fn adapt(module: &[u8], core: &CoreModule, place: &str) -> Result<Vec<u8>> {
    encode(module, core).map_err(|why| {
        Corrupt::new("program", format!("`{place}`"), "a module that can be made a component", quote(&why))
            .into()
    })
}

fn encode(module: &[u8], core: &CoreModule) -> Result<Vec<u8>, String> {
    let adapter = match core.has_start {
        true => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let adapter = crate::adapter::complete(adapter)?;
    let with_room = apart::with_room(module, core).or_else(|| with_own_end(module, core));
    let (module, core) =
        with_room.as_ref().map_or((module, core), |(module, core)| (module.as_slice(), core));
    let is_alone =
        core.has_start && imports_nothing(core) && sees_its_size(module).map_err(|e| e.to_string())?;
    let rewritten = rewrite(module, core, is_alone)?;
    let component = || {
        let mut encoder = ComponentEncoder::default().module(&rewritten)?.validate(true);
        // A command is run through the adapter even if it imports nothing, but not where it would see that it has pages
        // in its memory.
        if core.uses_wasi || core.has_start && !is_alone {
            encoder = encoder.adapter(WASI_01, &adapter)?;
        }
        encoder.encode()
    };
    // What is around the cause tells only that a module was to become a component.
    component().map_err(|e| e.root_cause().to_string())
}

fn imports_nothing(core: &CoreModule) -> bool {
    !core.uses_wasi && !core.has_world && core.foreign.is_empty()
}

/// `module` with `proc_exit` renamed, its exports under the names of the component, and the types
/// of both declared. If it `is_alone`, its `_start` is the command that the adapter would make of it.
fn rewrite(module: &[u8], core: &CoreModule, is_alone: bool) -> Result<Vec<u8>, String> {
    let (exports, added) = exports(module, core, is_alone)?;
    let [types, functions, bodies] = added.items();
    let mut rewritten = Module::new();
    let needs_memory = core.lacks_memory() && core.first_memory.is_none();
    let mut memory = (needs_memory && core.memories == 0).then(one_page);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|e| e.to_string())?;
        if let (Payload::ImportSection(imports), true) = (&payload, core.exits) {
            rewritten.section(&renamed_exit(imports.clone())?);
            continue;
        }
        let Some((id, range)) = payload.as_section() else { continue };
        let data = module.get(range).ok_or("a section outside of the file")?;
        // Those of memories come before all with a higher number.
        if id > MEMORIES
            && let Some(memory) = memory.take()
        {
            rewritten.section(&memory);
        }
        let longer = match id {
            EXPORTS if !core.has_world => {
                rewritten.section(&exports);
                continue;
            }
            START if core.begins_later() => continue,
            TYPES => Some(append(data, added.count, &types)?),
            FUNCTIONS => Some(append(data, added.count, &functions)?),
            BODIES => Some(append(data, added.count, &bodies)?),
            MEMORIES if needs_memory => Some(append(data, 1, &ONE_PAGE)?),
            _ => None,
        };
        rewritten.section(&RawSection { id, data: longer.as_deref().unwrap_or(data) });
    }
    let mut bytes = rewritten.finish();
    if core.exits {
        declare(&mut bytes, EXIT_WIT)?;
    }
    if !core.has_world {
        declare(&mut bytes, &core.world())?;
    }
    if is_alone {
        declare(&mut bytes, RUN.0)?;
    }
    Ok(bytes)
}

/// The type of [`one_page`] as a section has it.
const ONE_PAGE: [u8; 2] = [0, 1];

/// A memory for the adapter to put its arguments and results in.
fn one_page() -> MemorySection {
    let mut section = MemorySection::new();
    let ty = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
    section.memory(ty);
    section
}

/// The exports of the rewritten module: those with a meaning of their own, its functions under
/// the names that the component gives them, and what reaches its memory.
fn exports(module: &[u8], core: &CoreModule, is_alone: bool) -> Result<(ExportSection, Added), String> {
    let (mut exports, mut added) = (ExportSection::new(), Added::new(core));
    if core.has_world {
        return Ok((exports, added));
    }
    let first = core.start.filter(|_| core.begins_later());
    let mut begins = first;
    for payload in Parser::new(0).parse_all(module) {
        let Payload::ExportSection(own) = payload.map_err(|e| e.to_string())? else { continue };
        for export in own {
            let export = export.map_err(|e| e.to_string())?;
            if KEPT.contains(&export.name) && core.means_what_it_says(export.name) {
                let kind = RoundtripReencoder.export_kind(export.kind).map_err(|e| e.to_string())?;
                let mut index = export.index;
                if let Some(first) = first.filter(|_| export.name == core.entry()) {
                    index = added.function(&[], None, &one_after_the_other(first, index));
                    begins = None;
                }
                export_as(&mut exports, &mut added, is_alone, (export.name, kind, index));
            }
        }
        break;
    }
    if core.lacks_memory() {
        exports.export("memory", ExportKind::Memory, core.first_memory.unwrap_or(core.memories));
    }
    if let Some(mut index) = core.unnamed_start {
        if let Some(first) = begins.take_if(|_| core.entry() == START_NAME) {
            index = added.function(&[], None, &one_after_the_other(first, index));
        }
        export_as(&mut exports, &mut added, is_alone, (START_NAME, ExportKind::Func, index));
    }
    if let Some(first) = begins {
        export_as(&mut exports, &mut added, is_alone, (core.entry(), ExportKind::Func, first));
    }
    for function in &core.functions {
        exports.export(&function.generated, ExportKind::Func, function.index);
    }
    if let Some(memory) = core.memory {
        memory::add(memory, core.below, &mut added, &mut exports);
    }
    Ok((exports, added))
}

/// Exports something under its name; of a program that `is_alone`, `_start` as the command that the adapter would make of it.
fn export_as(
    exports: &mut ExportSection,
    added: &mut Added,
    is_alone: bool,
    (name, kind, index): (&str, ExportKind, u32),
) {
    if !is_alone || name != START_NAME {
        exports.export(name, kind, index);
        return;
    }
    let mut run = Function::new([]);
    run.instructions().call(index).i32_const(0).end();
    exports.export(RUN.1, ExportKind::Func, added.function(&[], Some(ValType::I32), &run));
}

fn one_after_the_other(first: u32, second: u32) -> Function {
    let mut function = Function::new([]);
    function.instructions().call(first).call(second).end();
    function
}

/// The imports with `proc_exit` renamed.
fn renamed_exit(imports: wasmparser::ImportSectionReader<'_>) -> Result<ImportSection, String> {
    let mut section = ImportSection::new();
    for import in imports.into_imports() {
        let import = import.map_err(|e| e.to_string())?;
        let ty = RoundtripReencoder.entity_type(import.ty).map_err(|e| e.to_string())?;
        match (import.module, import.name) == (WASI_01, "proc_exit") {
            true => section.import(EXIT_IMPORT.0, EXIT_IMPORT.1, ty),
            false => section.import(import.module, import.name, ty),
        };
    }
    Ok(section)
}

/// Adds the custom section that tells the encoder the types of a world.
fn declare(module: &mut Vec<u8>, wit: &str) -> Result<(), String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("vac.wit", wit).map_err(|e| format!("{e:#}"))?;
    let world = resolve.select_world(&[package], None).map_err(|e| format!("{e:#}"))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).map_err(|e| format!("{e:#}"))
}

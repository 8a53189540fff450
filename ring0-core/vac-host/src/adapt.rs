//! Turning a WASI 0.1 module into a component that imports WASI 0.2.
//!
//! The adapter, completed by [`crate::adapter`], does all but one thing: it ends every failing
//! program with status 1, because stable WASI 0.2 knows success and failure only. So the module's
//! import of `proc_exit` is renamed, before it is adapted, to an interface of our own with the same
//! core signature, which keeps the status.

use vac_core::fault::{Corrupt, Result, quote};
use vac_core::ledger::Class;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ImportSection, Module, RawSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::load::Kind;
use crate::wall::Wall;

/// The import module of WASI 0.1.
pub(crate) const WASI_01: &str = WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;

const EXIT_WIT: &str = include_str!("exit.wit");
const EXIT_INTERFACE: &str = "vac:wasi01/exit";
const EXIT_VERSION: &str = "@0.1.0";

/// Defines what adapted modules import besides WASI.
pub(crate) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface(EXIT_INTERFACE, EXIT_VERSION, |i| {
        i.exit("exit", Class::Local, |(status,): &(u32,)| *status)
    })
}

/// The component that does what `module` does.
pub(crate) fn adapt(module: &[u8], kind: Kind, place: &str) -> Result<Vec<u8>> {
    encode(module, kind).map_err(|why| {
        Corrupt::new("program", format!("`{place}`"), "a module that WASI 0.1 can adapt", quote(&why)).into()
    })
}

fn encode(module: &[u8], kind: Kind) -> Result<Vec<u8>, String> {
    let adapter = match kind {
        Kind::Command => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        Kind::Reactor | Kind::Component => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let adapter = crate::adapter::complete(adapter)?;
    let renamed = rename_exit(module)?;
    let component = || {
        ComponentEncoder::default()
            .module(renamed.as_deref().unwrap_or(module))?
            .adapter(WASI_01, &adapter)?
            .validate(true)
            .encode()
    };
    component().map_err(|e| format!("{e:#}"))
}

/// `module` with `proc_exit` renamed and our interface declared; `None` if it does not import it.
fn rename_exit(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut renamed = Module::new();
    let mut found = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|e| e.to_string())? {
            Payload::ImportSection(imports) => {
                let mut section = ImportSection::new();
                for import in imports.into_imports() {
                    let import = import.map_err(|e| e.to_string())?;
                    let is_exit = (import.module, import.name) == (WASI_01, "proc_exit");
                    found |= is_exit;
                    let ty = RoundtripReencoder.entity_type(import.ty).map_err(|e| e.to_string())?;
                    match is_exit {
                        true => section.import(&format!("{EXIT_INTERFACE}{EXIT_VERSION}"), "exit", ty),
                        false => section.import(import.module, import.name, ty),
                    };
                }
                renamed.section(&section);
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    let data = module.get(range).ok_or("a section outside of the file")?;
                    renamed.section(&RawSection { id, data });
                }
            }
        }
    }
    if !found {
        return Ok(None);
    }
    let mut bytes = renamed.finish();
    declare_exit(&mut bytes)?;
    Ok(Some(bytes))
}

/// Adds the custom section that tells the encoder the interface's types.
fn declare_exit(module: &mut Vec<u8>) -> Result<(), String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("exit.wit", EXIT_WIT).map_err(|e| format!("{e:#}"))?;
    let world = resolve.select_world(&[package], None).map_err(|e| format!("{e:#}"))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).map_err(|e| format!("{e:#}"))
}

//! The program and its player as one component, which exports what makes the program a command; or, of a run of
//! typed calls, what makes its driver one.

use std::collections::BTreeMap;

use vac_core::fault;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};
use wasm_encoder::reencode::{ReencodeComponent, RoundtripReencoder};
use wasm_encoder::{
    Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentSection, Encode,
};
use wasmparser::{ComponentImport, ComponentTypeRef, Parser, Payload, TypeBounds};

use super::world::{refused, unusable};

/// What begins the name of the export that is kept.
const RUN: &str = "wasi:cli/run@0.2";

/// What a joined component may import, without versions.
const OWN: [&str; 5] =
    ["wasi:io/error", "wasi:io/streams", "wasi:cli/stdout", "wasi:cli/stderr", "wasi:cli/exit"];

/// Joins `program` with the `player` that exports all that it imports, and with the `driver` that calls it.
pub(super) fn join(
    program: &[u8],
    player: Vec<u8>,
    driver: Option<Vec<u8>>,
    place: &str,
) -> fault::Result<Vec<u8>> {
    let mut join = Join { graph: CompositionGraph::new(), given: BTreeMap::new(), place };
    let player = join.add("vac:player", player)?;
    join.gives(player);
    let program = types_exported(program).map_err(|e| unusable(place, &e))?;
    let program = join.add("vac:program", program)?;
    let command = match driver {
        Some(driver) => {
            join.gives(program);
            join.add("vac:driver", driver)?
        }
        None => program,
    };
    join.finish(command)
}

/// An import of a component that a player does not need, if there is one.
pub(super) fn foreign_import(component: &[u8]) -> wasmparser::Result<Option<String>> {
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    let import = import?;
                    let name = import.name.name;
                    let is_own = OWN.iter().any(|own| name.split('@').next() == Some(*own));
                    if !is_own {
                        return Ok(Some(name.to_owned()));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// `component` with the types exported that it imports. Both name a type that stands before, and number it anew;
/// but what is imported somebody would have to give.
fn types_exported(component: &[u8]) -> Result<Vec<u8>, String> {
    let (mut out, mut depth) = (Component::new().finish(), 0);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|e| e.to_string())?;
        match &payload {
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports.clone() {
                    import_or_export(&import.map_err(|e| e.to_string())?, &mut out)?;
                }
            }
            other => {
                if let Some((id, range)) = other.as_section().filter(|_| depth == 1) {
                    out.push(id);
                    component.get(range).unwrap_or_default().encode(&mut out);
                }
            }
        }
        match payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    Ok(out)
}

/// One import as it is, or, if it is of a type, as an export.
fn import_or_export(import: &ComponentImport<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let name = import.name.name;
    if let ComponentTypeRef::Type(TypeBounds::Eq(index)) = import.ty {
        let mut exports = ComponentExportSection::new();
        exports.export(name, ComponentExportKind::Type, index, None);
        exports.append_to_component(out);
        return Ok(());
    }
    let ty = RoundtripReencoder.component_type_ref(import.ty).map_err(|e| e.to_string())?;
    let mut imports = ComponentImportSection::new();
    imports.import(name, ty);
    imports.append_to_component(out);
    Ok(())
}

/// A component that is part of the other.
#[derive(Clone, Copy)]
struct Part {
    package: PackageId,
    node: NodeId,
}

struct Join<'a> {
    graph: CompositionGraph,
    /// What those before export, by name.
    given: BTreeMap<String, NodeId>,
    place: &'a str,
}

impl Join<'_> {
    /// Adds a component, whose imports are given by those before or by the host.
    fn add(&mut self, name: &str, bytes: Vec<u8>) -> fault::Result<Part> {
        let failed = |why: &dyn std::fmt::Display| unusable(self.place, why);
        let package = Package::from_bytes(name, None, bytes, self.graph.types_mut());
        let package = package.map_err(|e| failed(&format!("{e:#}")))?;
        let package = self.graph.register_package(package).map_err(|e| failed(&e))?;
        let imports = self.graph.types()[self.graph[package].ty()].imports.clone();
        let node = self.graph.instantiate(package);
        for name in imports.keys() {
            if let Some(from) = self.given.get(name) {
                let given = self.graph.alias_instance_export(*from, name).map_err(|e| failed(&e))?;
                self.graph.set_instantiation_argument(node, name, given).map_err(|e| failed(&e))?;
            }
        }
        Ok(Part { package, node })
    }

    /// Lets those that follow have what a part exports.
    fn gives(&mut self, part: Part) {
        let exports = self.graph.types()[self.graph[part.package].ty()].exports.keys().cloned();
        self.given.extend(exports.map(|name| (name, part.node)));
    }

    /// The component that is the command that a part is.
    fn finish(mut self, command: Part) -> fault::Result<Vec<u8>> {
        let failed = |why: &dyn std::fmt::Display| unusable(self.place, why);
        let world = &self.graph.types()[self.graph[command.package].ty()];
        let run = world.exports.keys().find(|name| name.starts_with(RUN)).cloned();
        let Some(run) = run else {
            return Err(refused(self.place, "it does not export `wasi:cli/run` of WASI 0.2"));
        };
        let export = self.graph.alias_instance_export(command.node, &run).map_err(|e| failed(&e))?;
        self.graph.export(export, &run).map_err(|e| failed(&e))?;
        // What comes of it is validated with its section.
        let options = EncodeOptions { validate: false, ..EncodeOptions::default() };
        self.graph.encode(options).map_err(|e| failed(&e))
    }
}

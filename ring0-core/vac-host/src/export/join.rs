//! The program and its player as one component, which exports what makes the program a command.

use vac_core::fault::{Error, Result};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, PackageId};

use super::world::{refused, unusable};

/// What begins the name of the export that is kept.
const RUN: &str = "wasi:cli/run@0.2";

/// Joins `program` with the `player` that exports all that it imports.
pub(super) fn join(program: &[u8], player: Vec<u8>, place: &str) -> Result<Vec<u8>> {
    let failed = |why: &dyn std::fmt::Display| -> Error { unusable(place, why) };
    let mut graph = CompositionGraph::new();
    let player = register(&mut graph, "vac:player", player, place)?;
    let program = register(&mut graph, "vac:program", program.to_vec(), place)?;
    let world = |package: PackageId| graph.types()[graph[package].ty()].clone();
    let imports: Vec<String> = world(program).imports.keys().cloned().collect();
    let run = world(program).exports.keys().find(|name| name.starts_with(RUN)).cloned();
    let Some(run) = run else { return Err(refused(place, "it does not export `wasi:cli/run` of WASI 0.2")) };
    let (player, program) = (graph.instantiate(player), graph.instantiate(program));
    for name in imports {
        let answers = graph.alias_instance_export(player, &name).map_err(|e| failed(&e))?;
        graph.set_instantiation_argument(program, &name, answers).map_err(|e| failed(&e))?;
    }
    let export = graph.alias_instance_export(program, &run).map_err(|e| failed(&e))?;
    graph.export(export, &run).map_err(|e| failed(&e))?;
    graph.encode(EncodeOptions::default()).map_err(|e| failed(&e))
}

fn register(graph: &mut CompositionGraph, name: &str, bytes: Vec<u8>, place: &str) -> Result<PackageId> {
    let package = Package::from_bytes(name, None, bytes, graph.types_mut());
    let package = package.map_err(|e| unusable(place, &format!("{e:#}")))?;
    graph.register_package(package).map_err(|e| unusable(place, &e))
}

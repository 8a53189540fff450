//! The program and its player as one component, which exports what makes the program a command; or, of a run of
//! typed calls, what makes its driver one.

use vac_core::fault::{Error, Result};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, PackageId};

use super::world::{refused, unusable};

/// What begins the name of the export that is kept.
const RUN: &str = "wasi:cli/run@0.2";

/// Joins `program` with the `player` that exports all that it imports, and with the `driver` that calls it.
pub(super) fn join(program: &[u8], player: Vec<u8>, driver: Option<Vec<u8>>, place: &str) -> Result<Vec<u8>> {
    let failed = |why: &dyn std::fmt::Display| -> Error { unusable(place, why) };
    let mut graph = CompositionGraph::new();
    let player = register(&mut graph, "vac:player", player, place)?;
    let program = register(&mut graph, "vac:program", program.to_vec(), place)?;
    let driver = match driver {
        Some(driver) => Some(register(&mut graph, "vac:driver", driver, place)?),
        None => None,
    };
    let world = |package: PackageId| graph.types()[graph[package].ty()].clone();
    let imports: Vec<String> = world(program).imports.keys().cloned().collect();
    let command = driver.as_ref().map_or(program, |driver| *driver);
    let run = world(command).exports.keys().find(|name| name.starts_with(RUN)).cloned();
    let Some(run) = run else { return Err(refused(place, "it does not export `wasi:cli/run` of WASI 0.2")) };
    let wanted = driver.map(|driver| (driver, world(driver).imports.keys().cloned().collect::<Vec<_>>()));
    let (given, answered) = (world(program).exports.clone(), world(player).exports.clone());
    let (player, program) = (graph.instantiate(player), graph.instantiate(program));
    for name in imports {
        let answers = graph.alias_instance_export(player, &name).map_err(|e| failed(&e))?;
        graph.set_instantiation_argument(program, &name, answers).map_err(|e| failed(&e))?;
    }
    let mut command = program;
    if let Some((driver, wanted)) = wanted {
        command = graph.instantiate(driver);
        for name in wanted {
            let from = match (given.contains_key(&name), answered.contains_key(&name)) {
                (true, _) => program,
                (false, true) => player,
                (false, false) => continue,
            };
            let part = graph.alias_instance_export(from, &name).map_err(|e| failed(&e))?;
            graph.set_instantiation_argument(command, &name, part).map_err(|e| failed(&e))?;
        }
    }
    let export = graph.alias_instance_export(command, &run).map_err(|e| failed(&e))?;
    graph.export(export, &run).map_err(|e| failed(&e))?;
    graph.encode(EncodeOptions::default()).map_err(|e| failed(&e))
}

fn register(graph: &mut CompositionGraph, name: &str, bytes: Vec<u8>, place: &str) -> Result<PackageId> {
    let package = Package::from_bytes(name, None, bytes, graph.types_mut());
    let package = package.map_err(|e| unusable(place, &format!("{e:#}")))?;
    graph.register_package(package).map_err(|e| unusable(place, &e))
}

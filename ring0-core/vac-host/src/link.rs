//! Joining components: what one imports and the host does not have, another exports.
//!
//! The result is one component, which is compiled and linked like any other. So a linked component
//! meets the same wall as the program itself, is granted and metered together with it, and a replay
//! joins the same bytes again. Interfaces of the wall are never taken from a linked component.
//!
//! Invariant: nothing is joined by name alone; a type that differs is an error that says how.

use std::collections::BTreeMap;

use vac_core::fault::{Corrupt, Error, Result, Usage, cut, quote, quote_line};
use wac_graph::types::{ItemKind, Package, SubtypeChecker, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use crate::limits::LINKS_MAX;
use crate::load::Loaded;

/// What begins the names of interfaces that only the wall has.
const OF_THE_WALL: [&str; 2] = ["wasi:", "vac:"];

/// The component that `root` is when `links` stand in for what it imports, and for what they import of
/// each other. It exports what `root` exports.
pub fn link(root: &Loaded<'_>, links: &[Loaded<'_>]) -> Result<Vec<u8>> {
    if links.len() > LINKS_MAX {
        let message = format!("{} linked components, at most {LINKS_MAX} can be", links.len());
        return Err(Usage::new(message).into());
    }
    let mut parts = Parts::default();
    parts.add(root)?;
    links.iter().try_for_each(|link| parts.add(link))?;
    let wires = parts.wires()?;
    parts.check_all_used(&wires)?;
    let order = order(&parts, &wires)?;
    parts.join(&wires, &order)
}

/// An import of one part that an export of another satisfies.
struct Wire {
    from: usize,
    export: String,
    to: usize,
    import: String,
}

/// A component among those that are joined. The first is the program.
struct Part {
    place: String,
    package: PackageId,
    imports: BTreeMap<String, ItemKind>,
    exports: BTreeMap<String, ItemKind>,
}

#[derive(Default)]
struct Parts {
    graph: CompositionGraph,
    parts: Vec<Part>,
}

impl Parts {
    fn add(&mut self, loaded: &Loaded<'_>) -> Result<()> {
        if loaded.core.is_some() {
            let usage = Usage::new(format!("`{}` is a core module, which cannot be linked", loaded.place));
            return Err(usage.hint("components can: they import and export typed interfaces").into());
        }
        let name = format!("vac:part{}", self.parts.len());
        let invalid = |why: &str| -> Error {
            Corrupt::new("program", format!("`{}`", loaded.place), "a valid component", quote(why)).into()
        };
        // The joiner takes for granted that what it reads is valid.
        wasmparser::Validator::new().validate_all(loaded.bytes).map_err(|e| invalid(e.message()))?;
        let read = Package::from_bytes(&name, None, loaded.bytes, self.graph.types_mut());
        let package = read.map_err(|e| invalid(&format!("{e:#}")))?;
        let world = &self.graph.types()[package.ty()];
        let (imports, exports) = (world.imports.clone(), world.exports.clone());
        if let Some(name) =
            imports.iter().chain(&exports).find(|(_, kind)| !can_be_joined(kind)).map(|(n, _)| n)
        {
            let message = format!(
                "`{}` has `{}`, which is neither a function nor an interface",
                loaded.place,
                quote(name)
            );
            return Err(Usage::new(message).hint("it cannot be linked").into());
        }
        let package = self.graph.register_package(package).map_err(|e| invalid(&e.to_string()))?;
        let (imports, exports) = (imports.into_iter().collect(), exports.into_iter().collect());
        self.parts.push(Part { place: loaded.place.to_owned(), package, imports, exports });
        Ok(())
    }

    /// What is joined with what. Every type is compared.
    fn wires(&self) -> Result<Vec<Wire>> {
        let mut wires = Vec::new();
        for (to, part) in self.parts.iter().enumerate() {
            for (import, expected) in part.imports.iter().filter(|(name, _)| !is_of_the_wall(name)) {
                if let Some((from, export)) = self.provider(import, to)? {
                    self.check(from, &export, to, import, *expected)?;
                    wires.push(Wire { from, export, to, import: import.clone() });
                }
            }
        }
        Ok(wires)
    }

    /// The only link, other than `to` itself, that exports `import`, and the name that it has there.
    fn provider(&self, import: &str, to: usize) -> Result<Option<(usize, String)>> {
        let links = || self.parts.iter().enumerate().skip(1).filter(|(at, _)| *at != to);
        let exact = links().filter(|(_, part)| part.exports.contains_key(import));
        let mut found: Vec<(usize, String)> = exact.map(|(at, _)| (at, import.to_owned())).collect();
        if found.is_empty() {
            let compatible = links().filter_map(|(at, part)| {
                let name = part.exports.keys().find(|name| are_semver_compatible(name, import))?;
                Some((at, name.clone()))
            });
            found = compatible.collect();
        }
        match found.as_slice() {
            [(first, _), (second, _), ..] => {
                let message = format!(
                    "`{}` is exported by both `{}` and `{}`",
                    quote(import),
                    self.place(*first),
                    self.place(*second)
                );
                Err(Usage::new(message).hint("link only one of them").into())
            }
            _ => Ok(found.pop()),
        }
    }

    fn check(&self, from: usize, export: &str, to: usize, import: &str, expected: ItemKind) -> Result<()> {
        let Some(got) = self.parts.get(from).and_then(|part| part.exports.get(export)) else { return Ok(()) };
        let types = self.graph.types();
        let mut cache = Default::default();
        let fits = SubtypeChecker::new(&mut cache).is_subtype(*got, types, expected, types);
        fits.map_err(|why| {
            let message = format!(
                "`{}` imports `{}`, but what `{}` exports so is of another type: {}",
                self.place(to),
                quote(import),
                self.place(from),
                quote_line(cut(&format!("{why:#}"), 1000))
            );
            Usage::new(message).into()
        })
    }

    fn check_all_used(&self, wires: &[Wire]) -> Result<()> {
        let unused = (1..self.parts.len()).find(|at| !wires.iter().any(|wire| wire.from == *at));
        let Some(unused) = unused else { return Ok(()) };
        let missing: Vec<String> = self
            .parts
            .iter()
            .flat_map(|part| part.imports.keys())
            .filter(|name| !is_of_the_wall(name) && !wires.iter().any(|wire| wire.import == **name))
            .map(|name| format!("`{}`", quote(name)))
            .collect();
        let usage = Usage::new(format!("`{}` exports nothing that is imported here", self.place(unused)));
        Err(match missing.is_empty() {
            true => usage.hint("leave it out: nothing is missing"),
            false => usage.hint(format!("what is missing is {}", missing.join(", "))),
        }
        .into())
    }

    fn place(&self, part: usize) -> &str {
        self.parts.get(part).map_or("", |part| &part.place)
    }

    /// Makes the one component.
    fn join(mut self, wires: &[Wire], order: &[usize]) -> Result<Vec<u8>> {
        let place = self.place(0).to_owned();
        let failed = |why: String| -> Error {
            let message = format!("`{place}` cannot be linked: {}", quote_line(cut(&why, 1000)));
            Usage::new(message).into()
        };
        let mut nodes: BTreeMap<usize, NodeId> = BTreeMap::new();
        for at in order {
            let Some(part) = self.parts.get(*at) else { continue };
            let node = self.graph.instantiate(part.package);
            for wire in wires.iter().filter(|wire| wire.to == *at) {
                let Some(from) = nodes.get(&wire.from) else { continue };
                let export = self.graph.alias_instance_export(*from, &wire.export);
                let export = export.map_err(|e| failed(format!("{:#}", anyhow(e))))?;
                let set = self.graph.set_instantiation_argument(node, &wire.import, export);
                set.map_err(|e| failed(format!("{:#}", anyhow(e))))?;
            }
            nodes.insert(*at, node);
        }
        let exports: Vec<String> =
            self.parts.first().map(|p| p.exports.keys().cloned().collect()).unwrap_or_default();
        for name in exports {
            let Some(root) = nodes.get(&0) else { continue };
            let export = self.graph.alias_instance_export(*root, &name);
            let export = export.map_err(|e| failed(format!("{:#}", anyhow(e))))?;
            self.graph.export(export, &name).map_err(|e| failed(format!("{:#}", anyhow(e))))?;
        }
        self.graph.encode(EncodeOptions::default()).map_err(|e| failed(format!("{:#}", anyhow(e))))
    }
}

/// An error with all its causes.
fn anyhow(error: impl std::error::Error + Send + Sync + 'static) -> wasmtime::Error {
    wasmtime::Error::new(error)
}

fn can_be_joined(kind: &ItemKind) -> bool {
    matches!(kind, ItemKind::Func(_) | ItemKind::Instance(_) | ItemKind::Type(_))
}

pub(crate) fn is_of_the_wall(name: &str) -> bool {
    OF_THE_WALL.iter().any(|prefix| name.starts_with(prefix))
}

/// The parts in an order in which each comes after all that it needs.
fn order(parts: &Parts, wires: &[Wire]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < parts.parts.len() {
        let is_ready = |at: &usize| {
            !order.contains(at) && wires.iter().all(|wire| wire.to != *at || order.contains(&wire.from))
        };
        match (0..parts.parts.len()).find(is_ready) {
            Some(next) => order.push(next),
            None => return Err(cycle(parts, wires, &order)),
        }
    }
    Ok(order)
}

fn cycle(parts: &Parts, wires: &[Wire], before: &[usize]) -> Error {
    // Going back from any part that is left comes round, because each needs another that is left.
    let mut path: Vec<usize> = Vec::new();
    let mut at = wires.iter().map(|wire| wire.to).find(|to| !before.contains(to)).unwrap_or_default();
    while !path.contains(&at) {
        path.push(at);
        let needs = wires.iter().find(|wire| wire.to == at && !before.contains(&wire.from));
        at = needs.map_or(at, |wire| wire.from);
    }
    let round = path.iter().skip_while(|part| **part != at).chain([&at]);
    let names: Vec<String> = round.map(|part| format!("`{}`", parts.place(*part))).collect();
    Usage::new(format!("linked components import from each other in a circle: {}", names.join(" from ")))
        .into()
}

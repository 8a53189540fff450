//! What a program imports and exports, and which grants each import would need.

use vac_core::fault::{Corrupt, Result, Usage, quote};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Type};

use crate::engine::{Compiled, Engine};
use crate::load::Loaded;
use crate::value::{show_params, show_type};

/// A function that a program exports.
pub struct Export {
    /// `name`, or `interface#name`.
    pub name: String,
    /// Names and types of the parameters.
    pub params: Vec<(String, Type)>,
    /// Types of the results.
    pub results: Vec<Type>,
    pub(crate) index: ComponentExportIndex,
}

impl Export {
    /// How the engine finds it again.
    pub fn index(&self) -> &ComponentExportIndex {
        &self.index
    }

    /// The function as WIT writes it.
    pub fn signature(&self) -> String {
        signature(&self.name, &self.params, &self.results)
    }
}

/// Something that a program imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The interface or function, with its version.
    pub name: String,
    /// The functions, as WIT writes them.
    pub functions: Vec<String>,
    /// The grants that give it something to work on; none if it needs none.
    pub grants: &'static [&'static str],
}

/// The functions that `compiled` exports.
pub fn exports(engine: &Engine, compiled: &Compiled) -> Vec<Export> {
    exports_of(engine, &compiled.component)
}

fn exports_of(engine: &Engine, component: &Component) -> Vec<Export> {
    let ty = component.component_type();
    let mut found = Vec::new();
    for (name, item) in ty.exports(engine.inner()) {
        match item.ty {
            ComponentItem::ComponentFunc(func) => {
                found.extend(
                    component.get_export_index(None, name).map(|index| export(name.to_owned(), &func, index)),
                );
            }
            ComponentItem::ComponentInstance(instance) => {
                let parent = component.get_export_index(None, name);
                for (inner, item) in instance.exports(engine.inner()) {
                    let index = component.get_export_index(parent.as_ref(), inner);
                    if let (ComponentItem::ComponentFunc(func), Some(index)) = (item.ty, index) {
                        found.push(export(format!("{name}#{inner}"), &func, index));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn export(name: String, func: &ComponentFunc, index: ComponentExportIndex) -> Export {
    let params = func.params().map(|(name, ty)| (name.to_owned(), ty)).collect();
    Export { name, params, results: func.results().collect(), index }
}

fn signature(name: &str, params: &[(String, Type)], results: &[Type]) -> String {
    let results: Vec<_> = results.iter().map(show_type).collect();
    let arrow = if results.is_empty() { String::new() } else { format!(" -> {}", results.join(", ")) };
    format!("{name}{}{arrow}", show_params(params))
}

/// The exported function that `name` means: whole, or its last part if only one has it.
pub fn find_function(engine: &Engine, compiled: &Compiled, name: &str) -> Result<Export> {
    let all = exports(engine, compiled);
    let names: Vec<String> = all.iter().map(|e| e.name.clone()).collect();
    let is_meant = |e: &Export| e.name == name || e.name.rsplit('#').next() == Some(name);
    let (mut meant, _): (Vec<_>, Vec<_>) = all.into_iter().partition(is_meant);
    if let Some(exact) = meant.iter().position(|e| e.name == name) {
        return Ok(meant.swap_remove(exact));
    }
    match meant.len() {
        1 => Ok(meant.swap_remove(0)),
        0 => {
            let usage = Usage::new(format!("there is no export `{}`", quote(name)));
            let listed: Vec<_> = names.iter().take(8).map(|n| format!("`{}`", quote(n))).collect();
            Err(usage
                .hint(if listed.is_empty() {
                    "this program exports no functions".into()
                } else {
                    format!("it exports {}", listed.join(", "))
                })
                .into())
        }
        n => {
            let listed: Vec<_> = meant.iter().map(|e| format!("`{}`", quote(&e.name))).collect();
            Err(Usage::new(format!("{n} exports end in `{}`", quote(name)))
                .hint(format!("name one of {}", listed.join(", ")))
                .into())
        }
    }
}

/// The newest `wasi:cli/run` that the program exports.
pub(crate) fn command_interface(engine: &Engine, compiled: &Compiled) -> Option<String> {
    newest_command(engine, &compiled.component)
}

fn newest_command(engine: &Engine, component: &Component) -> Option<String> {
    let ty = component.component_type();
    let names = ty.exports(engine.inner()).map(|(name, _)| name.to_owned());
    names.filter(|name| name == "wasi:cli/run" || name.starts_with("wasi:cli/run@0.2.")).max()
}

/// Whether the program can be run as a command.
pub fn is_command(engine: &Engine, compiled: &Compiled) -> bool {
    command_interface(engine, compiled).is_some()
}

/// What a program asks for and offers, whether or not this host would run it.
pub struct Program {
    /// Whether it can be run as a command.
    pub is_command: bool,
    /// The functions it exports, as WIT writes them.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Why this host would refuse it, if so.
    pub refused: Option<String>,
}

/// Looks at a program without running any of it.
pub fn program(engine: &Engine, loaded: &Loaded<'_>) -> Result<Program> {
    let bytes = loaded.component()?;
    let component = wasmtime::component::Component::from_binary(engine.inner(), &bytes).map_err(|e| {
        Corrupt::new(
            "program",
            format!("`{}`", loaded.place),
            "a valid component",
            quote(&crate::engine::chain(&e)),
        )
    })?;
    let ty = component.component_type();
    Ok(Program {
        is_command: newest_command(engine, &component).is_some(),
        exports: exports_of(engine, &component).iter().map(Export::signature).collect(),
        imports: ty.imports(engine.inner()).map(|(name, item)| import(engine, name, &item.ty)).collect(),
        refused: engine.link(&component, loaded.place).err().map(|e| e.to_string()),
    })
}

fn import(engine: &Engine, name: &str, item: &ComponentItem) -> Import {
    let func = |name: &str, func: &ComponentFunc| {
        let params: Vec<_> = func.params().map(|(n, ty)| (n.to_owned(), ty)).collect();
        signature(name, &params, &func.results().collect::<Vec<_>>())
    };
    let functions = match item {
        ComponentItem::ComponentFunc(f) => vec![func(name, f)],
        ComponentItem::ComponentInstance(instance) => {
            let inner = instance.exports(engine.inner());
            inner
                .filter_map(|(n, item)| {
                    if let ComponentItem::ComponentFunc(f) = item.ty { Some(func(n, &f)) } else { None }
                })
                .collect()
        }
        _ => Vec::new(),
    };
    Import { name: name.to_owned(), functions, grants: grants_for(name) }
}

/// The grants that an interface works on.
fn grants_for(import: &str) -> &'static [&'static str] {
    let files: &[&str] = &["dir:ro=DIR", "dir:rw=DIR", "file:ro=FILE", "file:rw=FILE"];
    let table: &[(&str, &[&str])] = &[
        ("wasi:filesystem/", files),
        ("vac:kernel/files", files),
        ("wasi:cli/environment", &["env:NAME"]),
        ("wasi:cli/stdin", &["stdin"]),
        ("wasi:http/", &["http:HOST", "http:METHOD=HOST:PORT", "net:ADDRESS"]),
        ("wasi:sockets/tcp", &["tcp:HOST:PORT", "tcp:listen=ADDRESS:PORT", "net:ADDRESS"]),
        ("wasi:sockets/udp", &["udp:HOST:PORT", "udp:listen=ADDRESS:PORT", "net:ADDRESS"]),
        ("wasi:sockets/", &["tcp:HOST:PORT", "udp:HOST:PORT"]),
        ("wasi:keyvalue/", &["kv:ro=NAME", "kv:rw=NAME"]),
    ];
    table.iter().find(|(prefix, _)| import.starts_with(prefix)).map_or(&[], |(_, grants)| grants)
}

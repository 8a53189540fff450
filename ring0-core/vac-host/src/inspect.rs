//! What a program imports and exports, and which grants each import would need.

use std::sync::Arc;

use vac_core::fault::{Result, Usage, quote};
use vac_core::storage::Storage;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, ResourceType, Type};

use crate::core_module::CoreModule;
use crate::engine::{Compiled, Compiler, Engine};
use crate::load::{Kind, Loaded};
use crate::nearest::nearest;
use crate::rewrite;
use crate::value::{show_params_with, show_type_with};

/// A function that a program exports.
#[derive(Clone)]
pub struct Export {
    /// `name`, or `interface#name`.
    pub name: String,
    /// Names and types of the parameters.
    pub params: Vec<(String, Type)>,
    /// Types of the results.
    pub results: Vec<Type>,
    /// Names of the resources that the program exports, for its signature.
    resources: Arc<Vec<ExportedResource>>,
    pub(crate) index: ComponentExportIndex,
}

impl Export {
    /// How the engine finds it again.
    pub fn index(&self) -> &ComponentExportIndex {
        &self.index
    }

    /// Whether handles go in or come out.
    pub fn has_handles(&self) -> bool {
        self.params.iter().map(|(_, ty)| ty).chain(&self.results).any(crate::value::has_handles)
    }

    /// The function as WIT writes it.
    pub fn signature(&self) -> String {
        let name_of = |ty: &ResourceType| {
            let found = self.resources.iter().find(|resource| resource.ty == *ty);
            found.map(|resource| last_part(&resource.name).to_owned())
        };
        signature(&self.name, &self.params, &self.results, &name_of)
    }
}

/// A type of resource that a program exports.
pub(crate) struct ExportedResource {
    /// `name`, or `interface#name`.
    pub(crate) name: String,
    /// The type, as the program has it before it runs.
    ty: ResourceType,
    pub(crate) index: ComponentExportIndex,
}

/// The types of resources that a component exports.
pub(crate) fn resources(engine: &Engine, component: &Component) -> Vec<ExportedResource> {
    let mut found = Vec::new();
    for (name, item) in component.component_type().exports(engine.inner(component)) {
        match item.ty {
            ComponentItem::Resource(ty) => {
                let index = component.get_export_index(None, name);
                found.extend(index.map(|index| ExportedResource { name: name.to_owned(), ty, index }));
            }
            ComponentItem::ComponentInstance(instance) => {
                let parent = component.get_export_index(None, name);
                for (inner, item) in instance.exports(engine.inner(component)) {
                    let index = component.get_export_index(parent.as_ref(), inner);
                    if let (ComponentItem::Resource(ty), Some(index)) = (item.ty, index) {
                        found.push(ExportedResource { name: format!("{name}#{inner}"), ty, index });
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The name of an export without its interface.
pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit('#').next().unwrap_or(name)
}

/// The name of an export as a person says it: that of a constructor is its resource's.
pub fn natural(name: &str) -> &str {
    let last = last_part(name);
    let kinds = ["[constructor]", "[static]", "[method]"];
    kinds.iter().find_map(|kind| last.strip_prefix(kind)).unwrap_or(last)
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

/// The functions that `compiled` exports. They are found once: a run may make thousands of calls, and each looks for one.
pub fn exports<'c>(engine: &Engine, compiled: &'c Compiled) -> &'c [Export] {
    compiled.exports.get_or_init(|| exports_of(engine, &compiled.component, compiled.core.as_ref()))
}

/// The functions that a component exports; if it was made of a core module, under the names that
/// they have there.
fn exports_of(engine: &Engine, component: &Component, core: Option<&CoreModule>) -> Vec<Export> {
    let all = component_exports(engine, component);
    let Some(core) = core.filter(|core| !core.has_world) else { return all };
    let own = |export: Export| match core.by_generated(&export.name) {
        Some(function) => Some(Export { name: function.name.clone(), ..export }),
        // The rest is what the adapter exports, and what was added to reach the memory.
        None => export.name.contains('#').then_some(export),
    };
    all.into_iter().filter_map(own).collect()
}

fn component_exports(engine: &Engine, component: &Component) -> Vec<Export> {
    let ty = component.component_type();
    let resources = Arc::new(resources(engine, component));
    let export = |name: String, func: &ComponentFunc, index| Export {
        name,
        params: func.params().map(|(name, ty)| (name.to_owned(), ty)).collect(),
        results: func.results().collect(),
        resources: Arc::clone(&resources),
        index,
    };
    let mut found = Vec::new();
    for (name, item) in ty.exports(engine.inner(component)) {
        match item.ty {
            ComponentItem::ComponentFunc(func) => {
                let index = component.get_export_index(None, name);
                found.extend(index.map(|index| export(name.to_owned(), &func, index)));
            }
            ComponentItem::ComponentInstance(instance) => {
                let parent = component.get_export_index(None, name);
                for (inner, item) in instance.exports(engine.inner(component)) {
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

fn signature(
    name: &str,
    params: &[(String, Type)],
    results: &[Type],
    name_of: &dyn Fn(&ResourceType) -> Option<String>,
) -> String {
    let results: Vec<_> = results.iter().map(|ty| show_type_with(ty, name_of)).collect();
    let arrow = if results.is_empty() { String::new() } else { format!(" -> {}", results.join(", ")) };
    format!("{name}{}{arrow}", show_params_with(params, name_of))
}

/// The exported function that `name` means: whole, or its last part, or as a person says it, if
/// only one has it.
pub fn find_function(engine: &Engine, compiled: &Compiled, name: &str) -> Result<Export> {
    let all = exports(engine, compiled);
    if let Some(exact) = all.iter().find(|e| e.name == name) {
        return Ok(exact.clone());
    }
    let meant: Vec<&Export> = all.iter().filter(|e| is_meant(&e.name, name)).collect();
    match meant.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let names: Vec<String> = all.iter().map(|e| e.name.clone()).collect();
            Err(no_export(compiled, name, &names))
        }
        several => {
            let listed: Vec<_> = several.iter().map(|e| format!("`{}`", quote(&e.name))).collect();
            Err(Usage::new(format!("{} exports end in `{}`", several.len(), quote(name)))
                .hint(format!("name one of {}", listed.join(", ")))
                .into())
        }
    }
}

fn is_meant(export: &str, name: &str) -> bool {
    if [export, last_part(export), natural(export)].contains(&name) {
        return true;
    }
    match (export.rsplit_once('#'), name.rsplit_once('#')) {
        (Some((interface, _)), Some((asked, last))) => interface == asked && natural(export) == last,
        _ => false,
    }
}

fn no_export(compiled: &Compiled, name: &str, names: &[String]) -> vac_core::fault::Error {
    let core = compiled.core.as_ref().filter(|core| !core.has_world);
    let refused = core.and_then(|core| core.uncallable.iter().find(|(known, _)| known == name));
    if let Some((_, reason)) = refused {
        return Usage::new(format!("`{}` cannot be called: {reason}", quote(name))).into();
    }
    let usage = Usage::new(format!("there is no export `{}`", quote(name)));
    let near = || nearest(last_part(name), names.iter().map(|n| natural(n)));
    let hint = of_resource(last_part(name), names)
        .or_else(|| near().map(|near| format!("did you mean `{}`?", quote(near))))
        .unwrap_or_else(|| match names.is_empty() {
            true => "this program exports no functions".into(),
            false => format!("it exports {}", listed(names.iter().map(String::as_str))),
        });
    usage.hint(hint).into()
}

/// Eight names at most.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.take(8).map(|name| format!("`{}`", quote(name))).collect::<Vec<_>>().join(", ")
}

/// What to say to who calls a resource that has no constructor, or a function of one without its resource: the functions of
/// the resource as they are called.
fn of_resource(name: &str, names: &[String]) -> Option<String> {
    let called = |name: &str| {
        let (is_method, own) = match last_part(name) {
            last if last.starts_with("[static]") => (false, natural(name).split_once('.')?),
            last if last.starts_with("[method]") => (true, natural(name).split_once('.')?),
            _ => return None,
        };
        let shown = if is_method { format!("${}.{}", own.0, own.1) } else { natural(name).to_owned() };
        Some((own.0.to_owned(), own.1.to_owned(), is_method, shown))
    };
    let all: Vec<_> = names.iter().filter_map(|name| called(name)).collect();
    if all.iter().any(|(resource, ..)| resource == name) {
        let functions =
            all.iter().filter(|(resource, ..)| resource == name).map(|(.., shown)| shown.as_str());
        return Some(format!(
            "`{}` is a resource without a constructor; it has {}",
            quote(name),
            listed(functions)
        ));
    }
    let (resource, _, is_method, shown) = all.iter().find(|(_, own, ..)| own == name)?;
    let kept = if *is_method {
        format!(", where `{0} = …` keeps a `{0}`", quote(resource))
    } else {
        String::new()
    };
    Some(format!("did you mean `{}`{kept}?", quote(shown)))
}

/// The newest `wasi:cli/run` that the program exports.
pub(crate) fn command_interface(engine: &Engine, compiled: &Compiled) -> Option<String> {
    newest_command(engine, &compiled.component)
}

/// Whether an export is what a command is run by.
pub(crate) fn is_command_export(name: &str) -> bool {
    name.starts_with("wasi:cli/run") && name.ends_with("#run")
}

fn newest_command(engine: &Engine, component: &Component) -> Option<String> {
    // By their letters `@0.3.` comes after `@0.2.`, and that after nothing.
    let prefixes = ["wasi:cli/run@0.2.", "wasi:cli/run@0.3."];
    newest(engine, component, |name| name == "wasi:cli/run" || prefixes.iter().any(|p| name.starts_with(p)))
}

fn newest(engine: &Engine, component: &Component, is_meant: impl Fn(&str) -> bool) -> Option<String> {
    let ty = component.component_type();
    let names = ty.exports(engine.inner(component)).map(|(name, _)| name.to_owned());
    names.filter(|name| is_meant(name)).max()
}

/// The newest `wasi:http/handler` that the program exports.
pub(crate) fn handler_interface(engine: &Engine, compiled: &Compiled) -> Option<String> {
    newest_handler(engine, &compiled.component)
}

fn newest_handler(engine: &Engine, component: &Component) -> Option<String> {
    newest(engine, component, |name| name.starts_with("wasi:http/handler@0.3."))
}

/// Whether the program answers HTTP requests.
pub fn is_service(engine: &Engine, compiled: &Compiled) -> bool {
    handler_interface(engine, compiled).is_some()
}

/// Whether the program can be run as a command.
pub fn is_command(engine: &Engine, compiled: &Compiled) -> bool {
    command_interface(engine, compiled).is_some()
}

/// What a program asks for and offers, whether or not this host would run it.
pub struct Program {
    /// What kind of file it is.
    pub kind: Kind,
    /// Whether it can be run as a command.
    pub is_command: bool,
    /// Whether it answers HTTP requests.
    pub is_service: bool,
    /// The functions it exports, as WIT writes them.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Functions that it exports and that cannot be called, each with the reason.
    pub not_callable: Vec<(String, String)>,
    /// Why this host would refuse it, if so.
    pub refused: Option<String>,
    /// What can be done about that.
    pub refused_hint: Option<String>,
}

/// Looks at a program without running any of it.
pub fn program(
    engine: &Engine,
    loaded: &Loaded<'_>,
    storage: Option<&dyn Storage>,
    compiler: &dyn Compiler,
) -> Result<Program> {
    if let Some(core) = loaded.core.as_ref()
        && let Err(refused) = loaded.check_imports()
    {
        return Ok(foreign_module(loaded.kind, core, &refused));
    }
    let component = engine.outline(loaded, storage, compiler)?;
    let (ty, types) = (component.component_type(), engine.inner(&component));
    let exports = exports_of(engine, &component, loaded.core.as_ref());
    let refused = engine.link(&component, loaded.place).err();
    Ok(Program {
        kind: loaded.kind,
        is_command: newest_command(engine, &component).is_some(),
        is_service: newest_handler(engine, &component).is_some(),
        exports: exports.iter().map(Export::signature).collect(),
        // What was added is not the program's.
        imports: ty
            .imports(types)
            .filter(|(name, _)| *name != rewrite::component::HOST)
            .map(|(name, item)| import(types, name, &item.ty))
            .collect(),
        not_callable: loaded.core.as_ref().map(|core| core.uncallable.clone()).unwrap_or_default(),
        refused: refused.as_ref().map(ToString::to_string),
        refused_hint: refused.as_ref().and_then(|e| e.hint().map(str::to_owned)),
    })
}

/// A core module that nothing here can run: what it asks for, all of it.
fn foreign_module(kind: Kind, core: &CoreModule, refused: &vac_core::fault::Error) -> Program {
    let mut imports: Vec<Import> = Vec::new();
    for foreign in &core.foreign {
        let function = format!("{}: {}", foreign.name, foreign.ty);
        match imports.iter_mut().find(|import| import.name == foreign.module) {
            Some(import) => import.functions.push(function),
            None => {
                imports.push(Import { name: foreign.module.clone(), functions: vec![function], grants: &[] })
            }
        }
    }
    Program {
        kind,
        is_command: false,
        is_service: false,
        exports: core.functions.iter().map(|f| f.signature()).collect(),
        imports,
        not_callable: core.uncallable.clone(),
        refused: Some(refused.to_string()),
        refused_hint: refused.hint().map(str::to_owned),
    }
}

fn import(engine: &wasmtime::Engine, name: &str, item: &ComponentItem) -> Import {
    let func = |name: &str, func: &ComponentFunc| {
        let params: Vec<_> = func.params().map(|(n, ty)| (n.to_owned(), ty)).collect();
        signature(name, &params, &func.results().collect::<Vec<_>>(), &|_| None)
    };
    let functions = match item {
        ComponentItem::ComponentFunc(f) => vec![func(name, f)],
        ComponentItem::ComponentInstance(instance) => {
            let inner = instance.exports(engine);
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
        ("vac:memory/", &["mem:ro=NAME", "mem:rw=NAME"]),
    ];
    table.iter().find(|(prefix, _)| import.starts_with(prefix)).map_or(&[], |(_, grants)| grants)
}

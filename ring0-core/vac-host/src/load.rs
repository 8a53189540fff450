//! What a file is, and how it becomes a component.
//!
//! Three kinds are known by their first bytes: a component, a core module, and anything else,
//! which is refused. A core module is wrapped into a component that exports its functions and, if
//! it was made for WASI 0.1, imports WASI 0.2. The CID of the file stays its identity.

use std::borrow::Cow;
use std::collections::BTreeSet;

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, Usage};
use wasmparser::{
    CanonicalFunction, CanonicalOption, Chunk, ComponentDefinedType, ComponentType, ComponentTypeDeclaration,
    Element, ElementItems, ElementKind, Encoding, InstanceTypeDeclaration, Parser, Payload,
};

use crate::adapt::adapt;
use crate::core_module::CoreModule;
use crate::foreign;
use crate::limits::{
    INSTANCE_BYTES, INSTANCE_ITEM_BYTES, INSTANCES_MAX, INSTANCES_MAX_BYTES, MODULE_MAX_BYTES,
};
use crate::nesting;

/// Names that one error lists: enough to know them by. `vac inspect` lists all.
const NAMED_MAX: usize = 8;

/// What kind of program a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A component.
    Component,
    /// A core module for WASI 0.1 that exports `_start`.
    Command,
    /// A core module for WASI 0.1 that does not.
    Reactor,
    /// A core module that does neither.
    Core,
}

impl Kind {
    /// The kind in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Command => "WASI 0.1 command (core module)",
            Self::Reactor => "WASI 0.1 reactor (core module)",
            Self::Core => "core module without WASI",
        }
    }

    /// The kind as one stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Command => "command-0.1",
            Self::Reactor => "reactor-0.1",
            Self::Core => "core",
        }
    }
}

/// A program that was looked at and not yet compiled.
#[derive(Debug)]
pub struct Loaded<'a> {
    /// Name of the file's bytes.
    pub cid: Cid,
    /// What they are.
    pub kind: Kind,
    /// The file.
    pub bytes: &'a [u8],
    /// Where it is from, for messages.
    pub place: &'a str,
    /// What it shows, if it is a core module.
    pub(crate) core: Option<CoreModule>,
}

impl Loaded<'_> {
    /// The component: the file itself, or the adapted module.
    pub fn component(&self) -> Result<Cow<'_, [u8]>> {
        let Some(core) = &self.core else { return Ok(Cow::Borrowed(self.bytes)) };
        self.check_imports()?;
        adapt(self.bytes, core, self.place).map(Cow::Owned)
    }

    /// What the component calls the export that a person calls `export`.
    pub fn name_in_component<'n>(&'n self, export: &'n str) -> &'n str {
        let functions = self.core.iter().filter(|core| !core.has_world).flat_map(|core| &core.functions);
        functions.into_iter().find(|f| f.name == export).map_or(export, |f| &f.generated)
    }

    /// Refuses a core module that wants what no host function here gives.
    pub(crate) fn check_imports(&self) -> Result<()> {
        match &self.core {
            Some(core) if !core.foreign.is_empty() => {
                Err(uncovered(&self.foreign(), foreign::hint(&core.foreign), self.place))
            }
            Some(core) if core.shares_memory => Err(threaded(self.place)),
            _ => Ok(()),
        }
    }

    /// Refuses a component that wants what only another component could give, before it is compiled.
    pub(crate) fn check_interfaces(&self) -> Result<()> {
        let missing = if self.core.is_none() { foreign::imports_of(self.bytes) } else { Vec::new() };
        match missing.is_empty() {
            true => Ok(()),
            false => Err(uncovered(&missing, foreign::hint_of_component(&missing), self.place)),
        }
    }

    /// Imports of a core module that are not of WASI 0.1, each once.
    fn foreign(&self) -> Vec<String> {
        let foreign = self.core.iter().flat_map(|core| &core.foreign);
        let names: BTreeSet<String> = foreign.map(|f| format!("{}.{}", f.module, f.name)).collect();
        names.into_iter().collect()
    }
}

/// Looks at the bytes of a program; `place` says in errors where they are from.
pub fn load<'a>(bytes: &'a [u8], place: &'a str) -> Result<Loaded<'a>> {
    load_as(Cid::of_raw(bytes), bytes, place)
}

/// [`load`] of bytes whose CID the caller computed.
pub fn load_as<'a>(cid: Cid, bytes: &'a [u8], place: &'a str) -> Result<Loaded<'a>> {
    if bytes.len() as u64 > MODULE_MAX_BYTES {
        return Err(too_large(place, bytes.len() as u64, MODULE_MAX_BYTES));
    }
    let core = match encoding(bytes, place)? {
        Encoding::Component => {
            nesting::check(bytes, place)?;
            None
        }
        Encoding::Module => Some(CoreModule::read(bytes, place)?),
    };
    let kind = core.as_ref().map_or(Kind::Component, module_kind);
    Ok(Loaded { cid, kind, bytes, place, core })
}

/// A program that is larger than a limit.
pub fn too_large(place: &str, len_bytes: u64, max_bytes: u64) -> Error {
    let message = format!("`{place}` has {len_bytes} bytes; the limit for a program is {max_bytes}");
    HostAbort::new(AbortKind::Quota, message).hint(vac_core::caps::raise("module")).into()
}

fn encoding(bytes: &[u8], place: &str) -> Result<Encoding> {
    if bytes.get(..4) != Some(b"\0asm") {
        let usage = Usage::new(format!(
            "`{place}` is not WebAssembly: expected it to begin with `\\0asm`, got {}",
            start_of(bytes)
        ));
        let hint = if bytes.starts_with(b"(module") || bytes.starts_with(b"(component") {
            "this is the text form; `wasm-tools parse` makes the binary one"
        } else {
            "expected a component, a WASI 0.1 module, or a script that ends in `.star`"
        };
        return Err(usage.hint(hint).into());
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding, .. })) => Ok(encoding),
        Some(Err(e)) => Err(malformed(&e, place)),
        _ => Err(Corrupt::new("program", place, "a WebAssembly version", "something else").into()),
    }
}

fn start_of(bytes: &[u8]) -> String {
    let start: Vec<u8> = bytes.iter().take(4).flat_map(|b| std::ascii::escape_default(*b)).collect();
    if start.is_empty() { "nothing".into() } else { format!("`{}`", String::from_utf8_lossy(&start)) }
}

pub(crate) fn malformed(error: &wasmparser::BinaryReaderError, place: &str) -> Error {
    Corrupt::new(
        "program",
        format!("`{place}` at byte {:#x}", error.offset()),
        "valid WebAssembly",
        error.message(),
    )
    .into()
}

fn module_kind(core: &CoreModule) -> Kind {
    match (core.has_start, core.uses_wasi) {
        (true, _) => Kind::Command,
        (false, true) => Kind::Reactor,
        (false, false) => Kind::Core,
    }
}

/// What a program needs of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Its functions never wait, and nothing runs but what was rewritten.
    Plain,
    /// Components inside of it call each other. What moves their arguments is the engine's own, counts no ticks and looks
    /// at no limit.
    Composed,
    /// It has to do with `async` functions, streams or futures.
    Concurrent,
}

/// What a component needs. Bytes that are no component need nothing; what is wrong with them is said when they are
/// compiled.
pub(crate) fn shape(bytes: &[u8]) -> Shape {
    let (mut parser, mut outer, mut rest) = (Parser::new(0), Vec::new(), bytes);
    let mut shape = Shape::Plain;
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else { return shape };
        rest = rest.get(consumed..).unwrap_or_default();
        match payload {
            Payload::ComponentTypeSection(types)
                if types.clone().into_iter().flatten().any(|ty| is_concurrent_type(&ty)) =>
            {
                return Shape::Concurrent;
            }
            Payload::ComponentCanonicalSection(functions) => {
                if functions.into_iter().flatten().any(|f| is_concurrent_function(&f)) {
                    return Shape::Concurrent;
                }
                // Between two components, one of them is inside.
                if !outer.is_empty() {
                    shape = Shape::Composed;
                }
            }
            // What a core module does it can do only through the functions above.
            Payload::ModuleSection { unchecked_range, .. } => {
                rest = rest.get(unchecked_range.len()..).unwrap_or_default();
            }
            Payload::ComponentSection { parser: inner, .. } => {
                outer.push(std::mem::replace(&mut parser, inner));
            }
            Payload::End(_) => match outer.pop() {
                Some(previous) => parser = previous,
                None => return shape,
            },
            _ => {}
        }
    }
}

/// Instances of core modules that a kernel may have: as many as take [`INSTANCES_MAX_BYTES`] of the host if each is one of
/// the largest module, which the engine keeps a place for each global and function of.
pub(crate) fn instances_max(bytes: &[u8]) -> usize {
    let (mut items, mut largest) = (0_u64, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        items += match payload {
            Ok(Payload::Version { .. }) => {
                items = 0;
                0
            }
            Ok(Payload::ImportSection(section)) => section.count().into(),
            Ok(Payload::FunctionSection(section)) => section.count().into(),
            Ok(Payload::GlobalSection(section)) => section.count().into(),
            Ok(Payload::TagSection(section)) => section.count().into(),
            // What a table is filled from later is kept for each instance.
            Ok(Payload::ElementSection(section)) => section.into_iter().flatten().map(items_kept).sum(),
            Ok(_) => 0,
            // What is wrong is said by who compiles it.
            Err(_) => break,
        };
        largest = largest.max(items);
    }
    let bytes_each = INSTANCE_BYTES + largest.saturating_mul(INSTANCE_ITEM_BYTES);
    usize::try_from(INSTANCES_MAX_BYTES / bytes_each).unwrap_or(INSTANCES_MAX).clamp(1, INSTANCES_MAX)
}

fn items_kept(element: Element<'_>) -> u64 {
    match (element.kind, element.items) {
        (ElementKind::Passive, ElementItems::Functions(items)) => items.count().into(),
        (ElementKind::Passive, ElementItems::Expressions(_, items)) => items.count().into(),
        _ => 1,
    }
}

fn is_concurrent_type(ty: &ComponentType<'_>) -> bool {
    match ty {
        ComponentType::Defined(ty) => {
            matches!(ty, ComponentDefinedType::Stream(_) | ComponentDefinedType::Future(_))
        }
        ComponentType::Func(func) => func.async_,
        ComponentType::Component(declarations) => declarations.iter().any(|declaration| match declaration {
            ComponentTypeDeclaration::Type(ty) => is_concurrent_type(ty),
            _ => false,
        }),
        ComponentType::Instance(declarations) => declarations.iter().any(|declaration| match declaration {
            InstanceTypeDeclaration::Type(ty) => is_concurrent_type(ty),
            _ => false,
        }),
        ComponentType::Resource { .. } => false,
    }
}

fn is_concurrent_function(function: &CanonicalFunction) -> bool {
    use CanonicalFunction as F;
    match function {
        F::Lift { options, .. } | F::Lower { options, .. } => options
            .iter()
            .any(|option| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_))),
        F::ResourceNew { .. } | F::ResourceDrop { .. } | F::ResourceRep { .. } => false,
        _ => true,
    }
}

/// Imports that this host does not have: refused at load, by name.
pub(crate) fn uncovered(imports: &[String], hint: String, place: &str) -> Error {
    let mut names: Vec<String> =
        imports.iter().take(NAMED_MAX).map(|name| format!("`{}`", vac_core::fault::quote(name))).collect();
    if let Some(more) = imports.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    HostAbort::new(
        AbortKind::Denied,
        format!("`{place}` imports {}, which this host does not provide", names.join(", ")),
    )
    .hint(hint)
    .into()
}

/// A module whose memory several threads would share.
fn threaded(place: &str) -> Error {
    let message = format!("`{place}` shares its memory between threads, which this host does not have");
    HostAbort::new(AbortKind::Denied, message)
        .hint(
            "the order of threads cannot be recorded; many programs have a build with one thread, which runs",
        )
        .into()
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        Component, ComponentTypeSection, ComponentValType, Module, ModuleSection, NestedComponentSection,
        PrimitiveValType,
    };

    use super::*;

    /// A component with two modules around another one, in which a module comes before a type.
    fn nested(has_stream: bool) -> Vec<u8> {
        let mut types = ComponentTypeSection::new();
        let byte = ComponentValType::Primitive(PrimitiveValType::U8);
        match has_stream {
            true => types.defined_type().stream(Some(byte)),
            false => types.defined_type().list(byte),
        }
        let module = Module::new();
        let mut inner = Component::new();
        inner.section(&ModuleSection(&module)).section(&types);
        let mut outer = Component::new();
        outer.section(&ModuleSection(&module)).section(&NestedComponentSection(&inner));
        outer.section(&ModuleSection(&module));
        outer.finish()
    }

    #[test]
    fn a_stream_is_found_however_deep_it_is_and_nothing_else_is_taken_for_one() {
        assert_eq!(shape(&nested(true)), Shape::Concurrent);
        assert_eq!(shape(&nested(false)), Shape::Plain);
        for len in 0..nested(true).len() {
            // Whatever comes of half a component, looking at it ends.
            shape(nested(true).get(..len).unwrap());
        }
    }
}

//! Carries a pass into every core module of a component, and gives each part of it that has core modules
//! its own meter.
//!
//! A core memory cannot cross the boundary of a component, so one meter cannot count for all: every component
//! that starts core modules begins with
//!
//! ```text
//! (import "vac:meter/host" (instance (export "attach" (func (param "words" (list u8))))))
//! (core module $meter   the memory of the counters; `stop` and `deep`, which leave a reason and trap)
//! (core instance        of $meter: what every core module of this component imports as `vac:meter`)
//! (core module $start   which calls `attach` when it is instantiated)
//! (core instance        of $start: from here on the host knows where the counters are)
//! ```
//!
//! and passes the import on to the components that it instantiates, whose types then import it too. All
//! that is before anything of the program itself, so that no code of it runs unmetered, and every index of
//! the program moves by a constant.
//!
//! `stop` and `deep` need no function of the host: inside `realloc` and `post-return` a component may not call
//! one.
//!
//! Invariant: a program never reaches a meter itself. One that uses its names is refused.

use vac_core::fault::{Corrupt, Error, Result, quote};
use wasm_encoder::reencode::{self, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    CanonicalFunctionSection, CanonicalOption, CodeSection, Component, ComponentAliasSection,
    ComponentExportKind, ComponentImportSection, ComponentInstanceSection, ComponentSectionId, ComponentType,
    ComponentTypeRef, ComponentTypeSection, ComponentValType, EntityType, ExportKind, ExportSection,
    Function, FunctionSection, ImportSection, InstanceSection, InstanceType, MemArg, MemorySection,
    MemoryType, Module, ModuleArg, ModuleSection, ModuleType, NameMap, NameSection, NestedComponentSection,
    PrimitiveValType, RawSection, StartSection, TypeSection, ValType,
};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentInstance, ComponentTypeDeclaration, Instance, KnownCustom,
    ModuleTypeDeclaration, Parser, Payload,
};

use super::meter::GATE;
use crate::load::malformed;

/// The instance that the host provides.
pub const HOST: &str = "vac:meter/host";
/// Its only function: where the counters of a component are.
pub const ATTACH: &str = "attach";
/// The module that every core module imports its meter from.
pub const METER: &str = "vac:meter";
/// The memory of the counters, and what is called when there are no ticks or no depth left.
pub const EXPORTS: [&str; 3] = ["counters", "stop", "deep"];

/// Bytes of the counters that the host is told of.
pub const WORDS_BYTES: u32 = 64;
/// Where `stop` and `deep` leave which of them it was.
pub const REASON_AT: u32 = 32;
/// What `stop` leaves.
pub const STOPPED: u64 = 1;
/// What `deep` leaves.
pub const TOO_DEEP: u64 = 2;

/// Components inside of components. Toolchains make two levels.
const LEVELS_MAX: usize = 100;

/// How much the indices of a component's own items grow by what is put before them.
mod before {
    /// Types: that of the import.
    pub(super) const TYPES: u32 = 1;
    /// Instances: the import.
    pub(super) const INSTANCES: u32 = 1;
    /// Of a component that starts core modules. Functions: `attach`.
    pub(super) const FUNCS: u32 = 1;
    /// Core modules: `$meter` and `$start`.
    pub(super) const MODULES: u32 = 2;
    /// Core instances: of `$meter`, what `$start` imports, of `$start`.
    pub(super) const CORE_INSTANCES: u32 = 3;
    /// Core functions: `attach`, lowered.
    pub(super) const CORE_FUNCS: u32 = 1;
    /// Core memories: the counters.
    pub(super) const CORE_MEMORIES: u32 = 1;
    /// Core types of a module's type: that of `stop` and `deep`.
    pub(super) const MODULE_TYPES: u32 = 1;
}

/// The component that does what `bytes` does, every core module of which went through `module` and has a meter.
pub fn component(bytes: &[u8], module: &mut dyn FnMut(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut threader = Threader { module, scopes: Vec::new() };
    let mut to = Component::new();
    threader.level(&mut to, Parser::new(0), bytes, bytes).map_err(own)?;
    Ok(to.finish())
}

/// An error of re-encoding that may be one of ours.
type Rejected = reencode::Error<Error>;

fn own(error: Rejected) -> Error {
    match error {
        reencode::Error::UserError(error) => error,
        reencode::Error::ParseError(error) => malformed(&error, "the program"),
        other => invalid("what can be read again", &other.to_string()),
    }
}

fn invalid(expected: &str, got: &str) -> Error {
    Corrupt::new("program", "the component", expected, quote(got)).into()
}

/// Where indices are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// A component, and whether it has a meter.
    Component { has_meter: bool },
    /// The type of a component.
    ComponentType,
    /// The type of an instance.
    InstanceType,
    /// The type of a core module.
    ModuleType,
}

impl Scope {
    fn types(self) -> u32 {
        if matches!(self, Self::Component { .. } | Self::ComponentType) { before::TYPES } else { 0 }
    }

    fn instances(self) -> u32 {
        if matches!(self, Self::Component { .. } | Self::ComponentType) { before::INSTANCES } else { 0 }
    }

    fn core_types(self) -> u32 {
        if self == Self::ModuleType { before::MODULE_TYPES } else { 0 }
    }

    /// `count`, if this has a meter.
    fn metered(self, count: u32) -> u32 {
        if self == (Self::Component { has_meter: true }) { count } else { 0 }
    }
}

struct Threader<'m> {
    module: &'m mut dyn FnMut(&[u8]) -> Result<Vec<u8>>,
    scopes: Vec<Scope>,
}

impl Threader<'_> {
    /// The scope that is `outward` levels from the innermost one. What does not exist, the engine refuses later.
    fn scope(&self, outward: u32) -> Scope {
        let depth = usize::try_from(outward).unwrap_or(usize::MAX);
        self.scopes.iter().rev().nth(depth).copied().unwrap_or(Scope::InstanceType)
    }

    fn here(&self) -> Scope {
        self.scope(0)
    }

    /// Re-encodes one component. Places in `payload`s are those in `whole`.
    fn level(
        &mut self,
        to: &mut Component,
        mut parser: Parser,
        bytes: &[u8],
        whole: &[u8],
    ) -> Result<(), Rejected> {
        if self.scopes.len() >= LEVELS_MAX {
            let got = format!("more than {LEVELS_MAX}");
            return Err(reencode::Error::UserError(invalid("components inside of each other", &got)));
        }
        let has_meter = starts_modules(parser.clone(), bytes)?;
        self.scopes.push(Scope::Component { has_meter });
        begin(to, has_meter);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (payload, inner) = next(&mut parser, &mut rest)?;
            match payload {
                Payload::ModuleSection { .. } => self.core_module(to, inner)?,
                Payload::ComponentSection { parser, .. } => {
                    let mut nested = Component::new();
                    self.level(&mut nested, parser, inner, whole)?;
                    to.section(&NestedComponentSection(&nested));
                }
                Payload::CustomSection(section) => self.custom(to, section)?,
                Payload::ComponentImportSection(imports) => {
                    for import in imports.clone() {
                        refuse_ours(import?.name.name)?;
                    }
                    self.parse_component_payload(to, Payload::ComponentImportSection(imports), whole)?;
                }
                other => self.parse_component_payload(to, other, whole)?,
            }
        }
        self.scopes.pop();
        Ok(())
    }

    fn core_module(&mut self, to: &mut Component, bytes: &[u8]) -> Result<(), Rejected> {
        let rewritten = (self.module)(bytes).map_err(reencode::Error::UserError)?;
        to.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &rewritten });
        Ok(())
    }

    /// Names are for people: where they are not what they should be, the program runs without them.
    fn custom(
        &mut self,
        to: &mut Component,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Rejected> {
        if let KnownCustom::ComponentName(names) = section.as_known() {
            if let Ok(names) = self.custom_component_name_section(names) {
                to.section(&names);
            }
            return Ok(());
        }
        component_utils::parse_component_custom_section(self, to, section)
    }
}

/// The next payload, and what is inside of it if that is a module or a component.
fn next<'a>(parser: &mut Parser, rest: &mut &'a [u8]) -> Result<(Payload<'a>, &'a [u8]), Rejected> {
    let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else {
        return Err(reencode::Error::UserError(invalid("a whole section", "the end of the file")));
    };
    *rest = rest.get(consumed..).unwrap_or_default();
    let len = match &payload {
        Payload::ModuleSection { unchecked_range, .. }
        | Payload::ComponentSection { unchecked_range, .. } => unchecked_range.len(),
        _ => 0,
    };
    let Some((inner, after)) = rest.split_at_checked(len) else {
        let got = format!("{} bytes", rest.len());
        return Err(reencode::Error::UserError(invalid(&format!("a section of {len} bytes"), &got)));
    };
    *rest = after;
    Ok((payload, inner))
}

/// Whether a component itself, and not only one inside of it, starts core modules.
fn starts_modules(mut parser: Parser, mut bytes: &[u8]) -> Result<bool, Rejected> {
    while !bytes.is_empty() {
        if let (Payload::InstanceSection(instances), _) = next(&mut parser, &mut bytes)? {
            for instance in instances {
                if matches!(instance?, Instance::Instantiate { .. }) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Refuses a name that only a meter has.
fn refuse_ours(name: &str) -> Result<(), Rejected> {
    let is_ours =
        name.strip_prefix(METER).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']));
    if is_ours {
        let got = format!("an import of `{name}`");
        return Err(reencode::Error::UserError(invalid("a program that leaves its meter to the host", &got)));
    }
    Ok(())
}

/// Arguments of a module that imports nothing.
const NOTHING: [(&str, ModuleArg); 0] = [];

/// What a component begins with.
fn begin(to: &mut Component, has_meter: bool) {
    let mut types = ComponentTypeSection::new();
    types.instance(&host_type());
    let mut imports = ComponentImportSection::new();
    imports.import(HOST, ComponentTypeRef::Instance(0));
    to.section(&types).section(&imports);
    if has_meter {
        begin_meter(to);
    }
}

/// The type of what the host provides.
fn host_type() -> InstanceType {
    let mut ty = InstanceType::new();
    ty.ty().defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
    ty.ty().function().params([("words", ComponentValType::Type(0))]).result(None);
    ty.export(ATTACH, ComponentTypeRef::Func(1));
    ty
}

fn begin_meter(to: &mut Component) {
    let mut instances = InstanceSection::new();
    instances.instantiate(0, NOTHING);
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(wasm_encoder::Alias::InstanceExport {
        instance: 0,
        kind: ComponentExportKind::Func,
        name: ATTACH,
    });
    aliases.alias(wasm_encoder::Alias::CoreInstanceExport {
        instance: 0,
        kind: ExportKind::Memory,
        name: EXPORTS[0],
    });
    let mut lowered = CanonicalFunctionSection::new();
    lowered.lower(0, [CanonicalOption::Memory(0)]);
    let mut started = InstanceSection::new();
    started.export_items([(ATTACH, ExportKind::Func, 0)]);
    started.instantiate(1, [(HOST, ModuleArg::Instance(1))]);
    to.section(&ModuleSection(&meter_module())).section(&instances).section(&aliases);
    to.section(&lowered).section(&ModuleSection(&start_module())).section(&started);
}

/// One page: the least that there is.
fn counters() -> MemoryType {
    MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None }
}

/// `$meter`.
fn meter_module() -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0).function(0);
    let mut memories = MemorySection::new();
    memories.memory(counters());
    let mut exports = ExportSection::new();
    exports.export(EXPORTS[0], ExportKind::Memory, 0);
    exports.export(EXPORTS[1], ExportKind::Func, 0).export(EXPORTS[2], ExportKind::Func, 1);
    let mut code = CodeSection::new();
    code.function(&leave(STOPPED)).function(&leave(TOO_DEEP));
    // By which they are left out of a guest's stack.
    let (mut named, mut names) = (NameMap::new(), NameSection::new());
    named.append(0, GATE);
    named.append(1, GATE);
    names.functions(&named);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    module.section(&names);
    module
}

/// Leaves `reason` for the host, and traps, which nothing of a guest can catch.
fn leave(reason: u64) -> Function {
    let at = MemArg { offset: REASON_AT.into(), align: 3, memory_index: 0 };
    let mut function = Function::new([]);
    function.instructions().i32_const(0).i64_const(reason.cast_signed()).i64_store(at).unreachable().end();
    function
}

/// `$start`.
fn start_module() -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32, ValType::I32], []);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    imports.import(HOST, ATTACH, EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    function.instructions().i32_const(0).i32_const(WORDS_BYTES.cast_signed()).call(0).end();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions);
    module.section(&StartSection { function_index: 1 }).section(&code);
    module
}

/// Only what is outside of core modules and their types goes through here: a core module is a pass's.
impl Reencode for Threader<'_> {
    type Error = Error;

    fn function_index(&mut self, index: u32) -> Result<u32, Rejected> {
        Ok(index.saturating_add(self.here().metered(before::CORE_FUNCS)))
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Rejected> {
        Ok(index.saturating_add(self.here().metered(before::CORE_MEMORIES)))
    }

    fn type_index(&mut self, index: u32) -> Result<u32, Rejected> {
        Ok(index.saturating_add(self.here().core_types()))
    }
}

impl ReencodeComponent for Threader<'_> {
    fn component_type_index(&mut self, index: u32) -> u32 {
        index.saturating_add(self.here().types())
    }

    fn component_instance_index(&mut self, index: u32) -> u32 {
        index.saturating_add(self.here().instances())
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        index.saturating_add(self.here().metered(before::FUNCS))
    }

    fn module_index(&mut self, index: u32) -> u32 {
        index.saturating_add(self.here().metered(before::MODULES))
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        index.saturating_add(self.here().metered(before::CORE_INSTANCES))
    }

    fn outer_type_index(&mut self, count: u32, index: u32) -> Result<u32, Rejected> {
        Ok(index.saturating_add(self.scope(count).core_types()))
    }

    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        index.saturating_add(self.scope(count).types())
    }

    fn outer_component_index(&mut self, _count: u32, index: u32) -> u32 {
        index
    }

    fn outer_module_index(&mut self, count: u32, index: u32) -> u32 {
        index.saturating_add(self.scope(count).metered(before::MODULES))
    }

    /// Called for types of instances; the others say themselves what they are.
    fn push_depth(&mut self) {
        self.scopes.push(Scope::InstanceType);
    }

    fn pop_depth(&mut self) {
        self.scopes.pop();
    }

    fn component_type(
        &mut self,
        declarations: Box<[ComponentTypeDeclaration<'_>]>,
    ) -> Result<ComponentType, Rejected> {
        self.scopes.push(Scope::ComponentType);
        let mut ty = ComponentType::new();
        ty.ty().instance(&host_type());
        ty.import(HOST, ComponentTypeRef::Instance(0));
        for declaration in Vec::from(declarations) {
            if let ComponentTypeDeclaration::Import(import) = &declaration {
                refuse_ours(import.name.name)?;
            }
            self.parse_component_type_declaration(&mut ty, declaration)?;
        }
        self.scopes.pop();
        Ok(ty)
    }

    fn component_module_type(
        &mut self,
        declarations: Box<[ModuleTypeDeclaration<'_>]>,
    ) -> Result<ModuleType, Rejected> {
        self.scopes.push(Scope::ModuleType);
        let mut ty = ModuleType::new();
        ty.ty().function([], []);
        ty.import(METER, EXPORTS[0], EntityType::Memory(counters()));
        ty.import(METER, EXPORTS[1], EntityType::Function(0));
        ty.import(METER, EXPORTS[2], EntityType::Function(0));
        for declaration in Vec::from(declarations) {
            if let ModuleTypeDeclaration::Import(import) = &declaration {
                refuse_ours(import.module)?;
            }
            self.parse_component_module_type_declaration(&mut ty, declaration)?;
        }
        self.scopes.pop();
        Ok(ty)
    }

    fn parse_component_instance(
        &mut self,
        instances: &mut ComponentInstanceSection,
        instance: ComponentInstance<'_>,
    ) -> Result<(), Rejected> {
        let ComponentInstance::Instantiate { component_index, args } = instance else {
            return component_utils::parse_component_instance(self, instances, instance);
        };
        let mut passed = vec![(HOST, ComponentExportKind::Instance, 0)];
        for arg in &args {
            refuse_ours(arg.name)?;
            passed.push((arg.name, arg.kind.into(), self.component_external_index(arg.kind, arg.index)));
        }
        instances.instantiate(self.component_index(component_index), passed);
        Ok(())
    }

    fn parse_instance(
        &mut self,
        instances: &mut InstanceSection,
        instance: Instance<'_>,
    ) -> Result<(), Rejected> {
        let Instance::Instantiate { module_index, args } = instance else {
            return component_utils::parse_instance(self, instances, instance);
        };
        let mut passed = vec![(METER, ModuleArg::Instance(0))];
        for arg in &args {
            refuse_ours(arg.name)?;
            passed.push((arg.name, ModuleArg::Instance(self.instance_index(arg.index))));
        }
        instances.instantiate(self.module_index(module_index), passed);
        Ok(())
    }

    /// The encoder's own forgets the types of these four.
    fn parse_component_canonical(
        &mut self,
        section: &mut CanonicalFunctionSection,
        function: CanonicalFunction,
    ) -> Result<(), Rejected> {
        use CanonicalFunction as F;
        let function = match function {
            F::StreamCancelRead { ty, async_ } => {
                F::StreamCancelRead { ty: self.component_type_index(ty), async_ }
            }
            F::StreamCancelWrite { ty, async_ } => {
                F::StreamCancelWrite { ty: self.component_type_index(ty), async_ }
            }
            F::FutureCancelRead { ty, async_ } => {
                F::FutureCancelRead { ty: self.component_type_index(ty), async_ }
            }
            F::FutureCancelWrite { ty, async_ } => {
                F::FutureCancelWrite { ty: self.component_type_index(ty), async_ }
            }
            other => other,
        };
        component_utils::parse_component_canonical(self, section, function)
    }
}

#[cfg(test)]
mod tests;

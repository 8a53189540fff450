//! What a program imports, and the world of the component that answers in its place: it exports all of that,
//! and imports what it needs to print and to exit.

use std::collections::BTreeMap;

use vac_core::fault::{Corrupt, Error, Result, Usage, quote, quote_line};
use wit_parser::IndexMap;
use wit_parser::decoding::DecodedWasm;
use wit_parser::{
    Function, Handle, InterfaceId, Resolve, SizeAlign, Type, TypeDefKind, TypeId, World, WorldId, WorldItem,
    WorldKey,
};

/// What a player imports, under the version that is put in.
const STDIO: &str = include_str!("stdio.wit");
const STDIO_VERSION: &str = "VERSION";
/// The interfaces of it, each after those that it uses.
const STDIO_INTERFACES: [(&str, &str); 5] =
    [("io", "error"), ("io", "streams"), ("cli", "stdout"), ("cli", "stderr"), ("cli", "exit")];

/// A function that the player answers.
pub(super) struct Asked {
    /// Its name in the record.
    pub(super) name: String,
    /// The interface, with its version.
    pub(super) interface: String,
    /// What it is.
    pub(super) kind: Kind,
}

/// What is asked for.
pub(super) enum Kind {
    /// A function is called.
    Call(Box<Function>),
    /// A handle is given up; the resource's name.
    Drop(String),
}

/// A type of handle that the player makes.
pub(super) struct Made {
    /// The interface, with its version.
    pub(super) interface: String,
    /// Its name there.
    pub(super) name: String,
}

/// All that a player must be.
pub(super) struct Needs {
    pub(super) resolve: Resolve,
    pub(super) sizes: SizeAlign,
    /// The world of the player.
    pub(super) world: WorldId,
    /// Functions by number.
    pub(super) asked: Vec<Asked>,
    /// Numbers of functions by their name in the record.
    pub(super) numbers: BTreeMap<String, u32>,
    /// Types of handles by number.
    pub(super) made: Vec<Made>,
    /// Numbers of them.
    pub(super) resources: BTreeMap<TypeId, u32>,
    /// The version of what is imported for printing.
    pub(super) version: String,
}

impl Needs {
    /// What `component` needs; an error that names an import which no record can answer.
    pub(super) fn of(component: &[u8], place: &str) -> Result<Self> {
        let mut needs = Self::read(component, place)?;
        // What is imported has all that it uses imported beside it, so the same can be exported. Types that a
        // world itself defines are imports too, which nobody has to answer.
        let exports = |(_, item): &(&WorldKey, &WorldItem)| !matches!(item, WorldItem::Type { .. });
        let old = needs.resolve.worlds.get(needs.world).cloned();
        let player = old.map(|old| World {
            name: "player".to_owned(),
            imports: IndexMap::default(),
            exports: old.imports.iter().filter(exports).map(|(k, v)| (k.clone(), v.clone())).collect(),
            ..old
        });
        if let Some(player) = player {
            let package = player.package;
            needs.world = needs.resolve.worlds.alloc(player);
            if let Some(package) = package.and_then(|id| needs.resolve.packages.get_mut(id)) {
                package.worlds.insert("player".to_owned(), needs.world);
            }
        }
        needs.list(place)?;
        needs.add_stdio(&STDIO_INTERFACES, |world| &mut world.imports);
        Ok(needs)
    }

    /// What a component needs that calls what `component` exports, and is a command itself.
    pub(super) fn of_caller(component: &[u8], place: &str) -> Result<Self> {
        let mut needs = Self::read(component, place)?;
        // The types of exports may be those of imports.
        if let Some(world) = needs.resolve.worlds.get_mut(needs.world) {
            let exports = std::mem::take(&mut world.exports);
            world.imports.retain(|_, item| !matches!(item, WorldItem::Function(_)));
            world
                .imports
                .extend(exports.into_iter().filter(|(_, item)| !matches!(item, WorldItem::Type { .. })));
        }
        needs.add_stdio(&STDIO_INTERFACES, |world| &mut world.imports);
        needs.add_stdio(&[("cli", "run")], |world| &mut world.exports);
        Ok(needs)
    }

    fn read(component: &[u8], place: &str) -> Result<Self> {
        // The library takes for granted that what it reads is valid.
        wasmparser::Validator::new().validate_all(component).map_err(|e| unusable(place, &e))?;
        // It reads all interfaces, but not, for example, types that a component exports by themselves.
        let decoded = wit_parser::decoding::decode(component);
        let decoded = decoded.map_err(|e| refused(place, &quote_line(&format!("{e:#}"))))?;
        let DecodedWasm::Component(mut resolve, world) = decoded else {
            return Err(refused(place, "it is a package of interfaces"));
        };
        let version = free_version(&resolve);
        let stdio = STDIO.replace(STDIO_VERSION, &version);
        resolve.push_source("stdio.wit", &stdio).map_err(|e| unusable(place, &e))?;
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let (asked, numbers) = (Vec::new(), BTreeMap::new());
        let (made, resources) = (Vec::new(), BTreeMap::new());
        Ok(Self { resolve, sizes, world, asked, numbers, made, resources, version })
    }

    /// Lists the functions and types of handles of all interfaces.
    fn list(&mut self, place: &str) -> Result<()> {
        let exports: Vec<(WorldKey, WorldItem)> = match self.resolve.worlds.get(self.world) {
            Some(World { exports, .. }) => exports.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            None => Vec::new(),
        };
        for (key, item) in exports {
            match item {
                WorldItem::Interface { id, .. } if matches!(key, WorldKey::Interface(_)) => {
                    self.list_interface(id, place)?;
                }
                WorldItem::Type { .. } => {}
                _ => {
                    let name = self.resolve.name_world_key(&key);
                    return Err(refused(place, &format!("its import `{}` is of no package", quote(&name))));
                }
            }
        }
        Ok(())
    }

    fn list_interface(&mut self, id: InterfaceId, place: &str) -> Result<()> {
        let Some(name) = self.resolve.id_of(id) else { return Ok(()) };
        let Some(interface) = self.resolve.interfaces.get(id).cloned() else { return Ok(()) };
        for (resource, ty) in &interface.types {
            if !self.resolve.types.get(*ty).is_some_and(|ty| matches!(ty.kind, TypeDefKind::Resource)) {
                continue;
            }
            self.resources.insert(*ty, self.made.len() as u32);
            self.made.push(Made { interface: name.clone(), name: resource.clone() });
            self.ask(&name, &format!("[drop]{resource}"), Kind::Drop(resource.clone()), place)?;
        }
        for function in interface.functions.values() {
            if let Some(why) = self.cannot_answer(function) {
                let call = quote(&function.name);
                return Err(refused(place, &format!("its import `{name}` has `{call}`, {why}")));
            }
            self.ask(&name, &function.name, Kind::Call(Box::new(function.clone())), place)?;
        }
        Ok(())
    }

    fn ask(&mut self, interface: &str, function: &str, kind: Kind, place: &str) -> Result<()> {
        let bare = interface.split('@').next().unwrap_or(interface);
        let name = format!("{bare}#{function}");
        if self.numbers.insert(name.clone(), self.asked.len() as u32).is_some() {
            return Err(refused(place, &format!("it imports `{bare}` in two versions")));
        }
        self.asked.push(Asked { name, interface: interface.to_owned(), kind });
        Ok(())
    }

    /// Why a record cannot answer a function.
    fn cannot_answer(&self, function: &Function) -> Option<&'static str> {
        if function.kind.is_async() {
            return Some("which is asynchronous");
        }
        let types = function.params.iter().map(|param| &param.ty).chain(&function.result);
        types.into_iter().find_map(|ty| self.not_answerable(ty))
    }

    fn not_answerable(&self, ty: &Type) -> Option<&'static str> {
        let Type::Id(id) = ty else {
            return matches!(ty, Type::ErrorContext).then_some("which has a context of errors");
        };
        let mut parts: Vec<&Type> = Vec::new();
        match &self.resolve.types.get(*id)?.kind {
            TypeDefKind::Future(_) => return Some("which has a future"),
            TypeDefKind::Stream(_) => return Some("which has a stream"),
            TypeDefKind::Map(..) | TypeDefKind::FixedLengthList(..) | TypeDefKind::Unknown => {
                return Some("which has a type that no interface of a record has");
            }
            TypeDefKind::Record(record) => parts.extend(record.fields.iter().map(|f| &f.ty)),
            TypeDefKind::Tuple(tuple) => parts.extend(&tuple.types),
            TypeDefKind::Variant(variant) => parts.extend(variant.cases.iter().filter_map(|c| c.ty.as_ref())),
            TypeDefKind::Result(result) => parts.extend(result.ok.iter().chain(&result.err)),
            TypeDefKind::Option(ty) | TypeDefKind::List(ty) | TypeDefKind::Type(ty) => parts.push(ty),
            TypeDefKind::Handle(_) | TypeDefKind::Resource | TypeDefKind::Flags(_) | TypeDefKind::Enum(_) => {
            }
        }
        parts.into_iter().find_map(|ty| self.not_answerable(ty))
    }

    fn add_stdio(
        &mut self,
        interfaces: &[(&str, &str)],
        side: fn(&mut World) -> &mut IndexMap<WorldKey, WorldItem>,
    ) {
        for (package, interface) in interfaces {
            let name = format!("wasi:{package}/{interface}@{}", self.version);
            let found = self
                .resolve
                .interfaces
                .iter()
                .find(|(id, _)| self.resolve.id_of(*id).as_ref() == Some(&name));
            let Some((id, _)) = found else { continue };
            let item = WorldItem::Interface {
                id,
                stability: Default::default(),
                external_id: None,
                docs: Default::default(),
                span: Default::default(),
            };
            if let Some(world) = self.resolve.worlds.get_mut(self.world) {
                side(world).insert(WorldKey::Interface(id), item);
            }
        }
    }

    /// The resource behind a handle, and whether the handle is owned.
    pub(super) fn resource(&self, handle: &Handle) -> Option<(u32, bool)> {
        let (id, is_owned) = match handle {
            Handle::Own(id) => (id, true),
            Handle::Borrow(id) => (id, false),
        };
        self.resources.get(&self.origin(*id)).map(|number| (*number, is_owned))
    }

    /// The type that a chain of names stands for.
    pub(super) fn origin(&self, mut id: TypeId) -> TypeId {
        while let Some(TypeDefKind::Type(Type::Id(next))) = self.resolve.types.get(id).map(|ty| &ty.kind) {
            id = *next;
        }
        id
    }
}

/// A version of WASI 0.2 that the program does not import: its packages and those of the player, which have
/// fewer functions, are kept apart by that. A host that has one has all.
fn free_version(resolve: &Resolve) -> String {
    let is_used = |version: &str| {
        let packages = resolve.packages.iter().filter(|(_, p)| p.name.namespace == "wasi");
        packages.into_iter().any(|(_, p)| p.name.version.as_ref().is_some_and(|v| v.to_string() == version))
    };
    let versions = (0..).map(|patch| format!("0.2.{patch}"));
    versions.into_iter().find(|version| !is_used(version)).unwrap_or_default()
}

/// A program that cannot be exported.
pub(super) fn refused(place: &str, why: &str) -> Error {
    let message = format!("`{place}` cannot be exported: {why}");
    Usage::new(message).hint("`vac replay` replays it").into()
}

/// A component that the library of interfaces does not understand.
pub(super) fn unusable(place: &str, why: &dyn std::fmt::Display) -> Error {
    let why = format!("{why:#}");
    Corrupt::new(
        "program",
        format!("`{place}`"),
        "a component whose interfaces can be read",
        quote_line(&why),
    )
    .into()
}

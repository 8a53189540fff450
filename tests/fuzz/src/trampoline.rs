//! A component that hands on calls: it imports what a world imports, and exports each of those functions as
//! `f0`, `f1` and so on, with the same type. So the host's own functions can be called with typed values.
//!
//! Its memory is given up at the end of each call. What it was lent it drops, as it must.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, FlatTypes, WasmType};
use wit_parser::{
    Function, FunctionKind, Handle, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem,
    WorldKey,
};

/// Where a function's result stands; arguments and lists stand after it.
const RESULT_AT: u32 = 64;
const HEAP_AT: u32 = 4096;
/// Flat values of one argument.
const FLAT_MAX: usize = 16;

/// A function of an interface that is imported.
struct Imported {
    interface: String,
    function: Function,
}

/// The component, and what its exports really are, in order.
pub(crate) fn component(mut resolve: Resolve, world: WorldId) -> (Vec<u8>, Vec<String>) {
    let imported = functions(&resolve, world);
    let mut text = String::from("(module\n");
    let mut bodies = String::new();
    let mut drops: Vec<(String, String)> = Vec::new();
    for (n, import) in imported.iter().enumerate() {
        let sig = resolve.wasm_signature(AbiVariant::GuestImport, &import.function);
        assert!(!sig.indirect_params, "{}", import.function.name);
        let (params, results) = (types("param", &sig.params), types("result", &sig.results));
        let (interface, name) = (&import.interface, &import.function.name);
        let _ = writeln!(text, "(import \"{interface}\" \"{name}\" (func $i{n} {params} {results}))");
        bodies.push_str(&shim(&resolve, n, &import.function, &sig, &mut drops));
    }
    for (n, (interface, name)) in drops.iter().enumerate() {
        let _ = writeln!(text, "(import \"{interface}\" \"[resource-drop]{name}\" (func $d{n} (param i32)))");
    }
    let _ = write!(
        text,
        "(memory (export \"memory\") 1024) (global $top (mut i32) (i32.const {HEAP_AT}))
        (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (local $at i32)
          (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
          (global.set $top (i32.add (local.get $at) (local.get 3)))
          (local.get $at))\n{bodies})"
    );
    let mut module = wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}"));
    let names = imported.iter().map(|import| format!("{}#{}", import.interface, import.function.name));
    let names = names.collect();
    export(&mut resolve, world, imported);
    let embedded = embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8);
    embedded.unwrap_or_else(|e| panic!("{e:#}"));
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    let bytes = encoder.and_then(|mut encoder| encoder.encode()).unwrap_or_else(|e| panic!("{e:#}"));
    (bytes, names)
}

fn functions(resolve: &Resolve, world: WorldId) -> Vec<Imported> {
    let mut all = Vec::new();
    for item in resolve.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        let interface = resolve.id_of(*id).unwrap_or_default();
        // It ends the guest, which is no news.
        let functions = resolve.interfaces[*id].functions.values().filter(|f| f.name != "exit");
        all.extend(functions.map(|f| Imported { interface: interface.clone(), function: f.clone() }));
    }
    all
}

/// Makes the world export, as a function of its own, each function that it imports.
fn export(resolve: &mut Resolve, world: WorldId, imported: Vec<Imported>) {
    resolve.worlds[world].exports.clear();
    let mut names = BTreeMap::new();
    for (n, import) in imported.into_iter().enumerate() {
        let name = format!("f{n}");
        let mut function =
            Function { name: name.clone(), kind: FunctionKind::Freestanding, ..import.function };
        let types = function.params.iter_mut().map(|param| &mut param.ty).chain(&mut function.result);
        types.for_each(|ty| *ty = used(resolve, world, *ty, &mut names));
        let exports = &mut resolve.worlds[world].exports;
        exports.insert(WorldKey::Name(name), WorldItem::Function(function));
    }
}

/// A type of an interface as the world may name it: as if by `use`.
fn used(resolve: &mut Resolve, world: WorldId, ty: Type, names: &mut BTreeMap<TypeId, TypeId>) -> Type {
    let Type::Id(id) = ty else { return ty };
    let mut def = resolve.types[id].clone();
    if def.name.is_none() {
        let mut inner = |ty: &mut Type| *ty = used(resolve, world, *ty, names);
        match &mut def.kind {
            TypeDefKind::List(item) | TypeDefKind::Option(item) => inner(item),
            TypeDefKind::Result(result) => result.ok.iter_mut().chain(&mut result.err).for_each(inner),
            TypeDefKind::Tuple(tuple) => tuple.types.iter_mut().for_each(inner),
            TypeDefKind::Handle(Handle::Own(resource) | Handle::Borrow(resource)) => {
                let mut ty = Type::Id(*resource);
                inner(&mut ty);
                if let Type::Id(id) = ty {
                    *resource = id;
                }
            }
            other => panic!("a type without a name that is {other:?}"),
        }
        return Type::Id(resolve.types.alloc(def));
    }
    if let Some(known) = names.get(&id) {
        return Type::Id(*known);
    }
    let name = format!("t{}", names.len());
    (def.name, def.kind, def.owner) = (Some(name.clone()), TypeDefKind::Type(ty), TypeOwner::World(world));
    let span = def.span;
    let new = resolve.types.alloc(def);
    resolve.worlds[world].imports.insert(WorldKey::Name(name), WorldItem::Type { id: new, span });
    names.insert(id, new);
    Type::Id(new)
}

fn types(word: &str, types: &[WasmType]) -> String {
    let name = |ty: &WasmType| match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    };
    types.iter().map(|ty| format!("({word} {})", name(ty))).collect()
}

/// Calls function `n`, drops what was lent, and gives the memory up.
fn shim(
    resolve: &Resolve,
    n: usize,
    function: &Function,
    import: &wit_parser::abi::WasmSignature,
    drops: &mut Vec<(String, String)>,
) -> String {
    let export = resolve.wasm_signature(AbiVariant::GuestExport, function);
    let (params, results) = (types("param", &export.params), types("result", &export.results));
    let args: String = (0..export.params.len()).map(|i| format!("(local.get {i})")).collect();
    let (at, result) = match import.retptr {
        true => (format!("(i32.const {RESULT_AT})"), format!("(i32.const {RESULT_AT})")),
        false => Default::default(),
    };
    let dropped = lent(resolve, function, drops);
    format!(
        "(func (export \"f{n}\") {params} {results} (local $at i32) (local $end i32) (call $i{n} {args} {at}) {dropped} \
         (global.set $top (i32.const {HEAP_AT})) {result})\n"
    )
}

/// Drops the handles that were lent for one call.
fn lent(resolve: &Resolve, function: &Function, drops: &mut Vec<(String, String)>) -> String {
    let (mut code, mut position) = (String::new(), 0);
    for param in &function.params {
        if let Some(resource) = borrowed(resolve, &param.ty) {
            let _ = write!(code, "(call $d{} (local.get {position}))", drop_of(resolve, resource, drops));
        } else if let Some(resource) = listed(resolve, &param.ty) {
            let (list, end) = (position, position + 1);
            let _ = write!(
                code,
                "(local.set $at (local.get {list}))
                 (local.set $end (i32.add (local.get {list}) (i32.shl (local.get {end}) (i32.const 2))))
                 (block $over (loop $next (br_if $over (i32.ge_u (local.get $at) (local.get $end)))
                   (call $d{} (i32.load (local.get $at)))
                   (local.set $at (i32.add (local.get $at) (i32.const 4))) (br $next)))",
                drop_of(resolve, resource, drops)
            );
        }
        let mut storage = [WasmType::I32; FLAT_MAX];
        let mut flat = FlatTypes::new(&mut storage);
        assert!(resolve.push_flat(&param.ty, &mut flat), "{}", function.name);
        position += flat.to_vec().len();
    }
    code
}

fn borrowed(resolve: &Resolve, ty: &Type) -> Option<TypeId> {
    match kind(resolve, ty)? {
        TypeDefKind::Handle(Handle::Borrow(id)) => Some(*id),
        _ => None,
    }
}

fn listed(resolve: &Resolve, ty: &Type) -> Option<TypeId> {
    match kind(resolve, ty)? {
        TypeDefKind::List(item) => borrowed(resolve, item),
        _ => None,
    }
}

/// What a type is, whatever it is called.
fn kind<'r>(resolve: &'r Resolve, ty: &Type) -> Option<&'r TypeDefKind> {
    let Type::Id(id) = ty else { return None };
    match &resolve.types[*id].kind {
        TypeDefKind::Type(other) => kind(resolve, other),
        kind => Some(kind),
    }
}

/// Number of the function that drops a resource, which is imported from where the resource is.
fn drop_of(resolve: &Resolve, mut id: TypeId, drops: &mut Vec<(String, String)>) -> usize {
    while let TypeDefKind::Type(Type::Id(other)) = &resolve.types[id].kind {
        id = *other;
    }
    let TypeOwner::Interface(owner) = resolve.types[id].owner else { panic!("a resource of a world") };
    let interface = resolve.id_of(owner).unwrap_or_default();
    let wanted = (interface, resolve.types[id].name.clone().unwrap_or_default());
    drops.iter().position(|known| *known == wanted).unwrap_or_else(|| {
        drops.push(wanted);
        drops.len() - 1
    })
}

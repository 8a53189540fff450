//! Guests of WASI 0.2: components that import it directly, by the types of its WIT. Their functions take a number
//! and bytes, and give bytes: what they were answered.

use std::fmt::Write as _;
use std::sync::OnceLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, FlatTypes, WasmSignature, WasmType};
use wit_parser::{
    Function, Handle, Param, Resolve, SizeAlign, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem,
    WorldKey,
};

use super::{
    FUNCTIONS, HELD_AT, LOG_AT, Plan, RESULT_AT, RESULT_MAX, Step, TEXTS, World, ZEROS_AT, body, handle,
    long, number, place, prelude, text, text_at,
};
use crate::mutate::Random;

/// The functions of a world, and its types of resources, which are dropped by functions of their own.
struct Imports {
    resolve: Resolve,
    functions: Vec<Import>,
    /// Interface and name of each type of resource.
    resources: Vec<(String, String)>,
    sizes: SizeAlign,
    /// The section that says what world a module is for.
    metadata: Vec<u8>,
}

/// How many functions are called for the handles of one call, one for another.
const CHAIN_MAX: usize = 4;
/// A module with nothing in it.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

struct Import {
    interface: String,
    function: Function,
    signature: WasmSignature,
}

fn imports(world: World) -> &'static Imports {
    static FILES: OnceLock<Imports> = OnceLock::new();
    static NET: OnceLock<Imports> = OnceLock::new();
    match world {
        World::Net => NET.get_or_init(|| Imports::new(crate::host::probes())),
        _ => FILES.get_or_init(|| Imports::new(crate::host::adapters())),
    }
}

impl Imports {
    fn new((mut resolve, world): (Resolve, WorldId)) -> Self {
        export(&mut resolve, world);
        let (mut functions, mut resources) = (Vec::new(), Vec::new());
        for item in resolve.worlds[world].imports.values() {
            let WorldItem::Interface { id, .. } = item else { continue };
            let interface = resolve.id_of(*id).unwrap_or_default();
            for (name, ty) in &resolve.interfaces[*id].types {
                if matches!(resolve.types[*ty].kind, TypeDefKind::Resource) {
                    resources.push((interface.clone(), name.clone()));
                }
            }
            for function in resolve.interfaces[*id].functions.values() {
                let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                assert!(!signature.indirect_params, "{}", function.name);
                functions.push(Import {
                    interface: interface.clone(),
                    function: function.clone(),
                    signature,
                });
            }
        }
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let mut module = EMPTY.to_vec();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .unwrap_or_else(|e| panic!("{e:#}"));
        let metadata = module.split_off(EMPTY.len());
        Self { resolve, functions, resources, sizes, metadata }
    }

    /// Number of a resource, wherever a name for it leads.
    fn resource(&self, mut id: TypeId) -> usize {
        while let TypeDefKind::Type(Type::Id(other)) = &self.resolve.types[id].kind {
            id = *other;
        }
        let TypeOwner::Interface(owner) = self.resolve.types[id].owner else {
            panic!("a resource of a world")
        };
        let interface = self.resolve.id_of(owner).unwrap_or_default();
        let name = self.resolve.types[id].name.clone().unwrap_or_default();
        let position = self.resources.iter().position(|known| *known == (interface.clone(), name.clone()));
        position.expect("every resource is listed")
    }

    /// What a type is, whatever it is called; `None` if it is a primitive.
    fn kind(&self, ty: &Type) -> Option<&TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        match &self.resolve.types[*id].kind {
            TypeDefKind::Type(Type::Id(other)) => self.kind(&Type::Id(*other)),
            TypeDefKind::Type(_) => None,
            kind => Some(kind),
        }
    }

    /// The primitive behind a name.
    fn primitive(&self, ty: &Type) -> Type {
        match ty {
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Type(other) => self.primitive(other),
                _ => *ty,
            },
            other => *other,
        }
    }

    fn flat(&self, ty: &Type) -> Vec<WasmType> {
        let mut storage = [WasmType::I32; 64];
        let mut flat = FlatTypes::new(&mut storage);
        self.resolve.push_flat(ty, &mut flat);
        flat.to_vec()
    }
}

/// Makes the world export `f0`, `f1`, … and nothing else.
fn export(resolve: &mut Resolve, world: WorldId) {
    let list = resolve.types.alloc(wit_parser::TypeDef {
        name: None,
        kind: TypeDefKind::List(Type::U8),
        owner: TypeOwner::None,
        docs: wit_parser::Docs::default(),
        stability: wit_parser::Stability::default(),
        span: wit_parser::Span::default(),
        external_id: None,
    });
    resolve.worlds[world].exports.clear();
    for n in 0..FUNCTIONS {
        let name = format!("f{n}");
        let param = |name: &str, ty| Param { name: name.to_owned(), ty, span: wit_parser::Span::default() };
        let function = Function {
            name: name.clone(),
            kind: wit_parser::FunctionKind::Freestanding,
            params: vec![param("n", Type::U32), param("bytes", Type::Id(list))],
            result: Some(Type::Id(list)),
            docs: wit_parser::Docs::default(),
            stability: wit_parser::Stability::default(),
            span: wit_parser::Span::default(),
            external_id: None,
        };
        resolve.worlds[world].exports.insert(WorldKey::Name(name), WorldItem::Function(function));
    }
}

/// An argument that is not left to chance.
#[derive(Debug, Clone, Copy)]
enum Fixed {
    Bits(u32),
    Long(u64),
    Text(&'static str),
    /// What may be left out, and is not.
    Some(&'static str),
    /// What may be left out, and is.
    None,
}

impl Fixed {
    /// Operands for it, of which there are as many as for an argument by chance.
    fn operands(self, flat: usize) -> Vec<String> {
        let constant = |n: usize| format!("(i32.const {n})");
        let text = |text: &str| {
            let n = TEXTS.iter().position(|known| *known == text).expect("a text of the guest's");
            let (at, len) = text_at(n);
            [constant(at), constant(len)]
        };
        match self {
            Self::Bits(bits) => vec![constant(bits as usize)],
            Self::Long(n) => vec![format!("(i64.const {n})")],
            Self::Text(value) => text(value).to_vec(),
            Self::Some(value) => [vec![constant(1)], text(value).to_vec()].concat(),
            Self::None => vec![constant(0); flat],
        }
    }
}

/// A function to call, and which of its parameters are fixed.
type Cooked = (&'static str, &'static [(usize, Fixed)]);

/// Calls that chance hardly ever makes in this order and with these arguments: the world is such that they succeed, or
/// fail in a way of their own.
const RECIPES: [(World, &[Cooked]); 4] = [
    // A place at the end of all files, where nothing can be written.
    (
        World::Files,
        &[
            ("wasi:filesystem/preopens#get-directories", &[]),
            (
                "wasi:filesystem/types#[method]descriptor.open-at",
                &[(1, Fixed::Bits(0)), (2, Fixed::Text("new")), (3, Fixed::Bits(1)), (4, Fixed::Bits(2))],
            ),
            (
                "wasi:filesystem/types#[method]descriptor.write-via-stream",
                &[(1, Fixed::Long(i64::MAX as u64))],
            ),
            (
                "wasi:io/streams#[method]output-stream.blocking-write-and-flush",
                &[(1, Fixed::Text("a very long name"))],
            ),
            ("wasi:io/error#[method]error.to-debug-string", &[]),
            ("wasi:filesystem/types#filesystem-error-code", &[]),
        ],
    ),
    (
        World::Net,
        &[
            ("wasi:http/types#[constructor]outgoing-request", &[]),
            ("wasi:http/types#[method]outgoing-request.set-authority", &[(1, Fixed::Some("example.com"))]),
            ("wasi:http/outgoing-handler#handle", &[(1, Fixed::None)]),
            ("wasi:http/types#[method]future-incoming-response.subscribe", &[]),
            ("wasi:http/types#[method]future-incoming-response.get", &[]),
            ("wasi:http/types#[method]incoming-response.status", &[]),
            ("wasi:http/types#[method]incoming-response.headers", &[]),
            ("wasi:http/types#[method]incoming-response.consume", &[]),
            ("wasi:http/types#[method]incoming-body.stream", &[]),
            ("wasi:io/streams#[method]input-stream.read", &[]),
        ],
    ),
    (
        World::Net,
        &[
            ("wasi:sockets/ip-name-lookup#resolve-addresses", &[(1, Fixed::Text("127.0.0.1"))]),
            ("wasi:sockets/ip-name-lookup#[method]resolve-address-stream.resolve-next-address", &[]),
        ],
    ),
    (
        World::Files,
        &[
            ("wasi:sockets/ip-name-lookup#resolve-addresses", &[(1, Fixed::Text("127.0.0.1"))]),
            ("wasi:sockets/ip-name-lookup#[method]resolve-address-stream.subscribe", &[]),
            ("wasi:sockets/ip-name-lookup#[method]resolve-address-stream.resolve-next-address", &[]),
        ],
    ),
];

/// Calls of one recipe.
fn recipe(world: World, random: &mut Random) -> Step {
    let all: Vec<_> = RECIPES.iter().filter(|(of, _)| *of == world).collect();
    let (_, calls) = all[random.below(all.len())];
    let (imports, names) = (imports(world), names(world));
    let mut step = Step { code: String::new(), imports: Vec::new() };
    for (name, fixed) in *calls {
        let n = names.iter().position(|known| known == name);
        imports.call(n.unwrap_or_else(|| panic!("no `{name}`")), fixed, random, CHAIN_MAX, &mut step);
        step.code.push('\n');
    }
    step
}

/// A call of any function, or the end of a handle.
pub(super) fn call(world: World, random: &mut Random) -> Step {
    if random.below(24) == 0 {
        return recipe(world, random);
    }
    let imports = imports(world);
    if random.below(9) == 0 {
        let ty = random.below(imports.resources.len());
        return Step {
            code: format!("(if {} (then (call $d{ty} {})))\n", has(ty), handle(random, "take", ty)),
            imports: vec![imports.functions.len() + ty],
        };
    }
    // What needs no handle gives those that others need.
    let mut n = random.below(imports.functions.len());
    if random.below(3) == 0 {
        let has_none = |n: &usize| imports.functions[*n].function.params.is_empty();
        let all: Vec<usize> = (0..imports.functions.len()).filter(has_none).collect();
        n = all[random.below(all.len())];
    }
    let mut step = Step { code: String::new(), imports: Vec::new() };
    imports.call(n, &[], random, CHAIN_MAX, &mut step);
    step.code.push('\n');
    step
}

impl Imports {
    /// Adds a call of function `n` to a step; before it, calls that give the handles that it takes and that nobody
    /// gave yet, as far as `chain` goes.
    fn call(&self, n: usize, fixed: &[(usize, Fixed)], random: &mut Random, chain: usize, step: &mut Step) {
        let import = &self.functions[n];
        let taken: Vec<usize> =
            import.function.params.iter().filter_map(|param| self.handle_of(&param.ty)).collect();
        for ty in taken.iter().filter(|_| chain > 0) {
            let giving: Vec<usize> =
                (0..self.functions.len()).filter(|n| self.gives(*n).contains(ty)).collect();
            if !giving.is_empty() {
                let _ = write!(step.code, "(if (i32.eqz {}) (then ", has(*ty));
                self.call(giving[random.below(giving.len())], &[], random, chain - 1, step);
                step.code.push_str("))");
            }
        }
        let mut args = Vec::new();
        for (i, param) in import.function.params.iter().enumerate() {
            match fixed.iter().find(|(at, _)| *at == i) {
                Some((_, value)) => args.extend(value.operands(self.flat(&param.ty).len())),
                None => self.argument(&param.ty, random, &mut args),
            }
        }
        if import.signature.retptr {
            args.push(match random.below(200) {
                0 => place(random),
                _ => format!("(i32.const {RESULT_AT})"),
            });
        }
        let heard = self.heard(import, &format!("(call $i{n} {})", args.join(" ")));
        // Without the handles that it takes, a call would only end the guest.
        let code = taken.into_iter().map(has).fold(heard, |code, has| format!("(if {has} (then {code}))"));
        step.code.push_str(&code);
        step.imports.push(n);
    }

    /// The types of resources that are in the result of function `n`.
    fn gives(&self, n: usize) -> Vec<usize> {
        let mut given = Vec::new();
        if let Some(ty) = &self.functions[n].function.result {
            self.owned(ty, &mut given);
        }
        given
    }

    fn owned(&self, ty: &Type, given: &mut Vec<usize>) {
        match self.kind(ty) {
            Some(TypeDefKind::Handle(Handle::Own(id))) => given.push(self.resource(*id)),
            Some(TypeDefKind::Tuple(tuple)) => tuple.types.iter().for_each(|ty| self.owned(ty, given)),
            Some(TypeDefKind::List(item) | TypeDefKind::Option(item)) => self.owned(item, given),
            Some(TypeDefKind::Result(result)) => result.ok.iter().for_each(|ty| self.owned(ty, given)),
            _ => {}
        }
    }

    /// The type of resource that a parameter is a handle of, or a list of handles.
    fn handle_of(&self, ty: &Type) -> Option<usize> {
        match self.kind(ty)? {
            TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id)) => Some(self.resource(*id)),
            TypeDefKind::List(item) => self.handle_of(item),
            _ => None,
        }
    }

    /// Operands for one argument.
    fn argument(&self, ty: &Type, random: &mut Random, to: &mut Vec<String>) {
        let ty = &self.primitive(ty);
        let Some(kind) = self.kind(ty) else { return to.extend(primitive(ty, random)) };
        match kind {
            TypeDefKind::Handle(Handle::Own(id)) => to.push(handle(random, "take", self.resource(*id))),
            TypeDefKind::Handle(Handle::Borrow(id)) => to.push(handle(random, "held", self.resource(*id))),
            TypeDefKind::Record(record) => {
                record.fields.iter().for_each(|field| self.argument(&field.ty, random, to));
            }
            TypeDefKind::Tuple(tuple) => tuple.types.iter().for_each(|ty| self.argument(ty, random, to)),
            TypeDefKind::List(item) => {
                let is_bytes = matches!(self.primitive(item), Type::U8);
                to.extend(if is_bytes { text(random).to_vec() } else { self.list(item, random) });
            }
            TypeDefKind::Flags(flags) => {
                let bits = random.next_u64() & ((1 << flags.flags.len().min(31)) - 1);
                to.push(if random.below(100) == 0 { number(random) } else { format!("(i32.const {bits})") });
            }
            TypeDefKind::Enum(cases) => to.push(case(cases.cases.len(), random)),
            TypeDefKind::Option(item) => self.choice(&[None, Some(*item)], ty, random, to),
            TypeDefKind::Result(result) => self.choice(&[result.ok, result.err], ty, random, to),
            TypeDefKind::Variant(variant) => {
                let cases: Vec<Option<Type>> = variant.cases.iter().map(|case| case.ty).collect();
                self.choice(&cases, ty, random, to);
            }
            other => panic!("a parameter that is {other:?}"),
        }
    }

    /// Address and number of items: handles that are held, or anything.
    fn list(&self, item: &Type, random: &mut Random) -> Vec<String> {
        let count =
            if random.below(150) == 0 { number(random) } else { format!("(i32.const {})", random.below(4)) };
        let at = match self.kind(item) {
            Some(TypeDefKind::Handle(Handle::Borrow(id) | Handle::Own(id))) if random.below(4) == 0 => {
                format!("(i32.const {})", HELD_AT + 16 * self.resource(*id))
            }
            Some(TypeDefKind::Handle(Handle::Borrow(id) | Handle::Own(id))) => {
                let ty = self.resource(*id);
                let count = format!("(call $count (i32.const {ty}))");
                return vec![format!("(i32.const {})", HELD_AT + 16 * ty), count];
            }
            _ => format!("(i32.const {ZEROS_AT})"),
        };
        vec![at, count]
    }

    /// One of several cases, in the flat form that they share.
    fn choice(&self, cases: &[Option<Type>], whole: &Type, random: &mut Random, to: &mut Vec<String>) {
        let n = random.below(cases.len());
        let slots = self.flat(whole);
        let is_wrong = random.below(150) == 0;
        to.push(if is_wrong { number(random) } else { format!("(i32.const {n})") });
        let mut values = Vec::new();
        let mut own = Vec::new();
        if let Some(ty) = &cases[n] {
            self.argument(ty, random, &mut values);
            own = self.flat(ty);
        }
        for (i, slot) in slots.iter().skip(1).enumerate() {
            let value = values.get(i).zip(own.get(i));
            to.push(match (value, slot) {
                (Some((value, own)), slot) if name(own) == name(slot) => value.clone(),
                (Some((value, own)), WasmType::I64 | WasmType::PointerOrI64) if name(own) == "i32" => {
                    format!("(i64.extend_i32_u {value})")
                }
                (_, slot) => format!("({}.const 0)", name(slot)),
            });
        }
    }

    /// Makes a call, and tells what came of it.
    fn heard(&self, import: &Import, call: &str) -> String {
        let Some(ty) = &import.function.result else { return call.to_owned() };
        let mut code = String::new();
        if !import.signature.retptr {
            let result = import.signature.results.first().copied().unwrap_or(WasmType::I32);
            return match (self.kind(ty), name(&result)) {
                (Some(TypeDefKind::Handle(Handle::Own(id))), _) => {
                    let ty = self.resource(*id);
                    format!(
                        "(call $keep (i32.const {ty}) {call}) (call $note (i64.extend_i32_u {}))",
                        held(ty)
                    )
                }
                (_, "i64") => format!("(call $note {call})"),
                (_, "f64") => format!("(call $note (i64.reinterpret_f64 {call}))"),
                (_, "f32") => format!("(call $note (i64.extend_i32_u (i32.reinterpret_f32 {call})))"),
                _ => format!("(call $note (i64.extend_i32_u {call}))"),
            };
        }
        let size = self.sizes.size(ty).size_wasm32();
        assert!(size <= RESULT_MAX, "{}", import.function.name);
        code.push_str(call);
        self.given(ty, &format!("(i32.const {RESULT_AT})"), 0, &mut code);
        let _ = write!(code, "(call $heard (i32.const {}))", size.div_ceil(8).clamp(1, 5));
        code
    }

    /// Keeps the handles in a value that stands at `at`.
    fn given(&self, ty: &Type, at: &str, offset: usize, code: &mut String) {
        let Some(kind) = self.kind(ty) else { return };
        match kind {
            TypeDefKind::Handle(Handle::Own(id)) => {
                let ty = self.resource(*id);
                let _ = write!(code, "(call $keep (i32.const {ty}) (i32.load offset={offset} {at}))");
            }
            TypeDefKind::Tuple(tuple) => {
                for (field, ty) in self.sizes.field_offsets(&tuple.types) {
                    self.given(ty, at, offset + field.size_wasm32(), code);
                }
            }
            TypeDefKind::List(item) => {
                let mut inner = String::new();
                self.given(item, &format!("(i32.load offset={offset} {at})"), 0, &mut inner);
                if !inner.is_empty() {
                    let _ = write!(code, "(if (i32.load offset={} {at}) (then {inner}))", offset + 4);
                }
            }
            TypeDefKind::Option(item) => self.given_if(1, &[None, Some(item)], (at, offset), code),
            TypeDefKind::Result(result) => {
                let cases = [result.ok.as_ref(), result.err.as_ref()];
                self.given_if(0, &cases, (at, offset), code);
                self.given_if(1, &cases, (at, offset), code);
            }
            TypeDefKind::Variant(variant) => {
                let cases: Vec<Option<&Type>> = variant.cases.iter().map(|case| case.ty.as_ref()).collect();
                (0..cases.len()).for_each(|n| self.given_if(n, &cases, (at, offset), code));
            }
            _ => {}
        }
    }

    fn given_if(&self, n: usize, cases: &[Option<&Type>], (at, offset): (&str, usize), code: &mut String) {
        let Some(ty) = cases[n] else { return };
        let payload = self.sizes.payload_offset(wit_parser::Int::U8, cases.iter().copied()).size_wasm32();
        let mut inner = String::new();
        self.given(ty, at, offset + payload, &mut inner);
        if !inner.is_empty() {
            let _ = write!(
                code,
                "(if (i32.eq (i32.load8_u offset={offset} {at}) (i32.const {n})) (then {inner}))"
            );
        }
    }
}

fn held(ty: usize) -> String {
    format!("(i32.load (i32.const {}))", HELD_AT + 16 * ty)
}

/// Whether a handle of type `ty` is held.
fn has(ty: usize) -> String {
    format!("(call $held (i32.const {ty}) (i32.const 0))")
}

/// Every function of a world, by its name in a record.
pub(super) fn names(world: World) -> Vec<String> {
    let name = |import: &Import| {
        let interface = import.interface.split('@').next().unwrap_or_default();
        format!("{interface}#{}", import.function.name)
    };
    imports(world).functions.iter().map(name).collect()
}

fn case(cases: usize, random: &mut Random) -> String {
    if random.below(150) == 0 { number(random) } else { format!("(i32.const {})", random.below(cases)) }
}

fn primitive(ty: &Type, random: &mut Random) -> Vec<String> {
    match ty {
        Type::U64 | Type::S64 => vec![long(random)],
        Type::F32 => vec![format!("(f32.reinterpret_i32 {})", number(random))],
        Type::F64 => vec![format!("(f64.reinterpret_i64 {})", long(random))],
        Type::String => text(random).to_vec(),
        Type::Bool => vec![format!("(i32.const {})", random.below(2))],
        _ => vec![number(random)],
    }
}

fn name(ty: &WasmType) -> &'static str {
    match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    }
}

/// The core module.
pub(super) fn text_of(world: World, plan: &Plan) -> String {
    let imports = imports(world);
    let mut module = String::new();
    for n in plan.imports() {
        let Some(import) = imports.functions.get(n) else {
            let ty = n - imports.functions.len();
            let (interface, name) = &imports.resources[ty];
            let _ = writeln!(
                module,
                "(import \"{interface}\" \"[resource-drop]{name}\" (func $d{ty} (param i32)))"
            );
            continue;
        };
        let types = |word: &str, types: &[WasmType]| -> String {
            types.iter().map(|ty| format!("({word} {})", name(ty))).collect()
        };
        let (params, results) =
            (types("param", &import.signature.params), types("result", &import.signature.results));
        let (interface, name) = (&import.interface, &import.function.name);
        let _ = writeln!(module, "(import \"{interface}\" \"{name}\" (func $i{n} {params} {results}))");
    }
    module.push_str(&prelude(&body(&plan.realloc)));
    let (start, functions) = plan.functions.split_first().expect("a plan has a start");
    if !start.is_empty() {
        let _ = writeln!(module, "(func $start {}) (start $start)", body(start));
    }
    for (n, function) in functions.iter().enumerate() {
        let _ = write!(
            module,
            r#"(func (export "f{n}") (param $n i32) (param $at i32) (param $len i32) (result i32)
  (call $note (i64.extend_i32_u (local.get $n)))
  (call $peek (local.get $at) (local.get $len))
  {}
  (i32.store (i32.const 16) (i32.const {LOG_AT})) (i32.store (i32.const 20) (global.get $log))
  (i32.const 16))
"#,
            body(function)
        );
    }
    super::module(&module)
}

/// The component that a module is wrapped into.
pub(super) fn component(world: World, mut module: Vec<u8>) -> Vec<u8> {
    let imports = imports(world);
    module.extend_from_slice(&imports.metadata);
    let encoder = ComponentEncoder::default().module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).unwrap_or_else(|e| panic!("{e:#}"))
}

//! Guests that are components: they import a world by the types of its WIT, and are told what to call by these. Their
//! functions take a number and bytes, and give bytes: what they were answered.

use std::fmt::Write as _;
use std::sync::OnceLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, FlatTypes, WasmSignature, WasmType};
use wit_parser::{
    Function, FunctionKind, Handle, Int, Param, Resolve, SizeAlign, Type, TypeDefKind, TypeId, TypeOwner,
    WorldId, WorldItem, WorldKey,
};

use super::wasi03::{Builtin, Carrier};
use super::{
    FUNCTIONS, HELD_AT, LOG_AT, Plan, RESULT_AT, RESULT_MAX, Step, TEXTS, World, ZEROS_AT, body, handle,
    long, number, place, prelude, text, text_at, wasi03,
};
use crate::mutate::Random;

/// How many functions are called for the handles of one call, one for another.
pub(super) const CHAIN_MAX: usize = 4;
/// A module with nothing in it.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

/// The functions of a world, and its types of resources, which are dropped by functions of their own.
pub(super) struct Imports {
    pub(super) resolve: Resolve,
    pub(super) functions: Vec<Import>,
    /// Interface and name of each type of resource.
    pub(super) resources: Vec<(String, String)>,
    /// Types of streams and futures, of which there are some in WASI 0.3 only.
    pub(super) carriers: Vec<Carrier>,
    /// What is imported besides for these and for tasks.
    pub(super) builtins: Vec<Builtin>,
    pub(super) sizes: SizeAlign,
    /// The section that says what world a module is for.
    metadata: Vec<u8>,
}

pub(super) struct Import {
    pub(super) interface: String,
    pub(super) function: Function,
    signature: WasmSignature,
}

/// What a world imports.
pub(super) fn imports(world: World) -> &'static Imports {
    static FILES: OnceLock<Imports> = OnceLock::new();
    static NET: OnceLock<Imports> = OnceLock::new();
    static TASKS: OnceLock<Imports> = OnceLock::new();
    match world {
        World::Net => NET.get_or_init(|| Imports::new(crate::host::probes(), FunctionKind::Freestanding)),
        World::Tasks => TASKS.get_or_init(|| {
            wasi03::with_builtins(Imports::new(wasi03::world(), FunctionKind::AsyncFreestanding))
        }),
        _ => FILES.get_or_init(|| Imports::new(crate::host::adapters(), FunctionKind::Freestanding)),
    }
}

impl Imports {
    /// What `world` imports; its exports are of this kind.
    fn new((mut resolve, world): (Resolve, WorldId), kind: FunctionKind) -> Self {
        export(&mut resolve, world, kind);
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
        let (carriers, builtins) = (Vec::new(), Vec::new());
        Self { resolve, functions, resources, carriers, builtins, sizes, metadata }
    }

    /// Number of a resource, wherever a name for it leads.
    pub(super) fn resource(&self, mut id: TypeId) -> usize {
        while let TypeDefKind::Type(Type::Id(other)) = &self.resolve.types[id].kind {
            id = *other;
        }
        let TypeOwner::Interface(owner) = self.resolve.types[id].owner else {
            panic!("a resource of a world")
        };
        let interface = self.resolve.id_of(owner).unwrap_or_default();
        let name = self.resolve.types[id].name.clone().unwrap_or_default();
        let is_it = |known: &(String, String)| known.0 == interface && known.1 == name;
        let position = self.resources.iter().position(is_it);
        position.expect("every resource is listed")
    }

    /// What a type is, whatever it is called; `None` if it is a primitive.
    pub(super) fn kind(&self, ty: &Type) -> Option<&TypeDefKind> {
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

    pub(super) fn flat(&self, ty: &Type) -> Vec<WasmType> {
        let mut storage = [WasmType::I32; 64];
        let mut flat = FlatTypes::new(&mut storage);
        self.resolve.push_flat(ty, &mut flat);
        flat.to_vec()
    }
}

/// Makes the world export `f0`, `f1`, … and nothing else.
fn export(resolve: &mut Resolve, world: WorldId, kind: FunctionKind) {
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
            kind: kind.clone(),
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
pub(super) enum Fixed {
    Bits(u32),
    Long(u64),
    Text(&'static str),
    /// What may be left out, and is not.
    Some(&'static str),
    /// What may be left out, and is.
    None,
    /// The handle that was given last.
    Newest,
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
            Self::None | Self::Newest => vec![constant(0); flat],
        }
    }
}

/// A function to call, and which of its parameters are fixed.
pub(super) type Cooked = (&'static str, &'static [(usize, Fixed)]);

/// Calls of one of `recipes`, in this order.
pub(super) fn recipe(world: World, recipes: &[&[Cooked]], random: &mut Random) -> Step {
    let (imports, names) = (imports(world), names(world));
    let mut step = Step { code: String::new(), imports: Vec::new() };
    for (name, fixed) in recipes[random.below(recipes.len())] {
        match names.iter().position(|known| known == name) {
            Some(n) => imports.call(n, fixed, random, CHAIN_MAX, &mut step),
            None => imports.act(name, random, &mut step),
        }
        step.code.push('\n');
    }
    step
}

/// The end of a handle.
pub(super) fn drop_resource(world: World, random: &mut Random) -> Step {
    let imports = imports(world);
    let ty = random.below(imports.resources.len());
    Step {
        code: format!("(if {} (then (call $d{ty} {})))\n", has(ty), handle(random, "take", ty)),
        imports: vec![imports.functions.len() + ty],
    }
}

/// Number of any function. What needs no handle gives those that others need, so it is called more often.
pub(super) fn any_function(world: World, random: &mut Random) -> usize {
    let imports = imports(world);
    let n = random.below(imports.functions.len());
    if random.below(3) != 0 {
        return n;
    }
    let has_none = |n: &usize| imports.functions[*n].function.params.is_empty();
    let all: Vec<usize> = (0..imports.functions.len()).filter(has_none).collect();
    all[random.below(all.len())]
}

impl Imports {
    /// Adds a call of function `n` to a step; before it, calls that give the handles that it takes and that nobody
    /// gave yet, as far as `chain` goes.
    pub(super) fn call(
        &self,
        n: usize,
        fixed: &[(usize, Fixed)],
        random: &mut Random,
        chain: usize,
        step: &mut Step,
    ) {
        let import = &self.functions[n];
        self.prepare(n, random, chain, step);
        let mut args = self.arguments(n, fixed, random, &mut step.imports);
        if import.signature.retptr {
            args.push(match random.below(200) {
                0 => place(random),
                _ => format!("(i32.const {RESULT_AT})"),
            });
        }
        let heard = self.heard(import, &format!("(call $i{n} {})", args.join(" ")));
        step.code.push_str(&self.guarded(n, heard));
        step.imports.push(n);
    }

    /// Adds calls that give the handles that function `n` takes, where there are none.
    pub(super) fn prepare(&self, n: usize, random: &mut Random, chain: usize, step: &mut Step) {
        for ty in self.taken(n) {
            self.provide(ty, random, chain, step);
        }
    }

    /// Adds a call that gives something of type `ty`, if there is nothing.
    pub(super) fn provide(&self, ty: usize, random: &mut Random, chain: usize, step: &mut Step) {
        let giving: Vec<usize> = (0..self.functions.len()).filter(|n| self.gives(*n).contains(&ty)).collect();
        if chain > 0 && !giving.is_empty() {
            let _ = write!(step.code, "(if (i32.eqz {}) (then ", has(ty));
            self.call(giving[random.below(giving.len())], &[], random, chain - 1, step);
            step.code.push_str("))");
        }
    }

    /// Operands for the parameters of function `n`.
    pub(super) fn arguments(
        &self,
        n: usize,
        fixed: &[(usize, Fixed)],
        random: &mut Random,
        used: &mut Vec<usize>,
    ) -> Vec<String> {
        let mut args = Vec::new();
        for (i, param) in self.functions[n].function.params.iter().enumerate() {
            match fixed.iter().find(|(at, _)| *at == i) {
                Some((_, Fixed::Newest)) => args.push(self.newest(&param.ty)),
                Some((_, value)) => args.extend(value.operands(self.flat(&param.ty).len())),
                None => self.argument(&param.ty, random, &mut args, used),
            }
        }
        args
    }

    fn newest(&self, ty: &Type) -> String {
        let (verb, ty) = match self.kind(ty) {
            Some(TypeDefKind::Handle(Handle::Own(id))) => ("take", self.resource(*id)),
            Some(TypeDefKind::Handle(Handle::Borrow(id))) => ("held", self.resource(*id)),
            _ => ("take", self.readable(ty)),
        };
        format!("(call ${verb} (i32.const {ty}) (i32.const 0))")
    }

    /// Code that calls function `n`, only if there are the handles that it takes: without them it would end the guest.
    pub(super) fn guarded(&self, n: usize, code: String) -> String {
        self.taken(n).into_iter().map(has).fold(code, |code, has| format!("(if {has} (then {code}))"))
    }

    /// The types of handles that function `n` takes.
    fn taken(&self, n: usize) -> Vec<usize> {
        let params = &self.functions[n].function.params;
        params.iter().filter_map(|param| self.handle_of(&param.ty)).collect()
    }

    /// The types of resources that are in the result of function `n`.
    pub(super) fn gives(&self, n: usize) -> Vec<usize> {
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
            Some(TypeDefKind::Stream(_) | TypeDefKind::Future(_)) => given.push(self.readable(ty)),
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
    fn argument(&self, ty: &Type, random: &mut Random, to: &mut Vec<String>, used: &mut Vec<usize>) {
        let ty = &self.primitive(ty);
        let Some(kind) = self.kind(ty) else { return to.extend(primitive(ty, random)) };
        match kind {
            TypeDefKind::Handle(Handle::Own(id)) => to.push(handle(random, "take", self.resource(*id))),
            TypeDefKind::Handle(Handle::Borrow(id)) => to.push(handle(random, "held", self.resource(*id))),
            TypeDefKind::Record(record) => {
                record.fields.iter().for_each(|field| self.argument(&field.ty, random, to, used));
            }
            TypeDefKind::Tuple(tuple) => {
                tuple.types.iter().for_each(|ty| self.argument(ty, random, to, used))
            }
            TypeDefKind::List(item) => {
                let is_bytes = matches!(self.primitive(item), Type::U8);
                to.extend(if is_bytes { text(random).to_vec() } else { self.list(item, random) });
            }
            TypeDefKind::Flags(flags) => to.push(bits(flags.flags.len(), random)),
            TypeDefKind::Enum(cases) => to.push(case(cases.cases.len(), random)),
            TypeDefKind::Stream(_) | TypeDefKind::Future(_) => to.push(self.carried(ty, random, used)),
            kind => self.choice(&cases_of(kind), ty, random, to, used),
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

    /// The number of one of several cases, and which of them that is.
    fn chosen(&self, cases: &[Option<Type>], random: &mut Random) -> (usize, String) {
        // A handle that may be left out is, if there is none.
        if let [None, Some(item)] = cases
            && let Some(TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id))) = self.kind(item)
        {
            return match random.below(4) {
                0 => (0, "(i32.const 0)".to_owned()),
                _ => (1, format!("(i32.ne {} (i32.const 0))", has(self.resource(*id)))),
            };
        }
        let n = random.below(cases.len());
        (n, if random.below(150) == 0 { number(random) } else { format!("(i32.const {n})") })
    }

    /// One of several cases, in the flat form that they share.
    fn choice(
        &self,
        cases: &[Option<Type>],
        whole: &Type,
        random: &mut Random,
        to: &mut Vec<String>,
        used: &mut Vec<usize>,
    ) {
        let (n, number) = self.chosen(cases, random);
        let slots = self.flat(whole);
        to.push(number);
        let mut values = Vec::new();
        let mut own = Vec::new();
        if let Some(ty) = &cases[n] {
            self.argument(ty, random, &mut values, used);
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

    /// Stores a value at `at`.
    pub(super) fn store(
        &self,
        ty: &Type,
        at: usize,
        random: &mut Random,
        code: &mut String,
        used: &mut Vec<usize>,
    ) {
        let ty = &self.primitive(ty);
        let fields = match self.kind(ty) {
            Some(TypeDefKind::Record(record)) => record.fields.iter().map(|field| field.ty).collect(),
            Some(TypeDefKind::Tuple(tuple)) => tuple.types.clone(),
            Some(kind @ (TypeDefKind::Option(_) | TypeDefKind::Result(_) | TypeDefKind::Variant(_))) => {
                return self.store_case(&cases_of(kind), at, random, code, used);
            }
            _ => return self.store_flat(ty, at, random, code, used),
        };
        for (offset, ty) in self.sizes.field_offsets(&fields) {
            self.store(ty, at + offset.size_wasm32(), random, code, used);
        }
    }

    fn store_case(
        &self,
        cases: &[Option<Type>],
        at: usize,
        random: &mut Random,
        code: &mut String,
        used: &mut Vec<usize>,
    ) {
        let (n, number) = self.chosen(cases, random);
        let _ = write!(code, "(i32.store8 (i32.const {at}) {number})");
        if let Some(ty) = &cases[n] {
            let offset = self.sizes.payload_offset(Int::U8, cases.iter().map(Option::as_ref));
            self.store(ty, at + offset.size_wasm32(), random, code, used);
        }
    }

    /// Stores what stands in memory as it is passed: a number, a handle, address and length.
    fn store_flat(
        &self,
        ty: &Type,
        at: usize,
        random: &mut Random,
        code: &mut String,
        used: &mut Vec<usize>,
    ) {
        let mut values = Vec::new();
        self.argument(ty, random, &mut values, used);
        let flat = self.flat(ty);
        let narrow = match self.sizes.size(ty).size_wasm32() {
            1 => "8",
            2 => "16",
            _ => "",
        };
        for (i, (value, flat)) in values.iter().zip(&flat).enumerate() {
            let _ = write!(code, "({}.store{narrow} (i32.const {}) {value})", name(flat), at + 4 * i);
        }
    }

    /// Makes a call, and tells what came of it.
    pub(super) fn heard(&self, import: &Import, call: &str) -> String {
        let Some(ty) = &import.function.result else { return call.to_owned() };
        if !import.signature.retptr {
            let result = import.signature.results.first().copied().unwrap_or(WasmType::I32);
            let kept = |ty: usize| {
                let held = held(ty);
                format!("(call $keep (i32.const {ty}) {call}) (call $note (i64.extend_i32_u {held}))")
            };
            return match (self.kind(ty), name(&result)) {
                (Some(TypeDefKind::Handle(Handle::Own(id))), _) => kept(self.resource(*id)),
                (Some(TypeDefKind::Stream(_) | TypeDefKind::Future(_)), _) => kept(self.readable(ty)),
                (_, "i64") => format!("(call $note {call})"),
                (_, "f64") => format!("(call $note (i64.reinterpret_f64 {call}))"),
                (_, "f32") => format!("(call $note (i64.extend_i32_u (i32.reinterpret_f32 {call})))"),
                _ => format!("(call $note (i64.extend_i32_u {call}))"),
            };
        }
        format!("{call}{}", self.heard_there(ty))
    }

    /// Tells of a result that stands in its place.
    pub(super) fn heard_there(&self, ty: &Type) -> String {
        let size = self.sizes.size(ty).size_wasm32();
        assert!(size <= RESULT_MAX, "{ty:?}");
        let mut code = String::new();
        self.given(ty, &format!("(i32.const {RESULT_AT})"), 0, &mut code);
        let _ = write!(code, "(call $heard (i32.const {}))", size.div_ceil(8).clamp(1, 5));
        code
    }

    /// Keeps the handles in a value that stands at `at`.
    pub(super) fn given(&self, ty: &Type, at: &str, offset: usize, code: &mut String) {
        let Some(kind) = self.kind(ty) else { return };
        match kind {
            TypeDefKind::Handle(Handle::Own(id)) => {
                let ty = self.resource(*id);
                let _ = write!(code, "(call $keep (i32.const {ty}) (i32.load offset={offset} {at}))");
            }
            TypeDefKind::Stream(_) | TypeDefKind::Future(_) => {
                let ty = self.readable(ty);
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
pub(super) fn has(ty: usize) -> String {
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

/// What the cases of a type carry.
fn cases_of(kind: &TypeDefKind) -> Vec<Option<Type>> {
    match kind {
        TypeDefKind::Option(item) => vec![None, Some(*item)],
        TypeDefKind::Result(result) => vec![result.ok, result.err],
        TypeDefKind::Variant(variant) => variant.cases.iter().map(|case| case.ty).collect(),
        other => panic!("a parameter that is {other:?}"),
    }
}

fn bits(flags: usize, random: &mut Random) -> String {
    let bits = random.next_u64() & ((1 << flags.min(31)) - 1);
    if random.below(100) == 0 { number(random) } else { format!("(i32.const {bits})") }
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

pub(super) fn name(ty: &WasmType) -> &'static str {
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
    let mut used = plan.imports();
    used.extend(imports.always(plan));
    used.sort_unstable();
    used.dedup();
    used.into_iter().for_each(|n| module.push_str(&imports.import(n)));
    module.push_str(&prelude(&body(&plan.realloc)));
    let (start, functions) = plan.functions.split_first().expect("a plan has a start");
    if !start.is_empty() {
        let _ = writeln!(module, "(func $start {}) (start $start)", body(start));
    }
    match world {
        World::Tasks => module.push_str(&imports.tasks(functions)),
        _ => functions.iter().enumerate().for_each(|(n, steps)| module.push_str(&exported(n, &body(steps)))),
    }
    super::module(&module)
}

/// Function `n`, which does `code`.
pub(super) fn exported(n: usize, code: &str) -> String {
    format!(
        r#"(func (export "f{n}") (param $n i32) (param $at i32) (param $len i32) (result i32)
  (call $note (i64.extend_i32_u (local.get $n)))
  (call $peek (local.get $at) (local.get $len))
  {code}
  (i32.store (i32.const 16) (i32.const {LOG_AT})) (i32.store (i32.const 20) (global.get $log))
  (i32.const 16))
"#
    )
}

impl Imports {
    /// The line that imports number `n`: functions of the world come first, then the ends of its resources, then
    /// what streams, futures and tasks need.
    fn import(&self, n: usize) -> String {
        let Some(import) = self.functions.get(n) else {
            let n = n - self.functions.len();
            let Some((interface, name)) = self.resources.get(n) else {
                return self.builtins[n - self.resources.len()].import();
            };
            return format!("(import \"{interface}\" \"[resource-drop]{name}\" (func $d{n} (param i32)))\n");
        };
        let ty = core_type(&import.signature);
        format!("(import \"{}\" \"{}\" (func $i{n} {ty}))\n", import.interface, import.function.name)
    }
}

/// Parameters and results of a core function.
pub(super) fn core_type(signature: &WasmSignature) -> String {
    let types = |word: &str, types: &[WasmType]| -> String {
        types.iter().map(|ty| format!("({word} {})", name(ty))).collect()
    };
    types("param", &signature.params) + &types("result", &signature.results)
}

/// The component that a module is wrapped into.
pub(super) fn component(world: World, mut module: Vec<u8>) -> Vec<u8> {
    let imports = imports(world);
    module.extend_from_slice(&imports.metadata);
    let encoder = ComponentEncoder::default().module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).unwrap_or_else(|e| panic!("{e:#}"))
}

//! A command that makes the calls of a run of typed calls, compares what comes of them with the record, and prints
//! what the run printed.
//!
//! Arguments are constants; results are compared in memory by functions that are generated for their types.

use vac_core::canon::Reader;
use vac_core::fault::{Corrupt, Result, quote};
use wasm_encoder::{BlockType, Function, Ieee32, Ieee64, InstructionSink, ValType};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Int, Type, TypeDefKind, World, WorldItem, WorldKey};

use super::image::Image;
use super::lower::{Lowering, Written};
use super::player::{Called, Own, Parts, Row, Then, flat_len, mem, val_type};
use super::world::{Needs, refused};

/// The core name of functions that are of no interface.
const ROOT: &str = "$root";

/// Calls that are to be made.
pub(super) struct Driver {
    needs: Needs,
    image: Image,
    calls: Vec<Planned>,
    place: String,
}

/// One call.
struct Planned {
    called: Called,
    /// Core arguments.
    args: Vec<u64>,
    result: Option<Expected>,
    /// Whether it ended the run.
    is_last: bool,
    /// What is said if another result comes.
    differs: (u32, u32),
}

/// What must come of a call.
struct Expected {
    ty: Type,
    /// Where the recorded result is; none if the call ended the run.
    recorded: Option<u32>,
    /// Where the result goes.
    room: u32,
    /// Whether the function puts it there itself.
    by_pointer: bool,
}

impl Driver {
    pub(super) fn new(component: &[u8], place: &str) -> Result<Self> {
        let needs = Needs::of_caller(component, place)?;
        Ok(Self { needs, image: Image::default(), calls: Vec::new(), place: place.to_owned() })
    }

    /// Adds a call of `export` with the canonical forms of its arguments and results; one without results ended
    /// the run.
    pub(super) fn call(
        &mut self,
        (export, inner): (&str, &str),
        args: &[u8],
        results: Option<&[u8]>,
    ) -> Result<()> {
        let (interface, function) = self.find(export, inner)?;
        let all = function.params.iter().map(|param| &param.ty).chain(&function.result);
        if all.clone().any(|ty| has_handle(&self.needs, ty)) {
            return Err(refused(&self.place, &format!("its call of `{}` has handles", quote(export))));
        }
        let signature = self.needs.resolve.wasm_signature(AbiVariant::GuestImport, &function);
        let result = match function.result {
            Some(ty) => Some(self.expected(ty, results, export, &signature)?),
            None => None,
        };
        let mut core = self.core_args(&function, args, export, &signature)?;
        if let Some(Expected { by_pointer: true, room, .. }) = result {
            core.push(u64::from(room));
        }
        let differs = self.words(export, results.is_some())?;
        let types = |types: &[WasmType]| types.iter().map(|ty| val_type(*ty)).collect();
        let called = Called {
            interface,
            name: function.name,
            params: types(&signature.params),
            results: types(&signature.results),
        };
        self.calls.push(Planned { called, args: core, result, is_last: results.is_none(), differs });
        Ok(())
    }

    /// What is said if a call does not do as the record has it.
    fn words(&mut self, export: &str, has_result: bool) -> Result<(u32, u32)> {
        let what = match has_result {
            true => "gave another result than recorded",
            false => "did not end where its record does",
        };
        let number = self.calls.len() + 1;
        let said = format!("error: call {number} of the run, `{}`, {what}\n", quote(export));
        Ok((self.image.keep(said.as_bytes())?, said.len() as u32))
    }

    /// Arguments as core values: themselves, or the address of all.
    fn core_args(
        &mut self,
        function: &wit_parser::Function,
        args: &[u8],
        export: &str,
        signature: &WasmSignature,
    ) -> Result<Vec<u64>> {
        let types: Vec<Type> = function.params.iter().map(|param| param.ty).collect();
        let at = self.lower(&types, args, export)?;
        Ok(match signature.indirect_params {
            true => vec![u64::from(at)],
            false => self.flattened(&types, at),
        })
    }

    /// The module, which prints `printed` after all calls.
    pub(super) fn module(mut self, printed: &[u8]) -> Result<(Vec<u8>, Needs)> {
        let printed = (self.image.keep(printed)?, printed.len() as u32);
        let mut called: Vec<Called> = Vec::new();
        for call in &self.calls {
            if !called.contains(&call.called) {
                called.push(call.called.clone());
            }
        }
        let end = Row { function: 0, ..Row::default() };
        let mut parts = Parts::start(&self.needs, self.image, &[end], &called)?;
        let mut types = Vec::new();
        for call in &self.calls {
            if let Some(Expected { ty, recorded: Some(_), .. }) = &call.result {
                list_types(&self.needs, ty, &mut types);
            }
        }
        let equal = Equal { needs: &self.needs, types: &types, first: parts.next };
        for ty in &types {
            let body = equal.body(ty, parts.writer.own_index(Own::Same));
            parts.add(None, &[ValType::I32; 2], &[ValType::I32], &body);
        }
        let mut body = Function::new([]);
        let mut code = body.instructions();
        for call in &self.calls {
            let number = called.iter().position(|called| *called == call.called).unwrap_or_default();
            call.make(&mut code, parts.first_called + number as u32, &equal, &parts);
        }
        code.i32_const(Then::Stdout.code())
            .i32_const(printed.0.cast_signed())
            .i32_const(printed.1.cast_signed());
        code.call(parts.writer.own_index(Own::Print)).i32_const(0).end();
        let run = format!("wasi:cli/run@{}#run", self.needs.version);
        parts.add(Some(&run), &[], &[ValType::I32], &body);
        let module = parts.finish().finish();
        Ok((module, self.needs))
    }

    /// The function that an export is, with the core name of its interface.
    fn find(&self, export: &str, inner: &str) -> Result<(String, wit_parser::Function)> {
        let found =
            self.needs.resolve.worlds.get(self.needs.world).and_then(|world| self.find_in(world, inner));
        found.ok_or_else(|| refused(&self.place, &format!("`{}` is no export of a component", quote(export))))
    }

    fn find_in(&self, world: &World, export: &str) -> Option<(String, wit_parser::Function)> {
        world.imports.iter().find_map(|(key, item)| match (key, item) {
            (WorldKey::Name(name), WorldItem::Function(function)) if name == export => {
                Some((ROOT.to_owned(), function.clone()))
            }
            (_, WorldItem::Interface { id, .. }) => {
                let interface = self.needs.resolve.name_world_key(key);
                let function = export.strip_prefix(&interface)?.strip_prefix('#')?;
                let function = self.needs.resolve.interfaces.get(*id)?.functions.get(function)?;
                Some((interface, function.clone()))
            }
            _ => None,
        })
    }

    /// Puts values that stand in an array, and gives the address of the first.
    fn lower(&mut self, types: &[Type], form: &[u8], export: &str) -> Result<u32> {
        let layout = self.needs.sizes.params(types);
        let at = self.image.room(layout.size.size_wasm32(), layout.align.align_wasm32())?;
        let mut patches = Vec::new();
        let (needs, image, patches) = (&self.needs, &mut self.image, &mut patches);
        let mut reader = Reader::new(form, export);
        let mut lowering = Lowering { needs, image, written: Written::ByNames, patches };
        lowering.fields(&mut reader, types.iter(), at)?;
        reader.finish()?;
        Ok(at)
    }

    fn expected(
        &mut self,
        ty: Type,
        results: Option<&[u8]>,
        export: &str,
        signature: &WasmSignature,
    ) -> Result<Expected> {
        let recorded = match results {
            Some(form) => Some(self.lower(&[ty], form, export)?),
            None => None,
        };
        let (size, align) = (self.needs.sizes.size(&ty), self.needs.sizes.align(&ty));
        let room = self.image.room(size.size_wasm32().max(8), align.align_wasm32().max(8))?;
        Ok(Expected { ty, recorded, room, by_pointer: signature.retptr })
    }

    /// Core values of a record in memory.
    fn flattened(&self, types: &[Type], at: u32) -> Vec<u64> {
        let mut flat = Vec::new();
        for (offset, ty) in self.needs.sizes.field_offsets(types) {
            self.flatten(ty, at.saturating_add(offset.size_wasm32() as u32), &mut flat);
        }
        flat
    }

    fn flatten(&self, ty: &Type, at: u32, flat: &mut Vec<u64>) {
        let size = self.needs.sizes.size(ty).size_wasm32();
        match parts_of(&self.needs, ty) {
            Kind::Raw | Kind::Float => flat.push(sign_extended(ty, self.image.number(at, size))),
            Kind::List(_) => {
                flat.push(self.image.number(at, 4));
                flat.push(self.image.number(at.saturating_add(4), 4));
            }
            Kind::Fields(types) => flat.extend(self.flattened(&types, at)),
            Kind::Cases { tag, payload, cases } => {
                let end = flat.len() + flat_len(&self.needs, ty) as usize;
                let case = self.image.number(at, tag);
                flat.push(case);
                if let Some(Some(ty)) = cases.get(case as usize) {
                    self.flatten(ty, at.saturating_add(payload), flat);
                }
                flat.resize(end, 0);
            }
        }
    }
}

/// Small signed numbers are whole in a core value.
fn sign_extended(ty: &Type, number: u64) -> u64 {
    match ty {
        Type::S8 => u64::from(i32::from((number as u8).cast_signed()).cast_unsigned()),
        Type::S16 => u64::from(i32::from((number as u16).cast_signed()).cast_unsigned()),
        _ => number,
    }
}

impl Planned {
    fn make(&self, code: &mut InstructionSink<'_>, number: u32, equal: &Equal<'_>, parts: &Parts<'_>) {
        let direct = self.result.as_ref().filter(|expected| !expected.by_pointer);
        if let Some(expected) = direct {
            code.i32_const(expected.room.cast_signed());
        }
        for (value, ty) in self.args.iter().zip(&self.called.params) {
            match ty {
                ValType::I64 => code.i64_const(value.cast_signed()),
                ValType::F32 => code.f32_const(Ieee32::new(*value as u32)),
                ValType::F64 => code.f64_const(Ieee64::new(*value)),
                _ => code.i32_const((*value as u32).cast_signed()),
            };
        }
        code.call(number);
        if direct.is_some() {
            match self.called.results.first() {
                Some(ValType::I64) => code.i64_store(mem(0, 3)),
                Some(ValType::F32) => code.f32_store(mem(0, 2)),
                Some(ValType::F64) => code.f64_store(mem(0, 3)),
                _ => code.i32_store(mem(0, 2)),
            };
        }
        if let Some(Expected { ty, recorded: Some(recorded), room, .. }) = &self.result {
            code.i32_const(room.cast_signed()).i32_const(recorded.cast_signed()).call(equal.number(ty));
            code.i32_eqz().if_(BlockType::Empty);
            parts.writer.print_words(code, self.differs);
            code.unreachable().end();
        }
        if self.is_last {
            parts.writer.print_words(code, self.differs);
            code.unreachable();
        }
    }
}

/// What a value is made of.
enum Kind {
    /// Bytes without addresses, which are equal or not.
    Raw,
    /// Bytes of a float: any NaN is like any other.
    Float,
    /// An address and a number of these.
    List(Type),
    Fields(Vec<Type>),
    /// A tag of so many bytes, and a payload at this offset.
    Cases {
        tag: usize,
        payload: u32,
        cases: Vec<Option<Type>>,
    },
}

fn parts_of(needs: &Needs, ty: &Type) -> Kind {
    let id = match ty {
        Type::F32 | Type::F64 => return Kind::Float,
        Type::String => return Kind::List(Type::U8),
        Type::Id(id) => needs.origin(*id),
        _ => return Kind::Raw,
    };
    let cases = |tag: Int, cases: Vec<Option<Type>>| {
        let payload = needs.sizes.payload_offset(tag, cases.iter().map(Option::as_ref)).size_wasm32() as u32;
        let tag = match tag {
            Int::U8 => 1,
            Int::U16 => 2,
            Int::U32 | Int::U64 => 4,
        };
        Kind::Cases { tag, payload, cases }
    };
    match needs.resolve.types.get(id).map(|ty| &ty.kind) {
        Some(TypeDefKind::Type(ty)) => parts_of(needs, ty),
        Some(TypeDefKind::Record(record)) => Kind::Fields(record.fields.iter().map(|f| f.ty).collect()),
        Some(TypeDefKind::Tuple(tuple)) => Kind::Fields(tuple.types.clone()),
        Some(TypeDefKind::List(item)) => Kind::List(*item),
        Some(TypeDefKind::Option(ty)) => cases(Int::U8, vec![None, Some(*ty)]),
        Some(TypeDefKind::Result(result)) => cases(Int::U8, vec![result.ok, result.err]),
        Some(TypeDefKind::Variant(variant)) => {
            cases(variant.tag(), variant.cases.iter().map(|case| case.ty).collect())
        }
        _ => Kind::Raw,
    }
}

/// Whether values of a type have handles, streams or futures in them, or are of a type that no record has.
fn has_handle(needs: &Needs, ty: &Type) -> bool {
    match parts_of(needs, ty) {
        Kind::List(item) => has_handle(needs, &item),
        Kind::Fields(types) => types.iter().any(|ty| has_handle(needs, ty)),
        Kind::Cases { cases, .. } => cases.iter().flatten().any(|ty| has_handle(needs, ty)),
        Kind::Float => false,
        Kind::Raw => match ty {
            Type::Id(id) => !matches!(
                needs.resolve.types.get(needs.origin(*id)).map(|ty| &ty.kind),
                Some(TypeDefKind::Enum(_) | TypeDefKind::Flags(_) | TypeDefKind::Type(_))
            ),
            other => matches!(other, Type::ErrorContext),
        },
    }
}

/// Adds a type to a list in which each comes after those that it is made of.
fn list_types(needs: &Needs, ty: &Type, types: &mut Vec<Type>) {
    if types.contains(ty) {
        return;
    }
    match parts_of(needs, ty) {
        Kind::Raw | Kind::Float => {}
        Kind::List(item) => list_types(needs, &item, types),
        Kind::Fields(parts) => parts.iter().for_each(|part| list_types(needs, part, types)),
        Kind::Cases { cases, .. } => cases.iter().flatten().for_each(|part| list_types(needs, part, types)),
    }
    types.push(*ty);
}

/// Functions `(a, b) -> 1` if the values at two addresses are equal, one for each type.
struct Equal<'a> {
    needs: &'a Needs,
    types: &'a [Type],
    first: u32,
}

impl Equal<'_> {
    fn number(&self, ty: &Type) -> u32 {
        let at = self.types.iter().position(|known| known == ty).unwrap_or_default();
        self.first + at as u32
    }

    fn body(&self, ty: &Type, same: u32) -> Function {
        let mut function = Function::new([(3, ValType::I32)]);
        let mut code = function.instructions();
        let size = self.needs.sizes.size(ty).size_wasm32() as i32;
        match parts_of(self.needs, ty) {
            Kind::Raw => {
                code.local_get(0).local_get(1).i32_const(size).call(same).return_();
            }
            Kind::Float => {
                code.local_get(0).local_get(1).i32_const(size).call(same);
                both_nan(&mut code, ty);
                code.i32_or().return_();
            }
            Kind::List(item) => self.list(&mut code, &item),
            Kind::Fields(types) => {
                for (offset, ty) in self.needs.sizes.field_offsets(&types) {
                    self.part(&mut code, ty, offset.size_wasm32() as i32);
                }
            }
            Kind::Cases { tag, payload, cases } => self.cases(&mut code, tag, payload, &cases, same),
        }
        code.i32_const(1).end();
        function
    }

    /// The same case, and in it the same payload.
    fn cases(
        &self,
        code: &mut InstructionSink<'_>,
        tag: usize,
        payload: u32,
        cases: &[Option<Type>],
        same: u32,
    ) {
        code.local_get(0).local_get(1).i32_const(tag as i32).call(same).i32_eqz();
        code.if_(BlockType::Empty).i32_const(0).return_().end();
        for (ty, case) in cases.iter().zip(0_i32..) {
            let Some(ty) = ty else { continue };
            code.local_get(0);
            match tag {
                1 => code.i32_load8_u(mem(0, 0)),
                2 => code.i32_load16_u(mem(0, 0)),
                _ => code.i32_load(mem(0, 0)),
            };
            code.i32_const(case).i32_eq().if_(BlockType::Empty);
            self.part(code, ty, payload.cast_signed());
            code.end();
        }
    }

    /// Gives back 0 if a part differs.
    fn part(&self, code: &mut InstructionSink<'_>, ty: &Type, offset: i32) {
        code.local_get(0).i32_const(offset).i32_add().local_get(1).i32_const(offset).i32_add();
        code.call(self.number(ty)).i32_eqz().if_(BlockType::Empty).i32_const(0).return_().end();
    }

    /// The same number of items, each equal to its other.
    fn list(&self, code: &mut InstructionSink<'_>, item: &Type) {
        let (left, a, b) = (2, 3, 4);
        let size = self.needs.sizes.size(item).size_wasm32() as i32;
        code.local_get(0).i32_load(mem(4, 0)).local_tee(left).local_get(1).i32_load(mem(4, 0)).i32_ne();
        code.if_(BlockType::Empty).i32_const(0).return_().end();
        code.local_get(0).i32_load(mem(0, 0)).local_set(a).local_get(1).i32_load(mem(0, 0)).local_set(b);
        code.block(BlockType::Empty).loop_(BlockType::Empty).local_get(left).i32_eqz().br_if(1);
        code.local_get(a).local_get(b).call(self.number(item)).i32_eqz();
        code.if_(BlockType::Empty).i32_const(0).return_().end();
        code.local_get(a).i32_const(size).i32_add().local_set(a);
        code.local_get(b).i32_const(size).i32_add().local_set(b);
        code.local_get(left).i32_const(1).i32_sub().local_set(left).br(0).end().end();
    }
}

/// 1 if both floats are none.
fn both_nan(code: &mut InstructionSink<'_>, ty: &Type) {
    for side in [0, 1] {
        match ty {
            Type::F32 => {
                code.local_get(side).f32_load(mem(0, 0)).local_get(side).f32_load(mem(0, 0)).f32_ne()
            }
            _ => code.local_get(side).f64_load(mem(0, 0)).local_get(side).f64_load(mem(0, 0)).f64_ne(),
        };
    }
    code.i32_and();
}

/// The arguments of a request, `[program, export, arguments, environment]`.
pub(super) fn args_of(request: &[u8]) -> Result<&[u8], Corrupt> {
    let mut reader = Reader::new(request, "the request of a call");
    reader.array_of(4)?;
    reader.skip()?;
    reader.skip()?;
    let start = reader.at();
    reader.skip()?;
    Ok(request.get(start..reader.at()).unwrap_or_default())
}

/// The results of a response, `[ticks, results]`.
pub(super) fn results_of(response: &[u8]) -> Result<&[u8], Corrupt> {
    let mut reader = Reader::new(response, "the response of a call");
    reader.array_of(2)?;
    reader.uint()?;
    Ok(response.get(reader.at()..).unwrap_or_default())
}

//! Values between Starlark and the component model, by type.
//!
//! | component model | Starlark |
//! |---|---|
//! | bool, integers, floats, char, string | bool, int, float, string of one character, string |
//! | list<u8>, list, tuple | bytes, list, tuple |
//! | record | struct (or dict), fields with `_` for `-` |
//! | option | None or the value |
//! | result | the value; an error ends the script |
//! | enum, flags | string, list of strings |
//! | own, borrow of a resource | a handle that a kernel gave |
//! | variant | `(case,)` or `(case, value)` |

use starlark::values::bytes::StarlarkBytes;
use starlark::values::dict::DictRef;
use starlark::values::float::StarlarkFloat;
use starlark::values::none::NoneType;
use starlark::values::structs::AllocStruct;
use starlark::values::tuple::AllocTuple;
use starlark::values::{Heap, UnpackValue, Value, ValueLike};
use vac_core::fault::{Error, Fault, Result, Usage, quote};
use vac_host::inspect::Export;
use vac_host::value::{show, show_type};
use vac_host::{Type, Val};

use super::handles::ResourceHandle;

/// Text or bytes.
pub(super) fn data(value: Value<'_>) -> starlark::Result<Vec<u8>> {
    match (value.unpack_str(), value.downcast_ref::<StarlarkBytes>()) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(bytes)) => Ok(bytes.as_bytes().to_vec()),
        (None, None) => {
            let message = format!("expected text or bytes, got `{}`", value.get_type());
            Err(starlark::Error::new_other(std::io::Error::other(message)))
        }
    }
}

/// Gives the value behind a handle that a script has.
pub(super) type Handles<'h> = dyn Fn(&ResourceHandle) -> Result<Val> + 'h;

/// Gives a script's handle for a resource.
pub(super) type Given<'h> = dyn Fn(&Val) -> Option<ResourceHandle> + 'h;

/// The arguments of `export` from what a script gave.
pub(super) fn to_vals(export: &Export, given: &[Value<'_>], handles: &Handles<'_>) -> Result<Vec<Val>> {
    if given.len() != export.params.len() {
        let message =
            format!("`{}` takes {} arguments, got {}", export.signature(), export.params.len(), given.len());
        return Err(Usage::new(message).into());
    }
    let pairs = export.params.iter().zip(given);
    pairs.map(|((name, ty), value)| to_val(ty, *value, handles).map_err(|e| at(name, e))).collect()
}

/// Says in which argument or field an error is.
fn at(name: &str, error: Error) -> Error {
    match error {
        Error::Usage(usage) => {
            Usage { message: format!("`{name}`: {}", usage.message), hint: usage.hint }.into()
        }
        other => other,
    }
}

fn wrong(ty: &Type, value: Value<'_>) -> Error {
    let shown = quote(&value.to_str());
    Usage::new(format!("expected {}, got {} `{shown}`", show_type(ty), value.get_type())).into()
}

fn int<T: for<'v> UnpackValue<'v>>(ty: &Type, value: Value<'_>) -> Result<T> {
    T::unpack_value(value).ok().flatten().ok_or_else(|| wrong(ty, value))
}

/// An integer of at most 32 bits.
fn small<T: TryFrom<i64>>(ty: &Type, value: Value<'_>) -> Result<T> {
    T::try_from(int::<i64>(ty, value)?).map_err(|_| wrong(ty, value))
}

fn to_val(ty: &Type, value: Value<'_>, handles: &Handles<'_>) -> Result<Val> {
    let text = || value.unpack_str().ok_or_else(|| wrong(ty, value));
    Ok(match ty {
        Type::Bool => Val::Bool(value.unpack_bool().ok_or_else(|| wrong(ty, value))?),
        Type::S8 => Val::S8(small(ty, value)?),
        Type::U8 => Val::U8(small(ty, value)?),
        Type::S16 => Val::S16(small(ty, value)?),
        Type::U16 => Val::U16(small(ty, value)?),
        Type::S32 => Val::S32(small(ty, value)?),
        Type::U32 => Val::U32(small(ty, value)?),
        Type::S64 => Val::S64(int(ty, value)?),
        Type::U64 => Val::U64(int(ty, value)?),
        Type::Float32 => Val::Float32(float(ty, value)? as f32),
        Type::Float64 => Val::Float64(float(ty, value)?),
        Type::Char => {
            let mut chars = text()?.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Val::Char(c),
                _ => return Err(wrong(ty, value)),
            }
        }
        Type::String => Val::String(text()?.into()),
        Type::List(list) => Val::List(list_items(&list.ty(), ty, value, handles)?),
        Type::Tuple(tuple) => {
            Val::Tuple(tuple_items(&tuple.types().collect::<Vec<_>>(), ty, value, handles)?)
        }
        Type::Record(record) => {
            let fields = record.fields().map(|field| {
                let inner = field_of(value, field.name).ok_or_else(|| {
                    Error::from(Usage::new(format!(
                        "the field `{}` is missing in `{}`",
                        field.name,
                        quote(&value.to_str())
                    )))
                })?;
                Ok((field.name.to_owned(), to_val(&field.ty, inner, handles).map_err(|e| at(field.name, e))?))
            });
            Val::Record(fields.collect::<Result<_>>()?)
        }
        Type::Option(option) if value.is_none() => {
            let _ = option;
            Val::Option(None)
        }
        Type::Option(option) => Val::Option(Some(Box::new(to_val(&option.ty(), value, handles)?))),
        Type::Enum(cases) => Val::Enum(named(cases.names(), text()?, ty, value)?),
        Type::Flags(flags) => {
            let names = strings(value).ok_or_else(|| wrong(ty, value))?;
            let known: Vec<String> = flags.names().map(str::to_owned).collect();
            let each = names.iter().map(|n| named(known.iter().map(String::as_str), n, ty, value));
            Val::Flags(each.collect::<Result<_>>()?)
        }
        Type::Variant(variant) => {
            let parts: Vec<Value<'_>> = items(value).ok_or_else(|| wrong(ty, value))?;
            let name = parts.first().and_then(|v| v.unpack_str()).ok_or_else(|| wrong(ty, value))?;
            let case = variant.cases().find(|c| c.name == name).ok_or_else(|| wrong(ty, value))?;
            match (&case.ty, parts.get(1), parts.len()) {
                (None, None, 1) => Val::Variant(name.into(), None),
                (Some(inner), Some(payload), 2) => {
                    Val::Variant(name.into(), Some(Box::new(to_val(inner, *payload, handles)?)))
                }
                _ => return Err(wrong(ty, value)),
            }
        }
        Type::Own(_) | Type::Borrow(_) => {
            handles(value.downcast_ref::<ResourceHandle>().ok_or_else(|| wrong(ty, value))?)?
        }
        _ => return Err(Usage::new(format!("a script cannot give a `{}`", show_type(ty))).into()),
    })
}

fn float(ty: &Type, value: Value<'_>) -> Result<f64> {
    match (value.downcast_ref::<StarlarkFloat>(), value.unpack_i32()) {
        (Some(float), _) => Ok(float.0),
        (None, Some(int)) => Ok(f64::from(int)),
        (None, None) => Err(wrong(ty, value)),
    }
}

fn items<'v>(value: Value<'v>) -> Option<Vec<Value<'v>>> {
    use starlark::values::list::ListRef;
    use starlark::values::tuple::TupleRef;
    let list = ListRef::from_value(value).map(|list| list.content().to_vec());
    list.or_else(|| TupleRef::from_value(value).map(|tuple| tuple.content().to_vec()))
}

fn strings(value: Value<'_>) -> Option<Vec<String>> {
    items(value)?.iter().map(|item| item.unpack_str().map(str::to_owned)).collect()
}

fn list_items(item: &Type, ty: &Type, value: Value<'_>, handles: &Handles<'_>) -> Result<Vec<Val>> {
    if let (Type::U8, Some(bytes)) = (item, value.downcast_ref::<StarlarkBytes>()) {
        return Ok(bytes.as_bytes().iter().map(|b| Val::U8(*b)).collect());
    }
    let items = items(value).ok_or_else(|| wrong(ty, value))?;
    let each = |(i, v): (usize, &Value<'_>)| to_val(item, *v, handles).map_err(|e| at(&format!("[{i}]"), e));
    items.iter().enumerate().map(each).collect()
}

fn tuple_items(types: &[Type], ty: &Type, value: Value<'_>, handles: &Handles<'_>) -> Result<Vec<Val>> {
    let items = items(value).filter(|items| items.len() == types.len()).ok_or_else(|| wrong(ty, value))?;
    types.iter().zip(items).map(|(ty, v)| to_val(ty, v, handles)).collect()
}

fn named<'n>(
    mut names: impl Iterator<Item = &'n str>,
    given: &str,
    ty: &Type,
    value: Value<'_>,
) -> Result<String> {
    let found = names.find(|name| *name == given || name.replace('-', "_") == given);
    found.map(str::to_owned).ok_or_else(|| wrong(ty, value))
}

/// A field of a struct or dict; `_` stands for `-`.
fn field_of<'v>(value: Value<'v>, name: &str) -> Option<Value<'v>> {
    let plain = name.replace('-', "_");
    if let Some(dict) = DictRef::from_value(value) {
        return dict
            .iter()
            .find(|(key, _)| key.unpack_str().is_some_and(|k| k == plain || k == name))
            .map(|(_, v)| v);
    }
    use starlark::values::structs::StructRef;
    let fields = StructRef::from_value(value)?;
    fields.iter().find(|(key, _)| key.as_str() == plain).map(|(_, v)| v)
}

/// A result on its way to a script, and its type.
pub(super) struct FromKernel(Option<Val>, Option<Type>);

/// What a call gives a script. An error that the export returned ends the script.
pub(super) fn result(export: &Export, results: Vec<Val>) -> Result<FromKernel> {
    let mut ty = export.results.first().cloned();
    if let Some(Type::Result(result)) = &ty {
        ty = result.ok();
    }
    let value = match results.into_iter().next() {
        Some(Val::Result(Ok(value))) => value.map(|v| *v),
        Some(Val::Result(Err(error))) => {
            let shown = match error.as_deref() {
                Some(Val::String(text)) => quote(text),
                Some(other) => quote(&show(other)?),
                None => "an error".into(),
            };
            return Err(
                Fault { kind: "script", message: format!("`{}` failed: {shown}", export.name) }.into()
            );
        }
        other => other,
    };
    Ok(FromKernel(value, ty))
}

impl FromKernel {
    pub(super) fn alloc<'v>(self, heap: Heap<'v>, given: &Given<'_>) -> starlark::Result<Value<'v>> {
        match self.0 {
            None => Ok(heap.alloc(NoneType)),
            Some(value) => to_value(value, self.1.as_ref(), heap, given),
        }
    }
}

/// A value of a type, which tells what an empty list is one of.
fn to_value<'v>(
    value: Val,
    ty: Option<&Type>,
    heap: Heap<'v>,
    given: &Given<'_>,
) -> starlark::Result<Value<'v>> {
    let optional = |value: Option<Box<Val>>, ty: Option<Type>| {
        value.map_or(Ok(heap.alloc(NoneType)), |v| to_value(*v, ty.as_ref(), heap, given))
    };
    Ok(match value {
        Val::Bool(v) => heap.alloc(v),
        Val::S8(v) => heap.alloc(i32::from(v)),
        Val::U8(v) => heap.alloc(i32::from(v)),
        Val::S16(v) => heap.alloc(i32::from(v)),
        Val::U16(v) => heap.alloc(i32::from(v)),
        Val::S32(v) => heap.alloc(v),
        Val::U32(v) => heap.alloc(v),
        Val::S64(v) => heap.alloc(v),
        Val::U64(v) => heap.alloc(v),
        Val::Float32(v) => heap.alloc(StarlarkFloat(f64::from(v))),
        Val::Float64(v) => heap.alloc(StarlarkFloat(v)),
        Val::Char(v) => heap.alloc(v.to_string()),
        Val::String(v) => heap.alloc(v),
        Val::List(v) | Val::FixedLengthList(v) => {
            let of = item_type(ty);
            match bytes_of(&v, of.as_ref()) {
                Some(bytes) => heap.alloc(StarlarkBytes::new(&bytes)),
                None => {
                    let items = v.into_iter().map(|v| to_value(v, of.as_ref(), heap, given));
                    heap.alloc(items.collect::<starlark::Result<Vec<_>>>()?)
                }
            }
        }
        Val::Tuple(v) => {
            let mut types =
                if let Some(Type::Tuple(tuple)) = ty { tuple.types().collect() } else { Vec::new() };
            types.reverse();
            let items = v.into_iter().map(|v| to_value(v, types.pop().as_ref(), heap, given));
            heap.alloc(AllocTuple(items.collect::<starlark::Result<Vec<_>>>()?))
        }
        Val::Record(fields) => {
            let fields = fields.into_iter().map(|(name, v)| {
                let value = to_value(v, named_type(ty, &name).as_ref(), heap, given)?;
                Ok((name.replace('-', "_"), value))
            });
            heap.alloc(AllocStruct(fields.collect::<starlark::Result<Vec<_>>>()?))
        }
        Val::Option(v) => optional(v, item_type(ty))?,
        Val::Enum(name) => heap.alloc(name),
        Val::Flags(names) => heap.alloc(names),
        Val::Variant(name, payload) => match payload {
            None => heap.alloc(AllocTuple([heap.alloc(name)])),
            Some(payload) => {
                let payload = to_value(*payload, named_type(ty, &name).as_ref(), heap, given)?;
                heap.alloc(AllocTuple([heap.alloc(name), payload]))
            }
        },
        Val::Result(v) => {
            let (ok, err) =
                if let Some(Type::Result(result)) = ty { (result.ok(), result.err()) } else { (None, None) };
            match v {
                Ok(v) => heap.alloc(AllocTuple([heap.alloc("ok"), optional(v, ok)?])),
                Err(v) => heap.alloc(AllocTuple([heap.alloc("err"), optional(v, err)?])),
            }
        }
        ref other => {
            if let Some(handle) = given(other) {
                return Ok(heap.alloc(handle));
            }
            let message = "a script cannot hold this result: a stream or a future";
            return Err(starlark::Error::new_other(std::io::Error::other(message)));
        }
    })
}

/// The type of what is in a list or option.
fn item_type(ty: Option<&Type>) -> Option<Type> {
    match ty? {
        Type::List(list) => Some(list.ty()),
        Type::Option(option) => Some(option.ty()),
        _ => None,
    }
}

/// The type of a field or case.
fn named_type(ty: Option<&Type>, name: &str) -> Option<Type> {
    match ty? {
        Type::Record(record) => record.fields().find(|field| field.name == name).map(|field| field.ty),
        Type::Variant(variant) => variant.cases().find(|case| case.name == name).and_then(|case| case.ty),
        _ => None,
    }
}

fn bytes_of(list: &[Val], of: Option<&Type>) -> Option<Vec<u8>> {
    if list.is_empty() && !matches!(of, Some(Type::U8)) {
        return None;
    }
    list.iter().map(|v| if let Val::U8(b) = v { Some(*b) } else { None }).collect()
}

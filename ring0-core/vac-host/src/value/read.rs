//! Values from their canonical form: what [`super::put_values`] wrote, read by the types of its function.
//!
//! Only what has no handle in it can be read: a handle is a number there, and means something in one instance.

use vac_core::canon::Reader;
use vac_core::fault::Corrupt;
use wasmtime::component::{Type, Val};

/// Reads an array of values of these types.
pub fn read_values(from: &mut Reader<'_>, types: &[Type]) -> Result<Vec<Val>, Corrupt> {
    from.nested(|r| {
        r.array_of(types.len())?;
        types.iter().map(|ty| read(r, ty)).collect()
    })
}

fn read(from: &mut Reader<'_>, ty: &Type) -> Result<Val, Corrupt> {
    Ok(match ty {
        Type::Bool => Val::Bool(from.bool()?),
        Type::S8 => Val::S8(signed(from)?),
        Type::U8 => Val::U8(unsigned(from)?),
        Type::S16 => Val::S16(signed(from)?),
        Type::U16 => Val::U16(unsigned(from)?),
        Type::S32 => Val::S32(signed(from)?),
        Type::U32 => Val::U32(unsigned(from)?),
        Type::S64 => Val::S64(from.int()?),
        Type::U64 => Val::U64(from.uint()?),
        Type::Float32 => Val::Float32(f32::from_bits(u32::from_le_bytes(bits(from)?))),
        Type::Float64 => Val::Float64(f64::from_bits(u64::from_le_bytes(bits(from)?))),
        Type::Char => Val::Char(read_char(from)?),
        Type::String => Val::String(from.text()?.to_owned()),
        Type::List(list) => Val::List(read_list(from, &list.ty())?),
        Type::FixedLengthList(list) => Val::FixedLengthList(read_list(from, &list.ty())?),
        Type::Tuple(tuple) => Val::Tuple(read_values(from, &tuple.types().collect::<Vec<_>>())?),
        Type::Map(map) => Val::Map(read_pairs(from, &map.key(), &map.value())?),
        Type::Record(record) => {
            let fields: Vec<(String, Type)> =
                record.fields().map(|field| (field.name.to_owned(), field.ty)).collect();
            let types: Vec<Type> = fields.iter().map(|(_, ty)| ty.clone()).collect();
            let values = read_values(from, &types)?;
            Val::Record(fields.into_iter().map(|(name, _)| name).zip(values).collect())
        }
        Type::Variant(variant) => from.nested(|r| {
            r.array_of(2)?;
            let name = r.text()?.to_owned();
            let case = variant.cases().find(|case| case.name == name);
            let payload = case.ok_or_else(|| r.wrong("a case of the variant", &name))?.ty;
            Ok(Val::Variant(name, read_payload(r, payload.as_ref())?))
        })?,
        Type::Enum(cases) => {
            let name = from.text()?.to_owned();
            match cases.names().any(|known| known == name) {
                true => Val::Enum(name),
                false => return Err(from.wrong("a case of the enum", name)),
            }
        }
        Type::Option(option) => Val::Option(read_payload(from, Some(&option.ty()))?),
        Type::Result(result) => from.nested(|r| {
            r.array_of(2)?;
            Ok(Val::Result(match r.uint()? {
                0 => Ok(read_payload(r, result.ok().as_ref())?),
                1 => Err(read_payload(r, result.err().as_ref())?),
                n => return Err(r.wrong("0 or 1", n)),
            }))
        })?,
        Type::Flags(flags) => Val::Flags(from.nested(|r| {
            let (len, mut names) = (r.array()?, Vec::new());
            for _ in 0..len {
                let name = r.text()?;
                let known = flags.names().find(|known| *known == name);
                names.push(known.ok_or_else(|| r.wrong("a flag", name))?.to_owned());
            }
            Ok(names)
        })?),
        _ => return Err(from.wrong("a value without handles", "the type of a handle")),
    })
}

/// Null or `[x]`. A case without payload is null, always.
fn read_payload(from: &mut Reader<'_>, ty: Option<&Type>) -> Result<Option<Box<Val>>, Corrupt> {
    if from.null()? {
        return Ok(None);
    }
    from.nested(|r| {
        r.array_of(1)?;
        match ty {
            Some(ty) => Ok(Some(Box::new(read(r, ty)?))),
            None => Err(r.wrong("nothing", "a value")),
        }
    })
}

/// Bytes are a byte string, unless there are none.
fn read_list(from: &mut Reader<'_>, ty: &Type) -> Result<Vec<Val>, Corrupt> {
    if *ty == Type::U8
        && let Ok(bytes) = from.byte_string()
    {
        return Ok(bytes.iter().map(|byte| Val::U8(*byte)).collect());
    }
    from.nested(|r| {
        let (len, mut values) = (r.array()?, Vec::new());
        for _ in 0..len {
            values.push(read(r, ty)?);
        }
        Ok(values)
    })
}

fn read_pairs(from: &mut Reader<'_>, key: &Type, value: &Type) -> Result<Vec<(Val, Val)>, Corrupt> {
    from.nested(|r| {
        let (len, mut pairs) = (r.array()?, Vec::new());
        for _ in 0..len {
            let pair = r.nested(|r| {
                r.array_of(2)?;
                Ok((read(r, key)?, read(r, value)?))
            })?;
            pairs.push(pair);
        }
        Ok(pairs)
    })
}

fn read_char(from: &mut Reader<'_>) -> Result<char, Corrupt> {
    let text = from.text()?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err(from.wrong("one character", format!("{} bytes", text.len()))),
    }
}

fn signed<T: TryFrom<i64>>(from: &mut Reader<'_>) -> Result<T, Corrupt> {
    let int = from.int()?;
    T::try_from(int).map_err(|_| from.wrong("a smaller integer", int))
}

fn unsigned<T: TryFrom<u64>>(from: &mut Reader<'_>) -> Result<T, Corrupt> {
    let int = from.uint()?;
    T::try_from(int).map_err(|_| from.wrong("a smaller integer", int))
}

fn bits<const LEN: usize>(from: &mut Reader<'_>) -> Result<[u8; LEN], Corrupt> {
    let bytes = from.byte_string()?;
    bytes.try_into().map_err(|_| from.wrong(format!("{LEN} bytes"), bytes.len()))
}

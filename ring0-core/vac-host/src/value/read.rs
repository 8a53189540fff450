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

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;
    use wasmtime::component::types::ComponentItem;

    use super::*;
    use crate::value;

    /// A value of each type, and another one where there is a choice.
    const TYPES: [(&str, &[&str]); 20] = [
        ("bool", &["true", "false"]),
        ("u8", &["0", "255"]),
        ("s8", &["-128", "127"]),
        ("u16", &["65535"]),
        ("s16", &["-32768"]),
        ("u32", &["4294967295"]),
        ("s32", &["-2147483648"]),
        ("u64", &["18446744073709551615"]),
        ("s64", &["-9223372036854775808"]),
        ("f32", &["1.5", "nan", "-inf"]),
        ("f64", &["-0.1", "nan", "inf"]),
        ("char", &["'x'", "'\u{1f600}'"]),
        ("string", &["\"\"", "\"text\""]),
        ("(list u8)", &["[]", "[1, 2, 255]"]),
        ("(list (list string))", &["[]", "[[], [\"a\", \"b\"]]"]),
        ("(tuple u8 (option bool))", &["(1, none)", "(2, some(true))"]),
        ("(option (option u8))", &["none", "some(none)", "some(some(1))"]),
        ("(result u8 (error string))", &["ok(1)", "err(\"no\")"]),
        ("(result)", &["ok", "err"]),
        ("(result (error u8))", &["ok", "err(3)"]),
    ];
    const NAMED: [(&str, &[&str]); 4] = [
        ("(record (field \"a\" u8) (field \"b\" (list string)))", &["{a: 1, b: [\"x\"]}"]),
        ("(variant (case \"x\") (case \"y\" s16))", &["x", "y(-5)"]),
        ("(enum \"one\" \"two\")", &["one", "two"]),
        ("(flags \"p\" \"q\")", &["{}", "{q}", "{p, q}"]),
    ];

    /// A value of type `ty` for each text.
    fn check(ty: &str, is_named: bool, texts: &[&str]) {
        let (define, name) = match is_named {
            true => (format!("(type $own {ty}) (import \"t\" (type $t (eq $own)))"), "$t"),
            false => (String::new(), ty),
        };
        let wat = format!("(component {define} (import \"f\" (func (param \"x\" {name}))))");
        let engine = wasmtime::Engine::default();
        let component = Component::new(&engine, wat::parse_str(&wat).unwrap()).unwrap();
        let ty = component.component_type();
        let (_, item) = ty.imports(&engine).find(|(name, _)| *name == "f").unwrap();
        let ComponentItem::ComponentFunc(func) = item.ty else { panic!("no function") };
        let params: Vec<(String, Type)> = func.params().map(|(name, ty)| (name.to_owned(), ty)).collect();
        let types: Vec<Type> = params.iter().map(|(_, ty)| ty.clone()).collect();
        for text in texts {
            let values = value::parse_args(&format!("({text})"), &params).unwrap();
            let form = |values: &[Val]| {
                let mut to = vac_core::canon::Writer::default();
                value::put_values(values, &mut to);
                to.into_bytes()
            };
            let bytes = form(&values);
            let mut reader = Reader::new(&bytes, "it");
            let read = read_values(&mut reader, &types).unwrap_or_else(|e| panic!("{text}: {e}"));
            reader.finish().unwrap();
            // By its form, because a NaN is not equal to itself.
            assert_eq!(form(&read), bytes, "{text}");
            assert_eq!(value::show_results(&read).unwrap(), value::show_results(&values).unwrap());
            for end in 0..bytes.len() {
                let mut reader = Reader::new(&bytes[..end], "it");
                assert!(
                    read_values(&mut reader, &types).and_then(|_| reader.finish()).is_err(),
                    "{text}: {end}"
                );
            }
        }
    }

    #[test]
    fn every_value_without_handles_is_read_back() {
        TYPES.iter().for_each(|(ty, texts)| check(ty, false, texts));
        NAMED.iter().for_each(|(ty, texts)| check(ty, true, texts));
    }
}

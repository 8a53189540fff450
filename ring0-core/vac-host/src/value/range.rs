//! Which numbers the types of integers have, for who typed another.
//!
//! All that is here is advice: what a run ended with is in its record, and stays what it always was.

use std::collections::BTreeMap;

use wasmtime::component::Type;

/// Types that are said the range of.
const SHOWN_MAX: usize = 4;

/// What to say of `text`, if it is a number: which ones the integers in `types` have. Nothing if there are none.
pub(crate) fn hint<'t>(text: &str, types: impl Iterator<Item = &'t Type>) -> Option<String> {
    let is_number = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    let mut found = BTreeMap::new();
    types.for_each(|ty| integers(ty, &mut found));
    let ranges: Vec<_> = found.iter().map(|(name, range)| format!("{name} is {range}")).collect();
    (is_number && !ranges.is_empty()).then(|| ranges.join(", "))
}

fn integers(ty: &Type, found: &mut BTreeMap<&'static str, String>) {
    if found.len() >= SHOWN_MAX {
        return;
    }
    let mut add = |name, range: (i128, i128)| drop(found.insert(name, format!("{} to {}", range.0, range.1)));
    match ty {
        Type::S8 => add("s8", (i8::MIN.into(), i8::MAX.into())),
        Type::U8 => add("u8", (0, u8::MAX.into())),
        Type::S16 => add("s16", (i16::MIN.into(), i16::MAX.into())),
        Type::U16 => add("u16", (0, u16::MAX.into())),
        Type::S32 => add("s32", (i32::MIN.into(), i32::MAX.into())),
        Type::U32 => add("u32", (0, u32::MAX.into())),
        Type::S64 => add("s64", (i64::MIN.into(), i64::MAX.into())),
        Type::U64 => add("u64", (0, u64::MAX.into())),
        Type::List(list) => integers(&list.ty(), found),
        Type::Option(option) => integers(&option.ty(), found),
        Type::Tuple(tuple) => tuple.types().for_each(|ty| integers(&ty, found)),
        Type::Record(record) => record.fields().for_each(|field| integers(&field.ty, found)),
        Type::Result(result) => {
            [result.ok(), result.err()].into_iter().flatten().for_each(|ty| integers(&ty, found));
        }
        Type::Variant(variant) => {
            variant.cases().filter_map(|case| case.ty).for_each(|ty| integers(&ty, found));
        }
        _ => {}
    }
}

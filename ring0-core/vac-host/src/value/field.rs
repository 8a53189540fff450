//! What of a result is wanted as bytes: all of it, or a field of a record.

use vac_core::fault::{Result, Usage, quote};
use wasmtime::component::{Type, Val};

use super::show_type;
use crate::nearest::nearest;

/// Where in a result the bytes are: `image`, `meta.thumb`, `0` of a tuple; nowhere below for the result itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field(Vec<String>);

impl Field {
    /// Names with dots between them.
    pub fn parse(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }

    /// The bytes there. Of a result that went well, what is in its `ok`; of an option, what is in its `some`.
    pub fn bytes_of(&self, value: &Val) -> Option<Vec<u8>> {
        bytes_at(&self.0, value)
    }

    /// Refuses a result of a type that never has bytes there.
    pub(crate) fn check(&self, ty: &Type) -> Result<()> {
        check_at(&self.0, 0, ty)
    }
}

fn bytes_at(names: &[String], value: &Val) -> Option<Vec<u8>> {
    match (value, names.split_first()) {
        (Val::Result(Ok(Some(inner))) | Val::Option(Some(inner)), _) => bytes_at(names, inner),
        (Val::Record(fields), Some((name, below))) => {
            fields.iter().find(|(field, _)| field == name).and_then(|(_, value)| bytes_at(below, value))
        }
        (Val::Tuple(parts), Some((name, below))) => bytes_at(below, parts.get(name.parse::<usize>().ok()?)?),
        (Val::String(text), None) => Some(text.as_bytes().to_vec()),
        (Val::List(_), None) => super::as_bytes(value),
        _ => None,
    }
}

/// Checks the type of what is at the first `depth` names of `path`.
fn check_at(path: &[String], depth: usize, ty: &Type) -> Result<()> {
    match (ty, path.get(depth)) {
        (Type::Option(option), _) => check_at(path, depth, &option.ty()),
        (Type::Result(result), name) => match (result.ok(), name) {
            (Some(ty), _) => check_at(path, depth, &ty),
            (None, Some(name)) => Err(no_field(name, ty, &[])),
            (None, None) => Err(no_bytes(path, ty)),
        },
        (Type::Record(_) | Type::Tuple(_), Some(name)) => {
            let fields = fields(ty);
            match fields.iter().find(|(field, _)| field == name) {
                Some((_, ty)) => check_at(path, depth + 1, ty),
                None => Err(no_field(name, ty, &fields)),
            }
        }
        (Type::String, None) => Ok(()),
        (Type::List(list), None) if list.ty() == Type::U8 => Ok(()),
        (_, None) => Err(no_bytes(path, ty)),
        (_, Some(name)) => Err(no_field(name, ty, &[])),
    }
}

fn fields(ty: &Type) -> Vec<(String, Type)> {
    match ty {
        Type::Record(record) => record.fields().map(|field| (field.name.to_owned(), field.ty)).collect(),
        Type::Tuple(tuple) => tuple.types().enumerate().map(|(at, ty)| (at.to_string(), ty)).collect(),
        Type::Option(option) => fields(&option.ty()),
        Type::Result(result) => result.ok().map_or_else(Vec::new, |ty| fields(&ty)),
        _ => Vec::new(),
    }
}

/// Of a last call that gives nothing.
pub(crate) fn no_result() -> vac_core::fault::Error {
    Usage::new("the last call gives nothing").hint("leave `--raw` or `-o` out").into()
}

/// Of what is at `path` if that is neither text nor bytes.
fn no_bytes(path: &[String], ty: &Type) -> vac_core::fault::Error {
    let what = match path {
        [] => "the last result".to_owned(),
        path => format!("field `{}` of the last result", quote(&path.join("."))),
    };
    let usage = Usage::new(format!("{what} is {}, neither text nor bytes", show_type(ty)));
    let has_bytes = |(name, ty): &(String, Type)| check_at(&[], 0, ty).is_ok().then(|| name.clone());
    match fields(ty).iter().find_map(has_bytes) {
        Some(name) => {
            let path = path.iter().chain([&name]).map(String::as_str).collect::<Vec<_>>().join(".");
            usage.hint(format!("`--field {}` takes what is in that field", quote(&path)))
        }
        None => usage.hint("leave `--raw` or `-o` out to see it"),
    }
    .into()
}

fn no_field(name: &str, ty: &Type, fields: &[(String, Type)]) -> vac_core::fault::Error {
    let usage = Usage::new(format!("{} has no field `{}`", show_type(ty), quote(name)));
    match nearest(name, fields.iter().map(|(field, _)| field.as_str())) {
        Some(near) => usage.hint(format!("did you mean `{}`?", quote(near))),
        None => usage,
    }
    .into()
}

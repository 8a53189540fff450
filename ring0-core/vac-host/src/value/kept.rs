//! Arguments in which `$name` stands for a value that an earlier call gave.
//!
//! WAVE text knows no such names. Each is replaced, before the text is read, by a label of the same
//! length, so that places in errors stay right; which labels those are is known by their place.

use std::collections::BTreeMap;

use vac_core::fault::{Error, Result, Usage, quote};
use wasm_wave::ast::{Node, NodeType};
use wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::{ResourceAny, Type, Val};

use super::{bad_args, check_depth, check_fields, show_params};

/// Whether `name` can be kept under: a letter or `_`, then letters, digits, `_` and `-`.
pub(crate) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && chars.all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Where names of kept values are in a text.
pub(crate) struct Places {
    /// The text with labels in their places.
    text: String,
    /// Where they begin, and which they are.
    names: BTreeMap<usize, String>,
}

impl Places {
    /// Finds every `$name` that is not inside a string or character.
    pub(crate) fn find(args: &str) -> Self {
        let (mut text, mut names) = (String::with_capacity(args.len()), BTreeMap::new());
        let mut quoted: Option<char> = None;
        let mut rest = args.char_indices();
        while let Some((at, c)) = rest.next() {
            text.push(c);
            match quoted {
                Some(_) if c == '\\' => text.extend(rest.next().map(|(_, escaped)| escaped)),
                Some(end) if c == end => quoted = None,
                Some(_) => {}
                None if c == '"' || c == '\'' => quoted = Some(c),
                None if c == '$' => {
                    let after = args.get(at + 1..).unwrap_or_default();
                    let len = after.find(|c| !is_name_char(c)).unwrap_or(after.len());
                    let name = after.get(..len).unwrap_or_default();
                    if is_name(name) {
                        text.pop();
                        text.push('v');
                        text.extend(std::iter::repeat_n('x', len));
                        names.insert(at, name.to_owned());
                        rest = args.char_indices();
                        while rest.clone().next().is_some_and(|(i, _)| i <= at + len) {
                            rest.next();
                        }
                    }
                }
                None => {}
            }
        }
        Self { text, names }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name that `node` is. Nodes are of `f` and the text.
    fn name(&self, node: &Node) -> Option<&str> {
        let at = node.span().start.checked_sub(1)?;
        self.names.get(&at).filter(|_| node.ty() == NodeType::Label).map(String::as_str)
    }

    /// Whether there are names in `node`.
    fn any_in(&self, node: &Node) -> bool {
        let span = node.span();
        self.names.range(span.start.saturating_sub(1)..span.end.saturating_sub(1)).next().is_some()
    }
}

/// Gives the value that is kept under a name, as one of a type.
type Kept<'k> = dyn FnMut(&str, &Type) -> Result<Val> + 'k;

/// Reads `(args)` as the parameters of a function, with kept values where they are named.
pub(crate) fn parse_args_with(
    args: &str,
    params: &[(String, Type)],
    kept: &mut Kept<'_>,
) -> Result<Vec<Val>> {
    check_depth(args)?;
    let places = Places::find(args);
    let source = format!("f{}", places.text);
    let call = UntypedFuncCall::parse(&source).map_err(|e| bad_args(args, params, &e))?;
    let nodes: Vec<&Node> = match call.params_node().map(Node::as_tuple) {
        Some(Ok(nodes)) => nodes.collect(),
        _ => Vec::new(),
    };
    let (given, expected) = (nodes.len(), params.len());
    let optional = params.iter().skip(given).all(|(_, ty)| matches!(ty, Type::Option(_)));
    if given > expected || !optional {
        let message =
            format!("`{}` has {given} arguments, expected {expected}: {}", quote(args), show_params(params));
        return Err(Usage::new(message).into());
    }
    let reader = Reader { args, params, source: &source, places: &places };
    let mut values = Vec::with_capacity(params.len());
    for (node, (_, ty)) in nodes.into_iter().zip(params) {
        values.push(reader.value(node, ty, kept)?);
    }
    values.resize(params.len(), Val::Option(None));
    Ok(values)
}

struct Reader<'a> {
    args: &'a str,
    params: &'a [(String, Type)],
    source: &'a str,
    places: &'a Places,
}

impl Reader<'_> {
    fn value(&self, node: &Node, ty: &Type, kept: &mut Kept<'_>) -> Result<Val> {
        if let Some(name) = self.places.name(node) {
            return kept(name, ty);
        }
        if !self.places.any_in(node) {
            check_fields(node, ty, self.source)?;
            return node
                .to_wasm_value::<Val>(ty, self.source)
                .map_err(|e| bad_args(self.args, self.params, &e));
        }
        let bad = |e| bad_args(self.args, self.params, &e);
        match ty {
            Type::List(list) => {
                let nodes = node.as_list().map_err(bad)?;
                Ok(Val::List(nodes.map(|n| self.value(n, &list.ty(), kept)).collect::<Result<_>>()?))
            }
            Type::Tuple(tuple) => {
                let (nodes, types) = (node.as_tuple().map_err(bad)?, tuple.types());
                if nodes.len() != types.len() {
                    return Err(self.unfit());
                }
                let values = nodes.zip(types).map(|(n, ty)| self.value(n, &ty, kept));
                Ok(Val::Tuple(values.collect::<Result<_>>()?))
            }
            Type::Option(option) => {
                let inner = node.as_option().unwrap_or(Some(node));
                let inner = inner.map(|n| self.value(n, &option.ty(), kept)).transpose()?;
                Ok(Val::Option(inner.map(Box::new)))
            }
            Type::Result(result) => match node.as_result().map_err(bad)? {
                Ok(inner) => Ok(Val::Result(Ok(self.payload(inner, result.ok(), kept)?))),
                Err(inner) => Ok(Val::Result(Err(self.payload(inner, result.err(), kept)?))),
            },
            Type::Variant(variant) => {
                let (name, inner) = node.as_variant(self.source).map_err(bad)?;
                let case = variant.cases().find(|case| case.name == name).ok_or_else(|| self.unfit())?;
                Ok(Val::Variant(name.to_owned(), self.payload(inner, case.ty, kept)?))
            }
            Type::Record(record) => {
                let mut nodes: BTreeMap<&str, &Node> = node.as_record(self.source).map_err(bad)?.collect();
                let mut fields = Vec::new();
                for field in record.fields() {
                    let value = match (nodes.remove(field.name), &field.ty) {
                        (Some(node), ty) => self.value(node, ty, kept)?,
                        (None, Type::Option(_)) => Val::Option(None),
                        (None, _) => return Err(self.unfit()),
                    };
                    fields.push((field.name.to_owned(), value));
                }
                if nodes.is_empty() { Ok(Val::Record(fields)) } else { Err(self.unfit()) }
            }
            _ => Err(self.unfit()),
        }
    }

    fn payload(
        &self,
        node: Option<&Node>,
        ty: Option<Type>,
        kept: &mut Kept<'_>,
    ) -> Result<Option<Box<Val>>> {
        match (node, ty) {
            (None, None) => Ok(None),
            (Some(node), Some(ty)) => Ok(Some(Box::new(self.value(node, &ty, kept)?))),
            _ => Err(self.unfit()),
        }
    }

    fn unfit(&self) -> Error {
        let message = format!("`{}` does not fit `{}`", quote(self.args), show_params(self.params));
        Usage::new(message).into()
    }
}

/// Reads `(args)` without types: numbers from 0 to 2^32, text, lists of bytes and kept values.
pub(crate) fn parse_untyped(args: &str, kept: &dyn Fn(&str) -> Result<Val>) -> Result<Vec<Val>> {
    check_depth(args)?;
    let places = Places::find(args);
    let source = format!("f{}", places.text);
    let call = UntypedFuncCall::parse(&source).map_err(|e| bad_args(args, &[], &e))?;
    let Some(Ok(nodes)) = call.params_node().map(Node::as_tuple) else { return Ok(Vec::new()) };
    let unfit = |_| Error::from(Usage::new(format!("`{}` is not addresses, text and bytes", quote(args))));
    nodes
        .map(|node| match (places.name(node), node.ty()) {
            (Some(name), _) => kept(name),
            (None, NodeType::Number) => node.as_number::<u32>(&source).map(Val::U32).map_err(unfit),
            (None, NodeType::List) => {
                let bytes = node.as_list().map_err(unfit)?.map(|n| n.as_number::<u8>(&source).map(Val::U8));
                bytes.collect::<std::result::Result<_, _>>().map(Val::List).map_err(unfit)
            }
            _ => node.as_str(&source).map(|text| Val::String(text.into_owned())).map_err(unfit),
        })
        .collect()
}

/// Why a kept value cannot be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is of another type.
    Type,
    /// The handle with this number was given away.
    Moved(u64),
}

/// Whether a handle may be passed as a type.
type Handles<'h> = dyn FnMut(&ResourceAny, &Type) -> std::result::Result<(), Unfit> + 'h;

/// `value` as one of type `ty`. An integer fits every type of integer that has it.
pub(crate) fn fit(value: &Val, ty: &Type, handles: &mut Handles<'_>) -> std::result::Result<Val, Unfit> {
    let mut each = |values: &[Val], ty: &Type| -> std::result::Result<Vec<Val>, Unfit> {
        values.iter().map(|v| fit(v, ty, handles)).collect()
    };
    match (value, ty) {
        (Val::Bool(_), Type::Bool)
        | (Val::Float32(_), Type::Float32)
        | (Val::Float64(_), Type::Float64)
        | (Val::Char(_), Type::Char)
        | (Val::String(_), Type::String) => Ok(value.clone()),
        (Val::Resource(any), _) => handles(any, ty).map(|()| value.clone()),
        (Val::List(values), Type::List(list)) => Ok(Val::List(each(values, &list.ty())?)),
        (Val::Tuple(values), Type::Tuple(tuple)) if values.len() == tuple.types().len() => {
            let values = values.iter().zip(tuple.types()).map(|(v, ty)| fit(v, &ty, handles));
            Ok(Val::Tuple(values.collect::<std::result::Result<_, _>>()?))
        }
        (Val::Record(values), Type::Record(record)) if values.len() == record.fields().len() => {
            let fields = values.iter().zip(record.fields()).map(|((name, value), field)| {
                if *name != field.name {
                    return Err(Unfit::Type);
                }
                Ok((name.clone(), fit(value, &field.ty, handles)?))
            });
            Ok(Val::Record(fields.collect::<std::result::Result<_, _>>()?))
        }
        (Val::Option(inner), Type::Option(option)) => {
            let inner = inner.as_ref().map(|v| fit(v, &option.ty(), handles)).transpose()?;
            Ok(Val::Option(inner.map(Box::new)))
        }
        (_, Type::Option(option)) => Ok(Val::Option(Some(Box::new(fit(value, &option.ty(), handles)?)))),
        (Val::Result(value), Type::Result(result)) => Ok(Val::Result(match value {
            Ok(value) => Ok(fit_payload(value.as_deref(), result.ok(), handles)?),
            Err(value) => Err(fit_payload(value.as_deref(), result.err(), handles)?),
        })),
        (Val::Variant(name, value), Type::Variant(variant)) => {
            let case = variant.cases().find(|case| case.name == name).ok_or(Unfit::Type)?;
            Ok(Val::Variant(name.clone(), fit_payload(value.as_deref(), case.ty, handles)?))
        }
        (Val::Enum(name), Type::Enum(cases)) if cases.names().any(|case| case == name) => Ok(value.clone()),
        (Val::Flags(names), Type::Flags(flags)) if names.iter().all(|n| flags.names().any(|f| f == n)) => {
            Ok(value.clone())
        }
        _ => fit_integer(value, ty).ok_or(Unfit::Type),
    }
}

fn fit_payload(
    value: Option<&Val>,
    ty: Option<Type>,
    handles: &mut Handles<'_>,
) -> std::result::Result<Option<Box<Val>>, Unfit> {
    match (value, ty) {
        (None, None) => Ok(None),
        (Some(value), Some(ty)) => Ok(Some(Box::new(fit(value, &ty, handles)?))),
        _ => Err(Unfit::Type),
    }
}

fn fit_integer(value: &Val, ty: &Type) -> Option<Val> {
    let integer = integer(value)?;
    match ty {
        Type::S8 => i8::try_from(integer).ok().map(Val::S8),
        Type::U8 => u8::try_from(integer).ok().map(Val::U8),
        Type::S16 => i16::try_from(integer).ok().map(Val::S16),
        Type::U16 => u16::try_from(integer).ok().map(Val::U16),
        // An address above 2 GiB is a negative number to a core module.
        Type::S32 if matches!(value, Val::U32(_)) => Some(Val::S32(integer as u32 as i32)),
        Type::S32 => i32::try_from(integer).ok().map(Val::S32),
        Type::U32 => u32::try_from(integer).ok().map(Val::U32),
        Type::S64 => i64::try_from(integer).ok().map(Val::S64),
        Type::U64 => u64::try_from(integer).ok().map(Val::U64),
        _ => None,
    }
}

fn integer(value: &Val) -> Option<i128> {
    Some(match value {
        Val::S8(v) => i128::from(*v),
        Val::U8(v) => i128::from(*v),
        Val::S16(v) => i128::from(*v),
        Val::U16(v) => i128::from(*v),
        Val::S32(v) => i128::from(*v),
        Val::U32(v) => i128::from(*v),
        Val::S64(v) => i128::from(*v),
        Val::U64(v) => i128::from(*v),
        _ => return None,
    })
}

/// A number as an address or length. A core module's own are signed.
pub(crate) fn as_u32(value: &Val) -> Option<u32> {
    match value {
        Val::S32(v) => Some(*v as u32),
        other => integer(other).and_then(|v| u32::try_from(v).ok()),
    }
}

/// A list of bytes as bytes.
pub(crate) fn as_bytes(value: &Val) -> Option<Vec<u8>> {
    let Val::List(values) = value else { return None };
    values.iter().map(|v| if let Val::U8(byte) = v { Some(*byte) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> (String, Vec<(usize, String)>) {
        let found = Places::find(text);
        (found.text, found.names.into_iter().collect())
    }

    #[test]
    fn names_are_found_outside_of_strings_only() {
        assert_eq!(places("($a, 1)"), ("(vx, 1)".into(), vec![(1, "a".into())]));
        assert_eq!(places("(\"$a\", '$', \"\\\"$b\")").1, []);
        assert_eq!(places("([$a_1, $b-c])").1, [(2, "a_1".to_owned()), (8, "b-c".to_owned())]);
        assert_eq!(places("($)").1, []);
        assert_eq!(places("(\"ä\", $a)").1, [(7, "a".to_owned())]);
        let (text, _) = places("($abc)");
        assert_eq!(text.len(), "($abc)".len());
    }

    #[test]
    fn a_kept_value_goes_where_its_name_is() {
        let params = [("a".to_owned(), Type::U32), ("b".to_owned(), Type::String)];
        let mut kept = |name: &str, ty: &Type| {
            assert_eq!((name, ty), ("p", &Type::U32));
            Ok(Val::U32(7))
        };
        let values = parse_args_with("($p, \"$p\")", &params, &mut kept).unwrap();
        assert_eq!(values, [Val::U32(7), Val::String("$p".into())]);
        for bad in ["($p)", "($p, \"x\", 1)", "($p(1), \"x\")", "({$p}, \"x\")", "($p.x, \"x\")"] {
            assert!(parse_args_with(bad, &params, &mut |_, _| Ok(Val::U32(7))).is_err(), "{bad}");
        }
    }

    #[test]
    fn integers_fit_where_their_value_does() {
        let fit = |value, ty| super::fit(&value, &ty, &mut |_, _| Err(Unfit::Type));
        assert_eq!(fit(Val::S32(5), Type::U64), Ok(Val::U64(5)));
        assert_eq!(fit(Val::S32(-1), Type::U32), Err(Unfit::Type));
        assert_eq!(fit(Val::U32(u32::MAX), Type::S32), Ok(Val::S32(-1)));
        assert_eq!(fit(Val::U32(300), Type::U8), Err(Unfit::Type));
        assert_eq!(fit(Val::String("x".into()), Type::U8), Err(Unfit::Type));
        assert_eq!((as_u32(&Val::S32(-1)), as_u32(&Val::S64(-1))), (Some(u32::MAX), None));
    }

    #[test]
    fn arguments_of_no_type_are_numbers_text_and_bytes() {
        let kept = |_: &str| Ok(Val::S32(9));
        let values = parse_untyped("(1, \"a\\u{0}\", [1, 2], $p)", &kept).unwrap();
        let bytes = Val::List(vec![Val::U8(1), Val::U8(2)]);
        assert_eq!(values, [Val::U32(1), Val::String("a\0".into()), bytes, Val::S32(9)]);
        for bad in ["(-1)", "(1.5)", "([300])", "(x)", "(some(1))", "(4294967296)"] {
            assert!(parse_untyped(bad, &kept).is_err(), "{bad}");
        }
    }
}

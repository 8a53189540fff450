//! Arguments in which `$name` stands for a value that an earlier call gave, and `@CID` for a file of the operator's.
//!
//! WAVE text knows no such places. Each is replaced, before the text is read, by a label of the same
//! length, so that places in errors stay right; which labels those are is known by their place.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// What stands in a text for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) of: Of,
    pub(crate) source: Source,
}

/// What of it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// All of it.
    Whole,
    /// `len(…)`: how many bytes or items it has.
    Len,
    /// `hi(…)` and `lo(…)`: the halves of a number of 64 bits.
    High,
    Low,
}

/// Where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `$name`: an earlier call gave it.
    Kept(String),
    /// `@CID`: a file that the operator gave.
    File(String),
    /// A number that is not in the way of WAVE text.
    Number(u64),
}

impl Of {
    const CALLED: [(&'static str, Self); 3] = [("len", Self::Len), ("hi", Self::High), ("lo", Self::Low)];
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = match &self.source {
            Source::Kept(name) => format!("${name}"),
            Source::File(name) => format!("{FILE}{name}"),
            Source::Number(number) => number.to_string(),
        };
        match Of::CALLED.iter().find(|(_, of)| *of == self.of) {
            Some((word, _)) => write!(f, "{word}({source})"),
            None => f.write_str(&source),
        }
    }
}

impl Place {
    /// The place that `text` begins with, and its length. `before` is the character in front.
    fn at(text: &str, before: Option<char>, wraps: bool) -> Option<(Self, usize)> {
        if let Some((source, len)) = Source::at(text) {
            return Some((Self { of: Of::Whole, source }, len));
        }
        if before.is_some_and(|c| is_name_char(c) || "%.+".contains(c)) {
            return None;
        }
        if let Some((source, len)) = Source::number_at(text, wraps) {
            return Some((Self { of: Of::Whole, source }, len));
        }
        let (word, of) = Of::CALLED.iter().find(|(word, _)| text.starts_with(word))?;
        let inner = text.get(word.len()..)?.strip_prefix('(')?;
        let trimmed = inner.trim_start();
        let (source, len) = Source::at(trimmed)?;
        let rest = trimmed.get(len..)?.trim_start().strip_prefix(')')?;
        Some((Self { of: *of, source }, text.len() - rest.len()))
    }
}

impl Source {
    fn at(text: &str) -> Option<(Self, usize)> {
        let (mark, after) = text.split_at_checked(1)?;
        let len = after.find(|c| !is_name_char(c)).unwrap_or(after.len());
        let name = after.get(..len)?;
        let source = match mark {
            "$" if is_name(name) => Self::Kept(name.to_owned()),
            "@" if is_name(name) => Self::File(name.to_owned()),
            _ => return None,
        };
        Some((source, 1 + len))
    }

    /// A number that WAVE text does not know or may not fit.
    fn number_at(text: &str, wraps: bool) -> Option<(Self, usize)> {
        let len = text.find(|c: char| !is_name_char(c) && c != '.' && c != '+').unwrap_or(text.len());
        let word = text.get(..len)?;
        let number = match word.strip_prefix("0x") {
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).ok()?
            }
            _ if !word.starts_with(|c: char| c.is_ascii_digit()) => return None,
            _ => word.parse().ok().filter(|number| wraps && *number > i32::MAX as u64)?,
        };
        Some((Self::Number(number), len))
    }
}

/// Begins what stands for a file.
const FILE: char = '@';

/// Where places of other values are in a text.
pub(crate) struct Places {
    /// The text with labels in their places.
    text: String,
    /// Where they begin, and which they are.
    places: BTreeMap<usize, Place>,
}

impl Places {
    /// Finds every place that is not inside a string or character. If it `wraps`, numbers that only fit without a sign are
    /// places, too: see [`number`].
    pub(crate) fn find(args: &str, wraps: bool) -> Self {
        let (mut text, mut places) = (String::with_capacity(args.len()), BTreeMap::new());
        let (mut at, mut before) = (0, None);
        let mut quoted = Quoted::default();
        while let Some(c) = args.get(at..).and_then(|rest| rest.chars().next()) {
            let rest = args.get(at..).unwrap_or_default();
            let place = if quoted.passes(c) { None } else { Place::at(rest, before, wraps) };
            match place {
                Some((place, len)) => {
                    text.push('v');
                    text.extend(std::iter::repeat_n('x', len - 1));
                    places.insert(at, place);
                    (at, before) = (at + len, Some('x'));
                }
                None => {
                    text.push(c);
                    (at, before) = (at + c.len_utf8(), Some(c));
                }
            }
        }
        Self { text, places }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Place> {
        self.places.values()
    }

    /// Names of kept values.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.all().filter_map(|place| match &place.source {
            Source::Kept(name) => Some(name.as_str()),
            Source::File(_) | Source::Number(_) => None,
        })
    }

    /// What `node` stands for. Nodes are of `f` and the text.
    fn place(&self, node: &Node) -> Option<&Place> {
        let at = node.span().start.checked_sub(1)?;
        self.places.get(&at).filter(|_| node.ty() == NodeType::Label)
    }

    /// Whether there are places in `node`.
    fn any_in(&self, node: &Node) -> bool {
        let span = node.span();
        self.places.range(span.start.saturating_sub(1)..span.end.saturating_sub(1)).next().is_some()
    }
}

/// Whether a text is inside of a string or character, as far as it was read.
#[derive(Default)]
struct Quoted {
    by: Option<char>,
    is_escaped: bool,
}

impl Quoted {
    /// Takes the next character, and says whether it belongs to a string or character.
    fn passes(&mut self, c: char) -> bool {
        if std::mem::take(&mut self.is_escaped) {
            return true;
        }
        match self.by {
            Some(_) if c == '\\' => self.is_escaped = true,
            Some(end) if c == end => self.by = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => self.by = Some(c),
            None => return false,
        }
        true
    }
}

/// `text` with `@CID` wherever it has `@FILE` outside of strings, as `name` names the file: up to a comma, a bracket or
/// a space, or in quotes.
pub fn name_files(text: &str, name: &mut dyn FnMut(&str) -> Result<String>) -> Result<String> {
    // What is before the arguments may have the version of an interface in it.
    let from = text.find('(').unwrap_or(text.len());
    let (head, mut rest) = text.split_at(from);
    let (mut named, mut quoted) = (head.to_owned(), Quoted::default());
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        named.push(c);
        rest = after;
        if quoted.passes(c) || c != FILE {
            continue;
        }
        let (path, behind) = path_at(after)?;
        named.push_str(&name(&path)?);
        rest = behind;
    }
    Ok(named)
}

/// The path that `text` begins with, and what is behind it.
fn path_at(text: &str) -> Result<(String, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let ends = |c: char| c.is_whitespace() || ",()[]{}\"".contains(c);
        let (path, behind) = text.split_at(text.find(ends).unwrap_or(text.len()));
        return match path.is_empty() {
            true => Err(no_path()),
            false => Ok((path.to_owned(), behind)),
        };
    };
    let (mut path, mut chars) = (String::new(), inner.chars());
    loop {
        match chars.next().ok_or_else(no_path)? {
            '"' => return Ok((path, chars.as_str())),
            '\\' => path.extend(chars.next()),
            c => path.push(c),
        }
    }
}

fn no_path() -> Error {
    Usage::new("`@` stands before the name of a file")
        .hint("for example `encode(@photo.png)` or `encode(@\"my photo.png\")`")
        .into()
}

/// Gives the value that a place stands for, as one of a type.
type Kept<'k> = dyn FnMut(&Place, &Type) -> Result<Val> + 'k;

/// Reads `(args)` as the parameters of a function, with kept values where they are named.
pub(crate) fn parse_args_with(
    args: &str,
    params: &[(String, Type)],
    wraps: bool,
    kept: &mut Kept<'_>,
) -> Result<Vec<Val>> {
    check_depth(args)?;
    let places = Places::find(args, wraps);
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
    let reader = Reader { args, params, source: &source, places: &places, wraps };
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
    wraps: bool,
}

impl Reader<'_> {
    fn value(&self, node: &Node, ty: &Type, kept: &mut Kept<'_>) -> Result<Val> {
        match self.places.place(node) {
            Some(Place { source: Source::Number(n), .. }) => {
                return number(*n, ty, self.wraps).ok_or_else(|| self.unfit_number(*n, ty));
            }
            Some(place) => return kept(place, ty),
            None => {}
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
        self.unfit_usage().into()
    }

    fn unfit_number(&self, number: u64, ty: &Type) -> Error {
        let usage = self.unfit_usage();
        match super::range_hint(&number.to_string(), std::iter::once(ty)) {
            Some(hint) => usage.hint(hint),
            None => usage,
        }
        .into()
    }

    fn unfit_usage(&self) -> Usage {
        Usage::new(format!("`{}` does not fit `{}`", quote(self.args), show_params(self.params)))
    }
}

/// An argument without a type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Untyped {
    Val(Val),
    /// The bytes of a file. As a list they would take many times their length.
    File(Arc<[u8]>),
}

/// Reads `(args)` without types: numbers from 0 to 2^32, text, lists of bytes, kept values and files.
pub(crate) fn parse_untyped(args: &str, kept: &dyn Fn(&Place) -> Result<Untyped>) -> Result<Vec<Untyped>> {
    check_depth(args)?;
    let places = Places::find(args, false);
    let source = format!("f{}", places.text);
    let call = UntypedFuncCall::parse(&source).map_err(|e| bad_args(args, &[], &e))?;
    let Some(Ok(nodes)) = call.params_node().map(Node::as_tuple) else { return Ok(Vec::new()) };
    let unfit = |_| Error::from(Usage::new(format!("`{}` is not addresses, text and bytes", quote(args))));
    nodes
        .map(|node| {
            let value = match (places.place(node), node.ty()) {
                (Some(Place { source: Source::Number(n), .. }), _) => return Ok(Untyped::Val(small(*n))),
                (Some(place), _) => return kept(place),
                (None, NodeType::Number) => node.as_number::<u32>(&source).map(Val::U32),
                (None, NodeType::List) => {
                    let items = node.as_list().map_err(unfit)?;
                    let bytes = items.map(|n| n.as_number::<u8>(&source).map(Val::U8));
                    bytes.collect::<std::result::Result<_, _>>().map(Val::List)
                }
                _ => node.as_str(&source).map(|text| Val::String(text.into_owned())),
            };
            value.map(Untyped::Val).map_err(unfit)
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

/// The part of a value that a place wants; `None` if it has none.
pub(crate) fn part(of: Of, value: &Val) -> Option<Val> {
    let bits = || integer(value).filter(|_| matches!(value, Val::S64(_) | Val::U64(_))).map(|v| v as u64);
    let number = match of {
        Of::Whole => return Some(value.clone()),
        Of::Len => match value {
            Val::String(text) => text.len() as u64,
            Val::List(items) => items.len() as u64,
            _ => return None,
        },
        Of::High => bits()? >> 32,
        Of::Low => bits()? & u64::from(u32::MAX),
    };
    Some(small(number))
}

fn small(number: u64) -> Val {
    u32::try_from(number).map_or(Val::U64(number), Val::U32)
}

/// A number as one of type `ty`. Core modules have no types without a sign, so one of theirs that `wraps` takes the same
/// bits.
fn number(number: u64, ty: &Type, wraps: bool) -> Option<Val> {
    match ty {
        Type::S32 if wraps => u32::try_from(number).ok().map(|v| Val::S32(v as i32)),
        Type::S64 if wraps => Some(Val::S64(number as i64)),
        Type::Float32 => Some(Val::Float32(number as f32)),
        Type::Float64 => Some(Val::Float64(number as f64)),
        Type::Option(option) => Some(Val::Option(Some(Box::new(self::number(number, &option.ty(), wraps)?)))),
        _ => fit_integer(&Val::U64(number), ty),
    }
}

/// The bytes of a file as a value of type `ty`; `None` if it is of none that has bytes.
pub(crate) fn of_file(bytes: &[u8], ty: &Type) -> Option<std::result::Result<Val, std::str::Utf8Error>> {
    match ty {
        Type::String => Some(std::str::from_utf8(bytes).map(|text| Val::String(text.to_owned()))),
        Type::List(list) if list.ty() == Type::U8 => {
            Some(Ok(Val::List(bytes.iter().map(|byte| Val::U8(*byte)).collect())))
        }
        Type::Option(option) => {
            of_file(bytes, &option.ty()).map(|value| value.map(|value| Val::Option(Some(Box::new(value)))))
        }
        _ => None,
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
        let found = Places::find(text, false);
        (found.text, found.places.into_iter().map(|(at, place)| (at, place.to_string())).collect())
    }

    #[test]
    fn names_are_found_outside_of_strings_only() {
        assert_eq!(places("($a, 1)"), ("(vx, 1)".into(), vec![(1, "$a".into())]));
        assert_eq!(places("(\"$a\", '$', \"\\\"$b\")").1, []);
        assert_eq!(places("([$a_1, $b-c])").1, [(2, "$a_1".to_owned()), (8, "$b-c".to_owned())]);
        assert_eq!(places("($)").1, []);
        assert_eq!(places("(\"ä\", $a)").1, [(7, "$a".to_owned())]);
        let (text, _) = places("($abc)");
        assert_eq!(text.len(), "($abc)".len());
    }

    #[test]
    fn parts_of_values_are_places_too() {
        assert_eq!(
            places("(len($a), hi( $b ))"),
            ("(vxxxxxx, vxxxxxxx)".into(), vec![(1, "len($a)".into()), (10, "hi($b)".into())])
        );
        assert_eq!(
            places("(lo(@bafk2), @bafk2)").1,
            [(1, "lo(@bafk2)".to_owned()), (13, "@bafk2".to_owned())]
        );
        // Of a case that is called so, the payload is a place.
        assert_eq!(places("(strlen($a))").1, [(8, "$a".to_owned())]);
        assert_eq!(places("(len(1), len($a, 1), hi)").1, [(13, "$a".to_owned())]);
        assert_eq!(part(Of::High, &Val::S64(-1)), Some(Val::U32(u32::MAX)));
        assert_eq!(part(Of::Low, &Val::U64(7 << 32 | 5)), Some(Val::U32(5)));
        assert_eq!((part(Of::Low, &Val::U32(5)), part(Of::Len, &Val::U32(5))), (None, None));
        assert_eq!(part(Of::Len, &Val::String("äb".into())), Some(Val::U32(3)));
    }

    #[test]
    fn numbers_are_hexadecimal_and_wrap_where_they_are_of_a_core_module() {
        let one = |text: &str, ty: Type, wraps| {
            let none = &mut |_: &Place, _: &Type| Err(no_path());
            parse_args_with(&format!("({text})"), &[("n".to_owned(), ty)], wraps, none)
                .map(|mut v| v.remove(0))
                .ok()
        };
        assert_eq!(one("0x10", Type::U8, false), Some(Val::U8(16)));
        assert_eq!(one("0xFFFFFFFF", Type::S32, false), None);
        assert_eq!(one("0xFFFFFFFF", Type::S32, true), Some(Val::S32(-1)));
        assert_eq!(one("4294967295", Type::S32, true), Some(Val::S32(-1)));
        assert_eq!(one("4294967296", Type::S32, true), None);
        assert_eq!(one("2147483647", Type::S32, true), Some(Val::S32(i32::MAX)));
        assert_eq!(one("18446744073709551615", Type::S64, true), Some(Val::S64(-1)));
        assert_eq!(one("-2147483648", Type::S32, true), Some(Val::S32(i32::MIN)));
        assert_eq!(one("4294967296", Type::Float64, true), Some(Val::Float64(4_294_967_296.0)));
        assert_eq!(one("4294967296.5", Type::Float64, true), Some(Val::Float64(4_294_967_296.5)));
        for (bad, wraps) in
            [("0x", true), ("0xg", true), ("1x10", true), ("-0x10", true), ("4294967295", false)]
        {
            assert_eq!(one(bad, Type::S32, wraps), None, "{bad}");
        }
    }

    #[test]
    fn files_are_named_outside_of_strings_and_behind_the_first_bracket() {
        let mut paths = Vec::new();
        let mut name = |path: &str| {
            paths.push(path.to_owned());
            Ok(format!("c{}", paths.len()))
        };
        let text = "a:b/c@1.0.0#f(@x.png, [@../y z], \"@no\", @\"two \\\"words\\\"\", len(@q))";
        let named = name_files(text, &mut name).unwrap();
        assert_eq!(named, "a:b/c@1.0.0#f(@c1, [@c2 z], \"@no\", @c3, len(@c4))");
        assert_eq!(paths, ["x.png", "../y", "two \"words\"", "q"]);
        for bad in ["f(@)", "f(@ x)", "f(@\"x)"] {
            assert!(name_files(bad, &mut |_| Ok("c".into())).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kept_value_goes_where_its_name_is() {
        let params = [("a".to_owned(), Type::U32), ("b".to_owned(), Type::String)];
        let mut kept = |place: &Place, ty: &Type| {
            assert_eq!((place.to_string().as_str(), ty), ("$p", &Type::U32));
            Ok(Val::U32(7))
        };
        let values = parse_args_with("($p, \"$p\")", &params, false, &mut kept).unwrap();
        assert_eq!(values, [Val::U32(7), Val::String("$p".into())]);
        for bad in ["($p)", "($p, \"x\", 1)", "($p(1), \"x\")", "({$p}, \"x\")", "($p.x, \"x\")"] {
            assert!(parse_args_with(bad, &params, false, &mut |_, _| Ok(Val::U32(7))).is_err(), "{bad}");
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
        let kept = |_: &Place| Ok(Untyped::Val(Val::S32(9)));
        let values = parse_untyped("(1, \"a\\u{0}\", [1, 2], $p)", &kept).unwrap();
        let bytes = Val::List(vec![Val::U8(1), Val::U8(2)]);
        let expected = [Val::U32(1), Val::String("a\0".into()), bytes, Val::S32(9)];
        assert_eq!(values, expected.map(Untyped::Val));
        for bad in ["(-1)", "(1.5)", "([300])", "(x)", "(some(1))", "(4294967296)"] {
            assert!(parse_untyped(bad, &kept).is_err(), "{bad}");
        }
    }
}

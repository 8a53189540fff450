//! Values of the component model: as WAVE text for people, and in canonical form for records.

use vac_core::canon::Writer;
use vac_core::fault::{Fault, Result, Usage, quote};
use wasm_wave::ast::Node;
use wasm_wave::parser::ParserError;
use wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::{ResourceAny, ResourceType, Type, Val};

use crate::limits::WAVE_DEPTH_MAX;

/// Splits `export(args)` at its first parenthesis. The export may be qualified, as in
/// `ns:pkg/interface#f(1)`.
pub fn split_call(text: &str) -> Result<(&str, &str)> {
    let at = text.find('(').filter(|_| text.ends_with(')'));
    let (name, args) = at.map(|at| text.split_at(at)).unwrap_or((text, ""));
    if args.is_empty() || name.trim().is_empty() {
        return Err(Usage::new(format!("`{}` is not a call: expected `export(args)`", quote(text)))
            .hint("for example `vac call lib.wasm 'add(1, 2)'`; quote it for the shell")
            .into());
    }
    Ok((name.trim(), args))
}

/// Reads `(args)` as the parameters of a function.
pub fn parse_args(args: &str, params: &[(String, Type)]) -> Result<Vec<Val>> {
    // WAVE reads calls of a plain name; ours may be qualified, so it gets a stand-in.
    check_depth(args)?;
    let source = format!("f{args}");
    let call = UntypedFuncCall::parse(&source).map_err(|e| bad_args(args, params, &e))?;
    let given =
        call.params_node().and_then(|node| node.as_tuple().ok().map(Iterator::count)).unwrap_or_default();
    if given > params.len() {
        let message = format!(
            "`{}` has {given} arguments, expected {}: {}",
            quote(args),
            params.len(),
            show_params(params)
        );
        return Err(Usage::new(message).into());
    }
    let types: Vec<Type> = params.iter().map(|(_, ty)| ty.clone()).collect();
    if let Some(Ok(nodes)) = call.params_node().map(Node::as_tuple) {
        nodes.zip(&types).try_for_each(|(node, ty)| check_fields(node, ty, &source))?;
    }
    call.to_wasm_params::<Val>(&types).map_err(|e| bad_args(args, params, &e))
}

/// The reader of WAVE text passes over fields that a record does not have, so that a typo in the
/// name of an optional one would be another call than was meant. Here it is an error.
fn check_fields(node: &Node, ty: &Type, source: &str) -> Result<()> {
    match ty {
        Type::Record(record) => node.as_record(source).into_iter().flatten().try_for_each(|(name, value)| {
            match record.fields().find(|field| field.name == name) {
                Some(field) => check_fields(value, &field.ty, source),
                None => {
                    Err(Usage::new(format!("`{}` is not a field of `{}`", quote(name), show_type(ty))).into())
                }
            }
        }),
        Type::List(list) => {
            node.as_list().into_iter().flatten().try_for_each(|n| check_fields(n, &list.ty(), source))
        }
        Type::Tuple(tuple) => {
            let mut pairs = node.as_tuple().into_iter().flatten().zip(tuple.types());
            pairs.try_for_each(|(node, ty)| check_fields(node, &ty, source))
        }
        // `some(…)` may be left out, and then the value stands for itself.
        Type::Option(option) => match node.as_option() {
            Ok(inner) => inner.map_or(Ok(()), |n| check_fields(n, &option.ty(), source)),
            Err(_) => check_fields(node, &option.ty(), source),
        },
        Type::Result(result) => match node.as_result() {
            Ok(Ok(Some(value))) => result.ok().map_or(Ok(()), |ty| check_fields(value, &ty, source)),
            Ok(Err(Some(value))) => result.err().map_or(Ok(()), |ty| check_fields(value, &ty, source)),
            _ => Ok(()),
        },
        Type::Variant(variant) => match node.as_variant(source) {
            Ok((name, Some(value))) => {
                match variant.cases().find(|case| case.name == name).and_then(|case| case.ty) {
                    Some(ty) => check_fields(value, &ty, source),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The reader of WAVE text calls itself for every level, so a limit keeps it off the stack's end.
fn check_depth(args: &str) -> Result<()> {
    let mut depth = 0usize;
    for c in args.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > WAVE_DEPTH_MAX {
            let message = format!("`{}` is nested deeper than {WAVE_DEPTH_MAX} levels", quote(args));
            return Err(Usage::new(message).into());
        }
    }
    Ok(())
}

/// What the reader of WAVE text calls a type of which it has no values.
const NO_TEXT: &str = "<<UNSUPPORTED>>";

fn bad_args(args: &str, params: &[(String, Type)], error: &ParserError) -> vac_core::fault::Error {
    if error.to_string().contains(NO_TEXT) {
        let message =
            format!("`{}` does not fit `{}`: a handle has no text", quote(args), show_params(params));
        return Usage::new(message)
            .hint("an earlier call can keep one: `c = codec(1)`, and then `$c`; streams and futures cannot be passed")
            .into();
    }
    let start = error.span().start.saturating_sub(1).min(args.len());
    let at = args.get(..start).map_or(start, |before| before.chars().count());
    let message =
        format!("`{}` does not fit `{}`: at character {}: {error}", quote(args), show_params(params), at + 1);
    let end = error.span().end.saturating_sub(1);
    let hint = range::hint(args.get(start..end).unwrap_or_default(), params.iter().map(|(_, ty)| ty));
    let hint = hint.unwrap_or_else(|| {
        "arguments are WAVE text: 1, \"text\", [1, 2], {field: 1}, some(1), ok(1), name-of-case".to_owned()
    });
    Usage::new(message).hint(hint).into()
}

/// What a type of resource is called, if that is known.
type Names<'a> = dyn Fn(&ResourceType) -> Option<String> + 'a;

/// Parameters as a person reads them: `(name: type, …)`.
pub fn show_params(params: &[(String, Type)]) -> String {
    show_params_with(params, &|_| None)
}

pub(crate) fn show_params_with(params: &[(String, Type)], names: &Names<'_>) -> String {
    let mut shown = Shown { text: String::new(), names };
    shown.add_list(("(", ")"), params.iter(), |s, (name, ty)| {
        s.add(name);
        s.add(": ");
        s.add_type(ty);
    });
    shown.finish()
}

/// A type as WIT writes it, records and variants spelled out.
pub fn show_type(ty: &Type) -> String {
    show_type_with(ty, &|_| None)
}

pub(crate) fn show_type_with(ty: &Type, names: &Names<'_>) -> String {
    let mut shown = Shown { text: String::new(), names };
    shown.add_type(ty);
    shown.finish()
}

/// What is shown of a type, or of all parameters of a function: a small program can have one whose text fills all memory.
const TYPE_TEXT_MAX_BYTES: usize = 64 << 10;

/// The text of a type, as far as it has come.
struct Shown<'n> {
    text: String,
    names: &'n Names<'n>,
}

impl Shown<'_> {
    fn finish(mut self) -> String {
        if self.is_long() {
            self.text.truncate(vac_core::fault::cut(&self.text, TYPE_TEXT_MAX_BYTES).len());
            self.text.push('…');
        }
        self.text
    }

    fn is_long(&self) -> bool {
        self.text.len() > TYPE_TEXT_MAX_BYTES
    }

    fn add(&mut self, text: &str) {
        if !self.is_long() {
            self.text.push_str(text);
        }
    }

    /// `begin`, the items with `, ` between them, `end`.
    fn add_list<T>(
        &mut self,
        (begin, end): (&str, &str),
        items: impl Iterator<Item = T>,
        add: impl Fn(&mut Self, T),
    ) {
        self.add(begin);
        for (i, item) in items.enumerate() {
            if self.is_long() {
                return;
            }
            self.add(if i == 0 { "" } else { ", " });
            add(self, item);
        }
        self.add(end);
    }

    fn add_part(&mut self, ty: Option<Type>) {
        match ty {
            Some(ty) => self.add_type(&ty),
            None => self.add("_"),
        }
    }

    fn add_resource(&mut self, begin: &str, ty: &ResourceType) {
        let name = (self.names)(ty);
        self.add(begin);
        self.add(name.as_deref().unwrap_or("resource"));
        self.add(">");
    }

    fn add_type(&mut self, ty: &Type) {
        let names = ("{ ", " }");
        match ty {
            Type::Own(ty) => self.add_resource("own<", ty),
            Type::Borrow(ty) => self.add_resource("borrow<", ty),
            Type::Future(_) => self.add("future"),
            Type::Stream(_) => self.add("stream"),
            Type::ErrorContext => self.add("error-context"),
            Type::List(list) => {
                self.add_list(("list<", ">"), std::iter::once(list.ty()), |s, ty| s.add_type(&ty));
            }
            Type::Option(option) => {
                self.add_list(("option<", ">"), std::iter::once(option.ty()), |s, ty| s.add_type(&ty));
            }
            Type::Result(result) => {
                self.add_list(("result<", ">"), [result.ok(), result.err()].into_iter(), Self::add_part);
            }
            Type::Tuple(tuple) => self.add_list(("tuple<", ">"), tuple.types(), |s, ty| s.add_type(&ty)),
            Type::Record(record) => {
                self.add("record ");
                self.add_list(names, record.fields(), |s, field| {
                    s.add(field.name);
                    s.add(": ");
                    s.add_type(&field.ty);
                });
            }
            Type::Variant(variant) => {
                self.add("variant ");
                self.add_list(names, variant.cases(), |s, case| {
                    s.add(case.name);
                    if let Some(ty) = case.ty {
                        s.add_list(("(", ")"), std::iter::once(ty), |s, ty| s.add_type(&ty));
                    }
                });
            }
            Type::Enum(cases) => {
                self.add("enum ");
                self.add_list(names, cases.names(), Self::add);
            }
            Type::Flags(flags) => {
                self.add("flags ");
                self.add_list(names, flags.names(), Self::add);
            }
            other => self.add(&wasm_wave::wasm::DisplayType(other).to_string()),
        }
    }
}

/// Whether values of this type may have handles in them.
pub(crate) fn has_handles(ty: &Type) -> bool {
    match ty {
        Type::Own(_) | Type::Borrow(_) => true,
        Type::List(list) => has_handles(&list.ty()),
        Type::Option(option) => has_handles(&option.ty()),
        Type::Result(result) => [result.ok(), result.err()].into_iter().flatten().any(|ty| has_handles(&ty)),
        Type::Tuple(tuple) => tuple.types().any(|ty| has_handles(&ty)),
        Type::Record(record) => record.fields().any(|field| has_handles(&field.ty)),
        Type::Variant(variant) => variant.cases().filter_map(|case| case.ty).any(|ty| has_handles(&ty)),
        _ => false,
    }
}

/// A value as WAVE text. A handle has none.
pub fn show(value: &Val) -> Result<String> {
    wasm_wave::to_string(value)
        .map_err(|e| Fault { kind: "value", message: format!("the result has no text form: {e}") }.into())
}

/// A value as WAVE text, handles as `names` has them.
pub(crate) fn show_with(value: &Val, names: &dyn Fn(&ResourceAny) -> String) -> Result<String> {
    if !has_handle(value) {
        return show(value);
    }
    let each = |values: &[Val]| -> Result<String> {
        let shown: Vec<String> = values.iter().map(|v| show_with(v, names)).collect::<Result<_>>()?;
        Ok(shown.join(", "))
    };
    let payload = |word: &str, value: &Option<Box<Val>>| match value {
        Some(value) => Ok(format!("{word}({})", show_with(value, names)?)),
        None => Ok(word.to_owned()),
    };
    match value {
        Val::Resource(any) => Ok(names(any)),
        Val::List(values) | Val::FixedLengthList(values) => Ok(format!("[{}]", each(values)?)),
        Val::Tuple(values) => Ok(format!("({})", each(values)?)),
        Val::Record(fields) => {
            let fields = fields.iter().map(|(name, v)| Ok(format!("{name}: {}", show_with(v, names)?)));
            Ok(format!("{{{}}}", fields.collect::<Result<Vec<_>>>()?.join(", ")))
        }
        Val::Variant(name, value) => payload(name, value),
        Val::Option(value) => payload("some", value),
        Val::Result(Ok(value)) => payload("ok", value),
        Val::Result(Err(value)) => payload("err", value),
        other => show(other),
    }
}

fn has_handle(value: &Val) -> bool {
    matches!(value, Val::Resource(_)) || parts(value).into_iter().any(has_handle)
}

/// The values that a value is made of.
pub(crate) fn parts(value: &Val) -> Vec<&Val> {
    match value {
        Val::List(values) | Val::FixedLengthList(values) => match values.first() {
            // Bytes and numbers have no parts, and there may be many.
            Some(Val::U8(_) | Val::U16(_) | Val::U32(_) | Val::Float32(_) | Val::Float64(_)) => Vec::new(),
            _ => values.iter().collect(),
        },
        Val::Tuple(values) => values.iter().collect(),
        Val::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
        Val::Record(fields) => fields.iter().map(|(_, value)| value).collect(),
        Val::Variant(_, Some(value)) | Val::Option(Some(value)) => vec![value],
        Val::Result(Ok(Some(value)) | Err(Some(value))) => vec![value],
        _ => Vec::new(),
    }
}

/// Results as WAVE text: nothing, a value, or a tuple.
pub fn show_results(results: &[Val]) -> Result<String> {
    match results {
        [] => Ok(String::new()),
        [one] => show(one),
        many => show(&Val::Tuple(many.to_vec())),
    }
}

/// Appends the canonical form of `values`, as an array. A handle has none, and is null.
pub fn put_values(values: &[Val], to: &mut Writer) {
    put_values_with(values, &|_| None, to);
}

/// Appends the canonical form of `values`, as an array. A handle is its number.
pub(crate) fn put_values_with(
    values: &[Val],
    numbers: &dyn Fn(&ResourceAny) -> Option<u64>,
    to: &mut Writer,
) {
    to.array(values.len());
    values.iter().for_each(|value| put(value, numbers, to));
}

/// The same, with `bytes` as the last value.
pub(crate) fn put_values_and_bytes(
    values: &[Val],
    bytes: &[u8],
    numbers: &dyn Fn(&ResourceAny) -> Option<u64>,
    to: &mut Writer,
) {
    to.array(values.len() + 1);
    values.iter().for_each(|value| put(value, numbers, to));
    if bytes.is_empty() { to.array(0) } else { to.byte_string(bytes) }
}

/// The form is that of [`crate::wire`]; names of fields are left out, names of cases are kept.
/// A float is its bits, four or eight bytes, least significant first.
fn put(value: &Val, numbers: &dyn Fn(&ResourceAny) -> Option<u64>, to: &mut Writer) {
    let put_values = |values: &[Val], to: &mut Writer| put_values_with(values, numbers, to);
    let put = |value: &Val, to: &mut Writer| put(value, numbers, to);
    let optional = |value: &Option<Box<Val>>, to: &mut Writer| match value {
        None => to.null(),
        Some(value) => {
            to.array(1);
            put(value, to);
        }
    };
    match value {
        Val::Bool(v) => to.bool(*v),
        Val::S8(v) => to.int(i64::from(*v)),
        Val::U8(v) => to.uint(u64::from(*v)),
        Val::S16(v) => to.int(i64::from(*v)),
        Val::U16(v) => to.uint(u64::from(*v)),
        Val::S32(v) => to.int(i64::from(*v)),
        Val::U32(v) => to.uint(u64::from(*v)),
        Val::S64(v) => to.int(*v),
        Val::U64(v) => to.uint(*v),
        Val::Float32(v) => to.byte_string(&v.to_bits().to_le_bytes()),
        Val::Float64(v) => to.byte_string(&v.to_bits().to_le_bytes()),
        Val::Char(v) => to.text(v.encode_utf8(&mut [0; 4])),
        Val::String(v) => to.text(v),
        Val::List(v) | Val::FixedLengthList(v) => match bytes_of(v) {
            Some(bytes) => to.byte_string(&bytes),
            None => put_values(v, to),
        },
        Val::Tuple(v) => put_values(v, to),
        Val::Map(v) => {
            to.array(v.len());
            for (key, value) in v {
                to.array(2);
                put(key, to);
                put(value, to);
            }
        }
        Val::Record(fields) => {
            to.array(fields.len());
            fields.iter().for_each(|(_, value)| put(value, to));
        }
        Val::Variant(name, payload) => {
            to.array(2);
            to.text(name);
            optional(payload, to);
        }
        Val::Enum(name) => to.text(name),
        Val::Option(v) => optional(v, to),
        Val::Result(v) => {
            to.array(2);
            to.uint(u64::from(v.is_err()));
            match v {
                Ok(v) | Err(v) => optional(v, to),
            }
        }
        Val::Flags(names) => {
            to.array(names.len());
            names.iter().for_each(|name| to.text(name));
        }
        Val::Resource(any) => match numbers(any) {
            Some(number) => to.uint(number),
            None => to.null(),
        },
        Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => to.null(),
    }
}

/// A list of bytes that is not empty, as bytes. An empty list is the empty array, whatever it is of.
fn bytes_of(list: &[Val]) -> Option<Vec<u8>> {
    if list.is_empty() {
        return None;
    }
    list.iter().map(|v| if let Val::U8(byte) = v { Some(*byte) } else { None }).collect()
}

mod field;
mod kept;
mod range;
mod read;

pub use field::Field;
pub(crate) use field::no_result;
pub(crate) use range::hint as range_hint;

pub use read::read_values;

pub use kept::name_files;
pub(crate) use kept::{
    Of, Place, Places, Source, Unfit, Untyped, as_bytes, as_u32, fit, is_name, of_file, parse_args_with,
    parse_untyped, part,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_split_at_its_first_parenthesis() {
        assert_eq!(split_call("add(1, 2)").unwrap(), ("add", "(1, 2)"));
        assert_eq!(split_call("a:b/c#f((1))").unwrap(), ("a:b/c#f", "((1))"));
        for bad in ["add", "add(", "(1)", "", "add)"] {
            assert!(split_call(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_that_is_nested_too_deep_is_refused() {
        let deep = format!("({}", "[".repeat(100_000));
        assert!(parse_args(&deep, &[("n".to_owned(), Type::U8)]).is_err());
    }

    #[test]
    fn arguments_must_fit_and_the_error_says_where() {
        let params = [("n".to_owned(), Type::U8), ("s".to_owned(), Type::String)];
        assert_eq!(parse_args("(1, \"x\")", &params).unwrap(), [Val::U8(1), Val::String("x".into())]);
        for bad in ["(256, \"x\")", "(1)", "(1, \"x\", 2)", "(\"x\", 1)", "(1, \"x)", "(1 \"x\")", "()"] {
            let text = parse_args(bad, &params).unwrap_err().to_string();
            assert!(text.contains("(n: u8, s: string)"), "{text}");
        }
    }
}

//! Several calls in one instance: `[name =] callee(args)`, where `$name` stands for a kept result.
//!
//! | typed | means |
//! |---|---|
//! | `add(1, 2)`, `ns:pkg/interface#add(1, 2)` | an export |
//! | `codec("…")` | the constructor of a resource |
//! | `codec.make("…")` | a function of a resource |
//! | `$c.encode([1])` | a method of the resource that is kept as `c` |
//! | `memory.write(…)` and others | the memory of a core module, see [`crate::memory`] |
//! | `encode(@CID)` | the bytes of a file, see [`Files`] |
//! | `len($x)`, `hi($x)`, `lo($x)` | in arguments: how long it is, the halves of its 64 bits |
//!
//! What can be checked before anything runs is checked then: [`prepare`] finds every name.
//!
//! Invariant: a handle is only ever one that the guest gave, of this very instance; its number is
//! that of its coming.

use std::collections::BTreeMap;
use std::sync::Arc;

use vac_core::canon::{Reader, Writer};
use vac_core::caps::raise;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, Fault, HostAbort, Result, Usage, cut, quote, quote_line};
use wasmtime::component::{ResourceAny, ResourceType, Type, Val};

use crate::engine::{Compiled, Engine};
use crate::inspect::{self, Export};
use crate::instance::Instance;
use crate::limits::{CALLS_MAX, FILES_MAX_BYTES};
use crate::memory::Memory;
use crate::nearest::nearest;
use crate::value::{self, Field, Of, Place, Places, Source, Untyped};

/// Begins the names of what reaches the memory of a core module.
const MEMORY: &str = "memory.";

/// A call that was read and whose names are known.
pub struct Call {
    /// As it was typed.
    pub text: String,
    /// The name that its result is kept under.
    pub keep: Option<String>,
    callee: Callee,
    /// The arguments, `(…)`, with the receiver of a method as the first.
    args: String,
    /// Their values, if none of them is of an earlier call or of a file.
    values: Option<Vec<Val>>,
    /// One of them is of an earlier call.
    needs_kept: bool,
}

enum Callee {
    Export(Export),
    /// A method of what is kept under a name.
    Method {
        receiver: String,
        method: String,
    },
    Memory(Access),
}

/// What can be done with a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Text,
    U32,
    Write,
    Put,
    Put32,
}

impl Access {
    const ALL: [(&'static str, Self, &'static str); 6] = [
        ("memory.read", Self::Read, "(address: u32, length: u32)"),
        ("memory.text", Self::Text, "(address: u32) or (address: u32, length: u32)"),
        ("memory.u32", Self::U32, "(address: u32)"),
        ("memory.write", Self::Write, "(address: u32, bytes: string or list<u8>)"),
        ("memory.put", Self::Put, "(text: string or list<u8>)"),
        ("memory.put32", Self::Put32, "(word: u32, …)"),
    ];

    fn row(self) -> (&'static str, &'static str) {
        let row = Self::ALL.iter().find(|(_, access, _)| *access == self);
        row.map_or(("memory", ""), |(name, _, params)| (name, params))
    }
}

/// A call with its arguments at hand.
pub struct Ready {
    /// The export, in full.
    pub export: String,
    /// The arguments,
    pub args: Vec<Val>,
    /// and the last of an access to memory, if it is bytes: as a value they would take many times their length.
    bytes: Option<Arc<[u8]>>,
    what: What,
}

/// Files of the operator's whose bytes calls take, by the CIDs that stand for them. None is a grant: they were read
/// before anything ran.
#[derive(Debug, Clone, Default)]
pub struct Files {
    bytes: BTreeMap<String, Arc<[u8]>>,
    /// What the operator typed for them. For people alone: no record knows the name of a file.
    typed: BTreeMap<String, String>,
    transfer_max_bytes: u64,
}

impl Files {
    /// None, of which one call may take so much.
    pub fn within(transfer_max_bytes: u64) -> Self {
        Self { transfer_max_bytes, ..Self::default() }
    }

    /// Adds one, and returns what it is called.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<Cid> {
        let cid = Cid::of_raw(&bytes);
        self.bytes.insert(cid.to_string(), bytes.into());
        let all = self.all().fold(0, |sum: u64, bytes| sum.saturating_add(bytes.len() as u64));
        if all > FILES_MAX_BYTES {
            let message =
                format!("the files of all calls have {all} bytes; a run takes at most {FILES_MAX_BYTES}");
            return Err(HostAbort::new(AbortKind::Quota, message).into());
        }
        Ok(cid)
    }

    /// Adds one that was typed as `path`.
    pub fn add_typed(&mut self, path: &str, bytes: Vec<u8>) -> Result<Cid> {
        let cid = self.add(bytes)?;
        self.typed.entry(cid.to_string()).or_insert_with(|| path.to_owned());
        Ok(cid)
    }

    /// An error for a person, who knows the files by what was typed. What is recorded of it has their CIDs.
    pub fn as_typed(&self, error: Error) -> Error {
        let hint = |hint: Option<String>| hint.map(|hint| self.typed_in(&hint));
        match error {
            Error::Usage(Usage { message, hint: of }) => {
                let typed = self.typed_in(&message);
                // Places are counted in the text that has CIDs.
                let typed = if typed == message { message } else { without_place(&typed) };
                Usage { message: typed, hint: hint(of) }.into()
            }
            Error::Abort(abort) => {
                HostAbort { message: self.typed_in(&abort.message), hint: hint(abort.hint), ..abort }.into()
            }
            Error::Fault(fault) => Fault { message: self.typed_in(&fault.message), ..fault }.into(),
            other => other,
        }
    }

    /// `text` with what was typed in the place of each CID, also of one that was cut off.
    fn typed_in(&self, text: &str) -> String {
        let (mut typed, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('@') {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
            let (word, behind) = after.split_at(end);
            let is_cut = behind.starts_with('…') && word.len() > CID_PREFIX_LEN;
            let is_it = |cid: &str| cid == word || is_cut && cid.starts_with(word);
            // What several may have been, nobody can tell.
            let mut all = self.typed.iter().filter(|(cid, _)| is_it(cid));
            let found = all.next().filter(|_| all.next().is_none());
            let name = found.map_or_else(|| word.to_owned(), |(_, path)| quote(path));
            typed.extend([before, "@", &name]);
            rest = behind;
        }
        typed + rest
    }

    /// All of them, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.values().map(|bytes| &**bytes)
    }

    fn get(&self, name: &str) -> Result<&Arc<[u8]>> {
        let none = || Usage::new(format!("there is no file `@{}`", quote(name)));
        self.bytes.get(name).ok_or_else(|| none().into())
    }

    /// A file as a value of type `ty`, of a call that may take `left` more. A list takes a value of the engine's for each byte.
    fn fit(&self, place: &str, name: &str, ty: &Type, left: &mut u64) -> Result<Val> {
        let bytes = self.get(name)?;
        let wanted = (bytes.len() as u64).saturating_mul(match ty {
            Type::String => 1,
            _ => size_of::<Val>() as u64,
        });
        let Some(rest) = left.checked_sub(wanted) else {
            let message = format!(
                "`{place}` takes {wanted} bytes as {}; the limit is {}, of which {left} are left",
                value::show_type(ty),
                self.transfer_max_bytes
            );
            return Err(HostAbort::new(AbortKind::Quota, message).hint(raise("transfer")).into());
        };
        *left = rest;
        match value::of_file(bytes, ty) {
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) => {
                let message = format!("`{place}` is not UTF-8, so it is no string");
                Err(Usage::new(message).hint("bytes can be passed as `list<u8>`").into())
            }
            None => {
                let message = format!("`{place}` is a file, expected {}", value::show_type(ty));
                let hint =
                    format!("a file is passed as `string` or `list<u8>`; `len({place})` is its length");
                Err(Usage::new(message).hint(hint).into())
            }
        }
    }

    /// How long a file is.
    fn len(&self, name: &str) -> Result<Val> {
        let len = self.get(name)?.len() as u64;
        Ok(u32::try_from(len).map_or(Val::U64(len), Val::U32))
    }
}

/// How the CIDs of all files begin.
const CID_PREFIX_LEN: usize = "bafkr4i".len();

/// A message of [`value::parse_args`] without the place of what is wrong.
fn without_place(message: &str) -> String {
    let place = message.split_once(": at character ");
    match place.and_then(|(before, after)| Some((before, after.split_once(": ")?.1))) {
        Some((before, why)) => {
            // What reads the text says where, too.
            let why =
                why.rsplit_once(" at ").filter(|(_, span)| span.contains("..")).map_or(why, |(why, _)| why);
            format!("{before}: {why}")
        }
        None => message.to_owned(),
    }
}

enum What {
    Export,
    Memory(Access),
}

/// Reads all calls and finds what they name, before anything runs.
pub fn prepare(engine: &Engine, compiled: &Compiled, texts: &[String], files: &Files) -> Result<Vec<Call>> {
    if texts.len() > CALLS_MAX {
        let message = format!("{} calls are more than the {CALLS_MAX} that one run makes", texts.len());
        return Err(Usage::new(message).into());
    }
    let mut names: Vec<String> = Vec::new();
    let mut calls = Vec::new();
    for text in texts {
        let call = prepare_one(engine, compiled, text, (&names, files))?;
        names.extend(call.keep.clone());
        calls.push(call);
    }
    Ok(calls)
}

fn prepare_one(
    engine: &Engine,
    compiled: &Compiled,
    text: &str,
    (names, files): (&[String], &Files),
) -> Result<Call> {
    let (keep, callee, args) = split(text)?;
    let wraps = is_bare(compiled);
    let places = Places::find(args, wraps);
    places.names().try_for_each(|name| known(name, names))?;
    places.all().try_for_each(|place| check_place(place, files))?;
    let (callee, args) = match callee.strip_prefix('$') {
        Some(method) => {
            let (receiver, method) = method.split_once('.').ok_or_else(|| no_method(callee))?;
            known(receiver, names)?;
            any_method(engine, compiled, method)?;
            let inner = args.get(1..).unwrap_or_default();
            let comma = if inner.trim_start() == ")" { "" } else { ", " };
            let args = format!("(${receiver}{comma}{inner}");
            (Callee::Method { receiver: receiver.to_owned(), method: method.to_owned() }, args)
        }
        None => (find(engine, compiled, callee)?, args.to_owned()),
    };
    let values = match &callee {
        Callee::Export(export) if places.all().next().is_none() => {
            Some(value::parse_args(&args, &export.params)?)
        }
        Callee::Export(export) if places.names().next().is_none() => {
            // What a call takes of files is made when it comes: all calls at once would need what no limit bounds.
            drop(with_files(&mut Kept::default(), &args, &export.params, wraps, files)?);
            None
        }
        _ => None,
    };
    let needs_kept = places.names().next().is_some();
    if let Callee::Memory(access) = &callee {
        memory_args(*access, &args, &|place| match &place.source {
            Source::Kept(_) => Ok(Untyped::Val(Val::U32(0))),
            _ => Kept::default().untyped(place, files),
        })?;
    }
    Ok(Call { text: text.to_owned(), keep: keep.map(str::to_owned), callee, args, values, needs_kept })
}

/// Arguments with values in the places of kept ones and of files, of which all together take no more than one call may.
fn with_files(
    kept: &mut Kept,
    args: &str,
    params: &[(String, Type)],
    wraps: bool,
    files: &Files,
) -> Result<Vec<Val>> {
    let mut left = files.transfer_max_bytes;
    value::parse_args_with(args, params, wraps, &mut |place, ty| kept.fit(place, ty, files, &mut left))
}

/// Whether what stands in arguments can be there, as far as that is known before anything runs.
fn check_place(place: &Place, files: &Files) -> Result<()> {
    let Source::File(name) = &place.source else { return Ok(()) };
    files.get(name)?;
    match place.of {
        Of::Whole | Of::Len => Ok(()),
        Of::High | Of::Low => Err(Usage::new(format!("`{place}` is half of no number: it is a file")).into()),
    }
}

/// The name to keep, the callee and the arguments.
fn split(text: &str) -> Result<(Option<&str>, &str, &str)> {
    let (head, args) = value::split_call(text.trim())?;
    let Some((keep, callee)) = head.split_once('=') else { return Ok((None, head, args)) };
    let (keep, callee) = (keep.trim(), callee.trim());
    if !value::is_name(keep) || callee.is_empty() {
        let message = format!("`{}` is not a name to keep a result under", quote(keep));
        return Err(Usage::new(message).hint("for example `c = codec(\"{}\")`, and then `$c`").into());
    }
    Ok((Some(keep), callee, args))
}

fn known(name: &str, names: &[String]) -> Result<()> {
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let usage = Usage::new(format!("nothing was kept as `{}` before it is used", quote(name)));
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => usage.hint(format!("did you mean `${near}`?")),
        None => usage.hint("`name = export(args)` keeps the result of an earlier call"),
    }
    .into())
}

fn no_method(callee: &str) -> Error {
    Usage::new(format!("`{}` is not a method: expected `$name.method(args)`", quote(callee))).into()
}

/// Refuses what no run could do, before one: to keep the result of a call that gives none, and to take the bytes of a last
/// one that has none. Records that do are older, and replay to the same end.
pub fn check_results(
    engine: &Engine,
    compiled: &Compiled,
    calls: &[Call],
    wanted: Option<&Field>,
) -> Result<()> {
    for call in calls.iter().filter(|call| call.keep.is_some()) {
        if gives(engine, compiled, call).iter().all(|gives| !gives.can_be_kept()) {
            let message = format!("`{}` gives nothing that could be kept", quote(&call.text));
            return Err(Usage::new(message).hint("leave the name and the `=` out").into());
        }
    }
    let (Some(field), Some(last)) = (wanted, calls.last()) else { return Ok(()) };
    let checks = gives(engine, compiled, last).into_iter().map(|gives| gives.check(field));
    // A method that several resources have may be that of one whose result will do.
    checks.reduce(|one, other| one.or(other)).unwrap_or(Ok(()))
}

/// What a call gives.
enum Gives {
    Nothing,
    /// A value of a type, or what [`Access`] gives.
    Value(Type),
    Bytes,
}

impl Gives {
    fn of(results: &[Type]) -> Self {
        results.first().map_or(Self::Nothing, |ty| Self::Value(ty.clone()))
    }

    fn can_be_kept(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Value(Type::Result(result)) => result.ok().is_some(),
            Self::Value(_) | Self::Bytes => true,
        }
    }

    fn check(&self, field: &Field) -> Result<()> {
        match self {
            Self::Nothing => Err(value::no_result()),
            Self::Value(ty) => field.check(ty),
            Self::Bytes => field.check(&Type::String),
        }
    }
}

/// What a call may give: of a method that several resources have, one for each.
fn gives(engine: &Engine, compiled: &Compiled, call: &Call) -> Vec<Gives> {
    match &call.callee {
        Callee::Export(export) => vec![Gives::of(&export.results)],
        Callee::Method { method, .. } => {
            let exports = inspect::exports(engine, compiled).iter();
            let meant = exports.filter(|e| method_of(inspect::last_part(&e.name)) == Some(method));
            meant.map(|export| Gives::of(&export.results)).collect()
        }
        Callee::Memory(Access::Read | Access::Text) => vec![Gives::Bytes],
        Callee::Memory(Access::Write) => vec![Gives::Nothing],
        Callee::Memory(Access::U32 | Access::Put | Access::Put32) => vec![Gives::Value(Type::U32)],
    }
}

/// Whether any resource has this method: which one is meant is known when the receiver is.
fn any_method(engine: &Engine, compiled: &Compiled, method: &str) -> Result<()> {
    let exports = inspect::exports(engine, compiled);
    let methods: Vec<&str> = exports.iter().filter_map(|e| method_of(inspect::last_part(&e.name))).collect();
    if methods.contains(&method) {
        return Ok(());
    }
    let is_static = |name: &&str| name.split_once('.').is_some_and(|(_, own)| own == method);
    let statics = exports.iter().filter_map(|e| inspect::last_part(&e.name).strip_prefix("[static]"));
    Err(match statics.into_iter().find(is_static) {
        Some(found) => {
            let message = format!("`{}` is no method but a function of its resource", quote(method));
            Usage::new(message).hint(format!("`{}(…)` calls it", quote(found))).into()
        }
        None => no_such_method(method, &methods),
    })
}

/// The method's name, without that of its resource.
fn method_of(name: &str) -> Option<&str> {
    name.strip_prefix("[method]")?.split_once('.').map(|(_, method)| method)
}

fn no_such_method(method: &str, methods: &[&str]) -> Error {
    let usage = Usage::new(format!("there is no method `{}`", quote(method)));
    let hint = match nearest(method, methods.iter().copied()) {
        Some(near) => format!("did you mean `{}`?", quote(near)),
        None if methods.is_empty() => "this program exports no methods".into(),
        None => {
            let listed: Vec<_> = methods.iter().take(8).map(|m| format!("`{}`", quote(m))).collect();
            format!("there are {}", listed.join(", "))
        }
    };
    usage.hint(hint).into()
}

fn find(engine: &Engine, compiled: &Compiled, callee: &str) -> Result<Callee> {
    let found = inspect::find_function(engine, compiled, callee);
    if found.is_ok() || !callee.starts_with(MEMORY) || !has_memory(compiled) {
        return found.map(Callee::Export);
    }
    match Access::ALL.iter().find(|(name, ..)| *name == callee) {
        Some((_, access, _)) => Ok(Callee::Memory(*access)),
        None => {
            let names: Vec<_> = Access::ALL.iter().map(|(name, ..)| format!("`{name}`")).collect();
            let usage = Usage::new(format!("there is no `{}`", quote(callee)));
            Err(usage.hint(format!("there are {}", names.join(", "))).into())
        }
    }
}

fn has_memory(compiled: &Compiled) -> bool {
    compiled.core.as_ref().is_some_and(|core| core.memory.is_some() && !core.has_world)
}

/// Whether it is a core module whose functions are called as they are.
fn is_bare(compiled: &Compiled) -> bool {
    compiled.core.as_ref().is_some_and(|core| !core.has_world)
}

/// A handle that the guest gave.
struct Handle {
    any: ResourceAny,
    /// Whether the guest has it back.
    moved: bool,
}

/// What the calls of one instance have given so far.
#[derive(Default)]
pub struct Kept {
    values: Vec<(String, Val)>,
    handles: Vec<Handle>,
    /// The types of resources that the program exports, in full.
    types: Vec<(ResourceType, String)>,
}

impl Kept {
    /// Looks up the arguments of `call`. Before the first call there is no instance, and no argument
    /// is of an earlier one.
    pub fn ready(
        &mut self,
        engine: &Engine,
        compiled: &Compiled,
        instance: Option<&mut Instance>,
        (call, files): (&Call, &Files),
    ) -> Result<Ready> {
        let (export, what) = match &call.callee {
            Callee::Export(export) => (export.name.clone(), What::Export),
            Callee::Method { receiver, method } => {
                (self.method(engine, compiled, receiver, method)?, What::Export)
            }
            Callee::Memory(access) => {
                let (args, bytes) = memory_args(*access, &call.args, &|place| self.untyped(place, files))?;
                return Ok(Ready { export: access.row().0.into(), args, bytes, what: What::Memory(*access) });
            }
        };
        let args = match (&call.values, &call.callee, instance) {
            (Some(values), ..) => values.clone(),
            (None, Callee::Export(export), _) if !call.needs_kept => {
                with_files(self, &call.args, &export.params, is_bare(compiled), files)?
            }
            (None, _, Some(instance)) => {
                let found = inspect::find_function(engine, compiled, &export)?;
                let callee = instance.callee(found.index())?;
                let params = instance.params(&callee);
                with_files(self, &call.args, &params, is_bare(compiled), files)?
            }
            (None, _, None) => return Err(Usage::new("the first call has nothing to refer to").into()),
        };
        Ok(Ready { export, args, bytes: None, what })
    }

    /// Makes a call. Handles among its results are this table's from now on.
    pub fn perform(&mut self, engine: &Engine, instance: &mut Instance, ready: &Ready) -> Result<Vec<Val>> {
        if self.types.is_empty() {
            self.types = instance.resource_types(engine);
        }
        let results = match ready.what {
            What::Export => instance.call(engine, &ready.export, &ready.args)?,
            What::Memory(access) => access_memory(engine, instance, access, ready)?,
        };
        let mut given = Vec::new();
        results.iter().for_each(|value| handles_in(value, &mut given));
        self.handles.extend(given.into_iter().map(|any| Handle { any, moved: false }));
        Ok(results)
    }

    /// Whether the guest gave any handle, here or given back.
    pub fn has_handles(&self) -> bool {
        !self.handles.is_empty()
    }

    /// What the record of a call says that it gave. Only for what has no handles in it.
    pub fn recorded(
        &self,
        engine: &Engine,
        compiled: &Compiled,
        ready: &Ready,
        from: &mut Reader<'_>,
    ) -> Result<Vec<Val>> {
        match ready.what {
            What::Export => {
                let found = inspect::find_function(engine, compiled, &ready.export)?;
                Ok(value::read_values(from, &found.results)?)
            }
            What::Memory(access) => Ok(recorded_access(access, from)?),
        }
    }

    /// Keeps what `call` gave. Of a result, what is in its `ok`.
    pub fn keep(&mut self, call: &Call, results: &[Val]) -> Result<()> {
        let Some(name) = &call.keep else { return Ok(()) };
        let value = match results.first() {
            Some(Val::Result(Ok(Some(value)))) => (**value).clone(),
            Some(Val::Result(Ok(None))) | None => {
                let message = format!("`{}` gave nothing that could be kept", quote(&call.text));
                return Err(Fault { kind: "value", message }.into());
            }
            Some(error @ Val::Result(Err(_))) => {
                let shown = self.show(error)?;
                let message = format!("`{}` gave {}", quote(&call.text), quote_line(cut(&shown, 1000)));
                return Err(Fault { kind: "value", message }.into());
            }
            Some(value) => value.clone(),
        };
        self.values.retain(|(known, _)| known != name);
        self.values.push((name.clone(), value));
        Ok(())
    }

    /// A value as text; a handle as what it is and its number.
    pub fn show(&self, value: &Val) -> Result<String> {
        value::show_with(value, &|any| self.name_of(any))
    }

    /// Appends the canonical form of `values`; a handle is its number.
    pub fn put(&self, values: &[Val], to: &mut Writer) {
        value::put_values_with(values, &|any| self.number(any), to);
    }

    /// Appends the canonical form of the arguments of a call. Bytes have the form of a list of them.
    pub fn put_args(&self, ready: &Ready, to: &mut Writer) {
        match &ready.bytes {
            None => self.put(&ready.args, to),
            Some(bytes) => value::put_values_and_bytes(&ready.args, bytes, &|any| self.number(any), to),
        }
    }

    /// Numbers of the handles that are still here, the newest first: the order in which they end.
    pub fn open_handles(&self) -> Vec<u64> {
        let numbered = (1..).zip(&self.handles);
        let mut open: Vec<u64> = numbered.filter(|(_, handle)| !handle.moved).map(|(n, _)| n).collect();
        open.reverse();
        open
    }

    /// Gives up every handle that is still here, the newest first.
    pub fn drop_all(&mut self, instance: &mut Instance) -> Result<()> {
        while let Some(handle) = self.handles.pop() {
            if !handle.moved {
                instance.drop_resource(handle.any)?;
            }
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Result<&Val> {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| {
            Usage::new(format!("nothing was kept as `{}` before it is used", quote(name))).into()
        })
    }

    /// What stands for a value, as one of type `ty`.
    fn fit(&mut self, place: &Place, ty: &Type, files: &Files, left: &mut u64) -> Result<Val> {
        let name = place.to_string();
        let value = match &place.source {
            Source::File(file) if place.of == Of::Whole => return files.fit(&name, file, ty, left),
            Source::File(file) => files.len(file)?,
            _ => self.part(place)?,
        };
        self.fit_value(&name, &value, ty)
    }

    /// What stands for a value of no type.
    fn untyped(&self, place: &Place, files: &Files) -> Result<Untyped> {
        match &place.source {
            Source::File(file) if place.of == Of::Whole => files.get(file).cloned().map(Untyped::File),
            Source::File(file) => files.len(file).map(Untyped::Val),
            _ => self.part(place).map(Untyped::Val),
        }
    }

    /// What of a kept value a place wants.
    fn part(&self, place: &Place) -> Result<Val> {
        let Source::Kept(name) = &place.source else { return Ok(Val::U32(0)) };
        let value = self.value(name)?;
        match value::part(place.of, value) {
            Some(part) => Ok(part),
            None => {
                let wanted = match place.of {
                    Of::High | Of::Low => "a number of 64 bits",
                    _ => "text or a list",
                };
                let shown = self.show(value)?;
                let message = format!("`{place}`: `${name}` is {}, not {wanted}", quote(cut(&shown, 100)));
                Err(Usage::new(message).into())
            }
        }
    }

    /// `value`, which a user calls `name`, as one of type `ty`. A handle that is given away is marked.
    fn fit_value(&mut self, name: &str, value: &Val, ty: &Type) -> Result<Val> {
        let mut handles = Vec::new();
        let fits = value::fit(value, ty, &mut |any, ty| self.fit_handle(*any, ty, &mut handles));
        let fitted = fits.map_err(|why| -> Error {
            let message = match why {
                value::Unfit::Type => {
                    let shown = self.show(value).unwrap_or_default();
                    format!("`{name}` is {}, expected {}", quote(&shown), self.show_type(ty))
                }
                value::Unfit::Moved(number) => {
                    format!("`{name}` is handle #{number}, which was given away and cannot be used again")
                }
            };
            let usage = Usage::new(message);
            let shown = self.show(value).unwrap_or_default();
            match value::range_hint(&shown, std::iter::once(ty)).filter(|_| why == value::Unfit::Type) {
                Some(hint) => usage.hint(hint),
                None => usage,
            }
            .into()
        })?;
        for number in handles {
            if let Some(handle) = self.handles.get_mut(number) {
                handle.moved = true;
            }
        }
        Ok(fitted)
    }

    /// A call of `export` with these arguments. Handles among them are of this table.
    pub fn ready_with(
        &mut self,
        engine: &Engine,
        compiled: &Compiled,
        instance: Option<&mut Instance>,
        export: &str,
        mut args: Vec<Val>,
    ) -> Result<Ready> {
        if let Some(instance) = instance {
            let found = inspect::find_function(engine, compiled, export)?;
            let callee = instance.callee(found.index())?;
            for ((name, ty), arg) in instance.params(&callee).into_iter().zip(&mut args) {
                *arg = self.fit_value(&name, arg, &ty)?;
            }
        }
        Ok(Ready { export: export.to_owned(), args, bytes: None, what: What::Export })
    }

    /// The handle with this number, as a value.
    pub fn handle(&self, number: u64) -> Option<Val> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.handles.get(at).map(|handle| Val::Resource(handle.any))
    }

    /// The number of a handle.
    pub fn number_of(&self, value: &Val) -> Option<u64> {
        match value {
            Val::Resource(any) => self.number(any),
            _ => None,
        }
    }

    /// Whether a handle may be passed as `ty`. If it is given away, its place goes to `given`.
    fn fit_handle(
        &self,
        any: ResourceAny,
        ty: &Type,
        given: &mut Vec<usize>,
    ) -> std::result::Result<(), value::Unfit> {
        let (is_own, expected) = match ty {
            Type::Own(expected) => (true, expected),
            Type::Borrow(expected) => (false, expected),
            _ => return Err(value::Unfit::Type),
        };
        if any.ty() != *expected {
            return Err(value::Unfit::Type);
        }
        let place = self.handles.iter().rposition(|h| h.any == any).ok_or(value::Unfit::Type)?;
        let moved = self.handles.get(place).is_some_and(|handle| handle.moved);
        if moved || given.contains(&place) {
            return Err(value::Unfit::Moved(place as u64 + 1));
        }
        if is_own {
            given.push(place);
        }
        Ok(())
    }

    fn show_type(&self, ty: &Type) -> String {
        value::show_type_with(ty, &|resource| type_name(&self.types, resource).map(plain))
    }

    fn number(&self, any: &ResourceAny) -> Option<u64> {
        self.handles.iter().rposition(|handle| handle.any == *any).map(|at| at as u64 + 1)
    }

    fn name_of(&self, any: &ResourceAny) -> String {
        let number = self.number(any).unwrap_or_default();
        match type_name(&self.types, &any.ty()) {
            Some(name) => format!("<resource {} #{number}>", plain(name)),
            None => format!("<resource #{number}>"),
        }
    }

    /// The export behind `$receiver.method`.
    fn method(&self, engine: &Engine, compiled: &Compiled, receiver: &str, method: &str) -> Result<String> {
        let value = self.value(receiver)?;
        self.method_of(engine, compiled, &format!("${receiver}"), value, method)
    }

    /// The export that is the method `method` of `value`, which a user calls `name`.
    pub fn method_of(
        &self,
        engine: &Engine,
        compiled: &Compiled,
        name: &str,
        value: &Val,
        method: &str,
    ) -> Result<String> {
        let Val::Resource(any) = value else {
            let message = format!("`{name}` is {}, not a resource", quote(&self.show(value)?));
            return Err(Usage::new(message).into());
        };
        let exports = inspect::exports(engine, compiled);
        let resources = self.types.iter().filter(|(ty, _)| *ty == any.ty());
        let prefixes: Vec<String> = resources.map(|(_, name)| method_prefix(name)).collect();
        let methods: Vec<(&str, &str)> = exports
            .iter()
            .filter_map(|e| {
                prefixes.iter().find_map(|p| Some((e.name.as_str(), e.name.strip_prefix(p.as_str())?)))
            })
            .collect();
        // Scripts have no hyphens in names, and C has no methods.
        match methods.iter().find(|(_, name)| *name == method || name.replace('-', "_") == method) {
            Some((export, _)) => Ok((*export).to_owned()),
            None => Err(no_such_method(method, &methods.iter().map(|(_, name)| *name).collect::<Vec<_>>())),
        }
    }
}

/// What the names of the methods of `resource` begin with.
fn method_prefix(resource: &str) -> String {
    match resource.rsplit_once('#') {
        Some((interface, name)) => format!("{interface}#[method]{name}."),
        None => format!("[method]{resource}."),
    }
}

fn type_name<'t>(types: &'t [(ResourceType, String)], ty: &ResourceType) -> Option<&'t str> {
    types.iter().find(|(known, _)| known == ty).map(|(_, name)| name.as_str())
}

fn plain(name: &str) -> String {
    quote(inspect::last_part(name))
}

fn handles_in(value: &Val, found: &mut Vec<ResourceAny>) {
    if let Val::Resource(any) = value {
        found.push(*any);
    }
    value::parts(value).into_iter().for_each(|part| handles_in(part, found));
}

/// The arguments of an access to memory, checked, and the bytes if it has some.
type MemoryArgs = (Vec<Val>, Option<Arc<[u8]>>);

fn memory_args(access: Access, args: &str, kept: &dyn Fn(&Place) -> Result<Untyped>) -> Result<MemoryArgs> {
    let (name, params) = access.row();
    let wrong = || {
        let message = format!("`{}` does not fit `{name}{params}`", quote(args));
        Error::from(Usage::new(message))
    };
    // What is wrong with a place says more than that the whole does not fit.
    let failed = std::cell::RefCell::new(None);
    let given = value::parse_untyped(args, &|place| {
        kept(place).map_err(|error| {
            failed.replace(Some(error));
            wrong()
        })
    });
    let given = given.map_err(|_| failed.take().unwrap_or_else(wrong))?;
    let address = |value: &Untyped| match value {
        Untyped::Val(value) => value::as_u32(value).map(Val::U32).ok_or_else(wrong),
        Untyped::File(_) => Err(wrong()),
    };
    // While the names are checked, every kept value is a number.
    let data = |at: Vec<Val>, value: &Untyped| match value {
        Untyped::File(bytes) => Ok((at, Some(Arc::clone(bytes)))),
        Untyped::Val(value @ (Val::String(_) | Val::U32(_))) => {
            Ok(([at, vec![value.clone()]].concat(), None))
        }
        Untyped::Val(other) => Ok((at, Some(value::as_bytes(other).ok_or_else(wrong)?.into()))),
    };
    match (access, given.as_slice()) {
        (Access::Read, [at, len]) | (Access::Text, [at, len]) => {
            Ok((vec![address(at)?, address(len)?], None))
        }
        (Access::Text | Access::U32, [at]) => Ok((vec![address(at)?], None)),
        (Access::Write, [at, bytes]) => data(vec![address(at)?], bytes),
        (Access::Put, [bytes]) => data(Vec::new(), bytes),
        (Access::Put32, words @ [_, ..]) => Ok((words.iter().map(address).collect::<Result<_>>()?, None)),
        _ => Err(wrong()),
    }
}

fn bytes_value(bytes: &[u8]) -> Val {
    Val::List(bytes.iter().map(|b| Val::U8(*b)).collect())
}

fn access_memory(
    engine: &Engine,
    instance: &mut Instance,
    access: Access,
    ready: &Ready,
) -> Result<Vec<Val>> {
    let numbers: Vec<u32> = ready.args.iter().filter_map(value::as_u32).collect();
    let bytes = match &ready.bytes {
        Some(bytes) => Some(bytes.to_vec()),
        None => ready.args.last().and_then(text_of),
    };
    match (access, numbers.as_slice(), bytes) {
        (Access::Read, [at, len], _) => Ok(vec![bytes_value(&Memory::of(instance)?.read(*at, *len)?)]),
        (Access::Text, [at, len], _) => text(Memory::of(instance)?.read(*at, *len)?),
        (Access::Text, [at], _) => text(Memory::of(instance)?.read_to_zero(*at)?),
        (Access::U32, [at], _) => {
            let bytes = Memory::of(instance)?.read(*at, 4)?;
            Ok(bytes.try_into().map(|word| vec![Val::U32(u32::from_le_bytes(word))]).unwrap_or_default())
        }
        (Access::Write, [at], Some(bytes)) => {
            Memory::of(instance)?.write(*at, &bytes)?;
            Ok(Vec::new())
        }
        (Access::Put, [], Some(mut bytes)) => {
            bytes.push(0);
            let at = allocate(engine, instance, bytes.len())?;
            Memory::of(instance)?.write(at, &bytes)?;
            Ok(vec![Val::U32(at)])
        }
        (Access::Put32, words, _) => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let at = allocate(engine, instance, bytes.len())?;
            Memory::of(instance)?.write(at, &bytes)?;
            Ok(vec![Val::U32(at)])
        }
        _ => Err(Usage::new("expected text or bytes, and an address from 0 to 4294967295").into()),
    }
}

/// The results of [`access_memory`], from their canonical form.
fn recorded_access(access: Access, from: &mut Reader<'_>) -> Result<Vec<Val>, Corrupt> {
    from.nested(|r| {
        let len = r.array()?;
        let value = match access {
            Access::Write => return if len == 0 { Ok(Vec::new()) } else { Err(r.wrong("nothing", len)) },
            _ if len != 1 => return Err(r.wrong("one result", len)),
            Access::Text => Val::String(r.text()?.to_owned()),
            Access::Read => match r.byte_string() {
                Ok(bytes) => bytes_value(bytes),
                // No bytes are an empty list.
                Err(_) => r.array_of(0).map(|()| bytes_value(&[]))?,
            },
            Access::U32 | Access::Put | Access::Put32 => {
                let word = r.uint()?;
                Val::U32(u32::try_from(word).map_err(|_| r.wrong("a number of 32 bits", word))?)
            }
        };
        Ok(vec![value])
    })
}

fn text_of(value: &Val) -> Option<Vec<u8>> {
    match value {
        Val::String(text) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

fn text(bytes: Vec<u8>) -> Result<Vec<Val>> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(vec![Val::String(text)]),
        Err(_) => {
            let message = "what is there is not UTF-8; `memory.read` gives the bytes".to_owned();
            Err(Fault { kind: "memory", message }.into())
        }
    }
}

/// A function that gives a module room: its name, and what it is called with.
struct Allocator {
    name: &'static str,
    args: &'static [Arg],
    /// What keeps the room from being collected, if the module exports it.
    pin: Option<&'static str>,
}

/// An argument of an allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arg {
    Len,
    Is(i32),
}

/// Those of one argument, which is the length.
const LEN: &[Arg] = &[Arg::Len];

/// The usual ones of C and of Rust.
const USUAL: [&str; 3] = ["malloc", "alloc", "allocate"];

/// Others, the first that there is: of plain names that makers choose, of wasm-bindgen (whose second
/// argument is an alignment), of AssemblyScript (whose second is a class: 1 is an ArrayBuffer) and of what is to become a
/// component.
const ALLOCATORS: [Allocator; 11] = [
    plain_allocator("wasm_malloc"),
    plain_allocator("wasm_alloc"),
    plain_allocator("my_malloc"),
    plain_allocator("_malloc"),
    plain_allocator("__malloc"),
    plain_allocator("allocate_memory"),
    plain_allocator("alloc_bytes"),
    Allocator { name: "__wbindgen_malloc", args: &[Arg::Len, Arg::Is(1)], pin: None },
    Allocator { name: "__new", args: &[Arg::Len, Arg::Is(1)], pin: Some("__pin") },
    Allocator { name: "__alloc", args: &[Arg::Len, Arg::Is(1)], pin: Some("__retain") },
    Allocator { name: "cabi_realloc", args: &[Arg::Is(0), Arg::Is(0), Arg::Is(1), Arg::Len], pin: None },
];

const fn plain_allocator(name: &'static str) -> Allocator {
    Allocator { name, args: LEN, pin: None }
}

/// Whether a function takes as many addresses as `args`, and gives one.
fn gives_room(export: &Export, args: &[Arg]) -> bool {
    export.params.len() == args.len()
        && export.params.iter().all(|(_, ty)| *ty == Type::S32)
        && export.results.as_slice() == [Type::S32]
}

/// One with a usual name, or the only one whose name ends like one, as `png_alloc` does, or else one that a toolchain makes.
/// The first two as always, the first in the order of exports: a record says which room it gave.
fn allocator(exports: &[Export]) -> Option<(&Export, &'static [Arg], Option<&'static str>)> {
    let plain = || exports.iter().filter(|e| gives_room(e, LEN));
    let usual = plain().find(|e| USUAL.contains(&e.name.as_str()));
    let mut alike = plain().filter(|e| e.name.ends_with("_alloc") || e.name.ends_with("_malloc"));
    let only = alike.next().filter(|_| alike.next().is_none());
    usual.or(only).map(|found| (found, LEN, None)).or_else(|| {
        ALLOCATORS.iter().find_map(|known| {
            let found = exports.iter().find(|e| e.name == known.name && gives_room(e, known.args))?;
            Some((found, known.args, known.pin))
        })
    })
}

/// Room for `len` bytes, from the module's own allocator.
fn allocate(engine: &Engine, instance: &mut Instance, len: usize) -> Result<u32> {
    let program = Arc::clone(instance.program());
    let exports = inspect::exports(engine, &program);
    let Some((found, args, pin)) = allocator(exports) else {
        let usage = Usage::new(
            "this module exports no allocator: `malloc(s32) -> s32`, `alloc`, `allocate`, `…_alloc`, \
             `__wbindgen_malloc`, `__new` or `cabi_realloc`",
        );
        return Err(usage.hint("`memory.write(address, …)` writes to an address that you know").into());
    };
    let size = i32::try_from(len).map_err(|_| Usage::new("this is more than a memory holds"))?;
    let args: Vec<Val> = args
        .iter()
        .map(|arg| match arg {
            Arg::Len => Val::S32(size),
            Arg::Is(value) => Val::S32(*value),
        })
        .collect();
    let at = match instance.call_index(found.index(), &args)?.first() {
        Some(Val::S32(at)) if *at != 0 => *at,
        _ => {
            let message = format!("the module has no room for {len} bytes");
            return Err(Fault { kind: "memory", message }.into());
        }
    };
    // What is pinned may be somewhere else.
    let pinned = pin.and_then(|name| exports.iter().find(|e| e.name == name && gives_room(e, LEN)));
    match pinned.map(|pin| instance.call_index(pin.index(), &[Val::S32(at)])).transpose()? {
        Some(results) => match results.first() {
            Some(Val::S32(at)) => Ok(*at as u32),
            _ => Ok(at as u32),
        },
        None => Ok(at as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is as long as one call may take; a header could have named a thousand of them.
    #[test]
    fn the_files_of_a_run_have_a_limit_together() {
        let mut files = Files::within(u64::MAX);
        let mut add = |byte| files.add(vec![byte; 256 << 20]);
        assert!((0..4).all(|byte| add(byte).is_ok()));
        let refused = add(4).unwrap_err().to_string();
        assert!(refused.contains("have 1342177280 bytes; a run takes at most 1073741824"), "{refused}");
    }

    #[test]
    fn a_call_has_a_name_a_callee_and_arguments() {
        assert_eq!(split("f(1)").unwrap(), (None, "f", "(1)"));
        assert_eq!(split(" p = malloc(16) ").unwrap(), (Some("p"), "malloc", "(16)"));
        assert_eq!(split("r=$c.encode(\"a = b\")").unwrap(), (Some("r"), "$c.encode", "(\"a = b\")"));
        for bad in ["= f(1)", "1a = f()", "a b = f()", "p = (1)", "a = b = f()x", "$a = f()"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn methods_are_named_after_their_resource() {
        assert_eq!(method_prefix("a:b/c@1.0.0#codec"), "a:b/c@1.0.0#[method]codec.");
        assert_eq!(method_prefix("codec"), "[method]codec.");
    }
}

//! From the canonical form of the record to what the canonical ABI has in memory.
//!
//! The form has no types in it; the types are those of the program's imports. Most types have one form, that of
//! [`crate::wire`]. A few variants have one of their own, which [`form_of`] knows by their names.

use std::net::{IpAddr, SocketAddr};

use vac_core::canon::Reader;
use vac_core::fault::{Corrupt, Error, Result};
use wit_parser::{Case, Flags, Handle, Int, Type, TypeDefKind, TypeId, TypeOwner, Variant};

use super::image::Image;
use super::world::Needs;

/// A handle that the player makes while it runs: where its number belongs, and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) at: u32,
    pub(super) resource: u32,
    pub(super) rep: u32,
}

/// How the record writes a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The number of the case; no case has a payload.
    Number,
    /// `[number, text]`, the text being empty where there is no payload.
    NumberAndText,
    /// `[name]` or `[name, payload]`.
    Name,
    /// `[name, null]` or `[name, [payload]]`.
    NameAndOption,
    /// Null for the last case, `[payload]` for the first.
    Option,
    /// A word: the name of a case in capitals, or what the last case holds.
    Capitals,
    /// The same with the name in small letters.
    Small,
    /// The text of an address.
    Ip,
    /// The text of an address and port, and flow information.
    IpAndPort,
}

/// Variants with a form of their own.
const FORMS: [(&str, Form); 11] = [
    ("wasi:io/streams#stream-error", Form::Option),
    ("wasi:http/types#error-code", Form::Name),
    ("wasi:http/types#method", Form::Capitals),
    ("wasi:http/types#scheme", Form::Small),
    ("wasi:sockets/network#ip-address", Form::Ip),
    ("wasi:sockets/network#ip-socket-address", Form::IpAndPort),
    ("wasi:config/store#error", Form::NumberAndText),
    ("wasi:config/runtime#config-error", Form::NumberAndText),
    ("wasi:config/runtime#error", Form::NumberAndText),
    ("wasi:keyvalue/store#error", Form::NumberAndText),
    ("vac:kernel/files#error", Form::NameAndOption),
];

/// Which form values have: of imports, that of [`crate::wire`]; of typed calls, that of [`crate::value`], which
/// writes the names of cases and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    ByTypes,
    ByNames,
}

/// Puts values into an image.
pub(super) struct Lowering<'a> {
    pub(super) needs: &'a Needs,
    pub(super) image: &'a mut Image,
    pub(super) written: Written,
    /// Handles that are to be made.
    pub(super) patches: &'a mut Vec<Patch>,
}

impl Lowering<'_> {
    /// Puts the next value of `from` at `at`.
    pub(super) fn value(&mut self, from: &mut Reader<'_>, ty: &Type, at: u32) -> Result<()> {
        match ty {
            Type::Bool => self.image.put(at, &[u8::from(from.bool()?)]),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                let len = self.needs.sizes.size(ty).size_wasm32();
                let number = from.uint()?;
                if len < 8 && number >> (8 * len) != 0 {
                    return Err(from.wrong(format!("a number of {len} bytes"), number).into());
                }
                self.low_bytes(at, number, len);
            }
            Type::S8 | Type::S16 | Type::S32 | Type::S64 => {
                let len = self.needs.sizes.size(ty).size_wasm32();
                self.low_bytes(at, from.int()?.cast_unsigned(), len);
            }
            Type::String => self.bytes(from.text()?.as_bytes(), at)?,
            Type::Id(id) => self.defined(from, self.needs.origin(*id), at)?,
            Type::F32 | Type::F64 => {
                let bits = from.byte_string()?;
                if bits.len() != self.needs.sizes.size(ty).size_wasm32() {
                    return Err(from.wrong("the bits of a float", format!("{} bytes", bits.len())).into());
                }
                self.image.put(at, bits);
            }
            Type::Char => {
                let text = from.text()?;
                let mut chars = text.chars();
                let (Some(char), None) = (chars.next(), chars.next()) else {
                    return Err(from.wrong("one character", format!("{} bytes", text.len())).into());
                };
                self.image.put_u32(at, u32::from(char));
            }
            Type::ErrorContext => return Err(no_form(from, "a context of errors")),
        }
        Ok(())
    }

    fn defined(&mut self, from: &mut Reader<'_>, id: TypeId, at: u32) -> Result<()> {
        let needs = self.needs;
        let Some(def) = needs.resolve.types.get(id) else { return Ok(()) };
        match &def.kind {
            TypeDefKind::Type(ty) => self.value(from, ty, at),
            TypeDefKind::Record(record) => self.fields(from, record.fields.iter().map(|f| &f.ty), at),
            TypeDefKind::Tuple(tuple) => self.fields(from, tuple.types.iter(), at),
            TypeDefKind::List(ty) => self.list(from, ty, at),
            TypeDefKind::Flags(flags) => self.flags(from, flags, id, at),
            TypeDefKind::Enum(cases) => {
                let case = match self.written {
                    Written::ByTypes => number_below(from, cases.cases.len())?,
                    Written::ByNames => named(from, cases.cases.iter().map(|case| case.name.as_str()))?,
                };
                self.tag(at, cases.tag(), case);
                Ok(())
            }
            TypeDefKind::Option(ty) => {
                if from.null()? {
                    return Ok(());
                }
                from.array_of(1)?;
                self.case(from, at, Int::U8, &[None, Some(ty)], 1)
            }
            TypeDefKind::Result(result) => {
                from.array_of(2)?;
                let case = number_below(from, 2)?;
                let cases = [result.ok.as_ref(), result.err.as_ref()];
                let has_payload = cases.get(case as usize).copied().flatten().is_some();
                match (self.written, has_payload) {
                    (Written::ByTypes, true) => {}
                    (Written::ByTypes, false) => from.array_of(0)?,
                    (Written::ByNames, true) => from.array_of(1)?,
                    (Written::ByNames, false) => drop(from.null()?),
                }
                self.case(from, at, Int::U8, &cases, case)
            }
            TypeDefKind::Variant(variant) => self.variant(from, variant, id, at),
            TypeDefKind::Handle(handle) => self.handle(from, handle, at),
            _ => Err(no_form(from, def.kind.as_str())),
        }
    }

    /// The fields of a record, in an array.
    pub(super) fn fields<'t>(
        &mut self,
        from: &mut Reader<'_>,
        types: impl ExactSizeIterator<Item = &'t Type>,
        at: u32,
    ) -> Result<()> {
        from.array_of(types.len())?;
        for (offset, ty) in self.needs.sizes.field_offsets(types) {
            self.value(from, ty, at.saturating_add(offset.size_wasm32() as u32))?;
        }
        Ok(())
    }

    fn list(&mut self, from: &mut Reader<'_>, ty: &Type, at: u32) -> Result<()> {
        if matches!(ty, Type::U8) {
            return match (from.byte_string(), self.written) {
                (Ok(bytes), _) => self.bytes(bytes, at),
                (Err(why), Written::ByTypes) => Err(why.into()),
                // By names, a list without items is an array whatever it is of.
                (Err(_), Written::ByNames) => Ok(from.array_of(0)?),
            };
        }
        let (len, sizes) = (from.array()?, &self.needs.sizes);
        let (size, align) = (sizes.size(ty).size_wasm32(), sizes.align(ty).align_wasm32());
        // Every item has a byte in the record at least.
        if len > from.left() {
            return Err(from.wrong("a list", format!("{len} items in {} bytes", from.left())).into());
        }
        let items = self.image.room(size.saturating_mul(len), align)?;
        for item in 0..len {
            self.value(from, ty, items.saturating_add((item * size) as u32))?;
        }
        self.pointer(at, items, len);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], at: u32) -> Result<()> {
        let to = self.image.keep(bytes)?;
        self.pointer(at, to, bytes.len());
        Ok(())
    }

    fn pointer(&mut self, at: u32, to: u32, len: usize) {
        self.image.put_u32(at, to);
        self.image.put_u32(at.saturating_add(4), len as u32);
    }

    fn flags(&mut self, from: &mut Reader<'_>, flags: &Flags, id: TypeId, at: u32) -> Result<()> {
        let bits = match self.written {
            Written::ByTypes => from.uint()?,
            Written::ByNames => named_flags(from, flags)?,
        };
        if flags.flags.len() > 32 || bits >> flags.flags.len() != 0 {
            return Err(from.wrong(format!("bits of {} flags", flags.flags.len()), bits).into());
        }
        let len = self.needs.sizes.size(&Type::Id(id)).size_wasm32();
        self.low_bytes(at, bits, len);
        Ok(())
    }

    /// Of an argument, what the guest's handle stands for; of an answer, the handle is made later.
    fn handle(&mut self, from: &mut Reader<'_>, handle: &Handle, at: u32) -> Result<()> {
        let rep = from.uint()?;
        let Ok(rep) = u32::try_from(rep) else { return Err(from.wrong("a handle", rep).into()) };
        match self.needs.resource(handle) {
            Some((resource, true)) => self.patches.push(Patch { at, resource, rep }),
            Some((_, false)) => self.image.put_u32(at, rep),
            None => return Err(no_form(from, "a handle of another interface")),
        }
        Ok(())
    }

    fn low_bytes(&mut self, at: u32, number: u64, len: usize) {
        self.image.put(at, number.to_le_bytes().get(..len).unwrap_or_default());
    }

    fn tag(&mut self, at: u32, tag: Int, case: u32) {
        let len = match tag {
            Int::U8 => 1,
            Int::U16 => 2,
            Int::U32 | Int::U64 => 4,
        };
        self.low_bytes(at, u64::from(case), len);
    }

    /// A case, and its payload if it has one.
    fn case(
        &mut self,
        from: &mut Reader<'_>,
        at: u32,
        tag: Int,
        cases: &[Option<&Type>],
        case: u32,
    ) -> Result<()> {
        self.tag(at, tag, case);
        match cases.get(case as usize).copied().flatten() {
            Some(ty) => self.value(from, ty, self.payload(at, tag, cases)),
            None => Ok(()),
        }
    }

    fn payload(&self, at: u32, tag: Int, cases: &[Option<&Type>]) -> u32 {
        let offset = self.needs.sizes.payload_offset(tag, cases.iter().copied());
        at.saturating_add(offset.size_wasm32() as u32)
    }

    fn variant(&mut self, from: &mut Reader<'_>, variant: &Variant, id: TypeId, at: u32) -> Result<()> {
        let cases: Vec<Option<&Type>> = variant.cases.iter().map(|case| case.ty.as_ref()).collect();
        let tag = variant.tag();
        let form = match self.written {
            Written::ByTypes => form_of(self.needs, id, variant),
            Written::ByNames => Some(Form::NameAndOption),
        };
        match form {
            Some(Form::Number) => {
                let case = number_below(from, cases.len())?;
                self.case(from, at, tag, &cases, case)
            }
            Some(Form::NumberAndText) => {
                from.array_of(2)?;
                let case = number_below(from, cases.len())?;
                if cases.get(case as usize).copied().flatten().is_none() {
                    from.text()?;
                }
                self.case(from, at, tag, &cases, case)
            }
            Some(Form::Name) => {
                from.array()?;
                let case = case_named(from, variant)?;
                self.case(from, at, tag, &cases, case)
            }
            Some(Form::NameAndOption) => {
                from.array_of(2)?;
                let case = case_named(from, variant)?;
                if !from.null()? {
                    from.array_of(1)?;
                }
                self.case(from, at, tag, &cases, case)
            }
            Some(Form::Option) if from.null()? => {
                self.tag(at, tag, 1);
                Ok(())
            }
            Some(Form::Option) => {
                from.array_of(1)?;
                self.case(from, at, tag, &cases, 0)
            }
            Some(Form::Capitals) => self.word(from, variant, str::to_ascii_uppercase, at),
            Some(Form::Small) => self.word(from, variant, str::to_ascii_lowercase, at),
            Some(Form::Ip) => {
                let ip = parsed::<IpAddr>(from, "an address")?;
                self.tag(at, tag, u32::from(ip.is_ipv6()));
                self.ip(ip, self.payload(at, tag, &cases));
                Ok(())
            }
            Some(Form::IpAndPort) => self.ip_and_port(from, at, self.payload(at, tag, &cases)),
            None => Err(no_form(from, variant_name(self.needs, id))),
        }
    }

    fn word(
        &mut self,
        from: &mut Reader<'_>,
        variant: &Variant,
        letters: fn(&str) -> String,
        at: u32,
    ) -> Result<()> {
        let word = from.text()?;
        let is = |case: &Case| case.ty.is_none() && letters(&case.name) == word;
        let (tag, cases) =
            (variant.tag(), variant.cases.iter().map(|case| case.ty.as_ref()).collect::<Vec<_>>());
        match variant.cases.iter().position(is) {
            Some(case) => self.tag(at, tag, case as u32),
            None => {
                self.tag(at, tag, cases.len().saturating_sub(1) as u32);
                let payload = self.payload(at, tag, &cases);
                self.bytes(word.as_bytes(), payload)?;
            }
        }
        Ok(())
    }

    /// Four bytes, or eight words.
    fn ip(&mut self, ip: IpAddr, at: u32) {
        match ip {
            IpAddr::V4(ip) => self.image.put(at, &ip.octets()),
            IpAddr::V6(ip) => {
                self.image.put(at, &ip.segments().map(u16::to_le_bytes).concat());
            }
        }
    }

    /// Records `{port, address}` and `{port, flow-info, address, scope-id}`.
    fn ip_and_port(&mut self, from: &mut Reader<'_>, at: u32, payload: u32) -> Result<()> {
        from.array_of(2)?;
        let address = parsed::<SocketAddr>(from, "an address with a port")?;
        let flow = from.uint()? as u32;
        self.tag(at, Int::U8, u32::from(address.is_ipv6()));
        self.image.put(payload, &address.port().to_le_bytes());
        match address {
            SocketAddr::V4(v4) => self.ip(IpAddr::V4(*v4.ip()), payload.saturating_add(2)),
            SocketAddr::V6(v6) => {
                self.image.put_u32(payload.saturating_add(4), flow);
                self.ip(IpAddr::V6(*v6.ip()), payload.saturating_add(8));
                self.image.put_u32(payload.saturating_add(24), v6.scope_id());
            }
        }
        Ok(())
    }
}

/// How the record writes a variant, if that is known.
fn form_of(needs: &Needs, id: TypeId, variant: &Variant) -> Option<Form> {
    if variant.cases.iter().all(|case| case.ty.is_none()) {
        return Some(Form::Number);
    }
    let name = variant_name(needs, id);
    FORMS.into_iter().find(|(known, _)| *known == name).map(|(_, form)| form)
}

/// The name of a type with its interface, without a version.
fn variant_name(needs: &Needs, id: TypeId) -> String {
    let Some(def) = needs.resolve.types.get(id) else { return String::new() };
    let TypeOwner::Interface(interface) = def.owner else { return "a variant".to_owned() };
    let interface = needs.resolve.id_of(interface).unwrap_or_default();
    let bare = interface.split('@').next().unwrap_or_default();
    format!("{bare}#{}", def.name.as_deref().unwrap_or_default())
}

fn case_named(from: &mut Reader<'_>, variant: &Variant) -> Result<u32, Corrupt> {
    named(from, variant.cases.iter().map(|case| case.name.as_str()))
}

/// The number of a name.
fn named<'n>(from: &mut Reader<'_>, mut names: impl Iterator<Item = &'n str>) -> Result<u32, Corrupt> {
    let name = from.text()?;
    let number = names.position(|known| known == name);
    number
        .map(|number| number as u32)
        .ok_or_else(|| from.wrong("a name that the type has", format!("`{}`", vac_core::fault::quote(name))))
}

/// The bits of flags that are written by their names.
fn named_flags(from: &mut Reader<'_>, flags: &Flags) -> Result<u64, Corrupt> {
    let mut bits = 0;
    for _ in 0..from.array()? {
        bits |= 1_u64.wrapping_shl(named(from, flags.flags.iter().map(|flag| flag.name.as_str()))?);
    }
    Ok(bits)
}

fn number_below(from: &mut Reader<'_>, end: usize) -> Result<u32, Corrupt> {
    let number = from.uint()?;
    let case = u32::try_from(number).ok().filter(|case| (*case as usize) < end);
    case.ok_or_else(|| from.wrong(format!("a number below {end}"), number))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    from: &mut Reader<'_>,
    what: &str,
) -> Result<T, Corrupt> {
    let text = from.text()?;
    text.parse().map_err(|e| from.wrong(what, e))
}

/// A type that nothing in a record has.
fn no_form(from: &Reader<'_>, what: impl std::fmt::Display) -> Error {
    from.wrong("a type that can be recorded", what).into()
}

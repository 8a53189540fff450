//! The canonical form of what crosses the wall.
//!
//! A function's arguments are the array of their forms. A list of bytes is a byte string, an
//! option is null or `[x]`, a result is `[0, ok]` or `[1, error]`, an enum its number from 0, a
//! record the array of its fields, flags their bits, and a handle the number the guest gave or got.

use vac_core::canon::{Decode, Encode, Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::Resource;

use crate::piece::Form;

/// A type that crosses the wall and can be recorded.
///
/// It is not [`Encode`] itself only because handles are another crate's type.
pub trait Wire: Sized {
    /// Appends the canonical form.
    fn put(&self, to: &mut Writer);
    /// Reads the canonical form.
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt>;

    /// Tells `each` the number of each handle in it, and whether it is owned.
    fn handles(&self, _each: &mut dyn FnMut(u32, bool)) {}

    /// The canonical form, if it is in memory already and can be shared.
    fn form(&self) -> Option<Form> {
        None
    }

    /// The canonical form of `Ok` of this, if it is in memory already and can be shared.
    fn form_as_ok(&self) -> Option<Form> {
        None
    }

    /// What a guest gets from a function that it calls on a handle that was revoked. Where there is
    /// nothing that says so, the call ends the guest.
    fn revoked() -> Option<Self> {
        None
    }

    /// Appends a list.
    fn put_list(items: &[Self], to: &mut Writer) {
        to.array(items.len());
        items.iter().for_each(|item| item.put(to));
    }
    /// Reads a list.
    fn read_list(from: &mut Reader<'_>) -> Result<Vec<Self>, Corrupt> {
        from.nested(|r| {
            let len = r.array()?;
            let mut items = Vec::with_capacity(len.min(r.left()));
            for _ in 0..len {
                items.push(Self::read(r)?);
            }
            Ok(items)
        })
    }
}

macro_rules! as_encoded {
    ($($ty:ty),*) => {$(
        impl Wire for $ty {
            fn put(&self, to: &mut Writer) {
                self.encode(to);
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
                Self::decode(from)
            }
            fn put_list(items: &[Self], to: &mut Writer) {
                Self::encode_list(items, to);
            }
            fn read_list(from: &mut Reader<'_>) -> Result<Vec<Self>, Corrupt> {
                Self::decode_list(from)
            }
        }
    )*};
}
as_encoded!(u8, u16, u32, u64, i64, bool, String, ());

impl<T: Wire> Wire for Vec<T> {
    fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
        self.iter().for_each(|item| item.handles(each));
    }
    fn put(&self, to: &mut Writer) {
        T::put_list(self, to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        T::read_list(from)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
        self.iter().for_each(|value| value.handles(each));
    }
    fn put(&self, to: &mut Writer) {
        match self {
            None => to.null(),
            Some(value) => {
                to.array(1);
                value.put(to);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        if from.null()? {
            return Ok(None);
        }
        from.nested(|r| {
            r.array_of(1)?;
            T::read(r).map(Some)
        })
    }
    fn revoked() -> Option<Self> {
        T::revoked().map(Some)
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
        match self {
            Ok(value) => value.handles(each),
            Err(error) => error.handles(each),
        }
    }
    fn put(&self, to: &mut Writer) {
        to.array(2);
        to.uint(u64::from(self.is_err()));
        match self {
            Ok(value) => value.put(to),
            Err(error) => error.put(to),
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.nested(|r| {
            r.array_of(2)?;
            match r.uint()? {
                0 => T::read(r).map(Ok),
                1 => E::read(r).map(Err),
                n => Err(r.wrong("0 or 1", n)),
            }
        })
    }
    fn form(&self) -> Option<Form> {
        self.as_ref().ok()?.form_as_ok()
    }
    fn revoked() -> Option<Self> {
        E::revoked().map(Err)
    }
}

/// A handle is the number that crosses. Read back, it is owned: only a result carries one.
impl<T: 'static> Wire for Resource<T> {
    fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
        each(self.rep(), self.owned());
    }
    fn put(&self, to: &mut Writer) {
        to.uint(u64::from(self.rep()));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        u32::decode(from).map(Self::new_own)
    }
}

macro_rules! tuples {
    ($($len:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Wire),*> Wire for ($($name,)*) {
            fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
                #[expect(non_snake_case, reason = "type parameters name the fields too")]
                let ($($name,)*) = self;
                $($name.handles(each);)*
            }
            fn put(&self, to: &mut Writer) {
                to.array($len);
                #[expect(non_snake_case, reason = "type parameters name the fields too")]
                let ($($name,)*) = self;
                $($name.put(to);)*
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
                from.nested(|r| {
                    r.array_of($len)?;
                    Ok(($($name::read(r)?,)*))
                })
            }
        }
    )*};
}
tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
}

/// Records: the array of the fields, as named.
macro_rules! record {
    ($ty:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::Wire for $ty {
            fn handles(&self, each: &mut dyn FnMut(u32, bool)) {
                $($crate::wire::Wire::handles(&self.$field, each);)*
            }
            fn put(&self, to: &mut vac_core::canon::Writer) {
                to.array([$(stringify!($field)),*].len());
                $($crate::wire::Wire::put(&self.$field, to);)*
            }
            fn read(from: &mut vac_core::canon::Reader<'_>) -> Result<Self, vac_core::fault::Corrupt> {
                from.nested(|r| {
                    r.array_of([$(stringify!($field)),*].len())?;
                    Ok(Self { $($field: $crate::wire::Wire::read(r)?),* })
                })
            }
        }
    };
}
pub(crate) use record;

/// Enums without payload: the number of the case. One that follows stands for a revoked handle.
macro_rules! cases {
    ($ty:ident { $($case:ident),* $(,)? } $($revoked:ident)?) => {
        impl $ty {
            const CASES: &'static [Self] = &[$(Self::$case),*];
        }
        impl $crate::wire::Wire for $ty {
            fn put(&self, to: &mut vac_core::canon::Writer) {
                to.uint(Self::CASES.iter().position(|case| case == self).unwrap_or_default() as u64);
            }
            fn read(from: &mut vac_core::canon::Reader<'_>) -> Result<Self, vac_core::fault::Corrupt> {
                let number = from.uint()?;
                let case = usize::try_from(number).ok().and_then(|n| Self::CASES.get(n));
                case.copied().ok_or_else(|| from.wrong(stringify!($ty), number))
            }
            $(fn revoked() -> Option<Self> {
                Some(Self::$revoked)
            })?
        }
    };
}
pub(crate) use cases;

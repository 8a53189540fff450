//! Methods and schemes of `wasi:http/types`, which are the same in all its versions.

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::wasi3::http_types::is_token;
use crate::wire::Wire;

/// `wasi:http/types.method`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Method {
    #[component(name = "get")]
    Get,
    #[component(name = "head")]
    Head,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "connect")]
    Connect,
    #[component(name = "options")]
    Options,
    #[component(name = "trace")]
    Trace,
    #[component(name = "patch")]
    Patch,
    #[component(name = "other")]
    Other(String),
}

const METHODS: [(&str, Method); 9] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("CONNECT", Method::Connect),
    ("OPTIONS", Method::Options),
    ("TRACE", Method::Trace),
    ("PATCH", Method::Patch),
];

impl Method {
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => METHODS.iter().find(|(_, method)| method == known).map_or("", |(word, _)| word),
        }
    }

    pub(crate) fn of(word: &str) -> Self {
        let known = METHODS.into_iter().find(|(known, _)| *known == word);
        known.map_or_else(|| Self::Other(word.to_owned()), |(_, method)| method)
    }

    /// The method, if it is one; `other("GET")` is `get`.
    pub(crate) fn checked(self) -> Option<Self> {
        is_token(self.word()).then(|| Self::of(self.word()))
    }
}

/// A method is its word.
impl Wire for Method {
    fn put(&self, to: &mut Writer) {
        to.text(self.word());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::of(&String::read(from)?))
    }
}

/// `wasi:http/types.scheme`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Scheme {
    #[component(name = "HTTP")]
    Http,
    #[component(name = "HTTPS")]
    Https,
    #[component(name = "other")]
    Other(String),
}

impl Scheme {
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Other(word) => word,
        }
    }

    pub(crate) fn of(word: &str) -> Self {
        match word {
            "http" => Self::Http,
            "https" => Self::Https,
            _ => Self::Other(word.to_owned()),
        }
    }

    /// The scheme, if it is one (RFC 3986, 3.1); the two that are known are known in any case of letters.
    pub(crate) fn checked(self) -> Option<Self> {
        let word = self.word();
        let is_known = ["http", "https"].iter().any(|known| word.eq_ignore_ascii_case(known));
        let rest = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        let is_scheme = word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(rest);
        is_scheme.then(|| Self::of(&if is_known { word.to_ascii_lowercase() } else { word.to_owned() }))
    }
}

/// A scheme is its word.
impl Wire for Scheme {
    fn put(&self, to: &mut Writer) {
        to.text(self.word());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::of(&String::read(from)?))
    }
}

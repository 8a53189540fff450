//! `wasi:config`: the values that the operator set with `--config`, and the placeholders of secrets.

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use vac_core::ledger::Class::Local;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::host::Host;
use crate::wall::Wall;
use crate::wire::Wire;

/// Names and versions under which the interface is imported: none was released.
const NAMES: [(&str, &str); 3] = [
    ("wasi:config/store", "@0.2.0-rc.1"),
    ("wasi:config/store", "@0.2.0-draft"),
    ("wasi:config/runtime", "@0.2.0-draft"),
];

/// `wasi:config/store.error`. This host never gives one.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

impl Wire for ConfigError {
    fn put(&self, to: &mut Writer) {
        match self {
            Self::Upstream(words) => (0u8, words.clone()).put(to),
            Self::Io(words) => (1u8, words.clone()).put(to),
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        match <(u8, String)>::read(from)? {
            (0, words) => Ok(Self::Upstream(words)),
            (1, words) => Ok(Self::Io(words)),
            (n, _) => Err(from.wrong("0 or 1", n)),
        }
    }
}

type Answer<T> = Result<T, ConfigError>;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    NAMES.into_iter().try_for_each(|(name, version)| {
        wall.interface(name, version, |i| {
            i.func("get", Local, |h, (key,): (String,)| Ok(Answer::Ok(get(h, &key))))?;
            i.func("get-all", Local, |h, (): ()| Ok(Answer::Ok(h.config.clone())))
        })
    })
}

fn get(host: &Host, key: &str) -> Option<String> {
    host.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
}

//! Fuzz targets: each takes any bytes, and panics if a decoder of VAC breaks a promise about them.
//!
//! A target is one function, run by libFuzzer (`fuzz_targets/`) and, with the mutations of [`mutate`],
//! by `cargo xtask fuzz` and `cargo test`. What it promises is in its module:
//!
//! - [`canon`]: what decodes is what would be encoded
//! - [`ledger`]: frames, and the reader of a whole run
//! - [`index`]: the index of a pack
//! - `loader`: programs (feature `loader`)
//! - `manifest`: what a program asks for (feature `loader`)
//! - `texts`: grants, hosts, CIDs, arguments of calls (feature `loader`)
//! - `host`, `net`, `shards`: the host's functions, called in any order with any values (feature `loader`)
//! - `tasks`: the same for WASI 0.3, by random guests (feature `loader`)
//! - `link`: programs that are joined (feature `loader`)
//! - `nan`, `legacy`, `rewrite`, `rewrite-component`: what is made of a program before it is compiled (feature `loader`)
//!
//! Beside the targets, `guests` and `seeds`: random programs, each run, replayed and compared in several ways; and
//! `forge`: ledgers that somebody edited (feature `loader`).

pub mod canon;
#[cfg(feature = "loader")]
pub mod forge;
#[cfg(feature = "loader")]
pub mod guests;
#[cfg(feature = "loader")]
pub mod host;
pub mod index;
pub mod ledger;
#[cfg(feature = "loader")]
pub mod loader;
#[cfg(feature = "loader")]
pub mod manifest;
pub mod mutate;
#[cfg(feature = "loader")]
pub mod rewrite;
#[cfg(feature = "loader")]
pub mod seeds;
#[cfg(feature = "loader")]
pub mod texts;
#[cfg(feature = "loader")]
mod trampoline;

/// A target, with what a corpus begins with.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Valid encodings, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets of this build.
pub const TARGETS: &[Target] = &[
    Target { name: "canon", run: canon::target, seeds: canon::seeds },
    Target { name: "index", run: index::target, seeds: index::seeds },
    Target { name: "ledger", run: ledger::target, seeds: ledger::seeds },
    #[cfg(feature = "loader")]
    Target { name: "loader", run: loader::target, seeds: loader::seeds },
    #[cfg(feature = "loader")]
    Target { name: "manifest", run: manifest::target, seeds: manifest::seeds },
    #[cfg(feature = "loader")]
    Target { name: "link", run: loader::link, seeds: loader::link_seeds },
    #[cfg(feature = "loader")]
    Target { name: "nan", run: rewrite::nan, seeds: rewrite::seeds },
    #[cfg(feature = "loader")]
    Target { name: "rewrite", run: rewrite::module, seeds: rewrite::module_seeds },
    #[cfg(feature = "loader")]
    Target { name: "rewrite-component", run: rewrite::component, seeds: rewrite::component_seeds },
    #[cfg(feature = "loader")]
    Target { name: "legacy", run: rewrite::legacy, seeds: rewrite::legacy_seeds },
    #[cfg(feature = "loader")]
    Target { name: "texts", run: texts::target, seeds: texts::seeds },
    #[cfg(feature = "loader")]
    Target { name: "host", run: host::host, seeds: host::seeds },
    #[cfg(feature = "loader")]
    Target { name: "net", run: host::net, seeds: host::seeds },
    #[cfg(feature = "loader")]
    Target { name: "shards", run: host::shards, seeds: host::seeds },
    #[cfg(feature = "loader")]
    Target { name: "tasks", run: host::tasks, seeds: host::tasks_seeds },
];

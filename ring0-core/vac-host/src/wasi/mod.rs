//! WASI 0.2 on this host: every function of every interface that is covered, and no other.
//!
//! One file an interface package. A function here is a few lines: it takes the host and typed
//! arguments and returns a typed result; the wall does the rest. Interfaces are defined at
//! [`VERSION`] and serve every 0.2.x, as the component model's names allow.

use crate::wall::Wall;

pub(crate) mod addresses;
pub(crate) mod cli;
mod clocks;
mod config;
pub(crate) mod filesystem;
pub(crate) mod http;
pub(crate) mod http_error;
pub(crate) mod http_values;
pub(crate) mod io;
mod keyvalue;
pub(crate) mod logging;
mod random;
pub(crate) mod sockets;
pub(crate) mod udp;

/// The version under which the interfaces are defined.
pub(crate) const VERSION: &str = "@0.2.12";

/// Defines all of WASI that is covered.
pub(crate) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    io::define(wall)?;
    cli::define(wall)?;
    clocks::define(wall)?;
    random::define(wall)?;
    filesystem::define(wall)?;
    sockets::define(wall)?;
    http::define(wall)?;
    config::define(wall)?;
    keyvalue::define(wall)?;
    logging::define(wall)
}

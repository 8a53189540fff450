//! WASI 0.3 on this host: every function of every interface, for programs with `async` functions.
//!
//! One file an interface package, over the same files, clock, entropy and console as WASI 0.2. A
//! function is done when it returns, except those that wait for an instant or a socket; a stream's parts
//! cross the wall one by one, each as an event of its own ([`streams`], [`flows`]).

use crate::wall::Wall;

mod cli;
mod clocks;
mod filesystem;
pub(crate) mod flows;
pub(crate) mod http;
pub(crate) mod http_send;
pub(crate) mod http_serve;
pub(crate) mod http_types;
mod random;
mod sockets;
mod streams;
mod udp;

/// The version under which the interfaces are defined.
const VERSION: &str = "@0.3.0";

/// Defines all of WASI 0.3.
pub(crate) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    cli::define(wall)?;
    clocks::define(wall)?;
    random::define(wall)?;
    filesystem::define(wall)?;
    sockets::define(wall)?;
    http::define(wall)
}

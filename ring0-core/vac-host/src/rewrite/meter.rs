//! The tick meter: counts what a module does, and how deep its calls are, with instructions of its own.
//!
//! What a tick is, is defined in `docs/ticks.md` and by [`cost`], not by an engine: the count is the same on every
//! engine and version. A module that went through [`module`] imports, after its own imports:
//!
//! ```text
//! (import "vac:meter" "counters" (memory 1 1))
//! (import "vac:meter" "stop" (func))        never returns: the limit is passed
//! (import "vac:meter" "deep" (func))        never returns: calls are too deep
//! ```
//!
//! and the memory begins with four words, little-endian: ticks, tick limit, depth, depth limit. The limit of ticks
//! may be lowered at any moment by another thread, so every check loads it.
//!
//! - Invariant: whenever control leaves a function, by a call, a return or an exception, the word of ticks is exact.
//! - Invariant: every cycle of jumps and calls passes a check, and at least one tick lies between two checks: the
//!   count at which a run was stopped names the check that stopped it.
//! - Invariant: what a module computes, and where it traps, is as before.

mod arity;
mod body;
pub mod cost;
mod counted;
mod facts;
mod forms;
mod gates;
mod parts;
mod sections;
#[cfg(test)]
mod tests;
mod trees;
mod types;

use vac_core::fault::Result;
use wasm_encoder::reencode::Reencode;
use wasmparser::{Validator, WasmFeatures};

use super::{PLACE, invalid, refused};
use crate::load::malformed;
use sections::Sections;

/// The module's name of what a metered module imports.
pub const IMPORTS: &str = "vac:meter";
/// The memory with the counters.
pub const COUNTERS: &str = "counters";
/// The function that is called when ticks are more than their limit.
pub const STOP: &str = "stop";
/// The function that is called when depth is more than its limit.
pub const DEEP: &str = "deep";

pub(crate) use gates::NAME as GATE;

/// Functions that a metered module imports, all from [`IMPORTS`].
pub(crate) const FUNCTIONS: u32 = 2;

/// Where the ticks so far are in the memory of counters.
pub const TICKS_AT: u64 = 0;
/// Where the limit of ticks is.
pub const TICK_LIMIT_AT: u64 = 8;
/// Where the depth so far is.
pub const DEPTH_AT: u64 = 16;
/// Where the limit of depth is.
pub const DEPTH_LIMIT_AT: u64 = 24;

/// How a module is metered. All ways give the same totals; tests compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether a loop whose trips are known before it is charged at once.
    pub(crate) counts_loops: bool,
    /// Ticks that such a loop is charged for at a time.
    pub(crate) part: u64,
    /// Whether functions that only their module calls get the count with their arguments.
    pub(crate) carries: bool,
}

impl Options {
    const USUAL: Self = Self { counts_loops: true, part: cost::PART, carries: true };
}

/// The metered form of a valid core module.
pub fn module(bytes: &[u8]) -> Result<Vec<u8>> {
    with(bytes, Options::USUAL)
}

pub(crate) fn with(bytes: &[u8], options: Options) -> Result<Vec<u8>> {
    // A number that is wrong before could be right after, and be that of a counter.
    Validator::new_with_features(features()).validate_all(bytes).map_err(|e| malformed(&e, PLACE))?;
    let mut sections = Sections::read(bytes, options)?;
    let mut module = wasm_encoder::Module::new();
    sections.parse_core_module(&mut module, wasmparser::Parser::new(0), bytes).map_err(refused)?;
    sections.end(&mut module);
    Ok(module.finish())
}

/// What a module may have: all that the engine accepts. What the meter does not know is refused here.
fn features() -> WasmFeatures {
    WasmFeatures::WASM3 | WasmFeatures::THREADS
}

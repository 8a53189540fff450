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
pub(super) const NOT_RUN: &str = "";

//! Tests of VAC as its users meet it. Everything is in the one test binary of this package; see
//! `tests/main.rs`. The library is empty, because a package must have a target.

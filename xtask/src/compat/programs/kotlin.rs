//! Primes, counted in Kotlin: its objects are the engine's to collect, and its exceptions are of the first proposal.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};

pub(super) const PROGRAM: Program = Program {
    name: "kotlin-prime",
    about: "Kotlin with objects of WebAssembly GC",
    origin: Origin::Pip(File {
        package: "wasure",
        version: "0.9",
        path: "wasure/benchmarks/kotlin-prime/kotlin-prime-1K.wasm",
        cid: "bafkr4ihoegwhiszja46hjehjnnp7dluntktn7p3vm2j3fntblmgvhjb3fa",
    }),
    against: "the 168 primes below 1,000",
    is_quick: false,
    case: || Case {
        inputs: "",
        ask: Ask::Call(&["dummy()"]),
        grants: &[],
        stdin: "",
        check: |ran: &Ran| ran.printed_all(&["Found 168 prime numbers up to 1000"]),
        refused: Refused::Nothing,
    },
};

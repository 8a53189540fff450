//! circom: a compiler of arithmetic circuits, in Rust, with a file system as its way out.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const PROGRAM: Program = Program {
    name: "circom",
    about: "circuit compiler",
    origin: Origin::Npm(File {
        package: "circom2",
        version: "0.2.23",
        path: "package/circom.wasm",
        cid: "bafkr4ibduzmmeb3kngrrjchha4f6t7odpkbimbepnbyad5gd47j5awauri",
    }),
    against: "constraints counted by hand, and the format's magic",
    is_quick: false,
    case: || Case {
        inputs: "circom",
        ask: Ask::Run(&["cube.circom", "--r1cs", "--sym"]),
        grants: &["dir:rw=.::."],
        stdin: "",
        check,
        refused: Refused::Status(1, "Input file does not exist"),
    },
};

fn check(ran: &Ran) -> Result<()> {
    ran.printed_all(&[
        "non-linear constraints: 2",
        "linear constraints: 0",
        "public outputs: 1",
        "wires: 4",
    ])?;
    if !ran.file("cube.r1cs")?.starts_with(b"r1cs") {
        return Err("expected `cube.r1cs` to begin with `r1cs`".to_owned());
    }
    // Each line is label, wire, component, name.
    let symbols = String::from_utf8_lossy(&ran.file("cube.sym")?).into_owned();
    match symbols.contains("main.y") && symbols.contains("main.x") {
        true => Ok(()),
        false => Err(format!("expected main.x and main.y in\n{symbols}")),
    }
}

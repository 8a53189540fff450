//! svg-flatten, which makes tools for circuit boards of drawings. It names its files by random bytes, which it
//! reads from `/dev/urandom`: it is given a file of that name.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const PROGRAM: Program = Program {
    name: "svg-flatten",
    about: "drawings to Gerber files",
    origin: Origin::Pip(File {
        package: "svg-flatten-wasi",
        version: "3.1.9",
        path: "svg_flatten_wasi/svg-flatten.wasm",
        cid: "bafkr4ibmxcyvcmqs7vb676nd4ukpxr53kzgsnsjcyp5nc5gebzzhyzjnwe",
    }),
    against: "the corners of the rectangle, in millimetres of 96 points an inch",
    is_quick: false,
    case: || Case {
        inputs: "flatten",
        ask: Ask::Run(&["--no-usvg", "-o", "gerber", "answer.svg", "answer.gbr"]),
        grants: &["dir:rw=.::/", "dir:ro=.::/dev", "dir:rw=.::/tmp"],
        stdin: "",
        check,
        refused: Refused::Status(1, "answer"),
    },
};

/// A point is 25.4 / 96 mm; Gerber files count up from the lower edge, which is at 10.
fn check(ran: &Ran) -> Result<()> {
    let gerber = String::from_utf8_lossy(&ran.file("answer.gbr")?).into_owned();
    let millionths = |points: f64| (points * 25.4 / 96.0 * 1e6).round();
    for (x, y) in [(1.0, 8.0), (5.0, 8.0), (5.0, 5.0), (1.0, 5.0)] {
        let corner = format!("X{:010}Y{:010}", millionths(x), millionths(y));
        if !gerber.contains(&corner) {
            return Err(format!("expected {corner} in\n{gerber}"));
        }
    }
    Ok(())
}

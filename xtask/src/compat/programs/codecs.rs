//! Codecs of numcodecs: typed components with resources, in Rust and C.

use crate::compat::Program;
use crate::compat::package::{File, Origin, python};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::{self, Result};

pub(super) const ZLIB: Program = Program {
    name: "codec-zlib",
    about: "compression, a typed resource",
    origin: Origin::Pip(File {
        package: "numcodecs-wasm-zlib",
        version: "0.4.0",
        path: "numcodecs_wasm_zlib/codec.wasm",
        cid: "bafkr4ic4m4czlry6rztezmpp5wfr6necklhz7xan22dihx45rthktou7um",
    }),
    against: "this machine's zlib unpacks what it packed",
    is_quick: true,
    case: || Case {
        inputs: "",
        ask: Ask::Call(&[
            r#"c = codec.from-config("{\"level\": 6}")"#,
            "e = $c.encode({data: u8([116, 111, 32, 98, 101, 32, 111, 114, 32, 110, 111, 116, 32, 116, 111, 32, \
             98, 101]), shape: [18]})",
            "$c.decode($e)",
        ]),
        grants: &[],
        stdin: "",
        check: check_zlib,
        refused: Refused::Nothing,
    },
};

pub(super) const ZSTD: Program = Program {
    name: "codec-zstd",
    about: "compression, a typed resource",
    origin: Origin::Pip(File {
        package: "numcodecs-wasm-zstd",
        version: "0.4.0",
        path: "numcodecs_wasm_zstd/codec.wasm",
        cid: "bafkr4idue2lmicwsr7jwpg6n4xwskbtg6mb6a3ap2l42th5w6xrymrdyuy",
    }),
    against: "the format's magic, and the numbers come back",
    is_quick: true,
    case: || Case {
        inputs: "",
        ask: Ask::Call(&[
            r#"c = codec.from-config("{\"level\": 3}")"#,
            "e = $c.encode({data: f64([0, 1.5, -2.25, 1024.75, 1.5, 1.5]), shape: [2, 3]})",
            "$c.decode($e)",
        ]),
        grants: &[],
        stdin: "",
        check: |ran: &Ran| {
            let encoded = ran.gave_each().get(1).cloned().unwrap_or_default();
            // 0xfd2fb528, little-endian.
            if !encoded.contains("40, 181, 47, 253") {
                return Err(format!("expected the magic of zstd in {encoded}"));
            }
            ran.gave("ok({data: f64([0, 1.5, -2.25, 1024.75, 1.5, 1.5]), shape: [2, 3]})")
        },
        refused: Refused::Nothing,
    },
};

/// What python says that the part after the codec's own header unpacks to.
fn check_zlib(ran: &Ran) -> Result<()> {
    let calls = ran.gave_each();
    let encoded = calls.get(1).map(String::as_str).unwrap_or_default();
    let numbers = encoded.split_once("u8([").and_then(|(_, rest)| rest.split_once("])")).map_or("", |n| n.0);
    let script = "import sys, zlib\n\
        b = bytes(int(n) for n in sys.argv[1].split(','))\n\
        print(zlib.decompress(b[b.index(0x78):]).decode())";
    let native = repo::output(python().args(["-c", script, numbers]))?;
    match native.trim() {
        "to be or not to be" => ran.gave(
            "ok({data: u8([116, 111, 32, 98, 101, 32, 111, 114, 32, 110, 111, 116, 32, 116, 111, 32, 98, 101]), \
             shape: [18]})",
        ),
        other => Err(format!("expected that zlib unpacks {encoded}, got {other:?}")),
    }
}

//! Image readers: ITK's, in C++, as it is made for Python; LodePNG, in C, a library of 68 KB that knows no WASI.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const ITK: Program = Program {
    name: "itk-png",
    about: "image reader of ITK",
    origin: Origin::Pip(File {
        package: "itkwasm-image-io-wasi",
        version: "1.6.1",
        path: "itkwasm_image_io_wasi/wasm_modules/png-read-image.wasi.wasm",
        cid: "bafkr4id2puxbttgkjr6h7eulj7mb7mtbiwtc7lsflqjpjpnsb423qtwcra",
    }),
    against: "the pixels that the picture was made of",
    is_quick: false,
    case: || Case {
        inputs: "image",
        ask: Ask::Run(&["ramp.png", "could.json", "ramp.iwi.cbor"]),
        grants: &["dir:rw=.::."],
        stdin: "",
        check: check_itk,
        refused: Refused::Status(4, ""),
    },
};

pub(super) const LODEPNG: Program = Program {
    name: "lodepng",
    about: "image reader, through its memory",
    origin: Origin::Npm(File {
        package: "@cwasm/lodepng",
        version: "0.1.9",
        path: "package/lodepng.wasm",
        cid: "bafkr4igmoif3uudlvm3y47jji2dwdlmmoulpznipolpxqb6j4otz35atdu",
    }),
    against: "the pixels that the picture was made of",
    is_quick: true,
    case: || Case {
        inputs: "",
        ask: Ask::Call(&[
            "out = malloc(4)",
            "width = malloc(4)",
            "height = malloc(4)",
            RAMP,
            "lodepng_decode32($out, $width, $height, $png, 96)",
            "memory.u32($width)",
            "memory.u32($height)",
            "pixels = memory.u32($out)",
            "memory.read($pixels, 48)",
        ]),
        grants: &[],
        stdin: "",
        check: check_lodepng,
        refused: Refused::Nothing,
    },
};

/// The file `ramp.png`: 4 by 3 pixels, redder to the right and greener down.
const RAMP: &str = "png = memory.put([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 4, 0, 0, 0, 3, 8, 6, 0, 0, 0, 180, 244, 174, 198, 0, 0, 0, 39, 73, 68, 65, 84, 120, 156, 21, 200, 49, 1, 0, 32, 0, 195, 176, 10, 155, 176, 9, 155, 8, 92, 65, 57, 242, 4, 56, 55, 170, 38, 136, 161, 106, 249, 81, 67, 213, 244, 0, 150, 169, 28, 93, 30, 2, 120, 33, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130])";

fn pixels() -> Vec<u8> {
    let at = |x: u8, y: u8| [60 * x, 60 * y, 200, 255];
    (0..3).flat_map(|y| (0..4).flat_map(move |x| at(x, y))).collect()
}

/// The pixels are the end of the file.
fn check_itk(ran: &Ran) -> Result<()> {
    let image = ran.file("ramp.iwi.cbor")?;
    match ran.file("could.json")? == b"true\n" && image.ends_with(&pixels()) {
        true => ran.printed(""),
        false => Err(format!("expected the pixels at the end of {image:?}")),
    }
}

fn check_lodepng(ran: &Ran) -> Result<()> {
    let calls = ran.gave_each();
    match calls.get(4..7) {
        Some([error, width, height]) if (&error[..], &width[..], &height[..]) == ("0", "4", "3") => {
            ran.gave(&format!("{:?}", pixels()))
        }
        _ => Err(format!("expected no error, 4 and 3, got {calls:?}")),
    }
}

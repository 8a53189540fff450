//! Behaviours of older versions that a replay must repeat, by the names that a header gives them.
//!
//! When what a guest can notice changes, and ledgers of before are to replay still, the old behaviour gets a
//! name here, and whoever reads a ledger that needs it writes the name nowhere new: it is in the header, or
//! follows from an older `format`. There is no name yet. Some changes have none, because what was recorded before was wrong, and
//! such a ledger is told to differ: reads and writes of nothing on sockets of WASI 0.3, which
//! ended at once; paths of requests that are not of ASCII, which were refused, and ports over 65535, which were not; options of a socket of WASI 0.3 that were
//! set after it listened; programs of WASI 0.1 that take all memory as their own, or all that they find, or whose start function uses WASI; commands
//! that import nothing and see how much memory they have; a write of
//! no buffers; tasks that were called too deep although they were not, or went on over their ticks while they gave way; a run that ended because
//! it wanted more than 1 MiB of random bytes at
//! once, or because it asked for a response before it had finished its request; a script to which no bytes came as an empty list; a call
//! whose arguments were refused, and are numbers in hexadecimal or without a sign, or `len($x)`, `hi($x)` or `lo($x)` (which was a case of a
//! variant, where it has one of that name); a `memory.put` that found no allocator, and finds one of more names now; files of
//! one call that are longer together than it may take.

use vac_core::canon::Node;
use vac_core::fault::{Corrupt, Result, Usage, quote};
use vac_core::ledger::Header;

/// Every quirk that this version can repeat.
const KNOWN: [&str; 0] = [];

/// Checks that a replay can repeat every quirk that `header` names.
pub(crate) fn check(header: &Header) -> Result<()> {
    let unknown: Vec<String> = named(header)?.into_iter().filter(|name| !KNOWN.contains(&&**name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = unknown.iter().map(|name| format!("`{}`", quote(name))).collect();
    let message = format!(
        "the run has quirks that this version cannot repeat: {}; it would replay wrongly",
        names.join(", ")
    );
    let hint = "a newer version made the run: replay it with that one";
    Err(Usage::new(message).hint(hint).into())
}

fn named(header: &Header) -> Result<Vec<String>> {
    let wrong = |got: &Node| {
        Corrupt::new("header of a run", "field `quirks`", "a list of text, or nothing", format!("{got:?}"))
    };
    let name = |item: &Node| match item {
        Node::Text(name) => Ok(name.clone()),
        other => Err(wrong(other).into()),
    };
    match header.get("quirks") {
        None => Ok(Vec::new()),
        Some(Node::List(items)) if !items.is_empty() => items.iter().map(name).collect(),
        Some(other) => Err(wrong(other).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quirk_that_nobody_knows_is_refused_by_its_name() {
        let header = |value: Node| Header::new(vec![("quirks".into(), value)]);
        assert!(check(&Header::default()).is_ok());
        let names = Node::List(vec![Node::Text("old-\u{1b}clock".into()), Node::Text("b".into())]);
        let refused = check(&header(names)).unwrap_err().to_string();
        assert!(refused.contains("`old-\\u{1b}clock`, `b`"), "{refused}");
        for wrong in [Node::Int(1), Node::List(vec![]), Node::List(vec![Node::Null])] {
            assert!(check(&header(wrong)).unwrap_err().to_string().contains("quirks"));
        }
    }
}

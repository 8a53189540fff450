//! `vac verify`: the chain, and everything it names.

use serde_json::{Value, json};
use vac_core::fault::{Corrupt, Error, Result, Usage, quote};
use vac_core::ledger::{Head, Tail};
use vac_engine::verify::{self, Verified};

use crate::cli::{Global, Verify};
use crate::exit;
use crate::ui::{self, Progress};

pub(crate) fn verify(global: &Global, args: &Verify) -> Result<u8> {
    let head = args.head.as_deref().map(parse_head).transpose()?;
    let home = super::home_to_read(global)?;
    let runs = match &args.run {
        Some(run) => vec![home.find_run(run)?],
        None => home.runs()?,
    };
    let progress = Progress::start("verifying", global.quiet || global.json);
    let mut verified = runs.iter().map(|run| verify::verify(&home, *run)).collect::<Result<Vec<_>>>()?;
    progress.stop();
    if let (Some(head), [one]) = (head, verified.as_mut_slice()) {
        check_head(head, one);
    }
    if global.json {
        ui::print_json(
            &json!({ "ok": verified.iter().all(|v| v.problems.is_empty()), "runs": verified.iter().map(as_json).collect::<Vec<_>>() }),
        );
    } else {
        verified.iter().for_each(show);
        if verified.is_empty() {
            ui::note("there are no runs yet; `vac run TARGET` makes one");
        }
    }
    let is_bad = verified.iter().any(|v| !v.problems.is_empty());
    Ok(if is_bad { exit::INTEGRITY } else { exit::OK })
}

/// A head as it is printed: 64 hex digits.
fn parse_head(text: &str) -> Result<String> {
    if text.len() == 2 * Head::LEN && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    let message = format!("`{}` is not a head: expected {} hex digits", quote(text), 2 * Head::LEN);
    Err(Usage::new(message).hint("the summary of a run prints its head, whole").into())
}

fn check_head(expected: String, verified: &mut Verified) {
    let Some(got) = head(verified) else { return };
    if got != expected {
        let place = format!("run `{}`", verified.run);
        verified.problems.push(Error::from(Corrupt::new("head", place, expected, got)));
    }
}

fn head(v: &Verified) -> Option<String> {
    v.head.map(|head| head.to_string())
}

fn show(v: &Verified) {
    let word = match (v.problems.is_empty(), v.tail) {
        (false, _) => ui::red("damaged"),
        (true, Tail::Closed) => ui::bold("ok"),
        (true, Tail::Open { .. }) => ui::bold("incomplete"),
    };
    ui::print(format_args!(
        "{word} {}: {} entries, {} objects, head {}\n",
        v.run,
        ui::count(v.entries),
        ui::count(v.objects),
        head(v).as_deref().unwrap_or("unknown")
    ));
    if let (true, Tail::Open { dropped_bytes }) = (v.problems.is_empty(), v.tail) {
        ui::print(format_args!(
            "  its process was killed or is still running; {dropped_bytes} bytes at the end cannot be shown to have been acknowledged\n"
        ));
    }
    for problem in &v.problems {
        ui::print(format_args!("  {}\n", ui::quote_lines(&problem.to_string())));
    }
}

fn as_json(v: &Verified) -> Value {
    json!({
        "run": v.run.to_string(),
        "ok": v.problems.is_empty(),
        "complete": v.tail == Tail::Closed,
        "head": head(v),
        "entries": v.entries,
        "objects": v.objects,
        "problems": v.problems.iter().map(ui::error_json).collect::<Vec<_>>(),
    })
}

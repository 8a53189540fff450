//! `cargo xtask forge`: every field of every entry of the golden ledgers, edited one at a time: who notices?

use std::thread;

use vac_fuzz::forge::{Report, check, reason};

use crate::repo::{self, Result};

/// The homes whose runs are edited, and of how many edits one is made: every kind of run is in the newest.
const GOLDEN: [(&str, usize); 2] = [("tests/golden/det-1", 5), ("tests/golden/det-2", 1)];

/// Makes all edits, and says which of them nobody can notice, and why.
///
/// # Errors
///
/// An edit that should have been noticed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err("expected `cargo xtask forge`".to_owned());
    }
    if cfg!(debug_assertions) {
        return repo::in_release("forge", args);
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let report = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || edited(first, threads))).collect();
        workers.into_iter().try_fold(Report::default(), |report, worker| {
            let own = worker.join().map_err(|_| "a thread that edited ledgers panicked".to_owned())??;
            Ok::<_, String>(report.and(own))
        })
    })?;
    for (name, runs) in &report.unseen {
        println!("forge: {:>5} unseen  {name}: {}", runs.len(), reason(name).unwrap_or("no reason is known"));
    }
    let unseen: usize = report.unseen.values().map(Vec::len).sum();
    println!("forge: {} edits, {unseen} of them beyond every check", report.edits);
    let mistakes = report.mistakes();
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("\n")) }
}

fn edited(first: usize, stride: usize) -> Result<Report> {
    let root = repo::root()?;
    GOLDEN.iter().try_fold(Report::default(), |report, (golden, part)| {
        Ok(report.and(check(&root.join(golden), first, stride * part)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few of what `cargo xtask forge` makes; the stride is prime, so that no kind of edit is always left out.
    #[test]
    fn edited_ledgers_are_told_from_true_ones() {
        let report = edited(0, 37).unwrap_or_else(|why| panic!("{why}"));
        assert!(report.edits > 200, "{}", report.edits);
        let mistakes = report.mistakes();
        assert!(mistakes.is_empty(), "{mistakes:#?}");
    }
}

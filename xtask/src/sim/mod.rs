//! `cargo xtask sim`: memories on a disk and a remote tier that fail, one seed each, against a plain map.
//!
//! A seed is one run of [`world::World`]: it decides what is read and written, what fails and when, and where the
//! power goes. What is checked is said there.
#![expect(clippy::disallowed_methods, reason = "how long it took is printed; nothing here is part of a run")]

mod random;
mod remote;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::each_seed;
use crate::repo::{self, Result};
use world::{Tally, World};

const USAGE: &str = "expected `cargo xtask sim [--seeds N | --hours N] [--from SEED]`";
/// What CI runs.
const SEEDS: u64 = 10_000;

/// What is asked for.
struct Plan {
    from: u64,
    seeds: u64,
    /// Seeds are begun for so long, instead of so many.
    time: Option<Duration>,
}

/// Runs the seeds that `args` name, on all processors.
///
/// # Errors
///
/// The first seed that does not hold, and how to run it again.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let plan = parse(args)?;
    if cfg!(debug_assertions) {
        return repo::in_release("sim", args);
    }
    let start = Instant::now();
    let tally = check_all(&plan, start)?;
    let seconds = start.elapsed().as_secs_f64();
    let Tally { seeds, steps, reads, commits, crashes, faults, rotten, repaired, lost, collections, scrubs } =
        tally;
    println!(
        "sim: {seeds} seeds from {} in {seconds:.1} s: {steps} steps, {reads} reads compared, {commits} commits, \
         {collections} collections, {scrubs} scrubs, {crashes} times the power went, {faults} faults; {rotten} times \
         bytes on the disk changed or it lied, {repaired} objects came back from the remote tier, {lost} reads said \
         what was lost; no wrong byte",
        plan.from
    );
    Ok(())
}

fn parse(args: &[String]) -> Result<Plan> {
    let mut plan = Plan { from: 0, seeds: SEEDS, time: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|_| USAGE.to_owned());
        match arg.as_str() {
            "--from" => plan.from = number()?,
            "--seeds" => plan.seeds = number()?,
            "--hours" => {
                let hours =
                    value.parse::<f64>().ok().filter(|hours| (0.0..1e4).contains(hours)).ok_or(USAGE)?;
                (plan.seeds, plan.time) = (u64::MAX, Some(Duration::from_secs_f64(hours * 3600.0)));
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(plan)
}

fn check_all(plan: &Plan, start: Instant) -> Result<Tally> {
    let seeds = plan.from..plan.from.saturating_add(plan.seeds);
    let is_over = || plan.time.is_some_and(|time| start.elapsed() >= time);
    each_seed::check_all(seeds, || Ok(()), |seed, ()| check(seed), Tally::and, is_over)
}

fn check(seed: u64) -> Result<Tally> {
    let again =
        |why: &str| format!("seed {seed}: {why}\n`cargo xtask sim --from {seed} --seeds 1` repeats it");
    match catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
        Ok(done) => done.map_err(|why| again(&why)),
        Err(_) => Err(again("a panic, see above")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little of what `cargo xtask sim` does, with every `cargo test`.
    #[test]
    fn memories_survive_what_disks_do() {
        let plan = Plan { from: 0, seeds: 150, time: None };
        let tally = check_all(&plan, Instant::now()).unwrap_or_else(|why| panic!("{why}"));
        // Seeds in which nothing happens would hold for ever.
        assert!(tally.reads > 1000 && tally.commits > 100 && tally.crashes > 50, "{tally:?}");
        assert!(tally.faults > 50 && tally.rotten > 20 && tally.repaired > 4, "{tally:?}");
        assert!(tally.collections > 50 && tally.scrubs > 50, "{tally:?}");
    }

    #[test]
    fn a_seed_is_one_run() {
        for seed in 0..10 {
            assert_eq!(check(seed).unwrap(), check(seed).unwrap(), "seed {seed}");
        }
    }
}

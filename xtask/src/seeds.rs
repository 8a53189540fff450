//! `cargo xtask seeds`: random guests, each run, replayed and compared in several ways.
#![expect(clippy::disallowed_methods, reason = "how long it took is printed; nothing here is part of a run")]

use std::ops::Range;
use std::time::Instant;

use vac_fuzz::guests::{Plan, Version};
use vac_fuzz::seeds::{Compilers, Tally, check};
use vac_host::engine::Functions;

use crate::each_seed;
use crate::repo::{self, Result};

const USAGE: &str = "expected `cargo xtask seeds [--count N] [--from SEED]`";
/// What CI runs.
const COUNT: u64 = 10_000;

/// Runs the seeds that `args` name, on all processors.
///
/// # Errors
///
/// The first seed that does not hold, and how to run it again.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (count, from) = parse(args)?;
    if cfg!(debug_assertions) {
        let mut cargo = repo::of_release("seeds", args)?;
        // Threads come and go by the thousand here; clearing two megabytes for each that allocates a little is a twentieth of
        // the time.
        return repo::execute(cargo.env("MIMALLOC_ALLOW_THP", "0"));
    }
    let start = Instant::now();
    let tally = check_all(from..from.saturating_add(count))?;
    let seconds = start.elapsed().as_secs_f64();
    let Tally { seeds, events, ended, trapped, limited, functions } = tally;
    println!(
        "seeds: {seeds} from {from} in {seconds:.1} s: {events} events of {} functions; {ended} came to their end, \
         {trapped} trapped, {limited} met a limit; all equal in every way",
        functions.len()
    );
    let mut lost = Vec::new();
    for (version, is_out_of_reach) in [(Version::Two, OUT_OF_REACH_2), (Version::Three, OUT_OF_REACH_3)] {
        let all = Plan::functions(version);
        let (count, mut missing) = (all.len(), all);
        missing.retain(|name| !functions.contains(&(version, name.clone())));
        println!(
            "seeds: {} of {count} functions of {version} were not called: {}",
            missing.len(),
            missing.join(", ")
        );
        // So many call each of the others, or the generator has lost some.
        missing.retain(|name| !is_out_of_reach.iter().any(|begin| name.starts_with(begin)));
        lost.extend(missing);
    }
    match count >= COUNT && !lost.is_empty() {
        true => Err(format!("{lost:?} are called by no guest of {count}")),
        false => Ok(()),
    }
}

/// Functions that none of CI's guests calls, by the beginning of their names: they have no network, and so no socket that is
/// bound.
const OUT_OF_REACH_2: &[&str] = &[
    "wasi:sockets/udp#[method]incoming-datagram-stream.",
    "wasi:sockets/udp#[method]outgoing-datagram-stream.",
];
/// None of WASI 0.3.
const OUT_OF_REACH_3: &[&str] = &[];

fn parse(args: &[String]) -> Result<(u64, u64)> {
    let (mut count, mut from) = (COUNT, 0);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let slot = match arg.as_str() {
            "--count" => &mut count,
            "--from" => &mut from,
            _ => return Err(USAGE.to_owned()),
        };
        *slot = args.next().and_then(|n| n.parse().ok()).ok_or(USAGE)?;
    }
    Ok((count, from))
}

fn check_all(seeds: Range<u64>) -> Result<Tally> {
    let again = |seed, why| format!("{why}\n`cargo xtask seeds --from {seed} --count 1` repeats it");
    let functions = Functions::default();
    each_seed::check_all(
        seeds,
        || Compilers::new(&functions).map_err(|e| e.to_string()),
        |seed, compilers| check(seed, compilers).map_err(|why| again(seed, why)),
        Tally::and,
        || false,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little of what `cargo xtask seeds` does, with every `cargo test`.
    #[test]
    fn random_guests_are_equal_in_every_way() {
        let tally = check_all(0..48).unwrap_or_else(|why| panic!("{why}"));
        // Guests that did nothing would be equal for ever.
        assert!(tally.events > 48 * 5 && tally.ended > 10 && tally.trapped > 3, "{tally:?}");
    }
}

//! `cargo xtask`: what a contributor and CI run, beside cargo itself.
//!
//! - [`kernels`]: builds the prebuilt kernels, or proves them
//! - [`tidy`]: rules of the sources that no compiler checks
//! - [`fuzz`]: every decoder of foreign bytes, for a time
//! - [`seeds`]: random guests, run and replayed in several ways
//! - [`sim`]: memories on disks that fail, one seed each
//! - [`forge`]: edited ledgers
//! - [`bench`]: figures beside their baselines
//! - [`compat`]: programs of others, from their registries
//! - [`ci`]: all that CI runs, in order

mod bench;
mod ci;
mod compat;
mod each_seed;
mod forge;
mod fuzz;
mod kernels;
mod repo;
mod seeds;
mod sim;
mod tidy;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A fifth of what random guests take is memory that compilers ask for and give back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  kernels [--check]                build the kernels into ring1-kernels/prebuilt, or prove what is there
  tidy                             check the rules of the sources that no compiler checks
  fuzz [--seconds N] [TARGET...]   run each fuzz target for N seconds (default 10)
  seeds [--count N] [--from SEED]  run random guests (default 10000), replay them and compare in every way
  sim [--seeds N | --hours N] [--from SEED]
                                   run memories on disks and tiers that fail (default 10000 seeds)
  forge                            edit every field of the golden ledgers, and see that each edit is noticed
  bench [--json] [NAME...]         measure, in release, beside baselines from the same run
  compat [--quick] [--json] [--write] [NAME...]
                                   run programs of others from their registries, and judge them
  engine                           fetch the stock engine that tests of exported replays use
  ci                               run all that CI runs, in order, and say how long each step took";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = args.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let done = match command {
        "kernels" => kernels::run(rest),
        "tidy" => tidy::run(rest),
        "fuzz" => fuzz::run(rest),
        "forge" => forge::run(rest),
        "seeds" => seeds::run(rest),
        "sim" => sim::run(rest),
        "bench" => bench::run(rest),
        "compat" => compat::run(rest),
        "engine" => compat::peer::run(rest),
        "ci" => ci::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

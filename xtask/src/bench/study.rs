//! The study of the README: what a replay takes beside the run itself.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use super::figure::{Figure, Goal};
use super::hello::run_quietly;
use super::timing::{Side, medians, time};
use super::{Result, scratch, text, vac};
use crate::repo;

const ROUNDS: usize = 7;
const RATIO_GOAL: f64 = 1.0;
const STUDY: &str = "examples/keeling/study.star";

/// First run in a fresh home, run again, and replay, each a whole process.
pub(super) fn run() -> Result<Vec<Figure>> {
    let (folder, vac, study) = (scratch()?, vac()?, repo::root()?.join(STUDY));
    let homes = Cell::new(0);
    let home = || folder.path().join(format!("home-{}", homes.get()));
    let fresh_home = || -> PathBuf {
        homes.set(homes.get() + 1);
        home()
    };
    let command = |home: PathBuf, words: &[&str]| {
        let mut command = Command::new(&vac);
        command.current_dir(folder.path()).arg("--home").arg(home).args(words);
        command
    };
    let study = study.to_str().ok_or_else(|| text("the path of the study is not UTF-8"))?;
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| time(|| run_quietly(command(fresh_home(), &["run", study])))),
        Box::new(|| time(|| run_quietly(command(home(), &["replay", "last"])))),
        Box::new(|| time(|| run_quietly(command(home(), &["run", study])))),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    let figure = |baseline: (&str, f64)| {
        Figure::new(
            "replay of the study, whole process",
            "ms",
            medians[1] / 1e6,
            (baseline.0, baseline.1 / 1e6),
        )
    };
    Ok(vec![
        figure(("first run", medians[0]))
            .goal(Goal::RatioAtMost(RATIO_GOAL))
            .note("the first run also compiles the three kernels"),
        figure(("run with a warm cache", medians[2])),
    ])
}

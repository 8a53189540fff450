//! `cargo xtask fuzz`: runs every target of `tests/fuzz` for a time.
//!
//! Where a nightly compiler can build libFuzzer, coverage guides the targets; elsewhere, and for the loader
//! everywhere, blind mutations of valid encodings do. An input that breaks a promise is kept under
//! `tests/fuzz/artifacts`, and can be run again by naming the file.
#![expect(clippy::disallowed_methods, reason = "fuzzing ends after a time; nothing here is part of a run")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use vac_fuzz::mutate::{Random, mutate};
use vac_fuzz::{TARGETS, Target};

use crate::each_seed;
use crate::repo::{self, Result};

const USAGE: &str = "expected `cargo xtask fuzz [--seconds N] [TARGET...]` or `cargo xtask fuzz TARGET FILE`";
const SECONDS: u64 = 10;
const FOLDER: &str = "tests/fuzz";
/// The targets that are built for libFuzzer. `vac_fuzz::loader` says why it is not.
const GUIDED: [&str; 3] = ["canon", "index", "ledger"];
/// An input that takes longer is a bug.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);
const INPUT_LEN_MAX: usize = 4096;
/// Where libFuzzer cannot say so itself.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// What `cargo fuzz` gives the compiler for coverage, without a sanitizer: the targets are safe Rust, and
/// what finds bugs in them are their own assertions, checked arithmetic and checked indices.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Ccodegen-units=1";

/// Runs what `args` name, or all targets.
///
/// # Errors
///
/// The input that broke a promise, or why a target could not be run.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = repo::root()?;
    if let [name, file] = args
        && let Some(target) = find(name)
        && Path::new(file).is_file()
    {
        let input = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        (target.run)(&input);
        return Ok(());
    }
    let (time, names) = parse(args)?;
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|t| names.is_empty() || names.contains(&t.name)).collect();
    let guided = match targets.iter().any(|target| GUIDED.contains(&target.name)) {
        true => build_guided(&root).inspect_err(|why| println!("fuzz: without libFuzzer: {why}")).ok(),
        false => None,
    };
    let fuzz = |target: &Target| match &guided {
        Some(folder) if GUIDED.contains(&target.name) => run_guided(&root, folder, target, time),
        _ => run_blind(&root, target, time),
    };
    let all = 0..targets.len() as u64;
    each_seed::check_all(all, || Ok(()), |n, ()| fuzz(targets[n as usize]), |(), ()| (), || false)
}

fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn parse(args: &[String]) -> Result<(Duration, BTreeSet<&str>)> {
    let (mut seconds, mut names) = (SECONDS, BTreeSet::new());
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg {
            "--seconds" => seconds = args.next().and_then(|n| n.parse().ok()).ok_or(USAGE)?,
            name if find(name).is_some() => drop(names.insert(name)),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok((Duration::from_secs(seconds), names))
}

// --- libFuzzer ---

/// Builds the binaries of `fuzz_targets`; the folder they are in.
fn build_guided(root: &Path) -> Result<PathBuf> {
    let version = repo::output(repo::cargo_of("nightly", root).arg("--version"))?;
    println!("fuzz: libFuzzer with {}", version.trim());
    let folder = root.join(FOLDER).join("target");
    let mut cargo = repo::cargo_of("nightly", root);
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "vac-fuzz",
        "--features",
        "libfuzzer",
    ]);
    cargo.args(["--bins", "--target", HOST, "--target-dir"]).arg(&folder);
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
    cargo.env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true");
    repo::output(cargo.env("RUSTFLAGS", COVERAGE))?;
    Ok(folder.join(HOST).join("release"))
}

fn run_guided(root: &Path, folder: &Path, target: &Target, time: Duration) -> Result<()> {
    let corpus = root.join(FOLDER).join("corpus").join(target.name);
    for (i, seed) in (target.seeds)().iter().enumerate() {
        write(&corpus.join(format!("seed-{i}")), seed)?;
    }
    let artifacts = artifacts(root, target)?;
    let mut fuzzer = Command::new(folder.join(target.name));
    fuzzer.arg(format!("-max_total_time={}", time.as_secs()));
    fuzzer.arg(format!("-timeout={}", INPUT_TIME_MAX.as_secs()));
    fuzzer.arg(format!("-max_len={INPUT_LEN_MAX}"));
    fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let done = fuzzer.arg(&corpus).output().map_err(|e| format!("{fuzzer:?}: {e}"))?;
    let log = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        let lines: Vec<_> = log.lines().collect();
        return Err(format!(
            "{}: {}\n{}",
            target.name,
            done.status,
            lines[lines.len().saturating_sub(40)..].join("\n")
        ));
    }
    let last =
        |word: &str| log.lines().rev().find(|line| line.contains(word)).unwrap_or("").trim().to_owned();
    println!("fuzz: {:<8} {} ({})", target.name, last("Done "), last(" cov: "));
    Ok(())
}

// --- without it ---

/// Mutates until the time is over. The mutations are the same every time; how many there are is not.
fn run_blind(root: &Path, target: &Target, time: Duration) -> Result<()> {
    let (seeds, start) = ((target.seeds)(), Instant::now());
    let (mut random, mut runs) = (Random::new(0), 0u64);
    seeds.iter().try_for_each(|seed| try_input(root, target, seed))?;
    while start.elapsed() < time {
        try_input(root, target, &mutate(&seeds, &mut random))?;
        runs += 1;
    }
    println!(
        "fuzz: {:<8} {runs} mutations in {} s, without coverage",
        target.name,
        start.elapsed().as_secs()
    );
    Ok(())
}

fn try_input(root: &Path, target: &Target, input: &[u8]) -> Result<()> {
    let start = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let why = match ended {
        Err(_) => "it panicked".to_owned(),
        Ok(()) if start.elapsed() > INPUT_TIME_MAX => format!("it took {:?}", start.elapsed()),
        Ok(()) => return Ok(()),
    };
    let file = artifacts(root, target)?.join(format!("crash-{}", &blake3::hash(input).to_hex()[..16]));
    write(&file, input)?;
    Err(format!("{}: {why}; `cargo xtask fuzz {} {}` repeats it", target.name, target.name, file.display()))
}

fn artifacts(root: &Path, target: &Target) -> Result<PathBuf> {
    let folder = root.join(FOLDER).join("artifacts").join(target.name);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let done = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, bytes));
    done.map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little of what `cargo xtask fuzz` does, with every `cargo test`.
    fn holds_for(name: &str, runs: usize) {
        let target = find(name).expect("a target");
        let (seeds, mut random) = ((target.seeds)(), Random::new(1));
        seeds.iter().for_each(|seed| (target.run)(seed));
        (0..runs).for_each(|_| (target.run)(&mutate(&seeds, &mut random)));
    }

    #[test]
    fn canon_holds_for_mutated_values() {
        holds_for("canon", 5_000);
    }

    #[test]
    fn index_holds_for_mutated_indexes() {
        holds_for("index", 1_000);
    }

    #[test]
    fn ledger_holds_for_mutated_runs() {
        holds_for("ledger", 1_000);
    }

    #[test]
    fn loader_holds_for_mutated_programs() {
        holds_for("loader", 100);
    }

    #[test]
    fn manifest_holds_for_mutated_manifests() {
        holds_for("manifest", 2_000);
    }

    #[test]
    fn links_hold_for_mutated_programs() {
        holds_for("link", 100);
    }

    #[test]
    fn exceptions_of_the_first_proposal_hold_for_mutated_modules() {
        holds_for("legacy", 2_000);
    }

    #[test]
    fn canonical_nans_hold_for_mutated_modules() {
        holds_for("nan", 2_000);
    }

    #[test]
    fn texts_hold_for_mutated_texts() {
        holds_for("texts", 500);
    }

    #[test]
    fn the_host_holds_for_calls_in_any_order() {
        holds_for("host", 100);
        holds_for("net", 100);
        holds_for("shards", 100);
        // Inputs that reach nothing would hold for ever.
        let reached = vac_fuzz::host::reached();
        let missing: Vec<&str> =
            MEANT.into_iter().filter(|name| !reached.iter().any(|r| r == name)).collect();
        assert!(reached.len() > 110 && missing.len() < 3, "{missing:?} of {}: {reached:#?}", reached.len());
    }

    /// Functions behind several others, which only good inputs come to.
    const MEANT: [&str; 12] = [
        "wasi:filesystem/types#[method]descriptor.open-at",
        "wasi:filesystem/types#[method]descriptor.read-via-stream",
        "wasi:io/streams#[method]input-stream.read",
        "wasi:io/streams#[method]output-stream.write",
        "wasi:io/poll#poll",
        "wasi:http/types#[static]fields.from-list",
        "wasi:http/types#[method]outgoing-request.set-path-with-query",
        "wasi:http/outgoing-handler#handle",
        "wasi:sockets/tcp#[method]tcp-socket.start-connect",
        "wasi:keyvalue/store#[method]bucket.list-keys",
        "vac:memory/shards#[method]shard.restore",
        "vac:memory/shards#[method]shard.commit",
    ];

    #[test]
    fn the_host_holds_for_tasks_in_any_order() {
        holds_for("tasks", 40);
        let reached = vac_fuzz::host::reached();
        let missing: Vec<&str> =
            MEANT_OF_TASKS.into_iter().filter(|name| !reached.iter().any(|r| r == name)).collect();
        assert!(missing.len() < 2, "{missing:?} of {}: {reached:#?}", reached.len());
    }

    /// Events that there are for WASI 0.3 alone.
    const MEANT_OF_TASKS: [&str; 6] = [
        "wasi:filesystem/types#[read][method]descriptor.read-via-stream",
        "wasi:filesystem/types#[read][method]descriptor.read-directory",
        "wasi:filesystem/types#[write][method]descriptor.write-via-stream",
        "wasi:cli/stdout#[write]write-via-stream",
        "wasi:clocks/monotonic-clock#[end]wait-for",
        "wasi:http/client#[end]send",
    ];

    /// Seeds that were refused at once would leave the mutations nothing to break.
    #[test]
    fn seeds_are_valid() {
        let is_node =
            |seed: &Vec<u8>| vac_core::canon::decode::<vac_core::canon::Node>(seed, "a seed").is_ok();
        assert!((vac_fuzz::canon::seeds)().iter().all(is_node));
        let engine = vac_host::Engine::new().unwrap();
        for seed in (vac_fuzz::loader::seeds)() {
            engine.compile(&vac_host::load::load(&seed, "a seed").unwrap(), None).map(drop).unwrap();
        }
        for seed in (vac_fuzz::rewrite::seeds)() {
            assert_ne!(vac_host::rewrite::nan::module(&seed).unwrap(), seed);
        }
        for seed in (vac_fuzz::rewrite::legacy_seeds)() {
            assert_ne!(vac_host::rewrite::legacy::module(&seed).unwrap().as_ref(), seed.as_slice());
        }
    }
}

//! The command line, as `clap` reads it. Help texts are what a newcomer sees first.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Runs WebAssembly that nobody trusts: granted, recorded, replayable.
#[derive(Debug, Parser)]
#[command(name = "vac", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: a command's own status, or 0 ok, 1 failure, 2 usage, 3 denied, 4 quota or trap, \
5 divergence, 6 integrity, 75 try again, 130 interrupted.";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where runs, objects and compiled code are kept [default: the platform's data directory].
    #[arg(long, global = true, env = "VAC_HOME", hide_env_values = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No summary and no progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a script, a component or a WASI 0.1 module.
    Run(Run),
    /// Call a typed export of a component.
    Call(Call),
    /// Show what a program is, exports and imports, and which grants it would need.
    Inspect(Inspect),
    /// List the runs.
    Runs(Runs),
    /// Show the events of a run.
    Log(Log),
    /// Run again from the ledger alone, and compare.
    Replay(Replay),
    /// Check the chain of a run, and hash everything it names again.
    Verify(Verify),
    /// The content-addressed store.
    #[command(subcommand)]
    Store(Store),
}

/// What a run is given.
#[derive(Debug, Args)]
pub(crate) struct Given {
    /// Allow something: dir:ro=DIR, dir:rw=DIR, file:ro=FILE, file:rw=FILE, tree:ro=CID, tree:rw=CID,
    /// env:NAME, stdin. DIR::NAME shows the directory to the guest under another name.
    #[arg(long = "grant", value_name = "KIND:SPEC")]
    pub(crate) grants: Vec<String>,
    /// Set a variable of the guest's environment.
    #[arg(long = "env", value_name = "K=V")]
    pub(crate) env: Vec<String>,
    /// Set a value of the guest's configuration (wasi:config).
    #[arg(long = "config", value_name = "K=V")]
    pub(crate) config: Vec<String>,
    /// Let the guest use a value in requests without seeing it: NAME=env:VAR or NAME=file:PATH, and @HOST after it
    /// to bind it to a host. The guest finds a placeholder as NAME in its environment and configuration.
    #[arg(long = "secret", value_name = "NAME=SOURCE")]
    pub(crate) secrets: Vec<String>,
    /// The seed of all entropy.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Stop after this many ticks of kernels; a script's own loops have none, see --time.
    #[arg(long, value_name = "N")]
    pub(crate) ticks: Option<u64>,
    /// Linear memory that a kernel may hold, for example 512MiB [default: 4GiB].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Stop after this much wall time, for example 30s.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) time: Option<Duration>,
}

fn size(text: &str) -> Result<u64, String> {
    let expected = "expected a size like 512MiB or 4GiB";
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| expected.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; expected a duration like 500ms, 30s or 2m"))
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A `.star` script, a `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Arguments of the program.
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// A `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
    /// `export(args)` in WAVE text, for example 'add(1, 2)'.
    pub(crate) call: String,
    #[command(flatten)]
    pub(crate) given: Given,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Show at most this many, the newest.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// A run: its identity, the beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Only events whose function has this in its name.
    #[arg(long, value_name = "PART")]
    pub(crate) name: Option<String>,
    /// Only events of this class: computed, local, read, effect, kernel.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub(crate) class: Option<vac_core::ledger::Class>,
    /// Only events in which something was refused.
    #[arg(long)]
    pub(crate) denied: bool,
    /// From this event on.
    #[arg(long, value_name = "EVENT")]
    pub(crate) from: Option<u64>,
    /// Up to this event.
    #[arg(long, value_name = "EVENT")]
    pub(crate) to: Option<u64>,
    /// Show at most this many.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<usize>,
}

fn class(text: &str) -> Result<vac_core::ledger::Class, String> {
    let all = vac_core::ledger::Class::ALL;
    let names: Vec<_> = all.iter().map(|c| c.word()).collect();
    all.into_iter().find(|c| c.word() == text).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A run: its identity, the beginning or end of it, or `last`.
    pub(crate) run: String,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A run: its identity, the beginning or end of it, or `last`.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) run: Option<String>,
    /// Every run of this home.
    #[arg(long)]
    pub(crate) all: bool,
    /// The head that the run must have, as it was printed when it ended.
    #[arg(long, value_name = "HEX", conflicts_with = "all")]
    pub(crate) head: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Keep files and directories, and print their CIDs. `-` is the standard input.
    Put {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Write an object to the standard output or a file, or a directory to a new one.
    Get {
        cid: String,
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the objects.
    Ls,
    /// Forget an object that `put` kept; the next `gc` removes it.
    Rm { cid: String },
    /// Remove every object that no run names and that was not put here by hand.
    Gc,
    /// Hash every object again.
    Fsck,
}

//! The command line, as `clap` reads it. Help texts are what a newcomer sees first.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::limits;

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

const CALLS: &str = "\
Calls:
  add(1, 2)                 an export; `ns:pkg/interface#add(1, 2)` if several are called so
  codec(\"{}\")               the constructor of a resource; codec.make(\"{}\") a function of it
  c = codec(\"{}\")           keeps the result; of a `result`, what is in its `ok`
  $c.encode([1, 2])         a method of a kept resource
  f($c, [$x, 2])            kept values as arguments
  encode(@photo.png)        the bytes of a file as `string` or `list<u8>`, or of an object @CID
                            in the store; @\"my photo.png\". A replay needs no file
  len(@photo.png), len($x)  in arguments: bytes of a file or text, items of a list
  hi($x), lo($x)            in arguments: the halves of a number of 64 bits
  0x1000                    in arguments: a number

Values:
  1  -0.5  true  'c'  \"text\"  [1, 2]  (1, \"a\")  {field: 1, other: 2}
  some(1) or 1, none        an option
  ok(1), err(\"why\")         a result
  red, circle(2.5)          a case of an enum or variant
  {read, write}             flags

The memory of a core module that exports it:
  p = memory.put(\"text\")    room from the module's own `malloc`, with the text and a zero in it
  v = memory.put32($p, 0)    room with these words of 32 bits, as `argv` of a `main` wants them
  memory.write($p, \"text\")   text or a list of bytes to an address
  memory.read($p, length)    bytes; memory.text($p) or memory.text($p, length): text; memory.u32($p)

So a file goes in and what comes of it out (of an address and a length in one number, as
many modules give them, the address is in one half, mostly `hi`):
  p = memory.put(@in.bin)   r = process($p, len(@in.bin))   memory.read(hi($r), lo($r))   -o out.bin

Handles that are left at the end are given up, the newest first.";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where runs, objects and compiled code are kept [default: the platform's data directory] [env: VAC_HOME].
    // Read by `home_path`: what clap reads from the environment, it shows as required.
    #[arg(long, global = true, value_name = "DIR")]
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
    #[command(after_help = limits::table())]
    Run(Run),
    /// Call exports of a component or module, one or several in the same instance.
    #[command(after_help = format!("{CALLS}\n\n{}", limits::table()))]
    Call(Call),
    /// Answer HTTP requests with a component that exports wasi:http/handler, until an interrupt.
    #[command(after_help = limits::table())]
    Serve(Serve),
    /// Show what a program is, exports and imports, what it asks for and what it would get.
    Inspect(Inspect),
    /// Run a program once, and write the least manifest that it needed.
    Learn(Learn),
    /// List the runs, or remove one.
    Runs(Runs),
    /// Show the events of a run.
    Log(Log),
    /// Run again from the ledger alone, and compare.
    Replay(Replay),
    /// Write a run as one component that any engine with `wasi:cli` runs to the same output.
    ExportReplay(ExportReplay),
    /// Run a program with something different around it each time, and compare every event.
    #[command(after_help = limits::table())]
    Probe(Probe),
    /// Go back into a run: replay it up to a point, and show what is there.
    Seek(Seek),
    /// Show the first event in which two runs differ, and what led to it.
    Bisect(Bisect),
    /// Start another future of a run at one of its events.
    #[command(after_help = limits::table())]
    Fork(Fork),
    /// Take a grant back from a run that goes on.
    Revoke(Revoke),
    /// Check the chain of a run, and hash everything it names again.
    Verify(Verify),
    /// Memories of 128-bit addresses, in pages that prove themselves.
    #[command(subcommand)]
    Mem(Mem),
    /// The content-addressed store.
    #[command(subcommand)]
    Store(Store),
    /// Object stores below the store, which give what it lost or has badly.
    #[command(subcommand)]
    Tier(Tier),
}

/// What is allowed.
#[derive(Debug, Args)]
pub(crate) struct Allowed {
    /// Allow something: dir:ro=DIR, dir:rw=DIR, file:ro=FILE, file:rw=FILE, tree:ro=CID, tree:rw=CID,
    /// env:NAME, stdin, kv:ro=NAME, kv:rw=NAME, mem:ro=NAME[@SHARD], mem:rw=NAME[@SHARD], http:HOST, http:METHOD=HOST:PORT,
    /// tcp:HOST:PORT, udp:HOST:PORT, tcp:listen=ADDRESS:PORT, udp:listen=ADDRESS:PORT, net:ADDRESS. DIR::NAME shows the directory to the guest under another name.
    #[arg(long = "grant", value_name = "KIND:SPEC")]
    pub(crate) grants: Vec<String>,
    /// Allow what a TOML file says, with its limits; paths in it are seen from its folder.
    #[arg(long = "grants", value_name = "FILE")]
    pub(crate) grants_file: Option<PathBuf>,
}

/// What a run is given.
#[derive(Debug, Args)]
pub(crate) struct Given {
    #[command(flatten)]
    pub(crate) allowed: Allowed,
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
    /// Satisfy imports outside of WASI by the exports of another component. It gets no more than
    /// the program itself.
    #[arg(long = "link", value_name = "TARGET")]
    pub(crate) links: Vec<String>,
    /// The seed of all entropy.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// What code is compiled for: det-2 (instructions that processors of the last ten years have), or det-2-native (those
    /// of this one). The run is the same, and replays anywhere.
    #[arg(long, value_name = "PROFILE", default_value = "det-2", value_parser = profile)]
    pub(crate) profile: vac_host::Profile,
    #[command(flatten)]
    pub(crate) within: Within,
}

fn profile(text: &str) -> Result<vac_host::Profile, String> {
    let found = vac_host::Profile::named(text).filter(|profile| profile.rewrites());
    found.ok_or_else(|| "expected `det-2` or `det-2-native`".to_owned())
}

/// What a run may use up.
#[derive(Debug, Args)]
pub(crate) struct Within {
    /// Stop after this many ticks of kernels; a script's own loops have none, see --time.
    #[arg(long, value_name = "N")]
    pub(crate) ticks: Option<u64>,
    /// Linear memory that a kernel may hold, for example 512MiB [default: 4GiB].
    #[arg(long, value_name = "SIZE", value_parser = limits::size)]
    pub(crate) memory: Option<u64>,
    /// Stop after this much wall time, for example 30s.
    #[arg(long, value_name = "DURATION", value_parser = limits::duration)]
    pub(crate) time: Option<Duration>,
    /// Any limit, for example files=64 or compile-time=30s; all are listed below.
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limits::parse)]
    pub(crate) limits: Vec<limits::Asked>,
    /// Which page of a granted memory leaves for another: s3-fifo, lru, sieve or w-tinylfu; `vac mem bench` compares them
    /// [default: s3-fifo].
    #[arg(long, value_name = "NAME", value_parser = limits::policy)]
    pub(crate) memory_policy: Option<vac_core::memory::policy::PolicyKind>,
}

/// What the operator's own side may use up, for commands that record nothing.
#[derive(Debug, Args)]
pub(crate) struct Patience {
    /// A limit of the operator's: time, module, compile-time or compile-memory; see `vac run --help`.
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limits::parse)]
    pub(crate) limits: Vec<limits::Asked>,
}

/// How much of a run is kept.
#[derive(Debug, Args)]
pub(crate) struct Kept {
    /// What to keep of the run: full, digest (the ledger, but no long body of what was read or changed outside),
    /// or off (nothing: no run to show, verify or replay).
    #[arg(long, value_name = "MODE", default_value = "full", value_parser = recording)]
    pub(crate) record: vac_engine::Recording,
}

fn recording(text: &str) -> Result<vac_engine::Recording, String> {
    let all = vac_engine::Recording::ALL;
    let names: Vec<_> = all.iter().map(|mode| mode.word()).collect();
    let found = all.into_iter().find(|mode| mode.word() == text);
    found.ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A `.star` script, a `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) given: Given,
    #[command(flatten)]
    pub(crate) kept: Kept,
    /// Give the program all that is granted, whatever its manifest asks for.
    #[arg(long)]
    pub(crate) no_manifest: bool,
    /// Arguments of the program.
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// `vac serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A component, or the CID of one in the store.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The address to listen on; port 0 is any that is free. The standard error says which.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) addr: std::net::SocketAddr,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Give the program all that is granted, whatever its manifest asks for.
    #[arg(long)]
    pub(crate) no_manifest: bool,
    /// Hash so much of what the home keeps again each minute, and mend it from its tiers; 0 for nothing.
    #[arg(long, value_name = "SIZE", value_parser = limits::size, default_value = "16MiB")]
    pub(crate) scrub: u64,
    /// Arguments of the program.
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// A `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
    /// `export(args)` in WAVE text, for example 'add(1, 2)'. Several are made in order in one
    /// instance: 'c = codec("{}")' keeps a result, '$c.encode([1])' uses it.
    #[arg(required = true, value_name = "CALL")]
    pub(crate) calls: Vec<String>,
    /// Print the last result as it is, without quotes, if it is text or bytes (of a result, what is in its `ok`).
    #[arg(long, group = "as-it-is")]
    pub(crate) raw: bool,
    /// Write the last result to a file as it is, if it is text or bytes, `-` being the standard output; what the program
    /// itself prints goes to the standard error then.
    #[arg(long, short, value_name = "FILE", group = "as-it-is")]
    pub(crate) output: Option<PathBuf>,
    /// Take this field of the last result for `-o` or `--raw`: `image` of a record, `meta.image` of a record in one, `0` of
    /// a tuple.
    #[arg(long, value_name = "NAME", requires = "as-it-is")]
    pub(crate) field: Option<String>,
    #[command(flatten)]
    pub(crate) given: Given,
    #[command(flatten)]
    pub(crate) kept: Kept,
    /// Give the program all that is granted, whatever its manifest asks for.
    #[arg(long)]
    pub(crate) no_manifest: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A `.wasm` file, a script, a CID or builtin:NAME.
    pub(crate) target: String,
    /// Show the program with its imports outside of WASI satisfied by another component.
    #[arg(long = "link", value_name = "TARGET")]
    pub(crate) links: Vec<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) allowed: Allowed,
}

#[derive(Debug, Args)]
pub(crate) struct Learn {
    /// A `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
    /// A folder that it may see [default: the current one, unless a file or folder is granted].
    #[arg(long, value_name = "DIR")]
    pub(crate) within: Vec<String>,
    /// It may change what is in these folders, too.
    #[arg(long)]
    pub(crate) write: bool,
    /// Call a typed export, `export(args)`, instead of running a command.
    #[arg(long, value_name = "CALL", conflicts_with = "args")]
    pub(crate) call: Option<String>,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Where the manifest goes, `-` being the standard output [default: NAME.vac.toml beside the target].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Do not ask whether it may run with what is shown.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Arguments of the program.
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Runs {
    /// Show at most this many, the newest.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Remove a run, damaged or not; what only it named goes with the next `vac store gc`.
    Rm {
        /// A run: its identity, the beginning or end of it, or `last`.
        #[arg(required = true)]
        runs: Vec<String>,
    },
    /// List the snapshots that replays of a run of calls left, for later ones to begin at.
    Snapshots {
        /// A run: its identity, the beginning or end of it, or `last`.
        run: String,
    },
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
    /// Only this event, marked, with its neighbours and what it is inside of.
    #[arg(long, value_name = "EVENT", conflicts_with_all = ["name", "class", "denied", "from", "to"])]
    pub(crate) around: Option<u64>,
    /// Show at most this many; around an event, this many on each side [default there: 10].
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
    /// Run another version against the record, and say whether it asks for the same: a program or script in the
    /// place of the run's target, or NAME=TARGET in the place of what its script loads as NAME.
    #[arg(long = "with", value_name = "[NAME=]TARGET")]
    pub(crate) with: Vec<String>,
    /// Go on after the first difference, and list all of them.
    #[arg(long, requires = "with")]
    pub(crate) lenient: bool,
    /// Begin at the last snapshot, instead of the start. What is passed over is read and hashed; first calls that gave
    /// the program handles are made again.
    #[arg(long, conflicts_with = "with")]
    pub(crate) from_snapshot: bool,
    /// Leave a snapshot after this many ticks, between two calls of `vac call`; 0 leaves none.
    #[arg(long, value_name = "TICKS", default_value_t = vac_engine::snapshot::TICKS_BETWEEN, conflicts_with = "with")]
    pub(crate) snapshots: u64,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// `vac fork`.
#[derive(Debug, Args)]
pub(crate) struct Fork {
    /// A run of `vac call`, or of `vac run` with a program: its identity, the beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The event at which the fork leaves the run, as `vac log` numbers them; that after the last is the end. Of a run of
    /// calls, where the call begins that has it.
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: u64,
    /// Begin at the nearest snapshot, instead of running the past again. Its state is believed: nothing compares it with
    /// the record.
    #[arg(long)]
    pub(crate) from_snapshot: bool,
    #[command(flatten)]
    pub(crate) allowed: Allowed,
    #[command(flatten)]
    pub(crate) within: Within,
    /// Give the program all that is granted, whatever its manifest asks for.
    #[arg(long)]
    pub(crate) no_manifest: bool,
    /// New calls, `export(args)`, in the same instance; or arguments of a command that was not told them yet.
    #[arg(last = true, value_name = "NEW")]
    pub(crate) new: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportReplay {
    /// A run of a command or of typed calls: its identity, the beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Where the component goes.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// A `.star` script, a `.wasm` file, a CID or builtin:NAME.
    pub(crate) target: String,
    /// Call a typed export, `export(args)`, instead of running a command; several in the same instance.
    #[arg(long = "call", value_name = "CALL", conflicts_with = "args")]
    pub(crate) calls: Vec<String>,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Give the program all that is granted, whatever its manifest asks for.
    #[arg(long)]
    pub(crate) no_manifest: bool,
    /// Where the run of this process happens, that was started by the one that compares.
    #[arg(long, hide = true, num_args = 2, value_names = ["PLACE", "HOW"])]
    pub(crate) inside: Vec<PathBuf>,
    /// Arguments of the program.
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("point").required(true).args(["event", "tick", "time"]))]
pub(crate) struct Seek {
    /// A run: its identity, the beginning or end of it, or `last`.
    pub(crate) run: String,
    /// To the call of this event, before it is answered.
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Option<u64>,
    /// To the first point with at least so many ticks.
    #[arg(long, value_name = "N")]
    pub(crate) tick: Option<u64>,
    /// To this time of the virtual clock since the start of the run, for example 1500ms.
    #[arg(long, value_name = "DURATION", value_parser = limits::duration)]
    pub(crate) time: Option<Duration>,
    /// Show bytes of a memory: an address, and how many [default: memory 0, 64 bytes].
    #[arg(long, value_name = "[MEMORY:]ADDRESS[+LENGTH]", value_parser = crate::commands::seek::parse_window)]
    pub(crate) memory: Option<vac_host::look::Window>,
    /// Show the globals.
    #[arg(long)]
    pub(crate) globals: bool,
    /// Show the whole output until there, not only its last lines.
    #[arg(long)]
    pub(crate) stdout: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct Bisect {
    /// A run: its identity, the beginning or end of it, or `last`.
    #[arg(value_name = "RUN_A")]
    pub(crate) run_a: String,
    /// Another one.
    #[arg(value_name = "RUN_B")]
    pub(crate) run_b: String,
    /// Show this many equal events before the first difference.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 5)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// A run: its identity, the beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The grant: its number, or as it was typed. Without it, those that can be taken back are listed.
    pub(crate) grant: Option<String>,
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
        /// What to keep: files, directories, or `-`.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Keep large files in chunks, so that versions of one file share what is equal. Slower to put and to get.
        #[arg(long)]
        chunked: bool,
        /// Keep them only so long. To put them again within that time keeps them longer.
        #[arg(long = "for", value_name = "DURATION", value_parser = limits::duration)]
        kept_for: Option<Duration>,
    },
    /// Write an object to the standard output or a file, or a directory to a new one.
    Get {
        /// The object's CID.
        cid: String,
        /// Write it here instead of to the standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the objects.
    Ls,
    /// Forget an object that `put` kept; the next `gc` removes it.
    Rm {
        /// The object's CID.
        cid: String,
    },
    /// Remove every object that no run names and that was not put here by hand.
    Gc,
    /// Compress what is put from now on, below its CIDs: with zstd of a level from 1 to 19, or `off`. Without a level, say which.
    Compress {
        #[arg(value_name = "LEVEL|off")]
        level: Option<String>,
    },
    /// Hash every object again. Exit code 6 if something is bad; with --mend, if something stays bad or gone.
    Fsck {
        /// Write anew what is bad or gone, if a tier of this home has it.
        #[arg(long)]
        mend: bool,
        /// Mend with the objects of this tier, or of the home DIR; `./DIR` is never a tier.
        #[arg(long, value_name = "TIER|DIR", requires = "mend")]
        from: Option<PathBuf>,
    },
    /// Hash objects again, a part at a time: each call goes on where the last one stopped. What is bad or gone is written
    /// anew, if a tier of this home has it. Exit code 6 if something stays bad or gone.
    Scrub {
        /// How many bytes of objects to hash now.
        #[arg(long, value_name = "SIZE", value_parser = limits::size, default_value = "1GiB")]
        budget: u64,
        /// Mend with the objects of this tier, or of the home DIR; `./DIR` is never a tier [default: all tiers].
        #[arg(long, value_name = "TIER|DIR")]
        from: Option<PathBuf>,
        /// Go on until interrupted, a part each time that this passed.
        #[arg(long, value_name = "DURATION", value_parser = limits::duration)]
        every: Option<Duration>,
    },
}

const TIERS: &str = "\
Places:
  file:///mnt/pages                a folder that exists
  s3://bucket/prefix               a bucket of S3, or of another server with --endpoint
  memory:                          this process, for tests

A key is said by where it is, env:VAR or file:PATH, and read when the tier is needed. Without
--key-id and --secret it is in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if it was lent,
AWS_SESSION_TOKEN.";

#[derive(Debug, Args)]
pub(crate) struct TierAt {
    /// What it is called.
    pub(crate) name: String,
    /// Where it is, as below.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The server that speaks S3, like https://HOST:PORT [default: Amazon's].
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Its region [default: us-east-1].
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Where the name of the key is.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) key_id: Option<String>,
    /// Where the key is.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) secret: Option<String>,
    /// Where the token is of a key that was lent.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) token: Option<String>,
    /// How often one thing is asked for, at most [default: 5].
    #[arg(long, value_name = "N")]
    pub(crate) attempts: Option<u32>,
    /// How long one attempt may take [default: 30s].
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tier {
    /// Name a tier of this home. It is asked after those that have a name already.
    #[command(after_help = TIERS)]
    Add(TierAt),
    /// List the tiers, the first to be asked first.
    Ls,
    /// Forget a tier. What it holds stays there.
    Rm {
        /// What it is called.
        name: String,
    },
    /// Look whether a tier has all that is kept here. Exit code 1 if not, 6 if something is bad.
    Check {
        /// A tier.
        name: String,
        /// Only these memories, names or roots, and what is below them.
        #[arg(value_name = "MEMORY")]
        memories: Vec<String>,
        /// Read and hash what is there, instead of believing its length.
        #[arg(long)]
        read: bool,
    },
    /// Copy to a tier what is kept here and it lacks.
    Push {
        /// A tier; all of them otherwise.
        name: Option<String>,
        /// Only these memories, names or roots, and what is below them.
        #[arg(value_name = "MEMORY")]
        memories: Vec<String>,
        /// Read and hash what is there, and write again what is bad.
        #[arg(long)]
        read: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mem {
    /// Make a memory in which nothing is mapped, and print its root.
    Create {
        /// What it will be called.
        name: String,
        /// Bytes of a page, a power of two from 4096 to 524288 [default: 65536].
        #[arg(long, value_name = "BYTES", value_parser = limits::page)]
        page: Option<usize>,
        /// Let shard 0 hold pseudo-random bytes of this seed wherever nothing was written.
        #[arg(long, value_name = "SEED")]
        noise: Option<u64>,
        /// Let shard 0 hold the bytes of this file, or object of the store, wherever nothing was written; 256 MiB at most.
        #[arg(long, value_name = "FILE|CID", conflicts_with = "noise")]
        object: Option<String>,
    },
    /// List the memories.
    Ls,
    /// Show what is mapped. A memory is a name or a root.
    Stat {
        /// A name or a root.
        memory: String,
    },
    /// Write bytes of a memory to the standard output or a file. An address is OFFSET or SHARD:OFFSET.
    Read {
        /// A name or a root.
        memory: String,
        /// Where it begins: OFFSET or SHARD:OFFSET, decimal or 0x….
        address: String,
        /// How many bytes.
        len: String,
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write a file, or `-` for the standard input, to an address, and print the new root.
    Write {
        /// The name of the memory.
        name: String,
        /// Where it begins: OFFSET or SHARD:OFFSET, decimal or 0x….
        address: String,
        /// What is written; `-` is the standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Give what a memory holds now another name. Nothing is copied.
    Snapshot {
        /// A name or a root.
        memory: String,
        /// The other name.
        name: String,
    },
    /// Let a name be another memory again: a snapshot or a root.
    Restore {
        /// The name.
        name: String,
        /// What it shall be: a name or a root.
        memory: String,
    },
    /// List the ranges in which two memories differ. Exit code 1 if there are any.
    Diff {
        /// A memory: a name or a root.
        one: String,
        /// Another one.
        other: String,
    },
    /// Write the page at an address to a file, with the proof that the root has it.
    Prove {
        /// A name or a root.
        memory: String,
        /// Somewhere in the page: OFFSET or SHARD:OFFSET, decimal or 0x….
        address: String,
        /// Where the page and its proof go.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check what `prove` wrote; no home is needed.
    Check {
        /// The file that `prove` wrote.
        proof: PathBuf,
        /// The root that it must be of.
        #[arg(long, value_name = "CID")]
        root: Option<String>,
    },
    /// Forget a memory; the next `vac store gc` removes what only it held.
    Rm {
        /// The name of the memory.
        name: String,
    },
    /// Replay a trace, a page number a line, and compare how often each policy hits.
    Bench {
        /// A file with the number of a page in each line.
        trace: PathBuf,
        /// Pages that fit in memory.
        #[arg(long, value_name = "N", default_value_t = 1024)]
        frames: usize,
    },
    /// Show what the pagers of running processes do, until none has a memory open. With `--json`, once.
    Watch {
        /// A memory, or a run; all of them otherwise.
        #[arg(value_name = "MEMORY|RUN")]
        what: Option<String>,
        /// How often, for example 500ms.
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = limits::duration)]
        every: Duration,
        /// How many times.
        #[arg(long, short = 'n', value_name = "N")]
        count: Option<u64>,
    },
}

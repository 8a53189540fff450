//! One program before the judge: right, twice equal, replayed equal, verified, refused.
//!
//! Every run has a working folder of its own with fresh copies of its inputs. The first run has a fresh home, so
//! it compiles; the others start warm. All are whole processes, as somebody types them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::peer;
use crate::repo::{self, Result};

/// Warm runs, whose median is reported.
const WARM_RUNS: usize = 5;
const INPUTS: &str = "examples/compat";

/// What a program is asked, and how its answer is judged.
pub(super) struct Case {
    /// The folder of its inputs under `examples/compat`, copied for each run; none if empty.
    pub(super) inputs: &'static str,
    /// What is typed after the program's path: arguments of a command, or a typed call.
    pub(super) ask: Ask,
    /// What it is granted, in the words of `--grant`; paths begin in the working folder, and `{package}`
    /// is the folder that its file came in.
    pub(super) grants: &'static [&'static str],
    /// What it may read from its standard input, if that is granted.
    pub(super) stdin: &'static str,
    /// Judges the answer.
    pub(super) check: fn(&Ran) -> Result<()>,
    /// What happens without grants.
    pub(super) refused: Refused,
}

/// What is typed.
pub(super) enum Ask {
    /// `vac run PROGRAM -- ARGS`.
    Run(&'static [&'static str]),
    /// `vac call PROGRAM TEXTS`, with further options before the texts.
    Call(&'static [&'static str]),
    /// The same, joined with the component that this text among the inputs is.
    Linked(&'static str, &'static [&'static str]),
}

/// What a run without grants must do.
pub(super) enum Refused {
    /// Ends with this status, having been refused something that a grant would allow; what it says on its
    /// standard error or output contains this text.
    Status(i64, &'static str),
    /// It needs nothing: its answer is the same without grants. (Some C libraries ask for directories
    /// before they know whether they need any; that denial is on record, too.)
    Nothing,
}

/// A finished run.
pub(super) struct Ran {
    pub(super) status: i64,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// The result of a typed call.
    pub(super) result: String,
    /// The working folder, as the run left it.
    pub(super) folder: PathBuf,
    json: Value,
    ns: f64,
}

/// What is reported of a program.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) size_bytes: u64,
    pub(super) cold_ms: f64,
    pub(super) warm_ms: f64,
    pub(super) ticks: u64,
    pub(super) events: u64,
    pub(super) ledger_bytes: u64,
    /// Whether it was refused something without grants, or asks for nothing.
    pub(super) is_refusable: bool,
}

/// Puts `program` before the judge.
pub(super) fn judge(program: &Path, vac: &Path, case: &Case, is_quick: bool) -> Result<Measured> {
    let court = Court::open(program, vac, case)?;
    let cold = court.run(true)?;
    (case.check)(&cold).map_err(|why| court.wrong("its first answer", &why, &cold))?;
    let mut warm_ns = Vec::new();
    for _ in 0..WARM_RUNS {
        let warm = court.run(true)?;
        same_head(&cold, &warm)?;
        warm_ns.push(warm.ns);
    }
    court.is_said("replay", "equal")?;
    court.is_said("verify", "ok")?;
    // Playing a run elsewhere takes as long as all before it: that is for whole pages.
    if let (Ask::Run(_), Some(engine), false) = (&case.ask, peer::engine()?, is_quick) {
        court.is_played(&cold, &engine)?;
    }
    let ledger_bytes = court.ledger_bytes(text(&cold.json, "run")?)?;
    let is_refusable = court.is_refused(&cold)?;
    warm_ns.sort_by(f64::total_cmp);
    Ok(Measured {
        size_bytes: std::fs::metadata(program).map_err(|e| e.to_string())?.len(),
        cold_ms: cold.ns / 1e6,
        warm_ms: warm_ns[WARM_RUNS / 2] / 1e6,
        ticks: number(&cold.json, "ticks")?,
        events: number(&cold.json, "events")?,
        ledger_bytes,
        is_refusable,
    })
}

struct Court<'a> {
    program: &'a Path,
    vac: &'a Path,
    case: &'a Case,
    /// The home and the working folder are in it.
    scratch: tempfile::TempDir,
}

impl<'a> Court<'a> {
    fn open(program: &'a Path, vac: &'a Path, case: &'a Case) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("compat-").tempdir().map_err(|e| e.to_string())?;
        Ok(Self { program, vac, case, scratch })
    }

    fn vac(&self, command: &str) -> Command {
        let mut vac = Command::new(self.vac);
        // Nothing of this machine but what is granted.
        vac.env_clear().arg("--home").arg(self.scratch.path().join("home")).arg("--json").arg(command);
        vac
    }

    /// One run with all its grants, or none.
    fn run(&self, is_granted: bool) -> Result<Ran> {
        let folder = self.fresh_folder()?;
        let (verb, words) = match self.case.ask {
            Ask::Run(args) => ("run", args),
            Ask::Call(texts) | Ask::Linked(_, texts) => ("call", texts),
        };
        let mut vac = self.vac(verb);
        vac.arg(self.program).current_dir(&folder);
        if let Ask::Linked(link, _) = self.case.ask {
            vac.arg("--link").arg(self.assembled(&folder.join(link))?);
        }
        if is_granted {
            let package = self.program.parent().unwrap_or(Path::new(".")).display().to_string();
            let grants = self.case.grants.iter().map(|grant| grant.replace("{package}", &package));
            vac.args(grants.flat_map(|grant| ["--grant".to_owned(), grant]));
        }
        if matches!(self.case.ask, Ask::Run(_)) {
            vac.arg("--");
        }
        let (done, ns) = timed(vac.args(words), self.case.stdin.as_bytes())?;
        let json: Value = serde_json::from_slice(&done.stdout).map_err(|e| {
            format!("`vac {verb}` printed no JSON: {e}\n{}", String::from_utf8_lossy(&done.stderr))
        })?;
        if let Some(error) = json.get("error").filter(|error| !error.is_null())
            && is_granted
        {
            return Err(format!("`vac {verb}`: {error}"));
        }
        Ok(Ran {
            status: done.status.code().map_or(-1, i64::from),
            stdout: stream(&json, "stdout"),
            stderr: stream(&json, "stderr"),
            result: json.get("result").and_then(Value::as_str).unwrap_or("").to_owned(),
            folder,
            json,
            ns,
        })
    }

    /// The component that a text is, beside the working folder.
    fn assembled(&self, text: &Path) -> Result<PathBuf> {
        let bytes = wat::parse_file(text).map_err(|e| format!("{}: {e}", text.display()))?;
        let path = self.scratch.path().join("link.wasm");
        std::fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    /// The working folder, emptied, with the inputs.
    fn fresh_folder(&self) -> Result<PathBuf> {
        let folder = self.scratch.path().join("work");
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(failed)?;
        }
        std::fs::create_dir(&folder).map_err(failed)?;
        if !self.case.inputs.is_empty() {
            let inputs = repo::root()?.join(INPUTS).join(self.case.inputs);
            for entry in std::fs::read_dir(&inputs).map_err(|e| format!("{}: {e}", inputs.display()))? {
                let entry = entry.map_err(failed)?;
                std::fs::copy(entry.path(), folder.join(entry.file_name())).map_err(failed)?;
            }
        }
        Ok(folder)
    }

    /// What `vac COMMAND last` says of itself.
    fn is_said(&self, command: &str, field: &str) -> Result<()> {
        let done = self.vac(command).arg("last").output().map_err(|e| e.to_string())?;
        let json: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        match json.get(field).and_then(Value::as_bool) {
            Some(true) if done.status.success() => Ok(()),
            _ => Err(format!("`vac {command}` failed: {}", String::from_utf8_lossy(&done.stderr))),
        }
    }

    /// The last run as a component: the stock engine prints the same, with nothing granted and nothing there.
    fn is_played(&self, ran: &Ran, engine: &Path) -> Result<()> {
        let (component, empty) = (self.scratch.path().join("replay.wasm"), self.scratch.path().join("empty"));
        std::fs::create_dir_all(&empty).map_err(|e| format!("{}: {e}", empty.display()))?;
        let mut export = self.vac("export-replay");
        repo::output(export.args(["last", "--output"]).arg(&component))?;
        let mut stock = Command::new(engine);
        let (played, _) = timed(stock.env_clear().arg("run").arg(&component).current_dir(&empty), &[])?;
        let status = played.status.code().map_or(-1, i64::from);
        match (status, &played.stdout, &played.stderr) == (ran.status, &ran.stdout, &ran.stderr) {
            true => Ok(()),
            false => Err(format!(
                "its exported run differs: status {status}\n--- stdout\n{}\n--- stderr\n{}",
                String::from_utf8_lossy(&played.stdout),
                String::from_utf8_lossy(&played.stderr)
            )),
        }
    }

    fn ledger_bytes(&self, run: &str) -> Result<u64> {
        let runs = self.scratch.path().join("home/runs");
        let entries = std::fs::read_dir(&runs).map_err(|e| format!("{}: {e}", runs.display()))?;
        let own = entries.filter_map(std::result::Result::ok).filter(|entry| {
            entry.file_name().to_string_lossy().strip_prefix(run).is_some_and(|rest| rest != ".close")
        });
        Ok(own.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
    }

    /// Without grants: the program is told, the operator is told, and the record says so.
    fn is_refused(&self, granted: &Ran) -> Result<bool> {
        let ran = self.run(false)?;
        let denied = ran.json.get("denied").and_then(Value::as_array).map_or(0, Vec::len);
        let recorded = self.denials_on_record()?;
        match self.case.refused {
            Refused::Nothing => {
                let is_same = (ran.status, &ran.stdout) == (granted.status, &granted.stdout);
                match is_same && ran.result == granted.result {
                    true => Ok(false),
                    false => Err(self.wrong("its answer without grants", "expected the same answer", &ran)),
                }
            }
            Refused::Status(status, said) => {
                let text = [&ran.stdout[..], &ran.stderr[..]].concat();
                let is_told = String::from_utf8_lossy(&text).contains(said);
                match ran.status == status && is_told && denied > 0 && recorded > 0 {
                    true => Ok(true),
                    false => {
                        let expected = format!(
                            "expected status {status}, `{said}`, a hint and a denial on record, got {} hints and \
                             {recorded} denials",
                            denied
                        );
                        Err(self.wrong("its refusal", &expected, &ran))
                    }
                }
            }
        }
    }

    fn denials_on_record(&self) -> Result<u64> {
        let done = self.vac("log").args(["last", "--denied"]).output().map_err(|e| e.to_string())?;
        let json: Value = serde_json::from_slice(&done.stdout).map_err(|e| format!("`vac log`: {e}"))?;
        number(&json, "found")
    }

    fn wrong(&self, what: &str, why: &str, ran: &Ran) -> String {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..2000).unwrap_or(bytes)).into_owned();
        format!(
            "{what} is wrong: {why}; status {}, result `{}`\n--- stdout\n{}\n--- stderr\n{}",
            ran.status,
            shown(ran.result.as_bytes()),
            shown(&ran.stdout),
            shown(&ran.stderr),
        )
    }
}

fn same_head(first: &Ran, second: &Ran) -> Result<()> {
    let (a, b) = (text(&first.json, "head")?, text(&second.json, "head")?);
    if a == b { Ok(()) } else { Err(format!("two equal runs have the heads {a} and {b}")) }
}

/// Runs a command with `stdin`; how it ended, and how long it took.
fn timed(command: &mut Command, stdin: &[u8]) -> Result<(std::process::Output, f64)> {
    let start = Instant::now();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("{command:?}: {e}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that reads nothing closes the pipe, which is its right.
        let _ = pipe.write_all(stdin);
    }
    let done = child.wait_with_output().map_err(|e| format!("{command:?}: {e}"))?;
    Ok((done, start.elapsed().as_nanos() as f64))
}

/// A stream of a run, which is text or `{"hex": …}`.
fn stream(json: &Value, name: &str) -> Vec<u8> {
    match json.get(name) {
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(other) => other.get("hex").and_then(Value::as_str).map(unhex).unwrap_or_default(),
        None => Vec::new(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..text.len() / 2).filter_map(|i| byte(2 * i)).collect()
}

fn text<'j>(json: &'j Value, name: &str) -> Result<&'j str> {
    json.get(name).and_then(Value::as_str).ok_or_else(|| format!("`vac` said no `{name}`: {json}"))
}

fn number(json: &Value, name: &str) -> Result<u64> {
    json.get(name).and_then(Value::as_u64).ok_or_else(|| format!("`vac` said no `{name}`: {json}"))
}

impl Ran {
    /// The standard output as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// A file that the run left in its folder.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.folder.join(name)).map_err(|e| format!("it left no `{name}`: {e}"))
    }

    /// Ended with status 0 and printed exactly this.
    pub(super) fn printed(&self, expected: &str) -> Result<()> {
        match (self.status, self.text() == expected) {
            (0, true) => Ok(()),
            _ => Err(format!("expected status 0 and {expected:?}")),
        }
    }

    /// Ended with status 0 and printed all of these somewhere.
    pub(super) fn printed_all(&self, expected: &[&str]) -> Result<()> {
        let text = self.text();
        match expected.iter().find(|part| !text.contains(**part)) {
            None if self.status == 0 => Ok(()),
            None => Err("expected status 0".to_owned()),
            Some(part) => Err(format!("expected {part:?} in what it printed")),
        }
    }

    /// What each call of a `vac call` gave, as WAVE text.
    pub(super) fn gave_each(&self) -> Vec<String> {
        let calls = self.json.get("calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let result = |call: &Value| call.get("result").and_then(Value::as_str).unwrap_or("").to_owned();
        calls.iter().map(result).collect()
    }

    /// The result of a call is exactly this WAVE text.
    pub(super) fn gave(&self, expected: &str) -> Result<()> {
        if self.result == expected { Ok(()) } else { Err(format!("expected `{expected}`")) }
    }
}

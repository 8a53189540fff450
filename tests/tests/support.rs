//! What every test needs: the program, a sandbox to run it in, and what came of a command.
//!
//! Every command is checked for what must never happen, whatever it was given: a panic, or
//! a process that does not end.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A command that takes longer than this hangs.
const HANGS_AFTER: Duration = Duration::from_secs(100);
/// How long the code stays that tests of another build shared.
const CODE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked whether a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The program under test, built if it is missing or older than its sources.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("VAC_TEST_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// This binary is `target/PROFILE/deps/vac-HASH`, and the program `target/PROFILE/vac`.
fn build() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile_folder = this.parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--package", "vac"]).current_dir(repository());
    cargo.arg("--target-dir").arg(profile_folder.parent().unwrap());
    if profile_folder.file_name() == Some(OsStr::new("release")) {
        cargo.arg("--release");
    }
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "cannot build `vac`: {}", String::from_utf8_lossy(&built.stderr));
    profile_folder.join("vac")
}

/// Where the code is that tests share. Each build of the program has its own: another may compile otherwise.
fn code() -> &'static Path {
    static CODE: OnceLock<PathBuf> = OnceLock::new();
    CODE.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code");
        let built = std::fs::metadata(program()).unwrap().modified().unwrap();
        let built = built.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string();
        for old in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            // One that is newer may be of a build that is tested at the same time.
            let age =
                old.metadata().and_then(|found| found.modified()).unwrap().elapsed().unwrap_or_default();
            if old.file_name() != *built && age > CODE_KEPT {
                let _ = std::fs::remove_dir_all(old.path());
            }
        }
        std::fs::create_dir_all(all.join(&built)).unwrap();
        all.join(built)
    })
}

/// A folder of one test's own, with a home and a working folder in it.
pub(crate) struct Sandbox {
    root: TempDir,
}

impl Sandbox {
    /// One whose home has the code of programs that another test compiled: most of the time of most tests.
    pub(crate) fn new() -> Self {
        let sandbox = Self::cold();
        std::fs::create_dir(sandbox.home()).unwrap();
        std::os::unix::fs::symlink(code(), sandbox.home().join("code")).unwrap();
        sandbox
    }

    /// One that has nothing yet, to see what compiling does.
    pub(crate) fn cold() -> Self {
        let root = tempfile::Builder::new().prefix("vac-test-").tempdir().unwrap();
        std::fs::create_dir(root.path().join("work")).unwrap();
        Self { root }
    }

    /// Where runs, objects and compiled code are kept.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The folder that commands are started in.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// A file or folder in the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// Writes a file in the working folder, making the folders above it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The text of a file in the working folder.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// `vac` with this sandbox's home and environment, and nothing else of the outside.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(program());
        command.arg("--home").arg(self.home()).args(args);
        command
    }

    /// Any program in this sandbox's folder and environment.
    pub(crate) fn bare(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.root.path());
        command.env("COLUMNS", "100").current_dir(self.work()).stdin(Stdio::null());
        command
    }

    /// Runs `vac` to its end.
    pub(crate) fn vac(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    /// Runs `vac --json` to its end, which must be good, and reads its one object.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.vac(&[&["--json"], args].concat()).ok().json()
    }

    /// Puts the code of a command where the next run finds it, so that what is measured is not compiling.
    pub(crate) fn compile(&self, name: &str) {
        let ran = self.vac(&["run", name, "--ticks", "1", "--record=off"]);
        assert!(ran.code() == 4 && ran.stderr.contains("ticks"), "{ran:?}");
    }

    /// Runs `vac` with these bytes on its standard input.
    pub(crate) fn vac_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        run_with_input(self.command(args), input)
    }

    /// The files of the home below `folder`, sorted.
    pub(crate) fn home_files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.home().join(folder), &mut files);
        files.sort();
        files
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        match (kind.is_dir(), kind.is_symlink() && path.is_dir()) {
            (true, _) => collect(&path, files),
            // Code that tests share.
            (_, true) => {}
            (false, false) => files.push(path),
        }
    }
}

/// Copies a folder with all that is in it, but not the code that tests share.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().read_link() {
            Ok(to) if to.is_dir() => {}
            _ if entry.path().is_dir() => copy_folder(&entry.path(), &target),
            _ => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The command, for messages.
    pub(crate) typed: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}: {self:?}", self.status.signal()))
    }

    /// It went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(
            self.code(),
            0,
            "{}\n{}\n{}",
            self.typed,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// It ended with `code`, and the first line on the standard error is the error, with all of
    /// `words` in it.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        let shown = format!("{}\n{}\n{}", self.typed, String::from_utf8_lossy(&self.stdout), self.stderr);
        assert_eq!(self.code(), code, "{shown}");
        let line = self.error_line();
        for word in words {
            assert!(line.contains(word), "expected `{word}` in the error\n{shown}");
        }
        self
    }

    /// The line with the error: the first line, or the first after the summary of a run.
    #[track_caller]
    pub(crate) fn error_line(&self) -> &str {
        let is_summary = |line: &&str| {
            let first = line.split("  ").next().unwrap_or_default();
            first.starts_with("run 0")
                || first == "denied"
                || first == "KERNEL"
                || first.starts_with("builtin:")
                || first.ends_with(".wasm")
        };
        let line = self.stderr.lines().find(|line| !is_summary(line)).unwrap_or_default();
        assert!(
            line.starts_with("error: ") && line.len() > "error: ".len(),
            "no error\n{}\n{}",
            self.typed,
            self.stderr
        );
        line
    }

    /// The one JSON object on the standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.stdout).unwrap_or_else(|e| {
            panic!("{}: {e}\n{}\n{}", self.typed, String::from_utf8_lossy(&self.stdout), self.stderr)
        });
        assert!(value.is_object(), "expected one object: {value}");
        value
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: Command) -> Ran {
    run_with_input(command, &[])
}

/// Runs a command with bytes on its standard input, if there are any.
#[track_caller]
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Ran {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let typed = format!("{command:?}");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early does not read its input.
        let _ = stdin.write_all(input);
    }
    let status = wait(&mut child, &typed);
    let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
    let ran = Ran { typed, status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() };
    assert!(!ran.stderr.contains("panicked"), "a panic: {}\n{}", ran.typed, ran.stderr);
    assert_ne!(ran.status.code(), Some(101), "a panic: {}\n{}", ran.typed, ran.stderr);
    ran
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits for the end of a process, which must come.
#[track_caller]
pub(crate) fn wait(child: &mut Child, typed: &str) -> ExitStatus {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if waited > HANGS_AFTER {
            let _ = child.kill();
            let _ = child.wait();
            panic!("`{typed}` did not end");
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

/// A stream of numbers that is the same in every run of the tests.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A field of a JSON object as text.
#[track_caller]
pub(crate) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("`{field}` is not text in {value}"))
}

/// A field of a JSON object as a number.
#[track_caller]
pub(crate) fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("`{field}` is not a number in {value}"))
}

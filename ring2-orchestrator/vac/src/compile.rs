//! Compiling in a process of its own.
//!
//! A compiler that is given hostile code may take hours, all of the memory, or fall over. So `vac`
//! starts itself again under [`SUBCOMMAND`], hands that process the program on its standard input and
//! takes the sealed code from its standard output:
//!
//! ```text
//! vac run x.wasm ── program ──> vac __compile MEMORY SECONDS PROFILE [interpreter] [outline]
//!                <── 0, code ──   limits itself, then reads, compiles, writes, ends
//!                <── 1, error ──
//! ```
//!
//! The child gets no environment and no other open file; before it reads the first byte it limits its
//! own data segment and processor time, dumps no core, and on Linux gives up all calls of the system that
//! compiling does not take ([`crate::jail`]). It dies with its parent. The parent kills it when its time is over or the operator interrupts. However
//! it ends, the parent has an error to show. There is no way around it: if no child can be started,
//! nothing is compiled.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use vac_core::canon::{decode, encode};
use vac_core::caps::raise;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, cut, quote, quote_line};
use vac_engine::{HostClock, Limit, Limits};
use vac_host::{Backend, Coder, Compiler, Loaded, Profile, Watch, load};

/// What a `vac` that compiles is called with.
pub(crate) const SUBCOMMAND: &str = "__compile";

/// The argument that asks for code of the interpreter.
const INTERPRETER: &str = "interpreter";
/// The argument that asks for what a program is, without what it does.
const OUTLINE: &str = "outline";
/// Begins an answer that is code.
const CODE: u8 = 0;
/// Begins an answer that says why there is none: `[expected, got]` in canonical form.
const CORRUPT: u8 = 1;
/// What is shown of a child's reason.
const COMPLAINT_MAX_BYTES: usize = 600;
/// Bytes of what a falling compiler says that are looked at.
const WORDS_MAX_BYTES: u64 = 16 << 10;
/// The parent looks this often whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Address space beyond the memory that is allowed, for stacks and reserves of threads.
const RESERVE_BYTES: u64 = 1 << 30;
/// The same for each processor, which has a thread.
const RESERVE_OF_THREAD_BYTES: u64 = 160 << 20;

/// Starts children that compile.
pub(crate) struct ChildCompiler {
    pub(crate) clock: Arc<dyn HostClock>,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) time_max_ns: Option<u64>,
    pub(crate) memory_max_bytes: u64,
    pub(crate) backend: Backend,
}

impl ChildCompiler {
    pub(crate) fn new(clock: Arc<dyn HostClock>, watch: Arc<dyn Watch>, limits: &Limits) -> Self {
        let (time_max_ns, memory_max_bytes) =
            (limits.get(Limit::CompileTime), limits.max(Limit::CompileMemory));
        Self { clock, watch, time_max_ns, memory_max_bytes, backend: Backend::Native }
    }

    fn start(&self, profile: Profile, is_outline: bool) -> io::Result<Child> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        // Every thread's time counts, and the parent's clock is the real limit.
        let seconds = self.time_max_ns.map_or(0, |ns| (ns / 1_000_000_000 + 2).saturating_mul(threads));
        let mut command = Command::new(own_program()?);
        command
            .arg0("vac")
            .arg(SUBCOMMAND)
            .arg(self.memory_max_bytes.to_string())
            .arg(seconds.to_string())
            .arg(profile.name());
        if self.backend == Backend::Interpreter {
            command.arg(INTERPRETER);
        }
        if is_outline {
            command.arg(OUTLINE);
        }
        command.env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// The answer of a child, once it has closed its output, or why not to wait for it any longer.
    fn wait(&self, answer: &Receiver<Vec<u8>>, place: &str) -> Result<Vec<u8>> {
        let start_ns = self.clock.monotonic_ns();
        loop {
            match answer.recv_timeout(LOOK_EVERY) {
                Ok(bytes) => return Ok(bytes),
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(abort) = self.watch.stop() {
                return Err(abort.into());
            }
            let took_ns = self.clock.monotonic_ns().saturating_sub(start_ns);
            if let Some(max_ns) = self.time_max_ns.filter(|max_ns| took_ns >= *max_ns) {
                return Err(took_too_long(place, max_ns).into());
            }
        }
    }

    /// Why a child has given no answer.
    fn fell(&self, place: &str, status: ExitStatus, words: &str) -> HostAbort {
        if words.contains("memory allocation of") || words.contains("Cannot allocate memory") {
            let max = self.memory_max_bytes;
            let message = format!("compiling `{place}` wants more than the limit of {max} bytes of memory");
            return HostAbort::new(AbortKind::Compile, message).hint(raise(Limit::CompileMemory.rule().name));
        }
        match status.signal().map(Signal::from_named_raw) {
            Some(Some(Signal::XCPU)) => took_too_long(place, self.time_max_ns.unwrap_or_default()),
            Some(Some(Signal::INT | Signal::TERM)) => HostAbort::new(AbortKind::Interrupt, "interrupted"),
            _ => {
                let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("no word");
                let message = format!("the compiler fell over `{place}` ({status}): {}", quote(first));
                let hint = "the program does something that the compiler cannot take; nothing of it was run";
                HostAbort::new(AbortKind::Compile, message).hint(hint)
            }
        }
    }
}

impl Compiler for ChildCompiler {
    fn backend(&self) -> Backend {
        self.backend
    }

    fn compile(&self, loaded: &Loaded<'_>, profile: Profile) -> Result<Vec<u8>> {
        self.have(loaded, profile, false)
    }

    fn outline(&self, loaded: &Loaded<'_>, profile: Profile) -> Result<Vec<u8>> {
        self.have(loaded, profile, true)
    }
}

impl ChildCompiler {
    /// Has a child make the code of a program, or its outline.
    fn have(&self, loaded: &Loaded<'_>, profile: Profile, is_outline: bool) -> Result<Vec<u8>> {
        let place = quote(loaded.place);
        let mut child = self.start(profile, is_outline).map_err(|e| not_started(&e))?;
        std::thread::scope(|scope| {
            let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let (give, answer) = channel();
            scope.spawn(move || stdin.map(|mut to| to.write_all(loaded.bytes)));
            // Compiled code is smaller than what compiling it took.
            scope.spawn(move || drain(stdout, self.memory_max_bytes, &give));
            let (say, said) = channel();
            scope.spawn(move || drain(stderr, WORDS_MAX_BYTES, &say));
            let waited = self.wait(&answer, &place);
            if waited.is_err() {
                // It may have ended by itself a moment ago.
                let _ = child.kill();
            }
            let status = child.wait().map_err(|e| not_started(&e))?;
            let words = said.recv().unwrap_or_default();
            answered(waited?, loaded).unwrap_or_else(|| {
                let stopped = self.watch.stop();
                let fell = || self.fell(&place, status, &String::from_utf8_lossy(&words));
                Err(stopped.unwrap_or_else(fell).into())
            })
        })
    }
}

fn drain(from: Option<impl Read>, max_bytes: u64, to: &Sender<Vec<u8>>) {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.take(max_bytes).read_to_end(&mut bytes);
    }
    let _ = to.send(bytes);
}

/// What the bytes of a child mean; `None` if they are no whole answer.
fn answered(mut bytes: Vec<u8>, loaded: &Loaded<'_>) -> Option<Result<Vec<u8>>> {
    match *bytes.first()? {
        CODE => {
            bytes.remove(0);
            Some(Ok(bytes))
        }
        CORRUPT => {
            let (expected, got): (String, String) = decode(bytes.get(1..)?, "an answer").ok()?;
            let got = quote_line(cut(&got, COMPLAINT_MAX_BYTES));
            Some(Err(Corrupt::new("program", format!("`{}`", loaded.place), expected, got).into()))
        }
        _ => None,
    }
}

fn took_too_long(place: &str, max_ns: u64) -> HostAbort {
    let message = format!("compiling `{place}` takes longer than {:?}", Duration::from_nanos(max_ns));
    HostAbort::new(AbortKind::Compile, message).hint(raise(Limit::CompileTime.rule().name))
}

fn not_started(error: &io::Error) -> HostAbort {
    HostAbort::new(AbortKind::Machine, format!("cannot start a process that compiles: {error}"))
        .hint("what is not compiled apart is not compiled at all; `ulimit -u` shows how many processes you may have")
}

/// This very program, even if its file was replaced since it was started.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

/// The child: compiles its standard input. The arguments are those of [`ChildCompiler::start`].
pub(crate) fn child(args: &[String]) -> ExitCode {
    let [memory_max_bytes, seconds, profile, rest @ ..] = args else { return ExitCode::FAILURE };
    let has = |word: &str| rest.iter().any(|given| given == word);
    let backend = if has(INTERPRETER) { Backend::Interpreter } else { Backend::Native };
    if rest.iter().any(|word| word != INTERPRETER && word != OUTLINE) {
        return ExitCode::FAILURE;
    }
    let numbers = memory_max_bytes.parse().ok().zip(seconds.parse().ok());
    let Some(((memory_max_bytes, seconds), profile)) = numbers.zip(Profile::named(profile)) else {
        return ExitCode::FAILURE;
    };
    let done = confine(memory_max_bytes, seconds).and_then(|()| {
        let mut program = Vec::new();
        io::stdin().lock().read_to_end(&mut program)?;
        let mut to = io::stdout().lock();
        match seal(&program, profile, backend, has(OUTLINE)) {
            Ok(code) => {
                to.write_all(&[CODE])?;
                to.write_all(&code)
            }
            Err(Error::Corrupt(c)) => to.write_all(&[&[CORRUPT][..], &encode(&(c.expected, c.got))].concat()),
            Err(other) => Err(io::Error::other(other)),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn seal(program: &[u8], profile: Profile, backend: Backend, is_outline: bool) -> Result<Vec<u8>> {
    let (coder, loaded) = (Coder::of(profile, backend)?, load::load(program, "the program")?);
    if is_outline { coder.seal_outline(&loaded) } else { coder.seal(&loaded) }
}

/// Takes away what compiling does not need. Nothing hostile has been read yet.
fn confine(memory_max_bytes: u64, seconds: u64) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let reserve = RESERVE_OF_THREAD_BYTES.saturating_mul(threads).saturating_add(RESERVE_BYTES);
    let most = |resource, max| {
        let limit = rustix::process::getrlimit(resource);
        let max = limit.maximum.map_or(max, |hard| hard.min(max));
        setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) })
    };
    most(Resource::Core, 0)?;
    most(Resource::Fsize, 0)?;
    most(Resource::Data, memory_max_bytes)?;
    most(Resource::As, memory_max_bytes.saturating_add(reserve))?;
    if seconds > 0 {
        most(Resource::Cpu, seconds)?;
    }
    // Where the system cannot, the limits above are what there is.
    #[cfg(target_os = "linux")]
    let _ = crate::jail::lock();
    Ok(())
}

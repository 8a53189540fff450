//! The host as ring 2 sees it: clocks, randomness, the environment, the standard streams.

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcetera::BaseStrategy;
use rustix::event::PollFlags;
use vac_core::fault::{Error, HostAbort, Result, Usage};
use vac_engine::session::Outside;
use vac_engine::{Deadline, HostClock, Limit, Limits};
use vac_host::{Backend, Console, Out, Watch};

use crate::client::Client;
use crate::compile::ChildCompiler;
use crate::exit;
use crate::streams::{Writer, wait};
use crate::ui::Progress;

/// The clocks of this machine.
pub(crate) struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the host's time is injected")]
    pub(crate) fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl HostClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the host's time is injected")]
    fn unix_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The standard library seeds its hash maps from the system's entropy.
    fn random_u32(&self) -> u32 {
        std::hash::RandomState::new().build_hasher().finish() as u32
    }
}

/// A variable of the operator's environment.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is injected")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The home that was asked for, or the platform's data directory.
pub(crate) fn home_path(asked: Option<PathBuf>) -> Result<PathBuf> {
    match asked.or_else(|| std::env::var_os("VAC_HOME").map(PathBuf::from)) {
        Some(path) if path.as_os_str().is_empty() => {
            return Err(Usage::new("`VAC_HOME` names no folder: it is empty").into());
        }
        Some(path) => return Ok(path),
        None => {}
    }
    let base = etcetera::choose_base_strategy().map_err(|e| {
        Usage::new(format!("cannot tell where your data directory is: {e}"))
            .hint("name a home with `--home DIR` or `VAC_HOME`")
    })?;
    Ok(base.data_dir().join("vac"))
}

/// The folder this process was started in.
pub(crate) fn working_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(|e| Error::from(HostAbort::io("find", "the working folder", &e)))
}

/// Whether somebody can type something here, or a file or another program may be read: anything but `/dev/null` and its kind.
pub(crate) fn has_input() -> bool {
    use rustix::fs::{FileType, fstat};
    let stdin = io::stdin();
    io::IsTerminal::is_terminal(&stdin)
        || fstat(&stdin).is_ok_and(|is| FileType::from_raw_mode(is.st_mode) != FileType::CharacterDevice)
}

/// From here on this process leaves no core file behind: it is about to hold a secret.
pub(crate) fn leave_no_core() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // No file is so short, and a program that gets what others would write is not started for a limit of one byte, unlike
    // for none (core(5)).
    let most = getrlimit(Resource::Core).maximum.map_or(1, |most| most.min(1));
    let none = Rlimit { current: Some(most), maximum: Some(most) };
    let failed = |e: rustix::io::Errno| HostAbort::io("forbid", "core files", &e.into());
    Ok(setrlimit(Resource::Core, none).map_err(failed)?)
}

/// What a live run takes from this process. The console that `console` makes may ask whether to go on.
pub(crate) fn outside(
    console: impl FnOnce(&Arc<dyn Watch>) -> Arc<Mutex<dyn Console>>,
    limits: &Limits,
) -> Outside {
    outside_of(Backend::Native, console, limits)
}

/// The same, with programs compiled for `backend`.
pub(crate) fn outside_of(
    backend: Backend,
    console: impl FnOnce(&Arc<dyn Watch>) -> Arc<Mutex<dyn Console>>,
    limits: &Limits,
) -> Outside {
    let clock: Arc<dyn HostClock> = Arc::new(SystemClock::new());
    let time = limits.get(Limit::Time).map(Duration::from_nanos);
    let watch: Arc<dyn Watch> = Arc::new(Deadline::new(Arc::clone(&clock), time, interrupt_flag()));
    let compiler = ChildCompiler::new(Arc::clone(&clock), Arc::clone(&watch), limits);
    let compiler = Arc::new(ChildCompiler { backend, ..compiler });
    let console = Arc::new(Mutex::new(Patient { inner: console(&watch), watch: Arc::clone(&watch) }));
    Outside { clock, watch, console, compiler, http: Some(Arc::new(Client)), warm: None }
}

/// A console that waits for its input only as long as the run may go on.
struct Patient {
    inner: Arc<Mutex<dyn Console>>,
    watch: Arc<dyn Watch>,
}

impl Console for Patient {
    fn read(&mut self, max: usize) -> io::Result<Vec<u8>> {
        wait(&io::stdin(), PollFlags::IN, &*self.watch)?;
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).read(max)
    }

    fn write(&mut self, to: Out, bytes: &[u8]) -> io::Result<()> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).write(to, bytes)
    }
}

/// Set by the first interrupt, so that the run ends in order; the second one ends the process.
pub(crate) fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    let _ = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    });
    flag
}

/// Waits for `time`, or until the flag is set.
pub(crate) fn sleep_unless(interrupted: &AtomicBool, time: Duration) {
    const STEP: Duration = Duration::from_millis(100);
    let mut left = time;
    while !left.is_zero() && !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(left.min(STEP));
        left = left.saturating_sub(STEP);
    }
}

/// The standard streams of this process.
pub(crate) struct Terminal {
    progress: Progress,
    watch: Arc<dyn Watch>,
    stdout: Writer,
    stderr: Writer,
    /// Whether somebody else writes to the standard output.
    is_taken: bool,
}

impl Terminal {
    pub(crate) fn new(progress: Progress, watch: &Arc<dyn Watch>, is_taken: bool) -> Self {
        let (stdout, stderr) = (Writer::of(io::stdout()), Writer::of(io::stderr()));
        Self { progress, watch: Arc::clone(watch), stdout, stderr, is_taken }
    }
}

impl Console for Terminal {
    fn read(&mut self, max: usize) -> io::Result<Vec<u8>> {
        read_stdin(max)
    }

    fn write(&mut self, to: Out, bytes: &[u8]) -> io::Result<()> {
        self.progress.stop();
        match to {
            Out::Stdout if !self.is_taken => self.stdout.write_all(bytes, &*self.watch),
            Out::Stdout | Out::Stderr => self.stderr.write_all(bytes, &*self.watch),
        }
    }
}

/// Past the standard library's buffer, which no poll knows of.
fn read_stdin(max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max];
    let n = loop {
        match rustix::io::read(io::stdin(), &mut bytes) {
            Err(rustix::io::Errno::INTR) => {}
            read => break read?,
        }
    };
    bytes.truncate(n);
    Ok(bytes)
}

/// Keeps what a guest writes, for the one JSON object on the standard output.
#[derive(Default)]
pub(crate) struct Captured {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Reads the standard input, and lets nobody hear what a guest writes: the ledger has it.
pub(crate) struct Muted;

impl Console for Muted {
    fn read(&mut self, max: usize) -> io::Result<Vec<u8>> {
        read_stdin(max)
    }

    fn write(&mut self, _: Out, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of each stream that are kept; the ledger has the rest.
const CAPTURED_MAX_BYTES: usize = 64 << 20;

impl Console for Captured {
    fn read(&mut self, max: usize) -> io::Result<Vec<u8>> {
        read_stdin(max)
    }

    fn write(&mut self, to: Out, bytes: &[u8]) -> io::Result<()> {
        let kept = match to {
            Out::Stdout => &mut self.stdout,
            Out::Stderr => &mut self.stderr,
        };
        let room = CAPTURED_MAX_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        Ok(())
    }
}

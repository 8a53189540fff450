//! One number, one random guest, and everything that must be equal about it.
//!
//! A seed is run and recorded; replayed; replayed once more after the home was opened again, by a new engine; run
//! again in another home; and run by the interpreter. The worlds that these runs see are equal in content and
//! different in all else. So are the records then, to the byte: heads, outputs, outcomes.
//!
//! Nearly all of the time went into compiling what all guests have: what is around their functions, and the paths to the
//! host's. Such functions are compiled once ([`Functions`]), and for one seed in [`ANEW_EVERY`] all of them are compiled anew
//! and must be the same code.
//!
//! Where grants are taken back, only replays are compared: that happens when it happens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vac_core::cid::Cid;
use vac_core::fault::Error;
use vac_core::ledger::{Entry, Outcome, Reader, RunId};
use vac_engine::grants::Grant;
use vac_engine::run::{Finished, Request};
use vac_engine::session::Outside;
use vac_engine::target::Target;
use vac_engine::{Home, HostClock, Limit, calls, replay, revoke, run, verify};
use vac_host::engine::Functions;
use vac_host::http::{Http, HttpFailure, HttpRequest, HttpResponse, MayConnect};
use vac_host::{Backend, Coder, Compiler, Console, Loaded, NoWatch, Out, Profile, load};

use crate::guests::{FUNCTIONS, Plan, Version};
use crate::mutate::Random;

/// Ticks of a guest that says nothing else, at most.
const TICKS_MAX: u64 = 200_000;
/// Of so many seeds, one is compiled without what was kept of others.
const ANEW_EVERY: u64 = 50;
/// Where a home costs no disk, if the system has such a place.
const MEMORY: &str = "/dev/shm";
/// What a run waits for a revoked grant, so that it hears of it at all.
const HEARD_AFTER: std::time::Duration = std::time::Duration::from_millis(45);

/// What a seed stands for: a guest, and what it is given.
#[derive(Debug, Clone)]
pub struct Seed {
    plan: Plan,
    request: Request,
    calls: Vec<String>,
    input: Vec<u8>,
    /// Outputs after which the first grant is taken back.
    revoked_after: Option<u64>,
}

impl Seed {
    /// What number `n` stands for. Directories are below a folder that each run has of its own.
    pub fn new(n: u64) -> Self {
        let mut random = Random::new(n);
        let plan = Plan::new(&mut random);
        let mut request = Request { seed: random.next_u64(), ..Request::default() };
        request.args = (0..random.below(3)).map(|i| "x".repeat(i * 40)).collect();
        request.env = if random.below(2) == 0 { vec![("A".into(), "1".into())] } else { Vec::new() };
        request.config = if random.below(3) == 0 { vec![("k".into(), "v".into())] } else { Vec::new() };
        let kinds = [
            "dir:rw=rw::w",
            "dir:ro=ro::r",
            "stdin",
            "kv:rw=a::k",
            "http:api.example.com",
            "tcp:127.0.0.1:9",
        ];
        let granted = kinds.iter().filter(|_| random.below(2) == 0);
        let parse = |text: &&str| Grant::parse(text, &|_| None).expect("it is a grant");
        request.grants = granted.map(parse).collect();
        limits(&mut request, &mut random);
        let call = |random: &mut Random, n: usize| {
            let bytes = ["[]", "[1, 2, 3]", "[255, 0, 128, 7, 9, 1, 2, 3, 4]", "$r"][random.below(4)];
            let bytes = if n == 0 && bytes == "$r" { "[]" } else { bytes };
            format!("r = f{}({}, {bytes})", random.below(FUNCTIONS), random.next_u64() as u32)
        };
        let calls = (0..1 + random.below(3)).map(|n| call(&mut random, n)).collect();
        let input = (0..random.below(200)).map(|_| random.next_u64() as u8).collect();
        let revoked_after =
            (random.below(80) == 0 && !request.grants.is_empty()).then(|| random.below(3) as u64);
        Self { plan, request, calls, input, revoked_after }
    }

    /// The guest as text, and how it is run.
    pub fn show(&self) -> String {
        let grants: Vec<String> = self.request.grants.iter().map(Grant::text).collect();
        let calls = if self.plan.is_command() { "as a command".to_owned() } else { self.calls.join("; ") };
        format!("{}\n;; run {calls}, with {grants:?}", self.plan.text())
    }
}

fn limits(request: &mut Request, random: &mut Random) {
    let mut set = |limit, value| request.limits.set(limit, Some(value)).expect("it can be limited so");
    let ticks = if random.below(4) == 0 { 500 + random.below(20_000) as u64 } else { TICKS_MAX };
    set(Limit::Ticks, ticks);
    set(Limit::Memory, if random.below(8) == 0 { 3 << 16 } else { 16 << 20 });
    for limit in [Limit::Tables, Limit::Calls, Limit::Input, Limit::Output, Limit::Files, Limit::Handles] {
        if random.below(24) == 0 {
            set(limit, 1 + random.below(100) as u64);
        }
    }
}

/// Makes code for the interpreter.
struct Interpreted(Coder);

impl Compiler for Interpreted {
    fn compile(&self, loaded: &Loaded<'_>, _: Profile) -> Result<Vec<u8>, Error> {
        self.0.seal(loaded)
    }

    fn outline(&self, loaded: &Loaded<'_>, _: Profile) -> Result<Vec<u8>, Error> {
        self.0.seal_outline(loaded)
    }

    fn backend(&self) -> Backend {
        Backend::Interpreter
    }
}

/// The compilers of a thread, which runs one seed after the other. Nothing else is kept between seeds.
pub struct Compilers {
    native: Arc<dyn Compiler>,
    interpreted: Arc<dyn Compiler>,
    /// Without what was kept.
    anew: [Arc<dyn Compiler>; 2],
}

impl Compilers {
    /// Makes them. All threads have one set of `functions`.
    ///
    /// # Errors
    ///
    /// The engine does not start.
    pub fn new(functions: &Functions) -> Result<Self, Error> {
        let profile = Profile::default();
        let interpreted = Interpreted(Coder::keeping(profile, Backend::Interpreter, functions)?);
        let anew = Interpreted(Coder::of(profile, Backend::Interpreter)?);
        Ok(Self {
            native: Arc::new(Coder::keeping(profile, Backend::Native, functions)?),
            interpreted: Arc::new(interpreted),
            anew: [Arc::new(Coder::new(profile)?), Arc::new(anew)],
        })
    }
}

/// Words of the engine about itself or about its host: no guest is to blame for what they are about.
const NOT_THE_GUESTS: [&str; 3] = ["BUG: ", "poll_produce", "poll_consume"];

/// Whether a guest was blamed for what is not its own.
pub(crate) fn is_blamed_wrongly(message: &str) -> bool {
    NOT_THE_GUESTS.iter().any(|words| message.contains(words))
}

/// What a seed was good for.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Seeds.
    pub seeds: u64,
    /// Events of their first runs.
    pub events: u64,
    /// Seeds whose guest came to its own end.
    pub ended: u64,
    /// Seeds whose guest trapped.
    pub trapped: u64,
    /// Seeds whose guest met a limit.
    pub limited: u64,
    /// Functions of components that were called, by their names in a record.
    pub functions: BTreeSet<(Version, String)>,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            seeds: self.seeds + other.seeds,
            events: self.events + other.events,
            ended: self.ended + other.ended,
            trapped: self.trapped + other.trapped,
            limited: self.limited + other.limited,
            functions: self.functions.into_iter().chain(other.functions).collect(),
        }
    }
}

/// Runs seed `n` in all ways and compares them.
///
/// # Errors
///
/// What differs, with the smallest guest for which something does.
pub fn check(n: u64, compilers: &Compilers) -> Result<Tally, String> {
    let seed = Seed::new(n);
    if n.is_multiple_of(ANEW_EVERY) {
        equal_code(&seed, compilers).map_err(|why| format!("seed {n}: {why}\n{}", seed.show()))?;
    }
    let why = match compare(&seed, compilers) {
        Ok(tally) => return Ok(tally),
        Err(why) => why,
    };
    let (small, why) = shrink(seed, why, compilers);
    Err(format!("seed {n}: {why}\n{}", small.show()))
}

/// Leaves steps out as long as something still differs.
fn shrink(mut seed: Seed, mut why: String, compilers: &Compilers) -> (Seed, String) {
    loop {
        let smaller = seed.plan.smaller().into_iter().map(|plan| Seed { plan, ..seed.clone() });
        let mut failing = smaller.filter_map(|seed| compare(&seed, compilers).err().map(|why| (seed, why)));
        match failing.next() {
            Some(next) => (seed, why) = next,
            None => return (seed, why),
        }
    }
}

/// A run that was recorded, or why it could not be.
struct Ran {
    place: Place,
    home: Home,
    finished: Result<Finished, Error>,
    output: Vec<u8>,
}

fn compare(seed: &Seed, compilers: &Compilers) -> Result<Tally, String> {
    let program = seed.plan.program();
    let native: Arc<dyn Compiler> = Arc::new(Once::new(&compilers.native));
    let first = record(seed, &program, &native, false)?;
    if let Ok(finished) = &first.finished {
        equal_replay(&first.home, finished, &native, "its replay")?;
        let reopened =
            Home::open(&first.place.home()).map_err(|e| format!("the home does not open again: {e}"))?;
        equal_replay(&reopened, finished, &compilers.native, "its replay by a new engine")?;
        let verified =
            verify::verify(&reopened, recorded(finished.summary.run)?).map_err(|e| format!("verify: {e}"))?;
        if let Some(problem) = verified.problems.first() {
            return Err(format!("verify: {problem}"));
        }
    }
    if seed.revoked_after.is_none() {
        equal_runs(&first, &record(seed, &program, &native, true)?, "another run", false)?;
        let interpreted = record(seed, &program, &compilers.interpreted, true)?;
        equal_runs(&first, &interpreted, "the interpreter", true)?;
    }
    tally(seed, &first)
}

/// Functions that were kept make the code that there is without them.
fn equal_code(seed: &Seed, compilers: &Compilers) -> Result<(), String> {
    let program = seed.plan.program();
    let loaded = load::load(&program, "guest.wasm").map_err(|e| format!("it does not load: {e}"))?;
    let code = |compiler: &Arc<dyn Compiler>| {
        compiler.compile(&loaded, Profile::default()).map_err(|e| format!("it does not compile: {e}"))
    };
    for (kept, anew) in [&compilers.native, &compilers.interpreted].into_iter().zip(&compilers.anew) {
        if code(kept)? != code(anew)? {
            return Err(format!("compiled anew it is other code of {:?}", anew.backend()));
        }
    }
    Ok(())
}

fn tally(seed: &Seed, ran: &Ran) -> Result<Tally, String> {
    let none = Tally { seeds: 1, ..Tally::default() };
    let Ok(finished) = &ran.finished else { return Ok(none) };
    let names =
        entries(&ran.home, recorded(finished.summary.run)?)?.into_iter().filter_map(|entry| match entry {
            Entry::Name(_, name) => Some(name),
            _ => None,
        });
    let count = |is_so: bool| u64::from(is_so);
    let outcome = &finished.summary.outcome;
    if let Outcome::Fault { message, .. } = outcome
        && is_blamed_wrongly(message)
    {
        return Err(format!("it trapped, and is not to blame: {message}"));
    }
    Ok(Tally {
        events: finished.summary.events,
        functions: seed
            .plan
            .version()
            .map_or_else(BTreeSet::new, |version| names.map(|name| (version, name)).collect()),
        ended: count(matches!(outcome, Outcome::Done(_) | Outcome::Exit(_))),
        trapped: count(matches!(outcome, Outcome::Fault { .. })),
        limited: count(matches!(outcome, Outcome::Abort { .. })),
        ..none
    })
}

fn equal_replay(
    home: &Home,
    first: &Finished,
    compiler: &Arc<dyn Compiler>,
    what: &str,
) -> Result<(), String> {
    let place = Place::new(false)?;
    let outside = place.outside(&Seed::new(0), compiler, &Arc::default());
    let run = recorded(first.summary.run)?;
    let replayed = replay::replay(home, run, outside).map_err(|e| format!("{what}: {e}"))?;
    let (head, outcome) = (first.summary.head, Some(&first.summary.outcome));
    if replayed.head != head || replayed.outcome.as_ref() != outcome {
        return Err(format!(
            "{what}: expected {head} {outcome:?}, got {} {:?}",
            replayed.head, replayed.outcome
        ));
    }
    Ok(())
}

/// The run, which was to be recorded.
fn recorded(run: Option<RunId>) -> Result<RunId, String> {
    run.ok_or_else(|| "expected a recorded run, got one without a record".to_owned())
}

fn equal_runs(one: &Ran, other: &Ran, what: &str, is_other_engine: bool) -> Result<(), String> {
    let (a, b) = match (&one.finished, &other.finished) {
        (Ok(a), Ok(b)) => (&a.summary, &b.summary),
        (Err(a), Err(b)) if a.to_string() == b.to_string() => return Ok(()),
        (a, b) => return Err(format!("{what}: expected {a:?}, got {b:?}")),
    };
    if a.head == b.head && one.output == other.output {
        return Ok(());
    }
    // The header says which engine it was; all else is the same on both.
    let events = |home, run| {
        let all = entries(home, recorded(run)?)?;
        Ok::<Vec<Entry>, String>(all.into_iter().filter(|e| !matches!(e, Entry::Header(_))).collect())
    };
    let (first, second) = (events(&one.home, a.run)?, events(&other.home, b.run)?);
    if is_other_engine && first == second && one.output == other.output {
        return Ok(());
    }
    let differing = first.iter().zip(&second).find(|(a, b)| a != b);
    let show =
        |entry: Option<&Entry>| entry.map_or_else(|| "the end".to_owned(), |entry| format!("{entry:?}"));
    let (expected, got) = (show(differing.map(|(a, _)| a)), show(differing.map(|(_, b)| b)));
    Err(format!(
        "{what}: expected {expected}\n  got {got}\n  of {} and {} entries",
        first.len(),
        second.len()
    ))
}

/// The chained entries of a run.
fn entries(home: &Home, run: RunId) -> Result<Vec<Entry>, String> {
    let read = || -> vac_core::fault::Result<Vec<Entry>> {
        let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
        let mut all = Vec::new();
        while let Some(entry) = reader.next()? {
            all.extend(Some(entry).filter(Entry::is_chained));
        }
        Ok(all)
    };
    read().map_err(|e| format!("the ledger of {run}: {e}"))
}

/// Runs a seed in a place of its own.
fn record(seed: &Seed, program: &[u8], compiler: &Arc<dyn Compiler>, is_other: bool) -> Result<Ran, String> {
    let place = Place::new(is_other)?;
    let home = Home::open(&place.home()).map_err(|e| format!("the home: {e}"))?;
    let target = Target {
        bytes: program.to_vec(),
        cid: Cid::of_raw(program),
        name: "guest.wasm".into(),
        place: "guest.wasm".into(),
        folder: Some(place.folder.clone()),
    };
    let mut request = seed.request.clone();
    request.grants = request.grants.into_iter().map(|grant| grant.seen_from(&place.folder)).collect();
    let output = Arc::default();
    let outside = place.outside(seed, compiler, &output);
    let finished = match seed.plan.is_command() {
        true => run::run(&home, &target, &request, outside),
        false => calls::call(&home, &target, &calls::Typed::plain(&seed.calls), &request, outside),
    };
    let output = std::mem::take(&mut *output.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ran { place, home, finished, output })
}

/// A folder of one run, with a home and what it is granted. It is removed in the end.
pub(crate) struct Place {
    folder: PathBuf,
    is_other: bool,
}

impl Place {
    /// The same files each time; `is_other` makes them in another order and at another time.
    pub(crate) fn new(is_other: bool) -> Result<Self, String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new(MEMORY);
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place =
            Self { folder: parent.join(format!("vac-seed-{}-{count}", std::process::id())), is_other };
        place.fill().map_err(|e| format!("{}: {e}", place.folder.display()))?;
        Ok(place)
    }

    fn fill(&self) -> std::io::Result<()> {
        let _ = std::fs::remove_dir_all(&self.folder);
        let mut files = vec!["ro/a", "ro/b", "ro/sub/c", "rw/a", "rw/Z", "rw/sub/c", "rw/k", "outside"];
        if self.is_other {
            files.reverse();
        }
        for file in files {
            let path = self.folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            std::fs::write(path, format!("text of {file}"))?;
        }
        ["ro", "rw"]
            .into_iter()
            .try_for_each(|dir| std::os::unix::fs::symlink("../outside", self.folder.join(dir).join("link")))
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    pub(crate) fn outside(
        &self,
        seed: &Seed,
        compiler: &Arc<dyn Compiler>,
        output: &Arc<Mutex<Vec<u8>>>,
    ) -> Outside {
        let clock =
            Clock { start: if self.is_other { 1_900_000_000_000 } else { 0 }, asked: AtomicU64::new(0) };
        let console = Typed {
            input: seed.input.clone(),
            output: Arc::clone(output),
            home: self.home(),
            run: RunId::new(clock.unix_ms(), clock.random_u32()),
            revoked_after: seed.revoked_after,
        };
        Outside {
            clock: Arc::new(clock),
            watch: Arc::new(NoWatch),
            console: Arc::new(Mutex::new(console)),
            http: Some(Arc::new(Answers)),
            compiler: Arc::clone(compiler),
            warm: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A clock that nobody may see: it depends on the place, and jumps.
struct Clock {
    start: u64,
    asked: AtomicU64,
}

impl HostClock for Clock {
    fn unix_ms(&self) -> u64 {
        self.start
    }
    fn monotonic_ns(&self) -> u64 {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        asked * (1_000_003 + self.start)
    }
    fn random_u32(&self) -> u32 {
        self.start as u32
    }
}

/// A console with some input, which keeps what is written, and takes a grant back when it is time.
struct Typed {
    input: Vec<u8>,
    output: Arc<Mutex<Vec<u8>>>,
    home: PathBuf,
    run: RunId,
    revoked_after: Option<u64>,
}

impl Console for Typed {
    fn read(&mut self, max: usize) -> std::io::Result<Vec<u8>> {
        self.pass();
        let rest = self.input.split_off(max.min(self.input.len()));
        Ok(std::mem::replace(&mut self.input, rest))
    }

    fn write(&mut self, _: Out, bytes: &[u8]) -> std::io::Result<()> {
        self.pass();
        self.output.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

impl Typed {
    fn pass(&mut self) {
        match self.revoked_after {
            Some(0) => {
                std::thread::sleep(HEARD_AFTER);
                if let Ok(home) = Home::open(&self.home) {
                    let _ = revoke::revoke(&home, self.run, "0");
                }
                std::thread::sleep(HEARD_AFTER);
                self.revoked_after = None;
            }
            Some(n) => self.revoked_after = Some(n - 1),
            None => {}
        }
    }
}

/// A server that says what it heard.
struct Answers;

impl Http for Answers {
    fn send(&self, request: HttpRequest, _: MayConnect) -> Result<HttpResponse, HttpFailure> {
        let headers = vec![("x-method".to_owned(), request.method.into_bytes())];
        let trailers = Some(vec![("x-trailer".to_owned(), b"1".to_vec())]);
        Ok(HttpResponse { status: 200, headers, body: request.body.unwrap_or_default(), trailers })
    }
}

/// Compiles the program of one seed once.
struct Once {
    inner: Arc<dyn Compiler>,
    sealed: Mutex<Option<Vec<u8>>>,
}

impl Once {
    fn new(inner: &Arc<dyn Compiler>) -> Self {
        Self { inner: Arc::clone(inner), sealed: Mutex::default() }
    }
}

impl Compiler for Once {
    fn compile(&self, loaded: &Loaded<'_>, profile: Profile) -> vac_core::fault::Result<Vec<u8>> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealed) = &*sealed {
            return Ok(sealed.clone());
        }
        Ok(sealed.insert(self.inner.compile(loaded, profile)?).clone())
    }

    fn outline(&self, loaded: &Loaded<'_>, profile: Profile) -> vac_core::fault::Result<Vec<u8>> {
        self.inner.outline(loaded, profile)
    }

    fn backend(&self) -> Backend {
        self.inner.backend()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come_to_an_end(are_taken_back: bool) {
        let plan = Plan::requests(100, are_taken_back);
        let mut request = Request::default();
        let granted = Grant::parse("http:api.example.com", &|_| None).expect("it is a grant");
        request.grants.push(granted);
        request.limits.set(Limit::Handles, Some(16)).expect("it can be limited so");
        let calls = vec!["r = f0(1, [])".to_owned()];
        let seed = Seed { plan, request, calls, input: Vec::new(), revoked_after: None };
        let tally = compare(&seed, &Compilers::new(&Functions::default()).expect("compilers"))
            .unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(tally.ended, 1, "{tally:?}");
    }

    /// For each request without a body the host kept a handle that nobody could name, and one for trailers that nobody read:
    /// after some thousand of them a kernel had no more.
    #[test]
    fn requests_without_a_body_leave_no_handle() {
        come_to_an_end(false);
    }

    /// So it did for each request that its guest took back while it was sent.
    #[test]
    fn requests_that_are_taken_back_leave_no_handle() {
        come_to_an_end(true);
    }
}

//! One run: the only writer of its ledger, live or replayed.
//!
//! A session starts kernels one after the other, counts what they use, and ends with an
//! outcome. Its caller learns that outcome only after the last entry is durable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vac_core::canon::{self, Encode, Node, Writer, encode};
use vac_core::caps::{Quotas, Resource};
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{Corrupt, Error, HostAbort, Result};
use vac_core::ledger::{self, Body, Class, Committer, Head, Header, Ledger, Outcome, Reader, RunId};
use vac_core::store::Store;
use vac_host::http::{Http, Secret, Serve};
use vac_host::look::Frame;
use vac_host::net::NetGrant;
use vac_host::shards::Memory;
use vac_host::{
    Bucket, Budget, Compiled, Compiler, Console, Ending, Instance, NoConsole, Preopen, Setup, Spent, Val,
    Watch, value,
};

use crate::clock::HostClock;
use crate::copies::Copies;
use crate::grants::Grant;
use crate::home::Home;
use crate::journal::{Journal, KernelRecorder, Open, error_of, is_outside, outcome_of};
use crate::limits::{Limit, Limits};
use crate::recording::Recording;
use crate::revoke;
use crate::scribe::abort_of;
use crate::snapshot::{Place, Snapshot};
use crate::target::{Programs, Target, Warm};
use crate::tree;
use crate::working::Memories;

/// Name of the event in which a kernel runs.
pub const KERNEL_EVENT: &str = "vac:run/kernel";

/// Name of the event in which what became of a tree is kept.
pub const TREE_EVENT: &str = "vac:run/tree";

/// Groups of the ledger are made durable this often, if they are long.
const GROUP_INTERVAL: Duration = Duration::from_millis(2);
/// A group that is long enough to be written at once.
const GROUP_BYTES: usize = 16 << 10;
/// Intervals after which a shorter group is written, too, and it is looked whether the operator wants a grant
/// back. Fewer groups are shorter together, and leave the disk to others.
const SHORT_GROUP_EVERY: u64 = 10;
/// Kernels whose times are noted: a note is one entry, and an entry has a bound.
const NOTED_TIMES_MAX: usize = 50_000;
/// The first group waits longer: most runs are over by then and need only one.
const FIRST_GROUP_AFTER: Duration = Duration::from_millis(20);

/// Where a run takes its time, its end and its console from.
#[derive(Clone)]
pub struct Outside {
    /// The host's clocks.
    pub clock: Arc<dyn HostClock>,
    /// Asked whether to stop.
    pub watch: Arc<dyn Watch>,
    /// The standard streams of every kernel and of the script.
    pub console: Arc<Mutex<dyn Console>>,
    /// Who sends HTTP requests, if anybody does.
    pub http: Option<Arc<dyn Http>>,
    /// Compiles what has no code yet.
    pub compiler: Arc<dyn Compiler>,
    /// An engine that runs before this one used, if this one is to use it, too.
    pub warm: Option<Arc<Warm>>,
}

/// What one kernel did, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelUse {
    /// What it is called.
    pub name: String,
    /// Its CID.
    pub cid: Cid,
    /// The export that was called.
    pub export: String,
    /// Ticks it used.
    pub ticks: u64,
    /// Events that happened inside it.
    pub events: u64,
    /// Host time it took.
    pub time_ns: u64,
}

/// How a run went.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The run, if it was recorded.
    pub run: Option<RunId>,
    /// The head of its ledger.
    pub head: Head,
    /// Ticks of all kernels.
    pub ticks: u64,
    /// Events.
    pub events: u64,
    /// Each kernel call, in order.
    pub kernels: Vec<KernelUse>,
    /// Host time from start to durable end.
    pub time_ns: u64,
    /// Grants that would have allowed what was refused.
    pub denied: Vec<String>,
    /// What became of the trees that it might change: the guest's name, and the new CID.
    pub trees: Vec<(String, Cid)>,
    /// How it ended.
    pub outcome: Outcome,
    /// If a fault ended it or a limit, in which calls of the kernel, the innermost first. No record has them.
    pub stack: Vec<Frame>,
}

/// What a kernel is asked to do.
pub enum Ask<'a> {
    /// Run as a command, with arguments and environment.
    Command {
        /// Arguments; the first is its name.
        args: &'a [String],
        /// Environment.
        env: &'a [(String, String)],
    },
    /// Answer HTTP requests, with arguments and environment.
    Serve {
        /// Arguments; the first is its name.
        args: &'a [String],
        /// Environment.
        env: &'a [(String, String)],
    },
    /// Call a typed export.
    Call {
        /// The export.
        export: &'a str,
        /// The arguments.
        args: &'a [Val],
    },
}

/// What a kernel gave back.
#[derive(Debug)]
pub enum Gave {
    /// It was a command.
    Ended(Ending),
    /// It was a call.
    Results(Vec<Val>),
}

/// What a kernel is started with besides what it is asked.
#[derive(Default)]
pub struct With {
    /// Directories. A replay has none and needs none.
    pub preopens: Vec<Preopen>,
    /// The grant of the standard input.
    pub stdin: Option<u32>,
    /// What of the network is granted.
    pub net: Vec<NetGrant>,
    /// Namespaces. A replay has none.
    pub buckets: Vec<Bucket>,
    /// Memories of 128-bit addresses. A replay has none.
    pub memories: Vec<Memory>,
    /// What is put into requests in the place of placeholders. A replay has none.
    pub secrets: Vec<Secret>,
    /// Secrets of the run that are only looked for in what comes back. A replay has none.
    pub hidden: Vec<Secret>,
    /// The values of `wasi:config`.
    pub config: Vec<(String, String)>,
    /// The environment of a kernel whose exports are called; a command is asked with its own.
    pub env: Vec<(String, String)>,
    /// Who takes requests for it. A replay has nobody.
    pub serve: Option<Box<dyn Serve>>,
    /// Whether a command that is called and exits with 0 has returned.
    pub exit_returns: bool,
}

/// Where a call of a kernel began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    events: u64,
    started_ns: u64,
}

/// One run.
pub struct Session<'h> {
    /// The home it belongs to.
    pub home: &'h Home,
    /// Its programs.
    pub programs: Programs,
    /// In a replay, programs that take the place of those that a script loads, by the text it loads them by.
    pub(crate) replaced: BTreeMap<String, Target>,
    journal: Arc<Journal>,
    flusher: Option<Flusher>,
    run: RunId,
    seed: [u8; 32],
    pub(crate) limits: Limits,
    outside: Outside,
    ticks: u64,
    /// What its kernels used up, and what those that live hold.
    quotas: Quotas,
    /// Handles that kernels which live have open.
    handles: usize,
    started_ns: u64,
    kernels: Vec<KernelUse>,
    /// Whether a replay was stopped where the run was not.
    is_stopped: bool,
    trees: Vec<(String, Cid)>,
}

impl<'h> Session<'h> {
    /// Starts a run that touches the world, and is recorded as `recording` says.
    pub fn live(
        home: &'h Home,
        programs: Programs,
        header: Header,
        seed: [u8; 32],
        limits: Limits,
        recording: Recording,
        outside: Outside,
    ) -> Result<Self> {
        let run = RunId::new(outside.clock.unix_ms(), outside.clock.random_u32());
        if recording == Recording::Off {
            let (ledger, store) = (Ledger::unkept(header)?, Arc::clone(home.store()));
            let journal = Arc::new(Journal::recording(ledger, store, recording));
            return Ok(Self::new(home, programs, journal, None, run, seed, limits, outside));
        }
        let (ledger, committer) = Ledger::create(Arc::clone(home.storage()), run, header)?;
        let journal = Arc::new(Journal::recording(ledger, Arc::clone(home.store()), recording));
        Ok(Self::writing(home, programs, journal, committer, run, seed, limits, outside))
    }

    #[expect(clippy::too_many_arguments, reason = "private, and called with what a run is made of")]
    fn writing(
        home: &'h Home,
        programs: Programs,
        journal: Arc<Journal>,
        committer: Committer,
        run: RunId,
        seed: [u8; 32],
        limits: Limits,
        outside: Outside,
    ) -> Self {
        let (storage, heard) = (Arc::clone(home.storage()), Arc::clone(&journal));
        let listen = move || heard.want_back(&revoke::wanted(&*storage, run));
        let flusher = Flusher::start(Arc::clone(&journal), Arc::clone(home.store()), committer, listen);
        Self::new(home, programs, journal, Some(flusher), run, seed, limits, outside)
    }

    /// Starts a run that follows the record of another up to an event, and is recorded from its start.
    #[expect(clippy::too_many_arguments, reason = "called once, with what a run is made of")]
    pub(crate) fn fork(
        home: &'h Home,
        programs: Programs,
        header: Header,
        seed: [u8; 32],
        limits: Limits,
        recording: Recording,
        outside: Outside,
        past: (Reader, u64),
    ) -> Result<Self> {
        let run = RunId::new(outside.clock.unix_ms(), outside.clock.random_u32());
        let (ledger, committer) = Ledger::create(Arc::clone(home.storage()), run, header)?;
        let journal = Journal::forking(ledger, Arc::clone(home.store()), past.0, past.1, recording)?;
        Ok(Self::writing(home, programs, Arc::new(journal), committer, run, seed, limits, outside))
    }

    /// Starts a replay of `run` through `journal`.
    pub fn replay(
        home: &'h Home,
        programs: Programs,
        journal: Arc<Journal>,
        run: RunId,
        seed: [u8; 32],
        limits: Limits,
        outside: Outside,
    ) -> Self {
        Self::new(home, programs, journal, None, run, seed, limits, outside)
    }

    #[expect(clippy::too_many_arguments, reason = "private, and called twice with what a run is made of")]
    fn new(
        home: &'h Home,
        programs: Programs,
        journal: Arc<Journal>,
        flusher: Option<Flusher>,
        run: RunId,
        seed: [u8; 32],
        limits: Limits,
        outside: Outside,
    ) -> Self {
        let started_ns = outside.clock.monotonic_ns();
        let quotas = quotas(&limits);
        Self {
            home,
            programs,
            replaced: BTreeMap::new(),
            journal,
            flusher,
            run,
            seed,
            limits,
            outside,
            ticks: 0,
            quotas,
            handles: 0,
            started_ns,
            kernels: Vec::new(),
            is_stopped: false,
            trees: Vec::new(),
        }
    }

    /// Where events go.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Whether the world is really touched.
    pub fn is_live(&self) -> bool {
        self.journal.is_live()
    }

    /// Ticks used so far.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The standard streams.
    pub fn console(&self) -> &Arc<Mutex<dyn Console>> {
        &self.outside.console
    }

    /// Whether to stop.
    pub fn watch(&self) -> &Arc<dyn Watch> {
        &self.outside.watch
    }

    /// Keeps an object that the ledger will name.
    pub fn keep(&self, bytes: &[u8]) -> Result<Cid> {
        let cid = Cid::of_raw(bytes);
        if !self.is_live() {
            return Ok(cid);
        }
        keep_as(self.home, &cid, bytes)?;
        Ok(cid)
    }

    /// Keeps a program that the ledger will name, if there is one.
    pub(crate) fn keep_program(&self, bytes: &[u8]) -> Result<Cid> {
        if self.journal.is_recorded() { self.keep(bytes) } else { Ok(Cid::of_raw(bytes)) }
    }

    /// Runs a kernel. What it gives back is what it was recorded to give back.
    pub fn kernel(&mut self, name: &str, program: &Arc<Compiled>, ask: &Ask<'_>, with: With) -> Result<Gave> {
        let request = request_of(program, ask);
        let open = self.journal.begin(KERNEL_EVENT, self.ticks, &request)?;
        let before = self.mark();
        let export = match ask {
            Ask::Command { .. } => "wasi:cli/run",
            Ask::Serve { .. } => "wasi:http/handler",
            Ask::Call { export, .. } => export,
        };
        self.journal.runs(name, export);
        let (gave, spent) = self.start_and_ask(program, ask, with);
        self.carry(&spent.quotas);
        let ticks = spent.ticks;
        self.used(name, program, export, ticks, before);
        self.end_kernel(open, gave, |gave| response_of(gave, ticks))
    }

    /// Keeps what became of `trees`, unless the kernel failed. A replay takes it from the record.
    pub(crate) fn keep_trees<T>(
        &mut self,
        trees: &[(u32, String)],
        copies: Option<&Copies>,
        gave: Result<T>,
    ) -> Result<T> {
        let gave = gave?;
        for (number, guest) in trees {
            let store = self.home.store();
            let answer = self.journal.event(TREE_EVENT, Class::Read, self.ticks, &encode(number), || {
                let dir = copies.and_then(|copies| copies.dir(*number)).ok_or_else(|| {
                    HostAbort::new(vac_core::fault::AbortKind::Machine, "a tree has no copy")
                })?;
                Ok((encode(&Node::Link(tree::put(store, dir, guest)?)), Some(*number)))
            })?;
            match canon::decode(&answer, "the record of a tree")? {
                Node::Link(cid) => self.trees.push((guest.clone(), cid)),
                other => {
                    return Err(Corrupt::new("record", "a tree", "a link", format!("{other:?}")).into());
                }
            }
        }
        Ok(gave)
    }

    /// Whether this is a replay that was stopped where the run was not: it says nothing of the run.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether the operator ends a replay with `abort` in the event `open`, which nothing ended in the run.
    pub(crate) fn is_stopped_by(&self, abort: &HostAbort, open: Open) -> bool {
        !self.is_live()
            && is_outside(abort.kind)
            && self.outside.watch.is_operators()
            && self.journal.recorded_abort(open).is_none()
    }

    /// Ends the event of a kernel with what it gave.
    pub(crate) fn end_kernel<T>(
        &mut self,
        open: Open,
        gave: Result<T>,
        response: impl FnOnce(&T) -> Vec<u8>,
    ) -> Result<T> {
        self.journal.pass(self.ticks)?;
        match gave {
            Ok(gave) => {
                let response = response(&gave);
                if let Err(abort) = self.quotas.clone().charge(Resource::ResultBytes, response.len() as u64) {
                    self.journal.end(open, Err(outcome_of(&abort.clone().into())))?;
                    return Err(abort.into());
                }
                self.journal.end(open, Ok(&response))?;
                Ok(gave)
            }
            // A replay that went wrong has no answer to compare.
            Err(error @ (Error::Divergence(_) | Error::Corrupt(_))) if !self.is_live() => Err(error),
            // Nor has one that somebody stops now, where nobody stopped the run.
            Err(Error::Abort(abort)) if self.is_stopped_by(&abort, open) => {
                self.is_stopped = true;
                Err(abort.into())
            }
            // Nor has a fork whose past could not be had.
            Err(error) if self.journal.is_past() => Err(error),
            Err(error) => {
                let recorded = self.journal.recorded_abort(open);
                let outcome = recorded.clone().unwrap_or_else(|| outcome_of(&error));
                self.journal.end(open, Err(outcome))?;
                Err(recorded.map_or(error, error_of))
            }
        }
    }

    fn start_and_ask(&mut self, program: &Arc<Compiled>, ask: &Ask<'_>, with: With) -> (Result<Gave>, Spent) {
        let (started, spent) = self.start_kernel(program, ask, with, Arc::new(AtomicU64::new(self.ticks)));
        let mut instance = match started {
            Ok(instance) => instance,
            Err(error) => return (Err(error), spent),
        };
        let engine = match self.programs.engine() {
            Ok(engine) => engine,
            Err(error) => return (Err(error), spent),
        };
        let gave = match ask {
            Ask::Command { .. } => instance.run_command(engine).map(Gave::Ended),
            Ask::Serve { .. } => instance.serve(engine).map(Gave::Ended),
            Ask::Call { export, args } => instance.call(engine, export, args).map(Gave::Results),
        };
        (gave, instance.spent())
    }

    /// Takes over what a kernel that is over used up of the run's own quotas.
    fn carry(&mut self, used: &Quotas) {
        for resource in OF_THE_RUN {
            self.quotas.carry(resource, used);
        }
    }

    /// Leaves a kernel that lives what the run has left.
    pub(crate) fn lend(&self, instance: &mut Instance, held: &Held) {
        instance.go_on_with(self.quotas.clone(), self.handles.saturating_sub(held.handles));
    }

    /// Takes over what a kernel that lives used up, and counts what it holds.
    pub(crate) fn settle(&mut self, instance: &Instance, held: &mut Held) {
        let used = instance.spent().quotas;
        for (resource, own) in OF_INSTANCES.into_iter().zip(&mut held.resources) {
            *own = own.saturating_add(used.used(resource)).saturating_sub(self.quotas.used(resource));
        }
        self.handles = self.handles.saturating_sub(held.handles).saturating_add(instance.handles());
        held.handles = instance.handles();
        self.quotas = used;
    }

    /// Takes back what a kernel held that is over now.
    pub(crate) fn take_back(&mut self, held: &Held) {
        for (resource, own) in OF_INSTANCES.into_iter().zip(held.resources) {
            self.quotas.refund(resource, own);
        }
        self.handles = self.handles.saturating_sub(held.handles);
    }

    /// Starts an instance, and says what that used up. `ticks_before` are those of others.
    pub(crate) fn start_kernel(
        &self,
        program: &Arc<Compiled>,
        ask: &Ask<'_>,
        with: With,
        ticks_before: Arc<AtomicU64>,
    ) -> (Result<Instance>, Spent) {
        let budget = Budget { ticks_max: self.ticks_left(), watch: Arc::clone(&self.outside.watch) };
        let recorder = Box::new(KernelRecorder::with(Arc::clone(&self.journal), ticks_before));
        let setup = self.setup(ask, with);
        match self.programs.engine() {
            Ok(engine) => Instance::start(engine, Arc::clone(program), setup, budget, recorder),
            Err(error) => (Err(error), Spent { ticks: 0, quotas: self.quotas.clone() }),
        }
    }

    /// Notes what one call used. `before` is from [`Session::mark`].
    pub(crate) fn used(&mut self, name: &str, program: &Compiled, export: &str, ticks: u64, before: Before) {
        self.ticks = self.ticks.saturating_add(ticks);
        self.kernels.push(KernelUse {
            name: name.to_owned(),
            cid: program.cid,
            export: export.to_owned(),
            ticks,
            events: self.journal.events().saturating_sub(before.events),
            time_ns: self.outside.clock.monotonic_ns().saturating_sub(before.started_ns),
        });
    }

    /// Ticks that may still be used.
    pub(crate) fn ticks_left(&self) -> u64 {
        self.limits.get(Limit::Ticks).map_or(u64::MAX, |max| max.saturating_sub(self.ticks))
    }

    /// Events and time so far.
    pub(crate) fn mark(&self) -> Before {
        Before { events: self.journal.events(), started_ns: self.outside.clock.monotonic_ns() }
    }

    /// Where in its record it is, after `calls` calls.
    pub(crate) fn place(&self, calls: u64) -> Place {
        let (head, entries) = (self.journal.head(), self.journal.entries());
        Place { calls, events: self.journal.events(), entries, head, tick: self.ticks }
    }

    /// What is used up of each resource.
    pub(crate) fn quotas_used(&self) -> [u64; Resource::COUNT] {
        self.quotas.all_used()
    }

    /// Goes on with what was used up when a snapshot was taken. The instance that it gives back holds this much.
    pub(crate) fn thaw(&mut self, snapshot: &Snapshot) -> Held {
        self.quotas = self.quotas.clone().with_used(snapshot.used);
        Held { resources: snapshot.held, handles: 0 }
    }

    /// Counts ticks of a kernel.
    pub(crate) fn add_ticks(&mut self, ticks: u64) {
        self.ticks = self.ticks.saturating_add(ticks);
    }

    fn setup(&self, ask: &Ask<'_>, with: With) -> Setup {
        let (args, env) = match ask {
            Ask::Command { args, env } | Ask::Serve { args, env } => (args.to_vec(), env.to_vec()),
            Ask::Call { .. } => (Vec::new(), with.env),
        };
        let console: Box<dyn Console> = match self.is_live() {
            true => Box::new(SharedConsole(Arc::clone(&self.outside.console))),
            false => Box::new(NoConsole),
        };
        Setup {
            args,
            env,
            preopens: with.preopens,
            stdin: with.stdin,
            net: with.net,
            http: self.outside.http.clone(),
            serve: with.serve,
            secrets: with.secrets,
            hidden: with.hidden,
            config: with.config,
            buckets: with.buckets,
            memories: self.opened(with.memories),
            console,
            seed: self.seed,
            quotas: self.quotas.clone(),
            handles_max: self.limits.max_usize(Limit::Handles),
            handles_elsewhere: self.handles,
            resources_max: self.limits.max_usize(Limit::Resources),
            transfer_max_bytes: self.limits.max_usize(Limit::Transfer),
            exit_returns: with.exit_returns,
        }
    }

    /// Memories of this run, which may change those that `grants` let it change.
    pub(crate) fn memories(&self, grants: &[Grant]) -> Memories {
        Memories::new(grants, &self.limits, (&self.outside.clock, &self.outside.watch))
    }

    /// Memories that know whose they are, for who watches.
    fn opened(&self, memories: Vec<Memory>) -> Vec<Memory> {
        for memory in &memories {
            memory.shared.lock().unwrap_or_else(PoisonError::into_inner).is_of(self.run.as_str());
        }
        memories
    }

    /// Ends the run. When this returns, everything about it is durable.
    pub fn finish(self, outcome: Outcome) -> Result<Summary> {
        self.journal.close(outcome.clone(), self.ticks)?;
        let (head, entries, events) = (self.journal.head(), self.journal.entries(), self.journal.events());
        let denied = self.journal.denied();
        let stack = match outcome {
            Outcome::Fault { .. } | Outcome::Abort { .. } => self.journal.ended_in(),
            Outcome::Done(_) | Outcome::Exit(_) => Vec::new(),
        };
        // One entry has to hold them; who calls kernels more often does not look at each time.
        let times =
            self.kernels.iter().take(NOTED_TIMES_MAX).map(|k| Node::Int(i128::from(k.time_ns))).collect();
        self.journal.note(vec![
            ("ended_unix_ms".into(), Node::Int(i128::from(self.outside.clock.unix_ms()))),
            ("kernel_times_ns".into(), Node::List(times)),
        ]);
        if let Some(flusher) = self.flusher {
            flusher.finish(head, entries)?;
            revoke::forget(&**self.home.storage(), self.run);
        } else if self.journal.is_live() {
            // No group made durable what was kept on purpose: trees, what a script put.
            self.home.store().commit()?;
        }
        let time_ns = self.outside.clock.monotonic_ns().saturating_sub(self.started_ns);
        Ok(Summary {
            run: self.journal.is_recorded().then_some(self.run),
            head,
            ticks: self.ticks,
            events,
            kernels: self.kernels,
            time_ns,
            denied,
            trees: self.trees,
            outcome,
            stack,
        })
    }

    /// Leaves nothing behind: for a fork whose past could not be had.
    pub(crate) fn abandon(self) {
        let Some(flusher) = self.flusher else { return };
        flusher.stop();
        // What is left looks like a run that was killed.
        let _ = ledger::remove(&**self.home.storage(), self.run);
    }

    /// The result of a call as the outcome's body.
    pub fn result_body(&self, bytes: &[u8]) -> Result<Body> {
        if let Some(body) = Body::inline(bytes) {
            return Ok(body);
        }
        if !self.journal.is_recorded() {
            return Ok(Body::digest(bytes));
        }
        Ok(Body::Stored { cid: self.keep(bytes)?, len_bytes: bytes.len() as u64 })
    }
}

/// What a kernel gives back when it ends; until then it counts for all of them.
pub(crate) const OF_INSTANCES: [Resource; 3] =
    [Resource::MemoryBytes, Resource::TableElements, Resource::OpenFiles];

/// What one kernel that lives holds of what the run may have.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Of each of [`OF_INSTANCES`].
    resources: [u64; OF_INSTANCES.len()],
    handles: usize,
}

impl Held {
    /// How much of each of [`OF_INSTANCES`].
    pub(crate) fn resources(&self) -> [u64; OF_INSTANCES.len()] {
        self.resources
    }
}

/// What is used up for good, whichever kernel it was.
const OF_THE_RUN: [Resource; 3] = [Resource::HostCalls, Resource::InputBytes, Resource::OutputBytes];

fn quotas(limits: &Limits) -> Quotas {
    let table = [
        (Resource::MemoryBytes, Limit::Memory),
        (Resource::TableElements, Limit::Tables),
        (Resource::HostCalls, Limit::Calls),
        (Resource::InputBytes, Limit::Input),
        (Resource::OutputBytes, Limit::Output),
        (Resource::OpenFiles, Limit::Files),
        (Resource::ResultBytes, Limit::Result),
    ];
    table
        .into_iter()
        .fold(Quotas::unlimited(), |quotas, (resource, limit)| quotas.with(resource, limits.max(limit)))
}

/// Keeps an object whose CID is known. A copy that was kept before is read: if it is damaged, the store
/// learns it, and the put writes a good one.
pub(crate) fn keep_as(home: &Home, cid: &Cid, bytes: &[u8]) -> Result<()> {
    match home.store().is_whole(cid) {
        Ok(true) => Ok(()),
        Ok(false) | Err(Error::Corrupt(_)) => home.store().put(Codec::Raw, bytes).map(drop),
        Err(error) => Err(error),
    }
}

/// `[program, export, arguments, environment]`, the arguments of a command being text.
fn request_of(program: &Compiled, ask: &Ask<'_>) -> Vec<u8> {
    let mut to = Writer::default();
    to.array(4);
    to.link(&program.cid);
    match ask {
        Ask::Command { args, env } | Ask::Serve { args, env } => {
            to.text(if matches!(ask, Ask::Serve { .. }) { "wasi:http/handler" } else { "wasi:cli/run" });
            args.to_vec().encode(&mut to);
            env.to_vec().encode(&mut to);
        }
        Ask::Call { export, args } => {
            to.text(export);
            value::put_values(args, &mut to);
            to.array(0);
        }
    }
    to.into_bytes()
}

/// `[ticks, results]`, the result of a command being its status.
fn response_of(gave: &Gave, ticks: u64) -> Vec<u8> {
    let mut to = Writer::default();
    to.array(2);
    to.uint(ticks);
    match gave {
        Gave::Ended(Ending::Returned) => to.uint(0),
        Gave::Ended(Ending::Exited(status)) => to.uint(u64::from(*status)),
        Gave::Results(results) => value::put_values(results, &mut to),
    }
    to.into_bytes()
}

/// The console of the session, as one kernel has it.
struct SharedConsole(Arc<Mutex<dyn Console>>);

impl Console for SharedConsole {
    fn read(&mut self, max: usize) -> std::io::Result<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(max)
    }
    fn write(&mut self, to: vac_host::Out, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(to, bytes)
    }
}

/// Makes groups durable while the run goes on.
struct Flusher {
    journal: Arc<Journal>,
    store: Arc<Store>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<(Groups, Option<HostAbort>)>,
}

impl Flusher {
    fn start(
        journal: Arc<Journal>,
        store: Arc<Store>,
        committer: Committer,
        listen: impl Fn() + Send + 'static,
    ) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let (j, s, e) = (Arc::clone(&journal), Arc::clone(&store), Arc::clone(&ending));
        let thread = std::thread::spawn(move || flush(&j, &s, &e, committer, &listen));
        Self { journal, store, ending, thread }
    }

    /// Ends without them.
    fn stop(self) {
        self.ending.store(true, Ordering::Release);
        self.thread.thread().unpark();
        drop(self.thread.join());
    }

    /// The last group, and the close record.
    fn finish(self, head: Head, entries: u64) -> Result<()> {
        self.ending.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let (mut groups, failed) = self.thread.join().map_err(|_| {
            HostAbort::new(
                vac_core::fault::AbortKind::Machine,
                "the thread that writes the ledger ended early",
            )
        })?;
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        groups.commit(&self.journal, &self.store)?;
        groups.committer.close(head, entries)
    }
}

fn flush(
    journal: &Journal,
    store: &Store,
    ending: &AtomicBool,
    committer: Committer,
    listen: &dyn Fn(),
) -> (Groups, Option<HostAbort>) {
    let mut groups = Groups { committer, buffer: Vec::new() };
    // If this fails, so does the first commit, which reports it.
    let _ = groups.committer.sync_name();
    if !ending.load(Ordering::Acquire) {
        std::thread::park_timeout(FIRST_GROUP_AFTER);
    }
    for round in 0_u64.. {
        if ending.load(Ordering::Acquire) {
            break;
        }
        let is_due = round.is_multiple_of(SHORT_GROUP_EVERY);
        if is_due {
            listen();
        }
        let least = if is_due { 1 } else { GROUP_BYTES };
        if journal.waiting_bytes() >= least
            && let Err(error) = groups.commit(journal, store)
        {
            let failed = abort_of(error);
            journal.fail(failed.clone());
            return (groups, Some(failed));
        }
        std::thread::park_timeout(GROUP_INTERVAL);
    }
    (groups, None)
}

/// The committer, and the buffer that the ledger goes on with while a group is written.
struct Groups {
    committer: Committer,
    buffer: Vec<u8>,
}

impl Groups {
    /// What a group names must be durable before the group is: a store without an entry is litter,
    /// an entry without its object is a loss.
    fn commit(&mut self, journal: &Journal, store: &Store) -> Result<()> {
        journal.settle()?;
        let spare = std::mem::take(&mut self.buffer);
        let mut group = journal.take_group(self.committer.durable_bytes(), spare);
        store.commit()?;
        self.committer.commit(&group)?;
        group.clear();
        self.buffer = group;
        Ok(())
    }
}

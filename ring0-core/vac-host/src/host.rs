//! What stands behind the wall for one kernel: its handles, clock, entropy, console and quotas.
//!
//! Nothing here is ambient. The operator's grants come in through [`Setup`], time and entropy
//! are computed, and the console is given by whoever starts the kernel.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::Dir;
use vac_core::caps::{CapTable, Handle, Quotas, Refusal, Resource as Quota, Rights, raise};
use vac_core::fault::{AbortKind, Error, Fault, HostAbort, Result};
use wasmtime::component::Resource;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::fs::{ErrorCode, Mount};
use crate::held::Holding;
use crate::http::{Http, Secret, Serve};
use crate::identity::Identities;
use crate::instance::Watch;
use crate::net::{Net, NetGrant};
use crate::piece::Pieces;
use crate::shards::Memory;

/// Where a kernel's standard streams go.
pub trait Console: Send {
    /// At most `max` bytes of standard input; none at its end. May wait; if it is told to stop
    /// waiting, its error holds the `HostAbort` that says why.
    fn read(&mut self, max: usize) -> io::Result<Vec<u8>>;
    /// Writes all of `bytes`. May wait as [`Console::read`] may; how much was written then is unknown.
    fn write(&mut self, to: Out, bytes: &[u8]) -> io::Result<()>;
}

/// An output of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A console that is not there: input is at its end, output goes nowhere.
#[derive(Debug, Default)]
pub struct NoConsole;

impl Console for NoConsole {
    fn read(&mut self, _: usize) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn write(&mut self, _: Out, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A directory, or some files of one, as the operator granted it.
pub struct Preopen {
    /// The name the guest sees, for example `./data`.
    pub guest: String,
    /// The directory.
    pub dir: Dir,
    /// If not empty: the only names in it that are granted, each with its rights and number.
    pub only: Vec<(String, Rights, u32)>,
    /// What may be done.
    pub rights: Rights,
    /// Number of the grant.
    pub grant: u32,
}

/// The values of a namespace, by key.
pub trait KeyValue: Send {
    /// The value of `key`, if it has one.
    fn get(&mut self, key: &str) -> io::Result<Option<Vec<u8>>>;
    /// Sets the value of `key`, or removes it. Durable when this returns.
    fn set(&mut self, key: &str, value: Option<&[u8]>) -> io::Result<()>;
    /// The first `max` keys after `after`, or from the first one, sorted by their bytes.
    fn keys(&mut self, after: Option<&str>, max: usize) -> io::Result<Vec<String>>;
}

/// A namespace, as the operator granted it.
pub struct Bucket {
    /// The name the guest opens it by.
    pub guest: String,
    /// What may be done.
    pub rights: Rights,
    /// Number of the grant.
    pub grant: u32,
    /// Its values.
    pub data: Box<dyn KeyValue>,
}

/// Everything that a kernel starts with.
pub struct Setup {
    /// The arguments; the first is the program's name.
    pub args: Vec<String>,
    /// The environment, in the order the guest sees.
    pub env: Vec<(String, String)>,
    /// The directories.
    pub preopens: Vec<Preopen>,
    /// The grant of the standard input, if it was given.
    pub stdin: Option<u32>,
    /// What of the network was granted.
    pub net: Vec<NetGrant>,
    /// Who sends HTTP requests; without it there is no HTTP, whatever was granted.
    pub http: Option<Arc<dyn Http>>,
    /// Who takes requests for it, if it answers some.
    pub serve: Option<Box<dyn Serve>>,
    /// What is put into requests in the place of placeholders.
    pub secrets: Vec<Secret>,
    /// Secrets that are put into no request, and looked for in responses like `secrets`.
    pub hidden: Vec<Secret>,
    /// The values of `wasi:config`, in the order the guest sees.
    pub config: Vec<(String, String)>,
    /// The namespaces of `wasi:keyvalue`.
    pub buckets: Vec<Bucket>,
    /// The memories of `vac:memory`.
    pub memories: Vec<Memory>,
    /// The standard streams.
    pub console: Box<dyn Console>,
    /// The seed of all entropy.
    pub seed: [u8; 32],
    /// What may be used up.
    pub quotas: Quotas,
    /// Handles that may be open at a time.
    pub handles_max: usize,
    /// Those of them that other kernels of the run have open.
    pub handles_elsewhere: usize,
    /// Handles that the program's components may hold, those of its own resources with them.
    pub resources_max: usize,
    /// Bytes that strings and lists of one call may take on the host.
    pub transfer_max_bytes: usize,
    /// Whether a command of WASI 0.1 that was called and exits with 0 has returned: [`Compiled::exit_can_return`].
    ///
    /// [`Compiled::exit_can_return`]: crate::Compiled::exit_can_return
    pub exit_returns: bool,
}

impl Default for Setup {
    /// Nothing is granted, and nothing is limited.
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            preopens: Vec::new(),
            stdin: None,
            net: Vec::new(),
            http: None,
            serve: None,
            secrets: Vec::new(),
            hidden: Vec::new(),
            config: Vec::new(),
            buckets: Vec::new(),
            memories: Vec::new(),
            console: Box::new(NoConsole),
            seed: [0; 32],
            quotas: Quotas::unlimited(),
            handles_max: vac_core::limits::HANDLES_MAX,
            handles_elsewhere: 0,
            resources_max: crate::limits::RESOURCES_MAX,
            transfer_max_bytes: crate::limits::HOSTCALL_MAX_BYTES,
            exit_returns: false,
        }
    }
}

/// What a handle stands for.
pub(crate) enum Object {
    File(Arc<crate::fs::OpenFile>),
    Dir(Arc<crate::fs::OpenDir>),
    Listing(std::vec::IntoIter<crate::fs::Name>),
    Input(crate::wasi::io::Input),
    Output(crate::wasi::io::Output),
    Pollable(crate::wasi::io::Ready),
    IoError(ErrorCode),
    Network,
    Lookup(std::collections::VecDeque<std::net::IpAddr>),
    Tcp(crate::wasi::sockets::Tcp),
    Udp(crate::wasi::udp::Udp),
    Datagrams(crate::wasi::udp::Datagrams),
    Flow(crate::wasi3::flows::Flow),
    /// Number of a granted namespace.
    Bucket(usize),
    Shard(Arc<Mutex<crate::shards::View>>),
    Http(Box<crate::wasi::http::HttpObject>),
    Http3(Box<crate::wasi3::http::Part>),
}

impl Object {
    /// Whether a file or directory of the host stays open for it.
    fn is_open_file(&self) -> bool {
        use crate::wasi::io::{Input, Output};
        matches!(
            self,
            Self::File(_)
                | Self::Dir(_)
                | Self::Input(Input::File { .. })
                | Self::Output(Output::File { .. })
        )
    }
}

/// Numbers of handles that nobody can name any more. A stream ends inside of the engine, where
/// the host cannot be reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended(Arc<Mutex<Vec<u32>>>);

impl Ended {
    pub(crate) fn add(&self, rep: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rep);
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One kernel's side of the host.
pub struct Host {
    pub(crate) table: CapTable<Object>,
    pub(crate) quotas: Quotas,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    /// Whether a command is called now, whose exit returns.
    pub(crate) exit_returns: bool,
    pub(crate) console: Box<dyn Console>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) identities: Identities,
    pub(crate) stdin: Option<u32>,
    /// Handles of streams that ended, to be given up before the next handle is made.
    pub(crate) ended: Ended,
    pub(crate) net: Net,
    pub(crate) http: Option<Arc<dyn Http>>,
    /// Buffers for what is read of files.
    pub(crate) pieces: Pieces,
    pub(crate) serve: Option<Box<dyn Serve>>,
    /// Bodies of requests and responses.
    pub(crate) holding: Holding,
    /// What may be put into requests.
    pub(crate) secrets: Vec<Secret>,
    /// What the guest must not see: those, and others of the run.
    pub(crate) hidden: Vec<Secret>,
    pub(crate) config: Vec<(String, String)>,
    /// Granted namespaces; `None` is one that was taken back.
    pub(crate) buckets: Vec<Option<Bucket>>,
    /// Granted memories.
    pub(crate) memories: Vec<Memory>,
    /// Where the last part of a listing ended, by number of the namespace: how many keys, and the last.
    pub(crate) listed: BTreeMap<usize, (u64, String)>,
    pub(crate) watch: Arc<dyn Watch>,
    /// Whether what is done now was done before, so that nothing outside may change: see [`crate::past`].
    pub(crate) is_past: bool,
    /// Of the call that is crossing: the grant that allowed it.
    grant: Option<u32>,
    /// Of the call that is crossing: what was refused, as the grant that would allow it.
    denied: Option<String>,
}

impl Host {
    pub(crate) fn new(setup: Setup, watch: Arc<dyn Watch>) -> Self {
        let mut identities = Identities::default();
        let mut table = CapTable::new(setup.handles_max);
        table.set_elsewhere(setup.handles_elsewhere);
        let mounts = setup.preopens.into_iter().map(|preopen| Mount::new(preopen, &mut identities)).collect();
        Self {
            table,
            quotas: setup.quotas,
            clock: Clock::default(),
            entropy: Entropy::new(&setup.seed),
            exit_returns: false,
            console: setup.console,
            args: setup.args,
            env: setup.env,
            mounts,
            identities,
            stdin: setup.stdin,
            ended: Ended::default(),
            net: Net::new(setup.net),
            http: setup.http,
            pieces: Pieces::default(),
            serve: setup.serve,
            holding: Holding::default(),
            hidden: [setup.hidden, setup.secrets.clone()].concat(),
            secrets: setup.secrets,
            config: setup.config,
            buckets: setup.buckets.into_iter().map(Some).collect(),
            memories: setup.memories,
            listed: BTreeMap::new(),
            watch,
            is_past: false,
            grant: None,
            denied: None,
        }
    }

    pub(crate) fn begin_call(&mut self, tick: u64) {
        self.clock.set_tick(tick);
        (self.grant, self.denied) = (None, None);
    }

    pub(crate) fn end_call(&mut self) -> (Option<u32>, Option<String>) {
        (self.grant.take(), self.denied.take())
    }

    /// Notes that `grant` allowed the call that is crossing.
    pub(crate) fn allowed_by(&mut self, grant: Option<u32>) {
        self.grant = grant;
    }

    /// Notes that the call that is crossing was refused, and what would have allowed it.
    pub(crate) fn deny(&mut self, would_allow: impl Into<String>) {
        self.denied = Some(would_allow.into());
    }

    /// A new handle for `object`.
    pub(crate) fn open<T: 'static>(
        &mut self,
        object: Object,
        rights: Rights,
        grant: Option<u32>,
    ) -> Result<Resource<T>> {
        self.release_ended();
        self.count_open(&object)?;
        let handle = self.table.mint(object, rights, grant).map_err(refused)?;
        Ok(Resource::new_own(handle.to_rep()))
    }

    /// A new handle for `object` that ends when `parent` is revoked.
    pub(crate) fn derive<T: 'static>(
        &mut self,
        parent: Handle,
        object: Object,
        rights: Rights,
    ) -> Result<Resource<T>> {
        self.release_ended();
        self.count_open(&object)?;
        let handle = self.table.derive(parent, object, rights).map_err(refused)?;
        Ok(Resource::new_own(handle.to_rep()))
    }

    pub(crate) fn release(&mut self, handle: Handle) -> Result<()> {
        if self.table.forget(handle) {
            return Ok(());
        }
        let object = self.table.release(handle).map_err(refused)?;
        if object.is_open_file() {
            self.quotas.refund(Quota::OpenFiles, 1);
        }
        Ok(())
    }

    /// Takes back what the operator granted: every handle that comes from it ends, and no new one is
    /// made. Files that are granted from one folder are shown through one directory, and end together.
    pub(crate) fn revoke(&mut self, grant: u32) {
        let is_meant = |m: &Mount| m.root.is_of(grant);
        let meant: Vec<u32> =
            self.mounts.iter().filter(|m| is_meant(m)).map(|m| m.root.place.grant).chain([grant]).collect();
        self.mounts.retain(|m| !is_meant(m));
        self.stdin = self.stdin.filter(|number| *number != grant);
        self.net.revoke(grant);
        for bucket in self.buckets.iter_mut().filter(|slot| slot.as_ref().is_some_and(|b| b.grant == grant)) {
            *bucket = None;
        }
        self.memories.retain(|memory| memory.grant != grant);
        for number in meant {
            let ended = self.table.revoke_grant(number);
            let files = ended.iter().filter(|object| object.is_open_file()).count();
            self.quotas.refund(Quota::OpenFiles, files as u64);
        }
    }

    fn count_open(&mut self, object: &Object) -> Result<()> {
        match object.is_open_file() {
            true => Ok(self.quotas.charge(Quota::OpenFiles, 1)?),
            false => Ok(()),
        }
    }

    /// Gives up the handles of what has ended.
    pub(crate) fn release_ended(&mut self) {
        for rep in self.ended.take() {
            // With the handle that it was made from it may be gone already.
            let _ = self.release(Handle::from_rep(rep));
        }
    }

    /// Ends the call that is crossing if the run should stop: for what takes long on the host.
    pub(crate) fn check_watch(&self) -> Result<()> {
        self.watch.stop().map_or(Ok(()), |abort| Err(abort.into()))
    }

    /// Uses up input quota for bytes that the guest takes in.
    pub(crate) fn take_in(&mut self, len: usize) -> Result<()> {
        Ok(self.quotas.charge(Quota::InputBytes, len as u64)?)
    }

    /// Uses up output quota for bytes that the guest gives out.
    pub(crate) fn give_out(&mut self, len: usize) -> Result<()> {
        Ok(self.quotas.charge(Quota::OutputBytes, len as u64)?)
    }
}

/// The kind of fault by which the wall knows that a handle was revoked.
pub(crate) const REVOKED: &str = "revoked";

/// A refusal of the table: too many handles are a quota, the rest is the guest's doing.
pub(crate) fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Full(max) => {
            let message = format!("the guest wants {} handles at a time; the limit is {max}", max + 1);
            HostAbort::new(AbortKind::Quota, message).hint(raise("handles")).into()
        }
        Refusal::Stale(_) | Refusal::Rights { .. } => {
            Fault { kind: "trap", message: refusal.to_string() }.into()
        }
        // The wall tells the guest, if the function that it called has an error for it.
        Refusal::Revoked(_) => Fault { kind: REVOKED, message: refusal.to_string() }.into(),
    }
}

/// The number behind a guest's handle.
pub(crate) fn handle_of<T: 'static>(resource: &Resource<T>) -> Handle {
    Handle::from_rep(resource.rep())
}

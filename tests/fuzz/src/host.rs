//! Promises of the host's own functions, called with any typed values in any order: none panics, none takes
//! long, the memory of the host stays within its quotas; nothing that was not granted is done or told; what a
//! secret's value is stays outside; and every answer is in canonical form.
//!
//! An input is a list of calls: two bytes choose the function, and its arguments are made of those that follow
//! ([`arguments`](self)). Handles come from what earlier calls gave, so that a mutation seldom makes them
//! worthless. `host` has the world of a WASI 0.1 program's adapter, `net` that of kernel `probe`, and `shards` that of
//! kernel `sorter`.
//!
//! Functions of WASI 0.3 take and give streams, and go on beside the guest. So `tasks` takes an input as the choices of
//! which a random guest is made ([`Plan::tasks`]), and looks at all that this one does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use vac_core::canon::{Node, decode};
use vac_core::caps::{Quotas, Resource, Rights};
use vac_core::cid::Cid;
use vac_core::fault::{Error, Result};
use vac_core::memory::{Pager, Settings, Tier};
use vac_engine::grants::{self, Grant};
use vac_host::http::{Http, HttpFailure, HttpRequest, HttpResponse, MayConnect, Secret};
use vac_host::inspect::{self, Export};
use vac_host::instance::Callee;
use vac_host::shards::{Keeper, Memory, Most, Shared};
use vac_host::{
    Answered, Bucket, Budget, Compiled, Console, Crossing, Engine, Instance, KeyValue, Out, Recorder,
    ResourceAny, Setup, Type, Val, load,
};
use wit_parser::{Resolve, WorldId};

use crate::guests::{FUNCTIONS, Plan};
use crate::mutate::Random;
use crate::seeds::is_blamed_wrongly;
use crate::trampoline;

/// Calls of one input.
const CALLS_MAX: usize = 96;
/// Between functions that are tried one after the other; prime, so that each has its turn.
const STRIDE: usize = 37;
const TICKS_MAX: u64 = 100_000_000;
/// Ticks of a random guest, which has loops that never end.
const GUEST_TICKS_MAX: u64 = 1_000_000;
/// Calls of a random guest.
const GUEST_CALLS: usize = 4;
/// What nobody may be told.
const OUTSIDE: &str = "the text outside of every grant";
const VALUE: &str = "the value of the secret";
const PLACEHOLDER: &str = "vac-secret-0123456789abcdef";
/// The one host that a request may go to, and how.
const HOST: &str = "api.example.com";

/// Texts that mean something to some function.
const WORDS: &[&str] = &[
    "",
    ".",
    "..",
    "a",
    "sub",
    "sub/b",
    "link",
    "../outside",
    "/etc/passwd",
    "sub/../../outside",
    "a/",
    "./a",
    "a\0b",
    "\u{1b}[2J\u{202e}\n",
    "/proc/self/fd/0",
    HOST,
    "127.0.0.1:80",
    "[::1]:443",
    "user@api.example.com:80",
    "api.example.com:99999",
    "/p?q=1#f",
    "GET",
    "content-length",
    "host",
    "transfer-encoding",
    "authorization",
    PLACEHOLDER,
    "Basic dmFjLXNlY3JldC0wMTIzNDU2Nzg5YWJjZGVmOng=",
    "b",
    "x\r\ny: z",
    "18446744073709551615",
    "http",
];

/// A world, compiled, and what its exports stand for.
struct World {
    engine: Engine,
    compiled: Arc<Compiled>,
    exports: Vec<Export>,
}

impl World {
    fn new((resolve, world): (Resolve, WorldId)) -> Self {
        let (bytes, names) = trampoline::component(resolve, world);
        let engine = Engine::new().expect("the engine starts");
        let loaded = load::load(&bytes, "the trampoline").expect("it is a component");
        let compiled = engine.compile(&loaded, None).expect("it compiles, and all of it is covered");
        let exports = inspect::exports(&engine, &compiled).to_vec();
        assert_eq!(exports.len(), names.len());
        Self { engine, compiled: Arc::new(compiled), exports }
    }
}

/// Calls functions of WASI 0.2 that adapted programs use: files, streams, clocks, random.
pub fn host(data: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    run(WORLD.get_or_init(|| World::new(adapters())), data);
}

/// Calls functions of HTTP, sockets, namespaces, configuration and logging.
pub fn net(data: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    run(WORLD.get_or_init(|| World::new(probes())), data);
}

pub(crate) fn adapters() -> (Resolve, WorldId) {
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    let (_, bindgen) = wit_component::metadata::decode(adapter).expect("the adapter has its types");
    (bindgen.resolve, bindgen.world)
}

pub(crate) fn probes() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/probe");
    let (package, _) = resolve.push_dir(folder).expect("the WIT of the probe");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    (resolve, world)
}

/// Memories of 128-bit addresses.
pub(crate) fn shards(data: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    run(WORLD.get_or_init(|| World::new(sorters())), data);
}

fn sorters() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(wit.join("memory")).expect("the WIT of memories");
    let (package, _) = resolve.push_dir(wit.join("sorter")).expect("the WIT of the sorter");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    (resolve, world)
}

/// Random guests of WASI 0.3.
pub(crate) fn tasks(data: &[u8]) {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::new().expect("the engine starts"));
    let mut bytes = Bytes(data);
    let is_granted = bytes.next() % 4 != 0;
    let program = Plan::tasks(&mut Random::of(bytes.0)).program();
    let loaded = load::load(&program, "a guest").expect("it is a component");
    let compiled = Arc::new(engine.compile(&loaded, None).expect("it compiles, and all of it is covered"));
    let folder = Folder::new();
    let budget = Budget { ticks_max: GUEST_TICKS_MAX, ..Budget::default() };
    let judge = Box::new(Judge { is_granted });
    let (started, _) = Instance::start(engine, compiled, setup(&folder.0, is_granted), budget, judge);
    if let Some(mut instance) = fits(started) {
        let args = [Val::U32(7), Val::List((0..9).map(Val::U8).collect())];
        let mut calls = (0..GUEST_CALLS).map(|n| format!("f{}", n % FUNCTIONS));
        calls.all(|name| fits(instance.call(engine, &name, &args)).is_some());
    }
    folder.check();
}

fn run(world: &World, data: &[u8]) {
    let mut bytes = Bytes(data);
    let is_granted = bytes.next() % 4 != 0;
    let folder = Folder::new();
    let judge = Box::new(Judge { is_granted });
    let budget = Budget { ticks_max: TICKS_MAX, ..Budget::default() };
    let setup = setup(&folder.0, is_granted);
    let (started, _) = Instance::start(&world.engine, Arc::clone(&world.compiled), setup, budget, judge);
    let mut instance = started.expect("it starts");
    let (all, mut pool) = (ready(world, &mut instance), Vec::new());
    // What needs nothing gives what others need: directories, streams, the network.
    for ready in all.iter().filter(|ready| ready.params.is_empty()) {
        let given = fits(instance.call_callee(&ready.callee, &[]).map_err(Error::from));
        given.iter().flatten().for_each(|value| collect(value, &mut pool));
    }
    for _ in 0..CALLS_MAX {
        if bytes.0.is_empty() || !call(&all, &mut instance, &mut pool, &mut bytes) {
            break;
        }
    }
    folder.check();
}

/// A function of the trampoline, ready to be called.
struct Ready {
    callee: Callee,
    params: Vec<(String, Type)>,
}

fn ready(world: &World, instance: &mut Instance) -> Vec<Ready> {
    let callees = world.exports.iter().map(|export| instance.callee(export.index()).expect("it is exported"));
    let callees: Vec<Callee> = callees.collect();
    callees.into_iter().map(|callee| Ready { callee, params: instance.params(&callee) }).collect()
}

/// Makes one call; whether the instance goes on.
fn call(all: &[Ready], instance: &mut Instance, pool: &mut Vec<ResourceAny>, bytes: &mut Bytes<'_>) -> bool {
    let choice = usize::from(u16::from_le_bytes([bytes.next(), bytes.next()]));
    if choice % 32 == 31 && !pool.is_empty() {
        let dropped = pool.swap_remove(choice / 32 % pool.len());
        return fits(instance.drop_resource(dropped)).is_some();
    }
    // The first from there on for which there are handles.
    let turns = (0..all.len()).map(|turn| &all[(choice + turn * STRIDE) % all.len()]);
    let mut ready = turns.filter(|ready| ready.params.iter().all(|(_, ty)| has_handle(ty, pool)));
    let Some(Ready { callee, params }) = ready.next() else { return true };
    let mut args = Vec::new();
    for (_, ty) in params {
        match value(ty, bytes, pool) {
            Some(arg) => args.push(arg),
            None => return true,
        }
    }
    pool.retain(|handle| !params.iter().zip(&args).any(|((_, ty), arg)| is_given(ty, arg, handle)));
    match fits(instance.call_callee(callee, &args).map_err(Error::from)) {
        Some(results) => {
            results.iter().for_each(|result| collect(result, pool));
            true
        }
        None => false,
    }
}

/// Whether there is a handle for a parameter that is one.
fn has_handle(ty: &Type, pool: &[ResourceAny]) -> bool {
    match ty {
        Type::Own(wanted) | Type::Borrow(wanted) => pool.iter().any(|handle| handle.ty() == *wanted),
        _ => true,
    }
}

/// What a call may end with: a result, a fault of the guest or a limit; nothing that is wrong with the host.
fn fits<T>(ended: Result<T>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(Error::Fault(fault)) if !is_blamed_wrongly(&fault.message) => None,
        Err(Error::Abort(abort)) if abort.kind == vac_core::fault::AbortKind::Quota => None,
        Err(other) => panic!("the host is wrong: {other:?}"),
    }
}

/// Whether `handle` is given away by an argument.
fn is_given(ty: &Type, arg: &Val, handle: &ResourceAny) -> bool {
    match (ty, arg) {
        (Type::Own(_), Val::Resource(given)) => given == handle,
        (Type::Option(inner), Val::Option(Some(arg))) => is_given(&inner.ty(), arg, handle),
        (Type::List(inner), Val::List(args)) => args.iter().any(|arg| is_given(&inner.ty(), arg, handle)),
        _ => false,
    }
}

/// Takes the handles out of a result.
fn collect(value: &Val, pool: &mut Vec<ResourceAny>) {
    match value {
        Val::Resource(handle) => pool.push(*handle),
        Val::List(items) | Val::Tuple(items) => items.iter().for_each(|item| collect(item, pool)),
        Val::Record(fields) => fields.iter().for_each(|(_, field)| collect(field, pool)),
        Val::Option(inner) | Val::Variant(_, inner) | Val::Result(Ok(inner) | Err(inner)) => {
            inner.iter().for_each(|inner| collect(inner, pool));
        }
        _ => {}
    }
}

/// What is left of an input; zeros follow.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.next()) % end.max(1)
    }

    /// Small numbers mostly, sometimes the bounds of their types.
    fn number(&mut self) -> u64 {
        match self.next() {
            n @ 0..=127 => u64::from(n),
            n @ 128..=191 => 1_u64.checked_shl(u32::from(n - 128)).unwrap_or_default(),
            n @ 192..=223 => (1_u64 << (n - 192)).wrapping_sub(1),
            n => 0_u64.wrapping_sub(u64::from(n - 224)),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.next() {
            0..=15 => vec![b'x'; 1 << self.below(18)],
            n => (0..n % 32).map(|_| self.next()).collect(),
        }
    }

    fn text(&mut self) -> String {
        match self.next() {
            n @ 0..=191 => WORDS[usize::from(n) % WORDS.len()].to_owned(),
            192..=199 => "a/".repeat(1 << self.below(12)),
            200..=207 => "x".repeat(1 << self.below(17)),
            _ => String::from_utf8_lossy(&self.bytes()).into_owned(),
        }
    }
}

/// A value of a type. `None` if a handle is needed that there is not.
fn value(ty: &Type, bytes: &mut Bytes<'_>, pool: &[ResourceAny]) -> Option<Val> {
    let inner = |ty: &Type, bytes: &mut Bytes<'_>| value(ty, bytes, pool).map(Box::new);
    Some(match ty {
        Type::Bool => Val::Bool(bytes.next() % 2 == 1),
        Type::S8 => Val::S8(bytes.number() as i8),
        Type::U8 => Val::U8(bytes.number() as u8),
        Type::S16 => Val::S16(bytes.number() as i16),
        Type::U16 => Val::U16(bytes.number() as u16),
        Type::S32 => Val::S32(bytes.number() as i32),
        Type::U32 => Val::U32(bytes.number() as u32),
        Type::S64 => Val::S64(bytes.number() as i64),
        Type::U64 => Val::U64(bytes.number()),
        Type::Float32 => Val::Float32(f32::from_bits(bytes.number() as u32)),
        Type::Float64 => Val::Float64(f64::from_bits(bytes.number())),
        Type::Char => Val::Char(char::from(bytes.next())),
        Type::String => Val::String(bytes.text()),
        Type::List(list) if matches!(list.ty(), Type::U8) => {
            let all = if bytes.next().is_multiple_of(2) { bytes.text().into_bytes() } else { bytes.bytes() };
            Val::List(all.into_iter().map(Val::U8).collect())
        }
        Type::List(list) => {
            let len = bytes.below(5);
            let items = (0..len).map(|_| inner(&list.ty(), bytes).map(|item| *item));
            Val::List(items.collect::<Option<_>>()?)
        }
        Type::Tuple(tuple) => {
            Val::Tuple(tuple.types().map(|ty| inner(&ty, bytes).map(|item| *item)).collect::<Option<_>>()?)
        }
        Type::Record(record) => {
            let fields = record.fields().map(|f| Some((f.name.to_owned(), *inner(&f.ty, bytes)?)));
            Val::Record(fields.collect::<Option<_>>()?)
        }
        Type::Variant(variant) => {
            let case = variant.cases().nth(bytes.below(variant.cases().len()))?;
            let payload = match &case.ty {
                Some(ty) => Some(inner(ty, bytes)?),
                None => None,
            };
            Val::Variant(case.name.to_owned(), payload)
        }
        Type::Enum(cases) => Val::Enum(cases.names().nth(bytes.below(cases.names().len()))?.to_owned()),
        Type::Option(option) => match bytes.next() % 3 {
            0 => Val::Option(None),
            _ => Val::Option(Some(inner(&option.ty(), bytes)?)),
        },
        Type::Result(result) => match (bytes.next() % 2, result.ok(), result.err()) {
            (0, Some(ok), _) => Val::Result(Ok(Some(inner(&ok, bytes)?))),
            (0, None, _) => Val::Result(Ok(None)),
            (_, _, Some(err)) => Val::Result(Err(Some(inner(&err, bytes)?))),
            (_, _, None) => Val::Result(Err(None)),
        },
        Type::Flags(flags) => {
            let bits = bytes.number();
            let set = flags.names().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            Val::Flags(set.map(|(_, name)| name.to_owned()).collect())
        }
        Type::Own(wanted) | Type::Borrow(wanted) => {
            let fitting: Vec<&ResourceAny> = pool.iter().filter(|handle| handle.ty() == *wanted).collect();
            Val::Resource(**fitting.get(bytes.below(fitting.len()))?)
        }
        _ => return None,
    })
}

/// What one input works on: `ro` and `rw`, which may be granted, and `outside`, which never is.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Targets run side by side.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vac-fuzz-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let made = || -> std::io::Result<()> {
            for dir in ["ro", "rw"] {
                std::fs::create_dir_all(path.join(dir).join("sub"))?;
                std::fs::write(path.join(dir).join("a"), "text of a")?;
                std::os::unix::fs::symlink("../outside", path.join(dir).join("link"))?;
            }
            std::fs::write(path.join("outside"), OUTSIDE)
        };
        made().expect("the folder can be made");
        Self(path)
    }

    /// Panics if anything was changed that may not be.
    fn check(&self) {
        let outside = std::fs::read_to_string(self.0.join("outside")).expect("it is still there");
        assert_eq!(outside, OUTSIDE, "what is outside was changed");
        let count = |path: &Path| std::fs::read_dir(path).expect("the folder").count();
        assert_eq!(count(&self.0), 3, "something was made or removed outside");
        assert_eq!(
            count(&self.0.join("ro")),
            3,
            "something was made or removed where only reading is granted"
        );
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn setup(folder: &Path, is_granted: bool) -> Setup {
    let quotas = [
        (Resource::MemoryBytes, 128 << 20),
        (Resource::HostCalls, 1000),
        (Resource::InputBytes, 32 << 20),
        (Resource::OutputBytes, 8 << 20),
        (Resource::OpenFiles, 32),
    ];
    let quotas = quotas.into_iter().fold(Quotas::unlimited(), |all, (resource, max)| all.with(resource, max));
    let base = Setup { quotas, handles_max: 64, transfer_max_bytes: 4 << 20, ..Setup::default() };
    if !is_granted {
        return base;
    }
    let of = |name: &str| folder.join(name).display().to_string();
    let texts = [
        format!("dir:ro={}::ro", of("ro")),
        format!("dir:rw={}::rw", of("rw")),
        "stdin".to_owned(),
        format!("http:GET,POST={HOST}"),
    ];
    let granted: Vec<_> = texts.iter().map(|text| Grant::parse(text, &|_| None).expect("a grant")).collect();
    let hosts = Some(HOST.parse().expect("a name"));
    let bucket = |guest: &str, rights| Bucket {
        guest: guest.to_owned(),
        rights,
        grant: 4,
        data: Box::new(Values(BTreeMap::from([("k".to_owned(), b"1".to_vec())]))),
    };
    Setup {
        preopens: grants::open(&granted).expect("the folders are there"),
        stdin: grants::stdin(&granted),
        net: grants::net(&granted),
        http: Some(Arc::new(Reflects)),
        secrets: vec![Secret { placeholder: PLACEHOLDER.into(), value: VALUE.into(), hosts }],
        config: vec![("k".into(), "v".into())],
        buckets: vec![bucket("a", vac_core::caps::Rights::READ), bucket("b", vac_core::caps::Rights::ALL)],
        memories: memories(),
        console: Box::new(Input(b"what is typed".to_vec())),
        args: vec!["program".into()],
        env: vec![("KEY".into(), PLACEHOLDER.into())],
        ..base
    }
}

/// `a`, of which two shards may be changed, and `b`, all of which may be read.
fn memories() -> Vec<Memory> {
    let settings = Settings { page_len: 4096, budget_bytes: 64 << 10, ..Settings::default() };
    let mut pager = Pager::new(Arc::new(Objects::default()), settings).expect("a pager");
    let mut space = pager.space();
    let root = pager.commit(&mut space).expect("nothing fails");
    let shared = Arc::new(Mutex::new(Shared::new(pager, space, root, Box::new(Nobody), MOST)));
    let of = |guest: &str, (first, last), rights| Memory {
        guest: guest.to_owned(),
        first,
        last,
        rights,
        grant: 5,
        shared: Arc::clone(&shared),
    };
    let change = Rights::READ.or(Rights::WRITE);
    vec![of("a", (u64::MAX - 1, u64::MAX), change), of("b", (0, u64::MAX), Rights::READ)]
}

/// Pages that one input may map.
const MOST: Most = Most { mapped: 500, dirty: 3, io_bytes: 1 << 20 };

/// Pages and nodes, in memory.
#[derive(Default)]
struct Objects(Mutex<BTreeMap<Cid, Vec<u8>>>);

impl Tier for Objects {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(objects.get(cid).map(|bytes| to.copy_from_slice(bytes)).is_some())
    }
    fn get(&self, cid: &Cid, _: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(cid).cloned())
    }
    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*cid, bytes.to_vec());
        Ok(())
    }
    fn commit(&self) -> Result<()> {
        Ok(())
    }
}

/// Moves no name.
struct Nobody;

impl Keeper for Nobody {
    fn keep(&mut self, _: &Cid) -> Result<()> {
        Ok(())
    }
}

/// A namespace in memory.
struct Values(BTreeMap<String, Vec<u8>>);

impl KeyValue for Values {
    fn get(&mut self, key: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }
    fn set(&mut self, key: &str, value: Option<&[u8]>) -> std::io::Result<()> {
        match value {
            Some(value) => drop(self.0.insert(key.to_owned(), value.to_vec())),
            None => drop(self.0.remove(key)),
        }
        Ok(())
    }
    fn keys(&mut self, after: Option<&str>, max: usize) -> std::io::Result<Vec<String>> {
        let is_after = |key: &&String| after.is_none_or(|after| key.as_str() > after);
        Ok(self.0.keys().filter(is_after).take(max).cloned().collect())
    }
}

/// A console with some input.
struct Input(Vec<u8>);

impl Console for Input {
    fn read(&mut self, max: usize) -> std::io::Result<Vec<u8>> {
        let rest = self.0.split_off(max.min(self.0.len()));
        Ok(std::mem::replace(&mut self.0, rest))
    }
    fn write(&mut self, _: Out, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// A server that says all that it heard, the secret too; and what a request must be that gets there.
struct Reflects;

impl Http for Reflects {
    fn send(
        &self,
        request: HttpRequest,
        may_connect: MayConnect,
    ) -> std::result::Result<HttpResponse, HttpFailure> {
        assert_eq!(request.host, HOST, "another host was not granted");
        assert!([80, 443].contains(&request.port), "port {}", request.port);
        assert!(["GET", "POST"].contains(&request.method.as_str()), "method {}", request.method);
        assert!(
            request.path.starts_with('/') && !request.path.contains(char::is_control),
            "{}",
            request.path
        );
        for (name, value) in &request.headers {
            assert!(!name.contains(char::is_control) && !value.contains(&b'\n') && !value.contains(&b'\r'));
        }
        for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
            assert!(!may_connect(address.parse::<IpAddr>().expect("an address")), "{address}");
        }
        let heard = format!("{VALUE} {}", String::from_utf8_lossy(&request.body.unwrap_or_default()));
        let headers = vec![("x-heard".to_owned(), VALUE.as_bytes().to_vec())];
        Ok(HttpResponse { status: 200, headers, body: heard.into_bytes(), trailers: None })
    }
}

/// Functions that answered until now, in this process.
static REACHED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Functions that answered until now: whether the inputs are any good.
pub fn reached() -> Vec<String> {
    REACHED.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Looks at all that crosses the wall.
struct Judge {
    is_granted: bool,
}

impl Recorder for Judge {
    fn ask(&mut self, crossing: &Crossing<'_>) -> Result<Option<Vec<u8>>> {
        decode::<Node>(crossing.request, "a request").expect("a request is in canonical form");
        Ok(None)
    }

    fn answered(&mut self, crossing: &Crossing<'_>, answered: Answered<'_>) -> Result<()> {
        let name = &crossing.function.name;
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        let response = answered.response.bytes();
        decode::<Node>(response, "a response").expect("a response is in canonical form");
        assert!(self.is_granted || answered.grant.is_none(), "{name} did what was not granted");
        for hidden in [OUTSIDE, VALUE] {
            let is_told = response.windows(hidden.len()).any(|part| part == hidden.as_bytes());
            assert!(!is_told, "{name} told `{hidden}`");
        }
        Ok(())
    }

    fn stopped(&mut self, _: &Crossing<'_>, _: &Error) -> Result<()> {
        Ok(())
    }
}

/// Calls of every function, in several orders, with grants and without.
pub fn seeds() -> Vec<Vec<u8>> {
    random_inputs(64)
}

/// Guests, with grants and without. Each has to be compiled.
pub(crate) fn tasks_seeds() -> Vec<Vec<u8>> {
    random_inputs(24)
}

fn random_inputs(count: u8) -> Vec<Vec<u8>> {
    let mut random = Random::new(7);
    (0..count)
        .map(|i| (0..800).map(|at| if at == 0 { i } else { random.next_u64() as u8 }).collect())
        .collect()
}

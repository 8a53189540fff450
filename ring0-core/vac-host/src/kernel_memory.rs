//! `vac:memory/shards`: memory larger than the machine, for kernels. A memory is opened by the name of a grant.

use std::sync::{Arc, Mutex, PoisonError};

use vac_core::canon;
use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local, Read};
use vac_core::memory;
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use crate::host::{Host, Object, handle_of, refused};
use crate::piece::Piece;
use crate::shards::{self, Refused, View};
use crate::wall::{Interface, Wall};
use crate::wasi::io::wrong_kind;
use crate::wire::{cases, record};

/// `vac:memory/shards.shard`.
pub(crate) struct Shard;

/// `vac:memory/shards.error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum ShardError {
    #[component(name = "denied")]
    Denied,
    #[component(name = "out-of-range")]
    OutOfRange,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "quota")]
    Quota,
    #[component(name = "unrelated")]
    Unrelated,
    #[component(name = "revoked")]
    Revoked,
}
cases!(ShardError { Denied, OutOfRange, TooLarge, Quota, Unrelated, Revoked } Revoked);

impl From<Refused> for ShardError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OutOfRange => Self::OutOfRange,
            Refused::TooLarge => Self::TooLarge,
            Refused::Quota => Self::Quota,
            Refused::Unrelated => Self::Unrelated,
        }
    }
}

/// `vac:memory/shards.advice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Advice {
    #[component(name = "will-need")]
    WillNeed,
    #[component(name = "dont-need")]
    DontNeed,
    #[component(name = "sequential")]
    Sequential,
    #[component(name = "random")]
    Random,
}
cases!(Advice { WillNeed, DontNeed, Sequential, Random });

impl Advice {
    fn of_range(self) -> memory::Advice {
        match self {
            Self::WillNeed => memory::Advice::WillNeed,
            Self::DontNeed => memory::Advice::DontNeed,
            Self::Sequential => memory::Advice::Sequential,
            Self::Random => memory::Advice::Random,
        }
    }
}

/// `vac:memory/shards.address`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct Address {
    shard: u64,
    offset: u64,
}
record!(Address { shard, offset });

impl Address {
    fn pair(self) -> (u64, u64) {
        (self.shard, self.offset)
    }
}

/// `vac:memory/shards.stat`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct Stat {
    #[component(name = "last-shard")]
    last_shard: u64,
    #[component(name = "page-bytes")]
    page_bytes: u32,
    #[component(name = "can-write")]
    can_write: bool,
    #[component(name = "mapped-pages")]
    mapped_pages: u64,
    root: Option<String>,
}
record!(Stat { last_shard, page_bytes, can_write, mapped_pages, root });

/// What whoever changes a memory must be allowed.
const CHANGE: Rights = Rights::WRITE;

type Answer<T> = Result<std::result::Result<T, ShardError>>;
type S = Resource<Shard>;

pub(crate) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("vac:memory/shards", "@0.1.0", |i| {
        i.resource::<Shard>("shard")?;
        i.detailed("open", Local, |h, (name,): &(String,)| Ok(root(h, name)), |h, (name,)| open(h, &name))?;
        i.func("[method]shard.stat", Read, |h, (s,): (S,)| stat(h, &s))?;
        i.func("[method]shard.read", Read, |h, (s, at, len): (S, Address, u32)| read(h, &s, at, len))?;
        define_changes(i)?;
        i.func("[method]shard.advise", Local, |h, (s, at, len, advice): (S, Address, u64, Advice)| {
            with(h, &s, Rights::READ, |_, view| view.advise(at.pair(), len, advice.of_range()))
        })?;
        i.func("[method]shard.snapshot", Local, |h, (s,): (S,)| fork(h, &s, Rights::READ))?;
        i.func("[method]shard.fork", Local, |h, (s,): (S,)| fork(h, &s, CHANGE.or(Rights::READ)))
    })
}

fn define_changes(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]shard.write", Local, |h, (s, at, bytes): (S, Address, Vec<u8>)| {
        h.give_out(bytes.len())?;
        with(h, &s, CHANGE, |_, view| view.write(at.pair(), &bytes))
    })?;
    i.func("[method]shard.fill", Local, |h, (s, at, len, byte): (S, Address, u64, u8)| {
        with(h, &s, CHANGE, |h, view| view.fill(at.pair(), len, byte, &|| h.check_watch()))
    })?;
    i.func("[method]shard.copy", Local, |h, (s, source, target, len): (S, Address, Address, u64)| {
        let (from, to) = (source.pair(), target.pair());
        with(h, &s, CHANGE, |h, view| view.copy(from, to, len, &|| h.check_watch()))
    })?;
    i.func("[method]shard.restore", Local, |h, (s, source): (S, S)| restore(h, &s, &source))?;
    i.func("[method]shard.commit", Effect, |h, (s,): (S,)| -> Answer<Option<String>> {
        let is_past = h.is_past;
        let root = with(h, &s, CHANGE, |_, view| view.commit(is_past))?;
        Ok(root.map(|root| root.map(|cid| cid.to_string())))
    })
}

/// What the record of opening a memory has beside its name: the root it had then, or null.
fn root(host: &Host, name: &str) -> Vec<u8> {
    let found = host.memories.iter().find(|memory| memory.guest == name);
    let root = found.map(shards::root_of);
    let mut to = canon::Writer::default();
    match root {
        Some(root) => to.link(&root),
        None => to.null(),
    }
    to.into_bytes()
}

fn open(host: &mut Host, name: &str) -> Answer<S> {
    let Some(memory) = host.memories.iter().find(|memory| memory.guest == name) else {
        host.deny(format!("mem:rw={name}"));
        return Ok(Err(ShardError::Denied));
    };
    let (view, rights, grant) = (View::new(memory), memory.rights, memory.grant);
    host.allowed_by(Some(grant));
    Ok(Ok(host.open(shared(view), rights, Some(grant))?))
}

fn shared(view: View) -> Object {
    Object::Shard(Arc::new(Mutex::new(view)))
}

fn read(host: &mut Host, shard: &S, at: Address, len: u32) -> Answer<Piece> {
    let (at, len) = (at.pair(), len as usize);
    match with(host, shard, Rights::READ, |_, view| Ok(view.can_read(at, len)))? {
        Ok(()) => host.take_in(len)?,
        Err(error) => return Ok(Err(error)),
    }
    let mut pieces = std::mem::take(&mut host.pieces);
    let piece = with(host, shard, Rights::READ, |_, view| {
        let mut refused = None;
        let piece = pieces.read(len, |room| {
            refused = view.read(at, room)?.err();
            Ok::<_, vac_core::fault::Error>(room.len())
        })?;
        Ok(refused.map_or(Ok(piece), Err))
    });
    host.pieces = pieces;
    piece
}

fn stat(host: &mut Host, shard: &S) -> Answer<Stat> {
    let can_write = host.table.rights(handle_of(shard)).map_err(refused)?.has(Rights::WRITE);
    let known = with(host, shard, Rights::READ, |h, view| view.stat(&|| h.check_watch()))?;
    Ok(known.map(|known| Stat {
        last_shard: known.last,
        page_bytes: known.page_len as u32,
        can_write,
        mapped_pages: known.mapped,
        root: known.root.map(|root| root.to_string()),
    }))
}

/// Another handle, on a space of its own, with at most these rights.
fn fork(host: &mut Host, shard: &S, rights: Rights) -> Answer<S> {
    match with(host, shard, rights, |_, view| view.fork())? {
        Ok(view) => Ok(Ok(host.derive(handle_of(shard), shared(view), rights)?)),
        Err(error) => Ok(Err(error)),
    }
}

fn restore(host: &mut Host, shard: &S, source: &S) -> Answer<()> {
    if shard.rep() == source.rep() {
        return Ok(Err(ShardError::Unrelated));
    }
    let Some(from) = view_of(host, source, Rights::READ)? else { return Ok(Err(ShardError::Denied)) };
    // Another handle is another view: nobody waits here.
    let mut from = from.lock().unwrap_or_else(PoisonError::into_inner);
    with(host, shard, CHANGE, |h, view| view.restore(&mut from, &|| h.check_watch()))
}

/// What `act` does with what is behind a handle, if its grant allows `needed`.
fn with<T>(
    host: &mut Host,
    shard: &S,
    needed: Rights,
    act: impl FnOnce(&Host, &mut View) -> shards::Answer<T>,
) -> Answer<T> {
    let Some(view) = view_of(host, shard, needed)? else { return Ok(Err(ShardError::Denied)) };
    let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(act(host, &mut view)?.map_err(ShardError::from))
}

/// What is behind a handle; `None` is a denial.
fn view_of(host: &mut Host, shard: &S, needed: Rights) -> Result<Option<Arc<Mutex<View>>>> {
    let handle = handle_of(shard);
    let held = host.table.rights(handle).map_err(refused)?;
    let grant = host.table.grant(handle);
    host.allowed_by(grant);
    if !held.has(needed) {
        let name = name_of(host, grant);
        host.deny(format!("mem:rw={name}"));
        return Ok(None);
    }
    match host.table.get(handle, needed).map_err(refused)? {
        Object::Shard(view) => Ok(Some(Arc::clone(view))),
        _ => Err(wrong_kind()),
    }
}

/// What the guest calls the memory of a grant.
fn name_of(host: &Host, grant: Option<u32>) -> String {
    let found = host.memories.iter().find(|memory| Some(memory.grant) == grant);
    found.map_or_else(String::new, |memory| memory.guest.clone())
}

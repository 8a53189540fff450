//! `wasi:keyvalue`: namespaces that the operator granted. A listing is sorted.

use vac_core::canon::{Reader, Writer};
use vac_core::caps::Rights;
use vac_core::fault::{Corrupt, Result};
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::io::wrong_kind;
use crate::host::{Host, KeyValue, Object, handle_of, refused};
use crate::limits::{KEY_MAX_BYTES, KEYS_PER_LISTING, VALUE_MAX_BYTES, VALUES_MAX_BYTES};
use crate::wall::{Interface, Wall};
use crate::wire::{Wire, record};

/// None was released; in the second, a place in a listing is text.
const DRAFT_1: &str = "@0.2.0-draft";
const DRAFT_2: &str = "@0.2.0-draft2";

/// `wasi:keyvalue/store.bucket`.
pub(crate) struct Bucket;

/// `wasi:keyvalue/store.error`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum KvError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl Wire for KvError {
    fn put(&self, to: &mut Writer) {
        match self {
            Self::NoSuchStore => (0u8, String::new()).put(to),
            Self::AccessDenied => (1u8, String::new()).put(to),
            Self::Other(words) => (2u8, words.clone()).put(to),
        }
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        match <(u8, String)>::read(from)? {
            (0, _) => Ok(Self::NoSuchStore),
            (1, _) => Ok(Self::AccessDenied),
            (2, words) => Ok(Self::Other(words)),
            (n, _) => Err(from.wrong("0 to 2", n)),
        }
    }
}

/// `wasi:keyvalue/store.key-response` of the first draft.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct Keys1 {
    keys: Vec<String>,
    cursor: Option<u64>,
}
record!(Keys1 { keys, cursor });

/// `wasi:keyvalue/store.key-response` of the second draft.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct Keys2 {
    keys: Vec<String>,
    cursor: Option<String>,
}
record!(Keys2 { keys, cursor });

type Answer<T> = Result<std::result::Result<T, KvError>>;
type B = Resource<Bucket>;
type Pair = (String, Vec<u8>);

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:keyvalue/store", DRAFT_1, |i| {
        define_store(i)?;
        i.func("[method]bucket.list-keys", Read, |h, (b, cursor): (B, Option<u64>)| -> Answer<Keys1> {
            list_from(h, &b, cursor.unwrap_or_default())
        })
    })?;
    wall.interface("wasi:keyvalue/store", DRAFT_2, |i| {
        define_store(i)?;
        i.func("[method]bucket.list-keys", Read, |h, (b, after): (B, Option<String>)| -> Answer<Keys2> {
            Ok(list_after(h, &b, after)?.map(|(keys, is_last)| {
                let cursor = keys.last().filter(|_| !is_last).cloned();
                Keys2 { keys, cursor }
            }))
        })
    })?;
    for version in [DRAFT_1, DRAFT_2] {
        define_batch(wall, version)?;
    }
    wall.interface("wasi:keyvalue/atomics", DRAFT_1, |i| {
        i.func("increment", Effect, |h, (b, key, delta): (B, String, u64)| {
            with(h, &b, Rights::ALL, |data| increment(data, &key, |n| n.checked_add(delta)))
        })
    })
}

fn define_store(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.resource::<Bucket>("bucket")?;
    i.func("open", Local, |h, (name,): (String,)| open(h, &name))?;
    i.func("[method]bucket.get", Read, |h, (b, key): (B, String)| -> Answer<Option<Vec<u8>>> {
        let got = with(h, &b, Rights::READ, |data| data.get(&key))?;
        h.take_in(got.as_ref().ok().and_then(Option::as_ref).map_or(0, Vec::len))?;
        Ok(got)
    })?;
    i.func("[method]bucket.set", Effect, |h, (b, key, value): (B, String, Vec<u8>)| {
        h.give_out(value.len())?;
        with(h, &b, Rights::ALL, |data| set(data, &key, &value))
    })?;
    i.func("[method]bucket.delete", Effect, |h, (b, key): (B, String)| {
        with(h, &b, Rights::ALL, |data| data.set(&key, None))
    })?;
    i.func("[method]bucket.exists", Read, |h, (b, key): (B, String)| {
        with(h, &b, Rights::READ, |data| Ok(data.get(&key)?.is_some()))
    })
}

fn define_batch(wall: &mut Wall<'_>, version: &str) -> wasmtime::Result<()> {
    wall.interface("wasi:keyvalue/batch", version, |i| {
        i.func("get-many", Read, |h, (b, keys): (B, Vec<String>)| -> Answer<Vec<Option<Pair>>> {
            let got = with(h, &b, Rights::READ, |data| get_many(data, &keys))?;
            let len = |all: &Vec<Option<Pair>>| all.iter().flatten().map(|(_, value)| value.len()).sum();
            h.take_in(got.as_ref().map_or(0, len))?;
            Ok(got)
        })?;
        i.func("set-many", Effect, |h, (b, pairs): (B, Vec<Pair>)| {
            h.give_out(pairs.iter().map(|(_, value)| value.len()).sum())?;
            each(h, &b, &pairs, |data, (key, value)| set(data, key, value))
        })?;
        i.func("delete-many", Effect, |h, (b, keys): (B, Vec<String>)| {
            each(h, &b, &keys, |data, key| data.set(key, None))
        })
    })
}

fn open(host: &mut Host, name: &str) -> Answer<B> {
    let mut buckets = host.buckets.iter().enumerate();
    match buckets.find_map(|(index, bucket)| Some((index, bucket.as_ref().filter(|b| b.guest == name)?))) {
        Some((index, bucket)) => {
            let (rights, grant) = (bucket.rights, bucket.grant);
            host.allowed_by(Some(grant));
            Ok(Ok(host.open(Object::Bucket(index), rights, Some(grant))?))
        }
        None => {
            host.deny(format!("kv:rw={name}"));
            Ok(Err(KvError::NoSuchStore))
        }
    }
}

/// The keys that follow `after`, as many as one listing gives, and whether they are the last.
fn list_after(host: &mut Host, bucket: &B, after: Option<String>) -> Answer<(Vec<String>, bool)> {
    let one_more = KEYS_PER_LISTING + 1;
    let listed = with(host, bucket, Rights::READ, |data| data.keys(after.as_deref(), one_more))?;
    let listed = listed.map(|mut keys| {
        let is_last = keys.len() < one_more;
        keys.truncate(KEYS_PER_LISTING);
        (keys, is_last)
    });
    host.take_in(listed.as_ref().map_or(0, |(keys, _)| keys.iter().map(String::len).sum()))?;
    Ok(listed)
}

/// The keys after the first `skip`. Whoever goes on where the last listing ended is there at once; any
/// other place is walked to, a listing at a time.
fn list_from(host: &mut Host, bucket: &B, skip: u64) -> Answer<Keys1> {
    let index = index_of(host, bucket)?;
    let (mut at, mut after) = match host.listed.get(&index).filter(|(at, _)| *at <= skip) {
        Some((at, key)) => (*at, Some(key.clone())),
        None => (0, None),
    };
    while at < skip {
        let max = usize::try_from(skip - at).unwrap_or(usize::MAX).min(KEYS_PER_LISTING);
        let passed = match with(host, bucket, Rights::READ, |data| data.keys(after.as_deref(), max))? {
            Ok(passed) => passed,
            Err(error) => return Ok(Err(error)),
        };
        let Some(last) = passed.last() else { return Ok(Ok(Keys1 { keys: Vec::new(), cursor: None })) };
        (at, after) = (at + passed.len() as u64, Some(last.clone()));
        host.check_watch()?;
    }
    let (keys, is_last) = match list_after(host, bucket, after)? {
        Ok(listed) => listed,
        Err(error) => return Ok(Err(error)),
    };
    let next = skip.saturating_add(keys.len() as u64);
    if let Some(last) = keys.last() {
        host.listed.insert(index, (next, last.clone()));
    }
    Ok(Ok(Keys1 { keys, cursor: (!is_last).then_some(next) }))
}

/// Number of the namespace behind a handle.
fn index_of(host: &Host, bucket: &B) -> Result<usize> {
    match host.table.get(handle_of(bucket), Rights::NONE).map_err(refused)? {
        Object::Bucket(index) => Ok(*index),
        _ => Err(wrong_kind()),
    }
}

/// `act` on each of `items`, one after the other, until one fails or the run should stop.
fn each<T>(
    host: &mut Host,
    bucket: &B,
    items: &[T],
    act: impl Fn(&mut dyn KeyValue, &T) -> std::io::Result<()>,
) -> Answer<()> {
    for item in items {
        if let Err(error) = with(host, bucket, Rights::ALL, |data| act(data, item))? {
            return Ok(Err(error));
        }
        host.check_watch()?;
    }
    // What is asked for nothing is allowed or not all the same.
    with(host, bucket, Rights::ALL, |_| Ok(()))
}

/// What `act` does with the bucket, if its grant allows `needed`.
fn with<T>(
    host: &mut Host,
    bucket: &B,
    needed: Rights,
    act: impl FnOnce(&mut dyn KeyValue) -> std::io::Result<T>,
) -> Answer<T> {
    let (handle, index) = (handle_of(bucket), index_of(host, bucket)?);
    host.allowed_by(host.table.grant(handle));
    let held = host.table.rights(handle).map_err(refused)?;
    let Some(Some(bucket)) = host.buckets.get_mut(index) else { return Err(wrong_kind()) };
    if !held.has(needed) {
        let would_allow = format!("kv:rw={}", bucket.guest);
        host.deny(would_allow);
        return Ok(Err(KvError::AccessDenied));
    }
    Ok(act(&mut *bucket.data).map_err(|e| KvError::Other(e.kind().to_string())))
}

/// The same key may be asked for as often as the guest likes, so that what they are together has a limit.
fn get_many(data: &mut dyn KeyValue, keys: &[String]) -> std::io::Result<Vec<Option<Pair>>> {
    let (mut all, mut len) = (Vec::new(), 0);
    for key in keys {
        let value = data.get(key)?;
        len += key.len() + value.as_ref().map_or(0, Vec::len);
        if len > VALUES_MAX_BYTES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        all.push(value.map(|value| (key.clone(), value)));
    }
    Ok(all)
}

fn set(data: &mut dyn KeyValue, key: &str, value: &[u8]) -> std::io::Result<()> {
    if key.len() > KEY_MAX_BYTES || value.len() > VALUE_MAX_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    data.set(key, Some(value))
}

/// A number is kept as its decimal text.
fn increment(data: &mut dyn KeyValue, key: &str, add: impl Fn(u64) -> Option<u64>) -> std::io::Result<u64> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let old = match data.get(key)? {
        None => 0,
        Some(text) => std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok()).ok_or_else(invalid)?,
    };
    let new = add(old).ok_or_else(invalid)?;
    set(data, key, new.to_string().as_bytes())?;
    Ok(new)
}

//! One attempt: a read, a conditional write, a write over what is there.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort};

/// Parts of one object that are read at a time.
const PARTS_AT_ONCE: usize = 8;

/// How an attempt ended.
pub(crate) enum Outcome<T> {
    Done(T),
    /// The next attempt may end better.
    Again(Error),
    /// It will not.
    Refused(Error),
}

/// Reads and hashes an object of at most `max` bytes.
pub(crate) async fn get(
    store: Arc<dyn ObjectStore>,
    path: Path,
    cid: Cid,
    max: usize,
    part: u64,
) -> Outcome<Option<Vec<u8>>> {
    if cid == Cid::of(cid.codec(), &[]) {
        return empty(&*store, &path).await;
    }
    let bytes = match read(&*store, &path, &cid, max, part).await {
        Ok(bytes) => bytes,
        Err(Wrong::Store(StoreError::NotFound { .. })) => return Outcome::Done(None),
        Err(Wrong::Store(why)) => return failed("read", &path, &why),
        // A part of another version, or too much of one: ask again.
        Err(Wrong::Bytes(why)) => return Outcome::Again(why),
    };
    let got = Cid::of(cid.codec(), &bytes);
    if got != cid {
        return Outcome::Again(Corrupt::new("object", format!("`{path}`"), cid, got).into());
    }
    Outcome::Done(Some(bytes))
}

/// An object without bytes, of which there is no range to ask for.
async fn empty(store: &dyn ObjectStore, path: &Path) -> Outcome<Option<Vec<u8>>> {
    match store.head(path).await {
        Ok(meta) if meta.size == 0 => Outcome::Done(Some(Vec::new())),
        Ok(meta) => {
            let got = format!("{} bytes", meta.size);
            Outcome::Again(Corrupt::new("object", format!("`{path}`"), "0 bytes", got).into())
        }
        Err(StoreError::NotFound { .. }) => Outcome::Done(None),
        Err(why) => failed("look at", path, &why),
    }
}

enum Wrong {
    Store(StoreError),
    Bytes(Error),
}

impl From<StoreError> for Wrong {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

async fn read(
    store: &dyn ObjectStore,
    path: &Path,
    cid: &Cid,
    max: usize,
    part: u64,
) -> Result<Vec<u8>, Wrong> {
    let is_long = max as u64 > part;
    let range = is_long.then_some(GetRange::Bounded(0..part));
    let first = store.get_opts(path, GetOptions { range, ..GetOptions::default() }).await?;
    let (size, e_tag) = (first.meta.size, first.meta.e_tag.clone());
    if size > max as u64 {
        return Err(Wrong::Bytes(wrong_len(cid, max, size)));
    }
    let mut bytes = Vec::new();
    append(first, &mut bytes, cid, max).await?;
    if !is_long || size <= part {
        return Ok(bytes);
    }
    let rest: Vec<Range<u64>> =
        (1..size.div_ceil(part)).map(|n| n * part..((n + 1) * part).min(size)).collect();
    let parts = futures::stream::iter(rest)
        .map(|range| {
            // All of one version of the object.
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                if_match: e_tag.clone(),
                ..GetOptions::default()
            };
            async move {
                let mut bytes = Vec::new();
                let len = usize::try_from(range.end - range.start).unwrap_or(max);
                append(store.get_opts(path, options).await?, &mut bytes, cid, len).await?;
                Ok::<_, Wrong>(bytes)
            }
        })
        .buffered(PARTS_AT_ONCE)
        .try_collect::<Vec<Vec<u8>>>()
        .await?;
    parts.into_iter().for_each(|part| bytes.extend(part));
    Ok(bytes)
}

/// Takes what comes, but not more than `max` bytes.
async fn append(
    from: object_store::GetResult,
    bytes: &mut Vec<u8>,
    cid: &Cid,
    max: usize,
) -> Result<(), Wrong> {
    let mut stream = from.into_stream();
    while let Some(chunk) = stream.try_next().await? {
        if bytes.len() + chunk.len() > max {
            return Err(Wrong::Bytes(wrong_len(cid, max, (bytes.len() + chunk.len()) as u64)));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(())
}

/// Writes an object unless it is there.
pub(crate) async fn put(store: Arc<dyn ObjectStore>, path: Path, body: Bytes) -> Outcome<()> {
    let payload = PutPayload::from_bytes(body.clone());
    match store.put_opts(&path, payload, PutMode::Create.into()).await {
        Ok(_) => Outcome::Done(()),
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
            put_over_wrong_len(store, path, body, false).await
        }
        // A server that knows no conditions: look, then write.
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            put_over_wrong_len(store, path, body, true).await
        }
        Err(why) => failed("write", &path, &why),
    }
}

/// Writes an object if what is there has another length, or if nothing is and `may_be_missing`.
async fn put_over_wrong_len(
    store: Arc<dyn ObjectStore>,
    path: Path,
    body: Bytes,
    may_be_missing: bool,
) -> Outcome<()> {
    match store.head(&path).await {
        Ok(meta) if meta.size == body.len() as u64 => Outcome::Done(()),
        Err(StoreError::NotFound { .. }) if !may_be_missing => {
            // Somebody is writing it, or the answer is an old one.
            let message = format!("`{path}` is there and is not");
            Outcome::Again(HostAbort::new(AbortKind::Machine, message).into())
        }
        Ok(_) | Err(StoreError::NotFound { .. }) => overwrite(store, path, body).await,
        Err(why) => failed("look at", &path, &why),
    }
}

/// Writes an object, whatever is there.
pub(crate) async fn overwrite(store: Arc<dyn ObjectStore>, path: Path, body: Bytes) -> Outcome<()> {
    match store.put_opts(&path, PutPayload::from_bytes(body), PutMode::Overwrite.into()).await {
        Ok(_) => Outcome::Done(()),
        Err(why) => failed("write", &path, &why),
    }
}

/// How long the object is.
pub(crate) async fn len(store: Arc<dyn ObjectStore>, path: Path) -> Outcome<Option<u64>> {
    match store.head(&path).await {
        Ok(meta) => Outcome::Done(Some(meta.size)),
        Err(StoreError::NotFound { .. }) => Outcome::Done(None),
        Err(why) => failed("look at", &path, &why),
    }
}

/// Asks for the first name below `prefix`.
pub(crate) async fn reach(store: Arc<dyn ObjectStore>, prefix: Path) -> Outcome<()> {
    match store.list(Some(&prefix)).next().await {
        None | Some(Ok(_)) => Outcome::Done(()),
        Some(Err(why)) => failed("list", &prefix, &why),
    }
}

/// What went wrong, in the words of the server: whoever shows them cuts them.
fn failed<T>(what: &str, path: &Path, why: &StoreError) -> Outcome<T> {
    let error = HostAbort::new(AbortKind::Machine, format!("cannot {what} `{path}`: {}", with_causes(why)));
    match why {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            Outcome::Refused(error.hint("check its credentials, and what they may do").into())
        }
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => {
            Outcome::Refused(error.into())
        }
        _ => Outcome::Again(error.into()),
    }
}

/// An error with what it came from, as far as it does not say so itself.
fn with_causes(why: &dyn std::error::Error) -> String {
    let mut text = why.to_string();
    let mut cause = why.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

/// The error of an object of another length.
pub(crate) fn wrong_len(cid: &Cid, max: usize, got: u64) -> Error {
    let (expected, got) = (format!("at most {max} bytes"), format!("{got} bytes"));
    Corrupt::new("object", format!("the object {cid}"), expected, got).into()
}

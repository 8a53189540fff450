//! Namespaces of values by key, which outlive a run: what `wasi:keyvalue` works on.
//!
//! `HOME/kv/NAME.redb` is one database. One run at a time has it; every change is durable before the guest
//! hears of it. Before a value stand the first bytes of the BLAKE3 of its key and itself: what rotted is an error, and
//! no answer. A database of before has values without that, which get it when it is opened.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote};
use vac_host::KeyValue;

use crate::home::Home;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("checked values");
/// Values without a checksum.
const OLD_TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
const SUM_BYTES: usize = 16;
/// The folder of all namespaces in a home.
const DIR: &str = "kv";
/// The longest name.
const NAME_MAX_BYTES: usize = 64;

/// Checks the name of a namespace, which becomes the name of a file.
pub fn check_name(name: &str) -> Result<()> {
    let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(is_good) {
        return Err(Usage::new(format!("`{}` is no name of a namespace", quote(name)))
            .hint(format!("expected at most {NAME_MAX_BYTES} of a-z, 0-9, `-` and `_`"))
            .into());
    }
    Ok(())
}

/// A namespace that is open.
pub struct Namespace {
    database: Database,
}

impl Namespace {
    /// Opens the namespace `name` of `home`, creating it if it is not there.
    pub fn open(home: &Home, name: &str) -> Result<Self> {
        check_name(name)?;
        let failed = |path: &Path, e: &io::Error| HostAbort::io("open the namespace", path.display(), e);
        home.storage().create_dir(DIR).map_err(|e| failed(&home.path().join(DIR), &e))?;
        let path = home.path().join(DIR).join(format!("{name}.redb"));
        match Database::create(&path) {
            Ok(database) => {
                // The library syncs its file, and not the folder that says where it is.
                home.storage().sync_dir(DIR).map_err(|e| failed(&path, &e))?;
                add_checksums(&database).map_err(|e| failed(&path, &e))?;
                Ok(Self { database })
            }
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                let message = format!("another run has the namespace `{name}`");
                Err(HostAbort::new(AbortKind::Busy, message).into())
            }
            Err(e) => Err(failed(&path, &other(e)).into()),
        }
    }
}

/// Namespaces that one run has open, each once however often it is granted.
#[derive(Default)]
pub(crate) struct Namespaces(BTreeMap<String, Arc<Mutex<Namespace>>>);

impl Namespaces {
    /// The namespace `name` of `home`.
    pub(crate) fn open(&mut self, home: &Home, name: &str) -> Result<Box<dyn KeyValue>> {
        let namespace = match self.0.get(name) {
            Some(open) => Arc::clone(open),
            None => {
                let new = Arc::new(Mutex::new(Namespace::open(home, name)?));
                self.0.insert(name.to_owned(), Arc::clone(&new));
                new
            }
        };
        Ok(Box::new(Shared(namespace)))
    }
}

/// A namespace that others of the same run have too.
struct Shared(Arc<Mutex<Namespace>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Namespace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyValue for Shared {
    fn get(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.lock().get(key)
    }
    fn set(&mut self, key: &str, value: Option<&[u8]>) -> io::Result<()> {
        self.lock().set(key, value)
    }
    fn keys(&mut self, after: Option<&str>, max: usize) -> io::Result<Vec<String>> {
        self.lock().keys(after, max)
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Moves the values of an older database to where they have checksums, all or none.
fn add_checksums(database: &Database) -> io::Result<()> {
    let writing = database.begin_write().map_err(other)?;
    let is_old = writing.list_tables().map_err(other)?.any(|table| table.name() == OLD_TABLE.name());
    if !is_old {
        return writing.abort().map_err(other);
    }
    {
        let old = writing.open_table(OLD_TABLE).map_err(other)?;
        let mut table = writing.open_table(TABLE).map_err(other)?;
        for entry in old.iter().map_err(other)? {
            let (key, value) = entry.map_err(other)?;
            table.insert(key.value(), sealed(key.value(), value.value()).as_slice()).map_err(other)?;
        }
    }
    writing.delete_table(OLD_TABLE).map_err(other)?;
    writing.commit().map_err(other)
}

fn sum(key: &str, value: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key.as_bytes()).update(value);
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

fn sealed(key: &str, value: &[u8]) -> Vec<u8> {
    [&sum(key, value)[..], value].concat()
}

fn unsealed(key: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match bytes.split_first_chunk() {
        Some((head, value)) if *head == sum(key, value) => Ok(value.to_vec()),
        _ => {
            let message = format!("the value of `{}` is not what was written", quote(key));
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

impl KeyValue for Namespace {
    fn get(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let reading = self.database.begin_read().map_err(other)?;
        match reading.open_table(TABLE) {
            Ok(table) => {
                let found = table.get(key).map_err(other)?;
                found.map(|value| unsealed(key, value.value())).transpose()
            }
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(other(e)),
        }
    }

    fn set(&mut self, key: &str, value: Option<&[u8]>) -> io::Result<()> {
        let writing = self.database.begin_write().map_err(other)?;
        {
            let mut table = writing.open_table(TABLE).map_err(other)?;
            match value {
                Some(value) => drop(table.insert(key, sealed(key, value).as_slice()).map_err(other)?),
                None => drop(table.remove(key).map_err(other)?),
            }
        }
        writing.commit().map_err(other)
    }

    fn keys(&mut self, after: Option<&str>, max: usize) -> io::Result<Vec<String>> {
        let reading = self.database.begin_read().map_err(other)?;
        match reading.open_table(TABLE) {
            Ok(table) => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let keys = table.range::<&str>((from, Bound::Unbounded)).map_err(other)?.take(max);
                keys.map(|entry| Ok(entry.map_err(other)?.0.value().to_owned())).collect()
            }
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(e) => Err(other(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(home: &Home) {
        let mut namespace = Namespace::open(home, "n").unwrap();
        namespace.set("a", Some(b"the value of a")).unwrap();
        namespace.set("b", Some(b"")).unwrap();
    }

    #[test]
    fn values_of_an_older_database_get_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        home.storage().create_dir(DIR).unwrap();
        let database = Database::create(folder.path().join("kv/n.redb")).unwrap();
        let writing = database.begin_write().unwrap();
        writing.open_table(OLD_TABLE).unwrap().insert("a", b"old".as_slice()).unwrap();
        writing.commit().unwrap();
        drop(database);
        for _ in 0..2 {
            let mut namespace = Namespace::open(&home, "n").unwrap();
            assert_eq!(namespace.get("a").unwrap().as_deref(), Some(b"old".as_slice()));
            assert_eq!(namespace.keys(None, 9).unwrap(), ["a"]);
        }
    }

    /// Each byte of a value and of what stands before it, flipped.
    #[test]
    fn a_value_that_rotted_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        filled(&home);
        let path = folder.path().join("kv/n.redb");
        let whole = std::fs::read(&path).unwrap();
        let at = whole.windows(14).position(|part| part == b"the value of a").unwrap();
        for at in at - SUM_BYTES..at + 14 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, flipped).unwrap();
            let mut namespace = Namespace::open(&home, "n").unwrap();
            assert_eq!(namespace.get("a").unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {at}");
            assert_eq!(namespace.get("b").unwrap().as_deref(), Some(b"".as_slice()));
        }
    }
}

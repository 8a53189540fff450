//! Namespaces of values by key, which outlive a run: what `wasi:keyvalue` works on.
//!
//! `HOME/kv/NAME.redb` is one database. One run at a time has it; every change is durable before the guest
//! hears of it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};
use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote};
use vac_host::KeyValue;

use crate::home::Home;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
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

impl KeyValue for Namespace {
    fn get(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let reading = self.database.begin_read().map_err(other)?;
        match reading.open_table(TABLE) {
            Ok(table) => Ok(table.get(key).map_err(other)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(other(e)),
        }
    }

    fn set(&mut self, key: &str, value: Option<&[u8]>) -> io::Result<()> {
        let writing = self.database.begin_write().map_err(other)?;
        {
            let mut table = writing.open_table(TABLE).map_err(other)?;
            match value {
                Some(value) => drop(table.insert(key, value).map_err(other)?),
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

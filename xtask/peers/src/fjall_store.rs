//! fjall as a side of the store's benchmark. It keeps no hash of what it holds, so its side hashes.
//!
//! Objects come in a file, all of one length. They are kept under their BLAKE3.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{Result, number, text, timed};

/// Puts them into a database in `folder`, and makes every `group` of them durable.
pub(crate) fn put(folder: &str, objects: &str, len: &str, group: &str) -> Result<()> {
    let bytes = std::fs::read(objects).map_err(text)?;
    let objects: Vec<&[u8]> = bytes.chunks(number(len)?.max(1)).collect();
    let group = number(group)?.max(1);
    timed("put", || {
        let (database, keyspace) = open(folder)?;
        for group in objects.chunks(group) {
            for object in group {
                keyspace.insert(blake3::hash(object).as_bytes(), *object).map_err(text)?;
            }
            database.persist(PersistMode::SyncData).map_err(text)?;
        }
        Ok(())
    })
}

/// Asks for all, and hashes what it gets; in another order than they were put, by steps of a prime.
pub(crate) fn get(folder: &str, objects: &str, len: &str) -> Result<()> {
    let bytes = std::fs::read(objects).map_err(text)?;
    let names: Vec<blake3::Hash> = bytes.chunks(number(len)?.max(1)).map(blake3::hash).collect();
    timed("get", || {
        let (_database, keyspace) = open(folder)?;
        for at in 0..names.len() {
            let name = names.get(at * 7_919 % names.len()).ok_or("no such object")?;
            let found = keyspace.get(name.as_bytes()).map_err(text)?.ok_or("an object is gone")?;
            if blake3::hash(&found) != *name {
                return Err("an object has other bytes".to_owned());
            }
        }
        Ok(())
    })
}

fn open(folder: &str) -> Result<(Database, Keyspace)> {
    let database = Database::builder(Path::new(folder)).open().map_err(text)?;
    let objects = database.keyspace("objects", KeyspaceCreateOptions::default).map_err(text)?;
    Ok((database, objects))
}

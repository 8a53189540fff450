//! One side of `cargo xtask bench store`: `fjall-peer put|get FOLDER OBJECTS LEN GROUP` prints how many nanoseconds it took.
//!
//! OBJECTS is a file of objects of LEN bytes each. `put` keeps them in a database in FOLDER under their BLAKE3 and makes every
//! GROUP of them durable; `get` opens that database, asks for all, and hashes what it gets.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, folder, objects, len, group] = args.as_slice() else {
        return Err("expected `put|get FOLDER OBJECTS LEN GROUP`".into());
    };
    let bytes = std::fs::read(objects)?;
    let objects: Vec<&[u8]> = bytes.chunks(len.parse()?).collect();
    let names: Vec<blake3::Hash> = objects.iter().map(|object| blake3::hash(object)).collect();
    let group: usize = group.parse()?;
    let start = Instant::now();
    match what.as_str() {
        "put" => put(Path::new(folder), &objects, group)?,
        "get" => get(Path::new(folder), &names)?,
        other => return Err(format!("`{other}` is neither put nor get").into()),
    }
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}

fn open(folder: &Path) -> Result<(Database, Keyspace)> {
    let database = Database::builder(folder).open()?;
    let objects = database.keyspace("objects", KeyspaceCreateOptions::default)?;
    Ok((database, objects))
}

fn put(folder: &Path, objects: &[&[u8]], group: usize) -> Result<()> {
    let (database, keyspace) = open(folder)?;
    for group in objects.chunks(group.max(1)) {
        for object in group {
            keyspace.insert(blake3::hash(object).as_bytes(), *object)?;
        }
        database.persist(PersistMode::SyncData)?;
    }
    Ok(())
}

/// In another order than they were put: by steps of a prime.
fn get(folder: &Path, names: &[blake3::Hash]) -> Result<()> {
    let (_database, keyspace) = open(folder)?;
    for at in 0..names.len() {
        let name = names.get(at * 7_919 % names.len()).ok_or("no such object")?;
        let found = keyspace.get(name.as_bytes())?.ok_or("an object is gone")?;
        if blake3::hash(&found) != *name {
            return Err("an object has other bytes".into());
        }
    }
    Ok(())
}

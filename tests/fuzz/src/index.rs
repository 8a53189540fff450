//! Promises: the index of a pack is read from any bytes, what is given out is a gapless prefix of it, and
//! a store over a spoilt index or pack gives out the right bytes or none.
//!
//! An input is one byte, the index file, then, after the four bytes of `SPLIT`, the pack file. After an odd byte
//! the index is read as it is; after an even one its entries get correct checksums here, without which no
//! mutation would get further.

use std::sync::Arc;

use vac_core::cid::{Cid, Codec};
use vac_core::storage::{SimStorage, Storage};
use vac_core::store::{Store, parse_index};

/// Header of an index, and the length of each entry, in bytes.
const HEAD_LEN: usize = 16;
const ENTRY_LEN: usize = 48;
/// Stands between index and pack.
const SPLIT: &[u8; 4] = b"\n--\n";
/// The only pack.
const PACK: u32 = 1;

/// Reads `data` as the index and the pack of a store.
pub fn target(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let at = rest.windows(SPLIT.len()).position(|window| window == SPLIT);
    let (index, pack) = rest.split_at(at.unwrap_or(rest.len()));
    let pack = pack.get(SPLIT.len()..).unwrap_or_default();
    let index = if kind % 2 == 1 { index.to_vec() } else { sealed(index) };
    parse(&index, pack.len() as u64);
    read(&index, pack);
}

fn parse(index: &[u8], pack_len: u64) {
    let parsed = parse_index(index, PACK, pack_len);
    assert!(parsed.good_bytes <= index.len() as u64);
    let mut end = HEAD_LEN as u64;
    for entry in &parsed.entries {
        assert_eq!(u64::from(entry.start), end, "a gap");
        end = entry.end();
    }
    assert_eq!(parsed.end, end);
    assert!(parsed.entries.is_empty() || end <= pack_len, "an entry behind the end of the pack");
    assert!(parsed.entries.len() * ENTRY_LEN <= index.len());
}

fn read(index: &[u8], pack: &[u8]) {
    let storage = SimStorage::new(0);
    // A file without its folder is not listed, and a pack that is not listed is not read.
    storage.create_dir("store/packs").expect("a folder in memory");
    storage.plant(&path("idx"), index);
    storage.plant(&path("pack"), pack);
    let Ok(store) = Store::open_read_only(Arc::new(storage), "store") else { return };
    for (cid, _) in store.list().unwrap_or_default() {
        if let Ok(Some(bytes)) = store.get(&cid) {
            assert_eq!(Cid::of(cid.codec(), &bytes), cid, "bytes that are not what was asked for");
        }
    }
}

fn path(suffix: &str) -> String {
    format!("store/packs/{PACK:08}.{suffix}")
}

/// The header and each entry of `index` with a correct checksum in its last four bytes: CRC-32 of what is
/// before, and of the pack's number and a place, which is 0 here.
fn sealed(index: &[u8]) -> Vec<u8> {
    let mut index = index.to_vec();
    let head = index.len().min(HEAD_LEN);
    let (head, entries) = index.split_at_mut(head);
    seal(head);
    entries.chunks_mut(ENTRY_LEN).for_each(seal);
    index
}

fn seal(part: &mut [u8]) {
    let Some((body, sum)) = part.split_last_chunk_mut::<4>() else { return };
    let mut crc = crc32fast::Hasher::new();
    crc.update(body);
    crc.update(&u64::from(PACK).to_le_bytes());
    *sum = crc.finalize().to_le_bytes();
}

/// Stores of three objects and of a page, as they are and compressed.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for compression in [None, Some(1)] {
        seeds.extend(seeds_of(compression, &[b"", b"object", &[7; 300]]));
        seeds.extend(seeds_of(compression, &[&[7; 16 << 10]]));
    }
    seeds
}

fn seeds_of(compression: Option<i32>, objects: &[&[u8]]) -> Vec<Vec<u8>> {
    let storage = SimStorage::new(0);
    let put = || -> vac_core::fault::Result<()> {
        let store = Store::open(Arc::new(storage.clone()), "store")?;
        store.set_compression(compression)?;
        for object in objects {
            store.put(Codec::Raw, object)?;
        }
        store.commit()
    };
    put().expect("a disk in memory takes a few objects");
    let (index, pack) = (storage.peek(&path("idx")), storage.peek(&path("pack")));
    let (index, pack) = (index.expect("the index of the first pack"), pack.expect("the first pack"));
    let input = |kind: u8| [&[kind], &index[..], SPLIT, &pack].concat();
    vec![input(0), input(1), [&[0], &index[..]].concat()]
}

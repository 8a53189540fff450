//! Promise: a decoder accepts only the bytes that encoding its value would give.

use vac_core::canon::{self, Decode, Encode, Node};
use vac_core::cid::Cid;
use vac_core::ledger::{Body, Class, Entry, Outcome};

/// Decodes `data` as each structure.
pub fn target(data: &[u8]) {
    holds::<Node>(data);
    holds::<Entry>(data);
    holds::<Body>(data);
    holds::<Outcome>(data);
    holds::<Cid>(data);
    holds::<Vec<u8>>(data);
    holds::<Vec<Vec<u64>>>(data);
    holds::<Option<String>>(data);
    holds::<Result<i64, bool>>(data);
    holds::<(Class, u32, [u8; 32])>(data);
}

fn holds<T: Decode + Encode>(data: &[u8]) {
    if let Ok(value) = canon::decode::<T>(data, "data") {
        assert_eq!(canon::encode(&value), data, "accepted, but not the canonical form");
    }
}

/// Every kind of entry and node.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = crate::ledger::entries().iter().map(canon::encode).collect();
    seeds.push(canon::encode(&Cid::of_raw(b"seed")));
    seeds.push(canon::encode(&vec![vec![0u64, 23, 24], vec![255, 256, 65_535, 65_536, u64::MAX]]));
    seeds.push(canon::encode(&Some("text")));
    seeds.push(canon::encode::<Result<i64, bool>>(&Ok(i64::MIN)));
    seeds.push(canon::encode(&(Class::Effect, 7u32, [9u8; 32])));
    seeds
}

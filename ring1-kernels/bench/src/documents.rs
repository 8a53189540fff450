//! Hashing and parsing: work as programs really do it.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Records in the generated document: about 64 KiB.
const RECORDS: u32 = 700;

/// SHA-256 of `len` bytes 0, 1, ..., 255, 0, 1, ...; each further round writes the digest over the
/// first bytes and hashes again. No rounds, no digest: the result is empty.
pub fn sha256(len: usize, rounds: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let mut digest = Vec::new();
    for _ in 0..rounds {
        digest = Sha256::digest(&bytes).to_vec();
        bytes.iter_mut().zip(&digest).for_each(|(byte, new)| *byte = *new);
    }
    digest
}

/// Parses the document `rounds` times and adds up every integer in it.
pub fn json(rounds: u32) -> u64 {
    let text = document();
    (0..rounds).fold(0, |sum: u64, _| {
        let value: Value = serde_json::from_str(std::hint::black_box(&text)).expect("the document is JSON");
        sum.wrapping_add(total(&value))
    })
}

fn document() -> String {
    let record = |i: u32| {
        let (x, y) = (i.wrapping_mul(2_654_435_761) % 1000, i.wrapping_mul(40_503) % 1000);
        format!(
            r#"{{"id":{i},"name":"station \u00e9 {i}","tags":["a","b\n"],"at":[{x},{y}],"ok":true,"note":null}}"#
        )
    };
    let records: Vec<String> = (0..RECORDS).map(record).collect();
    format!(r#"{{"records":[{}]}}"#, records.join(","))
}

fn total(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::Array(items) => items.iter().map(total).sum(),
        Value::Object(fields) => fields.values().map(total).sum(),
        Value::Null | Value::Bool(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn digests_are_sha_256() {
        // FIPS 180-4 for the empty message; `sha256sum` of the 256 bytes 00 to ff.
        assert_eq!(hex(&sha256(0, 1)), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&sha256(256, 1)), "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880");
        assert_ne!(sha256(256, 2), sha256(256, 1));
        assert!(sha256(256, 0).is_empty());
    }

    #[test]
    fn every_round_parses_the_whole_document() {
        let by_hand: u64 = (0..RECORDS)
            .map(|i| i + i.wrapping_mul(2_654_435_761) % 1000 + i.wrapping_mul(40_503) % 1000)
            .map(u64::from)
            .sum();
        assert_eq!([0, 1, 3].map(json), [0, by_hand, 3 * by_hand]);
        assert!((50_000..80_000).contains(&document().len()));
    }
}

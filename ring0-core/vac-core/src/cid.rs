//! The name of some bytes: a CIDv1 over BLAKE3-256.
//!
//! Binary form, 36 bytes: `01 | codec | 1e | 20 | digest[32]` (every varint here is one byte).
//! Text form: `b` and base32 lower case without padding (RFC 4648), 59 characters.
//! No other version, hash, codec or base is accepted, so a CID has exactly one spelling.

use std::fmt;
use std::str::FromStr;

use crate::fault::{Corrupt, quote};

/// Multihash code of BLAKE3.
const BLAKE3: u8 = 0x1e;
/// Length of a digest in bytes.
pub const DIGEST_LEN: usize = 32;
/// Length of the binary form in bytes.
pub const CID_LEN: usize = 4 + DIGEST_LEN;

/// What the bytes behind a CID are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Any bytes.
    Raw = 0x55,
    /// A structure in canonical form; its links can be followed.
    DagCbor = 0x71,
}

impl Codec {
    fn try_from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x55 => Some(Self::Raw),
            0x71 => Some(Self::DagCbor),
            _ => None,
        }
    }
}

/// The name of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    codec: Codec,
    digest: [u8; DIGEST_LEN],
}

impl Cid {
    /// The CID of `bytes` as they are.
    pub fn of_raw(bytes: &[u8]) -> Self {
        Self::of(Codec::Raw, bytes)
    }

    /// The CID of `bytes` under `codec`. The bytes are not looked at, only hashed.
    pub fn of(codec: Codec, bytes: &[u8]) -> Self {
        Self::new(codec, *blake3::hash(bytes).as_bytes())
    }

    /// A CID from a digest that was computed elsewhere.
    pub const fn new(codec: Codec, digest: [u8; DIGEST_LEN]) -> Self {
        Self { codec, digest }
    }

    /// What the bytes are.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// BLAKE3-256 of the bytes.
    pub const fn digest(&self) -> &[u8; DIGEST_LEN] {
        &self.digest
    }

    /// The binary form.
    pub fn to_bytes(self) -> [u8; CID_LEN] {
        let mut out = [0; CID_LEN];
        out[..4].copy_from_slice(&[1, self.codec as u8, BLAKE3, DIGEST_LEN as u8]);
        out[4..].copy_from_slice(&self.digest);
        out
    }

    /// Reads the binary form. `None` unless it is exactly that.
    pub fn try_from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, digest) = bytes.split_at_checked(4)?;
        let &[1, codec, BLAKE3, len] = head else { return None };
        if usize::from(len) != DIGEST_LEN {
            return None;
        }
        Some(Self { codec: Codec::try_from_byte(codec)?, digest: digest.try_into().ok()? })
    }

    /// The last twelve characters of the text form: enough to tell objects apart in a table.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 12..].to_owned()
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The binary form is always a valid CID, so the library's reader cannot fail on it.
        match cid::Cid::try_from(&self.to_bytes()[..]) {
            Ok(cid) => f.pad(&cid.to_string()),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cid {
    type Err = Corrupt;

    fn from_str(text: &str) -> Result<Self, Corrupt> {
        let bad = |got: &str| {
            Corrupt::new(
                "CID",
                format!("`{}`", quote(text)),
                "base32 CIDv1 with BLAKE3-256, raw or dag-cbor",
                got,
            )
        };
        let parsed = cid::Cid::try_from(text).map_err(|e| bad(&e.to_string()))?;
        let cid = Self::try_from_bytes(&parsed.to_bytes()).ok_or_else(|| bad("another kind of CID"))?;
        if cid.to_string() != text {
            return Err(bad("another spelling"));
        }
        Ok(cid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAKE3 of the empty input, from the BLAKE3 paper's test vectors.
    const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn empty_input_has_the_published_digest() {
        let hex: String = Cid::of_raw(b"").digest().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, EMPTY);
    }

    #[test]
    fn text_and_binary_forms_round_trip() {
        for codec in [Codec::Raw, Codec::DagCbor] {
            let cid = Cid::of(codec, b"x");
            assert_eq!(cid.to_string().parse(), Ok(cid));
            assert_eq!(cid.to_string().len(), 59);
            assert_eq!(Cid::try_from_bytes(&cid.to_bytes()), Some(cid));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let text = Cid::of_raw(b"x").to_string();
        assert!(text.to_uppercase().parse::<Cid>().is_err());
        assert!("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG".parse::<Cid>().is_err());
        assert!(format!("{text}a").parse::<Cid>().is_err());
        assert!("".parse::<Cid>().is_err());
        assert_eq!(Cid::try_from_bytes(&[0; CID_LEN]), None);
        assert_eq!(Cid::try_from_bytes(&Cid::of_raw(b"x").to_bytes()[..35]), None);
    }
}

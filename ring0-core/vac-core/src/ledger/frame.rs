//! Segment headers, and frames: how entries lie in a segment of version 1, and in a close record. Drawn in
//! `docs/formats.md`.

use super::{Entry, RunId};
use crate::canon::{self, Encode, Writer};
use crate::fault::Corrupt;
use crate::limits::FRAME_PAYLOAD_MAX_BYTES;

/// Before the version.
const MAGIC: [u8; 7] = *b"VACLEDG";
/// Bytes before the payload: length and checksum.
pub(super) const FRAME_HEAD_LEN: usize = 8;

/// How entries lie in a segment: its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Each in a frame. No longer written.
    Frames = 1,
    /// In blocks, which may be compressed. No longer written.
    Blocks = 2,
    /// In blocks, which may be compressed, and in columns.
    Columns = 3,
}

impl Layout {
    /// Every layout, in the order of their versions.
    pub const ALL: [Self; 3] = [Self::Frames, Self::Blocks, Self::Columns];
}

/// The first bytes of a segment: which run it belongs to, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The run.
    pub run: RunId,
    /// Number of the segment in the run, from 0.
    pub number: u32,
}

impl Segment {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Magic and version, run, number, checksum of what is before.
    pub fn to_bytes(self, layout: Layout) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..7].copy_from_slice(&MAGIC);
        out[7] = layout as u8;
        out[8..24].copy_from_slice(self.run.as_str().as_bytes());
        out[24..28].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32fast::hash(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Checks the first bytes of the segment at `place`.
    pub fn check(self, bytes: &[u8], place: &str) -> Result<Layout, Corrupt> {
        let version = bytes.get(7).copied();
        let known = Layout::ALL.into_iter().find(|layout| version == Some(*layout as u8));
        let layout = known.unwrap_or(Layout::Columns);
        let expected = self.to_bytes(layout);
        match bytes.get(..Self::LEN) {
            Some(got) if got == expected => Ok(layout),
            Some(got) => {
                let at = got.iter().zip(expected).position(|(a, b)| *a != b).unwrap_or_default();
                Err(Corrupt::new(
                    "ledger segment header",
                    format!("{place} at byte {at}"),
                    format!("{:#04x}", expected.get(at).copied().unwrap_or_default()),
                    format!("{:#04x}", got.get(at).copied().unwrap_or_default()),
                ))
            }
            None => Err(Corrupt::new(
                "ledger segment header",
                place,
                format!("{} bytes", Self::LEN),
                format!("{} bytes", bytes.len()),
            )),
        }
    }
}

/// Appends the frame of `value` to `out`; returns its payload.
pub(super) fn push_frame<'o>(out: &'o mut Vec<u8>, value: &impl Encode) -> &'o [u8] {
    let at = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_LEN]);
    let mut writer = Writer::from(std::mem::take(out));
    value.encode(&mut writer);
    *out = writer.into_bytes();
    let (head, payload) = out[at..].split_at_mut(FRAME_HEAD_LEN);
    debug_assert!(payload.len() <= FRAME_PAYLOAD_MAX_BYTES);
    let len = (payload.len() as u32).to_le_bytes();
    head[..4].copy_from_slice(&len);
    head[4..].copy_from_slice(&checksum(len, payload).to_le_bytes());
    payload
}

/// CRC-32 (IEEE) over the length's four bytes and the payload, so that a run of zeros is no frame.
fn checksum(len: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len);
    crc.update(payload);
    crc.finalize()
}

/// Appends `value` to the entries of a group: its length (u32) and its payload. Returns the payload.
pub(super) fn push_entry<'o>(out: &'o mut Vec<u8>, value: &impl Encode) -> &'o [u8] {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut writer = Writer::from(std::mem::take(out));
    value.encode(&mut writer);
    *out = writer.into_bytes();
    let (head, payload) = out[at..].split_at_mut(4);
    debug_assert!(payload.len() <= FRAME_PAYLOAD_MAX_BYTES);
    head.copy_from_slice(&(payload.len() as u32).to_le_bytes());
    payload
}

/// Reads frames from the bytes of a segment, one after the other.
#[derive(Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    place: &'a str,
}

impl<'a> Frames<'a> {
    /// The frames of `bytes` from `at` on.
    pub fn new(bytes: &'a [u8], at: usize, place: &'a str) -> Self {
        Self { bytes, at, place }
    }

    /// Offset of the next frame.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next payload and entry, or `None` at the end. After an error, `at` is where the bad
    /// frame begins, and the call can be repeated.
    pub fn next_entry(&mut self) -> Result<Option<(&'a [u8], Entry)>, Corrupt> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let payload = self.payload()?;
        let place = format!("{} frame at byte {}", self.place, self.at);
        let entry = canon::decode::<Entry>(payload, &place)?;
        self.at += FRAME_HEAD_LEN + payload.len();
        Ok(Some((payload, entry)))
    }

    /// The next payload, which stays the next.
    pub(super) fn payload(&self) -> Result<&'a [u8], Corrupt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let wrong = |what, expected: String, got: String| {
            Corrupt::new(what, format!("{} at byte {}", self.place, self.at), expected, got)
        };
        let short = || wrong("frame", "a whole frame".into(), format!("{} bytes", rest.len()));
        let (head, body) = rest.split_at_checked(FRAME_HEAD_LEN).ok_or_else(short)?;
        let &[l0, l1, l2, l3, c0, c1, c2, c3] = head else { return Err(short()) };
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > FRAME_PAYLOAD_MAX_BYTES {
            let limit = format!("at most {FRAME_PAYLOAD_MAX_BYTES} bytes");
            return Err(wrong("frame length", limit, format!("{len} bytes")));
        }
        let payload = body.get(..len).ok_or_else(short)?;
        let expected = u32::from_le_bytes([c0, c1, c2, c3]);
        let got = checksum([l0, l1, l2, l3], payload);
        if expected != got {
            return Err(wrong("frame checksum", format!("{expected:#010x}"), format!("{got:#010x}")));
        }
        Ok(payload)
    }
}

//! Promises: the reader of frames and the reader of a run take any bytes, say what is wrong or give
//! entries whose canonical form is what they read, and end.
//!
//! The first byte of an input says what the rest is, by what is left of it divided by three: 1, the frames or blocks
//! of a segment as they are; 2, the columns of a block; 0, payloads that get correct checksums here, without which no
//! mutation would get further, in frames and in a block:
//!
//! ```text
//!   length: u16 LE | payload | length | payload | ...
//! ```

use std::sync::Arc;

use vac_core::canon::{self, Node};
use vac_core::cid::Cid;
use vac_core::fault::AbortKind;
use vac_core::ledger::{
    Body, Call, Class, Entry, Frames, Header, Layout, Ledger, Outcome, RUNS_DIR, Reader, Return, RunId,
    Segment,
};
use vac_core::storage::SimStorage;

/// More entries than an input has bytes for.
const ENTRIES_MAX: usize = 1 << 20;

/// Room for the entries of columns.
const COLUMNS_MAX_BYTES: usize = 1 << 16;

/// Reads `data` as a segment.
pub fn target(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let (frames, blocks) = match kind % 3 {
        1 => (rest.to_vec(), rest.to_vec()),
        2 => return read_run(Layout::Columns, &columns(rest)),
        _ => (framed(rest), block(rest)),
    };
    read_frames(&frames);
    read_run(Layout::Frames, &frames);
    read_run(Layout::Blocks, &blocks);
}

fn read_frames(bytes: &[u8]) {
    let mut frames = Frames::new(bytes, 0, "data");
    loop {
        let before = frames.at();
        match frames.next_entry() {
            Ok(Some((payload, entry))) => {
                assert_eq!(canon::encode(&entry), payload, "accepted, but not the canonical form");
                assert!(frames.at() > before, "no progress");
            }
            Ok(None) => return,
            Err(_) => {
                assert_eq!(frames.at(), before, "a bad frame was stepped over");
                return;
            }
        }
    }
}

fn read_run(layout: Layout, frames: &[u8]) {
    let storage = SimStorage::new(0);
    let segment = [&Segment { run: run(), number: 0 }.to_bytes(layout), frames].concat();
    storage.plant(&format!("{RUNS_DIR}/{}.0000", run()), &segment);
    let Ok(mut reader) = Reader::open(Arc::new(storage), run()) else { return };
    for _ in 0..ENTRIES_MAX {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => return assert!(reader.tail().is_some(), "ended without an end"),
            Err(_) => return,
        }
    }
    panic!("more than {ENTRIES_MAX} entries in {} bytes", frames.len());
}

fn run() -> RunId {
    RunId::new(1_700_000_000_000, 0x5eed_5eed)
}

/// The payloads of `rest` as frames: length, CRC-32 of length and payload, payload.
fn framed(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(after.len());
        let (payload, after) = after.split_at(len);
        push_frame(&mut out, payload);
        rest = after;
    }
    out
}

/// The payloads of `rest` in one block that is not compressed.
fn block(mut rest: &[u8]) -> Vec<u8> {
    let mut entries = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(after.len());
        let (payload, after) = after.split_at(len);
        entries.extend(u32::try_from(len).unwrap_or_default().to_le_bytes());
        entries.extend(payload);
        rest = after;
    }
    pack(0, entries.len(), &entries)
}

/// A block of columns, in a zstd frame (RFC 8878) that says its length and has one block that is not compressed.
fn columns(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap_or_default() & 0xffff;
    let bytes = bytes.get(..len as usize).unwrap_or_default();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(len.to_le_bytes());
    frame.extend((len << 3 | 1).to_le_bytes().iter().take(3));
    frame.extend(bytes);
    pack(2, COLUMNS_MAX_BYTES, &frame)
}

/// A block with the right checksums around what is in it.
fn pack(method: u8, unpacked_len: usize, packed: &[u8]) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).unwrap_or_default().to_le_bytes();
    let mut head = vec![0xb1, 0x0c, 0xd7, method];
    [word(packed.len()), word(unpacked_len), word(0)].iter().for_each(|word| head.extend(word));
    head.extend(crc32fast::hash(packed).to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());
    [&head, packed].concat()
}

fn push_frame(out: &mut Vec<u8>, payload: &[u8]) {
    let len = u32::try_from(payload.len()).unwrap_or_default().to_le_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len);
    crc.update(payload);
    out.extend(len);
    out.extend(crc.finalize().to_le_bytes());
    out.extend(payload);
}

/// A run in both forms, and one that was cut off.
pub fn seeds() -> Vec<Vec<u8>> {
    let payloads: Vec<Vec<u8>> = entries().iter().map(canon::encode).collect();
    let (mut raw, mut loose) = (vec![1], vec![0]);
    for payload in &payloads {
        push_frame(&mut raw, payload);
        loose.extend(u16::try_from(payload.len()).unwrap_or_default().to_le_bytes());
        loose.extend(payload);
    }
    let cut = loose[..loose.len() / 2].to_vec();
    let blocks = [&[1], &block(&loose[1..])[..]].concat();
    // Shapes, the end of them, whose entries they are, strings, columns: `[1, number, text]` and `[0, inner]`, twice.
    let columns = b"\x02\x06\0\x83\0\x01\x01\x04\x08\0\x82\0\0\x05\x03\x01\x06\0\
        \x04\0\x01\0\x01\x06abcdef\x02\x02\x02\x02\x04\0\x02\x02\0\x02\x02\x02";
    vec![raw, loose, cut, blocks, columns.to_vec()]
}

/// One whole run that has every kind of entry, body and outcome.
pub(crate) fn entries() -> Vec<Entry> {
    let text = |text: &str| Node::Text(text.to_owned());
    let header = Header::new(vec![
        ("what".to_owned(), text("call")),
        ("seed".to_owned(), Node::Int(-1)),
        ("target".to_owned(), Node::Link(Cid::of_raw(b"program"))),
        ("grants".to_owned(), Node::List(vec![Node::Null, Node::Bytes(vec![0; 3])])),
    ]);
    let call = |seq, parent, class, request| Call { seq, parent, name: 0, class, tick: 1 << seq, request };
    let stored = Body::Stored { cid: Cid::of_raw(&[1; 65]), len_bytes: 65 };
    let done = Return { answer: Ok(stored.clone()), grant: Some(2), denied: None };
    let denied =
        Return { answer: Ok(Body::digest(&[1])), grant: None, denied: Some("dir:ro=data".to_owned()) };
    let stopped = |outcome| Return { answer: Err(outcome), grant: None, denied: None };
    let abort = Outcome::Abort { kind: AbortKind::Quota, message: "too much".to_owned() };
    let fault = Outcome::Fault { kind: "trap".to_owned(), message: "unreachable".to_owned() };
    let mut entries = vec![
        Entry::Header(header.clone()),
        Entry::Note(vec![("started_unix_ms".to_owned(), Node::Int(1))]),
        Entry::Name(0, "wasi:io/streams#[method]output-stream.write".to_owned()),
        Entry::Begin(call(0, None, Class::Kernel, stored)),
        Entry::Event(call(1, Some(0), Class::Read, Body::digest(&[2; 65])), done.clone()),
        Entry::Event(call(2, Some(0), Class::Computed, Body::digest(&[3; 64])), denied),
        Entry::Event(call(3, Some(0), Class::Local, Body::digest(&[])), stopped(fault)),
        Entry::Begin(call(4, Some(0), Class::Effect, Body::digest(&[4]))),
        Entry::End(4, done),
        Entry::End(0, stopped(abort)),
    ];
    let mut ledger = Ledger::in_memory(header.clone());
    entries.iter().skip(1).for_each(|entry| ledger.append(entry));
    entries.push(Entry::Mark { entries: ledger.entries(), head: ledger.head(), durable_bytes: 32 });
    entries.push(Entry::Close { outcome: Outcome::Exit(3), ticks: u64::MAX, events: 5 });
    entries
}

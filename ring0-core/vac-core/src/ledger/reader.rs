//! Reading a ledger, of this version or those before: every checksum, every entry's form, the chain, and the order of
//! events are checked on the way. Reading changes nothing.

use std::io::ErrorKind;
use std::sync::Arc;

use super::block::{self, Bad, Unpacker};
use super::frame::{FRAME_HEAD_LEN, Frames};
use super::{
    Body, Chain, Entry, Head, Layout, Ledger, RUNS_DIR, RunId, Segment, Seq, close_path, segment_path,
};
use crate::canon;
use crate::fault::{Corrupt, Error, HostAbort, Result, Usage};
use crate::limits::{EVENT_OPEN_MAX, SEGMENT_READ_MAX_BYTES};
use crate::storage::{LockMode, OpenMode, Storage, read_file};

/// No mark has a longer payload; it bounds the search for one behind a bad frame.
const MARK_MAX_BYTES: u32 = 64;

/// How the record of a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With its outcome.
    Closed,
    /// Without one: the process was killed or is still running. Every group that was
    /// acknowledged is there; `dropped_bytes` after it were being written.
    Open {
        /// Bytes after the last whole frame.
        dropped_bytes: u64,
    },
}

/// Reads the entries of one run, in order.
pub struct Reader {
    storage: Arc<dyn Storage>,
    run: RunId,
    number: u32,
    /// Where the segment is, for errors.
    place: Arc<str>,
    bytes: Vec<u8>,
    at: usize,
    layout: Layout,
    unpacker: Unpacker,
    /// Length of the entry that was read last.
    entry_bytes: usize,
    chain: Chain,
    names: u32,
    events: u64,
    open: Vec<Seq>,
    /// Whether the last chained entry was read; only marks and notes may follow.
    is_closed: bool,
    tail: Option<Tail>,
    closed: Option<(Head, u64)>,
}

impl Reader {
    /// Opens the ledger of `run`.
    pub fn open(storage: Arc<dyn Storage>, run: RunId) -> Result<Self> {
        let closed = close_record(&*storage, run)?;
        let unpacker = Unpacker::new().map_err(|e| HostAbort::io("unpack", storage.show(RUNS_DIR), &e))?;
        let mut reader = Self {
            storage,
            run,
            number: 0,
            place: Arc::default(),
            bytes: Vec::new(),
            at: 0,
            layout: Layout::Columns,
            unpacker,
            entry_bytes: 0,
            chain: Chain::new(),
            names: 0,
            events: 0,
            open: Vec::new(),
            is_closed: false,
            tail: None,
            closed,
        };
        if !reader.load_segment(0)? {
            let hint = "`vac runs` lists the runs of this home";
            return Err(Usage::new(format!("there is no run `{run}`")).hint(hint).into());
        }
        Ok(reader)
    }

    /// The head after the entries read so far.
    pub fn head(&self) -> Head {
        self.chain.head()
    }

    /// Chained entries read so far.
    pub fn entries(&self) -> u64 {
        self.chain.entries
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// How the record ends; known once [`Reader::next`] has returned `None`.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// Length in bytes of the entry that was read last.
    pub fn entry_bytes(&self) -> usize {
        self.entry_bytes
    }

    /// A ledger in memory that goes on behind the entries read so far, for who compares them with others.
    pub fn ledger(&self) -> Ledger {
        Ledger::after(self.chain.clone())
    }

    fn load_segment(&mut self, number: u32) -> Result<bool> {
        let path = segment_path(self.run, number);
        match read_file(&*self.storage, &path, SEGMENT_READ_MAX_BYTES) {
            Ok(bytes) => {
                (self.number, self.bytes, self.at) = (number, bytes, Segment::LEN);
                self.place = self.storage.show(&path).into();
                match (Segment { run: self.run, number }).check(&self.bytes, &self.place) {
                    // The process died before its first group was durable.
                    Err(_) if self.closed.is_none() && self.was_never_committed() => {
                        self.at = self.bytes.len();
                        Ok(true)
                    }
                    checked => {
                        self.layout = checked?;
                        Ok(true)
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(HostAbort::io("read", self.storage.show(&path), &e).into()),
        }
    }

    /// Whether the segment is what a process leaves that was killed before its first commit.
    fn was_never_committed(&self) -> bool {
        self.bytes.len() < Segment::LEN || self.bytes.iter().all(|b| *b == 0)
    }

    /// The next entry, or `None` at the end, when [`Reader::tail`] says which end it was.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would hide that the first error is final"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        while self.tail.is_none() {
            let place = Arc::clone(&self.place);
            return match self.step(&place) {
                Ok(Some(entry)) => {
                    self.check(&entry).map_err(|e| at_entry(e, &place, self.entries()))?;
                    Ok(Some(entry))
                }
                Ok(None) if self.load_segment(self.number + 1)? => continue,
                Ok(None) => self.end(0),
                Err(Bad::Wrong(corrupt)) => Err(corrupt.into()),
                Err(Bad::Torn(corrupt)) => self.end_at_bad_frame(corrupt),
            };
        }
        Ok(None)
    }

    /// The next entry of the segment, which is in the chain then.
    fn step(&mut self, place: &str) -> std::result::Result<Option<Entry>, Bad> {
        let (chain, entry_bytes) = (&mut self.chain, &mut self.entry_bytes);
        let mut add = |payload: &[u8], entry: &Entry| {
            *entry_bytes = payload.len();
            if entry.is_chained() {
                chain.add(payload);
            }
        };
        match self.layout {
            Layout::Frames => {
                let mut frames = Frames::new(&self.bytes, self.at, place);
                let step = frames.next_entry().map_err(Bad::Torn)?;
                self.at = frames.at();
                Ok(step.map(|(payload, entry)| {
                    add(payload, &entry);
                    entry
                }))
            }
            Layout::Blocks | Layout::Columns => {
                if self.unpacker.is_at_end() {
                    if self.at >= self.bytes.len() {
                        return Ok(None);
                    }
                    self.at = self.unpacker.load(&self.bytes, self.at, place)?;
                }
                let payload = self.unpacker.payload(place).map_err(Bad::Wrong)?;
                let entry = canon::decode::<Entry>(payload, place).map_err(Bad::Wrong)?;
                add(payload, &entry);
                Ok(Some(entry))
            }
        }
    }

    /// A frame or block that fails is the torn end of the last group, unless something says that what it
    /// is in was durable: a later mark or block, a close record, or another segment.
    fn end_at_bad_frame(&mut self, corrupt: Corrupt) -> Result<Option<Entry>> {
        let path = segment_path(self.run, self.number + 1);
        let has_next = self.storage.open(&path, OpenMode::Read).is_ok();
        if self.closed.is_some() || has_next || self.is_marked_durable() {
            return Err(corrupt.into());
        }
        self.end(self.bytes.len().saturating_sub(self.at) as u64)
    }

    /// Whether a later frame is a mark, or the head of a later block, that says that bytes from here on were
    /// durable.
    fn is_marked_durable(&self) -> bool {
        if self.layout != Layout::Frames {
            return block::is_durable_after(&self.bytes, self.at);
        }
        let place = Arc::clone(&self.place);
        let is_short = |at: &usize| match self.bytes.get(*at..*at + 4) {
            Some(len) => len.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)) <= MARK_MAX_BYTES,
            None => false,
        };
        (self.at + 1..self.bytes.len()).filter(is_short).any(|at| {
            let entry = Frames::new(&self.bytes, at, &place).next_entry();
            matches!(entry, Ok(Some((_, Entry::Mark { durable_bytes, .. }))) if durable_bytes > self.at as u64)
        })
    }

    fn end(&mut self, dropped_bytes: u64) -> Result<Option<Entry>> {
        if self.is_closed {
            self.tail = Some(Tail::Closed);
            return Ok(None);
        }
        if let Some((head, entries)) = self.closed {
            return Err(Corrupt::new(
                "ledger",
                &*self.place,
                format!("{entries} entries and the head {head}"),
                format!("{} entries and no outcome", self.entries()),
            )
            .into());
        }
        self.tail = Some(Tail::Open { dropped_bytes });
        Ok(None)
    }

    /// The rules that hold between entries.
    fn check(&mut self, entry: &Entry) -> std::result::Result<(), (String, String)> {
        let differs = |expected: String, got: String| Err((expected, got));
        if (self.entries() == 1) != matches!(entry, Entry::Header(_)) && entry.is_chained() {
            return differs("one header, first".into(), format!("entry {}", self.entries() - 1));
        }
        if self.is_closed && entry.is_chained() {
            return differs("nothing after the outcome".into(), "another entry".into());
        }
        match entry {
            Entry::Name(id, _) if *id != self.names => {
                differs(format!("name {}", self.names), format!("name {id}"))
            }
            Entry::Name(..) => {
                self.names += 1;
                Ok(())
            }
            Entry::Event(call, _) => self.check_call(call.seq, call.parent, call.name),
            Entry::Begin(call) => {
                self.check_call(call.seq, call.parent, call.name)?;
                if self.open.len() == EVENT_OPEN_MAX {
                    return differs(format!("at most {EVENT_OPEN_MAX} open events"), "more".into());
                }
                self.open.push(call.seq);
                Ok(())
            }
            Entry::End(seq, _) => match self.open.pop() {
                Some(open) if open == *seq => Ok(()),
                Some(open) => differs(format!("the end of event {open}"), format!("the end of event {seq}")),
                None => differs("no open event".into(), format!("the end of event {seq}")),
            },
            Entry::Close { events, .. } => self.check_close(*events),
            Entry::Mark { entries, head, .. } if *entries != self.entries() || *head != self.head() => {
                differs(
                    format!("{} entries and the head {}", self.entries(), self.head()),
                    format!("a mark of {entries} entries and the head {head}"),
                )
            }
            Entry::Header(_) | Entry::Mark { .. } | Entry::Note(_) => Ok(()),
        }
    }

    fn check_call(
        &mut self,
        seq: Seq,
        parent: Option<Seq>,
        name: u32,
    ) -> std::result::Result<(), (String, String)> {
        if seq != self.events {
            return Err((format!("event {}", self.events), format!("event {seq}")));
        }
        if parent != self.open.last().copied() {
            return Err((format!("inside event {:?}", self.open.last()), format!("inside event {parent:?}")));
        }
        if name >= self.names {
            return Err((format!("one of {} names", self.names), format!("name {name}")));
        }
        self.events += 1;
        Ok(())
    }

    fn check_close(&mut self, events: u64) -> std::result::Result<(), (String, String)> {
        if events != self.events {
            return Err((format!("{} events", self.events), format!("{events} events")));
        }
        if let Some((head, entries)) = self.closed
            && (head, entries) != (self.head(), self.entries())
        {
            return Err((
                format!("the head {head} after {entries} entries, as its close record says"),
                format!("{} after {}", self.head(), self.entries()),
            ));
        }
        self.is_closed = true;
        Ok(())
    }
}

fn at_entry((expected, got): (String, String), place: &str, entry: u64) -> Error {
    Corrupt::new("ledger", format!("{place}, entry {}", entry.saturating_sub(1)), expected, got).into()
}

impl Body {
    /// The CID that the store must have for this body, if it must.
    pub fn stored(&self) -> Option<crate::cid::Cid> {
        match self {
            Self::Stored { cid, .. } => Some(*cid),
            Self::Inline(_) | Self::Digest { .. } => None,
        }
    }
}

/// The runs of a home, oldest first.
pub fn runs(storage: &dyn Storage) -> Result<Vec<RunId>> {
    let names = match storage.list(RUNS_DIR) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(HostAbort::io("list", storage.show(RUNS_DIR), &e).into()),
    };
    Ok(names.iter().filter_map(|name| name.strip_suffix(".0000")?.parse().ok()).collect())
}

/// The paths of the segments of `run`.
pub fn segments(storage: &dyn Storage, run: RunId) -> Vec<String> {
    let exists = |path: &String| storage.open(path, OpenMode::Read).is_ok();
    (0..).map(|n| segment_path(run, n)).take_while(exists).collect()
}

/// Whether a process is writing `run` now.
pub fn is_running(storage: &dyn Storage, run: RunId) -> Result<bool> {
    // To lock what is not there would make it.
    let Some(last) = segments(storage, run).pop() else { return Ok(false) };
    match storage.try_lock(&last, LockMode::Shared) {
        Ok(lock) => Ok(lock.is_none()),
        // Nobody writes where nobody can.
        Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
            Ok(false)
        }
        Err(e) => Err(HostAbort::io("lock", storage.show(&last), &e).into()),
    }
}

/// A head with its length, a number, and the list of both.
const CLOSE_MIN_BYTES: usize = 1 + 2 + 32 + 1;

/// The final head and number of entries of `run`, if its close record is there.
pub fn close_record(storage: &dyn Storage, run: RunId) -> Result<Option<(Head, u64)>> {
    let path = close_path(run);
    let bytes = match read_file(storage, &path, 4096) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(HostAbort::io("read", storage.show(&path), &e).into()),
    };
    let place = storage.show(&path);
    // Its write was not waited for, so a crash may leave it empty.
    if bytes.len() < FRAME_HEAD_LEN + CLOSE_MIN_BYTES || bytes.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    let payload = Frames::new(&bytes, 0, &place).payload()?;
    if bytes.len() != FRAME_HEAD_LEN + payload.len() {
        let expected = format!("{} bytes", FRAME_HEAD_LEN + payload.len());
        return Err(Corrupt::new("close record", place, expected, format!("{} bytes", bytes.len())).into());
    }
    let (head, entries) = canon::decode::<([u8; 32], u64)>(payload, &place)?;
    Ok(Some((Head::from_bytes(head), entries)))
}

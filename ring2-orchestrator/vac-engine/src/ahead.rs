//! Reads a record ahead of who follows it, on a thread beside the guest: unpacks, checks and decodes its entries, and
//! fetches the answers that stand in the store. Who follows it only looks at what is next.
//!
//! Invariants:
//! - What is given out are the entries of the reader, all that are chained, in their order; an error comes where the
//!   entry would be that it is about.
//! - Memory is bounded: [`BATCHES_MAX`] batches wait, each of [`BATCH_ENTRIES`] entries or [`BATCH_BYTES`] and the one that
//!   passed them.
//! - The head is that of the reader's chain: an entry's canonical form is unique, so the entries that were gone past
//!   give the same head again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use vac_core::fault::{AbortKind, HostAbort, Result};
use vac_core::ledger::{Body, Class, Entry, Head, Header, Ledger, Reader, Return, Tail};
use vac_core::store::Store;

use crate::header::check_grant;
use crate::journal::kept;

/// Entries that are read before a thread is started: most records have no more.
const FIRST_ENTRIES: usize = 64;
/// Entries of a batch: few enough to stay in a processor's own cache.
const BATCH_ENTRIES: usize = 256;
/// Bytes of entries and bodies after which a batch ends.
const BATCH_BYTES: usize = 256 << 10;
/// A longer body is fetched only when it is asked for.
const BODY_MAX_BYTES: u64 = 1 << 20;
/// Batches that wait for who follows.
const BATCHES_MAX: usize = 3;

/// An entry, and its answer if that is in the store and was fetched.
struct Read {
    entry: Entry,
    answer: Option<Vec<u8>>,
}

/// Some entries of a record.
struct Batch {
    reads: Vec<Read>,
    /// The chain before them.
    before: Ledger,
    /// What is behind them, if it is known that no more entries are.
    end: Option<Result<Option<Tail>>>,
}

/// A record that is being followed.
pub(crate) struct Ahead {
    batch: Batch,
    /// The next entry of the batch, and how many of them are in `batch.before`.
    at: usize,
    chained: usize,
    source: Source,
    tail: Option<Tail>,
}

/// Where the next batch is from.
enum Source {
    /// Who follows fills it.
    Own(Box<Filler>),
    Thread(Beside),
    Nothing,
}

/// The thread, and what it made. It ends with this.
struct Beside {
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Now what it makes has nowhere to go.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // What it could not say is that it panicked, and then there was no last batch.
            let _ = thread.join();
        }
    }
}

impl Ahead {
    /// Follows what `reader` reads. If a header is given, each entry must name a grant that it has.
    pub(crate) fn new(reader: Reader, store: Arc<Store>, header: Option<Header>) -> Result<Self> {
        let mut filler = Filler { reader, store, header, is_in_effect: false };
        let batch = filler.fill(FIRST_ENTRIES);
        let source = if batch.end.is_some() { Source::Nothing } else { Source::start(filler) };
        let mut ahead = Self { batch, at: 0, chained: 0, source, tail: None };
        ahead.arrive()?;
        Ok(ahead)
    }

    /// The next entry; `None` behind the last.
    pub(crate) fn next(&self) -> Option<&Entry> {
        self.batch.reads.get(self.at).map(|read| &read.entry)
    }

    /// The answer of the next entry, if it was fetched.
    pub(crate) fn take_answer(&mut self) -> Option<Vec<u8>> {
        self.batch.reads.get_mut(self.at)?.answer.take()
    }

    /// Goes past the next entry.
    pub(crate) fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.arrive()
    }

    /// How the record ends, once there is no next entry.
    pub(crate) fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// The head after the entries that were gone past, and their number with those before.
    pub(crate) fn head(&mut self) -> (Head, u64) {
        let Batch { reads, before, .. } = &mut self.batch;
        let passed = self.at.min(reads.len());
        for read in reads.get(self.chained..passed).unwrap_or_default() {
            before.append(&read.entry);
            before.discard_group();
        }
        self.chained = passed;
        (before.head(), before.entries())
    }

    /// Gets the next batch if this one is used up.
    fn arrive(&mut self) -> Result<()> {
        while self.at >= self.batch.reads.len() {
            match self.batch.end.take() {
                Some(Ok(tail)) => self.tail = tail,
                Some(Err(error)) => return Err(error),
                None => {}
            }
            let Some(batch) = self.source.batch()? else { return Ok(()) };
            (self.batch, self.at, self.chained) = (batch, 0, 0);
        }
        Ok(())
    }
}

impl Source {
    /// A thread, or if there can be none, who follows.
    fn start(filler: Filler) -> Self {
        let (batches, receiver) = sync_channel(BATCHES_MAX);
        // The filler goes to the thread only if there is one.
        let (give, take) = sync_channel::<Filler>(1);
        let work = move || {
            if let Ok(filler) = take.recv() {
                filler.work(&batches);
            }
        };
        match std::thread::Builder::new().name("reader".to_owned()).spawn(work) {
            Ok(thread) => match give.send(filler) {
                Ok(()) => Self::Thread(Beside { batches: Some(receiver), thread: Some(thread) }),
                Err(back) => Self::Own(Box::new(back.0)),
            },
            Err(_) => Self::Own(Box::new(filler)),
        }
    }

    /// The next batch; `None` behind the last, which has an end.
    fn batch(&mut self) -> Result<Option<Batch>> {
        let gone = |_| HostAbort::new(AbortKind::Machine, "the thread that reads the record is gone");
        let batch = match self {
            Self::Own(filler) => Some(filler.fill(BATCH_ENTRIES)),
            Self::Thread(beside) => match &beside.batches {
                Some(batches) => Some(batches.recv().map_err(gone)?),
                None => None,
            },
            Self::Nothing => None,
        };
        if batch.as_ref().is_none_or(|batch| batch.end.is_some()) {
            *self = Self::Nothing;
        }
        Ok(batch)
    }
}

/// Makes batches.
struct Filler {
    reader: Reader,
    store: Arc<Store>,
    header: Option<Header>,
    /// Whether the last entry was the beginning of an effect.
    is_in_effect: bool,
}

impl Filler {
    /// The thread: ends with the record, or when nobody follows any more.
    fn work(mut self, batches: &SyncSender<Batch>) {
        loop {
            let batch = self.fill(BATCH_ENTRIES);
            let is_last = batch.end.is_some();
            if batches.send(batch).is_err() || is_last {
                return;
            }
        }
    }

    fn fill(&mut self, entries: usize) -> Batch {
        let mut batch = Batch { reads: Vec::with_capacity(entries), before: self.reader.ledger(), end: None };
        let mut bytes = 0;
        while batch.reads.len() < entries && bytes < BATCH_BYTES && batch.end.is_none() {
            match self.read() {
                Ok(Some(read)) => {
                    bytes += self.reader.entry_bytes() + read.answer.as_ref().map_or(0, Vec::len);
                    batch.reads.push(read);
                }
                Ok(None) => batch.end = Some(Ok(self.reader.tail())),
                Err(error) => batch.end = Some(Err(error)),
            }
        }
        batch
    }

    /// The next chained entry.
    fn read(&mut self) -> Result<Option<Read>> {
        while let Some(entry) = self.reader.next()? {
            if entry.is_chained() {
                if let Some(header) = &self.header {
                    check_grant(header, &entry)?;
                }
                let answer = self.answer(&entry);
                self.is_in_effect = matches!(&entry, Entry::Begin(call) if call.class == Class::Effect);
                return Ok(Some(Read { entry, answer }));
            }
        }
        Ok(None)
    }

    /// The answer that a guest will ask for, if it is in the store and not too long. Why it cannot be had is said
    /// when it is asked for.
    fn answer(&self, entry: &Entry) -> Option<Vec<u8>> {
        let ret: &Return = match entry {
            Entry::Event(call, ret) if call.class != Class::Computed => ret,
            Entry::End(_, ret) if self.is_in_effect => ret,
            _ => return None,
        };
        match &ret.answer {
            Ok(body @ Body::Stored { len_bytes, .. }) if *len_bytes <= BODY_MAX_BYTES => {
                kept(&self.store, body).ok().flatten()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

//! The store behind a thread: who takes a snapshot hashes and copies, and does not wait while it is written.
//!
//! Invariants:
//! - What was put is in the store, or every [`Behind::settle`] after it says why not.
//! - What is asked for and still on its way is waited for.
//! - Nothing becomes durable here: that is done once, by whoever keeps the list of snapshots.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, HostAbort, Result};
use vac_core::memory::{Spot, Tier};
use vac_core::store::Store;

/// Objects that are given to the thread together.
const TOGETHER_MAX: usize = 32;
/// How often that may be before somebody waits; with pages of 64 KiB, 8 MiB are on their way.
const QUEUE_MAX: usize = 4;

pub(super) struct Behind {
    store: Arc<Store>,
    /// Started when there is something to write.
    writer: Mutex<Option<Writer>>,
}

struct Writer {
    queue: SyncSender<Asked>,
    thread: JoinHandle<()>,
    /// What was not given to the thread yet: to wake it takes longer than to hash a page.
    waiting: Vec<(Cid, Vec<u8>)>,
    /// Memory of what was written, to be used again: pages that nobody touched yet cost more than to copy.
    spare: Receiver<Vec<u8>>,
}

enum Asked {
    Put(Vec<(Cid, Vec<u8>)>),
    Settle(SyncSender<Result<()>>),
}

impl Behind {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, writer: Mutex::default() }
    }

    /// Waits until all that was put is in the store.
    pub(super) fn settle(&self) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = &mut *writer else { return Ok(()) };
        writer.give()?;
        let (told, hears) = sync_channel(1);
        writer.queue.send(Asked::Settle(told)).map_err(|_| gone())?;
        hears.recv().map_err(|_| gone())?
    }

    fn start(&self) -> Result<Writer> {
        let (queue, asked) = sync_channel(QUEUE_MAX);
        let (used, spare) = sync_channel(TOGETHER_MAX);
        let store = Arc::clone(&self.store);
        let thread = Builder::new().name("snapshots".to_owned()).spawn(move || write(&store, &asked, &used));
        let failed =
            |e| HostAbort::new(AbortKind::Machine, format!("cannot start a thread that writes: {e}"));
        Ok(Writer { queue, thread: thread.map_err(failed)?, waiting: Vec::new(), spare })
    }
}

impl Writer {
    fn put(&mut self, cid: Cid, bytes: &[u8]) -> Result<()> {
        let mut copy = self.spare.try_recv().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.waiting.push((cid, copy));
        if self.waiting.len() < TOGETHER_MAX { Ok(()) } else { self.give() }
    }

    fn give(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.queue.send(Asked::Put(std::mem::take(&mut self.waiting))).map_err(|_| gone().into())
    }
}

/// Puts what is asked until nobody asks any more.
fn write(store: &Store, asked: &Receiver<Asked>, used: &SyncSender<Vec<u8>>) {
    let mut done = Ok(());
    for asked in asked {
        match asked {
            Asked::Put(objects) => {
                for (cid, bytes) in objects {
                    done = done.and_then(|()| Tier::put(store, &cid, &bytes));
                    // If there are enough, this one goes.
                    let _ = used.try_send(bytes);
                }
            }
            // Who does not hear it has gone away.
            Asked::Settle(told) => {
                // What is missing stays missing, so all who ask are told.
                let failed =
                    |e: &Error| HostAbort::new(AbortKind::Machine, format!("a snapshot is not whole: {e}"));
                drop(told.send(done.as_ref().map_or_else(|e| Err(failed(e).into()), |()| Ok(()))));
            }
        }
    }
}

fn gone() -> HostAbort {
    HostAbort::new(AbortKind::Machine, "the thread that writes snapshots is gone")
}

impl Tier for Behind {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        if Tier::read_into(&*self.store, cid, to)? {
            return Ok(true);
        }
        self.settle()?;
        Tier::read_into(&*self.store, cid, to)
    }

    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = Tier::get(&*self.store, cid, max)? {
            return Ok(Some(bytes));
        }
        self.settle()?;
        Tier::get(&*self.store, cid, max)
    }

    fn locate(&self, cid: &Cid) -> Option<Spot> {
        Tier::locate(&*self.store, cid)
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            *writer = Some(self.start()?);
        }
        let Some(writer) = &mut *writer else { return Err(gone().into()) };
        writer.put(*cid, bytes)
    }

    fn commit(&self) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_mut().map_or(Ok(()), Writer::give)
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { queue, thread, .. }) = writer {
            drop(queue);
            // It has nothing left to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use vac_core::storage::SimStorage;

    use super::*;

    fn put(behind: &Behind, byte: u8) -> (Cid, Vec<u8>) {
        let page = vec![byte; 64 << 10];
        let cid = Cid::of_raw(&page);
        behind.put(&cid, &page).unwrap();
        (cid, page)
    }

    #[test]
    fn what_is_on_its_way_is_found() {
        let behind = Behind::new(Arc::new(Store::open(Arc::new(SimStorage::new(1)), "store").unwrap()));
        for byte in 1..100 {
            let (cid, page) = put(&behind, byte);
            assert_eq!(behind.get(&cid, page.len()).unwrap().as_deref(), Some(&page[..]));
        }
        behind.settle().unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_told_to_all_who_ask() {
        let sim = SimStorage::new(1);
        let behind = Behind::new(Arc::new(Store::open(Arc::new(sim.clone()), "store").unwrap()));
        sim.set_capacity(Some(1 << 20));
        // More than the store keeps in memory.
        (0..=255).for_each(|byte| drop(put(&behind, byte)));
        for _ in 0..2 {
            assert!(behind.settle().unwrap_err().to_string().contains("a snapshot is not whole"));
        }
    }
}

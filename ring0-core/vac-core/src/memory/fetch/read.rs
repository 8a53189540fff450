//! Many reads at places in files, by whoever does them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::cid::Cid;
use crate::storage::StorageFile;

use super::super::buffer::Buffer;
use super::direct::{Aligned, is_straight, read_straight};

/// Reads of a batch that are under way at a time.
pub(super) const DEPTH: usize = 16;

/// A read of a whole buffer.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) cid: Cid,
    pub(super) to: Buffer,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) offset: u64,
    /// Around the system's cache, if that can be done.
    pub(super) is_direct: bool,
}

impl Job {
    /// Reads as many bytes as there are. `buffer` is made when it is first needed.
    fn read(&mut self, buffer: &mut Option<Aligned>) -> io::Result<usize> {
        read_at(&*self.file, &mut self.to, self.offset, self.is_direct.then_some(buffer))
    }

    /// [`Self::read`] by a thread that others wait for: a panic is an error, so that the job goes back to them. What is in the
    /// buffers by then is nobody's page before it was hashed.
    fn try_read(&mut self, buffer: &mut Option<Aligned>) -> io::Result<usize> {
        let read = catch_unwind(AssertUnwindSafe(|| self.read(buffer)));
        read.unwrap_or_else(|_| Err(io::Error::other("the read panicked")))
    }
}

/// Reads as many bytes as there are: with a buffer, around the system's cache if nothing is in the way of that.
pub(super) fn read_at(
    file: &dyn StorageFile,
    to: &mut [u8],
    offset: u64,
    around: Option<&mut Option<Aligned>>,
) -> io::Result<usize> {
    let read_around = match around {
        None => false,
        Some(_) if is_straight(to, offset) => read_straight(file, to, offset).is_ok(),
        Some(buffer) => {
            buffer.get_or_insert_with(|| Aligned::for_pages(to.len())).read(file, to, offset).is_ok()
        }
    };
    if read_around {
        return Ok(to.len());
    }
    file.read_at(to, offset)
}

/// Does reads.
pub(super) trait BatchRead: Send {
    /// Does all of `jobs`, and hands each back as it ends, in any order. `jobs` may have more after it had none, as long as
    /// some are under way.
    fn read(&mut self, jobs: &mut dyn Iterator<Item = Job>, done: &mut dyn FnMut(Job, io::Result<usize>));

    /// How tables call it.
    fn name(&self) -> &'static str;
}

/// Reads one after another, where it is called.
#[derive(Default)]
pub(super) struct Caller {
    buffer: Option<Aligned>,
}

impl BatchRead for Caller {
    fn read(&mut self, jobs: &mut dyn Iterator<Item = Job>, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        for mut job in jobs {
            let read = job.read(&mut self.buffer);
            done(job, read);
        }
    }

    fn name(&self) -> &'static str {
        "caller"
    }
}

type Ended = (Job, io::Result<usize>);

/// Threads that read.
pub(super) struct Threads {
    jobs: Option<mpsc::Sender<Job>>,
    ended: mpsc::Receiver<Ended>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// As many as the system gives, up to [`DEPTH`].
    pub(super) fn start() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ends, ended) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let start = |_| {
            let (queue, ends) = (Arc::clone(&queue), ends.clone());
            let work = move || {
                let mut buffer = None;
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(mut job) = next else { break };
                    let read = job.try_read(&mut buffer);
                    if ends.send((job, read)).is_err() {
                        break;
                    }
                }
            };
            std::thread::Builder::new().name("vac-read".to_owned()).spawn(work).ok()
        };
        let threads = (0..DEPTH).map_while(start).collect();
        Self { jobs: Some(jobs), ended, threads }
    }
}

impl BatchRead for Threads {
    fn read(&mut self, jobs: &mut dyn Iterator<Item = Job>, done: &mut dyn FnMut(Job, io::Result<usize>)) {
        let Some(queue) = self.jobs.as_ref().filter(|_| !self.threads.is_empty()) else {
            return Caller::default().read(jobs, done);
        };
        let mut given = 0;
        loop {
            for job in &mut *jobs {
                match queue.send(job) {
                    Ok(()) => given += 1,
                    Err(mpsc::SendError(job)) => Caller::default().read(&mut std::iter::once(job), done),
                }
            }
            if given == 0 {
                break;
            }
            // A thread ends only when nothing more is given, so each job comes back.
            let Ok((job, read)) = self.ended.recv() else { break };
            given -= 1;
            done(job, read);
        }
    }

    fn name(&self) -> &'static str {
        "threads"
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

//! An object store (a folder, S3, memory) as a tier under the pager.
//!
//! An object `cid` is the object `PREFIX/objects/XY/cid` of the store, as it is; X and Y are the last two letters of
//! its name. Synchronous outside: the runtime that the store needs is in here, and no one else sees it.
//!
//! A crate of its own: nothing else in ring 0 may have what a client of a cloud brings with it. Making a tier starts
//! threads, so who names one makes it when it is first asked.
//!
//! Invariants:
//! - Bytes are given out only after they were hashed to their CID; no answer sizes an allocation.
//! - An object that is there is not written again, unless its length is wrong or [`Tier::replace`] says so.
//! - No error has a word of the key ([`ObjectTier::hiding`]), also if the store's answer repeats it.
//! - Time and chance are the caller's ([`Time`], [`Settings::seed`]): equal answers give equal requests.

mod breaker;
mod open;
mod requests;
mod time;
mod wire;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::Runtime;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, cut, quote, quote_line};
use vac_core::memory::Tier;

use breaker::Breaker;
use requests::Outcome;

pub use open::{S3, folder, memory, s3};
pub use time::{RealTime, Time};

/// The longest part of an error that a server wrote.
const MESSAGE_MAX_BYTES: usize = 500;

/// How an object store is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How reports call it.
    pub name: String,
    /// Where errors say it is; empty if its name says that.
    pub place: String,
    /// Before every name in the store, without a slash at its end.
    pub prefix: String,
    /// How often one thing is asked for, at most.
    pub attempts_max: u32,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long all attempts and the waits between them may take since it last answered. Of many things at a time no
    /// more are begun when [`Self::requests_max`] in a row had no answer, so that they may take twice as long.
    pub total_timeout: Duration,
    /// The first wait between two attempts; each one after it is twice as long, up to [`Self::wait_max`].
    pub wait: Duration,
    /// See [`Self::wait`].
    pub wait_max: Duration,
    /// Of how long a wait is within its upper half.
    pub seed: u64,
    /// Attempts without any answer, one after another, after which it is left alone for a time.
    pub failures_max: u32,
    /// For how long.
    pub rest: Duration,
    /// Requests at a time.
    pub requests_max: usize,
    /// An object that is longer is read in parts of this length, several at a time.
    pub part_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "object store".to_owned(),
            place: String::new(),
            prefix: "vac".to_owned(),
            attempts_max: 5,
            attempt_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(60),
            wait: Duration::from_millis(50),
            wait_max: Duration::from_secs(5),
            seed: 0,
            failures_max: 8,
            rest: Duration::from_secs(10),
            requests_max: 16,
            part_bytes: 1 << 20,
        }
    }
}

/// What was asked so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// Attempts.
    pub attempts: u64,
    /// Those among them that were made again.
    pub again: u64,
    /// Answers whose bytes were not what they should be.
    pub corrupt: u64,
    /// What was not asked because the store is left alone.
    pub refused: u64,
}

#[derive(Default)]
struct Counters {
    attempts: AtomicU64,
    again: AtomicU64,
    corrupt: AtomicU64,
    refused: AtomicU64,
    /// Of one attempt in microseconds, a running mean; 0 before the first.
    cost: AtomicU32,
}

/// A tier that is an object store.
pub struct ObjectTier {
    store: Arc<dyn ObjectStore>,
    settings: Settings,
    time: Arc<dyn Time>,
    breaker: Mutex<Breaker>,
    jitter: AtomicU64,
    counters: Counters,
    /// What no error may have in it.
    hidden: Vec<String>,
    /// Gone only while this is dropped.
    runtime: Option<Runtime>,
}

impl ObjectTier {
    /// A tier over `store`. Fails if the system gives no threads.
    pub fn new(store: Arc<dyn ObjectStore>, settings: Settings, time: Arc<dyn Time>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("vac-tier")
            .enable_all()
            .build()
            .map_err(|e| HostAbort::io("start the threads of", &settings.name, &e))?;
        Ok(Self {
            breaker: Mutex::new(Breaker::new(settings.failures_max, settings.rest)),
            jitter: AtomicU64::new(settings.seed),
            store,
            time,
            counters: Counters::default(),
            hidden: Vec::new(),
            runtime: Some(runtime),
            settings,
        })
    }

    /// The tier, whose errors have none of `words` in them.
    #[must_use]
    pub fn hiding(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.hidden.extend(words.into_iter().filter(|word| !word.is_empty()));
        // The longest first: one may be a part of another.
        self.hidden.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
        self
    }

    /// How long each object is there, in order; `None` for one that is not. No bytes are read.
    pub fn lens(&self, cids: &[Cid]) -> Vec<Result<Option<u64>>> {
        self.all(cids.len(), |at| match cids.get(at) {
            Some(cid) => Box::pin(requests::len(Arc::clone(&self.store), self.path(cid))),
            None => Box::pin(async { Outcome::Done(None) }),
        })
    }

    /// Asks for the first name there is, to see whether anybody answers, and with what right.
    pub fn reach(&self) -> Result<()> {
        let prefix = Path::from_iter(self.settings.prefix.split('/').filter(|part| !part.is_empty()));
        let list = |_| -> BoxFuture<'static, Outcome<()>> {
            Box::pin(requests::reach(Arc::clone(&self.store), prefix.clone()))
        };
        self.all(1, list).pop().unwrap_or(Ok(()))
    }

    /// What was asked so far.
    pub fn requests(&self) -> Requests {
        let Counters { attempts, again, corrupt, refused, .. } = &self.counters;
        let [attempts, again, corrupt, refused] =
            [attempts, again, corrupt, refused].map(|count| count.load(Ordering::Relaxed));
        Requests { attempts, again, corrupt, refused }
    }

    fn path(&self, cid: &Cid) -> Path {
        let name = cid.to_string();
        // The first letters of all names are the same.
        let fan_out = name.get(name.len().saturating_sub(2)..).unwrap_or("00").to_owned();
        Path::from_iter(
            self.settings
                .prefix
                .split('/')
                .filter(|part| !part.is_empty())
                .chain(["objects", &fan_out, &name]),
        )
    }

    /// Does `count` things, each until it is done or was tried too often. Those of one round are done at once.
    fn all<T: Send + 'static>(
        &self,
        count: usize,
        thing: impl Fn(usize) -> BoxFuture<'static, Outcome<T>>,
    ) -> Vec<Result<T>> {
        let mut done: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
        let mut open: Vec<usize> = (0..count).collect();
        let mut since = self.time.now();
        for attempt in 1..=self.settings.attempts_max.max(1) {
            if let Err(why) = self.may_ask() {
                self.counters.refused.fetch_add(open.len() as u64, Ordering::Relaxed);
                open.iter().for_each(|at| put(&mut done, *at, Err(why.clone().into())));
                break;
            }
            let left = self.settings.total_timeout.saturating_sub(self.time.now().saturating_sub(since));
            if attempt > 1 && left.is_zero() {
                break;
            }
            let outcomes = self.round(&open, left.min(self.settings.attempt_timeout), &thing);
            let is_last = attempt == self.settings.attempts_max.max(1);
            let mut again = Vec::new();
            let answered = outcomes.iter().any(|(_, outcome)| is_answer(Some(outcome)));
            for (at, outcome) in outcomes {
                match outcome {
                    Outcome::Done(it) => put(&mut done, at, Ok(it)),
                    Outcome::Refused(why) => put(&mut done, at, Err(self.told(why, attempt))),
                    Outcome::Again(why) => {
                        self.counters.corrupt.fetch_add(u64::from(is_corrupt(&why)), Ordering::Relaxed);
                        put(&mut done, at, Err(self.told(why, attempt)));
                        again.push(at);
                    }
                }
            }
            let now = self.time.now();
            self.breaker().learn(answered, now);
            since = if answered { now } else { since };
            if again.is_empty() || is_last {
                break;
            }
            let wait = self.wait(attempt);
            if now.saturating_sub(since).saturating_add(wait) >= self.settings.total_timeout {
                break;
            }
            self.counters.again.fetch_add(again.len() as u64, Ordering::Relaxed);
            self.time.sleep(wait);
            open = again;
        }
        done.into_iter()
            .map(|it| it.unwrap_or_else(|| Err(self.told(no_answer("it was not asked"), 0))))
            .collect()
    }

    /// One attempt for each of `open`, of at most `timeout`.
    fn round<T: Send + 'static>(
        &self,
        open: &[usize],
        timeout: Duration,
        thing: &impl Fn(usize) -> BoxFuture<'static, Outcome<T>>,
    ) -> Vec<(usize, Outcome<T>)> {
        let Some(runtime) = &self.runtime else { return Vec::new() };
        self.counters.attempts.fetch_add(open.len() as u64, Ordering::Relaxed);
        let began = self.time.now();
        let requests_max = self.settings.requests_max.max(1);
        // How many had no answer, one after another.
        let silent = Arc::new(AtomicUsize::new(0));
        type Timed<T> = BoxFuture<'static, (usize, Option<Outcome<T>>)>;
        let timed = |at: usize| -> Timed<T> {
            let (thing, silent) = (thing(at), Arc::clone(&silent));
            Box::pin(async move {
                if silent.load(Ordering::Relaxed) >= requests_max {
                    let why = no_answer("it was not asked, since others had no answer");
                    return (at, Some(Outcome::Again(why)));
                }
                let outcome = tokio::time::timeout(timeout, thing).await.ok();
                match is_answer(outcome.as_ref()) {
                    true => silent.store(0, Ordering::Relaxed),
                    false => {
                        silent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                (at, outcome)
            })
        };
        let things: Vec<Timed<T>> = open.iter().map(|at| timed(*at)).collect();
        let all = futures::stream::iter(things).buffer_unordered(requests_max).collect::<Vec<_>>();
        // Not `block_on`: whoever calls may be on a runtime's thread himself.
        let (sender, receiver) = mpsc::channel();
        runtime.spawn(async move { drop(sender.send(all.await)) });
        // Whoever made the attempts panicked, and would again.
        let gone = || Outcome::Refused(no_answer("the attempt ended without an answer"));
        let outcomes =
            receiver.recv().unwrap_or_else(|_| open.iter().map(|at| (*at, Some(gone()))).collect());
        self.learn_cost(self.time.now().saturating_sub(began), open.len());
        let timeout = Duration::from_millis(timeout.as_millis() as u64);
        let timed_out = || Outcome::Again(no_answer(&format!("no answer within {timeout:?}")));
        let mut outcomes: Vec<(usize, Outcome<T>)> =
            outcomes.into_iter().map(|(at, outcome)| (at, outcome.unwrap_or_else(timed_out))).collect();
        outcomes.sort_unstable_by_key(|(at, _)| *at);
        outcomes
    }

    fn learn_cost(&self, took: Duration, requests: usize) {
        let each = took.as_micros().checked_div(requests.max(1) as u128).unwrap_or(0);
        let each = u32::try_from(each).unwrap_or(u32::MAX).max(1);
        let mean = |old: u32| if old == 0 { each } else { old - old / 8 + each / 8 };
        let _ = self.counters.cost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(mean(old)));
    }

    fn may_ask(&self) -> Result<(), HostAbort> {
        let now = self.time.now();
        self.breaker().may_ask(now).map_err(|left| {
            let name = quote(&self.settings.name);
            let message = format!("the object store `{name}` did not answer and is left alone for {left:?}");
            HostAbort::new(AbortKind::Machine, message)
        })
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wait after an attempt: doubled each time, and of that a part between a half and all.
    fn wait(&self, attempt: u32) -> Duration {
        let doubled = self.settings.wait.saturating_mul(1 << (attempt - 1).min(16));
        let half = doubled.min(self.settings.wait_max) / 2;
        let n = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        half + half.mul_f64(f64::from(time::mixed(n) as u16) / f64::from(u16::MAX))
    }

    /// An error as who asked hears it: which store, after how many attempts, and without the words of the key.
    fn told(&self, why: Error, attempts: u32) -> Error {
        let Settings { name, place, .. } = &self.settings;
        let at = if place.is_empty() { String::new() } else { format!(" ({})", quote(place)) };
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        let store = format!("the object store `{}`{at}, after {attempts} {times}", quote(name));
        match why {
            Error::Abort(abort) => {
                let message = format!("{store}: {}", self.shown(&abort.message));
                HostAbort { message, ..abort }.into()
            }
            Error::Corrupt(corrupt) => {
                Corrupt { place: format!("{} of {store}", corrupt.place), ..corrupt }.into()
            }
            other => other,
        }
    }

    /// What a server said, as an error has it. Words are hidden before it is cut, which would leave parts of them.
    fn shown(&self, text: &str) -> String {
        let hide = |text: String, word: &String| text.replace(word.as_str(), "(hidden)");
        let text = self.hidden.iter().fold(text.to_owned(), hide);
        cut(&quote_line(&text), MESSAGE_MAX_BYTES).to_owned()
    }
}

fn put<T>(done: &mut [Option<Result<T>>], at: usize, it: Result<T>) {
    if let Some(slot) = done.get_mut(at) {
        *slot = Some(it);
    }
}

fn no_answer(why: &str) -> Error {
    HostAbort::new(AbortKind::Machine, why).into()
}

/// Whether somebody answered, with whatever bytes.
fn is_answer<T>(outcome: Option<&Outcome<T>>) -> bool {
    match outcome {
        None => false,
        Some(Outcome::Again(why)) => is_corrupt(why),
        Some(Outcome::Done(_) | Outcome::Refused(_)) => true,
    }
}

fn is_corrupt(why: &Error) -> bool {
    matches!(why, Error::Corrupt(_))
}

impl Drop for ObjectTier {
    fn drop(&mut self) {
        // Dropping a runtime waits for it, which a thread of another runtime must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Tier for ObjectTier {
    fn read_into(&self, cid: &Cid, to: &mut [u8]) -> Result<bool> {
        let Some(bytes) = self.get(cid, to.len())? else { return Ok(false) };
        if bytes.len() != to.len() {
            return Err(requests::wrong_len(cid, to.len(), bytes.len() as u64));
        }
        to.copy_from_slice(&bytes);
        Ok(true)
    }

    fn get(&self, cid: &Cid, max: usize) -> Result<Option<Vec<u8>>> {
        self.get_many(&[(*cid, max)]).pop().unwrap_or(Ok(None))
    }

    fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.put_many(&[(*cid, bytes.to_vec())]).pop().unwrap_or(Ok(()))
    }

    /// What was put is durable already.
    fn commit(&self) -> Result<()> {
        Ok(())
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn verifies(&self) -> bool {
        true
    }

    fn cost(&self) -> u32 {
        match self.counters.cost.load(Ordering::Relaxed) {
            // A guess until it was asked.
            0 => 20_000,
            cost => cost,
        }
    }

    fn get_many(&self, wanted: &[(Cid, usize)]) -> Vec<Result<Option<Vec<u8>>>> {
        self.all(wanted.len(), |at| {
            let Some(&(cid, max)) = wanted.get(at) else { return Box::pin(async { Outcome::Done(None) }) };
            let (store, path, part) = (Arc::clone(&self.store), self.path(&cid), self.settings.part_bytes);
            Box::pin(requests::get(store, path, cid, max, part))
        })
    }

    fn put_many(&self, objects: &[(Cid, Vec<u8>)]) -> Vec<Result<()>> {
        // Copied once, not at every attempt.
        let bodies: Vec<(Path, bytes::Bytes)> = objects
            .iter()
            .map(|(cid, bytes)| (self.path(cid), bytes::Bytes::copy_from_slice(bytes)))
            .collect();
        self.all(bodies.len(), |at| match bodies.get(at).cloned() {
            Some((path, body)) => Box::pin(requests::put(Arc::clone(&self.store), path, body)),
            None => Box::pin(async { Outcome::Done(()) }),
        })
    }

    fn replace(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        let (path, body) = (self.path(cid), bytes::Bytes::copy_from_slice(bytes));
        let replace = |_| -> BoxFuture<'static, Outcome<()>> {
            Box::pin(requests::overwrite(Arc::clone(&self.store), path.clone(), body.clone()))
        };
        self.all(1, replace).pop().unwrap_or(Ok(()))
    }
}

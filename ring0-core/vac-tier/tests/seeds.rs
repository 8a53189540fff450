//! One seed drives what is asked of a real [`ObjectTier`], and an object store that answers as they do on a bad day,
//! against a map.
//!
//! What the store may do to a request: refuse it with a status (401 to 503); lose it, or its answer, after doing it or
//! not; answer late or never; answer with what was there before, with a part, with more, or with another byte, also in
//! the middle of a stream; say of a write that it worked and keep a part; rot.
//!
//! What is checked:
//! - what comes out is what was put, or nothing, or an error; never another byte;
//! - what was acknowledged is there once the store answers well, if the store kept it;
//! - what the store did not keep, or keeps wrongly, is named, and `replace` mends it;
//! - an answer says no more than what is true: nothing is found that was never put;
//! - waits are the tier's own and bounded; nothing panics.
//!
//! The waits between attempts take no time. That an attempt has no answer does: some milliseconds, in a few of the seeds.
//! `VAC_TIER_SEED=7 cargo test -p vac-tier --test seeds` runs one seed.

mod random;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use random::Random;
use vac_core::cid::Cid;
use vac_core::fault::{self, AbortKind};
use vac_core::memory::Tier;
use vac_tier::{ObjectTier, Settings, Time};

const SEEDS: u64 = 300;
const STEPS: u64 = 60;
/// How long an attempt may take in a seed whose store is silent now and then.
const ATTEMPT: Duration = Duration::from_millis(20);

/// What a store is like in one seed.
#[derive(Debug, Clone, Copy)]
struct Mood {
    /// One answer in so many is bad; none if 0.
    bad: u64,
    /// One bad answer in so many does not come; none if 0.
    silent: u64,
    /// One write in so many is acknowledged and kept wrongly; none if 0.
    lies: u64,
    knows_conditions: bool,
}

impl Mood {
    const GOOD: Self = Self { bad: 0, silent: 0, lies: 0, knows_conditions: true };

    fn draw(random: &mut Random) -> Self {
        Self {
            bad: [2, 3, 6, 20][random.below(4) as usize],
            silent: [0, 0, 0, 0, 0, 0, 0, 9][random.below(8) as usize],
            lies: [0, 0, 0, 7][random.below(4) as usize],
            knows_conditions: random.below(4) != 0,
        }
    }
}

/// The state of a store, and all of its chance: each request draws for itself, by its path and how often that was asked
/// for, so that the order in which requests run does not matter.
struct Moody {
    inner: InMemory,
    seed: u64,
    mood: Mutex<Mood>,
    asked: Mutex<BTreeMap<(Path, &'static str), u64>>,
    faults: AtomicU64,
    /// Writes that were acknowledged and kept wrongly.
    lies: AtomicU64,
}

impl fmt::Debug for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moody")
    }
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moody")
    }
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

fn status(code: u64, path: &Path) -> Error {
    let (path, source) = (path.to_string(), format!("status {code}").into());
    match code {
        401 => Error::Unauthenticated { path, source },
        403 => Error::PermissionDenied { path, source },
        404 => Error::NotFound { path, source },
        409 => Error::AlreadyExists { path, source },
        412 => Error::Precondition { path, source },
        _ => Error::Generic { store: "moody", source },
    }
}

impl Moody {
    fn new(seed: u64, mood: Mood) -> Self {
        Self {
            inner: InMemory::new(),
            seed,
            mood: Mutex::new(mood),
            asked: Mutex::default(),
            faults: AtomicU64::new(0),
            lies: AtomicU64::new(0),
        }
    }

    fn mood(&self) -> Mood {
        *locked(&self.mood)
    }

    /// The chance of the next request for `what` of `path`, if it is to go badly.
    fn fault(&self, path: &Path, what: &'static str) -> Option<Random> {
        let nth = {
            let mut asked = locked(&self.asked);
            let nth = asked.entry((path.clone(), what)).or_default();
            *nth += 1;
            *nth
        };
        let name = path.as_ref().bytes().chain(what.bytes());
        let start = name.fold(self.seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = Random(start ^ (nth << 40));
        let bad = self.mood().bad;
        if bad == 0 || random.below(bad) != 0 {
            return None;
        }
        self.faults.fetch_add(1, Ordering::Relaxed);
        Some(random)
    }

    /// Does not answer, now and then.
    async fn may_be_silent(&self, random: &mut Random) {
        let silent = self.mood().silent;
        if silent > 0 && random.below(silent) == 0 {
            std::future::pending::<()>().await;
        }
    }

    /// Another byte, or fewer or more of them.
    fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
        let len = bytes.len() as u64;
        match random.below(4) {
            0 => bytes.truncate(random.below(len) as usize),
            1 => bytes.extend_from_slice(&[7; 300][..1 + random.below(299) as usize]),
            _ if bytes.is_empty() => bytes.push(1),
            _ => bytes[random.below(len) as usize] ^= 1 << random.below(8),
        }
    }

    /// Says that all is written, and keeps something else.
    async fn lie(&self, path: &Path, payload: PutPayload, random: &mut Random) -> Result<PutResult> {
        self.lies.fetch_add(1, Ordering::Relaxed);
        let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
        Self::spoil(&mut bytes, random);
        self.inner.put(path, bytes.into()).await
    }

    /// An object goes bad by itself.
    fn rot(&self, runtime: &tokio::runtime::Runtime, random: &mut Random) {
        runtime.block_on(async {
            let all: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
            let Some(it) = all.get(random.below(all.len() as u64) as usize) else { return };
            let mut bytes = self.inner.get(&it.location).await.unwrap().bytes().await.unwrap().to_vec();
            match random.below(3) {
                0 => self.inner.delete(&it.location).await.unwrap(),
                _ => {
                    Self::spoil(&mut bytes, random);
                    self.inner.put(&it.location, bytes.into()).await.unwrap();
                }
            }
        });
    }
}

#[async_trait]
impl ObjectStore for Moody {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !self.mood().knows_conditions && !matches!(opts.mode, PutMode::Overwrite) {
            return Err(Error::NotImplemented { operation: "put".into(), implementer: "moody".into() });
        }
        let Some(mut random) = self.fault(path, "put") else {
            return self.inner.put_opts(path, payload, opts).await;
        };
        self.may_be_silent(&mut random).await;
        let lies = self.mood().lies;
        if lies > 0 && random.below(lies) == 0 {
            return self.lie(path, payload, &mut random).await;
        }
        // It may have been done all the same, or in part by somebody who then died.
        if random.below(2) == 0 {
            let _ = self.inner.put_opts(path, payload, opts).await;
        }
        let codes = [401, 403, 408, 409, 412, 429, 500, 502, 503];
        Err(status(codes[random.below(codes.len() as u64) as usize], path))
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        let Some(mut random) = self.fault(path, what) else {
            return self.inner.get_opts(path, options).await;
        };
        self.may_be_silent(&mut random).await;
        // As it was before anything was written, too.
        let codes = [401, 404, 412, 429, 500, 503];
        let kind = random.below(codes.len() as u64 * 2);
        if let Some(code) = codes.get(kind as usize) {
            return Err(status(*code, path));
        }
        let is_head = options.head;
        let result = self.inner.get_opts(path, options).await?;
        let (mut meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        if random.below(4) == 0 {
            // Of another version, or just made up.
            meta.size = [0, 1, meta.size / 2, meta.size + 1, u64::MAX][random.below(5) as usize];
            meta.e_tag = Some("another".to_owned());
        }
        let mut bytes = if is_head { Vec::new() } else { result.bytes().await?.to_vec() };
        let half = bytes.split_off(random.below(bytes.len() as u64) as usize);
        let mut chunks: Vec<Result<bytes::Bytes>> = vec![Ok(bytes.into())];
        if random.below(3) == 0 {
            chunks.push(Err(status(500, path)));
        } else {
            let mut half = half;
            Self::spoil(&mut half, &mut random);
            chunks.push(Ok(half.into()));
        }
        let payload = GetResultPayload::Stream(Box::pin(futures::stream::iter(chunks)));
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fault(&prefix.cloned().unwrap_or_default(), "list") {
            Some(_) => Box::pin(futures::stream::iter([Err(status(503, &Path::default()))])),
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Time that passes only while somebody sleeps.
#[derive(Default)]
struct Still(Mutex<Duration>);

impl Time for Still {
    fn now(&self) -> Duration {
        *locked(&self.0)
    }

    fn sleep(&self, how_long: Duration) {
        *locked(&self.0) += how_long;
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    puts: u64,
    reads: u64,
    absent: u64,
    failed: u64,
    faults: u64,
    lies: u64,
    mended: u64,
}

struct World {
    random: Random,
    store: Arc<Moody>,
    tier: ObjectTier,
    time: Arc<Still>,
    runtime: tokio::runtime::Runtime,
    /// What was asked to be put, and whether that was acknowledged.
    objects: BTreeMap<Cid, (Vec<u8>, bool)>,
    /// Whether the store may have other bytes than it was given.
    is_rotten: bool,
    tally: Tally,
}

fn tier(store: &Arc<Moody>, time: &Arc<Still>, attempt_timeout: Duration, seed: u64) -> ObjectTier {
    let settings = Settings {
        part_bytes: 100,
        // All of a batch at once, or one by one: else it depends on the threads which are not asked after others were
        // silent.
        requests_max: [1, 16][seed as usize % 2],
        failures_max: 4,
        attempt_timeout,
        seed,
        ..Settings::default()
    };
    ObjectTier::new(Arc::clone(store) as Arc<dyn ObjectStore>, settings, time.clone()).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mood = Mood::draw(&mut random);
        let (store, time) = (Arc::new(Moody::new(!seed, mood)), Arc::new(Still::default()));
        let attempt = if mood.silent > 0 { ATTEMPT } else { Settings::default().attempt_timeout };
        Self {
            tier: tier(&store, &time, attempt, seed),
            random,
            store,
            time,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            objects: BTreeMap::new(),
            is_rotten: mood.lies > 0,
            tally: Tally::default(),
        }
    }

    fn run(mut self, seed: u64) -> Tally {
        for _ in 0..STEPS {
            match self.random.below(20) {
                0..=5 => self.put_many(),
                6..=13 => self.get_many(),
                14 => self.read_into(),
                15 => self.lens(),
                16 => self.replace(),
                17 => drop(self.tier.reach()),
                18 if self.random.below(6) == 0 => {
                    self.store.rot(&self.runtime, &mut self.random);
                    self.is_rotten = true;
                }
                _ => self.time.sleep(Duration::from_secs(self.random.below(12))),
            }
        }
        self.tally.faults = self.store.faults.load(Ordering::Relaxed);
        self.tally.lies = self.store.lies.load(Ordering::Relaxed);
        self.check(seed);
        self.tally
    }

    /// Few contents, so that the same object is put again and again.
    fn object(&mut self) -> (Cid, Vec<u8>) {
        let (len, tag) = ([0, 1, 99, 100, 101, 700][self.random.below(6) as usize], self.random.below(6));
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + tag * 31) as u8).collect();
        (Cid::of_raw(&bytes), bytes)
    }

    fn note_failed(&mut self, why: &fault::Error) {
        self.tally.failed += 1;
        let is_machine = matches!(why, fault::Error::Abort(abort) if abort.kind == AbortKind::Machine);
        assert!(is_machine || matches!(why, fault::Error::Corrupt(_)), "{why:?}");
        assert!(why.to_string().contains("the object store `object store`"), "{why}");
    }

    fn put_many(&mut self) {
        let batch: Vec<(Cid, Vec<u8>)> = (0..self.random.below(5)).map(|_| self.object()).collect();
        let before = self.time.now();
        let done = self.tier.put_many(&batch);
        assert_eq!(done.len(), batch.len());
        assert!(
            self.time.now() - before <= 2 * Settings::default().total_timeout,
            "it waits no longer than it may"
        );
        for ((cid, bytes), done) in batch.into_iter().zip(done) {
            self.objects.entry(cid).or_insert((bytes, false)).1 |= done.is_ok();
            match done {
                Ok(()) => self.tally.puts += 1,
                Err(why) => self.note_failed(&why),
            }
        }
    }

    fn get_many(&mut self) {
        let mut wanted = Vec::new();
        for _ in 0..self.random.below(5) {
            let (cid, bytes) = self.object();
            // One that is asked for as shorter than it is, is not read.
            let max = if self.random.below(9) == 0 { bytes.len() / 2 } else { bytes.len() };
            wanted.push((cid, max, bytes));
        }
        let asked: Vec<(Cid, usize)> = wanted.iter().map(|(cid, max, _)| (*cid, *max)).collect();
        let got = self.tier.get_many(&asked);
        assert_eq!(got.len(), asked.len());
        for ((cid, max, bytes), got) in wanted.into_iter().zip(got) {
            match got {
                Ok(Some(got)) => {
                    assert!(got == bytes && got.len() <= max, "wrong bytes of {cid}");
                    assert!(self.objects.contains_key(&cid), "{cid} was never put");
                    self.tally.reads += 1;
                }
                Ok(None) => self.tally.absent += 1,
                Err(why) => self.note_failed(&why),
            }
        }
    }

    fn read_into(&mut self) {
        let (cid, bytes) = self.object();
        let mut to = vec![0xee; bytes.len() + self.random.below(2) as usize];
        match self.tier.read_into(&cid, &mut to) {
            Ok(true) => assert!(to == bytes, "wrong bytes of {cid}"),
            Ok(false) => self.tally.absent += 1,
            Err(_) => self.tally.failed += 1,
        }
    }

    /// Lengths are what the store says: no bytes are read, so nothing can be proven.
    fn lens(&mut self) {
        let cids: Vec<Cid> = (0..4).map(|_| self.object().0).collect();
        for got in self.tier.lens(&cids) {
            if let Err(why) = got {
                self.note_failed(&why);
            }
        }
    }

    fn replace(&mut self) {
        let (cid, bytes) = self.object();
        let done = self.tier.replace(&cid, &bytes);
        self.objects.entry(cid).or_insert((bytes, false)).1 |= done.is_ok();
        if let Err(why) = done {
            self.note_failed(&why);
        }
    }

    /// The store answers well again. What was acknowledged is there, unless the store lost it by itself; that is said, and
    /// mended by who has it.
    fn check(&mut self, seed: u64) {
        *locked(&self.store.mood) = Mood::GOOD;
        let tier = tier(&self.store, &self.time, Settings::default().attempt_timeout, seed);
        for (cid, (bytes, is_acknowledged)) in &self.objects {
            match tier.get(cid, bytes.len()) {
                Ok(Some(got)) => {
                    assert!(got == *bytes, "wrong bytes of {cid} in the end");
                    continue;
                }
                Ok(None) => assert!(!is_acknowledged || self.is_rotten, "{cid} was acknowledged and is gone"),
                Err(fault::Error::Corrupt(why)) => {
                    assert!(self.is_rotten, "{cid}: nothing rotted: {why}");
                    assert!(why.to_string().contains(&cid.to_string()), "{why}");
                }
                Err(other) => panic!("{cid}: {other}"),
            }
            tier.replace(cid, bytes).unwrap();
            assert_eq!(tier.get(cid, bytes.len()).unwrap().as_ref(), Some(bytes), "it was written anew");
            self.tally.mended += 1;
        }
    }
}

fn run(seed: u64) -> Tally {
    std::panic::catch_unwind(|| World::new(seed).run(seed)).unwrap_or_else(|panic| {
        eprintln!("`VAC_TIER_SEED={seed} cargo test -p vac-tier --test seeds` repeats it");
        std::panic::resume_unwind(panic)
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "which seed to repeat")]
fn whatever_an_object_store_answers_nothing_wrong_comes_out() {
    if let Ok(seed) = std::env::var("VAC_TIER_SEED") {
        println!("{:?}", run(seed.parse().expect("VAC_TIER_SEED is a number")));
        return;
    }
    let mut all = Tally::default();
    for seed in 0..SEEDS {
        let Tally { puts, reads, absent, failed, faults, lies, mended } = run(seed);
        all.puts += puts;
        all.reads += reads;
        all.absent += absent;
        all.failed += failed;
        all.faults += faults;
        all.lies += lies;
        all.mended += mended;
    }
    // Seeds in which nothing happens would hold for ever.
    assert!(all.puts > 5_000 && all.reads > 3_000 && all.absent > 1_000, "{all:?}");
    assert!(all.failed > 1_000 && all.faults > 10_000 && all.lies > 50 && all.mended > 50, "{all:?}");
}

/// Of a store that answers at once all is by the seed.
#[test]
fn a_seed_is_one_run() {
    let is_silent = |seed: &u64| Mood::draw(&mut Random(*seed)).silent > 0;
    for seed in (0..30).filter(|seed| !is_silent(seed)) {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// Bytes that were wrong counted as no answer: who asked twice for an object that had rotted could have none of the
/// others for a time.
#[test]
fn a_store_with_a_rotten_object_is_not_left_alone() {
    let (store, time) = (Arc::new(Moody::new(0, Mood::GOOD)), Arc::new(Still::default()));
    let tier = tier(&store, &time, Settings::default().attempt_timeout, 0);
    let [rotten, whole] = [b"rotten".to_vec(), b"whole".to_vec()];
    let [bad, good] = [Cid::of_raw(&rotten), Cid::of_raw(&whole)];
    tier.put(&bad, &rotten).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let all: Vec<ObjectMeta> = runtime.block_on(store.inner.list(None).try_collect()).unwrap();
    runtime.block_on(store.inner.put(&all[0].location, "rotted".into())).unwrap();
    tier.put(&good, &whole).unwrap();
    for _ in 0..10 {
        assert!(matches!(tier.get(&bad, 100), Err(fault::Error::Corrupt(_))));
    }
    assert_eq!(tier.get(&good, 100).unwrap(), Some(whole));
    assert_eq!(tier.requests().refused, 0);
}

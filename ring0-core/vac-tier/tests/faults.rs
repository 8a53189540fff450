//! An object store that answers late, with parts, with old things, with 409, 412, 429 and 500, from one seed,
//! against a map.

mod random;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
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
use vac_core::memory::{Chain, Keeps, Tier};
use vac_core::storage::SimStorage;
use vac_core::store::Store;
use vac_tier::{ObjectTier, RealTime, Settings, Time};

#[derive(Debug, Clone, Copy)]
enum Bad {
    Status(u16),
    /// Some bytes of it.
    Partial,
    /// A bit of it is another one.
    Flipped,
    /// What was there before: nothing.
    Stale,
    /// Never.
    Hang,
    /// The client falls over it.
    Panic,
}

struct Faulty {
    inner: InMemory,
    random: Mutex<Random>,
    one_in: Mutex<u64>,
    /// Only this, if it is set.
    only: Option<Bad>,
    knows_conditions: bool,
}

impl Faulty {
    fn new(seed: u64, one_in: u64) -> Self {
        let random = Mutex::new(Random(seed));
        Self {
            inner: InMemory::new(),
            random,
            one_in: Mutex::new(one_in),
            only: None,
            knows_conditions: true,
        }
    }

    fn heal(&self) {
        *self.one_in.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    fn fault(&self, may_be: &[Bad]) -> Option<Bad> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let one_in = *self.one_in.lock().unwrap_or_else(PoisonError::into_inner);
        if one_in == 0 || random.below(one_in) != 0 {
            return None;
        }
        let drawn = may_be[random.below(may_be.len() as u64) as usize];
        Some(self.only.unwrap_or(drawn))
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

fn status(code: u16, path: &Path) -> Error {
    let (path, source) = (path.to_string(), format!("status {code}").into());
    match code {
        409 => Error::AlreadyExists { path, source },
        412 => Error::Precondition { path, source },
        _ => Error::Generic { store: "faulty", source },
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !self.knows_conditions && !matches!(opts.mode, PutMode::Overwrite) {
            return Err(Error::NotImplemented { operation: "put".into(), implementer: "faulty".into() });
        }
        let bads = [409, 412, 429, 500, 503].map(Bad::Status);
        match self.fault(&bads) {
            Some(Bad::Hang) => std::future::pending().await,
            Some(Bad::Status(code)) => Err(status(code, path)),
            _ => self.inner.put_opts(path, payload, opts).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let bads = [Bad::Status(429), Bad::Status(500), Bad::Partial, Bad::Flipped, Bad::Stale];
        let is_head = options.head;
        let fault = self.fault(&bads);
        match fault {
            Some(Bad::Hang) => return std::future::pending().await,
            Some(Bad::Panic) => panic!("as it should in this test"),
            Some(Bad::Status(code)) => return Err(status(code, path)),
            Some(Bad::Stale) => {
                return Err(Error::NotFound { path: path.to_string(), source: "an old answer".into() });
            }
            _ => {}
        }
        let mut result = self.inner.get_opts(path, options).await?;
        if let Some(bad) = fault.filter(|_| !is_head) {
            let (meta, range) = (result.meta.clone(), result.range.clone());
            let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
            let mut bytes = result.bytes().await?.to_vec();
            match bad {
                Bad::Partial => bytes.truncate(bytes.len() / 2),
                _ => bytes[0] ^= 4,
            }
            let chunk = futures::stream::iter([Ok(bytes.into())]);
            let payload = GetResultPayload::Stream(Box::pin(chunk));
            result = GetResult { payload, meta, range, attributes, extensions };
        }
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
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
struct Still(Mutex<Vec<Duration>>);

impl Still {
    fn sleeps(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Time for Still {
    fn now(&self) -> Duration {
        self.sleeps().iter().sum()
    }

    fn sleep(&self, how_long: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(how_long);
    }
}

fn settings() -> Settings {
    Settings { part_bytes: 100, failures_max: 1000, ..Settings::default() }
}

fn tier(store: &Arc<Faulty>, settings: Settings) -> (ObjectTier, Arc<Still>) {
    let time = Arc::new(Still::default());
    let tier = ObjectTier::new(Arc::clone(store) as Arc<dyn ObjectStore>, settings, time.clone()).unwrap();
    (tier, time)
}

fn object(random: &mut Random) -> (Cid, Vec<u8>) {
    let (len, tag) = (1 + random.below(700), random.below(1 << 40));
    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + tag) as u8).collect();
    (Cid::of_raw(&bytes), bytes)
}

fn list(runtime: &tokio::runtime::Runtime, store: &InMemory) -> Vec<ObjectMeta> {
    runtime.block_on(store.list(None).try_collect()).unwrap()
}

#[test]
fn whatever_is_answered_no_wrong_byte_comes_out() {
    let (mut read, mut failed, mut again) = (0, 0, 0);
    for seed in 0..60 {
        let store = Arc::new(Faulty::new(seed, 3));
        let (tier, _) = tier(&store, settings());
        let mut random = Random(!seed);
        let mut model: Vec<(Cid, Vec<u8>)> = Vec::new();
        for _ in 0..10 {
            let batch: Vec<(Cid, Vec<u8>)> = (0..random.below(4)).map(|_| object(&mut random)).collect();
            for (object, put) in batch.iter().zip(tier.put_many(&batch)) {
                match put {
                    Ok(()) => model.push(object.clone()),
                    Err(_) => failed += 1,
                }
            }
            let wanted: Vec<(Cid, usize)> = model.iter().map(|(cid, bytes)| (*cid, bytes.len())).collect();
            for (got, (_, bytes)) in tier.get_many(&wanted).into_iter().zip(&model) {
                match got {
                    Ok(Some(got)) => {
                        assert!(got == *bytes, "seed {seed}");
                        read += 1;
                    }
                    // An old answer looks like this; the chain asks elsewhere.
                    Ok(None) | Err(_) => failed += 1,
                }
            }
        }
        store.heal();
        for (cid, bytes) in &model {
            assert_eq!(tier.get(cid, bytes.len()).unwrap().as_ref(), Some(bytes), "seed {seed}: it was put");
        }
        again += tier.requests().again;
    }
    assert!(read > 1000 && failed > 10 && again > 1000, "{read} read, {failed} failed, {again} again");
}

#[test]
fn equal_seeds_wait_equally_and_longer_each_time() {
    let waits = |seed| {
        let mut store = Faulty::new(1, 1);
        store.only = Some(Bad::Status(500));
        let (tier, time) = tier(&Arc::new(store), Settings { seed, ..settings() });
        assert!(tier.get(&Cid::of_raw(b"x"), 10).is_err());
        time.sleeps()
    };
    let first = waits(7);
    assert_eq!(first, waits(7));
    assert_ne!(first, waits(8));
    for (n, wait) in first.iter().enumerate() {
        let full = Duration::from_millis(50 << n);
        assert!((full / 2..=full).contains(wait), "{first:?}");
    }
    assert_eq!(first.len(), 4);
}

#[test]
fn a_store_that_does_not_answer_is_left_alone_and_asked_again_later() {
    let mut store = Faulty::new(1, 1);
    store.only = Some(Bad::Status(503));
    let store = Arc::new(store);
    let (tier, time) = tier(&store, Settings { failures_max: 6, ..settings() });
    let (cid, bytes) = object(&mut Random(1));
    (0..2).for_each(|_| assert!(tier.put(&cid, &bytes).is_err()));
    let attempts = tier.requests().attempts;
    let why = tier.get(&cid, 1000).unwrap_err().to_string();
    assert!(why.contains("is left alone for"), "{why}");
    assert_eq!(tier.requests().attempts, attempts, "it was not asked");
    assert!(tier.requests().refused > 0);
    store.heal();
    time.sleep(Settings::default().rest);
    tier.put(&cid, &bytes).unwrap();
    assert_eq!(tier.get(&cid, 1000).unwrap(), Some(bytes));
}

#[test]
fn a_store_that_hangs_is_given_up_in_time() {
    let mut store = Faulty::new(1, 1);
    store.only = Some(Bad::Hang);
    let store = Arc::new(store);
    let timeout = Duration::from_millis(20);
    let (tier, _) = tier(&store, Settings { attempt_timeout: timeout, attempts_max: 3, ..settings() });
    let why = tier.get(&Cid::of_raw(b"x"), 10).unwrap_err().to_string();
    assert!(why.contains("no answer within 20ms"), "{why}");
    assert_eq!(tier.requests().attempts, 3);
}

/// Many attempts against a store that is silent kept a run far beyond its `--time`.
#[test]
fn all_attempts_together_end_in_time_also_of_many_things() {
    let mut store = Faulty::new(1, 1);
    store.only = Some(Bad::Hang);
    let store = Arc::new(store);
    let timeouts = Settings {
        attempt_timeout: Duration::from_millis(100),
        total_timeout: Duration::from_millis(250),
        attempts_max: 20,
        wait: Duration::from_millis(1),
        failures_max: 1000,
        ..settings()
    };
    let tier = ObjectTier::new(store, timeouts, Arc::new(RealTime::new())).unwrap();
    let why = tier.get(&Cid::of_raw(b"x"), 10).unwrap_err().to_string();
    assert!(why.contains("no answer within"), "{why}");
    assert!(tier.requests().attempts <= 3, "{:?}", tier.requests());
    // 300 things, 16 at a time, at 100 ms each: 1.9 s a round if nobody looked.
    let wanted: Vec<(Cid, usize)> = (0..300_u32).map(|n| (Cid::of_raw(&n.to_le_bytes()), 10)).collect();
    let clock = RealTime::new();
    assert!(tier.get_many(&wanted).iter().all(|got| got.is_err()));
    assert!(clock.now() < Duration::from_millis(1500), "{:?}", clock.now());
}

#[test]
fn an_attempt_that_panics_is_an_error_and_is_not_made_again() {
    let mut store = Faulty::new(1, 1);
    store.only = Some(Bad::Panic);
    let (tier, _) = tier(&Arc::new(store), settings());
    let why = tier.get(&Cid::of_raw(b"x"), 10).unwrap_err().to_string();
    assert!(why.contains("after 1 attempt: the attempt ended without an answer"), "{why}");
}

#[test]
fn what_is_there_is_not_written_again_unless_it_cannot_be_right() {
    for knows_conditions in [true, false] {
        let mut store = Faulty::new(1, 0);
        store.knows_conditions = knows_conditions;
        let store = Arc::new(store);
        let (tier, _) = tier(&store, settings());
        let (cid, bytes) = object(&mut Random(5));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let path = |tier: &ObjectTier| {
            tier.put(&cid, &bytes).unwrap();
            let all = list(&runtime, &store.inner);
            assert_eq!(all.len(), 1);
            all.into_iter().next().unwrap()
        };
        let first = path(&tier);
        assert_eq!(path(&tier).e_tag, first.e_tag, "written once");
        runtime.block_on(store.inner.put(&first.location, "short".into())).unwrap();
        assert!(tier.get(&cid, 1000).is_err());
        assert_ne!(path(&tier).e_tag, first.e_tag, "a copy of another length is replaced");
        let rotten: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
        runtime.block_on(store.inner.put(&first.location, rotten.into())).unwrap();
        assert!(matches!(tier.get(&cid, 1000), Err(vac_core::fault::Error::Corrupt(_))));
        tier.replace(&cid, &bytes).unwrap();
        assert_eq!(tier.get(&cid, 1000).unwrap().as_ref(), Some(&bytes));
    }
}

/// Below a store, in a chain, called from a thread of another runtime.
#[test]
fn a_chain_over_it_heals_a_store_that_rotted() {
    let sim = SimStorage::new(1);
    let below = Arc::new(Faulty::new(4, 5));
    let (tier, _) = tier(&below, settings());
    let tier = Arc::new(tier);
    let open = || {
        let store = Arc::new(Store::open(Arc::new(sim.clone()), "store").unwrap());
        Chain::new(store).and(tier.clone(), Keeps::WhenItCan)
    };
    let mut random = Random(9);
    let objects: BTreeMap<Cid, Vec<u8>> = (0..40).map(|_| object(&mut random)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let chain = open();
        objects.iter().for_each(|(cid, bytes)| chain.put(cid, bytes).unwrap());
        while chain.stats()[1].behind > 0 {
            chain.commit().unwrap();
        }
        for path in sim.paths().into_iter().filter(|path| path.ends_with(".pack")) {
            let len = sim.peek(&path).unwrap().len() as u64;
            (64..len).step_by(90).for_each(|at| assert!(sim.flip_bit(&path, at, 1)));
        }
        let chain = open();
        for (cid, bytes) in &objects {
            let got = (0..50).find_map(|_| chain.get(cid, bytes.len()).ok().flatten());
            assert_eq!(got.as_ref(), Some(bytes));
        }
        assert!(chain.stats()[0].repaired > 0);
    });
}

#[test]
fn the_clock_of_the_host_goes_on() {
    let time = RealTime::default();
    let before = time.now();
    time.sleep(Duration::from_millis(1));
    assert!(time.now() > before);
}

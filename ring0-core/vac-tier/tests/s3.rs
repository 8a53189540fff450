//! A server that speaks S3, started here, over a folder.

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use vac_core::cid::Cid;
use vac_core::fault::Error;
use vac_core::memory::Tier;
use vac_tier::{ObjectTier, RealTime, S3, Settings, folder, memory, s3};

const KEY: (&str, &str) = ("a-key", "a-secret");

/// Serves `root` until the runtime ends, and says where.
fn serve(runtime: &tokio::runtime::Runtime, root: &std::path::Path) -> String {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single(KEY.0, KEY.1));
    let service = builder.build();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                drop(http.serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    format!("http://{address}")
}

fn bucket(endpoint: String) -> S3 {
    let [region, bucket, key_id, secret] = ["us-east-1", "pages", KEY.0, KEY.1].map(str::to_owned);
    S3 { endpoint: Some(endpoint), region, bucket, key_id, secret }
}

fn settings() -> Settings {
    let wait = std::time::Duration::from_millis(1);
    Settings { part_bytes: 64 << 10, attempts_max: 3, wait, ..Settings::default() }
}

fn keeps_what_is_put(tier: &ObjectTier) {
    let objects: Vec<(Cid, Vec<u8>)> = (1..20_u32)
        .map(|n| (0..n * 12_000).map(|i| (i * n / 5) as u8).collect::<Vec<u8>>())
        .map(|bytes| (Cid::of_raw(&bytes), bytes))
        .collect();
    assert_eq!(tier.get(&objects[0].0, 1 << 20).unwrap(), None);
    for round in 0..2 {
        tier.put_many(&objects)
            .into_iter()
            .for_each(|put| put.unwrap_or_else(|why| panic!("{round}: {why}")));
    }
    let wanted: Vec<(Cid, usize)> = objects.iter().map(|(cid, _)| (*cid, 1 << 20)).collect();
    for (got, (_, bytes)) in tier.get_many(&wanted).into_iter().zip(&objects) {
        assert!(got.unwrap().as_ref() == Some(bytes));
    }
    let (cid, bytes) = &objects[3];
    assert!(matches!(tier.get(cid, bytes.len() - 1), Err(Error::Corrupt(_))), "too long is refused");
    let mut to = vec![0; bytes.len()];
    assert!(tier.read_into(cid, &mut to).unwrap() && to == *bytes);
    tier.replace(cid, bytes).unwrap();
    assert!(tier.cost() > 0);
}

#[test]
fn memory_and_folders_keep_what_is_put() {
    let dir = tempfile::tempdir().unwrap();
    for store in [memory(), folder(dir.path()).unwrap()] {
        keeps_what_is_put(&ObjectTier::new(store, settings(), Arc::new(RealTime::new())).unwrap());
    }
    assert!(folder(&dir.path().join("not there")).is_err());
}

#[test]
fn s3_keeps_what_is_put_and_rot_in_it_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("pages")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = serve(&runtime, dir.path());
    let open = |at: &S3| ObjectTier::new(s3(at).unwrap(), settings(), Arc::new(RealTime::new())).unwrap();
    let tier = open(&bucket(endpoint.clone()));
    keeps_what_is_put(&tier);

    let bytes = vec![9; 100_000];
    let cid = Cid::of_raw(&bytes);
    tier.put(&cid, &bytes).unwrap();
    let file = find(dir.path(), &cid.to_string()).unwrap();
    let mut rotten = bytes.clone();
    rotten[70_000] ^= 1;
    std::fs::write(&file, &rotten).unwrap();
    assert!(matches!(tier.get(&cid, 1 << 20), Err(Error::Corrupt(_))));
    tier.replace(&cid, &bytes).unwrap();
    assert_eq!(tier.get(&cid, 1 << 20).unwrap(), Some(bytes));

    let stranger = open(&S3 { secret: "another".to_owned(), ..bucket(endpoint) });
    let why = stranger.get(&cid, 1 << 20).unwrap_err().to_string();
    assert!(!why.contains("another") && stranger.requests().attempts <= 3, "{why}");
}

/// The file in or below `dir` whose name has `part`.
fn find(dir: &std::path::Path, part: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, part) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|name| name == part) {
            return Some(path);
        }
    }
    None
}

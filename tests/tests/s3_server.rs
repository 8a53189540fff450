//! A server that speaks S3, started by a test, over a folder; and one that answers with whatever a test wants.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

pub(crate) const KEY: (&str, &str) = ("a-key", "a-secret-that-nobody-prints");
pub(crate) const BUCKET: &str = "pages";

/// It stops when it is dropped.
pub(crate) struct Server {
    _runtime: tokio::runtime::Runtime,
    pub(crate) endpoint: String,
}

/// Serves `root`, in which [`BUCKET`] is made.
pub(crate) fn serve(root: &Path) -> Server {
    std::fs::create_dir_all(root.join(BUCKET)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
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
    Server { _runtime: runtime, endpoint: format!("http://{address}") }
}

/// A server that answers each request, of which it is told the head, with the bytes of `answer`, and hangs up.
pub(crate) struct Liar {
    pub(crate) endpoint: String,
    asked: Arc<AtomicU64>,
}

impl Liar {
    /// Its thread ends with the test's process.
    pub(crate) fn new(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { break };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = socket.write_all(&answer(&String::from_utf8_lossy(&head)));
            }
        });
        Self { endpoint, asked }
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

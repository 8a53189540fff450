//! Object stores that there are.

use std::path::Path;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote};

use crate::wire::Connector;

/// A bucket of S3, or of a server that speaks its protocol. The key is in no text that this crate makes.
#[derive(Clone)]
pub struct S3 {
    /// The server, `http://` or `https://`; `None` is Amazon's.
    pub endpoint: Option<String>,
    /// The region's name.
    pub region: String,
    /// The bucket's.
    pub bucket: String,
    /// The key's name.
    pub key_id: String,
    /// The key.
    pub secret: String,
    /// What goes with a key that was lent for a time.
    pub token: Option<String>,
}

/// In memory: for tests, and gone with the process.
pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// In a folder that exists. An object is there when its file has its name, and what was put is synced.
pub fn folder(path: &Path) -> Result<Arc<dyn ObjectStore>> {
    match LocalFileSystem::new_with_prefix(path) {
        Ok(store) => Ok(Arc::new(store.with_fsync(true))),
        Err(why) => Err(cannot_open(&path.display().to_string(), &why)),
    }
}

/// In a bucket.
pub fn s3(at: &S3) -> Result<Arc<dyn ObjectStore>> {
    // The process has one anyway, or gets this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let is_plain = at.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    // Trying again is the tier's: it knows what bytes are right.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    if let Some(endpoint) = &at.endpoint {
        // The client panics over a request to what is no address.
        let address = format!("{endpoint}/{}", at.bucket);
        address.parse::<reqwest::Url>().map_err(|why| {
            let message = format!("the endpoint of the bucket `{}` is no address: {why}", quote(&at.bucket));
            Usage::new(message).hint("expected http:// or https:// and a host")
        })?;
    }
    let mut builder = AmazonS3Builder::new()
        .with_region(&at.region)
        .with_bucket_name(&at.bucket)
        .with_access_key_id(&at.key_id)
        .with_secret_access_key(&at.secret)
        .with_allow_http(is_plain)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(ClientOptions::new().with_allow_http(is_plain))
        .with_http_connector(Connector { is_plain })
        .with_retry(retry);
    if let Some(endpoint) = &at.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(token) = &at.token {
        builder = builder.with_token(token);
    }
    match builder.build() {
        Ok(store) => Ok(Arc::new(store)),
        Err(why) => Err(cannot_open(&at.bucket, &why)),
    }
}

fn cannot_open(what: &str, why: &object_store::Error) -> vac_core::fault::Error {
    let message = format!("cannot use the object store `{}`: {}", quote(what), quote(&why.to_string()));
    HostAbort::new(AbortKind::Machine, message).into()
}

//! The HTTP client below an object store: one that follows nobody elsewhere and believes no length.
//!
//! A store may answer with anything. Objects are streamed and counted by who reads them; every other answer (errors,
//! lists, acknowledgements) is collected by the client library, which makes room for as many bytes as the answer says
//! it has. So those are cut off here, where their length is not yet believed.

use std::time::Duration;

use http_body_util::Limited;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

/// The longest answer that is no object: a list of 1,000 names with room to spare.
const ANSWER_MAX_BYTES: usize = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes clients for one store.
#[derive(Debug)]
pub(crate) struct Connector {
    /// Whether it is spoken to without encryption.
    pub(crate) is_plain: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .user_agent("vac")
            .connect_timeout(CONNECT_TIMEOUT)
            .http1_only()
            .https_only(!self.is_plain)
            // What a request was signed for is who was named, and nothing of the environment leads around that.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|why| object_store::Error::Generic { store: "S3", source: Box::new(why) })?;
        Ok(HttpClient::new(Bounded(HttpClient::new(client))))
    }
}

#[derive(Debug)]
struct Bounded(HttpClient);

#[async_trait::async_trait]
impl HttpService for Bounded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_list = request.uri().query().is_some_and(|query| query.contains("list-type="));
        let is_read = request.method() == "GET" && !is_list;
        let (head, body) = self.0.execute(request).await?.into_parts();
        let body = match is_read && head.status.is_success() {
            true => body,
            false => bounded(body),
        };
        Ok(HttpResponse::from_parts(head, body))
    }
}

fn bounded(body: HttpResponseBody) -> HttpResponseBody {
    use http_body_util::BodyExt;
    let too_long = |why| HttpError::new_boxed(HttpErrorKind::Decode, why);
    HttpResponseBody::new(Limited::new(body, ANSWER_MAX_BYTES).map_err(too_long))
}

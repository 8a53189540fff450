//! HTTP requests that a guest sends: what is sent, by whom it is sent, and what comes back.
//!
//! This crate speaks no HTTP. It decides whether a request may be sent, puts secrets into it, and hands it
//! whole to an [`Http`], which connects only to addresses that it is told may be reached. The response comes
//! back whole. Redirects are answers like any other: following one is a new request, and is checked like one.
//!
//! Invariant: the value of a secret is in no request that the guest, the ledger or an error can see; where a
//! response repeats it, the placeholder stands again.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;

use crate::net::HostPattern;
use crate::secret_text;

/// A header's name, in lower case, and its value.
pub type Header = (String, Vec<u8>);

/// A request, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// In upper case.
    pub method: String,
    /// Whether it is sent over TLS.
    pub is_https: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
    /// In order. `host`, `connection` and the like are the client's to set.
    pub headers: Vec<Header>,
    /// The body; `None` if the guest gave none.
    pub body: Option<Vec<u8>>,
    /// Fields after the body, if there are any.
    pub trailers: Option<Vec<Header>>,
    /// How long to wait for a connection.
    pub connect_timeout: Option<Duration>,
    /// How long to wait for the response.
    pub response_timeout: Option<Duration>,
    /// How long to wait for more of the response's body.
    pub between_bytes_timeout: Option<Duration>,
    /// Bytes of body that a response may have.
    pub body_max_bytes: u64,
}

/// A response, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// In order.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
    /// Fields after the body, if there are any.
    pub trailers: Option<Vec<Header>>,
}

/// Why there is no response. No text of the network or the client is in it, so that nothing leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFailure {
    /// The name does not resolve.
    Dns,
    /// It resolves only to addresses that are not granted; this is the first of them.
    Prohibited(IpAddr),
    /// Nobody listens.
    Refused,
    /// Connecting took too long.
    ConnectTimeout,
    /// The response took too long.
    ResponseTimeout,
    /// More of the body took too long.
    ReadTimeout,
    /// The connection ended early.
    Terminated,
    /// TLS could not be set up.
    Tls,
    /// The certificate is not valid for the host.
    Certificate,
    /// What came is not HTTP.
    Protocol,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// Anything else.
    Other,
}

/// Says whether an address that a name resolved to may be connected to.
pub type MayConnect = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Sends requests. Must connect only to addresses that `may_connect` allows, and follow no redirect.
pub trait Http: Send + Sync {
    /// Sends one request and waits for the whole response.
    fn send(&self, request: HttpRequest, may_connect: MayConnect) -> Result<HttpResponse, HttpFailure>;
}

/// A request that somebody sent to a guest, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// As it was sent.
    pub method: String,
    /// The host and port that were asked.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// In order.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
    /// Fields after the body, if there are any.
    pub trailers: Option<Vec<Header>>,
}

/// Takes requests for a guest that answers them, one at a time.
pub trait Serve: Send {
    /// Waits for the next request; `None` if no more come.
    fn next(&mut self) -> vac_core::fault::Result<Option<Served>>;
    /// Answers it. Whether whoever sent it was still there.
    fn reply(&mut self, response: HttpResponse) -> bool;
}

/// A value that the guest may use and must not see.
#[derive(Clone)]
pub struct Secret {
    /// What the guest has in its place.
    pub placeholder: String,
    /// The value.
    pub value: Vec<u8>,
    /// Hosts that it may be sent to; every granted one if `None`.
    pub hosts: Option<HostPattern>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.placeholder)
    }
}

impl Secret {
    /// Whether it may be sent to `host`.
    fn is_for(&self, host: &str) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        match host.parse::<IpAddr>() {
            Ok(ip) => hosts.has_address(ip),
            Err(_) => hosts.has_name(host),
        }
    }
}

/// Whether `host` may have one of `secrets`, and so may know it from another request.
pub(crate) fn may_know(host: &str, secrets: &[Secret]) -> bool {
    secrets.iter().any(|secret| secret.is_for(host))
}

/// Puts into `request` the secrets whose placeholders it holds, if its host may have them. Whether one was.
pub(crate) fn reveal(request: &mut HttpRequest, secrets: &[Secret]) -> bool {
    let host = request.host.clone();
    let mut revealed = false;
    for secret in secrets.iter().filter(|secret| secret.is_for(&host)) {
        let from = secret.placeholder.as_bytes();
        let mut put = |bytes: &mut Vec<u8>| {
            if let Some(changed) = replaced(bytes, from, &secret.value) {
                *bytes = changed;
                revealed = true;
            }
        };
        let fields = request.headers.iter_mut().chain(request.trailers.iter_mut().flatten());
        fields.for_each(|(_, value)| put(value));
        request.body.iter_mut().for_each(&mut put);
        for (_, header) in &mut request.headers {
            let inside = |words: &[u8]| replaced(words, from, &secret.value);
            if let Some(changed) = secret_text::change_basic(header, inside) {
                *header = changed;
                revealed = true;
            }
        }
        // There a value may end what it stands in, or be none that a URL has.
        let value = secret_text::in_url(&secret.value);
        if let Some(changed) = replaced(request.path.as_bytes(), from, &value) {
            request.path = String::from_utf8_lossy(&changed).into_owned();
            revealed = true;
        }
    }
    revealed
}

/// Puts the placeholders back where `response` repeats a secret, as it is or in another form.
pub(crate) fn conceal(response: &mut HttpResponse, secrets: &[Secret]) {
    for (form, placeholder) in hidden_forms(secrets) {
        let put = |bytes: &mut Vec<u8>| {
            if let Some(changed) = replaced(bytes, &form, placeholder.as_bytes()) {
                *bytes = changed;
            }
        };
        let fields = response.headers.iter_mut().chain(response.trailers.iter_mut().flatten());
        fields.for_each(|(_, value)| put(value));
        put(&mut response.body);
        // Names come in lower case, and so would a value in one.
        let form = form.to_ascii_lowercase();
        let is_free = |(name, _): &(String, Vec<u8>)| memmem::find(name.as_bytes(), &form).is_none();
        response.headers.retain(is_free);
        response.trailers.iter_mut().for_each(|trailers| trailers.retain(is_free));
    }
}

/// The forms of all secrets with their placeholders, the longest first: where one secret holds another, the
/// rest of it must not stay.
fn hidden_forms(secrets: &[Secret]) -> Vec<(Vec<u8>, &str)> {
    let mut all: Vec<(Vec<u8>, &str)> = Vec::new();
    for secret in secrets {
        let forms = secret_text::forms(&secret.value).into_iter();
        all.extend(forms.map(|form| (form, secret.placeholder.as_str())));
    }
    all.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

/// `bytes` with every `from` replaced by `to`; `None` if there is none.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::new(), 0);
    for found in memmem::find_iter(bytes, from) {
        out.extend_from_slice(bytes.get(at..found)?);
        out.extend_from_slice(to);
        at = found + from.len();
    }
    if at == 0 {
        return None;
    }
    out.extend_from_slice(bytes.get(at..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str) -> HttpRequest {
        HttpRequest {
            method: "POST".into(),
            is_https: true,
            host: host.into(),
            port: 443,
            path: "/?key=@@k@@".into(),
            // `user:@@k@@` in base64.
            headers: vec![
                ("authorization".into(), b"Bearer @@k@@".to_vec()),
                ("proxy-authorization".into(), b"Basic dXNlcjpAQGtAQA==".to_vec()),
            ],
            body: Some(b"@@k@@@@k@@ @@".to_vec()),
            trailers: None,
            connect_timeout: None,
            response_timeout: None,
            between_bytes_timeout: None,
            body_max_bytes: 1,
        }
    }

    fn secret(hosts: Option<&str>) -> Secret {
        let hosts = hosts.map(|text| text.parse().unwrap());
        Secret { placeholder: "@@k@@".into(), value: b"hunter2hunter2".to_vec(), hosts }
    }

    #[test]
    fn a_secret_goes_to_its_host_and_no_other() {
        let mut sent = request("api.example.com");
        assert!(reveal(&mut sent, &[secret(Some("*.example.com"))]));
        assert_eq!(sent.headers[0].1, b"Bearer hunter2hunter2");
        assert_eq!(sent.headers[1].1, b"Basic dXNlcjpodW50ZXIyaHVudGVyMg==");
        assert_eq!(sent.path, "/?key=hunter2hunter2");
        assert_eq!(sent.body.unwrap(), b"hunter2hunter2hunter2hunter2 @@");
        for other in ["example.org", "example.com", "10.0.0.1"] {
            let mut sent = request(other);
            assert!(!reveal(&mut sent, &[secret(Some("*.example.com"))]));
            assert!(sent == request(other));
        }
    }

    #[test]
    fn a_secret_inside_of_another_leaves_nothing_of_it() {
        let of = |placeholder: &str, value: &str| Secret {
            placeholder: placeholder.into(),
            value: value.into(),
            hosts: None,
        };
        let (short, long) = (of("@@s@@", "hunter2hunter2"), of("@@l@@", "user:hunter2hunter2:rest"));
        for secrets in [[short.clone(), long.clone()], [long, short]] {
            let body = b"user:hunter2hunter2:rest hunter2hunter2".to_vec();
            let mut response = HttpResponse { status: 200, headers: Vec::new(), body, trailers: None };
            conceal(&mut response, &secrets);
            assert_eq!(response.body, b"@@l@@ @@s@@");
        }
    }

    #[test]
    fn a_host_may_know_what_it_may_have() {
        assert!(may_know("a.example.com", &[secret(Some("*.example.com"))]));
        assert!(may_know("example.org", &[secret(Some("*.example.com")), secret(None)]));
        assert!(!may_know("example.org", &[secret(Some("*.example.com"))]));
        assert!(!may_know("example.org", &[]));
    }

    #[test]
    fn a_response_that_repeats_a_secret_is_given_with_the_placeholder() {
        let mut response = HttpResponse {
            status: 200,
            headers: vec![
                ("x".into(), b"hunter2hunter2".to_vec()),
                ("basic".into(), b"dXNlcjpodW50ZXIyaHVudGVyMg==".to_vec()),
                ("x-hunter2hunter2".into(), b"1".to_vec()),
            ],
            body: b"you sent hunter2hunter2!".to_vec(),
            trailers: Some(vec![("y".into(), b"hunter2hunter2".to_vec())]),
        };
        conceal(&mut response, &[secret(None)]);
        assert_eq!(response.body, b"you sent @@k@@!");
        assert_eq!(response.headers[0].1, b"@@k@@");
        assert_eq!(response.headers[1].1, b"dXNlcjp@@k@@g==");
        assert_eq!(response.headers.len(), 2);
        assert_eq!(response.trailers.unwrap()[0].1, b"@@k@@");
        assert_eq!(format!("{:?}", secret(None)), "Secret(@@k@@)");
    }
}

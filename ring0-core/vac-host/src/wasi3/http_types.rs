//! Values of `wasi:http/types`: methods, schemes and errors, and which texts are well formed.

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::wire::Wire;

/// `wasi:http/types.method`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum Method {
    #[component(name = "get")]
    Get,
    #[component(name = "head")]
    Head,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "connect")]
    Connect,
    #[component(name = "options")]
    Options,
    #[component(name = "trace")]
    Trace,
    #[component(name = "patch")]
    Patch,
    #[component(name = "other")]
    Other(String),
}

const METHODS: [(&str, Method); 9] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("CONNECT", Method::Connect),
    ("OPTIONS", Method::Options),
    ("TRACE", Method::Trace),
    ("PATCH", Method::Patch),
];

impl Method {
    fn word(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => METHODS.iter().find(|(_, method)| method == known).map_or("", |(word, _)| word),
        }
    }

    fn of(word: &str) -> Self {
        let known = METHODS.into_iter().find(|(known, _)| *known == word);
        known.map_or_else(|| Self::Other(word.to_owned()), |(_, method)| method)
    }

    /// The method, if it is one; `other("GET")` is `get`.
    pub(super) fn checked(self) -> Option<Self> {
        is_token(self.word()).then(|| Self::of(self.word()))
    }
}

/// A method is its word.
impl Wire for Method {
    fn put(&self, to: &mut Writer) {
        to.text(self.word());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::of(&String::read(from)?))
    }
}

/// `wasi:http/types.scheme`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum Scheme {
    #[component(name = "HTTP")]
    Http,
    #[component(name = "HTTPS")]
    Https,
    #[component(name = "other")]
    Other(String),
}

impl Scheme {
    fn word(&self) -> &str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Other(word) => word,
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "http" => Self::Http,
            "https" => Self::Https,
            _ => Self::Other(word.to_owned()),
        }
    }

    /// The scheme, if it is one (RFC 3986, 3.1); the two that are known are known in any case of letters.
    pub(super) fn checked(self) -> Option<Self> {
        let word = self.word();
        let is_known = ["http", "https"].iter().any(|known| word.eq_ignore_ascii_case(known));
        let rest = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        let is_scheme = word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(rest);
        is_scheme.then(|| Self::of(&if is_known { word.to_ascii_lowercase() } else { word.to_owned() }))
    }
}

/// A scheme is its word.
impl Wire for Scheme {
    fn put(&self, to: &mut Writer) {
        to.text(self.word());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::of(&String::read(from)?))
    }
}

/// A token (RFC 9110, 5.6.2): a method, or the name of a field.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The value of a field (RFC 9110, 5.5).
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
}

/// Unreserved characters, sub-delimiters and well-formed escapes (RFC 3986, 2), and what `more` adds.
fn is_uri_text(text: &str, more: &[u8]) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b) || more.contains(&b);
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default();
    let is_escaped = |part: &str| {
        let (escape, rest) = part.as_bytes().split_at_checked(2).unwrap_or_default();
        escape.len() == 2 && escape.iter().all(u8::is_ascii_hexdigit) && rest.iter().all(|b| is_plain(*b))
    };
    first.bytes().all(is_plain) && parts.all(is_escaped)
}

/// A path with or without a query (RFC 3986, 3.3 and 3.4). An escape is not looked into: clients send
/// what is only nearly one.
pub(super) fn is_path(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let is_segments = |text: &str, more: &[u8]| is_uri_text(&text.replace('%', ""), more);
    is_segments(path, b":@/") && is_segments(query, b":@/?")
}

/// `[user@]host[:port]` (RFC 3986, 3.2).
pub(super) fn is_authority(text: &str) -> bool {
    let (user, rest) = text.rsplit_once('@').unwrap_or(("", text));
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, after)) => {
            let is_ip =
                !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
            match after.strip_prefix(':') {
                Some(port) => (is_ip, port),
                None => (is_ip && after.is_empty(), ""),
            }
        }
        None => {
            let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
            (!host.is_empty() && is_uri_text(host, b""), port)
        }
    };
    host && is_uri_text(user, b":") && port.bytes().all(|b| b.is_ascii_digit())
}

/// `wasi:http/types.header-error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum HeaderError {
    #[component(name = "invalid-syntax")]
    InvalidSyntax,
    #[component(name = "forbidden")]
    Forbidden,
    #[component(name = "immutable")]
    Immutable,
    #[component(name = "size-exceeded")]
    SizeExceeded,
    #[component(name = "other")]
    Other(Option<String>),
}

/// An error is its number. Nothing here gives `other` words.
impl Wire for HeaderError {
    fn put(&self, to: &mut Writer) {
        to.uint(match self {
            Self::InvalidSyntax => 0,
            Self::Forbidden => 1,
            Self::Immutable => 2,
            Self::SizeExceeded => 3,
            Self::Other(_) => 4,
        });
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match from.uint()? {
            0 => Self::InvalidSyntax,
            1 => Self::Forbidden,
            2 => Self::Immutable,
            3 => Self::SizeExceeded,
            4 => Self::Other(None),
            other => return Err(from.wrong("0 to 4, for a header error", other)),
        })
    }
}

/// `wasi:http/types.request-options-error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum OptionsError {
    #[component(name = "not-supported")]
    NotSupported,
    #[component(name = "immutable")]
    Immutable,
    #[component(name = "other")]
    Other(Option<String>),
}

/// An error is its number. Nothing here gives `other` words.
impl Wire for OptionsError {
    fn put(&self, to: &mut Writer) {
        to.uint(match self {
            Self::NotSupported => 0,
            Self::Immutable => 1,
            Self::Other(_) => 2,
        });
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match from.uint()? {
            0 => Self::NotSupported,
            1 => Self::Immutable,
            2 => Self::Other(None),
            other => return Err(from.wrong("0 to 2, for an error of options", other)),
        })
    }
}

/// `wasi:http/types.DNS-error-payload`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct DnsErrorPayload {
    rcode: Option<String>,
    #[component(name = "info-code")]
    info_code: Option<u16>,
}

/// `wasi:http/types.TLS-alert-received-payload`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct TlsAlertPayload {
    #[component(name = "alert-id")]
    id: Option<u8>,
    #[component(name = "alert-message")]
    message: Option<String>,
}

/// `wasi:http/types.field-size-payload`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct FieldSizePayload {
    #[component(name = "field-name")]
    name: Option<String>,
    #[component(name = "field-size")]
    size: Option<u32>,
}

/// `wasi:http/types.error-code`. A guest may hand any of them on to another part of itself; this
/// host gives one.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum HttpError {
    #[component(name = "DNS-timeout")]
    DnsTimeout,
    #[component(name = "DNS-error")]
    DnsError(DnsErrorPayload),
    #[component(name = "destination-not-found")]
    DestinationNotFound,
    #[component(name = "destination-unavailable")]
    DestinationUnavailable,
    #[component(name = "destination-IP-prohibited")]
    DestinationIpProhibited,
    #[component(name = "destination-IP-unroutable")]
    DestinationIpUnroutable,
    #[component(name = "connection-refused")]
    ConnectionRefused,
    #[component(name = "connection-terminated")]
    ConnectionTerminated,
    #[component(name = "connection-timeout")]
    ConnectionTimeout,
    #[component(name = "connection-read-timeout")]
    ConnectionReadTimeout,
    #[component(name = "connection-write-timeout")]
    ConnectionWriteTimeout,
    #[component(name = "connection-limit-reached")]
    ConnectionLimitReached,
    #[component(name = "TLS-protocol-error")]
    TlsProtocolError,
    #[component(name = "TLS-certificate-error")]
    TlsCertificateError,
    #[component(name = "TLS-alert-received")]
    TlsAlertReceived(TlsAlertPayload),
    #[component(name = "HTTP-request-denied")]
    RequestDenied,
    #[component(name = "HTTP-request-length-required")]
    RequestLengthRequired,
    #[component(name = "HTTP-request-body-size")]
    RequestBodySize(Option<u64>),
    #[component(name = "HTTP-request-method-invalid")]
    RequestMethodInvalid,
    #[component(name = "HTTP-request-URI-invalid")]
    RequestUriInvalid,
    #[component(name = "HTTP-request-URI-too-long")]
    RequestUriTooLong,
    #[component(name = "HTTP-request-header-section-size")]
    RequestHeaderSectionSize(Option<u32>),
    #[component(name = "HTTP-request-header-size")]
    RequestHeaderSize(Option<FieldSizePayload>),
    #[component(name = "HTTP-request-trailer-section-size")]
    RequestTrailerSectionSize(Option<u32>),
    #[component(name = "HTTP-request-trailer-size")]
    RequestTrailerSize(FieldSizePayload),
    #[component(name = "HTTP-response-incomplete")]
    ResponseIncomplete,
    #[component(name = "HTTP-response-header-section-size")]
    ResponseHeaderSectionSize(Option<u32>),
    #[component(name = "HTTP-response-header-size")]
    ResponseHeaderSize(FieldSizePayload),
    #[component(name = "HTTP-response-body-size")]
    ResponseBodySize(Option<u64>),
    #[component(name = "HTTP-response-trailer-section-size")]
    ResponseTrailerSectionSize(Option<u32>),
    #[component(name = "HTTP-response-trailer-size")]
    ResponseTrailerSize(FieldSizePayload),
    #[component(name = "HTTP-response-transfer-coding")]
    ResponseTransferCoding(Option<String>),
    #[component(name = "HTTP-response-content-coding")]
    ResponseContentCoding(Option<String>),
    #[component(name = "HTTP-response-timeout")]
    ResponseTimeout,
    #[component(name = "HTTP-upgrade-failed")]
    UpgradeFailed,
    #[component(name = "HTTP-protocol-error")]
    ProtocolError,
    #[component(name = "loop-detected")]
    LoopDetected,
    #[component(name = "configuration-error")]
    ConfigurationError,
    #[component(name = "internal-error")]
    InternalError(Option<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_texts_are_taken() {
        for good in ["/", "", "/a/../b", "a/b?c=%20&d", "?foo", "/%"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["/a b", "/a#b", "/\u{e0}", "/\n", "/<"] {
            assert!(!is_path(bad), "{bad}");
        }
        for good in ["1.2.3.4", "a.example:80", "user:pass%20@localhost:80", "[2001:db8::1]", "[::1]:8080"] {
            assert!(is_authority(good), "{good}");
        }
        for bad in
            ["::", ":@", "@@", "@:", " ", "", "#", "localhost:what", "[", "[]", "[::1", "a%2", "[::1]x"]
        {
            assert!(!is_authority(bad), "{bad}");
        }
        for bad in ["", "hey ho", "voil\u{e0}", "(what)", "\"foo\""] {
            assert!(!is_token(bad), "{bad}");
        }
        assert!(is_token("x-#$%&'*+") && is_field_value(b" \t\x80") && !is_field_value(b"\x7f"));
    }

    #[test]
    fn what_is_known_by_another_name_is_known() {
        assert_eq!(Method::Other("GET".into()).checked(), Some(Method::Get));
        assert_eq!(Method::Other("get".into()).checked(), Some(Method::Other("get".into())));
        assert_eq!(Method::Other(String::new()).checked(), None);
        assert_eq!(Scheme::Other("HTTPS".into()).checked(), Some(Scheme::Https));
        assert_eq!(Scheme::Other("a+b".into()).checked(), Some(Scheme::Other("a+b".into())));
        assert_eq!(Scheme::Other("1".into()).checked(), None);
    }
}

//! `wasi:http/types.error-code`, all 39 of its cases.

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::fs;
use crate::http::HttpFailure;
use crate::wire::{Wire, record};

/// `wasi:http/types.DNS-error-payload`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct DnsError {
    rcode: Option<String>,
    #[component(name = "info-code")]
    info_code: Option<u16>,
}
record!(DnsError { rcode, info_code });

/// `wasi:http/types.TLS-alert-received-payload`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct TlsAlert {
    #[component(name = "alert-id")]
    alert_id: Option<u8>,
    #[component(name = "alert-message")]
    alert_message: Option<String>,
}
record!(TlsAlert { alert_id, alert_message });

/// `wasi:http/types.field-size-payload`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct FieldSize {
    #[component(name = "field-name")]
    field_name: Option<String>,
    #[component(name = "field-size")]
    field_size: Option<u32>,
}
record!(FieldSize { field_name, field_size });

/// Defines the variant and its canonical form: `[name]`, or `[name, payload]`.
macro_rules! error_code {
    ($($name:literal => $case:ident $(($payload:ty))?,)*) => {
        /// `wasi:http/types.error-code`.
        #[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
        #[component(variant)]
        pub(crate) enum HttpError {
            $(#[component(name = $name)] $case $(($payload))?,)*
        }

        impl Wire for HttpError {
            fn put(&self, to: &mut Writer) {
                match self {
                    $(error_code!(@pattern payload $case $($payload)?) => {
                        to.array(1 + error_code!(@count $($payload)?));
                        to.text($name);
                        error_code!(@put payload to $($payload)?);
                    })*
                }
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
                from.nested(|r| {
                    let len = r.array()?;
                    match (r.text()?, len) {
                        $(($name, len) if len == 1 + error_code!(@count $($payload)?) => {
                            Ok(error_code!(@read r $case $($payload)?))
                        })*
                        (name, _) => Err(r.wrong("an error code of wasi:http", vac_core::fault::quote(name))),
                    }
                })
            }
            fn revoked() -> Option<Self> {
                Some(Self::HttpRequestDenied)
            }
        }
    };
    (@pattern $p:ident $case:ident) => { Self::$case };
    (@pattern $p:ident $case:ident $payload:ty) => { Self::$case($p) };
    (@count) => { 0 };
    (@count $payload:ty) => { 1 };
    (@put $p:ident $to:ident) => {};
    (@put $p:ident $to:ident $payload:ty) => { $p.put($to) };
    (@read $r:ident $case:ident) => { Self::$case };
    (@read $r:ident $case:ident $payload:ty) => { Self::$case(<$payload>::read($r)?) };
}

error_code! {
    "DNS-timeout" => DnsTimeout,
    "DNS-error" => DnsError(DnsError),
    "destination-not-found" => DestinationNotFound,
    "destination-unavailable" => DestinationUnavailable,
    "destination-IP-prohibited" => DestinationIpProhibited,
    "destination-IP-unroutable" => DestinationIpUnroutable,
    "connection-refused" => ConnectionRefused,
    "connection-terminated" => ConnectionTerminated,
    "connection-timeout" => ConnectionTimeout,
    "connection-read-timeout" => ConnectionReadTimeout,
    "connection-write-timeout" => ConnectionWriteTimeout,
    "connection-limit-reached" => ConnectionLimitReached,
    "TLS-protocol-error" => TlsProtocolError,
    "TLS-certificate-error" => TlsCertificateError,
    "TLS-alert-received" => TlsAlertReceived(TlsAlert),
    "HTTP-request-denied" => HttpRequestDenied,
    "HTTP-request-length-required" => HttpRequestLengthRequired,
    "HTTP-request-body-size" => HttpRequestBodySize(Option<u64>),
    "HTTP-request-method-invalid" => HttpRequestMethodInvalid,
    "HTTP-request-URI-invalid" => HttpRequestUriInvalid,
    "HTTP-request-URI-too-long" => HttpRequestUriTooLong,
    "HTTP-request-header-section-size" => HttpRequestHeaderSectionSize(Option<u32>),
    "HTTP-request-header-size" => HttpRequestHeaderSize(Option<FieldSize>),
    "HTTP-request-trailer-section-size" => HttpRequestTrailerSectionSize(Option<u32>),
    "HTTP-request-trailer-size" => HttpRequestTrailerSize(FieldSize),
    "HTTP-response-incomplete" => HttpResponseIncomplete,
    "HTTP-response-header-section-size" => HttpResponseHeaderSectionSize(Option<u32>),
    "HTTP-response-header-size" => HttpResponseHeaderSize(FieldSize),
    "HTTP-response-body-size" => HttpResponseBodySize(Option<u64>),
    "HTTP-response-trailer-section-size" => HttpResponseTrailerSectionSize(Option<u32>),
    "HTTP-response-trailer-size" => HttpResponseTrailerSize(FieldSize),
    "HTTP-response-transfer-coding" => HttpResponseTransferCoding(Option<String>),
    "HTTP-response-content-coding" => HttpResponseContentCoding(Option<String>),
    "HTTP-response-timeout" => HttpResponseTimeout,
    "HTTP-upgrade-failed" => HttpUpgradeFailed,
    "HTTP-protocol-error" => HttpProtocolError,
    "loop-detected" => LoopDetected,
    "configuration-error" => ConfigurationError,
    "internal-error" => InternalError(Option<String>),
}

impl From<HttpFailure> for HttpError {
    fn from(failure: HttpFailure) -> Self {
        match failure {
            HttpFailure::Dns => Self::DnsError(DnsError { rcode: None, info_code: None }),
            HttpFailure::Prohibited(_) => Self::DestinationIpProhibited,
            HttpFailure::Refused => Self::ConnectionRefused,
            HttpFailure::ConnectTimeout => Self::ConnectionTimeout,
            HttpFailure::ResponseTimeout => Self::HttpResponseTimeout,
            HttpFailure::ReadTimeout => Self::ConnectionReadTimeout,
            HttpFailure::Terminated => Self::ConnectionTerminated,
            HttpFailure::Tls => Self::TlsProtocolError,
            HttpFailure::Certificate => Self::TlsCertificateError,
            HttpFailure::Protocol => Self::HttpProtocolError,
            HttpFailure::BodyTooLarge => Self::HttpResponseBodySize(None),
            HttpFailure::Other => Self::InternalError(None),
        }
    }
}

impl From<fs::ErrorCode> for HttpError {
    fn from(_: fs::ErrorCode) -> Self {
        Self::InternalError(None)
    }
}

//! Values of `wasi:http/types`: errors of fields and options, and which texts are well formed.

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::wire::Wire;

/// A token (RFC 9110, 5.6.2): a method, or the name of a field.
pub(crate) fn is_token(text: &str) -> bool {
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
/// what is only nearly one, and these characters as they are, `?page[size]=10`, and all that are not of ASCII.
pub(super) fn is_path(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let is_segments =
        |text: &str, more: &[u8]| is_uri_text(&text.replace(|c: char| c == '%' || !c.is_ascii(), ""), more);
    is_segments(path, b":@/\"[]\\^{|}") && is_segments(query, b":@/?\"[]\\^{|}")
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
    let is_port =
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    host && is_uri_text(user, b":") && is_port
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasi::http_values::{Method, Scheme};

    #[test]
    fn only_well_formed_texts_are_taken() {
        for good in [
            "/",
            "",
            "/a/../b",
            "a/b?c=%20&d",
            "?foo",
            "/%",
            "/x?page[size]=10",
            "/a|b",
            "/?q={\"a\":1}",
            "/\u{e0}?\u{3ff}",
        ] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["/a b", "/a#b", "/\u{7f}", "/\n", "/<"] {
            assert!(!is_path(bad), "{bad}");
        }
        for good in ["1.2.3.4", "a.example:80", "user:pass%20@localhost:80", "[2001:db8::1]", "[::1]:8080"] {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "::",
            ":@",
            "@@",
            "@:",
            " ",
            "",
            "#",
            "localhost:what",
            "a:65536",
            "[",
            "[]",
            "[::1",
            "a%2",
            "[::1]x",
        ] {
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

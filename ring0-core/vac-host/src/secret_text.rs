//! How a secret is written where it cannot stand as it is: in base64, in a URL, in JSON.
//!
//! On the way out a placeholder is found in the words of basic authentication, which are base64, and a
//! value is put into a URL as URLs have it. On the way back a server may repeat what it heard in any of
//! these forms, so each is looked for.

/// What base64 is written in (RFC 4648, sections 4 and 5).
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";
/// Shorter forms could stand somewhere by chance.
const FORM_MIN_BYTES: usize = 8;
/// How the words of basic authentication begin (RFC 7617), whatever the case.
const BASIC: &[u8] = b"basic ";

/// All forms of `value` that are looked for, the longest first, so that none is found inside of another.
pub(crate) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let hex = |alphabet: &[u8; 16]| {
        value.iter().flat_map(|b| [digit(alphabet, b >> 4), digit(alphabet, b & 15)]).collect::<Vec<_>>()
    };
    let mut all = vec![value.to_vec()];
    for digits in [LOWER, UPPER] {
        all.extend(URL_STYLES.iter().map(|style| escaped(value, style, digits)));
        all.extend(json_styles(digits).map(|style| in_json(value, &style)));
    }
    all.extend([hex(LOWER), hex(UPPER)]);
    for alphabet in [STANDARD, URL_SAFE] {
        all.extend((0..3).map(|before| inside_base64(value, before, alphabet)));
    }
    all.retain(|form| form.len() >= FORM_MIN_BYTES.min(value.len()));
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

/// The words of basic authentication with `change` made to the text that they encode; `None` if `header`
/// is something else, or `change` makes none.
pub(crate) fn change_basic(header: &[u8], change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (word, rest) = header.split_at_checked(BASIC.len())?;
    if !word.eq_ignore_ascii_case(BASIC) {
        return None;
    }
    let changed = change(&decode(rest.trim_ascii())?)?;
    Some([word, &encode(&changed, STANDARD, true)].concat())
}

/// What escaping for a URL leaves as it is besides letters and digits, and whether a space becomes `+`.
struct UrlStyle {
    kept: &'static [u8],
    has_plus: bool,
}

/// Unreserved characters (RFC 3986, 2.3).
const STRICT: UrlStyle = UrlStyle { kept: b"-._~", has_plus: false };
/// The ways that are common: strict, that of a path, `encodeURIComponent`, `encodeURI`, and three of forms.
const URL_STYLES: [UrlStyle; 7] = [
    STRICT,
    UrlStyle { kept: b"-._~/", has_plus: false },
    UrlStyle { kept: b"-._~!*'()", has_plus: false },
    UrlStyle { kept: b"-._~!*'();/?:@&=+$,#", has_plus: false },
    UrlStyle { kept: b"*-._", has_plus: true },
    UrlStyle { kept: b"-._~", has_plus: true },
    UrlStyle { kept: b"-._", has_plus: true },
];

/// `bytes` as a URL may have them anywhere: all but letters, digits and `-._~` as `%XX` (RFC 3986, 2.1).
pub(crate) fn in_url(bytes: &[u8]) -> Vec<u8> {
    escaped(bytes, &STRICT, UPPER)
}

fn escaped(bytes: &[u8], style: &UrlStyle, digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::new();
    for b in bytes {
        match b {
            b' ' if style.has_plus => out.push(b'+'),
            b if b.is_ascii_alphanumeric() || style.kept.contains(b) => out.push(*b),
            b => out.extend([b'%', digit(digits, b >> 4), digit(digits, b & 15)]),
        }
    }
    out
}

/// How text is written between the quotes of JSON.
struct JsonStyle {
    /// Whether `/` is `\/`.
    has_slash: bool,
    /// Whether all but ASCII is escaped.
    is_ascii: bool,
    /// Characters that are escaped though they need not be, or need not be so.
    more: &'static str,
    digits: &'static [u8; 16],
}

/// Nothing; what would matter inside of HTML; that and more as two common writers have it.
const JSON_ESCAPED: [&str; 4] = ["", "&<>", "&<>'=", "&<>'\"+`"];

fn json_styles(digits: &'static [u8; 16]) -> impl Iterator<Item = JsonStyle> {
    let with = move |more, [has_slash, is_ascii]: [bool; 2]| JsonStyle { has_slash, is_ascii, more, digits };
    let flags = [[false, false], [false, true], [true, false], [true, true]];
    JSON_ESCAPED.into_iter().flat_map(move |more| flags.map(|flags| with(more, flags)))
}

/// Text as JSON has it between its quotes. Bytes that are no text stay.
fn in_json(bytes: &[u8], style: &JsonStyle) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| put_json(&mut out, c, style));
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn put_json(out: &mut Vec<u8>, c: char, style: &JsonStyle) {
    let short = match c {
        c if style.more.contains(c) => None,
        '"' | '\\' => Some(c),
        '/' if style.has_slash => Some(c),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\u{8}' => Some('b'),
        '\u{c}' => Some('f'),
        _ => None,
    };
    let is_long = c < ' ' || style.more.contains(c) || style.is_ascii && c > '~';
    let mut room = [0; 4];
    match short {
        Some(short) => out.extend([b'\\', short as u8]),
        None if is_long => put_units(out, c, style.digits),
        None => out.extend_from_slice(c.encode_utf8(&mut room).as_bytes()),
    }
}

/// `\uXXXX`, twice for characters that UTF-16 has as two.
fn put_units(out: &mut Vec<u8>, c: char, digits: &[u8; 16]) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        out.extend([12_u32, 8, 4, 0].map(|shift| digit(digits, (*unit >> shift & 15) as u8)));
    }
}

/// The characters that base64 has for `value` wherever it stands after `before` other bytes of three: those
/// that depend on what stands around it are left out.
fn inside_base64(value: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let all = encode(&[&vec![0; before], value].concat(), alphabet, false);
    // A character has six bits; those of the bytes before reach into the first ones.
    let (start, end) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
    all.get(start..end).unwrap_or_default().to_vec()
}

fn encode(bytes: &[u8], alphabet: &[u8; 64], is_padded: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        let chars = (0..4).map(|i| digit(alphabet, (bits >> (18 - 6 * i) & 63) as u8));
        out.extend(chars.take(group.len() + 1));
        if is_padded {
            out.resize(out.len().next_multiple_of(4), b'=');
        }
    }
    out
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for (i, c) in (0..4).map(|i| (i, group.get(i))) {
            let value = match c {
                Some(c) => STANDARD.iter().position(|known| known == c)?,
                None => 0,
            };
            bits |= (value as u32) << (18 - 6 * i);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.extend(bytes.iter().take(group.len().checked_sub(1).filter(|n| *n > 0)?));
    }
    Some(out)
}

fn digit<const N: usize>(alphabet: &[u8; N], value: u8) -> u8 {
    alphabet.get(usize::from(value)).copied().unwrap_or(b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(encode(plain.as_bytes(), STANDARD, true), coded.as_bytes());
            assert_eq!(decode(coded.as_bytes()).unwrap(), plain.as_bytes());
        }
        for bad in ["Z", "Zm9v!", "Zm=v", "Zm9vY"] {
            assert!(decode(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_value_is_found_in_every_form_wherever_it_stands() {
        let value = b"hunter2 \"+/&\xff-hunter2";
        let forms = forms(value);
        for before in ["", "u", "us", "user:", "a longer name:"] {
            for after in ["", ".", "..", ":more"] {
                let text = [before.as_bytes(), value, after.as_bytes()].concat();
                for alphabet in [STANDARD, URL_SAFE] {
                    let coded = encode(&text, alphabet, true);
                    let found = forms.iter().any(|form| memchr::memmem::find(&coded, form).is_some());
                    assert!(found, "{before} {after}");
                }
            }
        }
        assert!(
            forms
                .iter()
                .any(|form| form.starts_with(b"hunter2%20%22%2B%2f")
                    || form.starts_with(b"hunter2%20%22%2B%2F"))
        );
        assert!(forms.is_sorted_by(|a, b| a.len() >= b.len()));
    }

    #[test]
    fn a_value_is_found_as_urls_and_json_have_it() {
        let forms = forms("p/w &<é\u{1f511}\u{1}\"(x)".as_bytes());
        for form in [
            r#"p%2Fw%20%26%3C%C3%A9%F0%9F%94%91%01%22%28x%29"#,
            r#"p%2fw+%26%3c%c3%a9%f0%9f%94%91%01%22%28x%29"#,
            r#"p%2Fw%20%26%3C%C3%A9%F0%9F%94%91%01%22(x)"#,
            r#"p/w &<é🔑\u0001\"(x)"#,
            r#"p\/w &<é🔑\u0001\"(x)"#,
            r#"p/w \u0026\u003cé🔑\u0001\"(x)"#,
            r#"p\/w \u0026\u003C\u00E9\uD83D\uDD11\u0001\"(x)"#,
            r#"p/w &<\u00e9\ud83d\udd11\u0001\"(x)"#,
            r#"p/w \u0026\u003C\u00E9\uD83D\uDD11\u0001\u0022(x)"#,
        ] {
            assert!(forms.iter().any(|own| own == form.as_bytes()), "{form}");
        }
        assert!(forms.is_sorted_by(|a, b| (b.len(), a) < (a.len(), b)), "the longest first, each once");
    }

    #[test]
    fn only_basic_authentication_is_looked_into() {
        let upper = |bytes: &[u8]| Some(bytes.to_ascii_uppercase());
        assert_eq!(change_basic(b"Basic dTpw", upper).unwrap(), b"Basic VTpQ");
        assert_eq!(change_basic(b"bAsIc dTpw", upper).unwrap(), b"bAsIc VTpQ");
        for other in [&b"Bearer dTpw"[..], b"Basic", b"Basic !!", b""] {
            assert!(change_basic(other, upper).is_none());
        }
    }
}

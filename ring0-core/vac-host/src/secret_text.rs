//! How a secret is written where it cannot stand as it is: in base64, in a URL, in JSON.
//!
//! On the way out a placeholder is found in the words of basic authentication, which are base64, and a
//! value is put into a URL as URLs have it. On the way back a server may repeat what it heard in any of
//! these forms, so each is looked for.

/// What base64 is written in (RFC 4648, sections 4 and 5).
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Shorter forms could stand somewhere by chance.
const FORM_MIN_BYTES: usize = 8;
/// How the words of basic authentication begin (RFC 7617), whatever the case.
const BASIC: &[u8] = b"basic ";

/// All forms of `value` that are looked for, the longest first, so that none is found inside of another.
pub(crate) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let hex = |alphabet: &[u8; 16]| {
        value.iter().flat_map(|b| [digit(alphabet, b >> 4), digit(alphabet, b & 15)]).collect::<Vec<_>>()
    };
    let mut all = vec![value.to_vec(), in_url(value, false), in_url(value, true), in_json(value)];
    all.extend([hex(b"0123456789abcdef"), hex(b"0123456789ABCDEF")]);
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

/// `bytes` as a URL may have them anywhere: all but letters, digits and `-._~` as `%XX` (RFC 3986, 2.1).
pub(crate) fn in_url(bytes: &[u8], lower: bool) -> Vec<u8> {
    let digits = if lower { b"0123456789abcdef" } else { b"0123456789ABCDEF" };
    let mut out = Vec::new();
    for b in bytes {
        match b {
            b'-' | b'.' | b'_' | b'~' => out.push(*b),
            b if b.is_ascii_alphanumeric() => out.push(*b),
            b => out.extend([b'%', digit(digits, b >> 4), digit(digits, b & 15)]),
        }
    }
    out
}

/// Text as JSON has it between its quotes.
fn in_json(bytes: &[u8]) -> Vec<u8> {
    let escaped = |b: &u8| match b {
        b'"' | b'\\' => vec![b'\\', *b],
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        b'\t' => b"\\t".to_vec(),
        b => vec![*b],
    };
    bytes.iter().flat_map(escaped).collect()
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
    fn only_basic_authentication_is_looked_into() {
        let upper = |bytes: &[u8]| Some(bytes.to_ascii_uppercase());
        assert_eq!(change_basic(b"Basic dTpw", upper).unwrap(), b"Basic VTpQ");
        assert_eq!(change_basic(b"bAsIc dTpw", upper).unwrap(), b"bAsIc VTpQ");
        for other in [&b"Bearer dTpw"[..], b"Basic", b"Basic !!", b""] {
            assert!(change_basic(other, upper).is_none());
        }
    }
}

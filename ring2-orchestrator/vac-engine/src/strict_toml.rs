//! TOML that others wrote: bounded, with the line of what is wrong, and with nothing of it reaching a
//! terminal as it is.

use std::ops::Range;

use serde::de::DeserializeOwned;
use vac_core::fault::{Error, Result, Usage, is_hidden, quote, quote_line};

/// The only version of the files that are read here.
pub(crate) const VERSION: i64 = 1;
/// Words that differ in more letters than this are not taken for each other.
const DISTANCE_MAX: usize = 2;

/// A text and where it is from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    text: &'a str,
    place: &'a str,
}

#[derive(serde::Deserialize)]
struct Versioned {
    version: Option<toml::Spanned<i64>>,
}

impl<'a> Source<'a> {
    /// Takes `bytes`, of which there may be `max`; `place` says in errors where they are from.
    pub(crate) fn new(bytes: &'a [u8], place: &'a str, max: usize) -> Result<Self> {
        if bytes.len() > max {
            let message = format!("{} has {} bytes; the limit is {max}", quoted(place), bytes.len());
            return Err(Usage::new(message).into());
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|e| Usage::new(format!("{} is not text: {e}", quoted(place))))?;
        Ok(Self { text, place })
    }

    /// Reads the whole text. A version that is not ours is told before anything else.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T> {
        let versioned: Versioned = toml::from_str(self.text).map_err(|e| self.not_toml(&e))?;
        match versioned.version {
            Some(version) if *version.get_ref() == VERSION => {}
            Some(version) => {
                let message = format!("version {} is not known: expected {VERSION}", version.get_ref());
                return Err(self.error(version.span(), &message).into());
            }
            None => {
                let usage = self.error(0..0, "there is no version");
                return Err(usage.hint(format!("begin with `version = {VERSION}`")).into());
            }
        }
        toml::from_str(self.text).map_err(|e| self.not_toml(&e))
    }

    /// What is wrong at `span`.
    pub(crate) fn error(self, span: Range<usize>, message: &str) -> Usage {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Usage::new(format!("{} line {line}, column {column}: {message}", quoted(self.place)))
    }

    /// An error of what stands at `span`, with its place in front.
    pub(crate) fn inside(self, span: Range<usize>, error: Error) -> Error {
        match error {
            Error::Usage(usage) => Usage { hint: usage.hint, ..self.error(span, &usage.message) }.into(),
            other => other,
        }
    }

    fn not_toml(self, error: &toml::de::Error) -> Error {
        let message = quote_line(vac_core::fault::cut(error.message(), 400));
        let usage = self.error(error.span().unwrap_or(0..0), &message);
        match meant(error.message()) {
            Some(word) => usage.hint(format!("did you mean `{}`?", quote(word))).into(),
            None => usage.into(),
        }
    }
}

/// A place as errors name it.
pub(crate) fn quoted(place: &str) -> String {
    format!("`{}`", quote_line(place))
}

/// In "unknown field `grnt`, expected `grant` or `why`", the word that was probably meant.
fn meant(message: &str) -> Option<&str> {
    let mut words = message.strip_prefix("unknown field `")?.split('`').step_by(2);
    let typed = words.next()?;
    nearest(typed, words)
}

/// The word most like `typed`, if one is.
pub(crate) fn nearest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let distance = |word: &str| strsim::osa_distance(&typed.chars().take(32).collect::<String>(), word);
    words
        .map(|word| (distance(word), word))
        .filter(|(far, _)| *far <= DISTANCE_MAX)
        .min()
        .map(|(_, word)| word)
}

/// The inside of a basic string of TOML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_hidden(c) => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

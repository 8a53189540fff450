//! What an operator allows, kept in a file: `--grants FILE`. Its paths are seen from its own folder.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use vac_core::fault::{HostAbort, Result, Usage};

use crate::grants::Grant;
use crate::strict_toml::Source;

/// The longest such file.
const GRANTS_FILE_MAX_BYTES: usize = 256 << 10;

/// What such a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantsFile {
    /// What is allowed.
    pub grants: Vec<Grant>,
    /// Ticks of all kernels.
    pub ticks: Option<u64>,
    /// Bytes of linear memory.
    pub memory_bytes: Option<u64>,
    /// Wall time.
    pub time: Option<Duration>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    grant: Vec<Entry>,
    #[serde(default)]
    limits: Limits,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    allow: Spanned<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Limits {
    ticks: Option<u64>,
    memory: Option<Spanned<String>>,
    time: Option<Spanned<String>>,
}

impl GrantsFile {
    /// Reads the file at `path`. `env` looks up a variable of the operator.
    pub fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let bytes = read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&bytes, &path.display().to_string(), folder, env)
    }

    /// Reads `bytes`, which are from `place`, with paths seen from `folder`.
    pub fn parse(
        bytes: &[u8],
        place: &str,
        folder: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let source = Source::new(bytes, place, GRANTS_FILE_MAX_BYTES)?;
        let file: File = source.read()?;
        let grant = |entry: &Entry| {
            let parsed = Grant::parse(entry.allow.get_ref(), env);
            parsed.map(|grant| grant.seen_from(folder)).map_err(|e| source.inside(entry.allow.span(), e))
        };
        let grants = file.grant.iter().map(grant).collect::<Result<_>>()?;
        let memory = |text: &str| text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
        let time = |text: &str| humantime::parse_duration(text).ok();
        Ok(Self {
            grants,
            ticks: file.limits.ticks,
            memory_bytes: unit(source, file.limits.memory, "a size like \"512MiB\"", memory)?,
            time: unit(source, file.limits.time, "a duration like \"30s\"", time)?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| -> vac_core::fault::Error {
        match e.kind() {
            std::io::ErrorKind::NotFound => {
                Usage::new(format!("there is no file `{}`", path.display())).into()
            }
            _ => HostAbort { hint: None, ..HostAbort::io("read", path.display(), &e) }.into(),
        }
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(GRANTS_FILE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn unit<T>(
    source: Source<'_>,
    text: Option<Spanned<String>>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    match parse(text.get_ref()) {
        Some(value) => Ok(Some(value)),
        None => Err(source.error(text.span(), &format!("expected {expected}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GrantsFile> {
        GrantsFile::parse(text.as_bytes(), "g.toml", Path::new("/etc/vac"), &|_| Some("v".into()))
    }

    #[test]
    fn paths_are_seen_from_the_folder_of_the_file() {
        let file = parse(
            "version = 1\n[[grant]]\nallow = \"dir:ro=data\"\n[limits]\nticks = 5\nmemory = \"1MiB\"\ntime = \"2s\"",
        );
        let file = file.unwrap();
        assert_eq!(file.grants[0].host_path(), Some(Path::new("/etc/vac/data")));
        assert_eq!(file.grants[0].text(), "dir:ro=data");
        assert_eq!((file.ticks, file.memory_bytes), (Some(5), Some(1 << 20)));
        assert_eq!(file.time, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let table = [
            ("version = 1\n[limits]\nmemory = \"much\"", "line 3, column 10: expected a size"),
            ("version = 1\n[limits]\ntick = 5", "unknown field `tick`"),
            ("version = 1\n[[grant]]\nallow = \"dir=data\"", "line 3, column 9: `dir=data` is not a grant"),
            ("version = 1\n[[ask]]\ngrant = \"stdin\"", "unknown field `ask`"),
            ("version = 1\n[limits]\nticks = -1", "line 3"),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

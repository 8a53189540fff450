//! One tier as it is typed and as the list has it: [`Spec`]; and as it is meant: [`Named`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vac_core::fault::{HostAbort, Result, Usage, quote};

/// The longest name, prefix, endpoint or place of a key.
const TEXT_MAX_BYTES: usize = 1024;
const NAME_MAX_BYTES: usize = 64;
/// The longest key.
const KEY_MAX_BYTES: u64 = 16 << 10;
const PREFIX: &str = "vac";
const REGION: &str = "us-east-1";
const ATTEMPTS_MAX: u32 = 20;
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// What is read if nothing else is named: what other tools of S3 read, too.
const VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// A tier in words. Nothing of it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What it is called.
    pub name: String,
    /// Where it is: `file:///FOLDER`, `s3://BUCKET/PREFIX` or `memory:`.
    pub url: String,
    /// The server that speaks S3, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Where the name of the key is: `env:VAR` or `file:PATH`.
    pub key_id: Option<String>,
    /// Where the key is.
    pub secret: Option<String>,
    /// Where the token is of a key that was lent.
    pub token: Option<String>,
    /// How often one thing is asked for.
    pub attempts: Option<u32>,
    /// How long one attempt may take.
    pub timeout: Option<String>,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// How often one thing is asked for, unless that is left to who asks.
    pub attempts_max: Option<u32>,
    /// How long one attempt may take, unless that is left to who asks.
    pub timeout: Option<Duration>,
    /// As it was said.
    pub spec: Spec,
}

/// Where a tier is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this process, and gone with it.
    Memory,
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of S3.
    Bucket(Bucket),
}

/// A bucket, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub bucket: String,
    /// Before all names in it.
    pub prefix: String,
    /// The server, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// Where the name of the key is.
    pub key_id: KeySource,
    /// Where the key is.
    pub secret: KeySource,
    /// Where the token is. One that is not set is none, unless it was named.
    pub token: Option<KeySource>,
}

/// Where a part of a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a variable of the operator's environment.
    Variable(String),
    /// In a file of its own.
    File(PathBuf),
}

impl Spec {
    /// Checks what was said.
    pub fn check(&self) -> Result<Named> {
        check_name(&self.name)?;
        let place = if self.url == "memory:" {
            self.check_no_bucket(Place::Memory)?
        } else if let Some(path) = self.url.strip_prefix("file://") {
            self.check_no_bucket(Place::Folder(folder(path)?))?
        } else if let Some(rest) = self.url.strip_prefix("s3://") {
            Place::Bucket(self.bucket(rest)?)
        } else {
            let message = "a tier is at `file:///FOLDER`, `s3://BUCKET/PREFIX` or `memory:`";
            return Err(Usage::new(message).hint("`vac tier add --help` has an example of each").into());
        };
        let timeout = self.timeout.as_deref().map(timeout).transpose()?;
        if let Some(bad) = self.attempts.filter(|n| !(1..=ATTEMPTS_MAX).contains(n)) {
            return Err(Usage::new(format!("{bad} attempts: expected 1 to {ATTEMPTS_MAX}")).into());
        }
        Ok(Named { name: self.name.clone(), place, attempts_max: self.attempts, timeout, spec: self.clone() })
    }

    fn check_no_bucket(&self, place: Place) -> Result<Place> {
        let of_buckets = [&self.endpoint, &self.region, &self.key_id, &self.secret, &self.token];
        if of_buckets.iter().any(|said| said.is_some()) {
            let message = format!("the tier `{}` is no bucket: it has no endpoint, region or key", self.name);
            return Err(Usage::new(message).into());
        }
        Ok(place)
    }

    fn bucket(&self, rest: &str) -> Result<Bucket> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_bucket) {
            let message = "the name of a bucket has 3 to 63 letters, digits, `-`, `_` and `.`";
            return Err(Usage::new(message).into());
        }
        let region = self.region.clone().unwrap_or_else(|| REGION.to_owned());
        if region.len() > NAME_MAX_BYTES || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Usage::new("the name of a region has letters, digits and `-`").into());
        }
        let [key_id, secret, token] = VARIABLES.map(|name| KeySource::Variable(name.to_owned()));
        let source = |said: &Option<String>, otherwise| match said {
            Some(text) => KeySource::parse(text),
            None => Ok(otherwise),
        };
        // A token of the environment belongs to its key alone.
        let is_env = self.key_id.is_none() && self.secret.is_none();
        let token = match &self.token {
            None => is_env.then_some(token),
            Some(text) => Some(KeySource::parse(text)?),
        };
        Ok(Bucket {
            bucket: bucket.to_owned(),
            prefix: check_prefix(prefix)?,
            endpoint: self.endpoint.as_deref().map(check_endpoint).transpose()?,
            region,
            key_id: source(&self.key_id, key_id)?,
            secret: source(&self.secret, secret)?,
            token,
        })
    }
}

impl Named {
    /// Where errors say it is.
    pub fn shown(&self) -> String {
        match &self.spec.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", self.spec.url),
            None => self.spec.url.clone(),
        }
    }
}

impl KeySource {
    /// Reads `env:VAR` or `file:PATH`. What is neither may be a key, and is not repeated.
    fn parse(text: &str) -> Result<Self> {
        let is_variable = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && name.len() <= 256 && name.bytes().all(is_variable) => {
                Ok(Self::Variable(name.to_owned()))
            }
            Some(("file", path)) if path.starts_with('/') && path.len() <= TEXT_MAX_BYTES => {
                Ok(Self::File(path.into()))
            }
            _ => Err(Usage::new("a key of a tier is not said itself, but where it is")
                .hint("expected env:VAR, or file: and the path of a file from the root on")
                .into()),
        }
    }

    /// What stands there, without line ends behind it; `None` for a variable that is not set,
    /// or is empty.
    pub fn read(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
        let value = match self {
            Self::Variable(name) => env(name).filter(|value| !value.is_empty()),
            Self::File(path) => Some(read_key(path)?),
        };
        let Some(value) = value else { return Ok(None) };
        let value = value.trim_end_matches(['\r', '\n']);
        let is_sendable = |b: u8| b.is_ascii_graphic();
        if value.is_empty() || !value.bytes().all(is_sendable) {
            let message = format!("what {self} holds is no key: expected letters, digits and signs");
            return Err(Usage::new(message).into());
        }
        Ok(Some(value.to_owned()))
    }

    /// The same, where there must be one.
    pub fn read_some(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        self.read(env)?.ok_or_else(|| {
            let hint = "set it, or name another place with `vac tier add --key-id`, `--secret`";
            Usage::new(format!("{self} is not set")).hint(hint).into()
        })
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable `{name}`"),
            Self::File(path) => write!(f, "the file `{}`", path.display()),
        }
    }
}

fn read_key(path: &Path) -> Result<String> {
    use std::io::Read;
    let failed = |e| HostAbort::io("read", path.display(), &e);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut value = Vec::new();
    file.take(KEY_MAX_BYTES + 1).read_to_end(&mut value).map_err(failed)?;
    let is_long = value.len() as u64 > KEY_MAX_BYTES;
    String::from_utf8(value).ok().filter(|_| !is_long).ok_or_else(|| {
        let message =
            format!("`{}` is no key: expected text of at most {KEY_MAX_BYTES} bytes", path.display());
        Usage::new(message).into()
    })
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !name.is_empty() && name.len() <= NAME_MAX_BYTES && name.bytes().all(is_good) {
        return Ok(());
    }
    let hint = format!("expected at most {NAME_MAX_BYTES} letters, digits, `-` and `_`");
    Err(Usage::new(format!("`{}` is no name of a tier", quote(name))).hint(hint).into())
}

fn folder(path: &str) -> Result<PathBuf> {
    let is_whole = path.starts_with('/') && path.len() <= TEXT_MAX_BYTES && !path.contains('\0');
    match is_whole && !Path::new(path).components().any(|part| part == std::path::Component::ParentDir) {
        true => Ok(path.into()),
        false => {
            Err(Usage::new("the folder of a tier is named from the root on, like file:///mnt/pages").into())
        }
    }
}

fn check_prefix(prefix: &str) -> Result<String> {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return Ok(PREFIX.to_owned());
    }
    let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    if prefix.len() <= TEXT_MAX_BYTES && prefix.bytes().all(is_good) && prefix.split('/').all(is_part) {
        return Ok(prefix.to_owned());
    }
    Err(Usage::new("what is before the names in a bucket has letters, digits, `-`, `_`, `.` and `/`").into())
}

/// What is no endpoint may have a key in it, and is not repeated.
fn check_endpoint(endpoint: &str) -> Result<String> {
    let endpoint = endpoint.trim_end_matches('/');
    let at = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match at {
        Some(at) if at.len() <= 300 && is_host_and_port(at) => Ok(endpoint.to_owned()),
        _ => Err(Usage::new(
            "an endpoint is `https://HOST[:PORT]`, or `http://HOST[:PORT]` without encryption",
        )
        .into()),
    }
}

/// `HOST` or `HOST:PORT`. The client of a store panics over what is neither.
fn is_host_and_port(text: &str) -> bool {
    let (is_good, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) => (host.parse::<Ipv6Addr>().is_ok(), port),
        Some(None) => return false,
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_host(host), port)
        }
    };
    is_good && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// A name, or four numbers: what ends with a number is read as an address.
fn is_host(text: &str) -> bool {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let is_part = |part: &str| (1..=63).contains(&part.len()) && part.bytes().all(is_good);
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number =
        last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    match is_number {
        true => text.parse::<Ipv4Addr>().is_ok(),
        false => name.split('.').all(is_part),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn timeout(text: &str) -> Result<Duration> {
    let bounds = Duration::from_millis(1)..=TIMEOUT_MAX;
    humantime::parse_duration(text).ok().filter(|time| bounds.contains(time)).ok_or_else(|| {
        let message = format!("`{}` is no timeout of a tier", quote(text));
        Usage::new(message).hint("expected 1ms to 10m, for example 30s").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str) -> Spec {
        Spec { name: "t".into(), url: url.into(), ..Spec::default() }
    }

    #[test]
    fn places_are_folders_and_buckets() {
        assert_eq!(spec("memory:").check().unwrap().place, Place::Memory);
        assert_eq!(spec("file:///a/b").check().unwrap().place, Place::Folder("/a/b".into()));
        let Place::Bucket(bucket) = spec("s3://pages/a/b/").check().unwrap().place else { panic!() };
        assert_eq!((bucket.bucket.as_str(), bucket.prefix.as_str()), ("pages", "a/b"));
        assert_eq!(bucket.secret, KeySource::Variable("AWS_SECRET_ACCESS_KEY".into()));
        for bad in
            ["", "pages", "file://a", "file:///a/../b", "s3://", "s3://a", "s3://pages/../x", "s3://pages//x"]
        {
            assert!(spec(bad).check().is_err(), "{bad}");
        }
        let https = Spec { endpoint: Some("https://h:1".into()), ..spec("s3://pages") };
        assert_eq!(https.check().unwrap().shown(), "s3://pages at https://h:1");
        assert!(Spec { endpoint: Some("https://h:1".into()), ..spec("file:///a") }.check().is_err());
    }

    /// `http://h:99999` and `http://[zz]` were taken, and the first request to them panicked.
    #[test]
    fn an_endpoint_is_a_host_and_a_port_that_there_can_be() {
        for good in [
            "http://h",
            "https://s3.lab:9000/",
            "http://h.:1",
            "http://3fa2:80",
            "http://127.0.0.1:65535",
            "http://[::1]",
            "http://[::1]:9",
        ] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        let bads = "http:// h http://h: http://h:0 http://h:99999 http://h:+1 http://h:1:2 http://:1 http://[zz] \
                    http://[::1 http://[::1]1 http://::1 http://[1.2.3.4] http://h] http://1.2.3.999 http://1.2.3 \
                    http://h.0x1 http://a..b http://h/x http://u@h http://h?x";
        for bad in bads.split_ascii_whitespace() {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_repeated() {
        let key = Some("hunter2hunter2".to_owned());
        let url = Some("https://user:hunter2@host".to_owned());
        let bads = [
            Spec { secret: key.clone(), ..spec("s3://pages") },
            Spec { key_id: key.clone(), ..spec("s3://pages") },
            Spec { token: key, ..spec("s3://pages") },
            Spec { endpoint: url, ..spec("s3://pages") },
            spec("s3://hunter2:hunter2@pages/x"),
            spec("hunter2"),
        ];
        for bad in bads {
            let error = bad.check().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let env = |_: &str| Some("hunter2 hunter2\u{7f}".to_owned());
        let error = KeySource::Variable("K".into()).read(&env).unwrap_err().to_string();
        assert!(error.contains("`K`") && !error.contains("hunter2"), "{error}");
        let env = |_: &str| Some("hunter2\n".to_owned());
        assert_eq!(KeySource::Variable("K".into()).read_some(&env).unwrap(), "hunter2");
        assert!(
            KeySource::Variable("K".into()).read_some(&|_| None).unwrap_err().to_string().contains("not set")
        );
    }
}

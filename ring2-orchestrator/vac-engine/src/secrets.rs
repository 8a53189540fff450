//! Secrets: values that a guest may use in a request and never sees.
//!
//! `NAME=env:VAR`, `NAME=file:PATH`, and `@HOST` after it to bind the secret to hosts. Line ends at the end of
//! a value are left out. The guest finds a placeholder under NAME in its environment and its configuration. The
//! value is in no ledger, log, error or debug output: it goes from where it was read into [`Secret`], and from
//! there into a request.

use vac_core::canon::Node;
use vac_core::fault::{HostAbort, Result, Usage, quote};
use vac_host::http::Secret;
use vac_host::net::HostPattern;

/// A shorter one could stand in a response by chance.
const VALUE_MIN_BYTES: usize = 8;
/// A longer one is no secret that fits in a header.
const VALUE_MAX_BYTES: u64 = 64 << 10;

/// A secret that the operator gave.
#[derive(Debug, Clone)]
pub struct Given {
    /// What the guest finds it under.
    pub name: String,
    /// The value, and what stands for it.
    pub secret: Secret,
}

impl Given {
    /// Reads one `--secret`. `env` looks up a variable of the operator; `seed` makes the placeholder.
    pub fn parse(text: &str, seed: u64, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        // The text may hold the value by mistake, so no error repeats more than the name.
        let expected = "expected NAME=env:VAR or NAME=file:PATH, and `@HOST` after it if you like";
        let Some((name, source)) = text.split_once('=') else {
            return Err(Usage::new("a secret without `=`").hint(expected).into());
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(Usage::new(format!("`{}` is no name of a secret", quote(name)))
                .hint(expected)
                .into());
        }
        // A path may have an `@`, too; a host has no `/` but that of a range.
        let is_host = |host: &str| !host.contains('/') || host.parse::<HostPattern>().is_ok();
        let bound = source.rsplit_once('@').filter(|(_, host)| is_host(host));
        let (source, hosts) = match bound {
            Some((source, host)) => {
                let bad = || {
                    Usage::new(format!("what follows `@` in the secret `{name}` is no host")).hint(expected)
                };
                (source, Some(host.parse::<HostPattern>().map_err(|_| bad())?))
            }
            None => (source, None),
        };
        let mut value = if let Some(variable) = source.strip_prefix("env:") {
            let unset = || Usage::new(format!("the variable of the secret `{name}` is not set"));
            env(variable).ok_or_else(unset)?.into_bytes()
        } else if let Some(path) = source.strip_prefix("file:") {
            read(name, path)?
        } else {
            return Err(Usage::new(format!("the secret `{name}` has no source")).hint(expected).into());
        };
        while value.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            value.pop();
        }
        if !is_sendable(&value) {
            let message = format!("the secret `{name}` has control characters, or a blank at an end");
            return Err(Usage::new(message)
                .hint("a header cannot carry them; line ends at the end are left out")
                .into());
        }
        if value.len() < VALUE_MIN_BYTES {
            let message =
                format!("the secret `{name}` has {} bytes: expected at least {VALUE_MIN_BYTES}", value.len());
            return Err(Usage::new(message).into());
        }
        Ok(Self {
            name: name.to_owned(),
            secret: Secret { placeholder: placeholder(name, seed), value, hosts },
        })
    }

    /// `[name, hosts]`, as the header of a run has it.
    pub fn to_node(&self) -> Node {
        let hosts = self.secret.hosts.as_ref().map_or(Node::Null, |hosts| Node::Text(hosts.to_string()));
        Node::List(vec![Node::Text(self.name.clone()), hosts])
    }

    /// What the guest finds.
    pub fn variable(&self) -> (String, String) {
        (self.name.clone(), self.secret.placeholder.clone())
    }
}

/// The same in every run with this seed, and nothing that stands anywhere by chance.
fn placeholder(name: &str, seed: u64) -> String {
    let material = [&seed.to_le_bytes()[..], name.as_bytes()].concat();
    let digest = blake3::Hasher::new_derive_key("vac secret placeholder 1").update(&material).finalize();
    format!("vac-secret-{}", digest.to_hex().get(..32).unwrap_or_default())
}

/// Whether a header carries the value as it is: what is sent must be what is looked for in the response.
fn is_sendable(value: &[u8]) -> bool {
    let is_blank = |b: Option<&u8>| b == Some(&b' ');
    !value.iter().any(u8::is_ascii_control) && !is_blank(value.first()) && !is_blank(value.last())
}

fn read(name: &str, path: &str) -> Result<Vec<u8>> {
    use std::io::Read;
    let failed = |e| HostAbort::io("read the secret", name, &e);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut value = Vec::new();
    file.take(VALUE_MAX_BYTES + 1).read_to_end(&mut value).map_err(failed)?;
    if value.len() as u64 > VALUE_MAX_BYTES {
        return Err(Usage::new(format!("the secret `{name}` has more than {VALUE_MAX_BYTES} bytes")).into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_and_no_debug_text_has_the_value() {
        let env = |name: &str| (name == "V").then(|| "hunter2hunter2".to_owned());
        let given = Given::parse("KEY=env:V@*.example.com", 0, &env).unwrap();
        assert!(!format!("{given:?}").contains("hunter2"));
        assert_eq!(given.secret.value, b"hunter2hunter2");
        assert_eq!(given.variable().1.len(), 11 + 32);
        for bad in [
            "hunter2hunter2",
            "KEY=hunter2hunter2",
            "KEY=env:hunter2hunter2",
            "K Y=env:V",
            "KEY=env:V@a b",
            "KEY=x@hunter2!x",
        ] {
            let error = Given::parse(bad, 0, &env).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Given::parse("KEY=env:S", 0, &|_| Some("short".into())).is_err());
    }

    #[test]
    fn a_value_is_what_a_header_carries() {
        let parse = |value: &str| Given::parse("KEY=env:V", 0, &|_| Some(value.to_owned()));
        assert_eq!(parse("hunter2 hunter2\r\n\n").unwrap().secret.value, b"hunter2 hunter2");
        for bad in
            ["hunter2\nhunter2", "hunter2\0hunter2", "hunter2\thunter2", " hunter2hunter2", "hunter2hunter2 "]
        {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("`KEY`") && !error.contains("hunter2"), "{error}");
        }
        assert!(parse("short\n\n\n\n").is_err());
    }
}

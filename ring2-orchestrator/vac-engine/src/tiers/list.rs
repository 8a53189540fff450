//! `tiers.toml`: which tiers a home has.

use toml::Spanned;
use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote};
use vac_core::storage::{Lock, LockMode, read_file, replace_file};

use super::spec::check_name;
use super::{Named, Spec};
use crate::home::Home;
use crate::strict_toml::{Source, VERSION, escape};

const FILE: &str = "tiers.toml";
const LOCK: &str = "tiers.lock";
const FILE_MAX_BYTES: usize = 64 << 10;
/// Every object that is nowhere is asked of all of them.
const TIERS_MAX: usize = 8;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    tier: Vec<Spanned<Spec>>,
}

/// The tiers of a home, the first to be asked first.
pub fn list(home: &Home) -> Result<Vec<Named>> {
    let storage = &**home.storage();
    let place = storage.show(FILE);
    let bytes = match read_file(storage, FILE, FILE_MAX_BYTES as u64) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|e| HostAbort::io("read", &place, &e))?,
    };
    parse(&bytes, &place)
}

fn parse(bytes: &[u8], place: &str) -> Result<Vec<Named>> {
    let source = Source::new(bytes, place, FILE_MAX_BYTES)?;
    let file: File = source.read()?;
    let mut all: Vec<Named> = Vec::new();
    for spec in file.tier {
        let span = spec.span();
        let named = spec.into_inner().check().map_err(|e| source.inside(span.clone(), e))?;
        if all.iter().any(|known| known.name == named.name) {
            return Err(source.error(span, &format!("a second tier `{}`", named.name)).into());
        }
        if all.len() == TIERS_MAX {
            return Err(source.error(span, &format!("more than {TIERS_MAX} tiers")).into());
        }
        all.push(named);
    }
    Ok(all)
}

/// The tier of this name.
pub fn find(home: &Home, name: &str) -> Result<Named> {
    list(home)?.into_iter().find(|named| named.name == name).ok_or_else(|| {
        Usage::new(format!("there is no tier `{}`", quote(name))).hint("`vac tier ls` lists them").into()
    })
}

/// Adds a tier behind the others.
pub fn add(home: &Home, spec: &Spec) -> Result<Named> {
    let named = spec.check()?;
    let _alone = lock(home)?;
    let mut all = list(home)?;
    if all.iter().any(|known| known.name == named.name) {
        let hint = format!("`vac tier rm {}` forgets it", named.name);
        return Err(Usage::new(format!("there is a tier `{}` already", named.name)).hint(hint).into());
    }
    if all.len() == TIERS_MAX {
        return Err(Usage::new(format!("there are {TIERS_MAX} tiers, and no more can be")).into());
    }
    all.push(named.clone());
    write(home, &all)?;
    Ok(named)
}

/// Forgets a tier. What it holds stays there.
pub fn remove(home: &Home, name: &str) -> Result<()> {
    check_name(name)?;
    let _alone = lock(home)?;
    find(home, name)?;
    let mut all = list(home)?;
    all.retain(|named| named.name != name);
    write(home, &all)
}

fn lock(home: &Home) -> Result<Box<dyn Lock>> {
    let storage = &**home.storage();
    let taken = storage.try_lock(LOCK, LockMode::Exclusive);
    taken.map_err(|e| HostAbort::io("lock", storage.show(LOCK), &e))?.ok_or_else(|| {
        let message = "another process is changing the tiers of this home";
        HostAbort::new(AbortKind::Busy, message).hint("try again when it ends").into()
    })
}

fn write(home: &Home, all: &[Named]) -> Result<()> {
    let storage = &**home.storage();
    let text = to_text(all);
    replace_file(storage, FILE, "new", text.as_bytes())
        .map_err(|e| HostAbort::io("write", storage.show(FILE), &e).into())
}

fn to_text(all: &[Named]) -> String {
    let mut text = format!("version = {VERSION}\n");
    for Named { spec, .. } in all {
        let Spec { name, url, endpoint, region, key_id, secret, token, attempts, timeout } = spec;
        text.push_str("\n[[tier]]\n");
        let mut line = |key: &str, value: &str| text.push_str(&format!("{key} = \"{}\"\n", escape(value)));
        line("name", name);
        line("url", url);
        let said = [
            ("endpoint", endpoint),
            ("region", region),
            ("key_id", key_id),
            ("secret", secret),
            ("token", token),
            ("timeout", timeout),
        ];
        said.into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)))
            .for_each(|(k, v)| line(k, v));
        if let Some(attempts) = attempts {
            text.push_str(&format!("attempts = {attempts}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_listed_in_order_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(list(&home).unwrap(), []);
        let first = Spec { name: "a".into(), url: "file:///x/\u{1b}\"\\".into(), ..Spec::default() };
        let second = Spec {
            name: "b".into(),
            url: "s3://pages/p".into(),
            endpoint: Some("http://127.0.0.1:9".into()),
            region: Some("r".into()),
            key_id: Some("env:K".into()),
            secret: Some("file:/k".into()),
            token: Some("env:T".into()),
            attempts: Some(2),
            timeout: Some("1s".into()),
        };
        let added = [add(&home, &first).unwrap(), add(&home, &second).unwrap()];
        assert_eq!(list(&home).unwrap(), added);
        assert!(add(&home, &first).is_err(), "a name is one tier's");
        remove(&home, "a").unwrap();
        assert_eq!(list(&home).unwrap(), added[1..]);
        assert!(remove(&home, "a").is_err() && find(&home, "a").is_err());
    }

    #[test]
    fn a_bad_list_says_what_is_wrong_and_where() {
        let said = |text: &str| parse(text.as_bytes(), "tiers.toml").unwrap_err().to_string();
        assert!(said("version = 2\n").contains("version 2 is not known"));
        let tier = |more: &str| format!("version = 1\n[[tier]]\nname = \"a\"\nurl = \"memory:\"\n{more}");
        assert!(said(&tier("colour = 1\n")).contains("colour"));
        assert!(said(&tier("region = \"r\"\n")).contains("`tiers.toml` line 2"));
        assert!(said(&format!("{}{}", tier(""), &tier("")[12..])).contains("a second tier `a`"));
        let many: String =
            (0..9).map(|n| format!("[[tier]]\nname = \"t{n}\"\nurl = \"memory:\"\n")).collect();
        assert!(said(&format!("version = 1\n{many}")).contains("more than 8 tiers"));
    }
}

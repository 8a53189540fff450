//! What a program asks for, and why: `NAME.vac.toml` beside it, or a custom section of it.
//!
//! A manifest is its author's word, so nothing in it is believed: it can only take away. A run gets
//! what was asked **and** granted ([`agree`]); without a manifest, a program asks for what its operator
//! grants. `docs/formats.md` draws the format.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage, quote};
use vac_host::sections;

use crate::grants::{Grant, below, clean};
use crate::strict_toml::{Source, escape, quoted};
use crate::target::Target;

/// The custom section that holds a manifest.
pub const SECTION: &str = "vac-manifest";
/// How the name of a manifest's file ends.
pub const SUFFIX: &str = "vac.toml";
/// The longest manifest.
pub const MANIFEST_MAX_BYTES: usize = 64 << 10;
/// Things that one manifest asks for.
pub const ASKS_MAX: usize = 256;
/// The longest reason for one of them.
pub const WHY_MAX_BYTES: usize = 1024;

/// One thing that a program asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What it wants, in the guest's names: nothing in it is of the host.
    pub wants: Grant,
    /// Why, in its author's words.
    pub why: String,
    /// Whether it works without.
    pub optional: bool,
}

impl Ask {
    /// Reads the text of what is wanted, which is that of a `--grant` without host paths or values.
    pub fn parse(text: &str, why: &str, optional: bool) -> Result<Self> {
        let wants = Grant::parse(text, &|_| Some(String::new()))?;
        if let Grant::Dir { host, guest, .. } | Grant::File { host, guest, .. } = &wants {
            if host != Path::new(guest) {
                return Err(Usage::new(format!("`{}` names a path of the host", quote(text)))
                    .hint("a manifest names what the guest sees; where that is, its operator says")
                    .into());
            }
            if guest.contains('\0') || leads_back(guest) {
                return Err(
                    Usage::new(format!("`{}` goes back with `..`, or is no path", quote(text))).into()
                );
            }
        }
        if let Grant::Mem(mem) = &wants
            && !mem.is_of_a_guest()
        {
            return Err(Usage::new(format!("`{}` names shards or a memory of the operator", quote(text)))
                .hint("a manifest names what the guest opens; which memory that is, its operator says")
                .into());
        }
        Ok(Self { wants, why: why.to_owned(), optional })
    }

    /// What it wants, as `--grant` takes it.
    pub fn text(&self) -> String {
        self.wants.text()
    }
}

/// Whether a name comes before a `..`: which folder that is would depend on links.
fn leads_back(path: &str) -> bool {
    let mut names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.by_ref().find(|name| *name != "..").is_some_and(|_| names.any(|name| name == ".."))
        || path.starts_with('/') && path.split('/').any(|name| name == "..")
}

/// A manifest that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name of its bytes, which the header of a run has.
    pub cid: Cid,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where it was found.
    pub place: String,
    /// What is asked for, in its order.
    pub asks: Vec<Ask>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    ask: Vec<Spanned<Entry>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    grant: Spanned<String>,
    why: Spanned<String>,
    #[serde(default)]
    optional: bool,
}

impl Manifest {
    /// Reads a manifest; `place` says in errors where it is from.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        let source = Source::new(bytes, place, MANIFEST_MAX_BYTES)?;
        let file: File = source.read()?;
        if let Some(entry) = file.ask.get(ASKS_MAX) {
            let message = format!("{} things are asked for; the limit is {ASKS_MAX}", file.ask.len());
            return Err(source.error(entry.span(), &message).into());
        }
        let mut asks: Vec<Ask> = Vec::with_capacity(file.ask.len());
        for entry in &file.ask {
            let ask = read_ask(source, entry.get_ref())?;
            check_among(&asks, &ask).map_err(|e| source.inside(entry.get_ref().grant.span(), e))?;
            asks.push(ask);
        }
        Ok(Self { cid: Cid::of_raw(bytes), bytes: bytes.to_vec(), place: place.to_owned(), asks })
    }

    /// The manifest of `target`: the file beside it, or else the section in it.
    pub fn of(target: &Target) -> Result<Option<Self>> {
        if let Some(path) = path_of(target)
            && let Some(bytes) = read_beside(&path)?
        {
            return Self::parse(&bytes, &path.display().to_string()).map(Some);
        }
        let place = format!("section `{SECTION}` of {}", target.place);
        match sections::custom(&target.bytes, SECTION, &target.place)? {
            Some(bytes) => Self::parse(bytes, &place).map(Some),
            None => Ok(None),
        }
    }
}

/// Where the manifest of `target` would be, if it is a file.
pub fn path_of(target: &Target) -> Option<PathBuf> {
    Some(target.folder.as_ref()?.join(&target.name).with_extension(SUFFIX))
}

/// The bytes of the file at `path`, if it is there; a few more than may be, so that it is known.
fn read_beside(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |e: std::io::Error| HostAbort { hint: None, ..HostAbort::io("read", path.display(), &e) };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e).into()),
        // Opening a pipe would wait for its other end.
        Ok(metadata) if !metadata.is_file() => {
            return Err(Usage::new(format!("`{}` is not a file", path.display()))
                .hint("it stands where the manifest of the program would be")
                .into());
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MANIFEST_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

fn read_ask(source: Source<'_>, entry: &Entry) -> Result<Ask> {
    if entry.why.get_ref().len() > WHY_MAX_BYTES || entry.why.get_ref().trim().is_empty() {
        let message = format!("`why` has {} bytes: expected 1 to {WHY_MAX_BYTES}", entry.why.get_ref().len());
        return Err(source.error(entry.why.span(), &message).into());
    }
    Ask::parse(entry.grant.get_ref(), entry.why.get_ref(), entry.optional)
        .map_err(|e| source.inside(entry.grant.span(), e))
}

/// What would ask for one thing in two ways. A file is shown in a folder of its own, which would hide
/// the directory around it.
fn check_among(asks: &[Ask], ask: &Ask) -> Result<()> {
    for other in asks {
        if place(&other.wants) == place(&ask.wants) {
            return Err(Usage::new(format!("`{}` is asked for already", quote(&place(&ask.wants)))).into());
        }
        for (dir, file) in [(other, ask), (ask, other)] {
            if is_inside(&file.wants, &dir.wants) && !is_within(&file.wants, &dir.wants) {
                let (file, dir) = (quote(&file.text()), quote(&dir.text()));
                return Err(Usage::new(format!(
                    "`{file}` asks for more than `{dir}`, which it is inside of"
                ))
                .hint("ask for the directory with `rw`, or for its files one by one")
                .into());
            }
        }
    }
    Ok(())
}

/// What a grant is about, whatever may be done with it.
fn place(grant: &Grant) -> String {
    match grant {
        Grant::Dir { guest, .. } | Grant::File { guest, .. } => clean(guest),
        Grant::Mem(mem) => format!("mem:{}", mem.guest),
        other => other.text(),
    }
}

fn is_inside(file: &Grant, dir: &Grant) -> bool {
    match (file, dir) {
        (Grant::File { guest: file, .. }, Grant::Dir { guest: dir, .. }) => below(dir, file).is_some(),
        _ => false,
    }
}

fn is_within(file: &Grant, dir: &Grant) -> bool {
    match (file, dir) {
        (Grant::File { rights: file, .. }, Grant::Dir { rights: dir, .. }) => dir.has(*file),
        _ => false,
    }
}

/// One thing that was asked for, and what came of it.
#[derive(Debug, Clone)]
pub struct Met {
    /// What was asked.
    pub ask: Ask,
    /// What of it was granted.
    pub gets: Vec<Grant>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

impl Met {
    fn new(ask: &Ask, granted: &[Grant]) -> Self {
        let (ask, text) = (ask.clone(), ask.text());
        let mut gets: Vec<Grant> = granted.iter().filter_map(|grant| grant.meet(&ask)).collect();
        // Of directories inside of each other the innermost is what the guest would see without a manifest.
        let all = gets.iter().enumerate().filter(|(_, got)| got.text() == text);
        let whole = all.rev().max_by_key(|(_, got)| got.granted_names()).map(|(at, _)| at);
        if let Some(whole) = whole {
            // What the operator put inside of it stays there: the guest would find another directory's in its place.
            let is_put_inside = |got: &Grant| match (got, &ask.wants) {
                (Grant::Dir { guest, .. }, Grant::Dir { guest: asked, .. }) => {
                    below(asked, guest).is_some_and(|path| !path.is_empty())
                }
                _ => false,
            };
            let mut inside: Vec<Grant> = gets.iter().filter(|got| is_put_inside(got)).cloned().collect();
            gets = vec![gets.swap_remove(whole)];
            inside.retain(|got| !gets.contains(got));
            gets.append(&mut inside);
        }
        Self { ask, gets, is_whole: whole.is_some() }
    }

    /// Whether the program cannot be started without more.
    pub fn is_missing(&self) -> bool {
        !self.is_whole && !self.ask.optional
    }
}

/// What comes of each thing that `asks` has. What a run gets is all that they get.
pub fn agree(asks: &[Ask], granted: &[Grant]) -> Vec<Met> {
    asks.iter().map(|ask| Met::new(ask, granted)).collect()
}

/// The grants that `met` comes down to, each once. What an optional ask would get of a directory that
/// is not there is left out.
pub fn effective(met: &[Met]) -> Vec<Grant> {
    effective_where(met, &crate::grants::is_missing)
}

/// The same, for directories of which `is_missing` knows whether they are there.
pub(crate) fn effective_where(met: &[Met], is_missing: &dyn Fn(&Grant) -> bool) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for one in met {
        let present = one.gets.iter().filter(|grant| !(one.ask.optional && is_missing(grant)));
        for grant in present {
            // A file inside of a directory that is there anyway would only hide its neighbours.
            if !grants.contains(grant) && !met.iter().any(|other| is_covered(grant, other)) {
                grants.push(grant.clone());
            }
        }
    }
    grants
}

/// Whether `other` gets the directory that the file `grant` is in, with as much as may be done with the file; or the same
/// directory, with more.
fn is_covered(grant: &Grant, other: &Met) -> bool {
    let (host, file, wanted) = match grant {
        Grant::Dir { host, guest, rights } => {
            return other.gets.iter().any(|got| match got {
                Grant::Dir { host: same, guest: name, rights: more } => {
                    same == host && clean(name) == clean(guest) && more != rights && more.has(*rights)
                }
                _ => false,
            });
        }
        Grant::File { host, guest, rights } => (host.clone(), guest.clone(), *rights),
        Grant::Part(part) if part.is_file => (part.host.join(&part.below), part.guest(), part.rights),
        _ => return false,
    };
    // The same file: another one may have been put into its place.
    let is_there = |dir: &Path, guest: &str, rights: Rights| {
        rights.has(wanted) && below(guest, &file).is_some_and(|path| dir.join(path) == host)
    };
    other.gets.iter().any(|got| match got {
        Grant::Dir { host, guest, rights } => is_there(host, guest, *rights),
        Grant::Part(part) if !part.is_file => {
            is_there(&part.host.join(&part.below), &part.guest(), part.rights)
        }
        _ => false,
    })
}

/// Refuses a run that would lack something its program cannot do without.
pub fn check(manifest: &Manifest, met: &[Met], target: &Target) -> Result<()> {
    let Some(lacks) = lacks(manifest, met, &target.name) else { return Ok(()) };
    let hint = format!(
        "add `{}`; {}; `--no-manifest` runs it with what you grant, whatever it asks for",
        lacks.texts.iter().map(|text| format!("--grant {text}")).collect::<Vec<_>>().join(" "),
        lacks.why
    );
    Err(Error::from(HostAbort::new(AbortKind::Denied, lacks.message).hint(hint)))
}

/// What a program cannot do without and does not get, in words.
pub(crate) struct Lacks {
    pub(crate) message: String,
    /// What is missing, each as it is granted.
    pub(crate) texts: Vec<String>,
    /// Why the program wants the first of them.
    pub(crate) why: String,
}

/// What is missing for the program `name`, if anything is.
pub(crate) fn lacks(manifest: &Manifest, met: &[Met], name: &str) -> Option<Lacks> {
    let missing: Vec<&Met> = met.iter().filter(|one| one.is_missing()).collect();
    let why = quote(&missing.first()?.ask.why);
    let texts: Vec<String> = missing.iter().map(|one| quote(&one.ask.text())).collect();
    let listed = texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let message = format!("{} asks for {listed}, which is not granted", quoted(name));
    Some(Lacks { message, texts, why: format!("{} says why: \"{why}\"", quoted(&manifest.place)) })
}

/// A manifest's text: `comment`, a line each, and what is asked.
pub fn write(comment: &[String], asks: &[Ask]) -> String {
    let mut text: String = comment.iter().map(|line| format!("# {}\n", escape(line))).collect();
    text.push_str(&format!("version = {}\n", crate::strict_toml::VERSION));
    for ask in asks {
        text.push_str(&format!("\n[[ask]]\ngrant = \"{}\"\n", escape(&ask.text())));
        text.push_str(&format!("why = \"{}\"\n", escape(&ask.why)));
        if ask.optional {
            text.push_str("optional = true\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(texts: &[&str]) -> Vec<Ask> {
        texts.iter().map(|text| Ask::parse(text, "because", false).unwrap()).collect()
    }

    fn granted(texts: &[&str]) -> Vec<Grant> {
        texts.iter().map(|text| Grant::parse(text, &|_| Some("value".into())).unwrap()).collect()
    }

    /// What one ask gets of one grant, and whether that is all of it.
    fn meet(ask: &str, grant: &str) -> Option<(String, bool)> {
        let met = agree(&asks(&[ask]), &granted(&[grant])).remove(0);
        met.gets.first().map(|got| (got.text(), met.is_whole))
    }

    #[test]
    fn neither_key_widens_the_other() {
        let whole = |text: &str| Some((text.to_owned(), true));
        let less = |text: &str| Some((text.to_owned(), false));
        let table = [
            ("dir:ro=data", "dir:rw=./data", whole("dir:ro=data")),
            ("dir:rw=data", "dir:ro=data", less("dir:ro=data")),
            ("dir:ro=data/sub/", "dir:rw=data", whole("dir:ro=data/sub")),
            ("dir:ro=.", "dir:ro=data", less("dir:ro=data")),
            ("dir:ro=data", "dir:ro=database", None),
            ("dir:ro=/data", "dir:ro=data", None),
            ("dir:ro=in", "dir:ro=/srv/x::in", whole("dir:ro=in")),
            ("file:ro=in.txt", "dir:rw=.", whole("file:ro=in.txt")),
            ("file:rw=out.txt", "dir:ro=.", less("file:ro=out.txt")),
            ("file:rw=a/b", "file:ro=./a/b", less("file:ro=a/b")),
            ("file:ro=a/b", "file:rw=a/b", whole("file:ro=a/b")),
            ("file:ro=a/b", "file:rw=a/c", None),
            ("dir:rw=a", "file:ro=a/c", less("file:ro=a/c")),
            ("file:ro=data", "dir:ro=data", None),
            ("file:ro=../up/x", "dir:ro=..", whole("file:ro=../up/x")),
            ("file:ro=../up/x", "dir:ro=.", None),
            ("env:LANG", "env:LANG", whole("env:LANG")),
            ("env:LANG", "env:HOME", None),
            ("stdin", "stdin", whole("stdin")),
            ("stdin", "dir:rw=.", None),
            ("mem:ro=m", "mem:rw=m", whole("mem:ro=m")),
            ("mem:rw=m", "mem:ro=data@3::m", less("mem:ro=m")),
            ("mem:ro=m", "mem:rw=m::other", None),
        ];
        for (ask, grant, expected) in table {
            assert_eq!(meet(ask, grant), expected, "{ask} and {grant}");
        }
    }

    #[test]
    fn the_grant_that_gives_all_is_taken_alone() {
        let met = agree(&asks(&["file:rw=out/x"]), &granted(&["dir:ro=.", "dir:rw=out"])).remove(0);
        assert!(met.is_whole && met.gets.len() == 1, "{met:?}");
    }

    /// A tool was granted `/` and another directory as `/tmp`: what it asked for in the second was looked for in the first.
    #[test]
    fn the_innermost_grant_that_gives_all_is_taken() {
        for order in [["dir:rw=/a::/", "dir:rw=/b::/tmp"], ["dir:rw=/b::/tmp", "dir:rw=/a::/"]] {
            for ask in ["dir:rw=/tmp", "dir:ro=/tmp/x", "file:rw=/tmp/x"] {
                let met = agree(&asks(&[ask]), &granted(&order)).remove(0);
                assert!(met.is_whole && format!("{:?}", met.gets).contains("/b"), "{met:?}");
            }
            let met = agree(&asks(&["file:rw=/x"]), &granted(&order)).remove(0);
            assert!(format!("{:?}", met.gets).contains("/a"), "{met:?}");
        }
    }

    #[test]
    fn what_is_no_manifest_says_where_and_why() {
        let ask = |grant: &str| format!("version = 1\n[[ask]]\ngrant = \"{grant}\"\nwhy = \"x\"\n");
        let twice = [ask("dir:ro=data"), "[[ask]]\ngrant = \"dir:rw=./data\"\nwhy = \"y\"".into()].concat();
        let inside = [ask("dir:ro=data"), "[[ask]]\ngrant = \"file:rw=data/x\"\nwhy = \"y\"".into()].concat();
        let table = [
            (String::new(), "there is no version"),
            ("version = 2\nfuture = true".into(), "line 1, column 11: version 2 is not known"),
            ("version = \"1\"".into(), "invalid type"),
            ("version = 1\n[[ask]]\ngrnt = \"stdin\"".into(), "line 3, column 1: unknown field `grnt`"),
            ("version = 1\n[[ask]]\ngrant = \"stdin\"".into(), "missing field `why`"),
            (ask("dir:ro=/srv::data"), "names a path of the host"),
            (ask("dir:ro=data/../.."), "goes back"),
            (ask("mem:ro=m@3"), "of the operator"),
            (ask("mem:ro=m::x"), "of the operator"),
            (ask("/etc"), "line 3, column 9: `/etc` is not a grant"),
            (twice, "line 6, column 9: `data` is asked for already"),
            (inside, "asks for more than `dir:ro=data`"),
            ("version = 1\nask = 3".into(), "invalid type"),
            ("\u{1b}[31m".into(), "line 1"),
            (format!("version = {}1{}", "[".repeat(9000), "]".repeat(9000)), "line 1"),
            (format!("version = 1 #{}", "x".repeat(MANIFEST_MAX_BYTES)), "the limit is"),
            (format!("version = 1\n{}", "[[ask]]\ngrant='stdin'\nwhy='x'\n".repeat(300)), "the limit is 256"),
        ];
        for (text, expected) in table {
            let error = Manifest::parse(text.as_bytes(), "x.vac.toml").unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut asks = asks(&["file:ro=in \u{202e}\"\\.txt", "env:A", "stdin", "dir:rw=/out"]);
        asks[1].optional = true;
        asks[2].why = "a\nb\t\u{1b}".into();
        let text = write(&["of x".into()], &asks);
        assert_eq!(Manifest::parse(text.as_bytes(), "x").unwrap().asks, asks);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    }
}

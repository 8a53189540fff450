//! What the operator allows: from the text of `--grant` to open directories.
//!
//! ```text
//! dir:ro=HOST[::GUEST]    a directory, to read          dir:rw=…  to read and write
//! file:ro=HOST[::GUEST]   one file                      file:rw=…
//! tree:ro=CID[::GUEST]    a directory by its CID        tree:rw=…  a copy, whose end is a new CID
//! env:NAME                a variable of the operator's environment
//! stdin                   the standard input
//! kv:ro=NAME[::GUEST]     a namespace of values         kv:rw=…
//! mem:ro=NAME[@SHARD[+COUNT]][::GUEST]   a memory, or some shards of it; a root instead of a name   mem:rw=…
//! ```
//!
//! Those of the network are in [`crate::net_grants`].
//!
//! The guest sees a directory under the name GUEST, which is HOST as it was typed unless another
//! is given. The header of a run has the guest's names and rights; host paths are in a note, so
//! that the same run from another folder has the same head.
//!
//! [`Grant::meet`] is where the operator's key meets the program's: what it gives is never more than
//! either of the two.

use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use vac_core::canon::Node;
use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote};
use vac_host::net::NetGrant;
use vac_host::shards::Memory;
use vac_host::{Bucket, Preopen};

use crate::home::Home;

use crate::manifest::Ask;
use crate::memory;
use crate::namespace::{Namespaces, check_name};
use crate::net_grants::Net;
use crate::working::Memories;

/// One thing the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A directory and all below it.
    Dir {
        /// Where it is on the host.
        host: PathBuf,
        /// What the guest calls it.
        guest: String,
        /// What may be done.
        rights: Rights,
    },
    /// One file.
    File {
        /// Where it is on the host.
        host: PathBuf,
        /// What the guest calls it.
        guest: String,
        /// What may be done.
        rights: Rights,
    },
    /// A tree of the store.
    Tree {
        /// Its CID.
        cid: Cid,
        /// What the guest calls it.
        guest: String,
        /// What may be done with the guest's copy.
        rights: Rights,
    },
    /// A variable, with the value that the guest sees.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The standard input.
    Stdin,
    /// Something of the network.
    Net(Net),
    /// A namespace of values by key.
    Kv {
        /// Its name.
        name: String,
        /// What the guest calls it.
        guest: String,
        /// What may be done.
        rights: Rights,
    },
    /// A memory of 128-bit addresses.
    Mem(Mem),
    /// What a program asks for of a directory that was granted. No `--grant` says this; it is made
    /// by [`Grant::meet`].
    Part(Part),
}

/// Shards of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mem {
    /// Its name, or its root.
    pub name: String,
    /// The first shard.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What the guest calls it.
    pub guest: String,
    /// What may be done.
    pub rights: Rights,
}

impl Mem {
    fn parse(text: &str, value: &str, rights: Rights) -> Result<Self> {
        let (shards, guest) = value.split_once("::").map_or((value, None), |(v, guest)| (v, Some(guest)));
        let (name, range) = shards.split_once('@').map_or((shards, None), |(n, range)| (n, Some(range)));
        match name.parse::<Cid>() {
            Ok(_) if rights.has(Rights::WRITE) => {
                let message = format!("`{}` is a root, which nobody can change", quote(name));
                return Err(Usage::new(message).hint("`vac mem restore NAME ROOT` gives it a name").into());
            }
            Ok(_) => {}
            Err(_) => memory::check_name(name)?,
        }
        let guest = guest.unwrap_or(name);
        if guest.is_empty() {
            return Err(Usage::new(format!("`{}` names no memory", quote(text))).into());
        }
        let (first, last) = range.map_or(Ok((0, u64::MAX)), |range| shard_range(text, range))?;
        Ok(Self { name: name.to_owned(), first, last, guest: guest.to_owned(), rights })
    }

    /// Whether it is all of the memory.
    fn is_whole(&self) -> bool {
        (self.first, self.last) == (0, u64::MAX)
    }

    /// `[kind, guest, rights]`, and the shards unless they are all.
    fn to_node(&self) -> Node {
        let mut items = vec!["mem".to_owned(), self.guest.clone(), self.rights.to_string()];
        if !self.is_whole() {
            let more = self.last.saturating_sub(self.first);
            items.push(format!("{}+{}", self.first, u128::from(more) + 1));
        }
        Node::List(items.into_iter().map(Node::Text).collect())
    }

    /// Whether a guest may ask for it: nothing in it is of the host.
    pub(crate) fn is_of_a_guest(&self) -> bool {
        self.is_whole() && self.name == self.guest
    }
}

/// `SHARD` or `FIRST+COUNT`, as first and last.
fn shard_range(text: &str, range: &str) -> Result<(u64, u64)> {
    let (first, count) = range.split_once('+').unwrap_or((range, "1"));
    let (first, count) = (memory::parse_number(first)?, memory::parse_number(count)?);
    let last = count.checked_sub(1).and_then(|more| first.checked_add(more));
    last.map(|last| (first, last)).ok_or_else(|| {
        let message = format!("`{}` names no shards: they are numbered from 0 to 2^64 - 1", quote(text));
        Usage::new(message).hint("for example `mem:ro=NAME@0` or `mem:ro=NAME@0+16`").into()
    })
}

/// A file or directory inside of a granted directory. It is reached through that directory, so no
/// link in it leads out of what was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where the granted directory is on the host.
    pub host: PathBuf,
    /// What the guest calls that directory.
    pub of: String,
    /// The path in it: names joined by `/`, none of them `.` or `..`.
    pub below: String,
    /// Whether it is one file, there or not; else it is a directory.
    pub is_file: bool,
    /// What may be done.
    pub rights: Rights,
}

impl Part {
    /// What the guest calls it.
    pub fn guest(&self) -> String {
        join(&self.of, &self.below)
    }
}

/// What a guest calls a tree if nothing else is said.
const TREE_GUEST: &str = "tree";

const KINDS: &str = "one of dir:ro=DIR, dir:rw=DIR, file:ro=FILE, file:rw=FILE, tree:ro=CID, tree:rw=CID, env:NAME, \
     stdin, kv:ro=NAME, kv:rw=NAME, mem:ro=NAME, mem:rw=NAME, http:HOST, tcp:HOST:PORT, udp:HOST:PORT, tcp:listen=ADDRESS:PORT, net:ADDRESS";

impl Grant {
    /// Reads the text of one `--grant`. `env` looks up a variable of the operator.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        if let Some(net) = Net::parse(text)? {
            return Ok(Self::Net(net));
        }
        let (spec, value) = text.split_once('=').map_or((text, None), |(spec, value)| (spec, Some(value)));
        match (spec, value) {
            ("stdin", None) => Ok(Self::Stdin),
            ("dir:ro" | "dir:rw", Some(path)) => {
                let (host, guest) = paths(text, path)?;
                Ok(Self::Dir { host, guest, rights: rights(spec) })
            }
            ("file:ro" | "file:rw", Some(path)) => {
                let (host, guest) = paths(text, path)?;
                // A file's holder may change its bytes, not its name.
                Ok(Self::File { host, guest, rights: rights(spec).and(Rights::READ.or(Rights::WRITE)) })
            }
            ("kv:ro" | "kv:rw", Some(value)) => {
                let (name, guest) = value.split_once("::").unwrap_or((value, value));
                check_name(name)?;
                Ok(Self::Kv { name: name.to_owned(), guest: guest.to_owned(), rights: rights(spec) })
            }
            ("mem:ro" | "mem:rw", Some(value)) => {
                let rights = rights(spec).and(Rights::READ.or(Rights::WRITE));
                Ok(Self::Mem(Mem::parse(text, value, rights)?))
            }
            ("tree:ro" | "tree:rw", Some(tree)) => {
                let (cid, guest) = tree.split_once("::").unwrap_or((tree, TREE_GUEST));
                if guest.is_empty() {
                    return Err(Usage::new(format!("`{}` names no path", quote(text))).into());
                }
                let cid = cid.parse().map_err(|e: vac_core::fault::Corrupt| {
                    Usage::new(e.to_string()).hint("`vac store put DIR` prints the CID of a directory")
                })?;
                Ok(Self::Tree { cid, guest: guest.to_owned(), rights: rights(spec) })
            }
            (spec, None) if spec.starts_with("env:") => Self::parse_env(text, &spec[4..], env),
            (spec, Some(_)) if spec.starts_with("env:") => {
                let hint = format!("`--env {}` sets a value of your own", &text[4..]);
                Err(Usage::new(format!("`{}` gives a value, and a grant of `env` takes yours", quote(text)))
                    .hint(hint)
                    .into())
            }
            _ => {
                let usage = Usage::new(format!("`{}` is not a grant: expected {KINDS}", quote(text)));
                Err(match nearest(spec) {
                    Some(word) => usage.hint(format!("did you mean `{word}`?")).into(),
                    None => usage.into(),
                })
            }
        }
    }

    fn parse_env(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        if name.is_empty() {
            return Err(Usage::new(format!("`{}` names no variable", quote(text)))
                .hint("for example `env:LANG`")
                .into());
        }
        let value = env(name).ok_or_else(|| {
            Usage::new(format!("the variable `{}` is not set", quote(name)))
                .hint(format!("set it, or give a value with `--env {name}=VALUE`"))
        })?;
        Ok(Self::Env { name: name.to_owned(), value })
    }

    /// The grant as the header of a run has it: `[kind, guest, rights]`; for a tree also its CID, and for a part
    /// of a directory the guest's name of that directory, under which the guest is shown the part.
    pub fn to_node(&self) -> Node {
        if let Self::Tree { cid, guest, rights } = self {
            let [kind, guest, rights] =
                ["tree", guest, &rights.to_string()].map(|text| Node::Text(text.to_owned()));
            return Node::List(vec![kind, guest, rights, Node::Link(*cid)]);
        }
        if let Self::Mem(mem) = self {
            return mem.to_node();
        }
        let (kind, guest, rights) = match self {
            Self::Dir { guest, rights, .. } => ("dir", guest.clone(), *rights),
            Self::File { guest, rights, .. } => ("file", guest.clone(), *rights),
            Self::Tree { guest, rights, .. } => ("tree", guest.clone(), *rights),
            Self::Env { name, .. } => ("env", name.clone(), Rights::READ),
            Self::Stdin => ("stdin", String::new(), Rights::READ),
            Self::Kv { guest, rights, .. } => ("kv", guest.clone(), *rights),
            Self::Mem(mem) => ("mem", mem.guest.clone(), mem.rights),
            Self::Net(net) => return net.to_node(),
            Self::Part(part) => (part.kind(), part.guest(), part.rights),
        };
        let mut items = vec![kind.to_owned(), guest, rights.to_string()];
        if let Self::Part(part) = self {
            items.push(part.of.clone());
        }
        Node::List(items.into_iter().map(Node::Text).collect())
    }

    /// The grant as `--grant` takes it, in the guest's names: `dir:ro=data`. Two grants that give the
    /// same have the same text, however they were spelled.
    pub fn text(&self) -> String {
        let path = |kind: &str, guest: &str, rights: Rights| {
            let access = if rights.has(Rights::WRITE) { "rw" } else { "ro" };
            format!("{kind}:{access}={}", clean(guest))
        };
        match self {
            Self::Dir { guest, rights, .. } => path("dir", guest, *rights),
            Self::File { guest, rights, .. } => path("file", guest, *rights),
            Self::Env { name, .. } => format!("env:{name}"),
            Self::Stdin => "stdin".into(),
            Self::Tree { cid, guest, rights } => {
                let access = if rights.has(Rights::WRITE) { "rw" } else { "ro" };
                format!("tree:{access}={cid}::{}", clean(guest))
            }
            Self::Kv { guest, rights, .. } => {
                format!("kv:{}={guest}", if rights.has(Rights::WRITE) { "rw" } else { "ro" })
            }
            Self::Mem(Mem { guest, rights, .. }) => {
                format!("mem:{}={guest}", if rights.has(Rights::WRITE) { "rw" } else { "ro" })
            }
            Self::Net(net) => net.text(),
            Self::Part(part) => path(part.kind(), &part.guest(), part.rights),
        }
    }

    /// Where it is on the host, if it is a file or directory.
    pub fn host_path(&self) -> Option<&Path> {
        match self {
            Self::Dir { host, .. } | Self::File { host, .. } => Some(host),
            Self::Part(part) => Some(&part.host),
            Self::Tree { .. }
            | Self::Env { .. }
            | Self::Stdin
            | Self::Net(_)
            | Self::Kv { .. }
            | Self::Mem(_) => None,
        }
    }

    /// The same grant, its path seen from `folder`: that of the file it was written in.
    #[must_use]
    pub fn seen_from(mut self, folder: &Path) -> Self {
        match &mut self {
            Self::Dir { host, .. } | Self::File { host, .. } => *host = folder.join(&*host),
            Self::Env { .. }
            | Self::Stdin
            | Self::Part(_)
            | Self::Tree { .. }
            | Self::Net(_)
            | Self::Kv { .. }
            | Self::Mem(_) => {}
        }
        self
    }

    /// What this grant gives of what is asked for: all of it, a part, or nothing. It is all of it if
    /// the [text](Self::text) of what it gives is that of what was asked.
    pub fn meet(&self, asked: &Ask) -> Option<Self> {
        match self {
            Self::Dir { host, guest, rights } => meet_dir(host, guest, *rights, &asked.wants),
            Self::File { host, guest, rights } => meet_file(host, guest, *rights, &asked.wants),
            Self::Env { name, .. } => {
                matches!(&asked.wants, Self::Env { name: wanted, .. } if wanted == name).then(|| self.clone())
            }
            Self::Stdin => (asked.wants == Self::Stdin).then_some(Self::Stdin),
            Self::Tree { cid, guest, rights } => match &asked.wants {
                Self::Tree { cid: wanted, guest: name, rights: wants }
                    if wanted == cid && clean(name) == clean(guest) =>
                {
                    Some(Self::Tree { cid: *cid, guest: guest.clone(), rights: rights.and(*wants) })
                }
                _ => None,
            },
            Self::Kv { name, guest, rights } => match &asked.wants {
                Self::Kv { guest: wanted, rights: wants, .. } if wanted == guest => {
                    Some(Self::Kv { name: name.clone(), guest: guest.clone(), rights: rights.and(*wants) })
                }
                _ => None,
            },
            Self::Mem(mem) => match &asked.wants {
                Self::Mem(wanted) if wanted.guest == mem.guest => {
                    Some(Self::Mem(Mem { rights: mem.rights.and(wanted.rights), ..mem.clone() }))
                }
                _ => None,
            },
            Self::Net(net) => match &asked.wants {
                Self::Net(wanted) => net.meet(wanted).map(Self::Net),
                _ => None,
            },
            // It is what came of a meeting already.
            Self::Part(_) => None,
        }
    }
}

impl Grant {
    /// How many names the guest's path has that was granted, of which this may be a part.
    pub(crate) fn granted_names(&self) -> usize {
        match self {
            Self::Dir { guest, .. } | Self::File { guest, .. } => names(guest).count(),
            Self::Part(part) => names(&part.of).count(),
            _ => 0,
        }
    }
}

impl Part {
    fn kind(&self) -> &'static str {
        if self.is_file { "file" } else { "dir" }
    }
}

fn meet_dir(host: &Path, guest: &str, rights: Rights, wants: &Grant) -> Option<Grant> {
    let part = |below: String, is_file, wanted: Rights| {
        let (host, of) = (host.to_owned(), guest.to_owned());
        Grant::Part(Part { host, of, below, is_file, rights: rights.and(wanted) })
    };
    let whole = |wanted: Rights| Grant::Dir {
        host: host.to_owned(),
        guest: guest.to_owned(),
        rights: rights.and(wanted),
    };
    match wants {
        Grant::Dir { guest: asked, rights: wanted, .. } => match below(guest, asked) {
            Some(path) if path.is_empty() => Some(whole(*wanted)),
            Some(path) => Some(part(path, false, *wanted)),
            // More was asked for than was granted.
            None => below(asked, guest).map(|_| whole(*wanted)),
        },
        Grant::File { guest: asked, rights: wanted, .. } => {
            below(guest, asked).filter(|path| !path.is_empty()).map(|path| part(path, true, *wanted))
        }
        _ => None,
    }
}

fn meet_file(host: &Path, guest: &str, rights: Rights, wants: &Grant) -> Option<Grant> {
    let (is_meant, wanted) = match wants {
        Grant::File { guest: asked, rights, .. } => (clean(asked) == clean(guest), *rights),
        Grant::Dir { guest: asked, rights, .. } => {
            (below(asked, guest).is_some_and(|path| !path.is_empty()), *rights)
        }
        _ => (false, Rights::NONE),
    };
    let file = || Grant::File { host: host.to_owned(), guest: guest.to_owned(), rights: rights.and(wanted) };
    is_meant.then(file)
}

/// The names of a guest's path, without what changes nothing: `./a//b/` and `a/b` are one.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !matches!(*name, "" | "."))
}

/// A guest's path in its one form.
pub(crate) fn clean(path: &str) -> String {
    let joined = names(path).collect::<Vec<_>>().join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// The path of `inner` inside of `outer`; empty if they are the same, `None` if it is not inside.
pub(crate) fn below(outer: &str, inner: &str) -> Option<String> {
    if outer.starts_with('/') != inner.starts_with('/') {
        return None;
    }
    let mut inner = names(inner);
    if !names(outer).all(|name| inner.next() == Some(name)) {
        return None;
    }
    let rest: Vec<_> = inner.collect();
    (!rest.contains(&"..")).then(|| rest.join("/"))
}

/// `path` in `folder`, in its one form.
pub(crate) fn join(folder: &str, path: &str) -> String {
    clean(&format!("{folder}/{path}"))
}

fn rights(spec: &str) -> Rights {
    if spec.ends_with(":rw") { Rights::ALL } else { Rights::READ }
}

fn paths(text: &str, value: &str) -> Result<(PathBuf, String)> {
    let (host, guest) = value.split_once("::").unwrap_or((value, value));
    if host.is_empty() || guest.is_empty() {
        return Err(Usage::new(format!("`{}` names no path", quote(text)))
            .hint("for example `dir:ro=./data`")
            .into());
    }
    Ok((PathBuf::from(host), guest.to_owned()))
}

fn nearest(spec: &str) -> Option<&'static str> {
    let table = [
        ("dir", "dir:ro=DIR"),
        ("dir:r", "dir:ro=DIR"),
        ("dir:ro", "dir:ro=DIR"),
        ("dir:w", "dir:rw=DIR"),
        ("dir:rw", "dir:rw=DIR"),
        ("file", "file:ro=FILE"),
        ("file:ro", "file:ro=FILE"),
        ("file:rw", "file:rw=FILE"),
        ("env", "env:NAME"),
        ("input", "stdin"),
        ("kv", "kv:rw=NAME"),
        ("mem", "mem:ro=NAME"),
        ("memory", "mem:ro=NAME"),
        ("tcp", "tcp:HOST:PORT"),
        ("udp", "udp:HOST:PORT"),
        ("http", "http:HOST"),
        ("https", "http:HOST"),
        ("net", "net:ADDRESS"),
        ("tree", "tree:ro=CID"),
    ];
    table.iter().find(|(typed, _)| *typed == spec).map(|(_, meant)| *meant)
}

/// Opens what the grants name. The number of a grant is its index.
pub fn open(grants: &[Grant]) -> Result<Vec<Preopen>> {
    let mut preopens: Vec<Preopen> = Vec::new();
    for (number, grant) in (0..).zip(grants) {
        match grant {
            Grant::Dir { host, guest, rights } => {
                preopens.push(Preopen {
                    guest: guest.clone(),
                    dir: open_dir(host)?,
                    only: Vec::new(),
                    rights: *rights,
                    grant: number,
                });
            }
            Grant::File { host, guest, rights } => open_file(&mut preopens, host, guest, *rights, number)?,
            Grant::Part(part) if part.is_file => {
                let only = (part.below.clone(), part.rights, number);
                add_only(&mut preopens, &part.host, &part.of, only)?;
            }
            Grant::Part(part) => preopens.push(Preopen {
                guest: part.guest(),
                dir: open_part(part)?,
                only: Vec::new(),
                rights: part.rights,
                grant: number,
            }),
            Grant::Tree { .. }
            | Grant::Env { .. }
            | Grant::Stdin
            | Grant::Net(_)
            | Grant::Kv { .. }
            | Grant::Mem(_) => {}
        }
    }
    Ok(preopens)
}

fn open_dir(host: &Path) -> Result<Dir> {
    Dir::open_ambient_dir(host, ambient_authority()).map_err(|e| not_there(host, &e))
}

fn not_there(host: &Path, error: &std::io::Error) -> vac_core::fault::Error {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Usage::new(format!("the grant of `{}` cannot be opened: {error}", host.display()))
                .hint("`dir:` grants a directory and `file:` one file; both must exist")
                .into()
        }
        _ => HostAbort { hint: None, ..HostAbort::io("open the grant of", host.display(), error) }.into(),
    }
}

/// Opens a directory through the one that was granted: no link of it leads out of that.
fn open_part(part: &Part) -> Result<Dir> {
    open_below(&open_dir(&part.host)?, part)
}

/// The same, through a directory that is open.
pub(crate) fn open_below(whole: &Dir, part: &Part) -> Result<Dir> {
    whole.open_dir(&part.below).map_err(|e| {
        let place = format!("`{}` in the granted `{}`", quote(&part.below), quote(&part.of));
        match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Usage::new(format!("the program asks for {place}, which is not a directory there"))
                    .hint("make it, or let the program see all that you grant with `--no-manifest`")
                    .into()
            }
            std::io::ErrorKind::PermissionDenied => {
                let message = format!("the program asks for {place}, which cannot be reached inside of it");
                HostAbort::new(AbortKind::Denied, message).into()
            }
            _ => HostAbort { hint: None, ..HostAbort::io("open", &part.below, &e) }.into(),
        }
    })
}

/// Whether a part that is a directory is missing on the host.
pub fn is_missing(grant: &Grant) -> bool {
    let not_found =
        |dir: &Dir, below: &str| dir.metadata(below).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    match grant {
        Grant::Part(part) if !part.is_file => {
            open_dir(&part.host).is_ok_and(|dir| not_found(&dir, &part.below))
        }
        _ => false,
    }
}

/// WASI gives a guest directories only, so a file is shown as the one name in its folder.
fn open_file(
    preopens: &mut Vec<Preopen>,
    host: &Path,
    guest: &str,
    rights: Rights,
    number: u32,
) -> Result<()> {
    let real = real_file(host, rights)?;
    let (Some(folder), Some(name)) = (real.parent(), real.file_name().and_then(|n| n.to_str())) else {
        return Err(Usage::new(format!("`{}` is not a file", host.display())).into());
    };
    let (guest_folder, guest_name) = guest.rsplit_once('/').unwrap_or((".", guest));
    if guest_name != name {
        let message = format!(
            "a granted file keeps its name: expected a guest path that ends in `{}`, got `{}`",
            quote(name),
            quote(guest)
        );
        return Err(Usage::new(message).into());
    }
    let guest_folder = if guest_folder.is_empty() { "/" } else { guest_folder };
    add_only(preopens, folder, guest_folder, (name.to_owned(), rights, number))
}

/// Where a granted file really is. Links are followed now, once: later they could lead elsewhere. A
/// file to write may be missing: its holder may make it.
fn real_file(host: &Path, rights: Rights) -> Result<PathBuf> {
    let missing = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    let real = match (host.canonicalize(), host.parent(), host.file_name()) {
        (Err(e), Some(folder), Some(name)) if missing(&e) && rights.has(Rights::WRITE) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            return folder.canonicalize().map(|folder| folder.join(name)).map_err(|e| not_there(host, &e));
        }
        (real, ..) => real.map_err(|e| not_there(host, &e))?,
    };
    if real.is_file() {
        return Ok(real);
    }
    let hint = match real.is_dir() {
        true => "`dir:` grants a directory",
        false => {
            "a device has other bytes each time, and no end: grant a file of the same name with bytes of it"
        }
    };
    Err(Usage::new(format!("`{}` is not a file", host.display())).hint(hint).into())
}

/// Shows one more name of the folder at `host`. Two files of one folder are two names in it.
fn add_only(
    preopens: &mut Vec<Preopen>,
    host: &Path,
    guest: &str,
    only: (String, Rights, u32),
) -> Result<()> {
    let same =
        |p: &&mut Preopen| clean(&p.guest) == clean(guest) && !p.only.is_empty() && is_folder(&p.dir, host);
    let (_, rights, grant) = only;
    if let Some(preopen) = preopens.iter_mut().find(same) {
        preopen.rights = preopen.rights.or(rights);
        preopen.only.push(only);
        return Ok(());
    }
    preopens.push(Preopen { guest: guest.to_owned(), dir: open_dir(host)?, only: vec![only], rights, grant });
    Ok(())
}

/// Whether `dir` is the folder at `path`.
fn is_folder(dir: &Dir, path: &Path) -> bool {
    use cap_fs_ext::MetadataExt;
    match (dir.dir_metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => {
            (MetadataExt::dev(&a), MetadataExt::ino(&a)) == (MetadataExt::dev(&b), MetadataExt::ino(&b))
        }
        _ => false,
    }
}

/// The grants as a header has them.
pub(crate) fn in_header(header: &vac_core::ledger::Header) -> Vec<Node> {
    match header.get("grants") {
        Some(Node::List(items)) => items.clone(),
        _ => Vec::new(),
    }
}

/// The trees that a run may change, from its header: number of the grant, and the guest's name.
pub(crate) fn trees_to_keep(in_header: &[Node]) -> Vec<(u32, String)> {
    let tree = |(number, grant): (u32, &Node)| match grant {
        Node::List(parts) => match parts.as_slice() {
            [Node::Text(kind), Node::Text(guest), Node::Text(rights), Node::Link(_)]
                if kind == "tree" && *rights == Rights::ALL.to_string() =>
            {
                Some((number, guest.clone()))
            }
            _ => None,
        },
        _ => None,
    };
    (0..).zip(in_header).filter_map(tree).collect()
}

/// The number of the grant of the standard input.
pub fn stdin(grants: &[Grant]) -> Option<u32> {
    (0..).zip(grants).find(|(_, grant)| **grant == Grant::Stdin).map(|(number, _)| number)
}

/// What of the network is granted.
pub fn net(grants: &[Grant]) -> Vec<NetGrant> {
    let numbered = (0..).zip(grants);
    numbered
        .filter_map(|(n, grant)| if let Grant::Net(net) = grant { Some(net.numbered(n)) } else { None })
        .collect()
}

/// Opens the namespaces that are granted.
pub fn buckets(home: &Home, grants: &[Grant]) -> Result<Vec<Bucket>> {
    let (mut buckets, mut namespaces) = (Vec::new(), Namespaces::default());
    for (number, grant) in (0..).zip(grants) {
        if let Grant::Kv { name, guest, rights } = grant {
            let data = namespaces.open(home, name)?;
            buckets.push(Bucket { guest: guest.clone(), rights: *rights, grant: number, data });
        }
    }
    Ok(buckets)
}

/// Opens the memories that are granted, numbered as their grants are.
pub(crate) fn memories(memories: &mut Memories, home: &Home, grants: &[Grant]) -> Result<Vec<Memory>> {
    let mut all = Vec::new();
    for (number, grant) in (0..).zip(grants) {
        if let Grant::Mem(mem) = grant {
            all.push(memories.open(home, mem, number)?);
        }
    }
    Ok(all)
}

/// The variables that the grants let through, then those set by the operator, which win; in the order in which they were
/// typed. One that was typed again has its first place and its last value.
pub fn environment(grants: &[Grant], set: &[(String, String)]) -> Vec<(String, String)> {
    let granted = grants.iter().filter_map(|grant| match grant {
        Grant::Env { name, value } => Some((name.clone(), value.clone())),
        _ => None,
    });
    let mut all: Vec<(String, String)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for (name, value) in granted.chain(set.iter().cloned()) {
        let place = *places.entry(name.clone()).or_insert(all.len());
        match all.get_mut(place) {
            Some(earlier) => earlier.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Grant> {
        Grant::parse(text, &|name| (name == "LANG").then(|| "C".to_owned()))
    }

    #[test]
    fn grants_are_read_as_documented() {
        let dir = Grant::Dir { host: "./data".into(), guest: "./data".into(), rights: Rights::READ };
        assert_eq!(parse("dir:ro=./data").unwrap(), dir);
        let named = Grant::Dir { host: "/tmp/x=y".into(), guest: "/work".into(), rights: Rights::ALL };
        assert_eq!(parse("dir:rw=/tmp/x=y::/work").unwrap(), named);
        assert_eq!(parse("stdin").unwrap(), Grant::Stdin);
        let cid = Cid::of(vac_core::cid::Codec::DagCbor, b"");
        let tree = Grant::Tree { cid, guest: "tree".into(), rights: Rights::READ };
        assert_eq!(parse(&format!("tree:ro={cid}")).unwrap(), tree);
        let tree = Grant::Tree { cid, guest: "/".into(), rights: Rights::ALL };
        assert_eq!(parse(&format!("tree:rw={cid}::/")).unwrap(), tree);
        assert_eq!(parse("env:LANG").unwrap(), Grant::Env { name: "LANG".into(), value: "C".into() });
    }

    #[test]
    fn what_is_no_grant_says_what_to_type() {
        for bad in [
            "",
            "dir",
            "dir:ro",
            "dir:ro=",
            "dir:xx=/",
            "env:",
            "env:NOPE",
            "env:LANG=x",
            "stdin=1",
            "net:x",
            "dir:ro=::x",
            "tree:ro=x",
            "mem",
            "mem:ro",
            "mem:ro=",
            "mem:ro=a/b",
            "mem:ro=m::",
            "mem:ro=m@",
            "mem:ro=m@x",
            "mem:ro=m@0+0",
            "mem:ro=m@1+18446744073709551616",
            "mem:ro=m@2+18446744073709551615",
            "mem:xx=m",
            "tree:ro=",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_of_a_memory_are_granted_by_number() {
        let shards = |text: &str| match parse(text).unwrap() {
            Grant::Mem(mem) => (mem.first, mem.last, mem.guest),
            other => panic!("{other:?}"),
        };
        assert_eq!(shards("mem:rw=m"), (0, u64::MAX, "m".into()));
        assert_eq!(shards("mem:rw=m@7::x"), (7, 7, "x".into()));
        assert_eq!(shards("mem:ro=m@0x10+0x10::x"), (16, 31, "x".into()));
        assert_eq!(shards("mem:ro=m@18446744073709551615"), (u64::MAX, u64::MAX, "m".into()));
        assert_eq!(shards("mem:ro=m@1+18446744073709551615"), (1, u64::MAX, "m".into()));
        let root = Cid::of(vac_core::cid::Codec::DagCbor, b"");
        assert_eq!(shards(&format!("mem:ro={root}::x")), (0, u64::MAX, "x".into()));
        assert!(parse(&format!("mem:rw={root}::x")).is_err());
    }

    #[test]
    fn the_environment_is_in_the_order_it_was_typed_and_what_is_set_wins() {
        // It was sorted by name once, which no program of C or of a shell does.
        let grants = [parse("env:LANG").unwrap()];
        let set = [("Z", "1"), ("LANG", "de"), ("A", "2"), ("Z", "3")].map(|(k, v)| (k.into(), v.into()));
        let names: Vec<_> = environment(&grants, &set).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(names, ["LANG=de", "Z=3", "A=2"]);
    }
}

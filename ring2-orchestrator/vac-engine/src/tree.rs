//! Directories as objects: a tree has names, and for each the CID of a file, another tree, or the
//! text of a link. The form is in `docs/formats.md`.
//!
//! Times, modes and owners are no part of it, so the same content has the same CID everywhere. A
//! tree that comes from anywhere is hostile: its names are checked, and what it may claim of the
//! disk is bounded. It is written through cap-std, into directories that were just created.

use std::io::Read;
use std::path::Path;

use cap_fs_ext::DirExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use vac_core::canon::{self, Node};
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{AbortKind, Corrupt, HostAbort, Result, Usage, quote};
use vac_core::limits::STORE_OBJECT_MAX_BYTES;
use vac_core::store::Store;

/// Version of the form.
const FORMAT: i128 = 1;
/// Names in one tree with all below it.
const ENTRIES_MAX: u64 = 1 << 20;
/// Bytes of all its files.
const BYTES_MAX: u64 = 64 << 30;
/// Directories inside each other.
const DEPTH_MAX: usize = 100;
/// Bytes of one name.
const NAME_MAX_BYTES: usize = 255;
/// Bytes of one directory's object.
const OBJECT_MAX_BYTES: u64 = 64 << 20;

/// What a name in a tree stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File { cid: Cid, len_bytes: u64 },
    Dir(Cid),
    Link(String),
}

impl Entry {
    fn to_node(&self) -> Node {
        let text = |text: &str| Node::Text(text.to_owned());
        Node::List(match self {
            Self::File { cid, len_bytes } => {
                vec![text("file"), Node::Link(*cid), Node::Int(i128::from(*len_bytes))]
            }
            Self::Dir(cid) => vec![text("dir"), Node::Link(*cid)],
            Self::Link(target) => vec![text("link"), text(target)],
        })
    }

    fn from_node(node: &Node) -> Option<Self> {
        let Node::List(parts) = node else { return None };
        match parts.as_slice() {
            [Node::Text(kind), Node::Link(cid), Node::Int(len)]
                if kind == "file" && cid.codec() == Codec::Raw =>
            {
                Some(Self::File { cid: *cid, len_bytes: u64::try_from(*len).ok()? })
            }
            [Node::Text(kind), Node::Link(cid)] if kind == "dir" && cid.codec() == Codec::DagCbor => {
                Some(Self::Dir(*cid))
            }
            [Node::Text(kind), Node::Text(target)] if kind == "link" => Some(Self::Link(target.clone())),
            _ => None,
        }
    }
}

/// How much more a tree may have.
struct Left {
    entries: u64,
    bytes: u64,
}

impl Left {
    fn new() -> Self {
        Self { entries: ENTRIES_MAX, bytes: BYTES_MAX }
    }

    fn take(&mut self, bytes: u64, depth: usize) -> Result<()> {
        let left = (self.entries.checked_sub(1), self.bytes.checked_sub(bytes));
        match left {
            (Some(entries), Some(bytes)) if depth <= DEPTH_MAX => {
                (self.entries, self.bytes) = (entries, bytes);
                Ok(())
            }
            _ => {
                let message = format!(
                    "a tree has more than {ENTRIES_MAX} names, {BYTES_MAX} bytes or {DEPTH_MAX} directories inside each other"
                );
                Err(HostAbort::new(AbortKind::Quota, message).into())
            }
        }
    }
}

/// How a file is kept: [`Store::put_stream`] or [`Store::put_chunked`].
pub type Keep = fn(&Store, Codec, &mut dyn Read, u64) -> Result<(Cid, u64)>;

/// Keeps the directory at `path` as [`put`] does, but each file as `keep` says.
pub fn put_folder(store: &Store, path: &Path, keep: Keep) -> Result<Cid> {
    put_below(store, &open(path)?, &path.display().to_string(), keep, 0, &mut Left::new())
}

/// Writes a tree into a new directory at `path`.
pub fn get_folder(store: &Store, cid: &Cid, path: &Path) -> Result<()> {
    // What is no tree makes no directory.
    read(store, cid)?;
    std::fs::create_dir(path).map_err(|e| HostAbort::io("create", path.display(), &e))?;
    get(store, cid, &open(path)?)
}

fn open(path: &Path) -> Result<Dir> {
    let dir = Dir::open_ambient_dir(path, ambient_authority());
    dir.map_err(|e| HostAbort::io("open", path.display(), &e).into())
}

/// Keeps a directory with all below it. Files that are no files, directories or links are an error.
pub fn put(store: &Store, dir: &Dir, place: &str) -> Result<Cid> {
    put_below(store, dir, place, Store::put_stream, 0, &mut Left::new())
}

fn put_below(
    store: &Store,
    dir: &Dir,
    place: &str,
    keep: Keep,
    depth: usize,
    left: &mut Left,
) -> Result<Cid> {
    let failed = |e| HostAbort::io("read the directory", place, &e);
    let mut entries = Vec::new();
    for item in dir.entries().map_err(failed)? {
        let item = item.map_err(failed)?;
        let (name, kind) = (item.file_name(), item.file_type().map_err(failed)?);
        let place = format!("{place}/{}", name.display());
        let Some(name) = name.to_str() else {
            return Err(Usage::new(format!("the name of `{}` is not UTF-8", quote(&place))).into());
        };
        let entry = if kind.is_dir() {
            left.take(0, depth)?;
            let below = dir.open_dir_nofollow(name).map_err(|e| HostAbort::io("open", &place, &e))?;
            Entry::Dir(put_below(store, &below, &place, keep, depth + 1, left)?)
        } else if kind.is_symlink() {
            left.take(0, depth)?;
            let target = dir.read_link_contents(name).map_err(|e| HostAbort::io("read", &place, &e))?;
            let target = target
                .to_str()
                .ok_or_else(|| Usage::new(format!("where `{}` leads is not UTF-8", quote(&place))))?;
            Entry::Link(target.to_owned())
        } else if kind.is_file() {
            let mut file = dir.open(name).map_err(|e| HostAbort::io("open", &place, &e))?;
            let max = STORE_OBJECT_MAX_BYTES.min(left.bytes);
            let (cid, len_bytes) = keep(store, Codec::Raw, &mut file, max)?;
            left.take(len_bytes, depth)?;
            Entry::File { cid, len_bytes }
        } else {
            return Err(Usage::new(format!("`{}` is no file, directory or link", quote(&place))).into());
        };
        entries.push((name.to_owned(), entry.to_node()));
    }
    entries.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    let bytes = canon::encode(&Node::List(vec![Node::Int(FORMAT), Node::Map(entries)]));
    store.put(Codec::DagCbor, &bytes)
}

/// Writes a tree into a directory, which must be empty.
pub fn get(store: &Store, cid: &Cid, into: &Dir) -> Result<()> {
    get_below(store, cid, into, 0, &mut Left::new())
}

fn get_below(store: &Store, cid: &Cid, into: &Dir, depth: usize, left: &mut Left) -> Result<()> {
    for (name, entry) in read(store, cid)? {
        let failed = |e| HostAbort::io("write", &name, &e);
        match entry {
            Entry::File { cid, len_bytes } => {
                left.take(len_bytes, depth)?;
                let mut how = OpenOptions::new();
                let mut file = into.open_with(&name, how.write(true).create_new(true)).map_err(failed)?;
                let len = store.get_stream(&cid, &mut file)?.ok_or_else(|| missing(&cid))?;
                if len != len_bytes {
                    let place = format!("`{}` of a tree", quote(&name));
                    return Err(Corrupt::new("tree", place, format!("{len_bytes} bytes"), len).into());
                }
            }
            Entry::Dir(cid) => {
                left.take(0, depth)?;
                into.create_dir(&name).map_err(failed)?;
                let below = into.open_dir_nofollow(&name).map_err(failed)?;
                get_below(store, &cid, &below, depth + 1, left)?;
            }
            Entry::Link(target) => {
                left.take(0, depth)?;
                // As text: nothing of what a tree says is resolved outside of it.
                into.symlink_contents(&target, &name).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The entries of one directory, checked.
fn read(store: &Store, cid: &Cid) -> Result<Vec<(String, Entry)>> {
    let place = format!("`{cid}`");
    let wrong = |got: String| Corrupt::new("tree", place.clone(), "a tree of format 1", got);
    if cid.codec() != Codec::DagCbor {
        return Err(Usage::new(format!("`{cid}` is not a tree but a file"))
            .hint("`vac store put DIR` prints the CID of a tree")
            .into());
    }
    if store.len_of(cid)?.ok_or_else(|| missing(cid))? > OBJECT_MAX_BYTES {
        return Err(wrong(format!("more than {OBJECT_MAX_BYTES} bytes")).into());
    }
    let bytes = store.get(cid)?.ok_or_else(|| missing(cid))?;
    let node: Node = canon::decode(&bytes, &place)?;
    let Node::List(parts) = node else { return Err(wrong("another structure".into()).into()) };
    let [Node::Int(FORMAT), Node::Map(entries)] = parts.as_slice() else {
        return Err(wrong("another structure".into()).into());
    };
    let checked = |(name, node): &(String, Node)| {
        let entry = Entry::from_node(node).filter(|_| is_name(name));
        entry
            .map(|entry| (name.clone(), entry))
            .ok_or_else(|| wrong(format!("the entry `{}`", quote(name))).into())
    };
    entries.iter().map(checked).collect()
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX_BYTES && !name.contains(['/', '\0'])
}

fn missing(cid: &Cid) -> vac_core::fault::Error {
    Usage::new(format!("the store has no object `{cid}`")).hint("`vac store ls` lists them").into()
}

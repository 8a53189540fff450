//! Running a program several times with something different around it each time, and comparing every event.
//!
//! ```text
//! HOME/probe/PID-N/code/          compiled code, shared by all but those that must have their own
//! HOME/probe/PID-N/K/home/        the home of run K: ledgers and namespaces of its own, the store of HOME
//! HOME/probe/PID-N/K/copies/G/    what grant G lets it change, as it was at the start
//! HOME/probe/PID-N/K/work/        where a script is started, with a copy of its `out`
//! ```
//!
//! Nothing that the operator granted is changed: whatever a run may write to is copied for it. The whole is removed
//! when the probe is over, or by the next one after a crash.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vac_core::caps::Rights;
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage, quote};
use vac_core::ledger::{Call, Class, Entry, Head, Header, Outcome, RUNS_DIR, Reader, Return, RunId, Seq};

use crate::copies::Folder;
use crate::grants::Grant;
use crate::history::Side;
use crate::home::{Home, STORE_DIR};
use crate::journal::{is_outside, kept, results};
use crate::report::{show_kept, show_node, show_outcome};
use crate::script::OUT_DIR;
use crate::worlds::Worlds;

/// The folder of all probes in a home.
const PROBE_DIR: &str = "probe";
/// What is copied for one run, at most.
const COPY_MAX_BYTES: u64 = 1 << 30;
/// Files and folders of it.
const COPY_MAX_NAMES: u64 = 100_000;

/// Where the runs of one probe happen. Dropping it removes all of it.
pub struct Scratch {
    folder: Folder,
}

/// Where one of them happens.
#[derive(Debug, Clone)]
pub struct Place {
    folder: PathBuf,
}

impl Scratch {
    /// A place in `home` for the runs of one probe.
    pub fn new(home: &Home) -> Result<Self> {
        let folder = Folder::new(&home.path().join(PROBE_DIR))?;
        make(&folder.path.join("code"))?;
        Ok(Self { folder })
    }

    /// The place of the run `name`: a home over the store of `home`, and copies of what `grants` let it
    /// change and of what is in `work`. With code of its own, it finds nothing compiled.
    pub fn place(
        &self,
        home: &Home,
        name: &str,
        grants: &[Grant],
        work: &Path,
        has_own_code: bool,
    ) -> Result<Place> {
        let place = Place { folder: absolute(&self.folder.path.join(name))? };
        let own = place.home();
        make(&own)?;
        link(&absolute(&home.path().join(STORE_DIR))?, &own.join(STORE_DIR))?;
        if !has_own_code {
            link(&absolute(&self.folder.path.join("code"))?, &own.join("code"))?;
        }
        make(&place.work())?;
        let mut budget = Budget::default();
        if work.join(OUT_DIR).is_dir() {
            budget.copy(&work.join(OUT_DIR), &place.work().join(OUT_DIR))?;
        }
        for (number, grant) in grants.iter().enumerate() {
            let to = place.copy_of(number);
            match grant {
                Grant::Dir { host, .. } if is_changed(grant) => budget.copy_grant(host, &to)?,
                Grant::File { host, .. } if is_changed(grant) => {
                    make(&to)?;
                    budget.copy_grant(host, &to.join(file_name(host)))?;
                }
                Grant::Kv { name, .. } => copy_namespace(home, &own, name, &mut budget)?,
                // A name is in the store, which all places share.
                Grant::Mem(mem) if mem.rights.has(Rights::WRITE) => return Err(shared_memory(&mem.name)),
                _ => {}
            }
        }
        Ok(place)
    }
}

impl Place {
    /// The place in `folder`, that was made by another process.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The place beside it of a run that its own run comes after.
    pub fn before(&self) -> Self {
        Self { folder: self.folder.with_file_name(format!("{}-before", self.name())) }
    }

    /// The home of the run.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// The folder that a script is started in.
    pub fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn copy_of(&self, number: usize) -> PathBuf {
        self.folder.join("copies").join(number.to_string())
    }

    /// The grants of the operator, who sees paths from `folder`, with the copies in the place of what may be
    /// changed.
    pub fn redirect(&self, grants: Vec<Grant>, folder: &Path) -> Vec<Grant> {
        let redirect = |(number, grant): (usize, Grant)| {
            let mut grant = grant.seen_from(folder);
            let is_changed = is_changed(&grant);
            match &mut grant {
                Grant::Dir { host, .. } if is_changed => *host = self.copy_of(number),
                Grant::File { host, .. } if is_changed => *host = self.copy_of(number).join(file_name(host)),
                _ => {}
            }
            grant
        };
        grants.into_iter().enumerate().map(redirect).collect()
    }
}

/// Whether a run may change what is on the host behind a grant.
pub fn is_changed(grant: &Grant) -> bool {
    match grant {
        Grant::Dir { rights, .. } | Grant::File { rights, .. } | Grant::Kv { rights, .. } => {
            rights.has(Rights::WRITE)
        }
        _ => false,
    }
}

fn file_name(path: &Path) -> &Path {
    path.file_name().map_or(Path::new("file"), Path::new)
}

fn shared_memory(name: &str) -> Error {
    let message = format!("the memory `{}` cannot be copied for each run that is compared", quote(name));
    Usage::new(message).hint(format!("`mem:ro={}` lets them read it", quote(name))).into()
}

/// A namespace is one file, and none if nothing was ever put into it.
fn copy_namespace(home: &Home, own: &Path, name: &str, budget: &mut Budget) -> Result<()> {
    let file = format!("kv/{name}.redb");
    if !home.path().join(&file).exists() {
        return Ok(());
    }
    make(&own.join("kv"))?;
    budget.copy(&home.path().join(&file), &own.join(&file))
}

/// What was copied for one run.
#[derive(Default)]
struct Budget {
    bytes: u64,
    names: u64,
}

impl Budget {
    fn copy_grant(&mut self, from: &Path, to: &Path) -> Result<()> {
        match from.exists() {
            true => self.copy(from, to),
            // The run says what is wrong with it.
            false => Ok(()),
        }
    }

    /// Copies a file or a folder with all in it. A link stays one.
    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let failed = |e| HostAbort::io("copy", from.display(), &e);
        let mut todo = vec![(from.to_owned(), to.to_owned(), true)];
        while let Some((from, to, is_first)) = todo.pop() {
            // What is granted may be named by a link; what is in it is not followed.
            let found = if is_first { fs::metadata(&from) } else { fs::symlink_metadata(&from) };
            let found = found.map_err(failed)?;
            self.charge(&from, found.len())?;
            if found.is_dir() {
                make(&to)?;
                for entry in fs::read_dir(&from).map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    todo.push((entry.path(), to.join(entry.file_name()), false));
                }
            } else if found.is_symlink() {
                symlink(fs::read_link(&from).map_err(failed)?, &to).map_err(failed)?;
            } else if found.is_file() {
                fs::copy(&from, &to).map_err(failed)?;
            } else {
                let message = format!("`{}` is neither a file nor a folder nor a link", from.display());
                return Err(Usage::new(message).hint(TREE_HINT).into());
            }
        }
        Ok(())
    }

    fn charge(&mut self, path: &Path, bytes: u64) -> Result<()> {
        (self.bytes, self.names) = (self.bytes.saturating_add(bytes), self.names + 1);
        if self.bytes <= COPY_MAX_BYTES && self.names <= COPY_MAX_NAMES {
            return Ok(());
        }
        let message = format!(
            "what the program may change is too much to copy for each run, at `{}`: the limit is \
             {COPY_MAX_BYTES} bytes and {COPY_MAX_NAMES} names",
            path.display()
        );
        Err(Usage::new(message).hint(TREE_HINT).into())
    }
}

const TREE_HINT: &str = "grant less, or a tree: `vac store put DIR` prints a CID for `--grant tree:rw=CID`";

fn make(path: &Path) -> Result<()> {
    Ok(fs::create_dir_all(path).map_err(|e| HostAbort::io("make the folder", path.display(), &e))?)
}

fn link(to: &Path, at: &Path) -> Result<()> {
    Ok(symlink(to, at).map_err(|e| HostAbort::io("make the link", at.display(), &e))?)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path).map_err(|e| HostAbort::io("find", path.display(), &e))?)
}

/// Takes a run over into `home` that has the same store.
pub fn adopt(home: &Home, from: &Home, run: RunId) -> Result<()> {
    let (from, to) = (from.path().join(RUNS_DIR), home.path().join(RUNS_DIR));
    make(&to)?;
    let failed = |e| HostAbort::io("copy the run", from.display(), &e);
    for entry in fs::read_dir(&from).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(run.as_str())) {
            fs::copy(from.join(&name), to.join(&name)).map_err(failed)?;
            fs::File::open(to.join(&name)).and_then(|file| file.sync_all()).map_err(failed)?;
        }
    }
    Ok(())
}

/// How a run compares with the first one.
#[derive(Debug, Clone)]
pub struct Met {
    /// Events that are the same.
    pub events: u64,
    /// The head of the other run.
    pub head: Head,
    /// Whether its ticks are others, if that is allowed.
    pub has_other_ticks: bool,
    /// Where they part.
    pub difference: Option<Parting>,
    /// How the other run ended.
    pub ended: Option<Outcome>,
}

/// The first event that differs.
#[derive(Debug, Clone)]
pub struct Parting {
    /// Its number.
    pub event: Seq,
    /// What the first run has.
    pub one: Side,
    /// What the other has.
    pub other: Side,
    /// Whether the same was asked, and what is outside answered otherwise.
    pub is_worlds: bool,
    /// What ended one of the two there that is neither the program's nor the world's: a limit of time, an interrupt, the
    /// machine.
    pub outside: Option<(AbortKind, String)>,
}

/// What of two runs may differ and is no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgives {
    /// Nothing.
    Nothing,
    /// The profile that the header names.
    Profile,
    /// The engine that the header names, and ticks.
    Engine,
}

/// Compares two runs entry by entry.
pub fn compare(one: (&Home, RunId), other: (&Home, RunId), forgives: Forgives) -> Result<Met> {
    let (mut one, mut other) = (Walk::new(one)?, Walk::new(other)?);
    let (mut events, mut has_other_ticks) = (0, false);
    let mut worlds = Worlds::default();
    let difference = loop {
        let (a, b) = (one.next()?, other.next()?);
        match (&a, &b) {
            (None, None) => break None,
            (Some(x), Some(y)) if x == y => {}
            (Some(Entry::Header(x)), Some(Entry::Header(y)))
                if forgives == Forgives::Profile
                    && first_field(x, y, "profile").is_none_or(|name| name == "profile") => {}
            (Some(x), Some(y)) if forgives == Forgives::Engine && one.is_same_but_ticks(x, &other, y)? => {
                has_other_ticks |= !matches!(x, Entry::Header(_));
            }
            _ => {
                let is_worlds = one.is_worlds(a.as_ref(), b.as_ref(), &worlds);
                let (side, other) = (one.side(a.as_ref(), b.as_ref()), other.side(b.as_ref(), a.as_ref()));
                let outside =
                    a.as_ref().and_then(ended_outside).or_else(|| b.as_ref().and_then(ended_outside));
                break Some(Parting { event: side.event, one: side, other, is_worlds, outside });
            }
        }
        events += u64::from(matches!(a, Some(Entry::Event(..) | Entry::Begin(_))));
        if let Some((call, Return { answer: Ok(answer), .. })) = one.happened(a.as_ref()) {
            worlds.see(one.name(call), call.class, &call.request, answer, one.home.store());
        }
    };
    while other.next()?.is_some() {}
    Ok(Met { events, head: other.reader.head(), has_other_ticks, difference, ended: other.ended })
}

/// What from outside ended a run, if that is what `entry` says.
fn ended_outside(entry: &Entry) -> Option<(AbortKind, String)> {
    let outcome = match entry {
        Entry::Event(_, ret) | Entry::End(_, ret) => ret.answer.as_ref().err()?,
        Entry::Close { outcome, .. } => outcome,
        _ => return None,
    };
    match outcome {
        Outcome::Abort { kind, message } if is_outside(*kind) => Some((*kind, message.clone())),
        _ => None,
    }
}

/// One of two runs that are read side by side.
struct Walk<'h> {
    home: &'h Home,
    reader: Reader,
    names: Vec<String>,
    events: u64,
    /// The effect that has begun.
    effect: Option<Call>,
    /// How it ended, once that was read.
    ended: Option<Outcome>,
}

impl<'h> Walk<'h> {
    fn new((home, run): (&'h Home, RunId)) -> Result<Self> {
        let reader = Reader::open(Arc::clone(home.storage()), run)?;
        Ok(Self { home, reader, names: Vec::new(), events: 0, effect: None, ended: None })
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        let mut entry = self.reader.next()?;
        while entry.as_ref().is_some_and(|entry| !entry.is_chained()) {
            entry = self.reader.next()?;
        }
        match &entry {
            Some(Entry::Name(_, name)) => self.names.push(name.clone()),
            Some(Entry::Event(..)) => self.events += 1,
            Some(Entry::Begin(call)) => {
                self.events += 1;
                self.effect = (call.class == Class::Effect).then(|| call.clone());
            }
            Some(Entry::Close { outcome, .. }) => self.ended = Some(outcome.clone()),
            _ => {}
        }
        Ok(entry)
    }

    /// The event that `entry`, the last one that was read, ends, with its answer.
    fn happened<'e>(&'e self, entry: Option<&'e Entry>) -> Option<(&'e Call, &'e Return)> {
        match entry? {
            Entry::Event(call, ret) => Some((call, ret)),
            Entry::End(seq, ret) => Some((self.effect.as_ref().filter(|call| call.seq == *seq)?, ret)),
            _ => None,
        }
    }

    fn name(&self, call: &Call) -> &str {
        usize::try_from(call.name).ok().and_then(|n| self.names.get(n)).map_or("?", String::as_str)
    }

    /// Whether the same was asked, and what is outside answered otherwise, or had answered before.
    fn is_worlds(&self, a: Option<&Entry>, b: Option<&Entry>, worlds: &Worlds) -> bool {
        match (a, b) {
            (Some(Entry::Event(x, a)), Some(Entry::Event(y, b))) => {
                let holds = || worlds.is_asked(self.name(x), &x.request, self.home.store());
                x == y && a != b && (x.class == Class::Read || (x.class == Class::Local && holds()))
            }
            (Some(Entry::End(x, _)), Some(Entry::End(y, _))) => {
                x == y && self.effect.as_ref().is_some_and(|call| call.seq == *x)
            }
            _ => false,
        }
    }

    fn is_same_but_ticks(&self, a: &Entry, other: &Self, b: &Entry) -> Result<bool> {
        let same_call = |x: &Call, y: &Call| *x == Call { tick: x.tick, ..y.clone() };
        Ok(match (a, b) {
            (Entry::Header(x), Entry::Header(y)) => {
                first_field(x, y, "engine").is_none_or(|name| name == "engine")
            }
            (Entry::Event(x, a), Entry::Event(y, b)) => same_call(x, y) && a == b,
            (Entry::Begin(x), Entry::Begin(y)) => same_call(x, y),
            (Entry::End(x, Return { answer: Ok(a), .. }), Entry::End(y, Return { answer: Ok(b), .. })) => {
                let (a, b) = (kept(self.home.store(), a)?, kept(other.home.store(), b)?);
                x == y && matches!((a, b), (Some(a), Some(b)) if results(&a) == results(&b))
            }
            (Entry::Close { outcome: a, events: n, .. }, Entry::Close { outcome: b, events: m, .. }) => {
                a == b && n == m
            }
            _ => false,
        })
    }

    /// What an entry is to people; `beside` is what the other run has.
    fn side(&self, entry: Option<&Entry>, beside: Option<&Entry>) -> Side {
        let last = self.events.saturating_sub(1);
        match entry {
            None => end("the end of the record".into(), self.events, 0, None),
            Some(Entry::Header(header)) => header_side(header, beside),
            Some(Entry::Event(call, ret)) => self.call_side(call, Some(self.answer(ret))),
            Some(Entry::Begin(call)) => self.call_side(call, None),
            Some(Entry::End(seq, ret)) => {
                end(format!("the end of event {seq}"), *seq, 0, Some(self.answer(ret)))
            }
            Some(Entry::Close { outcome, ticks, .. }) => {
                let words = format!("{} after {ticks} ticks", show_outcome(outcome));
                end("the end of the run".into(), last, *ticks, Some(words))
            }
            Some(Entry::Name(_, name)) => {
                end(format!("the first call of {}", quote(name)), self.events, 0, None)
            }
            Some(Entry::Mark { .. } | Entry::Note(_)) => end("a note".into(), last, 0, None),
        }
    }

    fn call_side(&self, call: &Call, answer: Option<String>) -> Side {
        let function = self.name(call).to_owned();
        let request = show_kept(&call.request, self.home.store());
        Side { event: call.seq, tick: call.tick, function, request, answer }
    }

    fn answer(&self, ret: &Return) -> String {
        match &ret.answer {
            Ok(body) => show_kept(body, self.home.store()),
            Err(outcome) => show_outcome(outcome),
        }
    }
}

/// Something that is no request.
fn end(function: String, event: Seq, tick: u64, answer: Option<String>) -> Side {
    Side { event, tick, function, request: String::new(), answer }
}

/// The field of a header that the one beside it has otherwise.
fn header_side(header: &Header, beside: Option<&Entry>) -> Side {
    let field = match beside {
        Some(Entry::Header(other)) => first_field(header, other, "engine").unwrap_or_default(),
        _ => String::new(),
    };
    let value = header.get(&field).map_or_else(|| "nothing".into(), show_node);
    end(format!("field {} of the header", quote(&field)), 0, 0, Some(value))
}

/// The first field in which two headers differ, the engine last.
fn first_field(one: &Header, other: &Header, last: &str) -> Option<String> {
    let names = one.fields.iter().chain(&other.fields).map(|(name, _)| name);
    let mut differ = names.filter(|name| one.get(name) != other.get(name)).cloned().collect::<Vec<_>>();
    differ.sort_by_key(|name| name == last);
    differ.into_iter().next()
}

#[cfg(test)]
mod tests {
    use vac_core::canon::Node;

    use super::*;

    #[test]
    fn what_a_run_may_change_is_copied_and_what_it_may_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(&folder.path().join("home")).unwrap();
        let dir = folder.path().join("d");
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), "content").unwrap();
        symlink("sub/file", dir.join("link")).unwrap();
        let parse = |text: String| Grant::parse(&text, &|_| None).unwrap();
        let grants = vec![
            parse(format!("dir:rw={}", dir.display())),
            parse(format!("dir:ro={}", dir.display())),
            parse(format!("file:rw={}", dir.join("sub/file").display())),
        ];
        let scratch = Scratch::new(&home).unwrap();
        let place = scratch.place(&home, "0", &grants, folder.path(), false).unwrap();
        let redirected = place.redirect(grants, Path::new("/"));
        let hosts: Vec<_> = redirected.iter().filter_map(Grant::host_path).collect();
        assert!(hosts[0].starts_with(place.path()) && hosts[2].starts_with(place.path()));
        assert_eq!(hosts[1], dir);
        assert_eq!(fs::read_to_string(hosts[0].join("sub/file")).unwrap(), "content");
        assert_eq!(fs::read_link(hosts[0].join("link")).unwrap(), Path::new("sub/file"));
        assert_eq!(fs::read_to_string(hosts[2]).unwrap(), "content");
        let path = place.path().to_owned();
        drop(scratch);
        assert!(!path.exists() && home.path().join("store").exists());
    }

    #[test]
    fn the_engine_is_the_last_field_that_headers_are_said_to_differ_in() {
        let header = |engine: &str, seed: i128| {
            Header::new(vec![("engine".into(), Node::Text(engine.into())), ("seed".into(), Node::Int(seed))])
        };
        assert_eq!(first_field(&header("a", 1), &header("a", 1), "engine"), None);
        assert_eq!(first_field(&header("a", 1), &header("b", 1), "engine").as_deref(), Some("engine"));
        assert_eq!(first_field(&header("a", 1), &header("b", 2), "engine").as_deref(), Some("seed"));
    }
}

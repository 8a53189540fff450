//! The least manifest that a recorded run really needed, from the events of its ledger.
//!
//! A file that was opened is asked for as that file; a directory only if it was listed, if names in it
//! changed, or if it was opened itself. What was looked for and was not there is asked for as optional.
//! What was refused is not asked for: the run did without. Of the network, hosts, ports and methods are
//! asked for as they were used (see [`net`]). Where an event cannot be traced to one file, the whole grant that allowed it is asked for, so the manifest may be wider than the least, never too narrow.
//!
//! "Enough" holds for programs that find a file by the longest name of a directory they were given, as
//! wasi-libc does. One that counts its directories finds others than it had while this was learned.

mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vac_core::canon::{self, Node};
use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::{Body, RunId, Seq};
use vac_host::net::{HostPattern, NetKind};

use crate::grants::{Grant, below, clean, join};
use crate::home::Home;
use crate::manifest::{ASKS_MAX, Ask};
use crate::net_grants::Net;
use crate::report::{self, EventInfo, Filter};

/// Events that a reason names; the rest are counted.
const EVENTS_NAMED: usize = 3;
/// `wasi:filesystem/types.error-code.no-entry`.
const NO_ENTRY: i128 = 20;
/// The bits of `open-flags` and `descriptor-flags` that say what opening does.
const CREATE: i128 = 1;
const DIRECTORY: i128 = 2;
const TRUNCATE: i128 = 8;
const FLAG_WRITE: i128 = 2;

const FILES: &str = "wasi:filesystem/types#[method]descriptor.";
const KERNEL_FILES: &str = "vac:kernel/files#";
const MEMORY: &str = "vac:memory/shards#";
const KEY_VALUES: &str = "wasi:keyvalue/";
/// A part of the input, as a stream of WASI 0.3 gives it.
const STDIN_READ: &str = "wasi:cli/stdin#[read]";
/// Functions that work on a handle, whose own making says all that is needed.
const OF_HANDLES: &[&str] =
    &["wasi:filesystem/types#", "wasi:filesystem/preopens#", "wasi:io/", "wasi:cli/stdin#"];

/// What was learned of a run.
#[derive(Debug)]
pub struct Learned {
    /// What it needed, sorted.
    pub asks: Vec<Ask>,
    /// Grants that would have allowed what was refused.
    pub refused: Vec<String>,
}

/// What `run` needed of `grants`, which are those that it had.
pub fn learn(home: &Home, run: RunId, grants: &[Grant]) -> Result<Learned> {
    let mut watcher = Watcher::new(home, grants);
    let mut refused = BTreeSet::new();
    for event in report::events(home, run, &Filter::default())? {
        match &event.denied {
            Some(denied) => drop(refused.insert(denied.clone())),
            None => watcher.see(&event)?,
        }
    }
    watcher.add_seen();
    watcher.add_places();
    watcher.look_at_host();
    Ok(Learned { asks: watcher.asks()?, refused: refused.into_iter().collect() })
}

/// What is needed of a path, or of a grant that is no path.
#[derive(Debug, Clone)]
struct Need {
    /// Number of the grant that allowed it.
    grant: usize,
    /// Where it is in that grant.
    path: String,
    is_dir: bool,
    rights: Rights,
    /// Whether it was only looked for, and was not there.
    is_absent: bool,
    /// What was done, and by which events.
    verbs: BTreeSet<&'static str>,
    events: BTreeSet<Seq>,
}

/// What a handle stands for.
#[derive(Debug, Clone)]
struct Opened {
    path: String,
    /// Whether it was given at the start, rather than opened.
    is_root: bool,
}

struct Watcher<'a> {
    home: &'a Home,
    grants: &'a [Grant],
    handles: BTreeMap<i128, Opened>,
    /// By what the guest calls the path.
    paths: BTreeMap<String, Need>,
    /// What is no path, by the text of the grant.
    others: BTreeMap<String, Need>,
    /// With whom it spoke.
    net: net::Seen,
    /// Granted directories that were looked at themselves, by number. Of one that is given for the sake of
    /// a file in it, a guest sees as much.
    seen: BTreeMap<usize, Use>,
}

/// What one event does to a path.
#[derive(Clone, Copy)]
struct Use {
    verb: &'static str,
    rights: Rights,
    is_dir: bool,
    is_absent: bool,
    event: Seq,
}

impl<'a> Watcher<'a> {
    fn new(home: &'a Home, grants: &'a [Grant]) -> Self {
        let (paths, others) = (BTreeMap::new(), BTreeMap::new());
        let (net, seen) = (net::Seen::default(), BTreeMap::new());
        Self { home, grants, handles: BTreeMap::new(), paths, others, net, seen }
    }

    fn see(&mut self, event: &EventInfo) -> Result<()> {
        if event.name == "wasi:cli/environment#get-environment" {
            self.whole_env(event.seq);
            return Ok(());
        }
        if event.name == "wasi:filesystem/preopens#get-directories" {
            self.roots(&self.answer(event)?);
            return Ok(());
        }
        let Some(grant) = event.grant.and_then(|n| usize::try_from(n).ok()) else { return Ok(()) };
        if let Some(function) = event.name.strip_prefix(FILES) {
            return self.file_call(function, grant, event);
        }
        if let Some(function) = event.name.strip_prefix(KERNEL_FILES) {
            return self.kernel_call(function, grant, event);
        }
        if let Some(function) = event.name.strip_prefix(MEMORY) {
            self.memory_call(function, grant, event.seq);
            return Ok(());
        }
        if let Some(function) = event.name.strip_prefix(KEY_VALUES) {
            self.values_call(function, grant, event.seq);
            return Ok(());
        }
        let is_known = OF_HANDLES.iter().any(|prefix| event.name.starts_with(prefix));
        match self.grants.get(grant) {
            Some(Grant::Stdin)
                if event.name.starts_with("wasi:io/") || event.name.starts_with(STDIN_READ) =>
            {
                self.whole(grant, "read", event.seq);
            }
            Some(Grant::Net(net)) if !is_known => {
                let (request, answer) = (self.node(&event.request)?, self.answer(event)?);
                let place = (event.name.as_str(), event.seq);
                if !self.net.see((grant, net), place, request.as_ref(), &answer) {
                    self.whole(grant, "used", event.seq);
                }
                self.ranges_behind(grant, event.seq);
            }
            Some(_) if !is_known => self.whole(grant, "used", event.seq),
            _ => {}
        }
        Ok(())
    }

    /// Ranges of addresses, if a grant names hosts: which addresses a name led to is in no event.
    fn ranges_behind(&mut self, grant: usize, event: Seq) {
        let names = |net: &Net| !matches!(net.hosts, HostPattern::Net(_));
        if !matches!(self.grants.get(grant), Some(Grant::Net(net)) if names(net)) {
            return;
        }
        for (number, grant) in self.grants.iter().enumerate() {
            if matches!(grant, Grant::Net(net) if net.kind == NetKind::Range) {
                self.whole(number, "a name may have led there", event);
            }
        }
    }

    fn whole_env(&mut self, event: Seq) {
        for (number, grant) in self.grants.iter().enumerate() {
            if matches!(grant, Grant::Env { .. }) {
                self.whole(number, "the environment was read", event);
            }
        }
    }

    /// Everything that a grant gives.
    fn whole(&mut self, grant: usize, verb: &'static str, event: Seq) {
        let (is_dir, rights) = match self.grants.get(grant) {
            Some(Grant::Dir { rights, .. }) => (true, *rights),
            Some(Grant::File { rights, .. }) => (false, *rights),
            _ => (false, Rights::READ),
        };
        self.add(grant, "", Use { verb, rights, is_dir, is_absent: false, event });
    }

    /// The directories that the guest was given: `[[handle, name], …]`.
    fn roots(&mut self, answer: &Node) {
        let Node::List(roots) = answer else { return };
        for root in roots {
            if let Some(handle) = item(root, 0).and_then(int) {
                self.handles.insert(handle, Opened { path: String::new(), is_root: true });
            }
        }
    }

    /// A function of `descriptor`: `[handle, arguments…]`.
    fn file_call(&mut self, function: &str, grant: usize, event: &EventInfo) -> Result<()> {
        // What is written through a handle may be long, and says nothing more.
        if !function.ends_with("-at") && !matches!(function, "set-times" | "read-directory") {
            return Ok(());
        }
        let Some(request) = self.node(&event.request)? else {
            // The ledger names what was asked and does not have it.
            self.whole(grant, "used", event.seq);
            return Ok(());
        };
        let at = |i| item(&request, i).and_then(text);
        let answer = self.answer(event)?;
        let is_absent = item(&answer, 1).and_then(int) == Some(NO_ENTRY) && failed(&answer);
        let names =
            |verb| Use { verb, rights: Rights::ALL, is_dir: true, is_absent: false, event: event.seq };
        let base = item(&request, 0).and_then(int).unwrap_or_default();
        match function {
            "open-at" => self.open_at(grant, &request, &answer, event.seq),
            "stat-at" | "metadata-hash-at" => {
                let verb = if is_absent { "looked for, not there" } else { "looked at" };
                let is_dir = item(&answer, 1).and_then(|stat| item(stat, 0)).and_then(int) == Some(3)
                    && function == "stat-at"
                    && !failed(&answer);
                let one = Use { verb, rights: Rights::READ, is_dir, is_absent, event: event.seq };
                self.path(grant, base, at(2), one);
            }
            "readlink-at" => {
                let verb = if is_absent { "looked for, not there" } else { "looked at" };
                let one = Use { verb, rights: Rights::READ, is_dir: false, is_absent, event: event.seq };
                self.path(grant, base, at(1), one);
            }
            "set-times-at" => self.path(grant, base, at(2), Use { is_dir: false, ..names("times set") }),
            "set-times" => self.own(grant, base, Use { is_dir: false, ..names("times set") }),
            "read-directory" => self.own(grant, base, Use { rights: Rights::READ, ..names("listed") }),
            "create-directory-at" | "remove-directory-at" | "unlink-file-at" => {
                self.folder_of(grant, base, at(1), names("names changed"));
            }
            "symlink-at" => self.folder_of(grant, base, at(2), names("names changed")),
            "rename-at" => self.two_folders(grant, base, (at(1), at(3)), &request, 2, event.seq),
            "link-at" => self.two_folders(grant, base, (at(2), at(4)), &request, 3, event.seq),
            _ => {}
        }
        Ok(())
    }

    fn two_folders(
        &mut self,
        grant: usize,
        base: i128,
        paths: (Option<&str>, Option<&str>),
        request: &Node,
        other: usize,
        event: Seq,
    ) {
        let verb = "names changed";
        let one = || Use { verb, rights: Rights::ALL, is_dir: true, is_absent: false, event };
        self.folder_of(grant, base, paths.0, one());
        let to = item(request, other).and_then(int).unwrap_or_default();
        self.folder_of(grant, to, paths.1, one());
    }

    /// `[handle, path flags, path, open flags, flags]`, answered by a handle.
    fn open_at(&mut self, grant: usize, request: &Node, answer: &Node, event: Seq) {
        let at = |i| item(request, i);
        let (open, flags) = (at(3).and_then(int).unwrap_or(0), at(4).and_then(int).unwrap_or(0));
        let base = at(0).and_then(int).unwrap_or_default();
        let path = at(2).and_then(text);
        let is_write = flags & FLAG_WRITE != 0 || open & (CREATE | TRUNCATE) != 0;
        let code = if failed(answer) { item(answer, 1).and_then(int) } else { None };
        let is_absent = code == Some(NO_ENTRY) && !is_write;
        let verb = match (is_absent, open & CREATE != 0, is_write, open & DIRECTORY != 0) {
            (true, ..) => "looked for, not there",
            (_, true, ..) => "created",
            (_, _, true, _) => "opened to write",
            (.., true) => "opened as a directory",
            _ => "opened to read",
        };
        let rights = if is_write { Rights::READ.or(Rights::WRITE) } else { Rights::READ };
        let is_dir = open & DIRECTORY != 0 && !is_absent;
        self.path(grant, base, path, Use { verb, rights, is_dir, is_absent, event });
        let handle = if failed(answer) { None } else { item(answer, 1).and_then(int) };
        if let (Some(handle), Some(path)) = (handle, path) {
            let from = self.handles.get(&base).map(|base| base.path.clone()).unwrap_or_default();
            self.handles.insert(handle, Opened { path: normal(&from, path), is_root: false });
        }
    }

    /// Something is done to `path`, seen from the handle `base`.
    fn path(&mut self, grant: usize, base: i128, path: Option<&str>, one: Use) {
        let from = self.handles.get(&base).cloned();
        let (Some(from), Some(path)) = (from, path) else { return self.whole(grant, one.verb, one.event) };
        let rights = one.rights;
        if !from.is_root {
            // A directory that was opened must allow what is done through it.
            self.add(grant, &from.path, Use { is_dir: true, rights: of_dir(rights), ..one });
        } else if !is_plain(path) {
            // Which folders such a path goes through, it does not say by its end.
            self.add(grant, "", Use { is_dir: true, rights: of_dir(rights), ..one });
        }
        let whole = normal(&from.path, path);
        if from.is_root && matches!(path, "." | "./") && rights == Rights::READ {
            self.seen.entry(grant).or_insert(one);
            return;
        }
        let is_dir = one.is_dir || whole.is_empty();
        let rights = if is_dir { of_dir(rights) } else { rights };
        self.add(grant, &whole, Use { is_dir, rights, ..one });
    }

    /// Something is done to the folder that the name `path` is in.
    fn folder_of(&mut self, grant: usize, base: i128, path: Option<&str>, one: Use) {
        let folder =
            path.map(|path| path.trim_end_matches('/').rsplit_once('/').map_or(".", |(folder, _)| folder));
        self.path(grant, base, folder, Use { is_dir: true, ..one });
    }

    /// Something is done to what the handle `base` stands for.
    fn own(&mut self, grant: usize, base: i128, one: Use) {
        match self.handles.get(&base) {
            Some(opened) => {
                let path = opened.path.clone();
                let is_dir = one.is_dir || path.is_empty();
                let rights = if is_dir { of_dir(one.rights) } else { Rights::READ.or(Rights::WRITE) };
                self.add(grant, &path, Use { is_dir, rights, ..one });
            }
            None => self.whole(grant, one.verb, one.event),
        }
    }

    /// A function of `vac:kernel/files`: `[path, …]`, the path beginning with the name of a grant.
    fn kernel_call(&mut self, function: &str, grant: usize, event: &EventInfo) -> Result<()> {
        let request = self.node(&event.request)?;
        let path = request.as_ref().and_then(|request| item(request, 0)).and_then(text);
        let guest = match self.grants.get(grant) {
            Some(Grant::Dir { guest, .. }) => guest.as_str(),
            _ => "",
        };
        let Some(path) = path.and_then(|path| below(guest, path)) else {
            self.whole(grant, "used", event.seq);
            return Ok(());
        };
        let answer = self.answer(event)?;
        let is_absent = failed(&answer)
            && item(&answer, 1).and_then(|error| item(error, 0)).and_then(text) == Some("not-found");
        let (verb, rights, is_dir) = match function {
            "list" => ("listed", Rights::READ, true),
            "write" => ("written", Rights::READ.or(Rights::WRITE), false),
            _ if is_absent => ("looked for, not there", Rights::READ, false),
            _ => ("read", Rights::READ, false),
        };
        let is_absent = is_absent && function == "read";
        self.add(grant, &path, Use { verb, rights, is_dir, is_absent, event: event.seq });
        Ok(())
    }

    /// A function of `vac:memory/shards`, which says itself what it needs.
    fn memory_call(&mut self, function: &str, grant: usize, event: Seq) {
        let name = function.strip_prefix("[method]shard.").unwrap_or(function);
        let (verb, rights) = match name {
            "write" | "fill" | "copy" | "restore" | "fork" => ("changed", Rights::READ.or(Rights::WRITE)),
            "commit" => ("committed", Rights::READ.or(Rights::WRITE)),
            _ => ("read", Rights::READ),
        };
        self.add(grant, "", Use { verb, rights, is_dir: false, is_absent: false, event });
    }

    /// A function of one of the interfaces of `wasi:keyvalue`.
    fn values_call(&mut self, function: &str, grant: usize, event: Seq) {
        let name = function.rsplit_once(['#', '.']).map_or(function, |(_, name)| name);
        let (verb, rights) = match name {
            "set" | "delete" | "set-many" | "delete-many" | "increment" => {
                ("changed", Rights::READ.or(Rights::WRITE))
            }
            _ => ("read", Rights::READ),
        };
        self.add(grant, "", Use { verb, rights, is_dir: false, is_absent: false, event });
    }

    fn add(&mut self, grant: usize, path: &str, one: Use) {
        // A granted file is one thing, whatever was said of it.
        let (needs, key, path) = match self.grants.get(grant) {
            Some(Grant::Dir { guest, .. }) => (&mut self.paths, join(guest, path), path),
            Some(Grant::File { guest, .. }) => (&mut self.paths, clean(guest), ""),
            Some(other) => (&mut self.others, other.text(), ""),
            None => return,
        };
        let need = needs.entry(key).or_insert_with(|| Need::new(grant, path));
        need.is_dir |= one.is_dir;
        need.rights = need.rights.or(one.rights);
        need.is_absent &= one.is_absent;
        need.verbs.insert(one.verb);
        need.events.insert(one.event);
    }

    /// A directory that was looked at, and of which nothing else is needed, is needed itself.
    fn add_seen(&mut self) {
        for (grant, one) in std::mem::take(&mut self.seen) {
            if !self.paths.values().any(|need| need.grant == grant) {
                self.add(grant, "", Use { is_dir: true, ..one });
            }
        }
    }

    /// Of a grant of the network only the places that were used are needed.
    fn add_places(&mut self) {
        let net = |grant| match self.grants.get(grant) {
            Some(Grant::Net(net)) => Some(net),
            _ => None,
        };
        for net::Needed { grant, text, events } in std::mem::take(&mut self.net).needed(net) {
            let whole = self.grants.get(grant).map(Grant::text).unwrap_or_default();
            if self.others.contains_key(&whole) {
                continue;
            }
            let need = Need { is_absent: false, rights: Rights::READ, ..Need::new(grant, "") };
            let verbs = BTreeSet::from(["used"]);
            self.others.insert(text.unwrap_or(whole), Need { verbs, events, ..need });
        }
    }

    /// What no event says: that a file is a link, which is not followed where one file is granted; that
    /// what was opened is a directory; and that a directory is gone.
    fn look_at_host(&mut self) {
        for (key, need) in self.paths.clone() {
            let Some(Grant::Dir { host, .. }) = self.grants.get(need.grant) else { continue };
            let event = need.events.first().copied().unwrap_or_default();
            let rights = of_dir(need.rights);
            let one = |verb| Use { verb, rights, is_dir: true, is_absent: false, event };
            match std::fs::symlink_metadata(host.join(&need.path)) {
                Ok(metadata) if metadata.is_dir() => self.add(need.grant, &need.path, one("opened")),
                Ok(metadata) if metadata.is_symlink() => self.add(need.grant, "", one("reached by a link")),
                Err(_) if need.is_dir => {
                    self.paths.remove(&key);
                    let mut above = Path::new(&need.path).ancestors().filter_map(Path::to_str);
                    let above = above.find(|path| host.join(path).is_dir()).unwrap_or_default();
                    self.add(need.grant, above, one("what was in it is gone"));
                }
                _ => {}
            }
        }
    }

    /// The needs, without those that others include, as a manifest asks for them.
    fn asks(mut self) -> Result<Vec<Ask>> {
        self.fold_unnamed();
        self.widen();
        while self.is_too_much() && self.fold_fullest() {
            self.widen();
        }
        let mut asks = Vec::new();
        for (key, need) in self.paths.iter().chain(&self.others) {
            let Some(grant) = self.grants.get(need.grant) else { continue };
            asks.push(Ask::parse(&text_of(grant, key, need), &need.why(), need.is_absent)?);
        }
        asks.sort_by_key(|ask| (ask.optional, ask.text()));
        Ok(asks)
    }

    fn is_too_much(&self) -> bool {
        self.paths.len() + self.others.len() > ASKS_MAX
    }

    /// Asks for the folder around what has a name that no grant can have.
    fn fold_unnamed(&mut self) {
        let unnamed = self.paths.iter().filter_map(|(key, need)| {
            let (before, _) = need.path.split_once("::")?;
            Some((key.clone(), folder_of(before).to_owned()))
        });
        for (key, folder) in unnamed.collect::<Vec<_>>() {
            self.fold(&key, &folder);
        }
    }

    /// Asks for folders instead of what is in them, the fullest first, until that is no more than a manifest can ask for.
    /// Whether there was one: what is in each may still be too much, one level up.
    fn fold_fullest(&mut self) -> bool {
        let mut folders: BTreeMap<(usize, String), (usize, String)> = BTreeMap::new();
        for (key, need) in &self.paths {
            if matches!(self.grants.get(need.grant), Some(Grant::Dir { .. })) && !need.path.is_empty() {
                let folder = folder_of(&need.path).to_owned();
                folders.entry((need.grant, folder)).or_insert_with(|| (0, key.clone())).0 += 1;
            }
        }
        let mut fullest: Vec<_> = folders
            .into_iter()
            .map(|((_, folder), (count, key))| (count, folder.len(), folder, key))
            .collect();
        fullest.sort();
        let has_one = !fullest.is_empty();
        while self.is_too_much()
            && let Some((_, _, folder, key)) = fullest.pop()
        {
            self.fold(&key, &folder);
        }
        has_one
    }

    /// Has a folder of its grant be needed instead of `key` and of all that is below it.
    fn fold(&mut self, key: &str, folder: &str) {
        let Some(need) = self.paths.remove(key) else { return };
        let Some(Grant::Dir { guest, .. }) = self.grants.get(need.grant) else { return };
        let above = join(guest, folder);
        let whole = self.paths.entry(above.clone()).or_insert_with(|| Need::new(need.grant, folder));
        whole.take_in(need);
        let grant = whole.grant;
        let begin = if above == "." { String::new() } else { format!("{}/", above.trim_end_matches('/')) };
        let behind = self.paths.range(begin.clone()..).take_while(|(key, _)| key.starts_with(&begin));
        let inside = behind
            .filter(|(key, need)| need.grant == grant && **key != above && below(&above, key).is_some());
        let keys: Vec<String> = inside.map(|(key, _)| key.clone()).collect();
        let taken: Vec<Need> = keys.iter().filter_map(|key| self.paths.remove(key)).collect();
        if let Some(whole) = self.paths.get_mut(&above) {
            taken.into_iter().for_each(|need| whole.take_in(need));
        }
    }

    /// Removes what directories include, and gives a directory what a file in it needs: a manifest cannot ask for a
    /// directory to read and for a file in it to write.
    fn widen(&mut self) {
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            // What is inside comes before what is around it.
            for key in self.paths.keys().rev().cloned().collect::<Vec<_>>() {
                has_changed |= self.widen_around(&key);
            }
        }
    }

    /// Whether something is around `key` that it went to.
    fn widen_around(&mut self, key: &str) -> bool {
        let Some((above, grant)) = self.around(key) else { return false };
        let Some(need) = self.paths.get(key) else { return false };
        if need.grant != grant && matches!(self.grants.get(need.grant), Some(Grant::Dir { .. })) {
            // It is in a directory that was put there: that is to be asked for, and not the one around it.
            self.fold(key, "");
            return true;
        }
        if let Some(need) = self.paths.remove(key)
            && let Some(dir) = self.paths.get_mut(&above)
            && !dir.rights.has(need.rights)
        {
            dir.rights = of_dir(need.rights);
            dir.verbs.extend(need.verbs);
            dir.events.extend(need.events);
        }
        true
    }

    /// The innermost directory around `key` that it can go to, and its grant; one in another may well have more rights.
    fn around(&self, key: &str) -> Option<(String, usize)> {
        let need = self.paths.get(key)?;
        let takes = |dir: &Need| {
            dir.is_dir && (!need.is_dir || (dir.grant == need.grant && dir.rights.has(need.rights)))
        };
        std::iter::successors(above(key), |inner| above(inner)).find_map(|outer| {
            let dir = self.paths.get(outer).filter(|dir| takes(dir))?;
            Some((outer.to_owned(), dir.grant))
        })
    }

    /// A body's value; `None` if the ledger has only its name.
    fn node(&self, body: &Body) -> Result<Option<Node>> {
        let bytes = match body {
            Body::Inline(bytes) => bytes.to_vec(),
            Body::Stored { cid, .. } => match self.home.store().get(cid)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
            Body::Digest { .. } => return Ok(None),
        };
        Ok(Some(canon::decode(&bytes, "an event")?))
    }

    fn answer(&self, event: &EventInfo) -> Result<Node> {
        match &event.answer {
            Some(Ok(body)) => Ok(self.node(body)?.unwrap_or(Node::Null)),
            _ => Ok(Node::Null),
        }
    }
}

impl Need {
    fn new(grant: usize, path: &str) -> Self {
        let (verbs, events) = (BTreeSet::new(), BTreeSet::new());
        let path = path.to_owned();
        Self { grant, path, is_dir: false, rights: Rights::NONE, is_absent: true, verbs, events }
    }

    /// Becomes a directory that `need` is in.
    fn take_in(&mut self, need: Self) {
        self.is_dir = true;
        self.is_absent = false;
        self.rights = of_dir(self.rights.or(need.rights));
        self.verbs.extend(need.verbs);
        self.events.extend(need.events);
    }

    fn why(&self) -> String {
        let verbs: Vec<_> = self.verbs.iter().copied().collect();
        let named: Vec<_> = self.events.iter().take(EVENTS_NAMED).map(ToString::to_string).collect();
        let word = if self.events.len() == 1 { "event" } else { "events" };
        let more = match self.events.len().saturating_sub(EVENTS_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} ({word} {}{more})", verbs.join(", "), named.join(", "))
    }
}

/// The directory that a path in its one form is in, as far as the path says.
fn above(path: &str) -> Option<&str> {
    let path = Path::new(path);
    path.file_name()?;
    let above = path.parent()?.to_str()?;
    Some(if above.is_empty() { "." } else { above })
}

/// The folder that a path is in, in the same grant.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What a need asks for, as `--grant` takes it.
fn text_of(grant: &Grant, key: &str, need: &Need) -> String {
    let access = if need.rights.has(Rights::WRITE) { "rw" } else { "ro" };
    match grant {
        Grant::Dir { .. } if need.is_dir => format!("dir:{access}={key}"),
        Grant::Dir { .. } | Grant::File { .. } => format!("file:{access}={key}"),
        Grant::Mem(mem) => format!("mem:{access}={}", mem.guest),
        Grant::Kv { guest, .. } => format!("kv:{access}={guest}"),
        // A part of it, as it is called.
        Grant::Net(_) => key.to_owned(),
        other => other.text(),
    }
}

/// The rights of a directory's grant that has `rights`: to read, or everything.
fn of_dir(rights: Rights) -> Rights {
    if rights.has(Rights::WRITE) { Rights::ALL } else { Rights::READ }
}

/// Whether every part of the path is a name, or it is `.`; one `./` before it does no harm.
fn is_plain(path: &str) -> bool {
    let path = path.strip_prefix("./").unwrap_or(path);
    path == "." || path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// `path` seen from `folder`, without `.` and `..`.
fn normal(folder: &str, path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in folder.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

/// Whether an answer is `[1, error]`.
fn failed(answer: &Node) -> bool {
    item(answer, 0).and_then(int) == Some(1)
}

fn item(node: &Node, i: usize) -> Option<&Node> {
    if let Node::List(items) = node { items.get(i) } else { None }
}

fn int(node: &Node) -> Option<i128> {
    if let Node::Int(int) = node { Some(*int) } else { None }
}

fn text(node: &Node) -> Option<&str> {
    if let Node::Text(text) = node { Some(text) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Use = Use { verb: "read", rights: Rights::READ, is_dir: false, is_absent: false, event: 1 };

    /// What is asked for if `paths` of the one directory were used like this.
    fn asked(paths: impl Iterator<Item = (String, Use)>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let grants =
            [Grant::parse("dir:rw=.", &|_| None).unwrap(), Grant::parse("stdin", &|_| None).unwrap()];
        let mut watcher = Watcher::new(&home, &grants);
        paths.for_each(|(path, one)| watcher.add(0, &path, one));
        watcher.add(1, "", READ);
        watcher.asks().unwrap().iter().map(Ask::text).collect()
    }

    #[test]
    fn the_directory_above() {
        let all: Vec<_> = std::iter::successors(Some("a/../b/c"), |path| above(path)).collect();
        assert_eq!(all, ["a/../b/c", "a/../b", "a/.."]);
        let all: Vec<_> = std::iter::successors(Some("/a/b"), |path| above(path)).collect();
        assert_eq!(all, ["/a/b", "/a", "/"]);
        assert_eq!((above("a"), above("."), above("..")), (Some("."), None, None));
    }

    #[test]
    fn what_is_no_path_is_in_no_directory() {
        let (all, file) = ((String::new(), Use { is_dir: true, ..READ }), ("stdin".to_owned(), READ));
        assert_eq!(asked([all].into_iter()), ["dir:ro=.", "stdin"]);
        assert_eq!(asked([file].into_iter()), ["file:ro=stdin", "stdin"]);
    }

    #[test]
    fn a_file_widens_the_innermost_directory_around_it_alone() {
        let dir = Use { is_dir: true, ..READ };
        let write = Use { rights: Rights::ALL, ..READ };
        let used = [("", dir), ("a", dir), ("a/b", dir), ("a/b/f", READ), ("a/f", write), ("z", dir)];
        assert_eq!(
            asked(used.map(|(path, one)| (path.to_owned(), one)).into_iter()),
            ["dir:ro=.", "dir:rw=a", "stdin"]
        );
    }

    /// A guest decides how many directories there are with one file in each, and how deep: every pair of them was looked at
    /// for each.
    #[test]
    fn many_directories_are_folded_level_by_level() {
        let many = (0..20_000).map(|i| (format!("all{}/x/d{i}/y/f", i % 3), READ));
        assert_eq!(asked(many), ["dir:ro=all0/x", "dir:ro=all1/x", "dir:ro=all2/x", "stdin"]);
        let deep = (0..300).map(|i| (format!("{}f", format!("d{i}/").repeat(200)), READ));
        assert_eq!(asked(deep), ["dir:ro=.", "stdin"]);
    }
}

//! Ledgers that somebody edited: every field of every entry of real runs, one at a time, and entries that are left
//! out, doubled or exchanged.
//!
//! Each edit is made twice. Once with right checksums, beside the close record as it was: the chain is then another
//! one, and a check of the ledger alone must say so. And once with everything made right again, as somebody would
//! who wants to pass a record off as another: then a replay must not agree. What neither can see is listed, with
//! the reason, in [`UNSEEN`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{AbortKind, Error, Result};
use vac_core::ledger::{
    Body, Call, Class, Entry, Field, Header, Ledger, NameId, Outcome, Reader, Return, RunId,
};
use vac_engine::{Home, replay, verify};
use vac_host::{Coder, Compiler, Profile};

use crate::seeds::{Place, Seed};

/// Edits that neither check sees, by the beginning of their names, and why. Each of the chain gives a record that
/// says of itself that it is another one, by its head.
pub const UNSEEN: &[(&str, &str)] = &[
    ("note", "notes are outside of the chain: what may differ between equal runs"),
    ("event.grant", "another of those in the header: a replay evaluates no grant"),
    ("end.grant", "another of those in the header: a replay evaluates no grant"),
    (
        "event.request.detail",
        "what stands behind handles and names, for who reads the record: a replay has neither",
    ),
    (
        "begin.request.detail",
        "what stands behind handles and names, for who reads the record: a replay has neither",
    ),
    ("event.denied", "what an operator would type: a replay refuses nothing itself"),
    ("end.denied", "what an operator would type: a replay refuses nothing itself"),
    ("event.answer.bytes", "what the world answered, and the guest did nothing with"),
    ("end.answer.bytes", "what the world answered, and the guest did nothing with"),
    ("header.engine", "ticks are not compared then, and the replay says so"),
    ("header.fork", "where a fork came from: its own record has all of its past"),
    ("header.grants", "a replay evaluates no grant"),
    ("header.config", "what the guest was told of it is in its events"),
    ("header.secrets", "what the guest was told of it is in its events"),
    ("header.manifest left out", "what came of it is in the grants"),
    ("header.name", "of a script: it is only shown"),
    ("header.seed", "of a run that drew nothing"),
    ("header.memory_max_bytes", "a limit that the run did not meet"),
    ("header.ticks_max", "a limit that the run did not meet"),
    ("header.limits", "a limit that the run did not meet"),
];

/// Functions whose recorded request is `[arguments, detail]`, for who reads it.
const DETAILED: &[&str] = &[
    "vac:memory/shards#open",
    "wasi:http/client#[end]send",
    "wasi:http/handler#[reply]handle",
    "wasi:http/outgoing-handler#handle",
    "wasi:http/types#[static]outgoing-body.finish",
];

/// What is not seen besides of a run that was killed, whose record may end after any entry.
const UNSEEN_IF_KILLED: &[&str] = &[
    "begin and all after it left out",
    "end and all after it left out",
    "event and all after it left out",
    "name and all after it left out",
    // These only of the last entry: others would be missed by what follows.
    "end left out",
    "end.answer.ended",
    "end.answer.stopped",
];

/// What was tried, and what of it nobody noticed.
#[derive(Debug, Default)]
pub struct Report {
    /// Edits.
    pub edits: u64,
    /// Edits that were not noticed, by name, with the runs.
    pub unseen: BTreeMap<String, Vec<String>>,
    /// Edits of the chain that a check of the ledger alone did not notice.
    pub unchained: Vec<String>,
    /// Edits that ended with an error that is neither a divergence nor damage.
    pub otherwise: BTreeMap<String, String>,
}

/// Edits the runs of the home at `golden`; of all edits every `stride`-th, from number `first` on.
///
/// # Errors
///
/// The home cannot be copied or read.
pub fn check(golden: &Path, first: usize, stride: usize) -> std::result::Result<Report, String> {
    let place = Place::new(false)?;
    copy(golden, &place.home()).map_err(|e| format!("{}: {e}", golden.display()))?;
    let compiler: Arc<dyn Compiler> = Arc::new(Coder::new(Profile::default()).map_err(|e| e.to_string())?);
    let home = Home::open(&place.home()).map_err(|e| e.to_string())?;
    let bench = Bench { place, home, compiler };
    let mut report = Report::default();
    for run in bench.home.runs().map_err(|e| e.to_string())? {
        bench.run(run, (first, stride), &mut report).map_err(|e| format!("{run}: {e}"))?;
    }
    Ok(report)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

/// Begins the names of edits of a run that was killed.
const OPEN: &str = "killed: ";

struct Bench {
    place: Place,
    home: Home,
    compiler: Arc<dyn Compiler>,
}

impl Bench {
    fn run(&self, run: RunId, (first, stride): (usize, usize), report: &mut Report) -> Result<()> {
        let entries = self.read(run)?;
        let close = self.place.home().join("runs").join(format!("{run}.close"));
        let closed = std::fs::read(&close).ok();
        // Written as it was, it is as it was: else nothing below would mean anything.
        self.write(run, &entries, closed.is_some())?;
        self.judge(run).map_err(|e| format!("the record itself: {e}")).unwrap_or_else(|e| panic!("{e}"));
        for (name, edited) in edits(&entries).skip(first).step_by(stride) {
            let name = if closed.is_some() { name } else { format!("{OPEN}{name}") };
            report.edits += 1;
            self.write(run, &edited, closed.is_some())?;
            match self.judge(run) {
                Err(Error::Divergence(_) | Error::Corrupt(_)) => {}
                Err(other) => drop(report.otherwise.insert(name.clone(), format!("{run}: {other}"))),
                Ok(()) => report.unseen.entry(name.clone()).or_default().push(run.to_string()),
            }
            if let Some(closed) = &closed
                && !name.starts_with("note")
            {
                std::fs::write(&close, closed).unwrap_or_else(|e| panic!("{}: {e}", close.display()));
                if verify::verify(&self.home, run)?.problems.is_empty() {
                    report.unchained.push(format!("{run}: {name}"));
                }
            }
        }
        self.write(run, &entries, closed.is_some())
    }

    fn read(&self, run: RunId) -> Result<Vec<Entry>> {
        let mut reader = Reader::open(Arc::clone(self.home.storage()), run)?;
        let mut all = Vec::new();
        while let Some(entry) = reader.next()? {
            // Marks are made anew.
            all.extend(Some(entry).filter(|entry| !matches!(entry, Entry::Mark { .. })));
        }
        Ok(all)
    }

    /// Writes a ledger with right checksums, chain, marks and close record.
    fn write(&self, run: RunId, entries: &[Entry], is_closed: bool) -> Result<()> {
        for suffix in ["0000", "close"] {
            let _ = self.home.storage().remove(&format!("runs/{run}.{suffix}"));
        }
        let Some((Entry::Header(header), rest)) = entries.split_first() else { panic!("a run has a header") };
        let (mut ledger, mut committer) =
            Ledger::create(Arc::clone(self.home.storage()), run, header.clone())?;
        rest.iter().for_each(|entry| ledger.append(entry));
        committer.commit(&ledger.take_group(committer.durable_bytes(), Vec::new()))?;
        if is_closed { committer.close(ledger.head(), ledger.entries()) } else { Ok(()) }
    }

    /// What `vac verify` and `vac replay` say.
    fn judge(&self, run: RunId) -> Result<()> {
        if let Some(problem) = verify::verify(&self.home, run)?.problems.into_iter().next() {
            return Err(problem);
        }
        let outside = self.place.outside(&Seed::new(0), &self.compiler, &Arc::default());
        replay::replay(&self.home, run, outside).map(drop)
    }
}

/// All edits of a ledger, with their names.
fn edits(entries: &[Entry]) -> impl Iterator<Item = (String, Vec<Entry>)> {
    let with = move |at: usize, entry: Entry| {
        let mut all = entries.to_vec();
        all[at] = entry;
        all
    };
    let detailed = detailed(entries);
    let fields = entries.iter().enumerate().flat_map(move |(at, entry)| {
        let named = |(name, changed): (String, Entry)| match is_of_detail(&detailed, entry, &changed) {
            true => (format!("{}.request.detail", word(entry)), changed),
            false => (name, changed),
        };
        let all: Vec<_> = changed(entry).into_iter().map(named).collect();
        all.into_iter().map(move |(name, changed)| (name, with(at, changed)))
    });
    let orders = (1..entries.len()).flat_map(move |at| {
        let kind = word(&entries[at]);
        let mut less = entries.to_vec();
        less.remove(at);
        let mut twice = entries.to_vec();
        twice.insert(at, entries[at].clone());
        let mut swapped = entries.to_vec();
        swapped.swap(at, at - 1);
        let is_swap =
            at > 1 && entries[at] != entries[at - 1] && [at, at - 1].iter().all(|i| entries[*i].is_chained());
        let cut = entries[..at].to_vec();
        let mut all = vec![(format!("{kind} left out"), less), (format!("{kind} twice"), twice)];
        all.extend(is_swap.then(|| (format!("{kind} before the one before it"), swapped)));
        all.push((format!("{kind} and all after it left out"), cut));
        all
    });
    fields.chain(orders)
}

/// The numbers of functions whose requests have a detail beside the arguments.
fn detailed(entries: &[Entry]) -> BTreeSet<NameId> {
    let number = |entry: &Entry| match entry {
        Entry::Name(number, name) if DETAILED.contains(&name.as_str()) => Some(*number),
        _ => None,
    };
    entries.iter().filter_map(number).collect()
}

/// Whether nothing was changed but the detail of a request.
fn is_of_detail(detailed: &BTreeSet<NameId>, entry: &Entry, changed: &Entry) -> bool {
    let (before, after) = match (entry, changed) {
        (Entry::Event(before, _), Entry::Event(after, _)) | (Entry::Begin(before), Entry::Begin(after)) => {
            (before, after)
        }
        _ => return false,
    };
    let arguments = |call: &Call| match &call.request {
        Body::Inline(bytes) => match vac_core::canon::decode(bytes, "a request") {
            Ok(Node::List(items)) if items.len() == 2 => items.into_iter().next(),
            _ => None,
        },
        _ => None,
    };
    detailed.contains(&before.name)
        && before.request != after.request
        && arguments(before).is_some()
        && arguments(before) == arguments(after)
}

fn word(entry: &Entry) -> &'static str {
    match entry {
        Entry::Header(_) => "header",
        Entry::Name(..) => "name",
        Entry::Event(..) => "event",
        Entry::Begin(_) => "begin",
        Entry::End(..) => "end",
        Entry::Close { .. } => "close",
        Entry::Mark { .. } => "mark",
        Entry::Note(_) => "note",
    }
}

/// An entry with each of its fields changed, and what was.
fn changed(entry: &Entry) -> Vec<(String, Entry)> {
    let kind = word(entry);
    let mut all = Vec::new();
    let mut add = |name: String, entry| all.push((format!("{kind}{name}"), entry));
    match entry {
        Entry::Header(header) => {
            in_fields(&header.fields).into_iter().for_each(|(n, f)| add(n, Entry::Header(Header::new(f))));
        }
        Entry::Note(fields) => in_fields(fields).into_iter().for_each(|(n, f)| add(n, Entry::Note(f))),
        Entry::Name(id, name) => {
            add(".number".into(), Entry::Name(id + 1, name.clone()));
            add(".text".into(), Entry::Name(*id, format!("{name}x")));
        }
        Entry::Event(call, ret) => {
            calls(call).into_iter().for_each(|(n, call)| add(n, Entry::Event(call, ret.clone())));
            returns(ret).into_iter().for_each(|(n, ret)| add(n, Entry::Event(call.clone(), ret)));
        }
        Entry::Begin(call) => calls(call).into_iter().for_each(|(n, call)| add(n, Entry::Begin(call))),
        Entry::End(seq, ret) => {
            add(".seq".into(), Entry::End(seq + 1, ret.clone()));
            returns(ret).into_iter().for_each(|(n, ret)| add(n, Entry::End(*seq, ret)));
        }
        Entry::Close { outcome, ticks, events } => {
            let close = |outcome: Outcome, ticks, events| Entry::Close { outcome, ticks, events };
            add(".ticks".into(), close(outcome.clone(), ticks + 1, *events));
            add(".events".into(), close(outcome.clone(), *ticks, events + 1));
            outcomes(outcome).into_iter().for_each(|(n, o)| add(n, close(o, *ticks, *events)));
        }
        Entry::Mark { .. } => {}
    }
    all
}

fn calls(call: &Call) -> Vec<(String, Call)> {
    let mut all: Vec<(&str, Call)> = vec![
        (".seq", Call { seq: call.seq + 1, ..call.clone() }),
        (".parent", Call { parent: call.parent.map_or(Some(0), |n| n.checked_sub(1)), ..call.clone() }),
        (".name", Call { name: call.name ^ 1, ..call.clone() }),
        (".tick", Call { tick: call.tick + 1, ..call.clone() }),
    ];
    let others = Class::ALL.into_iter().filter(|class| *class != call.class);
    all.extend(others.map(|class| (".class", Call { class, ..call.clone() })));
    let mut all: Vec<(String, Call)> = all.into_iter().map(|(n, call)| (n.to_owned(), call)).collect();
    all.extend(
        bodies(&call.request)
            .into_iter()
            .map(|(n, request)| (format!(".request{n}"), Call { request, ..call.clone() })),
    );
    all
}

fn returns(ret: &Return) -> Vec<(String, Return)> {
    let mut all = vec![
        (
            ".grant".to_owned(),
            Return { grant: ret.grant.map_or(Some(0), |n| n.checked_sub(1)), ..ret.clone() },
        ),
        (
            ".denied".to_owned(),
            Return { denied: if ret.denied.is_some() { None } else { Some("stdin".into()) }, ..ret.clone() },
        ),
    ];
    let answers: Vec<(String, std::result::Result<Body, Outcome>)> = match &ret.answer {
        Ok(body) => {
            let fault = Outcome::Fault { kind: "trap".into(), message: "no".into() };
            let stopped = Outcome::Abort { kind: AbortKind::Interrupt, message: "no".into() };
            let ended = [(".ended".to_owned(), Err(fault)), (".stopped".to_owned(), Err(stopped))];
            bodies(body).into_iter().map(|(n, body)| (n, Ok(body))).chain(ended).collect()
        }
        Err(outcome) => outcomes(outcome).into_iter().map(|(n, outcome)| (n, Err(outcome))).collect(),
    };
    all.extend(
        answers.into_iter().map(|(n, answer)| (format!(".answer{n}"), Return { answer, ..ret.clone() })),
    );
    all
}

fn bodies(body: &Body) -> Vec<(String, Body)> {
    let other = Cid::of(Codec::Raw, b"another");
    let mut all = Vec::new();
    match body {
        Body::Inline(bytes) => {
            for at in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let mut flipped = bytes.clone();
                if let Some(byte) = flipped.get_mut(at) {
                    *byte ^= 1;
                    all.push((".bytes".to_owned(), Body::Inline(flipped)));
                }
            }
            let short = bytes.split_last().map(|(_, rest)| rest).unwrap_or(b"x");
            all.extend(Body::inline(short).map(|short| (".bytes".to_owned(), short)));
            all.push((
                ".place".into(),
                Body::Stored { cid: Cid::of_raw(bytes), len_bytes: bytes.len() as u64 },
            ));
        }
        Body::Stored { cid, len_bytes } => {
            all.push((".cid".into(), Body::Stored { cid: other, len_bytes: *len_bytes }));
            all.push((".length".into(), Body::Stored { cid: *cid, len_bytes: len_bytes + 1 }));
            all.push((".place".into(), Body::Digest { cid: *cid, len_bytes: *len_bytes }));
        }
        Body::Digest { cid, len_bytes } => {
            all.push((".cid".into(), Body::Digest { cid: other, len_bytes: *len_bytes }));
            all.push((".length".into(), Body::Digest { cid: *cid, len_bytes: len_bytes + 1 }));
            all.push((".place".into(), Body::Stored { cid: *cid, len_bytes: *len_bytes }));
        }
    }
    all
}

fn outcomes(outcome: &Outcome) -> Vec<(String, Outcome)> {
    let more = |text: &str| format!("{text}x");
    match outcome {
        Outcome::Done(body) => {
            let bodies = bodies(body).into_iter().map(|(n, body)| (n, Outcome::Done(body)));
            bodies.chain([(".kind".to_owned(), Outcome::Exit(0))]).collect()
        }
        Outcome::Exit(status) => vec![
            (".status".into(), Outcome::Exit(status ^ 1)),
            (".kind".into(), Outcome::Abort { kind: AbortKind::Interrupt, message: "interrupted".into() }),
        ],
        Outcome::Fault { kind, message } => vec![
            (".kind".into(), Outcome::Fault { kind: more(kind), message: message.clone() }),
            (".message".into(), Outcome::Fault { kind: kind.clone(), message: more(message) }),
        ],
        Outcome::Abort { kind, message } => {
            let other = if *kind == AbortKind::Quota { AbortKind::Time } else { AbortKind::Quota };
            vec![
                (".kind".into(), Outcome::Abort { kind: other, message: message.clone() }),
                (".message".into(), Outcome::Abort { kind: *kind, message: more(message) }),
            ]
        }
    }
}

/// Fields with one of them changed somewhere, left out, or called otherwise.
fn in_fields(fields: &[Field]) -> Vec<(String, Vec<Field>)> {
    let mut all = Vec::new();
    for (at, (key, node)) in fields.iter().enumerate() {
        let with = |field: Field| {
            let mut all = fields.to_vec();
            all[at] = field;
            all
        };
        let mut less = fields.to_vec();
        less.remove(at);
        all.push((format!(".{key} left out"), less));
        all.push((format!(".{key} renamed"), with((format!("{key}x"), node.clone()))));
        all.extend(
            nodes(node).into_iter().map(|(n, node)| (format!(".{key}{n}"), with((key.clone(), node)))),
        );
    }
    all
}

/// A value with one of its parts changed.
fn nodes(node: &Node) -> Vec<(String, Node)> {
    match node {
        Node::Int(n) => vec![(String::new(), Node::Int(n + 1))],
        Node::Text(text) => vec![(String::new(), Node::Text(format!("{text}x")))],
        Node::Link(_) => vec![(String::new(), Node::Link(Cid::of(Codec::Raw, b"another")))],
        Node::List(items) => {
            let mut all =
                vec![(" with one more".to_owned(), Node::List([&items[..], &[Node::Null]].concat()))];
            for (at, item) in items.iter().enumerate() {
                let mut less = items.clone();
                less.remove(at);
                all.push((" with one less".to_owned(), Node::List(less)));
                for (name, item) in nodes(item) {
                    let mut items = items.clone();
                    items[at] = item;
                    all.push((name, Node::List(items)));
                }
            }
            all
        }
        Node::Map(fields) => {
            in_fields(fields).into_iter().map(|(n, fields)| (n, Node::Map(fields))).collect()
        }
        _ => vec![(String::new(), Node::Int(7))],
    }
}

/// Why an edit of this name is not seen, if that is known.
pub fn reason(name: &str) -> Option<&'static str> {
    let known = |name: &str| UNSEEN.iter().find(|(known, _)| name.starts_with(known)).map(|(_, why)| *why);
    let Some(of_killed) = name.strip_prefix(OPEN) else { return known(name) };
    let is_cut = UNSEEN_IF_KILLED.contains(&of_killed);
    known(of_killed).or(is_cut.then_some("a killed run may end after any entry"))
}

impl Report {
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.edits += other.edits;
        for (name, runs) in other.unseen {
            self.unseen.entry(name).or_default().extend(runs);
        }
        self.unchained.extend(other.unchained);
        self.otherwise.extend(other.otherwise);
        self
    }

    /// What should have been reported, and was not, or not as what it is.
    pub fn mistakes(&self) -> Vec<String> {
        let unseen = self.unseen.iter().filter(|(name, _)| reason(name).is_none());
        let unseen = unseen.map(|(name, runs)| format!("nobody saw `{name}` of {}", runs.join(", ")));
        let unchained = self.unchained.iter().map(|name| format!("the chain did not show `{name}`"));
        let otherwise = self.otherwise.iter().map(|(name, why)| format!("`{name}` was reported as: {why}"));
        unseen.chain(unchained).chain(otherwise).collect()
    }
}

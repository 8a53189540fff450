//! Checking that everything a ledger names is there and is itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{Corrupt, Error, Result};
use vac_core::ledger::{Body, Call, Entry, Head, Outcome, Reader, Return, RunId, Tail};

use crate::home::Home;
use crate::{snapshot, watching};

/// What was found of one run.
#[derive(Debug)]
pub struct Verified {
    /// The run.
    pub run: RunId,
    /// The head of its chain; `None` if the record could not be opened.
    pub head: Option<Head>,
    /// Chained entries.
    pub entries: u64,
    /// Objects that were hashed again.
    pub objects: u64,
    /// How the record ends.
    pub tail: Tail,
    /// Everything that is wrong; empty if nothing is.
    pub problems: Vec<Error>,
}

/// Checks the chain of `run`, and hashes every object that it names. What is wrong with the record is no error of this, so
/// that the runs beside it are verified, too.
pub fn verify(home: &Home, run: RunId) -> Result<Verified> {
    let mut reader = match Reader::open(Arc::clone(home.storage()), run) {
        Ok(reader) => reader,
        Err(why) => return Ok(unopened(run, why)),
    };
    let (mut cids, mut problems) = (BTreeSet::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(entry)) => cids.extend(named(&entry)),
            Ok(None) => break,
            Err(error) => {
                problems.push(error);
                break;
            }
        }
    }
    let cids = with_all_below(&|cid| home.store().get(cid), cids, &mut |_, _| Ok(()))?;
    problems.extend(cids.iter().filter_map(|cid| problem(home, run, cid)));
    Ok(Verified {
        run,
        head: Some(reader.head()),
        entries: reader.entries(),
        objects: cids.len() as u64,
        tail: reader.tail().unwrap_or(Tail::Open { dropped_bytes: 0 }),
        problems,
    })
}

fn unopened(run: RunId, why: Error) -> Verified {
    let tail = Tail::Open { dropped_bytes: 0 };
    Verified { run, head: None, entries: 0, objects: 0, tail, problems: vec![why] }
}

fn problem(home: &Home, run: RunId, cid: &Cid) -> Option<Error> {
    // In constant memory, however long it is.
    match home.store().is_whole(cid) {
        Ok(true) => None,
        Ok(false) => Some(
            Corrupt::new("run", format!("`{run}`"), format!("the object `{cid}` in the store"), "nothing")
                .into(),
        ),
        Err(error) => Some(error),
    }
}

/// Every object that the runs, the pins and the leases of this home name, or a run has open, with all below trees: what
/// garbage collection must keep. Leases end at a moment in `unix_ms`; those that are over name nothing.
pub fn live_objects(home: &Home, unix_ms: u64) -> Result<BTreeSet<Cid>> {
    let mut live = kept_roots(home)?;
    let leases = home.store().leases()?.into_values();
    live.extend(leases.filter(|lease| lease.ends > unix_ms).map(|lease| lease.cid));
    // What is below something that cannot be read now is not garbage: nothing is collected then.
    let mut live = with_all_below(&|cid| home.store().get(cid), live, &mut |cid, why| match why {
        Some(why) => Err(why),
        None => Err(Corrupt::new("structure", "the store", format!("the object {cid}"), "nothing").into()),
    })?;
    live.extend(of_snapshots(home)?);
    // Looked up after the names: one that moved on since is among those that are open.
    live.extend(as_far_as_there(home, watching::roots(home)?)?);
    Ok(live)
}

/// What [`complete`] did.
#[derive(Debug, Default)]
pub struct Completed {
    /// Objects that came.
    pub came: Vec<Cid>,
    /// Objects that nobody has, or gives now.
    pub lost: Vec<Cid>,
    /// Why somebody who may have one could not be asked.
    pub failed: Vec<Corrupt>,
}

/// Writes what the runs, pins and leases of this home need and its store does not have, as far as `find` gives it. A scrub
/// knows of what its indexes know of; if they are gone too, this is who knows.
pub fn complete(
    home: &Home,
    unix_ms: u64,
    find: &dyn Fn(&Cid) -> Result<Option<Vec<u8>>>,
) -> Result<Completed> {
    let failed = RefCell::<Vec<Corrupt>>::default();
    let find = |cid: &Cid| {
        find(cid).or_else(|why| {
            failed.borrow_mut().push(Corrupt::new("object", "a tier below the store".to_owned(), cid, why));
            Ok::<_, Error>(None)
        })
    };
    let mut roots = kept_roots(home)?;
    let leases = home.store().leases()?.into_values();
    roots.extend(leases.filter(|lease| lease.ends > unix_ms).map(|lease| lease.cid));
    let (came, lost) = (RefCell::<Vec<Cid>>::default(), RefCell::<Vec<Cid>>::default());
    let get = |cid: &Cid| match home.store().get(cid) {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        Ok(None) | Err(Error::Corrupt(_)) => {
            let found = find(cid)?.filter(|bytes| Cid::of(cid.codec(), bytes) == *cid);
            if let Some(bytes) = &found {
                home.store().put(cid.codec(), bytes)?;
                came.borrow_mut().push(*cid);
            }
            Ok(found)
        }
        Err(why) => Err(why),
    };
    let all = with_all_below(&get, roots, &mut |cid, why| {
        lost.borrow_mut().push(*cid);
        why.map_or(Ok(()), Err)
    })?;
    // What is no structure was not looked at.
    for cid in all.iter().filter(|cid| cid.codec() != Codec::DagCbor) {
        if !home.store().contains(cid)? && get(cid)?.is_none() {
            lost.borrow_mut().push(*cid);
        }
    }
    home.store().commit()?;
    Ok(Completed { came: came.into_inner(), lost: lost.into_inner(), failed: failed.into_inner() })
}

/// Every object that the runs and pins of this home name.
pub(crate) fn kept_roots(home: &Home) -> Result<BTreeSet<Cid>> {
    let mut live = BTreeSet::new();
    for run in home.runs()? {
        let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
        while let Some(entry) = reader.next()? {
            live.extend(named(&entry));
        }
    }
    live.extend(home.store().pins()?.into_values());
    Ok(live)
}

/// What the snapshots of all runs need, as far as it is there: they can be lost.
fn of_snapshots(home: &Home) -> Result<BTreeSet<Cid>> {
    let listed = home.runs()?.into_iter().flat_map(|run| snapshot::list(home, run).unwrap_or_default());
    as_far_as_there(home, listed.map(|listed| listed.cid).collect())
}

/// `roots` and what is below them, without what is not here: a tier below may have it, or somebody lost it.
fn as_far_as_there(home: &Home, roots: BTreeSet<Cid>) -> Result<BTreeSet<Cid>> {
    let mut lost = BTreeSet::new();
    let mut all = with_all_below(&|cid| home.store().get(cid), roots, &mut |cid, why| match why {
        // What cannot be read just now may be there with all that is below it.
        Some(why @ Error::Abort(_)) => Err(why),
        _ => {
            lost.insert(*cid);
            Ok(())
        }
    })?;
    // A page that is gone is no structure, and was not looked at.
    all.retain(|cid| !lost.contains(cid) && !matches!(home.store().len_of(cid), Ok(None)));
    Ok(all)
}

/// `roots` and everything below those that are structures: directories, maps of memories. `lost` is asked about
/// one that is missing, or that cannot be read and why: its error ends the walk.
pub(crate) fn with_all_below(
    get: &dyn Fn(&Cid) -> Result<Option<Vec<u8>>>,
    roots: BTreeSet<Cid>,
    lost: &mut dyn FnMut(&Cid, Option<Error>) -> Result<()>,
) -> Result<BTreeSet<Cid>> {
    let is_structure = |cid: &Cid| cid.codec() == Codec::DagCbor;
    let mut todo: Vec<Cid> = roots.iter().filter(|cid| is_structure(cid)).copied().collect();
    let mut all = roots;
    while let Some(next) = todo.pop() {
        let bytes = match get(&next) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                lost(&next, None)?;
                continue;
            }
            Err(why) => {
                lost(&next, Some(why))?;
                continue;
            }
        };
        // What was kept under this codec and is none names nothing.
        let Ok(node) = vac_core::canon::decode::<Node>(&bytes, "object") else { continue };
        for link in links(&node) {
            if all.insert(link) && is_structure(&link) {
                todo.push(link);
            }
        }
    }
    Ok(all)
}

/// The objects that an entry names and the store must have.
fn named(entry: &Entry) -> Vec<Cid> {
    let call = |call: &Call| call.request.stored();
    let ret = |ret: &Return| match &ret.answer {
        Ok(body) => body.stored().into_iter().chain(inline_links(body)).collect(),
        Err(_) => Vec::new(),
    };
    match entry {
        Entry::Header(header) => header.fields.iter().flat_map(|(_, node)| links(node)).collect(),
        Entry::Event(c, r) => call(c).into_iter().chain(ret(r)).collect(),
        Entry::Begin(c) => call(c).into_iter().chain(inline_links(&c.request)).collect(),
        Entry::End(_, r) => ret(r),
        Entry::Close { outcome: Outcome::Done(body), .. } => body.stored().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The objects that an inline body links to: the program that a kernel's event runs, what a script
/// wrote. A request that is not inline links to nothing that an answer does not name, too.
fn inline_links(body: &Body) -> Vec<Cid> {
    let Body::Inline(bytes) = body else { return Vec::new() };
    match vac_core::canon::decode::<Node>(bytes, "body") {
        Ok(node) => links(&node),
        Err(_) => Vec::new(),
    }
}

fn links(node: &Node) -> Vec<Cid> {
    match node {
        Node::Link(cid) => vec![*cid],
        Node::List(items) => items.iter().flat_map(links).collect(),
        Node::Map(entries) => entries.iter().flat_map(|(_, value)| links(value)).collect(),
        _ => Vec::new(),
    }
}

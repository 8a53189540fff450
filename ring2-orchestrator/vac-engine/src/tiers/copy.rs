//! Giving a tier what a home keeps, and looking whether it has it.
//!
//! What a home keeps is what its runs, memories and pins name, with all below directories and memories; or all below
//! some memories. The ledgers of runs are no objects, and stay.

use std::collections::BTreeSet;

use vac_core::cid::Cid;
use vac_core::fault::{Corrupt, Error, Result};
use vac_core::limits::MEMORY_COPY_BYTES;

use super::{OBJECT_MAX_BYTES, Opened};
use crate::home::Home;
use crate::{memory, verify};

/// Objects that a tier is asked about at a time.
const ASKED_AT_ONCE: usize = 256;

/// How much of what a tier says it has is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// That it is there, if it has its length.
    Believe,
    /// Nothing: it is read and hashed.
    Read,
}

/// What came of a push.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Objects that are kept here.
    pub objects: u64,
    /// Those that were there.
    pub there: u64,
    /// Those that were not, and are.
    pub sent: u64,
    /// Their length in bytes.
    pub sent_bytes: u64,
    /// Those that were there and bad, and were written again.
    pub replaced: Vec<Cid>,
    /// Those that are not here, and not below.
    pub lost: Vec<Cid>,
    /// Those that are too long for a tier.
    pub too_long: Vec<Cid>,
}

/// What a tier has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Objects that are kept here.
    pub objects: u64,
    /// Those that are there, and whole as far as was looked.
    pub there: u64,
    /// Those that are not.
    pub missing: Vec<Cid>,
    /// Those that are bad.
    pub bad: Vec<Corrupt>,
}

/// How one object stands in a tier.
enum Standing {
    There,
    Missing,
    Bad(Corrupt),
}

/// Everything that this home keeps or that `memories` hold; and what of it cannot be read here.
fn kept(home: &Home, memories: &[String]) -> Result<(BTreeSet<Cid>, BTreeSet<Cid>)> {
    let roots = match memories.is_empty() {
        true => verify::kept_roots(home)?,
        false => memories.iter().map(|what| memory::resolve(home, what)).collect::<Result<_>>()?,
    };
    let objects = home.objects()?;
    let mut lost = BTreeSet::new();
    let get = |cid: &Cid| objects.get(cid, OBJECT_MAX_BYTES);
    let all = verify::with_all_below(&get, roots, &mut |cid, why| match why {
        None | Some(Error::Corrupt(_)) => {
            lost.insert(*cid);
            Ok(())
        }
        Some(why) => Err(why),
    })?;
    Ok((all, lost))
}

/// Copies to a tier what it lacks. The first error of the tier ends it; what it has by then it keeps.
pub fn push(home: &Home, to: &Opened, memories: &[String], existing: Existing) -> Result<Pushed> {
    let (all, lost) = kept(home, memories)?;
    let mut pushed = Pushed { objects: all.len() as u64, ..Pushed::default() };
    let all: Vec<Cid> = all.into_iter().filter(|cid| !lost.contains(cid)).collect();
    pushed.lost.extend(lost);
    for cids in all.chunks(ASKED_AT_ONCE) {
        let mut batch = Batch::default();
        for (cid, standing) in standings(home, to, cids, existing)? {
            match standing {
                Standing::There => pushed.there += 1,
                missing_or_bad => {
                    let is_bad = matches!(missing_or_bad, Standing::Bad(_));
                    batch.take(home, to, cid, is_bad, &mut pushed)?;
                }
            }
        }
        batch.send(to, &mut pushed)?;
    }
    to.tier.commit()?;
    Ok(pushed)
}

/// Objects on their way to a tier.
#[derive(Default)]
struct Batch {
    objects: Vec<(Cid, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    fn take(&mut self, home: &Home, to: &Opened, cid: Cid, is_bad: bool, pushed: &mut Pushed) -> Result<()> {
        if home.store().len_of(&cid)?.is_some_and(|len| len > OBJECT_MAX_BYTES as u64) {
            pushed.too_long.push(cid);
            return Ok(());
        }
        let bytes = match home.objects()?.get(&cid, OBJECT_MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(Error::Corrupt(_)) => {
                pushed.lost.push(cid);
                return Ok(());
            }
            Err(why) => return Err(why),
        };
        if is_bad {
            to.tier.replace(&cid, &bytes)?;
            pushed.replaced.push(cid);
            return Ok(());
        }
        self.bytes += bytes.len();
        self.objects.push((cid, bytes));
        if self.bytes >= MEMORY_COPY_BYTES { self.send(to, pushed) } else { Ok(()) }
    }

    fn send(&mut self, to: &Opened, pushed: &mut Pushed) -> Result<()> {
        let Self { objects, .. } = std::mem::take(self);
        for (kept, (_, bytes)) in to.tier.put_many(&objects).into_iter().zip(&objects) {
            kept?;
            pushed.sent += 1;
            pushed.sent_bytes += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Looks whether a tier has what this home keeps.
pub fn check(home: &Home, at: &Opened, memories: &[String], existing: Existing) -> Result<Checked> {
    at.look.reach()?;
    let (all, _) = kept(home, memories)?;
    let all: Vec<Cid> = all.into_iter().collect();
    let mut checked = Checked { objects: all.len() as u64, ..Checked::default() };
    for cids in all.chunks(ASKED_AT_ONCE) {
        for (cid, standing) in standings(home, at, cids, existing)? {
            match standing {
                Standing::There => checked.there += 1,
                Standing::Missing => checked.missing.push(cid),
                Standing::Bad(corrupt) => checked.bad.push(corrupt),
            }
        }
    }
    Ok(checked)
}

/// How each of `cids` stands in a tier.
fn standings(home: &Home, at: &Opened, cids: &[Cid], existing: Existing) -> Result<Vec<(Cid, Standing)>> {
    let (mut all, mut to_read) = (Vec::new(), Vec::new());
    for (cid, len) in cids.iter().zip(at.look.lens(cids)) {
        match (len?, home.store().len_of(cid)?) {
            (None, _) => all.push((*cid, Standing::Missing)),
            (Some(there), Some(here)) if there != here => {
                let place = format!("the object {cid} of the tier `{}`", at.tier.name());
                let (expected, got) = (format!("{here} bytes"), format!("{there} bytes"));
                all.push((*cid, Standing::Bad(Corrupt::new("object", place, expected, got))));
            }
            (Some(len), _) if existing == Existing::Read => to_read.push((*cid, len)),
            (Some(_), _) => all.push((*cid, Standing::There)),
        }
    }
    let mut rest = &to_read[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fit(rest));
        read(at, now, &mut all)?;
        rest = later;
    }
    Ok(all)
}

/// How many of these are read at a time: so many as fit, and at least one.
fn fit(objects: &[(Cid, u64)]) -> usize {
    let mut bytes = 0_u64;
    let fits = |(_, len): &&(Cid, u64)| {
        bytes = bytes.saturating_add(*len);
        bytes <= MEMORY_COPY_BYTES as u64
    };
    objects.iter().take_while(fits).count().max(1)
}

/// Reads some objects of a tier, which hashes them.
fn read(at: &Opened, objects: &[(Cid, u64)], all: &mut Vec<(Cid, Standing)>) -> Result<()> {
    let max = |len: u64| usize::try_from(len).unwrap_or(OBJECT_MAX_BYTES).min(OBJECT_MAX_BYTES);
    let wanted: Vec<(Cid, usize)> = objects.iter().map(|(cid, len)| (*cid, max(*len))).collect();
    for ((cid, _), got) in wanted.iter().zip(at.tier.get_many(&wanted)) {
        let standing = match got {
            Ok(Some(_)) => Standing::There,
            Ok(None) => Standing::Missing,
            Err(Error::Corrupt(corrupt)) => Standing::Bad(corrupt),
            Err(why) => return Err(why),
        };
        all.push((*cid, standing));
    }
    Ok(())
}

//! Memories by name: what `vac mem` works on.
//!
//! A name is a pin `memory/NAME` on the root of a memory. Changing a memory commits a new root and moves the
//! name to it; whoever has the old root still has all of it, until a collection finds nobody naming it.

use std::collections::BTreeMap;
use std::sync::Arc;

use vac_core::canon::{self, Decode, Encode, Reader, Writer};
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{AbortKind, Corrupt, HostAbort, Result, Usage, quote};
use vac_core::limits::MEMORY_BACKING_MAX_BYTES;
use vac_core::memory::policy::{PolicyKind, Weight};
use vac_core::memory::{self, Backing, La128, Mapping, Pager, Proof, Settings, Space, Tier};
use vac_core::storage::{Lock, LockMode};
use vac_host::NoWatch;

use crate::clock::HostClock;
use crate::home::Home;
use crate::limits::FRAMES_BYTES;

/// Before the name of a memory, in the names of pins.
const PIN: &str = "memory/";
/// The folder of locks, one a name.
pub(crate) const LOCKS: &str = "memory";
/// The longest name.
const NAME_MAX_BYTES: usize = 64;
const PROOF: &str = "vac memory proof";

/// What a pager has in memory, and which page leaves.
pub(crate) struct Frames {
    pub(crate) bytes: u64,
    pub(crate) policy: PolicyKind,
}

impl Default for Frames {
    fn default() -> Self {
        Self { bytes: FRAMES_BYTES, policy: PolicyKind::default() }
    }
}

/// A memory that is open.
pub struct Memory {
    /// What moves its pages.
    pub pager: Pager,
    /// What is at each of its addresses.
    pub space: Space,
    /// Where it is now.
    pub root: Cid,
}

/// The names with their roots.
pub fn list(home: &Home) -> Result<Vec<(String, Cid)>> {
    let pins = home.store().pins()?;
    Ok(pins.into_iter().filter_map(|(pin, cid)| Some((pin.strip_prefix(PIN)?.to_owned(), cid))).collect())
}

/// Lets nobody else change `name` while this is held. Fails with `Busy` if somebody has it.
pub fn lock(home: &Home, name: &str) -> Result<Box<dyn Lock>> {
    check_name(name)?;
    let (storage, path) = (home.storage(), format!("{LOCKS}/{name}.lock"));
    let failed = |e| HostAbort::io("lock", storage.show(&path), &e);
    storage.create_dir(LOCKS).map_err(failed)?;
    storage.try_lock(&path, LockMode::Exclusive).map_err(failed)?.ok_or_else(|| {
        HostAbort::new(AbortKind::Busy, format!("another process is changing the memory `{name}`"))
            .hint("wait until it is done")
            .into()
    })
}

/// The root that `what` says: a name, or the CID of a root.
pub fn resolve(home: &Home, what: &str) -> Result<Cid> {
    if let Some((_, root)) = list(home)?.into_iter().find(|(name, _)| name == what) {
        return Ok(root);
    }
    what.parse().map_err(|_: Corrupt| {
        let message = format!("there is no memory `{}`", quote(what));
        Usage::new(message).hint("`vac mem ls` lists them; `vac mem create NAME` makes one").into()
    })
}

/// Makes a memory in which nothing is mapped; `backing` is that of shard 0.
pub fn create(home: &Home, name: &str, page_len: usize, backing: Backing) -> Result<Cid> {
    check_name(name)?;
    if list(home)?.iter().any(|(known, _)| known == name) {
        let message = format!("there is a memory `{name}` already");
        return Err(Usage::new(message).hint(format!("`vac mem rm {name}` forgets it")).into());
    }
    let mut pager = pager(home.objects()?, page_len, &Frames::default())?;
    let mut space = pager.space();
    space.set_backing(0, backing)?;
    let root = pager.commit(&mut space)?;
    set(home, name, &root)?;
    Ok(root)
}

/// Opens the memory `what`: a name, or the CID of a root.
pub fn open(home: &Home, what: &str) -> Result<Memory> {
    open_over(home, what, home.objects()?, &Frames::default())
}

/// Opens the memory `what`, whose objects are in `tier`.
pub(crate) fn open_over(home: &Home, what: &str, tier: Arc<dyn Tier>, frames: &Frames) -> Result<Memory> {
    let root = resolve(home, what)?;
    let page_len = memory::page_len_of(&*tier, &root)?;
    let mut pager = pager(tier, page_len, frames)?;
    let space = pager.open(&root)?;
    Ok(Memory { pager, space, root })
}

/// Makes a memory whose shard 0 holds, where nothing was written, the bytes of a file, which is kept, or of an object that is
/// here. What only it names may be garbage, so no collection runs meanwhile.
pub fn create_over(home: &Home, name: &str, page_len: usize, what: &str) -> Result<Cid> {
    let _hold = home.hold(&NoWatch)?;
    create(home, name, page_len, object(home, what)?)
}

fn object(home: &Home, what: &str) -> Result<Backing> {
    let found = match what.parse::<Cid>() {
        Ok(cid) => home.store().len_of(&cid)?.map(|len| (cid, len)),
        Err(_) => Some(keep_file(home, what)?),
    };
    let Some((cid, len)) = found else {
        let hint = "`vac store ls` lists what is here; a file is named by its path";
        return Err(Usage::new(format!("there is no object {what}")).hint(hint).into());
    };
    if len > MEMORY_BACKING_MAX_BYTES as u64 {
        let message = format!("{len} bytes behind a shard: expected at most {MEMORY_BACKING_MAX_BYTES}");
        return Err(Usage::new(message).hint("`vac mem write` takes files of any length").into());
    }
    Ok(Backing::Object { cid, first: 0, len })
}

fn keep_file(home: &Home, path: &str) -> Result<(Cid, u64)> {
    let mut file = std::fs::File::open(path).map_err(|e| HostAbort::io("open", path, &e))?;
    home.store().put_stream(Codec::Raw, &mut file, MEMORY_BACKING_MAX_BYTES as u64)
}

/// Lets the pages that are made, not read, be spared as often as they take longer to make than to read.
///
/// Making one is measured here, once; reading one was by `tier`, which the memory is in. What leaves is then a function of
/// what is asked for, as without.
pub(crate) fn weigh_made_pages(memory: &mut Memory, clock: &dyn HostClock) -> Result<()> {
    let page_len = memory.pager.page_len();
    let generated = |(shard, backing): (u64, &Backing)| match backing {
        Backing::Generator { .. } => Some((shard, backing.clone())),
        Backing::Zeros | Backing::Object { .. } => None,
    };
    let shards: Vec<(u64, Backing)> = memory.space.shards().filter_map(generated).collect();
    for (shard, backing) in shards {
        let cost_us = micros(clock, || memory::made_page(&backing, 0, page_len));
        let weight = Weight { cost_us, bytes: page_len as u32 };
        memory.pager.weigh(&mut memory.space, La128 { shard, offset: 0 }, u64::MAX, Some(weight))?;
    }
    Ok(())
}

/// How long something takes, in microseconds.
pub(crate) fn micros<T>(clock: &dyn HostClock, act: impl FnOnce() -> T) -> u32 {
    let begun = clock.monotonic_ns();
    std::hint::black_box(act());
    u32::try_from(clock.monotonic_ns().saturating_sub(begun) / 1000).unwrap_or(u32::MAX)
}

/// Two memories behind one pager, to be compared.
pub fn open_two(home: &Home, one: &str, other: &str) -> Result<(Memory, Space)> {
    let mut one = open(home, one)?;
    let other = one.pager.open(&resolve(home, other)?)?;
    Ok((one, other))
}

/// Lets `name` be the memory `what`: a name, or the CID of a root. Returns its root. What only that root names may be
/// garbage, so no collection runs meanwhile.
pub fn copy(home: &Home, what: &str, name: &str) -> Result<Cid> {
    let _hold = home.hold(&NoWatch)?;
    let root = resolve(home, what)?;
    set(home, name, &root)?;
    Ok(root)
}

/// Lets `name` be the memory `root`, which must be one, of what this process put or the name has.
pub fn set(home: &Home, name: &str, root: &Cid) -> Result<()> {
    check_name(name)?;
    memory::page_len_of(&*home.objects()?, root)?;
    // It may have come from a tier just now.
    home.store().commit()?;
    home.store().pin(&pin_of(name), root)
}

/// The pin that keeps the root of `name`.
pub(crate) fn pin_of(name: &str) -> String {
    format!("{PIN}{name}")
}

/// Forgets a name. `false` if there was none.
pub fn remove(home: &Home, name: &str) -> Result<bool> {
    home.store().unpin(&pin_of(name))
}

fn pager(tier: Arc<dyn Tier>, page_len: usize, frames: &Frames) -> Result<Pager> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let settings = Settings {
        page_len,
        budget_bytes: usize::try_from(frames.bytes).unwrap_or(usize::MAX).max(16 * page_len),
        policy: frames.policy,
        threads,
        generators: BTreeMap::new(),
        ..Settings::default()
    };
    Pager::new(tier, settings)
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    // A CID is a name already.
    let is_name = !name.is_empty() && name.len() <= NAME_MAX_BYTES && name.bytes().all(is_good);
    if is_name && name.parse::<Cid>().is_err() {
        return Ok(());
    }
    let message = format!("`{}` is no name of a memory", quote(name));
    let hint = format!("expected at most {NAME_MAX_BYTES} letters, digits, `-`, `_` and `.`");
    Err(Usage::new(message).hint(hint).into())
}

/// An address as it is typed: `OFFSET` in shard 0, or `SHARD:OFFSET`; numbers as 123, 1_000 or 0x7f.
pub fn parse_address(text: &str) -> Result<La128> {
    let (shard, offset) = text.split_once(':').unwrap_or(("0", text));
    Ok(La128 { shard: parse_number(shard)?, offset: parse_number(offset)? })
}

/// A number as it is typed: 123, 1_000 or 0x7f.
pub fn parse_number(text: &str) -> Result<u64> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| {
        let message = format!("`{}` is no number of 64 bits", quote(text));
        Usage::new(message).hint("an address is OFFSET or SHARD:OFFSET, like 4096, 1:0x1000").into()
    })
}

/// A page with the way to it from a root: all that is needed to check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenPage {
    /// The root.
    pub root: Cid,
    /// The shard.
    pub shard: u64,
    /// The page's number.
    pub page: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The objects on the way.
    pub proof: Proof,
}

/// The page that has the byte at `at`, with its proof.
pub fn prove(memory: &mut Memory, at: La128) -> Result<ProvenPage> {
    let page_len = memory.pager.page_len();
    let page = at.offset / page_len as u64;
    let mut bytes = vec![0; page_len];
    memory.pager.read(&mut memory.space, La128 { offset: page * page_len as u64, ..at }, &mut bytes)?;
    let proof = memory.pager.prove(&memory.root, at.shard, page)?;
    Ok(ProvenPage { root: memory.root, shard: at.shard, page, bytes, proof })
}

impl ProvenPage {
    /// Checks the page against its root. What is proven of a page that is not mapped is its backing: its
    /// bytes are made again from that.
    pub fn check(&self) -> Result<()> {
        let proven = memory::verify_page(&self.root, self.shard, self.page, &self.proof)?;
        if proven.holds(&self.bytes) {
            return Ok(());
        }
        let place = format!("page {} of shard {} of {}", self.page, self.shard, self.root);
        let expected = match proven.mapping {
            Mapping::Object(cid) => format!("{} bytes, {cid}", proven.page_len),
            Mapping::Unmapped(_) => format!("{} bytes, what its shard holds unmapped", proven.page_len),
        };
        let got = format!("{} bytes, {}", self.bytes.len(), Cid::of_raw(&self.bytes));
        Err(Corrupt::new("page", place, expected, got).into())
    }

    /// Its form in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        canon::encode(self)
    }

    /// Reads it from a file's bytes. Not checked yet.
    pub fn try_from_bytes(bytes: &[u8], place: &str) -> Result<Self, Corrupt> {
        canon::decode(bytes, place)
    }
}

impl Encode for ProvenPage {
    fn encode(&self, to: &mut Writer) {
        to.array(7);
        to.text(PROOF);
        to.uint(1);
        to.link(&self.root);
        to.uint(self.shard);
        to.uint(self.page);
        to.byte_string(&self.bytes);
        to.array(self.proof.objects.len());
        self.proof.objects.iter().for_each(|object| to.byte_string(object));
    }
}

impl Decode for ProvenPage {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(7)?;
        let what = from.text()?;
        if what != PROOF {
            return Err(from.wrong(format!("`{PROOF}`"), format!("`{}`", quote(what))));
        }
        let format = from.uint()?;
        if format != 1 {
            return Err(from.wrong("format 1", format));
        }
        let root = from.link()?;
        let (shard, page) = (from.uint()?, from.uint()?);
        let bytes = from.byte_string()?.to_vec();
        let len = from.array()?;
        let mut objects = Vec::new();
        for _ in 0..len {
            objects.push(from.byte_string()?.to_vec());
        }
        Ok(Self { root, shard, page, bytes, proof: Proof { objects } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_pairs() {
        let at = |text: &str| parse_address(text).map(|at| (at.shard, at.offset)).ok();
        assert_eq!(at("4096"), Some((0, 4096)));
        assert_eq!(at("7:0x10"), Some((7, 16)));
        assert_eq!(at("0xffffffffffffffff:1_000"), Some((u64::MAX, 1000)));
        for bad in ["", ":", "1:", "-1", "1:2:3", "0x", "99999999999999999999"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}

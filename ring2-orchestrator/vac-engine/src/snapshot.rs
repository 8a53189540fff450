//! Snapshots of a run between two calls: where a replay can begin that need not do all again.
//!
//! A snapshot is an object of the store: what it belongs to, where in the record it is, and the state of the
//! instance there; its memories, and the tables that it changes behind them, are those of an LA128 space, a shard each, so
//! that only pages that changed are written, and `vac mem` can look into them. `runs/RUN.snapshots` lists those of a run.
//!
//! ```text
//! snapshot = ["vac snapshot", 2, run, engine, profile, [program, ...], place, made, state]     dag-cbor
//! place    = [calls, events, entries, head, tick]              what was done, and the chain after it
//! made     = calls at the start that are made again, for their handles
//! state    = [ticks, [global, ...], [bytes, ...], [elements, ...], [entropy × 3], seed, is bare, memory, [used × 7],
//!             [held × 3]]                       lengths of memories and of tables
//! global   = 16 bytes, little-endian            seed = null | [[a, b]]            memory = the root of a space
//! list     = [[calls, events, tick, snapshot], ...]            in the order of calls
//! ```
//!
//! Invariants:
//! - Snapshots are derived: each can be lost, and one that is damaged or of something else costs time, and nothing
//!   else. A replay that begins at one and differs is done again from the start, which decides.
//! - What a replay that began at a snapshot passes over is read, hashed and compared with the snapshot's head.

use std::sync::Arc;

use vac_core::canon::{self, Decode, Encode, Reader, Writer, encode};
use vac_core::caps::Resource;
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{Corrupt, Error, HostAbort, Result};
use vac_core::ledger::{Head, RUNS_DIR, RunId};
use vac_core::memory::{Io, La128, Pager, Settings, Space, Tier, page_len_of};
use vac_core::storage::{read_file, replace_file};
use vac_host::engine::{ENGINE, Profile};
use vac_host::state::{Freeze, Frozen, Touched};
use vac_host::{Engine, Instance};

use crate::calls::Live;
use crate::home::Home;
use crate::session::{OF_INSTANCES, Session};
use behind::Behind;

mod behind;

/// Ticks after which a replay leaves a snapshot, at the next place where that can be.
pub const TICKS_BETWEEN: u64 = 50_000_000;
/// As long again for so many bytes that the last one wrote: so writing takes a small part of the time.
const BYTES_BETWEEN: u64 = 8 << 20;
/// Snapshots that a run has. When there are more, every second is dropped, and they are made half as often.
const KEPT_MAX: usize = 64;
/// A page of a snapshot, which is one of WebAssembly.
const PAGE_BYTES: usize = 64 << 10;
/// Pages in memory while one is written or read.
const BUDGET_BYTES: usize = 16 << 20;
/// Memories of so many bytes are read by whoever makes them.
const ALONE_MAX_BYTES: u64 = 8 << 20;
const WHAT: &str = "vac snapshot";
const FORMAT: u64 = 2;
/// What a list of snapshots may be long.
const LIST_MAX_BYTES: u64 = 1 << 16;

/// Where in a run something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At its end.
    End,
    /// Where this event begins.
    Event(u64),
    /// At this tick.
    Tick(u64),
}

/// A place in a record between two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Calls that were made.
    pub calls: u64,
    /// Events that happened: the number of the next one.
    pub events: u64,
    /// Chained entries until then.
    pub entries: u64,
    /// The head of the chain after them.
    pub head: Head,
    /// Ticks of all kernels until then.
    pub tick: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The run.
    pub run: RunId,
    /// The engine, as its header has it.
    pub engine: String,
    /// The profile, likewise.
    pub profile: String,
    /// The program, and what is linked to it.
    pub programs: Vec<Cid>,
    /// Where it is.
    pub place: Place,
    /// So many calls at the start have to be made, for the handles that the instance has from them; the others can be passed
    /// over.
    pub made: u64,
    /// The instance.
    pub state: Frozen,
    /// Its memories, number N being shard N, and its tables behind them.
    pub memory: Cid,
    /// What the run had used up.
    pub(crate) used: [u64; Resource::COUNT],
    /// What of it the instance holds.
    pub(crate) held: [u64; OF_INSTANCES.len()],
}

/// A line of a run's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Calls that were made.
    pub calls: u64,
    /// Events that happened.
    pub events: u64,
    /// Ticks until then.
    pub tick: u64,
    /// The object.
    pub cid: Cid,
}

fn list_path(run: RunId) -> String {
    // `ledger::remove` takes all files of a run by the beginning of their names.
    format!("{RUNS_DIR}/{run}.snapshots")
}

/// The snapshots of a run, in order. None if nobody made any.
pub fn list(home: &Home, run: RunId) -> Result<Vec<Listed>> {
    let (storage, path) = (home.storage(), list_path(run));
    match read_file(&**storage, &path, LIST_MAX_BYTES) {
        Ok(bytes) => Ok(canon::decode(&bytes, &storage.show(&path))?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(HostAbort::io("read", storage.show(&path), &e).into()),
    }
}

fn write_list(home: &Home, run: RunId, list: &[Listed]) -> Result<()> {
    let (storage, path) = (home.storage(), list_path(run));
    let tag = std::process::id().to_string();
    let written = replace_file(&**storage, &path, &tag, &encode(list));
    written.map_err(|e| HostAbort::io("write", storage.show(&path), &e).into())
}

/// Forgets a snapshot that is of no use.
pub fn forget(home: &Home, run: RunId, cid: &Cid) -> Result<()> {
    let mut kept = list(home, run).unwrap_or_default();
    kept.retain(|listed| listed.cid != *cid);
    write_list(home, run, &kept)
}

/// The last snapshot of `run` that is not behind `at`.
pub fn nearest(home: &Home, run: RunId, at: At) -> Result<Option<Listed>> {
    let is_before = |listed: &Listed| match at {
        At::End => true,
        At::Event(event) => listed.events <= event,
        At::Tick(tick) => listed.tick <= tick,
    };
    Ok(list(home, run)?.into_iter().rfind(is_before))
}

/// Reads a snapshot, which must be what its line says.
pub fn load(home: &Home, run: RunId, listed: &Listed) -> Result<Snapshot> {
    let place = format!("snapshot {}", listed.cid);
    let missing = || Corrupt::new("snapshot", "the store", format!("the object {}", listed.cid), "nothing");
    let bytes = home.store().get(&listed.cid)?.ok_or_else(missing)?;
    let snapshot: Snapshot = canon::decode(&bytes, &place)?;
    let here = (snapshot.run, snapshot.place.calls, snapshot.place.events, snapshot.place.tick);
    if here != (run, listed.calls, listed.events, listed.tick) {
        let expected = format!("run {run} after {} events at tick {}", listed.events, listed.tick);
        let got = format!("run {} after {} events at tick {}", here.0, here.2, here.3);
        return Err(Corrupt::new("snapshot", place, expected, got).into());
    }
    Ok(snapshot)
}

impl Snapshot {
    /// Whether it is of these programs, run by this engine under `profile`.
    pub(crate) fn check(&self, profile: Profile, programs: &[Cid]) -> Result<()> {
        let expected = (ENGINE, profile.name(), programs);
        let got = (self.engine.as_str(), self.profile.as_str(), self.programs.as_slice());
        if expected == got {
            return Ok(());
        }
        let place = format!("of run {} after {} events", self.run, self.place.events);
        let show = |(engine, profile, programs): (&str, &str, &[Cid])| {
            let programs: Vec<String> = programs.iter().map(ToString::to_string).collect();
            format!("{engine}, {profile}, {}", programs.join(" "))
        };
        Err(Corrupt::new("snapshot", place, show(expected), show(got)).into())
    }

    /// Whether `place`, which was reached by reading the record, is where it was taken. A fork has another head,
    /// because it has another header.
    pub(crate) fn check_place(&self, place: &Place, is_fork: bool) -> Result<()> {
        let head = if is_fork { self.place.head } else { place.head };
        if (Place { head, ..*place }) == self.place {
            return Ok(());
        }
        let show = |place: &Place| {
            format!("{} events, tick {} and the head {}", place.events, place.tick, place.head)
        };
        let at = format!("of run {} after {} calls", self.run, self.place.calls);
        Err(Corrupt::new("snapshot", at, show(place), show(&self.place)).into())
    }

    /// Reads every page, for those who cannot begin again when one is damaged.
    pub(crate) fn check_pages(&self, home: &Home) -> Result<()> {
        let mut pages = Pages::open(home, Some(&self.memory), Io::Auto)?;
        let mut page = vec![0; PAGE_BYTES];
        for range in pages.pager.mapped(&pages.space)? {
            for number in (range.page..).take(usize::try_from(range.pages).unwrap_or(usize::MAX)) {
                let at = La128 { shard: range.shard, offset: number.saturating_mul(PAGE_BYTES as u64) };
                pages.pager.read(&mut pages.space, at, &mut page)?;
            }
        }
        Ok(())
    }

    /// Gives its state to an instance that was started and made its first [`Self::made`] calls; `follows` is whether somebody will ask what it writes.
    pub(crate) fn thaw(
        &self,
        home: &Home,
        engine: &Engine,
        instance: &mut Instance,
        follows: bool,
    ) -> Result<()> {
        let len = self.state.memories.iter().fold(0, |sum: u64, len| sum.saturating_add(*len));
        // A thread, a ring and its buffers take longer to make than so few pages to read.
        let io = if len <= ALONE_MAX_BYTES { Io::Caller } else { Io::Auto };
        let mut pages = Pages::open(home, Some(&self.memory), io)?;
        instance.thaw(engine, &self.state, follows, &mut |number, bytes, touched| {
            pages.fill(number as u64, bytes, touched)
        })
    }
}

/// The memories of an instance as a space, of which only what changed is written.
pub struct Pages {
    tier: Arc<Behind>,
    pager: Pager,
    space: Space,
    /// Whether no thread helps with reading.
    reads_alone: bool,
}

impl Pages {
    /// Of an instance that none were written of yet.
    pub fn new(home: &Home) -> Result<Self> {
        Self::open(home, None, Io::Auto)
    }

    /// Writes the pages that changed since this was asked last. The root of all, and how many bytes were written.
    pub fn take(&mut self, engine: &Engine, instance: &mut Instance) -> Result<(Cid, u64)> {
        let mut bytes = 0;
        instance.each_written(engine, &mut |number, parts| {
            let at = |offset| La128 { shard: number as u64, offset };
            let parts: Vec<_> = parts.iter().map(|(offset, part)| (at(*offset), *part)).collect();
            bytes += self.pager.write_all_through(&mut self.space, &parts)?;
            Ok(())
        })?;
        Ok((self.pager.commit(&mut self.space)?, bytes))
    }

    /// Waits until the store has all that was written. What it has is not durable by that.
    pub fn settle(&self) -> Result<()> {
        self.tier.settle()
    }

    fn open(home: &Home, root: Option<&Cid>, io: Io) -> Result<Self> {
        let settings =
            Settings { page_len: PAGE_BYTES, budget_bytes: BUDGET_BYTES, io, ..Settings::default() };
        let tier = Arc::new(Behind::new(Arc::clone(home.store())));
        let mut pager = Pager::new(Arc::<Behind>::clone(&tier), settings)?;
        let space = match root {
            None => pager.space(),
            Some(root) => {
                let len = page_len_of(&**home.store(), root)?;
                if len != PAGE_BYTES {
                    let expected = format!("pages of {PAGE_BYTES} bytes");
                    return Err(Corrupt::new("snapshot", format!("memory {root}"), expected, len).into());
                }
                pager.open(root)?
            }
        };
        Ok(Self { tier, pager, space, reads_alone: io == Io::Caller })
    }

    /// Makes `bytes` what `shard` holds. What is not mapped is zeros.
    fn fill(&mut self, shard: u64, bytes: &mut [u8], touched: &Touched) -> Result<()> {
        let mapped = self.pager.mapped(&self.space)?;
        let mut zeros_from = 0;
        for range in mapped.iter().filter(|range| range.shard == shard) {
            let of_page = |page: u64| usize::try_from(page).ok()?.checked_mul(PAGE_BYTES);
            let start = of_page(range.page).filter(|start| *start < bytes.len());
            let end = range.page.checked_add(range.pages).and_then(of_page);
            let (Some(start), Some(end)) = (start, end) else {
                let expected = format!("pages within {} bytes", bytes.len());
                let got = format!("page {}", range.page);
                return Err(Corrupt::new("snapshot", format!("shard {shard}"), expected, got).into());
            };
            let end = end.min(bytes.len());
            touched.clear(bytes, zeros_from..start);
            let to = bytes.get_mut(start..end).unwrap_or_default();
            let at = La128 { shard, offset: start as u64 };
            match self.reads_alone {
                // Once copied is once less than by way of frames.
                true => self.pager.read_through(&mut self.space, at, to)?,
                false => self.pager.read(&mut self.space, at, to)?,
            }
            zeros_from = end;
        }
        touched.clear(bytes, zeros_from..bytes.len());
        Ok(())
    }
}

/// Leaves snapshots while a run is replayed.
pub(crate) struct Taker<'h> {
    home: &'h Home,
    run: RunId,
    profile: Profile,
    programs: Vec<Cid>,
    ticks_between: u64,
    kept: Vec<Listed>,
    pages: Option<Pages>,
    last_tick: u64,
    last_bytes: u64,
    taken: u64,
    /// Why there are none, if somebody asked; none inside if the program can have some.
    fixed: Option<Option<String>>,
    refused: Option<String>,
    /// Why one that was due was not worth it yet.
    late: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Snapshots that are new.
    pub new: u64,
    /// Why there could be none, where one was due.
    pub refused: Option<String>,
}

impl<'h> Taker<'h> {
    /// Leaves snapshots of `run`, which runs `programs`, after so many ticks each. If the replay begins at a
    /// snapshot, that is where pages are compared with.
    pub(crate) fn new(
        home: &'h Home,
        run: RunId,
        profile: Profile,
        programs: Vec<Cid>,
        ticks_between: u64,
        from: Option<&Snapshot>,
    ) -> Result<Self> {
        let pages = from.map(|from| Pages::open(home, Some(&from.memory), Io::Auto)).transpose()?;
        Ok(Self {
            home,
            run,
            profile,
            programs,
            ticks_between: ticks_between.max(1),
            // One that cannot be read is made again.
            kept: list(home, run).unwrap_or_default(),
            pages,
            last_tick: from.map_or(0, |from| from.place.tick),
            last_bytes: 0,
            taken: 0,
            fixed: None,
            refused: None,
            late: None,
        })
    }

    fn is_due(&self, tick: u64) -> bool {
        let more = self.ticks_between.saturating_mul(self.last_bytes) / BYTES_BETWEEN;
        let wait = self.ticks_between.saturating_add(more);
        self.refused.is_none() && tick.saturating_sub(self.last_tick) >= wait
    }

    /// Leaves one here, after `calls` calls, if it is time for it. `fixed` says why the program can have none. What
    /// fails costs the snapshot and not the replay.
    pub(crate) fn look(
        &mut self,
        session: &Session<'_>,
        live: &mut Live,
        calls: u64,
        fixed: impl FnOnce() -> Result<Option<String>>,
    ) {
        if !self.is_due(session.ticks()) {
            return;
        }
        if self.fixed.is_none() {
            self.fixed = Some(fixed().unwrap_or_else(|why| Some(why.to_string())));
        }
        if let Some(Some(why)) = &self.fixed {
            self.refused = Some(why.clone());
            return;
        }
        match self.take(session, live, calls) {
            Ok(None) => {}
            Ok(Some(why)) => self.refused = Some(why),
            Err(error) => self.refused = Some(error.to_string()),
        }
    }

    /// Takes one; or says why there can be none.
    fn take(&mut self, session: &Session<'_>, live: &mut Live, calls: u64) -> Result<Option<String>> {
        let place = session.place(calls);
        if self.kept.iter().any(|listed| listed.events == place.events) {
            self.last_tick = place.tick;
            return Ok(None);
        }
        if live.kept.has_handles() {
            return Ok(Some("its calls gave handles".into()));
        }
        let (made, at_tick) = live.moved;
        // What has to be made again at each use may be half of what there is; else a later one is worth more.
        if at_tick > place.tick / 2 {
            let call = format!("its call {made} of {calls} got handles or gave some up");
            self.late = Some(format!("{call}; to make it again would take more than half of the run so far"));
            return Ok(None);
        }
        let engine = session.programs.engine()?;
        let Some((instance, held)) = live.instance_and_held() else { return Ok(None) };
        let state = match instance.freeze(engine)? {
            Freeze::Taken(state) => state,
            Freeze::Refused(why) => return Ok(Some(why)),
        };
        let (memory, bytes) = self.pages(engine, instance)?;
        let snapshot = Snapshot {
            run: self.run,
            engine: ENGINE.into(),
            profile: self.profile.name().into(),
            programs: self.programs.clone(),
            place,
            made,
            state,
            memory,
            used: session.quotas_used(),
            held,
        };
        let encoded = encode(&snapshot);
        let cid = Cid::of(Codec::DagCbor, &encoded);
        if let Some(pages) = &self.pages {
            pages.tier.put(&cid, &encoded)?;
        }
        self.keep(Listed { calls, events: place.events, tick: place.tick, cid });
        (self.last_tick, self.last_bytes) = (place.tick, bytes);
        Ok(None)
    }

    /// Writes the pages that changed. After a failure, what was written since is not known any more.
    fn pages(&mut self, engine: &Engine, instance: &mut Instance) -> Result<(Cid, u64)> {
        let mut pages = match self.pages.take() {
            Some(pages) => pages,
            None => Pages::new(self.home)?,
        };
        let taken = pages.take(engine, instance)?;
        self.pages = Some(pages);
        Ok(taken)
    }

    fn keep(&mut self, listed: Listed) {
        self.taken += 1;
        self.kept.push(listed);
        self.kept.sort_by_key(|listed| listed.events);
        if self.kept.len() > KEPT_MAX {
            let mut number = 0;
            self.kept.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            self.ticks_between = self.ticks_between.saturating_mul(2);
        }
    }

    /// Makes what was left durable, and lists it.
    pub(crate) fn finish(self) -> Taken {
        let late = self.late.filter(|_| self.kept.is_empty());
        let mut taken = Taken { new: self.taken, refused: self.refused.or(late) };
        if taken.new == 0 {
            return taken;
        }
        let settled = self.pages.as_ref().map_or(Ok(()), Pages::settle);
        let listed = settled
            .and_then(|()| self.home.store().commit())
            .and_then(|()| write_list(self.home, self.run, &self.kept));
        if let Err(why) = listed {
            taken = Taken { new: 0, refused: Some(why.to_string()) };
        }
        taken
    }
}

impl Encode for Listed {
    fn encode(&self, to: &mut Writer) {
        to.array(4);
        to.uint(self.calls);
        to.uint(self.events);
        to.uint(self.tick);
        to.link(&self.cid);
    }
}

impl Decode for Listed {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(4)?;
        Ok(Self { calls: from.uint()?, events: from.uint()?, tick: from.uint()?, cid: from.link()? })
    }
}

impl Encode for Place {
    fn encode(&self, to: &mut Writer) {
        to.array(5);
        to.uint(self.calls);
        to.uint(self.events);
        to.uint(self.entries);
        to.byte_string(self.head.as_bytes());
        to.uint(self.tick);
    }
}

impl Decode for Place {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(5)?;
        let (calls, events, entries) = (from.uint()?, from.uint()?, from.uint()?);
        let head = Head::from_bytes(bytes_of(from)?);
        Ok(Self { calls, events, entries, head, tick: from.uint()? })
    }
}

impl Encode for Snapshot {
    fn encode(&self, to: &mut Writer) {
        to.array(9);
        to.text(WHAT);
        to.uint(FORMAT);
        to.text(self.run.as_str());
        to.text(&self.engine);
        to.text(&self.profile);
        to.array(self.programs.len());
        self.programs.iter().for_each(|program| to.link(program));
        self.place.encode(to);
        to.uint(self.made);
        let state = &self.state;
        to.array(10);
        to.uint(state.ticks);
        to.array(state.globals.len());
        state.globals.iter().for_each(|bits| to.byte_string(&bits.to_le_bytes()));
        put_all(&state.memories, to);
        put_all(&state.tables, to);
        put_all(&state.entropy, to);
        match state.seed_given {
            None => to.null(),
            Some((a, b)) => {
                to.array(1);
                put_all(&[a, b], to);
            }
        }
        to.bool(state.is_bare);
        to.link(&self.memory);
        put_all(&self.used, to);
        put_all(&self.held, to);
    }
}

impl Decode for Snapshot {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(9)?;
        let what = from.text()?;
        if what != WHAT {
            return Err(from.wrong(format!("`{WHAT}`"), format!("{} bytes of text", what.len())));
        }
        let format = from.uint()?;
        if format != FORMAT {
            return Err(from.wrong(format!("format {FORMAT}"), format));
        }
        let run = from.text()?;
        let run = run.parse().map_err(|_| from.wrong("a run", format!("{} bytes of text", run.len())))?;
        let (engine, profile) = (from.text()?.to_owned(), from.text()?.to_owned());
        let programs = list_of(from, |r| r.link())?;
        let (place, made) = (Place::decode(from)?, from.uint()?);
        if made > place.calls {
            return Err(from.wrong(format!("at most {} calls that are made", place.calls), made));
        }
        from.array_of(10)?;
        let ticks = from.uint()?;
        let globals = list_of(from, |r| bytes_of(r).map(u128::from_le_bytes))?;
        let memories = list_of(from, Reader::uint)?;
        let tables = list_of(from, Reader::uint)?;
        let entropy = fixed(from)?;
        let seed_given = match from.null()? {
            true => None,
            false => {
                from.array_of(1)?;
                let [a, b] = fixed(from)?;
                Some((a, b))
            }
        };
        let is_bare = from.bool()?;
        let state = Frozen { ticks, globals, memories, tables, entropy, seed_given, is_bare };
        let memory = from.link()?;
        let (used, held) = (fixed(from)?, fixed(from)?);
        Ok(Self { run, engine, profile, programs, place, made, state, memory, used, held })
    }
}

fn put_all(numbers: &[u64], to: &mut Writer) {
    to.array(numbers.len());
    numbers.iter().for_each(|number| to.uint(*number));
}

fn list_of<'r, T>(
    from: &mut Reader<'r>,
    item: impl Fn(&mut Reader<'r>) -> Result<T, Corrupt>,
) -> Result<Vec<T>, Corrupt> {
    let (len, mut items) = (from.array()?, Vec::new());
    for _ in 0..len {
        items.push(item(from)?);
    }
    Ok(items)
}

fn fixed<const LEN: usize>(from: &mut Reader<'_>) -> Result<[u64; LEN], Corrupt> {
    from.array_of(LEN)?;
    let mut numbers = [0; LEN];
    for number in &mut numbers {
        *number = from.uint()?;
    }
    Ok(numbers)
}

fn bytes_of<const LEN: usize>(from: &mut Reader<'_>) -> Result<[u8; LEN], Corrupt> {
    let bytes = from.byte_string()?;
    bytes.try_into().map_err(|_| from.wrong(format!("{LEN} bytes"), bytes.len()))
}

/// Whether an error is about snapshots, and not about the record.
pub(crate) fn is_of_snapshot(error: &Error) -> bool {
    matches!(error, Error::Corrupt(_) | Error::Divergence(_))
}

//! Going back into a run: a replay that stops at a point, and what is there.
//!
//! A point is an event, a tick or a time. The replay begins at the nearest snapshot before it, or at the start, and compares until there as any other does, so what is shown is what
//! was: a record that could not have happened is a divergence, and no state.
//!
//! Invariant: the same point of the same record shows the same, wherever and whenever.

pub(crate) mod output;
pub(crate) mod stop;
mod time;

use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::fault::{Divergence, Error, Result, Usage};
use vac_core::ledger::{Entry, Header, Reader, RunId, Seq};
use vac_host::{Lens, Look};

pub use self::stop::{Asked, At, Running};
use self::time::Waits;
use crate::home::Home;
use crate::replay::{self, Reached};
use crate::report::{self, EventInfo};
use crate::run::What;
use crate::session::Outside;
use crate::snapshot::Listed;

/// Bytes of each standard stream that are kept.
pub const OUTPUT_MAX_BYTES: usize = 16 << 20;

/// A point of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// At the call of this event, before it is answered.
    Event(Seq),
    /// At the first point with at least so many ticks.
    Tick(u64),
    /// When the virtual clock had come so far, in nanoseconds since the start of the run.
    Time(u64),
}

/// What a run printed on one of its standard streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The last bytes, at most [`OUTPUT_MAX_BYTES`].
    pub bytes: Vec<u8>,
    /// How many came before those.
    pub dropped_bytes: u64,
    /// How many went straight from one stream to this one, so that the record does not have them.
    pub unseen_bytes: u64,
}

impl From<output::Kept> for Output {
    fn from(kept: output::Kept) -> Self {
        let (dropped_bytes, unseen_bytes) = (kept.dropped_bytes, kept.unseen_bytes);
        Self { bytes: kept.into_bytes(), dropped_bytes, unseen_bytes }
    }
}

/// What is at a point.
#[derive(Debug)]
pub struct Sought {
    /// The run.
    pub run: RunId,
    /// Events before the point.
    pub events: u64,
    /// The run's tick there.
    pub tick: u64,
    /// Whether this engine recorded it; the ticks of another one are not those of the replay.
    pub same_engine: bool,
    /// Its virtual time there.
    pub time_ns: u64,
    /// The call in progress, if the point is at an event.
    pub asked: Option<Asked>,
    /// The same event as the record has it, with its answer.
    pub recorded: Option<EventInfo>,
    /// The last event before the point.
    pub before: Option<EventInfo>,
    /// The first event after it, if the point is between two.
    pub after: Option<EventInfo>,
    /// The kernel that runs; `None` in a script's own code, and when the run is over.
    pub running: Option<Running>,
    /// What that kernel looks like; `None` if it was not started yet.
    pub look: Option<Look>,
    /// Whether the point is the end of the run: no event and no tick came after it.
    pub is_end: bool,
    /// Standard output until there.
    pub stdout: Output,
    /// Standard error until there.
    pub stderr: Output,
    /// The snapshot where the replay began, if that was not the start. It changes nothing of all this.
    pub from: Option<Listed>,
}

/// How far a run goes.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    events: u64,
    ticks: u64,
    time_ns: u64,
    /// Where the time that was asked for is.
    at_time: Option<At>,
    same_engine: bool,
}

/// Goes to `point` of `run`, and looks at it through `lens`.
pub fn seek(home: &Home, run: RunId, point: Point, lens: Lens, outside: Outside) -> Result<Sought> {
    let goal = if let Point::Time(time_ns) = point { Some(time_ns) } else { None };
    let extent = extent(home, run, goal)?;
    let at = resolve(run, point, extent)?;
    let Reached { stop, events, ended, from } = replay::until(home, run, at, lens, &outside)?;
    if !stop.is_reached() {
        ended?;
    }
    Ok(Sought { from, ..sought(home, run, (stop, events), extent)? })
}

/// What the replay of `run` did instead of what was recorded, when it differed: the call, whole, and the guest's stack.
/// `None` if it did not get there or made no call.
pub fn look_at_divergence(
    home: &Home,
    run: RunId,
    divergence: &Divergence,
    outside: Outside,
) -> Option<(Asked, Option<Look>)> {
    let at = At::Event(divergence.seq);
    // From the start, as the replay that differed.
    let Reached { stop, .. } = replay::until_from(home, run, at, Lens::default(), None, outside).ok()?;
    Some((stop.asked?, stop.look))
}

fn resolve(run: RunId, point: Point, extent: Extent) -> Result<At> {
    let Extent { events, ticks, time_ns, at_time, .. } = extent;
    match point {
        Point::Event(seq) if seq < events => Ok(At::Event(seq)),
        Point::Event(seq) => Err(no_event(run, seq, events)),
        Point::Tick(tick) if tick <= ticks => Ok(At::Tick(tick)),
        Point::Tick(tick) => {
            Err(Usage::new(format!("run `{run}` has no tick {tick}: its ticks are 0 to {ticks}")).into())
        }
        Point::Time(wanted) => at_time.ok_or_else(|| {
            let message = format!("run `{run}` was over before {wanted} ns: its time is 0 to {time_ns} ns");
            Usage::new(message).into()
        }),
    }
}

/// The mistake of asking for an event that a run has not.
pub fn no_event(run: RunId, seq: Seq, events: u64) -> Error {
    let range = match events.checked_sub(1) {
        Some(last) => format!("its events are 0 to {last}"),
        None => "it has none".to_owned(),
    };
    Usage::new(format!("run `{run}` has no event {seq}: {range}")).into()
}

/// Reads the record once, without running anything.
fn extent(home: &Home, run: RunId, goal: Option<u64>) -> Result<Extent> {
    let mut extent = Extent::default();
    let mut is_open = goal.is_some();
    extent.same_engine = replay::is_same_engine(home, run)?;
    let waits = each_event(home, run, |waits, step| {
        let tick = match step {
            Step::Before(_, tick) => {
                extent.events += 1;
                tick
            }
            Step::After(_, tick) | Step::Close(tick) => tick,
        };
        extent.ticks = extent.ticks.max(tick);
        if let Some(goal) = goal.filter(|goal| is_open && waits.at(tick) >= *goal) {
            is_open = false;
            extent.at_time = Some(match step {
                Step::After(seq, _) => At::Event(seq),
                _ => At::Tick(waits.tick_at(goal)),
            });
        }
        true
    })?;
    extent.time_ns = waits.at(extent.ticks);
    Ok(extent)
}

/// A step of a record, with its number and tick.
enum Step {
    /// An event is about to happen.
    Before(Seq, u64),
    /// It happened, and what it waited for is over.
    After(Seq, u64),
    /// The run is over.
    Close(u64),
}

/// Calls `see` before and after each event until it says that it has seen enough; the waits until then.
fn each_event(home: &Home, run: RunId, mut see: impl FnMut(&Waits, Step) -> bool) -> Result<Waits> {
    let mut reader = Reader::open(Arc::clone(home.storage()), run)?;
    let (mut names, mut waits) = (Vec::new(), Waits::default());
    while let Some(entry) = reader.next()? {
        let goes_on = match entry {
            Entry::Header(header) => {
                waits = Waits::new(is_script(&header));
                true
            }
            Entry::Name(_, name) => {
                names.push(name);
                true
            }
            Entry::Begin(call) => {
                let goes_on = see(&waits, Step::Before(call.seq, call.tick));
                waits.begin(name_of(&names, call.name), &call);
                goes_on
            }
            Entry::Event(call, ret) => {
                see(&waits, Step::Before(call.seq, call.tick)) && {
                    waits.event(name_of(&names, call.name), &call, &ret, home.store());
                    see(&waits, Step::After(call.seq, call.tick))
                }
            }
            Entry::Close { ticks, .. } => see(&waits, Step::Close(ticks)),
            _ => true,
        };
        if !goes_on {
            break;
        }
    }
    Ok(waits)
}

fn name_of(names: &[String], id: u32) -> &str {
    usize::try_from(id).ok().and_then(|id| names.get(id)).map_or("", String::as_str)
}

fn is_script(header: &Header) -> bool {
    header.get("what") == Some(&Node::Text(What::Script.word().to_owned()))
}

fn sought(home: &Home, run: RunId, (stop, events): (stop::Stop, u64), extent: Extent) -> Result<Sought> {
    let is_end = stop.asked.is_none() && stop.look.is_none() && events >= extent.events;
    let seq = stop.asked.as_ref().map_or(events, |asked| asked.seq);
    let waits = each_event(home, run, |_, step| !matches!(step, Step::Before(s, _) if s == seq))?;
    let near = report::around(home, run, seq, 1)?;
    let find = |wanted: Option<u64>| near.iter().find(|event| Some(event.seq) == wanted).cloned();
    let (recorded, after) = match stop.asked {
        Some(_) => (find(Some(seq)), None),
        None => (None, find(Some(seq))),
    };
    // A replay that was given no more ticks than these does not see how far it went past them.
    let asked = stop
        .asked
        .map(|asked| Asked { tick: recorded.as_ref().map_or(asked.tick, |event| event.tick), ..asked });
    let tick = match (&asked, &stop.look, &after) {
        (Some(asked), ..) => asked.tick,
        (None, Some(look), _) => look.ticks,
        (None, None, Some(after)) => after.tick,
        (None, None, None) => extent.ticks,
    };
    Ok(Sought {
        run,
        events: seq,
        tick,
        same_engine: extent.same_engine,
        time_ns: waits.at(tick),
        asked,
        recorded,
        before: find(seq.checked_sub(1)),
        after,
        running: stop.running,
        look: stop.look,
        is_end,
        stdout: stop.printed.stdout.into(),
        stderr: stop.printed.stderr.into(),
        from: None,
    })
}

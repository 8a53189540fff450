//! Hashing what a home keeps, a part at a time, and mending it: by hand, every so often, or beside a service.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use vac_core::cid::Cid;
use vac_core::fault::{Error, Result};
use vac_core::memory::Tier;
use vac_core::store::ScrubReport;
use vac_engine::tiers::{self, Named, Open};
use vac_engine::verify::{Completed, complete, live_objects};
use vac_engine::{Home, HostClock};

use crate::cli::Global;
use crate::host::SystemClock;
use crate::tiers::Opener;
use crate::{exit, ui};

/// How often a part is hashed beside a service, and how many parts are those of a minute.
const BESIDE_EVERY: Duration = Duration::from_secs(5);
const BESIDE_PARTS: u64 = 12;

/// A home, and where what is bad or gone in it may be had.
pub(crate) struct Scrubber {
    home: Home,
    others: Vec<Other>,
}

/// Another place for objects.
enum Other {
    Home(Box<Home>),
    /// A tier, which is opened when it is first asked.
    Tier {
        named: Box<Named>,
        opener: Opener,
        open: OnceCell<Arc<dyn Tier>>,
    },
}

impl Other {
    fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Home(home) => home.store().get(cid),
            Self::Tier { named, opener, open } => {
                let tier = match open.get() {
                    Some(tier) => tier,
                    None => {
                        let tier = opener.open(named)?.tier;
                        open.get_or_init(|| tier)
                    }
                };
                tier.get(cid, tiers::OBJECT_MAX_BYTES)
            }
        }
    }
}

impl Scrubber {
    /// Mends with what `from` names, a tier of this home before a folder; otherwise with all its tiers, in order.
    pub(crate) fn new(home: Home, opener: Opener, from: Option<&Path>) -> Result<Self> {
        let is_meant = |named: &Named| from.is_none_or(|from| from.as_os_str() == named.name.as_str());
        let tiers = tiers::list(&home)?.into_iter().filter(is_meant);
        let mut others: Vec<Other> = tiers
            .map(|named| Other::Tier {
                named: Box::new(named),
                opener: opener.clone(),
                open: OnceCell::new(),
            })
            .collect();
        if let (Some(from), true) = (from, others.is_empty()) {
            others.push(Other::Home(Box::new(Home::open_read_only(from)?)));
        }
        Ok(Self { home, others })
    }

    /// Hashes so many bytes, from where the last one stopped.
    pub(crate) fn slice(&self, budget: u64) -> Result<ScrubReport> {
        self.home.store().scrub(budget, &|cid| self.find(cid))
    }

    /// Hashes everything from the beginning, and finds what is gone without a trace in the store.
    pub(crate) fn all(&self) -> Result<ScrubReport> {
        self.home.store().restart_scrub()?;
        let mut report = self.slice(u64::MAX)?;
        let completed = match complete(&self.home, SystemClock::new().unix_ms(), &|cid| self.find(cid)) {
            // What names the others is damaged: what was found until then is said.
            Err(Error::Corrupt(why)) => Completed { failed: vec![why], ..Completed::default() },
            completed => completed?,
        };
        let Completed { came, lost, mut failed } = completed;
        failed.extend(self.home.store().check_names()?);
        report.unmended += failed.len() as u64;
        report.corrupt.extend(failed);
        let add = |to: &mut Vec<Cid>, more: Vec<Cid>| {
            let known: BTreeSet<Cid> = to.iter().copied().collect();
            to.extend(more.into_iter().filter(|cid| !known.contains(cid)));
        };
        add(&mut report.mended, came);
        add(&mut report.lost, lost);
        Ok(report)
    }

    /// The object from the first that has it. Why one could not be asked is said if nobody has it.
    fn find(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        let mut failed = None;
        for other in &self.others {
            match other.get(cid) {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                // What is damaged there too is of no use.
                Ok(None) | Err(Error::Corrupt(_)) => {}
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    pub(crate) fn show(&self, global: &Global, report: &ScrubReport) -> Result<u8> {
        let names = |cids: &[Cid]| cids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let problems: Vec<String> = report.corrupt.iter().map(ToString::to_string).collect();
        let unnamed = self.unnamed(report)?;
        let is_whole = problems.is_empty() && report.lost.is_empty() && report.mended.is_empty();
        if global.json {
            ui::print_json(&json!({
                "objects": report.objects,
                "bytes": report.bytes,
                "done": report.is_done,
                "problems": problems,
                "unmended": report.unmended,
                "mended": names(&report.mended),
                "lost": names(&report.lost),
                "unnamed": names(&unnamed),
            }));
        } else {
            let word = match (is_whole, is_mended(report)) {
                (true, _) => ui::bold("ok"),
                (false, true) => ui::bold("mended"),
                (false, false) => ui::red("damaged"),
            };
            let rest = if report.is_done { "all is done" } else { "there is more: the next `scrub` goes on" };
            let (objects, bytes) = (ui::count(report.objects), ui::count(report.bytes));
            ui::print(format_args!("{word}: {objects} objects, {bytes} bytes; {rest}\n"));
            problems.iter().for_each(|p| ui::print(format_args!("  {}\n", ui::quote_lines(p))));
            report.mended.iter().for_each(|cid| ui::print(format_args!("  mended {cid}\n")));
            let why = |cid| {
                if unnamed.contains(cid) { "; nothing names it: `vac store gc` forgets it" } else { "" }
            };
            report.lost.iter().for_each(|cid| ui::print(format_args!("  lost {cid}{}\n", why(cid))));
            if !problems.is_empty() && is_mended(report) {
                ui::note(ui::dim("what is bad stays beside what is whole until `vac store gc`"));
            }
        }
        Ok(if is_whole || is_mended(report) { exit::OK } else { exit::INTEGRITY })
    }

    /// The lost objects that nothing of this home needs. None are said to be if that cannot be found out, because what
    /// names objects is damaged too.
    fn unnamed(&self, report: &ScrubReport) -> Result<Vec<Cid>> {
        if report.lost.is_empty() {
            return Ok(Vec::new());
        }
        match live_objects(&self.home, SystemClock::new().unix_ms()) {
            Ok(live) => Ok(report.lost.iter().filter(|cid| !live.contains(*cid)).copied().collect()),
            Err(Error::Corrupt(_)) => Ok(Vec::new()),
            Err(why) => Err(why),
        }
    }
}

/// Whether all that was bad or gone is there again.
fn is_mended(report: &ScrubReport) -> bool {
    report.lost.is_empty() && report.unmended == 0
}

/// Hashes `budget` bytes a minute of the home in another thread, until this process ends, and says on the standard error
/// what was bad. The store is opened once more: nothing that the service does waits for this.
pub(crate) fn beside(global: &Global, budget: u64) -> Result<()> {
    if budget == 0 {
        return Ok(());
    }
    let (home, opener) = (crate::commands::home(global)?, Opener { is_quiet: global.quiet });
    let scrub = move || {
        let Ok(scrubber) = Scrubber::new(home, opener, None) else { return };
        std::thread::sleep(BESIDE_EVERY);
        let part = budget.div_ceil(BESIDE_PARTS);
        loop {
            // A part is one object at least, however long it is: others wait until what was too much is paid for.
            let turns = match scrubber.slice(part) {
                Ok(report) => {
                    note(&report);
                    // All of a small home is not hashed over and over.
                    let least = if report.is_done { BESIDE_PARTS } else { 1 };
                    report.bytes.div_ceil(part).max(least)
                }
                Err(why) => {
                    ui::note(format_args!("scrub: {}", ui::quote_lines(&why.to_string())));
                    BESIDE_PARTS
                }
            };
            std::thread::sleep(BESIDE_EVERY.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX)));
        }
    };
    let started = std::thread::Builder::new().name("scrub".to_owned()).spawn(scrub);
    started.map(drop).map_err(|e| vac_core::fault::HostAbort::io("start", "a thread", &e).into())
}

fn note(report: &ScrubReport) {
    report
        .corrupt
        .iter()
        .for_each(|why| ui::note(format_args!("scrub: {}", ui::quote_lines(&why.to_string()))));
    report.mended.iter().for_each(|cid| ui::note(format_args!("scrub: mended {cid}")));
    report.lost.iter().for_each(|cid| ui::note(format_args!("scrub: lost {cid}")));
}

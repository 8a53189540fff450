//! What is measured in a process of its own, so that its peak of memory is nothing but its own: working sets of ten times the
//! budget, and 10^18 addresses.
//!
//! All sides are commands of one program. There is the pager; `foyer`, whose cache
//! on disk holds all pages, which reads around the system's cache and checks a sum of each entry; and the pages in one
//! plain file that is mapped, unchecked. No cgroup is made here, so what is mapped stays within the budget in another way: a page is
//! fetched as a whole when it is touched, and beyond the budget the least recently used one is paged out, from the mapping and
//! from the system's cache.

use super::figure::{Figure, Goal};
use super::memory_tiers::{BUDGET_PAGES, Disk, PAGES};
use super::peers::{Said, ask, write_trace};
use super::timing::median;
use super::{Result, scratch};

const ROUNDS: usize = 3;
const PLACES: u64 = 1_000_000;
const PEAK_MB: f64 = 19.98;

/// 10^18 bytes that can be addressed, and little memory: writes at random places of all of it, then reads of the same.
pub(super) fn huge() -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let said = ask(&["huge", &folder.path().display().to_string(), &PLACES.to_string()])?;
    let name = |what: &str| format!("memory, 10^18 bytes, {PLACES} random {what}");
    let rate = |what: &str| said.get(what).map(|ns| PLACES as f64 * 1e9 / ns);
    let mb = |name: &str| said.get(name).map(|kib| kib * 1024.0 / 1e6);
    let note = format!(
        "{:.1} s and {:.1} s; budget {} KiB of pages and {} KiB of nodes of the map; {:.1} MB when it began; each value was checked",
        said.get("written")? / 1e9,
        said.get("read")? / 1e9,
        said.get("budget")?,
        said.get("nodes")?,
        mb("start")?,
    );
    Ok(vec![
        Figure::new(name("writes and a commit"), "/s", rate("written")?, ("none", f64::NAN)),
        Figure::new(name("reads"), "/s", rate("read")?, ("none", f64::NAN)),
        Figure::new(name("writes and reads, peak"), "MB", mb("peak")?, ("none", f64::NAN))
            .goal(Goal::AtMost(PEAK_MB))
            .note(note),
    ])
}

/// What one side said, round by round.
#[derive(Default)]
struct Rounds(Vec<Said>);

impl Rounds {
    fn median(&self, name: &str) -> Result<f64> {
        let values: Result<Vec<f64>> = self.0.iter().map(|said| said.get(name)).collect();
        Ok(median(&values?))
    }

    /// The highest peak, in MiB.
    fn peak(&self) -> Result<f64> {
        let peaks: Result<Vec<f64>> = self.0.iter().map(|said| said.get("peak")).collect();
        Ok(peaks?.into_iter().fold(0.0, f64::max) / 1024.0)
    }
}

/// All sides of a working set.
#[derive(Default)]
struct Sides {
    pager: Rounds,
    foyer: Rounds,
    mapped: Rounds,
}

impl Sides {
    /// In turns.
    fn measure(disk: &Disk) -> Result<Self> {
        let folder = disk.folder.path();
        let path = |name: &str| folder.join(name).display().to_string();
        let (root, budget) = (disk.root.to_string(), BUDGET_PAGES.to_string());
        if !folder.join("foyer").exists() {
            ask(&["fill", &path("foyer"), &PAGES.to_string()])?;
        }
        let mut sides = Self::default();
        for _ in 0..ROUNDS {
            disk.cool()?;
            sides.pager.0.push(ask(&["pager", &path(""), &budget, &path("trace"), &root])?);
            sides.mapped.0.push(ask(&["mapped", &path("raw"), &budget, &path("trace")])?);
            sides.foyer.0.push(ask(&["foyer", &path("foyer"), &budget, &path("trace"), &path("raw")])?);
        }
        Ok(sides)
    }
}

/// A trace, by all sides.
pub(super) fn working_set(disk: &Disk, name: &str, trace: &[u64]) -> Result<Vec<Figure>> {
    write_trace(&disk.folder.path().join("trace"), trace)?;
    let sides = Sides::measure(disk)?;
    let rate = |side: &Rounds| side.median("ns").map(|ns| trace.len() as f64 * 1e9 / ns);
    let own = rate(&sides.pager)?;
    let figure = |peer: &str, theirs: f64| {
        let name = format!("memory, ten times the budget, {name}");
        Figure::new(name, "pages/s", own, (peer, theirs)).goal(Goal::RatioAtLeast(1.0))
    };
    let budget = (BUDGET_PAGES * super::memory::PAGE) as f64 / f64::from(1 << 20);
    let peak =
        Figure::new(format!("{name}, peak of its process"), "MiB", sides.pager.peak()?, ("budget", budget));
    Ok(vec![
        figure("foyer, memory and disk", rate(&sides.foyer)?).note(said_of_peers(&sides)?),
        figure("a mapped file, madvise", rate(&sides.mapped)?),
        peak.goal(Goal::RatioAtMost(1.1)).note(said_of_pager(&sides.pager)?),
    ])
}

fn said_of_peers(sides: &Sides) -> Result<String> {
    Ok(format!(
        "peaks: foyer {:.1} MiB, mapped {:.1} MiB; {} pages were not in foyer's cache and came from a plain file",
        sides.foyer.peak()?,
        sides.mapped.peak()?,
        sides.foyer.median("lost")?,
    ))
}

fn said_of_pager(pager: &Rounds) -> Result<String> {
    let of = |name: &str| pager.median(name);
    Ok(format!(
        "{} misses; {} evictions, {} of which came back; {} read ahead, {} used, {} wasted; {:.1} MiB when it began",
        of("misses")?,
        of("evictions")?,
        of("returned")?,
        of("ahead")?,
        of("ahead-used")?,
        of("ahead-wasted")?,
        of("start")? / 1024.0,
    ))
}

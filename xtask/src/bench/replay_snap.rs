//! Snapshots between calls: what one costs, and what it saves who goes to a tick.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vac_core::cid::Cid;
use vac_core::ledger::RunId;
use vac_engine::replay::{How, replay_as};
use vac_engine::run::Request;
use vac_engine::seek::{Point, seek};
use vac_engine::session::Outside;
use vac_engine::snapshot::{At, Pages, TICKS_BETWEEN};
use vac_engine::target::Target;
use vac_engine::{Home, HostClock};
use vac_host::limits::WASM_STACK_BYTES;
use vac_host::{Backend, Coder, Engine, Lens, NoConsole, NoWatch, Profile, Val};

use super::compute::{Vac, into};
use super::figure::{Figure, Goal};
use super::timing::{Side, median, medians, time};
use super::{Result, scratch, text};

const ROUNDS: usize = 40;
const PAGE_BYTES: usize = 64 << 10;
/// Pages that are written between two snapshots: 1 MiB of 64.
const DIRTY_PAGES: usize = 16;
const SNAPSHOT_GOAL: f64 = 2.0;
/// Together a little more than a billion ticks.
const CALLS: usize = 256;
const TICKS: u64 = 1_000_000_000;
const SEEKS: u64 = 8;
const SEEK_GOAL: f64 = 0.1;

/// Fills its 64 MiB, writes pages of them, and works.
const PROGRAM: &str = r#"(module
  (memory (export "memory") 1024)
  (func (export "fill") (param $salt i32) (local $at i32)
    (loop $again
      (i32.store (local.get $at) (i32.add (local.get $salt) (i32.mul (local.get $at) (i32.const 1103515245))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $again (i32.lt_u (local.get $at) (i32.const 67108864)))))
  ;; All of $pages pages, 61 pages apart.
  (func (export "dirty") (param $salt i32) (param $pages i32) (local $at i32)
    (loop $page
      (local.set $at (i32.shl (i32.rem_u (i32.mul (local.get $pages) (i32.const 61)) (i32.const 1024)) (i32.const 16)))
      (memory.fill (local.get $at) (local.get $salt) (i32.const 65536))
      (i32.store (local.get $at) (i32.mul (local.get $salt) (local.get $pages)))
      (local.set $pages (i32.sub (local.get $pages) (i32.const 1)))
      (br_if $page (local.get $pages))))
  (func (export "work") (param $n i32) (result i32) (local $x i32)
    (loop $again
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1103515245)) (i32.const 12345)))
      (i32.store (i32.and (i32.shr_u (local.get $x) (i32.const 8)) (i32.const 0xffffc)) (local.get $x))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x)))"#;

/// Both.
pub(super) fn run() -> Result<Vec<Figure>> {
    let mut figures = taking()?;
    figures.extend(seeking()?);
    Ok(figures)
}

/// 1 MiB dirty of 64 MiB, with the two ways to know which, beside hashing that 1 MiB.
fn taking() -> Result<Vec<Figure>> {
    let program = wat::parse_str(PROGRAM).map_err(text)?;
    let folder = scratch()?;
    let home = Home::open(folder.path()).map_err(text)?;
    let mut noted = Dirtied::start(&program, &home, false)?;
    let mut compared = Dirtied::start(&program, &home, true)?;
    let pages: Vec<Vec<u8>> = (0..DIRTY_PAGES).map(|n| vec![n as u8 + 1; PAGE_BYTES]).collect();
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| time(|| Ok(pages.iter().map(|page| Cid::of_raw(page)).collect::<Vec<_>>()))),
        Box::new(|| noted.sample()),
        Box::new(|| compared.sample()),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    let baseline = ("BLAKE3 of the dirty pages", medians[0] / 1e3);
    Ok(vec![
        Figure::new("snapshot, 1 MiB dirty of 64 MiB", "us", medians[1] / 1e3, baseline)
            .goal(Goal::RatioAtMost(SNAPSHOT_GOAL))
            .note("on the thread of the guest; another gives it to the store, and it is made durable once, at the end of a replay"),
        Figure::new("the same, compared with a copy", "us", medians[2] / 1e3, baseline)
            .note("where the system does not note what is written"),
    ])
}

/// An instance whose memory is snapshot again and again.
struct Dirtied<'h> {
    home: &'h Home,
    vac: Vac,
    pages: Pages,
    salt: i32,
}

impl<'h> Dirtied<'h> {
    fn start(program: &[u8], home: &'h Home, compares: bool) -> Result<Self> {
        // Only such an engine shows the memories of a program.
        let engine = Engine::looking(Profile::default(), Backend::Native, WASM_STACK_BYTES).map_err(text)?;
        let mut vac = Vac::start_in(engine, program)?;
        vac.instance.call(&vac.engine, "fill", &[Val::S32(1)]).map_err(text)?;
        if compares {
            vac.instance.compare_memories(&vac.engine).map_err(text)?;
        }
        let mut pages = Pages::new(home).map_err(text)?;
        pages.take(&vac.engine, &mut vac.instance).map_err(text)?;
        pages.settle().map_err(text)?;
        home.store().commit().map_err(text)?;
        Ok(Self { home, vac, pages, salt: 0 })
    }

    fn sample(&mut self) -> Result<f64> {
        self.salt += 1;
        let args = [Val::S32(self.salt), Val::S32(DIRTY_PAGES as i32)];
        let index = self.vac.find("dirty")?;
        self.vac.instance.call_index(&index, &args).map_err(|stopped| text(into(stopped)))?;
        let mut bytes = 0;
        let ns = time(|| {
            let (root, written) = self.pages.take(&self.vac.engine, &mut self.vac.instance).map_err(text)?;
            bytes = written;
            Ok(root)
        })?;
        self.pages.settle().map_err(text)?;
        self.home.store().commit().map_err(text)?;
        if bytes != (DIRTY_PAGES * PAGE_BYTES) as u64 {
            return Err(format!("expected {DIRTY_PAGES} dirty pages, got {bytes} bytes"));
        }
        Ok(ns)
    }
}

/// To ticks all over a run of a billion, from the start and from the nearest snapshot.
fn seeking() -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let home = Home::open(folder.path()).map_err(text)?;
    let run = record(&home)?;
    // A compiler that is not asked costs `vac` nothing, which starts it as another process.
    let outside = outside()?;
    let to = |how: How| time(|| replay_as(&home, run, how, outside.clone()).map_err(text));
    let whole = (0..3).map(|_| to(How::default())).collect::<Result<Vec<_>>>()?;
    let leaving = to(How { snapshot_ticks: Some(TICKS_BETWEEN), ..How::default() })?;
    // Spread over the run by the golden ratio, so that no number of them is in step with the snapshots.
    let ticks = (1..=SEEKS).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % TICKS);
    let seeks =
        ticks.clone().map(|tick| to(How { from: Some(At::Tick(tick)), until: Some(tick), ..How::default() }));
    let seeks = seeks.collect::<Result<Vec<_>>>()?;
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64 / 1e6;
    let point =
        |tick| time(|| seek(&home, run, Point::Tick(tick), Lens::default(), outside.clone()).map_err(text));
    let points = ticks.map(point).collect::<Result<Vec<_>>>()?;
    let baseline = ("replay from the start", median(&whole) / 1e6);
    Ok(vec![
        Figure::new("seek to a tick of 10^9, mean", "ms", mean(&seeks), baseline)
            .goal(Goal::RatioAtMost(SEEK_GOAL))
            .note("256 calls, 1 MiB written all over; to the end of the call that has the tick"),
        Figure::new("the same as `vac seek` does it", "ms", mean(&points), baseline)
            .note("to the tick itself, inside of a call, with a look at all memories there and what is around it in the record"),
        Figure::new("replay that leaves a snapshot every 5*10^7 ticks", "ms", leaving / 1e6, baseline),
    ])
}

/// A run of [`CALLS`] calls that take [`TICKS`].
fn record(home: &Home) -> Result<RunId> {
    let path = home.path().join("work.wasm");
    // 2 MiB are enough for the work; what a seek costs beside it is reading the memory back.
    let program = PROGRAM.replace("\"memory\") 1024)", "\"memory\") 32)");
    std::fs::write(&path, wat::parse_str(&program).map_err(text)?).map_err(text)?;
    let target = Target::from_file(&path, u64::MAX).map_err(text)?;
    let request = Request { folder: home.path().to_owned(), ..Request::default() };
    let call = |n: u64, calls: usize| {
        let calls = vec![format!("work({n})"); calls];
        vac_engine::calls::call(home, &target, &vac_engine::calls::Typed::plain(&calls), &request, outside()?)
            .map_err(text)
    };
    // How many ticks one turn of its loop takes is the engine's business.
    let probe = call(1_000_000, 1)?.summary.ticks;
    let turns = (TICKS * 1_000_000 / probe.max(1)).div_ceil(CALLS as u64);
    call(turns, CALLS)?.summary.run.ok_or_else(|| "the run was not recorded".to_owned())
}

fn outside() -> Result<Outside> {
    Ok(Outside {
        clock: Arc::new(Clock(Instant::now())),
        watch: Arc::new(NoWatch),
        console: Arc::new(Mutex::new(NoConsole)),
        http: None,
        warm: None,
        compiler: Arc::new(Coder::new(Profile::default()).map_err(text)?),
    })
}

struct Clock(Instant);

impl HostClock for Clock {
    fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
    fn random_u32(&self) -> u32 {
        self.0.elapsed().as_nanos() as u32 ^ std::process::id()
    }
}

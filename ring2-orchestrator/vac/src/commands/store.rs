//! `vac store`: objects by CID.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{Error, HostAbort, Result, Usage, quote};
use vac_core::limits::STORE_OBJECT_MAX_BYTES;
use vac_core::store::{Lease, Store as Objects};
use vac_engine::tree::{self, Keep};
use vac_engine::verify::live_objects;
use vac_engine::{Home, HostClock};

use crate::cli::{Global, Store};
use crate::host::SystemClock;
use crate::scrub::Scrubber;
use crate::tiers::Opener;
use crate::ui::{self, Progress};
use crate::{exit, host};

/// Objects that were put by hand are kept under this and their CID, until `rm`.
const BY_HAND: &str = "put/";
/// Bytes of the standard input that are kept for a second try.
const INPUT_KEPT_BYTES: u64 = 64 << 20;

pub(crate) fn store(global: &Global, command: Store) -> Result<u8> {
    match command {
        Store::Put { files, chunked, kept_for } => {
            let keep = if chunked { Objects::put_chunked } else { Objects::put_stream };
            put(global, &files, keep, kept_for)
        }
        Store::Get { cid, output } => get(global, &cid, output.as_deref()),
        Store::Ls => ls(global),
        Store::Rm { cid } => rm(global, &cid),
        Store::Gc => gc(global),
        Store::Compress { level } => compress(global, level.as_deref()),
        Store::Fsck { mend: false, .. } => fsck(global),
        Store::Fsck { mend: true, from } => mend(global, from.as_deref()),
        Store::Scrub { budget, from, every: None } => scrub(global, budget, from.as_deref()),
        Store::Scrub { budget, from, every: Some(every) } => {
            scrub_every(global, budget, from.as_deref(), every)
        }
    }
}

fn put(global: &Global, files: &[PathBuf], keep: Keep, kept_for: Option<Duration>) -> Result<u8> {
    let home = super::home(global)?;
    let mut objects = Vec::new();
    for file in files {
        let (cid, len) =
            if file.is_dir() { put_dir(&home, file, keep)? } else { put_checked(&home, file, keep)? };
        keep_by_hand(&home, &cid, kept_for)?;
        objects.push((cid, len, file));
    }
    home.store().commit()?;
    if global.json {
        let objects = objects
            .iter()
            .map(|(cid, len, file)| json!({ "cid": cid.to_string(), "bytes": len, "file": file }));
        ui::print_json(&json!({ "objects": objects.collect::<Vec<_>>() }));
    } else {
        objects.iter().for_each(|(cid, ..)| ui::print(format_args!("{cid}\n")));
    }
    Ok(exit::OK)
}

/// Pins what was put, or leases it for some time. A lease that ends later already stays as it is.
fn keep_by_hand(home: &Home, cid: &Cid, kept_for: Option<Duration>) -> Result<()> {
    let name = format!("{BY_HAND}{cid}");
    let Some(time) = kept_for else { return home.store().pin(&name, cid) };
    let ends = now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let before = home.store().leases()?.get(&name).map_or(0, |lease| lease.ends);
    home.store().lease(&name, &Lease { cid: *cid, ends: ends.max(before) })
}

fn now_ms() -> u64 {
    SystemClock::new().unix_ms()
}

/// Puts a directory with all below it. Its length is that of the object that names them.
fn put_dir(home: &Home, path: &Path, keep: Keep) -> Result<(Cid, u64)> {
    let cid = tree::put_folder(home.store(), path, keep)?;
    Ok((cid, home.store().len_of(&cid)?.unwrap_or_default()))
}

/// Writes a tree to a directory that is not there yet.
fn get_dir(home: &Home, cid: &Cid, path: &Path) -> Result<Option<u64>> {
    let Some(len) = home.store().len_of(cid)? else { return Ok(None) };
    tree::get_folder(home.store(), cid, path)?;
    Ok(Some(len))
}

/// Puts a file. A copy that the store already has is read first: if it is damaged, the file
/// takes its place.
fn put_checked(home: &Home, file: &Path, keep: Keep) -> Result<(Cid, u64)> {
    if file == Path::new("-") {
        return put_input(home, keep);
    }
    let put = || keep(home.store(), Codec::Raw, &mut *open(file)?, STORE_OBJECT_MAX_BYTES);
    let (cid, len) = put()?;
    if is_damaged(home, &cid)? { put() } else { Ok((cid, len)) }
}

/// Puts the standard input, which can be read only once: so much of it is kept in memory for a
/// second try as [`INPUT_KEPT_BYTES`] says.
fn put_input(home: &Home, keep: Keep) -> Result<(Cid, u64)> {
    let mut start = Vec::new();
    let failed = |e| HostAbort::io("read", "the standard input", &e);
    io::stdin().lock().take(INPUT_KEPT_BYTES).read_to_end(&mut start).map_err(failed)?;
    let mut all = start.as_slice().chain(io::stdin().lock());
    let (cid, len) = keep(home.store(), Codec::Raw, &mut all, STORE_OBJECT_MAX_BYTES)?;
    match is_damaged(home, &cid)? {
        true if len <= INPUT_KEPT_BYTES => keep(home.store(), Codec::Raw, &mut start.as_slice(), len),
        true => Err(Usage::new(format!("the copy of `{cid}` that the store has is damaged"))
            .hint("put it from a file")
            .into()),
        false => Ok((cid, len)),
    }
}

fn is_damaged(home: &Home, cid: &Cid) -> Result<bool> {
    match home.store().get_stream(cid, &mut io::sink()) {
        Err(Error::Corrupt(_)) => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(false),
    }
}

fn open(file: &Path) -> Result<Box<dyn Read>> {
    match File::open(file) {
        Ok(open) => Ok(Box::new(open)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Usage::new(format!("there is no file `{}`", file.display())).into())
        }
        Err(e) => Err(HostAbort::io("open", file.display(), &e).into()),
    }
}

fn get(global: &Global, cid: &str, output: Option<&Path>) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let cid = parse(cid)?;
    let found = match output {
        Some(path) if cid.codec() == Codec::DagCbor => get_dir(&home, &cid, path)?,
        Some(path) => {
            let mut file = File::create(path).map_err(|e| HostAbort::io("create", path.display(), &e))?;
            home.store().get_stream(&cid, &mut file)?
        }
        None if global.json => home.store().len_of(&cid)?,
        None => home.store().get_stream(&cid, &mut io::stdout().lock())?,
    };
    let _ = io::stdout().flush();
    let len = found.ok_or_else(|| missing(&cid))?;
    if global.json {
        ui::print_json(&json!({ "cid": cid.to_string(), "bytes": len, "output": output }));
    }
    Ok(exit::OK)
}

fn parse(text: &str) -> Result<Cid> {
    text.parse().map_err(|e: vac_core::fault::Corrupt| {
        Error::from(Usage::new(e.to_string()).hint("`vac store ls` lists the CIDs of all objects"))
    })
}

fn missing(cid: &Cid) -> Error {
    Usage::new(format!("the store has no object `{cid}`")).hint("`vac store ls` lists them").into()
}

fn ls(global: &Global) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let objects = home.store().list()?;
    if global.json {
        let all = objects.iter().map(|(cid, len)| json!({ "cid": cid.to_string(), "bytes": len }));
        ui::print_json(&json!({ "objects": all.collect::<Vec<_>>() }));
        return Ok(exit::OK);
    }
    let rows = objects.iter().map(|(cid, len)| vec![cid.to_string(), ui::count(*len)]);
    ui::print_table(&["CID", ">BYTES"], rows.collect(), "no objects");
    Ok(exit::OK)
}

fn rm(global: &Global, cid: &str) -> Result<u8> {
    let home = super::home(global)?;
    let cid = parse(cid)?;
    let name = format!("{BY_HAND}{cid}");
    let was_kept = home.store().unpin(&name)? | home.store().end_lease(&name)?;
    if !was_kept {
        let hint = "only `vac store put` keeps objects by hand; what runs name is kept as long as they are";
        return Err(Usage::new(format!("`{cid}` was not put by hand")).hint(hint).into());
    }
    if global.json {
        ui::print_json(&json!({ "cid": cid.to_string(), "kept": false }));
    }
    Ok(exit::OK)
}

fn gc(global: &Global) -> Result<u8> {
    let home = super::home(global)?;
    let progress = Progress::start("collecting", global.quiet || global.json);
    let report = collect(&home);
    progress.stop();
    let report = report?;
    if global.json {
        ui::print_json(&json!({
            "removed": report.removed,
            "freed_bytes": report.freed_bytes,
            "kept": report.kept,
            "packs_in_use": report.packs_in_use,
            "large_left": report.large_left,
            "corrupt": report.corrupt.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    } else {
        let (removed, bytes, kept) =
            (ui::count(report.removed), ui::count(report.freed_bytes), ui::count(report.kept));
        ui::print(format_args!("removed {removed} objects, freed {bytes} bytes, kept {kept} objects\n"));
        if report.packs_in_use > 0 || report.large_left {
            ui::print("other processes are using the store: what they may need was left\n");
        }
        let damaged = |words: String| {
            ui::print(format_args!("{} {}\n", ui::red("damaged"), ui::quote_lines(&words)));
        };
        report.corrupt.iter().for_each(|c| damaged(c.to_string()));
    }
    Ok(if report.corrupt.is_empty() { exit::OK } else { exit::INTEGRITY })
}

/// What is live is asked only after the collection has begun: what others put from then on is theirs.
fn collect(home: &Home) -> Result<vac_core::store::GcReport> {
    let collection = home.store().begin_gc()?;
    let now = now_ms();
    collection.collect_at(&live_objects(home, now)?, now)
}

fn fsck(global: &Global) -> Result<u8> {
    let home = super::home_to_read(global)?;
    let progress = Progress::start("hashing", global.quiet || global.json);
    let report = home.store().fsck();
    progress.stop();
    let report = report?;
    let problems: Vec<String> = report.corrupt.iter().map(ToString::to_string).collect();
    if global.json {
        ui::print_json(
            &json!({ "ok": problems.is_empty(), "objects": report.objects, "bytes": report.bytes, "problems": problems }),
        );
    } else {
        let word = if problems.is_empty() { ui::bold("ok") } else { ui::red("damaged") };
        ui::print(format_args!(
            "{word}: {} objects, {} bytes\n",
            ui::count(report.objects),
            ui::count(report.bytes)
        ));
        problems.iter().for_each(|p| ui::print(format_args!("  {}\n", ui::quote_lines(&p.to_string()))));
    }
    Ok(if problems.is_empty() { exit::OK } else { exit::INTEGRITY })
}

fn compress(global: &Global, level: Option<&str>) -> Result<u8> {
    let home = if level.is_some() { super::home(global)? } else { super::home_to_read(global)? };
    match level {
        None => {}
        Some("off") => home.store().set_compression(None)?,
        Some(level) => {
            let number = level.parse().map_err(|_| {
                Usage::new(format!(
                    "`{}` is no level of compression: expected 1 to 19, or `off`",
                    quote(level)
                ))
            })?;
            home.store().set_compression(Some(number))?;
        }
    }
    let set = home.store().compression();
    match global.json {
        true => ui::print_json(&json!({ "level": set })),
        false => ui::print(format_args!(
            "{}\n",
            set.map_or("off".to_owned(), |level| format!("zstd, level {level}"))
        )),
    }
    Ok(exit::OK)
}

/// Hashes all there is, from the beginning, and writes anew what is bad or gone.
fn mend(global: &Global, from: Option<&Path>) -> Result<u8> {
    let scrubber = Scrubber::new(super::home(global)?, Opener { is_quiet: global.quiet }, from)?;
    let progress = Progress::start("hashing", global.quiet || global.json);
    let report = scrubber.all();
    progress.stop();
    scrubber.show(global, &report?)
}

fn scrub(global: &Global, budget: u64, from: Option<&Path>) -> Result<u8> {
    let scrubber = Scrubber::new(super::home(global)?, Opener { is_quiet: global.quiet }, from)?;
    let progress = Progress::start("hashing", global.quiet || global.json);
    let report = scrubber.slice(budget);
    progress.stop();
    scrubber.show(global, &report?)
}

/// A part each time that `every` passed, until it is interrupted.
fn scrub_every(global: &Global, budget: u64, from: Option<&Path>, every: Duration) -> Result<u8> {
    let scrubber = Scrubber::new(super::home(global)?, Opener { is_quiet: global.quiet }, from)?;
    let interrupted = host::interrupt_flag();
    let mut code = exit::OK;
    while !interrupted.load(Ordering::Relaxed) {
        // What fails now may do the next time.
        code = code.max(match scrubber.slice(budget) {
            Ok(report) => scrubber.show(global, &report)?,
            Err(why) => {
                ui::note(format_args!("scrub: {}", ui::quote_lines(&why.to_string())));
                exit::FAILURE
            }
        });
        host::sleep_unless(&interrupted, every);
    }
    Ok(code)
}

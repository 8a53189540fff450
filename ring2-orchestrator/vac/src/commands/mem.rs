//! `vac mem`: LA128 memories by name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Value, json};
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Corrupt, Error, HostAbort, Result, Usage, quote};
use vac_core::limits::MEMORY_PAGE_BYTES;
use vac_core::memory::policy::{PolicyKind, belady, simulate};
use vac_core::memory::{BLAKE3_STREAM, Backing, La128, Range};
use vac_core::storage::Lock;
use vac_engine::Home;
use vac_engine::memory::{self, Memory, ProvenPage, parse_address, parse_number};

use super::mem_watch::Looks;
use crate::cli::{Global, Mem};
use crate::exit;
use crate::ui;

/// Bytes that a command moves at a time.
const STEP_BYTES: usize = 1 << 20;
/// The longest proof that is read: a root with all its shards, a page, and nodes on eight levels.
const PROOF_MAX_BYTES: u64 = 32 << 20;
/// The longest trace.
const TRACE_MAX_BYTES: u64 = 1 << 30;

pub(crate) fn mem(global: &Global, command: Mem) -> Result<u8> {
    match command {
        Mem::Create { name, page, noise, object } => create(global, &name, page, noise, object.as_deref()),
        Mem::Ls => ls(global),
        Mem::Stat { memory } => stat(global, &memory),
        Mem::Read { memory, address, len, output } => {
            read(global, &memory, &address, &len, output.as_deref())
        }
        Mem::Write { name, address, file } => write(global, &name, &address, &file),
        Mem::Snapshot { memory, name } => snapshot(global, &memory, &name),
        Mem::Restore { name, memory } => restore(global, &name, &memory),
        Mem::Diff { one, other } => diff(global, &one, &other),
        Mem::Prove { memory, address, output } => prove(global, &memory, &address, &output),
        Mem::Check { proof, root } => check(global, &proof, root.as_deref()),
        Mem::Rm { name } => rm(global, &name),
        Mem::Bench { trace, frames } => bench(global, &trace, frames),
        Mem::Watch { what, every, count } => {
            super::mem_watch::watch(global, what.as_deref(), &Looks { every, count })
        }
    }
}

fn done(global: &Global, name: &str, root: &Cid) -> Result<u8> {
    match global.json {
        true => ui::print_json(&json!({ "name": name, "root": root.to_string() })),
        false => ui::print(format_args!("{root}\n")),
    }
    Ok(exit::OK)
}

fn create(
    global: &Global,
    name: &str,
    page: Option<usize>,
    noise: Option<u64>,
    object: Option<&str>,
) -> Result<u8> {
    let home = super::home(global)?;
    let (page_len, _alone) = (page.unwrap_or(MEMORY_PAGE_BYTES), memory::lock(&home, name)?);
    if let Some(object) = object {
        return done(global, name, &memory::create_over(&home, name, page_len, object)?);
    }
    let backing = match noise {
        None => Backing::Zeros,
        Some(seed) => {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            Backing::Generator { name: BLAKE3_STREAM.to_owned(), seed: bytes }
        }
    };
    done(global, name, &memory::create(&home, name, page_len, backing)?)
}

fn ls(global: &Global) -> Result<u8> {
    let all = memory::list(&super::home_to_read(global)?)?;
    if global.json {
        let all = all.iter().map(|(name, root)| json!({ "name": name, "root": root.to_string() }));
        ui::print_json(&json!({ "memories": all.collect::<Vec<_>>() }));
        return Ok(exit::OK);
    }
    let rows = all.into_iter().map(|(name, root)| vec![name, root.to_string()]);
    ui::print_table(&["NAME", "ROOT"], rows.collect(), "no memories; `vac mem create NAME` makes one");
    Ok(exit::OK)
}

fn stat(global: &Global, what: &str) -> Result<u8> {
    let home = super::home_of_memories(global)?;
    let Memory { mut pager, space, root } = memory::open(&home, what)?;
    let mapped = pager.mapped(&space)?;
    let pages: u64 = mapped.iter().map(|range| range.pages).sum();
    let page_len = pager.page_len() as u64;
    let shards: Vec<(u64, &Backing, u64)> = space
        .shards()
        .map(|(shard, backing)| {
            let own = mapped.iter().filter(|range| range.shard == shard);
            (shard, backing, own.map(|range| range.pages).sum())
        })
        .collect();
    if global.json {
        let shards = shards.iter().map(
            |(shard, backing, pages)| json!({ "shard": shard, "backing": backing_text(backing), "pages": pages }),
        );
        ui::print_json(&json!({
            "root": root.to_string(),
            "page_bytes": page_len,
            "pages": pages,
            "bytes": pages.saturating_mul(page_len),
            "shards": shards.collect::<Vec<_>>(),
        }));
        return Ok(exit::OK);
    }
    ui::print(format_args!("{root}\n{} pages of {page_len} bytes\n", ui::count(pages)));
    let rows = shards
        .iter()
        .map(|(shard, backing, pages)| vec![shard.to_string(), backing_text(backing), ui::count(*pages)]);
    ui::print(ui::table(&[">SHARD", "UNMAPPED", ">PAGES"], rows.collect()));
    Ok(exit::OK)
}

fn backing_text(backing: &Backing) -> String {
    match backing {
        Backing::Zeros => "zeros".to_owned(),
        Backing::Generator { name, .. } => name.clone(),
        Backing::Object { cid, .. } => format!("object {cid}"),
    }
}

fn read(global: &Global, what: &str, address: &str, len: &str, output: Option<&Path>) -> Result<u8> {
    let home = super::home_of_memories(global)?;
    let mut memory = memory::open(&home, what)?;
    let (at, len) = (parse_address(address)?, parse_len(len)?);
    match output {
        Some(path) => {
            let mut file = File::create(path).map_err(|e| HostAbort::io("create", path.display(), &e))?;
            read_to(&mut memory, at, len, &mut file, &path.display().to_string())?;
        }
        None if global.json => {
            read_to(&mut memory, at, len, &mut io::sink(), "")?;
        }
        None => read_to(&mut memory, at, len, &mut io::stdout().lock(), "the standard output")?,
    }
    if global.json {
        ui::print_json(&json!({ "root": memory.root.to_string(), "bytes": len, "output": output }));
    }
    Ok(exit::OK)
}

/// A number of bytes as it is typed: 4096, 0x1000 or 64KiB.
fn parse_len(text: &str) -> Result<u64> {
    parse_number(text).or_else(|_| {
        crate::limits::size(text).map_err(|_| {
            Usage::new(format!("`{}` is no length", quote(text)))
                .hint("a length is a number of bytes, like 4096, 0x1000 or 64KiB")
                .into()
        })
    })
}

fn read_to(memory: &mut Memory, at: La128, len: u64, to: &mut dyn Write, name: &str) -> Result<()> {
    let mut bytes = vec![0; STEP_BYTES];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(STEP_BYTES as u64) as usize;
        let part = bytes.get_mut(..step).unwrap_or_default();
        memory.pager.read(&mut memory.space, moved(at, done)?, part)?;
        to.write_all(part).map_err(|e| HostAbort::io("write", name, &e))?;
        done += step as u64;
    }
    to.flush().map_err(|e| HostAbort::io("write", name, &e).into())
}

fn moved(at: La128, by: u64) -> Result<La128> {
    match at.offset.checked_add(by) {
        Some(offset) => Ok(La128 { offset, ..at }),
        None => {
            Err(Usage::new(format!("{by} bytes from byte {} go past the end of a shard", at.offset)).into())
        }
    }
}

fn write(global: &Global, name: &str, address: &str, file: &Path) -> Result<u8> {
    let home = super::home(global)?;
    let (_alone, mut memory) = named(&home, name)?;
    let at = parse_address(address)?;
    let shown = file.display().to_string();
    let mut from: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(file).map_err(|e| HostAbort::io("open", &shown, &e))?),
    };
    let mut bytes = vec![0; STEP_BYTES];
    let mut done = 0;
    loop {
        let read = from.read(&mut bytes).map_err(|e| HostAbort::io("read", &shown, &e))?;
        let Some(part) = bytes.get(..read).filter(|part| !part.is_empty()) else { break };
        memory.pager.write(&mut memory.space, moved(at, done)?, part)?;
        done += read as u64;
    }
    let root = memory.pager.commit(&mut memory.space)?;
    memory::set(&home, name, &root)?;
    self::done(global, name, &root)
}

/// A memory that can be changed: only a name can be moved to another root.
fn named(home: &Home, name: &str) -> Result<(Box<dyn Lock>, Memory)> {
    if name.parse::<Cid>().is_ok() {
        let hint = format!("`vac mem restore NAME {name}` gives it one");
        return Err(Usage::new("only a memory with a name can be written").hint(hint).into());
    }
    // From before it is opened until its name is moved: nobody's write gets lost.
    let alone = memory::lock(home, name)?;
    Ok((alone, memory::open(home, name)?))
}

fn snapshot(global: &Global, what: &str, name: &str) -> Result<u8> {
    let home = super::home(global)?;
    let _alone = memory::lock(&home, name)?;
    if memory::list(&home)?.iter().any(|(known, _)| known == name) {
        let message = format!("there is a memory `{name}` already");
        return Err(Usage::new(message).hint(format!("`vac mem restore {name} {what}` replaces it")).into());
    }
    move_to(global, &home, name, what)
}

fn restore(global: &Global, name: &str, what: &str) -> Result<u8> {
    let home = super::home(global)?;
    let _alone = memory::lock(&home, name)?;
    move_to(global, &home, name, what)
}

fn move_to(global: &Global, home: &Home, name: &str, what: &str) -> Result<u8> {
    let root = memory::copy(home, what, name)?;
    done(global, name, &root)
}

fn diff(global: &Global, one: &str, other: &str) -> Result<u8> {
    let home = super::home_of_memories(global)?;
    let (mut one, other) = memory::open_two(&home, one, other)?;
    let ranges = one.pager.diff(&one.space, &other)?;
    let page_len = one.pager.page_len() as u64;
    let bytes = |range: &Range| (range.page.saturating_mul(page_len), range.pages.saturating_mul(page_len));
    if global.json {
        let all = ranges.iter().map(|range| {
            let (offset, len) = bytes(range);
            json!({ "shard": range.shard, "offset": offset, "bytes": len })
        });
        let all: Vec<Value> = all.collect();
        ui::print_json(&json!({ "equal": all.is_empty(), "ranges": all }));
    } else {
        let rows = ranges.iter().map(|range| {
            let (offset, len) = bytes(range);
            vec![range.shard.to_string(), format!("{offset:#x}"), ui::count(len)]
        });
        ui::print(ui::table(&[">SHARD", ">OFFSET", ">BYTES"], rows.collect()));
    }
    Ok(if ranges.is_empty() { exit::OK } else { exit::FAILURE })
}

fn prove(global: &Global, what: &str, address: &str, output: &Path) -> Result<u8> {
    let home = super::home_of_memories(global)?;
    let mut memory = memory::open(&home, what)?;
    let proven = memory::prove(&mut memory, parse_address(address)?)?;
    proven.check()?;
    let bytes = proven.to_bytes();
    std::fs::write(output, &bytes).map_err(|e| HostAbort::io("write", output.display(), &e))?;
    report(global, &proven)
}

fn check(global: &Global, path: &Path, root: Option<&str>) -> Result<u8> {
    let bytes = read_bounded(path, PROOF_MAX_BYTES)?;
    let proven = checked(&bytes, path, root).map_err(|error| match error {
        // It is a file of the operator's, and no home has anything to do with it.
        Error::Corrupt(corrupt) => Error::Corrupt(Corrupt { what: "proof", ..corrupt }),
        other => other,
    })?;
    report(global, &proven)
}

fn checked(bytes: &[u8], path: &Path, root: Option<&str>) -> Result<ProvenPage> {
    let place = format!("`{}`", path.display());
    let proven = ProvenPage::try_from_bytes(bytes, &place)?;
    proven.check()?;
    match root {
        Some(root) if root != proven.root.to_string() => {
            Err(Corrupt::new("root", place, root, proven.root).into())
        }
        _ => Ok(proven),
    }
}

fn report(global: &Global, proven: &ProvenPage) -> Result<u8> {
    let ProvenPage { root, shard, page, bytes, .. } = proven;
    let page_cid = Cid::of_raw(bytes);
    if global.json {
        ui::print_json(&json!({
            "ok": true, "root": root.to_string(), "shard": shard, "page": page, "bytes": bytes.len(),
            "page_cid": page_cid.to_string(),
        }));
    } else {
        let ok = ui::bold("ok");
        ui::print(format_args!("{ok}: page {page} of shard {shard} of {root} is {page_cid}\n"));
    }
    Ok(exit::OK)
}

fn rm(global: &Global, name: &str) -> Result<u8> {
    let home = super::home(global)?;
    // A kernel that has it open would commit over what a collection took.
    let _alone = memory::lock(&home, name)?;
    if !memory::remove(&home, name)? {
        memory::resolve(&home, name)?;
        return Err(Usage::new(format!("`{name}` is a root and has no name to forget")).into());
    }
    if global.json {
        ui::print_json(&json!({ "name": name, "kept": false }));
    }
    Ok(exit::OK)
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| HostAbort::io("open", path.display(), &e))?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| HostAbort::io("read", path.display(), &e))?;
    if bytes.len() as u64 > max {
        let message = format!("`{}` is longer than {max} bytes", path.display());
        return Err(HostAbort::new(AbortKind::Quota, message).into());
    }
    Ok(bytes)
}

/// How often each policy would have hit on a trace: one page number a line.
fn bench(global: &Global, path: &Path, frames: usize) -> Result<u8> {
    let text = read_bounded(path, TRACE_MAX_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let trace = lines.map(parse_number).collect::<Result<Vec<u64>>>()?;
    if trace.is_empty() || frames == 0 {
        let message = format!("nothing to measure: {} page numbers, {frames} frames", trace.len());
        return Err(Usage::new(message).hint("a trace has the number of a page in each line").into());
    }
    let best = belady(frames, &trace);
    let mut rows: Vec<(&str, u64)> =
        PolicyKind::ALL.iter().map(|kind| (kind.name(), simulate(*kind, frames, &trace))).collect();
    rows.push(("belady", best));
    if global.json {
        let rows = rows.iter().map(|(policy, hits)| json!({ "policy": policy, "hits": hits }));
        ui::print_json(
            &json!({ "reads": trace.len(), "frames": frames, "policies": rows.collect::<Vec<_>>() }),
        );
        return Ok(exit::OK);
    }
    let part = |hits: u64, of: u64| format!("{:.2} %", 100.0 * hits as f64 / of.max(1) as f64);
    let rows = rows.iter().map(|(policy, hits)| {
        vec![(*policy).to_owned(), ui::count(*hits), part(*hits, trace.len() as u64), part(*hits, best)]
    });
    ui::print(ui::table(&["POLICY", ">HITS", ">OF READS", ">OF THE BEST"], rows.collect()));
    Ok(exit::OK)
}

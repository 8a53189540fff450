//! `vac learn`: runs a program once with what its operator confirms, and writes the least manifest that
//! it needed.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vac_core::fault::{HostAbort, Result, Usage, quote, quote_line};
use vac_engine::Home;
use vac_engine::grants::Grant;
use vac_engine::learn::{self, Learned};
use vac_engine::limits::Limit;
use vac_engine::manifest::{self, Manifest};
use vac_engine::run::{Finished, Request};
use vac_engine::target::Target;

use super::call::show_text;
use super::run::{Done, code, finished_json, go, request, show_finished};
use crate::cli::{Global, Learn};
use crate::{exit, ui};

/// What a run taught.
struct Taught {
    learned: Learned,
    /// The manifest; `None` if the run failed for want of something, so that it says little.
    text: Option<String>,
    /// What runs the program again, without grants.
    again: String,
}

pub(crate) fn learn(global: &Global, args: Learn) -> Result<u8> {
    let home = super::home(global)?;
    let mut request = request(&home, args.given, args.args)?;
    let target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    if target.is_script() {
        return Err(Usage::new(format!("`{}` is a script, and asks for nothing", quote(&target.name)))
            .hint("a script says itself which kernel gets what")
            .into());
    }
    let output = output(args.output, &target)?;
    let within = within(&args.within, args.write)?;
    request.ignores_manifest = true;
    add_policy(&mut request.grants, within, args.write)?;
    let typed = args
        .call
        .as_ref()
        .map(|call| vac_engine::calls::Typed::read(&home, std::slice::from_ref(call), &request.limits));
    let typed = typed.transpose()?;
    confirm(args.yes, global.json, &target, &request, output.as_deref())?;
    let done = go(global, &target.name, &request.limits, false, |outside, _| match &typed {
        Some(typed) => vac_engine::calls::call(&home, &target, typed, &request, outside),
        None => vac_engine::run::run(&home, &target, &request, outside),
    })?;
    let again = match &args.call {
        Some(call) => format!("vac call {} '{call}'", target.place),
        None => format!("vac run {}", target.place),
    };
    let taught = teach(&home, &target, &request, &done.finished, again)?;
    if let (Some(path), Some(text)) = (&output, &taught.text) {
        write(path, text)?;
    }
    show(global, &request, &done, &taught, output.as_deref())?;
    Ok(code(&done.finished))
}

/// Where the manifest goes; `None` is the standard output. What is there is never replaced.
fn output(asked: Option<PathBuf>, target: &Target) -> Result<Option<PathBuf>> {
    let path = match (asked, manifest::path_of(target)) {
        (Some(path), _) if path == Path::new("-") => return Ok(None),
        (Some(path), _) | (None, Some(path)) => path,
        (None, None) => {
            return Err(Usage::new(format!("`{}` is no file that a manifest could be beside", target.place))
                .hint("say where it goes: `-o FILE`, or `-o -` for the standard output")
                .into());
        }
    };
    match path.symlink_metadata() {
        Ok(_) => Err(Usage::new(format!("`{}` is there already", path.display()))
            .hint("move it away, or write elsewhere with `-o FILE`")
            .into()),
        Err(_) => Ok(Some(path)),
    }
}

/// The folders of `--within` as grants.
fn within(folders: &[String], write: bool) -> Result<Vec<Grant>> {
    let access = if write { "rw" } else { "ro" };
    folders.iter().map(|folder| Grant::parse(&format!("dir:{access}={folder}"), &|_| None)).collect()
}

/// What the program may have while it is watched, besides what was granted: some folders, and the input.
fn add_policy(grants: &mut Vec<Grant>, within: Vec<Grant>, write: bool) -> Result<()> {
    let within = match within.is_empty() && !grants.iter().any(|grant| grant.host_path().is_some()) {
        true => self::within(&[".".to_owned()], write)?,
        false => within,
    };
    grants.extend(within);
    if !grants.contains(&Grant::Stdin) {
        grants.push(Grant::Stdin);
    }
    Ok(())
}

/// Shows what is about to be allowed, and asks.
fn confirm(yes: bool, json: bool, target: &Target, request: &Request, output: Option<&Path>) -> Result<()> {
    let can_ask = !json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !yes && !can_ask {
        return Err(Usage::new("nobody can be asked whether the program may run with this")
            .hint(format!("it would get {}; `--yes` says that it may", texts(&request.grants).join(", ")))
            .into());
    }
    if json {
        return Ok(());
    }
    ui::note(format_args!("{} runs now, and may use", quote_line(&target.place)));
    request.grants.iter().for_each(|grant| ui::note(format_args!("  {}", in_words(grant))));
    ui::note(format_args!("What it needs of that goes to {}.", place(output)));
    if yes {
        return Ok(());
    }
    let _ = write!(anstream::stderr(), "Run it? [y/N] ");
    let mut answer = String::new();
    let failed = |e| HostAbort::io("read", "the standard input", &e);
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => {
            Err(Usage::new("it was not run").hint("`--within DIR` and `--grant` say what it may use").into())
        }
    }
}

fn texts(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(|grant| format!("`{}`", quote(&grant.text()))).collect()
}

fn in_words(grant: &Grant) -> String {
    let text = quote_line(&grant.text());
    match grant.host_path().map(std::path::absolute) {
        Some(Ok(path)) => format!("{text}  {}", ui::dim(path.display())),
        _ => text,
    }
}

fn place(output: Option<&Path>) -> String {
    output.map_or("the standard output".to_owned(), |path| format!("`{}`", path.display()))
}

fn teach(
    home: &Home,
    target: &Target,
    request: &Request,
    finished: &Finished,
    again: String,
) -> Result<Taught> {
    let run = finished.summary.run.ok_or_else(|| Usage::new("what is not recorded teaches nothing"))?;
    let learned = learn::learn(home, run, &request.grants)?;
    let lacked = learned.refused.iter().any(|grant| grant != "stdin");
    if finished.error.is_some() || lacked && code(finished) != exit::OK {
        return Ok(Taught { learned, text: None, again });
    }
    let comment = [
        format!("What `{}` needed when `vac learn` watched it. It gets what is asked here and", target.name),
        "granted by its operator, and no more; take away what it should do without.".to_owned(),
        format!("program {}", target.cid),
    ];
    let text = manifest::write(&comment, &learned.asks);
    // What is written must be what would be read.
    Manifest::parse(text.as_bytes(), "the learned manifest")?;
    Ok(Taught { learned, text: Some(text), again })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |e| HostAbort { hint: None, ..HostAbort::io("write", path.display(), &e) };
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    Ok(file.write_all(text.as_bytes()).map_err(failed)?)
}

fn show(
    global: &Global,
    request: &Request,
    done: &Done,
    taught: &Taught,
    output: Option<&Path>,
) -> Result<()> {
    if let Some(captured) = &done.captured {
        ui::print_json(&as_json(finished_json(&done.finished, captured), taught, output));
        return Ok(());
    }
    show_finished(global, &done.finished, &request.grants, show_text)?;
    let Some(text) = &taught.text else {
        ui::note("nothing was learned: the run failed");
        for grant in &taught.learned.refused {
            ui::note(format_args!("  it was refused {}", quote(grant)));
        }
        ui::note("allow more with `--write`, `--within DIR` or `--grant`, and run it again");
        return Ok(());
    };
    match output {
        None => ui::print(text),
        Some(path) => {
            ui::note(super::inspect::table_of(&taught.learned.asks).trim_end());
            let grants = typed(&request.grants, &taught.learned);
            let what = format!("`{}{grants}` gives it that and no more", quote_line(&taught.again));
            ui::note(format_args!("wrote `{}`; now {what}", path.display()));
        }
    }
    Ok(())
}

/// The grants that the learned manifest takes something of, as they are typed.
fn typed(grants: &[Grant], learned: &Learned) -> String {
    let used = grants.iter().filter(|grant| learned.asks.iter().any(|ask| grant.meet(ask).is_some()));
    used.map(|grant| format!(" --grant {}", in_full(grant))).collect()
}

/// A grant with its path on the host, if that has another name.
fn in_full(grant: &Grant) -> String {
    let text = grant.text();
    let full = match (text.split_once('='), grant.host_path()) {
        (Some((kind, guest)), Some(host)) if host != Path::new(guest) => {
            format!("{kind}={}::{guest}", host.display())
        }
        _ => text,
    };
    quote_line(&full)
}

fn as_json(mut run: Value, taught: &Taught, output: Option<&Path>) -> Value {
    if let Some(map) = run.as_object_mut() {
        let asks: Vec<_> = taught.learned.asks.iter().map(super::inspect::ask_json).collect();
        map.insert("asks".into(), json!(asks));
        map.insert("refused".into(), json!(taught.learned.refused));
        map.insert("manifest".into(), json!(output.filter(|_| taught.text.is_some())));
        map.insert("text".into(), json!(taught.text));
    }
    run
}

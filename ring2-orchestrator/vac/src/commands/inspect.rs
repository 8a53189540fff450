//! `vac inspect`: what a program is, exports and imports, what it asks for and what it would get.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vac_core::fault::{Error, Result, Usage, quote, quote_line};
use vac_engine::grants::Grant;
use vac_engine::manifest::{self, Ask, Manifest, Met};
use vac_engine::report::run_info;
use vac_engine::target::{Programs, Target};
use vac_engine::{Home, Limit};
use vac_host::NoConsole;
use vac_host::inspect::{Import, Program};

use crate::cli::{Global, Inspect};
use crate::ui::{self, Progress};
use crate::{exit, host, limits};

pub(crate) fn inspect(global: &Global, args: &Inspect) -> Result<u8> {
    let home = super::home(global)?;
    let limits = limits::of_patience(&args.patience)?;
    let target = Target::find_within(&home, &args.target, limits.max(Limit::Module))
        .map_err(|error| if_run(&home, &args.target).unwrap_or(error))?;
    if target.is_script() {
        return inspect_script(global, &target, &super::run::allowed(&args.allowed)?.grants);
    }
    let progress = Progress::start(&format!("reading {}", target.name), global.quiet || global.json);
    let find = |text: &String| Target::find_within(&home, text, limits.max(Limit::Module));
    let links = args.links.iter().map(find).collect::<Result<Vec<_>>>()?;
    let outside = host::outside(|_| Arc::new(Mutex::new(NoConsole)), &limits);
    let program = Programs::new(&limits, &outside).inspect(&home, &target, &links)?;
    progress.stop();
    let granted = super::run::allowed(&args.allowed)?.grants;
    let manifest = Manifest::of(&target)?;
    let met = manifest.as_ref().map(|manifest| manifest::agree(&manifest.asks, &granted));
    if global.json {
        ui::print_json(&json!({
            "cid": target.cid.to_string(),
            "kind": program.kind.word(),
            "size_bytes": target.bytes.len(),
            "is_command": program.is_command,
            "is_service": program.is_service,
            "exports": program.exports,
            "not_callable": program.not_callable.iter().map(not_callable_json).collect::<Vec<_>>(),
            "imports": program.imports.iter().map(import_json).collect::<Vec<_>>(),
            "refused": program.refused,
            "refused_hint": program.refused_hint,
            "manifest": manifest.as_ref().map(|m| json!({ "place": m.place, "cid": m.cid.to_string() })),
            "asks": met.as_deref().map(|met| met.iter().map(met_json).collect::<Vec<_>>()),
            "granted": texts(&granted),
            "gets": texts(&gets(met.as_deref(), &granted)),
            "missing": met.as_deref().map(missing),
        }));
    } else {
        show_program(&target, &program);
        show_keys(manifest.as_ref(), met.as_deref(), &granted);
    }
    Ok(exit::OK)
}

/// Shorter texts are not taken for a part of a run's identity.
const RUN_PART_MIN: usize = 4;

/// What to say of a target that is none, but names a run.
fn if_run(home: &Home, text: &str) -> Option<Error> {
    // A few letters are part of some run sooner or later.
    if text.len() < RUN_PART_MIN || std::path::Path::new(text).exists() {
        return None;
    }
    let info = run_info(home, home.find_run(text).ok()?).ok()?;
    let hint = format!(
        "`vac log {0}` shows what it did, `vac seek {0} --event 0` its program at work; `vac inspect {1}` what it ran",
        info.run,
        quote(&info.target)
    );
    Some(Usage::new(format!("`{}` is a run, and no program", quote(text))).hint(hint).into())
}

fn show_program(target: &Target, program: &Program) {
    ui::print(format_args!("{}  {}\n", ui::bold("cid"), target.cid));
    ui::print(format_args!(
        "{} {}, {} bytes\n",
        ui::bold("kind"),
        program.kind.words(),
        ui::count(target.bytes.len() as u64)
    ));
    if program.is_command {
        ui::print(format_args!("{}  vac run {} -- ARGS\n", ui::bold("run"), quote(&target.place)));
    }
    if program.is_service {
        ui::print(format_args!("{}  vac serve {}\n", ui::bold("serve"), quote(&target.place)));
    }
    section("exports", &program.exports);
    if !program.not_callable.is_empty() {
        let lines: Vec<String> =
            program.not_callable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        section("not callable", &lines);
    }
    ui::print(format_args!("{}\n", ui::bold("imports")));
    program.imports.iter().for_each(show_import);
    if let Some(refused) = &program.refused {
        ui::print(format_args!("{} {}\n", ui::red("refused"), quote_line(refused)));
        let hint = program.refused_hint.iter();
        hint.for_each(|hint| ui::print(format_args!("{}    {}\n", ui::bold("hint"), quote_line(hint))));
    }
}

/// A script imports nothing, and says while it runs which kernel gets what of what it was granted.
fn inspect_script(global: &Global, target: &Target, granted: &[Grant]) -> Result<u8> {
    vac_engine::script::check(target)?;
    if global.json {
        ui::print_json(&json!({
            "cid": target.cid.to_string(),
            "kind": "script",
            "size_bytes": target.bytes.len(),
            "is_command": true,
            "granted": texts(granted),
        }));
        return Ok(exit::OK);
    }
    ui::print(format_args!("{}  {}\n", ui::bold("cid"), target.cid));
    ui::print(format_args!("{} script, {} bytes\n", ui::bold("kind"), ui::count(target.bytes.len() as u64)));
    ui::print(format_args!("{}  vac run {} -- ARGS\n", ui::bold("run"), quote(&target.place)));
    show_keys(None, None, granted);
    Ok(exit::OK)
}

fn not_callable_json((name, reason): &(String, String)) -> serde_json::Value {
    json!({ "name": name, "reason": reason })
}

/// What the program would get of `granted`.
fn gets(met: Option<&[Met]>, granted: &[Grant]) -> Vec<Grant> {
    met.map_or_else(|| granted.to_vec(), manifest::effective)
}

fn texts(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(Grant::text).collect()
}

fn missing(met: &[Met]) -> Vec<String> {
    met.iter().filter(|one| one.is_missing()).map(|one| one.ask.text()).collect()
}

/// An ask as JSON.
pub(super) fn ask_json(ask: &Ask) -> Value {
    json!({ "grant": ask.text(), "why": ask.why, "optional": ask.optional })
}

fn met_json(met: &Met) -> Value {
    let mut value = ask_json(&met.ask);
    if let Some(map) = value.as_object_mut() {
        map.insert("gets".into(), json!(texts(&met.gets)));
        map.insert("is_whole".into(), json!(met.is_whole));
    }
    value
}

/// What is asked for, a line each, with the reason that its author gives.
pub(super) fn table_of(asks: &[Ask]) -> String {
    let rows = asks.iter().map(|ask| ask_row(ask, Vec::new())).collect();
    ui::table(&["ASKED", "", "WHY"], rows)
}

fn ask_row(ask: &Ask, between: Vec<String>) -> Vec<String> {
    let optional = if ask.optional { "optional" } else { "" };
    let mut row = vec![quote(&ask.text()), optional.to_owned()];
    row.extend(between);
    row.push(quote(&ask.why));
    row
}

/// The two keys: what is asked, and what comes of it.
fn show_keys(manifest: Option<&Manifest>, met: Option<&[Met]>, granted: &[Grant]) {
    let (Some(manifest), Some(met)) = (manifest, met) else {
        ui::print(format_args!("{} none: it gets what is granted\n", ui::bold("manifest")));
        return section("granted", &texts(granted));
    };
    ui::print(format_args!("{} {}\n", ui::bold("manifest"), quote_line(&manifest.place)));
    let rows = met.iter().map(|one| ask_row(&one.ask, vec![state(one)])).collect();
    ui::print(ui::table(&["ASKED", "", "GRANTED", "WHY"], rows));
    section("gets", &texts(&gets(Some(met), granted)));
    let missing = missing(met);
    if !missing.is_empty() {
        section("missing", &missing.iter().map(|text| format!("--grant {text}")).collect::<Vec<_>>());
    }
}

fn state(met: &Met) -> String {
    match (met.is_whole, met.gets.is_empty()) {
        (true, _) => "yes".into(),
        (false, false) => format!("in part: {}", quote(&texts(&met.gets).join(", "))),
        (false, true) if met.ask.optional => "no".into(),
        (false, true) => "missing".into(),
    }
}

fn import_json(import: &Import) -> serde_json::Value {
    json!({ "name": import.name, "functions": import.functions, "grants": import.grants })
}

fn section(name: &str, lines: &[String]) {
    ui::print(format_args!("{}\n", ui::bold(name)));
    for line in lines {
        ui::print(format_args!("  {}\n", quote_line(line)));
    }
    if lines.is_empty() {
        ui::print("  none\n");
    }
}

fn show_import(import: &Import) {
    let needs = match import.grants {
        [] => String::new(),
        grants => ui::dim(format!("  works on --grant {}", grants.join(" or "))),
    };
    let functions = import.functions.len();
    ui::print(format_args!(
        "  {} {}{needs}\n",
        quote(&import.name),
        ui::dim(format!("({functions} functions)"))
    ));
}

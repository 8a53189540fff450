//! `vac inspect`: what a program is, exports and imports, what it asks for and what it would get.

use serde_json::{Value, json};
use vac_core::fault::{Result, quote, quote_line};
use vac_engine::grants::Grant;
use vac_engine::manifest::{self, Ask, Manifest, Met};
use vac_engine::target::{Programs, Target};
use vac_host::inspect::{self, Import};
use vac_host::load;

use crate::cli::{Global, Inspect};
use crate::exit;
use crate::ui::{self, Progress};

pub(crate) fn inspect(global: &Global, args: &Inspect) -> Result<u8> {
    let home = super::home(global)?;
    let target = Target::find(&home, &args.target)?;
    let progress = Progress::start(&format!("compiling {}", target.name), global.quiet || global.json);
    let loaded = load::load(&target.bytes, &target.place)?;
    let programs = Programs::default();
    let program = inspect::program(programs.engine()?, &loaded)?;
    progress.stop();
    let granted = super::run::allowed(&args.allowed)?.grants;
    let manifest = Manifest::of(&target)?;
    let met = manifest.as_ref().map(|manifest| manifest::agree(&manifest.asks, &granted));
    let exports: Vec<String> = program.exports.clone();
    if global.json {
        ui::print_json(&json!({
            "cid": loaded.cid.to_string(),
            "kind": loaded.kind.word(),
            "size_bytes": target.bytes.len(),
            "is_command": program.is_command,
            "exports": exports,
            "imports": program.imports.iter().map(import_json).collect::<Vec<_>>(),
            "refused": program.refused,
            "manifest": manifest.as_ref().map(|m| json!({ "place": m.place, "cid": m.cid.to_string() })),
            "asks": met.as_deref().map(|met| met.iter().map(met_json).collect::<Vec<_>>()),
            "granted": texts(&granted),
            "gets": texts(&gets(met.as_deref(), &granted)),
            "missing": met.as_deref().map(missing),
        }));
        return Ok(exit::OK);
    }
    ui::print(format_args!("{}  {}\n", ui::bold("cid"), loaded.cid));
    ui::print(format_args!(
        "{} {}, {} bytes\n",
        ui::bold("kind"),
        loaded.kind.words(),
        ui::count(target.bytes.len() as u64)
    ));
    if program.is_command {
        ui::print(format_args!("{}  vac run {} -- ARGS\n", ui::bold("run"), target.place));
    }
    section("exports", &exports);
    ui::print(format_args!("{}\n", ui::bold("imports")));
    program.imports.iter().for_each(show_import);
    if let Some(refused) = &program.refused {
        ui::print(format_args!("{} {refused}\n", ui::red("refused")));
    }
    show_keys(manifest.as_ref(), met.as_deref(), &granted);
    Ok(exit::OK)
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
        (false, true) => ui::red("missing"),
    }
}

fn import_json(import: &Import) -> serde_json::Value {
    json!({ "name": import.name, "functions": import.functions, "grants": import.grants })
}

fn section(name: &str, lines: &[String]) {
    ui::print(format_args!("{}\n", ui::bold(name)));
    for line in lines {
        ui::print(format_args!("  {}\n", vac_core::fault::quote_line(line)));
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
        vac_core::fault::quote(&import.name),
        ui::dim(format!("({functions} functions)"))
    ));
}

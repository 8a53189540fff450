//! `vac inspect`: what a program is, exports and imports, and which grants it would need.

use serde_json::json;
use vac_core::fault::Result;
use vac_engine::target::{Programs, Target, link_all};
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
    let links = args.links.iter().map(|text| Target::find(&home, text)).collect::<Result<Vec<_>>>()?;
    let programs = Programs::default();
    let program = match links.as_slice() {
        [] => inspect::program(programs.engine()?, &loaded)?,
        links => {
            let linked = link_all(&loaded, links)?;
            inspect::program(programs.engine()?, &load::load(&linked, &target.place)?)?
        }
    };
    progress.stop();
    let exports: Vec<String> = program.exports.clone();
    if global.json {
        ui::print_json(&json!({
            "cid": loaded.cid.to_string(),
            "kind": loaded.kind.word(),
            "size_bytes": target.bytes.len(),
            "is_command": program.is_command,
            "exports": exports,
            "not_callable": program.not_callable.iter().map(not_callable_json).collect::<Vec<_>>(),
            "imports": program.imports.iter().map(import_json).collect::<Vec<_>>(),
            "refused": program.refused,
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
    if !program.not_callable.is_empty() {
        let lines: Vec<String> =
            program.not_callable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        section("not callable", &lines);
    }
    ui::print(format_args!("{}\n", ui::bold("imports")));
    program.imports.iter().for_each(show_import);
    if let Some(refused) = &program.refused {
        ui::print(format_args!("{} {refused}\n", ui::red("refused")));
    }
    Ok(exit::OK)
}

fn not_callable_json((name, reason): &(String, String)) -> serde_json::Value {
    json!({ "name": name, "reason": reason })
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

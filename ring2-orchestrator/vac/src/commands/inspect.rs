//! `vac inspect`: what a program is, exports and imports, and which grants it would need.

use std::sync::{Arc, Mutex};

use serde_json::json;
use vac_core::fault::{Result, quote, quote_line};
use vac_engine::Limit;
use vac_engine::target::{Programs, Target};
use vac_host::NoConsole;
use vac_host::inspect::Import;

use crate::cli::{Global, Inspect};
use crate::ui::{self, Progress};
use crate::{exit, host, limits};

pub(crate) fn inspect(global: &Global, args: &Inspect) -> Result<u8> {
    let home = super::home(global)?;
    let limits = limits::of_patience(&args.patience)?;
    let target = Target::find_within(&home, &args.target, limits.max(Limit::Module))?;
    let progress = Progress::start(&format!("compiling {}", target.name), global.quiet || global.json);
    let find = |text: &String| Target::find_within(&home, text, limits.max(Limit::Module));
    let links = args.links.iter().map(find).collect::<Result<Vec<_>>>()?;
    let outside = host::outside(Arc::new(Mutex::new(NoConsole)), &limits);
    let program = Programs::new(&limits, &outside).inspect(&home, &target, &links)?;
    progress.stop();
    let exports: Vec<String> = program.exports.clone();
    if global.json {
        ui::print_json(&json!({
            "cid": target.cid.to_string(),
            "kind": program.kind.word(),
            "size_bytes": target.bytes.len(),
            "is_command": program.is_command,
            "exports": exports,
            "not_callable": program.not_callable.iter().map(not_callable_json).collect::<Vec<_>>(),
            "imports": program.imports.iter().map(import_json).collect::<Vec<_>>(),
            "refused": program.refused,
        }));
        return Ok(exit::OK);
    }
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
    section("exports", &exports);
    if !program.not_callable.is_empty() {
        let lines: Vec<String> =
            program.not_callable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        section("not callable", &lines);
    }
    ui::print(format_args!("{}\n", ui::bold("imports")));
    program.imports.iter().for_each(show_import);
    if let Some(refused) = &program.refused {
        ui::print(format_args!("{} {}\n", ui::red("refused"), quote_line(refused)));
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

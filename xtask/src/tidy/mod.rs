//! `cargo xtask tidy`: rules of the sources that no compiler checks. Each prints `file:line: what`.
//!
//! The rules are simple on purpose: they look at lines and words. What they must not take for code, they
//! never see (`source`).

mod docs;
mod features;
mod rings;
mod source;

use std::collections::BTreeMap;

use crate::repo::{self, Result};
use source::{code_of, has_word};

/// A file of the repository.
struct File {
    path: String,
    text: String,
    /// The text without comments and literals, if this is Rust.
    code: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_manifest(&self) -> bool {
        self.path.ends_with("Cargo.toml")
    }

    fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

/// What was found, in order.
#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    /// `line` counts from 0.
    fn add(&mut self, file: &File, line: usize, what: impl std::fmt::Display) {
        self.0.push(format!("{}:{}: {what}", file.path, line + 1));
    }
}

/// Words that code of some folders must not have.
struct Ban {
    folders: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        folders: &["ring0-core/vac-core/"],
        except: &[],
        words: &[
            "wasmtime",
            "async",
            "await",
            "tokio",
            "std::time",
            "std::env",
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
        ],
        why: "vac-core knows no engine, async, clock, environment or terminal",
    },
    Ban {
        folders: &[""],
        except: &["ring0-core/vac-host/", "ring0-core/vac-core/", "xtask/", "tests/"],
        words: &["wasmtime"],
        why: "only vac-host names wasmtime",
    },
    Ban {
        folders: &[""],
        except: &["ring2-orchestrator/vac/", "xtask/", "tests/"],
        words: &["clap", "crossterm", "ratatui", "IsTerminal", "is_terminal"],
        why: "only the binary knows terminals and command lines",
    },
    Ban {
        folders: &[""],
        except: &["ring0-core/vac-tier/", "xtask/", "tests/"],
        words: &["object_store", "reqwest"],
        why: "only vac-tier speaks to object stores",
    },
    Ban { folders: &[""], except: &[], words: &["todo!", "unimplemented!", "dbg!"], why: "not finished" },
];

/// Suffixes of files that people edit.
const TEXTS: [&str; 9] = [".rs", ".toml", ".md", ".wit", ".star", ".sh", ".yml", ".json", ".ci/run"];

/// Folders of the machine that something was written on.
const MACHINE_PATHS: [&str; 2] = [concat!("/ro", "ot"), concat!("/wo", "rk")];

/// Checks all rules.
///
/// # Errors
///
/// How many places break one. They were printed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err("expected `cargo xtask tidy`".to_owned());
    }
    let files = read()?;
    let mut found = Found::default();
    for file in &files {
        check_text(file, &mut found);
        check_bans(file, &mut found);
        if file.is_rust() {
            check_rust(file, &mut found);
        }
    }
    rings::check(&files, &mut found);
    docs::check(&files, &mut found)?;
    features::check(&repo::root()?, &mut found)?;
    found.0.iter().for_each(|line| println!("{line}"));
    match found.0.len() {
        0 => Ok(()),
        n => Err(format!("{n} places break a rule")),
    }
}

fn read() -> Result<Vec<File>> {
    let root = repo::root()?;
    let paths =
        repo::files(&root)?.into_iter().filter(|path| TEXTS.iter().any(|suffix| path.ends_with(suffix)));
    paths
        .map(|path| {
            let text = std::fs::read_to_string(root.join(&path)).map_err(|e| format!("{path}: {e}"))?;
            let code = if path.ends_with(".rs") { code_of(&text) } else { String::new() };
            Ok(File { path, text, code })
        })
        .collect()
}

fn check_text(file: &File, found: &mut Found) {
    for (at, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            found.add(file, at, "trailing whitespace");
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
            found.add(file, at, format!("names `{path}`, a folder of one machine"));
        }
    }
    if file.is_rust() && !file.text.starts_with("//!") {
        found.add(file, 0, "a file begins with `//!`: what it is, what it is not, its invariants");
    }
}

/// Whether something in the absolute path `path` stands in `line`.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + path.len()..).unwrap_or_default();
        let is_name = |c: char| c.is_alphanumeric() || "._-}$*".contains(c);
        !before.ends_with(is_name) && after.starts_with('/')
    })
}

/// In manifests only dependencies are looked at, and in sources nothing behind `#[cfg(test)]`.
fn check_bans(file: &File, found: &mut Found) {
    let is_root = file.path == "Cargo.toml";
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    if is_root || is_test || !(file.is_rust() || file.is_manifest()) {
        return;
    }
    let lines: Vec<(usize, &str)> = match file.is_rust() {
        true => file.code.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]").collect(),
        false => rings::dependencies(&file.text),
    };
    for ban in BANS.iter().filter(|ban| file.is_in(ban.folders) && !file.is_in(ban.except)) {
        for (at, line) in &lines {
            if let Some(word) = ban.words.iter().find(|word| has_word(line, word)) {
                found.add(file, *at, format!("`{word}`: {}", ban.why));
            }
        }
    }
}

fn check_rust(file: &File, found: &mut Found) {
    let code: Vec<&str> = file.code.lines().collect();
    for (at, line) in code.iter().enumerate() {
        let is_exception =
            ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|a| line.contains(a));
        if is_exception && !has_reason(code.get(at..).unwrap_or_default()) {
            found.add(file, at, "an exception says its reason: `reason = \"…\"`");
        }
        let is_unsafe =
            ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"].iter().any(|u| has_word(line, u));
        if is_unsafe && !has_safety(file, &code, at) {
            found.add(file, at, "`unsafe` without a comment `SAFETY:` above it");
        }
    }
}

/// Whether the attribute that begins in the first line has a reason before it ends.
fn has_reason(lines: &[&str]) -> bool {
    let until = lines.iter().position(|line| line.contains(")]")).unwrap_or(lines.len());
    lines.iter().take(until + 1).any(|line| has_word(line, "reason"))
}

/// Whether the comment above the statement of line `at` argues why it is safe. The statement may have begun
/// some lines before.
fn has_safety(file: &File, code: &[&str], at: usize) -> bool {
    let lines: Vec<&str> = file.text.lines().collect();
    let is_end = |line: &str| line.trim_end().ends_with([';', '}']);
    for line in (0..at).rev() {
        if lines.get(line).is_some_and(|line| line.contains("SAFETY:")) {
            return true;
        }
        if code.get(line).is_some_and(|line| is_end(line)) {
            return false;
        }
    }
    false
}

/// The functions that Rust sources define, by name, with a file that does.
fn functions(files: &[File]) -> BTreeMap<&str, &str> {
    let mut functions = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (at, _) in file.code.match_indices("fn ") {
            let rest = file.code.get(at + 3..).unwrap_or_default();
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            functions.insert(rest.get(..end).unwrap_or_default(), file.path.as_str());
        }
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned(), code: code_of(text) };
        let mut found = Found::default();
        check_text(&file, &mut found);
        check_bans(&file, &mut found);
        if file.is_rust() {
            check_rust(&file, &mut found);
        }
        found.0
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let core = "ring0-core/vac-core/src/x.rs";
        let breaks = |path, text: &str| found_in(path, &format!("//! x\n{text}\n"));
        let cases = [
            (core, "use std::time::Instant;"),
            (core, "async fn f() {}"),
            ("ring2-orchestrator/vac-engine/src/x.rs", "use wasmtime::Engine;"),
            ("ring2-orchestrator/vac-engine/src/x.rs", "use clap::Parser;"),
            (core, "#[allow(dead_code)]"),
            (core, "#[expect(\n    dead_code,\n)]"),
            (core, "let x = 1;\nunsafe { f() }"),
            (core, "todo!()"),
            (core, "let x = 1; "),
            (core, concat!("// see /ro", "ot/x")),
        ];
        for (path, text) in cases {
            assert_eq!(breaks(path, text).len(), 1, "{text}: {:?}", breaks(path, text));
        }
        assert_eq!(found_in(core, "fn f() {}\n").len(), 1, "no `//!`");
        let line = breaks(core, "\nuse std::env;");
        assert_eq!(line[0].split(": ").next(), Some("ring0-core/vac-core/src/x.rs:3"));
    }

    #[test]
    fn what_keeps_the_rules_is_left_alone() {
        let text = "//! wasmtime and std::time in prose\n\
            // SAFETY: 1. it is\nlet x =\n    unsafe { f(\"println!\") };\n\
            #[expect(\n    dead_code,\n    reason = \"why\"\n)]\n\
            let y = \"target/work\";\n\
            #[cfg(test)]\nmod tests { use std::time::Instant; }\n";
        assert_eq!(found_in("ring0-core/vac-core/src/x.rs", text), Vec::<String>::new());
    }
}

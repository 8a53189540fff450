//! What documents say of this repository: links lead somewhere, and tests that are named exist.

use std::collections::BTreeMap;

use super::{File, Found, functions};
use crate::repo::{self, Result};

/// Each row of its tables names, in the last column, the tests that hold it.
const DETERMINISM: &str = "docs/determinism.md";

pub(super) fn check(files: &[File], found: &mut Found) -> Result<()> {
    let root = repo::root()?;
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root.join(&file.path);
        let folder = folder.parent().unwrap_or(&root);
        for (at, link) in links(&file.text) {
            if !folder.join(link).exists() {
                found.add(file, at, format!("links to `{link}`, which is not there"));
            }
        }
    }
    match files.iter().find(|file| file.path == DETERMINISM) {
        Some(file) => check_rows(file, &functions(files), found),
        None => found.0.push(format!("{DETERMINISM}: expected it")),
    }
    Ok(())
}

/// Relative targets of links outside of code blocks, without the part behind `#`, with their lines from 0.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut links = Vec::new();
    for (at, line) in text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let files = targets.filter_map(|target| target.split('#').next());
        links.extend(files.filter(|file| !file.is_empty() && !file.contains(':')).map(|file| (at, file)));
    }
    links
}

fn check_rows(file: &File, functions: &BTreeMap<&str, &str>, found: &mut Found) {
    let rows = rows(&file.text);
    if rows.is_empty() {
        found.add(file, 0, "expected a table whose last column names tests");
    }
    for (at, last) in rows {
        let names: Vec<_> = last.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.add(file, at, "this row names no test");
        }
        for name in names {
            let own = name.rsplit("::").next().unwrap_or(name);
            if !functions.contains_key(own) {
                found.add(file, at, format!("there is no test `{name}`"));
            }
        }
    }
}

/// The last cells of all rows of tables, without heads, with their lines from 0.
fn rows(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_row = |at: usize| lines.get(at).is_some_and(|line| line.starts_with('|'));
    let is_rule =
        |at: usize| is_row(at) && lines.get(at).is_some_and(|line| line.chars().all(|c| "|-: ".contains(c)));
    let is_body = |at: &usize| is_row(*at) && !is_rule(*at) && !is_rule(at + 1);
    let last = |at: usize| {
        lines.get(at).and_then(|line| line.trim_end_matches('|').rsplit('|').next()).unwrap_or("")
    };
    (0..lines.len()).filter(is_body).map(|at| (at, last(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found() {
        let text = "[a](b.md) [c](https://d) [e](#f)\n```\n[g](h)\n```\n![i](j.svg#k)\n";
        assert_eq!(links(text), [(0, "b.md"), (4, "j.svg")]);
    }

    #[test]
    fn rows_must_name_tests_that_exist() {
        let text = "| source | test |\n|---|---|\n| NaN | `nan_bits` |\n| poll | none |\n| x | `m::gone` |\n";
        let file = File { path: DETERMINISM.to_owned(), text: text.to_owned(), code: String::new() };
        let mut found = Found::default();
        check_rows(&file, &BTreeMap::from([("nan_bits", "x.rs")]), &mut found);
        assert_eq!(found.0.len(), 2);
        assert!(found.0[0].contains(":4: this row names no test"), "{:?}", found.0);
        assert!(found.0[1].contains(":5: there is no test `m::gone`"), "{:?}", found.0);
    }
}

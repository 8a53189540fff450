//! The order of the rings: a crate depends on crates of its own ring or of a lower one.

use std::collections::BTreeMap;

use super::{File, Found};

/// Folders by ring. Others, like `tests` and `xtask`, may depend on everything, and nothing on them.
const RINGS: [&str; 3] = ["ring0-core/", "ring1-kernels/", "ring2-orchestrator/"];
/// What stands for every folder that is in no ring.
const OUTSIDE: usize = RINGS.len();

pub(super) fn check(files: &[File], found: &mut Found) {
    let members = members(files);
    for file in files.iter().filter(|file| file.is_manifest() && file.path != "Cargo.toml") {
        let own = ring_of(&file.path);
        for (at, line) in dependencies(&file.text) {
            let Some(path) = dependency_path(line, &file.path, &members) else { continue };
            let other = ring_of(&path);
            // Kernels are another world: only another kernel is linked into one.
            if other > own || (own == 1 && other == 0) {
                found.add(file, at, format!("depends on `{path}`, which is not in its ring or a lower one"));
            }
        }
    }
}

fn ring_of(path: &str) -> usize {
    RINGS.iter().position(|ring| path.starts_with(ring)).unwrap_or(OUTSIDE)
}

/// The members that the workspace names, by crate.
fn members(files: &[File]) -> BTreeMap<String, String> {
    let root = files.iter().find(|file| file.path == "Cargo.toml");
    let lines = root.map(|file| dependencies(&file.text)).unwrap_or_default();
    lines
        .iter()
        .filter_map(|(_, line)| Some((name_of(line).to_owned(), quoted_path(line)?.to_owned())))
        .collect()
}

/// The lines of a manifest that name dependencies, from 0.
pub(super) fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut is_in = false;
    let mut lines = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            is_in = line.trim_end_matches(']').ends_with("dependencies");
        } else if is_in && !line.is_empty() && !line.starts_with('#') {
            lines.push((at, line));
        }
    }
    lines
}

fn name_of(line: &str) -> &str {
    line.split(['.', ' ', '=']).next().unwrap_or(line)
}

fn quoted_path(line: &str) -> Option<&str> {
    line.split("path = \"").nth(1)?.split('"').next()
}

/// Where a dependency of the manifest at `from` lies, if it is in this repository.
fn dependency_path(line: &str, from: &str, members: &BTreeMap<String, String>) -> Option<String> {
    let Some(relative) = quoted_path(line) else { return members.get(name_of(line)).cloned() };
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned(), code: String::new() }
    }

    #[test]
    fn a_ring_depends_on_lower_rings_only() {
        let root = manifest(
            "Cargo.toml",
            "[workspace.dependencies]\na = { path = \"ring0-core/a\" }\nb = { path = \"ring2-orchestrator/b\" }\n",
        );
        let found = |path: &str, line: &str| {
            let files = [
                manifest("Cargo.toml", &root.text),
                manifest(path, &format!("[dev-dependencies]\n{line}\n")),
            ];
            let mut found = Found::default();
            check(&files, &mut found);
            found.0
        };
        assert!(found("ring2-orchestrator/b/Cargo.toml", "a.workspace = true").is_empty());
        assert!(found("xtask/Cargo.toml", "b.workspace = true").is_empty());
        assert_eq!(found("ring0-core/a/Cargo.toml", "b.workspace = true").len(), 1);
        assert_eq!(found("ring0-core/a/Cargo.toml", "b = { path = \"../../xtask\" }").len(), 1);
        assert_eq!(found("ring1-kernels/k/Cargo.toml", "a = { path = \"../../ring0-core/a\" }").len(), 1);
        assert!(found("ring1-kernels/k/Cargo.toml", "sdk = { path = \"../sdk\" }").is_empty());
    }
}

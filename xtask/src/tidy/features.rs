//! The engine is compiled once, whichever package is built: each asks the same features of what the host is made of.
//!
//! Cargo unites the features that the packages of one build ask for. If `vac` and `xtask` differ in a single one below
//! the engine, each has its own: ten minutes of a build from nothing, and no warning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Found;
use crate::repo::{self, Result};

const HOST: &str = "ring0-core/vac-host/Cargo.toml";

/// What is built: by a user, by `cargo xtask`, by `cargo test`.
const BUILDS: [&[&str]; 3] = [&["--package", "vac"], &["--package", "xtask"], &["--workspace"]];

/// The features of each package of a build. A tool of a build may differ from what is linked, so there can be two.
type Features = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(root: &Path, found: &mut Found) -> Result<()> {
    let host = features(root, &["--package", "vac-host"])?;
    let builds: Vec<Features> =
        BUILDS.iter().map(|packages| features(root, packages)).collect::<Result<_>>()?;
    for package in host.keys() {
        let asked = builds.iter().map(|build| build.get(package));
        let first = builds[0].get(package);
        for (packages, features) in BUILDS.iter().zip(asked).filter(|(_, features)| *features != first) {
            found.0.push(format!(
                "{HOST}: {package} is built with {} for {}, and with {} for {}: ask for all of them here",
                text(features),
                packages.join(" "),
                text(first),
                BUILDS[0].join(" ")
            ));
        }
    }
    Ok(())
}

fn features(root: &Path, packages: &[&str]) -> Result<Features> {
    let mut cargo = repo::cargo(root);
    cargo.args(["tree", "--quiet", "--locked", "--prefix", "none", "--edges", "normal,build"]);
    let tree = repo::output(cargo.args(["--format", "{p}|{f}"]).args(packages))?;
    Ok(parse(&tree))
}

/// Lines of `NAME VERSION|FEATURES`; `(*)` ends those whose dependencies were listed before.
fn parse(tree: &str) -> Features {
    let mut features = Features::new();
    for (package, asked) in tree.lines().filter_map(|line| line.split_once('|')) {
        let asked = asked.strip_suffix(" (*)").unwrap_or(asked);
        features.entry(package.to_owned()).or_default().insert(asked.to_owned());
    }
    features
}

fn text(features: Option<&BTreeSet<String>>) -> String {
    let sets = features.into_iter().flatten().map(|set| format!("[{set}]"));
    sets.collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_listed_twice_has_the_features_of_both() {
        let features =
            parse("a v1.0.0|std\nb v2.0.0 (proc-macro)|\na v1.0.0|std (*)\na v1.0.0|alloc,std\n\n");
        assert_eq!(text(features.get("a v1.0.0")), "[alloc,std] and [std]");
        assert_eq!(text(features.get("b v2.0.0 (proc-macro)")), "[]");
        assert_eq!(features.len(), 2);
    }
}

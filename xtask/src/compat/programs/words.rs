//! One small program of ours in two languages, built by public toolchains, each of which brings a whole
//! interpreter: CPython, QuickJS in two ways, and SpiderMonkey.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compat::Program;
use crate::compat::package::{Origin, once, python};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::{self, Result};

const COMPONENTIZE_PY: &str = "0.25.1";
const JCO: &str = "1.35.0";
const COMPONENTIZE_JS: &str = "0.23.0";

pub(super) const PYTHON: Program = Program {
    name: "words-python",
    about: "component from Python",
    origin: Origin::Made { by: "`componentize-py` 0.25.1", make: make_python },
    against: "words counted by hand; the same in both languages",
    is_quick: false,
    case,
};

pub(super) const JAVASCRIPT: Program = Program {
    name: "words-js",
    about: "component from JavaScript (QuickJS)",
    origin: Origin::Made { by: "`jco` 1.35.0 with QuickJS", make: make_javascript },
    against: "words counted by hand; the same in both languages",
    is_quick: false,
    case,
};

pub(super) const JAVASCRIPT_ASYNC: Program = Program {
    name: "words-js-async",
    about: "component from JavaScript (QuickJS, with tasks)",
    origin: Origin::Made { by: "`jco` 1.35.0 with QuickJS", make: make_javascript_async },
    against: "words counted by hand; the same in both languages",
    is_quick: false,
    case,
};

pub(super) const JAVASCRIPT_SPIDERMONKEY: Program = Program {
    name: "words-js-sm",
    about: "component from JavaScript (SpiderMonkey)",
    origin: Origin::Made { by: "`componentize-js` 0.23.0", make: make_javascript_spidermonkey },
    against: "words counted by hand; the same in both languages",
    is_quick: false,
    case,
};

const CALL: &str = r#"count("To be, or not to be: grüße!")"#;
const COUNTED: &str = r#"[{word: "be", times: 2}, {word: "to", times: 2}, {word: "grüße", times: 1}, {word: "not", times: 1}, {word: "or", times: 1}]"#;

fn case() -> Case {
    Case {
        inputs: "",
        ask: Ask::Call(&[CALL]),
        grants: &[],
        stdin: "",
        check: |ran: &Ran| ran.gave(COUNTED),
        refused: Refused::Nothing,
    }
}

fn sources() -> Result<PathBuf> {
    Ok(repo::root()?.join("examples/compat/words"))
}

/// In a virtual environment of its own; half a minute.
fn make_python(cache: &Path) -> Result<PathBuf> {
    let version = format!("{COMPONENTIZE_PY}-{}", digest_of_sources()?);
    let folder = once(cache, "words-python", &version, |folder| {
        let environment = folder.join("environment");
        repo::output(python().args(["-m", "venv"]).arg(&environment))?;
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["--disable-pip-version-check", "install", "--quiet"]);
        let wanted = format!("componentize-py=={COMPONENTIZE_PY}");
        repo::output(pip.arg(wanted)).map_err(|why| format!("not available: {why}"))?;
        let mut build = Command::new(environment.join("bin/componentize-py"));
        build.current_dir(sources()?).env("PYTHONDONTWRITEBYTECODE", "1");
        build.args(["--wit-path", "words.wit", "--world", "words", "componentize", "app", "--output"]);
        repo::output(build.arg(folder.join("words.wasm"))).map(drop)
    })?;
    Ok(folder.join("words.wasm"))
}

fn make_javascript(cache: &Path) -> Result<PathBuf> {
    const QUICKJS: &[&str] = &["componentize", "--backend", "qjs", "--backend-qjs-disable-async"];
    make_by_npm(cache, "words-js", ("@bytecodealliance/jco", JCO, "jco"), QUICKJS)
}

fn make_javascript_async(cache: &Path) -> Result<PathBuf> {
    const QUICKJS: &[&str] = &["componentize", "--backend", "qjs"];
    make_by_npm(cache, "words-js-async", ("@bytecodealliance/jco", JCO, "jco"), QUICKJS)
}

fn make_javascript_spidermonkey(cache: &Path) -> Result<PathBuf> {
    let package = ("@bytecodealliance/componentize-js", COMPONENTIZE_JS, "componentize-js");
    make_by_npm(cache, "words-js-sm", package, &[])
}

/// A package of npm, its version and the command that it brings, run in the folder of the sources.
fn make_by_npm(
    cache: &Path,
    name: &str,
    (package, version, command): (&str, &str, &str),
    options: &[&str],
) -> Result<PathBuf> {
    let made = format!("{version}-{}", digest_of_sources()?);
    let folder = once(cache, name, &made, |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(folder);
        repo::output(npm.arg(format!("{package}@{version}")))
            .map_err(|why| format!("not available: {why}"))?;
        let mut build = Command::new(folder.join("node_modules/.bin").join(command));
        build.current_dir(sources()?).args(options);
        build.args(["words.js", "--wit", "words.wit", "--world-name", "words", "--out"]);
        repo::output(build.arg(folder.join("words.wasm"))).map(drop)
    })?;
    Ok(folder.join("words.wasm"))
}

/// So that a changed program is built again.
fn digest_of_sources() -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for name in ["words.wit", "app.py", "words.js"] {
        let path = sources()?.join(name);
        hasher.update(&std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    Ok(hasher.finalize().to_hex().chars().take(12).collect())
}

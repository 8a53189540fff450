//! WASI 0.1, errno by errno and rights by rights: `tests/conformance/cases/*.case`.
//!
//! A case begins with what it is about, then lines that make its world, then calls in the language
//! of [`crate::wasi01`], each with what must come of it. The world of a case is a directory that
//! it may write, as `/`, unless it says otherwise:
//!
//! ```text
//! # why
//! file NAME "TEXT"      a file in the directory          mkdir NAME       a directory in it
//! fill NAME N           a directory with N files         grant KIND=…     in place of the directory
//! args "A" "B"          arguments                        env "K=V"        a variable
//! stdin "TEXT"          the standard input, granted      stdout "TEXT"    what it must print
//! exit N                how it must end
//! ```
//!
//! Every case also runs twice to the same head, and replays.

use std::path::{Path, PathBuf};

use crate::support::{Sandbox, repository, text};
use crate::wasi01::{Calls, unquote, words};

/// A case, as its file has it.
#[derive(Default)]
struct Case {
    files: Vec<(String, Vec<u8>)>,
    folders: Vec<String>,
    full: Option<(String, usize)>,
    grants: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    stdin: Vec<u8>,
    stdout: Vec<u8>,
    exit: i32,
    calls: Calls,
}

impl Case {
    fn read(path: &Path) -> Self {
        let mut case = Self { grants: vec!["dir:rw=root::/".into()], ..Self::default() };
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# "), "{}: a case says first what it is about", path.display());
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            case.line(line);
        }
        case
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "file" => {
                let (name, content) = rest.split_once(' ').unwrap();
                self.files.push((name.to_owned(), unquote(content.trim())));
            }
            "mkdir" => self.folders.push(rest.to_owned()),
            "fill" => self.full = rest.split_once(' ').map(|(name, n)| (name.to_owned(), n.parse().unwrap())),
            "grant" => {
                self.grants.retain(|grant| grant != "dir:rw=root::/");
                self.grants.extend((rest != "nothing").then(|| rest.to_owned()));
            }
            "args" => self.args = texts(rest),
            "env" => self.env.extend(texts(rest)),
            "stdin" => {
                self.stdin = unquote(rest);
                self.grants.push("stdin".into());
            }
            "stdout" => self.stdout = unquote(rest),
            "exit" => {
                self.exit = rest.parse().unwrap();
                self.calls.add(line);
            }
            _ => self.calls.add(line),
        }
    }

    /// Makes the case's world.
    fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("root")).unwrap();
        for folder in &self.folders {
            std::fs::create_dir_all(sandbox.path("root").join(folder)).unwrap();
        }
        for (name, content) in &self.files {
            sandbox.write(&format!("root/{name}"), content);
        }
        if let Some((name, count)) = &self.full {
            (0..*count).for_each(|i| drop(sandbox.write(&format!("root/{name}/file.{i}"), "")));
        }
        sandbox.write("case.wasm", self.calls.wasm());
        sandbox
    }

    /// Runs the case in a new world. Gives what was wrong, and the head.
    fn run(&self) -> (Vec<String>, String, Sandbox) {
        let sandbox = self.sandbox();
        let mut args = vec!["run", "case.wasm"];
        args.extend(self.grants.iter().flat_map(|grant| ["--grant", grant]));
        args.extend(self.env.iter().flat_map(|pair| ["--env", pair]));
        args.push("--");
        args.extend(self.args.iter().map(String::as_str));
        let ran = sandbox.vac_with_input(&args, &self.stdin);
        let (own, mut wrong) = self.calls.check(&ran.stdout);
        if ran.code() != self.exit {
            wrong.push(format!("ended with {}, expected {}\n{}", ran.code(), self.exit, ran.stderr));
        }
        if own != self.stdout {
            wrong.push(format!("printed {:?}", String::from_utf8_lossy(own)));
        }
        let verified = sandbox.json(&["verify", "last"]);
        (wrong, text(&verified["runs"][0], "head").to_owned(), sandbox)
    }

    /// Everything that is wrong with the case.
    fn wrong(&self) -> Vec<String> {
        let (mut wrong, head, first) = self.run();
        if wrong.is_empty() {
            let (_, again, _) = self.run();
            wrong.extend((again != head).then(|| "a second run has another head".to_owned()));
            let replayed = first.vac(&["--json", "replay", "last"]);
            let is_equal = replayed.code() == 0 && text(&replayed.json(), "head") == head;
            wrong.extend((!is_equal).then(|| format!("the replay differs\n{}", replayed.stderr)));
        }
        wrong
    }
}

fn texts(rest: &str) -> Vec<String> {
    words(rest).iter().map(|text| String::from_utf8(unquote(text)).unwrap()).collect()
}

fn cases() -> Vec<PathBuf> {
    let only = std::env::var_os("VAC_TEST_CASE").unwrap_or_default().into_string().unwrap();
    let folder = repository().join("tests/conformance/cases");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|path| {
        path.extension().is_some_and(|e| e == "case") && path.to_string_lossy().contains(&only)
    });
    cases.sort();
    cases
}

#[test]
fn every_case_of_wasi_01_is_met() {
    let mut failed = Vec::new();
    for path in cases() {
        let wrong = Case::read(&path).wrong();
        if !wrong.is_empty() {
            failed.push(format!("{}:\n  {}", path.file_stem().unwrap().display(), wrong.join("\n  ")));
        }
    }
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}

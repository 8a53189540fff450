//! Two keys: a program gets what its manifest asks for and its operator grants, and neither widens the other.

use std::path::Path;

use crate::guest::{Guest, ROOT, errno};
use crate::support::{Sandbox, text};

const USAGE: i32 = 2;
const DENIED: i32 = 3;
const QUOTA: i32 = 4;
const SECRET: &str = "the secret";

/// A manifest that asks for `grants`, of which those that begin with `?` are optional.
pub(crate) fn manifest(grants: &[&str]) -> String {
    let ask = |grant: &&str| {
        let (grant, optional) = grant.strip_prefix('?').map_or((*grant, ""), |g| (g, "optional = true\n"));
        format!("\n[[ask]]\ngrant = \"{grant}\"\nwhy = \"it is read\"\n{optional}")
    };
    format!("version = 1\n{}", grants.iter().map(ask).collect::<String>())
}

/// `tool.wasm` beside two files and a folder.
fn sandbox(guest: Guest) -> Sandbox {
    let sandbox = Sandbox::new();
    for (name, content) in [("a", "text of a"), ("b", "text of b"), ("data/c", "text of c")] {
        sandbox.write(name, content);
    }
    sandbox.write("tool.wasm", guest.wasm());
    sandbox
}

fn looker() -> Guest {
    Guest::new().open(ROOT, "a", "r").read().open(ROOT, "b", "r").read().open(ROOT, "a", "w")
}

/// The program with a manifest in it.
fn embed(wasm: &[u8], manifest: &str) -> Vec<u8> {
    let name = b"vac-manifest";
    let len = 1 + name.len() + manifest.len();
    let mut section = vec![0, (len & 0x7f) as u8 | 0x80, (len >> 7) as u8, name.len() as u8];
    assert!(len < 1 << 14);
    section.extend_from_slice(name);
    section.extend_from_slice(manifest.as_bytes());
    [wasm, section.as_slice()].concat()
}

#[test]
fn a_run_gets_what_is_both_asked_and_granted() {
    let sandbox = sandbox(looker());
    let args = ["run", "tool.wasm", "--grant", "dir:rw=."];
    assert!(sandbox.vac(&args).ok().out().contains("text of b"), "without a manifest all that is granted");
    sandbox.write("tool.vac.toml", manifest(&["file:ro=a"]));
    let ran = sandbox.vac(&args).ok();
    let perm = errno::PERM;
    assert!(ran.out().starts_with(&format!("open a=0\nread: text of a\nopen b={perm}\n")), "{}", ran.out());
    assert!(ran.out().ends_with(&format!("open a={perm}\n")), "asked to read: {}", ran.out());
    let why = "denied  --grant dir:rw=. is granted, but the manifest does not ask for it";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    sandbox.vac(&["replay", "last"]).ok();
    // One that asks for no directory at all: to grant one would change nothing.
    sandbox.write("fails.wasm", looker().exit(1).wasm());
    sandbox.write("fails.vac.toml", manifest(&[]));
    let ran = sandbox.vac(&["run", "fails.wasm", "--grant", "dir:rw=."]);
    let why = "denied  --grant dir:ro=DIR is granted, but the manifest does not ask for it";
    assert!(ran.code() == 1 && ran.stderr.contains(why), "{ran:?}");
    let all = sandbox.vac(&[&args[..], &["--no-manifest"]].concat()).ok().out();
    assert!(all.contains("text of b"), "{all}");
}

#[test]
fn what_is_granted_and_not_asked_for_changes_nothing() {
    let sandbox = sandbox(looker());
    let cid = |text: &str| vac_core::cid::Cid::of_raw(text.as_bytes()).to_string();
    let head = |grants: &[&str]| {
        let typed: Vec<&str> = grants.iter().flat_map(|grant| ["--grant", grant]).collect();
        text(&sandbox.json(&[&["run", "tool.wasm"], &typed[..]].concat()), "head").to_owned()
    };
    let bare = head(&["file:ro=a"]);
    let asked = manifest(&["file:ro=a"]);
    sandbox.write("tool.vac.toml", &asked);
    let one = head(&["dir:rw=."]);
    assert_ne!(one, bare, "the header names the manifest");
    for more in [&["dir:ro=."][..], &["dir:rw=.", "stdin"], &["dir:ro=.", "dir:rw=data"]] {
        assert_eq!(head(more), one, "{more:?}");
    }
    assert_eq!(sandbox.vac(&["store", "get", &cid(&asked)]).ok().out(), asked, "what was asked is kept");
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.vac(&["store", "get", &cid(&asked)]).ok().out(), asked, "as long as the run is");
    sandbox.write("tool.vac.toml", format!("# said otherwise\n{asked}"));
    assert_ne!(head(&["dir:rw=."]), one, "another manifest is another run");
    sandbox.vac(&["verify", "--all"]).ok();
}

#[test]
fn what_is_missing_is_named_before_anything_runs() {
    let sandbox = sandbox(looker());
    sandbox.write("tool.vac.toml", manifest(&["file:ro=a", "dir:rw=data", "?stdin"]));
    let refused = sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=."]);
    let refused = refused.fails(DENIED, &["`tool.wasm` asks for `dir:rw=data`, which is not granted"]);
    assert!(refused.stderr.contains("--grant dir:rw=data") && refused.stderr.contains("it is read"));
    assert!(sandbox.home_files("runs").is_empty(), "nothing ran");
    let both = sandbox.vac(&["run", "tool.wasm"]).fails(DENIED, &["`file:ro=a`, `dir:rw=data`"]);
    assert!(both.stderr.contains("`--grant file:ro=a --grant dir:rw=data`"), "{}", both.stderr);
    sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=.", "--grant", "dir:rw=data"]).ok();
    sandbox.write("tool.vac.toml", manifest(&["file:ro=a", "?dir:rw=data"]));
    sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=."]).ok();
}

#[test]
fn nothing_asked_means_nothing_granted() {
    let sandbox = sandbox(looker());
    sandbox.write("tool.vac.toml", "version = 1\n");
    let ran = sandbox.vac(&["run", "tool.wasm", "--grant", "dir:rw=.", "--grant", "stdin"]).ok();
    assert!(ran.out().starts_with(&format!("open a={}\n", errno::BADF)), "{}", ran.out());
}

/// A manifest is its author's: what it names inside of a granted folder must not lead out of that by a link,
/// which a grant by its operator may.
#[test]
fn a_manifest_reaches_nothing_outside_of_a_grant() {
    let sandbox = sandbox(Guest::new().open(ROOT, "s", "r").read().open(ROOT, "in/s", "r").read());
    sandbox.write("outside/s", SECRET);
    for (link, to) in [("data/s", "../outside/s"), ("data/in", "../outside")] {
        std::os::unix::fs::symlink(to, sandbox.path(link)).unwrap();
    }
    for asked in ["file:ro=data/s", "file:ro=data/in/s", "?dir:ro=data/in"] {
        sandbox.write("tool.vac.toml", manifest(&[asked]));
        let ran = sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=data"]);
        assert!(!ran.out().contains(SECRET) && !ran.stderr.contains(SECRET), "{asked}: {ran:?}");
    }
    sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=data"]).fails(DENIED, &["cannot be reached inside"]);
}

#[test]
fn a_manifest_can_be_in_the_program() {
    let sandbox = sandbox(looker());
    let wasm = embed(&looker().wasm(), &manifest(&["file:ro=a"]));
    sandbox.write("tool.wasm", &wasm);
    let args = ["run", "tool.wasm", "--grant", "dir:rw=."];
    assert!(!sandbox.vac(&args).ok().out().contains("text of b"));
    // By its CID, too: the manifest is a part of what the CID names.
    let cid = sandbox.vac(&["store", "put", "tool.wasm"]).ok().out();
    assert!(!sandbox.vac(&["run", cid.trim(), "--grant", "dir:rw=."]).ok().out().contains("text of b"));
    sandbox.write("tool.vac.toml", manifest(&["file:ro=b"]));
    let beside = sandbox.vac(&args).ok().out();
    assert!(beside.contains("text of b") && !beside.contains("text of a"), "the one beside wins: {beside}");
    std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    sandbox.write("tool.wasm", embed(&wasm, &manifest(&[])));
    sandbox.vac(&args).fails(6, &["at most one section `vac-manifest`"]);
    sandbox.write("tool.wasm", embed(&looker().wasm(), "version = 7"));
    sandbox.vac(&args).fails(USAGE, &["section `vac-manifest` of tool.wasm", "line 1", "version 7"]);
}

#[test]
fn a_manifest_that_is_none_stops_the_run() {
    let sandbox = sandbox(looker());
    let run = ["run", "tool.wasm", "--grant", "dir:rw=."];
    let long = format!("version = 1\n# {}", "x".repeat(70_000));
    let deep = format!("version = 1\nask = {}{}", "[".repeat(20_000), "]".repeat(20_000));
    let table = [
        ("", "there is no version"),
        ("version = 1\n[[ask]]\ngrnt = \"stdin\"\n", "line 3, column 1: unknown field `grnt`"),
        (
            "version = 1\n[[ask]]\ngrant = \"dir:rx=a\"\nwhy = \"x\"\n",
            "line 3, column 9: `dir:rx=a` is not a grant",
        ),
        ("version = 1\n[[ask]]\ngrant = \"dir:ro=/::a\"\nwhy = \"x\"\n", "names a path of the host"),
        ("version = 1\n[[ask]]\ngrant = \"stdin\"\nwhy = \"\"\n", "`why` has 0 bytes"),
        ("version = 1\n\u{1b}[2J\u{202e} = 3", "line 2"),
        ("version = 1\n\"\\u001b[2J\" = 3", "unknown field `\\u{1b}[2J`"),
        (&long, "the limit is"),
        (&deep, "line 2"),
    ];
    for (bytes, words) in table {
        sandbox.write("tool.vac.toml", bytes);
        let ran = sandbox.vac(&run).fails(USAGE, &["tool.vac.toml", words]);
        assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{202e}'), "{ran:?}");
    }
    sandbox.write("tool.vac.toml", [0xff, 0xfe]);
    sandbox.vac(&run).fails(USAGE, &["is not text"]);
    std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    std::fs::create_dir(sandbox.path("tool.vac.toml")).unwrap();
    sandbox.vac(&run).fails(USAGE, &["is not a file"]);
    assert!(sandbox.home_files("runs").is_empty());
}

/// Names and reasons of a manifest are hostile text.
#[test]
fn what_a_manifest_says_does_not_reach_the_terminal_as_it_is() {
    let sandbox = sandbox(looker());
    let hostile =
        "version = 1\n[[ask]]\ngrant = \"file:ro=\\u001b]0;x\\u0007\"\nwhy = \"\\u001b[31m\\u202e\"\n";
    sandbox.write("tool.vac.toml", hostile);
    for args in [&["inspect", "tool.wasm"][..], &["run", "tool.wasm"]] {
        let ran = sandbox.vac(args);
        let shown = [String::from_utf8_lossy(&ran.stdout), ran.stderr.as_str().into()].concat();
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown}");
        assert!(shown.contains("\\u{1b}"), "{shown}");
    }
}

/// A pipe where the manifest would be must not make the run wait.
#[test]
fn a_pipe_in_place_of_a_manifest_does_not_hang() {
    let sandbox = sandbox(looker());
    let made = std::process::Command::new("mkfifo").arg(sandbox.path("tool.vac.toml")).status().unwrap();
    assert!(made.success());
    sandbox.vac(&["run", "tool.wasm"]).fails(USAGE, &["is not a file"]);
}

#[test]
fn grants_can_be_kept_in_a_file() {
    let sandbox = sandbox(looker());
    let allow = "version = 1\n[[grant]]\nallow = \"dir:ro=../data::.\"\n";
    sandbox.write("policy/tool.toml", allow);
    sandbox.write("data/a", "of the policy");
    let args = ["run", "tool.wasm", "--grants", "policy/tool.toml"];
    assert!(
        sandbox.vac(&args).ok().out().contains("read: of the policy"),
        "its paths are seen from its folder"
    );
    sandbox.write(
        "loop.wasm",
        wat::parse_str(
            "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $l (br $l))))",
        )
        .unwrap(),
    );
    sandbox.write(
        "policy/loop.toml",
        "version = 1\n[limits]\nticks = 100000\nmemory = \"64MiB\"\ntime = \"50s\"\n",
    );
    let stopped = sandbox.vac(&["run", "loop.wasm", "--grants", "policy/loop.toml"]);
    stopped.fails(QUOTA, &["100000 ticks"]);
    let typed = sandbox.vac(&["run", "loop.wasm", "--grants", "policy/loop.toml", "--ticks", "50"]);
    typed.fails(QUOTA, &["50 ticks"]);
    let bad = |text: &str, words: &[&str]| {
        sandbox.write("policy/bad.toml", text);
        sandbox.vac(&["run", "tool.wasm", "--grants", "policy/bad.toml"]).fails(USAGE, words).stderr
    };
    let hint = bad("version = 1\n[limits]\ntick = 5\n", &["line 3, column 1", "unknown field `tick`"]);
    assert!(hint.contains("did you mean `ticks`?"), "{hint}");
    bad("version = 1\n[limits]\nmemory = \"lots\"\n", &["line 3, column 10", "expected a size"]);
    bad("version = 1\n[[grant]]\nallow = \"env:ABSENT\"\n", &["line 3", "`ABSENT` is not set"]);
    bad(&manifest(&["stdin"]), &["unknown field `ask`"]);
    sandbox.vac(&["run", "tool.wasm", "--grants", "missing"]).fails(USAGE, &["no file `missing`"]);
}

#[test]
fn inspect_shows_both_keys() {
    let sandbox = sandbox(looker());
    let none = sandbox.json(&["inspect", "tool.wasm", "--grant", "dir:ro=."]);
    assert!(
        none["manifest"].is_null() && none["gets"][0] == "dir:ro=." && none["missing"].is_null(),
        "{none}"
    );
    sandbox.write("tool.vac.toml", manifest(&["file:ro=a", "dir:rw=data", "?stdin"]));
    let shown = sandbox.json(&["inspect", "tool.wasm", "--grant", "dir:ro=./"]);
    assert_eq!(text(&shown["manifest"], "place"), Path::new("./tool.vac.toml").to_str().unwrap());
    assert_eq!(shown["asks"][0]["gets"][0], "file:ro=a");
    assert_eq!(
        (&shown["asks"][1]["is_whole"], &shown["asks"][1]["gets"][0]),
        (&false.into(), &"dir:ro=data".into())
    );
    assert_eq!(
        (&shown["asks"][2]["optional"], &shown["asks"][2]["gets"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert_eq!(shown["missing"], serde_json::json!(["dir:rw=data"]));
    assert_eq!(shown["granted"], serde_json::json!(["dir:ro=."]));
    let lines = sandbox.vac(&["inspect", "tool.wasm", "--grant", "dir:ro=."]).ok().out();
    for words in ["ASKED", "in part: dir:ro=data", "optional", "it is read", "--grant dir:rw=data"] {
        assert!(lines.contains(words), "{words}\n{lines}");
    }
}

/// Whoever may write one file may also make it, and nothing beside it.
#[test]
fn a_file_to_write_may_be_missing_and_is_made_under_its_one_name() {
    let guest = Guest::new().open(ROOT, "out", "wc").write("made").open(ROOT, "other", "wc");
    let guest = guest.at("path_unlink_file", ROOT, "out").symlink("b", ROOT, "out");
    let guest = guest.rename((ROOT, "out"), (ROOT, "z")).at("path_create_directory", ROOT, "d");
    let sandbox = sandbox(guest.open(ROOT, "out", "wcx"));
    let check = |args: &[&str]| {
        let seen = sandbox.vac(&[&["run", "tool.wasm"], args].concat()).ok().out();
        assert!(seen.starts_with("open out=0\nwrite=0\n"), "{seen}");
        assert_eq!(seen.lines().filter(|line| line.ends_with("=63")).count(), 5, "{seen}");
        assert!(seen.ends_with(&format!("open out={}\n", errno::EXIST)), "{seen}");
        assert_eq!(sandbox.read("out"), "made");
        std::fs::remove_file(sandbox.path("out")).unwrap();
        sandbox.vac(&["replay", "last"]).ok();
    };
    check(&["--grant", "file:rw=out"]);
    sandbox.write("tool.vac.toml", manifest(&["file:rw=out"]));
    check(&["--grant", "dir:rw=."]);
    std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    sandbox
        .vac(&["run", "tool.wasm", "--grant", "file:rw=no/out"])
        .fails(USAGE, &["`no/out` cannot be opened"]);
    sandbox.vac(&["run", "tool.wasm", "--grant", "file:ro=out"]).fails(USAGE, &["`out` cannot be opened"]);
}

#[test]
fn a_call_has_two_keys_as_well() {
    let sandbox = sandbox(looker());
    let prebuilt = crate::support::repository().join("ring1-kernels/prebuilt/series.wasm");
    std::fs::copy(prebuilt, sandbox.path("series.wasm")).unwrap();
    sandbox.write("data/weekly.csv", "date,co2_ppm\n2000-01-01,370.0\n2000-01-08,371.0\n");
    let call = ["call", "series.wasm", "monthly(\"data/weekly.csv\")", "--grant", "dir:ro=data"];
    sandbox.write("series.vac.toml", manifest(&["file:ro=data/weekly.csv"]));
    assert!(sandbox.vac(&call).ok().out().starts_with("ok("));
    sandbox.write("series.vac.toml", manifest(&["file:ro=data/other.csv"]));
    assert!(sandbox.vac(&call).ok().out().starts_with("err("));
    assert!(sandbox.vac(&[&call[..], &["--no-manifest"]].concat()).ok().out().starts_with("ok("));
}

//! Directories by CID: kept, given to guests, changed in copies, written out again.

use vac_core::canon::{self, Node};
use vac_core::cid::{Cid, Codec};

use crate::guest::{Guest, ROOT, errno};
use crate::support::{Sandbox, text};

/// The tree of [`fill`], as every machine computes it.
const KNOWN: &str = "bafyr4iaz5zvpqjgpwipbphc5hq34pbv47ogjhm7g4jiram5q25sy2m7mmi";

/// A folder with files, an empty folder and a link.
fn fill(sandbox: &Sandbox, folder: &str) {
    sandbox.write(&format!("{folder}/a"), "text of a");
    sandbox.write(&format!("{folder}/sub/deep/c"), "text of c");
    sandbox.write(&format!("{folder}/empty-file"), "");
    std::fs::create_dir(sandbox.path(folder).join("empty")).unwrap();
    std::os::unix::fs::symlink("sub/deep/c", sandbox.path(folder).join("link")).unwrap();
}

fn put(sandbox: &Sandbox, folder: &str) -> String {
    sandbox.vac(&["store", "put", folder]).ok().out().trim().to_owned()
}

/// Puts one object of a tree made by hand.
fn put_object(sandbox: &Sandbox, entries: Vec<(String, Node)>) -> Cid {
    let bytes = canon::encode(&Node::List(vec![Node::Int(1), Node::Map(entries)]));
    let store = vac_core::store::Store::open(
        std::sync::Arc::new(vac_core::storage::RealStorage::new(sandbox.home())),
        "store",
    );
    let store = store.unwrap();
    let cid = store.put(Codec::DagCbor, &bytes).unwrap();
    store.commit().unwrap();
    cid
}

#[test]
fn a_directory_has_one_cid_and_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    fill(&sandbox, "one");
    let cid = put(&sandbox, "one");
    assert_eq!(cid, KNOWN);
    sandbox.vac(&["store", "get", &cid, "-o", "back"]).ok();
    assert_eq!(sandbox.read("back/sub/deep/c"), "text of c");
    assert_eq!(sandbox.read("back/link"), "text of c");
    assert!(sandbox.path("back/empty").is_dir());
    assert_eq!(put(&sandbox, "back"), cid);
    // It does not write over what is there.
    sandbox.vac(&["store", "get", &cid, "-o", "back"]).fails(1, &["create", "back"]);
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["store", "get", &cid, "-o", "again"]).ok();
    sandbox.vac(&["store", "rm", &cid]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["store", "get", &cid, "-o", "gone"]).fails(2, &["has no object"]);
    assert!(!sandbox.path("gone").exists());
}

#[test]
fn a_tree_to_read_is_seen_and_not_changed() {
    let sandbox = Sandbox::new();
    fill(&sandbox, "one");
    let cid = put(&sandbox, "one");
    let guest = Guest::new().preopen(ROOT).open(ROOT, "a", "r").read().open(ROOT, "link", "r").read();
    let guest = guest.open(ROOT, "a", "w").at("path_unlink_file", ROOT, "a");
    sandbox.write("guest.wasm", guest.wasm());
    let grant = format!("tree:ro={cid}");
    let ran = sandbox.json(&["run", "guest.wasm", "--grant", &grant]);
    let out = text(&ran, "stdout");
    assert!(
        out.starts_with("prestat=0\ntree\nopen a=0\nread: text of a\nopen link=0\nread: text of c\n"),
        "{out}"
    );
    assert!(out.ends_with(&format!("open a={0}\npath_unlink_file a={0}\n", errno::PERM)), "{out}");
    assert_eq!(ran["trees"].as_array().unwrap().len(), 0);
    assert_eq!(std::fs::read_dir(sandbox.home().join("trees")).unwrap().count(), 0, "no copy stays");
    assert_eq!(text(&sandbox.json(&["replay", "last"]), "head"), text(&ran, "head"));
    sandbox.vac(&["verify", "last"]).ok();
}

#[test]
fn a_tree_that_is_changed_is_another_tree() {
    let sandbox = Sandbox::new();
    fill(&sandbox, "one");
    let cid = put(&sandbox, "one");
    let guest =
        Guest::new().open(ROOT, "new", "wcx").write("made by a guest").at("path_unlink_file", ROOT, "a");
    sandbox.write("guest.wasm", guest.wasm());
    let grant = format!("tree:rw={cid}::/");
    let run = || sandbox.json(&["run", "guest.wasm", "--grant", &grant]);
    let (first, second) = (run(), run());
    assert_eq!(text(&first, "head"), text(&second, "head"));
    let changed = text(&first["trees"][0], "cid").to_owned();
    assert_eq!((text(&first["trees"][0], "guest"), changed != cid), ("/", true));
    let shown = sandbox.vac(&["run", "guest.wasm", "--grant", &grant]).ok().stderr;
    assert!(shown.contains(&format!("tree  /  {changed}")), "{shown}");
    // What the run made is kept with the run, and the tree it was given is as it was.
    sandbox.vac(&["store", "rm", &cid]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["store", "get", &changed, "-o", "changed"]).ok();
    assert_eq!(sandbox.read("changed/new"), "made by a guest");
    assert!(!sandbox.path("changed/a").exists());
    sandbox.vac(&["store", "get", &cid, "-o", "old"]).ok();
    assert_eq!(sandbox.read("old/a"), "text of a");
    assert_eq!(text(&sandbox.json(&["replay", "last"]), "head"), text(&first, "head"));
    let log = sandbox.vac(&["--json", "log", "last"]).ok().out();
    assert!(log.contains("vac:run/tree"), "{log}");
}

#[test]
fn a_hostile_tree_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", Guest::new().list(ROOT).wasm());
    let file: Cid = sandbox.vac(&["store", "put", "guest.wasm"]).ok().out().trim().parse().unwrap();
    let text = |text: &str| Node::Text(text.into());
    let entry = |len| Node::List(vec![text("file"), Node::Link(file), Node::Int(len)]);
    let len = i128::from(std::fs::metadata(sandbox.path("guest.wasm")).unwrap().len());
    for name in ["..", ".", "", "a/b", "../x", "/x", "a\0"] {
        let cid = put_object(&sandbox, vec![(name.to_owned(), entry(len))]);
        sandbox.vac(&["store", "get", &cid.to_string(), "-o", "out"]).fails(6, &["tree", "entry"]);
        sandbox
            .vac(&["run", "guest.wasm", "--grant", &format!("tree:rw={cid}")])
            .fails(6, &["tree", "entry"]);
    }
    let lies = put_object(&sandbox, vec![("a".into(), entry(len + 1))]);
    sandbox.vac(&["store", "get", &lies.to_string(), "-o", "lies"]).fails(6, &["tree", "bytes"]);
    let claims = put_object(&sandbox, vec![("a".into(), entry(1 << 60))]);
    sandbox.vac(&["store", "get", &claims.to_string(), "-o", "claims"]).fails(4, &["a tree has more than"]);
    let missing = Cid::of(Codec::DagCbor, b"not there");
    let below = put_object(&sandbox, vec![("d".into(), Node::List(vec![text("dir"), Node::Link(missing)]))]);
    sandbox.vac(&["run", "guest.wasm", "--grant", &format!("tree:ro={below}")]).fails(2, &["has no object"]);
    sandbox.vac(&["run", "guest.wasm", "--grant", &format!("tree:ro={file}")]).fails(2, &["is not a tree"]);
    assert!(!sandbox.path("out").exists());
    // A link out of a tree leads nowhere in a run.
    let out = put_object(&sandbox, vec![("l".into(), Node::List(vec![text("link"), text("/etc/passwd")]))]);
    sandbox.write("guest.wasm", Guest::new().open(ROOT, "l", "r").wasm());
    let ran = sandbox.vac(&["run", "guest.wasm", "--grant", &format!("tree:rw={out}")]).ok().out();
    assert_eq!(ran, format!("open l={}\n", errno::PERM));
}

#[test]
fn copies_of_a_killed_run_are_removed() {
    let sandbox = Sandbox::new();
    fill(&sandbox, "one");
    let cid = put(&sandbox, "one");
    let trees = sandbox.home().join("trees");
    for name in ["1-0", "2-0"] {
        std::fs::create_dir_all(trees.join(name).join("0/a")).unwrap();
        std::fs::write(trees.join(format!("{name}.lock")), "").unwrap();
    }
    // The second one's run still lives.
    let held = std::fs::File::open(trees.join("2-0.lock")).unwrap();
    held.lock().unwrap();
    sandbox.write("guest.wasm", Guest::new().list(ROOT).wasm());
    sandbox.vac(&["run", "guest.wasm", "--grant", &format!("tree:ro={cid}")]).ok();
    let mut left: Vec<_> = std::fs::read_dir(&trees).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["2-0", "2-0.lock"]);
}

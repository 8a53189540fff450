//! The content-addressed store, as typed.

use crate::guest::{Guest, ROOT};
use crate::support::{Numbers, Sandbox, number, text};

const USAGE: i32 = 2;
const INTEGRITY: i32 = 6;

/// Bytes that do not compress and differ by seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    (0..len.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes()).take(len).collect()
}

fn put(sandbox: &Sandbox, bytes: &[u8]) -> String {
    if bytes.is_empty() {
        sandbox.write("empty", "");
        return sandbox.vac(&["store", "put", "empty"]).ok().out().trim().to_owned();
    }
    sandbox.vac_with_input(&["store", "put", "-"], bytes).ok().out().trim().to_owned()
}

/// The sizes stand on both sides of every border: inline, packed, a file of its own, chunks.
#[test]
fn what_is_put_is_got() {
    let sandbox = Sandbox::new();
    for len in [0, 1, 63, 64, 65, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 20 << 20] {
        let bytes = noise(len, len as u64);
        let cid = put(&sandbox, &bytes);
        assert_eq!(
            cid,
            vac_core::cid::Cid::of_raw(&bytes).to_string(),
            "the name is that of the bytes alone"
        );
        let got = sandbox.vac(&["store", "get", &cid]).ok();
        assert!(got.stdout == bytes, "{len} bytes came back as {}", got.stdout.len());
        sandbox.vac(&["store", "get", &cid, "-o", "file"]).ok();
        assert!(std::fs::read(sandbox.path("file")).unwrap() == bytes);
        assert_eq!(number(&sandbox.json(&["store", "get", &cid]), "bytes"), len as u64);
    }
    let listed = sandbox.json(&["store", "ls"]);
    assert_eq!(listed["objects"].as_array().unwrap().len(), 10);
    let checked = sandbox.json(&["store", "fsck"]);
    assert_eq!((number(&checked, "objects"), &checked["ok"]), (10, &true.into()));
}

#[test]
fn the_same_bytes_are_kept_once() {
    let sandbox = Sandbox::new();
    let bytes = noise(3 << 20, 1);
    sandbox.write("a", &bytes);
    sandbox.write("b", &bytes);
    let out = sandbox.vac(&["store", "put", "a", "b"]).ok().out();
    let cids: Vec<&str> = out.lines().collect();
    assert!(cids.len() == 2 && cids[0] == cids[1], "{out}");
    put(&sandbox, &bytes);
    assert_eq!(sandbox.json(&["store", "ls"])["objects"].as_array().unwrap().len(), 1);
    let total: u64 = sandbox.home_files("store").iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(total < 4 << 20, "{total} bytes on the disk");
}

#[test]
fn what_is_removed_is_collected_and_the_rest_is_not() {
    let sandbox = Sandbox::new();
    let (small, large) = (put(&sandbox, b"small"), put(&sandbox, &noise(2 << 20, 2)));
    let kept = put(&sandbox, b"kept");
    for cid in [&small, &large] {
        sandbox.vac(&["store", "rm", cid]).ok();
        sandbox.vac(&["store", "get", cid]).ok();
        sandbox.vac(&["store", "rm", cid]).fails(USAGE, &["was not put by hand"]);
    }
    let collected = sandbox.json(&["store", "gc"]);
    assert_eq!((number(&collected, "removed"), number(&collected, "kept")), (2, 1));
    assert!(number(&collected, "freed_bytes") >= 2 << 20);
    for cid in [&small, &large] {
        sandbox.vac(&["store", "get", cid]).fails(USAGE, &["no object"]);
    }
    assert_eq!(sandbox.vac(&["store", "get", &kept]).ok().out(), "kept");
    assert_eq!(number(&sandbox.json(&["store", "gc"]), "removed"), 0);
    assert_eq!(put(&sandbox, b"small"), small);
    assert_eq!(sandbox.vac(&["store", "get", &small]).ok().out(), "small");
}

#[test]
fn collection_keeps_what_runs_name() {
    let sandbox = Sandbox::new();
    sandbox.write("d/input", noise(3000, 9));
    let guest = Guest::new().open(ROOT, "input", "r").read().say(&"a long answer ".repeat(20));
    sandbox.write("guest.wasm", guest.wasm());
    let run = sandbox.json(&["run", "guest.wasm", "--grant", "dir:ro=d"]);
    let extra = put(&sandbox, b"not of a run");
    sandbox.vac(&["store", "rm", &extra]).ok();
    std::fs::remove_dir_all(sandbox.path("d")).unwrap();
    std::fs::remove_file(sandbox.path("guest.wasm")).unwrap();
    let collected = sandbox.json(&["store", "gc"]);
    assert_eq!(number(&collected, "removed"), 1);
    sandbox.vac(&["verify", "--all"]).ok();
    assert_eq!(text(&sandbox.json(&["replay", "last"]), "head"), text(&run, "head"));
}

/// A program that a script took from its folder is part of its record too.
#[test]
fn collection_keeps_the_kernels_of_a_script() {
    let sandbox = Sandbox::new();
    let kernels = crate::support::repository().join("ring1-kernels/prebuilt/bench.wasm");
    std::fs::copy(kernels, sandbox.path("bench.wasm")).unwrap();
    sandbox.write(
        "s.star",
        "k = kernel('bench.wasm')\nprint(k.sieve(100), k.json(1))\nput('kept by the run')\n",
    );
    assert!(sandbox.vac(&["run", "s.star"]).ok().out().starts_with("25 "));
    std::fs::remove_file(sandbox.path("bench.wasm")).unwrap();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["verify", "last"]).ok();
    sandbox.vac(&["replay", "last"]).ok();
}

/// The file that holds most of the store.
fn largest(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.home_files("store").into_iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap()
}

#[test]
fn a_corrupt_object_is_an_error_and_not_an_answer() {
    for len in [5000, 3 << 20] {
        let sandbox = Sandbox::new();
        let right = noise(len, 4);
        let cid = put(&sandbox, &right);
        let file = largest(&sandbox);
        let mut bytes = std::fs::read(&file).unwrap();
        let at = len / 2;
        bytes[at] ^= 4;
        std::fs::write(&file, &bytes).unwrap();
        let got = sandbox.vac(&["store", "get", &cid]).fails(INTEGRITY, &["corrupt"]);
        assert!(right.starts_with(&got.stdout), "what was written before the error is right");
        sandbox.vac(&["store", "get", &cid, "-o", "file"]).fails(INTEGRITY, &["corrupt"]);
        let written = std::fs::read(sandbox.path("file")).unwrap_or_default();
        assert!(right.starts_with(&written), "a wrong file was left behind");
        let fsck = sandbox.vac(&["store", "fsck"]);
        assert_eq!(fsck.code(), INTEGRITY, "{fsck:?}");
        assert!(fsck.out().starts_with("damaged"), "{}", fsck.out());
        sandbox.vac(&["run", &cid]).fails(INTEGRITY, &["corrupt"]);
    }
}

/// A store that believed its index acknowledged bytes that it had only damaged, and `get` refused
/// them later. Now a put says so itself, or repairs.
#[test]
fn a_put_is_acknowledged_only_if_it_can_be_got() {
    for len in [5000, 3 << 20] {
        let sandbox = Sandbox::new();
        let right = noise(len, 5);
        let cid = put(&sandbox, &right);
        let file = largest(&sandbox);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[len / 2] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(sandbox.vac(&["store", "get", &cid]).code(), INTEGRITY);
        let again = sandbox.vac_with_input(&["store", "put", "-"], &right);
        match again.code() {
            0 => assert!(sandbox.vac(&["store", "get", &cid]).ok().stdout == right, "{len} bytes"),
            _ => drop(again.fails(INTEGRITY, &["corrupt", &cid])),
        }
    }
}

#[test]
fn a_program_can_be_run_by_its_name() {
    let sandbox = Sandbox::new();
    sandbox.write("guest.wasm", Guest::new().say("by name\n").wasm());
    let cid = sandbox.vac(&["store", "put", "guest.wasm"]).ok().out().trim().to_owned();
    std::fs::remove_file(sandbox.path("guest.wasm")).unwrap();
    assert_eq!(sandbox.vac(&["run", &cid]).ok().out(), "by name\n");
    sandbox.write("s.star", "print(kernel('builtin:bench'))\n");
    assert_eq!(text(&sandbox.json(&["inspect", &cid]), "cid"), cid);
}

#[test]
fn putting_what_is_not_there_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "x");
    sandbox.vac(&["store", "put", "a", "missing"]).fails(USAGE, &["no file `missing`"]);
    // A directory is kept, but not with a pipe in it.
    let pipe = sandbox.bare("mkfifo").arg("pipe").status().unwrap();
    assert!(pipe.success());
    sandbox.vac(&["store", "put", "."]).fails(USAGE, &["pipe", "no file, directory or link"]);
    sandbox.vac(&["store", "put"]).fails(USAGE, &[]);
}

/// A scrub in parts finds a flipped bit, names the object, and mends it from another home.
#[test]
fn a_scrub_goes_on_and_mends_from_another_home() {
    let (sandbox, other) = (Sandbox::new(), Sandbox::new());
    let objects: Vec<Vec<u8>> = (0..6).map(|seed| noise(5000, seed)).collect();
    let cids: Vec<String> = objects.iter().map(|bytes| put(&sandbox, bytes)).collect();
    objects.iter().for_each(|bytes| _ = put(&other, bytes));
    let file = largest(&sandbox);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(32).position(|part| part == &objects[3][100..132]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let part = sandbox.json(&["store", "scrub", "--budget", "10kB"]);
    assert_eq!((number(&part, "objects"), &part["done"]), (2, &false.into()));
    let rest = sandbox.vac(&["store", "scrub"]);
    assert_eq!(rest.code(), INTEGRITY, "{rest:?}");
    assert!(rest.out().contains(&format!("lost {}", cids[3])), "{}", rest.out());
    let home = other.home();
    let from = home.to_str().unwrap();
    let mended = sandbox.vac(&["store", "scrub", "--from", from]).ok();
    assert!(mended.out().contains(&format!("mended {}", cids[3])), "{}", mended.out());
    assert!(sandbox.vac(&["store", "get", &cids[3]]).ok().stdout == objects[3]);
}

#[test]
fn what_is_lost_and_named_by_nothing_is_said_to_be_garbage() {
    let sandbox = Sandbox::new();
    let bytes = noise(50_000, 1);
    let cid = put(&sandbox, &bytes);
    sandbox.vac(&["store", "rm", &cid]).ok();
    let file = largest(&sandbox);
    let mut pack = std::fs::read(&file).unwrap();
    let at = pack.windows(32).position(|part| part == &bytes[100..132]).unwrap();
    pack[at] ^= 1;
    std::fs::write(&file, &pack).unwrap();
    let shown = sandbox.vac(&["store", "scrub"]);
    assert!(
        shown.code() == INTEGRITY && shown.out().contains(&format!("lost {cid}; nothing names it")),
        "{shown:?}"
    );
    sandbox.vac(&["store", "gc"]).ok();
    assert!(sandbox.vac(&["store", "scrub"]).ok().out().starts_with("ok"));
}

/// All files of the store together.
fn disk_bytes(sandbox: &Sandbox) -> u64 {
    sandbox.home_files("store").iter().map(|file| file.metadata().unwrap().len()).sum()
}

/// Two versions of a file and of a directory with it: the second costs little, all have the names of their bytes, and
/// what one version alone needs goes with it.
#[test]
fn versions_in_chunks_share_what_is_equal() {
    let sandbox = Sandbox::new();
    let old = noise(6 << 20, 5);
    let new = [&old[..3 << 20], b"what is new", &old[3 << 20..]].concat();
    sandbox.write("d/old", &old);
    sandbox.write("new", &new);
    let put = |file: &str| {
        let out = sandbox.vac(&["store", "put", "--chunked", file]).ok().out();
        (out.trim().to_owned(), disk_bytes(&sandbox))
    };
    let (tree, after_old) = put("d");
    let (cid, after_new) = put("new");
    assert_eq!(cid, vac_core::cid::Cid::of_raw(&new).to_string());
    assert!(after_new - after_old < 1 << 20, "{} bytes for 11 that are new", after_new - after_old);
    assert!(sandbox.vac(&["store", "get", &cid]).ok().stdout == new);
    sandbox.vac(&["store", "get", &tree, "-o", "copy"]).ok();
    assert!(std::fs::read(sandbox.path("copy/old")).unwrap() == old);
    let guest = Guest::new().open(ROOT, "old", "r").read().say("read");
    sandbox.write("guest.wasm", guest.wasm());
    sandbox.vac(&["run", "guest.wasm", "--grant", &format!("tree:ro={tree}")]).ok();
    assert_eq!(sandbox.json(&["store", "fsck"])["ok"], true);
    sandbox.vac(&["store", "rm", &cid]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    sandbox.vac(&["store", "get", &cid]).fails(USAGE, &["no object"]);
    sandbox.vac(&["store", "get", &tree, "-o", "again"]).ok();
    assert!(std::fs::read(sandbox.path("again/old")).unwrap() == old);
}

/// What is put for some time is kept so long, with all below it; to put it again keeps it longer, and never shorter.
#[test]
fn what_is_put_for_a_time_goes_after_it() {
    let sandbox = Sandbox::new();
    sandbox.write("d/file", noise(3000, 1));
    sandbox.write("long", "kept for long");
    sandbox.write("short", "kept for a moment");
    let put = |file: &str, time: &str| {
        sandbox.vac(&["store", "put", "--for", time, file]).ok().out().trim().to_owned()
    };
    let (tree, long, short) = (put("d", "1h"), put("long", "1h"), put("short", "1ms"));
    let again = put("long", "1ms");
    assert_eq!(again, long);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(number(&sandbox.json(&["store", "gc"]), "removed"), 1);
    sandbox.vac(&["store", "get", &short]).fails(USAGE, &["no object"]);
    sandbox.vac(&["store", "get", &tree, "-o", "copy"]).ok();
    sandbox.vac(&["store", "rm", &long]).ok();
    sandbox.vac(&["store", "rm", &tree]).ok();
    assert_eq!(number(&sandbox.json(&["store", "gc"]), "kept"), 0);
}

#[test]
fn objects_are_compressed_below_their_names() {
    let sandbox = Sandbox::new();
    let text = "a line that comes again and again\n".repeat(30_000);
    let small = &text[..50_000];
    sandbox.write("small", small);
    sandbox.write("large", &text);
    assert_eq!(sandbox.vac(&["store", "compress"]).ok().out(), "off\n");
    assert_eq!(sandbox.json(&["store", "compress", "3"])["level"], 3);
    let out = sandbox.vac(&["store", "put", "small", "large"]).ok().out();
    let cids: Vec<&str> = out.lines().collect();
    assert_eq!(cids[0], vac_core::cid::Cid::of_raw(small.as_bytes()).to_string());
    assert!(disk_bytes(&sandbox) < 60_000, "{} bytes", disk_bytes(&sandbox));
    assert_eq!(sandbox.vac(&["store", "compress", "off"]).ok().out(), "off\n");
    sandbox.write("other", &text[1..40_000]);
    let other = sandbox.vac(&["store", "put", "other"]).ok().out();
    assert!(sandbox.vac(&["store", "get", cids[0]]).ok().stdout == small.as_bytes());
    assert!(sandbox.vac(&["store", "get", cids[1]]).ok().stdout == text.as_bytes());
    assert!(sandbox.vac(&["store", "get", other.trim()]).ok().stdout == text.as_bytes()[1..40_000]);
    let listed = sandbox.json(&["store", "ls"]);
    let len = |cid: &str| {
        let all = listed["objects"].as_array().unwrap();
        all.iter().find(|object| object["cid"] == cid).map(|object| number(object, "bytes"))
    };
    assert_eq!((len(cids[0]), len(cids[1])), (Some(50_000), Some(text.len() as u64)));
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.json(&["store", "fsck"])["ok"], true);
    // A check that mends sees what the other one does, also what is no object.
    std::fs::write(sandbox.home().join("store/settings"), "nonsense").unwrap();
    for check in [&["store", "fsck"][..], &["store", "fsck", "--mend"]] {
        let checked = sandbox.vac(check);
        assert!(
            checked.code() == INTEGRITY && checked.out().contains("settings of the store"),
            "{checked:?}"
        );
    }
    for bad in ["0", "20", "many"] {
        sandbox.vac(&["store", "compress", bad]).fails(USAGE, &["1 to 19"]);
    }
}

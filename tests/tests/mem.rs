//! LA128 memories, as typed.

use crate::support::{Sandbox, number, text};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
const INTEGRITY: i32 = 6;

fn root(sandbox: &Sandbox, args: &[&str]) -> String {
    sandbox.vac(args).ok().out().trim().to_owned()
}

fn write(sandbox: &Sandbox, name: &str, address: &str, bytes: &[u8]) -> String {
    sandbox.vac_with_input(&["mem", "write", name, address, "-"], bytes).ok().out().trim().to_owned()
}

#[test]
fn a_memory_holds_what_was_written_anywhere_in_128_bits() {
    let sandbox = Sandbox::new();
    let empty = root(&sandbox, &["mem", "create", "m"]);
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i / 3) as u8).collect();
    write(&sandbox, "m", "0xffff_ffff_ffff:0x7fff_ffff_ff00", &bytes);
    let got = sandbox.vac(&["mem", "read", "m", "0xffffffffffff:0x7fffffffff00", "200000"]).ok();
    assert!(got.stdout == bytes);
    let got = sandbox.vac(&["mem", "read", "m", "5", "3"]).ok();
    assert_eq!(got.stdout, [0; 3]);
    let stat = sandbox.json(&["mem", "stat", "m"]);
    assert_eq!((number(&stat, "pages"), number(&stat, "page_bytes")), (5, 65536));
    let same = write(&sandbox, "m", "0xffffffffffff:0x7fffffffff00", &[0; 200_000]);
    assert_eq!(same, empty, "a memory is named by what it holds, not by how it came to");
    assert_eq!(sandbox.vac(&["mem", "read", "m", "0xffffffffffffffff", "1"]).ok().stdout, [0]);
    sandbox.vac(&["mem", "read", "m", "0xffffffffffffffff", "2"]).fails(4, &["go past 2^64"]);
    sandbox.vac(&["mem", "read", "nobody", "0", "1"]).fails(USAGE, &["there is no memory `nobody`"]);
    sandbox.vac(&["mem", "create", "m"]).fails(USAGE, &["already"]);
    sandbox.vac(&["mem", "create", "odd", "--page", "5000"]).fails(USAGE, &["5000", "4 KiB to 512 KiB"]);
}

#[test]
fn a_snapshot_is_another_future() {
    let sandbox = Sandbox::new();
    root(&sandbox, &["mem", "create", "m", "--page", "4096", "--noise", "7"]);
    let first = write(&sandbox, "m", "100", b"first");
    assert_eq!(root(&sandbox, &["mem", "snapshot", "m", "then"]), first);
    let second = write(&sandbox, "m", "0x5000", b"second");
    assert_ne!(first, second);
    let equal = sandbox.json(&["mem", "diff", "then", &first]);
    assert_eq!(equal["equal"], true);
    let differs = sandbox.vac(&["--json", "mem", "diff", "then", "m"]);
    assert_eq!(differs.code(), FAILURE);
    let ranges: serde_json::Value = serde_json::from_slice(&differs.stdout).unwrap();
    assert_eq!(ranges["ranges"], serde_json::json!([{ "shard": 0, "offset": 0x5000, "bytes": 4096 }]));
    assert_eq!(root(&sandbox, &["mem", "restore", "m", "then"]), first);
    assert_eq!(sandbox.vac(&["mem", "read", "m", "100", "5"]).ok().stdout, b"first");
    sandbox.vac(&["mem", "snapshot", "m", "then"]).fails(USAGE, &["already"]);
    sandbox.vac(&["mem", "write", &first, "0", "-"]).fails(USAGE, &["only a memory with a name"]);
    // What was never written is the seed's, the same for everybody.
    root(&sandbox, &["mem", "create", "other", "--page", "4096", "--noise", "7"]);
    let noise = sandbox.vac(&["mem", "read", "m", "0x9000", "64"]).ok().stdout;
    assert_eq!(sandbox.vac(&["mem", "read", "other", "0x9000", "64"]).ok().stdout, noise);
    assert_ne!(noise, [0; 64]);
}

#[test]
fn a_collection_keeps_memories_and_all_below_them() {
    let sandbox = Sandbox::new();
    root(&sandbox, &["mem", "create", "m", "--page", "4096"]);
    for page in [0, 1, 300, 1 << 20] {
        write(&sandbox, "m", &format!("{}", page * 4096_u64), format!("page {page}").as_bytes());
    }
    let root = write(&sandbox, "m", "0", b"page 0");
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.vac(&["mem", "read", "m", "1228800", "8"]).ok().stdout, b"page 300");
    let before = sandbox.json(&["store", "ls"])["objects"].as_array().unwrap().len();
    // The memory, three nodes of its map, and four pages.
    assert_eq!(before, 1 + 3 + 4, "{}", sandbox.vac(&["store", "ls"]).ok().out());
    sandbox.vac(&["mem", "rm", "m"]).ok();
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.json(&["store", "ls"])["objects"].as_array().unwrap().len(), 0);
    sandbox.vac(&["mem", "read", &root, "0", "1"]).fails(INTEGRITY, &[root.as_str()]);
}

#[test]
fn a_page_is_proven_to_who_has_only_the_root() {
    let sandbox = Sandbox::new();
    root(&sandbox, &["mem", "create", "m", "--page", "4096"]);
    for page in 0..5_u64 {
        write(&sandbox, "m", &(page << 20).to_string(), &[page as u8 + 1; 10]);
    }
    let root = write(&sandbox, "m", "9", b"x");
    sandbox.vac(&["mem", "prove", "m", "0x200000", "-o", "proof"]).ok();
    let elsewhere = Sandbox::new();
    let proof = std::fs::read(sandbox.path("proof")).unwrap();
    elsewhere.write("proof", &proof);
    let checked = elsewhere.json(&["mem", "check", "proof", "--root", &root]);
    assert_eq!((text(&checked, "root"), number(&checked, "page")), (root.as_str(), 512));
    elsewhere.vac(&["mem", "check", "proof", "--root", "another"]).fails(INTEGRITY, &["another"]);
    for at in (0..proof.len()).step_by(131) {
        let mut bad = proof.clone();
        bad[at] ^= 4;
        elsewhere.write("bad", &bad);
        elsewhere.vac(&["mem", "check", "bad", "--root", &root]).fails(INTEGRITY, &["expected"]);
    }
}

#[test]
fn a_trace_shows_what_each_policy_is_worth() {
    let sandbox = Sandbox::new();
    // Three hot pages, and a scan in between.
    let trace: Vec<String> =
        (0..600_u64).map(|n| if n % 2 == 0 { n / 2 % 3 } else { 1000 + n }.to_string()).collect();
    sandbox.write("trace", trace.join("\n"));
    let json = sandbox.json(&["mem", "bench", "trace", "--frames", "5"]);
    let hits = |name: &str| {
        let all = json["policies"].as_array().unwrap();
        all.iter().find(|policy| policy["policy"] == name).unwrap()["hits"].as_u64().unwrap()
    };
    assert_eq!(hits("belady"), 297);
    assert!(hits("s3-fifo") > 250 && hits("s3-fifo") <= 297, "{json}");
    assert!(hits("lru") < hits("s3-fifo"), "{json}");
    sandbox.write("trace", "1\n2\nx\n");
    sandbox.vac(&["mem", "bench", "trace"]).fails(USAGE, &["`x` is no number"]);
}

#[test]
fn a_memory_may_stand_on_a_file() {
    let sandbox = Sandbox::new();
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
    sandbox.write("table.bin", &bytes);
    let first = root(&sandbox, &["mem", "create", "m", "--page", "4096", "--object", "table.bin"]);
    std::fs::remove_file(sandbox.path("table.bin")).unwrap();
    let read = |name: &str, at: &str, len: &str| sandbox.vac(&["mem", "read", name, at, len]).ok().stdout;
    assert!(read("m", "0", "300000") == bytes);
    assert_eq!(read("m", "299999", "3"), [bytes[299_999], 0, 0], "zeros follow");
    let stat = sandbox.json(&["mem", "stat", "m"]);
    let cid = vac_core::cid::Cid::of_raw(&bytes).to_string();
    assert_eq!((number(&stat, "pages"), text(&stat["shards"][0], "backing")), (0, &*format!("object {cid}")));
    write(&sandbox, "m", "5000", b"written over");
    assert_eq!(read("m", "4999", "13")[1..], *b"written over");
    assert_eq!(read("m", "9000", "9")[..], bytes[9000..9009], "and nothing else");
    // Nobody else names the object, and it stays.
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(root(&sandbox, &["mem", "create", "again", "--page", "4096", "--object", &cid]), first);
    assert!(read("again", "0", "300000") == bytes);
    sandbox.vac(&["mem", "create", "x", "--object", "nowhere.bin"]).fails(FAILURE, &["open", "nowhere.bin"]);
    let absent = vac_core::cid::Cid::of_raw(b"absent").to_string();
    sandbox.vac(&["mem", "create", "x", "--object", &absent]).fails(USAGE, &["no object", &absent]);
    sandbox.vac(&["mem", "create", "x", "--object", &cid, "--noise", "1"]).fails(USAGE, &["--noise"]);
}

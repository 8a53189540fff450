//! What was written once must be read forever. Each of these files was made by an earlier
//! version; a change that cannot read one is a change of format and needs a new version byte.
//!
//! `ledger-1` has frames, `ledger-2` has blocks, both of profile `det-1`; `ledger-3` is the first of `det-2`;
//! `ledger-4` has columns. `VAC_BLESS=1 cargo test -p vac-tests golden` makes `ledger-4` again.
//! Do that only before the format is released; after that a new format gets a new folder beside the old one.

use std::path::PathBuf;

use vac_core::canon::{Node, decode, encode};
use vac_core::cid::{Cid, Codec};

use crate::guest::Guest;
use crate::support::{Sandbox, copy_folder, number, run_with_input, text};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Every layout that a ledger ever had, the newest last.
const LEDGERS: [&str; 4] = ["ledger-1", "ledger-2", "ledger-3", "ledger-4"];

/// The head of the run in `ledger`.
fn golden_head(ledger: &str) -> String {
    std::fs::read_to_string(golden(ledger).join("head.txt")).unwrap().trim().to_owned()
}

/// A home with the run of `ledger`.
fn with_golden(ledger: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    for folder in ["runs", "store"] {
        copy_folder(&golden(ledger).join(folder), &sandbox.home().join(folder));
    }
    sandbox
}

/// Makes `ledger-4`: a run that reads, writes, draws, looks at its clocks often enough for columns, exits and is
/// refused something.
fn bless() {
    let sandbox = Sandbox::new();
    let guest = Guest::new().args_and_env().read_from(crate::guest::Fd::Is(0)).random();
    let guest = (0..60).fold(guest, |guest, _| guest.clocks()).say(&"stored ".repeat(20)).exit(7);
    sandbox.write("golden.wasm", guest.wasm());
    let args = ["--json", "run", "golden.wasm", "--grant", "stdin", "--env", "A=1", "--seed", "5", "--", "x"];
    let made = run_with_input(sandbox.command(&args), b"input of the golden run");
    assert_eq!(made.code(), 7);
    let target = golden("ledger-4");
    let _ = std::fs::remove_dir_all(&target);
    for folder in ["runs", "store"] {
        copy_folder(&sandbox.home().join(folder), &target.join(folder));
    }
    std::fs::write(target.join("head.txt"), format!("{}\n", text(&made.json(), "head"))).unwrap();
}

#[test]
fn an_old_ledger_is_read_verified_and_replayed() {
    if std::env::var_os("VAC_BLESS").is_some() {
        bless();
    }
    for ledger in LEDGERS {
        let (sandbox, head) = (with_golden(ledger), golden_head(ledger));
        let verified = sandbox.json(&["verify", "last"]);
        assert_eq!((&verified["ok"], &verified["runs"][0]["complete"]), (&true.into(), &true.into()));
        assert_eq!(text(&verified["runs"][0], "head"), head);
        let replayed = sandbox.json(&["replay", "last"]);
        assert_eq!((text(&replayed, "head"), text(&replayed, "outcome")), (head.as_str(), "exit 7"));
        let log = sandbox.json(&["log", "last", "--class", "effect"]);
        let events = log["events"].as_array().unwrap();
        assert!(events.iter().any(|event| number(&event["request"], "bytes") > 64));
        sandbox.vac(&["store", "fsck"]).ok();
        sandbox.vac(&["store", "gc"]).ok();
        sandbox.vac(&["verify", "last"]).ok();
    }
}

/// A run of this version has the head that the run of that version had.
#[test]
fn the_same_run_still_has_the_same_head() {
    for ledger in LEDGERS {
        let replayed = with_golden(ledger).json(&["replay", "last"]);
        assert_eq!(
            replayed["same_engine"], true,
            "the engine changed: bless this again, or keep it as `{ledger}`"
        );
        assert_eq!(text(&replayed, "head"), golden_head(ledger));
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

#[test]
fn the_canonical_form_is_what_it_was() {
    let text = std::fs::read_to_string(golden("canon-1.txt")).unwrap();
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .collect();
    assert_eq!(lines.len(), 46);
    for (name, hex) in lines {
        let bytes = bytes_of(hex);
        match (decode::<Node>(&bytes, name), name.starts_with("refused")) {
            (Ok(node), false) => assert_eq!(encode(&node), bytes, "{name}"),
            (Err(_), true) => {}
            (read, _) => panic!("{name}: {read:?}"),
        }
    }
}

#[test]
fn values_have_the_bytes_that_the_standard_says() {
    let text = std::fs::read_to_string(golden("canon-1.txt")).unwrap();
    let bytes = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).map(bytes_of).unwrap()
    };
    let list = |items: &[i128]| Node::List(items.iter().map(|item| Node::Int(*item)).collect());
    let values = [
        ("1000", Node::Int(1000)),
        ("minus-1000", Node::Int(-1000)),
        ("u64-max", Node::Int(u64::MAX.into())),
        ("bytes", Node::Bytes(vec![1, 2, 3, 4])),
        ("text", Node::Text("IETF".into())),
        ("list", list(&[1, 2, 3])),
        ("map", Node::Map(vec![("a".into(), Node::Int(1)), ("b".into(), list(&[2, 3]))])),
        ("link", Node::Link(Cid::of_raw(b""))),
    ];
    for (name, value) in values {
        assert_eq!(encode(&value), bytes(name), "{name}");
    }
}

/// The digests are the test vectors of BLAKE3 for nothing and `abc`; the rest is CIDv1.
#[test]
fn names_are_what_they_were() {
    let vectors = [
        (Codec::Raw, &b""[..], "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi"),
        (Codec::DagCbor, b"", "bafyr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi"),
        (Codec::Raw, b"abc", "bafkr4ideg6z2yocgkez77nr3outtvdnvjdcvqrs5phnqh7jvtrwnlpm5qu"),
    ];
    for (codec, bytes, name) in vectors {
        let cid = Cid::of(codec, bytes);
        assert_eq!(cid.to_string(), name);
        assert_eq!(name.parse::<Cid>().unwrap(), cid);
        assert_eq!(Cid::try_from_bytes(&cid.to_bytes()), Some(cid));
    }
}

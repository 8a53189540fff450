//! Object stores below a home: named, filled, and asked for what the home lost.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::net3::{ask, interrupt, serving};
use crate::s3_server::{BUCKET, KEY, Liar, Server, serve};
use crate::support::{Ran, Sandbox, number, repository, run, run_with_input, text};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
const INTEGRITY: i32 = 6;

/// A home with the tier `s3`, and who serves it.
struct Tiered {
    sandbox: Sandbox,
    bucket: tempfile::TempDir,
    server: Option<Server>,
}

impl Tiered {
    fn new() -> Self {
        let (sandbox, bucket) = (Sandbox::new(), tempfile::tempdir().unwrap());
        let server = serve(bucket.path());
        add_s3(&sandbox, &server.endpoint);
        Self { sandbox, bucket, server: Some(server) }
    }

    fn vac(&self, args: &[&str]) -> Ran {
        run(with_key(self.sandbox.command(args)))
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        self.vac(&[&["--json"], args].concat()).ok().json()
    }

    /// A memory with `len` bytes in it.
    fn fill(&self, name: &str, len: usize) -> Vec<u8> {
        self.sandbox.vac(&["mem", "create", name, "--page", "4096"]).ok();
        let bytes = noise(len);
        self.sandbox.vac_with_input(&["mem", "write", name, "100", "-"], &bytes).ok();
        bytes
    }

    fn read(&self, name: &str, len: usize) -> Ran {
        self.vac(&["mem", "read", name, "100", &len.to_string()])
    }

    /// The file of the bucket that holds an object.
    fn file_of(&self, cid: &str) -> std::path::PathBuf {
        let fan_out = &cid[cid.len() - 2..];
        self.bucket.path().join(BUCKET).join("lab/objects").join(fan_out).join(cid)
    }
}

fn add_s3(sandbox: &Sandbox, endpoint: &str) {
    let url = format!("s3://{BUCKET}/lab");
    sandbox
        .vac(&["tier", "add", "s3", &url, "--endpoint", endpoint, "--attempts", "2", "--timeout", "5s"])
        .ok();
}

fn with_key(mut command: Command) -> Command {
    command.env("AWS_ACCESS_KEY_ID", KEY.0).env("AWS_SECRET_ACCESS_KEY", KEY.1);
    command
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// All small objects of the home are gone.
fn lose_packs(sandbox: &Sandbox) {
    let packs = sandbox.home_files("store/packs");
    assert!(!packs.is_empty());
    packs.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
}

/// One bit of each pack is another one, in the middle.
fn rot_packs(sandbox: &Sandbox) {
    for pack in sandbox.home_files("store/packs").iter().filter(|path| path.extension().unwrap() == "pack") {
        let mut bytes = std::fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(pack, bytes).unwrap();
    }
}

#[test]
fn a_lost_pack_is_mended_from_s3() {
    let mut tiered = Tiered::new();
    let bytes = tiered.fill("m", 300_000);
    let pushed = tiered.json(&["tier", "push", "s3"]);
    let pushed = &pushed["tiers"][0];
    assert!(number(pushed, "sent") > 70 && number(pushed, "sent") == number(pushed, "objects"), "{pushed}");
    let again = tiered.json(&["tier", "push"]);
    assert_eq!((number(&again["tiers"][0], "sent"), &again["tiers"][0]["there"]), (0, &pushed["objects"]));
    lose_packs(&tiered.sandbox);
    let read = tiered.read("m", 300_000).ok();
    assert!(read.stdout == bytes && read.stderr.contains("tier `s3`: gave"), "{}", read.stderr);
    // It is here again: nobody has to be asked.
    drop(tiered.server.take());
    let read = tiered.read("m", 300_000).ok();
    assert!(read.stdout == bytes && read.stderr.is_empty(), "{}", read.stderr);
}

#[test]
fn what_rotted_is_mended_when_it_is_read_and_by_a_scrub() {
    let tiered = Tiered::new();
    let bytes = tiered.fill("m", 100_000);
    tiered.vac(&["tier", "push", "s3", "m"]).ok();
    rot_packs(&tiered.sandbox);
    let read = tiered.read("m", 100_000).ok();
    assert!(read.stdout == bytes && read.stderr.contains("corrupt"), "{}", read.stderr);
    rot_packs(&tiered.sandbox);
    let scrubbed = tiered.vac(&["store", "scrub", "--from", "s3"]).ok();
    assert!(scrubbed.out().contains("mended ") && !scrubbed.out().contains("lost "), "{}", scrubbed.out());
    assert!(tiered.sandbox.vac(&["mem", "read", "m", "100", "100000"]).ok().stdout == bytes);
}

/// The store's own error came first, and that of the tier that would have mended it was said nowhere.
#[test]
fn a_tier_that_cannot_mend_what_rotted_is_named() {
    let mut tiered = Tiered::new();
    let endpoint = tiered.server.as_ref().unwrap().endpoint.clone();
    let bytes = tiered.fill("m", 100_000);
    tiered.vac(&["tier", "push", "s3", "m"]).ok();
    rot_packs(&tiered.sandbox);
    let says = |read: &Ran, words: &[&str]| {
        assert_eq!(read.code(), INTEGRITY, "{read:?}");
        let line = read.stderr.lines().find(|line| line.starts_with("tier `s3`: could not be asked: "));
        assert!(words.iter().all(|word| line.unwrap_or_default().contains(word)), "{read:?}");
        assert!(read.stderr.contains("error: "), "{read:?}");
    };
    let read = tiered.sandbox.vac(&["mem", "read", "m", "100", "100000"]);
    says(&read, &["`AWS_ACCESS_KEY_ID` is not set"]);
    drop(tiered.server.take());
    says(&tiered.read("m", 100_000), &["the object store `s3`", &endpoint, "after 2 attempts"]);
    // Nothing of that keeps it from being mended.
    let server = serve(tiered.bucket.path());
    tiered.sandbox.vac(&["tier", "rm", "s3"]).ok();
    add_s3(&tiered.sandbox, &server.endpoint);
    assert!(tiered.read("m", 100_000).ok().stdout == bytes);
}

/// A run that reads what its home lost is the run of a home that lost nothing.
#[test]
fn a_run_notices_nothing_of_tiers() {
    let tiered = Tiered::new();
    let whole = Sandbox::new();
    let sorter = repository().join("ring1-kernels/prebuilt/sorter.wasm").display().to_string();
    let call = |call: &'static str| ["call", &sorter, call, "--grant", "mem:rw=big::m"].map(str::to_owned);
    let fill = call("fill(\"m\", 50000, 7)");
    let sort = call("sort(\"m\", 50000)");
    let heads: Vec<String> = [&tiered.sandbox, &whole]
        .map(|sandbox| {
            sandbox.vac(&["mem", "create", "big"]).ok();
            sandbox.vac(&fill.each_ref().map(String::as_str)).ok();
            if std::ptr::eq(sandbox, &tiered.sandbox) {
                tiered.vac(&["tier", "push", "s3", "big"]).ok();
                lose_packs(sandbox);
            }
            let args = [&["--json"], &sort.each_ref().map(String::as_str)[..]].concat();
            let ran = run(with_key(sandbox.command(&args))).ok();
            assert_eq!(ran.stderr.contains("tier `s3`: gave"), std::ptr::eq(sandbox, &tiered.sandbox));
            text(&ran.json(), "head").to_owned()
        })
        .into();
    assert_eq!(heads[0], heads[1]);
    tiered.sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn who_watches_a_run_sees_what_came_from_below() {
    let tiered = Tiered::new();
    let source = repository().join("tests/guests/shards.wat");
    tiered.sandbox.write("g.wasm", wat::parse_file(source).unwrap());
    tiered.fill("m", 10_000);
    tiered.vac(&["tier", "push"]).ok();
    lose_packs(&tiered.sandbox);
    let typed = ["call", "g.wasm", "byte(0, 100)", "spin()", "--grant", "mem:rw=m", "--record=off"];
    let mut running = with_key(tiered.sandbox.command(&typed));
    let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let seen = (0..3000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let json = tiered.sandbox.json(&["mem", "watch", "m"]);
        let watched = json["memories"].as_array().unwrap().first().cloned()?;
        (watched["counters"]["below_found"].as_u64()? > 0).then_some(watched)
    });
    let shown = tiered.sandbox.vac(&["mem", "watch", "-n", "1"]).ok().out();
    running.kill().unwrap();
    running.wait().unwrap();
    let counters = &seen.unwrap()["counters"];
    assert_eq!(counters["mended"], counters["below_found"]);
    assert_eq!(counters["below_failed"], 0);
    let found = counters["below_found"].as_u64().unwrap();
    let of_tier: Vec<u64> = counters
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.starts_with("found in "))
        .filter_map(|(_, value)| value.as_u64())
        .collect();
    assert_eq!(of_tier, [found]);
    let header = shown.lines().next().unwrap_or_default();
    assert!(header.contains("TIER") && header.contains("READ/S"), "{shown}");
    assert!(shown.lines().filter(|line| line.contains(" store ")).count() == 1, "{shown}");
}

#[test]
fn a_store_that_is_down_is_named_and_local_work_goes_on() {
    let mut tiered = Tiered::new();
    let endpoint = tiered.server.as_ref().unwrap().endpoint.clone();
    tiered.fill("m", 10_000);
    tiered.vac(&["tier", "push"]).ok();
    drop(tiered.server.take());
    lose_packs(&tiered.sandbox);
    let read = tiered.read("m", 10_000);
    assert!(read.stdout.is_empty());
    read.fails(FAILURE, &["the object store `s3`", &endpoint, "after 2 attempts", "cannot read"]);
    tiered.vac(&["tier", "check", "s3"]).fails(FAILURE, &["after 2 attempts", &endpoint]);
    tiered.vac(&["tier", "push", "s3"]).fails(FAILURE, &["after 2 attempts"]);
    let bytes = tiered.fill("new", 10_000);
    assert!(tiered.read("new", 10_000).ok().stdout == bytes);
}

#[test]
fn a_wrong_key_is_refused_at_once_and_said_nowhere() {
    let tiered = Tiered::new();
    tiered.fill("m", 10_000);
    let with = |secret: &str| {
        let mut command = tiered.sandbox.command(&["tier", "push", "s3"]);
        command.env("AWS_ACCESS_KEY_ID", KEY.0).env("AWS_SECRET_ACCESS_KEY", secret);
        run(command)
    };
    let ran = with("hunter2hunter2");
    assert!(!ran.stderr.contains("hunter2") && ran.stderr.contains("hint: check its credentials"), "{ran:?}");
    ran.fails(FAILURE, &["the object store `s3`", "after 1 attempt:"]);
    let ran = with("hunter2 hunter2");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    ran.fails(USAGE, &["AWS_SECRET_ACCESS_KEY"]);
    tiered.sandbox.vac(&["tier", "push", "s3"]).fails(USAGE, &["`AWS_ACCESS_KEY_ID` is not set"]);
    // Nothing of the home has the key, whatever worked.
    tiered.vac(&["tier", "push", "s3"]).ok();
    for file in tiered.sandbox.home_files("") {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(KEY.1.len()).any(|part| part == KEY.1.as_bytes()), "{}", file.display());
    }
}

#[test]
fn a_key_may_be_in_a_file() {
    let tiered = Tiered::new();
    tiered.sandbox.write("id", format!("{}\n", KEY.0));
    tiered.sandbox.write("key", KEY.1);
    let endpoint = tiered.server.as_ref().unwrap().endpoint.clone();
    let sources = ["--key-id", "file:id", "--secret", "file:key"];
    tiered
        .sandbox
        .vac(&[&["tier", "add", "f", "s3://pages/f", "--endpoint", &endpoint], &sources[..]].concat())
        .ok();
    tiered.fill("m", 10_000);
    tiered.sandbox.vac(&["tier", "push", "f"]).ok();
    assert_eq!(tiered.sandbox.json(&["tier", "check", "f"])["ok"], true);
}

/// Servers that lie: with old answers, parts, other bytes, and lengths that nobody has.
#[test]
fn no_answer_becomes_a_wrong_byte() {
    let said: [(&str, Vec<u8>, i32); 4] = [
        ("404 Not Found", Vec::new(), INTEGRITY),
        // The root is asked for by a range, which this is no answer to.
        ("200 OK", b"other bytes".to_vec(), FAILURE),
        ("500 Oops", vec![b'x'; 10], FAILURE),
        ("206 Partial Content", vec![0; 4096], INTEGRITY),
    ];
    for (status, body, code) in said {
        for promised in [body.len(), body.len() + 900_000_000_000] {
            let sandbox = Sandbox::new();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {promised}\r\nETag: \"x\"\r\n\
                 Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Range: bytes 0-{}/{promised}\r\n\r\n",
                body.len().max(1) - 1
            );
            let answer = [head.as_bytes(), &body].concat();
            let liar = Liar::new(move |_| answer.clone());
            add_s3(&sandbox, &liar.endpoint);
            sandbox.vac(&["mem", "create", "m", "--page", "4096"]).ok();
            sandbox.vac_with_input(&["mem", "write", "m", "0", "-"], &noise(9000)).ok();
            assert_eq!(liar.asked(), 0, "nobody is asked for what is here");
            lose_packs(&sandbox);
            let ran = run(with_key(sandbox.command(&["mem", "read", "m", "0", "9000"])));
            assert!(ran.stdout.is_empty() && liar.asked() > 0, "{status} {promised}: {ran:?}");
            let is_honest = promised == body.len();
            assert!(!is_honest || ran.code() == code, "{status} {promised}: {ran:?}");
            ran.error_line();
        }
    }
}

#[test]
fn a_check_says_what_a_tier_lacks_and_has_badly() {
    let tiered = Tiered::new();
    tiered.fill("m", 20_000);
    let lacking = tiered.vac(&["tier", "check", "s3"]);
    assert_eq!(lacking.code(), FAILURE);
    assert!(lacking.out().starts_with("incomplete: tier s3 has 0 of "), "{}", lacking.out());
    tiered.vac(&["tier", "push", "s3", "m"]).ok();
    assert!(tiered.vac(&["tier", "check", "s3", "m"]).ok().out().starts_with("ok: "));
    let root = text(&tiered.json(&["mem", "stat", "m"]), "root").to_owned();
    let file = tiered.file_of(&root);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    tiered.vac(&["tier", "check", "s3"]).ok();
    let bad = tiered.vac(&["--json", "tier", "check", "s3", "--read"]);
    assert_eq!((bad.code(), bad.json()["bad"].as_array().unwrap().len()), (INTEGRITY, 1), "{bad:?}");
    std::fs::write(&file, &bytes[1..]).unwrap();
    assert_eq!(tiered.vac(&["tier", "check", "s3"]).code(), INTEGRITY, "another length is seen unread");
    let mended = tiered.json(&["tier", "push", "s3", "--read"]);
    assert_eq!(mended["tiers"][0]["replaced"], serde_json::json!([root]));
    tiered.vac(&["tier", "check", "s3", "--read"]).ok();
}

#[test]
fn tiers_are_named_listed_and_forgotten() {
    let sandbox = Sandbox::new();
    sandbox.vac(&["tier", "push"]).fails(USAGE, &["this home has no tier"]);
    let folder = sandbox.path("pages");
    std::fs::create_dir(&folder).unwrap();
    let url = format!("file://{}", folder.display());
    sandbox.vac(&["tier", "add", "disk", &url]).ok();
    sandbox.vac(&["tier", "add", "ram", "memory:"]).ok();
    sandbox.vac(&["tier", "add", "disk", "memory:"]).fails(USAGE, &["already"]);
    sandbox.vac(&["tier", "add", "x", "ftp://y"]).fails(USAGE, &["file:///FOLDER"]);
    for endpoint in ["http://h:99999", "http://[zz]"] {
        let typed = ["tier", "add", "x", "s3://pages", "--endpoint", endpoint];
        sandbox.vac(&typed).fails(USAGE, &["https://HOST[:PORT]"]);
    }
    let ran = sandbox.vac(&["tier", "add", "x", "s3://pages", "--secret", "hunter2hunter2"]);
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    ran.fails(USAGE, &["where it is"]);
    let listed = sandbox.json(&["tier", "ls"]);
    let names: Vec<&str> =
        listed["tiers"].as_array().unwrap().iter().map(|tier| text(tier, "name")).collect();
    assert_eq!(names, ["disk", "ram"]);
    sandbox.vac(&["tier", "rm", "ram"]).ok();
    sandbox.vac(&["tier", "rm", "ram"]).fails(USAGE, &["there is no tier `ram`"]);
    // Objects of all kinds go to a tier, and come back.
    let long = noise(3 << 20);
    let cid = sandbox.vac_with_input(&["store", "put", "-"], &long).ok().out().trim().to_owned();
    sandbox.vac(&["tier", "push"]).ok();
    let large = sandbox.home_files("store/large");
    std::fs::write(&large[0], &long[1..]).unwrap();
    assert!(sandbox.vac(&["store", "scrub", "--from", "disk"]).ok().out().contains("mended "));
    assert!(sandbox.vac(&["store", "get", &cid]).ok().stdout == long);
    // A list that somebody broke stops what needs tiers, and says where.
    std::fs::write(sandbox.home().join("tiers.toml"), "version = 1\n[[tier]]\nname = \"a\"\n").unwrap();
    sandbox.vac(&["mem", "create", "m"]).fails(USAGE, &["tiers.toml", "line 2", "url"]);
    sandbox.vac(&["store", "ls"]).ok();
    let piped = run_with_input(sandbox.command(&["store", "put", "-"]), b"x");
    piped.ok();
}

/// All that a home keeps, not only memories: named by the check, and whole after it.
#[test]
fn a_check_mends_what_is_bad_or_gone_from_the_tiers_of_the_home() {
    let (sandbox, tier) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", tier.path().display());
    sandbox
        .vac(&["tier", "add", "lost", "file:///there/is/no/such/folder"])
        .fails(USAGE, &["there is no folder"]);
    sandbox.vac(&["tier", "add", "copy", &url]).ok();
    let objects: Vec<Vec<u8>> = (0..40).map(|n| noise(3000 + n)).collect();
    let put = |bytes: &Vec<u8>| {
        sandbox.write("object", bytes);
        sandbox.vac(&["store", "put", "object"]).ok().out().trim().to_owned()
    };
    let cids: Vec<String> = objects.iter().map(put).collect();
    sandbox.vac(&["tier", "push"]).ok();
    let garbage = put(&noise(50_000));
    sandbox.vac(&["store", "rm", &garbage]).ok();
    lose_packs(&sandbox);
    let lost = crate::support::Sandbox::new();
    crate::support::copy_folder(&sandbox.home(), &lost.home());
    assert!(lost.vac(&["store", "fsck", "--mend"]).ok().out().starts_with("mended: "));
    let mended = sandbox.vac(&["--json", "store", "fsck", "--mend"]);
    // It ended with 6, as if nothing could be had again.
    let report = mended.ok().json();
    assert_eq!(report["mended"].as_array().unwrap().len(), cids.len(), "{report}");
    assert_eq!(report["lost"], serde_json::json!([]), "garbage is nobody's");
    for (cid, bytes) in cids.iter().zip(&objects) {
        assert!(sandbox.vac(&["store", "get", cid]).ok().stdout == *bytes);
    }
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.json(&["store", "fsck", "--mend"])["lost"], serde_json::json!([]));
    // In an object and not in the header of a record, which nobody needs who has the index.
    let pack = sandbox
        .home_files("store/packs")
        .into_iter()
        .find(|path| path.extension().unwrap() == "pack")
        .unwrap();
    rot(&pack, &objects[0][..3000]);
    let scrubbed = sandbox.vac(&["store", "scrub"]);
    assert!(scrubbed.code() == 0 && scrubbed.out().contains("mended bafkr4"), "{scrubbed:?}");
    // The bad copy is named until it is collected; nothing is lost by it.
    let again = sandbox.json(&["store", "scrub"]);
    assert_eq!((again["problems"].as_array().map(Vec::len), number(&again, "unmended")), (Some(1), 0));
    sandbox.vac(&["store", "gc"]).ok();
    assert_eq!(sandbox.json(&["store", "scrub"])["problems"], serde_json::json!([]));
}

/// Flips a bit of the part of `pack` that is `bytes`.
fn rot(pack: &Path, bytes: &[u8]) {
    let mut all = std::fs::read(pack).unwrap();
    let at = all.windows(bytes.len()).position(|part| part == bytes).unwrap();
    all[at + bytes.len() / 2] ^= 1;
    std::fs::write(pack, all).unwrap();
}

/// A service hashes what its home keeps beside its requests, and mends it from a tier.
#[test]
fn what_rots_under_a_service_is_mended_beside_it() {
    let (sandbox, tier) = (Sandbox::new(), tempfile::tempdir().unwrap());
    sandbox.vac(&["tier", "add", "copy", &format!("file://{}", tier.path().display())]).ok();
    sandbox.write("k.wasm", std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap());
    let object = noise(5000);
    sandbox.write("object", &object);
    let cid = sandbox.vac(&["store", "put", "object"]).ok().out().trim().to_owned();
    sandbox.vac(&["tier", "push"]).ok();
    let packs = sandbox.home_files("store/packs");
    let has_it = |path: &&PathBuf| std::fs::read(path).unwrap().windows(5000).any(|part| part == object);
    rot(packs.iter().find(has_it).unwrap(), &object);
    let (mut child, at) = serving(&sandbox, &["--scrub", "1GiB"]);
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || said.for_each(|line| drop(tell.send(line))));
    let mended = loop {
        let line = told.recv_timeout(std::time::Duration::from_secs(60)).expect("nothing was mended");
        if line.starts_with("scrub: mended") {
            break line;
        }
    };
    assert_eq!(mended, format!("scrub: mended {cid}"));
    assert!(ask(at, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert!(sandbox.vac(&["store", "get", &cid]).ok().stdout == object);
    assert_eq!(interrupt(&mut child), Some(0));
}

#[test]
fn a_scrub_goes_on_until_it_is_interrupted() {
    let sandbox = Sandbox::new();
    for n in 0..6 {
        sandbox.write("object", noise(10_000 + n));
        sandbox.vac(&["store", "put", "object"]).ok();
    }
    let mut command = sandbox.command(&["--json", "store", "scrub", "--budget", "20kB", "--every", "50ms"]);
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = serde_json::Deserializer::from_reader(running.stdout.take().unwrap());
    let parts: Vec<serde_json::Value> = said.into_iter().take(6).map(Result::unwrap).collect();
    let id = running.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let done: Vec<bool> = parts.iter().map(|part| part["done"] == true).collect();
    assert!(done.contains(&true) && done.contains(&false), "{parts:?}");
    assert!(
        parts.iter().all(|part| number(part, "bytes") > 0 && number(part, "bytes") <= 30_010),
        "{parts:?}"
    );
}

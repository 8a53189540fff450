//! What was learned of a run is enough for it, and nothing of it can be taken away.

use crate::guest::{Fd, Guest, ROOT, ROOT_2};
use crate::manifests::manifest;
use crate::support::{Ran, Sandbox, run_with_input, text};

const USAGE: i32 = 2;

fn sandbox(guest: Guest) -> Sandbox {
    let sandbox = Sandbox::new();
    for (name, content) in [("in", "text of in"), ("other", "not read"), ("data/a", "A"), ("data/sub/b", "B")]
    {
        sandbox.write(name, content);
    }
    sandbox.write("tool.wasm", guest.wasm());
    sandbox
}

/// The grants that a manifest asks for; an optional one begins with `?`.
fn asks(manifest: &str) -> Vec<String> {
    let mut asks: Vec<String> = Vec::new();
    for line in manifest.lines() {
        if let Some(grant) = line.strip_prefix("grant = ") {
            asks.push(grant.trim_matches('"').to_owned());
        } else if line == "optional = true" {
            let last = asks.pop().unwrap();
            asks.push(format!("?{last}"));
        }
    }
    asks
}

fn variables(sandbox: &Sandbox, args: &[&str], input: &[u8]) -> Ran {
    let mut command = sandbox.command(args);
    command.env("GIVEN", "from outside");
    run_with_input(command, input)
}

/// Learns a manifest, then: with it the same comes out, whatever else is granted; and without any one thing of it
/// that is not optional, something else.
fn learned(sandbox: &Sandbox, args: &[&str], input: &[u8], undo: &dyn Fn()) -> Vec<String> {
    let learn = [&["learn", "tool.wasm", "--yes"], args].concat();
    let first = variables(sandbox, &learn, input).ok();
    let asked = asks(&sandbox.read("tool.vac.toml"));
    let required: Vec<&str> = asked.iter().map(String::as_str).filter(|ask| !ask.starts_with('?')).collect();
    let again = || {
        undo();
        let all = ["--grant", "dir:rw=.", "--grant", "stdin", "--grant", "env:GIVEN"];
        variables(sandbox, &[&["run", "tool.wasm"], &all[..]].concat(), input)
    };
    let ran = again().ok();
    assert_eq!(ran.out(), first.out(), "what was learned is not enough: {asked:?}");
    for without in &required {
        let rest: Vec<&str> = asked.iter().map(String::as_str).filter(|ask| ask != without).collect();
        sandbox.write("tool.vac.toml", manifest(&rest));
        let ran = again();
        assert!(ran.code() != 0 || ran.stdout != first.stdout, "`{without}` is not needed: {asked:?}");
    }
    std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    asked
}

#[test]
fn files_are_learned_one_by_one() {
    let guest = Guest::new().open(ROOT, "in", "r").read().open(ROOT, "out", "wct").write("made");
    let sandbox = sandbox(guest.open(ROOT, "data/a", "r").read().stat(ROOT, "data/sub/b"));
    let undo = || drop(std::fs::remove_file(sandbox.path("out")));
    let asked = learned(&sandbox, &["--write"], b"", &undo);
    assert_eq!(asked, ["file:ro=data/a", "file:ro=data/sub/b", "file:ro=in", "file:rw=out"]);
}

#[test]
fn a_listing_and_changed_names_need_the_directory() {
    let guest = Guest::new().open(ROOT, "data/sub", "rd").list(Fd::Last).open(ROOT, "in", "r").read();
    learned_once(&sandbox(guest), &["dir:ro=data/sub", "file:ro=in"]);
    let listed = Guest::new().list(ROOT).open(ROOT, "in", "r").read();
    learned_once(&sandbox(listed), &["dir:ro=."]);
    // That the folder is one is known to whoever has a file of it.
    let looked = Guest::new().stat(ROOT, ".").open(ROOT, "in", "r").read();
    assert_eq!(learned(&sandbox(looked), &[], b"", &|| {}), ["file:ro=in"]);
    assert_eq!(learned(&sandbox(Guest::new().stat(ROOT, ".")), &[], b"", &|| {}), ["dir:ro=."]);
    let guest = Guest::new().at("path_create_directory", ROOT, "new").open(ROOT, "new/x", "wc").write("x");
    let sandbox = sandbox(guest.rename((ROOT, "new/x"), (ROOT, "new/y")).open(ROOT, "in", "r").read());
    let undo = || drop(std::fs::remove_dir_all(sandbox.path("new")));
    assert_eq!(learned(&sandbox, &["--write"], b"", &undo), ["dir:rw=."]);
}

#[test]
fn what_is_looked_for_and_not_there_is_optional() {
    let guest = Guest::new().open(ROOT, "conf/tool.ini", "r").open(ROOT, "in", "r").read();
    let sandbox = sandbox(guest);
    let asked = learned(&sandbox, &[], b"", &|| {});
    assert_eq!(asked, ["file:ro=in", "?file:ro=conf/tool.ini"]);
    // It says "not there" to the guest, not "not permitted", as it did while it was learned.
    sandbox.write("tool.vac.toml", manifest(&["file:ro=in", "?file:ro=conf/tool.ini"]));
    let seen = sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=."]).ok().out();
    assert!(seen.starts_with("open conf/tool.ini=44\n"), "{seen}");
    sandbox.write("conf/tool.ini", "now");
    let seen = sandbox.vac(&["run", "tool.wasm", "--grant", "dir:ro=."]).ok().out();
    assert!(seen.starts_with("open conf/tool.ini=0\n"), "{seen}");
}

#[test]
fn input_and_variables_are_learned_if_they_were_read() {
    let guest = Guest::new().args_and_env().read_from(Fd::Is(0));
    let asked = learned(&sandbox(guest), &["--grant", "env:GIVEN"], b"typed", &|| {});
    assert_eq!(asked, ["env:GIVEN", "stdin"]);
    let sandbox = sandbox(Guest::new().open(ROOT, "in", "r").read());
    assert_eq!(
        learned(&sandbox, &["--grant", "env:GIVEN", "--within", "."], b"typed", &|| {}),
        ["file:ro=in"]
    );
}

/// Story: a part that a stream of 0.3 gave did not count as read, so that with what was learned the input was at its end.
#[test]
fn input_is_learned_of_a_program_of_wasi_0_3() {
    let sandbox = Sandbox::new();
    let prebuilt = crate::support::repository().join("ring1-kernels/prebuilt/wasi3.wasm");
    std::fs::copy(prebuilt, sandbox.path("tool.wasm")).unwrap();
    let typed = |command: &str, case: &str| {
        let args = [command, "tool.wasm", "--grant", "stdin", "--", case];
        let yes = if command == "learn" { &["--yes"][..] } else { &[] };
        let args = [&args[..2], yes, &args[2..]].concat();
        variables(&sandbox, &args, b"typed").ok().out()
    };
    assert_eq!(typed("learn", "echo"), "typed");
    assert_eq!(asks(&sandbox.read("tool.vac.toml")), ["stdin"]);
    assert_eq!(typed("run", "echo"), "typed");
    std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    typed("learn", "hello");
    assert_eq!(asks(&sandbox.read("tool.vac.toml")), [""; 0], "what was not read");
}

/// A namespace that was only read is asked for to be read.
#[test]
fn a_namespace_is_learned_as_it_was_used() {
    let sandbox = Sandbox::new();
    let prebuilt = crate::support::repository().join("ring1-kernels/prebuilt/probe.wasm");
    std::fs::copy(prebuilt, sandbox.path("tool.wasm")).unwrap();
    let granted = ["--grant", "kv:rw=notes::mine", "--grant", "kv:rw=not-opened"];
    for (call, asked, other) in [
        ("kv-set(\"mine\", [(\"a\", \"1\")])", "kv:rw=mine", Some("kv:ro=notes::mine")),
        ("kv-add(\"mine\", \"n\", 5)", "kv:rw=mine", Some("kv:ro=notes::mine")),
        ("kv-keys(\"mine\")", "kv:ro=mine", None),
        ("kv-get(\"mine\", \"a\")", "kv:ro=mine", None),
    ] {
        let learn = [&["learn", "tool.wasm", "--yes", "--call", call], &granted[..]].concat();
        let told = sandbox.vac(&learn).ok();
        assert_eq!(asks(&sandbox.read("tool.vac.toml")), [asked], "{call}");
        let call = |grant| sandbox.vac(&["call", "tool.wasm", call, "--grant", grant]).out();
        assert_eq!(call("kv:rw=notes::mine").starts_with("ok"), told.out().starts_with("ok"));
        if let Some(less) = other {
            assert!(!call(less).starts_with("ok"), "`{less}` is enough");
        }
        std::fs::remove_file(sandbox.path("tool.vac.toml")).unwrap();
    }
}

/// Everything that has a name is inside of `.`, and what was granted beside it is not.
#[test]
fn what_is_no_path_is_in_no_directory() {
    let sandbox = sandbox(Guest::new().list(ROOT).args_and_env().read_from(Fd::Is(0)));
    let learn = ["learn", "tool.wasm", "--yes", "--grant", "env:GIVEN"];
    variables(&sandbox, &learn, b"typed").ok();
    assert_eq!(asks(&sandbox.read("tool.vac.toml")), ["dir:ro=.", "env:GIVEN", "stdin"]);
}

/// A single granted file is not followed if it is a link, and a path that goes back goes through folders that
/// it does not name: both need the folder.
#[test]
fn links_and_winding_paths_need_the_folder_around_them() {
    let sandbox_1 = sandbox(Guest::new().open(ROOT, "link", "r").read());
    std::os::unix::fs::symlink("in", sandbox_1.path("link")).unwrap();
    assert_eq!(learned(&sandbox_1, &[], b"", &|| {}), ["dir:ro=."]);
    let winding = sandbox(Guest::new().open(ROOT, "data/../in", "r").read());
    assert_eq!(learned(&winding, &[], b"", &|| {}), ["dir:ro=."]);
    let through = sandbox(Guest::new().open(ROOT, "data", "rd").open(Fd::Last, "sub/b", "r").read());
    learned_once(&through, &["dir:ro=data"]);
}

/// Only what is asked: a folder of its own has another number than it had, and these guests go by numbers.
fn learned_once(sandbox: &Sandbox, expected: &[&str]) {
    sandbox.vac(&["learn", "tool.wasm", "--yes"]).ok();
    assert_eq!(asks(&sandbox.read("tool.vac.toml")), expected);
}

#[test]
fn nothing_runs_before_somebody_agrees() {
    let sandbox = sandbox(Guest::new().open(ROOT, "in", "r").read());
    let refused = sandbox.vac(&["learn", "tool.wasm"]).fails(USAGE, &["nobody can be asked"]);
    assert!(
        refused.stderr.contains("`dir:ro=.`, `stdin`") && refused.stderr.contains("--yes"),
        "{refused:?}"
    );
    assert!(sandbox.home_files("runs").is_empty() && !sandbox.path("tool.vac.toml").exists());
    sandbox.write("tool.vac.toml", "mine");
    sandbox.vac(&["learn", "tool.wasm", "--yes"]).fails(USAGE, &["`./tool.vac.toml` is there already"]);
    assert_eq!(sandbox.read("tool.vac.toml"), "mine");
    let told = sandbox.vac(&["learn", "tool.wasm", "--yes", "-o", "new.toml"]).ok();
    assert!(told.stderr.contains("dir:ro=.") && told.stderr.contains("wrote `new.toml`"), "{}", told.stderr);
    assert_eq!(asks(&sandbox.read("new.toml")), ["file:ro=in"]);
    let printed = sandbox.vac(&["learn", "tool.wasm", "--yes", "-o", "-", "-q"]).ok().out();
    assert!(printed.starts_with("open in=0") && asks(&printed) == ["file:ro=in"], "{printed}");
    sandbox.vac(&["learn", "x.star", "--yes"]).fails(USAGE, &["no file `x.star`"]);
    sandbox.write("x.star", "print(1)");
    sandbox.vac(&["learn", "x.star", "--yes"]).fails(USAGE, &["is a script"]);
    sandbox.vac(&["learn", "builtin:series", "--yes"]).fails(USAGE, &["no file that a manifest"]);
}

/// The policy is what is shown: a folder to read unless more is said.
#[test]
fn a_run_that_lacks_something_teaches_nothing() {
    let sandbox = sandbox(Guest::new().open(ROOT, "out", "wc").exit(1));
    let ran = sandbox.vac(&["learn", "tool.wasm", "--yes"]);
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr.contains("nothing was learned") && ran.stderr.contains("dir:rw=."), "{}", ran.stderr);
    assert!(!sandbox.path("tool.vac.toml").exists() && !sandbox.path("out").exists());
    // It fails by itself, and lacks nothing: that is how it ends.
    let ran = sandbox.vac(&["learn", "tool.wasm", "--yes", "--write"]);
    assert_eq!(ran.code(), 1);
    assert_eq!(asks(&sandbox.read("tool.vac.toml")), ["file:rw=out"]);
}

#[test]
fn equal_runs_teach_the_same_and_say_which_events() {
    let sandbox = sandbox(Guest::new().open(ROOT, "in", "r").read().open(ROOT, "in", "r"));
    let learn = |file: &str| {
        let told = sandbox.json(&["learn", "tool.wasm", "--yes", "-o", file]);
        assert_eq!((text(&told, "manifest"), text(&told, "text")), (file, sandbox.read(file).as_str()));
        assert_eq!(text(&told["asks"][0], "grant"), "file:ro=in");
        text(&told["asks"][0], "why").to_owned()
    };
    let why = learn("1.toml");
    assert_eq!(why, learn("2.toml"));
    assert_eq!(sandbox.read("1.toml"), sandbox.read("2.toml"));
    let events = why.strip_prefix("opened to read (events ").and_then(|rest| rest.strip_suffix(')')).unwrap();
    for event in events.split(", ") {
        let log = sandbox.json(&["log", "last", "--from", event, "--to", event]);
        assert!(text(&log["events"][0], "function").ends_with("descriptor.open-at"), "{log}");
    }
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn a_call_can_be_learned() {
    let sandbox = Sandbox::new();
    let csv = "date,co2_ppm\n2000-01-01,370.0\n2000-01-08,371.0\n";
    sandbox.write("data/weekly.csv", csv);
    let call = "monthly(\"data/weekly.csv\")";
    let learn = ["learn", "builtin:series", "--yes", "--call", call, "-o", "series.toml"];
    let told = sandbox.vac(&learn).ok();
    assert!(told.out().starts_with("ok("), "{}", told.out());
    let learned = sandbox.read("series.toml");
    assert_eq!(asks(&learned), ["file:ro=data/weekly.csv"]);
    let prebuilt = crate::support::repository().join("ring1-kernels/prebuilt/series.wasm");
    std::fs::copy(prebuilt, sandbox.path("series.wasm")).unwrap();
    sandbox.write("series.vac.toml", learned);
    for grant in ["dir:ro=.", "dir:rw=data", "file:ro=data/weekly.csv"] {
        assert_eq!(
            sandbox.vac(&["call", "series.wasm", call, "--grant", grant]).ok().out(),
            told.out(),
            "{grant}"
        );
    }
}

/// Story: the manifest asked for the name and not for the private range that it led into, so nobody could run by it.
#[test]
fn a_range_that_a_name_leads_into_is_learned_with_it() {
    let sandbox = Sandbox::new();
    let (port, served) = crate::network::server(2, |_| crate::network::ok("hello"));
    let probe = crate::support::repository().join("ring1-kernels/prebuilt/probe.wasm");
    std::fs::copy(probe, sandbox.path("probe.wasm")).unwrap();
    let call = format!(
        "send({{method: \"GET\", is-https: false, authority: \"localhost:{port}\", path: \"/\", headers: [], \
         body: none, is-body-first: false}})"
    );
    let grants = [format!("http:GET=localhost:{port}"), "net:127.0.0.0/8".into(), "net:[::1]".into()];
    let mut learn = vec!["learn", "probe.wasm", "--yes", "--call", &call, "-o", "probe.vac.toml"];
    let mut ran = vec!["call", "probe.wasm", &call];
    for grant in &grants {
        learn.extend(["--grant", grant]);
        ran.extend(["--grant", grant]);
    }
    let told = sandbox.vac(&learn).ok();
    assert!(told.out().contains("status: 200"), "{}", told.out());
    let asked = asks(&sandbox.read("probe.vac.toml"));
    assert!(grants.iter().all(|grant| asked.contains(grant)), "{asked:?}");
    assert_eq!(sandbox.vac(&ran).ok().out(), told.out());
    served.join().unwrap();
}

/// Of a wide grant only what was used is asked for, and that is enough.
#[test]
fn hosts_ports_and_methods_are_learned() {
    let sandbox = Sandbox::new();
    let (port, served) = crate::network::server(2, |_| crate::network::ok("hello"));
    let probe = crate::support::repository().join("ring1-kernels/prebuilt/probe.wasm");
    std::fs::copy(probe, sandbox.path("probe.wasm")).unwrap();
    let call = format!(
        "send({{method: \"POST\", is-https: false, authority: \"127.0.0.1:{port}\", path: \"/\", headers: [], \
         body: some(\"the body\"), is-body-first: false}})"
    );
    let wide = ["--grant", "http:127.0.0.0/8:*", "--grant", "tcp:127.0.0.1", "--grant", "http:*"];
    let learn = ["learn", "probe.wasm", "--yes", "--call", &call, "-o", "probe.vac.toml"];
    let told = sandbox.vac(&[&learn[..], &wide].concat()).ok();
    assert!(told.out().contains("status: 200"), "{}", told.out());
    assert_eq!(asks(&sandbox.read("probe.vac.toml")), [format!("http:POST=127.0.0.1:{port}")]);
    assert_eq!(sandbox.vac(&[&["call", "probe.wasm", &call][..], &wide].concat()).ok().out(), told.out());
    served.join().unwrap();
    // The manifest holds the program to it.
    let put = call.replace("POST", "PUT");
    let ran = sandbox.json(&[&["call", "probe.wasm", &put][..], &wide].concat());
    assert!(ran["result"].as_str().unwrap().contains("HttpRequestDenied"), "{ran}");
}

/// Story: what was needed of a directory inside of another was asked of the outer one, with more than was granted of it, or
/// found in it.
#[test]
fn directories_inside_of_each_other_are_learned_each_by_itself() {
    let sandbox = Sandbox::new();
    sandbox.write("outer/a", "text of a");
    sandbox.write("inner/f", "");
    let guest = Guest::new().list(ROOT).open(ROOT, "a", "r").read().open(ROOT_2, "f", "w").write("new");
    sandbox.write("tool.wasm", guest.wasm());
    let grants = ["--grant", "dir:ro=outer::.", "--grant", "dir:rw=inner::out"];
    let without = sandbox.vac(&[&["run", "tool.wasm"][..], &grants].concat()).ok().out();
    sandbox.write("inner/f", "");
    sandbox.vac(&[&["learn", "tool.wasm", "--yes", "-o", "tool.vac.toml"][..], &grants].concat()).ok();
    sandbox.write("inner/f", "");
    assert_eq!(sandbox.vac(&[&["run", "tool.wasm"][..], &grants].concat()).ok().out(), without);
    assert_eq!((sandbox.read("inner/f").as_str(), sandbox.read("outer/a").as_str()), ("new", "text of a"));
    // Asking for the outer one alone leaves the other where it is.
    sandbox.write("tool.vac.toml", "version = 1\n[[ask]]\ngrant = \"dir:ro=.\"\nwhy = \"x\"\n");
    sandbox.write("inner/f", "");
    let ran = sandbox.vac(&[&["run", "tool.wasm"][..], &grants].concat()).ok();
    assert_eq!(sandbox.read("inner/f"), "", "it may only be read: {}", ran.out());
}

/// What was learned was lost after the run: no manifest has so many lines, or a name like that.
#[test]
fn what_cannot_be_asked_for_alone_is_asked_for_with_its_folder() {
    let sandbox = Sandbox::new();
    let mut guest = Guest::new().open(ROOT, "odd/a::b", "r").read();
    sandbox.write("d/odd/a::b", "odd");
    for i in 0..300 {
        sandbox.write(&format!("d/many/f{i}"), "x");
        guest = guest.open(ROOT, &format!("many/f{i}"), "r").close();
    }
    sandbox.write("d/few/one", "1");
    sandbox.write("tool.wasm", guest.open(ROOT, "few/one", "r").wasm());
    let grant = ["--grant", "dir:ro=d::."];
    sandbox.vac(&[&["learn", "tool.wasm", "--yes", "-o", "tool.vac.toml"][..], &grant].concat()).ok();
    assert_eq!(asks(&sandbox.read("tool.vac.toml")), ["dir:ro=many", "dir:ro=odd", "file:ro=few/one"]);
    // This guest knows descriptors and no names, so it finds nothing in other directories; that it starts is enough.
    sandbox.vac(&[&["run", "tool.wasm"][..], &grant].concat()).ok();
}

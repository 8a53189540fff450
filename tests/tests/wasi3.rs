//! WASI 0.3: what a command with streams, futures and waits sees is what WASI says, and the same
//! each time, with its record and without the world.
//!
//! The guest is `ring1-kernels/wasi3`. Its first argument names a case; it checks most by itself.

use crate::support::{Ran, Sandbox, number, repository, text};

const KERNEL: &str = "ring1-kernels/prebuilt/wasi3.wasm";

/// A sandbox with the kernel in it, as `k.wasm`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", std::fs::read(repository().join(KERNEL)).unwrap());
    sandbox
}

/// Runs a case with grants and an input.
fn case(sandbox: &Sandbox, grants: &[&str], input: &str, args: &[&str]) -> Ran {
    let grants = grants.iter().flat_map(|grant| ["--grant", grant]);
    let typed: Vec<&str> =
        ["run", "k.wasm"].into_iter().chain(grants).chain(["--"]).chain(args.iter().copied()).collect();
    sandbox.vac_with_input(&typed, input.as_bytes())
}

/// The head of the last run, and how many events it has; its replay must be equal without anything of the world.
fn replays(sandbox: &Sandbox) -> (String, u64) {
    let elsewhere = sandbox.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let mut replay = sandbox.command(&["--json", "replay", "last"]);
    replay.current_dir(elsewhere);
    let object = crate::support::run(replay).ok().json();
    (text(&object, "head").to_owned(), number(&object, "events"))
}

#[test]
fn a_command_says_what_it_was_given() {
    let sandbox = sandbox();
    let ran = case(&sandbox, &[], "", &["hello", "a b"]).ok();
    assert_eq!(ran.out(), "args [\"k.wasm\", \"hello\", \"a b\"]\nenv []\n");
    replays(&sandbox);
    let shown = sandbox.vac(&["inspect", "k.wasm"]).ok().out();
    for words in ["wasi:cli/run@0.3.0#run() -> result<_, _>", "wasi:cli/stdin@0.3.0", "run  vac run k.wasm"] {
        assert!(shown.contains(words), "expected `{words}`: {shown}");
    }
}

#[test]
fn it_ends_with_the_status_it_asks_for() {
    let sandbox = sandbox();
    assert_eq!(case(&sandbox, &[], "", &["exit", "7"]).code(), 7);
    replays(&sandbox);
    assert_eq!(case(&sandbox, &[], "", &["fail"]).code(), 1);
    replays(&sandbox);
    let wrong = case(&sandbox, &[], "", &["nonsense"]);
    assert_eq!((wrong.code(), wrong.out().as_str()), (1, ""));
    assert!(wrong.stderr.contains("wrong: no case `nonsense`"), "{}", wrong.stderr);
}

#[test]
fn the_standard_streams_carry_bytes_in_both_directions() {
    let sandbox = sandbox();
    let input = "abcdefghijklm";
    for name in ["echo", "pass"] {
        let ran = case(&sandbox, &["stdin"], input, &[name]).ok();
        assert_eq!(ran.out(), input, "{name}");
        replays(&sandbox);
        // Without the grant the input is at its end, and the record says what is missing.
        let ran = case(&sandbox, &[], input, &[name]).ok();
        assert_eq!(ran.out(), "", "{name}");
        let log = sandbox.json(&["log", "last", "--denied"]);
        assert_eq!(text(&log["events"][0], "denied"), "stdin", "{name}");
    }
    case(&sandbox, &["stdin"], input, &["echo"]).ok();
    let log = sandbox.vac(&["log", "last"]).ok().out();
    let reads = log.lines().filter(|line| line.contains("wasi:cli/stdin#[read]read-via-stream"));
    let parts: Vec<&str> = reads.map(|line| line.rsplit("(0, ").next().unwrap()).collect();
    assert_eq!(parts, ["b\"abcde\")", "b\"fghij\")", "b\"klm\")", "b\"\")"], "each part is an event\n{log}");
}

#[test]
fn either_side_may_give_up_a_stream() {
    let sandbox = sandbox();
    let ran = case(&sandbox, &["stdin"], "abcdefghij", &["drops"]).ok();
    assert_eq!(ran.out(), "still\nrest \"defghij\"\n", "{}", ran.stderr);
    replays(&sandbox);
}

#[test]
fn a_write_longer_than_the_host_takes_comes_in_parts() {
    let sandbox = sandbox();
    let ran = case(&sandbox, &[], "", &["much"]).ok();
    assert!(ran.stdout.len() == 3 << 20 && ran.stdout.iter().all(|byte| *byte == b'x'));
    assert_eq!(number(&sandbox.json(&["replay", "last"]), "events"), 3 + 3);
}

#[test]
fn what_goes_on_after_the_result_is_waited_for() {
    let sandbox = sandbox();
    assert_eq!(case(&sandbox, &[], "", &["late"]).ok().out(), "early\nlate\n");
    replays(&sandbox);
}

#[test]
fn waits_end_in_the_order_of_virtual_time_and_take_none_of_the_hosts() {
    let sandbox = sandbox();
    // An hour passes in it, and the harness waits for a command much shorter than that.
    assert_eq!(case(&sandbox, &[], "", &["timers"]).ok().out(), "3600030\n", "milliseconds");
    replays(&sandbox);
    assert_eq!(case(&sandbox, &[], "", &["race"]).ok().out(), "2001\n", "milliseconds");
    replays(&sandbox);
    assert_eq!(case(&sandbox, &[], "", &["spin"]).ok().out(), "turns true\n");
    replays(&sandbox);
}

#[test]
fn two_runs_of_tasks_that_overlap_have_one_head() {
    let heads = [(); 2].map(|()| {
        let sandbox = sandbox();
        ["timers", "race", "spin", "late", "drops"].map(|name| {
            case(&sandbox, &["stdin"], "abcdefghij", &[name]).ok();
            replays(&sandbox)
        })
    });
    assert_eq!(heads[0], heads[1]);
}

#[test]
fn tasks_that_wait_for_each_other_are_ended() {
    let sandbox = sandbox();
    case(&sandbox, &[], "", &["stuck"]).fails(4, &["deadlock"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn streams_that_are_kept_have_a_limit() {
    let sandbox = sandbox();
    case(&sandbox, &[], "", &["hoard"]).fails(4, &["trap"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn waits_are_metered_and_can_be_stopped() {
    let sandbox = sandbox();
    let typed = ["run", "k.wasm", "--ticks", "3000000", "--", "forever"];
    sandbox.vac(&typed).fails(4, &["used up its 3000000 ticks"]);
    sandbox.vac(&["run", "k.wasm", "--time", "200ms", "--", "forever"]).fails(4, &["longer than 200ms"]);
    sandbox.vac(&["replay", "last"]).ok();
}

#[test]
fn random_numbers_are_those_of_the_seed() {
    let sandbox = sandbox();
    let draw = |seed: &str| sandbox.vac(&["run", "k.wasm", "--seed", seed, "--", "random"]).ok().out();
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn files_are_what_wasi_says_and_replay_without_them() {
    let sandbox = sandbox();
    let runs = ["one", "two"].map(|folder| {
        sandbox.write(&format!("{folder}/d/a.txt"), "first\n");
        let grant = format!("dir:rw={folder}/d::d");
        let ran = case(&sandbox, &[grant.as_str()], "", &["files"]).ok();
        assert_eq!(ran.out(), "[\"a.txt\", \"kept\"]\n", "{}", ran.stderr);
        std::fs::remove_dir_all(sandbox.path(folder)).unwrap();
        replays(&sandbox)
    });
    assert_eq!(runs[0].1, runs[1].1);
    assert!(runs[0].1 > 100, "{runs:?}");
}

#[test]
fn a_listing_is_sorted_and_files_are_read_whole() {
    let sandbox = sandbox();
    for name in ["b", "sub/y", "a", "sub/x", "C"] {
        sandbox.write(&format!("d/{name}"), format!("is {name}"));
    }
    let ran = case(&sandbox, &["dir:ro=d"], "", &["read"]).ok();
    assert_eq!(ran.out(), "C is C\na is a\nb is b\nsub/ [\"x\", \"y\"]\n");
    std::fs::remove_dir_all(sandbox.path("d")).unwrap();
    replays(&sandbox);
}

#[test]
fn what_is_not_granted_is_refused_and_the_guest_goes_on() {
    let sandbox = sandbox();
    sandbox.write("d/a.txt", "first\n");
    let ran = case(&sandbox, &["dir:ro=d"], "", &["denied"]).ok();
    assert_eq!(ran.out(), "refused\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("dir:rw=d would have allowed it"), "{}", ran.stderr);
    replays(&sandbox);
    assert_eq!(sandbox.read("d/a.txt"), "first\n");
    let ran = case(&sandbox, &[], "", &["denied"]).ok();
    assert_eq!(ran.out(), "refused\n", "nothing is there to refuse: {}", ran.stderr);
}

#[test]
fn messages_of_http_can_be_made_and_are_not_sent() {
    let sandbox = sandbox();
    let ran = case(&sandbox, &[], "", &["http"]).ok();
    assert_eq!(ran.out(), "refused\n", "{}", ran.stderr);
    replays(&sandbox);
}

#[test]
fn sockets_are_linked_and_refused() {
    let sandbox = sandbox();
    assert_eq!(case(&sandbox, &[], "", &["sockets"]).ok().out(), "refused\n");
    replays(&sandbox);
}

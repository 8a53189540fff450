//! The main job: the study of the README, from its data to a figure, and everything that can be
//! done with its run afterwards.

use serde_json::Value;

use crate::support::{Sandbox, copy_folder, number, repository, text};

/// Name of the figure and the table that the study writes, and the head of its run. To update them after a
/// change of the data, a kernel or the engine, run the study and take what it prints.
const FIGURE: &str = "bafkr4ibmtxotvgnsmsk6sn3csfg6fitm5an6nhrioz5wtwg3nuqvuvxll4";
const TABLE: &str = "bafkr4ig4l2bfedoolruvuchb47wceyigv7lskgq5wiu2ryzndepckclypa";
/// It names the engine and its settings too, so it changes with them.
const HEAD: &str = "170b64ab2f2a03708038c488c60d2d44d9bdc25e77ad6f5e43734d9d19c1b26e";

/// The script, in the repository.
fn script() -> String {
    repository().join("examples/keeling/study.star").display().to_string()
}

#[test]
fn the_study_writes_a_figure_and_a_table_that_a_scientist_would_keep() {
    let sandbox = Sandbox::new();
    let ran = sandbox.vac(&["run", &script()]).ok();
    for line in [
        "months     521, 1958-3 to 2001-12",
        "growth     1.853 ppm a year",
        "R2 0.998068",
        "forecast   375.45 ppm",
    ] {
        assert!(ran.out().contains(line), "{line}\n{}", ran.out());
    }
    assert_figure(&sandbox.read("out/keeling.svg"));
    assert_table(&sandbox.read("out/keeling.csv"));
    assert!(ran.out().contains(FIGURE) && ran.out().contains(TABLE), "{}", ran.out());
    // The summary: run, head, ticks, events and time, and those of each kernel.
    for word in [
        "run ",
        "head ",
        " ticks",
        " events",
        "builtin:series",
        "monthly",
        "builtin:trend",
        "fit",
        "builtin:plot",
        "svg",
    ] {
        assert!(ran.stderr.contains(word), "{word}\n{}", ran.stderr);
    }
}

fn assert_figure(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    let svg = svg.to_lowercase();
    // Title, source, units, ticks of the axes, legend.
    for word in ["mauna loa", "noaa", "ppm", ">1960<", ">2000<", "trend", "forecast", "<path"] {
        assert!(svg.contains(word), "the figure has no `{word}`");
    }
}

fn assert_table(csv: &str) {
    let lines: Vec<&str> = csv.lines().collect();
    // A head, 521 months of the record and 24 of the forecast.
    assert_eq!(lines.len(), 1 + 521 + 24);
    let columns = lines[0].split(',').count();
    assert!(columns >= 4, "{}", lines[0]);
    assert!(lines.iter().all(|line| line.split(',').count() == columns));
    assert!(lines[1].starts_with("1958"), "{}", lines[1]);
    assert!(lines[545].starts_with("2003-12"), "{}", lines[545]);
}

#[test]
fn the_outputs_have_the_names_they_always_had() {
    let sandbox = Sandbox::new();
    let run = sandbox.json(&["run", &script()]);
    let put = sandbox.json(&["store", "put", "out/keeling.svg", "out/keeling.csv"]);
    let cids: Vec<&str> = put["objects"].as_array().unwrap().iter().map(|o| text(o, "cid")).collect();
    assert_eq!(cids, [FIGURE, TABLE]);
    assert_eq!(
        text(&run, "head"),
        HEAD,
        "if the script, a kernel or the engine was changed: update the constant"
    );
    assert_eq!(text(&run, "outcome"), "exit 0");
    assert_eq!(number(&run, "exit_code"), 0);
    assert_eq!(run["kernels"].as_array().unwrap().len(), 4);
}

#[test]
fn a_second_run_has_the_same_head_and_another_identity() {
    let sandbox = Sandbox::new();
    let runs = [sandbox.json(&["run", &script()]), sandbox.json(&["run", &script()])];
    assert_eq!(text(&runs[0], "head"), text(&runs[1], "head"));
    assert_ne!(text(&runs[0], "run"), text(&runs[1], "run"));
    let listed = sandbox.json(&["runs"]);
    let listed: Vec<&str> = listed["runs"].as_array().unwrap().iter().map(|run| text(run, "run")).collect();
    assert_eq!(listed, [text(&runs[0], "run"), text(&runs[1], "run")]);
}

#[test]
fn the_study_replays_with_its_data_deleted() {
    let sandbox = Sandbox::new();
    copy_folder(&repository().join("examples/keeling"), &sandbox.path("keeling"));
    let run = sandbox.json(&["run", "keeling/study.star"]);
    std::fs::remove_dir_all(sandbox.path("keeling")).unwrap();
    std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(replayed["equal"], Value::Bool(true));
    assert_eq!(text(&replayed, "head"), text(&run, "head"));
    assert_eq!(number(&replayed, "ticks"), number(&run, "ticks"));
    assert_eq!(number(&replayed, "events"), number(&run, "events"));
    assert!(!sandbox.path("out").exists(), "a replay touches nothing");
}

#[test]
fn the_run_verifies_and_its_events_can_be_filtered() {
    let sandbox = Sandbox::new();
    let run = sandbox.json(&["run", &script()]);
    sandbox.vac(&["verify", "last", "--head", text(&run, "head")]).ok();
    let verified = sandbox.json(&["verify", "--all"]);
    assert_eq!((&verified["ok"], &verified["runs"][0]["complete"]), (&Value::Bool(true), &Value::Bool(true)));
    let other = sandbox.vac(&["verify", "last", "--head", &"0".repeat(64)]);
    assert_eq!(other.code(), 6);
    assert!(other.out().starts_with("damaged"), "{}", other.out());
    for typed in ["", "last", &"0".repeat(63), &"g".repeat(64)] {
        sandbox
            .vac(&["verify", "last", "--head", typed])
            .fails(2, &["is not a head: expected 64 hex digits"]);
    }
    assert_filters(&sandbox, number(&run, "events"));
}

fn assert_filters(sandbox: &Sandbox, events: u64) {
    let log = |args: &[&str]| {
        sandbox.json(&[&["log", "last"], args].concat())["events"].as_array().unwrap().clone()
    };
    let all = log(&[]);
    assert_eq!(all.len() as u64, events);
    assert!(all.iter().zip(0..).all(|(event, seq)| number(event, "event") == seq), "in order");
    let files = log(&["--name", "kernel/files"]);
    assert!(!files.is_empty() && files.iter().all(|e| text(e, "function").contains("kernel/files")));
    let effects = log(&["--class", "effect"]);
    assert!(!effects.is_empty() && effects.iter().all(|e| text(e, "class") == "effect"));
    assert!(effects.len() < all.len());
    assert_eq!(log(&["--denied"]).len(), 0);
    let few: Vec<u64> =
        log(&["--from", "3", "--to", "9", "-n", "4"]).iter().map(|e| number(e, "event")).collect();
    assert_eq!(few, [3, 4, 5, 6]);
}

/// One figure of the data is another: another head, another figure, and the old run still stands.
#[test]
fn a_changed_measurement_is_another_run_and_the_old_one_still_replays() {
    let sandbox = Sandbox::new();
    copy_folder(&repository().join("examples/keeling"), &sandbox.path("keeling"));
    let first = sandbox.json(&["run", "keeling/study.star"]);
    let data = sandbox.read("keeling/data/weekly.csv");
    let line = data.lines().nth(200).unwrap();
    let digit = if line.ends_with('9') { "8" } else { "9" };
    let changed = format!("{}{digit}", &line[..line.len() - 1]);
    sandbox.write("keeling/data/weekly.csv", data.replacen(line, &changed, 1));
    let second = sandbox.json(&["run", "keeling/study.star"]);
    assert_ne!(text(&first, "head"), text(&second, "head"));
    for run in [&first, &second] {
        assert_eq!(text(&sandbox.json(&["replay", text(run, "run")]), "head"), text(run, "head"));
    }
}

/// Every number the study prints comes from integers, so a limit or another seed changes none.
#[test]
fn limits_and_seeds_do_not_change_the_study() {
    let sandbox = Sandbox::new();
    let plain = sandbox.vac(&["run", "-q", &script()]).ok().out();
    let limited = sandbox
        .vac(&["run", "-q", &script(), "--ticks", "100000000", "--seed", "9", "--memory", "64MiB"])
        .ok();
    assert_eq!(limited.out(), plain);
    sandbox.vac(&["run", &script(), "--ticks", "1000000"]).fails(4, &["ticks"]);
    sandbox.vac(&["replay", "last"]).ok();
    sandbox.vac(&["run", &script(), "--memory", "100KiB"]).fails(4, &["memory"]);
}

//! One binary, one module a topic. Every test types commands and asserts what a user would see.
//!
//! - [`support`]: a sandbox of one test: its home, its folder, a cleared environment
//! - [`guest`]: guests, written down as a list of things to do
//! - [`s3_server`]: object stores of tests
//! - [`wasi01`]: calls of WASI 0.1, each with what must come of it
//!
//! The `vac` that is tested is the one that `cargo build` makes for the profile of this binary,
//! or the one that `VAC_TEST_BIN` names.

mod attacks;
mod bad_input;
mod bisect;
mod call;
mod call_files;
mod calls;
mod conformance;
mod core_modules;
mod determinism;
mod durability;
mod exceptions;
mod export_replay;
mod first_hour;
mod fork;
mod golden;
mod golden_kinds;
mod grants;
mod greedy;
mod guest;
mod guest_mem;
mod help;
mod home;
mod hostile_wasm;
mod learn;
mod link;
mod manifests;
mod mem;
mod net3;
mod network;
mod probe;
mod profile;
mod proposals;
mod record;
mod regressions;
mod replay;
mod revoke;
mod s3_server;
mod script_grants;
mod script_resources;
mod seek;
mod snapshots;
mod store_cli;
mod study;
mod support;
mod tasks;
mod tiers;
mod traps;
mod trees;
mod upgrade;
mod wasi01;
mod wasi3;
mod wasi_versions;

use std::collections::BTreeSet;

/// A file that is not listed above would compile nowhere and fail never.
#[test]
fn every_file_in_this_folder_is_a_module_of_this_binary() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> =
        files.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned())).collect();
    let source = include_str!("main.rs");
    let listed = source.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let listed: BTreeSet<String> = listed.map(str::to_owned).chain(["main".to_owned()]).collect();
    assert_eq!(found, listed, "list every module in tests/main.rs");
}

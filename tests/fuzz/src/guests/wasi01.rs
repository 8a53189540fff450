//! Guests of WASI 0.1: core modules, run as commands.

use std::fmt::Write as _;

use super::{HELD_AT, LOG_AT, Plan, RESULT_AT, Step, body, handle, long, number, place, prelude, text};
use crate::mutate::Random;

/// Every function, and what its parameters are: `f`ile descriptor, `p`lace for a result, `v`ector of buffers and
/// their number, `s` text and its length, `b`uffer and its length, `i`nteger, `l`ong integer, `o` a list of
/// events to wait for.
const FUNCTIONS: [(&str, &str); 45] = [
    ("args_get", "pp"),
    ("args_sizes_get", "pp"),
    ("environ_get", "pp"),
    ("environ_sizes_get", "pp"),
    ("clock_res_get", "ip"),
    ("clock_time_get", "ilp"),
    ("fd_advise", "flli"),
    ("fd_allocate", "fll"),
    ("fd_close", "f"),
    ("fd_datasync", "f"),
    ("fd_fdstat_get", "fp"),
    ("fd_fdstat_set_flags", "fi"),
    ("fd_fdstat_set_rights", "fll"),
    ("fd_filestat_get", "fp"),
    ("fd_filestat_set_size", "fl"),
    ("fd_filestat_set_times", "flli"),
    ("fd_pread", "fvlp"),
    ("fd_prestat_get", "fp"),
    ("fd_prestat_dir_name", "fb"),
    ("fd_pwrite", "fvlp"),
    ("fd_read", "fvp"),
    ("fd_readdir", "fblp"),
    ("fd_renumber", "ff"),
    ("fd_seek", "flip"),
    ("fd_sync", "f"),
    ("fd_tell", "fp"),
    ("fd_write", "fvp"),
    ("path_create_directory", "fs"),
    ("path_filestat_get", "fisp"),
    ("path_filestat_set_times", "fislli"),
    ("path_link", "fisfs"),
    ("path_open", "fisillip"),
    ("path_readlink", "fsbp"),
    ("path_remove_directory", "fs"),
    ("path_rename", "fsfs"),
    ("path_symlink", "sfs"),
    ("path_unlink_file", "fs"),
    ("poll_oneoff", "opip"),
    ("proc_raise", "i"),
    ("sched_yield", ""),
    ("random_get", "b"),
    ("sock_accept", "fip"),
    ("sock_recv", "fvipp"),
    ("sock_send", "fvip"),
    ("sock_shutdown", "fi"),
];
const PATH_OPEN: usize = 31;
/// Stands for `proc_exit`, which has no result.
const EXIT: usize = FUNCTIONS.len();
/// Where buffers of a vector and subscriptions stand.
const VECTOR_AT: usize = 256;
const SUBSCRIPTION_AT: usize = 320;

/// A call of any function.
pub(super) fn call(random: &mut Random) -> Step {
    if random.below(60) == 0 {
        return Step { code: format!("(call $i{EXIT} {})\n", number(random)), imports: vec![EXIT] };
    }
    let n = if random.below(6) == 0 { PATH_OPEN } else { random.below(FUNCTIONS.len()) };
    let args: Vec<String> = FUNCTIONS[n].1.chars().flat_map(|kind| argument(kind, random)).collect();
    let mut code = format!("(call $note (i64.extend_i32_u (call $i{n} {})))", args.join(" "));
    if n == PATH_OPEN
        && let Some(place) = args.last()
    {
        // What was opened last is tried first by those that follow.
        let _ = write!(
            code,
            "(if (i32.lt_u {place} (i32.const 4096)) (then (call $keep (i32.const 0) (i32.load {place}))))"
        );
    }
    let _ = writeln!(code, "(call $note (i64.load (i32.const {RESULT_AT})))");
    Step { code, imports: vec![n] }
}

fn argument(kind: char, random: &mut Random) -> Vec<String> {
    match kind {
        'f' => match random.below(4) {
            0 => vec![format!("(i32.const {})", random.below(8))],
            1 => vec!["(i32.const 3)".to_owned()],
            _ => vec![handle(random, "held", 0)],
        },
        'p' => vec![place(random)],
        'v' => {
            let count = random.below(3);
            vec![format!("(i32.const {VECTOR_AT})"), format!("(i32.const {count})")]
        }
        's' => text(random).to_vec(),
        'b' => vec![format!("(i32.const {RESULT_AT})"), format!("(i32.const {})", random.below(300))],
        'l' => vec![long(random)],
        'o' => vec![format!("(i32.const {SUBSCRIPTION_AT})")],
        _ => vec![number(random)],
    }
}

/// The module.
pub(super) fn text_of(plan: &Plan) -> String {
    let mut module = String::new();
    for n in plan.imports() {
        let (name, kinds, result) = match FUNCTIONS.get(n) {
            Some((name, kinds)) => (*name, *kinds, "(result i32)"),
            None => ("proc_exit", "i", ""),
        };
        let params: String = kinds.chars().map(param).collect();
        let _ =
            writeln!(module, "(import \"wasi_snapshot_preview1\" \"{name}\" (func $i{n} {params} {result}))");
    }
    // What is printed at the end.
    let write =
        "(import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))";
    module.push_str(write);
    module.push_str(&prelude(&body(&plan.realloc)));
    // Two buffers: one for results, one in the texts. A wait for an instant, one for a descriptor.
    let set = |at: usize, value: u64| format!("(i32.store (i32.const {at}) (i32.const {value}))");
    let vector = [(0, 600), (4, 100), (8, 4100), (12, 40)];
    let subscriptions = [(16, 1), (24, 1000), (48, 7), (56, 1)];
    let set_all = |at: usize, pairs: &[(usize, u64)]| -> String {
        pairs.iter().map(|(offset, value)| set(at + offset, *value)).collect()
    };
    let ready = set_all(VECTOR_AT, &vector) + &set_all(SUBSCRIPTION_AT, &subscriptions) + &set(HELD_AT, 3);
    let [start, one, two] = &plan.functions[..] else { panic!("a plan has three functions") };
    let _ = write!(
        module,
        r#"(func $start {ready} {})
{}
(func $one {}) (func $two {})
(func (export "_start") {}
  (call $one)
  (i32.store (i32.const 0) (i32.const {LOG_AT})) (i32.store (i32.const 4) (global.get $log))
  (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
  (call $two)
  (i32.store (i32.const 0) (i32.const {LOG_AT})) (i32.store (i32.const 4) (global.get $log))
  (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
        body(start),
        if start.is_empty() { "" } else { "(start $start)" },
        body(one),
        body(two),
        if start.is_empty() { "(call $start)" } else { "" },
    );
    super::module(&module)
}

fn param(kind: char) -> &'static str {
    match kind {
        'l' => "(param i64)",
        'v' | 's' | 'b' => "(param i32 i32)",
        _ => "(param i32)",
    }
}

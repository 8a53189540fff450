//! A program of ours in C, errno by errno, built by a public compiler with its own C library.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compat::Program;
use crate::compat::package::{Origin, once, pip_program};
use crate::compat::trial::{Ask, Case, Ran, Refused};
use crate::repo::{self, Result};

const ZIG: &str = "0.15.1";

pub(super) const PROGRAM: Program = Program {
    name: "posix-c",
    about: "files, times and memory from C",
    origin: Origin::Made { by: "`ziglang` 0.15.1 (Python)", make },
    against: "the error numbers of POSIX",
    is_quick: true,
    case: || Case {
        inputs: "posix",
        ask: Ask::Run(&["one", "two words"]),
        grants: &["dir:rw=.::.", "dir:ro=.::/ro"],
        stdin: "",
        check: |ran: &Ran| ran.printed("81 checks, 0 wrong\n"),
        refused: Refused::Status(2, "no folder"),
    },
};

/// Half a minute, for its library is compiled with it.
fn make(cache: &Path) -> Result<PathBuf> {
    let source = repo::root()?.join("examples/compat/posix/posix.c");
    let bytes = std::fs::read(&source).map_err(|e| format!("{}: {e}", source.display()))?;
    let version = format!("{ZIG}-{}", blake3::hash(&bytes).to_hex().get(..12).unwrap_or_default());
    let folder = once(cache, "posix-c", &version, |folder| {
        let zig = pip_program(cache, "ziglang", ZIG, "ziglang/zig")
            .map_err(|why| format!("not available: {why}"))?;
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut build = Command::new(zig);
        build.env("ZIG_GLOBAL_CACHE_DIR", cache.join("zig")).current_dir(folder);
        build.args(["cc", "-target", "wasm32-wasi", "-O1", "-Wall", "-Werror"]);
        repo::output(build.arg(&source).args(["-o", "posix.wasm"])).map(drop)
    })?;
    Ok(folder.join("posix.wasm"))
}

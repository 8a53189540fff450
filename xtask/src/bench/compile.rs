//! What rewriting a large program costs beside compiling it.

use vac_host::{Coder, Profile, load, rewrite};
use wasmparser::{Parser, Payload};

use super::figure::{Figure, Goal};
use super::plain;
use super::timing::{Side, medians, time};
use super::{Result, prebuilt, text};

/// Two are enough: one takes half a minute, and neither side has caches that the first would fill.
const ROUNDS: usize = 2;
const BYTES: usize = 20 << 20;
const RATIO_GOAL: f64 = 1.15;

/// The program of 20 MB that is compiled: the largest core module of these kernels, as often as it takes.
fn large() -> Result<Vec<u8>> {
    let mut largest = Vec::new();
    for kernel in ["bench", "trend", "plot", "series"] {
        let bytes = prebuilt(kernel)?;
        for payload in Parser::new(0).parse_all(&bytes) {
            if let Payload::ModuleSection { unchecked_range, .. } = payload.map_err(text)? {
                let module = bytes.get(unchecked_range).unwrap_or_default();
                if module.len() > largest.len() {
                    largest = module.to_vec();
                }
            }
        }
    }
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    while component.len() < BYTES {
        component.push(1);
        let mut len = largest.len();
        while len >= 0x80 {
            component.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        component.push(len as u8);
        component.extend_from_slice(&largest);
    }
    Ok(component)
}

/// Compiling 20 MB under `det-2`, and the part of it that is not compiling.
pub(super) fn run() -> Result<Vec<Figure>> {
    let bytes = large()?;
    let loaded = load::load(&bytes, "the benchmark").map_err(text)?;
    let coder = Coder::new(Profile::Det2).map_err(text)?;
    let engine = wasmtime::Engine::new(&plain::config()).map_err(text)?;
    let mut sides: [Side<'_>; 3] = [
        Box::new(|| time(|| engine.precompile_component(&bytes).map_err(text))),
        Box::new(|| time(|| coder.seal(&loaded).map_err(text))),
        Box::new(|| time(|| rewrite::program(&bytes).map_err(text))),
    ];
    let medians = medians(ROUNDS, &mut sides)?;
    let figure = |name: &str, at: usize| {
        Figure::new(name, "ms", medians[at] / 1e6, ("compile alone", medians[0] / 1e6))
    };
    Ok(vec![
        figure("rewrite and compile 20 MB", 1).goal(Goal::RatioAtMost(RATIO_GOAL)).note(
            "rewritten code is larger and also takes longer to compile; modules are compiled in parallel",
        ),
        figure("rewrite alone", 2),
    ])
}

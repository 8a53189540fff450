//! Random modules of `wasm-smith`: everything of WebAssembly, with little of floats.

use arbitrary::{Arbitrary, Unstructured};
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};

use super::random::args;
use super::same;

const SEEDS: u64 = 300;
const INPUT_BYTES: usize = 6_000;

#[test]
fn random_modules_are_the_same() {
    let mut compared = 0;
    for seed in 0..SEEDS {
        let mut bytes = vec![0; INPUT_BYTES];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let Ok(bytes) = random_module(&bytes) else { continue };
        same(&bytes, &args(seed, 2), &format!("seed {seed}"));
        compared += 1;
    }
    assert!(compared > SEEDS / 2, "only {compared}");
}

fn random_module(bytes: &[u8]) -> arbitrary::Result<Vec<u8>> {
    let mut input = Unstructured::new(bytes);
    let mut config = Config::arbitrary(&mut input)?;
    if input.arbitrary()? {
        use InstructionKind as K;
        let kinds = [K::Numeric, K::Vector, K::Parametric, K::Variable, K::Memory, K::Control];
        config.allowed_instructions = InstructionKinds::new(&kinds);
    }
    config.max_imports = 0;
    config.min_funcs = 1;
    config.max_funcs = 10;
    config.max_instructions = 400;
    config.allow_floats = true;
    config.simd_enabled = true;
    config.relaxed_simd_enabled = true;
    config.multi_value_enabled = true;
    config.export_everything = true;
    config.max_memory32_bytes = 1 << 20;
    config.max_memory64_bytes = 1 << 20;
    config.max_table_elements = 1_000;
    config.allow_invalid_funcs = false;
    // What the engine of the profile does not have, or makes dear.
    config.threads_enabled = false;
    config.shared_everything_threads_enabled = false;
    config.custom_descriptors_enabled = false;
    config.custom_page_sizes_enabled = false;
    config.wide_arithmetic_enabled = false;
    config.gc_enabled = false;
    let mut module = Module::new(config, &mut input)?;
    module.ensure_termination(20_000).map_err(|_| arbitrary::Error::IncorrectFormat)?;
    Ok(module.to_bytes())
}

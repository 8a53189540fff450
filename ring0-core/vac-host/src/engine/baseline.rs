//! The instructions that compiled code may use: a fixed set for each kind of processor, and not whatever the
//! machine has that compiles.
//!
//! Results do not depend on it. But code that one machine made is what another one with the same home runs, and
//! an instruction that only some machines have is a source of differences that nobody would look for.

use vac_core::fault::{AbortKind, HostAbort};
use wasmtime::Config;

/// The settings of the engine that allow the instructions of x86-64-v3, which processors of the last ten years
/// have, and whether this one does.
macro_rules! features {
    ($($setting:literal is $name:tt),*) => {
        #[cfg(target_arch = "x86_64")]
        fn features() -> Vec<(&'static str, &'static str, bool)> {
            vec![$(($setting, $name, std::arch::is_x86_feature_detected!($name))),*]
        }
    };
}

features! {
    "has_sse3" is "sse3",
    "has_ssse3" is "ssse3",
    "has_cmpxchg16b" is "cmpxchg16b",
    "has_sse41" is "sse4.1",
    "has_sse42" is "sse4.2",
    "has_popcnt" is "popcnt",
    "has_avx" is "avx",
    "has_avx2" is "avx2",
    "has_fma" is "fma",
    "has_bmi1" is "bmi1",
    "has_bmi2" is "bmi2",
    "has_lzcnt" is "lzcnt"
}

/// On other processors the engine's own choice is left, which is not measured here.
#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<(&'static str, &'static str, bool)> {
    Vec::new()
}

/// The name of this machine, which ends the engine's looking at its processor.
const TARGET: Option<&str> = if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
    None
} else if cfg!(target_env = "musl") {
    Some("x86_64-unknown-linux-musl")
} else {
    Some("x86_64-unknown-linux-gnu")
};

/// Sets the instructions of `config`.
pub(super) fn set(config: &mut Config) {
    let Some(target) = TARGET else { return };
    if config.target(target).is_err() {
        return;
    }
    for (setting, _, _) in features() {
        // SAFETY: whoever allows an instruction promises that the processor has it. (1) `check` looks before an
        // engine with this configuration is made. (2) The engine itself looks before it takes any code.
        unsafe { config.cranelift_flag_enable(setting) };
    }
}

/// Whether this machine has those instructions.
pub(super) fn check() -> Result<(), HostAbort> {
    let Some((_, name, _)) = features().into_iter().find(|(_, _, has)| TARGET.is_some() && !has) else {
        return Ok(());
    };
    let message = format!("this processor has no `{name}`, and compiled code needs all of x86-64-v3");
    Err(HostAbort::new(AbortKind::Machine, message)
        .hint("`vac run --profile det-2-native` compiles for what this one has"))
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::{Coder, Profile};
    use crate::load;

    /// The instructions that sealed code says it needs: the engine writes each name with a 2 for a switch and a 1
    /// for on.
    fn needed(sealed: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in memchr::memmem::find_iter(sealed, "has_") {
            let rest = sealed.get(at..).unwrap_or_default();
            let len = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
            let (name, value) = rest.split_at(len.unwrap_or_default());
            if value.starts_with(&[2, 1]) {
                found.insert(String::from_utf8(name.to_vec()).unwrap());
            }
        }
        found
    }

    #[test]
    fn code_uses_a_fixed_set_of_instructions() {
        let bytes = wat::parse_str("(component)").unwrap();
        let loaded = load::load(&bytes, "a test").unwrap();
        let sealed = |profile| Coder::new(profile).unwrap().seal(&loaded).unwrap();
        let expected: BTreeSet<String> =
            features().into_iter().map(|(setting, _, _)| setting.to_owned()).collect();
        assert_eq!(needed(&sealed(Profile::Det2)), expected);
        assert!(needed(&sealed(Profile::Det2Native)).is_superset(&expected));
        assert!(check().is_ok(), "the tests run on a machine that has them");
    }
}

//! Custom sections of a program: what its maker put beside the code.

use vac_core::fault::{Corrupt, Result};
use wasmparser::{Parser, Payload};

/// The bytes of the program's own custom section `name`; sections of modules and components inside
/// of it are theirs. `place` says in errors where the program is from.
///
/// # Errors
///
/// What is malformed, or that there are two such sections.
pub fn custom<'a>(bytes: &'a [u8], name: &str, place: &str) -> Result<Option<&'a [u8]>> {
    let (mut depth, mut sections) = (0_u32, Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|e| {
            let at = format!("`{place}` at byte {:#x}", e.offset());
            Corrupt::new("program", at, "valid WebAssembly", e.message())
        })?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == name => {
                sections.push(section.data());
            }
            _ => {}
        }
    }
    if sections.len() > 1 {
        let (expected, got) = (format!("at most one section `{name}`"), sections.len());
        return Err(Corrupt::new("program", format!("`{place}`"), expected, got).into());
    }
    Ok(sections.pop())
}

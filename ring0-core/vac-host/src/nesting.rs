//! Refuses types that are nested without bound, before anything here reads them.
//!
//! The parser that goes with the engine reads a type inside of a type by calling itself: 60 KB of them use up
//! this process's stack. A later one counts, so it looks first. The engine's own reading happens in
//! the process that compiles.

use vac_core::fault::{Corrupt, Result};
use wasmparser_counting::{Chunk, Parser, Payload};

/// Looks at the types of a component and of all components inside of it. What this parser cannot read at all is refused,
/// for the other one may read on.
pub(crate) fn check(bytes: &[u8], place: &str) -> Result<()> {
    let (mut parser, mut outer, mut rest) = (Parser::new(0), Vec::new(), bytes);
    loop {
        let parsed = parser.parse(rest, true).map_err(|wrong| {
            let place = format!("`{place}` at byte {:#x}", wrong.offset());
            Corrupt::new("program", place, "valid WebAssembly", wrong.message())
        })?;
        let Chunk::Parsed { consumed, payload } = parsed else { return Ok(()) };
        rest = rest.get(consumed..).unwrap_or_default();
        match payload {
            Payload::ComponentTypeSection(types) => {
                if let Some(Err(wrong)) = types.into_iter().find(std::result::Result::is_err) {
                    let place = format!("`{place}` at byte {:#x}", wrong.offset());
                    return Err(Corrupt::new("program", place, "valid WebAssembly", wrong.message()).into());
                }
            }
            Payload::ModuleSection { unchecked_range, .. } => {
                let len = unchecked_range.end.saturating_sub(unchecked_range.start);
                rest = usize::try_from(len).ok().and_then(|len| rest.get(len..)).unwrap_or_default();
            }
            Payload::ComponentSection { parser: inner, .. } => {
                outer.push(std::mem::replace(&mut parser, inner));
            }
            Payload::End(_) => match outer.pop() {
                Some(previous) => parser = previous,
                None => return Ok(()),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        let types = [&[1][..], &[0x41, 1, 1].repeat(levels), &[0x41, 0]].concat();
        let mut bytes = b"\0asm\x0d\0\x01\0\x07".to_vec();
        let mut len = types.len();
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend(types);
        bytes
    }

    #[test]
    fn deep_types_are_refused_and_others_are_not() {
        assert!(check(&nested(50), "x").is_ok());
        for levels in [200, 20_000, 1_000_000] {
            let wrong = check(&nested(levels), "x").unwrap_err().to_string();
            assert!(wrong.contains("nesting is too deep"), "{wrong}");
        }
    }

    /// A module in the place of a component ended this check, and the other parser went on to the types behind it.
    #[test]
    fn what_stands_before_the_types_does_not_hide_them() {
        let mut bytes = b"\0asm\x0d\0\x01\0\x04\x08\0asm\x01\0\0\0".to_vec();
        bytes.extend_from_slice(&nested(1_000_000)[8..]);
        assert!(check(&bytes, "x").is_err());
    }
}

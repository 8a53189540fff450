//! A module with nothing in its functions, for those who only look at what a program is.
//!
//! It has the types, imports and exports of what [`super::module`] makes, and is refused where that is. To
//! compile it takes a fraction of the time, and whoever started it would trap at once.

use vac_core::fault::Result;
use wasm_encoder::{CodeSection, Function, Module, RawSection};
use wasmparser::{Parser, Payload};

use super::PLACE;
use crate::load::malformed;

/// What is compiled in place of a core module to look at it.
pub(crate) fn module(bytes: &[u8]) -> Result<Vec<u8>> {
    empty(&super::module(bytes)?).map_err(|e| malformed(&e, PLACE))
}

fn empty(bytes: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::CodeSectionStart { count, .. } => {
                module.section(&bodies(count));
            }
            // Some of them say where in the code something is.
            Payload::CodeSectionEntry(_) | Payload::CustomSection(_) => {}
            other => {
                let section = other.as_section().and_then(|(id, range)| Some((id, bytes.get(range)?)));
                if let Some((id, data)) = section {
                    module.section(&RawSection { id, data });
                }
            }
        }
    }
    Ok(module.finish())
}

/// So many functions, of whatever types, that return nothing.
fn bodies(count: u32) -> CodeSection {
    let mut function = Function::new([]);
    function.instructions().unreachable().end();
    let mut code = CodeSection::new();
    (0..count).for_each(|_| {
        code.function(&function);
    });
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_valid_and_small() {
        let text = format!(
            r#"(module (import "a" "b" (func $b (param i32))) (table 1 funcref) (memory 1)
                (global (export "g") (mut i64) (i64.const 1)) (elem (i32.const 0) $f) (data "x") (data (i32.const 0) "y")
                (func $f (export "f") (param f64) (result f64 i32) (local i32)
                  (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))
                  {} (f64.add (local.get 0) (local.get 0)) (i32.const 1))
                (func (export "g2") (call $b (i32.const 1))))"#,
            "(call $b (i32.const 1))".repeat(1000)
        );
        let bytes = wat::parse_str(&text).unwrap();
        let hollow = module(&bytes).unwrap();
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
            .validate_all(&hollow)
            .unwrap();
        assert!(hollow.len() < 2000, "{}", hollow.len());
        assert!(module(b"\0asm\x01\0\0\0\x0a\x01").is_err());
    }
}

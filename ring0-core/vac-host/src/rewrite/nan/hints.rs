//! Which way branches go, for whoever lays out the code. That is in a custom section that names branches by their
//! offset in a function, so it must move when code is inserted, and it tells what is inserted from what
//! a program does.

use std::collections::BTreeMap;

use wasm_encoder::{BranchHint, BranchHints};
use wasmparser::BranchHintSectionReader;

/// A branch, by its offset from the start of a function's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) offset: u32,
    pub(super) is_taken: bool,
}

/// Those of a module, by function.
#[derive(Default)]
pub(super) struct Hints(BTreeMap<u32, Vec<Hint>>);

impl Hints {
    /// What a section says. One that cannot be read to its end says nothing, as for the engine.
    pub(super) fn read(reader: BranchHintSectionReader<'_>) -> Self {
        let mut all = BTreeMap::new();
        for function in reader {
            let Ok(function) = function else { return Self::default() };
            let hints: Result<Vec<_>, _> = function.hints.into_iter().collect();
            let Ok(hints) = hints else { return Self::default() };
            let hints = hints.iter().map(|hint| Hint { offset: hint.func_offset, is_taken: hint.taken });
            all.entry(function.func).or_insert_with(|| hints.collect());
        }
        Self(all)
    }

    /// Those of a function.
    pub(super) fn of(&self, function: u32) -> &[Hint] {
        self.0.get(&function).map_or(&[], Vec::as_slice)
    }

    pub(super) fn replace(&mut self, function: u32, mut hints: Vec<Hint>) {
        // The engine reads them in this order and no other.
        hints.sort_by_key(|hint| hint.offset);
        self.0.insert(function, hints);
    }

    /// The section, unless it would say nothing.
    pub(super) fn section(&self) -> Option<BranchHints> {
        let mut section = BranchHints::new();
        for (function, hints) in self.0.iter().filter(|(_, hints)| !hints.is_empty()) {
            let encoded = hints.iter().map(|hint| BranchHint {
                branch_func_offset: hint.offset,
                branch_hint_value: hint.is_taken.into(),
            });
            section.function_hints(*function, encoded);
        }
        (!section.is_empty()).then_some(section)
    }
}

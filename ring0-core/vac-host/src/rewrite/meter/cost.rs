//! What things cost, in ticks and in units of depth: the definition that `docs/ticks.md` explains.
//!
//! A number here is part of what a run's record means. None changes without a new profile.

use wasmparser::Operator;

/// Ticks that entering a function costs, before its locals.
pub const ENTRY: u64 = 1;
/// Words of declared locals that entering a function sets up without further cost.
pub const FREE_LOCAL_WORDS: u64 = 32;
/// Bytes of linear memory that one tick moves, as a power of two.
pub const BYTES_SHIFT: u32 = 6;
/// Elements of a table or of an array that one tick moves, as a power of two.
pub const ELEMENTS_SHIFT: u32 = 3;
/// Ticks of one page by which a memory grows, as a power of two: 64 KiB at 64 bytes a tick.
pub const PAGE_SHIFT: u32 = 16 - BYTES_SHIFT;
/// The largest length that is charged for. No memory is larger, so an operator with a greater one fails.
pub const LENGTH_MAX: u64 = 1 << 48;

/// Ticks that a counted loop is charged for at a time: it is stopped no later than that.
pub const PART: u64 = 1 << 20;

/// Units of depth of any function.
pub const FRAME: u64 = 4;
/// Values that operators of a function make, for one further unit.
pub const VALUES_PER_UNIT: u64 = 128;
/// Bytes of the native stack that one unit takes at most, on every engine. What it follows from is in
/// `docs/ticks.md`.
pub const NATIVE_BYTES_PER_UNIT: u64 = 768;
/// A function is not counted as depth if it weighs no more than this with what it calls.
pub const TREE_WEIGHT_MAX: u64 = 128;
/// A function is not checked on entry if its operators and those of what it calls cost no more than this.
pub const TREE_TICKS_MAX: u64 = 1 << 14;

/// Ticks of an operator, without what depends on its operands.
pub(super) fn of(op: &Operator<'_>) -> u64 {
    use Operator as O;
    match op {
        O::Nop
        | O::Drop
        | O::Block { .. }
        | O::TryTable { .. }
        | O::Else
        | O::End
        | O::Unreachable
        | O::Return => 0,
        _ => 1,
    }
}

/// Ticks of entering a function with this many words of declared locals.
pub(super) fn entry(local_words: u64) -> u64 {
    ENTRY + local_words.saturating_sub(FREE_LOCAL_WORDS)
}

/// Units of depth of a function with so many words of parameters, results and locals, whose operators make so
/// many values.
pub(super) fn weight(words: u64, values: u64) -> u64 {
    FRAME + words + values.div_ceil(VALUES_PER_UNIT)
}

//! What the meter must know of a function before it writes the first instruction.

use vac_core::fault::Result;
use wasmparser::{FunctionBody, Operator};

use super::types::{Types, words};
use super::{PLACE, cost, invalid};
use crate::load::malformed;

/// Locals that a function may declare: what the engine accepts, less those that the meter adds.
const LOCALS_MAX: u64 = 50_000 - 10;

/// A function, before it is rewritten.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The type of the function.
    pub(super) ty: u32,
    pub(super) params: u32,
    /// Parameters and declared locals.
    pub(super) locals: u32,
    /// Functions that it calls by number, each as often as there are calls.
    pub(super) callees: Vec<u32>,
    /// Calls what a value says.
    pub(super) calls_unknown: bool,
    /// Asks functions for their types, or calls what a reference of a type of its own says.
    pub(super) asks_types: bool,
    /// Types by which it calls through tables.
    pub(super) called_types: Vec<u32>,
    /// Functions that it makes references to.
    pub(super) takes: Vec<u32>,
    /// Ends by calling something.
    pub(super) tail_calls: bool,
    /// A function of its module does: who comes back from there may be one of another module, which waited.
    pub(super) is_among_tail_calls: bool,
    pub(super) loops: bool,
    /// Catches exceptions.
    pub(super) catches: bool,
    /// Has operators whose cost depends on a length of 32 bits.
    pub(super) lengths: bool,
    /// The same, of 64 bits.
    pub(super) wide_lengths: bool,
    /// Has branches that may or may not end the function.
    pub(super) may_leave: bool,
    /// Ticks of entering it.
    pub(super) entry: u64,
    /// Ticks of all its operators, each once, and of entering it.
    pub(super) cost: u64,
    /// Units of depth.
    pub(super) weight: u64,
    /// It ends soon, with all that it calls.
    pub(super) is_brief: bool,
    /// It needs little depth, with all that it calls.
    pub(super) is_shallow: bool,
}

impl Facts {
    pub(super) fn read(function: &FunctionBody<'_>, ty: u32, types: &Types) -> Result<Self> {
        let shape = types.shape(ty)?;
        let (mut local_words, mut locals) = (0, u64::from(shape.params));
        for group in function.get_locals_reader().map_err(|e| malformed(&e, PLACE))? {
            let (count, ty) = group.map_err(|e| malformed(&e, PLACE))?;
            locals += u64::from(count);
            local_words += u64::from(count) * words(ty);
        }
        if locals > LOCALS_MAX {
            return Err(invalid("a function with more than 49,990 locals"));
        }
        let mut facts = Self {
            ty,
            params: shape.params,
            locals: locals as u32,
            entry: cost::entry(local_words),
            ..Self::default()
        };
        let values = facts.scan(function, types)?;
        facts.cost += facts.entry;
        facts.weight = cost::weight(shape.words() + local_words, values);
        Ok(facts)
    }

    /// Looks at all operators. The answer is how many values they make at most, those that calls pass with them.
    fn scan(&mut self, function: &FunctionBody<'_>, types: &Types) -> Result<u64> {
        let mut reader = function.get_operators_reader().map_err(|e| malformed(&e, PLACE))?;
        let (mut values, mut nesting) = (0, 0_u32);
        while !reader.eof() {
            let op = reader.read().map_err(|e| malformed(&e, PLACE))?;
            self.cost += cost::of(&op);
            values += 1 + self.note(&op, nesting, types)?;
            match op {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => nesting += 1,
                Operator::TryTable { .. } => nesting += 1,
                Operator::End => nesting = nesting.saturating_sub(1),
                _ => {}
            }
        }
        Ok(values)
    }

    /// Notes an operator; the answer is how many values beyond one it makes or passes.
    fn note(&mut self, op: &Operator<'_>, nesting: u32, types: &Types) -> Result<u64> {
        use Operator as O;
        match op {
            O::Call { function_index } => {
                self.callees.push(*function_index);
                return Ok(types.shape(types.of_function(*function_index)?)?.words());
            }
            O::CallIndirect { type_index, .. } | O::CallRef { type_index } => {
                self.calls_unknown = true;
                self.asks_types |= matches!(op, O::CallRef { .. });
                if self.called_types.last() != Some(type_index) {
                    self.called_types.push(*type_index);
                }
                return Ok(types.shape(*type_index)?.words());
            }
            O::ReturnCall { function_index } => {
                self.tail_calls = true;
                return Ok(types.shape(types.of_function(*function_index)?)?.words());
            }
            O::ReturnCallIndirect { type_index, .. } | O::ReturnCallRef { type_index } => {
                self.tail_calls = true;
                return Ok(types.shape(*type_index)?.words());
            }
            O::RefFunc { function_index } => self.takes.push(*function_index),
            O::RefTestNonNull { .. }
            | O::RefTestNullable { .. }
            | O::RefCastNonNull { .. }
            | O::RefCastNullable { .. }
            | O::BrOnCast { .. }
            | O::BrOnCastFail { .. } => self.asks_types = true,
            O::Block { blockty } | O::If { blockty } => return types.values(*blockty),
            O::Loop { blockty } => {
                self.loops = true;
                return types.values(*blockty);
            }
            O::TryTable { try_table } => {
                self.catches = true;
                return types.values(try_table.ty);
            }
            _ => {}
        }
        self.note_length(op, types)?;
        self.may_leave |= conditional_targets(op)?.is_some_and(|targets| targets.contains(&nesting));
        Ok(0)
    }

    fn note_length(&mut self, op: &Operator<'_>, types: &Types) -> Result<()> {
        match length(op, types)? {
            Some(Length { is_wide: true, .. }) => self.wide_lengths = true,
            Some(_) => self.lengths = true,
            None => {}
        }
        Ok(())
    }

    /// Whether something in it is checked against the limit of ticks.
    pub(super) fn is_checked(&self) -> bool {
        self.is_checked_on_entry() || self.loops || self.lengths || self.wide_lengths
    }

    /// A function that calls nothing and has no loop ends by itself.
    pub(super) fn is_checked_on_entry(&self) -> bool {
        (self.calls() || self.tail_calls) && !self.is_brief
    }

    /// Whether it counts as depth.
    pub(super) fn is_counted(&self) -> bool {
        !self.is_shallow && (self.calls() || self.weight > cost::TREE_WEIGHT_MAX)
    }

    /// Whether it calls anything, but for what it ends with.
    pub(super) fn calls(&self) -> bool {
        self.calls_unknown || !self.callees.is_empty()
    }
}

/// Where a branch that is not always taken may go, in labels; `None` for other operators.
pub(super) fn conditional_targets(op: &Operator<'_>) -> Result<Option<Vec<u32>>> {
    use Operator as O;
    Ok(match op {
        O::BrIf { relative_depth }
        | O::BrOnNull { relative_depth }
        | O::BrOnNonNull { relative_depth }
        | O::BrOnCast { relative_depth, .. }
        | O::BrOnCastFail { relative_depth, .. } => Some(vec![*relative_depth]),
        O::BrTable { targets } => {
            let all = targets.targets().chain([Ok(targets.default())]);
            Some(all.collect::<wasmparser::Result<_>>().map_err(|e| malformed(&e, PLACE))?)
        }
        _ => None,
    })
}

/// An operand that says how much an operator does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) is_wide: bool,
    pub(super) scale: Scale,
}

/// How a length becomes ticks, by powers of two.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// So many for one tick, rounded up.
    Down(u32),
    /// So many ticks for one.
    Up(u32),
}

/// The length that is on top of the stack before the operator.
pub(super) fn length(op: &Operator<'_>, types: &Types) -> Result<Option<Length>> {
    use Operator as O;
    let bytes = Scale::Down(cost::BYTES_SHIFT);
    let elements = Scale::Down(cost::ELEMENTS_SHIFT);
    let (is_wide, scale) = match op {
        O::MemoryCopy { dst_mem, src_mem } => {
            (types.memory_is_wide(*dst_mem)? && types.memory_is_wide(*src_mem)?, bytes)
        }
        O::MemoryFill { mem } => (types.memory_is_wide(*mem)?, bytes),
        O::MemoryGrow { mem } => (types.memory_is_wide(*mem)?, Scale::Up(cost::PAGE_SHIFT)),
        O::MemoryInit { .. } => (false, bytes),
        O::TableCopy { dst_table, src_table } => {
            (types.table_is_wide(*dst_table)? && types.table_is_wide(*src_table)?, elements)
        }
        O::TableFill { table } | O::TableGrow { table } => (types.table_is_wide(*table)?, elements),
        O::TableInit { .. }
        | O::ArrayNew { .. }
        | O::ArrayNewDefault { .. }
        | O::ArrayNewData { .. }
        | O::ArrayNewElem { .. }
        | O::ArrayFill { .. }
        | O::ArrayCopy { .. }
        | O::ArrayInitData { .. }
        | O::ArrayInitElem { .. } => (false, elements),
        _ => return Ok(None),
    };
    Ok(Some(Length { is_wide, scale }))
}

//! Loops whose trips are known before they begin.
//!
//! A loop is counted if its body is straight, ends with the only branch back, and that branch depends on a local that
//! every trip changes by the same step, compared with something that no trip changes. The body is evaluated once
//! with symbols: what each local holds at its end, and what the branch compares, as sums of what locals held when the
//! trip began. So it does not matter in which order a compiler writes these things, or through which copies.
//!
//! All orders are brought to one: values that are compared with signs have their top bit flipped, and where the step
//! goes down all bits are. Then the loop goes on while `x != y`, `x < y` or `x <= y` without signs, `x` grows by a
//! step, and the trips before the last are
//!
//! ```text
//! x != y    (y - x) / step, if the step divides it; else x passes y by, and the loop is not counted
//! x < y     x < y ? (y - x - 1) / step + 1 : 0, if x cannot wrap around: y <= 2^bits - step
//! x <= y    the same with y + 1, if y <= 2^bits - 1 - step
//! ```
//!
//! where `x` is what the first trip compares.

use std::collections::BTreeMap;

use wasmparser::{BlockType, Operator, OperatorsReader};

use super::arity::arity;
use super::cost;

/// Operators that a loop which is written twice has at most.
const OPERATORS_MAX: usize = 128;

/// A loop's operator, and its bytes.
pub(super) type Op<'a> = (Operator<'a>, &'a [u8]);

/// A loop that can be charged before it runs.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    /// The body, from after `loop` to its `end`.
    pub(super) ops: Vec<Op<'a>>,
    /// Ticks of one trip.
    pub(super) cost: u64,
    pub(super) condition: Condition,
}

/// When the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) is_wide: bool,
    pub(super) order: Order,
    /// Whether the values have signs.
    pub(super) is_signed: bool,
    /// Whether the step goes down.
    pub(super) is_down: bool,
    /// What the first trip compares.
    pub(super) first: Sum,
    /// What it is compared with.
    pub(super) last: Last,
    pub(super) step: Step,
    pub(super) patch: Patch,
}

/// How the two are compared, once brought to unsigned and upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    NotEqual,
    Less,
    LessOrEqual,
}

/// A sum of what locals held when the trip began and a constant. It wraps around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) local: u32,
    pub(super) other: Option<u32>,
    pub(super) plus: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Local(u32),
    Constant(u64),
}

/// What a trip adds. It is as wide as the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Local(u32),
    Constant(u64),
}

/// How the body is made to compare with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patch {
    /// The operator that pushes the value is replaced.
    Replace(usize),
    /// The operator that compares with zero is replaced by an equality.
    Equal(usize),
    /// The branch itself compares with zero, so an inequality comes before it.
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less { is_signed: bool },
    LessOrEqual { is_signed: bool },
    Greater { is_signed: bool },
    GreaterOrEqual { is_signed: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Constant(u64),
    Sum(Sum),
    Compared(Compared),
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Compared {
    comparison: Comparison,
    is_wide: bool,
    left: Operand,
    right: Operand,
    by: By,
}

/// What compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// An operator with two operands.
    Operands,
    /// The operator of this number, with zero.
    WithZero(usize),
    /// The branch.
    Branch,
}

/// A side of a comparison that is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Constant(u64, Option<usize>),
    Sum(Sum, Option<usize>),
}

/// A value on the stack, and the operator that did nothing but push it.
#[derive(Debug, Clone, Copy)]
struct Value {
    symbol: Symbol,
    pushed_by: Option<usize>,
}

impl<'a> Counted<'a> {
    /// The loop whose body `reader` comes to, if it can be counted. Of `bytes`, the function's body begins at `start`.
    pub(super) fn read(
        blockty: BlockType,
        mut reader: OperatorsReader<'a>,
        bytes: &'a [u8],
        start: usize,
    ) -> Option<(Self, OperatorsReader<'a>)> {
        if blockty != BlockType::Empty {
            return None;
        }
        let mut ops: Vec<Op<'a>> = Vec::new();
        loop {
            let from = reader.original_position() - start;
            let op = reader.read().ok()?;
            let raw = bytes.get(from..reader.original_position() - start)?;
            let is_branched = matches!(ops.last(), Some((Operator::BrIf { relative_depth: 0 }, _)));
            let is_end = matches!(op, Operator::End);
            ops.push((op, raw));
            match (is_branched, is_end) {
                (true, true) => break,
                (false, false) if ops.len() <= OPERATORS_MAX => {}
                _ => return None,
            }
        }
        let condition = evaluate(&ops)?;
        let cost = ops.iter().map(|(op, _)| cost::of(op)).sum();
        Some((Self { ops, cost, condition }, reader))
    }
}

/// The body with symbols.
#[derive(Default)]
struct Symbols {
    stack: Vec<Value>,
    locals: BTreeMap<u32, Symbol>,
}

fn evaluate(ops: &[Op<'_>]) -> Option<Condition> {
    let mut symbols = Symbols::default();
    // Without the branch and the end.
    let body = ops.get(..ops.len().checked_sub(2)?)?;
    for (at, (op, _)) in body.iter().enumerate() {
        symbols.operator(op, at)?;
    }
    let condition = symbols.stack.pop()?;
    match condition.symbol {
        Symbol::Compared(compared) => symbols.condition(compared),
        // The branch is taken while this is not zero.
        Symbol::Sum(sum) => {
            let compared = Compared {
                comparison: Comparison::NotEqual,
                is_wide: false,
                left: Operand::Sum(sum, None),
                right: Operand::Constant(0, None),
                by: By::Branch,
            };
            symbols.condition(compared)
        }
        Symbol::Constant(_) | Symbol::Unknown => None,
    }
}

impl Symbols {
    /// `None` if a loop with this operator is not counted.
    fn operator(&mut self, op: &Operator<'_>, at: usize) -> Option<()> {
        use Operator as O;
        let symbol = match op {
            O::LocalGet { local_index } => {
                let symbol = self.local(*local_index);
                self.stack.push(Value { symbol, pushed_by: Some(at) });
                return Some(());
            }
            O::I32Const { value } => return self.constant(*value as u64, at),
            O::I64Const { value } => return self.constant(*value as u64, at),
            O::LocalSet { local_index } => {
                let value = self.take()?;
                self.locals.insert(*local_index, value.symbol);
                return Some(());
            }
            O::LocalTee { local_index } => {
                let value = self.take()?;
                self.locals.insert(*local_index, value.symbol);
                value.symbol
            }
            O::I32Add | O::I64Add => {
                let (right, left) = (self.take()?, self.take()?);
                add(left.symbol, right.symbol)
            }
            O::I32Sub | O::I64Sub => {
                let (right, left) = (self.take()?, self.take()?);
                subtract(left.symbol, right.symbol)
            }
            O::I32Eqz | O::I64Eqz => {
                let value = self.stack.pop()?;
                is_zero(value, matches!(op, O::I64Eqz), at)
            }
            _ => return self.other(op),
        };
        self.stack.push(Value { symbol, pushed_by: None });
        Some(())
    }

    fn other(&mut self, op: &Operator<'_>) -> Option<()> {
        if let Some((comparison, is_wide)) = comparison(op) {
            let (right, left) = (self.take()?, self.take()?);
            let symbol = compare(comparison, is_wide, left, right);
            self.stack.push(Value { symbol, pushed_by: None });
            return Some(());
        }
        let (takes, gives) = arity(op)?;
        for _ in 0..takes {
            self.take()?;
        }
        let unknown = Value { symbol: Symbol::Unknown, pushed_by: None };
        self.stack.extend(std::iter::repeat_n(unknown, gives));
        Some(())
    }

    /// A value that is used otherwise than to go on or not. What was compared with the bound cannot be: the copy of
    /// the body compares with the bound of a part, and what the guest sees must not depend on parts.
    fn take(&mut self) -> Option<Value> {
        self.stack.pop().filter(|value| !matches!(value.symbol, Symbol::Compared(_)))
    }

    fn constant(&mut self, value: u64, at: usize) -> Option<()> {
        self.stack.push(Value { symbol: Symbol::Constant(value), pushed_by: Some(at) });
        Some(())
    }

    fn local(&self, local: u32) -> Symbol {
        let sum = Symbol::Sum(Sum { local, other: None, plus: 0 });
        self.locals.get(&local).copied().unwrap_or(sum)
    }

    /// Whether no trip changes the local.
    fn is_fixed(&self, local: u32) -> bool {
        self.local(local) == Symbol::Sum(Sum { local, other: None, plus: 0 })
    }

    /// What a trip adds to the local, if that is always the same.
    fn step(&self, local: u32) -> Option<Step> {
        let Symbol::Sum(sum) = self.local(local) else { return None };
        match (sum.other, sum.plus) {
            (None, plus) if sum.local == local && plus != 0 => Some(Step::Constant(plus)),
            (Some(other), 0) if sum.local == local && self.is_fixed(other) => Some(Step::Local(other)),
            (Some(other), 0) if other == local && self.is_fixed(sum.local) => Some(Step::Local(sum.local)),
            _ => None,
        }
    }

    /// What a trip adds to the sum: just one of its locals may change.
    fn step_of(&self, sum: Sum) -> Option<Step> {
        match sum.other {
            None => self.step(sum.local),
            Some(other) if self.is_fixed(other) => self.step(sum.local),
            Some(other) if self.is_fixed(sum.local) => self.step(other),
            Some(_) => None,
        }
    }

    fn condition(&self, compared: Compared) -> Option<Condition> {
        let swapped = Compared {
            comparison: compared.comparison.swapped(),
            left: compared.right,
            right: compared.left,
            ..compared
        };
        self.ordered(compared).or_else(|| self.ordered(swapped))
    }

    /// The condition, if the left side moves and the right one does not.
    fn ordered(&self, compared: Compared) -> Option<Condition> {
        let Compared { comparison, is_wide, left: Operand::Sum(first, _), right, by } = compared else {
            return None;
        };
        let step = self.step_of(first)?;
        let (last, pushed_by) = match right {
            Operand::Constant(value, at) => (Last::Constant(value), at),
            Operand::Sum(Sum { local, other: None, plus: 0 }, at) if self.is_fixed(local) => {
                (Last::Local(local), at)
            }
            Operand::Sum(..) => return None,
        };
        let patch = match by {
            By::Operands => Patch::Replace(pushed_by?),
            By::WithZero(at) => Patch::Equal(at),
            By::Branch => Patch::NotEqual,
        };
        let (order, is_signed, is_down) = comparison.order(step, is_wide)?;
        Some(Condition { is_wide, order, is_signed, is_down, first, last, step, patch })
    }
}

impl Comparison {
    /// The same with the sides exchanged.
    fn swapped(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less { is_signed } => Self::Greater { is_signed },
            Self::LessOrEqual { is_signed } => Self::GreaterOrEqual { is_signed },
            Self::Greater { is_signed } => Self::Less { is_signed },
            Self::GreaterOrEqual { is_signed } => Self::LessOrEqual { is_signed },
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less { is_signed } => Self::GreaterOrEqual { is_signed },
            Self::LessOrEqual { is_signed } => Self::Greater { is_signed },
            Self::Greater { is_signed } => Self::LessOrEqual { is_signed },
            Self::GreaterOrEqual { is_signed } => Self::Less { is_signed },
        }
    }

    /// Order, whether there are signs, and whether the step goes down. A loop that goes away from what it is
    /// compared with is not counted, nor one that goes on while two are equal.
    fn order(self, step: Step, is_wide: bool) -> Option<(Order, bool, bool)> {
        let goes_down = match step {
            // Sums of 32 bits are kept in 64.
            Step::Constant(step) if !is_wide && step as u32 == 0 => return None,
            Step::Constant(step) => Some(if is_wide { (step as i64) < 0 } else { (step as i32) < 0 }),
            Step::Local(_) => None,
        };
        match self {
            Self::Equal => None,
            Self::NotEqual => Some((Order::NotEqual, false, goes_down?)),
            Self::Less { is_signed } if goes_down != Some(true) => Some((Order::Less, is_signed, false)),
            Self::LessOrEqual { is_signed } if goes_down != Some(true) => {
                Some((Order::LessOrEqual, is_signed, false))
            }
            Self::Greater { is_signed } if goes_down != Some(false) => Some((Order::Less, is_signed, true)),
            Self::GreaterOrEqual { is_signed } if goes_down != Some(false) => {
                Some((Order::LessOrEqual, is_signed, true))
            }
            _ => None,
        }
    }
}

fn operand(value: Value) -> Option<Operand> {
    match value.symbol {
        Symbol::Constant(constant) => Some(Operand::Constant(constant, value.pushed_by)),
        Symbol::Sum(sum) => Some(Operand::Sum(sum, value.pushed_by)),
        Symbol::Compared(_) | Symbol::Unknown => None,
    }
}

/// The side that does not move must have been pushed by an operator of its own, so that it can be replaced.
fn compare(comparison: Comparison, is_wide: bool, left: Value, right: Value) -> Symbol {
    if left.pushed_by.is_none() && right.pushed_by.is_none() {
        return Symbol::Unknown;
    }
    match (operand(left), operand(right)) {
        (Some(left), Some(right)) => {
            Symbol::Compared(Compared { comparison, is_wide, left, right, by: By::Operands })
        }
        _ => Symbol::Unknown,
    }
}

fn is_zero(value: Value, is_wide: bool, at: usize) -> Symbol {
    match value.symbol {
        Symbol::Compared(compared) if !is_wide => {
            Symbol::Compared(Compared { comparison: compared.comparison.negated(), ..compared })
        }
        Symbol::Sum(sum) => Symbol::Compared(Compared {
            comparison: Comparison::Equal,
            is_wide,
            left: Operand::Sum(sum, None),
            right: Operand::Constant(0, None),
            by: By::WithZero(at),
        }),
        _ => Symbol::Unknown,
    }
}

fn add(left: Symbol, right: Symbol) -> Symbol {
    match (left, right) {
        (Symbol::Constant(a), Symbol::Constant(b)) => Symbol::Constant(a.wrapping_add(b)),
        (Symbol::Sum(sum), Symbol::Constant(more)) | (Symbol::Constant(more), Symbol::Sum(sum)) => {
            Symbol::Sum(Sum { plus: sum.plus.wrapping_add(more), ..sum })
        }
        (Symbol::Sum(a), Symbol::Sum(b)) if a.other.is_none() && b.other.is_none() && a.local != b.local => {
            Symbol::Sum(Sum { local: a.local, other: Some(b.local), plus: a.plus.wrapping_add(b.plus) })
        }
        _ => Symbol::Unknown,
    }
}

fn subtract(left: Symbol, right: Symbol) -> Symbol {
    match (left, right) {
        (_, Symbol::Constant(less)) => add(left, Symbol::Constant(less.wrapping_neg())),
        _ => Symbol::Unknown,
    }
}

/// What an operator compares, and whether its operands have 64 bits.
fn comparison(op: &Operator<'_>) -> Option<(Comparison, bool)> {
    use Comparison as C;
    use Operator as O;
    Some(match op {
        O::I32Eq => (C::Equal, false),
        O::I32Ne => (C::NotEqual, false),
        O::I32LtS => (C::Less { is_signed: true }, false),
        O::I32LtU => (C::Less { is_signed: false }, false),
        O::I32LeS => (C::LessOrEqual { is_signed: true }, false),
        O::I32LeU => (C::LessOrEqual { is_signed: false }, false),
        O::I32GtS => (C::Greater { is_signed: true }, false),
        O::I32GtU => (C::Greater { is_signed: false }, false),
        O::I32GeS => (C::GreaterOrEqual { is_signed: true }, false),
        O::I32GeU => (C::GreaterOrEqual { is_signed: false }, false),
        O::I64Eq => (C::Equal, true),
        O::I64Ne => (C::NotEqual, true),
        O::I64LtS => (C::Less { is_signed: true }, true),
        O::I64LtU => (C::Less { is_signed: false }, true),
        O::I64LeS => (C::LessOrEqual { is_signed: true }, true),
        O::I64LeU => (C::LessOrEqual { is_signed: false }, true),
        O::I64GtS => (C::Greater { is_signed: true }, true),
        O::I64GtU => (C::Greater { is_signed: false }, true),
        O::I64GeS => (C::GreaterOrEqual { is_signed: true }, true),
        O::I64GeU => (C::GreaterOrEqual { is_signed: false }, true),
        _ => return None,
    })
}

//! What a function needs before its first instruction is written: which clauses each `try` has, what is handed over
//! to it, and how many exceptions are kept at a time.

use vac_core::fault::Result;
use wasm_encoder::BlockType as Block;
use wasmparser::{BlockType, FunctionBody, Operator, ValType};

use super::types::{EXNREF, Types, same_block};
use super::{PLACE, invalid};
use crate::load::malformed;

/// A clause of a `try`.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    /// `None` catches all.
    pub(super) tag: Option<u32>,
    /// Whether it throws again what it caught, which is kept until then.
    pub(super) rethrows: bool,
    /// The block whose end is where it begins.
    pub(super) block: Block,
}

/// What becomes of a `try`.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) block: Block,
    pub(super) clauses: Vec<Clause>,
    /// Where it ends with `delegate`: the label, seen from outside of it. Then it has no clauses.
    pub(super) delegates: Option<u32>,
    /// The block around the body, where a `delegate` hands over to this.
    pub(super) handed_over: Option<Block>,
}

/// What becomes of a function.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order in which they begin.
    pub(super) tries: Vec<Try>,
    /// Parameters and declared locals.
    pub(super) locals: u32,
    /// Clauses that are inside of each other, each of which has a local for what it may throw again.
    pub(super) kept: u32,
    /// The block around the whole, where a `delegate` hands over to the caller.
    pub(super) handed_over: Option<Block>,
}

/// A block that is open.
enum Open {
    Plain,
    /// The body of a `try`.
    Body(usize),
    /// Its clause, by number.
    Clause(usize, usize),
}

impl Plan {
    pub(super) fn read(function: &FunctionBody<'_>, number: usize, types: &mut Types) -> Result<Self> {
        let mut locals = u64::from(types.params_of(number)?);
        for group in function.get_locals_reader().map_err(|e| malformed(&e, PLACE))? {
            locals += u64::from(group.map_err(|e| malformed(&e, PLACE))?.0);
        }
        let locals = u32::try_from(locals).map_err(|_| invalid("too many locals"))?;
        let mut reading = Reading {
            types,
            plan: Self { tries: Vec::new(), locals, kept: 0, handed_over: None },
            params: Vec::new(),
            open: vec![Open::Plain],
            clauses: 0,
        };
        let mut reader = function.get_operators_reader().map_err(|e| malformed(&e, PLACE))?;
        while !reader.eof() {
            reading.operator(&reader.read().map_err(|e| malformed(&e, PLACE))?)?;
        }
        reading.finish()
    }

    /// Whether anything that is caught is thrown again.
    pub(super) fn rethrows(&self) -> bool {
        self.tries.iter().flat_map(|one| &one.clauses).any(|clause| clause.rethrows)
    }
}

struct Reading<'t> {
    types: &'t mut Types,
    plan: Plan,
    /// What each `try` takes.
    params: Vec<Vec<ValType>>,
    open: Vec<Open>,
    /// Clauses that are open.
    clauses: u32,
}

impl Reading<'_> {
    fn operator(&mut self, op: &Operator<'_>) -> Result<()> {
        use Operator as O;
        match op {
            O::Block { .. } | O::Loop { .. } | O::If { .. } | O::TryTable { .. } => {
                self.open.push(Open::Plain)
            }
            O::Try { blockty } => self.open_try(*blockty)?,
            O::Catch { tag_index } => self.open_clause(Some(*tag_index))?,
            O::CatchAll => self.open_clause(None)?,
            O::Rethrow { relative_depth } => self.rethrow(*relative_depth)?,
            O::Delegate { relative_depth } => {
                let Some(Open::Body(number)) = self.open.pop() else {
                    return Err(invalid("a `delegate` alone"));
                };
                self.of(number)?.delegates = Some(*relative_depth);
                self.hand_over(*relative_depth)?;
            }
            O::End => self.close(),
            _ => {}
        }
        Ok(())
    }

    fn of(&mut self, number: usize) -> Result<&mut Try> {
        self.plan.tries.get_mut(number).ok_or_else(|| invalid("a `try` that did not begin"))
    }

    fn close(&mut self) {
        if let Some(Open::Clause(..)) = self.open.pop() {
            self.clauses = self.clauses.saturating_sub(1);
        }
    }

    fn open_try(&mut self, block: BlockType) -> Result<()> {
        self.params.push(self.types.params(block)?);
        self.open.push(Open::Body(self.plan.tries.len()));
        let block = same_block(block)?;
        self.plan.tries.push(Try { block, clauses: Vec::new(), delegates: None, handed_over: None });
        Ok(())
    }

    fn open_clause(&mut self, tag: Option<u32>) -> Result<()> {
        let number = match self.open.last() {
            Some(Open::Body(number) | Open::Clause(number, _)) => *number,
            _ => return Err(invalid("a clause outside of a `try`")),
        };
        self.close();
        let clauses = &mut self.of(number)?.clauses;
        clauses.push(Clause { tag, rethrows: false, block: Block::Empty });
        let clause = clauses.len() - 1;
        self.open.push(Open::Clause(number, clause));
        self.clauses += 1;
        self.plan.kept = self.plan.kept.max(self.clauses);
        Ok(())
    }

    fn rethrow(&mut self, label: u32) -> Result<()> {
        let at = self.open.iter().rev().nth(label as usize);
        let Some(Open::Clause(number, clause)) = at else {
            return Err(invalid("a `rethrow` outside of a clause"));
        };
        let (number, clause) = (*number, *clause);
        let clause = self.of(number)?.clauses.get_mut(clause);
        clause.ok_or_else(|| invalid("a clause that did not begin"))?.rethrows = true;
        Ok(())
    }

    /// Notes who gets what a `delegate` to `label`, seen from outside of its own `try`, hands over.
    fn hand_over(&mut self, label: u32) -> Result<()> {
        match receiver(
            self.open.iter().map(|open| if let Open::Body(n) = open { Some(*n) } else { None }),
            label,
        )? {
            Some((_, number)) => {
                let params = self.params.get(number).cloned().unwrap_or_default();
                let block = self.types.block(params, vec![EXNREF])?;
                self.of(number)?.handed_over = Some(block);
            }
            None => self.plan.handed_over = Some(self.types.block(Vec::new(), vec![EXNREF])?),
        }
        Ok(())
    }

    /// The types of the blocks, once it is known which clauses throw again.
    fn finish(self) -> Result<Plan> {
        let Self { types, mut plan, params, .. } = self;
        for (one, params) in plan.tries.iter_mut().zip(params) {
            for clause in &mut one.clauses {
                let mut results = clause.tag.map_or(Ok(Vec::new()), |tag| types.carried_by(tag))?;
                results.extend(clause.rethrows.then_some(EXNREF));
                clause.block = types.block(params.clone(), results)?;
            }
        }
        Ok(plan)
    }
}

/// The innermost `try` at `label` or around it in whose body that is, with its place among the open blocks; `None` is
/// the caller. `open` says of each open block, outermost first, the body of which `try` it is.
pub(super) fn receiver(
    open: impl DoubleEndedIterator<Item = Option<usize>> + ExactSizeIterator,
    label: u32,
) -> Result<Option<(usize, usize)>> {
    let len = open.len();
    if label as usize >= len {
        return Err(invalid("a `delegate` to a label that is not there"));
    }
    let around = open.enumerate().rev().skip(label as usize);
    Ok(around.filter_map(|(at, body)| Some((at, body?))).next())
}

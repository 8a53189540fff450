//! Writes a function again, with other blocks for its `try`s. Labels are numbers of blocks seen from inside, so every
//! branch gets the number that the block it means has now.

use std::borrow::Cow;

use vac_core::fault::Result;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{Catch, Function, Instruction as I, ValType};
use wasmparser::{FunctionBody, Operator};

use super::plan::{Plan, Try, receiver};
use super::{PLACE, invalid};
use crate::load::malformed;

/// A block of the function as it was.
struct Frame {
    kind: Kind,
    /// The block that a branch to it means now, by its place among those that are open, outermost first.
    target: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    /// The body of a `try`, and the block that others hand over to.
    Body(usize, Option<u32>),
    /// A clause of one, by number, and the local with what it caught.
    Clause(usize, usize, u32),
}

struct Writer<'p> {
    plan: &'p Plan,
    to: Function,
    frames: Vec<Frame>,
    /// Blocks that are open now, the function's own with them.
    height: u32,
    /// The `try` that begins next.
    next: usize,
    /// Clauses that are open.
    clauses: u32,
    /// The block that is handed over to the caller.
    caller: Option<u32>,
}

/// The function without exceptions of the first proposal.
pub(super) fn write(function: &FunctionBody<'_>, plan: &Plan) -> Result<Function> {
    let mut locals = Vec::new();
    for group in function.get_locals_reader().map_err(|e| malformed(&e, PLACE))? {
        let (count, ty) = group.map_err(|e| malformed(&e, PLACE))?;
        locals.push((count, RoundtripReencoder.val_type(ty).map_err(|e| invalid(&e.to_string()))?));
    }
    if plan.rethrows() {
        locals.push((plan.kept, ValType::EXNREF));
    }
    let frames = vec![Frame { kind: Kind::Plain, target: 0 }];
    let to = Function::new(locals);
    let mut writer = Writer { plan, to, frames, height: 1, next: 0, clauses: 0, caller: None };
    if let Some(block) = plan.handed_over {
        writer.caller = Some(writer.open(&I::Block(block)));
    }
    let mut reader = function.get_operators_reader().map_err(|e| malformed(&e, PLACE))?;
    while !reader.eof() {
        writer.operator(reader.read().map_err(|e| malformed(&e, PLACE))?)?;
    }
    Ok(writer.to)
}

impl Writer<'_> {
    fn operator(&mut self, op: Operator<'_>) -> Result<()> {
        use Operator as O;
        match op {
            O::Try { .. } => self.open_try(),
            O::Catch { .. } | O::CatchAll => self.open_clause(),
            O::Delegate { .. } | O::End => self.end(),
            O::Rethrow { relative_depth } => self.rethrow(relative_depth),
            O::Block { .. } | O::Loop { .. } | O::If { .. } | O::TryTable { .. } => {
                let op = self.relabelled(op)?;
                let target = self.open(&op);
                self.frames.push(Frame { kind: Kind::Plain, target });
                Ok(())
            }
            O::BrTable { targets } => {
                let labels =
                    targets.targets().map(|label| self.label(label.map_err(|e| malformed(&e, PLACE))?));
                let labels = labels.collect::<Result<Vec<_>>>()?;
                let default = self.label(targets.default())?;
                self.to.instruction(&I::BrTable(Cow::Owned(labels), default));
                Ok(())
            }
            op => {
                let op = self.relabelled(op)?;
                self.to.instruction(&op);
                Ok(())
            }
        }
    }

    /// The number of a label now.
    fn label(&self, label: u32) -> Result<u32> {
        let frame = self.frames.iter().rev().nth(label as usize);
        frame
            .map(|frame| self.seen_from_here(frame.target))
            .ok_or_else(|| invalid("a label that is not there"))
    }

    /// The number of an open block, seen from here.
    fn seen_from_here(&self, block: u32) -> u32 {
        self.height.saturating_sub(block.saturating_add(1))
    }

    /// An operator that is none of the old proposal, with its labels as they are now.
    fn relabelled<'a>(&self, mut op: Operator<'a>) -> Result<I<'a>> {
        use Operator as O;
        match &mut op {
            O::Br { relative_depth }
            | O::BrIf { relative_depth }
            | O::BrOnNull { relative_depth }
            | O::BrOnNonNull { relative_depth }
            | O::BrOnCast { relative_depth, .. }
            | O::BrOnCastFail { relative_depth, .. } => *relative_depth = self.label(*relative_depth)?,
            O::TryTable { try_table } => {
                for catch in &mut try_table.catches {
                    use wasmparser::Catch as C;
                    let (C::One { label, .. }
                    | C::OneRef { label, .. }
                    | C::All { label }
                    | C::AllRef { label }) = catch;
                    *label = self.label(*label)?;
                }
            }
            _ => {}
        }
        RoundtripReencoder.instruction(op).map_err(|e| invalid(&e.to_string()))
    }

    /// Opens a block, whose place this returns.
    fn open(&mut self, instruction: &I<'_>) -> u32 {
        self.to.instruction(instruction);
        self.height += 1;
        self.height - 1
    }

    fn close(&mut self) {
        self.to.instruction(&I::End);
        self.height = self.height.saturating_sub(1);
    }

    fn of(&self, number: usize) -> Result<&Try> {
        self.plan.tries.get(number).ok_or_else(|| invalid("a `try` that did not begin"))
    }

    fn open_try(&mut self) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let plan = self.plan;
        let one = plan.tries.get(number).ok_or_else(|| invalid("a `try` that did not begin"))?;
        let target = match one.delegates {
            Some(label) => {
                let label = self.seen_from_here(self.receiver(label)?);
                self.open(&I::TryTable(one.block, Cow::Owned(vec![Catch::AllRef { label }])))
            }
            None => {
                let target = self.open(&I::Block(one.block));
                for clause in one.clauses.iter().rev() {
                    self.open(&I::Block(clause.block));
                }
                if !one.clauses.is_empty() {
                    self.open(&I::TryTable(one.block, Cow::Owned(catches(one))));
                }
                target
            }
        };
        let handed_over = one.handed_over.map(|block| self.open(&I::Block(block)));
        self.frames.push(Frame { kind: Kind::Body(number, handed_over), target });
        Ok(())
    }

    /// The block that a `delegate` to `label` hands over to.
    fn receiver(&self, label: u32) -> Result<u32> {
        let bodies = self.frames.iter().map(|frame| match frame.kind {
            Kind::Body(number, _) => Some(number),
            _ => None,
        });
        let block = match receiver(bodies, label)? {
            Some((at, _)) => match self.frames.get(at).map(|frame| frame.kind) {
                Some(Kind::Body(_, block)) => block,
                _ => None,
            },
            None => self.caller,
        };
        block.ok_or_else(|| invalid("a `delegate` to nobody"))
    }

    /// Ends what stands around the body of a `try` for others to hand over to it.
    fn end_body(&mut self, target: u32, handed_over: Option<u32>) {
        if handed_over.is_some() {
            self.to.instruction(&I::Br(self.seen_from_here(target)));
            self.close();
            self.to.instruction(&I::ThrowRef);
        }
    }

    fn open_clause(&mut self) -> Result<()> {
        let Some(Frame { kind, target }) = self.frames.pop() else { return Err(invalid("a clause alone")) };
        let (number, clause) = match kind {
            Kind::Body(number, handed_over) => {
                self.end_body(target, handed_over);
                self.close();
                (number, 0)
            }
            Kind::Clause(number, clause, _) => {
                self.clauses = self.clauses.saturating_sub(1);
                (number, clause + 1)
            }
            Kind::Plain => return Err(invalid("a clause outside of a `try`")),
        };
        self.to.instruction(&I::Br(self.seen_from_here(target)));
        self.close();
        let local = self.plan.locals.saturating_add(self.clauses);
        if self.of(number)?.clauses.get(clause).is_some_and(|clause| clause.rethrows) {
            self.to.instruction(&I::LocalSet(local));
        }
        self.clauses += 1;
        self.frames.push(Frame { kind: Kind::Clause(number, clause, local), target });
        Ok(())
    }

    fn rethrow(&mut self, label: u32) -> Result<()> {
        match self.frames.iter().rev().nth(label as usize).map(|frame| frame.kind) {
            Some(Kind::Clause(_, _, local)) => {
                self.to.instruction(&I::LocalGet(local)).instruction(&I::ThrowRef);
                Ok(())
            }
            _ => Err(invalid("a `rethrow` outside of a clause")),
        }
    }

    fn end(&mut self) -> Result<()> {
        let Some(Frame { kind, target }) = self.frames.pop() else {
            return Err(invalid("an `end` too many"));
        };
        match kind {
            Kind::Plain if self.frames.is_empty() && self.caller.is_some() => {
                self.to.instruction(&I::Return);
                self.close();
                self.to.instruction(&I::ThrowRef);
            }
            Kind::Plain => {}
            Kind::Body(_, handed_over) => self.end_body(target, handed_over),
            Kind::Clause(..) => self.clauses = self.clauses.saturating_sub(1),
        }
        self.close();
        Ok(())
    }
}

/// What the `try_table` inside of a clause's blocks catches, and to which of them it goes.
fn catches(one: &Try) -> Vec<Catch> {
    let catch = |(clause, label): (&super::plan::Clause, u32)| match (clause.tag, clause.rethrows) {
        (Some(tag), true) => Catch::OneRef { tag, label },
        (Some(tag), false) => Catch::One { tag, label },
        (None, true) => Catch::AllRef { label },
        (None, false) => Catch::All { label },
    };
    one.clauses.iter().zip(0..).map(catch).collect()
}

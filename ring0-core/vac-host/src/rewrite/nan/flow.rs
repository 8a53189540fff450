//! From the operators of a function to the graph of its values.
//!
//! A local is followed through the function as if each value that it gets were a variable of its own: at the
//! end of a block, and at the start of a loop, what it may be is one more value, which comes from all
//! the others. Where that would cost too much, or where an exception may come from anywhere, a local is
//! one value for the whole function.

use wasmparser::{
    BlockType, CompositeInnerType, FuncToValidate, FuncType, FuncValidator, FunctionBody, Operator, ValType,
    ValidatorResources, WasmModuleResources,
};

use super::graph::{self, Graph, Id, Make, Node, Place, TooLarge, Type, Want};
use super::ops::{self, Effect, Lanes, Width};

/// Why there is no graph.
pub(super) enum Stop {
    Invalid(wasmparser::BinaryReaderError),
    TooLarge,
    /// The function has control flow that is not followed here.
    Unknown,
}

impl From<wasmparser::BinaryReaderError> for Stop {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error)
    }
}

impl From<TooLarge> for Stop {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// For each block, in the order they start, the locals that are set in it.
pub(super) type Assigned = Vec<Vec<u32>>;

/// The graph of a function's values. `assigned` is empty if locals are not to be followed.
pub(super) fn graph(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    assigned: Assigned,
    room: usize,
) -> Result<Graph, Stop> {
    let ty = function.ty;
    let mut validator = function.into_validator(Default::default());
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let mut reader = body.get_operators_reader()?;
    let mut flow = Flow::new(&validator, ty, assigned, room)?;
    while !reader.eof() {
        let (operator, start) = reader.read_with_offset()?;
        let arity = operator.operator_arity(&validator);
        validator.op(start, &operator)?;
        let at = At { start, end: reader.original_position(), arity, validator: &validator };
        flow.step(&operator, &at)?;
    }
    reader.finish()?;
    Ok(flow.graph)
}

/// Which of some values are floats.
type Floats = Vec<Option<Type>>;

/// One operator: where it is, how much it takes and gives, and the types after it.
struct At<'a> {
    start: usize,
    end: usize,
    arity: Option<(u32, u32)>,
    validator: &'a FuncValidator<ValidatorResources>,
}

impl At<'_> {
    /// The type on top of the stack, if it holds floats.
    fn top(&self) -> Option<Type> {
        self.validator.get_operand_type(0).flatten().and_then(float)
    }

    /// Types of what a block takes and gives.
    fn signature(&self, ty: BlockType) -> Result<(Floats, Floats), Stop> {
        match ty {
            BlockType::Empty => Ok((Vec::new(), Vec::new())),
            BlockType::Type(ty) => Ok((Vec::new(), vec![float(ty)])),
            BlockType::FuncType(index) => {
                let ty = signature(self.validator.resources(), index).ok_or(Stop::Unknown)?;
                let floats = |types: &[ValType]| types.iter().map(|ty| float(*ty)).collect();
                Ok((floats(ty.params()), floats(ty.results())))
            }
        }
    }
}

/// What a function or block of type `index` takes and gives.
pub(super) fn signature(resources: &ValidatorResources, index: u32) -> Option<&FuncType> {
    match &resources.sub_type_at(index)?.composite_type.inner {
        CompositeInnerType::Func(ty) => Some(ty),
        _ => None,
    }
}

/// `ty`, if it holds floats.
pub(super) fn float(ty: ValType) -> Option<Type> {
    match ty {
        ValType::F32 => Some(Type::F32),
        ValType::F64 => Some(Type::F64),
        ValType::V128 => Some(Type::V128),
        _ => None,
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    /// What branches to it goes to its end.
    Block,
    /// What branches to it goes to its start.
    Loop,
    /// A block that may be skipped.
    If,
}

/// A block that is not at its end.
struct Frame {
    kind: Kind,
    /// Of the stack, below what it took.
    height: usize,
    /// What it took.
    params: Vec<Id>,
    /// What a branch to it gives values to.
    label: Vec<Id>,
    /// How many it gives.
    results: usize,
    /// What a branch to it gives the values of locals to.
    joins: Vec<(u32, Id)>,
    /// The values of these locals when it started.
    entry: Vec<(u32, Id)>,
    /// Nothing gets here.
    is_dead: bool,
    was_dead: bool,
}

struct Flow {
    graph: Graph,
    stack: Vec<Id>,
    frames: Vec<Frame>,
    /// The type of each local, and the value that it has here.
    locals: Vec<(Option<Type>, Id)>,
    /// Those of blocks to come.
    assigned: Option<std::vec::IntoIter<Vec<u32>>>,
}

impl Flow {
    fn new(
        validator: &FuncValidator<ValidatorResources>,
        ty: u32,
        assigned: Assigned,
        room: usize,
    ) -> Result<Self, Stop> {
        let mut graph = Graph::new(room);
        let ty = signature(validator.resources(), ty).ok_or(Stop::Unknown)?;
        let is_followed = !assigned.is_empty();
        let mut locals = Vec::new();
        for index in 0..validator.len_locals() {
            let ty_of = validator.get_local_type(index).and_then(float);
            let is_param = (index as usize) < ty.params().len();
            let first = if is_param || ty_of.is_none() { graph::OPAQUE } else { graph::NUMBER };
            locals.push((ty_of, if is_followed { first } else { one_value(&mut graph, ty_of, first)? }));
        }
        let mut label = Vec::new();
        for result in ty.results() {
            let id = phi(&mut graph, float(*result))?;
            graph.want(id, Want::EXACT)?;
            label.push(id);
        }
        let whole = Frame {
            kind: Kind::Block,
            height: 0,
            params: Vec::new(),
            results: label.len(),
            label,
            joins: Vec::new(),
            entry: Vec::new(),
            is_dead: false,
            was_dead: false,
        };
        let assigned = is_followed.then(|| assigned.into_iter());
        Ok(Self { graph, stack: Vec::new(), frames: vec![whole], locals, assigned })
    }

    fn step(&mut self, operator: &Operator<'_>, at: &At<'_>) -> Result<(), Stop> {
        match ops::effect(operator) {
            Effect::Opaque => return self.control(operator, at),
            Effect::Arithmetic { operand, result } => {
                self.take(at, Want::but_nans(operand))?;
                self.give(at, Make::Arithmetic(result), &[])?;
            }
            Effect::Blind(width) => {
                self.take(at, Want::but_nans(width))?;
                self.stack.push(graph::OPAQUE);
            }
            Effect::Makes(class) => {
                self.take(at, Want::EXACT)?;
                self.stack.push(Graph::leaf(class));
            }
            Effect::Lanes(lanes, width) => {
                let want = match lanes {
                    Lanes::Pick | Lanes::Extract => Want::but_nans(width),
                    _ => Want::default(),
                };
                let taken = self.take(at, want)?;
                self.give(at, Make::Lanes(lanes, width), &taken)?;
            }
            Effect::Select => {
                let _condition = self.pop();
                let taken = [self.pop(), self.pop()];
                self.give(at, Make::Copy, &taken)?;
            }
            Effect::Shuffle(width) => {
                let taken = self.take(at, Want::default())?;
                // Lanes of wide floats are also pairs of narrow ones.
                let make = match width {
                    Width::F32 => Make::Lanes(Lanes::Shuffle, width),
                    Width::F64 => Make::Copy,
                };
                self.give(at, make, &taken)?;
            }
            Effect::Drop => drop(self.pop()),
        }
        Ok(())
    }

    fn control(&mut self, operator: &Operator<'_>, at: &At<'_>) -> Result<(), Stop> {
        use Operator as O;
        match operator {
            O::LocalGet { local_index } => self.local_get(*local_index, at)?,
            O::LocalSet { local_index } => drop(self.local_set(*local_index)?),
            O::LocalTee { local_index } => {
                let value = self.local_set(*local_index)?;
                self.give(at, Make::Copy, &[value])?;
            }
            O::Block { blockty } => self.open(Kind::Block, *blockty, at)?,
            O::Loop { blockty } => self.open(Kind::Loop, *blockty, at)?,
            O::If { blockty } => {
                self.pop();
                self.open(Kind::If, *blockty, at)?;
            }
            O::TryTable { try_table } => {
                let labels = try_table.catches.iter().map(|catch| match *catch {
                    wasmparser::Catch::One { label, .. } | wasmparser::Catch::OneRef { label, .. } => label,
                    wasmparser::Catch::All { label } | wasmparser::Catch::AllRef { label } => label,
                });
                self.branch_with_others(labels)?;
                self.open(Kind::Block, try_table.ty, at)?;
            }
            O::Else => self.other_way(at)?,
            O::End => self.close(at)?,
            O::BrIf { relative_depth } => {
                self.pop();
                self.branch(*relative_depth, None)?;
            }
            O::Br { relative_depth } => {
                self.branch(*relative_depth, Some(at.start))?;
                self.die();
            }
            O::BrTable { targets } => self.branch_to_one_of(targets)?,
            O::BrOnNull { relative_depth }
            | O::BrOnNonNull { relative_depth }
            | O::BrOnCast { relative_depth, .. }
            | O::BrOnCastFail { relative_depth, .. }
            | O::BrOnCastDescEq { relative_depth, .. }
            | O::BrOnCastDescEqFail { relative_depth, .. } => {
                self.branch_with_others([*relative_depth].into_iter())?;
                self.opaque(at)?;
            }
            O::Unreachable
            | O::Return
            | O::ReturnCall { .. }
            | O::ReturnCallIndirect { .. }
            | O::ReturnCallRef { .. }
            | O::Throw { .. }
            | O::ThrowRef => {
                self.take(at, Want::EXACT)?;
                self.die();
            }
            // Control flow of proposals that no engine of the profile has.
            O::Try { .. } | O::Catch { .. } | O::CatchAll | O::Delegate { .. } | O::Rethrow { .. } => {
                return Err(Stop::Unknown);
            }
            O::Resume { .. } | O::ResumeThrow { .. } | O::ResumeThrowRef { .. } | O::Switch { .. } => {
                return Err(Stop::Unknown);
            }
            _ => self.opaque(at)?,
        }
        Ok(())
    }

    /// Any operator of which nothing is known.
    fn opaque(&mut self, at: &At<'_>) -> Result<(), Stop> {
        self.take(at, Want::EXACT)?;
        let (_, given) = at.arity.ok_or(Stop::Unknown)?;
        self.graph.spend(given as usize)?;
        self.stack.extend((0..given).map(|_| graph::OPAQUE));
        Ok(())
    }

    fn frame(&self) -> Option<&Frame> {
        self.frames.last()
    }

    fn is_dead(&self) -> bool {
        self.frame().is_none_or(|frame| frame.is_dead)
    }

    /// Where nothing gets, the stack has whatever is asked for.
    fn pop(&mut self) -> Id {
        let floor = self.frame().map_or(0, |frame| frame.height);
        if self.stack.len() > floor { self.stack.pop().unwrap_or(graph::NUMBER) } else { graph::NUMBER }
    }

    /// Pops `count` values; the first is the lowest.
    fn pop_all(&mut self, count: usize) -> Result<Vec<Id>, Stop> {
        self.graph.spend(count)?;
        let mut popped: Vec<_> = (0..count).map(|_| self.pop()).collect();
        popped.reverse();
        Ok(popped)
    }

    /// Pops what an operator takes, and wants it.
    fn take(&mut self, at: &At<'_>, want: Want) -> Result<Vec<Id>, Stop> {
        let (taken, _) = at.arity.ok_or(Stop::Unknown)?;
        let taken = self.pop_all(taken as usize)?;
        if self.is_dead() || want == Want::default() {
            return Ok(taken);
        }
        for id in &taken {
            // Nothing but whole NaNs is in a scalar.
            if want == Want::EXACT || self.graph.is_v128(*id) {
                self.graph.want(*id, want)?;
            }
        }
        Ok(taken)
    }

    /// Pushes a value that can be replaced where it is pushed.
    fn give(&mut self, at: &At<'_>, make: Make, inputs: &[Id]) -> Result<(), Stop> {
        let is_copy_of = |leaf: Id| make == Make::Copy && inputs.iter().all(|&input| input == leaf);
        let known = [graph::OPAQUE, graph::NUMBER].into_iter().find(|&leaf| is_copy_of(leaf));
        let id = match (known, at.top()) {
            (Some(leaf), _) => leaf,
            // A reference, or something where nothing gets.
            (None, None) => graph::NUMBER,
            (None, Some(ty)) => self.graph.add(Node { make, place: Place::Stack(at.end), ty })?,
        };
        for input in inputs {
            self.graph.link(*input, id)?;
        }
        self.stack.push(id);
        Ok(())
    }

    fn local_get(&mut self, index: u32, at: &At<'_>) -> Result<(), Stop> {
        let value = self.locals.get(index as usize).map_or(graph::OPAQUE, |local| local.1);
        self.give(at, Make::Copy, &[value])
    }

    fn local_set(&mut self, index: u32) -> Result<Id, Stop> {
        let value = self.pop();
        let is_dead = self.is_dead();
        let Some((ty, now)) = self.locals.get_mut(index as usize) else { return Ok(value) };
        match (&self.assigned, ty) {
            (_, None) => {}
            (Some(_), Some(_)) => *now = value,
            (None, Some(_)) if is_dead => {}
            (None, Some(_)) => self.graph.link(value, *now)?,
        }
        Ok(value)
    }

    fn open(&mut self, kind: Kind, ty: BlockType, at: &At<'_>) -> Result<(), Stop> {
        let (takes, gives) = at.signature(ty)?;
        let params = self.pop_all(takes.len())?;
        let height = self.stack.len();
        let was_dead = self.is_dead();
        let types = if kind == Kind::Loop { &takes } else { &gives };
        let label = types.iter().map(|ty| phi(&mut self.graph, *ty)).collect::<Result<Vec<_>, _>>()?;
        let set = self.assigned.as_mut().and_then(Iterator::next).unwrap_or_default();
        self.graph.spend(set.len())?;
        let (mut entry, mut joins) = (Vec::new(), Vec::new());
        for local in set {
            let Some((Some(ty), value)) = self.locals.get(local as usize).copied() else { continue };
            entry.push((local, value));
            joins.push((local, phi(&mut self.graph, Some(ty))?));
        }
        let results = gives.len();
        self.frames.push(Frame {
            kind,
            height,
            params,
            label,
            results,
            joins,
            entry,
            is_dead: was_dead,
            was_dead,
        });
        self.enter()
    }

    /// The start of a block's body: of a loop, everything may come from here or from a branch.
    fn enter(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        if frame.kind != Kind::Loop {
            self.stack.extend(&frame.params);
            return Ok(());
        }
        let values = frame.params.iter().zip(&frame.label).map(|(&from, &to)| (from, to));
        let locals = frame.entry.iter().zip(&frame.joins).map(|(from, to)| (from.1, to.1));
        for (from, to) in values.chain(locals) {
            self.graph.link(from, to)?;
        }
        self.stack.extend(&frame.label);
        for (local, id) in &frame.joins {
            if let Some(local) = self.locals.get_mut(*local as usize) {
                local.1 = *id;
            }
        }
        Ok(())
    }

    fn value(&self, local: u32) -> Id {
        self.locals.get(local as usize).map_or(graph::OPAQUE, |local| local.1)
    }

    /// Control may go to a label from here. If it goes nowhere else, locals can be replaced at `only`.
    fn branch(&mut self, depth: u32, only: Option<usize>) -> Result<(), Stop> {
        if self.is_dead() {
            return Ok(());
        }
        let Some(at) = self.frames.len().checked_sub(depth as usize + 1) else { return Ok(()) };
        let Some(frame) = self.frames.get(at) else { return Ok(()) };
        let values = self.stack.iter().rev().zip(frame.label.iter().rev());
        for (from, to) in values {
            self.graph.link(*from, *to)?;
        }
        for (local, to) in &frame.joins {
            let local = self.locals.get(*local as usize).map(|of| (*local, of.0, of.1));
            join(&mut self.graph, local, *to, only)?;
        }
        Ok(())
    }

    fn branch_to_one_of(&mut self, targets: &wasmparser::BrTable<'_>) -> Result<(), Stop> {
        self.pop();
        let mut depths = targets.targets().collect::<Result<Vec<_>, _>>()?;
        depths.push(targets.default());
        depths.sort_unstable();
        depths.dedup();
        for depth in depths {
            self.branch(depth, None)?;
        }
        self.die();
        Ok(())
    }

    /// Control may go to one of the labels, with values that are not on the stack.
    fn branch_with_others(&mut self, labels: impl Iterator<Item = u32>) -> Result<(), Stop> {
        if self.is_dead() {
            return Ok(());
        }
        for depth in labels {
            let Some(at) = self.frames.len().checked_sub(depth as usize + 1) else { continue };
            let Some(frame) = self.frames.get(at) else { continue };
            for to in &frame.label {
                self.graph.link(graph::OPAQUE, *to)?;
            }
            for (local, to) in &frame.joins {
                let from = self.value(*local);
                self.graph.link(from, *to)?;
            }
        }
        Ok(())
    }

    /// Nothing gets to what follows.
    fn die(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.is_dead = true;
            self.stack.truncate(frame.height);
        }
    }

    /// From the first half of an `if` to its end, and back to where the second half starts.
    fn other_way(&mut self, at: &At<'_>) -> Result<(), Stop> {
        self.branch(0, Some(at.start))?;
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        frame.kind = Kind::Block;
        frame.is_dead = frame.was_dead;
        self.stack.truncate(frame.height);
        self.stack.extend(&frame.params);
        for (local, id) in &frame.entry {
            if let Some(local) = self.locals.get_mut(*local as usize) {
                local.1 = *id;
            }
        }
        Ok(())
    }

    fn close(&mut self, at: &At<'_>) -> Result<(), Stop> {
        let Some(frame) = self.frame() else { return Ok(()) };
        if frame.kind == Kind::Loop {
            let results = self.pop_all(frame.results)?;
            let Some(frame) = self.frames.pop() else { return Ok(()) };
            self.stack.truncate(frame.height);
            self.stack.extend(results);
            return Ok(());
        }
        self.branch(0, Some(at.start))?;
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if frame.kind == Kind::If && !frame.was_dead {
            let values = frame.params.iter().zip(&frame.label).map(|(&from, &to)| (from, to));
            let locals = frame.entry.iter().zip(&frame.joins).map(|(from, to)| (from.1, to.1));
            for (from, to) in values.chain(locals) {
                self.graph.link(from, to)?;
            }
        }
        self.stack.truncate(frame.height);
        self.stack.extend(&frame.label);
        for (local, id) in &frame.joins {
            if let Some(local) = self.locals.get_mut(*local as usize) {
                local.1 = *id;
            }
        }
        Ok(())
    }
}

/// A value that is one of several.
fn phi(graph: &mut Graph, ty: Option<Type>) -> Result<Id, TooLarge> {
    match ty {
        Some(ty) => graph.add(Node { make: Make::Copy, place: Place::Nowhere, ty }),
        None => Ok(graph::OPAQUE),
    }
}

/// The one value that a local has in the whole function.
fn one_value(graph: &mut Graph, ty: Option<Type>, first: Id) -> Result<Id, TooLarge> {
    let id = phi(graph, ty)?;
    graph.link(first, id)?;
    Ok(id)
}

/// The value of a local goes to where control flow meets. On a way that goes nowhere else it can be replaced,
/// which keeps that out of the loop that it may come from.
fn join(
    graph: &mut Graph,
    local: Option<(u32, Option<Type>, Id)>,
    to: Id,
    only: Option<usize>,
) -> Result<(), TooLarge> {
    let Some((local, Some(ty), from)) = local else { return Ok(()) };
    match only {
        Some(at) if !Graph::is_leaf(from) => {
            let node = Node { make: Make::Copy, place: Place::Local(at, local), ty };
            let id = graph.add(node)?;
            graph.link(from, id)?;
            graph.link(id, to)
        }
        _ => graph.link(from, to),
    }
}

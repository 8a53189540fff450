//! A function's body: its own operators, and between them what counts.
//!
//! Inside of a function the ticks are in a local. Operators are added up as they are read, and the sum is added to
//! the count where the way of control may divide, join or leave. The body is wrapped, if anything is checked:
//!
//! ```text
//! block $deep
//!   block $stop
//!     block $body (results)
//!       enter: count, check ticks, check depth
//!       ...                         a check is `br_if $stop`
//!     end
//!     leave: write ticks, take depth back
//!     return
//!   end
//!   call stop
//!   unreachable
//! end
//! call deep
//! unreachable
//! ```
//!
//! So all that is never done stands at the end. Labels of the body keep their numbers, and what left the function
//! goes to `$body`.
//!
//! A check writes the ticks before it reads their limit. That makes the count exact for who is told to stop, and
//! it keeps a compiler from taking the limit from an earlier check: between the two there was a write that it
//! cannot tell from one to the limit.
//!
//! A function that catches exceptions has its count in memory throughout, because a local keeps the value of before
//! the call that threw.

use std::collections::BTreeMap;

use vac_core::fault::{Error, Result};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{BlockType, Encode, Instruction as I, MemArg, ValType};
use wasmparser::{Catch, FunctionBody, Operator, TryTable};

use super::counted::Counted;
use super::facts::{Facts, Length, Scale, conditional_targets, length};
use super::forms::Form;
use super::sections::{Added, Sections};
use super::{DEPTH_AT, DEPTH_LIMIT_AT, TICK_LIMIT_AT, TICKS_AT, cost};

pub(super) type Encoded<T> = Result<T, reencode::Error<Error>>;

/// Where the count is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Local,
    Memory,
    Both,
}

/// What a label belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Body,
    Block,
    Loop,
    If,
    Else,
}

/// What the meter keeps in locals of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Local {
    /// The count.
    Ticks,
    /// The function's own depth.
    Depth,
    /// An operand, of 32 bits.
    Length,
    /// An operand, of 64 bits.
    WideLength,
    /// Of a counted loop: trips that are left, less one.
    Trips,
    /// Trips of this part, less one.
    Part,
    /// What the trips are compared with, as unsigned and upwards.
    Last,
    /// The step, as upwards.
    Step,
    /// What this part ends at.
    Bound,
    /// The same, of 64 bits.
    WideBound,
}

impl Local {
    fn ty(self) -> ValType {
        if matches!(self, Self::Length | Self::Bound) { ValType::I32 } else { ValType::I64 }
    }
}

/// A block that is open.
#[derive(Debug)]
pub(super) struct Frame {
    kind: Kind,
    /// Control may come to its end from elsewhere.
    is_target: bool,
    /// An exception may come to its end.
    catches: bool,
}

/// A body that is being written.
pub(super) struct Body<'s> {
    sections: &'s mut Sections,
    added: Added,
    facts: Facts,
    form: Form,
    out: Vec<u8>,
    /// The types of locals that were added.
    added_locals: Vec<ValType>,
    /// By purpose, its number.
    locals: BTreeMap<Local, u32>,
    /// Ticks that were read and not yet added.
    pub(super) pending: u64,
    pub(super) count: Count,
    frames: Vec<Frame>,
    /// Blocks that were opened since nothing can be reached any more.
    dead: Option<u32>,
}

impl<'s> Body<'s> {
    /// The new body of `function`, whose results leave a block of type `results`.
    pub(super) fn write(
        sections: &'s mut Sections,
        function: &FunctionBody<'_>,
        facts: Facts,
        form: Form,
        results: BlockType,
    ) -> Encoded<Vec<u8>> {
        let added = sections.added();
        let carried = [Local::Ticks, Local::Depth].into_iter().take(form.added() as usize);
        let is_carried = form != Form::Memory;
        let mut body = Self {
            sections,
            added,
            added_locals: Vec::new(),
            locals: carried.zip(facts.params..).collect(),
            pending: facts.entry,
            count: if is_carried { Count::Both } else { Count::Memory },
            frames: vec![Frame { kind: Kind::Body, is_target: false, catches: false }],
            dead: None,
            out: Vec::with_capacity(function.range().len() * 3 / 2),
            facts,
            form,
        };
        body.enter(results);
        body.operators(function)?;
        let mut bytes = body.declarations(function)?;
        bytes.append(&mut body.out);
        Ok(bytes)
    }

    /// The function's locals, and the meter's after them.
    fn declarations(&mut self, function: &FunctionBody<'_>) -> Encoded<Vec<u8>> {
        let mut groups = Vec::new();
        for group in function.get_locals_reader()? {
            let (count, ty) = group?;
            groups.push((count, self.sections.val_type(ty)?));
        }
        groups.extend(self.added_locals.iter().map(|ty| (1, *ty)));
        let mut bytes = Vec::with_capacity(self.out.len() + 4 * groups.len() + 8);
        (groups.len() as u32).encode(&mut bytes);
        for (count, ty) in groups {
            count.encode(&mut bytes);
            ty.encode(&mut bytes);
        }
        Ok(bytes)
    }

    /// Ticks that a counted loop is charged for at a time.
    pub(super) fn part(&self) -> u64 {
        self.sections.options().part
    }

    /// The number of one of the meter's own locals.
    pub(super) fn local(&mut self, local: Local) -> u32 {
        if let Some(number) = self.locals.get(&local) {
            return *number;
        }
        let number = self.facts.locals + self.form.added() + self.added_locals.len() as u32;
        self.added_locals.push(local.ty());
        self.locals.insert(local, number);
        number
    }

    /// The number that one of the function's own locals has now: after parameters that were added.
    fn own(&self, local: u32) -> u32 {
        if local < self.facts.params { local } else { local + self.form.added() }
    }

    pub(super) fn get_own(&mut self, local: u32) {
        let local = self.own(local);
        self.put(&I::LocalGet(local));
    }

    fn operators(&mut self, function: &FunctionBody<'_>) -> Encoded<()> {
        let mut reader = function.get_operators_reader()?;
        let (bytes, start) = (function.as_bytes(), function.range().start);
        while !reader.eof() {
            let from = reader.original_position() - start;
            let op = reader.read()?;
            let raw = bytes.get(from..reader.original_position() - start).unwrap_or_default();
            match (self.dead, &op) {
                (Some(nesting), _) => self.skip(&op, nesting),
                (None, Operator::Loop { blockty }) if self.counts_loops() => {
                    match Counted::read(*blockty, reader.clone(), bytes, start) {
                        Some((counted, after)) => {
                            self.counted(&counted, raw)?;
                            reader = after;
                        }
                        None => self.operator(op, raw)?,
                    }
                }
                _ => self.operator(op, raw)?,
            }
        }
        Ok(())
    }

    fn counts_loops(&self) -> bool {
        self.sections.options().counts_loops && !self.is_in_memory()
    }

    /// An operator that is never reached. It is left out, but for the ends of blocks that are.
    fn skip(&mut self, op: &Operator<'_>, nesting: u32) {
        use Operator as O;
        match op {
            O::Block { .. } | O::Loop { .. } | O::If { .. } | O::TryTable { .. } => {
                self.dead = Some(nesting + 1);
            }
            O::End if nesting > 0 => self.dead = Some(nesting - 1),
            O::End => self.end(),
            O::Else if nesting == 0 => self.otherwise(),
            _ => {}
        }
    }

    pub(super) fn operator(&mut self, op: Operator<'_>, raw: &[u8]) -> Encoded<()> {
        use Operator as O;
        self.pending += cost::of(&op);
        match &op {
            O::Nop => {}
            O::Block { .. } => self.open(Kind::Block, raw),
            O::Loop { .. } => self.open_loop(raw),
            O::If { .. } => {
                self.settle();
                self.open(Kind::If, raw);
            }
            O::TryTable { try_table } => self.open_try(try_table, op.clone())?,
            O::Else => self.otherwise(),
            O::End => self.end(),
            O::Br { relative_depth } => self.branch(*relative_depth, raw),
            O::Return => self.leave_early(raw),
            O::Unreachable => self.divert(raw),
            O::Call { .. } | O::CallIndirect { .. } | O::CallRef { .. } => self.call(op, raw)?,
            O::ReturnCall { .. } | O::ReturnCallIndirect { .. } | O::ReturnCallRef { .. } => {
                self.leave();
                self.copy(op, raw)?;
                self.dead = Some(0);
            }
            O::Throw { .. } | O::ThrowRef => {
                self.charge(Count::Memory);
                self.divert(raw);
            }
            _ => self.other(op, raw)?,
        }
        Ok(())
    }

    fn call(&mut self, op: Operator<'_>, raw: &[u8]) -> Encoded<()> {
        match op {
            Operator::Call { function_index } => {
                self.call_known(function_index);
                Ok(())
            }
            Operator::CallIndirect { type_index, table_index } if self.sections.forms().is_closed => {
                self.call_through_table(type_index, table_index)
            }
            _ => {
                self.before_call();
                self.copy(op, raw)?;
                self.after_call(true);
                Ok(())
            }
        }
    }

    /// A function whose count is in memory calls one that is carried it as somebody outside would: through its gate.
    fn call_known(&mut self, function: u32) {
        let forms = self.sections.forms();
        if let (Form::Carried { .. }, Form::Carried { depth }) = (self.form, forms.of(function)) {
            let callee = self.sections.moved(function);
            self.push_count(depth);
            self.put(&I::Call(callee));
            self.set(Local::Ticks);
            return;
        }
        let callee = self.sections.moved(forms.shown(function));
        self.before_call();
        self.put(&I::Call(callee));
        // One that is imported may let another task go on meanwhile. One of this module has written its caller's depth
        // when it returns, unless it ended by calling another.
        self.after_call(function < self.added.stop || self.facts.is_among_tail_calls);
    }

    fn before_call(&mut self) {
        self.charge(Count::Memory);
        if self.form != Form::Memory && self.facts.is_counted() {
            self.write_depth();
        }
    }

    fn after_call(&mut self, may_wait: bool) {
        self.count = Count::Memory;
        if self.form == Form::Memory && may_wait && self.facts.is_counted() {
            self.write_depth();
        }
    }

    /// A call of what is carried its count, whatever it is. The number in the table is on top of its arguments.
    fn call_through_table(&mut self, ty: u32, table_index: u32) -> Encoded<()> {
        let is_wide = self.sections.types().table_is_wide(table_index);
        let index = match is_wide.map_err(reencode::Error::UserError)? {
            true => Local::WideLength,
            false => Local::Length,
        };
        self.set(index);
        self.push_count(true);
        self.get(index);
        let type_index = self.sections.carried(ty, true);
        self.put(&I::CallIndirect { type_index, table_index });
        match self.form {
            Form::Carried { .. } => self.set(Local::Ticks),
            Form::Memory => {
                self.put(&I::Drop);
                self.after_call(true);
            }
        }
        Ok(())
    }

    /// What a carried function takes. One that is not deep itself calls none that reads its depth.
    fn push_count(&mut self, depth: bool) {
        match self.form {
            Form::Memory => {
                self.charge(Count::Memory);
                self.load_at(TICKS_AT);
            }
            Form::Carried { .. } => {
                self.charge(Count::Both);
                self.get(Local::Ticks);
            }
        }
        match (depth, self.facts.is_counted()) {
            (true, true) => self.get(Local::Depth),
            (true, false) => self.put(&I::I64Const(0)),
            (false, _) => {}
        }
    }

    /// Branches that may not be taken, operators whose cost is in an operand, and all the rest.
    fn other(&mut self, op: Operator<'_>, raw: &[u8]) -> Encoded<()> {
        let user = reencode::Error::UserError;
        if let Some(targets) = conditional_targets(&op).map_err(user)? {
            self.settle();
            targets.iter().for_each(|label| self.aim(*label));
            self.out.extend_from_slice(raw);
            if matches!(op, Operator::BrTable { .. }) {
                self.dead = Some(0);
            }
            return Ok(());
        }
        if let Some(length) = length(&op, self.sections.types()).map_err(user)? {
            self.charge_length(length);
        }
        self.copy(op, raw)
    }

    /// The operator, with the numbers that its functions and memories have now.
    pub(super) fn copy(&mut self, op: Operator<'_>, raw: &[u8]) -> Encoded<()> {
        match op {
            Operator::LocalGet { local_index } => self.get_own(local_index),
            Operator::LocalSet { local_index } => self.put(&I::LocalSet(self.own(local_index))),
            Operator::LocalTee { local_index } => self.put(&I::LocalTee(self.own(local_index))),
            Operator::Call { function_index } => self.put(&I::Call(self.sections.moved(function_index))),
            op => self.copy_other(op, raw)?,
        }
        Ok(())
    }

    fn copy_other(&mut self, op: Operator<'_>, raw: &[u8]) -> Encoded<()> {
        if !has_shifting_number(&op) {
            self.out.extend_from_slice(raw);
            return Ok(());
        }
        let op = self.sections.instruction(op)?;
        op.encode(&mut self.out);
        Ok(())
    }

    /// What the function does first.
    fn enter(&mut self, results: BlockType) {
        if !self.is_wrapped() {
            return;
        }
        if self.facts.is_counted() {
            self.put(&I::Block(BlockType::Empty));
        }
        if self.facts.is_checked() {
            self.put(&I::Block(BlockType::Empty));
        }
        self.put(&I::Block(results));
        if self.facts.is_checked_on_entry() {
            self.check();
        }
        if self.facts.is_counted() {
            self.go_deeper();
        }
    }

    pub(super) fn open(&mut self, kind: Kind, raw: &[u8]) {
        self.out.extend_from_slice(raw);
        self.frames.push(Frame { kind, is_target: false, catches: false });
    }

    /// Every way into the loop cost something since the last check: the operator that begins it, or a branch.
    pub(super) fn open_loop(&mut self, raw: &[u8]) {
        self.settle();
        self.open(Kind::Loop, raw);
        self.count = self.settled();
        if self.facts.catches && self.facts.is_counted() {
            self.write_depth();
        }
        self.check();
    }

    fn open_try(&mut self, try_table: &TryTable, op: Operator<'_>) -> Encoded<()> {
        for catch in &try_table.catches {
            let (Catch::One { label, .. }
            | Catch::OneRef { label, .. }
            | Catch::All { label }
            | Catch::AllRef { label }) = catch;
            self.aim(*label);
            if let Some(frame) = self.frame(*label) {
                frame.catches = true;
            }
        }
        let op = self.sections.instruction(op)?;
        op.encode(&mut self.out);
        self.frames.push(Frame { kind: Kind::Block, is_target: false, catches: false });
        Ok(())
    }

    /// A block of the meter's own.
    pub(super) fn open_own(&mut self, instruction: &I<'_>) {
        self.put(instruction);
        self.frames.push(Frame { kind: Kind::Block, is_target: false, catches: false });
    }

    pub(super) fn end_own(&mut self) {
        self.put(&I::End);
        self.frames.pop();
    }

    fn otherwise(&mut self) {
        self.join();
        self.put(&I::Else);
        if let Some(frame) = self.frames.last_mut() {
            frame.kind = Kind::Else;
            frame.is_target = true;
        }
        self.count = self.settled();
    }

    fn end(&mut self) {
        let Some(frame) = self.frames.last() else { return };
        match frame.kind {
            Kind::Body => return self.end_body(),
            Kind::If | Kind::Else => self.join(),
            Kind::Block if frame.is_target => self.join(),
            // Control only comes here from above, if at all.
            Kind::Block | Kind::Loop if self.dead.is_some() => self.join(),
            Kind::Block | Kind::Loop => {}
        }
        self.put(&I::End);
        if self.frames.pop().is_some_and(|frame| frame.catches && self.facts.is_counted()) {
            self.write_depth();
        }
    }

    /// The end of what the function does, and then what is never done.
    fn end_body(&mut self) {
        let is_live = self.dead.take().is_none();
        if !self.is_wrapped() {
            if is_live {
                self.leave();
            }
            self.put(&I::End);
            return;
        }
        if is_live {
            self.charge(self.at_exit());
        }
        self.put(&I::End);
        self.count = self.at_exit();
        if self.facts.catches && self.facts.is_counted() {
            self.write_depth();
        }
        self.leave();
        if self.facts.is_counted() || self.facts.is_checked() {
            self.put(&I::Return);
        }
        self.end_never(self.facts.is_checked(), self.added.stop);
        self.end_never(self.facts.is_counted(), self.added.deep);
        self.put(&I::End);
    }

    fn end_never(&mut self, is_needed: bool, signal: u32) {
        if is_needed {
            self.put(&I::End);
            self.put(&I::Call(signal));
            self.put(&I::Unreachable);
        }
    }

    fn branch(&mut self, label: u32, raw: &[u8]) {
        if self.is_body(label) {
            return self.leave_early(raw);
        }
        self.settle();
        self.aim(label);
        self.divert(raw);
    }

    /// A return, or a branch that is one.
    fn leave_early(&mut self, raw: &[u8]) {
        if self.is_wrapped() {
            self.charge(self.at_exit());
            let body = self.frames.len() as u32 - 1;
            self.put(&I::Br(body));
            self.dead = Some(0);
        } else {
            self.leave();
            self.divert(raw);
        }
    }

    /// An operator after which nothing follows.
    fn divert(&mut self, raw: &[u8]) {
        self.out.extend_from_slice(raw);
        self.dead = Some(0);
    }

    /// Makes the counters right for who called. What the word of depth has may be another task's.
    fn leave(&mut self) {
        if self.form != Form::Memory {
            self.charge(Count::Both);
            return self.get(Local::Ticks);
        }
        self.charge(Count::Memory);
        if self.facts.is_counted() {
            let weight = self.facts.weight;
            self.put(&I::I32Const(0));
            self.get(Local::Depth);
            self.put(&I::I64Const(weight as i64));
            self.put(&I::I64Sub);
            self.store(DEPTH_AT);
        }
    }

    /// Notes that control may come to a label from here.
    fn aim(&mut self, label: u32) {
        if let Some(frame) = self.frame(label) {
            frame.is_target = true;
        }
    }

    fn frame(&mut self, label: u32) -> Option<&mut Frame> {
        let at = self.frames.len().checked_sub(label as usize + 1)?;
        self.frames.get_mut(at)
    }

    fn is_body(&self, label: u32) -> bool {
        label as usize + 1 == self.frames.len()
    }

    fn is_in_memory(&self) -> bool {
        self.facts.catches
    }

    /// Whether the body is inside of a block of its own.
    fn is_wrapped(&self) -> bool {
        let may_leave = self.facts.may_leave && !self.is_in_memory();
        self.facts.is_checked() || self.facts.is_counted() || may_leave
    }

    /// Where the count is at labels.
    fn settled(&self) -> Count {
        if self.is_in_memory() { Count::Memory } else { Count::Local }
    }

    /// Where the count is at the end of the body.
    fn at_exit(&self) -> Count {
        match self.form {
            _ if self.facts.may_leave => self.settled(),
            Form::Memory => Count::Memory,
            Form::Carried { .. } => Count::Both,
        }
    }

    /// Makes the count what it is at labels.
    pub(super) fn settle(&mut self) {
        self.charge(self.settled());
    }

    /// Before control comes together.
    fn join(&mut self) {
        if self.dead.take().is_none() {
            self.settle();
        }
        self.pending = 0;
        self.count = self.settled();
    }

    /// Adds what is pending, and brings the count to where it is asked for.
    fn charge(&mut self, to: Count) {
        let from = self.count;
        if self.pending == 0 && (from == to || from == Count::Both) {
            return;
        }
        if to == Count::Local {
            self.sum();
            self.set(Local::Ticks);
        } else {
            self.put(&I::I32Const(0));
            self.sum();
            if to == Count::Both {
                self.tee(Local::Ticks);
            }
            self.store(TICKS_AT);
        }
        self.count = to;
    }

    /// Leaves the count on the stack, with what is pending.
    fn sum(&mut self) {
        match self.count {
            Count::Memory => self.load_at(TICKS_AT),
            Count::Local | Count::Both => self.get(Local::Ticks),
        }
        let pending = std::mem::take(&mut self.pending);
        if pending > 0 {
            self.put(&I::I64Const(pending as i64));
            self.put(&I::I64Add);
        }
    }

    /// Ends the run if the count is more than its limit.
    pub(super) fn check(&mut self) {
        if self.is_in_memory() {
            self.charge(Count::Memory);
            self.load_at(TICKS_AT);
        } else {
            self.charge(Count::Both);
            self.get(Local::Ticks);
        }
        self.load_at(TICK_LIMIT_AT);
        self.put(&I::I64GtU);
        let stop = self.frames.len() as u32;
        self.put(&I::BrIf(stop));
    }

    fn go_deeper(&mut self) {
        let deep = self.frames.len() as u32 + u32::from(self.facts.is_checked());
        match self.form {
            Form::Memory => self.load_at(DEPTH_AT),
            Form::Carried { .. } => self.get(Local::Depth),
        }
        self.put(&I::I64Const(self.facts.weight as i64));
        self.put(&I::I64Add);
        self.tee(Local::Depth);
        self.load_at(DEPTH_LIMIT_AT);
        self.put(&I::I64GtU);
        self.put(&I::BrIf(deep));
        if self.form == Form::Memory {
            self.write_depth();
        }
    }

    /// Writes the function's own depth: who throws does not take back its depth, nor does a task that waits, nor does one that
    /// is carried its depth, which therefore writes it only before it calls what reads it.
    fn write_depth(&mut self) {
        self.put(&I::I32Const(0));
        self.get(Local::Depth);
        self.store(DEPTH_AT);
    }

    /// Charges for an operator by the length on top of the stack, and checks: it may take long.
    fn charge_length(&mut self, length: Length) {
        let local = if length.is_wide { Local::WideLength } else { Local::Length };
        self.tee(local);
        if self.is_in_memory() {
            self.put(&I::I32Const(0));
        }
        self.sum();
        self.get(local);
        if length.is_wide {
            self.clamp(local);
        } else {
            self.put(&I::I64ExtendI32U);
        }
        self.scale(length.scale);
        self.put(&I::I64Add);
        if self.is_in_memory() {
            self.store(TICKS_AT);
            self.count = Count::Memory;
        } else {
            self.set(Local::Ticks);
            self.count = Count::Local;
        }
        self.check();
    }

    /// The lesser of what is on the stack, which `local` has too, and the greatest length.
    fn clamp(&mut self, local: Local) {
        self.put(&I::I64Const(cost::LENGTH_MAX as i64));
        self.get(local);
        self.put(&I::I64Const(cost::LENGTH_MAX as i64));
        self.put(&I::I64LtU);
        self.put(&I::Select);
    }

    fn scale(&mut self, scale: Scale) {
        match scale {
            Scale::Down(shift) => {
                self.put(&I::I64Const((1 << shift) - 1));
                self.put(&I::I64Add);
                self.put(&I::I64Const(i64::from(shift)));
                self.put(&I::I64ShrU);
            }
            Scale::Up(shift) => {
                self.put(&I::I64Const(i64::from(shift)));
                self.put(&I::I64Shl);
            }
        }
    }

    fn load_at(&mut self, offset: u64) {
        self.put(&I::I32Const(0));
        self.put(&I::I64Load(self.word(offset)));
    }

    fn store(&mut self, offset: u64) {
        self.put(&I::I64Store(self.word(offset)));
    }

    fn word(&self, offset: u64) -> MemArg {
        MemArg { offset, align: 3, memory_index: self.added.counters }
    }

    pub(super) fn get(&mut self, local: Local) {
        let number = self.local(local);
        self.put(&I::LocalGet(number));
    }

    pub(super) fn set(&mut self, local: Local) {
        let number = self.local(local);
        self.put(&I::LocalSet(number));
    }

    pub(super) fn tee(&mut self, local: Local) {
        let number = self.local(local);
        self.put(&I::LocalTee(number));
    }

    pub(super) fn put(&mut self, instruction: &I<'_>) {
        instruction.encode(&mut self.out);
    }
}

/// Whether an operator names a function or a memory.
fn has_shifting_number(op: &Operator<'_>) -> bool {
    macro_rules! look {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match op {
                $( Operator::$op $({ $($arg: _),* })? => false $( $( || look!(shifts $arg) )* )?, )*
                _ => true,
            }
        };
        (shifts function_index) => (true);
        (shifts memarg) => (true);
        (shifts mem) => (true);
        (shifts src_mem) => (true);
        (shifts dst_mem) => (true);
        (shifts $arg:ident) => (false);
    }
    wasmparser::for_each_operator!(look)
}

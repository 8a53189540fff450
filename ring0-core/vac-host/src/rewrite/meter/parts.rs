//! Writes a counted loop: in parts that are charged before they run, and, for when its trips are not known after
//! all, as any other loop.
//!
//! ```text
//! block $done
//!   block $metered
//!     trips := how many before the last          br_if $metered  if that is not known
//!     loop $part
//!       part := min(trips, most of a part)
//!       ticks += (part + 1) * cost;  check
//!       bound := what the last trip of this part compares
//!       loop  the body, which compares with bound  end
//!       br_if $done  if it was the last part
//!       trips -= part + 1
//!       br $part
//!     end
//!   end
//!   loop  check; the body  end
//! end
//! ```
//!
//! The body of a part is not changed but for the value that it compares with, so it runs as fast as it would
//! without a meter. Both ways charge the same.

use wasm_encoder::{BlockType, Instruction as I};
use wasmparser::Operator;

use super::body::{Body, Count, Encoded, Local};
use super::cost;
use super::counted::{Condition, Counted, Last, Order, Patch, Step, Sum};

/// From inside of `$part`.
const DONE: u32 = 2;

impl Body<'_> {
    pub(super) fn counted(&mut self, counted: &Counted<'_>, raw: &[u8]) -> Encoded<()> {
        self.pending += cost::of(&Operator::Loop { blockty: wasmparser::BlockType::Empty });
        self.settle();
        self.open_own(&I::Block(BlockType::Empty));
        self.open_own(&I::Block(BlockType::Empty));
        self.count_trips(&counted.condition);
        self.in_parts(counted)?;
        self.end_own();
        self.count = Count::Local;
        self.open_loop(raw);
        for (op, raw) in &counted.ops {
            self.operator(op.clone(), raw)?;
        }
        self.settle();
        self.end_own();
        self.count = Count::Local;
        Ok(())
    }

    /// Leaves trips but one in a local, or goes to `$metered`, which is the innermost block.
    fn count_trips(&mut self, condition: &Condition) {
        self.push_last(condition);
        self.raise(condition);
        self.set(Local::Last);
        self.push_sum(condition.first, condition.is_wide);
        self.raise(condition);
        self.set(Local::Trips);
        match condition.order {
            Order::NotEqual => self.count_until_equal(condition),
            Order::Less | Order::LessOrEqual => self.count_until_not_less(condition),
        }
    }

    fn count_until_equal(&mut self, condition: &Condition) {
        self.get(Local::Last);
        self.get(Local::Trips);
        self.put(&I::I64Sub);
        if !condition.is_wide {
            self.put(&I::I64Const(i64::from(u32::MAX)));
            self.put(&I::I64And);
        }
        self.set(Local::Trips);
        let Some(step) = upward(condition) else { return };
        if step == 1 {
            return;
        }
        self.get(Local::Trips);
        self.put(&I::I64Const(step as i64));
        self.put(&I::I64RemU);
        self.put(&I::I64Const(0));
        self.put(&I::I64Ne);
        self.put(&I::BrIf(0));
        self.get(Local::Trips);
        self.put(&I::I64Const(step as i64));
        self.put(&I::I64DivU);
        self.set(Local::Trips);
    }

    fn count_until_not_less(&mut self, condition: &Condition) {
        match upward(condition) {
            Some(step) => self.require_room(condition, step),
            None => self.require_room_for_local(condition),
        }
        if condition.order == Order::LessOrEqual {
            self.get(Local::Last);
            self.put(&I::I64Const(1));
            self.put(&I::I64Add);
            self.set(Local::Last);
        }
        self.get(Local::Last);
        self.get(Local::Trips);
        self.put(&I::I64Sub);
        self.divide_rounded_up(condition);
        self.put(&I::I64Const(0));
        self.get(Local::Trips);
        self.get(Local::Last);
        self.put(&I::I64LtU);
        self.put(&I::Select);
        self.set(Local::Trips);
    }

    /// Divides what is on the stack, which is not zero, by the step.
    fn divide_rounded_up(&mut self, condition: &Condition) {
        let step = upward(condition);
        if step == Some(1) {
            return;
        }
        self.put(&I::I64Const(1));
        self.put(&I::I64Sub);
        match step {
            Some(step) => self.put(&I::I64Const(step as i64)),
            None => self.get(Local::Step),
        }
        self.put(&I::I64DivU);
        self.put(&I::I64Const(1));
        self.put(&I::I64Add);
    }

    /// Goes to `$metered` if a step beyond the last value would wrap around.
    fn require_room(&mut self, condition: &Condition, step: u64) {
        let less = u64::from(condition.order == Order::LessOrEqual);
        if step + less == 1 {
            return;
        }
        // Wraps to 2^64 - step where values have 64 bits.
        let end = if condition.is_wide { 0 } else { 1 << 32 };
        let greatest = u64::wrapping_sub(end, step).wrapping_sub(less);
        self.get(Local::Last);
        self.put(&I::I64Const(greatest as i64));
        self.put(&I::I64GtU);
        self.put(&I::BrIf(0));
    }

    /// The same for a step that is in a local. One of zero never arrives.
    fn require_room_for_local(&mut self, condition: &Condition) {
        self.push_step(condition);
        if !condition.is_wide {
            self.put(&I::I64ExtendI32U);
        }
        self.tee(Local::Step);
        self.put(&I::I64Eqz);
        self.put(&I::BrIf(0));
        let less = i64::from(condition.order == Order::LessOrEqual);
        let end = if condition.is_wide { 0 } else { 1 << 32 };
        self.get(Local::Last);
        self.put(&I::I64Const(end - less));
        self.get(Local::Step);
        self.put(&I::I64Sub);
        self.put(&I::I64GtU);
        self.put(&I::BrIf(0));
    }

    /// The step of the local, upwards, as wide as the values.
    fn push_step(&mut self, condition: &Condition) {
        let Step::Local(local) = condition.step else { return };
        match (condition.is_down, condition.is_wide) {
            (false, _) => self.get_own(local),
            (true, true) => {
                self.put(&I::I64Const(0));
                self.get_own(local);
                self.put(&I::I64Sub);
            }
            (true, false) => {
                self.put(&I::I32Const(0));
                self.get_own(local);
                self.put(&I::I32Sub);
            }
        }
    }

    fn in_parts(&mut self, counted: &Counted<'_>) -> Encoded<()> {
        let most = (self.part() / counted.cost).max(1);
        self.open_own(&I::Loop(BlockType::Empty));
        self.charge_part(counted.cost, most);
        self.check();
        self.bound(&counted.condition);
        self.put(&I::Loop(BlockType::Empty));
        self.patched(counted)?;
        self.get(Local::Trips);
        self.put(&I::I64Const(most as i64));
        self.put(&I::I64LtU);
        self.put(&I::BrIf(DONE));
        self.get(Local::Trips);
        self.put(&I::I64Const(most as i64));
        self.put(&I::I64Sub);
        self.set(Local::Trips);
        self.put(&I::Br(0));
        self.end_own();
        Ok(())
    }

    fn charge_part(&mut self, cost: u64, most: u64) {
        self.count = Count::Local;
        self.get(Local::Ticks);
        self.get(Local::Trips);
        self.put(&I::I64Const(most as i64 - 1));
        self.get(Local::Trips);
        self.put(&I::I64Const(most as i64 - 1));
        self.put(&I::I64LtU);
        self.put(&I::Select);
        self.tee(Local::Part);
        self.put(&I::I64Const(1));
        self.put(&I::I64Add);
        self.put(&I::I64Const(cost as i64));
        self.put(&I::I64Mul);
        self.put(&I::I64Add);
        self.set(Local::Ticks);
    }

    /// Writes what the last trip of this part is compared with.
    fn bound(&mut self, condition: &Condition) {
        self.push_sum(condition.first, condition.is_wide);
        self.get(Local::Part);
        if !condition.is_wide {
            self.put(&I::I32WrapI64);
        }
        match (condition.step, condition.is_wide) {
            (Step::Local(local), _) => self.get_own(local),
            (Step::Constant(step), _) => self.constant(step, condition.is_wide),
        }
        self.put(if condition.is_wide { &I::I64Mul } else { &I::I32Mul });
        self.put(if condition.is_wide { &I::I64Add } else { &I::I32Add });
        if condition.order == Order::LessOrEqual {
            // The trip before compared with that or with less.
            self.constant(if condition.is_down { 1 } else { u64::MAX }, condition.is_wide);
            self.put(if condition.is_wide { &I::I64Add } else { &I::I32Add });
        }
        self.set(bound(condition));
    }

    /// The body, with what it compares with replaced.
    fn patched(&mut self, counted: &Counted<'_>) -> Encoded<()> {
        let condition = &counted.condition;
        let branch = counted.ops.len().saturating_sub(2);
        for (at, (op, raw)) in counted.ops.iter().enumerate() {
            match condition.patch {
                Patch::Replace(place) if place == at => self.get(bound(condition)),
                Patch::Equal(place) if place == at => {
                    self.get(bound(condition));
                    self.put(if condition.is_wide { &I::I64Eq } else { &I::I32Eq });
                }
                Patch::NotEqual if at == branch => {
                    self.get(bound(condition));
                    self.put(&I::I32Ne);
                    self.copy(op.clone(), raw)?;
                }
                _ => self.copy(op.clone(), raw)?,
            }
        }
        Ok(())
    }

    fn push_last(&mut self, condition: &Condition) {
        match condition.last {
            Last::Local(local) => self.get_own(local),
            Last::Constant(value) => self.constant(value, condition.is_wide),
        }
    }

    fn push_sum(&mut self, sum: Sum, is_wide: bool) {
        let add = if is_wide { I::I64Add } else { I::I32Add };
        self.get_own(sum.local);
        if let Some(other) = sum.other {
            self.get_own(other);
            self.put(&add);
        }
        if sum.plus != 0 {
            self.constant(sum.plus, is_wide);
            self.put(&add);
        }
    }

    /// Brings what is on the stack to unsigned and upwards, in 64 bits.
    fn raise(&mut self, condition: &Condition) {
        let top = if condition.is_wide { 1 << 63 } else { 1 << 31 };
        let signs = if condition.is_signed { top } else { 0 };
        let mask = if condition.is_down { !signs } else { signs };
        if mask != 0 {
            self.constant(mask, condition.is_wide);
            self.put(if condition.is_wide { &I::I64Xor } else { &I::I32Xor });
        }
        if !condition.is_wide {
            self.put(&I::I64ExtendI32U);
        }
    }

    fn constant(&mut self, value: u64, is_wide: bool) {
        if is_wide {
            self.put(&I::I64Const(value as i64));
        } else {
            self.put(&I::I32Const(value as i32));
        }
    }
}

fn bound(condition: &Condition) -> Local {
    if condition.is_wide { Local::WideBound } else { Local::Bound }
}

/// A step that is constant, upwards.
fn upward(condition: &Condition) -> Option<u64> {
    let Step::Constant(step) = condition.step else { return None };
    let step = if condition.is_down { step.wrapping_neg() } else { step };
    Some(if condition.is_wide { step } else { u64::from(step as u32) })
}

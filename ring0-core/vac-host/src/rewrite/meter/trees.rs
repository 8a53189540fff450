//! Which functions are small with all that they call.
//!
//! If it is known which functions a function can come to, and all together they end soon and need little of the stack,
//! then it needs neither a check nor to be counted as depth: whoever calls it again and again is checked, and at most
//! one such tree is on top of what is counted.

use super::cost;
use super::facts::Facts;

/// What a function can take with all that it calls: ticks between two checks, and units of depth.
#[derive(Debug, Clone, Copy)]
struct Reach {
    ticks: u64,
    weight: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    New,
    /// Being looked at: who comes here again found a cycle.
    Open,
    /// `None` is without bound, or not known.
    Done(Option<Reach>),
}

/// Notes in all functions of a module, of which `imported` come before them, whether they are small, and whether there
/// are tail calls.
pub(super) fn mark(facts: &mut [Facts], imported: u32) {
    let mut states = vec![State::New; facts.len()];
    for function in 0..facts.len() {
        visit(facts, imported, &mut states, function);
    }
    let has_tail_calls = facts.iter().any(|facts| facts.tail_calls);
    for (facts, state) in facts.iter_mut().zip(&states) {
        facts.is_among_tail_calls = has_tail_calls;
        if let State::Done(Some(reach)) = state {
            facts.is_brief = reach.ticks <= cost::TREE_TICKS_MAX;
            facts.is_shallow = reach.weight <= cost::TREE_WEIGHT_MAX;
        }
    }
}

/// Looks at a function and first at all that it calls. The native stack is not used for that: a module decides how
/// long its chains are.
fn visit(facts: &[Facts], imported: u32, states: &mut [State], function: usize) {
    let mut path = vec![(function, 0)];
    while let Some((function, next)) = path.last_mut() {
        let Some(known) = facts.get(*function) else { return };
        if let State::Done(_) = states[*function] {
            path.pop();
            continue;
        }
        states[*function] = State::Open;
        let callee = known.callees.get(*next).map(|callee| callee.wrapping_sub(imported) as usize);
        *next += 1;
        match callee {
            Some(callee) if matches!(states.get(callee), Some(State::New)) => path.push((callee, 0)),
            Some(_) => {}
            None => states[*function] = State::Done(sum(known, imported, states)),
        }
    }
}

/// The reach of a function whose callees were all looked at.
fn sum(facts: &Facts, imported: u32, states: &[State]) -> Option<Reach> {
    if facts.calls_unknown || facts.tail_calls {
        return None;
    }
    let (mut ticks, mut deepest) = (facts.cost, 0);
    for callee in &facts.callees {
        // An imported function has no state.
        let Some(State::Done(Some(reach))) = states.get(callee.wrapping_sub(imported) as usize) else {
            return None;
        };
        ticks = reach.ticks.saturating_add(ticks);
        deepest = reach.weight.max(deepest);
    }
    Some(Reach { ticks, weight: facts.weight.saturating_add(deepest) })
}

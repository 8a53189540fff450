//! How many values straight operators take and give.

use wasmparser::Operator;

/// What an operator takes from the stack and leaves on it; `None` if that depends on types, if control may go
/// elsewhere after it, or if its cost depends on an operand.
pub(super) fn arity(op: &Operator<'_>) -> Option<(usize, usize)> {
    macro_rules! look {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match op {
                $( Operator::$op $({ $($arg: _),* })? => look!(arity $($ann)*), )*
                _ => None,
            }
        };
        (arity arity custom) => (None);
        (arity arity $takes:literal -> $gives:literal) => (Some(($takes, $gives)));
    }
    if is_special(op) { None } else { wasmparser::for_each_operator!(look) }
}

fn is_special(op: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        op,
        O::Unreachable
            | O::ThrowRef
            | O::Rethrow { .. }
            | O::MemoryCopy { .. }
            | O::MemoryFill { .. }
            | O::MemoryInit { .. }
            | O::MemoryGrow { .. }
            | O::MemoryDiscard { .. }
            | O::TableCopy { .. }
            | O::TableFill { .. }
            | O::TableInit { .. }
            | O::TableGrow { .. }
            | O::ArrayNew { .. }
            | O::ArrayNewDefault { .. }
            | O::ArrayNewData { .. }
            | O::ArrayNewElem { .. }
            | O::ArrayFill { .. }
            | O::ArrayCopy { .. }
            | O::ArrayInitData { .. }
            | O::ArrayInitElem { .. }
    )
}

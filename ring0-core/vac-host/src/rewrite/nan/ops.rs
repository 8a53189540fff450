//! What an operator does to the bits of a NaN.
//!
//! The table names what is harmless. An operator that is not in it is taken to look at the bits of all
//! that it takes, and to give bits that must stay as they are, so one that is added to WebAssembly is
//! handled correctly before anybody here has heard of it.

use wasmparser::Operator;

use super::graph::Type;

/// The width of the float that a value is, or that its lanes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    F32,
    F64,
}

/// The bits of NaNs in a value, compared with what the profile wants them to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It has no NaN, whatever the width of its lanes: an `f64` lane that is a NaN has an `f32` lane
    /// that is one, so only the narrow lanes count.
    Number,
    /// Right, once each NaN of this width is replaced by the canonical one, or by that one negated.
    Canon { width: Width, is_negative: bool },
    /// Right only if nothing needs to be replaced.
    Any,
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Gives NaNs of bits that the machine chooses, from operands of a width.
    Arithmetic { operand: Width, result: Width },
    /// Tells one NaN from another by no bit, and gives no float: compares, and conversions to integers.
    Blind(Width),
    /// Takes what is no float, and gives a float.
    Makes(Class),
    /// Changes or copies lanes of a width.
    Lanes(Lanes, Width),
    /// Gives one of two values.
    Select,
    /// Gives whole lanes of two values, narrow or wide ones.
    Shuffle(Width),
    /// Looks at nothing.
    Drop,
    /// Whatever it likes.
    Opaque,
}

/// Changes to lanes, or to a scalar, that keep a NaN a NaN and a number a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    Neg,
    Abs,
    /// Each lane is that of one operand or the other, by a comparison: `pmin` and `pmax`.
    Pick,
    Splat,
    Extract,
    Replace,
    Shuffle,
}

impl Width {
    pub(super) fn other(self) -> Self {
        match self {
            Self::F32 => Self::F64,
            Self::F64 => Self::F32,
        }
    }
}

impl Class {
    /// What arithmetic gives.
    pub(super) fn canon(width: Width) -> Self {
        Self::Canon { width, is_negative: false }
    }

    fn of_f32(bits: u32) -> Self {
        match bits {
            CANON_F32 => Self::canon(Width::F32),
            _ if bits << 1 > INFINITY_F32 << 1 => Self::Any,
            _ => Self::Number,
        }
    }

    fn of_f64(bits: u64) -> Self {
        match bits {
            CANON_F64 => Self::canon(Width::F64),
            _ if bits << 1 > INFINITY_F64 << 1 => Self::Any,
            _ => Self::Number,
        }
    }

    fn of_v128(bits: u128) -> Self {
        let lanes = [bits, bits >> 32, bits >> 64, bits >> 96];
        let is_number = |lane: u128| Self::of_f32(lane as u32) == Self::Number;
        if lanes.into_iter().all(is_number) { Self::Number } else { Self::Any }
    }
}

/// The NaN that the profile allows arithmetic to give.
pub(super) const CANON_F32: u32 = 0x7fc0_0000;
/// The same, of 64 bits.
pub(super) const CANON_F64: u64 = 0x7ff8_0000_0000_0000;
const INFINITY_F32: u32 = 0x7f80_0000;
const INFINITY_F64: u64 = 0x7ff0_0000_0000_0000;

/// What `operator` does.
pub(super) fn effect(operator: &Operator<'_>) -> Effect {
    if let Some(width) = arithmetic(operator) {
        return Effect::Arithmetic { operand: width, result: width };
    }
    if let Some(width) = blind(operator) {
        return Effect::Blind(width);
    }
    if let Some((lanes, width)) = lanes(operator) {
        return Effect::Lanes(lanes, width);
    }
    if let Some(class) = makes(operator) {
        return Effect::Makes(class);
    }
    use Operator as O;
    match operator {
        O::F32DemoteF64 | O::F32x4DemoteF64x2Zero => {
            Effect::Arithmetic { operand: Width::F64, result: Width::F32 }
        }
        O::F64PromoteF32 | O::F64x2PromoteLowF32x4 => {
            Effect::Arithmetic { operand: Width::F32, result: Width::F64 }
        }
        O::Select | O::TypedSelect { .. } => Effect::Select,
        O::I8x16Shuffle { lanes } => shuffle(lanes).map_or(Effect::Opaque, Effect::Shuffle),
        O::Drop => Effect::Drop,
        _ => Effect::Opaque,
    }
}

/// The width of what gives NaNs of any bits, from operands of the same width.
///
/// The same operators as in the compiler's own pass, which sees `relaxed_min` and `relaxed_max` as `min` and
/// `max`, and both of the fused ones as one. `pmin` and `pmax` are not among them: they are comparisons.
fn arithmetic(operator: &Operator<'_>) -> Option<Width> {
    use Operator as O;
    match operator {
        O::F32Add | O::F32Sub | O::F32Mul | O::F32Div | O::F32Min | O::F32Max => Some(Width::F32),
        O::F32Ceil | O::F32Floor | O::F32Trunc | O::F32Nearest | O::F32Sqrt => Some(Width::F32),
        O::F64Add | O::F64Sub | O::F64Mul | O::F64Div | O::F64Min | O::F64Max => Some(Width::F64),
        O::F64Ceil | O::F64Floor | O::F64Trunc | O::F64Nearest | O::F64Sqrt => Some(Width::F64),
        O::F32x4Add | O::F32x4Sub | O::F32x4Mul | O::F32x4Div | O::F32x4Min | O::F32x4Max => Some(Width::F32),
        O::F32x4Ceil | O::F32x4Floor | O::F32x4Trunc | O::F32x4Nearest | O::F32x4Sqrt => Some(Width::F32),
        O::F64x2Add | O::F64x2Sub | O::F64x2Mul | O::F64x2Div | O::F64x2Min | O::F64x2Max => Some(Width::F64),
        O::F64x2Ceil | O::F64x2Floor | O::F64x2Trunc | O::F64x2Nearest | O::F64x2Sqrt => Some(Width::F64),
        O::F32x4RelaxedMadd | O::F32x4RelaxedNmadd | O::F32x4RelaxedMin | O::F32x4RelaxedMax => {
            Some(Width::F32)
        }
        O::F64x2RelaxedMadd | O::F64x2RelaxedNmadd | O::F64x2RelaxedMin | O::F64x2RelaxedMax => {
            Some(Width::F64)
        }
        _ => None,
    }
}

fn blind(operator: &Operator<'_>) -> Option<Width> {
    use Operator as O;
    match operator {
        O::F32Eq | O::F32Ne | O::F32Lt | O::F32Gt | O::F32Le | O::F32Ge => Some(Width::F32),
        O::F64Eq | O::F64Ne | O::F64Lt | O::F64Gt | O::F64Le | O::F64Ge => Some(Width::F64),
        O::F32x4Eq | O::F32x4Ne | O::F32x4Lt | O::F32x4Gt | O::F32x4Le | O::F32x4Ge => Some(Width::F32),
        O::F64x2Eq | O::F64x2Ne | O::F64x2Lt | O::F64x2Gt | O::F64x2Le | O::F64x2Ge => Some(Width::F64),
        O::I32TruncF32S | O::I32TruncF32U | O::I64TruncF32S | O::I64TruncF32U => Some(Width::F32),
        O::I32TruncF64S | O::I32TruncF64U | O::I64TruncF64S | O::I64TruncF64U => Some(Width::F64),
        O::I32TruncSatF32S | O::I32TruncSatF32U | O::I64TruncSatF32S | O::I64TruncSatF32U => Some(Width::F32),
        O::I32TruncSatF64S | O::I32TruncSatF64U | O::I64TruncSatF64S | O::I64TruncSatF64U => Some(Width::F64),
        O::I32x4TruncSatF32x4S | O::I32x4TruncSatF32x4U => Some(Width::F32),
        O::I32x4TruncSatF64x2SZero | O::I32x4TruncSatF64x2UZero => Some(Width::F64),
        O::I32x4RelaxedTruncF32x4S | O::I32x4RelaxedTruncF32x4U => Some(Width::F32),
        O::I32x4RelaxedTruncF64x2SZero | O::I32x4RelaxedTruncF64x2UZero => Some(Width::F64),
        _ => None,
    }
}

fn lanes(operator: &Operator<'_>) -> Option<(Lanes, Width)> {
    use Operator as O;
    Some(match operator {
        O::F32Neg | O::F32x4Neg => (Lanes::Neg, Width::F32),
        O::F64Neg | O::F64x2Neg => (Lanes::Neg, Width::F64),
        O::F32Abs | O::F32x4Abs => (Lanes::Abs, Width::F32),
        O::F64Abs | O::F64x2Abs => (Lanes::Abs, Width::F64),
        O::F32x4PMin | O::F32x4PMax => (Lanes::Pick, Width::F32),
        O::F64x2PMin | O::F64x2PMax => (Lanes::Pick, Width::F64),
        O::F32x4Splat => (Lanes::Splat, Width::F32),
        O::F64x2Splat => (Lanes::Splat, Width::F64),
        O::F32x4ExtractLane { .. } => (Lanes::Extract, Width::F32),
        O::F64x2ExtractLane { .. } => (Lanes::Extract, Width::F64),
        O::F32x4ReplaceLane { .. } => (Lanes::Replace, Width::F32),
        O::F64x2ReplaceLane { .. } => (Lanes::Replace, Width::F64),
        _ => return None,
    })
}

/// The widest lanes that a shuffle of bytes leaves whole.
fn shuffle(from: &[u8; 16]) -> Option<Width> {
    let is_whole = |lane: &[u8]| {
        let first = usize::from(lane[0]);
        first % lane.len() == 0 && lane.iter().zip(first..).all(|(&byte, at)| usize::from(byte) == at)
    };
    let leaves_whole = |bytes| from.chunks_exact(bytes).all(is_whole);
    match (leaves_whole(8), leaves_whole(4)) {
        (true, _) => Some(Width::F64),
        (false, true) => Some(Width::F32),
        (false, false) => None,
    }
}

fn makes(operator: &Operator<'_>) -> Option<Class> {
    use Operator as O;
    match operator {
        O::F32Const { value } => Some(Class::of_f32(value.bits())),
        O::F64Const { value } => Some(Class::of_f64(value.bits())),
        O::V128Const { value } => Some(Class::of_v128(u128::from(*value))),
        O::F32ConvertI32S | O::F32ConvertI32U | O::F32ConvertI64S | O::F32ConvertI64U => Some(Class::Number),
        O::F64ConvertI32S | O::F64ConvertI32U | O::F64ConvertI64S | O::F64ConvertI64U => Some(Class::Number),
        O::F32x4ConvertI32x4S | O::F32x4ConvertI32x4U => Some(Class::Number),
        // Half of a number of 64 bits may look like a NaN of 32.
        O::F64x2ConvertLowI32x4S | O::F64x2ConvertLowI32x4U => Some(Class::canon(Width::F64)),
        _ => None,
    }
}

/// The type of what an operator of arithmetic gives.
pub(super) fn result_type(operator: &Operator<'_>, width: Width) -> Type {
    use Operator as O;
    let is_scalar = matches!(
        operator,
        O::F32Add
            | O::F32Sub
            | O::F32Mul
            | O::F32Div
            | O::F32Min
            | O::F32Max
            | O::F32Ceil
            | O::F32Floor
            | O::F32Trunc
            | O::F32Nearest
            | O::F32Sqrt
            | O::F64Add
            | O::F64Sub
            | O::F64Mul
            | O::F64Div
            | O::F64Min
            | O::F64Max
            | O::F64Ceil
            | O::F64Floor
            | O::F64Trunc
            | O::F64Nearest
            | O::F64Sqrt
            | O::F32DemoteF64
            | O::F64PromoteF32
    );
    match (is_scalar, width) {
        (false, _) => Type::V128,
        (true, Width::F32) => Type::F32,
        (true, Width::F64) => Type::F64,
    }
}
